//! Operands of a contraction as tiles `[k, free]`: read in place, turned by the tensor engine where k is their fastest axis, computed
//! from several reads, or made row by row.
//!
//! ```text
//! row[m, K]  = steps(product[m, K], loads[m, K])      K whole along the free axis: reductions are one instruction
//! stationary = transpose(row[:, k])                   for each tile of k
//! ```

use super::contract::multiply;
use super::rows::row_steps;
use super::scalar::{Emitter, Val};
use super::tile::{Layout, Span, guarded, load};
use super::window::Window;
use super::{Arguments, Lower, tile_type};
use tahoma_core::DType;
use tahoma_core::kernel::{ContractSpec, Operand, RowStep};
use tahoma_machine::trn2::{Affine, Builder, Instr, Sub, TRN2, Tile};

/// One product of a sum: the span of every k loop, one of them on partitions.
pub(super) type KTile = Vec<Span>;

/// One side of a contraction.
pub(super) struct Side<'a> {
    pub(super) operand: &'a Operand,
    pub(super) args: &'a Arguments,
    /// Loops before k: batch, then m or n.
    pub(super) lead: usize,
    /// What is multiplied.
    pub(super) dtype: DType,
    /// Of the loops of k.
    pub(super) extents: &'a [u64],
}

/// Whether a guard of the operand, or of its product's first operand, moves with loop `d` (of batch or its own).
pub(super) fn dependent(o: &Operand, d: usize) -> bool {
    let inner = o.product.as_ref().map(|p| p.a.accesses());
    o.accesses().chain(inner.into_iter().flatten()).any(|a| guarded(a, d))
}

/// The loop of k that lies on partitions: the longest one without padding.
pub(super) fn k_partition<'a>(extents: &[u64], sides: impl Iterator<Item = &'a Side<'a>>) -> Option<usize> {
    let sides: Vec<&Side> = sides.collect();
    let free = |d: usize| sides.iter().all(|s| s.operand.accesses().all(|a| !guarded(a, s.lead + d)));
    (0..extents.len()).filter(|&d| free(d)).max_by_key(|&d| (extents[d], std::cmp::Reverse(d)))
}

