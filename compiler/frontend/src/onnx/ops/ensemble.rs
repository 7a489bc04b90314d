//! TreeEnsembleClassifier and TreeEnsembleRegressor: trees whose nodes are named by tree and number, each leaf with weights for any of
//! the classes or targets.

use super::scores::{Labels, Transform, above, floats, highest, rows};
use super::trees::{COMPARE, Forest, MOST, TARGETS, list, look, numbers, numbers_as, room, spread, whole};
use super::{Import, Row, one};
use crate::onnx::context::{Context, R, V};
use crate::onnx::frame::Slot;
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

/// Where the nodes of an ensemble are, by tree and number: models with millions of them are read in one pass over sorted lists.
struct Nodes<'a> {
    trees: &'a [i64],
    ids: &'a [i64],
    /// Nodes sorted by tree, then by number.
    order: Vec<u32>,
    /// Where each tree starts in `order`, sorted by tree.
    starts: Vec<(i64, usize)>,
}

impl<'a> Nodes<'a> {
    fn new(trees: &'a [i64], ids: &'a [i64]) -> R<Nodes<'a>> {
        let name = |i: u32| (trees[i as usize], ids[i as usize]);
        let mut order: Vec<u32> = (0..ids.len() as u32).collect();
        order.sort_unstable_by_key(|&i| name(i));
        if let Some(w) = order.windows(2).find(|w| name(w[0]) == name(w[1])) {
            let (tree, id) = name(w[0]);
            return Err(OpError::attr(format!("node {id} of tree {tree} is given twice")));
        }
        let mut starts: Vec<(i64, usize)> = vec![];
        for (at, &i) in order.iter().enumerate() {
            if starts.last().is_none_or(|s| s.0 != trees[i as usize]) {
                starts.push((trees[i as usize], at));
            }
        }
        Ok(Nodes { trees, ids, order, starts })
    }
    fn find(&self, tree: i64, id: i64, from: &str) -> R<usize> {
        let missing = || OpError::attr(format!("{from} {id} of tree {tree}, which is not there"));
        let t = self.starts.binary_search_by_key(&tree, |s| s.0).map_err(|_| missing())?;
        let end = self.starts.get(t + 1).map_or(self.order.len(), |s| s.1);
        let own = &self.order[self.starts[t].1..end];
        let number = |i: u32| self.ids[i as usize];
        // Numbers usually follow each other.
        let guess = usize::try_from(id.wrapping_sub(number(own[0]))).ok().filter(|&g| g < own.len() && number(own[g]) == id);
        let at = guess.or_else(|| own.binary_search_by_key(&id, |&i| number(i)).ok()).ok_or_else(missing)?;
        Ok(own[at] as usize)
    }
    /// The first node of each tree, in the order of the file.
    fn roots(&self) -> Vec<usize> {
        let mut seen = vec![false; self.starts.len()];
        let changes = (0..self.trees.len()).filter(|&i| i == 0 || self.trees[i] != self.trees[i - 1]);
        let first = |i: &usize| {
            let t = self.starts.partition_point(|s| s.0 < self.trees[*i]);
            !std::mem::replace(&mut seen[t], true)
        };
        changes.filter(first).collect()
    }
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
    let mut place = Vec::with_capacity(n);
    for mode in &modes {
        let next = if *mode == "LEAF" { &mut leaf } else { &mut branch };
        place.push(*next as i64);
        *next += 1;
    }
    let nodes = Nodes::new(trees, ids)?;
    let find = |tree: i64, id: i64, from: &str| nodes.find(tree, id, from).map(|i| place[i]);
    let mut forest = Forest {
        modes: Vec::with_capacity(branches),
        splits: Vec::with_capacity(n),
        feature: Vec::with_capacity(n),
        yes: Vec::with_capacity(n),
        no: Vec::with_capacity(n),
        missing: missing.map(|_| Vec::with_capacity(n)),
        roots: nodes.roots().into_iter().map(|i| place[i]).collect(),
        leaves: n - branches,
    };
    for i in (0..n).filter(|&i| modes[i] != "LEAF") {
        let mode = MODES.iter().position(|m| *m == modes[i]);
        forest.modes.push(mode.ok_or_else(|| OpError::attr(format!("nodes_modes cannot hold {:?}", modes[i])))? as i64);
        forest.splits.push(splits[i]);
        forest.feature.push(feature[i]);
        forest.yes.push(find(trees[i], yes[i], "a branch leads to node")?);
        forest.no.push(find(trees[i], no[i], "a branch leads to node")?);
        if let (Some(to), Some(from)) = (&mut forest.missing, missing) {
            to.push(from[i]);
        }
    }
    let values = either(cx, &format!("{what}_weights"))?;
    let lists = ["treeids", "nodeids", "ids"].map(|l| list(cx, &format!("{what}_{l}"), values.len()));
    let [trees, nodes, to] = lists;
    let (trees, nodes, to) = (trees?, nodes?, to?);
    let mut weights = Vec::with_capacity(values.len());
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
fn scores(cx: &mut Context, x: V, forest: Forest, weights: &[Weight], count: usize, how: Aggregate) -> R<(V, Option<V>)> {
    // Splits compare in the type of the data, which is f32 for integers.
    let dtype = if cx.dtype(x) == DType::F64 { DType::F64 } else { DType::F32 };
    let x = cx.cast(x, dtype)?;
    let trees = forest.roots.len();
    let (none, reduce) = match how {
        Aggregate::Sum | Aggregate::Average => (0.0, "reduce_sum"),
        Aggregate::Min => (f64::INFINITY, "reduce_min"),
        Aggregate::Max => (f64::NEG_INFINITY, "reduce_max"),
    };
    let joined = |a: f64, b: f64| match how {
        Aggregate::Sum | Aggregate::Average => a + b,
        Aggregate::Min => a.min(b),
        Aggregate::Max => a.max(b),
    };
    let (each, has) = match lone(forest.leaves, weights, none, joined).filter(|_| count > 1) {
        Some((values, targets)) => {
            let leaf = forest.walk(cx, x)?;
            let (values, targets) = (numbers_as(cx, values, dtype)?, whole(cx, targets));
            let (value, target) = (look(cx, values, leaf)?, look(cx, targets, leaf)?);
            let (each, hit) = spread(cx, value, target, count, none)?;
            (each, Some(cx.cast(hit, DType::U8)?))
        }
        None => dense(cx, x, forest, weights, count, dtype, none, joined)?,
    };
    let mut y = cx.reduce(reduce, each, &[1], false)?;
    if how == Aggregate::Average {
        let n = cx.like(trees as f64, y)?;
        y = cx.div(y, n)?;
    }
    let Some(has) = has else { return Ok((y, None)) };
    let any = cx.reduce("reduce_max", has, &[1], false)?;
    let any = cx.cast(any, DType::Bool)?;
    let zero = cx.like(0.0, y)?;
    let y = cx.f("select", &[any, y, zero])?;
    Ok((y, Some(any)))
}

