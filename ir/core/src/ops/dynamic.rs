//! Ops whose shape operands are tensors: what importers write while a shape is not known, and what becomes a plain move once it is.
//!
//! Each infers numbers where its operands are constants and fresh symbols where not; [`canonical`] writes the static op instead when it can.

use super::common::*;
use super::moves::{reshape, sliced};
use crate::attr::Attrs;
use crate::graph::{Builder, ValueId};
use crate::kernels::gather;
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
        _ => Err(OpError::open(format!("needs the length of a shape, of type {t}, as a number")).mark(i, "must be i64[n] with n known")),
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
        let ax = if axes[k] < 0 { axes[k].saturating_add(rank as i64) } else { axes[k] };
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
    let cut: Vec<usize> = v[2].iter().map(|&ax| if ax < 0 { ax.saturating_add(x.rank() as i64) } else { ax } as usize).collect();
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
    Ok(vec![sliced(x, &shape, &s, &t)])
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
    for (i, t) in a.operands.iter().enumerate() {
        if t.dtype != d || t.shape.elements().is_some_and(|n| n != 1) {
            return Err(OpError::shape(format!("start, limit and delta must be one {d} each, not {t}")).mark(i, format!("must be {d}[]")));
        }
    }
    let consts: Option<Vec<&Tensor>> = (0..3).map(|i| a.consts.get(i).copied().flatten()).collect();
    let t = match consts {
        Some(v) => TensorType::known(d, &[range_count(&[v[0], v[1], v[2]])?]),
        None => TensorType::new(d, fresh(a, 1)),
    };
    sized(&t)?;
    Ok(vec![t])
}
/// `max(⌈(limit − start)/delta⌉, 0)`, exact for integers.
fn range_count(v: &[&Tensor; 3]) -> Result<usize, OpError> {
    let none = || OpError::value("start, limit and delta are one number each");
    let n = if v[0].dtype().is_float() {
        let x: Vec<f64> = v.iter().map(|t| t.to_f64s().first().copied().ok_or_else(none)).collect::<Result<_, _>>()?;
        let n = ((x[1] - x[0]) / x[2]).ceil().max(0.0);
        if x[2] == 0.0 || !n.is_finite() {
            return Err(OpError::value(format!("cannot count from {} to {} by {}", x[0], x[1], x[2])));
        }
        n as u128
    } else {
        let x: Vec<i128> = v
            .iter()
            .map(|t| t.cast(DType::I64).to_ints().and_then(|v| v.first().map(|&x| x as i128)).ok_or_else(none))
            .collect::<Result<_, _>>()?;
        if x[2] == 0 {
            return Err(OpError::value("cannot count by 0").mark(2, "must not be 0"));
        }
        let (span, step) = if x[2] > 0 { (x[1] - x[0], x[2]) } else { (x[0] - x[1], -x[2]) };
        if span <= 0 { 0 } else { ((span - 1) / step + 1) as u128 }
    };
    if n > MAX_ELEMENTS as u128 { Err(OpError::new("E0107", format!("asks for {n} numbers"))) } else { Ok(n as usize) }
}
fn eval_range(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let (x, d) = (a.operands, a.operands[0].dtype());
    let n = range_count(&[&x[0], &x[1], &x[2]])?;
    budget(&TensorType::known(d, &[n]))?;
    if n == 0 {
        return Ok(vec![Tensor::from_f64s(d, &[0], &[])]);
    }
    if d.is_float() {
        let (start, delta) = (x[0].to_f64s()[0], x[2].to_f64s()[0]);
        return Ok(vec![Tensor::from_f64s(d, &[n], &(0..n).map(|i| start + i as f64 * delta).collect::<Vec<_>>())]);
    }
    let first = |t: &Tensor| t.cast(DType::I64).to_ints().map_or(0, |v| v[0]);
    let (start, delta) = (first(&x[0]), first(&x[2]));
    Ok(vec![Tensor::from_i64s(d, &[n], &(0..n as i64).map(|i| start.wrapping_add(i.wrapping_mul(delta))).collect::<Vec<_>>())])
}

