//! Attributes of a node, typed: what the schema promises is checked once, before the node's importer asks for anything.

use super::schema::{AttrKind, Schema};
use crate::proto::{AttributeProto, GraphProto, NodeProto, TensorProto, attribute_proto::AttributeType};
use std::collections::HashMap;
use tahoma_core::OpError;

/// The attributes of one node, references to a function's attributes resolved.
pub(super) struct NodeAttrs<'m>(Vec<(&'m str, &'m AttributeProto)>);

/// The kind of an attribute; files from before 2018 do not say, so the field that is set tells.
fn kind(a: &AttributeProto) -> Option<AttrKind> {
    match a.r#type() {
        AttributeType::Undefined => Some(if a.f.is_some() {
            AttrKind::Float
        } else if a.i.is_some() {
            AttrKind::Int
        } else if a.s.is_some() {
            AttrKind::Str
        } else if a.t.is_some() {
            AttrKind::Tensor
        } else if a.g.is_some() {
            AttrKind::Graph
        } else if !a.floats.is_empty() {
            AttrKind::Floats
        } else if !a.ints.is_empty() {
            AttrKind::Ints
        } else {
            return None;
        }),
        t => AttrKind::of(t),
    }
}

/// Largest magnitude of an axis, extent, count or step: importers multiply two of them, and add what comes of it.
const LARGEST: u64 = i32::MAX as u64;

/// Whether an attribute holds values, which may be any, or places that are cut to what is there.
fn holds_values(name: &str) -> bool {
    let words = ["int64", "value_int", "classlabels", "class_ids", "target_ids"];
    words.iter().any(|w| name.contains(w)) || matches!(name, "starts" | "ends" | "ignore_index" | "seed" | "zero_point")
}

/// E0205 for a number that no axis, extent, count or step can be.
fn too_large(name: &str, a: &AttributeProto) -> Option<OpError> {
    let number = a.ints.iter().copied().chain([a.i()]).find(|n| n.unsigned_abs() > LARGEST && !holds_values(name))?;
    Some(
        OpError::attr(format!("attribute {name:?} holds {number}"))
            .note(format!("numbers from -{LARGEST} to {LARGEST} have a meaning here")),
    )
}

impl<'m> NodeAttrs<'m> {
    pub(super) fn new(node: &'m NodeProto, outer: &HashMap<&'m str, &'m AttributeProto>) -> NodeAttrs<'m> {
        let resolve = |a: &'m AttributeProto| {
            if a.ref_attr_name().is_empty() { Some(a) } else { outer.get(a.ref_attr_name()).copied() }
        };
        NodeAttrs(node.attribute.iter().filter_map(|a| Some((a.name(), resolve(a)?))).collect())
    }
    /// Checks names, kinds and presence against the schema; E0205 for each that is wrong.
    pub(super) fn check(&self, schema: &Schema) -> Vec<OpError> {
        let mut out = Vec::new();
        let mut seen = Vec::new();
        for &(name, a) in &self.0 {
            if seen.contains(&name) {
                out.push(OpError::attr(format!("attribute {name:?} is given twice")));
            }
            seen.push(name);
            match schema.attrs.iter().find(|s| s.0 == name) {
                None => {
                    let close = crate::closest(name, schema.attrs.iter().map(|s| s.0));
                    let e = OpError::attr(format!("has no attribute {name:?} in the version of opset {}", schema.since));
                    out.push(match close {
                        Some(c) => e.note(format!("did you mean {c:?}?")),
                        None if schema.attrs.is_empty() => e.note("it takes no attributes"),
                        None => e.note(format!("it has: {}", schema.attrs.iter().map(|s| s.0).collect::<Vec<_>>().join(", "))),
                    });
                }
                Some(&(_, want, _)) if kind(a) != Some(want) => {
                    let got = kind(a).map_or("of an unknown kind", AttrKind::words);
                    out.push(OpError::attr(format!("attribute {name:?} must be {}, but is {got}", want.words())));
                }
                Some(_) => out.extend(too_large(name, a)),
            }
        }
        for &(name, kind, required) in schema.attrs {
            if required && !seen.contains(&name) {
                out.push(OpError::attr(format!("needs attribute {name:?} ({})", kind.words())));
            }
        }
        out
    }
    pub(super) fn get(&self, name: &str) -> Option<&'m AttributeProto> {
        self.0.iter().find(|a| a.0 == name).map(|a| a.1)
    }
    pub(super) fn all(&self) -> &[(&'m str, &'m AttributeProto)] {
        &self.0
    }
    pub(super) fn int(&self, name: &str) -> Option<i64> {
        self.get(name).map(|a| a.i())
    }
    pub(super) fn float(&self, name: &str) -> Option<f64> {
        self.get(name).map(|a| a.f() as f64)
    }
    pub(super) fn ints(&self, name: &str) -> Option<&'m [i64]> {
        self.get(name).map(|a| &a.ints[..])
    }
    pub(super) fn floats(&self, name: &str) -> Option<&'m [f32]> {
        self.get(name).map(|a| &a.floats[..])
    }
    /// A string; bytes that are not UTF-8 read as "".
    pub(super) fn str(&self, name: &str) -> Option<&'m str> {
        self.get(name).map(|a| std::str::from_utf8(a.s()).unwrap_or_default())
    }
    pub(super) fn strs(&self, name: &str) -> Option<Vec<&'m str>> {
        self.get(name).map(|a| a.strings.iter().map(|s| std::str::from_utf8(s).unwrap_or_default()).collect())
    }
    pub(super) fn tensor(&self, name: &str) -> Option<&'m TensorProto> {
        self.get(name).and_then(|a| a.t.as_ref())
    }
    pub(super) fn graph(&self, name: &str) -> Option<&'m GraphProto> {
        self.get(name).and_then(|a| a.g.as_ref())
    }
}
