//! Contractions: `PSUM[m, n] += stationary[k, m]ᵀ · moving[k, n]` over tiles of k, then the epilogue on the way to HBM.
//!
//! A (weights of a convolution, rows of a matmul) is stationary, B moving. One loop of k lies on partitions; the others (taps) are
//! further products into the same PSUM tile, so a convolution needs no im2col. Where A's row is a program (a norm, an attention's
//! softmax), its rows are made in SBUF first, once for all of n.

use super::operand::{KTile, Side, Source, dependent, k_partition, k_tiles};
use super::scalar::{Emitter, Val};
use super::tile::{Layout, Span, Walk, for_tiles, load, store};
use super::{Arguments, Lower, tile_type};
use tahoma_core::DType;
use tahoma_core::kernel::ContractSpec;
use tahoma_machine::trn2::{Builder, Instr, TRN2, Tile};

/// Bytes of a partition for the stationary tiles that stay while the moving operand streams.
const STATIONARY_BYTES: usize = TRN2.sbuf_partition_bytes / 3;

/// What stays while what streams: a choice of schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stays {
    /// A's tiles of one block of m, while n streams.
    Block,
    /// All of A, while each tile of n is brought once.
    Whole,
}

/// The choices that differ for this contraction.
pub(super) fn choices(c: &ContractSpec) -> &'static [Stays] {
    let m: u64 = c.m.iter().product();
    let longest = c.m.iter().max().copied().unwrap_or(1);
    let blocks = longest.div_ceil(TRN2.stationary_max as u64) * (m / longest.max(1));
    let bytes = c.k.iter().product::<u64>().div_ceil(64) * blocks * TRN2.stationary_max as u64 * u64::from(c.dtype.bits() / 8);
    if blocks > 1 && !c.a.is_row() && bytes <= 4 * STATIONARY_BYTES as u64 { &[Stays::Block, Stays::Whole] } else { &[Stays::Block] }
}

/// Bytes of a partition for what the taps of one operand read.
const BOX_BYTES: usize = TRN2.sbuf_partition_bytes / 4;

/// A's tiles of one block of m.
struct Stationary {
    spans: Vec<Span>,
    tiles: Vec<Tile>,
}

/// A contraction as it is laid out.
struct Laid<'a> {
    c: &'a ContractSpec,
    args: &'a Arguments,
    a: Side<'a>,
    sides: Vec<Side<'a>>,
    kp: Option<usize>,
    k_tiles: Vec<KTile>,
    /// Loops of the result: which is on partitions and which along the free axis.
    mp: Option<usize>,
    free: Vec<usize>,
}

