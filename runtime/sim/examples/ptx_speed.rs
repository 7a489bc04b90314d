//! How fast the PTX emulator is: nanoseconds per warp instruction, by kind.
//!
//! `cargo run --release -p tahoma-sim --example ptx_speed`

use tahoma_sim::ptx::{Arg, Memory, Module, Options, launch};

/// Instructions in the loop's body, and times it runs.
const BODY: usize = 64;
const LOOPS: usize = 10_000;

fn text(setup: &str, body: &str) -> String {
    let body = format!("{body}\n").repeat(BODY);
    format!(
        ".version 8.0\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 a) {{\n\
         .reg .pred %p<4>; .reg .b32 %r<40>; .reg .b64 %rd<20>; .shared .align 16 .b8 s[4096];\n\
         ld.param.b64 %rd1, [a]; mov.u32 %r1, %tid.x; mul.wide.u32 %rd2, %r1, 4; add.s64 %rd3, %rd1, %rd2;\n\
         shl.b32 %r2, %r1, 2; mov.b32 %r3, s; add.s32 %r4, %r3, %r2;\n\
         mov.b32 %r5, 0f3F800000; mov.b32 %r6, 0f3F000000; mov.b32 %r7, 0f3F9D70A4; mov.b32 %r8, 0; mov.b32 %r9, 0; mov.b32 %r10, 0;\n\
         mov.b32 %r11, 0; mul.wide.u32 %rd4, %r1, 64; add.s64 %rd5, %rd1, %rd4; shl.b32 %r13, %r1, 4; add.s32 %r13, %r13, %r3;\n\
         st.shared.v4.b32 [%r13], {{%r1, %r1, %r1, %r1}}; bar.warp.sync -1; {setup}\n\
         mov.b32 %r12, 0;\n\
         L: {body}\n\
         add.s32 %r12, %r12, 1; setp.lt.s32 %p1, %r12, {LOOPS}; @%p1 bra L;\n\
         ret; }}"
    )
}

/// Time this process spent on a processor, so that other load does not count; wall time elsewhere than Linux.
fn cpu_ns() -> f64 {
    let spent = std::fs::read_to_string("/proc/self/schedstat").ok();
    let spent = spent.and_then(|s| s.split(' ').next().and_then(|n| n.parse().ok()));
    spent.unwrap_or_else(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0.0, |d| d.as_nanos() as f64)
    })
}

fn measure(name: &str, setup: &str, body: &str, opts: &Options) {
    let module = match Module::parse(&text(setup, body), name) {
        Ok(m) => m,
        Err(e) => return println!("{e}"),
    };
    let once = |profile: bool| -> Result<f64, String> {
        let mut mem = Memory::new();
        let a = mem.alloc("a", 1 << 16).map_err(|e| e.to_string())?;
        mem.write(a, &vec![0; 1 << 16]).map_err(|e| e.to_string())?;
        let options = Options { profile, ..*opts };
        let start = cpu_ns();
        let s = launch(&module, "k", [1, 1, 1], [32, 1, 1], 0, &[Arg::Ptr(a)], &mut mem, &options).map_err(|e| e.to_string())?;
        Ok((cpu_ns() - start) / s.instructions() as f64)
    };
    match once(false).and_then(|plain| Ok((plain, once(true)?))) {
        Ok((plain, counted)) => println!("{name:<28} {plain:7.1} ns per warp instruction, {counted:7.1} with what a GPU's clock asks for"),
        Err(e) => println!("{name}: {e}"),
    }
}

fn main() {
    let checked = Options::default();
    let free = Options { races: false, uninitialised: false, ..checked };
    measure("add.s32", "", "add.s32 %r8, %r8, %r1;", &checked);
    measure("add.s64", "", "add.s64 %rd6, %rd2, %rd3;", &checked);
    measure("mad.wide.u32", "", "mad.wide.u32 %rd6, %r1, 4, %rd3;", &checked);
    measure("setp.lt.s32", "", "setp.lt.s32 %p2, %r1, %r12;", &checked);
    measure("add.rn.f32", "", "add.rn.f32 %r8, %r7, %r6;", &checked);
    measure("fma.rn.f32", "", "fma.rn.f32 %r8, %r7, %r6, %r5;", &checked);
    measure("max.f32", "", "max.f32 %r8, %r7, %r6;", &checked);
    measure("div.rn.f32", "", "div.rn.f32 %r8, %r7, %r6;", &checked);
    measure("ex2.approx.f32", "", "ex2.approx.f32 %r8, %r7;", &checked);
    measure("cvt.rn.f16.f32", "", "cvt.rn.f16x2.f32 %r8, %r7, %r6;", &checked);
    measure("fma.rn.f16x2", "", "fma.rn.f16x2 %r8, %r5, %r6, %r7;", &checked);
    measure("shfl.sync.bfly", "", "shfl.sync.bfly.b32 %r8, %r1, 1, 31, -1;", &checked);
    measure("ld.global.b32", "", "ld.global.b32 %r8, [%rd3];", &checked);
    measure("ld.global.v4.b32 strided", "", "ld.global.v4.b32 {%r8, %r9, %r10, %r11}, [%rd5];", &checked);
    measure("st.global.b32", "", "st.global.b32 [%rd3], %r8;", &checked);
    measure("ld.shared.b32", "", "ld.shared.b32 %r8, [%r4];", &checked);
    measure("ld.shared.b32 unchecked", "", "ld.shared.b32 %r8, [%r4];", &free);
    measure("ld.shared.b32 broadcast", "", "ld.shared.b32 %r8, [s];", &checked);
    measure("ld.shared.v4.b32", "", "ld.shared.v4.b32 {%r8, %r9, %r10, %r11}, [%r13];", &checked);
    measure("st.shared.b32", "bar.warp.sync -1;", "st.shared.b32 [%r4], %r8;", &free);
    let mma = |shape: &str, a: &str, b: &str| {
        format!("mma.sync.aligned.{shape} {{%r8, %r9, %r10, %r11}}, {{{a}}}, {{{b}}}, {{%r8, %r9, %r10, %r11}};")
    };
    let (four, two) = ("%r5, %r5, %r6, %r7", "%r5, %r6");
    measure("mma m16n8k8 tf32", "", &mma("m16n8k8.row.col.f32.tf32.tf32.f32", four, two), &checked);
    measure("mma m16n8k16 f16", "", &mma("m16n8k16.row.col.f32.f16.f16.f32", four, two), &checked);
    measure("mma m16n8k16 bf16", "", &mma("m16n8k16.row.col.f32.bf16.bf16.f32", four, two), &checked);
    measure("ldmatrix.x4", "", "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r8, %r9, %r10, %r11}, [%r13];", &checked);
    measure("ldmatrix.x4 unchecked", "", "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r8, %r9, %r10, %r11}, [%r13];", &free);
}
