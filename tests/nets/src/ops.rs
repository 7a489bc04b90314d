//! [`Net`]: a builder that knows where it is in a model, with the layers that the networks share, as exporters write them.

use std::collections::HashMap;
use std::sync::Arc;
use tahoma_core::{Attrs, Builder, DType, Origin, Program, Tensor, TensorType, ValueId};

pub(crate) type V = ValueId;

pub(crate) fn a() -> Attrs {
    Attrs::new()
}

fn longs(v: &[usize]) -> Vec<i64> {
    v.iter().map(|&x| x as i64).collect()
}

/// A window that slides over height and width.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: usize,
    pub(crate) pad: [usize; 2],
}

impl Window {
    /// A square window.
    pub(crate) fn of(kernel: usize, stride: usize, pad: usize) -> Window {
        Window { kernel: [kernel; 2], stride, pad: [pad; 2] }
    }
    /// An odd window that keeps the extents (with stride 2: halves them).
    pub(crate) fn same(kernel: [usize; 2], stride: usize) -> Window {
        Window { kernel, stride, pad: kernel.map(|k| k / 2) }
    }
    fn attrs(&self) -> Attrs {
        let pads = longs(&[self.pad, self.pad].concat());
        a().with("strides", vec![self.stride as i64; 2]).with("pads", pads).with("dilations", vec![1, 1])
    }
}

/// A program in the making. What does not fit panics with the node's name: the shapes are ours.
pub(crate) struct Net {
    b: Builder,
    model: Arc<str>,
    dtype: DType,
    scopes: Vec<String>,
    /// How often each node name was used.
    names: HashMap<String, u32>,
    index: u32,
}

impl Net {
    pub(crate) fn new(model: &str, dtype: DType) -> Net {
        Net { b: Builder::new(Program::MAIN), model: model.into(), dtype, scopes: vec![], names: HashMap::new(), index: 0 }
    }
    pub(crate) fn finish(self) -> Program {
        Program::new(self.b.finish())
    }
    /// Runs `f` inside a part of the model: weights are named `a.b.weight`, nodes `/a/b/MatMul`.
    pub(crate) fn scope<T>(&mut self, name: &str, f: impl FnOnce(&mut Net) -> T) -> T {
        self.enter(name);
        let t = f(self);
        self.leave();
        t
    }
    pub(crate) fn enter(&mut self, name: &str) {
        self.scopes.push(name.into());
    }
    pub(crate) fn leave(&mut self) {
        self.scopes.pop();
    }
    pub(crate) fn dims(&self, v: V) -> Vec<usize> {
        self.b.ty(v).shape.to_static().unwrap_or_else(|| panic!("{} has symbols", self.b.ty(v)))
    }
    fn dim(&self, v: V, axis: usize) -> usize {
        self.dims(v)[axis]
    }
    fn dtype(&self, v: V) -> DType {
        self.b.ty(v).dtype
    }

    /// An input of the activations' type.
    pub(crate) fn input(&mut self, name: &str, dims: &[usize]) -> V {
        self.b.input(name, TensorType::known(self.dtype, dims))
    }
    pub(crate) fn int_input(&mut self, name: &str, dims: &[usize]) -> V {
        self.b.input(name, TensorType::known(DType::I64, dims))
    }
    pub(crate) fn output(&mut self, name: &str, v: V) {
        self.b.output(name, v);
    }
    pub(crate) fn weight(&mut self, name: &str, dims: &[usize]) -> V {
        let name = self.scopes.iter().map(String::as_str).chain([name]).collect::<Vec<_>>().join(".");
        self.b.set_origin(Arc::new(Origin::Tensor { model: self.model.clone(), name: name.as_str().into() }));
        self.b.weight(&name, TensorType::known(self.dtype, dims))
    }
    pub(crate) fn constant(&mut self, t: Tensor) -> V {
        self.next_origin("constant");
        self.b.constant(t)
    }
    /// A scalar of the type of `like`.
    pub(crate) fn number(&mut self, x: f64, like: V) -> V {
        self.constant(Tensor::from_f64s(self.dtype(like), &[], &[x]))
    }