pub(super) fn build(b: &mut Builder, args: &Arguments, c: &ContractSpec, stays: Stays) -> Lower<()> {
    if !matches!(c.dtype, DType::F32 | DType::F16 | DType::BF16) {
        return Err(format!("the tensor engine does not multiply {}", c.dtype));
    }
    let dtype = tile_type(c.dtype)?;
    let (nb, nm, nn) = (c.batch.len(), c.m.len(), c.n.len());
    let a = Side { operand: &c.a, args, lead: nb + nm, dtype, extents: &c.k };
    let sides: Vec<Side> = c.b.iter().map(|operand| Side { operand, args, lead: nb + nn, dtype, extents: &c.k }).collect();
    let by_rows = c.a.is_row();
    // Rows that are made are whole in SBUF: their guards do not matter here.
    let kp = k_partition(&c.k, (!by_rows).then_some(&a).into_iter().chain(&sides));
    let k_tiles = k_tiles(&c.k, kp)?;
    // Loops: batch, m, n, each with its tile.
    let mut walks: Vec<Walk> = c.batch.iter().chain(&c.m).chain(&c.n).map(|&extent| Walk { extent, chunk: 1, unroll: false }).collect();
    // m: the longest loop on partitions of the result.
    let mp = (0..nm).max_by_key(|&d| (c.m[d], d)).map(|d| nb + d);
    if let Some(p) = mp {
        walks[p].chunk = TRN2.stationary_max;
    }
    // n: the last loops along the free axis, 512 at most.
    let (mut free, mut room) = (vec![], TRN2.moving_max);
    for d in (0..nn).rev() {
        let extent = c.n[d] as usize;
        let chunk = extent.min(room);
        if free.len() == 3 || (chunk < 2 && extent > 1) {
            break;
        }
        walks[nb + nm + d].chunk = chunk;
        free.insert(0, nb + nm + d);
        room /= chunk.max(1);
        if chunk < extent {
            break;
        }
    }
    for (d, w) in walks.iter_mut().enumerate() {
        let in_a = (d < nb + nm).then_some(d);
        let in_b = if d < nb { Some(d) } else { (d >= nb + nm).then(|| d - nm) };
        w.unroll = in_a.is_some_and(|d| dependent(&c.a, d))
            || in_b.is_some_and(|d| c.b.iter().any(|b| dependent(b, d)))
            // The product's keys walk the batch too.
            || (d < nb && c.a.product.as_ref().is_some_and(|p| dependent(&p.b, d)))
            || c.loads.iter().any(|l| super::tile::guarded(&l.access, d))
            // Each block of A has tiles of its own.
            || (stays == Stays::Whole && (nb..nb + nm).contains(&d));
    }
    let laid = Laid { c, args, a, sides, kp, k_tiles, mp, free };
    let (outer, inner) = walks.split_at(nb + nm);
    match stays {
        Stays::Block => for_tiles(b, outer, &mut vec![], &mut |b, head| {
            let stationary = laid.stationary(b, head)?;
            for_tiles(b, inner, &mut vec![], &mut |b, tail| {
                let mut moving = laid.moving(&head[..nb], tail);
                laid.tile(b, head, &stationary, tail, &mut |b, i, side| moving[side].tile(b, &laid.k_tiles[i]))
            })
        }),
        Stays::Whole => for_tiles(b, &outer[..nb], &mut vec![], &mut |b, batch| {
            let mut blocks: Vec<Stationary> = vec![];
            for_tiles(b, outer, &mut batch.to_vec(), &mut |b, head| {
                let tiles = laid.stationary(b, head)?.ok_or("a block of A that does not stay")?;
                blocks.push(Stationary { spans: head.to_vec(), tiles });
                Ok(())
            })?;
            for_tiles(b, inner, &mut vec![], &mut |b, tail| {
                let mut sources = laid.moving(batch, tail);
                let mut moving: Vec<Vec<Tile>> = vec![];
                for k in &laid.k_tiles {
                    moving.push(sources.iter_mut().map(|s| s.tile(b, k)).collect::<Lower<_>>()?);
                }
                for block in &blocks {
                    laid.tile(b, &block.spans, &Some(block.tiles.clone()), tail, &mut |_, i, side| Ok(moving[i][side].clone()))?;
                }
                Ok(())
            })
        }),
    }
}

