//! Gathers and scatters by integer indices.

use super::common::*;
use super::moves::copy;
use crate::kernel_eval::{self, Value};
use crate::numeric::Wide;
use crate::op::*;
use crate::scalar::Binary;
use crate::tensor::{Tensor, contiguous_strides};
use crate::types::{DType, Dim, Shape, TensorType};

/// Indices as positions; negative ones count from the end.
fn positions(t: &Tensor, n: usize) -> Result<Vec<usize>, OpError> {
    let v = t.cast(DType::I64).to_ints().unwrap_or_default();
    v.into_iter()
        .map(|i| {
            let p = if i < 0 { i + n as i64 } else { i };
            usize::try_from(p).ok().filter(|&p| p < n).ok_or_else(|| OpError::value(format!("index {i} is outside an axis of {n}")))
        })
        .collect()
}

/// A tensor of `shape` whose elements are `pairs` of the operand's storage.
fn picked(x: &Tensor, shape: &[usize], from: impl Iterator<Item = usize>) -> Result<Tensor, OpError> {
    budget(&TensorType::known(x.dtype(), shape))?;
    let pairs: Vec<(usize, usize)> = from.enumerate().map(|(o, i)| (i, o)).collect();
    // The view must be gone before its buffer can be taken: one element is contiguous as it is.
    let full = Tensor::full(x.dtype(), shape, 0.0);
    let whole = full.contiguous();
    drop(full);
    let mut out = whole.into_buffer().map_err(|_| OpError::value("gather: the result's buffer is shared"))?;
    copy(x.buffer(), &mut out, &pairs)?;
    Ok(Tensor::new(x.dtype(), shape, out))
}

fn infer_gather(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let (x, i) = (&a.operands[0], &a.operands[1]);
    let ax = axis(a.attrs, "axis", x.rank())?;
    let dims = x.shape.0[..ax].iter().chain(&i.shape.0).chain(&x.shape.0[ax + 1..]).cloned().collect();
    Ok(vec![TensorType::new(x.dtype, Shape(dims))])
}
fn eval_gather(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let ax = axis(a.attrs, "axis", a.operands[0].rank())?;
    Ok(vec![take(&a.operands[0], &a.operands[1], ax)?])
}
/// The slices of `x` along an axis that the indices name.
pub(super) fn take(x: &Tensor, i: &Tensor, ax: usize) -> Result<Tensor, OpError> {
    let x = x.contiguous();
    let n = x.shape()[ax];
    let at = positions(i, n)?;
    let inner: usize = x.shape()[ax + 1..].iter().product();
    let outer: usize = x.shape()[..ax].iter().product();
    let shape: Vec<usize> = x.shape()[..ax].iter().chain(i.shape()).chain(&x.shape()[ax + 1..]).copied().collect();
    let at = &at;
    let base = x.offset();
    let from = (0..outer).flat_map(move |o| at.iter().flat_map(move |&p| (0..inner).map(move |k| base + (o * n + p) * inner + k)));
    picked(&x, &shape, from)
}

fn infer_elements(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let (x, i) = (&a.operands[0], &a.operands[1]);
    axis(a.attrs, "axis", x.rank())?;
    if x.rank() != i.rank() {
        return Err(OpError::shape(format!("indices {i} must have the rank of {x}")).mark(1, format!("must have rank {}", x.rank())));
    }
    Ok(vec![TensorType::new(x.dtype, i.shape.clone())])
}
/// Storage positions in `x` that indices along an axis name, element by element.
fn element_positions(x: &Tensor, i: &Tensor, ax: usize) -> Result<Vec<usize>, OpError> {
    let at = positions(i, x.shape()[ax])?;
    at.into_iter()
        .enumerate()
        .map(|(e, p)| {
            let (mut rest, mut o) = (e, x.offset() as isize);
            for d in (0..i.rank()).rev() {
                let c = rest % i.shape()[d];
                rest /= i.shape()[d];
                let c = if d == ax { p } else { c };
                if c >= x.shape()[d] {
                    return Err(OpError::value(format!("indices {} reach outside {}", i.ty(), x.ty())));
                }
                o += c as isize * x.strides()[d];
            }
            Ok(o as usize)
        })
        .collect()
}
fn eval_elements(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let (x, i) = (&a.operands[0], &a.operands[1]);
    let ax = axis(a.attrs, "axis", x.rank())?;
    Ok(vec![picked(x, i.shape(), element_positions(x, i, ax)?.into_iter())?])
}

