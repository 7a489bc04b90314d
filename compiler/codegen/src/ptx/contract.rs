//! Contractions on tensor cores: `mma.sync` over tiles in shared memory.
//!
//! A block makes a tile of `m × n` outputs; its warps tile that, and may also split `k` between them. Each round stages 16 words of `k`
//! per row (16 f32 or 32 f16) for both operands, wherever they lie in memory: a row's address is computed once, the address along `k`
//! once per round.
//!
//! ```text
//! shared word (part, slice, row, chunk) = ((part·slices + slice)·rows + row)·16 + 4·(chunk ^ (row/2 mod 4))
//! ```
//!
//! A sum does not care about the order of `k`, so both operands agree on one that suits memory: thread `t` of a row's four takes words
//! `4t … 4t+3` as one 16-byte load, and feeds words (0, 1) to the first `mma` and (2, 3) to the second. The `^` keeps both the loads and
//! the 16-byte stores free of bank conflicts.
//!
//! f32 is split as `x = hi + lo` in tf32 and summed as `hi·hi + hi·lo + lo·hi` (3xTF32): the dropped `lo·lo` is below 2⁻²² of the product.
//! Each round's products are summed from zero and added to the sum with one rounded addition, since tensor cores cut digits off instead
//! of rounding (Ootomo and Yokota, *Recovering single precision accuracy from Tensor Cores*, 2022). What is infinite or NaN goes into `lo`, beside `hi = ±1`: products of `hi`
//! then never meet it with the wrong sign.
//!
//! The tile then goes back through shared memory, so that the epilogue is written once, in a loop, on neighbouring outputs.
//!
//! A's rows may be made in the block (`row`): a norm reads its row before the first round; the scores of an attention are a tile of
//! another product, `t.n` columns of `k` at a time, which the rounds over those columns take from shared memory.

mod plan;
mod row;
mod stage;

use super::MOST_SHARED;
use super::access::{self, Ix};
use super::printer::*;
use super::rows::Scheduled;
use super::scalar;
use plan::{Gemm, Plan, Side, Tile, WORDS};
use row::{Place, Table};
use stage::{Chunk, Round, Scores, chunks, fetch, stage};
use tahoma_core::DType;
use tahoma_core::kernel::*;

fn multiplies(d: DType) -> bool {
    matches!(d, DType::F32 | DType::F16 | DType::BF16)
}

/// Whether only this schedule makes the contraction: more than plain reads and one sum.
fn is_fused(c: &ContractSpec) -> bool {
    c.b.len() > 1 || c.a.plain().is_none() || c.b.iter().any(|b| b.plain().is_none())
}

/// Whether tensor cores take this contraction; the others are done as rows.
pub(super) fn fits(c: &ContractSpec) -> bool {
    let p = |v: &[u64]| v.iter().product::<u64>();
    multiplies(c.dtype) && (is_fused(c) || (p(&c.m) >= 9 && p(&c.n) >= 9 && p(&c.k) >= 12))
}

/// Why no schedule makes a contraction.
pub(super) fn refused(c: &ContractSpec) -> Option<String> {
    if !is_fused(c) {
        return None;
    }
    let product = c.a.product.as_ref().map_or(c.dtype, |p| p.dtype);
    let kept = c.a.steps.iter().all(|s| !matches!(s, RowStep::Reduce { dtype, .. } if !row::keeps(*dtype)));
    if !(multiplies(c.dtype) && multiplies(product) && kept) {
        return Some(format!("tensor cores do not multiply {}", c.dtype));
    }
    let no_room = || format!("the sums of {} products take more than {MOST_SHARED} bytes of shared memory", c.b.len());
    plan::choose(c).is_none().then(no_room)
}

/// What all rounds of a block share.
struct Block<'a> {
    p: &'a Plan,
    shared: Buf,
    tid: Val,
    batch: Vec<Ix>,
    slice: Val,
    wm: Val,
    wn: Val,
    /// Row and word of this thread's fragments.
    g: Val,
    q: Val,
    swizzled: Val,
}

