//! ONNX's own suite and cases of ONNX Runtime's operators, held to `tests/conformance.tsv`: what each case gives on the interpreter,
//! the NeuronCore simulator and the PTX emulator. A case that newly passes or fails breaks the test until the file says so.
//!
//! The interpreter runs all cases each time, the two others every 25th; all of them when the file is written anew:
//! `BLESS=1 cargo test --release -p tahoma-tests --test harness conformance`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tahoma::conformance::{Case, Status, conformance};

const SUITES: &[&str] = &["onnx-suite", "onnxruntime-suite"];
const DEVICES: &[&str] = &["interp", "trn2-sim", "ptx-emu"];
/// Which cases the slow devices run in an ordinary test.
const EVERY: usize = 25;
const HEAD: &str = "# What every case of the ONNX suite, and of ONNX Runtime's operators, gives on each device. Checked and written by
# tests/harness/conformance.rs. On a device: `device` passes and all of it runs there, `part` passes with some ops on the host,
# `host` passes with all of them there, `move` passes and is nothing but names for the same bytes.
# case\toperators\tinterp\ttrn2\tptx\twhy
";

fn file() -> PathBuf {
    tahoma_tests::root().join("tests/conformance.tsv")
}

/// How a case ended, in a word.
fn word(c: &Case, device: &str) -> &'static str {
    match c.status {
        Status::Fail => "differs",
        Status::Error => "error",
        Status::Unsupported => "unsupported",
        Status::Pass if device == "interp" => "pass",
        Status::Pass if c.host.is_empty() && c.launches == 0 => "move",
        Status::Pass if c.host.is_empty() => "device",
        Status::Pass if c.launches == 0 => "host",
        Status::Pass => "part",
    }
}

fn run(dir: &Path, device: &str, target: Option<&str>, wanted: &dyn Fn(&str) -> bool) -> Vec<Case> {
    let target = target.map(|t| tahoma::Target::parse(t).unwrap());
    let all = conformance(dir, device, target, &|name| wanted(name), &|_, _| {});
    all.unwrap_or_else(|d| panic!("{d}: run `cargo xtask setup` first")).cases
}

/// The lines of the file: words by device, then operators and reasons.
fn expected() -> BTreeMap<String, [String; 5]> {
    let text = std::fs::read_to_string(file()).unwrap_or_default();
    let line = |l: &str| {
        let mut f = l.split('\t').map(str::to_string);
        let mut next = || f.next().unwrap_or_default();
        (next(), [next(), next(), next(), next(), next()])
    };
    text.lines().filter(|l| !l.starts_with('#')).map(line).collect()
}

/// Why a case does not pass, or does not run on the device.
fn why(c: &Case) -> String {
    if c.status != Status::Pass {
        return c.detail.lines().next().unwrap_or_default().replace('\t', " ");
    }
    let mut ops: Vec<&str> = c.host.iter().map(|h| h.0.as_str()).collect();
    ops.dedup();
    ops.join(" ")
}

#[test]
fn every_case_is_as_the_file_says() {
    let bless = std::env::var_os("BLESS").is_some();
    let expected = expected();
    let mut rows: BTreeMap<String, [String; 5]> = BTreeMap::new();
    let mut wrong = vec![];
    let mut reasons: BTreeMap<(String, String), BTreeMap<String, usize>> = BTreeMap::new();
    for suite in SUITES {
        let dir = tahoma_tests::root().join(".tahoma").join(suite);
        for (k, device) in DEVICES.iter().enumerate() {
            let sampled = |name: &str| bless || k == 0 || expected.keys().position(|n| n == name).is_some_and(|i| i % EVERY == 0);
            for c in run(&dir, device, None, &sampled) {
                assert!(!c.detail.contains("panic"), "{device} {}: {}", c.name, c.detail);
                let got = word(&c, device);
                let row = rows.entry(c.name.clone()).or_default();
                row[0] = c.operators.join(" ");
                row[k + 1] = got.to_string();
                let why = why(&c);
                if !why.is_empty() {
                    row[4] += &format!("{}{device}: {why}", if row[4].is_empty() { "" } else { "; " });
                }
                for (op, reason) in &c.host {
                    // `k0: no instruction for acos`: which kernel it was says nothing here.
                    let reason = reason.split_once(": ").map_or(reason.as_str(), |r| r.1).to_string();
                    *reasons.entry((op.clone(), device.to_string())).or_default().entry(reason).or_default() += 1;
                }
                let want = expected.get(&c.name).map_or("not in the file", |r| r[k + 1].as_str());
                if want != got {
                    wrong.push(format!("{device} {}: {got}, the file says {want}  {}", c.name, c.detail));
                }
            }
        }
    }
    let passing = rows.values().filter(|r| r[1] == "pass").count();
    println!("{} cases, {passing} pass on the interpreter", rows.len());
    if bless {
        let lines: String = rows.iter().map(|(n, r)| format!("{n}\t{}\n", r.join("\t"))).collect();
        // The most frequent reason stands for all.
        let why = reasons.iter().filter_map(|((op, device), r)| Some((op, device, r.iter().max_by_key(|(_, n)| **n)?.0)));
        let why: String = why.map(|(op, device, r)| format!("# {op} on the host of {device}: {r}\n")).collect();
        std::fs::write(file(), format!("{HEAD}{lines}{why}")).unwrap();
        return;
    }
    assert_eq!(rows.len(), expected.len(), "the file and the suites have different cases");
    assert!(wrong.is_empty(), "{} cases are not as {} says:\n{}", wrong.len(), file().display(), wrong.join("\n"));
}

/// What is compiled for Blackwell gives what the file says of Hopper: the kernels differ where LLVM has other instructions, most of them
/// for 16-bit floats. Those cases run, and of the others each 25th that the other columns leave out; `EVERY_CASE=1` runs all.
#[test]
fn blackwell_gives_what_hopper_gives() {
    let expected = expected();
    let all = std::env::var_os("EVERY_CASE").is_some();
    let half = |name: &str| ["fp16", "float16", "bf16"].iter().any(|t| name.contains(t)) && !name.contains("cast");
    let sampled = |name: &str| all || half(name) || expected.keys().position(|n| n == name).is_some_and(|i| i % EVERY == EVERY / 2);
    let (mut wrong, mut ran) = (vec![], 0);
    for suite in SUITES {
        for c in run(&tahoma_tests::root().join(".tahoma").join(suite), "ptx-emu", Some("sm_100a"), &sampled) {
            ran += 1;
            let (got, want) = (word(&c, "ptx-emu"), expected.get(&c.name).map_or("not in the file", |r| r[3].as_str()));
            if got != want {
                wrong.push(format!("{}: {got} on sm_100a, {want} on sm_90a  {}", c.name, c.detail));
            }
        }
    }
    println!("{ran} cases on sm_100a");
    assert!(ran > 60 && wrong.is_empty(), "{} of {ran} cases:\n{}", wrong.len(), wrong.join("\n"));
}
