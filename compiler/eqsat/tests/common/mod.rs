//! Whether two programs mean the same.
//!
//! At `exact` every output has the same bits (any NaN is as good as another; zeros keep their sign).
//!
//! At `reassociate` the optimised program is held to the bound that is promised ([`tahoma_eqsat::bound`]), twice: the program itself, in
//! its own types; and the program with f64 for every float, optimised as that and off by 2⁻⁴⁰: rounding is at 2⁻⁵³, so thousands of
//! roundings fit below what is allowed, and no wrong formula does.
//!
//! Kernels are evaluated as ops and by their specs, both times. An element that jumps when its operands move (a floor at a whole
//! number, a comparison of equals) is allowed the jump it makes.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::sync::Arc;
use tahoma_core::artifact::Numerics;
use tahoma_core::eval::Weights;
use tahoma_core::op::EvalArgs;
use tahoma_core::{DType, Program, Tensor, form, kernel_eval};
use tahoma_eqsat::bound::{Bound, Roundings, bound, wide, widened};
use tahoma_eqsat::span::{Span, extraordinary_tensor};
use tahoma_eqsat::{Options, Report, Roofline, TRN2, TargetCost, optimize, rules};

/// Values of a program's inputs and weights.
#[derive(Clone, Default)]
pub(crate) struct Values {
    pub(crate) inputs: Vec<Tensor>,
    pub(crate) weights: BTreeMap<String, Tensor>,
}

impl Values {
    /// The same numbers with floats as f64.
    fn widened(&self) -> Values {
        let weights = self.weights.iter().map(|(n, t)| (n.clone(), wide(t)));
        Values { inputs: self.inputs.iter().map(wide).collect(), weights: weights.collect() }
    }
    /// What the search is told of weights.
    pub(crate) fn spans(&self) -> Arc<BTreeMap<String, Span>> {
        Arc::new(self.weights.iter().filter_map(|(n, t)| Some((n.clone(), extraordinary_tensor(t)?))).collect())
    }
}

impl Weights for Values {
    fn get(&self, name: &str) -> Result<Tensor, tahoma_core::Diagnostic> {
        self.weights.get(name).cloned().ok_or_else(|| tahoma_core::Diagnostic::error("E0210", name))
    }
}

/// How the functions of a program are evaluated.
#[derive(Clone, Copy, PartialEq)]
enum Calls {
    /// Op by op.
    Ops,
    /// Kernels by their specs.
    Specs,
}

/// Evaluates `main`.
fn evaluate(p: &Program, f: &str, v: &Values, calls: Calls) -> Result<Vec<Tensor>, String> {
    let g = &p.functions[f];
    let mut env: Vec<Option<Tensor>> = vec![None; g.types.len()];
    g.inputs.iter().zip(&v.inputs).for_each(|(i, t)| env[i.value.index()] = Some(t.clone()));
    for n in &g.nodes {
        let operands: Vec<Tensor> = n.operands.iter().map(|o| env[o.index()].clone().unwrap()).collect();
        let results = match (n.op.name, n.attrs.func("callee")) {
            ("weight", _) => vec![v.weights[n.attrs.str("name").unwrap()].clone()],
            ("call", Some(k)) if calls == Calls::Specs => {
                let spec = form::form(&p.functions[k], k).map_err(|e| format!("@{k}: {e}"))?;
                kernel_eval::eval(&spec, &operands).map_err(|e| format!("@{k}: {e}"))?
            }
            ("call", Some(k)) => evaluate(p, k, &Values { inputs: operands, weights: BTreeMap::new() }, calls)?,
            _ => (n.op.eval)(&EvalArgs { operands: &operands, attrs: &n.attrs }).map_err(|e| format!("{}: {e}", n.op.name))?,
        };
        for (r, t) in n.results.iter().zip(results) {
            env[r.index()] = Some(t);
        }
    }
    Ok(g.outputs.iter().map(|o| env[o.value.index()].clone().unwrap()).collect())
}

fn plain(p: &Program, v: &Values, calls: Calls) -> Result<Vec<Tensor>, String> {
    evaluate(p, Program::MAIN, v, calls)
}

fn same_bits(want: &[Tensor], got: &[Tensor]) -> Result<(), String> {
    if want.len() != got.len() {
        return Err(format!("{} outputs became {}", want.len(), got.len()));
    }
    for (i, (x, y)) in want.iter().zip(got).enumerate() {
        if x.ty() != y.ty() {
            return Err(format!("output {i}: {} became {}", x.ty(), y.ty()));
        }
        for (j, (p, q)) in x.to_f64s().iter().zip(y.to_f64s()).enumerate() {
            if p.to_bits() != q.to_bits() && !(p.is_nan() && q.is_nan()) {
                return Err(format!("output {i} element {j}: {p:e} became {q:e}"));
            }
        }
        // Beyond 2⁵³ f64 does not tell integers apart.
        if !x.dtype().is_float() && x.contiguous().to_bytes() != y.contiguous().to_bytes() {
            return Err(format!("output {i}: integers differ"));
        }
    }
    Ok(())
}

