//! Artifacts, from a folder or from memory: believed only after their hashes, their schema, their paths and everything their plan says
//! were checked.

use crate::check::malformed;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use tahoma_core::artifact::{MANIFEST, MANIFEST_HASH, Manifest, SCHEMA, WeightRef};
use tahoma_core::file::{self, Readable};
use tahoma_core::{Diagnostic, Tensor};

pub use crate::check::{MAX_DEPTH, check};

/// Longest manifest read, and longest text of one kernel, in bytes.
const MAX_MANIFEST: u64 = 1 << 30;
const MAX_KERNEL: u64 = 1 << 28;

/// Where weights come from.
pub trait WeightBytes: Send + Sync {
    /// Packed bytes of a weight: `w.bytes` of them, whose hash is `w.sha256`. E0101, E0607.
    fn bytes(&self, w: &WeightRef) -> Result<Cow<'_, [u8]>, Diagnostic>;
}

/// A loaded artifact.
#[derive(Clone)]
pub struct Artifact {
    pub manifest: Arc<Manifest>,
    /// Text of `manifest.kernels[i]`; kernels of one file share it by value.
    pub kernels: Arc<Vec<String>>,
    pub weights: Arc<dyn WeightBytes>,
    /// Files that are not as the compiler wrote them, by their path in the artifact. Empty unless [`Artifact::load_edited`] loaded it.
    pub edited: Vec<String>,
}

/// Lower-case hex of the SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    })
}

/// Text of the file beside a manifest that holds its hash, as `sha256sum -c` reads it. It tells an edit; it is no signature.
pub fn manifest_hash(manifest: &[u8]) -> String {
    format!("{}  {MANIFEST}\n", sha256(manifest))
}

impl Artifact {
    /// Whether `dir` looks like an artifact.
    pub fn is_at(dir: &Path) -> bool {
        dir.join(MANIFEST).is_file()
    }

    /// Loads a folder. Weight references are looked for below `weights_base`, or where they were at compile time; their hashes are
    /// checked when they are read. E0101 (unreadable), E0103 (a path leaves its folder), E0605 (malformed, or edited), E0607 (a file of
    /// weights is too short).
    pub fn load(dir: &Path, weights_base: Option<&Path>) -> Result<Artifact, Diagnostic> {
        Artifact::read(Files::Folder(dir), weights_base, false)
    }

    /// [`Artifact::load`] for people who work on kernels: manifest and kernels may differ from their hashes. All other checks hold.
    pub fn load_edited(dir: &Path, weights_base: Option<&Path>) -> Result<Artifact, Diagnostic> {
        Artifact::read(Files::Folder(dir), weights_base, true)
    }

    /// An artifact whose files are in memory, each with its path in the artifact's folder: `manifest.json`, `manifest.sha256` and the
    /// kernels. A file of weights goes by the name that the manifest has for it: packed weights by their path in the folder, others as
    /// they are below the model's folder. What the manifest does not name is let go. All checks and errors are those of
    /// [`Artifact::load`]; a file that is missing is E0101.
    ///
    /// ```
    /// # use tahoma_runtime::Artifact;
    /// // In a program the bytes are include_bytes!("../out/manifest.json").as_slice(), …
    /// let files: [(&str, &'static [u8]); 2] = [("manifest.json", b"{}"), ("manifest.sha256", b"")];
    /// let refused = Artifact::from_bytes(files).err().map(|d| d.code);
    /// assert_eq!(refused.as_deref(), Some("E0605"));
    /// ```
    pub fn from_bytes<N, B>(files: impl IntoIterator<Item = (N, B)>) -> Result<Artifact, Diagnostic>
    where
        N: Into<String>,
        B: Into<Cow<'static, [u8]>>,
    {
        let files = files.into_iter().map(|(name, bytes)| (name.into(), bytes.into())).collect();
        Artifact::read(Files::Memory(files), None, false)
    }

