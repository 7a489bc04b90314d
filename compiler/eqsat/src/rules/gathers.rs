//! Gathers whose places are known: pieces of the table, which kernels read in place.

use super::code::{Code, Site};
use super::sample::Sample;
use crate::language::Node;
use egg::Id;
use tahoma_core::Attr;
use tahoma_core::artifact::Numerics::Exact;

/// Most pieces that a gather is taken apart into.
const PIECES: usize = 8;

/// Elements `start, start + step, …` of an axis.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Run {
    start: i64,
    step: i64,
    len: i64,
}

/// Places as runs of equal steps, from the first on as long as they get. `None` for too many, or for places outside of `0..extent`.
fn runs(places: &[i64], extent: i64) -> Option<Vec<Run>> {
    let mut out: Vec<Run> = vec![];
    for &p in places {
        // Negative ones count from the end.
        let p = if p < 0 { p + extent } else { p };
        if !(0..extent).contains(&p) {
            return None;
        }
        let full = out.len() == PIECES;
        match out.last_mut() {
            Some(r) if r.len == 1 && p != r.start => (r.step, r.len) = (p - r.start, 2),
            Some(r) if r.len > 1 && p == r.start + r.step * r.len => r.len += 1,
            _ if full => return None,
            _ => out.push(Run { start: p, step: 1, len: 1 }),
        }
    }
    Some(out)
}

/// The parts of a gather's table side by side, in the shape of the gather.
fn pieces(s: &mut Site, n: &Node, runs_of: fn(&[i64], i64) -> Option<Vec<Run>>) -> Option<Id> {
    let [x, at] = *n.operands() else { return None };
    let Attr::Int(axis) = *s.attr(n, 0)? else { return None };
    let (dims, shape) = (s.dims(x)?, s.dims(at)?);
    let a = axis as usize;
    let places: Vec<i64> = s.constant(at)?.to_ints()?;
    let runs = runs_of(&places, *dims.get(a)?)?;
    let mut parts = vec![];
    for r in &runs {
        let whole = Run { start: 0, step: 1, len: dims[a] };
        let with = |v: i64, other: &dyn Fn(usize) -> i64| (0..dims.len()).map(|i| if i == a { v } else { other(i) }).collect::<Vec<i64>>();
        parts.push(if *r == whole {
            x
        } else {
            s.add("slice", &[x], vec![with(r.start, &|_| 0).into(), with(r.len, &|i| dims[i]).into(), with(r.step, &|_| 1).into()])?
        });
    }
    let all = match parts[..] {
        [] => return None,
        [one] => one,
        _ => s.add("concat", &parts, vec![Attr::Int(axis)])?,
    };
    if shape.len() == 1 {
        return Some(all);
    }
    let shape: Vec<i64> = [&dims[..a], &shape, &dims[a + 1..]].concat();
    s.add("reshape", &[all], vec![shape.into()])
}

/// A gather at places that go up, down or in steps, or are a single one.
fn drawing(s: &mut Sample) -> String {
    let (n, m, k) = (1 + s.dim(), s.dim(), s.dim());
    let axis = s.below(2);
    let (shape, extent) = (if axis == 0 { [n, m] } else { [m, n] }, n as i64);
    let one = |s: &mut Sample| s.below(n as u64) as i64;
    let (rank, places): (usize, Vec<i64>) = match s.below(5) {
        0 => (0, vec![one(s) - extent * s.below(2) as i64]),
        1 => (1, (0..extent).rev().collect()),
        // As in a reflected border: up, then down again.
        2 => (1, (0..extent).chain((0..extent - 1).rev()).take(8).collect()),
        3 => (2, (0..extent).step_by(2).collect()),
        _ => (1, (0..k).map(|_| one(s)).collect()),
    };
    let count = ["".into(), places.len().to_string(), format!("1,{}", places.len())][rank].clone();
    let places: Vec<String> = places.iter().map(i64::to_string).collect();
    format!("(gather x:f32[{},{}] (constant i64[{count}]{{{}}}) {axis})", shape[0], shape[1], places.join(","))
}

pub(super) static RULES: &[Code] = &[Code {
    name: "gather-of-known-places",
    class: Exact,
    op: "gather",
    lhs: "(gather x (constant p) a)",
    rhs: "(reshape (concat (slice x …) … a) …)",
    doc: "Places that are known in advance are runs of equal steps, each a slice: a reflected border, one state of several, every other element.",
    apply: |s, n| pieces(s, n, runs),
    sample: drawing,
}];

#[cfg(test)]
pub(in super::super) static WRONG: &[Code] = &[
    Code {
        name: "wrong-gather-backwards",
        class: Exact,
        op: "gather",
        lhs: "",
        rhs: "",
        doc: "Takes runs down as runs up.",
        apply: |s, n| {
            pieces(s, n, |p, e| {
                Some(runs(p, e)?.into_iter().map(|r| Run { step: 1, start: r.start.min(r.start + r.step * (r.len - 1)), ..r }).collect())
            })
        },
        sample: |_| "(gather x:f32[4,2] (constant i64[3]{3,2,1}) 0)".into(),
    },
    Code {
        name: "wrong-gather-negative",
        class: Exact,
        op: "gather",
        lhs: "",
        rhs: "",
        doc: "Counts negative places from the start.",
        apply: |s, n| pieces(s, n, |p, e| runs(&p.iter().map(|x| x.abs()).collect::<Vec<_>>(), e)),
        sample: |_| "(gather x:f32[4,2] (constant i64[1]{-1}) 0)".into(),
    },
    Code {
        name: "wrong-gather-short",
        class: Exact,
        op: "gather",
        lhs: "",
        rhs: "",
        doc: "Forgets the turning point of a border.",
        apply: |s, n| {
            pieces(s, n, |p, e| {
                let mut all = runs(p, e)?;
                all.last_mut()?.start -= 1;
                Some(all)
            })
        },
        sample: |_| "(gather x:f32[4,2] (constant i64[6]{0,1,2,3,2,1}) 0)".into(),
    },
];
