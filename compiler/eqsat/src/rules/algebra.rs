//! Arithmetic: identities, constants gathered on one side, and steps towards forms that fold into weights.

pub(super) mod functions;
pub(super) mod reduce;

use super::{Match, Rule};
use tahoma_core::DType;
use tahoma_core::artifact::Numerics::{Exact, Reassociate};

/// `?c` is this number everywhere, and dropping it keeps the shape.
fn neutral(m: &mut Match, value: f64) -> Option<bool> {
    Some(m.uniform("c")? == value && m.root_is("x")?)
}

fn only_right_fixed(m: &mut Match) -> Option<bool> {
    Some(m.fixed("c")? && !m.fixed("x")?)
}

fn both_fixed(m: &mut Match) -> Option<bool> {
    Some(m.fixed("a")? && m.fixed("b")? && !m.fixed("x")? && m.ty("x")?.dtype.is_float())
}

/// A float with a sign: e8m0 has none.
fn float(m: &mut Match, var: &str) -> Option<bool> {
    let d = m.ty(var)?.dtype;
    Some(d.is_float() && d != DType::F8E8M0)
}

/// x·b + a·b has the digits of (x + a)·b: what x has is off by a rounding of itself already.
fn bias_splits(m: &mut Match) -> Option<bool> {
    Some(both_fixed(m)? && m.rounded("x")?)
}

/// x + (a + b) has the digits of (x + a) + b: a is not large beside b, or x has no digits that a + b has not, or a + b is exact.
fn biases_join(m: &mut Match) -> Option<bool> {
    let exact = m.uniform("a").zip(m.uniform("b")).is_some_and(|(a, b)| {
        let sum = tahoma_core::Tensor::from_f64s(m.ty("x").map_or(DType::F64, |t| t.dtype), &[], &[a + b]).to_f64s()[0];
        sum - a == b && sum - b == a
    });
    let near = m.span("a")?.most <= m.span("b")?.least.saturating_add(2);
    Some(both_fixed(m)? && (exact || near || m.rounded("x")?))
}

/// Whether every value of the first type is a value of the second.
fn widens(from: DType, to: DType) -> bool {
    use DType::*;
    match (from, to) {
        (a, b) if a == b => true,
        (F16 | BF16, F32 | F64) | (F32, F64) => true,
        (Bool, b) => b != Bool,
        (a, b) if a.is_signed_int() && b.is_signed_int() => b.bits() > a.bits(),
        (a, b) if a.is_int() && !a.is_signed_int() && b.is_int() => b.bits() > a.bits(),
        (I8 | U8 | I16 | U16, F32 | F64) | (I32 | U32, F64) => true,
        _ => false,
    }
}

/// The inner cast loses nothing, and where it makes floats of integers, the outer one does what it would do with the integers: floats
/// saturate where integers wrap.
fn first_widens(m: &mut Match) -> Option<bool> {
    let (x, a, b) = (m.ty("x")?.dtype, m.dtype("a")?, m.dtype("b")?);
    let through_float = !x.is_float() && a.is_float() && !b.is_float();
    Some(widens(x, a) && (!through_float || widens(x, b)))
}

fn pair(s: &mut super::Sample) {
    let d = s.dims(2);
    s.input("x", &d);
    s.weight("c", &[d[1]]);
}

fn triple(s: &mut super::Sample) {
    let d = s.dims(3);
    s.input("x", &d);
    s.weight("a", &[d[2]]);
    s.weight("b", &[d[1], 1]);
}

/// The same with an x that has been rounded.
fn rounded_triple(s: &mut super::Sample) {
    let d = s.dims(3);
    s.computed("x", "mul", &d);
    s.weight("a", &[d[2]]);
    s.weight("b", &[d[1], 1]);
}

fn one(s: &mut super::Sample) {
    let d = s.dims(2);
    s.input("x", &d);
}