impl Laid<'_> {
    fn rows_of(&self) -> Vec<usize> {
        self.mp.into_iter().collect()
    }

    /// A's tiles of one block of m, kept while n streams; `None` where they are too many.
    fn stationary(&self, b: &mut Builder, head: &[Span]) -> Lower<Option<Vec<Tile>>> {
        if self.c.a.is_row() {
            let row = super::operand::row(b, &self.a, self.c, head, self.mp)?;
            return self.k_tiles.iter().map(|k| super::operand::turned_row(b, &row, &self.c.k, k, self.kp)).collect::<Lower<_>>().map(Some);
        }
        if self.k_tiles.len() * TRN2.stationary_max * (self.a.dtype.bits() as usize / 8) > STATIONARY_BYTES {
            return Ok(None);
        }
        let mut source = Source::new(&self.a, head, self.kp, self.rows_of(), BOX_BYTES);
        self.k_tiles.iter().map(|k| source.tile(b, k)).collect::<Lower<_>>().map(Some)
    }

    /// B's tiles of one tile of n.
    fn moving(&self, batch: &[Span], tail: &[Span]) -> Vec<Source<'_>> {
        let of_n: Vec<Span> = batch.iter().chain(tail).cloned().collect();
        let free: Vec<usize> = self.free.iter().map(|d| d - self.c.m.len()).collect();
        // What stays for later taps stays for each tile of k.
        let chunks = self.kp.map_or(1, |d| self.c.k[d].div_ceil(TRN2.contract_max as u64)) as usize;
        let room = BOX_BYTES / chunks / self.sides.len().max(1);
        self.sides.iter().map(|s| Source::new(s, &of_n, self.kp, free.clone(), room)).collect()
    }

    /// One tile of the result: its sums, the epilogue, and on to HBM. `moving`: the tile of a product and a side.
    fn tile(
        &self,
        b: &mut Builder,
        head: &[Span],
        stationary: &Option<Vec<Tile>>,
        tail: &[Span],
        moving: &mut dyn FnMut(&mut Builder, usize, usize) -> Lower<Tile>,
    ) -> Lower<()> {
        let c = self.c;
        let result = Layout { part: self.mp, free: self.free.clone() };
        let out = &self.args.outputs[c.store.buffer];
        let spans: Vec<Span> = head.iter().chain(tail).cloned().collect();
        let (p, w) = (result.partitions(&spans), result.free_len(&spans));
        let sums: Vec<Tile> = self.sides.iter().map(|_| b.psum("acc", DType::F32, &[p, w])).collect();
        let mut streamed = Source::new(&self.a, head, self.kp, self.rows_of(), BOX_BYTES / 4);
        for (i, k) in self.k_tiles.iter().enumerate() {
            let fresh;
            let still = match stationary {
                Some(t) => &t[i],
                None => {
                    fresh = streamed.tile(b, k)?;
                    &fresh
                }
            };
            for (side, psum) in sums.iter().enumerate() {
                let moving = moving(b, i, side)?;
                multiply(b, psum, still, &moving, i > 0);
            }
        }
        let mut e = Emitter { b, partitions: p, width: w };
        let mut inputs: Vec<Val> = sums.into_iter().map(Val::Tile).collect();
        for l in &c.loads {
            let flat = result.free.iter().all(|&d| l.access.strides[d] == 0 || spans[d].len == 1) && l.access.guards.is_empty();
            let t = e.new_tile(!flat, tile_type(l.dtype)?);
            if flat {
                // The same along the free axis: one value per partition.
                let narrow = Layout { part: result.part, free: vec![] };
                load(e.b, &self.args.inputs[l.access.buffer], &l.access, &spans, &narrow, &t)?;
                inputs.push(Val::Scalar(t));
            } else {
                load(e.b, &self.args.inputs[l.access.buffer], &l.access, &spans, &result, &t)?;
                inputs.push(Val::Tile(t));
            }
        }
        let v = e.expr(&c.epilogue, &inputs)?;
        let t = e.widen(&v, out.dtype)?;
        let t = if t.dtype != out.dtype || t.is_part() || t.mem == tahoma_machine::trn2::Mem::Psum {
            let copy = e.new_tile(true, out.dtype);
            e.b.emit(Instr::new("tensor_copy").with("dst", &copy).with("src", &t));
            copy
        } else {
            t
        };
        store(e.b, out, &c.store, &spans, &result, &t);
        Ok(())
    }
}

/// One product of a sum.
pub(super) fn multiply(b: &mut Builder, psum: &Tile, stationary: &Tile, moving: &Tile, accumulate: bool) {
    let i = Instr::new("nc_matmul").with("dst", psum).with("stationary", stationary).with("moving", moving);
    b.emit(i.with("accumulate", accumulate));
}

/// A tile of `k` covers no more than the partitions of both operands.
pub(super) fn covers(k: &KTile) -> usize {
    k.iter().map(|s| s.len).product()
}
