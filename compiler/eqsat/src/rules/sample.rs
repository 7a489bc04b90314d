//! Random values for the variables of a rule's left side: small tensors of every awkward extent, weights, constants, attributes.

use crate::language::{AttrLeaf, Leaf, Node};
use std::collections::BTreeMap;
use std::sync::Arc;
use tahoma_core::{Attr, DType, Shape, Tensor, TensorType};

/// What a variable stands for.
#[derive(Clone, Debug)]
pub enum Given {
    Leaf(Arc<Leaf>),
    Constant(Tensor),
    Attr(AttrLeaf),
}

/// One drawing.
pub struct Sample {
    seed: u64,
    /// Whether tensors hold −0, infinities and NaN too: what an exact rule must keep.
    pub awkward: bool,
    pub given: BTreeMap<&'static str, Given>,
}

impl Sample {
    pub fn new(seed: u64) -> Sample {
        let mut s = Sample { seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, awkward: false, given: BTreeMap::new() };
        s.below(7);
        s
    }
    /// A number in `0..n`.
    pub fn below(&mut self, n: u64) -> usize {
        self.seed = self.seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.seed >> 33) % n.max(1)) as usize
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
    /// The node of a variable that is a leaf.
    pub fn node(&self, var: &str) -> Option<Node> {
        match self.given.get(var)? {
            Given::Leaf(l) => Some(Node::Leaf(l.clone())),
            Given::Attr(a) => Some(Node::Attr(a.clone())),
            Given::Constant(_) => None,
        }
    }
    /// A tensor with values in (−2, 2), some of them zero, one, or equal.
    pub fn tensor(&mut self, ty: &TensorType) -> Tensor {
        let shape = ty.shape.to_static().unwrap_or_default();
        let n = shape.iter().product();
        let values: Vec<f64> = (0..n)
            .map(|_| match self.below(12) {
                0 => 0.0,
                1 => 1.0,
                2 if self.awkward => [-0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN][self.below(5)],
                _ => (self.below(1 << 20) as f64 / (1 << 18) as f64) - 2.0,
            })
            .collect();
        if ty.dtype.is_float() { Tensor::from_f64s(ty.dtype, &shape, &values) } else { ints(ty.dtype, &shape, &values) }
    }
}

fn ints(dtype: DType, shape: &[usize], values: &[f64]) -> Tensor {
    let v: Vec<i64> = values.iter().map(|x| (x * 8.0) as i64).collect();
    match dtype {
        DType::Bool => Tensor::bool(shape, v.iter().map(|x| x % 2 != 0).collect()),
        _ => Tensor::i64(shape, v.iter().map(|x| if dtype.is_signed_int() { *x } else { x.abs() }).collect()).cast(dtype),
    }
}
