//! Files that a user or a model names, as bytes: the one way in which any crate opens them. They are read, not mapped: where another process cuts a mapped file short, touching it ends this process with
//! SIGBUS. Locks on Linux bind only those who ask for them, and a library has no business with signal handlers; a read that ends early
//! is an error like any other. What is hashed is the bytes that are used, and only what is used is held.
//!
//! Only regular files are opened: a pipe would wait for its other end, a device may do anything when it is opened.

use crate::Diagnostic;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A regular file, open for reading at any place.
#[derive(Debug)]
pub struct Readable {
    file: File,
    path: PathBuf,
    bytes: u64,
}

fn refused(path: &Path, why: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::error("E0101", format!("cannot read {}: {why}", path.display()))
}

fn failed(path: &Path, e: io::Error) -> Diagnostic {
    refused(path, &e).caused_by(e)
}

/// E0101 for what is not a regular file.
fn regular(path: &Path, m: &std::fs::Metadata) -> Result<(), Diagnostic> {
    match (m.is_file(), m.is_dir()) {
        (true, _) => Ok(()),
        (_, true) => Err(refused(path, "it is a directory")),
        _ => Err(refused(path, "it is not a regular file")),
    }
}

/// E0107 where a file of `bytes` bytes is longer than is read of its kind.
pub fn at_most(path: &Path, bytes: u64, most: u64) -> Result<(), Diagnostic> {
    if bytes > most {
        return Err(Diagnostic::error("E0107", format!("{} has {bytes} bytes, of which at most {most} are read", path.display())));
    }
    Ok(())
}

/// Opens a regular file. E0101 for anything else.
pub fn open(path: &Path) -> Result<Readable, Diagnostic> {
    // Devices are not even opened; what was opened is looked at again.
    regular(path, &std::fs::metadata(path).map_err(|e| failed(path, e))?)?;
    Readable::new(open_at_once(path).map_err(|e| failed(path, e))?, path.to_path_buf())
}

/// All bytes of a regular file of at most `most`. E0101; E0107 for a longer one.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>, Diagnostic> {
    let f = open(path)?;
    at_most(path, f.bytes, most)?;
    f.part(0, f.bytes)
}

impl Readable {
    /// `file` if it is a regular one; `path` is what errors call it. E0101.
    pub fn new(file: File, path: PathBuf) -> Result<Readable, Diagnostic> {
        let meta = file.metadata().map_err(|e| failed(&path, e))?;
        regular(&path, &meta)?;
        Ok(Readable { file, path, bytes: meta.len() })
    }
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Bytes the file had when it was opened.
    pub fn len(&self) -> u64 {
        self.bytes
    }
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }
    /// `bytes` bytes from `offset` on. E0101 where the file ends before them, or ends by now; E0107 where memory does not hold them.
    pub fn part(&self, offset: u64, bytes: u64) -> Result<Vec<u8>, Diagnostic> {
        let ends = || refused(&self.path, format!("it ends before byte {}", offset.saturating_add(bytes)));
        if offset.checked_add(bytes).is_none_or(|end| end > self.bytes) {
            return Err(ends());
        }
        let mut out = vec![];
        let room = usize::try_from(bytes).map_err(|_| ()).and_then(|n| out.try_reserve_exact(n).map_err(|_| ()).map(|()| n));
        let Ok(n) = room else {
            return Err(Diagnostic::error("E0107", format!("{bytes} bytes of {} do not fit into memory", self.path.display())));
        };
        out.resize(n, 0);
        read_at(&self.file, &mut out, offset).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => ends().note("it was cut short after it was opened"),
            _ => failed(&self.path, e),
        })?;
        Ok(out)
    }
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

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    #[test]
    fn only_regular_files_are_opened_and_nothing_waits() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        for p in [&pipe, &link, dir.path(), Path::new("/dev/zero"), Path::new("/dev/stdin"), &dir.path().join("none")] {
            assert_eq!(open(p).unwrap_err().code, "E0101", "{}", p.display());
        }
    }

    #[test]
    fn a_file_cut_short_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, vec![7u8; 100_000]).unwrap();
        let f = open(&path).unwrap();
        assert_eq!(f.part(99_999, 1).unwrap(), [7]);
        assert_eq!(f.part(u64::MAX, 2).unwrap_err().code, "E0101");
        assert_eq!(f.part(0, 100_001).unwrap_err().code, "E0101");
        File::options().write(true).open(&path).unwrap().set_len(10).unwrap();
        assert_eq!(f.part(0, 10).unwrap(), [7; 10]);
        let d = f.part(0, 100_000).unwrap_err();
        assert!(d.code == "E0101" && d.to_string().contains("cut short"), "{d}");
        assert_eq!(read(&path, 9).unwrap_err().code, "E0107");
    }
}
