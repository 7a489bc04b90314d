//! Gathers, scatters, selections by index.

use super::{Row, many, one};
use crate::onnx::context::{Context, R, V, attrs};
use tahoma_core::{DType, OpError};

pub(super) static ROWS: &[Row] = &[
    one("Gather", 1, gather),
    one("GatherElements", 11, gather_elements),
    one("GatherND", 11, gather_nd),
    one("Scatter", 9, scatter_elements),
    one("ScatterElements", 11, scatter_elements),
    one("ScatterND", 11, scatter_nd),
    one("TensorScatter", 24, tensor_scatter),
    one("NonZero", 9, non_zero),
    one("Compress", 9, compress),
    one("OneHot", 9, one_hot),
    one("Trilu", 14, trilu),
    many("Unique", 11, unique),
];

fn index_operand(cx: &mut Context, i: usize) -> R<V> {
    let v = cx.input(i)?;
    cx.cast(v, DType::I64)
}

fn gather(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let indices = index_operand(cx, 1)?;
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(0), cx.rank(x))?;
    cx.op("gather", &[x, indices], attrs! {"axis": axis as i64})
}

fn gather_elements(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let indices = index_operand(cx, 1)?;
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(0), cx.rank(x))?;
    cx.op("gather_elements", &[x, indices], attrs! {"axis": axis as i64})
}

fn gather_nd(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let indices = index_operand(cx, 1)?;
    let batch = cx.attrs.int("batch_dims").unwrap_or(0);
    if batch < 0 || batch as usize >= cx.rank(x).min(cx.rank(indices)).max(1) {
        return Err(OpError::attr(format!("batch_dims cannot be {batch}")));
    }
    cx.op("gather_nd", &[x, indices], attrs! {"batch_dims": batch})
}

fn scatter_elements(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let indices = index_operand(cx, 1)?;
    let updates = cx.input(2)?;
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(0), cx.rank(x))?;
    let reduction = reduction(cx)?;
    cx.op("scatter_elements", &[x, indices, updates], attrs! {"axis": axis as i64, "reduction": reduction})
}

fn reduction(cx: &Context) -> R<&'static str> {
    let given = cx.attrs.str("reduction").unwrap_or("none");
    ["none", "add", "mul", "max", "min"]
        .into_iter()
        .find(|r| *r == given)
        .ok_or_else(|| OpError::attr(format!("reduction {given:?} is none of none, add, mul, max, min")))
}

fn scatter_nd(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let indices = index_operand(cx, 1)?;
    let updates = cx.input(2)?;
    let reduction = reduction(cx)?;
    cx.op("scatter_nd", &[x, indices, updates], attrs! {"reduction": reduction})
}

/// Writes `update` into the cache at each row's own place along `axis`.
fn tensor_scatter(cx: &mut Context) -> R<V> {
    let (cache, update, at) = (cx.input(0)?, cx.input(1)?, cx.try_opt(2)?);
    let (dims, part) = (cx.dims(cache)?, cx.dims(update)?);
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(-2), dims.len())?;
    if part.len() != dims.len() || axis == 0 {
        return Err(OpError::shape("cache and update must have one rank, and the axis cannot be the batch"));
    }
    let mut line = vec![1i64; dims.len()];
    line[axis] = part[axis] as i64;
    let mut index = cx.op("iota", &[], attrs! {"shape": line, "axis": axis as i64, "dtype": DType::I64})?;
    if let Some(at) = at {
        let at = cx.cast(at, DType::I64)?;
        let mut shape = vec![1; dims.len()];
        shape[0] = dims[0];
        let at = cx.reshape(at, &shape)?;
        index = cx.add(index, at)?;
    }
    if cx.attrs.str("mode") == Some("circular") {
        let n = cx.int(dims[axis] as i64);
        index = cx.f("mod", &[index, n])?;
    }
    let index = cx.broadcast(index, &part)?;
    cx.op("scatter_elements", &[cache, index, update], attrs! {"axis": axis as i64, "reduction": "none"})
}

fn non_zero(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    cx.f("nonzero", &[x])
}

