//! Attention as ONNX Runtime splits it: with its projections, with caches, with grouped heads.

use super::DOMAIN;
use crate::onnx::context::{Context, R, V, attrs};
use crate::onnx::ops::attention::{head_count, heads, joined, repeat_heads, rotate};
use crate::onnx::ops::{Row, many, one};
use tahoma_core::{DType, OpError};

pub(super) static ROWS: &[Row] = &[
    many("Attention", 1, attention).of(DOMAIN),
    many("MultiHeadAttention", 1, multi_head).of(DOMAIN),
    many("GroupQueryAttention", 1, group_query).of(DOMAIN),
    one("RotaryEmbedding", 1, rotary).of(DOMAIN),
];

/// What the scores are changed by.
#[derive(Default)]
struct Scores {
    scale: f64,
    softcap: f64,
    /// Added to `[B, N, S, T]`.
    biases: Vec<V>,
    /// A score beside those of the keys that takes weight and gives nothing, `[1, N, 1, 1]`.
    sink: Option<V>,
}

/// softmax(q k' · scale + biases) v over `[B, N, S, H]`, `[B, N, T, H]`.
fn attend(cx: &mut Context, q: V, k: V, v: V, how: Scores) -> R<V> {
    let kt = cx.transpose(k, &[0, 1, 3, 2])?;
    let mut s = cx.matmul(q, kt)?;
    s = cx.scale(s, how.scale)?;
    if how.softcap > 0.0 {
        s = cx.scale(s, 1.0 / how.softcap)?;
        s = cx.f("tanh", &[s])?;
        s = cx.scale(s, how.softcap)?;
    }
    for b in how.biases {
        let dtype = cx.dtype(s);
        let b = cx.cast(b, dtype)?;
        s = cx.add(s, b)?;
    }
    let d = cx.dims(s)?;
    if let Some(sink) = how.sink {
        let dtype = cx.dtype(s);
        let sink = cx.cast(sink, dtype)?;
        let sink = cx.broadcast(sink, &[d[0], d[1], d[2], 1])?;
        s = cx.concat(&[s, sink], 3)?;
    }
    let mut p = cx.op("softmax", &[s], attrs! {"axis": 3i64})?;
    if how.sink.is_some() {
        p = cx.slice(p, 3, 0, d[3])?;
    }
    cx.matmul(p, v)
}

/// 0 where true, `value` where not.
fn penalty(cx: &mut Context, allowed: V, value: f64) -> R<V> {
    let (zero, less) = (cx.scalar(0.0, DType::F32)?, cx.scalar(value, DType::F32)?);
    cx.f("select", &[allowed, zero, less])
}

/// `[S, T]`: whether a key is no later than a query, of which the first stands at `past`.
fn causal(cx: &mut Context, s: usize, t: usize, past: usize) -> R<V> {
    let (rows, columns) = (cx.iota(s)?, cx.iota(t)?);
    let rows = cx.reshape(rows, &[s, 1])?;
    let offset = cx.int(past as i64);
    let rows = cx.add(rows, offset)?;
    cx.f("le", &[columns, rows])
}

/// A mask over keys, of lengths `[B]`, `[B, T]` or `[B, S, T]`, as a bias `[B, 1, S or 1, T]`.
fn key_mask(cx: &mut Context, mask: V, batch: usize, t: usize) -> R<V> {
    let value = cx.attrs.float("mask_filter_value").unwrap_or(-10000.0);
    let d = cx.dims(mask)?;
    let allowed = match d[..] {
        [b] if b == batch => {
            let ends = cx.cast(mask, DType::I64)?;
            let ends = cx.reshape(ends, &[batch, 1, 1, 1])?;
            let at = cx.iota(t)?;
            cx.f("lt", &[at, ends])?
        }
        [_, n] if n == t => {
            let m = cx.cast(mask, DType::Bool)?;
            cx.reshape(m, &[d[0], 1, 1, t])?
        }
        [_, s, n] if n == t => {
            let m = cx.cast(mask, DType::Bool)?;
            cx.reshape(m, &[d[0], 1, s, t])?
        }
        _ => return Err(cx.unsupported(format!("a mask of shape {d:?} for {t} keys"))),
    };
    penalty(cx, allowed, value)
}

