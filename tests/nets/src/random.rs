//! Random well-typed programs over the op table, each with inputs on which it can be run: what optimisers are held to.
//!
//! A program is a function of its seed. Ops are drawn from `OPS`; operands and attributes are proposed from what a row declares and
//! kept when the row's own `infer` and `eval` accept them, so every program runs on the values it was made with. A part of the ops
//! comes in patterns that networks have (a linear layer with what surrounds it, norms, softmax, attention, …): the ground of fusion.

mod patterns;
mod propose;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tahoma_core::eval::Weights;
use tahoma_core::graph::check_signature;
use tahoma_core::numeric::{float_format, int_range};
use tahoma_core::op::{EvalArgs, Fresh, InferArgs, OpDef};
use tahoma_core::ops::OPS;
use tahoma_core::random::Random as Rng;
use tahoma_core::{Attrs, Builder, DType, Diagnostic, Origin, Program, Tensor, TensorType, ValueId};

/// Ops that no random program has, and why.
pub static NOT_GENERATED: &[(&str, &str)] = &[
    ("call", "its types come from a function of the program"),
    ("if", "its types come from functions of the program"),
    ("loop", "its types come from a function of the program"),
    ("non_max_suppression", "its operands are boxes and their scores, which no other op makes"),
    ("roi_align", "its operands are a map and regions of it, which no other op makes"),
    ("scan", "its types come from a function of the program"),
    ("roi_max_pool", "its operands are a map and regions of it, which no other op makes"),
];

/// Most elements of a value.
const LARGEST: usize = 1500;
/// Magnitudes above this are mostly avoided: they soon overflow, and infinities compare equal.
const LOUD: f64 = 1e3;

/// A program and how to draw what it reads.
#[derive(Debug)]
pub struct Random {
    pub seed: u64,
    pub program: Program,
    leaves: Vec<Leaf>,
}

#[derive(Debug)]
struct Leaf {
    name: String,
    ty: TensorType,
    weight: bool,
    draw: Draw,
}

/// What an input may hold.
#[derive(Clone, Debug, PartialEq)]
enum Draw {
    /// Floats in (−2, 2), some of them 0, 1 or equal; small integers; any bool.
    Any,
    /// Floats in (0, 2).
    Positive,
    /// Integers from `-n` to `n − 1`: places along an axis of `n`.
    Index(i64),
    /// One value: shapes and positions.
    Fixed(Tensor),
}

/// Values of a program's inputs and weights.
#[derive(Clone, Debug, Default)]
pub struct Values {
    pub inputs: Vec<Tensor>,
    pub weights: BTreeMap<String, Tensor>,
}

impl Weights for Values {
    fn get(&self, name: &str) -> Result<Tensor, Diagnostic> {
        self.weights.get(name).cloned().ok_or_else(|| Diagnostic::error("E0210", format!("no weight {name:?}")))
    }
}

