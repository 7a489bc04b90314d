//! Row kernels: maps, reductions along rows, and short windows tap by tap.

use super::scalar::{Emitter, Val};
use super::tile::{Layout, Span, Walk, for_tiles, guarded, load, store};
use super::window::Window;
use super::{Arguments, Lower, tile_type};
use tahoma_core::DType;
use tahoma_core::kernel::{Access, Guard, Load, RowStep, Rows, Store};
use tahoma_core::op::Monoid;
use tahoma_core::scalar::{Binary, Expr, Step};
use tahoma_machine::trn2::{Access as TileAccess, Affine, Builder, Instr, Sub, TRN2, Tile};

/// Elements per partition that a tile of a map has at most: long enough for full DMA rate, short enough to double buffer.
const MAP_WIDTH: usize = 2048;
/// Windows up to this many taps go tap by tap.
const MAX_TAPS: u64 = 64;
/// Bytes of a partition that the tiles of one iteration may take: half, so that the next iteration's loads can start.
const TILE_BYTES: usize = TRN2.sbuf_partition_bytes / 2;

/// Which loop lies on partitions: a choice of schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Across {
    /// The loop before those that fill a tile.
    Next,
    /// The longest that no padding moves with: windows stay whole.
    Longest,
    /// This one: a piece that was cut for it.
    At(usize),
}

/// The choices that differ for these rows.
pub(super) fn choices(r: &Rows) -> &'static [Across] {
    let windows = !r.inner.is_empty() && is_taps(r) || r.loads.iter().any(|l| !l.access.guards.is_empty());
    // The one that is nearly always faster first: the other is timed until it has lost.
    if windows { &[Across::Longest, Across::Next] } else { &[Across::Next] }
}

fn is_taps(r: &Rows) -> bool {
    let (inner, outer): (u64, u64) = (r.inner.iter().product(), r.outer.iter().product());
    inner <= MAX_TAPS && by_taps(r) && (outer >= 4 * inner || r.loads.iter().any(|l| !l.access.guards.is_empty()))
}