/// Projections, then attention over all heads.
fn attention(cx: &mut Context) -> R<Vec<V>> {
    let (x, w, bias) = (cx.input(0)?, cx.input(1)?, cx.try_opt(2)?);
    let (mask, past, extra) = (cx.try_opt(3)?, cx.try_opt(4)?, cx.try_opt(5)?);
    if cx.attrs.int("do_rotary").unwrap_or(0) != 0 || cx.attrs.int("past_present_share_buffer").unwrap_or(0) != 0 {
        return Err(cx.unsupported("Attention with do_rotary or past_present_share_buffer"));
    }
    let [batch, s, _] = cx.dims(x)?[..] else { return Err(OpError::shape("needs [batch, length, width]").mark(0, "must have rank 3")) };
    let total = cx.dim(w, 1)?;
    let sizes: Vec<usize> = match cx.attrs.ints("qkv_hidden_sizes") {
        Some(s) => s.iter().map(|&n| usize::try_from(n).unwrap_or(0)).collect(),
        None => vec![total / 3; 3],
    };
    if sizes.len() != 3 || sizes.iter().sum::<usize>() != total {
        return Err(OpError::shape(format!("the weights' {total} columns are not q, k and v of {sizes:?}")));
    }
    let mut y = cx.matmul(x, w)?;
    if let Some(b) = bias {
        y = cx.add(y, b)?;
    }
    let n = head_count(cx, "num_heads")?;
    let mut parts = vec![];
    for (i, &size) in sizes.iter().enumerate() {
        let part = cx.slice(y, 2, sizes[..i].iter().sum(), size)?;
        parts.push(heads(cx, part, n)?);
    }
    let (q, mut k, mut v) = (parts[0], parts[1], parts[2]);
    let mut before = 0;
    if let Some(p) = past {
        let d = cx.dims(p)?;
        let [2, _, _, length, h] = d[..] else { return Err(OpError::shape("past must be [2, batch, heads, length, width]")) };
        before = length;
        for (i, x) in [&mut k, &mut v].into_iter().enumerate() {
            let old = cx.slice(p, 0, i, 1)?;
            let old = cx.reshape(old, &[batch, n, length, h])?;
            *x = cx.concat(&[old, *x], 2)?;
        }
    }
    let (head, t) = (cx.dim(q, 3)?, before + s);
    let mut how = Scores { scale: scale(cx, head), ..Scores::default() };
    if let Some(m) = mask {
        how.biases.push(key_mask(cx, m, batch, t)?);
    }
    if cx.attrs.int("unidirectional").unwrap_or(0) != 0 {
        let allowed = causal(cx, s, t, before)?;
        how.biases.push(penalty(cx, allowed, f64::NEG_INFINITY)?);
    }
    how.biases.extend(extra);
    let y = attend(cx, q, k, v, how)?;
    let mut out = vec![joined(cx, y)?];
    if cx.wants(1) {
        let (k, v) = (cx.unsqueeze(k, 0)?, cx.unsqueeze(v, 0)?);
        out.push(cx.concat(&[k, v], 0)?);
    }
    Ok(out)
}

/// The factor of the scores: as given and not 0, else 1/√head.
fn scale(cx: &Context, head: usize) -> f64 {
    cx.attrs.float("scale").filter(|&s| s != 0.0).unwrap_or(1.0 / (head as f64).sqrt())
}

/// Part `i` of a bias of three parts, added.
fn with_bias(cx: &mut Context, x: V, bias: Option<V>, start: usize) -> R<V> {
    let Some(b) = bias else { return Ok(x) };
    let width = cx.dim(x, 2)?;
    let b = cx.slice(b, 0, start, width)?;
    cx.add(x, b)
}

