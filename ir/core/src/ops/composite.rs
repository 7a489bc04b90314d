//! Composites: activations, softmax, norms and transposed convolution, defined by other ops in their stable form.

use super::common::*;
use crate::attr::Attrs;
use crate::graph::{Builder, ValueId};
use crate::op::*;
use crate::tensor::Tensor;
use crate::types::DType;

type Made = Result<Vec<ValueId>, OpError>;

fn relu(b: &mut Builder, x: &[ValueId], _: &Attrs) -> Made {
    let zero = b.number(0.0, x[0]);
    Ok(vec![b.call("max", &[x[0], zero])?])
}
fn clip(b: &mut Builder, x: &[ValueId], _: &Attrs) -> Made {
    let low = b.call("max", &[x[0], x[1]])?;
    Ok(vec![b.call("min", &[low, x[2]])?])
}
/// x where x ≥ 0, else `below`.
fn below_zero(b: &mut Builder, x: ValueId, below: ValueId) -> Made {
    let zero = b.number(0.0, x);
    let c = b.call("lt", &[x, zero])?;
    Ok(vec![b.call("select", &[c, below, x])?])
}
fn leaky_relu(b: &mut Builder, x: &[ValueId], a: &Attrs) -> Made {
    let k = b.number(float(a, "alpha")?, x[0]);
    let below = b.call("mul", &[x[0], k])?;
    below_zero(b, x[0], below)
}
fn prelu(b: &mut Builder, x: &[ValueId], _: &Attrs) -> Made {
    let below = b.call("mul", &[x[0], x[1]])?;
    below_zero(b, x[0], below)
}
/// α(eˣ − 1) of the part below zero, so that nothing overflows.
fn expm1(b: &mut Builder, x: ValueId, alpha: f64) -> Result<ValueId, OpError> {
    let (zero, one, k) = (b.number(0.0, x), b.number(1.0, x), b.number(alpha, x));
    let low = b.call("min", &[x, zero])?;
    let e = b.call("exp", &[low])?;
    let m = b.call("sub", &[e, one])?;
    b.call("mul", &[m, k])
}
fn elu(b: &mut Builder, x: &[ValueId], a: &Attrs) -> Made {
    let below = expm1(b, x[0], float(a, "alpha")?)?;
    below_zero(b, x[0], below)
}
fn selu(b: &mut Builder, x: &[ValueId], a: &Attrs) -> Made {
    let below = expm1(b, x[0], float(a, "alpha")?)?;
    let y = below_zero(b, x[0], below)?[0];
    let g = b.number(float(a, "gamma")?, x[0]);
    Ok(vec![b.call("mul", &[y, g])?])
}
fn celu(b: &mut Builder, x: &[ValueId], a: &Attrs) -> Made {
    let alpha = float(a, "alpha")?;
    let k = b.number(1.0 / alpha, x[0]);
    let scaled = b.call("mul", &[x[0], k])?;
    let below = expm1(b, scaled, alpha)?;
    below_zero(b, x[0], below)
}
fn gelu(b: &mut Builder, x: &[ValueId], _: &Attrs) -> Made {
    let (r, one, half) = (b.number(std::f64::consts::FRAC_1_SQRT_2, x[0]), b.number(1.0, x[0]), b.number(0.5, x[0]));
    let s = b.call("mul", &[x[0], r])?;
    let e = b.call("erf", &[s])?;
    let e = b.call("add", &[e, one])?;
    let h = b.call("mul", &[x[0], half])?;
    Ok(vec![b.call("mul", &[h, e])?])
}
fn gelu_tanh(b: &mut Builder, x: &[ValueId], _: &Attrs) -> Made {
    let (c, k) = (b.number(0.044715, x[0]), b.number((2.0 / std::f64::consts::PI).sqrt(), x[0]));
    let (one, half) = (b.number(1.0, x[0]), b.number(0.5, x[0]));
    let sq = b.call("mul", &[x[0], x[0]])?;
    let cube = b.call("mul", &[sq, x[0]])?;
    let cube = b.call("mul", &[cube, c])?;
    let s = b.call("add", &[x[0], cube])?;
    let s = b.call("mul", &[s, k])?;
    let t = b.call("tanh", &[s])?;
    let t = b.call("add", &[t, one])?;
    let h = b.call("mul", &[x[0], half])?;
    Ok(vec![b.call("mul", &[h, t])?])
}
fn silu(b: &mut Builder, x: &[ValueId], _: &Attrs) -> Made {
    let s = b.call("sigmoid", &[x[0]])?;
    Ok(vec![b.call("mul", &[x[0], s])?])
}
fn hard(b: &mut Builder, x: ValueId, alpha: f64, beta: f64) -> Result<ValueId, OpError> {
    let (k, c, zero, one) = (b.number(alpha, x), b.number(beta, x), b.number(0.0, x), b.number(1.0, x));
    let y = b.call("mul", &[x, k])?;
    let y = b.call("add", &[y, c])?;
    let y = b.call("max", &[y, zero])?;
    b.call("min", &[y, one])
}
fn hard_sigmoid(b: &mut Builder, x: &[ValueId], a: &Attrs) -> Made {
    Ok(vec![hard(b, x[0], float(a, "alpha")?, float(a, "beta")?)?])
}
fn hard_swish(b: &mut Builder, x: &[ValueId], _: &Attrs) -> Made {
    let h = hard(b, x[0], 1.0 / 6.0, 0.5)?;
    Ok(vec![b.call("mul", &[x[0], h])?])
}
/// max(x, 0) + ln(1 + e^−|x|)
fn softplus(b: &mut Builder, x: &[ValueId], _: &Attrs) -> Made {
    let (zero, one) = (b.number(0.0, x[0]), b.number(1.0, x[0]));
    let high = b.call("max", &[x[0], zero])?;
    let m = b.call("abs", &[x[0]])?;
    let m = b.call("neg", &[m])?;
    let e = b.call("exp", &[m])?;
    let e = b.call("add", &[e, one])?;
    let l = b.call("log", &[e])?;
    Ok(vec![b.call("add", &[high, l])?])
}
fn softsign(b: &mut Builder, x: &[ValueId], _: &Attrs) -> Made {
    let one = b.number(1.0, x[0]);
    let m = b.call("abs", &[x[0]])?;
    let m = b.call("add", &[m, one])?;
    Ok(vec![b.call("div", &[x[0], m])?])
}
fn mish(b: &mut Builder, x: &[ValueId], a: &Attrs) -> Made {
    let s = softplus(b, x, a)?[0];
    let t = b.call("tanh", &[s])?;
    Ok(vec![b.call("mul", &[x[0], t])?])
}
fn thresholded_relu(b: &mut Builder, x: &[ValueId], a: &Attrs) -> Made {
    let (k, zero) = (b.number(float(a, "alpha")?, x[0]), b.number(0.0, x[0]));
    let c = b.call("gt", &[x[0], k])?;
    Ok(vec![b.call("select", &[c, x[0], zero])?])
}

