//! TENSAT's seven networks under its kind of cost: each op is a library call on a T4, priced by itself, and their sum is minimised.
//!
//! What the cost model assumes, after TASO (Jia et al. 2019) and TENSAT (Yang et al. 2021), who measure cuDNN and cuBLAS calls:
//!
//! - A call takes 5 µs and the longer of its arithmetic (8.1 Tflop/s f32, the T4's peak) and its traffic (320 GB/s, of which 80 % is had).
//! - A contraction runs in tiles of 32 outputs by 64 on 40 multiprocessors, whole tiles each; a sum of `k` terms has the efficiency
//!   `k / (k + 64)`: filling and draining a tile's pipeline takes as long as 64 terms. Few tiles leave multiprocessors idle, down to
//!   an eighth of the machine (split sums).
//! - A 3×3 convolution of stride 1 takes the better of that and Winograd's F(2×2, 3×3), as cuDNN's search does: 16 products in place of 36
//!   for four outputs, 32 operations for each tile and input channel and 24 for each output channel around them, weights of 16 numbers
//!   in place of 9 (Lavin and Gray 2016, section 4.1).
//! - Pooling is one call, with its division by the size of the window.
//! - A convolution or matmul may add a bias per channel and apply relu, sigmoid or tanh. Nothing else is fused.
//! - Slices are free (TASO: "We assume split cost is zero"), reshapes too, transposes and concats copy. What weights alone give is free.
//!
//! Batch norms are left out of the networks, as in TASO's. BERT is the one of both papers: eight layers of projections and attention
//! without softmax. TENSAT's ResNeXt and its file of Inception have their relus in the convolutions from the start, its files of VGG and
//! SqueezeNet have ops of their own for them; both starting points are shown.

use std::time::Instant;
use tahoma_core::kernel::{Access, Body, ContractSpec, KernelSpec, RowStep};
use tahoma_core::op::{Contract, Kind, Move, OpDef};
use tahoma_core::{Attrs, Builder, DType, Program, TensorType, ValueId};
use tahoma_eqsat::{Options, TargetCost, optimize};
use tahoma_nets::{Size, find};

const CALL_NS: f64 = 5_000.0;
const FLOPS_PER_NS: f64 = 8_100.0;
const BYTES_PER_NS: f64 = 0.8 * 320.0;
const PROCESSORS: f64 = 40.0;
const PIPELINE: f64 = 64.0;

/// Library calls, with activations inside contractions or not.
struct Library {
    activations: bool,
}

fn call(arithmetic: f64, bytes: f64) -> f64 {
    CALL_NS + arithmetic.max(bytes / BYTES_PER_NS)
}

/// Arithmetic of `b` products of m×k by k×n.
fn tiles(b: f64, m: f64, n: f64, k: f64) -> f64 {
    let count = b * (m / 32.0).ceil() * (n / 64.0).ceil();
    let busy = (count / PROCESSORS).clamp(1.0 / 8.0, 1.0);
    count * 32.0 * 64.0 * 2.0 * (k + PIPELINE) / (FLOPS_PER_NS * busy)
}

/// Whether `b` walks an image by windows of 3×3 at every place.
fn windows(c: &ContractSpec, b: &Access) -> bool {
    let (n, k) = (c.batch.len() + c.n.len(), c.k.len());
    let [.., 3, 3] = c.k[..] else { return false };
    let strides = &b.strides;
    c.batch.is_empty() && c.n.len() >= 2 && strides.len() == n + k && strides[n - 2..n] == strides[n + k - 2..]
}

/// Arithmetic of a 3×3 convolution by F(2×2, 3×3).
fn winograd(m: f64, n: f64, k: f64) -> f64 {
    let (places, channels) = (n / 4.0, k / 9.0);
    let products = tiles(16.0, m.min(places), m.max(places), channels);
    products + places * (32.0 * channels + 24.0 * m) / FLOPS_PER_NS
}

