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

use super::access::{self, Ix};
use super::printer::*;
use super::rows::Scheduled;
use super::scalar;
use tahoma_core::DType;
use tahoma_core::kernel::*;

/// Words (of 4 bytes) of `k` per row and slice.
const WORDS: u64 = 16;

/// How a block's warps share its tile: `wm × wn` warps, each `tm·16 × tn·8` outputs, times `slices` of `k`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Tile {
    wm: u64,
    wn: u64,
    slices: u64,
    tm: u64,
    tn: u64,
    /// Cost of an output relative to the best tile: smaller tiles read operands more often.
    price: f64,
}

const TILES: &[Tile] = &[
    Tile { wm: 2, wn: 2, slices: 1, tm: 2, tn: 4, price: 1.0 },
    Tile { wm: 1, wn: 1, slices: 4, tm: 2, tn: 4, price: 1.5 },
    Tile { wm: 1, wn: 2, slices: 1, tm: 1, tn: 4, price: 1.6 },
    Tile { wm: 2, wn: 1, slices: 1, tm: 2, tn: 2, price: 1.6 },
];

/// Warps that keep a large machine busy.
const BUSY_WARPS: f64 = 528.0;

impl Tile {
    fn m(&self) -> u64 {
        self.wm * self.tm * 16
    }
    fn n(&self) -> u64 {
        self.wn * self.tn * 8
    }
    fn warps(&self) -> u64 {
        self.wm * self.wn * self.slices
    }
    fn score(&self, m: u64, n: u64, batch: u64) -> f64 {
        let blocks = (m.div_ceil(self.m()) * n.div_ceil(self.n()) * batch) as f64;
        let busy = (blocks * self.warps() as f64 / BUSY_WARPS).min(1.0);
        blocks * (self.m() * self.n()) as f64 * self.price / busy.max(1e-6).sqrt()
    }
}

fn choose(m: u64, n: u64, k: u64, batch: u64, words_k: u64) -> Tile {
    let mut best = TILES[0];
    for t in TILES {
        // Slices that k does not fill are idle warps.
        if t.slices > 1 && k < words_k * t.slices {
            continue;
        }
        if t.score(m, n, batch) < best.score(m, n, batch) {
            best = *t;
        }
    }
    best
}

/// Whether tensor cores take this contraction; the others are done as rows.
pub(super) fn fits(c: &ContractSpec) -> bool {
    let p = |v: &[u64]| v.iter().product::<u64>();
    matches!(c.dtype, DType::F32 | DType::F16 | DType::BF16) && p(&c.m) >= 9 && p(&c.n) >= 9 && p(&c.k) >= 12
}

/// One of `m` or `n` with the loops around it.
struct Side {
    buf: Buf,
    /// Over batch, rows, outer k, inner k.
    access: Access,
    /// Extents of this side's loops.
    extents: Vec<u64>,
    rows: u64,
    tile: u64,
    /// Neighbouring threads walk along `k` (else along the rows).
    along_k: bool,
}

struct Plan {
    dtype: DType,
    tile: Tile,
    batch: Vec<u64>,
    /// Loops of `k` that guards depend on come outside, so that a guard is decided per row and round.
    k_out: Vec<u64>,
    k_in: Vec<u64>,
    a: Side,
    b: Side,
    loads: Vec<(Access, DType)>,
    store: Access,
}

impl Plan {
    fn threads(&self) -> u64 {
        self.tile.warps() * 32
    }
    /// Elements in 16 bytes, and in the words of one slice.
    fn per_chunk(&self) -> u64 {
        if self.dtype == DType::F32 { 4 } else { 8 }
    }
    fn per_slice(&self) -> u64 {
        self.per_chunk() * 4
    }
    fn per_round(&self) -> u64 {
        self.per_slice() * self.tile.slices
    }
    /// High and low parts.
    fn parts(&self) -> u64 {
        if self.dtype == DType::F32 { 2 } else { 1 }
    }
    fn inner(&self) -> u64 {
        self.k_in.iter().product()
    }