    /// Names the node that follows: `/layer.0/attention/MatMul`, then `…/MatMul_1`.
    fn next_origin(&mut self, op: &str) {
        let op = onnx_name(op);
        let base = self.scopes.iter().map(String::as_str).chain([op.as_str()]).map(|s| format!("/{s}")).collect::<String>();
        let used = self.names.entry(base.clone()).or_insert(0);
        let name = if *used == 0 { base } else { format!("{base}_{used}") };
        *used += 1;
        let origin = Origin::Node { model: self.model.clone(), index: self.index, name: name.into(), op: op.into() };
        self.index += 1;
        self.b.set_origin(Arc::new(origin));
    }
    /// All results of an op.
    pub(crate) fn ops(&mut self, name: &str, x: &[V], attrs: Attrs) -> Vec<V> {
        self.next_origin(name);
        let op = tahoma_core::ops::find(name).unwrap_or_else(|| panic!("no op named {name}"));
        self.b.emit(op, x, attrs).unwrap_or_else(|e| {
            let types: Vec<String> = x.iter().map(|&v| self.b.ty(v).to_string()).collect();
            panic!("{}: {e} ({})", self.b.origin(), types.join(", "))
        })
    }
    pub(crate) fn op(&mut self, name: &str, x: &[V], attrs: Attrs) -> V {
        self.ops(name, x, attrs)[0]
    }
    /// An op of one operand without attributes.
    pub(crate) fn f(&mut self, name: &str, x: V) -> V {
        self.op(name, &[x], a())
    }
    pub(crate) fn add(&mut self, x: V, y: V) -> V {
        self.op("add", &[x, y], a())
    }
    pub(crate) fn sub(&mut self, x: V, y: V) -> V {
        self.op("sub", &[x, y], a())
    }
    pub(crate) fn mul(&mut self, x: V, y: V) -> V {
        self.op("mul", &[x, y], a())
    }
    pub(crate) fn div(&mut self, x: V, y: V) -> V {
        self.op("div", &[x, y], a())
    }
    pub(crate) fn matmul(&mut self, x: V, y: V) -> V {
        self.op("matmul", &[x, y], a())
    }
    /// An op of `x` and a scalar.
    pub(crate) fn with(&mut self, name: &str, x: V, y: f64) -> V {
        let y = self.number(y, x);
        self.op(name, &[x, y], a())
    }
    pub(crate) fn cast(&mut self, x: V, to: DType) -> V {
        self.op("cast", &[x], a().with("to", to).with("saturate", true))
    }

    pub(crate) fn reshape(&mut self, x: V, dims: &[usize]) -> V {
        self.op("reshape", &[x], a().with("shape", longs(dims)))
    }
    pub(crate) fn broadcast(&mut self, x: V, dims: &[usize]) -> V {
        self.op("broadcast", &[x], a().with("shape", longs(dims)))
    }
    pub(crate) fn transpose(&mut self, x: V, perm: &[usize]) -> V {
        self.op("transpose", &[x], a().with("perm", longs(perm)))
    }
    pub(crate) fn concat(&mut self, x: &[V], axis: usize) -> V {
        self.op("concat", x, a().with("axis", axis as i64))
    }
    /// `size` elements of one axis from `start` on, `step` apart.
    pub(crate) fn slice(&mut self, x: V, axis: usize, start: usize, size: usize, step: usize) -> V {
        let mut sizes = longs(&self.dims(x));
        let (mut starts, mut steps) = (vec![0; sizes.len()], vec![1; sizes.len()]);
        (starts[axis], sizes[axis], steps[axis]) = (start as i64, size as i64, step as i64);
        self.op("slice", &[x], a().with("starts", starts).with("sizes", sizes).with("steps", steps))
    }
    /// Rows of a table by index.
    pub(crate) fn gather(&mut self, table: V, indices: V) -> V {
        self.op("gather", &[table, indices], a().with("axis", 0))
    }
    pub(crate) fn reduce(&mut self, op: &str, x: V, axes: &[usize], keepdims: bool) -> V {
        self.op(op, &[x], a().with("axes", longs(axes)).with("keepdims", keepdims))
    }
    pub(crate) fn softmax(&mut self, x: V, axis: usize) -> V {
        self.op("softmax", &[x], a().with("axis", axis as i64))
    }

    /// x·W + b over the last axis, W as [in, out].
    pub(crate) fn linear(&mut self, name: &str, x: V, out: usize) -> V {
        self.scope(name, |n| {
            let y = n.project(x, out);
            let b = n.weight("bias", &[out]);
            n.add(y, b)
        })
    }
    /// x·W over the last axis, W as [in, out].
    pub(crate) fn linear_without_bias(&mut self, name: &str, x: V, out: usize) -> V {
        self.scope(name, |n| n.project(x, out))
    }
    fn project(&mut self, x: V, out: usize) -> V {
        let inner = *self.dims(x).last().unwrap_or(&1);
        let w = self.weight("weight", &[inner, out]);
        self.matmul(x, w)
    }
    /// x·Wᵀ + b of a matrix, W as [out, in]: ONNX's Gemm.
    pub(crate) fn gemm(&mut self, name: &str, x: V, out: usize) -> V {
        self.scope(name, |n| {
            let inner = n.dim(x, 1);
            let w = n.weight("weight", &[out, inner]);
            let w = n.transpose(w, &[1, 0]);
            let y = n.matmul(x, w);
            let b = n.weight("bias", &[out]);
            n.add(y, b)
        })
    }

