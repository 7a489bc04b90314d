//! Mixtures of experts, gpt-oss's among them. Every expert is computed for every token and those not chosen get weight zero: the
//! meaning, not yet the cost, of a mixture.

use super::DOMAIN;
use super::quant::Packed;
use crate::onnx::context::{Context, R, V, attrs};
use crate::onnx::ops::activation::silu;
use crate::onnx::ops::{Row, one};
use tahoma_core::{DType, OpError};

pub(super) static ROWS: &[Row] = &[one("QMoE", 1, quantised).of(DOMAIN), one("MoE", 1, plain).of(DOMAIN)];

/// The weights and bias of one layer of all experts: `[E, rows, columns]`, `[E, rows]`.
struct Layer {
    weights: V,
    bias: Option<V>,
}

/// Packed layer whose operands are the codes at `at`, then scales and bias, and zero points at `zeros`.
fn layer(cx: &mut Context, at: usize, zeros: usize, columns: usize, which: &str) -> R<Layer> {
    let (codes, scales, bias, zeros) = (cx.input(at)?, cx.input(at + 1)?, cx.try_opt(at + 2)?, cx.try_opt(zeros)?);
    let bits = cx.attrs.int(which).or(cx.attrs.int("expert_weight_bits")).unwrap_or(4);
    let bits = usize::try_from(bits).ok().filter(|b| matches!(b, 2 | 4 | 8)).ok_or_else(|| cx.unsupported(format!("{which} {bits}")))?;
    let [experts, rows, _] = cx.dims(codes)?[..] else { return Err(OpError::shape("experts' weights must have rank 3")) };
    let block = match cx.attrs.int("block_size").unwrap_or(0) {
        0 => columns,
        b => usize::try_from(b).map_err(|_| OpError::attr("block_size is negative"))?,
    };
    let weights = Packed { codes, scales, zeros, bits, block, dims: vec![experts, rows, columns] }.numbers(cx, DType::F32)?;
    Ok(Layer { weights, bias })
}

fn applied(cx: &mut Context, x: V, l: &Layer) -> R<V> {
    let w = cx.transpose(l.weights, &[0, 2, 1])?;
    let y = cx.matmul(x, w)?;
    match l.bias {
        Some(b) => {
            let b = cx.cast(b, DType::F32)?;
            let b = cx.unsqueeze(b, 1)?;
            cx.add(y, b)
        }
        None => Ok(y),
    }
}

fn quantised(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    if cx.attrs.int("weights_prepacked").unwrap_or(0) > 0 || cx.attrs.str("quant_type").unwrap_or("int") != "int" {
        return Err(cx.unsupported("QMoE with prepacked weights, or of other than integer codes"));
    }
    let width = cx.dim(x, cx.rank(x).saturating_sub(1))?;
    let first = layer(cx, 2, 11, width, "fc1_expert_weight_bits")?;
    let gate = match cx.try_opt(8)? {
        Some(_) => Some(layer(cx, 8, 13, width, "fc3_expert_weight_bits")?),
        None => None,
    };
    let inner = cx.dim(first.weights, 1)? / if fused(cx)? { 2 } else { 1 };
    let second = layer(cx, 5, 12, inner, "fc2_expert_weight_bits")?;
    let weights = cx.try_opt(14)?;
    mixture(cx, first, second, gate, weights)
}

fn plain(cx: &mut Context) -> R<V> {
    let given = |cx: &mut Context, at: usize| -> R<Option<Layer>> {
        let Some(w) = cx.try_opt(at)? else { return Ok(None) };
        Ok(Some(Layer { weights: cx.cast(w, DType::F32)?, bias: cx.try_opt(at + 1)? }))
    };
    let missing = || OpError::new("E0202", "needs the experts' weights");
    let (first, second, gate) = (given(cx, 2)?.ok_or_else(missing)?, given(cx, 4)?.ok_or_else(missing)?, given(cx, 6)?);
    mixture(cx, first, second, gate, None)
}

/// Whether the first layer makes gate and value.
fn fused(cx: &Context) -> R<bool> {
    let swiglu = cx.attrs.str("activation_type").unwrap_or("relu") == "swiglu";
    match cx.attrs.int("swiglu_fusion").unwrap_or(0) {
        0 => Ok(false),
        1 | 2 => Ok(swiglu),
        other => Err(OpError::attr(format!("swiglu_fusion cannot be {other}"))),
    }
}

