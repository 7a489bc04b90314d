//! Each instruction against a plain reference on random data.

use super::tests_kernels::{close, noise, run};
use super::*;
use tahoma_core::DType::*;
use tahoma_machine::trn2::ops::{ACTIVATIONS, ALU, Group};
use tahoma_machine::trn2::program::nki_dtype;

/// One input or output: name, type, `[P, N]`.
type Io<'a> = (&'a str, tahoma_core::DType, [usize; 2]);

/// Loads inputs to SBUF tiles of their names (HBM names carry `_h`), runs the lines, stores the tile `y`.
fn exec(body: &str, inputs: &[(Io, Vec<f32>)], y: Io) -> Vec<f32> {
    let mut head = String::new();
    let mut loads = String::new();
    let names: Vec<String> = inputs.iter().map(|((n, ..), _)| format!("{n}_h")).collect();
    for ((n, d, [p, f]), _) in inputs {
        let t = nki_dtype(*d).unwrap();
        head += &format!("    # {n}_h: {t}[{p}, {f}]\n");
        loads += &format!("    {n} = nl.ndarray(({p}, {f}), dtype=nl.{t}, buffer=nl.sbuf)\n    nisa.dma_copy(dst={n}, src={n}_h)\n");
    }
    let (_, d, [p, f]) = y;
    let t = nki_dtype(d).unwrap();
    let lines: String = body.lines().map(|l| format!("    {l}\n")).collect();
    let text = format!(
        "# NKI 0.6\n@nki.jit\ndef k({}):\n{head}    out = nl.ndarray(({p}, {f}), dtype=nl.{t}, buffer=nl.shared_hbm)\n    y = nl.ndarray(({p}, {f}), dtype=nl.{t}, buffer=nl.sbuf)\n{loads}{lines}    nisa.dma_copy(dst=out, src=y)\n    return out\n",
        names.join(", ")
    );
    let tensors: Vec<HbmTensor> = inputs.iter().map(|((_, d, s), v)| HbmTensor::from_f32(*d, s, v)).collect();
    run(&text, &tensors).outputs[0].to_f32().unwrap()
}

fn x() -> (Io<'static>, Vec<f32>) {
    (("x", F32, [128, 40]), noise(128 * 40, 11))
}
fn z() -> (Io<'static>, Vec<f32>) {
    (("z", F32, [128, 40]), noise(128 * 40, 12))
}
fn s() -> (Io<'static>, Vec<f32>) {
    (("s", F32, [128, 1]), noise(128, 13))
}
const Y: Io = ("y", F32, [128, 40]);

#[test]
fn every_arithmetic_operator_through_tensor_tensor_and_tensor_scalar() {
    for f in ALU.iter().filter(|f| f.group == Group::Arith) {
        // Positive bases keep power real; a few equal pairs make comparisons interesting.
        let a: Vec<f32> = x().1.iter().map(|v| (v.abs() * 8.0).round() / 4.0).collect();
        let b: Vec<f32> = z().1.iter().map(|v| (v.abs() * 8.0).round() / 4.0).collect();
        let got =
            exec(&format!("nisa.tensor_tensor(dst=y, data1=x, data2=z, op=nl.{})", f.name), &[(x().0, a.clone()), (z().0, b.clone())], Y);
        let want: Vec<f32> = a.iter().zip(&b).map(|(p, q)| (f.f)(*p, *q)).collect();
        close(&got, &want, 0.0);
        let got = exec(
            &format!("nisa.tensor_scalar(dst=y, data=x, op0=nl.{}, operand0=s, reverse0=True)", f.name),
            &[(x().0, a.clone()), s()],
            Y,
        );
        let want: Vec<f32> = a.iter().enumerate().map(|(i, p)| (f.f)(s().1[i / 40], *p)).collect();
        for (g, w) in got.iter().zip(&want) {
            assert!(g == w || (g.is_nan() && w.is_nan()), "{}: {g} {w}", f.name);
        }
    }
    for f in ALU.iter().filter(|f| f.group == Group::Unary && !["rsqrt", "square", "relu"].contains(&f.name)) {
        let got =
            exec(&format!("nisa.tensor_scalar(dst=y, data=x, op0=nl.{}, operand0=0.0, op1=nl.multiply, operand1=2.0)", f.name), &[x()], Y);
        let want: Vec<f32> = x().1.iter().map(|v| (f.f)(*v, 0.0) * 2.0).collect();
        close(&got, &want, 0.0);
    }
}

