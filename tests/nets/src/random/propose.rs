//! Operands and attributes that an op might take: proposed by what its row declares, for the row itself to accept or refuse.

use super::{Draw, Gen, Rng};
use tahoma_core::op::{AttrDef, AttrType, Contract, Kind, Move, OpDef, OperandDef, Scalar, TypeSet};
use tahoma_core::{Attr, Attrs, DType, Tensor, TensorType, ValueId};

pub(super) fn any_dtype(rng: &mut Rng) -> DType {
    let all: Vec<DType> = DType::all().collect();
    *rng.of(&all)
}

/// Operands and attributes for an op.
pub(super) fn application(g: &mut Gen, op: &OpDef) -> Option<(Vec<ValueId>, Attrs)> {
    let operands = operands(g, op)?;
    let first = operands.first().map(|&v| g.dims(v)).unwrap_or_default();
    let mut attrs = Attrs::new();
    for def in op.attrs {
        let a = attr(g, op, def, &first, &operands, &attrs)?;
        attrs = attrs.with(def.name, a);
    }
    Some((operands, attrs))
}

/// A value of one of these types, of at least this rank.
fn value(g: &mut Gen, types: TypeSet, rank: usize) -> ValueId {
    if !g.rng.one_in(5)
        && let Some(v) = g.pick(|t| types.has(t.dtype) && t.rank() >= rank)
    {
        return v;
    }
    let dtype = loop {
        let d = if g.rng.one_in(6) { any_dtype(&mut g.rng) } else { g.home };
        let d = match types {
            TypeSet::Bool => DType::Bool,
            TypeSet::I64 => DType::I64,
            _ if types.has(d) => d,
            TypeSet::Float => DType::F32,
            _ => any_dtype(&mut g.rng),
        };
        if types.has(d) {
            break d;
        }
    };
    let most = if rank > 2 { 5 } else { *g.rng.of(&[0, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 5]) };
    let rank = if most > rank { rank + g.rng.below(most - rank + 1) } else { rank };
    let shape = g.shape(rank);
    g.fresh(TensorType::known(dtype, &shape), Draw::Any)
}

fn operands(g: &mut Gen, op: &OpDef) -> Option<Vec<ValueId>> {
    let Some(first) = op.operands.first() else { return Some(vec![]) };
    let least = match op.kind {
        Kind::Window(_) | Kind::Contract(Contract::Conv) => 3,
        Kind::Contract(Contract::MatMul) | Kind::Gather | Kind::Scatter | Kind::Scan(_) => 1,
        // Names of operands say what the composites want: a convolution's weight, vectors of channels.
        Kind::Composite(_) if op.operands.iter().any(|o| o.name == "w") => 3,
        Kind::Composite(_) if op.operands.len() > 1 => 1,
        _ => 0,
    };
    match op.kind {
        Kind::Elementwise(Scalar::Select) => {
            let a = value(g, TypeSet::Any, 0);
            let b = partner(g, a, g.dtype(a));
            let c = partner(g, a, DType::Bool);
            return Some(vec![c, a, b]);
        }
        Kind::Opaque if op.operands[0].name == "shape" => {
            let rank = g.rng.below(4);
            let dims = g.shape(rank);
            return Some(vec![numbers(g, &dims.iter().map(|&n| n as i64).collect::<Vec<_>>())]);
        }
        Kind::Opaque if op.attrs.is_empty() && op.operands.len() == 1 && op.operands[0].types == TypeSet::Float => {
            // Square matrices.
            let n = 1 + g.rng.below(4);
            let rank = g.rng.below(3);
            let shape = [g.shape(rank), vec![n, n]].concat();
            return Some(vec![g.fresh(TensorType::known(DType::F32, &shape), Draw::Any)]);
        }
        _ => {}
    }
    // Ops on shapes are themselves where extents are open.
    let open = if matches!(op.kind, Kind::Opaque) && g.rng.one_in(2) { g.open() } else { None };
    let x = open.filter(|v| first.types.has(g.dtype(*v))).unwrap_or_else(|| value(g, first.types, least));
    let mut all = vec![x];
    if first.variadic {
        for _ in 0..g.rng.below(4) {
            all.push(part(g, x));
        }
        return Some(all);
    }
    // Vectors of a composite share a shape.
    let d = g.dims(x);
    let vector = match g.rng.below(4) {
        0 => d[g.rng.below(d.len() + 1)..].to_vec(),
        1 => d.last().map(|n| vec![*n]).unwrap_or_default(),
        2 => d.get(1).map(|n| vec![*n]).unwrap_or_default(),
        _ => vec![],
    };
    for def in &op.operands[1..] {
        let v = match op.kind {
            Kind::Elementwise(_) => {
                let to = if g.rng.one_in(8) { any_dtype(&mut g.rng) } else { g.dtype(x) };
                partner(g, x, to)
            }
            Kind::Contract(Contract::MatMul) => right(g, x),
            Kind::Contract(Contract::Conv) => kernel(g, x, false),
            Kind::Composite(_) if def.name == "w" => kernel(g, x, true),
            Kind::Gather | Kind::Scatter => place(g, def, &all, op.attrs.iter().any(|a| a.name == "axis"))?,
            Kind::Opaque if def.types == TypeSet::I64 => positions(g, def, &d, op),
            Kind::Opaque => partner(g, x, g.dtype(x)),
            _ => {
                let draw = if def.name == "variance" { Draw::Positive } else { Draw::Any };
                let ty = TensorType::known(g.dtype(x), &vector);
                if g.rng.one_in(3)
                    && def.name != "variance"
                    && let Some(v) = g.pick(|t| *t == ty)
                {
                    v
                } else {
                    g.fresh(ty, draw)
                }
            }
        };
        all.push(v);
    }
    Some(all)
}

