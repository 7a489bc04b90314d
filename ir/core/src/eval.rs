//! Runs a [`Program`] by its meaning: each node by `OpDef::eval`, buffers dropped at their last use. The judge of everything else.

use crate::diag::{Diagnostic, Origin};
use crate::graph::{Graph, Node, Program};
use crate::op::{EvalArgs, Kind, OpError};
use crate::tensor::Tensor;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Where `ml.weight` values come from.
pub trait Weights: Sync {
    /// The tensor of that name. Errors: missing, or its bytes cannot be read.
    fn get(&self, name: &str) -> Result<Tensor, Diagnostic>;
}

/// No weights at all.
pub struct NoWeights;

impl Weights for NoWeights {
    fn get(&self, name: &str) -> Result<Tensor, Diagnostic> {
        Err(Diagnostic::error("E0210", format!("no weight store, so no tensor {name:?}")))
    }
}

/// Weights that are read once and kept, for runs that follow each other.
pub struct Kept<'a> {
    from: &'a dyn Weights,
    have: Mutex<HashMap<String, Tensor>>,
}

impl<'a> Kept<'a> {
    pub fn new(from: &'a dyn Weights) -> Kept<'a> {
        Kept { from, have: Mutex::default() }
    }
}

impl Weights for Kept<'_> {
    fn get(&self, name: &str) -> Result<Tensor, Diagnostic> {
        let mut have = self.have.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(t) = have.get(name) {
            return Ok(t.clone());
        }
        let t = self.from.get(name)?;
        have.insert(name.into(), t.clone());
        Ok(t)
    }
}

/// Sees a run node by node: to trace, to compare stages, or to change values on the way (what would another rounding have given?).
/// A closure that takes the graph, the node and its results only looks.
pub trait Observe {
    /// Before a node, with its operands.
    fn before(&mut self, _graph: &Graph, _node: &Node, _operands: &mut [Tensor]) {}
    /// After a node, with its results.
    fn after(&mut self, graph: &Graph, node: &Node, results: &mut [Tensor]);
}

impl<F: FnMut(&Graph, &Node, &[Tensor])> Observe for F {
    fn after(&mut self, graph: &Graph, node: &Node, results: &mut [Tensor]) {
        self(graph, node, results);
    }
}

/// What a run shows its nodes to.
pub type Watch<'a> = &'a mut dyn Observe;

/// Runs `function` of `program` on `inputs`, in order. Errors carry the origin of the node that failed.
pub fn run(program: &Program, function: &str, inputs: &[Tensor], weights: &dyn Weights) -> Result<Vec<Tensor>, Diagnostic> {
    crate::threads::start();
    // On a worker thread from the start: otherwise each parallel op would hand over to one and wait.
    rayon::scope(|_| run_watched(program, function, inputs.to_vec(), weights, &mut |_: &Graph, _: &Node, _: &[Tensor]| {}))
}

/// [`run`], showing every result to `watch`.
pub fn run_watched(
    program: &Program,
    function: &str,
    inputs: Vec<Tensor>,
    weights: &dyn Weights,
    watch: Watch,
) -> Result<Vec<Tensor>, Diagnostic> {
    let g = program.functions.get(function).ok_or_else(|| Diagnostic::error("E0902", format!("no function @{function}")))?;
    if inputs.len() != g.inputs.len() {
        return Err(Diagnostic::error("E0601", format!("@{function} takes {} inputs, got {}", g.inputs.len(), inputs.len())));
    }
    let mut left = g.uses();
    let mut env: Vec<Option<Tensor>> = vec![None; g.types.len()];
    for (p, t) in g.inputs.iter().zip(inputs) {
        env[p.value.index()] = Some(t);
    }
    for n in &g.nodes {
        let mut operands = Vec::with_capacity(n.operands.len());
        for v in &n.operands {
            left[v.index()] -= 1;
            let slot = &mut env[v.index()];
            let t = if left[v.index()] == 0 { slot.take() } else { slot.clone() };
            operands
                .push(t.ok_or_else(|| Diagnostic::error("E0902", format!("%{} is used before it is made", v.0)).at((*n.origin).clone()))?);
        }
        watch.before(g, n, &mut operands);
        let mut results = match (n.op.name, &n.op.kind) {
            ("weight", _) => vec![weights.get(n.attrs.str("name").unwrap_or_default())?],
            (_, Kind::Structure) => crate::ops::structure::eval(program, n, operands, weights, watch)?,
            _ => {
                let types: Vec<_> = operands.iter().map(Tensor::ty).collect();
                apply(n, operands).map_err(|e| to_diagnostic(e, &n.origin, &types.iter().map(|t| t.to_string()).collect::<Vec<_>>()))?
            }
        };
        if results.len() != n.results.len() {
            return Err(Diagnostic::error("E0901", format!("ml.{} gave {} results", n.op.name, results.len())).at((*n.origin).clone()));
        }
        watch.after(g, n, &mut results);
        for (v, t) in n.results.iter().zip(results) {
            if left[v.index()] > 0 {
                env[v.index()] = Some(t);
            }
        }
    }
    g.outputs
        .iter()
        .map(|o| env[o.value.index()].clone().ok_or_else(|| Diagnostic::error("E0902", format!("output {:?} is never made", o.name))))
        .collect()
}

fn apply(n: &Node, operands: Vec<Tensor>) -> Result<Vec<Tensor>, OpError> {
    (n.op.eval)(&EvalArgs { operands: &operands, attrs: &n.attrs })
}

fn to_diagnostic(e: OpError, origin: &Origin, types: &[String]) -> Diagnostic {
    let mut d = Diagnostic::error(e.code, e.message).at(origin.clone());
    for (i, t) in types.iter().enumerate() {
        let mark = e.marks.iter().find(|m| m.0 == i).map(|m| Cow::Borrowed(&*m.1)).unwrap_or_default();
        d = d.label(format!("operand {i}"), t, mark);
    }
    d.notes.extend(e.notes);
    d
}
