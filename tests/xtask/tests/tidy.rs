//! The rules of the house, each held by a test: which crate may need which, who may name MLIR, where `unsafe` may stand.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Crates and the crates of ours they may need. Tests and examples may need anything.
const ARROWS: &[(&str, &[&str])] = &[
    ("tahoma-core", &[]),
    ("tahoma-machine", &["tahoma-core"]),
    ("tahoma-mlir", &["tahoma-core", "tahoma-machine"]),
    ("tahoma-eqsat", &["tahoma-core", "tahoma-machine"]),
    ("tahoma-frontend", &["tahoma-core"]),
    ("tahoma-sim", &["tahoma-core", "tahoma-machine"]),
    ("tahoma-runtime", &["tahoma-core", "tahoma-machine", "tahoma-sim"]),
    ("tahoma-kit", &["tahoma-core", "tahoma-runtime"]),
    ("tahoma-codegen", &["tahoma-core", "tahoma-machine", "tahoma-mlir", "tahoma-eqsat"]),
    (
        "tahoma",
        &[
            "tahoma-core",
            "tahoma-machine",
            "tahoma-mlir",
            "tahoma-eqsat",
            "tahoma-frontend",
            "tahoma-codegen",
            "tahoma-runtime",
            "tahoma-sim",
        ],
    ),
    ("tahoma-cli", &["tahoma", "tahoma-core", "tahoma-runtime"]),
    ("tahoma-fake-cuda", &["tahoma-core", "tahoma-sim"]),
    ("tahoma-nets", &["tahoma-core"]),
    ("xtask", &[]),
];

/// Crates that must build in seconds and run anywhere: no MLIR, however far down.
const WITHOUT_MLIR: &[&str] = &[
    "tahoma-core",
    "tahoma-machine",
    "tahoma-eqsat",
    "tahoma-frontend",
    "tahoma-sim",
    "tahoma-runtime",
    "tahoma-kit",
    "tahoma-fake-cuda",
    "tahoma-nets",
    "xtask",
];

/// Files that may say `unsafe`: device drivers and the fake of one.
const UNSAFE: &[&str] = &["runtime/device/src/cuda/driver.rs", "tests/cuda/src/ffi.rs", "tests/cuda/src/control.rs"];

