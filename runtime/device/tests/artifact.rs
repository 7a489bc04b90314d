//! Artifacts that were tampered with are refused; whole ones run.

mod plan;

use plan::{buffer, negate, port, sum};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use tahoma_core::artifact::*;
use tahoma_core::kernel::{Body, Rows};
use tahoma_core::{DType, Tensor, TensorType};
use tahoma_runtime::artifact::{check, manifest_hash};
use tahoma_runtime::{Artifact, Runner, device, sha256};

const TEXT: &str = "// text";
/// Five f32: the weight is the last four.
static WEIGHTS: [u8; 20] = [0, 0, 0, 0, 0, 0, 128, 63, 0, 0, 0, 64, 0, 0, 64, 64, 0, 0, 128, 64];

fn ty() -> TensorType {
    plan::row(4)
}

/// y = reshape(x) + w on the device, z = −y on the host.
fn manifest() -> Manifest {
    let weight = WeightRef { name: "w".into(), buffer: 2, file: "./w.bin".into(), offset: 4, bytes: 16, sha256: sha256(&WEIGHTS[4..]) };
    Manifest {
        inputs: vec![port("x", 0)],
        outputs: vec![port("z", 4)],
        buffers: vec![
            buffer(TensorType::known(DType::F32, &[2, 2])),
            BufferDef { ty: ty(), alias: Some(0) },
            buffer(ty()),
            buffer(ty()),
            buffer(ty()),
        ],
        weights: vec![weight],
        run: vec![PlanStep::Launch { kernel: 0, inputs: vec![1, 2], outputs: vec![3] }, negate(3, 4)],
        kernels: vec![KernelDef { sha256: sha256(TEXT.as_bytes()), block: [4, 1, 1], ..sum(4) }],
        ..plan::empty()
    }
}

fn write(dir: &Path, m: &Manifest) {
    std::fs::create_dir_all(dir.join("kernels")).unwrap();
    std::fs::write(dir.join("kernels/k0.ptx"), TEXT).unwrap();
    std::fs::write(dir.join("w.bin"), WEIGHTS).unwrap();
    write_manifest(dir, serde_json::to_string(m).unwrap().as_bytes());
}

/// With its hash, as the compiler does.
fn write_manifest(dir: &Path, bytes: &[u8]) {
    std::fs::write(dir.join(MANIFEST), bytes).unwrap();
    std::fs::write(dir.join(MANIFEST_HASH), manifest_hash(bytes)).unwrap();
}

/// The same, in memory.
fn in_memory(m: &Manifest) -> BTreeMap<&'static str, Cow<'static, [u8]>> {
    let text = serde_json::to_vec(m).unwrap();
    let hash = manifest_hash(&text).into_bytes();
    let kernel = TEXT.as_bytes();
    [(MANIFEST, text.into()), (MANIFEST_HASH, hash.into()), ("kernels/k0.ptx", kernel.into()), ("w.bin", WEIGHTS.as_slice().into())].into()
}

/// Loaded, and its weights read; a folder and what is held in memory are the same.
fn load(m: &Manifest) -> Result<Runner, String> {
    let start = |a: Result<Artifact, _>| a.and_then(|a| Runner::new(a, device::open("interp").unwrap())).map_err(|d| d.code);
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), m);
    let (folder, memory) = (start(Artifact::load(dir.path(), None)), start(Artifact::from_bytes(in_memory(m))));
    assert_eq!(folder.as_ref().err(), memory.as_ref().err());
    folder.and(memory)
}

#[test]
fn a_whole_artifact_runs_twice() {
    let mut r = load(&manifest()).unwrap();
    for k in [1f32, 2.] {
        let x = Tensor::f32(&[2, 2], vec![10. * k; 4]);
        let (out, report) = r.run(&[("x".into(), x)]).unwrap();
        assert_eq!(out[0].1, Tensor::f32(&[4], (1..5).map(|i| -(10. * k + i as f32)).collect()));
        assert_eq!((report.launches, report.kernels[0].launches), (1, 1));
    }
}

