//! Whole programs: what `optimize` returns computes what it was given, costs no more than greedy fusion, and is the same every time.

use std::collections::BTreeMap;
use std::sync::Arc;
use tahoma_core::artifact::Numerics;
use tahoma_core::eval::{Weights, run};
use tahoma_core::random::Random;
use tahoma_core::{Attrs, Builder, DType, Diagnostic, Origin, Program, Tensor, TensorType, ValueId};
use tahoma_eqsat::{Options, Report, SM_90A, TRN2, optimize};

struct Rng(Random);

impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0.below(n)
    }
    fn tensor(&mut self, shape: &[usize]) -> Tensor {
        let n = shape.iter().product();
        Tensor::f32(shape, (0..n).map(|_| self.below(4001) as f32 / 1000.0 - 2.0).collect())
    }
}

#[derive(Default)]
struct Store(BTreeMap<String, Tensor>);

impl Weights for Store {
    fn get(&self, name: &str) -> Result<Tensor, Diagnostic> {
        self.0.get(name).cloned().ok_or_else(|| Diagnostic::error("E0210", name))
    }
}

struct Net {
    b: Builder,
    store: Store,
    rng: Rng,
    inputs: Vec<Tensor>,
    nodes: u32,
}

fn a() -> Attrs {
    Attrs::new()
}

impl Net {
    fn new(seed: u64) -> Net {
        let rng = Rng(Random::new(seed));
        Net { b: Builder::new("main"), store: Store::default(), rng, inputs: vec![], nodes: 0 }
    }
    fn input(&mut self, shape: &[usize]) -> ValueId {
        let t = self.rng.tensor(shape);
        self.inputs.push(t);
        self.b.input(&format!("in{}", self.inputs.len()), TensorType::known(DType::F32, shape))
    }
    fn weight(&mut self, shape: &[usize]) -> ValueId {
        let name = format!("w{}", self.store.0.len());
        let t = self.rng.tensor(shape);
        self.store.0.insert(name.clone(), t);
        self.b.weight(&name, TensorType::known(DType::F32, shape))
    }
    fn number(&mut self, v: f32) -> ValueId {
        self.b.constant(Tensor::f32(&[], vec![v]))
    }
    fn op(&mut self, name: &str, x: &[ValueId], attrs: Attrs) -> ValueId {
        self.nodes += 1;
        let origin = Origin::Node { model: "m".into(), index: self.nodes, name: format!("n{}", self.nodes).into(), op: name.into() };
        self.b.set_origin(Arc::new(origin));
        self.b.op(name, x, attrs).unwrap_or_else(|e| panic!("{name}: {e}"))
    }
    fn dims(&self, v: ValueId) -> Vec<usize> {
        self.b.ty(v).shape.to_static().unwrap()
    }
    fn finish(mut self, outputs: &[ValueId]) -> (Program, Vec<Tensor>, Store) {
        for (i, &o) in outputs.iter().enumerate() {
            self.b.output(&format!("out{i}"), o);
        }
        (Program::new(self.b.finish()), self.inputs, self.store)
    }
}

/// Optimises, evaluates both, compares at the class's tolerance.
fn check(p: &Program, inputs: &[Tensor], store: &Store, options: &Options) -> (Program, Report) {
    let (q, report) = optimize(p, options).unwrap_or_else(|e| panic!("{e}"));
    assert!(report.faults.is_empty(), "{:?}", report.faults);
    assert!(report.chosen_ns <= report.greedy_ns + 1e-6 && report.chosen_ns <= report.unfused_ns + 1e-6, "{report:#?}");
    let want = run(p, "main", inputs, store).unwrap();
    let got = run(&q, "main", inputs, store).unwrap_or_else(|e| panic!("{e}\n{q:#?}"));
    assert_eq!(want.len(), got.len());
    for (x, y) in want.iter().zip(&got) {
        assert_eq!(x.ty(), y.ty());
        for (i, (p, q)) in x.to_f64s().iter().zip(y.to_f64s()).enumerate() {
            let same = p == &q || (p.is_nan() && q.is_nan());
            let near = options.numerics != Numerics::Exact && (p - q).abs() <= 1e-4 * (1.0 + p.abs());
            let bits = options.numerics != Numerics::Exact || p.to_bits() == q.to_bits() || p.is_nan();
            assert!((same && bits) || near, "element {i}: {p} became {q}");
        }
    }
    // Every function that main calls is a kernel that core forms.
    for (name, g) in q.functions.iter().filter(|f| f.0 != "main") {
        let spec = tahoma_core::form::form(g, name).unwrap_or_else(|e| panic!("{name}: {e}"));
        let form = g.attrs.str("kernel").unwrap_or("");
        assert_eq!(form == "contract", matches!(spec.body, tahoma_core::kernel::Body::Contract(_)));
    }
    (q, report)
}

