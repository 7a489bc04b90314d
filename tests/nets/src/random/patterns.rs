//! What networks are made of, around random values: each adds a few ops, or stops where one is refused.

use super::propose::{factors, kernel, partner, right};
use super::{Draw, Gen};
use tahoma_core::op::{Kind, Scalar, TypeSet};
use tahoma_core::ops::OPS;
use tahoma_core::{Attrs, DType, TensorType, ValueId};

fn a() -> Attrs {
    Attrs::new()
}

/// One of them.
pub(super) fn any(g: &mut Gen) -> Option<()> {
    static ALL: &[fn(&mut Gen) -> Option<ValueId>] = &[
        linear,
        linear,
        branches,
        attention,
        attention,
        norm,
        norm,
        softmax,
        convolution,
        convolution,
        moves,
        moves,
        centred,
        rotary,
        narrow,
        lookup,
        quantised,
        twice,
        halves,
        affine,
    ];
    let f = *g.rng.of(ALL);
    f(g).map(|_| ())
}

/// A float value of at least this rank.
fn float(g: &mut Gen, rank: usize) -> Option<ValueId> {
    if !g.rng.one_in(6)
        && let Some(v) = g.pick(|t| t.dtype.is_float() && t.rank() >= rank && t.shape.is_static())
    {
        return Some(v);
    }
    let dtype = if g.home.is_float() { g.home } else { DType::F32 };
    let rank = rank + g.rng.below(2);
    let shape = g.shape(rank);
    Some(g.fresh(TensorType::known(dtype, &shape), Draw::Any))
}

fn weight(g: &mut Gen, like: ValueId, shape: &[usize]) -> ValueId {
    let ty = TensorType::known(g.dtype(like), shape);
    if g.rng.one_in(8) { g.fresh(ty, Draw::Any) } else { g.leaf(ty, Draw::Any, true) }
}

fn last(g: &Gen, x: ValueId) -> usize {
    g.dims(x).last().copied().unwrap_or(1)
}

/// A function of one value: a unary op, or a composite of one operand and no attribute.
fn function(g: &mut Gen, x: ValueId) -> Option<ValueId> {
    let simple = |k: &Kind| matches!(k, Kind::Elementwise(Scalar::Unary(_)) | Kind::Composite(_));
    let all: Vec<&str> = OPS
        .iter()
        .filter(|o| simple(&o.kind) && o.operands.len() == 1 && o.attrs.is_empty())
        .filter(|o| matches!(o.operands[0].types, TypeSet::Float | TypeSet::Number))
        .map(|o| o.name)
        .collect();
    let common = ["relu", "gelu", "silu", "tanh", "sigmoid", "exp", "hard_swish", "neg"];
    let name = if g.rng.one_in(2) { *g.rng.of(&common) } else { *g.rng.of(&all) };
    g.op(name, &[x], a())
}

fn binary(g: &mut Gen, x: ValueId, y: ValueId) -> Option<ValueId> {
    let name = *g.rng.of(&["add", "add", "mul", "mul", "sub", "max", "min", "div"]);
    if g.rng.one_in(2) { g.op(name, &[x, y], a()) } else { g.op(name, &[y, x], a()) }
}

/// Up to two elementwise ops.
fn around(g: &mut Gen, mut x: ValueId) -> Option<ValueId> {
    for _ in 0..g.rng.below(3) {
        x = match g.rng.below(3) {
            0 => function(g, x)?,
            1 => {
                let y = partner(g, x, g.dtype(x));
                binary(g, x, y)?
            }
            _ => {
                let k = *g.rng.of(&[2.0, 0.5, 1.0, -1.0, 0.0, 0.125]);
                let k = g.number(k, x);
                binary(g, x, k)?
            }
        };
    }
    Some(x)
}

