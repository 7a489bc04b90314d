//! Contractions: `PSUM[m, n] += stationary[k, m]ᵀ · moving[k, n]` over tiles of k, then the epilogue on the way to HBM.
//!
//! A (weights of a convolution, rows of a matmul) is stationary, B moving. One loop of k lies on partitions; the others (taps) are
//! further products into the same PSUM tile, so a convolution needs no im2col. An operand whose k is its fastest axis is read as it
//! lies and turned by the tensor engine.

use super::scalar::{Emitter, Val};
use super::tile::{Layout, Span, Walk, for_tiles, guarded, load, store};
use super::{Arguments, Lower, tile_type};
use tahoma_core::DType;
use tahoma_core::kernel::{Access, ContractSpec};
use tahoma_machine::trn2::{Affine, Builder, Instr, Sub, TRN2, Tile};

/// Bytes of a partition for the stationary tiles that stay while the moving operand streams.
const STATIONARY_BYTES: usize = TRN2.sbuf_partition_bytes / 3;

/// One product: the span of every k loop, `kp` on partitions.
type KTile = Vec<Span>;

/// Which operand a read is for: where its own loops and k lie in its access.
struct Operand<'a> {
    access: &'a Access,
    hbm: &'a Tile,
    /// Loops before k: batch, then m or n.
    lead: usize,
}

