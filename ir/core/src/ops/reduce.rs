//! Reductions, window reductions (pooling) and running combinations.

use super::common::*;
use crate::form::identity;
use crate::kernel_eval::{self, Value};
use crate::numeric::Wide;
use crate::op::*;
use crate::scalar::Binary;
use crate::tensor::{Buffer, Tensor, contiguous_strides};
use crate::types::{DType, Dim, Shape, TensorType};
use rayon::prelude::*;

fn combiner(m: Monoid) -> Binary {
    match m {
        Monoid::Sum => Binary::Add,
        Monoid::Prod => Binary::Mul,
        Monoid::Max => Binary::Max,
        Monoid::Min => Binary::Min,
        Monoid::And => Binary::And,
        Monoid::Or => Binary::Or,
    }
}

/// Shape after reducing, with or without the reduced axes.
pub(crate) fn reduced_shape(s: &Shape, axes: &[usize], keep: bool) -> Shape {
    Shape(
        s.0.iter()
            .enumerate()
            .filter(|(i, _)| keep || !axes.contains(i))
            .map(|(i, d)| if axes.contains(&i) { Dim::Known(1) } else { d.clone() })
            .collect(),
    )
}

fn infer_reduce(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let x = &a.operands[0];
    let axes = axes(a.attrs, x.rank())?;
    Ok(vec![TensorType::new(x.dtype, reduced_shape(&x.shape, &axes, flag(a.attrs, "keepdims")?))])
}

/// The operand with its reduced axes last, contiguous: rows to combine.
fn rows(x: &Tensor, axes: &[usize]) -> (Tensor, usize) {
    let order: Vec<usize> = (0..x.rank()).filter(|d| !axes.contains(d)).chain(axes.iter().copied()).collect();
    let shape: Vec<usize> = order.iter().map(|&d| x.shape()[d]).collect();
    let strides: Vec<isize> = order.iter().map(|&d| x.strides()[d]).collect();
    (x.view(&shape, &strides, x.offset()).contiguous(), axes.iter().map(|&d| x.shape()[d]).product())
}

/// Sum in eight lanes and then pairwise: fast, and more exact than one running sum.
pub(crate) fn sum_f32(v: &[f32]) -> f32 {
    if v.len() > 4096 {
        let (a, b) = v.split_at(v.len() / 2);
        return sum_f32(a) + sum_f32(b);
    }
    let mut lanes = [0f32; 8];
    let chunks = v.chunks_exact(8);
    let rest: f32 = chunks.remainder().iter().sum();
    for c in chunks {
        for (l, x) in lanes.iter_mut().zip(c) {
            *l += x;
        }
    }
    ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7])) + rest
}

fn eval_reduce(m: Monoid, a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let x = &a.operands[0];
    let axes = axes(a.attrs, x.rank())?;
    let keep = flag(a.attrs, "keepdims")?;
    let out = reduced_shape(&x.ty().shape, &axes, keep).to_static().unwrap_or_default();
    let d = x.dtype();
    let (r, n) = rows(x, &axes);
    let count: usize = out.iter().product();
    let start = identity(m, d);
    if let Buffer::F32(v) = r.buffer() {
        let v = &v[r.offset()..r.offset() + r.len()];
        let one = |row: &[f32]| match m {
            Monoid::Sum => sum_f32(row),
            Monoid::Prod => row.iter().product(),
            Monoid::Max => row.iter().fold(f32::NEG_INFINITY, |a, &x| if x.is_nan() || x > a { x } else { a }),
            _ => row.iter().fold(f32::INFINITY, |a, &x| if x.is_nan() || x < a { x } else { a }),
        };
        // NaN sticks: once the fold holds one, no comparison replaces it.
        let y: Vec<f32> = if n == 0 {
            vec![start as f32; count]
        } else if r.len() < 1 << 15 {
            v.chunks(n).map(one).collect()
        } else {
            v.par_chunks(n).map(one).collect()
        };
        return Ok(vec![Tensor::f32(&out, y)]);
    }
    let op = combiner(m);
    // bool: max and min are or and and.
    Ok(vec![match r.wide() {
        Wide::F(v) => {
            let wide = if d == DType::F64 { DType::F64 } else { DType::F32 };
            let y: Vec<f64> = (0..count)
                .map(|i| {
                    v[i * n..(i + 1) * n].iter().fold(start, |a, &x| match kernel_eval::binary(op, Value::F(a), Value::F(x), wide) {
                        Value::F(y) if wide == DType::F32 => y as f32 as f64,
                        Value::F(y) => y,
                        Value::I(y) => y as f64,
                    })
                })
                .collect();
            Tensor::from_f64s(d, &out, &y)
        }
        Wide::I(v) => {
            let start = if d == DType::U64 && m == Monoid::Min { -1 } else { start as i64 };
            let y: Vec<i64> = (0..count)
                .map(|i| {
                    v[i * n..(i + 1) * n].iter().fold(start, |a, &x| match kernel_eval::binary(op, Value::I(a), Value::I(x), d) {
                        Value::I(y) => y,
                        Value::F(y) => y as i64,
                    })
                })
                .collect();
            Tensor::from_i64s(d, &out, &y)
        }
    }])
}

