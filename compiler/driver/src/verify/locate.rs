//! Where a stage went wrong: the first node of a program, or the first kernel of an artifact, that is not what it should be.

use super::judge::{OutputReport, Rule, Verdict, judge};
use super::rounding::Bound;
use crate::compare::compare;
use crate::interp::inputs_of;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use tahoma_core::artifact::{KernelDef, Manifest, PlanStep};
use tahoma_core::eval::{Observe, Weights, run_watched};
use tahoma_core::kernel::{Body, KernelSpec};
use tahoma_core::random::Random;
use tahoma_core::{DType, Diagnostic, Graph, Node, Origin, Program, Tensor, TensorType, kernel_eval};
use tahoma_runtime::runner::match_inputs;
use tahoma_runtime::{Runner, npy};

/// The first node or kernel that differs, with what it got, what it gave and what it should have given.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Fault {
    /// Of the stage: a kernel's name, or an op.
    pub what: String,
    /// The model's nodes behind it.
    pub nodes: Vec<String>,
    pub detail: String,
    /// Whether it is wrong for certain: a kernel beside its spec, on the inputs that it got. Else it is the first value of a stage that
    /// none of the model's nodes behind it gives, and a rewrite may make such values.
    pub certain: bool,
    /// Where its values were written.
    pub kept: Option<PathBuf>,
    #[serde(skip)]
    pub(super) values: Values,
}

/// The values of a fault.
#[derive(Clone, Debug, Default)]
pub(super) struct Values {
    pub inputs: Vec<Tensor>,
    pub got: Vec<Tensor>,
    pub want: Vec<Tensor>,
}

impl Fault {
    /// Writes the values to `dir/name`: `input0.npy`, …, `got0.npy`, …, `want0.npy`, …. E0702.
    pub(super) fn keep(&mut self, dir: &Path, name: &str) -> Result<(), Diagnostic> {
        let folder = dir.join(npy::safe_name(&format!("{name}-{}", self.what), &mut BTreeSet::new()));
        std::fs::create_dir_all(&folder)
            .map_err(|e| Diagnostic::error("E0702", format!("cannot make {}: {e}", folder.display())).caused_by(e))?;
        for (what, all) in [("input", &self.values.inputs), ("got", &self.values.got), ("want", &self.values.want)] {
            for (i, t) in all.iter().enumerate() {
                npy::write(&folder.join(format!("{what}{i}.npy")), t)?;
            }
        }
        self.kept = Some(folder);
        Ok(())
    }
}

/// Most bytes of the model's values that are kept to find a node.
const MOST_BYTES: usize = 4 << 30;

/// The model's values by the node they came from.
#[derive(Default)]
struct Known {
    of: HashMap<Origin, Vec<Tensor>>,
    bytes: usize,
}

impl Observe for Known {
    fn after(&mut self, _: &Graph, n: &Node, results: &mut [Tensor]) {
        self.bytes += results.iter().map(|t| t.dtype().bytes_for(t.len())).sum::<usize>();
        if self.bytes <= MOST_BYTES && *n.origin != Origin::Unknown {
            self.of.entry((*n.origin).clone()).or_default().extend(results.iter().cloned());
        }
    }
}

/// Looks for a value of a stage that equals none of those of the nodes it came from, where one has its type and size.
struct Search<'a> {
    known: &'a Known,
    /// Kernels as wholes: inside, values are the rewrite's own.
    calls: bool,
    operands: Vec<Tensor>,
    found: Option<Fault>,
}

impl Observe for Search<'_> {
    fn before(&mut self, g: &Graph, _: &Node, operands: &mut [Tensor]) {
        if self.found.is_none() && g.name == Program::MAIN {
            self.operands = operands.to_vec();
        }
    }
    fn after(&mut self, g: &Graph, n: &Node, results: &mut [Tensor]) {
        if self.found.is_some() || g.name != Program::MAIN || (self.calls && n.op.name != "call") {
            return;
        }
        let leaves = n.origin.leaves();
        for r in results.iter() {
            let same = |t: &&Tensor| t.dtype() == r.dtype() && t.len() == r.len();
            let candidates: Vec<Tensor> =
                leaves.iter().filter_map(|o| self.known.of.get(o)).flatten().filter(same).map(|t| reshaped(t, &r.ty())).collect();
            let Some(last) = candidates.last() else { continue };
            // Near enough to say which value it is.
            if candidates.iter().any(|t| compare(r, t).wrong * 100 <= t.len()) {
                continue;
            }
            let d = compare(r, last);
            self.found = Some(Fault {
                what: n.attrs.func("callee").unwrap_or(n.op.name).to_string(),
                nodes: leaves.iter().map(|o| o.to_string()).collect(),
                detail: format!("{} of {} elements of {} differ, by up to {:.3e}", d.wrong, r.len(), r.ty(), d.max_abs),
                certain: false,
                kept: None,
                values: Values { inputs: self.operands.clone(), got: results.to_vec(), want: vec![last.clone()] },
            });
            return;
        }
    }
}

