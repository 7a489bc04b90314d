//! Quantisation.

use super::conv::{add_bias, integer_conv};
use super::linear::centred;
use super::{Row, many, one};
use crate::onnx::context::{Context, R, V, attrs};
use tahoma_core::{DType, OpError};

pub(super) static ROWS: &[Row] = &[
    one("QuantizeLinear", 10, quantize),
    one("DequantizeLinear", 10, dequantize),
    many("DynamicQuantizeLinear", 11, dynamic_quantize),
    one("QLinearMatMul", 10, q_matmul),
    one("QLinearConv", 10, q_conv),
];

/// Least and largest value of an integer type.
fn limits(d: DType) -> (f64, f64) {
    let bits = d.bits();
    if d.is_signed_int() { (-(2f64.powi(bits as i32 - 1)), 2f64.powi(bits as i32 - 1) - 1.0) } else { (0.0, 2f64.powi(bits as i32) - 1.0) }
}

/// Shapes a scale or zero point for broadcasting against `x`: one number, one per slice of `axis`, or one per block along it.
fn spread(cx: &mut Context, s: V, x: V) -> R<V> {
    let (sd, xd) = (cx.dims(s)?, cx.dims(x)?);
    if sd.iter().product::<usize>() == 1 && sd.len() <= 1 {
        return cx.reshape(s, &[]);
    }
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(1), xd.len())?;
    let block = cx.attrs.int("block_size").unwrap_or(0);
    if sd.len() == 1 {
        if sd[0] != xd[axis] {
            return Err(OpError::shape(format!("{} scales for {} slices of axis {axis}", sd[0], xd[axis]))
                .mark(1, format!("must be [{}]", xd[axis])));
        }
        let mut shape = vec![1; xd.len()];
        shape[axis] = sd[0];
        return cx.reshape(s, &shape);
    }
    if sd.len() != xd.len() || block < 1 {
        return Err(OpError::shape("a scale of this rank needs block_size"));
    }
    // Each scale repeats for its block; the last block may be short.
    let mut thin = sd.clone();
    thin.insert(axis + 1, 1);
    let mut wide = thin.clone();
    wide[axis + 1] = block as usize;
    let mut long = sd.clone();
    long[axis] = sd[axis].saturating_mul(block as usize);
    if long[axis] < xd[axis] {
        return Err(OpError::shape(format!("{} blocks of {block} do not cover {} elements", sd[axis], xd[axis])));
    }
    let v = cx.reshape(s, &thin)?;
    let v = cx.broadcast(v, &wide)?;
    let v = cx.reshape(v, &long)?;
    cx.slice(v, axis, 0, xd[axis])
}

/// `saturate(round(x) + zero)` as an integer type.
pub(super) fn to_integer(cx: &mut Context, x: V, zero: Option<V>, to: DType) -> R<V> {
    let mut y = cx.f("round", &[x])?;
    if let Some(z) = zero {
        let dtype = cx.dtype(y);
        let z = cx.cast(z, dtype)?;
        y = cx.add(y, z)?;
    }
    let (lo, hi) = limits(to);
    let (lo, hi) = (cx.like(lo, y)?, cx.like(hi, y)?);
    let y = cx.f("clip", &[y, lo, hi])?;
    cx.cast(y, to)
}

pub(super) fn quantize(cx: &mut Context) -> R<V> {
    let (x, scale, zero) = (cx.input(0)?, cx.input(1)?, cx.try_opt(2)?);
    let to = match (zero, cx.attrs.int("output_dtype").filter(|&d| d != 0)) {
        (Some(z), _) => cx.dtype(z),
        (None, Some(d)) => super::math::type_code(d)?,
        (None, None) => DType::U8,
    };
    let wide = match cx.attrs.int("precision").filter(|&p| p != 0) {
        Some(p) => super::math::type_code(p)?,
        None if cx.dtype(scale) == DType::F16 || cx.dtype(scale) == DType::BF16 => cx.dtype(scale),
        None => DType::F32,
    };
    let s = spread(cx, scale, x)?;
    let (x32, s) = (cx.cast(x, wide)?, cx.cast(s, wide)?);
    let y = cx.div(x32, s)?;
    if to.is_float() {
        let saturate = cx.attrs.int("saturate").unwrap_or(1) != 0;
        return cx.op("cast", &[y], attrs! {"to": to, "saturate": saturate});
    }
    let y = cx.cast(y, DType::F32)?;
    let zero = match zero {
        Some(z) => Some(spread(cx, z, x)?),
        None => None,
    };
    to_integer(cx, y, zero, to)
}

