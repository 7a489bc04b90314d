//! From memory to a tile in shared memory: which elements a thread stages, and what they are.

use super::super::access::{self, Ix};
use super::super::printer::*;
use super::super::scalar;
use super::plan::{Gemm, Plan, Side, WORDS};
use std::collections::HashMap;
use tahoma_core::DType;
use tahoma_core::kernel::RowStep;

/// Values of a row that do not change along `k`, by number.
pub(super) type Known = HashMap<usize, Val>;

/// What a thread stages for one side: its chunks, each with the row's loop indices and where the words go.
pub(super) struct Chunk {
    pub(super) index: Vec<Ix>,
    /// Row within the tile.
    pub(super) row: Val,
    /// Offset along `k` of the first element, within a round.
    pub(super) k: Val,
    at: Val,
    pub(super) known: Known,
}

/// A block's tile of a product: f32 at `[row][k − first]`.
pub(super) struct Scores<'a> {
    pub(super) buf: &'a Buf,
    pub(super) stride: u64,
    /// The `k` of its first column.
    pub(super) first: Val,
}

/// The chunks of thread `tid`; `row0` is the tile's first row, `base` where its words start.
pub(super) fn chunks(f: &mut Fun, p: &Plan, g: &Gemm, s: &Side, tid: Val, row0: Val, batch: &[Ix], base: u64) -> Vec<Chunk> {
    let per_row = 4 * p.tile.slices;
    let count = (s.tile * per_row).div_ceil(p.tile.threads());
    let last = f.int(row0.ty, s.rows as i64 - 1);
    (0..count)
        .map(|i| {
            let c = f.add_k(tid, (i * p.tile.threads()) as i64);
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
            let k = f.mul_k(chunk, g.per_chunk() as i64);
            Chunk { index, row, k, at, known: Known::new() }
        })
        .collect()
}

/// Loop indices of `k` elements from `k` on; `lanes` of them lie side by side where `k` is a multiple of that.
pub(super) fn decode_k(f: &mut Fun, k: Val, extents: &[u64], lanes: usize) -> Vec<Ix> {
    if lanes == 1 || extents.len() == 1 {
        return access::decode(f, k, extents);
    }
    let mut e = extents.to_vec();
    let d = e.len() - 1;
    e[d] /= lanes as u64;
    let unit = f.div_k(k, lanes as u64);
    let mut ix = access::decode(f, unit, &e);
    if let Some(b) = ix[d].base {
        ix[d] = Ix::at(f.mul_k(b, lanes as i64));
    }
    ix
}

/// The values of `want` at a place of a row, one per lane.
pub(super) fn values(
    f: &mut Fun,
    s: &Side,
    want: &[usize],
    index: &[Ix],
    lanes: usize,
    scores: Option<&[Val]>,
    known: &Known,
) -> Vec<Vec<Val>> {
    let mut done: HashMap<usize, Vec<Val>> = HashMap::new();
    want.iter().map(|&v| value(f, s, v, index, lanes, scores, known, &mut done)).collect()
}

#[allow(clippy::too_many_arguments)]
fn value(
    f: &mut Fun,
    s: &Side,
    v: usize,
    index: &[Ix],
    lanes: usize,
    scores: Option<&[Val]>,
    known: &Known,
    done: &mut HashMap<usize, Vec<Val>>,
) -> Vec<Val> {
    if let Some(x) = known.get(&v) {
        return vec![*x; lanes];
    }
    if let Some(x) = done.get(&v) {
        return x.clone();
    }
    let first = usize::from(s.product);
    let x = if v < first {
        scores.map(<[Val]>::to_vec).unwrap_or_default()
    } else if let Some((buf, a, d)) = s.loads.get(v - first) {
        access::read(f, buf, a, *d, index, index.len().saturating_sub(1), lanes)
    } else {
        match &s.steps[v - s.given()] {
            RowStep::Map { expr, args } => {
                let args: Vec<Vec<Val>> = args.iter().map(|&a| value(f, s, a, index, lanes, scores, known, done)).collect();
                (0..lanes)
                    .map(|l| {
                        let inputs: Vec<Val> = args.iter().map(|a| a[l]).collect();
                        scalar::expr(f, expr, &inputs)
                    })
                    .collect()
            }
            RowStep::Reduce { .. } => unreachable!("a reduction is known before it is used"),
        }
    };
    done.insert(v, x.clone());
    x
}