fn is_half(b: &Builder, x: ValueId) -> bool {
    matches!(b.ty(x).dtype, DType::F16 | DType::BF16)
}
/// 16-bit floats are widened for a computation and rounded once at its end.
fn wide(b: &mut Builder, x: ValueId) -> Result<ValueId, OpError> {
    if is_half(b, x) { cast(b, x, DType::F32) } else { Ok(x) }
}
fn cast(b: &mut Builder, x: ValueId, to: DType) -> Result<ValueId, OpError> {
    if b.ty(x).dtype == to { Ok(x) } else { b.op("cast", &[x], Attrs::new().with("to", to).with("saturate", true)) }
}

/// e^(x − max) and its sum along an axis.
fn exponentials(b: &mut Builder, x: ValueId, axis: usize) -> Result<(ValueId, ValueId, ValueId), OpError> {
    let m = b.reduced("reduce_max", x, &[axis])?;
    let d = b.call("sub", &[x, m])?;
    let e = b.call("exp", &[d])?;
    let s = b.reduced("reduce_sum", e, &[axis])?;
    Ok((d, e, s))
}
fn softmax(b: &mut Builder, x: &[ValueId], a: &Attrs) -> Made {
    let ax = axis(a, "axis", b.ty(x[0]).rank())?;
    let d = b.ty(x[0]).dtype;
    let w = wide(b, x[0])?;
    let (_, e, s) = exponentials(b, w, ax)?;
    let y = b.call("div", &[e, s])?;
    Ok(vec![cast(b, y, d)?])
}
/// Softmax of the scores and one more of each row, which takes its share and is dropped.
fn sink_softmax(b: &mut Builder, x: &[ValueId], a: &Attrs) -> Made {
    let ax = axis(a, "axis", b.ty(x[0]).rank())?;
    let d = b.ty(x[0]).dtype;
    let (w, sink) = (wide(b, x[0])?, wide(b, x[1])?);
    let m = b.reduced("reduce_max", w, &[ax])?;
    let m = b.call("max", &[m, sink])?;
    let e = b.call("sub", &[w, m])?;
    let e = b.call("exp", &[e])?;
    let s = b.reduced("reduce_sum", e, &[ax])?;
    let extra = b.call("sub", &[sink, m])?;
    let extra = b.call("exp", &[extra])?;
    let s = b.call("add", &[s, extra])?;
    let y = b.call("div", &[e, s])?;
    Ok(vec![cast(b, y, d)?])
}
/// The largest elements are taken out of the row one after the other, the least in `order` first among equals.
fn top_softmax(b: &mut Builder, x: &[ValueId], a: &Attrs) -> Made {
    let (t, k) = (b.ty(x[0]).clone(), int(a, "k")?);
    let Some(ax) = t.rank().checked_sub(1) else { return Err(OpError::shape(format!("takes rows, not {t}"))) };
    if !(1..=16).contains(&k) || t.shape[ax].known().is_some_and(|n| k as u64 > n) {
        return Err(OpError::attr(format!("k = {k} of {} elements: 1 to 16 are taken", t.shape[ax])));
    }
    let w = wide(b, x[0])?;
    let order = cast(b, x[1], b.ty(w).dtype)?;
    let (low, high, zero) = (b.number(f64::NEG_INFINITY, w), b.number(f64::INFINITY, w), b.number(0.0, w));
    let (mut rest, mut most) = (w, None);
    for _ in 0..k {
        let m = b.reduced("reduce_max", rest, &[ax])?;
        most.get_or_insert(m);
        let hit = b.call("eq", &[rest, m])?;
        let first = b.call("select", &[hit, order, high])?;
        let first = b.reduced("reduce_min", first, &[ax])?;
        let hit = b.call("eq", &[order, first])?;
        rest = b.call("select", &[hit, low, rest])?;
    }
    let taken = b.call("eq", &[rest, low])?;
    let e = b.call("sub", &[w, most.unwrap_or(w)])?;
    let e = b.call("exp", &[e])?;
    let e = b.call("select", &[taken, e, zero])?;
    let s = b.reduced("reduce_sum", e, &[ax])?;
    let y = b.call("div", &[e, s])?;
    Ok(vec![cast(b, y, t.dtype)?])
}
fn log_softmax(b: &mut Builder, x: &[ValueId], a: &Attrs) -> Made {
    let ax = axis(a, "axis", b.ty(x[0]).rank())?;
    let d = b.ty(x[0]).dtype;
    let w = wide(b, x[0])?;
    let (diff, _, s) = exponentials(b, w, ax)?;
    let l = b.call("log", &[s])?;
    let y = b.call("sub", &[diff, l])?;
    Ok(vec![cast(b, y, d)?])
}

