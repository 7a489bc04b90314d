//! Machines on the host: the NeuronCore simulator and the PTX emulator. No MLIR.

pub mod nki;
pub mod ptx;