/// A matrix product with what comes before and after.
fn linear(g: &mut Gen) -> Option<ValueId> {
    let x = float(g, 1)?;
    let x = around(g, x)?;
    let w = right(g, x);
    let y = if g.rng.one_in(6) {
        // By the transposed weight.
        let (n, k) = (g.shape(1)[0], last(g, x));
        let w = weight(g, x, &[n, k]);
        let w = g.op("transpose", &[w], a().with("perm", vec![1, 0]))?;
        g.op("matmul", &[x, w], a())?
    } else {
        g.op("matmul", &[x, w], a())?
    };
    let y = if g.rng.one_in(2) && !g.dims(y).is_empty() {
        let n = last(g, y);
        let c = weight(g, y, &[n]);
        g.op("add", &[y, c], a())?
    } else {
        y
    };
    let y = around(g, y)?;
    if g.rng.one_in(3) && g.dims(x) == g.dims(y) { g.op("add", &[x, y], a()) } else { Some(y) }
}

/// Products that share an input, joined again.
fn branches(g: &mut Gen) -> Option<ValueId> {
    let x = float(g, 2)?;
    let (k, n) = (last(g, x), g.shape(1)[0]);
    let mut out = vec![];
    for _ in 0..2 + g.rng.below(2) {
        let w = weight(g, x, &[k, n]);
        let y = g.op("matmul", &[x, w], a())?;
        out.push(around(g, y).filter(|y| last(g, *y) == n).unwrap_or(y));
    }
    if g.rng.one_in(3) {
        return g.op("concat", &out, a().with("axis", g.dims(x).len() as i64 - 1));
    }
    let act = function(g, out[0])?;
    g.op("mul", &[act, out[1]], a())
}

fn attention(g: &mut Gen) -> Option<ValueId> {
    let dtype = if g.home.is_float() { g.home } else { DType::F32 };
    let (h, s, e) = (1 + g.rng.below(3), 1 + g.rng.below(6), 1 + g.rng.below(5));
    let heads = |g: &mut Gen| -> Option<ValueId> {
        let shape = [1, s, h * e];
        let ty = TensorType::known(dtype, &shape);
        let x = if let Some(v) = g.pick(|t| *t == ty) { v } else { g.leaf(ty, Draw::Any, false) };
        let w = weight(g, x, &[h * e, h * e]);
        let y = if g.rng.one_in(3) { x } else { g.op("matmul", &[x, w], a())? };
        let y = g.op("reshape", &[y], a().with("shape", vec![1, s as i64, h as i64, e as i64]))?;
        g.op("transpose", &[y], a().with("perm", vec![0, 2, 1, 3]))
    };
    let (q, k, v) = (heads(g)?, heads(g)?, heads(g)?);
    let k = g.op("transpose", &[k], a().with("perm", vec![0, 1, 3, 2]))?;
    let scores = g.op("matmul", &[q, k], a())?;
    let root = g.number((e as f64).sqrt(), scores);
    let scores = if g.rng.one_in(4) { scores } else { g.op("div", &[scores, root], a())? };
    let scores = match g.rng.below(4) {
        0 => {
            let m = g.fresh(TensorType::known(DType::Bool, &[s, s]), Draw::Any);
            let low = g.number(-100.0, scores);
            g.op("select", &[m, scores, low], a())?
        }
        1 => {
            let m = weight(g, scores, &[1, 1, s, s]);
            g.op("add", &[scores, m], a())?
        }
        _ => scores,
    };
    let p = g.op("softmax", &[scores], a().with("axis", 3))?;
    let o = g.op("matmul", &[p, v], a())?;
    let o = g.op("transpose", &[o], a().with("perm", vec![0, 2, 1, 3]))?;
    let o = g.op("reshape", &[o], a().with("shape", vec![1, s as i64, (h * e) as i64]))?;
    around(g, o)
}

fn along(g: &Gen, x: ValueId) -> Attrs {
    a().with("axes", vec![g.dims(x).len() as i64 - 1]).with("keepdims", true)
}

