//! Runs compiled models: artifacts checked and mapped, the plan walked, kernels launched on a device, everything else on the host from
//! the op table. No MLIR and no compiler: what a deployed program links is this crate and the tables.
//!
//! ```no_run
//! # fn main() -> Result<(), tahoma_core::Diagnostic> {
//! use tahoma_runtime::{Artifact, Runner, device, npy};
//! let artifact = Artifact::load("out".as_ref(), None)?;
//! let mut runner = Runner::new(artifact, device::open("trn2-sim")?)?;
//! let (outputs, report) = runner.run(&[("x".into(), npy::read("x.npy".as_ref(), None)?)])?;
//! println!("{} launches, {:.0} ns predicted", report.launches, report.device_ns);
//! npy::write("y.npy".as_ref(), &outputs[0].1)?;
//! # Ok(()) }
//! ```
//!
//! [`Artifact::from_bytes`] takes the files from memory instead, so that a program can carry its model in itself (`include_bytes!`).

pub mod arena;
pub mod artifact;
mod check;
pub mod cuda;
pub mod device;
pub mod emu;
mod memory;
pub mod npy;
pub mod reference;
pub mod runner;
pub mod trn2;

pub use artifact::{Artifact, WeightBytes, sha256};
pub use device::{DEVICES, Device};
pub use runner::{KernelReport, RunReport, Runner};
