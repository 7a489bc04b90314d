//! What compiling costs: every real model for three targets, with its limit beside it, and onnxruntime's session start as a peer.

use crate::say::say;
use crate::setup::venv_python;
use crate::shell::{self, cache, output, processor_seconds, root};
use crate::{bench_growth, bench_import, bench_interp};

/// Models with their shapes, as `tahoma compile` takes them, and the processor seconds and megabytes within which they must compile.
const MODELS: &[(&str, &[&str], f64, f64)] = &[
    ("vad-16k", &[], 10.0, 1000.0),
    ("ocr-cls", &["--shape", "x=1x3x48x192"], 10.0, 1000.0),
    ("ocr-det", &["--shape", "x=1x3x192x320"], 10.0, 1000.0),
    ("ocr-rec", &["--shape", "x=1x3x48x320"], 5.0, 1000.0),
    ("minilm", &["--shape", "input_ids=1x32", "--shape", "attention_mask=1x32"], 10.0, 1000.0),
    ("block", &[], 1.0, 1000.0),
    ("resnet50", &[], 10.0, 1500.0),
    ("bert-base", &[], 10.0, 1500.0),
];

/// Writes what no package holds: networks with seeded weights.
fn prepare() -> Result<(), String> {
    let python = venv_python();
    let (resnet, bert) = (cache().join("models/resnet50"), cache().join("bench/bert-base.onnx"));
    if !resnet.join("outputs").exists() {
        shell::run(&python, &["tests/models/resnet50.py", &resnet.display().to_string()], &[])?;
    }
    if !bert.exists() {
        std::fs::create_dir_all(cache().join("bench")).map_err(|e| format!("no folder for bert-base: {e}"))?;
        shell::run(&python, &["tests/models/growth.py", "bert-base", "12", &bert.display().to_string()], &[])?;
    }
    Ok(())
}

pub(crate) fn run() -> Result<(), String> {
    shell::run("cargo", &["build", "--release", "--package", "tahoma-cli"], &[])?;
    let tahoma = root().join("target/release/tahoma").display().to_string();
    prepare()?;
    let mut text = header()?;
    for (name, shapes, limit, most) in MODELS {
        let onnx = match *name {
            "bert-base" => ".tahoma/bench/bert-base.onnx".to_string(),
            name => format!(".tahoma/models/{name}/model.onnx"),
        };
        let is_onnx = root().join(&onnx).exists();
        let model = if is_onnx { onnx } else { format!(".tahoma/models/{name}/model") };
        let peer = if is_onnx { Some(session(&model)?) } else { None };
        for target in ["trn2", "sm_90a", "sm_103a"] {
            let out = cache().join("bench").join(name).display().to_string();
            let mut args = vec!["compile", &model, "--target", target, "-o", &out, "--force", "--time"];
            args.extend(*shapes);
            let (printed, processor) = processor_seconds(&tahoma, &args).ok_or_else(|| format!("tahoma {} failed", args.join(" ")))?;
            let (megabytes, stages) = figures(&printed).ok_or_else(|| format!("no times in:\n{printed}"))?;
            let row = format!(
                "| {name} | {target} | {processor:.2} s | {limit} s | {:.0} % | {megabytes:.0} MB | {:.0} % | {} | {stages} |\n",
                100.0 * processor / limit,
                100.0 * megabytes / most,
                peer.map_or("- | -".into(), |p| format!("{p:.3} s | {:.1}", processor / p)),
            );
            say(format_args!("{}", row.trim_end()));
            text += &row;
        }
    }
    text += &bench_growth::table()?;
    text += &bench_interp::table()?;
    text += &bench_import::table()?;
    let file = root().join("tests/benchmarks.md");
    std::fs::write(&file, text).map_err(|e| format!("cannot write {}: {e}", file.display()))
}

/// Processor seconds that onnxruntime takes to make a session of a model, which generates no code.
pub(crate) fn session(model: &str) -> Result<f64, String> {
    let script = "import sys,time,onnxruntime as o;s=o.SessionOptions();s.log_severity_level=3;t=time.process_time();\
        o.InferenceSession(sys.argv[1],s,providers=['CPUExecutionProvider']);print(time.process_time()-t)";
    let printed = output(&venv_python(), &["-c", script, model]);
    printed.and_then(|s| s.trim().parse().ok()).ok_or_else(|| format!("onnxruntime has no session of {model}"))
}

/// When and where.
pub(crate) fn measured() -> Result<String, String> {
    let day = output("date", &["-I"]).ok_or("no date")?;
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |l: &str| l.split(':').nth(1).map(|v| v.trim().to_string());
    let cpu = info.lines().find(|l| l.starts_with("model name")).and_then(field).unwrap_or_else(|| "unknown processor".into());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(format!("Measured on {} on {cores} cores of {cpu}.", day.trim()))
}

fn header() -> Result<String, String> {
    Ok(format!(
        "# What compiling costs\n\n\
         Written by `cargo xtask bench`. {} Processor time (user and system, all threads)\n\
         and peak memory of `tahoma compile`, each beside its limit as a share. onnxruntime's column is the processor time of making a session of\n\
         the model, which generates no code; the ratio is Tahoma's time to it.\n\n\
         | model | target | compile | limit | of limit | peak memory | of limit | onnxruntime session | ratio | stages |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
        measured()?
    ))
}

/// Peak megabytes and each stage's share, from what `--time` prints.
fn figures(text: &str) -> Option<(f64, String)> {
    let total = text.lines().find(|l| l.trim_start().starts_with("total "))?;
    let words: Vec<&str> = total.split_whitespace().collect();
    let at = words.iter().position(|w| *w == "memory")?;
    let unit = match *words.get(at + 2)? {
        "kB" => 1e-3,
        "GB" => 1e3,
        _ => 1.0,
    };
    let megabytes = words.get(at + 1)?.parse::<f64>().ok()? * unit;
    let names = ["import", "specialise", "eqsat", "lower", "emit"];
    let share = |n: &str| {
        let line = text.lines().find(|l| l.trim_start().starts_with(n) && l.trim_end().ends_with('%'))?;
        let words: Vec<&str> = line.split_whitespace().collect();
        Some(format!("{n} {} %", words.get(words.len() - 2)?))
    };
    Some((megabytes, names.iter().filter_map(|n| share(n)).collect::<Vec<_>>().join(", ")))
}
