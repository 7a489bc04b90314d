//! The command as users meet it: exit codes, diagnostics, and that a failure leaves nothing behind.

mod onnx;
mod shapes;
mod terminal;
mod verify;

use std::path::{Path, PathBuf};
use std::process::Command;
use tahoma::{Tensor, npy};

/// A model in the `ml` dialect: y = relu(x · w') with a constant, no weights, one open dimension.
const MODEL: &str = r#"
func.func @main(%x: tensor<2x3xf32>) -> tensor<2x3xf32> attributes {ml.inputs = ["x"], ml.outputs = ["y/0"]} {
  %0 = "ml.relu"(%x) : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %0 : tensor<2x3xf32>
}
"#;

struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let b = Bench { dir: tempfile::tempdir().unwrap() };
        std::fs::write(b.path("m.mlir"), MODEL).unwrap();
        npy::write(&b.path("x.npy"), &Tensor::f32(&[2, 3], vec![-1., 2., -3., 4., -5., 6.])).unwrap();
        npy::write(&b.path("long.npy"), &Tensor::f32(&[3, 3], vec![0.; 9])).unwrap();
        npy::write(&b.path("ints.npy"), &Tensor::i64(&[2, 3], vec![0; 6])).unwrap();
        std::fs::write(b.path("bad.npy"), b"\x93NUMPY\x01\x00").unwrap();
        std::fs::write(b.path("bad.onnx"), b"\xff\xff\xff\xff\xff").unwrap();
        std::fs::write(b.path("bad.mlir"), "func.func @main(").unwrap();
        b
    }
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    /// The command, in the folder.
    fn command(&self) -> Command {
        let mut c = Command::new(assert_cmd::cargo::cargo_bin!("tahoma"));
        c.current_dir(self.dir.path());
        c
    }
    /// Runs in the folder; exit code, standard output, standard error.
    fn run(&self, line: &str) -> (i32, String, String) {
        let out = self.command().args(line.split_whitespace()).output().unwrap();
        let text = |b: Vec<u8>| String::from_utf8_lossy(&b).into_owned();
        (out.status.code().unwrap_or(-1), text(out.stdout), text(out.stderr))
    }
    /// Names in the folder.
    fn names(&self) -> Vec<String> {
        let mut n: Vec<_> =
            std::fs::read_dir(self.dir.path()).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        n.sort();
        n
    }
}

#[test]
fn wrong_input_gives_a_code_and_no_output() {
    let b = Bench::new();
    let before = b.names();
    let cases = [
        ("compile nothing.onnx --target trn2 -o out", 1, "E0101"),
        ("compile bad.onnx --target trn2 -o out", 1, "E0102"),
        ("compile bad.mlir --target trn2 -o out", 1, "E0902"),
        ("compile m.mlir --target tpu -o out", 1, "E0501"),
        ("compile m.mlir --target trn2 --shape x=1xNaN -o out", 1, "E0207"),
        ("compile m.mlir --target trn2 --shape x -o out", 1, "E0207"),
        ("compile m.mlir --target trn2 --dim n=-1 -o out", 1, "E0207"),
        ("compile m.mlir --target trn2 --constant x=bad.npy -o out", 1, "E0106"),
        ("compile m.mlir --target trn2 -o x.npy", 1, "E0702"),
        ("compile m.mlir --target trn2 -o x.npy --force", 1, "E0702"),
        ("compile m.mlir --stop-after nowhere", 1, "E0701"),
        ("compile m.mlir --target trn2", 2, "--output"),
        ("compile m.mlir -o out", 2, "--target"),
        ("compile", 2, "Usage"),
        ("frobnicate", 2, "Usage"),
        ("run m.mlir --output-dir out", 1, "E0601"),
        ("run m.mlir --input y=x.npy --output-dir out", 1, "E0601"),
        ("run m.mlir --input x=x.npy --input x=x.npy --output-dir out", 1, "E0601"),
        ("run m.mlir --input x --output-dir out", 1, "E0701"),
        ("run m.mlir --input x=nothing.npy --output-dir out", 1, "E0101"),
        ("run m.mlir --input x=bad.npy --output-dir out", 1, "E0106"),
        ("run m.mlir --input x=long.npy --output-dir out", 1, "E0602"),
        ("run m.mlir --input x=ints.npy --output-dir out", 1, "E0602"),
        ("run m.mlir --device trn2-sim --input x=ints.npy --output-dir out", 1, "E0602"),
        ("run m.mlir --device tpu --input x=x.npy --output-dir out", 1, "E0701"),
        ("run m.mlir --device neuron --input x=x.npy --output-dir out", 1, "E0604"),
        ("run m.mlir --input x=x.npy --output-dir x.npy", 1, "E0702"),
        ("verify m.mlir --target tpu", 1, "E0501"),
        ("conformance nowhere", 1, "E0101"),
        ("opt m.mlir --steps nothing", 1, "E0701"),
        ("explain E9999", 1, "E0701"),
        ("explain op nothing", 1, "E0701"),
    ];
    for (line, code, says) in cases {
        let (got, out, err) = b.run(line);
        assert_eq!(got, code, "{line}\n{err}");
        assert!(err.contains(says), "{line} should say {says}:\n{err}");
        assert!(out.is_empty(), "{line} printed {out}");
        assert_eq!(b.names(), before, "{line} left something");
    }
}

