//! What is linear before a contraction goes behind it or into its weights: row scales, gains and biases of norms, halves of `k`.

use super::super::{Match, Rule, Sample};
use super::conv_sample;
use tahoma_core::Tensor;
use tahoma_core::artifact::Numerics::Reassociate;
use tahoma_core::op::{Kind, Scalar};

fn weight_matrix(m: &Match) -> Option<[i64; 2]> {
    let w = m.dims("w")?;
    let [k, n] = *w.as_slice() else { return None };
    (m.fixed("w")? && !m.fixed("x")? && m.rank("x")? >= 2 && m.ty("w")?.dtype.is_float()).then_some([k, n])
}

/// `r` is one number per row of x, and x alone gives the shape. (One number for all is better in fixed weights, or in what it scales.)
fn per_row(m: &mut Match) -> Option<bool> {
    let (x, r, w) = (m.dims("x")?, m.dims("r")?, m.dims("w")?);
    let shape = m.broadcast("x", "r")? == x && x.len() >= 2 && w.len() == 2;
    let number = m.elements("r")? == 1 && m.fixed("w")?;
    Some(shape && !number && r.last().is_none_or(|&d| d == 1) && m.ty("x")?.dtype.is_float() && !m.fixed("x")?)
}

/// `c` is fixed and runs along `k`; its shape as a factor of the weights, which are wide: 16-bit weights would be rounded once more.
fn along_k(m: &mut Match, c: &str) -> Option<bool> {
    let [k, _] = weight_matrix(m)?;
    let d = m.dims(c)?;
    m.bind("f", vec![k, 1]);
    Some(m.fixed(c)? && d == [k] && m.ty("w")?.dtype.bits() >= 32 && m.ty(c)?.dtype == m.ty("w")?.dtype)
}

/// The same for what is no step of a norm: norms are kept whole.
fn plain_along_k(m: &mut Match) -> Option<bool> {
    let arithmetic = m.is_made_by("x", |op| matches!(op.kind, Kind::Elementwise(Scalar::Binary(_) | Scalar::Cast)))?;
    Some(!arithmetic && along_k(m, "c")? && m.broadcast("x", "c")? == m.dims("x")?)
}

/// The same for a bias that x·W and c·W do not cancel for: x has been rounded.
fn bias_along_k(m: &mut Match) -> Option<bool> {
    Some(m.rounded("x")? && plain_along_k(m)?)
}

/// A norm along the last axis whose gain is not yet 1: gain and bias of ones and zeros instead.
fn gain_along_k(m: &mut Match) -> Option<bool> {
    let last = m.rank("x")? as i64 - 1;
    if m.int("k")? != last || m.generated("g")? || !m.feeds_matmuls() || !along_k(m, "g")? {
        return Some(false);
    }
    let (n, dtype) = (m.dims("g")?[0], m.ty("g")?.dtype);
    m.bind("n", Tensor::from_f64s(dtype, &[], &[1.0]));
    m.bind("o", Tensor::from_f64s(dtype, &[], &[0.0]));
    m.bind("v", vec![n]);
    Some(true)
}

fn norm_bias(m: &mut Match) -> Option<bool> {
    Some(m.fixed("b")? && m.ty("b")?.dtype == m.ty("w")?.dtype && gain_along_k(m)?)
}

/// `c` is fixed with one number per input channel (axis 1 of N, C, …), one group.
fn per_input_channel(m: &mut Match) -> Option<bool> {
    let (x, w, c) = (m.dims("x")?, m.dims("w")?, m.dims("c")?);
    let fixed = m.fixed("c")? && m.fixed("w")? && !m.fixed("x")? && m.ty("c")?.dtype == m.ty("w")?.dtype;
    let spatial = w.len() - 2;
    let mut want = vec![1; spatial + 1];
    want[0] = w[1];
    let plain = c == want || (c.len() == x.len() && c[0] == 1 && c[1..] == want);
    if !fixed || !plain || m.int("g")? != 1 || m.broadcast("x", "c")? != x {
        return Some(false);
    }
    want.insert(0, 1);
    m.bind("f", want);
    Some(true)
}

/// The same for a bias, which padding would not get: nothing may be padded.
fn bias_of_channels(m: &mut Match) -> Option<bool> {
    if m.ints("p")?.iter().any(|&p| p != 0) || !m.rounded("x")? || !per_input_channel(m)? {
        return Some(false);
    }
    let w = m.dims("w")?;
    let mut shape = vec![w[0]];
    shape.resize(w.len() - 1, 1);
    m.bind("a", (1..w.len() as i64).collect::<Vec<i64>>());
    m.bind("h", shape);
    m.bind("t", false);
    Some(true)
}

