//! Softmax and norms as frameworks write them out: with casts, with the maximum taken outside, with a sink.

use super::super::{Match, Rule, Sample};
use super::{is, norm, norm_axis, row, softmax_axis};
use tahoma_core::DType;
use tahoma_core::Tensor;
use tahoma_core::artifact::Numerics::Reassociate;

/// The reduction that was taken off is along the axis of the softmax.
fn same_axis(m: &mut Match) -> Option<bool> {
    let [axis] = *m.ints("a")? else { return Some(false) };
    Some(m.bool("t")? && axis == m.int("k")?)
}

/// `?n` is the number of elements that a sum is of.
fn count_of(m: &mut Match, inverse: bool) -> Option<bool> {
    let x = m.dims("x")?;
    let n: i64 = m.ints("a")?.iter().map(|&a| x[a as usize]).product();
    let want = if inverse { 1.0 / n as f64 } else { n as f64 };
    Some(is(m, "n", want) && n > 0 && m.elements("n")? == 1 && m.rank("n")? <= m.root()?.rank() && m.ty("x")?.dtype.is_float())
}

/// 16-bit x, normalised in f32 and rounded before the gain: what `rms_norm` means.
fn wide_rms_norm(m: &mut Match) -> Option<bool> {
    let (x, w, d) = (m.ty("x")?.dtype, m.dtype("w")?, m.dtype("d")?);
    Some(matches!(x, DType::F16 | DType::BF16) && w == DType::F32 && d == x && norm_axis(m, &["g"])?)
}

/// A softmax over scores and one more, which is dropped: the axis, and the types to compute in.
fn sink(m: &mut Match) -> Option<bool> {
    let (s, o, axis) = (m.dims("s")?, m.dims("o")?, m.int("k")?);
    let last = s.len() as i64 - 1;
    let first = m.ints("b")?.iter().all(|&b| b == 0) && m.ints("z")? == s && m.ints("u")?.iter().all(|&u| u == 1);
    let rows = o.last() == Some(&1) && s[..s.len() - 1] == o[..o.len() - 1];
    if m.int("c")? != axis || axis != last || !first || !rows {
        return Some(false);
    }
    Some(true)
}

/// One-hot vectors of the chosen along a new last axis, summed over the chosen: `i` counts along the axis that x is chosen from.
fn routes(m: &mut Match) -> Option<bool> {
    let (x, p, n) = (m.dims("x")?, m.ints("p")?, m.int("n")?);
    let last = x.len() as i64 - 1;
    let e = *x.last()?;
    let along = p.len() == x.len() + 1 && p.last() == Some(&1) && p[..p.len() - 2] == x[..x.len() - 1] && p[p.len() - 2] == n;
    let counts = m.counts("i", p.len())? == e;
    if m.int("k")? != last || m.ints("a")? != [last] || !along || !counts || !(1..=16).contains(&n) {
        return Some(false);
    }
    m.bind("e", vec![e]);
    m.bind("z", 0);
    m.bind("f", DType::F32);
    Some(m.dtype("d")? == m.ty("x")?.dtype && m.ty("x")?.dtype.is_float())
}

fn routes_sample(s: &mut Sample) {
    let (rows, e) = (s.dim(), 2 + s.dim());
    let n = 1 + s.below(3.min(e as u64)) as i64;
    let dtype = if s.below(2) == 0 { DType::F32 } else { DType::BF16 };
    s.leaf("x", dtype, &[rows, e], false);
    s.attr("n", n);
    s.attr("k", 1);
    let sorted = s.below(2) == 0;
    s.attr("o", sorted);
    s.attr("p", vec![rows as i64, n, 1]);
    s.given("i", Tensor::i64(&[1, 1, e], (0..e as i64).collect()));
    s.attr("d", dtype);
    s.attr("t", true);
    s.attr("a", vec![1]);
}

fn sink_sample(s: &mut Sample, dtype: DType) {
    let d = s.dims(3);
    s.leaf("s", dtype, &d, false);
    s.leaf("o", dtype, &[d[0], d[1], 1], false);
    s.attr("c", 2);
    s.attr("k", 2);
    s.attr("b", vec![0, 0, 0]);
    s.attr("z", d.iter().map(|&n| n as i64).collect::<Vec<_>>());
    s.attr("u", vec![1, 1, 1]);
}

fn counted(s: &mut Sample, inverse: bool) {
    let d = s.dims(3);
    s.input("x", &d);
    s.attr("a", vec![0, 2]);
    s.attr("t", true);
    let n = (d[0] * d[2]) as f32;
    s.constant("n", &[], if inverse { 1.0 / n } else { n });
}

