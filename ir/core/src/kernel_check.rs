//! Proves of a [`KernelSpec`], from nothing but itself, what everybody who runs it relies on:
//!
//! ```text
//! sizes      every buffer and every loop nest has a number of elements and of bytes that a machine can count
//! reads      offset + Σ strides[d]·i[d] lies in the buffer at every point of the loops where all guards hold
//! writes     each element of each output is written once; stores that share an output write it in equal pieces
//! values     each step uses earlier values, of the types its function takes
//! work       outputs bound the loops that write; what the loops of a row read bounds those
//! ```
//!
//! Nothing is evaluated and nothing is allocated; the work is bounded by the size of the spec.

use crate::form::sum_type;
use crate::kernel::*;
use crate::kernel_eval::SpecError;
use crate::scalar::{Expr, Step, Unary};
use crate::types::{DType, TensorType};
use std::collections::HashSet;

/// Most loops around one access. Each has two points or more unless it does nothing, and there are fewer than 2^63 points.
const MAX_LOOPS: usize = 64;
/// Boxes that the proof of one access may look at.
const MAX_BOXES: usize = 4096;
/// Points of a row (a reduction, the sum of a contraction) that need no reason, and as many again for each element of the largest
/// input: windows are larger than what they see where there is padding, and sums may take an element again.
const FREE_POINTS: i64 = 1 << 20;
const POINTS_PER_ELEMENT: i64 = 256;

type R<T> = Result<T, SpecError>;

fn no<T>(why: impl Into<String>) -> R<T> {
    Err(SpecError(why.into()))
}

/// Checks a spec. The error says what is wrong with it.
pub fn check(spec: &KernelSpec) -> R<()> {
    let inputs: Vec<i64> = spec.inputs.iter().map(elements).collect::<R<_>>()?;
    let outputs: Vec<i64> = spec.outputs.iter().map(elements).collect::<R<_>>()?;
    let s = Checker { spec, inputs, outputs };
    match &spec.body {
        Body::Rows(r) => s.rows(r),
        Body::Contract(c) => s.contract(c),
    }
}

/// Elements of a buffer: at least one, and not more bytes than an address counts.
fn elements(t: &TensorType) -> R<i64> {
    let fits = t.bytes().is_some_and(|b| i64::try_from(b).is_ok());
    match t.shape.elements().map(i64::try_from) {
        Some(Ok(n)) if n > 0 && fits => Ok(n),
        _ => no(format!("{t} is no buffer of a kernel")),
    }
}

/// Extents of nested loops: none is empty, and their points can be counted.
fn loops(groups: &[&[u64]]) -> R<Vec<i64>> {
    let all: Vec<i64> = groups.concat().iter().map(|&e| i64::try_from(e).unwrap_or(0)).collect();
    let points = all.iter().try_fold(1i64, |n, &e| n.checked_mul(e));
    if all.len() > MAX_LOOPS || points.is_none_or(|n| n < 1) {
        return no(format!("loops over {groups:?}"));
    }
    Ok(all)
}

struct Checker<'a> {
    spec: &'a KernelSpec,
    /// Elements of the buffers.
    inputs: Vec<i64>,
    outputs: Vec<i64>,
}

/// A value of a row program: its type, and whether it has an element for each point of the row.
type Value = (DType, bool);

