//! Concatenations of any number of parts: flattened, cut, joined again, and moved behind what all parts have in common.

use super::super::code::{Code, Site};
use crate::language::Node;
use egg::Id;
use tahoma_core::Attr;
use tahoma_core::artifact::Numerics::Exact;
use tahoma_core::op::{Kind, Scalar};

/// Parts and axis of a concatenation.
fn parts(s: &Site, n: &Node) -> Option<(Vec<Id>, usize)> {
    let Attr::Int(axis) = s.attr(n, 0)? else { return None };
    Some((n.operands().to_vec(), usize::try_from(*axis).ok()?))
}

/// Starts, sizes and steps of a slice.
fn cut(s: &Site, n: &Node) -> Option<[Vec<i64>; 3]> {
    let ints = |i| if let Some(Attr::Ints(v)) = s.attr(n, i) { Some(v.clone()) } else { None };
    Some([ints(0)?, ints(1)?, ints(2)?])
}

fn flatten(s: &mut Site, n: &Node) -> Option<Id> {
    let (outer, axis) = parts(s, n)?;
    let mut all: Vec<Id> = vec![];
    for &p in &outer {
        let inner = s.nodes(p, "concat").into_iter().find_map(|c| parts(s, &c).filter(|(i, a)| *a == axis && i.len() > 1));
        match inner {
            Some((inner, _)) if !inner.iter().any(|&i| s.same(i, p)) => all.extend(inner),
            _ => all.push(p),
        }
    }
    if all.len() == outer.len() { None } else { s.add("concat", &all, vec![Attr::Int(axis as i64)]) }
}

fn slice_parts(s: &mut Site, n: &Node) -> Option<Id> {
    let [starts, sizes, steps] = cut(s, n)?;
    for c in s.nodes(n.operands()[0], "concat") {
        let Some((all, axis)) = parts(s, &c) else { continue };
        let (start, size, step) = (starts[axis], sizes[axis], steps[axis]);
        if size == 0 || all.len() < 2 {
            continue;
        }
        let (lo, hi) = super::span(start, size, step);
        let (mut at, mut taken) = (0, vec![]);
        for &p in &all {
            let d = s.dims(p)?;
            let begin = at;
            at += d[axis];
            if at > lo && begin <= hi {
                taken.push((p, begin, d));
            }
        }
        // All parts again would be the same concatenation; several parts in one piece only.
        if taken.len() == all.len() || (taken.len() > 1 && step != 1) {
            continue;
        }
        let mut pieces = vec![];
        for (p, at, d) in &taken {
            let (mut a, mut z) = (starts.clone(), sizes.clone());
            if taken.len() == 1 {
                a[axis] = start - at;
            } else {
                a[axis] = (start - at).max(0);
                z[axis] = (hi + 1 - at).min(d[axis]) - a[axis];
            }
            let whole = z == *d && a.iter().all(|&x| x == 0) && steps.iter().all(|&t| t == 1);
            pieces.push(if whole { *p } else { s.add("slice", &[*p], vec![Attr::Ints(a), Attr::Ints(z), Attr::Ints(steps.clone())])? });
        }
        return if let [one] = pieces[..] { Some(one) } else { s.add("concat", &pieces, vec![Attr::Int(axis as i64)]) };
    }
    None
}

fn neighbours(s: &mut Site, n: &Node) -> Option<Id> {
    let (all, axis) = parts(s, n)?;
    // Each part, and the slice that it is; `None` for a part that grew.
    let mut out: Vec<(Option<Id>, Option<(Id, [Vec<i64>; 3])>)> = vec![];
    for &p in &all {
        let this = s.nodes(p, "slice").first().and_then(|c| Some((c.operands()[0], cut(s, c)?)));
        if let (Some((part, Some((x, [a, z, t])))), Some((y, [b, v, u]))) = (out.last_mut(), &this) {
            let alike = (0..a.len()).all(|i| i == axis || (a[i] == b[i] && z[i] == v[i] && t[i] == u[i]));
            if s.same(*x, *y) && alike && t[axis] == 1 && u[axis] == 1 && a[axis] + z[axis] == b[axis] {
                z[axis] += v[axis];
                *part = None;
                continue;
            }
        }
        out.push((Some(p), this));
    }
    if out.len() == all.len() {
        return None;
    }
    let mut joined = vec![];
    for (part, from) in out {
        joined.push(match (part, from) {
            (Some(p), _) => p,
            (None, Some((x, cut))) => s.add("slice", &[x], cut.map(Attr::Ints).to_vec())?,
            (None, None) => return None,
        });
    }
    if let [one] = joined[..] { Some(one) } else { s.add("concat", &joined, vec![Attr::Int(axis as i64)]) }
}

