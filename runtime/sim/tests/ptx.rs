//! The PTX emulator: kernels that LLVM emitted, and each instruction family by hand.
//!
//! With `TAHOMA_PTX_DUMP` set to a folder, every kernel made here is also written there, so that
//! NVIDIA's `ptxas`, where there is one, can say whether it is legal PTX.

mod ptx_common;
use ptx_common::{eval, eval64, f, floats, kernel, run};
use tahoma_sim::ptx::{Arg, Memory, Module, Options, launch};

fn read_f32(mem: &Memory, at: u64, n: usize) -> Vec<f32> {
    let bytes = mem.read(at, 4 * n as u64).expect("all written");
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn upload(mem: &mut Memory, name: &str, v: &[f32]) -> u64 {
    let bytes: Vec<u8> = v.iter().flat_map(|x| x.to_le_bytes()).collect();
    let a = mem.alloc(name, bytes.len() as u64).unwrap();
    mem.write(a, &bytes).unwrap();
    a
}

/// The arguments MLIR passes for a memref: allocated, aligned, offset, sizes, strides.
fn memref(address: u64, sizes: &[u64]) -> Vec<Arg> {
    let mut v = vec![Arg::Ptr(address), Arg::Ptr(address), Arg::U64(0)];
    v.extend(sizes.iter().map(|s| Arg::U64(*s)));
    for i in 0..sizes.len() {
        v.push(Arg::U64(sizes[i + 1..].iter().product()));
    }
    v
}

#[test]
fn vector_add_from_llvm() {
    let m = Module::parse(include_str!("ptx/vadd.ptx"), "vadd.ptx").unwrap();
    let k = m.kernels().next().unwrap();
    assert_eq!((k.name.as_str(), k.params.len()), ("vadd", 16));
    let n = 1000;
    let mut mem = Memory::new();
    let a = upload(&mut mem, "a", &(0..n).map(|i| i as f32).collect::<Vec<_>>());
    let b = upload(&mut mem, "b", &(0..n).map(|i| 0.5 * i as f32).collect::<Vec<_>>());
    let c = mem.alloc("c", 4 * n).unwrap();
    let mut args = Vec::new();
    for x in [a, b, c] {
        args.extend(memref(x, &[n]));
    }
    args.push(Arg::U64(n));
    let stats = launch(&m, "vadd", [8, 1, 1], [128, 1, 1], 0, &args, &mut mem, &Options::default()).unwrap();
    let got = read_f32(&mem, c, n as usize);
    assert!(got.iter().enumerate().all(|(i, v)| *v == 1.5 * i as f32));
    assert_eq!(stats.global_load_bytes, 8 * n);
    assert_eq!(stats.global_store_bytes, 4 * n);
    assert_eq!(stats.blocks, 8);
}

#[test]
fn tiled_matmul_from_llvm() {
    let m = Module::parse(include_str!("ptx/tiled.ptx"), "tiled.ptx").unwrap();
    assert_eq!(m.target, "sm_100a");
    let (rows, cols, inner) = (64, 32, 48);
    let x: Vec<f32> = (0..rows * inner).map(|i| ((i * 7 + 3) % 11) as f32 - 5.0).collect();
    let y: Vec<f32> = (0..inner * cols).map(|i| ((i * 5 + 1) % 13) as f32 * 0.25).collect();
    let mut mem = Memory::new();
    let (a, b) = (upload(&mut mem, "a", &x), upload(&mut mem, "b", &y));
    let c = mem.alloc("c", 4 * (rows * cols) as u64).unwrap();
    let mut args = memref(a, &[rows as u64, inner as u64]);
    args.extend(memref(b, &[inner as u64, cols as u64]));
    args.extend(memref(c, &[rows as u64, cols as u64]));
    let opts = Options::default();
    let stats = launch(&m, "tiled", [2, 4, 1], [16, 16, 1], 0, &args, &mut mem, &opts).unwrap();
    let got = read_f32(&mem, c, rows * cols);
    for i in 0..rows {
        for j in 0..cols {
            let want: f32 = (0..inner).map(|k| x[i * inner + k] * y[k * cols + j]).sum();
            assert_eq!(got[i * cols + j], want, "({i}, {j})");
        }
    }
    assert_eq!(stats.shared_store_bytes, 8 * 256 * 3 * 2 * 4);
    // Without its barriers the same kernel races.
    let text = include_str!("ptx/tiled.ptx").replace("bar.sync", "// bar.sync");
    let m = Module::parse(&text, "tiled.ptx").unwrap();
    let fault = launch(&m, "tiled", [2, 4, 1], [16, 16, 1], 0, &args, &mut mem, &opts).unwrap_err();
    let said = fault.to_string();
    assert!(said.contains("shared"), "{said}");
}

#[test]
fn softmax_with_shuffles_from_llvm() {
    let m = Module::parse(include_str!("ptx/softmax.ptx"), "softmax.ptx").unwrap();
    let rows = 5;
    let x: Vec<f32> = (0..rows * 64).map(|i| ((i * 37) % 101) as f32 * 0.1 - 5.0).collect();
    let mut mem = Memory::new();
    let a = upload(&mut mem, "x", &x);
    let b = mem.alloc("y", 4 * x.len() as u64).unwrap();
    let mut args = memref(a, &[rows as u64, 64]);
    args.extend(memref(b, &[rows as u64, 64]));
    launch(&m, "softmax", [rows as u32, 1, 1], [32, 1, 1], 0, &args, &mut mem, &Options::default()).unwrap();
    let got = read_f32(&mem, b, x.len());
    for r in 0..rows {
        let row = &x[r * 64..(r + 1) * 64];
        let max = row.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = row.iter().map(|v| f64::from(v - max).exp()).sum();
        for (i, v) in row.iter().enumerate() {
            let want = f64::from(v - max).exp() / sum;
            assert!((f64::from(got[r * 64 + i]) - want).abs() < 1e-6);
        }
    }
}

#[test]
fn tensor_core_matmul_from_llvm() {
    let m = Module::parse(include_str!("ptx/mma.ptx"), "mma.ptx").unwrap();
    let half = |v: &[f32]| -> Vec<u8> { v.iter().flat_map(|x| half::f16::from_f32(*x).to_bits().to_le_bytes()).collect() };
    let x: Vec<f32> = (0..256).map(|i| ((i * 29) % 17) as f32 - 8.0).collect();
    // B is stored transposed: 8 columns of 16.
    let y: Vec<f32> = (0..128).map(|i| ((i * 13) % 9) as f32 * 0.5).collect();
    let z: Vec<f32> = (0..128).map(|i| i as f32).collect();
    let mut mem = Memory::new();
    let a = mem.alloc("a", 512).unwrap();
    mem.write(a, &half(&x)).unwrap();
    let b = mem.alloc("b", 256).unwrap();
    mem.write(b, &half(&y)).unwrap();
    let c = upload(&mut mem, "c", &z);
    let mut args = memref(a, &[16, 16]);
    args.extend(memref(b, &[8, 16]));
    args.extend(memref(c, &[16, 8]));
    let opts = Options::default();
    let stats = launch(&m, "mma", [1, 1, 1], [32, 1, 1], 0, &args, &mut mem, &opts).unwrap();
    let got = read_f32(&mem, c, 128);
    for i in 0..16 {
        for j in 0..8 {
            let want: f32 = z[i * 8 + j] + (0..16).map(|k| x[i * 16 + k] * y[j * 16 + k]).sum::<f32>();
            assert_eq!(got[i * 8 + j], want, "({i}, {j})");
        }
    }
    assert_eq!((stats.mma, stats.mma_flops), (1, 2 * 16 * 8 * 16));
    // The copy is not visible before the wait.
    let text = include_str!("ptx/mma.ptx").replace("cp.async.wait_group", "// ");
    let m = Module::parse(&text, "mma.ptx").unwrap();
    let fault = launch(&m, "mma", [1, 1, 1], [32, 1, 1], 0, &args, &mut mem, &opts).unwrap_err();
    assert!(fault.to_string().contains("uninitialised shared memory"), "{fault}");
}

#[test]
fn launches_repeat_to_the_byte() {
    let m = Module::parse(include_str!("ptx/softmax.ptx"), "softmax.ptx").unwrap();
    let once = || {
        let mut mem = Memory::new();
        let x: Vec<f32> = (0..128).map(|i| (i as f32).sin()).collect();
        let a = upload(&mut mem, "x", &x);
        let b = mem.alloc("y", 512).unwrap();
        let mut args = memref(a, &[2, 64]);
        args.extend(memref(b, &[2, 64]));
        launch(&m, "softmax", [2, 1, 1], [32, 1, 1], 0, &args, &mut mem, &Options::default()).unwrap();
        mem.read(b, 512).unwrap().to_vec()
    };
    assert_eq!(once(), once());
}

#[test]
fn integers() {
    let a = [7u32, u32::MAX, 0x8000_0000, 100];
    let b = [3u32, 2, 31, 0];
    assert_eq!(eval("add.s32 %r4, %r1, %r2;", &a, &b), [10, 1, 0x8000_001f, 100]);
    assert_eq!(eval("sub.s32 %r4, %r1, -1;", &a, &b), [8, 0, 0x8000_0001, 101]);
    assert_eq!(eval("mul.lo.s32 %r4, %r1, %r2;", &a, &b), [21, u32::MAX - 1, 0x8000_0000, 0]);
    assert_eq!(eval("mul.hi.u32 %r4, %r1, %r2;", &a, &b), [0, 1, 15, 0]);
    assert_eq!(eval("mul.hi.s32 %r4, %r1, %r2;", &a, &b), [0, u32::MAX, (-16i32) as u32, 0]);
    assert_eq!(eval("mad.lo.s32 %r4, %r1, %r2, 5;", &a, &b), [26, 3, 0x8000_0005, 5]);
    assert_eq!(eval("div.s32 %r4, %r1, 2;", &a, &b), [3, 0, 0xc000_0000, 50]);
    assert_eq!(eval("div.u32 %r4, %r1, %r2;", &a, &b)[..3], [2, 0x7fff_ffff, 0x8000_0000 / 31]);
    assert_eq!(eval("rem.s32 %r4, %r1, 4;", &a, &b), [3, u32::MAX, 0, 0]);
    assert_eq!(eval("min.s32 %r4, %r1, %r2;", &a, &b), [3, u32::MAX, 0x8000_0000, 0]);
    assert_eq!(eval("max.u32 %r4, %r1, %r2;", &a, &b), [7, u32::MAX, 0x8000_0000, 100]);
    assert_eq!(eval("shl.b32 %r4, %r1, %r2;", &a, &b), [56, u32::MAX << 2, 0, 100]);
    assert_eq!(eval("shl.b32 %r4, %r1, 32;", &a, &b), [0; 4]);
    assert_eq!(eval("shr.s32 %r4, %r1, 40;", &a, &b), [0, u32::MAX, u32::MAX, 0]);
    assert_eq!(eval("shr.u32 %r4, %r1, %r2;", &a, &b), [0, 0x3fff_ffff, 1, 100]);
    assert_eq!(eval("not.b32 %r4, %r1;", &a, &b)[0], !7);
    assert_eq!(eval("neg.s32 %r4, %r1;", &a, &b)[..2], [(-7i32) as u32, 1]);
    assert_eq!(eval("abs.s32 %r4, %r1;", &a, &b)[..2], [7, 1]);
    assert_eq!(eval("popc.b32 %r4, %r1;", &a, &b), [3, 32, 1, 3]);
    assert_eq!(eval("clz.b32 %r4, %r1;", &a, &b), [29, 0, 0, 25]);
    assert_eq!(eval("brev.b32 %r4, %r1;", &a, &b)[2], 1);
    assert_eq!(eval("bfe.u32 %r4, %r1, 2, 4;", &a, &b), [1, 15, 0, 9]);
    assert_eq!(eval("bfi.b32 %r4, %r2, %r1, 4, 4;", &a, &b)[0], 0x37);
    assert_eq!(eval("prmt.b32 %r4, %r1, %r2, 0x4120;", &a, &b)[1], 0x02ff_ffff);
    assert_eq!(eval("shf.l.wrap.b32 %r4, %r1, %r2, 8;", &a, &b)[1], 0x2ff);
    assert_eq!(eval("lop3.b32 %r4, %r1, %r2, 5, 0x96;", &a, &b)[0], 7 ^ 3 ^ 5);
    assert_eq!(eval("add.sat.s32 %r4, %r1, 0x7fffffff;", &a, &b)[0], 0x7fff_ffff);
    assert_eq!(eval("sad.u32 %r4, %r1, %r2, 1;", &a, &b)[0], 5);
    assert_eq!(eval("dp4a.s32.u32 %r4, %r1, %r2, 1;", &a, &b)[1], (-1i32) as u32);
    assert_eq!(eval("szext.wrap.s32 %r4, %r1, 3;", &a, &b)[0], u32::MAX);
}

#[test]
fn sixteen_bits() {
    let body = "cvt.u16.u32 %rs1, %r1; cvt.u16.u32 %rs2, %r2; add.s16 %rs3, %rs1, %rs2; cvt.s32.s16 %r4, %rs3;";
    assert_eq!(eval(body, &[0x7fff, 1], &[1, 2]), [0xffff_8000, 3]);
    let body = "cvt.u16.u32 %rs1, %r1; shr.s16 %rs3, %rs1, 3; cvt.u32.u16 %r4, %rs3;";
    assert_eq!(eval(body, &[0x8000], &[0]), [0xf000]);
    let body = "cvt.u16.u32 %rs1, %r1; cvt.u16.u32 %rs2, %r2; mul.wide.s16 %r4, %rs1, %rs2;";
    assert_eq!(eval(body, &[0xffff], &[5]), [(-5i32) as u32]);
    let body = "cvt.u16.u32 %rs1, %r1; not.b16 %rs2, %rs1; setp.gt.s16 %p1, %rs2, -2; selp.b32 %r4, 1, 2, %p1;";
    assert_eq!(eval(body, &[0, 1], &[0]), [1, 2]);
    assert_eq!(eval("mov.b32 {%rs1, %rs2}, %r1; mov.b32 %r4, {%rs2, %rs1};", &[0x1234_5678], &[0]), [0x5678_1234]);
    assert_eq!(eval("add.u16x2 %r4, %r1, %r2;", &[0xffff_0001], &[0x0001_0001]), [2]);
}

#[test]
fn sixty_four_bits() {
    let a = [u64::MAX, 1 << 40, 12345678901];
    let b = [2u64, 3, 1 << 33];
    assert_eq!(eval64("add.s64 %rd4, %rd1, %rd2;", &a, &b), [1, (1 << 40) + 3, 12345678901 + (1 << 33)]);
    assert_eq!(eval64("mul.lo.s64 %rd4, %rd1, %rd2;", &a, &b)[1], 3 << 40);
    assert_eq!(eval64("mul.hi.u64 %rd4, %rd1, %rd2;", &a, &b)[0], 1);
    assert_eq!(eval64("mad.lo.s64 %rd4, %rd1, %rd2, 7;", &a, &b)[1], (3 << 40) + 7);
    assert_eq!(eval64("shl.b64 %rd4, %rd1, 4;", &a, &b)[1], 1 << 44);
    assert_eq!(eval64("shr.u64 %rd4, %rd1, 63;", &a, &b), [1, 0, 0]);
    assert_eq!(eval64("shr.s64 %rd4, %rd1, 63;", &a, &b)[0], u64::MAX);
    assert_eq!(eval64("rem.u64 %rd4, %rd1, %rd2;", &a, &b), [1, (1 << 40) % 3, 12345678901 % (1 << 33)]);
    // A source register may be wider than its type: LLVM sign-extends so in place.
    assert_eq!(eval64("cvt.s64.s8 %rd4, %rd1;", &a, &b)[0], u64::MAX);
    assert_eq!(eval64("cvt.u64.u8 %rd4, %rd1; cvt.s64.s16 %rd4, %rd4;", &a, &b)[0], 255);
    assert_eq!(eval64("cvt.u32.u64 %r1, %rd1; cvt.s64.s32 %rd4, %r1;", &a, &b)[0], u64::MAX);
    assert_eq!(eval64("mov.b64 {%r1, %r2}, %rd1; mov.b64 %rd4, {%r2, %r1};", &a, &b)[1], 256);
    assert_eq!(eval64("mov.b64 {_, %r2}, %rd1; cvt.u64.u32 %rd4, %r2;", &a, &b)[1], 256);
    assert_eq!(eval64("cvt.u32.u64 %r1, %rd1; mul.wide.s32 %rd4, %r1, -3;", &a, &b)[0], 3);
    assert_eq!(eval64("cvt.u32.u64 %r1, %rd1; mad.wide.u32 %rd4, %r1, 2, %rd2;", &a, &b)[0], 0x2_0000_0000);
    assert_eq!(eval64("setp.lt.s64 %p1, %rd1, %rd2; selp.b64 %rd4, 10, 20, %p1;", &a, &b), [10, 20, 20]);
    assert_eq!(eval64("clz.b64 %r1, %rd1; cvt.u64.u32 %rd4, %r1;", &a, &b), [0, 23, 30]);
    assert_eq!(eval64("bfe.u64 %rd4, %rd1, 33, 8;", &a, &b), [255, 128, 1]);
    let x = [1.5f64.to_bits(), (-0.1f64).to_bits()];
    let y = [2.25f64.to_bits(), 3f64.to_bits()];
    assert_eq!(eval64("add.rn.f64 %rd4, %rd1, %rd2;", &x, &y), [3.75f64.to_bits(), (2.9f64).to_bits()]);
    assert_eq!(eval64("fma.rn.f64 %rd4, %rd1, %rd2, %rd1;", &x, &y)[0], 4.875f64.to_bits());
    assert_eq!(eval64("div.rn.f64 %rd4, %rd1, %rd2;", &x, &y)[1], (-0.1f64 / 3.0).to_bits());
    assert_eq!(eval64("sqrt.rn.f64 %rd4, %rd2;", &x, &y)[0], 1.5f64.to_bits());
    assert_eq!(eval64("cvt.rzi.s64.f64 %rd4, %rd1;", &x, &y), [1, 0]);
    assert_eq!(eval64("cvt.rn.f64.s64 %rd4, -3;", &x, &y)[0], (-3f64).to_bits());
    let pair = |a: f32, b: f32| u64::from(a.to_bits()) | u64::from(b.to_bits()) << 32;
    let got = eval64("mov.b64 %rd4, %rd1; ", &[pair(1.0, 2.0)], &[0]);
    assert_eq!(got, [pair(1.0, 2.0)]);
}

#[test]
fn packed_f32_on_sm_100() {
    let pair = |a: f32, b: f32| u64::from(a.to_bits()) | u64::from(b.to_bits()) << 32;
    let text = kernel("fma.rn.f32x2 %rd4, %rd1, %rd2, %rd1;", 64).replace("sm_90a", "sm_100a").replace("8.0", "8.6");
    let got = ptx_common::run_text64(&text, &[pair(1.5, -2.0)], &[pair(2.0, 4.0)]);
    assert_eq!(got, [pair(4.5, -10.0)]);
}

#[test]
fn f32_from_16_bit_operands_on_sm_100() {
    // a is f16 or bf16 and exact in f32; c is f32; one rounding, as the mode says.
    let on_100 = |body: &str| kernel(body, 32).replace("sm_90a", "sm_100a").replace("8.0", "8.6");
    let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
    let c = [0.1f32, -3.0, f32::INFINITY, 1e-41, f32::NAN];
    let halves: [(&str, [u32; 5]); 2] =
        [("f16", [0x3c01, 0x8001, 0x7c00, 0x0001, 0x3c00]), ("bf16", [0x3f81, 0x8001, 0x7f80, 0x0001, 0x3f80])];
    for (half, a) in halves {
        let wide = |x: u32| if half == "f16" { half::f16::from_bits(x as u16).to_f32() } else { f32::from_bits(x << 16) };
        type Want = fn(f32, f32) -> f32;
        let forms: [(&str, Want); 3] = [("add.rn", |a, c| a + c), ("sub.rn", |a, c| a - c), ("fma.rn", |a, c| a.mul_add(a, c))];
        for (name, want) in forms {
            let operands = if name == "fma.rn" { "%rs1, %rs1, %r2" } else { "%rs1, %r2" };
            let text = on_100(&format!("cvt.u16.u32 %rs1, %r1;\n{name}.f32.{half} %r4, {operands};"));
            let got = ptx_common::run(&text, &a, &bits(&c)).unwrap_or_else(|e| panic!("{e}"));
            for i in 0..5 {
                let (g, w) = (f32::from_bits(got[i]), want(wide(a[i]), c[i]));
                assert!(
                    g.to_bits() == w.to_bits() || g.is_nan() && w.is_nan(),
                    "{name}.f32.{half} of {} and {}: {g}, not {w}",
                    wide(a[i]),
                    c[i]
                );
            }
        }
        let text = on_100(&format!("cvt.u16.u32 %rs1, %r1;\nadd.rz.sat.f32.{half} %r4, %rs1, %r2;"));
        assert_eq!(ptx_common::run(&text, &a[..2], &bits(&c[..2])).unwrap(), [1f32.to_bits(), 0]);
    }
    // No other types mix.
    for bad in ["mul.rn.f32.f16 %r4, %rs1, %r2;", "add.rn.f64.f32 %rd4, %r1, %rd2;", "add.rn.f16.f32 %rs2, %r1, %rs1;"] {
        assert!(Module::parse(&on_100(bad), "test.ptx").is_err(), "{bad}");
    }
}

#[test]
fn floats_and_their_special_values() {
    let nan = f32::NAN;
    let a = f(&[1.5, -0.0, f32::INFINITY, nan, 1e-40]);
    let b = f(&[2.0, 0.0, f32::NEG_INFINITY, 1.0, 1e-40]);
    let canonical = 0x7fff_ffff;
    assert_eq!(eval("add.rn.f32 %r4, %r1, %r2;", &a, &b)[..4], [3.5f32.to_bits(), 0, canonical, canonical]);
    assert_eq!(eval("add.rn.ftz.f32 %r4, %r1, %r2;", &a, &b)[4], 0);
    assert_eq!(floats(&eval("add.rn.f32 %r4, %r1, %r2;", &a, &b))[4], 1e-40 + 1e-40);
    assert_eq!(eval("min.f32 %r4, %r1, %r2;", &a, &b)[..4], [1.5f32.to_bits(), 1 << 31, b[2], 1f32.to_bits()]);
    assert_eq!(eval("max.f32 %r4, %r1, %r2;", &a, &b)[1..4], [0, a[2], 1f32.to_bits()]);
    assert_eq!(eval("max.NaN.f32 %r4, %r1, %r2;", &a, &b)[3], canonical);
    assert_eq!(eval("neg.f32 %r4, %r1;", &a, &b)[..2], [(-1.5f32).to_bits(), 0]);
    assert_eq!(eval("abs.f32 %r4, %r1;", &a, &b)[1], 0);
    assert_eq!(eval("copysign.f32 %r4, %r2, %r1;", &a, &b)[2], 0xff80_0000);
    assert_eq!(eval("add.rz.sat.f32 %r4, %r1, %r2;", &a, &b)[..4], [1f32.to_bits(), 0, 0, 0]);
    let x = f(&[3.0, 10.0, 0.1, 1e-3]);
    let y = f(&[7.0, 3.0, 0.2, 1e5]);
    let op = |s: &str| floats(&eval(s, &x, &y));
    assert_eq!(op("div.rn.f32 %r4, %r1, %r2;")[1], 10.0 / 3.0);
    assert_eq!(op("div.full.f32 %r4, %r1, %r2;")[1], 10.0 / 3.0);
    assert_eq!(op("div.approx.f32 %r4, %r1, %r2;")[0], 3.0 / 7.0);
    assert_eq!(op("div.rp.f32 %r4, %r1, %r2;")[1], (10.0f32 / 3.0).next_up());
    assert_eq!(op("mul.rm.f32 %r4, %r1, %r2;")[2], (0.1f32 * 0.2).next_down());
    assert_eq!(op("sqrt.rn.f32 %r4, %r1;")[0], 3f32.sqrt());
    assert_eq!(op("rcp.rn.f32 %r4, %r1;")[0], 1.0 / 3.0);
    assert_eq!(op("rsqrt.approx.f32 %r4, %r1;")[0], (1.0 / 3f64.sqrt()) as f32);
    assert_eq!(op("ex2.approx.f32 %r4, %r1;")[..2], [8.0, 1024.0]);
    assert_eq!(op("lg2.approx.f32 %r4, %r2;")[0], 7f64.log2() as f32);
    assert_eq!(op("sin.approx.f32 %r4, %r1;")[0], 3f64.sin() as f32);
    assert_eq!(op("tanh.approx.f32 %r4, %r1;")[0], 3f64.tanh() as f32);
    // A product that lies just above a tie: rounding twice would lose it.
    let t = f(&[1.0 + f32::EPSILON]);
    let fused = eval("fma.rn.f32 %r4, %r1, %r1, %r2;", &t, &f(&[2f32.powi(25)]));
    assert_eq!(floats(&fused)[0], t_fma(t[0]));
    let mut random = tahoma_core::random::Random::new(1);
    let mut next = || {
        let s = random.bits() as u32;
        // Mantissas with few bits make ties and cancellations common.
        (s & 0xff80_0000) | ((s >> 3) & 0x0060_0003)
    };
    for _ in 0..200 {
        let (a, b): (Vec<u32>, Vec<u32>) = (0..32).map(|_| (next(), next())).unzip();
        let got = eval("fma.rn.f32 %r4, %r1, %r2, %r1;", &a, &b);
        for l in 0..32 {
            let (x, y) = (f32::from_bits(a[l]), f32::from_bits(b[l]));
            let want = x.mul_add(y, x);
            assert!(got[l] == want.to_bits() || want.is_nan() && got[l] == canonical, "{x:e} {y:e}");
        }
    }
}

fn t_fma(bits: u32) -> f32 {
    let t = f32::from_bits(bits);
    t.mul_add(t, 2f32.powi(25))
}

#[test]
fn half_precision() {
    let h = |x: f32| u32::from(half::f16::from_f32(x).to_bits());
    let b = |x: f32| u32::from(half::bf16::from_f32(x).to_bits());
    let pack = |lo: u32, hi: u32| lo | hi << 16;
    let x = [pack(h(1.5), h(-2.0))];
    let y = [pack(h(0.25), h(4.0))];
    assert_eq!(eval("add.rn.f16x2 %r4, %r1, %r2;", &x, &y), [pack(h(1.75), h(2.0))]);
    assert_eq!(eval("fma.rn.f16x2 %r4, %r1, %r2, %r1;", &x, &y), [pack(h(1.875), h(-10.0))]);
    assert_eq!(eval("max.f16x2 %r4, %r1, %r2;", &x, &y), [pack(h(1.5), h(4.0))]);
    // Of packed operands the second predicate is the upper halves', not the complement.
    let body = "setp.eq.f16x2 %p1|%p2, %r1, %r2; selp.b32 %r3, 1, 0, %p1; selp.b32 %r4, 2, 0, %p2; or.b32 %r4, %r4, %r3;";
    let (x, y) = ([pack(h(1.5), h(2.0)), pack(h(1.0), h(f32::NAN))], [pack(h(1.5), h(4.0)), pack(h(2.0), h(f32::NAN))]);
    assert_eq!(eval(body, &x, &y), [1, 0]);
    assert_eq!(eval(&body.replace("eq", "nan"), &x, &y), [0, 2]);
    let x = [pack(b(1.5), b(-2.0))];
    let y = [pack(b(0.25), b(4.0))];
    assert_eq!(eval("fma.rn.bf16x2 %r4, %r1, %r2, %r1;", &x, &y), [pack(b(1.875), b(-10.0))]);
    let body = "cvt.u16.u32 %rs1, %r1; mul.rn.f16 %rs2, %rs1, %rs1; cvt.f32.f16 %r4, %rs2;";
    assert_eq!(floats(&eval(body, &[h(3.0)], &[0])), [9.0]);
    let body = "cvt.u16.u32 %rs1, %r1; mov.b16 %rs2, 0x3C00; setp.lt.f16 %p1, %rs1, %rs2; selp.b32 %r4, 1, 0, %p1;";
    assert_eq!(eval(body, &[h(0.5), h(2.0)], &[0]), [1, 0]);
}

#[test]
fn conversions() {
    let x = f(&[2.5, -2.5, 3.7, 1e10, f32::NAN, -1e10]);
    let op = |s: &str| eval(s, &x, &[0]);
    assert_eq!(op("cvt.rni.s32.f32 %r4, %r1;"), [2, (-2i32) as u32, 4, 0x7fff_ffff, 0, 0x8000_0000]);
    assert_eq!(op("cvt.rzi.s32.f32 %r4, %r1;")[..3], [2, (-2i32) as u32, 3]);
    assert_eq!(op("cvt.rmi.s32.f32 %r4, %r1;")[..3], [2, (-3i32) as u32, 3]);
    assert_eq!(op("cvt.rpi.s32.f32 %r4, %r1;")[..3], [3, (-2i32) as u32, 4]);
    assert_eq!(op("cvt.rzi.u32.f32 %r4, %r1;"), [2, 0, 3, u32::MAX, 0, 0]);
    assert_eq!(floats(&op("cvt.rni.f32.f32 %r4, %r1;"))[..3], [2.0, -2.0, 4.0]);
    assert_eq!(floats(&op("cvt.sat.f32.f32 %r4, %r1;"))[..3], [1.0, 0.0, 1.0]);
    assert_eq!(floats(&op("cvt.rn.f16.f32 %rs1, %r1; cvt.f32.f16 %r4, %rs1;"))[2], half::f16::from_f32(3.7).to_f32());
    assert_eq!(floats(&op("cvt.rn.bf16.f32 %rs1, %r1; cvt.f32.bf16 %r4, %rs1;"))[2], half::bf16::from_f32(3.7).to_f32());
    assert_eq!(floats(&op("cvt.rz.bf16.f32 %rs1, %r1; cvt.f32.bf16 %r4, %rs1;"))[2], f32::from_bits(3.7f32.to_bits() & 0xffff_0000));
    assert_eq!(op("cvt.rn.f16x2.f32 %r4, %r1, 0f3F800000;")[0], 0x4100_3c00);
    assert_eq!(op("cvt.rn.bf16x2.f32 %r4, %r1, 0f3F800000;")[0], 0x4020_3f80);
    assert_eq!(op("cvt.rn.relu.bf16x2.f32 %r4, %r1, %r1;")[1], 0);
    assert_eq!(op("cvt.rn.satfinite.e4m3x2.f32 %rs1, %r1, 0f3F800000; cvt.u32.u16 %r4, %rs1;")[3], 0x7e38);
    assert_eq!(op("cvt.rn.satfinite.e4m3x2.f32 %rs1, %r1, 0f3F800000; cvt.rn.f16x2.e4m3x2 %r4, %rs1;")[0], 0x4100_3c00);
    let v = f32::from_bits(0x3f80_1000);
    assert_eq!(eval("cvt.rna.tf32.f32 %r4, %r1;", &f(&[v, -v]), &[0]), [0x3f80_2000, 0xbf80_2000]);
    assert_eq!(eval("cvt.rn.tf32.f32 %r4, %r1;", &f(&[v]), &[0]), [0x3f80_0000]);
    assert_eq!(floats(&eval("cvt.rn.f32.s32 %r4, %r1;", &[u32::MAX, 16_777_217], &[0])), [-1.0, 16_777_216.0]);
    assert_eq!(floats(&eval("cvt.rp.f32.u32 %r4, %r1;", &[16_777_217], &[0])), [16_777_218.0]);
    assert_eq!(eval("cvt.s32.s8 %r4, %r1;", &[0x180], &[0]), [0xffff_ff80]);
    assert_eq!(eval("cvt.u32.u8 %r4, %r1;", &[0x1ff], &[0]), [0xff]);
    assert_eq!(eval("cvt.sat.u8.s32 %r4, %r1;", &[300, (-5i32) as u32], &[0]), [255, 0]);
    let wide = eval64("cvt.rn.f32.f64 %r1, %rd1; cvt.f64.f32 %rd4, %r1;", &[0.1f64.to_bits()], &[0]);
    assert_eq!(wide, [f64::from(0.1f32).to_bits()]);
}

#[test]
fn comparisons() {
    let x = f(&[1.0, 2.0, f32::NAN]);
    let y = f(&[2.0, 2.0, 1.0]);
    let set = |c: &str| eval(&format!("setp.{c}.f32 %p1, %r1, %r2; selp.b32 %r4, 1, 0, %p1;"), &x, &y);
    assert_eq!(set("lt"), [1, 0, 0]);
    assert_eq!(set("ltu"), [1, 0, 1]);
    assert_eq!(set("ne"), [1, 0, 0]);
    assert_eq!(set("neu"), [1, 0, 1]);
    assert_eq!(set("geu"), [0, 1, 1]);
    assert_eq!(set("num"), [1, 1, 0]);
    assert_eq!(set("nan"), [0, 0, 1]);
    let both = "setp.lt.s32 %p1|%p2, %r1, %r2; selp.b32 %r3, 1, 0, %p1; selp.b32 %r4, 2, 0, %p2; or.b32 %r4, %r4, %r3;";
    assert_eq!(eval(both, &[u32::MAX, 5], &[0, 5]), [1, 2]);
    let join = "setp.gt.u32 %p2, %r2, 3; setp.lt.and.u32 %p1, %r1, %r2, %p2; selp.b32 %r4, 1, 0, %p1;";
    assert_eq!(eval(join, &[1, 1, 9], &[2, 5, 5]), [0, 1, 0]);
    let logic = "setp.eq.s32 %p1, %r1, 1; setp.eq.s32 %p2, %r2, 1; xor.pred %p3, %p1, %p2; not.pred %p4, %p3; @!%p4 mov.b32 %r4, 7; @%p4 mov.b32 %r4, 8;";
    assert_eq!(eval(logic, &[1, 1], &[1, 0]), [8, 7]);
    assert_eq!(eval("slct.b32.s32 %r4, 5, 6, %r1;", &[0, u32::MAX], &[0]), [5, 6]);
    assert_eq!(eval("testp.infinite.f32 %p1, %r1; selp.b32 %r4, 1, 0, %p1;", &f(&[f32::INFINITY, 1.0]), &[0]), [1, 0]);
}

#[test]
fn control_flow_diverges_and_meets() {
    // Collatz steps: every lane loops a different number of times.
    let body = "
        mov.b32 %r4, 0;
        mov.b32 %r5, %r1;
    LOOP:
        setp.eq.s32 %p1, %r5, 1;
        @%p1 bra DONE;
        and.b32 %r6, %r5, 1;
        setp.eq.s32 %p2, %r6, 1;
        @%p2 bra ODD;
        shr.u32 %r5, %r5, 1;
        bra.uni NEXT;
    ODD:
        mad.lo.s32 %r5, %r5, 3, 1;
    NEXT:
        add.s32 %r4, %r4, 1;
        bra.uni LOOP;
    DONE:
        activemask.b32 %r7;
        popc.b32 %r7, %r7;
        shl.b32 %r7, %r7, 16;
        or.b32 %r4, %r4, %r7;";
    let n: Vec<u32> = (1..=32).collect();
    let got = eval(body, &n, &[0; 32]);
    for (i, v) in got.iter().enumerate() {
        let (mut x, mut steps) = (i as u32 + 1, 0);
        while x != 1 {
            x = if x % 2 == 0 { x / 2 } else { 3 * x + 1 };
            steps += 1;
        }
        assert_eq!(*v, steps | 32 << 16, "lane {i}: steps, and all lanes met again");
    }
    let table = "
        mov.b32 %r4, 0;
        TARGETS: .branchtargets A, B, C;
        brx.idx %r1, TARGETS;
    A:  add.s32 %r4, %r4, 1;
    B:  add.s32 %r4, %r4, 10;
    C:  add.s32 %r4, %r4, 100;";
    assert_eq!(eval(table, &[0, 1, 2, 0], &[0; 4]), [111, 110, 100, 111]);
    let early = "st.global.b32 [%rd3], 5; setp.gt.s32 %p1, %r1, 2; @%p1 ret; mov.b32 %r4, 9;";
    assert_eq!(eval(early, &[1, 3], &[0; 2]), [9, 5]);
}

#[test]
fn warp_wide_instructions() {
    let id: Vec<u32> = (0..32).collect();
    let z = [0; 32];
    let got = eval("shfl.sync.bfly.b32 %r4, %r1, 1, 31, -1;", &id, &z);
    assert!(got.iter().enumerate().all(|(i, v)| *v == i as u32 ^ 1));
    let got = eval("shfl.sync.down.b32 %r4|%p1, %r1, 4, 31, -1; @!%p1 mov.b32 %r4, 77;", &id, &z);
    assert_eq!((got[0], got[27], got[28]), (4, 31, 77));
    let got = eval("shfl.sync.up.b32 %r4|%p1, %r1, 2, 0, -1; @!%p1 mov.b32 %r4, 77;", &id, &z);
    assert_eq!((got[1], got[2], got[31]), (77, 0, 29));
    // Segments of eight: the mask is 0b11000.
    let got = eval("shfl.sync.idx.b32 %r4, %r1, 3, 0x181f, -1;", &id, &z);
    assert_eq!((got[0], got[7], got[8], got[31]), (3, 3, 11, 27));
    let got = eval("setp.gt.s32 %p1, %r1, 29; vote.sync.ballot.b32 %r4, %p1, -1;", &id, &z);
    assert_eq!(got[0], 0xc000_0000);
    let got = eval("setp.ge.s32 %p1, %r1, 0; vote.sync.all.pred %p2, %p1, -1; selp.b32 %r4, 1, 0, %p2;", &id, &z);
    assert_eq!(got[5], 1);
    assert_eq!(eval("redux.sync.add.s32 %r4, %r1, -1;", &id, &z)[9], 496);
    assert_eq!(eval("redux.sync.max.u32 %r4, %r1, 0xff;", &id, &z).len(), 32);
    let got = eval("shr.u32 %r5, %r1, 3; match.any.sync.b32 %r4, %r5, -1;", &id, &z);
    assert_eq!((got[0], got[9]), (0xff, 0xff00));
    let got = eval("elect.sync %r4|%p1, -1; selp.b32 %r4, 1, 0, %p1;", &id, &z);
    assert_eq!(got.iter().sum::<u32>(), 1);
    assert_eq!(eval("mov.u32 %r4, %lanemask_lt;", &id, &z)[5], 0x1f);
    assert_eq!(eval("bar.warp.sync -1; mov.u32 %r4, %laneid;", &id, &z), id);
}

#[test]
fn memory_spaces() {
    // Local frame through the generic address LLVM makes of it.
    let local = "
        .local .align 16 .b8 __local_depot0[32];
        mov.b64 %rd5, __local_depot0;
        cvta.local.u64 %rd6, %rd5;
        st.local.v2.b32 [%rd5], {%r1, %r2};
        add.u64 %rd7, %rd6, 4;
        st.b8 [%rd7], 7;
        ld.v2.b32 {%r5, %r6}, [%rd6];
        sub.s32 %r4, %r5, %r6;";
    assert_eq!(eval(local, &[100, 200], &[0x105, 5]), [100u32.wrapping_sub(0x107), 193]);
    let shared = "
        .shared .align 8 .b8 buf[256];
        mov.u32 %r5, %tid.x;
        mul.wide.u32 %rd5, %r5, 8;
        mov.b64 %rd6, buf;
        add.s64 %rd7, %rd6, %rd5;
        cvta.shared.u64 %rd8, %rd7;
        st.shared.v2.b32 [%rd7], {%r1, %r2};
        bar.sync 0;
        ld.b32 %r6, [%rd8+4];
        isspacep.shared %p1, %rd8;
        selp.b32 %r7, 1000, 0, %p1;
        add.s32 %r4, %r6, %r7;";
    assert_eq!(eval(shared, &[1, 2], &[3, 4]), [1003, 1004]);
    let bytes = "
        .shared .align 4 .b8 buf[128];
        mov.u32 %r5, %tid.x;
        mov.b32 %r6, buf;
        add.s32 %r6, %r6, %r5;
        st.shared.b8 [%r6], %r1;
        bar.sync 0;
        ld.shared.s8 %r4, [%r6];";
    assert_eq!(eval(bytes, &[0x80, 0x17f, 3], &[0; 3]), [0xffff_ff80, 0x7f, 3]);
    let constants = ".version 8.0\n.target sm_90a\n.address_size 64\n\
        .const .align 4 .b32 table[4] = {10, 20, 30, 40};\n\
        .visible .entry k(.param .u64 a, .param .u64 b, .param .u64 o) {\n\
        .reg .b32 %r<5>; .reg .b64 %rd<9>;\n\
        mov.u32 %r1, %tid.x; mul.wide.u32 %rd1, %r1, 4;\n\
        mov.b64 %rd2, table; add.s64 %rd3, %rd2, %rd1; ld.const.b32 %r2, [%rd3]; ld.const.b32 %r3, [table+12];\n\
        add.s32 %r4, %r2, %r3; ld.param.b64 %rd4, [o]; add.s64 %rd5, %rd4, %rd1; st.global.b32 [%rd5], %r4; ret; }";
    assert_eq!(run(constants, &[0; 4], &[0; 4]).unwrap(), [50, 60, 70, 80]);
}

#[test]
fn atomics() {
    let body = "
        .shared .align 4 .b8 s[8];
        mov.u32 %r5, %tid.x;
        setp.eq.s32 %p1, %r5, 0;
        @%p1 st.shared.b32 [s], 0;
        @%p1 st.shared.b32 [s+4], 0f3F800000;
        bar.sync 0;
        atom.shared.add.u32 %r6, [s], %r1;
        red.relaxed.cta.shared.add.f32 [s+4], 0f3F000000;
        bar.sync 0;
        ld.shared.b32 %r7, [s];
        ld.shared.b32 %r8, [s+4];
        cvt.rzi.s32.f32 %r8, %r8;
        shl.b32 %r8, %r8, 16;
        or.b32 %r4, %r7, %r8;";
    assert_eq!(eval(body, &[1, 2, 3, 4], &[0; 4]), [10 | 3 << 16; 4]);
    let body = "atom.global.max.s32 %r5, [%rd2], %r2; atom.global.cas.b32 %r4, [%rd1], %r1, 55;";
    assert_eq!(eval(body, &[1, 2], &[3, 4]), [1, 2]);
}

mod mma {
    use super::*;

    /// Packs a matrix element by element into registers, by the PTX ISA's index formulas.
    struct Shape {
        name: &'static str,
        k: usize,
        a_regs: usize,
        b_regs: usize,
        per_reg: usize,
        /// (row, column) of element `i` of A in a lane with group `g` and thread-in-group `t`.
        a: fn(usize, usize, usize) -> (usize, usize),
        b: fn(usize, usize, usize) -> (usize, usize),
    }

    const SHAPES: [Shape; 7] = [
        Shape {
            name: "m16n8k8.row.col.f32.f16.f16.f32",
            k: 8,
            a_regs: 2,
            b_regs: 1,
            per_reg: 2,
            a: |g, t, i| (if i < 2 { g } else { g + 8 }, 2 * t + (i & 1)),
            b: |g, t, i| (2 * t + i, g),
        },
        Shape {
            name: "m16n8k16.row.col.f32.f16.f16.f32",
            k: 16,
            a_regs: 4,
            b_regs: 2,
            per_reg: 2,
            a: |g, t, i| (if i < 2 || (4..6).contains(&i) { g } else { g + 8 }, 2 * t + (i & 1) + if i < 4 { 0 } else { 8 }),
            b: |g, t, i| (2 * t + (i & 1) + if i < 2 { 0 } else { 8 }, g),
        },
        Shape {
            name: "m16n8k16.row.col.f32.bf16.bf16.f32",
            k: 16,
            a_regs: 4,
            b_regs: 2,
            per_reg: 2,
            a: |g, t, i| (if i < 2 || (4..6).contains(&i) { g } else { g + 8 }, 2 * t + (i & 1) + if i < 4 { 0 } else { 8 }),
            b: |g, t, i| (2 * t + (i & 1) + if i < 2 { 0 } else { 8 }, g),
        },
        Shape {
            name: "m16n8k4.row.col.f32.tf32.tf32.f32",
            k: 4,
            a_regs: 2,
            b_regs: 1,
            per_reg: 1,
            a: |g, t, i| (if i == 0 { g } else { g + 8 }, t),
            b: |g, t, _| (t, g),
        },
        Shape {
            name: "m16n8k8.row.col.f32.tf32.tf32.f32",
            k: 8,
            a_regs: 4,
            b_regs: 2,
            per_reg: 1,
            a: |g, t, i| (if i % 2 == 0 { g } else { g + 8 }, if i < 2 { t } else { t + 4 }),
            b: |g, t, i| (if i == 0 { t } else { t + 4 }, g),
        },
        Shape {
            name: "m16n8k16.row.col.s32.s8.s8.s32",
            k: 16,
            a_regs: 2,
            b_regs: 1,
            per_reg: 4,
            a: |g, t, i| (if i < 4 { g } else { g + 8 }, 4 * t + (i & 3)),
            b: |g, t, i| (4 * t + (i & 3), g),
        },
        Shape {
            name: "m16n8k32.row.col.s32.s8.s8.s32",
            k: 32,
            a_regs: 4,
            b_regs: 2,
            per_reg: 4,
            a: |g, t, i| (if i < 4 || (8..12).contains(&i) { g } else { g + 8 }, 4 * t + (i & 3) + if i < 8 { 0 } else { 16 }),
            b: |g, t, i| (4 * t + (i & 3) + if i < 4 { 0 } else { 16 }, g),
        },
    ];

    fn encode(name: &str, v: f32) -> u32 {
        if name.contains("bf16") {
            u32::from(half::bf16::from_f32(v).to_bits())
        } else if name.contains("f16") {
            u32::from(half::f16::from_f32(v).to_bits())
        } else if name.contains("s8") {
            u32::from(v as i8 as u8)
        } else {
            // Low bits that tf32 must ignore.
            v.to_bits() | 0x1abc
        }
    }

    fn check(s: &Shape) {
        let x = |r: usize, c: usize| ((r * 7 + c * 3) % 13) as f32 - 6.0;
        let y = |r: usize, c: usize| ((r * 5 + c * 11) % 9) as f32 - 4.0;
        let int = s.name.contains("s8");
        let regs = s.a_regs + s.b_regs;
        let mut words = vec![0u32; 32 * regs];
        for l in 0..32 {
            let (g, t) = (l / 4, l % 4);
            for i in 0..s.a_regs * s.per_reg {
                let (r, c) = (s.a)(g, t, i);
                let bits = 32 / s.per_reg as u32;
                words[l * regs + i / s.per_reg] |= encode(s.name, x(r, c)) << (bits * (i % s.per_reg) as u32);
            }
            for i in 0..s.b_regs * s.per_reg {
                let (r, c) = (s.b)(g, t, i);
                let bits = 32 / s.per_reg as u32;
                words[l * regs + s.a_regs + i / s.per_reg] |= encode(s.name, y(r, c)) << (bits * (i % s.per_reg) as u32);
            }
        }
        let list = |from: usize, n: usize| (from..from + n).map(|i| format!("%r{}", 20 + i)).collect::<Vec<_>>().join(", ");
        let loads: String = (0..regs).map(|i| format!("ld.global.b32 %r{}, [%rd5+{}];\n", 20 + i, 4 * i)).collect();
        let acc = if int { "3" } else { "0f40400000" };
        let text = format!(
            ".version 8.0\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 a, .param .u64 b, .param .u64 o) {{\n\
             .reg .b32 %r<40>; .reg .b64 %rd<9>;\n\
             mov.u32 %r1, %tid.x; ld.param.b64 %rd1, [a]; ld.param.b64 %rd2, [o];\n\
             mad.wide.u32 %rd5, %r1, {}, %rd1; mad.wide.u32 %rd6, %r1, 16, %rd2;\n{loads}\
             mov.b32 %r2, {acc}; mov.b32 %r3, {acc}; mov.b32 %r4, {acc}; mov.b32 %r5, {acc};\n\
             mma.sync.aligned.{} {{%r2, %r3, %r4, %r5}}, {{{}}}, {{{}}}, {{%r2, %r3, %r4, %r5}};\n\
             st.global.v4.b32 [%rd6], {{%r2, %r3, %r4, %r5}}; ret; }}",
            4 * regs,
            s.name,
            list(0, s.a_regs),
            list(s.a_regs, s.b_regs)
        );
        ptx_common::dump(&text);
        let m = Module::parse(&text, "mma.ptx").unwrap();
        let mut mem = Memory::new();
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        let a = mem.alloc("a", bytes.len() as u64).unwrap();
        mem.write(a, &bytes).unwrap();
        let o = mem.alloc("o", 512).unwrap();
        let args = [Arg::Ptr(a), Arg::Ptr(a), Arg::Ptr(o)];
        launch(&m, "k", [1, 1, 1], [32, 1, 1], 0, &args, &mut mem, &Options::default()).unwrap();
        let out = mem.read(o, 512).unwrap();
        for l in 0..32 {
            let (g, t) = (l / 4, l % 4);
            for i in 0..4 {
                let (r, c) = (if i < 2 { g } else { g + 8 }, 2 * t + (i & 1));
                let want: f32 = 3.0 + (0..s.k).map(|k| x(r, k) * y(k, c)).sum::<f32>();
                let at = (l * 4 + i) * 4;
                let raw = u32::from_le_bytes([out[at], out[at + 1], out[at + 2], out[at + 3]]);
                let got = if int { raw as i32 as f32 } else { f32::from_bits(raw) };
                assert_eq!(got, want, "{} at ({r}, {c})", s.name);
            }
        }
    }

    #[test]
    fn fragments_are_those_of_the_isa() {
        SHAPES.iter().for_each(check);
    }

    #[test]
    fn f16_accumulators() {
        let body = "
            mov.b32 %r5, 0x3c003c00; mov.b32 %r6, 0x40004000;
            mma.sync.aligned.m16n8k8.row.col.f16.f16.f16.f16 {%r7, %r8}, {%r5, %r5}, {%r6}, {%r5, %r6};
            add.s32 %r4, %r7, %r8;";
        // 8 · 1 · 2 + 1 = 17 and + 2 = 18, in both halves.
        let h = |x: f32| {
            let b = u32::from(half::f16::from_f32(x).to_bits());
            b | b << 16
        };
        assert_eq!(eval(body, &[0; 32], &[0; 32])[3], h(17.0).wrapping_add(h(18.0)));
    }

    #[test]
    fn f64_matrices() {
        let body = "
            mov.u32 %r1, %tid.x; cvt.rn.f64.u32 %rd5, %r1; mov.b64 %rd6, 0d3FF0000000000000;
            mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%rd7, %rd8}, {%rd5}, {%rd6}, {%rd6, %rd6};
            cvt.rzi.s32.f64 %r4, %rd8;";
        // Row g of A holds 4g..4g+3.
        assert_eq!(eval(body, &[0; 32], &[0; 32])[8], (8 + 9 + 10 + 11) + 1);
    }

    #[test]
    fn ldmatrix_transposes() {
        let body = "
            .shared .align 16 .b8 s[128];
            mov.u32 %r5, %tid.x;
            shl.b32 %r6, %r5, 2; mov.b32 %r7, s; add.s32 %r8, %r7, %r6;
            st.shared.b32 [%r8], %r1;
            bar.sync 0;
            and.b32 %r9, %r5, 7; shl.b32 %r9, %r9, 4; add.s32 %r9, %r9, %r7;
            ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%r4}, [%r9];
            stmatrix.sync.aligned.m8n8.x1.trans.shared.b16 [%r9], {%r4};
            bar.sync 0;
            ld.shared.b32 %r10, [%r8];
            setp.ne.s32 %p1, %r10, %r1;
            @%p1 trap;";
        // Element (r, c) is 8r + c.
        let words: Vec<u32> = (0..32).map(|i| (2 * i) | ((2 * i + 1) << 16)).collect();
        let got = eval(body, &words, &[0; 32]);
        for l in 0..32u32 {
            let (r, c) = (2 * (l % 4), l / 4);
            assert_eq!(got[l as usize], (8 * r + c) | (8 * (r + 1) + c) << 16);
        }
    }
}