/// The weight of each leaf and what it is for, -1 for nothing, where no leaf gives weights to two.
fn lone(leaves: usize, weights: &[Weight], none: f64, joined: impl Fn(f64, f64) -> f64) -> Option<(Vec<f64>, Vec<i64>)> {
    let (mut values, mut targets) = (vec![none; leaves], vec![-1; leaves]);
    for w in weights {
        let (value, target) = (&mut values[w.leaf], &mut targets[w.leaf]);
        if *target != -1 && *target != w.to as i64 {
            return None;
        }
        (*value, *target) = (joined(*value, w.value), w.to as i64);
    }
    Some((values, targets))
}

/// What each tree gives to each score, `[rows, trees, count]`, from a table of all leaves and scores; and 1 where it gives anything, if
/// not everywhere.
fn dense(
    cx: &mut Context,
    x: V,
    forest: Forest,
    weights: &[Weight],
    count: usize,
    dtype: DType,
    none: f64,
    joined: impl Fn(f64, f64) -> f64,
) -> R<(V, Option<V>)> {
    let leaves = forest.leaves;
    let size = leaves.checked_mul(count).filter(|&s| s <= MOST);
    let size = size.ok_or_else(|| OpError::new("E0107", format!("{leaves} leaves times {count} scores are more than {MOST}")))?;
    memory::ask_elements(size as u64, 20, &format_args!("a table of {leaves} leaves and {count} scores"))?;
    let (mut table, mut has) = (vec![none; size], vec![0u8; size]);
    for w in weights {
        let at = w.leaf * count + w.to;
        (table[at], has[at]) = (joined(table[at], w.value), 1);
    }
    let leaf = forest.walk(cx, x)?;
    let table = numbers_as(cx, table, dtype)?;
    let table = cx.reshape(table, &[leaves, count])?;
    let each = look(cx, table, leaf)?;
    if has.iter().all(|&h| h != 0) {
        return Ok((each, None));
    }
    let has = cx.table(Tensor::new(DType::U8, &[leaves, count], Buffer::U8(has)));
    Ok((each, Some(look(cx, has, leaf)?)))
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
    let (x, _) = rows(cx)?;
    let (forest, weights) = read(cx, "target", count)?;
    let (y, _) = scores(cx, x, forest, &weights, count, how)?;
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
    let (x, _) = rows(cx)?;
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
        let (s, _) = scores(cx, x, forest, &alone, 1, Aggregate::Sum)?;
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
    let (y, has) = scores(cx, x, forest, &weights, classes, Aggregate::Sum)?;
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
