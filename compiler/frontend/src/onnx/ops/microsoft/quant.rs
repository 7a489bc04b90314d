//! Quantised weights in blocks of few bits, and quantised elementwise operators.

use super::DOMAIN;
use crate::onnx::context::{Context, R, V};
use crate::onnx::ops::quant::{dequantize, dynamic_quantize, quantize, to_integer};
use crate::onnx::ops::{Row, linear, one};
use tahoma_core::{DType, OpError};

pub(super) static ROWS: &[Row] = &[
    one("MatMulNBits", 1, matmul_bits).of(DOMAIN),
    one("QuantizeLinear", 1, quantize).of(DOMAIN),
    one("DequantizeLinear", 1, dequantize).of(DOMAIN),
    one("QLinearAdd", 1, q_binary).of(DOMAIN),
    one("QLinearMul", 1, q_binary).of(DOMAIN),
    one("QLinearSigmoid", 1, q_unary).of(DOMAIN),
    one("QLinearLeakyRelu", 1, q_unary).of(DOMAIN),
    one("QLinearGlobalAveragePool", 1, q_pool).of(DOMAIN),
    one("QLinearConcat", 1, q_concat).of(DOMAIN),
    one("QGemm", 1, q_gemm).of(DOMAIN),
    one("MatMulIntegerToFloat", 1, matmul_to_float).of(DOMAIN),
    one("DynamicQuantizeMatMul", 1, dynamic_matmul).of(DOMAIN),
];

/// Codes of `bits` bits packed along the last axis, low bits first, as one `u8` each; `count` of them.
pub(super) fn unpack(cx: &mut Context, x: V, bits: usize, count: usize) -> R<V> {
    if !matches!(bits, 1 | 2 | 4 | 8) {
        return Err(cx.unsupported(format!("codes of {bits} bits")));
    }
    let x = cx.cast(x, DType::U8)?;
    let d = cx.dims(x)?;
    let (last, per) = (d.len() - 1, 8 / bits);
    if d[last] * per < count {
        return Err(OpError::shape(format!("{:?} bytes hold fewer than {count} codes of {bits} bits", d)));
    }
    if per == 1 {
        return cx.slice(x, last, 0, count);
    }
    let mask = cx.scalar(((1u32 << bits) - 1) as f64, DType::U8)?;
    let mut parts = vec![];
    for i in 0..per {
        let shift = cx.scalar((i * bits) as f64, DType::U8)?;
        let part = if i == 0 { x } else { cx.f("shr", &[x, shift])? };
        let part = cx.f("bit_and", &[part, mask])?;
        parts.push(cx.unsqueeze(part, last + 1)?);
    }
    let all = cx.concat(&parts, last + 1)?;
    let all = cx.reshape(all, &[&d[..last], &[d[last] * per]].concat())?;
    cx.slice(all, last, 0, count)
}

/// Weights `[.., rows, columns]` of packed codes as numbers of `to`: `(code − zero) · scale`, both per block of a row.
pub(super) struct Packed {
    pub(super) codes: V,
    pub(super) scales: V,
    /// Packed like the codes, or numbers of the scales' type; the middle of the range without.
    pub(super) zeros: Option<V>,
    pub(super) bits: usize,
    /// Columns that share a scale.
    pub(super) block: usize,
    /// Extents of the weights.
    pub(super) dims: Vec<usize>,
}

