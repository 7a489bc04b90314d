//! Trainium2 (NeuronCore-v3): what the machine has, what its instructions mean and cost, and programs of them.
//!
//! One table, [`isa::INSTRS`], says per instruction its engines, operands, limits, meaning and cycles. A [`program::Program`] is
//! plain data over that table. It prints as NKI 0.6 Python ([`nki::print`]), parses back ([`parse::parse`]), and prints as the MLIR
//! dialect `trn` ([`trn_mlir::print`], [`irdl::irdl_text`]). Whether the machine would take it ([`legal`], [`walk`]) and how long it takes
//! ([`clock`]) is said here, once; what it computes is the simulator's work (crate tahoma-sim).
//!
//! Figures come from the public AWS Neuron SDK documentation: release 2.32 (NKI 0.6) for signatures, limits and meaning, tag v2.26.1,
//! the last that prints them, for instruction costs. Nothing here was measured on Neuron hardware.

pub mod clock;
pub mod cost;
mod fault;
pub mod irdl;
pub mod isa;
pub mod legal;
pub mod machine;
pub mod nki;
pub mod ops;
pub mod parse;
pub mod program;
pub mod resolve;
pub mod trn_mlir;
pub mod walk;

pub use clock::{EngineTime, Event, Timeline};
pub use fault::Fault;
pub use isa::{Engine, INSTRS, InstrDef, instr};
pub use machine::{Machine, TRN2};
pub use program::{Access, Affine, Builder, Instr, Mem, Program, Stmt, Sub, Tile, Value};
pub use walk::{time, time_within};
