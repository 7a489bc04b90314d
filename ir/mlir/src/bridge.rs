//! Modules: MLIR text that a session has verified, and the way to and from programs.

use crate::{Session, reader, writer};
use tahoma_core::{Diagnostics, Program, verify};

/// A verified module: its text in MLIR's generic form, with locations. Modules are equal when their texts are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    text: String,
}

impl Module {
    /// Parses and verifies. `name` stands for the text in messages and locations. Errors: E0902 with MLIR's words.
    pub fn parse(session: &Session, text: &str, name: &str) -> Result<Module, Diagnostics> {
        Ok(Module { text: session.normalise(text, name)? })
    }
    /// The program's module. Errors: E0902 if MLIR refuses it, which is a fault of ours.
    pub fn from_program(session: &Session, program: &Program) -> Result<Module, Diagnostics> {
        Module::parse(session, &writer::program(program), "a program's module")
    }
    /// The program a module means. Errors: E0902 where it holds what our dialects do not have, or where types do not fit (all of them).
    pub fn to_program(&self) -> Result<Program, Diagnostics> {
        let (program, places) = reader::program(&self.text)?;
        verify::verify_placed(&program, &places)?;
        Ok(program)
    }
    /// The text: generic form, with locations.
    pub fn print(&self) -> &str {
        &self.text
    }
    /// The text as people write it: custom syntax, with or without locations. Errors: E0901 if MLIR cannot read its own text.
    pub fn pretty(&self, session: &Session, locations: bool) -> Result<String, Diagnostics> {
        session.pretty(&self.text, locations)
    }
    /// Runs a textual MLIR pass pipeline, `builtin.module(symbol-dce)` say. Errors: E0901 for a pipeline that is no pipeline or fails.
    pub fn run_passes(&self, session: &Session, pipeline: &str) -> Result<Module, Diagnostics> {
        Ok(Module { text: session.rewrite(&self.text, pipeline)? })
    }
}

#[cfg(test)]
mod random;
#[cfg(test)]
mod tests;
