//! `tahoma run`

use crate::args::Run;
use crate::util::{self, print, print_json, si};
use crate::{Exit, OK};
use serde_json::json;
use std::time::{Duration, Instant};
use tahoma::model::{ModelKind, kind_of};
use tahoma::npy::Array;
use tahoma::{Artifact, Diagnostic, Diagnostics, RunReport, Runner, Target, Tensor, device, interp};
use tahoma_core::escape::Line;
use tahoma_core::eval::{Kept, Weights};
use tahoma_core::{TensorType, Vocabulary};

type Outputs = Vec<(String, Array)>;

/// What a run gave: outputs, the device's report, and the wall times of the repetitions.
type Ran = (Outputs, Option<RunReport>, Vec<Duration>);

/// Outputs as a user sees them: places in the vocabulary as the strings they stand for.
fn shown(outputs: Vec<(String, Tensor)>, vocabulary: &Vocabulary) -> Outputs {
    let one = |(name, t): (String, Tensor)| match vocabulary.text(&name, &t) {
        Some(text) => (name, Array::Text(text)),
        None => (name, Array::Tensor(t)),
    };
    outputs.into_iter().map(one).collect()
}

/// Runs once, and then `n` times with the time taken.
fn repeated<T, E>(n: usize, mut f: impl FnMut() -> Result<T, E>) -> Result<(T, Vec<Duration>), E> {
    let first = f()?;
    let mut times = vec![];
    for _ in 0..n {
        let start = Instant::now();
        f()?;
        times.push(start.elapsed());
    }
    times.sort();
    Ok((first, times))
}

pub(crate) fn run(a: Run) -> Exit {
    let files = util::files(&a.input)?;
    device::find(&a.device)?;
    util::check_folder(&a.output_dir)?;
    let spin = util::spinner();
    spin.set_message("run");
    let kind = kind_of(&a.model)?;
    let (outputs, report, times): Ran = match kind {
        ModelKind::Artifact => {
            if !a.given.is_empty() || a.target.is_some() {
                return Err(Diagnostic::error("E0701", format!("{} is an artifact, which is compiled already", a.model.display()))
                    .note("--shape, --dim, --constant, --numerics and --target are for models")
                    .into());
            }
            let load = if a.allow_edited { Artifact::load_edited } else { Artifact::load };
            let artifact = load(&a.model, a.weights.as_deref())?;
            if !artifact.edited.is_empty() {
                crate::terminal::tell(&format!("edited after it was compiled: {}", artifact.edited.join(", ")));
            }
            fits(&artifact.manifest.target, &a.device)?;
            let m = artifact.manifest.clone();
            let wanted: Vec<(String, TensorType)> = m.inputs.iter().map(|p| (p.name.clone(), m.buffers[p.buffer].ty.clone())).collect();
            let inputs = util::read(&files, &wanted)?;
            let mut runner = Runner::new(artifact, device::open_timed(&a.device)?)?;
            let ((out, r), times) = repeated(a.repeat, || runner.run(&inputs))?;
            (shown(out, &m.vocabulary), Some(r), times)
        }
        _ => run_model(&a, &files, &spin)?,
    };
    spin.finish_and_clear();
    let written = util::write_outputs(&a.output_dir, &outputs)?;
    if a.json {
        let map: serde_json::Map<_, _> = written.iter().map(|(n, p)| (n.clone(), json!(p.to_string_lossy()))).collect();
        let ms: Vec<f64> = times.iter().map(|t| t.as_secs_f64() * 1e3).collect();
        print_json(&json!({
            "outputs": map, "device": a.device, "report": report, "repeat_ms": ms, "peak_memory_bytes": tahoma::peak_rss_bytes(),
        }));
        return Ok(OK);
    }
    for ((name, path), (_, t)) in written.iter().zip(&outputs) {
        let what = match t {
            Array::Tensor(t) => t.ty().to_string(),
            Array::Text(t) => format!("string{:?} {}", t.shape, preview(&t.words)),
        };
        print(&format!("{}  {what}  -> {}", Line::of(name), path.display()));
    }
    if let Some(r) = report {
        print(&summary(&r));
    }
    if let (Some(min), Some(max)) = (times.first(), times.last()) {
        let ms = |d: &Duration| d.as_secs_f64() * 1e3;
        print(&format!("{} more runs: {:.1} to {:.1} ms, median {:.1} ms", times.len(), ms(min), ms(max), ms(&times[times.len() / 2])));
    }
    Ok(OK)
}

/// The first few strings.
fn preview(words: &[String]) -> String {
    let first: Vec<String> = words.iter().take(4).map(|w| format!("{w:?}")).collect();
    first.join(", ") + if words.len() > 4 { ", …" } else { "" }
}