fn options(numerics: Numerics) -> Options<'static> {
    Options { numerics, ..Options::new(&SM_90A) }
}

#[test]
fn equal_programs_give_equal_results() {
    for seed in [3, 30, 300] {
        let p = tahoma_nets::random::random(seed).program;
        let (x, r) = optimize(&p, &options(Numerics::Reassociate)).unwrap();
        let (y, s) = optimize(&p, &options(Numerics::Reassociate)).unwrap();
        assert_eq!(x, y);
        assert_eq!((r.e_nodes, r.chosen_ns, r.rules), (s.e_nodes, s.chosen_ns, s.rules));
    }
}

fn conv(n: &mut Net, x: ValueId, m: usize, k: usize, groups: usize) -> ValueId {
    let c = n.dims(x)[1];
    let w = n.weight(&[m, c / groups, k, k]);
    let p = (k / 2) as i64;
    let at = a().with("strides", vec![1, 1]).with("pads", vec![p; 4]).with("dilations", vec![1, 1]).with("groups", groups as i64);
    n.op("conv", &[x, w], at)
}

fn batch_norm(n: &mut Net, x: ValueId) -> ValueId {
    let c = n.dims(x)[1];
    let (s, b, m) = (n.weight(&[c]), n.weight(&[c]), n.weight(&[c]));
    let v = n.op("abs", &[s], a());
    n.op("batch_norm", &[x, s, b, m, v], a().with("epsilon", 1e-3))
}

#[test]
fn a_batch_norm_folds_into_its_convolution() {
    let mut n = Net::new(1);
    let x = n.input(&[1, 3, 6, 6]);
    let y = conv(&mut n, x, 4, 3, 1);
    let y = batch_norm(&mut n, y);
    let y = n.op("relu", &[y], a());
    let (p, inputs, store) = n.finish(&[y]);
    let (q, r) = check(&p, &inputs, &store, &options(Numerics::Reassociate));
    assert_eq!((r.launches, r.host_ops.len()), (1, 0), "{r:#?}");
    let ops: Vec<&str> = q.functions["k0"].nodes.iter().map(|n| n.op.name).collect();
    assert_eq!(ops, ["conv", "add", "relu"]);
    assert!(r.rules["scale-into-conv"].used > 0 && r.rules["batch-norm-is-affine"].used > 0);
    // Every op knows its nodes of the model.
    let origins = q.functions["k0"].nodes[0].origin.leaves().len();
    assert!(origins >= 2, "{:?}", q.functions["k0"].nodes[0].origin);
}

#[test]
fn a_residual_block_is_one_kernel_per_convolution() {
    let mut n = Net::new(2);
    let x = n.input(&[1, 4, 8, 8]);
    let mut y = x;
    for i in 0..2 {
        y = conv(&mut n, y, 4, 3, 1);
        y = batch_norm(&mut n, y);
        if i == 0 {
            y = n.op("relu", &[y], a());
        }
    }
    y = n.op("add", &[y, x], a());
    y = n.op("relu", &[y], a());
    let (p, inputs, store) = n.finish(&[y]);
    let (_, r) = check(&p, &inputs, &store, &options(Numerics::Reassociate));
    assert_eq!(r.launches, 2, "{r:#?}");
}

#[test]
fn a_transposed_convolution_runs_on_the_device() {
    let at = |k: i64, p: i64| {
        let a = a().with("strides", vec![2, 2]).with("pads", vec![p; 4]).with("dilations", vec![1, 1]);
        (a.with("groups", 1).with("output_padding", vec![0, 0]), k as usize)
    };
    let mut n = Net::new(7);
    let x = n.input(&[1, 4, 40, 40]);
    let ((at2, k), (at3, l)) = (at(2, 0), at(3, 1));
    let (w, b) = (n.weight(&[4, 3, k, k]), n.weight(&[3, 1, 1]));
    let y = n.op("conv_transpose", &[x, w], at2);
    let y = n.op("add", &[y, b], a());
    let y = n.op("relu", &[y], a());
    // Overlapping taps: zeros are laid between the pixels on the host, the convolution is a kernel.
    let w = n.weight(&[3, 2, l, l]);
    let z = n.op("conv_transpose", &[y, w], at3);
    let (p, inputs, store) = n.finish(&[z]);
    let (q, r) = check(&p, &inputs, &store, &options(Numerics::Reassociate));
    assert_eq!(r.launches, 2, "{:?}", listing(&q));
    assert_eq!(r.host_ops.keys().copied().collect::<Vec<_>>(), ["pad"]);
}

