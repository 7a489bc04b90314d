//! What models keep in files. A model's protobuf is read as a whole (it ends at 2 GiB); the tensors of checkpoints and external data
//! stay [`Data`] in their files, read one by one where their values are needed.

use prost::bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use tahoma_core::Diagnostic;
use tahoma_core::file::{self, Readable};

/// Packed bytes of a tensor: in memory, or a part of a file.
#[derive(Clone, Debug)]
pub(crate) enum Data {
    Memory(Bytes),
    File { file: Arc<Readable>, offset: u64, len: usize },
}

impl From<Bytes> for Data {
    fn from(b: Bytes) -> Data {
        Data::Memory(b)
    }
}

impl Data {
    pub(crate) fn len(&self) -> usize {
        match self {
            Data::Memory(b) => b.len(),
            Data::File { len, .. } => *len,
        }
    }
    /// The bytes. E0101 where the file no longer has them.
    pub(crate) fn read(&self) -> Result<Bytes, Diagnostic> {
        match self {
            Data::Memory(b) => Ok(b.clone()),
            Data::File { file, offset, len } => file.part(*offset, *len as u64).map(Bytes::from),
        }
    }
}

/// All bytes of a file that the user named. E0101.
pub(crate) fn read(path: &Path) -> Result<Bytes, Diagnostic> {
    match file::read(path, u64::MAX) {
        Err(d) if path.is_dir() => Err(d.note("a Hugging Face model is a directory with config.json and model.safetensors")),
        bytes => bytes.map(Bytes::from),
    }
}
