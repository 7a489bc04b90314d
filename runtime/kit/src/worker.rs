//! One case: artifact, inputs, a run that is compared, runs that are timed.

use crate::compare::compare;
use crate::format::{Case, Input, Outcome, Status, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tahoma_core::random::Random;
use tahoma_core::{DType, Diagnostic, Tensor};
use tahoma_runtime::cuda::{self, Options};
use tahoma_runtime::{Artifact, RunReport, Runner, npy, sha256};

/// How a case is run.
#[derive(Clone, Debug)]
pub struct How {
    pub target: String,
    /// Give the driver cubins instead of PTX.
    pub cubins: bool,
    /// Timed runs: until so much time has passed, and at most so many.
    pub time: Duration,
    pub most: usize,
    /// The driver library, if not the system's.
    pub library: Option<PathBuf>,
}

impl How {
    /// What an outcome calls it.
    pub fn images(&self) -> &'static str {
        if self.cubins { "cubin" } else { "ptx" }
    }
}

/// Runs a case. What goes wrong is in the outcome.
pub fn run(kit: &Path, case: &Case, how: &How) -> Outcome {
    run_case(kit, case, how).unwrap_or_else(|d| Outcome::failed(case, how.images(), Status::Error, d.to_string()))
}

fn run_case(kit: &Path, case: &Case, how: &How) -> Result<Outcome, Diagnostic> {
    let mut out = Outcome::failed(case, how.images(), Status::Pass, "");
    let none = || Diagnostic::error("E0605", format!("case {} was not compiled for {}", case.name, how.target));
    let folder = kit.join(case.artifacts.get(&how.target).ok_or_else(none)?);
    let start = Instant::now();
    let artifact = Artifact::load(&folder, case.weights.as_ref().map(|w| kit.join(w)).as_deref())?;
    let cubins = if how.cubins { cubins(kit, &artifact)? } else { BTreeMap::new() };
    let options = Options { cubins: Arc::new(cubins), library: how.library.clone(), ..Options::default() };
    let mut runner = Runner::new(artifact, cuda::open_with(&options)?)?;
    out.load_ms = start.elapsed().as_secs_f64() * 1e3;
    let given: Vec<(String, Tensor)> =
        case.inputs.iter().map(|i| Ok((i.name.clone(), value(kit, i)?))).collect::<Result<_, Diagnostic>>()?;
    let (got, report) = runner.run(&given)?;
    out.launches = report.launches;
    for e in &case.outputs {
        let want = npy::read(&kit.join(&e.path), Some(e.dtype))?;
        let found = got.iter().find(|(n, _)| *n == e.name);
        let (_, value) = found.ok_or_else(|| Diagnostic::error("E0605", format!("the artifact has no output {:?}", e.name)))?;
        let d = compare(value, &want, e);
        out.max_abs = out.max_abs.max(d.max_abs);
        out.of_allowed = out.of_allowed.max(d.of_allowed);
        if let Some(why) = d.why {
            out.status = Status::Differs;
            out.detail += &format!("{}{why}", if out.detail.is_empty() { "" } else { "; " });
        }
    }
    // What is wrong is not timed.
    if out.status == Status::Pass {
        time(&mut out, &mut runner, &given, how)?;
    }
    Ok(out)
}

fn time(out: &mut Outcome, runner: &mut Runner, given: &[(String, Tensor)], how: &How) -> Result<(), Diagnostic> {
    let (start, mut reports) = (Instant::now(), Vec::<RunReport>::new());
    while reports.len() < how.most && (reports.is_empty() || start.elapsed() < how.time) {
        reports.push(runner.run(given)?.1);
    }
    let ends = |of: &dyn Fn(&RunReport) -> f64| {
        let mut v: Vec<f64> = reports.iter().map(of).collect();
        v.sort_by(f64::total_cmp);
        [v.first().copied().unwrap_or(0.0), v.get(v.len() / 2).copied().unwrap_or(0.0)].map(|ns| ns / 1e3)
    };
    out.runs = reports.len();
    out.device_us = ends(&|r| r.device_span_ns);
    out.wall_us = ends(&|r| r.wall_ns as f64);
    if let Some(fastest) = reports.iter().min_by(|a, b| a.device_span_ns.total_cmp(&b.device_span_ns)) {
        out.kernels = fastest.kernels.iter().map(|k| (k.name.clone(), k.device_ns * k.launches as f64 / 1e3)).collect();
    }
    Ok(())
}

/// The cubins of an artifact's kernels, by the hash of the PTX. E0605 where one is missing.
fn cubins(kit: &Path, artifact: &Artifact) -> Result<BTreeMap<String, Vec<u8>>, Diagnostic> {
    let mut all = BTreeMap::new();
    for (k, text) in artifact.manifest.kernels.iter().zip(artifact.kernels.iter()) {
        let hash = sha256(text.as_bytes());
        let path = kit.join(cubin(&hash));
        let bytes =
            std::fs::read(&path).map_err(|e| Diagnostic::error("E0605", format!("{}: {e}", path.display())).caused_by(e).note(&*k.name))?;
        all.insert(hash, bytes);
    }
    Ok(all)
}

/// Where the cubin of a PTX with that hash is.
pub fn cubin(hash: &str) -> String {
    format!("cubins/{hash}.cubin")
}

/// An input's value.
pub fn value(kit: &Path, input: &Input) -> Result<Tensor, Diagnostic> {
    match &input.value {
        Value::File { path, dtype } => npy::read(&kit.join(path), Some(*dtype)),
        Value::Drawn { dtype, shape, seed, scale } => Ok(drawn(*dtype, shape, *seed, *scale)),
    }
}

/// Numbers in [-scale, scale), started at `seed`.
pub fn drawn(dtype: DType, shape: &[usize], seed: u64, scale: f64) -> Tensor {
    let mut random = Random::new(seed);
    let v: Vec<f64> = (0..shape.iter().product()).map(|_| random.signed() * scale).collect();
    Tensor::from_f64s(dtype, shape, &v)
}
