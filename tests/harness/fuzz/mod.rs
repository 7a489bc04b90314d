//! Structurally damaged models, modules, checkpoints and artifacts through everything that Tahoma does with them: import, specialise,
//! interpret, compile for both targets, write, load and run. Each case is a number: its bytes come from it and from the ONNX suite.
//!
//! ```text
//! what must hold     no panic, no internal error (E0901), no artifact that is written and then refused, no case over 10 s of CPU
//! an ordinary test   CASES of each kind from a fixed seed
//! a long run         cargo xtask fuzz models CASES SEED: this test in a process of its own for some hundred cases at a time, with
//!                    bounded memory, so that an abort or a stack that runs out costs one case and is told
//! ```

mod draw;
mod json;
mod onnx;

use draw::Draw;
use prost::Message;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;
use tahoma::steps::{Options, run_text};
use tahoma::{Artifact, Compiler, Diagnostics, Runner, Tensor, device, interp, print_program};
use tahoma_core::{DType, Program, TensorType};
use tahoma_frontend::proto::ModelProto;

/// Cases of an ordinary test.
const CASES: u64 = 300;
/// CPU time of one case, all threads together.
const MOST_CPU: Duration = Duration::from_secs(10);
/// Models that seed the cases are no larger.
const SEED_BYTES: u64 = 8_000;
/// Values larger than this are not computed, only compiled: the interpreter may take its time for what a model rightly asks.
const MOST_ELEMENTS: u64 = 5_000;

/// What went wrong, by place, and the first case that showed it.
type Found = BTreeMap<String, u64>;

struct Seeds {
    models: Vec<Vec<u8>>,
    words: onnx::Words,
}