fn run_model(a: &Run, files: &[(String, std::path::PathBuf)], spin: &indicatif::ProgressBar) -> Result<Ran, Diagnostics> {
    let compiler = util::compiler(&a.model, &a.given)?;
    let fixed = compiler.fixed().clone();
    let with = |texts| {
        let mut r = fixed.clone();
        r.texts.extend(texts);
        r
    };
    let Some(target) = target(a)? else {
        // Types of the inputs are only needed for raw arrays; without them the files are read by what they say.
        let tried = tahoma::model::attempt(&a.model, &fixed);
        let typed = tried.as_ref().map(|m| types(&m.program)).unwrap_or_default();
        let (inputs, texts) = util::read_all(files, &typed)?;
        let p = interp::prepare_after(texts.is_empty().then_some(tried), &a.model, &with(texts), &inputs)?;
        util::warn(&p.model.warnings);
        // One run reads each weight where it is used; several keep them, as an application would.
        let kept = Kept::new(&p.model.store);
        let weights: &dyn Weights = if a.repeat > 0 { &kept } else { &p.model.store };
        let (out, times) = repeated(a.repeat, || interp::evaluate_program(&p.model.program, &p.inputs, weights))?;
        return Ok((shown(out, &p.model.vocabulary), None, times));
    };
    let opened = device::open_timed(&a.device)?;
    let tried = tahoma::model::attempt(&a.model, &fixed);
    let (inputs, texts) = match &tried {
        Ok(m) => {
            // Wrong inputs are told in the model's own terms, before anything is compiled.
            let (inputs, texts) = util::read_all(files, &types(&m.program))?;
            if kind_of(&a.model)? != ModelKind::HuggingFace {
                tahoma_runtime::runner::match_inputs(&interp::inputs_of(&m.program), &inputs)?;
            }
            (inputs, texts)
        }
        Err(d) if d.0.iter().all(|d| d.code == "E0209") => util::read_all(files, &[])?,
        Err(d) => return Err(tahoma::model::advised(d.clone(), &a.model, &fixed)),
    };
    let p = interp::prepare_after(texts.is_empty().then_some(tried), &a.model, &with(texts), &inputs)?;
    let compiler = compiler.target(target.name()).request(&p.request).shapes_of(&p.inputs);
    let compiled = util::watched(compiler, spin, target.name()).compile()?;
    util::warn(&compiled.warnings);
    let mut runner = Runner::new(compiled.reload()?, opened)?;
    let ((out, r), times) = repeated(a.repeat, || runner.run(&p.inputs))?;
    Ok((shown(out, &compiled.manifest.vocabulary), Some(r), times))
}

/// What the model is compiled for: as asked, else the device's usual; nothing for the interpreter. E0501, E0701.
fn target(a: &Run) -> Result<Option<Target>, Diagnostic> {
    let usual = Target::of_device(&a.device);
    let Some(name) = &a.target else { return Ok(usual) };
    let target = Target::parse(name)?;
    if usual.is_none() {
        return Err(Diagnostic::error("E0701", format!("{} compiles nothing, so --target {name} means nothing", a.device))
            .note(format!("--device {} runs what is compiled for {name}", target.checked_by())));
    }
    fits(target.name(), &a.device)?;
    Ok(Some(target))
}

fn types(p: &tahoma_core::Program) -> Vec<(String, TensorType)> {
    interp::inputs_of(p).into_iter().map(|(n, t)| (n.to_string(), t.clone())).collect()
}

/// Whether a device runs a target's artifacts. E0701.
fn fits(target: &str, device: &str) -> Result<(), Diagnostic> {
    let row = device::find(device)?;
    if row.targets.is_empty() || row.targets.iter().any(|t| target.starts_with(t)) {
        return Ok(());
    }
    let others = device::DEVICES.iter().filter(|d| d.targets.is_empty() || d.targets.iter().any(|t| target.starts_with(t)));
    let names: Vec<_> = others.map(|d| d.name).collect();
    Err(Diagnostic::error("E0701", format!("the artifact is for {target}, which {device} does not run"))
        .note(format!("devices that do: {}", names.join(", "))))
}

/// One line on what a run took.
pub(crate) fn summary(r: &RunReport) -> String {
    let mut out =
        format!("{}: {} launches in {:.1} ms, host steps {:.1} ms", r.device, r.launches, r.launch_ns as f64 / 1e6, r.host_ns as f64 / 1e6);
    if r.device_ns > 0.0 {
        let of = if r.device == "ptx-emu" { " (predicted for an H100)" } else { "" };
        out += &format!("; device time {:.3} ms{of}", r.device_ns / 1e6);
    }
    out + &format!("; {} to the device, {} back", si(r.uploaded_bytes as f64, "B"), si(r.downloaded_bytes as f64, "B"))
}
