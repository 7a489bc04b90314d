//! How compiling grows: families of models at doubling sizes, each beside its limit, and onnxruntime's session of the largest.

use crate::bench::{measured, session};
use crate::say::say;
use crate::setup::venv_python;
use crate::shell::{cache, output, processor_seconds, root};

/// A family of `tests/models/growth.py`, its full size, and the processor seconds that the full size may take.
const FAMILIES: &[(&str, usize, f64)] = &[
    ("mul-add", 60, 1.0),
    ("adds", 60, 1.0),
    ("muls", 60, 1.0),
    ("batch-norms", 60, 1.0),
    ("mul-add-relu", 60, 1.0),
    ("mixed", 60, 1.0),
    ("squarings", 40, 1.0),
    ("layers", 96, 10.0),
    ("encoders", 96, 10.0),
    ("random", 2000, 15.0),
    ("concat", 10_000, 5.0),
    ("relus-concat", 200, 1.0),
    ("slices", 200, 1.0),
];

/// The table, as Markdown. Needs the command built for release.
pub(crate) fn table() -> Result<String, String> {
    let mut text = format!(
        "\n# How compiling grows\n\n\
         {}\n\
         Processor time (user and system, all threads) of `tahoma compile` on the families of `tests/models/growth.py` at a quarter, a half and\n\
         all of n; growth is the last to the one before, 2 where it is linear. onnxruntime's column is the processor time of a session of the\n\
         largest, which generates no code.\n\n\
         | family | target | n | kernels | compile | growth | limit | of limit | onnxruntime session | ratio |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
        measured()?
    );
    for &(family, full, limit) in FAMILIES {
        let sizes = [full / 4, full / 2, full];
        let mut models = vec![];
        for n in sizes {
            let model = cache().join(format!("bench/{family}-{n}.onnx")).display().to_string();
            let made = output(&venv_python(), &["tests/models/growth.py", family, &n.to_string(), &model]);
            models.push(made.map(|_| model).ok_or_else(|| format!("{family} of {n} could not be written"))?);
        }
        let peer = session(&models[2])?;
        for target in ["trn2", "sm_90a"] {
            let (mut seconds, mut kernels) = (vec![], String::new());
            for model in &models {
                let (printed, took) = compile(model, target)?;
                let line = printed.lines().find(|l| l.contains(" kernels,")).unwrap_or_default();
                kernels = line.split_whitespace().next().unwrap_or("-").to_string();
                seconds.push(took);
            }
            let times: Vec<String> = seconds.iter().map(|s| format!("{s:.2} s")).collect();
            let [.., half, all] = seconds[..] else { return Err("too few sizes".into()) };
            let row = format!(
                "| {family} | {target} | {} | {kernels} | {} | {:.1} | {limit} s | {:.0} % | {peer:.2} s | {:.1} |\n",
                sizes.map(|n| n.to_string()).join(", "),
                times.join(", "),
                all / half,
                100.0 * all / limit,
                all / peer,
            );
            say(format_args!("{}", row.trim_end()));
            text += &row;
        }
    }
    Ok(text)
}

/// What `tahoma compile` prints, and its processor seconds.
fn compile(model: &str, target: &str) -> Result<(String, f64), String> {
    let tahoma = root().join("target/release/tahoma").display().to_string();
    let out = cache().join("bench/grown").display().to_string();
    let args = ["compile", model, "--target", target, "-o", &out, "--force"];
    processor_seconds(&tahoma, &args).ok_or_else(|| format!("tahoma {} failed", args.join(" ")))
}
