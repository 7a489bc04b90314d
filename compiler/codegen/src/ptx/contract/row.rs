//! Rows that the block makes itself: the passes over `k` that give the scalars of a row (mean and deviation, maximum and sum).
//!
//! A warp takes one row after another; its lanes walk `k`. Scalars live in a small table in shared memory, `[reduction][row]`, as f32: neighbours
//! belong to other passes no more, so that no load that a compiler widens touches what is being written.
//! Where the row is a product that does not fit into shared memory at once, a pass goes over it tile by tile and makes it again.

use super::super::access::{self, Ix};
use super::super::printer::*;
use super::super::{rows, scalar};
use super::plan::{Plan, Side};
use super::stage::{Chunk, Known, Scores, decode_k, settle, values};
use tahoma_core::DType;
use tahoma_core::op::Monoid;

/// The table of a block's rows.
pub(super) struct Table {
    buf: Buf,
    rows: u64,
    /// Value of each column with its monoid and type.
    slots: Vec<(usize, Monoid, DType)>,
}

/// Whether sums of this type are kept as f32 in the table.
pub(super) fn keeps(d: DType) -> bool {
    matches!(d, DType::F32 | DType::F16 | DType::BF16)
}

impl Table {
    pub(super) fn new(f: &mut Fun, p: &Plan) -> Option<Table> {
        let passes = p.gemm.a.passes();
        let slots: Vec<_> = passes.iter().flatten().map(|&(v, m, _, d)| (v, m, d)).collect();
        (!slots.is_empty()).then(|| Table { buf: f.shared(F32, p.tile.m() * slots.len() as u64), rows: p.tile.m(), slots })
    }
    fn at(&self, f: &mut Fun, row: Val, slot: usize) -> Val {
        f.add_k(row, slot as i64 * self.rows as i64)
    }
    fn slot(&self, v: usize) -> usize {
        self.slots.iter().position(|s| s.0 == v).unwrap_or_default()
    }
    /// The scalars of a row that are known after `pass` passes.
    fn known(&self, f: &mut Fun, s: &Side, row: Val, index: &[Ix], k: usize, pass: usize) -> Known {
        let mut known = Known::new();
        settle(f, s, index, k, &mut known);
        for list in &s.passes()[..pass] {
            for &(v, _, _, d) in list {
                let at = self.at(f, row, self.slot(v));
                let x = f.load(&self.buf, at, 1);
                // A 16-bit result is rounded by the cast; the same type passes.
                known.insert(v, scalar::cast(f, x, DType::F32, d));
            }
            settle(f, s, index, k, &mut known);
        }
        known
    }
    /// Gives every chunk the scalars of its row.
    pub(super) fn tell(&self, f: &mut Fun, p: &Plan, chunks: &mut [Chunk]) {
        let s = &p.gemm.a;
        for c in chunks {
            c.known = self.known(f, s, c.row, &c.index, p.gemm.k_in.len(), s.passes().len());
        }
    }
}

/// Where the block stands.
pub(super) struct Place<'a> {
    pub(super) tid: Val,
    pub(super) row0: Val,
    pub(super) batch: &'a [Ix],
}

/// Puts the neutral elements of a pass into the table.
pub(super) fn clear(f: &mut Fun, p: &Plan, t: &Table, pass: usize, at: &Place) {
    each_row(f, p, at, |f, row, lane| {
        let zero = f.int(lane.ty, 0);
        let first = f.cmpi("eq", lane, zero);
        f.when(first, |f| {
            for (v, m, _, _) in &p.gemm.a.passes()[pass] {
                let none = scalar::identity(f, *m, DType::F32);
                let at = t.at(f, row, t.slot(*v));
                f.store(&t.buf, at, none);
            }
        });
    });
}

fn each_row(f: &mut Fun, p: &Plan, at: &Place, body: impl FnOnce(&mut Fun, Val, Val)) {
    let warps = p.tile.warps();
    let (warp, lane) = (f.div_k(at.tid, 32), f.rem_k(at.tid, 32));
    f.each(p.tile.m() / warps, &[], |f, i, _| {
        let row = f.mul_k(i, warps as i64);
        let row = f.add(row, warp);
        body(f, row, lane);
        vec![]
    });
}

/// One pass over `count` elements of `k`: from the start, or over a product's tile. Results join what the table has.
pub(super) fn pass(f: &mut Fun, p: &Plan, t: &Table, pass: usize, at: &Place, scores: Option<&Scores>) {
    let (g, s) = (&p.gemm, &p.gemm.a);
    let list = &s.passes()[pass];
    let inner = g.inner();
    let count = if scores.is_some() { p.tile.n() } else { inner };
    let lanes = if scores.is_none() && g.k_in.last().is_some_and(|e| e.is_multiple_of(4)) { 4 } else { 1u64 };
    let last = f.int(at.row0.ty, s.rows as i64 - 1);
    each_row(f, p, at, |f, row, lane| {
        let global = f.add(at.row0, row);
        let global = f.arith("minsi", global, last);
        let mut index = at.batch.to_vec();
        index.extend(access::decode(f, global, &s.extents));
        let known = t.known(f, s, row, &index, g.k_in.len(), pass);
        let none: Vec<Val> = list.iter().map(|l| scalar::identity(f, l.1, DType::F32)).collect();
        let sums = f.each(count.div_ceil(32 * lanes), &none, |f, j, sums| {
            let local = f.mul_k(j, 32);
            let local = f.add(local, lane);
            let local = f.mul_k(local, lanes as i64);
            let k = match scores {
                Some(t) => f.add(t.first, local),
                None => local,
            };
            let (n, zero) = (f.int(k.ty, inner as i64), f.int(k.ty, 0));
            let ok = f.cmpi("slt", k, n);
            let safe = f.select(ok, k, zero);
            let mut index = index.clone();
            index.extend(decode_k(f, safe, &g.k_in, lanes as usize));
            let product = scores.map(|t| {
                let r = f.mul_k(row, t.stride as i64);
                let at = f.add(r, local);
                vec![f.load(t.buf, at, 1)]
            });
            let want: Vec<usize> = list.iter().map(|l| l.2).collect();
            let x = values(f, s, &want, &index, lanes as usize, product.as_deref(), &known);
            let mut out = vec![];
            for ((l, x), &sum) in list.iter().zip(x).zip(sums) {
                let mut sum = sum;
                for x in x {
                    let none = scalar::identity(f, l.1, DType::F32);
                    let x = f.select(ok, x, none);
                    sum = scalar::combine(f, l.1, sum, x, DType::F32);
                }
                out.push(sum);
            }
            out
        });
        let mut whole = vec![];
        for (l, sum) in list.iter().zip(sums) {
            whole.push(rows::across_group(f, l.1, DType::F32, sum, lane, 1));
        }
        let zero = f.int(lane.ty, 0);
        let first = f.cmpi("eq", lane, zero);
        f.when(first, |f| {
            for (l, x) in list.iter().zip(whole) {
                let at = t.at(f, row, t.slot(l.0));
                let old = f.load(&t.buf, at, 1);
                let x = scalar::combine(f, l.1, old, x, DType::F32);
                f.store(&t.buf, at, x);
            }
        });
    });
}