/// What every part is, of one op with the same attributes: the operands before it.
fn common(s: &Site, all: &[Id], fits: impl Fn(&Node) -> bool) -> Option<(Node, Vec<Id>)> {
    let first = s.all_nodes(*all.first()?).into_iter().filter(fits);
    for f in first {
        let alike = |p: Id| {
            let same = |m: &Node| {
                m.operands().len() == 1 && egg::Language::discriminant(m) == egg::Language::discriminant(&f) && m.attr_ids() == f.attr_ids()
            };
            s.all_nodes(p).into_iter().find(same).map(|m| m.operands()[0])
        };
        if let Some(inner) = all.iter().map(|&p| alike(p)).collect::<Option<Vec<Id>>>() {
            return Some((f, inner));
        }
    }
    None
}

fn is_map(n: &Node) -> bool {
    let Node::Op(op, _) = n else { return false };
    let d = op.def();
    let scalar = matches!(d.kind, Kind::Elementwise(Scalar::Unary(_) | Scalar::Cast));
    d.operands.len() == 1 && (scalar || super::super::ACTIVATIONS.contains(&d.name))
}

/// Most parts of a concatenation that is one kernel: a buffer is left for the result, and some for what the parts are made of.
const WIDEST: usize = 240;

fn in_groups(s: &mut Site, n: &Node) -> Option<Id> {
    let (all, axis) = parts(s, n)?;
    if all.len() <= WIDEST {
        return None;
    }
    let each = all.len().div_ceil(all.len().div_ceil(WIDEST));
    let groups: Option<Vec<Id>> = all.chunks(each).map(|part| s.add("concat", part, vec![Attr::Int(axis as i64)])).collect();
    s.add("concat", &groups?, vec![Attr::Int(axis as i64)])
}

fn past_map(s: &mut Site, n: &Node) -> Option<Id> {
    let (all, axis) = parts(s, n)?;
    let (f, inner) = common(s, &all, is_map)?;
    let types: Vec<_> = inner.iter().map(|&i| s.ty(i).map(|t| t.dtype)).collect();
    if all.len() < 2 || types.windows(2).any(|w| w[0] != w[1]) {
        return None;
    }
    let joined = s.add("concat", &inner, vec![Attr::Int(axis as i64)])?;
    s.again(&f, &[joined])
}

fn past_transpose(s: &mut Site, n: &Node) -> Option<Id> {
    let (all, axis) = parts(s, n)?;
    let (f, inner) = common(s, &all, |n| matches!(n, Node::Op(op, _) if op.def().name == "transpose"))?;
    let Attr::Ints(perm) = s.attr(&f, 0)?.clone() else { return None };
    if all.len() < 2 {
        return None;
    }
    let joined = s.add("concat", &inner, vec![Attr::Int(perm[axis])])?;
    s.again(&f, &[joined])
}