    fn new(c: &ContractSpec, ins: &[Buf]) -> Plan {
        let (nb, nm, nn, nk) = (c.batch.len(), c.m.len(), c.n.len(), c.k.len());
        // Loops of each class merged as all accesses over that class allow.
        let cut = |a: &Access, lo: usize, n: usize| -> Vec<Vec<i64>> { access::coefficients(a).map(|x| x[lo..lo + n].to_vec()).collect() };
        let class = |ext: &[u64], parts: Vec<Vec<Vec<i64>>>| -> Vec<(u64, usize)> {
            let flat: Vec<Vec<i64>> = parts.into_iter().flatten().collect();
            let refs: Vec<&[i64]> = flat.iter().map(|r| &r[..]).collect();
            access::merge(ext, &refs)
        };
        let outs = || c.loads.iter().map(|l| &l.access).chain(std::iter::once(&c.store));
        let with = |first: Vec<Vec<i64>>, lo: usize, n: usize| -> Vec<Vec<Vec<i64>>> {
            std::iter::once(first).chain(outs().map(|a| cut(a, lo, n))).collect()
        };
        let mut in_batch = with(cut(&c.a, 0, nb), 0, nb);
        in_batch.push(cut(&c.b, 0, nb));
        let batch = class(&c.batch, in_batch);
        let m = class(&c.m, with(cut(&c.a, nb, nm), nb, nm));
        let n = class(&c.n, with(cut(&c.b, nb, nn), nb + nm, nn));
        // Guarded loops of k outside, if what stays inside fills a round.
        let dependent =
            |d: usize| c.a.guards.iter().any(|g| g.coeffs[nb + nm + d] != 0) || c.b.guards.iter().any(|g| g.coeffs[nb + nn + d] != 0);
        let per_slice = if c.dtype == DType::F32 { 16 } else { 32 };
        let free: u64 = (0..nk).filter(|&d| !dependent(d)).map(|d| c.k[d]).product();
        let split = (0..nk).any(dependent) && free * 3 >= per_slice * 2;
        let (out_ids, in_ids): (Vec<usize>, Vec<usize>) = (0..nk).partition(|&d| split && dependent(d));
        let merge_k = |ids: &[usize]| -> Vec<(u64, usize)> {
            let ext: Vec<u64> = ids.iter().map(|&d| c.k[d]).collect();
            let pick = |a: &Access, lo: usize| -> Vec<Vec<i64>> {
                access::coefficients(a).map(|x| ids.iter().map(|&d| x[lo + d]).collect()).collect()
            };
            class(&ext, vec![pick(&c.a, nb + nm), pick(&c.b, nb + nn)]).into_iter().map(|(e, i)| (e, ids[i])).collect()
        };
        let (k_out, k_in) = (merge_k(&out_ids), merge_k(&in_ids));
        let ids = |v: &[(u64, usize)], shift: usize| v.iter().map(|x| x.1 + shift).collect::<Vec<usize>>();
        let ext = |v: &[(u64, usize)]| v.iter().map(|x| x.0).collect::<Vec<u64>>();
        let operand = |a: &Access, own: &[(u64, usize)], count: usize| {
            let keep = [ids(&batch, 0), ids(own, nb), ids(&k_out, nb + count), ids(&k_in, nb + count)].concat();
            access::project(a, &keep)
        };
        let output = [ids(&batch, 0), ids(&m, nb), ids(&n, nb + nm)].concat();
        let (rows_m, rows_n): (u64, u64) = (c.m.iter().product(), c.n.iter().product());
        let batches: u64 = c.batch.iter().product();
        let tile = choose(rows_m, rows_n, c.k.iter().product(), batches, per_slice);
        let side = |a: &Access, own: &[(u64, usize)], count: usize, rows: u64, tile: u64| {
            let access = operand(a, own, count);
            let along_k = !k_in.is_empty() && access.strides.last() == Some(&1);
            Side { buf: ins[a.buffer].clone(), access, extents: ext(own), rows, tile, along_k }
        };
        Plan {
            dtype: c.dtype,
            a: side(&c.a, &m, nm, rows_m, tile.m()),
            b: side(&c.b, &n, nn, rows_n, tile.n()),
            tile,
            batch: ext(&batch),
            k_out: ext(&k_out),
            k_in: ext(&k_in),
            loads: c.loads.iter().map(|l| (access::project(&l.access, &output), l.dtype)).collect(),
            store: access::project(&c.store, &output),
        }
    }
}

