//! Whether two programs mean the same.
//!
//! At `exact` every output has the same bits (any NaN is as good as another; zeros keep their sign).
//!
//! Where sums may be reassociated, how far a result may move depends on the program, so the program is asked. Every algorithm that a
//! rule may choose computes the exact result of slightly different operands (backward error analysis, Higham 2002, chapter 3). So the
//! source is evaluated again and again with each operand of each op off by a random relative error (Monte Carlo arithmetic, Parker
//! 1997), in f64 and with composites written out, and each element may differ by as much as it then moved. Twice:
//!
//! - the program itself, in its own types. An operand of type T that is summed with n others is off by 8·n·u(T): the bound on the
//!   backward error of a sum in any order, for a few ops in a row. This sees a lower precision than the program asks for;
//! - the program with f64 for every float, optimised as that. Operands are off by 2⁻⁴⁰: rounding is at 2⁻⁵³, so thousands of roundings
//!   fit below what is allowed, and no wrong formula does.
//!
//! Kernels are evaluated as ops and by their specs, both times. An element that jumps when its operands move (a floor at a whole
//! number, a comparison of equals) is allowed the jump it makes.

#![allow(dead_code)]

use std::collections::BTreeMap;
use tahoma_core::artifact::Numerics;
use tahoma_core::eval::Weights;
use tahoma_core::op::{Contract, EvalArgs, Kind};
use tahoma_core::{Attr, DType, Graph, Node, Program, Tensor, form, kernel_eval};
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
}

impl Weights for Values {
    fn get(&self, name: &str) -> Result<Tensor, tahoma_core::Diagnostic> {
        self.weights.get(name).cloned().ok_or_else(|| tahoma_core::Diagnostic::error("E0210", name))
    }
}

fn wide(t: &Tensor) -> Tensor {
    if t.dtype().is_float() { t.cast(DType::F64) } else { t.clone() }
}

/// The program with f64 for every float.
pub(crate) fn widened(p: &Program) -> Program {
    let mut p = p.clone();
    let f64_of = |d: DType| if d.is_float() { DType::F64 } else { d };
    for g in p.functions.values_mut() {
        g.types.iter_mut().for_each(|t| t.dtype = f64_of(t.dtype));
        for a in g.nodes.iter_mut().flat_map(|n| n.attrs.0.values_mut()) {
            match a {
                Attr::DType(d) => *d = f64_of(*d),
                Attr::Tensor(t) => *t = wide(t).into(),
                _ => {}
            }
        }
    }
    p
}

/// Whether the bits of floats are looked at, which f64 has others of.
fn reads_bits(p: &Program) -> bool {
    p.functions.values().any(|g| {
        let bitcast = |n: &Node| n.op.name == "bitcast" && g.ty(n.operands[0]).dtype.is_float() | g.ty(n.results[0]).dtype.is_float();
        g.nodes.iter().any(bitcast)
    })
}

/// How the functions of a program are evaluated.
#[derive(Clone, Copy, PartialEq)]
enum Calls {
    /// Op by op.
    Ops,
    /// Kernels by their specs.
    Specs,
}

/// Evaluates `main`. `seen` may change what an op is given.
fn evaluate(
    p: &Program,
    f: &str,
    v: &Values,
    calls: Calls,
    seen: &mut dyn FnMut(&Graph, &Node, &mut [Tensor]),
) -> Result<Vec<Tensor>, String> {
    let g = &p.functions[f];
    let mut env: Vec<Option<Tensor>> = vec![None; g.types.len()];
    g.inputs.iter().zip(&v.inputs).for_each(|(i, t)| env[i.value.index()] = Some(t.clone()));
    for n in &g.nodes {
        let mut operands: Vec<Tensor> = n.operands.iter().map(|o| env[o.index()].clone().unwrap()).collect();
        seen(g, n, &mut operands);
        let results = match (n.op.name, n.attrs.func("callee")) {
            ("weight", _) => vec![v.weights[n.attrs.str("name").unwrap()].clone()],
            ("call", Some(k)) if calls == Calls::Specs => {
                let spec = form::form(&p.functions[k], k).map_err(|e| format!("@{k}: {e}"))?;
                kernel_eval::eval(&spec, &operands).map_err(|e| format!("@{k}: {e}"))?
            }
            ("call", Some(k)) => evaluate(p, k, &Values { inputs: operands, weights: BTreeMap::new() }, calls, seen)?,
            _ => (n.op.eval)(&EvalArgs { operands: &operands, attrs: &n.attrs }).map_err(|e| format!("{}: {e}", n.op.name))?,
        };
        for (r, t) in n.results.iter().zip(results) {
            env[r.index()] = Some(t);
        }
    }
    Ok(g.outputs.iter().map(|o| env[o.value.index()].clone().unwrap()).collect())
}

fn plain(p: &Program, v: &Values, calls: Calls) -> Result<Vec<Tensor>, String> {
    evaluate(p, Program::MAIN, v, calls, &mut |_, _, _| {})
}