/// Number of elements along axes, in the number type of `like`: a constant, or from the shape where that is open.
fn count(b: &mut Builder, x: ValueId, axes: &[usize], like: ValueId) -> Result<ValueId, OpError> {
    let t = b.ty(x).clone();
    if let Some(n) = axes.iter().try_fold(1u64, |n, &a| n.checked_mul(t.shape[a].known()?)) {
        return Ok(b.number(n as f64, like));
    }
    let shape = b.call("shape_of", &[x])?;
    let at = b.constant(Tensor::i64(&[axes.len()], axes.iter().map(|&a| a as i64).collect()));
    let extents = b.op("gather", &[shape, at], Attrs::new().with("axis", 0))?;
    let n = b.op("reduce_prod", &[extents], Attrs::new().with("axes", vec![0]).with("keepdims", false))?;
    let d = b.ty(like).dtype;
    cast(b, n, d)
}
/// Mean along axes, which stay as 1.
fn mean(b: &mut Builder, x: ValueId, axes: &[usize]) -> Result<ValueId, OpError> {
    let s = b.reduced("reduce_sum", x, axes)?;
    let n = count(b, x, axes, s)?;
    b.call("div", &[s, n])
}
fn reduce_mean(b: &mut Builder, x: &[ValueId], a: &Attrs) -> Made {
    let ax = axes(a, b.ty(x[0]).rank())?;
    let d = b.ty(x[0]).dtype;
    let w = wide(b, x[0])?;
    let s = b.op("reduce_sum", &[w], a.clone())?;
    let n = count(b, w, &ax, s)?;
    let y = b.call("div", &[s, n])?;
    Ok(vec![cast(b, y, d)?])
}
fn reduce_log_sum_exp(b: &mut Builder, x: &[ValueId], a: &Attrs) -> Made {
    let ax = axes(a, b.ty(x[0]).rank())?;
    // The maximum, but 0 where it is infinite, so that ∞ − ∞ never appears.
    let to = b.ty(x[0]).dtype;
    let w = wide(b, x[0])?;
    let m = b.reduced("reduce_max", w, &ax)?;
    let inf = b.op("is_inf", &[m], Attrs::new().with("positive", true).with("negative", true))?;
    let zero = b.number(0.0, m);
    let safe = b.call("select", &[inf, zero, m])?;
    let d = b.call("sub", &[w, safe])?;
    let e = b.call("exp", &[d])?;
    let s = b.op("reduce_sum", &[e], a.clone())?;
    let l = b.call("log", &[s])?;
    let shape = b.ty(l).shape.clone();
    let back = match shape.to_static() {
        Some(n) if !flag(a, "keepdims")? => {
            b.op("reshape", &[safe], Attrs::new().with("shape", n.iter().map(|&n| n as i64).collect::<Vec<_>>()))?
        }
        Some(_) => safe,
        None if flag(a, "keepdims")? => safe,
        None => b.op("reduce_max", &[safe], a.clone())?,
    };
    let y = b.call("add", &[l, back])?;
    Ok(vec![cast(b, y, to)?])
}

