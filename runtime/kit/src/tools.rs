//! What others' tools say, where they are: `compute-sanitizer` on the kernels, `torch` timed on the same programs.

use crate::format::{Case, Kind};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::process::Command;

/// What a tool said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    pub tool: String,
    /// `pass`, `fail` or `skipped`.
    pub status: String,
    /// Of a failure or a skip: why.
    pub detail: String,
}

impl Check {
    fn new(tool: &str, status: &str, detail: impl Into<String>) -> Check {
        Check { tool: tool.into(), status: status.into(), detail: detail.into() }
    }
    /// Not tried, and why.
    pub fn skipped(tool: &str, why: impl Into<String>) -> Check {
        Check::new(tool, "skipped", why)
    }
    pub fn failed(&self) -> bool {
        self.status == "fail"
    }
}

/// What torch took for a case: microseconds, least and median, by events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TorchRow {
    pub name: String,
    #[serde(with = "tahoma_core::float")]
    pub eager_us: Option<[f64; 2]>,
    #[serde(with = "tahoma_core::float")]
    pub compiled_us: Option<[f64; 2]>,
    /// Largest distance of torch's result from the expected one.
    #[serde(with = "tahoma_core::float")]
    pub max_abs: Option<f64>,
    /// What went wrong, if something did.
    pub note: String,
}

/// The last lines of a text.
fn tail(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    lines[lines.len().saturating_sub(4)..].join(" / ")
}

/// Runs `compute-sanitizer` with one of its tools over the cases that hold every form of kernel.
pub fn sanitizer(tool: &str, program: &Path, args: &[String], cases: &[Case], seconds: u64) -> Check {
    let name = format!("compute-sanitizer --tool {tool}");
    if Command::new("compute-sanitizer").arg("--version").output().is_err() {
        return Check::skipped(&name, "compute-sanitizer is not in PATH (it comes with the CUDA toolkit)");
    }
    let forms: Vec<&str> = cases.iter().filter(|c| c.kind == Kind::Form).map(|c| c.name.as_str()).collect();
    if forms.is_empty() {
        return Check::skipped(&name, "the kit has no case of kind form");
    }
    // `timeout` is of coreutils: the tool slows kernels down by a factor that nobody knows before.
    let mut c = Command::new("timeout");
    c.arg(seconds.to_string()).args(["compute-sanitizer", "--tool", tool, "--error-exitcode", "9"]);
    match c.arg(program).args(args).args(["--runs", "0"]).args(&forms).output() {
        Err(e) => Check::skipped(&name, format!("cannot start: {e}")),
        Ok(o) if o.status.success() => Check::new(&name, "pass", format!("{} cases", forms.len())),
        Ok(o) if o.status.code() == Some(124) => Check::skipped(&name, format!("not done in {seconds} s; --seconds gives more")),
        Ok(o) => Check::new(&name, "fail", tail(&[o.stdout, o.stderr].concat())),
    }
}

/// Times torch on the cases that have a form in `torch_times.py`. `inputs` is a folder with a folder of `.npy` files for each.
pub fn torch(python: &str, kit: &Path, inputs: &Path) -> (Check, Vec<TorchRow>) {
    let found = Command::new(python).args(["-c", "import torch; assert torch.cuda.is_available(), 'torch sees no GPU'"]).output();
    match found {
        Err(e) => return (Check::skipped("torch", format!("cannot start {python}: {e}")), vec![]),
        Ok(o) if !o.status.success() => return (Check::skipped("torch", format!("{python}: {}", tail(&o.stderr))), vec![]),
        Ok(_) => {}
    }
    match Command::new(python).arg(kit.join("torch_times.py")).arg(kit).arg(inputs).output() {
        Err(e) => (Check::skipped("torch", format!("cannot start {python}: {e}")), vec![]),
        Ok(o) => {
            let rows: Vec<TorchRow> = String::from_utf8_lossy(&o.stdout).lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
            let notes: Vec<String> = rows.iter().filter(|r| !r.note.is_empty()).map(|r| format!("{}: {}", r.name, r.note)).collect();
            if o.status.success() && notes.is_empty() {
                (Check::new("torch", "pass", format!("{} cases", rows.len())), rows)
            } else {
                let why = if notes.is_empty() { tail(&o.stderr) } else { notes.join("; ") };
                (Check::new("torch", "fail", why), rows)
            }
        }
    }
}