pub(super) fn build(b: &mut Builder, args: &Arguments, c: &ContractSpec) -> Lower<()> {
    if !matches!(c.dtype, DType::F32 | DType::F16 | DType::BF16) {
        return Err(format!("the tensor engine does not multiply {}", c.dtype));
    }
    let (nb, nm, nn) = (c.batch.len(), c.m.len(), c.n.len());
    let k_tiles = k_tiles(c)?;
    let kp = k_partition(c);
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
        let in_b = if d < nb { Some(d) } else { d.checked_sub(nm).filter(|&x| d >= nb + nm && x >= nb) };
        let in_a = (d < nb + nm).then_some(d);
        w.unroll = in_b.is_some_and(|d| guarded(&c.b, d))
            || in_a.is_some_and(|d| guarded(&c.a, d))
            || c.loads.iter().any(|l| guarded(&l.access, d));
    }
    let a = Operand { access: &c.a, hbm: &args.inputs[c.a.buffer], lead: nb + nm };
    let bb = Operand { access: &c.b, hbm: &args.inputs[c.b.buffer], lead: nb + nn };
    let dtype = tile_type(c.dtype)?;
    let out = &args.outputs[c.store.buffer];
    let result = Layout { part: mp, free: free.clone() };
    let ctx = Ctx { dtype };
    // The stationary tiles of one block of m, kept while n streams.
    let kept = k_tiles.len() * TRN2.stationary_max * (dtype.bits() as usize / 8) <= STATIONARY_BYTES;
    let (outer, inner) = walks.split_at(nb + nm);
    for_tiles(b, outer, &mut vec![], &mut |b, head| {
        let stationary: Vec<Tile> = if kept {
            k_tiles.iter().map(|k| ctx.operand(b, &a, head, k, kp, mp.map(|p| vec![p]).unwrap_or_default())).collect::<Lower<_>>()?
        } else {
            vec![]
        };
        for_tiles(b, inner, &mut vec![], &mut |b, tail| {
            let spans: Vec<Span> = head.iter().chain(tail).cloned().collect();
            let (p, w) = (result.partitions(&spans), result.free_len(&spans));
            let psum = b.psum("acc", DType::F32, &[p, w]);
            let of_n: Vec<Span> = head[..nb].iter().chain(tail).cloned().collect();
            let free_n: Vec<usize> = free.iter().map(|d| d - nm).collect();
            for (i, k) in k_tiles.iter().enumerate() {
                let moving = ctx.operand(b, &bb, &of_n, k, kp, free_n.clone())?;
                let fresh;
                let still = match stationary.get(i) {
                    Some(t) => t,
                    None => {
                        fresh = ctx.operand(b, &a, head, k, kp, mp.map(|p| vec![p]).unwrap_or_default())?;
                        &fresh
                    }
                };
                b.emit(
                    Instr::new("nc_matmul").with("dst", &psum).with("stationary", still).with("moving", &moving).with("accumulate", i > 0),
                );
            }
            let mut e = Emitter { b, partitions: p, width: w };
            let mut inputs = vec![Val::Tile(psum)];
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

/// The loop of k that lies on partitions: the longest one without padding.
fn k_partition(c: &ContractSpec) -> Option<usize> {
    let (la, lb) = (c.batch.len() + c.m.len(), c.batch.len() + c.n.len());
    (0..c.k.len()).filter(|&d| !guarded(&c.a, la + d) && !guarded(&c.b, lb + d)).max_by_key(|&d| (c.k[d], std::cmp::Reverse(d)))
}

/// Every product of the sum: tiles of the partition loop times the points of the other k loops.
fn k_tiles(c: &ContractSpec) -> Lower<Vec<KTile>> {
    let kp = k_partition(c);
    let mut tiles: Vec<KTile> = vec![vec![]];
    for (d, &extent) in c.k.iter().enumerate() {
        let chunk = if Some(d) == kp { TRN2.contract_max as u64 } else { 1 };
        let mut next = vec![];
        for t in &tiles {
            let mut start = 0;
            while start < extent {
                let len = chunk.min(extent - start) as usize;
                let mut t = t.clone();
                t.push(Span { start: Affine::from(start as i64), len });
                next.push(t);
                start += chunk;
            }
        }
        tiles = next;
        if tiles.len() > 16_384 {
            return Err("too many products per output tile".into());
        }
    }
    Ok(tiles)
}

/// The type of both operands' tiles.
struct Ctx {
    dtype: DType,
}

impl Ctx {
    /// An operand's tile `[k, free]`: k on partitions.
    fn operand(&self, b: &mut Builder, o: &Operand, lead: &[Span], k: &KTile, kp: Option<usize>, free: Vec<usize>) -> Lower<Tile> {
        let spans: Vec<Span> = lead.iter().chain(k).cloned().collect();
        let kd = kp.map(|d| o.lead + d);
        let layout = Layout { part: kd, free: free.clone() };
        let (p, w) = (layout.partitions(&spans), layout.free_len(&spans));
        // k fastest in memory, and one loop along the free axis that is not: read rows of k, then turn them.
        if let (Some(kd), [f]) = (kd, &free[..])
            && o.access.strides[kd] == 1
            && o.access.strides[*f] != 1
            && o.access.guards.is_empty()
            && spans[*f].len > 1
            && spans[kd].len > 1
        {
            return self.turned(b, o, &spans, kd, *f);
        }
        let t = b.sbuf("k", self.dtype, &[p, w]);
        load(b, o.hbm, o.access, &spans, &layout, &t)?;
        Ok(t)
    }

    fn turned(&self, b: &mut Builder, o: &Operand, spans: &[Span], kd: usize, f: usize) -> Lower<Tile> {
        let (k, n) = (spans[kd].len, spans[f].len);
        let t = b.sbuf("k", self.dtype, &[k, n]);
        let side = TRN2.partitions;
        for start in (0..n).step_by(side) {
            let len = side.min(n - start);
            let mut part = spans.to_vec();
            part[f] = Span { start: &spans[f].start + start as i64, len };
            let natural = b.sbuf("r", self.dtype, &[len, k]);
            load(b, o.hbm, o.access, &part, &Layout { part: Some(f), free: vec![kd] }, &natural)?;
            let turned = b.psum("tr", self.dtype, &[k, len]);
            b.emit(Instr::new("nc_transpose").with("dst", &turned).with("data", &natural).with("engine", "tensor"));
            let place = t.at(&[Sub::range(0i64, k), Sub::range(start as i64, len)]);
            b.emit(Instr::new("tensor_copy").with("dst", place).with("src", &turned));
        }
        Ok(t)
    }
}