pub(in super::super) static RULES: &[Rule] = &[
    Rule {
        name: "softmax-less-its-maximum",
        class: Reassociate,
        lhs: "(softmax (sub ?x (reduce_max ?x ?a ?t)) ?k)",
        rhs: "(softmax ?x ?k)",
        when: Some(same_axis),
        doc: "e^(x − m) / Σ e^(x − m) is the same for every m of the row, and the composite takes the maximum off itself.",
        sample: |s| {
            row(s);
            s.attr("k", 2);
        },
    },
    Rule {
        name: "log-softmax-recognised",
        class: Reassociate,
        lhs: "(sub (sub ?x (reduce_max ?x ?a ?t)) (log (reduce_sum (exp (sub ?x (reduce_max ?x ?a ?t))) ?a ?t)))",
        rhs: "(log_softmax ?x ?k)",
        when: Some(softmax_axis),
        doc: "x − m − ln Σ e^(x − m), the stable form.",
        sample: row,
    },
    Rule {
        name: "log-softmax-recognised-sum",
        class: Reassociate,
        lhs: "(sub ?x (reduce_log_sum_exp ?x ?a ?t))",
        rhs: "(log_softmax ?x ?k)",
        when: Some(softmax_axis),
        doc: "x − ln Σ eˣ.",
        sample: row,
    },
    Rule {
        name: "log-sum-exp-recognised",
        class: Reassociate,
        lhs: "(add (log (reduce_sum (exp (sub ?x (reduce_max ?x ?a ?t))) ?a ?t)) (reduce_max ?x ?a ?t))",
        rhs: "(reduce_log_sum_exp ?x ?a ?t)",
        when: Some(|m| m.bool("t")),
        doc: "ln Σ e^(x − m) + m, the stable form.",
        sample: row,
    },
    Rule {
        name: "mean-recognised-div",
        class: Reassociate,
        lhs: "(div (reduce_sum ?x ?a ?t) ?n)",
        rhs: "(reduce_mean ?x ?a ?t)",
        when: Some(|m| count_of(m, false)),
        doc: "A sum over its number of elements.",
        sample: |s| counted(s, false),
    },
    Rule {
        name: "mean-recognised-mul",
        class: Reassociate,
        lhs: "(mul (reduce_sum ?x ?a ?t) ?n)",
        rhs: "(reduce_mean ?x ?a ?t)",
        when: Some(|m| count_of(m, true)),
        doc: "The same as a product.",
        sample: |s| counted(s, true),
    },
    Rule {
        name: "layer-norm-recognised-rsqrt",
        class: Reassociate,
        lhs: "(add (mul (mul (sub ?x (reduce_mean ?x ?a ?t)) (rsqrt (add (reduce_mean (mul (sub ?x (reduce_mean ?x ?a ?t)) (sub ?x (reduce_mean ?x ?a ?t))) ?a ?t) ?e))) ?g) ?b)",
        rhs: "(layer_norm ?x ?g ?b ?k ?y)",
        when: Some(|m| norm_axis(m, &["g", "b"])),
        doc: "(x − μ)·1/√(mean((x − μ)²) + ε)·g + b, as a product.",
        sample: norm,
    },
    Rule {
        name: "layer-norm-recognised-affine",
        class: Reassociate,
        lhs: "(add (mul ?x (mul (rsqrt (add (reduce_mean (mul (sub ?x (reduce_mean ?x ?a ?t)) (sub ?x (reduce_mean ?x ?a ?t))) ?a ?t) ?e)) ?g)) (sub ?b (mul (reduce_mean ?x ?a ?t) (mul (rsqrt (add (reduce_mean (mul (sub ?x (reduce_mean ?x ?a ?t)) (sub ?x (reduce_mean ?x ?a ?t))) ?a ?t) ?e)) ?g))))",
        rhs: "(layer_norm ?x ?g ?b ?k ?y)",
        when: Some(|m| norm_axis(m, &["g", "b"])),
        doc: "x·r + (b − μ·r) with r = g/√(σ² + ε), as TensorFlow writes it.",
        sample: norm,
    },
    Rule {
        name: "rms-norm-recognised-div",
        class: Reassociate,
        lhs: "(mul (div ?x (sqrt (add (reduce_mean (mul ?x ?x) ?a ?t) ?e))) ?g)",
        rhs: "(rms_norm ?x ?g ?k ?y)",
        when: Some(|m| norm_axis(m, &["g"])),
        doc: "x/√(mean(x²) + ε)·g, as a quotient.",
        sample: norm,
    },
    Rule {
        name: "rms-norm-recognised-wide",
        class: Reassociate,
        lhs: "(mul (cast (mul (cast ?x ?w ?s) (rsqrt (add (reduce_mean (mul (cast ?x ?w ?s) (cast ?x ?w ?s)) ?a ?t) ?e))) ?d ?s) ?g)",
        rhs: "(rms_norm ?x ?g ?k ?y)",
        when: Some(wide_rms_norm),
        doc: "Normalised in f32, rounded, then scaled, as Hugging Face's Llama computes it in 16 bits: what the composite means.",
        sample: |s| {
            norm(s);
            let d = [s.dim(), s.dim(), 2 + s.dim()];
            s.leaf("x", DType::BF16, &d, false);
            s.leaf("g", DType::BF16, &[d[2]], true);
            s.attr("w", DType::F32);
            s.attr("d", DType::BF16);
            s.attr("s", true);
        },
    },
    Rule {
        name: "softmax-with-a-sink",
        class: Reassociate,
        lhs: "(slice (softmax (concat ?s ?o ?c) ?k) ?b ?z ?u)",
        rhs: "(sink_softmax ?s ?o ?k)",
        when: Some(sink),
        doc: "A score that takes its share and is dropped. The row keeps the length of s, so that an attention around it stays one kernel.",
        sample: |s| {
            let dtype = if s.below(2) == 0 { DType::F32 } else { DType::BF16 };
            sink_sample(s, dtype);
        },
    },
    Rule {
        name: "softmax-of-the-largest",
        class: Reassociate,
        lhs: "(reduce_sum (mul (cast (eq (reshape (result1 (topk ?x ?n ?k true ?o)) ?p) ?i) ?d ?t) (reshape (softmax (result0 (topk ?x ?n ?k true ?o)) ?k) ?p)) ?a false)",
        rhs: "(top_softmax ?x (iota ?e ?z ?f) ?n)",
        when: Some(routes),
        doc: "The shares of the chosen experts, spread over all by one-hot vectors: each row's softmax over its n largest, 0 elsewhere. \
              One pass over rows in place of a search, its indices and their comparison.",
        sample: routes_sample,
    },
    Rule {
        name: "rms-norm-recognised-plain",
        class: Reassociate,
        lhs: "(mul ?x (rsqrt (add (reduce_mean (mul ?x ?x) ?a ?t) ?e)))",
        rhs: "(rms_norm ?x (broadcast (constant ?n) ?v) ?k ?y)",
        when: Some(|m| {
            let x = m.dims("x")?;
            let dtype = m.ty("x")?.dtype;
            m.bind("n", Tensor::from_f64s(dtype, &[], &[1.0]));
            m.bind("v", vec![*x.last()?]);
            Some(m.ints("a")? == [x.len() as i64 - 1] && norm_axis(m, &[])?)
        }),
        doc: "Without a gain: a gain of ones.",
        sample: norm,
    },
];