/// `[B, S, N, parts, H]` cut along its parts, each as `[B, N, S, H]`.
fn unpacked(cx: &mut Context, x: V, part: usize) -> R<V> {
    let d = cx.dims(x)?;
    let p = cx.slice(x, 3, part, 1)?;
    let p = cx.reshape(p, &[d[0], d[1], d[2], d[4]])?;
    cx.transpose(p, &[0, 2, 1, 3])
}

fn multi_head(cx: &mut Context) -> R<Vec<V>> {
    let (query, key, value, bias) = (cx.input(0)?, cx.try_opt(1)?, cx.try_opt(2)?, cx.try_opt(3)?);
    let (mask, extra, past_k, past_v) = (cx.try_opt(4)?, cx.try_opt(5)?, cx.try_opt(6)?, cx.try_opt(7)?);
    if cx.try_opt(8)?.is_some() || cx.try_opt(9)?.is_some() {
        return Err(cx.unsupported("a shared cache buffer or a beam's cache indirection"));
    }
    let n = head_count(cx, "num_heads")?;
    let ranks = (cx.rank(query), key.map(|k| cx.rank(k)), value.map(|v| cx.rank(v)));
    let (q, mut k, mut v) = match (ranks, key, value) {
        ((5, None, None), ..) => (unpacked(cx, query, 0)?, unpacked(cx, query, 1)?, unpacked(cx, query, 2)?),
        ((3, Some(5), None), Some(key), _) => {
            let q = with_bias(cx, query, bias, 0)?;
            (heads(cx, q, n)?, unpacked(cx, key, 0)?, unpacked(cx, key, 1)?)
        }
        ((3, Some(3), Some(3)), Some(key), Some(value)) => {
            let (wq, wk) = (cx.dim(query, 2)?, cx.dim(key, 2)?);
            let q = with_bias(cx, query, bias, 0)?;
            let (k, v) = (with_bias(cx, key, bias, wq)?, with_bias(cx, value, bias, wq + wk)?);
            (heads(cx, q, n)?, heads(cx, k, n)?, heads(cx, v, n)?)
        }
        ((3, Some(4), Some(4)), Some(key), Some(value)) => {
            let q = with_bias(cx, query, bias, 0)?;
            (heads(cx, q, n)?, key, value)
        }
        _ => return Err(OpError::shape("query, key and value have ranks that do not go together")),
    };
    let mut before = 0;
    if let (Some(pk), Some(pv)) = (past_k, past_v) {
        before = cx.dim(pk, 2)?;
        (k, v) = (cx.concat(&[pk, k], 2)?, cx.concat(&[pv, v], 2)?);
    }
    let (d, t) = (cx.dims(q)?, cx.dim(k, 2)?);
    let mut how = Scores { scale: scale(cx, d[3]), ..Scores::default() };
    if let Some(m) = mask {
        how.biases.push(key_mask(cx, m, d[0], t)?);
    }
    if cx.attrs.int("unidirectional").unwrap_or(0) != 0 {
        let allowed = causal(cx, d[2], t, before)?;
        how.biases.push(penalty(cx, allowed, f64::NEG_INFINITY)?);
    }
    how.biases.extend(extra);
    let y = attend(cx, q, k, v, how)?;
    Ok(vec![joined(cx, y)?, k, v])
}

