//! What a block does: its tile, the loops of each side, and where operands come from.

use super::super::printer::Buf;
use super::super::{MOST_SHARED, access};
use tahoma_core::DType;
use tahoma_core::kernel::*;

/// Words (of 4 bytes) of `k` per row and slice.
pub(super) const WORDS: u64 = 16;

/// How a block's warps share its tile: `wm × wn` warps, each `tm·16 × tn·8` outputs, times `slices` of `k`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tile {
    pub(super) wm: u64,
    pub(super) wn: u64,
    pub(super) slices: u64,
    pub(super) tm: u64,
    pub(super) tn: u64,
    /// Cost of an output relative to the best tile: smaller tiles read operands more often.
    price: f64,
}

const fn tile(wm: u64, wn: u64, slices: u64, tm: u64, tn: u64, price: f64) -> Tile {
    Tile { wm, wn, slices, tm, tn, price }
}

const TILES: &[Tile] = &[tile(2, 2, 1, 2, 4, 1.0), tile(1, 1, 4, 2, 4, 1.5), tile(1, 2, 1, 1, 4, 1.6), tile(2, 1, 1, 2, 2, 1.6)];

/// Tiles for rows that are made in the block: wide, since every block of columns makes its rows again.
const ROW_TILES: &[Tile] = &[tile(2, 2, 1, 2, 4, 1.0), tile(2, 2, 1, 1, 8, 1.1), tile(1, 2, 1, 1, 4, 1.6), tile(1, 2, 1, 1, 8, 1.6)];

/// Warps that keep a large machine busy.
const BUSY_WARPS: f64 = 528.0;

impl Tile {
    pub(super) fn m(&self) -> u64 {
        self.wm * self.tm * 16
    }
    pub(super) fn n(&self) -> u64 {
        self.wn * self.tn * 8
    }
    pub(super) fn warps(&self) -> u64 {
        self.wm * self.wn * self.slices
    }
    pub(super) fn threads(&self) -> u64 {
        self.warps() * 32
    }
    /// Sums that a thread keeps for one B.
    pub(super) fn sums(&self) -> usize {
        (self.tm * self.tn * 4) as usize
    }
    /// Words from one row of outputs to the next in shared memory.
    pub(super) fn stride(&self) -> u64 {
        self.n() + 8
    }
    fn score(&self, m: u64, n: u64, batch: u64, rows: bool) -> f64 {
        let (across, down) = (n.div_ceil(self.n()), m.div_ceil(self.m()));
        let blocks = (across * down * batch) as f64;
        let busy = (blocks * self.warps() as f64 / BUSY_WARPS).min(1.0);
        // Making a row again costs about as much as a tile of its outputs.
        let again = if rows { 1.0 + across as f64 / n.div_ceil(128) as f64 } else { 1.0 };
        blocks * (self.m() * self.n()) as f64 * self.price * again / busy.max(1e-6).sqrt()
    }
}

/// High and low parts of a number.
fn parts(d: DType) -> u64 {
    if d == DType::F32 { 2 } else { 1 }
}

/// Words that a block's rounds and then its sums take, one after the other, in shared memory.
pub(super) fn words(c: &ContractSpec, t: &Tile) -> u64 {
    let staged = |d: DType, matrices: u64| parts(d) * t.slices * WORDS * (t.m() + matrices * t.n());
    let matrices = c.b.len() as u64;
    let sums = matrices * t.slices * t.m() * t.stride();
    sums.max(staged(c.dtype, matrices)).max(c.a.product.as_ref().map_or(0, |p| staged(p.dtype, 1)))
}

/// Words from one row of scores to the next.
pub(super) fn score_stride(t: &Tile) -> u64 {
    t.n() + 4
}

/// Bytes of shared memory that a block takes, with what it keeps of its rows.
fn bytes(c: &ContractSpec, t: &Tile) -> u64 {
    let scalars = c.a.steps.iter().filter(|s| matches!(s, RowStep::Reduce { .. })).count() as u64;
    let scores = if c.a.product.is_some() { score_stride(t) } else { 0 };
    4 * (words(c, t) + t.m() * (scalars + scores))
}