fn broadcasts(x: &[usize], y: &[usize]) -> bool {
    x.iter().rev().zip(y.iter().rev()).all(|(a, b)| a == b || *a == 1 || *b == 1)
}

/// Something that broadcasts with a value.
pub(super) fn partner(g: &mut Gen, x: ValueId, dtype: DType) -> ValueId {
    let d = g.dims(x);
    if !g.rng.one_in(3) {
        let fits = |t: &TensorType| t.dtype == dtype && t.shape.to_static().is_some_and(|s| broadcasts(&s, &d));
        if let Some(v) = g.pick(fits) {
            return v;
        }
    }
    let shape = match g.rng.below(6) {
        0 => d,
        1 => d[d.len().saturating_sub(1)..].to_vec(),
        2 => d.iter().map(|&n| if g.rng.one_in(2) { 1 } else { n }).collect(),
        3 => d[g.rng.below(d.len() + 1)..].to_vec(),
        4 if d.len() < 4 => [g.shape(1), d].concat(),
        _ => vec![],
    };
    g.fresh(TensorType::known(dtype, &shape), Draw::Any)
}

/// Something to concatenate with a value.
fn part(g: &mut Gen, x: ValueId) -> ValueId {
    let (d, dtype) = (g.dims(x), g.dtype(x));
    let differ = |s: &[usize]| s.iter().zip(&d).filter(|(a, b)| a != b).count();
    if !g.rng.one_in(3)
        && let Some(v) = g.pick(|t| t.dtype == dtype && t.rank() == d.len() && t.shape.to_static().is_some_and(|s| differ(&s) <= 1))
    {
        return v;
    }
    let mut shape = d.clone();
    if !d.is_empty() {
        let at = g.rng.below(d.len());
        shape[at] = 1 + g.rng.below(4);
    }
    g.fresh(TensorType::known(dtype, &shape), Draw::Any)
}

/// The right side of a matrix product.
pub(super) fn right(g: &mut Gen, x: ValueId) -> ValueId {
    let (d, dtype) = (g.dims(x), g.dtype(x));
    let k = *d.last().unwrap_or(&1);
    let inner = |s: &[usize]| s.len().checked_sub(2).map_or(s.first(), |i| s.get(i)) == Some(&k);
    if g.rng.one_in(3)
        && let Some(v) = g.pick(|t| t.dtype == dtype && t.shape.to_static().is_some_and(|s| inner(&s)))
    {
        return v;
    }
    let n = g.shape(1)[0];
    let shape = match g.rng.below(8) {
        0 => vec![k],
        1 if d.len() > 2 => [&d[..d.len() - 2], &[k, n]].concat(),
        2 if d.len() < 4 => vec![g.shape(1)[0], k, n],
        _ => vec![k, n],
    };
    g.fresh(TensorType::known(dtype, &shape), Draw::Any)
}

/// The weight of a convolution of x[N, C, …], or of a transposed one.
pub(super) fn kernel(g: &mut Gen, x: ValueId, transposed: bool) -> ValueId {
    let d = g.dims(x);
    let c = d.get(1).copied().unwrap_or(1);
    let groups = *g.rng.of(&[1, 1, 1, c, 2]);
    let groups = if c % groups.max(1) == 0 { groups.max(1) } else { 1 };
    let m = groups * (1 + g.rng.below(3));
    let lead = if transposed { [c, m / groups] } else { [m, c / groups] };
    let taps: Vec<usize> = d.iter().skip(2).map(|_| *g.rng.of(&[1, 1, 2, 3])).collect();
    let shape = [&lead[..], &taps].concat();
    let dtype = g.dtype(x);
    g.fresh(TensorType::known(dtype, &shape), Draw::Any)
}

