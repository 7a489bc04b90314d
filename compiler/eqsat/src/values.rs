//! What is known of a value's elements, op by op: that none is negative, that all along an axis are equal, that all are 0 or 1.

use crate::facts::Value;
use tahoma_core::op::{Kind, Move, OpDef};
use tahoma_core::{Attrs, Tensor, TensorType};

/// Facts about elements. The default says nothing. Two values that are equal have the facts of both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// No element has its sign bit set (NaN aside): not −0 either.
    pub non_negative: bool,
    /// Every element is +0 or 1: masks, one-hot vectors.
    pub binary: bool,
    /// Bit i: along axis i all elements are equal, as after a broadcast. Axes of extent 1 are left out.
    pub equal: u64,
}

impl Known {
    pub fn both(self, o: Known) -> Known {
        Known { non_negative: self.non_negative || o.non_negative, binary: self.binary || o.binary, equal: self.equal | o.equal }
    }
    pub fn is_equal_along(self, axis: usize) -> bool {
        axis < 64 && self.equal >> axis & 1 == 1
    }
}

/// Of a constant.
pub fn of_constant(t: &Tensor) -> Known {
    let v = t.to_f64s();
    let binary = v.iter().all(|x| x.to_bits() == 0 || *x == 1.0);
    let uniform = v.windows(2).all(|w| w[0].to_bits() == w[1].to_bits());
    let axes = t.shape().iter().enumerate().filter(|(i, n)| uniform && **n > 1 && *i < 64).fold(0, |m, (i, _)| m | 1 << i);
    Known { non_negative: v.iter().all(|x| x.is_nan() || !x.is_sign_negative()), binary, equal: axes }
}

/// Of what an op makes of its operands; `square`: of one operand twice.
pub fn of(op: &OpDef, args: &[&Value], square: bool, attrs: &Attrs, ty: &TensorType) -> Known {
    let all = |f: fn(&Known) -> bool| !args.is_empty() && args.iter().all(|a| f(&a.known));
    let (positive, binary) = (all(|k| k.non_negative), all(|k| k.binary));
    let float = ty.dtype.is_float();
    let non_negative = match op.name {
        "exp" | "sigmoid" | "abs" | "relu" => float,
        "softmax" | "sink_softmax" | "top_softmax" => float,
        "mul" => positive || (float && square),
        "add" | "div" | "max" | "min" | "sqrt" | "reduce_sum" | "reduce_mean" | "concat" => positive,
        // The maximum of nothing is −∞.
        "reduce_max" | "reduce_min" => positive && args[0].ty.shape.elements() != Some(0),
        "cast" => positive && float,
        "select" => args.len() == 3 && args[1..].iter().all(|a| a.known.non_negative),
        "pad" => positive && attrs.float("value").is_some_and(|v| !v.is_sign_negative()),
        _ => positive && matches!(op.kind, Kind::Move(Move::Reshape | Move::Transpose | Move::Broadcast | Move::Slice)),
    };
    let binary = match op.name {
        "one_hot" => true,
        "mul" | "max" | "min" | "concat" => binary,
        "cast" => binary || args[0].ty.dtype == tahoma_core::DType::Bool,
        _ => binary && matches!(op.kind, Kind::Move(Move::Reshape | Move::Transpose | Move::Broadcast | Move::Slice)),
    };
    Known { non_negative: non_negative || binary, binary, equal: equal(op, args, attrs, ty) }
}

/// Axes of the result along which all elements are equal.
fn equal(op: &OpDef, args: &[&Value], attrs: &Attrs, ty: &TensorType) -> u64 {
    let rank = ty.rank().min(64);
    let one = |d: &tahoma_core::types::Dim| d.known() == Some(1);
    // Of an operand that is broadcast to the result's shape: what it lacks, or holds once, is equal.
    let aligned = |v: &Value, axis: usize| match (axis + v.ty.rank()).checked_sub(ty.rank()) {
        None => true,
        Some(i) => one(&v.ty.shape.0[i]) || v.known.is_equal_along(i),
    };
    let holds = |axis: usize| -> bool {
        if one(&ty.shape.0[axis]) {
            return false;
        }
        match op.kind {
            Kind::Elementwise(_) | Kind::Move(Move::Broadcast) => args.iter().all(|a| aligned(a, axis)),
            Kind::Move(Move::Slice) => args[0].known.is_equal_along(axis),
            Kind::Move(Move::Transpose) => {
                attrs.ints("perm").and_then(|p| p.get(axis)).is_some_and(|&p| args[0].known.is_equal_along(p as usize))
            }
            Kind::Reduce(_) => attrs.bool("keepdims") == Some(true) && args[0].known.is_equal_along(axis),
            _ => false,
        }
    };
    if args.is_empty() { 0 } else { (0..rank).filter(|&a| holds(a)).fold(0, |m, a| m | 1 << a) }
}
