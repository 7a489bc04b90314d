//! Normalisations.

use super::{Row, many, one};
use crate::onnx::context::{Context, R, V, attrs};
use tahoma_core::{DType, OpError};

pub(super) static ROWS: &[Row] = &[
    many("BatchNormalization", 1, batch),
    one("InstanceNormalization", 1, instance),
    many("LayerNormalization", 17, layer),
    one("GroupNormalization", 18, group),
    one("RMSNormalization", 23, rms),
    one("LpNormalization", 1, lp).in_f32(&[0]),
    one("MeanVarianceNormalization", 9, mean_variance).in_f32(&[0]),
    one("LRN", 1, lrn).in_f32(&[0]),
];

fn batch(cx: &mut Context) -> R<Vec<V>> {
    let v: Vec<V> = (0..5).map(|i| cx.input(i)).collect::<R<_>>()?;
    let epsilon = cx.attrs.float("epsilon").unwrap_or(1e-5f32 as f64);
    let since = cx.since();
    let training = if since >= 14 {
        cx.attrs.int("training_mode").unwrap_or(0) != 0
    } else {
        since < 7 && cx.attrs.int("is_test").unwrap_or(0) == 0 && cx.wants(1)
    };
    if cx.attrs.int("spatial").unwrap_or(1) == 0 {
        return Err(cx.unsupported("BatchNormalization with spatial = 0"));
    }
    if !training {
        let y = cx.op("batch_norm", &v, attrs! {"epsilon": epsilon})?;
        return Ok(vec![y]);
    }
    if since < 14 {
        return Err(cx.unsupported("BatchNormalization in training mode below operator set 14"));
    }
    cx.in_f32(&[0, 3, 4], |cx| batch_training(cx, epsilon))
}

/// The batch's own mean and variance, and the running ones blended with them.
fn batch_training(cx: &mut Context, epsilon: f64) -> R<Vec<V>> {
    let [x, scale, bias, mean, var] = [cx.input(0)?, cx.input(1)?, cx.input(2)?, cx.input(3)?, cx.input(4)?];
    let axes: Vec<usize> = (0..cx.rank(x)).filter(|&a| a != 1).collect();
    let own_mean = cx.reduce("reduce_mean", x, &axes, true)?;
    let d = cx.sub(x, own_mean)?;
    let square = cx.mul(d, d)?;
    let own_var = cx.reduce("reduce_mean", square, &axes, false)?;
    let channels = cx.dims(own_var)?;
    let own_mean = cx.reshape(own_mean, &channels)?;
    let y = cx.op("batch_norm", &[x, scale, bias, own_mean, own_var], attrs! {"epsilon": epsilon})?;
    let momentum = cx.attrs.float("momentum").unwrap_or(0.9f32 as f64);
    let blend = |cx: &mut Context, old: V, new: V| {
        let (a, b) = (cx.scale(old, momentum)?, cx.scale(new, 1.0 - momentum)?);
        cx.add(a, b)
    };
    let (m, v) = (blend(cx, mean, own_mean)?, blend(cx, var, own_var)?);
    Ok(vec![y, m, v])
}

fn instance(cx: &mut Context) -> R<V> {
    let v = [cx.input(0)?, cx.input(1)?, cx.input(2)?];
    let epsilon = cx.attrs.float("epsilon").unwrap_or(1e-5f32 as f64);
    cx.op("instance_norm", &v, attrs! {"epsilon": epsilon})
}

/// The type in which the statistics are kept.
fn stash(cx: &Context) -> DType {
    let code = cx.attrs.int("stash_type").unwrap_or(1);
    super::math::type_code(code).unwrap_or(DType::F32)
}

/// Mean and 1/deviation over the axes from `axis` on, in the stash type.
fn statistics(cx: &mut Context, x: V, axis: usize, epsilon: f64) -> R<(V, V)> {
    let axes: Vec<usize> = (axis..cx.rank(x)).collect();
    let mean = cx.reduce("reduce_mean", x, &axes, true)?;
    let d = cx.sub(x, mean)?;
    let square = cx.mul(d, d)?;
    let var = cx.reduce("reduce_mean", square, &axes, true)?;
    let e = cx.like(epsilon, var)?;
    let var = cx.add(var, e)?;
    Ok((mean, cx.f("rsqrt", &[var])?))
}

