//! Slices sink towards the inputs, so that only what is read is computed, until they meet a concatenation, a pad or a weight.

use super::super::{Match, Rule, Sample};
use super::slice_args;
use tahoma_core::DType;
use tahoma_core::artifact::Numerics::{Exact, Reassociate};

/// Starts, sizes and steps of a slice.
type Cut = [Vec<i64>; 3];

/// The slice of a match. `None` where other slices take other pieces of the same value: it is better computed once.
fn cut(m: &Match) -> Option<Cut> {
    m.cut_once()?.then_some(())?;
    Some([m.ints("a")?.to_vec(), m.ints("z")?.to_vec(), m.ints("t")?.to_vec()])
}

/// The slice that takes all of these axes.
fn everything(dims: &[i64]) -> Cut {
    [vec![0; dims.len()], dims.to_vec(), vec![1; dims.len()]]
}

/// Whether a slice takes all of an axis in order.
fn whole(c: &Cut, axis: usize, extent: i64) -> bool {
    c[0][axis] == 0 && c[1][axis] == extent && (c[2][axis] == 1 || extent == 1)
}

/// The part of an operand that numpy broadcasts to a slice of the result.
fn part(c: &Cut, operand: &[i64]) -> Option<Cut> {
    let skip = c[0].len().checked_sub(operand.len())?;
    let mut out = everything(operand);
    for (axis, _) in operand.iter().enumerate().filter(|(_, d)| **d != 1) {
        for (o, c) in out.iter_mut().zip(c) {
            o[axis] = c[skip + axis];
        }
    }
    Some(out)
}

