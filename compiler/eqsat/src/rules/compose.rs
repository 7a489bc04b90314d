//! Pointwise convolutions, one right after the other: their matrices multiply. Across a concat of several, and across sums, too.

use super::code::{Code, Site};
use super::range;
use super::sample::Sample;
use crate::language::Node;
use egg::Id;
use tahoma_core::Attr;
use tahoma_core::artifact::Numerics::Reassociate;

/// Channels that the composed convolution may read, for each that the outer one reads.
const WIDER: i64 = 2;

/// What a part of the input is made of: an operand, and the matrix that it goes through, if any.
type Term = (Id, Option<Id>);

/// Input and weight of a convolution with a window of one element, one group and steps of one.
fn pointwise(s: &Site, n: &Node) -> Option<(Id, Id)> {
    let [x, w] = *n.operands() else { return None };
    let plain = |i: usize, want: i64| matches!(s.attr(n, i), Some(Attr::Ints(v)) if v.iter().all(|x| *x == want));
    let one = plain(0, 1) && plain(1, 0) && matches!(s.attr(n, 3), Some(Attr::Int(1)));
    (one && s.is_fixed(w) && s.dims(w)?[2..].iter().all(|&d| d == 1)).then_some((x, w))
}

/// The first pointwise convolution that makes a class.
fn made_by(s: &Site, id: Id) -> Option<Term> {
    s.nodes(id, "conv").iter().find_map(|n| pointwise(s, n)).map(|(x, w)| (x, Some(w)))
}

/// The terms of a part: of a convolution its input, of a sum its operands, if one of them is a convolution.
fn terms(s: &Site, part: Id) -> Vec<Term> {
    if let Some(t) = made_by(s, part) {
        return vec![t];
    }
    let whole = s.dims(part);
    let sum = s.nodes(part, "add").iter().find_map(|n| {
        let [a, b] = *n.operands() else { return None };
        let (x, y) = (made_by(s, a), made_by(s, b));
        let fits = s.dims(a) == whole && s.dims(b) == whole && !s.same(a, b) && (x.is_some() || y.is_some());
        fits.then(|| vec![x.unwrap_or((a, None)), y.unwrap_or((b, None))])
    });
    sum.unwrap_or_else(|| vec![(part, None)])
}

/// The outer convolution on the terms of its parts. `product` multiplies the outer matrix with the inner one.
fn compose(s: &mut Site, n: &Node, product: fn(&mut Site, Id, Id) -> Option<Id>) -> Option<Id> {
    let (x, w) = pointwise(s, n)?;
    let joined = |c: &Node| matches!(s.attr(c, 0), Some(Attr::Int(1)));
    let parts = s.nodes(x, "concat").into_iter().find(joined).map_or(vec![x], |c| c.operands().to_vec());
    let all: Vec<Vec<Term>> = parts.iter().map(|&p| terms(s, p)).collect();
    if all.iter().flatten().all(|t| t.1.is_none()) {
        return None;
    }
    let of = s.dims(w)?;
    let (mut inputs, mut weights, mut at, mut read) = (vec![], vec![], 0, 0);
    for (&part, terms) in parts.iter().zip(all) {
        let channels = s.dims(part)?[1];
        let (mut starts, mut sizes) = (vec![0; of.len()], of.clone());
        (starts[1], sizes[1]) = (at, channels);
        at += channels;
        let own = if parts.len() == 1 { w } else { s.add("slice", &[w], vec![starts.into(), sizes.into(), vec![1; of.len()].into()])? };
        for (input, inner) in terms {
            read += s.dims(input)?[1];
            inputs.push(input);
            weights.push(match inner {
                Some(v) => {
                    let (a, b) = (s.known(own)?.span, s.known(v)?.span);
                    if !range::product_fits(a, b, channels as u64, s.ty(v)?.dtype) {
                        return None;
                    }
                    product(s, own, v)?
                }
                None => own,
            });
        }
    }
    if read > WIDER * of[1] {
        return None;
    }
    let join = |s: &mut Site, all: &[Id]| if let [one] = all { Some(*one) } else { s.add("concat", all, vec![Attr::Int(1)]) };
    let (x, w) = (join(s, &inputs)?, join(s, &weights)?);
    s.again(n, &[x, w])
}