/// The kernels that main calls, in order, by their ops.
fn listing(p: &Program) -> Vec<String> {
    let ops = |g: &tahoma_core::Graph| g.nodes.iter().map(|n| n.op.name).filter(|o| *o != "constant").collect::<Vec<_>>().join(" ");
    p.main().nodes.iter().filter_map(|n| n.attrs.func("callee")).map(|f| format!("{f}: {}", ops(&p.functions[f]))).collect()
}

/// One encoder layer as an exporter writes it.
fn attention_layer(n: &mut Net, x: ValueId, heads: usize) -> ValueId {
    let d = n.dims(x);
    let (b, s, h) = (d[0], d[1], d[2]);
    let e = h / heads;
    let linear = |n: &mut Net, x: ValueId, o: usize| {
        let i = n.dims(x)[2];
        let (w, c) = (n.weight(&[i, o]), n.weight(&[o]));
        let m = n.op("matmul", &[x, w], a());
        n.op("add", &[m, c], a())
    };
    let split = |n: &mut Net, y: ValueId, perm: Vec<i64>| {
        let r = n.op("reshape", &[y], a().with("shape", vec![b as i64, s as i64, heads as i64, e as i64]));
        n.op("transpose", &[r], a().with("perm", perm))
    };
    let (q, k, v) = (linear(n, x, h), linear(n, x, h), linear(n, x, h));
    let (q, k, v) = (split(n, q, vec![0, 2, 1, 3]), split(n, k, vec![0, 2, 3, 1]), split(n, v, vec![0, 2, 1, 3]));
    let scores = n.op("matmul", &[q, k], a());
    let root = n.number((e as f32).sqrt());
    let scores = n.op("div", &[scores, root], a());
    let p = n.op("softmax", &[scores], a().with("axis", 3));
    let o = n.op("matmul", &[p, v], a());
    let o = n.op("transpose", &[o], a().with("perm", vec![0, 2, 1, 3]));
    let o = n.op("reshape", &[o], a().with("shape", vec![b as i64, s as i64, h as i64]));
    let o = linear(n, o, h);
    let o = n.op("add", &[o, x], a());
    let norm = |n: &mut Net, x: ValueId| {
        let (g, c) = (n.weight(&[h]), n.weight(&[h]));
        let at = || a().with("axes", vec![2]).with("keepdims", true);
        let m = n.op("reduce_mean", &[x], at());
        let d = n.op("sub", &[x, m], a());
        let two = n.number(2.0);
        let q = n.op("pow", &[d, two], a());
        let v = n.op("reduce_mean", &[q], at());
        let eps = n.number(1e-3);
        let v = n.op("add", &[v, eps], a());
        let v = n.op("sqrt", &[v], a());
        let y = n.op("div", &[d, v], a());
        let y = n.op("mul", &[y, g], a());
        n.op("add", &[y, c], a())
    };
    let x = norm(n, o);
    let f = linear(n, x, 4 * h);
    let root = n.number(std::f32::consts::SQRT_2);
    let t = n.op("div", &[f, root], a());
    let t = n.op("erf", &[t], a());
    let one = n.number(1.0);
    let t = n.op("add", &[t, one], a());
    let t = n.op("mul", &[f, t], a());
    let half = n.number(0.5);
    let f = n.op("mul", &[t, half], a());
    let f = linear(n, f, h);
    let y = n.op("add", &[f, x], a());
    norm(n, y)
}

#[test]
fn an_encoder_layer_takes_eight_launches() {
    let mut n = Net::new(3);
    let x = n.input(&[1, 5, 12]);
    let y = attention_layer(&mut n, x, 3);
    let (p, inputs, store) = n.finish(&[y]);
    for target in [&SM_90A, &TRN2] {
        let o = Options { numerics: Numerics::Reassociate, ..Options::new(target) };
        let (q, r) = check(&p, &inputs, &store, &o);
        let kernels: Vec<String> = listing(&q);
        // q·k·v joined, scores, softmax, context, output, norm, two of the feed-forward, norm.
        assert!(r.launches <= 9, "{kernels:#?}");
        assert!(r.host_ops.is_empty());
        assert!(r.rules["merge-shared-input"].used > 0, "{r:#?}");
    }
}

