//! Names in scope while a graph is walked, and what they are bound to.
//!
//! A *frame* is one function being built; a *scope* is one ONNX graph within it (an inlined branch, an unrolled loop body, an inlined
//! function). Branches that stay branches have a frame of their own; what they use of the outside becomes their arguments.

use crate::proto::AttributeProto;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use tahoma_core::{Builder, ValueId};

/// What an ONNX name stands for.
#[derive(Clone, Debug)]
pub(super) enum Slot {
    Value(ValueId),
    /// A tensor of strings: the `i64` tensor of their places among the importer's words.
    Text(ValueId),
    /// A sequence of tensors, known element by element.
    Sequence(Vec<ValueId>),
    /// An optional: empty, or something.
    Optional(Option<Box<Slot>>),
    /// Could not be made; the reason was reported.
    Unknown,
    /// Not made by our form of the operator; the words say so if somebody uses it.
    Missing(Arc<str>),
}

/// A name's slot, and where it comes from in words: `initializer`, `from node 38 (Reshape)`.
#[derive(Clone, Debug)]
pub(super) struct Binding {
    pub(super) slot: Slot,
    pub(super) source: Arc<str>,
}

/// The names of one ONNX graph.
#[derive(Default)]
pub(super) struct Scope<'m> {
    pub(super) names: HashMap<String, Binding>,
    /// Function bodies do not see the names around them.
    pub(super) isolated: bool,
    /// Operator set version by domain.
    pub(super) opsets: Rc<HashMap<String, i64>>,
    /// Attributes of the function call being inlined, for `ref_attr_name`.
    pub(super) attrs: Rc<HashMap<&'m str, &'m AttributeProto>>,
    /// For origins: `Foo: ` inside a function.
    pub(super) within: Arc<str>,
}

/// One function of the program while it is built.
pub(super) struct Frame<'m> {
    pub(super) builder: Builder,
    pub(super) scopes: Vec<Scope<'m>>,
    /// Values of the frame outside that this one uses, with the inputs they became.
    pub(super) captures: Vec<(ValueId, ValueId)>,
    pub(super) weights: HashMap<ValueId, String>,
}

impl Frame<'_> {
    pub(super) fn new(name: &str) -> Self {
        Frame { builder: Builder::new(name), scopes: vec![], captures: vec![], weights: HashMap::new() }
    }
}

/// Looks a name up from the innermost frame outwards; what lies outside the innermost frame is captured, frame by frame.
pub(super) fn lookup(frames: &mut [Frame], name: &str) -> Option<Binding> {
    let (last, outer) = frames.split_last_mut()?;
    for scope in last.scopes.iter().rev() {
        if let Some(b) = scope.names.get(name) {
            return Some(b.clone());
        }
        if scope.isolated {
            return None;
        }
    }
    let mut binding = lookup(outer, name)?;
    let from = outer.last()?;
    binding.slot = capture(from, last, binding.slot);
    Some(binding)
}

fn capture(from: &Frame, into: &mut Frame, slot: Slot) -> Slot {
    let mut one = |v: ValueId| {
        if let Some(t) = from.builder.constant_of(v) {
            return into.builder.constant((**t).clone());
        }
        if let Some(name) = from.weights.get(&v) {
            let w = into.builder.weight(name, from.builder.ty(v).clone());
            into.weights.insert(w, name.clone());
            return w;
        }
        if let Some((_, inner)) = into.captures.iter().find(|c| c.0 == v) {
            return *inner;
        }
        let inner = into.builder.input(&format!("captured{}", into.captures.len()), from.builder.ty(v).clone());
        into.captures.push((v, inner));
        inner
    };
    match slot {
        Slot::Value(v) => Slot::Value(one(v)),
        Slot::Text(v) => Slot::Text(one(v)),
        Slot::Sequence(vs) => Slot::Sequence(vs.into_iter().map(one).collect()),
        Slot::Optional(Some(s)) => Slot::Optional(Some(Box::new(capture(from, into, *s)))),
        s => s,
    }
}
