//! What rounding alone may do to an output.
//!
//! ```text
//! truth     the program in f64, each value in its own type's range
//! spread    rms over SAMPLES of (sample − truth); a sample is the program in f64 with each value x that its own type of p bits
//!           cannot hold replaced by x·(1 ± 2^-p), the sign drawn; a sum of n terms by x·(1 ± √n·2^-p), its terms by x·(1 ± 2^-22)
//! ```
//!
//! This is Monte Carlo arithmetic (Parker 1997), a measure of condition: where a difference of two roundings is multiplied up, samples
//! scatter as far as a device may be off. A wrong kernel does not scatter: an error beyond FACTOR spreads is its own. Terms of sums keep
//! 22 bits because that is what three TF32 products keep; √n is what rounding n partial sums takes in probability (Higham, Mary 2019).

use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use tahoma_core::eval::{Observe, Weights, run_watched};
use tahoma_core::op::{Contract, Kind, Monoid, Scalar};
use tahoma_core::random::mix;
use tahoma_core::scalar::{Binary, Unary};
use tahoma_core::{Attr, Builder, DType, Diagnostic, Graph, Node, Program, Tensor, ValueId};

/// Runs with other roundings.
pub const SAMPLES: usize = 8;
/// So many spreads are still rounding. Of eight samples one in 40,000 finds a spread of less than a fifth; a device's own roundings
/// are half units at most, where the samples take whole half units each time.
pub const FACTOR: f64 = 8.0;

/// Of one output: its value in f64, and how far rounding moves each element.
#[derive(Clone, Debug)]
pub struct Bound {
    pub truth: Vec<f64>,
    pub spread: Vec<f64>,
}

impl Bound {
    /// Whether rounding explains that element i is `x`. Whole numbers may only be what some sample gave, or between.
    pub fn explains(&self, i: usize, x: f64, float: bool) -> bool {
        let (Some(&t), Some(&s)) = (self.truth.get(i), self.spread.get(i)) else { return false };
        let factor = if float { FACTOR } else { (SAMPLES as f64).sqrt() };
        // No rounding turns an infinity into the other.
        s > 0.0 && !x.is_nan() && !(x.is_infinite() && t == -x) && (s.is_infinite() || (x - t).abs() <= factor * s)
    }
    /// Whether rounding leaves no digit of element i: its spread is a quarter of it or more.
    pub fn insignificant(&self, i: usize) -> bool {
        4.0 * self.spread[i] > self.truth[i].abs()
    }
}

/// Studies every output of `program` on these inputs, in order. An output whose shape rounding decides has no bound.
pub fn study(program: &Program, inputs: &[Tensor], weights: &dyn Weights, seed: u64) -> Result<Vec<Option<Bound>>, Diagnostic> {
    let (wide, types) = widened(program)?;
    let weights = Wide(weights);
    let inputs: Vec<Tensor> = inputs.iter().map(|t| if t.dtype().is_float() { t.cast(DType::F64) } else { t.clone() }).collect();
    let run = |sample: Option<u64>| {
        let mut stir = Stir { types: &types, sample, drawn: 0, terms: 1.0 };
        run_watched(&wide, Program::MAIN, inputs.clone(), &weights, &mut stir)
    };
    let truth = run(None)?;
    let mut bounds: Vec<Option<Bound>> = truth.iter().map(|t| Some(Bound { truth: t.to_f64s(), spread: vec![0.0; t.len()] })).collect();
    for s in 0..SAMPLES {
        let sample = run(Some(seed.wrapping_add(1 + s as u64)))?;
        for ((slot, t), x) in bounds.iter_mut().zip(&truth).zip(&sample) {
            let Some(b) = slot else { continue };
            if t.shape() != x.shape() {
                *slot = None;
                continue;
            }
            for ((&t, s), x) in b.truth.iter().zip(&mut b.spread).zip(x.to_f64s()) {
                let same = t == x || (t.is_nan() && x.is_nan());
                let e = if same { 0.0 } else { x - t };
                *s += if e.is_finite() { e * e } else { f64::INFINITY };
            }
        }
    }
    for b in bounds.iter_mut().flatten() {
        b.spread.iter_mut().for_each(|s| *s = (*s / SAMPLES as f64).sqrt());
    }
    Ok(bounds)
}

/// Weights in f64.
struct Wide<'a>(&'a dyn Weights);

impl Weights for Wide<'_> {
    fn get(&self, name: &str) -> Result<Tensor, Diagnostic> {
        let t = self.0.get(name)?;
        Ok(if t.dtype().is_float() { t.cast(DType::F64) } else { t })
    }
}

