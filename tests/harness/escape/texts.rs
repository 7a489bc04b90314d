//! Every text that Tahoma emits for the conformance suites, the networks and the real models, on every target, each read by a parser that
//! others wrote (`parsers`), which must find kernels and nothing else.
//!
//! ```text
//! an ordinary test   the sources of tests/texts.tsv, which have every kind of statement that all have
//! all of it          TAHOMA_TEXTS=all cargo test --release -p tahoma-tests --test harness texts -- --nocapture
//! the file anew      the same with BLESS=1
//! ```

use super::parsers;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tahoma::{Compiled, Compiler, Diagnostics, Tensor, interp, model, print_program};
use tahoma_frontend::suite::{Given, Port, name_in, ports, read};
use tahoma_nets::{NETWORKS, Size};
use tahoma_tests::kit::weights_as_inputs;
use tahoma_tests::{minilm, oracle, root};

const TARGETS: &[&str] = &["trn2", "sm_90a", "sm_100a"];
/// Sources that an ordinary test compiles have at least this share of the kinds of statement in the file.
const SHARE: f64 = 0.95;
/// Texts of a source that an ordinary test compiles, in bytes.
const MOST_BYTES: usize = 600_000;
const HEAD: &str =
    "# Sources whose texts an ordinary test gives to the parsers, then every kind of statement that any text has, by how many sources have
# it. Written by tests/harness/escape/texts.rs.
";

fn file() -> PathBuf {
    root().join("tests/texts.tsv")
}

/// `onnx-suite/node/test_abs`, `network/resnet50`, `model/ocr-det`, `program/branch`.
fn sources() -> Vec<String> {
    let folders = |at: &Path| -> Vec<String> {
        let mut all: Vec<String> = std::fs::read_dir(at)
            .unwrap_or_else(|e| panic!("{}: {e}: run `cargo xtask setup` first", at.display()))
            .flatten()
            .filter(|e| e.path().is_dir())
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect();
        all.sort();
        all
    };
    let cache = root().join(".tahoma");
    let mut out = vec![];
    for suite in ["onnx-suite", "onnxruntime-suite"] {
        for kind in folders(&cache.join(suite)) {
            let cases = folders(&cache.join(suite).join(&kind));
            out.extend(cases.into_iter().map(|c| format!("{suite}/{kind}/{c}")).filter(|c| cache.join(c).join("model.onnx").is_file()));
        }
    }
    out.extend(folders(&cache.join("models")).into_iter().map(|m| format!("model/{m}")));
    out.extend(NETWORKS.iter().map(|n| format!("network/{}", n.name)));
    out.extend(["program/branch", "program/loops", "program/image"].map(String::from));
    out
}

/// Inputs and strings of a set of a case.
fn given(set: &Path, takes: &[Port]) -> Result<(Vec<(String, Tensor)>, model::Request), Diagnostics> {
    let files: Vec<PathBuf> = (0..).map(|i| set.join(format!("input_{i}.pb"))).take_while(|f| f.is_file()).collect();
    let inside: Option<Vec<&Port>> = files.iter().map(|f| name_in(f).and_then(|n| takes.iter().find(|p| p.name == n))).collect();
    let (mut inputs, mut request) = (vec![], model::Request::default());
    for (f, port) in files.iter().zip(inside.unwrap_or_else(|| takes.iter().collect())) {
        for (name, given) in read(f, port)? {
            match given {
                Given::Tensor(t) => inputs.push((name, t)),
                Given::Text(t) => drop(request.texts.insert(name, t)),
            }
        }
    }
    Ok((inputs, request))
}

/// As the tests that run it compile it.
fn compiled(source: &str, target: &str, dir: &Path) -> Result<Compiled, Diagnostics> {
    let with = |path: &Path, inputs: &[(String, Tensor)], request: &model::Request| {
        let p = interp::prepare(path, request, inputs)?;
        Compiler::new(path).target(target).request(&p.request).shapes_of(&p.inputs).compile()
    };
    let of = |p: &tahoma_core::Program| {
        let path = dir.join(format!("{}.{target}.mlir", source.replace('/', "-")));
        std::fs::write(&path, print_program(p)?).expect("a file");
        Compiler::new(path).target(target).compile()
    };
    match source.split_once('/').expect("a kind and a name") {
        ("network", name) => of(&weights_as_inputs((tahoma_nets::find(name).expect("a network").build)(Size::Reduced))),
        ("program", "branch") => of(&crate::branch::program()),
        ("program", "loops") => of(&crate::recurrent::program(8, 5)),
        ("program", _) => of(&crate::fuzz::lies::image()),
        ("model", name) => {
            let o = if name == "minilm" { minilm() } else { oracle(name) };
            with(&o.model, &o.inputs, &model::Request::default())
        }
        _ => {
            let case = root().join(".tahoma").join(source);
            let path = case.join("model.onnx");
            let (takes, _) = ports(&path)?;
            let (inputs, request) = given(&case.join("test_data_set_0"), &takes)?;
            with(&path, &inputs, &request)
        }
    }
}

/// Kinds of statement of a text: instructions, functions, ops.
fn kinds(text: &str, ending: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let words = || text.split(|c| !word(c)).filter(|w| w.contains('.'));
    let found: Vec<&str> = match ending {
        "py" => words().filter(|w| w.starts_with("nisa.") || w.starts_with("nl.")).collect(),
        "ptx" => text.lines().filter_map(parsers::opcode).collect(),
        _ => words().filter(|w| parsers::DIALECTS.contains(&w.split('.').next().unwrap_or_default())).collect(),
    };
    found.into_iter().map(|w| format!("{ending} {w}")).collect()
}

