//! Activations as frameworks write them out.

use super::super::{Match, Rule};
use super::{is, rounded_with, small, with_constants};
use tahoma_core::Tensor;
use tahoma_core::artifact::Numerics::Reassociate;

const ROOT_HALF: f32 = std::f32::consts::FRAC_1_SQRT_2;
/// √(2/π)
const GELU_K: f64 = 0.797_884_560_802_865_4;
const GELU_C: f64 = 0.044_715;

fn gelu_product(m: &mut Match) -> Option<bool> {
    let values = is(m, "root", std::f64::consts::FRAC_1_SQRT_2) && is(m, "one", 1.0) && is(m, "half", 0.5);
    Some(values && small(m, &["root", "one", "half"])?)
}

fn gelu_tanh(m: &mut Match) -> Option<bool> {
    let values = is(m, "c", GELU_C) && is(m, "k", GELU_K) && is(m, "one", 1.0) && is(m, "half", 0.5);
    Some(values && small(m, &["c", "k", "one", "half"])?)
}

fn ones(m: &mut Match, vars: &[&str]) -> Option<bool> {
    Some(vars.iter().all(|v| is(m, v, 1.0)) && small(m, vars)? && m.ty("x")?.dtype.is_float())
}

/// Slope and offset of a hard sigmoid, from constants.
fn hard_sigmoid(m: &mut Match, cut: f64) -> Option<bool> {
    let (a, b) = (m.uniform("a")?, m.uniform("b")?);
    let bounds = m.uniform("zero")? == 0.0 && is(m, "top", cut);
    m.bind("k", a / cut);
    m.bind("c", b / cut);
    Some(bounds && small(m, &["a", "b", "zero", "top"])? && m.ty("x")?.dtype.is_float())
}

fn hard_six(m: &mut Match) -> Option<bool> {
    let values = is(m, "three", 3.0) && m.uniform("zero")? == 0.0 && is(m, "six", 6.0) && is(m, "sixth", 1.0 / 6.0);
    m.bind("k", 1.0 / 6.0);
    m.bind("c", 0.5);
    Some(values && small(m, &["three", "zero", "six", "sixth"])? && m.rounded("x")?)
}

fn leak(m: &mut Match) -> Option<bool> {
    let a = m.uniform("a")?;
    m.bind("k", a);
    Some(m.rank("a")? == 0 && m.ty("x")?.dtype.is_float())
}

fn gelu_sample(s: &mut super::super::Sample) {
    with_constants(s, &[("root", ROOT_HALF), ("one", 1.0), ("half", 0.5)]);
}

fn gelu_tanh_sample(s: &mut super::super::Sample) {
    with_constants(s, &[("c", GELU_C as f32), ("k", GELU_K as f32), ("one", 1.0), ("half", 0.5)]);
}

fn six_sample(s: &mut super::super::Sample) {
    rounded_with(s, &[("three", 3.0), ("zero", 0.0), ("six", 6.0), ("sixth", 1.0 / 6.0)]);
}