/// Number types of each function's values, as the program had them.
type Types = BTreeMap<String, Vec<DType>>;

/// The program with its composites as the ops that define them and every float as f64; and the types before.
fn widened(program: &Program) -> Result<(Program, Types), Diagnostic> {
    let mut out = program.clone();
    let mut types = Types::new();
    for (name, g) in &mut out.functions {
        *g = expanded(g)?;
        g.name = name.clone();
        types.insert(name.clone(), g.types.iter().map(|t| t.dtype).collect());
        for t in g.types.iter_mut().filter(|t| t.dtype.is_float()) {
            t.dtype = DType::F64;
        }
        for a in g.nodes.iter_mut().flat_map(|n| n.attrs.0.values_mut()) {
            match a {
                Attr::DType(d) if d.is_float() => *d = DType::F64,
                Attr::Tensor(t) if t.dtype().is_float() => *t = Arc::new(t.cast(DType::F64)),
                _ => {}
            }
        }
    }
    Ok((out, types))
}

/// Deepest definition of composites by composites.
const DEPTH: usize = 8;

/// A function with its composites expanded; one whose shapes are open stays.
fn expanded(g: &Graph) -> Result<Graph, Diagnostic> {
    let composite = |n: &Node| matches!(n.op.kind, Kind::Composite(_));
    let mut g = g.clone();
    for _ in 0..DEPTH {
        if !g.nodes.iter().any(composite) {
            break;
        }
        let mut b = Builder::new(&g.name);
        let mut map: BTreeMap<ValueId, ValueId> = g.inputs.iter().map(|p| (p.value, b.input(&p.name, g.ty(p.value).clone()))).collect();
        for n in &g.nodes {
            b.set_origin(n.origin.clone());
            let operands: Vec<ValueId> = n.operands.iter().map(|v| map[v]).collect();
            let defined = match &n.op.kind {
                Kind::Composite(f) => f(&mut b, &operands, &n.attrs).ok(),
                _ => None,
            };
            let made = match (defined, n.op.name, n.attrs.tensor("value")) {
                (Some(out), ..) => out,
                (_, "weight", _) => vec![b.weight(n.attrs.str("name").unwrap_or_default(), g.ty(n.results[0]).clone())],
                (_, "constant", Some(t)) => vec![b.constant((**t).clone())],
                _ if matches!(n.op.kind, Kind::Structure) => {
                    let types = n.results.iter().map(|&r| g.ty(r).clone()).collect();
                    b.structure(n.op.0, &operands, n.attrs.clone(), types)
                        .map_err(|e| b.diagnose(e, &operands, &|v| format!("%{}", v.0)))?
                }
                _ => b.emit(n.op.0, &operands, n.attrs.clone()).map_err(|e| b.diagnose(e, &operands, &|v| format!("%{}", v.0)))?,
            };
            map.extend(n.results.iter().copied().zip(made));
        }
        for o in &g.outputs {
            b.output(&o.name, map[&o.value]);
        }
        g = b.finish();
    }
    Ok(g)
}

/// Bits of a type's significand, and its largest and smallest magnitude; `None` for types whose values are only ever codes.
fn format(d: DType) -> Option<(u32, f64, f64)> {
    Some(match d {
        DType::F64 => (53, f64::MAX, 0.0),
        DType::F32 => (24, f32::MAX as f64, 2f64.powi(-149)),
        DType::TF32 => (11, f32::MAX as f64, 2f64.powi(-149)),
        DType::F16 => (11, 65504.0, 2f64.powi(-24)),
        DType::BF16 => (8, f32::MAX as f64, 2f64.powi(-133)),
        DType::F8E5M2 | DType::F8E5M2FNUZ => (3, f64::MAX, 0.0),
        DType::F8E4M3 | DType::F8E4M3FN | DType::F8E4M3FNUZ => (4, f64::MAX, 0.0),
        DType::F4E2M1 => (2, f64::MAX, 0.0),
        _ => return None,
    })
}

/// Bits that the terms of a sum keep.
const TERM_BITS: u32 = 22;

/// Gives each value another rounding, or with no sample none, and keeps it in its type's range.
struct Stir<'a> {
    types: &'a Types,
    sample: Option<u64>,
    drawn: u64,
    /// Terms of each element of the sum that is being made; 1 of what is no sum.
    terms: f64,
}