#[cfg(test)]
pub(in super::super) static WRONG: &[Rule] = &[
    Rule {
        name: "wrong-softmax-sink-dropped",
        class: Reassociate,
        lhs: "(slice (softmax (concat ?s ?o ?c) ?k) ?b ?z ?u)",
        rhs: "(softmax ?s ?k)",
        when: Some(sink),
        doc: "The sink takes its share of the sum.",
        sample: |s| sink_sample(s, DType::F32),
    },
    Rule {
        name: "wrong-mean-count",
        class: Reassociate,
        lhs: "(div (reduce_sum ?x ?a ?t) ?n)",
        rhs: "(reduce_mean ?x ?a ?t)",
        when: None,
        doc: "Divided by another number.",
        sample: |s| {
            s.input("x", &[2, 3]);
            s.attr("a", vec![1]);
            s.attr("t", true);
            s.constant("n", &[], 2.0);
        },
    },
    Rule {
        name: "wrong-log-softmax",
        class: Reassociate,
        lhs: "(sub ?x (reduce_log_sum_exp ?x ?a ?t))",
        rhs: "(softmax ?x ?k)",
        when: Some(softmax_axis),
        doc: "The logarithm is missing.",
        sample: row,
    },
    Rule {
        name: "wrong-layer-norm-without-mean",
        class: Reassociate,
        lhs: "(mul (div (sub ?x (reduce_mean ?x ?a ?t)) (sqrt (add (reduce_mean (mul ?x ?x) ?a ?t) ?e))) ?g)",
        rhs: "(rms_norm ?x ?g ?k ?y)",
        when: Some(|m| norm_axis(m, &["g"])),
        doc: "An RMS norm takes no mean off.",
        sample: norm,
    },
];
