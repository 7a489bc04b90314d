//! Decision trees (`ai.onnx.ml`): all trees walk all rows at once, one level a step, as gathers from tables over nodes and leaves.

use super::generate::as_op_error;
use super::scores::Transform;
use super::{Row, one};
use crate::onnx::context::{Context, R, V, attrs};
use crate::tensor_proto;
use tahoma_core::{Buffer, DType, OpError, Tensor, memory};

pub(super) static ROWS: &[Row] = &[one("TreeEnsemble", 5, tree_ensemble).of("ai.onnx.ml")];

/// Most nodes and leaves together, or entries of a table over them. What the machine has room for is asked before.
pub(super) const MOST: usize = 1 << 28;
/// Most targets: fewer than 2^22.
pub(super) const TARGETS: usize = 1 << 22;
/// Deepest tree.
const DEEPEST: usize = 256;

/// Room for so many nodes with what is known of each while trees are read. E0609.
pub(super) fn room(nodes: usize) -> R<()> {
    memory::ask_elements(nodes as u64, 256, &format_args!("an ensemble of {nodes} nodes"))
}

/// Comparisons by their code; the last is membership of a set.
pub(super) const COMPARE: [&str; 6] = ["le", "lt", "ge", "gt", "eq", "ne"];
const MEMBER: i64 = 6;

/// The numbers of a tensor attribute.
pub(super) fn numbers(cx: &Context, name: &str) -> R<Option<Vec<f64>>> {
    let Some(t) = cx.attrs.tensor(name) else { return Ok(None) };
    let mut none = crate::store::Store::default();
    let t = tensor_proto::read(t, name, None, &mut none, &cx.imp.options.budget).and_then(|t| t.tensor()).map_err(as_op_error)?;
    Ok(Some(t.to_f64s()))
}

/// A list attribute of one number a node.
pub(super) fn list<'m>(cx: &Context<'_, 'm>, name: &str, count: usize) -> R<&'m [i64]> {
    let v = cx.attrs.ints(name).unwrap_or_default();
    if v.len() != count { Err(OpError::attr(format!("{name} has {} entries for {count} nodes", v.len()))) } else { Ok(v) }
}

/// Places of the branches: nodes first, leaves behind them.
fn places(ids: &[i64], leafs: &[i64], nodes: usize, leaves: usize) -> R<Vec<i64>> {
    let place = |(&id, &leaf): (&i64, &i64)| {
        let (start, end) = if leaf != 0 { (nodes, leaves) } else { (0, nodes) };
        usize::try_from(id).ok().filter(|&i| i < end).map(|i| (start + i) as i64)
    };
    let all: Option<Vec<i64>> = ids.iter().zip(leafs).map(place).collect();
    all.ok_or_else(|| OpError::attr("a branch leads to a node that is not there"))
}

/// Steps from the roots to the deepest leaf. A node that leads back to itself never ends: refused.
fn depth(roots: &[i64], yes: &[i64], no: &[i64], nodes: usize) -> R<usize> {
    let mut level: Vec<i64> = roots.to_vec();
    for d in 0..DEEPEST {
        level.retain(|&p| (p as usize) < nodes);
        if level.is_empty() {
            return Ok(d);
        }
        level = level.iter().flat_map(|&p| [yes[p as usize], no[p as usize]]).collect();
        level.sort_unstable();
        level.dedup();
    }
    Err(OpError::attr(format!("trees deeper than {DEEPEST}, or nodes in a circle")))
}

/// Trees as tables over their nodes. Places lead to nodes, or to leaves behind them.
pub(super) struct Forest {
    /// Codes of [`COMPARE`], or [`MEMBER`].
    pub(super) modes: Vec<i64>,
    pub(super) splits: Vec<f64>,
    pub(super) feature: Vec<i64>,
    pub(super) yes: Vec<i64>,
    pub(super) no: Vec<i64>,
    /// Whether NaN goes where the comparison holds, node by node.
    pub(super) missing: Option<Vec<i64>>,
    /// Places: a tree may be a leaf.
    pub(super) roots: Vec<i64>,
    pub(super) leaves: usize,
}

