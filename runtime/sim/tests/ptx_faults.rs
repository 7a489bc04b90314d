//! Every fault the PTX emulator knows, each by a kernel that commits it, and what the error says.

mod ptx_common;
use ptx_common::{kernel, run};
use tahoma_sim::ptx::{Arg, Fault, Memory, Module, Options, What, launch};

const Z: [u32; 32] = [0; 32];

fn fault(body: &str, a: &[u32]) -> Fault {
    let text = kernel(body, 32);
    match run(&text, a, a) {
        Err(f) => f,
        Ok(v) => panic!("no fault: {v:?}"),
    }
}

#[test]
fn out_of_bounds_names_everything() {
    let f = fault("mov.u32 %r5, %tid.x; mul.wide.u32 %rd5, %r5, 400; add.s64 %rd5, %rd1, %rd5;\nld.global.b32 %r4, [%rd5];", &Z[..8]);
    assert!(matches!(&f.what, What::OutOfBounds { buffer, offset: 404, bytes: 4, size: 32 } if buffer == "a"), "{f}");
    assert_eq!((f.thread, f.kernel.as_str(), f.text.as_str()), (Some([1, 0, 0]), "k", "ld.global.b32 %r4, [%rd5];"));
    let said = f.to_string();
    assert!(said.contains("offset 404 of buffer 'a', which has 32 bytes"), "{said}");
    assert!(said.contains("--> test.ptx:"), "{said}");
    assert!(said.contains("thread (1, 0, 0)"), "{said}");
    let f = fault("st.global.b32 [%rd3+32], 1; mov.b32 %r4, 0;", &Z[..8]);
    assert!(matches!(&f.what, What::OutOfBounds { buffer, offset: 32, .. } if buffer == "o"));
    let f = fault("mov.b64 %rd5, 0; ld.global.b32 %r4, [%rd5];", &Z[..1]);
    assert!(matches!(f.what, What::WildAddress { address: 0, .. }));
}

#[test]
fn misaligned() {
    let f = fault("add.s64 %rd5, %rd1, 2; ld.global.b32 %r4, [%rd5];", &Z[..4]);
    assert!(matches!(f.what, What::Misaligned { align: 4, .. }), "{f}");
    let f = fault("ld.global.v2.b32 {%r4, %r5}, [%rd1];", &Z[..4]);
    assert_eq!(f.thread, Some([1, 0, 0]));
    assert!(matches!(f.what, What::Misaligned { align: 8, .. }), "{f}");
    let f = fault(".shared .align 8 .b8 s[64];\nst.shared.b64 [s+4], %rd1; mov.b32 %r4, 0;", &Z[..1]);
    assert!(matches!(f.what, What::Misaligned { address: 4, align: 8 }), "{f}");
}

#[test]
fn uninitialised() {
    let f = fault("ld.global.b32 %r4, [%rd3];", &Z[..4]);
    assert!(matches!(&f.what, What::Uninitialised { buffer, offset: 0 } if buffer == "o"), "{f}");
    let f = fault(".shared .align 4 .b8 s[64];\nld.shared.b32 %r4, [s+8];", &Z[..4]);
    assert!(matches!(f.what, What::UninitialisedShared { offset: 8 }), "{f}");
}

