//! Groups of ops as kernels: the body of a `Kernel` e-node, how bodies join, and which of them a target can run.
//!
//! A body is a small graph without names, so equal groups are one body wherever they stand in the program: a layer repeated twelve
//! times is judged once. `core::form` is the judge; its verdicts are kept by body.

use crate::cost::{Price, TargetCost};
use crate::language::hash_of;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use tahoma_core::form;
use tahoma_core::graph::OpRef;
use tahoma_core::kernel::{self, KernelSpec, RowStep};
use tahoma_core::op::{Kind, OpDef};
use tahoma_core::types::{Dim, Shape as Shaped};
use tahoma_core::{Attrs, Graph, Node as GraphNode, Origin, Port, TensorType, ValueId};

/// Largest body, in ops other than constants, and most inputs: growth is bounded. A body may have as many more of both as an op in it has
/// operands beyond this many inputs, so that a wide concatenation takes in what makes its parts.
pub const MAX_OPS: usize = 48;
pub const MAX_INPUTS: usize = 12;
/// Most inputs of any body: one buffer of a kernel is its result.
pub(crate) const MOST_INPUTS: usize = form::MAX_BUFFERS - 1;

/// An operand inside a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Arg {
    Input(u32),
    Node(u32),
}

/// An op inside a body.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BodyNode {
    pub op: &'static str,
    pub args: Vec<Arg>,
    pub attrs: Arc<Attrs>,
    pub ty: TensorType,
}

/// Ops that run as one kernel; the last node is the output.
#[derive(Clone, Debug)]
pub struct Body {
    hash: u64,
    pub inputs: Vec<TensorType>,
    pub nodes: Vec<BodyNode>,
}

impl PartialEq for Body {
    fn eq(&self, o: &Body) -> bool {
        self.hash == o.hash && self.inputs == o.inputs && self.nodes == o.nodes
    }
}
impl Eq for Body {}
impl PartialOrd for Body {
    fn partial_cmp(&self, o: &Body) -> Option<Ordering> {
        Some(self.cmp(o))
    }
}
impl Ord for Body {
    fn cmp(&self, o: &Body) -> Ordering {
        (self.hash, &self.inputs, &self.nodes).cmp(&(o.hash, &o.inputs, &o.nodes))
    }
}
impl Hash for Body {
    fn hash<H: Hasher>(&self, h: &mut H) {
        self.hash.hash(h)
    }
}

impl Body {
    pub fn new(inputs: Vec<TensorType>, nodes: Vec<BodyNode>) -> Body {
        Body { hash: hash_of(&(&inputs, &nodes)), inputs, nodes }
    }
    /// Type of the output. Panics on a body without nodes: none is ever made.
    pub fn ty(&self) -> &TensorType {
        &self.nodes.last().expect("a body has nodes").ty
    }
    /// `matmul add relu`.
    pub fn summary(&self) -> String {
        self.nodes.iter().map(|n| n.op).filter(|o| *o != "constant").collect::<Vec<_>>().join(" ")
    }
    /// The body as a function; `origins` has one entry per node (or none).
    pub fn graph(&self, name: &str, origins: &[Arc<Origin>]) -> Graph {
        let mut types = self.inputs.clone();
        let at = |a: &Arg| match a {
            Arg::Input(i) => ValueId(*i),
            Arg::Node(i) => ValueId(self.inputs.len() as u32 + i),
        };
        let mut nodes = vec![];
        for (i, n) in self.nodes.iter().enumerate() {
            let op = tahoma_core::ops::find(n.op).expect("bodies hold ops of the table");
            types.push(n.ty.clone());
            nodes.push(GraphNode {
                op: OpRef(op),
                operands: n.args.iter().map(at).collect(),
                attrs: (*n.attrs).clone(),
                results: vec![at(&Arg::Node(i as u32))],
                origin: origins.get(i).cloned().unwrap_or_default(),
            });
        }
        let inputs = (0..self.inputs.len()).map(|i| Port { name: format!("x{i}"), value: ValueId(i as u32) }).collect();
        let outputs = vec![Port { name: "y".into(), value: ValueId(types.len() as u32 - 1) }];
        Graph { name: name.into(), inputs, nodes, outputs, types, attrs: Attrs::new() }
    }
}

/// What a kernel is to its neighbours: decides what is worth trying to join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Moves alone: folds into the reads of any consumer.
    Move,
    Map,
    /// Reduces along rows.
    Rows,
    Contract,
    /// Rows over a contraction (scores and their softmax): no kernel by itself, but the first operand of one.
    Scores,
}

/// A body that is a kernel, or the part of one that only a contraction completes.
#[derive(Clone, Debug)]
pub struct Formed {
    pub shape: Shape,
    /// For such a part, with a narrow matrix after it.
    pub ns: f64,
    pub spec: Arc<KernelSpec>,
}

/// Judges bodies: `form`, then the target. Each body once.
pub struct Former<'a> {
    target: &'a dyn TargetCost,
    verdicts: HashMap<Arc<Body>, Verdict>,
    pub tried: usize,
    pub refused: usize,
    /// E-nodes for which not all groups were tried, since there were too many.
    pub limited: usize,
}

