//! Transposes, reshapes and broadcasts move on towards the outputs: past casts, reductions, row ops and contractions.

use super::super::{Match, Rule, Sample};
use tahoma_core::DType;
use tahoma_core::artifact::Numerics::{Exact, Reassociate};

fn longs(d: &[usize]) -> Vec<i64> {
    d.iter().map(|&n| n as i64).collect()
}

/// The axis of a row op before the transpose.
fn axis_before_transpose(m: &mut Match) -> Option<bool> {
    let axis = *m.ints("p")?.get(m.int("k")? as usize)?;
    m.bind("j", axis);
    Some(true)
}

/// The permutation leaves the axes from `k` on alone.
fn keeps_tail(m: &Match, p: &str, k: usize) -> Option<bool> {
    Some(m.ints(p)?.iter().enumerate().skip(k).all(|(i, &a)| i as i64 == a))
}

fn keeps_norm_axes(m: &mut Match, of_rows: &[&str]) -> Option<bool> {
    let k = m.int("k")? as usize;
    Some(keeps_tail(m, "p", k)? && m.alike_in_rows(of_rows, k, m.rank("x")?)?)
}

fn norm_before_reshape(m: &mut Match, of_rows: &[&str]) -> Option<bool> {
    let k = m.int("k")? as usize;
    Some(m.alike_in_rows(of_rows, k, m.ints("s")?.len())? && row_axis_before_reshape(m)?)
}

/// Axes before a transpose, and the permutation of what a reduction without kept axes leaves.
fn dropped_axes(m: &mut Match) -> Option<bool> {
    if m.bool("k")? {
        return Some(false);
    }
    let p = m.ints("p")?;
    let mut axes: Vec<i64> = m.ints("a")?.iter().map(|&a| p[a as usize]).collect();
    axes.sort_unstable();
    let left: Vec<i64> = p.iter().copied().filter(|a| !axes.contains(a)).collect();
    let place: Vec<i64> = left.iter().map(|&a| left.iter().filter(|&&b| b < a).count() as i64).collect();
    m.bind("b", axes);
    m.bind("q", place);
    Some(true)
}

/// Shapes that end alike from axis `k` (of the reshaped value) on; the axis of x that it is.
fn same_tail(m: &Match, x: &str, s: &str, k: usize) -> Option<i64> {
    let (x, s) = (m.dims(x)?, m.ints(s)?);
    let tail = s.get(k..)?;
    (x.len() >= tail.len() && &x[x.len() - tail.len()..] == tail).then(|| (x.len() - tail.len()) as i64)
}

fn row_axis_before_reshape(m: &mut Match) -> Option<bool> {
    let k = same_tail(m, "x", "s", m.int("k")? as usize)?;
    m.bind("j", k);
    Some(true)
}

/// Trailing axes are reduced and stay as 1.
fn trailing_axes_before_reshape(m: &mut Match) -> Option<bool> {
    let (axes, rank) = (m.ints("a")?.to_vec(), m.ints("s")?.len() as i64);
    let first = *axes.first()?;
    if !m.bool("k")? || !axes.iter().copied().eq(first..rank) {
        return Some(false);
    }
    let at = same_tail(m, "x", "s", first as usize)?;
    let end = m.rank("x")? as i64;
    m.bind("b", (at..end).collect::<Vec<i64>>());
    let shape = m.root_dims()?;
    m.bind("t", shape);
    Some(true)
}

fn batched_alike(m: &mut Match) -> Option<bool> {
    let rank = m.rank("x")?;
    Some(rank > 2 && m.rank("y")? == rank && keeps_tail(m, "p", rank - 2)?)
}

/// Rows regrouped before a matrix: x[…, k] as s[…, k].
fn rows_regrouped(m: &mut Match) -> Option<bool> {
    let (x, s, w) = (m.dims("x")?, m.ints("s")?, m.dims("w")?);
    if x.len() < 2 || s.len() < 2 || w.len() != 2 || x.last() != s.last() {
        return Some(false);
    }
    let shape = m.root_dims()?;
    m.bind("t", shape);
    Some(true)
}