/// Schedules a contraction for which [`fits`] holds. `None` where no tile fits into shared memory.
pub(super) fn schedule(c: &ContractSpec, ins: &[Buf], out: &(Buf, DType), wide: bool) -> Option<Scheduled> {
    let p = Plan::new(c, plan::choose(c)?, ins);
    let mut fun = Fun::new(wide);
    let f = &mut fun;
    let t = p.tile;
    let (tiles_m, tiles_n) = (p.gemm.a.rows.div_ceil(t.m()), p.gemm.b[0].rows.div_ceil(t.n()));
    let batches: u64 = p.batch.iter().product();
    let (block, tid) = (f.special("block_id"), f.special("thread_id"));
    let (bn, rest) = (f.rem_k(block, tiles_n), f.div_k(block, tiles_n));
    let (bm, z) = (f.rem_k(rest, tiles_m), f.div_k(rest, tiles_m));
    let (m0, n0) = (f.mul_k(bm, t.m() as i64), f.mul_k(bn, t.n() as i64));
    let batch = access::decode(f, z, &p.batch);

    let shared = f.shared(I32, plan::words(c, &t));
    // The thread's place among the warps, and in its warp.
    let (warp, lane) = (f.div_k(tid, 32), f.rem_k(tid, 32));
    let (g, q) = (f.div_k(lane, 4), f.rem_k(lane, 4));
    let per_slice = t.wm * t.wn;
    let (slice, place) = (f.div_k(warp, per_slice), f.rem_k(warp, per_slice));
    let (wm, wn) = (f.div_k(place, t.wn), f.rem_k(place, t.wn));
    let pair = f.div_k(g, 2);
    let pair = f.rem_k(pair, 4);
    let swizzled = f.arith("xori", q, pair);
    let swizzled = f.mul_k(swizzled, 4);
    let b = Block { p: &p, shared, tid, batch, slice, wm, wn, g, q, swizzled };

    let mut chunks_a = chunks(f, &p, &p.gemm, &p.gemm.a, tid, m0, &b.batch, 0);
    let chunks_b = b.chunks_b(f, &p.gemm, n0);
    let zero = f.float(F32, 0.0);
    let start = vec![zero; p.gemm.b.len() * t.sums()];
    let sums = match &p.scores {
        None => {
            b.passes(f, m0, &mut chunks_a);
            let rounds_in = p.gemm.inner().div_ceil(p.gemm.per_round());
            let rounds = rounds_in * p.gemm.k_out.iter().product::<u64>();
            f.each(rounds, &start, |f, round, sums| {
                let (ko, ki) = (f.div_k(round, rounds_in), f.rem_k(round, rounds_in));
                let k_out = access::decode(f, ko, &p.gemm.k_out);
                let k0 = f.mul_k(ki, p.gemm.per_round() as i64);
                let whole = p.gemm.inner().is_multiple_of(p.gemm.per_round());
                b.round(f, &p.gemm, [&chunks_a, &chunks_b], &Round { k_out, k0, whole }, None, sums)
            })
        }
        Some(scores) => b.attend(f, scores, m0, &mut chunks_a, &chunks_b, &start),
    };
    for (i, sums) in sums.chunks(t.sums()).enumerate() {
        b.lay_out(f, sums, &b.shared, i as u64 * t.slices * t.m() * t.stride(), t.stride());
    }
    f.barrier();
    epilogue(f, c, &p, ins, out, &b.shared, tid, [m0, n0], &b.batch);
    Some(Scheduled { fun, blocks: tiles_m * tiles_n * batches, block: t.threads() })
}

