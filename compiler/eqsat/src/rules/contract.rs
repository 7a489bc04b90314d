//! Contractions: scales and norms folded into weights, transposes, distributivity.

pub(super) mod linear;

use super::{Match, Rule};
use tahoma_core::artifact::Numerics::Reassociate;

/// `?c` is fixed and varies along the output channels (axis 1 of N, C, …) alone: its shape as a factor of the weights.
fn per_channel(m: &mut Match) -> Option<bool> {
    let (root, w, c) = (m.root_dims()?, m.dims("w")?, m.dims("c")?);
    if !m.fixed("c")? || !m.fixed("w")? || m.ty("c")?.dtype != m.ty("w")?.dtype || c.len() > root.len() {
        return Some(false);
    }
    let mut full = vec![1; root.len() - c.len()];
    full.extend(&c);
    if full.iter().enumerate().any(|(a, &n)| n != 1 && a != 1) || m.broadcast("x", "x").is_none() {
        return Some(false);
    }
    let channels = full.get(1).copied().unwrap_or(1);
    let mut shape = vec![channels];
    shape.resize(w.len(), 1);
    m.bind("f", shape);
    Some(true)
}

/// `?c` is fixed and varies along the last axis alone, for weights `[k, n]` (with batch axes or not).
fn per_column(m: &mut Match) -> Option<bool> {
    let (c, w, root) = (m.dims("c")?, m.dims("w")?, m.root_dims()?);
    let n = c.last().copied().unwrap_or(1);
    // A vector times a matrix is a vector: the factor must not have given it another axis.
    if m.rank("x")?.max(w.len()) - usize::from(m.rank("x")? == 1) != root.len() {
        return Some(false);
    }
    let rest = c.split_last().is_none_or(|(_, r)| r.iter().all(|&d| d == 1));
    if !m.fixed("c")? || !m.fixed("w")? || w.len() < 2 || !rest || c.len() > root.len() || m.ty("c")?.dtype != m.ty("w")?.dtype {
        return Some(false);
    }
    m.bind("f", vec![n]);
    Some(true)
}

/// `[C]` as a factor of N, C, spatial…: C, 1, 1, …
fn norm_shape(m: &mut Match) -> Option<bool> {
    let (x, s) = (m.dims("x")?, m.dims("s")?);
    // The norm of 16-bit floats computes in f32; a rounded r and shift would lose what it keeps.
    if m.ty("x")?.dtype.bits() < 32 {
        return Some(false);
    }
    if ["s", "b", "m", "v"].iter().any(|v| m.fixed(v) != Some(true)) || s.len() != 1 || x.len() < 2 {
        return Some(false);
    }
    let mut shape = vec![s[0]];
    shape.resize(x.len() - 1, 1);
    m.bind("f", shape);
    let e = m.float("e")?;
    let dtype = m.ty("v")?.dtype;
    m.bind("k", tahoma_core::Tensor::from_f64s(dtype, &[], &[e]));
    Some(true)
}

fn swaps_matrix(m: &mut Match) -> Option<bool> {
    Some(m.ints("p")? == [1, 0] && m.rank("a")? == 2 && m.rank("b")? == 2)
}

fn fixed_pair(m: &mut Match) -> Option<bool> {
    Some(m.fixed("a")? && m.fixed("b")? && !m.fixed("x")? && m.dims("a")? == m.dims("b")?)
}

/// Multiplying the weights first must not make them larger than both were.
fn smaller_product(m: &mut Match) -> Option<bool> {
    let (a, b) = (m.dims("a")?, m.dims("b")?);
    let ([k, i], [_, n]) = (a.as_slice(), b.as_slice()) else { return Some(false) };
    Some(m.fixed("a")? && m.fixed("b")? && !m.fixed("x")? && k * n <= k * i + i * n)
}