/// Whether loops of these extents, outer ones first, walk a whole matrix (or a batch of them) as it lies in memory: no transpose is hidden
/// in the read. Images are read by windows, in no such order.
fn in_place(a: &Access, extents: &[&[u64]], inner_first: bool, buffer: &TensorType) -> bool {
    if buffer.rank() == 4 {
        return true;
    }
    let mut starts = vec![0];
    extents.iter().for_each(|e| starts.push(starts.last().unwrap_or(&0) + e.len()));
    let mut order: Vec<usize> = (0..a.strides.len()).collect();
    if inner_first {
        order[starts[1]..].rotate_left(extents[1].len());
    }
    let all: Vec<u64> = extents.iter().flat_map(|e| e.iter().copied()).collect();
    let used: Vec<(i64, u64)> = order.iter().map(|&i| (a.strides[i], all[i])).filter(|u| u.0 != 0 && u.1 > 1).collect();
    let mut expect = 1;
    used.iter().rev().all(|&(stride, n)| {
        let fits = stride == expect;
        expect *= n as i64;
        fits
    })
}

/// One value per channel, stored as such: varies along a single loop, and is no result of another product.
fn per_channel(a: &Access, shape: &TensorType) -> bool {
    let elements = shape.shape.elements();
    let first = shape.shape.0.first().and_then(|d| d.known());
    a.strides.iter().filter(|&&s| s != 0).count() <= 1 && elements == first
}

impl TargetCost for Library {
    fn kernel_ns(&self, spec: &KernelSpec) -> Option<f64> {
        let c = match &spec.body {
            Body::Contract(c) => c,
            // An average pooling.
            Body::Rows(r) if matches!(r.steps.as_slice(), [RowStep::Reduce { .. }] | [RowStep::Reduce { .. }, RowStep::Map { .. }]) => {
                let windows = r.loads.len() == 1 && r.inner.len() == 2 && r.inner.iter().product::<u64>() <= 49;
                return (windows && spec.outputs[0].rank() == 4).then(|| call(0.0, spec.bytes() as f64));
            }
            // One map by itself.
            Body::Rows(r) => {
                let [RowStep::Map { expr, .. }] = r.steps.as_slice() else { return None };
                let whole = r
                    .loads
                    .iter()
                    .all(|l| l.access.guards.is_empty() && l.access.strides.iter().filter(|&&s| s != 0).is_sorted_by(|a, b| a >= b));
                return (whole && expr.flops() <= 1).then(|| call(0.0, spec.bytes() as f64));
            }
        };
        let product = |v: &[u64]| v.iter().product::<u64>() as f64;
        let plain = c.b.len() == 1 && c.a.product.is_none() && c.b[0].product.is_none();
        let (x, y) = (c.a.plain()?, c.b[0].plain()?);
        let read = in_place(x, &[&c.batch, &c.m, &c.k], false, spec.inputs.get(x.buffer)?)
            && in_place(y, &[&c.batch, &c.n, &c.k], true, spec.inputs.get(y.buffer)?);
        let bias = c.loads.len() <= 1 && c.loads.iter().all(|l| per_channel(&l.access, &spec.inputs[l.access.buffer]));
        // The bias is one operation; an activation is one, or the few that spell it.
        let rest = c.epilogue.flops().saturating_sub(c.loads.len() as u64);
        let most = if self.activations { 4 } else { 0 };
        (plain && read && bias && rest <= most).then(|| {
            let (m, n) = (product(&c.m), product(&c.n));
            let (k, bytes) = (product(&c.k), spec.bytes() as f64);
            let direct = call(tiles(product(&c.batch), m.min(n), m.max(n), k), bytes);
            if windows(c, y) { direct.min(call(winograd(m, n, k), bytes + 4.0 * m * k * 7.0 / 9.0)) } else { direct }
        })
    }
    fn boundary_ns(&self) -> f64 {
        // Calls of a library have it in them.
        0.0
    }
    fn host_ns(&self, op: &OpDef, operands: &[TensorType], results: &[TensorType]) -> f64 {
        let bytes = |t: &[TensorType]| t.iter().map(|t| t.bytes().unwrap_or(0)).sum::<u64>() as f64;
        let traffic = bytes(operands) + bytes(results);
        match op.kind {
            Kind::Move(Move::Reshape | Move::Slice | Move::Broadcast) => 0.0,
            // A depthwise convolution is its own kernel, bound by memory; other contractions come as kernels.
            Kind::Contract(Contract::Conv) if operands[1].shape.0.get(1).and_then(|d| d.known()) == Some(1) => call(0.0, traffic),
            Kind::Contract(_) => 1e9,
            _ => call(0.0, traffic),
        }
    }
}

