//! Every schedule through MLIR, the PTX emulator with all its checks, and against [`kernel_eval`].

mod edges;

use super::*;
use std::collections::BTreeMap;
use tahoma_core::form::form;
use tahoma_core::graph::Builder;
use tahoma_core::kernel_eval;
use tahoma_core::op::Monoid;
use tahoma_core::scalar::{Binary, Compare, Expr, Step, Unary};
use tahoma_core::{Attrs, DType, Tensor, ValueId};
use tahoma_mlir::{Chip, Effort, Session};
use tahoma_sim::ptx::{Arg, Memory, Module, Options, Stats, launch};

fn target() -> &'static TargetDef {
    TargetDef::find("sm_90a").unwrap()
}

thread_local! {
    static SESSION: Session = Session::new().unwrap();
}

fn ptx_of(k: &PtxKernel, sm: &str, effort: Effort) -> String {
    let chip = Chip::find(sm).unwrap();
    let out = SESSION.with(|s| s.emit_ptx_with(&k.mlir, chip, effort));
    out.unwrap_or_else(|e| panic!("{e}\n{}", k.mlir)).remove(0).1
}

/// Runs a kernel in the emulator.
fn emulate(spec: &KernelSpec, inputs: &[Tensor]) -> (Vec<Tensor>, Stats) {
    emulate_with(spec, inputs, Effort::Full)
}

fn emulate_with(spec: &KernelSpec, inputs: &[Tensor], effort: Effort) -> (Vec<Tensor>, Stats) {
    let k = lower(spec, target()).unwrap();
    let text = ptx_of(&k, "sm_90a", effort);
    if let Ok(dir) = std::env::var("TAHOMA_DUMP") {
        std::fs::write(format!("{dir}/{}.mlir", k.name), &k.mlir).unwrap();
        std::fs::write(format!("{dir}/{}.ptx", k.name), &text).unwrap();
    }
    let module = Module::parse(&text, k.name.as_str()).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let mut mem = Memory::new();
    let mut args = vec![];
    for t in inputs {
        let bytes = t.to_bytes();
        let p = mem.alloc("in", bytes.len() as u64).unwrap();
        mem.write(p, &bytes).unwrap();
        args.push(Arg::Ptr(p));
    }
    let mut outs = vec![];
    for t in &spec.outputs {
        let n = t.bytes().unwrap();
        let p = mem.alloc("out", n).unwrap();
        args.push(Arg::Ptr(p));
        outs.push((p, n));
    }
    let stats = launch(&module, k.name.as_str(), k.grid, k.block, k.shared_bytes, &args, &mut mem, &Options::default())
        .unwrap_or_else(|e| panic!("{e}\n{}\n{text}", k.mlir));
    let out = spec
        .outputs
        .iter()
        .zip(outs)
        .map(|(t, (p, n))| {
            let shape = t.shape.to_static().unwrap();
            Tensor::from_bytes(t.dtype, &shape, mem.read(p, n).unwrap()).unwrap()
        })
        .collect();
    (out, stats)
}

/// Bits of a mantissa.
fn eps(d: DType) -> f64 {
    match d {
        DType::F64 => 1e-14,
        DType::F16 => 1e-3,
        DType::BF16 => 8e-3,
        _ => 2e-6,
    }
}

/// Largest sum of magnitudes of a contraction: what reassociating its sum is relative to.
fn magnitude(spec: &KernelSpec, inputs: &[Tensor]) -> Option<f64> {
    let Body::Contract(c) = &spec.body else { return None };
    if !c.dtype.is_float() {
        return None;
    }
    let mut plain = spec.clone();
    let bare = ContractSpec { loads: vec![], epilogue: Expr::input(0, DType::F32), ..c.clone() };
    plain.body = Body::Contract(bare);
    let abs: Vec<Tensor> =
        inputs.iter().map(|t| Tensor::from_f64s(t.dtype(), t.shape(), &t.to_f64s().iter().map(|x| x.abs()).collect::<Vec<_>>())).collect();
    let sums = kernel_eval::eval(&plain, &abs).ok()?;
    Some(sums[0].to_f64s().iter().copied().filter(|x| x.is_finite()).fold(0.0, f64::max))
}

