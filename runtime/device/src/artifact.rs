//! Artifacts from disk: a folder is believed only after its schema, its paths, its hashes and every index of its plan were checked.

use crate::map::{self, Mapped};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use tahoma_core::artifact::{Manifest, PlanStep, SCHEMA, WeightRef};
use tahoma_core::op::Kind;
use tahoma_core::{Diagnostic, Tensor};

/// Longest manifest read, and most bytes of kernel text in one artifact.
const MAX_MANIFEST: u64 = 1 << 30;

/// Where weights come from.
pub trait WeightBytes: Send + Sync {
    /// Packed bytes of a weight: `w.bytes` of them.
    fn bytes(&self, w: &WeightRef) -> Result<&[u8], Diagnostic>;
}

/// A loaded artifact.
#[derive(Clone)]
pub struct Artifact {
    pub manifest: Arc<Manifest>,
    /// Text of `manifest.kernels[i]`; kernels of one file share it by value.
    pub kernels: Arc<Vec<String>>,
    pub weights: Arc<dyn WeightBytes>,
}

fn malformed(why: impl Into<String>) -> Diagnostic {
    Diagnostic::error("E0605", why)
}

/// Lower-case hex of the SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    })
}

impl Artifact {
    /// Whether `dir` looks like an artifact.
    pub fn is_at(dir: &Path) -> bool {
        dir.join("manifest.json").is_file()
    }

    /// Loads a folder. Weight references are looked for below `weights_base`, or where they were at compile time.
    /// E0101 (unreadable), E0103 (a path leaves its folder), E0605 (malformed), E0607 (a weight differs).
    pub fn load(dir: &Path, weights_base: Option<&Path>) -> Result<Artifact, Diagnostic> {
        let file = dir.join("manifest.json");
        let bytes = map::open(&file)?;
        if bytes.len() as u64 > MAX_MANIFEST {
            return Err(malformed(format!("{} has {} bytes", file.display(), bytes.len())));
        }
        #[derive(serde::Deserialize)]
        struct Version {
            schema: u32,
        }
        let bad = |e: serde_json::Error| malformed(format!("{} is no manifest: {e}", file.display()));
        let v: Version = serde_json::from_slice(&bytes).map_err(bad)?;
        if v.schema != SCHEMA {
            let d = malformed(format!("{} has schema {}, this version reads {SCHEMA}", file.display(), v.schema));
            return Err(d.note("compile the model again"));
        }
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(bad)?;
        check(&manifest)?;
        let mut texts: BTreeMap<&str, String> = BTreeMap::new();
        for k in &manifest.kernels {
            if texts.contains_key(&*k.file) {
                continue;
            }
            let path = inside(dir, &k.file)?;
            let bytes = map::open(&path)?;
            if sha256(&bytes) != k.sha256 {
                return Err(malformed(format!("{} does not match its hash in the manifest", path.display()))
                    .note("a changed kernel is not run; compile the model again"));
            }
            let text = String::from_utf8(bytes.to_vec()).map_err(|_| malformed(format!("{} is not text", path.display())))?;
            texts.insert(&k.file, text);
        }
        let kernels = manifest.kernels.iter().map(|k| texts[&*k.file].clone()).collect();
        let base = weights_base.map_or_else(|| PathBuf::from(&manifest.weights_base), Path::to_path_buf);
        let weights = MappedWeights::open(dir, &base, &manifest.weights)?;
        Ok(Artifact { manifest: Arc::new(manifest), kernels: Arc::new(kernels), weights: Arc::new(weights) })
    }
}

/// `name` below `dir`; refuses anything that could leave it, links included. E0103.
fn inside(dir: &Path, name: &str) -> Result<PathBuf, Diagnostic> {
    let escape = || Diagnostic::error("E0103", format!("{name:?} leaves its folder {}", dir.display()));
    let relative = Path::new(name);
    let plain = relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if !plain || name.is_empty() {
        return Err(escape());
    }
    let path = dir.join(relative);
    let cannot = |p: &Path, e: std::io::Error| Diagnostic::error("E0101", format!("cannot read {}: {e}", p.display()));
    let real = path.canonicalize().map_err(|e| cannot(&path, e))?;
    let root = dir.canonicalize().map_err(|e| cannot(dir, e))?;
    if real.starts_with(root) { Ok(real) } else { Err(escape()) }
}