/// Half a unit in the last place of 1.
fn unit(d: DType) -> Option<f64> {
    match d {
        DType::F64 => Some(2f64.powi(-53)),
        DType::F32 => Some(2f64.powi(-24)),
        DType::TF32 | DType::F16 => Some(2f64.powi(-11)),
        DType::BF16 => Some(2f64.powi(-8)),
        _ => None,
    }
}

/// The program with weights and float constants as inputs and composites written out, so that all that is computed is seen.
fn open(p: &Program, v: &Values) -> Option<(Program, Values)> {
    let (mut g, mut v) = (p.main().clone(), v.clone());
    let made = |n: &Node| n.op.name == "weight" || (n.op.name == "constant" && g.ty(n.results[0]).dtype.is_float());
    let (leaves, nodes): (Vec<Node>, Vec<Node>) = g.nodes.iter().cloned().partition(made);
    for n in leaves {
        v.inputs.push(match n.attrs.tensor("value") {
            Some(t) => (**t).clone(),
            None => v.weights[n.attrs.str("name")?].clone(),
        });
        g.inputs.push(tahoma_core::Port { name: format!("leaf{}", v.inputs.len()), value: n.results[0] });
    }
    g.nodes = nodes;
    Some((Program::new(form::expand(&g).ok()?), v))
}

/// How many products or terms an element of the result sums.
fn summed(n: &Node, operands: &[Tensor], out: u64) -> f64 {
    let all = match n.op.kind {
        _ if operands.is_empty() => 1,
        Kind::Elementwise(_) | Kind::Move(_) => 1,
        Kind::Contract(Contract::MatMul) => operands[0].shape().last().copied().unwrap_or(1),
        Kind::Contract(Contract::Conv) => operands[1].shape()[1..].iter().product(),
        Kind::Window(_) => n.attrs.ints("window").unwrap_or_default().iter().product::<i64>() as usize,
        Kind::Scan(_) => n.attrs.int("axis").map_or(1, |a| operands[0].shape()[a as usize]),
        _ => operands[0].len().div_ceil(out.max(1) as usize),
    };
    all.max(1) as f64
}

/// What is lost where a result, or a step on the way to it, is too small for its type.
fn underflow(d: DType) -> f64 {
    match d {
        DType::F64 => 2f64.powi(-1000),
        DType::F16 => 2f64.powi(-20),
        _ => 2f64.powi(-100),
    }
}