/// Grouped heads with a cache that is as long as its buffer: how much of it holds keys is a number for each row of the batch.
fn group_query(cx: &mut Context) -> R<Vec<V>> {
    let (query, key, value, past_k, past_v) = (cx.input(0)?, cx.try_opt(1)?, cx.try_opt(2)?, cx.try_opt(3)?, cx.try_opt(4)?);
    let (n, kv) = (head_count(cx, "num_heads")?, head_count(cx, "kv_num_heads")?);
    for (i, what) in [(12, "a quantised cache"), (13, "a quantised cache"), (14, "a norm of the queries"), (15, "a norm of the keys")] {
        if cx.try_opt(i)?.is_some() {
            return Err(cx.unsupported(what));
        }
    }
    if cx.try_opt(16)?.is_some() || cx.attrs.int("qk_output").unwrap_or(0) != 0 {
        return Err(cx.unsupported("rows of different lengths, or the scores as a result"));
    }
    let [batch, s, width] = cx.dims(query)?[..] else {
        return Err(OpError::shape("needs [batch, length, width]").mark(0, "must have rank 3"));
    };
    if n % kv != 0 {
        return Err(OpError::attr(format!("{n} query heads do not share {kv} key heads")));
    }
    let (q, k, v) = match (key, value) {
        (Some(k), Some(v)) => (query, k, v),
        _ => {
            let h = width / (n + 2 * kv);
            (cx.slice(query, 2, 0, n * h)?, cx.slice(query, 2, n * h, kv * h)?, cx.slice(query, 2, (n + kv) * h, kv * h)?)
        }
    };
    let (mut q, mut k, v) = (heads(cx, q, n)?, heads(cx, k, kv)?, heads(cx, v, kv)?);
    let total = cx.need_ints(6)?.first().copied().and_then(|t| usize::try_from(t).ok()).unwrap_or(0);
    let buffer = match past_k {
        Some(p) => cx.dim(p, 2)?,
        None => 0,
    };
    let (t, head) = (total.max(buffer).max(s), cx.dim(q, 3)?);
    // How many keys stand before the new ones, [B, 1, 1, 1]: none at the first call, in which all are new.
    let before = if s >= total {
        cx.constant(tahoma_core::Tensor::i64(&[batch, 1, 1, 1], vec![0; batch]))
    } else {
        let last = cx.input(5)?;
        let last = cx.cast(last, DType::I64)?;
        let last = cx.reshape(last, &[batch, 1, 1, 1])?;
        let step = cx.int(1 - s as i64);
        cx.add(last, step)?
    };
    let line = cx.iota(s)?;
    let line = cx.reshape(line, &[1, 1, s, 1])?;
    let place = cx.add(before, line)?;
    if cx.attrs.int("do_rotary").unwrap_or(0) != 0 {
        let (cos, sin) = (cx.input(7)?, cx.input(8)?);
        let at = match cx.try_opt(9)? {
            Some(p) => p,
            None => cx.reshape(place, &[batch, s])?,
        };
        let part = 2 * cx.dim(cos, 1)?;
        let interleaved = cx.attrs.int("rotary_interleaved").unwrap_or(0) != 0;
        q = rotate(cx, q, cos, sin, Some(at), part.min(head), interleaved)?;
        k = rotate(cx, k, cos, sin, Some(at), part.min(head), interleaved)?;
    }
    let (k, v) = (cached(cx, past_k, k, before, t)?, cached(cx, past_v, v, before, t)?);
    // A key is seen from its own place on, and no longer than the window.
    let columns = cx.iota(t)?;
    let mut allowed = cx.f("le", &[columns, place])?;
    if cx.attrs.int("causal").unwrap_or(1) == 0 {
        return Err(cx.unsupported("attention that is not causal"));
    }
    let window = cx.attrs.int("local_window_size").unwrap_or(-1);
    if window > 0 {
        let w = cx.int(window);
        let edge = cx.sub(place, w)?;
        let near = cx.f("gt", &[columns, edge])?;
        allowed = cx.f("and", &[allowed, near])?;
    }
    let mut how = Scores { scale: scale(cx, head), softcap: cx.attrs.float("softcap").unwrap_or(0.0), ..Scores::default() };
    how.biases.push(penalty(cx, allowed, f64::NEG_INFINITY)?);
    if let Some(b) = cx.try_opt(10)? {
        // It may be for fewer keys than the buffer has.
        let have = cx.dim(b, 3)?;
        let b = crate::onnx::ops::shape::pad_constant(cx, b, vec![0; 4], vec![0, 0, 0, (t - have.min(t)) as i64], 0.0)?;
        how.biases.push(b);
    }
    how.sink = match cx.try_opt(11)? {
        Some(s) => Some(cx.reshape(s, &[1, n, 1, 1])?),
        None if cx.attrs.int("smooth_softmax").unwrap_or(0) == 1 => Some(cx.full(0.0, DType::F32, &[1, n, 1, 1])?),
        None => None,
    };
    let (all_k, all_v) = (repeat_heads(cx, k, n / kv)?, repeat_heads(cx, v, n / kv)?);
    let y = attend(cx, q, all_k, all_v, how)?;
    Ok(vec![joined(cx, y)?, k, v])
}

