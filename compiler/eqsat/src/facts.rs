//! What the e-graph knows of each class: its type, its value where it is a small constant, whether it depends on weights alone, and
//! what is known of its elements.
//!
//! Types come from `OpDef.infer`. A rule that joins two types is a fault of ours: the union is refused and told (E0301).

use crate::language::{AttrLeaf, Node, OpId, attrs_from};
use crate::span::{self, Span};
use crate::values::{self, Known};
use egg::{Analysis, DidMerge, Id};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tahoma_core::graph::FOLD_ELEMENTS;
use tahoma_core::op::{EvalArgs, Fresh, InferArgs, Kind};
use tahoma_core::{Attr, Attrs, Diagnostic, Origin, Tensor, TensorType};

pub type EGraph = egg::EGraph<Node, Facts>;

/// A tensor-valued class.
#[derive(Clone, Debug)]
pub struct Value {
    pub ty: TensorType,
    /// The value, where it is known and has at most [`FOLD_ELEMENTS`] elements.
    pub constant: Option<Arc<Tensor>>,
    /// Made of weights and constants alone: computed once, when the artifact is loaded.
    pub fixed: bool,
    pub known: Known,
}

impl Value {
    fn new(ty: TensorType, fixed: bool) -> Value {
        let known = Known::of_type(ty.dtype, fixed);
        Value { ty, constant: None, fixed, known }
    }
}

#[derive(Clone, Debug)]
pub enum Fact {
    Value(Value),
    /// A node with several results.
    Many(Vec<TensorType>),
    Attr(AttrLeaf),
    /// Does not type; never joined with anything.
    Ill(Arc<str>),
}

impl Fact {
    pub fn value(&self) -> Option<&Value> {
        match self {
            Fact::Value(v) => Some(v),
            _ => None,
        }
    }
    pub fn attr(&self) -> Option<&Attr> {
        match self {
            Fact::Attr(a) => Some(a.get()),
            _ => None,
        }
    }
}

/// Where an e-node comes from.
#[derive(Clone, Debug)]
pub struct Made {
    /// `None`: the source program.
    pub rule: Option<&'static str>,
    pub origin: Arc<Origin>,
}

/// The analysis: no state but what the report needs.
#[derive(Default)]
pub struct Facts {
    /// Faults of rules (E0301), each once.
    pub faults: Vec<Diagnostic>,
    /// The rule at work, for messages.
    pub rule: &'static str,
    /// Who made each e-node first; keys are canonical when they are written.
    pub made: HashMap<Node, Made>,
    /// Where weights lie that are not as weights of networks are ([`span::extraordinary`]), by name.
    pub weights: Arc<BTreeMap<String, Span>>,
    /// The source program is being added: its values are where its types are at home.
    pub of_source: bool,
}

impl Facts {
    /// Of a program with these weights.
    pub fn with_weights(weights: Arc<BTreeMap<String, Span>>) -> Facts {
        Facts { weights, ..Facts::default() }
    }
    /// Remembers who made `node`; equal nodes of the source fuse their origins.
    pub fn record(&mut self, node: Node, made: Made) {
        use std::collections::hash_map::Entry;
        match self.made.entry(node) {
            Entry::Vacant(e) => {
                e.insert(made);
            }
            Entry::Occupied(mut e) if made.rule.is_none() && e.get().rule.is_none() => {
                let both = [e.get().origin.clone(), made.origin];
                e.get_mut().origin = Arc::new(Origin::fuse("share", both));
            }
            Entry::Occupied(_) => {}
        }
    }
    /// A rule that would join unequal types.
    pub fn fault(&mut self, a: &TensorType, b: &TensorType) {
        let d = Diagnostic::error("E0301", format!("rule {} would join {a} with {b}", self.rule));
        if !self.faults.contains(&d) {
            self.faults.push(d);
        }
    }
    /// Keys again canonical, after unions.
    pub fn canonical_made(egraph: &EGraph) -> HashMap<Node, Made> {
        let mut all: Vec<(Node, Made)> = vec![];
        for class in egraph.classes() {
            for n in &class.nodes {
                if let Some(m) = egraph.analysis.made.get(n) {
                    all.push((n.clone(), m.clone()));
                }
            }
        }
        let mut out: HashMap<Node, Made> = all.into_iter().collect();
        // Keys whose children were joined since; the source program's entry wins.
        let mut stale: Vec<(Node, &Made)> = egraph
            .analysis
            .made
            .iter()
            .filter(|(n, _)| !out.contains_key(*n))
            .map(|(n, m)| (egg::Language::map_children(n.clone(), |c| egraph.find(c)), m))
            .collect();
        stale.sort_by(|a, b| (a.1.rule, &a.1.origin, &a.0).cmp(&(b.1.rule, &b.1.origin, &b.0)));
        for (n, m) in stale {
            out.entry(n).or_insert_with(|| m.clone());
        }
        out
    }
}