/// The first value of `stage` that none of the model's nodes behind it gives. Both are run; `calls` looks at kernels as wholes.
pub(super) fn first_node(
    reference: &Program,
    stage: &Program,
    calls: bool,
    inputs: &[(String, Tensor)],
    weights: &dyn Weights,
) -> Result<Option<Fault>, Diagnostic> {
    let mut known = Known::default();
    run_watched(reference, Program::MAIN, match_inputs(&inputs_of(reference), inputs)?, weights, &mut known)?;
    let mut search = Search { known: &known, calls, operands: vec![], found: None };
    run_watched(stage, Program::MAIN, match_inputs(&inputs_of(stage), inputs)?, weights, &mut search)?;
    Ok(search.found)
}

/// One launch beside its meaning, on the inputs it got.
#[derive(Clone, Debug, serde::Serialize)]
pub struct KernelCheck {
    pub kernel: String,
    pub verdict: Verdict,
    /// Largest |a − b|, and that as a share of the output's largest magnitude.
    #[serde(with = "tahoma_core::float")]
    pub max_abs_err: f64,
    #[serde(with = "tahoma_core::float")]
    pub of_largest: f64,
}

/// Runs again, each kernel beside its meaning on the inputs it got; the second part is the first that differs.
pub(super) fn check_kernels(runner: &mut Runner, inputs: &[(String, Tensor)]) -> Result<(Vec<KernelCheck>, Option<Fault>), Diagnostic> {
    let m: Manifest = runner.manifest().clone();
    let (mut checks, mut found): (Vec<KernelCheck>, Option<Fault>) = (vec![], None);
    runner.run_watched(
        inputs,
        Some(&mut |step, ins, outs| {
            let PlanStep::Launch { kernel, .. } = step else { return Ok(()) };
            let k = &m.kernels[*kernel];
            let mut check = KernelCheck { kernel: k.name.clone(), verdict: Verdict::Agrees, max_abs_err: 0.0, of_largest: 0.0 };
            let beside = beside_its_spec(k, ins, outs)?;
            for (i, (r, w)) in beside.outputs.iter().zip(&beside.values.want).enumerate() {
                let d = &r.difference;
                let top = w.to_f64s().iter().filter(|v| v.is_finite()).fold(0.0f64, |m, v| m.max(v.abs()));
                check.max_abs_err = check.max_abs_err.max(d.max_abs);
                check.of_largest = check.of_largest.max(if top > 0.0 { d.max_abs / top } else { 0.0 });
                check.verdict = check.verdict.max(r.verdict);
                if r.verdict == Verdict::Differs && found.is_none() {
                    found = Some(Fault {
                        what: k.name.clone(),
                        nodes: k.origin.leaves().iter().map(|o| o.to_string()).collect(),
                        detail: format!("output {i}: {}; by up to {:.3e}", r.why, d.max_abs),
                        certain: true,
                        kept: None,
                        values: beside.values.clone(),
                    });
                }
            }
            checks.push(check);
            Ok(())
        }),
    )?;
    Ok((checks, found))
}

/// A launch beside its meaning: a report for each output.
pub(crate) struct Beside {
    pub(crate) outputs: Vec<OutputReport>,
    values: Values,
}

/// Judges a launch by the kernel's spec, on the inputs it got. E0605 for a spec that does not fit them.
pub(crate) fn beside_its_spec(k: &KernelDef, ins: &[Tensor], outs: &[Tensor]) -> Result<Beside, Diagnostic> {
    let meaning = |ins: &[Tensor]| {
        kernel_eval::eval(&k.spec, ins).map_err(|e| Diagnostic::error("E0605", format!("kernel {:?}: {e}", k.name)).caused_by(e))
    };
    let inputs: Vec<Tensor> = ins.iter().zip(&k.spec.inputs).map(|(t, ty)| reshaped(t, ty)).collect();
    let want = meaning(&inputs)?;
    let got: Vec<Tensor> = outs.iter().zip(&want).map(|(g, w)| reshaped(g, &w.ty())).collect();
    let unit = (terms(&k.spec) * 2f64.powi(-24)).clamp(2f64.powi(-22), 2f64.powi(-14));
    let mut moved: Option<Vec<Vec<Tensor>>> = None;
    let mut outputs = vec![];
    for (i, (g, w)) in got.iter().zip(&want).enumerate() {
        // How far the meaning itself moves when each float it reads does, in the 22nd bit; more under long sums, of which an average
        // leaves the root (see `rounding`).
        let mut bound = |i: usize| {
            let nudged = |s: u64| inputs.iter().map(|t| nudge(t, s, unit)).collect::<Vec<_>>();
            let samples = moved.get_or_insert_with(|| (0..NUDGES).filter_map(|s| meaning(&nudged(s)).ok()).collect());
            Some(scatter(w, samples.iter().filter_map(|m| m.get(i))))
        };
        outputs.push(judge(i, &format!("output {i}"), g, w, &mut Rule { tolerance: None, bound: &mut bound }));
    }
    Ok(Beside { outputs, values: Values { inputs, got, want } })
}

