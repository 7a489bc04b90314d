//! Ops whose shape operands are tensors: what importers write while a shape is not known, and what becomes a plain move once it is.
//!
//! Each infers numbers where its operands are constants and fresh symbols where not; [`canonical`] writes the static op instead when it can.

use super::common::*;
use super::moves::reshape;
use crate::attr::Attrs;
use crate::graph::{Builder, ValueId};
use crate::op::*;
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Shape, TensorType};

fn constant_ints(a: &InferArgs, i: usize) -> Option<Vec<i64>> {
    a.consts.get(i).copied().flatten().and_then(Tensor::to_ints)
}
/// Symbols for a result of unknown extents.
fn fresh(a: &InferArgs, rank: usize) -> Shape {
    Shape((0..rank).map(|i| Dim::sym(&format!("{}.{i}", a.fresh))).collect())
}
/// Rank of a result whose shape is operand `i`.
fn rank_of_shape(a: &InferArgs, i: usize) -> Result<usize, OpError> {
    let t = &a.operands[i];
    match (t.rank(), t.shape.0.first().and_then(Dim::known)) {
        (1, Some(n)) => Ok(n as usize),
        _ => Err(OpError::new("E0209", format!("a shape of type {t}: its length must be known")).mark(i, "must be i64[n] with n known")),
    }
}

fn infer_shape_of(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    Ok(vec![TensorType::known(DType::I64, &[a.operands[0].rank()])])
}
fn eval_shape_of(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let s: Vec<i64> = a.operands[0].shape().iter().map(|&n| n as i64).collect();
    Ok(vec![Tensor::i64(&[s.len()], s)])
}

/// The shape with its one −1 resolved.
fn final_shape(elements: Option<u64>, shape: &[i64]) -> Result<Option<Vec<i64>>, OpError> {
    let open: Vec<usize> = (0..shape.len()).filter(|&i| shape[i] == -1).collect();
    if shape.iter().any(|&n| n < -1) || open.len() > 1 {
        return Err(OpError::shape(format!("{shape:?} is no shape: extents are 0 or more, and at most one is -1")));
    }
    let Some(&at) = open.first() else { return Ok(Some(shape.to_vec())) };
    let Some(n) = elements else { return Ok(None) };
    let rest = shape.iter().filter(|&&n| n != -1).try_fold(1u64, |p, &n| p.checked_mul(n as u64)).unwrap_or(u64::MAX);
    if rest == 0 || n % rest != 0 {
        return Err(OpError::shape(format!("{n} elements do not fill {shape:?}")));
    }
    let mut out = shape.to_vec();
    out[at] = (n / rest) as i64;
    Ok(Some(out))
}
fn infer_reshape_to(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let x = &a.operands[0];
    let Some(shape) = constant_ints(a, 1) else {
        let rank = rank_of_shape(a, 1)?;
        return Ok(vec![TensorType::new(x.dtype, fresh(a, rank))]);
    };
    let dims = match final_shape(x.shape.elements(), &shape)? {
        Some(s) => s.iter().map(|&n| Dim::Known(n as u64)).collect(),
        None => shape
            .iter()
            .enumerate()
            .map(|(i, &n)| if n < 0 { Dim::sym(&format!("{}.{i}", a.fresh)) } else { Dim::Known(n as u64) })
            .collect(),
    };
    let t = TensorType::new(x.dtype, Shape(dims));
    if let (Some(p), Some(q)) = (x.shape.elements(), t.shape.elements())
        && p != q
    {
        return Err(
            OpError::shape(format!("cannot reshape {x} with {p} elements to {}", t.shape)).mark(0, format!("must have {q} elements"))
        );
    }
    Ok(vec![t])
}
fn eval_reshape_to(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let shape = a.operands[1].to_ints().ok_or_else(|| OpError::value("a shape must be integers"))?;
    let s = final_shape(Some(a.operands[0].len() as u64), &shape)?.unwrap_or_default();
    let s: Vec<usize> = s.iter().map(|&n| n as usize).collect();
    if s.iter().try_fold(1usize, |p, &n| p.checked_mul(n)) != Some(a.operands[0].len()) {
        return Err(OpError::value(format!("cannot reshape {} to {s:?}", a.operands[0].ty())));
    }
    Ok(vec![reshape(&a.operands[0], &s)])
}

