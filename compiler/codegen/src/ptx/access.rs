//! Affine accesses: loops merged, indices decoded from a thread's number, guarded reads, vectors of neighbours.

use super::printer::*;
use super::scalar;
use tahoma_core::kernel::Access;
use tahoma_core::types::DType;

/// The index of one loop: `base + add`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ix {
    pub(super) base: Option<Val>,
    pub(super) add: i64,
}

impl Ix {
    pub(super) fn at(v: Val) -> Ix {
        Ix { base: Some(v), add: 0 }
    }
    pub(super) fn constant(add: i64) -> Ix {
        Ix { base: None, add }
    }
}

/// Merges neighbouring loops that every coefficient row walks as one, and drops loops of one round.
/// Gives, per loop kept, its extent and which of the old loops has its coefficients.
pub(super) fn merge(extents: &[u64], rows: &[&[i64]]) -> Vec<(u64, usize)> {
    let mut out: Vec<(u64, usize)> = vec![];
    for (d, &e) in extents.iter().enumerate() {
        if e == 1 {
            continue;
        }
        match out.last_mut() {
            Some(last) if rows.iter().all(|r| r[last.1] == r[d] * e as i64) => *last = (last.0 * e, d),
            _ => out.push((e, d)),
        }
    }
    out
}

/// The coefficient rows of an access: its strides and each guard's.
pub(super) fn coefficients(a: &Access) -> impl Iterator<Item = &[i64]> {
    std::iter::once(&a.strides[..]).chain(a.guards.iter().map(|g| &g.coeffs[..]))
}

/// The access over the loops at `keep`, in that order.
pub(super) fn project(a: &Access, keep: &[usize]) -> Access {
    let pick = |c: &[i64]| keep.iter().map(|&i| c.get(i).copied().unwrap_or(0)).collect::<Vec<i64>>();
    let mut b = a.clone();
    b.strides = pick(&a.strides);
    for (g, old) in b.guards.iter_mut().zip(&a.guards) {
        g.coeffs = pick(&old.coeffs);
    }
    b
}

/// Splits the number `i` of a point into loop indices, the last loop fastest.
pub(super) fn decode(f: &mut Fun, i: Val, extents: &[u64]) -> Vec<Ix> {
    let mut out = vec![Ix::constant(0); extents.len()];
    let mut rest = i;
    for (d, &e) in extents.iter().enumerate().rev() {
        if d == 0 {
            out[d] = Ix::at(rest);
        } else {
            out[d] = Ix::at(f.rem_k(rest, e));
            rest = f.div_k(rest, e);
        }
    }
    out
}

/// `offset + Σ coeffs·index`.
pub(super) fn affine(f: &mut Fun, offset: i64, coeffs: &[i64], index: &[Ix]) -> Val {
    let (mut sum, mut k) = (None, offset);
    for (&c, i) in coeffs.iter().zip(index) {
        k += c * i.add;
        if c != 0
            && let Some(b) = i.base
        {
            let p = f.mul_k(b, c);
            sum = Some(match sum {
                None => p,
                Some(s) => f.add(s, p),
            });
        }
    }
    let ix = f.ix();
    match sum {
        None => f.int(ix, k),
        Some(s) => f.add_k(s, k),
    }
}

/// Whether every guard holds; `None` without guards.
pub(super) fn guarded(f: &mut Fun, a: &Access, index: &[Ix]) -> Option<Val> {
    let mut all = None;
    for g in &a.guards {
        let x = affine(f, g.offset, &g.coeffs, index);
        let e = f.int(x.ty, g.extent);
        // One unsigned comparison: a negative index is a huge one.
        let ok = f.cmpi("ult", x, e);
        all = Some(match all {
            None => ok,
            Some(p) => f.and(p, ok),
        });
    }
    all
}

/// How an access meets `lanes` neighbours along loop `dim`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lanes {
    /// One element for all.
    Same,
    /// One aligned vector.
    Vector,
    /// Lane by lane.
    Each,
}