/// (x − mean)/√(variance + ε) over axes.
fn normalised(b: &mut Builder, x: ValueId, axes: &[usize], epsilon: f64) -> Result<ValueId, OpError> {
    let m = mean(b, x, axes)?;
    let d = b.call("sub", &[x, m])?;
    let sq = b.call("mul", &[d, d])?;
    let v = mean(b, sq, axes)?;
    let eps = b.number(epsilon, v);
    let v = b.call("add", &[v, eps])?;
    let s = b.call("sqrt", &[v])?;
    b.call("div", &[d, s])
}
fn layer_norm(b: &mut Builder, x: &[ValueId], a: &Attrs) -> Made {
    let rank = b.ty(x[0]).rank();
    let first = axis(a, "axis", rank)?;
    let d = b.ty(x[0]).dtype;
    let axes: Vec<usize> = (first..rank).collect();
    let w = wide(b, x[0])?;
    let n = normalised(b, w, &axes, float(a, "epsilon")?)?;
    let n = cast(b, n, d)?;
    let y = b.call("mul", &[n, x[1]])?;
    Ok(vec![b.call("add", &[y, x[2]])?])
}
fn rms_norm(b: &mut Builder, x: &[ValueId], a: &Attrs) -> Made {
    let rank = b.ty(x[0]).rank();
    let first = axis(a, "axis", rank)?;
    let d = b.ty(x[0]).dtype;
    let axes: Vec<usize> = (first..rank).collect();
    let w = wide(b, x[0])?;
    let sq = b.call("mul", &[w, w])?;
    let m = mean(b, sq, &axes)?;
    let eps = b.number(float(a, "epsilon")?, m);
    let m = b.call("add", &[m, eps])?;
    let s = b.call("sqrt", &[m])?;
    let y = b.call("div", &[w, s])?;
    let y = cast(b, y, d)?;
    Ok(vec![b.call("mul", &[y, x[1]])?])
}
/// A per-channel vector as [C, 1, …] against x[N, C, …].
fn channel(b: &mut Builder, v: ValueId, x: ValueId) -> Result<ValueId, OpError> {
    let rank = b.ty(x).rank();
    if b.ty(v).rank() != 1 || rank < 2 {
        let (x, v) = (b.ty(x), b.ty(v));
        return Err(OpError::shape(format!("takes a value with a channel axis and vectors of one number per channel, not {x} and {v}")));
    }
    let c = number(&b.ty(v).shape[0], "the number of channels")?;
    let shape: Vec<i64> = std::iter::once(c as i64).chain(std::iter::repeat_n(1, rank.saturating_sub(2))).collect();
    b.op("reshape", &[v], Attrs::new().with("shape", shape))
}
fn batch_norm(b: &mut Builder, x: &[ValueId], a: &Attrs) -> Made {
    let mut v: Vec<ValueId> = x[1..].iter().map(|&v| channel(b, v, x[0])).collect::<Result<_, _>>()?;
    for v in &mut v {
        *v = wide(b, *v)?;
    }
    let d = b.ty(x[0]).dtype;
    let eps = b.number(float(a, "epsilon")?, v[3]);
    let var = b.call("add", &[v[3], eps])?;
    let s = b.call("sqrt", &[var])?;
    // Weights alone: computed once, when the artifact is loaded.
    let k = b.call("div", &[v[0], s])?;
    let shift = b.call("mul", &[v[2], k])?;
    let shift = b.call("sub", &[v[1], shift])?;
    let (k, shift) = (cast(b, k, d)?, cast(b, shift, d)?);
    let y = b.call("mul", &[x[0], k])?;
    Ok(vec![b.call("add", &[y, shift])?])
}
fn instance_norm(b: &mut Builder, x: &[ValueId], a: &Attrs) -> Made {
    let rank = b.ty(x[0]).rank();
    let axes: Vec<usize> = (2..rank).collect();
    let d = b.ty(x[0]).dtype;
    let w = wide(b, x[0])?;
    let n = normalised(b, w, &axes, float(a, "epsilon")?)?;
    let n = cast(b, n, d)?;
    let (k, c) = (channel(b, x[1], x[0])?, channel(b, x[2], x[0])?);
    let y = b.call("mul", &[n, k])?;
    Ok(vec![b.call("add", &[y, c])?])
}

