//! Makes a GPU kit: cases compiled for every target, with inputs, expected outputs and cubins. What it holds is `tahoma_kit`'s to say.

mod cases;

pub use cases::{Source, sources, weights_as_inputs};

use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tahoma::{Compiled, Diagnostic, Diagnostics, Tensor, npy};
use tahoma_core::DType;
use tahoma_kit::format::{Case, Expected, FILE, Input, Kind, Kit, SCHEMA, Value};
use tahoma_kit::worker;

/// Most bytes of a kit.
pub const LIMIT: u64 = 60_000_000;
/// One for each kind of card: a card without its own takes the latest before it.
pub const TARGETS: &[&str] = &["sm_80", "sm_90a", "sm_100a", "sm_103a", "sm_120"];

/// What a case is made of, before it is written.
pub struct Draft {
    pub name: String,
    pub kind: Kind,
    pub inputs: Vec<(String, Given)>,
    /// With atol and rtol.
    pub outputs: Vec<(String, Tensor, f64, f64)>,
    /// The file that the artifacts refer to for weights.
    pub weights: Option<PathBuf>,
    /// The artifact of each target.
    pub compiled: Vec<(&'static str, Compiled)>,
}

/// An input's value: stored, or drawn from a seed where it is run.
pub enum Given {
    Stored(Tensor),
    Drawn { dtype: DType, shape: Vec<usize>, seed: u64, scale: f64 },
}

impl Given {
    pub fn tensor(&self) -> Tensor {
        match self {
            Given::Stored(t) => t.clone(),
            Given::Drawn { dtype, shape, seed, scale } => worker::drawn(*dtype, shape, *seed, *scale),
        }
    }
}

/// What to make, and of what.
pub struct Recipe<'a> {
    pub out: &'a Path,
    pub targets: &'a [&'static str],
    /// The runner's binary, to be copied.
    pub program: Option<&'a Path>,
    pub ptxas: Option<&'a Path>,
    pub limit: u64,
}

fn cannot(what: &str, path: &Path, e: impl std::error::Error + Send + Sync + 'static) -> Diagnostics {
    Diagnostic::error("E0702", format!("cannot {what} {}: {e}", path.display())).caused_by(e).into()
}

/// Makes the folder, which must not exist or be a kit, from sources in their order: what does not fit is left out and named. `say` is told
/// of each.
pub fn make(recipe: &Recipe, sources: &[Source], say: &dyn Fn(&str)) -> Result<Kit, Diagnostics> {
    let out = recipe.out;
    if out.exists() {
        if !out.join(FILE).is_file() {
            return Err(Diagnostic::error("E0702", format!("cannot replace {}: it is there and is no kit", out.display())).into());
        }
        std::fs::remove_dir_all(out).map_err(|e| cannot("replace", out, e))?;
    }
    std::fs::create_dir_all(out).map_err(|e| cannot("make", out, e))?;
    let mut fixed = vec![
        ("README.md", include_bytes!("../../runtime/kit/src/KIT.md").to_vec()),
        ("torch_times.py", include_bytes!("../../runtime/kit/src/torch_times.py").to_vec()),
        ("run.sh", b"#!/bin/sh\nkit=$(dirname \"$0\")\nexec \"$kit/tahoma-kit\" run \"$kit\" \"$@\"\n".to_vec()),
    ];
    if let Some(p) = recipe.program {
        fixed.push(("tahoma-kit", std::fs::read(p).map_err(|e| cannot("read", p, e))?));
    }
    for (name, bytes) in fixed {
        write(&out.join(name), &bytes)?;
        executable(&out.join(name), name == "run.sh" || name == "tahoma-kit")?;
    }
    let producer = concat!("tahoma ", env!("CARGO_PKG_VERSION")).to_string();
    let targets = recipe.targets.iter().map(|t| t.to_string()).collect();
    let mut kit = Kit { schema: SCHEMA, producer, targets, cases: vec![], left_out: vec![], files: BTreeMap::new() };
    if recipe.ptxas.is_none() {
        kit.left_out.push("cubins: ptxas was not at hand".into());
    }
    let (mut used, mut held) = (size(out), BTreeSet::new());
    for s in sources {
        let draft = match s.draft(recipe.targets) {
            Ok(d) => d,
            Err(d) => {
                kit.left_out.push(format!("{}: {}", s.name(), first_line(&d)));
                continue;
            }
        };
        let case = put(out, &draft, recipe.ptxas, &mut held)?;
        let now = size(out);
        if now > recipe.limit {
            std::fs::remove_dir_all(out.join("cases").join(&case.name)).map_err(|e| cannot("remove", out, e))?;
            let own = out.join("weights").join(&case.name);
            if own.is_dir() {
                std::fs::remove_dir_all(&own).map_err(|e| cannot("remove", &own, e))?;
            }
            kit.left_out.push(format!(
                "{}: {:.1} MB more would be beyond {:.0} MB",
                case.name,
                (now - used) as f64 / 1e6,
                recipe.limit as f64 / 1e6
            ));
            used = size(out);
            continue;
        }
        say(&format!("{:<44} {:8.2} MB", case.name, (now - used) as f64 / 1e6));
        used = now;
        kit.cases.push(case);
    }
    kit.cases.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    let files: Vec<String> = files(out).into_iter().filter(|f| f != FILE).collect();
    kit.files = files.into_par_iter().filter_map(|f| Some((hash(&out.join(&f))?, f))).map(|(h, f)| (f, h)).collect();
    let text = serde_json::to_string_pretty(&kit).map_err(|e| cannot("write", out, e))?;
    write(&out.join(FILE), text.as_bytes())?;
    say(&format!("{} cases, {:.1} MB in {}", kit.cases.len(), size(out) as f64 / 1e6, out.display()));
    kit.left_out.iter().for_each(|l| say(&format!("left out: {l}")));
    Ok(kit)
}

