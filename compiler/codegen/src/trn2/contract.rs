//! Contractions: `PSUM[m, n] += stationary[k, m]ᵀ · moving[k, n]` over tiles of k, then the epilogue on the way to HBM.
//!
//! A (weights of a convolution, rows of a matmul) is stationary, B moving. One loop of k lies on partitions; the others (taps) are
//! further products into the same PSUM tile, so a convolution needs no im2col. Where A's row is a program (a norm, an attention's
//! softmax), its rows are made in SBUF first, once for all of n.

use super::operand::{KTile, Side, dependent, k_partition, k_tiles};
use super::scalar::{Emitter, Val};
use super::tile::{Layout, Span, Walk, for_tiles, load, store};
use super::{Arguments, Lower, tile_type};
use tahoma_core::DType;
use tahoma_core::kernel::ContractSpec;
use tahoma_machine::trn2::{Builder, Instr, TRN2, Tile};

/// Bytes of a partition for the stationary tiles that stay while the moving operand streams.
const STATIONARY_BYTES: usize = TRN2.sbuf_partition_bytes / 3;

pub(super) fn build(b: &mut Builder, args: &Arguments, c: &ContractSpec) -> Lower<()> {
    if !matches!(c.dtype, DType::F32 | DType::F16 | DType::BF16) {
        return Err(format!("the tensor engine does not multiply {}", c.dtype));
    }
    let dtype = tile_type(c.dtype)?;
    let (nb, nm, nn) = (c.batch.len(), c.m.len(), c.n.len());
    let a = Side { operand: &c.a, args, lead: nb + nm, dtype };
    let sides: Vec<Side> = c.b.iter().map(|operand| Side { operand, args, lead: nb + nn, dtype }).collect();
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
            || c.loads.iter().any(|l| super::tile::guarded(&l.access, d));
    }
    let out = &args.outputs[c.store.buffer];
    let result = Layout { part: mp, free: free.clone() };
    let rows_of = mp.map(|p| vec![p]).unwrap_or_default();
    // The stationary tiles of one block of m, kept while n streams.
    let kept = by_rows || k_tiles.len() * TRN2.stationary_max * (dtype.bits() as usize / 8) <= STATIONARY_BYTES;
    let (outer, inner) = walks.split_at(nb + nm);
    for_tiles(b, outer, &mut vec![], &mut |b, head| {
        let stationary: Vec<Tile> = if by_rows {
            let row = super::operand::row(b, &a, c, head, mp)?;
            k_tiles.iter().map(|k| super::operand::turned_row(b, &row, &c.k, k, kp)).collect::<Lower<_>>()?
        } else if kept {
            k_tiles.iter().map(|k| a.tile(b, head, k, kp, rows_of.clone())).collect::<Lower<_>>()?
        } else {
            vec![]
        };
        for_tiles(b, inner, &mut vec![], &mut |b, tail| {
            let spans: Vec<Span> = head.iter().chain(tail).cloned().collect();
            let (p, w) = (result.partitions(&spans), result.free_len(&spans));
            let of_n: Vec<Span> = head[..nb].iter().chain(tail).cloned().collect();
            let free_n: Vec<usize> = free.iter().map(|d| d - nm).collect();
            let sums: Vec<Tile> = sides.iter().map(|_| b.psum("acc", DType::F32, &[p, w])).collect();
            for (i, k) in k_tiles.iter().enumerate() {
                let fresh;
                let still = match stationary.get(i) {
                    Some(t) => t,
                    None => {
                        fresh = a.tile(b, head, k, kp, rows_of.clone())?;
                        &fresh
                    }
                };
                for (side, psum) in sides.iter().zip(&sums) {
                    let moving = side.tile(b, &of_n, k, kp, free_n.clone())?;
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
                    load(e.b, &args.inputs[l.access.buffer], &l.access, &spans, &narrow, &t)?;
                    inputs.push(Val::Scalar(t));
                } else {
                    load(e.b, &args.inputs[l.access.buffer], &l.access, &spans, &result, &t)?;
                    inputs.push(Val::Tile(t));
                }
            }
            let v = e.expr(&c.epilogue, &inputs)?;
            let t = e.widen(&v, out.dtype)?;
            let t = if t.dtype != out.dtype || t.mem == tahoma_machine::trn2::Mem::Psum {
                let copy = e.new_tile(true, out.dtype);
                e.b.emit(Instr::new("tensor_copy").with("dst", &copy).with("src", &t));
                copy
            } else {
                t
            };
            store(e.b, out, &c.store, &spans, &result, &t);
            Ok(())
        })
    })
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