/// Weights in mapped files, each checked against its hash.
#[derive(Debug)]
pub struct MappedWeights(BTreeMap<String, Mapped>);

impl MappedWeights {
    /// Maps the files that `refs` name and checks every hash.
    pub fn open(artifact: &Path, base: &Path, refs: &[WeightRef]) -> Result<MappedWeights, Diagnostic> {
        let mut files = BTreeMap::new();
        for w in refs {
            if files.contains_key(&w.file) {
                continue;
            }
            let path = match w.file.strip_prefix("./") {
                Some(packed) => inside(artifact, packed)?,
                None => inside(base, &w.file).map_err(|d| d.note("name the folder of the model's weights with --weights DIR"))?,
            };
            files.insert(w.file.clone(), map::open(&path)?);
        }
        let all = MappedWeights(files);
        refs.par_iter().try_for_each(|w| {
            let have = sha256(all.bytes(w)?);
            if have == w.sha256 {
                return Ok(());
            }
            Err(Diagnostic::error("E0607", format!("weight {:?} in {} is not the one compiled", w.name, w.file))
                .note(format!("sha256 is {have}, was {}", w.sha256))
                .note("compile the model again"))
        })?;
        Ok(all)
    }
}

impl WeightBytes for MappedWeights {
    fn bytes(&self, w: &WeightRef) -> Result<&[u8], Diagnostic> {
        let file = self.0.get(&w.file).ok_or_else(|| malformed(format!("no file {:?}", w.file)))?;
        let range = usize::try_from(w.offset).ok().zip(usize::try_from(w.bytes).ok());
        range.and_then(|(at, n)| file.get(at..at.checked_add(n)?)).ok_or_else(|| {
            Diagnostic::error("E0607", format!("weight {:?}: {} ends before byte {}", w.name, w.file, w.offset.saturating_add(w.bytes)))
        })
    }
}

/// The weight as a tensor of its buffer's type.
pub(crate) fn tensor_of(m: &Manifest, w: &WeightRef, weights: &dyn WeightBytes) -> Result<Tensor, Diagnostic> {
    let ty = &m.buffers[w.buffer].ty;
    let shape = ty.shape.to_static().unwrap_or_default();
    Tensor::from_bytes(ty.dtype, &shape, weights.bytes(w)?)
        .ok_or_else(|| malformed(format!("weight {:?} has {} bytes, which is no {ty}", w.name, w.bytes)))
}

/// Checks everything the runner relies on: indices, types of launches, and that each buffer is made once, before it is read.
pub fn check(m: &Manifest) -> Result<(), Diagnostic> {
    let count = m.buffers.len();
    for (i, b) in m.buffers.iter().enumerate() {
        if let Some(a) = b.alias {
            known(m, a, "an alias")?;
            let root = &m.buffers[a];
            if root.alias.is_some() || root.ty.dtype != b.ty.dtype || root.ty.bytes().is_none() || root.ty.bytes() != b.ty.bytes() {
                return Err(malformed(format!("buffer {i} is no other view of buffer {a}")));
            }
        }
    }
    let mut made = vec![false; count];
    for w in &m.weights {
        make(m, &mut made, w.buffer, "a weight")?;
        if m.buffers[w.buffer].ty.bytes() != Some(w.bytes) {
            return Err(malformed(format!("weight {:?} has {} bytes, which is no {}", w.name, w.bytes, m.buffers[w.buffer].ty)));
        }
    }
    check_steps(m, &m.load, &mut made, 0)?;
    if m.load.iter().any(|s| !matches!(s, PlanStep::Host { .. })) {
        return Err(malformed("a launch or a branch among the load steps"));
    }
    for p in &m.inputs {
        make(m, &mut made, p.buffer, "an input")?;
    }
    check_steps(m, &m.run, &mut made, 0)?;
    m.outputs.iter().try_for_each(|p| read(m, &made, p.buffer, &format!("output {:?}", p.name)))
}