/// A norm, as one op or written out, with a scale and maybe a shift, often before a product.
fn norm(g: &mut Gen) -> Option<ValueId> {
    let x = float(g, 1)?;
    let (n, axis) = (last(g, x), g.dims(x).len() as i64 - 1);
    let s = weight(g, x, &[n]);
    let at = |e: f64| a().with("axis", axis).with("epsilon", e);
    let y = match g.rng.below(4) {
        0 => {
            let c = weight(g, x, &[n]);
            g.op("layer_norm", &[x, s, c], at(1e-3))?
        }
        1 => g.op("rms_norm", &[x, s], at(1e-3))?,
        other => {
            let d = if other == 2 {
                let m = g.op("reduce_mean", &[x], along(g, x))?;
                g.op("sub", &[x, m], a())?
            } else {
                x
            };
            let sq = if g.rng.one_in(2) {
                let two = g.number(2.0, d);
                g.op("pow", &[d, two], a())?
            } else {
                g.op("mul", &[d, d], a())?
            };
            let v = g.op("reduce_mean", &[sq], along(g, x))?;
            let eps = g.number(1e-3, v);
            let v = g.op("add", &[v, eps], a())?;
            let y = if g.rng.one_in(2) {
                let r = g.op("rsqrt", &[v], a())?;
                g.op("mul", &[d, r], a())?
            } else {
                let r = g.op("sqrt", &[v], a())?;
                g.op("div", &[d, r], a())?
            };
            g.op("mul", &[y, s], a())?
        }
    };
    if g.rng.one_in(2) {
        let w = right(g, y);
        return g.op("matmul", &[y, w], a());
    }
    around(g, y)
}

/// Softmax, as one op or written out, with or without the maximum taken off.
fn softmax(g: &mut Gen) -> Option<ValueId> {
    let x = float(g, 1)?;
    let x = around(g, x)?;
    let axis = g.dims(x).len().checked_sub(1)? as i64;
    if g.rng.one_in(3) {
        let name = *g.rng.of(&["softmax", "log_softmax"]);
        return g.op(name, &[x], a().with("axis", axis));
    }
    let d = if g.rng.one_in(4) {
        x
    } else {
        let m = g.op("reduce_max", &[x], along(g, x))?;
        g.op("sub", &[x, m], a())?
    };
    let e = g.op("exp", &[d], a())?;
    let s = g.op("reduce_sum", &[e], along(g, x))?;
    let y = g.op("div", &[e, s], a())?;
    around(g, y)
}

/// A convolution with a bias or a batch norm, an activation, a residual sum or a pool.
fn convolution(g: &mut Gen) -> Option<ValueId> {
    let x = match g.pick(|t| t.dtype.is_float() && (3..=4).contains(&t.rank()) && t.shape.is_static()) {
        Some(v) if !g.rng.one_in(3) => v,
        _ => {
            let dtype = if g.home.is_float() { g.home } else { DType::F32 };
            let shape = [1 + g.rng.below(2), 1 + g.rng.below(4), 3 + g.rng.below(4), 3 + g.rng.below(4)];
            g.leaf(TensorType::known(dtype, &shape), Draw::Any, false)
        }
    };
    let w = kernel(g, x, false);
    let (d, k) = (g.dims(x), g.dims(w));
    let spatial = d.len() - 2;
    let pads: Vec<i64> = k[2..].iter().map(|&n| (n / 2) as i64).collect();
    let stride = *g.rng.of(&[1, 1, 1, 2]);
    let at = a().with("strides", vec![stride; spatial]).with("pads", pads.repeat(2)).with("dilations", vec![1; spatial]);
    let mut y = g.op("conv", &[x, w], at.with("groups", (d[1] / k[1].max(1)) as i64))?;
    let m = k[0];
    match g.rng.below(3) {
        0 => {
            let v: Vec<ValueId> = (0..3).map(|_| weight(g, y, &[m])).collect();
            let var = g.leaf(TensorType::known(g.dtype(y), &[m]), Draw::Positive, true);
            y = g.op("batch_norm", &[y, v[0], v[1], v[2], var], a().with("epsilon", 1e-3))?;
        }
        1 => {
            let c = weight(g, y, &[&[m][..], &vec![1; spatial]].concat());
            y = g.op("add", &[y, c], a())?;
        }
        _ => {}
    }
    if g.rng.one_in(2) && g.dims(x) == g.dims(y) {
        y = g.op("add", &[y, x], a())?;
    }
    if g.rng.one_in(3) {
        let pool = *g.rng.of(&["max_pool", "sum_pool"]);
        let at = a().with("window", vec![2; spatial]).with("strides", vec![1; spatial]);
        y = g.op(pool, &[y], at.with("pads", vec![0; 2 * spatial]).with("dilations", vec![1; spatial]))?;
    }
    around(g, y)
}

