//! Reductions: of what repeats, of what is scaled, of other reductions, of nothing.

use super::super::{Match, Rule, Sample};
use tahoma_core::Tensor;
use tahoma_core::artifact::Numerics::{Exact, Reassociate};

/// The reduced axes only repeat x, and every other axis is x's own: the result has the shape of x.
fn repeats_reduced(m: &mut Match) -> Option<bool> {
    Some(m.bool("k")? && m.dims("x")? == m.root_dims()?)
}

/// The mean of integers truncates, and their sum wraps.
fn repeats_averaged(m: &mut Match) -> Option<bool> {
    Some(m.ty("x")?.dtype.is_float() && repeats_reduced(m)?)
}

fn averaged_together(m: &mut Match) -> Option<bool> {
    Some(m.ty("x")?.dtype.is_float() && together(m)?)
}

/// The same, with the number of elements summed.
fn repeats_counted(m: &mut Match) -> Option<bool> {
    let s = m.ints("s")?;
    let n: i64 = m.ints("a")?.iter().map(|&a| s[a as usize]).product();
    let dtype = m.ty("x")?.dtype;
    m.bind("n", Tensor::from_f64s(dtype, &[], &[n as f64]));
    Some(dtype.is_float() && repeats_reduced(m)?)
}

/// The factor is one number, or one per row that is summed.
fn factor_outside(m: &mut Match) -> Option<bool> {
    let (x, c, root) = (m.dims("x")?, m.dims("c")?, m.root_dims()?);
    if !m.ty("x")?.dtype.is_float() || m.broadcast("x", "c")? != x {
        return Some(false);
    }
    let number = c.iter().all(|&d| d == 1) && c.len() <= root.len();
    let per_row = m.bool("k")? && c.len() == x.len() && m.ints("a")?.iter().all(|&a| c[a as usize] == 1);
    Some(number || per_row)
}

fn positive_factor(m: &mut Match) -> Option<bool> {
    Some(m.uniform("c")? > 0.0 && m.uniform("c")?.is_finite() && factor_outside(m)?)
}

/// Axes of two reductions, one after the other, as one.
fn together(m: &mut Match) -> Option<bool> {
    let (a, b, rank) = (m.ints("a")?, m.ints("b")?, m.rank("x")? as i64);
    let left: Vec<i64> = (0..rank).filter(|i| m.bool("k") == Some(true) || !a.contains(i)).collect();
    let mut all: Vec<i64> = a.iter().copied().chain(b.iter().map(|&i| left[i as usize])).collect();
    all.sort_unstable();
    all.dedup();
    m.bind("c", all);
    Some(true)
}

/// Every reduced axis has one element.
fn single(m: &mut Match) -> Option<bool> {
    let x = m.dims("x")?;
    let ones = m.ints("a")?.iter().all(|&a| x[a as usize] == 1);
    let shape = m.root_dims()?;
    m.bind("s", shape);
    Some(ones)
}

fn repeated(s: &mut Sample) {
    let d = s.dims(3);
    s.input("x", &[d[0], 1, d[2]]);
    s.attr("s", d.iter().map(|&n| n as i64).collect::<Vec<_>>());
    s.attr("a", vec![1]);
    s.attr("k", true);
}

fn scaled(s: &mut Sample) {
    let d = s.dims(3);
    s.input("x", &d);
    match s.below(2) {
        0 => s.constant("c", &[], 0.75),
        _ => s.input("c", &[d[0], 1, 1]),
    }
    s.attr("a", vec![1, 2]);
    s.attr("k", true);
}

fn nested(s: &mut Sample) {
    let d = s.dims(4);
    s.input("x", &d);
    let kept = s.below(2) == 0;
    s.attr("a", vec![1]);
    s.attr("b", if kept { vec![3] } else { vec![1, 2] });
    s.attr("k", kept);
}

fn units(s: &mut Sample) {
    let d = s.dims(2);
    s.input("x", &[d[0], 1, d[1]]);
    s.attr("a", vec![1]);
    let kept = s.below(2) == 0;
    s.attr("k", kept);
}

