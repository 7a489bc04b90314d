//! What is known of a value's elements, op by op: that none is negative, that all along an axis are equal, that all are 0 or 1, between
//! which powers of two they lie ([`crate::span`]), and whether they have been rounded.

use crate::facts::Value;
use crate::span::{self, Span};
use std::fmt;
use tahoma_core::numeric::float_format;
use tahoma_core::op::{Kind, Move, OpDef};
use tahoma_core::{Attrs, DType, Tensor, TensorType};

/// Facts about elements. The default says nothing. Two values that are equal have the facts of both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Known {
    /// No element has its sign bit set (NaN aside): not −0 either.
    pub non_negative: bool,
    /// Every element is +0 or 1: masks, one-hot vectors.
    pub binary: bool,
    /// Bit i: along axis i all elements are equal, as after a broadcast. Axes of extent 1 are left out.
    pub equal: u64,
    /// Where elements lie. Of floats it holds where the program as written stays within its types: rules that keep bits do not ask it.
    pub span: Span,
    /// Each element may be off by a rounding of itself already, as what an op that rounds made. Inputs, weights and what is moved or
    /// compared of them alone are not: `x − c` of such an x has digits that `x·w − c·w` has not.
    pub rounded: bool,
}

impl Known {
    /// Of a value that is made in two ways: what one of them does not round is not rounded.
    pub fn both(self, o: Known) -> Known {
        Known {
            non_negative: self.non_negative || o.non_negative,
            binary: self.binary || o.binary,
            equal: self.equal | o.equal,
            span: self.span.meet(o.span),
            rounded: self.rounded && o.rounded,
        }
    }
    /// What the type alone says of an input, a weight, or what is not looked into.
    pub fn of_type(d: DType, weight: bool) -> Known {
        let unsigned = !d.is_float() && !d.is_signed_int();
        let span = if weight { span::ordinary(d) } else { span::home(d) };
        Known { non_negative: unsigned, binary: d == DType::Bool, span, ..Known::default() }
    }
    pub fn is_equal_along(self, axis: usize) -> bool {
        axis < 64 && self.equal >> axis & 1 == 1
    }
    /// A tensor changed so that it holds.
    pub fn obeyed(self, t: Tensor) -> Tensor {
        let (shape, mut v) = (t.shape().to_vec(), t.to_f64s());
        if self.binary {
            v.iter_mut().for_each(|x| *x = f64::from(u8::from(*x > 0.0)));
        } else if self.non_negative {
            v.iter_mut().for_each(|x| *x = x.abs());
        }
        if t.dtype().is_float() && self.span.most < 1 {
            let most = 2f64.powi(self.span.most as i32);
            v.iter_mut().for_each(|x| *x = x.clamp(-most, most));
        }
        for axis in (0..shape.len()).filter(|&a| self.is_equal_along(a)) {
            let inner: usize = shape[axis + 1..].iter().product();
            for i in 0..v.len() {
                v[i] = v[i - i / inner % shape[axis] * inner];
            }
        }
        Tensor::from_f64s(t.dtype(), &shape, &v)
    }
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let mut all: Vec<String> = (0..64).filter(|&a| self.is_equal_along(a)).map(|a| format!("equal along axis {a}")).collect();
        if self.binary {
            all.insert(0, "0 or 1".into());
        } else if self.non_negative {
            all.insert(0, "none negative".into());
        }
        if self.rounded {
            all.push("rounded".into());
        }
        f.write_str(&all.join(", "))
    }
}

/// Of a constant.
pub fn of_constant(t: &Tensor) -> Known {
    let v = t.to_f64s();
    let binary = v.iter().all(|x| x.to_bits() == 0 || *x == 1.0);
    let uniform = v.windows(2).all(|w| w[0].to_bits() == w[1].to_bits());
    let axes = t.shape().iter().enumerate().filter(|(i, n)| uniform && **n > 1 && *i < 64).fold(0, |m, (i, _)| m | 1 << i);
    let non_negative = v.iter().all(|x| x.is_nan() || !x.is_sign_negative());
    Known { non_negative, binary, equal: axes, span: Span::of(v), rounded: false }
}

