//! Maps, reductions and chains of them along rows.
//!
//! | schedule | one row is done by | chosen for |
//! |---|---|---|
//! | map | — (a thread does one point, or four neighbours) | an empty row |
//! | thread | one thread, in a loop or unrolled | short rows, and rows that neighbouring threads read side by side |
//! | group | a warp, or a block of 256 | long rows; elements stay in registers where they fit, else are read again for each pass |
//!
//! Steps are ordered in passes: a pass computes the reductions that need only earlier passes, the last one writes. What a later pass
//! needs of a row is kept (unrolled rows) or computed again from the loads (looped rows).

use super::access::{self, Ix};
use super::printer::*;
use super::scalar;
use std::collections::HashMap;
use tahoma_core::DType;
use tahoma_core::kernel::*;
use tahoma_core::op::Monoid;

/// Threads per block for maps and rows done by a thread or a warp.
const BLOCK: u64 = 128;
/// Threads of a block that does one row.
const WIDE_BLOCK: u64 = 256;
/// Points of a row that a thread does without a loop.
const UNROLL: u64 = 32;

/// A kernel body as text, with its launch.
pub(super) struct Scheduled {
    pub(super) fun: Fun,
    pub(super) blocks: u64,
    pub(super) block: u64,
}

/// `Rows` with merged loops and all accesses over `outer ++ inner`.
struct Plan {
    outer: Vec<u64>,
    inner: Vec<u64>,
    loads: Vec<(Access, DType)>,
    steps: Vec<RowStep>,
    /// Access, value, whether it is written at each point of the row.
    stores: Vec<(Access, usize, bool)>,
    /// Per value: is it a row, its type, and the pass it is known after.
    row: Vec<bool>,
    dtype: Vec<DType>,
    level: Vec<usize>,
    ins: Vec<Buf>,
    outs: Vec<(Buf, DType)>,
}

impl Plan {
    fn new(r: &Rows, ins: &[Buf], outs: &[(Buf, DType)]) -> Plan {
        let n = r.outer.len();
        let all = n + r.inner.len();
        let over_all: Vec<usize> = (0..all).collect();
        let is_row_loop = r.inner.iter().product::<u64>() > 1;
        let mut loads: Vec<(Access, DType)> = r.loads.iter().map(|l| (access::project(&l.access, &over_all), l.dtype)).collect();
        let mut row: Vec<bool> = r.loads.iter().map(|l| !l.per_row && is_row_loop).collect();
        let mut dtype: Vec<DType> = r.loads.iter().map(|l| l.dtype).collect();
        let mut level: Vec<usize> = vec![0; row.len()];
        for s in &r.steps {
            match s {
                RowStep::Map { expr, args } => {
                    row.push(args.iter().any(|&a| row[a]));
                    dtype.push(expr.dtype().unwrap_or(DType::F32));
                    level.push(args.iter().map(|&a| level[a]).max().unwrap_or(0));
                }
                RowStep::Reduce { arg, dtype: d, .. } => {
                    level.push(if row[*arg] { level[*arg] + 1 } else { level[*arg] });
                    row.push(false);
                    dtype.push(*d);
                }
            }
        }
        let mut stores: Vec<(Access, usize, bool)> = r
            .stores
            .iter()
            .map(|s| (access::project(&s.access, &over_all), s.value, (row[s.value] || s.access.strides.len() > n) && is_row_loop))
            .collect();
        let accesses = || loads.iter().map(|l| &l.0).chain(stores.iter().map(|s| &s.0));
        let rows: Vec<&[i64]> = accesses().flat_map(access::coefficients).collect();
        let part = |lo: usize, hi: usize, ext: &[u64]| -> Vec<(u64, usize)> {
            let cut: Vec<&[i64]> = rows.iter().map(|c| &c[lo..hi]).collect();
            access::merge(ext, &cut).into_iter().map(|(e, d)| (e, d + lo)).collect()
        };
        let (outer, inner) = (part(0, n, &r.outer), part(n, all, &r.inner));
        let keep: Vec<usize> = outer.iter().chain(&inner).map(|x| x.1).collect();
        for l in &mut loads {
            l.0 = access::project(&l.0, &keep);
        }
        for s in &mut stores {
            s.0 = access::project(&s.0, &keep);
        }
        Plan {
            outer: outer.iter().map(|x| x.0).collect(),
            inner: inner.iter().map(|x| x.0).collect(),
            loads,
            steps: r.steps.clone(),
            stores,
            row,
            dtype,
            level,
            ins: ins.to_vec(),
            outs: outs.to_vec(),
        }
    }