/// Deepest nesting of branches.
const MAX_DEPTH: usize = 64;

fn known(m: &Manifest, b: usize, what: &str) -> Result<(), Diagnostic> {
    let count = m.buffers.len();
    if b < count { Ok(()) } else { Err(malformed(format!("{what} names buffer {b} of {count}"))) }
}

fn make(m: &Manifest, made: &mut [bool], b: usize, what: &str) -> Result<(), Diagnostic> {
    known(m, b, what)?;
    if m.buffers[b].alias.is_some() || std::mem::replace(&mut made[b], true) {
        return Err(malformed(format!("buffer {b} is made twice")));
    }
    Ok(())
}

fn read(m: &Manifest, made: &[bool], b: usize, what: &str) -> Result<(), Diagnostic> {
    known(m, b, what)?;
    if made[m.buffers[b].alias.unwrap_or(b)] { Ok(()) } else { Err(malformed(format!("{what} reads buffer {b} before it is made"))) }
}

/// Steps in order: each buffer is made once, before it is read; what a branch makes is seen in that branch only.
fn check_steps(m: &Manifest, steps: &[PlanStep], made: &mut [bool], depth: usize) -> Result<(), Diagnostic> {
    if depth > MAX_DEPTH {
        return Err(malformed(format!("branches are nested more than {MAX_DEPTH} deep")));
    }
    for s in steps {
        s.inputs().iter().try_for_each(|&b| read(m, made, b, "a step"))?;
        if let PlanStep::If { inputs, then, otherwise, outputs } = s {
            let given: Vec<usize> = inputs.iter().map(|&b| m.buffers[b].alias.unwrap_or(b)).collect();
            for branch in [then, otherwise] {
                // What the step does not list is not there; what was made outside is not made again.
                let mut inside = made.to_vec();
                check_steps(m, &branch.steps, &mut inside, depth + 1)?;
                branch.results.iter().try_for_each(|&b| read(m, &inside, b, "a branch"))?;
                let own: Vec<usize> = branch.steps.iter().flat_map(PlanStep::outputs).copied().collect();
                let reads = branch.steps.iter().flat_map(PlanStep::inputs).chain(&branch.results).map(|&b| m.buffers[b].alias.unwrap_or(b));
                if reads.into_iter().any(|b| !own.contains(&b) && !given.contains(&b)) {
                    return Err(malformed("a branch reads a buffer that its step does not name"));
                }
                let fits = |(&o, &r): (&usize, &usize)| m.buffers.get(o).is_some_and(|o| o.ty.dtype == m.buffers[r].ty.dtype);
                if branch.results.len() != outputs.len() || !outputs.iter().zip(&branch.results).all(fits) {
                    return Err(malformed("a branch gives other results than its step"));
                }
            }
        }
        if let PlanStep::Loop { .. } = s {
            check_loop(m, s, made, depth)?;
        }
        s.outputs().iter().try_for_each(|&b| make(m, made, b, "a step"))?;
        check_step(m, s, s.inputs(), s.outputs())?;
    }
    Ok(())
}