/// Of what an op makes of its operands; `square`: of one operand twice.
pub fn of(op: &OpDef, args: &[&Value], square: bool, attrs: &Attrs, ty: &TensorType) -> Known {
    let all = |f: fn(&Known) -> bool| !args.is_empty() && args.iter().all(|a| f(&a.known));
    let (positive, binary) = (all(|k| k.non_negative), all(|k| k.binary));
    let float = ty.dtype.is_float();
    let from_float = args.iter().any(|a| a.ty.dtype.is_float());
    let image = span::image(op, args, attrs, ty);
    // Floats keep their signs where they overflow; integers wrap.
    let holds = float || (!from_float && span::holds(op, args, image, ty.dtype));
    let non_negative = match op.name {
        _ if !float && !ty.dtype.is_signed_int() => true,
        "exp" | "sigmoid" => float,
        "relu" => true,
        "abs" => holds,
        "softmax" | "sink_softmax" | "top_softmax" => float,
        "mul" => (positive && holds) || (float && square),
        "add" | "reduce_sum" | "reduce_mean" => positive && holds,
        "div" | "max" | "min" | "sqrt" | "concat" => positive,
        // The maximum of nothing is −∞.
        "reduce_max" | "reduce_min" => positive && args[0].ty.shape.elements() != Some(0),
        // A float becomes the nearest integer of at least eight bits, NaN becomes 0; to fewer bits it wraps.
        "cast" => positive && (holds || (from_float && ty.dtype.bits() >= 8)),
        "select" => args.len() == 3 && args[1..].iter().all(|a| a.known.non_negative),
        "pad" => positive && attrs.float("value").is_some_and(|v| !v.is_sign_negative()),
        _ => positive && matches!(op.kind, Kind::Move(Move::Reshape | Move::Transpose | Move::Broadcast | Move::Slice)),
    };
    let binary = match op.name {
        _ if ty.dtype == DType::Bool => true,
        "one_hot" => true,
        "mul" | "max" | "min" | "concat" => binary,
        "cast" => binary || args[0].ty.dtype == DType::Bool,
        _ => binary && matches!(op.kind, Kind::Move(Move::Reshape | Move::Transpose | Move::Broadcast | Move::Slice)),
    };
    let span = match (float, holds) {
        (true, _) | (_, true) => image,
        _ => span::home(ty.dtype),
    };
    Known { non_negative: non_negative || binary, binary, equal: equal(op, args, attrs, ty), span, rounded: rounded(op, args, ty) }
}

/// Whether each element is off by a rounding of itself, or 0.
fn rounded(op: &OpDef, args: &[&Value], ty: &TensorType) -> bool {
    let done = |v: &&Value| v.known.rounded || v.known.span.is_zero();
    let each = |args: &[&Value]| !args.is_empty() && args.iter().all(done);
    if !ty.dtype.is_float() {
        return false;
    }
    match op.name {
        "add" | "sub" => match args {
            [x, y] if y.known.span.is_zero() => done(x),
            [x, y] if x.known.span.is_zero() => done(y),
            _ => true,
        },
        // Powers of two move the point.
        "mul" => match args {
            [x, y] if y.known.span.is_power() => done(x),
            [x, y] if x.known.span.is_power() => done(y),
            _ => true,
        },
        "div" if args[1].known.span.is_power() => done(&args[0]),
        "neg" | "abs" | "relu" | "max" | "min" | "concat" | "clip" | "reduce_max" | "reduce_min" | "max_pool" => each(args),
        "select" => each(&args[1..]),
        "gather" | "pad" => each(&args[..1]),
        "cast" => {
            let digits = |d: DType| float_format(d).map_or(i32::MAX, |f| f.digits);
            let from = args[0].ty.dtype;
            from.is_float() && (digits(from) > digits(ty.dtype) || each(args))
        }
        "sign" | "floor" | "ceil" | "round" | "mod" | "rem" | "one_hot" | "iota" | "constant" | "bitcast" => false,
        _ => match op.kind {
            Kind::Move(_) => each(args),
            Kind::Elementwise(_) | Kind::Reduce(_) | Kind::Window(_) | Kind::Contract(_) | Kind::Composite(_) | Kind::Scan(_) => true,
            _ => false,
        },
    }
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
