//! A tree in the layout of ONNX's backend tests, case by case: `DIR/<kind>/<case>/{model.onnx, test_data_set_*/{input,output}_N.pb}`.
//!
//! An output passes by ONNX's own rule, |a − b| <= atol + rtol·|b| with rtol 1e-3 and atol 1e-7 (bf16: 2^-6 for both), same type and
//! shape. Inputs whose values decide shapes (axes, sizes, counts) are given as constants where the model cannot be read without, as a
//! user would with `--constant`. Nothing is skipped: a case that cannot be run is `unsupported` (an operator or a kind of value Tahoma does not know) or `error`.

use crate::compare::compare_with;
use crate::compiler::Compiler;
use crate::interp;
use crate::target::Target;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use tahoma_core::{DType, Diagnostic, Diagnostics, Tensor, Text, Vocabulary};
use tahoma_frontend::suite::{Given, Port, name_in, operators, ports, read};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Pass,
    /// It ran and gave another answer.
    Fail,
    /// It could not be run although it should.
    Error,
    /// It needs an operator or a kind of value that Tahoma does not know.
    Unsupported,
}

#[derive(Clone, Debug, serde::Serialize)]
pub struct Case {
    /// `node/test_abs`
    pub name: String,
    pub status: Status,
    pub detail: String,
    /// Over all outputs and data sets; null where nothing was compared.
    #[serde(with = "tahoma_core::float")]
    pub max_abs_err: Option<f64>,
    /// Share of the flops on the device; null for the interpreter.
    #[serde(with = "tahoma_core::float")]
    pub on_device_share: Option<f64>,
    /// Operators of the graph with their versions: `Conv-11`.
    pub operators: Vec<String>,
    /// Kernels launched, on a device.
    pub launches: usize,
    /// Ops that ran on the host, and why, on a device.
    pub host: Vec<(String, String)>,
}

#[derive(Clone, Debug, serde::Serialize)]
pub struct Conformance {
    pub totals: BTreeMap<&'static str, usize>,
    pub cases: Vec<Case>,
}

/// Runs the cases below `dir` whose name is `wanted` on a device, in parallel; `done` is called after each with the number of cases.
/// What is compiled is compiled for `target`, or for the device's own.
pub fn conformance(
    dir: &Path,
    device: &str,
    target: Option<Target>,
    wanted: &dyn Fn(&str) -> bool,
    done: &(dyn Fn(&Case, usize) + Sync),
) -> Result<Conformance, Diagnostic> {
    tahoma_runtime::device::find(device)?;
    if device != "interp" {
        // Say at once, not 2,000 times, that a device is not there.
        tahoma_runtime::device::open(device)?;
    }
    let folders: Vec<(String, PathBuf)> = cases(dir)?.into_iter().filter(|(n, _)| wanted(n)).collect();
    if folders.is_empty() {
        return Err(Diagnostic::error("E0701", format!("no case in {}", dir.display())).note("cases are DIR/<kind>/<case>/model.onnx"));
    }
    let cases: Vec<Case> = folders
        .par_iter()
        .map(|(name, path)| {
            let case = run_case(name, path, device, target);
            done(&case, folders.len());
            case
        })
        .collect();
    let mut totals = BTreeMap::from([("cases", cases.len()), ("pass", 0), ("fail", 0), ("error", 0), ("unsupported", 0)]);
    for c in &cases {
        let key = match c.status {
            Status::Pass => "pass",
            Status::Fail => "fail",
            Status::Error => "error",
            Status::Unsupported => "unsupported",
        };
        *totals.entry(key).or_default() += 1;
    }
    Ok(Conformance { totals, cases })
}

fn listed(dir: &Path) -> Result<Vec<PathBuf>, Diagnostic> {
    let fail = |e: std::io::Error| Diagnostic::error("E0101", format!("cannot read {}: {e}", dir.display())).caused_by(e);
    let mut out = vec![];
    for e in std::fs::read_dir(dir).map_err(fail)? {
        let path = e.map_err(fail)?.path();
        if path.is_dir() {
            out.push(path);
        }
    }
    out.sort();
    Ok(out)
}