impl Block<'_> {
    fn chunks_b(&self, f: &mut Fun, g: &Gemm, row0: Val) -> Vec<Chunk> {
        (0..g.b.len()).flat_map(|i| chunks(f, self.p, g, &g.b[i], self.tid, row0, &self.batch, g.base_b(i))).collect()
    }

    /// Where this thread's fragments of a side start.
    fn fragment(&self, f: &mut Fun, side: &Side, w: Val, rows: u64, base: u64) -> Val {
        let r = f.mul_k(self.slice, side.tile as i64);
        let w = f.mul_k(w, rows as i64);
        let r = f.add(r, w);
        let r = f.add(r, self.g);
        let r = f.mul_k(r, WORDS as i64);
        let r = f.add(r, self.swizzled);
        f.add_k(r, base as i64)
    }

    /// Stages a round of both sides and multiplies it.
    fn round(&self, f: &mut Fun, g: &Gemm, [a, b]: [&[Chunk]; 2], r: &Round, scores: Option<&Scores>, sums: &[Val]) -> Vec<Val> {
        let each = b.len() / g.b.len();
        let staged_a: Vec<Vec<Val>> = a.iter().map(|c| fetch(f, g, &g.a, c, r, scores)).collect();
        let staged_b: Vec<Vec<Val>> = b.iter().enumerate().map(|(i, c)| fetch(f, g, &g.b[i / each], c, r, None)).collect();
        for (c, v) in a.iter().zip(staged_a) {
            stage(f, g, &self.shared, c, g.plane(&g.a), &v);
        }
        for (i, (c, v)) in b.iter().zip(staged_b).enumerate() {
            stage(f, g, &self.shared, c, g.plane(&g.b[i / each]), &v);
        }
        f.barrier();
        let t = self.p.tile;
        let at_a = self.fragment(f, &g.a, self.wm, t.tm * 16, 0);
        let mut next = vec![];
        for (i, side) in g.b.iter().enumerate() {
            let at_b = self.fragment(f, side, self.wn, t.tn * 8, g.base_b(i));
            let own = &sums[i * t.sums()..(i + 1) * t.sums()];
            next.extend(multiply(f, t, g, &self.shared, [at_a, at_b], [g.plane(&g.a), g.plane(side)], own));
        }
        f.barrier();
        next
    }

    /// The scalars of rows that are read from memory.
    fn passes(&self, f: &mut Fun, m0: Val, chunks_a: &mut [Chunk]) {
        let Some(table) = Table::new(f, self.p) else {
            // What does not change along k is read once.
            let side = &self.p.gemm.a;
            if side.plain().is_none() {
                let dims = self.p.gemm.k_out.len() + self.p.gemm.k_in.len();
                chunks_a.iter_mut().for_each(|c| stage::settle(f, side, &c.index.clone(), dims, &mut c.known));
            }
            return;
        };
        let at = Place { tid: self.tid, row0: m0, batch: &self.batch };
        for pass in 0..self.p.gemm.a.passes().len() {
            row::clear(f, self.p, &table, pass, &at);
            row::pass(f, self.p, &table, pass, &at, None);
            f.barrier();
        }
        table.tell(f, self.p, chunks_a);
    }

    /// Rows that are a product: its tile is made for `t.n` columns of `k`, for each pass and for the sums.
    fn attend(&self, f: &mut Fun, scores: &Gemm, m0: Val, chunks_a: &mut [Chunk], chunks_b: &[Chunk], start: &[Val]) -> Vec<Val> {
        let (p, t) = (self.p, self.p.tile);
        let stride = plan::score_stride(&t);
        let buf = f.shared(F32, t.m() * stride);
        let tiles = p.gemm.inner().div_ceil(t.n());
        let queries = chunks(f, p, scores, &scores.a, self.tid, m0, &self.batch, 0);
        let make = |f: &mut Fun, tile: Val| -> Val {
            let first = f.mul_k(tile, t.n() as i64);
            let keys = self.chunks_b(f, scores, first);
            let zero = f.float(F32, 0.0);
            let sums = f.each(scores.inner().div_ceil(scores.per_round()), &vec![zero; t.sums()], |f, i, sums| {
                let k0 = f.mul_k(i, scores.per_round() as i64);
                let whole = scores.inner().is_multiple_of(scores.per_round());
                self.round(f, scores, [&queries, &keys], &Round { k_out: vec![], k0, whole }, None, sums)
            });
            self.lay_out(f, &sums, &buf, 0, stride);
            f.barrier();
            first
        };
        let ix = f.ix();
        let zero = f.int(ix, 0);
        // One tile is made once.
        let only = (tiles == 1).then(|| make(f, zero));
        if let Some(table) = Table::new(f, p) {
            let at = Place { tid: self.tid, row0: m0, batch: &self.batch };
            for pass in 0..p.gemm.a.passes().len() {
                row::clear(f, p, &table, pass, &at);
                let over = |f: &mut Fun, first: Val| {
                    row::pass(f, p, &table, pass, &at, Some(&Scores { buf: &buf, stride, first }));
                    f.barrier();
                };
                match only {
                    Some(first) => over(f, first),
                    None => {
                        f.each(tiles, &[], |f, i, _| {
                            let first = make(f, i);
                            over(f, first);
                            vec![]
                        });
                    }
                }
            }
            table.tell(f, p, chunks_a);
        }
        let rounds = t.n() / p.gemm.per_round();
        let whole = p.gemm.inner().is_multiple_of(t.n());
        let over = |f: &mut Fun, first: Val, sums: &[Val]| {
            let tile = Scores { buf: &buf, stride, first };
            f.each(rounds, sums, |f, i, sums| {
                let k0 = f.mul_k(i, p.gemm.per_round() as i64);
                let k0 = f.add(k0, first);
                self.round(f, &p.gemm, [chunks_a, chunks_b], &Round { k_out: vec![], k0, whole }, Some(&tile), sums)
            })
        };
        match only {
            Some(first) => over(f, first, start),
            None => f.each(tiles, start, |f, i, sums| {
                let first = make(f, i);
                over(f, first, sums)
            }),
        }
    }

    /// The block's tile to shared memory, as f32 or its bits: `[slice][m][n]`.
    fn lay_out(&self, f: &mut Fun, sums: &[Val], to: &Buf, base: u64, stride: u64) {
        let t = self.p.tile;
        let r0 = f.mul_k(self.slice, t.m() as i64);
        let wr = f.mul_k(self.wm, (t.tm * 16) as i64);
        let r0 = f.add(r0, wr);
        let r0 = f.add(r0, self.g);
        let r0 = f.mul_k(r0, stride as i64);
        let wc = f.mul_k(self.wn, (t.tn * 8) as i64);
        let q2 = f.mul_k(self.q, 2);
        let r0 = f.add(r0, wc);
        let r0 = f.add(r0, q2);
        let r0 = f.add_k(r0, base as i64);
        for i in 0..t.tm {
            for j in 0..t.tn {
                for half in 0..2u64 {
                    let s = ((i * t.tn + j) * 4 + half * 2) as usize;
                    let two = [sums[s], sums[s + 1]].map(|x| if to.elem == F32 { x } else { f.convert("bitcast", x, I32) });
                    let v = f.vector(&two);
                    let at = f.add_k(r0, ((i * 16 + half * 8) * stride + j * 8) as i64);
                    f.store(to, at, v);
                }
            }
        }
    }
}

