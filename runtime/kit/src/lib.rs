//! The GPU kit: compiled cases with inputs and expected outputs in one folder, and the program that runs them where the GPU is.
//!
//! ```text
//! kit.json ──▶ the card's target ──▶ worker processes, a case at a time ──▶ results.json, results.md
//!                                    a case that fails ends its worker; the next one begins with the case after it
//! ```
//!
//! `cargo xtask gpu-kit` makes the folder (the compiler is needed there); this crate links no MLIR.

pub mod compare;
pub mod drive;
pub mod format;
pub mod report;
pub mod tools;
pub mod worker;