#[test]
fn compile_run_and_verify_agree() {
    let b = Bench::new();
    for (target, device) in [("trn2", "trn2-sim"), ("sm_90a", "ptx-emu")] {
        let (code, out, err) = b.run(&format!("compile m.mlir --target {target} -o {target} --json"));
        assert_eq!(code, 0, "{err}");
        let report: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((report["on_device_share"].as_f64(), report["launches"].as_u64()), (Some(1.0), Some(1)), "{out}");
        let (code, out, err) = b.run(&format!("run {target} --device {device} --input x=x.npy --output-dir r-{target} --json"));
        assert_eq!(code, 0, "{err}");
        let report: serde_json::Value = serde_json::from_str(&out).unwrap();
        // The name of an output becomes a safe file name.
        assert_eq!(report["outputs"]["y/0"], format!("r-{target}/y_0.npy"));
        let y = npy::read(&b.path(&format!("r-{target}/y_0.npy")), None).unwrap();
        assert_eq!(y, Tensor::f32(&[2, 3], vec![0., 2., 0., 4., 0., 6.]));
        let (code, out, err) = b.run(&format!("verify m.mlir --target {target} --each-kernel"));
        assert_eq!(code, 0, "{out}{err}");
    }
    // An artifact is for its own machine's devices.
    let (code, _, err) = b.run("run trn2 --device ptx-emu --input x=x.npy --output-dir out");
    assert!(code == 1 && err.contains("E0701"), "{err}");
    // What is there stays, unless it may be replaced.
    let (code, _, err) = b.run("compile m.mlir --target trn2 -o trn2");
    assert!(code == 1 && err.contains("E0702"), "{err}");
    let before = tree(&b.path("trn2"));
    assert_eq!(b.run("compile m.mlir --target trn2 -o trn2 --force").0, 0);
    assert_eq!(tree(&b.path("trn2")), before, "compiled twice, the bytes differ");
    // A changed kernel is not run.
    let kernel = b.path("trn2").join(before.iter().map(|f| f.0.as_str()).find(|n| n.ends_with(".py")).unwrap());
    std::fs::write(kernel, "print()").unwrap();
    let (code, _, err) = b.run("run trn2 --device trn2-sim --input x=x.npy --output-dir out");
    assert!(code == 1 && err.contains("E0605"), "{err}");
}

/// Files below a folder with their bytes.
fn tree(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut out = vec![];
    let mut todo = vec![dir.to_path_buf()];
    while let Some(d) = todo.pop() {
        for e in std::fs::read_dir(d).unwrap() {
            let p = e.unwrap().path();
            if p.is_dir() {
                todo.push(p);
            } else {
                out.push((p.strip_prefix(dir).unwrap().display().to_string(), std::fs::read(&p).unwrap()));
            }
        }
    }
    out.sort();
    out
}

#[test]
fn opt_prints_what_it_can_read_again() {
    let b = Bench::new();
    let (code, out, err) = b.run("opt m.mlir --steps specialise,eqsat --verify-each");
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("ml.call") && out.contains("@k0") || out.contains("\"k0\""), "{out}");
    std::fs::write(b.path("again.mlir"), &out).unwrap();
    let (code, again, err) = b.run("opt again.mlir");
    assert_eq!(code, 0, "{err}");
    assert_eq!(again, out);
}

#[test]
fn explain_knows_codes_ops_and_kernels() {
    let b = Bench::new();
    assert!(b.run("explain E0203").1.contains("shapes do not fit"));
    assert!(b.run("explain op relu").1.contains("ml.relu"));
    assert_eq!(b.run("compile m.mlir --target trn2 -o out").0, 0);
    assert!(b.run("explain out").1.contains("k0"));
    assert!(b.run("explain out k0").1.contains("f32[2, 3]"));
}

#[test]
fn explain_tells_of_a_model_what_became_of_it() {
    let b = Bench::new();
    let (code, out, err) = b.run("explain m.mlir --target sm_90a --check-proof");
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("k0  relu") && out.contains("0 are wrong"), "{out}");
    let (_, out, _) = b.run("explain m.mlir k0 --json");
    let v: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(v["explanation"]["kernels"][0]["name"], "k0");
    assert!(b.run("explain m.mlir --egraph text").1.contains("return %c"));
    assert!(b.run("explain m.mlir --egraph dot").1.starts_with("digraph"));
    for (line, what) in [
        ("explain m.mlir k9", "no kernel \"k9\""),
        ("explain m.mlir --target trn9", "trn9"),
        ("explain E0203 --check-proof", "is no model"),
        ("explain nothing", "no error code, no artifact and no model"),
        ("explain why-not m.mlir relu", "two nodes"),
        ("explain why-not m.mlir relu sofmax", "no node \"sofmax\""),
    ] {
        let (code, _, err) = b.run(line);
        assert_eq!(code, 1, "{line}");
        assert!(err.contains(what), "{line}: {err}");
    }
}

#[test]
fn why_not_names_the_kernel_of_both() {
    let b = Bench::new();
    let two = MODEL.replace("func.return %0", "%1 = \"ml.exp\"(%0) : (tensor<2x3xf32>) -> tensor<2x3xf32>\n  func.return %1");
    std::fs::write(b.path("two.mlir"), two).unwrap();
    let (code, out, err) = b.run("explain why-not two.mlir relu exp --target sm_90a");
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("They are one kernel: k0"), "{out}");
    let v: serde_json::Value = serde_json::from_str(&b.run("explain why-not two.mlir relu exp --json").1).unwrap();
    assert_eq!(v["verdict"], "together");
}
