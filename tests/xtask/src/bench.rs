//! What compiling costs: every real model for two targets, with its limit beside it, and onnxruntime's session start as a peer.

use crate::setup::venv_python;
use crate::shell::{self, cache, output, root};

/// Models with their shapes, as `tahoma compile` takes them.
const MODELS: &[(&str, &[&str])] = &[
    ("vad-16k", &[]),
    ("ocr-cls", &["--shape", "x=1x3x48x192"]),
    ("ocr-det", &["--shape", "x=1x3x192x320"]),
    ("ocr-rec", &["--shape", "x=1x3x48x320"]),
    ("block", &[]),
];

/// The largest model must compile within these.
const LIMIT_SECONDS: f64 = 10.0;
const LIMIT_MEGABYTES: f64 = 1000.0;

pub(crate) fn run() -> Result<(), String> {
    shell::run("cargo", &["build", "--release", "--package", "tahoma-cli"], &[])?;
    let tahoma = root().join("target/release/tahoma").display().to_string();
    println!(
        "\n| model | target | compile | of {LIMIT_SECONDS} s | peak memory | of {LIMIT_MEGABYTES} MB | onnxruntime session | stages |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (name, shapes) in MODELS {
        let model = format!(".tahoma/models/{name}/model.onnx");
        let script = format!(
            "import time,onnxruntime as o;s=o.SessionOptions();s.log_severity_level=3;t=time.perf_counter();o.InferenceSession({model:?},s);print(time.perf_counter()-t)"
        );
        let peer: f64 = output(&venv_python(), &["-c", &script]).and_then(|s| s.trim().parse().ok()).ok_or("onnxruntime does not run")?;
        for target in ["trn2", "sm_90a"] {
            let out = cache().join("bench").join(name).display().to_string();
            let mut args = vec!["compile", &model, "--target", target, "-o", &out, "--force", "--time"];
            args.extend(*shapes);
            let text = output(&tahoma, &args).ok_or_else(|| format!("tahoma {} failed", args.join(" ")))?;
            let (seconds, megabytes, stages) = figures(&text).ok_or_else(|| format!("no times in:\n{text}"))?;
            println!(
                "| {name} | {target} | {seconds:.2} s | {:.0} % | {megabytes:.0} MB | {:.0} % | {peer:.3} s | {stages} |",
                100.0 * seconds / LIMIT_SECONDS,
                100.0 * megabytes / LIMIT_MEGABYTES
            );
        }
    }
    Ok(())
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
