//! Parsers that others wrote, for what Tahoma writes: Python's own, MLIR's `mlir-opt`, Nvidia's `ptxas`.

use rayon::prelude::*;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn said(o: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr)).chars().take(4000).collect()
}

/// The files below `dir` with this ending, in order.
pub(crate) fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let (mut out, mut todo) = (vec![], vec![dir.to_path_buf()]);
    while let Some(d) = todo.pop() {
        for e in std::fs::read_dir(&d).into_iter().flatten().flatten() {
            if e.path().is_dir() {
                todo.push(e.path());
            } else if e.path().extension().is_some_and(|x| x == ending) {
                out.push(e.path());
            }
        }
    }
    out.sort();
    out
}

/// Python's `ast` reads every file and finds nothing but a kernel in each. Panics with what it finds.
pub(crate) fn python(files: &[PathBuf]) {
    let python = tahoma_tests::root().join(".tahoma/venv/bin/python");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("harness/escape/only_kernels.py");
    let list = tempfile::NamedTempFile::new().expect("a file");
    let names: String = files.iter().map(|f| format!("{}\n", f.display())).collect();
    std::fs::write(list.path(), names).expect("a file");
    let out = Command::new(&python).arg(&script).arg(list.path()).output().unwrap_or_else(|e| panic!("{}: {e}", python.display()));
    assert!(out.status.success(), "{}", said(&out));
}

/// Dialects that what we emit is made of.
pub(crate) const DIALECTS: &[&str] = &["ml", "trn", "func", "gpu", "arith", "scf", "memref", "llvm", "nvvm", "math", "vector"];

/// `mlir-opt` reads every file, with the dialects of `irdl`, and each has as many functions as `functions` says. Panics where not.
pub(crate) fn mlir(files: &[PathBuf], irdl: Option<&str>, functions: &dyn Fn(&Path) -> usize) {
    let tool = ["mlir-opt-22", "/usr/lib/llvm-22/bin/mlir-opt"].into_iter().find(|t| Command::new(t).arg("--version").output().is_ok());
    let tool = tool.expect("mlir-opt of MLIR 22: run `cargo xtask setup` first");
    let dir = tempfile::tempdir().expect("a folder");
    let dialect = dir.path().join("dialect.mlir");
    let all = dir.path().join("all.mlir");
    for some in files.chunks(200) {
        let texts: Vec<String> = some.iter().map(|f| std::fs::read_to_string(f).expect("UTF-8")).collect();
        assert!(texts.iter().all(|t| !t.contains("// -----")), "a text splits itself");
        std::fs::write(&all, texts.join("\n// -----\n")).expect("a file");
        let mut c = Command::new(tool);
        c.args(["--split-input-file", "--mlir-print-op-generic"]).arg(&all);
        if let Some(text) = irdl {
            std::fs::write(&dialect, text).expect("a file");
            c.arg(format!("--irdl-file={}", dialect.display()));
        }
        let out = c.output().expect("mlir-opt runs");
        assert!(out.status.success(), "{some:?}\n{}", said(&out));
        let printed = String::from_utf8_lossy(&out.stdout);
        let count = |t: &str| t.matches("\"func.func\"()").count() + t.matches("\"gpu.func\"()").count();
        // Each op stands as `"dialect.op"(` or `"dialect.op"<`, at the start of a line or behind its results.
        let ops = printed.lines().filter_map(|l| {
            let l = l.trim_start();
            let l = if l.starts_with('%') { l.split_once(" = ")?.1 } else { l };
            l.strip_prefix('"')?.split('"').next()
        });
        // Functions of many values pack them under one name.
        let ours = ["builtin.module", "builtin.unrealized_conversion_cast"];
        let known = |op: &&str| ours.contains(op) || DIALECTS.contains(&op.split('.').next().unwrap_or_default());
        let others: BTreeSet<&str> = ops.filter(|op| !known(op)).collect();
        assert!(others.is_empty(), "ops of other dialects: {others:?} in {some:?}");
        let want: usize = some.iter().map(|f| functions(f)).sum();
        assert_eq!(count(&printed), want, "functions in {some:?}");
    }
}

/// The instruction of a line of PTX, if it is one: `fma.rn.f32`.
pub(crate) fn opcode(line: &str) -> Option<&str> {
    let line = line.trim();
    let line = if line.starts_with('@') { line.split_once(' ')?.1.trim_start() } else { line };
    let word = line.split(|c: char| c.is_whitespace() || c == ';').next()?;
    word.starts_with(|c: char| c.is_ascii_lowercase()).then_some(word)
}

