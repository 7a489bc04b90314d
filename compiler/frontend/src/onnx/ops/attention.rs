//! Attention and what goes with it in language models.

use super::{Row, many, one};
use crate::onnx::context::{Context, R, V, attrs};
use crate::onnx::frame::Slot;
use crate::onnx::steps::Steps;
use tahoma_core::{DType, OpError};

pub(super) static ROWS: &[Row] = &[
    many("Attention", 23, attention),
    one("RotaryEmbedding", 23, rotary),
    many("LinearAttention", 27, linear_attention),
    many("CausalConvWithState", 27, causal_conv),
    one("FlexAttention", 1, flex_attention).of("ai.onnx.preview"),
];

/// `[B, S, H*D]` to `[B, H, S, D]`.
pub(super) fn heads(cx: &mut Context, v: V, n: usize) -> R<V> {
    let d = cx.dims(v)?;
    if n == 0 || d.len() != 3 || d[2] % n != 0 {
        return Err(OpError::shape(format!("{} does not split into {n} heads", cx.ty(v))));
    }
    let v = cx.reshape(v, &[d[0], d[1], n, d[2] / n])?;
    cx.transpose(v, &[0, 2, 1, 3])
}

/// `[B, H, S, D]` to `[B, S, H*D]`.
pub(super) fn joined(cx: &mut Context, v: V) -> R<V> {
    let d = cx.dims(v)?;
    let v = cx.transpose(v, &[0, 2, 1, 3])?;
    cx.reshape(v, &[d[0], d[2], d[1] * d[3]])
}

/// Each head `n` times, next to each other.
pub(super) fn repeat_heads(cx: &mut Context, v: V, n: usize) -> R<V> {
    if n == 1 {
        return Ok(v);
    }
    let d = cx.dims(v)?;
    let v = cx.reshape(v, &[d[0], d[1], 1, d[2], d[3]])?;
    let v = cx.broadcast(v, &[d[0], d[1], n, d[2], d[3]])?;
    cx.reshape(v, &[d[0], d[1] * n, d[2], d[3]])
}

pub(super) fn head_count(cx: &Context, name: &str) -> R<usize> {
    match cx.attrs.int(name) {
        Some(n) if n > 0 && n < 1 << 20 => Ok(n as usize),
        Some(n) => Err(OpError::attr(format!("{name} cannot be {n}"))),
        None => Err(OpError::attr(format!("operands of rank 3 need {name}"))),
    }
}

/// A subgraph of one tensor to one tensor of the same type, if the attribute is there.
fn modified(cx: &mut Context, name: &str, v: V) -> R<V> {
    let Some(g) = cx.attrs.graph(name) else { return Ok(v) };
    match cx.imp.subgraph(g, vec![Slot::Value(v)])?.into_iter().next() {
        Some(Slot::Value(y)) if cx.ty(y) == cx.ty(v) => Ok(y),
        Some(Slot::Value(y)) => Err(OpError::shape(format!("{name} makes {} of {}", cx.ty(y), cx.ty(v))).note("it must keep the type")),
        _ => Err(OpError::dtype(format!("{name} must give one tensor"))),
    }
}

/// FlexAttention-1 of ai.onnx.preview: prob_mod(softmax(score_mod(q k' scale))) v, with grouped heads.
fn flex_attention(cx: &mut Context) -> R<V> {
    let (q, k, v) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    for (i, x) in [q, k, v].into_iter().enumerate() {
        if cx.rank(x) != 4 {
            return Err(OpError::shape("Q, K and V must have rank 4").mark(i, "must have rank 4"));
        }
    }
    let (qd, kd) = (cx.dims(q)?, cx.dims(k)?);
    if kd[1] == 0 || qd[1] % kd[1] != 0 {
        return Err(
            OpError::shape(format!("{} query heads do not share {} key heads", qd[1], kd[1])).mark(1, "heads must divide those of Q")
        );
    }
    let (k, v) = (repeat_heads(cx, k, qd[1] / kd[1])?, repeat_heads(cx, v, qd[1] / kd[1])?);
    let dtype = cx.dtype(q);
    let wide = match cx.attrs.int("softmax_precision") {
        Some(p) => super::math::type_code(p)?,
        None if dtype == DType::F64 => DType::F64,
        None => DType::F32,
    };
    let kt = cx.transpose(k, &[0, 1, 3, 2])?;
    let scores = cx.matmul(q, kt)?;
    let scores = cx.scale(scores, cx.attrs.float("scale").unwrap_or(1.0 / (qd[3] as f64).sqrt()))?;
    let scores = cx.cast(scores, wide)?;
    let scores = modified(cx, "score_mod", scores)?;
    let p = cx.op("softmax", &[scores], attrs! {"axis": 3i64})?;
    let p = modified(cx, "prob_mod", p)?;
    let p = cx.cast(p, dtype)?;
    cx.matmul(p, v)
}