pub(super) fn dequantize(cx: &mut Context) -> R<V> {
    let (x, scale, zero) = (cx.input(0)?, cx.input(1)?, cx.try_opt(2)?);
    let to = match cx.attrs.int("output_dtype").filter(|&d| d != 0) {
        Some(d) => super::math::type_code(d)?,
        None => cx.dtype(scale),
    };
    let s = spread(cx, scale, x)?;
    let s = cx.cast(s, DType::F32)?;
    let from = cx.dtype(x);
    let mut y = if from.is_float() { cx.cast(x, DType::F32)? } else { cx.cast(x, DType::I32)? };
    if let Some(z) = zero {
        let z = spread(cx, z, x)?;
        let dtype = cx.dtype(y);
        let z = cx.cast(z, dtype)?;
        y = cx.sub(y, z)?;
    }
    let y = cx.cast(y, DType::F32)?;
    let y = cx.mul(y, s)?;
    cx.cast(y, to)
}

/// The range always includes 0.
pub(super) fn dynamic_quantize(cx: &mut Context) -> R<Vec<V>> {
    let x = cx.input(0)?;
    quantized_to_u8(cx, x)
}

fn quantized_to_u8(cx: &mut Context, x: V) -> R<Vec<V>> {
    let axes: Vec<usize> = (0..cx.rank(x)).collect();
    let zero = cx.like(0.0, x)?;
    let (lo, hi) = (cx.reduce("reduce_min", x, &axes, false)?, cx.reduce("reduce_max", x, &axes, false)?);
    let (lo, hi) = (cx.f("min", &[lo, zero])?, cx.f("max", &[hi, zero])?);
    let span = cx.sub(hi, lo)?;
    let steps = cx.like(255.0, span)?;
    let scale = cx.div(span, steps)?;
    let point = cx.f("neg", &[lo])?;
    let point = cx.div(point, scale)?;
    let (a, b) = (cx.like(0.0, point)?, cx.like(255.0, point)?);
    let point = cx.f("clip", &[point, a, b])?;
    let point = cx.f("round", &[point])?;
    let point = cx.cast(point, DType::U8)?;
    let y = cx.div(x, scale)?;
    let y = to_integer(cx, y, Some(point), DType::U8)?;
    Ok(vec![y, scale, point])
}

/// What is left of a tensor after [`dynamic_quantize`].
pub(super) fn dynamic(cx: &mut Context, x: V) -> R<V> {
    let q = quantized_to_u8(cx, x)?;
    let y = centred(cx, q[0], Some(q[2]))?;
    let y = cx.cast(y, DType::F32)?;
    cx.mul(y, q[1])
}

/// i32 sums to a quantised type: `round(sum * (sa * sb / sy)) + zero`.
fn requantize(cx: &mut Context, sum: V, scale: V, zero: V) -> R<V> {
    let y = cx.cast(sum, DType::F32)?;
    let scale = cx.cast(scale, DType::F32)?;
    let y = cx.mul(y, scale)?;
    let to = cx.dtype(zero);
    if to.is_float() {
        return cx.cast(y, to);
    }
    to_integer(cx, y, Some(zero), to)
}

fn q_matmul(cx: &mut Context) -> R<V> {
    let v: Vec<V> = (0..8).map(|i| cx.input(i)).collect::<R<_>>()?;
    let (a, sa, za, b, sb, zb, sy, zy) = (v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]);
    // One scale per row of A is a column.
    let column = |cx: &mut Context, z: V| if cx.rank(z) == 1 && cx.rank(a) >= 2 && cx.dim(z, 0)? > 1 { cx.unsqueeze(z, 1) } else { Ok(z) };
    let (sa, za) = (column(cx, sa)?, column(cx, za)?);
    let (x, w) = (centred(cx, a, Some(za))?, centred(cx, b, Some(zb))?);
    let sum = cx.matmul(x, w)?;
    let scale = cx.mul(sa, sb)?;
    let scale = cx.div(scale, sy)?;
    requantize(cx, sum, scale, zy)
}

fn q_conv(cx: &mut Context) -> R<V> {
    let v: Vec<V> = (0..8).map(|i| cx.input(i)).collect::<R<_>>()?;
    let (x, sx, zx, w, sw, zw, sy, zy) = (v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]);
    // The helper reads strides and pads from the node, channels from the weight.
    let sum = integer_conv(cx, x, w, Some(zx), Some(zw))?;
    let bias = cx.try_opt(8)?;
    let sum = add_bias(cx, sum, bias)?;
    let mut sw = sw;
    if cx.rank(sw) == 1 && cx.dim(sw, 0)? > 1 {
        let mut shape = vec![1; cx.rank(sum)];
        shape[1] = cx.dim(sw, 0)?;
        sw = cx.reshape(sw, &shape)?;
    }
    let scale = cx.mul(sx, sw)?;
    let scale = cx.div(scale, sy)?;
    requantize(cx, sum, scale, zy)
}
