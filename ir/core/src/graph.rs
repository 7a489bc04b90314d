//! Programs as plain data: functions of pure tensor ops in SSA form, and the one way to make them, [`Builder`].
//!
//! The builder infers types, shares equal nodes, folds small constants and refuses what does not fit, so importers, rewrites and
//! `specialise` all get the same behaviour. `ir/mlir` turns a [`Program`] into an MLIR module and back.

use crate::attr::{Attr, Attrs};
use crate::diag::{Diagnostic, Diagnostics, Origin};
use crate::op::{EvalArgs, Fresh, InferArgs, Kind, OpDef, OpError};
use crate::tensor::Tensor;
use crate::types::TensorType;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A value of one graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
#[serde(transparent)]
pub struct ValueId(pub u32);

impl ValueId {
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A row of `OPS`; serialised by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpRef(pub &'static OpDef);

impl std::ops::Deref for OpRef {
    type Target = OpDef;
    fn deref(&self) -> &OpDef {
        self.0
    }
}
impl Serialize for OpRef {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.0.name)
    }
}
impl<'de> Deserialize<'de> for OpRef {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<OpRef, D::Error> {
        let name = String::deserialize(d)?;
        crate::ops::find(&name).map(OpRef).ok_or_else(|| serde::de::Error::custom(format!("no op named {name:?}")))
    }
}

/// One op applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct Node {
    pub op: OpRef,
    pub operands: Vec<ValueId>,
    #[serde(default)]
    pub attrs: Attrs,
    pub results: Vec<ValueId>,
    #[serde(default)]
    pub origin: Arc<Origin>,
}

/// A named port of a function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct Port {
    pub name: String,
    pub value: ValueId,
}

/// A function: inputs, nodes in dependency order, outputs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct Graph {
    /// Function name: `main`, or a kernel, branch or loop body.
    pub name: String,
    pub inputs: Vec<Port>,
    pub nodes: Vec<Node>,
    pub outputs: Vec<Port>,
    /// Type of each value.
    pub types: Vec<TensorType>,
    /// What the function is to later stages: `kernel = "rows"`, …
    #[serde(default)]
    pub attrs: Attrs,
}

impl Graph {
    pub fn ty(&self, v: ValueId) -> &TensorType {
        &self.types[v.index()]
    }
    /// For each value, the index of the node that makes it (`None` for inputs).
    pub fn producers(&self) -> Vec<Option<usize>> {
        let mut p = vec![None; self.types.len()];
        for (i, n) in self.nodes.iter().enumerate() {
            for r in &n.results {
                p[r.index()] = Some(i);
            }
        }
        p
    }
    /// How often each value is used, as an operand or an output.
    pub fn uses(&self) -> Vec<u32> {
        let mut u = vec![0; self.types.len()];
        for v in self.nodes.iter().flat_map(|n| &n.operands).chain(self.outputs.iter().map(|o| &o.value)) {
            u[v.index()] += 1;
        }
        u
    }
    /// Drops nodes whose results nobody uses.
    pub fn remove_dead(&mut self) {
        let mut live = vec![false; self.types.len()];
        for o in &self.outputs {
            live[o.value.index()] = true;
        }
        let mut keep = vec![false; self.nodes.len()];
        for (i, n) in self.nodes.iter().enumerate().rev() {
            if n.results.iter().any(|r| live[r.index()]) {
                keep[i] = true;
                for o in &n.operands {
                    live[o.index()] = true;
                }
            }
        }
        let mut k = keep.into_iter();
        self.nodes.retain(|_| k.next().unwrap_or(false));
    }
}

/// What a module means: functions by name; `main` is the model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct Program {
    pub functions: BTreeMap<String, Graph>,
}

impl Program {
    pub const MAIN: &'static str = "main";
    pub fn new(main: Graph) -> Program {
        Program { functions: BTreeMap::from([(Program::MAIN.to_string(), main)]) }
    }
    /// The model. Panics without one: every constructor and parser of ours puts it there.
    pub fn main(&self) -> &Graph {
        &self.functions[Program::MAIN]
    }
}

