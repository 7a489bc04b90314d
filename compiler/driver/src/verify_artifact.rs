//! An artifact on disk against what its manifest says: each kernel beside its spec, on the values that it gets, and the whole beside
//! the model in the interpreter, where the model is at hand. For people who change a kernel and want to know what they did.

use crate::compare::Difference;
use crate::model::{Request, import, shapes_of};
use crate::verify::draw::draw_for_plan;
use crate::verify::judge::{OutputReport, Rule, Verdict, census, judge};
use crate::verify::locate;
use crate::verify::rounding::{Bound, study};
use crate::{Target, interp};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tahoma_core::artifact::{Manifest, PlanStep};
use tahoma_core::{Diagnostic, Diagnostics, Tensor};
use tahoma_runtime::runner::match_inputs;
use tahoma_runtime::{Artifact, RunReport, Runner, device};

/// What to verify an artifact with.
#[derive(Clone, Debug, Default)]
pub struct ArtifactOptions {
    /// Given inputs; the others are random.
    pub inputs: Vec<(String, Tensor)>,
    pub seed: u64,
    /// The device to run on; the target's simulator or emulator where empty.
    pub device: String,
    /// Folder of the weights, if the model's files moved.
    pub weights: Option<PathBuf>,
    /// The model that was compiled; where the manifest says its weights are, if none is given.
    pub model: Option<PathBuf>,
    /// What was fixed when it was compiled, besides the shapes of its inputs.
    pub fixed: Request,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct ArtifactReport {
    pub model: String,
    pub target: String,
    pub device: String,
    /// Files that are not as the compiler wrote them.
    pub edited: Vec<String>,
    /// Whether every kernel that ran agrees with its spec, and the outputs with the model where it was at hand.
    pub agree: bool,
    /// The gravest of all kernels and outputs; inconclusive where no kernel ran.
    pub verdict: Verdict,
    /// Each kernel at its first launch.
    pub kernels: Vec<KernelVerdict>,
    /// Kernels that no step of this run launched: nothing is known of them.
    pub not_launched: Vec<String>,
    /// Outputs beside the model's.
    pub outputs: Vec<OutputReport>,
    /// Why there are none.
    pub not_compared: Option<String>,
    pub run: RunReport,
}

/// A kernel beside its spec: the worst of its outputs.
#[derive(Clone, Debug, Serialize)]
pub struct KernelVerdict {
    pub kernel: String,
    pub verdict: Verdict,
    /// Of a verdict other than `agrees`: why.
    pub why: String,
    pub difference: Difference,
    /// The model's nodes behind it.
    pub nodes: Vec<String>,
}

/// Verifies the artifact in `dir`, edited or not. Errors: those of loading and running it; a model that is not at hand is none.
pub fn verify_artifact(dir: &Path, options: &ArtifactOptions) -> Result<ArtifactReport, Diagnostics> {
    let artifact = Artifact::load_edited(dir, options.weights.as_deref())?;
    let (m, edited) = (artifact.manifest.clone(), artifact.edited.clone());
    let target = Target::parse(&m.target)?;
    let device_name = if options.device.is_empty() { target.checked_by() } else { &options.device };
    let mut runner = Runner::new(artifact, device::open(device_name)?)?;
    let mut seen: BTreeMap<usize, KernelVerdict> = BTreeMap::new();
    let mut run = |inputs: &[(String, Tensor)]| {
        seen.clear();
        runner.run_watched(
            inputs,
            Some(&mut |step, ins, outs| {
                if let PlanStep::Launch { kernel, .. } = step
                    && !seen.contains_key(kernel)
                {
                    seen.insert(*kernel, beside_its_spec(&m, *kernel, ins, outs)?);
                }
                Ok(())
            }),
        )
    };
    let mut inputs = draw_for_plan(&m, &options.inputs, options.seed, false)?;
    let (got, run) = match run(&inputs) {
        Ok(out) => out,
        // A model may add an offset to an index, or use integers in ways not seen here: then plain ones.
        Err(first) => {
            let plain = draw_for_plan(&m, &options.inputs, options.seed, true)?;
            if plain == inputs {
                return Err(first.into());
            }
            inputs = plain;
            run(&inputs)?
        }
    };
    let not_launched = m.kernels.iter().enumerate().filter(|(i, _)| !seen.contains_key(i)).map(|(_, k)| k.name.clone()).collect();
    let (outputs, not_compared) = match beside_the_model(&m, &inputs, &got, options) {
        Ok(outputs) => (outputs, None),
        Err(why) => (vec![], Some(why)),
    };
    let kernels: Vec<KernelVerdict> = seen.into_values().collect();
    let all = kernels.iter().map(|k| k.verdict).chain(outputs.iter().map(|o| o.verdict)).max();
    let verdict = all.filter(|_| !kernels.is_empty()).unwrap_or(Verdict::Inconclusive);
    Ok(ArtifactReport {
        model: m.model.clone(),
        target: m.target.clone(),
        device: device_name.into(),
        edited,
        agree: verdict.is_agreement(),
        verdict,
        kernels,
        not_launched,
        outputs,
        not_compared,
        run,
    })
}

fn beside_its_spec(m: &Manifest, kernel: usize, ins: &[Tensor], outs: &[Tensor]) -> Result<KernelVerdict, Diagnostic> {
    let k = &m.kernels[kernel];
    let all = locate::beside_its_spec(k, ins, outs)?.outputs.into_iter();
    let rank = |o: &OutputReport| (o.verdict, o.difference.wrong);
    let worst = all.reduce(|a, b| if rank(&b) > rank(&a) { b } else { a });
    let o = worst.ok_or_else(|| Diagnostic::error("E0605", format!("kernel {:?} has no outputs", k.name)))?;
    let nodes = k.origin.leaves().iter().map(|o| o.to_string()).collect();
    Ok(KernelVerdict { kernel: k.name.clone(), verdict: o.verdict, why: o.why, difference: o.difference, nodes })
}

/// The model that an artifact was compiled from, where the manifest says where its files were.
fn recorded(m: &Manifest) -> Option<PathBuf> {
    let base = PathBuf::from(&m.weights_base);
    if m.weights_base.is_empty() {
        return None;
    }
    if base.join("config.json").is_file() { Some(base) } else { Some(base.join(&m.model)).filter(|p| p.is_file()) }
}

/// Outputs beside those of the model in the interpreter; or why not.
fn beside_the_model(
    m: &Manifest,
    inputs: &[(String, Tensor)],
    got: &[(String, Tensor)],
    options: &ArtifactOptions,
) -> Result<Vec<OutputReport>, String> {
    let path = options.model.clone().or_else(|| recorded(m)).ok_or("the model is not at hand: name it with --model")?;
    let said = |d: Diagnostics| d.0.first().map_or_else(String::new, |d| d.message.clone());
    let prepared = interp::prepare(&path, &options.fixed, inputs).map_err(said);
    // Where a model is read only with all its inputs' shapes, they are those of the artifact.
    let (model, inputs) = match prepared {
        Ok(p) => (p.model, p.inputs),
        Err(first) => {
            let request = Request { shapes: shapes_of(inputs), ..options.fixed.clone() };
            (import(&path, &request).map_err(|_| first)?, inputs.to_vec())
        }
    };
    let want = interp::evaluate(&model, &inputs).map_err(|d| format!("{}: {}", path.display(), d.message))?;
    let names = |all: &[(String, Tensor)]| all.iter().map(|o| o.0.clone()).collect::<Vec<_>>();
    if names(&want) != names(got) {
        return Err(format!("{} has other outputs than the artifact", path.display()));
    }
    let mut bounds: Option<Vec<Option<Bound>>> = None;
    let mut bound = |i: usize| {
        let study = || {
            let wanted = interp::inputs_of(&model.program);
            match_inputs(&wanted, &inputs).and_then(|g| study(&model.program, &g, &model.store, options.seed)).unwrap_or_default()
        };
        bounds.get_or_insert_with(study).get(i).cloned().flatten()
    };
    let mut rule = Rule { tolerance: None, bound: &mut bound };
    let mut out = vec![];
    for (i, ((name, g), (_, w))) in got.iter().zip(&want).enumerate() {
        let mut r = judge(i, name, g, w, &mut rule);
        let census = census(w, None);
        if r.verdict.is_agreement() && !census.vacuous.is_empty() {
            (r.verdict, r.why) = (Verdict::Inconclusive, format!("{}, which says nothing of the computation", census.vacuous));
        }
        out.push(r);
    }
    Ok(out)
}
