//! Pooling.

use super::conv::{Windows, longs};
use super::{Row, many, one};
use crate::onnx::context::{Context, R, V, attrs};
use tahoma_core::{DType, OpError, Tensor};

pub(super) static ROWS: &[Row] = &[
    many("MaxPool", 1, max_pool),
    one("AveragePool", 1, average_pool).in_f32(&[0]),
    one("LpPool", 1, lp_pool).in_f32(&[0]),
    one("GlobalAveragePool", 1, global),
    one("GlobalMaxPool", 1, global),
    one("GlobalLpPool", 1, global).in_f32(&[0]),
    one("MaxUnpool", 9, max_unpool),
];

fn global(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let axes: Vec<usize> = (2..cx.rank(x)).collect();
    if axes.is_empty() {
        return Err(OpError::shape("needs spatial axes").mark(0, "must have rank 3 or more"));
    }
    match cx.schema.name {
        "GlobalAveragePool" => cx.reduce("reduce_mean", x, &axes, true),
        "GlobalMaxPool" => cx.reduce("reduce_max", x, &axes, true),
        _ => {
            let p = cx.attrs.int("p").map(|p| p as f64).or(cx.attrs.float("p")).unwrap_or(2.0);
            let s = powers(cx, x, p)?;
            let s = cx.reduce("reduce_sum", s, &axes, true)?;
            root(cx, s, p)
        }
    }
}

fn powers(cx: &mut Context, x: V, p: f64) -> R<V> {
    let a = cx.f("abs", &[x])?;
    let p = cx.like(p, x)?;
    cx.f("pow", &[a, p])
}

fn root(cx: &mut Context, x: V, p: f64) -> R<V> {
    let p = cx.like(1.0 / p, x)?;
    cx.f("pow", &[x, p])
}

/// Reads the windows of a pool; with `ceil_mode` padding at the end grows so that a last, partial window fits.
///
/// Returns the windows and the padding at the end that counts as padding of the model's (the rest lies outside everything).
fn windows(cx: &Context, x: V) -> R<(Windows, Vec<i64>, Vec<usize>)> {
    let dims = cx.dims(x)?;
    if dims.len() < 3 {
        return Err(OpError::shape("needs spatial axes").mark(0, "must have rank 3 or more"));
    }
    let spatial = dims[2..].to_vec();
    let kernel = cx.attrs.ints("kernel_shape").unwrap_or(&[]);
    if kernel.iter().any(|&k| k < 1) {
        return Err(OpError::attr(format!("kernel_shape cannot be {kernel:?}")));
    }
    let kernel: Vec<usize> = kernel.iter().map(|&k| k as usize).collect();
    let mut w = Windows::new(cx, &spatial, &kernel)?;
    let own_end = w.end.clone();
    if cx.attrs.int("ceil_mode").unwrap_or(0) != 0 {
        for (i, &extent) in spatial.iter().enumerate() {
            let room = extent as i64 + w.begin[i] + w.end[i] - w.extent(i) as i64;
            let stride = w.strides[i] as i64;
            let mut last = (room.max(0) + stride - 1) / stride;
            // A window that starts in the padding at the end does not count.
            if last * stride >= extent as i64 + w.begin[i] {
                last -= 1;
            }
            w.end[i] += last * stride - room;
        }
    }
    let out = w.count(&spatial)?;
    Ok((w, own_end, out))
}

fn window_attrs(w: &Windows) -> tahoma_core::Attrs {
    attrs! {"window": longs(&w.kernel), "strides": longs(&w.strides), "pads": w.pads(), "dilations": longs(&w.dilations)}
}

fn max_pool(cx: &mut Context) -> R<Vec<V>> {
    let x = cx.input(0)?;
    let (w, _, out) = windows(cx, x)?;
    let y = cx.op("max_pool", &[x], window_attrs(&w))?;
    if !cx.wants(1) {
        return Ok(vec![y]);
    }
    let indices = max_indices(cx, x, &w, &out)?;
    Ok(vec![y, indices])
}

/// Where each window's first largest element is, counted over the whole operand: the windows are gathered side by side.
fn max_indices(cx: &mut Context, x: V, w: &Windows, out: &[usize]) -> R<V> {
    let dims = cx.dims(x)?;
    let (spatial, n) = (&dims[2..], out.len());
    let (points, size): (usize, usize) = (out.iter().product(), w.kernel.iter().product());
    if points.checked_mul(size).is_none_or(|n| n as u64 > cx.imp.options.budget.elements.min(1 << 24)) {
        return Err(OpError::new("E0107", "the indices of this MaxPool need too many elements"));
    }
    let column_major = cx.attrs.int("storage_order").unwrap_or(0) != 0;
    let (mut place, mut flat) = (Vec::with_capacity(points * size), Vec::with_capacity(points * size));
    let outside: i64 = spatial.iter().product::<usize>() as i64;
    for p in 0..points {
        for k in 0..size {
            let (mut p, mut k, mut at) = (p, k, vec![0i64; n]);
            for i in (0..n).rev() {
                at[i] = (p % out[i] * w.strides[i] + k % w.kernel[i] * w.dilations[i]) as i64 - w.begin[i];
                (p, k) = (p / out[i], k / w.kernel[i]);
            }
            let inside = (0..n).all(|i| at[i] >= 0 && at[i] < spatial[i] as i64);
            let row = (0..n).fold(0, |a, i| a * spatial[i] as i64 + at[i]);
            let column = (0..n).rev().fold(0, |a, i| a * spatial[i] as i64 + at[i]);
            place.push(if inside { row } else { outside });
            flat.push(if column_major { column } else { row });
        }
    }
    // One more element, smaller than all, stands for the padding.
    let wide = cx.reshape(x, &[dims[0], dims[1], outside as usize])?;
    let low = cx.reduce("reduce_min", wide, &[2], true)?;
    let wide = cx.concat(&[wide, low], 2)?;
    let place = cx.constant(Tensor::i64(&[points, size], place));
    let patches = cx.op("gather", &[wide, place], attrs! {"axis": 2i64})?;
    let best = cx.op("argmax", &[patches], attrs! {"axis": 3i64, "keepdims": true, "last": false})?;
    let flat = cx.constant(Tensor::i64(&[1, 1, points, size], flat));
    let flat = cx.broadcast(flat, &[dims[0], dims[1], points, size])?;
    let found = cx.op("gather_elements", &[flat, best], attrs! {"axis": 3i64})?;
    let found = cx.reshape(found, &[dims[0], dims[1], points])?;
    let planes = cx.iota(dims[0] * dims[1])?;
    let step = cx.int(outside);
    let base = cx.mul(planes, step)?;
    let base = cx.reshape(base, &[dims[0], dims[1], 1])?;
    let all = cx.add(found, base)?;
    cx.reshape(all, &[&dims[..2], out].concat())
}

