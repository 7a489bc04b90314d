//! Identities of signs, powers, exponentials, minima and selections.

use super::super::{Match, Rule, Sample};
use super::{float, neutral, one, only_right_fixed, pair, triple};
use tahoma_core::artifact::Numerics::{Exact, Reassociate};
use tahoma_core::{DType, Tensor};

fn alike(m: &mut Match) -> Option<bool> {
    Some(m.dims("x")? == m.dims("y")? && float(m, "x")?)
}

/// e^(x + y) has the digits of eˣ·eʸ: the sum of exponents rounds away none that they have, or is small.
fn exponents_join(m: &mut Match) -> Option<bool> {
    let few = |v: &str| Some(m.rounded(v)? || m.span(v)?.most <= 2);
    Some(few("x")? && few("y")? && m.dims("x")? == m.dims("y")? && m.ty("x")?.dtype.is_float())
}

/// One number, or the shape of what it meets; the other is neither fixed nor widened.
fn power(m: &mut Match, value: f64) -> Option<bool> {
    Some(neutral(m, value)? && float(m, "x")?)
}

/// `?one` is 1 everywhere and does not widen `?x`.
fn unit(m: &mut Match, var: &str, x: &str) -> Option<bool> {
    Some(m.uniform(var)? == 1.0 && m.root_is(x)? && float(m, x)?)
}

/// Bounds that are one number each, low ≤ high.
fn ordered(m: &Match, low: &str, high: &str) -> Option<bool> {
    let numbers = [low, high].iter().all(|v| m.rank(v) == Some(0));
    Some(numbers && m.uniform(low)? <= m.uniform(high)?)
}

fn clips_join(m: &mut Match) -> Option<bool> {
    if !ordered(m, "a", "b")? || !ordered(m, "c", "d")? {
        return Some(false);
    }
    let (c, d) = (m.uniform("c")?, m.uniform("d")?);
    let cut = |v: f64| v.max(c).min(d);
    let dtype = m.ty("x")?.dtype;
    let (low, high) = (cut(m.uniform("a")?), cut(m.uniform("b")?));
    m.bind("l", Tensor::from_f64s(dtype, &[], &[low]));
    m.bind("h", Tensor::from_f64s(dtype, &[], &[high]));
    Some(dtype.is_float())
}

/// A condition chosen once more: the shapes agree without the part that is never taken.
fn covered(m: &mut Match, other: &str) -> Option<bool> {
    let (c, x, y, root) = (m.dims("c")?, m.dims("x")?, m.dims(other)?, m.root_dims()?);
    Some([c, x, y].contains(&root))
}

fn same_fixed(m: &mut Match) -> Option<bool> {
    Some(m.fixed("c")? && !m.fixed("x")? && !m.fixed("y")? && alike(m)?)
}

fn both_scaled(m: &mut Match) -> Option<bool> {
    Some(m.fixed("a")? && m.fixed("b")? && !m.fixed("x")? && float(m, "x")?)
}

fn two(s: &mut Sample) {
    let d = s.dims(2);
    s.input("x", &d);
    s.input("y", &d);
}

fn two_rounded(s: &mut Sample) {
    let d = s.dims(2);
    s.computed("x", "mul", &d);
    s.computed("y", "mul", &d);
}

fn nested_select(s: &mut Sample) {
    let d = s.dims(2);
    s.leaf("c", DType::Bool, &d, false);
    for v in ["x", "y", "z"] {
        s.input(v, &d);
    }
}