/// Emulated against evaluated: within a few roundings of the largest of each neighbourhood, exact for integers.
fn check(spec: &KernelSpec, inputs: &[Tensor]) -> Stats {
    let want = kernel_eval::eval(spec, inputs).unwrap_or_else(|e| panic!("{e}\n{spec:#?}"));
    let (got, stats) = emulate(spec, inputs);
    let sums = magnitude(spec, inputs);
    for (g, w) in got.iter().zip(&want) {
        let d = w.dtype();
        let (g, w) = (g.to_f64s(), w.to_f64s());
        let scale = w.iter().filter(|x| x.is_finite()).fold(0f64, |a, x| a.max(x.abs()));
        let scale = sums.unwrap_or(scale);
        for (i, (a, b)) in g.iter().zip(&w).enumerate() {
            let ok = a == b || (a.is_nan() && b.is_nan()) || (d.is_float() && (a - b).abs() <= eps(d) * (b.abs() + 0.3 * scale + 1e-3));
            assert!(ok, "element {i}: {a} but {b} in {}", spec.name);
        }
    }
    stats
}

struct Random(tahoma_core::random::Random);

impl Random {
    fn new(seed: u64) -> Random {
        Random(tahoma_core::random::Random::new(seed))
    }
    fn below(&mut self, n: u64) -> u64 {
        self.0.below(n as usize) as u64
    }
    fn tensor(&mut self, t: &TensorType) -> Tensor {
        let shape = t.shape.to_static().unwrap();
        let n: usize = shape.iter().product();
        if t.dtype.is_float() {
            let v: Vec<f64> = (0..n).map(|_| self.0.signed()).collect();
            return Tensor::from_f64s(t.dtype, &shape, &v);
        }
        let v: Vec<i64> = (0..n)
            .map(|_| {
                if t.dtype == DType::Bool {
                    self.below(2) as i64
                } else {
                    self.below(100) as i64 - if t.dtype.is_signed_int() { 50 } else { 0 }
                }
            })
            .collect();
        Tensor::i64(&shape, v).cast(t.dtype)
    }
    fn tensors(&mut self, spec: &KernelSpec) -> Vec<Tensor> {
        spec.inputs.iter().map(|t| self.tensor(t)).collect()
    }
}

/// A kernel from ops.
struct Case {
    b: Builder,
    d: DType,
}

impl Case {
    fn new(d: DType) -> Case {
        Case { b: Builder::new("k"), d }
    }
    fn input(&mut self, shape: &[usize]) -> ValueId {
        self.b.input("x", TensorType::known(self.d, shape))
    }
    fn op(&mut self, name: &str, x: &[ValueId], attrs: Attrs) -> ValueId {
        self.b.op(name, x, attrs).unwrap()
    }
    fn spec(mut self, name: &str, out: ValueId) -> KernelSpec {
        self.b.output("y", out);
        form(&self.b.finish(), name).unwrap()
    }
    fn check(self, name: &str, out: ValueId) -> Stats {
        let spec = self.spec(name, out);
        let inputs = Random::new(name.len() as u64 * 77 + 5).tensors(&spec);
        check(&spec, &inputs)
    }
}

fn no() -> Attrs {
    Attrs::new()
}

#[test]
fn maps_of_every_shape() {
    for (i, shape) in [&[7][..], &[2, 3, 4], &[33, 5], &[4, 64], &[1], &[1000]].into_iter().enumerate() {
        for d in [DType::F32, DType::F16, DType::BF16, DType::F64] {
            let mut c = Case::new(d);
            let (x, y) = (c.input(shape), c.input(&shape[shape.len() - 1..]));
            let s = c.op("add", &[x, y], no());
            let r = c.op("relu", &[s], no());
            c.check(&format!("map{i}_{d}"), r);
        }
    }
}

#[test]
fn moves_are_reads() {
    let mut c = Case::new(DType::F32);
    let x = c.input(&[3, 8, 5]);
    let t = c.op("transpose", &[x], no().with("perm", vec![2, 0, 1]));
    let e = c.op("neg", &[t], no());
    c.check("transposed", e);
    let mut c = Case::new(DType::F32);
    let (x, y) = (c.input(&[4, 6]), c.input(&[4, 3]));
    let p = c.op("concat", &[x, y], no().with("axis", 1));
    c.check("concat", p);
    let mut c = Case::new(DType::F32);
    let x = c.input(&[4, 6]);
    let p = c.op("pad", &[x], no().with("low", vec![1, 2]).with("high", vec![0, 3]).with("interior", vec![0, 0]).with("value", 1.5));
    c.check("pad", p);
}

