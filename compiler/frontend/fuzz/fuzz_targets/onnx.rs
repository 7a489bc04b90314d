//! Any bytes as an ONNX file: `cargo xtask fuzz`.
#![no_main]

#[path = "../../tests/models/hostile.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::read_and_run(bytes.to_vec()));
