//! Kernels written by hand, one for each thing that kernels are made of: what the text must have, and what ptxas says where there is one.

use super::*;
use crate::Session;
use tahoma_core::escape::Quoted;

const VECTOR_ADD: &str = r#"gpu.module @vadd { gpu.func @vadd(%a: memref<512xf32>, %b: memref<512xf32>, %c: memref<512xf32>) kernel
    attributes {known_block_size = array<i32: 128, 1, 1>} {
  %t = gpu.thread_id x
  %i = affine.apply affine_map<(d0) -> (d0 * 4)>(%t)
  %v = vector.load %a[%i] {alignment = 16} : memref<512xf32>, vector<4xf32>
  %w = vector.load %b[%i] {alignment = 16} : memref<512xf32>, vector<4xf32>
  %s = arith.addf %v, %w : vector<4xf32>
  vector.store %s, %c[%i] {alignment = 16} : memref<512xf32>, vector<4xf32>
  gpu.return } }"#;

const TRANSPOSE: &str = r#"gpu.module @tile { gpu.func @tile(%a: memref<1024xf32>, %b: memref<1024xf32>)
    workgroup(%s: memref<32x33xf32, #gpu.address_space<workgroup>>) kernel attributes {known_block_size = array<i32: 32, 8, 1>} {
  %x = gpu.thread_id x
  %y = gpu.thread_id y
  %c32 = arith.constant 32 : index
  %c8 = arith.constant 8 : index
  scf.for %r = %y to %c32 step %c8 {
    %row = arith.muli %r, %c32 : index
    %at = arith.addi %row, %x : index
    %v = memref.load %a[%at] : memref<1024xf32>
    memref.store %v, %s[%r, %x] : memref<32x33xf32, #gpu.address_space<workgroup>>
  }
  gpu.barrier
  scf.for %r = %y to %c32 step %c8 {
    %v = memref.load %s[%x, %r] : memref<32x33xf32, #gpu.address_space<workgroup>>
    %row = arith.muli %r, %c32 : index
    %at = arith.addi %row, %x : index
    memref.store %v, %b[%at] : memref<1024xf32>
  }
  gpu.return } }"#;

const MMA: &str = r#"gpu.module @mma { gpu.func @mma(%a: memref<512xf32>, %o: memref<512xf32>) kernel attributes {known_block_size = array<i32: 32, 1, 1>} {
  %t = gpu.thread_id x
  %c4 = arith.constant 4 : index
  %i = arith.muli %t, %c4 : index
  %va = vector.load %a[%i] {alignment = 16} : memref<512xf32>, vector<4xf32>
  %A = vector.shape_cast %va : vector<4xf32> to vector<4x1xf32>
  %vb = vector.load %a[%t] : memref<512xf32>, vector<2xf32>
  %B = vector.shape_cast %vb : vector<2xf32> to vector<2x1xf32>
  %C = arith.constant dense<0.0> : vector<2x2xf32>
  %d = nvgpu.mma.sync(%A, %B, %C) {mmaShape = [16, 8, 8], tf32Enabled} : (vector<4x1xf32>, vector<2x1xf32>, vector<2x2xf32>) -> vector<2x2xf32>
  %f = vector.shape_cast %d : vector<2x2xf32> to vector<4xf32>
  vector.store %f, %o[%i] {alignment = 16} : memref<512xf32>, vector<4xf32>
  gpu.return } }"#;

const WARP_SUM: &str = r#"gpu.module @"warp sum" { gpu.func @warp_sum(%a: memref<64xf32>, %b: memref<4xf32>) kernel attributes {known_block_size = array<i32: 32, 1, 1>} {
  %t = gpu.thread_id x
  %all = arith.constant 32 : i32
  %m16 = arith.constant 16 : i32
  %m8 = arith.constant 8 : i32
  %c0 = arith.constant 0 : index
  %half = memref.subview %a[32] [32] [1] : memref<64xf32> to memref<32xf32, strided<[1], offset: 32>>
  %v = memref.load %half[%t] : memref<32xf32, strided<[1], offset: 32>>
  %o, %ok = gpu.shuffle xor %v, %m16, %all : f32
  %s = arith.addf %v, %o : f32
  %p, %ok2 = gpu.shuffle xor %s, %m8, %all : f32
  %r = arith.addf %s, %p : f32
  %first = arith.cmpi eq, %t, %c0 : index
  scf.if %first { memref.store %r, %b[%c0] : memref<4xf32> }
  gpu.return } }"#;

