//! Every rule has a kernel that breaks it, and the fault says which.

use super::*;
use tahoma_core::DType::*;
use tahoma_machine::trn2::parse::parse;
use tahoma_machine::trn2::time;

/// A kernel with inputs x, z f32[128, 512] and b bf16[128, 512] loaded to tiles xt, zt, bt, and these lines.
fn kernel(body: &str) -> String {
    let lines: String = body.lines().map(|l| format!("    {l}\n")).collect();
    format!(
        "# NKI 0.6
@nki.jit
def k(x, z, b):
    # x: float32[128, 512]
    # z: float32[128, 512]
    # b: bfloat16[128, 512]
    out = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.shared_hbm)
    xt = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.sbuf)
    zt = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.sbuf)
    bt = nl.ndarray((128, 512), dtype=nl.bfloat16, buffer=nl.sbuf)
    nisa.dma_copy(dst=xt, src=x)
    nisa.dma_copy(dst=zt, src=z)
    nisa.dma_copy(dst=bt, src=b)
    nisa.dma_copy(dst=out, src=xt)
{lines}    return out
"
    )
}

fn outcome(body: &str) -> Result<Outcome, Fault> {
    let p = parse(&kernel(body)).unwrap_or_else(|e| panic!("{e}"));
    let x = HbmTensor::from_f32(F32, &[128, 512], &vec![0.5; 128 * 512]);
    let b = HbmTensor::from_f32(BF16, &[128, 512], &vec![0.5; 128 * 512]);
    simulate(&p, &[x.clone(), x, b], &Options::default())
}

#[track_caller]
fn breaks(rule: &str, body: &str) {
    match outcome(body) {
        Ok(_) => panic!("{rule}: runs\n{body}"),
        Err(f) => {
            assert_eq!(f.rule, rule, "{f}");
            assert!(f.kernel == "k" && f.line >= 7, "{f:?}");
        }
    }
}

#[track_caller]
fn runs(body: &str) {
    if let Err(f) = outcome(body) {
        panic!("{f}");
    }
}

fn tile(name: &str, shape: &str, dtype: &str, mem: &str) -> String {
    format!("{name} = nl.ndarray({shape}, dtype=nl.{dtype}, buffer=nl.{mem})\n")
}

#[test]
fn a_fault_reads_like_a_sentence() {
    let body = tile("p", "(128, 512)", "float32", "psum") + "nisa.nc_matmul(dst=p, stationary=bt, moving=bt)";
    let f = outcome(&body).unwrap_err();
    assert_eq!(f.to_string(), "kernel k, line 16: nc_matmul: stationary: 1 to 256 elements per partition; got 512 [free-size]");
}

#[test]
fn capacity() {
    breaks("sbuf-capacity", &tile("big", "(128, 60000)", "float32", "sbuf"));
    // Two that fit alone, live at once.
    let two = tile("u", "(128, 27000)", "float32", "sbuf") + &tile("v", "(128, 27000)", "float32", "sbuf");
    let used = "nisa.memset(dst=u, value=0.0)\nnisa.memset(dst=v, value=0.0)\nnisa.tensor_copy(dst=u[:, 0:64], src=v[:, 0:64])";
    breaks("sbuf-capacity", &(two.clone() + used));
    // Not at once: the first is dead when the second is made.
    let after = tile("u", "(128, 26000)", "float32", "sbuf")
        + "nisa.memset(dst=u, value=0.0)\n"
        + &tile("v", "(128, 26000)", "float32", "sbuf")
        + "nisa.memset(dst=v, value=0.0)";
    runs(&after);
    breaks("psum-capacity", &tile("p", "(128, 5000)", "float32", "psum"));
    let nine: String = (0..9).map(|i| tile(&format!("p{i}"), "(128, 4)", "float32", "psum")).collect();
    let use_all: String = (0..9).map(|i| format!("nisa.memset(dst=p{i}, value=0.0)\n")).collect();
    breaks("psum-capacity", &(nine + &use_all));
    // A tile of a loop body is freed by the end of its iteration.
    runs("for i in range(9):\n    p = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.psum)\n    nisa.memset(dst=p, value=0.0)");
}