/// Batch axes merged or split alike on both sides.
fn batches_regrouped(m: &mut Match) -> Option<bool> {
    let (x, y, s, t) = (m.dims("x")?, m.dims("y")?, m.ints("s")?, m.ints("t")?);
    let split = |d: &[i64]| d.len().checked_sub(2).map(|n| (d[..n].to_vec(), d[n..].to_vec()));
    let ((bx, mx), (by, my), (bs, ms), (bt, mt)) = (split(&x)?, split(&y)?, split(s)?, split(t)?);
    if bx != by || bs != bt || mx != ms || my != mt || bx.is_empty() {
        return Some(false);
    }
    let shape = m.root_dims()?;
    m.bind("r", shape);
    Some(true)
}

/// `c` is one number, or runs along the last axis, which the reshape keeps.
fn along_last(m: &mut Match) -> Option<bool> {
    let (x, s, c) = (m.dims("x")?, m.ints("s")?, m.dims("c")?);
    let vector = c.len() == 1 && !x.is_empty() && x.last() == s.last() && c.last() == s.last();
    Some(m.root_dims()? == s && (c.is_empty() || vector))
}

/// Neither operand has the full shape, but both are repeated to it.
fn both_repeat(m: &mut Match) -> Option<bool> {
    let narrow = m.broadcast("x", "y")?;
    let s = m.ints("s")?;
    Some(m.root_dims()? == s && narrow != s)
}

/// Batch axes of `y` repeat to `s`, which the other operand has anyway.
fn repeats_batches(m: &mut Match, x: &str, y: &str) -> Option<bool> {
    let (x, y, s, root) = (m.dims(x)?, m.dims(y)?, m.ints("s")?, m.root_dims()?);
    if x.len() < 2 || y.len() < 2 || y[y.len() - 2..] != s[s.len() - 2..] {
        return Some(false);
    }
    // What batches become without the broadcast.
    let (bx, by, full) = (&x[..x.len() - 2], &y[..y.len() - 2], &root[..root.len() - 2]);
    let at = |b: &[i64], i: usize| (i + b.len()).checked_sub(full.len()).map_or(1, |i| b[i]);
    Some(bx.len().max(by.len()) == full.len() && (0..full.len()).all(|i| at(bx, i).max(at(by, i)) == full[i]))
}

fn moved(s: &mut Sample, keep: usize) -> Vec<usize> {
    let d = s.dims(4);
    s.input("x", &d);
    let mut p = s.perm(4 - keep);
    p.extend((4 - keep) as i64..4);
    let out = p.iter().map(|&a| d[a as usize]).collect();
    s.attr("p", p);
    out
}

fn dropped(s: &mut Sample) {
    let d = s.dims(4);
    s.input("x", &d);
    let p = s.perm(4);
    s.attr("p", p);
    s.attr("a", vec![0, 2]);
    s.attr("k", false);
}

fn regrouped(s: &mut Sample) -> Vec<usize> {
    let d = s.dims(3);
    s.input("x", &d);
    s.attr("s", vec![(d[0] * d[1]) as i64, d[2] as i64]);
    d
}

fn regrouped_rows(s: &mut Sample) {
    regrouped(s);
    s.attr("a", vec![1]);
    s.attr("k", true);
}

