//! An artifact on disk against what its manifest says: each kernel beside its spec, on the values that it gets, and the whole beside
//! the model in the interpreter, where the model is at hand. For people who change a kernel and want to know what they did.

use crate::compare::{Difference, compare};
use crate::model::{Request, import, shapes_of};
use crate::{Target, interp, random};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tahoma_core::artifact::{Manifest, PlanStep};
use tahoma_core::{Diagnostic, Diagnostics, Tensor, TensorType, kernel_eval, tensor};
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
    /// Each kernel at its first launch.
    pub kernels: Vec<KernelVerdict>,
    /// Kernels that no step of this run launched: nothing is known of them.
    pub not_launched: Vec<String>,
    /// Outputs beside the model's.
    pub outputs: Vec<OutputVerdict>,
    /// Why there are none.
    pub not_compared: Option<String>,
    pub run: RunReport,
}

/// A kernel beside its spec: the worst of its outputs.
#[derive(Clone, Debug, Serialize)]
pub struct KernelVerdict {
    pub kernel: String,
    pub difference: Difference,
    /// The model's nodes behind it.
    pub nodes: Vec<String>,
}

/// An output beside the model's.
#[derive(Clone, Debug, Serialize)]
pub struct OutputVerdict {
    pub name: String,
    pub ty: String,
    pub difference: Difference,
}

/// Verifies the artifact in `dir`, edited or not. Errors: those of loading and running it; a model that is not at hand is none.
pub fn verify_artifact(dir: &Path, options: &ArtifactOptions) -> Result<ArtifactReport, Diagnostics> {
    let artifact = Artifact::load_edited(dir, options.weights.as_deref())?;
    let (m, edited) = (artifact.manifest.clone(), artifact.edited.clone());
    let target = Target::parse(&m.target)?;
    let device_name = if options.device.is_empty() { target.checked_by() } else { &options.device };
    let mut inputs = options.inputs.clone();
    for p in &m.inputs {
        if inputs.iter().all(|i| i.0 != p.name) {
            inputs.push((p.name.clone(), random::tensor(&p.name, &m.buffers[p.buffer].ty, options.seed)?));
        }
    }
    let mut runner = Runner::new(artifact, device::open(device_name)?)?;
    let mut seen: BTreeMap<usize, KernelVerdict> = BTreeMap::new();
    let (got, run) = runner.run_watched(
        &inputs,
        Some(&mut |step, ins, outs| {
            if let PlanStep::Launch { kernel, .. } = step
                && !seen.contains_key(kernel)
            {
                seen.insert(*kernel, beside_its_spec(&m, *kernel, ins, outs)?);
            }
            Ok(())
        }),
    )?;
    let not_launched = m.kernels.iter().enumerate().filter(|(i, _)| !seen.contains_key(i)).map(|(_, k)| k.name.clone()).collect();
    let (outputs, not_compared) = match beside_the_model(&m, &inputs, &got, options) {
        Ok(outputs) => (outputs, None),
        Err(why) => (vec![], Some(why)),
    };
    let kernels: Vec<KernelVerdict> = seen.into_values().collect();
    let agree = kernels.iter().all(|k| k.difference.agree) && outputs.iter().all(|o| o.difference.agree);
    Ok(ArtifactReport {
        model: m.model.clone(),
        target: m.target.clone(),
        device: device_name.into(),
        edited,
        agree,
        kernels,
        not_launched,
        outputs,
        not_compared,
        run,
    })
}

fn beside_its_spec(m: &Manifest, kernel: usize, ins: &[Tensor], outs: &[Tensor]) -> Result<KernelVerdict, Diagnostic> {
    let k = &m.kernels[kernel];
    let args: Vec<Tensor> = ins.iter().zip(&k.spec.inputs).map(|(t, ty)| shaped(t, ty)).collect();
    let want = kernel_eval::eval(&k.spec, &args).map_err(|e| Diagnostic::error("E0605", format!("kernel {:?}: {e}", k.name)))?;
    let all = outs.iter().zip(&want).map(|(g, w)| compare(&shaped(g, &w.ty()), w));
    let worst = all.reduce(|a, b| if (b.wrong, b.max_abs) > (a.wrong, a.max_abs) { b } else { a });
    let difference = worst.ok_or_else(|| Diagnostic::error("E0605", format!("kernel {:?} has no outputs", k.name)))?;
    Ok(KernelVerdict { kernel: k.name.clone(), difference, nodes: k.origin.leaves().iter().map(|o| o.to_string()).collect() })
}

/// The same bytes under the shape that the spec has.
fn shaped(t: &Tensor, ty: &TensorType) -> Tensor {
    match ty.shape.to_static() {
        Some(s) if s != t.shape() && s.iter().product::<usize>() == t.len() => {
            let c = t.contiguous();
            c.view(&s, &tensor::contiguous_strides(&s), c.offset())
        }
        _ => t.clone(),
    }
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
) -> Result<Vec<OutputVerdict>, String> {
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
    let one = |((name, g), (_, w)): (&(String, Tensor), &(String, Tensor))| OutputVerdict {
        name: name.clone(),
        ty: w.ty().to_string(),
        difference: compare(g, w),
    };
    Ok(got.iter().zip(&want).map(one).collect())
}