#[test]
fn softmax_and_norms_of_every_length() {
    for (rows, len) in [(3usize, 5usize), (40, 33), (6, 80), (5, 128), (7, 384), (4, 1000), (3, 3000), (2, 4096)] {
        let mut c = Case::new(DType::F32);
        let x = c.input(&[rows, len]);
        let s = c.op("softmax", &[x], no().with("axis", 1));
        c.check(&format!("softmax{len}"), s);
        let mut c = Case::new(DType::F32);
        let (x, g, b) = (c.input(&[rows, len]), c.input(&[len]), c.input(&[len]));
        let s = c.op("layer_norm", &[x, g, b], no().with("axis", 1).with("epsilon", 1e-5));
        c.check(&format!("norm{len}"), s);
    }
    for d in [DType::F16, DType::BF16, DType::F64] {
        let mut c = Case::new(d);
        let x = c.input(&[5, 200]);
        let s = c.op("softmax", &[x], no().with("axis", 1));
        c.check(&format!("softmax_{d}"), s);
    }
}

#[test]
fn reductions_along_any_axis_of_any_type() {
    for d in [DType::F32, DType::F64, DType::F16, DType::I64, DType::I32, DType::U8, DType::I8] {
        for (axis, shape) in [(0, &[300, 40][..]), (1, &[20, 300]), (1, &[2, 3000]), (1, &[3, 7, 300])] {
            for op in ["reduce_sum", "reduce_max", "reduce_min"] {
                let mut c = Case::new(d);
                let x = c.input(shape);
                let r = c.op(op, &[x], no().with("axes", vec![axis as i64]).with("keepdims", false));
                c.check(&format!("{op}_{d}_{axis}_{}", shape.len()), r);
            }
        }
    }
    let mut c = Case::new(DType::F32);
    let x = c.input(&[2, 3, 17, 19]);
    let r = c.op("reduce_mean", &[x], no().with("axes", vec![2, 3]).with("keepdims", true));
    c.check("pooled", r);
}

#[test]
fn windows_and_depthwise_convolutions() {
    for (op, k) in [("max_pool", 3), ("sum_pool", 2), ("max_pool", 7)] {
        let mut c = Case::new(DType::F32);
        let x = c.input(&[1, 5, 20, 21]);
        let a = no().with("window", vec![k, k]).with("strides", vec![2, 2]).with("pads", vec![1, 1, 1, 1]).with("dilations", vec![1, 1]);
        let p = c.op(op, &[x], a);
        c.check(&format!("{op}{k}"), p);
    }
    let mut c = Case::new(DType::F32);
    let (x, w) = (c.input(&[1, 8, 16, 20]), c.input(&[8, 1, 5, 5]));
    let y = c.op("conv", &[x, w], conv([1, 1], [2, 2], 8));
    let h = c.op("hard_swish", &[y], no());
    c.check("depthwise", h);
}

fn conv(strides: [i64; 2], pads: [i64; 2], groups: i64) -> Attrs {
    no().with("strides", strides.to_vec())
        .with("pads", vec![pads[0], pads[1], pads[0], pads[1]])
        .with("dilations", vec![1, 1])
        .with("groups", groups)
}

#[test]
fn matmuls_of_every_size() {
    for d in [DType::F32, DType::F16, DType::BF16] {
        for (m, n, k) in [
            (16, 16, 16),
            (64, 64, 64),
            (33, 70, 50),
            (128, 96, 31),
            (65, 64, 128),
            (12, 200, 300),
            (200, 10, 64),
            (1, 100, 300),
            (300, 2, 40),
        ] {
            let mut c = Case::new(d);
            let (a, b) = (c.input(&[m, k]), c.input(&[k, n]));
            let y = c.op("matmul", &[a, b], no());
            c.check(&format!("matmul_{d}_{m}_{n}_{k}"), y);
        }
    }
    for d in [DType::F64, DType::I32, DType::I64, DType::U8] {
        let mut c = Case::new(d);
        let (a, b) = (c.input(&[20, 30]), c.input(&[30, 24]));
        let y = c.op("matmul", &[a, b], no());
        c.check(&format!("matmul_{d}"), y);
    }
}

