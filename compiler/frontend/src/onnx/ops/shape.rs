//! Rearranging: reshape, transpose, slices, joins, padding, and the arithmetic of shapes.

use super::{Row, many, one};
use crate::onnx::context::{Context, R, V, attrs, norm_axis};
use tahoma_core::{DType, Dim, OpError};

pub(super) static ROWS: &[Row] = &[
    one("Shape", 1, shape),
    one("Size", 1, size),
    one("Reshape", 1, reshape),
    one("Flatten", 1, flatten),
    one("Transpose", 1, transpose),
    one("Squeeze", 1, squeeze),
    one("Unsqueeze", 1, unsqueeze),
    one("Concat", 1, concat),
    many("Split", 1, split),
    one("Slice", 1, slice),
    one("Pad", 1, pad),
    one("Expand", 8, expand),
    one("Tile", 1, tile_old),
    one("Tile", 6, tile),
    one("DepthToSpace", 1, depth_to_space),
    one("SpaceToDepth", 1, space_to_depth),
    one("CenterCropPad", 18, center_crop_pad),
    one("ReverseSequence", 10, reverse_sequence),
];

fn shape(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let rank = cx.rank(x) as i64;
    let all = cx.f("shape_of", &[x])?;
    let clamp = |v: i64| (if v < 0 { v.saturating_add(rank) } else { v }).clamp(0, rank);
    let start = clamp(cx.attrs.int("start").unwrap_or(0));
    let end = clamp(cx.attrs.int("end").unwrap_or(rank));
    // Some extents may be numbers while others are open: what is asked for folds where it can.
    let wanted: Vec<Dim> = cx.shape(x).0[start as usize..end.max(start) as usize].to_vec();
    if let Some(known) = wanted.iter().map(|d| d.known().map(|n| n as i64)).collect::<Option<Vec<_>>>() {
        return Ok(cx.ints(&known));
    }
    cx.slice(all, 0, start as usize, (end - start).max(0) as usize)
}

fn size(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let s = cx.f("shape_of", &[x])?;
    cx.reduce("reduce_prod", s, &[0], false)
}

/// 0 takes the operand's extent (unless allowzero), -1 what is left.
fn reshape(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let allow_zero = cx.attrs.int("allowzero").unwrap_or(0) != 0;
    let from = cx.shape(x).0;
    let given = if cx.since() < 5 {
        cx.attrs.ints("shape").map(<[i64]>::to_vec)
    } else {
        let v = cx.input(1)?;
        cx.ints_of(v)
    };
    let Some(given) = given else {
        let shape = cx.input(1)?;
        return reshape_at_run_time(cx, x, shape, allow_zero);
    };
    if given.iter().filter(|&&d| d == -1).count() > 1 || given.iter().any(|&d| d < -1) {
        return Err(
            OpError::attr(format!("shape {given:?} is not one: extents are at least 0, and one may be -1")).mark(1, "is not a shape")
        );
    }
    let mut dims: Vec<Option<Dim>> = Vec::new();
    for (i, &d) in given.iter().enumerate() {
        dims.push(match d {
            0 if !allow_zero => Some(
                from.get(i)
                    .cloned()
                    .ok_or_else(|| OpError::shape(format!("shape {given:?} copies extent {i}, which the operand does not have")))?,
            ),
            -1 => None,
            n => Some(Dim::Known(n as u64)),
        });
    }
    let all = cx.shape(x).elements();
    let known: Option<u64> = dims.iter().flatten().try_fold(1u64, |n, d| n.checked_mul(d.known()?));
    if let (Some(all), Some(known)) = (all, known) {
        let rest = all.checked_div(known).unwrap_or(0);
        let fits = if given.contains(&-1) { known != 0 && all % known == 0 || known == 0 && all == 0 } else { all == known };
        if !fits {
            return Err(OpError::shape(format!("{all} elements do not fill the shape {given:?}"))
                .mark(0, format!("has {all} elements"))
                .note("if the batch or sequence is fixed in the shape, import with the extents the model was exported for"));
        }
        let dims: Vec<usize> = dims.into_iter().map(|d| d.and_then(|d| d.known()).unwrap_or(rest) as usize).collect();
        return cx.reshape(x, &dims);
    }
    let open: Vec<&Dim> = from.iter().filter(|d| d.known().is_none()).collect();
    // Open extents that are copied cancel: then -1 is known after all.
    if dims.iter().flatten().filter(|d| d.known().is_none()).count() == open.len() {
        let product = |n: u64, d: &Dim| n.checked_mul(d.known().unwrap_or(1));
        let (a, k) = (from.iter().try_fold(1, product), dims.iter().flatten().try_fold(1, product));
        if let (Some(a), Some(k)) = (a, k)
            && k != 0
            && a % k == 0
        {
            let full: Vec<Dim> = dims.iter().map(|d| d.clone().unwrap_or(Dim::Known(a / k))).collect();
            return cx.reshape_dims(x, &full);
        }
    }
    let mut parts = Vec::new();
    let mut run = Vec::new();
    let shape_of = cx.f("shape_of", &[x])?;
    for (i, d) in dims.iter().enumerate() {
        match d {
            Some(Dim::Known(n)) => run.push(*n as i64),
            None => run.push(-1),
            Some(Dim::Sym(_)) => {
                if !run.is_empty() {
                    let r = std::mem::take(&mut run);
                    parts.push(cx.ints(&r));
                }
                parts.push(cx.slice(shape_of, 0, i, 1)?);
            }
        }
    }
    if !run.is_empty() {
        parts.push(cx.ints(&run));
    }
    let shape = cx.concat(&parts, 0)?;
    cx.f("reshape_to", &[x, shape])
}