pub(super) fn build(b: &mut Builder, args: &Arguments, r: &Rows, across: Across) -> Lower<()> {
    for l in &r.loads {
        tile_type(l.dtype)?;
    }
    if r.inner.is_empty() {
        return map(b, args, r, across);
    }
    if is_taps(r) {
        return taps(b, args, r, across);
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

/// Which loop goes on partitions and which along the free axis: the last loops fill the width.
fn layout(r: &Rows, width: usize, across: Across) -> (Layout, Vec<Walk>) {
    let n = r.outer.len();
    let still = |d: usize| r.loads.iter().all(|l| !guarded(&l.access, d));
    let longest = || (0..n).filter(|&d| still(d)).max_by_key(|&d| (r.outer[d], std::cmp::Reverse(d)));
    let mut part = match across {
        Across::Next => None,
        Across::Longest => longest(),
        Across::At(d) => Some(d),
    };
    let mut walks: Vec<Walk> = r.outer.iter().map(|&extent| Walk { extent, chunk: 1, unroll: false }).collect();
    let (mut free, mut room) = (vec![], width);
    let mut left: Vec<usize> = (0..n).filter(|&d| Some(d) != part).collect();
    while let Some(&d) = left.last() {
        let extent = r.outer[d] as usize;
        // Where no loop is on partitions yet, the last that is left is for them.
        let taken = part.is_none() && left.len() == 1;
        if taken || free.len() == 3 || part.is_none() && !free.is_empty() && extent > room || extent > 1 && room < 2 {
            break;
        }
        left.pop();
        let chunk = extent.min(room.max(1));
        walks[d].chunk = chunk;
        free.insert(0, d);
        room /= chunk;
        if chunk < extent {
            break;
        }
    }
    part = part.or(left.last().copied());
    if let Some(p) = part {
        walks[p].chunk = TRN2.partitions;
    }
    for (d, w) in walks.iter_mut().enumerate() {
        w.unroll = r.loads.iter().any(|l| guarded(&l.access, d));
    }
    (Layout { part, free }, walks)
}

/// The part `start .. start + rows·width` of outer loop `d`, as `rows` by `width` loops.
fn slice(r: &Rows, d: usize, start: u64, rows: u64, width: u64) -> Rows {
    let split = |c: &[i64]| [&c[..d], &[c[d] * width as i64], &c[d..]].concat();
    let cut = |a: &Access| {
        let guard = |g: &Guard| Guard { offset: g.offset + g.coeffs[d] * start as i64, coeffs: split(&g.coeffs), extent: g.extent };
        let guards = a.guards.iter().map(guard).collect();
        Access { offset: a.offset + a.strides[d] * start as i64, strides: split(&a.strides), guards, ..a.clone() }
    };
    Rows {
        outer: [&r.outer[..d], &[rows, width], &r.outer[d + 1..]].concat(),
        inner: r.inner.clone(),
        loads: r.loads.iter().map(|l| Load { access: cut(&l.access), ..l.clone() }).collect(),
        steps: r.steps.clone(),
        stores: r.stores.iter().map(|s| Store { access: cut(&s.access), value: s.value }).collect(),
    }
}

/// A single long loop has no loop for the partitions: give it one. So has a long loop beside short ones: then many short tiles become
/// a few long ones.
fn in_pieces(r: &Rows, across: Across) -> Option<(Vec<Rows>, Across)> {
    if matches!(across, Across::At(_)) {
        return None;
    }
    let p = TRN2.partitions as u64;
    let d = match r.outer.len() {
        1 => 0,
        2 | 3 if r.inner.is_empty() => {
            let (layout, walks) = layout(r, MAP_WIDTH, Across::Next);
            let d = layout.part?;
            let free: usize = layout.free.iter().map(|&f| walks[f].chunk).product();
            let still = r.loads.iter().all(|l| !guarded(&l.access, d));
            (still && r.outer[d] >= 2 * p && 2 * free <= MAP_WIDTH).then_some(d)?
        }
        _ => return None,
    };
    let n = r.outer[d];
    if n <= p {
        return None;
    }
    let mut pieces = vec![slice(r, d, 0, p, n / p)];
    if !n.is_multiple_of(p) {
        pieces.push(slice(r, d, n - n % p, n % p, 1));
    }
    Some((pieces, Across::At(d)))
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

fn map(b: &mut Builder, args: &Arguments, r: &Rows, across: Across) -> Lower<()> {
    if let Some(r) = at_least_one_loop(r) {
        return map(b, args, &r, across);
    }
    if let Some((pieces, across)) = in_pieces(r, across) {
        return pieces.iter().try_for_each(|p| map(b, args, p, across));
    }
    let width = MAP_WIDTH.min(TILE_BYTES / 4 / tile_count(r)).max(1);
    let (layout, walks) = layout(r, width, across);
    for_tiles(b, &walks, &mut vec![], &mut |b, spans| {
        let mut e = Emitter { b, partitions: layout.partitions(spans), width: layout.free_len(spans) };
        let mut values = vec![];
        for l in &r.loads {
            values.push(Reader::new(args, l, spans, &layout, &[]).read(&mut e, spans, &layout, &[])?);
        }
        steps(&mut e, &r.steps, &mut values)?;
        for s in &r.stores {
            write(&mut e, args, s, &values, spans, &layout)?;
        }
        Ok(())
    })
}

/// A load over one tile: what its taps read is brought once where it is a box, and tap by tap where not.
struct Reader<'a> {
    hbm: &'a Tile,
    load: &'a Load,
    /// Taps that one box covers; the others have a box each.
    boxed: Option<Vec<usize>>,
    /// The boxes so far, by the taps that have one each.
    made: Vec<(Vec<u64>, Window, Tile)>,
}

impl<'a> Reader<'a> {
    /// `taps`: extents of the loops behind the tile's.
    fn new(args: &'a Arguments, load: &'a Load, spans: &[Span], layout: &Layout, taps: &[u64]) -> Reader<'a> {
        let n = spans.len();
        let taps: &[u64] = if load.per_row { &[] } else { taps };
        let a = &load.access;
        // Padding that cuts partitions leaves no box to the taps that it moves with.
        let cuts = |t: usize| layout.part.is_some_and(|p| a.guards.iter().any(|g| g.coeffs[p] != 0 && g.coeffs[n + t] != 0));
        let apart: Vec<usize> = (0..taps.len()).filter(|&t| !cuts(t)).map(|t| n + t).collect();
        let first = vec![0; taps.len()];
        let boxed = [apart, vec![]].into_iter().find(|boxed| {
            let spans = Reader::spans(spans, taps, &first, boxed);
            Window::of(a, &spans, layout, boxed).is_some()
        });
        Reader { hbm: &args.inputs[a.buffer], load, boxed, made: vec![] }
    }

    /// The tile's spans, the whole of taps that are boxed, and the others where `at` says.
    fn spans(spans: &[Span], taps: &[u64], at: &[u64], boxed: &[usize]) -> Vec<Span> {
        let n = spans.len();
        let tap = |t: usize| match boxed.contains(&(n + t)) {
            true => Span { start: Affine::from(0i64), len: taps[t] as usize },
            false => Span::at(Affine::from(at[t] as i64)),
        };
        spans.iter().cloned().chain((0..taps.len()).map(tap)).collect()
    }

    /// The value at a tap.
    fn read(&mut self, e: &mut Emitter, spans: &[Span], layout: &Layout, taps: &[(u64, u64)]) -> Lower<Val> {
        let n = spans.len();
        let taps = if self.load.per_row { &[] } else { taps };
        let (at, extents): (Vec<u64>, Vec<u64>) = taps.iter().copied().unzip();
        let dtype = tile_type(self.load.dtype)?;
        let Some(boxed) = &self.boxed else {
            let t = e.new_tile(true, dtype);
            load(e.b, self.hbm, &self.load.access, &Reader::spans(spans, &extents, &at, &[]), layout, &t)?;
            return Ok(Val::Tile(t));
        };
        let key: Vec<u64> = (0..at.len()).filter(|t| !boxed.contains(&(n + t))).map(|t| at[t]).collect();
        let i = match self.made.iter().position(|m| m.0 == key) {
            Some(i) => i,
            None => {
                let spans = Reader::spans(spans, &extents, &at, boxed);
                let w = Window::of(&self.load.access, &spans, layout, boxed).ok_or("reads that are no box")?;
                let mut t = w.load(e.b, self.hbm, dtype);
                // Scalar operands of instructions are fp32.
                if !w.wide && dtype != DType::F32 {
                    let cast = e.b.sbuf("c", DType::F32, &t.shape);
                    e.b.emit(Instr::new("tensor_copy").with("dst", &cast).with("src", &t));
                    t = cast;
                }
                self.made.push((key, w, t));
                self.made.len() - 1
            }
        };
        let (_, w, t) = &self.made[i];
        let part = w.tap(t, &|d| at[d - n] as usize);
        Ok(if w.wide { Val::Tile(part) } else { Val::Scalar(part) })
    }

    /// Bytes of a partition that all its boxes take, or its tile.
    fn bytes(&self, spans: &[Span], layout: &Layout, taps: &[u64]) -> usize {
        let taps: &[u64] = if self.load.per_row { &[] } else { taps };
        let n = spans.len();
        let each = self.load.dtype.bits().div_ceil(8) as usize;
        let Some(boxed) = &self.boxed else { return layout.free_len(spans) * each * taps.iter().product::<u64>() as usize };
        let apart: u64 = (0..taps.len()).filter(|t| !boxed.contains(&(n + t))).map(|t| taps[t]).product();
        let w = Window::of(&self.load.access, &Reader::spans(spans, taps, &vec![0; taps.len()], boxed), layout, boxed);
        w.map_or(0, |w| w.len()) * each * apart as usize
    }
}

/// Runs steps on the values so far, where the row is one element.
fn steps(e: &mut Emitter, steps: &[RowStep], values: &mut Vec<Val>) -> Lower<()> {
    for s in steps {
        match s {
            RowStep::Map { expr, args } => {
                let inputs: Vec<Val> = args.iter().map(|&a| values[a].clone()).collect();
                let v = e.expr(expr, &inputs)?;
                values.push(v);
            }
            // Of one element.
            RowStep::Reduce { arg, dtype, .. } => {
                let mut v = Some(values[*arg].clone());
                round_to(e, &mut v, *dtype)?;
                values.extend(v);
            }
        }
    }
    Ok(())
}

fn write(e: &mut Emitter, args: &Arguments, s: &Store, values: &[Val], spans: &[Span], layout: &Layout) -> Lower<()> {
    let out = &args.outputs[s.access.buffer];
    let mut t = e.widen(&values[s.value], out.dtype)?;
    if t.dtype != out.dtype || t.is_part() {
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
fn taps(b: &mut Builder, args: &Arguments, r: &Rows, across: Across) -> Lower<()> {
    if let Some(r) = at_least_one_loop(r) {
        return taps(b, args, &r, across);
    }
    if let Some((pieces, across)) = in_pieces(r, across) {
        return pieces.iter().try_for_each(|p| taps(b, args, p, across));
    }
    let row = along_row(r);
    let count: u64 = r.inner.iter().product();
    // The widest tile whose boxes and values fit.
    let mut width = (MAP_WIDTH / 2).min(TILE_BYTES / 4 / (tile_count(r) + 2)).max(1);
    let (layout, walks) = loop {
        let (layout, walks) = layout(r, width, across);
        let first: Vec<Span> =
            walks.iter().map(|w| Span { start: Affine::from(0i64), len: w.chunk.min(w.extent as usize).max(1) }).collect();
        let boxes = r.loads.iter().map(|l| Reader::new(args, l, &first, &layout, &r.inner).bytes(&first, &layout, &r.inner)).sum::<usize>();
        if boxes + 4 * layout.free_len(&first) * (step_tiles(&r.steps) + 2) <= TILE_BYTES || width == 1 {
            break (layout, walks);
        }
        width /= 2;
    };
    let mut users = vec![0; row.len()];
    for s in &r.steps {
        match s {
            RowStep::Map { args, .. } => args.iter().for_each(|&a| users[a] += 1),
            RowStep::Reduce { arg, .. } => users[*arg] += 1,
        }
    }
    for_tiles(b, &walks, &mut vec![], &mut |b, spans| {
        let mut e = Emitter { b, partitions: layout.partitions(spans), width: layout.free_len(spans) };
        let mut values: Vec<Option<Val>> = vec![None; row.len()];
        let mut readers: Vec<Reader> = r.loads.iter().map(|l| Reader::new(args, l, spans, &layout, &r.inner)).collect();
        for (i, _) in r.loads.iter().enumerate().filter(|(_, l)| l.per_row) {
            values[i] = Some(readers[i].read(&mut e, spans, &layout, &[])?);
        }
        for tap in 0..count {
            let mut rest = tap;
            let mut at: Vec<(u64, u64)> = r.inner.iter().map(|&extent| (0, extent)).collect();
            for x in at.iter_mut().rev() {
                x.0 = rest % x.1;
                rest /= x.1;
            }
            let mut here = values.clone();
            for (i, _) in r.loads.iter().enumerate().filter(|(_, l)| !l.per_row) {
                here[i] = Some(readers[i].read(&mut e, spans, &layout, &at)?);
            }
            // Products that are made where they are added.
            let mut waiting: Vec<Option<[Val; 2]>> = vec![None; row.len()];
            for (i, s) in r.steps.iter().enumerate() {
                let slot = r.loads.len() + i;
                match s {
                    RowStep::Map { expr, args } if !depends_on_reduce(r, slot) => {
                        let inputs: Option<Vec<Val>> = args.iter().map(|&a| here[a].clone()).collect();
                        let inputs = inputs.ok_or("a value before its making")?;
                        let added = |s: &RowStep| matches!(s, RowStep::Reduce { monoid: Monoid::Sum, arg, .. } if *arg == slot);
                        if is_product(expr) && users[slot] == 1 && r.steps.iter().any(added) {
                            waiting[slot] = scaled(&inputs);
                        }
                        if waiting[slot].is_none() {
                            here[slot] = Some(e.expr(expr, &inputs)?);
                        }
                    }
                    RowStep::Reduce { monoid, arg, .. } => {
                        let acc = match &values[slot] {
                            None => None,
                            Some(Val::Tile(acc)) => Some(acc.clone()),
                            Some(_) => return Err("an accumulator of another form".into()),
                        };
                        values[slot] = Some(Val::Tile(match &waiting[*arg] {
                            Some(x) => add_product(&mut e, x, acc)?,
                            None => {
                                let x = here[*arg].clone().ok_or("a reduction of a later value")?;
                                accumulate(&mut e, combine(*monoid)?, &x, acc)?
                            }
                        }));
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

/// The product of two inputs in f32, and no more.
fn is_product(e: &Expr) -> bool {
    let [(Step::Input(a), DType::F32), (Step::Input(b), DType::F32), (Step::Binary(Binary::Mul, x, y), DType::F32)] = e.steps[..] else {
        return false;
    };
    a != b && x != y && x < 2 && y < 2
}

/// A tile and one value a partition.
fn scaled(inputs: &[Val]) -> Option<[Val; 2]> {
    let f32s = |t: &Tile, s: &Tile| t.dtype == DType::F32 && s.dtype == DType::F32;
    match inputs {
        [x @ Val::Tile(t), s @ Val::Scalar(c)] | [s @ Val::Scalar(c), x @ Val::Tile(t)] if f32s(t, c) => Some([x.clone(), s.clone()]),
        _ => None,
    }
}

/// `acc + x·s` in one instruction, with the roundings of two.
fn add_product(e: &mut Emitter, [x, s]: &[Val; 2], acc: Option<Tile>) -> Lower<Tile> {
    let (Val::Tile(x), Val::Scalar(s)) = (x, s) else { return Err("a product of another form".into()) };
    let Some(acc) = acc else {
        let acc = e.new_tile(true, DType::F32);
        e.b.emit(Instr::new("tensor_scalar").with("dst", &acc).with("data", x).with("op0", "multiply").with("operand0", s));
        return Ok(acc);
    };
    let i = Instr::new("scalar_tensor_tensor").with("dst", &acc).with("data", x).with("op0", "multiply").with("operand0", s);
    e.b.emit(i.with("op1", "add").with("operand1", &acc));
    Ok(acc)
}

fn accumulate(e: &mut Emitter, op: &'static str, x: &Val, acc: Option<Tile>) -> Lower<Tile> {
    let x = e.widen(x, DType::F32)?;
    let Some(acc) = acc else {
        let acc = e.new_tile(true, DType::F32);
        e.b.emit(Instr::new("tensor_copy").with("dst", &acc).with("src", &x));
        return Ok(acc);
    };
    e.b.emit(Instr::new("tensor_tensor").with("dst", &acc).with("data1", &acc).with("data2", &x).with("op", op));
    Ok(acc)
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