/// Sums of windows over how many elements count in each: a product of one factor per axis, known now.
fn average_pool(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let (w, own_end, out) = windows(cx, x)?;
    let dims = cx.dims(x)?;
    let padding = cx.attrs.int("count_include_pad").unwrap_or(0) != 0;
    let dtype = cx.dtype(x);
    let sum = cx.op("sum_pool", &[x], window_attrs(&w))?;
    let n = out.len();
    let mut total: Option<V> = None;
    for i in 0..n {
        let size = dims[i + 2] as i64;
        let (lo, hi) = if padding { (-w.begin[i], size + own_end[i]) } else { (0, size) };
        let counts: Vec<f32> = (0..out[i])
            .map(|p| {
                let first = (p * w.strides[i]) as i64 - w.begin[i];
                let inside = (0..w.kernel[i]).filter(|k| (lo..hi).contains(&(first + (k * w.dilations[i]) as i64))).count();
                inside.max(1) as f32
            })
            .collect();
        let mut shape = vec![1; n + 2];
        let all_same = counts.iter().all(|c| *c == counts[0]);
        let counts = if all_same { vec![counts[0]] } else { counts };
        shape[i + 2] = counts.len();
        let c = cx.constant(Tensor::f32(&shape, counts));
        let c = cx.cast(c, dtype)?;
        total = Some(match total {
            Some(t) => cx.mul(t, c)?,
            None => c,
        });
    }
    match total {
        Some(t) => cx.div(sum, t),
        None => Ok(sum),
    }
}

fn lp_pool(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let (w, _, _) = windows(cx, x)?;
    let p = cx.attrs.int("p").map(|p| p as f64).or(cx.attrs.float("p")).unwrap_or(2.0);
    let s = powers(cx, x, p)?;
    let s = cx.op("sum_pool", &[s], window_attrs(&w))?;
    root(cx, s, p)
}

/// Puts each element where the pool's indices say, zero elsewhere.
fn max_unpool(cx: &mut Context) -> R<V> {
    let (x, indices) = (cx.input(0)?, cx.input(1)?);
    let dims = cx.dims(x)?;
    let n = dims.len().saturating_sub(2);
    let kernel = cx.attrs.ints("kernel_shape").unwrap_or(&[]).to_vec();
    let strides = super::conv::per_axis(cx, "strides", n, 1, 1)?;
    let pads = cx.attrs.ints("pads").map_or_else(|| vec![0; 2 * n], <[i64]>::to_vec);
    if kernel.len() != n || pads.len() != 2 * n {
        return Err(OpError::attr("kernel_shape and pads must have one and two numbers per spatial axis"));
    }
    let mut natural = dims[..2.min(dims.len())].to_vec();
    for i in 0..n {
        let size = (dims[i + 2] as i64 - 1) * strides[i] + kernel[i] - pads[i] - pads[i + n];
        natural.push(usize::try_from(size).map_err(|_| OpError::shape("the pads are larger than the result"))?);
    }
    let out: Vec<usize> = match cx.try_opt(2)? {
        Some(_) => cx.need_ints(2)?.iter().map(|&d| d.max(0) as usize).collect(),
        None => natural.clone(),
    };
    if out.len() != dims.len() || out.iter().zip(&natural).any(|(o, n)| o < n) {
        return Err(OpError::shape(format!("output_shape {out:?} is smaller than {natural:?}")));
    }
    // The indices count over the result; with an explicit shape they count over the natural one, which lies in its corner.
    let total: usize = natural.iter().product();
    let count: usize = dims.iter().product();
    let dtype = cx.dtype(x);
    let zero = cx.full(0.0, dtype, &[total])?;
    let (flat, at) = (cx.reshape(x, &[count])?, cx.reshape(indices, &[count])?);
    let at = cx.cast(at, DType::I64)?;
    let y = cx.op("scatter_elements", &[zero, at, flat], attrs! {"axis": 0i64, "reduction": "none"})?;
    let y = cx.reshape(y, &natural)?;
    if out == natural {
        return Ok(y);
    }
    let high: Vec<i64> = out.iter().zip(&natural).map(|(o, n)| (o - n) as i64).collect();
    let zeros = vec![0i64; out.len()];
    cx.op("pad", &[y], attrs! {"low": zeros.clone(), "high": high, "interior": zeros, "value": 0.0})
}
