//! `onnx.proto` as Rust types, and decoding with words for what a file is when it is not ONNX.

#![allow(missing_docs, clippy::all)]
include!(concat!(env!("OUT_DIR"), "/onnx.rs"));

use prost::Message;
use prost::bytes::Bytes;
use tahoma_core::Diagnostic;

/// Decodes a model. Tensor bytes stay in `bytes`. E0102, or E0104 for pickles.
pub fn decode_model(name: &str, bytes: Bytes) -> Result<ModelProto, Diagnostic> {
    if let Some(d) = other_format(name, &bytes) {
        return Err(d);
    }
    let model = ModelProto::decode(bytes).map_err(|e| {
        let truncated = e.to_string().contains("underflow");
        let d = Diagnostic::error("E0102", format!("{name} is not a valid ONNX file: {e}")).caused_by(e);
        if truncated {
            d.note("the file ends early: download or export it again")
        } else {
            d.note("the bytes are damaged, or of another format")
        }
    })?;
    if model.graph.is_none() {
        let d = Diagnostic::error("E0102", format!("{name} is not a valid ONNX file: it holds no graph"));
        return Err(d.note("a model file starts with its ir_version and has one graph"));
    }
    Ok(model)
}

/// Recognises files that users give in place of an ONNX model.
fn other_format(name: &str, bytes: &[u8]) -> Option<Diagnostic> {
    if is_pickle(bytes) {
        return Some(
            Diagnostic::error("E0104", format!("{name} is a pickled checkpoint, which Tahoma never reads: loading one runs its code"))
                .note("save with safetensors: model.save_pretrained(dir, safe_serialization=True), or export with torch.onnx.export"),
        );
    }
    let not = |what: &str, note: &str| Some(Diagnostic::error("E0102", format!("{name} is not an ONNX file: {what}")).note(note));
    let head = &bytes[..bytes.len().min(64)];
    if bytes.is_empty() {
        return not("it is empty", "download or export it again");
    }
    if head.starts_with(b"version https://git-lfs") {
        return not("it is a Git LFS pointer, not the file itself", "fetch the file with: git lfs pull");
    }
    if head.trim_ascii_start().starts_with(b"<") {
        return not("it is a web page", "the download returned a page instead of the file");
    }
    if head.len() > 9 && head[8] == b'{' && head[3..8].iter().all(|&b| b == 0) {
        return not("it looks like safetensors", "give the Hugging Face directory that holds it (with its config.json)");
    }
    if head.trim_ascii_start().starts_with(b"{") {
        return not("it looks like JSON", "for a Hugging Face model give the directory");
    }
    if head.len() > 8 && &head[4..8] == b"TFL3" {
        return not("it is a TensorFlow Lite file", "convert it with tf2onnx");
    }
    None
}

/// A torch zip or a raw pickle, by content.
pub(crate) fn is_pickle(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04") || matches!(bytes, [0x80, 2..=5, ..]) && bytes.len() > 2 && !matches!(bytes[2], 0)
}