/// Moves, one after the other, with something between.
fn moves(g: &mut Gen) -> Option<ValueId> {
    let mut x = g.pick(|t| t.shape.is_static() && t.rank() > 0)?;
    for _ in 0..2 + g.rng.below(3) {
        let d = g.dims(x);
        x = match g.rng.below(5) {
            0 => {
                let mut p: Vec<i64> = (0..d.len() as i64).collect();
                for i in (1..p.len()).rev() {
                    p.swap(i, g.rng.below(i + 1));
                }
                g.op("transpose", &[x], a().with("perm", p))?
            }
            1 => {
                let s = factors(g, d.iter().product());
                g.op("reshape", &[x], a().with("shape", s))?
            }
            2 => part(g, x)?,
            3 => {
                let axis = g.rng.below(d.len().max(1)) as i64;
                let y = part(g, x)?;
                g.op("concat", &[y, x], a().with("axis", axis)).unwrap_or(y)
            }
            _ if g.dtype(x).is_float() => around(g, x)?,
            _ => x,
        };
    }
    Some(x)
}

/// A slice along one axis.
fn part(g: &mut Gen, x: ValueId) -> Option<ValueId> {
    let d = g.dims(x);
    let axis = g.rng.below(d.len().max(1));
    let (mut starts, mut sizes) = (vec![0i64; d.len()], d.iter().map(|&n| n as i64).collect::<Vec<_>>());
    let start = g.rng.below(*d.get(axis)?);
    starts[axis] = start as i64;
    sizes[axis] = 1 + g.rng.below(d[axis] - start) as i64;
    g.op("slice", &[x], a().with("starts", starts).with("sizes", sizes).with("steps", vec![1; d.len()]))
}

/// A reduction, joined with what it reduced.
fn centred(g: &mut Gen) -> Option<ValueId> {
    let x = float(g, 1)?;
    let x = around(g, x)?;
    let name = *g.rng.of(&["reduce_sum", "reduce_max", "reduce_min", "reduce_mean"]);
    let rank = g.dims(x).len() as i64;
    let axes: Vec<i64> = (0..rank).filter(|_| g.rng.one_in(2)).collect();
    let keep = !g.rng.one_in(4);
    let m = g.op(name, &[x], a().with("axes", axes).with("keepdims", keep))?;
    let m = around(g, m)?;
    let y = if keep { binary(g, x, m)? } else { m };
    around(g, y)
}

/// The two halves of the last axis.
fn split(g: &mut Gen, x: ValueId) -> Option<(ValueId, ValueId)> {
    let d = g.dims(x);
    let half = d.last()? / 2;
    if half == 0 || d.last()? % 2 != 0 {
        return None;
    }
    let mut sizes: Vec<i64> = d.iter().map(|&n| n as i64).collect();
    *sizes.last_mut()? = half as i64;
    let mut at = |start: usize| {
        let mut starts = vec![0; d.len()];
        starts[d.len() - 1] = start as i64;
        g.op("slice", &[x], a().with("starts", starts).with("sizes", sizes.clone()).with("steps", vec![1; d.len()]))
    };
    Some((at(0)?, at(half)?))
}

/// A rotary embedding over the last axis.
fn rotary(g: &mut Gen) -> Option<ValueId> {
    let x = match g.pick(|t| t.dtype.is_float() && t.rank() > 1 && t.shape.0.last().and_then(|d| d.known()).is_some_and(|n| n % 2 == 0)) {
        Some(v) => v,
        None => {
            let dtype = if g.home.is_float() { g.home } else { DType::F32 };
            g.leaf(TensorType::known(dtype, &[2, 3, 4]), Draw::Any, false)
        }
    };
    let (low, high) = split(g, x)?;
    let high = g.op("neg", &[high], a())?;
    let turned = g.op("concat", &[high, low], a().with("axis", g.dims(x).len() as i64 - 1))?;
    let d = g.dims(x);
    let tail = &d[d.len() - 2..];
    let (c, s) = (weight(g, x, tail), weight(g, x, tail));
    let (p, q) = (g.op("mul", &[x, c], a())?, g.op("mul", &[turned, s], a())?);
    g.op("add", &[p, q], a())
}

