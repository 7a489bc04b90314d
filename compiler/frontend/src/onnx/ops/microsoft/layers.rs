//! Fused products, activations and normalisations.

use super::DOMAIN;
use crate::onnx::context::{Context, R, V, attrs};
use crate::onnx::ops::{Row, activation, conv, linear, many, one};
use tahoma_core::{DType, OpError};

pub(super) static ROWS: &[Row] = &[
    one("FusedMatMul", 1, fused_matmul).of(DOMAIN),
    one("TransposeMatMul", 1, fused_matmul).of(DOMAIN),
    one("FusedGemm", 1, fused_gemm).of(DOMAIN),
    one("FusedConv", 1, fused_conv).of(DOMAIN),
    one("Gelu", 1, gelu).of(DOMAIN),
    one("BiasGelu", 1, gelu).of(DOMAIN),
    one("FastGelu", 1, gelu).of(DOMAIN),
    one("QuickGelu", 1, quick_gelu).of(DOMAIN),
    many("SimplifiedLayerNormalization", 1, simplified),
    many("SkipLayerNormalization", 1, skip_layer).of(DOMAIN).in_f32(&[0, 0, 0, 0]),
    many("SkipSimplifiedLayerNormalization", 1, skip_simplified).of(DOMAIN).in_f32(&[0, 0, 0, 0]),
    many("EmbedLayerNormalization", 1, embed_layer).of(DOMAIN).in_f32(&[2, 0, 2]),
];

/// `alpha · A' B'`: each operand with its last two axes swapped, its first axis moved behind the batch, or both.
fn fused_matmul(cx: &mut Context) -> R<V> {
    let turned = |cx: &mut Context, i: usize, flags: [&str; 2]| {
        let mut v = cx.input(i)?;
        let rank = cx.rank(v);
        let [swap, batch] = flags.map(|f| cx.attrs.int(f).unwrap_or(0) != 0);
        if rank < 2 {
            return Ok(v);
        }
        if batch {
            let perm: Vec<usize> = (1..rank - 1).chain([0, rank - 1]).collect();
            v = cx.transpose(v, &perm)?;
        }
        if swap {
            let perm: Vec<usize> = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
            v = cx.transpose(v, &perm)?;
        }
        Ok(v)
    };
    let alpha = cx.attrs.float("alpha").unwrap_or(1.0);
    let product = |cx: &mut Context| {
        let (a, b) = (turned(cx, 0, ["transA", "transBatchA"])?, turned(cx, 1, ["transB", "transBatchB"])?);
        let y = cx.matmul(a, b)?;
        cx.scale(y, alpha)
    };
    if alpha == 1.0 { product(cx) } else { cx.one_in_f32(product) }
}

fn fused_gemm(cx: &mut Context) -> R<V> {
    let y = linear::gemm(cx)?;
    let parameters = ["activation_alpha", "activation_beta", "activation_gamma"].map(|n| cx.attrs.float(n));
    activated(cx, y, &parameters)
}

fn fused_conv(cx: &mut Context) -> R<V> {
    let mut y = conv::conv(cx)?;
    if let Some(z) = cx.try_opt(3)? {
        y = cx.add(y, z)?;
    }
    let parameters: Vec<Option<f64>> = cx.attrs.floats("activation_params").unwrap_or_default().iter().map(|&f| Some(f as f64)).collect();
    activated(cx, y, &parameters)
}

/// The activation that the node names, with its numbers.
fn activated(cx: &mut Context, y: V, parameters: &[Option<f64>]) -> R<V> {
    let number = |i: usize, default: f64| parameters.get(i).copied().flatten().unwrap_or(default);
    match cx.attrs.str("activation").unwrap_or("") {
        "" => Ok(y),
        "Relu" => cx.f("relu", &[y]),
        "Sigmoid" => cx.f("sigmoid", &[y]),
        "Tanh" => cx.f("tanh", &[y]),
        "LeakyRelu" => cx.op("leaky_relu", &[y], attrs! {"alpha": number(0, 0.01)}),
        "HardSigmoid" => cx.op("hard_sigmoid", &[y], attrs! {"alpha": number(0, 0.2), "beta": number(1, 0.5)}),
        "Clip" => {
            let (lo, hi) = (cx.like(number(0, f64::from(f32::MIN)), y)?, cx.like(number(1, f64::from(f32::MAX)), y)?);
            cx.f("clip", &[y, lo, hi])
        }
        other => Err(cx.unsupported(format!("the fused activation {other:?}"))),
    }
}

/// Of the operand, or of the operand and a bias: with erf, or FastGelu with tanh.
fn gelu(cx: &mut Context) -> R<V> {
    let mut x = cx.input(0)?;
    if let Some(b) = cx.try_opt(1)? {
        x = cx.add(x, b)?;
    }
    cx.f(if cx.schema.name == "FastGelu" { "gelu_tanh" } else { "gelu" }, &[x])
}

fn quick_gelu(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let alpha = cx.attrs.float("alpha").unwrap_or(1.702f32 as f64);
    activation::silu(cx, x, alpha)
}