pub(in super::super) static RULES: &[Rule] = &[
    Rule {
        name: "transpose-past-cast",
        class: Exact,
        lhs: "(cast (transpose ?x ?p) ?d ?s)",
        rhs: "(transpose (cast ?x ?d ?s) ?p)",
        when: None,
        doc: "A cast is elementwise.",
        sample: |s| {
            moved(s, 0);
            s.attr("d", DType::BF16);
            s.attr("s", true);
        },
    },
    Rule {
        name: "reshape-past-cast",
        class: Exact,
        lhs: "(cast (reshape ?x ?s) ?d ?t)",
        rhs: "(reshape (cast ?x ?d ?t) ?s)",
        when: None,
        doc: "The same for reshapes.",
        sample: |s| {
            regrouped(s);
            s.attr("d", DType::BF16);
            s.attr("t", true);
        },
    },
    Rule {
        name: "broadcast-past-unary",
        class: Exact,
        lhs: "({unary} (broadcast ?x ?s))",
        rhs: "(broadcast ({unary} ?x) ?s)",
        when: None,
        doc: "f of what repeats is computed once and then repeated.",
        sample: |s| {
            let d = s.dims(2);
            s.input("x", &[1, d[1]]);
            s.attr("s", longs(&d));
        },
    },
    Rule {
        name: "broadcast-past-cast",
        class: Exact,
        lhs: "(cast (broadcast ?x ?s) ?d ?t)",
        rhs: "(broadcast (cast ?x ?d ?t) ?s)",
        when: None,
        doc: "The same for a cast.",
        sample: |s| {
            let d = s.dims(2);
            s.input("x", &[d[1]]);
            s.attr("s", longs(&d));
            s.attr("d", DType::F16);
            s.attr("t", true);
        },
    },
    Rule {
        name: "broadcast-past-binary",
        class: Exact,
        lhs: "({binary} (broadcast ?x ?s) (broadcast ?y ?s))",
        rhs: "(broadcast ({binary} ?x ?y) ?s)",
        when: Some(both_repeat),
        doc: "Two values that repeat meet before they are repeated.",
        sample: |s| {
            let d = s.dims(3);
            s.input("x", &[1, d[1], d[2]]);
            s.input("y", &[d[2]]);
            s.attr("s", vec![d[0] as i64 + 1, d[1] as i64, d[2] as i64]);
        },
    },
    Rule {
        name: "transpose-past-softmax",
        class: Reassociate,
        lhs: "(softmax (transpose ?x ?p) ?k)",
        rhs: "(transpose (softmax ?x ?j) ?p)",
        when: Some(axis_before_transpose),
        doc: "Normalising along axis k after a transpose is normalising along p[k] before it.",
        sample: |s| {
            moved(s, 0);
            s.attr("k", 2);
        },
    },
    Rule {
        name: "transpose-past-layer-norm",
        class: Reassociate,
        lhs: "(layer_norm (transpose ?x ?p) ?g ?b ?k ?e)",
        rhs: "(transpose (layer_norm ?x ?g ?b ?k ?e) ?p)",
        when: Some(|m| keeps_norm_axes(m, &["g", "b"])),
        doc: "A transpose of the leading axes moves whole rows.",
        sample: |s| {
            let d = moved(s, 1);
            s.weight("g", &[d[3]]);
            s.weight("b", &[d[3]]);
            s.attr("k", 3);
            s.attr("e", 1e-3);
        },
    },
    Rule {
        name: "transpose-past-rms-norm",
        class: Reassociate,
        lhs: "(rms_norm (transpose ?x ?p) ?g ?k ?e)",
        rhs: "(transpose (rms_norm ?x ?g ?k ?e) ?p)",
        when: Some(|m| keeps_norm_axes(m, &["g"])),
        doc: "The same for RMS normalisation.",
        sample: |s| {
            let d = moved(s, 1);
            s.weight("g", &[d[3]]);
            s.attr("k", 3);
            s.attr("e", 1e-3);
        },
    },
    Rule {
        name: "transpose-past-reduce-min",
        class: Reassociate,
        lhs: "(reduce_min (transpose ?x ?p) ?a ?k)",
        rhs: "(transpose (reduce_min ?x ?b ?k) ?p)",
        when: Some(super::axes_before_transpose),
        doc: "As for the maximum: with kept axes, the axes they came from are reduced.",
        sample: super::reduce_sample,
    },
    Rule {
        name: "transpose-past-dropped-sum",
        class: Reassociate,
        lhs: "(reduce_sum (transpose ?x ?p) ?a ?k)",
        rhs: "(transpose (reduce_sum ?x ?b ?k) ?q)",
        when: Some(dropped_axes),
        doc: "Without kept axes, what is left keeps its order: q[i] = how many axes left are before p[i].",
        sample: dropped,
    },
    Rule {
        name: "transpose-past-dropped-mean",
        class: Reassociate,
        lhs: "(reduce_mean (transpose ?x ?p) ?a ?k)",
        rhs: "(transpose (reduce_mean ?x ?b ?k) ?q)",
        when: Some(dropped_axes),
        doc: "The same for the mean.",
        sample: dropped,
    },
    Rule {
        name: "transpose-past-dropped-max",
        class: Reassociate,
        lhs: "(reduce_max (transpose ?x ?p) ?a ?k)",
        rhs: "(transpose (reduce_max ?x ?b ?k) ?q)",
        when: Some(dropped_axes),
        doc: "The same for the maximum. (The sign of a zero may differ.)",
        sample: dropped,
    },
    Rule {
        name: "transpose-past-matmul",
        class: Reassociate,
        lhs: "(matmul (transpose ?x ?p) (transpose ?y ?p))",
        rhs: "(transpose (matmul ?x ?y) ?p)",
        when: Some(batched_alike),
        doc: "Batch axes moved alike on both sides: the products are the same, in another order.",
        sample: |s| {
            let d = [s.dim(), s.dim(), s.dim(), s.dim()];
            let n = s.dim();
            s.input("x", &d);
            s.input("y", &[1, d[1], d[3], n]);
            s.attr("p", vec![1, 0, 2, 3]);
        },
    },
    Rule {
        name: "matmul-of-transposed",
        class: Reassociate,
        lhs: "(matmul (transpose ?a [1,0]) (transpose ?b [1,0]))",
        rhs: "(transpose (matmul ?b ?a) [1,0])",
        when: Some(|m| Some(m.rank("a")? == 2 && m.rank("b")? == 2)),
        doc: "Aᵀ·Bᵀ = (B·A)ᵀ: one transpose instead of two.",
        sample: |s| {
            let (m, k, n) = (s.dim(), s.dim(), s.dim());
            s.input("a", &[k, m]);
            s.input("b", &[n, k]);
        },
    },
    Rule {
        name: "reshape-past-softmax",
        class: Reassociate,
        lhs: "(softmax (reshape ?x ?s) ?k)",
        rhs: "(reshape (softmax ?x ?j) ?s)",
        when: Some(row_axis_before_reshape),
        doc: "Leading axes merged or split regroup whole rows.",
        sample: |s| {
            regrouped(s);
            s.attr("k", 1);
        },
    },
    Rule {
        name: "reshape-past-layer-norm",
        class: Reassociate,
        lhs: "(layer_norm (reshape ?x ?s) ?g ?b ?k ?e)",
        rhs: "(reshape (layer_norm ?x ?g ?b ?j ?e) ?s)",
        when: Some(|m| norm_before_reshape(m, &["g", "b"])),
        doc: "The same for layer normalisation.",
        sample: |s| {
            let d = regrouped(s);
            s.weight("g", &[d[2]]);
            s.weight("b", &[d[2]]);
            s.attr("k", 1);
            s.attr("e", 1e-3);
        },
    },
    Rule {
        name: "reshape-past-rms-norm",
        class: Reassociate,
        lhs: "(rms_norm (reshape ?x ?s) ?g ?k ?e)",
        rhs: "(reshape (rms_norm ?x ?g ?j ?e) ?s)",
        when: Some(|m| norm_before_reshape(m, &["g"])),
        doc: "The same for RMS normalisation.",
        sample: |s| {
            let d = regrouped(s);
            s.weight("g", &[d[2]]);
            s.attr("k", 1);
            s.attr("e", 1e-3);
        },
    },
    Rule {
        name: "reshape-past-reduce-sum",
        class: Reassociate,
        lhs: "(reduce_sum (reshape ?x ?s) ?a ?k)",
        rhs: "(reshape (reduce_sum ?x ?b ?k) ?t)",
        when: Some(trailing_axes_before_reshape),
        doc: "The trailing axes are the same elements before the reshape.",
        sample: regrouped_rows,
    },
    Rule {
        name: "reshape-past-reduce-mean",
        class: Reassociate,
        lhs: "(reduce_mean (reshape ?x ?s) ?a ?k)",
        rhs: "(reshape (reduce_mean ?x ?b ?k) ?t)",
        when: Some(trailing_axes_before_reshape),
        doc: "The same for the mean.",
        sample: regrouped_rows,
    },
    Rule {
        name: "reshape-past-reduce-max",
        class: Reassociate,
        lhs: "(reduce_max (reshape ?x ?s) ?a ?k)",
        rhs: "(reshape (reduce_max ?x ?b ?k) ?t)",
        when: Some(trailing_axes_before_reshape),
        doc: "The same for the maximum. (The sign of a zero may differ.)",
        sample: regrouped_rows,
    },
    Rule {
        name: "reshape-past-matmul-rows",
        class: Reassociate,
        lhs: "(matmul (reshape ?x ?s) ?w)",
        rhs: "(reshape (matmul ?x ?w) ?t)",
        when: Some(rows_regrouped),
        doc: "A matrix maps each row by itself, however rows are grouped.",
        sample: |s| {
            let d = regrouped(s);
            let n = s.dim();
            s.weight("w", &[d[2], n]);
        },
    },
    Rule {
        name: "reshape-past-matmul-batches",
        class: Reassociate,
        lhs: "(matmul (reshape ?x ?s) (reshape ?y ?t))",
        rhs: "(reshape (matmul ?x ?y) ?r)",
        when: Some(batches_regrouped),
        doc: "Batch axes merged alike on both sides: the products are the same.",
        sample: |s| {
            let d = s.dims(5);
            s.input("x", &[d[0], d[1], d[2], d[3]]);
            s.input("y", &[d[0], d[1], d[3], d[4]]);
            s.attr("s", longs(&[d[0] * d[1], d[2], d[3]]));
            s.attr("t", longs(&[d[0] * d[1], d[3], d[4]]));
        },
    },
    Rule {
        name: "reshape-past-bias",
        class: Exact,
        lhs: "({binary} (reshape ?x ?s) ?c)",
        rhs: "(reshape ({binary} ?x ?c) ?s)",
        when: Some(along_last),
        doc: "One number, or one per place of the last axis, which the reshape keeps.",
        sample: |s| {
            let d = regrouped(s);
            if s.below(2) == 0 { s.input("c", &[]) } else { s.input("c", &[d[2]]) }
        },
    },
    Rule {
        name: "broadcast-in-matmul-first",
        class: Reassociate,
        lhs: "(matmul (broadcast ?y ?s) ?x)",
        rhs: "(matmul ?y ?x)",
        when: Some(|m| repeats_batches(m, "x", "y")),
        doc: "matmul repeats batches by itself: every expert reads the same tokens.",
        sample: |s| {
            let (b, m, k, n) = (s.dim(), s.dim(), s.dim(), s.dim());
            s.input("y", &[1, m, k]);
            s.input("x", &[b, k, n]);
            s.attr("s", longs(&[b, m, k]));
        },
    },
    Rule {
        name: "broadcast-in-matmul-second",
        class: Reassociate,
        lhs: "(matmul ?x (broadcast ?y ?s))",
        rhs: "(matmul ?x ?y)",
        when: Some(|m| repeats_batches(m, "x", "y")),
        doc: "The same on the other side: queries that share a key head.",
        sample: |s| {
            let (b, h, m, k, n) = (s.dim(), s.dim(), s.dim(), s.dim(), s.dim());
            s.input("x", &[b, h, m, k]);
            s.input("y", &[b, 1, k, n]);
            s.attr("s", longs(&[b, h, k, n]));
        },
    },
];

