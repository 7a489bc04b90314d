//! What must hold of any bytes that somebody gives as a model: a coded diagnostic or a program that evaluates or refuses. For the
//! tests and the fuzz target.

use tahoma_core::{Diagnostic, Port, Tensor, TensorType, eval};
use tahoma_frontend::{Budget, ImportOptions, Imported, import_onnx_bytes};

/// Imports, and evaluates what is small.
///
/// # Panics
/// Where the reader or an op does, or where an error has no code or says that Tahoma itself is wrong.
pub(crate) fn read_and_run(bytes: Vec<u8>) {
    // Smaller than the default budget, so that one input takes milliseconds; what is bounded is the same.
    let budget = Budget { nodes: 10_000, elements: 1 << 24, trips: 64, ..Budget::default() };
    let options = ImportOptions { budget, ..ImportOptions::default() };
    match import_onnx_bytes("m.onnx", bytes.into(), &options) {
        Err(d) => {
            let ours = |d: &Diagnostic| tahoma_core::diag::code(&d.code).is_none() || d.code == "E0901";
            assert!(!d.0.is_empty() && !d.0.iter().any(ours), "{d}");
        }
        Ok(m) => evaluate(&m),
    }
}

/// Evaluates a small model on zeros: it may refuse, but not panic.
fn evaluate(m: &Imported) {
    let main = m.program.main();
    let small = |t: &TensorType| t.shape.elements().is_some_and(|n| n < 5_000);
    let all = || m.program.functions.values().flat_map(|g| &g.types);
    // A loop may run as often as its model says, which is no fault of anybody's.
    let loops = m.program.functions.values().flat_map(|g| &g.nodes).any(|n| n.op.name == "loop");
    if !loops && all().all(|t| !t.shape.is_static() || small(t)) && main.inputs.iter().all(|p| small(main.ty(p.value))) {
        let zeros = |p: &Port| {
            let t = main.ty(p.value);
            Tensor::full(t.dtype, &t.shape.to_static().unwrap_or_default(), 0.0)
        };
        let inputs: Vec<Tensor> = main.inputs.iter().map(zeros).collect();
        let _ = eval::run(&m.program, "main", &inputs, &m.store);
    }
}