/// Registers are checked lane by lane where some path reads before it writes, and cost nothing elsewhere.
#[test]
fn uninitialised_registers_and_local_memory() {
    let register = |body: &str, a: &[u32]| match fault(body, a) {
        Fault { what: What::UninitialisedRegister { name }, thread: Some([t, 0, 0]), text, .. } => (name, t, text),
        f => panic!("{f}"),
    };
    let named = |n: &str, t: u32, text: &str| (n.to_string(), t, text.to_string());
    assert_eq!(register("add.s32 %r4, %r5, 1;", &Z[..4]), named("%r5", 0, "add.s32 %r4, %r5, 1;"));
    // As a 16- or 64-bit source, an address, what is stored, part of a vector, a predicate, and a guard.
    for (body, name) in [
        ("cvt.u32.u16 %r4, %rs2;", "%rs2"),
        ("cvt.u32.u64 %r4, %rd7;", "%rd7"),
        ("ld.global.b32 %r4, [%rd8];", "%rd8"),
        ("st.global.b32 [%rd3], %r7; mov.b32 %r4, 0;", "%r7"),
        ("st.global.v2.b32 [%rd3], {%r1, %r7}; mov.b32 %r4, 0;", "%r7"),
        ("selp.b32 %r4, 1, 2, %p3;", "%p3"),
        ("mov.b32 %r4, 0; @%p4 mov.b32 %r4, 1;", "%p4"),
        ("mov.b32 %r4, 0; @!%p4 bra L; L: mov.b32 %r4, 1;", "%p4"),
        ("shfl.sync.idx.b32 %r4, %r9, 0, 31, 1;", "%r9"),
    ] {
        assert_eq!((register(body, &Z[..1]).0.as_str(), body), (name, body));
    }
    // Written by some lanes: the others are to blame, behind a guard as behind a branch.
    let part = "setp.lt.u32 %p1, %r30, 2;\n@%p1 mov.b32 %r5, 7;\nadd.s32 %r4, %r5, 1;";
    assert_eq!(register(part, &Z[..4]).1, 2);
    let arm = "setp.ge.u32 %p1, %r30, 2;\n@%p1 bra SKIP;\nmov.b32 %r5, 7;\nSKIP: add.s32 %r4, %r5, 1;";
    assert_eq!(register(arm, &Z[..4]).1, 2);
    // All lanes write on their own path, and what a lane never reads it need not write.
    let both = "setp.lt.u32 %p1, %r30, 2;\n@%p1 mov.b32 %r5, 7;\n@!%p1 mov.b32 %r5, 8;\nadd.s32 %r4, %r5, 1;";
    assert_eq!(run(&kernel(both, 32), &Z[..4], &Z[..4]).unwrap(), [8, 8, 9, 9]);
    let read = "setp.lt.u32 %p1, %r30, 2;\nmov.b32 %r4, 0;\n@%p1 mov.b32 %r5, 7;\n@%p1 add.s32 %r4, %r5, 1;";
    assert_eq!(run(&kernel(read, 32), &Z[..4], &Z[..4]).unwrap(), [8, 8, 0, 0]);
    // The next block starts anew.
    let text = kernel("mov.u32 %r6, %ctaid.x; setp.eq.u32 %p1, %r6, 0; @%p1 mov.b32 %r5, 1; mov.b32 %r4, %r5;", 32);
    let m = Module::parse(&text, "test.ptx").unwrap();
    let mut mem = Memory::new();
    let a = mem.alloc("a", 4).unwrap();
    mem.write(a, &[0; 4]).unwrap();
    let o = mem.alloc("o", 4).unwrap();
    let args = [Arg::Ptr(a), Arg::Ptr(a), Arg::Ptr(o)];
    let f = launch(&m, "k", [2, 1, 1], [1, 1, 1], 0, &args, &mut mem, &Options::default()).unwrap_err();
    assert!(matches!(f.what, What::UninitialisedRegister { .. }) && f.block == [1, 0, 0], "{f}");
    let off = Options { uninitialised: false, races: false, ..Options::default() };
    launch(&m, "k", [2, 1, 1], [1, 1, 1], 0, &args, &mut mem, &off).unwrap();
    // Local memory, byte by byte, thread by thread.
    let f = fault(".local .align 4 .b8 l[16];\nst.local.b16 [l+4], 1; ld.local.b32 %r4, [l+4];", &Z[..1]);
    assert!(matches!(f.what, What::UninitialisedLocal { offset: 6 }), "{f}");
    let f = fault(".local .align 4 .b8 l[16];\nsetp.eq.u32 %p1, %r30, 0; @%p1 st.local.b32 [l], 1; ld.local.b32 %r4, [l];", &Z[..2]);
    assert!(matches!(f.what, What::UninitialisedLocal { offset: 0 }) && f.thread == Some([1, 0, 0]), "{f}");
}

#[test]
fn shared_bounds() {
    let f = fault(".shared .align 4 .b8 s[64];\nst.shared.b32 [s+64], 1; mov.b32 %r4, 0;", &Z[..4]);
    assert!(matches!(f.what, What::SharedOutOfBounds { offset: 64, bytes: 4, size: 64 }), "{f}");
    let f = fault(".local .align 4 .b8 l[16];\nst.local.b32 [l+16], 1; mov.b32 %r4, 0;", &Z[..4]);
    assert!(matches!(f.what, What::SpaceOutOfBounds { space: "local", .. }), "{f}");
}

const EXCHANGE: &str = ".shared .align 4 .b8 s[256];
    mov.u32 %r5, %tid.x; shl.b32 %r6, %r5, 2; mov.b32 %r7, s; add.s32 %r8, %r7, %r6;
    st.shared.b32 [%r8], %r5;
    SYNC
    xor.b32 %r9, %r6, 4; add.s32 %r9, %r9, %r7;
    ld.shared.b32 %r4, [%r9];";