    /// A convolution without bias.
    pub(crate) fn conv(&mut self, name: &str, x: V, out: usize, w: Window, groups: usize) -> V {
        self.scope(name, |n| n.convolve(x, out, w, groups))
    }
    fn convolve(&mut self, x: V, out: usize, w: Window, groups: usize) -> V {
        let inner = self.dim(x, 1) / groups;
        let kernel = self.weight("weight", &[out, inner, w.kernel[0], w.kernel[1]]);
        self.op("conv", &[x, kernel], w.attrs().with("groups", groups as i64))
    }
    /// A convolution with a bias of one number per channel.
    pub(crate) fn conv_bias(&mut self, name: &str, x: V, out: usize, w: Window) -> V {
        self.scope(name, |n| {
            let y = n.convolve(x, out, w, 1);
            let b = n.weight("bias", &[out]);
            let b = n.reshape(b, &[out, 1, 1]);
            n.add(y, b)
        })
    }
    /// Batch norm in its exported training form: a node of its own.
    pub(crate) fn batch_norm(&mut self, name: &str, x: V, epsilon: f64) -> V {
        self.scope(name, |n| {
            let c = [n.dim(x, 1)];
            let parts = ["gain", "bias", "mean", "var"].map(|w| n.weight(w, &c));
            n.op("batch_norm", &[x, parts[0], parts[1], parts[2], parts[3]], a().with("epsilon", epsilon))
        })
    }
    pub(crate) fn max_pool(&mut self, x: V, w: Window) -> V {
        self.op("max_pool", &[x], w.attrs().with("window", longs(&w.kernel)))
    }
    /// Mean of each window; padding counts.
    pub(crate) fn average_pool(&mut self, x: V, w: Window) -> V {
        let s = self.op("sum_pool", &[x], w.attrs().with("window", longs(&w.kernel)));
        self.with("div", s, (w.kernel[0] * w.kernel[1]) as f64)
    }
    /// Mean over height and width, which stay as 1, then [N, C].
    pub(crate) fn global_average_pool(&mut self, x: V) -> V {
        let y = self.reduce("reduce_mean", x, &[2, 3], true);
        self.flatten(y)
    }
    /// [N, everything else].
    pub(crate) fn flatten(&mut self, x: V) -> V {
        let d = self.dims(x);
        self.reshape(x, &[d[0], d[1..].iter().product()])
    }

    /// Layer norm over the last axis, written out.
    pub(crate) fn layer_norm(&mut self, name: &str, x: V, epsilon: f64) -> V {
        self.scope(name, |n| {
            let d = n.dims(x);
            let (last, c) = (d.len() - 1, d[d.len() - 1]);
            let mean = n.reduce("reduce_mean", x, &[last], true);
            let centred = n.sub(x, mean);
            let square = n.with("pow", centred, 2.0);
            let variance = n.reduce("reduce_mean", square, &[last], true);
            let variance = n.with("add", variance, epsilon);
            let deviation = n.f("sqrt", variance);
            let y = n.div(centred, deviation);
            let gain = n.weight("gain", &[c]);
            let y = n.mul(y, gain);
            let bias = n.weight("bias", &[c]);
            n.add(y, bias)
        })
    }
    /// x/√(mean x² + ε) over the last axis, in f32: the type it returns.
    pub(crate) fn rms_normalised(&mut self, x: V, epsilon: f64) -> V {
        let last = self.dims(x).len() - 1;
        let x = self.cast(x, DType::F32);
        let square = self.with("pow", x, 2.0);
        let mean = self.reduce("reduce_mean", square, &[last], true);
        let mean = self.with("add", mean, epsilon);
        let scale = self.f("rsqrt", mean);
        self.mul(x, scale)
    }
    /// x·(1 + erf(x/√2))·½, written out.
    pub(crate) fn gelu(&mut self, x: V) -> V {
        let t = self.with("div", x, std::f64::consts::SQRT_2);
        let t = self.f("erf", t);
        let t = self.with("add", t, 1.0);
        let t = self.mul(x, t);
        self.with("mul", t, 0.5)
    }
    /// [B, S, heads·D] to [B, heads, S, D].
    pub(crate) fn split_heads(&mut self, x: V, heads: usize) -> V {
        let d = self.dims(x);
        let y = self.reshape(x, &[d[0], d[1], heads, d[2] / heads]);
        self.transpose(y, &[0, 2, 1, 3])
    }
    /// [B, heads, S, D] to [B, S, heads·D].
    pub(crate) fn join_heads(&mut self, x: V) -> V {
        let d = self.dims(x);
        let y = self.transpose(x, &[0, 2, 1, 3]);
        self.reshape(y, &[d[0], d[2], d[1] * d[3]])
    }
    /// Each head `times` times in a row, as Hugging Face's `repeat_kv`.
    pub(crate) fn repeat_heads(&mut self, x: V, times: usize) -> V {
        let d = self.dims(x);
        let y = self.reshape(x, &[d[0], d[1], 1, d[2], d[3]]);
        let y = self.broadcast(y, &[d[0], d[1], times, d[2], d[3]]);
        self.reshape(y, &[d[0], d[1] * times, d[2], d[3]])
    }
}

/// The op's name as exporters write it: `reduce_mean` is `ReduceMean`.
fn onnx_name(op: &str) -> String {
    if op == "matmul" {
        return "MatMul".into();
    }
    let capital = |w: &str| w[..1].to_uppercase() + &w[1..];
    op.split('_').filter(|w| !w.is_empty()).map(capital).collect()
}
