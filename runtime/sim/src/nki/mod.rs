//! NeuronCore-v3 on the host: runs a kernel's [`Program`] and says what it computes, whether the hardware would accept it, and how
//! long it would take.
//!
//! Function: fp32 arithmetic with round-to-nearest-even stores, one instruction after the other in program order. Uninitialised memory
//! is poison, and reading it is a fault. Matmuls accumulate in fp32 in an order of our own, so results match hardware within a
//! tolerance only; activation functions are exact where hardware uses polynomials.
//!
//! Legality: every limit of the instruction table and of the addressing rules; capacity of SBUF and PSUM. Each breach is a [`Fault`]
//! that names kernel, line, instruction, operand, limit and value.
//!
//! Time: per engine in-order issue, data hazards between engines tracked by region, 16 DMA engines, and memory that is reused only when
//! its last reader is done (module `time`). Documentation-derived; nothing was measured on Neuron hardware.
//!
//! Memory model. A tile takes its bytes per partition on all 128 partitions of SBUF (several small tiles do not share a partition
//! range), or whole banks of PSUM. It lives from its `nl.ndarray` to the last statement of the same block that names it; a tile made in
//! a loop is new in every iteration. Freed memory is handed out longest-free first, so double buffering happens exactly as far as
//! capacity allows. Fragmentation is not modelled: bytes are taken from anywhere.

mod engines;
mod lanes;
mod legal;
mod load;
mod mem;
mod run;
mod time;
mod value;

#[cfg(test)]
mod tests_checks;
#[cfg(test)]
mod tests_isa;
#[cfg(test)]
mod tests_kernels;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use tahoma_core::DType;
use tahoma_machine::trn2::{Engine, Machine, Program, TRN2};

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
    /// Compute values. Without, only legality, capacity and time: inputs may then be absent, and there are no outputs.
    pub functional: bool,
    /// Keep every instruction's start and end in [`Timeline::events`].
    pub trace: bool,
    /// At most so many warnings are kept.
    pub max_warnings: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { machine: &TRN2, functional: true, trace: false, max_warnings: 20 }
    }
}

/// One executed instruction on an engine's timeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub engine: Engine,
    pub instruction: &'static str,
    /// Line of the NKI text.
    pub line: u32,
    pub start_ns: f64,
    pub end_ns: f64,
}

/// What one engine did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EngineTime {
    pub busy_ns: f64,
    /// In the engine's own clock; for DMA the sum over the 16 engines in ns.
    pub busy_cycles: f64,
    pub instructions: u64,
}

/// Predicted time and resources of one kernel on one core, without the launch (`Machine::launch_ns`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeline {
    pub total_ns: f64,
    pub engines: BTreeMap<Engine, EngineTime>,
    /// Executed instructions by name.
    pub instructions: BTreeMap<&'static str, u64>,
    pub hbm_read_bytes: u64,
    pub hbm_write_bytes: u64,
    /// 2·K·M·N over all matmuls.
    pub matmul_flop: u64,
    pub peak_sbuf_bytes: usize,
    pub peak_psum_banks: usize,
    pub events: Vec<Event>,
}

impl Timeline {
    /// Share of the bf16 peak that the matmuls reach over the whole kernel.
    pub fn utilisation(&self, machine: &Machine) -> f64 {
        if self.total_ns > 0.0 { self.matmul_flop as f64 / self.total_ns / machine.peak_bf16() } else { 0.0 }
    }
    /// Busy share of an engine; DMA: of all 16 together.
    pub fn share(&self, engine: Engine, machine: &Machine) -> f64 {
        let width = if engine == Engine::Dma { machine.dma_engines as f64 } else { 1.0 };
        let busy = self.engines.get(&engine).map_or(0.0, |e| if engine == Engine::Dma { e.busy_cycles } else { e.busy_ns });
        if self.total_ns > 0.0 { busy / width / self.total_ns } else { 0.0 }
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

/// A rule of the machine that the kernel breaks, or inputs that do not fit it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub struct Fault {
    /// Short name of the rule, stable for tests and reports.
    pub rule: &'static str,
    pub kernel: String,
    /// Line of the NKI text; 0 if the program was not parsed from text.
    pub line: u32,
    /// Instruction or statement.
    pub instruction: String,
    /// Operand keyword or tensor name; may be empty.
    pub operand: String,
    /// Limit and value.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel {}", self.kernel)?;
        if self.line > 0 {
            write!(f, ", line {}", self.line)?;
        }
        if !self.instruction.is_empty() {
            write!(f, ": {}", self.instruction)?;
        }
        if !self.operand.is_empty() {
            write!(f, ": {}", self.operand)?;
        }
        write!(f, ": {} [{}]", self.message, self.rule)
    }
}

/// Runs the kernel on its inputs, in the order of its parameters.
pub fn simulate(program: &Program, inputs: &[HbmTensor], options: &Options) -> Result<Outcome, Fault> {
    let loaded = load::load(program, options.machine)?;
    run::run(&loaded, inputs, options)
}

/// Legality, capacity and predicted time of the kernel, without data.
pub fn estimate(program: &Program) -> Result<Timeline, Fault> {
    let options = Options { functional: false, ..Options::default() };
    Ok(simulate(program, &[], &options)?.timeline)
}
