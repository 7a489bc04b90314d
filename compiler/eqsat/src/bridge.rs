//! Graph to e-graph, and expressions back to graphs.
//!
//! Static ops become `Op` nodes that rules see. Structure ops, and ops whose result types depend on data, become `Opaque` nodes:
//! kept as they are, with operands that may still be improved.

use crate::facts::{EGraph, Fact, Facts, Made};
use crate::kernel::{Arg, Body, BodyNode, Former, Verdict};
use crate::language::{AttrLeaf, Leaf, Node, OpId, Opaque, attrs_from};
use egg::{Id, RecExpr};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tahoma_core::op::{Kind, OpError};
use tahoma_core::{Attr, Builder, Graph, Origin, TensorType, ValueId};

/// A graph in an e-graph.
pub struct Bridge {
    pub egraph: EGraph,
    /// The class of each value of the graph.
    pub values: Vec<Id>,
}

/// Names of inputs, made unique by their place where two are equal.
pub(crate) fn input_names(g: &Graph) -> Vec<Arc<str>> {
    let mut seen: HashSet<&str> = HashSet::new();
    g.inputs
        .iter()
        .enumerate()
        .map(|(i, p)| {
            let again = !seen.insert(&p.name);
            if again { format!("{}#{i}", p.name).into() } else { p.name.as_str().into() }
        })
        .collect()
}

/// The e-graph of `graph`; `facts` says what is known of its weights.
pub fn to_egraph(graph: &Graph, facts: Facts) -> Bridge {
    let mut g = EGraph::new(Facts { of_source: true, ..facts });
    let mut values = vec![Id::from(0); graph.types.len()];
    for (p, name) in graph.inputs.iter().zip(input_names(graph)) {
        let leaf = Leaf { name, weight: false, ty: graph.ty(p.value).clone() };
        values[p.value.index()] = g.add(Node::Leaf(Arc::new(leaf)));
    }
    for (index, n) in graph.nodes.iter().enumerate() {
        let operands: Vec<Id> = n.operands.iter().map(|v| values[v.index()]).collect();
        let types: Vec<TensorType> = n.results.iter().map(|&r| graph.ty(r).clone()).collect();
        let made = |rule| Made { rule, origin: n.origin.clone() };
        let known = if n.op.name == "weight" {
            let name = n.attrs.str("name").unwrap_or_default();
            Some(Node::Leaf(Arc::new(Leaf { name: name.into(), weight: true, ty: types[0].clone() })))
        } else if matches!(n.op.kind, Kind::Structure) || !types.iter().all(|t| t.shape.is_static()) {
            None
        } else {
            let attrs: Option<Vec<Attr>> = n.op.attrs.iter().map(|d| n.attrs.get(d.name).cloned()).collect();
            attrs.map(|attrs| {
                let mut children = operands.clone();
                for a in attrs {
                    children.push(g.add(Node::Attr(AttrLeaf::new(a))));
                }
                Node::Op(OpId::of(n.op.0), children.into())
            })
        };
        let typed = known.and_then(|node| {
            let id = g.add(node.clone());
            let fits = match &g[id].data {
                Fact::Value(v) => types.len() == 1 && v.ty == types[0],
                Fact::Many(t) => *t == types,
                _ => false,
            };
            fits.then_some((id, node))
        });
        let (id, node) = typed.unwrap_or_else(|| {
            let node = Node::Opaque(Arc::new(Opaque { index, types: types.clone() }), operands.into());
            (g.add(node.clone()), node)
        });
        let node = egg::Language::map_children(node, |c| g.find(c));
        g.analysis.record(node, made(None));
        if n.results.len() == 1 {
            values[n.results[0].index()] = id;
        } else {
            for (i, r) in n.results.iter().enumerate() {
                let node = Node::Result(i as u32, [id]);
                values[r.index()] = g.add(node.clone());
                g.analysis.record(node, made(None));
            }
        }
    }
    g.rebuild();
    g.analysis.of_source = false;
    Bridge { egraph: g, values }
}

/// Adds a graph of ops over given classes; the classes of its outputs. `None` where it holds ops that rules must not see.
pub fn add_graph(g: &mut EGraph, graph: &Graph, inputs: &[Id], made: &Made) -> Option<Vec<Id>> {
    let mut values: HashMap<ValueId, Id> = graph.inputs.iter().map(|p| p.value).zip(inputs.iter().copied()).collect();
    for n in &graph.nodes {
        if matches!(n.op.kind, Kind::Structure) || n.op.name == "weight" || n.results.len() != 1 {
            return None;
        }
        let mut children: Vec<Id> = n.operands.iter().map(|v| values.get(v).copied()).collect::<Option<_>>()?;
        for d in n.op.attrs {
            children.push(g.add(Node::Attr(AttrLeaf::new(n.attrs.get(d.name)?.clone()))));
        }
        let node = Node::Op(OpId::of(n.op.0), children.into());
        if g.lookup(node.clone()).is_none() {
            g.analysis.record(node.clone(), made.clone());
        }
        values.insert(n.results[0], g.add(node));
    }
    graph.outputs.iter().map(|o| values.get(&o.value).copied()).collect()
}

/// Composites that are no kernel by themselves are opened, so that their parts can be: the definition is joined to the op.
pub fn open_composites(g: &mut EGraph, former: &mut Former) {
    let mut ids: Vec<Id> = g.classes().map(|c| c.id).collect();
    ids.sort_unstable();
    for id in ids {
        let nodes: Vec<Node> = g[id].nodes.clone();
        for n in nodes {
            if open(g, former, id, &n).is_some() {
                g.analysis.rule = OPEN;
            }
        }
    }
    g.rebuild();
}