#[test]
fn shared_races() {
    // Read after write, within a warp and between warps.
    let f = fault(&EXCHANGE.replace("SYNC", ""), &Z);
    assert!(matches!(f.what, What::SharedRace { other: Some(1), thread: 0, first_writes: true, second_writes: false, .. }), "{f}");
    assert!(f.to_string().contains("bytes 4..8: thread 1 writes them, then thread 0 reads them"), "{f}");
    for sync in ["bar.sync 0;", "bar.warp.sync -1;"] {
        let got = run(&kernel(&EXCHANGE.replace("SYNC", sync), 32), &Z, &Z).unwrap();
        assert_eq!(got[..3], [1, 0, 3]);
    }
    let across = EXCHANGE.replace("xor.b32 %r9, %r6, 4", "xor.b32 %r9, %r6, 128");
    let f = fault(&across.replace("SYNC", "bar.warp.sync -1;"), &[0; 64]);
    // Warp 0 runs first, so what it reads was not written yet.
    assert!(matches!(f.what, What::UninitialisedShared { .. } | What::SharedRace { .. }), "{f}");
    assert_eq!(run(&kernel(&across.replace("SYNC", "bar.sync 0;"), 32), &[0; 64], &[0; 64]).unwrap()[0], 32);
    // Write after read.
    let f = fault(
        &EXCHANGE.replace("SYNC", "bar.sync 0;").replace("ld.shared.b32 %r4, [%r9];", "ld.shared.b32 %r4, [%r9]; st.shared.b32 [%r8], 1;"),
        &Z,
    );
    assert!(matches!(f.what, What::SharedRace { first_writes: false, second_writes: true, .. }), "{f}");
    // Two lanes of one store: equal values agree, different ones do not.
    let f = fault(".shared .align 4 .b8 s[4];\nst.shared.b32 [s], %r30; mov.b32 %r4, 0;", &Z);
    assert!(matches!(f.what, What::SharedRace { first_writes: true, second_writes: true, thread: 1, .. }), "{f}");
    run(&kernel(".shared .align 4 .b8 s[4];\nst.shared.b32 [s], 7; mov.b32 %r4, 0;", 32), &Z, &Z).unwrap();
    // Neighbouring bytes are not the same bytes.
    let bytes = ".shared .align 4 .b8 s[64];\nmov.b32 %r5, s; add.s32 %r5, %r5, %r30;\nst.shared.b8 [%r5], %r30; ld.shared.u8 %r4, [%r5];";
    assert_eq!(run(&kernel(bytes, 32), &Z, &Z).unwrap()[31], 31);
}

#[test]
fn races_can_be_left_unchecked() {
    let text = kernel(&EXCHANGE.replace("SYNC", ""), 32);
    let m = Module::parse(&text, "test.ptx").unwrap();
    let mut mem = Memory::new();
    let a = mem.alloc("a", 128).unwrap();
    mem.write(a, &[0; 128]).unwrap();
    let o = mem.alloc("o", 128).unwrap();
    let opts = Options { races: false, ..Options::default() };
    let args = [Arg::Ptr(a), Arg::Ptr(a), Arg::Ptr(o)];
    launch(&m, "k", [1, 1, 1], [32, 1, 1], 0, &args, &mut mem, &opts).unwrap();
}

#[test]
fn barrier_divergence() {
    let f = fault("setp.lt.u32 %p1, %r30, 32;\n@%p1 bra SKIP;\nbar.sync 0;\nSKIP: mov.b32 %r4, 0;", &[0; 64]);
    let What::Barrier { detail } = &f.what else { panic!("{f}") };
    assert!(detail.contains("barrier 0 has 32 of 64 threads") && detail.contains("32 of 64 threads have exited"), "{f}");
    assert_eq!(f.text, "bar.sync 0;");
    let f = fault("setp.lt.u32 %p1, %r30, 32;\n@%p1 bra L;\nbar.sync 0; bra.uni M;\nL: bar.sync 1;\nM: mov.b32 %r4, 0;", &[0; 64]);
    assert!(matches!(f.what, What::Barrier { .. }), "{f}");
    // Half a warp at a barrier that the other half never reaches.
    let f = fault("setp.lt.u32 %p1, %r30, 16;\n@%p1 ret;\nbar.sync 0; mov.b32 %r4, 0;", &Z);
    assert!(matches!(f.what, What::Barrier { .. }), "{f}");
    // Named barriers for part of the block work.
    let part = "setp.ge.u32 %p1, %r30, 64;\n@%p1 bra DONE;\nbar.sync 1, 64;\nDONE: mov.b32 %r4, 1;";
    assert_eq!(run(&kernel(part, 32), &[0; 96], &[0; 96]).unwrap(), [1; 96]);
}