#[test]
fn bit_operators_are_exact_on_integers() {
    let a: Vec<f32> = x().1.iter().map(|v| (v * 30000.0).round()).collect();
    let (ix, iz) = (("x", I32, [128, 40]), ("z", I32, [128, 40]));
    let b: Vec<f32> = z().1.iter().map(|v| (v * 30000.0).round()).collect();
    for (name, f) in [("bitwise_and", (|p, q| p & q) as fn(i32, i32) -> i32), ("bitwise_or", |p, q| p | q), ("bitwise_xor", |p, q| p ^ q)] {
        let got = exec(
            &format!("nisa.tensor_tensor(dst=y, data1=x, data2=z, op=nl.{name})"),
            &[(ix, a.clone()), (iz, b.clone())],
            ("y", I32, [128, 40]),
        );
        let want: Vec<f32> = a.iter().zip(&b).map(|(p, q)| f(*p as i32, *q as i32) as f32).collect();
        close(&got, &want, 0.0);
    }
    let got = exec(
        "nisa.tensor_scalar(dst=y, data=x, op0=nl.left_shift, operand0=3, op1=nl.right_shift, operand1=1)",
        &[(ix, a.clone())],
        ("y", I32, [128, 40]),
    );
    let want: Vec<f32> = a.iter().map(|p| (((*p as i32) << 3) as u32 >> 1) as i32 as f32).collect();
    close(&got, &want, 0.0);
    let got = exec("nisa.tensor_scalar(dst=y, data=x, op0=nl.invert, operand0=0)", &[(ix, a.clone())], ("y", I32, [128, 40]));
    close(&got, &a.iter().map(|p| !(*p as i32) as f32).collect::<Vec<_>>(), 0.0);
    // 32-bit integer arithmetic runs on GpSimd, exactly and wrapping.
    let got = exec(
        "nisa.memset(dst=x, value=2147483647)\nnisa.memset(dst=z, value=2)\nnisa.tensor_tensor(dst=y, data1=x, data2=z, op=nl.add)",
        &[(ix, a), (iz, b)],
        ("y", I32, [128, 40]),
    );
    assert_eq!(got[0], -2147483647f32);
    // Beside PSUM or a float they stay on Vector, which computes in fp32.
    for (head, mem, dtype) in [("", "psum", "int32"), ("", "sbuf", "float32")] {
        let body = format!(
            "{head}q = nl.ndarray((128, 40), dtype=nl.{dtype}, buffer=nl.{mem})\nnisa.memset(dst=q, value=2)\n\
             nisa.memset(dst=x, value=16777217)\nnisa.tensor_tensor(dst=y, data1=x, data2=q, op=nl.add)"
        );
        let got = exec(&body, &[(ix, vec![1.0; 128 * 40]), (iz, vec![1.0; 128 * 40])], ("y", I32, [128, 40]));
        assert_eq!(got[0], 16777218f32, "{mem} {dtype}");
    }
}

#[test]
fn every_activation_with_scale_and_bias() {
    for f in ACTIVATIONS {
        let v: Vec<f32> = x().1.iter().map(|v| v.abs() + 0.25).collect();
        let got = exec(
            &format!("nisa.activation(dst=y, op=nl.{}, data=x, bias=s, scale=0.5)", f.name),
            &[(x().0, v.clone()), (s().0, vec![0.125; 128])],
            Y,
        );
        close(&got, &v.iter().map(|v| (f.f)(v * 0.5 + 0.125)).collect::<Vec<_>>(), 0.0);
    }
}

#[test]
fn activation_sums_into_its_registers() {
    let body = "r = nl.ndarray((128, 1), dtype=nl.float32, buffer=nl.sbuf)
nisa.activation(dst=y, op=nl.square, data=x, reduce_op=nl.add, reduce_cmd=nisa.reduce_cmd.reset_reduce)
nisa.activation(dst=y, op=nl.square, data=x, reduce_op=nl.add, reduce_res=r, reduce_cmd=nisa.reduce_cmd.reduce)
nisa.tensor_scalar(dst=y, data=y, op0=nl.multiply, operand0=0.0, op1=nl.add, operand1=r)";
    let want: Vec<f32> = x().1.chunks(40).flat_map(|r| vec![2.0 * r.iter().map(|v| v * v).sum::<f32>(); 40]).collect();
    close(&exec(body, &[x()], Y), &want, 1e-5);
}

