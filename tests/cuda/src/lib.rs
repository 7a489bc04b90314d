//! A `libcuda` for machines without a GPU: every call is checked as the CUDA driver API documents it, written to a log, and
//! kernels run on the PTX emulator. It finds wrong use of the driver; it says nothing about speed.
//!
//! ```text
//! cuLaunchKernel, cuEventRecord ──▶ queue of the default stream ──at a call that waits──▶ emulator, event times
//! ```
//!
//! * Nothing that was launched has run until a call waits for it (a copy, cuStreamSynchronize, cuEventSynchronize): whoever reads
//!   an event's time or a result too early is found.
//! * A fault of a kernel is sticky, as on a GPU: every later call fails with the same code.
//! * Handles used after their end, memory freed twice, addresses that were never allocated, calls without a context and
//!   what is left over are *violations*, told by [`Log`].
//! * A "nanosecond" of an event is an instruction of the emulator.
//!
//! It is a shared library (`libtahoma_fake_cuda.so`, beside the test's own executable), loaded in libcuda's place. A process that
//! cannot call [`Fake`] steers it with the environment: `FAKE_CUDA` holds the words of [`Fake::start`], and at exit of the last
//! context the log is written to the file that `FAKE_CUDA_LOG` names.

mod config;
mod control;
mod ffi;
mod gpu;
pub mod plan;

pub use config::Config;
pub use control::{Call, Fake, Log};