/// Every product of the sum: tiles of the partition loop times the points of the other k loops.
pub(super) fn k_tiles(extents: &[u64], kp: Option<usize>) -> Lower<Vec<KTile>> {
    let mut tiles: Vec<KTile> = vec![vec![]];
    for (d, &extent) in extents.iter().enumerate() {
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

/// The tiles `[k, free]` of one side over one tile of its own loops: what several products read is brought once.
pub(super) struct Source<'s> {
    side: &'s Side<'s>,
    lead: Vec<Span>,
    kp: Option<usize>,
    free: Vec<usize>,
    /// Bytes of a partition that may stay.
    room: usize,
    /// By the start of the partition loop.
    made: Vec<(i64, Brought)>,
}

/// What the taps of one tile of the partition loop read.
enum Brought {
    /// k on partitions.
    Direct(Window, Tile),
    /// Blocks of the free loop on partitions, k along the free axis: to be turned.
    Natural(Vec<(usize, Window, Tile)>),
}

/// Rows that are turned by the tensor engine must be longer in memory than what a direct read would find by this.
const WORTH_TURNING: usize = 4;

impl<'s> Source<'s> {
    pub(super) fn new(side: &'s Side<'s>, lead: &[Span], kp: Option<usize>, free: Vec<usize>, room: usize) -> Source<'s> {
        Source { side, lead: lead.to_vec(), kp, free, room, made: vec![] }
    }

    /// The tile of one product.
    pub(super) fn tile(&mut self, b: &mut Builder, k: &KTile) -> Lower<Tile> {
        let (Some(access), Some(kd)) = (self.side.operand.plain(), self.kp) else {
            return self.side.tile(b, &self.lead, k, self.kp, self.free.clone());
        };
        let start = k[kd].start.constant;
        let i = match self.made.iter().position(|m| m.0 == start) {
            Some(i) => i,
            None => match self.bring(b, access, k, kd) {
                Some(brought) => {
                    self.made.push((start, brought));
                    self.made.len() - 1
                }
                None => return self.side.tile(b, &self.lead, k, self.kp, self.free.clone()),
            },
        };
        let lead = self.side.lead;
        let at = |d: usize| k[d - lead].start.constant as usize;
        match &self.made[i].1 {
            Brought::Direct(w, t) => Ok(w.tap(t, &at)),
            Brought::Natural(blocks) => {
                let n: usize = blocks.iter().map(|x| x.2.shape[0]).sum();
                let t = b.sbuf("k", self.side.dtype, &[k[kd].len, n]);
                for (first, w, natural) in blocks {
                    turn(b, &w.tap(natural, &at), &t, *first);
                }
                Ok(t)
            }
        }
    }

    /// Loads what all taps of `k`'s place on the partition loop read. `None` where that is no box, or too large.
    fn bring(&self, b: &mut Builder, access: &tahoma_core::kernel::Access, k: &KTile, kd: usize) -> Option<Brought> {
        let (side, lead) = (self.side, self.side.lead);
        let hbm = &side.args.inputs[access.buffer];
        let taps: Vec<usize> = (0..k.len()).filter(|&d| d != kd).map(|d| lead + d).collect();
        let whole = |d: usize| Span { start: Affine::from(0i64), len: side.extents[d] as usize };
        let of_k = k.iter().enumerate().map(|(d, s)| if d == kd { s.clone() } else { whole(d) });
        let all: Vec<Span> = self.lead.iter().cloned().chain(of_k).collect();
        let each = side.dtype.bits() as usize / 8;
        let fits = |w: &Window| w.len() * each <= self.room;
        let direct = Window::of(access, &all, &Layout { part: Some(lead + kd), free: self.free.clone() }, &taps).filter(fits);
        let mut natural = None;
        if let [f] = self.free[..]
            && all[f].len > 1
            && k[kd].len > 1
            && !guarded(access, f)
        {
            let side = TRN2.partitions;
            let blocks = (0..all[f].len).step_by(side).map(|start| {
                let mut part = all.clone();
                part[f] = Span { start: &all[f].start + start as i64, len: side.min(all[f].len - start) };
                Window::of(access, &part, &Layout { part: Some(f), free: vec![lead + kd] }, &taps).filter(|w| w.wide).map(|w| (start, w))
            });
            natural = blocks.collect::<Option<Vec<_>>>().filter(|all| all.iter().map(|x| x.1.len() * each).sum::<usize>() <= self.room);
        }
        let run = |w: Option<&Window>| w.map_or(1, Window::run);
        match (direct, natural) {
            (direct, Some(blocks)) if run(blocks.first().map(|x| &x.1)) >= WORTH_TURNING * run(direct.as_ref()) => {
                let load = |(start, w): (usize, Window)| {
                    let t = w.load(b, hbm, side.dtype);
                    (start, w, t)
                };
                Some(Brought::Natural(blocks.into_iter().map(load).collect()))
            }
            (Some(w), _) if w.wide || self.free.is_empty() => {
                let t = w.load(b, hbm, side.dtype);
                Some(Brought::Direct(w, t))
            }
            _ => None,
        }
    }
}