fn reshape_at_run_time(cx: &mut Context, x: V, shape: V, allow_zero: bool) -> R<V> {
    let n = cx.dim(shape, 0)?;
    let mut shape = cx.cast(shape, DType::I64)?;
    if !allow_zero {
        // Where the shape says 0 the operand's extent stands; axes the operand lacks cannot be copied.
        let own = cx.f("shape_of", &[x])?;
        let rank = cx.rank(x);
        let own = if rank >= n {
            cx.slice(own, 0, 0, n)?
        } else {
            let zeros = cx.ints(&vec![0; n - rank]);
            cx.concat(&[own, zeros], 0)?
        };
        let zero = cx.int(0);
        let copy = cx.f("eq", &[shape, zero])?;
        shape = cx.f("select", &[copy, own, shape])?;
    }
    cx.f("reshape_to", &[x, shape])
}

fn flatten(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let rank = cx.rank(x) as i64;
    let axis = cx.attrs.int("axis").unwrap_or(1);
    let axis = if axis < 0 { axis + rank } else { axis };
    if !(0..=rank).contains(&axis) {
        return Err(OpError::attr(format!("axis {axis} is out of range for rank {rank}")));
    }
    let dims = cx.dims(x)?;
    let (a, b) = dims.split_at(axis as usize);
    cx.reshape(x, &[a.iter().product(), b.iter().product()])
}

fn transpose(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let rank = cx.rank(x);
    let perm: Vec<usize> = match cx.attrs.ints("perm") {
        Some(p) => p.iter().map(|&a| norm_axis(a, rank)).collect::<R<_>>()?,
        None => (0..rank).rev().collect(),
    };
    let mut sorted = perm.clone();
    sorted.sort_unstable();
    if sorted != (0..rank).collect::<Vec<_>>() {
        return Err(OpError::attr(format!("perm {perm:?} is not a permutation of {rank} axes")).mark(0, format!("has rank {rank}")));
    }
    cx.transpose(x, &perm)
}

/// `axes`, an attribute below operator set 13, an operand from there on.
fn axes_of(cx: &Context) -> R<Option<Vec<i64>>> {
    match cx.try_opt(1)? {
        Some(v) => Ok(Some(cx.ints_of(v).ok_or_else(|| cx.not_constant(1))?)),
        None => Ok(cx.attrs.ints("axes").map(<[i64]>::to_vec)),
    }
}

fn squeeze(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let shape = cx.shape(x).0;
    let axes = match axes_of(cx)? {
        Some(a) => cx.axes(&a, shape.len())?,
        None => (0..shape.len()).filter(|&i| shape[i] == Dim::Known(1)).collect(),
    };
    if let Some(&a) = axes.iter().find(|&&a| shape[a].known().is_some_and(|n| n != 1)) {
        return Err(OpError::shape(format!("axis {a} has extent {}, not 1", shape[a])).mark(0, format!("axis {a} must be 1")));
    }
    cx.squeeze(x, &axes)
}

fn unsqueeze(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let axes = axes_of(cx)?.ok_or_else(|| OpError::attr("needs axes"))?;
    let axes = cx.axes(&axes, cx.rank(x) + axes.len())?;
    cx.expand_dims(x, &axes)
}

