//! Weights as one safetensors file inside an artifact: those that no file holds in their own form, or all on request.

use std::collections::BTreeMap;
use tahoma_core::{DType, Diagnostic, TensorType};
use tahoma_frontend::Store;

/// Its name in the artifact.
pub(crate) const FILE: &str = "weights.safetensors";
/// Data starts at a multiple of this; tensors follow each other without gaps, as the format demands.
const ALIGN: usize = 64;

/// Name of a type in the format; types it lacks are stored as bytes.
fn type_name(d: DType) -> Option<&'static str> {
    use DType::*;
    Some(match d {
        F64 => "F64",
        F32 => "F32",
        F16 => "F16",
        BF16 => "BF16",
        F8E4M3FN => "F8_E4M3",
        F8E5M2 => "F8_E5M2",
        F8E8M0 => "F8_E8M0",
        I64 => "I64",
        I32 => "I32",
        I16 => "I16",
        I8 => "I8",
        U64 => "U64",
        U32 => "U32",
        U16 => "U16",
        U8 => "U8",
        Bool => "BOOL",
        _ => return None,
    })
}

fn entry(ty: &TensorType, bytes: usize) -> (&'static str, Vec<usize>) {
    match (type_name(ty.dtype), ty.shape.to_static()) {
        (Some(n), Some(s)) => (n, s),
        _ => ("U8", vec![bytes]),
    }
}

/// The file's bytes and where each tensor starts in it.
pub(crate) fn safetensors<'a>(store: &Store, names: impl Iterator<Item = &'a str>) -> Result<(Vec<u8>, BTreeMap<String, u64>), Diagnostic> {
    let mut header = serde_json::Map::new();
    let mut tensors: Vec<&str> = vec![];
    let names: std::collections::BTreeSet<&str> = names.collect();
    let mut at = 0usize;
    let mut places = BTreeMap::new();
    for name in names {
        let e = store.find(name).ok_or_else(|| Diagnostic::error("E0210", format!("no weight {name:?} in the store")))?;
        let (dtype, shape) = entry(&e.ty, e.bytes);
        header.insert(name.into(), serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": [at, at + e.bytes] }));
        places.insert(name.to_string(), at as u64);
        tensors.push(e.name);
        at += e.bytes;
    }
    let mut text = serde_json::to_string(&header).map_err(|e| Diagnostic::error("E0901", e.to_string()).caused_by(e))?;
    while !(text.len() + 8).is_multiple_of(ALIGN) {
        text.push(' ');
    }
    let start = text.len() + 8;
    let mut out = Vec::with_capacity(start + at);
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.bytes());
    for name in tensors {
        out.extend(&*store.read(name)?);
    }
    places.values_mut().for_each(|p| *p += start as u64);
    Ok((out, places))
}
