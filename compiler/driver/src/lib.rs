//! Tahoma as a library: what build pipelines embed.
//!
//! ```no_run
//! use tahoma::{Compiler, Stage};
//!
//! # fn main() -> Result<(), tahoma::Diagnostics> {
//! let compiled = Compiler::new("model.onnx").target("sm_90a").shape("x=1x3x48x320").compile()?;
//! compiled.write("out".as_ref(), false)?;
//! let x = tahoma::npy::read("x.npy".as_ref(), None)?;
//! let (outputs, report) = compiled.run(&[("x".into(), x)], "ptx-emu")?;
//! println!("{} launches, first output {}", report.launches, outputs[0].1.ty());
//!
//! // Any stage can be the last one.
//! let tahoma::Outcome::Program { program, .. } = Compiler::new("model.onnx").stop_after(Stage::Import).advance()? else { return Ok(()) };
//! println!("{}", tahoma::print_program(&program)?);
//! # Ok(()) }
//! ```
//!
//! Every problem is a [`Diagnostic`] with a code; nothing here panics on bad input, and nothing is written but by
//! [`Compiled::write`] and [`Compiler::dump`].
//!
//! # Building against it
//!
//! This crate links MLIR 22 statically; the binary becomes about 240 MB. The build needs to be told where MLIR is, by three variables in
//! the embedding project's own `.cargo/config.toml` (Debian's `libmlir-22-dev`, `llvm-22-dev`, `mlir-22-tools`, `libclang-22-dev`,
//! `clang-22` and `libpolly-22-dev` install it there; `cargo xtask setup` in Tahoma's repository does so):
//!
//! ```toml
//! [env]
//! MLIR_SYS_220_PREFIX = "/usr/lib/llvm-22"
//! TABLEGEN_220_PREFIX = "/usr/lib/llvm-22"
//! LIBCLANG_PATH = "/usr/lib/llvm-22/lib"
//! ```
//!
//! A program that only runs artifacts needs `tahoma-runtime` alone: no MLIR, no variables, a few megabytes.

pub mod compare;
mod compiled;
mod compiler;
pub mod conformance;
pub mod explain;
pub mod flops;
pub mod info;
pub mod interp;
pub mod model;
mod pack;
pub mod plan;
pub mod random;
mod specialise;
mod stage;
pub mod steps;
mod target;
pub mod verify;
pub mod verify_artifact;

pub use compiled::{Compiled, check_replaceable, check_writable};
pub use compiler::{Compiler, OnKernel, OnStage, Outcome, print_program};
pub use specialise::{Known, specialise};
pub use stage::{Stage, StageTime, peak_rss_bytes};
pub use tahoma_core::artifact::{Manifest, Numerics};
pub use tahoma_core::{Diagnostic, Diagnostics, Tensor};
pub use tahoma_runtime::{Artifact, RunReport, Runner, device, npy};
pub use target::{Lowered, Target};
