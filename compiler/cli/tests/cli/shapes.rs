//! Dimensions: what a model still needs, names that name nothing, and where numbers may be given.

use super::Bench;
use super::onnx::{D, f32s, model, node, port};

/// Two inputs that share a named dimension, one with a dimension that has no name.
fn open() -> Vec<u8> {
    let x = port("x", 1, &[D::S("rows"), D::N(3), D::Open, D::Open]);
    let s = port("s", 1, &[D::S("rows"), D::N(1), D::N(1), D::N(1)]);
    let nodes = [node("Mul", &["x", "k"], "a"), node("Add", &["a", "s"], "y")];
    model(&[x, s], &[f32s("k", &[], &[2.0])], &nodes, &[port("y", 1, &[])])
}

#[test]
fn what_is_open_is_refused_with_a_line_that_closes_it() {
    let b = Bench::new();
    std::fs::write(b.path("open.onnx"), open()).unwrap();
    let before = b.names();
    let ready = |text: &str, after: &str| -> String {
        let line = text.lines().find_map(|l| l.split_once(after)).unwrap_or_else(|| panic!("no line in {text}"));
        line.1.trim().to_string()
    };
    let (code, out, err) = b.run("compile open.onnx --target trn2 -o out");
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(err.contains("E0209") && err.contains("\"x\" f32[rows, 3, x.2, x.3]"), "{err}");
    assert_eq!(b.names(), before);
    let options = ready(&err, "with your numbers: ");
    let (code, out, err) = b.run(&format!("compile open.onnx --target trn2 -o out {options}"));
    assert_eq!(code, 0, "{options}: {out}{err}");
    // The same line elsewhere.
    let (code, _, err) = b.run("verify open.onnx --target trn2");
    assert!(code == 1 && ready(&err, "with your numbers: ") == options, "{err}");
    let (_, out, _) = b.run("info open.onnx");
    assert!(out.contains(&options) && out.contains("1 × Mul") && out.contains("f32[rows, 3, x.2, x.3]"), "{out}");
    let (code, out, err) = b.run("info open.onnx --dim rows=2 --json");
    let v: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"));
    assert_eq!((code, v["opsets"]["ai.onnx"].as_u64(), v["inputs"][0]["dims"][0].as_str()), (0, Some(20), Some("rows")));
    assert!(v["options"].as_str().unwrap().starts_with("--shape x=2x3x") && v["flops"].as_u64().unwrap() > 0, "{out}");
    assert_eq!(v["parameters"], 1);
    // An exported module keeps its open dimensions.
    assert_eq!(b.run("compile open.onnx --stop-after specialise").0, 0);
}

#[test]
fn names_that_name_nothing_are_refused_with_the_nearest() {
    let b = Bench::new();
    std::fs::write(b.path("open.onnx"), open()).unwrap();
    for (line, code, says) in [
        ("compile open.onnx --target trn2 -o out --dim row=1", "E0207", "did you mean \"rows\"?"),
        ("compile open.onnx --target trn2 -o out --shape xx=1x3x4x4", "E0207", "did you mean \"x\"?"),
        ("compile open.onnx --target trn2 -o out --constant ss=x.npy", "E0601", "did you mean \"s\"?"),
        ("info open.onnx --dim row=1", "E0207", "did you mean \"rows\"?"),
        ("run m.mlir --input xx=x.npy --output-dir out", "E0601", "did you mean \"x\"?"),
        ("compile m.mlir --target trn2 -o out --shape xx=2x3", "E0207", "did you mean \"x\"?"),
        ("compile m.mlir --target trn2 -o out --dim n=2", "E0207", "no open dimensions"),
        ("compile m.mlir --target trn -o out", "E0501", "did you mean \"trn2\"?"),
        ("run m.mlir --device trn2sim --input x=x.npy --output-dir out", "E0701", "did you mean \"trn2-sim\"?"),
        ("opt m.mlir --steps eqsta", "E0701", "did you mean \"eqsat\"?"),
        ("compile m.mlir --stop-after import2", "E0701", "did you mean \"import\"?"),
        ("explain op Sofmax", "E0701", "did you mean \"softmax\"?"),
        ("explain E203", "E0701", "did you mean \"E0203\"?"),
        ("man verfy", "E0701", "did you mean \"verify\"?"),
    ] {
        let (got, _, err) = b.run(line);
        assert_eq!(got, 1, "{line}: {err}");
        assert!(err.contains(code) && err.contains(says), "{line}: {err}");
    }
    assert_eq!(b.run("explain op SoftMax").1, b.run("explain op softmax").1);
}

#[test]
fn run_takes_what_compile_takes() {
    let b = Bench::new();
    let line = "run m.mlir --input x=x.npy --output-dir";
    for (tail, code, says) in [
        ("a --device ptx-emu --target sm_80 --numerics exact --shape x=2x3", 0, "1 launches"),
        ("b --shape x=2x3", 0, "y/0"),
        ("c --device ptx-emu --target trn2", 1, "E0701"),
        ("d --target trn2", 1, "E0701"),
        ("e --device trn2-sim --shape x=4x3", 1, "E0"),
    ] {
        let (got, out, err) = b.run(&format!("{line} {tail}"));
        assert_eq!(got, code, "{tail}: {out}{err}");
        assert!(out.contains(says) || err.contains(says), "{tail}: {out}{err}");
    }
    assert_eq!(b.run("compile m.mlir --target trn2 -o out").0, 0);
    let (code, _, err) = b.run("run out --device trn2-sim --input x=x.npy --output-dir r --dim n=1");
    assert!(code == 1 && err.contains("compiled already"), "{err}");
}