/// What a thread stages for one side: its chunks, each with the row's loop indices and where the words go.
struct Chunk {
    index: Vec<Ix>,
    /// Offset along `k` of the first element, within a round.
    k: Val,
    at: Val,
}

/// Schedules a contraction for which [`fits`] holds.
pub(super) fn schedule(c: &ContractSpec, ins: &[Buf], out: &(Buf, DType), wide: bool) -> Scheduled {
    let p = Plan::new(c, ins);
    let mut fun = Fun::new(wide);
    let f = &mut fun;
    let t = p.tile;
    let (tiles_m, tiles_n) = (p.a.rows.div_ceil(t.m()), p.b.rows.div_ceil(t.n()));
    let batches: u64 = p.batch.iter().product();
    let (block, tid) = (f.special("block_id"), f.special("thread_id"));
    let (bn, rest) = (f.rem_k(block, tiles_n), f.div_k(block, tiles_n));
    let (bm, z) = (f.rem_k(rest, tiles_m), f.div_k(rest, tiles_m));
    let (m0, n0) = (f.mul_k(bm, t.m() as i64), f.mul_k(bn, t.n() as i64));
    let batch = access::decode(f, z, &p.batch);

    let plane = |s: &Side| t.slices * s.tile * WORDS;
    let (words_a, words_b) = (p.parts() * plane(&p.a), p.parts() * plane(&p.b));
    let stride = t.n() + 8;
    let back = t.slices * t.m() * stride;
    let shared = f.shared(I32, (words_a + words_b).max(back));

    let chunks_a = chunks(f, &p, &p.a, tid, m0, &batch, 0);
    let chunks_b = chunks(f, &p, &p.b, tid, n0, &batch, words_a);

    // Fragments of this thread.
    let (warp, lane) = (f.div_k(tid, 32), f.rem_k(tid, 32));
    let (g, q) = (f.div_k(lane, 4), f.rem_k(lane, 4));
    let per_slice = t.wm * t.wn;
    let (slice, place) = (f.div_k(warp, per_slice), f.rem_k(warp, per_slice));
    let (wm, wn) = (f.div_k(place, t.wn), f.rem_k(place, t.wn));
    let pair = f.div_k(g, 2);
    let pair = f.rem_k(pair, 4);
    let swizzled = f.arith("xori", q, pair);
    let swizzled = f.mul_k(swizzled, 4);
    let fragment = |f: &mut Fun, side: &Side, w: Val, rows: u64, base: u64| {
        let r = f.mul_k(slice, side.tile as i64);
        let w = f.mul_k(w, rows as i64);
        let r = f.add(r, w);
        let r = f.add(r, g);
        let r = f.mul_k(r, WORDS as i64);
        let r = f.add(r, swizzled);
        f.add_k(r, base as i64)
    };
    let at_a = fragment(f, &p.a, wm, t.tm * 16, 0);
    let at_b = fragment(f, &p.b, wn, t.tn * 8, words_a);

    let rounds_in = p.inner().div_ceil(p.per_round());
    let rounds = rounds_in * p.k_out.iter().product::<u64>();
    let zero = f.float(F32, 0.0);
    let start = vec![zero; (t.tm * t.tn * 4) as usize];
    let sums = f.each(rounds, &start, |f, round, sums| {
        let (ko, ki) = (f.div_k(round, rounds_in), f.rem_k(round, rounds_in));
        let k_out = access::decode(f, ko, &p.k_out);
        let k0 = f.mul_k(ki, p.per_round() as i64);
        let staged_a: Vec<Vec<Val>> = chunks_a.iter().map(|c| fetch(f, &p, &p.a, c, &k_out, k0)).collect();
        let staged_b: Vec<Vec<Val>> = chunks_b.iter().map(|c| fetch(f, &p, &p.b, c, &k_out, k0)).collect();
        for (chunks, staged, side) in [(&chunks_a, staged_a, &p.a), (&chunks_b, staged_b, &p.b)] {
            for (c, v) in chunks.iter().zip(staged) {
                stage(f, &p, &shared, c.at, plane(side), &v);
            }
        }
        f.barrier();
        let next = multiply(f, &p, &shared, [at_a, at_b], [plane(&p.a), plane(&p.b)], sums);
        f.barrier();
        next
    });

    // The tile goes to shared memory as f32 bits: [slice][m][n].
    let r0 = f.mul_k(slice, t.m() as i64);
    let wr = f.mul_k(wm, (t.tm * 16) as i64);
    let r0 = f.add(r0, wr);
    let r0 = f.add(r0, g);
    let r0 = f.mul_k(r0, stride as i64);
    let wc = f.mul_k(wn, (t.tn * 8) as i64);
    let q2 = f.mul_k(q, 2);
    let r0 = f.add(r0, wc);
    let r0 = f.add(r0, q2);
    for i in 0..t.tm {
        for j in 0..t.tn {
            for half in 0..2u64 {
                let s = ((i * t.tn + j) * 4 + half * 2) as usize;
                let two = [f.convert("bitcast", sums[s], I32), f.convert("bitcast", sums[s + 1], I32)];
                let v = f.vector(&two);
                let at = f.add_k(r0, ((i * 16 + half * 8) * stride + j * 8) as i64);
                f.store(&shared, at, v);
            }
        }
    }
    f.barrier();
    epilogue(f, c, &p, ins, out, &shared, stride, tid, [m0, n0], &batch);
    Scheduled { fun, blocks: tiles_m * tiles_n * batches, block: p.threads() }
}