pub(in super::super) static RULES: &[Rule] = &[
    Rule {
        name: "add-neg",
        class: Exact,
        lhs: "(add ?x (neg ?y))",
        rhs: "(sub ?x ?y)",
        when: Some(|m| Some(!m.fixed("y")? && float(m, "x")?)),
        doc: "x + (−y) = x − y, bit for bit in IEEE arithmetic. (A fixed y stays negated: a recipe.)",
        sample: two,
    },
    Rule {
        name: "sub-neg",
        class: Exact,
        lhs: "(sub ?x (neg ?y))",
        rhs: "(add ?x ?y)",
        when: Some(|m| float(m, "x")),
        doc: "x − (−y) = x + y.",
        sample: two,
    },
    Rule {
        name: "neg-of-sub",
        class: Reassociate,
        lhs: "(neg (sub ?x ?y))",
        rhs: "(sub ?y ?x)",
        when: Some(|m| float(m, "x")),
        doc: "−(x − y) = y − x. (Not exact: the sign of a zero.)",
        sample: two,
    },
    Rule {
        name: "sub-from-fixed",
        class: Exact,
        lhs: "(sub ?c ?x)",
        rhs: "(add (neg ?x) ?c)",
        when: Some(|m| Some(only_right_fixed(m)? && float(m, "x")?)),
        doc: "c − x = −x + c: the constant stands right, where scales and biases are gathered.",
        sample: pair,
    },
    Rule {
        name: "mul-of-negs",
        class: Exact,
        lhs: "(mul (neg ?x) (neg ?y))",
        rhs: "(mul ?x ?y)",
        when: Some(|m| float(m, "x")),
        doc: "(−x)·(−y) = x·y.",
        sample: two,
    },
    Rule {
        name: "neg-into-fixed-factor",
        class: Exact,
        lhs: "(mul (neg ?x) ?c)",
        rhs: "(mul ?x (neg ?c))",
        when: Some(|m| Some(only_right_fixed(m)? && float(m, "x")?)),
        doc: "(−x)·c = x·(−c): the negated constant is a recipe.",
        sample: pair,
    },
    Rule {
        name: "neg-of-fixed-factor",
        class: Exact,
        lhs: "(neg (mul ?x ?c))",
        rhs: "(mul ?x (neg ?c))",
        when: Some(|m| Some(only_right_fixed(m)? && float(m, "x")?)),
        doc: "−(x·c) = x·(−c).",
        sample: pair,
    },
    Rule {
        name: "mul-minus-one",
        class: Exact,
        lhs: "(mul ?x ?c)",
        rhs: "(neg ?x)",
        when: Some(|m| power(m, -1.0)),
        doc: "x·(−1) = −x.",
        sample: |s| {
            one(s);
            s.constant("c", &[1], -1.0);
        },
    },
    Rule {
        name: "add-to-itself",
        class: Exact,
        lhs: "(add ?x ?x)",
        rhs: "(mul ?x (constant ?n))",
        when: Some(|m| {
            let dtype = m.ty("x")?.dtype;
            m.bind("n", Tensor::from_f64s(dtype, &[], &[2.0]));
            Some(dtype.is_float() && !m.fixed("x")?)
        }),
        doc: "x + x = 2x, exactly; the two can join other constants.",
        sample: one,
    },
    Rule {
        name: "scales-of-one-input",
        class: Reassociate,
        lhs: "(add (mul ?x ?a) (mul ?x ?b))",
        rhs: "(mul ?x (add ?a ?b))",
        when: Some(both_scaled),
        doc: "a·x + b·x = (a + b)·x with fixed a and b.",
        sample: triple,
    },
    Rule {
        name: "input-and-its-scale",
        class: Reassociate,
        lhs: "(add ?x (mul ?x ?a))",
        rhs: "(mul ?x (add ?a (constant ?n)))",
        when: Some(|m| {
            let dtype = m.ty("x")?.dtype;
            m.bind("n", Tensor::from_f64s(dtype, &[], &[1.0]));
            Some(m.fixed("a")? && !m.fixed("x")? && dtype.is_float())
        }),
        doc: "x + a·x = (a + 1)·x.",
        sample: |s| {
            let d = s.dims(2);
            s.input("x", &d);
            s.weight("a", &[d[1]]);
        },
    },
    Rule {
        name: "common-scale",
        class: Reassociate,
        lhs: "(add (mul ?x ?c) (mul ?y ?c))",
        rhs: "(mul (add ?x ?y) ?c)",
        when: Some(same_fixed),
        doc: "c·x + c·y = c·(x + y): one product.",
        sample: |s| {
            let d = s.dims(2);
            s.input("x", &d);
            s.input("y", &d);
            s.weight("c", &[d[1]]);
        },
    },
    Rule {
        name: "one-over",
        class: Exact,
        lhs: "(div ?one ?x)",
        rhs: "(reciprocal ?x)",
        when: Some(|m| unit(m, "one", "x")),
        doc: "1/x is what reciprocal means.",
        sample: |s| {
            one(s);
            s.constant("one", &[], 1.0);
        },
    },
    Rule {
        name: "mul-by-reciprocal",
        class: Reassociate,
        lhs: "(mul ?x (reciprocal ?y))",
        rhs: "(div ?x ?y)",
        when: Some(|m| Some(!m.fixed("y")?)),
        doc: "x·(1/y) = x/y, one rounding; quotients are what composites are recognised by.",
        sample: two,
    },
    Rule {
        name: "reciprocal-of-rsqrt",
        class: Reassociate,
        lhs: "(reciprocal (rsqrt ?x))",
        rhs: "(sqrt ?x)",
        when: None,
        doc: "1/(1/√x) = √x.",
        sample: one,
    },
    Rule {
        name: "reciprocal-of-exp",
        class: Reassociate,
        lhs: "(reciprocal (exp ?x))",
        rhs: "(exp (neg ?x))",
        when: None,
        doc: "1/eˣ = e⁻ˣ.",
        sample: one,
    },
    Rule {
        name: "product-of-exps",
        class: Reassociate,
        lhs: "(mul (exp ?x) (exp ?y))",
        rhs: "(exp (add ?x ?y))",
        when: Some(exponents_join),
        doc: "eˣ·eʸ = eˣ⁺ʸ: one exponential. (Of exponents that are exact and large, the sum would round digits away.)",
        sample: two_rounded,
    },
    Rule {
        name: "quotient-of-exps",
        class: Reassociate,
        lhs: "(div (exp ?x) (exp ?y))",
        rhs: "(exp (sub ?x ?y))",
        when: Some(exponents_join),
        doc: "eˣ/eʸ = eˣ⁻ʸ, under the same condition.",
        sample: two_rounded,
    },
    Rule {
        name: "log-of-exp",
        class: Reassociate,
        lhs: "(log (exp ?x))",
        rhs: "?x",
        when: None,
        doc: "ln eˣ = x, where nothing overflows.",
        sample: one,
    },
    Rule {
        name: "sqrt-of-square",
        class: Reassociate,
        lhs: "(sqrt (mul ?x ?x))",
        rhs: "(abs ?x)",
        when: None,
        doc: "√x² = |x|.",
        sample: one,
    },
    Rule {
        name: "pow-three",
        class: Reassociate,
        lhs: "(pow ?x ?c)",
        rhs: "(mul (mul ?x ?x) ?x)",
        when: Some(|m| power(m, 3.0)),
        doc: "x³ = x·x·x.",
        sample: |s| {
            one(s);
            s.constant("c", &[], 3.0);
        },
    },
    Rule {
        name: "pow-minus-one",
        class: Reassociate,
        lhs: "(pow ?x ?c)",
        rhs: "(reciprocal ?x)",
        when: Some(|m| power(m, -1.0)),
        doc: "x⁻¹ = 1/x.",
        sample: |s| {
            one(s);
            s.constant("c", &[], -1.0);
        },
    },
    Rule {
        name: "pow-minus-half",
        class: Reassociate,
        lhs: "(pow ?x ?c)",
        rhs: "(rsqrt ?x)",
        when: Some(|m| Some(power(m, -0.5)? && m.non_negative("x")?)),
        doc: "x^−½ = 1/√x where no x is negative. (They differ at −0 and −∞.)",
        sample: |s| {
            let d = s.dims(2);
            s.computed("x", "exp", &d);
            s.constant("c", &[], -0.5);
        },
    },
    Rule {
        name: "square-of-abs",
        class: Exact,
        lhs: "(mul (abs ?x) (abs ?x))",
        rhs: "(mul ?x ?x)",
        when: Some(|m| float(m, "x")),
        doc: "|x|·|x| = x·x.",
        sample: one,
    },
    Rule { name: "cos-neg", class: Exact, lhs: "(cos (neg ?x))", rhs: "(cos ?x)", when: None, doc: "The cosine is even.", sample: one },
    Rule {
        name: "one-minus-sigmoid",
        class: Reassociate,
        lhs: "(add (neg (sigmoid ?x)) ?one)",
        rhs: "(sigmoid (neg ?x))",
        when: Some(|m| unit(m, "one", "x")),
        doc: "1 − σ(x) = σ(−x); the left side is how 1 − σ stands with its constant on the right.",
        sample: |s| {
            one(s);
            s.constant("one", &[], 1.0);
        },
    },
    Rule {
        name: "fixed-to-the-right-max",
        class: Reassociate,
        lhs: "(max ?c ?x)",
        rhs: "(max ?x ?c)",
        when: Some(only_right_fixed),
        doc: "A maximum commutes. (Of +0 and −0 it may be either.)",
        sample: pair,
    },
    Rule {
        name: "fixed-to-the-right-min",
        class: Reassociate,
        lhs: "(min ?c ?x)",
        rhs: "(min ?x ?c)",
        when: Some(only_right_fixed),
        doc: "So does a minimum.",
        sample: pair,
    },
    Rule {
        name: "max-max-fixed",
        class: Reassociate,
        lhs: "(max (max ?x ?a) ?b)",
        rhs: "(max ?x (max ?a ?b))",
        when: Some(super::both_fixed),
        doc: "max(max(x, a), b) = max(x, max(a, b)): the inner maximum is a recipe.",
        sample: triple,
    },
    Rule {
        name: "min-min-fixed",
        class: Reassociate,
        lhs: "(min (min ?x ?a) ?b)",
        rhs: "(min ?x (min ?a ?b))",
        when: Some(super::both_fixed),
        doc: "The same for minima.",
        sample: triple,
    },
    Rule {
        name: "clip-clip",
        class: Reassociate,
        lhs: "(clip (clip ?x ?a ?b) ?c ?d)",
        rhs: "(clip ?x (constant ?l) (constant ?h))",
        when: Some(clips_join),
        doc: "A cut of a cut cuts at the inner bounds, cut by the outer ones.",
        sample: |s| {
            one(s);
            let shift = s.below(5) as f32 * 0.5 - 1.0;
            for (v, at) in [("a", -0.5), ("b", 0.75), ("c", shift - 0.25), ("d", shift + 0.5)] {
                s.constant(v, &[], at);
            }
        },
    },
    Rule {
        name: "max-min-is-clip",
        class: Reassociate,
        lhs: "(max (min ?x ?hi) ?lo)",
        rhs: "(clip ?x ?lo ?hi)",
        when: Some(|m| ordered(m, "lo", "hi")),
        doc: "Cutting above first is the same where the bounds are in order. (The sign of a zero may differ.)",
        sample: |s| {
            one(s);
            s.constant("lo", &[], -0.5);
            s.constant("hi", &[], 0.75);
        },
    },
    Rule {
        name: "min-of-relu-is-clip",
        class: Reassociate,
        lhs: "(min (relu ?x) ?hi)",
        rhs: "(clip ?x (constant ?l) ?hi)",
        when: Some(|m| {
            let dtype = m.ty("x")?.dtype;
            m.bind("l", Tensor::from_f64s(dtype, &[], &[0.0]));
            Some(m.rank("hi")? == 0 && m.uniform("hi")? >= 0.0)
        }),
        doc: "min(max(x, 0), h): ReLU6 and its like.",
        sample: |s| {
            one(s);
            s.constant("hi", &[], 1.5);
        },
    },
    Rule {
        name: "relu-of-clip",
        class: Reassociate,
        lhs: "(relu (clip ?x ?a ?b))",
        rhs: "(clip ?x (constant ?l) ?b)",
        when: Some(|m| {
            let low = m.uniform("a")?.max(0.0);
            let dtype = m.ty("x")?.dtype;
            m.bind("l", Tensor::from_f64s(dtype, &[], &[low]));
            Some(ordered(m, "a", "b")? && m.uniform("b")? >= 0.0)
        }),
        doc: "max(clip(x, a, b), 0) = clip(x, max(a, 0), b) for b ≥ 0.",
        sample: |s| {
            one(s);
            let low = s.below(3) as f32 * 0.5 - 0.5;
            s.constant("a", &[], low);
            s.constant("b", &[], 1.0);
        },
    },
    Rule {
        name: "not-not",
        class: Exact,
        lhs: "(not (not ?x))",
        rhs: "?x",
        when: None,
        doc: "¬¬x = x.",
        sample: |s| {
            let d = s.dims(2);
            s.leaf("x", DType::Bool, &d, false);
        },
    },
    Rule {
        name: "select-not",
        class: Exact,
        lhs: "(select (not ?c) ?x ?y)",
        rhs: "(select ?c ?y ?x)",
        when: None,
        doc: "¬c ? x : y = c ? y : x.",
        sample: nested_select,
    },
    Rule {
        name: "select-known",
        class: Exact,
        lhs: "(select ?c ?x ?y)",
        rhs: "?x",
        when: Some(|m| Some(m.uniform("c")? == 1.0 && m.root_is("x")?)),
        doc: "A condition that always holds.",
        sample: |s| {
            two(s);
            s.given.insert("c", super::super::sample::Given::Constant(Tensor::bool(&[], vec![true])));
        },
    },
    Rule {
        name: "select-known-not",
        class: Exact,
        lhs: "(select ?c ?x ?y)",
        rhs: "?y",
        when: Some(|m| Some(m.uniform("c")? == 0.0 && m.root_is("y")?)),
        doc: "A condition that never holds.",
        sample: |s| {
            two(s);
            s.given.insert("c", super::super::sample::Given::Constant(Tensor::bool(&[1], vec![false])));
        },
    },
    Rule {
        name: "select-select-then",
        class: Exact,
        lhs: "(select ?c (select ?c ?x ?y) ?z)",
        rhs: "(select ?c ?x ?z)",
        when: Some(|m| covered(m, "z")),
        doc: "Where c holds, the inner choice is x.",
        sample: nested_select,
    },
    Rule {
        name: "select-select-else",
        class: Exact,
        lhs: "(select ?c ?x (select ?c ?z ?y))",
        rhs: "(select ?c ?x ?y)",
        when: Some(|m| covered(m, "y")),
        doc: "Where it does not, the inner choice is y.",
        sample: nested_select,
    },
];

