//! Whole kernels as text: right answers, the calibration of the time model, and the simulator's own speed.

use super::*;
use std::time::Instant;
use tahoma_core::DType::*;
use tahoma_machine::trn2::parse::parse;
use tahoma_machine::trn2::{Engine, time};

pub(super) fn noise(n: usize, seed: u32) -> Vec<f32> {
    let mut random = tahoma_core::random::Random::new(seed.into());
    (0..n).map(|_| random.signed() as f32).collect()
}

pub(super) fn run(text: &str, inputs: &[HbmTensor]) -> Outcome {
    let p = parse(text).unwrap_or_else(|e| panic!("{e}"));
    simulate(&p, inputs, &Options::default()).unwrap_or_else(|e| panic!("{e}"))
}

pub(super) fn close(got: &[f32], want: &[f32], tol: f32) {
    assert_eq!(got.len(), want.len());
    for (i, (a, b)) in got.iter().zip(want).enumerate() {
        assert!((a - b).abs() <= tol * (1.0 + b.abs()), "element {i}: {a} and {b}");
    }
}

const HEAD: &str = "# NKI 0.6\nimport nki\nimport nki.isa as nisa\nimport nki.language as nl\n\n@nki.jit\n";

#[test]
fn tiled_matmul() {
    let text = HEAD.to_string()
        + "def matmul(a, b):
    # a: bfloat16[256, 256]
    # b: bfloat16[256, 1024]
    out = nl.ndarray((256, 1024), dtype=nl.float32, buffer=nl.shared_hbm)
    for m in range(2):
        for n in range(2):
            acc = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.psum)
            for k in range(2):
                at = nl.ndarray((128, 128), dtype=nl.bfloat16, buffer=nl.sbuf)
                bt = nl.ndarray((128, 512), dtype=nl.bfloat16, buffer=nl.sbuf)
                nisa.dma_copy(dst=at, src=a[k*128:k*128 + 128, m*128:m*128 + 128])
                nisa.dma_copy(dst=bt, src=b[k*128:k*128 + 128, n*512:n*512 + 512])
                nisa.nc_matmul(dst=acc, stationary=at, moving=bt)
            y = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.sbuf)
            nisa.tensor_copy(dst=y, src=acc)
            nisa.dma_copy(dst=out[m*128:m*128 + 128, n*512:n*512 + 512], src=y)
    return out
";
    let a = HbmTensor::from_f32(BF16, &[256, 256], &noise(256 * 256, 1));
    let b = HbmTensor::from_f32(BF16, &[256, 1024], &noise(256 * 1024, 2));
    let got = run(&text, &[a.clone(), b.clone()]);
    let (a, b) = (a.to_f32().unwrap(), b.to_f32().unwrap());
    let mut want = vec![0f32; 256 * 1024];
    for k in 0..256 {
        for m in 0..256 {
            let x = a[k * 256 + m];
            want[m * 1024..][..1024].iter_mut().zip(&b[k * 1024..]).for_each(|(w, y)| *w += x * y);
        }
    }
    close(&got.outputs[0].to_f32().unwrap(), &want, 1e-5);
    assert_eq!(got.timeline.instructions["nc_matmul"], 8);
    assert_eq!(got.timeline.matmul_flop, 2 * 256 * 256 * 1024);
    assert_eq!(got.timeline.hbm_write_bytes, 256 * 1024 * 4);
    assert!(got.timeline.peak_psum_banks == 1 && got.timeline.peak_sbuf_bytes <= 2048 + 256 + 1024);
}

#[test]
fn softmax() {
    let text = HEAD.to_string()
        + "def softmax(x):
    # x: float32[256, 64]
    out = nl.ndarray((256, 64), dtype=nl.float32, buffer=nl.shared_hbm)
    for i in range(2):
        t = nl.ndarray((128, 64), dtype=nl.float32, buffer=nl.sbuf)
        m = nl.ndarray((128, 1), dtype=nl.float32, buffer=nl.sbuf)
        s = nl.ndarray((128, 1), dtype=nl.float32, buffer=nl.sbuf)
        e = nl.ndarray((128, 64), dtype=nl.float32, buffer=nl.sbuf)
        nisa.dma_copy(dst=t, src=x[128*i:128*i + 128, :])
        nisa.tensor_reduce(dst=m, op=nl.maximum, data=t, axis=1, negate=True)
        nisa.activation_reduce(dst=e, op=nl.exp, data=t, reduce_op=nl.add, reduce_res=s, bias=m)
        nisa.reciprocal(dst=s, data=s)
        nisa.tensor_scalar(dst=e, data=e, op0=nl.multiply, operand0=s)
        nisa.dma_copy(dst=out[128*i:128*i + 128, :], src=e)
    return out
";
    let x: Vec<f32> = noise(256 * 64, 3).iter().map(|v| v * 20.0).collect();
    let got = run(&text, &[HbmTensor::from_f32(F32, &[256, 64], &x)]);
    let want: Vec<f32> = x
        .chunks(64)
        .flat_map(|r| {
            let m = r.iter().copied().fold(f32::MIN, f32::max);
            let s: f32 = r.iter().map(|v| (v - m).exp()).sum();
            r.iter().map(move |v| (v - m).exp() / s).collect::<Vec<_>>()
        })
        .collect();
    close(&got.outputs[0].to_f32().unwrap(), &want, 1e-6);
    assert!(got.warnings.is_empty());
}

