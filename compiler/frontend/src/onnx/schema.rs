//! ONNX's own description of each operator version, and looking one up by the operator set a model imports.

use super::{schema_microsoft, schema_table::SCHEMAS};
use crate::proto::attribute_proto::AttributeType;

/// One version of one operator.
pub(crate) struct Schema {
    /// "" is ai.onnx.
    pub(super) domain: &'static str,
    pub(super) name: &'static str,
    /// First operator set with this meaning.
    pub(crate) since: i64,
    /// Formal names; the last one repeats where `inputs.1` is larger.
    pub(super) operands: &'static [&'static str],
    /// Least and most operands.
    pub(super) inputs: (u32, u32),
    /// Least and most results.
    pub(super) outputs: (u32, u32),
    /// Name, kind, required.
    pub(super) attrs: &'static [(&'static str, AttrKind, bool)],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttrKind {
    Int,
    Ints,
    Float,
    Floats,
    Str,
    Strs,
    Tensor,
    Graph,
    Sparse,
    Type,
}

impl AttrKind {
    /// Words for messages.
    pub(super) fn words(self) -> &'static str {
        match self {
            AttrKind::Int => "an int",
            AttrKind::Ints => "a list of ints",
            AttrKind::Float => "a float",
            AttrKind::Floats => "a list of floats",
            AttrKind::Str => "a string",
            AttrKind::Strs => "a list of strings",
            AttrKind::Tensor => "a tensor",
            AttrKind::Graph => "a graph",
            AttrKind::Sparse => "a sparse tensor",
            AttrKind::Type => "a type",
        }
    }
    pub(super) fn of(t: AttributeType) -> Option<AttrKind> {
        Some(match t {
            AttributeType::Int => AttrKind::Int,
            AttributeType::Ints => AttrKind::Ints,
            AttributeType::Float => AttrKind::Float,
            AttributeType::Floats => AttrKind::Floats,
            AttributeType::String => AttrKind::Str,
            AttributeType::Strings => AttrKind::Strs,
            AttributeType::Tensor => AttrKind::Tensor,
            AttributeType::Graph => AttrKind::Graph,
            AttributeType::SparseTensor => AttrKind::Sparse,
            AttributeType::TypeProto => AttrKind::Type,
            _ => return None,
        })
    }
}

/// Newest operator set of ai.onnx in the table.
pub(super) const NEWEST_OPSET: i64 = 28;

/// The version of the operator that operator set `version` of `domain` has.
pub(crate) fn find(domain: &str, name: &str, version: i64) -> Option<&'static Schema> {
    versions(domain, name).iter().rev().find(|s| s.since <= version)
}

/// All versions of an operator, oldest first.
pub(super) fn versions(domain: &str, name: &str) -> &'static [Schema] {
    let of = |table: &'static [Schema]| {
        let start = table.partition_point(|s| (s.domain, s.name) < (domain, name));
        let len = table[start..].partition_point(|s| (s.domain, s.name) <= (domain, name));
        &table[start..start + len]
    };
    match of(SCHEMAS) {
        [] => of(schema_microsoft::SCHEMAS),
        found => found,
    }
}

/// Names of a domain's operators.
#[cfg(test)]
pub(super) fn names(domain: &str) -> std::collections::BTreeSet<&'static str> {
    SCHEMAS.iter().filter(|s| s.domain == domain).map(|s| s.name).collect()
}

/// The domain as the table spells it.
pub(crate) fn domain(d: &str) -> &str {
    if d == "ai.onnx" { "" } else { d }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_versions_resolve() {
        for table in [SCHEMAS, schema_microsoft::SCHEMAS] {
            assert!(table.windows(2).all(|w| (w[0].domain, w[0].name, w[0].since) < (w[1].domain, w[1].name, w[1].since)));
        }
        assert_eq!(SCHEMAS.iter().filter(|s| s.domain.is_empty()).map(|s| s.since).max(), Some(NEWEST_OPSET));
        assert_eq!(find("", "Softmax", 12).unwrap().since, 11);
        assert_eq!(find("", "Softmax", 28).unwrap().since, 13);
        assert!(find("", "Gelu", 19).is_none() && find("", "Nonsense", 19).is_none());
    }
}
