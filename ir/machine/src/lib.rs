//! Machine descriptions: what each target can do, in tables that the compiler and the simulators read.

pub mod gpu;
pub mod ptx;
pub mod roofline;
pub mod trn2;
