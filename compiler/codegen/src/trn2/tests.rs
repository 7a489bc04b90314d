//! Kernels for Trainium2 against the meaning of their spec: formed from ml ops, printed as NKI, parsed back and simulated with every
//! check on.

use super::*;
use tahoma_core::random::Random;
use tahoma_core::{Attrs, Builder as Graphs, Tensor, TensorType, ValueId, form, kernel_eval};
use tahoma_sim::nki::{HbmTensor, Options, simulate};

struct Case {
    b: Graphs,
    inputs: Vec<Tensor>,
    random: Random,
}

impl Case {
    fn new() -> Case {
        Case { b: Graphs::new("k"), inputs: vec![], random: Random::new(11) }
    }
    fn input(&mut self, shape: &[usize]) -> ValueId {
        let n: usize = shape.iter().product();
        let data = (0..n).map(|_| self.random.signed() as f32).collect();
        self.inputs.push(Tensor::f32(shape, data));
        self.b.input(&format!("x{}", self.inputs.len()), TensorType::known(DType::F32, shape))
    }
    /// Values of one sign, where rounding does not cancel.
    fn positive(&mut self, shape: &[usize]) -> ValueId {
        let v = self.input(shape);
        if let Some(t) = self.inputs.last_mut() {
            *t = Tensor::f32(shape, t.to_f64s().iter().map(|x| (x * 0.1 + 1.0) as f32).collect());
        }
        v
    }
    fn op(&mut self, name: &str, x: &[ValueId], attrs: Attrs) -> ValueId {
        self.b.op(name, x, attrs).unwrap()
    }
    /// Lowers, simulates and compares; gives the NKI text.
    fn check(self, out: ValueId) -> String {
        self.check_within(out, 2e-5)
    }
    fn check_within(mut self, out: ValueId, bound: f64) -> String {
        self.b.output("y", out);
        check_graph(&self.b.finish(), &self.inputs, bound)
    }
}

fn check_graph(g: &tahoma_core::Graph, inputs: &[Tensor], bound: f64) -> String {
    let spec = form::form(g, "k").unwrap_or_else(|e| panic!("{e}"));
    let want = kernel_eval::eval(&spec, inputs).unwrap_or_else(|e| panic!("{e}"));
    let k = lower(&spec, "a test").unwrap_or_else(|d| panic!("{d}"));
    let program = trn2::parse::parse(&k.nki).unwrap_or_else(|e| panic!("{e:?}\n{}", k.nki));
    assert_eq!(program, k.program);
    let bytes: Vec<Vec<u8>> = inputs.iter().map(Tensor::to_bytes).collect();
    let args: Vec<HbmTensor> = inputs
        .iter()
        .zip(&bytes)
        .zip(&program.params)
        .map(|((_, b), p)| HbmTensor { dtype: p.dtype, shape: p.shape.clone(), data: b.as_slice().into() })
        .collect();
    let run = |p: &Program| simulate(p, &args, &Options::default()).unwrap_or_else(|f| panic!("{f}\n{}", trn2::nki::print(p)));
    let got = run(&program);
    assert_eq!(got.timeline.total_ns, k.predicted_ns, "one clock\n{}", k.nki);
    let price = |most| match price(&spec, most) {
        Price::Ns(ns) => Some(ns),
        Price::Over => None,
        Price::Never => panic!("it was lowered"),
    };
    assert_eq!(price(f64::INFINITY), Some(k.predicted_ns));
    assert_eq!((price(k.predicted_ns), price(k.predicted_ns - 1.0)), (Some(k.predicted_ns), None));
    // Every schedule computes the kernel, not only the one that is fastest.
    let mut all = vec![];
    for c in choices(&spec) {
        all.extend(emit(&spec, "", c, f64::INFINITY).unwrap_or_else(|e| panic!("{c:?}: {e}")).map(|p| (format!("{c:?}"), run(&p))));
    }
    assert!(all.iter().any(|(_, o)| o.timeline.total_ns == k.predicted_ns), "the chosen one is one of them");
    for (which, got) in &all {
        for (o, want) in want.iter().enumerate() {
            let got = Tensor::from_bytes(want.dtype(), want.shape(), &got.outputs[o].data).expect("as many bytes");
            for (i, (a, b)) in got.to_f64s().iter().zip(want.to_f64s()).enumerate() {
                assert!(*a == b || (a - b).abs() <= bound * (1.0 + b.abs()), "{which}: output {o} element {i}: {a} but {b}\n{}", k.nki);
            }
        }
    }
    k.nki
}

fn a() -> Attrs {
    Attrs::new()
}

fn conv_attrs(strides: Vec<i64>, pads: Vec<i64>, groups: i64) -> Attrs {
    let ones = vec![1i64; strides.len()];
    a().with("strides", strides).with("pads", pads).with("dilations", ones).with("groups", groups)
}