impl Random {
    /// Nodes that compute.
    pub fn ops(&self) -> usize {
        self.program.main().nodes.iter().filter(|n| !["constant", "weight"].contains(&n.op.name)).count()
    }
    /// Draw 0 is what the program was made with: it runs. Others may divide integers by 0. `awkward` floats are now and then −0,
    /// infinite or NaN.
    pub fn values(&self, draw: u64, awkward: bool) -> Values {
        self.all(draw, |rng, _, l| drawn(rng, &l.ty, &l.draw, awkward))
    }
    /// Values that reach the ends of their types: integers of all bits; floats of one magnitude, of every magnitude, or near an offset,
    /// between the exponents of `reach`; `awkward` ones are now and then −0, infinite, NaN, or an end of the type. Places and shapes are
    /// as always, and so is all of a program whose extents depend on data. From draw 7 on some leaves are of ordinary size, in every later
    /// draw more, in draw 14 all but one of them: a program with an exponential has no other values that it stays within its types on.
    pub fn edges(&self, draw: u64, reach: fn(DType) -> (i32, i32), awkward: bool) -> Values {
        let loud = started(self.seed ^ draw << 32).below(self.leaves.len());
        // Where extents depend on data, any number may become one.
        let open = self.program.main().types.iter().any(|t| !t.shape.is_static());
        self.all(draw, |rng, i, l| match l.draw {
            Draw::Any | Draw::Positive if (rng.below(8) as u64) < draw.saturating_sub(6) && i != loud => {
                drawn(rng, &l.ty, &l.draw, awkward)
            }
            Draw::Any | Draw::Positive if l.ty.dtype != DType::Bool && !open => edge(rng, &l.ty, l.draw == Draw::Positive, reach, awkward),
            _ => drawn(rng, &l.ty, &l.draw, awkward),
        })
    }
    fn all(&self, draw: u64, mut of: impl FnMut(&mut Rng, usize, &Leaf) -> Tensor) -> Values {
        let mut v = Values::default();
        for (i, l) in self.leaves.iter().enumerate() {
            let mut rng = started(self.seed.wrapping_mul(0x1_0001).wrapping_add(draw << 40).wrapping_add(i as u64));
            let t = of(&mut rng, i, l);
            if l.weight {
                v.weights.insert(l.name.clone(), t);
            } else {
                v.inputs.push(t);
            }
        }
        v
    }
}

/// A generator whose first number is taken.
fn started(seed: u64) -> Rng {
    let mut r = Rng::new(seed);
    r.bits();
    r
}

fn drawn(rng: &mut Rng, ty: &TensorType, draw: &Draw, awkward: bool) -> Tensor {
    let dims = ty.shape.to_static().unwrap_or_default();
    let n: usize = dims.iter().product();
    match draw {
        Draw::Fixed(t) => t.clone(),
        Draw::Index(m) => {
            let low = if ty.dtype.is_signed_int() && rng.one_in(3) { -m } else { 0 };
            Tensor::from_i64s(ty.dtype, &dims, &(0..n).map(|_| low + rng.below((m - low) as usize) as i64).collect::<Vec<_>>())
        }
        _ if ty.dtype == DType::Bool => Tensor::bool(&dims, (0..n).map(|_| rng.one_in(2)).collect()),
        _ if ty.dtype.is_int() => {
            let low = if ty.dtype.is_signed_int() { -5 } else { 0 };
            Tensor::from_i64s(ty.dtype, &dims, &(0..n).map(|_| low + rng.below((9 - low) as usize) as i64).collect::<Vec<_>>())
        }
        _ => {
            let positive = matches!(draw, Draw::Positive);
            let v: Vec<f64> = (0..n)
                .map(|_| match rng.below(16) {
                    0 if !positive => 0.0,
                    1 => 1.0,
                    2 if awkward => *rng.of(&[-0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN]),
                    _ if positive => 0.05 + 1.9 * rng.unit(),
                    _ => 4.0 * rng.unit() - 2.0,
                })
                .collect();
            Tensor::from_f64s(ty.dtype, &dims, &v)
        }
    }
}

fn edge(rng: &mut Rng, ty: &TensorType, positive: bool, reach: fn(DType) -> (i32, i32), awkward: bool) -> Tensor {
    let dims = ty.shape.to_static().unwrap_or_default();
    let n: usize = dims.iter().product();
    let Some(f) = float_format(ty.dtype) else {
        let (low, high) = int_range(ty.dtype);
        let ends = [low as i64, high as i64, 0, 1, -1, low as i64 + 1];
        let v: Vec<i64> = (0..n).map(|_| if rng.one_in(2) { *rng.of(&ends) } else { rng.bits() as i64 }).collect();
        let v: Vec<i64> = v.into_iter().map(|x| if positive { x.checked_abs().unwrap_or(1) } else { x }).collect();
        return Tensor::i64(&dims, v).cast(ty.dtype);
    };
    let (least, most) = reach(ty.dtype);
    let (low, high, offset) = match rng.below(8) {
        0 => (most - 3, most, 0.0),
        1 => (least, least + 4, 0.0),
        2 => (least, most, 0.0),
        3 => (most / 2 - 1, most / 2 + 1, 0.0),
        4 => (least / 2 - 1, least / 2 + 1, 0.0),
        5 => (-4, 3, 2f64.powi(6 + rng.below((most / 3).max(1) as usize) as i32)),
        _ => (-3, 1, 0.0),
    };
    let ends = [-0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, (2.0 - 2.0 * f.unit()) * 2f64.powi(f.most), -2f64.powi(f.tiny())];
    let mut element = || match rng.below(16) {
        0 if !positive => 0.0,
        1 => 1.0,
        2 if awkward => *rng.of(&ends),
        _ => {
            let x = (1.0 + rng.unit()) * 2f64.powi(low + rng.below((high - low + 1) as usize) as i32);
            if positive || rng.one_in(2) { offset + x } else { offset - x }
        }
    };
    let v: Vec<f64> = (0..n).map(|_| element()).collect();
    Tensor::from_f64s(ty.dtype, &dims, &v)
}