impl<'a> Former<'a> {
    pub fn new(target: &'a dyn TargetCost) -> Former<'a> {
        Former { target, verdicts: HashMap::new(), tried: 0, refused: 0, limited: 0 }
    }
    /// What becomes of a body, which is of no use where it takes more than `most_ns`.
    pub fn form(&mut self, body: &Arc<Body>, most_ns: f64) -> Verdict {
        let spec = match self.verdicts.get(body) {
            Some(Verdict::Over(most, spec)) if *most < most_ns => Some(spec.clone()),
            Some(v) => return v.clone(),
            None => None,
        };
        self.tried += usize::from(spec.is_none());
        let graph = body.graph("k", &[]);
        let spec = spec.or_else(|| form::form(&graph, "k").ok().map(Arc::new));
        let boundary = self.target.boundary_ns();
        let price = spec.as_ref().map_or(Price::Never, |s| self.target.kernel_within(s, most_ns - boundary));
        let verdict = match (price, spec) {
            (Price::Ns(ns), Some(spec)) if ns.is_finite() => {
                Verdict::Kernel(Formed { shape: shape_of(body, &spec), ns: ns + boundary, spec })
            }
            (Price::Over, Some(spec)) => Verdict::Over(most_ns, spec),
            _ => scores(graph, self.target).map_or(Verdict::Never, Verdict::Kernel),
        };
        self.refused += usize::from(matches!(verdict, Verdict::Never));
        self.verdicts.insert(body.clone(), verdict.clone());
        verdict
    }
}

/// What becomes of a body.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// A kernel, or a part of one.
    Kernel(Formed),
    /// A kernel that takes longer than this, and what it computes.
    Over(f64, Arc<KernelSpec>),
    /// Nothing that the target runs.
    Never,
}

/// Width of the matrix that a part is tried before.
const PROBE: u64 = 16;

/// Whether rows over a contraction can stand before another: tried with a matrix of no matter what width.
fn scores(mut g: Graph, target: &dyn TargetCost) -> Option<Formed> {
    // What reduces: activations, the composites without attributes, do not.
    let reduces = |n: &GraphNode| match n.op.kind {
        Kind::Reduce(_) => true,
        Kind::Composite(_) => !n.op.attrs.is_empty(),
        _ => false,
    };
    if !g.nodes.iter().any(|n| matches!(n.op.kind, Kind::Contract(_))) || !g.nodes.iter().any(reduces) {
        return None;
    }
    let out = g.outputs.first()?.value;
    let ty = g.ty(out).clone();
    let k = ty.shape.0.last()?.clone();
    let mut dims = ty.shape.0.clone();
    *dims.last_mut()? = Dim::Known(PROBE);
    let (w, y) = (ValueId(g.types.len() as u32), ValueId(g.types.len() as u32 + 1));
    g.types.push(TensorType::new(ty.dtype, Shaped(vec![k, Dim::Known(PROBE)])));
    g.types.push(TensorType::new(ty.dtype, Shaped(dims)));
    g.inputs.push(Port { name: "w".into(), value: w });
    let op = OpRef(tahoma_core::ops::find("matmul")?);
    g.nodes.push(GraphNode { op, operands: vec![out, w], attrs: Attrs::new(), results: vec![y], origin: Arc::default() });
    g.outputs[0].value = y;
    let spec = form::form(&g, "k").ok()?;
    match &spec.body {
        kernel::Body::Contract(c) if c.a.product.is_some() && c.a.reduces() => {
            let ns = target.launched_ns(&spec).filter(|ns| ns.is_finite())?;
            Some(Formed { shape: Shape::Scores, ns, spec: Arc::new(spec) })
        }
        _ => None,
    }
}

fn shape_of(body: &Body, spec: &KernelSpec) -> Shape {
    match &spec.body {
        kernel::Body::Contract(_) => Shape::Contract,
        kernel::Body::Rows(r) if r.steps.iter().any(|s| matches!(s, RowStep::Reduce { .. })) => Shape::Rows,
        _ => {
            let still =
                |n: &BodyNode| tahoma_core::ops::find(n.op).is_some_and(|o| matches!(o.kind, Kind::Move(_)) || o.name == "constant");
            if body.nodes.iter().all(still) { Shape::Move } else { Shape::Map }
        }
    }
}

/// Whether an op can be in a kernel at all.
pub fn joins(op: &OpDef) -> bool {
    matches!(op.kind, Kind::Elementwise(_) | Kind::Reduce(_) | Kind::Window(_) | Kind::Contract(_) | Kind::Move(_) | Kind::Composite(_))
}

/// Where a body's node comes from: a class of the choice net and an e-node of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub class: u32,
    pub node: u32,
}

/// A kernel that could make a class.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub body: Arc<Body>,
    /// Classes of the inputs.
    pub inputs: Vec<u32>,
    /// One per node of the body.
    pub sources: Vec<Source>,
    pub formed: Formed,
}