#[test]
fn attention_products_in_batches() {
    for d in [DType::F32, DType::F16] {
        let mut c = Case::new(d);
        let (q, k, s) = (c.input(&[2, 3, 32, 32]), c.input(&[2, 3, 40, 32]), c.input(&[2, 1, 1, 40]));
        let t = c.op("transpose", &[k], no().with("perm", vec![0, 1, 3, 2]));
        let y = c.op("matmul", &[q, t], no());
        let y = c.op("add", &[y, s], no());
        c.check(&format!("scores_{d}"), y);
        // (batch, position, head·width) without a copy.
        let mut c = Case::new(d);
        let (p, v) = (c.input(&[2, 3, 32, 40]), c.input(&[2, 3, 40, 16]));
        let y = c.op("matmul", &[p, v], no());
        let y = c.op("transpose", &[y], no().with("perm", vec![0, 2, 1, 3]));
        let y = c.op("reshape", &[y], no().with("shape", vec![2, 32, 48]));
        c.check(&format!("context_{d}"), y);
    }
}

#[test]
fn convolutions_are_contractions() {
    for d in [DType::F32, DType::F16] {
        for (name, cin, cout, h, w, k, s, p, g) in [
            ("pointwise", 24, 40, 9, 10, 1, 1, 0, 1),
            ("first", 3, 16, 21, 20, 3, 2, 1, 1),
            ("three", 32, 20, 11, 12, 3, 1, 1, 1),
            ("wide", 20, 20, 8, 8, 3, 2, 1, 1),
            ("grouped", 32, 32, 8, 9, 3, 1, 1, 2),
        ] {
            let mut c = Case::new(d);
            let (x, f) = (c.input(&[2, cin, h, w]), c.input(&[cout, cin / g, k, k]));
            let b = c.input(&[cout, 1, 1]);
            let y = c.op("conv", &[x, f], conv([s, s], [p, p], g as i64));
            let y = c.op("add", &[y, b], no());
            let y = c.op("relu", &[y], no());
            c.check(&format!("conv_{name}_{d}"), y);
        }
    }
}

#[test]
fn infinities_pass_through_the_split() {
    let mut c = Case::new(DType::F32);
    let (a, b) = (c.input(&[16, 16]), c.input(&[16, 16]));
    let y = c.op("matmul", &[a, b], no());
    let spec = c.spec("infinite", y);
    let mut x = Random::new(3).tensors(&spec);
    let mut v = x[0].to_f64s();
    v[5] = f64::INFINITY;
    v[100] = f64::NAN;
    x[0] = Tensor::from_f64s(DType::F32, &[16, 16], &v);
    check(&spec, &x);
}

/// A map of one expression over a list of numbers.
fn map_spec(name: &str, e: Expr, inputs: &[(DType, usize)]) -> KernelSpec {
    let n = inputs[0].1;
    let access = |buffer| Access { buffer, offset: 0, strides: vec![1], guards: vec![], fill: Default::default() };
    let out = e.dtype().unwrap();
    KernelSpec {
        name: name.into(),
        inputs: inputs.iter().map(|(d, n)| TensorType::known(*d, &[*n])).collect(),
        outputs: vec![TensorType::known(out, &[n])],
        body: Body::Rows(Rows {
            outer: vec![n as u64],
            inner: vec![],
            loads: inputs.iter().enumerate().map(|(i, (d, _))| Load { access: access(i), dtype: *d, per_row: false }).collect(),
            steps: vec![RowStep::Map { expr: e, args: (0..inputs.len()).collect() }],
            stores: vec![Store { access: access(0), value: inputs.len() }],
        }),
    }
}

/// Most ulps of f32 (or f64) between the kernel and the exact function over dense samples.
fn worst_ulps(u: Unary, d: DType, lo: f64, hi: f64) -> f64 {
    let n = 20_000usize;
    let xs: Vec<f64> = (0..n).map(|i| lo + (hi - lo) * (i as f64 + 0.37) / n as f64).collect();
    let x = Tensor::from_f64s(d, &[n], &xs);
    let mut e = Expr::input(0, d);
    e.push(Step::Unary(u, 0), d);
    let spec = map_spec(u.name(), e, &[(d, n)]);
    let (got, _) = emulate(&spec, std::slice::from_ref(&x));
    let (mut worst, mut at) = (0f64, 0f64);
    for (x, g) in x.to_f64s().iter().zip(got[0].to_f64s()) {
        let w = exact(u, *x);
        let ulp = match d {
            DType::F64 => f64::from_bits(w.abs().to_bits() + 1) - w.abs(),
            _ => f64::from(f32::from_bits((w as f32).abs().to_bits() + 1)) - (w as f32).abs() as f64,
        };
        if w.is_nan() && g.is_nan() {
            continue;
        }
        let err = (g - w).abs() / ulp.max(if d == DType::F64 { 5e-324 } else { 1.5e-45 });
        assert!(err.is_finite() || (g as f32 == w as f32), "{} {d} at {x:e}: {g} but {w}", u.name());
        if err.is_finite() && err > worst {
            worst = err;
            at = *x;
        }
    }
    println!("{:8} {d} [{lo}, {hi}] {worst:.2} ulp at {at:e}", u.name());
    worst
}

