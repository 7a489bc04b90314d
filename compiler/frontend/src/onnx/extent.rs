//! Types that a model declares for its values.

use crate::proto::{TypeProto, ValueInfoProto, tensor_shape_proto::dimension, type_proto};

/// A declared extent; unknown, zero-or-negative spellings and empty names are `None`.
pub(super) enum Extent {
    Number(u64),
    Named(String),
}

impl Extent {
    pub(super) fn show(&self) -> String {
        match self {
            Extent::Number(n) => n.to_string(),
            Extent::Named(s) => s.clone(),
        }
    }
}

/// Element type code and declared extents (`None` without a shape) of a tensor; `None` for other types.
pub(super) fn tensor_type(i: &ValueInfoProto) -> Option<(i32, Option<Vec<Option<Extent>>>)> {
    extents(i.r#type.as_ref()?)
}

pub(super) fn extents(ty: &TypeProto) -> Option<(i32, Option<Vec<Option<Extent>>>)> {
    let TypeProto { value: Some(type_proto::Value::TensorType(t)), .. } = ty else { return None };
    let dims = t.shape.as_ref().map(|s| {
        let extent = |d: &crate::proto::tensor_shape_proto::Dimension| match &d.value {
            Some(dimension::Value::DimValue(n)) => u64::try_from(*n).ok().map(Extent::Number),
            Some(dimension::Value::DimParam(s)) if !s.is_empty() && s != "?" => Some(Extent::Named(s.clone())),
            _ => None,
        };
        s.dim.iter().map(extent).collect()
    });
    Some((t.elem_type(), dims))
}
