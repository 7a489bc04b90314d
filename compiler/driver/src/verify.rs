//! Every stage against the reference interpreter, on the same inputs.
//!
//! ```text
//! reference   the imported model, evaluated op by op
//! specialise  the program with its shapes fixed, evaluated
//! eqsat       the program of kernel functions, evaluated
//! DEVICE      the artifact, run: kernels on simulator, emulator or device, the rest from the op table
//! ```
//!
//! Where the device differs, each kernel is run again beside its meaning on the same inputs, and the first that differs is named with
//! the model's nodes behind it.

use crate::compare::{Difference, compare};
use crate::compiler::{Compiler, Outcome};
use crate::{interp, random};
use std::path::Path;
use tahoma_core::artifact::{Manifest, PlanStep};
use tahoma_core::{DType, Diagnostic, Diagnostics, Tensor, eval, kernel_eval};
use tahoma_runtime::{RunReport, Runner, device};

/// Whether and how far the stages agree.
#[derive(Clone, Debug, serde::Serialize)]
pub struct VerifyReport {
    pub model: String,
    pub target: String,
    pub device: String,
    pub agree: bool,
    pub stages: Vec<StageReport>,
    /// The first stage that differs, if any.
    pub first_difference: Option<String>,
    /// The first kernel that differs from its meaning, and the model's nodes behind it.
    pub kernel: Option<KernelFault>,
    /// With `each_kernel`: how far every launch is from its meaning, in launch order.
    pub kernels: Vec<KernelCheck>,
    /// What the compiled model runs where.
    pub launches: usize,
    pub device_flops: u64,
    pub host_flops: u64,
    pub run: RunReport,
}

#[derive(Clone, Debug, serde::Serialize)]
pub struct StageReport {
    pub stage: String,
    pub agree: bool,
    /// Largest errors over all outputs.
    pub max_abs_err: f64,
    pub max_rel_err: f64,
    pub outputs: Vec<OutputReport>,
}

#[derive(Clone, Debug, serde::Serialize)]
pub struct OutputReport {
    pub name: String,
    pub ty: String,
    pub difference: Difference,
}

/// One launch beside its meaning, on the inputs it got.
#[derive(Clone, Debug, serde::Serialize)]
pub struct KernelCheck {
    pub kernel: String,
    /// Largest |a − b|, and that as a share of the output's largest magnitude.
    pub max_abs_err: f64,
    pub of_largest: f64,
}

#[derive(Clone, Debug, serde::Serialize)]
pub struct KernelFault {
    pub kernel: String,
    pub nodes: Vec<String>,
    pub detail: String,
    /// Largest |a − b| of the output that differs.
    pub max_abs_err: f64,
    /// By how much the kernel's meaning itself moves when each float it reads moves by one unit in the last place. Within some tens of
    /// the difference, the inputs are at fault (a variance that cancels, say), and rounding explains it.
    pub moves: f64,
}

/// What to verify.
#[derive(Clone, Debug, Default)]
pub struct VerifyOptions {
    /// Given inputs; the others are random.
    pub inputs: Vec<(String, Tensor)>,
    pub seed: u64,
    /// The device to run on; the target's simulator or emulator where empty.
    pub device: String,
    /// Compare every kernel with its meaning even where the outputs agree.
    pub each_kernel: bool,
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
    let mut inputs = options.inputs.clone();
    if let Ok(m) = &fixed {
        for (name, ty) in interp::inputs_of(&m.program) {
            if inputs.iter().all(|i| i.0 != name) {
                inputs.push((name.to_string(), random::tensor(name, ty, options.seed)?));
            }
        }
    } else if inputs.is_empty() {
        fixed?;
    }
    // Dimensions that the caller fixed stay fixed in the reference only where it needs them.
    let mut kept = compiler.fixed().clone();
    kept.shapes.clear();
    let prepared = interp::prepare(model, &kept, &inputs)?;
    let (store, inputs) = (prepared.model.store, prepared.inputs);
    let want = interp::evaluate_program(&prepared.model.program, &inputs, &store)?;

    let compiler = compiler.clone().request(&prepared.request).shapes_of(&inputs);
    let fixed = compiler.import()?;
    let mut stages = vec![];
    let specialised = compiler.specialise(&fixed.program)?;
    let got = interp::evaluate_program(&specialised, &inputs, &store)?;
    stages.push(stage("specialise", &got, &want));
    let (optimised, _) = compiler.eqsat(&specialised, target, &store)?;
    let got = interp::evaluate_program(&optimised, &inputs, &store)?;
    stages.push(stage("eqsat", &got, &want));

