//! Selections: argmax, argmin, topk, nonzero.

use super::common::*;
use super::reduce::reduced_shape;
use crate::kernels::order;
use crate::op::*;
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Shape, TensorType};

fn infer_arg(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let x = &a.operands[0];
    let ax = axis(a.attrs, "axis", x.rank())?;
    flag(a.attrs, "last")?;
    if x.shape[ax] == Dim::Known(0) {
        return Err(OpError::shape(format!("no element along axis {ax} of {x}")));
    }
    Ok(vec![TensorType::new(DType::I64, reduced_shape(&x.shape, &[ax], flag(a.attrs, "keepdims")?))])
}

fn eval_arg(largest: bool, a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let x = &a.operands[0];
    let ax = axis(a.attrs, "axis", x.rank())?;
    let shape = static_result(infer_arg, a)?;
    Ok(vec![order::arg(x, ax, largest, flag(a.attrs, "last")?, &shape)])
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
    let shape = static_result(infer_topk, a)?;
    Ok(order::topk(x, int(a.attrs, "k")? as usize, ax, flag(a.attrs, "largest")?, &shape).to_vec())
}

fn infer_nonzero(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let rank = a.operands[0].rank().max(1);
    Ok(vec![TensorType::new(DType::I64, Shape(vec![Dim::from(rank), Dim::sym(&format!("{}.n", a.fresh))]))])
}
fn eval_nonzero(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    Ok(vec![order::nonzero(&a.operands[0])])
}

const X_ANY: &[OperandDef] = &[operand("x", TypeSet::Any)];
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
    operands: X_ANY,
    attrs: &[],
    results: Results::One,
    kind: Kind::Opaque,
    tolerance: Tolerance::Exact,
    examples: &["nonzero([[0, 5], [6, 0]]) = i64[[0, 1], [1, 0]]"],
    infer: infer_nonzero,
    eval: eval_nonzero,
};

pub(super) static FAMILIES: &[&[&OpDef]] = &[&[&ARGMAX, &ARGMIN, &TOPK, &NONZERO]];