/// PTX 7.0, which sm_80 needs, has no sink `_`: LLVM declares a register for the half it does not want, in a block of its own.
#[test]
fn a_register_of_a_block_needs_no_percent_sign() {
    let text = |second: &str| {
        format!(
            ".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 p) {{
  .reg .b16 %rs<3>;
  .reg .b32 %r<3>;
  .reg .b64 %rd<2>;
  ld.param.b64 %rd1, [p];
  ld.global.b32 %r1, [%rd1];
  {{ .reg .b16 tmp; mov.b32 {{%rs1, tmp}}, %r1; }}
  {{ .reg .{second} tmp; mov.b32 {{tmp, %rs2}}, %r1; }}
  mov.b32 %r2, {{%rs2, %rs1}};
  st.global.b32 [%rd1], %r2;
  ret;
}}"
        )
    };
    let m = Module::parse(&text("b16"), "k.ptx").unwrap();
    let mut mem = Memory::new();
    let p = mem.alloc("p", 4).unwrap();
    mem.write(p, &[1, 2, 3, 4]).unwrap();
    launch(&m, "k", [1; 3], [1; 3], 0, &[Arg::Ptr(p)], &mut mem, &Options::default()).unwrap();
    assert_eq!(mem.read(p, 4).unwrap(), &[3, 4, 1, 2]);
    assert!(Module::parse(&text("b32"), "k.ptx").unwrap_err().to_string().contains("of another size"));
}
