//! The CUDA driver, loaded at run time.

use crate::device::Device;
use tahoma_core::Diagnostic;

/// Opens the first GPU. E0604 where there is no driver or no device.
pub fn open() -> Result<Box<dyn Device>, Diagnostic> {
    Err(Diagnostic::error("E0604", "device cuda is not available: libcuda.so.1 is not loaded by this version")
        .note("--device ptx-emu runs the same kernels on any machine"))
}