pub(super) static RULES: &[Rule] = &[
    Rule {
        name: "add-zero",
        class: Reassociate,
        lhs: "(add ?x ?c)",
        rhs: "?x",
        when: Some(|m| neutral(m, 0.0)),
        doc: "x + 0 = x. (Not exact: −0 + 0 is +0.)",
        sample: |s| {
            one(s);
            s.constant("c", &[1], 0.0);
        },
    },
    Rule {
        name: "sub-zero",
        class: Exact,
        lhs: "(sub ?x ?c)",
        rhs: "?x",
        when: Some(|m| Some(neutral(m, 0.0)? && m.uniform("c")?.is_sign_positive())),
        doc: "x − 0 = x, signed zeros too.",
        sample: |s| {
            one(s);
            s.constant("c", &[], 0.0);
        },
    },
    Rule {
        name: "mul-one",
        class: Exact,
        lhs: "(mul ?x ?c)",
        rhs: "?x",
        when: Some(|m| neutral(m, 1.0)),
        doc: "x · 1 = x.",
        sample: |s| {
            one(s);
            s.constant("c", &[1, 1], 1.0);
        },
    },
    Rule {
        name: "div-one",
        class: Exact,
        lhs: "(div ?x ?c)",
        rhs: "?x",
        when: Some(|m| neutral(m, 1.0)),
        doc: "x / 1 = x.",
        sample: |s| {
            one(s);
            s.constant("c", &[], 1.0);
        },
    },
    Rule {
        name: "pow-one",
        class: Exact,
        lhs: "(pow ?x ?c)",
        rhs: "?x",
        // A float power of an integer is computed in f64, which has not all of 64 bits.
        when: Some(|m| Some(neutral(m, 1.0)? && (m.ty("x")?.dtype.is_float() || m.ty("c")?.dtype == m.ty("x")?.dtype))),
        doc: "x¹ = x.",
        sample: |s| {
            one(s);
            s.constant("c", &[], 1.0);
        },
    },
    Rule {
        name: "pow-two",
        class: Reassociate,
        lhs: "(pow ?x ?c)",
        rhs: "(mul ?x ?x)",
        when: Some(|m| Some(neutral(m, 2.0)? && float(m, "x")?)),
        doc: "x² = x·x, one multiplication instead of a logarithm and an exponential.",
        sample: |s| {
            one(s);
            s.constant("c", &[], 2.0);
        },
    },
    Rule {
        name: "pow-half",
        class: Reassociate,
        lhs: "(pow ?x ?c)",
        rhs: "(sqrt ?x)",
        when: Some(|m| Some(neutral(m, 0.5)? && float(m, "x")? && m.non_negative("x")?)),
        doc: "x^½ = √x where no x is negative. (They differ at −∞ and in the sign of √−0.)",
        sample: |s| {
            let d = s.dims(2);
            s.computed("x", "exp", &d);
            s.constant("c", &[], 0.5);
        },
    },
    Rule { name: "neg-neg", class: Exact, lhs: "(neg (neg ?x))", rhs: "?x", when: None, doc: "−(−x) = x.", sample: one },
    Rule {
        name: "sub-is-add-neg",
        class: Exact,
        lhs: "(sub ?x ?c)",
        rhs: "(add ?x (neg ?c))",
        when: Some(|m| Some(only_right_fixed(m)? && float(m, "x")?)),
        doc: "x − c = x + (−c), bit for bit in IEEE arithmetic; the negation is a recipe on weights.",
        sample: pair,
    },
    Rule {
        name: "fixed-to-the-right-add",
        class: Exact,
        lhs: "(add ?c ?x)",
        rhs: "(add ?x ?c)",
        when: Some(only_right_fixed),
        doc: "Addition commutes; weights stand right, so that other rules need one form.",
        sample: pair,
    },
    Rule {
        name: "fixed-to-the-right-mul",
        class: Exact,
        lhs: "(mul ?c ?x)",
        rhs: "(mul ?x ?c)",
        when: Some(only_right_fixed),
        doc: "The same for multiplication.",
        sample: pair,
    },
    Rule {
        name: "div-is-mul-reciprocal",
        class: Reassociate,
        lhs: "(div ?x ?c)",
        rhs: "(mul ?x (reciprocal ?c))",
        when: Some(|m| Some(only_right_fixed(m)? && float(m, "x")?)),
        doc: "x / c = x · (1/c), where 1/c is computed once. Two roundings instead of one.",
        sample: |s| {
            let d = s.dims(2);
            s.input("x", &d);
            s.constant("c", &[1], 3.0);
        },
    },
    Rule {
        name: "add-add-fixed",
        class: Reassociate,
        lhs: "(add (add ?x ?a) ?b)",
        rhs: "(add ?x (add ?a ?b))",
        when: Some(biases_join),
        doc: "(x + a) + b = x + (a + b): the sum of weights is a recipe. (Not where x − 10⁶ is exact and a + b rounds its digits away.)",
        sample: rounded_triple,
    },
    Rule {
        name: "mul-mul-fixed",
        class: Reassociate,
        lhs: "(mul (mul ?x ?a) ?b)",
        rhs: "(mul ?x (mul ?a ?b))",
        when: Some(both_fixed),
        doc: "The same for products.",
        sample: triple,
    },
    Rule {
        name: "scale-past-bias",
        class: Reassociate,
        lhs: "(mul (add ?x ?a) ?b)",
        rhs: "(add (mul ?x ?b) (mul ?a ?b))",
        when: Some(bias_splits),
        doc: "(x + a)·b = x·b + a·b: the scale can then go into the weights behind x. (Not where x is exact: x·b and a·b may cancel.)",
        sample: rounded_triple,
    },
    Rule {
        name: "relu-relu",
        class: Exact,
        lhs: "(relu (relu ?x))",
        rhs: "(relu ?x)",
        when: None,
        doc: "max(max(x, 0), 0) = max(x, 0).",
        sample: one,
    },
    Rule {
        name: "abs-neg",
        class: Exact,
        lhs: "(abs (neg ?x))",
        rhs: "(abs ?x)",
        when: Some(|m| m.ty("x").map(|t| t.dtype.is_float() || t.dtype.is_signed_int())),
        doc: "|−x| = |x|. (Not of unsigned integers, whose −x wraps.)",
        sample: one,
    },
    Rule {
        name: "cast-same",
        class: Exact,
        lhs: "(cast ?x ?a ?s)",
        rhs: "?x",
        when: Some(|m| m.root_is("x")),
        doc: "A cast to the type it has.",
        sample: |s| {
            one(s);
            s.attr("a", DType::F32);
            s.attr("s", true);
        },
    },
    Rule {
        name: "cast-cast",
        class: Exact,
        lhs: "(cast (cast ?x ?a ?s) ?b ?t)",
        rhs: "(cast ?x ?b ?t)",
        when: Some(first_widens),
        doc: "A cast that loses nothing may be left out before another.",
        sample: |s| {
            let d = s.dims(2);
            let (from, mid, to) =
                [(DType::F16, DType::F32, DType::F16), (DType::I8, DType::I32, DType::F32), (DType::F32, DType::F64, DType::F16)]
                    [s.below(3)];
            s.leaf("x", from, &d, false);
            s.attr("a", mid);
            s.attr("b", to);
            s.attr("s", true);
            s.attr("t", true);
        },
    },
    Rule {
        name: "select-same",
        class: Exact,
        lhs: "(select ?c ?x ?x)",
        rhs: "?x",
        when: Some(|m| m.root_is("x")),
        doc: "c ? x : x = x.",
        sample: |s| {
            let d = s.dims(2);
            s.leaf("c", DType::Bool, &d, false);
            s.input("x", &d);
        },
    },
    Rule {
        name: "reciprocal-of-sqrt",
        class: Reassociate,
        lhs: "(reciprocal (sqrt ?x))",
        rhs: "(rsqrt ?x)",
        when: None,
        doc: "1/√x in one function.",
        sample: one,
    },
    Rule {
        name: "div-by-sqrt",
        class: Reassociate,
        lhs: "(div ?x (sqrt ?y))",
        rhs: "(mul ?x (rsqrt ?y))",
        when: None,
        doc: "x/√y = x·(1/√y). Where y is one number for a row, that is one function per row and a product per element.",
        sample: |s| {
            let d = s.dims(2);
            s.input("x", &d);
            s.input("y", &[d[0], 1]);
        },
    },
    Rule {
        name: "exp-of-log-softmax",
        class: Reassociate,
        lhs: "(exp (log_softmax ?x ?k))",
        rhs: "(softmax ?x ?k)",
        when: None,
        doc: "exp(log softmax x) = softmax x.",
        sample: |s| {
            one(s);
            s.attr("k", 1);
        },
    },
    Rule {
        name: "log-of-softmax",
        class: Reassociate,
        lhs: "(log (softmax ?x ?k))",
        rhs: "(log_softmax ?x ?k)",
        when: None,
        doc: "log softmax x, without the underflow of the quotient.",
        sample: |s| {
            one(s);
            s.attr("k", 0);
        },
    },
];

