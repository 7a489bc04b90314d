//! ONNX import: a decoded model becomes a [`Program`](tahoma_core::Program) of `ml` ops.
//!
//! ```text
//! prepass  every node of every graph and function: which operators are unknown, which operator sets are missing
//! walk     graph inputs and initialisers, then the nodes in dependency order, each through its row of `ops::ROWS`
//! ```
//!
//! A name that could not be made is bound to *unknown*; nodes that use it give unknowns in turn and say nothing, so that one cause
//! gives one message and independent causes are all found. Types come from inference alone; a model's own value_info is not believed.

mod attrs;
mod context;
mod control;
mod extent;
mod frame;
mod importer;
mod ops;
mod order;
mod outline;
pub(crate) mod prepass;
pub(crate) mod schema;
mod schema_microsoft;
mod schema_table;
mod steps;
mod symbols;
pub(crate) mod text;

use crate::{Budget, Imported, file, proto};
use importer::Importer;
use prost::bytes::Bytes;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tahoma_core::{Diagnostic, Diagnostics, Dim, Tensor, Text};

pub use ops::supported as supported_ops;
pub use outline::{OperatorUse, Outline, OutlinePort, outline};

/// How to import a model.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Extents of graph inputs by name; a symbol leaves a dimension open.
    pub shapes: BTreeMap<String, Vec<Dim>>,
    /// Numbers for the model's named dimensions.
    pub symbols: BTreeMap<String, u64>,
    /// Graph inputs that are given now; they disappear from the inputs and fold.
    pub constants: BTreeMap<String, Tensor>,
    /// Graph inputs of strings: what they hold decides the computation, so they are given now.
    pub texts: BTreeMap<String, Text>,
    /// `shapes` and `constants` name all that is given: a sequence or an optional of which they name nothing is empty.
    pub complete: bool,
    pub budget: Budget,
}

/// Imports an ONNX file.
pub fn import_onnx(path: &Path, options: &ImportOptions) -> Result<Imported, Diagnostics> {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_else(|| path.display().to_string());
    let bytes = file::read(path)?;
    // An empty parent is the working directory.
    let base = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    import(&name, Some((path.to_path_buf(), base.to_path_buf())), bytes, options)
}

/// Imports an ONNX model from memory; it cannot have external data.
pub fn import_onnx_bytes(name: &str, bytes: Bytes, options: &ImportOptions) -> Result<Imported, Diagnostics> {
    import(name, None, bytes, options)
}

fn import(name: &str, file: Option<(PathBuf, PathBuf)>, bytes: Bytes, options: &ImportOptions) -> Result<Imported, Diagnostics> {
    if bytes.len() as u64 > options.budget.file_bytes {
        let d =
            Diagnostic::error("E0107", format!("{name} has {} bytes, more than the budget of {}", bytes.len(), options.budget.file_bytes));
        return Err(d.note("weights above 2 GiB belong into external data").into());
    }
    let model = proto::decode_model(name, bytes.clone())?;
    let mut importer = Importer::new(name, &model, options);
    if let Some((path, base)) = file {
        importer.store.set_model(path, bytes);
        importer.base = Some(base);
    } else {
        importer.store.set_model(PathBuf::from(name), bytes);
    }
    importer.run()
}