fn shape_from(v: &[i64]) -> Result<Shape, OpError> {
    v.iter()
        .map(|&n| u64::try_from(n).map(Dim::Known).map_err(|_| OpError::shape(format!("{v:?} has a negative extent"))))
        .collect::<Result<_, _>>()
        .map(Shape)
}
fn infer_broadcast_to(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let x = &a.operands[0];
    let shape = match constant_ints(a, 1) {
        Some(s) => broadcast_shapes(&[&x.shape, &shape_from(&s)?])?,
        None => fresh(a, rank_of_shape(a, 1)?.max(x.rank())),
    };
    Ok(vec![TensorType::new(x.dtype, shape)])
}
fn eval_broadcast_to(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let s = a.operands[1].to_ints().ok_or_else(|| OpError::value("a shape must be integers"))?;
    let t = TensorType::new(a.operands[0].dtype(), broadcast_shapes(&[&a.operands[0].ty().shape, &shape_from(&s)?])?);
    budget(&t)?;
    Ok(vec![broadcast_to(&a.operands[0], &t.shape.to_static().unwrap_or_default())])
}

/// First element, count and step per axis of ONNX's Slice.
pub fn slice_spans(shape: &[usize], starts: &[i64], ends: &[i64], axes: &[i64], steps: &[i64]) -> Result<[Vec<i64>; 3], OpError> {
    let rank = shape.len();
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return Err(OpError::attr("starts, ends, axes and steps must have one length"));
    }
    let (mut s, mut n, mut t) = (vec![0; rank], shape.iter().map(|&d| d as i64).collect::<Vec<_>>(), vec![1; rank]);
    for k in 0..starts.len() {
        let ax = if axes[k] < 0 { axes[k] + rank as i64 } else { axes[k] };
        let ax = usize::try_from(ax)
            .ok()
            .filter(|&x| x < rank)
            .ok_or_else(|| OpError::attr(format!("axis {} of a value of rank {rank}", axes[k])))?;
        let (dim, step) = (shape[ax] as i64, steps[k]);
        if step == 0 {
            return Err(OpError::attr("a step cannot be 0"));
        }
        let wrap = |v: i64| if v < 0 { v.saturating_add(dim) } else { v };
        let (lo, hi) = if step > 0 { (0, dim) } else { (-1, dim - 1) };
        let (start, end) = (wrap(starts[k]).clamp(lo.max(0), hi.max(0)), wrap(ends[k]).clamp(lo, hi));
        let span = if step > 0 { end - start } else { start - end };
        let count = if dim == 0 || span <= 0 { 0 } else { (span as u64 - 1) / step.unsigned_abs() + 1 };
        s[ax] = if count == 0 { 0 } else { start };
        n[ax] = count as i64;
        t[ax] = step.clamp(-dim.max(1), dim.max(1));
    }
    Ok([s, n, t])
}
fn infer_slice_to(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let x = &a.operands[0];
    let v: Option<Vec<Vec<i64>>> = (1..5).map(|i| constant_ints(a, i)).collect();
    let Some(v) = v else { return Ok(vec![TensorType::new(x.dtype, fresh(a, x.rank()))]) };
    // Open axes stay as they are unless they are cut.
    let cut: Vec<usize> = v[2].iter().map(|&ax| if ax < 0 { ax + x.rank() as i64 } else { ax } as usize).collect();
    let stand_in: Vec<usize> = x.shape.0.iter().map(|d| d.known().unwrap_or(0) as usize).collect();
    let [_, sizes, _] = slice_spans(&stand_in, &v[0], &v[1], &v[2], &v[3])?;
    let dims = x.shape.0.iter().enumerate().map(|(i, d)| match d {
        Dim::Known(_) => Dim::Known(sizes[i] as u64),
        Dim::Sym(_) if cut.contains(&i) => Dim::sym(&format!("{}.{i}", a.fresh)),
        d => d.clone(),
    });
    Ok(vec![TensorType::new(x.dtype, Shape(dims.collect()))])
}
fn eval_slice_to(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let x = &a.operands[0];
    let v: Vec<Vec<i64>> = a.operands[1..]
        .iter()
        .map(|t| t.to_ints().ok_or_else(|| OpError::value("slice positions must be integers")))
        .collect::<Result<_, _>>()?;
    let [s, n, t] = slice_spans(x.shape(), &v[0], &v[1], &v[2], &v[3])?;
    let shape: Vec<usize> = n.iter().map(|&n| n as usize).collect();
    if shape.contains(&0) {
        return Ok(vec![Tensor::full(x.dtype(), &[], 0.0).view(&shape, &vec![0; shape.len()], 0)]);
    }
    let offset = x.offset() as isize + s.iter().zip(x.strides()).map(|(&s, &t)| s as isize * t).sum::<isize>();
    let strides: Vec<isize> = t.iter().zip(x.strides()).map(|(&s, &t)| s as isize * t).collect();
    Ok(vec![x.view(&shape, &strides, offset as usize)])
}

