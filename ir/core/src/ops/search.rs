//! Selections: argmax, argmin, topk, nonzero.

use super::common::*;
use super::reduce::reduced_shape;
use crate::op::*;
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Shape, TensorType};
use std::cmp::Ordering;

fn infer_arg(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let x = &a.operands[0];
    let ax = axis(a.attrs, "axis", x.rank())?;
    flag(a.attrs, "last")?;
    if x.shape[ax] == Dim::Known(0) {
        return Err(OpError::shape(format!("no element along axis {ax} of {x}")));
    }
    Ok(vec![TensorType::new(DType::I64, reduced_shape(&x.shape, &[ax], flag(a.attrs, "keepdims")?))])
}

/// Lines along an axis: base position and step of each, in order.
fn lines(shape: &[usize], ax: usize) -> (usize, usize, impl Iterator<Item = usize>) {
    let n = shape[ax];
    let inner: usize = shape[ax + 1..].iter().product();
    let outer: usize = shape[..ax].iter().product();
    (n, inner, (0..outer).flat_map(move |o| (0..inner).map(move |i| o * n * inner + i)))
}

/// NaN counts as the largest, as in numpy.
fn order(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

fn eval_arg(largest: bool, a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let x = &a.operands[0];
    let ax = axis(a.attrs, "axis", x.rank())?;
    let last = flag(a.attrs, "last")?;
    let v = x.to_f64s();
    let (n, step, bases) = lines(x.shape(), ax);
    let out: Vec<i64> = bases
        .map(|base| {
            let mut best = 0;
            for k in 1..n {
                let o = order(v[base + k * step], v[base + best * step]);
                let o = if largest { o } else { o.reverse() };
                if o.is_gt() || (last && o.is_eq()) {
                    best = k;
                }
            }
            best as i64
        })
        .collect();
    let shape = reduced_shape(&x.ty().shape, &[ax], flag(a.attrs, "keepdims")?).to_static().unwrap_or_default();
    Ok(vec![Tensor::i64(&shape, out)])
}

fn infer_topk(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let x = &a.operands[0];
    let ax = axis(a.attrs, "axis", x.rank())?;
    let k = int(a.attrs, "k")?;
    if k < 0 || x.shape[ax].known().is_some_and(|n| k as u64 > n) {
        return Err(OpError::attr(format!("k = {k} of {} elements along axis {ax}", x.shape[ax])));
    }
    let mut s = x.shape.clone();
    s.0[ax] = Dim::Known(k as u64);
    Ok(vec![TensorType::new(x.dtype, s.clone()), TensorType::new(DType::I64, s)])
}
fn eval_topk(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let x = &a.operands[0];
    let ax = axis(a.attrs, "axis", x.rank())?;
    let k = int(a.attrs, "k")? as usize;
    let largest = flag(a.attrs, "largest")?;
    let v = x.to_f64s();
    let (n, step, bases) = lines(x.shape(), ax);
    let mut shape = x.shape().to_vec();
    shape[ax] = k;
    let (mut values, mut indices) = (vec![0f64; shape.iter().product()], vec![0i64; shape.iter().product()]);
    for base in bases {
        let mut at: Vec<usize> = (0..n).collect();
        // Equal values keep their order, so the lower index comes first.
        at.sort_by(|&p, &q| {
            let o = order(v[base + p * step], v[base + q * step]);
            if largest { o.reverse() } else { o }
        });
        let (outer, inner) = (base / (n * step).max(1), base % step);
        for (r, &p) in at.iter().take(k).enumerate() {
            let o = (outer * k + r) * step + inner;
            values[o] = v[base + p * step];
            indices[o] = p as i64;
        }
    }
    // Values go back exactly: they came from this type.
    Ok(vec![Tensor::from_f64s(x.dtype(), &shape, &values), Tensor::i64(&shape, indices)])
}

fn infer_nonzero(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let rank = a.operands[0].rank().max(1);
    Ok(vec![TensorType::new(DType::I64, Shape(vec![Dim::from(rank), Dim::sym(&format!("{}.n", a.fresh))]))])
}
fn eval_nonzero(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let x = &a.operands[0];
    let hits: Vec<usize> = x.to_f64s().iter().enumerate().filter(|(_, v)| **v != 0.0).map(|(i, _)| i).collect();
    let shape = if x.rank() == 0 { vec![1] } else { x.shape().to_vec() };
    let mut out = vec![0i64; shape.len() * hits.len()];
    for (c, &h) in hits.iter().enumerate() {
        let mut rest = h;
        for d in (0..shape.len()).rev() {
            out[d * hits.len() + c] = (rest % shape[d]) as i64;
            rest /= shape[d];
        }
    }
    Ok(vec![Tensor::i64(&[shape.len(), hits.len()], out)])
}

const ARG: &[AttrDef] = &[attr("axis", AttrType::Int), attr("keepdims", AttrType::Bool), attr("last", AttrType::Bool)];
const X: &[OperandDef] = &[operand("x", TypeSet::Number)];

static ARGMAX: OpDef = OpDef {
    name: "argmax",
    doc: "Position of the largest element along an axis; the first of equals, or the last.",
    operands: X,
    attrs: ARG,
    results: Results::One,
    kind: Kind::Opaque,
    tolerance: Tolerance::Exact,
    examples: &["argmax([1, 3, 3], axis=0, keepdims=true, last=false) = i64[1]"],
    infer: infer_arg,
    eval: |a| eval_arg(true, a),
};
static ARGMIN: OpDef = OpDef {
    name: "argmin",
    doc: "Position of the smallest element along an axis; the first of equals, or the last.",
    operands: X,
    attrs: ARG,
    results: Results::One,
    kind: Kind::Opaque,
    tolerance: Tolerance::Exact,
    examples: &["argmin([1, 3, 1], axis=0, keepdims=true, last=true) = i64[2]"],
    infer: infer_arg,
    eval: |a| eval_arg(false, a),
};
static TOPK: OpDef = OpDef {
    name: "topk",
    doc: "The k largest (or smallest) elements along an axis, best first, and their positions; of equals the lower position first.",
    operands: X,
    attrs: &[attr("k", AttrType::Int), attr("axis", AttrType::Int), attr("largest", AttrType::Bool), attr("sorted", AttrType::Bool)],
    results: Results::Many(2),
    kind: Kind::Opaque,
    tolerance: Tolerance::Exact,
    examples: &["topk([1, 3, 2], k=2, axis=0, largest=true, sorted=true) = [3, 2], i64[1, 2]"],
    infer: infer_topk,
    eval: eval_topk,
};
static NONZERO: OpDef = OpDef {
    name: "nonzero",
    doc: "Positions of the elements that are not 0, one row per axis (ONNX NonZero).",
    operands: &[operand("x", TypeSet::Any)],
    attrs: &[],
    results: Results::One,
    kind: Kind::Opaque,
    tolerance: Tolerance::Exact,
    examples: &["nonzero([[0, 5], [6, 0]]) = i64[[0, 1], [1, 0]]"],
    infer: infer_nonzero,
    eval: eval_nonzero,
};

pub(super) static FAMILIES: &[&[&OpDef]] = &[&[&ARGMAX, &ARGMIN, &TOPK, &NONZERO]];
