//! Moves: transpose, reshape, broadcast, slice, pad, concat; and iota. On the host they are views where strides allow.

use super::common::*;
use crate::kernels::gather;
use crate::op::*;
use crate::tensor::{Tensor, contiguous_strides};
use crate::types::{DType, Dim, Shape, TensorType};

fn one(t: &TensorType, shape: Vec<Dim>) -> Result<Vec<TensorType>, OpError> {
    Ok(vec![TensorType::new(t.dtype, Shape(shape))])
}

fn infer_transpose(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let x = &a.operands[0];
    let perm = ints(a.attrs, "perm")?;
    let mut seen = perm.to_vec();
    seen.sort_unstable();
    if seen != (0..x.rank() as i64).collect::<Vec<_>>() {
        return Err(OpError::attr(format!("perm {perm:?} is not an order of the {} axes of {x}", x.rank())));
    }
    one(x, perm.iter().map(|&p| x.shape[p as usize].clone()).collect())
}
fn eval_transpose(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let x = &a.operands[0];
    static_result(infer_transpose, a)?;
    let perm = ints(a.attrs, "perm")?;
    let shape: Vec<usize> = perm.iter().map(|&p| x.shape()[p as usize]).collect();
    let strides: Vec<isize> = perm.iter().map(|&p| x.strides()[p as usize]).collect();
    Ok(vec![x.view(&shape, &strides, x.offset())])
}

/// A list of extents from an attribute.
fn extents(a: &crate::attr::Attrs, name: &str) -> Result<Vec<Dim>, OpError> {
    let v = ints(a, name)?;
    v.iter().map(|&n| u64::try_from(n).map(Dim::Known).map_err(|_| OpError::attr(format!("{name} {v:?} has a negative extent")))).collect()
}

fn infer_reshape(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let x = &a.operands[0];
    let shape = extents(a.attrs, "shape")?;
    let t = TensorType::new(x.dtype, Shape(shape));
    if let (Some(n), m) = (x.shape.elements(), t.shape.elements())
        && m != Some(n)
    {
        return Err(OpError::shape(format!("cannot reshape {x} with {n} elements to {}", t.shape))
            .mark(0, format!("must have as many elements as {}", t.shape)));
    }
    Ok(vec![t])
}
/// The same elements in row-major order under another shape: a view where strides allow, else a copy.
pub(crate) fn reshape(x: &Tensor, shape: &[usize]) -> Tensor {
    match reshaped_strides(x, shape) {
        Some(strides) => x.view(shape, &strides, x.offset()),
        None => {
            let x = x.contiguous();
            x.view(shape, &contiguous_strides(shape), x.offset())
        }
    }
}
/// Strides of `x` under `shape`, if its axes can be joined and split without a copy: each run of old axes that a run of new ones
/// covers must itself be evenly strided.
fn reshaped_strides(x: &Tensor, shape: &[usize]) -> Option<Vec<isize>> {
    if x.is_contiguous() || x.is_empty() {
        return Some(contiguous_strides(shape));
    }
    let old: Vec<(usize, isize)> = x.shape().iter().copied().zip(x.strides().iter().copied()).filter(|d| d.0 != 1).collect();
    let mut strides = vec![0isize; shape.len()];
    let (mut o, mut n) = (0, 0);
    while n < shape.len() {
        if shape[n] == 1 {
            n += 1;
            continue;
        }
        let (o0, n0) = (o, n);
        let (mut have, mut want) = (old.get(o)?.0, shape[n]);
        (o, n) = (o + 1, n + 1);
        while have != want {
            if have < want {
                have *= old.get(o)?.0;
                o += 1;
            } else {
                want *= shape.get(n)?;
                n += 1;
            }
        }
        if (o0 + 1..o).any(|i| old[i - 1].1 != old[i].1 * old[i].0 as isize) {
            return None;
        }
        let mut step = old[o - 1].1;
        for i in (n0..n).rev() {
            strides[i] = step;
            step *= shape[i] as isize;
        }
    }
    Some(strides)
}
fn eval_reshape(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let shape: Vec<usize> = ints(a.attrs, "shape")?.iter().map(|&n| n as usize).collect();
    if shape.iter().product::<usize>() != a.operands[0].len() {
        return Err(OpError::value(format!("cannot reshape {} to {shape:?}", a.operands[0].ty())));
    }
    Ok(vec![reshape(&a.operands[0], &shape)])
}

fn infer_broadcast(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let x = &a.operands[0];
    let to = Shape(extents(a.attrs, "shape")?);
    let joined = broadcast_shapes(&[&x.shape, &to])?;
    if joined != to {
        return Err(OpError::shape(format!("{x} does not broadcast to {to}")).mark(0, format!("must broadcast to {to}")));
    }
    one(x, to.0)
}
fn eval_broadcast(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    Ok(vec![broadcast_to(&a.operands[0], &static_result(infer_broadcast, a)?)])
}