/// Channels in groups as one axis with the spatial ones, normalised, and back.
fn group_norm(b: &mut Builder, x: &[ValueId], a: &Attrs) -> Made {
    let t = b.ty(x[0]).clone();
    let groups = int(a, "groups")?;
    let s = numbers(&t.shape)?;
    if s.len() < 2 || groups < 1 || s[1] as i64 % groups != 0 {
        return Err(OpError::attr(format!("the channels of {t} do not divide by {groups} groups"))
            .mark(0, format!("axis 1 must be a multiple of {groups}")));
    }
    let per = s[1..].iter().product::<usize>() as i64 / groups;
    let d = t.dtype;
    let w = wide(b, x[0])?;
    let v = b.op("reshape", &[w], Attrs::new().with("shape", vec![s[0] as i64, groups, per]))?;
    let n = normalised(b, v, &[2], float(a, "epsilon")?)?;
    let n = b.op("reshape", &[n], Attrs::new().with("shape", s.iter().map(|&n| n as i64).collect::<Vec<_>>()))?;
    let n = cast(b, n, d)?;
    let (k, c) = (channel(b, x[1], x[0])?, channel(b, x[2], x[0])?);
    let y = b.call("mul", &[n, k])?;
    Ok(vec![b.call("add", &[y, c])?])
}

/// 1 where the new axis counts to the index (from the end if negative), else 0.
fn one_hot(b: &mut Builder, x: &[ValueId], a: &Attrs) -> Made {
    let t = b.ty(x[0]).clone();
    let (depth, ax) = (int(a, "depth")?, axis(a, "axis", t.rank() + 1)?);
    let to = a.dtype("dtype").ok_or_else(|| OpError::attr("dtype must be a number type"))?;
    if depth < 1 {
        return Err(OpError::attr(format!("depth = {depth} must be positive")));
    }
    let mut s = numbers(&t.shape)?;
    s.insert(ax, 1);
    let i = cast(b, x[0], DType::I64)?;
    let i = b.op("reshape", &[i], Attrs::new().with("shape", s.iter().map(|&n| n as i64).collect::<Vec<_>>()))?;
    let (zero, n) = (b.number(0.0, i), b.number(depth as f64, i));
    let low = b.call("lt", &[i, zero])?;
    let wrapped = b.call("add", &[i, n])?;
    let i = b.call("select", &[low, wrapped, i])?;
    let mut line = vec![1i64; s.len()];
    line[ax] = depth;
    let at = b.op("iota", &[], Attrs::new().with("shape", line).with("axis", ax as i64).with("dtype", DType::I64))?;
    let hit = b.call("eq", &[i, at])?;
    Ok(vec![cast(b, hit, to)?])
}