impl Stir<'_> {
    fn of(&self, g: &Graph, v: ValueId) -> Option<(u32, f64, f64)> {
        format(*self.types.get(&g.name)?.get(v.index())?)
    }
    /// Moves what `bits` cannot hold by `units` of 2^-bits.
    fn stir(&mut self, t: &mut Tensor, bits: u32, units: f64, (most, least): (f64, f64)) {
        self.drawn += 1;
        let seed = self.sample.map(|s| mix(s ^ mix(self.drawn)));
        let (unit, low) = (units * 0.5f64.powi(bits as i32), (1u64 << (53 - bits)) - 1);
        let mut v = t.to_f64s();
        v.par_chunks_mut(64).enumerate().with_min_len(64).for_each(|(i, block)| {
            let mut signs = seed.map(|s| mix(s.wrapping_add(i as u64)));
            for x in block {
                // What the type holds exactly is not rounded.
                if let Some(s) = &mut signs {
                    if x.to_bits() & low != 0 && x.is_finite() {
                        *x *= if *s & 1 == 0 { 1.0 + unit } else { 1.0 - unit };
                    }
                    *s >>= 1;
                }
                if x.abs() > most * (1.0 + unit) {
                    *x *= f64::INFINITY;
                } else if x.abs() < least / 2.0 {
                    *x *= 0.0;
                }
            }
        });
        *t = Tensor::from_f64s(DType::F64, t.shape(), &v);
    }
}

impl Observe for Stir<'_> {
    fn before(&mut self, g: &Graph, n: &Node, operands: &mut [Tensor]) {
        self.terms = terms(n, operands);
        let sums = match n.op.kind {
            Kind::Contract(_) => true,
            Kind::Reduce(m) | Kind::Window(m) | Kind::Scan(m) => m == Monoid::Sum,
            _ => false,
        };
        if !sums || self.sample.is_none() {
            return;
        }
        for (t, &v) in operands.iter_mut().zip(&n.operands) {
            if let (DType::F64, Some((bits, ..))) = (t.dtype(), self.of(g, v)) {
                let bits = if bits > 24 { bits - 2 } else { TERM_BITS };
                self.stir(t, bits, 1.0, (f64::MAX, 0.0));
            }
        }
    }
    fn after(&mut self, g: &Graph, n: &Node, results: &mut [Tensor]) {
        if copies(&n.op.kind) {
            return;
        }
        for (t, &v) in results.iter_mut().zip(&n.results) {
            if let (DType::F64, Some((bits, most, least))) = (t.dtype(), self.of(g, v)) {
                // Sums of short types are made in f32 at least.
                let units = (self.terms.sqrt() * 0.5f64.powi(24 - bits.min(24) as i32)).max(1.0);
                self.stir(t, bits, units, (most, least));
            }
        }
    }
}

/// How many terms each element of a sum has.
fn terms(n: &Node, operands: &[Tensor]) -> f64 {
    let extent = |t: &Tensor, axis: Option<usize>| axis.and_then(|a| t.shape().get(a)).copied().unwrap_or(1);
    let product = |v: Option<&[i64]>| v.unwrap_or_default().iter().map(|&x| x.max(1) as f64).product::<f64>();
    let place = |a: i64, rank: usize| usize::try_from(if a < 0 { a + rank as i64 } else { a }).ok();
    let Some(x) = operands.first() else { return 1.0 };
    let count = match n.op.kind {
        Kind::Contract(Contract::MatMul) => extent(x, x.rank().checked_sub(1)) as f64,
        Kind::Contract(Contract::Conv) => operands.get(1).map_or(1, |w| w.len() / extent(w, Some(0)).max(1)) as f64,
        Kind::Reduce(Monoid::Sum) => {
            n.attrs.ints("axes").unwrap_or_default().iter().map(|&a| extent(x, place(a, x.rank())) as f64).product()
        }
        Kind::Window(Monoid::Sum) => product(n.attrs.ints("window")),
        Kind::Scan(Monoid::Sum) => extent(x, n.attrs.int("axis").and_then(|a| place(a, x.rank()))) as f64,
        _ => 1.0,
    };
    count.max(1.0)
}

