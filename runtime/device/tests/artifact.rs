//! Artifacts that were tampered with are refused; whole ones run.

use std::path::Path;
use tahoma_core::artifact::*;
use tahoma_core::graph::OpRef;
use tahoma_core::kernel::{Access, Body, KernelSpec, Load, RowStep, Rows, Store};
use tahoma_core::scalar::{Binary, Expr, Step};
use tahoma_core::{Attrs, DType, Tensor, TensorType, ops};
use tahoma_runtime::{Artifact, Runner, device, sha256};

fn ty() -> TensorType {
    TensorType::known(DType::F32, &[4])
}

/// y = reshape(x) + w on the device, z = −y on the host.
fn manifest() -> Manifest {
    let access = |buffer| Access { buffer, offset: 0, strides: vec![1], guards: vec![], fill: 0.0 };
    let load = |buffer| Load { access: access(buffer), dtype: DType::F32, per_row: false };
    let mut expr = Expr::default();
    let (a, b) = (expr.push(Step::Input(0), DType::F32), expr.push(Step::Input(1), DType::F32));
    expr.push(Step::Binary(Binary::Add, a, b), DType::F32);
    let spec = KernelSpec {
        name: "k0".into(),
        inputs: vec![ty(), ty()],
        outputs: vec![ty()],
        body: Body::Rows(Rows {
            outer: vec![4],
            inner: vec![],
            loads: vec![load(0), load(1)],
            steps: vec![RowStep::Map { expr, args: vec![0, 1] }],
            stores: vec![Store { access: access(0), value: 2 }],
        }),
    };
    let weight: Vec<u8> = [1f32, 2., 3., 4.].iter().flat_map(|v| v.to_le_bytes()).collect();
    let buffer = |ty: TensorType, alias| BufferDef { ty, alias };
    Manifest {
        vocabulary: Default::default(),
        schema: SCHEMA,
        producer: "test".into(),
        model: "m".into(),
        target: "sm_90a".into(),
        numerics: Numerics::default(),
        inputs: vec![BufferPort { name: "x".into(), buffer: 0 }],
        outputs: vec![BufferPort { name: "z".into(), buffer: 4 }],
        buffers: vec![
            buffer(TensorType::known(DType::F32, &[2, 2]), None),
            buffer(ty(), Some(0)),
            buffer(ty(), None),
            buffer(ty(), None),
            buffer(ty(), None),
        ],
        weights_base: String::new(),
        weights: vec![WeightRef { name: "w".into(), buffer: 2, file: "./w.bin".into(), offset: 4, bytes: 16, sha256: sha256(&weight) }],
        load: vec![],
        run: vec![
            PlanStep::Launch { kernel: 0, inputs: vec![1, 2], outputs: vec![3] },
            PlanStep::Host {
                op: OpRef(ops::find("neg").unwrap()),
                attrs: Attrs::new(),
                inputs: vec![3],
                outputs: vec![4],
                origin: Default::default(),
            },
        ],
        kernels: vec![KernelDef {
            name: "k0".into(),
            file: "kernels/k0.ptx".into(),
            sha256: sha256(b"// text"),
            mlir: "kernels/k0.mlir".into(),
            spec,
            grid: [1; 3],
            block: [4, 1, 1],
            shared_bytes: 0,
            predicted_ns: 0.0,
            origin: Default::default(),
        }],
        functions: Default::default(),
        report: Report::default(),
    }
}

fn write(dir: &Path, m: &Manifest) {
    std::fs::create_dir_all(dir.join("kernels")).unwrap();
    std::fs::write(dir.join("kernels/k0.ptx"), "// text").unwrap();
    let bytes: Vec<u8> = [0f32, 1., 2., 3., 4.].iter().flat_map(|v| v.to_le_bytes()).collect();
    std::fs::write(dir.join("w.bin"), bytes).unwrap();
    std::fs::write(dir.join("manifest.json"), serde_json::to_string(m).unwrap()).unwrap();
}

fn load(m: &Manifest) -> Result<Artifact, String> {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), m);
    Artifact::load(dir.path(), None).map_err(|d| d.code)
}

#[test]
fn a_whole_artifact_runs_twice() {
    let mut r = Runner::new(load(&manifest()).unwrap(), device::open("interp").unwrap()).unwrap();
    for k in [1f32, 2.] {
        let x = Tensor::f32(&[2, 2], vec![10. * k; 4]);
        let (out, report) = r.run(&[("x".into(), x)]).unwrap();
        assert_eq!(out[0].1, Tensor::f32(&[4], (1..5).map(|i| -(10. * k + i as f32)).collect()));
        assert_eq!((report.launches, report.kernels[0].launches), (1, 1));
    }
}

#[test]
fn wrong_inputs_are_told_by_name() {
    let mut r = Runner::new(load(&manifest()).unwrap(), device::open("interp").unwrap()).unwrap();
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
        std::fs::write(&path, &whole[..cut]).unwrap();
        assert_eq!(Artifact::load(dir.path(), None).err().unwrap().code, "E0605");
    }
}

#[test]
fn devices_that_are_not_there_say_so() {
    assert_eq!(device::open("neuron").err().unwrap().code, "E0604");
    assert_eq!(device::open("tpu").err().unwrap().code, "E0701");
}
