//! One block of gpt-oss-20b (arXiv:2508.10925; `openai/gpt-oss-20b`) as Hugging Face's model computes it in bf16: attention in a
//! sliding window with learned sinks, then 32 experts of which each token takes 4, in the dense form that runs every expert.

use crate::Size;
use crate::llama::{past_inputs, with_past};
use crate::ops::{Net, V, a};
use tahoma_core::{DType, Program};

const EPSILON: f64 = 1e-5;
/// Where gates and linear units are cut.
const LIMIT: f64 = 7.0;
const ALPHA: f64 = 1.702;

struct Config {
    hidden: usize,
    heads: usize,
    key_heads: usize,
    head: usize,
    experts: usize,
    chosen: usize,
    wide: usize,
}

pub(crate) fn block(size: Size, decode: bool) -> Program {
    let c = size.pick(
        Config { hidden: 2880, heads: 64, key_heads: 8, head: 64, experts: 32, chosen: 4, wide: 2880 },
        Config { hidden: 12, heads: 4, key_heads: 2, head: 4, experts: 6, chosen: 4, wide: 16 },
    );
    let total = if decode { size.pick(2048, 8) } else { size.pick(128, 8) };
    let tokens = if decode { 1 } else { total };
    let mut n = Net::new(if decode { "gpt-oss-20b-decode" } else { "gpt-oss-20b-prefill" }, DType::BF16);
    let x = n.input("hidden_states", &[1, tokens, c.hidden]);
    let angles = ["cos", "sin"].map(|name| n.input(name, &[tokens, c.head / 2]));
    // The window of 128 tokens is in the mask.
    let mask = n.input("causal_mask", &[1, 1, tokens, total]);
    let past = past_inputs(&mut n, total - tokens, c.key_heads, c.head);

    let y = rms_norm(&mut n, "input_norm", x);
    let (y, keys, values) = n.scope("attention", |n| attention(n, &c, y, angles, mask, past));
    let x = n.add(x, y);
    let y = rms_norm(&mut n, "post_attention_norm", x);
    let y = n.reshape(y, &[tokens, c.hidden]);
    let routes = n.scope("router", |n| router(n, &c, y));
    let y = n.scope("experts", |n| experts(n, &c, y, routes));
    let y = n.reshape(y, &[1, tokens, c.hidden]);
    let x = n.add(x, y);
    n.output("hidden_states_out", x);
    n.output("present_key", keys);
    n.output("present_value", values);
    n.finish()
}

/// The new hidden states, all keys (rotated) and all values.
fn attention(n: &mut Net, c: &Config, x: V, angles: [V; 2], mask: V, past: Option<[V; 2]>) -> (V, V, V) {
    let q = n.linear("query", x, c.heads * c.head);
    let q = n.split_heads(q, c.heads);
    let k = n.linear("key", x, c.key_heads * c.head);
    let k = n.split_heads(k, c.key_heads);
    let v = n.linear("value", x, c.key_heads * c.head);
    let v = n.split_heads(v, c.key_heads);
    let d = n.dims(angles[0]);
    let angles = angles.map(|t| n.reshape(t, &[1, 1, d[0], d[1]]));
    let (q, k) = (rotate(n, q, angles), rotate(n, k, angles));
    let (keys, values) = with_past(n, k, v, past);
    let k = n.repeat_heads(keys, c.heads / c.key_heads);
    let v = n.repeat_heads(values, c.heads / c.key_heads);
    let k = n.transpose(k, &[0, 1, 3, 2]);
    let scores = n.matmul(q, k);
    let scores = n.with("mul", scores, 1.0 / (c.head as f64).sqrt());
    let scores = n.add(scores, mask);
    // A learned score per head takes its share of the softmax and is dropped.
    let d = n.dims(scores);
    let sinks = n.weight("sinks", &[c.heads]);
    let sinks = n.reshape(sinks, &[1, c.heads, 1, 1]);
    let sinks = n.broadcast(sinks, &[1, c.heads, d[2], 1]);
    let scores = n.concat(&[scores, sinks], 3);
    let most = n.reduce("reduce_max", scores, &[3], true);
    let scores = n.sub(scores, most);
    let weights = n.softmax(scores, 3);
    let weights = n.slice(weights, 3, 0, d[3], 1);
    let y = n.matmul(weights, v);
    let y = n.join_heads(y);
    (n.linear("output", y, c.hidden), keys, values)
}