/// The best tile that fits into shared memory.
pub(super) fn choose(c: &ContractSpec) -> Option<Tile> {
    let product = |v: &[u64]| v.iter().product::<u64>();
    let (m, n, k, batch) = (product(&c.m), product(&c.n), product(&c.k), product(&c.batch));
    let (rows, per_slice) = (c.a.is_row(), if c.dtype == DType::F32 { 16 } else { 32 });
    let tiles = if rows { ROW_TILES } else { TILES };
    // Slices that k does not fill are idle warps. Several B take the registers of several tiles: those of one are enough.
    let busy = |t: &&Tile| t.slices == 1 || (k >= per_slice * t.slices && c.b.len() == 1);
    let fits = |t: &&Tile| bytes(c, t) <= MOST_SHARED;
    let score = |t: &Tile| t.score(m, n, batch, rows);
    tiles.iter().filter(busy).filter(fits).min_by(|x, y| score(x).total_cmp(&score(y))).copied()
}

/// One of `m` or `n` with the loops around it.
pub(super) struct Side {
    /// Reads over batch, own loops, outer k, inner k.
    pub(super) loads: Vec<(Buf, Access, DType)>,
    /// Whether each value changes along `k`: the product, the loads, the steps.
    pub(super) along: Vec<bool>,
    pub(super) product: bool,
    pub(super) steps: Vec<RowStep>,
    pub(super) value: usize,
    pub(super) dtype: DType,
    /// Extents of this side's loops.
    pub(super) extents: Vec<u64>,
    pub(super) rows: u64,
    pub(super) tile: u64,
    /// Neighbouring threads walk along `k` (else along the rows).
    pub(super) along_k: bool,
}

impl Side {
    /// A plain read, whose elements need no look.
    pub(super) fn plain(&self) -> Option<&(Buf, Access, DType)> {
        if self.product || !self.steps.is_empty() { None } else { self.loads.first() }
    }
    /// Values before the steps.
    pub(super) fn given(&self) -> usize {
        usize::from(self.product) + self.loads.len()
    }
    /// Reductions of each pass: value, monoid, argument, type.
    pub(super) fn passes(&self) -> Vec<Vec<(usize, tahoma_core::op::Monoid, usize, DType)>> {
        let mut level = vec![0; self.given()];
        let mut out: Vec<Vec<_>> = vec![];
        for s in &self.steps {
            match s {
                RowStep::Map { args, .. } => level.push(args.iter().map(|&a| level[a]).max().unwrap_or(0)),
                RowStep::Reduce { monoid, arg, dtype } => {
                    let l: usize = level[*arg] + 1;
                    out.resize_with(out.len().max(l), Vec::new);
                    out[l - 1].push((level.len(), *monoid, *arg, *dtype));
                    level.push(l);
                }
            }
        }
        out
    }
}

/// Two sides and the loops that are summed.
pub(super) struct Gemm {
    pub(super) dtype: DType,
    pub(super) a: Side,
    pub(super) b: Vec<Side>,
    /// Loops of `k` that guards depend on come outside, so that a guard is decided per row and round.
    pub(super) k_out: Vec<u64>,
    pub(super) k_in: Vec<u64>,
    slices: u64,
}

impl Gemm {
    /// Elements in 16 bytes, and in the words of one slice.
    pub(super) fn per_chunk(&self) -> u64 {
        if self.dtype == DType::F32 { 4 } else { 8 }
    }
    pub(super) fn per_round(&self) -> u64 {
        self.per_chunk() * 4 * self.slices
    }
    pub(super) fn parts(&self) -> u64 {
        parts(self.dtype)
    }
    pub(super) fn inner(&self) -> u64 {
        self.k_in.iter().product()
    }
    /// Words of one part of a side's tile, and of all parts.
    pub(super) fn plane(&self, s: &Side) -> u64 {
        self.slices * s.tile * WORDS
    }
    pub(super) fn words(&self, s: &Side) -> u64 {
        self.parts() * self.plane(s)
    }
    /// Where the tiles start in shared memory: A, then each B.
    pub(super) fn base_b(&self, i: usize) -> u64 {
        self.words(&self.a) + self.b[..i].iter().map(|b| self.words(b)).sum::<u64>()
    }
}

pub(super) struct Plan {
    pub(super) tile: Tile,
    pub(super) batch: Vec<u64>,
    pub(super) gemm: Gemm,
    /// The product that A's rows are made of; its columns are `k`.
    pub(super) scores: Option<Gemm>,
    pub(super) loads: Vec<(Access, DType)>,
    pub(super) store: Access,
}

