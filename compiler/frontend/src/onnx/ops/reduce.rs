//! Reductions, arg reductions, running sums, top-k.

use super::{Row, many, one};
use crate::onnx::context::{Context, R, V, attrs};
use tahoma_core::{DType, OpError};

pub(super) static ROWS: &[Row] = &[
    one("ReduceSum", 1, reduce),
    one("ReduceMean", 1, reduce),
    one("ReduceMax", 1, reduce),
    one("ReduceMin", 1, reduce),
    one("ReduceProd", 1, reduce),
    one("ReduceL1", 1, reduce).in_f32(&[0]),
    one("ReduceL2", 1, reduce).in_f32(&[0]),
    one("ReduceLogSum", 1, reduce).in_f32(&[0]),
    one("ReduceLogSumExp", 1, reduce).in_f32(&[0]),
    one("ReduceSumSquare", 1, reduce).in_f32(&[0]),
    one("ArgMax", 1, arg),
    one("ArgMin", 1, arg),
    one("CumSum", 11, cumulative),
    one("CumProd", 26, cumulative),
    many("TopK", 1, top_k),
];

fn reduce(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let rank = cx.rank(x);
    let given = match cx.try_opt(1)? {
        Some(v) => Some(cx.ints_of(v).ok_or_else(|| cx.not_constant(1))?),
        None => cx.attrs.ints("axes").map(<[i64]>::to_vec),
    };
    let keep = cx.attrs.int("keepdims").unwrap_or(1) != 0;
    let noop = cx.attrs.int("noop_with_empty_axes").unwrap_or(0) != 0;
    let axes = match given {
        Some(a) if !a.is_empty() => cx.axes(&a, rank)?,
        _ if noop => vec![],
        _ => (0..rank).collect(),
    };
    let name = cx.schema.name;
    // Over no axes each reduction is its elementwise part.
    let fold = |cx: &mut Context, op: &str, v: V| if axes.is_empty() { Ok(v) } else { cx.reduce(op, v, &axes, keep) };
    match name {
        "ReduceSum" => fold(cx, "reduce_sum", x),
        "ReduceMax" => fold(cx, "reduce_max", x),
        "ReduceMin" => fold(cx, "reduce_min", x),
        "ReduceProd" => fold(cx, "reduce_prod", x),
        "ReduceMean" if axes.is_empty() => Ok(x),
        "ReduceMean" if cx.dtype(x).is_float() => cx.reduce("reduce_mean", x, &axes, keep),
        "ReduceMean" => {
            let mut n = 1;
            for &a in &axes {
                n *= cx.dim(x, a)?;
            }
            let sum = cx.reduce("reduce_sum", x, &axes, keep)?;
            let n = cx.like(n as f64, sum)?;
            cx.div(sum, n)
        }
        "ReduceL1" => {
            let a = cx.f("abs", &[x])?;
            fold(cx, "reduce_sum", a)
        }
        "ReduceSumSquare" => {
            let a = cx.mul(x, x)?;
            fold(cx, "reduce_sum", a)
        }
        "ReduceL2" => {
            let dtype = cx.dtype(x);
            let wide = if dtype.is_float() { x } else { cx.cast(x, DType::F64)? };
            let a = cx.mul(wide, wide)?;
            let s = fold(cx, "reduce_sum", a)?;
            let r = cx.f("sqrt", &[s])?;
            cx.cast(r, dtype)
        }
        "ReduceLogSum" => {
            let dtype = cx.dtype(x);
            let s = fold(cx, "reduce_sum", x)?;
            let s = if dtype.is_float() { s } else { cx.cast(s, DType::F64)? };
            let r = cx.f("log", &[s])?;
            cx.cast(r, dtype)
        }
        _ => {
            if axes.is_empty() {
                return Ok(x);
            }
            let dtype = cx.dtype(x);
            let wide = if dtype.is_float() { x } else { cx.cast(x, DType::F64)? };
            let r = cx.reduce("reduce_log_sum_exp", wide, &axes, keep)?;
            cx.cast(r, dtype)
        }
    }
}

fn arg(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(0), cx.rank(x))?;
    let keep = cx.attrs.int("keepdims").unwrap_or(1) != 0;
    let last = cx.attrs.int("select_last_index").unwrap_or(0) != 0;
    let name = if cx.schema.name == "ArgMax" { "argmax" } else { "argmin" };
    cx.op(name, &[x], attrs! {"axis": axis as i64, "keepdims": keep, "last": last})
}

fn cumulative(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let axis = *cx.need_ints(1)?.first().ok_or_else(|| OpError::attr("axis is empty"))?;
    let axis = cx.axis(axis, cx.rank(x))?;
    let flag = |v: Option<i64>| v.unwrap_or(0) != 0;
    let (exclusive, reverse) = (flag(cx.attrs.int("exclusive")), flag(cx.attrs.int("reverse")));
    let name = if cx.schema.name == "CumSum" { "cumsum" } else { "cumprod" };
    cx.op(name, &[x], attrs! {"axis": axis as i64, "exclusive": exclusive, "reverse": reverse})
}

fn top_k(cx: &mut Context) -> R<Vec<V>> {
    let x = cx.input(0)?;
    let k = if cx.since() < 10 { cx.attrs.int("k").unwrap_or(0) } else { cx.need_ints(1)?.first().copied().unwrap_or(0) };
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(-1), cx.rank(x))?;
    let extent = cx.dim(x, axis)?;
    if k < 0 || k as usize > extent {
        return Err(OpError::attr(format!("k is {k}, but axis {axis} has {extent} elements")));
    }
    let flag = |v: Option<i64>| v.unwrap_or(1) != 0;
    let (largest, sorted) = (flag(cx.attrs.int("largest")), flag(cx.attrs.int("sorted")));
    cx.ops("topk", &[x], attrs! {"k": k, "axis": axis as i64, "largest": largest, "sorted": sorted})
}