#[test]
fn an_artifact_in_memory_is_checked_like_a_folder() {
    let (whole, code) = (in_memory(&manifest()), |files| Artifact::from_bytes(files).err().map(|d| d.code));
    assert_eq!(code(whole.clone()), None);
    // What the manifest does not name is let go.
    let mut more = whole.clone();
    more.insert("kernels/k0.mlir", b"".as_slice().into());
    assert_eq!(code(more), None);
    for name in [MANIFEST, MANIFEST_HASH, "kernels/k0.ptx", "w.bin"] {
        let mut files = whole.clone();
        files.remove(name);
        // A manifest without its hash counts as edited.
        assert_eq!(code(files).as_deref(), Some(if name == MANIFEST_HASH { "E0605" } else { "E0101" }), "without {name}");
        for change in [|b: &mut Vec<u8>| b[9] ^= 1, |b: &mut Vec<u8>| b.truncate(b.len() - 1), |b: &mut Vec<u8>| b.clear()] {
            let mut files = whole.clone();
            let bytes = files.get_mut(name).unwrap().to_mut();
            bytes.resize(bytes.len().max(10), b' ');
            change(bytes);
            let loaded = Artifact::from_bytes(files).and_then(|a| Runner::new(a, device::open("interp").unwrap()));
            let want = if name == "w.bin" { "E0607" } else { "E0605" };
            assert_eq!(loaded.err().map(|d| d.code).as_deref(), Some(want), "another {name}");
        }
    }
    // Embedded bytes are used where they are.
    let a = Artifact::from_bytes(whole).unwrap();
    let bytes = a.weights.bytes(&a.manifest.weights[0]).unwrap();
    assert!(std::ptr::eq(&*bytes, &WEIGHTS[4..]));
}

#[test]
fn wrong_inputs_are_told_by_name() {
    let mut r = load(&manifest()).unwrap();
    let x = || Tensor::f32(&[2, 2], vec![0.; 4]);
    let mut code = |inputs: &[(String, Tensor)]| r.run(inputs).unwrap_err().code;
    assert_eq!(code(&[]), "E0601");
    assert_eq!(code(&[("x".into(), x()), ("y".into(), x())]), "E0601");
    assert_eq!(code(&[("x".into(), x()), ("x".into(), x())]), "E0601");
    assert_eq!(code(&[("x".into(), Tensor::f32(&[4], vec![0.; 4]))]), "E0602");
    assert_eq!(code(&[("x".into(), Tensor::i64(&[2, 2], vec![0; 4]))]), "E0602");
}

#[test]
fn tampering_is_refused() {
    let with = |f: &dyn Fn(&mut Manifest)| {
        let mut m = manifest();
        f(&mut m);
        load(&m).err().unwrap_or_else(|| "accepted".into())
    };
    assert_eq!(with(&|m| m.schema = 99), "E0605");
    assert_eq!(with(&|m| m.kernels[0].sha256 = sha256(b"other")), "E0605");
    assert_eq!(with(&|m| m.weights[0].sha256 = sha256(b"other")), "E0607");
    assert_eq!(with(&|m| m.weights[0].offset = 8), "E0607");
    assert_eq!(with(&|m| m.weights[0].offset = u64::MAX), "E0607");
    assert_eq!(with(&|m| m.weights[0].bytes = 8), "E0605");
    for escape in ["../w.bin", "./../w.bin", "/etc/hostname", ".//etc/hostname", ""] {
        assert_eq!(with(&|m| m.weights[0].file = escape.into()), "E0103", "{escape}");
        // A kernel's path has no base to strip: `.//etc` is a folder of the artifact, which is not there.
        let code = if escape == ".//etc/hostname" { "E0101" } else { "E0103" };
        assert_eq!(with(&|m| m.kernels[0].file = escape.into()), code, "{escape}");
    }
    assert_eq!(with(&|m| m.outputs[0].buffer = 99), "E0605");
    assert_eq!(with(&|m| m.buffers[1].alias = Some(1)), "E0605");
    assert_eq!(with(&|m| m.buffers[1].ty = TensorType::known(DType::F32, &[5])), "E0605");
    assert_eq!(with(&|m| m.run.swap(0, 1)), "E0605");
    assert_eq!(with(&|m| m.run[0] = PlanStep::Launch { kernel: 3, inputs: vec![1, 2], outputs: vec![3] }), "E0605");
    assert_eq!(with(&|m| m.run[0] = PlanStep::Launch { kernel: 0, inputs: vec![1], outputs: vec![3] }), "E0605");
    assert_eq!(with(&|m| m.run[0] = PlanStep::Launch { kernel: 0, inputs: vec![1, 2], outputs: vec![0] }), "E0605");
}

