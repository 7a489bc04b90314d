//! What compiling costs: every real model for three targets, with its limit beside it, and onnxruntime's session start as a peer.

use crate::say::say;
use crate::setup::venv_python;
use crate::shell::{self, cache, output, root};
use crate::{bench_import, bench_interp};

/// Models with their shapes, as `tahoma compile` takes them.
const MODELS: &[(&str, &[&str])] = &[
    ("vad-16k", &[]),
    ("ocr-cls", &["--shape", "x=1x3x48x192"]),
    ("ocr-det", &["--shape", "x=1x3x192x320"]),
    ("ocr-rec", &["--shape", "x=1x3x48x320"]),
    ("minilm", &["--shape", "input_ids=1x32", "--shape", "attention_mask=1x32"]),
    ("block", &[]),
];

/// The largest model must compile within these.
const LIMIT_SECONDS: f64 = 10.0;
const LIMIT_MEGABYTES: f64 = 1000.0;

pub(crate) fn run() -> Result<(), String> {
    shell::run("cargo", &["build", "--release", "--package", "tahoma-cli"], &[])?;
    let tahoma = root().join("target/release/tahoma").display().to_string();
    let mut text = header()?;
    for (name, shapes) in MODELS {
        let onnx = format!(".tahoma/models/{name}/model.onnx");
        let is_onnx = root().join(&onnx).exists();
        let model = if is_onnx { onnx } else { format!(".tahoma/models/{name}/model") };
        let peer = if is_onnx { Some(session(&model)?) } else { None };
        for target in ["trn2", "sm_90a", "sm_103a"] {
            let out = cache().join("bench").join(name).display().to_string();
            let mut args = vec!["compile", &model, "--target", target, "-o", &out, "--force", "--time"];
            args.extend(*shapes);
            let printed = output(&tahoma, &args).ok_or_else(|| format!("tahoma {} failed", args.join(" ")))?;
            let (seconds, megabytes, stages) = figures(&printed).ok_or_else(|| format!("no times in:\n{printed}"))?;
            let row = format!(
                "| {name} | {target} | {seconds:.2} s | {:.0} % | {megabytes:.0} MB | {:.0} % | {} | {stages} |\n",
                100.0 * seconds / LIMIT_SECONDS,
                100.0 * megabytes / LIMIT_MEGABYTES,
                peer.map_or("- | -".into(), |p| format!("{p:.3} s | {:.1}", seconds / p)),
            );
            say(format_args!("{}", row.trim_end()));
            text += &row;
        }
    }
    text += &bench_interp::table()?;
    text += &bench_import::table()?;
    let file = root().join("tests/benchmarks.md");
    std::fs::write(&file, text).map_err(|e| format!("cannot write {}: {e}", file.display()))
}

/// Seconds that onnxruntime takes to make a session of a model.
fn session(model: &str) -> Result<f64, String> {
    let script = format!(
        "import time,onnxruntime as o;s=o.SessionOptions();s.log_severity_level=3;t=time.perf_counter();o.InferenceSession({model:?},s);print(time.perf_counter()-t)"
    );
    output(&venv_python(), &["-c", &script]).and_then(|s| s.trim().parse().ok()).ok_or("onnxruntime does not run".into())
}

fn header() -> Result<String, String> {
    let day = output("date", &["-I"]).ok_or("no date")?;
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |l: &str| l.split(':').nth(1).map(|v| v.trim().to_string());
    let cpu = info.lines().find(|l| l.starts_with("model name")).and_then(field).unwrap_or_else(|| "unknown processor".into());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(format!(
        "# What compiling costs\n\n\
         Written by `cargo xtask bench` on {}, {cores} cores of {cpu}. Wall time of `tahoma compile --time` and peak memory of its process,\n\
         each beside its limit ({LIMIT_SECONDS} s, {LIMIT_MEGABYTES} MB) as a share. onnxruntime's column is the time it takes to make a session of\n\
         the model, which generates no code; the ratio is Tahoma's time to it.\n\n\
         | model | target | compile | of limit | peak memory | of limit | onnxruntime session | ratio | stages |\n\
         |---|---|---|---|---|---|---|---|---|\n",
        day.trim()
    ))
}

/// Total seconds, peak megabytes and each stage's share, from what `--time` prints.
fn figures(text: &str) -> Option<(f64, f64, String)> {
    let total = text.lines().find(|l| l.trim_start().starts_with("total "))?;
    let words: Vec<&str> = total.split_whitespace().collect();
    let seconds = words.get(1)?.parse::<f64>().ok()? / 1000.0;
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
    Some((seconds, megabytes, names.iter().filter_map(|n| share(n)).collect::<Vec<_>>().join(", ")))
}
