//! Rules that were once not what their class says, as they were, on the values that showed it: each is caught with its condition left
//! out, and the rule as it is holds on them, or does not apply.

use super::sample::Sample;
use super::{Match, Rule};
use tahoma_core::artifact::Numerics::{Exact, Reassociate};
use tahoma_core::{DType, Tensor};

/// A rule without what it asks now.
pub(super) struct Case {
    /// The rule that asks.
    pub rule: &'static str,
    pub was: Rule,
    /// Leaves, and where their elements lie: about a middle, as far as that.
    pub at: &'static [(&'static str, f64, f64)],
}

fn one(s: &mut Sample, d: DType, c: &[(&'static str, f64)]) {
    s.leaf("x", d, &[8], false);
    for (v, x) in c {
        s.given(v, Tensor::from_f64s(d, &[], &[*x]));
    }
}

fn two(s: &mut Sample, d: DType) {
    s.leaf("x", d, &[8], false);
    s.leaf("y", d, &[8], false);
}

fn matrix(s: &mut Sample, d: DType) {
    s.leaf("x", d, &[3, 4], false);
    s.leaf("w", d, &[4, 2], true);
}

fn count(m: &mut Match, n: f64) -> Option<bool> {
    let d = m.ty("x")?.dtype;
    m.bind("n", Tensor::from_f64s(d, &[], &[n]));
    Some(true)
}

fn casts(s: &mut Sample, from: DType, through: DType, to: DType) {
    s.leaf("x", from, &[32], false);
    s.attr("a", through);
    s.attr("b", to);
    s.attr("s", true);
    s.attr("t", true);
}

fn rows(s: &mut Sample, d: DType) {
    s.leaf("x", d, &[3, 7, 5], false);
    s.attr("a", vec![1]);
    s.attr("b", vec![2]);
    s.attr("k", true);
}

/// A norm of rows of 5, with a gain for each of 7 rows.
fn wide_gain(s: &mut Sample) {
    s.leaf("x", DType::F32, &[3, 7, 5], false);
    s.leaf("g", DType::F32, &[7, 5], true);
    s.attr("k", 2);
    s.attr("e", 1e-3);
}

pub(super) static CASES: &[Case] = &[
    Case {
        rule: "scale-into-matmul",
        was: Rule {
            name: "matmul-times-300-in-f16",
            class: Reassociate,
            lhs: "(mul (matmul ?x ?w) ?c)",
            rhs: "(matmul ?x (mul ?w (reshape ?c ?f)))",
            when: Some(|m| {
                m.bind("f", vec![1]);
                Some(true)
            }),
            doc: "300·w is infinite, and an infinity less another NaN.",
            sample: |s| {
                matrix(s, DType::F16);
                s.given("c", Tensor::from_f64s(DType::F16, &[], &[300.0]));
            },
        },
        at: &[("x", 0.0, 0.1), ("w", 0.0, 500.0)],
    },
    Case {
        rule: "scale-into-conv",
        was: Rule {
            name: "conv-times-tiny-in-f16",
            class: Reassociate,
            lhs: "(mul (conv ?x ?w ?s ?p ?d ?g) ?c)",
            rhs: "(conv ?x (mul ?w (reshape ?c ?f)) ?s ?p ?d ?g)",
            when: Some(|m| {
                m.bind("f", vec![1, 1, 1]);
                Some(true)
            }),
            doc: "10⁻⁴·w has few digits left, or none.",
            sample: |s| {
                s.leaf("x", DType::F16, &[1, 2, 6], false);
                s.leaf("w", DType::F16, &[2, 2, 3], true);
                s.given("c", Tensor::from_f64s(DType::F16, &[], &[1e-4]));
                s.attr("s", vec![1]);
                s.attr("p", vec![0, 0]);
                s.attr("d", vec![1]);
                s.attr("g", 1);
            },
        },
        at: &[("x", 0.0, 9e3), ("w", 0.0, 1e-3)],
    },
    Case {
        rule: "mul-mul-fixed",
        was: Rule {
            name: "constants-join-to-nothing",
            class: Reassociate,
            lhs: "(mul (mul ?x ?a) ?b)",
            rhs: "(mul ?x (mul ?a ?b))",
            when: None,
            doc: "10⁻⁴·10⁻⁴ is 0 in f16.",
            sample: |s| one(s, DType::F16, &[("a", 1e-4), ("b", 1e-4)]),
        },
        at: &[("x", 0.0, 6e4)],
    },
    Case {
        rule: "mul-mul-fixed",
        was: Rule {
            name: "constants-join-to-infinity",
            class: Reassociate,
            lhs: "(mul (mul ?x ?a) ?b)",
            rhs: "(mul ?x (mul ?a ?b))",
            when: None,
            doc: "300·300 is infinite in f16.",
            sample: |s| one(s, DType::F16, &[("a", 300.0), ("b", 300.0)]),
        },
        at: &[("x", 0.0, 0.01)],
    },
    Case {
        rule: "mul-mul-fixed",
        was: Rule {
            name: "constants-join-to-nothing-in-f32",
            class: Reassociate,
            lhs: "(mul (mul ?x ?a) ?b)",
            rhs: "(mul ?x (mul ?a ?b))",
            when: None,
            doc: "10⁻²⁵·10⁻²¹ is 0 in f32.",
            sample: |s| one(s, DType::F32, &[("a", 1e-25), ("b", 1e-21)]),
        },
        at: &[("x", 0.0, 6e16)],
    },
    Case {
        rule: "common-scale",
        was: Rule {
            name: "sum-before-its-scale",
            class: Reassociate,
            lhs: "(add (mul ?x ?c) (mul ?y ?c))",
            rhs: "(mul (add ?x ?y) ?c)",
            when: None,
            doc: "x + y is infinite in f16 where c·x + c·y is not.",
            sample: |s| {
                two(s, DType::F16);
                s.given("c", Tensor::from_f64s(DType::F16, &[], &[0.25]));
            },
        },
        at: &[("x", 6e4, 1e3), ("y", 6e4, 1e3)],
    },
    Case {
        rule: "sum-of-broadcast",
        was: Rule {
            name: "a-count-that-f16-lacks",
            class: Reassociate,
            lhs: "(reduce_sum (broadcast ?x ?s) ?a ?k)",
            rhs: "(mul ?x (constant ?n))",
            when: Some(|m| count(m, 70_000.0)),
            doc: "70,000 is infinite in f16.",
            sample: |s| {
                s.leaf("x", DType::F16, &[1], false);
                s.attr("s", vec![70_000]);
                s.attr("a", vec![0]);
                s.attr("k", true);
            },
        },
        at: &[("x", 0.4, 0.1)],
    },
    Case {
        rule: "sum-of-scaled",
        was: Rule {
            name: "sum-of-what-was-scaled-down",
            class: Reassociate,
            lhs: "(reduce_sum (mul ?x ?c) ?a ?k)",
            rhs: "(mul (reduce_sum ?x ?a ?k) ?c)",
            when: None,
            doc: "Σ x is infinite in f16 where Σ c·x is not.",
            sample: |s| {
                s.leaf("x", DType::F16, &[2, 100], false);
                s.given("c", Tensor::from_f64s(DType::F16, &[], &[0.01]));
                s.attr("a", vec![1]);
                s.attr("k", true);
            },
        },
        at: &[("x", 2e3, 500.0)],
    },
    Case {
        rule: "row-scale-past-matmul",
        was: Rule {
            name: "product-before-its-scale",
            class: Reassociate,
            lhs: "(matmul (mul ?x ?r) ?w)",
            rhs: "(mul (matmul ?x ?w) ?r)",
            when: None,
            doc: "x·W is infinite in f16 before it is scaled down.",
            sample: |s| {
                matrix(s, DType::F16);
                s.leaf("r", DType::F16, &[3, 1], false);
            },
        },
        at: &[("x", 3e4, 9e3), ("w", 3.0, 1.0), ("r", 1e-3, 1e-4)],
    },
    Case {
        rule: "bias-past-matmul",
        was: Rule {
            name: "offset-past-matmul",
            class: Reassociate,
            lhs: "(matmul (add ?x ?c) ?w)",
            rhs: "(add (matmul ?x ?w) (matmul ?c ?w))",
            when: None,
            doc: "x − 10⁶ of an input is exact; x·W − 10⁶·W is not.",
            sample: |s| {
                matrix(s, DType::F32);
                s.given("c", Tensor::from_f64s(DType::F32, &[4], &[-1e6; 4]));
            },
        },
        at: &[("x", 1e6, 2.0), ("w", 0.0, 1.0)],
    },
    Case {
        rule: "scale-past-bias",
        was: Rule {
            name: "offset-past-scale",
            class: Reassociate,
            lhs: "(mul (add ?x ?a) ?b)",
            rhs: "(add (mul ?x ?b) (mul ?a ?b))",
            when: None,
            doc: "(x − 10⁸)·0.1 is 0.1·x − 10⁷ with eight digits less.",
            sample: |s| one(s, DType::F32, &[("a", -1e8), ("b", 0.1)]),
        },
        at: &[("x", 1e8, 500.0)],
    },
    Case {
        rule: "add-add-fixed",
        was: Rule {
            name: "offsets-join",
            class: Reassociate,
            lhs: "(add (add ?x ?a) ?b)",
            rhs: "(add ?x (add ?a ?b))",
            when: None,
            doc: "0.01 − 10⁶ is −10⁶ to half a tenth.",
            sample: |s| one(s, DType::F32, &[("a", -1e6), ("b", 0.01)]),
        },
        at: &[("x", 1e6, 2.0)],
    },
    Case {
        rule: "product-of-exps",
        was: Rule {
            name: "exponents-join",
            class: Reassociate,
            lhs: "(mul (exp ?x) (exp ?y))",
            rhs: "(exp (add ?x ?y))",
            when: None,
            doc: "x + y near −66 is rounded to half a unit in bf16.",
            sample: |s| two(s, DType::BF16),
        },
        at: &[("x", -30.0, 1.0), ("y", -36.0, 1.0)],
    },
    Case {
        rule: "product-of-exps",
        was: Rule {
            name: "exponents-join-in-f32",
            class: Reassociate,
            lhs: "(mul (exp ?x) (exp ?y))",
            rhs: "(exp (add ?x ?y))",
            when: None,
            doc: "x + y near −66 has 6 bits less after the point.",
            sample: |s| two(s, DType::F32),
        },
        at: &[("x", -33.0, 1.0), ("y", -33.0, 1.0)],
    },
    Case {
        rule: "quotient-of-exps",
        was: Rule {
            name: "exponents-join-in-a-quotient",
            class: Reassociate,
            lhs: "(div (exp ?x) (exp ?y))",
            rhs: "(exp (sub ?x ?y))",
            when: None,
            doc: "So has x − y.",
            sample: |s| two(s, DType::F32),
        },
        at: &[("x", -33.0, 1.0), ("y", 33.0, 1.0)],
    },
    Case {
        rule: "slice-past-rms-norm",
        was: Rule {
            name: "gains-of-rows-that-are-cut",
            class: Reassociate,
            lhs: "(slice (rms_norm ?x ?g ?k ?e) ?a ?z ?t)",
            rhs: "(rms_norm (slice ?x ?a ?z ?t) ?g ?k ?e)",
            when: None,
            doc: "A gain for each of 7 rows makes 7 of the one that is left.",
            sample: |s| {
                wide_gain(s);
                s.attr("a", vec![0, 2, 0]);
                s.attr("z", vec![3, 1, 5]);
                s.attr("t", vec![1, 1, 1]);
            },
        },
        at: &[],
    },
    Case {
        rule: "slice-past-layer-norm",
        was: Rule {
            name: "offsets-of-rows-that-are-cut",
            class: Reassociate,
            lhs: "(slice (layer_norm ?x ?g ?o ?k ?e) ?a ?z ?t)",
            rhs: "(layer_norm (slice ?x ?a ?z ?t) ?g ?o ?k ?e)",
            when: None,
            doc: "So does an offset.",
            sample: |s| {
                wide_gain(s);
                s.leaf("o", DType::F32, &[7, 5], true);
                s.leaf("g", DType::F32, &[5], true);
                s.attr("a", vec![0, 2, 0]);
                s.attr("z", vec![3, 1, 5]);
                s.attr("t", vec![1, 1, 1]);
            },
        },
        at: &[],
    },
    Case {
        rule: "transpose-past-rms-norm",
        was: Rule {
            name: "gains-of-rows-that-move",
            class: Reassociate,
            lhs: "(rms_norm (transpose ?x ?p) ?g ?k ?e)",
            rhs: "(transpose (rms_norm ?x ?g ?k ?e) ?p)",
            when: None,
            doc: "Gains of rows stay where they are.",
            sample: |s| {
                wide_gain(s);
                s.leaf("x", DType::F32, &[7, 7, 5], false);
                s.attr("p", vec![1, 0, 2]);
            },
        },
        at: &[("x", 0.0, 2.0), ("g", 0.0, 2.0), ("b", 0.0, 2.0)],
    },
    Case {
        rule: "transpose-past-layer-norm",
        was: Rule {
            name: "offsets-of-rows-that-move",
            class: Reassociate,
            lhs: "(layer_norm (transpose ?x ?p) ?g ?b ?k ?e)",
            rhs: "(transpose (layer_norm ?x ?g ?b ?k ?e) ?p)",
            when: None,
            doc: "So do offsets.",
            sample: |s| {
                wide_gain(s);
                s.leaf("x", DType::F32, &[7, 7, 5], false);
                s.leaf("b", DType::F32, &[7, 5], true);
                s.leaf("g", DType::F32, &[5], true);
                s.attr("p", vec![1, 0, 2]);
            },
        },
        at: &[("x", 0.0, 2.0), ("g", 0.0, 2.0), ("b", 0.0, 2.0)],
    },
    Case {
        rule: "reshape-past-rms-norm",
        was: Rule {
            name: "gains-of-rows-that-regroup",
            class: Reassociate,
            lhs: "(rms_norm (reshape ?x ?s) ?g ?k ?e)",
            rhs: "(reshape (rms_norm ?x ?g ?j ?e) ?s)",
            when: Some(|m| {
                m.bind("j", 3);
                Some(true)
            }),
            doc: "A gain for each of the first 2 rows is one for each of the second 2.",
            sample: |s| {
                wide_gain(s);
                s.leaf("x", DType::F32, &[2, 2, 2, 5], false);
                s.leaf("g", DType::F32, &[2, 1, 5], true);
                s.attr("s", vec![2, 4, 5]);
            },
        },
        at: &[("x", 0.0, 2.0), ("g", 0.0, 2.0), ("b", 0.0, 2.0)],
    },
    Case {
        rule: "reshape-past-layer-norm",
        was: Rule {
            name: "offsets-of-rows-that-regroup",
            class: Reassociate,
            lhs: "(layer_norm (reshape ?x ?s) ?g ?b ?k ?e)",
            rhs: "(reshape (layer_norm ?x ?g ?b ?j ?e) ?s)",
            when: Some(|m| {
                m.bind("j", 3);
                Some(true)
            }),
            doc: "So is an offset.",
            sample: |s| {
                wide_gain(s);
                s.leaf("x", DType::F32, &[2, 2, 2, 5], false);
                s.leaf("b", DType::F32, &[2, 1, 5], true);
                s.leaf("g", DType::F32, &[5], true);
                s.attr("s", vec![2, 4, 5]);
            },
        },
        at: &[("x", 0.0, 2.0), ("g", 0.0, 2.0), ("b", 0.0, 2.0)],
    },
    Case {
        rule: "hard-swish-recognised-inner",
        was: Rule {
            name: "hard-swish-of-an-input",
            class: Reassociate,
            lhs: "(mul ?x (div (clip (add ?x ?three) ?zero ?six) ?sixth))",
            rhs: "(hard_swish ?x)",
            when: None,
            doc: "x + 3 of an input near −3 is exact, x/6 + ½ is not.",
            sample: |s| one(s, DType::F32, &[("three", 3.0), ("zero", 0.0), ("six", 6.0), ("sixth", 6.0)]),
        },
        at: &[("x", -3.0, 1e-4)],
    },
    Case {
        rule: "div-is-mul-reciprocal",
        was: Rule {
            name: "reciprocal-of-a-subnormal",
            class: Reassociate,
            lhs: "(div ?x ?c)",
            rhs: "(mul ?x (reciprocal ?c))",
            when: None,
            doc: "1/10⁻³⁹ is infinite.",
            sample: |s| one(s, DType::F32, &[("c", 1e-39)]),
        },
        at: &[("x", 0.0, 1e-30)],
    },
    Case {
        rule: "cast-cast",
        was: Rule {
            name: "integers-through-f32",
            class: Exact,
            lhs: "(cast (cast ?x ?a ?s) ?b ?t)",
            rhs: "(cast ?x ?b ?t)",
            when: None,
            doc: "A float saturates where an integer wraps.",
            sample: |s| casts(s, DType::I16, DType::F32, DType::I8),
        },
        at: &[("x", 0.0, 3e4)],
    },
    Case {
        rule: "cast-cast",
        was: Rule {
            name: "integers-through-f64",
            class: Exact,
            lhs: "(cast (cast ?x ?a ?s) ?b ?t)",
            rhs: "(cast ?x ?b ?t)",
            when: None,
            doc: "And below 0, where an unsigned type has nothing.",
            sample: |s| casts(s, DType::I32, DType::F64, DType::U32),
        },
        at: &[("x", 0.0, 2e9)],
    },
    Case {
        rule: "pow-one",
        was: Rule {
            name: "float-power-of-integers",
            class: Exact,
            lhs: "(pow ?x ?c)",
            rhs: "?x",
            when: None,
            doc: "2⁵³ + 1 is no f64.",
            sample: |s| {
                s.leaf("x", DType::I64, &[32], false);
                s.given("c", Tensor::from_f64s(DType::F64, &[], &[1.0]));
            },
        },
        at: &[],
    },
    Case {
        rule: "mean-of-mean",
        was: Rule {
            name: "mean-of-means-of-integers",
            class: Reassociate,
            lhs: "(reduce_mean (reduce_mean ?x ?a ?k) ?b ?k)",
            rhs: "(reduce_mean ?x ?c ?k)",
            when: Some(|m| {
                m.bind("c", vec![1, 2]);
                Some(true)
            }),
            doc: "Each mean truncates.",
            sample: |s| rows(s, DType::I32),
        },
        at: &[("x", 0.0, 100.0)],
    },
    Case {
        rule: "mean-of-broadcast",
        was: Rule {
            name: "mean-of-equal-integers",
            class: Reassociate,
            lhs: "(reduce_mean (broadcast ?x ?s) ?a ?k)",
            rhs: "?x",
            when: None,
            doc: "Their sum wraps.",
            sample: |s| {
                s.leaf("x", DType::I8, &[4, 1], false);
                s.attr("s", vec![4, 9]);
                s.attr("a", vec![1]);
                s.attr("k", true);
            },
        },
        at: &[("x", 0.0, 120.0)],
    },
    Case {
        rule: "abs-neg",
        was: Rule {
            name: "magnitude-of-what-wraps",
            class: Exact,
            lhs: "(abs (neg ?x))",
            rhs: "(abs ?x)",
            when: None,
            doc: "−x of an unsigned integer is another one.",
            sample: |s| s.leaf("x", DType::U8, &[8], false),
        },
        at: &[],
    },
    Case {
        rule: "binary-before-slice",
        was: Rule {
            name: "division-of-what-was-cut-away",
            class: Exact,
            lhs: "(div (slice ?x ?a ?z ?t) (slice ?y ?a ?z ?t))",
            rhs: "(slice (div ?x ?y) ?a ?z ?t)",
            when: None,
            doc: "An integer that nobody asked for is divided by 0.",
            sample: |s| {
                s.leaf("x", DType::I32, &[9], false);
                s.given("y", Tensor::i64(&[9], vec![1, 2, 3, 4, 5, 6, 7, 8, 0]).cast(DType::I32));
                s.attr("a", vec![0]);
                s.attr("z", vec![8]);
                s.attr("t", vec![1]);
            },
        },
        at: &[],
    },
];