/// Operand facts of an op node.
fn operands<'a>(g: &'a EGraph, n: &Node) -> Result<Vec<&'a Value>, Arc<str>> {
    n.operands()
        .iter()
        .map(|&i| match &g[i].data {
            Fact::Value(v) => Ok(v),
            Fact::Ill(why) => Err(why.clone()),
            _ => Err("an operand is no tensor".into()),
        })
        .collect()
}

/// Attributes of an op node.
pub fn attrs(g: &EGraph, n: &Node) -> Option<Attrs> {
    let Node::Op(op, _) = n else { return None };
    let leaves: Option<Vec<&Attr>> = n.attr_ids().iter().map(|&i| g[i].data.attr()).collect();
    Some(attrs_from(op.def(), leaves?))
}

fn infer(g: &EGraph, op: OpId, n: &Node) -> Result<Fact, Arc<str>> {
    let args = operands(g, n)?;
    let attrs = attrs(g, n).ok_or("an attribute is no attribute")?;
    let square = matches!(n.operands(), [a, b] if g.find(*a) == g.find(*b));
    let mut fact = infer_from(op, &args, square, &attrs)?;
    // Constants and weights may be anything: they are known.
    if let Fact::Value(v) = &mut fact
        && g.analysis.of_source
        && !v.fixed
    {
        v.known.span = v.known.span.meet(span::home(v.ty.dtype));
    }
    Ok(fact)
}

/// What an op makes of such operands; `square`: of one operand twice.
pub fn infer_from(op: OpId, args: &[&Value], square: bool, attrs: &Attrs) -> Result<Fact, Arc<str>> {
    let def = op.def();
    tahoma_core::graph::check_signature(def, args.len(), attrs).map_err(|e| e.message)?;
    let types: Vec<TensorType> = args.iter().map(|v| v.ty.clone()).collect();
    for (i, t) in types.iter().enumerate() {
        let d = &def.operands[i.min(def.operands.len() - 1)];
        if !d.types.has(t.dtype) {
            return Err(format!("{}: operand {} cannot be {}", def.name, d.name, t.dtype).into());
        }
    }
    let consts: Vec<Option<&Tensor>> = args.iter().map(|v| v.constant.as_deref()).collect();
    let results = (def.infer)(&InferArgs { operands: &types, attrs, consts: &consts, fresh: Fresh("?", 0) }).map_err(|e| e.message)?;
    let [ty] = results.as_slice() else { return Ok(Fact::Many(results)) };
    if !ty.shape.is_static() {
        return Err(format!("{}: the result's shape depends on data", def.name).into());
    }
    let mut value = Value::new(ty.clone(), args.iter().all(|v| v.fixed));
    value.known = values::of(def, args, square, attrs, ty);
    if def.name == "constant" {
        value.known = attrs.tensor("value").map_or(Known::default(), |t| values::of_constant(t));
        value.constant = attrs.tensor("value").filter(|t| t.len() <= FOLD_ELEMENTS).cloned();
    } else if !args.is_empty() && ty.shape.elements().is_some_and(|n| n as usize <= FOLD_ELEMENTS) {
        let values: Option<Vec<Tensor>> = args.iter().map(|v| v.constant.as_deref().cloned()).collect();
        if let Some(values) = values
            && let Ok(r) = (def.eval)(&EvalArgs { operands: &values, attrs })
            && let [t] = r.as_slice()
        {
            value.constant = Some(Arc::new(t.clone()));
            // What underflows to 0 is not 0 to those that ask whether it does.
            let made = Span::of(t.to_f64s());
            if !made.is_zero() {
                value.known.span.most = value.known.span.most.min(made.most);
            }
        }
    }
    Ok(Fact::Value(value))
}

