//! Kernel formation: a small graph of ml ops becomes one [`KernelSpec`], or the reason why it cannot.
//!
//! The graph is read backwards from its output. A value is asked for *at an index*: one linear form of the loop variables per
//! axis. Moves only change the forms (a transpose permutes them, a slice scales and shifts, a pad guards), so they cost nothing:
//!
//! ```text
//! out[i, j] = relu(transpose(x)[i, j])      x is read at (j, i): strides [1, 4]
//! ```
//!
//! A reshape that splits an axis splits the loop over it. Reductions take the loops of the axes they remove as the row; a matmul
//! or convolution takes its summed axes as `k`. What stays non-linear, or mixes two row shapes, is refused and materialised.

mod index;
mod pieces;
mod rows;

use crate::attr::Attrs;
use crate::float::Float;
use crate::graph::{Builder, Graph, Node, ValueId};
use crate::kernel::*;
use crate::op::{Contract, Kind, Monoid, Move, OpError, Scalar};
use crate::scalar::{Binary, Expr, Step};
use crate::types::DType;
use index::{Lin, Split, decompose};
use pieces::{Cuts, Piece};
use std::collections::HashMap;

/// Why a group of ops is no kernel. Fusion then leaves it apart; a single op runs on the host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FormError(pub String);

fn no<T>(why: impl Into<String>) -> Result<T, FormError> {
    Err(FormError(why.into()))
}

/// Most axes splits tried before a reshape is refused.
const SPLITS: usize = 8;
/// Most buffers of one kernel: their addresses fit into half of the 4096 bytes of parameters that every Nvidia GPU takes.
pub const MAX_BUFFERS: usize = 256;

/// Most points of a kernel's loops, 2^48: a day on the fastest GPU. Below it no count of points, operations or bytes overflows.
const MOST_POINTS: u64 = 1 << 48;

/// The kernel that computes `graph`'s outputs from its inputs. All types must be static; constants must be uniform.
pub fn form(graph: &Graph, name: &str) -> Result<KernelSpec, FormError> {
    let buffers = graph.inputs.len() + graph.outputs.len();
    if buffers > MAX_BUFFERS {
        return no(format!("{buffers} buffers where {MAX_BUFFERS} are the most for one kernel"));
    }
    let expanded = if is_written_out(graph) { None } else { Some(expand(graph)?) };
    let graph = expanded.as_ref().unwrap_or(graph);
    let mut cuts = Cuts::new(graph)?;
    for _ in 0..3 * SPLITS {
        let failed = match Former::new(graph, &cuts)?.run(name) {
            Ok(spec) if spec.points() > MOST_POINTS => return no(format!("{} points are more than any machine runs", spec.points())),
            Ok(spec) => return Ok(spec),
            Err(Stop::No(e)) => Some(e),
            Err(Stop::Pieces(axis, extent)) => {
                cuts.tile[axis] = extent;
                cuts.splits.remove(&Axis::Out(axis));
                cuts.in_pieces = true;
                None
            }
            Err(Stop::Split(axis, parts)) => {
                let again = cuts.splits.insert(axis, parts.clone()).is_some_and(|old| old == parts);
                again.then(|| FormError("a reshape does not divide the loops".into()))
            }
        };
        match failed {
            // What has no kernel in pieces may have one as a whole.
            Some(_) if cuts.in_pieces => cuts = Cuts { may_cut: false, ..Cuts::new(graph)? },
            Some(e) => return Err(e),
            None => {}
        }
    }
    no("too many reshapes")
}

/// Whether there is nothing to rewrite in a graph.
fn is_written_out(graph: &Graph) -> bool {
    let as_it_is = |n: &Node| n.op.name != "weight" && !matches!(n.op.kind, Kind::Composite(_) | Kind::Opaque | Kind::Structure);
    graph.nodes.iter().all(as_it_is)
}

