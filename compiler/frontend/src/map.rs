//! Files as bytes without copying: read-only mappings.

use prost::bytes::Bytes;
use std::fs::File;
use std::io;
use tahoma_core::Diagnostic;

/// Maps a regular file read-only. The bytes stay valid as long as any part of them is held; an empty file gives no bytes.
pub(crate) fn map(file: &File) -> io::Result<Bytes> {
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the mapping is private to this process and never written. If another process shortens the file while it is mapped,
    // reading past the new end ends this process with SIGBUS; the manual says that model files must not change under a run.
    #[allow(unsafe_code)]
    let map = unsafe { memmap2::Mmap::map(file)? };
    Ok(Bytes::from_owner(map))
}

/// Opens and maps a file that the user named. E0101 if it cannot be read.
pub(crate) fn open(path: &std::path::Path) -> Result<Bytes, Diagnostic> {
    let fail = |e: String| Diagnostic::error("E0101", format!("cannot read {}: {e}", path.display()));
    let file = File::open(path).map_err(|e| fail(e.to_string()))?;
    let meta = file.metadata().map_err(|e| fail(e.to_string()))?;
    if meta.is_dir() {
        return Err(fail("it is a directory".into()).note("a Hugging Face model is a directory with config.json and model.safetensors"));
    }
    if !meta.is_file() {
        return Err(fail("it is not a regular file".into()));
    }
    map(&file).map_err(|e| fail(e.to_string()))
}