impl Checker<'_> {
    fn rows(&self, r: &Rows) -> R<()> {
        let (outer, all) = (loops(&[&r.outer])?, loops(&[&r.outer, &r.inner])?);
        self.row(&r.inner)?;
        let mut values: Vec<Value> = vec![];
        for l in &r.loads {
            self.load(l, if l.per_row { &outer } else { &all })?;
            values.push((l.dtype, !l.per_row && !r.inner.is_empty()));
        }
        self.steps(&r.steps, &mut values)?;
        let mut stores = vec![vec![]; self.outputs.len()];
        for s in &r.stores {
            let Some(&(dtype, row)) = values.get(s.value) else { return no(format!("a store of value {}", s.value)) };
            self.store(&s.access, dtype, if row { &all } else { &outer }, &mut stores)?;
        }
        self.all_written(&stores)
    }

    fn contract(&self, c: &ContractSpec) -> R<()> {
        loops(&[&c.batch, &c.m, &c.n, &c.k])?;
        let out = loops(&[&c.batch, &c.m, &c.n])?;
        self.row(&c.k)?;
        if c.b.is_empty() || !(c.dtype.is_float() || c.dtype.is_int()) {
            return no("a contraction of nothing");
        }
        self.operand(&c.a, &loops(&[&c.batch, &c.m, &c.k])?, c.dtype, true)?;
        for b in &c.b {
            self.operand(b, &loops(&[&c.batch, &c.n, &c.k])?, c.dtype, false)?;
        }
        if let Some(p) = &c.a.product {
            loops(&[&c.batch, &c.m, &c.k, &p.sum])?;
            self.row(&p.sum)?;
            self.operand(&p.a, &loops(&[&c.batch, &c.m, &p.sum])?, p.dtype, false)?;
            self.operand(&p.b, &loops(&[&c.batch, &c.k, &p.sum])?, p.dtype, false)?;
        }
        let mut inputs = vec![sum_type(c.dtype); c.b.len()];
        for l in &c.loads {
            self.load(l, &out)?;
            inputs.push(l.dtype);
        }
        let dtype = expr(&c.epilogue, &inputs)?;
        let mut stores = vec![vec![]; self.outputs.len()];
        self.store(&c.store, dtype, &out, &mut stores)?;
        self.all_written(&stores)
    }

    /// What a contraction multiplies; only a whole row may hold reductions and a product.
    fn operand(&self, o: &Operand, extents: &[i64], dtype: DType, row: bool) -> R<()> {
        let mut values: Vec<Value> = vec![];
        if let Some(p) = &o.product {
            values.push((sum_type(p.dtype), true));
        }
        if !row && (o.product.is_some() || o.reduces()) {
            return no("an operand that is made point by point has a row");
        }
        for l in &o.loads {
            self.load(l, extents)?;
            values.push((l.dtype, !l.per_row));
        }
        self.steps(&o.steps, &mut values)?;
        match values.get(o.value) {
            Some(v) if v.0 == dtype => Ok(()),
            _ => no(format!("an operand that is no {dtype}")),
        }
    }

    /// A row is no longer than its inputs explain: nothing else bounds it.
    fn row(&self, extents: &[u64]) -> R<()> {
        let points: i64 = loops(&[extents])?.iter().product();
        let largest = self.inputs.iter().max().copied().unwrap_or(0);
        if points > FREE_POINTS.saturating_add(largest.saturating_mul(POINTS_PER_ELEMENT)) {
            return no(format!("a row of {points} points over inputs of at most {largest} elements"));
        }
        Ok(())
    }

    fn load(&self, l: &Load, extents: &[i64]) -> R<()> {
        let a = &l.access;
        let (Some(&size), Some(t)) = (self.inputs.get(a.buffer), self.spec.inputs.get(a.buffer)) else {
            return no(format!("a read of input {} of {}", a.buffer, self.inputs.len()));
        };
        if t.dtype != l.dtype {
            return no(format!("a read of {} from input {}, which is {t}", l.dtype, a.buffer));
        }
        in_bounds(a, extents, size).map_err(|why| SpecError(format!("a read of input {} ({t}): {why}", a.buffer)))
    }

    /// A store of the output's type; which elements it writes is judged together with the others of that output.
    fn store<'s>(&self, a: &'s Access, dtype: DType, extents: &[i64], stores: &mut [Vec<(&'s Access, Vec<i64>)>]) -> R<()> {
        let (Some(of), Some(t)) = (stores.get_mut(a.buffer), self.spec.outputs.get(a.buffer)) else {
            return no(format!("a write of output {} of {}", a.buffer, self.outputs.len()));
        };
        if t.dtype != dtype {
            return no(format!("a write of {dtype} to output {}, which is {t}", a.buffer));
        }
        of.push((a, extents.to_vec()));
        Ok(())
    }

    fn all_written(&self, stores: &[Vec<(&Access, Vec<i64>)>]) -> R<()> {
        for (i, (of, &size)) in stores.iter().zip(&self.outputs).enumerate() {
            let t = &self.spec.outputs[i];
            match of.len() {
                0 => return no(format!("output {i} is never written")),
                _ if !covers(size, of) => return no(format!("output {i} ({t}) is not written element by element, each once")),
                _ => {}
            }
        }
        Ok(())
    }

    fn steps(&self, steps: &[RowStep], values: &mut Vec<Value>) -> R<()> {
        for s in steps {
            let new = match s {
                RowStep::Map { expr: e, args } => {
                    let of: Option<Vec<Value>> = args.iter().map(|&a| values.get(a).copied()).collect();
                    let Some(of) = of else { return no("a step uses a value that is not made before it") };
                    (expr(e, &of.iter().map(|v| v.0).collect::<Vec<_>>())?, of.iter().any(|v| v.1))
                }
                RowStep::Reduce { arg, dtype, .. } => match values.get(*arg) {
                    Some(v) if v.0 == *dtype => (*dtype, false),
                    Some(v) => return no(format!("a reduction of {} to {dtype}", v.0)),
                    None => return no("a reduction of a value that is not made before it"),
                },
            };
            values.push(new);
        }
        Ok(())
    }
}