/// ONNX Attention-23..25: softmax(softcap(q k' scale) + bias) v, with grouped heads, caches and masks.
fn attention(cx: &mut Context) -> R<Vec<V>> {
    let (mut q, mut k, mut v) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let (mask, past_k, past_v, nonpad) = (cx.try_opt(3)?, cx.try_opt(4)?, cx.try_opt(5)?, cx.try_opt(6)?);
    let flat = cx.rank(q) == 3;
    if flat {
        let (qh, kvh) = (head_count(cx, "q_num_heads")?, head_count(cx, "kv_num_heads")?);
        (q, k, v) = (heads(cx, q, qh)?, heads(cx, k, kvh)?, heads(cx, v, kvh)?);
    }
    for (i, x) in [q, k, v].into_iter().enumerate() {
        if cx.rank(x) != 4 {
            return Err(OpError::shape("Q, K and V must have rank 3 or 4").mark(i, "must have rank 3 or 4"));
        }
    }
    if past_k.is_some() != past_v.is_some() {
        return Err(OpError::attr("past_key and past_value go together"));
    }
    let mut past = 0;
    if let (Some(pk), Some(pv)) = (past_k, past_v) {
        past = cx.dim(pk, 2)?;
        (k, v) = (cx.concat(&[pk, k], 2)?, cx.concat(&[pv, v], 2)?);
    }
    let present = (k, v);
    let (qd, kd) = (cx.dims(q)?, cx.dims(k)?);
    let (batch, n, m) = (qd[0], qd[2], kd[2]);
    if kd[1] == 0 || qd[1] % kd[1] != 0 {
        return Err(
            OpError::shape(format!("{} query heads do not share {} key heads", qd[1], kd[1])).mark(1, "heads must divide those of Q")
        );
    }
    let group = qd[1] / kd[1];
    (k, v) = (repeat_heads(cx, k, group)?, repeat_heads(cx, v, group)?);
    let dtype = cx.dtype(q);
    let scale = cx.attrs.float("scale").unwrap_or(1.0 / (qd[3] as f64).sqrt()).sqrt();
    let kt = cx.transpose(k, &[0, 1, 3, 2])?;
    let (qs, ks) = (cx.scale(q, scale)?, cx.scale(kt, scale)?);
    let raw = cx.matmul(qs, ks)?;
    let softcap = cx.attrs.float("softcap").unwrap_or(0.0);
    let mut scores = raw;
    if softcap > 0.0 {
        scores = cx.scale(scores, 1.0 / softcap)?;
        scores = cx.f("tanh", &[scores])?;
        scores = cx.scale(scores, softcap)?;
    }
    let bias = bias(cx, dtype, mask, nonpad, past_k.is_some().then_some(past), batch, n, m)?;
    let mut biased = scores;
    if let Some(b) = bias {
        biased = cx.add(scores, b)?;
    }
    let wide = match cx.attrs.int("softmax_precision") {
        Some(p) => super::math::type_code(p)?,
        None => dtype,
    };
    let logits = cx.cast(biased, wide)?;
    let mut p = super::activation::softmax(cx, logits, 3)?;
    if let Some(b) = bias {
        // A row with every key masked has no answer; ONNX makes it zero.
        let last = cx.rank(b) - 1;
        let best = cx.reduce("reduce_max", b, &[last], true)?;
        let least = cx.like(f64::NEG_INFINITY, best)?;
        let none = cx.f("eq", &[best, least])?;
        let zero = cx.like(0.0, p)?;
        p = cx.f("select", &[none, zero, p])?;
    }
    let p = cx.cast(p, dtype)?;
    let mut y = cx.matmul(p, v)?;
    if flat {
        y = joined(cx, y)?;
    }
    let shown = match cx.attrs.int("qk_matmul_output_mode").unwrap_or(0) {
        0 => raw,
        1 => scores,
        2 => biased,
        3 => p,
        other => return Err(OpError::attr(format!("qk_matmul_output_mode cannot be {other}"))),
    };
    Ok(vec![y, present.0, present.1, shown])
}