/// Only loops of more than one round count for alignment; the index of loop `dim` is a multiple of `lanes`.
pub(super) fn lanes_of(a: &Access, dim: usize, lanes: usize, elements: u64) -> Lanes {
    if a.guards.iter().any(|g| g.coeffs[dim] != 0) {
        return Lanes::Each;
    }
    match a.strides[dim] {
        0 => Lanes::Same,
        1 => {
            let n = lanes as i64;
            let aligned = a.offset % n == 0 && a.strides.iter().enumerate().all(|(d, s)| d == dim || s % n == 0);
            if aligned && elements >= lanes as u64 { Lanes::Vector } else { Lanes::Each }
        }
        _ => Lanes::Each,
    }
}

/// Elements `index`, `index + 1`, … along loop `dim`, as stored (raw): where a guard fails, the fill.
pub(super) fn read_raw(f: &mut Fun, b: &Buf, a: &Access, d: DType, index: &[Ix], dim: usize, lanes: usize) -> Vec<Val> {
    let how = if lanes == 1 { Lanes::Each } else { lanes_of(a, dim, lanes, b.elements) };
    let one = |f: &mut Fun, index: &[Ix], width: usize| -> (Val, Option<Val>) {
        let ok = guarded(f, a, index);
        let at = affine(f, a.offset, &a.strides, index);
        let at = match ok {
            None => at,
            Some(p) => {
                // No branch: a failed guard reads element 0 and drops it.
                let zero = f.int(at.ty, 0);
                f.select(p, at, zero)
            }
        };
        (f.load(b, at, width), ok)
    };
    let fill = |f: &mut Fun, v: Val, ok: Option<Val>| match ok {
        None => v,
        Some(p) => {
            let x = raw_constant(f, d, a.fill.0);
            f.select(p, v, x)
        }
    };
    match how {
        Lanes::Same => {
            let (v, ok) = one(f, index, 1);
            vec![fill(f, v, ok); lanes]
        }
        Lanes::Vector => {
            let (v, ok) = one(f, index, lanes);
            (0..lanes)
                .map(|l| {
                    let x = f.extract(v, l);
                    fill(f, x, ok)
                })
                .collect()
        }
        Lanes::Each => (0..lanes)
            .map(|l| {
                let mut at = index.to_vec();
                if lanes > 1 {
                    at[dim].add += l as i64;
                }
                let (v, ok) = one(f, &at, 1);
                fill(f, v, ok)
            })
            .collect(),
    }
}

/// A constant as it lies in memory.
fn raw_constant(f: &mut Fun, d: DType, x: f64) -> Val {
    let v = scalar::constant(f, d, x);
    scalar::to_memory(f, v, d)
}

/// [`read_raw`], as values.
pub(super) fn read(f: &mut Fun, b: &Buf, a: &Access, d: DType, index: &[Ix], dim: usize, lanes: usize) -> Vec<Val> {
    let raw = read_raw(f, b, a, d, index, dim, lanes);
    raw.into_iter().map(|v| scalar::from_memory(f, v, d)).collect()
}

/// Stores neighbours along loop `dim`.
pub(super) fn write(f: &mut Fun, b: &Buf, a: &Access, d: DType, index: &[Ix], dim: usize, values: &[Val]) {
    let raw: Vec<Val> = values.iter().map(|&v| scalar::to_memory(f, v, d)).collect();
    if raw.len() > 1 && lanes_of(a, dim, raw.len(), b.elements) == Lanes::Vector {
        let at = affine(f, a.offset, &a.strides, index);
        let v = f.vector(&raw);
        f.store(b, at, v);
        return;
    }
    for (l, &v) in raw.iter().enumerate() {
        let mut at = index.to_vec();
        if raw.len() > 1 {
            at[dim].add += l as i64;
        }
        let at = affine(f, a.offset, &a.strides, &at);
        f.store(b, at, v);
    }
}