struct Gen {
    rng: Rng,
    b: Builder,
    leaves: Vec<Leaf>,
    /// What each value is on the inputs of draw 0.
    known: HashMap<ValueId, Tensor>,
    /// Values to choose operands from, in order.
    pool: Vec<ValueId>,
    seed: u64,
    /// Ops so far.
    ops: usize,
    /// The number type and extents that most values of this program have, so that they fit each other.
    home: DType,
    extents: Vec<usize>,
}

/// Ops of a program, at least and at most.
const SIZE: std::ops::RangeInclusive<usize> = 5..=40;

/// The program of a seed.
pub fn random(seed: u64) -> Random {
    let mut attempts = (0..).map(|attempt| attempted(seed, attempt));
    let fits = |r: &Random| SIZE.contains(&r.ops()) && !r.program.main().outputs.is_empty();
    // Constants fold and patterns overshoot; about one attempt in three is of another size.
    attempts.find(fits).unwrap_or_else(|| unreachable!("attempts have no end"))
}

fn attempted(seed: u64, attempt: u64) -> Random {
    let mut rng = started(seed ^ attempt << 48);
    let home = match rng.below(20) {
        0..12 => DType::F32,
        12..15 => DType::BF16,
        15 => DType::F16,
        16 => DType::F64,
        17 => *rng.of(&[DType::I64, DType::I32, DType::I8, DType::U8]),
        _ => propose::any_dtype(&mut rng),
    };
    let extents = (0..3).map(|_| *rng.of(&[1, 2, 3, 4, 4, 5, 6, 7, 8])).collect();
    let b = Builder::new(Program::MAIN);
    let mut g = Gen { rng, b, leaves: vec![], known: HashMap::new(), pool: vec![], seed, ops: 0, home, extents };
    let rank = 1 + g.rng.below(4);
    let shape = g.shape(rank);
    g.leaf(TensorType::known(home, &shape), Draw::Any, false);
    let size = SIZE.start() + g.rng.below(SIZE.end() - SIZE.start());
    let mut tries = 0;
    while g.ops < size && tries < 40 * size {
        tries += 1;
        if g.rng.one_in(3) {
            patterns::any(&mut g)
        } else {
            g.any()
        };
    }
    g.finish()
}