/// How elements outside are made.
fn pad_mode(a: &Attrs) -> Result<&str, OpError> {
    match a.str("mode") {
        Some(m @ ("constant" | "edge" | "reflect" | "wrap")) => Ok(m),
        other => Err(OpError::attr(format!("mode {other:?} must be constant, edge, reflect or wrap"))),
    }
}
/// The extent of an axis of `n` after padding; what the mode cannot give is refused.
fn padded(mode: &str, n: i64, low: i64, high: i64) -> Result<u64, OpError> {
    let m = n as i128 + low as i128 + high as i128;
    if mode != "constant" && m > 0 && n == 0 {
        return Err(OpError::shape(format!("mode {mode} cannot pad an empty axis")));
    }
    u64::try_from(m)
        .ok()
        .filter(|&m| m <= i64::MAX as u64)
        .ok_or_else(|| OpError::shape(format!("padding {low} and {high} of an axis of {n}")))
}
fn infer_pad_to(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let x = &a.operands[0];
    let mode = pad_mode(a.attrs)?;
    float(a.attrs, "value")?;
    if let Some(n) = a.operands[1].shape.elements()
        && n != 2 * x.rank() as u64
    {
        return Err(OpError::shape(format!("{n} pads for rank {}", x.rank())).mark(1, format!("must be i64[{}]", 2 * x.rank())));
    }
    let Some(p) = constant_ints(a, 1) else { return Ok(vec![TensorType::new(x.dtype, fresh(a, x.rank()))]) };
    let r = x.rank();
    let dims = (0..r).map(|i| match &x.shape[i] {
        Dim::Known(n) => padded(mode, *n as i64, p[i], p[r + i]).map(Dim::Known),
        d if p[i] == 0 && p[r + i] == 0 => Ok(d.clone()),
        _ => Ok(Dim::sym(&format!("{}.{i}", a.fresh))),
    });
    Ok(vec![TensorType::new(x.dtype, Shape(dims.collect::<Result<_, _>>()?))])
}
fn eval_pad_to(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let shape = static_result(infer_pad_to, a)?;
    let (mode, r) = (pad_mode(a.attrs)?, a.operands[0].rank());
    let p = a.operands[1].to_ints().ok_or_else(|| OpError::value("pads must be integers"))?;
    let mut x = a.operands[0].clone();
    if mode == "constant" {
        let fill = Tensor::full(x.dtype(), &[], float(a.attrs, "value")?);
        return Ok(vec![gather::pad(&x, &shape, &p[..r], &vec![1; r], &fill)]);
    }
    for i in 0..r {
        let n = x.shape()[i] as i64;
        if p[i] == 0 && p[r + i] == 0 {
            continue;
        }
        let at: Vec<usize> = (0..shape[i] as i64)
            .map(|o| {
                let q = o - p[i];
                let q = match mode {
                    "edge" => q.clamp(0, n - 1),
                    "wrap" => q.rem_euclid(n),
                    // 0 1 2 1 0 1 2 …: a period of 2(n − 1).
                    _ if n == 1 => 0,
                    _ => {
                        let m = q.rem_euclid(2 * (n - 1));
                        m.min(2 * (n - 1) - m)
                    }
                };
                q as usize
            })
            .collect();
        x = gather::along(&x, i, &at, &[at.len()]);
    }
    Ok(vec![x])
}

fn infer_constant_of_shape(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let t = a.attrs.tensor("value").filter(|t| t.len() == 1).ok_or_else(|| OpError::attr("value must be a tensor of one element"))?;
    let shape = match constant_ints(a, 0) {
        Some(s) => shape_from(&s)?,
        None => fresh(a, rank_of_shape(a, 0)?),
    };
    let t = TensorType::new(t.dtype(), shape);
    sized(&t)?;
    Ok(vec![t])
}
fn eval_constant_of_shape(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let t = a.attrs.tensor("value").ok_or_else(|| OpError::attr("value must be a tensor"))?;
    let s = shape_from(&a.operands[0].to_ints().ok_or_else(|| OpError::value("a shape must be integers"))?)?;
    budget(&TensorType::new(t.dtype(), s.clone()))?;
    let s = s.to_static().unwrap_or_default();
    Ok(vec![t.view(&s, &vec![0; s.len()], t.offset())])
}

/// [`Builder::op`], by which `reshape_to`, `broadcast_to`, `slice_to`, `tile`, `range`, `pad_to`, `constant_of_shape` and `shape_of`
/// are written as static ops where their shape operands are constants and the types are numbers.
pub fn canonical(b: &mut Builder, name: &str, x: &[ValueId], attrs: Attrs) -> Result<ValueId, OpError> {
    b.op(name, x, attrs)
}