impl Side<'_> {
    /// The tile `[k, free]`: k on partitions.
    pub(super) fn tile(&self, b: &mut Builder, lead: &[Span], k: &KTile, kp: Option<usize>, free: Vec<usize>) -> Lower<Tile> {
        let spans: Vec<Span> = lead.iter().chain(k).cloned().collect();
        let kd = kp.map(|d| self.lead + d);
        let layout = Layout { part: kd, free: free.clone() };
        let (p, w) = (layout.partitions(&spans), layout.free_len(&spans));
        let Some(access) = self.operand.plain() else { return self.computed(b, &spans, &layout) };
        let hbm = &self.args.inputs[access.buffer];
        // k fastest in memory, and one loop along the free axis that is not: read rows of k, then turn them.
        if let (Some(kd), [f]) = (kd, &free[..])
            && access.strides[kd] == 1
            && access.strides[*f] != 1
            && access.guards.is_empty()
            && spans[*f].len > 1
            && spans[kd].len > 1
        {
            let natural = |b: &mut Builder, part: &[Span], layout: &Layout| {
                let t = b.sbuf("r", self.dtype, &[layout.partitions(part), layout.free_len(part)]);
                load(b, hbm, access, part, layout, &t).map(|_| t)
            };
            return self.turned(b, &spans, kd, *f, &natural);
        }
        let t = b.sbuf("k", self.dtype, &[p, w]);
        load(b, hbm, access, &spans, &layout, &t)?;
        Ok(t)
    }

    /// An expression of several reads.
    fn computed(&self, b: &mut Builder, spans: &[Span], layout: &Layout) -> Lower<Tile> {
        // As for plain reads: where most of the data has k fastest, it is computed in that order and turned.
        if let (Some(kd), [f]) = (layout.part, &layout.free[..]) {
            let wide = |d: usize| self.operand.accesses().filter(|a| a.strides[d].abs() == 1).count();
            if wide(kd) > wide(*f) && spans[*f].len > 1 && spans[kd].len > 1 && self.operand.accesses().all(|a| !guarded(a, *f)) {
                let natural = |b: &mut Builder, part: &[Span], layout: &Layout| self.points(b, part, layout);
                return self.turned(b, spans, kd, *f, &natural);
            }
        }
        self.points(b, spans, layout)
    }

    fn points(&self, b: &mut Builder, spans: &[Span], layout: &Layout) -> Lower<Tile> {
        let mut e = Emitter { b, partitions: layout.partitions(spans), width: layout.free_len(spans) };
        let mut values = vec![];
        for l in &self.operand.loads {
            let t = e.new_tile(true, tile_type(l.dtype)?);
            load(e.b, &self.args.inputs[l.access.buffer], &l.access, spans, layout, &t)?;
            values.push(Val::Tile(t));
        }
        for s in &self.operand.steps {
            let RowStep::Map { expr, args } = s else { return Err("a reduction in an expression".into()) };
            let inputs: Vec<Val> = args.iter().map(|&a| values[a].clone()).collect();
            let v = e.expr(expr, &inputs)?;
            values.push(v);
        }
        finished(&mut e, &values[self.operand.value], self.dtype)
    }

    /// Tiles `[f, k]` of at most a square, turned into `[k, f]`.
    fn turned(
        &self,
        b: &mut Builder,
        spans: &[Span],
        kd: usize,
        f: usize,
        natural: &dyn Fn(&mut Builder, &[Span], &Layout) -> Lower<Tile>,
    ) -> Lower<Tile> {
        let (k, n) = (spans[kd].len, spans[f].len);
        let t = b.sbuf("k", self.dtype, &[k, n]);
        let side = TRN2.partitions;
        for start in (0..n).step_by(side) {
            let len = side.min(n - start);
            let mut part = spans.to_vec();
            part[f] = Span { start: &spans[f].start + start as i64, len };
            let natural = natural(b, &part, &Layout { part: Some(f), free: vec![kd] })?;
            turn(b, &natural, &t, start);
        }
        Ok(t)
    }
}

/// A tile `[f, k]`, turned by the tensor engine, as columns of `onto` from `first` on.
fn turn(b: &mut Builder, natural: &Tile, onto: &Tile, first: usize) {
    let (k, len) = (onto.shape[0], natural.shape[0]);
    let turned = b.psum("tr", onto.dtype, &[k, len]);
    b.emit(Instr::new("nc_transpose").with("dst", &turned).with("data", natural).with("engine", "tensor"));
    let place = onto.at(&[Sub::range(0i64, k), Sub::range(first as i64, len)]);
    b.emit(Instr::new("tensor_copy").with("dst", place).with("src", &turned));
}

/// A value as a tile of the multiplied type.
fn finished(e: &mut Emitter, v: &Val, dtype: DType) -> Lower<Tile> {
    let t = e.widen(v, dtype)?;
    if t.dtype == dtype {
        return Ok(t);
    }
    let cast = e.new_tile(true, dtype);
    e.b.emit(Instr::new("tensor_copy").with("dst", &cast).with("src", &t));
    Ok(cast)
}

/// A's rows over one tile of m, the whole of k along the free axis.
pub(super) fn row(b: &mut Builder, a: &Side, c: &ContractSpec, head: &[Span], mp: Option<usize>) -> Lower<Tile> {
    let width = c.k.iter().product::<u64>() as usize;
    let need = super::row_bytes(c);
    let room = TRN2.sbuf_partition_bytes - super::STREAM_BYTES;
    if need > room {
        return Err(format!("a row of {width} elements needs {need} bytes of a partition's {room}"));
    }
    if c.k.len() > 3 {
        return Err("rows of more than three axes".into());
    }
    let whole: Vec<Span> = c.k.iter().map(|&e| Span { start: Affine::from(0i64), len: e as usize }).collect();
    let spans: Vec<Span> = head.iter().cloned().chain(whole).collect();
    let wide = Layout { part: mp, free: (a.lead..a.lead + c.k.len()).collect() };
    let narrow = Layout { part: mp, free: vec![] };
    let mut values = vec![];
    if c.a.product.is_some() {
        values.push(Val::Tile(scores(b, a, c, head, mp)?));
    }
    let mut e = Emitter { b, partitions: wide.partitions(&spans), width };
    for l in &c.a.loads {
        let t = e.new_tile(!l.per_row, tile_type(l.dtype)?);
        let hbm = &a.args.inputs[l.access.buffer];
        load(e.b, hbm, &l.access, &spans, if l.per_row { &narrow } else { &wide }, &t)?;
        values.push(if l.per_row { Val::Scalar(t) } else { Val::Tile(t) });
    }
    row_steps(&mut e, &c.a.steps, &mut values)?;
    finished(&mut e, &values[c.a.value], a.dtype)
}

