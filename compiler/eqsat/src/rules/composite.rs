//! Composites recognised from the ops that exporters write them with. Fewer, larger ops: kernels stay within their size, and a back
//! end may claim them by name.

pub(super) mod activation;
pub(super) mod rows;

use super::{Match, Rule};
use tahoma_core::DType;
use tahoma_core::artifact::Numerics::{Exact, Reassociate};

/// Whether a number in a program of type `d` stands for `value`: off by no more than rounding to f32, or to f64 where that is the type.
fn near(v: f64, value: f64, d: DType) -> bool {
    let within = if d == DType::F64 { 4.0 * f64::EPSILON } else { 1e-6 };
    (v - value).abs() <= within * value.abs()
}

fn is(m: &Match, var: &str, value: f64) -> bool {
    m.uniform(var).zip(m.ty(var)).is_some_and(|(v, t)| near(v, value, t.dtype))
}

/// Constants keep the shape of what they meet: each has one element.
fn small(m: &Match, vars: &[&str]) -> Option<bool> {
    let rank = m.root()?.rank();
    Some(vars.iter().all(|v| m.elements(v) == Some(1) && m.rank(v).is_some_and(|r| r <= rank)))
}

/// One kept axis, as an attribute.
fn softmax_axis(m: &mut Match) -> Option<bool> {
    let [axis] = *m.ints("a")? else { return Some(false) };
    m.bind("k", axis);
    m.bool("t")?.then_some(true)
}

/// Trailing axes, kept, and scale and bias of their shape: layer normalisation from that axis on.
fn norm_axis(m: &mut Match, params: &[&str]) -> Option<bool> {
    let (axes, x) = (m.ints("a")?, m.dims("x")?);
    let first = *axes.first()?;
    let trailing = axes.iter().copied().eq(first..x.len() as i64);
    let tail = &x[first as usize..];
    if !m.bool("t")? || !trailing || params.iter().any(|p| m.dims(p).as_deref() != Some(tail)) {
        return Some(false);
    }
    let e = m.uniform("e")?;
    if m.elements("e")? != 1 {
        return Some(false);
    }
    m.bind("k", first);
    m.bind("y", e);
    Some(true)
}

fn row(s: &mut super::Sample) {
    let d = [s.dim(), s.dim(), 1 + s.dim()];
    s.input("x", &d);
    s.attr("a", vec![2]);
    s.attr("t", true);
}

fn norm(s: &mut super::Sample) {
    let d = [s.dim(), s.dim(), 2 + s.dim()];
    s.input("x", &d);
    s.attr("a", vec![2]);
    s.attr("t", true);
    s.weight("g", &[d[2]]);
    s.weight("b", &[d[2]]);
    s.constant("e", &[], 1e-5);
    s.constant("two", &[], 2.0);
}

