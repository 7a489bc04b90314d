//! How much arithmetic an op is, from its kind. Only used to say which share of a model runs where.
//!
//! A multiply-add is two, a composite is the sum of its parts, a move or a cast nothing; an op of which only its meaning is known
//! (`Opaque`) counts one per result element.

use tahoma_core::form;
use tahoma_core::graph::{Graph, Node, Port};
use tahoma_core::op::{Contract, Kind, Scalar};
use tahoma_core::{Attr, Program, TensorType, ValueId};

fn elements(t: &TensorType) -> u64 {
    t.shape.elements().unwrap_or(0)
}

fn product(ints: Option<&[i64]>) -> u64 {
    ints.unwrap_or_default().iter().fold(1u64, |p, &n| p.saturating_mul(n.max(0) as u64))
}

/// Floating-point (or integer) operations of one node. Values of open shape count as nothing.
pub fn of_node(program: &Program, g: &Graph, n: &Node) -> u64 {
    let operand = |i: usize| n.operands.get(i).map(|&v| g.ty(v));
    let out: u64 = n.results.iter().fold(0u64, |s, &r| s.saturating_add(elements(g.ty(r))));
    let first = operand(0).map_or(0, elements);
    match &n.op.kind {
        Kind::Elementwise(Scalar::Cast) => 0,
        Kind::Elementwise(_) => out,
        Kind::Reduce(_) | Kind::Scan(_) => first,
        Kind::Window(_) => out.saturating_mul(product(n.attrs.ints("window"))),
        Kind::Contract(Contract::MatMul) => {
            let k = operand(0).and_then(|t| t.shape.0.last()).and_then(|d| d.known()).unwrap_or(0);
            out.saturating_mul(k).saturating_mul(2)
        }
        Kind::Contract(Contract::Conv) => {
            let per = operand(1).map_or(0, |w| w.shape.0.iter().skip(1).fold(1u64, |p, d| p.saturating_mul(d.known().unwrap_or(0))));
            out.saturating_mul(per).saturating_mul(2)
        }
        Kind::Move(_) | Kind::Gather | Kind::Generate | Kind::Collective => 0,
        Kind::Scatter => operand(2).map_or(0, elements),
        Kind::Opaque => out,
        Kind::Composite(_) => form::expand(&alone(g, n)).map_or(out, |g| of_graph(program, &g)),
        Kind::Structure => {
            let of = |a: &Attr| match a {
                Attr::Func(f) => program.functions.get(&**f).map_or(0, |g| of_graph(program, g)),
                _ => 0,
            };
            // A branch: the dearer of its functions. A scan: its body, as often as it runs.
            let trips = n.attrs.int("trips").map_or(1, |t| t.max(0) as u64);
            n.attrs.0.values().map(of).max().unwrap_or(0).saturating_mul(trips)
        }
    }
}

/// Operations of a function.
pub fn of_graph(program: &Program, g: &Graph) -> u64 {
    g.nodes.iter().fold(0, |sum, n| of_node(program, g, n).saturating_add(sum))
}

/// One node as a function of its operands.
pub(crate) fn alone(g: &Graph, n: &Node) -> Graph {
    let mut types: Vec<TensorType> = n.operands.iter().map(|&v| g.ty(v).clone()).collect();
    let count = types.len();
    types.extend(n.results.iter().map(|&r| g.ty(r).clone()));
    let id = |i: usize| ValueId(i as u32);
    let node = Node {
        op: n.op,
        operands: (0..count).map(id).collect(),
        attrs: n.attrs.clone(),
        results: (count..types.len()).map(id).collect(),
        origin: n.origin.clone(),
    };
    Graph {
        name: n.op.name.into(),
        inputs: (0..count).map(|i| Port { name: format!("x{i}"), value: id(i) }).collect(),
        outputs: (count..types.len()).map(|i| Port { name: format!("y{}", i - count), value: id(i) }).collect(),
        nodes: vec![node],
        types,
        attrs: Default::default(),
    }
}