/// An operand of the head of a new body.
#[derive(Clone, Copy)]
pub enum Pick<'a> {
    /// Stays outside: an argument of the kernel.
    Leaf(u32, &'a TensorType),
    /// A uniform constant, written into the body.
    Constant(&'a Arc<Attrs>, &'a TensorType, Source),
    /// Taken in with everything it consists of.
    Absorb(&'a Candidate),
}

/// Puts bodies together, sharing equal nodes and equal inputs.
#[derive(Default)]
pub struct Maker {
    inputs: Vec<TensorType>,
    classes: Vec<u32>,
    nodes: Vec<BodyNode>,
    sources: Vec<Source>,
}

impl Maker {
    fn input(&mut self, class: u32, ty: &TensorType) -> Arg {
        // A value the body makes anyway is not an argument too.
        if let Some(i) = self.sources.iter().position(|s| s.class == class) {
            return Arg::Node(i as u32);
        }
        let i = self.classes.iter().position(|&c| c == class).unwrap_or_else(|| {
            self.classes.push(class);
            self.inputs.push(ty.clone());
            self.classes.len() - 1
        });
        Arg::Input(i as u32)
    }
    fn node(&mut self, n: BodyNode, source: Source) -> Arg {
        let i = self.nodes.iter().position(|m| *m == n).unwrap_or_else(|| {
            self.nodes.push(n);
            self.sources.push(source);
            self.nodes.len() - 1
        });
        Arg::Node(i as u32)
    }
    fn absorb(&mut self, c: &Candidate) -> Arg {
        let inputs: Vec<Arg> = c.inputs.iter().zip(&c.body.inputs).map(|(&k, t)| self.input(k, t)).collect();
        let mut made: Vec<Arg> = vec![];
        for (n, &s) in c.body.nodes.iter().zip(&c.sources) {
            let args = n.args.iter().map(|a| match a {
                Arg::Input(i) => inputs[*i as usize],
                Arg::Node(i) => made[*i as usize],
            });
            let n = BodyNode { args: args.collect(), ..n.clone() };
            made.push(self.node(n, s));
        }
        *made.last().expect("a body has nodes")
    }
    /// The body with `head` on top of its picked operands, and its input classes. `None` when it would be too large.
    pub fn make(
        op: &'static str,
        attrs: &Arc<Attrs>,
        ty: &TensorType,
        source: Source,
        picks: &[Pick],
    ) -> Option<(Arc<Body>, Vec<u32>, Vec<Source>)> {
        let mut m = Maker::default();
        let mut args = vec![None; picks.len()];
        for (a, p) in args.iter_mut().zip(picks) {
            if let Pick::Absorb(c) = p {
                *a = Some(m.absorb(c));
            }
        }
        for (a, p) in args.iter_mut().zip(picks) {
            match p {
                Pick::Leaf(class, ty) => *a = Some(m.input(*class, ty)),
                Pick::Constant(attrs, ty, s) => {
                    let n = BodyNode { op: "constant", args: vec![], attrs: (*attrs).clone(), ty: (*ty).clone() };
                    *a = Some(m.node(n, *s));
                }
                Pick::Absorb(_) => {}
            }
        }
        let args: Option<Vec<Arg>> = args.into_iter().collect();
        let head = BodyNode { op, args: args?, attrs: attrs.clone(), ty: ty.clone() };
        let Arg::Node(last) = m.node(head, source) else { return None };
        // The head equals a node inside: nothing was gained.
        if last as usize + 1 != m.nodes.len() {
            return None;
        }
        let ops = m.nodes.iter().filter(|n| n.op != "constant").count();
        let wide = m.nodes.iter().map(|n| n.args.len()).max().unwrap_or(0).saturating_sub(MAX_INPUTS);
        if ops > MAX_OPS + 2 * wide || m.inputs.len() > (MAX_INPUTS + wide).min(MOST_INPUTS) {
            return None;
        }
        m.drop_unused_inputs();
        Some((Arc::new(Body::new(m.inputs, m.nodes)), m.classes, m.sources))
    }
    /// Inputs whose only reader was replaced by a node of the body.
    fn drop_unused_inputs(&mut self) {
        let mut used = vec![false; self.inputs.len()];
        for a in self.nodes.iter().flat_map(|n| &n.args) {
            if let Arg::Input(i) = a {
                used[*i as usize] = true;
            }
        }
        if used.iter().all(|u| *u) {
            return;
        }
        let mut next = 0;
        let to: Vec<u32> = used
            .iter()
            .map(|&u| {
                next += u32::from(u);
                next.wrapping_sub(1)
            })
            .collect();
        for a in self.nodes.iter_mut().flat_map(|n| &mut n.args) {
            if let Arg::Input(i) = a {
                *i = to[*i as usize];
            }
        }
        let mut keep = used.iter();
        self.inputs.retain(|_| *keep.next().unwrap_or(&true));
        let mut keep = used.iter();
        self.classes.retain(|_| *keep.next().unwrap_or(&true));
    }
}