fn file_name(p: &Path) -> String {
    p.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

fn cases(dir: &Path) -> Result<Vec<(String, PathBuf)>, Diagnostic> {
    let mut out = vec![];
    for kind in listed(dir)? {
        for case in listed(&kind)? {
            if case.join("model.onnx").is_file() {
                out.push((format!("{}/{}", file_name(&kind), file_name(&case)), case));
            }
        }
    }
    Ok(out)
}

/// What one case gave.
#[derive(Default)]
struct Measured {
    max_abs: Option<f64>,
    share: Option<f64>,
    launches: usize,
    host: Vec<(String, String)>,
}

fn run_case(name: &str, path: &Path, device: &str, target: Option<Target>) -> Case {
    let mut measured = Measured::default();
    let result = catch_unwind(AssertUnwindSafe(|| check_case(path, device, target, &mut measured)));
    let (status, detail) = match result {
        Ok(Ok(None)) => (Status::Pass, String::new()),
        Ok(Ok(Some(why))) => (Status::Fail, why),
        Ok(Err(d)) => (if unsupported(&d) { Status::Unsupported } else { Status::Error }, short(&d)),
        Err(_) => (Status::Error, "panic".to_string()),
    };
    let max_abs_err = measured.max_abs.filter(|e| e.is_finite());
    let operators = operators(&path.join("model.onnx")).unwrap_or_default().into_iter().map(|(n, v)| format!("{n}-{v}")).collect();
    let Measured { share, launches, mut host, .. } = measured;
    host.sort();
    host.dedup();
    Case { name: name.into(), status, detail, max_abs_err, on_device_share: share, operators, launches, host }
}

fn unsupported(d: &Diagnostics) -> bool {
    let known = |d: &Diagnostic| matches!(d.code.as_str(), "E0201" | "E0208" | "E0211") || d.message.ends_with("string is not supported");
    let not_tensor = |d: &Diagnostic| d.message.ends_with("is not a tensor");
    d.0.iter().any(|d| known(d) || not_tensor(d))
}

fn short(d: &Diagnostics) -> String {
    d.0.iter().map(|d| format!("{}: {}", d.code, d.message)).collect::<Vec<_>>().join("; ")
}

/// `None` if every output of every data set passes, else what differs.
fn check_case(path: &Path, device: &str, target: Option<Target>, measured: &mut Measured) -> Result<Option<String>, Diagnostics> {
    let model = path.join("model.onnx");
    let mut sets: Vec<PathBuf> = listed(path)?.into_iter().filter(|p| file_name(p).starts_with("test_data_set_")).collect();
    sets.sort();
    if sets.is_empty() {
        return Err(Diagnostic::error("E0101", "no test_data_set_*").into());
    }
    for set in sets {
        // The model first: that it needs what Tahoma does not know says more than that its test data does.
        if let Err(d) = crate::model::import(&model, &Default::default())
            && unsupported(&d)
        {
            return Err(d);
        }
        let (takes, gives) = ports(&model)?;
        let (mut inputs, mut request) = (vec![], crate::model::Request::default());
        for (name, given) in numbered(&set, "input", &takes)? {
            match given {
                Given::Tensor(t) => inputs.push((name, t)),
                Given::Text(t) => {
                    request.texts.insert(name, t);
                }
            }
        }
        let want = numbered(&set, "output", &gives)?;
        let prepared = interp::prepare(&model, &request, &inputs)?;
        let (got, vocabulary) = if device == "interp" {
            (interp::evaluate(&prepared.model, &prepared.inputs)?, prepared.model.vocabulary)
        } else {
            on_device(&model, device, target, &prepared, measured)?
        };
        // A case may leave outputs out; an empty sequence or optional is no output.
        for (name, w) in &want {
            let Some((_, g)) = got.iter().find(|g| g.0 == *name) else {
                return Ok(Some(format!("output {name:?} is not given; given are {:?}", got.iter().map(|g| &g.0).collect::<Vec<_>>())));
            };
            let w = match w {
                Given::Tensor(w) => w,
                Given::Text(w) => match other_text(&vocabulary, name, g, w) {
                    None => continue,
                    why => return Ok(why),
                },
            };
            let d = compare_with(g, w, |_, b| allowed(w.dtype(), b));
            measured.max_abs = Some(measured.max_abs.unwrap_or(0.0).max(d.max_abs));
            if !d.agree {
                let why = if d.kind.is_empty() {
                    format!("{} of {} elements differ, by up to {:.3e}", d.wrong, w.len(), d.max_abs)
                } else {
                    d.kind
                };
                return Ok(Some(format!("output {name:?}: {why}")));
            }
        }
        let of_case = |name: &str| gives.iter().position(|p| name == p.name || name.starts_with(&format!("{}.", p.name)));
        if let Some((name, _)) = got.iter().find(|(n, _)| want.iter().all(|w| w.0 != *n) && of_case(n).is_some_and(|i| i < stored(&set))) {
            return Ok(Some(format!("output {name:?} is given, the case has none")));
        }
    }
    Ok(None)
}

/// How many outputs a case stores.
fn stored(set: &Path) -> usize {
    (0..).take_while(|i| set.join(format!("output_{i}.pb")).is_file()).count()
}

/// What differs between an output and the strings it should be.
fn other_text(vocabulary: &Vocabulary, name: &str, got: &Tensor, want: &Text) -> Option<String> {
    match vocabulary.text(name, got) {
        Some(t) if t == *want => None,
        Some(t) => Some(format!("output {name:?}: strings {:?} of shape {:?}, not {:?} of {:?}", t.words, t.shape, want.words, want.shape)),
        None => Some(format!("output {name:?} is {} instead of strings", got.ty())),
    }
}

fn allowed(d: DType, b: f64) -> f64 {
    let (r, a) = if d == DType::BF16 { (2f64.powi(-6), 2f64.powi(-6)) } else { (1e-3, 1e-7) };
    a + r * b.abs()
}

/// `input_0.pb`, `input_1.pb`, …: by position, unless every file has the name of a port inside (initialisers may be among the inputs).
fn numbered(set: &Path, what: &str, ports: &[Port]) -> Result<Vec<(String, Given)>, Diagnostics> {
    let files: Vec<PathBuf> = (0..).map(|i| set.join(format!("{what}_{i}.pb"))).take_while(|f| f.is_file()).collect();
    let inside: Option<Vec<&Port>> = files.iter().map(|f| name_in(f).and_then(|n| ports.iter().find(|p| p.name == n))).collect();
    let inside = inside.unwrap_or_else(|| ports.iter().collect());
    let mut out = vec![];
    for (f, port) in files.iter().zip(inside) {
        out.extend(read(f, port)?);
    }
    Ok(out)
}

fn on_device(
    model: &Path,
    device: &str,
    target: Option<Target>,
    prepared: &interp::Prepared,
    measured: &mut Measured,
) -> Result<(Vec<(String, Tensor)>, Vocabulary), Diagnostics> {
    let target =
        target.or_else(|| Target::of_device(device)).ok_or_else(|| Diagnostic::error("E0701", format!("{device} compiles nothing")))?;
    let compiled = Compiler::new(model).target(target.name()).request(&prepared.request).shapes_of(&prepared.inputs).compile()?;
    let r = &compiled.manifest.report;
    let all = r.device_flops + r.host_flops;
    measured.launches += r.launches;
    measured.host.extend(r.host_ops.iter().map(|h| (h.op.clone(), h.reason.clone())));
    measured.share = Some(if all == 0 { if r.launches > 0 { 1.0 } else { 0.0 } } else { r.device_flops as f64 / all as f64 });
    Ok((compiled.run(&prepared.inputs, device)?.0, compiled.manifest.vocabulary.clone()))
}
