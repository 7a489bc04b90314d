//! A compiled model in memory: written as a folder in one step. What runs is always what was written and read back.

use crate::pack;
use crate::stage::StageTime;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tahoma_core::artifact::{MANIFEST, MANIFEST_HASH, Manifest, WeightRef};
use tahoma_core::{Diagnostic, Tensor, escape};
use tahoma_frontend::Store;
use tahoma_runtime::{Artifact, RunReport, Runner, WeightBytes, device};

/// An artifact in memory.
#[derive(Clone)]
pub struct Compiled {
    pub manifest: Arc<Manifest>,
    /// Files of the artifact but the manifest, by their path in it.
    pub files: BTreeMap<String, Vec<u8>>,
    pub(crate) store: Arc<Store>,
    /// Write the manifest in one line, a third as long.
    pub compact: bool,
    /// Kernels that LLVM did not optimise, since dearer ones took all the lines that it may.
    pub left_to_ptxas: usize,
    pub warnings: Vec<Diagnostic>,
    /// What each stage took, in order.
    pub times: Vec<StageTime>,
}

/// Weights of an artifact in a temporary folder, which stays as long as they do.
struct InFolder {
    weights: Arc<dyn WeightBytes>,
    _folder: tempfile::TempDir,
}

impl WeightBytes for InFolder {
    fn bytes(&self, w: &WeightRef) -> Result<Cow<'_, [u8]>, Diagnostic> {
        self.weights.bytes(w)
    }
}

impl Compiled {
    /// As the runtime sees it: written to a temporary folder and loaded from there, so that what is checked is what a user would run.
    /// The folder goes with the artifact. Errors as [`Compiled::write`] and [`Artifact::load`].
    pub fn reload(&self) -> Result<Artifact, Diagnostic> {
        let cannot = |e: std::io::Error| Diagnostic::error("E0702", format!("cannot make a temporary folder: {e}")).caused_by(e);
        let folder = tempfile::Builder::new().prefix("tahoma-").tempdir().map_err(cannot)?;
        let dir = folder.path().join("artifact");
        self.write(&dir, false)?;
        let loaded = Artifact::load(&dir, None)?;
        Ok(Artifact { weights: Arc::new(InFolder { weights: loaded.weights.clone(), _folder: folder }), ..loaded })
    }

    /// Runs on a device by name, from files ([`Compiled::reload`]). Errors as [`Runner::run`].
    pub fn run(&self, inputs: &[(String, Tensor)], device: &str) -> Result<(Vec<(String, Tensor)>, RunReport), Diagnostic> {
        let device = device::open(device)?;
        Runner::new(self.reload()?, device)?.run(inputs)
    }

    /// Text of the manifest. E0901 where it would not read back equal: what cannot be loaded is not written.
    pub fn manifest_json(&self) -> Result<String, Diagnostic> {
        let fault = |why: &str| Diagnostic::error("E0901", format!("the manifest cannot be written: {why}"));
        let json = |e: serde_json::Error| fault(&e.to_string()).caused_by(e);
        let text = if self.compact { serde_json::to_string(&*self.manifest) } else { serde_json::to_string_pretty(&*self.manifest) };
        let text = escape::json(&text.map_err(json)?) + "\n";
        let back: Manifest = serde_json::from_str(&text).map_err(json)?;
        if back != *self.manifest {
            return Err(fault("it reads back as another"));
        }
        Ok(text)
    }

