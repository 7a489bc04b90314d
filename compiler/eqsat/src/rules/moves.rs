//! Moves: transposes, reshapes, slices, broadcasts, pads and concatenations that cancel, compose, and pass other ops.

pub(super) mod concat;
pub(super) mod layout;
pub(super) mod slice;

use super::{Match, Rule};
use tahoma_core::artifact::Numerics::{Exact, Reassociate};

fn identity_perm(m: &mut Match) -> Option<bool> {
    Some(m.ints("p")?.iter().enumerate().all(|(i, &p)| p == i as i64))
}

fn compose_perm(m: &mut Match) -> Option<bool> {
    let (p, q) = (m.ints("p")?, m.ints("q")?);
    let r: Option<Vec<i64>> = q.iter().map(|&i| p.get(i as usize).copied()).collect();
    m.bind("r", r?);
    Some(true)
}

/// Whether axes longer than one keep their order.
fn moves_only_units(m: &mut Match) -> Option<bool> {
    let (p, dims) = (m.ints("p")?, m.dims("x")?);
    let real: Vec<i64> = p.iter().copied().filter(|&a| dims[a as usize] != 1).collect();
    if !real.windows(2).all(|w| w[0] < w[1]) || p.iter().enumerate().all(|(i, &a)| i as i64 == a) {
        return Some(false);
    }
    let shape = m.root_dims()?;
    m.bind("s", shape);
    Some(true)
}

fn covered(m: &mut Match, x: &str, y: &str) -> Option<bool> {
    Some(m.broadcast(x, y)? == m.root_dims()?)
}

fn whole_slice(m: &mut Match) -> Option<bool> {
    Some(m.root_is("x")? && m.ints("a")?.iter().all(|&s| s == 0) && m.ints("t")?.iter().all(|&t| t == 1))
}

fn compose_slices(m: &mut Match) -> Option<bool> {
    let (a, t, b, u) = (m.ints("a")?, m.ints("t")?, m.ints("b")?, m.ints("u")?);
    let start: Vec<i64> = a.iter().zip(t).zip(b).map(|((a, t), b)| a + t * b).collect();
    let step: Vec<i64> = t.iter().zip(u).map(|(t, u)| t * u).collect();
    m.bind("c", start);
    m.bind("v", step);
    Some(true)
}

/// Lowest and highest element a slice takes along an axis.
fn span(start: i64, size: i64, step: i64) -> (i64, i64) {
    let end = start + (size - 1) * step;
    (start.min(end), start.max(end))
}

fn slice_in_first(m: &mut Match) -> Option<bool> {
    let axis = m.int("k")? as usize;
    let (_, hi) = span(m.ints("a")?[axis], m.ints("z")?[axis], m.ints("t")?[axis]);
    Some(m.ints("z")?[axis] > 0 && hi < m.dims("x")?[axis])
}

fn slice_in_second(m: &mut Match) -> Option<bool> {
    let axis = m.int("k")? as usize;
    let first = m.dims("x")?[axis];
    let mut a = m.ints("a")?.to_vec();
    let (lo, _) = span(a[axis], m.ints("z")?[axis], m.ints("t")?[axis]);
    if m.ints("z")?[axis] == 0 || lo < first {
        return Some(false);
    }
    a[axis] -= first;
    m.bind("b", a);
    Some(true)
}

fn adjacent_slices(m: &mut Match) -> Option<bool> {
    let axis = m.int("k")? as usize;
    let (a, z, b, y) = (m.ints("a")?, m.ints("z")?, m.ints("b")?, m.ints("y")?);
    let ones = m.ints("t")?.iter().all(|&t| t == 1);
    let same = (0..a.len()).all(|i| i == axis || (a[i] == b[i] && z[i] == y[i]));
    if !ones || !same || a[axis] + z[axis] != b[axis] {
        return Some(false);
    }
    let mut size = z.to_vec();
    size[axis] += y[axis];
    m.bind("w", size);
    Some(true)
}

fn no_padding(m: &mut Match) -> Option<bool> {
    let zero = |v: &[i64]| v.iter().all(|&x| x == 0);
    Some(zero(m.ints("l")?) && zero(m.ints("h")?) && zero(m.ints("i")?))
}