/// Module, its name, and what its PTX must have.
const KERNELS: &[(&str, &str, &[&str])] = &[
    (VECTOR_ADD, "vadd", &[".visible .entry vadd(", "ld.global.v4", "st.global.v4", ".maxntid 128, 1, 1"]),
    (
        TRANSPOSE,
        "tile",
        &[".visible .entry tile(", ".shared .align 4 .b8", "[4224]", "bar.sync", "ld.shared", "st.shared", ".maxntid 32, 8, 1"],
    ),
    (MMA, "mma", &["mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", "ld.global.v4"]),
    (WARP_SUM, "warp sum", &["shfl.sync.bfly.b32", "128]"]),
];

fn session() -> Session {
    Session::new().unwrap_or_else(|d| panic!("{d}"))
}

#[test]
fn each_kernel_has_its_instructions_and_one_pointer_for_each_buffer() {
    let s = session();
    for (text, name, parts) in KERNELS {
        let start = std::time::Instant::now();
        let out = s.emit_ptx(text, Chip::find("sm_90a").unwrap()).unwrap_or_else(|d| panic!("{name}: {d}"));
        println!("{name}: {:?}", start.elapsed());
        let [(found, ptx)] = &out[..] else { panic!("{name}: {} modules", out.len()) };
        assert_eq!(found, name);
        for p in *parts {
            assert!(ptx.contains(p), "{name}: no {p:?} in\n{ptx}");
        }
        let buffers = text[..text.find("kernel").unwrap()].split("workgroup").next().unwrap().matches(": memref").count();
        assert_eq!(ptx.matches(".param .u64").count(), buffers, "{name}\n{ptx}");
        assert!(ptx.starts_with("//") && ptx.ends_with('\n') && !ptx.contains('\\') && !ptx.contains('\0'), "{name}: {ptx:?}");
        assert_eq!(s.emit_ptx(text, Chip::find("sm_90a").unwrap()), Ok(out), "{name}: twice the same");
    }
}

#[test]
fn several_modules_come_back_in_order() {
    let both = format!("{VECTOR_ADD}\n{WARP_SUM}");
    let out = session().emit_ptx(&both, CHIPS[0]).unwrap_or_else(|d| panic!("{d}"));
    assert_eq!(out.iter().map(|o| o.0.as_str()).collect::<Vec<_>>(), ["vadd", "warp sum"]);
}

#[test]
fn what_cannot_be_lowered_is_refused_with_mlirs_words() {
    let s = session();
    let open = r#"gpu.module @k { gpu.func @k(%a: memref<?xf32>) kernel { gpu.return } }"#;
    let d = s.emit_ptx(open, CHIPS[0]).unwrap_err();
    assert!(d.0[0].code == "E0901" && d.to_string().contains("gpu.func"), "{d}");
    assert_eq!(s.emit_ptx("module {}", CHIPS[0]).unwrap_err().0[0].message, "MLIR made no PTX");
    assert_eq!(s.emit_ptx("gpu.module @k {", CHIPS[0]).unwrap_err().0[0].code, "E0902");
}

#[test]
fn ptxas_takes_every_kernel_on_every_chip_at_its_lowest_version() {
    let Some(ptxas) = std::env::var_os("TAHOMA_PTXAS") else {
        println!("skipped: TAHOMA_PTXAS does not name a ptxas");
        return;
    };
    let s = session();
    for chip in CHIPS {
        for (text, name, _) in KERNELS {
            let ptx = s.emit_ptx(text, *chip).unwrap_or_else(|d| panic!("{name}: {d}")).remove(0).1;
            assert!(ptx.contains(&format!(".version {}.{}", &chip.ptx[..1], &chip.ptx[1..])) && ptx.contains(chip.sm), "{ptx}");
            let file = std::env::temp_dir().join(format!("tahoma-{}-{}-{}.ptx", std::process::id(), chip.sm, name.replace(' ', "_")));
            std::fs::write(&file, &ptx).unwrap();
            let out = std::process::Command::new(&ptxas).arg(format!("-arch={}", chip.sm)).args(["-o", "/dev/null"]).arg(&file).output();
            let _ = std::fs::remove_file(&file);
            let out = out.unwrap_or_else(|e| panic!("ptxas does not run: {e}"));
            assert!(out.status.success(), "{name} on {}: {}\n{ptx}", chip.sm, String::from_utf8_lossy(&out.stderr));
        }
    }
}

#[test]
fn strings_survive_mlirs_escapes() {
    for s in ["", "plain", "a \"b\" \\ c", "line\nbreak\ttab", "\u{1}\u{7f}äöü→", "\\22", "\\n"] {
        assert_eq!(unescape(Quoted(s).to_string().trim_matches('"')), s);
    }
    assert_eq!(unescape("a\\0Ab\\\\c\\22"), "a\nb\\c\"");
}
