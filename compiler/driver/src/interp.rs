//! `--device interp`: a model run by its meaning, with no compiling at all.

use crate::model::{self, Request};
use std::path::Path;
use tahoma_core::{Diagnostic, Diagnostics, Program, Tensor, TensorType, eval};
use tahoma_frontend::Imported;
use tahoma_runtime::runner::match_inputs;

/// Inputs of the model, in order.
pub fn inputs_of(p: &Program) -> Vec<(&str, &TensorType)> {
    p.main().inputs.iter().map(|i| (&*i.name, p.main().ty(i.value))).collect()
}

/// Imports a model for these inputs: as it is, or, where it needs them, with their shapes fixed.
pub fn import_for(path: &Path, inputs: &[(String, Tensor)]) -> Result<Imported, Diagnostics> {
    let hf = model::kind_of(path)? == model::ModelKind::HuggingFace;
    let fixed = Request { shapes: model::shapes_of(inputs), ..Request::default() };
    if hf {
        // A checkpoint has no shapes of its own; inputs it does not have are told by `evaluate`.
        let tokens = |n: &String| matches!(n.as_str(), "input_ids" | "attention_mask" | "token_type_ids");
        let shapes = fixed.shapes.into_iter().filter(|(n, d)| tokens(n) && d.len() == 2).collect();
        return model::import(path, &Request { shapes, ..Request::default() });
    }
    match model::import(path, &Request::default()) {
        Err(d) if d.0.iter().all(|d| d.code == "E0209") => model::import(path, &fixed),
        other => other,
    }
}

/// Runs an imported model. E0601, E0602, E0606.
pub fn evaluate(m: &Imported, inputs: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, Diagnostic> {
    evaluate_program(&m.program, inputs, &m.store)
}

/// Runs any program of the model's ops.
pub fn evaluate_program(p: &Program, inputs: &[(String, Tensor)], weights: &dyn eval::Weights) -> Result<Vec<(String, Tensor)>, Diagnostic> {
    let given = match_inputs(&inputs_of(p), inputs)?;
    let out = eval::run(p, Program::MAIN, &given, weights)?;
    Ok(p.main().outputs.iter().map(|o| o.name.clone()).zip(out).collect())
}
