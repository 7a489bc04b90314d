//! NeuronCore-v3 on the host: runs a kernel's [`Program`] and says what it computes, whether the hardware would accept it, and how
//! long it would take.
//!
//! Function: fp32 arithmetic with round-to-nearest-even stores, one instruction after the other in program order. Uninitialised memory
//! is poison, and reading it is a fault. Matmuls accumulate in fp32 in an order of our own, so results match hardware within a
//! tolerance only; activation functions are exact where hardware uses polynomials.
//!
//! Legality (limits of the instruction table and of addresses, capacity of SBUF and PSUM) and time are the machine's to say
//! (`tahoma_machine::trn2`): the simulator follows its walk over the program, and shows its time.
//!
//! Memory model. A tile takes its bytes per partition on all 128 partitions of SBUF (several small tiles do not share a partition
//! range), or whole banks of PSUM. It lives from its `nl.ndarray` to the last statement of the same block that names it; a tile made in
//! a loop is new in every iteration. Freed memory is handed out longest-free first, so double buffering happens exactly as far as
//! capacity allows. Fragmentation is not modelled: bytes are taken from anywhere.

mod engines;
mod lanes;
mod mem;
mod run;
mod value;

#[cfg(test)]
mod tests_checks;
#[cfg(test)]
mod tests_isa;
#[cfg(test)]
mod tests_kernels;

use std::borrow::Cow;
use tahoma_core::DType;
use tahoma_machine::trn2::resolve::resolve;
use tahoma_machine::trn2::{Fault, Machine, Program, TRN2, Timeline};

/// A tensor in HBM: packed little-endian bytes in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct HbmTensor<'a> {
    pub dtype: DType,
    pub shape: Vec<usize>,
    pub data: Cow<'a, [u8]>,
}

impl<'a> HbmTensor<'a> {
    pub fn new(dtype: DType, shape: &[usize], data: impl Into<Cow<'a, [u8]>>) -> HbmTensor<'a> {
        HbmTensor { dtype, shape: shape.to_vec(), data: data.into() }
    }
}

impl HbmTensor<'static> {
    /// A tensor of `dtype` from f32 values, rounded.
    pub fn from_f32(dtype: DType, shape: &[usize], values: &[f32]) -> HbmTensor<'static> {
        HbmTensor { dtype, shape: shape.to_vec(), data: value::encode(&value::Data::from_f32(dtype, values), dtype).into() }
    }
}

impl HbmTensor<'_> {
    /// The values as f32 (32-bit integers beyond 2^24 lose bits). `None` if the type or the length is not one of trn2.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        Some(value::decode(&self.data, self.dtype)?.to_f32())
    }
}

/// How to run.
#[derive(Clone, Debug)]
pub struct Options {
    pub machine: &'static Machine,
    /// Keep every instruction's start and end in [`Timeline::events`].
    pub trace: bool,
    /// At most so many warnings are kept.
    pub max_warnings: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { machine: &TRN2, trace: false, max_warnings: 20 }
    }
}

/// What a run gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// In the order of the kernel's return; empty without `functional`.
    pub outputs: Vec<HbmTensor<'static>>,
    pub timeline: Timeline,
    /// Inputs outside an activation function's valid range, and the like: the kernel ran, hardware would differ.
    pub warnings: Vec<String>,
}

/// Runs the kernel on its inputs, in the order of its parameters.
pub fn simulate(program: &Program, inputs: &[HbmTensor], options: &Options) -> Result<Outcome, Fault> {
    run::run(&resolve(program, options.machine)?, inputs, options)
}
