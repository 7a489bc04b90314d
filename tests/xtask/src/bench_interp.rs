//! What the reference interpreter takes beside onnxruntime and onnx's own reference evaluator, on the same two cores in one run.

use crate::bench::measured;
use crate::say::say;
use crate::setup::venv_python;
use crate::shell::{self, cache, output, root};

const MODELS: &[&str] = &["resnet50", "ocr-det", "ocr-rec", "ocr-cls"];

/// The interpreter may take this many times onnxruntime's time, and this share of the reference evaluator's.
const OF_ONNXRUNTIME: f64 = 4.0;
const OF_REFERENCE: f64 = 0.1;

/// Prints the median milliseconds of ten runs, and the process's peak memory in megabytes.
const ONNXRUNTIME: &str = "\
import glob,os,resource,sys,time,numpy,onnxruntime as o
s=o.SessionOptions();s.log_severity_level=3;s.intra_op_num_threads=2
m=o.InferenceSession(sys.argv[1]+'/model.onnx',s,providers=['CPUExecutionProvider'])
files=[numpy.load(f) for f in sorted(glob.glob(sys.argv[1]+'/inputs/*.npy'))]
x=dict(zip(sorted(i.name for i in m.get_inputs()),files))
m.run(None,x);t=[]
for _ in range(10):
 b=time.perf_counter();m.run(None,x);t.append(time.perf_counter()-b)
print(sorted(t)[5]*1e3,resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1e3,sorted(x)[0])
";

/// Prints the milliseconds of one run.
const REFERENCE: &str = "\
import glob,sys,time,numpy,onnx
from onnx.reference import ReferenceEvaluator
m=ReferenceEvaluator(onnx.load(sys.argv[1]+'/model.onnx'))
files=[numpy.load(f) for f in sorted(glob.glob(sys.argv[1]+'/inputs/*.npy'))]
x=dict(zip(sorted(m.input_names),files))
b=time.perf_counter();m.run(None,x);print((time.perf_counter()-b)*1e3)
";

/// The table, as Markdown. Needs the command built for release.
pub(crate) fn table() -> Result<String, String> {
    let resnet = cache().join("models/resnet50");
    if !resnet.join("outputs").exists() {
        shell::run(&venv_python(), &["tests/models/resnet50.py", &resnet.display().to_string()], &[])?;
    }
    let mut text = format!(
        "\n# What the reference interpreter takes\n\n\
         {}\n\
         Median of ten runs of `tahoma run --device interp --repeat 10` and of onnxruntime with two threads, and one run of onnx's reference\n\
         evaluator, in the same minute on the same cores; peak memory of each process. Limits: {OF_ONNXRUNTIME} times onnxruntime, {OF_REFERENCE} of\n\
         the reference evaluator.\n\n\
         | model | interpreter | onnxruntime | ratio | reference evaluator | ratio | peak memory | onnxruntime's |\n\
         |---|---|---|---|---|---|---|---|\n",
        measured()?
    );
    let tahoma = root().join("target/release/tahoma").display().to_string();
    for name in MODELS {
        let folder = format!(".tahoma/models/{name}");
        let printed = output(&venv_python(), &["-c", ONNXRUNTIME, &folder]).ok_or_else(|| format!("onnxruntime does not run {name}"))?;
        let words: Vec<&str> = printed.split_whitespace().collect();
        let [ort, ort_memory, input] = words[..] else { return Err(format!("not three words: {printed}")) };
        let file = input.replace('/', "_");
        let feed = format!("{input}={folder}/inputs/{file}.npy");
        let out = cache().join("bench/interp").join(name).display().to_string();
        let args = [
            "run",
            &format!("{folder}/model.onnx"),
            "--device",
            "interp",
            "--repeat",
            "10",
            "--json",
            "--input",
            &feed,
            "--output-dir",
            &out,
        ];
        let printed = output(&tahoma, &args).ok_or_else(|| format!("tahoma {} failed", args.join(" ")))?;
        let (ours, memory) = ours(&printed).ok_or_else(|| format!("no times in {printed}"))?;
        let ort: f64 = ort.parse().map_err(|_| "onnxruntime's time is no number")?;
        let ort_memory: f64 = ort_memory.parse().map_err(|_| "onnxruntime's memory is no number")?;
        let slow: f64 = output(&venv_python(), &["-c", REFERENCE, &folder])
            .and_then(|s| s.trim().parse().ok())
            .ok_or_else(|| format!("the reference evaluator does not run {name}"))?;
        let row = format!(
            "| {name} | {ours:.1} ms | {ort:.1} ms | {:.2} | {slow:.0} ms | {:.4} | {memory:.0} MB | {ort_memory:.0} MB |\n",
            ours / ort,
            ours / slow
        );
        say(format_args!("{}", row.trim_end()));
        text += &row;
    }
    Ok(text)
}

/// Median milliseconds and peak megabytes from what `--json` prints.
fn ours(json: &str) -> Option<(f64, f64)> {
    let after = |key: &str| json.split(key).nth(1);
    let list = after("\"repeat_ms\":")?.split('[').nth(1)?.split(']').next()?;
    let times: Vec<f64> = list.split(',').filter_map(|t| t.trim().parse().ok()).collect();
    let memory = after("\"peak_memory_bytes\":")?.trim_start().split(|c: char| !c.is_ascii_digit()).next()?.parse::<f64>().ok()?;
    Some((*times.get(times.len() / 2)?, memory / 1e6))
}
