//! Artifacts that were changed after they were compiled: what their manifest says, what their kernels are, how long their weights are.

use super::draw::Draw;
use super::lies::told::lie;
use super::{SEEDS, json, reached, refused, small, words};
use std::path::{Path, PathBuf};
use tahoma::{Artifact, Compiler, Runner, Tensor, device};
use tahoma_core::TensorType;
use tahoma_core::random::Random;

/// Artifacts that are damaged: of models of the suite, every second for the other target; the first of each has loops.
const BASES: usize = 16;

/// The folder of artifact `i`, and its device. Written once.
fn base(dir: &Path, i: usize) -> (PathBuf, &'static str) {
    let (target, on) = [("trn2", "trn2-sim"), ("sm_90a", "ptx-emu")][i % 2];
    let out = dir.join(format!("base{i}.out"));
    if out.join("manifest.json").is_file() {
        return (out, on);
    }
    if i < 2 {
        let path = dir.join("loops.mlir");
        let text = tahoma::print_program(&crate::recurrent::program(8, 5)).unwrap_or_else(|d| panic!("{d}"));
        std::fs::write(&path, text).expect("a file");
        let c = Compiler::new(&path).target(target).compile().unwrap_or_else(|d| panic!("{d}"));
        c.write(&out, true).unwrap_or_else(|d| panic!("{d}"));
        return (out, on);
    }
    let path = dir.join(format!("base{i}.onnx"));
    for bytes in SEEDS.models.iter().cycle().skip(i * 131) {
        std::fs::write(&path, bytes).expect("a file");
        let Ok(c) = Compiler::new(&path).target(target).compile() else { continue };
        if !c.manifest.kernels.is_empty() && c.write(&out, true).is_ok() {
            break;
        }
    }
    (out, on)
}

/// Changes one file of the folder.
fn damage(bad: &Path, d: &mut Draw) {
    let manifest = bad.join("manifest.json");
    let text = std::fs::read_to_string(&manifest).expect("a manifest");
    match d.below(8) {
        0 | 1 => {
            let mut kernels: Vec<PathBuf> = std::fs::read_dir(bad.join("kernels")).expect("kernels").flatten().map(|e| e.path()).collect();
            kernels.sort();
            kernels.retain(|p| p.extension().is_some_and(|e| e != "mlir"));
            if let Some(file) = d.of(&kernels) {
                let text = words(&std::fs::read_to_string(file).expect("a kernel"), d);
                std::fs::write(file, text).expect("a file");
            }
        }
        2 => std::fs::write(&manifest, &text.as_bytes()[..d.below(text.len())]).expect("a file"),
        3 => std::fs::write(&manifest, words(&text, d)).expect("a file"),
        k => {
            let mut v = serde_json::from_str(&text).expect("JSON");
            if k < 6 {
                json::damage(&mut v, d);
            } else {
                let mut r = Random::new(d.bits());
                (0..1 + r.below(3)).for_each(|_| drop(lie(&mut v, &mut r)));
            }
            std::fs::write(&manifest, v.to_string()).expect("a file");
        }
    }
}

/// It is refused, or it runs.
pub(crate) fn case(dir: &Path, d: &mut Draw) {
    let (out, on) = base(dir, d.below(BASES));
    let bad = dir.join("bad.out");
    let _ = std::fs::remove_dir_all(&bad);
    copy(&out, &bad);
    damage(&bad, d);
    let opened = device::open(on).unwrap_or_else(|d| panic!("{d}"));
    let mut runner = match Artifact::load_edited(&bad, Some(dir)).and_then(|a| Runner::new(a, opened)) {
        Ok(r) => r,
        Err(d) => return refused(&d.into()),
    };
    reached("artifact", "loaded");
    let m = runner.manifest().clone();
    let types: Vec<_> = m.inputs.iter().map(|p| (p.name.clone(), m.buffers[p.buffer].ty.clone())).collect();
    if types.iter().any(|(_, t)| !small(t)) {
        return;
    }
    let zeros = |(n, t): (String, TensorType)| (n, Tensor::full(t.dtype, &t.shape.to_static().unwrap_or_default(), 0.0));
    let given: Vec<_> = types.into_iter().map(zeros).collect();
    match runner.run(&given) {
        Ok(_) => reached("artifact", "ran"),
        Err(d) => refused(&d.into()),
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for e in std::fs::read_dir(from).expect("a folder").flatten() {
        let (path, to) = (e.path(), to.join(e.file_name()));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            std::fs::copy(path, to).expect("a copy");
        }
    }
}
