//! The program on a small kit, against the fake driver: what is right passes, what is wrong is named, and costs nothing else.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use tahoma_core::artifact::{MANIFEST, MANIFEST_HASH, Manifest};
use tahoma_core::{DType, Tensor};
use tahoma_fake_cuda::Fake;
use tahoma_fake_cuda::plan::{self, Plan, WEIGHTS};
use tahoma_kit::format::{Case, Expected, FILE, Input, Kind, Kit, SCHEMA, Value};
use tahoma_runtime::artifact::manifest_hash;
use tahoma_runtime::{Artifact, Runner, device, npy, sha256};

const TARGETS: [&str; 2] = ["sm_80", "sm_90a"];

/// What a case's kernels are turned into.
type Change<'a> = &'a dyn Fn(&mut Manifest, &mut [String]);

/// Writes a case: a plan for each target, inputs, and what the interpreter makes of them, plus `off`.
fn case(kit: &Path, name: &str, kind: Kind, plan: &dyn Fn(&str) -> (Manifest, Vec<String>), change: Change, off: f32) -> Case {
    let base = format!("cases/{name}");
    let mut artifacts = BTreeMap::new();
    for target in TARGETS {
        let (mut m, mut text) = plan(target);
        change(&mut m, &mut text);
        let folder = kit.join(&base).join(target);
        std::fs::create_dir_all(folder.join("kernels")).unwrap();
        for (k, t) in m.kernels.iter_mut().zip(&text) {
            k.sha256 = sha256(t.as_bytes());
            std::fs::write(folder.join(&k.file), t).unwrap();
        }
        std::fs::write(folder.join("w.bin"), WEIGHTS).unwrap();
        let manifest = serde_json::to_string(&m).unwrap();
        std::fs::write(folder.join(MANIFEST), &manifest).unwrap();
        std::fs::write(folder.join(MANIFEST_HASH), manifest_hash(manifest.as_bytes())).unwrap();
        artifacts.insert(target.to_string(), format!("{base}/{target}"));
    }
    let artifact = Artifact::load(&kit.join(&artifacts["sm_80"]), None).unwrap();
    let m = artifact.manifest.clone();
    let mut inputs = vec![];
    let mut tensors = vec![];
    for (i, p) in m.inputs.iter().enumerate() {
        let ty = &m.buffers[p.buffer].ty;
        let shape = ty.shape.to_static().unwrap();
        let value = if ty.dtype == DType::Bool {
            let path = format!("{base}/in{i}.npy");
            npy::write(&kit.join(&path), &Tensor::bool(&[], vec![true])).unwrap();
            Value::File { path, dtype: DType::Bool }
        } else {
            Value::Drawn { dtype: ty.dtype, shape, seed: i as u64, scale: 2.0 }
        };
        let input = Input { name: p.name.clone(), value };
        tensors.push((p.name.clone(), tahoma_kit::worker::value(kit, &input).unwrap()));
        inputs.push(input);
    }
    let (made, _) = Runner::new(artifact, device::open("interp").unwrap()).unwrap().run(&tensors).unwrap();
    let mut outputs = vec![];
    for (i, (name, t)) in made.into_iter().enumerate() {
        let path = format!("{base}/out{i}.npy");
        let v: Vec<f32> = t.to_f64s().iter().map(|x| *x as f32 + off).collect();
        npy::write(&kit.join(&path), &Tensor::f32(t.shape(), v)).unwrap();
        outputs.push(Expected { name, path, dtype: DType::F32, atol: 1e-6, rtol: 1e-6 });
    }
    Case { name: name.into(), kind, inputs, outputs, weights: None, artifacts, cubins: false }
}

fn finish(dir: &Path, cases: Vec<Case>) {
    let files = BTreeMap::from([("w".to_string(), sha256(b"whole"))]);
    std::fs::write(dir.join("w"), "whole").unwrap();
    let targets = TARGETS.map(str::to_string).to_vec();
    let kit = Kit { schema: SCHEMA, producer: "test".into(), targets, cases, left_out: vec!["a model".into()], files };
    std::fs::write(dir.join(FILE), serde_json::to_string(&kit).unwrap()).unwrap();
}

fn straight(target: &str) -> (Manifest, Vec<String>) {
    plan::straight(target, 7)
}

