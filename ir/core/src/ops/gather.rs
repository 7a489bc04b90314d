//! Gathers and scatters by integer indices.

use super::common::*;
use crate::kernels::cast::{narrow, widen};
use crate::kernels::gather::{self, positions};
use crate::kernels::scalar::{Int, by_int};
use crate::kernels::{Loops, by_storage};
use crate::op::*;
use crate::scalar::Binary;
use crate::tensor::{Tensor, contiguous_strides};
use crate::types::{DType, Dim, Shape, TensorType};

fn infer_gather(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let (x, i) = (&a.operands[0], &a.operands[1]);
    let ax = axis(a.attrs, "axis", x.rank())?;
    let dims = x.shape.0[..ax].iter().chain(&i.shape.0).chain(&x.shape.0[ax + 1..]).cloned().collect();
    Ok(vec![TensorType::new(x.dtype, Shape(dims))])
}
fn eval_gather(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let (x, i) = (&a.operands[0], &a.operands[1]);
    static_result(infer_gather, a)?;
    let ax = axis(a.attrs, "axis", x.rank())?;
    let at = positions(i, x.shape()[ax])?;
    Ok(vec![gather::along(x, ax, &at, i.shape())])
}

fn infer_elements(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let (x, i) = (&a.operands[0], &a.operands[1]);
    axis(a.attrs, "axis", x.rank())?;
    if x.rank() != i.rank() {
        return Err(OpError::shape(format!("indices {i} must have the rank of {x}")).mark(1, format!("must have rank {}", x.rank())));
    }
    Ok(vec![TensorType::new(x.dtype, i.shape.clone())])
}
/// Positions in `x` (row-major) that indices along an axis name, element by element.
fn element_positions(x: &Tensor, i: &Tensor, ax: usize) -> Result<Vec<usize>, OpError> {
    let strides = contiguous_strides(x.shape());
    if i.is_empty() {
        return Ok(vec![]);
    }
    if (0..x.rank()).any(|d| d != ax && i.shape()[d] > x.shape()[d]) {
        return Err(OpError::value(format!("indices {} reach outside {}", i.ty(), x.ty()))
            .mark(1, format!("must be no larger than {}", x.ty().shape)));
    }
    // Where each index stands, without the axis itself, and the axis by its value.
    let place: Vec<isize> = (0..x.rank()).map(|d| if d == ax { 0 } else { strides[d] }).collect();
    let loops = Loops::of(i.shape(), [place], [0]);
    let [step] = loops.inner();
    let mut at = positions(i, x.shape()[ax])?;
    let n = at.len();
    loops.rows(0, n, |p, len, [o]| {
        for (k, v) in at[p..p + len].iter_mut().enumerate() {
            *v = *v * strides[ax] as usize + o + k * step as usize;
        }
    });
    Ok(at)
}
fn eval_elements(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let (x, i) = (&a.operands[0], &a.operands[1]);
    let ax = axis(a.attrs, "axis", x.rank())?;
    Ok(vec![gather::pick(x, i.shape(), &element_positions(x, i, ax)?)])
}

fn infer_nd(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let (x, i) = (&a.operands[0], &a.operands[1]);
    let batch = int(a.attrs, "batch_dims")?;
    let batch = usize::try_from(batch).map_err(|_| OpError::attr(format!("batch_dims = {batch} cannot be negative")))?;
    let Some(last) = i.shape.0.last() else { return Err(OpError::shape("indices must have an axis").mark(1, "must have rank 1 or more")) };
    let q = number(last, "the last extent of the indices").map_err(|e| e.mark(1, "last extent must be a number"))?;
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
    let (x, i) = (&a.operands[0], &a.operands[1]);
    let shape = static_result(infer_nd, a)?;
    let batch = int(a.attrs, "batch_dims")? as usize;
    let (starts, len) = slices(x, i, batch)?;
    Ok(vec![gather::blocks(x, &shape, &starts, len)])
}

