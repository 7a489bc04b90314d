//! Kernels for each target: a [`tahoma_core::kernel::KernelSpec`] is scheduled and printed for Trainium2 (NKI) or Nvidia (PTX).
//!
//! Targets know neither ONNX nor checkpoints; what they cannot do they refuse with a reason, and the plan runs it on the host.

#[cfg(test)]
mod fused;
pub mod ptx;
pub mod target;
pub mod trn2;
