//! Manifests that lie, with kernels that do not: the simulator and the emulator refuse each with a diagnostic or run it to its end. The
//! lies are those that `runtime/device/tests/mutate.rs` tells the interpreter.
//!
//! `TAHOMA_LIES=N` tells N of them to each device instead of a few.

#[path = "../../../runtime/device/tests/lies/mod.rs"]
pub(crate) mod told;

use super::{MOST_CPU, cpu, inputs, refused};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tahoma::{Artifact, Compiler, Manifest, Runner, Tensor, device};
use tahoma_core::artifact::PlanStep;
use tahoma_core::random::Random;
use tahoma_core::{Attrs, Builder, DType, Program, TensorType};
use told::lie;

/// Lies of an ordinary test, to each device.
const FEW: u64 = 300;

/// A convolution, a pool, a product, a softmax and a lookup that the host makes: weights, views, recipes at load.
pub(crate) fn image() -> Program {
    let a = Attrs::new;
    let f32s = |dims: &[usize]| TensorType::known(DType::F32, dims);
    let ramp = |dims: &[usize]| Tensor::f32(dims, (0..dims.iter().product()).map(|i| ((i * 7) % 19) as f32 / 19.0 - 0.5).collect());
    let mut b = Builder::new(Program::MAIN);
    let x = b.input("x", f32s(&[1, 2, 6, 6]));
    let at = b.input("at", TensorType::known(DType::I64, &[3]));
    let (w, v) = (b.constant(ramp(&[3, 2, 3, 3])), b.constant(ramp(&[9, 4])));
    let two = b.constant(Tensor::f32(&[], vec![2.0]));
    let w = b.op("mul", &[w, two], a()).unwrap();
    let pads = a().with("strides", vec![1, 1]).with("pads", vec![1, 1, 1, 1]).with("dilations", vec![1, 1]).with("groups", 1);
    let y = b.op("conv", &[x, w], pads).unwrap();
    let window = a().with("window", vec![3, 3]).with("strides", vec![2, 2]).with("pads", vec![1, 1, 1, 1]).with("dilations", vec![1, 1]);
    let y = b.op("max_pool", &[y], window).unwrap();
    let y = b.op("reshape", &[y], a().with("shape", vec![3, 9])).unwrap();
    let y = b.op("matmul", &[y, v], a()).unwrap();
    let y = b.op("softmax", &[y], a().with("axis", 1)).unwrap();
    let rows = b.op("gather", &[y, at], a().with("axis", 0)).unwrap();
    b.output("y", y);
    b.output("rows", rows);
    Program::new(b.finish())
}

/// An artifact that holds, with inputs that it takes.
struct Base {
    tree: Value,
    artifact: Artifact,
    texts: BTreeMap<String, String>,
    inputs: Vec<(String, Tensor)>,
}

fn base(dir: &Path, name: &str, p: &Program, target: &str) -> Base {
    let (model, out) = (dir.join(format!("{name}.mlir")), dir.join(format!("{name}.{target}")));
    std::fs::write(&model, tahoma::print_program(p).unwrap_or_else(|d| panic!("{d}"))).expect("a file");
    let c = Compiler::new(&model).target(target).compile().unwrap_or_else(|d| panic!("{d}"));
    c.write(&out, false).unwrap_or_else(|d| panic!("{d}"));
    let artifact = Artifact::load(&out, None).unwrap_or_else(|d| panic!("{d}"));
    let texts = artifact.manifest.kernels.iter().map(|k| k.file.clone()).zip(artifact.kernels.iter().cloned()).collect();
    Base { tree: serde_json::to_value(&*artifact.manifest).expect("JSON"), artifact, texts, inputs: inputs(p) }
}

/// Whether it was a manifest, and whether it ran.
fn tell(base: &Base, tree: Value, on: &str) -> (bool, bool) {
    let Ok(m) = serde_json::from_value::<Manifest>(tree) else { return (false, false) };
    // What is not there cannot be loaded: the loader's business, and its tests'.
    let texts: Option<Vec<String>> = m.kernels.iter().map(|k| base.texts.get(&k.file).cloned()).collect();
    let Some(texts) = texts else { return (true, false) };
    let artifact = Artifact { manifest: Arc::new(m), kernels: Arc::new(texts), weights: base.artifact.weights.clone(), edited: vec![] };
    let ran = device::open(on).and_then(|d| Runner::new(artifact, d)).and_then(|mut r| r.run(&base.inputs));
    if let Err(d) = &ran {
        refused(&d.clone().into());
    }
    (true, ran.is_ok())
}

#[test]
fn lies_to_a_device_are_refused_or_harmless() {
    let dir = tempfile::tempdir().expect("a folder");
    let count: u64 = std::env::var("TAHOMA_LIES").ok().and_then(|n| n.parse().ok()).unwrap_or(FEW);
    for (target, on) in [("trn2", "trn2-sim"), ("sm_90a", "ptx-emu")] {
        let all = [("image", image()), ("branch", crate::branch::program()), ("loops", crate::recurrent::program(8, 5))];
        let all = all.map(|(name, p)| base(dir.path(), name, &p, target));
        let steps = || all.iter().flat_map(|b| &b.artifact.manifest.run);
        let has = |f: &dyn Fn(&PlanStep) -> bool| steps().any(f);
        assert!(has(&|s| matches!(s, PlanStep::Loop { .. })) && has(&|s| matches!(s, PlanStep::If { .. })), "{target}: too plain");
        assert!(has(&|s| matches!(s, PlanStep::Launch { .. })), "{target}: no kernel");
        for b in &all {
            assert_eq!(tell(b, b.tree.clone(), on), (true, true), "{target}: {} does not run", b.artifact.manifest.model);
        }
        let (mut read, mut ran) = (0, 0);
        for seed in 0..count {
            let mut r = Random::new(seed);
            let base = &all[r.below(all.len())];
            let mut tree = base.tree.clone();
            let lies: Vec<String> = (0..1 + r.below(3)).map(|_| lie(&mut tree, &mut r)).collect();
            let start = cpu();
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| tell(base, tree, on)));
            let Ok((well_formed, finished)) = done else { panic!("{on}, seed {seed}: {lies:#?}") };
            read += u64::from(well_formed);
            ran += u64::from(finished);
            let took = cpu() - start;
            assert!(took < MOST_CPU, "{on}, seed {seed} takes {took:?}: {lies:#?}");
        }
        println!("{on}: {count} lies, {read} are manifests, {ran} ran");
        assert!(read > count / 4 && ran > count / 100, "{on}: {read} of {count} were manifests, {ran} ran");
    }
}