fn infer_nd(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let (x, i) = (&a.operands[0], &a.operands[1]);
    let batch = int(a.attrs, "batch_dims")? as usize;
    let Some(last) = i.shape.0.last() else { return Err(OpError::shape("indices must have an axis").mark(1, "must have rank 1 or more")) };
    let Some(q) = last.known() else {
        return Err(OpError::shape("the last extent of the indices must be known").mark(1, "last extent must be a number"));
    };
    let q = q as usize;
    if batch >= i.rank() || batch + q > x.rank() {
        return Err(OpError::shape(format!("indices of {q} numbers and {batch} batch axes do not fit {x}"))
            .mark(1, format!("last extent must be at most {}", x.rank().saturating_sub(batch))));
    }
    for d in 0..batch {
        if matches!((&x.shape[d], &i.shape[d]), (Dim::Known(m), Dim::Known(n)) if m != n) {
            return Err(OpError::shape(format!("batch axis {d} is {} in {x} and {} in {i}", x.shape[d], i.shape[d]))
                .mark(1, format!("axis {d} must be {}", x.shape[d])));
        }
    }
    let dims = i.shape.0[..i.rank() - 1].iter().chain(&x.shape.0[batch + q..]).cloned().collect();
    Ok(vec![TensorType::new(x.dtype, Shape(dims))])
}
/// Start of each slice that n-d indices name, and the slice's length.
fn slices(x: &Tensor, i: &Tensor, batch: usize) -> Result<(Vec<usize>, usize), OpError> {
    let q = *i.shape().last().unwrap_or(&0);
    if x.shape()[..batch] != i.shape()[..batch] {
        return Err(OpError::value(format!("batch axes of {} and {} differ", x.ty(), i.ty())));
    }
    let v = i.cast(DType::I64).to_ints().unwrap_or_default();
    let strides = contiguous_strides(x.shape());
    let len: usize = x.shape()[batch + q..].iter().product();
    let per_batch: usize = i.shape()[batch..i.rank() - 1].iter().product();
    let block: usize = x.shape()[batch..].iter().product();
    // Tuples of no numbers name the whole of x, once per tuple.
    let count = v.len().checked_div(q).unwrap_or_else(|| i.shape()[..i.rank() - 1].iter().product());
    let starts = (0..count)
        .map(|c| {
            let mut o = c / per_batch.max(1) * block;
            for k in 0..q {
                let n = x.shape()[batch + k] as i64;
                let i = v[c * q + k];
                let p = if i < 0 { i + n } else { i };
                if p < 0 || p >= n {
                    return Err(OpError::value(format!("index {i} is outside an axis of {n}")));
                }
                o += p as usize * strides[batch + k] as usize;
            }
            Ok(o)
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok((starts, len))
}
fn eval_nd(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let (x, i) = (a.operands[0].contiguous(), &a.operands[1]);
    let batch = int(a.attrs, "batch_dims")? as usize;
    let q = *i.shape().last().unwrap_or(&0);
    let (starts, len) = slices(&x, i, batch)?;
    let shape: Vec<usize> = i.shape()[..i.rank() - 1].iter().chain(&x.shape()[batch + q..]).copied().collect();
    let base = x.offset();
    Ok(vec![picked(&x, &shape, starts.into_iter().flat_map(|s| (0..len).map(move |k| base + s + k)))?])
}

fn infer_scatter(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    if a.operands[0].dtype != a.operands[2].dtype {
        return Err(OpError::dtype("updates have another type than the data").mark(2, format!("must be {}", a.operands[0].dtype)));
    }
    reduction(a.attrs)?;
    Ok(vec![a.operands[0].clone()])
}
fn reduction(a: &crate::attr::Attrs) -> Result<Option<Binary>, OpError> {
    Ok(match a.str("reduction") {
        Some("none") => None,
        Some("add") => Some(Binary::Add),
        Some("mul") => Some(Binary::Mul),
        Some("max") => Some(Binary::Max),
        Some("min") => Some(Binary::Min),
        other => return Err(OpError::attr(format!("reduction {other:?} must be none, add, mul, max or min"))),
    })
}
/// Writes `updates[i]` to `at[i]`, combined with what is there.
fn scatter(x: &Tensor, at: &[usize], updates: &Tensor, how: Option<Binary>) -> Result<Tensor, OpError> {
    let d = x.dtype();
    Ok(match (x.wide(), updates.wide()) {
        (Wide::F(mut v), Wide::F(u)) => {
            for (&p, u) in at.iter().zip(u) {
                v[p] = match how {
                    None => u,
                    Some(op) => match kernel_eval::fit(kernel_eval::binary(op, Value::F(v[p]), Value::F(u), d), d) {
                        Value::F(y) => y,
                        Value::I(y) => y as f64,
                    },
                };
            }
            Tensor::from_f64s(d, x.shape(), &v)
        }
        (Wide::I(mut v), Wide::I(u)) => {
            for (&p, u) in at.iter().zip(u) {
                v[p] = match how {
                    None => u,
                    Some(op) => match kernel_eval::binary(op, Value::I(v[p]), Value::I(u), d) {
                        Value::I(y) => y,
                        Value::F(y) => y as i64,
                    },
                };
            }
            Tensor::from_i64s(d, x.shape(), &v)
        }
        _ => return Err(OpError::dtype("updates of another kind")),
    })
}
fn eval_scatter_elements(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let (x, i, u) = (a.operands[0].contiguous(), &a.operands[1], &a.operands[2]);
    if i.shape() != u.shape() || i.rank() != x.rank() {
        return Err(OpError::shape(format!("indices {} and updates {} must have one shape", i.ty(), u.ty())));
    }
    let ax = axis(a.attrs, "axis", x.rank())?;
    let at: Vec<usize> = element_positions(&x, i, ax)?.into_iter().map(|p| p - x.offset()).collect();
    Ok(vec![scatter(&x, &at, u, reduction(a.attrs)?)?])
}
fn eval_scatter_nd(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let (x, i, u) = (a.operands[0].contiguous(), &a.operands[1], &a.operands[2]);
    if i.rank() == 0 || *i.shape().last().unwrap_or(&0) > x.rank() {
        return Err(OpError::shape(format!("indices {} do not fit {}", i.ty(), x.ty())));
    }
    let (starts, len) = slices(&x, i, 0)?;
    let at: Vec<usize> = starts.into_iter().flat_map(|s| s..s + len).collect();
    if at.len() != u.len() {
        return Err(OpError::shape(format!("{} updates for {} elements", u.len(), at.len())));
    }
    Ok(vec![scatter(&x, &at, u, reduction(a.attrs)?)?])
}

const XI: &[OperandDef] = &[operand("x", TypeSet::Any), operand("indices", TypeSet::Int)];
const XIU: &[OperandDef] = &[operand("x", TypeSet::Any), operand("indices", TypeSet::Int), operand("updates", TypeSet::Any)];

macro_rules! rows { ($($id:ident $n:literal $kind:ident $operands:ident [$($an:literal $at:ident),*] $infer:ident $eval:ident $doc:literal $ex:literal;)*) => {
    $(static $id: OpDef = OpDef { name: $n, doc: $doc, operands: $operands, attrs: &[$(attr($an, AttrType::$at)),*], results: Results::One, kind: Kind::$kind,
        tolerance: Tolerance::Exact, examples: &[$ex], infer: $infer, eval: $eval };)*
    pub(super) static FAMILIES: &[&[&OpDef]] = &[&[$(&$id),*]];
} }

rows! {
    GATHER "gather" Gather XI ["axis" Int] infer_gather eval_gather "x at indices along an axis; negative indices count from the end (ONNX Gather)." "gather([10, 20, 30], i64[2, 0], axis=0) = [30, 10]";
    GATHER_ELEMENTS "gather_elements" Gather XI ["axis" Int] infer_elements eval_elements "x at (i₀, …, indices[i], …), element by element (ONNX GatherElements)." "gather_elements([[1, 2], [3, 4]], i64[[1, 0]], axis=0) = [[3, 2]]";
    GATHER_ND "gather_nd" Gather XI ["batch_dims" Int] infer_nd eval_nd "Slices of x at index tuples (ONNX GatherND)." "gather_nd([[1, 2], [3, 4]], i64[[1, 0], [0, 1]], batch_dims=0) = [3, 2]";
    SCATTER_ELEMENTS "scatter_elements" Scatter XIU ["axis" Int, "reduction" Str] infer_scatter eval_scatter_elements "x with updates written at (i₀, …, indices[i], …) (ONNX ScatterElements)." "scatter_elements([1, 2, 3], i64[2], [9], axis=0, reduction=\"none\") = [1, 2, 9]";
    SCATTER_ND "scatter_nd" Scatter XIU ["reduction" Str] infer_scatter eval_scatter_nd "x with slices written at index tuples (ONNX ScatterND)." "scatter_nd([1, 2, 3], i64[[0], [0]], [5, 6], reduction=\"add\") = [12, 2, 3]";
}