#[test]
fn positions() {
    breaks("start-partition", "nisa.tensor_copy(dst=xt[16:48, :], src=xt[0:32, :])");
    breaks("start-partition", "nisa.tensor_copy(dst=xt[32:96, :], src=xt[0:64, :])");
    breaks("start-partition", "nisa.tensor_copy(dst=xt[32:128, :], src=xt[32:128, :])");
    runs("nisa.tensor_copy(dst=xt[96:128, :], src=xt[32:64, :])\nnisa.tensor_copy(dst=xt[64:128, :], src=xt[0:64, :])");
    breaks("out-of-bounds", "for i in range(5):\n    nisa.memset(dst=xt[:, 128*i:128*i + 128], value=0.0)");
    breaks("out-of-bounds", "for i in range(3):\n    nisa.dma_copy(dst=xt[0:64, :], src=x[64*i:64*i + 64, :])");
    breaks("out-of-bounds", "nisa.memset(dst=xt.ap(pattern=[[512, 128], [1, 512]], offset=1), value=0.0)");
    breaks("out-of-bounds", "nisa.dma_copy(dst=xt, src=x.ap(pattern=[[512, 128], [1, 512]], offset=1))");
    // Numbers of any size: sums and products of them are no smaller.
    let huge = i64::MAX;
    breaks("out-of-bounds", &format!("nisa.dma_copy(dst=xt, src=x.ap(pattern=[[512, 128], [1, 512]], offset={huge}))"));
    breaks("out-of-bounds", &format!("nisa.dma_copy(dst=xt, src=x.ap(pattern=[[{huge}, 128], [{huge}, 512]], offset={huge}))"));
    breaks("out-of-bounds", &format!("for i in range(3):\n    nisa.memset(dst=xt[:, {huge}*i:{huge}*i + 128], value=0.0)"));
    breaks("shape", &format!("nisa.dma_copy(dst=xt, src=x.ap(pattern=[[512, {huge}], [1, {huge}]], offset=0))"));
    breaks("partition-step", "nisa.memset(dst=xt[0:64:2, :], value=0.0)");
    breaks("partition-step", "nisa.memset(dst=xt.ap(pattern=[[256, 128], [1, 8]], offset=0), value=0.0)");
    breaks(
        "pattern-rank",
        "nisa.memset(dst=xt.ap(pattern=[[512, 128], [256, 2], [100, 2], [40, 2], [16, 2], [1, 2]], offset=0), value=0.0)",
    );
    breaks("pattern-step", "nisa.memset(dst=xt.ap(pattern=[[512, 128], [0, 4]], offset=0), value=0.0)");
    let wide = tile("w", "(128, 50000)", "uint8", "sbuf");
    breaks("pattern-step", &(wide + "nisa.memset(dst=w.ap(pattern=[[50000, 128], [40000, 2]], offset=0), value=0.0)"));
}