impl Gen {
    /// One op of the table, if a proposal for it is accepted.
    fn any(&mut self) -> Option<()> {
        let op = *self.rng.of(&OPS);
        if NOT_GENERATED.iter().any(|n| n.0 == op.name) {
            return None;
        }
        for _ in 0..12 {
            if let Some((operands, attrs)) = propose::application(self, op)
                && self.apply(op, &operands, attrs).is_some()
            {
                return Some(());
            }
        }
        None
    }
    /// Adds the op if it fits, runs, and gives values worth computing with.
    fn apply(&mut self, op: &'static OpDef, operands: &[ValueId], attrs: Attrs) -> Option<Vec<ValueId>> {
        check_signature(op, operands.len(), &attrs).ok()?;
        let types: Vec<TensorType> = operands.iter().map(|v| self.b.ty(*v).clone()).collect();
        let def = |i: usize| &op.operands[i.min(op.operands.len() - 1)];
        if types.iter().enumerate().any(|(i, t)| !def(i).types.has(t.dtype)) {
            return None;
        }
        let tensors: Vec<Tensor> = operands.iter().map(|v| self.known[v].clone()).collect();
        // As the values are, and as the builder knows them.
        let now: Vec<TensorType> = tensors.iter().map(Tensor::ty).collect();
        let all: Vec<Option<&Tensor>> = tensors.iter().map(Some).collect();
        let results = (op.infer)(&InferArgs { operands: &now, attrs: &attrs, consts: &all, fresh: Fresh("n", 0) }).ok()?;
        if results.iter().any(|t| t.shape.elements().is_some_and(|n| n > LARGEST as u64)) {
            return None;
        }
        let made = (op.eval)(&EvalArgs { operands: &tensors, attrs: &attrs }).ok()?;
        if made.iter().any(|t| t.len() > LARGEST) || (!made.iter().all(tame) && !self.rng.one_in(24)) {
            return None;
        }
        let number = self.b.graph().nodes.len() as u32;
        let origin = Origin::Node { model: "random".into(), index: number, name: format!("n{number}").into(), op: op.name.into() };
        self.b.set_origin(Arc::new(origin));
        let ids = self.b.emit(op, operands, attrs).ok()?;
        for (v, t) in ids.iter().zip(made) {
            self.known.entry(*v).or_insert(t);
            if !self.pool.contains(v) {
                self.pool.push(*v);
            }
        }
        self.ops += 1;
        Some(ids)
    }
    /// [`Gen::apply`] by name, for ops with one result.
    fn op(&mut self, name: &str, operands: &[ValueId], attrs: Attrs) -> Option<ValueId> {
        self.apply(tahoma_core::ops::find(name)?, operands, attrs)?.first().copied()
    }
    /// An input, weight or constant.
    fn leaf(&mut self, ty: TensorType, draw: Draw, weight: bool) -> ValueId {
        let i = self.leaves.len() as u64;
        let mut rng = started(self.seed.wrapping_mul(0x1_0001).wrapping_add(i));
        let t = drawn(&mut rng, &ty, &draw, false);
        let name = format!("{}{i}", if weight { "w" } else { "x" });
        let v = if weight { self.b.weight(&name, ty.clone()) } else { self.b.input(&name, ty.clone()) };
        self.leaves.push(Leaf { name, ty, weight, draw });
        self.known.insert(v, t);
        self.pool.push(v);
        v
    }
    /// A leaf of whatever sort.
    fn fresh(&mut self, ty: TensorType, draw: Draw) -> ValueId {
        match self.rng.below(8) {
            0..3 => self.leaf(ty, draw, false),
            3..6 => self.leaf(ty, draw, true),
            n => {
                let t = if n == 6 && ty.dtype.is_float() {
                    // One number everywhere, as rules like it.
                    let x = *self.rng.of(&[0.0, 1.0, 2.0, 0.5, -1.0, 0.25]);
                    Tensor::full(ty.dtype, &ty.shape.to_static().unwrap_or_default(), x)
                } else {
                    drawn(&mut self.rng, &ty, &draw, false)
                };
                self.constant(t)
            }
        }
    }
    fn constant(&mut self, t: Tensor) -> ValueId {
        let v = self.b.constant(t.clone());
        self.known.insert(v, t);
        v
    }
    /// A number of another value's type.
    fn number(&mut self, x: f64, like: ValueId) -> ValueId {
        let d = self.b.ty(like).dtype;
        self.constant(Tensor::from_f64s(d, &[], &[x]))
    }
    fn shape(&mut self, rank: usize) -> Vec<usize> {
        (0..rank).map(|_| if self.rng.one_in(4) { 1 + self.rng.below(9) } else { *self.rng.of(&self.extents) }).collect()
    }
    /// The extents a value has on the inputs of draw 0.
    fn dims(&self, v: ValueId) -> Vec<usize> {
        self.known[&v].shape().to_vec()
    }
    fn dtype(&self, v: ValueId) -> DType {
        self.b.ty(v).dtype
    }
    /// A value that will do, later ones rather than earlier; those with open extents seldom.
    fn pick(&mut self, fits: impl Fn(&TensorType) -> bool) -> Option<ValueId> {
        let open = self.rng.one_in(12);
        let all: Vec<ValueId> =
            self.pool.iter().copied().filter(|&v| (open || self.b.ty(v).shape.is_static()) && fits(self.b.ty(v))).collect();
        let from = if self.rng.one_in(2) { all.len().saturating_sub(4) } else { 0 };
        (!all.is_empty()).then(|| *self.rng.of(&all[from..]))
    }
    /// A value with extents that only the inputs tell.
    fn open(&mut self) -> Option<ValueId> {
        let all: Vec<ValueId> = self.pool.iter().copied().filter(|&v| !self.b.ty(v).shape.is_static()).collect();
        (!all.is_empty()).then(|| *self.rng.of(&all))
    }
    /// Outputs: what nothing uses (the last few), and now and then what something does.
    fn finish(mut self) -> Random {
        let uses = self.b.graph().uses();
        let made: Vec<ValueId> = self.b.graph().nodes.iter().flat_map(|n| &n.results).copied().collect();
        let live: Vec<ValueId> = self.pool.iter().copied().filter(|v| made.contains(v) && self.b.constant_of(*v).is_none()).collect();
        let loose: Vec<ValueId> = live.iter().copied().filter(|v| uses[v.index()] == 0).collect();
        let most = 1 + self.rng.below(6);
        let mut out: Vec<ValueId> = loose[loose.len().saturating_sub(most)..].to_vec();
        if !live.is_empty() && self.rng.one_in(3) {
            out.push(*self.rng.of(&live));
        }
        for (i, v) in out.iter().enumerate() {
            self.b.output(&format!("y{i}"), *v);
        }
        let program = Program::new(self.b.finish());
        Random { seed: self.seed, program, leaves: self.leaves }
    }
}