static SEEDS: LazyLock<Seeds> = LazyLock::new(|| {
    let mut models = vec![];
    let mut todo = vec![tahoma_tests::root().join(".tahoma/onnx-suite")];
    while let Some(dir) = todo.pop() {
        let mut all: Vec<PathBuf> = std::fs::read_dir(&dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
        all.sort();
        for p in all {
            if p.is_dir() {
                todo.push(p);
            } else if p.extension().is_some_and(|e| e == "onnx") && p.metadata().is_ok_and(|m| m.len() <= SEED_BYTES) {
                models.extend(std::fs::read(p).ok());
            }
        }
    }
    assert!(models.len() > 1000, "the ONNX suite seeds the cases: run `cargo xtask setup` first");
    let mut operators: Vec<String> = models
        .iter()
        .filter_map(|m| ModelProto::decode(&m[..]).ok()?.graph)
        .flat_map(|g| g.node.into_iter().map(|n| n.op_type().to_string()))
        .collect();
    operators.sort();
    operators.dedup();
    Seeds { models, words: onnx::Words { operators } }
});

/// A coded refusal is an answer; an internal error is not.
fn refused(d: &Diagnostics) {
    let ours = d.0.iter().find(|d| d.code == "E0901" || tahoma_core::diag::code(&d.code).is_none());
    assert!(!d.0.is_empty() && ours.is_none(), "{d}");
}

fn small(t: &TensorType) -> bool {
    t.shape.elements().is_some_and(|n| n <= MOST_ELEMENTS)
}

/// Whether evaluating stays within milliseconds: small values, and no loop, which may run as often as its model says.
fn quick(p: &Program) -> bool {
    let all = || p.functions.values();
    let sized = all().flat_map(|g| &g.types).all(|t| !t.shape.is_static() || small(t));
    sized && all().flat_map(|g| &g.nodes).all(|n| n.op.name != "loop") && interp::inputs_of(p).iter().all(|(_, t)| small(t))
}

fn inputs(p: &Program) -> Vec<(String, Tensor)> {
    let one = |(n, t): (&str, &TensorType)| {
        let shape = t.shape.to_static().unwrap_or_default();
        let value = if t.dtype.is_float() { 0.5 } else { f64::from(u8::from(t.dtype == DType::Bool)) };
        (n.to_string(), Tensor::full(t.dtype, &shape, value))
    };
    interp::inputs_of(p).into_iter().map(one).collect()
}

/// One model file through everything.
fn model(path: &Path, target: &str, device: &str) {
    let compiler = Compiler::new(path).target(target);
    let imported = match compiler.import() {
        Ok(m) => m,
        Err(d) => return refused(&d),
    };
    let known = interp::inputs_of(&imported.program).iter().all(|(_, t)| t.shape.is_static());
    let quick = known && quick(&imported.program);
    let given = if quick { inputs(&imported.program) } else { vec![] };
    if quick && let Err(d) = interp::evaluate(&imported, &given) {
        refused(&d.into());
    }
    let compiled = match compiler.compile() {
        Ok(c) => c,
        Err(d) => return refused(&d),
    };
    let out = path.with_extension("out");
    if let Err(d) = compiled.write(&out, true) {
        return refused(&d.into());
    }
    let loaded = Artifact::load(&out, None).unwrap_or_else(|d| panic!("an artifact that was written is refused: {d}"));
    if quick {
        let opened = device::open(device).unwrap_or_else(|d| panic!("{d}"));
        let ran = Runner::new(loaded, opened).and_then(|mut r| r.run(&given));
        if let Err(d) = ran {
            assert!(!matches!(d.code.as_str(), "E0603" | "E0605"), "what was compiled does not run: {d}");
            refused(&d.into());
        }
    }
}

fn onnx_case(dir: &Path, d: &mut Draw) {
    let Some(bytes) = d.of(&SEEDS.models) else { return };
    let Ok(mut m) = ModelProto::decode(&bytes[..]) else { return };
    onnx::damage(&mut m, &SEEDS.words, d);
    let path = dir.join("model.onnx");
    std::fs::write(&path, m.encode_to_vec()).expect("a folder of ours");
    let (target, device) = if d.chance(2) { ("trn2", "trn2-sim") } else { ("sm_90a", "ptx-emu") };
    model(&path, target, device);
}

/// A module as Tahoma prints it, with words and numbers changed.
fn mlir_case(d: &mut Draw) {
    let Some(bytes) = d.of(&SEEDS.models) else { return };
    let Ok(m) = tahoma_frontend::import_onnx_bytes("m.onnx", bytes.clone().into(), &Default::default()) else { return };
    let Ok(text) = print_program(&m.program) else { return };
    let mut words: Vec<String> = text.split_inclusive(|c: char| !c.is_alphanumeric() && c != '_').map(String::from).collect();
    let all = words.clone();
    for _ in 0..1 + d.below(3) {
        d.list(&mut words, |d, w| {
            let tail: String = w.chars().last().filter(|c| !c.is_alphanumeric()).into_iter().collect();
            let number = w.trim_end_matches(|c: char| !c.is_alphanumeric()).parse::<i64>().ok();
            *w = match number {
                Some(n) => d.int(n).to_string() + &tail,
                None => d.of(&all).cloned().unwrap_or_default(),
            };
        });
    }
    let steps = [["specialise".to_string(), "eqsat".into()].to_vec(), vec![]][d.below(2)].clone();
    if let Err(e) = run_text(&words.concat(), "m.mlir", &steps, &Options::default()) {
        refused(&e);
    }
}

/// A checkpoint with its configuration or its header changed.
fn checkpoint_case(dir: &Path, d: &mut Draw) {
    let from = tahoma_tests::root().join("compiler/frontend/tests/fixtures/bert");
    let read = |name: &str| std::fs::read(from.join(name)).expect("the fixture");
    let (mut config, mut weights) = (read("config.json"), read("model.safetensors"));
    if d.chance(2) {
        let mut v = serde_json::from_slice(&config).expect("JSON");
        json::damage(&mut v, d);
        config = v.to_string().into_bytes();
    } else {
        let length = u64::from_le_bytes(weights[..8].try_into().expect("eight bytes")) as usize;
        let mut v = serde_json::from_slice(&weights[8..8 + length]).expect("JSON");
        json::damage(&mut v, d);
        let header = v.to_string().into_bytes();
        let stated = if d.chance(8) { d.int(header.len() as i64) as u64 } else { header.len() as u64 };
        weights = [&stated.to_le_bytes()[..], &header, &weights[8 + length..]].concat();
    }
    let folder = dir.join("checkpoint");
    std::fs::create_dir_all(&folder).expect("a folder of ours");
    std::fs::write(folder.join("config.json"), config).expect("a file");
    std::fs::write(folder.join("model.safetensors"), weights).expect("a file");
    let c = Compiler::new(&folder).target("trn2").shape("input_ids=1x4");
    match c.import() {
        Ok(m) if quick(&m.program) => {
            if let Err(d) = interp::evaluate(&m, &inputs(&m.program)) {
                refused(&d.into());
            }
        }
        Ok(_) => {}
        Err(d) => refused(&d),
    }
}

/// An artifact of a small model whose manifest says something else: it is refused, or it runs.
fn artifact_case(dir: &Path, d: &mut Draw) {
    let (out, device) = (dir.join("base.out"), "trn2-sim");
    if !out.join("manifest.json").is_file() {
        let path = dir.join("base.onnx");
        for bytes in SEEDS.models.iter().skip(400) {
            std::fs::write(&path, bytes).expect("a file");
            let Ok(c) = Compiler::new(&path).target("trn2").compile() else { continue };
            if !c.manifest.kernels.is_empty() && !c.manifest.load.is_empty() && c.write(&out, true).is_ok() {
                break;
            }
        }
    }
    let text = std::fs::read_to_string(out.join("manifest.json")).expect("a manifest");
    let mut v = serde_json::from_str(&text).expect("JSON");
    json::damage(&mut v, d);
    let bad = dir.join("bad.out");
    let _ = std::fs::remove_dir_all(&bad);
    std::fs::create_dir_all(bad.join("kernels")).expect("a folder");
    for e in std::fs::read_dir(out.join("kernels")).expect("kernels").flatten() {
        std::fs::copy(e.path(), bad.join("kernels").join(e.file_name())).expect("a copy");
    }
    std::fs::write(bad.join("manifest.json"), v.to_string()).expect("a file");
    let opened = device::open(device).unwrap_or_else(|d| panic!("{d}"));
    let ran = Artifact::load_edited(&bad, Some(dir)).and_then(|a| Runner::new(a, opened)).and_then(|mut r| {
        let m = r.manifest().clone();
        let types: Vec<_> = m.inputs.iter().map(|p| (p.name.clone(), m.buffers[p.buffer].ty.clone())).collect();
        if types.iter().any(|(_, t)| !small(t)) {
            return Ok(());
        }
        let given: Vec<_> =
            types.into_iter().map(|(n, t)| (n, Tensor::full(t.dtype, &t.shape.to_static().unwrap_or_default(), 0.0))).collect();
        r.run(&given).map(|_| ())
    });
    if let Err(d) = ran {
        refused(&d.into());
    }
}

/// CPU time of this process.
fn cpu() -> Duration {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

fn cases(from: u64, count: u64, tell: &dyn Fn(u64)) -> Found {
    let dir = tempfile::tempdir().expect("a folder");
    let found = Arc::new(Mutex::new(Found::new()));
    let (noted, at) = (found.clone(), Arc::new(Mutex::new(0u64)));
    let now = at.clone();
    std::panic::set_hook(Box::new(move |p| {
        let text = p.payload().downcast_ref::<String>().cloned();
        let text = text.or_else(|| p.payload().downcast_ref::<&str>().map(|s| s.to_string())).unwrap_or_default();
        let place = p.location().map(|l| format!("{}:{}", l.file(), l.line())).unwrap_or_default();
        let what: String = text.chars().take(300).collect();
        // Panics of ours are told by what they say, those of Rust by their place.
        let key = if place.contains("harness/fuzz") { what.chars().filter(|c| !c.is_ascii_digit()).take(120).collect() } else { place };
        noted.lock().unwrap().entry(format!("{key}\n    {what}")).or_insert(*now.lock().unwrap());
    }));
    for case in from..from + count {
        *at.lock().unwrap() = case;
        tell(case);
        let start = cpu();
        let mut d = Draw::new(case);
        let _ = catch_unwind(AssertUnwindSafe(|| match case % 8 {
            5 => mlir_case(&mut d),
            6 => checkpoint_case(dir.path(), &mut d),
            7 => artifact_case(dir.path(), &mut d),
            _ => onnx_case(dir.path(), &mut d),
        }));
        let took = cpu() - start;
        if took > MOST_CPU {
            found.lock().unwrap().insert(format!("case {case} took {:.1} s of CPU", took.as_secs_f64()), case);
        }
    }
    let _ = std::panic::take_hook();
    let found = found.lock().unwrap();
    found.clone()
}

/// `TAHOMA_FUZZ=FROM:COUNT:FILE` runs other cases and writes the number of each into FILE before it begins.
#[test]
fn damaged_models_and_artifacts_are_refused_or_run() {
    let asked = std::env::var("TAHOMA_FUZZ").unwrap_or_default();
    let mut parts = asked.splitn(3, ':');
    let mut number = |or: u64| parts.next().and_then(|p| p.parse().ok()).unwrap_or(or);
    let (from, count) = (number(1), number(CASES));
    let file = parts.next().map(PathBuf::from);
    let found = cases(from, count, &|case| {
        if let Some(f) = &file {
            std::fs::write(f, case.to_string()).expect("the file of the case");
        }
    });
    let all: Vec<String> = found.iter().map(|(what, case)| format!("case {case}: {what}")).collect();
    assert!(all.is_empty(), "{} kinds:\n{}", all.len(), all.join("\n"));
}