fn pad_into_conv(m: &mut Match) -> Option<bool> {
    let (l, h, i, pads) = (m.ints("l")?, m.ints("h")?, m.ints("i")?, m.ints("p")?);
    let plain = i.iter().all(|&x| x == 0) && l.iter().chain(h).all(|&x| x >= 0) && l[..2] == [0, 0] && h[..2] == [0, 0];
    if !plain || m.float("v")? != 0.0 {
        return Some(false);
    }
    let n = l.len() - 2;
    let sum: Vec<i64> = (0..n).map(|a| pads[a] + l[a + 2]).chain((0..n).map(|a| pads[n + a] + h[a + 2])).collect();
    m.bind("q", sum);
    Some(true)
}

fn same_rank(m: &mut Match) -> Option<bool> {
    Some(m.rank("x")? == m.rank("y")?)
}

fn one_element(m: &mut Match) -> Option<bool> {
    Some(m.elements("c")? == 1 && m.rank("c")? <= m.rank("x")?)
}

/// Both sides must see the same index, so neither may broadcast.
fn same_dims(m: &mut Match) -> Option<bool> {
    Some(m.dims("x")? == m.dims("y")?)
}

fn axes_before_transpose(m: &mut Match) -> Option<bool> {
    if !m.bool("k")? {
        return Some(false);
    }
    let p = m.ints("p")?;
    let mut axes: Vec<i64> = m.ints("a")?.iter().map(|&a| p[a as usize]).collect();
    axes.sort_unstable();
    m.bind("b", axes);
    Some(true)
}

/// A slice of an elementwise op on equal shapes.
fn slice_args(s: &mut super::Sample, dims: &[usize]) {
    let mut a = vec![];
    let mut z = vec![];
    let mut t = vec![];
    for &d in dims {
        let step: i64 = [1, 1, 2, -1][s.below(4)];
        let size = 1 + s.below((d as u64).div_ceil(step.unsigned_abs()));
        let reach = (size as i64 - 1) * step;
        let room = d as i64 - reach.abs();
        let at = s.below(room as u64) as i64;
        a.push(if reach < 0 { at - reach } else { at });
        z.push(size as i64);
        t.push(step);
    }
    s.attr("a", a);
    s.attr("z", z);
    s.attr("t", t);
}

