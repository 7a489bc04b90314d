//! Streams, paths and pages: output that does not arrive, problems as JSON, colour, completions.

use super::Bench;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Stdio;

const LINES: &[&str] = &[
    "--help",
    "--version",
    "verify --help",
    "explain E0203",
    "explain op",
    "explain op relu --json",
    "info m.mlir",
    "info m.mlir --json",
    "completions bash",
    "man",
    "opt m.mlir",
    "compile m.mlir --stop-after import",
    "run m.mlir --input x=x.npy --output-dir r",
];

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let b = Bench::new();
    let full = || File::options().write(true).open("/dev/full").unwrap();
    for line in LINES {
        let out = b.command().args(line.split_whitespace()).stdout(full()).output().unwrap();
        let err = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{line}: {err}");
        assert!(err.contains("E0702"), "{line}: {err}");
        // And where nobody can be told, the code still tells.
        let out = b.command().args(line.split_whitespace()).stdout(full()).stderr(full()).output().unwrap();
        assert_eq!(out.status.code(), Some(1), "{line}");
    }
    let out = b.command().args(["explain", "E9999"]).stderr(full()).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
}

#[test]
fn a_reader_that_has_enough_is_no_error() {
    let b = Bench::new();
    for line in LINES {
        let mut child = b.command().args(line.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let out = child.wait_with_output().unwrap();
        assert_eq!((out.status.code(), String::from_utf8_lossy(&out.stderr).as_ref()), (Some(0), ""), "{line}");
    }
}

#[test]
fn problems_are_json_too() {
    let b = Bench::new();
    for (line, code, what) in [
        ("compile nothing.onnx --target trn2 -o out --json", 1, "E0101"),
        ("run m.mlir --output-dir out --json", 1, "E0601"),
        ("verify m.mlir --target tpu --json", 1, "E0501"),
        ("explain E9999 --json", 1, "E0701"),
        ("info bad.onnx --json", 1, "E0102"),
        ("run m.mlir --json", 2, "E0701"),
    ] {
        let (got, out, err) = b.run(line);
        assert_eq!(got, code, "{line}: {err}");
        let v: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{line}: {e}: {out}"));
        assert_eq!(v["errors"][0]["code"], what, "{line}: {out}");
        assert!(!v["errors"][0]["message"].as_str().unwrap().is_empty() && err.contains("error"), "{line}: {err}");
    }
    let (code, out, _) = b.run("conformance nowhere --json report.json");
    let v: serde_json::Value = serde_json::from_slice(&std::fs::read(b.path("report.json")).unwrap()).unwrap();
    assert_eq!((code, out.as_str(), v["errors"][0]["code"].as_str()), (1, "", Some("E0101")));
}

#[test]
fn no_colour_in_a_pipe() {
    let b = Bench::new();
    for (line, log) in [("compile nothing.onnx --target trn2 -o out", ""), ("compile m.mlir --target trn2 -o out", "info"), ("--help", "")]
    {
        let out = b.command().args(line.split_whitespace()).env("TAHOMA_LOG", log).output().unwrap();
        assert!(!out.stdout.contains(&0x1b) && !out.stderr.contains(&0x1b), "{line}");
    }
}

#[test]
fn outputs_are_refused_before_any_work() {
    let b = Bench::new();
    std::fs::create_dir(b.path("full")).unwrap();
    std::fs::write(b.path("full/file"), "x").unwrap();
    let before = b.names();
    // The model is not there: a place that is refused is refused before that is seen.
    for line in [
        "compile nothing.onnx --target trn2 -o .",
        "compile nothing.onnx --target trn2 -o ..",
        "compile nothing.onnx --target trn2 -o /",
        "compile nothing.onnx --target trn2 -o full",
        "compile nothing.onnx --target trn2 -o full --force",
        "compile nothing.onnx --target trn2 -o x.npy",
        "compile nothing.onnx --target trn2 -o x.npy/out",
        "compile nothing.onnx --target trn2 -o /proc/out",
        "compile nothing.onnx --target trn2 --target sm_90a -o x.npy",
        "compile nothing.onnx --target trn2 -o out --dump x.npy",
        "run nothing.onnx --output-dir x.npy",
        "run nothing.onnx --output-dir x.npy/out",
        "verify nothing.onnx --target trn2 --keep x.npy",
        "opt nothing.mlir --dump x.npy",
        "conformance nowhere --json x.npy/report.json",
        "conformance nowhere --json full",
    ] {
        let (code, _, err) = b.run(line);
        assert!(code == 1 && err.contains("E0702"), "{line}: {err}");
        assert_eq!(b.names(), before, "{line}");
    }
}

/// A path need not be text; what cannot be told in a manifest is packed.
#[test]
fn paths_that_are_no_text() {
    let b = Bench::new();
    let strange = b.dir.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    std::fs::create_dir(&strange).unwrap();
    let w: Vec<f32> = (0..64).map(|i| i as f32).collect();
    let m = super::onnx::model(
        &[super::onnx::port("x", 1, &[super::onnx::D::N(2), super::onnx::D::N(8)])],
        &[super::onnx::f32s("w", &[8, 8], &w)],
        &[super::onnx::node("MatMul", &["x", "w"], "y")],
        &[super::onnx::port("y", 1, &[])],
    );
    std::fs::write(strange.join("m.onnx"), m).unwrap();
    let input = strange.join("x.npy");
    tahoma::npy::write(&input, &tahoma::Tensor::f32(&[2, 8], vec![1.0; 16])).unwrap();
    let ok = |args: &[&std::ffi::OsStr]| {
        let out = b.command().args(args).output().unwrap();
        assert_eq!(out.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    };
    let (model, out) = (strange.join("m.onnx"), strange.join("out"));
    let s = |t: &'static str| std::ffi::OsStr::new(t);
    let report = ok(&[s("compile"), model.as_os_str(), s("--target"), s("trn2"), s("-o"), out.as_os_str(), s("--json")]);
    serde_json::from_slice::<serde_json::Value>(&report).unwrap();
    std::fs::copy(&input, b.path("x8.npy")).unwrap();
    let r = strange.join("r");
    ok(&[
        s("run"),
        out.as_os_str(),
        s("--device"),
        s("trn2-sim"),
        s("--input"),
        s("x=x8.npy"),
        s("--output-dir"),
        r.as_os_str(),
        s("--json"),
    ]);
    assert!(Path::new(&r).join("y.npy").is_file());
    // An argument that holds a path beside a name must be text, and is refused at once.
    let mut argument = b"x=".to_vec();
    argument.extend(input.as_os_str().as_bytes());
    let out = b
        .command()
        .args([s("run"), s("m.mlir"), s("--output-dir"), s("r2"), s("--input"), std::ffi::OsStr::from_bytes(&argument)])
        .output()
        .unwrap();
    assert!(out.status.code() == Some(2) && String::from_utf8_lossy(&out.stderr).contains("UTF-8"), "{:?}", out.stderr);
}

#[test]
fn shells_and_man_know_every_command() {
    let b = Bench::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, out, err) = b.run(&format!("completions {shell}"));
        assert!(code == 0 && out.contains("conformance") && out.contains("stop-after"), "{shell}: {err}");
    }
    let (code, out, _) = b.run("man verify");
    assert!(code == 0 && out.contains(".TH tahoma-verify 1") && out.contains("rtol"), "{out}");
    assert_eq!(b.run("man --output-dir pages").0, 0);
    for page in ["tahoma.1", "tahoma-verify.1", "tahoma-info.1", "tahoma-completions.1"] {
        assert!(b.path("pages").join(page).is_file(), "{page}");
    }
}