#[test]
fn tensor_engine() {
    let p = tile("p", "(128, 2, 512)", "float32", "psum");
    let mm = |rest: &str| p.clone() + rest;
    breaks("free-size", &mm("nisa.nc_matmul(dst=p[:, 0, 0:256], stationary=bt[:, 0:300], moving=bt[:, 0:256])"));
    breaks("stationary-size", &mm("nisa.nc_matmul(dst=p[:, 0, 0:256], stationary=bt[:, 0:200], moving=bt[:, 0:256])"));
    let wide = tile("w", "(128, 600)", "bfloat16", "sbuf") + "nisa.memset(dst=w, value=0.0)\n";
    breaks("moving-size", &mm(&(wide + "nisa.nc_matmul(dst=p[:, 0, :], stationary=bt[:, 0:128], moving=w)")));
    breaks("contract-size", &mm("nisa.nc_matmul(dst=p[:, 0, :], stationary=bt[0:64, 0:128], moving=bt)"));
    breaks("matmul-dtypes", &mm("nisa.nc_matmul(dst=p[:, 0, :], stationary=xt[:, 0:128], moving=bt)"));
    breaks("buffer", "nisa.nc_matmul(dst=xt, stationary=bt[:, 0:128], moving=bt)");
    breaks("buffer", &mm("nisa.nc_matmul(dst=p[:, 1, :], stationary=bt[:, 0:128], moving=p[:, 0, :])"));
    let half = tile("h", "(128, 512)", "bfloat16", "psum");
    breaks("matmul-output", &(half + "nisa.nc_matmul(dst=h, stationary=bt[:, 0:128], moving=bt)"));
    breaks("shape", &mm("nisa.nc_matmul(dst=p[:, 0, 0:100], stationary=bt[:, 0:128], moving=bt)"));
    let flat = tile("f", "(128, 1024)", "float32", "psum");
    breaks("psum-bank", &(flat + "nisa.nc_matmul(dst=f[:, 256:768], stationary=bt[:, 0:128], moving=bt)"));
    breaks(
        "double-row",
        &mm("nisa.nc_matmul(dst=p[:, 0, :], stationary=bt[:, 0:128], moving=bt, perf_mode=nisa.matmul_perf_mode.double_row)"),
    );
    breaks("tile-position", &mm("nisa.nc_matmul(dst=p[:, 0, :], stationary=bt[:, 0:128], moving=bt, tile_size=(64, 64))"));
    // Accumulation groups.
    let to = "dst=p[:, 0, :], stationary=bt[:, 0:128], moving=bt";
    breaks("accumulate", &mm(&format!("nisa.nc_matmul({to}, accumulate=True)")));
    breaks("accumulate", &mm(&format!("nisa.memset(dst=p, value=0.0)\nnisa.nc_matmul({to}, accumulate=True)")));
    // The first product of a group overwrites, whatever wrote there; it is told.
    let after = outcome(&mm(&format!("nisa.memset(dst=p, value=0.0)\nnisa.nc_matmul({to})"))).unwrap_or_else(|f| panic!("{f}"));
    assert!(after.warnings.len() == 1 && after.warnings[0].contains("accumulate=False says so"), "{:?}", after.warnings);
    breaks("accumulate", &mm(&format!("nisa.nc_matmul({to})\nnisa.memset(dst=p[:, 0, 0:9], value=0.0)\nnisa.nc_matmul({to})")));
    runs(&mm(&format!("nisa.nc_matmul({to}, accumulate=False)\nnisa.nc_matmul({to}, accumulate=True)\nnisa.nc_matmul({to})")));
    runs(&mm(&format!("nisa.memset(dst=p, value=0.0)\nnisa.nc_matmul({to}, accumulate=False)")));
    // Transposes.
    let t = tile("t", "(128, 128)", "bfloat16", "psum");
    breaks("dtype", &(tile("t", "(128, 128)", "float32", "psum") + "nisa.nc_transpose(dst=t, data=bt[:, 0:128])"));
    breaks("shape", &(t.clone() + "nisa.nc_transpose(dst=t, data=bt[:, 0:64])"));
    breaks("transpose-size", "nisa.nc_transpose(dst=xt[0:64, 0:64], data=xt[0:64, 0:64])");
    breaks("transpose-identity", &(t + "nisa.nc_matmul(dst=t, stationary=bt[:, 0:128], moving=bt[:, 0:128], is_transpose=True)"));
}