    fn rows(&self) -> u64 {
        self.outer.iter().product()
    }
    fn row_len(&self) -> u64 {
        self.inner.iter().product()
    }
    fn passes(&self) -> usize {
        self.level.iter().copied().max().unwrap_or(0)
    }
    /// Steps that pass `p` reduces: (value, monoid, argument, type of the result).
    fn reductions(&self, p: usize) -> Vec<(usize, Monoid, usize, DType)> {
        let mut out = vec![];
        for (i, s) in self.steps.iter().enumerate() {
            let v = self.loads.len() + i;
            if let RowStep::Reduce { monoid, arg, dtype } = s
                && self.row[*arg]
                && self.level[v] == p
            {
                out.push((v, *monoid, *arg, *dtype));
            }
        }
        out
    }
    /// Arithmetic of all maps per point.
    fn work(&self) -> u64 {
        self.steps.iter().map(|s| if let RowStep::Map { expr, .. } = s { cost(expr) } else { 1 }).sum()
    }
}

/// Instructions that an expression takes, roughly: elementary functions are dozens.
fn cost(e: &tahoma_core::scalar::Expr) -> u64 {
    use tahoma_core::scalar::{Binary, Step, Unary};
    e.steps
        .iter()
        .map(|(s, _)| match s {
            Step::Unary(Unary::Neg | Unary::Abs | Unary::Not | Unary::BitNot | Unary::Floor | Unary::Ceil | Unary::Round, _) => 1,
            Step::Unary(Unary::Reciprocal | Unary::Sqrt | Unary::Rsqrt | Unary::Sign, _) => 4,
            Step::Unary(..) => 24,
            Step::Binary(Binary::Pow | Binary::Mod | Binary::Rem, ..) => 60,
            Step::Binary(Binary::Div, ..) => 4,
            Step::Input(_) | Step::Const(_) => 0,
            _ => 1,
        })
        .sum()
}

/// Sums and products of 16-bit floats are kept in f32.
fn accumulator(d: DType) -> DType {
    if matches!(d, DType::F16 | DType::BF16) { DType::F32 } else { d }
}

/// Values known at one place: scalars of the row, and the row's elements at one point (or `lanes` neighbours).
struct Place<'p> {
    plan: &'p Plan,
    scalars: HashMap<usize, Val>,
}

/// A point of the row, or neighbours along the last loop.
struct Spot {
    index: Vec<Ix>,
    lanes: usize,
    values: HashMap<usize, Vec<Val>>,
}

impl Spot {
    fn new(index: Vec<Ix>, lanes: usize) -> Spot {
        Spot { index, lanes, values: HashMap::new() }
    }
}