/// Rewrites composites into the ops that define them.
pub fn expand(graph: &Graph) -> Result<Graph, FormError> {
    if is_written_out(graph) {
        return Ok(graph.clone());
    }
    let mut b = Builder::new(&graph.name);
    let mut map: HashMap<ValueId, ValueId> = HashMap::new();
    for p in &graph.inputs {
        let v = b.input(&p.name, graph.ty(p.value).clone());
        map.insert(p.value, v);
    }
    for n in &graph.nodes {
        b.set_origin(n.origin.clone());
        let operands: Vec<ValueId> = n.operands.iter().map(|v| map[v]).collect();
        let out = match (n.op.name, &n.op.kind) {
            ("constant", _) => vec![b.constant((**n.attrs.tensor("value").ok_or_else(|| FormError("constant".into()))?).clone())],
            ("weight", _) => return no("weights are kernel arguments"),
            (_, Kind::Composite(f)) => expand_one(&mut b, *f, &operands, &n.attrs).map_err(|e| FormError(e.message))?,
            (_, Kind::Structure) => return no(format!("{} is not a tensor op", n.op.name)),
            _ => b.emit(n.op.0, &operands, n.attrs.clone()).map_err(|e| FormError(e.message))?,
        };
        map.extend(n.results.iter().copied().zip(out));
    }
    for o in &graph.outputs {
        b.output(&o.name, map[&o.value]);
    }
    let out = b.finish();
    // A composite may be defined by composites.
    if out.nodes.iter().any(|n| matches!(n.op.kind, Kind::Composite(_))) { expand(&out) } else { Ok(out) }
}

fn expand_one(b: &mut Builder, f: crate::op::Expand, operands: &[ValueId], attrs: &Attrs) -> Result<Vec<ValueId>, OpError> {
    f(b, operands, attrs)
}

/// A loop axis before splitting: of the output, of the row, or summed by the contraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Axis {
    Out(usize),
    Inner(usize),
    /// Summed by the product that an operand's row is made of.
    Deep(usize),
}

enum Stop {
    No(FormError),
    /// Split this axis into these extents and start again.
    Split(Axis, Vec<u64>),
    /// Write the outputs in pieces of this extent along an axis and start again.
    Pieces(usize, u64),
}

impl From<FormError> for Stop {
    fn from(e: FormError) -> Stop {
        Stop::No(e)
    }
}

fn stop<T>(why: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::No(FormError(why.into())))
}

/// A loop variable: which axis it is (part of) and its extent.
#[derive(Clone, Debug)]
pub(crate) struct Var {
    axis: Axis,
    extent: u64,
}

/// A value of the scalar dataflow graph under construction.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Point {
    Load(usize),
    Const(Float),
    Op(Scalar, Vec<usize>),
    Reduce(Monoid, usize),
    /// The i-th sum of the contraction; in an operand's row, its product.
    Sum(usize),
}

/// Padding on the way to a load: where the read is real, and what it is elsewhere.
#[derive(Clone, Debug, Default, PartialEq)]
struct Padding {
    guards: Vec<(Lin, i64)>,
    fill: Option<f64>,
}

impl Padding {
    /// Equal to the bit of the fill.
    fn same(&self, o: &Padding) -> bool {
        self.guards == o.guards && self.fill.map(f64::to_bits) == o.fill.map(f64::to_bits)
    }
}

type Index = Vec<Lin>;

struct Former<'g> {
    g: &'g Graph,
    producers: Vec<Option<usize>>,
    vars: Vec<Var>,
    /// Variables of the row (reductions) or of the sum (contractions).
    inner: Vec<usize>,
    cuts: &'g Cuts,
    loads: Vec<(Access, DType)>,
    points: Vec<(Point, DType)>,
    /// By value: where it was asked for, under which padding, and its point. Mostly one or two.
    memo: Vec<Vec<(Index, Padding, usize)>>,
    /// Extents of the reduced axes, once a reduction was met.
    reduced: Option<Vec<u64>>,
    /// Variables that a reduction's result depends on.
    kept: Vec<usize>,
    /// Whether inner variables are decided (second pass).
    decided: bool,
    contract: Option<ContractParts>,
    /// While an operand of a contraction is read.
    within: Option<Within>,
}

#[derive(Clone, Debug)]
struct ContractParts {
    /// The contraction's node and the index its result is read at; one for each B.
    nodes: Vec<(usize, Index)>,
    batch: Vec<usize>,
    m: Vec<usize>,
    n: Vec<usize>,
    k: Vec<usize>,
    a: OperandParts,
    b: Vec<OperandParts>,
    dtype: DType,
}