/// Zeros between the inputs, the kernel turned around, an ordinary convolution.
fn conv_transpose(b: &mut Builder, x: &[ValueId], a: &Attrs) -> Made {
    let (strides, pads, dilations) = (ints(a, "strides")?.to_vec(), ints(a, "pads")?.to_vec(), ints(a, "dilations")?.to_vec());
    let (extra, groups) = (ints(a, "output_padding")?.to_vec(), int(a, "groups")?);
    let wt = b.ty(x[1]).clone();
    let w = numbers(&wt.shape).map_err(|e| e.mark(1, "must be known"))?;
    let rank = w.len().saturating_sub(2);
    if rank == 0 || b.ty(x[0]).rank() != w.len() {
        return Err(OpError::shape(format!("input {} and weight {wt} must have one rank of at least 3", b.ty(x[0])))
            .mark(1, "must have the input's rank"));
    }
    if [strides.len(), dilations.len(), extra.len(), pads.len() / 2] != [rank; 4] || groups < 1 || w[0] as i64 % groups != 0 {
        return Err(OpError::attr(format!(
            "strides, dilations and output_padding need {rank} numbers, pads {}, and groups must divide {}",
            2 * rank,
            w[0]
        )));
    }
    if let Some(c) = b.ty(x[0]).shape[1].known()
        && c != w[0] as u64
    {
        return Err(
            OpError::shape(format!("input has {c} channels, the weight takes {}", w[0])).mark(0, format!("axis 1 must be {}", w[0]))
        );
    }
    let g = groups as usize;
    let (per_in, per_out) = (w[0] / g, w[1]);
    // [C, M/g, k…] → [M, C/g, k…], each kernel reversed.
    let as_ints = |v: &[usize]| v.iter().map(|&n| n as i64).collect::<Vec<_>>();
    let kernel = &w[2..];
    let split: Vec<usize> = [g, per_in, per_out].into_iter().chain(kernel.iter().copied()).collect();
    let v = b.op("reshape", &[x[1]], Attrs::new().with("shape", as_ints(&split)))?;
    let perm: Vec<i64> = [0, 2, 1].into_iter().chain(3..3 + rank as i64).collect();
    let v = b.op("transpose", &[v], Attrs::new().with("perm", perm))?;
    let joined: Vec<usize> = [g * per_out, per_in].into_iter().chain(kernel.iter().copied()).collect();
    let v = b.op("reshape", &[v], Attrs::new().with("shape", as_ints(&joined)))?;
    let starts: Vec<i64> = [0, 0].into_iter().chain(kernel.iter().map(|&k| k as i64 - 1)).collect();
    let steps: Vec<i64> = [1, 1].into_iter().chain(std::iter::repeat_n(-1, rank)).collect();
    let v = b.op("slice", &[v], Attrs::new().with("starts", starts).with("sizes", as_ints(&joined)).with("steps", steps))?;
    let zeros = vec![0i64; rank + 2];
    let interior: Vec<i64> = [0, 0].into_iter().chain(strides.iter().map(|s| s - 1)).collect();
    let spread = if interior.iter().all(|&i| i == 0) {
        x[0]
    } else {
        b.op("pad", &[x[0]], Attrs::new().with("low", zeros.clone()).with("high", zeros).with("interior", interior).with("value", 0.0))?
    };
    let reach: Vec<i64> = kernel.iter().zip(&dilations).map(|(&k, d)| (k as i64 - 1) * d).collect();
    let low = (0..rank).map(|i| reach[i] - pads[i]);
    let high = (0..rank).map(|i| reach[i] - pads[rank + i] + extra[i]);
    let pads: Vec<i64> = low.chain(high).collect();
    let at = Attrs::new().with("strides", vec![1; rank]).with("pads", pads).with("dilations", dilations).with("groups", groups);
    Ok(vec![b.op("conv", &[spread, v], at)?])
}