#[cfg(test)]
pub(in super::super) static WRONG: &[Rule] = &[
    Rule {
        name: "wrong-transpose-past-softmax",
        class: Reassociate,
        lhs: "(softmax (transpose ?x ?p) ?k)",
        rhs: "(transpose (softmax ?x ?k) ?p)",
        when: None,
        doc: "Forgets that the axis moved.",
        sample: |s| {
            s.input("x", &[3, 3]);
            s.attr("p", vec![1, 0]);
            s.attr("k", 1);
        },
    },
    Rule {
        name: "wrong-reshape-past-matmul",
        class: Reassociate,
        lhs: "(matmul (reshape ?x ?s) ?w)",
        rhs: "(matmul ?x ?w)",
        when: None,
        doc: "The reshape mixes rows.",
        sample: |s| {
            s.input("x", &[2, 2]);
            s.weight("w", &[4, 2]);
            s.attr("s", vec![1, 4]);
        },
    },
    Rule {
        name: "wrong-transpose-past-dropped-max",
        class: Exact,
        lhs: "(reduce_max (transpose ?x ?p) ?a ?k)",
        rhs: "(reduce_max ?x ?a ?k)",
        when: None,
        doc: "Reduces another axis.",
        sample: |s| {
            s.input("x", &[3, 3, 3]);
            s.attr("p", vec![2, 0, 1]);
            s.attr("a", vec![0]);
            s.attr("k", false);
        },
    },
    Rule {
        name: "wrong-reshape-past-bias",
        class: Exact,
        lhs: "({binary} (reshape ?x ?s) ?c)",
        rhs: "(reshape ({binary} ?x ?c) ?s)",
        when: None,
        doc: "A bias along an axis that the reshape split is another one.",
        sample: |s| {
            s.input("x", &[4]);
            s.input("c", &[2, 1]);
            s.attr("s", vec![2, 2]);
        },
    },
];