pub(super) static RULES: &[Rule] = &[
    Rule {
        name: "transpose-identity",
        class: Exact,
        lhs: "(transpose ?x ?p)",
        rhs: "?x",
        when: Some(identity_perm),
        doc: "A permutation that moves nothing: transpose(x, [0, 1, …]) = x.",
        sample: |s| {
            let d = s.dims(3);
            s.input("x", &d);
            s.attr("p", vec![0, 1, 2]);
        },
    },
    Rule {
        name: "transpose-compose",
        class: Exact,
        lhs: "(transpose (transpose ?x ?p) ?q)",
        rhs: "(transpose ?x ?r)",
        when: Some(compose_perm),
        doc: "out axis i is axis q[i] of the inner result, which is axis p[q[i]] of x.",
        sample: |s| {
            let d = s.dims(4);
            s.input("x", &d);
            let (p, q) = (s.perm(4), s.perm(4));
            s.attr("p", p);
            s.attr("q", q);
        },
    },
    Rule {
        name: "transpose-of-units",
        class: Exact,
        lhs: "(transpose ?x ?p)",
        rhs: "(reshape ?x ?s)",
        when: Some(moves_only_units),
        doc: "Moving axes of extent 1 past others leaves the elements in order, so it is a reshape, which is free.",
        sample: |s| {
            let d = [s.dim(), 1, s.dim()];
            s.input("x", &d);
            s.attr("p", vec![1, 0, 2]);
        },
    },
    Rule {
        name: "reshape-identity",
        class: Exact,
        lhs: "(reshape ?x ?s)",
        rhs: "?x",
        when: Some(|m| m.root_is("x")),
        doc: "A reshape to the shape it has.",
        sample: |s| {
            let d = s.dims(2);
            s.input("x", &d);
            s.attr("s", d.iter().map(|&n| n as i64).collect::<Vec<_>>());
        },
    },
    Rule {
        name: "reshape-compose",
        class: Exact,
        lhs: "(reshape (reshape ?x ?s) ?t)",
        rhs: "(reshape ?x ?t)",
        when: None,
        doc: "Reshapes keep the row-major order, so only the last shape counts.",
        sample: |s| {
            let (a, b) = (s.dim(), s.dim());
            s.input("x", &[a, 2 * b]);
            s.attr("s", vec![2 * a as i64, b as i64]);
            s.attr("t", vec![(a * b) as i64, 2]);
        },
    },
    Rule {
        name: "broadcast-identity",
        class: Exact,
        lhs: "(broadcast ?x ?s)",
        rhs: "?x",
        when: Some(|m| m.root_is("x")),
        doc: "A broadcast to the shape it has.",
        sample: |s| {
            let d = s.dims(2);
            s.input("x", &d);
            s.attr("s", d.iter().map(|&n| n as i64).collect::<Vec<_>>());
        },
    },
    Rule {
        name: "broadcast-compose",
        class: Exact,
        lhs: "(broadcast (broadcast ?x ?s) ?t)",
        rhs: "(broadcast ?x ?t)",
        when: None,
        doc: "Repeating what was repeated: numpy broadcasting aligns at the right both times.",
        sample: |s| {
            let (a, b, c) = (s.dim(), s.dim(), s.dim());
            s.input("x", &[1, c]);
            s.attr("s", vec![b as i64, c as i64]);
            s.attr("t", vec![a as i64, b as i64, c as i64]);
        },
    },
    Rule {
        name: "broadcast-in-first",
        class: Exact,
        lhs: "({binary} (broadcast ?x ?s) ?y)",
        rhs: "({binary} ?x ?y)",
        when: Some(|m| covered(m, "x", "y")),
        doc: "Elementwise ops broadcast by themselves, where the other operand already has the full shape.",
        sample: |s| {
            let (a, b) = (s.dim(), s.dim());
            s.input("x", &[b]);
            s.input("y", &[a, b]);
            s.attr("s", vec![a as i64, b as i64]);
        },
    },
    Rule {
        name: "broadcast-in-second",
        class: Exact,
        lhs: "({binary} ?x (broadcast ?y ?s))",
        rhs: "({binary} ?x ?y)",
        when: Some(|m| covered(m, "x", "y")),
        doc: "The same on the other side.",
        sample: |s| {
            let (a, b) = (s.dim(), s.dim());
            s.input("y", &[1, b]);
            s.input("x", &[a, b]);
            s.attr("s", vec![a as i64, b as i64]);
        },
    },
    Rule {
        name: "slice-identity",
        class: Exact,
        lhs: "(slice ?x ?a ?z ?t)",
        rhs: "?x",
        when: Some(whole_slice),
        doc: "A slice that takes everything in order.",
        sample: |s| {
            let d = s.dims(2);
            s.input("x", &d);
            s.attr("a", vec![0, 0]);
            s.attr("z", d.iter().map(|&n| n as i64).collect::<Vec<_>>());
            s.attr("t", vec![1, 1]);
        },
    },
    Rule {
        name: "slice-compose",
        class: Exact,
        lhs: "(slice (slice ?x ?a ?z ?t) ?b ?y ?u)",
        rhs: "(slice ?x ?c ?y ?v)",
        when: Some(compose_slices),
        doc: "Element i of the outer is element b + u·i of the inner, which is a + t·(b + u·i) of x: start a + t·b, step t·u.",
        sample: |s| {
            let d = [4 + s.dim(), 4 + s.dim()];
            s.input("x", &d);
            s.attr("a", vec![1, d[1] as i64 - 1]);
            s.attr("z", vec![3, 4]);
            s.attr("t", vec![1, -1]);
            s.attr("b", vec![2, 1]);
            s.attr("y", vec![2, 2]);
            s.attr("u", vec![-1, 2]);
        },
    },
    Rule {
        name: "slice-of-concat-first",
        class: Exact,
        lhs: "(slice (concat ?x ?y ?k) ?a ?z ?t)",
        rhs: "(slice ?x ?a ?z ?t)",
        when: Some(slice_in_first),
        doc: "A slice that lies in the first part reads the first part.",
        sample: |s| {
            let (a, b) = (s.dim(), s.dim());
            s.input("x", &[a, b]);
            s.input("y", &[a, 3]);
            s.attr("k", 1);
            slice_args(s, &[a, b]);
        },
    },
    Rule {
        name: "slice-of-concat-second",
        class: Exact,
        lhs: "(slice (concat ?x ?y ?k) ?a ?z ?t)",
        rhs: "(slice ?y ?b ?z ?t)",
        when: Some(slice_in_second),
        doc: "A slice past the first part reads the second, from an earlier start.",
        sample: |s| {
            let (a, b, n) = (s.dim(), s.dim(), s.dim());
            s.input("x", &[n, b]);
            s.input("y", &[a, b]);
            s.attr("k", 0);
            slice_args(s, &[a, b]);
            if let Some(super::sample::Given::Attr(v)) = s.given.get("a")
                && let tahoma_core::Attr::Ints(v) = v.get()
            {
                let mut v = v.clone();
                v[0] += n as i64;
                s.attr("a", v);
            }
        },
    },
    Rule {
        name: "concat-of-one",
        class: Exact,
        lhs: "(concat ?x ?k)",
        rhs: "?x",
        when: None,
        doc: "Joining a single part.",
        sample: |s| {
            let d = s.dims(2);
            s.input("x", &d);
            s.attr("k", 1);
        },
    },
    Rule {
        name: "concat-of-slices",
        class: Exact,
        lhs: "(concat (slice ?x ?a ?z ?t) (slice ?x ?b ?y ?t) ?k)",
        rhs: "(slice ?x ?a ?w ?t)",
        when: Some(adjacent_slices),
        doc: "Two neighbouring pieces of one tensor, joined again.",
        sample: |s| {
            let (n, k) = (s.dim(), s.dim());
            s.input("x", &[n, k + 4]);
            s.attr("k", 1);
            s.attr("a", vec![0, 1]);
            s.attr("z", vec![n as i64, 2]);
            s.attr("t", vec![1, 1]);
            s.attr("b", vec![0, 3]);
            s.attr("y", vec![n as i64, k as i64]);
        },
    },
    Rule {
        name: "pad-identity",
        class: Exact,
        lhs: "(pad ?x ?l ?h ?i ?v)",
        rhs: "?x",
        when: Some(no_padding),
        doc: "Padding by nothing.",
        sample: |s| {
            let d = s.dims(2);
            s.input("x", &d);
            for v in ["l", "h", "i"] {
                s.attr(v, vec![0, 0]);
            }
            s.attr("v", 1.5);
        },
    },
    Rule {
        name: "pad-into-conv",
        class: Reassociate,
        lhs: "(conv (pad ?x ?l ?h ?i ?v) ?w ?s ?p ?d ?g)",
        rhs: "(conv ?x ?w ?s ?q ?d ?g)",
        when: Some(pad_into_conv),
        doc: "A convolution pads with zeros itself. (Not exact: an infinite weight times a padded zero is NaN only on the left.)",
        sample: |s| {
            let (c, m) = (s.dim(), s.dim());
            let d = [s.dim(), c, 3 + s.dim(), 3 + s.dim()];
            s.input("x", &d);
            s.weight("w", &[m, c, 2, 3]);
            s.attr("l", vec![0, 0, 1, 2]);
            s.attr("h", vec![0, 0, 0, 1]);
            s.attr("i", vec![0, 0, 0, 0]);
            s.attr("v", 0.0);
            s.attr("s", vec![1, 2]);
            s.attr("p", vec![0, 1, 1, 0]);
            s.attr("d", vec![1, 1]);
            s.attr("g", 1);
        },
    },
    Rule {
        name: "transpose-past-unary",
        class: Exact,
        lhs: "({unary} (transpose ?x ?p))",
        rhs: "(transpose ({unary} ?x) ?p)",
        when: None,
        doc: "An elementwise function does not care where elements are; transposes sink until they meet and cancel.",
        sample: |s| {
            let d = s.dims(3);
            s.input("x", &d);
            let p = s.perm(3);
            s.attr("p", p);
        },
    },
    Rule {
        name: "reshape-past-unary",
        class: Exact,
        lhs: "({unary} (reshape ?x ?s))",
        rhs: "(reshape ({unary} ?x) ?s)",
        when: None,
        doc: "The same for reshapes.",
        sample: |s| {
            let (a, b) = (s.dim(), s.dim());
            s.input("x", &[a, b]);
            s.attr("s", vec![(a * b) as i64]);
        },
    },
    Rule {
        name: "transpose-past-binary",
        class: Exact,
        lhs: "({binary} (transpose ?x ?p) (transpose ?y ?p))",
        rhs: "(transpose ({binary} ?x ?y) ?p)",
        when: Some(same_rank),
        doc: "Both operands moved alike: move the result once. Broadcasting aligns axes by place, so ranks must agree.",
        sample: |s| {
            let d = s.dims(3);
            s.input("x", &d);
            s.input("y", &[d[0], 1, d[2]]);
            let p = s.perm(3);
            s.attr("p", p);
        },
    },
    Rule {
        name: "transpose-past-binary-scalar",
        class: Exact,
        lhs: "({binary} (transpose ?x ?p) ?c)",
        rhs: "(transpose ({binary} ?x ?c) ?p)",
        when: Some(one_element),
        doc: "One number for all elements is where it was before the transpose too.",
        sample: |s| {
            let d = s.dims(3);
            s.input("x", &d);
            s.input("c", &[1, 1]);
            let p = s.perm(3);
            s.attr("p", p);
        },
    },
    Rule {
        name: "reshape-past-binary",
        class: Exact,
        lhs: "({binary} (reshape ?x ?s) (reshape ?y ?s))",
        rhs: "(reshape ({binary} ?x ?y) ?s)",
        when: Some(same_dims),
        doc: "Equal shapes reshaped alike keep their elements paired.",
        sample: |s| {
            let (a, b) = (s.dim(), s.dim());
            s.input("x", &[a, b]);
            s.input("y", &[a, b]);
            s.attr("s", vec![(a * b) as i64]);
        },
    },
    Rule {
        name: "transpose-past-reduce-sum",
        class: Reassociate,
        lhs: "(reduce_sum (transpose ?x ?p) ?a ?k)",
        rhs: "(transpose (reduce_sum ?x ?b ?k) ?p)",
        when: Some(axes_before_transpose),
        doc: "With kept axes, reducing after a transpose is reducing the axes they came from; the order of the sum may change.",
        sample: reduce_sample,
    },
    Rule {
        name: "transpose-past-reduce-max",
        class: Reassociate,
        lhs: "(reduce_max (transpose ?x ?p) ?a ?k)",
        rhs: "(transpose (reduce_max ?x ?b ?k) ?p)",
        when: Some(axes_before_transpose),
        doc: "The same for the maximum. (Not exact: of +0 and −0 it is the one that memory has first.)",
        sample: reduce_sample,
    },
    Rule {
        name: "transpose-past-reduce-mean",
        class: Reassociate,
        lhs: "(reduce_mean (transpose ?x ?p) ?a ?k)",
        rhs: "(transpose (reduce_mean ?x ?b ?k) ?p)",
        when: Some(axes_before_transpose),
        doc: "The same for the mean.",
        sample: reduce_sample,
    },
];