#[cfg(test)]
pub(in super::super) static WRONG: &[Rule] = &[
    Rule {
        name: "wrong-square-of-sqrt",
        class: Reassociate,
        lhs: "(mul (sqrt ?x) (sqrt ?x))",
        rhs: "?x",
        when: None,
        doc: "√x of a negative number is NaN.",
        sample: |s| s.input("x", &[32]),
    },
    Rule {
        name: "wrong-exp-of-log",
        class: Reassociate,
        lhs: "(exp (log ?x))",
        rhs: "?x",
        when: None,
        doc: "So is its logarithm.",
        sample: |s| s.input("x", &[32]),
    },
    Rule {
        name: "wrong-select-is-max",
        class: Reassociate,
        lhs: "(select (gt (log ?x) ?y) (log ?x) ?y)",
        rhs: "(max (log ?x) ?y)",
        when: None,
        doc: "A NaN spreads through max, but is not greater than y.",
        sample: |s| {
            s.input("x", &[32]);
            s.input("y", &[32]);
        },
    },
    Rule {
        name: "wrong-not-of-less",
        class: Exact,
        lhs: "(not (lt (log ?x) ?y))",
        rhs: "(ge (log ?x) ?y)",
        when: None,
        doc: "A NaN is neither less nor greater.",
        sample: |s| {
            s.input("x", &[32]);
            s.input("y", &[32]);
        },
    },
    Rule {
        name: "wrong-clip-clip",
        class: Reassociate,
        lhs: "(clip (clip ?x ?a ?b) ?c ?d)",
        rhs: "(clip ?x ?c ?d)",
        when: None,
        doc: "Forgets the inner bounds.",
        sample: |s| {
            s.input("x", &[32]);
            for (v, at) in [("a", -0.5), ("b", 0.5), ("c", -1.0), ("d", 1.0)] {
                s.constant(v, &[], at);
            }
        },
    },
    Rule {
        name: "wrong-max-min-order",
        class: Exact,
        lhs: "(max (min ?x ?hi) ?lo)",
        rhs: "(clip ?x ?lo ?hi)",
        when: None,
        doc: "Bounds out of order: the last one wins.",
        sample: |s| {
            s.input("x", &[8]);
            s.constant("lo", &[], 1.0);
            s.constant("hi", &[], -1.0);
        },
    },
];