fn chunks(f: &mut Fun, p: &Plan, s: &Side, tid: Val, row0: Val, batch: &[Ix], base: u64) -> Vec<Chunk> {
    let per_row = 4 * p.tile.slices;
    let count = (s.tile * per_row).div_ceil(p.threads());
    let last = f.int(row0.ty, s.rows as i64 - 1);
    (0..count)
        .map(|i| {
            let c = f.add_k(tid, (i * p.threads()) as i64);
            let (row, chunk) =
                if s.along_k { (f.div_k(c, per_row), f.rem_k(c, per_row)) } else { (f.rem_k(c, s.tile), f.div_k(c, s.tile)) };
            let (slice, quad) = (f.div_k(chunk, 4), f.rem_k(chunk, 4));
            let pair = f.div_k(row, 2);
            let pair = f.rem_k(pair, 4);
            let x = f.arith("xori", quad, pair);
            let x = f.mul_k(x, 4);
            let r = f.mul_k(slice, s.tile as i64);
            let r = f.add(r, row);
            let r = f.mul_k(r, WORDS as i64);
            let at = f.add(r, x);
            let at = f.add_k(at, base as i64);
            let mut global = f.add(row0, row);
            if !s.rows.is_multiple_of(s.tile) {
                // Rows past the end stage the last one again; their outputs are not written.
                global = f.arith("minsi", global, last);
            }
            let mut index = batch.to_vec();
            index.extend(access::decode(f, global, &s.extents));
            let k = f.mul_k(chunk, p.per_chunk() as i64);
            Chunk { index, k, at }
        })
        .collect()
}