/// Whether the results are operands as they are, or their neighbours in the same type: nothing is rounded.
fn copies(k: &Kind) -> bool {
    match k {
        Kind::Move(_) | Kind::Gather | Kind::Generate | Kind::Structure => true,
        Kind::Reduce(m) | Kind::Window(m) | Kind::Scan(m) => matches!(m, Monoid::Max | Monoid::Min | Monoid::And | Monoid::Or),
        Kind::Elementwise(Scalar::Unary(u)) => {
            matches!(u, Unary::Neg | Unary::Abs | Unary::Sign | Unary::Floor | Unary::Ceil | Unary::Round | Unary::Not)
        }
        Kind::Elementwise(Scalar::Binary(b)) => matches!(b, Binary::Max | Binary::Min),
        Kind::Elementwise(Scalar::Select | Scalar::Compare(_)) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tahoma_core::eval::NoWeights;
    use tahoma_core::{Attrs, TensorType};

    fn bound(make: impl FnOnce(&mut Builder, ValueId) -> ValueId, x: Tensor) -> Bound {
        let mut b = Builder::new("main");
        let v = b.input("x", x.ty());
        let y = make(&mut b, v);
        b.output("y", y);
        study(&Program::new(b.finish()), &[x], &NoWeights, 1).unwrap().remove(0).unwrap()
    }
    fn op(b: &mut Builder, name: &str, of: &[ValueId]) -> ValueId {
        b.op(name, of, Attrs::new()).unwrap()
    }

    /// `(x + 1) − 1` of a small x keeps few digits, `x·x` all.
    #[test]
    fn cancellation_spreads_and_products_do_not() {
        let x = Tensor::f32(&[4], vec![1.1e-6, 2.3e-6, -3.7e-6, 4.9e-6]);
        let b = bound(
            |b, x| {
                let one = b.constant(Tensor::f32(&[], vec![1.0]));
                let y = op(b, "add", &[x, one]);
                op(b, "sub", &[y, one])
            },
            x.clone(),
        );
        for i in 0..4 {
            assert!(b.spread[i] > 1e-8 && b.spread[i] < 1e-6, "{b:?}");
            assert!(b.explains(i, b.truth[i] + 1e-7, true) && !b.explains(i, b.truth[i] + 1e-5, true));
        }
        let b = bound(|b, x| op(b, "mul", &[x, x]), x);
        assert!((0..4).all(|i| b.spread[i] <= 1.3e-7 * b.truth[i] && !b.insignificant(i)), "{b:?}");
    }

    /// What a type holds exactly does not move: a cosine of a given number is as good as its last digit, however large the number.
    #[test]
    fn exact_values_do_not_scatter() {
        let b = bound(|b, x| op(b, "cos", &[x]), Tensor::f32(&[2], vec![1e5, 3.0]));
        assert!((0..2).all(|i| b.spread[i] < 1e-7 && !b.explains(i, b.truth[i] + 4.8e-4, true)), "{b:?}");
        let b = bound(|b, x| op(b, "relu", &[x]), Tensor::f32(&[2], vec![-1.0, 2.0]));
        assert_eq!(b.spread, [0.0, 0.0]);
    }

    /// A sum of many terms of one sign is off by more than its last place.
    #[test]
    fn long_sums_spread_with_their_length() {
        let sum = |n: usize| {
            let make =
                |b: &mut Builder, x| b.op("reduce_sum", &[x], Attrs::new().with("axes", vec![0i64]).with("keepdims", false)).unwrap();
            let b = bound(make, Tensor::f32(&[n], (0..n).map(|i| 1.0 + (i % 97) as f32 / 97.0).collect()));
            b.spread[0] / b.truth[0]
        };
        assert!(sum(4) < 3e-7 && sum(4096) > 2e-6 && sum(4096) < 2e-5, "{} {}", sum(4), sum(4096));
    }

    /// A comparison that rounding decides scatters, one that it does not decide never does.
    #[test]
    fn ties_are_seen() {
        let b = bound(
            |b, x| {
                let third = b.constant(Tensor::f32(&[], vec![1.0 / 3.0]));
                let three = b.constant(Tensor::f32(&[], vec![3.0]));
                let y = op(b, "mul", &[x, third]);
                let z = op(b, "mul", &[y, three]);
                let c = op(b, "lt", &[x, z]);
                b.op("cast", &[c], Attrs::new().with("to", DType::F32).with("saturate", true)).unwrap()
            },
            Tensor::f32(&[3], vec![0.7, 1.3, 0.0]),
        );
        assert!(b.spread[..2].iter().any(|s| *s > 0.0), "{b:?}");
        assert_eq!(b.spread[2], 0.0);
    }

    /// The range of a type is kept: f16 overflows where f16 does.
    #[test]
    fn ranges_hold() {
        let b = bound(|b, x| op(b, "mul", &[x, x]), Tensor::f32(&[2], vec![300.0, 100.0]).cast(DType::F16));
        assert_eq!(b.truth, [f64::INFINITY, 10000.0]);
        let none = TensorType::known(DType::F32, &[0]);
        assert_eq!(bound(|b, x| op(b, "mul", &[x, x]), Tensor::full(none.dtype, &[0], 0.0)).truth.len(), 0);
    }
}
