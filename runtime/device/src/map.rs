//! Files as bytes without copying: read-only mappings. The one place of this crate, besides the drivers, that says `unsafe`.

use memmap2::Mmap;
use std::fs::File;
use std::ops::Deref;
use std::path::Path;
use tahoma_core::Diagnostic;

/// A mapped file; an empty file has no mapping.
#[derive(Debug)]
pub struct Mapped(Option<Mmap>);

impl Deref for Mapped {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

/// Opens and maps a regular file. E0101 if it cannot be read.
pub fn open(path: &Path) -> Result<Mapped, Diagnostic> {
    let fail = |e: String| Diagnostic::error("E0101", format!("cannot read {}: {e}", path.display()));
    let file = File::open(path).map_err(|e| fail(e.to_string()))?;
    let meta = file.metadata().map_err(|e| fail(e.to_string()))?;
    if !meta.is_file() {
        return Err(fail("it is not a regular file".into()));
    }
    if meta.len() == 0 {
        return Ok(Mapped(None));
    }
    // SAFETY: the mapping is read-only and private. If another process shortens the file while it is mapped, reading past the new
    // end ends this process with SIGBUS; model files must not change under a run, as the manual says.
    #[allow(unsafe_code)]
    let map = unsafe { Mmap::map(&file) }.map_err(|e| fail(e.to_string()))?;
    Ok(Mapped(Some(map)))
}