/// Longest a file may be, and the tables that may be longer.
const MOST_LINES: usize = 850;
const TABLES: &[&str] = &["compiler/frontend/src/onnx/schema_table.rs", "runtime/sim/src/ptx/decode.rs"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn metadata(args: &[&str]) -> Value {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1"])
        .args(args)
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("cargo prints JSON")
}

fn files(ending: &str) -> Vec<(String, String)> {
    let out = Command::new("git").args(["ls-files"]).current_dir(root()).output().expect("git runs");
    String::from_utf8_lossy(&out.stdout)
        .lines()
        .filter(|f| f.ends_with(ending))
        .filter_map(|f| Some((f.to_string(), std::fs::read_to_string(root().join(f)).ok()?)))
        .collect()
}

#[test]
fn crates_need_only_what_the_architecture_allows() {
    let meta = metadata(&["--no-deps"]);
    let packages = meta["packages"].as_array().expect("packages");
    let ours: BTreeSet<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    let allowed: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let mut wrong = vec![];
    for p in packages {
        let name = p["name"].as_str().expect("a name");
        if name == "tahoma-tests" || name.starts_with("example-") {
            continue;
        }
        let Some(may) = allowed.get(name) else {
            wrong.push(format!("{name} is not in the table of arrows"));
            continue;
        };
        for d in p["dependencies"].as_array().into_iter().flatten() {
            let dep = d["name"].as_str().unwrap_or_default();
            if d["kind"].is_null() && ours.contains(dep) && !may.contains(&dep) {
                wrong.push(format!("{name} must not need {dep}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_core_and_the_runtime_never_link_mlir() {
    let meta = metadata(&["--filter-platform", "x86_64-unknown-linux-gnu"]);
    let nodes = meta["resolve"]["nodes"].as_array().expect("nodes");
    let names: BTreeMap<&str, &str> =
        meta["packages"].as_array().expect("packages").iter().filter_map(|p| Some((p["id"].as_str()?, p["name"].as_str()?))).collect();
    let needs: BTreeMap<&str, Vec<&str>> = nodes
        .iter()
        .filter_map(|n| {
            let deps =
                n["deps"].as_array()?.iter().filter(|d| d["dep_kinds"].as_array().is_some_and(|k| k.iter().any(|k| k["kind"].is_null())));
            Some((n["id"].as_str()?, deps.filter_map(|d| d["pkg"].as_str()).collect()))
        })
        .collect();
    for (&id, &name) in names.iter().filter(|(_, n)| WITHOUT_MLIR.contains(n)) {
        let (mut seen, mut todo) = (BTreeSet::new(), vec![id]);
        while let Some(p) = todo.pop() {
            if seen.insert(p) {
                todo.extend(needs.get(p).into_iter().flatten());
            }
        }
        let found: Vec<_> = seen.iter().filter_map(|p| names.get(p)).filter(|n| ["melior", "mlir-sys"].contains(n)).collect();
        assert!(found.is_empty(), "{name} reaches {found:?}");
    }
}

#[test]
fn only_the_mlir_crate_names_its_bindings() {
    let words = ["melior", "mlir_sys", "mlir-sys"];
    let wrong: Vec<String> = files(".rs")
        .into_iter()
        .chain(files("Cargo.toml"))
        .filter(|(f, _)| !f.starts_with("ir/mlir/") && f != "Cargo.toml" && !f.starts_with("tests/xtask/tests/"))
        .filter(|(_, text)| words.iter().any(|w| text.contains(w)))
        .map(|(f, _)| f)
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn unsafe_code_stands_in_its_few_files() {
    let needles = [["unsafe", " {"].concat(), ["unsafe", " fn"].concat(), ["unsafe", " impl"].concat(), ["unsafe", " extern"].concat()];
    let wrong: Vec<String> = files(".rs")
        .into_iter()
        .filter(|(f, _)| !UNSAFE.contains(&f.as_str()))
        .filter(|(_, text)| needles.iter().any(|n| text.lines().any(|l| !l.trim_start().starts_with("//") && l.contains(n.as_str()))))
        .map(|(f, _)| f)
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn files_stay_short_and_finished() {
    let unfinished = [["to", "do!("].concat(), ["unimplemen", "ted!("].concat(), ["TO", "DO"].concat(), ["FIX", "ME"].concat()];
    let mut wrong = vec![];
    for (f, text) in files(".rs") {
        let lines = text.lines().count();
        if lines > MOST_LINES && !TABLES.contains(&f.as_str()) {
            wrong.push(format!("{f} has {lines} lines"));
        }
        if unfinished.iter().any(|u| text.contains(u.as_str())) {
            wrong.push(format!("{f} is unfinished"));
        }
        if !text.starts_with("//!") && !f.ends_with("build.rs") && !f.contains("/proto/") {
            wrong.push(format!("{f} does not say what it holds"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_top_level_is_what_was_agreed() {
    let out = Command::new("git").args(["ls-files"]).current_dir(root()).output().expect("git runs");
    let text = String::from_utf8_lossy(&out.stdout);
    let folders: BTreeSet<&str> =
        text.lines().filter_map(|f| f.split_once('/')).map(|(top, _)| top).filter(|t| !t.starts_with('.')).collect();
    assert_eq!(folders, BTreeSet::from(["compiler", "examples", "ir", "runtime", "tests"]));
}

/// Sources of a package below some of its folders, in one text.
fn sources(manifest: &str, folders: &[&str]) -> String {
    let here = Path::new(manifest).parent().expect("a folder");
    let mut todo: Vec<PathBuf> = folders.iter().map(|f| here.join(f)).collect();
    let mut text = String::new();
    while let Some(p) = todo.pop() {
        if let Ok(entries) = std::fs::read_dir(&p) {
            todo.extend(entries.flatten().map(|e| e.path()));
        } else if p.extension().is_some_and(|e| e == "rs") {
            text += &std::fs::read_to_string(&p).unwrap_or_default();
        }
    }
    text
}

#[test]
fn every_dependency_is_used_and_none_is_pinned_to_one_version() {
    let meta = metadata(&["--no-deps"]);
    let (mut needed, mut wrong) = (BTreeSet::new(), vec![]);
    for p in meta["packages"].as_array().expect("packages") {
        let (name, manifest) = (p["name"].as_str().expect("a name"), p["manifest_path"].as_str().expect("a path"));
        for d in p["dependencies"].as_array().into_iter().flatten() {
            let dep = d["name"].as_str().unwrap_or_default();
            needed.insert(dep.to_string());
            let folders: &[&str] = match d["kind"].as_str() {
                Some("build") => &["build.rs"],
                Some("dev") => &["src", "tests", "examples", "benches", "."],
                _ => &["src"],
            };
            let ident = d["rename"].as_str().unwrap_or(dep).replace('-', "_");
            // A crate that tests itself with more features names itself.
            if dep != name && !sources(manifest, folders).contains(&format!("{ident}::")) {
                wrong.push(format!("{name} does not use {dep}"));
            }
            // Who embeds a library crate brings other crates; Cargo.lock pins what our own builds use.
            if d["req"].as_str().is_some_and(|r| r.starts_with('=')) {
                wrong.push(format!("{name} accepts one version of {dep} only"));
            }
        }
    }
    let workspace = std::fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    let table = workspace.split("[workspace.dependencies]").nth(1).and_then(|t| t.split("\n[").next()).expect("the table");
    for line in table.lines().filter(|l| !l.starts_with('#')) {
        if let Some((name, _)) = line.split_once(" = ")
            && !needed.contains(name)
        {
            wrong.push(format!("the workspace lists {name}, which no crate needs"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Links of the pages, and the paths and chores that they and the sources name.
#[test]
fn pages_name_only_files_and_chores_that_exist() {
    let help = std::fs::read_to_string(root().join("tests/xtask/src/main.rs")).expect("xtask");
    let (mut seen, mut wrong) = (0, vec![]);
    for (file, text) in files(".md").into_iter().chain(files(".rs")) {
        let here = root().join(&file).parent().expect("a folder").to_path_buf();
        if file.ends_with(".md") {
            for link in text.split("](").skip(1).filter_map(|t| t.split([')', '#']).next()) {
                seen += 1;
                if !link.is_empty() && !link.starts_with("http") && !here.join(link).exists() {
                    wrong.push(format!("{file}: no file {link}"));
                }
            }
            for span in text.split('`').skip(1).step_by(2) {
                let top = ["compiler/", "runtime/", "ir/", "tests/", "examples/"].iter().any(|t| span.starts_with(t));
                if top && !span.contains([' ', '*', '<', '\n']) && !root().join(span).exists() {
                    wrong.push(format!("{file}: no file {span}"));
                }
            }
        }
        for (at, _) in text.match_indices(&["cargo ", "xtask "].concat()) {
            let rest = &text[at + "cargo xtask ".len()..];
            let name: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
            if !name.is_empty() && !help.contains(&format!("\n  {name} ")) {
                wrong.push(format!("{file}: no chore {name}"));
            }
        }
    }
    assert!(seen > 10, "only {seen} links found: the search is broken");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// JSON has no number for infinities and NaN, and serde_json writes `null` for them: a type that is written has `tahoma_core::Float`,
/// or names `tahoma_core::float` on the field.
#[test]
fn no_type_that_is_written_has_a_plain_float() {
    let word = |line: &str| line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == "f64" || w == "f32");
    let mut wrong = vec![];
    for (f, text) in files(".rs") {
        let lines: Vec<&str> = text.lines().collect();
        let derives = |l: &str| l.trim_start().starts_with("#[derive(") && l.contains("Serialize");
        for start in (0..lines.len()).filter(|&i| derives(lines[i])) {
            // The item: up to the line that closes it, which is indented as the derive is.
            let indent = lines[start].len() - lines[start].trim_start().len();
            let depth = |l: &&str| l.len() - l.trim_start().len();
            let ends = |l: &str| depth(&l) == indent && (l.trim_start().starts_with('}') || l.trim_end().ends_with(';'));
            let end = (start + 1..lines.len()).find(|&i| ends(lines[i])).unwrap_or(lines.len() - 1);
            for i in start..=end {
                let code = lines[i].split("//").next().unwrap_or_default();
                if word(code) && !lines[i - 1].contains("::float\")]") {
                    wrong.push(format!("{f}:{}: {}", i + 1, lines[i].trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The text from an opening bracket up to the one that closes it, and where that is; brackets in strings do not count.
fn bracketed(text: &str, open: usize) -> Option<(&str, usize)> {
    let (mut depth, mut string, mut escaped) = (0, false, false);
    for (i, c) in text[open..].char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if string => escaped = true,
            '"' => string = !string,
            '(' | '[' | '{' if !string => depth += 1,
            ')' | ']' | '}' if !string => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((&text[open + 1..open + i], open + i + 1));
        }
    }
    None
}

/// The method calls after a place: `.note(…).at(…)`.
fn chain(text: &str, mut at: usize) -> &str {
    let start = at;
    loop {
        let rest = text[at..].trim_start();
        let Some(open) = rest.strip_prefix('.').and_then(|r| r.find(|c: char| !c.is_alphanumeric() && c != '_')) else { break };
        let open = text.len() - rest.len() + 1 + open;
        match bracketed(text, open).filter(|_| text[open..].starts_with('(')) {
            Some((_, end)) => at = end,
            None => break,
        }
    }
    &text[start..at]
}

/// An error that goes into the message of a diagnostic is kept as its source. By convention `e` is an error, and a string is `why`.
fn forgotten_causes(text: &str) -> Vec<usize> {
    let told =
        |s: &str| ["{e}", "{e:", "e.to_string()"].iter().any(|w| s.match_indices(w).any(|(i, _)| !s[..i].ends_with(char::is_alphanumeric)));
    let mut wrong = vec![];
    for call in ["Diagnostic::error(", "Diagnostic::warning(", "malformed(", "refused("] {
        for (at, _) in text.match_indices(call) {
            if let Some((message, end)) = bracketed(text, at + call.len() - 1)
                && told(message)
                && !chain(text, end).contains(".caused_by(")
            {
                wrong.push(at);
            }
        }
    }
    let closure = "map_err(|e|";
    for (at, _) in text.match_indices(closure) {
        if let Some((all, _)) = bracketed(text, at + "map_err".len()) {
            let body = all["|e|".len()..].trim_start();
            if told(body) && !body.starts_with("format!(") && !body.starts_with("e.to_string()") && !body.contains(".caused_by(") {
                wrong.push(at);
            }
        }
    }
    wrong.sort();
    wrong.dedup();
    wrong
}

#[test]
fn diagnostics_keep_the_errors_they_tell_of() {
    let lost = |text: &str| forgotten_causes(text).len();
    assert_eq!(lost(r#"x.map_err(|e| bad(format!("no: {e}")))"#), 1);
    assert_eq!(lost(r#"let d = |e: io::Error| Diagnostic::error("E", format!("no ({e})")).note("n");"#), 1);
    assert_eq!(lost(r#"Diagnostic::error("E", e.to_string()).at(o); y.caused_by(e)"#), 1);
    assert_eq!(lost(r#"Diagnostic::error("E", format!("no ({e})")).note("(").caused_by(e)"#), 0);
    assert_eq!(lost(r#"x.map_err(|e| fail("read", path, e)).map_err(|e| format!("no: {e}"))"#), 0);
    let here = "tests/xtask/tests/tidy.rs";
    let mut wrong = vec![];
    for (f, text) in files(".rs").into_iter().filter(|(f, _)| f != here) {
        wrong.extend(forgotten_causes(&text).into_iter().map(|at| format!("{f}:{}", 1 + text[..at].matches('\n').count())));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Multipliers of the generators that everybody writes again.
const GENERATORS: &[&str] =
    &["bf58476d1ce4e5b9", "94d049bb133111eb", "6364136223846793005", "2545f4914f6cdd1d", "5851f42d4c957f2d", "1664525", "1103515245"];
/// The one generator, and where another is kept.
const DRAWN: &[(&str, &str)] = &[
    ("ir/core/src/random.rs", "the generator"),
    ("tests/nets/src/growth.rs", "the graphs that tests/fusion.md measures are of this sequence"),
    ("tests/xtask/tests/tidy.rs", "the list above"),
];

#[test]
fn there_is_one_random_generator() {
    let all = files(".rs");
    for (f, why) in DRAWN {
        assert!(all.iter().any(|(have, _)| have == f), "{f} is gone: {why}");
    }
    let steps = ["<<= 13", "<< 13;", "<< 17;"];
    let has = |text: &str| {
        let plain = text.replace('_', "");
        GENERATORS.iter().any(|g| plain.contains(g)) || text.lines().any(|l| l.contains("^=") && steps.iter().any(|s| l.contains(s)))
    };
    let wrong: Vec<_> = all.iter().filter(|(f, text)| !DRAWN.iter().any(|(d, _)| d == f) && has(text)).map(|(f, _)| f).collect();
    assert!(wrong.is_empty(), "tahoma_core::random has the generator: {wrong:?}");
}

/// `println!` panics where the reader has gone (`… | head`).
#[test]
fn programs_do_not_print_by_macros_that_panic() {
    let of = ["compiler/cli/src/", "runtime/kit/src/", "tests/xtask/src/", "tests/src/bin/"];
    let words = ["print!(", "println!(", "eprint!(", "eprintln!("];
    let mut wrong = vec![];
    for (f, text) in files(".rs").into_iter().filter(|(f, _)| of.iter().any(|o| f.starts_with(o))) {
        let bad = |l: &&str| !l.trim_start().starts_with("//") && words.iter().any(|w| l.split_whitespace().any(|p| p.starts_with(w)));
        wrong.extend(text.lines().filter(bad).map(|l| format!("{f}: {}", l.trim())));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for args in [["--help"].as_slice(), &["frobnicate"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let (out, err) = (writer.try_clone().expect("its other end"), writer);
        let status = Command::new(env!("CARGO_BIN_EXE_xtask")).args(args).stdout(out).stderr(err).status().expect("xtask runs");
        assert!(status.code().is_some_and(|c| c < 100), "{args:?}: {status}");
    }
}