fn layer(cx: &mut Context) -> R<Vec<V>> {
    let (x, scale, bias) = (cx.input(0)?, cx.input(1)?, cx.try_opt(2)?);
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(-1), cx.rank(x))?;
    let epsilon = cx.attrs.float("epsilon").unwrap_or(1e-5f32 as f64);
    let bias = match bias {
        Some(b) => b,
        None => {
            let (dims, dtype) = (cx.dims(scale)?, cx.dtype(scale));
            cx.full(0.0, dtype, &dims)?
        }
    };
    let tail = cx.rank(x) - axis;
    // The op takes a scale of exactly the normalised shape; ONNX lets it broadcast.
    let dims = cx.dims(x)?[axis..].to_vec();
    let fit = |cx: &mut Context, v: V| if cx.rank(v) <= tail { cx.broadcast(v, &dims) } else { Ok(v) };
    let (scale, bias) = (fit(cx, scale)?, fit(cx, bias)?);
    let y = if cx.rank(scale) == tail && cx.rank(bias) == tail {
        cx.op("layer_norm", &[x, scale, bias], attrs! {"axis": axis as i64, "epsilon": epsilon})?
    } else {
        let (from, kept) = (cx.dtype(x), stash(cx));
        let wide = cx.cast(x, kept)?;
        let (mean, inv) = statistics(cx, wide, axis, epsilon)?;
        let d = cx.sub(wide, mean)?;
        let n = cx.mul(d, inv)?;
        let n = cx.cast(n, from)?;
        let n = cx.mul(n, scale)?;
        cx.add(n, bias)?
    };
    let mut out = vec![y];
    if cx.wants(1) || cx.wants(2) {
        let kept = stash(cx);
        let wide = cx.cast(x, kept)?;
        let (mean, inv) = statistics(cx, wide, axis, epsilon)?;
        out.extend([mean, inv]);
    }
    Ok(out)
}

fn group(cx: &mut Context) -> R<V> {
    let (x, scale, bias) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let dims = cx.dims(x)?;
    let groups = cx.attrs.int("num_groups").unwrap_or(0);
    if dims.len() < 2 || groups < 1 || dims[1] % groups as usize != 0 {
        return Err(OpError::attr(format!("num_groups {groups} does not divide the channels of {}", cx.ty(x))));
    }
    let epsilon = cx.attrs.float("epsilon").unwrap_or(1e-5f32 as f64);
    let g = groups as usize;
    let rest: usize = dims[2..].iter().product();
    let dtype = cx.dtype(x);
    let per = dims[1] / g;
    let wide = cx.reshape(x, &[dims[0], g, per * rest])?;
    let kept = stash(cx);
    let wide = cx.cast(wide, kept)?;
    let (mean, inv) = statistics(cx, wide, 2, epsilon)?;
    let d = cx.sub(wide, mean)?;
    let n = cx.mul(d, inv)?;
    let n = cx.cast(n, dtype)?;
    // Below operator set 21 scale and bias are per group, from there on per channel.
    let (parts, inner) = if cx.since() < 21 { (g, per * rest) } else { (dims[1], rest) };
    let n = cx.reshape(n, &[dims[0], parts, inner])?;
    let (scale, bias) = (cx.reshape(scale, &[parts, 1])?, cx.reshape(bias, &[parts, 1])?);
    let y = cx.mul(n, scale)?;
    let y = cx.add(y, bias)?;
    cx.reshape(y, &dims)
}