/// Each output pixel comes from one input pixel: kernel = stride, nothing padded or dilated.
fn tiles_exactly(m: &mut Match) -> Option<bool> {
    let (x, w) = (m.dims("x")?, m.dims("w")?);
    let (strides, pads, dilations, extra) = (m.ints("s")?, m.ints("p")?, m.ints("d")?, m.ints("o")?);
    let zero = |v: &[i64]| v.iter().all(|&a| a == 0);
    if m.int("g")? != 1 || strides != &w[2..] || !zero(pads) || !zero(extra) || dilations.iter().any(|&d| d != 1) {
        return Some(false);
    }
    let r = strides.len();
    let (c, out, taps) = (w[0], w[1], w[2..].iter().product::<i64>());
    m.bind("u", (1..w.len() as i64).chain([0]).collect::<Vec<i64>>());
    m.bind("f", [out * taps, c].into_iter().chain(vec![1; r]).collect::<Vec<i64>>());
    m.bind("t", vec![1; r]);
    m.bind("z", vec![0; 2 * r]);
    m.bind("h", [x[0], out].iter().chain(&w[2..]).chain(&x[2..]).copied().collect::<Vec<i64>>());
    m.bind("v", [0, 1].into_iter().chain((0..r as i64).flat_map(|i| [2 + r as i64 + i, 2 + i])).collect::<Vec<i64>>());
    let shape = m.root_dims()?;
    m.bind("y", shape);
    Some(true)
}

fn conv_sample(s: &mut super::Sample) -> usize {
    let (c, groups) = (1 + s.below(3), 1 + s.below(2));
    let m = groups * (1 + s.below(3));
    let d = [s.dim(), c * groups, 3 + s.dim(), 3 + s.dim()];
    s.input("x", &d);
    s.weight("w", &[m, c, 3, 2]);
    s.attr("s", vec![1, 2]);
    s.attr("p", vec![1, 0, 1, 1]);
    s.attr("d", vec![1, 1]);
    s.attr("g", groups as i64);
    m
}

pub(super) static RULES: &[Rule] = &[
    Rule {
        name: "scale-into-conv",
        class: Reassociate,
        lhs: "(mul (conv ?x ?w ?s ?p ?d ?g) ?c)",
        rhs: "(conv ?x (mul ?w (reshape ?c ?f)) ?s ?p ?d ?g)",
        when: Some(per_channel),
        doc: "c[o]·Σ w[o, i]·x[i] = Σ (c[o]·w[o, i])·x[i]: the scaled weights are a recipe.",
        sample: |s| {
            let m = conv_sample(s);
            s.weight("c", &[m, 1, 1]);
        },
    },
    Rule {
        name: "scale-into-matmul",
        class: Reassociate,
        lhs: "(mul (matmul ?x ?w) ?c)",
        rhs: "(matmul ?x (mul ?w (reshape ?c ?f)))",
        when: Some(per_column),
        doc: "c[n]·Σ x[m, k]·w[k, n] = Σ x[m, k]·(w[k, n]·c[n]).",
        sample: |s| {
            let (b, m, k, n) = (s.dim(), s.dim(), s.dim(), s.dim());
            s.input("x", &[b, m, k]);
            s.weight("w", &[k, n]);
            s.weight("c", &[1, n]);
        },
    },
    Rule {
        name: "batch-norm-is-affine",
        class: Reassociate,
        lhs: "(batch_norm ?x ?s ?b ?m ?v ?e)",
        rhs: "(add (mul ?x (reshape (mul ?s (rsqrt (add ?v (constant ?k)))) ?f)) (reshape (sub ?b (mul ?m (mul ?s (rsqrt (add ?v (constant ?k)))))) ?f))",
        when: Some(norm_shape),
        doc: "s·(x − m)/√(v + ε) + b = x·r + (b − m·r) with r = s/√(v + ε), in f32 and f64; r and the sum are recipes. With scale-into-conv, the norm \
              disappears into the convolution before it.",
        sample: |s| {
            let c = s.dim();
            let d = [s.dim(), c, s.dim(), s.dim()];
            s.input("x", &d);
            for v in ["s", "b", "m"] {
                s.weight(v, &[c]);
            }
            s.constant("v", &[c], 0.7);
            s.attr("e", 1e-5);
        },
    },
    Rule {
        name: "transpose-of-matmul",
        class: Reassociate,
        lhs: "(transpose (matmul ?a ?b) ?p)",
        rhs: "(matmul (transpose ?b ?p) (transpose ?a ?p))",
        when: Some(swaps_matrix),
        doc: "(A·B)ᵀ = Bᵀ·Aᵀ; a transposed weight is a recipe, a transposed operand is read in place.",
        sample: |s| {
            let (m, k, n) = (s.dim(), s.dim(), s.dim());
            s.input("a", &[m, k]);
            s.weight("b", &[k, n]);
            s.attr("p", vec![1, 0]);
        },
    },
    Rule {
        name: "matmul-distributes",
        class: Reassociate,
        lhs: "(add (matmul ?x ?a) (matmul ?x ?b))",
        rhs: "(matmul ?x (add ?a ?b))",
        when: Some(fixed_pair),
        doc: "x·A + x·B = x·(A + B): half the flops.",
        sample: |s| {
            let (m, k, n) = (s.dim(), s.dim(), s.dim());
            s.input("x", &[m, k]);
            s.weight("a", &[k, n]);
            s.weight("b", &[k, n]);
        },
    },
    Rule {
        name: "conv-distributes",
        class: Reassociate,
        lhs: "(add (conv ?x ?a ?s ?p ?d ?g) (conv ?x ?b ?s ?p ?d ?g))",
        rhs: "(conv ?x (add ?a ?b) ?s ?p ?d ?g)",
        when: Some(fixed_pair),
        doc: "The same for parallel convolutions of one shape (re-parameterised networks).",
        sample: |s| {
            conv_sample(s);
            if let Some(super::sample::Given::Leaf(l)) = s.given.remove("w") {
                let shape = l.ty.shape.to_static().unwrap_or_default();
                s.weight("a", &shape);
                s.weight("b", &shape);
            }
        },
    },
    Rule {
        name: "transposed-conv-that-tiles",
        class: Reassociate,
        lhs: "(conv_transpose ?x ?w ?s ?p ?d ?g ?o)",
        rhs: "(reshape (transpose (reshape (conv ?x (reshape (transpose ?w ?u) ?f) ?t ?z ?t ?g) ?h) ?v) ?y)",
        when: Some(tiles_exactly),
        doc: "y[m, h·s + i] = Σ_c x[c, h]·w[c, m, i] where the kernel is as wide as the stride: a 1×1 convolution to M·s·s channels, \
              whose taps are then laid side by side.",
        sample: |s| {
            let (c, m, i, j) = (s.dim(), s.dim(), 1 + s.below(3), 1 + s.below(3));
            let d = [s.dim(), c, s.dim(), s.dim()];
            s.input("x", &d);
            s.weight("w", &[c, m, i, j]);
            s.attr("s", vec![i as i64, j as i64]);
            s.attr("p", vec![0; 4]);
            s.attr("d", vec![1, 1]);
            s.attr("g", 1);
            s.attr("o", vec![0, 0]);
        },
    },
    Rule {
        name: "matmul-of-weights-first",
        class: Reassociate,
        lhs: "(matmul (matmul ?x ?a) ?b)",
        rhs: "(matmul ?x (matmul ?a ?b))",
        when: Some(smaller_product),
        doc: "(x·A)·B = x·(A·B), where the product of the weights is not larger than the two (low-rank factors stay apart).",
        sample: |s| {
            let (b, m) = (s.dim(), s.dim());
            s.input("x", &[b, m, 2]);
            s.weight("a", &[2, 5]);
            s.weight("b", &[5, 3]);
        },
    },
];

