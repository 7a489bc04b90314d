//! Rules that ask what is known of elements (`values`).

use super::code::{Code, Site};
use super::sample::Sample;
use crate::language::Node;
use egg::Id;
use tahoma_core::Attr;
use tahoma_core::artifact::Numerics::Exact;

/// The operand itself, where no element of it is negative.
fn itself(s: &mut Site, n: &Node) -> Option<Id> {
    let [x] = *n.operands() else { return None };
    s.known(x)?.non_negative.then_some(x)
}

/// A factor that is 0 or 1, times itself.
fn once(s: &mut Site, n: &Node) -> Option<Id> {
    let [x, y] = *n.operands() else { return None };
    (s.same(x, y) && s.known(x)?.binary).then_some(x)
}

/// The first along the reduced axes, where all of them are equal.
fn first(s: &mut Site, n: &Node) -> Option<Id> {
    let [x] = *n.operands() else { return None };
    let (known, d) = (s.known(x)?, s.dims(x)?);
    let (Attr::Ints(axes), Attr::Bool(keep)) = (s.attr(n, 0)?.clone(), s.attr(n, 1)?.clone()) else { return None };
    if axes.is_empty() || !axes.iter().all(|&a| known.is_equal_along(a as usize)) {
        return None;
    }
    let of = |one: i64, f: &dyn Fn(usize) -> i64| {
        (0..d.len()).map(|i| if axes.contains(&(i as i64)) { one } else { f(i) }).collect::<Vec<i64>>()
    };
    let attrs = vec![vec![0i64; d.len()].into(), of(1, &|i| d[i]).into(), vec![1i64; d.len()].into()];
    let y = s.add("slice", &[x], attrs)?;
    if keep {
        return Some(y);
    }
    let shape: Vec<i64> = (0..d.len()).filter(|i| !axes.contains(&(*i as i64))).map(|i| d[i]).collect();
    s.add("reshape", &[y], vec![shape.into()])
}

/// Something without a negative element.
fn not_negative(s: &mut Sample) -> String {
    let (n, m) = (s.dim(), s.dim());
    let x = format!("x:f32[{n},{m}]");
    match s.below(6) {
        0 => format!("(exp {x})"),
        1 => format!("(sigmoid {x})"),
        2 => format!("(abs {x})"),
        3 => format!("(mul {x} {x})"),
        4 => format!("(transpose (add (relu {x}) (exp {x})) [1,0])"),
        _ => format!("(reduce_sum (mul {x} {x}) [1] true)"),
    }
}

fn spread(s: &mut Sample) -> String {
    let (n, m) = (s.dim(), 1 + s.dim());
    match s.below(2) {
        0 => format!("(exp (broadcast x:f32[{n},1] [{n},{m}]))"),
        _ => format!("(add (broadcast x:f32[{n},1] [{n},{m}]) y:f32[{n},1])"),
    }
}

pub(super) static RULES: &[Code] = &[
    Code {
        name: "relu-of-non-negative",
        class: Exact,
        op: "relu",
        lhs: "(relu x)",
        rhs: "x",
        doc: "Nothing is cut off x ≥ +0: exponentials, squares, sums and moves of such.",
        apply: itself,
        sample: |s| format!("(relu {})", not_negative(s)),
    },
    Code {
        name: "abs-of-non-negative",
        class: Exact,
        op: "abs",
        lhs: "(abs x)",
        rhs: "x",
        doc: "|x| = x where x ≥ +0.",
        apply: itself,
        sample: |s| format!("(abs {})", not_negative(s)),
    },
    Code {
        name: "square-of-binary",
        class: Exact,
        op: "mul",
        lhs: "(mul x x)",
        rhs: "x",
        doc: "0·0 = 0 and 1·1 = 1: masks and one-hot vectors.",
        apply: once,
        sample: |s| {
            let (n, m) = (s.dim(), s.dim());
            let hot = format!("(cast (lt x:f32[{n},{m}] y:f32[{n},{m}]) f32 true)");
            format!("(mul {hot} {hot})")
        },
    },
    Code {
        name: "maximum-of-equals",
        class: Exact,
        op: "reduce_max",
        lhs: "(reduce_max x a t)",
        rhs: "(reshape (slice x …) …)",
        doc: "The first of elements that are all equal along the axes, as after a broadcast and whatever acts element by element on it.",
        apply: first,
        sample: |s| {
            let keep = s.below(2) == 0;
            format!("(reduce_max {} [1] {keep})", spread(s))
        },
    },
    Code {
        name: "minimum-of-equals",
        class: Exact,
        op: "reduce_min",
        lhs: "(reduce_min x a t)",
        rhs: "(reshape (slice x …) …)",
        doc: "The same of minima.",
        apply: first,
        sample: |s| {
            let keep = s.below(2) == 0;
            format!("(reduce_min {} [1] {keep})", spread(s))
        },
    },
];

/// What was believed once: sums and products of what is not negative are not, of integers too.
#[cfg(test)]
fn itself_if_of_such(s: &mut Site, n: &Node, op: &str) -> Option<Id> {
    let [x] = *n.operands() else { return None };
    let of = s.nodes(x, op).pop()?;
    of.operands().iter().all(|&o| s.known(o).is_some_and(|k| k.non_negative)).then_some(x)
}

#[cfg(test)]
/// What they have in common.
const ITSELF: Code = Code { name: "", class: Exact, op: "", lhs: "", rhs: "", doc: "", apply: |_, _| None, sample: |_| String::new() };

#[cfg(test)]
pub(super) static WRONG: &[Code] = &[
    Code {
        name: "wrong-abs-of-wrapped-sum",
        op: "abs",
        doc: "w + w of int32 wraps: |w + w| is not w + w.",
        apply: |s, n| itself_if_of_such(s, n, "add"),
        sample: |_| "(abs (add (relu x:i32[16]) (relu x:i32[16])))".into(),
        ..ITSELF
    },
    Code {
        name: "wrong-relu-of-wrapped-product",
        op: "relu",
        doc: "So do products.",
        apply: |s, n| itself_if_of_such(s, n, "mul"),
        sample: |_| "(relu (mul (relu x:i16[16]) (relu y:i16[16])))".into(),
        ..ITSELF
    },
    Code {
        name: "wrong-relu-of-wrapped-rows",
        op: "relu",
        doc: "And sums of rows.",
        apply: |s, n| itself_if_of_such(s, n, "reduce_sum"),
        sample: |_| "(relu (reduce_sum (relu x:i64[4,4]) [1] true))".into(),
        ..ITSELF
    },
    Code {
        name: "wrong-abs-of-narrowed",
        op: "abs",
        doc: "A cast to a narrower integer keeps the low bits.",
        apply: |s, n| itself_if_of_such(s, n, "cast"),
        sample: |_| "(abs (cast (relu x:i32[16]) i8 true))".into(),
        ..ITSELF
    },
];
