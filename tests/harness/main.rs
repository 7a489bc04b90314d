//! The tests of the whole, in one binary since each that links MLIR is large: real models on every device, artifacts, command line.

mod artifact;
mod block;
mod branch;
mod conformance;
mod escape;
mod explain;
mod fuzz;
mod hostile;
mod kit;
mod models;
mod random;
mod recurrent;
