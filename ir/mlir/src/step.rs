//! Steps and pipelines: each boundary can be printed, verified, timed and judged in the same way.

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
    /// Runs the steps in order. Errors: the first step's that fails, or E0901 naming the step whose result does not verify.
    pub fn run(&mut self, program: &mut Program) -> Result<Vec<StepReport>, Diagnostics> {
        let mut reports = vec![];
        let session = if self.dump.is_some() || self.verify_each { Some(Session::new()?) } else { None };
        for (i, step) in self.steps.iter_mut().enumerate() {
            let start = Instant::now();
            (step.run)(program)?;
            reports.push(StepReport { name: step.name, time: start.elapsed() });
            if let Some(session) = &session {
                let module = Module::from_program(session, program).map_err(|d| blame(step.name, d))?;
                if let Some(dir) = &self.dump {
                    let path = dir.join(format!("{:02}-{}.mlir", self.first + i, step.name));
                    let written = std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&path, module.print()));
                    written.map_err(|e| Diagnostic::error("E0702", format!("cannot write {}: {e}", path.display())))?;
                }
                if self.verify_each {
                    verify_program(program).map_err(|d| blame(step.name, d))?;
                    let back = module.to_program().map_err(|d| blame(step.name, d))?;
                    let again = Module::from_program(session, &back).map_err(|d| blame(step.name, d))?;
                    if again != module {
                        return Err(
                            Diagnostic::error("E0901", format!("step {} made a module that does not print back equal", step.name)).into()
                        );
                    }
                }
            }
            if let Some(check) = &mut self.check_each {
                check(step.name, program)?;
            }
            if self.stop_after.as_deref() == Some(step.name) {
                break;
            }
        }
        Ok(reports)
    }
}

fn blame(step: &str, mut d: Diagnostics) -> Diagnostics {
    for x in &mut d.0 {
        x.notes.push(format!("found after step {step}: a fault of Tahoma, please report it"));
    }
    d
}