/// The elements (or slices along `axis`) where the condition holds.
fn compress(cx: &mut Context) -> R<V> {
    let (mut x, mut cond) = (cx.input(0)?, cx.input(1)?);
    let axis = match cx.attrs.int("axis") {
        Some(a) => cx.axis(a, cx.rank(x))?,
        None => {
            let n = cx.dims(x)?.iter().product();
            x = cx.reshape(x, &[n])?;
            0
        }
    };
    // A condition longer than the axis counts no further.
    let (n, m) = (cx.dim(cond, 0)?, cx.dim(x, axis)?);
    if n > m {
        cond = cx.slice(cond, 0, 0, m)?;
    }
    let places = cx.f("nonzero", &[cond])?;
    let shape = cx.ints(&[-1]);
    let places = cx.f("reshape_to", &[places, shape])?;
    cx.op("gather", &[x, places], attrs! {"axis": axis as i64})
}

/// `values[1]` where the new axis equals the index, else `values[0]`; negative indices count from the end.
fn one_hot(cx: &mut Context) -> R<V> {
    let (indices, values) = (cx.input(0)?, cx.input(2)?);
    let depth = cx.need_floats(1)?.first().copied().unwrap_or(0.0);
    if !(depth >= 0.0 && depth < (1u64 << 32) as f64) {
        return Err(OpError::attr(format!("depth cannot be {depth}")));
    }
    let depth = depth as i64;
    let indices = cx.cast(indices, DType::I64)?;
    let rank = cx.rank(indices);
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(-1), rank + 1)?;
    let (zero, n) = (cx.int(0), cx.int(depth));
    let negative = cx.f("lt", &[indices, zero])?;
    let wrapped = cx.add(indices, n)?;
    let indices = cx.f("select", &[negative, wrapped, indices])?;
    let indices = cx.unsqueeze(indices, axis)?;
    let mut shape = vec![1i64; rank + 1];
    shape[axis] = depth;
    let line = cx.op("iota", &[], attrs! {"shape": shape, "axis": axis as i64, "dtype": DType::I64})?;
    let hit = cx.f("eq", &[indices, line])?;
    let (off, on) = (cx.slice(values, 0, 0, 1)?, cx.slice(values, 0, 1, 1)?);
    let (off, on) = (cx.reshape(off, &[])?, cx.reshape(on, &[])?);
    cx.f("select", &[hit, on, off])
}

/// The upper or lower triangle of the last two axes.
fn trilu(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let dims = cx.dims(x)?;
    let rank = dims.len();
    if rank < 2 {
        return Err(OpError::shape("needs a matrix").mark(0, "must have rank 2 or more"));
    }
    let k = match cx.try_opt(1)? {
        Some(v) => {
            let v = cx.cast(v, DType::I64)?;
            cx.reshape(v, &[])?
        }
        None => cx.int(0),
    };
    let upper = cx.attrs.int("upper").unwrap_or(1) != 0;
    let (m, n) = (dims[rank - 2] as i64, dims[rank - 1] as i64);
    let row = cx.op("iota", &[], attrs! {"shape": vec![m, 1], "axis": 0i64, "dtype": DType::I64})?;
    let col = cx.op("iota", &[], attrs! {"shape": vec![1, n], "axis": 1i64, "dtype": DType::I64})?;
    let edge = cx.add(row, k)?;
    let keep = cx.f(if upper { "ge" } else { "le" }, &[col, edge])?;
    let zero = cx.like(0.0, x)?;
    cx.f("select", &[keep, x, zero])
}

fn unique(cx: &mut Context) -> R<Vec<V>> {
    let x = cx.input(0)?;
    let sorted = cx.attrs.int("sorted").unwrap_or(1) != 0;
    match cx.attrs.int("axis") {
        Some(a) => {
            let axis = cx.axis(a, cx.rank(x))?;
            cx.ops("unique", &[x], attrs! {"axis": axis as i64, "sorted": sorted})
        }
        None => {
            let n = cx.dims(x)?.iter().product();
            let flat = cx.reshape(x, &[n])?;
            cx.ops("unique", &[flat], attrs! {"axis": 0i64, "sorted": sorted})
        }
    }
}