#[test]
fn warp_wide_instructions_need_their_lanes() {
    let f = fault(
        "setp.lt.u32 %p1, %r30, 4;\n@%p1 bra A;\nshfl.sync.bfly.b32 %r4, %r30, 1, 31, -1;\nbra.uni B;\nA: shfl.sync.bfly.b32 %r4, %r30, 1, 31, -1;\nB:",
        &Z,
    );
    assert!(matches!(f.what, What::Divergent { needed: u32::MAX, .. }), "{f}");
    let f = fault("mov.b32 %r4, 0;\nsetp.lt.u32 %p1, %r30, 4;\n@%p1 shfl.sync.bfly.b32 %r4, %r30, 8, 31, 0xf;", &Z);
    assert!(matches!(f.what, What::InactiveLane { lane: 8 }), "{f}");
    // Lanes that arrive one group after the other wait for each other.
    let meet = "setp.lt.u32 %p1, %r30, 4;\n@%p1 bra A;\nadd.s32 %r30, %r30, 100;\nA: shfl.sync.idx.b32 %r4, %r30, 31, 31, -1;";
    assert_eq!(run(&kernel(meet, 32), &Z, &Z).unwrap(), [131; 32]);
}

#[test]
fn runaways_and_traps() {
    let text = kernel("mov.b32 %r4, 0; L: add.s32 %r4, %r4, 1;\nbra.uni L;", 32);
    let m = Module::parse(&text, "test.ptx").unwrap();
    let mut mem = Memory::new();
    let a = mem.alloc("a", 4).unwrap();
    mem.write(a, &[0; 4]).unwrap();
    let args = [Arg::Ptr(a), Arg::Ptr(a), Arg::Ptr(a)];
    let opts = Options { budget: 10_000, ..Options::default() };
    let f = launch(&m, "k", [1, 1, 1], [1, 1, 1], 0, &args, &mut mem, &opts).unwrap_err();
    assert!(matches!(f.what, What::Runaway { executed: 10_000 }), "{f}");
    let f = fault("setp.eq.s32 %p1, %r30, 3;\n@%p1 trap;\nmov.b32 %r4, 0;", &Z);
    assert_eq!((f.what, f.thread), (What::Trap, Some([3, 0, 0])));
}

/// A kernel of two blocks of one thread, each of which runs `body`; `%r1` is the block.
fn blocks(body: &str) -> Result<(), Fault> {
    let text = format!(
        ".version 8.0\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 a) {{\n\
         .reg .b32 %r<9>; .reg .b64 %rd<9>; .reg .pred %p<3>;\n\
         ld.param.b64 %rd1, [a]; mov.u32 %r1, %ctaid.x;\n{body}\nret; }}"
    );
    ptx_common::dump(&text);
    let m = Module::parse(&text, "blocks.ptx").unwrap();
    let mut mem = Memory::new();
    let a = mem.alloc("a", 64).unwrap();
    mem.write(a, &[0; 64]).unwrap();
    launch(&m, "k", [2, 1, 1], [1, 1, 1], 0, &[Arg::Ptr(a)], &mut mem, &Options::default()).map(|_| ())
}

#[test]
fn races_between_blocks() {
    let f = blocks("st.global.b32 [%rd1+4], %r1;").unwrap_err();
    assert!(matches!(f.what, What::BlockRace { offset: 4, other: 0, write: true, .. }), "{f}");
    assert_eq!(f.block, [1, 0, 0]);
    blocks("st.global.b32 [%rd1+4], 7;").unwrap();
    blocks("red.global.add.u32 [%rd1], 1;").unwrap();
    let f = blocks("setp.eq.s32 %p1, %r1, 0; @%p1 st.global.b32 [%rd1], 1; @!%p1 ld.global.b32 %r2, [%rd1];").unwrap_err();
    assert!(matches!(f.what, What::BlockRace { write: false, .. }), "{f}");
    blocks("mul.wide.u32 %rd2, %r1, 4; add.s64 %rd1, %rd1, %rd2; st.global.b32 [%rd1], %r1; ld.global.b32 %r2, [%rd1];").unwrap();
}

