//! Runs ONNX's backend tests through the importer and the reference evaluator: `suite DIR [FILTER] [--list STATUS]`.
//!
//! A case is tried as the model is; where that does not import, with its integer inputs given as constants, then with all of them.

use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tahoma_core::{Buffer, DType, Diagnostics, Tensor, eval};
use tahoma_frontend::{ImportOptions, import_onnx, suite};

#[derive(Clone, Debug)]
struct Outcome {
    name: String,
    status: &'static str,
    detail: String,
    millis: u128,
}

fn numbered(dir: &Path, what: &str) -> Vec<PathBuf> {
    (0..).map(|i| dir.join(format!("{what}_{i}.pb"))).take_while(|p| p.exists()).collect()
}

fn floats(t: &Tensor) -> Vec<f64> {
    let t = t.contiguous();
    let r = t.offset()..t.offset() + t.len();
    match t.buffer() {
        Buffer::F64(v) => v[r].to_vec(),
        Buffer::F32(v) => v[r].iter().map(|&x| x as f64).collect(),
        Buffer::F16(v) => v[r].iter().map(|x| x.to_f64()).collect(),
        Buffer::BF16(v) => v[r].iter().map(|x| x.to_f64()).collect(),
        _ => t.to_bytes().iter().map(|&b| b as f64).collect(),
    }
}

fn same(got: &Tensor, want: &Tensor) -> Result<(), String> {
    if got.dtype() != want.dtype() || got.shape() != want.shape() {
        return Err(format!("is {}, expected {}", got.ty(), want.ty()));
    }
    let (rtol, exact) = match got.dtype() {
        DType::BF16 => (2f64.powi(-6), false),
        DType::F32 | DType::F64 | DType::F16 => (1e-3, false),
        _ => (0.0, true),
    };
    if exact {
        return if got == want { Ok(()) } else { Err("differs".into()) };
    }
    for (i, (a, b)) in floats(got).into_iter().zip(floats(want)).enumerate() {
        let ok = a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-7 + rtol * b.abs();
        if !ok {
            return Err(format!("element {i} is {a}, expected {b}"));
        }
    }
    Ok(())
}

fn attempt(model: &Path, options: &ImportOptions, inputs: &[(String, Tensor)]) -> Result<Vec<Tensor>, (&'static str, String)> {
    let status = |d: &Diagnostics| if d.0.iter().any(|d| d.code == "E0201") { "unsupported" } else { "error" };
    let m = import_onnx(model, options).map_err(|d| (status(&d), d.to_string()))?;
    let mut values = Vec::new();
    for p in &m.program.main().inputs {
        values.push(match inputs.iter().find(|(n, _)| *n == p.name) {
            Some(v) => v.1.clone(),
            None => suite::ramp_input(m.program.main().ty(p.value)).map_err(|d| ("error", d.to_string()))?,
        });
    }
    eval::run(&m.program, "main", &values, &m.store).map_err(|d| ("error", d.to_string()))
}

fn case(dir: &Path) -> Result<(), (&'static str, String)> {
    let data = dir.join("test_data_set_0");
    let read = |p: &PathBuf| suite::read_tensor_pb(p).map_err(|d| ("unsupported", d.to_string()));
    let inputs: Vec<(String, Tensor)> = numbered(&data, "input").iter().map(read).collect::<Result<_, _>>()?;
    let outputs: Vec<(String, Tensor)> = numbered(&data, "output").iter().map(read).collect::<Result<_, _>>()?;
    let names = suite::input_names(&dir.join("model.onnx")).map_err(|d| ("error", d.to_string()))?;
    let inputs: Vec<(String, Tensor)> = inputs
        .into_iter()
        .enumerate()
        .map(|(i, (n, t))| (if n.is_empty() || !names.contains(&n) { names.get(i).cloned().unwrap_or(n) } else { n }, t))
        .collect();
    let constants = |keep: &dyn Fn(&Tensor) -> bool| ImportOptions {
        constants: inputs.iter().filter(|i| keep(&i.1)).cloned().collect(),
        ..ImportOptions::default()
    };
    let forms = [ImportOptions::default(), constants(&|t| t.dtype().is_int() || t.dtype() == DType::Bool), constants(&|_| true)];
    let mut first = None;
    for options in &forms {
        let result = attempt(&dir.join("model.onnx"), options, &inputs).and_then(|got| {
            if got.len() != outputs.len() {
                return Err(("fail", format!("{} outputs, expected {}", got.len(), outputs.len())));
            }
            for (g, (n, w)) in got.iter().zip(&outputs) {
                same(g, w).map_err(|e| ("fail", format!("{n}: {e}")))?;
            }
            Ok(())
        });
        match result {
            Ok(()) => return Ok(()),
            Err(e) => {
                let worse = |s: &str| ["fail", "error", "unsupported"].iter().position(|x| *x == s).unwrap_or(3);
                if first.as_ref().is_none_or(|(s, _): &(&'static str, String)| worse(e.0) < worse(s)) {
                    first = Some(e);
                }
            }
        }
    }
    Err(first.unwrap_or(("error", "nothing was tried".into())))
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let root = PathBuf::from(args.first().map_or("suite", |s| s));
    let filter = args.get(1).filter(|a| !a.starts_with("--")).cloned().unwrap_or_default();
    let list = args.iter().position(|a| a == "--list").and_then(|i| args.get(i + 1)).cloned();
    let mut dirs: Vec<(String, PathBuf)> = Vec::new();
    for kind in std::fs::read_dir(&root).into_iter().flatten().flatten().filter(|e| e.path().is_dir()) {
        for c in std::fs::read_dir(kind.path()).into_iter().flatten().flatten() {
            let name = format!("{}/{}", kind.file_name().to_string_lossy(), c.file_name().to_string_lossy());
            if c.path().join("model.onnx").exists() && name.contains(&filter) {
                dirs.push((name, c.path()));
            }
        }
    }
    dirs.sort();
    std::panic::set_hook(Box::new(|_| {}));
    let outcomes: Vec<Outcome> = dirs
        .par_iter()
        .map(|(name, dir)| {
            let start = std::time::Instant::now();
            let r = std::panic::catch_unwind(|| case(dir)).unwrap_or_else(|e| {
                let text = e.downcast_ref::<String>().cloned().or(e.downcast_ref::<&str>().map(|s| s.to_string()));
                Err(("panic", text.unwrap_or_default()))
            });
            let (status, detail) = r.map_or_else(|e| e, |()| ("pass", String::new()));
            Outcome { name: name.clone(), status, detail, millis: start.elapsed().as_millis() }
        })
        .collect();
    let mut totals: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for o in &outcomes {
        let kind = o.name.split('/').next().unwrap_or_default();
        *totals.entry((kind, o.status)).or_default() += 1;
        *totals.entry(("all", o.status)).or_default() += 1;
        let show = match &list {
            Some(l) => l == o.status || l == "all",
            None => o.status != "pass",
        };
        if show {
            println!("{:12} {} {}ms\n      {}", o.status, o.name, o.millis, o.detail.replace('\n', "\n      "));
        }
    }
    for ((kind, status), n) in totals {
        println!("{kind:20} {status:12} {n}");
    }
}
