//! One decoder block of Llama 3 8B (arXiv:2407.21783; `meta-llama/Meta-Llama-3-8B`) as Hugging Face's model computes it in bf16, with
//! norms and softmax in f32: over a prompt, or over one token with the keys and values of those before it.

use crate::Size;
use crate::ops::{Net, V};
use tahoma_core::{DType, Program};

const EPSILON: f64 = 1e-5;

struct Config {
    hidden: usize,
    heads: usize,
    key_heads: usize,
    head: usize,
    wide: usize,
}

pub(crate) fn block(size: Size, decode: bool) -> Program {
    let c = size.pick(
        Config { hidden: 4096, heads: 32, key_heads: 8, head: 128, wide: 14336 },
        Config { hidden: 16, heads: 4, key_heads: 2, head: 4, wide: 24 },
    );
    let total = if decode { size.pick(2048, 8) } else { size.pick(512, 8) };
    let tokens = if decode { 1 } else { total };
    let mut n = Net::new(if decode { "llama3-8b-decode" } else { "llama3-8b-prefill" }, DType::BF16);
    let x = n.input("hidden_states", &[1, tokens, c.hidden]);
    let angles = ["cos", "sin"].map(|name| n.input(name, &[tokens, c.head]));
    let mask = n.input("causal_mask", &[1, 1, tokens, total]);
    let past = past_inputs(&mut n, total - tokens, c.key_heads, c.head);

    let y = rms_norm(&mut n, "input_norm", x);
    let (y, keys, values) = n.scope("attention", |n| attention(n, &c, y, angles, mask, past));
    let x = n.add(x, y);
    let y = rms_norm(&mut n, "post_attention_norm", x);
    let y = n.scope("mlp", |n| {
        let gate = n.linear_without_bias("gate", y, c.wide);
        let sigmoid = n.f("sigmoid", gate);
        let gate = n.mul(gate, sigmoid);
        let up = n.linear_without_bias("up", y, c.wide);
        let y = n.mul(gate, up);
        n.linear_without_bias("down", y, c.hidden)
    });
    let x = n.add(x, y);
    n.output("hidden_states_out", x);
    n.output("present_key", keys);
    n.output("present_value", values);
    n.finish()
}

/// Keys and values of `tokens` earlier tokens.
pub(crate) fn past_inputs(n: &mut Net, tokens: usize, heads: usize, head: usize) -> Option<[V; 2]> {
    (tokens > 0).then(|| ["past_key", "past_value"].map(|name| n.input(name, &[1, heads, tokens, head])))
}

/// Keys and values with those of earlier tokens before them.
pub(crate) fn with_past(n: &mut Net, keys: V, values: V, past: Option<[V; 2]>) -> (V, V) {
    match past {
        Some([k, v]) => (n.concat(&[k, keys], 2), n.concat(&[v, values], 2)),
        None => (keys, values),
    }
}

/// The new hidden states, all keys (rotated) and all values.
fn attention(n: &mut Net, c: &Config, x: V, angles: [V; 2], mask: V, past: Option<[V; 2]>) -> (V, V, V) {
    let q = n.linear_without_bias("query", x, c.heads * c.head);
    let q = n.split_heads(q, c.heads);
    let k = n.linear_without_bias("key", x, c.key_heads * c.head);
    let k = n.split_heads(k, c.key_heads);
    let v = n.linear_without_bias("value", x, c.key_heads * c.head);
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
    let scores = n.cast(scores, DType::F32);
    let weights = n.softmax(scores, 3);
    let weights = n.cast(weights, DType::BF16);
    let y = n.matmul(weights, v);
    let y = n.join_heads(y);
    (n.linear_without_bias("output", y, c.hidden), keys, values)
}

/// x·cos + rotate_half(x)·sin, where the second half comes first, negated.
fn rotate(n: &mut Net, x: V, [cos, sin]: [V; 2]) -> V {
    let half = n.dims(x)[3] / 2;
    let straight = n.mul(x, cos);
    let first = n.slice(x, 3, 0, half, 1);
    let second = n.slice(x, 3, half, half, 1);
    let second = n.f("neg", second);
    let turned = n.concat(&[second, first], 3);
    let turned = n.mul(turned, sin);
    n.add(straight, turned)
}

/// RMS norm in f32, scaled in bf16.
fn rms_norm(n: &mut Net, name: &str, x: V) -> V {
    n.scope(name, |n| {
        let y = n.rms_normalised(x, EPSILON);
        let y = n.cast(y, DType::BF16);
        let c = n.dims(x)[2];
        let gain = n.weight("gain", &[c]);
        n.mul(gain, y)
    })
}