/// An x that has been rounded: x/6 + ½ rounds digits away that x + 3 of an exact x has.
fn rounded_with(s: &mut super::Sample, constants: &[(&'static str, f32)]) {
    with_constants(s, constants);
    if let Some(d) = s.shape("x") {
        s.computed("x", "mul", &d);
    }
}

fn with_constants(s: &mut super::Sample, constants: &[(&'static str, f32)]) {
    let d = s.dims(2);
    s.input("x", &d);
    for (name, v) in constants {
        s.constant(name, &[], *v);
    }
}

pub(super) static RULES: &[Rule] = &[
    Rule {
        name: "softmax-recognised",
        class: Reassociate,
        lhs: "(div (exp (sub ?x (reduce_max ?x ?a ?t))) (reduce_sum (exp (sub ?x (reduce_max ?x ?a ?t))) ?a ?t))",
        rhs: "(softmax ?x ?k)",
        when: Some(softmax_axis),
        doc: "exp(x − max x) / Σ exp(x − max x), the stable form.",
        sample: row,
    },
    Rule {
        name: "unstable-softmax-recognised",
        class: Reassociate,
        lhs: "(div (exp ?x) (reduce_sum (exp ?x) ?a ?t))",
        rhs: "(softmax ?x ?k)",
        when: Some(softmax_axis),
        doc: "exp x / Σ exp x is the same number, where nothing overflows; the composite does not overflow.",
        sample: row,
    },
    Rule {
        name: "sigmoid-recognised-div",
        class: Reassociate,
        lhs: "(div ?one (add ?uno (exp (neg ?x))))",
        rhs: "(sigmoid ?x)",
        when: Some(|m| Some(small(m, &["one", "uno"])? && is(m, "one", 1.0) && is(m, "uno", 1.0))),
        doc: "1 / (1 + e^−x).",
        sample: |s| with_constants(s, &[("one", 1.0), ("uno", 1.0)]),
    },
    Rule {
        name: "sigmoid-recognised-reciprocal",
        class: Reassociate,
        lhs: "(reciprocal (add (exp (neg ?x)) ?one))",
        rhs: "(sigmoid ?x)",
        when: Some(|m| Some(small(m, &["one"])? && is(m, "one", 1.0))),
        doc: "The same with the reciprocal written out.",
        sample: |s| with_constants(s, &[("one", 1.0)]),
    },
    Rule {
        name: "silu-recognised",
        class: Reassociate,
        lhs: "(mul ?x (sigmoid ?x))",
        rhs: "(silu ?x)",
        when: None,
        doc: "x·σ(x).",
        sample: |s| with_constants(s, &[]),
    },
    Rule {
        name: "silu-recognised-left",
        class: Reassociate,
        lhs: "(mul (sigmoid ?x) ?x)",
        rhs: "(silu ?x)",
        when: None,
        doc: "The same written the other way.",
        sample: |s| with_constants(s, &[]),
    },
    Rule {
        name: "relu-recognised",
        class: Reassociate,
        lhs: "(max ?x ?zero)",
        rhs: "(relu ?x)",
        when: Some(|m| Some(m.uniform("zero")? == 0.0 && m.root_is("x")? && m.ty("x")?.dtype.is_float())),
        doc: "max(x, 0). (The sign of a zero may differ.)",
        sample: |s| with_constants(s, &[("zero", 0.0)]),
    },
    Rule {
        name: "hard-swish-recognised-div",
        class: Reassociate,
        lhs: "(div (mul ?x (clip (add ?x ?three) ?zero ?six)) ?sixth)",
        rhs: "(hard_swish ?x)",
        when: Some(hard_swish),
        doc: "x·clip(x + 3, 0, 6)/6, as MobileNetV3 is exported.",
        sample: |s| rounded_with(s, &[("three", 3.0), ("zero", 0.0), ("six", 6.0), ("sixth", 6.0)]),
    },
    Rule {
        name: "hard-swish-recognised-inner",
        class: Reassociate,
        lhs: "(mul ?x (div (clip (add ?x ?three) ?zero ?six) ?sixth))",
        rhs: "(hard_swish ?x)",
        when: Some(hard_swish),
        doc: "The same, divided first.",
        sample: |s| rounded_with(s, &[("three", 3.0), ("zero", 0.0), ("six", 6.0), ("sixth", 6.0)]),
    },
    Rule {
        name: "hard-swish-from-hard-sigmoid",
        class: Reassociate,
        lhs: "(mul ?x (hard_sigmoid ?x ?a ?b))",
        rhs: "(hard_swish ?x)",
        when: Some(|m| Some(near(m.float("a")?, 1.0 / 6.0, m.ty("x")?.dtype) && m.float("b")? == 0.5)),
        doc: "x·clip(x/6 + ½, 0, 1).",
        sample: |s| {
            with_constants(s, &[]);
            s.attr("a", 1.0 / 6.0);
            s.attr("b", 0.5);
        },
    },
    Rule {
        name: "gelu-recognised",
        class: Reassociate,
        lhs: "(mul (mul ?x (add (erf (div ?x ?root)) ?one)) ?half)",
        rhs: "(gelu ?x)",
        when: Some(gelu),
        doc: "½·x·(1 + erf(x/√2)), as PyTorch and Hugging Face export it.",
        sample: |s| with_constants(s, &[("root", std::f32::consts::SQRT_2), ("one", 1.0), ("half", 0.5)]),
    },
    Rule {
        name: "gelu-recognised-half-first",
        class: Reassociate,
        lhs: "(mul (mul ?x ?half) (add (erf (div ?x ?root)) ?one))",
        rhs: "(gelu ?x)",
        when: Some(gelu),
        doc: "The same, halved first.",
        sample: |s| with_constants(s, &[("root", std::f32::consts::SQRT_2), ("one", 1.0), ("half", 0.5)]),
    },
    Rule {
        name: "gelu-recognised-half-outside",
        class: Reassociate,
        lhs: "(mul ?x (mul (add (erf (div ?x ?root)) ?one) ?half))",
        rhs: "(gelu ?x)",
        when: Some(gelu),
        doc: "The same, with the half inside.",
        sample: |s| with_constants(s, &[("root", std::f32::consts::SQRT_2), ("one", 1.0), ("half", 0.5)]),
    },
    Rule {
        name: "layer-norm-recognised",
        class: Reassociate,
        lhs: "(add (mul (div (sub ?x (reduce_mean ?x ?a ?t)) (sqrt (add (reduce_mean (pow (sub ?x (reduce_mean ?x ?a ?t)) ?two) ?a ?t) ?e))) ?g) ?b)",
        rhs: "(layer_norm ?x ?g ?b ?k ?y)",
        when: Some(|m| Some(is(m, "two", 2.0) && norm_axis(m, &["g", "b"])?)),
        doc: "(x − μ)/√(mean((x − μ)²) + ε)·g + b, written out with a power.",
        sample: norm,
    },
    Rule {
        name: "layer-norm-recognised-square",
        class: Reassociate,
        lhs: "(add (mul (div (sub ?x (reduce_mean ?x ?a ?t)) (sqrt (add (reduce_mean (mul (sub ?x (reduce_mean ?x ?a ?t)) (sub ?x (reduce_mean ?x ?a ?t))) ?a ?t) ?e))) ?g) ?b)",
        rhs: "(layer_norm ?x ?g ?b ?k ?y)",
        when: Some(|m| norm_axis(m, &["g", "b"])),
        doc: "The same, squared by a product.",
        sample: norm,
    },
    Rule {
        name: "rms-norm-recognised",
        class: Reassociate,
        lhs: "(mul (mul ?x (rsqrt (add (reduce_mean (mul ?x ?x) ?a ?t) ?e))) ?g)",
        rhs: "(rms_norm ?x ?g ?k ?y)",
        when: Some(|m| norm_axis(m, &["g"])),
        doc: "x/√(mean(x²) + ε)·g.",
        sample: norm,
    },
    Rule {
        name: "min-max-is-clip",
        class: Exact,
        lhs: "(min (max ?x ?lo) ?hi)",
        rhs: "(clip ?x ?lo ?hi)",
        when: Some(|m| Some(m.elements("lo")? == 1 && m.elements("hi")? == 1 && m.rank("lo")? == 0 && m.rank("hi")? == 0)),
        doc: "min(max(x, lo), hi) is what clip means.",
        sample: |s| with_constants(s, &[("lo", -0.5), ("hi", 0.75)]),
    },
];

fn hard_swish(m: &mut Match) -> Option<bool> {
    let values = is(m, "three", 3.0) && m.uniform("zero")? == 0.0 && is(m, "six", 6.0) && is(m, "sixth", 6.0);
    Some(values && small(m, &["three", "zero", "six", "sixth"])? && m.rounded("x")?)
}

fn gelu(m: &mut Match) -> Option<bool> {
    let values = is(m, "root", std::f64::consts::SQRT_2) && is(m, "one", 1.0) && is(m, "half", 0.5);
    Some(values && small(m, &["root", "one", "half"])?)
}

#[cfg(test)]
pub(super) static WRONG: &[Rule] = &[
    Rule {
        name: "wrong-gelu",
        class: Reassociate,
        lhs: "(mul (mul ?x (add (erf (div ?x ?root)) ?one)) ?half)",
        rhs: "(gelu_tanh ?x)",
        when: Some(gelu),
        doc: "The tanh form is an approximation, off by 1e-4.",
        sample: |s| with_constants(s, &[("root", std::f32::consts::SQRT_2), ("one", 1.0), ("half", 0.5)]),
    },
    Rule {
        name: "wrong-softmax-axis",
        class: Reassociate,
        lhs: "(div (exp ?x) (reduce_sum (exp ?x) ?a ?t))",
        rhs: "(softmax ?x ?k)",
        when: Some(|m| {
            m.bind("k", 0);
            Some(true)
        }),
        doc: "Another axis.",
        sample: |s| {
            s.input("x", &[3, 3]);
            s.attr("a", vec![1]);
            s.attr("t", true);
        },
    },
    Rule {
        name: "wrong-layer-norm-epsilon",
        class: Reassociate,
        lhs: "(mul (mul ?x (rsqrt (add (reduce_mean (mul ?x ?x) ?a ?t) ?e))) ?g)",
        rhs: "(rms_norm ?x ?g ?k ?y)",
        when: Some(|m| {
            m.bind("k", 2);
            m.bind("y", 0.5);
            Some(true)
        }),
        doc: "Another epsilon.",
        sample: norm,
    },
];
