//! Proofs: for each output that rules changed, the chain of rewrites from the source's expression to the chosen one.

use crate::extract::Choice;
use crate::facts::EGraph;
use crate::kernel::{Arg, Candidate};
use crate::language::{AttrLeaf, Node, OpId};
use crate::net::{Net, What};
use egg::{Id, Language, RecExpr};
use std::collections::HashMap;
use tahoma_core::{Attrs, Diagnostic, Graph};

/// Larger expressions are not proved: explanations grow with every path.
const LARGEST: usize = 400;

/// Why one output equals what the source says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    pub output: String,
    /// Expressions from the source's to the chosen one; each names the rule that led to it.
    pub steps: Vec<String>,
    /// The rules, in order.
    pub rules: Vec<String>,
}

struct Writer<'a> {
    net: &'a Net,
    choice: &'a Choice,
    expr: RecExpr<Node>,
    done: HashMap<u32, Id>,
}

impl Writer<'_> {
    fn attrs(&mut self, op: OpId, attrs: &Attrs) -> Vec<Id> {
        op.def().attrs.iter().filter_map(|d| attrs.get(d.name)).map(|a| self.expr.add(Node::Attr(AttrLeaf::new(a.clone())))).collect()
    }
    fn kernel(&mut self, k: &Candidate) -> Option<Id> {
        let inputs: Option<Vec<Id>> = k.inputs.iter().map(|c| self.done.get(c).copied()).collect();
        let (inputs, mut made) = (inputs?, vec![]);
        for n in &k.body.nodes {
            let op = OpId::named(n.op)?;
            let mut c: Vec<Id> = n
                .args
                .iter()
                .map(|a| match a {
                    Arg::Input(i) => inputs[*i as usize],
                    Arg::Node(i) => made[*i as usize],
                })
                .collect();
            c.extend(self.attrs(op, &n.attrs));
            made.push(self.expr.add(Node::Op(op, c.into())));
        }
        made.last().copied()
    }
    /// The chosen program as an expression of ops, kernels opened.
    fn write(&mut self, classes: &[u32]) -> Option<()> {
        for &c in classes {
            let class = &self.net.classes[c as usize];
            let id = match &class.ways[self.choice.way[c as usize] as usize].what {
                What::Kernel(k) => self.kernel(k)?,
                What::Node(i) => {
                    let n = &class.nodes[*i as usize];
                    let mut children: Vec<Id> = n.needs.iter().map(|k| self.done.get(k).copied()).collect::<Option<_>>()?;
                    if let (Node::Op(op, _), Some(attrs)) = (&n.node, &n.attrs) {
                        children.extend(self.attrs(*op, attrs));
                    }
                    children.reverse();
                    let mut node = n.node.clone();
                    node.update_children(|_| children.pop().unwrap_or_default());
                    self.expr.add(node)
                }
            };
            self.done.insert(c, id);
        }
        Some(())
    }
}

/// The source's expression of a value.
fn original(g: &Graph, output: tahoma_core::ValueId) -> Option<RecExpr<Node>> {
    let bridge = crate::bridge::to_egraph(g, true);
    let expr = bridge.egraph.id_to_expr(bridge.values[output.index()]);
    (expr.as_ref().len() <= LARGEST).then_some(expr)
}

/// Proofs for the outputs of `source`. Outputs whose expression is too large are left out.
pub fn proofs(mut egraph: EGraph, source: &Graph, net: &Net, choice: &Choice) -> Result<Vec<Proof>, Diagnostic> {
    let mut out = vec![];
    let order = crate::extract::reached(net, &choice.way);
    for (port, &root) in source.outputs.iter().zip(&net.roots) {
        let Some(before) = original(source, port.value) else { continue };
        let mut w = Writer { net, choice, expr: RecExpr::default(), done: HashMap::new() };
        if w.write(&order).is_none() {
            continue;
        }
        let Some(&id) = w.done.get(&root) else { continue };
        let after = w.expr[id].clone().build_recexpr(|i| w.expr[i].clone());
        if after.as_ref().len() > LARGEST || before == after {
            continue;
        }
        let (a, b) = (egraph.add_expr(&before), egraph.add_expr(&after));
        egraph.rebuild();
        if egraph.find(a) != egraph.find(b) {
            return Err(Diagnostic::error("E0901", format!("output {:?} has no proof", port.name)));
        }
        let mut why = egraph.explain_equivalence(&before, &after);
        let flat = why.make_flat_explanation();
        let rules =
            flat.iter().filter_map(|t| t.forward_rule.or(t.backward_rule)).map(|r| crate::rules::name_of(r.as_str()).to_string()).collect();
        out.push(Proof { output: port.name.clone(), steps: why.get_flat_strings(), rules });
    }
    Ok(out)
}
