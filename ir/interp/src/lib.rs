//! Runs a module of the `ml` dialect by its meaning: text, verified by MLIR, to a program, to the op table's evaluation.
//!
//! It reads what `tahoma-mlir` reads: `ml` ops in `func.func`, calls of kernel functions and branches included, so every stage up to
//! and including `eqsat` runs here. Target modules do not: `trn` programs run in the NeuronCore simulator and gpu modules, as PTX, in
//! the emulator (both in `tahoma-sim`).

use tahoma_core::eval::{self, Weights};
use tahoma_core::{Diagnostic, Diagnostics, Program, Tensor};
use tahoma_mlir::{Module, Session};

/// Runs `@main` of a module on `inputs`, in order. Errors: E0902 (the module does not verify or has ops of other dialects), E0601
/// (another number of inputs), E0606 (an op cannot be evaluated on these values).
pub fn run_module(module: &Module, inputs: &[Tensor], weights: &dyn Weights) -> Result<Vec<Tensor>, Diagnostics> {
    let program = module.to_program()?;
    if !program.functions.contains_key(Program::MAIN) {
        return Err(Diagnostic::error("E0902", "the module has no function @main").into());
    }
    Ok(eval::run(&program, Program::MAIN, inputs, weights)?)
}

/// [`run_module`] on text; `name` stands for it in messages.
pub fn run_text(session: &Session, text: &str, name: &str, inputs: &[Tensor], weights: &dyn Weights) -> Result<Vec<Tensor>, Diagnostics> {
    run_module(&Module::parse(session, text, name)?, inputs, weights)
}
