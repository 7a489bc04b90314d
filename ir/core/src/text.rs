//! Text at the edges of a program. No op computes with strings: a tensor of strings is an `i64` tensor of places in a vocabulary, which
//! is gathered when a model is read, so that moving, choosing and comparing text are the ops on numbers.

use crate::tensor::Tensor;
use crate::types::DType;
use serde::{Deserialize, Serialize};

/// A tensor of strings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct Text {
    pub shape: Vec<usize>,
    /// Row-major, as many as the shape has elements.
    pub words: Vec<String>,
}

impl Text {
    /// `None` where the shape has another number of elements.
    pub fn new(shape: &[usize], words: Vec<String>) -> Option<Text> {
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        (count == Some(words.len())).then(|| Text { shape: shape.to_vec(), words })
    }
}

/// The strings of a program, and which of its outputs are text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct Vocabulary {
    pub words: Vec<String>,
    /// Names of outputs that hold places in `words`.
    pub outputs: Vec<String>,
}

impl Vocabulary {
    pub fn is_empty(&self) -> bool {
        self.words.is_empty() && self.outputs.is_empty()
    }
    /// The strings that output `name` stands for; `None` where it is no text, or a place is out of range.
    pub fn text(&self, name: &str, places: &Tensor) -> Option<Text> {
        if places.dtype() != DType::I64 || !self.outputs.iter().any(|o| o == name) {
            return None;
        }
        let word = |i: &i64| usize::try_from(*i).ok().and_then(|i| self.words.get(i)).cloned();
        Text::new(places.shape(), places.to_ints()?.iter().map(word).collect::<Option<_>>()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_become_words() {
        let v = Vocabulary { words: vec!["a".into(), "b".into()], outputs: vec!["y".into()] };
        let y = Tensor::i64(&[2, 1], vec![1, 0]);
        assert_eq!(v.text("y", &y), Text::new(&[2, 1], vec!["b".into(), "a".into()]));
        assert_eq!(v.text("z", &y), None);
        assert_eq!(v.text("y", &Tensor::i64(&[1], vec![2])), None);
        assert_eq!(Text::new(&[3], vec![]), None);
    }
}
