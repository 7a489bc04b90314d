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
pub use onnx::{ImportOptions, OperatorUse, Outline, OutlinePort, import_onnx, import_onnx_bytes, outline, supported_ops};
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

pub(crate) use tahoma_core::near::closest;
