//! What language models are built of: embeddings, linear layers, norms, attention, feed-forward layers. Shapes are [batch, sequence,
//! hidden] unless said.

use super::checkpoint::Checkpoint;
use std::sync::Arc;
use tahoma_core::{Attrs, Buffer, Builder, DType, Diagnostic, OpError, Tensor, ValueId};

pub(crate) type R<T> = Result<T, OpError>;

/// A network while it is built from a checkpoint.
pub(crate) struct Net {
    pub(crate) builder: Builder,
    pub(crate) checkpoint: Checkpoint,
    /// Missing and misshapen tensors, all of them.
    pub(crate) faults: Vec<Diagnostic>,
    /// The directory is one of sentence-transformers: only hidden states are wanted.
    pub(crate) sentence_embedder: bool,
    last: Vec<ValueId>,
}

macro_rules! attrs {
    ($($k:literal : $v:expr),* $(,)?) => { Attrs::new()$(.with($k, $v))* };
}

/// Sizes of attention.
pub(crate) struct Heads {
    pub(crate) batch: usize,
    pub(crate) sequence: usize,
    pub(crate) heads: usize,
    /// Features of one head.
    pub(crate) width: usize,
}

impl Net {
    pub(crate) fn new(_name: &str, checkpoint: Checkpoint) -> Net {
        Net { builder: Builder::new("main"), checkpoint, faults: vec![], sentence_embedder: false, last: vec![] }
    }
    pub(crate) fn op(&mut self, name: &str, operands: &[ValueId], attrs: Attrs) -> R<ValueId> {
        let def = tahoma_core::ops::find(name).ok_or_else(|| OpError::new("E0901", format!("the op table has no ml.{name}")))?;
        self.last = operands.to_vec();
        self.builder.emit1(def, operands, attrs)
    }
    pub(crate) fn diagnose(&self, e: OpError) -> Diagnostic {
        self.builder.diagnose(e, &self.last, &|v| format!("%{}", v.0))
    }
    /// Sets where the ops that follow come from: a part of the checkpoint.
    pub(crate) fn at(&mut self, name: &str) {
        let origin = self.checkpoint.origin(name);
        self.builder.set_origin(Arc::new(origin));
    }
    /// A tensor of the checkpoint, as f32. Faults are collected; a stand-in keeps the build going.
    pub(crate) fn weight(&mut self, name: &str, dims: &[usize]) -> R<ValueId> {
        match self.checkpoint.find(name, dims) {
            Ok(ty) => {
                self.at(name);
                let dtype = ty.dtype;
                let v = self.builder.weight(name, ty);
                if dtype == DType::F32 { Ok(v) } else { self.op("cast", &[v], attrs! {"to": DType::F32, "saturate": true}) }
            }
            Err(d) => {
                self.faults.push(d);
                let zero = self.scalar(0.0);
                self.broadcast(zero, dims)
            }
        }
    }
    pub(crate) fn scalar(&mut self, x: f32) -> ValueId {
        self.builder.constant(Tensor::new(DType::F32, &[], Buffer::F32(vec![x])))
    }
    pub(crate) fn reshape(&mut self, x: ValueId, dims: &[usize]) -> R<ValueId> {
        self.op("reshape", &[x], attrs! {"shape": longs(dims)})
    }
    pub(crate) fn broadcast(&mut self, x: ValueId, dims: &[usize]) -> R<ValueId> {
        self.op("broadcast", &[x], attrs! {"shape": longs(dims)})
    }
    pub(crate) fn transpose(&mut self, x: ValueId, perm: &[usize]) -> R<ValueId> {
        self.op("transpose", &[x], attrs! {"perm": longs(perm)})
    }
    /// `x W' + b` with `W [out, in]`, as PyTorch keeps it.
    pub(crate) fn linear(&mut self, x: ValueId, name: &str, from: usize, to: usize) -> R<ValueId> {
        let w = self.weight(&format!("{name}.weight"), &[to, from])?;
        let b = self.weight(&format!("{name}.bias"), &[to])?;
        self.at(&format!("{name}.weight"));
        let w = self.transpose(w, &[1, 0])?;
        let y = self.op("matmul", &[x, w], Attrs::new())?;
        self.op("add", &[y, b], Attrs::new())
    }
    /// Layer norm over the last axis of `x`, which has `rank` axes.
    pub(crate) fn layer_norm(&mut self, x: ValueId, name: &str, width: usize, rank: usize, epsilon: f64) -> R<ValueId> {
        let scale = self.weight(&format!("{name}.weight"), &[width])?;
        let bias = self.weight(&format!("{name}.bias"), &[width])?;
        self.at(&format!("{name}.weight"));
        self.op("layer_norm", &[x, scale, bias], attrs! {"axis": rank as i64 - 1, "epsilon": epsilon})
    }
    /// Rows of a table by index.
    pub(crate) fn embedding(&mut self, name: &str, indices: ValueId, rows: usize, width: usize) -> R<ValueId> {
        let table = self.weight(name, &[rows, width])?;
        self.op("gather", &[table, indices], attrs! {"axis": 0i64})
    }
    /// `softmax(q k' / sqrt(width) + bias) v`; q, k, v are [batch, sequence, heads * width], bias broadcasts to
    /// [batch, heads, sequence, sequence].
    pub(crate) fn attention(&mut self, q: ValueId, k: ValueId, v: ValueId, bias: ValueId, h: &Heads) -> R<ValueId> {
        let split = |net: &mut Net, x: ValueId, perm: &[usize]| {
            let x = net.reshape(x, &[h.batch, h.sequence, h.heads, h.width])?;
            net.transpose(x, perm)
        };
        let (q, k, v) = (split(self, q, &[0, 2, 1, 3])?, split(self, k, &[0, 2, 3, 1])?, split(self, v, &[0, 2, 1, 3])?);
        let scores = self.op("matmul", &[q, k], Attrs::new())?;
        let scale = self.scalar(1.0 / (h.width as f32).sqrt());
        let scores = self.op("mul", &[scores, scale], Attrs::new())?;
        let scores = self.op("add", &[scores, bias], Attrs::new())?;
        let p = self.op("softmax", &[scores], attrs! {"axis": 3i64})?;
        let y = self.op("matmul", &[p, v], Attrs::new())?;
        let y = self.transpose(y, &[0, 2, 1, 3])?;
        self.reshape(y, &[h.batch, h.sequence, h.heads * h.width])
    }
    /// From a mask [batch, sequence] of 1 (token) and 0 (padding) to what is added to the scores, [batch, 1, 1, sequence].
    pub(crate) fn padding_bias(&mut self, mask: ValueId, batch: usize, sequence: usize) -> R<ValueId> {
        let mask = self.reshape(mask, &[batch, 1, 1, sequence])?;
        let zero = self.builder.constant(Tensor::i64(&[], vec![0]));
        let padding = self.op("eq", &[mask, zero], Attrs::new())?;
        let (least, none) = (self.scalar(f32::MIN), self.scalar(0.0));
        self.op("select", &[padding, least, none], Attrs::new())
    }
    /// Two linear layers with an activation between.
    pub(crate) fn mlp(&mut self, x: ValueId, names: (&str, &str), width: usize, inner: usize, activation: &str) -> R<ValueId> {
        let y = self.linear(x, names.0, width, inner)?;
        let y = self.op(activation, &[y], Attrs::new())?;
        self.linear(y, names.1, inner, width)
    }
}

fn longs(v: &[usize]) -> Vec<i64> {
    v.iter().map(|&x| x as i64).collect()
}