/// A loop: state keeps its type, rows are rows, and the steps see only what the loop lists and what it makes.
fn check_loop(m: &Manifest, s: &PlanStep, made: &[bool], depth: usize) -> Result<(), Diagnostic> {
    let PlanStep::Loop { trips, inputs, states, rows, stacks, steps, outputs } = s else { return Ok(()) };
    if *trips as u64 > tahoma_core::ops::scan::MAX_TRIPS {
        return Err(malformed(format!("a loop of {trips} runs")));
    }
    let root = |b: usize| m.buffers[b].alias.unwrap_or(b);
    let given: Vec<usize> = inputs.iter().map(|&b| root(b)).collect();
    let listed = |b: usize, what: &str| {
        known(m, b, what)?;
        if given.contains(&root(b)) { Ok(()) } else { Err(malformed(format!("{what} is buffer {b}, which the loop does not name"))) }
    };
    let mut inside = made.to_vec();
    let mut own: Vec<usize> = steps.iter().flat_map(PlanStep::outputs).copied().collect();
    for s in states {
        listed(s.start, "the start of a state")?;
        make(m, &mut inside, s.buffer, "a loop")?;
        own.push(s.buffer);
    }
    for r in rows {
        listed(r.of, "what rows are taken of")?;
        make(m, &mut inside, r.row, "a loop")?;
        own.push(r.row);
    }
    check_steps(m, steps, &mut inside, depth + 1)?;
    let results: Vec<usize> = states.iter().map(|s| s.next).chain(stacks.iter().map(|s| s.row)).collect();
    results.iter().try_for_each(|&b| read(m, &inside, b, "a loop"))?;
    if steps.iter().flat_map(PlanStep::inputs).chain(&results).any(|&b| !own.contains(&root(b)) && !given.contains(&root(b))) {
        return Err(malformed("a loop reads a buffer that its step does not name"));
    }
    if outputs.len() != results.len() {
        return Err(malformed("a loop gives other results than its step"));
    }
    outputs.iter().try_for_each(|&b| known(m, b, "a loop"))?;
    let size = |b: usize| (m.buffers[b].ty.dtype, m.buffers[b].ty.bytes());
    let same = |a: usize, b: usize| size(a) == size(b) && size(a).1.is_some();
    let kept = |s: (&tahoma_core::artifact::State, &usize)| [s.0.start, s.0.next, *s.1].iter().all(|&b| same(b, s.0.buffer));
    if !states.iter().zip(outputs).all(kept) {
        return Err(malformed("a state changes its type"));
    }
    // Rows lie one after the other, so a row must be whole bytes.
    let is_row = |row: usize, of: usize| {
        let (r, w) = (&m.buffers[row].ty, &m.buffers[of].ty);
        let all = r.bytes().and_then(|n| n.checked_mul(*trips as u64));
        let whole = r.shape.elements().is_some_and(|n| n.checked_mul(r.dtype.bits() as u64).is_some_and(|bits| bits % 8 == 0));
        let extent = w.shape.0.first().and_then(|d| d.known());
        r.dtype == w.dtype && whole && all.is_some() && all == w.bytes() && extent == Some(*trips as u64)
    };
    let piles = stacks.iter().map(|s| s.row).zip(outputs[states.len()..].iter().copied());
    if !rows.iter().map(|r| (r.row, r.of)).chain(piles).all(|(r, w)| is_row(r, w)) {
        return Err(malformed("a row that is none of its whole"));
    }
    Ok(())
}

fn check_step(m: &Manifest, s: &PlanStep, inputs: &[usize], outputs: &[usize]) -> Result<(), Diagnostic> {
    match s {
        PlanStep::Launch { kernel, .. } => {
            let k = m.kernels.get(*kernel).ok_or_else(|| malformed(format!("a step launches kernel {kernel} of {}", m.kernels.len())))?;
            let fits = |bufs: &[usize], types: &[tahoma_core::TensorType]| {
                bufs.len() == types.len()
                    && bufs
                        .iter()
                        .zip(types)
                        .all(|(&b, t)| t.shape.is_static() && m.buffers[b].ty.dtype == t.dtype && m.buffers[b].ty.bytes() == t.bytes())
            };
            if !fits(inputs, &k.spec.inputs) || !fits(outputs, &k.spec.outputs) {
                return Err(malformed(format!("a launch of {} with buffers of other types", k.name)));
            }
        }
        PlanStep::Host { op, attrs, .. } => {
            tahoma_core::graph::check_signature(op.0, inputs.len(), attrs).map_err(|e| malformed(e.message))?;
            if matches!(op.kind, Kind::Structure) {
                for f in attrs.0.values() {
                    if let tahoma_core::Attr::Func(f) = f
                        && !m.functions.contains_key(&**f)
                    {
                        return Err(malformed(format!("no function @{f}")));
                    }
                }
            }
        }
        PlanStep::Loop { .. } => {}
        PlanStep::If { .. } => {
            let cond = inputs.first().map(|&b| &m.buffers[b].ty);
            if cond.is_none_or(|t| t.dtype != tahoma_core::DType::Bool) {
                return Err(malformed("a branch without a bool to decide it"));
            }
        }
    }
    Ok(())
}
