//! What Tahoma's programs mean: number types, tensors, scalar expressions, the op table with shape inference and reference
//! evaluation, graphs, kernels, diagnostics and the artifact's manifest.
//!
//! No MLIR, no targets, no `unsafe`. Of files it knows two things: how all crates open one for reading ([`file`]), and where the system
//! says how much memory there is ([`memory`]). It builds in seconds and everything else answers to it.

pub mod artifact;
pub mod attr;
pub mod bytes;
pub mod codes;
#[cfg(test)]
mod compare;
mod convert;
pub mod diag;
pub mod escape;
pub mod eval;
pub mod file;
pub mod float;
pub mod form;
pub mod graph;
pub mod kernel;
pub mod kernel_check;
pub mod kernel_eval;
mod kernels;
pub mod launches;
#[cfg(test)]
mod literal;
pub mod memory;
pub mod near;
pub mod numeric;
pub mod op;
pub mod ops;
pub mod random;
#[cfg(test)]
mod round_trip;
pub mod scalar;
pub mod tensor;
pub mod text;
pub mod threads;
pub mod types;
pub mod verify;

pub use attr::{Attr, Attrs};
pub use diag::{Diagnostic, Diagnostics, Origin, Severity};
pub use float::Float;
pub use graph::{Builder, Graph, Node, Port, Program, ValueId};
pub use op::{Kind, OpDef, OpError};
pub use tensor::{Buffer, Tensor};
pub use text::{Text, Vocabulary};
pub use types::{DType, Dim, Shape, TensorType};
