//! Kernels of several ops that both targets are tested on: norms and attentions before and around contractions.

use tahoma_core::graph::Builder;
use tahoma_core::{Attrs, DType, Graph, Tensor, TensorType, ValueId};

/// A kernel as a graph.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) graph: Graph,
}

struct Made {
    b: Builder,
    d: DType,
}

fn no() -> Attrs {
    Attrs::new()
}

fn ints(v: &[usize]) -> Vec<i64> {
    v.iter().map(|&x| x as i64).collect()
}

impl Made {
    fn new(d: DType) -> Made {
        Made { b: Builder::new("k"), d }
    }
    fn input(&mut self, shape: &[usize]) -> ValueId {
        let n = self.b.graph().inputs.len();
        self.b.input(&format!("x{n}"), TensorType::known(self.d, shape))
    }
    fn op(&mut self, name: &str, x: &[ValueId], attrs: Attrs) -> ValueId {
        self.b.op(name, x, attrs).unwrap_or_else(|e| panic!("{name}: {}", e.message))
    }
    fn number(&mut self, v: f64) -> ValueId {
        let d = self.d;
        self.b.constant(Tensor::from_f64s(d, &[], &[v]))
    }
    fn case(mut self, name: &str, out: ValueId) -> Case {
        self.b.output("y", out);
        Case { name: format!("{name}_{}", self.d), graph: self.b.finish() }
    }
}

fn norm(d: DType, rows: usize, k: usize, n: usize) -> Case {
    let mut c = Made::new(d);
    let (x, g, b, w, bias) = (c.input(&[2, rows, k]), c.input(&[k]), c.input(&[k]), c.input(&[k, n]), c.input(&[n]));
    let y = c.op("layer_norm", &[x, g, b], no().with("axis", 2).with("epsilon", 1e-5));
    let y = c.op("matmul", &[y, w], no());
    let y = c.op("add", &[y, bias], no());
    let y = c.op("relu", &[y], no());
    c.case(&format!("norm{rows}x{k}x{n}"), y)
}

/// RMS norm, gate and up, with the two matrices side by side.
fn gated(d: DType, rows: usize, k: usize, n: usize) -> Case {
    let mut c = Made::new(d);
    let (x, g, w) = (c.input(&[rows, k]), c.input(&[k]), c.input(&[k, 2 * n]));
    let x = c.op("rms_norm", &[x, g], no().with("axis", 1).with("epsilon", 1e-5));
    let both = c.op("matmul", &[x, w], no());
    let half = |at: usize| no().with("starts", ints(&[0, at])).with("sizes", ints(&[rows, n])).with("steps", vec![1, 1]);
    let (p, q) = (c.op("slice", &[both], half(0)), c.op("slice", &[both], half(n)));
    let p = c.op("silu", &[p], no());
    let y = c.op("mul", &[p, q], no());
    c.case(&format!("gated{rows}x{k}x{n}"), y)
}

/// The energies of a spectrum: real and imaginary parts are two products of one input, squared and added.
fn energies(d: DType, rows: usize, k: usize, n: usize) -> Case {
    let mut c = Made::new(d);
    let (x, w) = (c.input(&[rows, k]), c.input(&[k, 2 * n]));
    let both = c.op("matmul", &[x, w], no());
    let half = |at: usize| no().with("starts", ints(&[0, at])).with("sizes", ints(&[rows, n])).with("steps", vec![1, 1]);
    let (p, q) = (c.op("slice", &[both], half(0)), c.op("slice", &[both], half(n)));
    let (pp, qq) = (c.op("mul", &[p, p], no()), c.op("mul", &[q, q], no()));
    let sum = c.op("add", &[pp, qq], no());
    let product = c.op("mul", &[p, q], no());
    let y = c.op("max", &[sum, product], no());
    c.case(&format!("energies{rows}x{k}x{n}"), y)
}

/// A step of a recurrent layer: four gates are four products of one input.
fn cell(d: DType, rows: usize, k: usize, n: usize) -> Case {
    let mut c = Made::new(d);
    let (x, w, b, old) = (c.input(&[rows, k]), c.input(&[k, 4 * n]), c.input(&[4 * n]), c.input(&[rows, n]));
    let all = c.op("matmul", &[x, w], no());
    let all = c.op("add", &[all, b], no());
    let gate = |at: usize| no().with("starts", ints(&[0, at * n])).with("sizes", ints(&[rows, n])).with("steps", vec![1, 1]);
    let [i, o, f, g] = [0, 1, 2, 3].map(|at| c.op("slice", &[all], gate(at)));
    let [i, o, f] = [i, o, f].map(|x| c.op("sigmoid", &[x], no()));
    let g = c.op("tanh", &[g], no());
    let (kept, new) = (c.op("mul", &[f, old], no()), c.op("mul", &[i, g], no()));
    let state = c.op("add", &[kept, new], no());
    let state = c.op("tanh", &[state], no());
    let y = c.op("mul", &[o, state], no());
    c.case(&format!("cell{rows}x{k}x{n}"), y)
}

