//! The weights of a directory: one `model.safetensors`, or the shards that an index names.

use crate::external;
use crate::file::{self, Data};
use crate::json::Json;
use crate::safetensors::entries_of;
use crate::store::Store;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use tahoma_core::file::{Readable, open};
use tahoma_core::{DType, Diagnostic, Diagnostics, Origin, TensorType};

#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) store: Store,
    /// File of each tensor.
    files: BTreeMap<String, Arc<str>>,
    used: BTreeSet<String>,
}

impl Checkpoint {
    pub(crate) fn open(dir: &Path) -> Result<Checkpoint, Diagnostics> {
        let mut c = Checkpoint { store: Store::default(), files: BTreeMap::new(), used: BTreeSet::new() };
        let (single, index) = (dir.join("model.safetensors"), dir.join("model.safetensors.index.json"));
        if single.is_file() {
            c.add("model.safetensors", open(&single)?, None)?;
            return Ok(c);
        }
        if !index.is_file() {
            return Err(missing(dir).into());
        }
        let bad = |why: String| Diagnostic::error("E0105", format!("model.safetensors.index.json: {why}"));
        let json = Json::parse(&file::read(&index)?).map_err(|e| bad(e.to_string()).caused_by(e))?;
        let weights = json.get("weight_map").and_then(Json::object).ok_or_else(|| bad("has no weight_map".into()))?;
        let mut shards: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (name, file) in weights {
            let file = file.str().ok_or_else(|| bad(format!("{name:?} names no file")))?;
            shards.entry(file.into()).or_default().insert(name.clone());
        }
        for (file, names) in shards {
            c.add(&file, external::open_below(dir, &file)?, Some(&names))?;
        }
        Ok(c)
    }
    /// Adds a file's tensors; with an index, exactly those it lists for the file.
    fn add(&mut self, file: &str, open: Readable, listed: Option<&BTreeSet<String>>) -> Result<(), Diagnostic> {
        let all = entries_of(file, &open)?;
        if let Some(names) = listed {
            let there: BTreeSet<String> = all.iter().map(|e| e.name.clone()).collect();
            if let Some(n) = names.difference(&there).next() {
                return Err(Diagnostic::error("E0210", format!("{file} has no tensor {n:?}, which the index says it has")));
            }
            if let Some(n) = there.difference(names).next() {
                return Err(Diagnostic::error("E0212", format!("{file} has a tensor {n:?} that the index does not list")));
            }
        }
        let open = self.store.add_file(open);
        let name: Arc<str> = file.into();
        for e in all {
            self.files.insert(e.name.clone(), name.clone());
            self.store.insert(&e.name, e.dtype, e.dims, Data::File { file: open.clone(), offset: e.offset as u64, len: e.len });
        }
        Ok(())
    }
    pub(crate) fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }
    /// Marks a tensor as part of the model without using it.
    pub(crate) fn accept(&mut self, name: &str) {
        self.used.insert(name.into());
    }
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }
    /// The tensor's type, if it is there with these extents and a float type. E0210.
    pub(crate) fn find(&mut self, name: &str, dims: &[usize]) -> Result<TensorType, Diagnostic> {
        self.used.insert(name.into());
        let want = TensorType::known(DType::F32, dims);
        let Some(e) = self.store.find(name) else {
            let d = Diagnostic::error("E0210", format!("the checkpoint has no tensor {name:?} of shape {}", want.shape));
            return Err(match crate::closest(name, self.names()) {
                Some(c) => d.note(format!("the closest name is {c:?}")),
                None => d,
            });
        };
        if e.ty.shape != want.shape || !e.ty.dtype.is_float() {
            let d = Diagnostic::error("E0210", format!("tensor {name:?} is {}, but config.json says floats of shape {}", e.ty, want.shape));
            return Err(d.at(self.origin(name)));
        }
        Ok(e.ty)
    }
    pub(crate) fn origin(&self, name: &str) -> Origin {
        let file = self.files.get(name).cloned().unwrap_or_else(|| "model.safetensors".into());
        Origin::Tensor { model: file, name: name.into() }
    }
    /// Tensors that nobody asked for. E0212.
    pub(crate) fn unused(&self) -> Vec<Diagnostic> {
        let left: Vec<&str> = self.names().filter(|n| !self.used.contains(*n)).collect();
        let Some(first) = left.first() else { return vec![] };
        let mut d =
            Diagnostic::error("E0212", format!("the checkpoint has {} tensors that the architecture does not: {first:?}", left.len()));
        for n in left.iter().skip(1).take(15) {
            d = d.label("tensor", format!("{n:?}"), "");
        }
        vec![d.at(self.origin(first)).note("a part of the model would be ignored; the config may be of another variant")]
    }
}

fn missing(dir: &Path) -> Diagnostic {
    let pickles = ["pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "model.pth", "model.ckpt"];
    match pickles.iter().find(|p| dir.join(p).exists()) {
        Some(p) => Diagnostic::error("E0104", format!("the directory has only {p}, a pickled checkpoint, which Tahoma never reads"))
            .note("save with safetensors: model.save_pretrained(dir, safe_serialization=True)"),
        None => Diagnostic::error("E0101", format!("{} has neither model.safetensors nor model.safetensors.index.json", dir.display())),
    }
}
