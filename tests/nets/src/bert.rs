//! BERT (Devlin et al. 2018, arXiv:1810.04805; `bert-base-uncased` and `bert-large-uncased`), node for node as PyTorch's ONNX
//! exporter writes Hugging Face's model: attention, layer norm and GELU in their parts.

use crate::Size;
use crate::ops::{Net, V};
use tahoma_core::{DType, Program, Tensor};

/// Token ids of the reduced model lie below this.
pub(crate) const REDUCED_VOCABULARY: usize = 16;

const EPSILON: f64 = 1e-12;

struct Config {
    layers: usize,
    hidden: usize,
    heads: usize,
    tokens: usize,
    vocabulary: usize,
    positions: usize,
}

fn config(size: Size, large: bool) -> Config {
    match (size, large) {
        (Size::Real, false) => Config { layers: 12, hidden: 768, heads: 12, tokens: 128, vocabulary: 30522, positions: 512 },
        (Size::Real, true) => Config { layers: 24, hidden: 1024, heads: 16, tokens: 128, vocabulary: 30522, positions: 512 },
        (Size::Reduced, large) => {
            let hidden = if large { 24 } else { 16 };
            Config { layers: 2, hidden, heads: 2, tokens: 6, vocabulary: REDUCED_VOCABULARY, positions: 8 }
        }
    }
}

/// BERT with its pooler.
pub(crate) fn bert(size: Size, large: bool) -> Program {
    let c = config(size, large);
    let mut n = Net::new(if large { "bert-large" } else { "bert-base" }, DType::F32);
    let tokens = n.int_input("input_ids", &[1, c.tokens]);
    let types = n.int_input("token_type_ids", &[1, c.tokens]);
    let mask = n.int_input("attention_mask", &[1, c.tokens]);
    let mask = additive(&mut n, mask);
    let mut x = n.scope("embeddings", |n| {
        let positions = n.constant(Tensor::i64(&[1, c.tokens], (0..c.tokens as i64).collect()));
        let mut look_up = |name: &str, rows: usize, at: V| {
            let table = n.scope(name, |n| n.weight("weight", &[rows, c.hidden]));
            n.gather(table, at)
        };
        let word = look_up("word_embeddings", c.vocabulary, tokens);
        let kind = look_up("token_type_embeddings", 2, types);
        let place = look_up("position_embeddings", c.positions, positions);
        let x = n.add(word, kind);
        let x = n.add(x, place);
        n.layer_norm("norm", x, EPSILON)
    });
    for i in 0..c.layers {
        x = layer(&mut n, i, x, c.heads, mask);
    }
    n.output("last_hidden_state", x);
    let pooled = n.scope("pooler", |n| {
        let first = n.slice(x, 1, 0, 1, 1);
        let first = n.reshape(first, &[1, c.hidden]);
        let y = n.linear("dense", first, c.hidden);
        n.f("tanh", y)
    });
    n.output("pooler_output", pooled);
    n.finish()
}

/// `n` equal BERT-base encoder layers over hidden states and a mask: for tests of scale.
pub fn encoder_layers(n: usize, size: Size) -> Program {
    let c = config(size, false);
    let mut net = Net::new("encoder", DType::F32);
    let mut x = net.input("hidden_states", &[1, c.tokens, c.hidden]);
    let mask = net.int_input("attention_mask", &[1, c.tokens]);
    let mask = additive(&mut net, mask);
    for i in 0..n {
        x = layer(&mut net, i, x, c.heads, mask);
    }
    net.output("last_hidden_state", x);
    net.finish()
}

/// What masked scores are raised by: (1 − mask)·−10000 as [B, 1, 1, S].
fn additive(n: &mut Net, mask: V) -> V {
    let d = n.dims(mask);
    let m = n.reshape(mask, &[d[0], 1, 1, d[1]]);
    let m = n.cast(m, DType::F32);
    let one = n.number(1.0, m);
    let m = n.sub(one, m);
    n.with("mul", m, -10000.0)
}

fn layer(n: &mut Net, i: usize, x: V, heads: usize, mask: V) -> V {
    let hidden = n.dims(x)[2];
    n.scope(&format!("layer.{i}"), |n| {
        let y = self_attention(n, x, heads, Some(mask));
        let x = n.add(y, x);
        let x = n.layer_norm("attention.norm", x, EPSILON);
        let y = n.linear("intermediate", x, 4 * hidden);
        let y = n.scope("intermediate", |n| n.gelu(y));
        let y = n.linear("output", y, hidden);
        let y = n.add(y, x);
        n.layer_norm("output.norm", y, EPSILON)
    })
}

/// Multi-head attention of x to itself with its output projection.
pub(crate) fn self_attention(n: &mut Net, x: V, heads: usize, mask: Option<V>) -> V {
    let hidden = n.dims(x)[2];
    n.scope("attention", |n| {
        let [q, k, v] = ["query", "key", "value"].map(|name| n.linear(name, x, hidden));
        let d = n.dims(k);
        let q = n.split_heads(q, heads);
        let k = n.reshape(k, &[d[0], d[1], heads, hidden / heads]);
        let k = n.transpose(k, &[0, 2, 3, 1]);
        let v = n.split_heads(v, heads);
        let scores = n.matmul(q, k);
        let mut scores = n.with("div", scores, ((hidden / heads) as f64).sqrt());
        if let Some(mask) = mask {
            scores = n.add(scores, mask);
        }
        let weights = n.softmax(scores, 3);
        let y = n.matmul(weights, v);
        let y = n.join_heads(y);
        n.linear("output", y, hidden)
    })
}