/// Output extent of a window over one axis. `None` if the window does not fit.
pub(crate) fn windows(n: u64, window: i64, stride: i64, low: i64, high: i64, dilation: i64) -> Option<u64> {
    let span = (window.checked_sub(1)?.checked_mul(dilation)?).checked_add(1)?;
    let room = (n as i64).checked_add(low)?.checked_add(high)?.checked_sub(span)?;
    (room >= 0 && stride > 0).then(|| (room / stride + 1) as u64)
}

/// Spatial extents after windows; shared with convolution.
pub(crate) fn window_shape(a: &InferArgs, x: &TensorType, window: &[i64]) -> Result<Vec<Dim>, OpError> {
    let rank = window.len();
    let (strides, pads, dilations) = (ints(a.attrs, "strides")?, ints(a.attrs, "pads")?, ints(a.attrs, "dilations")?);
    if x.rank() != rank + 2 {
        return Err(OpError::shape(format!("a window over {rank} axes needs an operand of rank {}, not {}", rank + 2, x.rank()))
            .mark(0, format!("must have rank {}", rank + 2)));
    }
    if strides.len() != rank || dilations.len() != rank || pads.len() != 2 * rank {
        return Err(OpError::attr(format!("strides and dilations need {rank} numbers and pads {}", 2 * rank)));
    }
    if strides.iter().chain(dilations).chain(window).any(|&v| v < 1) {
        return Err(OpError::attr("window, strides and dilations must be positive"));
    }
    (0..rank)
        .map(|i| match &x.shape[i + 2] {
            Dim::Sym(_) => Ok(Dim::sym(&format!("{}.w{i}", a.fresh))),
            Dim::Known(n) => windows(*n, window[i], strides[i], pads[i], pads[rank + i], dilations[i]).map(Dim::Known).ok_or_else(|| {
                OpError::shape(format!(
                    "a window of {} (dilation {}) does not fit axis {} of extent {n} with padding {} and {}",
                    window[i],
                    dilations[i],
                    i + 2,
                    pads[i],
                    pads[rank + i]
                ))
                .mark(0, format!("axis {} must be larger", i + 2))
            }),
        })
        .collect()
}

fn infer_pool(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let x = &a.operands[0];
    let window = ints(a.attrs, "window")?;
    let spatial = window_shape(a, x, window)?;
    Ok(vec![TensorType::new(x.dtype, Shape(x.shape.0[..2].iter().cloned().chain(spatial).collect()))])
}