/// Whether stores of equal strides write each of `size` elements once. The strides count elements like the digits of a number; where
/// a stride is larger than what the smaller ones count, there is room between them for so many pieces, and each store is one of these.
fn covers(size: i64, stores: &[(&Access, Vec<i64>)]) -> bool {
    let Some((first, extents)) = stores.first() else { return false };
    let alike = |(a, e): &(&Access, Vec<i64>)| a.strides == first.strides && e == extents && a.guards.is_empty();
    if !stores.iter().all(alike) || first.strides.len() != extents.len() {
        return false;
    }
    let mut digits: Vec<(i64, i64)> = first.strides.iter().copied().zip(extents.iter().copied()).filter(|d| d.1 > 1).collect();
    digits.sort_unstable_by_key(|d| d.0.unsigned_abs());
    // A reversed loop starts at its last element. Each room between strides: its weight, and how many pieces fit.
    let (mut step, mut base, mut rooms) = (1i64, 0i64, vec![]);
    for (stride, extent) in digits {
        let Some(s) = stride.checked_abs().filter(|&s| s >= step && s % step == 0) else { return false };
        let Some(next) = s.checked_mul(extent) else { return false };
        if s > step {
            rooms.push((step, s / step));
        }
        if stride < 0 {
            base += s * (extent - 1);
        }
        step = next;
    }
    if step > size || size % step != 0 {
        return false;
    }
    if size > step {
        rooms.push((step, size / step));
    }
    // All digits and rooms together count `size`, which an i64 holds.
    let pieces: i64 = rooms.iter().map(|r| r.1).product();
    let mut seen = HashSet::new();
    pieces as usize == stores.len()
        && stores.iter().all(|(a, _)| {
            let Some(mut rest) = a.offset.checked_sub(base) else { return false };
            for &(weight, count) in rooms.iter().rev() {
                let piece = rest.div_euclid(weight);
                if !(0..count).contains(&piece) {
                    return false;
                }
                rest -= piece * weight;
            }
            rest == 0 && seen.insert(a.offset)
        })
}

/// The type of an expression's value.
fn expr(e: &Expr, inputs: &[DType]) -> R<DType> {
    for (i, (s, d)) in e.steps.iter().enumerate() {
        let of = |a: usize| if a < i { Some(e.steps[a].1) } else { None };
        let fits = match *s {
            Step::Input(a) => inputs.get(a) == Some(d),
            Step::Const(_) => true,
            Step::Cast(a) => of(a).is_some(),
            Step::Unary(Unary::IsNan | Unary::IsInf, a) => of(a).is_some() && *d == DType::Bool,
            Step::Unary(_, a) => of(a) == Some(*d),
            Step::Binary(_, a, b) => of(a) == Some(*d) && of(b) == Some(*d),
            Step::Compare(_, a, b) => of(a).is_some() && of(a) == of(b) && *d == DType::Bool,
            Step::Select(c, a, b) => of(c) == Some(DType::Bool) && of(a) == Some(*d) && of(b) == Some(*d),
        };
        if !fits {
            return no(format!("step {i} of an expression, {s:?} of {d}, does not fit what it is made of"));
        }
    }
    e.dtype().map_or_else(|| no("an expression without steps"), Ok)
}

/// `offset + Σ coeffs[d]·i[d]`.
#[derive(Clone)]
struct Form {
    offset: i128,
    coeffs: Vec<i128>,
}

/// A part of the loops: first and last index of each.
type Points = Vec<(i64, i64)>;

impl Form {
    fn new(offset: i64, coeffs: &[i64]) -> Form {
        Form { offset: offset.into(), coeffs: coeffs.iter().map(|&c| c.into()).collect() }
    }
    /// Least and greatest value; `None` where an i128 does not hold them.
    fn range(&self, points: &Points) -> Option<(i128, i128)> {
        let (mut lo, mut hi) = (self.offset, self.offset);
        for (&c, &(first, last)) in self.coeffs.iter().zip(points) {
            let (a, b) = (c.checked_mul(first.into())?, c.checked_mul(last.into())?);
            (lo, hi) = (lo.checked_add(a.min(b))?, hi.checked_add(a.max(b))?);
        }
        Some((lo, hi))
    }
    fn minus(&self, k: i128, o: &Form) -> Option<Form> {
        let take = |a: i128, b: i128| a.checked_sub(k.checked_mul(b)?);
        let coeffs = self.coeffs.iter().zip(&o.coeffs).map(|(&a, &b)| take(a, b)).collect::<Option<_>>()?;
        Some(Form { offset: take(self.offset, o.offset)?, coeffs })
    }
}

