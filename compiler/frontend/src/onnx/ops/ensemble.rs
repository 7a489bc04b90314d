//! TreeEnsembleClassifier and TreeEnsembleRegressor: trees whose nodes are named by tree and number, each leaf with weights for any of
//! the classes or targets.

use super::scores::{Labels, Transform, above, floats, highest, rows};
use super::trees::{COMPARE, Forest, MOST, TARGETS, list, look, numbers, numbers_as, room};
use super::{Import, Row, one};
use crate::onnx::context::{Context, R, V};
use crate::onnx::frame::Slot;
use std::collections::HashMap;
use tahoma_core::{Buffer, DType, OpError, Tensor, memory};

const ML: &str = "ai.onnx.ml";

pub(super) static ROWS: &[Row] =
    &[Row::new("TreeEnsembleClassifier", 1, Import::Slots(classifier)).of(ML), one("TreeEnsembleRegressor", 1, regressor).of(ML)];

/// Names of the comparisons, in the order of [`COMPARE`].
const MODES: [&str; COMPARE.len()] = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"];

/// Numbers from `NAME_as_tensor`, else from `NAME`.
fn either(cx: &Context, name: &str) -> R<Vec<f64>> {
    match numbers(cx, &format!("{name}_as_tensor"))? {
        Some(v) if !v.is_empty() => Ok(v),
        _ => Ok(floats(cx, name).into_iter().map(f64::from).collect()),
    }
}

/// What a leaf gives to a class or target.
struct Weight {
    leaf: usize,
    to: usize,
    value: f64,
}

/// The trees, and the weights in the attributes `class_*` or `target_*` for `count` classes or targets.
fn read(cx: &Context, what: &str, count: usize) -> R<(Forest, Vec<Weight>)> {
    let modes = cx.attrs.strs("nodes_modes").unwrap_or_default();
    let n = modes.len();
    if n > MOST {
        return Err(OpError::new("E0107", format!("more than {MOST} nodes")));
    }
    room(n)?;
    let (trees, ids) = (list(cx, "nodes_treeids", n)?, list(cx, "nodes_nodeids", n)?);
    let (yes, no) = (list(cx, "nodes_truenodeids", n)?, list(cx, "nodes_falsenodeids", n)?);
    let feature = list(cx, "nodes_featureids", n)?;
    let splits = either(cx, "nodes_values")?;
    if splits.len() != n {
        return Err(OpError::attr(format!("nodes_values has {} entries for {n} nodes", splits.len())));
    }
    let missing = match cx.attrs.ints("nodes_missing_value_tracks_true") {
        Some(v) if !v.is_empty() => Some(list(cx, "nodes_missing_value_tracks_true", n)?),
        _ => None,
    };
    // Branches first, leaves behind them.
    let branches = modes.iter().filter(|m| **m != "LEAF").count();
    let (mut branch, mut leaf) = (0, branches);
    let mut place = HashMap::new();
    for i in 0..n {
        let next = if modes[i] == "LEAF" { &mut leaf } else { &mut branch };
        if place.insert((trees[i], ids[i]), *next as i64).is_some() {
            return Err(OpError::attr(format!("node {} of tree {} is given twice", ids[i], trees[i])));
        }
        *next += 1;
    }
    let find = |tree: i64, id: i64, from: &str| {
        place.get(&(tree, id)).copied().ok_or_else(|| OpError::attr(format!("{from} {id} of tree {tree}, which is not there")))
    };
    let mut forest = Forest {
        modes: vec![],
        splits: vec![],
        feature: vec![],
        yes: vec![],
        no: vec![],
        missing: missing.as_ref().map(|_| vec![]),
        roots: vec![],
        leaves: n - branches,
    };
    let mut rooted = HashMap::new();
    for i in 0..n {
        // The first node of a tree is its root.
        if rooted.insert(trees[i], ()).is_none() {
            forest.roots.push(find(trees[i], ids[i], "a root is node")?);
        }
        if modes[i] == "LEAF" {
            continue;
        }
        let mode = MODES.iter().position(|m| *m == modes[i]);
        forest.modes.push(mode.ok_or_else(|| OpError::attr(format!("nodes_modes cannot hold {:?}", modes[i])))? as i64);
        forest.splits.push(splits[i]);
        forest.feature.push(feature[i]);
        forest.yes.push(find(trees[i], yes[i], "a branch leads to node")?);
        forest.no.push(find(trees[i], no[i], "a branch leads to node")?);
        if let (Some(to), Some(from)) = (&mut forest.missing, &missing) {
            to.push(from[i]);
        }
    }
    let values = either(cx, &format!("{what}_weights"))?;
    let lists = ["treeids", "nodeids", "ids"].map(|l| list(cx, &format!("{what}_{l}"), values.len()));
    let [trees, nodes, to] = lists;
    let (trees, nodes, to) = (trees?, nodes?, to?);
    let mut weights = vec![];
    for (i, &value) in values.iter().enumerate() {
        let at = find(trees[i], nodes[i], "a weight belongs to node")? as usize;
        let to = usize::try_from(to[i]).ok().filter(|&t| t < count);
        let to = to.ok_or_else(|| OpError::attr(format!("{what}_ids hold what is not one of {count}")))?;
        // What hangs on a branch is never reached.
        if let Some(leaf) = at.checked_sub(branches) {
            weights.push(Weight { leaf, to, value });
        }
    }
    Ok((forest, weights))
}

