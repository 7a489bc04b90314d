//! Random values for the variables of a rule's left side: small tensors of every awkward extent, weights, constants, attributes.

use crate::language::{AttrLeaf, Leaf, Node, OpId};
use std::collections::BTreeMap;
use std::sync::Arc;
use tahoma_core::random::Random;
use tahoma_core::{Attr, DType, Shape, Tensor, TensorType};

/// What a variable stands for.
#[derive(Clone, Debug)]
pub enum Given {
    Leaf(Arc<Leaf>),
    /// An op on leaves.
    Computed(OpId, Vec<Arc<Leaf>>),
    Constant(Tensor),
    Attr(AttrLeaf),
}

/// What tensors hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draw {
    /// Numbers in (−2, 2), some of them zero, one, or equal.
    Plain,
    /// The same with −0, infinities, NaN and the ends of the type: what an exact rule must keep.
    Awkward,
    /// All that the type is at home with: each tensor large, tiny, of every magnitude, or near an offset; integers of all bits.
    Edges,
}

/// One drawing.
pub struct Sample {
    random: Random,
    pub draw: Draw,
    pub given: BTreeMap<&'static str, Given>,
}

impl Sample {
    pub fn new(seed: u64) -> Sample {
        Sample { random: Random::new(seed), draw: Draw::Plain, given: BTreeMap::new() }
    }
    /// A number in `0..n`.
    pub fn below(&mut self, n: u64) -> usize {
        self.random.below(n as usize)
    }
    /// An extent: 1 to 5.
    pub fn dim(&mut self) -> usize {
        1 + self.below(5)
    }
    pub fn dims(&mut self, rank: usize) -> Vec<usize> {
        (0..rank).map(|_| self.dim()).collect()
    }
    /// A permutation.
    pub fn perm(&mut self, rank: usize) -> Vec<i64> {
        let mut p: Vec<i64> = (0..rank as i64).collect();
        for i in (1..rank).rev() {
            p.swap(i, self.below(i as u64 + 1));
        }
        p
    }
    pub fn leaf(&mut self, var: &'static str, dtype: DType, shape: &[usize], weight: bool) {
        let ty = TensorType::new(dtype, Shape::known(shape));
        self.given.insert(var, Given::Leaf(Arc::new(Leaf { name: var.into(), weight, ty })));
    }
    /// An f32 input.
    pub fn input(&mut self, var: &'static str, shape: &[usize]) {
        self.leaf(var, DType::F32, shape, false);
    }
    /// An f32 weight.
    pub fn weight(&mut self, var: &'static str, shape: &[usize]) {
        self.leaf(var, DType::F32, shape, true);
    }
    /// An f32 constant with one value everywhere.
    pub fn constant(&mut self, var: &'static str, shape: &[usize], value: f32) {
        let n = shape.iter().product();
        self.given.insert(var, Given::Constant(Tensor::f32(shape, vec![value; n])));
    }
    /// A constant.
    pub fn given(&mut self, var: &'static str, value: Tensor) {
        self.given.insert(var, Given::Constant(value));
    }
    pub fn attr(&mut self, var: &'static str, value: impl Into<Attr>) {
        self.given.insert(var, Given::Attr(AttrLeaf::new(value.into())));
    }
    /// What an elementwise op makes of f32 inputs, each named by the variable and its place.
    pub fn computed(&mut self, var: &'static str, op: &'static str, shape: &[usize]) {
        let Some(op) = OpId::named(op) else { return };
        let ty = TensorType::new(DType::F32, Shape::known(shape));
        let leaf = |i: usize| Arc::new(Leaf { name: format!("{var}{i}").into(), weight: false, ty: ty.clone() });
        self.given.insert(var, Given::Computed(op, (0..op.def().operands.len()).map(leaf).collect()));
    }
    /// The shape of a variable's leaves.
    pub fn shape(&self, var: &str) -> Option<Vec<usize>> {
        match self.given.get(var)? {
            Given::Leaf(l) => l.ty.shape.to_static(),
            Given::Computed(_, l) => l.first()?.ty.shape.to_static(),
            Given::Constant(t) => Some(t.shape().to_vec()),
            Given::Attr(_) => None,
        }
    }
    /// The node of a variable that is a leaf.
    pub fn node(&self, var: &str) -> Option<Node> {
        match self.given.get(var)? {
            Given::Leaf(l) => Some(Node::Leaf(l.clone())),
            Given::Attr(a) => Some(Node::Attr(a.clone())),
            Given::Constant(_) | Given::Computed(..) => None,
        }
    }
    /// The same variables with another type in place of f32.
    pub fn retype(&mut self, dtype: DType) {
        let leaf = |l: &Arc<Leaf>| match l.ty.dtype {
            DType::F32 => Arc::new(Leaf { ty: TensorType { dtype, ..l.ty.clone() }, ..(**l).clone() }),
            _ => l.clone(),
        };
        for given in self.given.values_mut() {
            match given {
                Given::Leaf(l) => *l = leaf(l),
                Given::Computed(_, all) => all.iter_mut().for_each(|l| *l = leaf(l)),
                Given::Constant(t) if t.dtype() == DType::F32 => *t = t.cast(dtype),
                Given::Attr(a) => {
                    if let Attr::Tensor(t) = a.get()
                        && t.dtype() == DType::F32
                    {
                        *a = AttrLeaf::new(Attr::from(t.cast(dtype)));
                    }
                }
                Given::Constant(_) => {}
            }
        }
    }
    /// A tensor of a type, as `draw` says.
    pub fn tensor(&mut self, ty: &TensorType) -> Tensor {
        let shape = ty.shape.to_static().unwrap_or_default();
        let n = shape.iter().product();
        if self.draw != Draw::Plain && !ty.dtype.is_float() && ty.dtype != DType::Bool {
            let v: Vec<i64> = (0..n).map(|_| self.integer(ty.dtype)).collect();
            return Tensor::i64(&shape, v).cast(ty.dtype);
        }
        let edges = (self.draw == Draw::Edges && ty.dtype.is_float()).then(|| self.regime(ty.dtype));
        let values: Vec<f64> = (0..n)
            .map(|_| match (self.below(12), edges) {
                (0, _) => 0.0,
                (_, Some((low, high, offset))) => {
                    let e = low + self.below((high - low + 1) as u64) as i32;
                    offset + self.signed() * 2f64.powi(e)
                }
                (1, _) => 1.0,
                (2, _) if self.draw == Draw::Awkward => self.special(ty.dtype),
                _ => (self.below(1 << 20) as f64 / (1 << 18) as f64) - 2.0,
            })
            .collect();
        if ty.dtype.is_float() { Tensor::from_f64s(ty.dtype, &shape, &values) } else { ints(ty.dtype, &shape, &values) }
    }
    /// Of magnitude 1 to 2.
    fn signed(&mut self) -> f64 {
        let x = 1.0 + self.below(1 << 20) as f64 / (1 << 20) as f64;
        if self.below(2) == 0 { x } else { -x }
    }
    /// The least and the largest exponent of a tensor's elements, and what is added to them.
    fn regime(&mut self, d: DType) -> (i32, i32, f64) {
        let home = crate::span::home(d);
        let (least, most) = (home.least as i32, home.most as i32 - 1);
        match self.below(7) {
            0 => (most - 3, most, 0.0),
            1 => (least, least + 4, 0.0),
            2 => (least, most, 0.0),
            3 => (most / 2 - 1, most / 2 + 1, 0.0),
            4 => (least / 2 - 1, least / 2 + 1, 0.0),
            // As x of x − 10⁶ is.
            5 => (-4, 3, self.signed() * 2f64.powi(8 + self.below(most as u64 / 3) as i32)),
            _ => (-3, 1, 0.0),
        }
    }
    fn special(&mut self, d: DType) -> f64 {
        let f = tahoma_core::numeric::float_format(d);
        let (most, least) = f.map_or((1.0, 1.0), |f| ((2.0 - 2.0 * f.unit()) * 2f64.powi(f.most), 2f64.powi(f.least)));
        let tiny = f.map_or(1.0, |f| 2f64.powi(f.tiny()));
        let all = [-0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, most, -most, least, -tiny, tiny];
        all[self.below(all.len() as u64)]
    }
    /// Any bits, or an end of the type.
    fn integer(&mut self, d: DType) -> i64 {
        let (low, high) = tahoma_core::numeric::int_range(d);
        let ends = [low as i64, high as i64, 0, 1, -1, low as i64 + 1];
        match self.below(2) {
            0 => ends[self.below(ends.len() as u64)],
            _ => (self.below(1 << 31) as i64) << 33 ^ (self.below(1 << 31) as i64) << 12 ^ self.below(1 << 12) as i64,
        }
    }
}

fn ints(dtype: DType, shape: &[usize], values: &[f64]) -> Tensor {
    let v: Vec<i64> = values.iter().map(|x| (x * 8.0) as i64).collect();
    match dtype {
        DType::Bool => Tensor::bool(shape, v.iter().map(|x| x % 2 != 0).collect()),
        _ => Tensor::i64(shape, v.iter().map(|x| if dtype.is_signed_int() { *x } else { x.abs() }).collect()).cast(dtype),
    }
}