/// Lines that begin a module, in order, but for the version and the chip.
const MODULE: &[&str] = &[".version ", ".target ", ".address_size 64"];
/// What else may begin a line that is neither an instruction nor a label nor a comment.
const PARTS: &[&str] =
    &[".visible .entry ", ".param ", ".maxntid ", ".minnctapersm ", ".reg ", ".shared ", ".extern .shared ", ")", "{", "}"];

/// What a text of PTX has that no kernel of ours has.
fn stranger<'a>(text: &'a str, chip: &str) -> Option<&'a str> {
    let plain = |l: &str, also: &str| l.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(c));
    let (mut module, mut open) = (MODULE.iter(), false);
    text.lines().map(str::trim).find(|&line| {
        let name = opcode(line).and_then(|o| o.split('.').next());
        let ours = match line {
            l if l.is_empty() || l.starts_with("//") => true,
            // The rest of an instruction is operands.
            l if open => plain(l, "%_$.+-{}[],; \t"),
            l if MODULE.iter().any(|m| l.starts_with(m)) => {
                module.next().is_some_and(|m| l.starts_with(m)) && (!l.starts_with(".target") || l == format!(".target {chip}"))
            }
            l if PARTS.iter().any(|p| l.starts_with(p)) => true,
            l if l.starts_with("$L_") => l.ends_with(':') && plain(l, "$_:"),
            _ => name.is_some_and(|n| tahoma_machine::ptx::find(n).is_some()),
        };
        open = (open || name.is_some()) && !line.ends_with(';');
        !ours
    })
}

/// The text under a name that no other has, without what begins a module; and without its name, to compare it by.
fn renamed(text: &str, name: &str) -> String {
    let entry = text.split(".entry ").nth(1).and_then(|t| t.split('(').next()).unwrap_or_default();
    let lines = text.lines().filter(|l| !MODULE.iter().any(|m| l.starts_with(m)) && !l.trim_start().starts_with("//"));
    let body: String = lines.flat_map(|l| [l, "\n"]).collect();
    let mut out = String::with_capacity(body.len());
    // Whole words that begin with the kernel's name: itself, its parameters, its shared memory.
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$' || c == '%';
    let mut rest = body.as_str();
    while let Some(at) = rest.find(entry).filter(|_| !entry.is_empty()) {
        let (before, after) = (&rest[..at], &rest[at + entry.len()..]);
        out.push_str(before);
        let whole = !before.ends_with(word) && (after.starts_with('_') || !after.starts_with(word));
        out.push_str(if whole { name } else { entry });
        rest = after;
    }
    out + rest
}

/// A text by which two that say the same are the same.
pub(crate) fn nameless(text: &str, ending: &str) -> String {
    if ending == "ptx" { renamed(text, "k") } else { text.to_string() }
}

/// Entries that `ptxas` is given at once: half its time for one is its start.
const AT_ONCE: usize = 100;

/// `ptxas` takes every file for the chip, and each is one entry and nothing else. Panics with its words.
pub(crate) fn ptx(files: &[PathBuf], chip: &str) {
    let ptxas = std::env::var_os("TAHOMA_PTXAS").map_or_else(|| tahoma_tests::root().join(".tahoma/models/ptxas"), PathBuf::from);
    let takes = |path: &Path| {
        let out = Command::new(&ptxas).args(["--gpu-name", chip, "-O0", "-o", "/dev/null"]).arg(path).output();
        let out = out.unwrap_or_else(|e| panic!("{}: {e}", ptxas.display()));
        if out.status.success() { Ok(()) } else { Err(said(&out)) }
    };
    files.par_chunks(AT_ONCE).for_each(|some| {
        let texts: Vec<String> = some.iter().map(|f| std::fs::read_to_string(f).expect("UTF-8")).collect();
        for (f, text) in some.iter().zip(&texts) {
            assert_eq!(text.matches(".entry").count(), 1, "{}", f.display());
            assert_eq!(stranger(text, chip), None, "{}", f.display());
        }
        let version = texts.iter().flat_map(|t| t.lines()).filter(|l| l.starts_with(".version")).max().unwrap_or_default();
        let bodies: String = texts.iter().enumerate().map(|(i, t)| renamed(t, &format!("e{i}"))).collect();
        let all = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(all.path(), format!("{version}\n.target {chip}\n.address_size 64\n{bodies}")).expect("a file");
        if let Err(joined) = takes(all.path()) {
            // Which of them it is.
            some.iter().for_each(|f| takes(f).unwrap_or_else(|e| panic!("{}: {e}", f.display())));
            panic!("only together refused: {joined}\n{some:?}");
        }
    });
}