/// What is added to the scores: 0 where a query may see a key, -inf where not, and the mask's own numbers.
#[allow(clippy::too_many_arguments)]
fn bias(
    cx: &mut Context,
    dtype: DType,
    mask: Option<V>,
    nonpad: Option<V>,
    past: Option<usize>,
    batch: usize,
    n: usize,
    m: usize,
) -> R<Option<V>> {
    let zero = cx.scalar(0.0, dtype)?;
    let least = cx.scalar(f64::NEG_INFINITY, dtype)?;
    let mut total: Option<V> = None;
    let plus = |cx: &mut Context, total: Option<V>, b: V| match total {
        Some(t) => cx.add(t, b).map(Some),
        None => Ok(Some(b)),
    };
    if let Some(mut mask) = mask {
        let have = cx.dim(mask, cx.rank(mask).saturating_sub(1))?;
        if cx.dtype(mask) == DType::Bool {
            mask = cx.f("select", &[mask, zero, least])?;
        }
        if have < m {
            let rank = cx.rank(mask);
            let (low, mut high) = (vec![0i64; rank], vec![0i64; rank]);
            high[rank - 1] = (m - have) as i64;
            mask = super::shape::pad_constant(cx, mask, low, high, f64::NEG_INFINITY)?;
        }
        let mask = cx.cast(mask, dtype)?;
        total = plus(cx, total, mask)?;
    }
    // Position of each query among the keys.
    let row = cx.op("iota", &[], attrs! {"shape": vec![n as i64, 1], "axis": 0i64, "dtype": DType::I64})?;
    let col = cx.op("iota", &[], attrs! {"shape": vec![1, m as i64], "axis": 1i64, "dtype": DType::I64})?;
    let lengths = match nonpad {
        Some(l) => {
            let l = cx.cast(l, DType::I64)?;
            Some(cx.reshape(l, &[batch, 1, 1, 1])?)
        }
        None => None,
    };
    let place = match (lengths, past) {
        (Some(l), None) => {
            let n = cx.int(n as i64);
            let offset = cx.sub(l, n)?;
            cx.add(row, offset)?
        }
        (_, past) => {
            let offset = cx.int(past.unwrap_or(0) as i64);
            cx.add(row, offset)?
        }
    };
    let mut rules = Vec::new();
    if cx.attrs.int("is_causal").unwrap_or(0) != 0 {
        rules.push(cx.f("le", &[col, place])?);
    }
    let (left, right) = (cx.attrs.int("left_window_size").unwrap_or(-1), cx.attrs.int("right_window_size").unwrap_or(-1));
    if left >= 0 {
        let w = cx.int(left);
        let edge = cx.sub(place, w)?;
        rules.push(cx.f("ge", &[col, edge])?);
    }
    if right >= 0 {
        let w = cx.int(right);
        let edge = cx.add(place, w)?;
        rules.push(cx.f("le", &[col, edge])?);
    }
    if let Some(l) = lengths {
        rules.push(cx.f("lt", &[col, l])?);
    }
    for allowed in rules {
        let b = cx.f("select", &[allowed, zero, least])?;
        total = plus(cx, total, b)?;
    }
    Ok(total)
}

/// Rotates pairs of features by the angle of their position.
fn rotary(cx: &mut Context) -> R<V> {
    let (x, cos, sin, positions) = (cx.input(0)?, cx.input(1)?, cx.input(2)?, cx.try_opt(3)?);
    let dims = cx.dims(x)?;
    let flat = dims.len() == 3;
    let x4 = match dims.len() {
        3 => heads(cx, x, head_count(cx, "num_heads")?)?,
        4 => x,
        r => return Err(OpError::shape(format!("needs rank 3 or 4, got {r}")).mark(0, "must have rank 3 or 4")),
    };
    let d = cx.dims(x4)?;
    let part = match cx.attrs.int("rotary_embedding_dim").unwrap_or(0) {
        0 => d[3],
        p if p > 0 && p as usize <= d[3] && p % 2 == 0 => p as usize,
        p => return Err(OpError::attr(format!("rotary_embedding_dim cannot be {p} with heads of {}", d[3]))),
    };
    let interleaved = cx.attrs.int("interleaved").unwrap_or(0) != 0;
    let y = rotate(cx, x4, cos, sin, positions, part, interleaved)?;
    if flat { joined(cx, y) } else { Ok(y) }
}

