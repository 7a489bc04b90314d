//! Diagnostics: what is wrong, where in the user's model, why, and what to do. One type for all stages, one table of codes.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Where a value or op comes from. Rewrites fuse origins, never drop them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub enum Origin {
    /// Made by the compiler for no single node (a test, a hand-written module).
    #[default]
    Unknown,
    /// A node of a model graph: file name, index in its graph, node name ("" where the model has none), op with its opset.
    Node { model: Arc<str>, index: u32, name: Arc<str>, op: Arc<str> },
    /// A tensor of a checkpoint, or a named value (initialiser, graph input).
    Tensor { model: Arc<str>, name: Arc<str> },
    /// Several origins that one rewrite joined.
    Fused { rule: Arc<str>, from: Vec<Arc<Origin>> },
}

/// Deepest nesting of joined origins. Each level is three of JSON's, of which a manifest's reader takes 128, branches included.
const MAX_NESTING: usize = 6;

impl Origin {
    /// Levels of joined origins in each other.
    fn nesting(&self) -> usize {
        match self {
            Origin::Fused { from, .. } => 1 + from.iter().map(|o| o.nesting()).max().unwrap_or(0),
            _ => 0,
        }
    }
    /// Joins origins under the name of the rewrite, without nesting equal rules or repeating parts. What is nested deep already comes
    /// in as the nodes behind it.
    pub fn fuse(rule: &str, parts: impl IntoIterator<Item = Arc<Origin>>) -> Origin {
        let mut from: Vec<Arc<Origin>> = Vec::new();
        for p in parts {
            match &*p {
                Origin::Unknown => {}
                Origin::Fused { rule: r, from: inner } if &**r == rule => {
                    for i in inner {
                        if !from.contains(i) {
                            from.push(i.clone());
                        }
                    }
                }
                _ if from.contains(&p) => {}
                _ => from.push(p),
            }
        }
        if from.iter().any(|p| p.nesting() >= MAX_NESTING) {
            let leaves = Origin::Fused { rule: rule.into(), from };
            from = leaves.leaves().into_iter().map(|o| Arc::new(o.clone())).collect();
        }
        match from.len() {
            0 => Origin::Unknown,
            1 => (*from[0]).clone(),
            _ => Origin::Fused { rule: rule.into(), from },
        }
    }
    /// The model nodes behind this origin, in order, each once.
    pub fn leaves(&self) -> Vec<&Origin> {
        let mut out = Vec::new();
        let mut stack = vec![self];
        while let Some(o) = stack.pop() {
            match o {
                Origin::Fused { from, .. } => stack.extend(from.iter().rev().map(|a| &**a)),
                Origin::Unknown => {}
                o if out.contains(&o) => {}
                o => out.push(o),
            }
        }
        out
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Unknown => f.write_str("<no source>"),
            Origin::Node { model, index, name, op } => {
                write!(f, "{model}  node {index}")?;
                if !name.is_empty() {
                    write!(f, "  {name:?}")?;
                }
                write!(f, "  ({op})")
            }
            Origin::Tensor { model, name } => write!(f, "{model}  tensor {name:?}"),
            Origin::Fused { from, .. } => {
                for (i, o) in from.iter().enumerate() {
                    if i > 0 {
                        f.write_str(" + ")?;
                    }
                    write!(f, "{o}")?;
                }
                Ok(())
            }
        }
    }
}

/// One entry of [`CODES`].
#[derive(Debug)]
pub struct CodeDef {
    pub code: &'static str,
    pub title: &'static str,
    /// What it means and what to do, for `tahoma explain CODE`.
    pub explanation: &'static str,
}

/// Looks a code up.
pub fn code(code: &str) -> Option<&'static CodeDef> {
    crate::codes::CODES.iter().find(|c| c.code.eq_ignore_ascii_case(code))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

/// A line under the message: an operand with its type and where it came from, and a mark under it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct Label {
    /// `A`, `weight`, …
    pub name: String,
    /// `f32[512, 64]  initializer "W"`
    pub text: String,
    /// Shown under `text`: `must be 768`; empty for none.
    pub mark: String,
}

/// One problem, as users read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct Diagnostic {
    /// A row of `CODES`, like `E0203`.
    pub code: String,
    pub severity: Severity,
    pub message: String,
    pub origin: Origin,
    pub labels: Vec<Label>,
    /// Reasons and remedies, one line each.
    pub notes: Vec<String>,
}

impl Diagnostic {
    pub fn error(code: &str, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            code: code.into(),
            severity: Severity::Error,
            message: message.into(),
            origin: Origin::Unknown,
            labels: vec![],
            notes: vec![],
        }
    }
    pub fn warning(code: &str, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(code, message) }
    }
    pub fn at(mut self, origin: Origin) -> Diagnostic {
        self.origin = origin;
        self
    }
    pub fn label(mut self, name: impl Into<String>, text: impl Into<String>, mark: impl Into<String>) -> Diagnostic {
        self.labels.push(Label { name: name.into(), text: text.into(), mark: mark.into() });
        self
    }
    pub fn note(mut self, note: impl Into<String>) -> Diagnostic {
        self.notes.push(note.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{kind}[{}]: {}", self.code, self.message)?;
        if self.origin != Origin::Unknown {
            write!(f, "\n  --> {}", self.origin)?;
        }
        let wide = self.labels.iter().map(|l| l.name.chars().count()).max().unwrap_or(0);
        for l in &self.labels {
            write!(f, "\n   |  {:wide$}  {}", l.name, l.text)?;
            if !l.mark.is_empty() {
                write!(f, "\n   |  {:wide$}  ^^^ {}", "", l.mark)?;
            }
        }
        for n in &self.notes {
            write!(f, "\n   = {n}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}

/// All problems a stage found, in the order found. Never empty as an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    pub fn push(&mut self, d: Diagnostic) {
        self.0.push(d);
    }
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|d| d.severity == Severity::Error)
    }
    /// `Ok(value)` unless an error was pushed.
    pub fn into_result<T>(self, value: T) -> Result<T, Diagnostics> {
        if self.has_errors() { Err(self) } else { Ok(value) }
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(d: Diagnostic) -> Diagnostics {
        Diagnostics(vec![d])
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, d) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n\n")?;
            }
            write!(f, "{d}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_of_many_rewrites_stay_shallow_and_lose_no_node() {
        let node = |i| Origin::Node { model: "m".into(), index: i, name: "".into(), op: "Add".into() };
        let mut o = node(0);
        for i in 1..200 {
            o = Origin::fuse(["a", "b", "c"][i as usize % 3], [Arc::new(o), Arc::new(node(i))]);
            assert!(o.nesting() <= MAX_NESTING, "{}", o.nesting());
        }
        assert_eq!(o.leaves().len(), 200);
    }
}