/// A manifest with the right hash that lies about its kernels, sizes or launches.
#[test]
fn a_manifest_that_lies_is_refused_before_anything_is_loaded() {
    let with = |f: &dyn Fn(&mut Manifest)| {
        let mut m = manifest();
        f(&mut m);
        check(&m).map_or_else(|d| d.code, |()| "accepted".into())
    };
    fn rows(m: &mut Manifest) -> &mut Rows {
        let Body::Rows(r) = &mut m.kernels[0].spec.body else { unreachable!() };
        r
    }
    assert_eq!(with(&|_| ()), "accepted");
    let lies: &[&dyn Fn(&mut Manifest)] = &[
        // Reads and writes out of their buffers, of values that are not there, of other types.
        &|m| rows(m).loads[0].access.offset = 1,
        &|m| rows(m).loads[0].access.offset = i64::MIN,
        &|m| rows(m).loads[1].access.strides = vec![i64::MAX],
        &|m| rows(m).loads[0].access.strides = vec![],
        &|m| rows(m).loads[0].access.buffer = 2,
        &|m| rows(m).loads[0].dtype = DType::F64,
        &|m| rows(m).stores[0].access.offset = 1,
        &|m| rows(m).stores[0].access.strides = vec![0],
        &|m| rows(m).stores[0].value = 3,
        &|m| rows(m).stores.clear(),
        &|m| rows(m).outer = vec![5],
        &|m| rows(m).outer = vec![1 << 63, 2],
        &|m| rows(m).inner = vec![0],
        &|m| rows(m).steps.clear(),
        // Signatures.
        &|m| m.kernels[0].spec.outputs.push(ty()),
        &|m| drop(m.kernels[0].spec.inputs.pop()),
        &|m| m.kernels[0].name = "k0; rm".into(),
        // Sizes that overflow, alone and as bytes.
        &|m| m.buffers[3].ty = TensorType::known(DType::F32, &[1 << 32, 1 << 32]),
        &|m| m.buffers[3].ty = TensorType::known(DType::F32, &[1 << 62]),
        &|m| m.buffers[3].ty = TensorType::known(DType::F32, &[1 << 62, 1 << 2, 0]),
        // Launches.
        &|m| m.kernels[0].grid = [0, 1, 1],
        &|m| m.kernels[0].grid = [5, 1, 1],
        &|m| m.kernels[0].grid = [u32::MAX; 3],
        &|m| m.kernels[0].block = [1025, 1, 1],
        &|m| m.kernels[0].block = [32, 32, 2],
        &|m| m.kernels[0].shared_bytes = 1 << 20,
        // Steps on the host.
        &|m| m.buffers[4].ty = TensorType::known(DType::F32, &[5]),
        &|m| m.buffers[4].ty = TensorType::known(DType::F64, &[4]),
        &|m| m.inputs.push(BufferPort { name: "x".into(), buffer: 4 }),
        &|m| m.vocabulary.outputs.push("y".into()),
    ];
    for (i, lie) in lies.iter().enumerate() {
        assert_eq!(with(lie), "E0605", "lie {i}");
    }
}

#[test]
fn what_people_edit_runs_only_when_they_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |what: &str| {
        let d = Artifact::load(dir.path(), None).err().unwrap_or_else(|| panic!("{what} is accepted"));
        assert!(d.code == "E0605" && d.to_string().contains("--allow-edited"), "{what}: {d}");
        Artifact::load_edited(dir.path(), None).map(|a| a.edited).map_err(|d| d.code)
    };
    // Another constant, with all that it is consistent: only the hash tells.
    let mut m = manifest();
    m.kernels[0].predicted_ns = 1.5.into();
    write(dir.path(), &manifest());
    std::fs::write(dir.path().join(MANIFEST), serde_json::to_string(&m).unwrap()).unwrap();
    assert_eq!(refused("an edited manifest"), Ok(vec![MANIFEST.to_string()]));
    write(dir.path(), &manifest());
    std::fs::remove_file(dir.path().join(MANIFEST_HASH)).unwrap();
    assert_eq!(refused("a manifest without a hash"), Ok(vec![MANIFEST.to_string()]));
    write(dir.path(), &manifest());
    std::fs::write(dir.path().join("kernels/k0.ptx"), "// edited").unwrap();
    assert_eq!(refused("an edited kernel"), Ok(vec!["kernels/k0.ptx".to_string()]));
    // An edit does not switch the checks off, nor those of weights.
    m.kernels[0].grid = [0; 3];
    std::fs::write(dir.path().join(MANIFEST), serde_json::to_string(&m).unwrap()).unwrap();
    assert_eq!(Artifact::load_edited(dir.path(), None).err().unwrap().code, "E0605");
    write(dir.path(), &manifest());
    std::fs::write(dir.path().join("w.bin"), [0u8; 20]).unwrap();
    let a = Artifact::load_edited(dir.path(), None).unwrap();
    assert_eq!(Runner::new(a, device::open("interp").unwrap()).err().unwrap().code, "E0607");
}

