//! Thousands of manifests with one or more lies in them: each is refused with a diagnostic or runs to an end. None panics, none asks
//! for more memory or time than its own sizes explain.

mod lies;

use lies::lie;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tahoma_core::artifact::*;
use tahoma_core::graph::OpRef;
use tahoma_core::random::Random;
use tahoma_core::{Attr, Attrs, Builder, DType, Diagnostic, Graph, Tensor, TensorType, ValueId, form, ops};
use tahoma_runtime::{Artifact, Runner, WeightBytes, device, sha256};

struct Weights(Vec<u8>);

impl WeightBytes for Weights {
    fn bytes(&self, w: &WeightRef) -> Result<Cow<'_, [u8]>, Diagnostic> {
        let (at, n) = (w.offset as usize, w.bytes as usize);
        let part = at.checked_add(n).and_then(|end| self.0.get(at..end));
        part.map(Cow::from).ok_or_else(|| Diagnostic::error("E0607", "too short"))
    }
}

fn f32s(dims: &[usize]) -> TensorType {
    TensorType::known(DType::F32, dims)
}

/// A manifest in the making: each kernel is formed from a small graph, as the compiler forms it.
#[derive(Default)]
struct Plan {
    buffers: Vec<BufferDef>,
    kernels: Vec<KernelDef>,
}

impl Plan {
    fn buffer(&mut self, ty: TensorType) -> usize {
        self.buffers.push(BufferDef { ty, alias: None });
        self.buffers.len() - 1
    }
    fn launch(&mut self, inputs: &[usize], build: impl Fn(&mut Builder, &[ValueId]) -> ValueId) -> PlanStep {
        let mut b = Builder::new("k");
        let args: Vec<ValueId> = inputs.iter().enumerate().map(|(i, &at)| b.input(&format!("x{i}"), self.buffers[at].ty.clone())).collect();
        let y = build(&mut b, &args);
        let ty = b.ty(y).clone();
        b.output("y", y);
        let name = format!("k{}", self.kernels.len());
        let spec = form::form(&b.finish(), &name).unwrap();
        let (file, mlir) = (format!("kernels/{name}.ptx"), format!("kernels/{name}.mlir"));
        self.kernels.push(KernelDef {
            name,
            file,
            sha256: String::new(),
            mlir,
            spec,
            grid: [1; 3],
            block: [32, 1, 1],
            shared_bytes: 0,
            predicted_ns: 1.0.into(),
            origin: Default::default(),
        });
        PlanStep::Launch { kernel: self.kernels.len() - 1, inputs: inputs.to_vec(), outputs: vec![self.buffer(ty)] }
    }
    fn host(&mut self, op: &str, attrs: Attrs, inputs: &[usize], ty: TensorType) -> PlanStep {
        let op = OpRef(ops::find(op).unwrap());
        PlanStep::Host { op, attrs, inputs: inputs.to_vec(), outputs: vec![self.buffer(ty)], origin: Default::default() }
    }
}

fn out(s: &PlanStep) -> usize {
    s.outputs()[0]
}