/// Indices, or what is written at them.
fn place(g: &mut Gen, def: &OperandDef, before: &[ValueId], along: bool) -> Option<ValueId> {
    let x = before[0];
    let (d, dtype) = (g.dims(x), g.dtype(x));
    if def.types == TypeSet::Int {
        let ty = |g: &mut Gen, s: &[usize]| TensorType::known(*g.rng.of(&[DType::I64, DType::I64, DType::I32, DType::U8]), s);
        let (shape, most) = match g.rng.below(3) {
            // Element by element.
            0 => (d.iter().map(|&n| 1 + g.rng.below(n.max(1))).collect(), *g.rng.of(&d)),
            // Along one axis.
            1 if along => {
                let rank = g.rng.below(3);
                (g.shape(rank), *g.rng.of(&d))
            }
            // Tuples.
            _ => {
                let q = 1 + g.rng.below(d.len());
                let rank = g.rng.below(2);
                let lead = if g.rng.one_in(3) { d[..rank].to_vec() } else { g.shape(rank) };
                ([lead, g.shape(1), vec![q]].concat(), *d[..q].iter().min()?)
            }
        };
        let ty = ty(g, &shape);
        return (most > 0).then(|| g.fresh(ty, Draw::Index(most as i64)));
    }
    // Updates: of the indices' shape, or slices of x at tuples.
    let i = g.dims(before[1]);
    let q = *i.last()?;
    let shape = if along { i } else { [&i[..i.len() - 1], d.get(q..)?].concat() };
    Some(g.fresh(TensorType::known(dtype, &shape), Draw::Any))
}

/// An i64 input that always holds these numbers.
fn numbers(g: &mut Gen, v: &[i64]) -> ValueId {
    let t = Tensor::i64(&[v.len()], v.to_vec());
    if g.rng.one_in(2) { g.constant(t) } else { g.leaf(t.ty(), Draw::Fixed(t), false) }
}

/// A shape operand of an op on a value of extents `d`, by its name.
fn positions(g: &mut Gen, def: &OperandDef, d: &[usize], op: &OpDef) -> ValueId {
    let n = d.len();
    let v: Vec<i64> = match def.name {
        "shape" if op.name.starts_with("broadcast") => broadcast(g, d),
        "shape" => factors(g, d.iter().product()),
        "starts" => (0..n).map(|_| g.rng.below(3) as i64 - 1).collect(),
        "ends" => d.iter().map(|&m| m as i64 - g.rng.below(2) as i64).collect(),
        "axes" => (0..n as i64).collect(),
        "steps" => (0..n).map(|_| *g.rng.of(&[1, 1, 1, 2])).collect(),
        "repeats" => (0..n).map(|_| *g.rng.of(&[1, 1, 2, 3])).collect(),
        "pads" => (0..2 * n).map(|_| g.rng.below(3) as i64).collect(),
        _ => vec![1],
    };
    numbers(g, &v)
}

/// A shape with this many elements.
pub(super) fn factors(g: &mut Gen, mut n: usize) -> Vec<i64> {
    let mut out = vec![];
    if n == 0 {
        return vec![0];
    }
    while n > 1 && out.len() < 4 {
        let divisors: Vec<usize> = (2..=n).filter(|k| n.is_multiple_of(*k)).collect();
        let k = *g.rng.of(&divisors);
        out.push(k as i64);
        n /= k;
    }
    if n > 1 {
        out.push(n as i64);
    }
    if g.rng.one_in(3) && out.len() < 5 {
        let at = g.rng.below(out.len() + 1);
        out.insert(at, 1);
    }
    out
}

/// A shape that extents broadcast to.
fn broadcast(g: &mut Gen, d: &[usize]) -> Vec<i64> {
    let wide = d.iter().map(|&n| if n == 1 && g.rng.one_in(2) { g.shape(1)[0] } else { n }).collect();
    let lead = if d.len() < 4 && g.rng.one_in(2) { g.shape(1) } else { vec![] };
    [lead, wide].concat().iter().map(|&n| n as i64).collect()
}

/// Words that attributes take; the row says which of them.
const WORDS: &[&str] = &["none", "add", "mul", "max", "min", "constant", "edge", "reflect", "wrap"];