impl Forest {
    /// The leaves `[rows, trees]`, counted from 0, that the rows `[rows, features]` of x come to. How many rows there are may be open.
    pub(super) fn walk(self, cx: &mut Context, x: V) -> R<V> {
        if cx.rank(x) != 2 {
            return Err(OpError::shape("needs [rows, features]").mark(0, "must have rank 2"));
        }
        let features = cx.dim(x, 1)?;
        let Forest { modes, mut splits, mut feature, mut yes, mut no, missing, roots, leaves } = self;
        let n = modes.len();
        let all = n.saturating_add(leaves);
        if all > MOST || leaves == 0 || roots.is_empty() {
            return Err(OpError::attr(format!("{n} nodes and {leaves} leaves make no trees, or too many")));
        }
        if let Some(f) = feature.iter().find(|&&f| f < 0 || f as usize >= features) {
            return Err(OpError::attr(format!("a node asks for feature {f} of {features}")).mark(0, format!("has {features} features")));
        }
        let depth = depth(&roots, &yes, &no, n)?;
        let dtype = cx.dtype(x);
        // Tables over nodes and leaves; a leaf leads to itself.
        yes.extend(n as i64..all as i64);
        no.extend(n as i64..all as i64);
        feature.resize(all, 0);
        splits.resize(all, 0.0);
        let (yes, no, feature) = (whole(cx, yes), whole(cx, no), whole(cx, feature));
        let splits = numbers_as(cx, splits, dtype)?;
        let has: [bool; 1 + MEMBER as usize] = std::array::from_fn(|code| modes.contains(&(code as i64)));
        let members = if has[MEMBER as usize] { members(cx, &modes, leaves, dtype)? } else { None };
        let nans = match missing {
            Some(mut v) if v.iter().any(|&f| f != 0) => {
                v.resize(all, 0);
                let v = v.into_iter().map(|f| u8::from(f != 0)).collect();
                Some(cx.table(Tensor::new(DType::Bool, &[all], Buffer::U8(v))))
            }
            _ => None,
        };
        // Where all comparisons are ≤ nothing asks which it is.
        let mode = match has[1..].contains(&true) {
            true => {
                let mut modes = modes;
                modes.resize(all, 0);
                Some(whole(cx, modes))
            }
            false => None,
        };
        let trees = roots.len();
        let mut at = cx.constant(Tensor::i64(&[1, trees], roots));
        for step in 0..depth {
            let f = look(cx, feature, at)?;
            // All rows start at the roots.
            let value = if step == 0 {
                let f = cx.reshape(f, &[trees])?;
                cx.op("gather", &[x, f], attrs! {"axis": 1i64})?
            } else {
                cx.op("gather_elements", &[x, f], attrs! {"axis": 1i64})?
            };
            let split = look(cx, splits, at)?;
            let mut go = cx.f("le", &[value, split])?;
            for code in 1..=MEMBER {
                let Some(mode) = mode.filter(|_| has[code as usize]) else { continue };
                let m = look(cx, mode, at)?;
                let here = match (COMPARE.get(code as usize), members) {
                    (Some(op), _) => cx.f(op, &[value, split])?,
                    (None, Some(sets)) => {
                        let set = look(cx, sets, at)?;
                        let one = cx.unsqueeze(value, 2)?;
                        let hit = cx.f("eq", &[set, one])?;
                        let hit = cx.cast(hit, DType::U8)?;
                        let any = cx.reduce("reduce_max", hit, &[2], false)?;
                        cx.cast(any, DType::Bool)?
                    }
                    (None, None) => return Err(OpError::attr("needs membership_values")),
                };
                let code = cx.int(code);
                let is = cx.f("eq", &[m, code])?;
                go = cx.f("select", &[is, here, go])?;
            }
            if let Some(t) = nans {
                let (t, none) = (look(cx, t, at)?, cx.f("is_nan", &[value])?);
                let both = cx.f("and", &[t, none])?;
                go = cx.f("or", &[go, both])?;
            }
            let (y, z) = (look(cx, yes, at)?, look(cx, no, at)?);
            at = cx.f("select", &[go, y, z])?;
        }
        if depth == 0 {
            // Trees of a leaf each ask nothing of the rows.
            let rows = cx.dim(x, 0)?;
            at = cx.broadcast(at, &[rows, trees])?;
        }
        let first = cx.int(n as i64);
        cx.sub(at, first)
    }
}

/// Rows of a table at places.
pub(super) fn look(cx: &mut Context, table: V, at: V) -> R<V> {
    cx.op("gather", &[table, at], attrs! {"axis": 0i64})
}

