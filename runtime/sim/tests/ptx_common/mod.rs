//! Kernels around a few instructions: inputs in `%r1`, `%r2` (or `%rd1`, `%rd2`), result in `%r4` (`%rd4`).
#![allow(dead_code, reason = "each test binary uses its part")]

use tahoma_sim::ptx::{Arg, Fault, Memory, Module, Options, launch};

/// Bits of floats.
pub(crate) fn f(v: &[f32]) -> Vec<u32> {
    v.iter().map(|x| x.to_bits()).collect()
}

pub(crate) fn floats(v: &[u32]) -> Vec<f32> {
    v.iter().map(|x| f32::from_bits(*x)).collect()
}

/// A kernel of one block whose thread `i` loads element `i` of `a` and `b`, runs `body` and stores to `o`.
/// In `body`, `%rd1` to `%rd3` are the addresses of those elements (for 64 bits: `%rd11` to `%rd13`).
pub(crate) fn kernel(body: &str, bits: u32) -> String {
    let (load, store) = if bits == 32 {
        ("ld.global.b32 %r1, [%rd1]; ld.global.b32 %r2, [%rd2];", "st.global.b32 [%rd3], %r4;")
    } else {
        (
            "mov.b64 %rd11, %rd1; mov.b64 %rd12, %rd2; mov.b64 %rd13, %rd3;\nld.global.b64 %rd1, [%rd11]; ld.global.b64 %rd2, [%rd12];",
            "st.global.b64 [%rd13], %rd4;",
        )
    };
    let bytes = bits / 8;
    format!(
        ".version 8.0\n.target sm_90a\n.address_size 64\n\
         .visible .entry k(.param .u64 a, .param .u64 b, .param .u64 o)\n{{\n\
         .reg .pred %p<8>; .reg .b16 %rs<8>; .reg .b32 %r<40>; .reg .b64 %rd<20>;\n\
         ld.param.b64 %rd1, [a]; ld.param.b64 %rd2, [b]; ld.param.b64 %rd3, [o];\n\
         mov.u32 %r30, %tid.x; mul.wide.u32 %rd10, %r30, {bytes};\n\
         add.s64 %rd1, %rd1, %rd10; add.s64 %rd2, %rd2, %rd10; add.s64 %rd3, %rd3, %rd10;\n\
         {load}\n{body}\n{store}\nret;\n}}\n"
    )
}

/// Writes the kernel to `$TAHOMA_PTX_DUMP`, if that is set.
pub(crate) fn dump(text: &str) {
    use std::hash::{DefaultHasher, Hash, Hasher};
    if let Some(dir) = std::env::var_os("TAHOMA_PTX_DUMP") {
        let mut h = DefaultHasher::new();
        text.hash(&mut h);
        let path = std::path::Path::new(&dir).join(format!("{:016x}.ptx", h.finish()));
        std::fs::write(path, text).expect("TAHOMA_PTX_DUMP is a folder");
    }
}

fn launch_bytes(text: &str, a: &[u8], b: &[u8], out: u64, threads: u32) -> Result<Vec<u8>, Fault> {
    let m = Module::parse(text, "test.ptx").unwrap_or_else(|e| panic!("{e}"));
    let mut mem = Memory::new();
    let mut up = |name: &str, v: &[u8]| {
        let p = mem.alloc(name, v.len() as u64).unwrap();
        mem.write(p, v).unwrap();
        p
    };
    let (pa, pb) = (up("a", a), up("b", b));
    let o = mem.alloc("o", out).unwrap();
    let args = [Arg::Ptr(pa), Arg::Ptr(pb), Arg::Ptr(o)];
    launch(&m, "k", [1, 1, 1], [threads, 1, 1], 0, &args, &mut mem, &Options::default())?;
    Ok(mem.read(o, out).unwrap_or_else(|e| panic!("{e}")).to_vec())
}

/// Runs a whole kernel text of 32-bit elements with as many threads as `a` has elements.
pub(crate) fn run(text: &str, a: &[u32], b: &[u32]) -> Result<Vec<u32>, Fault> {
    dump(text);
    let mut b = b.to_vec();
    b.resize(a.len(), 0);
    let bytes = |v: &[u32]| v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let out = launch_bytes(text, &bytes(a), &bytes(&b), 4 * a.len() as u64, a.len() as u32)?;
    Ok(out.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect())
}

pub(crate) fn eval(body: &str, a: &[u32], b: &[u32]) -> Vec<u32> {
    run(&kernel(body, 32), a, b).unwrap_or_else(|e| panic!("{e}"))
}

pub(crate) fn run_text64(text: &str, a: &[u64], b: &[u64]) -> Vec<u64> {
    dump(text);
    let mut b = b.to_vec();
    b.resize(a.len(), 0);
    let bytes = |v: &[u64]| v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let out = launch_bytes(text, &bytes(a), &bytes(&b), 8 * a.len() as u64, a.len() as u32).unwrap_or_else(|e| panic!("{e}"));
    out.chunks_exact(8).map(|c| u64::from_le_bytes(std::array::from_fn(|i| c[i]))).collect()
}

pub(crate) fn eval64(body: &str, a: &[u64], b: &[u64]) -> Vec<u64> {
    run_text64(&kernel(body, 64), a, b)
}
