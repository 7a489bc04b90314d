//! Weights by name, left where they are: in the mapped model file, in its external data, or in memory where a file holds them in a
//! form of its own.

use prost::bytes::Bytes;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tahoma_core::eval::Weights;
use tahoma_core::{DType, Diagnostic, Tensor, TensorType};

/// The tensors that a program's `ml.weight` ops name.
#[derive(Debug, Default)]
pub struct Store {
    files: Vec<(PathBuf, Bytes)>,
    entries: BTreeMap<String, Stored>,
}

#[derive(Debug)]
struct Stored {
    dtype: DType,
    dims: Vec<usize>,
    bytes: Bytes,
    /// File and offset of `bytes` in it; `None` for bytes made while reading.
    place: Option<(usize, u64)>,
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
    pub bytes: &'a [u8],
    pub location: Location<'a>,
}

impl Store {
    /// Adds a mapped file; returns its number for [`Store::insert`].
    pub(crate) fn add_file(&mut self, path: PathBuf, bytes: Bytes) -> usize {
        if let Some(i) = self.files.iter().position(|f| f.0 == path) {
            return i;
        }
        self.files.push((path, bytes));
        self.files.len() - 1
    }
    /// The mapped bytes of a file added before.
    pub(crate) fn file(&self, path: &Path) -> Option<(usize, Bytes)> {
        self.files.iter().position(|f| f.0 == path).map(|i| (i, self.files[i].1.clone()))
    }
    /// Adds a tensor under a name not yet taken, `name` where that is free; returns the name. `bytes` has the length of the type.
    pub(crate) fn insert(&mut self, name: &str, dtype: DType, dims: Vec<usize>, bytes: Bytes) -> String {
        let mut key = name.to_string();
        let mut n = 1;
        while self.entries.contains_key(&key) {
            n += 1;
            key = format!("{name}#{n}");
        }
        let place = self.files.iter().enumerate().find_map(|(i, (_, file))| {
            // Both are parts of one mapping if the address of the bytes lies within the file's.
            let offset = (bytes.as_ptr() as usize).checked_sub(file.as_ptr() as usize)?;
            (!bytes.is_empty() && offset.checked_add(bytes.len())? <= file.len()).then_some((i, offset as u64))
        });
        self.entries.insert(key.clone(), Stored { dtype, dims, bytes, place });
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
        let location = match e.place {
            Some((file, offset)) => Location::File { path: &self.files[file].0, offset },
            None => Location::Memory,
        };
        StoreEntry { name, ty: TensorType::known(e.dtype, &e.dims), bytes: &e.bytes, location }
    }
    /// Packed little-endian bytes, without copying.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.entries.get(name).map(|e| &*e.bytes)
    }
}

impl Weights for Store {
    fn get(&self, name: &str) -> Result<Tensor, Diagnostic> {
        let e = self.entries.get(name).ok_or_else(|| Diagnostic::error("E0210", format!("no weight {name:?} in the store")))?;
        Tensor::from_bytes(e.dtype, &e.dims, &e.bytes)
            .ok_or_else(|| Diagnostic::error("E0206", format!("weight {name:?} has {} bytes, which its type does not", e.bytes.len())))
    }
}