/// Adds what of the row does not change along `k` and can be computed from what is known.
pub(super) fn settle(f: &mut Fun, s: &Side, index: &[Ix], k: usize, known: &mut Known) {
    let whole: Vec<Ix> = index.iter().copied().chain((0..k).map(|_| Ix::constant(0))).collect();
    let ready = |known: &Known, v: usize| match v.checked_sub(s.given()).map(|i| &s.steps[i]) {
        None => true,
        Some(RowStep::Map { args, .. }) => args.iter().all(|a| known.contains_key(a)),
        Some(RowStep::Reduce { .. }) => false,
    };
    for v in 0..s.along.len() {
        if !s.along[v] && !known.contains_key(&v) && ready(known, v) {
            let x = values(f, s, &[v], &whole, 1, None, known);
            known.insert(v, x[0][0]);
        }
    }
}

/// A round of `k`: its outer loops, its first inner element, and whether every element lies within `k`.
pub(super) struct Round {
    pub(super) k_out: Vec<Ix>,
    pub(super) k0: Val,
    pub(super) whole: bool,
}

/// One chunk: elements as they are multiplied, 0 past the end of `k`.
pub(super) fn fetch(f: &mut Fun, g: &Gemm, s: &Side, c: &Chunk, r: &Round, scores: Option<&Scores>) -> Vec<Val> {
    let n = g.per_chunk();
    let k = f.add(r.k0, c.k);
    let whole = r.whole;
    let limit = f.int(k.ty, g.inner() as i64);
    let lead: Vec<Ix> = c.index.iter().chain(&r.k_out).copied().collect();
    let dim = lead.len() + g.k_in.len() - 1;
    let elem = scalar::memory_ty(s.dtype).unwrap_or(F32);
    let read = |f: &mut Fun, at: Val, lanes: usize, ok: Option<Val>| {
        let k = match ok {
            Some(ok) => {
                let zero = f.int(at.ty, 0);
                f.select(ok, at, zero)
            }
            None => at,
        };
        let mut index = lead.clone();
        index.extend(decode_k(f, k, &g.k_in, lanes));
        let raw = match s.plain() {
            Some((buf, a, _)) => access::read_raw(f, buf, a, s.dtype, &index, dim, lanes),
            None => {
                let scores = scores.map(|t| {
                    let r = f.mul_k(c.row, t.stride as i64);
                    let column = f.arith("subi", at, t.first);
                    let place = f.add(r, column);
                    let v = f.load(t.buf, place, lanes);
                    if lanes == 1 { vec![v] } else { (0..lanes).map(|l| f.extract(v, l)).collect() }
                });
                let x = values(f, s, &[s.value], &index, lanes, scores.as_deref(), &c.known).remove(0);
                x.into_iter().map(|x| scalar::to_memory(f, x, s.dtype)).collect()
            }
        };
        match ok {
            None => raw,
            Some(ok) => {
                let zero = f.float(elem, 0.0);
                raw.into_iter().map(|v| f.select(ok, v, zero)).collect()
            }
        }
    };
    // A chunk lies within one run of the last loop of k and ends with it: one decode serves all its elements.
    let step = if s.product { 4 } else { n };
    if g.k_in.last().is_some_and(|e| e.is_multiple_of(n)) {
        return (0..n / step)
            .flat_map(|i| {
                let k = f.add_k(k, (i * step) as i64);
                let ok = if whole { None } else { Some(f.cmpi("slt", k, limit)) };
                read(f, k, step as usize, ok)
            })
            .collect();
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
pub(super) fn stage(f: &mut Fun, g: &Gemm, shared: &Buf, c: &Chunk, plane: u64, raw: &[Val]) {
    if g.dtype != DType::F32 {
        let v = f.vector(raw);
        let words = I32.vector(4);
        let v = f.op(words, format!("vector.bitcast {v} : {} to {words}", v.ty));
        f.store(shared, c.at, v);
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
    f.store(shared, c.at, hi);
    let at = f.add_k(c.at, plane as i64);
    f.store(shared, at, lo);
}
