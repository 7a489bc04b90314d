//! Diagnostics: what is wrong, where in the user's model, why, and what to do. One type for all stages, one table of codes.

use crate::escape::Line;
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
        match from.len() {
            0 => Origin::Unknown,
            1 => (*from[0]).clone(),
            _ => Origin::Fused { rule: rule.into(), from }.bounded(),
        }
    }
    /// Levels of joined origins in each other.
    fn depth(&self) -> usize {
        match self {
            Origin::Fused { from, .. } => 1 + from.iter().map(|o| o.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }
    /// Itself; where joined origins are too deep in each other, the nodes and tensors behind it alone.
    pub fn bounded(self) -> Origin {
        match &self {
            Origin::Fused { rule, .. } if self.depth() > MAX_NESTING => {
                Origin::Fused { rule: rule.clone(), from: self.leaves().into_iter().map(|o| Arc::new(o.clone())).collect() }
            }
            _ => self,
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

/// One line that may stand anywhere: names of the model are escaped.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Unknown => f.write_str("<no source>"),
            Origin::Node { model, index, name, op } => {
                write!(f, "{}  node {index}", Line::of(model))?;
                if !name.is_empty() {
                    write!(f, "  {}", Line::of(&format!("{name:?}")))?;
                }
                write!(f, "  ({})", Line::of(op))
            }
            Origin::Tensor { model, name } => write!(f, "{}  tensor {}", Line::of(model), Line::of(&format!("{name:?}"))),
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

/// The error that a [`Diagnostic`] was made of: a file that could not be read, a fault of a kernel, a driver's refusal. It is
/// [`std::error::Error::source`] of the diagnostic. Two causes are equal if they read the same.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct Cause(Arc<dyn std::error::Error + Send + Sync>);

impl PartialEq for Cause {
    fn eq(&self, other: &Cause) -> bool {
        self.to_string() == other.to_string()
    }
}
impl Eq for Cause {}

/// One problem, as users read it. `Debug` prints what `Display` prints, so a `main` that returns it is readable.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
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
    /// The error it was made of; not written to files.
    #[serde(skip)]
    #[source]
    #[cfg_attr(test, arbitrary(default))]
    pub cause: Option<Cause>,
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
            cause: None,
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
    /// Keeps the error that this was made of as its source.
    pub fn caused_by(mut self, cause: impl std::error::Error + Send + Sync + 'static) -> Diagnostic {
        self.cause = Some(Cause(Arc::new(cause)));
        self
    }
    pub fn note(mut self, note: impl Into<String>) -> Diagnostic {
        self.notes.push(note.into());
        self
    }
}

/// For people, on a terminal: whatever the parts hold of the model's strings is escaped, each part is one line.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{kind}[{}]: {}", Line::of(&self.code), Line::of(&self.message))?;
        if self.origin != Origin::Unknown {
            write!(f, "\n  --> {}", self.origin)?;
        }
        let names: Vec<Line> = self.labels.iter().map(|l| Line::of(&l.name)).collect();
        let wide = names.iter().map(|n| n.as_str().chars().count()).max().unwrap_or(0).min(40);
        for (l, name) in self.labels.iter().zip(names) {
            write!(f, "\n   |  {name:wide$}  {}", Line::of(&l.text))?;
            if !l.mark.is_empty() {
                write!(f, "\n   |  {:wide$}  ^^^ {}", "", Line::of(&l.mark))?;
            }
        }
        for n in &self.notes {
            write!(f, "\n   = {}", Line::of(n))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// All problems a stage found, in the order found. Never empty as an error. `Debug` prints what `Display` prints.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
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

impl fmt::Debug for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;

    #[test]
    fn origins_of_many_rewrites_stay_shallow_and_lose_no_node() {
        let node = |i| Origin::Node { model: "m".into(), index: i, name: "".into(), op: "Add".into() };
        let mut o = node(0);
        for i in 1..200 {
            o = Origin::fuse(["a", "b", "c"][i as usize % 3], [Arc::new(o), Arc::new(node(i))]);
            assert!(o.depth() <= MAX_NESTING, "{}", o.depth());
        }
        assert_eq!(o.leaves().len(), 200);
    }

    #[test]
    fn a_main_that_returns_a_diagnostic_is_readable_and_the_source_is_kept() {
        let io = std::io::Error::from(std::io::ErrorKind::NotFound);
        let d = Diagnostic::error("E0101", format!("cannot read m.onnx: {io}")).note("check the path").caused_by(io);
        assert_eq!(format!("{d:?}"), "error[E0101]: cannot read m.onnx: entity not found\n   = check the path");
        assert_eq!(d.source().map(ToString::to_string), Some("entity not found".into()));
        let all = Diagnostics(vec![d.clone(), d.clone()]);
        assert_eq!(format!("{all:?}"), format!("{d}\n\n{d}"));
        // What is written to files has no cause, and reads back.
        let back: Diagnostic = serde_json::from_str(&serde_json::to_string(&d).unwrap()).unwrap();
        assert_eq!((back.cause.is_none(), back.to_string()), (true, d.to_string()));
    }

    #[test]
    fn origins_that_rewrites_join_again_and_again_can_be_read_back() {
        let node = |i: u32| Arc::new(Origin::Node { model: "m".into(), index: i, name: "n".into(), op: "Relu".into() });
        let mut o = node(0);
        for i in 1..500 {
            o = Arc::new(Origin::fuse(["a", "b"][i as usize % 2], [o, node(i)]));
        }
        assert_eq!(o.leaves().len(), 500);
        let text = serde_json::to_string(&*o).unwrap();
        assert_eq!(serde_json::from_str::<Origin>(&text).unwrap(), *o);
    }

    #[test]
    fn a_diagnostic_is_lines_of_ours_whatever_the_model_says() {
        for h in crate::escape::hostile() {
            let d = Diagnostic::error("E0201", h.clone())
                .at(Origin::Node { model: h.as_str().into(), index: 1, name: h.as_str().into(), op: h.as_str().into() })
                .label(h.clone(), h.clone(), h.clone())
                .note(h.clone());
            let text = d.to_string();
            assert_eq!(text, crate::escape::lines(&text));
            assert!(text.lines().all(|l| ["error[", "  --> ", "   |  ", "   = "].iter().any(|o| l.starts_with(o))), "{text}");
        }
    }
}