impl Packed {
    pub(super) fn numbers(self, cx: &mut Context, to: DType) -> R<V> {
        let last = self.dims.len() - 1;
        let (rows, columns) = (&self.dims[..last], self.dims[last]);
        if self.block == 0 || columns == 0 {
            return Err(OpError::shape("blocks must hold something"));
        }
        let blocks = columns.div_ceil(self.block);
        let padded = blocks * self.block;
        let held: usize = cx.dims(self.codes)?.iter().product();
        let outer: usize = rows.iter().product();
        if outer == 0 || !held.is_multiple_of(outer) {
            return Err(OpError::shape(format!("{held} bytes are no weights of {:?}", self.dims)).mark(1, "has another size"));
        }
        let codes = cx.reshape(self.codes, &[rows, &[held / outer]].concat())?;
        // A short last block may be padded or not.
        let stored = held / outer * 8 / self.bits.max(1);
        let codes = unpack(cx, codes, self.bits, if stored >= padded { padded } else { columns })?;
        let whole = cx.cast(codes, to)?;
        let spread = |cx: &mut Context, v: V, width: usize| -> R<V> {
            let v = cx.reshape(v, &[rows, &[blocks, 1]].concat())?;
            let v = cx.broadcast(v, &[rows, &[blocks, self.block]].concat())?;
            let v = cx.reshape(v, &[rows, &[padded]].concat())?;
            cx.slice(v, rows.len(), 0, width)
        };
        let width = cx.dim(whole, last)?;
        let zero = match self.zeros {
            None => cx.like((1u32 << (self.bits - 1)) as f64, whole)?,
            Some(z) if cx.dtype(z) == DType::U8 => {
                let bytes: usize = cx.dims(z)?.iter().product();
                let z = cx.reshape(z, &[rows, &[bytes / outer]].concat())?;
                let z = unpack(cx, z, self.bits, blocks)?;
                let z = cx.cast(z, to)?;
                spread(cx, z, width)?
            }
            Some(z) => {
                let z = cx.cast(z, to)?;
                spread(cx, z, width)?
            }
        };
        let scales = cx.cast(self.scales, to)?;
        let scales = spread(cx, scales, width)?;
        let y = cx.sub(whole, zero)?;
        let y = cx.mul(y, scales)?;
        cx.slice(y, last, 0, columns)
    }
}

fn size(cx: &Context, name: &str) -> R<usize> {
    let n = cx.attrs.int(name).unwrap_or(0);
    usize::try_from(n).ok().filter(|&n| n > 0 && n < 1 << 24).ok_or_else(|| OpError::attr(format!("{name} cannot be {n}")))
}

/// `A · W'` with W `[N, K]` in packed codes.
fn matmul_bits(cx: &mut Context) -> R<V> {
    let (a, codes, scales, zeros) = (cx.input(0)?, cx.input(1)?, cx.input(2)?, cx.try_opt(3)?);
    if cx.attrs.int("weight_prepacked").unwrap_or(0) != 0 {
        return Err(cx.unsupported("weights packed for one GPU"));
    }
    if cx.try_opt(4)?.is_some() {
        return Err(cx.unsupported("g_idx: blocks of columns in another order"));
    }
    let bits = cx.attrs.int("bits").unwrap_or(4);
    let bits =
        usize::try_from(bits).ok().filter(|b| matches!(b, 2 | 4 | 8)).ok_or_else(|| OpError::attr(format!("bits cannot be {bits}")))?;
    let (n, k, block) = (size(cx, "N")?, size(cx, "K")?, size(cx, "block_size")?);
    let dtype = cx.dtype(a);
    let w = Packed { codes, scales, zeros, bits, block, dims: vec![n, k] }.numbers(cx, dtype)?;
    let w = cx.transpose(w, &[1, 0])?;
    let y = cx.matmul(a, w)?;
    match cx.try_opt(5)? {
        Some(b) => cx.add(y, b),
        None => Ok(y),
    }
}

/// `(x − zero) · scale` of operands `i`, `i + 1`, `i + 2`.
fn real(cx: &mut Context, i: usize) -> R<V> {
    let (x, scale, zero) = (cx.input(i)?, cx.input(i + 1)?, cx.try_opt(i + 2)?);
    let x = linear::centred(cx, x, zero)?;
    let x = cx.cast(x, DType::F32)?;
    let scale = cx.cast(scale, DType::F32)?;
    cx.mul(x, scale)
}

/// Back to the type of the first operand, with scale `i` and zero point `i + 1`.
fn coded(cx: &mut Context, y: V, i: usize, to: DType) -> R<V> {
    let (scale, zero) = (cx.input(i)?, cx.try_opt(i + 1)?);
    let scale = cx.cast(scale, DType::F32)?;
    let y = cx.div(y, scale)?;
    to_integer(cx, y, zero, to)
}

fn q_binary(cx: &mut Context) -> R<V> {
    let (a, b) = (real(cx, 0)?, real(cx, 3)?);
    let y = cx.f(if cx.schema.name == "QLinearAdd" { "add" } else { "mul" }, &[a, b])?;
    let to = cx.dtype(cx.input(0)?);
    coded(cx, y, 6, to)
}

fn q_unary(cx: &mut Context) -> R<V> {
    let x = real(cx, 0)?;
    let y = match cx.schema.name {
        "QLinearSigmoid" => cx.f("sigmoid", &[x])?,
        _ => {
            let alpha = cx.attrs.float("alpha").unwrap_or(0.01f32 as f64);
            cx.op("leaky_relu", &[x], tahoma_core::Attrs::new().with("alpha", alpha))?
        }
    };
    let to = cx.dtype(cx.input(0)?);
    coded(cx, y, 3, to)
}