#[cfg(test)]
pub(super) static WRONG: &[Rule] = &[
    Rule {
        name: "wrong-transpose-of-matmul",
        class: Reassociate,
        lhs: "(transpose (matmul ?a ?b) ?p)",
        rhs: "(matmul (transpose ?a ?p) (transpose ?b ?p))",
        when: None,
        doc: "Forgets to swap.",
        sample: |s| {
            s.input("a", &[3, 3]);
            s.input("b", &[3, 3]);
            s.attr("p", vec![1, 0]);
        },
    },
    Rule {
        name: "wrong-scale-into-matmul",
        class: Reassociate,
        lhs: "(mul (matmul ?x ?w) ?c)",
        rhs: "(matmul (mul ?x ?c) ?w)",
        when: None,
        doc: "Scales the summed axis.",
        sample: |s| {
            s.input("x", &[3, 3]);
            s.weight("w", &[3, 3]);
            s.weight("c", &[3]);
        },
    },
    Rule {
        name: "wrong-batch-norm",
        class: Reassociate,
        lhs: "(batch_norm ?x ?s ?b ?m ?v ?e)",
        rhs: "(batch_norm ?x ?s ?m ?b ?v ?e)",
        when: None,
        doc: "Mean and bias swapped.",
        sample: |s| {
            s.input("x", &[2, 3, 2, 2]);
            for v in ["s", "b", "m"] {
                s.weight(v, &[3]);
            }
            s.constant("v", &[3], 0.5);
            s.attr("e", 1e-5);
        },
    },
];