#[test]
fn maps_of_any_size() {
    for shape in [&[][..], &[1], &[7], &[128], &[300], &[5, 6, 7], &[2, 130, 3], &[3, 4096], &[40000]] {
        let mut c = Case::new();
        let (x, y) = (c.input(shape), c.input(shape));
        let s = c.op("add", &[x, y], a());
        let e = c.op("sigmoid", &[s], a());
        c.check(e);
    }
}

#[test]
fn broadcasts_transposes_and_slices_are_dma_patterns() {
    let mut c = Case::new();
    let (x, b) = (c.input(&[2, 6, 5, 5]), c.input(&[6, 1, 1]));
    let s = c.op("mul", &[x, b], a());
    let t = c.op("transpose", &[s], a().with("perm", vec![0, 2, 3, 1]));
    c.check(t);
    let mut c = Case::new();
    let x = c.input(&[9, 12]);
    let s = c.op("slice", &[x], a().with("starts", vec![8, 1]).with("sizes", vec![3, 4]).with("steps", vec![-3, 2]));
    let n = c.op("neg", &[s], a());
    c.check(n);
}

#[test]
fn padding_and_concat_fill_and_copy() {
    let mut c = Case::new();
    let x = c.input(&[3, 4, 5]);
    let p =
        c.op("pad", &[x], a().with("low", vec![0, 1, 2]).with("high", vec![1, 0, 1]).with("interior", vec![0, 0, 0]).with("value", 3.0));
    c.check(p);
    let mut c = Case::new();
    let (x, y) = (c.input(&[2, 3, 6]), c.input(&[2, 2, 6]));
    let k = c.op("concat", &[x, y], a().with("axis", 1));
    let r = c.op("relu", &[k], a());
    c.check(r);
}

#[test]
fn scalar_functions_keep_their_meaning() {
    for f in
        ["exp", "tanh", "erf", "abs", "sign", "sin", "cos", "floor", "ceil", "round", "reciprocal", "silu", "gelu", "hard_swish", "neg"]
    {
        let mut c = Case::new();
        let x = c.input(&[4, 33]);
        let k = c.b.constant(Tensor::f32(&[], vec![3.7]));
        let x = c.op("mul", &[x, k], a());
        let y = c.op(f, &[x], a());
        c.check(y);
    }
    let mut c = Case::new();
    let (x, y) = (c.input(&[5, 9]), c.input(&[5, 9]));
    let l = c.op("lt", &[x, y], a());
    let s = c.op("select", &[l, x, y], a());
    let d = c.op("div", &[s, y], a());
    c.check(d);
}

#[test]
fn rows_reduce_and_normalise() {
    for shape in [&[3, 8][..], &[130, 65], &[2, 3, 4, 100]] {
        let last = shape.len() as i64 - 1;
        let mut c = Case::new();
        let x = c.input(shape);
        let y = c.op("softmax", &[x], a().with("axis", last));
        c.check(y);
        let mut c = Case::new();
        let n = shape[shape.len() - 1];
        let (x, g, b) = (c.input(shape), c.input(&[n]), c.input(&[n]));
        let y = c.op("layer_norm", &[x, g, b], a().with("axis", last).with("epsilon", 1e-5));
        c.check(y);
        let mut c = Case::new();
        let x = c.input(shape);
        let y = c.op("reduce_mean", &[x], a().with("axes", vec![0]).with("keepdims", false));
        c.check(y);
    }
}

#[test]
fn pooling_and_depthwise_go_tap_by_tap() {
    let mut c = Case::new();
    let x = c.input(&[2, 5, 9, 7]);
    let at = a().with("window", vec![3, 3]).with("strides", vec![2, 2]).with("pads", vec![1, 1, 1, 1]).with("dilations", vec![1, 1]);
    let y = c.op("max_pool", &[x], at);
    c.check(y);
    let mut c = Case::new();
    let (x, w, b) = (c.input(&[1, 6, 12, 10]), c.input(&[6, 1, 5, 5]), c.input(&[6, 1, 1]));
    let y = c.op("conv", &[x, w], conv_attrs(vec![1, 2], vec![2, 2, 2, 2], 6));
    let y = c.op("add", &[y, b], a());
    let y = c.op("hard_swish", &[y], a());
    c.check(y);
}

