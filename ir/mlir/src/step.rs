//! Steps and pipelines: each boundary can be printed, verified, timed and judged in the same way.
//!
//! Steps work on a [`Program`]; its module is made only where a boundary is dumped or verified, so a plain compile pays for no text.

use crate::{Module, Session, verify_program};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tahoma_core::{Diagnostic, Diagnostics, Program};

/// One step over a program.
pub struct Step<'a> {
    /// A verb: `specialise`, `eqsat`.
    pub name: &'static str,
    pub doc: &'static str,
    pub run: Box<dyn FnMut(&mut Program) -> Result<(), Diagnostics> + 'a>,
}

impl Step<'static> {
    /// A textual MLIR pass pipeline as a step. IRDL ops have no effects, so MLIR's passes treat `ml` ops as opaque: they move and drop
    /// functions and attributes, not `ml` ops. The result must be a program again.
    pub fn passes(name: &'static str, doc: &'static str, pipeline: &'static str) -> Step<'static> {
        let run = move |p: &mut Program| {
            let session = Session::new()?;
            *p = Module::from_program(&session, p)?.run_passes(&session, pipeline)?.to_program()?;
            Ok(())
        };
        Step { name, doc, run: Box::new(run) }
    }
}

/// What one step took.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    pub name: &'static str,
    pub time: Duration,
}

/// Judges the program after a step (the reference interpreter, say). Errors end the pipeline and name the step.
pub type Check<'a> = Box<dyn FnMut(&str, &Program) -> Result<(), Diagnostics> + 'a>;

/// How to run steps.
#[derive(Default)]
pub struct Pipeline<'a> {
    pub steps: Vec<Step<'a>>,
    /// Ends after this step.
    pub stop_after: Option<String>,
    /// Writes `NN-name.mlir` after each step.
    pub dump: Option<PathBuf>,
    /// Verifies after each step: ours, and MLIR's by a round trip through its text.
    pub verify_each: bool,
    pub check_each: Option<Check<'a>>,
    /// Number of the first step in dump names.
    pub first: usize,
}

impl Pipeline<'_> {
    /// Runs the steps in order. Errors: the first step's that fails, E0701 where `stop_after` is no step, E0702 where a dump cannot be
    /// written, or E0901/E0902 naming the step whose result does not verify, with a reproducer written beside the dumps (or to the
    /// temporary folder).
    pub fn run(&mut self, program: &mut Program) -> Result<Vec<StepReport>, Diagnostics> {
        if let Some(stop) = &self.stop_after
            && self.steps.iter().all(|s| s.name != stop)
        {
            let names: Vec<_> = self.steps.iter().map(|s| s.name).collect();
            return Err(Diagnostic::error("E0701", format!("no step {stop:?}")).note(format!("steps are {}", names.join(", "))).into());
        }
        let mut reports = vec![];
        let session = if self.dump.is_some() || self.verify_each { Some(Session::new()?) } else { None };
        for (i, step) in self.steps.iter_mut().enumerate() {
            let before = self.verify_each.then(|| program.clone());
            let start = Instant::now();
            (step.run)(program)?;
            reports.push(StepReport { name: step.name, time: start.elapsed() });
            if let Some(session) = &session {
                let checked = boundary(session, program, step.name, self.verify_each);
                let module = checked.map_err(|d| blame(step.name, d, before.as_ref(), self.dump.as_ref()))?;
                if let Some(dir) = &self.dump {
                    write(&dir.join(format!("{:02}-{}.mlir", self.first + i, step.name)), module.print())?;
                }
            }
            if let Some(check) = &mut self.check_each {
                check(step.name, program).map_err(|mut d| {
                    d.0.iter_mut().for_each(|d| d.notes.push(format!("found after step {}", step.name)));
                    d
                })?;
            }
            if self.stop_after.as_deref() == Some(step.name) {
                break;
            }
        }
        Ok(reports)
    }
}

/// The module of a program after a step; with `verify`, after all checks.
fn boundary(session: &Session, program: &Program, step: &str, verify: bool) -> Result<Module, Diagnostics> {
    if verify {
        verify_program(program)?;
    }
    let module = Module::from_program(session, program)?;
    if verify && Module::from_program(session, &module.to_program()?)? != module {
        return Err(Diagnostic::error("E0901", format!("step {step} made a module that does not print back equal")).into());
    }
    Ok(module)
}

fn write(path: &std::path::Path, text: &str) -> Result<(), Diagnostics> {
    let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(path, text));
    Ok(written.map_err(|e| Diagnostic::error("E0702", format!("cannot write {}: {e}", path.display())).caused_by(e))?)
}

/// Names the step at fault, and writes what it was given.
fn blame(step: &str, mut d: Diagnostics, before: Option<&Program>, dump: Option<&PathBuf>) -> Diagnostics {
    let reproducer = before.and_then(|p| {
        let module = Module::from_program(&Session::new().ok()?, p).ok()?;
        let path = dump.cloned().unwrap_or_else(std::env::temp_dir).join(format!("tahoma-before-{step}.mlir"));
        write(&path, module.print()).ok()?;
        Some(path)
    });
    for x in &mut d.0 {
        x.notes.push(format!("found after step {step}: a fault of Tahoma, please report it"));
        if let Some(r) = &reproducer {
            x.notes.push(format!("reproducer: tahoma opt {} --steps {step} --verify-each", r.display()));
        }
    }
    d
}

#[cfg(test)]
mod tests;