fn scattered(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    if a.operands[0].dtype != a.operands[2].dtype {
        return Err(OpError::dtype("updates have another type than the data").mark(2, format!("must be {}", a.operands[0].dtype)));
    }
    reduction(a.attrs)?;
    Ok(vec![a.operands[0].clone()])
}
/// Whether two shapes can be the same.
fn agree(x: &[Dim], y: &[Dim]) -> bool {
    x.len() == y.len() && x.iter().zip(y).all(|(a, b)| a.known().zip(b.known()).is_none_or(|(a, b)| a == b))
}
fn infer_scatter_elements(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let (x, i, u) = (&a.operands[0], &a.operands[1], &a.operands[2]);
    axis(a.attrs, "axis", x.rank())?;
    if i.rank() != x.rank() {
        return Err(OpError::shape(format!("indices {i} must have the rank of {x}")).mark(1, format!("must have rank {}", x.rank())));
    }
    if !agree(&i.shape.0, &u.shape.0) {
        return Err(
            OpError::shape(format!("indices {i} and updates {u} must have one shape")).mark(2, format!("must have shape {}", i.shape))
        );
    }
    scattered(a)
}
fn infer_scatter_nd(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let (x, i, u) = (&a.operands[0], &a.operands[1], &a.operands[2]);
    let Some(last) = i.shape.0.last() else { return Err(OpError::shape("indices must have an axis").mark(1, "must have rank 1 or more")) };
    if let Some(q) = last.known() {
        let q = q as usize;
        if q > x.rank() {
            return Err(
                OpError::shape(format!("index tuples of {q} numbers for {x}")).mark(1, format!("last extent must be at most {}", x.rank()))
            );
        }
        let want: Vec<Dim> = i.shape.0[..i.rank() - 1].iter().chain(&x.shape.0[q..]).cloned().collect();
        if !agree(&want, &u.shape.0) {
            let want = Shape(want);
            return Err(OpError::shape(format!("updates {u} do not fit indices {i} into {x}")).mark(2, format!("must have shape {want}")));
        }
    }
    scattered(a)
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
/// `x` with `updates[i]` combined into position `at[i]`.
fn scatter(x: &Tensor, at: &[usize], updates: &Tensor, how: Option<Binary>) -> Result<Tensor, OpError> {
    let d = x.dtype();
    let Some(how) = how else {
        return Ok(by_storage!(x.buffer(), T => gather::scatter::<T>(x, at, updates, |_, u| u)));
    };
    // Combined in the compute type (small floats widen, and round once at the end).
    if d.is_float() {
        let (x, u) = (widen(x), widen(updates));
        macro_rules! go {
            ($t:ident) => {
                match how {
                    Binary::Add => gather::scatter::<$t>(&x, at, &u, |a, b| a + b),
                    Binary::Mul => gather::scatter::<$t>(&x, at, &u, |a, b| a * b),
                    Binary::Max => gather::scatter::<$t>(&x, at, &u, |a, b| if b > a || b.is_nan() { b } else { a }),
                    _ => gather::scatter::<$t>(&x, at, &u, |a, b| if b < a || b.is_nan() { b } else { a }),
                }
            };
        }
        let out = if x.dtype() == DType::F64 { go!(f64) } else { go!(f32) };
        return Ok(narrow(out, d));
    }
    let out = by_int!(d, T => gather::scatter::<T>(x, at, updates, <T as Int>::binary(how)));
    // Sub-byte integers wrap; bool stays 0 or 1.
    let storage = if d.is_signed_int() { DType::I8 } else { DType::U8 };
    Ok(if d.bits() < 8 || d == DType::Bool { out.with_dtype(storage).cast(d) } else { out })
}
fn eval_scatter_elements(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let (x, i, u) = (&a.operands[0], &a.operands[1], &a.operands[2]);
    let ax = axis(a.attrs, "axis", x.rank())?;
    Ok(vec![scatter(x, &element_positions(x, i, ax)?, u, reduction(a.attrs)?)?])
}
fn eval_scatter_nd(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let (x, i, u) = (&a.operands[0], &a.operands[1], &a.operands[2]);
    let (starts, len) = slices(x, i, 0)?;
    let at: Vec<usize> = starts.into_iter().flat_map(|s| s..s + len).collect();
    if at.len() != u.len() {
        return Err(OpError::shape(format!("{} updates for {} elements", u.len(), at.len())));
    }
    Ok(vec![scatter(x, &at, u, reduction(a.attrs)?)?])
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
    SCATTER_ELEMENTS "scatter_elements" Scatter XIU ["axis" Int, "reduction" Str] infer_scatter_elements eval_scatter_elements "x with updates written at (i₀, …, indices[i], …) (ONNX ScatterElements)." "scatter_elements([1, 2, 3], i64[2], [9], axis=0, reduction=\"none\") = [1, 2, 9]";
    SCATTER_ND "scatter_nd" Scatter XIU ["reduction" Str] infer_scatter_nd eval_scatter_nd "x with slices written at index tuples (ONNX ScatterND)." "scatter_nd([1, 2, 3], i64[[0], [0]], [5, 6], reduction=\"add\") = [12, 2, 3]";
}