fn eval_pool(m: Monoid, a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let x = a.operands[0].contiguous();
    let d = x.dtype();
    let types = [x.ty()];
    let out = infer_pool(&InferArgs { operands: &types, attrs: a.attrs, consts: &[None], fresh: "" })?;
    let out = out[0].shape.to_static().unwrap_or_default();
    let (window, strides, pads, dilations) =
        (ints(a.attrs, "window")?, ints(a.attrs, "strides")?, ints(a.attrs, "pads")?, ints(a.attrs, "dilations")?);
    let spatial = &x.shape()[2..];
    let plane: usize = spatial.iter().product();
    let out_plane: usize = out[2..].iter().product();
    let planes = x.shape()[0] * x.shape()[1];
    let steps = contiguous_strides(spatial);
    // Every tap as its offsets per axis.
    let taps: Vec<Vec<i64>> = (0..window.iter().product::<i64>())
        .map(|mut t| {
            let mut v = vec![0; window.len()];
            for i in (0..window.len()).rev() {
                v[i] = t % window[i] * dilations[i];
                t /= window[i];
            }
            v
        })
        .collect();
    let start = identity(m, d);
    let at = |o: usize, tap: &[i64]| -> Option<usize> {
        let (mut o, mut index) = (o, 0isize);
        for i in (0..spatial.len()).rev() {
            let p = (o % out[i + 2]) as i64 * strides[i] - pads[i] + tap[i];
            o /= out[i + 2];
            if p < 0 || p >= spatial[i] as i64 {
                return None;
            }
            index += p as isize * steps[i];
        }
        Some(index as usize)
    };
    if let Buffer::F32(v) = x.buffer() {
        let v = &v[x.offset()..x.offset() + x.len()];
        let mut y = vec![0f32; planes * out_plane];
        if out_plane > 0 {
            y.par_chunks_mut(out_plane).enumerate().for_each(|(p, part)| {
                let plane = &v[p * plane..(p + 1) * plane];
                for (o, slot) in part.iter_mut().enumerate() {
                    let mut acc = start as f32;
                    for t in &taps {
                        if let Some(i) = at(o, t) {
                            let x = plane[i];
                            acc = match m {
                                Monoid::Sum => acc + x,
                                Monoid::Prod => acc * x,
                                Monoid::Max => {
                                    if x.is_nan() || x > acc {
                                        x
                                    } else {
                                        acc
                                    }
                                }
                                _ => {
                                    if x.is_nan() || x < acc {
                                        x
                                    } else {
                                        acc
                                    }
                                }
                            };
                        }
                    }
                    *slot = acc;
                }
            });
        }
        return Ok(vec![Tensor::f32(&out, y)]);
    }
    let v = x.to_f64s();
    let op = combiner(m);
    let y: Vec<f64> = (0..planes * out_plane)
        .map(|i| {
            let (p, o) = (i / out_plane, i % out_plane);
            taps.iter().filter_map(|t| at(o, t)).fold(start, |a, j| {
                match kernel_eval::binary(op, Value::F(a), Value::F(v[p * plane + j]), DType::F64) {
                    Value::F(y) => y,
                    Value::I(y) => y as f64,
                }
            })
        })
        .collect();
    Ok(vec![Tensor::from_f64s(d, &out, &y)])
}

fn infer_scan(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    axis(a.attrs, "axis", a.operands[0].rank())?;
    Ok(vec![a.operands[0].clone()])
}

fn eval_scan(m: Monoid, a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let x = a.operands[0].contiguous();
    let ax = axis(a.attrs, "axis", x.rank())?;
    let (exclusive, reverse) = (flag(a.attrs, "exclusive")?, flag(a.attrs, "reverse")?);
    let n = x.shape()[ax];
    let inner: usize = x.shape()[ax + 1..].iter().product();
    let d = x.dtype();
    let op = combiner(m);
    let run = |get: &dyn Fn(usize) -> Value, put: &mut dyn FnMut(usize, Value)| {
        for lane in 0..x.len() / n.max(1) {
            let base = lane / inner * inner * n + lane % inner;
            let mut acc = if d.is_float() { Value::F(identity(m, d)) } else { Value::I(identity(m, d) as i64) };
            for k in 0..n {
                let i = base + inner * if reverse { n - 1 - k } else { k };
                let next = kernel_eval::fit(kernel_eval::binary(op, acc, get(i), d), d);
                put(i, if exclusive { acc } else { next });
                acc = next;
            }
        }
    };
    Ok(vec![match x.wide() {
        Wide::F(v) => {
            let mut y = vec![0f64; v.len()];
            run(&|i| Value::F(v[i]), &mut |i, v| y[i] = if let Value::F(v) = v { v } else { 0.0 });
            Tensor::from_f64s(d, x.shape(), &y)
        }
        Wide::I(v) => {
            let mut y = vec![0i64; v.len()];
            run(&|i| Value::I(v[i]), &mut |i, v| y[i] = if let Value::I(v) = v { v } else { 0 });
            Tensor::from_i64s(d, x.shape(), &y)
        }
    }])
}