/// A convolution, a pool, a softmax, a norm into a product, a branch, a loop, recipes, text and every kind of step there is.
fn manifest() -> (Manifest, Vec<u8>) {
    let mut p = Plan::default();
    let (x, c) = (p.buffer(f32s(&[1, 2, 6, 6])), p.buffer(TensorType::known(DType::Bool, &[])));
    let (w, v) = (p.buffer(f32s(&[3, 2, 3, 3])), p.buffer(f32s(&[9, 4])));
    let data: Vec<u8> = (0..90).flat_map(|i| (i as f32 * 0.01 - 0.4).to_le_bytes()).collect();
    let weight = |name: &str, buffer, offset: usize, bytes: usize| WeightRef {
        name: name.into(),
        buffer,
        file: "./w.bin".into(),
        offset: offset as u64,
        bytes: bytes as u64,
        sha256: sha256(&data[offset..offset + bytes]),
    };
    let weights = vec![weight("w", w, 0, 216), weight("v", v, 216, 144)];
    let a = Attrs::new;
    let two = p.host("constant", a().with("value", Tensor::f32(&[], vec![2.0])), &[], f32s(&[]));
    let scaled = p.host("mul", a(), &[w, out(&two)], f32s(&[3, 2, 3, 3]));
    let trips = p.host("constant", a().with("value", Tensor::i64(&[], vec![3])), &[], TensorType::known(DType::I64, &[]));
    let zeros = p.host("constant", a().with("value", Tensor::f32(&[3], vec![0.0; 3])), &[], f32s(&[3]));
    let load = vec![two, scaled, trips, zeros];
    let conv = p.launch(&[x, out(&load[1])], |b, x| {
        let at = a().with("strides", vec![1, 1]).with("pads", vec![1, 1, 1, 1]).with("dilations", vec![1, 1]).with("groups", 1);
        b.op("conv", &[x[0], x[1]], at).unwrap()
    });
    let pool = p.launch(&[out(&conv)], |b, x| {
        let at = a().with("window", vec![3, 3]).with("strides", vec![2, 2]).with("pads", vec![1, 1, 1, 1]).with("dilations", vec![1, 1]);
        b.op("max_pool", x, at).unwrap()
    });
    let rows = p.buffer(f32s(&[3, 9]));
    p.buffers[rows].alias = Some(out(&pool));
    let soft = p.launch(&[rows], |b, x| b.op("softmax", x, a().with("axis", 1)).unwrap());
    let product = p.launch(&[out(&soft), v], |b, x| {
        let turned = b.op("matmul", &[x[0], x[1]], a()).unwrap();
        let inf = b.constant(Tensor::f32(&[], vec![f32::NEG_INFINITY]));
        let zero = b.constant(Tensor::f32(&[], vec![0.0]));
        let less = b.op("lt", &[turned, zero], a()).unwrap();
        b.op("select", &[less, inf, turned], a()).unwrap()
    });
    let chosen = p.buffer(f32s(&[3, 4]));
    let one =
        p.launch(&[out(&product)], |b, x| b.op("transpose", x, a().with("perm", vec![0, 1])).and_then(|y| b.op("exp", &[y], a())).unwrap());
    let other = p.host("neg", a(), &[out(&product)], f32s(&[3, 4]));
    let branch = |s: PlanStep| Branch { results: vec![out(&s)], steps: vec![s] };
    let choice = PlanStep::If { inputs: vec![c, out(&product)], then: branch(one), otherwise: branch(other), outputs: vec![chosen] };
    let turn = p.host("transpose", a().with("perm", vec![1, 0]), &[chosen], f32s(&[4, 3]));
    let (over, kept) = over_rows(&mut p, out(&turn), out(&load[3]));
    let (from, to) = (kept, p.buffer(f32s(&[4, 3])));
    let repeat = PlanStep::Host {
        op: OpRef(ops::find("loop").unwrap()),
        attrs: a().with("body", Attr::Func("body".into())).with("carried", 1),
        inputs: vec![out(&load[2]), c, from],
        outputs: vec![to],
        origin: Default::default(),
    };
    let m = Manifest {
        schema: SCHEMA,
        producer: "test".into(),
        model: "m".into(),
        target: "sm_90a".into(),
        numerics: Numerics::default(),
        inputs: vec![BufferPort { name: "x".into(), buffer: x }, BufferPort { name: "c".into(), buffer: c }],
        outputs: vec![BufferPort { name: "y".into(), buffer: to }, BufferPort { name: "z".into(), buffer: rows }],
        weights_base: String::new(),
        weights,
        load,
        run: vec![conv, pool, soft, product, choice, turn, over, repeat],
        buffers: p.buffers,
        kernels: p.kernels,
        functions: [("body".to_string(), body())].into(),
        vocabulary: Default::default(),
        report: Report::default(),
    };
    (m, data)
}

