//! Opening files that a model names: only regular files below its own folder, reached through no link.
//!
//! Four CVEs in four years were one mistake here (CVE-2022-25882, -2024-27318, -2026-27489, -2026-34446), so: every component of the
//! path is a plain name, and each is opened from the folder before it without following links. What was looked at is what is opened:
//! there is no moment between the two in which a folder could become a link.

use std::fs::File;
use std::path::{Component, Path};
use tahoma_core::Diagnostic;
use tahoma_core::file::Readable;

/// Opens `relative`, a path found in a model file, below `base`. E0103.
pub(crate) fn open_below(base: &Path, relative: &str) -> Result<Readable, Diagnostic> {
    let refuse = |why: &str| {
        Diagnostic::error("E0103", format!("external data {relative:?} refused: {why}"))
            .note("external data must be a regular file below the model's folder, named without '..' and reached without links")
    };
    if relative.is_empty() || relative.contains('\0') || relative.contains('\\') {
        return Err(refuse("it is not a plain relative path"));
    }
    let mut parts = vec![];
    for part in Path::new(relative).components() {
        match part {
            Component::Normal(name) => parts.push(name),
            Component::CurDir => {}
            Component::ParentDir => return Err(refuse("the path leaves the folder with '..'")),
            Component::RootDir | Component::Prefix(_) => return Err(refuse("the path is absolute")),
        }
    }
    let Some((name, folders)) = parts.split_last() else { return Err(refuse("it names no file")) };
    let file = open_parts(base, folders, name).map_err(|why| refuse(&why))?;
    let meta = file.metadata().map_err(|e| refuse(&e.to_string()).caused_by(e))?;
    if !meta.is_file() {
        return Err(refuse("it is not a regular file"));
    }
    if links(&meta) != 1 {
        return Err(refuse("the file has several hard links"));
    }
    Readable::new(file, parts.iter().fold(base.to_path_buf(), |p, n| p.join(n))).map_err(|d| refuse(&d.message))
}

/// Opens folder after folder and then the file, each from the one before, following no link.
#[cfg(unix)]
fn open_parts(base: &Path, folders: &[&std::ffi::OsStr], name: &std::ffi::OsStr) -> Result<File, String> {
    use rustix::fs::{Mode, OFlags, openat};
    use rustix::io::Errno;
    let words = |e: Errno| match e {
        Errno::LOOP | Errno::MLINK => "a part of the path is a symbolic link".to_string(),
        // What O_DIRECTORY with O_NOFOLLOW says of a link, too.
        Errno::NOTDIR => "a part of the path is a symbolic link or not a folder".to_string(),
        Errno::NXIO => "it is not a regular file".to_string(),
        e => e.to_string(),
    };
    // The model's own folder is the user's, and may be reached through links.
    let mut folder = File::open(base).map_err(|e| e.to_string())?;
    for f in folders {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        folder = openat(&folder, *f, flags, Mode::empty()).map_err(words)?.into();
    }
    // NONBLOCK: opening a pipe must not wait for its other end.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(openat(&folder, name, flags, Mode::empty()).map_err(words)?.into())
}

/// Where folders cannot be opened, each part is looked at before the whole path is opened.
#[cfg(not(unix))]
fn open_parts(base: &Path, folders: &[&std::ffi::OsStr], name: &std::ffi::OsStr) -> Result<File, String> {
    let mut path = base.to_path_buf();
    for part in folders.iter().chain([&name]) {
        path.push(part);
        if std::fs::symlink_metadata(&path).map_err(|e| e.to_string())?.file_type().is_symlink() {
            return Err("a part of the path is a symbolic link".into());
        }
    }
    File::open(path).map_err(|e| e.to_string())
}

#[cfg(unix)]
fn links(m: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(m)
}

#[cfg(not(unix))]
fn links(_: &std::fs::Metadata) -> u64 {
    1
}