const REDUCE_ATTRS: &[AttrDef] = &[attr("axes", AttrType::Ints), attr("keepdims", AttrType::Bool)];
const POOL_ATTRS: &[AttrDef] =
    &[attr("window", AttrType::Ints), attr("strides", AttrType::Ints), attr("pads", AttrType::Ints), attr("dilations", AttrType::Ints)];
const SCAN_ATTRS: &[AttrDef] = &[attr("axis", AttrType::Int), attr("exclusive", AttrType::Bool), attr("reverse", AttrType::Bool)];

macro_rules! rows { ($list:ident $kind:ident $infer:ident $eval:ident $attrs:ident; $($id:ident $m:ident $n:literal $ty:ident $tol:expr, $doc:literal $ex:literal;)*) => {
    $(static $id: OpDef = OpDef { name: $n, doc: $doc, operands: &[operand("x", TypeSet::$ty)], attrs: $attrs, results: Results::One, kind: Kind::$kind(Monoid::$m),
        tolerance: $tol, examples: &[$ex], infer: $infer, eval: |a| $eval(Monoid::$m, a) };)*
    static $list: &[&OpDef] = &[$(&$id),*];
} }

rows! { REDUCE Reduce infer_reduce eval_reduce REDUCE_ATTRS;
    SUM Sum "reduce_sum" Number Tolerance::Reassociated(1e-6), "Σ along axes; 16-bit floats are summed in f32." "reduce_sum([[1, 2], [3, 4]], axes=[1], keepdims=false) = [3, 7]";
    PROD Prod "reduce_prod" Number Tolerance::Reassociated(1e-6), "Π along axes." "reduce_prod([[1, 2], [3, 4]], axes=[0], keepdims=true) = [[3, 8]]";
    RMAX Max "reduce_max" Any Tolerance::Exact, "Largest along axes; −∞ (or the type's least) of nothing. bool: any." "reduce_max([[1, 2], [3, 4]], axes=[0, 1], keepdims=false) = 4";
    RMIN Min "reduce_min" Any Tolerance::Exact, "Smallest along axes. bool: all." "reduce_min([[1, 2], [3, 4]], axes=[1], keepdims=false) = [1, 3]";
}
rows! { POOL Window infer_pool eval_pool POOL_ATTRS;
    MAX_POOL Max "max_pool" Number Tolerance::Exact, "Largest in each window of the axes after batch and channel; padding never wins." "max_pool([[[1, 3, 2]]], window=[2], strides=[1], pads=[0, 0], dilations=[1]) = [[[3, 3]]]";
    SUM_POOL Sum "sum_pool" Number Tolerance::Reassociated(1e-6), "Sum of each window; padding counts as 0." "sum_pool([[[1, 3, 2]]], window=[2], strides=[1], pads=[1, 0], dilations=[1]) = [[[1, 4, 5]]]";
}
rows! { SCAN Scan infer_scan eval_scan SCAN_ATTRS;
    CUMSUM Sum "cumsum" Number Tolerance::Reassociated(1e-6), "Running sum along an axis." "cumsum([1, 2, 3], axis=0, exclusive=false, reverse=false) = [1, 3, 6]";
    CUMPROD Prod "cumprod" Number Tolerance::Reassociated(1e-6), "Running product along an axis." "cumprod([1, 2, 3], axis=0, exclusive=true, reverse=false) = [1, 1, 2]";
}

pub(super) static FAMILIES: &[&[&OpDef]] = &[REDUCE, POOL, SCAN];