pub(in super::super) static RULES: &[Code] = &[
    Code {
        name: "concat-flattened",
        class: Exact,
        op: "concat",
        lhs: "(concat x… (concat y… k) z… k)",
        rhs: "(concat x… y… z… k)",
        doc: "A concatenation in a concatenation along the same axis.",
        apply: flatten,
        sample: |s| {
            let (n, a, b) = (s.dim(), s.dim(), s.dim());
            format!("(concat x:f32[{n},{a}] (concat y:f32[{n},{b}] z:f32[{n},{a}] 1) v:f32[{n},2] 1)")
        },
    },
    Code {
        name: "slice-of-concat",
        class: Exact,
        op: "slice",
        lhs: "(slice (concat x… k) a z t)",
        rhs: "(concat (slice x a' z' t)… k)",
        doc: "Only the parts that a slice touches are read; where it takes one whole part, that part.",
        apply: slice_parts,
        sample: |s| {
            let d: Vec<usize> = s.dims(4);
            let all = format!("(concat x:f32[2,{}] y:f32[2,{}] z:f32[2,{}] w:f32[2,{}] 1)", d[0], d[1], d[2], d[3]);
            // From somewhere in the first three to the end of the third.
            let from = s.below((d[0] + d[1] + d[2]) as u64);
            format!("(slice {all} [0,{from}] [1,{}] [1,1])", d[0] + d[1] + d[2] - from)
        },
    },
    Code {
        name: "concat-of-neighbours",
        class: Exact,
        op: "concat",
        lhs: "(concat v… (slice x a z t) (slice x a+z y t) w… k)",
        rhs: "(concat v… (slice x a z+y t) w… k)",
        doc: "Neighbouring pieces of one tensor, joined again.",
        apply: neighbours,
        sample: |s| {
            let (n, a, b, c) = (s.dim(), s.dim(), s.dim(), s.dim());
            let x = format!("x:f32[{n},{}]", a + b + c);
            let piece = |at, size| format!("(slice {x} [0,{at}] [{n},{size}] [1,1])");
            format!("(concat v:f32[{n},2] {} {} {} 1)", piece(0, a), piece(a, b), piece(a + b, c))
        },
    },
    Code {
        name: "concat-of-maps",
        class: Exact,
        op: "concat",
        lhs: "(concat (f x)… k)",
        rhs: "(f (concat x… k))",
        doc: "One function of every part, a cast too, is that function of the whole.",
        apply: past_map,
        sample: |s| {
            let (n, a, b) = (s.dim(), s.dim(), s.dim());
            match s.below(3) {
                0 => format!("(concat (relu x:f32[{n},{a}]) (relu y:f32[{n},{b}]) (relu z:f32[{n},{a}]) 1)"),
                1 => format!("(concat (neg x:f32[{n},{a}]) (neg y:f32[{n},{b}]) 1)"),
                _ => format!("(concat (cast x:f32[{a},{n}] bf16 true) (cast y:f32[{b},{n}] bf16 true) 0)"),
            }
        },
    },
    Code {
        name: "concat-in-groups",
        class: Exact,
        op: "concat",
        lhs: "(concat x… y… … k)",
        rhs: "(concat (concat x… k) (concat y… k) … k)",
        doc: "A kernel has so many arguments: more parts are joined in groups first.",
        apply: in_groups,
        sample: |s| {
            let n = s.dim();
            let parts: Vec<String> = (0..WIDEST + 2).map(|i| format!("{}:f32[{n},1]", ["x", "y", "z", "v"][i % 4])).collect();
            format!("(concat {} 1)", parts.join(" "))
        },
    },
    Code {
        name: "concat-of-transposes",
        class: Exact,
        op: "concat",
        lhs: "(concat (transpose x p)… k)",
        rhs: "(transpose (concat x… p[k]) p)",
        doc: "Parts that were all transposed alike are joined along the axis they had before.",
        apply: past_transpose,
        sample: |s| {
            let (n, a, b) = (s.dim(), s.dim(), s.dim());
            format!("(concat (transpose x:f32[{a},2,{n}] [2,0,1]) (transpose y:f32[{b},2,{n}] [2,0,1]) 1)")
        },
    },
];

/// Rules that look right and are not.
#[cfg(test)]
pub(in super::super) static WRONG: &[Code] = &[
    Code {
        name: "wrong-concat-flattened-axis",
        class: Exact,
        op: "concat",
        lhs: "",
        rhs: "",
        doc: "Joined along another axis inside.",
        apply: |s, n| {
            let (outer, axis) = parts(s, n)?;
            let inner = s.nodes(outer[0], "concat").into_iter().find_map(|c| parts(s, &c))?.0;
            let all: Vec<Id> = inner.into_iter().chain(outer[1..].iter().copied()).collect();
            s.add("concat", &all, vec![Attr::Int(axis as i64)])
        },
        sample: |_| "(concat (concat x:f32[2,2] y:f32[2,2] 0) z:f32[4,2] 1)".into(),
    },
    Code {
        name: "wrong-slice-of-concat-start",
        class: Exact,
        op: "slice",
        lhs: "",
        rhs: "",
        doc: "Forgets that the second part starts later.",
        apply: |s, n| {
            let c = s.nodes(n.operands()[0], "concat").into_iter().next()?;
            s.again(n, &[c.operands()[1]])
        },
        sample: |_| "(slice (concat x:f32[2] y:f32[5] 0) [2] [3] [1])".into(),
    },
    Code {
        name: "wrong-concat-of-transposes",
        class: Exact,
        op: "concat",
        lhs: "",
        rhs: "",
        doc: "The axis before the transpose is another.",
        apply: |s, n| {
            let (all, axis) = parts(s, n)?;
            let (f, inner) = common(s, &all, |n| matches!(n, Node::Op(op, _) if op.def().name == "transpose"))?;
            let joined = s.add("concat", &inner, vec![Attr::Int(axis as i64)])?;
            s.again(&f, &[joined])
        },
        sample: |_| "(concat (transpose x:f32[2,2] [1,0]) (transpose y:f32[2,2] [1,0]) 1)".into(),
    },
];