/// One round of a warp: fragments from shared memory, then the mmas.
fn multiply(f: &mut Fun, t: Tile, g: &Gemm, shared: &Buf, at: [Val; 2], plane: [u64; 2], sums: &[Val]) -> Vec<Val> {
    let mut sums = sums.to_vec();
    let rows = |f: &mut Fun, at: Val, plane: u64, count: u64| -> Vec<Vec<Vec<Val>>> {
        // [part][group of 8 rows][word]
        (0..g.parts())
            .map(|part| {
                (0..count)
                    .map(|r| {
                        let at = f.add_k(at, (part * plane + r * 8 * WORDS) as i64);
                        let v = f.load(shared, at, 4);
                        (0..4).map(|w| f.extract(v, w)).collect()
                    })
                    .collect()
            })
            .collect()
    };
    let a = rows(f, at[0], plane[0], t.tm * 2);
    let b = rows(f, at[1], plane[1], t.tn);
    let step = |f: &mut Fun, i: usize, j: usize, step: usize, (pa, pb): (usize, usize), c: [Val; 4]| {
        let (top, low) = (&a[pa][2 * i], &a[pa][2 * i + 1]);
        let fa = [top[2 * step], low[2 * step], top[2 * step + 1], low[2 * step + 1]];
        let fb = [b[pb][j][2 * step], b[pb][j][2 * step + 1]];
        mma(f, g.dtype, fa, fb, c)
    };
    let zero = f.float(F32, 0.0);
    for i in 0..t.tm as usize {
        for j in 0..t.tn as usize {
            let s = (i * t.tn as usize + j) * 4;
            let sum: [Val; 4] = [sums[s], sums[s + 1], sums[s + 2], sums[s + 3]];
            let next = if g.parts() == 2 {
                // Smallest products first, from zero: what tensor cores cut off is of the round's size, not of the sum's.
                let mut c = [zero; 4];
                for (k, parts) in [(0, (1, 0)), (1, (1, 0)), (0, (0, 1)), (1, (0, 1)), (0, (0, 0)), (1, (0, 0))] {
                    c = step(f, i, j, k, parts, c);
                }
                [0, 1, 2, 3].map(|e| f.fadd(sum[e], c[e]))
            } else {
                let c = step(f, i, j, 0, (0, 0), sum);
                step(f, i, j, 1, (0, 0), c)
            };
            sums[s..s + 4].copy_from_slice(&next);
        }
    }
    sums
}

