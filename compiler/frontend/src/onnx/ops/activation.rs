//! Activations and the softmax family.

use super::{Row, one};
use crate::onnx::context::{Context, R, V, attrs};
use tahoma_core::{DType, Dim};

pub(super) static ROWS: &[Row] = &[
    one("Relu", 1, plain),
    one("HardSwish", 14, plain),
    one("Softplus", 1, plain),
    one("Softsign", 1, plain),
    one("Mish", 18, plain),
    one("LeakyRelu", 1, leaky),
    one("ThresholdedRelu", 10, thresholded),
    one("Elu", 1, elu),
    one("Celu", 12, elu),
    one("Selu", 1, selu),
    one("HardSigmoid", 1, hard_sigmoid),
    one("PRelu", 1, prelu),
    one("Gelu", 20, gelu),
    one("Swish", 24, swish),
    one("SwiGLU", 28, swiglu),
    one("Shrink", 9, shrink),
    one("Softmax", 1, softmax_flat),
    one("LogSoftmax", 1, softmax_flat),
    one("Hardmax", 1, softmax_flat),
    one("Softmax", 13, softmax_axis),
    one("LogSoftmax", 13, softmax_axis),
    one("Hardmax", 13, softmax_axis),
];

fn plain(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let name = match cx.schema.name {
        "HardSwish" => "hard_swish".to_string(),
        n => n.to_lowercase(),
    };
    cx.f(&name, &[x])
}

fn leaky(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let alpha = cx.attrs.float("alpha").unwrap_or(0.01f32 as f64);
    cx.op("leaky_relu", &[x], attrs! {"alpha": alpha})
}

fn thresholded(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let alpha = cx.attrs.float("alpha").unwrap_or(1.0);
    cx.op("thresholded_relu", &[x], attrs! {"alpha": alpha})
}

fn elu(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let alpha = cx.attrs.float("alpha").unwrap_or(1.0);
    let name = cx.schema.name.to_lowercase();
    cx.op(&name, &[x], attrs! {"alpha": alpha})
}

fn selu(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let old = cx.since() < 6;
    let alpha = cx.attrs.float("alpha").unwrap_or(if old { 1.6732 } else { 1.673_263_192_176_818_8 });
    let gamma = cx.attrs.float("gamma").unwrap_or(if old { 1.0507 } else { 1.050_701_022_148_132_3 });
    cx.op("selu", &[x], attrs! {"alpha": alpha, "gamma": gamma})
}

fn hard_sigmoid(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let (alpha, beta) = (cx.attrs.float("alpha").unwrap_or(0.2f32 as f64), cx.attrs.float("beta").unwrap_or(0.5));
    cx.op("hard_sigmoid", &[x], attrs! {"alpha": alpha, "beta": beta})
}

fn prelu(cx: &mut Context) -> R<V> {
    let (x, mut slope) = (cx.input(0)?, cx.input(1)?);
    // Below operator set 7 the slope is one number or one per channel.
    if cx.since() < 7 && cx.rank(slope) == 1 && cx.rank(x) > 2 {
        let mut dims = cx.shape(slope).0;
        dims.extend(vec![Dim::Known(1); cx.rank(x) - 2]);
        slope = cx.reshape_dims(slope, &dims)?;
    }
    cx.f("prelu", &[x, slope])
}

fn gelu(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let tanh = cx.attrs.str("approximate") == Some("tanh");
    cx.f(if tanh { "gelu_tanh" } else { "gelu" }, &[x])
}

/// `x * sigmoid(alpha * x)`
fn swish(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let alpha = cx.attrs.float("alpha").unwrap_or(1.0);
    silu(cx, x, alpha)
}

pub(super) fn silu(cx: &mut Context, x: V, alpha: f64) -> R<V> {
    if alpha == 1.0 {
        return cx.f("silu", &[x]);
    }
    let scaled = cx.scale(x, alpha)?;
    let gate = cx.f("sigmoid", &[scaled])?;
    cx.mul(x, gate)
}