/// Two products of different inputs with matrices that can be stacked.
fn stacks(m: &mut Match) -> Option<bool> {
    let (x, y, a, b) = (m.dims("x")?, m.dims("y")?, m.dims("a")?, m.dims("b")?);
    let rows = x.len() >= 2 && x.len() == y.len() && x[..x.len() - 1] == y[..y.len() - 1];
    let matrices = a.len() == 2 && b.len() == 2 && a[1] == b[1] && m.fixed("a")? && m.fixed("b")?;
    m.bind("k", x.len() as i64 - 1);
    Some(rows && matrices && x != y && !m.fixed("x")? && !m.fixed("y")?)
}

fn splits_k(m: &mut Match) -> Option<bool> {
    let [_, n] = weight_matrix(m)?;
    let (x, y) = (m.dims("x")?, m.dims("y")?);
    let (p, q) = (*x.last()?, *y.last()?);
    m.bind("s", vec![0, 0]);
    m.bind("p", vec![p, n]);
    m.bind("o", vec![1, 1]);
    m.bind("t", vec![p, 0]);
    m.bind("q", vec![q, n]);
    Some(m.int("k")? == x.len() as i64 - 1 && !m.fixed("y")?)
}

fn product(s: &mut Sample) -> usize {
    let (b, m, k, n) = (s.dim(), s.dim(), 1 + s.dim(), s.dim());
    s.input("x", &[b, m, k]);
    s.weight("w", &[k, n]);
    k
}

fn norm(s: &mut Sample) {
    let k = product(s);
    s.weight("g", &[k]);
    s.weight("b", &[k]);
    s.attr("k", 2);
    s.attr("e", 1e-3);
}

fn plain_conv(s: &mut Sample) {
    conv_sample(s);
    let (c, m) = (s.dim(), s.dim());
    let d = [s.dim(), c, 3 + s.dim(), 3 + s.dim()];
    s.input("x", &d);
    s.weight("w", &[m, c, 3, 2]);
    s.weight("c", &[c, 1, 1]);
    s.attr("g", 1);
}

pub(in super::super) static RULES: &[Rule] = &[
    Rule {
        name: "row-scale-past-matmul",
        class: Reassociate,
        lhs: "(matmul (mul ?x ?r) ?w)",
        rhs: "(mul (matmul ?x ?w) ?r)",
        when: Some(per_row),
        doc: "Σ (r[m]·x[m, k])·w[k, n] = r[m]·Σ x[m, k]·w[k, n]: the 1/√ of a norm can wait until after the product.",
        sample: |s| {
            let (b, m, k, n) = (1 + s.dim(), s.dim(), s.dim(), s.dim());
            s.input("x", &[b, m, k]);
            s.weight("w", &[k, n]);
            s.input("r", &[b, m, 1]);
        },
    },
    Rule {
        name: "gain-into-matmul",
        class: Reassociate,
        lhs: "(matmul (mul ?x ?c) ?w)",
        rhs: "(matmul ?x (mul ?w (reshape ?c ?f)))",
        when: Some(plain_along_k),
        doc: "Σ (x[m, k]·c[k])·w[k, n] = Σ x[m, k]·(c[k]·w[k, n]): the scaled weights are a recipe.",
        sample: |s| {
            let k = product(s);
            s.weight("c", &[k]);
        },
    },
    Rule {
        name: "bias-past-matmul",
        class: Reassociate,
        lhs: "(matmul (add ?x ?c) ?w)",
        rhs: "(add (matmul ?x ?w) (matmul ?c ?w))",
        when: Some(bias_along_k),
        doc: "(x + c)·W = x·W + c·W: the bias becomes one of the product, a recipe. (Not where x is exact: x·W and c·W may cancel.)",
        sample: |s| {
            let k = product(s);
            if let Some(d) = s.shape("x") {
                s.computed("x", "tanh", &d);
            }
            s.weight("c", &[k]);
        },
    },
    Rule {
        name: "rms-norm-gain-into-matmul",
        class: Reassociate,
        lhs: "(matmul (rms_norm ?x ?g ?k ?e) ?w)",
        rhs: "(matmul (rms_norm ?x (broadcast (constant ?n) ?v) ?k ?e) (mul ?w (reshape ?g ?f)))",
        when: Some(gain_along_k),
        doc: "The gain of a norm is a scale along k, which the weights can hold.",
        sample: norm,
    },
    Rule {
        name: "layer-norm-gain-into-matmul",
        class: Reassociate,
        lhs: "(matmul (layer_norm ?x ?g ?b ?k ?e) ?w)",
        rhs: "(add (matmul (layer_norm ?x (broadcast (constant ?n) ?v) (broadcast (constant ?o) ?v) ?k ?e) (mul ?w (reshape ?g ?f))) (matmul ?b ?w))",
        when: Some(norm_bias),
        doc: "(n·g + b)·W = n·(g·W) + b·W: gain and bias of the norm become weights and bias of the product.",
        sample: norm,
    },
    Rule {
        name: "channel-scale-into-conv",
        class: Reassociate,
        lhs: "(conv (mul ?x ?c) ?w ?s ?p ?d ?g)",
        rhs: "(conv ?x (mul ?w (reshape ?c ?f)) ?s ?p ?d ?g)",
        when: Some(per_input_channel),
        doc: "Σ w[o, i]·(c[i]·x[i]) = Σ (w[o, i]·c[i])·x[i]; zero padding scaled is zero: a norm before a convolution.",
        sample: plain_conv,
    },
    Rule {
        name: "channel-bias-past-conv",
        class: Reassociate,
        lhs: "(conv (add ?x ?c) ?w ?s ?p ?d ?g)",
        rhs: "(add (conv ?x ?w ?s ?p ?d ?g) (reshape (reduce_sum (mul ?w (reshape ?c ?f)) ?a ?t) ?h))",
        when: Some(bias_of_channels),
        doc: "Without padding every output sees the same Σ w[o, i]·c[i]: a bias, and a recipe. (Not where x is exact.)",
        sample: |s| {
            plain_conv(s);
            if let Some(d) = s.shape("x") {
                s.computed("x", "mul", &d);
            }
            s.attr("p", vec![0; 4]);
        },
    },
    Rule {
        name: "sum-of-products",
        class: Reassociate,
        lhs: "(add (matmul ?x ?a) (matmul ?y ?b))",
        rhs: "(matmul (concat ?x ?y ?k) (concat ?a ?b 0))",
        when: Some(stacks),
        doc: "x·A + y·B = [x|y]·[A; B]: one product over both, as in recurrent cells.",
        sample: |s| {
            let (m, n, p, q) = (s.dim(), s.dim(), s.dim(), 5 + s.dim());
            s.input("x", &[m, p]);
            s.input("y", &[m, q]);
            s.weight("a", &[p, n]);
            s.weight("b", &[q, n]);
        },
    },
    Rule {
        name: "matmul-of-concat",
        class: Reassociate,
        lhs: "(matmul (concat ?x ?y ?k) ?w)",
        rhs: "(add (matmul ?x (slice ?w ?s ?p ?o)) (matmul ?y (slice ?w ?t ?q ?o)))",
        when: Some(splits_k),
        doc: "[x|y]·W = x·W₀ + y·W₁, the upper and lower rows of W: the concatenation is never written.",
        sample: |s| {
            let (m, n, p, q) = (s.dim(), s.dim(), s.dim(), s.dim());
            s.input("x", &[m, p]);
            s.input("y", &[m, q]);
            s.weight("w", &[p + q, n]);
            s.attr("k", 1);
        },
    },
];