fn mma(f: &mut Fun, d: DType, a: [Val; 4], b: [Val; 2], c: [Val; 4]) -> [Val; 4] {
    let out = "!llvm.struct<(f32, f32, f32, f32)>";
    let (kind, operand, k) = match d {
        DType::F32 => ("tf32", "i32", 8),
        DType::BF16 => ("bf16", "i32", 16),
        _ => ("f16", "vector<2xf16>", 16),
    };
    let half = Ty { elem: Elem::F16, lanes: 2 };
    let cast = |f: &mut Fun, v: Val| if d == DType::F16 { f.op(half, format!("llvm.bitcast {v} : i32 to vector<2xf16>")) } else { v };
    let a = a.map(|v| cast(f, v).to_string()).join(", ");
    let b = b.map(|v| cast(f, v).to_string()).join(", ");
    let c = c.map(|v| v.to_string()).join(", ");
    let types = if d == DType::F16 {
        String::new()
    } else {
        format!("multiplicandAPtxType = #nvvm.mma_type<{kind}>, multiplicandBPtxType = #nvvm.mma_type<{kind}>, ")
    };
    let r = f.op(
        F32,
        format!(
            "nvvm.mma.sync A[{a}] B[{b}] C[{c}] {{layoutA = #nvvm.mma_layout<row>, layoutB = #nvvm.mma_layout<col>, {types}shape = #nvvm.shape<m = 16, n = 8, k = {k}>}} : ({operand}, {operand}, f32) -> {out}"
        ),
    );
    [0, 1, 2, 3].map(|i| f.op(F32, format!("llvm.extractvalue {r}[{i}] : {out}")))
}