/// Both halves turned by half as many angles.
fn rotate(n: &mut Net, x: V, [cos, sin]: [V; 2]) -> V {
    let half = n.dims(x)[3] / 2;
    let first = n.slice(x, 3, 0, half, 1);
    let second = n.slice(x, 3, half, half, 1);
    let (a, b) = (n.mul(first, cos), n.mul(second, sin));
    let new_first = n.sub(a, b);
    let (a, b) = (n.mul(second, cos), n.mul(first, sin));
    let new_second = n.add(a, b);
    n.concat(&[new_first, new_second], 3)
}

/// RMS norm in f32, scaled before it is rounded.
fn rms_norm(n: &mut Net, name: &str, x: V) -> V {
    n.scope(name, |n| {
        let y = n.rms_normalised(x, EPSILON);
        let c = n.dims(x)[2];
        let gain = n.weight("gain", &[c]);
        let gain = n.cast(gain, DType::F32);
        let y = n.mul(gain, y);
        n.cast(y, DType::BF16)
    })
}

/// The weight of each expert for each token, as [S, experts]: softmax over the chosen ones, 0 for the others.
fn router(n: &mut Net, c: &Config, x: V) -> V {
    let tokens = n.dims(x)[0];
    let logits = n.linear("linear", x, c.experts);
    let best = a().with("k", c.chosen as i64).with("axis", 1).with("largest", true).with("sorted", true);
    let best = n.ops("topk", &[logits], best);
    let shares = n.softmax(best[0], 1);
    let shares = n.reshape(shares, &[tokens, c.chosen, 1]);
    let indices = n.reshape(best[1], &[tokens, c.chosen, 1]);
    let all = a().with("shape", vec![1, 1, c.experts as i64]).with("axis", 2).with("dtype", DType::I64);
    let all = n.op("iota", &[], all);
    let hot = n.op("eq", &[indices, all], a());
    let hot = n.cast(hot, DType::BF16);
    let hot = n.mul(hot, shares);
    n.reduce("reduce_sum", hot, &[1], false)
}

/// Every expert on every token, weighted and summed.
fn experts(n: &mut Net, c: &Config, x: V, routes: V) -> V {
    let tokens = n.dims(x)[0];
    let x = n.reshape(x, &[1, tokens, c.hidden]);
    let x = n.broadcast(x, &[c.experts, tokens, c.hidden]);
    let both = batched(n, "gate_up", x, 2 * c.wide);
    let gate = n.slice(both, 2, 0, c.wide, 2);
    let up = n.slice(both, 2, 1, c.wide, 2);
    let gate = n.with("min", gate, LIMIT);
    let (low, high) = (n.number(-LIMIT, up), n.number(LIMIT, up));
    let up = n.op("clip", &[up, low, high], a());
    let steep = n.with("mul", gate, ALPHA);
    let sigmoid = n.f("sigmoid", steep);
    let glu = n.mul(gate, sigmoid);
    let up = n.with("add", up, 1.0);
    let y = n.mul(up, glu);
    let y = batched(n, "down", y, c.hidden);
    let routes = n.transpose(routes, &[1, 0]);
    let routes = n.reshape(routes, &[c.experts, tokens, 1]);
    let y = n.mul(y, routes);
    n.reduce("reduce_sum", y, &[0], false)
}

/// A linear layer per expert.
fn batched(n: &mut Net, name: &str, x: V, out: usize) -> V {
    n.scope(name, |n| {
        let d = n.dims(x);
        let w = n.weight("weight", &[d[0], d[2], out]);
        let y = n.matmul(x, w);
        let b = n.weight("bias", &[d[0], 1, out]);
        n.add(y, b)
    })
}
