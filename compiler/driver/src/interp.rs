//! `--device interp`: a model run by its meaning, with no compiling at all.

use crate::model::{self, ModelKind, Request};
use std::path::Path;
use tahoma_core::{Diagnostic, Diagnostics, Program, Tensor, TensorType, eval};
use tahoma_frontend::Imported;
use tahoma_runtime::runner::match_inputs;

/// Inputs of the model, in order.
pub fn inputs_of(p: &Program) -> Vec<(&str, &TensorType)> {
    p.main().inputs.iter().map(|i| (&*i.name, p.main().ty(i.value))).collect()
}

/// A model read for given inputs.
pub struct Prepared {
    pub model: Imported,
    /// What had to be fixed for it to be read.
    pub request: Request,
    /// The inputs that are still inputs.
    pub inputs: Vec<(String, Tensor)>,
}

/// Most elements of an input that is taken as a constant where its value decides a shape.
const SMALL: usize = 64;

/// Whether a value may be sizes, axes or a choice: few elements in one row.
pub(crate) fn is_small(t: &Tensor) -> bool {
    t.len() <= SMALL && t.rank() <= 1
}

/// Imports a model for these inputs: as it is; where it needs numbers (E0209), with the shapes of the inputs; then with the values of
/// small vectors and scalars (axes, sizes, counts); then with all values. `fixed` holds from the start.
pub fn prepare(path: &Path, fixed: &Request, inputs: &[(String, Tensor)]) -> Result<Prepared, Diagnostics> {
    prepare_after(None, path, fixed, inputs)
}

/// [`prepare`] where [`model::attempt`] has tried `fixed` alone, with this result.
pub fn prepare_after(
    tried: Option<Result<Imported, Diagnostics>>,
    path: &Path,
    fixed: &Request,
    inputs: &[(String, Tensor)],
) -> Result<Prepared, Diagnostics> {
    let shaped = || {
        let mut r = Request { complete: true, ..fixed.clone() };
        r.shapes.extend(model::shapes_of(inputs));
        r
    };
    let with_values = |most: usize, rank: usize| {
        let mut r = shaped();
        for (n, t) in inputs.iter().filter(|(_, t)| t.len() <= most && t.rank() <= rank) {
            r.constants.insert(n.clone(), t.contiguous());
            r.shapes.remove(n);
        }
        r
    };
    if model::kind_of(path)? == ModelKind::HuggingFace {
        // A checkpoint has no shapes of its own; inputs it does not have are told by `evaluate`.
        let mut request = shaped();
        request.shapes.retain(|n, d| matches!(n.as_str(), "input_ids" | "attention_mask" | "token_type_ids") && d.len() == 2);
        return Ok(Prepared { model: model::import(path, &request)?, request, inputs: inputs.to_vec() });
    }
    let open = |d: &Diagnostics| d.0.iter().all(|d| d.code == "E0209");
    let mut attempts = vec![fixed.clone(), shaped(), with_values(SMALL, 1), with_values(usize::MAX, usize::MAX)].into_iter();
    let (mut tried, mut first) = (tried, None::<Diagnostics>);
    loop {
        let Some(request) = attempts.next() else {
            return Err(model::advised(first.unwrap_or_default(), path, fixed));
        };
        match tried.take().unwrap_or_else(|| model::attempt(path, &request)) {
            Ok(model) => {
                let left = inputs.iter().filter(|(n, _)| !request.constants.contains_key(n)).cloned().collect();
                return Ok(Prepared { model, request, inputs: left });
            }
            Err(d) if first.is_none() && !open(&d) => return Err(model::advised(d, path, fixed)),
            // Of several failures the first is in the model's own terms.
            Err(d) => {
                first.get_or_insert(d);
            }
        }
    }
}

/// Runs an imported model. E0601, E0602, E0606.
pub fn evaluate(m: &Imported, inputs: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, Diagnostic> {
    evaluate_program(&m.program, inputs, &m.store)
}

/// Runs any program of the model's ops.
pub fn evaluate_program(
    p: &Program,
    inputs: &[(String, Tensor)],
    weights: &dyn eval::Weights,
) -> Result<Vec<(String, Tensor)>, Diagnostic> {
    let given = match_inputs(&inputs_of(p), inputs)?;
    let out = eval::run(p, Program::MAIN, &given, weights)?;
    Ok(p.main().outputs.iter().map(|o| o.name.clone()).zip(out).collect())
}
