//! Model files to programs: ONNX (protobuf) and Hugging Face directories (config.json and safetensors).
//!
//! ```text
//! file ─read──> bytes ──decode──> proto ──import──> Program (graph of ml ops, origins) + Store (weights, those of checkpoints still in their files)
//! ```
//!
//! Files are data from strangers: nothing here runs code of theirs, follows links out of their folder, trusts a length or a count, or
//! panics on them. Every problem that one run can find is reported in that run.

pub mod dims;
mod external;
mod file;
pub mod hf;
pub mod json;
pub mod onnx;
pub mod proto;
pub mod safetensors;
pub mod store;
pub mod suite;
mod tensor_proto;

pub use dims::{parse_dims, parse_shape};
pub use hf::{HfOptions, import_hf};
pub use onnx::{ImportOptions, import_onnx, import_onnx_bytes, supported_ops};
pub use store::{Location, Store, StoreEntry};

use tahoma_core::{Diagnostic, Program, Vocabulary};

/// An imported model.
#[derive(Debug)]
pub struct Imported {
    pub program: Program,
    /// The tensors that `ml.weight` ops name.
    pub store: Store,
    /// File or folder name, without its path.
    pub model_name: String,
    /// Strings, of models with text.
    pub vocabulary: Vocabulary,
    pub warnings: Vec<Diagnostic>,
}

/// What a reader accepts before it gives up with E0107: a file of a few bytes must not cost gigabytes or minutes.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Bytes of a protobuf file (protobuf itself ends at 2 GiB).
    pub file_bytes: u64,
    /// Nodes of a model, after functions are inlined and loops unrolled.
    pub nodes: usize,
    /// Depth of subgraphs and functions within each other.
    pub nesting: usize,
    /// Elements of one tensor.
    pub elements: u64,
    /// Trips of a loop that is unrolled, and steps of a recurrent layer.
    pub trips: usize,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { file_bytes: 2 << 30, nodes: 1_000_000, nesting: 32, elements: 1 << 34, trips: 4096 }
    }
}

/// The item of `all` closest to `name` by edit distance, if it is close enough to be meant.
pub(crate) fn closest<'a>(name: &str, all: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    all.map(|c| (similarity(&lower, &c.to_lowercase()), c))
        .filter(|(d, _)| *d <= 2.max(name.chars().count() / 2))
        .min_by_key(|(d, c)| (*d, c.len(), c.to_string()))
        .map(|(_, c)| c)
}

/// Edit distance; a name that contains the other counts as one edit, so that `FancyAttention` finds `Attention`.
fn similarity(a: &str, b: &str) -> usize {
    if a != b && b.len() >= 4 && a.contains(b) {
        return 1;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cost = (corner + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
            corner = row[j + 1];
            row[j + 1] = cost;
        }
    }
    row[b.len()]
}
