//! Row kernels: maps, reductions along rows, and short windows tap by tap.

use super::scalar::{Emitter, Val};
use super::tile::{Layout, Span, Walk, for_tiles, guarded, load, store};
use super::{Arguments, Lower, tile_type};
use tahoma_core::DType;
use tahoma_core::kernel::{Access, Guard, Load, RowStep, Rows, Store};
use tahoma_core::op::Monoid;
use tahoma_machine::trn2::{Access as TileAccess, Affine, Builder, Instr, Sub, TRN2, Tile};

/// Elements per partition that a tile of a map has at most: long enough for full DMA rate, short enough to double buffer.
const MAP_WIDTH: usize = 2048;
/// Windows up to this many taps go tap by tap.
const MAX_TAPS: u64 = 64;
/// Bytes of a partition that the tiles of one iteration may take: half, so that the next iteration's loads can start.
const TILE_BYTES: usize = TRN2.sbuf_partition_bytes / 2;

pub(super) fn build(b: &mut Builder, args: &Arguments, r: &Rows) -> Lower<()> {
    for l in &r.loads {
        tile_type(l.dtype)?;
    }
    let inner: u64 = r.inner.iter().product();
    if r.inner.is_empty() {
        return map(b, args, r);
    }
    let outer: u64 = r.outer.iter().product();
    if inner <= MAX_TAPS && by_taps(r) && (outer >= 4 * inner || r.loads.iter().any(|l| !l.access.guards.is_empty())) {
        return taps(b, args, r);
    }
    rows(b, args, r)
}

/// Tiles that live at once in one iteration, as a bound: every load and every step of every expression.
fn tile_count(r: &Rows) -> usize {
    r.loads.len() + step_tiles(&r.steps) + 1
}

/// The same for steps alone.
fn step_tiles(steps: &[RowStep]) -> usize {
    steps
        .iter()
        .map(|s| match s {
            RowStep::Map { expr, .. } => expr.steps.len() * 2,
            RowStep::Reduce { .. } => 1,
        })
        .sum()
}

/// Which loop goes on partitions and which along the free axis: the last loops fill the width, the one before takes partitions.
fn layout(r: &Rows, width: usize) -> (Layout, Vec<Walk>) {
    let n = r.outer.len();
    let mut walks: Vec<Walk> = r.outer.iter().map(|&extent| Walk { extent, chunk: 1, unroll: false }).collect();
    let (mut free, mut room, mut d) = (vec![], width, n);
    while d > 1 && free.len() < 3 {
        let extent = r.outer[d - 1] as usize;
        if !free.is_empty() && extent > room {
            break;
        }
        d -= 1;
        let chunk = extent.min(room.max(1));
        walks[d].chunk = chunk;
        free.insert(0, d);
        room /= chunk;
        if chunk < extent {
            break;
        }
    }
    let part = d.checked_sub(1);
    if let Some(p) = part {
        walks[p].chunk = TRN2.partitions;
    }
    for (d, w) in walks.iter_mut().enumerate() {
        w.unroll = r.loads.iter().any(|l| guarded(&l.access, d));
    }
    (Layout { part, free }, walks)
}

/// The part `start .. start + len` of the only outer loop, as `rows` by `len / rows` loops.
fn slice(r: &Rows, start: u64, rows: u64, width: u64) -> Rows {
    let cut = |a: &Access| {
        let split = |c: &[i64], rest: &[i64]| [&[c[0] * width as i64, c[0]], rest].concat();
        Access {
            offset: a.offset + a.strides[0] * start as i64,
            strides: split(&a.strides, &a.strides[1..]),
            guards: a
                .guards
                .iter()
                .map(|g| Guard {
                    offset: g.offset + g.coeffs[0] * start as i64,
                    coeffs: split(&g.coeffs, &g.coeffs[1..]),
                    extent: g.extent,
                })
                .collect(),
            ..a.clone()
        }
    };
    Rows {
        outer: vec![rows, width],
        inner: r.inner.clone(),
        loads: r.loads.iter().map(|l| Load { access: cut(&l.access), ..l.clone() }).collect(),
        steps: r.steps.clone(),
        stores: r.stores.iter().map(|s| Store { access: cut(&s.access), value: s.value }).collect(),
    }
}