#[test]
fn scalar_tensor_tensor_and_scan() {
    let got = exec(
        "nisa.scalar_tensor_tensor(dst=y, data=x, op0=nl.multiply, operand0=s, op1=nl.subtract, operand1=z, reverse1=True)",
        &[x(), z(), s()],
        Y,
    );
    let want: Vec<f32> = (0..128 * 40).map(|i| z().1[i] - x().1[i] * s().1[i / 40]).collect();
    close(&got, &want, 0.0);
    let got = exec("nisa.tensor_tensor_scan(dst=y, data0=x, data1=z, initial=s, op0=nl.multiply, op1=nl.add)", &[x(), z(), s()], Y);
    let mut want = vec![];
    for p in 0..128 {
        let mut r = s().1[p];
        for i in 0..40 {
            r = x().1[p * 40 + i] * r + z().1[p * 40 + i];
            want.push(r);
        }
    }
    close(&got, &want, 0.0);
}

#[test]
fn reductions_over_the_last_dimensions() {
    let body = "nisa.tensor_reduce(dst=y[:, 0:8], op=nl.maximum, data=x.ap(pattern=[[40, 128], [5, 8], [1, 5]], offset=0), axis=2)
nisa.tensor_reduce(dst=y[:, 8:9], op=nl.add, data=x.ap(pattern=[[40, 128], [5, 8], [1, 5]], offset=0), axis=(1, 2), negate=True)
nisa.tensor_reduce(dst=y[:, 9:40], op=nl.multiply, data=x[:, 0:31].ap_free, axis=-1)";
    let body = body.replace("x[:, 0:31].ap_free, axis=-1", "x.ap(pattern=[[40, 128], [1, 31], [8, 2]], offset=0), axis=-1");
    let got = exec(&body, &[x()], Y);
    let v = x().1;
    for p in 0..128 {
        let r = &v[p * 40..][..40];
        let mut want: Vec<f32> = r.chunks(5).map(|c| c.iter().copied().fold(f32::MIN, f32::max)).collect();
        want.push(-r.iter().sum::<f32>());
        want.extend((0..31).map(|i| r[i] * r[i + 8]));
        close(&got[p * 40..][..40], &want, 1e-5);
    }
}

#[test]
fn copies_convert_through_fp32() {
    let v: Vec<f32> = x().1.iter().map(|v| v * 300.0).collect();
    let got = exec(
        "t = nl.ndarray((128, 40), dtype=nl.int8, buffer=nl.sbuf)\nnisa.tensor_copy(dst=t, src=x)\nnisa.tensor_copy(dst=y, src=t, engine=nisa.engine.scalar)",
        &[(x().0, v.clone())],
        Y,
    );
    close(&got, &v.iter().map(|v| v.round_ties_even().clamp(-128.0, 127.0)).collect::<Vec<_>>(), 0.0);
    let got = exec(
        "t = nl.ndarray((128, 40), dtype=nl.float8_e4m3, buffer=nl.sbuf)\nnisa.tensor_copy(dst=t, src=x)\nnisa.dma_copy(dst=y, src=t)",
        &[(x().0, v.clone())],
        Y,
    );
    assert!(v.iter().zip(&got).all(|(a, b)| (a - b).abs() <= a.abs() / 16.0 + 0.002 || a.abs() > 247.0));
    let got = exec("nisa.reciprocal(dst=y, data=x)", &[x()], Y);
    close(&got, &x().1.iter().map(|v| 1.0 / v).collect::<Vec<_>>(), 0.0);
    assert!(exec("nisa.memset(dst=y, value=2.5)", &[x()], Y).iter().all(|v| *v == 2.5));
}