    /// Writes the folder: everything into a new one beside it, then one rename. With `force`, an artifact that is there is replaced;
    /// anything else that is there is left alone. E0702.
    pub fn write(&self, dir: &Path, force: bool) -> Result<(), Diagnostic> {
        let fail = |what: &str, p: &Path, e: std::io::Error| {
            Diagnostic::error("E0702", format!("cannot {what} {}: {e}", p.display())).caused_by(e)
        };
        check_replaceable(dir, force)?;
        let exists = dir.symlink_metadata().is_ok();
        let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent).map_err(|e| fail("make", parent, e))?;
        let temporary = Temporary::beside(dir, "new");
        let manifest = self.manifest_json()?.into_bytes();
        let hash = tahoma_runtime::artifact::manifest_hash(&manifest).into_bytes();
        let mut all = vec![(MANIFEST, manifest), (MANIFEST_HASH, hash)];
        all.extend(self.files.iter().map(|(p, b)| (p.as_str(), b.clone())));
        for (name, bytes) in all {
            let path = temporary.0.join(name);
            let folder = path.parent().unwrap_or(&temporary.0);
            std::fs::create_dir_all(folder).map_err(|e| fail("make", folder, e))?;
            std::fs::write(&path, bytes).map_err(|e| fail("write", &path, e))?;
        }
        let old = Temporary::beside(dir, "old");
        if exists {
            std::fs::rename(dir, &old.0).map_err(|e| fail("move", dir, e))?;
        }
        std::fs::rename(&temporary.0, dir).map_err(|e| {
            // Put back what was there.
            if exists {
                let _ = std::fs::rename(&old.0, dir);
            }
            fail("make", dir, e)
        })
    }

    /// Moves all weights into the artifact, so that it no longer needs the model's files.
    pub fn pack(&mut self) -> Result<(), Diagnostic> {
        let mut m = (*self.manifest).clone();
        let (bytes, places) = pack::safetensors(&self.store, m.weights.iter().map(|w| w.name.as_str()))?;
        for w in &mut m.weights {
            (w.file, w.offset) = (format!("./{}", pack::FILE), places[&w.name]);
        }
        m.weights_base = String::new();
        self.files.insert(pack::FILE.into(), bytes);
        self.manifest = Arc::new(m);
        Ok(())
    }
}

/// Whether an artifact may be written to `dir`. E0702. Checked before compiling too, so that a long compile is not for nothing.
pub fn check_replaceable(dir: &Path, force: bool) -> Result<(), Diagnostic> {
    if dir.file_name().is_none() {
        return Err(Diagnostic::error("E0702", format!("{} is a folder without a name of its own", dir.display()))
            .note("an artifact is made beside its place and moved there: name a new folder"));
    }
    check_writable(dir)?;
    let Ok(meta) = dir.symlink_metadata() else { return Ok(()) };
    let empty = meta.is_dir() && std::fs::read_dir(dir).is_ok_and(|mut d| d.next().is_none());
    let ours = meta.is_dir() && Artifact::is_at(dir);
    if empty || (ours && force) {
        return Ok(());
    }
    let d = Diagnostic::error("E0702", format!("{} exists", dir.display()));
    Err(if ours {
        d.note("--force replaces an artifact")
    } else {
        d.note("it is no artifact, so it is left as it is; name another folder")
    })
}

/// Whether `path` can be made: the nearest folder above it that exists is one, and may be written. E0702.
pub fn check_writable(path: &Path) -> Result<(), Diagnostic> {
    let above = path.ancestors().skip(1).map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p });
    let Some(folder) = above.into_iter().find(|p| p.symlink_metadata().is_ok()) else { return Ok(()) };
    let cannot = |why: String| Diagnostic::error("E0702", format!("{} cannot be made: {} {why}", path.display(), folder.display()));
    if !folder.is_dir() {
        return Err(cannot("is not a folder".into()));
    }
    // What permissions say is not all: file systems refuse too.
    let probe = tempfile::Builder::new().prefix(".tahoma-").tempdir_in(folder);
    probe.map(drop).map_err(|e| cannot(format!("cannot be written: {}", e.kind())).caused_by(e))
}

/// A folder that goes away unless it was renamed.
struct Temporary(PathBuf);

impl Temporary {
    fn beside(dir: &Path, what: &str) -> Temporary {
        let name = dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_else(|| "artifact".into());
        Temporary(dir.with_file_name(format!(".{name}.{what}-{}", std::process::id())))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