/// A single long loop has no loop for the partitions: give it one.
fn in_pieces(r: &Rows) -> Option<Vec<Rows>> {
    let [n] = r.outer[..] else { return None };
    let p = TRN2.partitions as u64;
    if n <= p {
        return None;
    }
    let mut pieces = vec![slice(r, 0, p, n / p)];
    if n % p > 0 {
        pieces.push(slice(r, n - n % p, n % p, 1));
    }
    Some(pieces)
}

/// With no loop at all (one element) there is still one to walk.
fn at_least_one_loop(r: &Rows) -> Option<Rows> {
    if !r.outer.is_empty() {
        return None;
    }
    let add = |a: &Access| Access {
        strides: [&[0], &a.strides[..]].concat(),
        guards: a.guards.iter().map(|g| Guard { coeffs: [&[0], &g.coeffs[..]].concat(), ..g.clone() }).collect(),
        ..a.clone()
    };
    Some(Rows {
        outer: vec![1],
        inner: r.inner.clone(),
        loads: r.loads.iter().map(|l| Load { access: add(&l.access), ..l.clone() }).collect(),
        steps: r.steps.clone(),
        stores: r.stores.iter().map(|s| Store { access: add(&s.access), value: s.value }).collect(),
    })
}

fn map(b: &mut Builder, args: &Arguments, r: &Rows) -> Lower<()> {
    if let Some(r) = at_least_one_loop(r) {
        return map(b, args, &r);
    }
    if let Some(pieces) = in_pieces(r) {
        return pieces.iter().try_for_each(|p| map(b, args, p));
    }
    let width = MAP_WIDTH.min(TILE_BYTES / 4 / tile_count(r)).max(1);
    let (layout, walks) = layout(r, width);
    for_tiles(b, &walks, &mut vec![], &mut |b, spans| {
        let mut e = Emitter { b, partitions: layout.partitions(spans), width: layout.free_len(spans) };
        let mut values = vec![];
        for l in &r.loads {
            let t = e.new_tile(true, tile_type(l.dtype)?);
            load(e.b, &args.inputs[l.access.buffer], &l.access, spans, &layout, &t)?;
            values.push(Val::Tile(t));
        }
        steps(&mut e, &r.steps, &mut values)?;
        for s in &r.stores {
            write(&mut e, args, s, &values, spans, &layout)?;
        }
        Ok(())
    })
}

/// Runs maps on the values so far.
fn steps(e: &mut Emitter, steps: &[RowStep], values: &mut Vec<Val>) -> Lower<()> {
    for s in steps {
        let RowStep::Map { expr, args } = s else { return Err("a reduction in a map".into()) };
        let inputs: Vec<Val> = args.iter().map(|&a| values[a].clone()).collect();
        let v = e.expr(expr, &inputs)?;
        values.push(v);
    }
    Ok(())
}

fn write(e: &mut Emitter, args: &Arguments, s: &Store, values: &[Val], spans: &[Span], layout: &Layout) -> Lower<()> {
    let out = &args.outputs[s.access.buffer];
    let mut t = e.widen(&values[s.value], out.dtype)?;
    if t.dtype != out.dtype {
        let cast = e.new_tile(true, out.dtype);
        e.b.emit(Instr::new("tensor_copy").with("dst", &cast).with("src", &t));
        t = cast;
    }
    store(e.b, out, &s.access, spans, layout, &t);
    Ok(())
}

fn combine(m: Monoid) -> Lower<&'static str> {
    Ok(match m {
        Monoid::Sum => "add",
        Monoid::Prod => "multiply",
        Monoid::Max => "maximum",
        Monoid::Min => "minimum",
        Monoid::And => "logical_and",
        Monoid::Or => "logical_or",
    })
}

