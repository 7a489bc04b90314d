//! The op table: every op of the `ml` dialect is one row of [`OPS`].

mod common;
mod composite;
mod contract;
mod docs;
mod dynamic;
mod elementwise;
mod gather;
mod moves;
mod onnx_extra;
mod quick;
mod reduce;
pub mod scan;
mod search;
pub mod structure;

use crate::op::OpDef;
use std::collections::HashMap;
use std::sync::LazyLock;

pub use common::{MAX_ELEMENTS, sized};
pub use docs::docs;
pub(crate) use dynamic::as_static;
pub use dynamic::{canonical, slice_spans};
pub use structure::{CONSTANT, WEIGHT};

/// The families, in the order of the reference.
static FAMILIES: &[&[&[&OpDef]]] = &[
    elementwise::FAMILIES,
    reduce::FAMILIES,
    contract::FAMILIES,
    moves::FAMILIES,
    gather::FAMILIES,
    composite::FAMILIES,
    search::FAMILIES,
    dynamic::FAMILIES,
    onnx_extra::FAMILIES,
    &[structure::ROWS],
];

/// All ops.
pub static OPS: LazyLock<Vec<&'static OpDef>> =
    LazyLock::new(|| FAMILIES.iter().flat_map(|f| f.iter()).flat_map(|f| f.iter().copied()).collect());

static BY_NAME: LazyLock<HashMap<&'static str, &'static OpDef>> = LazyLock::new(|| OPS.iter().map(|o| (o.name, *o)).collect());

/// The op of that name, without the `ml.` prefix.
pub fn find(name: &str) -> Option<&'static OpDef> {
    BY_NAME.get(name).copied()
}

#[cfg(test)]
mod tests;
