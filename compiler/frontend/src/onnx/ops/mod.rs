//! The table of operators that can be imported: one row per operator and meaning, found by (domain, name, since_version).
//!
//! A row holds for the version it names and the ones after it, up to the next row of that operator; what changed between versions
//! without changing the row (an attribute that became an operand, a default) the importer reads from `Context::since`.

mod activation;
mod attention;
mod conv;
mod deform;
mod ensemble;
mod features;
mod generate;
mod image;
mod index;
mod learn;
mod linear;
mod loss;
mod math;
mod microsoft;
mod norm;
mod pool;
mod quant;
mod random;
mod reduce;
mod resize;
mod rnn;
mod scores;
mod sequence;
mod shape;
mod signal;
mod svm;
mod text;
mod trees;

use super::context::{Context, R, V};
use super::control;
use super::frame::Slot;
use super::schema::{self, Schema};
use std::collections::HashMap;
use std::sync::LazyLock;

/// One operator from one version on.
pub(super) struct Row {
    /// "" is ai.onnx.
    pub(super) domain: &'static str,
    pub(super) name: &'static str,
    pub(super) since: i64,
    pub(super) import: Import,
    /// Whether 16-bit floats are widened to f32 for the whole operator; result `k` is then rounded, once, to the type of operand
    /// `in_f32[k]`.
    pub(super) in_f32: Option<&'static [usize]>,
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
        Row { domain: "", name, since, import, in_f32: None }
    }
    /// Sums, products and powers of 16-bit floats overflow, or lose their digits, long before the result does: an operator that makes
    /// several steps of them says so here, and no step of its importer rounds to 16 bits.
    const fn in_f32(self, results: &'static [usize]) -> Row {
        Row { in_f32: Some(results), ..self }
    }
    pub(super) const fn of(self, domain: &'static str) -> Row {
        Row { domain, ..self }
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
    deform::ROWS,
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
    learn::ROWS,
    attention::ROWS,
    signal::ROWS,
    random::ROWS,
    text::ROWS,
    trees::ROWS,
    ensemble::ROWS,
    features::ROWS,
    svm::ROWS,
    sequence::ROWS,
    control::ROWS,
];

/// Domain and name.
type Key = (&'static str, &'static str);

static BY_NAME: LazyLock<HashMap<Key, Vec<&'static Row>>> = LazyLock::new(|| {
    let mut map: HashMap<Key, Vec<&'static Row>> = HashMap::new();
    for r in FAMILIES.iter().chain(microsoft::FAMILIES).flat_map(|f| f.iter()) {
        map.entry((r.domain, r.name)).or_default().push(r);
    }
    map.values_mut().for_each(|v| v.sort_by_key(|r| r.since));
    map
});

/// The schema and row of an operator in an operator set.
pub(super) fn resolve(domain: &str, name: &str, version: i64) -> Option<(&'static Schema, &'static Row)> {
    let schema = schema::find(domain, name, version)?;
    let row = BY_NAME.get(&(schema.domain, schema.name))?.iter().rev().find(|r| r.since <= schema.since)?;
    Some((schema, row))
}

/// Names of the operators with a row.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    BY_NAME.keys().map(|k| k.1)
}

/// The ONNX operators that can be imported, sorted: domain, name and the operator set versions with a meaning of their own.
pub fn supported() -> Vec<(&'static str, &'static str, Vec<i64>)> {
    let mut all: Vec<_> = BY_NAME
        .iter()
        .map(|((domain, name), rows)| {
            let least = rows.first().map_or(0, |r| r.since);
            (*domain, *name, schema::versions(domain, name).iter().map(|s| s.since).filter(|&s| s >= least).collect())
        })
        .collect();
    all.sort();
    all
}

#[cfg(test)]
mod reference;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_is_fresh() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/ONNX.md");
        let printed = reference::reference();
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(path, &printed).unwrap();
        }
        let file = std::fs::read_to_string(path).unwrap_or_default();
        assert!(file == printed, "compiler/frontend/ONNX.md is not what the tables print; run with BLESS=1");
    }

    #[test]
    fn every_row_has_a_schema_and_is_single() {
        for ((domain, name), rows) in BY_NAME.iter() {
            assert!(rows.windows(2).all(|w| w[0].since < w[1].since), "{name} twice");
            assert!(!schema::versions(domain, name).is_empty(), "{name} is not an ONNX operator");
            for r in rows {
                assert!(schema::versions(domain, name).iter().any(|s| s.since >= r.since), "{name} {}", r.since);
            }
        }
    }
}