/// Reads one chunk from global memory: raw elements, 0 past the end of `k`.
fn fetch(f: &mut Fun, p: &Plan, s: &Side, c: &Chunk, k_out: &[Ix], k0: Val) -> Vec<Val> {
    let n = p.per_chunk();
    let k = f.add(k0, c.k);
    let inner = p.inner();
    let whole = inner.is_multiple_of(p.per_round());
    let limit = f.int(k.ty, inner as i64);
    let lead: Vec<Ix> = c.index.iter().chain(k_out).copied().collect();
    let dim = lead.len() + p.k_in.len() - 1;
    let read = |f: &mut Fun, k: Val, lanes: usize, ok: Option<Val>| {
        let k = match ok {
            Some(ok) => {
                let zero = f.int(k.ty, 0);
                f.select(ok, k, zero)
            }
            None => k,
        };
        let mut index = lead.clone();
        if lanes > 1 && p.k_in.len() > 1 {
            let mut e = p.k_in.clone();
            let d = e.len() - 1;
            e[d] /= lanes as u64;
            let unit = f.div_k(k, lanes as u64);
            let mut ix = access::decode(f, unit, &e);
            if let Some(b) = ix[d].base {
                ix[d] = Ix::at(f.mul_k(b, lanes as i64));
            }
            index.extend(ix);
        } else {
            index.extend(access::decode(f, k, &p.k_in));
        }
        let raw = access::read_raw(f, &s.buf, &s.access, p.dtype, &index, dim, lanes);
        match ok {
            None => raw,
            Some(ok) => {
                let zero = f.float(s.buf.elem, 0.0);
                raw.into_iter().map(|v| f.select(ok, v, zero)).collect()
            }
        }
    };
    // A chunk lies within one run of the last loop of k and ends with it: one decode serves all its elements.
    if p.k_in.last().is_some_and(|e| e.is_multiple_of(n)) {
        let ok = if whole { None } else { Some(f.cmpi("slt", k, limit)) };
        return read(f, k, n as usize, ok);
    }
    (0..n)
        .flat_map(|e| {
            let k = f.add_k(k, e as i64);
            let ok = if whole { None } else { Some(f.cmpi("slt", k, limit)) };
            read(f, k, 1, ok)
        })
        .collect()
}

fn tf32(f: &mut Fun, x: Val) -> Val {
    f.op(I32, format!("nvvm.convert.float.to.tf32 {x} {{rnd = #nvvm.fp_rnd_mode<rna>}}"))
}

/// Writes one chunk to shared memory, split where it is f32.
fn stage(f: &mut Fun, p: &Plan, shared: &Buf, at: Val, plane: u64, raw: &[Val]) {
    if p.dtype != DType::F32 {
        let v = f.vector(raw);
        let words = I32.vector(4);
        let v = f.op(words, format!("vector.bitcast {v} : {} to {words}", v.ty));
        f.store(shared, at, v);
        return;
    }
    // The largest number that does not round to infinity.
    let (most, one) = (f.float(F32, f64::from(f32::from_bits(0x7f7f_efff))), f.float(F32, 1.0));
    let (mut hi, mut lo) = (vec![], vec![]);
    for &x in raw {
        let a = f.fabs(x);
        let finite = f.cmpf("ole", a, most);
        let unit = f.copysign(one, x);
        let top = f.select(finite, x, unit);
        let h = tf32(f, top);
        let hf = f.convert("bitcast", h, F32);
        let rest = f.fsub(x, hf);
        hi.push(h);
        lo.push(tf32(f, rest));
    }
    let (hi, lo) = (f.vector(&hi), f.vector(&lo));
    f.store(shared, at, hi);
    let at = f.add_k(at, plane as i64);
    f.store(shared, at, lo);
}