struct Attention {
    s: usize,
    t: usize,
    heads: usize,
    groups: usize,
    e: usize,
    rotary: bool,
    mask: bool,
    sink: bool,
    past: usize,
    /// Queries, keys and values side by side, as a joined projection leaves them.
    joined: bool,
}

const PLAIN: Attention = Attention { s: 5, t: 7, heads: 2, groups: 2, e: 4, rotary: false, mask: true, sink: false, past: 0, joined: true };

fn attention(d: DType, name: &str, a: &Attention) -> Case {
    let mut c = Made::new(d);
    let (h, g, e, s, t) = (a.heads, a.groups, a.e, a.s, a.t);
    let heads = |c: &mut Made, x, n: usize, h: usize| {
        let r = c.op("reshape", &[x], no().with("shape", ints(&[1, n, h, e])));
        c.op("transpose", &[r], no().with("perm", vec![0, 2, 1, 3]))
    };
    let (q, mut k, mut v) = if a.joined && s == t - a.past {
        let all = c.input(&[1, s, (h + 2 * g) * e]);
        let part = |c: &mut Made, at: usize, n: usize| {
            let a = no().with("starts", ints(&[0, 0, at * e])).with("sizes", ints(&[1, s, n * e])).with("steps", vec![1, 1, 1]);
            let x = c.op("slice", &[all], a);
            // One token: what moves units is a reshape.
            if s == 1 { c.op("reshape", &[x], no().with("shape", ints(&[1, n, 1, e]))) } else { heads(c, x, s, n) }
        };
        (part(&mut c, 0, h), part(&mut c, h, g), part(&mut c, h + g, g))
    } else {
        let (q, k, v) = (c.input(&[1, s, h * e]), c.input(&[1, t - a.past, g * e]), c.input(&[1, t - a.past, g * e]));
        (heads(&mut c, q, s, h), heads(&mut c, k, t - a.past, g), heads(&mut c, v, t - a.past, g))
    };
    let mut q = q;
    if a.rotary {
        let turn = |c: &mut Made, x, h: usize, n: usize| {
            let (cos, sin) = (c.input(&[n, e]), c.input(&[n, e]));
            let half = |at: usize| {
                no().with("starts", ints(&[0, 0, 0, at])).with("sizes", ints(&[1, h, n, e / 2])).with("steps", vec![1, 1, 1, 1])
            };
            let (lo, hi) = (c.op("slice", &[x], half(0)), c.op("slice", &[x], half(e / 2)));
            let hi = c.op("neg", &[hi], no());
            let r = c.op("concat", &[hi, lo], no().with("axis", 3));
            let (p, q) = (c.op("mul", &[x, cos], no()), c.op("mul", &[r, sin], no()));
            c.op("add", &[p, q], no())
        };
        q = turn(&mut c, q, h, s);
        k = turn(&mut c, k, g, t - a.past);
    }
    if a.past > 0 {
        let (pk, pv) = (c.input(&[1, g, a.past, e]), c.input(&[1, g, a.past, e]));
        k = c.op("concat", &[pk, k], no().with("axis", 2));
        v = c.op("concat", &[pv, v], no().with("axis", 2));
    }
    let repeat = |c: &mut Made, x| {
        let r = c.op("reshape", &[x], no().with("shape", ints(&[1, g, 1, t, e])));
        let r = c.op("broadcast", &[r], no().with("shape", ints(&[1, g, h / g, t, e])));
        c.op("reshape", &[r], no().with("shape", ints(&[1, h, t, e])))
    };
    if g < h {
        (k, v) = (repeat(&mut c, k), repeat(&mut c, v));
    }
    let k = c.op("transpose", &[k], no().with("perm", vec![0, 1, 3, 2]));
    let x = c.op("matmul", &[q, k], no());
    let scale = c.number(1.0 / (e as f64).sqrt());
    let mut x = c.op("mul", &[x, scale], no());
    if a.mask {
        let m = c.input(&[1, 1, s, t]);
        x = c.op("add", &[x, m], no());
    }
    let p = if a.sink {
        let sink = c.input(&[h, 1, 1]);
        c.op("sink_softmax", &[x, sink], no().with("axis", 3))
    } else {
        c.op("softmax", &[x], no().with("axis", 3))
    };
    let y = c.op("matmul", &[p, v], no());
    let y = c.op("transpose", &[y], no().with("perm", vec![0, 2, 1, 3]));
    let y = c.op("reshape", &[y], no().with("shape", ints(&[1, s, h * e])));
    c.case(name, y)
}