/// What a source computes on one set of values.
pub(crate) struct Reference {
    values: Values,
    native: Vec<Tensor>,
    /// How far each element may be off. `None` where the bound says nothing.
    bound: Option<Bound>,
    /// The same for the program with f64 for every float.
    wide: Option<(Values, Bound)>,
}

/// What an f64 program's results may be off by: relative, and for each operand of each op too.
const FORMULA: f64 = 1.0 / (1u64 << 40) as f64;

impl Reference {
    /// `None` where the program does not run on these values. `exact`: bits are all that will be asked for.
    pub(crate) fn new(p: &Program, values: Values, exact: bool) -> Option<Reference> {
        let native = plain(p, &values, Calls::Ops).ok()?;
        let mut r = Reference { values, native, bound: None, wide: None };
        if !exact {
            r.bound = bound(p, &r.values.inputs, &r.values, Roundings::OfTypes);
            let v = r.values.widened();
            r.wide = bound(&widened(p), &v.inputs, &v, Roundings::Each(FORMULA)).map(|b| (v, b));
        }
        Some(r)
    }
    /// Without a look at f64.
    pub(crate) fn native(p: &Program, values: Values) -> Option<Reference> {
        let native = plain(p, &values, Calls::Ops).ok()?;
        let bound = bound(p, &values.inputs, &values, Roundings::OfTypes);
        Some(Reference { values, native, bound, wide: None })
    }
    pub(crate) fn is_bounded(&self) -> bool {
        self.bound.is_some()
    }
    /// Whether an optimised program computes the same.
    pub(crate) fn check(&self, q: &Program, class: Numerics) -> Result<(), String> {
        let got = plain(q, &self.values, Calls::Ops)?;
        if class == Numerics::Exact {
            same_bits(&self.native, &got)?;
        }
        if let Some(b) = self.bound.as_ref().filter(|_| class <= Numerics::Reassociate) {
            b.holds(&got).map_err(|e| format!("as ops: {e}"))?;
            b.holds(&plain(q, &self.values, Calls::Specs)?).map_err(|e| format!("by kernels: {e}"))?;
        }
        Ok(())
    }
    /// Whether the optimised program of f64s computes the same.
    pub(crate) fn check_wide(&self, q: &Program) -> Result<(), String> {
        let Some((v, b)) = &self.wide else { return Ok(()) };
        b.holds(&plain(q, v, Calls::Ops)?).map_err(|e| format!("in f64, as ops: {e}"))?;
        b.holds(&plain(q, v, Calls::Specs)?).map_err(|e| format!("in f64, by kernels: {e}"))
    }
    /// Elements of the outputs; those that have a bound in f64, and in the program's own types.
    pub(crate) fn judged(&self) -> [usize; 3] {
        let finite = |b: &Bound| b.may.iter().flatten().filter(|m| m.is_finite()).count();
        let all = self.native.iter().map(Tensor::len).sum();
        [all, self.wide.as_ref().map_or(0, |w| finite(&w.1)), self.bound.as_ref().map_or(0, finite)]
    }
}

type Spans = Arc<BTreeMap<String, Span>>;

fn optimised(p: &Program, target: &dyn TargetCost, class: Numerics, weights: Spans) -> Result<(Program, Report), String> {
    let options = Options { numerics: class, weights, ..Options::new(target) };
    let (q, report) = optimize(p, &options).map_err(|e| e.to_string())?;
    if !report.faults.is_empty() {
        return Err(format!("{:?}", report.faults));
    }
    if report.chosen_ns > report.greedy_ns + 1e-6 || report.chosen_ns > report.unfused_ns + 1e-6 {
        return Err(format!("{} ns, greedy {} ns, unfused {} ns", report.chosen_ns, report.greedy_ns, report.unfused_ns));
    }
    Ok((q, report))
}

/// Optimises and holds the result to what the source computes.
pub(crate) fn check(p: &Program, target: &Roofline, class: Numerics, all: &[Reference]) -> Result<(Program, Report), String> {
    let spans = all.first().map(|r| r.values.spans()).unwrap_or_default();
    let (q, report) = optimised(p, target, class, spans.clone())?;
    for (i, r) in all.iter().enumerate() {
        r.check(&q, class).map_err(|e| format!("values {i}: {e}"))?;
    }
    if class > Numerics::Exact && all.iter().any(|r| r.wide.is_some()) {
        let computes = |d: DType| d == DType::F64 || (TRN2.computes)(d);
        let target = if (target.computes)(DType::F64) { target.clone() } else { Roofline { computes, ..target.clone() } };
        let (q, _) = optimised(&widened(p), &target, class, spans)?;
        for (i, r) in all.iter().enumerate() {
            r.check_wide(&q).map_err(|e| format!("values {i}: {e}"))?;
        }
    }
    Ok((q, report))
}

/// The classes that allow different things: one that adds no rule to the class before is the same.
pub(crate) fn classes() -> Vec<Numerics> {
    let has_rules = |c: &Numerics| rules::all().any(|r| r.class == *c) || rules::codes().any(|r| r.class == *c);
    [Numerics::Exact, Numerics::Reassociate, Numerics::Fast].into_iter().filter(has_rules).collect()
}