impl Analysis<Node> for Facts {
    type Data = Fact;

    fn make(g: &mut EGraph, n: &Node, _: Id) -> Fact {
        match n {
            Node::Attr(a) => Fact::Attr(a.clone()),
            Node::Leaf(l) => {
                let mut v = Value::new(l.ty.clone(), l.weight);
                if let Some(span) = g.analysis.weights.get(&*l.name).filter(|_| l.weight) {
                    v.known.span = *span;
                }
                Fact::Value(v)
            }
            Node::Opaque(o, _) => match o.types.as_slice() {
                [ty] => Fact::Value(Value::new(ty.clone(), false)),
                many => Fact::Many(many.to_vec()),
            },
            Node::Result(i, [of]) => match &g[*of].data {
                Fact::Many(t) if (*i as usize) < t.len() => Fact::Value(Value::new(t[*i as usize].clone(), false)),
                _ => Fact::Ill("no such result".into()),
            },
            // Stands for what is there already, and adds nothing to what is known of it.
            Node::Kernel(b, _) => {
                let known = Known { rounded: true, ..Known::default() };
                Fact::Value(Value { ty: b.ty().clone(), constant: None, fixed: false, known })
            }
            Node::Op(op, _) if matches!(op.def().kind, Kind::Structure) => Fact::Ill("structure ops are opaque".into()),
            Node::Op(op, _) => infer(g, *op, n).unwrap_or_else(Fact::Ill),
        }
    }

    fn merge(&mut self, a: &mut Fact, b: Fact) -> DidMerge {
        match (&mut *a, b) {
            (Fact::Value(x), Fact::Value(y)) => {
                if x.ty != y.ty {
                    let (p, q) = (x.ty.clone(), y.ty.clone());
                    self.fault(&p, &q);
                }
                let (had, has) = (x.constant.is_some(), y.constant.is_some());
                let (fixed, known) = (x.fixed || y.fixed, x.known.both(y.known));
                let did =
                    DidMerge((!had && has) || fixed != x.fixed || known != x.known, (had && !has) || fixed != y.fixed || known != y.known);
                if !had {
                    x.constant = y.constant;
                }
                (x.fixed, x.known) = (fixed, known);
                did
            }
            (Fact::Ill(_), b @ Fact::Value(_)) => {
                *a = b;
                DidMerge(true, false)
            }
            (Fact::Value(_), Fact::Ill(_)) => DidMerge(false, true),
            _ => DidMerge(false, false),
        }
    }

    fn modify(g: &mut EGraph, id: Id) {
        let Fact::Value(Value { constant: Some(t), .. }) = &g[id].data else { return };
        let constant = OpId::of(tahoma_core::ops::CONSTANT);
        if g[id].nodes.iter().any(|n| matches!(n, Node::Op(o, _) if *o == constant)) {
            return;
        }
        let leaf = Node::Attr(AttrLeaf::new(Attr::Tensor(t.clone())));
        let origin = g[id].nodes.first().and_then(|n| g.analysis.made.get(n)).map(|m| m.origin.clone()).unwrap_or_default();
        let attr = g.add(leaf);
        let node = Node::Op(constant, [attr].into());
        let new = g.add(node.clone());
        g.analysis.record(node, Made { rule: Some("fold"), origin });
        g.union_trusted(id, new, "fold");
    }
}
