//! Strings while a model is read: each different one has a place in a vocabulary, and a tensor of strings is the tensor of places.

use super::context::{Context, R, V};
use super::frame::Slot;
use super::importer::Importer;
use crate::proto::TensorProto;
use std::collections::{BTreeSet, HashMap};
use tahoma_core::{Diagnostic, OpError, Tensor, Text, Vocabulary};

/// Code of strings among ONNX's element types.
pub(crate) const STRING: i32 = 8;

/// Operators that move or choose elements without reading them: their text operands and all their results are text.
const MOVES: &[&str] = &[
    "Identity",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "Expand",
    "Tile",
    "Concat",
    "Split",
    "Slice",
    "Gather",
    "GatherElements",
    "GatherND",
    "ScatterElements",
    "ScatterND",
    "Where",
    "Compress",
    "ReverseSequence",
    "DepthToSpace",
    "SpaceToDepth",
    "ArrayFeatureExtractor",
];

/// Operators that see of text only its extents, or whether strings are the same.
const READS: &[&str] = &["Shape", "Size", "Equal"];

/// Whether an operand of an operator in [`MOVES`] or [`READS`] is what it moves or reads, and not an index, an extent or a condition.
fn is_data(name: &str, i: usize) -> bool {
    match name {
        "Concat" | "Equal" => true,
        "Where" => i == 1 || i == 2,
        "ScatterElements" | "ScatterND" => i == 0 || i == 2,
        _ => i == 0,
    }
}

/// Text operands as what they are made of, where the operator moves or reads text; whether its results are then text. Strings and
/// numbers do not mix.
pub(super) fn places(name: &str, slots: &mut [Option<Slot>]) -> R<bool> {
    let is_text = |s: &Option<Slot>| matches!(s, Some(Slot::Text(_)));
    let moves = MOVES.contains(&name);
    if !slots.iter().any(is_text) || !moves && !READS.contains(&name) {
        return Ok(false);
    }
    if let Some(i) = (0..slots.len()).find(|&i| slots[i].is_some() && is_text(&slots[i]) != is_data(name, i)) {
        let what = if is_text(&slots[i]) { "strings, where numbers are due" } else { "numbers among strings" };
        return Err(OpError::dtype(format!("operand {i} is {what}")).mark(i, what));
    }
    for s in slots.iter_mut().flatten() {
        if let Slot::Text(v) = s {
            *s = Slot::Value(*v);
        }
    }
    Ok(moves)
}

/// The different strings met so far, in the order they were met.
#[derive(Default)]
pub(super) struct Words {
    pub(super) all: Vec<String>,
    places: HashMap<String, i64>,
    /// Outputs that are text.
    pub(super) outputs: BTreeSet<String>,
}

impl Words {
    pub(super) fn place(&mut self, word: &str) -> i64 {
        if let Some(&p) = self.places.get(word) {
            return p;
        }
        let p = self.all.len() as i64;
        self.places.insert(word.to_string(), p);
        self.all.push(word.to_string());
        p
    }
    /// What outputs need of it.
    pub(super) fn finish(self) -> Vocabulary {
        if self.outputs.is_empty() {
            return Vocabulary::default();
        }
        Vocabulary { words: self.all, outputs: self.outputs.into_iter().collect() }
    }
}

/// A tensor of strings of the file; bytes that are not UTF-8 are refused. E0206, E0107.
pub(crate) fn read(t: &TensorProto, what: &str, budget: u64) -> Result<Text, Diagnostic> {
    let bad = |why: String| Diagnostic::error("E0206", format!("{what}: {why}"));
    if t.string_data.len() as u64 > budget {
        return Err(Diagnostic::error("E0107", format!("{what} has more than {budget} strings")));
    }
    let dims: Option<Vec<usize>> = t.dims.iter().map(|&d| usize::try_from(d).ok()).collect();
    let dims = dims.ok_or_else(|| bad(format!("extents {:?} are none", t.dims)))?;
    let words: Result<Vec<String>, _> = t.string_data.iter().map(|s| std::str::from_utf8(s).map(str::to_string)).collect();
    let words = words.map_err(|e| bad(format!("a string is not UTF-8: {e}")).caused_by(e))?;
    let count = words.len();
    Text::new(&dims, words).ok_or_else(|| bad(format!("extents {dims:?} do not fit {count} strings")))
}

impl Importer<'_> {
    /// Strings as a constant of places.
    pub(super) fn text_value(&mut self, t: &Text) -> Slot {
        let places = t.words.iter().map(|w| self.words.place(w)).collect();
        Slot::Text(self.builder().constant(Tensor::i64(&t.shape, places)))
    }
}

impl Context<'_, '_> {
    /// The `i`-th operand, which must be text.
    pub(super) fn text(&self, i: usize) -> R<V> {
        match self.slots.get(i) {
            Some(Some(Slot::Text(v))) => Ok(*v),
            _ => Err(OpError::dtype(format!("operand {} must be a tensor of strings", self.formal(i)))),
        }
    }
    /// The strings of the `i`-th operand, which must be known now.
    pub(super) fn need_text(&self, i: usize) -> R<Text> {
        let v = self.text(i)?;
        let t = self.constant_of(v).ok_or_else(|| self.not_constant(i))?;
        let places = t.to_ints().ok_or_else(|| OpError::new("E0901", "text must be places"))?;
        let word = |p: i64| self.imp.words.all.get(p as usize).cloned().ok_or_else(|| OpError::new("E0901", "a place of no word"));
        let words = places.into_iter().map(word).collect::<R<_>>()?;
        Text::new(t.shape(), words).ok_or_else(|| OpError::new("E0901", "text with another number of words"))
    }
    pub(super) fn words(&mut self, shape: &[usize], words: Vec<String>) -> R<Slot> {
        let t = Text::new(shape, words).ok_or_else(|| OpError::shape("the strings do not fill their shape"))?;
        Ok(self.imp.text_value(&t))
    }
}