fn bind(m: &mut Match, vars: [&'static str; 3], c: Cut) {
    for (var, v) in vars.into_iter().zip(c) {
        m.bind(var, v);
    }
}

const FIRST: [&str; 3] = ["b", "y", "u"];
const SECOND: [&str; 3] = ["c", "w", "v"];

/// Slices of both operands; which of them are more than the whole operand.
fn operand_cuts(m: &mut Match, x: &str, o: &str) -> Option<(bool, bool)> {
    let (c, dx, dy) = (cut(m)?, m.dims(x)?, m.dims(o)?);
    let (p, q) = (part(&c, &dx)?, part(&c, &dy)?);
    let cuts = (p != everything(&dx), q != everything(&dy));
    bind(m, FIRST, p);
    bind(m, SECOND, q);
    Some(cuts)
}

fn before_reduce(m: &mut Match) -> Option<bool> {
    let (c, x, axes, kept) = (cut(m)?, m.dims("x")?, m.ints("r")?.to_vec(), m.bool("k")?);
    let mut out = everything(&x);
    let mut at = 0;
    for axis in 0..x.len() {
        if axes.contains(&(axis as i64)) {
            if kept && !whole(&c, at, 1) {
                return Some(false);
            }
            at += usize::from(kept);
            continue;
        }
        for (o, c) in out.iter_mut().zip(&c) {
            o[axis] = c[at];
        }
        at += 1;
    }
    bind(m, FIRST, out);
    Some(true)
}

fn before_transpose(m: &mut Match) -> Option<bool> {
    let (c, p) = (cut(m)?, m.ints("p")?.to_vec());
    let mut out = c.clone();
    for (i, &axis) in p.iter().enumerate() {
        for (o, c) in out.iter_mut().zip(&c) {
            o[axis as usize] = c[i];
        }
    }
    bind(m, FIRST, out);
    Some(true)
}

fn before_broadcast(m: &mut Match) -> Option<bool> {
    let (c, x) = (cut(m)?, m.dims("x")?);
    let p = part(&c, &x)?;
    bind(m, FIRST, p);
    Some(true)
}

/// A slice along the first axes, which the reshape leaves alone.
fn before_reshape(m: &mut Match) -> Option<bool> {
    let (c, x, s) = (cut(m)?, m.dims("x")?, m.ints("s")?.to_vec());
    let same = x.iter().zip(&s).take_while(|(a, b)| a == b).count();
    if same == 0 || (same..s.len()).any(|a| !whole(&c, a, s[a])) || (0..same).all(|a| whole(&c, a, s[a])) {
        return Some(false);
    }
    let mut out = everything(&x);
    for (o, c) in out.iter_mut().zip(&c) {
        o[..same].copy_from_slice(&c[..same]);
    }
    bind(m, FIRST, out);
    let shape = m.root_dims()?;
    m.bind("w", shape);
    Some(true)
}

/// A slice that takes all of an axis, which a softmax or a norm runs along.
fn before_rows(m: &mut Match, first: usize, last: usize) -> Option<bool> {
    let (c, x) = (cut(m)?, m.dims("x")?);
    Some((first..=last).all(|a| whole(&c, a, x[a])))
}

fn matmul_columns(m: &mut Match) -> Option<bool> {
    let (c, x, w, root) = (cut(m)?, m.dims("x")?, m.dims("w")?, m.root_dims()?);
    let rank = root.len();
    let inner = || (0..rank - 1).all(|a| whole(&c, a, root[a]));
    if x.len() < 2 || w.len() != 2 || !m.fixed("w")? || m.fixed("x")? || !inner() || whole(&c, rank - 1, w[1]) {
        return Some(false);
    }
    let mut out = everything(&w);
    for (o, c) in out.iter_mut().zip(&c) {
        o[1] = c[rank - 1];
    }
    bind(m, FIRST, out);
    Some(true)
}

fn matmul_rows(m: &mut Match) -> Option<bool> {
    let (c, x, w) = (cut(m)?, m.dims("x")?, m.dims("w")?);
    let last = x.len() - 1;
    if x.len() < 2 || w.len() != 2 || !whole(&c, last, w[1]) || (0..last).all(|a| whole(&c, a, x[a])) {
        return Some(false);
    }
    let mut out = everything(&x);
    for (o, c) in out.iter_mut().zip(&c) {
        o[..last].copy_from_slice(&c[..last]);
    }
    bind(m, FIRST, out);
    Some(true)
}

/// A slice that stays inside the padding, along axes that were not spread.
fn inside_pad(m: &mut Match) -> Option<bool> {
    let (c, x, l, h, i) = (cut(m)?, m.dims("x")?, m.ints("l")?, m.ints("h")?, m.ints("i")?);
    let mut out = c.clone();
    for axis in 0..x.len() {
        let (lo, hi) = super::span(c[0][axis], c[1][axis], c[2][axis]);
        let plain = l[axis] >= 0 && h[axis] >= 0 && (i[axis] == 0 || x[axis] == 1);
        if !plain || c[1][axis] == 0 || lo < l[axis] || hi >= l[axis] + x[axis] {
            return Some(false);
        }
        out[0][axis] -= l[axis];
    }
    bind(m, FIRST, out);
    Some(true)
}

fn pads_add(m: &mut Match) -> Option<bool> {
    let none = |v: &[i64]| v.iter().all(|&x| x == 0);
    let (l, h, n, o) = (m.ints("l")?, m.ints("h")?, m.ints("n")?, m.ints("o")?);
    if !none(m.ints("i")?) || !none(m.ints("j")?) || [l, h, n, o].iter().any(|v| v.iter().any(|&x| x < 0)) {
        return Some(false);
    }
    let sum = |a: &[i64], b: &[i64]| a.iter().zip(b).map(|(a, b)| a + b).collect::<Vec<i64>>();
    let (low, high) = (sum(l, n), sum(h, o));
    m.bind("p", low);
    m.bind("q", high);
    Some(true)
}

fn once(m: &mut Match) -> Option<bool> {
    m.cut_once()
}

fn two(s: &mut Sample) -> Vec<usize> {
    let d = s.dims(2);
    s.input("x", &d);
    slice_args(s, &d);
    d
}

fn reduced(s: &mut Sample) {
    let d = s.dims(3);
    s.input("x", &d);
    s.attr("r", vec![1]);
    let kept = s.below(2) == 0;
    s.attr("k", kept);
    if kept { slice_args(s, &[d[0], 1, d[2]]) } else { slice_args(s, &[d[0], d[2]]) }
}

/// Cuts the first of three axes only.
fn cut_first(s: &mut Sample) -> Vec<usize> {
    let d = [2 + s.dim(), s.dim(), 1 + s.dim()];
    s.input("x", &d);
    s.attr("a", vec![1, 0, 0]);
    s.attr("z", vec![d[0] as i64 - 1, d[1] as i64, d[2] as i64]);
    s.attr("t", vec![1, 1, 1]);
    d.to_vec()
}

pub(in super::super) static RULES: &[Rule] = &[
    Rule {
        name: "slice-past-unary",
        class: Exact,
        lhs: "(slice ({unary} ?x) ?a ?z ?t)",
        rhs: "({unary} (slice ?x ?a ?z ?t))",
        when: Some(once),
        doc: "f(x)[i] = f(x[i]): only the elements that are taken are computed.",
        sample: |s| {
            two(s);
        },
    },
    Rule {
        name: "slice-past-cast",
        class: Exact,
        lhs: "(slice (cast ?x ?d ?s) ?a ?z ?t)",
        rhs: "(cast (slice ?x ?a ?z ?t) ?d ?s)",
        when: Some(once),
        doc: "The same for a cast.",
        sample: |s| {
            two(s);
            s.attr("d", DType::F16);
            s.attr("s", true);
        },
    },
    Rule {
        name: "slice-past-binary",
        class: Exact,
        lhs: "(slice ({binary} ?x ?o) ?a ?z ?t)",
        rhs: "({binary} (slice ?x ?b ?y ?u) (slice ?o ?c ?w ?v))",
        when: Some(|m| Some((m.fixed("x")? || m.fixed("o")?) && operand_cuts(m, "x", "o")? == (true, true))),
        doc: "(x ∘ y)[i] = x[i] ∘ y[i]; axes that broadcast are read as they are. One of the two is fixed, so that its part is a recipe \
              and slices do not multiply along residuals.",
        sample: |s| {
            let d = [3 + s.dim(), 1 + s.dim()];
            s.input("x", &d);
            s.weight("o", &[d[0], 1]);
            slice_args(s, &[d[0] - 2, d[1]]);
        },
    },
    Rule {
        name: "slice-past-binary-first",
        class: Exact,
        lhs: "(slice ({binary} ?x ?o) ?a ?z ?t)",
        rhs: "({binary} (slice ?x ?b ?y ?u) ?o)",
        when: Some(|m| Some(operand_cuts(m, "x", "o")? == (true, false))),
        doc: "The same where the slice takes all of the second operand (a number, a bias along another axis).",
        sample: |s| {
            let d = cut_first(s);
            s.input("o", &[d[2]]);
        },
    },
    Rule {
        name: "slice-past-binary-second",
        class: Exact,
        lhs: "(slice ({binary} ?o ?x) ?a ?z ?t)",
        rhs: "({binary} ?o (slice ?x ?b ?y ?u))",
        when: Some(|m| Some(operand_cuts(m, "x", "o")? == (true, false))),
        doc: "The same where it takes all of the first.",
        sample: |s| {
            cut_first(s);
            s.input("o", &[1, 1]);
        },
    },
    Rule {
        name: "slice-past-transpose",
        class: Exact,
        lhs: "(slice (transpose ?x ?p) ?a ?z ?t)",
        rhs: "(transpose (slice ?x ?b ?y ?u) ?p)",
        when: Some(before_transpose),
        doc: "Axis i of the transpose is axis p[i] of x: b[p[i]] = a[i].",
        sample: |s| {
            let d = s.dims(3);
            s.input("x", &d);
            let p = s.perm(3);
            let moved: Vec<usize> = p.iter().map(|&a| d[a as usize]).collect();
            s.attr("p", p);
            slice_args(s, &moved);
        },
    },
    Rule {
        name: "slice-past-broadcast",
        class: Exact,
        lhs: "(slice (broadcast ?x ?s) ?a ?z ?t)",
        rhs: "(broadcast (slice ?x ?b ?y ?u) ?z)",
        when: Some(before_broadcast),
        doc: "Of an axis that repeats, any part is the same element; the others are cut before they are repeated.",
        sample: |s| {
            let d = s.dims(3);
            s.input("x", &[1, d[2]]);
            s.attr("s", d.iter().map(|&n| n as i64).collect::<Vec<_>>());
            slice_args(s, &d);
        },
    },
    Rule {
        name: "slice-past-reshape",
        class: Exact,
        lhs: "(slice (reshape ?x ?s) ?a ?z ?t)",
        rhs: "(reshape (slice ?x ?b ?y ?u) ?w)",
        when: Some(before_reshape),
        doc: "Leading axes that a reshape leaves alone can be cut before it.",
        sample: |s| {
            let d = cut_first(s);
            s.attr("s", vec![d[0] as i64, d[2] as i64, d[1] as i64]);
            s.attr("z", vec![d[0] as i64 - 1, d[2] as i64, d[1] as i64]);
        },
    },
    Rule {
        name: "slice-past-reduce-sum",
        class: Reassociate,
        lhs: "(slice (reduce_sum ?x ?r ?k) ?a ?z ?t)",
        rhs: "(reduce_sum (slice ?x ?b ?y ?u) ?r ?k)",
        when: Some(before_reduce),
        doc: "Rows that are not taken are not summed.",
        sample: reduced,
    },
    Rule {
        name: "slice-past-reduce-mean",
        class: Reassociate,
        lhs: "(slice (reduce_mean ?x ?r ?k) ?a ?z ?t)",
        rhs: "(reduce_mean (slice ?x ?b ?y ?u) ?r ?k)",
        when: Some(before_reduce),
        doc: "The same for the mean.",
        sample: reduced,
    },
    Rule {
        name: "slice-past-reduce-max",
        class: Reassociate,
        lhs: "(slice (reduce_max ?x ?r ?k) ?a ?z ?t)",
        rhs: "(reduce_max (slice ?x ?b ?y ?u) ?r ?k)",
        when: Some(before_reduce),
        doc: "The same for the maximum. (The sign of a zero may differ.)",
        sample: reduced,
    },
    Rule {
        name: "slice-past-softmax",
        class: Reassociate,
        lhs: "(slice (softmax ?x ?k) ?a ?z ?t)",
        rhs: "(softmax (slice ?x ?a ?z ?t) ?k)",
        when: Some(|m| {
            let k = m.int("k")? as usize;
            before_rows(m, k, k)
        }),
        doc: "Rows are independent: those that are not taken are not normalised.",
        sample: |s| {
            cut_first(s);
            s.attr("k", 2);
        },
    },
    Rule {
        name: "slice-past-layer-norm",
        class: Reassociate,
        lhs: "(slice (layer_norm ?x ?g ?o ?k ?e) ?a ?z ?t)",
        rhs: "(layer_norm (slice ?x ?a ?z ?t) ?g ?o ?k ?e)",
        when: Some(|m| {
            let (k, last) = (m.int("k")? as usize, m.rank("x")? - 1);
            Some(before_rows(m, k, last)? && m.alike_in_rows(&["g", "o"], k, last + 1)?)
        }),
        doc: "The same for layer normalisation: a classifier reads one token, so one is normalised.",
        sample: |s| {
            let d = cut_first(s);
            s.weight("g", &[d[2]]);
            s.weight("o", &[d[2]]);
            s.attr("k", 2);
            s.attr("e", 1e-5);
        },
    },
    Rule {
        name: "slice-past-rms-norm",
        class: Reassociate,
        lhs: "(slice (rms_norm ?x ?g ?k ?e) ?a ?z ?t)",
        rhs: "(rms_norm (slice ?x ?a ?z ?t) ?g ?k ?e)",
        when: Some(|m| {
            let (k, last) = (m.int("k")? as usize, m.rank("x")? - 1);
            Some(before_rows(m, k, last)? && m.alike_in_rows(&["g"], k, last + 1)?)
        }),
        doc: "The same for RMS normalisation.",
        sample: |s| {
            let d = cut_first(s);
            s.weight("g", &[d[2]]);
            s.attr("k", 2);
            s.attr("e", 1e-5);
        },
    },
    Rule {
        name: "slice-past-matmul-columns",
        class: Reassociate,
        lhs: "(slice (matmul ?x ?w) ?a ?z ?t)",
        rhs: "(matmul ?x (slice ?w ?b ?y ?u))",
        when: Some(matmul_columns),
        doc: "(x·W)[…, j] = x·W[:, j]: columns that are not taken are not multiplied, and the cut weight is a recipe.",
        sample: |s| {
            let (b, m, k, n) = (s.dim(), s.dim(), s.dim(), 2 + s.dim());
            s.input("x", &[b, m, k]);
            s.weight("w", &[k, n]);
            s.attr("a", vec![0, 0, 1]);
            s.attr("z", vec![b as i64, m as i64, (n - 1) as i64]);
            s.attr("t", vec![1, 1, 1]);
        },
    },
    Rule {
        name: "slice-past-matmul-rows",
        class: Reassociate,
        lhs: "(slice (matmul ?x ?w) ?a ?z ?t)",
        rhs: "(matmul (slice ?x ?b ?y ?u) ?w)",
        when: Some(matmul_rows),
        doc: "(x·W)[i] = x[i]·W: rows that are not taken are not multiplied (the last token of a prompt).",
        sample: |s| {
            let d = cut_first(s);
            let n = s.dim();
            s.weight("w", &[d[2], n]);
            s.attr("z", vec![d[0] as i64 - 1, d[1] as i64, n as i64]);
        },
    },
    Rule {
        name: "slice-of-pad",
        class: Exact,
        lhs: "(slice (pad ?x ?l ?h ?i ?f) ?a ?z ?t)",
        rhs: "(slice ?x ?b ?y ?u)",
        when: Some(inside_pad),
        doc: "A slice that takes none of the padding reads what was padded, from an earlier start.",
        sample: |s| {
            let d = s.dims(2);
            s.input("x", &d);
            let low = [s.below(3) as i64, s.below(3) as i64];
            s.attr("l", low.to_vec());
            s.attr("h", vec![1, 0]);
            s.attr("i", vec![0, 0]);
            s.attr("f", 7.0);
            s.attr("a", low.to_vec());
            s.attr("z", d.iter().map(|&n| n as i64).collect::<Vec<_>>());
            s.attr("t", vec![1, 1]);
        },
    },
    Rule {
        name: "pad-compose",
        class: Exact,
        lhs: "(pad (pad ?x ?l ?h ?i ?f) ?n ?o ?j ?f)",
        rhs: "(pad ?x ?p ?q ?i ?f)",
        when: Some(pads_add),
        doc: "Two borders of one value are one wider border.",
        sample: |s| {
            let d = s.dims(2);
            s.input("x", &d);
            s.attr("l", vec![1, 0]);
            s.attr("h", vec![0, 2]);
            s.attr("n", vec![1, 1]);
            s.attr("o", vec![2, 0]);
            s.attr("i", vec![0, 0]);
            s.attr("j", vec![0, 0]);
            s.attr("f", 0.5);
        },
    },
    Rule {
        name: "pad-into-sum-pool",
        class: Reassociate,
        lhs: "(sum_pool (pad ?x ?l ?h ?i ?v) ?n ?s ?p ?d)",
        rhs: "(sum_pool ?x ?n ?s ?q ?d)",
        when: Some(super::pad_into_conv),
        doc: "Windows that sum count padding as zero themselves.",
        sample: |s| {
            let d = [s.dim(), s.dim(), 3 + s.dim(), 3 + s.dim()];
            s.input("x", &d);
            s.attr("l", vec![0, 0, 1, 2]);
            s.attr("h", vec![0, 0, 0, 1]);
            s.attr("i", vec![0; 4]);
            s.attr("v", 0.0);
            s.attr("n", vec![2, 3]);
            s.attr("s", vec![1, 2]);
            s.attr("p", vec![0, 1, 1, 0]);
            s.attr("d", vec![1, 1]);
        },
    },
];

#[cfg(test)]
pub(in super::super) static WRONG: &[Rule] = &[
    Rule {
        name: "wrong-slice-past-softmax",
        class: Reassociate,
        lhs: "(slice (softmax ?x ?k) ?a ?z ?t)",
        rhs: "(softmax (slice ?x ?a ?z ?t) ?k)",
        when: None,
        doc: "The axis of the softmax may not be cut: its sum would change.",
        sample: |s| {
            cut_first(s);
            s.attr("k", 0);
        },
    },
    Rule {
        name: "wrong-slice-past-transpose",
        class: Exact,
        lhs: "(slice (transpose ?x ?p) ?a ?z ?t)",
        rhs: "(transpose (slice ?x ?a ?z ?t) ?p)",
        when: None,
        doc: "The slice's axes are those after the transpose.",
        sample: |s| {
            s.input("x", &[3, 3]);
            s.attr("p", vec![1, 0]);
            s.attr("a", vec![0, 1]);
            s.attr("z", vec![2, 2]);
            s.attr("t", vec![1, 1]);
        },
    },
    Rule {
        name: "wrong-slice-of-pad",
        class: Exact,
        lhs: "(slice (pad ?x ?l ?h ?i ?f) ?a ?z ?t)",
        rhs: "(slice ?x ?a ?z ?t)",
        when: None,
        doc: "Forgets that the padding moved the start.",
        sample: |s| {
            s.input("x", &[5]);
            s.attr("l", vec![1]);
            s.attr("h", vec![0]);
            s.attr("i", vec![0]);
            s.attr("f", 7.0);
            s.attr("a", vec![1]);
            s.attr("z", vec![3]);
            s.attr("t", vec![1]);
        },
    },
];