/// The shares of the 4 largest of each row's scores, read the other way round, as experts take them.
fn routes(d: DType, rows: usize, n: usize) -> Case {
    let mut c = Made::new(d);
    let (x, order) = (c.input(&[rows, n]), c.b.input("order", TensorType::known(DType::F32, &[n])));
    let y = c.op("top_softmax", &[x, order], no().with("k", 4));
    let y = c.op("transpose", &[y], no().with("perm", vec![1, 0]));
    c.case(&format!("routes{rows}x{n}"), y)
}

/// Relus of many inputs side by side along an axis, of unequal widths: written part by part.
fn joined(d: DType, rows: usize, widths: &[usize], axis: usize) -> Case {
    let mut c = Made::new(d);
    let parts: Vec<ValueId> = widths
        .iter()
        .map(|&w| {
            let x = c.input(&if axis == 0 { [w, rows] } else { [rows, w] });
            c.op("relu", &[x], no())
        })
        .collect();
    let y = c.op("concat", &parts, no().with("axis", axis as i64));
    c.case(&format!("joined{}x{rows}", widths.len()), y)
}

/// A matrix cut into outputs of unequal widths.
fn cut(d: DType, rows: usize, widths: &[usize]) -> Case {
    let mut c = Made::new(d);
    let x = c.input(&[rows, widths.iter().sum()]);
    let mut at = 0;
    let mut part = |c: &mut Made, w: usize| {
        let y = c.op("slice", &[x], no().with("starts", ints(&[0, at])).with("sizes", ints(&[rows, w])).with("steps", vec![1, 1]));
        at += w;
        c.op("neg", &[y], no())
    };
    for (i, &w) in widths[1..].iter().enumerate() {
        let y = part(&mut c, w);
        c.b.output(&format!("y{i}"), y);
    }
    let y = part(&mut c, widths[0]);
    c.case(&format!("cut{}x{rows}", widths.len()), y)
}

/// Kernels with many buffers.
pub(crate) fn wide() -> Vec<Case> {
    let (equal, unequal) = ([8; 20], [4, 8, 4, 16, 12, 4, 8, 4]);
    let of =
        |d| [joined(d, 5, &equal, 1), joined(d, 130, &unequal, 1), joined(d, 3, &[1; 200], 0), cut(d, 7, &[8; 30]), cut(d, 130, &unequal)];
    [DType::F32, DType::BF16].into_iter().flat_map(of).collect()
}

/// Weights of 8-bit codes with a scale per column.
fn dequantised(rows: usize, k: usize, n: usize) -> Case {
    let mut c = Made::new(DType::F32);
    let x = c.input(&[rows, k]);
    let codes = c.b.input("codes", TensorType::known(DType::U8, &[k, n]));
    let scale = c.input(&[n]);
    let w = c.op("cast", &[codes], no().with("to", DType::F32).with("saturate", true));
    let w = c.op("mul", &[w, scale], no());
    let y = c.op("matmul", &[x, w], no());
    c.case(&format!("dequantised{rows}"), y)
}

/// What needs arithmetic on integers: not on NeuronCores.
pub(crate) fn quantised() -> Vec<Case> {
    vec![dequantised(3, 40, 30), dequantised(70, 64, 96)]
}

/// Rows that are searched, in every type.
pub(crate) fn searches() -> Vec<Case> {
    [DType::F32, DType::BF16].into_iter().flat_map(|d| [routes(d, 5, 32), routes(d, 130, 12)]).collect()
}

/// Every form of contractions, in every type that both targets multiply.
pub(crate) fn cases() -> Vec<Case> {
    let mut out = vec![];
    for d in [DType::F32, DType::BF16] {
        out.extend([norm(d, 5, 24, 10), norm(d, 70, 132, 40), norm(d, 1, 300, 130)]);
        out.extend([gated(d, 3, 16, 12), gated(d, 80, 70, 90)]);
        out.push(energies(d, 12, 40, 30));
        out.extend([cell(d, 1, 128, 128), cell(d, 70, 36, 48)]);
        out.push(attention(d, "attention", &PLAIN));
        out.push(attention(d, "self_attention", &Attention { s: 40, t: 40, e: 16, ..PLAIN }));
        out.push(attention(d, "long_attention", &Attention { s: 20, t: 300, e: 64, mask: false, ..PLAIN }));
        out.push(attention(d, "wide_attention", &Attention { s: 40, t: 150, heads: 1, groups: 1, e: 128, ..PLAIN }));
        out.push(attention(d, "grouped_attention", &Attention { s: 9, t: 9, heads: 4, groups: 2, rotary: true, ..PLAIN }));
        out.push(attention(d, "decode", &Attention { s: 1, t: 70, heads: 8, groups: 2, e: 8, rotary: true, past: 69, ..PLAIN }));
        out.push(attention(d, "long_decode", &Attention { s: 1, t: 700, heads: 4, groups: 2, e: 64, ..PLAIN }));
        out.push(attention(d, "sinks", &Attention { s: 6, t: 6, heads: 4, groups: 2, sink: true, ..PLAIN }));
    }
    out
}
