//! Tiles of loop nests: which span of each loop a tile covers, walking a nest tile by tile, and DMA between HBM accesses and tiles.

use super::Lower;
use tahoma_core::kernel::Access;
use tahoma_machine::trn2::{Affine, Builder, Instr, Tile};

/// What of one loop a tile covers: `start .. start + len`.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) start: Affine,
    pub(crate) len: usize,
}

impl Span {
    pub(crate) fn at(i: impl Into<Affine>) -> Span {
        Span { start: i.into(), len: 1 }
    }
}

/// How one loop of a nest is walked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk {
    pub(crate) extent: u64,
    pub(crate) chunk: usize,
    /// Spell iterations out, so that starts are numbers (guards need that).
    pub(crate) unroll: bool,
}

/// Why a program is not built to its end.
pub(crate) const TOO_MANY: &str = "too many instructions for one kernel";

/// Calls `f` for every tile of the nest, the last loop fastest.
pub(crate) fn for_tiles(
    b: &mut Builder,
    walks: &[Walk],
    spans: &mut Vec<Span>,
    f: &mut dyn FnMut(&mut Builder, &[Span]) -> Lower<()>,
) -> Lower<()> {
    let Some(w) = walks.get(spans.len()).copied() else { return f(b, spans) };
    let chunk = w.chunk.clamp(1, w.extent.max(1) as usize);
    let (full, rest) = (w.extent as usize / chunk, w.extent as usize % chunk);
    let mut visit = |b: &mut Builder, start: Affine, len: usize, spans: &mut Vec<Span>| {
        if b.full() {
            return Err(TOO_MANY.into());
        }
        spans.push(Span { start, len });
        let r = for_tiles(b, walks, spans, f);
        spans.pop();
        r
    };
    if w.unroll {
        for i in 0..full {
            visit(b, Affine::from(i * chunk), chunk, spans)?;
        }
    } else if full > 0 {
        b.for_("i", full, |b, i| visit(b, i * chunk as i64, chunk, spans))?;
    }
    if rest > 0 {
        visit(b, Affine::from(full * chunk), rest, spans)?;
    }
    Ok(())
}

/// The loops a tile lays out: one on partitions, the others along the free axis, in order. Indices into the spans.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) part: Option<usize>,
    pub(crate) free: Vec<usize>,
}

impl Layout {
    pub(crate) fn partitions(&self, spans: &[Span]) -> usize {
        self.part.map_or(1, |p| spans[p].len)
    }
    pub(crate) fn free_len(&self, spans: &[Span]) -> usize {
        self.free.iter().map(|&d| spans[d].len).product()
    }
    fn dims(&self) -> impl Iterator<Item = usize> + '_ {
        self.part.into_iter().chain(self.free.iter().copied())
    }
}

pub(crate) fn linear(offset: i64, coeffs: &[i64], spans: &[Span]) -> Affine {
    coeffs.iter().zip(spans).fold(Affine::from(offset), |a, (&c, s)| a + &s.start * c)
}

/// The HBM side of a transfer over the box `[lo, lo + len)` of each laid-out loop.
fn hbm_side(
    hbm: &Tile,
    a: &Access,
    spans: &[Span],
    layout: &Layout,
    part: [usize; 2],
    boxes: &[[usize; 2]],
) -> tahoma_machine::trn2::Access {
    let mut offset = linear(a.offset, &a.strides, spans);
    let mut pattern = vec![];
    match layout.part {
        Some(p) => {
            offset = offset + a.strides[p] * part[0] as i64;
            pattern.push([a.strides[p], part[1] as i64]);
        }
        None => pattern.push([0, 1]),
    }
    for (&d, &[lo, len]) in layout.free.iter().zip(boxes) {
        offset = offset + a.strides[d] * lo as i64;
        pattern.push([a.strides[d], len as i64]);
    }
    hbm.ap(&pattern, offset)
}

/// The tile's side of the same box; the tile is `[P, free]`, row-major over the laid-out free loops.
fn tile_side(tile: &Tile, spans: &[Span], layout: &Layout, part: [usize; 2], boxes: &[[usize; 2]]) -> tahoma_machine::trn2::Access {
    let width = tile.free() as i64;
    let mut pattern = vec![[width, part[1] as i64]];
    let (mut offset, mut step) = (0i64, width);
    for (&d, &[lo, len]) in layout.free.iter().zip(boxes) {
        step /= spans[d].len as i64;
        pattern.push([step, len as i64]);
        offset += step * lo as i64;
    }
    tile.ap(&pattern, Affine::from(offset + part[0] as i64 * width))
}

fn whole(spans: &[Span], layout: &Layout) -> Vec<[usize; 2]> {
    layout.free.iter().map(|&d| [0, spans[d].len]).collect()
}

/// Reads the tile's span of an access from HBM, with fills where guards fail.
pub(crate) fn load(b: &mut Builder, hbm: &Tile, a: &Access, spans: &[Span], layout: &Layout, tile: &Tile) -> Lower<()> {
    let mut part = [0, layout.partitions(spans)];
    let mut boxes = whole(spans, layout);
    let mut partial = false;
    for g in &a.guards {
        let base = linear(g.offset, &g.coeffs, spans);
        if !base.is_constant() {
            return Err("padding over a rolled loop".into());
        }
        let moving: Vec<usize> = layout.dims().filter(|&d| g.coeffs[d] != 0 && spans[d].len > 1).collect();
        let (coeff, len) = match moving.as_slice() {
            [] => (0, 1),
            [d] => (g.coeffs[*d], spans[*d].len),
            _ => return Err("padding across two axes of a tile".into()),
        };
        let inside = |x: usize| (0..g.extent).contains(&(base.constant + coeff * x as i64));
        let Some(lo) = (0..len).find(|&x| inside(x)) else {
            b.emit(Instr::new("memset").with("dst", tile).with("value", a.fill.0));
            return Ok(());
        };
        let n = (lo..len).take_while(|&x| inside(x)).count();
        if let [d] = moving.as_slice() {
            if n < len {
                partial = true;
            }
            let slot = if layout.part == Some(*d) { &mut part } else { &mut boxes[layout.free.iter().position(|f| f == d).unwrap_or(0)] };
            // Two guards may cut the same loop.
            let (start, end) = (slot[0].max(lo), (slot[0] + slot[1]).min(lo + n));
            if start >= end {
                b.emit(Instr::new("memset").with("dst", tile).with("value", a.fill.0));
                return Ok(());
            }
            *slot = [start, end - start];
        }
    }
    if partial {
        b.emit(Instr::new("memset").with("dst", tile).with("value", a.fill.0));
    }
    let src = hbm_side(hbm, a, spans, layout, part, &boxes);
    let dst = tile_side(tile, spans, layout, part, &boxes);
    b.emit(Instr::new("dma_copy").with("dst", dst).with("src", src));
    Ok(())
}

/// Writes the tile to its span of an access in HBM.
pub(crate) fn store(b: &mut Builder, hbm: &Tile, a: &Access, spans: &[Span], layout: &Layout, tile: &Tile) {
    let part = [0, layout.partitions(spans)];
    let boxes = whole(spans, layout);
    let dst = hbm_side(hbm, a, spans, layout, part, &boxes);
    let src = tile_side(tile, spans, layout, part, &boxes);
    b.emit(Instr::new("dma_copy").with("dst", dst).with("src", src));
}

/// Whether any guard of the access moves with loop `d`.
pub(crate) fn guarded(a: &Access, d: usize) -> bool {
    a.guards.iter().any(|g| g.coeffs.get(d).copied().unwrap_or(0) != 0)
}
