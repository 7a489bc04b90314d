//! Contractions: matmul and convolution, through a blocked gemm with f32 (f64, integer) sums.

use super::common::*;
use super::moves::reshape;
use super::reduce::{geometry, window_shape};
use crate::kernels::contract;
use crate::op::*;
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Shape, TensorType};

fn same_types(a: &InferArgs) -> Result<DType, OpError> {
    let (x, y) = (a.operands[0].dtype, a.operands[1].dtype);
    if x != y {
        return Err(OpError::dtype(format!("operands have different types, {x} and {y}")).mark(1, format!("must be {x}")));
    }
    Ok(x)
}

fn infer_matmul(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let d = same_types(a)?;
    let (x, y) = (&a.operands[0].shape, &a.operands[1].shape);
    if x.rank() == 0 || y.rank() == 0 {
        return Err(OpError::shape("a scalar cannot be contracted").mark(usize::from(x.rank() != 0), "must have an axis"));
    }
    let k = &x[x.rank() - 1];
    let ky = &y[y.rank().saturating_sub(2)];
    if let (Some(p), Some(q)) = (k.known(), ky.known())
        && p != q
    {
        return Err(OpError::shape(format!("inner extents differ, {p} and {q}"))
            .mark(1, format!("axis {} must be {p}", y.rank().saturating_sub(2)))
            .note(format!("a[…, m, k] · b[…, k, n]: the last extent of a ({p}) and the last but one of b ({q}) must be equal")));
    }
    let lead = |s: &Shape| Shape(s.0[..s.rank().saturating_sub(2)].to_vec());
    let mut out = broadcast_shapes(&[&lead(x), &lead(y)])?.0;
    if x.rank() > 1 {
        out.push(x[x.rank() - 2].clone());
    }
    if y.rank() > 1 {
        out.push(y[y.rank() - 1].clone());
    }
    Ok(vec![TensorType::new(d, Shape(out))])
}

fn eval_matmul(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let (x, y) = (&a.operands[0], &a.operands[1]);
    let shape = static_result(infer_matmul, a)?;
    // 1-D operands become a row or a column, and their axis leaves the result again.
    let row = if x.rank() == 1 { x.view(&[1, x.len()], &[0, x.strides()[0]], x.offset()) } else { x.clone() };
    let column = if y.rank() == 1 { y.view(&[y.len(), 1], &[y.strides()[0], 0], y.offset()) } else { y.clone() };
    let mut full = shape.clone();
    if y.rank() == 1 {
        full.push(1);
    }
    if x.rank() == 1 {
        full.insert(full.len() - 1, 1);
    }
    Ok(vec![reshape(&contract::matmul(&row, &column, &full), &shape)])
}

fn infer_conv(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let d = same_types(a)?;
    let (x, w) = (&a.operands[0], &a.operands[1]);
    let groups = int(a.attrs, "groups")?;
    if groups < 1 {
        return Err(OpError::attr(format!("groups = {groups} must be positive")));
    }
    if w.rank() < 3 || x.rank() != w.rank() {
        return Err(OpError::shape(format!("input {x} and weight {w} must have one rank of at least 3"))
            .mark(1, format!("must have rank {}", x.rank().max(3))));
    }
    let kernel = numbers(&Shape(w.shape.0[2..].to_vec())).map_err(|e| e.mark(1, "the kernel must be known"))?;
    let g = groups as u64;
    if let (Some(c), Some(per)) = (x.shape[1].known(), w.shape[1].known())
        && c != per.saturating_mul(g)
    {
        return Err(OpError::shape(format!("input has {c} channels, the weight takes {per} in each of {groups} groups"))
            .mark(0, format!("axis 1 must be {}", per.saturating_mul(g)))
            .mark(1, "axis 1 times groups must be the input's channels"));
    }
    if let Some(m) = w.shape[0].known()
        && m % g != 0
    {
        return Err(OpError::shape(format!("{m} output channels do not divide by {groups} groups"))
            .mark(1, format!("axis 0 must be a multiple of {groups}")));
    }
    let window: Vec<i64> = kernel.iter().map(|&k| k as i64).collect();
    let spatial = window_shape(a, x, &window)?;
    let dims: Vec<Dim> = [x.shape[0].clone(), w.shape[0].clone()].into_iter().chain(spatial).collect();
    Ok(vec![TensorType::new(d, Shape(dims))])
}

fn eval_conv(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let (x, w) = (&a.operands[0], &a.operands[1]);
    let shape = static_result(infer_conv, a)?;
    let g = geometry(a, x, &w.shape()[2..], &shape)?;
    Ok(vec![contract::conv(x, w, &g, int(a.attrs, "groups")? as usize, &shape)])
}

static MATMUL: OpDef = OpDef {
    name: "matmul",
    doc: "Σₖ a[…, m, k]·b[…, k, n] with numpy's batch broadcasting and 1-D operands. 16-bit floats are summed in f32, integers wrap.",
    operands: &[operand("a", TypeSet::Number), operand("b", TypeSet::Number)],
    attrs: &[],
    results: Results::One,
    kind: Kind::Contract(Contract::MatMul),
    tolerance: Tolerance::Reassociated(1e-6),
    examples: &["matmul([[1, 2], [3, 4]], [[5], [6]]) = [[17], [39]]"],
    infer: infer_matmul,
    eval: eval_matmul,
};
static CONV: OpDef = OpDef {
    name: "conv",
    doc: "Convolution (cross-correlation) of x[N, C, …] with w[M, C/groups, …]; pads are all begins, then all ends (ONNX Conv without bias).",
    operands: &[operand("x", TypeSet::Number), operand("w", TypeSet::Number)],
    attrs: &[
        attr("strides", AttrType::Ints),
        attr("pads", AttrType::Ints),
        attr("dilations", AttrType::Ints),
        attr("groups", AttrType::Int),
    ],
    results: Results::One,
    kind: Kind::Contract(Contract::Conv),
    tolerance: Tolerance::Reassociated(1e-6),
    examples: &["conv([[[1, 2, 3]]], [[[1, 10]]], strides=[1], pads=[0, 0], dilations=[1], groups=1) = [[[21, 32]]]"],
    infer: infer_conv,
    eval: eval_conv,
};

pub(super) static FAMILIES: &[&[&OpDef]] = &[&[&MATMUL, &CONV]];