#[test]
fn proofs_name_the_rules() {
    let mut n = Net::new(4);
    let x = n.input(&[3, 4]);
    let t = n.op("transpose", &[x], a().with("perm", vec![1, 0]));
    let r = n.op("neg", &[t], a());
    let t = n.op("transpose", &[r], a().with("perm", vec![1, 0]));
    let y = n.op("neg", &[t], a());
    let (p, inputs, store) = n.finish(&[y]);
    let o = Options { proofs: true, ..options(Numerics::Exact) };
    let (q, r) = check(&p, &inputs, &store, &o);
    assert_eq!((r.launches, q.main().nodes.len()), (0, 0), "{q:#?}");
    assert_eq!(r.proofs.len(), 1);
    assert!(r.proofs[0].rules().any(|r| r == "neg-neg"), "{:?}", r.proofs);
}

/// √2 as f32 has it is another number in f64: no gelu.
#[test]
fn constants_are_compared_at_the_precision_of_the_program() {
    for (dtype, root, is_gelu) in [
        (DType::F32, std::f64::consts::SQRT_2, true),
        (DType::F64, std::f64::consts::SQRT_2, true),
        (DType::F64, std::f32::consts::SQRT_2 as f64, false),
    ] {
        let mut b = Builder::new("main");
        let x = b.input("x", TensorType::known(dtype, &[3, 4]));
        let [root, one, half] = [root, 1.0, 0.5].map(|v| b.constant(Tensor::from_f64s(dtype, &[], &[v])));
        let mut op = |name: &str, x: [ValueId; 2]| b.op(name, if name == "erf" { &x[..1] } else { &x }, a()).unwrap();
        let y = op("div", [x, root]);
        let y = op("erf", [y, y]);
        let y = op("add", [y, one]);
        let y = op("mul", [x, y]);
        let y = op("mul", [y, half]);
        b.output("y", y);
        let (q, _) = optimize(&Program::new(b.finish()), &options(Numerics::Reassociate)).unwrap();
        assert_eq!(q.functions["k0"].nodes.iter().any(|n| n.op.name == "gelu"), is_gelu, "{dtype}");
    }
}

/// (x·w + 0)·w₁·w₂…: 0·w₁ is no constant, so each scale makes another term that adds nothing.
#[test]
fn terms_that_add_nothing_do_not_multiply() {
    let mut n = Net::new(11);
    let x = n.input(&[3, 4]);
    let (w, zero) = (n.weight(&[4]), n.number(0.0));
    let y = n.op("mul", &[x, w], a());
    let mut y = n.op("add", &[y, zero], a());
    for _ in 0..3 {
        let w = n.weight(&[4]);
        y = n.op("mul", &[y, w], a());
    }
    let (p, inputs, store) = n.finish(&[y]);
    let (_, r) = check(&p, &inputs, &store, &Options { iterations: 20, ..options(Numerics::Reassociate) });
    assert!(r.stopped == "saturated" && r.e_nodes < 200, "{} after {} nodes", r.stopped, r.e_nodes);
}

#[test]
fn structure_ops_and_open_shapes_pass_through() {
    use tahoma_core::{Dim, Shape};
    let mut b = Builder::new("main");
    let x = b.input("x", TensorType::new(DType::F32, Shape(vec![Dim::sym("N"), Dim::Known(4)])));
    let c = b.input("c", TensorType::scalar(DType::Bool));
    let y = b.op("relu", &[x], a()).unwrap();
    let y = b.op("relu", &[y], a()).unwrap();
    let ty = b.ty(y).clone();
    let op = tahoma_core::ops::find("if").unwrap();
    let at = a().with("then", tahoma_core::Attr::Func("f".into())).with("else", tahoma_core::Attr::Func("g".into()));
    let z = b.structure(op, &[c, y], at, vec![ty.clone()]).unwrap()[0];
    b.output("z", z);
    let mut p = Program::new(b.finish());
    for (name, op) in [("f", "neg"), ("g", "exp")] {
        let mut b = Builder::new(name);
        let x = b.input("x", ty.clone());
        let y = b.op(op, &[x], a()).unwrap();
        b.output("y", y);
        p.functions.insert(name.into(), b.finish());
    }
    let inputs = [Tensor::f32(&[2, 4], vec![-1.0, 2.0, 3.0, -4.0, 0.5, 1.0, -2.0, 0.0]), Tensor::bool(&[], vec![true])];
    let (q, r) = optimize(&p, &options(Numerics::Exact)).unwrap();
    assert!(q.functions.contains_key("f") && q.functions.contains_key("g") && r.launches == 0);
    let w = Store::default();
    let (x, y) = (run(&p, "main", &inputs, &w).unwrap(), run(&q, "main", &inputs, &w).unwrap());
    assert_eq!(x[0].to_f64s(), y[0].to_f64s());
}

