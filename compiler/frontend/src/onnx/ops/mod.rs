//! The table of operators that can be imported: one row per operator and meaning, found by (domain, name, since_version).
//!
//! A row holds for the version it names and the ones after it, up to the next row of that operator; what changed between versions
//! without changing the row (an attribute that became an operand, a default) the importer reads from `Context::since`.

mod activation;
mod attention;
mod conv;
mod generate;
mod image;
mod index;
mod linear;
mod loss;
mod math;
mod norm;
mod pool;
mod quant;
mod reduce;
mod resize;
mod rnn;
mod sequence;
mod shape;
mod signal;

use super::context::{Context, R, V};
use super::control;
use super::frame::Slot;
use super::schema::{self, Schema};
use std::collections::HashMap;
use std::sync::LazyLock;

/// One operator from one version on.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) since: i64,
    pub(super) import: Import,
}

/// How a node becomes `ml` ops, by what it gives.
#[derive(Clone, Copy)]
pub(super) enum Import {
    One(fn(&mut Context) -> R<V>),
    Many(fn(&mut Context) -> R<Vec<V>>),
    /// Sequences and optionals too.
    Slots(fn(&mut Context) -> R<Vec<Slot>>),
}

impl Row {
    pub(super) const fn new(name: &'static str, since: i64, import: Import) -> Row {
        Row { name, since, import }
    }
}

/// A row with one result.
const fn one(name: &'static str, since: i64, f: fn(&mut Context) -> R<V>) -> Row {
    Row::new(name, since, Import::One(f))
}

/// A row with several results.
const fn many(name: &'static str, since: i64, f: fn(&mut Context) -> R<Vec<V>>) -> Row {
    Row::new(name, since, Import::Many(f))
}

static FAMILIES: &[&[Row]] = &[
    math::ROWS,
    activation::ROWS,
    reduce::ROWS,
    linear::ROWS,
    conv::ROWS,
    pool::ROWS,
    norm::ROWS,
    shape::ROWS,
    index::ROWS,
    generate::ROWS,
    resize::ROWS,
    image::ROWS,
    rnn::ROWS,
    quant::ROWS,
    loss::ROWS,
    attention::ROWS,
    signal::ROWS,
    sequence::ROWS,
    control::ROWS,
];

/// All are of domain ai.onnx.
static BY_NAME: LazyLock<HashMap<&'static str, Vec<&'static Row>>> = LazyLock::new(|| {
    let mut map: HashMap<&'static str, Vec<&'static Row>> = HashMap::new();
    for r in FAMILIES.iter().flat_map(|f| f.iter()) {
        map.entry(r.name).or_default().push(r);
    }
    map.values_mut().for_each(|v| v.sort_by_key(|r| r.since));
    map
});

/// The schema and row of an operator in an operator set.
pub(super) fn resolve(domain: &str, name: &str, version: i64) -> Option<(&'static Schema, &'static Row)> {
    if !domain.is_empty() {
        return None;
    }
    let schema = schema::find(domain, name, version)?;
    let row = BY_NAME.get(name)?.iter().rev().find(|r| r.since <= schema.since)?;
    Some((schema, row))
}

/// Names of the operators with a row.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    BY_NAME.keys().copied()
}

/// The ONNX operators that can be imported, sorted: name and the operator set versions with a meaning of their own.
pub fn supported() -> Vec<(&'static str, Vec<i64>)> {
    let mut all: Vec<_> = BY_NAME
        .iter()
        .map(|(name, rows)| {
            let least = rows.first().map_or(0, |r| r.since);
            (*name, schema::versions("", name).iter().map(|s| s.since).filter(|&s| s >= least).collect())
        })
        .collect();
    all.sort();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_schema_and_is_single() {
        for (name, rows) in BY_NAME.iter() {
            assert!(rows.windows(2).all(|w| w[0].since < w[1].since), "{name} twice");
            assert!(!schema::versions("", name).is_empty(), "{name} is not an ONNX operator");
            for r in rows {
                assert!(schema::versions("", name).iter().any(|s| s.since >= r.since), "{name} {}", r.since);
            }
        }
    }
}