fn attr(g: &mut Gen, op: &OpDef, def: &AttrDef, d: &[usize], operands: &[ValueId], so_far: &Attrs) -> Option<Attr> {
    let n = d.len();
    Some(match def.ty {
        AttrType::Bool => g.rng.one_in(2).into(),
        AttrType::Float if def.name == "epsilon" => (*g.rng.of(&[1e-5, 1e-3, 0.1])).into(),
        AttrType::Float => (*g.rng.of(&[0.0, 0.0, 1.0, 0.5, 0.2, 2.0, -1.0, -0.5])).into(),
        AttrType::Str => (*g.rng.of(WORDS)).into(),
        AttrType::DType => {
            let d = *g.rng.of(&[DType::F32, DType::F32, DType::BF16, DType::F16, DType::F64, DType::I64, DType::I32, g.home]);
            let any = any_dtype(&mut g.rng);
            if g.rng.one_in(4) { any.into() } else { d.into() }
        }
        AttrType::Tensor => {
            let d = g.home;
            drawn_scalar(g, d).into()
        }
        AttrType::Int => match def.name {
            // A new axis may come last.
            "axis" => (g.rng.below(n + usize::from(op.operands.len() == 1)) as i64).into(),
            "groups" => {
                let c = d.get(1).copied().unwrap_or(1);
                let per = operands.get(1).map(|&w| g.dims(w)).and_then(|w| w.get(1).copied()).filter(|&p| p > 0 && c % p == 0);
                // Of a convolution what the weight says, otherwise a divisor.
                per.map_or(*g.rng.of(&[1, 1, 2, c]), |p| if g.rng.one_in(4) { 1 } else { c / p })
                    .to_owned()
                    .try_into()
                    .map(Attr::Int)
                    .ok()?
            }
            _ => (g.rng.below(4) as i64).into(),
        },
        AttrType::Ints => {
            let spatial = n.saturating_sub(2);
            let taps: Vec<usize> = operands.get(1).map(|&w| g.dims(w).into_iter().skip(2).collect()).unwrap_or_default();
            let ints = |g: &mut Gen, n: usize, of: &[i64]| (0..n).map(|_| *g.rng.of(of)).collect::<Vec<i64>>();
            match def.name {
                "perm" => {
                    let mut p: Vec<i64> = (0..n as i64).collect();
                    for i in (1..n).rev() {
                        p.swap(i, g.rng.below(i + 1));
                    }
                    p
                }
                "axes" if g.rng.one_in(2) => vec![n.checked_sub(1)? as i64],
                "axes" => (0..n as i64).filter(|_| g.rng.one_in(2)).collect(),
                "shape" if matches!(op.kind, Kind::Move(Move::Broadcast)) => broadcast(g, d),
                "shape" if matches!(op.kind, Kind::Generate) => {
                    let rank = 1 + g.rng.below(3);
                    g.shape(rank).iter().map(|&n| n as i64).collect()
                }
                "shape" => factors(g, d.iter().product()),
                "starts" => d.iter().map(|&m| if g.rng.one_in(2) { 0 } else { g.rng.below(m) as i64 }).collect(),
                "sizes" => {
                    let starts = so_far.ints("starts")?.to_vec();
                    d.iter().zip(&starts).map(|(&m, &s)| if g.rng.one_in(2) { m as i64 - s } else { 1 + g.rng.below(m) as i64 }).collect()
                }
                "steps" => ints(g, n, &[1, 1, 1, 1, 2, -1]),
                "low" | "high" => ints(g, n, &[0, 0, 0, 1, 2, -1]),
                "interior" => ints(g, n, &[0, 0, 0, 0, 1]),
                "window" => ints(g, spatial, &[1, 2, 3]),
                "strides" => ints(g, spatial, &[1, 1, 2]),
                "dilations" => ints(g, spatial, &[1, 1, 1, 2]),
                // As much as keeps the extents, or a little.
                "pads" if g.rng.one_in(2) && taps.len() == spatial => {
                    let same: Vec<i64> = taps.iter().map(|&k| (k / 2) as i64).collect();
                    same.repeat(2)
                }
                "pads" => ints(g, 2 * spatial, &[0, 0, 1]),
                _ => ints(g, spatial, &[0, 0, 1]),
            }
            .into()
        }
        AttrType::Floats | AttrType::Func => return None,
    })
}

fn drawn_scalar(g: &mut Gen, dtype: DType) -> Tensor {
    super::drawn(&mut g.rng, &TensorType::scalar(dtype), &Draw::Any, false)
}
