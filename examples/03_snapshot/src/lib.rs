//! Snapshot tests of a lowering step: see `tests/lowering.rs`.
