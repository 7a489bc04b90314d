//! Every stage against the reference interpreter, on the same inputs.
//!
//! ```text
//! reference   the imported model, evaluated op by op
//! specialise  the program with its shapes fixed, evaluated
//! eqsat       the program of kernel functions, evaluated
//! DEVICE      the artifact, written, loaded and run: kernels on simulator, emulator or device, the rest from the op table
//! expect      what the caller expects, beside the reference and beside the device
//! ```
//!
//! Each element is judged by itself ([`crate::compare`]); where rounding must explain a difference, it is shown that it can
//! ([`rounding`]). An output on which agreement would say nothing leaves the verification inconclusive. Where a stage differs, the first
//! node or kernel that does is named with the model's nodes behind it.

pub(crate) mod draw;
pub mod judge;
pub(crate) mod locate;
pub mod rounding;

use crate::compare::Tolerance;
use crate::compiler::{Compiler, Outcome};
use crate::interp;
pub use judge::{Census, Explained, OutputReport, Verdict};
use judge::{Rule, census, judge};
pub use locate::{Fault, KernelCheck};
use rounding::Bound;
use std::path::{Path, PathBuf};
use tahoma_core::artifact::{Manifest, PlanStep};
use tahoma_core::{Diagnostic, Diagnostics, Tensor, eval, near};
use tahoma_runtime::runner::match_inputs;
use tahoma_runtime::{RunReport, Runner, device};

/// Whether and how far the stages agree.
#[derive(Clone, Debug, serde::Serialize)]
pub struct VerifyReport {
    pub model: String,
    pub target: String,
    pub device: String,
    /// Whether the stages may be called equal: the verdict is one of the agreements.
    pub agree: bool,
    /// The gravest of all stages, outputs and kernels.
    pub verdict: Verdict,
    /// Why not, one line each; empty where all agree.
    pub why: Vec<String>,
    /// What each output holds, by the reference.
    pub outputs: Vec<Output>,
    /// How inputs that were not given were drawn; empty if there are none.
    pub drawn: String,
    pub stages: Vec<StageReport>,
    /// The first stage that differs, if any.
    pub first_difference: Option<String>,
    /// In it the first node or kernel that differs, and the model's nodes behind it.
    pub fault: Option<Fault>,
    /// With `each_kernel`: how far every launch is from its meaning, in launch order.
    pub kernels: Vec<KernelCheck>,
    /// What the compiled model runs where.
    pub launches: usize,
    pub device_flops: u64,
    pub host_flops: u64,
    pub run: RunReport,
}

/// One output of the model.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Output {
    pub name: String,
    pub ty: String,
    pub census: Census,
    /// Whether a kernel had part in it; else the host made it, from the reference's own op table.
    pub by_kernel: bool,
}

#[derive(Clone, Debug, serde::Serialize)]
pub struct StageReport {
    pub stage: String,
    pub verdict: Verdict,
    /// Largest errors over all outputs.
    #[serde(with = "tahoma_core::float")]
    pub max_abs_err: f64,
    #[serde(with = "tahoma_core::float")]
    pub max_rel_err: f64,
    pub outputs: Vec<OutputReport>,
}

/// What to verify.
#[derive(Clone, Debug, Default)]
pub struct VerifyOptions {
    /// Given inputs; the others are drawn.
    pub inputs: Vec<(String, Tensor)>,
    /// What outputs must be, by name, whatever the reference says.
    pub expect: Vec<(String, Tensor)>,
    pub seed: u64,
    /// The device to run on; the target's simulator or emulator where empty.
    pub device: String,
    /// Compare every kernel with its meaning even where the outputs agree.
    pub each_kernel: bool,
    /// In place of the types' own; then nothing beyond it is explained by rounding.
    pub tolerance: Option<Tolerance>,
    /// Where the values of the first node or kernel that differs are written.
    pub keep: Option<PathBuf>,
}

