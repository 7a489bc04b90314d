//! The main job on a real model: PP-OCR's text recogniser, unmodified, on a drawn line of text.

use crate::say::say;
use crate::setup::venv_python;
use crate::shell::{self, cache, output, root};

pub(crate) fn run() -> Result<(), String> {
    shell::run("cargo", &["build", "--release", "--package", "tahoma-cli"], &[])?;
    let tahoma = root().join("target/release/tahoma").display().to_string();
    let model = ".tahoma/models/ocr-rec/model.onnx";
    let input = "x=.tahoma/models/ocr-rec/inputs/x.npy";
    let out = cache().join("demo").display().to_string();
    for (target, device) in [("trn2", "trn2-sim"), ("sm_90a", "ptx-emu")] {
        say(format_args!("\n== {target}: compile, verify against the reference interpreter, run on {device}\n"));
        let artifact = format!("{out}/{target}");
        shell::run(&tahoma, &["compile", model, "--target", target, "--shape", "x=1x3x48x320", "-o", &artifact, "--force", "--time"], &[])?;
        shell::run(&tahoma, &["verify", model, "--target", target, "--input", input], &[])?;
        let results = format!("{out}/{target}-outputs");
        shell::run(&tahoma, &["run", &artifact, "--device", device, "--input", input, "--output-dir", &results], &[])?;
        let scores = format!("{results}/softmax_11.tmp_0.npy");
        let read = ["examples/read_line.py", &scores, ".tahoma/models/ocr-rec/alphabet.txt"];
        let line = output(&venv_python(), &read).ok_or("examples/read_line.py failed")?;
        say(format_args!("\nThe line of text, as the model compiled for {target} reads it: {}", line.trim()));
    }
    Ok(())
}