/// Constants up to this many elements are folded and kept inline; larger ones stay ops on weights (recipes).
pub const FOLD_ELEMENTS: usize = 1024;

/// Makes a graph node by node.
#[derive(Debug, Default)]
pub struct Builder {
    graph: Graph,
    consts: HashMap<ValueId, Arc<Tensor>>,
    shared: HashMap<(&'static str, Vec<ValueId>, Attrs), Vec<ValueId>>,
    /// Origin given to the nodes that follow.
    origin: Arc<Origin>,
}

impl Builder {
    pub fn new(name: &str) -> Builder {
        Builder { graph: Graph { name: name.into(), ..Graph::default() }, ..Builder::default() }
    }
    /// Sets the origin of the nodes that follow.
    pub fn set_origin(&mut self, origin: Arc<Origin>) {
        self.origin = origin;
    }
    pub fn origin(&self) -> &Arc<Origin> {
        &self.origin
    }
    pub fn graph(&self) -> &Graph {
        &self.graph
    }
    pub fn ty(&self, v: ValueId) -> &TensorType {
        self.graph.ty(v)
    }
    /// The value where it is a small constant.
    pub fn constant_of(&self, v: ValueId) -> Option<&Arc<Tensor>> {
        self.consts.get(&v)
    }
    fn value(&mut self, ty: TensorType) -> ValueId {
        self.graph.types.push(ty);
        ValueId(self.graph.types.len() as u32 - 1)
    }
    pub fn input(&mut self, name: &str, ty: TensorType) -> ValueId {
        let value = self.value(ty);
        self.graph.inputs.push(Port { name: name.into(), value });
        value
    }
    pub fn output(&mut self, name: &str, value: ValueId) {
        self.graph.outputs.push(Port { name: name.into(), value });
    }
    /// A small constant, inline.
    pub fn constant(&mut self, t: Tensor) -> ValueId {
        let t = Arc::new(t);
        let attrs = Attrs::new().with("value", Attr::Tensor(t.clone()));
        let key = ("constant", vec![], attrs.clone());
        if let Some(v) = self.shared.get(&key) {
            return v[0];
        }
        let v = self.value(t.ty());
        self.push_node(crate::ops::CONSTANT, vec![], attrs, vec![v]);
        self.consts.insert(v, t);
        self.shared.insert(key, vec![v]);
        v
    }
    /// A tensor of the weight store, by name.
    pub fn weight(&mut self, name: &str, ty: TensorType) -> ValueId {
        let attrs = Attrs::new().with("name", name);
        let key = ("weight", vec![], attrs.clone());
        if let Some(v) = self.shared.get(&key) {
            return v[0];
        }
        let v = self.value(ty);
        self.push_node(crate::ops::WEIGHT, vec![], attrs, vec![v]);
        self.shared.insert(key, vec![v]);
        v
    }
    fn push_node(&mut self, op: &'static OpDef, operands: Vec<ValueId>, attrs: Attrs, results: Vec<ValueId>) {
        self.graph.nodes.push(Node { op: OpRef(op), operands, attrs, results, origin: self.origin.clone() });
    }
    /// Adds a node and returns its results; shares an equal one, folds small constants, writes ops with shape operands as static
    /// ones where it can.
    pub fn emit(&mut self, op: &'static OpDef, operands: &[ValueId], attrs: Attrs) -> Result<Vec<ValueId>, OpError> {
        check_signature(op, operands.len(), &attrs)?;
        let key = (op.name, operands.to_vec(), attrs);
        let pure = !matches!(op.kind, Kind::Structure);
        if pure && let Some(v) = self.shared.get(&key) {
            return Ok(v.clone());
        }
        let attrs = &key.2;
        let types: Vec<TensorType> = operands.iter().map(|&v| self.ty(v).clone()).collect();
        for (i, t) in types.iter().enumerate() {
            let def = &op.operands[i.min(op.operands.len() - 1)];
            if !def.types.has(t.dtype) {
                return Err(OpError::dtype(format!("{}: operand {} cannot be {}", op.name, def.name, t.dtype))
                    .mark(i, format!("must be {:?}", def.types)));
            }
        }
        if matches!(op.kind, Kind::Opaque)
            && let Some(v) = crate::ops::as_static(self, op.name, operands, attrs)?
        {
            self.shared.insert(key, vec![v]);
            return Ok(vec![v]);
        }
        types.iter().try_for_each(crate::ops::sized)?;
        let consts: Vec<Option<&Tensor>> = operands.iter().map(|v| self.consts.get(v).map(|t| &**t)).collect();
        let fresh = Fresh(&self.graph.name, self.graph.nodes.len());
        let results = (op.infer)(&InferArgs { operands: &types, attrs, consts: &consts, fresh })?;
        results.iter().try_for_each(crate::ops::sized)?;
        if pure && self.foldable(operands, &results) {
            let values: Vec<Tensor> = operands.iter().map(|v| (*self.consts[v]).clone()).collect();
            if let Ok(folded) = (op.eval)(&EvalArgs { operands: &values, attrs }) {
                let ids: Vec<ValueId> = folded.into_iter().map(|t| self.constant(t)).collect();
                self.shared.insert(key, ids.clone());
                return Ok(ids);
            }
        }
        let ids: Vec<ValueId> = results.into_iter().map(|t| self.value(t)).collect();
        self.push_node(op, key.1.clone(), key.2.clone(), ids.clone());
        if pure {
            self.shared.insert(key, ids.clone());
        }
        Ok(ids)
    }
    /// Adds an op whose result types come from a function of the program (call, if): `results` are that function's output types.
    pub fn structure(
        &mut self,
        op: &'static OpDef,
        operands: &[ValueId],
        attrs: Attrs,
        results: Vec<TensorType>,
    ) -> Result<Vec<ValueId>, OpError> {
        check_signature(op, operands.len(), &attrs)?;
        results.iter().try_for_each(crate::ops::sized)?;
        let ids: Vec<ValueId> = results.into_iter().map(|t| self.value(t)).collect();
        self.push_node(op, operands.to_vec(), attrs, ids.clone());
        Ok(ids)
    }
    /// [`Builder::emit`] for ops with one result.
    pub fn emit1(&mut self, op: &'static OpDef, operands: &[ValueId], attrs: Attrs) -> Result<ValueId, OpError> {
        Ok(self.emit(op, operands, attrs)?[0])
    }
    /// [`Builder::emit1`] by op name. Panics on a name that is not in `OPS`: the names are ours.
    pub fn op(&mut self, name: &str, operands: &[ValueId], attrs: Attrs) -> Result<ValueId, OpError> {
        let op = crate::ops::find(name).unwrap_or_else(|| panic!("no op named {name}"));
        self.emit1(op, operands, attrs)
    }
    fn foldable(&self, operands: &[ValueId], results: &[TensorType]) -> bool {
        !operands.is_empty()
            && operands.iter().all(|v| self.consts.contains_key(v))
            // A symbol here is a count that only the values tell (nonzero); it cannot be more than the values themselves.
            && results.iter().all(|t| t.shape.elements().is_none_or(|n| n as usize <= FOLD_ELEMENTS))
    }
    /// The finished graph, without dead nodes.
    pub fn finish(mut self) -> Graph {
        self.graph.remove_dead();
        self.graph
    }
    /// An `OpError` as users read it: operands with their types and where they come from.
    pub fn diagnose(&self, err: OpError, operands: &[ValueId], names: &dyn Fn(ValueId) -> String) -> Diagnostic {
        let mut d = Diagnostic::error(err.code, err.message).at((*self.origin).clone());
        for (i, &v) in operands.iter().enumerate() {
            let mark = err.marks.iter().find(|m| m.0 == i).map(|m| m.1.clone()).unwrap_or_default();
            d = d.label(names(v), self.ty(v).to_string(), mark);
        }
        d.notes.extend(err.notes);
        d
    }
}

/// Largest magnitude of an integer attribute: all of them are axes, extents, places and counts, and no value has more elements. So
/// shape rules may add them up without a thought; products they check.
const LARGEST: u64 = crate::ops::MAX_ELEMENTS;

/// Checks operand count, and attribute names, types and magnitudes against the row.
pub fn check_signature(op: &OpDef, operands: usize, attrs: &Attrs) -> Result<(), OpError> {
    let want = op.operands.len();
    let variadic = op.operands.last().is_some_and(|o| o.variadic);
    if operands < want - usize::from(variadic) || (operands > want && !variadic) {
        return Err(OpError::new("E0902", format!("ml.{} takes {want} operands, got {operands}", op.name)));
    }
    for a in op.attrs {
        let Some(v) = attrs.get(a.name) else {
            return Err(OpError::attr(format!("ml.{} needs attribute {}", op.name, a.name)));
        };
        if v.ty() != a.ty {
            return Err(OpError::attr(format!("ml.{}: attribute {} must be {:?}", op.name, a.name, a.ty)));
        }
        let numbers: &[i64] = match v {
            Attr::Int(n) => std::slice::from_ref(n),
            Attr::Ints(v) => v,
            _ => &[],
        };
        if let Some(n) = numbers.iter().find(|n| n.unsigned_abs() > LARGEST) {
            return Err(OpError::attr(format!("ml.{}: attribute {} holds {n}, beyond {LARGEST}", op.name, a.name)));
        }
    }
    match attrs.0.keys().find(|k| op.attrs.iter().all(|a| a.name != &***k)) {
        Some(k) => Err(OpError::attr(format!("ml.{} has no attribute {k}", op.name))),
        None => Ok(()),
    }
}

/// Replays a graph through a builder with other input types or known inputs: symbols become numbers, shape arithmetic folds.
///
/// `bind` gives for each input the type to use, or a constant. Origins stay. Composites and structure ops are kept as they are.
pub fn replay(graph: &Graph, bind: &mut dyn FnMut(&Port, &TensorType) -> Binding) -> Result<Graph, Diagnostics> {
    let mut b = Builder::new(&graph.name);
    b.graph.attrs = graph.attrs.clone();
    let mut map: HashMap<ValueId, ValueId> = HashMap::new();
    for p in &graph.inputs {
        let v = match bind(p, graph.ty(p.value)) {
            Binding::Type(t) => b.input(&p.name, t),
            Binding::Constant(t) => b.constant(t),
        };
        map.insert(p.value, v);
    }
    for n in &graph.nodes {
        b.set_origin(n.origin.clone());
        let operands: Vec<ValueId> = n.operands.iter().map(|v| map[v]).collect();
        let out = if n.op.name == "weight" {
            vec![b.weight(n.attrs.str("name").unwrap_or_default(), graph.ty(n.results[0]).clone())]
        } else if let ("constant", Some(t)) = (n.op.name, n.attrs.tensor("value")) {
            vec![b.constant((**t).clone())]
        } else if matches!(n.op.kind, Kind::Structure) {
            let types = n.results.iter().map(|&r| graph.ty(r).clone()).collect();
            b.structure(n.op.0, &operands, n.attrs.clone(), types).map_err(|e| b.diagnose(e, &operands, &|v| format!("%{}", v.0)))?
        } else {
            b.emit(n.op.0, &operands, n.attrs.clone()).map_err(|e| b.diagnose(e, &operands, &|v| format!("%{}", v.0)))?
        };
        for (old, new) in n.results.iter().zip(out) {
            map.insert(*old, new);
        }
    }
    for o in &graph.outputs {
        b.output(&o.name, map[&o.value]);
    }
    Ok(b.finish())
}

/// What [`replay`] does with an input.
pub enum Binding {
    /// Keep it, with this type.
    Type(TensorType),
    /// Fix it to this value.
    Constant(Tensor),
}