/// How the trees' weights become one number.
#[derive(Clone, Copy, PartialEq)]
enum Aggregate {
    Sum,
    Average,
    Min,
    Max,
}

/// Scores `[rows, count]`, and which of them any tree gave a weight to, where not all are certain to have one.
fn scores(cx: &mut Context, forest: Forest, weights: &[Weight], count: usize, how: Aggregate) -> R<(V, Option<V>)> {
    let (x, _) = rows(cx)?;
    // Splits compare in the type of the data, which is f32 for integers.
    let dtype = if cx.dtype(x) == DType::F64 { DType::F64 } else { DType::F32 };
    let x = cx.cast(x, dtype)?;
    let (leaves, trees) = (forest.leaves, forest.roots.len());
    let size = leaves.checked_mul(count).filter(|&s| s <= MOST);
    let size = size.ok_or_else(|| OpError::new("E0107", format!("{leaves} leaves times {count} scores are more than {MOST}")))?;
    memory::ask_elements(size as u64, 20, &format_args!("a table of {leaves} leaves and {count} scores"))?;
    let none = match how {
        Aggregate::Sum | Aggregate::Average => 0.0,
        Aggregate::Min => f64::INFINITY,
        Aggregate::Max => f64::NEG_INFINITY,
    };
    let (mut table, mut has) = (vec![none; size], vec![0u8; size]);
    for w in weights {
        let at = w.leaf * count + w.to;
        table[at] = match how {
            Aggregate::Sum | Aggregate::Average => table[at] + w.value,
            Aggregate::Min => table[at].min(w.value),
            Aggregate::Max => table[at].max(w.value),
        };
        has[at] = 1;
    }
    let leaf = forest.walk(cx, x)?;
    let table = numbers_as(cx, table, dtype)?;
    let table = cx.reshape(table, &[leaves, count])?;
    let each = look(cx, table, leaf)?;
    let reduce = match how {
        Aggregate::Sum | Aggregate::Average => "reduce_sum",
        Aggregate::Min => "reduce_min",
        Aggregate::Max => "reduce_max",
    };
    let mut y = cx.reduce(reduce, each, &[1], false)?;
    if how == Aggregate::Average {
        let n = cx.like(trees as f64, y)?;
        y = cx.div(y, n)?;
    }
    if has.iter().all(|&h| h != 0) {
        return Ok((y, None));
    }
    let has = cx.constant(Tensor::new(DType::U8, &[leaves, count], Buffer::U8(has)));
    let has = look(cx, has, leaf)?;
    let any = cx.reduce("reduce_max", has, &[1], false)?;
    let any = cx.cast(any, DType::Bool)?;
    let zero = cx.like(0.0, y)?;
    let y = cx.f("select", &[any, y, zero])?;
    Ok((y, Some(any)))
}