/// A network without its batch norms, and NasNet as TASO and TENSAT build it (`examples/nasnet_a.py`, `src/nasneta.rs`): relus behind the
/// squeezing convolutions of a cell and none before its separable ones, where the paper has one before each, and 3×3 kernels in all
/// separable convolutions of its normal cells, where the paper has two of 5×5.
fn without_norms(p: &Program, taso_nasnet: bool) -> Result<Program, Box<dyn std::error::Error>> {
    let g = p.main();
    let mut b = Builder::new(Program::MAIN);
    let mut map: Vec<Option<ValueId>> = vec![None; g.types.len()];
    let small = |place: &str| place.contains(".normal.") && place.contains("depthwise");
    for i in &g.inputs {
        map[i.value.index()] = Some(b.input(&i.name, g.ty(i.value).clone()));
    }
    for n in &g.nodes {
        b.set_origin(n.origin.clone());
        let x: Vec<ValueId> = n.operands.iter().filter_map(|v| map[v.index()]).collect();
        let place = n.origin.to_string();
        let squeezes = ["/cur/", "/prev/"].iter().any(|p| place.contains(p));
        let y = match n.op.name {
            "batch_norm" => vec![x[0]],
            "relu" if taso_nasnet && (squeezes || place.contains(".left/") || place.contains(".right/")) => vec![x[0]],
            "conv" if taso_nasnet && squeezes => {
                let y = b.emit1(n.op.0, &x, n.attrs.clone()).map_err(|e| e.message)?;
                vec![b.op("relu", &[y], Attrs::new()).map_err(|e| e.message)?]
            }
            "weight" if taso_nasnet && small(&place) => {
                let ty = g.ty(n.results[0]);
                let mut shape = ty.shape.to_static().ok_or("a weight of unknown shape")?;
                shape[2..].fill(3);
                vec![b.weight(n.attrs.str("name").unwrap_or_default(), TensorType::known(ty.dtype, &shape))]
            }
            "conv" if taso_nasnet && small(&place) => {
                vec![b.op("conv", &x, n.attrs.clone().with("pads", vec![1; 4])).map_err(|e| e.message)?]
            }
            "weight" => vec![b.weight(n.attrs.str("name").unwrap_or_default(), g.ty(n.results[0]).clone())],
            "constant" => vec![b.constant((**n.attrs.tensor("value").ok_or("a constant without a value")?).clone())],
            _ => b.emit(n.op.0, &x, n.attrs.clone()).map_err(|e| e.message)?,
        };
        n.results.iter().zip(y).for_each(|(r, y)| map[r.index()] = Some(y));
    }
    for o in &g.outputs {
        b.output(&o.name, map[o.value.index()].ok_or("an output that nothing makes")?);
    }
    Ok(Program::new(b.finish()))
}