/// Root mean square norm of the axes from `axis` on, and 1/norm.
fn rms(cx: &mut Context, x: V, scale: V, axis: usize, epsilon: f64) -> R<(V, Option<V>)> {
    let dims = cx.dims(x)?[axis..].to_vec();
    let scale = cx.broadcast(scale, &dims)?;
    let y = cx.op("rms_norm", &[x, scale], attrs! {"axis": axis as i64, "epsilon": epsilon})?;
    if !cx.wants(1) {
        return Ok((y, None));
    }
    let wide = cx.cast(x, DType::F32)?;
    let axes: Vec<usize> = (axis..cx.rank(x)).collect();
    let square = cx.mul(wide, wide)?;
    let mean = cx.reduce("reduce_mean", square, &axes, true)?;
    let e = cx.like(epsilon, mean)?;
    let mean = cx.add(mean, e)?;
    Ok((y, Some(cx.f("rsqrt", &[mean])?)))
}

fn simplified(cx: &mut Context) -> R<Vec<V>> {
    let (x, scale) = (cx.input(0)?, cx.input(1)?);
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(-1), cx.rank(x))?;
    let (y, inverse) = rms(cx, x, scale, axis, cx.attrs.float("epsilon").unwrap_or(1e-5f32 as f64))?;
    Ok([Some(y), inverse].into_iter().flatten().collect())
}

/// `input + skip + bias`, its last axis to be normalised.
fn skipped(cx: &mut Context, bias: usize) -> R<(V, usize, f64)> {
    let (x, skip) = (cx.input(0)?, cx.input(1)?);
    let mut sum = cx.add(x, skip)?;
    if let Some(b) = cx.try_opt(bias)? {
        sum = cx.add(sum, b)?;
    }
    if cx.rank(sum) == 0 {
        return Err(OpError::shape("needs an axis to normalise").mark(0, "must have rank 1 or more"));
    }
    Ok((sum, cx.rank(sum) - 1, cx.attrs.float("epsilon").unwrap_or(1e-12f32 as f64)))
}

/// Results 1 and 2, mean and 1/deviation, are for training, and nothing here makes them; result 3 is the sum.
fn with_sum(cx: &mut Context, y: V, sum: V) -> R<Vec<V>> {
    if cx.wants(1) || cx.wants(2) {
        return Err(cx.unsupported("the mean or deviation as a result"));
    }
    Ok(vec![y, sum, sum, sum])
}

fn skip_layer(cx: &mut Context) -> R<Vec<V>> {
    let (sum, axis, epsilon) = skipped(cx, 4)?;
    let gamma = cx.input(2)?;
    let beta = cx.try_opt(3)?;
    let y = layer_norm(cx, sum, gamma, beta, axis, epsilon)?;
    with_sum(cx, y, sum)
}

fn layer_norm(cx: &mut Context, x: V, gamma: V, beta: Option<V>, axis: usize, epsilon: f64) -> R<V> {
    let beta = match beta {
        Some(b) => b,
        None => {
            let (dims, dtype) = (cx.dims(gamma)?, cx.dtype(gamma));
            cx.full(0.0, dtype, &dims)?
        }
    };
    cx.op("layer_norm", &[x, gamma, beta], attrs! {"axis": axis as i64, "epsilon": epsilon})
}

fn skip_simplified(cx: &mut Context) -> R<Vec<V>> {
    let (sum, axis, epsilon) = skipped(cx, 3)?;
    let gamma = cx.input(2)?;
    let dims = cx.dims(sum)?[axis..].to_vec();
    let gamma = cx.broadcast(gamma, &dims)?;
    let y = cx.op("rms_norm", &[sum, gamma], attrs! {"axis": axis as i64, "epsilon": epsilon})?;
    with_sum(cx, y, sum)
}

/// Words, places and segments added and normalised; also how many tokens of each row the mask keeps.
fn embed_layer(cx: &mut Context) -> R<Vec<V>> {
    let ids = cx.input(0)?;
    let [batch, length] = cx.dims(ids)?[..] else { return Err(OpError::shape("needs [batch, length]").mark(0, "must have rank 2")) };
    let (words, places) = (cx.input(2)?, cx.input(3)?);
    let look = |cx: &mut Context, table: V, at: V| {
        let at = cx.cast(at, DType::I64)?;
        cx.op("gather", &[table, at], attrs! {"axis": 0i64})
    };
    let mut sum = look(cx, words, ids)?;
    let at = match cx.try_opt(8)? {
        Some(p) => p,
        None => {
            let line = cx.iota(length)?;
            cx.reshape(line, &[1, length])?
        }
    };
    let place = look(cx, places, at)?;
    sum = cx.add(sum, place)?;
    if let (Some(s), Some(table)) = (cx.try_opt(1)?, cx.try_opt(4)?) {
        let segment = look(cx, table, s)?;
        sum = cx.add(sum, segment)?;
    }
    let (gamma, beta) = (cx.input(5)?, cx.input(6)?);
    let y = layer_norm(cx, sum, gamma, Some(beta), 2, cx.attrs.float("epsilon").unwrap_or(1e-12f32 as f64))?;
    let kept = match cx.try_opt(7)? {
        Some(mask) => {
            let mask = cx.cast(mask, DType::I32)?;
            cx.reduce("reduce_sum", mask, &[1], false)?
        }
        None => cx.full(0.0, DType::I32, &[batch])?,
    };
    Ok(vec![y, kept, sum])
}