fn infer_tile(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let x = &a.operands[0];
    let Some(r) = constant_ints(a, 1) else { return Ok(vec![TensorType::new(x.dtype, fresh(a, x.rank()))]) };
    if r.len() != x.rank() || r.iter().any(|&r| r < 0) {
        return Err(OpError::attr(format!("repeats {r:?} must be {} numbers from 0 up", x.rank())));
    }
    let dims = x.shape.0.iter().zip(&r).enumerate().map(|(i, (d, &r))| match d.known().and_then(|n| n.checked_mul(r as u64)) {
        Some(n) => Dim::Known(n),
        None => Dim::sym(&format!("{}.{i}", a.fresh)),
    });
    Ok(vec![TensorType::new(x.dtype, Shape(dims.collect()))])
}
fn eval_tile(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let x = &a.operands[0];
    let r = a.operands[1].to_ints().ok_or_else(|| OpError::value("repeats must be integers"))?;
    if r.len() != x.rank() || r.iter().any(|&r| r < 0) {
        return Err(OpError::value(format!("repeats {r:?} must be {} numbers from 0 up", x.rank())));
    }
    let (mut wide, mut strides, mut out) = (vec![], vec![], vec![]);
    for (d, &r) in r.iter().enumerate() {
        wide.extend([r as usize, x.shape()[d]]);
        strides.extend([0, x.strides()[d]]);
        out.push((r as usize).saturating_mul(x.shape()[d]));
    }
    budget(&TensorType::known(x.dtype(), &out))?;
    Ok(vec![reshape(&x.view(&wide, &strides, x.offset()), &out)])
}

fn infer_range(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let d = a.operands[0].dtype;
    let consts: Option<Vec<f64>> = (0..3).map(|i| a.consts.get(i).copied().flatten().and_then(|t| t.to_f64s().first().copied())).collect();
    let t = match consts {
        Some(v) => TensorType::known(d, &[range_count(&v)?]),
        None => TensorType::new(d, fresh(a, 1)),
    };
    budget(&t)?;
    Ok(vec![t])
}
fn range_count(v: &[f64]) -> Result<usize, OpError> {
    if v[2] == 0.0 || v.iter().any(|x| !x.is_finite()) {
        return Err(OpError::value(format!("cannot count from {} to {} by {}", v[0], v[1], v[2])));
    }
    let n = ((v[1] - v[0]) / v[2]).ceil().max(0.0);
    if n * 8.0 > MAX_BYTES as f64 { Err(OpError::new("E0107", format!("asks for {n} numbers"))) } else { Ok(n as usize) }
}
fn eval_range(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let v: Option<Vec<f64>> = a.operands.iter().map(|t| t.to_f64s().first().copied()).collect();
    let v = v.ok_or_else(|| OpError::value("start, limit and delta are one number each"))?;
    let n = range_count(&v)?;
    let all: Vec<f64> = (0..n).map(|i| v[0] + i as f64 * v[2]).collect();
    Ok(vec![Tensor::from_f64s(a.operands[0].dtype(), &[n], &all)])
}

fn infer_constant_of_shape(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let t = a.attrs.tensor("value").ok_or_else(|| OpError::attr("value must be a tensor"))?;
    let shape = match constant_ints(a, 0) {
        Some(s) => shape_from(&s)?,
        None => fresh(a, rank_of_shape(a, 0)?),
    };
    let t = TensorType::new(t.dtype(), shape);
    budget(&t)?;
    Ok(vec![t])
}
fn eval_constant_of_shape(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let t = a.attrs.tensor("value").ok_or_else(|| OpError::attr("value must be a tensor"))?;
    let s = shape_from(&a.operands[0].to_ints().ok_or_else(|| OpError::value("a shape must be integers"))?)?;
    budget(&TensorType::new(t.dtype(), s.clone()))?;
    let s = s.to_static().unwrap_or_default();
    Ok(vec![t.view(&s, &vec![0; s.len()], t.offset())])
}