/// `swish(a) * b`
fn swiglu(cx: &mut Context) -> R<V> {
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    let (of_a, of_b) = (cx.shape(a).0, cx.shape(b).0);
    // Extents that are not numbers yet may turn out equal.
    let differ = |(p, q): (&Dim, &Dim)| p.known().zip(q.known()).is_some_and(|(p, q)| p != q);
    if of_a.len() != of_b.len() || of_a.iter().zip(&of_b).any(differ) {
        return Err(tahoma_core::OpError::shape("gate and value must have one shape").mark(1, "must have the shape of A"));
    }
    let alpha = cx.attrs.float("alpha").unwrap_or(1.0);
    let gate = silu(cx, a, alpha)?;
    cx.mul(gate, b)
}

/// `x + bias` below `-lambd`, `x - bias` above `lambd`, else 0.
fn shrink(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let (bias, lambd) = (cx.attrs.float("bias").unwrap_or(0.0), cx.attrs.float("lambd").unwrap_or(0.5));
    let (bias, lo, hi, zero) = (cx.like(bias, x)?, cx.like(-lambd, x)?, cx.like(lambd, x)?, cx.like(0.0, x)?);
    let (below, above) = (cx.f("lt", &[x, lo])?, cx.f("gt", &[x, hi])?);
    let (plus, minus) = (cx.add(x, bias)?, cx.sub(x, bias)?);
    let rest = cx.f("select", &[above, minus, zero])?;
    cx.f("select", &[below, plus, rest])
}

/// Below operator set 13 the axes from `axis` on count as one.
fn softmax_flat(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let rank = cx.rank(x);
    let axis = cx.attrs.int("axis").unwrap_or(1);
    let axis = if axis == rank as i64 { rank } else { cx.axis(axis, rank.max(1))? };
    if axis + 1 == rank {
        return along(cx, x, axis);
    }
    let dims = cx.dims(x)?;
    let outer: usize = dims[..axis].iter().product();
    let inner: usize = dims[axis..].iter().product();
    let flat = cx.reshape(x, &[outer, inner])?;
    let y = along(cx, flat, 1)?;
    cx.reshape(y, &dims)
}

fn softmax_axis(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(-1), cx.rank(x))?;
    along(cx, x, axis)
}

fn along(cx: &mut Context, x: V, axis: usize) -> R<V> {
    match cx.schema.name {
        "Softmax" => cx.op("softmax", &[x], attrs! {"axis": axis as i64}),
        "LogSoftmax" => cx.op("log_softmax", &[x], attrs! {"axis": axis as i64}),
        _ => hardmax(cx, x, axis),
    }
}

/// The softmax of Attention, which ONNX defines by its steps: 16-bit floats round at each; `ml.softmax` widens them and rounds once.
pub(super) fn softmax(cx: &mut Context, x: V, axis: usize) -> R<V> {
    if !matches!(cx.dtype(x), DType::F16 | DType::BF16) {
        return cx.op("softmax", &[x], attrs! {"axis": axis as i64});
    }
    let most = cx.reduce("reduce_max", x, &[axis], true)?;
    let below = cx.sub(x, most)?;
    let e = cx.f("exp", &[below])?;
    let sum = cx.reduce("reduce_sum", e, &[axis], true)?;
    cx.div(e, sum)
}

/// One at the first largest element of each row.
fn hardmax(cx: &mut Context, x: V, axis: usize) -> R<V> {
    let dims = cx.dims(x)?;
    let best = cx.op("argmax", &[x], attrs! {"axis": axis as i64, "keepdims": true, "last": false})?;
    let shape: Vec<i64> = dims.iter().enumerate().map(|(i, &d)| if i == axis { d as i64 } else { 1 }).collect();
    let places = cx.op("iota", &[], attrs! {"shape": shape, "axis": axis as i64, "dtype": DType::I64})?;
    let hit = cx.f("eq", &[places, best])?;
    let dtype = cx.dtype(x);
    cx.cast(hit, dtype)
}