/// Verifies a model for the target of `compiler` (whose shapes and numerics hold too).
pub fn verify(compiler: &Compiler, model: &Path, target: &str, options: &VerifyOptions) -> Result<VerifyReport, Diagnostics> {
    let target = crate::Target::parse(target)?;
    let device_name = if options.device.is_empty() { target.checked_by() } else { &options.device };
    let device = device::open(device_name)?;
    // The reference sees the model as the file has it, unless it needs shapes or values to be read at all.
    let fixed = compiler.clone().shapes_of(&options.inputs).import().or_else(|first| {
        // A small given input may decide what the shapes are: which branch runs, which axes.
        let small = options.inputs.iter().filter(|(_, t)| interp::is_small(t));
        let fixed = small.fold(compiler.clone().shapes_of(&options.inputs), |c, (n, t)| c.input_value(n, t.clone()));
        fixed.import().map_err(|_| first)
    });
    let (mut inputs, mut drawn) = (options.inputs.clone(), "");
    if let Ok(m) = &fixed {
        let missing = interp::inputs_of(&m.program).into_iter().any(|(n, _)| inputs.iter().all(|i| i.0 != n));
        if missing {
            let specialised = compiler.clone().shapes_of(&inputs).specialise(&m.program)?;
            let asked = |d: Diagnostic| crate::info::with_remedy(d.into(), model, compiler.fixed());
            let d = draw::draw(&specialised, &inputs, options.seed, &m.store).map_err(asked)?;
            (inputs, drawn) = (d.inputs, d.how);
        }
    } else if inputs.is_empty() {
        fixed?;
    }
    // Dimensions that the caller fixed stay fixed in the reference only where it needs them.
    let mut kept = compiler.fixed().clone();
    kept.shapes.clear();
    let prepared = interp::prepare(model, &kept, &inputs)?;
    let (store, inputs) = (prepared.model.store, prepared.inputs);
    let reference = &prepared.model.program;
    let want = interp::evaluate_program(reference, &inputs, &store)?;
    let expected = expected(&options.expect, &want)?;

    let compiler = compiler.clone().request(&prepared.request).shapes_of(&inputs);
    let fixed = compiler.import()?;
    let specialised = compiler.specialise(&fixed.program)?;
    // What rounding does is studied once, and only if something is beyond the tolerance.
    let mut studied: Option<Vec<Option<Bound>>> = None;
    let mut bound = |i: usize| {
        let all = studied.get_or_insert_with(|| {
            let given = match_inputs(&interp::inputs_of(&specialised), &inputs);
            let found = given.and_then(|g| rounding::study(&specialised, &g, &store, options.seed));
            found.unwrap_or_else(|d| {
                tracing::warn!("rounding cannot be studied: {d}");
                vec![]
            })
        });
        all.get(i).cloned().flatten()
    };
    let mut stages = vec![];
    // Folding shapes rounds nothing, and the study is of this very program: it explains nothing here.
    let got = interp::evaluate_program(&specialised, &inputs, &store)?;
    stages.push(stage("specialise", &got, &want, &mut Rule { tolerance: options.tolerance, bound: &mut |_| None }));
    let mut rule = Rule { tolerance: options.tolerance, bound: &mut bound };
    let (optimised, _) = compiler.eqsat(&specialised, target, &store)?;
    let got = interp::evaluate_program(&optimised, &inputs, &store)?;
    stages.push(stage("eqsat", &got, &want, &mut rule));

    let Outcome::Artifact(compiled) = compiler.target(target.name()).advance()? else {
        return Err(Diagnostic::error("E0701", "verify needs every stage").into());
    };
    let mut runner = Runner::new(compiled.reload()?, device)?;
    let (got, run) = runner.run(&inputs)?;
    stages.push(stage(device_name, &got, &want, &mut rule));
    if !expected.is_empty() {
        stages.push(beside("expect: interp", &want, &expected, &mut rule));
        stages.push(beside(&format!("expect: {device_name}"), &got, &expected, &mut rule));
    }

    let first_difference = stages.iter().find(|s| s.verdict == Verdict::Differs).map(|s| s.stage.clone());
    let (mut kernels, mut fault) = (vec![], None);
    let lost = first_difference.is_none() && stages.iter().any(|s| s.verdict == Verdict::Inconclusive);
    if options.each_kernel || lost || first_difference.as_deref() == Some(device_name) {
        (kernels, fault) = locate::check_kernels(&mut runner, &inputs)?;
    }
    match first_difference.as_deref() {
        Some("specialise") => fault = locate::first_node(reference, &specialised, false, &inputs, &store)?,
        Some("eqsat") => fault = locate::first_node(reference, &optimised, true, &inputs, &store)?,
        _ => {}
    }
    if let (Some(f), Some(dir)) = (&mut fault, &options.keep) {
        f.keep(dir, target.name())?;
    }
    let m = &compiled.manifest;
    let outputs: Vec<Output> = want
        .iter()
        .map(|(name, t)| Output {
            name: name.clone(),
            ty: t.ty().to_string(),
            census: census(t, options.tolerance),
            by_kernel: by_kernel(m, name),
        })
        .collect();
    let (verdict, mut why) = conclude(&stages, &outputs, fault.as_ref());
    if lost && fault.is_none() {
        why.push(format!("what roundings leave cannot be judged; {}", kernels_beside_their_specs(&kernels)));
    }
    Ok(VerifyReport {
        model: m.model.clone(),
        target: target.name().into(),
        device: device_name.into(),
        agree: verdict.is_agreement(),
        verdict,
        why,
        outputs,
        drawn: drawn.into(),
        stages,
        first_difference,
        fault,
        kernels: if options.each_kernel { kernels } else { vec![] },
        launches: m.report.launches,
        device_flops: m.report.device_flops,
        host_flops: m.report.host_flops,
        run,
    })
}