fn branches(target: &str) -> (Manifest, Vec<String>) {
    let mut p = Plan::new(target);
    [[2, 0, 0, 1], [1, 0, 2, 1], [0, 0, 3, 1], [2, 0, 4, 3], [2, 1, 0, 1], [2, 2, 0, 1]].into_iter().for_each(|s| p.step(s));
    p.finish()
}

/// The kernel for 70 elements writes far outside of its memory.
fn wild(_: &mut Manifest, text: &mut [String]) {
    text[1] = text[1].replace("mad.wide.u32 %rd6, %r1, 4, %rd3", "mad.wide.u32 %rd6, %r1, 4000000, %rd3");
}

/// Kernels under names of their own.
fn renamed(m: &mut Manifest, text: &mut [String]) {
    for (k, t) in m.kernels.iter_mut().zip(text) {
        *t = t.replace(&k.name, &format!("other_{}", k.name));
        k.name = format!("other_{}", k.name);
    }
}

fn same(_: &mut Manifest, _: &mut [String]) {}

/// Runs the program with the fake driver as `libcuda.so.1`, and nothing else of this machine in PATH.
fn tahoma_kit(dir: &Path, fake: Option<&str>, args: &[&str]) -> Output {
    let lib = dir.join("lib");
    std::fs::create_dir_all(&lib).unwrap();
    if fake.is_some() && !lib.join("libcuda.so.1").exists() {
        std::fs::copy(Fake::path(), lib.join("libcuda.so.1")).unwrap();
    }
    let mut c = Command::new(env!("CARGO_BIN_EXE_tahoma-kit"));
    c.args(args).current_dir(dir).env("PATH", "/nowhere").env("FAKE_CUDA", fake.unwrap_or_default());
    if fake.is_some() {
        c.env("LD_LIBRARY_PATH", &lib);
    }
    c.output().unwrap()
}

fn results(dir: &Path) -> (serde_json::Value, String) {
    let json = std::fs::read(dir.join("results/results.json")).unwrap();
    (serde_json::from_slice(&json).unwrap(), std::fs::read_to_string(dir.join("results/results.md")).unwrap())
}

#[test]
fn what_is_right_passes_on_the_target_of_the_card() {
    let dir = tempfile::tempdir().unwrap();
    let cases =
        vec![case(dir.path(), "add", Kind::Form, &straight, &same, 0.0), case(dir.path(), "branch", Kind::Model, &branches, &same, 0.0)];
    finish(dir.path(), cases);
    for (capability, target) in [("8.9", "sm_80"), ("9.0", "sm_90a"), ("12.0", "sm_80")] {
        let o = tahoma_kit(dir.path(), Some(&format!("capability={capability}")), &["run", "--quick"]);
        let said = String::from_utf8_lossy(&o.stdout) + String::from_utf8_lossy(&o.stderr);
        assert_eq!(o.status.code(), Some(0), "{said}");
        let (json, table) = results(dir.path());
        assert_eq!(json["target"], target);
        assert_eq!((&json["totals"]["cases"], &json["totals"]["pass"]), (&2.into(), &2.into()));
        assert_eq!(
            (&json["cases"][0]["name"], &json["cases"][0]["launches"], &json["cases"][0]["runs"]),
            (&"add".into(), &7.into(), &1.into())
        );
        assert!(json["cases"][0]["device_us"][0].as_f64().unwrap() > 0.0 && json["cases"][0]["kernels"].as_array().unwrap().len() == 3);
        // Tools that are not there are named, and do not fail.
        for tool in ["memcheck", "racecheck"] {
            assert!(table.contains(&format!("compute-sanitizer --tool {tool}: skipped: compute-sanitizer is not in PATH")), "{table}");
        }
        assert!(table.contains("torch: skipped: cannot start python3") && table.contains("not in this kit: a model"), "{table}");
        assert!(table.contains("Fake GPU (PTX emulator)"), "{table}");
        // When, and by which command.
        assert!(table.contains("\n20") && table.contains("tahoma-kit run --quick`\n"), "{table}");
    }
}