#[test]
fn vector_scalar_and_gpsimd() {
    let p = tile("p", "(128, 512)", "float32", "psum") + "nisa.memset(dst=p, value=1.0)\n";
    let with = |rest: &str| p.clone() + rest;
    breaks("both-psum", &with("nisa.tensor_tensor(dst=xt, data1=p, data2=p, op=nl.add)"));
    runs(&with("nisa.tensor_tensor(dst=xt, data1=p, data2=zt, op=nl.add)"));
    breaks("both-psum", &with("nisa.scalar_tensor_tensor(dst=xt, data=p, op0=nl.add, operand0=1.0, op1=nl.add, operand1=p)"));
    breaks("gpsimd-psum", &with("nisa.tensor_copy(dst=xt, src=p, engine=nisa.engine.gpsimd)"));
    breaks("gpsimd-psum", &with("nisa.tensor_tensor(dst=p, data1=xt, data2=zt, op=nl.power)"));
    breaks("engine", "nisa.tensor_copy(dst=xt, src=zt, engine=nisa.engine.tensor)");
    breaks("engine", "nisa.dma_copy(dst=xt, src=z, engine=nisa.engine.sync)");
    runs("nisa.dma_copy(dst=xt, src=z, engine=nisa.engine.sync, dge_mode=nisa.dge_mode.hwdge)");
    breaks("alu-engine", "nisa.tensor_scalar(dst=xt, data=zt, op0=nl.subtract, operand0=1.0, engine=nisa.engine.scalar)");
    breaks("alu-engine", "nisa.tensor_scalar(dst=xt, data=zt, op0=nl.rsqrt, operand0=0.0, engine=nisa.engine.vector)");
    breaks("alu-engine", "nisa.tensor_tensor(dst=xt, data1=xt, data2=zt, op=nl.power, engine=nisa.engine.vector)");
    runs("nisa.tensor_scalar(dst=xt, data=zt, op0=nl.rsqrt, operand0=0.0)");
    breaks("alu-group", "nisa.tensor_tensor(dst=xt, data1=xt, data2=zt, op=nl.relu)");
    breaks("dtype", "nisa.tensor_tensor(dst=xt, data1=xt, data2=zt, op=nl.bitwise_and)");
    // Of trn3, or of no machine.
    for op in ["square", "relu"] {
        breaks("alu-group", &format!("nisa.tensor_scalar(dst=xt, data=xt, op0=nl.{op}, operand0=0.0)"));
    }
    let of_trn3 = parse(&kernel("nisa.tensor_tensor(dst=xt, data1=xt, data2=zt, op=nl.abs_max)"));
    assert!(of_trn3.is_err_and(|e| e.to_string().contains("nl.abs_max is not an ALU operator of trn2")));
    // What takes one operand gets no second.
    breaks("operand", "nisa.tensor_scalar(dst=xt, data=xt, op0=nl.abs, operand0=2.0)");
    breaks("operand", "nisa.tensor_scalar(dst=xt, data=xt, op0=nl.add, operand0=2.0, op1=nl.abs, operand1=2.0)");
    runs("nisa.tensor_scalar(dst=xt, data=xt, op0=nl.add, operand0=2.0, op1=nl.abs, operand1=0.0)");
    let ints = tile("u", "(128, 512)", "int32", "sbuf") + "nisa.memset(dst=u, value=3)\n";
    breaks("alu-group", &(ints.clone() + "nisa.tensor_scalar(dst=u, data=u, op0=nl.bitwise_and, operand0=1, op1=nl.add, operand1=1)"));
    breaks("alu-group", "nisa.scalar_tensor_tensor(dst=xt, data=xt, op0=nl.bitwise_and, operand0=1.0, op1=nl.add, operand1=zt)");
    breaks("alu-reduce", "nisa.tensor_reduce(dst=xt[:, 0:1], op=nl.equal, data=zt, axis=1)");
    breaks("reduce-axes", "nisa.tensor_reduce(dst=xt[:, 0:1], op=nl.add, data=zt, axis=0)");
    breaks("shape", "nisa.tensor_reduce(dst=xt[:, 0:2], op=nl.add, data=zt, axis=1)");
    breaks("shape", "nisa.tensor_copy(dst=xt[:, 0:100], src=zt)");
    breaks("shape", "nisa.tensor_tensor(dst=xt[0:64, :], data1=xt, data2=zt, op=nl.add)");
    breaks("dtype", "nisa.tensor_scalar(dst=xt, data=zt, op0=nl.add, operand0=bt[:, 0:1])");
    breaks("scalar-operand", "nisa.tensor_scalar(dst=xt, data=zt, op0=nl.add, operand0=xt[:, 0:2])");
    breaks("scalar-operand", "nisa.tensor_scalar(dst=xt, data=zt, op0=nl.add, operand0=xt[0:64, 0:1])");
    breaks("operand", "nisa.tensor_scalar(dst=xt, data=zt, op0=nl.add, operand0=1.0, op1=nl.add)");
    breaks("alu-reduce", "nisa.activation_reduce(dst=xt, op=nl.exp, data=zt, reduce_op=nl.maximum, reduce_res=bt[:, 0:1])");
    breaks("free-size", "nisa.bn_stats(dst=xt[:, 0:5], data=zt)");
    breaks(
        "free-size",
        &(tile("w", "(128, 513)", "float32", "sbuf") + "nisa.memset(dst=w, value=0.0)\nnisa.bn_stats(dst=xt[:, 0:6], data=w)"),
    );
    breaks("free-size", "nisa.max8(dst=xt[:, 0:7], src=zt)");
    breaks("value", "nisa.nc_stream_shuffle(dst=xt, src=zt, shuffle_mask=[0, 1])");
    breaks("dtype", "nisa.nc_stream_shuffle(dst=bt, src=zt, shuffle_mask=[0, 1])");
    breaks("shape", "nisa.iota(dst=xt, pattern=[[1, 100]])");
    breaks("dtype", "nisa.nc_n_gather(dst=xt, data=zt, indices=xt)");
    breaks("buffer", "nisa.tensor_copy(dst=xt, src=x)");
    breaks("input-written", "nisa.dma_copy(dst=x, src=xt)");
    breaks(
        "value",
        "nisa.range_select(dst=xt, on_true_tile=zt, comp_op0=nl.less, comp_op1=nl.less, bound0=xt[:, 0:1], bound1=xt[:, 0:1], on_false_value=0.0)",
    );
}