    fn read(files: Files, weights_base: Option<&Path>, allow_edited: bool) -> Result<Artifact, Diagnostic> {
        let mut edited = vec![];
        let mut differs = |name: &str, d: Diagnostic| {
            if !allow_edited {
                return Err(d
                    .note("--allow-edited runs what people changed; tahoma verify ARTIFACT checks it")
                    .note("or compile the model again"));
            }
            edited.push(name.to_string());
            Ok(())
        };
        let path = files.path(MANIFEST);
        let bytes = files.read(MANIFEST, MAX_MANIFEST)?;
        let hash = files.read(MANIFEST_HASH, 1 << 10);
        if hash.ok().is_none_or(|h| *h != *manifest_hash(&bytes).as_bytes()) {
            differs(MANIFEST, malformed(format!("{} does not match its hash in {MANIFEST_HASH}", path.display())))?;
        }
        let manifest = parse(&bytes, &path)?;
        check(&manifest)?;
        let mut texts: BTreeMap<&str, String> = BTreeMap::new();
        for k in &manifest.kernels {
            if texts.contains_key(&*k.file) {
                continue;
            }
            let path = files.path(&k.file);
            let bytes = files.read(&k.file, MAX_KERNEL)?;
            if sha256(&bytes) != k.sha256 {
                differs(&k.file, malformed(format!("{} does not match its hash in the manifest", path.display())))?;
            }
            let text = String::from_utf8(bytes.into_owned())
                .map_err(|e| malformed(format!("{} is not text", path.display())).caused_by(e.utf8_error()))?;
            texts.insert(&k.file, text);
        }
        let kernels = manifest.kernels.iter().map(|k| texts[&*k.file].clone()).collect();
        let weights = files.weights(&manifest, weights_base)?;
        edited.sort();
        Ok(Artifact { manifest: Arc::new(manifest), kernels: Arc::new(kernels), weights, edited })
    }
}

/// Files by name.
type InMemory = BTreeMap<String, Cow<'static, [u8]>>;

/// Where the files of an artifact are.
enum Files<'a> {
    Folder(&'a Path),
    Memory(InMemory),
}

impl Files<'_> {
    /// What errors call a file.
    fn path(&self, name: &str) -> PathBuf {
        match self {
            Files::Folder(dir) => dir.join(name),
            Files::Memory(_) => name.into(),
        }
    }
    /// The bytes of a file, of at most `most`. E0101, E0103, E0107.
    fn read(&self, name: &str, most: u64) -> Result<Cow<'_, [u8]>, Diagnostic> {
        match self {
            // A link to a manifest may lead anywhere, one that a manifest names may not.
            Files::Folder(dir) if [MANIFEST, MANIFEST_HASH].contains(&name) => file::read(&dir.join(name), most).map(Cow::Owned),
            Files::Folder(dir) => file::read(&inside(dir, name)?, most).map(Cow::Owned),
            Files::Memory(files) => {
                let bytes = given(files, name)?;
                file::at_most(Path::new(name), bytes.len() as u64, most)?;
                Ok(Cow::Borrowed(bytes))
            }
        }
    }
    /// The weights of a manifest, all there and long enough.
    fn weights(self, m: &Manifest, base: Option<&Path>) -> Result<Arc<dyn WeightBytes>, Diagnostic> {
        match self {
            Files::Folder(dir) => {
                let base = base.map_or_else(|| PathBuf::from(&m.weights_base), Path::to_path_buf);
                Ok(Arc::new(FileWeights::open(dir, &base, &m.weights)?))
            }
            Files::Memory(mut files) => {
                for w in &m.weights {
                    long_enough(w, given(&files, name_in_memory(w))?.len() as u64)?;
                }
                let used: BTreeSet<&str> = m.weights.iter().map(name_in_memory).collect();
                files.retain(|name, _| used.contains(&**name));
                Ok(Arc::new(MemoryWeights(files)))
            }
        }
    }
}

/// Packed weights are in the artifact's folder.
fn name_in_memory(w: &WeightRef) -> &str {
    w.file.strip_prefix("./").unwrap_or(&w.file)
}

fn given<'a>(files: &'a InMemory, name: &str) -> Result<&'a Cow<'static, [u8]>, Diagnostic> {
    if !is_plain(name) {
        return Err(Diagnostic::error("E0103", format!("{name:?} leaves its folder")));
    }
    files.get(name).ok_or_else(|| {
        let all: Vec<&str> = files.keys().map(|k| &**k).collect();
        Diagnostic::error("E0101", format!("no file {name:?} is given")).note(format!("given are {}", all.join(", ")))
    })
}

/// The manifest of a folder, checked, whether or not it was edited. E0101, E0605.
pub fn manifest_of(dir: &Path) -> Result<Manifest, Diagnostic> {
    let path = dir.join(MANIFEST);
    let m = parse(&file::read(&path, MAX_MANIFEST)?, &path)?;
    check(&m)?;
    Ok(m)
}

