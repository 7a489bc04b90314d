//! MLIR behind plain data: the only crate that names its bindings.
//!
//! A [`Session`] owns a context with our dialects, printed as IRDL from the op table and the instruction table. A [`Module`] is MLIR
//! text that this context has parsed and verified; [`Module::from_program`] and [`Module::to_program`] are the bridge to
//! [`tahoma_core::Program`], loss-free both ways. [`Session::emit_ptx`] runs upstream GPU dialects down to PTX. [`Pipeline`] runs
//! steps over programs and prints, verifies and times each boundary.

mod bridge;
mod irdl;
mod ptx;
mod reader;
#[cfg(test)]
mod refused;
mod session;
mod step;
mod writer;

pub use bridge::Module;
pub use irdl::irdl_text;
pub use ptx::{CHIPS, Chip, Effort};
pub use session::Session;
pub use step::{Check, Pipeline, Step, StepReport};
pub use tahoma_core::verify::verify_program;