/// Proves that an access stays in a buffer of `size` elements wherever its guards hold.
///
/// With any whole numbers k, `at = Σ k[j]·guard[j] + rest`, and each guard is between 0 and its extent, so the range of the right side
/// holds that of the left. The numbers are those that make the rest narrow: of a padded image, the strides of its axes. Where that is
/// not enough, the loops are halved and both halves proved.
fn in_bounds(a: &Access, extents: &[i64], size: i64) -> Result<(), String> {
    if a.strides.len() != extents.len() || a.guards.iter().any(|g| g.coeffs.len() != extents.len()) {
        return Err(format!("{} strides in {} loops", a.strides.len(), extents.len()));
    }
    if a.guards.len() > MAX_LOOPS {
        return Err(format!("{} guards", a.guards.len()));
    }
    let at = Form::new(a.offset, &a.strides);
    let guards: Vec<(Form, i64)> = a.guards.iter().map(|g| (Form::new(g.offset, &g.coeffs), g.extent)).collect();
    let whole: Points = extents.iter().map(|&e| (0, e - 1)).collect();
    let counted = |f: &Form| f.range(&whole).is_some_and(|(lo, hi)| lo >= i64::MIN.into() && hi <= i64::MAX.into());
    if !counted(&at) || !guards.iter().all(|g| counted(&g.0)) {
        return Err("its index has more than 64 bits".into());
    }
    let mut todo = vec![whole];
    let mut left = MAX_BOXES;
    while let Some(points) = todo.pop() {
        if left == 0 {
            return Err("it cannot be shown to stay in its buffer".into());
        }
        left -= 1;
        match holds(&at, &guards, &points, size) {
            Some(true) => {}
            // Only loops that guards speak of make a half better than the whole.
            _ => match halves(&guards, &points) {
                Some((a, b)) => todo.extend([a, b]),
                None => {
                    let i: Vec<i64> = points.iter().map(|p| p.0).collect();
                    return Err(format!("it leaves its buffer from loop indices {i:?} on"));
                }
            },
        }
    }
    Ok(())
}

/// Whether the bound shows that the access is in the buffer at these points.
fn holds(at: &Form, guards: &[(Form, i64)], points: &Points, size: i64) -> Option<bool> {
    let mut seen = vec![];
    for (g, extent) in guards {
        let (lo, hi) = g.range(points)?;
        let (lo, hi) = (lo.max(0), hi.min(i128::from(*extent) - 1));
        if lo > hi {
            // No point at all is read.
            return Some(true);
        }
        seen.push((g, lo, hi));
    }
    let width = |f: &Form| f.range(points).map(|(lo, hi)| hi - lo);
    let (mut rest, mut low, mut high) = (at.clone(), 0i128, 0i128);
    for &(g, lo, hi) in &seen {
        let (mut best, mut chosen) = (width(&rest)?, None);
        for (&c, &s) in g.coeffs.iter().zip(&rest.coeffs).filter(|(c, s)| **c != 0 && **s != 0) {
            let k = s / c;
            let without = rest.minus(k, g)?;
            let w = width(&without)?.checked_add(k.checked_abs()?.checked_mul(hi - lo)?)?;
            if w < best {
                (best, chosen) = (w, Some((k, without)));
            }
        }
        if let Some((k, without)) = chosen {
            let (a, b) = (k.checked_mul(lo)?, k.checked_mul(hi)?);
            (low, high, rest) = (low.checked_add(a.min(b))?, high.checked_add(a.max(b))?, without);
        }
    }
    let (lo, hi) = rest.range(points)?;
    Some(low.checked_add(lo)? >= 0 && high.checked_add(hi)? < size.into())
}

/// The points in two, along the longest loop that a guard speaks of.
fn halves(guards: &[(Form, i64)], points: &Points) -> Option<(Points, Points)> {
    let guarded = |d: usize| guards.iter().any(|g| g.0.coeffs[d] != 0);
    let d = (0..points.len()).filter(|&d| points[d].1 > points[d].0 && guarded(d)).max_by_key(|&d| points[d].1 - points[d].0)?;
    let (first, last) = points[d];
    let middle = first + (last - first) / 2;
    let (mut a, mut b) = (points.clone(), points.clone());
    (a[d].1, b[d].0) = (middle, middle + 1);
    Some((a, b))
}

#[cfg(test)]
mod tests;