#[test]
fn layernorm() {
    let text = HEAD.to_string()
        + "def layernorm(x, gain, shift):
    # x: float32[128, 768]
    # gain: float32[1, 768]
    # shift: float32[1, 768]
    out = nl.ndarray((128, 768), dtype=nl.float32, buffer=nl.shared_hbm)
    t = nl.ndarray((128, 768), dtype=nl.float32, buffer=nl.sbuf)
    g = nl.ndarray((128, 768), dtype=nl.float32, buffer=nl.sbuf)
    b = nl.ndarray((128, 768), dtype=nl.float32, buffer=nl.sbuf)
    stats = nl.ndarray((128, 12), dtype=nl.float32, buffer=nl.sbuf)
    mv = nl.ndarray((128, 2), dtype=nl.float32, buffer=nl.sbuf)
    eps = nl.ndarray((128, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.dma_copy(dst=t, src=x)
    nisa.dma_copy(dst=g, src=gain.ap(pattern=[[0, 128], [1, 768]], offset=0))
    nisa.dma_copy(dst=b, src=shift.ap(pattern=[[0, 128], [1, 768]], offset=0))
    nisa.memset(dst=eps, value=1e-5)
    for i in range(2):
        nisa.bn_stats(dst=stats[:, 6*i:6*i + 6], data=t[:, 384*i:384*i + 384])
    nisa.bn_aggr(dst=mv, data=stats)
    nisa.activation(dst=mv[:, 1:2], op=nl.rsqrt, data=mv[:, 1:2], bias=eps)
    nisa.tensor_scalar(
        dst=t, data=t, op0=nl.subtract, operand0=mv[:, 0:1], op1=nl.multiply, operand1=mv[:, 1:2])
    nisa.tensor_tensor(dst=t, data1=t, data2=g, op=nl.multiply)
    nisa.tensor_tensor(dst=t, data1=t, data2=b, op=nl.add)
    nisa.dma_copy(dst=out, src=t)
    return out
";
    let (x, g, b) = (noise(128 * 768, 4), noise(768, 5), noise(768, 6));
    let got = run(
        &text,
        &[HbmTensor::from_f32(F32, &[128, 768], &x), HbmTensor::from_f32(F32, &[1, 768], &g), HbmTensor::from_f32(F32, &[1, 768], &b)],
    );
    let mut want = vec![];
    for r in x.chunks(768) {
        let mean = r.iter().sum::<f32>() / 768.0;
        let var = r.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / 768.0;
        want.extend((0..768).map(|i| (r[i] - mean) / (var + 1e-5).sqrt() * g[i] + b[i]));
    }
    close(&got.outputs[0].to_f32().unwrap(), &want, 1e-5);
}

#[test]
fn convolution_3x3_by_shifted_views() {
    let text = HEAD.to_string()
        + "def conv(x, w, bias):
    # x: float32[2, 32, 14, 14]
    # w: float32[64, 32, 3, 3]
    # bias: float32[64]
    out = nl.ndarray((2, 64, 14, 14), dtype=nl.float32, buffer=nl.shared_hbm)
    ws = nl.ndarray((32, 3, 3, 64), dtype=nl.float32, buffer=nl.sbuf)
    bs = nl.ndarray((64, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.dma_copy(dst=ws, src=w.ap(pattern=[[9, 32], [1, 9], [288, 64]], offset=0))
    nisa.dma_copy(dst=bs, src=bias)
    for n in range(2):
        xp = nl.ndarray((32, 16, 16), dtype=nl.float32, buffer=nl.sbuf)
        nisa.memset(dst=xp, value=0.0)
        nisa.dma_copy(dst=xp[0:32, 1:15, 1:15], src=x[n, 0:32, 0:14, 0:14])
        acc = nl.ndarray((64, 14, 14), dtype=nl.float32, buffer=nl.psum)
        for i in range(3):
            for j in range(3):
                nisa.nc_matmul(
                    dst=acc, stationary=ws[0:32, i, j, 0:64], moving=xp[0:32, i:i + 14, j:j + 14], accumulate=i + j > 0)
        y = nl.ndarray((64, 14, 14), dtype=nl.float32, buffer=nl.sbuf)
        nisa.activation(dst=y, op=nl.relu, data=acc, bias=bs)
        nisa.dma_copy(dst=out[n], src=y)
    return out
";
    let (x, w, b) = (noise(2 * 32 * 196, 7), noise(64 * 32 * 9, 8), noise(64, 9));
    let got = run(
        &text,
        &[
            HbmTensor::from_f32(F32, &[2, 32, 14, 14], &x),
            HbmTensor::from_f32(F32, &[64, 32, 3, 3], &w),
            HbmTensor::from_f32(F32, &[64], &b),
        ],
    );
    let mut want = vec![0f32; 2 * 64 * 196];
    for n in 0..2usize {
        for o in 0..64 {
            for y in 0..14usize {
                for z in 0..14usize {
                    let mut s = b[o];
                    for c in 0..32 {
                        for (i, j) in (0..9).map(|t| (t / 3, t % 3)) {
                            let (r, q) = ((y + i).wrapping_sub(1), (z + j).wrapping_sub(1));
                            if r < 14 && q < 14 {
                                s += x[((n * 32 + c) * 14 + r) * 14 + q] * w[(o * 32 + c) * 9 + i * 3 + j];
                            }
                        }
                    }
                    want[((n * 64 + o) * 14 + y) * 14 + z] = s.max(0.0);
                }
            }
        }
    }
    close(&got.outputs[0].to_f32().unwrap(), &want, 1e-5);
}

#[test]
fn embedding_gather_and_scatter_by_row() {
    let text = HEAD.to_string()
        + "def gather(table, ids):
    # table: float32[50, 32]
    # ids: int32[40, 1]
    out = nl.ndarray((50, 32), dtype=nl.float32, buffer=nl.shared_hbm)
    it = nl.ndarray((40, 1), dtype=nl.int32, buffer=nl.sbuf)
    z = nl.ndarray((50, 32), dtype=nl.float32, buffer=nl.sbuf)
    rows = nl.ndarray((40, 32), dtype=nl.float32, buffer=nl.sbuf)
    nisa.memset(dst=z, value=-1.0)
    nisa.dma_copy(dst=out, src=z)
    nisa.dma_copy(dst=it, src=ids)
    nisa.dma_copy(dst=rows, src=table.ap(pattern=[[32, 40], [1, 32]], offset=0, vector_offset=it, indirect_dim=0))
    nisa.dma_copy(dst=out.ap(pattern=[[32, 40], [1, 32]], offset=0, vector_offset=it, indirect_dim=0), src=rows)
    return out
";
    let table = noise(50 * 32, 1);
    let ids: Vec<f32> = (0..40).map(|i| ((i * 7) % 50) as f32).collect();
    let got = run(&text, &[HbmTensor::from_f32(F32, &[50, 32], &table), HbmTensor::from_f32(I32, &[40, 1], &ids)]);
    let out = got.outputs[0].to_f32().unwrap();
    for r in 0..50usize {
        let want = if ids.contains(&(r as f32)) { table[r * 32..][..32].to_vec() } else { vec![-1.0; 32] };
        assert_eq!(out[r * 32..][..32], want);
    }
}

/// `lhsTᵀ @ rhs`, all 2048, bf16, in the steps that a kernel author takes.
fn square(kind: usize) -> String {
    let head = HEAD.to_string()
        + "def mm(a, b):
    # a: bfloat16[2048, 2048]
    # b: bfloat16[2048, 2048]
    out = nl.ndarray((2048, 2048), dtype=nl.bfloat16, buffer=nl.shared_hbm)
";
    let mut s = head;
    match kind {
        // Loads in the inner loop, one output tile at a time.
        0 => {
            s += "    for m in range(16):
        for n in range(4):
            acc = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.psum)
            for k in range(16):
                at = nl.ndarray((128, 128), dtype=nl.bfloat16, buffer=nl.sbuf)
                bt = nl.ndarray((128, 512), dtype=nl.bfloat16, buffer=nl.sbuf)
                nisa.dma_copy(dst=at, src=a[128*k:128*k + 128, 128*m:128*m + 128])
                nisa.dma_copy(dst=bt, src=b[128*k:128*k + 128, 512*n:512*n + 512])
                nisa.nc_matmul(dst=acc, stationary=at, moving=bt)
            y = nl.ndarray((128, 512), dtype=nl.bfloat16, buffer=nl.sbuf)
            nisa.tensor_copy(dst=y, src=acc)
            nisa.dma_copy(dst=out[128*m:128*m + 128, 512*n:512*n + 512], src=y)
";
        }
        // The right operand stays in SBUF; columns of the left one are loaded once.
        1 => {
            s += "    bs = nl.ndarray((128, 16, 2048), dtype=nl.bfloat16, buffer=nl.sbuf)
    for k in range(16):
        nisa.dma_copy(dst=bs[:, k, :], src=b[128*k:128*k + 128, :])
    for m in range(16):
        at = nl.ndarray((128, 16, 128), dtype=nl.bfloat16, buffer=nl.sbuf)
        for k in range(16):
            nisa.dma_copy(dst=at[:, k, :], src=a[128*k:128*k + 128, 128*m:128*m + 128])
        y = nl.ndarray((128, 2048), dtype=nl.bfloat16, buffer=nl.sbuf)
        for n in range(4):
            acc = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.psum)
            for k in range(16):
                nisa.nc_matmul(dst=acc, stationary=at[:, k, :], moving=bs[:, k, 512*n:512*n + 512])
            nisa.tensor_copy(dst=y[:, 512*n:512*n + 512], src=acc)
        nisa.dma_copy(dst=out[128*m:128*m + 128, :], src=y)
";
        }
        // The same with one accumulator: the next tile waits for its eviction.
        3 => {
            let one = square(1);
            let body = one[one.find("    bs =").unwrap()..one.find("    return").unwrap()].to_string();
            let alloc = "acc = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.psum)\n";
            s += &format!(
                "    {alloc}{}",
                body.replace(&format!("            {alloc}"), "")
                    .replace(":512*n + 512])\n            nisa", ":512*n + 512], accumulate=k > 0)\n            nisa")
            );
        }
        // Two accumulators, and the left operand comes by rows: the DMA turns it.
        4 => {
            let two = square(1);
            let body = &two[two.find("    bs =").unwrap()..two.find("    return").unwrap()];
            s += &body.replace(
                "nisa.dma_copy(dst=at[:, k, :], src=a[128*k:128*k + 128, 128*m:128*m + 128])",
                "nisa.dma_transpose(dst=at[:, k, :], src=a[128*m:128*m + 128, 128*k:128*k + 128])",
            );
        }
        // As they arrive, rows of both operands update eight accumulators at once: four columns times two row tiles.
        _ => {
            s += "    bs = nl.ndarray((128, 16, 2048), dtype=nl.bfloat16, buffer=nl.sbuf)
    ls = nl.ndarray((128, 16, 2048), dtype=nl.bfloat16, buffer=nl.sbuf)
    for k in range(16):
        nisa.dma_copy(dst=ls[:, k, :], src=a[128*k:128*k + 128, :])
        nisa.dma_copy(dst=bs[:, k, :], src=b[128*k:128*k + 128, :])
    # The first row tiles follow the loads: eight banks of accumulators.
    acc = nl.ndarray((128, 8, 512), dtype=nl.float32, buffer=nl.psum)
    for k in range(16):
        for m in range(2):
            for n in range(4):
                nisa.nc_matmul(
                    dst=acc[:, 4*m + n, :], stationary=ls[:, k, 128*m:128*m + 128], moving=bs[:, k, 512*n:512*n + 512])
    for m in range(2):
        y = nl.ndarray((128, 2048), dtype=nl.bfloat16, buffer=nl.sbuf)
        for n in range(4):
            nisa.tensor_copy(dst=y[:, 512*n:512*n + 512], src=acc[:, 4*m + n, :])
        nisa.dma_copy(dst=out[128*m:128*m + 128, :], src=y)
    for m in range(14):
        y2 = nl.ndarray((128, 2048), dtype=nl.bfloat16, buffer=nl.sbuf)
        for n in range(4):
            acc2 = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.psum)
            for k in range(16):
                nisa.nc_matmul(
                    dst=acc2, stationary=ls[:, k, 128*m + 256:128*m + 384], moving=bs[:, k, 512*n:512*n + 512])
            nisa.tensor_copy(dst=y2[:, 512*n:512*n + 512], src=acc2)
        nisa.dma_copy(dst=out[128*m + 256:128*m + 384, :], src=y2)
";
        }
    }
    s + "    return out\n"
}

/// The ladder of awslabs/nki-autotune (kernel_library/README.md, June 2026): one physical core, 2048³ in bf16, measured on hardware.
#[test]
fn calibration_against_measured_products() {
    let m = &TRN2;
    // Program, measured microseconds, how near the clock must be. The first waits for memory in each step.
    for (what, kind, measured_us, near) in [
        ("loads in the inner loop", 0, 1365.0, 0.25),
        ("loads hoisted, one accumulator bank", 3, 366.0, 0.1),
        ("loads hoisted, two banks", 1, 263.0, 0.1),
        ("operands as they arrive (their k in two parts)", 2, 240.0, 0.1),
        ("left operand turned by dma_transpose", 4, 244.0, 0.1),
    ] {
        let t = time(&parse(&square(kind)).unwrap(), &TRN2).unwrap_or_else(|e| panic!("{e}"));
        let us = t.total_ns / 1e3;
        println!(
            "2048^3 bf16, {what}: {us:.1} us, measured {measured_us}, {:+.1} %; {:.1} % of peak, DMA busy {:.0} %",
            100.0 * (us / measured_us - 1.0),
            100.0 * t.utilisation(m),
            100.0 * t.share(Engine::Dma, m)
        );
        assert_eq!(t.instructions["nc_matmul"], 1024);
        assert!((us / measured_us - 1.0).abs() < near, "{what}: {us} us, measured {measured_us}");
    }
}

#[test]
fn calibration_of_one_dma() {
    let dma = HEAD.to_string()
        + "def d(x):
    # x: bfloat16[8, 2048]
    out = nl.ndarray((8, 2048), dtype=nl.bfloat16, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=out, src=x)
    return out
";
    let one = parse(&dma.replace(
        "nisa.dma_copy(dst=out, src=x)",
        "t = nl.ndarray((8, 2048), dtype=nl.bfloat16, buffer=nl.sbuf)\n    nisa.dma_copy(dst=t, src=x)\n    nisa.dma_copy(dst=out, src=t)",
    ))
    .unwrap();
    let t = time(&one, &TRN2).unwrap();
    let work = t.engines[&Engine::Dma].busy_ns / 2.0;
    println!("32 KiB on one DMA engine: {work:.0} ns, published 1416");
    assert!((work / 1416.0 - 1.0).abs() < 0.02);
}

/// Decode-time QKV projection: one token, weights `[H, I]` streamed once. Published times are for a pair of cores; each streams half.
#[test]
fn calibration_of_the_decode_projection() {
    for (h, i, published_us) in
        [(8192usize, 512usize, 62.5), (8192, 896, 70.5), (20480, 896, 104.2), (32768, 896, 137.7), (8192, 10240, 447.9)]
    {
        let (kt, half) = (h / 128, i / 2);
        let n = half.min(512);
        let blocks = half / n;
        let text = HEAD.to_string()
            + &format!(
                "def qkv(x, w):
    # x: bfloat16[128, {kt}]
    # w: bfloat16[{h}, {half}]
    out = nl.ndarray((1, {half}), dtype=nl.bfloat16, buffer=nl.shared_hbm)
    xs = nl.ndarray((128, {kt}), dtype=nl.bfloat16, buffer=nl.sbuf)
    nisa.dma_copy(dst=xs, src=x)
    y = nl.ndarray((1, {half}), dtype=nl.bfloat16, buffer=nl.sbuf)
    for b in range({blocks}):
        acc = nl.ndarray((1, {n}), dtype=nl.float32, buffer=nl.psum)
        for k in range({}):
            ws = nl.ndarray((128, 8, {n}), dtype=nl.bfloat16, buffer=nl.sbuf)
            nisa.dma_copy(dst=ws, src=w.ap(pattern=[[{}, 128], [{half}, 8], [1, {n}]], offset={}*k + {n}*b))
            for j in range(8):
                nisa.nc_matmul(dst=acc, stationary=xs.ap(pattern=[[{kt}, 128], [1, 1]], offset=8*k + j), moving=ws[:, j, :])
        nisa.tensor_copy(dst=y[:, {n}*b:{n}*b + {n}], src=acc)
    nisa.dma_copy(dst=out, src=y)
    return out
",
                kt / 8,
                8 * half,
                8 * 128 * half
            );
        let t = time(&parse(&text).unwrap(), &TRN2).unwrap_or_else(|e| panic!("{e}"));
        let us = (t.total_ns + TRN2.launch_ns) / 1e3;
        println!("decode projection H{h} I{i}: {us:.1} us, published {published_us}, {:+.0} %", 100.0 * (us / published_us - 1.0));
        assert!((us / published_us - 1.0).abs() < 0.15);
    }
}

/// Host speed, printed and not asserted: it depends on the machine and the profile.
#[test]
fn speed_of_the_simulator() {
    let p = parse(&square(2)).unwrap();
    let a = HbmTensor::from_f32(BF16, &[2048, 2048], &noise(2048 * 2048, 1));
    let b = HbmTensor::from_f32(BF16, &[2048, 2048], &noise(2048 * 2048, 2));
    let start = Instant::now();
    let r = simulate(&p, &[a, b], &Options::default()).unwrap_or_else(|e| panic!("{e}"));
    let s = start.elapsed().as_secs_f64();
    println!("2048^3 bf16 matmul: {s:.2} s, {:.1} GFLOP/s", r.timeline.matmul_flop as f64 / s / 1e9);

    let text = HEAD.to_string()
        + "def t(x):
    # x: float32[1024, 4096]
    out = nl.ndarray((1024, 4096), dtype=nl.float32, buffer=nl.shared_hbm)
    for i in range(8):
        t = nl.ndarray((128, 64, 64), dtype=nl.float32, buffer=nl.sbuf)
        nisa.dma_copy(dst=t, src=x.ap(pattern=[[4096, 128], [1, 64], [64, 64]], offset=524288*i))
        nisa.dma_copy(dst=out[128*i:128*i + 128, :], src=t)
    return out
";
    let x = HbmTensor::from_f32(F32, &[1024, 4096], &noise(1024 * 4096, 1));
    let p = parse(&text).unwrap();
    let start = Instant::now();
    simulate(&p, &[x], &Options::default()).unwrap_or_else(|e| panic!("{e}"));
    let s = start.elapsed().as_secs_f64();
    println!("strided and plain DMA: {:.0} MB/s", 2.0 * 1024.0 * 4096.0 * 4.0 / s / 1e6);

    let text = HEAD.to_string()
        + "def e():
    out = nl.ndarray((128, 2048), dtype=nl.bfloat16, buffer=nl.shared_hbm)
    t = nl.ndarray((128, 2048), dtype=nl.bfloat16, buffer=nl.sbuf)
    nisa.memset(dst=t, value=0.5)
    for i in range(20):
        nisa.OP
    nisa.dma_copy(dst=out, src=t)
    return out
";
    for op in [
        "tensor_tensor(dst=t, data1=t, data2=t, op=nl.multiply)",
        "activation(dst=t, op=nl.gelu, data=t)",
        "activation(dst=t, op=nl.copy, data=t)",
    ] {
        let p = parse(&text.replace("OP", op)).unwrap();
        let start = Instant::now();
        simulate(&p, &[], &Options::default()).unwrap_or_else(|e| panic!("{e}"));
        println!("{op}: {:.0} M elements/s", 20.0 * 128.0 * 2048.0 / start.elapsed().as_secs_f64() / 1e6);
    }
    let text = HEAD.to_string()
        + "def n():
    out = nl.ndarray((32, 64), dtype=nl.float32, buffer=nl.shared_hbm)
    s = nl.ndarray((32, 96), dtype=nl.float32, buffer=nl.sbuf)
    y = nl.ndarray((32, 64), dtype=nl.float32, buffer=nl.sbuf)
    nisa.memset(dst=s, value=0.5)
    for i in range(20000):
        p = nl.ndarray((32, 64), dtype=nl.float32, buffer=nl.psum)
        nisa.nc_matmul(dst=p, stationary=s[:, 0:32], moving=s[:, 32:96])
        nisa.tensor_copy(dst=y, src=p)
    nisa.dma_copy(dst=out, src=y)
    return out
";
    let p = parse(&text).unwrap();
    let each = |start: Instant| start.elapsed().as_secs_f64() / 40000.0 * 1e6;
    let start = Instant::now();
    simulate(&p, &[], &Options::default()).unwrap_or_else(|e| panic!("{e}"));
    println!("small instructions, values and time: {:.2} us each", each(start));
    let start = Instant::now();
    time(&p, &TRN2).unwrap_or_else(|e| panic!("{e}"));
    println!("small instructions, time: {:.2} us each", each(start));
}