/// Runs of a kernel's meaning on moved inputs.
const NUDGES: u64 = 4;

/// Terms of a kernel's longest sum.
fn terms(spec: &KernelSpec) -> f64 {
    let product = |v: &[u64]| v.iter().map(|&n| n as f64).product::<f64>();
    match &spec.body {
        Body::Rows(r) => product(&r.inner),
        Body::Contract(c) => product(&c.k).max(c.a.product.as_ref().map_or(1.0, |p| product(&p.sum))),
    }
}

/// Every float moved by `unit` of itself (nothing, where it keeps fewer bits), the direction drawn.
fn nudge(t: &Tensor, sample: u64, unit: f64) -> Tensor {
    if !t.dtype().is_float() {
        return t.clone();
    }
    let unit = match t.dtype() {
        DType::F64 => 2f64.powi(-51),
        _ => unit,
    };
    let mut random = Random::new(sample);
    let v: Vec<f64> = t.to_f64s().iter().map(|x| x * (1.0 + if random.one_in(2) { unit } else { -unit })).collect();
    Tensor::from_f64s(t.dtype(), t.shape(), &v)
}

/// How far samples scatter around `want`, and by half a unit of f32 that any result is rounded by.
fn scatter<'a>(want: &Tensor, samples: impl Iterator<Item = &'a Tensor>) -> Bound {
    let truth = want.to_f64s();
    let mut spread: Vec<f64> = vec![0.0; truth.len()];
    for s in samples {
        for ((sum, t), x) in spread.iter_mut().zip(&truth).zip(s.to_f64s()) {
            let e = if *t == x || (t.is_nan() && x.is_nan()) { 0.0 } else { x - t };
            *sum += if e.is_finite() { e * e } else { f64::INFINITY };
        }
    }
    spread
        .iter_mut()
        .zip(&truth)
        .for_each(|(s, t)| *s = (*s / NUDGES as f64).sqrt() + if t.is_finite() { t.abs() * 2f64.powi(-24) } else { 0.0 });
    Bound { truth, spread }
}

/// `t` under another shape of as many elements.
pub(super) fn reshaped(t: &Tensor, ty: &TensorType) -> Tensor {
    match ty.shape.to_static() {
        Some(s) if s != t.shape() && s.iter().product::<usize>() == t.len() => {
            let c = t.contiguous();
            c.view(&s, &tahoma_core::tensor::contiguous_strides(&s), c.offset())
        }
        _ => t.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tahoma_core::eval::NoWeights;
    use tahoma_core::{Attrs, Builder};

    /// exp, then `second`, then neg; each from a node of its own.
    fn program(second: &str) -> Program {
        let mut b = Builder::new("main");
        let mut v = b.input("x", TensorType::known(DType::F32, &[3]));
        for (i, op) in ["exp", second, "neg"].into_iter().enumerate() {
            let (name, index) = (format!("node{i}").into(), i as u32);
            b.set_origin(Arc::new(Origin::Node { model: "m".into(), index, name, op: "Op".into() }));
            v = b.op(op, &[v], Attrs::new()).unwrap();
        }
        b.output("y", v);
        Program::new(b.finish())
    }

    #[test]
    fn the_first_node_that_differs_is_named_and_kept() {
        let inputs = [("x".to_string(), Tensor::f32(&[3], vec![0.5, 1.0, 2.0]))];
        let find = |p: &Program| first_node(&program("sqrt"), p, false, &inputs, &NoWeights).unwrap();
        assert!(find(&program("sqrt")).is_none());
        let mut f = find(&program("log")).unwrap();
        assert_eq!(f.what, "log");
        assert!(f.nodes.len() == 1 && f.nodes[0].contains("node1"), "{f:?}");
        let dir = tempfile::tempdir().unwrap();
        f.keep(dir.path(), "stage").unwrap();
        let folder = f.kept.unwrap();
        let read = |n: &str| npy::read(&folder.join(n), None).unwrap().to_f32s();
        let near = |a: f32, b: f32| (a - b).abs() < 1e-6;
        assert!(near(read("got0.npy")[2], 2.0) && near(read("input0.npy")[0], 0.5f32.exp()) && near(read("want0.npy")[1], 0.5f32.exp()));
    }
}