/// Writes `reshape_to`, `broadcast_to`, `slice_to`, `tile`, `range`, `constant_of_shape` or `shape_of` as the static op where its
/// shape operands are constants and the types are numbers; else as it is.
pub fn canonical(b: &mut Builder, name: &str, x: &[ValueId], attrs: Attrs) -> Result<ValueId, OpError> {
    let known = |b: &Builder, i: usize| x.get(i).and_then(|v| b.constant_of(*v)).and_then(|t| t.to_ints());
    let first = x.first().map(|&v| b.ty(v).clone());
    match (name, first) {
        ("shape_of", Some(t)) => {
            if let Some(s) = t.shape.to_static() {
                return Ok(b.constant(Tensor::i64(&[s.len()], s.iter().map(|&n| n as i64).collect())));
            }
        }
        ("reshape_to", Some(t)) => {
            if let (true, Some(s)) = (t.shape.is_static(), known(b, 1))
                && let Some(s) = final_shape(t.shape.elements(), &s)?
            {
                return b.op("reshape", &x[..1], Attrs::new().with("shape", s));
            }
        }
        ("broadcast_to", Some(t)) => {
            if let (true, Some(s)) = (t.shape.is_static(), known(b, 1)) {
                let to = broadcast_shapes(&[&t.shape, &shape_from(&s)?])?;
                let to: Vec<i64> = to.to_static().unwrap_or_default().iter().map(|&n| n as i64).collect();
                return b.op("broadcast", &x[..1], Attrs::new().with("shape", to));
            }
        }
        ("slice_to", Some(t)) => {
            let v: Option<Vec<Vec<i64>>> = (1..5).map(|i| known(b, i)).collect();
            if let (Some(shape), Some(v)) = (t.shape.to_static(), v) {
                let [s, n, t] = slice_spans(&shape, &v[0], &v[1], &v[2], &v[3])?;
                return b.op("slice", &x[..1], Attrs::new().with("starts", s).with("sizes", n).with("steps", t));
            }
        }
        ("constant_of_shape", _) => {
            if let (Some(s), Some(t)) = (known(b, 0), attrs.tensor("value").cloned()) {
                let one = b.constant(t.view(&[], &[], t.offset()));
                return b.op("broadcast", &[one], Attrs::new().with("shape", s));
            }
        }
        _ => {}
    }
    b.op(name, x, attrs)
}

const X: &[OperandDef] = &[operand("x", TypeSet::Any)];
const XS: &[OperandDef] = &[operand("x", TypeSet::Any), operand("shape", TypeSet::I64)];
const XR: &[OperandDef] = &[operand("x", TypeSet::Any), operand("repeats", TypeSet::I64)];
const S: &[OperandDef] = &[operand("shape", TypeSet::I64)];
const SLICE: &[OperandDef] = &[
    operand("x", TypeSet::Any),
    operand("starts", TypeSet::I64),
    operand("ends", TypeSet::I64),
    operand("axes", TypeSet::I64),
    operand("steps", TypeSet::I64),
];
const RANGE: &[OperandDef] = &[operand("start", TypeSet::Number), operand("limit", TypeSet::Number), operand("delta", TypeSet::Number)];

macro_rules! rows { ($($id:ident $n:literal $operands:ident [$($an:literal $at:ident),*] $infer:ident $eval:ident $doc:literal $ex:literal;)*) => {
    $(static $id: OpDef = OpDef { name: $n, doc: $doc, operands: $operands, attrs: &[$(attr($an, AttrType::$at)),*], results: Results::One, kind: Kind::Opaque,
        tolerance: Tolerance::Exact, examples: &[$ex], infer: $infer, eval: $eval };)*
    pub(super) static FAMILIES: &[&[&OpDef]] = &[&[$(&$id),*]];
} }

rows! {
    SHAPE_OF "shape_of" X [] infer_shape_of eval_shape_of "The extents of x." "shape_of([[1, 2, 3]]) = i64[1, 3]";
    RESHAPE_TO "reshape_to" XS [] infer_reshape_to eval_reshape_to "Reshape to a shape given as a value; one extent may be −1." "reshape_to([1, 2, 3, 4], i64[2, -1]) = [[1, 2], [3, 4]]";
    BROADCAST_TO "broadcast_to" XS [] infer_broadcast_to eval_broadcast_to "Two-sided broadcasting with a shape given as a value (ONNX Expand)." "broadcast_to([[1], [2]], i64[2]) = [[1, 1], [2, 2]]";
    SLICE_TO "slice_to" SLICE [] infer_slice_to eval_slice_to "ONNX Slice with positions given as values." "slice_to([1, 2, 3, 4], i64[-1], i64[-9], i64[0], i64[-2]) = [4, 2]";
    TILE "tile" XR [] infer_tile eval_tile "x repeated along each axis." "tile([1, 2], i64[2]) = [1, 2, 1, 2]";
    RANGE_OP "range" RANGE [] infer_range eval_range "start, start + delta, … before limit." "range(0, 3, 1) = [0, 1, 2]";
    CONSTANT_OF_SHAPE "constant_of_shape" S ["value" Tensor] infer_constant_of_shape eval_constant_of_shape "A shape filled with one value." "constant_of_shape(i64[2], value=[7]) = [7, 7]";
}