fn infer_slice(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let x = &a.operands[0];
    let (starts, sizes, steps) = (ints(a.attrs, "starts")?, ints(a.attrs, "sizes")?, ints(a.attrs, "steps")?);
    if [starts.len(), sizes.len(), steps.len()] != [x.rank(); 3] {
        return Err(OpError::attr(format!("starts, sizes and steps need {} numbers", x.rank())));
    }
    for d in 0..x.rank() {
        if sizes[d] < 0 || steps[d] == 0 {
            return Err(OpError::attr(format!("axis {d}: size {} with step {}", sizes[d], steps[d])));
        }
        if let (Dim::Known(n), true) = (&x.shape[d], sizes[d] > 0) {
            let last = starts[d] as i128 + (sizes[d] as i128 - 1) * steps[d] as i128;
            if starts[d] < 0 || last < 0 || last.max(starts[d] as i128) >= *n as i128 {
                return Err(OpError::shape(format!("axis {d}: elements {} to {last} of {n}", starts[d])));
            }
        }
    }
    one(x, sizes.iter().map(|&n| Dim::Known(n as u64)).collect())
}
fn eval_slice(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let x = &a.operands[0];
    let shape = static_result(infer_slice, a)?;
    Ok(vec![sliced(x, &shape, ints(a.attrs, "starts")?, ints(a.attrs, "steps")?)])
}
/// A view of `shape` that starts at `starts` and goes by `steps`; both must stay inside.
pub(crate) fn sliced(x: &Tensor, shape: &[usize], starts: &[i64], steps: &[i64]) -> Tensor {
    if shape.contains(&0) {
        return x.view(shape, &vec![0; shape.len()], 0);
    }
    let offset = x.offset() as isize + starts.iter().zip(x.strides()).map(|(&s, &t)| s as isize * t).sum::<isize>();
    let strides: Vec<isize> =
        steps.iter().zip(x.strides()).zip(shape).map(|((&s, &t), &n)| if n == 1 { 0 } else { s as isize * t }).collect();
    x.view(shape, &strides, offset as usize)
}

fn infer_pad(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let x = &a.operands[0];
    let (low, high, interior) = (ints(a.attrs, "low")?, ints(a.attrs, "high")?, ints(a.attrs, "interior")?);
    if [low.len(), high.len(), interior.len()] != [x.rank(); 3] {
        return Err(OpError::attr(format!("low, high and interior need {} numbers", x.rank())));
    }
    if interior.iter().any(|&i| i < 0) {
        return Err(OpError::attr(format!("interior padding {interior:?} cannot be negative")));
    }
    let dims = (0..x.rank())
        .map(|d| match &x.shape[d] {
            Dim::Known(n) => {
                let n = *n as i128;
                let m = n + (n - 1).max(0) * interior[d] as i128 + low[d] as i128 + high[d] as i128;
                if m > i64::MAX as i128 {
                    return Err(OpError::new("E0107", format!("padding makes axis {d} of {x} {m} long")));
                }
                u64::try_from(m)
                    .map(Dim::Known)
                    .map_err(|_| OpError::shape(format!("padding {} and {} crops more than axis {d} of {x} has", low[d], high[d])))
            }
            Dim::Sym(_) if low[d] == 0 && high[d] == 0 && interior[d] == 0 => Ok(x.shape[d].clone()),
            Dim::Sym(_) => Ok(Dim::sym(&format!("{}.p{d}", a.fresh))),
        })
        .collect::<Result<Vec<_>, _>>()?;
    one(x, dims)
}
fn eval_pad(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let x = &a.operands[0];
    let (low, interior) = (ints(a.attrs, "low")?, ints(a.attrs, "interior")?);
    let value = float(a.attrs, "value")?;
    let shape = static_result(infer_pad, a)?;
    let step: Vec<i64> = interior.iter().map(|i| i + 1).collect();
    Ok(vec![gather::pad(x, &shape, low, &step, &Tensor::full(x.dtype(), &[], value))])
}