/// No NaN and nothing large.
fn tame(t: &Tensor) -> bool {
    !t.dtype().is_float() || t.to_f64s().iter().all(|x| x.abs() <= LOUD)
}

/// The ops of a program with operands, attributes and types, one a line.
pub fn listing(p: &Program) -> String {
    let mut s = String::new();
    for (name, g) in &p.functions {
        let port = |q: &tahoma_core::Port| format!("%{} {:?}: {}", q.value.0, q.name, g.ty(q.value));
        s += &format!("@{name}({})\n", g.inputs.iter().map(port).collect::<Vec<_>>().join(", "));
        for n in &g.nodes {
            let ids = |v: &[ValueId]| v.iter().map(|v| format!("%{}", v.0)).collect::<Vec<_>>().join(", ");
            let types: Vec<String> = n.results.iter().map(|r| g.ty(*r).to_string()).collect();
            let attrs: Vec<String> = n.attrs.0.iter().map(|(k, a)| format!("{k}={}", attr_text(a))).collect();
            let attrs = if attrs.is_empty() { String::new() } else { format!(" {{{}}}", attrs.join(", ")) };
            s += &format!("  {} = {}({}){attrs}: {}\n", ids(&n.results), n.op.name, ids(&n.operands), types.join(", "));
        }
        s += &format!("  return {}\n", g.outputs.iter().map(port).collect::<Vec<_>>().join(", "));
    }
    s
}

fn attr_text(a: &tahoma_core::Attr) -> String {
    use tahoma_core::Attr;
    match a {
        Attr::Int(v) => v.to_string(),
        Attr::Float(v) => format!("{v:?}"),
        Attr::Bool(v) => v.to_string(),
        Attr::Str(v) => format!("{v:?}"),
        Attr::Ints(v) => format!("{v:?}"),
        Attr::Floats(v) => format!("{v:?}"),
        Attr::DType(v) => v.to_string(),
        Attr::Tensor(t) => format!("<{}>", t.summary()),
        Attr::Func(f) => format!("@{f}"),
    }
}