/// A loop of the plan over the four rows of `of`: a state that a kernel renews, another that stays one run behind, a row made on the host,
/// and a stack of what each run gave. The step and the stack.
fn over_rows(p: &mut Plan, of: usize, start: usize) -> (PlanStep, usize) {
    let [sum, old, row] = [0; 3].map(|_| p.buffer(f32s(&[3])));
    let add = p.launch(&[sum, row], |b, x| b.op("add", x, Attrs::new()).unwrap());
    let less = p.host("neg", Attrs::new(), &[out(&add)], f32s(&[3]));
    let states = vec![State { start, buffer: sum, next: out(&add) }, State { start, buffer: old, next: sum }];
    let stacks = vec![Stack { row: out(&add), reverse: false }, Stack { row: out(&less), reverse: true }];
    let [a, b, c, d] = [&[3][..], &[3], &[4, 3], &[4, 3]].map(|dims| p.buffer(f32s(dims)));
    let rows = vec![Row { of, row, reverse: true }];
    let (inputs, steps, outputs) = (vec![of, start], vec![add, less], vec![a, b, c, d]);
    (PlanStep::Loop { trips: 4, inputs, states, rows, stacks, steps, outputs }, c)
}

/// Of the loop: goes on, and keeps |value| plus a weight.
fn body() -> Graph {
    let mut b = Builder::new("body");
    b.input("i", TensorType::known(DType::I64, &[]));
    let go = b.input("go", TensorType::known(DType::Bool, &[]));
    let x = b.input("x", f32s(&[4, 3]));
    let v = b.weight("v", f32s(&[9, 4]));
    let sum = b.op("reduce_sum", &[v], Attrs::new().with("axes", vec![0, 1]).with("keepdims", false)).unwrap();
    let y = b.op("abs", &[x], Attrs::new()).and_then(|y| b.op("add", &[y, sum], Attrs::new())).unwrap();
    b.output("go", go);
    b.output("y", y);
    b.finish()
}

fn run(m: Manifest, data: &[u8]) -> Result<Vec<(String, Tensor)>, Diagnostic> {
    let inputs: Vec<(String, Tensor)> = vec![
        ("x".into(), Tensor::f32(&[1, 2, 6, 6], (0..72).map(|i| (i % 7) as f32 - 3.0).collect())),
        ("c".into(), Tensor::bool(&[], vec![true])),
    ];
    let kernels = Arc::new(vec![String::new(); m.kernels.len()]);
    let a = Artifact { manifest: Arc::new(m), kernels, weights: Arc::new(Weights(data.to_vec())), edited: vec![] };
    Ok(Runner::new(a, device::open("interp")?)?.run(&inputs)?.0)
}

#[test]
fn the_whole_manifest_runs() {
    let (m, data) = manifest();
    tahoma_runtime::artifact::check(&m).unwrap_or_else(|d| panic!("{d}"));
    let text = serde_json::to_string(&m).unwrap();
    assert_eq!(serde_json::from_str::<Manifest>(&text).unwrap(), m);
    let out = run(m, &data).unwrap_or_else(|d| panic!("{d}"));
    assert_eq!(out[0].1.shape(), [4, 3]);
}

#[test]
fn lies_are_refused_or_harmless() {
    let (m, data) = manifest();
    let whole = serde_json::to_value(&m).unwrap();
    let (mut read, mut ran) = (0, 0);
    let count: u64 = std::env::var("TAHOMA_LIES").ok().and_then(|n| n.parse().ok()).unwrap_or(4000);
    for seed in 0..count {
        let mut r = Random::new(seed);
        let mut tree = whole.clone();
        let told: Vec<String> = (0..1 + r.below(3)).map(|_| lie(&mut tree, &mut r)).collect();
        let start = Instant::now();
        let done = std::panic::catch_unwind(|| {
            let Ok(m) = serde_json::from_value::<Manifest>(tree) else { return (false, false) };
            (true, run(m, &data).is_ok())
        });
        let Ok((well_formed, finished)) = done else { panic!("seed {seed}: {told:#?}") };
        read += u64::from(well_formed);
        ran += u64::from(finished);
        assert!(start.elapsed() < Duration::from_secs(60), "seed {seed} takes {:?}: {told:#?}", start.elapsed());
    }
    // The lies reach behind the reader of JSON, and some are no lies.
    assert!(read > count / 4 && ran > count / 100, "{read} of {count} were manifests, {ran} ran");
}
