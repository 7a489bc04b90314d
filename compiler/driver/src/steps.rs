//! `tahoma opt`: any steps on any module of the `ml` dialect, for snapshot tests and for looking at one step alone.

use crate::target::with_session;
use crate::{Numerics, Target, specialise};
use std::path::{Path, PathBuf};
use tahoma_core::{Diagnostic, Diagnostics, Program, near};
use tahoma_mlir::{Module, Pipeline, Step};

#[derive(Clone, Debug)]
pub struct Options {
    /// Whose costs `eqsat` uses.
    pub target: String,
    pub numerics: Numerics,
    pub verify_each: bool,
    pub dump: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Options {
        Options { target: "trn2".into(), numerics: Numerics::default(), verify_each: false, dump: None }
    }
}

/// A step: its name, what it does, and how.
pub struct StepDef {
    pub name: &'static str,
    pub doc: &'static str,
    run: fn(&mut Program, &Options) -> Result<(), Diagnostics>,
}

/// The steps that a pipeline can name.
pub static STEPS: &[StepDef] = &[
    StepDef {
        name: "specialise",
        doc: "Folds shape arithmetic and constants; dynamic ops with constant operands become static.",
        run: run_specialise,
    },
    StepDef { name: "eqsat", doc: "Equality saturation for the target: cheaper ops, grouped into kernel functions.", run: run_eqsat },
];

fn run_specialise(p: &mut Program, _: &Options) -> Result<(), Diagnostics> {
    *p = specialise(p, &mut |_, ty| crate::Known::Type(ty.clone()))?;
    Ok(())
}

fn run_eqsat(p: &mut Program, o: &Options) -> Result<(), Diagnostics> {
    let target = Target::parse(&o.target)?;
    let mut options = tahoma_eqsat::Options::new(target.cost());
    options.numerics = o.numerics;
    *p = tahoma_eqsat::optimize(p, &options)?.0;
    Ok(())
}

/// Runs steps by name on a module's text and prints the result. E0701 for a name that is no step.
pub fn run_text(text: &str, name: &str, steps: &[String], options: &Options) -> Result<String, Diagnostics> {
    let mut chosen = vec![];
    for s in steps {
        let Some(def) = STEPS.iter().find(|d| d.name == s) else {
            let mut d = Diagnostic::error("E0701", format!("no step {s:?}"));
            d.notes = near::notes(s, "steps", STEPS.iter().map(|d| d.name));
            return Err(d.into());
        };
        chosen.push(Step { name: def.name, doc: def.doc, run: Box::new(move |p| (def.run)(p, options)) });
    }
    let mut program = with_session(|s| Module::parse(s, text, name)?.to_program())?;
    if !chosen.is_empty() && !program.functions.contains_key(Program::MAIN) {
        return Err(no_main(name, &program).into());
    }
    let mut pipeline = Pipeline { steps: chosen, dump: options.dump.clone(), verify_each: options.verify_each, ..Pipeline::default() };
    pipeline.run(&mut program)?;
    crate::print_program(&program)
}

/// A module of functions of which none is the model.
pub(crate) fn no_main(name: &str, program: &Program) -> Diagnostic {
    let all: Vec<String> = program.functions.keys().map(|f| format!("@{f}")).collect();
    let d = Diagnostic::error("E0902", format!("{name} has no function @main, which is the model"));
    if all.is_empty() { d.note("it has no function at all") } else { d.note(format!("it has {}", all.join(", "))) }
}

/// [`run_text`] on a file.
pub fn run_file(path: &Path, steps: &[String], options: &Options) -> Result<String, Diagnostics> {
    let bytes = tahoma_core::file::read(path, crate::model::MOST_TEXT)?;
    let text =
        std::str::from_utf8(&bytes).map_err(|e| Diagnostic::error("E0902", format!("{} is not text: {e}", path.display())).caused_by(e))?;
    run_text(text, &path.display().to_string(), steps, options)
}