#[test]
fn what_is_wrong_is_named_and_costs_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let p = dir.path();
    let cases = vec![
        case(p, "a-good", Kind::Op, &straight, &same, 0.0),
        case(p, "b-wrong", Kind::Op, &straight, &same, 0.25),
        case(p, "c-wild", Kind::Op, &straight, &wild, 0.0),
        case(p, "d-good", Kind::Op, &straight, &same, 0.0),
        case(p, "e-crash", Kind::Op, &straight, &renamed, 0.0),
        case(p, "f-good", Kind::Op, &branches, &same, 0.0),
    ];
    finish(p, cases);
    let o = tahoma_kit(p, Some("crash=other_add1"), &["run", "--quick", "--no-tools"]);
    assert_eq!(o.status.code(), Some(1), "{}", String::from_utf8_lossy(&o.stderr));
    let (json, table) = results(p);
    let of = |i: usize, key: &str| json["cases"][i][key].as_str().unwrap_or_default().to_string();
    let statuses: Vec<String> = (0..6).map(|i| of(i, "status")).collect();
    assert_eq!(statuses, ["pass", "differs", "error", "pass", "error", "pass"], "{table}");
    assert!(of(1, "detail").contains("elements differ"), "{}", of(1, "detail"));
    assert!(of(2, "detail").contains("CUDA error 700") && of(2, "detail").contains("E0603"), "{}", of(2, "detail"));
    assert!(of(4, "detail").contains("its process ended: signal") && of(4, "detail").contains("as asked for"), "{}", of(4, "detail"));
    assert_eq!(json["totals"]["pass"], 3);
    assert!(table.contains("## What failed") && table.contains("CUDA_ERROR_ILLEGAL_ADDRESS"));
    // A wrong byte on the way back is found too.
    let o = tahoma_kit(p, Some("corrupt=1"), &["run", "--quick", "--no-tools", "--only", "a-good"]);
    assert_eq!((o.status.code(), results(p).0["cases"][0]["status"].as_str()), (Some(1), Some("differs")));
    // Too little time: nothing passes silently.
    let o = tahoma_kit(p, Some(""), &["run", "--quick", "--no-tools", "--seconds", "0"]);
    assert_eq!((o.status.code(), &results(p).0["totals"]["late"]), (Some(1), &6.into()));
}

#[test]
fn where_nothing_can_be_run_the_program_says_why() {
    let dir = tempfile::tempdir().unwrap();
    finish(dir.path(), vec![case(dir.path(), "add", Kind::Form, &straight, &same, 0.0)]);
    let told = |fake: Option<&str>, args: &[&str]| {
        let o = tahoma_kit(dir.path(), fake, args);
        assert_eq!(o.status.code(), Some(2));
        String::from_utf8_lossy(&o.stderr).into_owned()
    };
    assert!(told(Some("devices=0"), &["run"]).contains("CUDA_ERROR_NO_DEVICE"));
    assert!(told(Some("capability=7.5"), &["run"]).contains("the kit has nothing for Fake GPU"));
    assert!(told(Some(""), &["run", "--only", "xyz"]).contains("no case has"));
    assert!(told(Some(""), &["run", "nowhere"]).contains("E0101"));
    assert!(told(None, &["frobnicate"]).contains("Usage"));
    std::fs::write(dir.path().join("w"), "damaged").unwrap();
    assert!(told(Some(""), &["run"]).contains("is not the file that the kit was made with"));
}

#[cfg(unix)]
#[test]
fn a_reader_that_has_gone_is_no_error_and_a_full_disk_is() {
    let dir = tempfile::tempdir().unwrap();
    finish(dir.path(), vec![case(dir.path(), "add", Kind::Form, &straight, &same, 0.0)]);
    let start = |args: &[&str], out: std::process::Stdio| {
        let o = Command::new(env!("CARGO_BIN_EXE_tahoma-kit")).args(args).current_dir(dir.path()).stdout(out).output().unwrap();
        (o.status.code(), String::from_utf8_lossy(&o.stderr).into_owned())
    };
    for args in [["list"].as_slice(), &["--help"], &["list", "--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(start(args, writer.into()), (Some(0), String::new()), "{args:?}");
    }
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let (code, said) = start(&["list"], full.into());
    assert!(code == Some(2) && said.contains("E0702"), "{said}");
    // Nobody to tell.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = Command::new(env!("CARGO_BIN_EXE_tahoma-kit")).args(["list", "nowhere"]).stderr(writer).status().unwrap();
    assert_eq!(status.code(), Some(2));
}
