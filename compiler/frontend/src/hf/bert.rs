//! BERT (Devlin et al. 2018, arXiv:1810.04805): the encoder, with the pooler or the masked-language head where the checkpoint has one.
//!
//! ```text
//! x = norm(word[ids] + position[0..S] + type[types])
//! per layer: x = norm(x + dense(attention(x)));  x = norm(x + mlp(x))
//! ```

use super::HfOptions;
use super::blocks::{Heads, Net, R};
use super::config::Config;
use tahoma_core::{Attrs, DType, Diagnostic, OpError, TensorType};

/// Keys of BERT configs that inference does not read.
pub(crate) static IGNORABLE: &[&str] =
    &["attention_probs_dropout_prob", "classifier_dropout", "hidden_dropout_prob", "problem_type", "tie_word_embeddings"];

pub(crate) fn build(net: &mut Net, config: &mut Config, options: &HfOptions) -> R<()> {
    let width = config.size("hidden_size");
    let layers = config.size("num_hidden_layers");
    let heads = config.size("num_attention_heads");
    let inner = config.size("intermediate_size");
    let vocabulary = config.size("vocab_size");
    let positions = config.size("max_position_embeddings");
    let types = config.size("type_vocab_size");
    let epsilon = config.number("layer_norm_eps");
    let activation = config.choice("hidden_act", "gelu", &["gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "swish"]);
    let activation = match activation.as_str() {
        "gelu_new" | "gelu_pytorch_tanh" => "gelu_tanh",
        "swish" => "silu",
        other => other,
    };
    config.choice("position_embedding_type", "absolute", &["absolute"]);
    config.must_be("is_decoder", false);
    config.must_be("add_cross_attention", false);
    if !width.is_multiple_of(heads) {
        return Err(OpError::new("E0108", format!("hidden_size {width} is not a multiple of num_attention_heads {heads}")));
    }
    let (batch, sequence) = (options.batch, options.sequence);
    if sequence > positions {
        let e = OpError::new("E0207", format!("a sequence of {sequence} is longer than max_position_embeddings {positions}"));
        return Err(e);
    }
    // Checkpoints of a task model keep the encoder under its name.
    let p = if net.checkpoint.has("bert.embeddings.word_embeddings.weight") { "bert." } else { "" };
    let tokens = TensorType::known(DType::I64, &[batch, sequence]);
    let ids = net.builder.input("input_ids", tokens.clone());
    let mask = net.builder.input("attention_mask", tokens.clone());
    let e = format!("{p}embeddings");
    let mut x = net.embedding(&format!("{e}.word_embeddings.weight"), ids, vocabulary, width)?;
    let kinds = net.weight(&format!("{e}.token_type_embeddings.weight"), &[types, width])?;
    let kind = if options.token_types {
        let t = net.builder.input("token_type_ids", tokens);
        net.op("gather", &[kinds, t], Attrs::new().with("axis", 0i64))?
    } else {
        net.op(
            "slice",
            &[kinds],
            Attrs::new().with("starts", vec![0i64, 0]).with("sizes", vec![1, width as i64]).with("steps", vec![1i64, 1]),
        )?
    };
    x = net.op("add", &[x, kind], Attrs::new())?;
    let table = net.weight(&format!("{e}.position_embeddings.weight"), &[positions, width])?;
    let places = net.op(
        "slice",
        &[table],
        Attrs::new().with("starts", vec![0i64, 0]).with("sizes", vec![sequence as i64, width as i64]).with("steps", vec![1i64, 1]),
    )?;
    x = net.op("add", &[x, places], Attrs::new())?;
    x = net.layer_norm(x, &format!("{e}.LayerNorm"), width, 3, epsilon)?;
    // A buffer of 0, 1, 2, … that older versions saved.
    net.checkpoint.accept(&format!("{e}.position_ids"));
    net.at(&format!("{e}.word_embeddings.weight"));
    let bias = net.padding_bias(mask, batch, sequence)?;
    let shape = Heads { batch, sequence, heads, width: width / heads };
    for i in 0..layers {
        let l = format!("{p}encoder.layer.{i}");
        let q = net.linear(x, &format!("{l}.attention.self.query"), width, width)?;
        let k = net.linear(x, &format!("{l}.attention.self.key"), width, width)?;
        let v = net.linear(x, &format!("{l}.attention.self.value"), width, width)?;
        let y = net.attention(q, k, v, bias, &shape)?;
        let y = net.linear(y, &format!("{l}.attention.output.dense"), width, width)?;
        let y = net.op("add", &[y, x], Attrs::new())?;
        x = net.layer_norm(y, &format!("{l}.attention.output.LayerNorm"), width, 3, epsilon)?;
        let names = (format!("{l}.intermediate.dense"), format!("{l}.output.dense"));
        let y = net.mlp(x, (&names.0, &names.1), width, inner, activation)?;
        let y = net.op("add", &[y, x], Attrs::new())?;
        x = net.layer_norm(y, &format!("{l}.output.LayerNorm"), width, 3, epsilon)?;
        if net.faults.len() > 64 {
            net.faults.push(Diagnostic::error("E0210", "and more: the checkpoint does not fit config.json"));
            return Ok(());
        }
    }
    net.builder.output("last_hidden_state", x);
    if net.checkpoint.has(&format!("{p}pooler.dense.weight")) {
        pooler(net, p, x, (batch, width))?;
    }
    if net.checkpoint.has("cls.predictions.transform.dense.weight") {
        masked_language_head(net, p, x, width, vocabulary, activation, epsilon)?;
    }
    Ok(())
}

/// `tanh(dense(first token))`; sentence embedders carry its weights and do not use them.
fn pooler(net: &mut Net, p: &str, x: tahoma_core::ValueId, (batch, width): (usize, usize)) -> R<()> {
    if net.sentence_embedder {
        net.checkpoint.accept(&format!("{p}pooler.dense.weight"));
        net.checkpoint.accept(&format!("{p}pooler.dense.bias"));
        return Ok(());
    }
    let sizes = vec![batch as i64, 1, width as i64];
    let first = net.op("slice", &[x], Attrs::new().with("starts", vec![0i64; 3]).with("sizes", sizes).with("steps", vec![1i64; 3]))?;
    let first = net.reshape(first, &[batch, width])?;
    let y = net.linear(first, &format!("{p}pooler.dense"), width, width)?;
    let y = net.op("tanh", &[y], Attrs::new())?;
    net.builder.output("pooler_output", y);
    Ok(())
}

/// Scores over the vocabulary: the output matrix is the word embedding.
fn masked_language_head(
    net: &mut Net,
    p: &str,
    x: tahoma_core::ValueId,
    width: usize,
    vocabulary: usize,
    activation: &str,
    epsilon: f64,
) -> R<()> {
    let h = "cls.predictions";
    let y = net.linear(x, &format!("{h}.transform.dense"), width, width)?;
    let y = net.op(activation, &[y], Attrs::new())?;
    let y = net.layer_norm(y, &format!("{h}.transform.LayerNorm"), width, 3, epsilon)?;
    let own = format!("{h}.decoder.weight");
    let name = if net.checkpoint.has(&own) { own } else { format!("{p}embeddings.word_embeddings.weight") };
    let w = net.weight(&name, &[vocabulary, width])?;
    let bias = format!("{h}.bias");
    let b = net.weight(&bias, &[vocabulary])?;
    net.checkpoint.accept(&format!("{h}.decoder.bias"));
    net.at(&name);
    let w = net.transpose(w, &[1, 0])?;
    let y = net.op("matmul", &[y, w], Attrs::new())?;
    let y = net.op("add", &[y, b], Attrs::new())?;
    net.builder.output("logits", y);
    Ok(())
}