pub(in super::super) static RULES: &[Rule] = &[
    Rule {
        name: "gelu-recognised-product",
        class: Reassociate,
        lhs: "(mul (mul ?x (add (erf (mul ?x ?root)) ?one)) ?half)",
        rhs: "(gelu ?x)",
        when: Some(gelu_product),
        doc: "½·x·(1 + erf(x·(1/√2))), as TensorFlow and JAX write it.",
        sample: gelu_sample,
    },
    Rule {
        name: "gelu-recognised-product-half-first",
        class: Reassociate,
        lhs: "(mul (mul ?x ?half) (add (erf (mul ?x ?root)) ?one))",
        rhs: "(gelu ?x)",
        when: Some(gelu_product),
        doc: "The same, halved first.",
        sample: gelu_sample,
    },
    Rule {
        name: "gelu-recognised-product-half-outside",
        class: Reassociate,
        lhs: "(mul ?x (mul (add (erf (mul ?x ?root)) ?one) ?half))",
        rhs: "(gelu ?x)",
        when: Some(gelu_product),
        doc: "The same, with the half inside.",
        sample: gelu_sample,
    },
    Rule {
        name: "gelu-tanh-recognised",
        class: Reassociate,
        lhs: "(mul (mul ?x ?half) (add (tanh (mul (add ?x (mul (mul (mul ?x ?x) ?x) ?c)) ?k)) ?one))",
        rhs: "(gelu_tanh ?x)",
        when: Some(gelu_tanh),
        doc: "½·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))), as GPT-2 writes it; the cube is a product by pow-three.",
        sample: gelu_tanh_sample,
    },
    Rule {
        name: "gelu-tanh-recognised-half-last",
        class: Reassociate,
        lhs: "(mul (mul ?x (add (tanh (mul (add ?x (mul (mul (mul ?x ?x) ?x) ?c)) ?k)) ?one)) ?half)",
        rhs: "(gelu_tanh ?x)",
        when: Some(gelu_tanh),
        doc: "The same, halved last.",
        sample: gelu_tanh_sample,
    },
    Rule {
        name: "gelu-tanh-recognised-half-inside",
        class: Reassociate,
        lhs: "(mul ?x (mul (add (tanh (mul (add ?x (mul (mul (mul ?x ?x) ?x) ?c)) ?k)) ?one) ?half))",
        rhs: "(gelu_tanh ?x)",
        when: Some(gelu_tanh),
        doc: "The same, with the half inside.",
        sample: gelu_tanh_sample,
    },
    Rule {
        name: "softplus-recognised",
        class: Reassociate,
        lhs: "(log (add (exp ?x) ?one))",
        rhs: "(softplus ?x)",
        when: Some(|m| ones(m, &["one"])),
        doc: "ln(1 + eˣ); the composite does not overflow.",
        sample: |s| with_constants(s, &[("one", 1.0)]),
    },
    Rule {
        name: "mish-recognised",
        class: Reassociate,
        lhs: "(mul ?x (tanh (softplus ?x)))",
        rhs: "(mish ?x)",
        when: None,
        doc: "x·tanh(softplus x).",
        sample: |s| with_constants(s, &[]),
    },
    Rule {
        name: "silu-recognised-div",
        class: Reassociate,
        lhs: "(div ?x (add (exp (neg ?x)) ?one))",
        rhs: "(silu ?x)",
        when: Some(|m| ones(m, &["one"])),
        doc: "x/(1 + e^−x).",
        sample: |s| with_constants(s, &[("one", 1.0)]),
    },
    Rule {
        name: "softsign-recognised",
        class: Reassociate,
        lhs: "(div ?x (add (abs ?x) ?one))",
        rhs: "(softsign ?x)",
        when: Some(|m| ones(m, &["one"])),
        doc: "x/(1 + |x|).",
        sample: |s| with_constants(s, &[("one", 1.0)]),
    },
    Rule {
        name: "hard-sigmoid-recognised",
        class: Reassociate,
        lhs: "(clip (add (mul ?x ?a) ?b) ?zero ?top)",
        rhs: "(hard_sigmoid ?x ?k ?c)",
        when: Some(|m| hard_sigmoid(m, 1.0)),
        doc: "clip(a·x + b, 0, 1).",
        sample: |s| with_constants(s, &[("a", 0.2), ("b", 0.5), ("zero", 0.0), ("top", 1.0)]),
    },
    Rule {
        name: "hard-sigmoid-recognised-six",
        class: Reassociate,
        lhs: "(mul (clip (add ?x ?three) ?zero ?six) ?sixth)",
        rhs: "(hard_sigmoid ?x ?k ?c)",
        when: Some(hard_six),
        doc: "ReLU6(x + 3)/6 = clip(x/6 + ½, 0, 1), as PyTorch writes it.",
        sample: six_sample,
    },
    Rule {
        name: "hard-swish-recognised-mul",
        class: Reassociate,
        lhs: "(mul (mul ?x (clip (add ?x ?three) ?zero ?six)) ?sixth)",
        rhs: "(hard_swish ?x)",
        when: Some(hard_six),
        doc: "x·ReLU6(x + 3)·(1/6).",
        sample: six_sample,
    },
    Rule {
        name: "leaky-relu-recognised-select",
        class: Reassociate,
        lhs: "(select (lt ?x ?zero) (mul ?x ?a) ?x)",
        rhs: "(leaky_relu ?x ?k)",
        when: Some(|m| Some(m.uniform("zero")? == 0.0 && m.rank("zero")? == 0 && leak(m)?)),
        doc: "x < 0 ? a·x : x.",
        sample: |s| with_constants(s, &[("zero", 0.0), ("a", 0.1)]),
    },
    Rule {
        name: "leaky-relu-recognised-max",
        class: Reassociate,
        lhs: "(max ?x (mul ?x ?a))",
        rhs: "(leaky_relu ?x ?k)",
        when: Some(|m| Some((0.0..=1.0).contains(&m.uniform("a")?) && leak(m)?)),
        doc: "max(x, a·x) for 0 ≤ a ≤ 1.",
        sample: |s| with_constants(s, &[("a", 0.25)]),
    },
    Rule {
        name: "thresholded-relu-recognised",
        class: Reassociate,
        lhs: "(select (gt ?x ?zero) ?x (constant ?n))",
        rhs: "(thresholded_relu ?x ?k)",
        when: Some(|m| {
            let k = m.uniform("zero")?;
            m.bind("k", k);
            Some(m.rank("zero")? == 0 && m.root_is("x")? && m.ty("x")?.dtype.is_float() && zero_tensor(m, "n"))
        }),
        doc: "x > a ? x : 0.",
        sample: |s| {
            with_constants(s, &[("zero", 0.5)]);
            s.attr("n", Tensor::f32(&[], vec![0.0]));
        },
    },
];

/// Whether an attribute is a tensor of one zero.
fn zero_tensor(m: &Match, var: &str) -> bool {
    matches!(m.attr(var), Some(tahoma_core::Attr::Tensor(t)) if t.to_f64s() == [0.0])
}

#[cfg(test)]
pub(in super::super) static WRONG: &[Rule] = &[
    Rule {
        name: "wrong-gelu-tanh",
        class: Reassociate,
        lhs: "(mul (mul ?x ?half) (add (tanh (mul (add ?x (mul (mul (mul ?x ?x) ?x) ?c)) ?k)) ?one))",
        rhs: "(gelu ?x)",
        when: Some(gelu_tanh),
        doc: "The tanh form is not the exact one.",
        sample: gelu_tanh_sample,
    },
    Rule {
        name: "wrong-leaky-relu-max",
        class: Reassociate,
        lhs: "(max ?x (mul ?x ?a))",
        rhs: "(leaky_relu ?x ?k)",
        when: Some(leak),
        doc: "For a > 1 the maximum takes the other branch.",
        sample: |s| with_constants(s, &[("a", 2.0)]),
    },
    Rule {
        name: "wrong-silu-sign",
        class: Reassociate,
        lhs: "(div ?x (add (exp ?x) ?one))",
        rhs: "(silu ?x)",
        when: Some(|m| ones(m, &["one"])),
        doc: "The exponent lost its sign.",
        sample: |s| with_constants(s, &[("one", 1.0)]),
    },
];