impl<'p> Place<'p> {
    fn new(plan: &'p Plan) -> Place<'p> {
        Place { plan, scalars: HashMap::new() }
    }

    /// The value at a spot, one per lane.
    fn at(&mut self, f: &mut Fun, v: usize, spot: &mut Spot) -> Vec<Val> {
        if let Some(x) = self.scalars.get(&v) {
            return vec![*x; spot.lanes];
        }
        if let Some(x) = spot.values.get(&v) {
            return x.clone();
        }
        let p = self.plan;
        let out = match v.checked_sub(p.loads.len()) {
            None => {
                let (a, d) = &p.loads[v];
                let dim = spot.index.len().saturating_sub(1);
                access::read(f, &p.ins[a.buffer], a, *d, &spot.index, dim, spot.lanes)
            }
            Some(s) => match &p.steps[s] {
                RowStep::Map { expr, args } => {
                    let args: Vec<Vec<Val>> = args.iter().map(|&a| self.at(f, a, spot)).collect();
                    (0..spot.lanes)
                        .map(|l| {
                            let inputs: Vec<Val> = args.iter().map(|a| a[l]).collect();
                            scalar::expr(f, expr, &inputs)
                        })
                        .collect()
                }
                // A reduction of one element: only its type may differ. Reductions of rows are scalars by now.
                RowStep::Reduce { arg, dtype, .. } => {
                    let x = self.at(f, *arg, spot);
                    let from = p.dtype[*arg];
                    x.into_iter().map(|x| scalar::cast(f, x, from, *dtype)).collect()
                }
            },
        };
        spot.values.insert(v, out.clone());
        out
    }

    /// Computes, outside any loop over the row, all scalars of the row known after `pass` passes.
    fn settle(&mut self, f: &mut Fun, pass: usize, index: &[Ix]) {
        let p = self.plan;
        for v in 0..p.row.len() {
            if p.row[v] || p.level[v] > pass || self.scalars.contains_key(&v) {
                continue;
            }
            let mut spot = Spot::new(index.to_vec(), 1);
            let x = self.at(f, v, &mut spot);
            self.scalars.insert(v, x[0]);
        }
    }

    /// The results of a pass become scalars of the row.
    fn finish(&mut self, f: &mut Fun, pass: usize, sums: &[Val]) {
        for ((v, _, arg, d), &s) in self.plan.reductions(pass).into_iter().zip(sums) {
            let from = accumulator(self.plan.dtype[arg]);
            let x = scalar::cast(f, s, from, d);
            // A 16-bit result is rounded by the cast; the same type passes.
            self.scalars.insert(v, x);
        }
    }

    /// One element of each argument of a pass met with the sums so far.
    fn step(&mut self, f: &mut Fun, pass: usize, spot: &mut Spot, sums: &[Val], ok: Option<Val>) -> Vec<Val> {
        let list = self.plan.reductions(pass);
        let mut out = vec![];
        for ((_, m, arg, _), &sum) in list.into_iter().zip(sums) {
            let d = accumulator(self.plan.dtype[arg]);
            let mut s = sum;
            for x in self.at(f, arg, spot) {
                let x = match ok {
                    None => x,
                    Some(c) => {
                        let none = scalar::identity(f, m, d);
                        f.select(c, x, none)
                    }
                };
                s = scalar::combine(f, m, s, x, d);
            }
            out.push(s);
        }
        out
    }

    fn identities(&self, f: &mut Fun, pass: usize) -> Vec<Val> {
        self.plan.reductions(pass).into_iter().map(|(_, m, arg, _)| scalar::identity(f, m, accumulator(self.plan.dtype[arg]))).collect()
    }

    /// Writes the row's elements at a spot.
    fn write_row(&mut self, f: &mut Fun, spot: &mut Spot) {
        let p = self.plan;
        for (a, v, _) in p.stores.iter().filter(|s| s.2) {
            let x = self.at(f, *v, spot);
            let (b, d) = &p.outs[a.buffer];
            access::write(f, b, a, *d, &spot.index, spot.index.len().saturating_sub(1), &x);
        }
    }

    /// Writes scalars of the row.
    fn write_scalars(&mut self, f: &mut Fun, index: &[Ix]) {
        let p = self.plan;
        for (a, v, _) in p.stores.iter().filter(|s| !s.2) {
            let x = self.scalars[v];
            let (b, d) = &p.outs[a.buffer];
            access::write(f, b, a, *d, index, 0, &[x]);
        }
    }
}

/// Schedules rows; `ins` and `outs` are the kernel's arguments.
pub(super) fn schedule(r: &Rows, ins: &[Buf], outs: &[(Buf, DType)], wide: bool) -> Scheduled {
    let p = Plan::new(r, ins, outs);
    let fun = Fun::new(wide);
    let (rows, len) = (p.rows(), p.row_len());
    if len == 1 {
        return map(&p, fun);
    }
    // How neighbours read the rows: along the row, or across rows (then a thread per row reads whole lines with its neighbours).
    let n = p.outer.len();
    let (mut along, mut across) = (0u64, 0u64);
    for ((a, _), _) in p.loads.iter().zip(&p.row).filter(|(_, row)| **row) {
        let weight = p.ins[a.buffer].elements;
        if a.strides.last().is_some_and(|s| s.abs() == 1) {
            along += weight;
        } else if n > 0 && a.strides[n - 1].abs() <= 2 && a.strides[n - 1] != 0 {
            across += weight;
        }
    }
    if len <= UNROLL || (across > along && rows >= 256) {
        return thread(&p, fun);
    }
    let group = if len <= 1024 || rows >= 4096 { 32 } else { WIDE_BLOCK };
    rows_by_groups(&p, fun, group)
}

/// Most lanes that all accesses of a map or row allow: what is written must be written as vectors.
fn vector_lanes(p: &Plan, dim: usize, extent: u64) -> usize {
    let writes = || p.stores.iter().filter(|s| s.2 || p.inner.is_empty());
    let bytes = |b: &Buf| b.elem.elem.bytes();
    let widest = p.loads.iter().map(|l| bytes(&p.ins[l.0.buffer])).chain(writes().map(|s| bytes(&p.outs[s.0.buffer].0))).max().unwrap_or(4);
    let mut lanes = (16 / widest).clamp(1, 4) as usize;
    while lanes > 1 {
        let vector = |a: &Access, b: &Buf| access::lanes_of(a, dim, lanes, b.elements) == access::Lanes::Vector;
        let written = writes().all(|s| vector(&s.0, &p.outs[s.0.buffer].0));
        let read = p.loads.iter().any(|l| vector(&l.0, &p.ins[l.0.buffer]));
        if extent.is_multiple_of(lanes as u64) && written && (read || writes().count() > 0) && p.work() * lanes as u64 <= 160 {
            return lanes;
        }
        lanes /= 2;
    }
    1
}

fn thread_index(f: &mut Fun, block: u64) -> Val {
    let (b, t) = (f.special("block_id"), f.special("thread_id"));
    let b = f.mul_k(b, block as i64);
    f.add(b, t)
}

fn map(p: &Plan, mut fun: Fun) -> Scheduled {
    let points = p.rows();
    let lanes = p.outer.last().map_or(1, |&e| vector_lanes(p, p.outer.len() - 1, e));
    let threads = points / lanes as u64;
    let block = if threads >= BLOCK { BLOCK } else { threads.next_multiple_of(32) };
    let f = &mut fun;
    let i = thread_index(f, block);
    let ok = inside(f, i, threads, block);
    f.when(ok, |f| {
        let mut extents = p.outer.clone();
        if let Some(e) = extents.last_mut() {
            *e /= lanes as u64;
        }
        let mut index = access::decode(f, i, &extents);
        if let (Some(Ix { base: Some(b), .. }), true) = (index.last().copied(), lanes > 1) {
            let last = index.len() - 1;
            index[last] = Ix::at(f.mul_k(b, lanes as i64));
        }
        let mut spot = Spot::new(index, lanes);
        let mut place = Place::new(p);
        let dim = spot.index.len().saturating_sub(1);
        for (a, v, _) in &p.stores {
            let x = place.at(f, *v, &mut spot);
            let (b, d) = &p.outs[a.buffer];
            access::write(f, b, a, *d, &spot.index, dim, &x);
        }
    });
    Scheduled { fun, blocks: threads.div_ceil(block), block }
}

/// `i < count`, known where the grid has no spare threads.
fn inside(f: &mut Fun, i: Val, count: u64, block: u64) -> Val {
    if count.is_multiple_of(block) {
        return f.int(I1, 1);
    }
    let c = f.int(i.ty, count as i64);
    f.cmpi("slt", i, c)
}

fn thread(p: &Plan, mut fun: Fun) -> Scheduled {
    let (rows, len) = (p.rows(), p.row_len());
    let block = if rows >= BLOCK { BLOCK } else { rows.next_multiple_of(32) };
    let f = &mut fun;
    let i = thread_index(f, block);
    let ok = inside(f, i, rows, block);
    let loads = p.row[..p.loads.len()].iter().filter(|r| **r).count() as u64;
    let unrolled = len <= UNROLL && len * (loads * 3 + p.work()) <= 1200;
    f.when(ok, |f| {
        let outer = access::decode(f, i, &p.outer);
        let mut place = Place::new(p);
        let blank: Vec<Ix> = outer.iter().copied().chain(p.inner.iter().map(|_| Ix::constant(0))).collect();
        let mut spots: Vec<Spot> = vec![];
        if unrolled {
            for mut j in 0..len {
                let mut index = blank.clone();
                for (d, &e) in p.inner.iter().enumerate().rev() {
                    index[p.outer.len() + d] = Ix::constant((j % e) as i64);
                    j /= e;
                }
                spots.push(Spot::new(index, 1));
            }
        }
        place.settle(f, 0, &blank);
        for pass in 1..=p.passes() {
            let mut sums = place.identities(f, pass);
            if unrolled {
                for s in &mut spots {
                    sums = place.step(f, pass, s, &sums, None);
                }
            } else {
                sums = nest(f, &p.inner, outer.clone(), &sums, &mut |f, index, sums| {
                    place.step(f, pass, &mut Spot::new(index, 1), sums, None)
                });
            }
            place.finish(f, pass, &sums);
            place.settle(f, pass, &blank);
        }
        if unrolled {
            for s in &mut spots {
                place.write_row(f, s);
            }
        } else if p.stores.iter().any(|s| s.2) {
            nest(f, &p.inner, outer.clone(), &[], &mut |f, index, _| {
                place.write_row(f, &mut Spot::new(index, 1));
                vec![]
            });
        }
        place.write_scalars(f, &blank);
    });
    Scheduled { fun, blocks: rows.div_ceil(block), block }
}

type Body<'a> = dyn FnMut(&mut Fun, Vec<Ix>, &[Val]) -> Vec<Val> + 'a;

/// Nested loops over `extents`, carrying values.
fn nest(f: &mut Fun, extents: &[u64], index: Vec<Ix>, carried: &[Val], body: &mut Body<'_>) -> Vec<Val> {
    let Some((&e, rest)) = extents.split_first() else { return body(f, index, carried) };
    f.each(e, carried, |f, i, carried| {
        let mut index = index;
        index.push(Ix::at(i));
        nest(f, rest, index, carried, body)
    })
}

fn rows_by_groups(p: &Plan, mut fun: Fun, group: u64) -> Scheduled {
    let (rows, len) = (p.rows(), p.row_len());
    let one_warp = group == 32;
    let block = if one_warp { (rows.next_power_of_two() * 32).min(BLOCK) } else { group };
    let per_block = block / group;
    let warps = group / 32;
    let f = &mut fun;
    let (b, t) = (f.special("block_id"), f.special("thread_id"));
    let (row, lane) = if one_warp {
        let (w, lane) = (f.div_k(t, 32), f.rem_k(t, 32));
        let first = f.mul_k(b, per_block as i64);
        (f.add(first, w), lane)
    } else {
        (b, t)
    };
    // Spare warps do the last row again and write nothing: every lane takes part in the shuffles.
    let live = inside(f, row, rows, per_block);
    let last = f.int(row.ty, rows as i64 - 1);
    let row = f.select(live, row, last);
    let outer = access::decode(f, row, &p.outer);
    let lanes = p.inner.last().map_or(1, |&e| row_lanes(p, e));
    let rounds = len.div_ceil(group * lanes as u64);
    let whole = len.is_multiple_of(group * lanes as u64);
    let mut place = Place::new(p);
    let blank: Vec<Ix> = outer.iter().copied().chain(p.inner.iter().map(|_| Ix::constant(0))).collect();
    let loads = p.row[..p.loads.len()].iter().filter(|r| **r).count() as u64;
    let points = rounds * lanes as u64;
    let unrolled = points <= 16 && points * (loads * 3 + p.work()) <= 1200;

    // The spot of round `k` (an index or a constant), and whether it is inside the row.
    let spot_of = |f: &mut Fun, k: Val| -> (Spot, Option<Val>) {
        let at = f.mul_k(k, group as i64);
        let at = f.add(lane, at);
        let at = f.mul_k(at, lanes as i64);
        let (at, ok) = if whole {
            (at, None)
        } else {
            let n = f.int(at.ty, len as i64);
            let ok = f.cmpi("slt", at, n);
            let zero = f.int(at.ty, 0);
            (f.select(ok, at, zero), Some(ok))
        };
        let inner = if lanes > 1 && p.inner.len() > 1 {
            // Decoded in units of `lanes`, so that neighbours stay in one vector.
            let mut extents = p.inner.clone();
            let d = extents.len() - 1;
            extents[d] /= lanes as u64;
            let unit = f.div_k(at, lanes as u64);
            let mut ix = access::decode(f, unit, &extents);
            if let Some(b) = ix[d].base {
                ix[d] = Ix::at(f.mul_k(b, lanes as i64));
            }
            ix
        } else {
            access::decode(f, at, &p.inner)
        };
        (Spot::new(outer.iter().copied().chain(inner).collect(), lanes), ok)
    };

    let mut spots: Vec<(Spot, Option<Val>)> = vec![];
    if unrolled {
        for k in 0..rounds {
            let ix = f.ix();
            let k = f.int(ix, k as i64);
            let (s, ok) = spot_of(f, k);
            // Only the last round can be outside.
            let inside = f.known(k).is_some_and(|k| (k as u64 + 1) * group * lanes as u64 <= len);
            spots.push((s, if inside { None } else { ok }));
        }
    }
    place.settle(f, 0, &blank);
    for pass in 1..=p.passes() {
        let mut sums = place.identities(f, pass);
        if unrolled {
            for (s, ok) in &mut spots {
                sums = place.step(f, pass, s, &sums, *ok);
            }
        } else {
            sums = f.each(rounds, &sums, |f, k, sums| {
                let (mut s, ok) = spot_of(f, k);
                place.step(f, pass, &mut s, sums, ok)
            });
        }
        let list = p.reductions(pass);
        let sums: Vec<Val> = list
            .iter()
            .zip(sums)
            .map(|(&(_, m, arg, _), s)| {
                let d = accumulator(p.dtype[arg]);
                across_group(f, m, d, s, lane, warps)
            })
            .collect();
        place.finish(f, pass, &sums);
        place.settle(f, pass, &blank);
    }
    f.when(live, |f| {
        if unrolled {
            for (s, ok) in &mut spots {
                match *ok {
                    None => place.write_row(f, s),
                    Some(c) => {
                        // What is first computed inside the branch must not be used outside it.
                        let mut inner = Spot { index: s.index.clone(), lanes: s.lanes, values: s.values.clone() };
                        f.when(c, |f| place.write_row(f, &mut inner));
                    }
                }
            }
        } else if p.stores.iter().any(|s| s.2) {
            f.each(rounds, &[], |f, k, _| {
                let (mut s, ok) = spot_of(f, k);
                match ok {
                    None => place.write_row(f, &mut s),
                    Some(c) => f.when(c, |f| place.write_row(f, &mut s)),
                }
                vec![]
            });
        }
        if p.stores.iter().any(|s| !s.2) {
            let zero = f.int(lane.ty, 0);
            let first = f.cmpi("eq", lane, zero);
            f.when(first, |f| place.write_scalars(f, &blank));
        }
    });
    Scheduled { fun, blocks: rows.div_ceil(per_block), block }
}

/// Neighbours a lane takes along the row: as for a map, but a row that is only read counts too.
fn row_lanes(p: &Plan, extent: u64) -> usize {
    let dim = p.outer.len() + p.inner.len() - 1;
    let lanes = vector_lanes(p, dim, extent);
    let vector = |l: &(Access, DType)| access::lanes_of(&l.0, dim, lanes, p.ins[l.0.buffer].elements) == access::Lanes::Vector;
    let any = p.loads.iter().enumerate().any(|(i, l)| p.row[i] && vector(l));
    // Vectors pay where every lane still has work.
    if lanes > 1 && (any || p.stores.iter().any(|s| s.2)) && extent >= 32 * lanes as u64 { lanes } else { 1 }
}

/// The value of the lane `distance` away within the warp (butterfly).
fn shuffle(f: &mut Fun, v: Val, distance: i64) -> Val {
    let (all, d, mask) = (f.int(I32, -1), f.int(I32, distance), f.int(I32, 31));
    let go = |f: &mut Fun, v: Val| f.op(v.ty, format!("nvvm.shfl.sync bfly {all}, {v}, {d}, {mask} : {} -> {}", v.ty, v.ty));
    match v.ty.bits() {
        64 => {
            let bits = if v.ty.is_float() { f.convert("bitcast", v, I64) } else { v };
            let s = f.int(I64, 32);
            let hi = f.arith("shrui", bits, s);
            let (lo, hi) = (f.convert("trunci", bits, I32), f.convert("trunci", hi, I32));
            let (lo, hi) = (go(f, lo), go(f, hi));
            let (lo, hi) = (f.convert("extui", lo, I64), f.convert("extui", hi, I64));
            let hi = f.arith("shli", hi, s);
            let r = f.arith("ori", lo, hi);
            if v.ty.is_float() { f.convert("bitcast", r, v.ty) } else { r }
        }
        32 => go(f, v),
        _ => {
            let w = f.convert("extui", v, I32);
            let w = go(f, w);
            f.convert("trunci", w, v.ty)
        }
    }
}

/// Combines one value per thread over a group of `warps` warps; every thread gets the result.
pub(super) fn across_group(f: &mut Fun, m: Monoid, d: DType, mut v: Val, lane: Val, warps: u64) -> Val {
    for distance in [16, 8, 4, 2, 1] {
        let other = shuffle(f, v, distance);
        v = scalar::combine(f, m, v, other, d);
    }
    if warps == 1 {
        return v;
    }
    let memory = scalar::memory_ty(d).unwrap_or(F32);
    let shared = f.shared(memory, warps);
    let zero = f.int(lane.ty, 0);
    let (w, l) = (f.div_k(lane, 32), f.rem_k(lane, 32));
    let first = f.cmpi("eq", l, zero);
    f.when(first, |f| {
        let x = scalar::to_memory(f, v, d);
        f.store(&shared, w, x);
    });
    f.barrier();
    let ix = f.ix();
    let mut all: Option<Val> = None;
    for i in 0..warps {
        let at = f.int(ix, i as i64);
        let x = f.load(&shared, at, 1);
        let x = scalar::from_memory(f, x, d);
        all = Some(match all {
            None => x,
            Some(a) => scalar::combine(f, m, a, x, d),
        });
    }
    all.unwrap_or(v)
}

/// A contraction of two plain reads as rows: one row per output, along `k`.
pub(super) fn of_contract(c: &ContractSpec) -> Rows {
    use tahoma_core::scalar::{Binary, Expr, Step};
    let (nb, nm, nn, nk) = (c.batch.len(), c.m.len(), c.n.len(), c.k.len());
    let total = nb + nm + nn + nk;
    // Where each loop of an operand is among batch ++ m ++ n ++ k.
    let place = |a: &Access, first: usize, count: usize| {
        let mut at: Vec<usize> = (0..nb).collect();
        at.extend(first..first + count);
        at.extend(nb + nm + nn..total);
        let spread = |c: &[i64]| {
            let mut out = vec![0i64; total];
            for (&d, &x) in at.iter().zip(c) {
                out[d] = x;
            }
            out
        };
        let mut b = a.clone();
        b.strides = spread(&a.strides);
        for (g, old) in b.guards.iter_mut().zip(&a.guards) {
            g.coeffs = spread(&old.coeffs);
        }
        b
    };
    let sum = sum_type(c.dtype);
    let read = |o: &Operand, first: usize, count: usize| {
        o.loads.first().map(|l| Load { access: place(&l.access, first, count), dtype: c.dtype, per_row: false })
    };
    let mut loads: Vec<Load> = [read(&c.a, nb, nm), c.b.first().and_then(|b| read(b, nb + nm, nn))].into_iter().flatten().collect();
    loads.extend(c.loads.iter().map(|l| Load { per_row: true, ..l.clone() }));
    let mut product = Expr::default();
    let (x, y) = (product.push(Step::Input(0), c.dtype), product.push(Step::Input(1), c.dtype));
    let (x, y) = if sum == c.dtype { (x, y) } else { (product.push(Step::Cast(x), sum), product.push(Step::Cast(y), sum)) };
    product.push(Step::Binary(Binary::Mul, x, y), sum);
    let first = loads.len();
    let steps = vec![
        RowStep::Map { expr: product, args: vec![0, 1] },
        RowStep::Reduce { monoid: Monoid::Sum, arg: first, dtype: sum },
        RowStep::Map { expr: c.epilogue.clone(), args: std::iter::once(first + 1).chain(2..first).collect() },
    ];
    let outer = c.batch.iter().chain(&c.m).chain(&c.n).copied().collect();
    Rows { outer, inner: c.k.clone(), loads, steps, stores: vec![Store { access: c.store.clone(), value: first + 2 }] }
}

/// Type the sums of products are kept in.
pub(super) fn sum_type(d: DType) -> DType {
    match d {
        DType::F64 => DType::F64,
        d if d.is_float() => DType::F32,
        DType::I64 | DType::U64 => d,
        _ => DType::I32,
    }
}
