//! Artifacts: equal inputs give equal bytes, and a folder does what the model in memory does.

use std::collections::BTreeMap;
use std::path::Path;
use tahoma::verify_artifact::{ArtifactOptions, verify_artifact};
use tahoma::{Artifact, Compiler, Runner, device};
use tahoma_core::{Attrs, Builder, DType, Program, Tensor, TensorType};
use tahoma_tests::oracle;

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut out = BTreeMap::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(d) = todo.pop() {
        for e in std::fs::read_dir(&d).expect("a folder").flatten() {
            if e.path().is_dir() {
                todo.push(e.path());
            } else {
                out.insert(e.path().strip_prefix(dir).expect("inside").display().to_string(), std::fs::read(e.path()).expect("a file"));
            }
        }
    }
    out
}

#[test]
fn compiling_twice_gives_the_same_bytes() {
    let o = oracle("vad-16k");
    let dir = tempfile::tempdir().expect("a folder");
    for target in ["trn2", "sm_90a"] {
        let mut made = vec![];
        for round in ["a", "b"] {
            let out = dir.path().join(format!("{target}-{round}"));
            let c = Compiler::new(&o.model).target(target).shapes_of(&o.inputs).compile().unwrap_or_else(|d| panic!("{d}"));
            c.write(&out, false).unwrap_or_else(|d| panic!("{d}"));
            made.push(files(&out));
        }
        assert!(made[0].len() > 2, "{:?}", made[0].keys());
        assert_eq!(made[0].keys().collect::<Vec<_>>(), made[1].keys().collect::<Vec<_>>());
        for (name, bytes) in &made[0] {
            assert_eq!(bytes, &made[1][name], "{target}: {name} differs");
        }
    }
}

#[test]
fn an_artifact_runs_from_its_folder() {
    let o = oracle("vad-16k");
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("out");
    let c = Compiler::new(&o.model).target("trn2").shapes_of(&o.inputs).compile().unwrap_or_else(|d| panic!("{d}"));
    c.write(&out, false).unwrap_or_else(|d| panic!("{d}"));
    let (want, _) = c.run(&o.inputs, "trn2-sim").unwrap_or_else(|d| panic!("{d}"));
    let artifact = Artifact::load(&out, None).unwrap_or_else(|d| panic!("{d}"));
    let mut runner = Runner::new(artifact, device::open("trn2-sim").unwrap_or_else(|d| panic!("{d}"))).unwrap_or_else(|d| panic!("{d}"));
    let (got, _) = runner.run(&o.inputs).unwrap_or_else(|d| panic!("{d}"));
    assert_eq!(got, want);
}

/// `select(a < b, a, v)` for each of the values that JSON has no number for, or that compare equal to another.
fn constants() -> Program {
    let ty = TensorType::known(DType::F32, &[4]);
    let mut b = Builder::new("main");
    let (x, y) = (b.input("x", ty.clone()), b.input("y", ty));
    for (i, v) in VALUES.into_iter().enumerate() {
        let v = b.constant(Tensor::f32(&[], vec![v]));
        let less = b.op("lt", &[x, y], Attrs::new()).expect("lt");
        let out = b.op("select", &[less, x, v], Attrs::new()).expect("select");
        // Each a kernel of its own, or all in one: both are written.
        b.output(&format!("y{i}"), out);
    }
    Program::new(b.finish())
}

const VALUES: [f32; 5] = [f32::NEG_INFINITY, f32::INFINITY, f32::NAN, -0.0, 0.0];

#[test]
fn kernels_that_differ_in_a_special_number_stay_apart_and_come_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let model = dir.path().join("constants.mlir");
    std::fs::write(&model, tahoma::print_program(&constants()).unwrap_or_else(|d| panic!("{d}"))).expect("written");
    let x = |v: [f32; 4]| Tensor::f32(&[4], v.into());
    let inputs = vec![("x".to_string(), x([1., 2., 3., 4.])), ("y".to_string(), x([2., 1., 4., 4.]))];
    for (target, device_name) in [("trn2", "trn2-sim"), ("sm_90a", "ptx-emu")] {
        for optimise in [true, false] {
            let c = Compiler::new(&model).target(target).optimise(optimise).compile().unwrap_or_else(|d| panic!("{d}"));
            let out = dir.path().join(format!("{target}-{optimise}"));
            c.write(&out, false).unwrap_or_else(|d| panic!("{d}"));
            let artifact = Artifact::load(&out, None).unwrap_or_else(|d| panic!("{d}"));
            assert_eq!(*artifact.manifest, *c.manifest);
            let mut runner =
                Runner::new(artifact, device::open(device_name).unwrap_or_else(|d| panic!("{d}"))).unwrap_or_else(|d| panic!("{d}"));
            let (got, _) = runner.run(&inputs).unwrap_or_else(|d| panic!("{d}"));
            for ((name, t), v) in got.iter().zip(VALUES) {
                let want = x([1., v, 3., v]);
                let same = t.to_bytes() == want.to_bytes() || (v.is_nan() && t.to_f64s()[1].is_nan() && t.to_f64s()[3].is_nan());
                assert!(same, "{target}, {optimise}: {name} is {:?} where {v} is meant", t.to_f64s());
            }
        }
        // A manifest that says −inf where the kernel has inf is refused; who insists learns which kernel it is.
        let out = dir.path().join(format!("{target}-false"));
        let path = out.join("manifest.json");
        let text = std::fs::read_to_string(&path).expect("a manifest");
        let edited = text.replacen("\"inf\"", "\"-inf\"", 1);
        assert_ne!(edited, text);
        std::fs::write(&path, edited).expect("written");
        assert_eq!(Artifact::load(&out, None).err().map(|d| d.code).as_deref(), Some("E0605"));
        let options = ArtifactOptions { inputs: inputs.clone(), model: Some(model.clone()), ..ArtifactOptions::default() };
        let r = verify_artifact(&out, &options).unwrap_or_else(|d| panic!("{d}"));
        let wrong = r.kernels.iter().filter(|k| !k.difference.agree).count();
        assert!(!r.agree && wrong == 1 && r.edited == ["manifest.json"], "{r:#?}");
        // The kernel itself is as it was, so the outputs are the model's.
        assert!(r.outputs.len() == VALUES.len() && r.outputs.iter().all(|o| o.difference.agree), "{r:#?}");
        std::fs::write(&path, text).expect("written");
        let r = verify_artifact(&out, &options).unwrap_or_else(|d| panic!("{d}"));
        assert!(r.agree && r.edited.is_empty() && r.not_compared.is_none(), "{r:#?}");
    }
}