/// One round of a warp: fragments from shared memory, then the mmas.
fn multiply(f: &mut Fun, p: &Plan, shared: &Buf, at: [Val; 2], plane: [u64; 2], sums: &[Val]) -> Vec<Val> {
    let t = p.tile;
    let mut sums = sums.to_vec();
    let rows = |f: &mut Fun, at: Val, plane: u64, count: u64| -> Vec<Vec<Vec<Val>>> {
        // [part][group of 8 rows][word]
        (0..p.parts())
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
        mma(f, p.dtype, fa, fb, c)
    };
    let zero = f.float(F32, 0.0);
    for i in 0..t.tm as usize {
        for j in 0..t.tn as usize {
            let s = (i * t.tn as usize + j) * 4;
            let sum: [Val; 4] = [sums[s], sums[s + 1], sums[s + 2], sums[s + 3]];
            let next = if p.parts() == 2 {
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
    stride: u64,
    tid: Val,
    first: [Val; 2],
    batch: &[Ix],
) {
    let t = p.tile;
    let (nb, nm) = (p.batch.len(), p.a.extents.len());
    let dims = nb + nm + p.b.extents.len();
    // Neighbouring threads take the outputs that lie side by side: along n, or along m.
    let unit_n = !p.b.extents.is_empty() && p.store.strides[dims - 1] == 1;
    let along_m = !unit_n && nm > 0 && p.store.strides[nb + nm - 1] == 1;
    let lanes = if unit_n && p.b.extents.last().is_some_and(|e| e.is_multiple_of(4)) {
        match access::lanes_of(&p.store, dims - 1, 4, out.0.elements) {
            access::Lanes::Vector => 4u64,
            _ => 1,
        }
    } else {
        1
    };
    let (fast, slow) = if along_m { (t.m(), t.n()) } else { (t.n() / lanes, t.m()) };
    let (threads, work) = (p.threads(), t.m() * t.n() / lanes);
    debug_assert!(threads.is_multiple_of(fast) && work.is_multiple_of(threads) && slow > 0);
    let (col, row) = (f.rem_k(tid, fast), f.div_k(tid, fast));
    f.each(work / threads, &[], |f, i, _| {
        let r = f.mul_k(i, (threads / fast) as i64);
        let r = f.add(r, row);
        let (lm, ln) = if along_m { (col, r) } else { (r, f.mul_k(col, lanes as i64)) };
        let (m, n) = (f.add(first[0], lm), f.add(first[1], ln));
        let mut ok = f.int(I1, 1);
        for (x, rows, tile) in [(m, p.a.rows, t.m()), (n, p.b.rows, t.n())] {
            if !rows.is_multiple_of(tile) {
                let e = f.int(x.ty, rows as i64);
                let inside = f.cmpi("slt", x, e);
                ok = f.and(ok, inside);
            }
        }
        f.when(ok, |f| {
            let base = f.mul_k(lm, stride as i64);
            let base = f.add(base, ln);
            let mut sums: Vec<Val> = vec![];
            for s in 0..t.slices {
                let at = f.add_k(base, (s * t.m() * stride) as i64);
                let v = f.load(shared, at, lanes as usize);
                for l in 0..lanes as usize {
                    let x = if lanes > 1 { f.extract(v, l) } else { v };
                    let x = f.convert("bitcast", x, F32);
                    match sums.get(l) {
                        None => sums.push(x),
                        Some(&y) => sums[l] = f.fadd(y, x),
                    }
                }
            }
            let mut index = batch.to_vec();
            index.extend(access::decode(f, m, &p.a.extents));
            if lanes > 1 {
                let mut e = p.b.extents.clone();
                let d = e.len() - 1;
                e[d] /= lanes;
                let unit = f.div_k(n, lanes);
                let mut ix = access::decode(f, unit, &e);
                if let Some(b) = ix[d].base {
                    ix[d] = Ix::at(f.mul_k(b, lanes as i64));
                }
                index.extend(ix);
            } else {
                index.extend(access::decode(f, n, &p.b.extents));
            }
            let dim = index.len().saturating_sub(1);
            let extra: Vec<Vec<Val>> =
                p.loads.iter().map(|(a, d)| access::read(f, &ins[a.buffer], a, *d, &index, dim, lanes as usize)).collect();
            let values: Vec<Val> = (0..lanes as usize)
                .map(|l| {
                    let inputs: Vec<Val> = std::iter::once(sums[l]).chain(extra.iter().map(|x| x[l])).collect();
                    scalar::expr(f, &c.epilogue, &inputs)
                })
                .collect();
            access::write(f, &out.0, &p.store, out.1, &index, dim, &values);
        });
        vec![]
    });
}