/// For each value whether it changes along the row.
fn along_row(r: &Rows) -> Vec<bool> {
    let mut row: Vec<bool> = r.loads.iter().map(|l| !l.per_row).collect();
    for s in &r.steps {
        row.push(match s {
            RowStep::Map { args, .. } => args.iter().any(|&a| row[a]),
            RowStep::Reduce { .. } => false,
        });
    }
    row
}

/// Whether every reduction can be finished tap by tap before anything uses it: one level, and only scalars stored.
fn by_taps(r: &Rows) -> bool {
    let row = along_row(r);
    let mut reduced = vec![false; r.loads.len()];
    for s in &r.steps {
        reduced.push(match s {
            RowStep::Map { args, .. } => args.iter().any(|&a| reduced[a]),
            RowStep::Reduce { .. } => true,
        });
    }
    let first_level = r.steps.iter().all(|s| match s {
        RowStep::Reduce { arg, .. } => !reduced[*arg],
        _ => true,
    });
    first_level && row.iter().zip(&reduced).all(|(&w, &d)| !(w && d)) && r.stores.iter().all(|s| !row[s.value])
}

/// A tile of outputs, one pass per tap: `acc = acc ∘ f(reads at the tap)`.
fn taps(b: &mut Builder, args: &Arguments, r: &Rows) -> Lower<()> {
    if let Some(r) = at_least_one_loop(r) {
        return taps(b, args, &r);
    }
    if let Some(pieces) = in_pieces(r) {
        return pieces.iter().try_for_each(|p| taps(b, args, p));
    }
    let row = along_row(r);
    let count: u64 = r.inner.iter().product();
    let width = (MAP_WIDTH / 2).min(TILE_BYTES / 4 / (tile_count(r) + 2)).max(1);
    let (layout, walks) = layout(r, width);
    let n = r.outer.len();
    for_tiles(b, &walks, &mut vec![], &mut |b, spans| {
        let mut e = Emitter { b, partitions: layout.partitions(spans), width: layout.free_len(spans) };
        let mut values: Vec<Option<Val>> = vec![None; row.len()];
        let read = |e: &mut Emitter, l: &Load, spans: &[Span]| -> Lower<Val> {
            let t = e.new_tile(true, tile_type(l.dtype)?);
            load(e.b, &args.inputs[l.access.buffer], &l.access, spans, &layout, &t)?;
            Ok(Val::Tile(t))
        };
        for (i, l) in r.loads.iter().enumerate().filter(|(_, l)| l.per_row) {
            values[i] = Some(read(&mut e, l, spans)?);
        }
        for tap in 0..count {
            let mut at = spans[..n].to_vec();
            let mut rest = tap;
            let mut index = vec![0; r.inner.len()];
            for (x, &extent) in index.iter_mut().zip(&r.inner).rev() {
                *x = rest % extent;
                rest /= extent;
            }
            at.extend(index.iter().map(|&x| Span::at(Affine::from(x as i64))));
            let mut here = values.clone();
            for (i, l) in r.loads.iter().enumerate().filter(|(_, l)| !l.per_row) {
                here[i] = Some(read(&mut e, l, &at)?);
            }
            for (i, s) in r.steps.iter().enumerate() {
                let slot = r.loads.len() + i;
                match s {
                    RowStep::Map { expr, args } if !depends_on_reduce(r, slot) => {
                        let inputs: Option<Vec<Val>> = args.iter().map(|&a| here[a].clone()).collect();
                        let v = e.expr(expr, &inputs.ok_or("a value before its making")?)?;
                        here[slot] = Some(v);
                    }
                    RowStep::Reduce { monoid, arg, .. } => {
                        let x = here[*arg].clone().ok_or("a reduction of a later value")?;
                        let x = e.widen(&x, DType::F32)?;
                        match &values[slot] {
                            None => {
                                let acc = e.new_tile(true, DType::F32);
                                e.b.emit(Instr::new("tensor_copy").with("dst", &acc).with("src", &x));
                                values[slot] = Some(Val::Tile(acc));
                            }
                            Some(Val::Tile(acc)) => {
                                let i = Instr::new("tensor_tensor").with("dst", acc).with("data1", acc).with("data2", &x);
                                e.b.emit(i.with("op", combine(*monoid)?));
                            }
                            Some(_) => return Err("an accumulator of another form".into()),
                        }
                    }
                    _ => {}
                }
            }
        }
        for (i, s) in r.steps.iter().enumerate() {
            let slot = r.loads.len() + i;
            match s {
                RowStep::Map { expr, args } if !row[slot] && values[slot].is_none() => {
                    let inputs: Option<Vec<Val>> = args.iter().map(|&a| values[a].clone()).collect();
                    let v = e.expr(expr, &inputs.ok_or("a value of the row after its end")?)?;
                    values[slot] = Some(v);
                }
                RowStep::Reduce { dtype, .. } => round_to(&mut e, &mut values[slot], *dtype)?,
                _ => {}
            }
        }
        let values: Vec<Val> = values.into_iter().map(|v| v.unwrap_or(Val::Const(0.0))).collect();
        for s in &r.stores {
            write(&mut e, args, s, &values, spans, &layout)?;
        }
        Ok(())
    })
}