fn rms(cx: &mut Context) -> R<V> {
    let (x, scale) = (cx.input(0)?, cx.input(1)?);
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(-1), cx.rank(x))?;
    let epsilon = cx.attrs.float("epsilon").unwrap_or(1e-5f32 as f64);
    let dims = cx.dims(x)?[axis..].to_vec();
    let (from, to) = (cx.dtype(x), cx.dtype(scale));
    if cx.rank(scale) <= dims.len() && from == to {
        let scale = cx.broadcast(scale, &dims)?;
        return cx.op("rms_norm", &[x, scale], attrs! {"axis": axis as i64, "epsilon": epsilon});
    }
    let wide = stash(cx);
    let w = cx.cast(x, wide)?;
    let axes: Vec<usize> = (axis..cx.rank(x)).collect();
    let square = cx.mul(w, w)?;
    let mean = cx.reduce("reduce_mean", square, &axes, true)?;
    let e = cx.like(epsilon, mean)?;
    let mean = cx.add(mean, e)?;
    let inv = cx.f("rsqrt", &[mean])?;
    let n = cx.mul(w, inv)?;
    let n = cx.cast(n, to)?;
    cx.mul(n, scale)
}

/// `x / ||x||_p` along one axis; a zero norm gives zero.
fn lp(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(-1), cx.rank(x))?;
    let norm = match cx.attrs.int("p").unwrap_or(2) {
        1 => {
            let a = cx.f("abs", &[x])?;
            cx.reduce("reduce_sum", a, &[axis], true)?
        }
        2 => {
            let s = cx.mul(x, x)?;
            let s = cx.reduce("reduce_sum", s, &[axis], true)?;
            cx.f("sqrt", &[s])?
        }
        p => return Err(OpError::attr(format!("p must be 1 or 2, not {p}"))),
    };
    let (zero, unit) = (cx.like(0.0, norm)?, cx.like(1.0, norm)?);
    let none = cx.f("eq", &[norm, zero])?;
    let norm = cx.f("select", &[none, unit, norm])?;
    cx.div(x, norm)
}

fn mean_variance(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let axes = cx.attrs.ints("axes").map_or_else(|| vec![0, 2, 3], <[i64]>::to_vec);
    let axes = cx.axes(&axes, cx.rank(x))?;
    let mean = cx.reduce("reduce_mean", x, &axes, true)?;
    let d = cx.sub(x, mean)?;
    // ONNX writes E[x²] − E[x]², which is the same number and loses all digits, or turns negative, where the mean is large.
    let square = cx.mul(d, d)?;
    let var = cx.reduce("reduce_mean", square, &axes, true)?;
    let dev = cx.f("sqrt", &[var])?;
    let tiny = cx.like(1e-9, dev)?;
    let dev = cx.add(dev, tiny)?;
    cx.div(d, dev)
}

/// `x / (bias + alpha/size * sum of squares over neighbouring channels)^beta`
fn lrn(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let dims = cx.dims(x)?;
    if dims.len() < 2 {
        return Err(OpError::shape("needs a channel axis").mark(0, "must have rank 2 or more"));
    }
    let size = cx.attrs.int("size").unwrap_or(1);
    if !(1..=1 << 20).contains(&size) {
        return Err(OpError::attr(format!("size cannot be {size}")));
    }
    let (alpha, beta, bias) =
        (cx.attrs.float("alpha").unwrap_or(1e-4f32 as f64), cx.attrs.float("beta").unwrap_or(0.75), cx.attrs.float("bias").unwrap_or(1.0));
    let square = cx.mul(x, x)?;
    // Channels become the spatial axis of a pool.
    let rest: usize = dims[2..].iter().product();
    let square = cx.reshape(square, &[dims[0], 1, dims[1], rest])?;
    let before = (size - 1) / 2;
    let a = attrs! {"window": vec![size, 1], "strides": vec![1i64, 1], "pads": vec![before, 0, size - 1 - before, 0], "dilations": vec![1i64, 1]};
    let sum = cx.op("sum_pool", &[square], a)?;
    let sum = cx.reshape(sum, &dims)?;
    let sum = cx.scale(sum, alpha / size as f64)?;
    let bias = cx.like(bias, sum)?;
    let base = cx.add(sum, bias)?;
    let beta = cx.like(beta, base)?;
    let base = cx.f("pow", &[base, beta])?;
    cx.div(x, base)
}