#[test]
fn memory_that_nothing_wrote() {
    breaks("uninitialised", &(tile("t", "(128, 512)", "float32", "sbuf") + "nisa.tensor_copy(dst=xt, src=t)"));
    breaks("uninitialised", &(tile("t", "(128, 512)", "int32", "sbuf") + "nisa.tensor_copy(dst=xt, src=t)"));
    breaks(
        "uninitialised",
        &(tile("t", "(128, 512)", "float32", "sbuf") + "nisa.memset(dst=t[:, 0:511], value=0.0)\nnisa.dma_copy(dst=out, src=t)"),
    );
    breaks(
        "uninitialised",
        &(tile("t", "(128, 128)", "bfloat16", "sbuf")
            + &tile("p", "(128, 512)", "float32", "psum")
            + "nisa.nc_matmul(dst=p, stationary=t, moving=bt)"),
    );
    // A tile of a loop body is new in each iteration.
    breaks(
        "uninitialised",
        "for i in range(2):\n    t = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.sbuf)\n    nisa.tensor_copy(dst=t[:, 256*i:256*i + 256], src=xt[:, 0:256])\n    nisa.tensor_copy(dst=xt[:, 0:256], src=t[:, 0:256])",
    );
    // The accumulators: something is added to one, or one is read, before it was reset.
    let sum = |cmd: &str| {
        tile("r", "(128, 1)", "float32", "sbuf")
            + &format!("nisa.activation(dst=xt, op=nl.square, data=xt, reduce_op=nl.add, reduce_res=r, reduce_cmd=nisa.reduce_cmd.{cmd})")
    };
    breaks("uninitialised", &sum("reduce"));
    breaks("uninitialised", &sum("idle"));
    runs(&sum("reset_reduce"));
    let most = |cmd: &str| {
        tile("m", "(128, 512)", "uint8", "sbuf")
            + "nisa.memset(dst=m, value=1.0)\n"
            + &format!("nisa.select_reduce(dst=xt, predicate=m, on_true=zt, on_false=0.0, reduce_cmd=nisa.reduce_cmd.{cmd})")
    };
    breaks("uninitialised", &most("reduce"));
    runs(&most("reset_reduce"));
    // Whatever bits a caller's NaN has, it was written.
    let p = parse(&kernel("nisa.tensor_copy(dst=zt, src=xt)")).unwrap();
    let nan = HbmTensor::new(F32, &[128, 512], [0xad, 0xde, 0xc0, 0x7f].repeat(128 * 512));
    let b = HbmTensor::from_f32(BF16, &[128, 512], &vec![0.5; 128 * 512]);
    simulate(&p, &[nan.clone(), nan, b], &Options::default()).unwrap();
    let p = parse("# NKI 0.6\n@nki.jit\ndef k(x):\n    # x: float32[4, 4]\n    out = nl.ndarray((4, 4), dtype=nl.float32, buffer=nl.shared_hbm)\n    nisa.dma_copy(dst=out[0:3, :], src=x[0:3, :])\n    return out\n").unwrap();
    let x = HbmTensor::from_f32(F32, &[4, 4], &[0.0; 16]);
    assert_eq!(simulate(&p, &[x], &Options::default()).unwrap_err().rule, "output-unwritten");
}