/// An operand with its accesses over all variables.
#[derive(Clone, Debug, PartialEq)]
struct OperandParts {
    product: Option<Box<ProductParts>>,
    loads: Vec<Load>,
    steps: Vec<RowStep>,
    value: usize,
}

#[derive(Clone, Debug, PartialEq)]
struct ProductParts {
    sum: Vec<usize>,
    a: OperandParts,
    b: OperandParts,
    dtype: DType,
}

/// What may stand in an operand.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Within {
    /// Expressions of reads.
    Points,
    /// Also reductions along `k` and a product.
    Rows,
}

fn static_shape(g: &Graph, v: ValueId) -> Result<Vec<u64>, FormError> {
    let t = g.ty(v);
    t.shape.to_static().map(|s| s.into_iter().map(|n| n as u64).collect()).ok_or_else(|| FormError(format!("{t} is not static")))
}

impl<'g> Former<'g> {
    fn new(g: &'g Graph, cuts: &'g Cuts) -> Result<Former<'g>, FormError> {
        for n in &g.nodes {
            for v in n.operands.iter().chain(&n.results) {
                let s = static_shape(g, *v)?;
                if s.contains(&0) {
                    return no("an empty tensor needs no kernel");
                }
            }
        }
        Ok(Former {
            g,
            producers: g.producers(),
            vars: vec![],
            inner: vec![],
            cuts,
            loads: vec![],
            points: vec![],
            memo: vec![vec![]; g.types.len()],
            reduced: None,
            kept: vec![],
            decided: false,
            contract: None,
            within: None,
        })
    }

    /// Variables for an axis: one, or one per part where it is split; none for extent 1. The linear form that walks the axis.
    fn axis_vars(&mut self, axis: Axis, extent: u64) -> (Vec<usize>, Lin) {
        let parts = self.cuts.splits.get(&axis).cloned().unwrap_or_else(|| vec![extent]);
        let (mut ids, mut lin, mut step) = (vec![], Lin::default(), extent);
        for p in parts {
            step /= p;
            if p > 1 {
                self.vars.push(Var { axis, extent: p });
                ids.push(self.vars.len() - 1);
                lin = lin.plus(&Lin::var(self.vars.len() - 1, step as i64));
            }
        }
        (ids, lin)
    }

    fn run(mut self, name: &str) -> Result<KernelSpec, Stop> {
        let (out_vars, pieces) = self.pieces()?;
        // First pass: which variables do reductions keep, and which axes do they remove?
        for p in &pieces {
            self.point(p.value, &p.index, &Padding::default())?;
        }
        if pieces.len() > self.g.outputs.len() && (self.contract.is_some() || self.reduced.is_some()) {
            return stop("a reduction in pieces");
        }
        if self.contract.is_some() {
            return self.finish_contract(name, &out_vars, &pieces);
        }
        let mut outer = out_vars.clone();
        if let Some(extents) = self.reduced.clone() {
            let free: Vec<usize> = out_vars.iter().copied().filter(|v| !self.kept.contains(v)).collect();
            let product = |ids: &[usize]| ids.iter().map(|&v| self.vars[v].extent).product::<u64>();
            // Without free variables the row has loops of its own: those made in the first pass.
            if !free.is_empty() {
                if product(&free) != extents.iter().product::<u64>() {
                    return stop("the output is wider than the rows reduced");
                }
                outer.retain(|v| !free.contains(v));
                self.inner = free;
            }
            self.decided = true;
            self.memo.iter_mut().for_each(Vec::clear);
            self.points.clear();
            self.loads.clear();
            for p in &pieces {
                self.point(p.value, &p.index, &Padding::default())?;
            }
        }
        let roots: Vec<usize> = pieces.iter().map(|p| self.point(p.value, &p.index, &Padding::default())).collect::<Result<_, _>>()?;
        self.finish_rows(name, &outer, &pieces, &roots)
    }

    fn add(&mut self, p: Point, d: DType) -> usize {
        if let Some(i) = self.points.iter().position(|x| x.0 == p && x.1 == d) {
            return i;
        }
        self.points.push((p, d));
        self.points.len() - 1
    }

    /// The value at an index, as a point.
    fn point(&mut self, v: ValueId, index: &Index, pad: &Padding) -> Result<usize, Stop> {
        let known = self.memo[v.index()].iter().find(|m| m.0 == *index && m.1.same(pad));
        if let Some(&(_, _, p)) = known {
            return Ok(p);
        }
        let p = self.point_new(v, index, pad)?;
        self.memo[v.index()].push((index.clone(), pad.clone(), p));
        Ok(p)
    }

    fn point_new(&mut self, v: ValueId, index: &Index, pad: &Padding) -> Result<usize, Stop> {
        let d = self.g.ty(v).dtype;
        let g = self.g;
        let Some(ni) = self.producers[v.index()] else {
            let access = self.access(v, index, pad)?;
            let i = match self.loads.iter().position(|l| l.0 == access) {
                Some(i) => i,
                None => {
                    self.loads.push((access, d));
                    self.loads.len() - 1
                }
            };
            return Ok(self.add(Point::Load(i), d));
        };
        let n = &g.nodes[ni];
        if n.op.name == "constant" {
            let t = n.attrs.tensor("value").ok_or_else(|| FormError("constant".into()))?;
            let Some(c) = uniform(t) else { return stop("a constant with several values is a kernel argument") };
            if !pad.guards.is_empty() {
                return stop("padding of a constant");
            }
            return Ok(self.add(Point::Const(Float(c)), d));
        }
        if let Some((operand, to, pad)) = self.through_move(n, index, pad)? {
            return self.point(operand, &to, &pad);
        }
        // Joining adds −0 outside each part: more of it around is the same.
        let joins = matches!(n.op.kind, Kind::Move(Move::Concat)) && pad.fill.is_some_and(|f| f.to_bits() == (-0.0f64).to_bits());
        if !pad.guards.is_empty() && !joins {
            return self.padded(n, index, pad, d);
        }
        match &n.op.kind {
            Kind::Move(Move::Concat) => self.concat(n, index, pad, d),
            Kind::Elementwise(s) => {
                let mut args = vec![];
                for &o in &n.operands {
                    let at = broadcast_index(index, &static_shape(g, o)?);
                    args.push(self.point(o, &at, &Padding::default())?);
                }
                if let Scalar::Unary(crate::scalar::Unary::IsInf) = s
                    && (n.attrs.bool("positive") == Some(false) || n.attrs.bool("negative") == Some(false))
                {
                    return stop("one-sided is_inf");
                }
                if let Scalar::Binary(Binary::Pow) = s {
                    let (base, exponent) = (self.points[args[0]].1, self.points[args[1]].1);
                    if base != exponent {
                        // As the op computes it: 3^½ is no power by a whole number.
                        let wide = crate::kernels::scalar::pow_type(base, exponent);
                        let args = args.into_iter().map(|p| self.cast(p, wide)).collect();
                        let power = self.add(Point::Op(*s, args), wide);
                        return Ok(self.cast(power, d));
                    }
                }
                Ok(self.add(Point::Op(*s, args), d))
            }
            Kind::Reduce(_) | Kind::Window(_) if self.within == Some(Within::Points) => stop("a reduction before a contraction"),
            Kind::Reduce(m) => self.reduce(n, *m, index, d),
            Kind::Window(m) => self.window(n, *m, index, d),
            Kind::Contract(c) => self.contraction(ni, *c, index, d),
            _ => stop(format!("{} has no kernel form", n.op.name)),
        }
    }

    /// Padding of a computed value goes to what it is computed from, where fills of that give this fill exactly: `relu(0) = 0`,
    /// `−(+0) = −0`, `F·1 = F`, `F + −0 = F`.
    fn padded(&mut self, n: &Node, index: &Index, pad: &Padding, d: DType) -> Result<usize, Stop> {
        use crate::kernel_eval::{Value, binary, unary};
        let why = || Stop::No(FormError(format!("padding of a computed value ({})", n.op.name)));
        let Kind::Elementwise(s) = n.op.kind else { return Err(why()) };
        if !d.is_float() || n.operands.iter().any(|&o| !self.g.ty(o).dtype.is_float()) {
            return Err(why());
        }
        let producer = |v: ValueId| self.producers[v.index()].map(|i| &self.g.nodes[i]);
        let constant: Vec<Option<f64>> =
            n.operands.iter().map(|&v| producer(v).and_then(|n| n.attrs.tensor("value")).and_then(|t| uniform(t))).collect();
        let fill = pad.fill.unwrap_or(0.0);
        let gives = |x: &[f64]| -> bool {
            let v = match (s, x) {
                (Scalar::Unary(u), [x]) => unary(u, Value::F(*x), d),
                (Scalar::Binary(b), [x, y]) => binary(b, Value::F(*x), Value::F(*y), d),
                (Scalar::Cast, [x]) => Value::F(*x),
                _ => return false,
            };
            matches!(v, Value::F(v) if v.to_bits() == fill.to_bits())
        };
        // Fills to try, the last operand's first; a constant is what it is.
        let choices: Vec<Vec<f64>> = constant.iter().map(|c| c.map_or(vec![fill, 1.0, -0.0, 0.0, -fill], |c| vec![c])).collect();
        let total: usize = choices.iter().map(Vec::len).product();
        let found = (0..total).find_map(|mut i| {
            let mut x = vec![];
            for c in choices.iter().rev() {
                x.insert(0, c[i % c.len()]);
                i /= c.len();
            }
            gives(&x).then_some(x)
        });
        let Some(fills) = found else { return Err(why()) };
        let mut args = vec![];
        for ((&o, c), f) in n.operands.iter().zip(&constant).zip(fills) {
            let to = broadcast_index(index, &static_shape(self.g, o)?);
            let inner = if c.is_some() { Padding::default() } else { Padding { guards: pad.guards.clone(), fill: Some(f) } };
            args.push(self.point(o, &to, &inner)?);
        }
        Ok(self.add(Point::Op(s, args), d))
    }

    fn access(&self, v: ValueId, index: &Index, pad: &Padding) -> Result<Access, Stop> {
        let shape = static_shape(self.g, v)?;
        let Some(buffer) = self.g.inputs.iter().position(|p| p.value == v) else { return stop("not an argument") };
        let (mut at, mut step) = (Lin::default(), 1i64);
        for (lin, &n) in index.iter().zip(&shape).rev() {
            at = at.plus(&lin.times(step));
            step *= n as i64;
        }
        let dense = |l: &Lin| (0..self.vars.len()).map(|i| l.coeff(i)).collect::<Vec<i64>>();
        let mut guards: Vec<Guard> = vec![];
        for (lin, extent) in &pad.guards {
            let (lo, hi) = lin.range(&self.vars);
            if lo >= 0 && hi < *extent {
                continue;
            }
            let guard = Guard { offset: lin.offset, coeffs: dense(lin), extent: *extent };
            if !guards.contains(&guard) {
                guards.push(guard);
            }
        }
        let fill = if guards.is_empty() { 0.0 } else { pad.fill.unwrap_or(0.0) };
        Ok(Access { buffer, offset: at.offset, strides: dense(&at), guards, fill: Float(fill) })
    }

    /// One step through a move: the operand, its index and the padding so far. `None` if `n` is no simple move.
    fn through_move(&self, n: &Node, index: &Index, pad: &Padding) -> Result<Option<(ValueId, Index, Padding)>, Stop> {
        let Kind::Move(m) = &n.op.kind else { return Ok(None) };
        let x = n.operands[0];
        let shape = static_shape(self.g, x)?;
        let ints = |a: &str| n.attrs.ints(a).map(<[i64]>::to_vec).ok_or_else(|| Stop::No(FormError(format!("{} without {a}", n.op.name))));
        let to = match m {
            Move::Concat if n.operands.len() == 1 => index.clone(),
            Move::Concat => return Ok(None),
            Move::Transpose => {
                let perm = ints("perm")?;
                let mut to = vec![Lin::default(); shape.len()];
                for (i, &p) in perm.iter().enumerate() {
                    to[p as usize] = index[i].clone();
                }
                to
            }
            Move::Broadcast => broadcast_index(index, &shape),
            Move::Slice => {
                let (starts, steps) = (ints("starts")?, ints("steps")?);
                index.iter().zip(starts.iter().zip(&steps)).map(|(l, (&s, &t))| l.times(t).plus(&Lin::constant(s))).collect()
            }
            Move::Pad => {
                let (low, interior) = (ints("low")?, ints("interior")?);
                if interior.iter().any(|&i| i != 0) {
                    return stop("interior padding");
                }
                let to: Index = index.iter().zip(&low).map(|(l, &s)| l.plus(&Lin::constant(-s))).collect();
                let value = n.attrs.float("value").unwrap_or(0.0);
                let mut pad = pad.clone();
                for (l, &extent) in to.iter().zip(&shape) {
                    let (lo, hi) = l.range(&self.vars);
                    if lo < 0 || hi >= extent as i64 {
                        if pad.fill.is_some_and(|f| f.to_bits() != value.to_bits()) {
                            return stop("paddings with different values");
                        }
                        pad.fill = Some(value);
                        pad.guards.push((l.clone(), extent as i64));
                    }
                }
                return Ok(Some((x, to, pad)));
            }
            Move::Reshape => {
                let out = static_shape(self.g, n.results[0])?;
                // Guards speak of loop variables, so they stay true on either side of the reshape.
                match decompose(index, &out, &shape, &self.vars) {
                    Ok(to) => to,
                    Err(Split::By(var, parts)) => return Err(self.split(var, &parts)),
                    Err(Split::Never) => return stop("a reshape does not divide the loops"),
                }
            }
        };
        Ok(Some((x, to, pad.clone())))
    }

    /// Asks for variable `var` to be split into `parts` (outermost first).
    fn split(&self, var: usize, parts: &[u64]) -> Stop {
        let axis = self.vars[var].axis;
        let mut all = vec![];
        for (i, v) in self.vars.iter().enumerate() {
            if v.axis == axis {
                if i == var { all.extend_from_slice(parts) } else { all.push(v.extent) }
            }
        }
        Stop::Split(axis, all)
    }

    fn reduce(&mut self, n: &Node, m: Monoid, index: &Index, d: DType) -> Result<usize, Stop> {
        let x = n.operands[0];
        let shape = static_shape(self.g, x)?;
        let axes: Vec<usize> = n.attrs.ints("axes").unwrap_or_default().iter().map(|&a| a as usize).collect();
        let keep = n.attrs.bool("keepdims").unwrap_or(false);
        let mut it = index.iter();
        let mut to = vec![Lin::default(); shape.len()];
        for (a, slot) in to.iter_mut().enumerate() {
            if axes.contains(&a) {
                if keep {
                    it.next();
                }
            } else if let Some(l) = it.next() {
                *slot = l.clone();
            }
        }
        let extents: Vec<u64> = axes.iter().map(|&a| shape[a]).collect();
        let inner = self.inner_forms(&extents, &to)?;
        for (&a, l) in axes.iter().zip(inner) {
            to[a] = l;
        }
        let p = self.point(x, &to, &Padding::default())?;
        Ok(self.add(Point::Reduce(m, p), d))
    }

    /// Linear forms over the row variables for axes of these extents. In the first pass it only records what is needed.
    fn inner_forms(&mut self, extents: &[u64], kept: &[Lin]) -> Result<Vec<Lin>, Stop> {
        let real: Vec<u64> = extents.iter().copied().filter(|&n| n > 1).collect();
        for l in kept {
            for v in l.vars() {
                if self.decided && self.inner.contains(&v) {
                    return stop("a reduction of a reduced row");
                }
                if !self.decided && !self.kept.contains(&v) && !self.inner.contains(&v) {
                    self.kept.push(v);
                }
            }
        }
        match &self.reduced {
            Some(r) if r.iter().product::<u64>() != real.iter().product::<u64>() => return stop("rows of different lengths"),
            Some(_) => {}
            None => self.reduced = Some(real.clone()),
        }
        if !self.decided && self.inner.is_empty() {
            for (i, &n) in real.iter().enumerate() {
                let (ids, _) = self.axis_vars(Axis::Inner(i), n);
                self.inner.extend(ids);
            }
        }
        // Walk the row variables, outermost first, and give each axis its share.
        let (mut out, mut next) = (vec![], 0);
        for &n in extents {
            let (start, mut have) = (next, 1);
            while have < n && next < self.inner.len() {
                have *= self.vars[self.inner[next]].extent;
                next += 1;
            }
            if have != n {
                if next == 0 {
                    return stop("rows of different shapes");
                }
                // One variable covers more than this axis: split it.
                let last = self.inner[next - 1];
                let extent = self.vars[last].extent;
                let before = have / extent;
                if n.is_multiple_of(before) && extent.is_multiple_of(n / before) {
                    return Err(self.split(last, &[n / before, extent / (n / before)]));
                }
                return stop("rows of different shapes");
            }
            let (mut lin, mut step) = (Lin::default(), 1i64);
            for &v in self.inner[start..next].iter().rev() {
                lin = lin.plus(&Lin::var(v, step));
                step *= self.vars[v].extent as i64;
            }
            out.push(lin);
        }
        Ok(out)
    }

    /// Index of a windowed operand: `spatial·stride − pad + tap·dilation`, with its guards.
    fn windowed(&self, n: &Node, at: &[Lin], taps: &[Lin], shape: &[u64]) -> (Vec<Lin>, Vec<(Lin, i64)>) {
        let rank = taps.len();
        let get = |a: &str, i: usize| n.attrs.ints(a).and_then(|v| v.get(i)).copied().unwrap_or(1);
        let (mut to, mut guards) = (vec![], vec![]);
        for i in 0..rank {
            let low = n.attrs.ints("pads").and_then(|v| v.get(i)).copied().unwrap_or(0);
            let l = at[i].times(get("strides", i)).plus(&taps[i].times(get("dilations", i))).plus(&Lin::constant(-low));
            guards.push((l.clone(), shape[i] as i64));
            to.push(l);
        }
        (to, guards)
    }

    fn window(&mut self, n: &Node, m: Monoid, index: &Index, d: DType) -> Result<usize, Stop> {
        let x = n.operands[0];
        let shape = static_shape(self.g, x)?;
        let window: Vec<u64> = n.attrs.ints("window").unwrap_or_default().iter().map(|&k| k as u64).collect();
        let taps = self.inner_forms(&window, index)?;
        let (spatial, guards) = self.windowed(n, &index[2..], &taps, &shape[2..]);
        let to: Index = index[..2].iter().cloned().chain(spatial).collect();
        let guards: Vec<_> = guards
            .into_iter()
            .filter(|(l, e)| {
                let (lo, hi) = l.range(&self.vars);
                lo < 0 || hi >= *e
            })
            .collect();
        let fill = if guards.is_empty() { None } else { Some(identity(m, d)) };
        let p = self.point(x, &to, &Padding { guards, fill })?;
        Ok(self.add(Point::Reduce(m, p), d))
    }
}

