//! What commands share: arguments of the form NAME=VALUE, progress, writing to standard output.

use crate::args::{Given, NumericsArg};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tahoma::npy::Array;
use tahoma::{Compiler, Diagnostic, Diagnostics, Numerics, Stage, Tensor, npy};
use tahoma_core::{DType, TensorType, Text, escape};

impl From<NumericsArg> for Numerics {
    fn from(n: NumericsArg) -> Numerics {
        match n {
            NumericsArg::Exact => Numerics::Exact,
            NumericsArg::Reassociate => Numerics::Reassociate,
            NumericsArg::Fast => Numerics::Fast,
        }
    }
}

/// Splits `NAME=VALUE` at the first `=`.
pub(crate) fn pair<'a>(text: &'a str, form: &str) -> Result<(&'a str, &'a str), Diagnostic> {
    match text.split_once('=') {
        Some((n, v)) if !n.is_empty() && !v.is_empty() => Ok((n, v)),
        _ => Err(Diagnostic::error("E0701", format!("{text:?} is not of the form {form}"))),
    }
}

/// `NAME=FILE.npy` arguments as names and paths; each name once.
pub(crate) fn files(args: &[String]) -> Result<Vec<(String, PathBuf)>, Diagnostic> {
    let mut seen = BTreeSet::new();
    let mut out = vec![];
    for a in args {
        let (name, file) = pair(a, "NAME=FILE.npy")?;
        if !seen.insert(name) {
            return Err(Diagnostic::error("E0601", format!("input {name:?} is given twice")));
        }
        out.push((name.to_string(), PathBuf::from(file)));
    }
    Ok(out)
}

/// Reads inputs; `wanted` says what raw arrays (bf16, fp8) are.
pub(crate) fn read(files: &[(String, PathBuf)], wanted: &[(String, TensorType)]) -> Result<Vec<(String, Tensor)>, Diagnostics> {
    let mut problems = Diagnostics::default();
    let mut out = vec![];
    for (name, path) in files {
        let want: Option<DType> = wanted.iter().find(|w| w.0 == *name).map(|w| w.1.dtype);
        match npy::read(path, want) {
            Ok(t) => out.push((name.clone(), t)),
            Err(d) => problems.push(d),
        }
    }
    problems.into_result(out)
}

/// Reads inputs of numbers and of strings.
pub(crate) fn read_all(
    files: &[(String, PathBuf)],
    wanted: &[(String, TensorType)],
) -> Result<(Vec<(String, Tensor)>, BTreeMap<String, Text>), Diagnostics> {
    let mut problems = Diagnostics::default();
    let (mut tensors, mut texts) = (vec![], BTreeMap::new());
    for (name, path) in files {
        let want: Option<DType> = wanted.iter().find(|w| w.0 == *name).map(|w| w.1.dtype);
        match npy::read_array(path, want) {
            Ok(Array::Tensor(t)) => tensors.push((name.clone(), t)),
            Ok(Array::Text(t)) => {
                texts.insert(name.clone(), t);
            }
            Err(d) => problems.push(d),
        }
    }
    problems.into_result((tensors, texts))
}

/// The library's builder from the arguments of a command.
pub(crate) fn compiler(model: &Path, given: &Given) -> Result<Compiler, Diagnostics> {
    let mut c = Compiler::new(model).numerics(given.numerics.map(Numerics::from).unwrap_or_default());
    for s in &given.shape {
        c = c.shape(s);
    }
    for d in &given.dim {
        // A name may hold an `=`, a number does not.
        let Some((name, n)) = d.rsplit_once('=').filter(|(name, n)| !name.is_empty() && !n.is_empty()) else {
            return Err(Diagnostic::error("E0701", format!("{d:?} is not of the form NAME=NUMBER")).into());
        };
        let n = n.parse().map_err(|_| Diagnostic::error("E0207", format!("{n:?} is not a whole number from 0 up")))?;
        c = c.symbol(name, n);
    }
    let (tensors, texts) = read_all(&files(&given.constant)?, &[])?;
    for (name, t) in tensors {
        c = c.input_value(&name, t);
    }
    for (name, t) in texts {
        c = c.input_text(&name, t);
    }
    Ok(c)
}

/// A spinner on a terminal, nothing in a pipe.
pub(crate) fn spinner() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// A spinner that tells a compilation's stages and kernels, k of n.
pub(crate) fn watched(c: Compiler, spin: &ProgressBar, label: &str) -> Compiler {
    let (stages, kernels) = (spin.clone(), spin.clone());
    let (of, label) = (Stage::ALL.len(), label.to_string());
    let again = label.clone();
    c.on_stage(move |s| stages.set_message(format!("{label} {s} ({} of {of})", s as usize + 1)))
        .on_kernel(move |k, n| kernels.set_message(format!("{again} lower, kernel {k} of {n}")))
}

/// A bar over `count` items on a terminal.
pub(crate) fn bar(count: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(count);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg} {eta}") {
        bar.set_style(style);
    }
    bar
}

pub(crate) use crate::terminal::print;

/// Prints JSON.
pub(crate) fn print_json(v: &serde_json::Value) {
    print(&escape::json(&serde_json::to_string_pretty(v).unwrap_or_default()));
}

pub(crate) fn warn(warnings: &[Diagnostic]) {
    for w in warnings {
        crate::terminal::tell(&format!("{w}\n"));
    }
}

/// Whether `dir` is a folder that may be written, or can be made. E0702. Asked before any work.
pub(crate) fn check_folder(dir: &Path) -> Result<(), Diagnostic> {
    if dir.symlink_metadata().is_err() {
        return tahoma::check_writable(dir);
    }
    if !dir.is_dir() {
        return Err(Diagnostic::error("E0702", format!("{} is not a folder", dir.display())));
    }
    tahoma::check_writable(&dir.join("x"))
}

/// Writes one .npy per output into `dir`: into a folder of its own first, so that a failure leaves nothing half written.
pub(crate) fn write_outputs(dir: &Path, outputs: &[(String, Array)]) -> Result<Vec<(String, PathBuf)>, Diagnostic> {
    let fail = |p: &Path, e: std::io::Error| Diagnostic::error("E0702", format!("cannot write {}: {e}", p.display())).caused_by(e);
    check_folder(dir)?;
    std::fs::create_dir_all(dir).map_err(|e| fail(dir, e))?;
    let mut taken = BTreeSet::new();
    let mut out = vec![];
    for (name, t) in outputs {
        let file = format!("{}.npy", npy::safe_name(name, &mut taken));
        let (temporary, path) = (dir.join(format!(".{file}.{}", std::process::id())), dir.join(file));
        let done = npy::write_array(&temporary, t).and_then(|()| std::fs::rename(&temporary, &path).map_err(|e| fail(&path, e)));
        if let Err(d) = done {
            let _ = std::fs::remove_file(&temporary);
            return Err(d);
        }
        out.push((name.clone(), path));
    }
    Ok(out)
}

/// `1.53 GFLOP`, `640 kB`.
pub(crate) fn si(n: f64, unit: &str) -> String {
    for (factor, prefix) in [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if n >= factor {
            return format!("{:.2} {prefix}{unit}", n / factor);
        }
    }
    format!("{n:.0} {unit}")
}

/// Share of a whole in per cent; all of nothing is 100.
pub(crate) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 100.0 } else { 100.0 * part as f64 / whole as f64 }
}