fn tree_ensemble(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let missing = |name: &str| OpError::attr(format!("needs {name}"));
    let modes = numbers(cx, "nodes_modes")?.ok_or_else(|| missing("nodes_modes"))?;
    let splits = numbers(cx, "nodes_splits")?.ok_or_else(|| missing("nodes_splits"))?;
    let weights = numbers(cx, "leaf_weights")?.ok_or_else(|| missing("leaf_weights"))?;
    let (n, leaves) = (modes.len(), weights.len());
    room(n.saturating_add(leaves))?;
    if splits.len() != n {
        return Err(OpError::attr(format!("{n} modes and {} splits make no trees", splits.len())));
    }
    let modes: Vec<i64> = modes.iter().map(|&m| m as i64).collect();
    if let Some(m) = modes.iter().find(|m| !(0..=MEMBER).contains(m)) {
        return Err(OpError::attr(format!("nodes_modes cannot hold {m}")));
    }
    let yes = places(list(cx, "nodes_truenodeids", n)?, list(cx, "nodes_trueleafs", n)?, n, leaves)?;
    let no = places(list(cx, "nodes_falsenodeids", n)?, list(cx, "nodes_falseleafs", n)?, n, leaves)?;
    let targets = list(cx, "leaf_targetids", leaves)?;
    let roots = cx.attrs.ints("tree_roots").unwrap_or_default().to_vec();
    let feature = list(cx, "nodes_featureids", n)?.to_vec();
    let count = cx.attrs.int("n_targets").and_then(|t| usize::try_from(t).ok()).filter(|&t| t > 0 && t < TARGETS);
    let count = count.ok_or_else(|| missing("n_targets"))?;
    let sound = roots.iter().all(|&r| r >= 0 && (r as usize) < n) && targets.iter().all(|&t| t >= 0 && (t as usize) < count);
    if !sound {
        return Err(OpError::attr("a root or a target is out of range"));
    }
    let nans = match cx.attrs.ints("nodes_missing_value_tracks_true") {
        Some(v) if !v.is_empty() => Some(list(cx, "nodes_missing_value_tracks_true", n)?.to_vec()),
        _ => None,
    };
    let trees = roots.len();
    let dtype = cx.dtype(x);
    let leaf = Forest { modes, splits, feature, yes, no, missing: nans, roots, leaves }.walk(cx, x)?;
    let weights = numbers_as(cx, weights, dtype)?;
    let targets = whole(cx, targets.to_vec());
    let (weight, target) = (look(cx, weights, leaf)?, look(cx, targets, leaf)?);
    aggregated(cx, weight, target, count, trees)
}

/// A table of the data's type.
pub(super) fn numbers_as(cx: &mut Context, v: Vec<f64>, dtype: DType) -> R<V> {
    if dtype == DType::F32 {
        let table = Tensor::f32(&[v.len()], v.into_iter().map(|x| x as f32).collect());
        return Ok(cx.table(table));
    }
    let t = cx.table(Tensor::new(DType::F64, &[v.len()], Buffer::F64(v)));
    cx.cast(t, dtype)
}

/// A table of integers.
pub(super) fn whole(cx: &mut Context, v: Vec<i64>) -> V {
    cx.table(Tensor::i64(&[v.len()], v))
}

/// `[nodes + leaves, longest set]`: the values of each set, each set ended by NaN in the attribute, filled up with NaN.
fn members(cx: &mut Context, modes: &[i64], leaves: usize, dtype: DType) -> R<Option<V>> {
    let Some(all) = numbers(cx, "membership_values")? else { return Ok(None) };
    let sets: Vec<&[f64]> = all.split(|v| v.is_nan()).collect();
    let holders: Vec<usize> = (0..modes.len()).filter(|&i| modes[i] == MEMBER).collect();
    // What follows the last NaN is no set.
    if sets.len() != holders.len() + 1 {
        return Err(OpError::attr(format!("membership_values hold {} sets for {} nodes", sets.len() - 1, holders.len())));
    }
    let width = sets.iter().map(|s| s.len()).max().unwrap_or(0).max(1);
    let rows = modes.len() + leaves;
    let size = rows.checked_mul(width).filter(|&s| s <= MOST).ok_or_else(|| OpError::new("E0107", "the sets are too large"))?;
    memory::ask_elements(size as u64, 16, &"a table of the sets")?;
    let mut table = vec![f64::NAN; size];
    for (&row, set) in holders.iter().zip(&sets) {
        table[row * width..row * width + set.len()].copy_from_slice(set);
    }
    let flat = numbers_as(cx, table, dtype)?;
    Ok(Some(cx.reshape(flat, &[rows, width])?))
}

/// A weight for one of `count` each, as `[.., count]` with `none` for the others; and whether it is for that one.
pub(super) fn spread(cx: &mut Context, weight: V, target: V, count: usize, none: f64) -> R<(V, V)> {
    let line = cx.iota(count)?;
    let (w, t) = (cx.unsqueeze(weight, 2)?, cx.unsqueeze(target, 2)?);
    let hit = cx.f("eq", &[t, line])?;
    let none = cx.like(none, w)?;
    Ok((cx.f("select", &[hit, w, none])?, hit))
}

/// The leaves' weights of all trees by target, `[rows, targets]`.
fn aggregated(cx: &mut Context, weight: V, target: V, count: usize, trees: usize) -> R<V> {
    let dtype = cx.dtype(weight);
    let (none, reduce) = match cx.attrs.int("aggregate_function").unwrap_or(1) {
        0 | 1 => (0.0, "reduce_sum"),
        2 => (if dtype == DType::F64 { f64::MAX } else { f32::MAX as f64 }, "reduce_min"),
        3 => (if dtype == DType::F64 { f64::MIN } else { f32::MIN as f64 }, "reduce_max"),
        other => return Err(OpError::attr(format!("aggregate_function cannot be {other}"))),
    };
    let (each, _) = spread(cx, weight, target, count, none)?;
    let mut y = cx.reduce(reduce, each, &[1], false)?;
    if cx.attrs.int("aggregate_function") == Some(0) {
        y = cx.scale(y, 1.0 / trees as f64)?;
    }
    Transform::numbered(cx.attrs.int("post_transform").unwrap_or(0))?.apply_to(cx, y, count)
}