/// The judge of accuracy, where f64's own library functions lose bits.
fn exact(u: Unary, x: f64) -> f64 {
    match u {
        Unary::Atanh => x.signum() * 0.5 * (2.0 * x.abs() / (1.0 - x.abs())).ln_1p(),
        Unary::Acosh => ((x - 1.0) + ((x - 1.0) * (x + 1.0)).sqrt()).ln_1p(),
        _ => match kernel_eval::unary(u, kernel_eval::Value::F(x), DType::F64) {
            kernel_eval::Value::F(w) => w,
            kernel_eval::Value::I(w) => w as f64,
        },
    }
}

/// Function, range, most ulps allowed for f32 and for f64.
const ACCURACY: &[(Unary, f64, f64, f64, f64)] = &[
    (Unary::Exp, -87.0, 88.0, 2.0, 2.0),
    (Unary::Exp, -1.0, 1.0, 2.0, 2.0),
    (Unary::Log, 1e-3, 10.0, 2.0, 2.0),
    (Unary::Log, 0.9, 1.1, 2.0, 2.0),
    (Unary::Log, 1.0, 1e30, 2.0, 2.0),
    (Unary::Sin, -8.0, 8.0, 3.0, 3.0),
    (Unary::Cos, -8.0, 8.0, 3.0, 3.0),
    (Unary::Sin, -1e5, 1e5, 3.0, 3.0),
    (Unary::Cos, 1e8, 1e8 + 1e6, 3.0, 3.0),
    (Unary::Tan, -1.5, 1.5, 4.0, 4.0),
    (Unary::Asin, -1.0, 1.0, 4.0, 4.0),
    (Unary::Acos, -1.0, 1.0, 4.0, 4.0),
    (Unary::Atan, -10.0, 10.0, 3.0, 3.0),
    (Unary::Sinh, -10.0, 10.0, 4.0, 4.0),
    (Unary::Cosh, -10.0, 10.0, 4.0, 4.0),
    (Unary::Tanh, -10.0, 10.0, 4.0, 4.0),
    (Unary::Tanh, -0.1, 0.1, 4.0, 4.0),
    (Unary::Asinh, -20.0, 20.0, 4.0, 4.0),
    (Unary::Acosh, 1.0, 20.0, 4.0, 4.0),
    (Unary::Atanh, -0.999, 0.999, 4.0, 4.0),
    (Unary::Erf, -2.0, 2.0, 3.0, 16.0),
    (Unary::Erf, -4.0, 4.0, 3.0, 80.0),
    (Unary::Sigmoid, -20.0, 20.0, 4.0, 4.0),
    (Unary::Rsqrt, 1e-3, 1e3, 2.0, 2.0),
];