#[allow(clippy::too_many_arguments)]
fn epilogue(
    f: &mut Fun,
    c: &ContractSpec,
    p: &Plan,
    ins: &[Buf],
    out: &(Buf, DType),
    shared: &Buf,
    tid: Val,
    first: [Val; 2],
    batch: &[Ix],
) {
    let t = p.tile;
    let stride = t.stride();
    let (of_m, of_n) = (&p.gemm.a, &p.gemm.b[0]);
    let (nb, nm) = (p.batch.len(), of_m.extents.len());
    let dims = nb + nm + of_n.extents.len();
    // Neighbouring threads take the outputs that lie side by side: along n, or along m.
    let unit_n = !of_n.extents.is_empty() && p.store.strides[dims - 1] == 1;
    let along_m = !unit_n && nm > 0 && p.store.strides[nb + nm - 1] == 1;
    let lanes = if unit_n && of_n.extents.last().is_some_and(|e| e.is_multiple_of(4)) {
        match access::lanes_of(&p.store, dims - 1, 4, out.0.elements) {
            access::Lanes::Vector => 4u64,
            _ => 1,
        }
    } else {
        1
    };
    let (fast, slow) = if along_m { (t.m(), t.n()) } else { (t.n() / lanes, t.m()) };
    let (threads, work) = (t.threads(), t.m() * t.n() / lanes);
    debug_assert!(threads.is_multiple_of(fast) && work.is_multiple_of(threads) && slow > 0);
    let (col, row) = (f.rem_k(tid, fast), f.div_k(tid, fast));
    f.each(work / threads, &[], |f, i, _| {
        let r = f.mul_k(i, (threads / fast) as i64);
        let r = f.add(r, row);
        let (lm, ln) = if along_m { (col, r) } else { (r, f.mul_k(col, lanes as i64)) };
        let (m, n) = (f.add(first[0], lm), f.add(first[1], ln));
        let mut ok = f.int(I1, 1);
        for (x, rows, tile) in [(m, of_m.rows, t.m()), (n, of_n.rows, t.n())] {
            if !rows.is_multiple_of(tile) {
                let e = f.int(x.ty, rows as i64);
                let inside = f.cmpi("slt", x, e);
                ok = f.and(ok, inside);
            }
        }
        f.when(ok, |f| {
            let base = f.mul_k(lm, stride as i64);
            let base = f.add(base, ln);
            // [sum][lane], each the sum of its slices.
            let mut sums: Vec<Vec<Val>> = vec![];
            for i in 0..p.gemm.b.len() as u64 {
                let mut of: Vec<Val> = vec![];
                for s in 0..t.slices {
                    let at = f.add_k(base, ((i * t.slices + s) * t.m() * stride) as i64);
                    let v = f.load(shared, at, lanes as usize);
                    for l in 0..lanes as usize {
                        let x = if lanes > 1 { f.extract(v, l) } else { v };
                        let x = f.convert("bitcast", x, F32);
                        match of.get(l) {
                            None => of.push(x),
                            Some(&y) => of[l] = f.fadd(y, x),
                        }
                    }
                }
                sums.push(of);
            }
            let mut index = batch.to_vec();
            index.extend(access::decode(f, m, &of_m.extents));
            if lanes > 1 {
                let mut e = of_n.extents.clone();
                let d = e.len() - 1;
                e[d] /= lanes;
                let unit = f.div_k(n, lanes);
                let mut ix = access::decode(f, unit, &e);
                if let Some(b) = ix[d].base {
                    ix[d] = Ix::at(f.mul_k(b, lanes as i64));
                }
                index.extend(ix);
            } else {
                index.extend(access::decode(f, n, &of_n.extents));
            }
            let dim = index.len().saturating_sub(1);
            let extra: Vec<Vec<Val>> =
                p.loads.iter().map(|(a, d)| access::read(f, &ins[a.buffer], a, *d, &index, dim, lanes as usize)).collect();
            let values: Vec<Val> = (0..lanes as usize)
                .map(|l| {
                    let inputs: Vec<Val> = sums.iter().chain(&extra).map(|x| x[l]).collect();
                    scalar::expr(f, &c.epilogue, &inputs)
                })
                .collect();
            access::write(f, &out.0, &p.store, out.1, &index, dim, &values);
        });
        vec![]
    });
}