/// Texts that differ, in files of one folder for each target, and what each source has in its own.
struct Texts {
    dir: tempfile::TempDir,
    /// By source: kinds of statement, bytes.
    of: BTreeMap<String, (BTreeSet<String>, usize)>,
    /// Texts, those that are the same counted each time.
    emitted: usize,
}

fn texts(sources: &[String]) -> Texts {
    let dir = tempfile::tempdir().expect("a folder");
    let (seen, of, emitted) = (Mutex::new(HashSet::new()), Mutex::new(BTreeMap::new()), AtomicUsize::new(0));
    TARGETS.iter().for_each(|t| std::fs::create_dir_all(dir.path().join(t)).expect("a folder"));
    let all: Vec<(&String, &str)> = sources.iter().flat_map(|s| TARGETS.iter().map(move |t| (s, *t))).collect();
    all.par_iter().for_each(|&(source, target)| {
        // What is refused emits nothing; whether it should have been is the business of the conformance test.
        let Ok(c) = compiled(source, target, dir.path()) else { return };
        for (path, bytes) in &c.files {
            let Some(ending) = path.rsplit('.').next().filter(|e| ["py", "ptx", "mlir"].contains(e)) else { continue };
            let text = std::str::from_utf8(bytes).unwrap_or_else(|e| panic!("{source}: {path}: {e}"));
            emitted.fetch_add(1, Ordering::Relaxed);
            let mut of = of.lock().unwrap();
            let entry: &mut (BTreeSet<String>, usize) = of.entry(source.clone()).or_default();
            entry.0.extend(kinds(text, ending));
            entry.1 += text.len();
            drop(of);
            let mut hash = DefaultHasher::new();
            (target, parsers::nameless(text, ending)).hash(&mut hash);
            if seen.lock().unwrap().insert(hash.finish()) {
                let name = format!("{}-{:016x}.{ending}", source.replace('/', "-"), hash.finish());
                std::fs::write(dir.path().join(target).join(name), text).expect("a file");
            }
        }
    });
    Texts { of: of.into_inner().unwrap(), emitted: emitted.into_inner(), dir }
}

/// Gives every text to its parser. Returns how many there were of each ending.
fn parse(t: &Texts) -> BTreeMap<&'static str, usize> {
    let mut count = BTreeMap::new();
    for target in TARGETS {
        for ending in ["py", "ptx", "mlir"] {
            let files = parsers::files(&t.dir.path().join(target), ending);
            *count.entry(ending).or_default() += files.len();
            let start = Instant::now();
            match ending {
                "py" => parsers::python(&files),
                "ptx" => parsers::ptx(&files, target),
                _ if *target == "trn2" => parsers::mlir(&files, Some(&tahoma_machine::trn2::irdl::irdl_text()), &|_| 1),
                _ => parsers::mlir(&files, None, &|_| 1),
            }
            println!("{target}: {} texts .{ending} took {:.1} s", files.len(), start.elapsed().as_secs_f64());
        }
    }
    count
}

/// Sources that together have every kind that small ones have, each the one that adds most for what it costs.
fn cover(of: &BTreeMap<String, (BTreeSet<String>, usize)>) -> Vec<&String> {
    let small = || of.iter().filter(|(_, s)| s.1 <= MOST_BYTES);
    let mut left: BTreeSet<&String> = small().flat_map(|(_, s)| &s.0).collect();
    let mut out = vec![];
    while !left.is_empty() {
        // A source costs its compilation too, as much as the texts of a small kernel.
        let gain = |s: &(BTreeSet<String>, usize)| s.0.iter().filter(|k| left.contains(k)).count() as f64 / (s.1 + 20_000) as f64;
        let Some((name, (kinds, _))) = small().max_by(|a, b| gain(a.1).total_cmp(&gain(b.1))) else { break };
        left.retain(|k| !kinds.contains(*k));
        out.push(name);
    }
    out.sort();
    out
}

#[test]
fn all_texts_are_what_others_read() {
    let whole = std::env::var("TAHOMA_TEXTS").is_ok_and(|v| v == "all");
    let stored = std::fs::read_to_string(file()).unwrap_or_default();
    let lines = || stored.lines().filter(|l| !l.starts_with('#'));
    let listed: Vec<String> = lines().filter(|l| !l.contains('\t')).map(String::from).collect();
    let all = sources();
    let unknown: Vec<&String> = listed.iter().filter(|l| !all.contains(l)).collect();
    assert!(unknown.is_empty(), "{}: no sources: {unknown:?}", file().display());
    let t = texts(if whole { &all } else { &listed });
    let count = parse(&t);
    let kinds: BTreeSet<&String> = t.of.values().flat_map(|(k, _)| k).collect();
    println!("{} sources emit {} texts, {count:?} of them different, with {} kinds of statement", t.of.len(), t.emitted, kinds.len());
    if whole && std::env::var_os("BLESS").is_some() {
        let times = |k: &String| t.of.values().filter(|(kinds, _)| kinds.contains(k)).count();
        let chosen: String = cover(&t.of).iter().map(|s| format!("{s}\n")).collect();
        let kinds: String = kinds.iter().map(|k| format!("{k}\t{}\n", times(k))).collect();
        std::fs::write(file(), format!("{HEAD}{chosen}{kinds}")).expect("a file");
        return;
    }
    let want: BTreeSet<String> = lines().filter_map(|l| Some(l.split_once('\t')?.0.to_string())).collect();
    let missing: Vec<&String> = want.iter().filter(|k| !kinds.contains(k)).collect();
    let share = 1.0 - missing.len() as f64 / want.len().max(1) as f64;
    println!("{:.1} % of the {} kinds of statement of all texts are among these; not: {missing:?}", 100.0 * share, want.len());
    assert!(!want.is_empty() && share >= SHARE, "too few kinds of statement: write {} anew, as its test says", file().display());
}
