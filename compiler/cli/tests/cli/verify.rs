//! `tahoma verify`: what it must not call agreement, and what it may.

use super::Bench;
use super::onnx::{D, f32s, model, node, port};
use tahoma::{Tensor, npy};

fn noise(n: usize, scale: f32) -> Vec<f32> {
    (0..n as u32).map(|i| ((i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0) * scale).collect()
}

fn x() -> Vec<u8> {
    port("x", 1, &[D::N(8), D::N(32)])
}
fn y() -> Vec<u8> {
    port("y", 1, &[])
}

/// x·w, then `tail`.
fn net(held: &[Vec<u8>], tail: &[Vec<u8>]) -> Vec<u8> {
    let held = [&[f32s("w", &[32, 32], &noise(1024, 1.5))], held].concat();
    model(&[x()], &held, &[&[node("MatMul", &["x", "w"], "a")], tail].concat(), &[y()])
}

#[test]
fn what_says_nothing_is_inconclusive() {
    let b = Bench::new();
    let scalar = |name: &str, v: f32| f32s(name, &[], &[v]);
    let cases = [
        ("dead", net(&[scalar("c", -1e6)], &[node("Add", &["a", "c"], "b"), node("Relu", &["b"], "y")]), "every element is 0"),
        ("nan", net(&[scalar("c", f32::NAN)], &[node("Mul", &["a", "c"], "y")]), "every element is NaN"),
        ("constant", net(&[scalar("c", 0.0)], &[node("Mul", &["a", "c"], "b"), node("Cos", &["b"], "y")]), "every element is 1"),
        ("host", model(&[x()], &[], &[node("Identity", &["x"], "y")], &[y()]), "made by no kernel"),
        // b and d are one product in another order: their difference is rounding alone, which a large element beside it must not hide.
        (
            "noise",
            net(
                &[scalar("k", 1e5), f32s("big", &[8, 1], &[1e9; 8])],
                &[
                    node("MatMul", &["a", "w"], "b"),
                    node("MatMul", &["w", "w"], "ww"),
                    node("MatMul", &["x", "ww"], "d"),
                    node("Sub", &["b", "d"], "e"),
                    node("Mul", &["e", "k"], "f"),
                    node("Max", &["f", "f"], "g"),
                    node("Add", &["g", "big"], "h"),
                    node("Sub", &["h", "big"], "y"),
                ],
            ),
            "say",
        ),
        // Nothing but rounding: no comparison can tell, so each kernel is judged by itself.
        (
            "lost",
            net(
                &[scalar("k", 1e5)],
                &[
                    node("MatMul", &["a", "w"], "b"),
                    node("MatMul", &["w", "w"], "ww"),
                    node("MatMul", &["x", "ww"], "d"),
                    node("Sub", &["b", "d"], "e"),
                    node("Mul", &["e", "k"], "y"),
                ],
            ),
            "launches agree with their kernels' specs",
        ),
    ];
    for (name, bytes, says) in cases {
        std::fs::write(b.path(&format!("{name}.onnx")), bytes).unwrap();
        let (code, out, err) = b.run(&format!("verify {name}.onnx --target sm_90a"));
        assert_eq!(code, 4, "{name}: {out}{err}");
        assert!(out.contains("inconclusive") && out.contains(says), "{name}: {out}{err}");
    }
    let (code, out, _) = b.run("verify dead.onnx --target sm_90a --json");
    let v: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, v["verdict"].as_str(), v["agree"].as_bool()), (4, Some("inconclusive"), Some(false)));
    let census = &v["targets"][0]["outputs"][0]["census"];
    assert_eq!((census["distinct"].as_u64(), census["finite_share"].as_f64(), census["largest"].as_f64()), (Some(1), Some(1.0), Some(0.0)));
}

/// The difference of two near products keeps three digits or four: what is lost is rounding, and shown to be.
#[test]
fn rounding_is_shown_to_explain() {
    let b = Bench::new();
    let w = noise(1024, 1.5);
    let near: Vec<f32> = w.iter().zip(noise(1024, 3e-4)).map(|(w, d)| w + d.abs()).collect();
    let m = net(
        &[f32s("v", &[32, 32], &near)],
        &[node("MatMul", &["x", "v"], "b"), node("Sub", &["a", "b"], "c"), node("Exp", &["c"], "d"), node("Log", &["d"], "y")],
    );
    std::fs::write(b.path("near.onnx"), m).unwrap();
    for target in ["trn2", "sm_90a"] {
        let (code, out, err) = b.run(&format!("verify near.onnx --target {target}"));
        assert_eq!(code, 0, "{out}{err}");
        assert!(out.contains("agrees within rounding") && out.contains("spreads of rounding"), "{out}");
        // A tolerance of the caller's is final.
        let (code, out, _) = b.run(&format!("verify near.onnx --target {target} --rtol 1e-4"));
        assert_eq!(code, 3, "{out}");
    }
}

#[test]
fn expected_outputs_judge_the_reference_too() {
    let b = Bench::new();
    let y = [0., 2., 0., 4., 0., 6.];
    npy::write(&b.path("y.npy"), &Tensor::f32(&[2, 3], y.to_vec())).unwrap();
    npy::write(&b.path("off.npy"), &Tensor::f32(&[2, 3], y.map(|v| v * 1.01).to_vec())).unwrap();
    let line = "verify m.mlir --target trn2 --input x=x.npy --expect";
    for (tail, code, says) in [
        ("y/0=y.npy", 0, "expect: trn2-sim agrees"),
        ("y/0=off.npy", 3, "first difference: expect: interp"),
        ("y/0=off.npy --rtol 0.02", 0, "every stage agrees"),
        ("y/0=off.npy --atol 0.001", 3, "DIFFERS"),
        ("y/1=y.npy", 1, "did you mean \"y/0\"?"),
        ("y/0=y.npy --atol -1", 2, "a number from 0 up"),
    ] {
        let (got, out, err) = b.run(&format!("{line} {tail}"));
        assert_eq!(got, code, "{tail}: {out}{err}");
        assert!(out.contains(says) || err.contains(says), "{tail}: {out}{err}");
    }
}

/// What is verified was written and read: without a place to write, there is nothing to verify.
#[test]
fn the_artifact_is_what_is_verified() {
    let b = Bench::new();
    let mut c = b.command();
    let out = c.env("TMPDIR", b.path("nowhere")).args(["verify", "m.mlir", "--target", "trn2", "--input", "x=x.npy"]).output().unwrap();
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(1) && err.contains("E0702") && err.contains("temporary"), "{err}");
}