#[test]
fn launches_are_checked() {
    let text = kernel("mov.b32 %r4, 0;", 32);
    let m = Module::parse(&text, "test.ptx").unwrap();
    let mut mem = Memory::new();
    let opts = Options::default();
    let mut go =
        |name: &str, block: [u32; 3], args: &[Arg]| launch(&m, name, [1, 1, 1], block, 0, args, &mut mem, &opts).unwrap_err().to_string();
    let p = Arg::Ptr(0);
    assert!(go("x", [1, 1, 1], &[]).contains("no such kernel; the module has: k"));
    assert!(go("k", [1, 1, 1], std::slice::from_ref(&p)).contains("1 arguments where the kernel has 3"));
    assert!(go("k", [1, 1, 1], &[p.clone(), p.clone(), Arg::U32(1)]).contains("has 4 bytes where 'o' has 8"));
    assert!(go("k", [1025, 1, 1], &[p.clone(), p.clone(), p]).contains("1 to 1024 threads"));
}

#[test]
fn modules_are_refused_with_their_line() {
    let head = ".version 8.0\n.target sm_90a\n.address_size 64\n.visible .entry k() {\n.reg .b32 %r<3>; .reg .b64 %rd<3>;\n";
    let refuse = |line: &str| Module::parse(&format!("{head}{line}\nret;\n}}\n"), "bad.ptx").unwrap_err();
    let e = refuse("wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%r1}, %rd1, %rd2, 1, 1, 1, 0, 0;");
    assert_eq!(e.line, 6);
    assert!(e.message.contains("unsupported instruction 'wgmma.mma_async"), "{e}");
    assert!(refuse("tcgen05.wait::ld.sync.aligned;").message.contains("unsupported instruction 'tcgen05.wait::ld"));
    let e = refuse("cp.async.bulk.tensor.2d.shared::cluster.global.tile [%rd1], [%rd2, {%r1, %r2}], [%rd1];");
    assert!(e.message.contains("cp.async.bulk"), "{e}");
    let e = refuse("call.uni (%r1), __nv_expf, (%r2);");
    assert!(e.message.contains("call to '__nv_expf': a libdevice function"), "{e}");
    assert!(refuse("add.cc.u32 %r1, %r1, %r2;").message.contains("modifier '.cc'"));
    assert!(refuse("add.s32 %r1, %r9, %r2;").message.contains("'%r9'"));
    assert!(refuse("add.s32 %r1, %rd1, %r2;").message.contains("wrong width"));
    assert!(refuse("add.s32 %r1, %r2;").to_string().contains("bad.ptx:6"));
    assert!(refuse("bra NOWHERE;").message.contains("unknown branch target"));
    assert!(refuse("ld.global.b32 %r1, [missing];").message.contains("missing"));
    assert!(refuse("mma.sync.aligned.m16n8k8.row.row.f32.f16.f16.f32 {%r1}, {%r1}, {%r1}, {%r1};").message.contains("unsupported"));
    assert!(refuse("mov.u32 %r1, %clock;").message.contains("%clock"));
    for bad in [
        "",
        "hello",
        ".version",
        ".version 8.0\n.entry",
        ".version 8.0\n.visible .entry k() { \"x",
        "/*",
        ".version 8.0 .global .b8 x[99999999999999999999];",
    ] {
        assert!(Module::parse(bad, "bad.ptx").is_err(), "{bad}");
    }
}

#[test]
fn no_prefix_of_a_real_module_panics() {
    let text = include_str!("ptx/mma.ptx");
    for n in (0..text.len()).step_by(7) {
        let _ = Module::parse(&text[..n], "cut.ptx");
        // A hole in the middle is as hostile as a cut.
        let holed = format!("{}{}", &text[..n], &text[(n + 13).min(text.len())..]);
        let _ = Module::parse(&holed, "holed.ptx");
    }
}

#[test]
fn signatures_need_no_body_we_can_run() {
    let text =
        ".version 8.0\n.target sm_90a\n.visible .entry a(.param .u32 n, .param .u64 .ptr .align 16 p)\n{ wgmma.fence.sync.aligned; ret; }";
    let s = tahoma_sim::ptx::signatures(text, "a.ptx").unwrap();
    assert_eq!(s.len(), 1);
    assert_eq!((s[0].0.as_str(), s[0].1.len(), s[0].1[1].offset, s[0].1[1].pointer), ("a", 2, 8, true));
    assert!(tahoma_sim::ptx::signatures(".entry a(.param", "a.ptx").is_err());
}
