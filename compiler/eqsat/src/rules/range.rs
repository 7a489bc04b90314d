//! Whether the right side of a rule stays within its types: what `reassociate` asks before numbers move or join.
//!
//! ```text
//! (x·a)·b  =>  x·(a·b)          a·b is a number that the program does not make: 1e-4·1e-4 is 0 in f16, 300·300 infinite
//! ```
//!
//! The root is what it was, and what the program makes itself it can hold. Every other step of the right side must lie below the largest
//! number of its type, and above the least normal one where something multiplies it: what is only added is off by no more than the
//! smallest number, as the product that it replaces.

use crate::facts::{EGraph, Fact, Value, infer_from};
use crate::language::{AttrLeaf, Node, attrs_from};
use crate::span::{self, Span};
use egg::{ENodeOrVar, Id, Language, PatternAst, Subst};
use tahoma_core::artifact::Numerics;
use tahoma_core::op::{Kind, Move, OpDef};
use tahoma_core::{Attr, Attrs, DType};

/// Rules whose steps fit wherever the left side does, though spans do not tell.
const PROVED: &[(&str, &str)] = &[("pow-three", "x² lies between 1 and x³, or is no larger than what x³ underflows to")];

fn is_move(op: &OpDef) -> bool {
    matches!(op.kind, Kind::Move(_))
}

/// Whether a step multiplies what it is given.
fn multiplies(op: &OpDef) -> bool {
    let adds = ["add", "sub", "neg", "abs", "reduce_sum", "reduce_mean", "reduce_max", "reduce_min", "max", "min"];
    !is_move(op) && !adds.contains(&op.name)
}

/// Whether the result of a step may underflow: sums and moves do not.
fn may_vanish(op: &OpDef) -> bool {
    matches!(op.name, "mul" | "div" | "reciprocal" | "rsqrt" | "constant") || matches!(op.kind, Kind::Contract(_))
}

/// Whether a right side makes numbers on its way at all.
pub(super) fn is_asked(name: &str, class: Numerics, rhs: &PatternAst<Node>) -> bool {
    let last = rhs.as_ref().len() - 1;
    let computes = |(i, n): (usize, &ENodeOrVar<Node>)| matches!(n, ENodeOrVar::ENode(Node::Op(op, _)) if i < last && !is_move(op.def()));
    class > Numerics::Exact && PROVED.iter().all(|p| p.0 != name) && rhs.as_ref().iter().enumerate().any(computes)
}

/// A node of the right side, as it is or would be.
enum Part {
    Attr(AttrLeaf),
    Value(Box<Value>),
}

/// How a step is used: whether its numbers are those of the result, and whether something multiplies them.
#[derive(Clone, Copy, Default)]
struct Use {
    result: bool,
    scaled: bool,
}

fn uses(nodes: &[ENodeOrVar<Node>]) -> Vec<Use> {
    let mut uses = vec![Use::default(); nodes.len()];
    uses[nodes.len() - 1].result = true;
    for (i, n) in nodes.iter().enumerate().rev() {
        let ENodeOrVar::ENode(n @ Node::Op(op, _)) = n else { continue };
        let (op, of) = (op.def(), uses[i]);
        let same = matches!(op.kind, Kind::Move(Move::Transpose | Move::Reshape | Move::Broadcast | Move::Concat));
        for c in n.operands() {
            let c = &mut uses[usize::from(*c)];
            c.result |= of.result && same;
            c.scaled |= multiplies(op) || of.scaled;
        }
    }
    uses
}

/// Whether a step that the program does not make stays within its type.
fn step_fits(op: &OpDef, args: &[&Value], value: &Value, of: Use) -> bool {
    let Some((most, least)) = span::ends(value.ty.dtype) else { return true };
    let s = value.known.span;
    // A choice among numbers, or a mean of them, is no larger than they are.
    let grows = args.is_empty() || args.iter().all(|a| a.known.span.most < s.most);
    s.is_zero() || ((!grows || s.most <= most) && (!of.scaled || !may_vanish(op) || s.least >= least))
}

