//! What the user named as MODEL: an ONNX file, a Hugging Face directory, an `ml` module, or an artifact.

use crate::specialise::Known;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tahoma_core::{Diagnostic, Diagnostics, Dim, Shape, Tensor, TensorType, Text, near};
use tahoma_frontend::{HfOptions, ImportOptions, Imported, Store, import_hf, import_onnx};
use tahoma_mlir::{Module, Session};

/// Longest module read as text, in bytes.
pub(crate) const MOST_TEXT: u64 = 1 << 30;

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
    let meta =
        std::fs::metadata(path).map_err(|e| Diagnostic::error("E0101", format!("cannot read {}: {e}", path.display())).caused_by(e))?;
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

/// A request as the ONNX importer takes it.
pub(crate) fn import_options(request: &Request) -> ImportOptions {
    ImportOptions {
        shapes: request.shapes.clone(),
        symbols: request.symbols.clone(),
        constants: request.constants.clone(),
        texts: request.texts.clone(),
        complete: request.complete,
        ..ImportOptions::default()
    }
}

/// What a request says of an input of this type.
pub(crate) fn known(request: &Request, name: &str, ty: &TensorType) -> Known {
    if let Some(t) = request.constants.get(name) {
        return Known::Value(t.clone());
    }
    let dims = match request.shapes.get(name) {
        Some(d) if d.len() == ty.rank() => d.clone(),
        _ => ty.shape.0.clone(),
    };
    let fixed = dims.into_iter().map(|d| match &d {
        Dim::Sym(s) => request.symbols.get(&**s).map_or(d.clone(), |&n| Dim::Known(n)),
        Dim::Known(_) => d,
    });
    Known::Type(TensorType::new(ty.dtype, Shape(fixed.collect())))
}

/// Imports a model. Where dimensions are missing, the error says which options would give them.
pub fn import(path: &Path, request: &Request) -> Result<Imported, Diagnostics> {
    attempt(path, request).map_err(|d| advised(d, path, request))
}

/// An attempt's error with the options that were missing. Finding them reads the model again: for the error that is shown, not for all.
pub fn advised(mut d: Diagnostics, path: &Path, request: &Request) -> Diagnostics {
    if !matches!(kind_of(path), Ok(ModelKind::Onnx)) {
        return d;
    }
    let open = |d: &&mut Diagnostic| d.code == "E0209" && d.notes.iter().all(|n| !n.contains("--shape"));
    if let Some(d) = d.0.iter_mut().find(open) {
        d.notes.push("give open dimensions with --shape NAME=1x3x224x224, deciding values with --constant NAME=FILE.npy".into());
    }
    crate::info::with_remedy(d, path, request)
}

/// [`import`], for a caller that has other ways left where numbers are missing (E0209).
pub fn attempt(path: &Path, request: &Request) -> Result<Imported, Diagnostics> {
    match kind_of(path)? {
        ModelKind::Onnx => import_onnx(path, &import_options(request)),
        ModelKind::HuggingFace => {
            let options = hf_options(request)?;
            let mut imported = import_hf(path, &options)?;
            if request.shapes.is_empty() && request.symbols.is_empty() {
                let taken = format!("no shape is given: batch {} and sequence {} are taken", options.batch, options.sequence);
                imported.warnings.push(Diagnostic::warning("E0209", taken).note("--dim batch=1 --dim sequence=64 takes others"));
            }
            Ok(imported)
        }
        ModelKind::Mlir => {
            let bytes = tahoma_core::file::read(path, MOST_TEXT)?;
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let text =
                std::str::from_utf8(&bytes).map_err(|e| Diagnostic::error("E0902", format!("{name} is not text: {e}")).caused_by(e))?;
            let session = Session::new()?;
            let program = Module::parse(&session, text, &name)?.to_program()?;
            check_names(&program, request)?;
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

/// Shapes, constants and numbers for dimensions name what a module has. E0207, E0601.
fn check_names(program: &tahoma_core::Program, request: &Request) -> Result<(), Diagnostics> {
    let Some(main) = program.functions.get(tahoma_core::Program::MAIN) else { return Ok(()) };
    let inputs: Vec<&str> = main.inputs.iter().map(|p| &*p.name).collect();
    let mut dims: Vec<String> = vec![];
    let given = request.shapes.values().flatten();
    for d in main.inputs.iter().flat_map(|p| &main.ty(p.value).shape.0).chain(given) {
        if let Dim::Sym(s) = d
            && !dims.contains(&s.to_string())
        {
            dims.push(s.to_string());
        }
    }
    let mut problems = Diagnostics::default();
    let named = request.shapes.keys().map(|n| (n, "E0207")).chain(request.constants.keys().map(|n| (n, "E0601")));
    for (n, code) in named.filter(|(n, _)| !inputs.contains(&n.as_str())) {
        let mut d = Diagnostic::error(code, format!("the module has no input {n:?}"));
        d.notes = near::notes(n, "inputs", inputs.iter().copied());
        problems.push(d);
    }
    for n in request.symbols.keys().filter(|n| !dims.contains(n)) {
        let mut d = Diagnostic::error("E0207", format!("the module's inputs have no dimension {n:?}"));
        d.notes = near::notes(n, "open dimensions", dims.iter().map(String::as_str));
        problems.push(d);
    }
    problems.into_result(())
}

/// Names that a language model's inputs have, and its dimensions.
const TOKENS: &[&str] = &["input_ids", "attention_mask", "token_type_ids"];
const TOKEN_DIMS: &[&str] = &["batch", "sequence"];

/// Batch and sequence from the shape of the token inputs.
fn hf_options(request: &Request) -> Result<HfOptions, Diagnostic> {
    let mut o = HfOptions::default();
    for (name, &n) in &request.symbols {
        match name.as_str() {
            "batch" => o.batch = n as usize,
            "sequence" => o.sequence = n as usize,
            _ => {
                let mut d = Diagnostic::error("E0207", format!("a language model has no dimension {name:?}"));
                d.notes = near::notes(name, "dimensions", TOKEN_DIMS.iter().copied());
                return Err(d);
            }
        }
    }
    if let Some(name) = request.constants.keys().chain(request.texts.keys()).next() {
        return Err(Diagnostic::error("E0601", format!("input {name:?} of a checkpoint cannot be a constant")).note("give it with --input"));
    }
    for (name, dims) in &request.shapes {
        let bad = |why: &str| {
            Diagnostic::error("E0207", format!("--shape {name}: {why}")).note("a language model takes --shape input_ids=BATCHxSEQUENCE")
        };
        if !TOKENS.contains(&name.as_str()) {
            let mut d = bad("no such input");
            d.notes.extend(near::notes(name, "inputs", TOKENS.iter().copied()));
            return Err(d);
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
