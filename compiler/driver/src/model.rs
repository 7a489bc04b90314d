//! What the user named as MODEL: an ONNX file, a Hugging Face directory, an `ml` module, or an artifact.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tahoma_core::{Diagnostic, Diagnostics, Dim, Tensor, Text};
use tahoma_frontend::{HfOptions, ImportOptions, Imported, Store, import_hf, import_onnx};
use tahoma_mlir::{Module, Session};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelKind {
    Onnx,
    /// `config.json` and `model.safetensors`.
    HuggingFace,
    /// A module in the `ml` dialect, without weights.
    Mlir,
    /// What `tahoma compile` wrote.
    Artifact,
}

/// What the caller fixes of a model.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Extents of graph inputs by name.
    pub shapes: BTreeMap<String, Vec<Dim>>,
    /// Numbers for named dimensions.
    pub symbols: BTreeMap<String, u64>,
    /// Inputs that are given now and disappear.
    pub constants: BTreeMap<String, Tensor>,
    /// Text inputs: they are always given at import.
    pub texts: BTreeMap<String, Text>,
    /// Shapes and constants name all that is given: a sequence or an optional that they leave out is empty.
    pub complete: bool,
}

/// Says what is at `path`. E0101 where nothing readable is.
pub fn kind_of(path: &Path) -> Result<ModelKind, Diagnostic> {
    let meta = std::fs::metadata(path).map_err(|e| Diagnostic::error("E0101", format!("cannot read {}: {e}", path.display())))?;
    if !meta.is_dir() {
        let mlir = path.extension().is_some_and(|e| e == "mlir");
        return Ok(if mlir { ModelKind::Mlir } else { ModelKind::Onnx });
    }
    if path.join("manifest.json").is_file() {
        return Ok(ModelKind::Artifact);
    }
    if path.join("config.json").is_file() {
        return Ok(ModelKind::HuggingFace);
    }
    Err(Diagnostic::error("E0101", format!("{} is neither a model nor an artifact", path.display()))
        .note("a Hugging Face model is a directory with config.json and model.safetensors; an artifact has a manifest.json"))
}

/// Imports a model.
pub fn import(path: &Path, request: &Request) -> Result<Imported, Diagnostics> {
    match kind_of(path)? {
        ModelKind::Onnx => {
            let options = ImportOptions {
                shapes: request.shapes.clone(),
                symbols: request.symbols.clone(),
                constants: request.constants.clone(),
                texts: request.texts.clone(),
                complete: request.complete,
                ..ImportOptions::default()
            };
            import_onnx(path, &options).map_err(|mut d| {
                let open = |d: &&mut Diagnostic| d.code == "E0209" && d.notes.iter().all(|n| !n.contains("--shape"));
                if let Some(d) = d.0.iter_mut().find(open) {
                    d.notes
                        .push("give open dimensions with --shape NAME=1x3x224x224, deciding values with --constant NAME=FILE.npy".into());
                }
                d
            })
        }
        ModelKind::HuggingFace => import_hf(path, &hf_options(request)?),
        ModelKind::Mlir => {
            let bytes = tahoma_runtime::map::open(path)?;
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let text = std::str::from_utf8(&bytes).map_err(|e| Diagnostic::error("E0902", format!("{name} is not text: {e}")))?;
            let session = Session::new()?;
            let program = Module::parse(&session, text, &name)?.to_program()?;
            if !program.functions.contains_key(tahoma_core::Program::MAIN) {
                return Err(crate::steps::no_main(&name, &program).into());
            }
            Ok(Imported { program, store: Store::default(), model_name: name, vocabulary: Default::default(), warnings: vec![] })
        }
        ModelKind::Artifact => Err(Diagnostic::error("E0701", format!("{} is an artifact, which is compiled already", path.display()))
            .note("tahoma run takes it")
            .into()),
    }
}

/// Batch and sequence from the shape of the token inputs.
fn hf_options(request: &Request) -> Result<HfOptions, Diagnostic> {
    let mut o = HfOptions::default();
    for (name, dims) in &request.shapes {
        let bad = |why: &str| {
            Diagnostic::error("E0207", format!("--shape {name}: {why}")).note("a language model takes --shape input_ids=BATCHxSEQUENCE")
        };
        if !matches!(name.as_str(), "input_ids" | "attention_mask" | "token_type_ids") {
            return Err(bad("no such input"));
        }
        let [Dim::Known(batch), Dim::Known(sequence)] = dims[..] else {
            return Err(bad("needs two numbers"));
        };
        (o.batch, o.sequence) = (batch as usize, sequence as usize);
        o.token_types |= name == "token_type_ids";
    }
    Ok(o)
}

/// The folder that weight references of a model are relative to.
pub fn weights_base(path: &Path) -> PathBuf {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    if real.is_dir() { real } else { real.parent().map(Path::to_path_buf).unwrap_or_default() }
}

/// Shapes of given inputs, as a request.
pub fn shapes_of(inputs: &[(String, Tensor)]) -> BTreeMap<String, Vec<Dim>> {
    inputs.iter().map(|(n, t)| (n.clone(), t.shape().iter().map(|&d| Dim::from(d)).collect())).collect()
}