fn mixture(cx: &mut Context, first: Layer, second: Layer, gate: Option<Layer>, given: Option<V>) -> R<V> {
    let (x, router) = (cx.input(0)?, cx.input(1)?);
    let dims = cx.dims(x)?;
    let dtype = cx.dtype(x);
    let Some(&width) = dims.last() else { return Err(OpError::shape("needs tokens").mark(0, "must have rank 2 or 3")) };
    let rows: usize = dims[..dims.len() - 1].iter().product();
    let flat = cx.reshape(x, &[1, rows, width])?;
    let flat = cx.cast(flat, DType::F32)?;
    let h = applied(cx, flat, &first)?;
    let h = match gate {
        Some(g) => {
            let other = applied(cx, flat, &g)?;
            activated(cx, h, Some(other))?
        }
        None => activated(cx, h, None)?,
    };
    let y = applied(cx, h, &second)?;
    let share = shares(cx, router, rows, given)?;
    let share = cx.transpose(share, &[1, 0])?;
    let share = cx.unsqueeze(share, 2)?;
    let y = cx.mul(y, share)?;
    let y = cx.reduce("reduce_sum", y, &[0], false)?;
    let y = cx.cast(y, dtype)?;
    cx.reshape(y, &dims)
}

/// The weight of each expert for each token, `[rows, E]`: softmax over the chosen, or over all. (ONNX Runtime's CPU kernel of QMoE takes
/// the chosen in both cases; its MoE and its description do not.)
fn shares(cx: &mut Context, router: V, rows: usize, given: Option<V>) -> R<V> {
    if cx.attrs.int("use_sparse_mixer").unwrap_or(0) != 0 {
        return Err(cx.unsupported("the sparse mixer"));
    }
    let [have, experts] = cx.dims(router)?[..] else {
        return Err(OpError::shape("router_probs must have rank 2").mark(1, "must have rank 2"));
    };
    let k = cx.attrs.int("k").unwrap_or(1);
    if have != rows || k < 1 || k as usize > experts {
        return Err(OpError::attr(format!("cannot choose {k} of {experts} experts for {rows} tokens by {have} rows")));
    }
    let logits = cx.cast(router, DType::F32)?;
    let top = cx.ops("topk", &[logits], attrs! {"k": k, "axis": 1i64, "largest": true, "sorted": true})?;
    let normalised = cx.attrs.int("normalize_routing_weights").unwrap_or(0) != 0;
    let weights = match given {
        Some(w) => {
            let w = cx.cast(w, DType::F32)?;
            let picked = cx.op("gather_elements", &[w, top[1]], attrs! {"axis": 1i64})?;
            if normalised {
                let sum = cx.reduce("reduce_sum", picked, &[1], true)?;
                cx.div(picked, sum)?
            } else {
                picked
            }
        }
        None if normalised => cx.op("softmax", &[top[0]], attrs! {"axis": 1i64})?,
        None => {
            let all = cx.op("softmax", &[logits], attrs! {"axis": 1i64})?;
            cx.op("gather_elements", &[all, top[1]], attrs! {"axis": 1i64})?
        }
    };
    let line = cx.iota(experts)?;
    let chosen = cx.unsqueeze(top[1], 2)?;
    let hot = cx.f("eq", &[chosen, line])?;
    let hot = cx.cast(hot, DType::F32)?;
    let weights = cx.unsqueeze(weights, 2)?;
    let spread = cx.mul(hot, weights)?;
    cx.reduce("reduce_sum", spread, &[1], false)
}

/// The nonlinearity between the layers; gate and value of SwiGLU may be one tensor, side by side or alternating.
fn activated(cx: &mut Context, h: V, other: Option<V>) -> R<V> {
    let name = cx.attrs.str("activation_type").unwrap_or("relu");
    if name != "swiglu" {
        let y = match name {
            "relu" => cx.f("relu", &[h])?,
            "gelu" => cx.f("gelu", &[h])?,
            "silu" => cx.f("silu", &[h])?,
            "identity" => h,
            other => return Err(cx.unsupported(format!("activation_type {other:?}"))),
        };
        return match other {
            Some(o) => cx.mul(y, o),
            None => Ok(y),
        };
    }
    let (mut g, mut l) = match other {
        Some(o) => (h, o),
        None => {
            let half = cx.dim(h, 2)? / 2;
            match cx.attrs.int("swiglu_fusion").unwrap_or(0) {
                1 => (cx.slice_step(h, 2, 0, half, 2)?, cx.slice_step(h, 2, 1, half, 2)?),
                2 => (cx.slice(h, 2, 0, half)?, cx.slice(h, 2, half, half)?),
                _ => return Err(OpError::attr("SwiGLU that is not fused needs the third layer")),
            }
        }
    };
    if let Some(limit) = cx.attrs.float("swiglu_limit") {
        let (low, high) = (cx.like(-limit, g)?, cx.like(limit, g)?);
        g = cx.f("min", &[g, high])?;
        l = cx.f("clip", &[l, low, high])?;
    }
    let alpha = cx.attrs.float("activation_alpha").unwrap_or(1.0);
    let beta = cx.attrs.float("activation_beta").unwrap_or(0.0);
    let g = silu(cx, g, alpha)?;
    let b = cx.like(beta, l)?;
    let l = cx.add(l, b)?;
    cx.mul(g, l)
}