#[test]
fn selection() {
    let mask: Vec<f32> = (0..128 * 40).map(|i| (i % 3 == 0) as i32 as f32).collect();
    let m = (("m", U8, [128, 40]), mask.clone());
    let got = exec("nisa.tensor_copy(dst=y, src=z)\nnisa.tensor_copy_predicated(dst=y, src=x, predicate=m)", &[x(), z(), m.clone()], Y);
    close(&got, &(0..128 * 40).map(|i| if i % 3 == 0 { x().1[i] } else { z().1[i] }).collect::<Vec<_>>(), 0.0);
    let got = exec(
        "nisa.tensor_copy(dst=y, src=z)\nnisa.tensor_copy_predicated(dst=y, src=-2.0, predicate=m, reverse_pred=True)",
        &[x(), z(), m.clone()],
        Y,
    );
    close(&got, &(0..128 * 40).map(|i| if i % 3 == 0 { z().1[i] } else { -2.0 }).collect::<Vec<_>>(), 0.0);
    let body = "nisa.select_reduce(dst=y, predicate=m, on_true=x, on_false=-7.0, reduce_res=r, reduce_cmd=nisa.reduce_cmd.reset_reduce)\nnisa.tensor_copy(dst=y[:, 0:1], src=r)";
    let got = exec(&format!("r = nl.ndarray((128, 1), dtype=nl.float32, buffer=nl.sbuf)\n{body}"), &[x(), m], Y);
    let mut want: Vec<f32> = (0..128 * 40).map(|i| if i % 3 == 0 { x().1[i] } else { -7.0 }).collect();
    want.chunks_mut(40).for_each(|r| r[0] = r.iter().copied().fold(f32::MIN, f32::max));
    close(&got, &want, 0.0);
    let lo = (("lo", F32, [128, 1]), vec![10.0; 128]);
    let hi = (("hi", F32, [128, 1]), vec![20.0; 128]);
    let got = exec(
        "nisa.range_select(dst=y, on_true_tile=x, comp_op0=nl.greater_equal, comp_op1=nl.less, bound0=lo, bound1=hi, range_start=5)",
        &[x(), lo, hi],
        Y,
    );
    close(&got, &(0..128 * 40).map(|i| if (10..20).contains(&(i % 40 + 5)) { x().1[i] } else { f32::MIN }).collect::<Vec<_>>(), 0.0);
}

#[test]
fn statistics() {
    let body = "t = nl.ndarray((128, 6), dtype=nl.float32, buffer=nl.sbuf)\nnisa.bn_stats(dst=t, data=x)\nnisa.bn_aggr(dst=y, data=t)";
    let got = exec(body, &[x()], ("y", F32, [128, 2]));
    for p in 0..128 {
        let r = &x().1[p * 40..][..40];
        let mean = r.iter().sum::<f32>() / 40.0;
        let var = r.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / 40.0;
        close(&got[p * 2..][..2], &[mean, var], 1e-5);
    }
}

#[test]
fn top_eight_and_their_places() {
    let mut v = x().1;
    v[3] = 0.999_999;
    v[7] = 0.999_999;
    let body = "m = nl.ndarray((128, 8), dtype=nl.float32, buffer=nl.sbuf)\ni = nl.ndarray((128, 8), dtype=nl.uint32, buffer=nl.sbuf)\nnisa.max8(dst=m, src=x)\nnisa.nc_find_index8(dst=i, data=x, vals=m)\nnisa.tensor_copy(dst=y[:, 0:8], src=m)\nnisa.tensor_copy(dst=y[:, 8:16], src=i)";
    let got = exec(body, &[(x().0, v.clone())], ("y", F32, [128, 16]));
    for p in 0..128 {
        let mut order: Vec<usize> = (0..40).collect();
        order.sort_by(|&a, &b| v[p * 40 + b].total_cmp(&v[p * 40 + a]));
        for k in 0..8 {
            assert_eq!(got[p * 16 + k], v[p * 40 + order[k]]);
            assert_eq!(got[p * 16 + 8 + k], order[k] as f32);
        }
    }
}

#[test]
fn shuffles_transposes_and_partition_sums() {
    let mask: Vec<i64> = (0..32).map(|i| (i * 5 + 1) % 32).collect();
    let got = exec(&format!("nisa.nc_stream_shuffle(dst=y, src=x, shuffle_mask={mask:?})"), &[x()], Y);
    for p in 0..128 {
        let from = p / 32 * 32 + mask[p % 32] as usize;
        assert_eq!(got[p * 40..][..40], x().1[from * 40..][..40]);
    }
    let body =
        "p = nl.ndarray((40, 128), dtype=nl.float32, buffer=nl.psum)\nnisa.nc_transpose(dst=p, data=x)\nnisa.tensor_copy(dst=y, src=p)";
    let got = exec(body, &[x()], ("y", F32, [40, 128]));
    assert!((0..40 * 128).all(|i| got[i] == x().1[i % 128 * 40 + i / 128]));
    let body = "nisa.nc_transpose(dst=y, data=x[0:32, 0:20])";
    let got = exec(body, &[x()], ("y", F32, [20, 32]));
    assert!((0..20 * 32).all(|i| got[i] == x().1[i % 32 * 40 + i / 32]));
    let got = exec("nisa.tensor_partition_reduce(dst=y, op=nl.add, data=x)", &[x()], ("y", F32, [1, 40]));
    let want: Vec<f32> = (0..40).map(|i| (0..128).map(|p| x().1[p * 40 + i]).sum()).collect();
    close(&got, &want, 1e-5);
    let body =
        "d = nl.ndarray((40, 128), dtype=nl.float32, buffer=nl.sbuf)\nnisa.dma_transpose(dst=d, src=x_h)\nnisa.tensor_copy(dst=y, src=d)";
    let got = exec(body, &[x()], ("y", F32, [40, 128]));
    assert!((0..40 * 128).all(|i| got[i] == x().1[i % 128 * 40 + i / 128]));
}