/// Name under which reports show it.
pub const OPEN: &str = "open-composite";

fn open(g: &mut EGraph, former: &mut Former, id: Id, n: &Node) -> Option<()> {
    let Node::Op(op, _) = n else { return None };
    let Kind::Composite(define) = op.def().kind else { return None };
    let value = g[id].data.value()?;
    if value.fixed || !value.ty.shape.is_static() {
        return None;
    }
    let types: Vec<TensorType> = n.operands().iter().map(|&i| g[i].data.value().map(|v| v.ty.clone())).collect::<Option<_>>()?;
    let attrs = Arc::new(crate::facts::attrs(g, n)?);
    let args = (0..types.len() as u32).map(Arg::Input).collect();
    let body = Body::new(types.clone(), vec![BodyNode { op: op.def().name, args, attrs: attrs.clone(), ty: value.ty.clone() }]);
    if matches!(former.form(&Arc::new(body), f64::INFINITY), Verdict::Kernel(_)) {
        return None;
    }
    let want = value.ty.clone();
    let mut b = Builder::new("open");
    let inputs: Vec<ValueId> = types.into_iter().enumerate().map(|(i, t)| b.input(&format!("x{i}"), t)).collect();
    let out = define(&mut b, &inputs, &attrs).ok()?;
    let [out] = out.as_slice() else { return None };
    b.output("y", *out);
    let graph = b.finish();
    let origin = g.analysis.made.get(n).map(|m| m.origin.clone()).unwrap_or_default();
    let operands = n.operands().to_vec();
    let ids = add_graph(g, &graph, &operands, &Made { rule: Some(OPEN), origin })?;
    if g[ids[0]].data.value()?.ty == want {
        g.union_trusted(id, ids[0], OPEN);
    }
    Some(())
}

/// A graph that computes `expr` (ops, inputs, weights): one output `y`. Used by rule tests and text tests.
pub fn expr_to_graph(expr: &RecExpr<Node>) -> Result<Graph, OpError> {
    let last = expr.as_ref().len().checked_sub(1).map(Id::from);
    exprs_to_graph(expr, last.as_slice(), "y")
}

/// A graph that computes some nodes of `expr`, each once: outputs of that name, in order.
pub fn exprs_to_graph(expr: &RecExpr<Node>, roots: &[Id], name: &str) -> Result<Graph, OpError> {
    enum Made {
        Value(ValueId),
        Several(Vec<ValueId>),
        Attr(Attr),
    }
    let mut b = Builder::new("main");
    let mut seen: HashMap<Arc<Leaf>, ValueId> = HashMap::new();
    let mut done: Vec<Made> = vec![];
    // Inputs first and by name, so that both sides of a rule have the same.
    let mut leaves: Vec<Arc<Leaf>> =
        expr.as_ref().iter().filter_map(|n| if let Node::Leaf(l) = n { Some(l.clone()) } else { None }).collect();
    leaves.sort();
    for l in leaves.into_iter().filter(|l| !l.weight) {
        seen.entry(l.clone()).or_insert_with(|| b.input(&l.name, l.ty.clone()));
    }
    for n in expr.as_ref() {
        let value = |i: &Id| match &done[usize::from(*i)] {
            Made::Value(v) => Ok(*v),
            Made::Several(_) => Err(OpError::attr("several results where a tensor is due")),
            Made::Attr(_) => Err(OpError::attr("an attribute where a tensor is due")),
        };
        done.push(match n {
            Node::Attr(a) => Made::Attr(a.get().clone()),
            Node::Leaf(l) if l.weight => Made::Value(b.weight(&l.name, l.ty.clone())),
            Node::Leaf(l) => Made::Value(seen[l]),
            Node::Op(op, _) => {
                let operands: Vec<ValueId> = n.operands().iter().map(value).collect::<Result<_, _>>()?;
                let attrs: Vec<Attr> = n
                    .attr_ids()
                    .iter()
                    .map(|i| match &done[usize::from(*i)] {
                        Made::Attr(a) => Ok(a.clone()),
                        _ => Err(OpError::attr("a tensor where an attribute is due")),
                    })
                    .collect::<Result<_, _>>()?;
                match (op.def().name, attrs.first()) {
                    ("constant", Some(Attr::Tensor(t))) => Made::Value(b.constant((**t).clone())),
                    _ => match b.emit(op.def(), &operands, attrs_from(op.def(), &attrs))?.as_slice() {
                        [one] => Made::Value(*one),
                        several => Made::Several(several.to_vec()),
                    },
                }
            }
            Node::Result(i, [of]) => match &done[usize::from(*of)] {
                Made::Several(v) if (*i as usize) < v.len() => Made::Value(v[*i as usize]),
                _ => return Err(OpError::attr(format!("no result {i}"))),
            },
            other => return Err(OpError::new("E0902", format!("{other} is no op"))),
        });
    }
    for r in roots {
        if let Some(Made::Value(v)) = done.get(usize::from(*r)) {
            b.output(name, *v);
        }
    }
    Ok(b.finish())
}

/// Fuses the origins of several nodes under one name.
pub fn fuse(rule: &str, parts: impl IntoIterator<Item = Arc<Origin>>) -> Arc<Origin> {
    Arc::new(Origin::fuse(rule, parts))
}
