//! Coverage-guided fuzzing of the ONNX reader with libFuzzer, on stable Rust: LLVM's instrumentation is a code generation option. And
//! long runs of structural damage to models through everything (`tests/harness/fuzz`).

use crate::say::say;
use crate::shell::{self, cache, root};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Counters on edges and the operands of comparisons, as cargo-fuzz sets them.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1";

const PACKAGE: &str = "compiler/frontend/fuzz";

/// Inputs that are kept in the repository, a line of hexadecimal digits each; the tests replay them.
const KEPT: &str = "compiler/frontend/fuzz/corpus.hex";

/// Largest model that seeds the corpus.
const SEED_BYTES: u64 = 8_000;

/// Fuzzes for some seconds on every core; what is found is kept in the cache. Errors: a panic, a hang of 10 s, or 4 GB taken.
pub(crate) fn run(seconds: u64) -> Result<(), String> {
    let corpus = cache().join("fuzz-corpus");
    fs::create_dir_all(&corpus).map_err(|e| e.to_string())?;
    let suite = cache().join("onnx-suite");
    if !suite.is_dir() {
        return Err("the ONNX suite seeds the corpus: run `cargo xtask setup` first".into());
    }
    let seeds = seed(&suite, &corpus, &mut 0)?;
    unpack(&corpus)?;
    say(format_args!("{seeds} small models of the ONNX suite seed {}", corpus.display()));
    let triple = shell::output("rustc", &["--print", "host-tuple"]).unwrap_or_default();
    let triple = triple.trim();
    let target = cache().join("fuzz-target").display().to_string();
    let manifest = format!("{PACKAGE}/Cargo.toml");
    // With --target the flags do not reach build scripts.
    let build = ["build", "--release", "--quiet", "--manifest-path", &manifest, "--target", triple, "--target-dir", &target];
    shell::run("cargo", &build, &[("RUSTFLAGS", FLAGS)])?;
    let program = format!("{target}/{triple}/release/onnx");
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get()).to_string();
    let total = format!("-max_total_time={seconds}");
    let artifacts = format!("-artifact_prefix={}/fuzz-", cache().display());
    let found = corpus.display().to_string();
    let fork = format!("-fork={cores}");
    shell::run(
        &program,
        &[&fork, &total, "-timeout=10", "-rss_limit_mb=4096", "-max_len=65536", "-print_final_stats=1", &artifacts, &found],
        &[],
    )
}

/// Writes the inputs of the repository as files.
fn unpack(corpus: &Path) -> Result<(), String> {
    let text = fs::read_to_string(root().join(KEPT)).map_err(|e| format!("cannot read {KEPT}: {e}"))?;
    for (i, line) in text.lines().enumerate() {
        let digits = |k: usize| line.get(k..k + 2).and_then(|d| u8::from_str_radix(d, 16).ok());
        let bytes: Option<Vec<u8>> = (0..line.len()).step_by(2).map(digits).collect();
        let bytes = bytes.ok_or_else(|| format!("{KEPT}: line {} is not hexadecimal", i + 1))?;
        fs::write(corpus.join(format!("kept-{i}")), bytes).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Copies small models below `dir` into the corpus.
fn seed(dir: &Path, corpus: &Path, count: &mut usize) -> Result<usize, String> {
    let fail = |e: std::io::Error| format!("{}: {e}", dir.display());
    for entry in fs::read_dir(dir).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.is_dir() {
            seed(&path, corpus, count)?;
        } else if path.extension().is_some_and(|e| e == "onnx") && path.metadata().map_err(fail)?.len() <= SEED_BYTES {
            fs::copy(&path, corpus.join(format!("seed-{count}"))).map_err(fail)?;
            *count += 1;
        }
    }
    Ok(*count)
}

/// Cases that one process runs.
const AT_ONCE: u64 = 1000;
/// Address space of that process in KiB: an allocation that nobody asked for shows as an abort.
const MOST_KIB: u64 = 6 << 20;

/// Builds the harness, optimised, with the arithmetic of our own crates checked: where a debug build would panic, this one does.
fn harness() -> Result<String, String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).map_err(|e| e.to_string())?;
    let ours = manifest.lines().filter_map(|l| l.split_once(" = { path = ")).map(|(name, _)| name);
    let checked = ours.chain(["tahoma-tests"]).flat_map(|name| {
        let set = |what: &str| ["--config".to_string(), format!("profile.release.package.{name}.{what}=true")];
        [set("overflow-checks"), set("debug-assertions")].concat()
    });
    let args = ["test", "--release", "-p", "tahoma-tests", "--test", "harness", "--no-run"].map(String::from);
    let build = Command::new("cargo").args(args.into_iter().chain(checked)).current_dir(root()).output().map_err(|e| e.to_string())?;
    let told = String::from_utf8_lossy(&build.stderr);
    let at =
        told.lines().rev().find(|l| l.contains("Executable")).and_then(|l| Some(l.rsplit_once('(')?.1.trim_end_matches(')').to_string()));
    at.ok_or_else(|| format!("the harness does not build:\n{told}"))
}

/// Runs cases `seed`, `seed + 1`, … of the harness, a thousand in a process. A process that dies costs the case it was at. Errors: what
/// was found, with the case of each.
pub(crate) fn models(cases: u64, seed: u64) -> Result<(), String> {
    let program = harness()?;
    let at = std::env::temp_dir().join(format!("tahoma-fuzz-case-{}", std::process::id()));
    let (mut next, end, mut found) = (seed, seed.saturating_add(cases), vec![]);
    let mut reached = BTreeMap::<String, u64>::new();
    while next < end {
        let count = AT_ONCE.min(end - next);
        let run = format!("ulimit -v {MOST_KIB}; exec \"$0\" damaged_models --nocapture");
        let asked = format!("{next}:{count}:{}", at.display());
        let mut c = Command::new("sh");
        c.args(["-c", &run, &program]).env("TAHOMA_FUZZ", asked).env("RAYON_NUM_THREADS", "2").current_dir(root());
        let out = c.output().map_err(|e| e.to_string())?;
        let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        let last = fs::read_to_string(&at).ok().and_then(|t| t.trim().parse::<u64>().ok()).unwrap_or(next);
        let told: Vec<&str> = text.lines().filter(|l| l.starts_with("case ") || l.starts_with("    ")).collect();
        let done = last + 1 == next + count && text.contains("test result: ");
        if !done {
            found.push(format!("case {last}: the process ended ({})", out.status));
        }
        for (stage, n) in text.lines().filter_map(|l| l.strip_prefix("reached ")?.rsplit_once(' ')) {
            *reached.entry(stage.into()).or_default() += n.parse::<u64>().unwrap_or(0);
        }
        for line in told {
            if !found.iter().any(|f| f == line) {
                say(format_args!("{line}"));
                found.push(line.to_string());
            }
        }
        next = if done { next + count } else { last + 1 };
        say(format_args!("{} of {cases} cases from {seed}, {} lines of faults; {reached:?}", next - seed, found.len()));
    }
    let _ = fs::remove_file(&at);
    if found.is_empty() { Ok(()) } else { Err(found.join("\n")) }
}
