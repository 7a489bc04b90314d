//! Structurally damaged models, modules, checkpoints and artifacts through everything that Tahoma does with them: import, specialise,
//! interpret, compile for both targets, write, load and run. Each case is a number: its bytes come from it and from the ONNX suite.
//!
//! ```text
//! what must hold     no panic, no internal error (E0901), no artifact that is written and then refused, no case over 10 s of CPU
//! an ordinary test   CASES from a fixed seed
//! a long run         cargo xtask fuzz models CASES SEED: this test, optimised and with arithmetic checked, in a process of its own for
//!                    a thousand cases at a time, with bounded memory, so that an abort or a stack that runs out costs one case and
//!                    is told; at the end, how many cases of each kind came how far
//! ```

mod artifact;
mod draw;
mod json;
pub(crate) mod lies;
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

/// How many cases of a kind came to a stage.
static REACHED: Mutex<BTreeMap<(&str, &str), u64>> = Mutex::new(BTreeMap::new());

fn reached(kind: &'static str, stage: &'static str) {
    *REACHED.lock().unwrap().entry((kind, stage)).or_default() += 1;
}

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

pub(crate) fn inputs(p: &Program) -> Vec<(String, Tensor)> {
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
    reached("onnx", "imported");
    let known = interp::inputs_of(&imported.program).iter().all(|(_, t)| t.shape.is_static());
    let quick = known && quick(&imported.program);
    let given = if quick { inputs(&imported.program) } else { vec![] };
    if quick {
        match interp::evaluate(&imported, &given) {
            Ok(_) => reached("onnx", "interpreted"),
            Err(d) => refused(&d.into()),
        }
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
    reached("onnx", "compiled");
    if quick {
        let opened = device::open(device).unwrap_or_else(|d| panic!("{d}"));
        let ran = Runner::new(loaded, opened).and_then(|mut r| r.run(&given));
        match ran {
            Ok(_) => reached("onnx", "ran"),
            Err(d) => {
                assert!(!matches!(d.code.as_str(), "E0603" | "E0605"), "what was compiled does not run: {d}");
                refused(&d.into());
            }
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
    let text = words(&text, d);
    match run_text(&text, "m.mlir", &[], &Options::default()) {
        Ok(_) => reached("module", "read"),
        Err(e) => return refused(&e),
    }
    match run_text(&text, "m.mlir", &["specialise".into(), "eqsat".into()], &Options::default()) {
        Ok(_) => reached("module", "searched"),
        Err(e) => refused(&e),
    }
}

/// A text with some of its words and numbers changed, left out, doubled or exchanged.
fn words(text: &str, d: &mut Draw) -> String {
    let mut words: Vec<String> = text.split_inclusive(|c: char| !c.is_alphanumeric() && c != '_').map(String::from).collect();
    let all = words.clone();
    let number = |w: &str| w.trim_end_matches(|c: char| !c.is_alphanumeric()).parse::<i64>().ok();
    let other = |d: &mut Draw, w: &mut String| {
        let tail: String = w.chars().last().filter(|c| !c.is_alphanumeric()).into_iter().collect();
        *w = match number(w) {
            Some(n) => d.int(n).to_string() + &tail,
            None => d.of(&all).cloned().unwrap_or_default(),
        };
    };
    for _ in 0..1 + d.below(2) {
        // A number more often than what is around it: the text stays one.
        let numbers: Vec<usize> = (0..words.len()).filter(|&i| number(&words[i]).is_some()).collect();
        match d.of(&numbers).filter(|_| !d.chance(3)) {
            Some(&i) => other(d, &mut words[i]),
            None => d.list(&mut words, other),
        }
    }
    words.concat()
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
        Ok(m) => {
            reached("checkpoint", "imported");
            if quick(&m.program) {
                match interp::evaluate(&m, &inputs(&m.program)) {
                    Ok(_) => reached("checkpoint", "interpreted"),
                    Err(d) => refused(&d.into()),
                }
            }
        }
        Err(d) => refused(&d),
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
        let (found, case) = (format!("{key}\n    {what}"), *now.lock().unwrap());
        // At once: a later case may end the process.
        noted.lock().unwrap().entry(found).or_insert_with_key(|found| {
            eprintln!("case {case}: {found}");
            case
        });
    }));
    for case in from..from + count {
        *at.lock().unwrap() = case;
        tell(case);
        let start = cpu();
        let mut d = Draw::new(case);
        let kind = ["onnx", "onnx", "onnx", "onnx", "onnx", "module", "checkpoint", "artifact"][(case % 8) as usize];
        reached(kind, "cases");
        let _ = catch_unwind(AssertUnwindSafe(|| match kind {
            "module" => mlir_case(&mut d),
            "checkpoint" => checkpoint_case(dir.path(), &mut d),
            "artifact" => artifact::case(dir.path(), &mut d),
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
    let reached: BTreeMap<_, _> = REACHED.lock().unwrap().clone();
    reached.iter().for_each(|((kind, stage), n)| println!("reached {kind} {stage} {n}"));
    let all: Vec<String> = found.iter().map(|(what, case)| format!("case {case}: {what}")).collect();
    // What damages everything at the door tests the door only.
    let deep = [("onnx", "compiled"), ("onnx", "ran"), ("module", "searched"), ("checkpoint", "imported"), ("artifact", "ran")];
    assert!(count < CASES || deep.iter().all(|at| reached.contains_key(at)), "{reached:?}");
    assert!(all.is_empty(), "{} kinds:\n{}", all.len(), all.join("\n"));
}