fn concat(cx: &mut Context) -> R<V> {
    let all = cx.inputs()?;
    let rank = cx.rank(*all.first().ok_or_else(|| OpError::new("E0202", "needs operands"))?);
    // Below operator set 4 the axis is 1 unless said.
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(1), rank)?;
    cx.concat(&all, axis)
}

fn split(cx: &mut Context) -> R<Vec<V>> {
    let x = cx.input(0)?;
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(0), cx.rank(x))?;
    let extent = cx.dim(x, axis)?;
    let sizes: Vec<usize> = match axes_of_split(cx)? {
        Some(s) => s
            .iter()
            .map(|&n| usize::try_from(n).map_err(|_| OpError::attr(format!("split {s:?} has a negative size"))))
            .collect::<R<_>>()?,
        None => {
            let n = cx.attrs.int("num_outputs").map_or(cx.node.output.len(), |n| n.max(0) as usize);
            if n == 0 || n > extent.max(1) {
                return Err(OpError::attr(format!("cannot split {extent} elements into {n} parts")));
            }
            if cx.since() < 18 && extent % n != 0 {
                return Err(OpError::shape(format!("{extent} elements do not split into {n} equal parts"))
                    .mark(0, format!("axis {axis} must be a multiple of {n}")));
            }
            let part = extent.div_ceil(n);
            (0..n).map(|i| part.min(extent.saturating_sub(i * part))).collect()
        }
    };
    if sizes.iter().try_fold(0usize, |a, &b| a.checked_add(b)) != Some(extent) {
        return Err(
            OpError::shape(format!("the parts {sizes:?} do not add up to {extent}")).mark(0, format!("axis {axis} has {extent} elements"))
        );
    }
    let mut at = 0;
    sizes
        .iter()
        .map(|&n| {
            let v = cx.slice(x, axis, at, n);
            at += n;
            v
        })
        .collect()
}

fn axes_of_split(cx: &Context) -> R<Option<Vec<i64>>> {
    match cx.try_opt(1)? {
        Some(v) => Ok(Some(cx.ints_of(v).ok_or_else(|| cx.not_constant(1))?)),
        None => Ok(cx.attrs.ints("split").map(<[i64]>::to_vec)),
    }
}

/// ONNX Slice: ends are exclusive, clamped, may count from the end; steps may be negative.
fn slice(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let rank = cx.rank(x);
    let old = cx.since() < 10;
    let known = |cx: &Context, i: usize| -> R<Option<Vec<i64>>> {
        match cx.try_opt(i)? {
            Some(v) => Ok(cx.ints_of(v)),
            None => Ok(None),
        }
    };
    let (starts, ends, axes, steps) = if old {
        let get = |n| cx.attrs.ints(n).map(<[i64]>::to_vec);
        (get("starts"), get("ends"), get("axes"), None)
    } else {
        if (1..5).any(|i| cx.opt(i).is_some_and(|v| cx.ints_of(v).is_none())) {
            return slice_at_run_time(cx, x);
        }
        (known(cx, 1)?, known(cx, 2)?, known(cx, 3)?, known(cx, 4)?)
    };
    let starts = starts.ok_or_else(|| OpError::attr("needs starts"))?;
    let ends = ends.ok_or_else(|| OpError::attr("needs ends"))?;
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return Err(OpError::attr("starts, ends, axes and steps must have one length"));
    }
    cx.axes(&axes, rank)?;
    let touched: Vec<usize> = axes.iter().map(|&a| norm_axis(a, rank)).collect::<R<_>>()?;
    // Axes that are not cut may stay open; the static form needs all of them.
    if !cx.shape(x).is_static() {
        if touched.iter().all(|&a| cx.shape(x)[a].known().is_some()) || old {
            let v = [cx.ints(&starts), cx.ints(&ends), cx.ints(&axes), cx.ints(&steps)];
            return cx.f("slice_to", &[x, v[0], v[1], v[2], v[3]]);
        }
        return slice_at_run_time(cx, x);
    }
    let dims = cx.dims(x)?;
    let (mut s, mut n, mut t): (Vec<i64>, Vec<i64>, Vec<i64>) = (vec![0; rank], dims.iter().map(|&d| d as i64).collect(), vec![1; rank]);
    for (k, &a) in touched.iter().enumerate() {
        (s[a], n[a], t[a]) = slice_range(starts[k], ends[k], steps[k], dims[a] as i64)?;
    }
    if n.iter().zip(&dims).all(|(n, &d)| *n == d as i64) && t.iter().all(|&t| t == 1) {
        return Ok(x);
    }
    cx.op("slice", &[x], attrs! {"starts": s, "sizes": n, "steps": t})
}