fn parse(bytes: &[u8], path: &Path) -> Result<Manifest, Diagnostic> {
    #[derive(serde::Deserialize)]
    struct Version {
        schema: u32,
    }
    let bad = |e: serde_json::Error| malformed(format!("{} is no manifest: {e}", path.display())).caused_by(e);
    let v: Version = serde_json::from_slice(bytes).map_err(bad)?;
    if v.schema != SCHEMA {
        let d = malformed(format!("{} has schema {}, this version reads {SCHEMA}", path.display(), v.schema));
        return Err(d.note("compile the model again"));
    }
    serde_json::from_slice(bytes).map_err(bad)
}

/// Whether a name stays in the folder that it is looked for in, links aside.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && Path::new(name).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir))
}

/// `name` below `dir`; refuses anything that could leave it, links included. E0103.
pub fn inside(dir: &Path, name: &str) -> Result<PathBuf, Diagnostic> {
    let escape = || Diagnostic::error("E0103", format!("{name:?} leaves its folder {}", dir.display()));
    if !is_plain(name) {
        return Err(escape());
    }
    let path = dir.join(name);
    let cannot = |p: &Path, e: std::io::Error| Diagnostic::error("E0101", format!("cannot read {}: {e}", p.display())).caused_by(e);
    let real = path.canonicalize().map_err(|e| cannot(&path, e))?;
    let root = dir.canonicalize().map_err(|e| cannot(dir, e))?;
    if real.starts_with(root) { Ok(real) } else { Err(escape()) }
}

/// Weights in files, each read where it is needed and checked against its hash then: what was checked is what is used.
#[derive(Debug)]
pub struct FileWeights(BTreeMap<String, Readable>);

impl FileWeights {
    /// Opens the files that `refs` name, each of which must be long enough.
    pub fn open(artifact: &Path, base: &Path, refs: &[WeightRef]) -> Result<FileWeights, Diagnostic> {
        let mut files: BTreeMap<String, Readable> = BTreeMap::new();
        for w in refs {
            if !files.contains_key(&w.file) {
                let path = match w.file.strip_prefix("./") {
                    Some(packed) => inside(artifact, packed)?,
                    None => inside(base, &w.file).map_err(|d| d.note("name the folder of the model's weights with --weights DIR"))?,
                };
                files.insert(w.file.clone(), file::open(&path)?);
            }
            long_enough(w, files[&w.file].len())?;
        }
        Ok(FileWeights(files))
    }
}

impl WeightBytes for FileWeights {
    fn bytes(&self, w: &WeightRef) -> Result<Cow<'_, [u8]>, Diagnostic> {
        let file = self.0.get(&w.file).ok_or_else(|| malformed(format!("no file {:?}", w.file)))?;
        compiled_with(w, file.part(w.offset, w.bytes)?.into())
    }
}

/// Weights in memory, checked like [`FileWeights`].
struct MemoryWeights(InMemory);

impl WeightBytes for MemoryWeights {
    fn bytes(&self, w: &WeightRef) -> Result<Cow<'_, [u8]>, Diagnostic> {
        let file = given(&self.0, name_in_memory(w))?;
        long_enough(w, file.len() as u64)?;
        let (at, n) = (w.offset as usize, w.bytes as usize);
        compiled_with(w, file[at..at + n].into())
    }
}

/// E0607 where a file of so many bytes ends before the weight does.
fn long_enough(w: &WeightRef, bytes: u64) -> Result<(), Diagnostic> {
    if w.offset.checked_add(w.bytes).is_none_or(|end| end > bytes) {
        let end = w.offset.saturating_add(w.bytes);
        return Err(Diagnostic::error("E0607", format!("weight {:?}: {} ends before byte {end}", w.name, w.file)));
    }
    Ok(())
}

/// The bytes, if they are those of the weight. E0607.
fn compiled_with<'a>(w: &WeightRef, bytes: Cow<'a, [u8]>) -> Result<Cow<'a, [u8]>, Diagnostic> {
    let have = sha256(&bytes);
    if have != w.sha256 {
        return Err(Diagnostic::error("E0607", format!("weight {:?} in {} is not the one compiled", w.name, w.file))
            .note(format!("sha256 is {have}, was {}", w.sha256))
            .note("compile the model again"));
    }
    Ok(bytes)
}

/// The weight as a tensor of its buffer's type.
pub(crate) fn tensor_of(m: &Manifest, w: &WeightRef, weights: &dyn WeightBytes) -> Result<Tensor, Diagnostic> {
    let ty = &m.buffers[w.buffer].ty;
    let shape = ty.shape.to_static().unwrap_or_default();
    Tensor::from_bytes(ty.dtype, &shape, &weights.bytes(w)?)
        .ok_or_else(|| malformed(format!("weight {:?} has {} bytes, which is no {ty}", w.name, w.bytes)))
}