/// How many launches agree with what their kernels mean.
fn kernels_beside_their_specs(kernels: &[KernelCheck]) -> String {
    let good = kernels.iter().filter(|k| k.verdict.is_agreement()).count();
    format!("{good} of {} launches agree with their kernels' specs on the inputs that they got", kernels.len())
}

/// The gravest verdict, and the reasons of all that are no agreement.
fn conclude(stages: &[StageReport], outputs: &[Output], fault: Option<&Fault>) -> (Verdict, Vec<String>) {
    let mut verdict = stages.iter().map(|s| s.verdict).max().unwrap_or(Verdict::Inconclusive);
    let mut why = vec![];
    for s in stages {
        for o in s.outputs.iter().filter(|o| !o.verdict.is_agreement()) {
            why.push(format!("{}, output {:?}: {}", s.stage, o.name, o.why));
        }
        if s.outputs.is_empty() {
            verdict = verdict.max(Verdict::Inconclusive);
            why.push(format!("{}: there are no outputs to compare", s.stage));
        }
    }
    if let Some(f) = fault {
        verdict = Verdict::Differs;
        why.push(format!("{}: {}", f.what, f.detail));
    }
    for o in outputs {
        if !o.census.vacuous.is_empty() {
            verdict = verdict.max(Verdict::Inconclusive);
            why.push(format!("output {:?}: {}, which says nothing of the computation", o.name, o.census.vacuous));
        } else if !o.by_kernel {
            verdict = verdict.max(Verdict::Inconclusive);
            why.push(format!("output {:?} is made by no kernel: the host makes it as the reference does", o.name));
        }
    }
    (verdict, why)
}

/// Values that the caller expects, each of an output that there is. E0701.
fn expected(given: &[(String, Tensor)], want: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, Diagnostic> {
    for (name, _) in given {
        if want.iter().all(|w| w.0 != *name) {
            let mut d = Diagnostic::error("E0701", format!("the model has no output {name:?} to expect"));
            d.notes = near::notes(name, "outputs", want.iter().map(|w| w.0.as_str()));
            return Err(d);
        }
    }
    Ok(given.to_vec())
}

fn stage(name: &str, got: &[(String, Tensor)], want: &[(String, Tensor)], rule: &mut Rule) -> StageReport {
    let mut r = StageReport { stage: name.into(), verdict: Verdict::Agrees, max_abs_err: 0.0, max_rel_err: 0.0, outputs: vec![] };
    if got.len() != want.len() {
        r.verdict = Verdict::Differs;
    }
    for (i, ((name, g), (_, w))) in got.iter().zip(want).enumerate() {
        r.add(judge(i, name, g, w, rule));
    }
    r
}

/// A stage of the expected outputs alone.
fn beside(name: &str, got: &[(String, Tensor)], expected: &[(String, Tensor)], rule: &mut Rule) -> StageReport {
    let mut r = StageReport { stage: name.into(), verdict: Verdict::Agrees, max_abs_err: 0.0, max_rel_err: 0.0, outputs: vec![] };
    for (name, w) in expected {
        if let Some(i) = got.iter().position(|g| g.0 == *name) {
            r.add(judge(i, name, &got[i].1, w, rule));
        }
    }
    r
}

impl StageReport {
    fn add(&mut self, o: OutputReport) {
        self.verdict = self.verdict.max(o.verdict);
        self.max_abs_err = self.max_abs_err.max(o.difference.max_abs);
        self.max_rel_err = self.max_rel_err.max(o.difference.max_rel);
        self.outputs.push(o);
    }
}

/// Whether any launch of the plan, in either branch of a choice, has part in an output.
fn by_kernel(m: &Manifest, output: &str) -> bool {
    let root = |b: usize| m.buffers[b].alias.unwrap_or(b);
    let mut made = vec![false; m.buffers.len()];
    fn walk(m: &Manifest, steps: &[PlanStep], made: &mut [bool]) {
        let root = |b: usize| m.buffers[b].alias.unwrap_or(b);
        for s in steps {
            let mut by = matches!(s, PlanStep::Launch { .. }) || s.inputs().iter().any(|&b| made[root(b)]);
            if let PlanStep::If { then, otherwise, .. } = s {
                for b in [then, otherwise] {
                    walk(m, &b.steps, made);
                    by |= b.results.iter().any(|&r| made[root(r)]);
                }
            }
            if let PlanStep::Loop { steps, .. } = s {
                walk(m, steps, made);
                by |= steps.iter().flat_map(PlanStep::outputs).any(|&r| made[root(r)]);
            }
            s.outputs().iter().for_each(|&o| made[root(o)] |= by);
        }
    }
    walk(m, &m.run, &mut made);
    m.outputs.iter().any(|o| o.name == output && made[root(o.buffer)])
}

/// A program's outputs with no weights, for tests of steps.
pub fn run_plain(p: &tahoma_core::Program, inputs: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, Diagnostic> {
    interp::evaluate_program(p, inputs, &eval::NoWeights)
}