#[test]
fn accuracy() {
    let mut bad = vec![];
    for &(u, lo, hi, most32, most64) in ACCURACY {
        for (d, most) in [(DType::F32, most32), (DType::F64, most64)] {
            let w = worst_ulps(u, d, lo, hi);
            if w > most {
                bad.push(format!("{} {d} [{lo}, {hi}]: {w:.2} ulp, {most} allowed", u.name()));
            }
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn functions_at_their_edges() {
    let specials = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -0.5,
        2.5,
        3.5,
        1e-40,
        1e-10,
        100.0,
        -100.0,
        1e5,
        88.8,
        -104.5,
        3e38,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
    ];
    for d in [DType::F32, DType::F64, DType::F16, DType::BF16] {
        let n = specials.len();
        let x = Tensor::from_f64s(d, &[n], &specials);
        for &u in Unary::ALL {
            if matches!(u, Unary::Not | Unary::BitNot) {
                continue;
            }
            let out = if matches!(u, Unary::IsNan | Unary::IsInf) { DType::Bool } else { d };
            let mut e = Expr::input(0, d);
            e.push(Step::Unary(u, 0), out);
            let spec = map_spec(&format!("{}_{d}", u.name()), e, &[(d, n)]);
            let want = kernel_eval::eval(&spec, std::slice::from_ref(&x)).unwrap();
            let (got, _) = emulate(&spec, std::slice::from_ref(&x));
            for ((x, g), w) in x.to_f64s().iter().zip(got[0].to_f64s()).zip(want[0].to_f64s()) {
                let huge_angle = matches!(u, Unary::Sin | Unary::Cos | Unary::Tan) && x.abs() > 1e15;
                let close = (g - w).abs() <= 4.0 * eps(d) * w.abs().max(1e-38) + if huge_angle { 3.0 } else { 0.0 };
                assert!(
                    g == w || close || (g.is_nan() && w.is_nan()) || (huge_angle && u == Unary::Tan),
                    "{} of {x:e} ({d}): {g:e} but {w:e}",
                    u.name()
                );
            }
        }
    }
}

#[test]
fn binaries_of_every_type() {
    let mut r = Random::new(11);
    for d in [DType::F32, DType::F64, DType::F16, DType::I64, DType::I32, DType::I8, DType::U8, DType::U32, DType::Bool] {
        let n = 257;
        for &b in Binary::ALL {
            let logical = matches!(b, Binary::And | Binary::Or | Binary::Xor);
            let bits = matches!(b, Binary::BitAnd | Binary::BitOr | Binary::BitXor | Binary::Shl | Binary::Shr);
            if (d == DType::Bool) != logical || (bits && d.is_float()) {
                continue;
            }
            let t = TensorType::known(d, &[n]);
            let (x, mut y) = (r.tensor(&t), r.tensor(&t));
            if matches!(b, Binary::Shl | Binary::Shr | Binary::Pow) && !d.is_float() {
                y = Tensor::i64(&[n], (0..n as i64).map(|i| i % 7).collect()).cast(d);
            }
            let mut e = Expr::input(0, d);
            let q = e.push(Step::Input(1), d);
            e.push(Step::Binary(b, 0, q), d);
            check(&map_spec(&format!("{}_{d}", b.name()), e, &[(d, n), (d, n)]), &[x, y]);
        }
        for &c in Compare::ALL {
            let t = TensorType::known(d, &[n]);
            let (x, y) = (r.tensor(&t), r.tensor(&t));
            let mut e = Expr::input(0, d);
            let q = e.push(Step::Input(1), d);
            e.push(Step::Compare(c, 0, q), DType::Bool);
            check(&map_spec(&format!("{}_{d}", c.name()), e, &[(d, n), (d, n)]), &[x, y]);
        }
    }
}

#[test]
fn remainders_are_exact_for_any_quotient() {
    for d in [DType::F32, DType::F64] {
        let xs = [1e30, 5.3, -5.3, 5.3, -5.3, 1e20, 7.0, 0.0, f64::INFINITY, 3.0, 1e-30];
        let ys = [0.3, 2.0, 2.0, -2.0, -2.0, 7.1, f64::INFINITY, 2.0, 2.0, 0.0, 1e30];
        for b in [Binary::Rem, Binary::Mod] {
            let mut e = Expr::input(0, d);
            let q = e.push(Step::Input(1), d);
            e.push(Step::Binary(b, 0, q), d);
            let n = xs.len();
            let spec = map_spec(b.name(), e, &[(d, n), (d, n)]);
            let x = [Tensor::from_f64s(d, &[n], &xs), Tensor::from_f64s(d, &[n], &ys)];
            let want = kernel_eval::eval(&spec, &x).unwrap();
            let (got, _) = emulate(&spec, &x);
            for (i, (g, w)) in got[0].to_f64s().iter().zip(want[0].to_f64s()).enumerate() {
                // Python's sign rule with an infinite divisor adds it; both sides follow the op table.
                assert!(*g == w || (g.is_nan() && w.is_nan()), "{} {d} {i}: {g:e} but {w:e}", b.name());
            }
        }
    }
}

#[test]
fn casts_between_all_types() {
    let all = [
        DType::F64,
        DType::F32,
        DType::F16,
        DType::BF16,
        DType::I64,
        DType::I32,
        DType::I16,
        DType::I8,
        DType::U64,
        DType::U32,
        DType::U16,
        DType::U8,
        DType::Bool,
    ];
    let mut r = Random::new(5);
    for from in all {
        for to in all {
            let x = r.tensor(&TensorType::known(from, &[65]));
            let mut e = Expr::input(0, from);
            if from != to {
                e.push(Step::Cast(0), to);
            }
            check(&map_spec(&format!("{from}_to_{to}"), e, &[(from, 65)]), &[x]);
        }
    }
}

/// Random rows: extents, strides, guards, steps.
#[test]
fn random_rows() {
    let mut r = Random::new(2026);
    for case in 0..60 {
        let extents = |r: &mut Random, n: u64, top: u64| (0..n).map(|_| 1 + r.below(top)).collect::<Vec<u64>>();
        let (no, ni) = (1 + r.below(3), r.below(3));
        let long = r.below(3) == 0;
        let (outer, inner) = (extents(&mut r, no, 7), extents(&mut r, ni, if long { 60 } else { 6 }));
        let all = [&outer[..], &inner].concat();
        let mut inputs = vec![];
        let mut loads = vec![];
        for b in 0..1 + r.below(3) as usize {
            let per_row = r.below(4) == 0;
            let over: &[u64] = if per_row { &outer } else { &all };
            let mut strides = vec![0i64; over.len()];
            let mut step = 1i64;
            let mut order: Vec<usize> = (0..over.len()).collect();
            for i in (1..order.len()).rev() {
                if r.below(3) == 0 {
                    order.swap(i, r.below(i as u64 + 1) as usize);
                }
            }
            for &d in order.iter().rev() {
                if r.below(5) > 0 {
                    strides[d] = step;
                    step *= over[d] as i64;
                }
            }
            let mut guards = vec![];
            let mut offset = 0;
            if r.below(3) == 0 {
                let d = r.below(over.len() as u64) as usize;
                let mut coeffs = vec![0; over.len()];
                coeffs[d] = 1;
                let shift = 1.min(over[d] as i64 - 1);
                guards.push(Guard { offset: -shift, coeffs, extent: (over[d] as i64 - shift).max(1) });
                offset = -shift * strides[d];
            }
            inputs.push(TensorType::known(DType::F32, &[step as usize]));
            loads.push(Load { access: Access { buffer: b, offset, strides, guards, fill: 0.25.into() }, dtype: DType::F32, per_row });
        }
        let mut steps: Vec<RowStep> = vec![];
        let n = loads.len();
        for s in 0..2 + r.below(4) as usize {
            let of = |r: &mut Random| r.below((n + s) as u64) as usize;
            if s % 2 == 1 {
                let m = [Monoid::Sum, Monoid::Max, Monoid::Min][r.below(3) as usize];
                steps.push(RowStep::Reduce { monoid: m, arg: of(&mut r), dtype: DType::F32 });
            } else {
                let mut e = Expr::input(0, DType::F32);
                let q = e.push(Step::Input(1), DType::F32);
                e.push(Step::Binary([Binary::Add, Binary::Sub, Binary::Mul][r.below(3) as usize], 0, q), DType::F32);
                steps.push(RowStep::Map { expr: e, args: vec![of(&mut r), of(&mut r)] });
            }
        }
        // A row value is written at each of its points, a scalar once.
        let mut row: Vec<bool> = loads.iter().map(|l| !l.per_row).collect();
        for s in &steps {
            row.push(match s {
                RowStep::Map { args, .. } => args.iter().any(|&a| row[a]),
                RowStep::Reduce { .. } => false,
            });
        }
        let value = n + steps.len() - 1;
        let over: &[u64] = if row[value] { &all } else { &outer };
        let mut strides = vec![0i64; over.len()];
        let mut step = 1i64;
        for d in (0..over.len()).rev() {
            strides[d] = step;
            step *= over[d] as i64;
        }
        let store = Access { buffer: 0, offset: 0, strides, guards: vec![], fill: Default::default() };
        let spec = KernelSpec {
            name: format!("rows{case}"),
            inputs,
            outputs: vec![TensorType::known(DType::F32, &[step as usize])],
            body: Body::Rows(Rows { outer, inner, loads, steps, stores: vec![Store { access: store, value }] }),
        };
        let x = r.tensors(&spec);
        check(&spec, &x);
    }
}

/// Kernels of each schedule, for what only a few are tried on.
fn representatives() -> BTreeMap<&'static str, KernelSpec> {
    let mut out = BTreeMap::new();
    let mut c = Case::new(DType::F32);
    let (x, y) = (c.input(&[64, 64]), c.input(&[64]));
    let s = c.op("add", &[x, y], no());
    let r = c.op("gelu", &[s], no());
    out.insert("map", c.spec("map", r));
    let mut c = Case::new(DType::BF16);
    let x = c.input(&[64, 384]);
    let s = c.op("softmax", &[x], no().with("axis", 1));
    out.insert("softmax", c.spec("softmax", s));
    for d in [DType::F32, DType::F16, DType::BF16] {
        let mut c = Case::new(d);
        let (a, b) = (c.input(&[100, 96]), c.input(&[96, 130]));
        let m = c.op("matmul", &[a, b], no());
        let name = match d {
            DType::F32 => "matmul_f32",
            DType::F16 => "matmul_f16",
            _ => "matmul_bf16",
        };
        out.insert(name, c.spec(name, m));
    }
    let mut c = Case::new(DType::F32);
    let (x, w) = (c.input(&[1, 32, 20, 20]), c.input(&[48, 32, 3, 3]));
    let y = c.op("conv", &[x, w], conv([1, 1], [1, 1], 1));
    let y = c.op("hard_swish", &[y], no());
    out.insert("conv", c.spec("conv", y));
    out
}

/// What a CPU pays to emulate the tensor-core schedule: instructions of a warp per mma.
#[test]
fn few_instructions_per_mma() {
    for (name, spec) in representatives().into_iter().filter(|s| matches!(s.1.body, Body::Contract(_))) {
        let x = Random::new(1).tensors(&spec);
        let s = check(&spec, &x);
        let other = s.alu + s.control + s.global + s.shared + s.other + s.sync;
        println!("{name}: {:.1} instructions per mma, {} mma", other as f64 / s.mma as f64, s.mma);
        // f32 does three mmas per product; set-up weighs on these small ones.
        let most = if spec.inputs[0].dtype == DType::F32 { 12 } else { 24 };
        assert!(other < most * s.mma, "{name}: {other} for {}", s.mma);
    }
}

/// With TAHOMA_PTXAS set to the assembler's path, every chip's text is assembled.
#[test]
fn ptxas_accepts_every_chip() {
    let Ok(ptxas) = std::env::var("TAHOMA_PTXAS") else {
        eprintln!("TAHOMA_PTXAS is not set: nothing is assembled");
        return;
    };
    let dir = std::env::temp_dir().join(format!("tahoma-ptxas-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    for t in crate::target::TARGETS.iter().filter(|t| t.kind == crate::target::TargetKind::Ptx) {
        for (name, spec) in representatives() {
            let effort = if name == "conv" { Effort::Least } else { Effort::Full };
            let text = ptx_of(&lower(&spec, t).unwrap(), t.name, effort);
            let file = dir.join(format!("{name}.ptx"));
            std::fs::write(&file, &text).unwrap();
            let out = std::process::Command::new(&ptxas)
                .arg(format!("--gpu-name={}", t.name))
                .arg("-o")
                .arg(dir.join("out.cubin"))
                .arg(&file)
                .output()
                .unwrap();
            assert!(out.status.success(), "{name} for {}: {}", t.name, String::from_utf8_lossy(&out.stderr));
        }
    }
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn sub_byte_types_are_refused_by_code() {
    let spec = map_spec("f", Expr::input(0, DType::F8E4M3FN), &[(DType::F8E4M3FN, 4)]);
    let e = lower(&spec, target()).unwrap_err();
    assert_eq!(e.code, "E0502");
}

/// A kernel that LLVM leaves to `ptxas` makes the same bits.
#[test]
fn what_llvm_does_not_optimise_is_the_same() {
    for (name, spec) in representatives() {
        let x = Random::new(7).tensors(&spec);
        let bits = |effort| emulate_with(&spec, &x, effort).0.iter().map(Tensor::to_bytes).collect::<Vec<_>>();
        assert_eq!(bits(Effort::Least), bits(Effort::Full), "{name}");
    }
}

#[test]
fn norms_and_attentions_are_one_kernel() {
    for c in crate::fused::cases().into_iter().chain(crate::fused::quantised()) {
        let spec = form(&c.graph, &c.name).unwrap_or_else(|e| panic!("{}: {e}", c.name));
        assert!(matches!(spec.body, Body::Contract(_)));
        let inputs = Random::new(c.name.len() as u64).tensors(&spec);
        check(&spec, &inputs);
    }
}

#[test]
fn routing_is_one_kernel() {
    for c in crate::fused::searches() {
        let spec = form(&c.graph, &c.name).unwrap_or_else(|e| panic!("{}: {e}", c.name));
        let inputs = Random::new(c.name.len() as u64).tensors(&spec);
        check(&spec, &inputs);
    }
}

#[test]
fn many_parts_and_many_outputs_are_one_kernel() {
    for c in crate::fused::wide() {
        let spec = form(&c.graph, &c.name).unwrap_or_else(|e| panic!("{}: {e}", c.name));
        let inputs = Random::new(c.name.len() as u64).tensors(&spec);
        check(&spec, &inputs);
    }
}