/// Whether a sum of products stays within what it is summed in.
fn sum_fits(op: &OpDef, args: &[&Value], attrs: &Attrs, value: &Value) -> bool {
    let wide = if value.ty.dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let fits = || span::ends(wide).is_none_or(|e| span::image(op, args, attrs, &value.ty).most <= e.0);
    !matches!(op.kind, Kind::Contract(_)) || !value.ty.dtype.is_float() || fits()
}

/// Whether the product of two matrices of weights, of `n` terms each, can stand for them.
pub(super) fn product_fits(a: Span, b: Span, n: u64, d: DType) -> bool {
    let Some((most, least)) = span::ends(d) else { return true };
    let s = a.products(b, n);
    d.bits() >= 16 && (s.is_zero() || (s.most <= most && s.least >= least))
}

/// Whether no step of an instance of `rhs` overflows or loses digits to underflow where the program does not.
pub(super) fn fits(rhs: &PatternAst<Node>, g: &EGraph, subst: &Subst) -> bool {
    let nodes = rhs.as_ref();
    let uses = uses(nodes);
    let (mut parts, mut ids): (Vec<Part>, Vec<Option<Id>>) = (vec![], vec![]);
    for (i, n) in nodes.iter().enumerate() {
        let id = match n {
            ENodeOrVar::Var(v) => subst.get(*v).map(|&id| g.find(id)),
            ENodeOrVar::ENode(n) => {
                let children: Option<Vec<Id>> = n.children().iter().map(|&c| ids[usize::from(c)]).collect();
                children.and_then(|c| {
                    let mut c = c.into_iter();
                    g.lookup(n.clone().map_children(|_| c.next().expect("as many children")))
                })
            }
        };
        let part = match (id.map(|id| &g[id].data), n) {
            (Some(Fact::Attr(a)), _) | (None, ENodeOrVar::ENode(Node::Attr(a))) => Part::Attr(a.clone()),
            (known, ENodeOrVar::ENode(n @ Node::Op(op, _))) => {
                let args: Option<Vec<&Value>> = n.operands().iter().map(|c| value(&parts, *c)).collect();
                let leaves: Option<Vec<&Attr>> = n.attr_ids().iter().map(|c| attr(&parts, *c)).collect();
                let (Some(args), Some(leaves)) = (args, leaves) else { return true };
                let attrs = attrs_from(op.def(), leaves);
                let v = match known {
                    Some(Fact::Value(v)) => v.clone(),
                    _ => match infer_from(*op, &args, false, &attrs) {
                        Ok(Fact::Value(v)) => v,
                        // What does not type is told where it is added.
                        _ => return true,
                    },
                };
                let op = op.def();
                if !is_move(op) && v.ty.dtype.is_float() && v.ty.dtype.bits() < 16 {
                    return false;
                }
                let new = !is_move(op) && !id.is_some_and(|id| made_by_program(g, id));
                if new && ((!uses[i].result && !step_fits(op, &args, &v, uses[i])) || !sum_fits(op, &args, &attrs, &v)) {
                    return false;
                }
                Part::Value(Box::new(v))
            }
            (Some(Fact::Value(v)), _) => Part::Value(Box::new(v.clone())),
            _ => return true,
        };
        parts.push(part);
        ids.push(id);
    }
    true
}

fn made_by_program(g: &EGraph, id: Id) -> bool {
    g[id].nodes.iter().any(|n| g.analysis.made.get(n).is_some_and(|m| m.rule.is_none()))
}

fn value(parts: &[Part], c: Id) -> Option<&Value> {
    if let Part::Value(v) = &parts[usize::from(c)] { Some(v) } else { None }
}

fn attr(parts: &[Part], c: Id) -> Option<&Attr> {
    if let Part::Attr(a) = &parts[usize::from(c)] { Some(a.get()) } else { None }
}