    let Outcome::Artifact(compiled) = compiler.target(target.name()).advance()? else {
        return Err(Diagnostic::error("E0701", "verify needs every stage").into());
    };
    let mut runner = Runner::new(compiled.artifact(), device)?;
    let (got, run) = runner.run(&inputs)?;
    stages.push(stage(device_name, &got, &want));
    let first_difference = stages.iter().find(|s| !s.agree).map(|s| s.stage.clone());
    let device_wrong = stages.last().is_some_and(|s| !s.agree);
    let (kernels, kernel) = if device_wrong || options.each_kernel { check_kernels(&mut runner, &inputs)? } else { (vec![], None) };
    let report = &compiled.manifest.report;
    Ok(VerifyReport {
        model: compiled.manifest.model.clone(),
        target: target.name().into(),
        device: device_name.into(),
        agree: first_difference.is_none() && kernel.is_none(),
        stages,
        first_difference,
        kernel,
        kernels: if options.each_kernel { kernels } else { vec![] },
        launches: report.launches,
        device_flops: report.device_flops,
        host_flops: report.host_flops,
        run,
    })
}

fn stage(name: &str, got: &[(String, Tensor)], want: &[(String, Tensor)]) -> StageReport {
    let mut r = StageReport { stage: name.into(), agree: got.len() == want.len(), max_abs_err: 0.0, max_rel_err: 0.0, outputs: vec![] };
    for ((name, g), (_, w)) in got.iter().zip(want) {
        let d = compare(g, w);
        r.agree &= d.agree;
        r.max_abs_err = r.max_abs_err.max(d.max_abs);
        r.max_rel_err = r.max_rel_err.max(d.max_rel);
        r.outputs.push(OutputReport { name: name.clone(), ty: w.ty().to_string(), difference: d });
    }
    r
}

/// Runs again, each kernel beside its meaning on the inputs it got; the second part is the first that differs.
fn check_kernels(runner: &mut Runner, inputs: &[(String, Tensor)]) -> Result<(Vec<KernelCheck>, Option<KernelFault>), Diagnostics> {
    let m: Manifest = runner.manifest().clone();
    let (mut checks, mut found): (Vec<KernelCheck>, Option<KernelFault>) = (vec![], None);
    runner.run_watched(
        inputs,
        Some(&mut |step, ins, outs| {
            let PlanStep::Launch { kernel, .. } = step else { return Ok(()) };
            let k = &m.kernels[*kernel];
            let shaped: Vec<Tensor> = ins.iter().zip(&k.spec.inputs).map(|(t, ty)| reshaped(t, ty)).collect();
            let want = kernel_eval::eval(&k.spec, &shaped).map_err(|e| Diagnostic::error("E0901", format!("{}: {e}", k.name)))?;
            let mut check = KernelCheck { kernel: k.name.clone(), max_abs_err: 0.0, of_largest: 0.0 };
            for (i, (g, w)) in outs.iter().zip(&want).enumerate() {
                let d = compare(&reshaped(g, &w.ty()), w);
                let top = w.to_f64s().iter().filter(|v| v.is_finite()).fold(0.0f64, |m, v| m.max(v.abs()));
                check.max_abs_err = check.max_abs_err.max(d.max_abs);
                check.of_largest = check.of_largest.max(if top > 0.0 { d.max_abs / top } else { 0.0 });
                if !d.agree && found.is_none() {
                    let nudged: Vec<Tensor> = shaped.iter().map(nudge).collect();
                    let moved = kernel_eval::eval(&k.spec, &nudged).map_err(|e| Diagnostic::error("E0901", format!("{}: {e}", k.name)))?;
                    found = Some(KernelFault {
                        max_abs_err: d.max_abs,
                        moves: moved.get(i).map_or(0.0, |m| compare(m, w).max_abs),
                        kernel: k.name.clone(),
                        nodes: k.origin.leaves().iter().map(|o| o.to_string()).collect(),
                        detail: format!("output {i}: {} of {} elements differ, by up to {:.3e}", d.wrong, w.len(), d.max_abs),
                    });
                }
            }
            checks.push(check);
            Ok(())
        }),
    )?;
    Ok((checks, found))
}

/// Every f32 moved by one unit in the last place, up and down in turn.
fn nudge(t: &Tensor) -> Tensor {
    if t.dtype() != DType::F32 {
        return t.clone();
    }
    let bits = t.to_bytes();
    let words = bits.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]]));
    let moved = words.enumerate().map(|(i, x)| match (x.is_finite() && x != 0.0, i % 2) {
        (false, _) => x,
        (true, 0) => x.next_up(),
        (true, _) => x.next_down(),
    });
    Tensor::f32(t.shape(), moved.collect())
}

fn reshaped(t: &Tensor, ty: &tahoma_core::TensorType) -> Tensor {
    match ty.shape.to_static() {
        Some(s) if s != t.shape() && s.iter().product::<usize>() == t.len() => {
            let c = t.contiguous();
            c.view(&s, &tahoma_core::tensor::contiguous_strides(&s), c.offset())
        }
        _ => t.clone(),
    }
}

/// A program's outputs with no weights, for tests of steps.
pub fn run_plain(p: &tahoma_core::Program, inputs: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, Diagnostic> {
    interp::evaluate_program(p, inputs, &eval::NoWeights)
}