fn infer_concat(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let Some(first) = a.operands.first() else { return Err(OpError::shape("concat of nothing")) };
    let ax = axis(a.attrs, "axis", first.rank())?;
    let mut dims = first.shape.0.clone();
    let mut total = Some(0u64);
    let mut symbols = vec![];
    for (i, t) in a.operands.iter().enumerate() {
        if t.dtype != first.dtype {
            return Err(OpError::dtype(format!("parts have different types, {} and {}", first.dtype, t.dtype))
                .mark(i, format!("must be {}", first.dtype)));
        }
        if t.rank() != first.rank() {
            return Err(
                OpError::shape(format!("parts have different ranks, {first} and {t}")).mark(i, format!("must have rank {}", first.rank()))
            );
        }
        for (d, have) in dims.iter_mut().enumerate().filter(|(d, _)| *d != ax) {
            match (&*have, &t.shape[d]) {
                (Dim::Known(p), Dim::Known(q)) if p != q => {
                    return Err(OpError::shape(format!("parts differ on axis {d}: {p} and {q}")).mark(i, format!("axis {d} must be {p}")));
                }
                (Dim::Sym(_), Dim::Known(q)) => *have = Dim::Known(*q),
                _ => {}
            }
        }
        match &t.shape[ax] {
            Dim::Known(n) => total = total.and_then(|x| x.checked_add(*n)),
            d => {
                symbols.push(d.clone());
                total = None;
            }
        }
    }
    dims[ax] = match (total, symbols.as_slice(), a.operands.len()) {
        (Some(n), ..) => Dim::Known(n),
        (None, [s], 1) => s.clone(),
        _ => Dim::sym(&format!("{}.c", a.fresh)),
    };
    one(first, dims)
}
fn eval_concat(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let first = &a.operands[0];
    let ax = axis(a.attrs, "axis", first.rank())?;
    let shape = static_result(infer_concat, a)?;
    if let [only] = a.operands {
        return Ok(vec![only.clone()]);
    }
    Ok(vec![gather::concat(a.operands, ax, &shape)])
}

fn infer_iota(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let shape = Shape(extents(a.attrs, "shape")?);
    axis(a.attrs, "axis", shape.rank())?;
    let d = a.attrs.dtype("dtype").ok_or_else(|| OpError::attr("dtype must be a number type"))?;
    let t = TensorType::new(d, shape);
    sized(&t)?;
    Ok(vec![t])
}
fn eval_iota(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let shape: Vec<usize> = ints(a.attrs, "shape")?.iter().map(|&n| n as usize).collect();
    let ax = axis(a.attrs, "axis", shape.len())?;
    let d = a.attrs.dtype("dtype").ok_or_else(|| OpError::attr("dtype must be a number type"))?;
    budget(&TensorType::known(DType::F64, &[shape[ax]]))?;
    let v: Vec<f64> = (0..shape[ax]).map(|i| i as f64).collect();
    let line = Tensor::from_f64s(d, &[shape[ax]], &v);
    let strides: Vec<isize> = (0..shape.len()).map(|i| isize::from(i == ax)).collect();
    Ok(vec![line.view(&shape, &strides, 0)])
}

macro_rules! moves { ($($id:ident $n:literal $kind:expr, $operands:expr, [$($an:literal $at:ident),*] $infer:ident $eval:ident $doc:literal $ex:literal;)*) => {
    $(static $id: OpDef = OpDef { name: $n, doc: $doc, operands: $operands, attrs: &[$(attr($an, AttrType::$at)),*], results: Results::One, kind: $kind,
        tolerance: Tolerance::Exact, examples: &[$ex], infer: $infer, eval: $eval };)*
    pub(super) static FAMILIES: &[&[&OpDef]] = &[&[$(&$id),*]];
} }

const X: &[OperandDef] = &[operand("x", TypeSet::Any)];

moves! {
    TRANSPOSE "transpose" Kind::Move(Move::Transpose), X, ["perm" Ints] infer_transpose eval_transpose "Axis i of the result is axis perm[i] of x." "transpose([[1, 2], [3, 4]], perm=[1, 0]) = [[1, 3], [2, 4]]";
    RESHAPE "reshape" Kind::Move(Move::Reshape), X, ["shape" Ints] infer_reshape eval_reshape "The same elements in row-major order under another shape." "reshape([1, 2, 3, 4], shape=[2, 2]) = [[1, 2], [3, 4]]";
    BROADCAST "broadcast" Kind::Move(Move::Broadcast), X, ["shape" Ints] infer_broadcast eval_broadcast "numpy broadcasting to a shape." "broadcast([1, 2], shape=[2, 2]) = [[1, 2], [1, 2]]";
    SLICE "slice" Kind::Move(Move::Slice), X, ["starts" Ints, "sizes" Ints, "steps" Ints] infer_slice eval_slice "x[starts + i·steps] for i below sizes; steps may be negative." "slice([1, 2, 3, 4], starts=[3], sizes=[2], steps=[-2]) = [4, 2]";
    PAD "pad" Kind::Move(Move::Pad), X, ["low" Ints, "high" Ints, "interior" Ints, "value" Float] infer_pad eval_pad "A constant before, after and between the elements of each axis; negative low and high crop." "pad([1, 2], low=[1], high=[0], interior=[1], value=9.0) = [9, 1, 9, 2]";
    CONCAT "concat" Kind::Move(Move::Concat), &[many("parts", TypeSet::Any)], ["axis" Int] infer_concat eval_concat "Parts one after the other along an axis." "concat([1, 2], [3], axis=0) = [1, 2, 3]";
    IOTA "iota" Kind::Generate, &[], ["shape" Ints, "axis" Int, "dtype" DType] infer_iota eval_iota "0, 1, 2, … along an axis." "iota(shape=[2, 3], axis=1, dtype=f32) = [[0, 1, 2], [0, 1, 2]]";
}