#[test]
fn dma() {
    breaks("shape", "nisa.dma_copy(dst=xt[:, 0:100], src=x)");
    breaks("buffer", &(tile("p", "(128, 512)", "float32", "psum") + "nisa.dma_copy(dst=p, src=x)"));
    breaks(
        "pattern-rank",
        "nisa.dma_copy(dst=xt[:, 0:32], src=x.ap(pattern=[[512, 128], [200, 2], [90, 2], [40, 2], [16, 2], [3, 2]], offset=0))",
    );
    breaks("dtype", "nisa.dma_transpose(dst=bt[:, 0:128], src=x[:, 0:128])");
    breaks("shape", "nisa.dma_transpose(dst=xt[:, 0:64], src=x[:, 0:128])");
    breaks("dma-transpose", "nisa.dma_transpose(dst=xt[:, 0:128], src=x[:, 0:128], axes=(0, 1))");
    breaks("dge-mode", "nisa.dma_transpose(dst=xt[:, 0:128], src=x[:, 0:128], dge_mode=nisa.dge_mode.swdge)");
    breaks(
        "dge-mode",
        &(tile("i", "(128, 1)", "int32", "sbuf")
            + "nisa.memset(dst=i, value=0)\nnisa.dma_copy(dst=xt, src=x.ap(pattern=[[512, 128], [1, 512]], offset=0, vector_offset=i), dge_mode=nisa.dge_mode.hwdge)"),
    );
    let far = tile("i", "(128, 1)", "int32", "sbuf") + "nisa.memset(dst=i, value=128)\n";
    let gather = "nisa.dma_copy(dst=xt, src=x.ap(pattern=[[512, 128], [1, 512]], offset=0, vector_offset=i)";
    breaks("out-of-bounds", &(far.clone() + gather + ")"));
    runs(&(far + gather + ", oob_mode=nisa.oob_mode.skip)"));
    breaks(
        "indirect",
        &(tile("i", "(128, 1)", "int32", "sbuf")
            + "nisa.memset(dst=i, value=0)\nnisa.dma_copy(dst=xt, src=zt.ap(pattern=[[512, 128], [1, 512]], offset=0, vector_offset=i))"),
    );
}

#[test]
fn inputs_outputs_and_ranges() {
    let p = parse(&kernel("pass")).unwrap();
    assert_eq!(simulate(&p, &[], &Options::default()).unwrap_err().rule, "input");
    let x = HbmTensor::from_f32(F32, &[128, 512], &vec![0.0; 128 * 512]);
    assert_eq!(simulate(&p, &[x.clone(), x.clone(), x], &Options::default()).unwrap_err().rule, "input");
    let p = parse(&kernel("pass").replace("return out", "return x")).unwrap();
    assert_eq!(time(&p, &TRN2).unwrap_err().rule, "output-buffer");
    let o = outcome("nisa.activation(dst=xt, op=nl.sin, data=zt, scale=18.0)").unwrap();
    assert!(o.warnings[0].contains("sin of 9.0 is outside"), "{:?}", o.warnings);
    assert!(outcome("nisa.activation(dst=xt, op=nl.sin, data=zt)").unwrap().warnings.is_empty());
}

/// Capacity limits prefetching: with less memory the same loop takes longer.
#[test]
fn memory_that_is_short_serialises_a_loop() {
    let time = |extra: &str| {
        let body = format!(
            "{extra}for i in range(8):
    t = nl.ndarray((128, 24000), dtype=nl.bfloat16, buffer=nl.sbuf)
    nisa.dma_copy(dst=t, src=b.ap(pattern=[[512, 128], [0, 46], [1, 512]], offset=0)[0:1])
"
        );
        let body = body.replace(
            "[[512, 128], [0, 46], [1, 512]], offset=0)[0:1])",
            "[[0, 128], [1, 24000]], offset=0))\n    nisa.activation(dst=t, op=nl.copy, data=t)",
        );
        tahoma_machine::trn2::time(&parse(&kernel(&body)).unwrap(), &TRN2).unwrap_or_else(|e| panic!("{e}")).total_ns
    };
    let hog = tile("hog", "(128, 30000)", "float32", "sbuf") + "nisa.memset(dst=hog, value=0.0)\n";
    let keep = |e: &str| e.to_string();
    let (roomy, tight) = (time(""), {
        // The hog is read after the loop, so it stays live.
        let body = hog.clone()
            + "for i in range(8):\n    t = nl.ndarray((128, 24000), dtype=nl.bfloat16, buffer=nl.sbuf)\n    nisa.dma_copy(dst=t, src=b.ap(pattern=[[0, 128], [1, 24000]], offset=0))\n    nisa.activation(dst=t, op=nl.copy, data=t)\nnisa.tensor_copy(dst=xt, src=hog[:, 0:512])";
        tahoma_machine::trn2::time(&parse(&kernel(&keep(&body))).unwrap(), &TRN2).unwrap_or_else(|e| panic!("{e}")).total_ns
    });
    assert!(tight > 1.3 * roomy, "{tight} and {roomy}");
}