pub(in super::super) static RULES: &[Rule] = &[
    Rule {
        name: "sum-of-broadcast",
        class: Reassociate,
        lhs: "(reduce_sum (broadcast ?x ?s) ?a ?k)",
        rhs: "(mul ?x (constant ?n))",
        when: Some(repeats_counted),
        doc: "x + x + … = n·x.",
        sample: repeated,
    },
    Rule {
        name: "mean-of-broadcast",
        class: Reassociate,
        lhs: "(reduce_mean (broadcast ?x ?s) ?a ?k)",
        rhs: "?x",
        when: Some(repeats_averaged),
        doc: "The mean of equal numbers is the number.",
        sample: repeated,
    },
    Rule {
        name: "max-of-broadcast",
        class: Exact,
        lhs: "(reduce_max (broadcast ?x ?s) ?a ?k)",
        rhs: "?x",
        when: Some(repeats_reduced),
        doc: "So is their maximum.",
        sample: repeated,
    },
    Rule {
        name: "min-of-broadcast",
        class: Exact,
        lhs: "(reduce_min (broadcast ?x ?s) ?a ?k)",
        rhs: "?x",
        when: Some(repeats_reduced),
        doc: "And their minimum.",
        sample: repeated,
    },
    Rule {
        name: "sum-of-scaled",
        class: Reassociate,
        lhs: "(reduce_sum (mul ?x ?c) ?a ?k)",
        rhs: "(mul (reduce_sum ?x ?a ?k) ?c)",
        when: Some(factor_outside),
        doc: "Σ c·x = c·Σ x, where c is one number or one per row: a product per row instead of one per element.",
        sample: scaled,
    },
    Rule {
        name: "mean-of-scaled",
        class: Reassociate,
        lhs: "(reduce_mean (mul ?x ?c) ?a ?k)",
        rhs: "(mul (reduce_mean ?x ?a ?k) ?c)",
        when: Some(factor_outside),
        doc: "The same for the mean.",
        sample: scaled,
    },
    Rule {
        name: "max-of-scaled",
        class: Reassociate,
        lhs: "(reduce_max (mul ?x ?c) ?a ?k)",
        rhs: "(mul (reduce_max ?x ?a ?k) ?c)",
        when: Some(positive_factor),
        doc: "max c·x = c·max x for a positive constant, as products and roundings keep the order. (The sign of a zero may differ.)",
        sample: |s| {
            scaled(s);
            s.constant("c", &[1], 0.125);
        },
    },
    Rule {
        name: "max-of-shifted",
        class: Reassociate,
        lhs: "(reduce_max (add ?x ?c) ?a ?k)",
        rhs: "(add (reduce_max ?x ?a ?k) ?c)",
        when: Some(|m| Some(m.uniform("c").is_some() && factor_outside(m)?)),
        doc: "max (x + c) = c + max x for a constant.",
        sample: |s| {
            scaled(s);
            s.constant("c", &[], -3.0);
        },
    },
    Rule {
        name: "sum-of-sum",
        class: Reassociate,
        lhs: "(reduce_sum (reduce_sum ?x ?a ?k) ?b ?k)",
        rhs: "(reduce_sum ?x ?c ?k)",
        when: Some(together),
        doc: "Summing along two axes in turn is summing along both.",
        sample: nested,
    },
    Rule {
        name: "mean-of-mean",
        class: Reassociate,
        lhs: "(reduce_mean (reduce_mean ?x ?a ?k) ?b ?k)",
        rhs: "(reduce_mean ?x ?c ?k)",
        when: Some(averaged_together),
        doc: "Rows are equally long, so the mean of their means is the mean of all.",
        sample: nested,
    },
    Rule {
        name: "max-of-max",
        class: Exact,
        lhs: "(reduce_max (reduce_max ?x ?a ?k) ?b ?k)",
        rhs: "(reduce_max ?x ?c ?k)",
        when: Some(|m| Some(!m.ty("x")?.dtype.is_float() && together(m)?)),
        doc: "A maximum has no order. (Of floats the sign of a zero may differ: see the next.)",
        sample: |s| {
            nested(s);
            let d = s.dims(4);
            s.leaf("x", tahoma_core::DType::I32, &d, false);
        },
    },
    Rule {
        name: "max-of-max-float",
        class: Reassociate,
        lhs: "(reduce_max (reduce_max ?x ?a ?k) ?b ?k)",
        rhs: "(reduce_max ?x ?c ?k)",
        when: Some(together),
        doc: "The same for floats.",
        sample: nested,
    },
    Rule {
        name: "sum-of-one",
        class: Reassociate,
        lhs: "(reduce_sum ?x ?a ?k)",
        rhs: "(reshape ?x ?s)",
        when: Some(single),
        doc: "A sum of one number each. (Not exact: 0 + −0 is +0.)",
        sample: units,
    },
    Rule {
        name: "mean-of-one",
        class: Reassociate,
        lhs: "(reduce_mean ?x ?a ?k)",
        rhs: "(reshape ?x ?s)",
        when: Some(single),
        doc: "The same for the mean.",
        sample: units,
    },
    Rule {
        name: "max-of-one",
        class: Exact,
        lhs: "(reduce_max ?x ?a ?k)",
        rhs: "(reshape ?x ?s)",
        when: Some(single),
        doc: "The same for the maximum.",
        sample: units,
    },
];

#[cfg(test)]
pub(in super::super) static WRONG: &[Rule] = &[
    Rule {
        name: "wrong-max-of-scaled",
        class: Reassociate,
        lhs: "(reduce_max (mul ?x ?c) ?a ?k)",
        rhs: "(mul (reduce_max ?x ?a ?k) ?c)",
        when: None,
        doc: "A negative factor turns the order around.",
        sample: |s| {
            s.input("x", &[2, 4]);
            s.constant("c", &[], -1.0);
            s.attr("a", vec![1]);
            s.attr("k", true);
        },
    },
    Rule {
        name: "wrong-sum-of-scaled",
        class: Reassociate,
        lhs: "(reduce_sum (mul ?x ?c) ?a ?k)",
        rhs: "(mul (reduce_sum ?x ?a ?k) ?c)",
        when: None,
        doc: "The factor varies along the summed axis.",
        sample: |s| {
            s.input("x", &[3, 3]);
            s.input("c", &[3]);
            s.attr("a", vec![1]);
            s.attr("k", true);
        },
    },
    Rule {
        name: "wrong-mean-of-mean",
        class: Reassociate,
        lhs: "(reduce_mean (reduce_mean ?x ?a ?k) ?b ?k)",
        rhs: "(reduce_mean ?x ?b ?k)",
        when: None,
        doc: "Forgets the inner axes.",
        sample: |s| {
            s.input("x", &[3, 3]);
            s.attr("a", vec![0]);
            s.attr("b", vec![1]);
            s.attr("k", true);
        },
    },
    Rule {
        name: "wrong-sum-of-broadcast",
        class: Reassociate,
        lhs: "(reduce_sum (broadcast ?x ?s) ?a ?k)",
        rhs: "?x",
        when: None,
        doc: "Forgets how often it repeats.",
        sample: |s| {
            s.input("x", &[3, 1]);
            s.attr("s", vec![3, 4]);
            s.attr("a", vec![1]);
            s.attr("k", true);
        },
    },
];