#[test]
fn an_identity_matmul_transposes_exactly() {
    let eye: Vec<f32> = (0..64 * 64).map(|i| (i / 64 == i % 64) as i32 as f32).collect();
    let mut v = noise(64 * 40, 3);
    v[5] = f32::INFINITY;
    let body = "p = nl.ndarray((40, 64), dtype=nl.float32, buffer=nl.psum)\nnisa.nc_matmul(dst=p, stationary=x, moving=e, is_transpose=True)\nnisa.tensor_copy(dst=y, src=p)";
    let got = exec(body, &[(("x", F32, [64, 40]), v.clone()), (("e", F32, [64, 64]), eye)], ("y", F32, [40, 64]));
    assert!((0..40 * 64).all(|i| got[i] == v[i % 64 * 40 + i / 64]));
}

#[test]
fn fp8_double_row_contracts_two_rows_per_partition() {
    let (a, b) = (noise(128 * 2 * 16, 1), noise(128 * 2 * 24, 2));
    let body = "p = nl.ndarray((16, 24), dtype=nl.float32, buffer=nl.psum)
nisa.nc_matmul(dst=p, stationary=a.ap(pattern=[[32, 128], [16, 2], [1, 16]], offset=0), moving=b.ap(pattern=[[48, 128], [24, 2], [1, 24]], offset=0), perf_mode=nisa.matmul_perf_mode.double_row)
nisa.tensor_copy(dst=y, src=p)";
    let got = exec(body, &[(("a", F8E4M3, [128, 32]), a.clone()), (("b", F8E4M3, [128, 48]), b.clone())], ("y", F32, [16, 24]));
    let round = |v: &[f32]| HbmTensor::from_f32(F8E4M3, &[v.len()], v).to_f32().unwrap();
    let (a, b) = (round(&a), round(&b));
    for m in 0..16 {
        for n in 0..24 {
            let want: f32 = (0..256).map(|k| a[k * 16 + m] * b[k * 24 + n]).sum();
            assert!((got[m * 24 + n] - want).abs() < 1e-4);
        }
    }
}

#[test]
fn iota_masks_and_gathers() {
    let got = exec("nisa.iota(dst=y, pattern=[[10, 4], [1, 10]], offset=3, channel_multiplier=100)", &[x()], Y);
    assert!((0..128 * 40).all(|i| got[i] == (3 + i / 40 * 100 + i % 40) as f32));
    let got = exec(
        "nisa.affine_select(dst=y, pattern=[[-1, 40]], channel_multiplier=1, on_true_tile=x, on_false_value=-9.0, cmp_op=nl.greater_equal)",
        &[x()],
        Y,
    );
    assert!((0..128 * 40).all(|i| got[i] == if i % 40 <= i / 40 { x().1[i] } else { -9.0 }));
    let idx: Vec<f32> = (0..128 * 20).map(|i| ((i * 13) % 40) as f32).collect();
    let got = exec("nisa.nc_n_gather(dst=y, data=x, indices=i)", &[x(), (("i", U32, [128, 20]), idx.clone())], ("y", F32, [128, 20]));
    assert!((0..128 * 20).all(|k| got[k] == x().1[k / 20 * 40 + idx[k] as usize]));
    let idx: Vec<f32> = (0..128 * 2).map(|i| ((i * 7) % 20) as f32).collect();
    let got = exec(
        "nisa.local_gather(dst=y, src_buffer=x, index=i, num_elem_per_idx=2, num_valid_indices=30)",
        &[x(), (("i", U16, [128, 2]), idx.clone())],
        ("y", F32, [128, 60]),
    );
    for p in 0..128 {
        for k in 0..30 {
            let at = idx[(p / 16 * 16 + k % 16) * 2 + k / 16] as usize;
            assert_eq!(got[p * 60 + 2 * k..][..2], x().1[p * 40 + 2 * at..][..2]);
        }
    }
}