/// Boxes under strides, dilations and padding of every kind: of pooling, depthwise and full convolutions, the latter over more channels
/// than partitions too.
#[test]
fn windows_of_any_shape() {
    let shapes = [(1, 1), (3, 3), (2, 5), (5, 1)];
    let steps = [(1, 1), (2, 1), (1, 3), (3, 2)];
    for (n, (kernel, stride)) in shapes.into_iter().flat_map(|k| steps.map(|s| (k, s))).enumerate() {
        let dilation = steps[(n + n / 4) % 4];
        let pads = [[0, 0, 0, 0], [1, 0, 2, 1], [0, 3, 0, 0], [2, 2, 1, 4]][(n / 3) % 4];
        let reach = |k: usize, d: usize| (k - 1) * d + 1;
        let (h, w) = (reach(kernel.0, dilation.0) + 4 + n % 3, reach(kernel.1, dilation.1) + 5);
        let two = |p: (usize, usize)| vec![p.0 as i64, p.1 as i64];
        let at = || a().with("strides", two(stride)).with("pads", pads.to_vec()).with("dilations", two(dilation));
        let mut c = Case::new();
        let x = c.input(&[2, 3, h, w]);
        let y = c.op("max_pool", &[x], at().with("window", two(kernel)));
        c.check(y);
        let mut c = Case::new();
        let (x, k) = (c.input(&[1, 7, h, w]), c.input(&[7, 1, kernel.0, kernel.1]));
        let y = c.op("conv", &[x, k], at().with("groups", 7i64));
        c.check(y);
        let channels = if n % 4 == 0 { 131 } else { 5 };
        let mut c = Case::new();
        let (x, k) = (c.input(&[1, channels, h, w]), c.input(&[130, channels, kernel.0, kernel.1]));
        let y = c.op("conv", &[x, k], at().with("groups", 1i64));
        c.check_within(y, 1e-4);
    }
}

#[test]
fn matmuls_of_any_shape() {
    for (m, k, n) in [(1, 1, 1), (5, 7, 3), (128, 128, 512), (130, 200, 600), (1, 300, 70)] {
        let mut c = Case::new();
        let (x, w, b) = (c.input(&[m, k]), c.input(&[k, n]), c.input(&[n]));
        let y = c.op("matmul", &[x, w], a());
        let y = c.op("add", &[y, b], a());
        let y = c.op("relu", &[y], a());
        c.check(y);
    }
    let mut c = Case::new();
    let (q, k) = (c.input(&[2, 3, 33, 16]), c.input(&[2, 3, 40, 16]));
    let k = c.op("transpose", &[k], a().with("perm", vec![0, 1, 3, 2]));
    let s = c.op("matmul", &[q, k], a());
    c.check(s);
}

#[test]
fn convolutions_accumulate_taps_in_psum() {
    let cases = [
        (&[1, 3, 17, 20][..], &[8, 3, 3, 3][..], vec![1, 1], vec![1, 1, 1, 1], 1),
        (&[2, 4, 9, 9], &[6, 2, 3, 3], vec![2, 2], vec![0, 1, 1, 0], 2),
        (&[1, 130, 6, 40], &[140, 130, 1, 1], vec![1, 1], vec![0, 0, 0, 0], 1),
        (&[1, 2, 600], &[5, 2, 4], vec![3], vec![2, 1], 1),
    ];
    for (x, w, strides, pads, groups) in cases {
        let mut c = Case::new();
        let bias: Vec<usize> = [w[0]].into_iter().chain(vec![1; w.len() - 2]).collect();
        let (x, w, b) = (c.input(x), c.input(w), c.input(&bias));
        let y = c.op("conv", &[x, w], conv_attrs(strides, pads, groups));
        let y = c.op("add", &[y, b], a());
        let y = c.op("relu", &[y], a());
        let text = c.check(y);
        assert!(text.contains("nisa.nc_matmul"), "{text}");
    }
}

#[test]
fn what_the_engines_cannot_do_exactly_is_refused() {
    let mut c = Case::new();
    let x = c.b.input("x", TensorType::known(DType::I64, &[4]));
    let y = c.op("add", &[x, x], a());
    c.b.output("y", y);
    let spec = form::form(&c.b.finish(), "k").unwrap();
    let d = lower(&spec, "a test").unwrap_err();
    assert_eq!(d.code, "E0502");
    assert!(d.message.contains("i64"), "{d}");
}

/// One fp32 sum of a few thousand values of one sign loses digits with its length (8e-7 of 1.0 at 480 elements); blocks keep them.
#[test]
fn long_sums_keep_their_digits() {
    for n in [63, 64, 97, 480, 1009, 4096] {
        let mut c = Case::new();
        let x = c.positive(&[130, n]);
        let m = c.op("reduce_mean", &[x], a().with("axes", vec![1]).with("keepdims", false));
        let nki = c.check_within(m, 3e-7);
        assert_eq!(nki.matches("tensor_reduce").count() > 2, n >= 64, "{n}");
    }
}

#[test]
fn norms_and_attentions_are_one_kernel() {
    let mut random = Random::new(3);
    for c in crate::fused::cases().into_iter().chain(crate::fused::searches()).chain(crate::fused::wide()) {
        let mut bound = 2e-5;
        let mut inputs = vec![];
        for p in &c.graph.inputs {
            let t = c.graph.ty(p.value);
            let shape = t.shape.to_static().unwrap();
            let n: usize = shape.iter().product();
            if t.dtype == DType::BF16 {
                bound = 2e-2;
            }
            let v: Vec<f64> = (0..n).map(|_| random.signed()).collect();
            inputs.push(Tensor::from_f64s(t.dtype, &shape, &v));
        }
        check_graph(&c.graph, &inputs, bound);
    }
}