/// The first `part` features of each head of `x4 [B, N, S, H]` rotated in pairs: neighbours, or one from each half.
pub(super) fn rotate(cx: &mut Context, x4: V, cos: V, sin: V, positions: Option<V>, part: usize, interleaved: bool) -> R<V> {
    let d = cx.dims(x4)?;
    if part > d[3] || !part.is_multiple_of(2) {
        return Err(OpError::attr(format!("cannot rotate {part} of {} features", d[3])));
    }
    let half = part / 2;
    let angles = |cx: &mut Context, cache: V| -> R<V> {
        let c = match positions {
            Some(p) => {
                let p = cx.cast(p, DType::I64)?;
                cx.op("gather", &[cache, p], attrs! {"axis": 0i64})?
            }
            None => cache,
        };
        let have = cx.dim(c, cx.rank(c) - 1)?;
        if have < half {
            return Err(OpError::shape(format!("the caches have {have} angles, {half} are needed")));
        }
        let last = cx.rank(c) - 1;
        let c = cx.slice(c, last, 0, half)?;
        cx.reshape(c, &[d[0], 1, d[2], half])
    };
    let (cos, sin) = (angles(cx, cos)?, angles(cx, sin)?);
    let turned = cx.slice(x4, 3, 0, part)?;
    let (a, b) = if interleaved {
        (cx.slice_step(turned, 3, 0, half, 2)?, cx.slice_step(turned, 3, 1, half, 2)?)
    } else {
        (cx.slice(turned, 3, 0, half)?, cx.slice(turned, 3, half, half)?)
    };
    let (ac, bs, as_, bc) = (cx.mul(a, cos)?, cx.mul(b, sin)?, cx.mul(a, sin)?, cx.mul(b, cos)?);
    let (re, im) = (cx.sub(ac, bs)?, cx.add(as_, bc)?);
    let mut y = if interleaved {
        let (re, im) = (cx.unsqueeze(re, 4)?, cx.unsqueeze(im, 4)?);
        let both = cx.concat(&[re, im], 4)?;
        cx.reshape(both, &[d[0], d[1], d[2], part])?
    } else {
        cx.concat(&[re, im], 3)?
    };
    if part < d[3] {
        let rest = cx.slice(x4, 3, part, d[3] - part)?;
        y = cx.concat(&[y, rest], 3)?;
    }
    Ok(y)
}

