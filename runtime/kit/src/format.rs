//! What a kit's folder holds: the types of `kit.json`, and of the results.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use tahoma_core::{DType, Diagnostic};
use tahoma_runtime::sha256;

/// Version of this schema.
pub const SCHEMA: u32 = 1;
/// The file's name.
pub const FILE: &str = "kit.json";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kit {
    pub schema: u32,
    /// `tahoma 0.1.0`
    pub producer: String,
    /// Targets that every case was compiled for.
    pub targets: Vec<String>,
    pub cases: Vec<Case>,
    /// What was wanted and is not here, and why.
    pub left_out: Vec<String>,
    /// SHA-256 of every other file that `Kit::load` vouches for, by its path in the kit.
    pub files: BTreeMap<String, String>,
}

/// Why a case is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A case of the ONNX suite: one operator or a few.
    Op,
    /// A network of the benchmarks at reduced size: every form of kernel that fusion makes.
    Form,
    /// A program at real size that `torch` is timed with too.
    Bench,
    /// A real model.
    Model,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    pub name: String,
    pub kind: Kind,
    pub inputs: Vec<Input>,
    pub outputs: Vec<Expected>,
    /// Folder of the weights, where the artifacts hold none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// Folder of the artifact for each target.
    pub artifacts: BTreeMap<String, String>,
    /// Whether the kit has cubins of its kernels.
    #[serde(default)]
    pub cubins: bool,
}

/// An input: a file, or numbers drawn from a seed, so that large ones take no room.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Input {
    pub name: String,
    #[serde(flatten)]
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Value {
    /// A `.npy` file in the kit; the type says what raw elements are.
    File { path: String, dtype: DType },
    /// Uniform in (-scale, scale): see [`crate::worker::drawn`].
    Drawn {
        dtype: DType,
        shape: Vec<usize>,
        seed: u64,
        #[serde(with = "tahoma_core::float")]
        scale: f64,
    },
}

/// An output: |got − want| <= atol + rtol·|want| for every element.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    pub name: String,
    pub path: String,
    pub dtype: DType,
    #[serde(with = "tahoma_core::float")]
    pub atol: f64,
    #[serde(with = "tahoma_core::float")]
    pub rtol: f64,
}

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Pass,
    /// It ran and gave another answer.
    Differs,
    /// It did not run to its end.
    Error,
    /// Not tried: the time was over.
    Late,
}

/// What a case gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub name: String,
    pub kind: Kind,
    /// What the driver was given: `ptx` (which it compiles) or `cubin`.
    pub images: String,
    pub status: Status,
    /// Of a difference or an error: what, with the diagnostic's code and notes.
    pub detail: String,
    pub launches: u64,
    /// Largest |got − want| over all outputs, as a share of what is allowed; above 1 is a difference.
    #[serde(with = "tahoma_core::float")]
    pub of_allowed: f64,
    #[serde(with = "tahoma_core::float")]
    pub max_abs: f64,
    /// Loading kernels and weights, milliseconds.
    #[serde(with = "tahoma_core::float")]
    pub load_ms: f64,
    /// Runs that were timed, after the one that was compared.
    pub runs: usize,
    /// Microseconds of one run, the least and the median: by the card's clock from the first launch to the last, and by the host's
    /// clock, copies included.
    #[serde(with = "tahoma_core::float")]
    pub device_us: [f64; 2],
    #[serde(with = "tahoma_core::float")]
    pub wall_us: [f64; 2],
    /// Microseconds of each kernel in the fastest run.
    #[serde(with = "tahoma_core::float")]
    pub kernels: Vec<(String, f64)>,
}

impl Outcome {
    /// One that did not run.
    pub fn failed(case: &Case, images: &str, status: Status, detail: impl Into<String>) -> Outcome {
        Outcome {
            name: case.name.clone(),
            kind: case.kind,
            images: images.into(),
            status,
            detail: detail.into(),
            launches: 0,
            of_allowed: 0.0,
            max_abs: 0.0,
            load_ms: 0.0,
            runs: 0,
            device_us: [0.0; 2],
            wall_us: [0.0; 2],
            kernels: vec![],
        }
    }
}

impl Kit {
    /// Reads `kit.json` and checks that the files it vouches for are whole. E0101, E0605.
    pub fn load(dir: &Path) -> Result<Kit, Diagnostic> {
        let kit = Kit::read(dir)?;
        let bad = |m: String| Diagnostic::error("E0605", m).note("copy the kit again, or make it again: cargo xtask gpu-kit");
        for (name, want) in &kit.files {
            let path = dir.join(name);
            let bytes = std::fs::read(&path).map_err(|e| bad(format!("{}: {e}", path.display())).caused_by(e))?;
            if sha256(&bytes) != *want {
                return Err(bad(format!("{} is not the file that the kit was made with", path.display())));
            }
        }
        Ok(kit)
    }

    /// Reads `kit.json` alone. E0101, E0605.
    pub fn read(dir: &Path) -> Result<Kit, Diagnostic> {
        let path = dir.join(FILE);
        let text =
            std::fs::read(&path).map_err(|e| Diagnostic::error("E0101", format!("cannot read {}: {e}", path.display())).caused_by(e))?;
        let kit: Kit =
            serde_json::from_slice(&text).map_err(|e| Diagnostic::error("E0605", format!("{}: {e}", path.display())).caused_by(e))?;
        if kit.schema != SCHEMA {
            return Err(Diagnostic::error("E0605", format!("{} has schema {}, this program reads {SCHEMA}", path.display(), kit.schema)));
        }
        Ok(kit)
    }

    /// The case of that name. E0701.
    pub fn case(&self, name: &str) -> Result<&Case, Diagnostic> {
        self.cases.iter().find(|c| c.name == name).ok_or_else(|| Diagnostic::error("E0701", format!("the kit has no case {name:?}")))
    }
}
