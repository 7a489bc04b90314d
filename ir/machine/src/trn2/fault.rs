//! What a program may break.

use std::fmt;

/// A rule of the machine that the kernel breaks, or inputs that do not fit it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub struct Fault {
    /// Short name of the rule, stable for tests and reports.
    pub rule: &'static str,
    pub kernel: String,
    /// Line of the NKI text; 0 if the program was not parsed from text.
    pub line: u32,
    /// Instruction or statement.
    pub instruction: String,
    /// Operand keyword or tensor name; may be empty.
    pub operand: String,
    /// Limit and value.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel {}", self.kernel)?;
        if self.line > 0 {
            write!(f, ", line {}", self.line)?;
        }
        if !self.instruction.is_empty() {
            write!(f, ": {}", self.instruction)?;
        }
        if !self.operand.is_empty() {
            write!(f, ": {}", self.operand)?;
        }
        write!(f, ": {} [{}]", self.message, self.rule)
    }
}
