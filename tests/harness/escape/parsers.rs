//! Parsers that others wrote, for what Tahoma writes: Python's own, MLIR's `mlir-opt`, Nvidia's `ptxas`.

use rayon::prelude::*;
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
    for some in files.chunks(500) {
        let out = Command::new(&python).arg(&script).args(some).output().unwrap_or_else(|e| panic!("{}: {e}", python.display()));
        assert!(out.status.success(), "{}", said(&out));
    }
}

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
        let want: usize = some.iter().map(|f| functions(f)).sum();
        assert_eq!(count(&printed), want, "functions in {some:?}");
    }
}

/// `ptxas` takes every file for the chip, and each has one entry. Panics with its words.
pub(crate) fn ptx(files: &[PathBuf], chip: &str) {
    let ptxas = std::env::var_os("TAHOMA_PTXAS").map_or_else(|| tahoma_tests::root().join(".tahoma/models/ptxas"), PathBuf::from);
    files.par_iter().for_each(|f| {
        let text = std::fs::read_to_string(f).expect("UTF-8");
        assert_eq!(text.matches(".entry").count(), 1, "{}", f.display());
        let out = Command::new(&ptxas).args(["--gpu-name", chip, "-O0", "-o", "/dev/null"]).arg(f).output();
        let out = out.unwrap_or_else(|e| panic!("{}: {e}", ptxas.display()));
        assert!(out.status.success(), "{}: {}", f.display(), said(&out));
    });
}