/// Access over loops picked from its own; one more loop of a single round where `pad`.
fn pick(a: &Access, keep: &[usize], pad: bool) -> Access {
    let mut a = access::project(a, keep);
    if pad {
        a.strides.push(0);
        a.guards.iter_mut().for_each(|g| g.coeffs.push(0));
    }
    a
}

struct Loops<'a> {
    lead: usize,
    out: &'a [usize],
    inner: &'a [usize],
    pad: bool,
}

fn side(o: &Operand, ins: &[Buf], dtype: DType, extents: &[u64], tile: u64, l: &Loops) -> Side {
    let keep: Vec<usize> = (0..l.lead).chain(l.out.iter().chain(l.inner).map(|d| d + l.lead)).collect();
    let loads: Vec<(Buf, Access, DType)> =
        o.loads.iter().map(|x| (ins[x.access.buffer].clone(), pick(&x.access, &keep, l.pad), x.dtype)).collect();
    let product = o.product.is_some();
    let mut along: Vec<bool> = if product { vec![true] } else { vec![] };
    along.extend(o.loads.iter().map(|l| !l.per_row));
    for s in &o.steps {
        along.push(match s {
            RowStep::Map { args, .. } => args.iter().any(|&a| along[a]),
            RowStep::Reduce { .. } => false,
        });
    }
    // The most data decides.
    let weight = |fast: bool| {
        let of = |a: &Access| !l.inner.is_empty() && (a.strides.last() == Some(&1)) == fast;
        loads.iter().filter(|x| of(&x.1)).map(|x| x.0.elements).sum::<u64>()
    };
    Side {
        along_k: product || weight(true) > weight(false),
        loads,
        along,
        product,
        steps: o.steps.clone(),
        value: o.value,
        dtype,
        extents: extents.to_vec(),
        rows: extents.iter().product(),
        tile,
    }
}

impl Plan {
    pub(super) fn new(c: &ContractSpec, tile: Tile, ins: &[Buf]) -> Plan {
        let (nb, nm, nn, nk) = (c.batch.len(), c.m.len(), c.n.len(), c.k.len());
        let rows = c.a.is_row();
        let per_slice = if c.dtype == DType::F32 { 16 } else { 32 };
        // Several B take the registers of several tiles: those of one are enough.
        // Guarded loops of k outside, if what stays inside fills a round. Rows that the block makes walk k in order.
        let guards = |o: &Operand, at: usize| o.accesses().any(|a| a.guards.iter().any(|g| g.coeffs[at] != 0));
        let dependent = |d: usize| guards(&c.a, nb + nm + d) || c.b.iter().any(|b| guards(b, nb + nn + d));
        let free: u64 = (0..nk).filter(|&d| !dependent(d)).map(|d| c.k[d]).product();
        let split = !rows && (0..nk).any(dependent) && free * 3 >= per_slice * 2;
        let (out, inner): (Vec<usize>, Vec<usize>) = (0..nk).partition(|&d| split && dependent(d));
        let extents = |ids: &[usize]| ids.iter().map(|&d| c.k[d]).collect::<Vec<u64>>();
        let or_one = |v: Vec<u64>| if v.is_empty() { vec![1] } else { v };
        let pad = inner.is_empty();
        let loops = |lead: usize| Loops { lead, out: &out, inner: &inner, pad };
        let gemm = Gemm {
            dtype: c.dtype,
            a: side(&c.a, ins, c.dtype, &c.m, tile.m(), &loops(nb + nm)),
            b: c.b.iter().map(|b| side(b, ins, c.dtype, &c.n, tile.n(), &loops(nb + nn))).collect(),
            k_out: extents(&out),
            k_in: or_one(extents(&inner)),
            slices: tile.slices,
        };
        let scores = c.a.product.as_ref().map(|p| {
            let all: Vec<usize> = (0..p.sum.len()).collect();
            let loops = |lead: usize| Loops { lead, out: &[], inner: &all, pad: all.is_empty() };
            Gemm {
                dtype: p.dtype,
                a: side(&p.a, ins, p.dtype, &c.m, tile.m(), &loops(nb + nm)),
                b: vec![side(&p.b, ins, p.dtype, &c.k, tile.n(), &loops(nb + nk))],
                k_out: vec![],
                k_in: or_one(p.sum.clone()),
                slices: tile.slices,
            }
        });
        Plan {
            tile,
            batch: c.batch.clone(),
            gemm,
            scores,
            loads: c.loads.iter().map(|l| (l.access.clone(), l.dtype)).collect(),
            store: c.store.clone(),
        }
    }
}