/// Sums are kept in fp32 and rounded once to their type.
fn round_to(e: &mut Emitter, v: &mut Option<Val>, dtype: DType) -> Lower<()> {
    let want = tile_type(dtype)?;
    let cast = match v {
        Some(Val::Tile(t)) if t.dtype != want => (true, t.clone()),
        Some(Val::Scalar(t)) if t.dtype != want => (false, t.clone()),
        _ => return Ok(()),
    };
    let t = e.new_tile(cast.0, want);
    e.b.emit(Instr::new("tensor_copy").with("dst", &t).with("src", &cast.1));
    *v = Some(if cast.0 { Val::Tile(t) } else { Val::Scalar(t) });
    Ok(())
}

fn depends_on_reduce(r: &Rows, value: usize) -> bool {
    match value.checked_sub(r.loads.len()).map(|i| &r.steps[i]) {
        Some(RowStep::Reduce { .. }) => true,
        Some(RowStep::Map { args, .. }) => args.iter().any(|&a| depends_on_reduce(r, a)),
        None => false,
    }
}

/// Runs maps and reductions on the values so far, one row per partition.
pub(super) fn row_steps(e: &mut Emitter, all: &[RowStep], values: &mut Vec<Val>) -> Lower<()> {
    for s in all {
        match s {
            RowStep::Map { .. } => steps(e, std::slice::from_ref(s), values)?,
            RowStep::Reduce { monoid, arg, dtype } => {
                let x = e.widen(&values[*arg].clone(), DType::F32)?;
                let v = reduce(e, *monoid, &x)?;
                let mut v = Some(Val::Scalar(v));
                round_to(e, &mut v, *dtype)?;
                values.extend(v);
            }
        }
    }
    Ok(())
}

