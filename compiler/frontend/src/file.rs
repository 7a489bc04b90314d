//! Files as bytes. They are read, not mapped: where another process cuts a mapped file short, touching it ends this process with
//! SIGBUS, and nothing in a library can make an error of that. A model's protobuf is read as a whole (it ends at 2 GiB); the tensors
//! of checkpoints and external data stay [`Data`] in their files, read one by one where their values are needed.
//!
//! Only regular files are opened: a pipe would wait for its other end, a device may do anything when it is opened.

use prost::bytes::Bytes;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tahoma_core::Diagnostic;

/// A regular file, open for reading at any place.
#[derive(Debug)]
pub(crate) struct Readable {
    file: File,
    path: PathBuf,
    len: u64,
}

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
            Data::File { file, offset, len } => file.part(*offset, *len as u64),
        }
    }
}

fn refused(path: &Path, why: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::error("E0101", format!("cannot read {}: {why}", path.display()))
}

impl Readable {
    /// `file` if it is a regular one; `path` is what errors call it.
    pub(crate) fn new(file: File, path: PathBuf) -> Result<Readable, Diagnostic> {
        let meta = file.metadata().map_err(|e| refused(&path, e))?;
        if meta.is_dir() {
            let d = refused(&path, "it is a directory");
            return Err(d.note("a Hugging Face model is a directory with config.json and model.safetensors"));
        }
        if !meta.is_file() {
            return Err(refused(&path, "it is not a regular file"));
        }
        Ok(Readable { file, path, len: meta.len() })
    }
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
    /// Bytes the file had when it was opened.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }
    /// `len` bytes from `offset` on. E0101 where the file ends before them, or ends by now; E0107 where memory does not hold them.
    pub(crate) fn part(&self, offset: u64, len: u64) -> Result<Bytes, Diagnostic> {
        let ends = || refused(&self.path, format!("it ends before byte {}", offset.saturating_add(len)));
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(ends());
        }
        let mut out = vec![];
        let room = usize::try_from(len).map_err(|_| ()).and_then(|n| out.try_reserve_exact(n).map_err(|_| ()).map(|()| n));
        let Ok(n) = room else {
            return Err(Diagnostic::error("E0107", format!("{len} bytes of {} do not fit into memory", self.path.display())));
        };
        out.resize(n, 0);
        read_at(&self.file, &mut out, offset).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => ends().note("it was cut short after it was opened"),
            _ => refused(&self.path, e),
        })?;
        Ok(out.into())
    }
}

/// Opens a file that the user named. E0101 for anything but a regular file.
pub(crate) fn open(path: &Path) -> Result<Readable, Diagnostic> {
    // Devices are not even opened; what was opened is looked at again.
    let meta = std::fs::metadata(path).map_err(|e| refused(path, e))?;
    if !meta.is_file() && !meta.is_dir() {
        return Err(refused(path, "it is not a regular file"));
    }
    Readable::new(open_at_once(path).map_err(|e| refused(path, e))?, path.to_path_buf())
}

/// All bytes of a file that the user named.
pub(crate) fn read(path: &Path) -> Result<Bytes, Diagnostic> {
    let f = open(path)?;
    f.part(0, f.len)
}

/// Without waiting for the other end of a pipe.
#[cfg(unix)]
fn open_at_once(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

#[cfg(not(unix))]
fn open_at_once(path: &Path) -> io::Result<File> {
    File::open(path)
}

#[cfg(unix)]
fn read_at(f: &File, out: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(f, out, offset)
}

#[cfg(not(unix))]
fn read_at(mut f: &File, out: &mut [u8], offset: u64) -> io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    f.seek(SeekFrom::Start(offset))?;
    f.read_exact(out)
}