/// Linear attention as a recurrence over a state [B, H, Dk, Dv], unrolled: decay, delta correction, write, read.
fn linear_attention(cx: &mut Context) -> R<Vec<V>> {
    let (q, k, v, past, decay, beta) = (cx.input(0)?, cx.input(1)?, cx.input(2)?, cx.try_opt(3)?, cx.try_opt(4)?, cx.try_opt(5)?);
    let (qh, kvh) = (head_count(cx, "q_num_heads")?, head_count(cx, "kv_num_heads")?);
    let rule = cx.attrs.str("update_rule").unwrap_or("gated_delta");
    let (gated, delta) = match rule {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => return Err(OpError::attr(format!("update_rule {other:?} is none of linear, gated, delta, gated_delta"))),
    };
    if gated != decay.is_some() || delta != beta.is_some() || qh % kvh != 0 {
        return Err(OpError::attr(format!("operands decay and beta, or the head counts, do not fit update_rule {rule:?}")));
    }
    let dtype = cx.dtype(q);
    let wide = |cx: &mut Context, x: V| cx.cast(x, DType::F32);
    let (q, k, v) = (heads(cx, q, qh)?, heads(cx, k, kvh)?, heads(cx, v, kvh)?);
    let (q, k, v) = (wide(cx, q)?, wide(cx, k)?, wide(cx, v)?);
    let (qd, vd) = (cx.dims(q)?, cx.dims(v)?);
    let (b, t, dk, dv) = (qd[0], qd[2], qd[3], vd[3]);
    let decay = match decay {
        Some(d) => {
            let d = heads(cx, d, kvh)?;
            let d = wide(cx, d)?;
            Some(cx.f("exp", &[d])?)
        }
        None => None,
    };
    let beta = match beta {
        Some(x) => {
            let n = cx.dim(x, 2)?;
            let x = heads(cx, x, n)?;
            Some(wide(cx, x)?)
        }
        None => None,
    };
    let kept = match past {
        Some(p) => cx.dtype(p),
        None => dtype,
    };
    let state = match past {
        Some(p) => wide(cx, p)?,
        None => cx.full(0.0, DType::F32, &[b, kvh, dk, dv])?,
    };
    let scale = cx.attrs.float("scale").filter(|&s| s != 0.0).unwrap_or(1.0 / (dk as f64).sqrt());
    let q = cx.scale(q, scale)?;
    // Steps first, each still with its axis: [T, B, H, 1, D].
    let by_step = |cx: &mut Context, x: V| {
        let x = cx.transpose(x, &[2, 0, 1, 3])?;
        cx.unsqueeze(x, 3)
    };
    let mut sliced = vec![(by_step(cx, q)?, false), (by_step(cx, k)?, false), (by_step(cx, v)?, false)];
    for x in [decay, beta].into_iter().flatten() {
        sliced.push((by_step(cx, x)?, false));
    }
    let steps = Steps { trips: t, carried: &[state], sliced: &sliced, shared: &[], kept: &[false] };
    let made = match t {
        0 => vec![state, cx.full(0.0, DType::F32, &[0, b, qh, 1, dv])?],
        _ => steps.run(cx, &mut |cx, carried, rows, _| {
            let (mut state, qt, kt, mut vt) = (carried[0], rows[0], rows[1], rows[2]);
            let mut more = rows[3..].iter().copied();
            let column = cx.transpose(kt, &[0, 1, 3, 2])?;
            if decay.is_some() {
                let g = more.next().ok_or_else(|| OpError::new("E0901", "no row of decay"))?;
                let g = cx.transpose(g, &[0, 1, 3, 2])?;
                state = cx.mul(state, g)?;
            }
            if beta.is_some() {
                let w = more.next().ok_or_else(|| OpError::new("E0901", "no row of beta"))?;
                let seen = cx.matmul(kt, state)?;
                let miss = cx.sub(vt, seen)?;
                vt = cx.mul(w, miss)?;
            }
            let write = cx.mul(column, vt)?;
            state = cx.add(state, write)?;
            let read = repeat_heads(cx, state, qh / kvh)?;
            Ok(vec![state, cx.matmul(qt, read)?])
        })?,
    };
    let state = made[0];
    let y = cx.squeeze(made[1], &[3])?;
    let y = cx.transpose(y, &[1, 2, 0, 3])?;
    let y = joined(cx, y)?;
    Ok(vec![cx.cast(y, dtype)?, cx.cast(state, kept)?])
}

/// Depthwise causal convolution along the length; the state is the last `k - 1` elements seen.
fn causal_conv(cx: &mut Context) -> R<Vec<V>> {
    let (x, w, bias, past) = (cx.input(0)?, cx.input(1)?, cx.try_opt(2)?, cx.try_opt(3)?);
    let (xd, wd) = (cx.dims(x)?, cx.dims(w)?);
    if xd.len() != 3 || wd.len() != 3 || wd[0] != xd[1] || wd[1] != 1 || wd[2] == 0 {
        return Err(
            OpError::shape("needs input [B, C, L] and weight [C, 1, K]").mark(1, format!("must be [{}, 1, K]", xd.get(1).unwrap_or(&0)))
        );
    }
    let keep = wd[2] - 1;
    let before = match past {
        Some(p) => p,
        None => {
            let dtype = cx.dtype(x);
            cx.full(0.0, dtype, &[xd[0], xd[1], keep])?
        }
    };
    let all = if keep == 0 { x } else { cx.concat(&[before, x], 2)? };
    let a = attrs! {"strides": vec![1i64], "pads": vec![0i64, 0], "dilations": vec![1i64], "groups": xd[1] as i64};
    let y = cx.op("conv", &[all, w], a)?;
    let mut y = super::conv::add_bias(cx, y, bias)?;
    match cx.attrs.str("activation").unwrap_or("none") {
        "none" => {}
        "silu" | "swish" => y = cx.f("silu", &[y])?,
        other => return Err(OpError::attr(format!("activation {other:?} is none of none, silu, swish"))),
    }
    let total = cx.dim(all, 2)?;
    let state = cx.slice(all, 2, total - keep, keep)?;
    Ok(vec![y, state])
}