/// How much each element of the outputs moves when every operand of every op is off by `by(operand's type, terms summed)`; infinite
/// where a run fails, does not end in numbers, or gives another shape. `native` is `p` with the types that operands are taken to have.
fn moved(p: &Program, native: &Program, v: &Values, by: &dyn Fn(DType, f64) -> f64) -> Option<Vec<Vec<f64>>> {
    const RUNS: u64 = 8;
    let base = plain(p, v, Calls::Ops).ok()?;
    let middle: Vec<Vec<f64>> = base.iter().map(Tensor::to_f64s).collect();
    let first = |x: &f64| if x.is_finite() { 0.0 } else { f64::INFINITY };
    let mut most: Vec<Vec<f64>> = middle.iter().map(|m| m.iter().map(first).collect()).collect();
    for run in 1..=RUNS {
        let mut state = run.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut shaken = |g: &Graph, n: &Node, operands: &mut [Tensor]| {
            let out: u64 = n.results.iter().filter_map(|r| g.ty(*r).shape.elements()).sum();
            let terms = summed(n, operands, out);
            for (i, (o, t)) in n.operands.iter().zip(operands).enumerate() {
                // A whole exponent of a negative base must stay whole.
                if !t.dtype().is_float() || (n.op.name == "pow" && i == 1) {
                    continue;
                }
                let off = by(native.main().ty(*o).dtype, terms);
                let mut shake = |x: f64| {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    let r = (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
                    x * (1.0 + off * (r + r.signum()) / 2.0)
                };
                let x: Vec<f64> = t.to_f64s().into_iter().map(&mut shake).collect();
                *t = Tensor::from_f64s(DType::F64, t.shape(), &x);
            }
        };
        let out = evaluate(p, Program::MAIN, v, Calls::Ops, &mut shaken).unwrap_or_default();
        for (i, most) in most.iter_mut().enumerate() {
            let x = out.get(i).filter(|t| t.shape() == base[i].shape()).map(Tensor::to_f64s);
            for (j, m) in most.iter_mut().enumerate() {
                let d = x.as_ref().map_or(f64::INFINITY, |x| (x[j] - middle[i][j]).abs());
                *m = if d.is_finite() { m.max(d) } else { f64::INFINITY };
            }
        }
    }
    Some(most)
}

/// The first element that is further off than it may be.
fn beyond(what: &str, want: &[Tensor], got: &[Tensor], may: &dyn Fn(usize, usize, f64) -> f64) -> Result<(), String> {
    if want.len() != got.len() {
        return Err(format!("{what}: {} outputs became {}", want.len(), got.len()));
    }
    for (i, (x, y)) in want.iter().zip(got).enumerate() {
        if x.dtype() != y.dtype() {
            return Err(format!("{what}: output {i}: {} became {}", x.ty(), y.ty()));
        }
        let (p, q) = (x.to_f64s(), y.to_f64s());
        let open = p.iter().enumerate().any(|(j, p)| may(i, j, *p) == f64::INFINITY);
        if x.shape() != y.shape() {
            // Positions of what is not 0, …: as many as there are.
            if open { continue } else { return Err(format!("{what}: output {i}: {} became {}", x.ty(), y.ty())) }
        }
        for (j, (p, q)) in p.iter().zip(&q).enumerate() {
            let same = p == q || (p.is_nan() && q.is_nan());
            let near = (p - q).abs() <= may(i, j, *p) || may(i, j, *p) == f64::INFINITY;
            if !same && !near {
                return Err(format!("{what}: output {i} element {j}: {p:e} became {q:e}, which may differ by {:e}", may(i, j, *p)));
            }
        }
    }
    Ok(())
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
    /// How far each element may move. `None` where f64 does not tell.
    may: Option<Vec<Vec<f64>>>,
    /// The same for the program with f64 for every float.
    wide: Option<(Values, Vec<Tensor>, Vec<Vec<f64>>)>,
}

impl Reference {
    /// `None` where the program does not run on these values. `exact`: bits are all that will be asked for.
    pub(crate) fn new(p: &Program, values: Values, exact: bool) -> Option<Reference> {
        let native = plain(p, &values, Calls::Ops).ok()?;
        let mut r = Reference { values, native, may: None, wide: None };
        if exact || reads_bits(p) {
            return Some(r);
        }
        // The smallest floats saturate: f64 says little about what they round to.
        if p.main().types.iter().all(|t| !t.dtype.is_float() || unit(t.dtype).is_some()) {
            let (q, v) = open(p, &r.values)?;
            r.may = moved(&widened(&q), &q, &v.widened(), &|d, n| 8.0 * n * unit(d).unwrap_or(0.0));
        }
        let (w, v) = (widened(p), r.values.widened());
        let want = plain(&w, &v, Calls::Ops).ok();
        let may = open(&w, &v).and_then(|(q, v)| moved(&q, &q, &v, &|_, _| 2f64.powi(-40)));
        r.wide = want.zip(may).map(|(want, may)| (v, want, may));
        Some(r)
    }
    /// Whether an optimised program computes the same.
    pub(crate) fn check(&self, q: &Program, class: Numerics) -> Result<(), String> {
        let got = plain(q, &self.values, Calls::Ops)?;
        if class == Numerics::Exact {
            same_bits(&self.native, &got)?;
        }
        if let Some(all) = self.may.as_ref().filter(|_| class <= Numerics::Reassociate) {
            // Outputs are rounded too, and functions are a few units off.
            let last: Vec<f64> = self.native.iter().map(|t| 8.0 * unit(t.dtype()).unwrap_or(0.0)).collect();
            let least = q.main().types.iter().map(|t| underflow(t.dtype)).fold(0.0, f64::max);
            let may = |i: usize, j: usize, x: f64| all[i].get(j).copied().unwrap_or(f64::INFINITY) + last[i] * x.abs() + least;
            beyond("as ops", &self.native, &got, &may)?;
            beyond("by kernels", &self.native, &plain(q, &self.values, Calls::Specs)?, &may)?;
        }
        Ok(())
    }
    /// Whether the optimised program of f64s computes the same.
    pub(crate) fn check_wide(&self, q: &Program) -> Result<(), String> {
        let Some((v, want, may)) = &self.wide else { return Ok(()) };
        let may = |i: usize, j: usize, _: f64| may[i].get(j).copied().unwrap_or(f64::INFINITY);
        beyond("in f64, as ops", want, &plain(q, v, Calls::Ops)?, &may)?;
        beyond("in f64, by kernels", want, &plain(q, v, Calls::Specs)?, &may)
    }
    /// Elements of the outputs; those that have a bound in f64, and in the program's own types.
    pub(crate) fn judged(&self) -> [usize; 3] {
        let finite = |v: &[Vec<f64>]| v.iter().flatten().filter(|m| m.is_finite()).count();
        let all = self.native.iter().map(Tensor::len).sum();
        [all, self.wide.as_ref().map_or(0, |w| finite(&w.2)), self.may.as_ref().map_or(0, |m| finite(m))]
    }
}

fn optimised(p: &Program, target: &dyn TargetCost, class: Numerics) -> Result<(Program, Report), String> {
    let options = Options { numerics: class, ..Options::new(target) };
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
    let (q, report) = optimised(p, target, class)?;
    for (i, r) in all.iter().enumerate() {
        r.check(&q, class).map_err(|e| format!("values {i}: {e}"))?;
    }
    if class > Numerics::Exact && all.iter().any(|r| r.wide.is_some()) {
        let computes = |d: DType| d == DType::F64 || (TRN2.computes)(d);
        let target = if (target.computes)(DType::F64) { target.clone() } else { Roofline { computes, ..target.clone() } };
        let (q, _) = optimised(&widened(p), &target, class)?;
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
