//! Modules: MLIR text that a session has verified, and the way to and from programs.

use crate::{Session, reader, writer};
use tahoma_core::op::InferArgs;
use tahoma_core::{Diagnostic, Diagnostics, Graph, Kind, Program, TensorType};

/// A verified module: its text in MLIR's generic form, with locations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    text: String,
}

impl Module {
    /// Parses and verifies. `name` stands for the text in messages. Errors: E0902 with MLIR's words.
    pub fn parse(session: &Session, text: &str, name: &str) -> Result<Module, Diagnostics> {
        Ok(Module { text: session.normalise(text, name)? })
    }
    /// The program's module. Errors: E0902 if MLIR refuses it, which is a fault of ours.
    pub fn from_program(session: &Session, program: &Program) -> Result<Module, Diagnostics> {
        Module::parse(session, &writer::program(program), "the module of a program")
    }
    /// The program a module means. Errors: E0902 where it holds what our dialects do not have.
    pub fn to_program(&self) -> Result<Program, Diagnostics> {
        let program = reader::program(&self.text)?;
        verify_program(&program)?;
        Ok(program)
    }
    /// The text.
    pub fn print(&self) -> &str {
        &self.text
    }
}

/// Every result type against `OpDef::infer`, attributes and operands against the table. Errors: all problems, each with its origin.
pub fn verify_program(program: &Program) -> Result<(), Diagnostics> {
    let mut problems = Diagnostics::default();
    for g in program.functions.values() {
        for n in &g.nodes {
            if let Err(d) = verify_node(program, g, n) {
                problems.push(d.at((*n.origin).clone()));
            }
        }
    }
    problems.into_result(())
}

fn verify_node(program: &Program, g: &Graph, n: &tahoma_core::Node) -> Result<(), Diagnostic> {
    tahoma_core::graph::check_signature(n.op.0, n.operands.len(), &n.attrs).map_err(|e| Diagnostic::error("E0902", e.message))?;
    let operands: Vec<TensorType> = n.operands.iter().map(|&v| g.ty(v).clone()).collect();
    let have: Vec<&TensorType> = n.results.iter().map(|&v| g.ty(v)).collect();
    if matches!(n.op.kind, Kind::Structure) {
        for f in n.attrs.0.values() {
            if let tahoma_core::Attr::Func(f) = f
                && !program.functions.contains_key(&**f)
            {
                return Err(Diagnostic::error("E0902", format!("ml.{} names @{f}, which is not in the module", n.op.name)));
            }
        }
        return Ok(());
    }
    if n.op.name == "weight" {
        return Ok(());
    }
    let consts = constants(g, n);
    let consts: Vec<Option<&tahoma_core::Tensor>> = consts.iter().map(|c| c.as_deref()).collect();
    let args = InferArgs { operands: &operands, attrs: &n.attrs, consts: &consts, fresh: "?" };
    let want = (n.op.infer)(&args).map_err(|e| Diagnostic::error("E0902", format!("ml.{}: {e}", n.op.name)))?;
    let fits = want.len() == have.len()
        && want.iter().zip(&have).all(|(w, h)| {
            w.dtype == h.dtype
                && w.rank() == h.rank()
                && w.shape.0.iter().zip(&h.shape.0).all(|(p, q)| match (p.known(), q.known()) {
                    (Some(p), Some(q)) => p == q,
                    _ => true,
                })
        });
    if fits {
        return Ok(());
    }
    let list = |t: &[String]| t.join(", ");
    let (want, have): (Vec<String>, Vec<String>) =
        (want.iter().map(|t| t.to_string()).collect(), have.iter().map(|t| t.to_string()).collect());
    Err(Diagnostic::error("E0902", format!("ml.{} gives {}, but its type says {}", n.op.name, list(&want), list(&have))))
}

/// Operands that are constants of the same graph.
fn constants(g: &Graph, n: &tahoma_core::Node) -> Vec<Option<std::sync::Arc<tahoma_core::Tensor>>> {
    n.operands
        .iter()
        .map(|v| {
            g.nodes.iter().find(|m| m.op.name == "constant" && m.results.first() == Some(v)).and_then(|m| m.attrs.tensor("value").cloned())
        })
        .collect()
}

#[cfg(test)]
mod tests;