#[cfg(test)]
pub(super) static WRONG: &[Rule] = &[
    Rule {
        name: "wrong-add-zero-exact",
        class: Exact,
        lhs: "(add (mul ?x ?z) ?c)",
        rhs: "(mul ?x ?z)",
        when: Some(|m| Some(m.uniform("c")? == 0.0)),
        doc: "−0 + 0 is +0: not exact.",
        sample: |s| {
            s.input("x", &[32]);
            s.constant("z", &[], -0.0);
            s.constant("c", &[], 0.0);
        },
    },
    Rule {
        name: "wrong-scale-past-bias",
        class: Reassociate,
        lhs: "(mul (add ?x ?a) ?b)",
        rhs: "(add (mul ?x ?b) ?a)",
        when: None,
        doc: "Forgets to scale the bias.",
        sample: triple,
    },
    Rule {
        name: "wrong-mul-one-shape",
        class: Exact,
        lhs: "(mul ?x ?c)",
        rhs: "?x",
        when: Some(|m| Some(m.uniform("c")? == 1.0)),
        doc: "The one may be what gave the shape.",
        sample: |s| {
            s.input("x", &[1]);
            s.constant("c", &[4], 1.0);
        },
    },
    Rule {
        name: "wrong-cast-cast",
        class: Exact,
        lhs: "(cast (cast ?x ?a ?s) ?b ?t)",
        rhs: "(cast ?x ?b ?t)",
        when: None,
        doc: "The inner cast rounds.",
        sample: |s| {
            s.input("x", &[32]);
            s.attr("a", DType::F16);
            s.attr("b", DType::F32);
            s.attr("s", true);
            s.attr("t", true);
        },
    },
    Rule {
        name: "wrong-div-is-mul-exact",
        class: Exact,
        lhs: "(div ?x ?c)",
        rhs: "(mul ?x (reciprocal ?c))",
        when: None,
        doc: "Two roundings are not one.",
        sample: |s| {
            s.input("x", &[64]);
            s.constant("c", &[], 3.0);
        },
    },
    Rule {
        name: "wrong-abs",
        class: Exact,
        lhs: "(abs (neg ?x))",
        rhs: "(neg (abs ?x))",
        when: None,
        doc: "Another sign.",
        sample: |s| s.input("x", &[16]),
    },
];