fn hash(path: &Path) -> Option<String> {
    Some(tahoma_runtime::sha256(&std::fs::read(path).ok()?))
}

/// The first line, without where the repository is.
fn first_line(d: &Diagnostics) -> String {
    let text = d.to_string();
    let line = text.lines().next().unwrap_or_default();
    let root = crate::root();
    let real = root.canonicalize().unwrap_or_else(|_| root.clone());
    line.replace(&format!("{}/", root.display()), "").replace(&format!("{}/", real.display()), "")
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Diagnostics> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).and_then(|()| std::fs::write(path, bytes)).map_err(|e| cannot("write", path, e))
}

#[cfg(unix)]
fn executable(path: &Path, yes: bool) -> Result<(), Diagnostics> {
    use std::os::unix::fs::PermissionsExt;
    let mode = if yes { 0o755 } else { 0o644 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(|e| cannot("write", path, e))
}

#[cfg(not(unix))]
fn executable(_path: &Path, _yes: bool) -> Result<(), Diagnostics> {
    Ok(())
}

/// All files below a folder, by their path in it, in order.
pub fn files(dir: &Path) -> Vec<String> {
    let (mut out, mut todo) = (vec![], vec![dir.to_path_buf()]);
    while let Some(d) = todo.pop() {
        for e in std::fs::read_dir(&d).into_iter().flatten().flatten() {
            match e.path() {
                p if p.is_dir() => todo.push(p),
                p => out.extend(p.strip_prefix(dir).ok().map(|p| p.display().to_string())),
            }
        }
    }
    out.sort();
    out
}

fn size(dir: &Path) -> u64 {
    files(dir).iter().filter_map(|f| std::fs::metadata(dir.join(f)).ok()).map(|m| m.len()).sum()
}

/// Writes a case; `held` are the kernels that have a cubin already.
fn put(out: &Path, d: &Draft, ptxas: Option<&Path>, held: &mut BTreeSet<String>) -> Result<Case, Diagnostics> {
    let base = format!("cases/{}", d.name);
    let mut case = Case {
        name: d.name.clone(),
        kind: d.kind,
        inputs: vec![],
        outputs: vec![],
        weights: None,
        artifacts: BTreeMap::new(),
        cubins: ptxas.is_some() && d.kind == Kind::Bench,
    };
    let array = |name: String, t: &Tensor| -> Result<String, Diagnostics> {
        let path = format!("{base}/{name}.npy");
        write(&out.join(&path), &[])?;
        npy::write(&out.join(&path), t)?;
        Ok(path)
    };
    for (i, (name, given)) in d.inputs.iter().enumerate() {
        let value = match given {
            Given::Stored(t) => Value::File { path: array(format!("in{i}"), t)?, dtype: t.dtype() },
            Given::Drawn { dtype, shape, seed, scale } => Value::Drawn { dtype: *dtype, shape: shape.clone(), seed: *seed, scale: *scale },
        };
        case.inputs.push(Input { name: name.clone(), value });
    }
    for (i, (name, t, atol, rtol)) in d.outputs.iter().enumerate() {
        let path = array(format!("out{i}"), t)?;
        case.outputs.push(Expected { name: name.clone(), path, dtype: t.dtype(), atol: *atol, rtol: *rtol });
    }
    if let Some(w) = &d.weights {
        let folder = format!("weights/{}", d.name);
        let to = out.join(&folder).join(w.file_name().unwrap_or_default());
        write(&to, &std::fs::read(w).map_err(|e| cannot("read", w, e))?)?;
        case.weights = Some(folder);
    }
    for (target, c) in &d.compiled {
        let folder = format!("{base}/{target}");
        let mut c = c.clone();
        // The modules that kernels were printed from are not run, and the paths of this machine are nobody's business.
        c.files.retain(|name, _| !name.ends_with(".mlir"));
        c.compact = true;
        Arc::make_mut(&mut c.manifest).weights_base = String::new();
        c.write(&out.join(&folder), false)?;
        if let Some(ptxas) = ptxas.filter(|_| case.cubins) {
            let new: Vec<(&String, String)> = c
                .files
                .iter()
                .filter(|(name, _)| name.ends_with(".ptx"))
                .map(|(name, text)| (name, tahoma_runtime::sha256(text)))
                .filter(|(_, hash)| held.insert(hash.clone()))
                .collect();
            std::fs::create_dir_all(out.join("cubins")).map_err(|e| cannot("make", out, e))?;
            new.par_iter().try_for_each(|(name, hash)| {
                let (from, to) = (out.join(&folder).join(name), out.join(worker::cubin(hash)));
                let done = Command::new(ptxas).arg(format!("-arch={target}")).arg(&from).arg("-o").arg(&to).output();
                let done = done.map_err(|e| cannot("start", ptxas, e))?;
                if done.status.success() {
                    return Ok(());
                }
                Err(Diagnostics::from(
                    Diagnostic::error("E0603", format!("ptxas refuses {}", from.display()))
                        .note(String::from_utf8_lossy(&done.stderr).trim()),
                ))
            })?;
        }
        case.artifacts.insert(target.to_string(), folder);
    }
    Ok(case)
}