/// A gated unit on the halves of one value.
fn halves(g: &mut Gen) -> Option<ValueId> {
    let x = float(g, 1)?;
    let (low, high) = split(g, x)?;
    let low = function(g, low)?;
    g.op("mul", &[low, high], a())
}

/// Something computed in another number type.
fn narrow(g: &mut Gen) -> Option<ValueId> {
    let x = float(g, 0)?;
    let d = g.dtype(x);
    let to = *g.rng.of(&[DType::BF16, DType::F32, DType::F16, DType::F64]);
    let y = g.op("cast", &[x], a().with("to", to).with("saturate", true))?;
    let y = around(g, y)?;
    g.op("cast", &[y], a().with("to", d).with("saturate", true))
}

/// Rows of a table by index.
fn lookup(g: &mut Gen) -> Option<ValueId> {
    let (rows, n) = (2 + g.rng.below(6), 1 + g.rng.below(6));
    let dtype = g.home;
    let table = g.leaf(TensorType::known(dtype, &[rows, n]), Draw::Any, true);
    let rank = g.rng.below(3);
    let shape = g.shape(rank);
    let ids = g.leaf(TensorType::known(DType::I64, &shape), Draw::Index(rows as i64), false);
    let y = g.op("gather", &[table, ids], a().with("axis", 0))?;
    if g.dtype(y).is_float() { around(g, y) } else { Some(y) }
}

/// A product by an integer weight with a scale.
fn quantised(g: &mut Gen) -> Option<ValueId> {
    let x = float(g, 1)?;
    let (k, n) = (last(g, x), g.shape(1)[0]);
    let from = *g.rng.of(&[DType::I8, DType::U8, DType::I4, DType::U4]);
    let w = g.leaf(TensorType::known(from, &[k, n]), Draw::Any, true);
    let w = g.op("cast", &[w], a().with("to", g.dtype(x)).with("saturate", true))?;
    let shape = if g.rng.one_in(2) { vec![1, n] } else { vec![k, 1] };
    let s = weight(g, x, &shape);
    let w = if g.rng.one_in(3) {
        let zero = weight(g, x, &shape);
        g.op("sub", &[w, zero], a())?
    } else {
        w
    };
    let w = g.op("mul", &[w, s], a())?;
    let y = g.op("matmul", &[x, w], a())?;
    around(g, y)
}

/// One product after another.
fn twice(g: &mut Gen) -> Option<ValueId> {
    let x = float(g, 2)?;
    let (w, v) = (right(g, x), g.shape(1)[0]);
    let y = g.op("matmul", &[x, w], a())?;
    let y = around(g, y)?;
    let k = last(g, y);
    let w = weight(g, y, &[k, v]);
    g.op("matmul", &[y, w], a())
}

/// x·k + c and the like, several times: what folds together.
fn affine(g: &mut Gen) -> Option<ValueId> {
    let mut x = float(g, 1)?;
    for _ in 0..2 + g.rng.below(3) {
        let shape = match g.rng.below(3) {
            0 => vec![],
            1 => vec![last(g, x)],
            _ => g.dims(x),
        };
        let w = if g.rng.one_in(3) {
            let k = *g.rng.of(&[2.0, 0.5, -1.0, 0.25, 1.0]);
            g.number(k, x)
        } else {
            weight(g, x, &shape)
        };
        let name = *g.rng.of(&["add", "mul", "sub", "div", "neg"]);
        x = if name == "neg" { g.op("neg", &[x], a())? } else { g.op(name, &[x, w], a())? };
    }
    Some(x)
}