/// `Σ_e A[m, e]·B[k, e]` for one tile of m and all of k.
fn scores(b: &mut Builder, a: &Side, c: &ContractSpec, head: &[Span], mp: Option<usize>) -> Lower<Tile> {
    let Some(p) = &c.a.product else { return Err("no product".into()) };
    let (nb, nk) = (c.batch.len(), c.k.len());
    let dtype = tile_type(p.dtype)?;
    let queries = Side { operand: &p.a, args: a.args, lead: a.lead, dtype, extents: &p.sum };
    let keys = Side { operand: &p.b, args: a.args, lead: nb + nk, dtype, extents: &p.sum };
    let ep = k_partition(&p.sum, [&queries, &keys].into_iter());
    let e_tiles = k_tiles(&p.sum, ep)?;
    let still: Vec<Tile> =
        e_tiles.iter().map(|t| queries.tile(b, head, t, ep, mp.map(|p| vec![p]).unwrap_or_default())).collect::<Lower<_>>()?;
    let m = mp.map_or(1, |d| head[d].len);
    let width = c.k.iter().product::<u64>() as usize;
    let out = b.sbuf("t", DType::F32, &[m, width]);
    // Runs of the last loop of k, as long as a PSUM bank.
    let last = c.k.last().map_or(1, |&e| e as usize);
    for first in (0..width).step_by(last) {
        let (mut rest, mut at) = (first / last, vec![0usize; nk]);
        for d in (0..nk.saturating_sub(1)).rev() {
            at[d] = rest % c.k[d] as usize;
            rest /= c.k[d] as usize;
        }
        for start in (0..last).step_by(TRN2.moving_max) {
            let len = TRN2.moving_max.min(last - start);
            let mut spans: Vec<Span> = head[..nb].to_vec();
            spans.extend(at.iter().map(|&i| Span::at(i as i64)));
            if nk > 0 {
                spans[nb + nk - 1] = Span { start: Affine::from(start as i64), len };
            }
            let free = if nk > 0 { vec![nb + nk - 1] } else { vec![] };
            let psum = b.psum("acc", DType::F32, &[m, len]);
            for (i, t) in e_tiles.iter().enumerate() {
                let moving = keys.tile(b, &spans, t, ep, free.clone())?;
                multiply(b, &psum, &still[i], &moving, i > 0);
            }
            let place = out.at(&[Sub::range(0i64, m), Sub::range((first + start) as i64, len)]);
            b.emit(Instr::new("tensor_copy").with("dst", place).with("src", &psum));
        }
    }
    Ok(out)
}

/// The columns of a tile of k, turned: `[k, m]`.
pub(super) fn turned_row(b: &mut Builder, row: &Tile, extents: &[u64], k: &KTile, kp: Option<usize>) -> Lower<Tile> {
    let (m, width) = (row.shape[0], row.free());
    let len = super::contract::covers(k);
    let (mut first, mut step, mut stride) = (0i64, 1i64, 1i64);
    for (d, s) in k.iter().enumerate().rev() {
        first += s.start.constant * step;
        if Some(d) == kp {
            stride = step;
        }
        step *= extents[d] as i64;
    }
    let data = row.ap(&[[width as i64, m as i64], [stride, len as i64]], Affine::from(first));
    let turned = b.psum("tr", row.dtype, &[len, m]);
    b.emit(Instr::new("nc_transpose").with("dst", &turned).with("data", data).with("engine", "tensor"));
    let t = b.sbuf("k", row.dtype, &[len, m]);
    b.emit(Instr::new("tensor_copy").with("dst", &t).with("src", &turned));
    Ok(t)
}
