//! The stages of a compilation: one list for the command line, the dumps, the times and the reports.

use std::fmt;
use std::time::Duration;
use tahoma_core::{Diagnostic, near};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// The model's file or folder is found and what it is.
    Read,
    /// A program of `ml` ops with origins, weights left where they are.
    Import,
    /// Shape operands and symbols that the caller fixed become numbers; shape arithmetic folds.
    Specialise,
    /// Cheaper `ml`, grouped into kernels.
    Eqsat,
    /// A target module per kernel, and the plan that launches them.
    Lower,
    /// The artifact: manifest, kernel text, weights by reference.
    Emit,
}

impl Stage {
    pub const ALL: &'static [Stage] = &[Stage::Read, Stage::Import, Stage::Specialise, Stage::Eqsat, Stage::Lower, Stage::Emit];

    /// As typed and printed: `eqsat`.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Read => "read",
            Stage::Import => "import",
            Stage::Specialise => "specialise",
            Stage::Eqsat => "eqsat",
            Stage::Lower => "lower",
            Stage::Emit => "emit",
        }
    }
    /// File name of the stage's dump without its ending: `03-eqsat`.
    pub fn file(self) -> String {
        format!("{:02}-{}", self as usize, self.name())
    }
    /// The stage of that name. E0701.
    pub fn parse(name: &str) -> Result<Stage, Diagnostic> {
        Stage::ALL.iter().copied().find(|s| s.name() == name).ok_or_else(|| {
            let mut d = Diagnostic::error("E0701", format!("no stage {name:?}"));
            d.notes = near::notes(name, "stages", Stage::ALL.iter().map(|s| s.name()));
            d
        })
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a stage took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageTime {
    pub stage: Stage,
    pub wall: Duration,
    /// Most memory the process had held when the stage ended; 0 where the system does not say.
    pub peak_rss_bytes: u64,
}

/// Peak resident memory of this process so far, in bytes; 0 where the system does not say.
pub fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()).map_or(0, |kb| kb * 1024)
}