/// The buffer with the new keys in their places, `[B, KV, t, H]`.
fn cached(cx: &mut Context, past: Option<V>, new: V, before: V, t: usize) -> R<V> {
    let d = cx.dims(new)?;
    let (batch, kv, s, h) = (d[0], d[1], d[2], d[3]);
    if t == s {
        return Ok(new);
    }
    let old = match past {
        Some(p) => {
            let have = cx.dim(p, 2)?;
            crate::onnx::ops::shape::pad_constant(cx, p, vec![0; 4], vec![0, 0, (t - have) as i64, 0], 0.0)?
        }
        None => {
            let dtype = cx.dtype(new);
            cx.full(0.0, dtype, &[batch, kv, t, h])?
        }
    };
    // Which of the new keys stands at each place of the buffer; before them are old ones, behind them nothing.
    let line = cx.iota(t)?;
    let line = cx.reshape(line, &[1, 1, t, 1])?;
    let at = cx.sub(line, before)?;
    let (zero, end) = (cx.int(0), cx.int(s as i64 - 1));
    let (low, high) = (cx.f("ge", &[at, zero])?, cx.f("le", &[at, end])?);
    let inside = cx.f("and", &[low, high])?;
    let at = cx.f("clip", &[at, zero, end])?;
    let at = cx.broadcast(at, &[batch, kv, t, h])?;
    let moved = cx.op("gather_elements", &[new, at], attrs! {"axis": 2i64})?;
    let nothing = cx.like(0.0, new)?;
    let rest = cx.f("select", &[low, nothing, old])?;
    cx.f("select", &[inside, moved, rest])
}

/// Rotary embedding with positions before the caches, which hold half a head.
fn rotary(cx: &mut Context) -> R<V> {
    let (x, positions, cos, sin) = (cx.input(0)?, cx.input(1)?, cx.input(2)?, cx.input(3)?);
    if cx.attrs.float("scale").unwrap_or(1.0) != 1.0 || cx.attrs.int("is_packed_batching").unwrap_or(0) != 0 {
        return Err(cx.unsupported("RotaryEmbedding with a scale or packed batches"));
    }
    let cached = 2 * cx.dim(cos, 1)?;
    let part = match cx.attrs.int("rotary_embedding_dim").unwrap_or(0) {
        0 => cached,
        p => usize::try_from(p).map_err(|_| OpError::attr("rotary_embedding_dim is negative"))?,
    };
    let flat = cx.rank(x) == 3;
    let x4 = match (flat, cx.attrs.int("num_heads").unwrap_or(0)) {
        (true, 0) => {
            let width = cx.dim(x, 2)?;
            heads(cx, x, width / cached.max(1))?
        }
        (true, _) => heads(cx, x, head_count(cx, "num_heads")?)?,
        _ => x,
    };
    let d = cx.dims(x4)?;
    let [batch, _, s, _] = d[..] else { return Err(OpError::shape("needs rank 3 or 4").mark(0, "must have rank 3 or 4")) };
    let mut at = cx.cast(positions, DType::I64)?;
    if cx.dims(at)?.iter().product::<usize>() == 1 {
        // The place of the first token.
        let first = cx.reshape(at, &[1, 1])?;
        let line = cx.iota(s)?;
        at = cx.add(first, line)?;
        at = cx.broadcast(at, &[batch, s])?;
    }
    let interleaved = cx.attrs.int("interleaved").unwrap_or(0) != 0;
    let y = rotate(cx, x4, cos, sin, Some(at), part, interleaved)?;
    if flat { joined(cx, y) } else { Ok(y) }
}