/// `y` and base values, one for each column.
fn based(cx: &mut Context, y: V, base: &[f64]) -> R<V> {
    if base.is_empty() {
        return Ok(y);
    }
    let b = cx.constant(Tensor::new(DType::F64, &[base.len()], Buffer::F64(base.to_vec())));
    let b = cx.cast(b, cx.dtype(y))?;
    cx.add(y, b)
}

fn base_values(cx: &Context, count: usize) -> R<Vec<f64>> {
    let base = either(cx, "base_values")?;
    if base.is_empty() || base.len() == count {
        return Ok(base);
    }
    Err(OpError::attr(format!("{} base_values for {count} scores", base.len())))
}

fn regressor(cx: &mut Context) -> R<V> {
    let count = cx.attrs.int("n_targets").unwrap_or(1);
    let count = usize::try_from(count).ok().filter(|&t| t > 0 && t < TARGETS);
    let count = count.ok_or_else(|| OpError::attr("n_targets is out of range"))?;
    let how = match cx.attrs.str("aggregate_function").unwrap_or("SUM") {
        "SUM" => Aggregate::Sum,
        "AVERAGE" => Aggregate::Average,
        "MIN" => Aggregate::Min,
        "MAX" => Aggregate::Max,
        other => return Err(OpError::attr(format!("aggregate_function cannot be {other:?}"))),
    };
    let base = base_values(cx, count)?;
    let (forest, weights) = read(cx, "target", count)?;
    let (y, _) = scores(cx, forest, &weights, count, how)?;
    let y = based(cx, y, &base)?;
    let y = Transform::of(cx)?.apply_to(cx, y, count)?;
    cx.cast(y, DType::F32)
}

/// Label and scores. Of two classes, one alone may have weights: class 0's are then the score of the second class, which wins above
/// 0.5 where no weight is negative, else above 0. The standard leaves this open; it is what ONNX Runtime does and exporters rely on.
fn classifier(cx: &mut Context) -> R<Vec<Slot>> {
    let labels = Labels::of(cx, "classlabels_int64s", "classlabels_strings")?;
    let classes = labels.len();
    if classes == 1 {
        return Err(cx.unsupported("an ensemble of one class"));
    }
    let (forest, weights) = read(cx, "class", classes)?;
    let Some(first) = weights.first().map(|w| w.to) else { return Err(OpError::attr("no leaf has a weight")) };
    let transform = Transform::of(cx)?;
    if classes == 2 && weights.iter().all(|w| w.to == first) {
        let to_one = weights.iter().all(|w| w.value >= 0.0);
        let base = either(cx, "base_values")?;
        if base.len() > 1 || first == 1 && !base.is_empty() {
            return Err(cx.unsupported(format!("{} base_values where only class {first} of two has weights", base.len())));
        }
        let alone: Vec<Weight> = weights.into_iter().map(|w| Weight { to: 0, ..w }).collect();
        let (s, _) = scores(cx, forest, &alone, 1, Aggregate::Sum)?;
        let s = based(cx, s, &base)?;
        let second = above(cx, s, if to_one { 0.5 } else { 0.0 })?;
        let label = labels.second_where(cx, second)?;
        let y = if first == 0 {
            transform.apply_to_one(cx, s, to_one)?
        } else {
            let none = cx.like(0.0, s)?;
            let none = cx.mul(s, none)?;
            let both = cx.concat(&[none, s], 1)?;
            transform.apply(cx, both)?
        };
        return Ok(vec![label, Slot::Value(cx.cast(y, DType::F32)?)]);
    }
    let base = base_values(cx, classes)?;
    let (y, has) = scores(cx, forest, &weights, classes, Aggregate::Sum)?;
    let y = based(cx, y, &base)?;
    // A class without a weight does not win, unless it has a base value.
    let ranked = match has.filter(|_| base.is_empty()) {
        Some(any) => {
            let least = cx.like(f64::NEG_INFINITY, y)?;
            cx.f("select", &[any, y, least])?
        }
        None => y,
    };
    let best = highest(cx, ranked)?;
    let label = labels.at(cx, best)?;
    let y = transform.apply(cx, y)?;
    Ok(vec![label, Slot::Value(cx.cast(y, DType::F32)?)])
}
