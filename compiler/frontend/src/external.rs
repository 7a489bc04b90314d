//! Opening files that a model names: only regular files below its own folder, reached through no link.
//!
//! Four CVEs in four years were one mistake here (CVE-2022-25882, -2024-27318, -2026-27489, -2026-34446), so: every component of the
//! path is a plain name, each is looked at without following links, and what was opened is compared with what was looked at.

use crate::map::map;
use prost::bytes::Bytes;
use std::path::{Component, Path, PathBuf};
use tahoma_core::Diagnostic;

/// Maps `relative`, a path found in a model file, below `base`. E0103.
pub(crate) fn open_below(base: &Path, relative: &str) -> Result<(PathBuf, Bytes), Diagnostic> {
    let refuse = |why: &str| {
        Diagnostic::error("E0103", format!("external data {relative:?} refused: {why}"))
            .note("external data must be a regular file below the model's folder, named without '..' and reached without links")
    };
    if relative.is_empty() || relative.contains('\0') || relative.contains('\\') {
        return Err(refuse("it is not a plain relative path"));
    }
    let mut path = base.to_path_buf();
    let parts: Vec<Component> = Path::new(relative).components().collect();
    for (i, part) in parts.iter().enumerate() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::CurDir => continue,
            Component::ParentDir => return Err(refuse("the path leaves the folder with '..'")),
            Component::RootDir | Component::Prefix(_) => return Err(refuse("the path is absolute")),
        }
        let meta = std::fs::symlink_metadata(&path).map_err(|e| refuse(&e.to_string()))?;
        if meta.file_type().is_symlink() {
            return Err(refuse("a part of the path is a symbolic link"));
        }
        let last = i + 1 == parts.len();
        if last && !meta.is_file() || !last && !meta.is_dir() {
            return Err(refuse(if last { "it is not a regular file" } else { "a part of the path is not a folder" }));
        }
    }
    let before = std::fs::symlink_metadata(&path).map_err(|e| refuse(&e.to_string()))?;
    let file = std::fs::File::open(&path).map_err(|e| refuse(&e.to_string()))?;
    let after = file.metadata().map_err(|e| refuse(&e.to_string()))?;
    if !after.is_file() || !same_single_file(&before, &after) {
        return Err(refuse("the file has several hard links or changed while it was opened"));
    }
    let bytes = map(&file).map_err(|e| refuse(&e.to_string()))?;
    Ok((path, bytes))
}

/// Whether both describe one file that has only this name.
#[cfg(unix)]
fn same_single_file(a: &std::fs::Metadata, b: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    a.dev() == b.dev() && a.ino() == b.ino() && b.nlink() == 1
}

#[cfg(not(unix))]
fn same_single_file(a: &std::fs::Metadata, b: &std::fs::Metadata) -> bool {
    a.len() == b.len()
}