fn q_pool(cx: &mut Context) -> R<V> {
    let (x, scale, zero) = (cx.input(0)?, cx.input(1)?, cx.try_opt(2)?);
    let rank = cx.rank(x);
    let last = cx.attrs.int("channels_last").unwrap_or(0) != 0;
    let axes: Vec<usize> = if last { (1..rank.saturating_sub(1)).collect() } else { (2..rank).collect() };
    let dims = cx.dims(x)?;
    let count: usize = axes.iter().map(|&a| dims[a]).product();
    // One rounding, of the exact sum.
    let whole = linear::centred(cx, x, zero)?;
    let sum = cx.reduce("reduce_sum", whole, &axes, true)?;
    let sum = cx.cast(sum, DType::F32)?;
    let out = cx.input(3)?;
    let all = cx.scale(out, count as f64)?;
    let factor = cx.div(scale, all)?;
    let y = cx.mul(sum, factor)?;
    let (zero, to) = (cx.try_opt(4)?, cx.dtype(x));
    to_integer(cx, y, zero, to)
}

fn q_concat(cx: &mut Context) -> R<V> {
    let parts: Vec<V> = (2..cx.count()).step_by(3).map(|i| real(cx, i)).collect::<R<_>>()?;
    let Some(&first) = parts.first() else { return Err(OpError::attr("needs operands")) };
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(0), cx.rank(first))?;
    let y = cx.concat(&parts, axis)?;
    let to = cx.dtype(cx.input(2)?);
    coded(cx, y, 0, to)
}

/// An integer product, its scales, and the bias that is in units of their product.
fn q_gemm(cx: &mut Context) -> R<V> {
    let (a, sa, za, b, sb, zb) = (cx.input(0)?, cx.input(1)?, cx.input(2)?, cx.input(3)?, cx.input(4)?, cx.input(5)?);
    let swapped = |cx: &mut Context, v: V, flag: &str| if cx.attrs.int(flag).unwrap_or(0) != 0 { cx.transpose(v, &[1, 0]) } else { Ok(v) };
    let (x, w) = (swapped(cx, a, "transA")?, swapped(cx, b, "transB")?);
    let (x, w) = (linear::centred(cx, x, Some(za))?, linear::centred(cx, w, Some(zb))?);
    let mut y = cx.matmul(x, w)?;
    if let Some(c) = cx.try_opt(6)? {
        y = cx.add(y, c)?;
    }
    let y = cx.cast(y, DType::F32)?;
    let scale = cx.mul(sa, sb)?;
    let scale = cx.scale(scale, cx.attrs.float("alpha").unwrap_or(1.0))?;
    let y = cx.mul(y, scale)?;
    if cx.try_opt(7)?.is_none() {
        return Ok(y);
    }
    let to = cx.dtype(a);
    coded(cx, y, 7, to)
}

/// `A · B` of integers as numbers; operands: A, B, their scales, their zero points, a bias.
fn product(cx: &mut Context, a: V, b: V, scales: (V, V), zeros: (Option<V>, Option<V>), bias: Option<V>) -> R<V> {
    let (x, w) = (linear::centred(cx, a, zeros.0)?, linear::centred(cx, b, zeros.1)?);
    let y = cx.matmul(x, w)?;
    let y = cx.cast(y, DType::F32)?;
    let scale = cx.mul(scales.0, scales.1)?;
    let y = cx.mul(y, scale)?;
    match bias {
        Some(b) => cx.add(y, b),
        None => Ok(y),
    }
}

fn matmul_to_float(cx: &mut Context) -> R<V> {
    let (a, b, sa, sb) = (cx.input(0)?, cx.input(1)?, cx.input(2)?, cx.input(3)?);
    let (za, zb, bias) = (cx.try_opt(4)?, cx.try_opt(5)?, cx.try_opt(6)?);
    product(cx, a, b, (sa, sb), (za, zb), bias)
}

fn dynamic_matmul(cx: &mut Context) -> R<V> {
    let (b, sb, zb, bias) = (cx.input(1)?, cx.input(2)?, cx.try_opt(3)?, cx.try_opt(4)?);
    let q = dynamic_quantize(cx)?;
    product(cx, q[0], b, (q[1], sb), (Some(q[2]), zb), bias)
}