/// The neutral element of a monoid, as the fill of padded reads.
pub fn identity(m: Monoid, d: DType) -> f64 {
    match m {
        Monoid::Sum | Monoid::Or => 0.0,
        Monoid::Prod | Monoid::And => 1.0,
        Monoid::Max if d.is_float() => f64::NEG_INFINITY,
        Monoid::Min if d.is_float() => f64::INFINITY,
        Monoid::Max if d.is_signed_int() => -(2f64.powi(d.bits() as i32 - 1)),
        Monoid::Max => 0.0,
        Monoid::Min if d == DType::Bool => 1.0,
        Monoid::Min => 2f64.powi(d.bits() as i32 - i32::from(d.is_signed_int())) - 1.0,
    }
}

/// Index into an operand of `shape` under numpy broadcasting.
fn broadcast_index(index: &Index, shape: &[u64]) -> Index {
    let skip = index.len() - shape.len();
    index[skip..].iter().zip(shape).map(|(l, &n)| if n == 1 { Lin::default() } else { l.clone() }).collect()
}

/// The one value a constant holds everywhere, if it survives f64.
fn uniform(t: &crate::tensor::Tensor) -> Option<f64> {
    let all = t.to_f64s();
    let first = *all.first()?;
    let exact = t.dtype().is_float() || first.abs() <= 2f64.powi(53);
    (exact && all.iter().all(|v| v.to_bits() == first.to_bits())).then_some(first)
}

mod contract;
mod operand;
#[cfg(test)]
mod tests;

pub(crate) use contract::sum_type;

// Used by the submodules.
use Contract as ContractKind;
type Steps = Vec<(Step, DType)>;
fn expr_of(steps: Steps) -> Expr {
    Expr { steps }
}
