//! What a target charges for kernels and host ops. Extraction minimises the sum.

use tahoma_core::TensorType;
use tahoma_core::kernel::KernelSpec;
use tahoma_core::op::OpDef;
use tahoma_machine::roofline::Roofline;

/// What a kernel takes by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Price {
    Ns(f64),
    /// More than anybody wanted to know.
    Over,
    /// The target cannot run it.
    Never,
}

/// Times of one target, in nanoseconds.
pub trait TargetCost {
    /// A kernel by itself, or `None` where the target cannot run it.
    fn kernel_ns(&self, spec: &KernelSpec) -> Option<f64>;
    /// [`TargetCost::kernel_ns`] as far as it is wanted: a clock may stop where a kernel takes more than `most_ns`.
    fn kernel_within(&self, spec: &KernelSpec, _most_ns: f64) -> Price {
        self.kernel_ns(spec).map_or(Price::Never, Price::Ns)
    }
    /// What one kernel more costs beside its own time, between others of a launch.
    fn boundary_ns(&self) -> f64;
    /// What a program pays for a kernel: its time, and the boundary.
    fn launched_ns(&self, spec: &KernelSpec) -> Option<f64> {
        Some(self.kernel_ns(spec)? + self.boundary_ns())
    }
    /// One op on the host, with its transfers. `types`: operands, then results.
    fn host_ns(&self, op: &OpDef, operands: &[TensorType], results: &[TensorType]) -> f64;
}

/// A machine's roofline by itself: for tests, and for targets without a clock.
impl TargetCost for Roofline {
    fn kernel_ns(&self, spec: &KernelSpec) -> Option<f64> {
        Roofline::kernel_ns(self, spec)
    }
    fn boundary_ns(&self) -> f64 {
        self.launches.boundary_ns
    }
    fn host_ns(&self, op: &OpDef, operands: &[TensorType], results: &[TensorType]) -> f64 {
        Roofline::host_ns(self, op, operands, results)
    }
}
