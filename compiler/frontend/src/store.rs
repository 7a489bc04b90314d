//! Weights by name: in memory with the model's protobuf, or left where they are, in a checkpoint or in external data.

use crate::file::Data;
use prost::bytes::Bytes;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tahoma_core::eval::Weights;
use tahoma_core::file::Readable;
use tahoma_core::{DType, Diagnostic, Tensor, TensorType};

/// The tensors that a program's `ml.weight` ops name.
#[derive(Debug, Default)]
pub struct Store {
    /// The model's own file, as it was read.
    model: Option<(PathBuf, Bytes)>,
    /// Files that stay where they are, by path.
    files: BTreeMap<PathBuf, Arc<Readable>>,
    entries: BTreeMap<String, Stored>,
}

#[derive(Debug)]
struct Stored {
    dtype: DType,
    dims: Vec<usize>,
    data: Data,
    /// File and offset of the bytes in it; `None` for bytes made while reading.
    place: Option<(PathBuf, u64)>,
}

/// Where the packed little-endian bytes of a weight are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location<'a> {
    /// In this file, from this byte on.
    File { path: &'a Path, offset: u64 },
    /// Only in memory (the file holds them in another form).
    Memory,
}

/// One weight.
#[derive(Clone, Debug)]
pub struct StoreEntry<'a> {
    pub name: &'a str,
    pub ty: TensorType,
    /// How many packed bytes it has: those of its type.
    pub bytes: usize,
    pub location: Location<'a>,
}

impl Store {
    /// Keeps the model's own file: tensors that are parts of it have a place there.
    pub(crate) fn set_model(&mut self, path: PathBuf, bytes: Bytes) {
        self.model = Some((path, bytes));
    }
    /// A file opened before.
    pub(crate) fn file(&self, path: &Path) -> Option<Arc<Readable>> {
        self.files.get(path).cloned()
    }
    /// Keeps an open file, for all that read parts of it.
    pub(crate) fn add_file(&mut self, file: Readable) -> Arc<Readable> {
        let file = Arc::new(file);
        self.files.insert(file.path().to_path_buf(), file.clone());
        file
    }
    /// Adds a tensor under a name not yet taken, `name` where that is free; returns the name. `data` has the length of the type.
    pub(crate) fn insert(&mut self, name: &str, dtype: DType, dims: Vec<usize>, data: Data) -> String {
        let mut key = name.to_string();
        let mut n = 1;
        while self.entries.contains_key(&key) {
            n += 1;
            key = format!("{name}#{n}");
        }
        let place = match &data {
            Data::File { file, offset, .. } => Some((file.path().to_path_buf(), *offset)),
            Data::Memory(bytes) => self.model.as_ref().and_then(|(path, file)| {
                // Parts of one buffer: the address of the bytes lies within the file's.
                let offset = (bytes.as_ptr() as usize).checked_sub(file.as_ptr() as usize)?;
                (!bytes.is_empty() && offset.checked_add(bytes.len())? <= file.len()).then(|| (path.clone(), offset as u64))
            }),
        };
        self.entries.insert(key.clone(), Stored { dtype, dims, data, place });
        key
    }
    /// Drops the weights that `keep` does not want.
    pub(crate) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.entries.retain(|name, _| keep(name));
    }
    pub fn len(&self) -> usize {
        self.entries.len()
    }
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
    /// All weights, by name.
    pub fn entries(&self) -> impl Iterator<Item = StoreEntry<'_>> {
        self.entries.iter().map(|(name, e)| self.entry(name, e))
    }
    /// One weight.
    pub fn find(&self, name: &str) -> Option<StoreEntry<'_>> {
        self.entries.get_key_value(name).map(|(k, e)| self.entry(k, e))
    }
    fn entry<'a>(&'a self, name: &'a str, e: &'a Stored) -> StoreEntry<'a> {
        let location = match &e.place {
            Some((path, offset)) => Location::File { path, offset: *offset },
            None => Location::Memory,
        };
        StoreEntry { name, ty: TensorType::known(e.dtype, &e.dims), bytes: e.data.len(), location }
    }
    /// Packed little-endian bytes: shared where they are in memory, else read from their file. E0101, E0210.
    pub fn read(&self, name: &str) -> Result<Bytes, Diagnostic> {
        self.stored(name)?.data.read()
    }
    fn stored(&self, name: &str) -> Result<&Stored, Diagnostic> {
        self.entries.get(name).ok_or_else(|| Diagnostic::error("E0210", format!("no weight {name:?} in the store")))
    }
}

impl Weights for Store {
    fn get(&self, name: &str) -> Result<Tensor, Diagnostic> {
        let e = self.stored(name)?;
        Tensor::from_bytes(e.dtype, &e.dims, &e.data.read()?)
            .ok_or_else(|| Diagnostic::error("E0206", format!("weight {name:?} has {} bytes, which its type does not", e.data.len())))
    }
}