/// First element, count and step of `[start:end:step]` on `dim` elements.
fn slice_range(start: i64, end: i64, step: i64, dim: i64) -> R<(i64, i64, i64)> {
    if step == 0 {
        return Err(OpError::attr("a step cannot be 0"));
    }
    let wrap = |v: i64| if v < 0 { v.saturating_add(dim) } else { v };
    let (lo, hi) = if step > 0 { (0, dim) } else { (-1, dim - 1) };
    let (start, end) = (wrap(start).clamp(lo.max(0), hi.max(0)), wrap(end).clamp(lo, hi));
    let span = if step > 0 { end - start } else { start - end };
    let count = if dim == 0 || span <= 0 { 0 } else { (span as u64 - 1) / step.unsigned_abs() + 1 };
    // An empty range starts anywhere; keep it inside. A step longer than the axis takes one element: keep it small.
    let step = step.clamp(-dim.max(1), dim.max(1));
    Ok((if count == 0 { 0 } else { start }, count as i64, step))
}

fn slice_at_run_time(cx: &mut Context, x: V) -> R<V> {
    let (starts, ends) = (cx.input(1)?, cx.input(2)?);
    let n = cx.dim(starts, 0)?;
    let (starts, ends) = (cx.cast(starts, DType::I64)?, cx.cast(ends, DType::I64)?);
    let axes = match cx.try_opt(3)? {
        Some(a) => cx.cast(a, DType::I64)?,
        None => cx.ints(&(0..n as i64).collect::<Vec<_>>()),
    };
    let steps = match cx.try_opt(4)? {
        Some(s) => cx.cast(s, DType::I64)?,
        None => cx.ints(&vec![1; n]),
    };
    cx.f("slice_to", &[x, starts, ends, axes, steps])
}

fn pad(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let rank = cx.rank(x);
    let old = cx.since() < 11;
    let given = if old {
        let name = if cx.since() < 2 { "paddings" } else { "pads" };
        cx.attrs.ints(name).map(<[i64]>::to_vec).ok_or_else(|| OpError::attr("needs pads"))?
    } else {
        cx.need_ints(1)?
    };
    let axes: Vec<usize> = match cx.try_opt(3)? {
        Some(_) => cx.need_ints(3)?.iter().map(|&a| norm_axis(a, rank)).collect::<R<_>>()?,
        None => (0..rank).collect(),
    };
    if given.len() != 2 * axes.len() || given.iter().any(|p| p.unsigned_abs() > 1 << 40) {
        return Err(OpError::attr(format!("pads {given:?} must be {} numbers: all begins, then all ends", 2 * axes.len())));
    }
    let (mut low, mut high) = (vec![0i64; rank], vec![0i64; rank]);
    for (k, &a) in axes.iter().enumerate() {
        (low[a], high[a]) = (given[k], given[k + axes.len()]);
    }
    match cx.attrs.str("mode").unwrap_or("constant") {
        "constant" => {
            let value = match cx.try_opt(2)? {
                Some(v) if cx.floats_of(v).is_none_or(|f| f.is_empty()) && cx.ints_of(v).is_none() => match cx.constant_of(v) {
                    Some(t) if t.dtype() == DType::Bool => t.first_bool().map_or(0.0, |b| f64::from(u8::from(b))),
                    _ => return pad_with(cx, x, v, low, high),
                },
                Some(v) => cx.floats_of(v).and_then(|f| f.first().copied()).unwrap_or(0.0),
                None => cx.attrs.float("value").unwrap_or(0.0),
            };
            pad_constant(cx, x, low, high, value)
        }
        mode @ ("reflect" | "edge" | "wrap") => pad_by_index(cx, x, &low, &high, mode),
        other => Err(OpError::attr(format!("mode {other:?} is none of constant, reflect, edge, wrap"))),
    }
}

pub(super) fn pad_constant(cx: &mut Context, x: V, low: Vec<i64>, high: Vec<i64>, value: f64) -> R<V> {
    if low.iter().chain(&high).all(|&p| p == 0) {
        return Ok(x);
    }
    let interior = vec![0i64; low.len()];
    cx.op("pad", &[x], attrs! {"low": low, "high": high, "interior": interior, "value": value})
}

