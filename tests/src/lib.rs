//! What the tests of the whole share: the real models that set-up prepared, and their oracles.

pub mod kit;

use std::path::PathBuf;
use tahoma::{Tensor, npy};

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A real model with its inputs and the outputs that its own runtime gave for them.
pub struct Oracle {
    pub model: PathBuf,
    pub inputs: Vec<(String, Tensor)>,
    /// By file name: a tensor's name as it is made safe for a file.
    pub outputs: Vec<(String, Tensor)>,
}

/// Arrays of a folder, by file name without its ending, in order.
fn arrays(folder: &std::path::Path) -> Vec<(String, Tensor)> {
    let Ok(dir) = std::fs::read_dir(folder) else { panic!("{} is missing: run `cargo xtask setup` first", folder.display()) };
    let mut paths: Vec<PathBuf> = dir.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.extension().is_some_and(|e| e == "npy")).collect();
    paths.sort();
    paths
        .into_iter()
        .map(|p| {
            let name = p.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
            (name, npy::read(&p, None).unwrap_or_else(|d| panic!("{d}")))
        })
        .collect()
}

/// A model of `.tahoma/models`. Panics with the remedy where set-up has not run.
pub fn oracle(name: &str) -> Oracle {
    let folder = root().join(".tahoma/models").join(name);
    Oracle { model: folder.join("model.onnx"), inputs: arrays(&folder.join("inputs")), outputs: arrays(&folder.join("outputs")) }
}

/// all-MiniLM-L6-v2 from its checkpoint, with what `transformers` made of three sentences.
pub fn minilm() -> Oracle {
    let arrays = arrays(&root().join("tests/oracles/minilm"));
    let (inputs, outputs) = arrays.into_iter().partition(|(n, _)| n == "input_ids" || n == "attention_mask");
    Oracle { model: root().join(".tahoma/models/minilm/model"), inputs, outputs }
}