/// BERT as in TASO's and TENSAT's benchmarks.
fn bert() -> Result<Program, tahoma_core::op::OpError> {
    let mut b = Builder::new(Program::MAIN);
    let x = b.input("x", TensorType::known(DType::F32, &[64, 1024]));
    let mut x = b.op("relu", &[x], Attrs::new())?;
    for layer in 0..8 {
        let project = |b: &mut Builder, name: &str| {
            let w = b.weight(&format!("{layer}.{name}"), TensorType::known(DType::F32, &[1024, 1024]));
            b.op("matmul", &[x, w], Attrs::new())
        };
        let [q, k, v] = ["q", "k", "v"].map(|name| {
            let y = project(&mut b, name)?;
            let y = b.op("reshape", &[y], Attrs::new().with("shape", vec![64, 16, 64]))?;
            b.op("transpose", &[y], Attrs::new().with("perm", vec![1, 0, 2]))
        });
        let logits = b.op("matmul", &[q?, k?], Attrs::new())?;
        let y = b.op("matmul", &[logits, v?], Attrs::new())?;
        let y = b.op("transpose", &[y], Attrs::new().with("perm", vec![1, 0, 2]))?;
        let y = b.op("reshape", &[y], Attrs::new().with("shape", vec![64, 1024]))?;
        b.output(&format!("attention.{layer}"), y);
        x = project(&mut b, "out")?;
    }
    b.output("y", x);
    Ok(Program::new(b.finish()))
}

/// Name, whether its relus start inside the convolutions, and the gains that TENSAT and TASO publish, in percent.
const TABLE: [(&str, bool, f64, f64); 7] = [
    ("bert", true, 9.2, 8.5),
    ("resnext50", true, 8.8, 5.5),
    ("nasnet-a", true, 7.3, 1.9),
    ("nasrnn", true, 68.9, 45.4),
    ("inception-v3", true, 10.0, 6.3),
    ("squeezenet", false, 24.5, 6.7),
    ("vgg19", false, 8.9, 8.9),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (flags, names): (Vec<_>, Vec<_>) = args.iter().partition(|a| a.starts_with("--"));
    println!("network        separate      in conv    optimised   gain over each   TENSAT  TASO   search  e-nodes  (µs, %)");
    for (name, inside, tensat, taso) in TABLE.iter().filter(|t| names.is_empty() || names.iter().any(|n| *n == t.0)) {
        let p = match find(name) {
            Some(n) => without_norms(&(n.build)(Size::Real), *name == "nasnet-a")?,
            None => bert().map_err(|e| e.message)?,
        };
        let bare = Library { activations: false };
        let fused = Library { activations: true };
        // The starting points: the program as written, with no rule at work.
        let options = Options { iterations: 0, numerics: tahoma_core::artifact::Numerics::Exact, ..Options::new(&bare) };
        let separate = optimize(&p, &options).map_err(|d| d.to_string())?.1.greedy_ns;
        let start = Instant::now();
        let options = Options { exact: Some(10_000_000_000), iterations: 15, node_limit: 50_000, ..Options::new(&fused) };
        let (q, r) = optimize(&p, &options).map_err(|d| d.to_string())?;
        let took = start.elapsed().as_secs_f64();
        let gain = |from: f64| 100.0 * (from / r.chosen_ns - 1.0);
        let (a, b) = (gain(separate), gain(r.greedy_ns));
        println!(
            "{name:13} {:9.1}    {:9.1}    {:9.1}   {a:6.1}{} {b:6.1}{}  {tensat:6.1} {taso:6.1}  {took:5.1} s  {:7}",
            separate / 1e3,
            r.greedy_ns / 1e3,
            r.chosen_ns / 1e3,
            if *inside { ' ' } else { '*' },
            if *inside { '*' } else { ' ' },
            r.e_nodes,
        );
        for f in &r.faults {
            println!("  FAULT {f}");
        }
        if flags.iter().any(|f| *f == "--rules") {
            println!("    {:?} {}", r.rules_used(), r.stopped);
            let main = q.main();
            for n in main.nodes.iter().filter(|n| !matches!(n.op.name, "weight" | "constant" | "reshape")) {
                let ops = n.attrs.func("callee").map(|f| q.functions[f].nodes.iter().map(|n| n.op.name).collect::<Vec<_>>().join(" "));
                println!("      {} {} -> {}", n.op.name, ops.unwrap_or_default(), main.ty(n.results[0]));
            }
        }
    }
    println!("* the starting point of TENSAT's own program");
    Ok(())
}