const X: &[OperandDef] = &[operand("x", TypeSet::Float)];
const SINK: &[OperandDef] = &[operand("x", TypeSet::Float), operand("sink", TypeSet::Float)];
const ORDER: &[OperandDef] = &[operand("x", TypeSet::Float), operand("order", TypeSet::Number)];
const XN: &[OperandDef] = &[operand("x", TypeSet::Number)];
const CLIP: &[OperandDef] = &[operand("x", TypeSet::Number), operand("low", TypeSet::Number), operand("high", TypeSet::Number)];
const SLOPE: &[OperandDef] = &[operand("x", TypeSet::Number), operand("slope", TypeSet::Number)];
const NORM: &[OperandDef] = &[operand("x", TypeSet::Float), operand("scale", TypeSet::Float), operand("bias", TypeSet::Float)];
const RMS: &[OperandDef] = &[operand("x", TypeSet::Float), operand("scale", TypeSet::Float)];
const BATCH: &[OperandDef] = &[
    operand("x", TypeSet::Float),
    operand("scale", TypeSet::Float),
    operand("bias", TypeSet::Float),
    operand("mean", TypeSet::Float),
    operand("variance", TypeSet::Float),
];
const INDEX: &[OperandDef] = &[operand("indices", TypeSet::Int)];
const XW: &[OperandDef] = &[operand("x", TypeSet::Float), operand("w", TypeSet::Float)];

macro_rules! composites { ($($id:ident $f:ident $n:literal $operands:ident [$($an:literal $at:ident),*] $doc:literal $ex:literal;)*) => {
    $(static $id: OpDef = OpDef { name: $n, doc: $doc, operands: $operands, attrs: &[$(attr($an, AttrType::$at)),*], results: Results::One, kind: Kind::Composite($f),
        tolerance: Tolerance::Reassociated(1e-6), examples: &[$ex], infer: |a| infer_by($f, a), eval: |a| super::quick::eval($n, a).unwrap_or_else(|| eval_by($f, a)) };)*
    pub(super) static FAMILIES: &[&[&OpDef]] = &[&[$(&$id),*]];
} }