fn reduce_sample(s: &mut super::Sample) {
    let d = s.dims(3);
    s.input("x", &d);
    let p = s.perm(3);
    s.attr("p", p);
    s.attr("a", vec![0, 2]);
    s.attr("k", true);
}

/// Rules that look right and are not; the tests must refuse each.
#[cfg(test)]
pub(super) static WRONG: &[Rule] = &[
    Rule {
        name: "wrong-transpose-compose",
        class: Exact,
        lhs: "(transpose (transpose ?x ?p) ?q)",
        rhs: "(transpose ?x ?r)",
        when: Some(|m| {
            let (p, q) = (m.ints("p")?, m.ints("q")?);
            let r: Vec<i64> = p.iter().map(|&i| q[i as usize]).collect();
            m.bind("r", r);
            Some(true)
        }),
        doc: "Composed the wrong way round.",
        sample: |s| {
            s.input("x", &[3, 3, 3]);
            s.attr("p", vec![1, 2, 0]);
            s.attr("q", vec![0, 2, 1]);
        },
    },
    Rule {
        name: "wrong-slice-compose",
        class: Exact,
        lhs: "(slice (slice ?x ?a ?z ?t) ?b ?y ?u)",
        rhs: "(slice ?x ?c ?y ?u)",
        when: Some(|m| {
            let c: Vec<i64> = m.ints("a")?.iter().zip(m.ints("b")?).map(|(a, b)| a + b).collect();
            m.bind("c", c);
            Some(true)
        }),
        doc: "Forgets the inner step.",
        sample: |s| {
            s.input("x", &[9]);
            s.attr("a", vec![0]);
            s.attr("z", vec![4]);
            s.attr("t", vec![2]);
            s.attr("b", vec![1]);
            s.attr("y", vec![2]);
            s.attr("u", vec![1]);
        },
    },
    Rule {
        name: "wrong-broadcast",
        class: Exact,
        lhs: "({binary} (broadcast ?x ?s) ?y)",
        rhs: "({binary} ?x ?y)",
        when: None,
        doc: "The shape came from the broadcast.",
        sample: |s| {
            s.input("x", &[1]);
            s.input("y", &[1]);
            s.attr("s", vec![4]);
        },
    },
    Rule {
        name: "wrong-reshape-past-binary",
        class: Exact,
        lhs: "({binary} (reshape ?x ?s) (reshape ?y ?s))",
        rhs: "(reshape ({binary} ?x ?y) ?s)",
        when: None,
        doc: "Operands of different shapes pair other elements, or do not type.",
        sample: |s| {
            s.input("x", &[2, 3]);
            s.input("y", &[3, 2]);
            s.attr("s", vec![6]);
        },
    },
];