/// One row per partition, the whole row along the free axis.
fn rows(b: &mut Builder, args: &Arguments, r: &Rows) -> Lower<()> {
    if let Some(r) = at_least_one_loop(r) {
        return rows(b, args, &r);
    }
    let row = along_row(r);
    let width: usize = r.inner.iter().product::<u64>() as usize;
    let need = width * 4 * r.row_values();
    // A long row gives up double buffering before it gives up.
    if need > TRN2.sbuf_partition_bytes {
        return Err(format!("a row of {width} elements needs {need} bytes of a partition's {}", TRN2.sbuf_partition_bytes));
    }
    if r.inner.len() > 3 {
        return Err("rows of more than three axes".into());
    }
    let n = r.outer.len();
    // The longest loop on partitions.
    let part = (0..n).max_by_key(|&d| (r.outer[d], d)).unwrap_or(0);
    let mut walks: Vec<Walk> = r.outer.iter().map(|&extent| Walk { extent, chunk: 1, unroll: false }).collect();
    walks[part].chunk = TRN2.partitions;
    for (d, w) in walks.iter_mut().enumerate() {
        w.unroll = r.loads.iter().any(|l| guarded(&l.access, d));
    }
    let wide = Layout { part: Some(part), free: (n..n + r.inner.len()).collect() };
    let narrow = Layout { part: Some(part), free: vec![] };
    for_tiles(b, &walks, &mut vec![], &mut |b, spans| {
        let mut all = spans.to_vec();
        all.extend(r.inner.iter().map(|&e| Span { start: Affine::from(0i64), len: e as usize }));
        let mut e = Emitter { b, partitions: wide.partitions(&all), width };
        let mut values = vec![];
        for l in &r.loads {
            let t = e.new_tile(!l.per_row, tile_type(l.dtype)?);
            let hbm = &args.inputs[l.access.buffer];
            if l.per_row {
                load(e.b, hbm, &l.access, spans, &narrow, &t)?;
                values.push(Val::Scalar(t));
            } else {
                load(e.b, hbm, &l.access, &all, &wide, &t)?;
                values.push(Val::Tile(t));
            }
        }
        row_steps(&mut e, &r.steps, &mut values)?;
        for s in &r.stores {
            if row[s.value] {
                write(&mut e, args, s, &values, &all, &wide)?;
                continue;
            }
            let out = &args.outputs[s.access.buffer];
            let mut t = match &values[s.value] {
                Val::Scalar(t) => t.clone(),
                _ => return Err("a scalar of the row in another form".into()),
            };
            if t.dtype != out.dtype {
                let cast = e.new_tile(false, out.dtype);
                e.b.emit(Instr::new("tensor_copy").with("dst", &cast).with("src", &t));
                t = cast;
            }
            store(e.b, out, &s.access, spans, &narrow, &t);
        }
        Ok(())
    })
}

/// Elements from which a sum is taken in blocks: below, the further instruction costs more than the rounding it saves.
const BLOCKED_SUM: usize = 64;

/// The row's reduction. A long sum adds blocks of about √n elements and then their sums, so that rounding grows with √n, not with n
/// (the engine adds one element after another in fp32; Higham, *The accuracy of floating point summation*, 1993).
fn reduce(e: &mut Emitter, m: Monoid, x: &Tile) -> Lower<Tile> {
    if !matches!(m, Monoid::Sum | Monoid::Max | Monoid::Min | Monoid::Prod) {
        return Err("a reduction of bools".into());
    }
    let op = combine(m)?;
    let of = |dst: TileAccess, data: TileAccess, axis: i64| {
        Instr::new("tensor_reduce").with("dst", dst).with("op", op).with("data", data).with("axis", vec![axis])
    };
    let t = e.new_tile(false, DType::F32);
    let (p, n) = (e.partitions, x.free());
    if m != Monoid::Sum || n < BLOCKED_SUM {
        e.b.emit(of(t.all(), x.all(), 1));
        return Ok(t);
    }
    let root = n.isqrt();
    let block = (root..=2 * root).find(|b| n.is_multiple_of(*b)).unwrap_or(root);
    let (blocks, rest) = (n / block, n % block);
    let part = e.b.sbuf("s", DType::F32, &[p, blocks + usize::from(rest > 0)]);
    let rows = [n as i64, p as i64];
    e.b.emit(of(
        part.at(&[Sub::range(0i64, p), Sub::range(0i64, blocks)]),
        x.ap(&[rows, [block as i64, blocks as i64], [1, block as i64]], 0i64),
        2,
    ));
    if rest > 0 {
        let tail = x.at(&[Sub::range(0i64, p), Sub::range((n - rest) as i64, rest)]);
        e.b.emit(of(part.at(&[Sub::range(0i64, p), Sub::range(blocks as i64, 1)]), tail, 1));
    }
    e.b.emit(of(t.all(), part.all(), 1));
    Ok(t)
}