/// The manifest says how much work there is; a kernel that was edited to run for hours is stopped, on both devices.
#[test]
fn edited_kernels_that_do_not_end_are_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let run = |target: &str, device: &str, text: &str| {
        write(dir.path(), &Manifest { target: target.into(), ..manifest() });
        std::fs::write(dir.path().join("kernels/k0.ptx"), text).unwrap();
        let a = Artifact::load_edited(dir.path(), None).unwrap_or_else(|d| panic!("{d}"));
        let r = Runner::new(a, device::open(device).unwrap());
        r.and_then(|mut r| r.run(&[("x".to_string(), Tensor::f32(&[2, 2], vec![1.0; 4]))]))
    };
    let ptx = |end: &str| {
        format!(
            ".version 8.0\n.target sm_90a\n.address_size 64\n.visible .entry k0(.param .u64 a, .param .u64 b, .param .u64 c)\n{{\n\
             .reg .b32 %r<3>; .reg .b64 %rd<6>; .reg .pred %p<2>;\n\
             ld.param.b64 %rd1, [a]; ld.param.b64 %rd2, [b]; ld.param.b64 %rd3, [c]; mov.u32 %r1, %tid.x; mul.wide.u32 %rd4, %r1, 4;\n\
             add.s64 %rd1, %rd1, %rd4; add.s64 %rd2, %rd2, %rd4; add.s64 %rd3, %rd3, %rd4;\n\
             ld.global.b32 %r1, [%rd1]; ld.global.b32 %r2, [%rd2]; add.f32 %r1, %r1, %r2; st.global.b32 [%rd3], %r1; mov.u32 %r1, 0;\n\
             L: add.u32 %r1, %r1, 1; setp.lt.u32 %p1, %r1, {end}; @%p1 bra L;\nret;\n}}\n"
        )
    };
    let (out, _) = run("sm_90a", "ptx-emu", &ptx("1000")).unwrap_or_else(|d| panic!("{d}"));
    assert_eq!(out[0].1, Tensor::f32(&[4], vec![-2.0, -3.0, -4.0, -5.0]));
    let d = run("sm_90a", "ptx-emu", &ptx("4000000000")).unwrap_err();
    assert!(d.code == "E0603" && d.to_string().contains("runaway"), "{d}");

    let nki = |n: u64| {
        let types = |name: &str| format!("    # {name}: float32[4]\n");
        format!(
            "# NKI 0.6\nimport nki\nimport nki.isa as nisa\nimport nki.language as nl\n\n@nki.jit\ndef k0(a, b):\n{}{}\
             \x20   out = nl.ndarray((4,), dtype=nl.float32, buffer=nl.shared_hbm)\n    for i in range({n}):\n\
             \x20       nisa.dma_copy(dst=out[0:4], src=a[0:4])\n    return out\n",
            types("a"),
            types("b")
        )
    };
    run("trn2", "trn2-sim", &nki(3)).unwrap_or_else(|d| panic!("{d}"));
    let d = run("trn2", "trn2-sim", &nki(1 << 40)).unwrap_err();
    assert!(d.code == "E0605" && d.to_string().contains("instructions would run"), "{d}");
}

#[cfg(unix)]
#[test]
fn weights_cut_short_and_pipes_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &manifest());
    let a = Artifact::load(dir.path(), None).unwrap();
    std::fs::File::options().write(true).open(dir.path().join("w.bin")).unwrap().set_len(8).unwrap();
    let d = Runner::new(a, device::open("interp").unwrap()).err().unwrap();
    assert!(d.code == "E0101" && d.to_string().contains("cut short"), "{d}");
    for name in [MANIFEST, "kernels/k0.ptx", "w.bin"] {
        write(dir.path(), &manifest());
        let path = dir.path().join(name);
        std::fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
        assert_eq!(Artifact::load(dir.path(), None).err().unwrap().code, "E0101", "{name}");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(Artifact::load(dir.path(), None).err().unwrap().code, "E0101", "{name}");
        std::fs::remove_dir(&path).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn a_link_out_of_the_artifact_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    write(&out, &manifest());
    std::fs::rename(out.join("w.bin"), dir.path().join("w.bin")).unwrap();
    std::os::unix::fs::symlink("../w.bin", out.join("w.bin")).unwrap();
    assert_eq!(Artifact::load(&out, None).err().unwrap().code, "E0103");
}

#[test]
fn damaged_manifests_are_told() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &manifest());
    let path = dir.path().join("manifest.json");
    let whole = std::fs::read(&path).unwrap();
    for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
        write_manifest(dir.path(), &whole[..cut]);
        assert_eq!(Artifact::load(dir.path(), None).err().unwrap().code, "E0605");
    }
}

#[test]
fn devices_that_are_not_there_say_so() {
    assert_eq!(device::open("neuron").err().unwrap().code, "E0604");
    assert_eq!(device::open("tpu").err().unwrap().code, "E0701");
}