/// A fill known only at run time: pad a mask along and choose.
fn pad_with(cx: &mut Context, x: V, value: V, low: Vec<i64>, high: Vec<i64>) -> R<V> {
    let dims = cx.dims(x)?;
    let inside = cx.full(1.0, DType::Bool, &dims)?;
    let inside = pad_constant(cx, inside, low.clone(), high.clone(), 0.0)?;
    let wide = pad_constant(cx, x, low, high, 0.0)?;
    let value = cx.reshape(value, &[])?;
    cx.f("select", &[inside, wide, value])
}

/// Reflection, edge and wrap-around padding: each axis is gathered by an index computed now.
fn pad_by_index(cx: &mut Context, mut x: V, low: &[i64], high: &[i64], mode: &str) -> R<V> {
    for a in 0..low.len() {
        if low[a] == 0 && high[a] == 0 {
            continue;
        }
        let n = cx.dim(x, a)? as i64;
        let size = n + low[a] + high[a];
        if n == 0 || !(0..=1 << 24).contains(&size) {
            return Err(OpError::shape(format!("cannot pad axis {a} of {n} elements by {} and {} in mode {mode}", low[a], high[a])));
        }
        let index: Vec<i64> = (-low[a]..n + high[a])
            .map(|i| match mode {
                "edge" => i.clamp(0, n - 1),
                "wrap" => i.rem_euclid(n),
                _ if n == 1 => 0,
                _ => {
                    let period = 2 * (n - 1);
                    let i = i.rem_euclid(period);
                    i.min(period - i)
                }
            })
            .collect();
        let index = cx.ints(&index);
        x = cx.op("gather", &[x, index], attrs! {"axis": a as i64})?;
    }
    Ok(x)
}

/// Broadcasting in both directions.
fn expand(cx: &mut Context) -> R<V> {
    let (x, shape) = (cx.input(0)?, cx.input(1)?);
    let (Some(want), Some(own)) = (cx.ints_of(shape), cx.shape(x).to_static()) else {
        return cx.f("broadcast_to", &[x, shape]);
    };
    let rank = want.len().max(own.len());
    let mut dims = vec![1usize; rank];
    for (i, d) in dims.iter_mut().enumerate() {
        let a = (i + own.len()).checked_sub(rank).map_or(1, |k| own[k]);
        let b = (i + want.len()).checked_sub(rank).map_or(1, |k| want[k]);
        let b = usize::try_from(b).map_err(|_| OpError::attr(format!("shape {want:?} has a negative extent")))?;
        *d = if a == 1 { b } else { a };
        if a != 1 && b != 1 && a != b {
            return Err(OpError::shape(format!("extents {a} and {b} do not broadcast")).mark(0, format!("must be 1 or {b}")));
        }
    }
    cx.broadcast(x, &dims)
}

/// Operator set 1 repeats one axis.
fn tile_old(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let n = cx.need_ints(1)?.first().copied().unwrap_or(1);
    let axis = cx.need_ints(2)?.first().copied().unwrap_or(0);
    let mut repeats = vec![1; cx.rank(x)];
    let axis = cx.axis(axis, repeats.len())?;
    repeats[axis] = n;
    repeat(cx, x, &repeats)
}

fn tile(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let r = cx.input(1)?;
    match cx.ints_of(r) {
        Some(r) => repeat(cx, x, &r),
        None => cx.f("tile", &[x, r]),
    }
}

/// `[a, b]` becomes `[1, a, 1, b]`, is broadcast to `[r, a, s, b]` and flattened: moves only.
pub(super) fn repeat(cx: &mut Context, x: V, repeats: &[i64]) -> R<V> {
    let dims = cx.dims(x)?;
    if repeats.len() != dims.len() || repeats.iter().any(|&r| !(0..1 << 40).contains(&r)) {
        return Err(OpError::attr(format!("repeats {repeats:?} must be {} numbers from 0 up", dims.len())));
    }
    let (mut thin, mut wide, mut out) = (vec![], vec![], vec![]);
    for (&d, &r) in dims.iter().zip(repeats) {
        let n = d.checked_mul(r as usize).ok_or_else(|| OpError::new("E0107", "asks for too many elements"))?;
        thin.extend([1, d]);
        wide.extend([r as usize, d]);
        out.push(n);
    }
    let all = out.iter().try_fold(1usize, |a, &b| a.checked_mul(b));
    if all.is_none_or(|n| n as u64 > cx.imp.options.budget.elements) {
        return Err(OpError::new("E0107", format!("asks for a tensor of shape {out:?}")));
    }
    let v = cx.reshape(x, &thin)?;
    let v = cx.broadcast(v, &wide)?;
    cx.reshape(v, &out)
}