composites! {
    RELU relu "relu" XN [] "max(x, 0)" "relu([-1, 2]) = [0, 2]";
    CLIP_OP clip "clip" CLIP [] "min(max(x, low), high)" "clip([-1, 2, 9], 0, 5) = [0, 2, 5]";
    LEAKY leaky_relu "leaky_relu" X ["alpha" Float] "x, or α·x below zero" "leaky_relu([-2, 2], alpha=0.5) = [-1, 2]";
    PRELU prelu "prelu" SLOPE [] "x, or slope·x below zero" "prelu([-2, 2], [0.5]) = [-1, 2]";
    ELU elu "elu" X ["alpha" Float] "x, or α(eˣ − 1) below zero" "elu([-1, 2], alpha=1.0) = [-0.63212055, 2]";
    SELU selu "selu" X ["alpha" Float, "gamma" Float] "γ·elu(x)" "selu([-1, 2], alpha=1.0, gamma=2.0) = [-1.2642411, 4]";
    CELU celu "celu" X ["alpha" Float] "x, or α(e^(x/α) − 1) below zero" "celu([-2, 2], alpha=2.0) = [-1.2642411, 2]";
    GELU gelu "gelu" X [] "x·Φ(x), by erf" "gelu([0, 1]) = [0, 0.8413447]";
    GELU_TANH gelu_tanh "gelu_tanh" X [] "The tanh form of gelu" "gelu_tanh([0, 1]) = [0, 0.841192]";
    SILU silu "silu" X [] "x·σ(x)" "silu([0, 1]) = [0, 0.7310586]";
    HARD_SIGMOID hard_sigmoid "hard_sigmoid" X ["alpha" Float, "beta" Float] "αx + β cut to [0, 1]" "hard_sigmoid([-3, 0, 3], alpha=0.2, beta=0.5) = [0, 0.5, 1]";
    HARD_SWISH hard_swish "hard_swish" X [] "x·hard_sigmoid(x; 1/6, 1/2)" "hard_swish([-3, 0, 3]) = [0, 0, 3]";
    SOFTPLUS softplus "softplus" X [] "ln(1 + eˣ)" "softplus([0, 100]) = [0.6931472, 100]";
    SOFTSIGN softsign "softsign" X [] "x/(1 + |x|)" "softsign([1, -3]) = [0.5, -0.75]";
    MISH mish "mish" X [] "x·tanh(softplus x)" "mish([0, 1]) = [0, 0.8650984]";
    THRESHOLDED thresholded_relu "thresholded_relu" X ["alpha" Float] "x above α, else 0" "thresholded_relu([0.5, 2], alpha=1.0) = [0, 2]";
    SOFTMAX softmax "softmax" X ["axis" Int] "eˣ/Σeˣ along an axis, from the maximum down" "softmax([0, 0], axis=0) = [0.5, 0.5]";
    SINK_SOFTMAX sink_softmax "sink_softmax" SINK ["axis" Int] "eˣ/(Σeˣ + e^sink) along an axis, from the maximum down: a score more in each row takes its share and is dropped (gpt-oss, arXiv:2508.10925)" "sink_softmax([0, 0], [0], axis=0) = [0.33333334, 0.33333334]";
    TOP_SOFTMAX top_softmax "top_softmax" ORDER ["k" Int] "Softmax of the k largest elements of each row (k up to 16), 0 for the others; of equal elements that with the least `order` comes first (mixtures of experts: Shazeer et al. 2017)" "top_softmax([0, 5, 0, 0], [0, 1, 2, 3], k=1) = [0, 1, 0, 0]";
    LOG_SOFTMAX log_softmax "log_softmax" X ["axis" Int] "ln softmax" "log_softmax([0, 0], axis=0) = [-0.6931472, -0.6931472]";
    MEAN reduce_mean "reduce_mean" XN ["axes" Ints, "keepdims" Bool] "Mean along axes" "reduce_mean([[1, 3], [5, 7]], axes=[1], keepdims=false) = [2, 6]";
    LSE reduce_log_sum_exp "reduce_log_sum_exp" X ["axes" Ints, "keepdims" Bool] "ln Σ eˣ along axes" "reduce_log_sum_exp([0, 0], axes=[0], keepdims=false) = 0.6931472";
    LAYER_NORM layer_norm "layer_norm" NORM ["axis" Int, "epsilon" Float] "(x − mean)/√(variance + ε)·scale + bias over the axes from `axis` on (Ba et al. 2016; ONNX LayerNormalization)" "layer_norm([[1, 3]], [1, 1], [0, 0], axis=1, epsilon=0.0) = [[-1, 1]]";
    RMS_NORM rms_norm "rms_norm" RMS ["axis" Int, "epsilon" Float] "x/√(mean x² + ε)·scale over the axes from `axis` on (Zhang and Sennrich 2019)" "rms_norm([[3, 4]], [1, 1], axis=1, epsilon=0.0) = [[0.84852815, 1.1313709]]";
    BATCH_NORM batch_norm "batch_norm" BATCH ["epsilon" Float] "(x − mean)/√(variance + ε)·scale + bias per channel (Ioffe and Szegedy 2015, inference)" "batch_norm([[1, 3]], [1, 2], [0, 1], [0, 1], [1, 4], epsilon=0.0) = [[1, 3]]";
    INSTANCE_NORM instance_norm "instance_norm" NORM ["epsilon" Float] "Normalised over the spatial axes of each channel, scaled per channel" "instance_norm([[[1, 3]]], [2], [1], epsilon=0.0) = [[[-1, 3]]]";
    GROUP_NORM group_norm "group_norm" NORM ["groups" Int, "epsilon" Float] "Normalised over the spatial axes and the channels of each group, scaled per channel (Wu and He 2018)" "group_norm([[[1], [3]]], [1, 2], [0, 1], groups=1, epsilon=0) = [[[-1], [3]]]";
    ONE_HOT one_hot "one_hot" INDEX ["depth" Int, "axis" Int, "dtype" DType] "1 at the index along a new axis of extent `depth`, else 0; negative indices count from the end" "one_hot(i64[0, 2], depth=3, axis=1, dtype=f32) = [[1, 0, 0], [0, 0, 1]]";
    CONV_TRANSPOSE conv_transpose "conv_transpose" XW ["strides" Ints, "pads" Ints, "dilations" Ints, "groups" Int, "output_padding" Ints] "The transpose of convolution: each input adds its multiple of the kernel (ONNX ConvTranspose without bias)" "conv_transpose([[[1, 2]]], [[[1, 10]]], strides=[2], pads=[0, 0], dilations=[1], groups=1, output_padding=[0]) = [[[1, 10, 2, 20]]]";
}