/// Large graphs stay within seconds: a deep residual network and a twelve-layer encoder. Times are printed, not asserted.
#[test]
fn large_graphs() {
    let mut n = Net::new(5);
    let mut x = n.input(&[1, 16, 12, 12]);
    for _ in 0..40 {
        let y = conv(&mut n, x, 16, 3, 1);
        let y = batch_norm(&mut n, y);
        let y = n.op("hard_swish", &[y], a());
        let y = conv(&mut n, y, 16, 3, 16);
        let y = batch_norm(&mut n, y);
        let y = n.op("relu", &[y], a());
        let y = conv(&mut n, y, 16, 1, 1);
        let y = batch_norm(&mut n, y);
        x = n.op("add", &[x, y], a());
    }
    let (p, ..) = n.finish(&[x]);
    let (_, r) = optimize(&p, &options(Numerics::Reassociate)).unwrap();
    println!("residual: {} nodes, {:?}", p.main().nodes.len(), (r.phases, r.e_nodes, r.launches, r.bodies_tried, r.iterations, r.stopped));
    assert_eq!(r.launches, 120);
    let mut n = Net::new(6);
    let mut x = n.input(&[1, 32, 48]);
    for _ in 0..12 {
        x = attention_layer(&mut n, x, 4);
    }
    let (p, ..) = n.finish(&[x]);
    let (_, r) = optimize(&p, &options(Numerics::Reassociate)).unwrap();
    println!("encoder: {} nodes, {:?}", p.main().nodes.len(), (r.phases, r.e_nodes, r.launches, r.bodies_tried, r.iterations, r.stopped));
    assert!(r.launches <= 9 * 12);
}

/// Weights and inputs for a program of the benchmark networks.
fn data(p: &Program) -> (Vec<Tensor>, Store) {
    let inputs = p.main().inputs.iter().map(|i| tahoma_nets::tensor(&i.name, p.main().ty(i.value), 1)).collect();
    let store = tahoma_nets::weights(p).into_iter().map(|(n, t)| (n.clone(), tahoma_nets::tensor(&n, &t, 2))).collect();
    (inputs, Store(store))
}

#[test]
fn equal_layers_are_searched_once() {
    use tahoma_nets::{Size, encoder_layers};
    // Evaluated where it is small: names of weights and of nodes are each layer's own.
    let p = encoder_layers(9, Size::Reduced);
    let (inputs, store) = data(&p);
    let (q, _) = check(&p, &inputs, &store, &options(Numerics::Reassociate));
    assert_eq!(tahoma_nets::weights(&p).len(), tahoma_nets::weights(&q).len());
    let names = |p: &Program| {
        let mut all: Vec<String> = p.main().nodes.iter().flat_map(|n| n.origin.leaves().into_iter().map(|o| o.to_string())).collect();
        all.sort();
        all.dedup();
        all
    };
    let lost: Vec<String> = names(&p).into_iter().filter(|n| n.contains("layer.7") && !names(&q).contains(n)).collect();
    // What became part of a kernel is named by its call; constants and weights may have been shared.
    assert!(lost.iter().all(|n| n.contains("Constant") || n.contains("tensor")), "{lost:?}");
    let of = |n: usize| optimize(&encoder_layers(n, Size::Real), &options(Numerics::Reassociate)).unwrap();
    let ((_, few), (_, many)) = (of(12), of(96));
    assert_eq!((few.e_nodes, few.functions), (many.e_nodes, many.functions));
    let layer = (many.launches - few.launches) / 84;
    assert!(layer <= 7 && many.launches == few.launches + 84 * layer, "{} {}", few.launches, many.launches);
}
