//! Rules over any number of operands, which no pattern can say: the rewritten op, and code that makes the other side.

use crate::bridge::fuse;
use crate::facts::{EGraph, Fact, Facts, Made};
use crate::language::{AttrLeaf, Node, OpId};
use crate::rules::sample::Sample;
use crate::values::Known;
use egg::{Applier, Id, Language, PatternAst, Rewrite, SearchMatches, Searcher, Subst, Symbol, Var};
use std::sync::Arc;
use tahoma_core::artifact::Numerics;
use tahoma_core::{Attr, Origin, Tensor, TensorType};

/// A rule as code.
pub struct Code {
    pub name: &'static str,
    pub class: Numerics,
    /// The op whose nodes are rewritten.
    pub op: &'static str,
    /// Both sides for readers; `…` stands for any number of parts.
    pub lhs: &'static str,
    pub rhs: &'static str,
    pub doc: &'static str,
    /// The class that is equal to the node; `None`: does not apply.
    pub apply: fn(&mut Site, &Node) -> Option<Id>,
    /// A left side drawn at random, as text, for which the rule must fire and hold.
    pub sample: fn(&mut Sample) -> String,
}

/// The e-graph while a rule as code is at work; what it adds is recorded under the rule.
pub struct Site<'a> {
    egraph: &'a mut EGraph,
    made: Made,
}

impl<'a> Site<'a> {
    pub fn new(egraph: &'a mut EGraph, rule: &'static str, from: impl IntoIterator<Item = Arc<Origin>>) -> Site<'a> {
        egraph.analysis.rule = rule;
        Site { egraph, made: Made { rule: Some(rule), origin: fuse(rule, from) } }
    }
    pub fn ty(&self, id: Id) -> Option<&TensorType> {
        self.egraph[id].data.value().map(|v| &v.ty)
    }
    pub fn known(&self, id: Id) -> Option<Known> {
        self.egraph[id].data.value().map(|v| v.known)
    }
    /// Whether it is made of weights and constants alone.
    pub fn is_fixed(&self, id: Id) -> bool {
        self.egraph[id].data.value().is_some_and(|v| v.fixed)
    }
    pub fn dims(&self, id: Id) -> Option<Vec<i64>> {
        self.ty(id)?.shape.0.iter().map(|d| d.known().map(|n| n as i64)).collect()
    }
    /// A constant, however large.
    pub fn constant(&self, id: Id) -> Option<Arc<Tensor>> {
        let known = self.egraph[id].data.value().and_then(|v| v.constant.clone());
        known.or_else(|| match self.attr(&self.nodes(id, "constant").pop()?, 0)? {
            Attr::Tensor(t) => Some(t.clone()),
            _ => None,
        })
    }
    pub fn same(&self, a: Id, b: Id) -> bool {
        self.egraph.find(a) == self.egraph.find(b)
    }
    /// The i-th attribute of a node.
    pub fn attr(&self, n: &Node, i: usize) -> Option<&Attr> {
        self.egraph[*n.attr_ids().get(i)?].data.attr()
    }
    /// Nodes of a class, in an order that does not depend on how they came.
    pub fn all_nodes(&self, id: Id) -> Vec<Node> {
        let mut all: Vec<Node> = self.egraph[id].nodes.iter().map(|n| n.clone().map_children(|c| self.egraph.find(c))).collect();
        all.sort();
        all
    }
    /// Those of one op.
    pub fn nodes(&self, id: Id, op: &str) -> Vec<Node> {
        let mut all = self.all_nodes(id);
        all.retain(|n| matches!(n, Node::Op(o, _) if o.def().name == op));
        all
    }
    fn put(&mut self, node: Node) -> Id {
        let node = node.map_children(|c| self.egraph.find(c));
        if self.egraph.lookup(node.clone()).is_none() {
            self.egraph.analysis.record(node.clone(), self.made.clone());
        }
        self.egraph.add(node)
    }
    pub fn add(&mut self, op: &str, operands: &[Id], attrs: Vec<Attr>) -> Option<Id> {
        let mut children = operands.to_vec();
        children.extend(attrs.into_iter().map(|a| self.egraph.add(Node::Attr(AttrLeaf::new(a)))));
        Some(self.put(Node::Op(OpId::named(op)?, children.into())))
    }
    /// The same op with the same attributes on other operands.
    pub fn again(&mut self, n: &Node, operands: &[Id]) -> Option<Id> {
        let Node::Op(op, _) = n else { return None };
        let children: Vec<Id> = operands.iter().chain(n.attr_ids()).copied().collect();
        Some(self.put(Node::Op(*op, children.into())))
    }
    /// Joins what the rule made with what it is equal to, if the types agree; whether anything was new.
    pub fn join(&mut self, class: Id, new: Id) -> bool {
        match (&self.egraph[new].data, &self.egraph[class].data) {
            (Fact::Value(a), Fact::Value(b)) if a.ty == b.ty => self.egraph.union_trusted(class, new, self.egraph.analysis.rule),
            (Fact::Value(a), Fact::Value(b)) => {
                let (a, b) = (a.ty.clone(), b.ty.clone());
                self.egraph.analysis.fault(&b, &a);
                false
            }
            _ => false,
        }
    }
}

/// The rule as egg runs it.
pub fn rewrite(code: &'static Code) -> Result<Rewrite<Node, Facts>, String> {
    let op = OpId::named(code.op).ok_or_else(|| format!("rule {}: no op named {}", code.name, code.op))?;
    Rewrite::new(code.name, Heads(op), Run(code)).map_err(|e| format!("rule {}: {e}", code.name))
}

/// Finds the classes that hold a node of an op.
struct Heads(OpId);

impl Searcher<Node, Facts> for Heads {
    fn search_eclass_with_limit(&self, g: &EGraph, eclass: Id, limit: usize) -> Option<SearchMatches<'_, Node>> {
        let has = limit > 0 && g[eclass].nodes.iter().any(|n| matches!(n, Node::Op(op, _) if *op == self.0));
        has.then(|| SearchMatches { eclass: g.find(eclass), substs: vec![Subst::default()], ast: None })
    }
    fn search_with_limit(&self, g: &EGraph, limit: usize) -> Vec<SearchMatches<'_, Node>> {
        let mut ids: Vec<Id> = g.classes_for_op(&Node::Op(self.0, [].into()).discriminant()).into_iter().flatten().collect();
        ids.sort_unstable();
        ids.into_iter().take(limit).filter_map(|id| self.search_eclass_with_limit(g, id, limit)).collect()
    }
    fn vars(&self) -> Vec<Var> {
        vec![]
    }
}

struct Run(&'static Code);

impl Applier<Node, Facts> for Run {
    fn apply_one(&self, g: &mut EGraph, class: Id, _: &Subst, _: Option<&PatternAst<Node>>, _: Symbol) -> Vec<Id> {
        let nodes: Vec<Node> =
            g[class].nodes.iter().filter(|n| matches!(n, Node::Op(op, _) if op.def().name == self.0.op)).cloned().collect();
        let mut changed = vec![];
        for n in nodes {
            let from: Vec<Arc<Origin>> = g.analysis.made.get(&n).map(|m| m.origin.clone()).into_iter().collect();
            let mut site = Site::new(g, self.0.name, from);
            if let Some(new) = (self.0.apply)(&mut site, &n)
                && site.join(class, new)
            {
                changed.push(class);
            }
        }
        changed
    }
}