#[cfg(test)]
pub(in super::super) static WRONG: &[Rule] = &[
    Rule {
        name: "wrong-row-scale-past-matmul",
        class: Reassociate,
        lhs: "(matmul (mul ?x ?r) ?w)",
        rhs: "(mul (matmul ?x ?w) ?r)",
        when: None,
        doc: "A scale along k is not one of the columns.",
        sample: |s| {
            s.input("x", &[3, 3]);
            s.weight("w", &[3, 3]);
            s.input("r", &[3]);
        },
    },
    Rule {
        name: "wrong-bias-past-conv",
        class: Reassociate,
        lhs: "(conv (add ?x ?c) ?w ?s ?p ?d ?g)",
        rhs: "(add (conv ?x ?w ?s ?p ?d ?g) (reshape (reduce_sum (mul ?w (reshape ?c ?f)) ?a ?t) ?h))",
        when: Some(|m| {
            if !per_input_channel(m)? {
                return Some(false);
            }
            let w = m.dims("w")?;
            m.bind("a", (1..w.len() as i64).collect::<Vec<i64>>());
            m.bind("h", vec![w[0], 1, 1]);
            m.bind("t", false);
            Some(true)
        }),
        doc: "Padding is zero, not the bias.",
        sample: plain_conv,
    },
    Rule {
        name: "wrong-norm-bias-dropped",
        class: Reassociate,
        lhs: "(matmul (layer_norm ?x ?g ?b ?k ?e) ?w)",
        rhs: "(matmul (layer_norm ?x (broadcast (constant ?n) ?v) (broadcast (constant ?o) ?v) ?k ?e) (mul ?w (reshape ?g ?f)))",
        when: Some(norm_bias),
        doc: "Forgets what the bias becomes.",
        sample: norm,
    },
    Rule {
        name: "wrong-sum-of-products",
        class: Reassociate,
        lhs: "(add (matmul ?x ?a) (matmul ?y ?b))",
        rhs: "(matmul (concat ?x ?y ?k) (concat ?b ?a 0))",
        when: Some(stacks),
        doc: "Weights stacked the other way round.",
        sample: |s| {
            s.input("x", &[2, 2]);
            s.input("y", &[2, 3]);
            s.weight("a", &[2, 3]);
            s.weight("b", &[3, 3]);
        },
    },
];