/// `[o, c, 1, …]` by `[c, d, 1, …]`.
fn matrices(s: &mut Site, w: Id, v: Id) -> Option<Id> {
    let (p, q) = (s.dims(w)?, s.dims(v)?);
    let a = s.add("reshape", &[w], vec![p[..2].to_vec().into()])?;
    let b = s.add("reshape", &[v], vec![q[..2].to_vec().into()])?;
    let y = s.add("matmul", &[a, b], vec![])?;
    let mut shape = p;
    shape[1] = q[1];
    s.add("reshape", &[y], vec![shape.into()])
}

/// One convolution after another, or after a concat of one, a sum and something else.
fn drawing(s: &mut Sample) -> String {
    let (c, d, o, h, k) = (2 + s.dim(), 1 + s.dim(), s.dim(), s.dim(), s.dim());
    // The outer one reads at least half of what the composed one does.
    let d = d.min(2 * c);
    let conv = |x: &str, w: &str| format!("(conv {x} {w} [1,1] [0,0,0,0] [1,1] 1)");
    let inner = conv(&format!("x:f32[2,{d},{h},3]"), &format!("w=f32[{c},{d},1,1]"));
    match s.below(3) {
        0 => conv(&inner, &format!("v=f32[{o},{c},1,1]")),
        1 => conv(&format!("(concat y:f32[2,{k},{h},3] {inner} 1)"), &format!("v=f32[{o},{},1,1]", k + c)),
        _ => {
            let sum = format!("(add {inner} y:f32[2,{c},{h},3])");
            conv(&format!("(concat {sum} z:f32[2,{},{h},3] 1)", d + c), &format!("v=f32[{o},{},1,1]", d + 2 * c))
        }
    }
}

pub(super) static RULES: &[Code] = &[Code {
    name: "conv-of-convs-pointwise",
    class: Reassociate,
    op: "conv",
    lhs: "(conv (concat … (conv x W s p d 1) … 1) V s p d 1)",
    rhs: "(conv (concat … x … 1) (concat … Vᵢ·W … 1) s p d 1)",
    doc: "V·(W·x) = (V·W)·x for matrices of weights, part by part of what V reads, and in each term of a sum.",
    apply: |s, n| compose(s, n, matrices),
    sample: drawing,
}];

#[cfg(test)]
pub(in super::super) static WRONG: &[Code] = &[
    Code {
        name: "wrong-composition-transposed",
        class: Reassociate,
        op: "conv",
        lhs: "",
        rhs: "",
        doc: "Multiplies with the inner matrix turned.",
        apply: |s, n| {
            compose(s, n, |s, w, v| {
                let turned = s.add("transpose", &[v], vec![vec![1i64, 0, 2, 3].into()])?;
                matrices(s, w, turned)
            })
        },
        sample: |_| "(conv (conv x:f32[1,3,2,2] w=f32[3,3,1,1] [1,1] [0,0,0,0] [1,1] 1) v=f32[2,3,1,1] [1,1] [0,0,0,0] [1,1] 1)".into(),
    },
    Code {
        name: "wrong-composition-forgets",
        class: Reassociate,
        op: "conv",
        lhs: "",
        rhs: "",
        doc: "Leaves the inner matrix out.",
        apply: |s, n| compose(s, n, |_, w, _| Some(w)),
        sample: |_| "(conv (conv x:f32[1,3,2,2] w=f32[3,3,1,1] [1,1] [0,0,0,0] [1,1] 1) v=f32[2,3,1,1] [1,1] [0,0,0,0] [1,1] 1)".into(),
    },
];