/// The static form of one of this file's ops, if it has one on these operands. [`Builder::emit`] asks.
pub(crate) fn as_static(b: &mut Builder, name: &str, x: &[ValueId], attrs: &Attrs) -> Result<Option<ValueId>, OpError> {
    let known = |b: &Builder, i: usize| x.get(i).and_then(|v| b.constant_of(*v)).and_then(|t| t.to_ints());
    let Some(first) = x.first().map(|&v| b.ty(v).clone()) else { return Ok(None) };
    let shape = first.shape.to_static();
    let as_ints = |v: &[usize]| v.iter().map(|&n| n as i64).collect::<Vec<i64>>();
    let one = |v: ValueId| Ok(Some(v));
    match (name, shape) {
        ("shape_of", Some(s)) => one(b.constant(Tensor::i64(&[s.len()], as_ints(&s)))),
        ("reshape_to", _) => {
            let Some(s) = known(b, 1) else { return Ok(None) };
            match final_shape(first.shape.elements(), &s)? {
                Some(s) => one(b.op("reshape", &x[..1], Attrs::new().with("shape", s))?),
                None => Ok(None),
            }
        }
        ("broadcast_to", Some(_)) => {
            let Some(s) = known(b, 1) else { return Ok(None) };
            let to = broadcast_shapes(&[&first.shape, &shape_from(&s)?])?;
            one(b.op("broadcast", &x[..1], Attrs::new().with("shape", as_ints(&to.to_static().unwrap_or_default())))?)
        }
        ("slice_to", Some(shape)) => {
            let v: Option<Vec<Vec<i64>>> = (1..5).map(|i| known(b, i)).collect();
            let Some(v) = v else { return Ok(None) };
            let [s, n, t] = slice_spans(&shape, &v[0], &v[1], &v[2], &v[3])?;
            one(b.op("slice", &x[..1], Attrs::new().with("starts", s).with("sizes", n).with("steps", t))?)
        }
        ("tile", Some(shape)) => {
            let Some(r) = known(b, 1) else { return Ok(None) };
            if r.len() != shape.len() || r.iter().any(|&r| r < 0) {
                return Ok(None);
            }
            // [n] as [1, n], repeated to [r, n], joined to [r·n].
            let (mut split, mut wide, mut out) = (vec![], vec![], vec![]);
            for (&n, &r) in as_ints(&shape).iter().zip(&r) {
                split.extend([1, n]);
                wide.extend([r, n]);
                out.push(r.checked_mul(n).ok_or_else(|| OpError::new("E0107", format!("repeats {n} elements {r} times")))?);
            }
            let v = b.op("reshape", &x[..1], Attrs::new().with("shape", split))?;
            let v = b.op("broadcast", &[v], Attrs::new().with("shape", wide))?;
            one(b.op("reshape", &[v], Attrs::new().with("shape", out))?)
        }
        ("pad_to", Some(shape)) => {
            let Some(p) = known(b, 1) else { return Ok(None) };
            let r = shape.len();
            if pad_mode(attrs)? != "constant" || p.len() != 2 * r {
                return Ok(None);
            }
            let at = Attrs::new().with("low", p[..r].to_vec()).with("high", p[r..].to_vec()).with("interior", vec![0; r]);
            one(b.op("pad", &x[..1], at.with("value", float(attrs, "value")?))?)
        }
        ("constant_of_shape", _) => {
            let (Some(s), Some(t)) = (known(b, 0), attrs.tensor("value").cloned()) else { return Ok(None) };
            if t.len() != 1 {
                return Ok(None);
            }
            let v = b.constant(t.view(&[], &[], t.offset()));
            one(b.op("broadcast", &[v], Attrs::new().with("shape", s))?)
        }
        _ => Ok(None),
    }
}

const X: &[OperandDef] = &[operand("x", TypeSet::Any)];
const XS: &[OperandDef] = &[operand("x", TypeSet::Any), operand("shape", TypeSet::I64)];
const XR: &[OperandDef] = &[operand("x", TypeSet::Any), operand("repeats", TypeSet::I64)];
const XP: &[OperandDef] = &[operand("x", TypeSet::Any), operand("pads", TypeSet::I64)];
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
    PAD_TO "pad_to" XP ["mode" Str, "value" Float] infer_pad_to eval_pad_to "x with elements before and after each axis (pads are all begins, then all ends; negative ones crop), made as `mode` says: constant, edge, reflect or wrap (ONNX Pad)." "pad_to([1, 2, 3], i64[2, 1], mode=reflect, value=0) = [3, 2, 1, 2, 3, 2]";
    RANGE_OP "range" RANGE [] infer_range eval_range "start, start + delta, … before limit." "range(0, 3, 1) = [0, 1, 2]";
    CONSTANT_OF_SHAPE "constant_of_shape" S ["value" Tensor] infer_constant_of_shape eval_constant_of_shape "A shape filled with one value." "constant_of_shape(i64[2], value=[7]) = [7, 7]";
}
