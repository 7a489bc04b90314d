//! ONNX Runtime's own operators (`com.microsoft`), which its optimiser and the exporters of language models write. Their descriptions
//! are in `schema_microsoft`; what they mean follows ONNX Runtime's CPU kernels, whose answers the tests hold them to.

mod attention;
mod layers;
mod moe;
mod quant;

use super::Row;

/// Where they live.
const DOMAIN: &str = "com.microsoft";

pub(super) static FAMILIES: &[&[Row]] = &[layers::ROWS, attention::ROWS, quant::ROWS, moe::ROWS];