fn blocks(cx: &Context) -> R<(V, Vec<usize>, usize)> {
    let x = cx.input(0)?;
    let dims = cx.dims(x)?;
    let b = cx.attrs.int("blocksize").unwrap_or(0);
    if dims.len() != 4 || !(1..1 << 16).contains(&b) {
        return Err(OpError::shape(format!("needs rank 4 and a blocksize from 1 to 65,535, got {} and {b}", cx.ty(x))));
    }
    Ok((x, dims, b as usize))
}

fn depth_to_space(cx: &mut Context) -> R<V> {
    let (x, d, b) = blocks(cx)?;
    if d[1] % (b * b) != 0 {
        return Err(OpError::shape(format!("{} channels do not split into blocks of {b}x{b}", d[1]))
            .mark(0, format!("axis 1 must be a multiple of {}", b * b)));
    }
    let c = d[1] / (b * b);
    let crd = cx.attrs.str("mode") == Some("CRD");
    let (split, perm) =
        if crd { ([d[0], c, b, b, d[2], d[3]], [0, 1, 4, 2, 5, 3]) } else { ([d[0], b, b, c, d[2], d[3]], [0, 3, 4, 1, 5, 2]) };
    let v = cx.reshape(x, &split)?;
    let v = cx.transpose(v, &perm)?;
    cx.reshape(v, &[d[0], c, d[2] * b, d[3] * b])
}

fn space_to_depth(cx: &mut Context) -> R<V> {
    let (x, d, b) = blocks(cx)?;
    if d[2] % b != 0 || d[3] % b != 0 {
        return Err(OpError::shape(format!("{}x{} does not split into blocks of {b}x{b}", d[2], d[3]))
            .mark(0, "height and width must be multiples"));
    }
    let crd = cx.attrs.str("mode") == Some("CRD");
    let v = cx.reshape(x, &[d[0], d[1], d[2] / b, b, d[3] / b, b])?;
    let v = cx.transpose(v, if crd { &[0, 1, 3, 5, 2, 4] } else { &[0, 3, 5, 1, 2, 4] })?;
    cx.reshape(v, &[d[0], d[1] * b * b, d[2] / b, d[3] / b])
}

fn center_crop_pad(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let want = cx.need_ints(1)?;
    let rank = cx.rank(x);
    let axes: Vec<usize> = match cx.attrs.ints("axes") {
        Some(a) => a.iter().map(|&a| norm_axis(a, rank)).collect::<R<_>>()?,
        None => (0..rank).collect(),
    };
    if want.len() != axes.len() || want.iter().any(|&w| !(0..1 << 32).contains(&w)) {
        return Err(OpError::attr(format!("shape {want:?} must have one extent for each of {} axes", axes.len())));
    }
    let (mut low, mut high) = (vec![0i64; rank], vec![0i64; rank]);
    for (&a, &w) in axes.iter().zip(&want) {
        let n = cx.dim(x, a)? as i64;
        if w >= n {
            low[a] = (w - n) / 2;
            high[a] = w - n - low[a];
        } else {
            let cut = (n - w) / 2;
            (low[a], high[a]) = (-cut, -(n - w - cut));
        }
    }
    pad_constant(cx, x, low, high, 0.0)
}

/// The first `sequence_lens[b]` elements of each row are reversed.
fn reverse_sequence(cx: &mut Context) -> R<V> {
    let (x, lens) = (cx.input(0)?, cx.input(1)?);
    let dims = cx.dims(x)?;
    let time = cx.axis(cx.attrs.int("time_axis").unwrap_or(0), dims.len())?;
    let batch = cx.axis(cx.attrs.int("batch_axis").unwrap_or(1), dims.len())?;
    if time == batch {
        return Err(OpError::attr("time_axis and batch_axis must differ"));
    }
    let lens = cx.cast(lens, DType::I64)?;
    let mut shape = vec![1; dims.len()];
    shape[batch] = dims[batch];
    let lens = cx.reshape(lens, &shape)?;
    let mut line = vec![1i64; dims.len()];
    line[time] = dims[time] as i64;
    let t = cx.op("iota", &[], attrs! {"shape": line, "axis": time as i64, "dtype": DType::I64})?;
    let one = cx.int(1);
    let last = cx.sub(lens, one)?;
    let back = cx.sub(last, t)?;
    let within = cx.f("lt", &[t, lens])?;
    let index = cx.f("select", &[within, back, t])?;
    let index = cx.broadcast(index, &dims)?;
    cx.op("gather_elements", &[x, index], attrs! {"axis": time as i64})
}
