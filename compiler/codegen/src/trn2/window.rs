//! Windows: the box of an operand that all taps of a tile read, loaded once with its padding. A tap is a view of it.
//!
//! ```text
//! reads at  offset + Σ S·u·i[f] + Σ D·u·t        i a loop of the tile, t a tap, u the step in memory that both are multiples of
//! box       elements e = 0 .. (len - 1)·S + (taps - 1)·D of each such axis, u apart; what a guard refuses keeps the fill
//! tap t     elements D·t, D·t + S, D·t + 2·S, …
//! ```
//!
//! A loop without a tap is an axis by itself, and so is a tap that shares no loop's step. Where no loop of the tile moves the read,
//! the box is one value a partition for each tap.

use super::tile::{Layout, Span, linear};
use tahoma_core::DType;
use tahoma_core::kernel::{Access, Guard};
use tahoma_machine::trn2::{Affine, Builder, Instr, Tile};

/// One axis of the box.
#[derive(Clone, Debug)]
struct Axis {
    /// Elements of the buffer from one to the next.
    unit: i64,
    extent: usize,
    /// First, and how many, inside all guards.
    valid: [usize; 2],
    /// The loop of the tile that walks it, its step and its length.
    free: Option<(usize, usize, usize)>,
    /// The tap's loop, and its step.
    tap: Option<(usize, usize)>,
    /// Elements of the box's tile from one to the next.
    step: usize,
}

/// What a load brings.
#[derive(Clone, Debug)]
pub(super) struct Window {
    axes: Vec<Axis>,
    parts: usize,
    valid_parts: [usize; 2],
    part_stride: i64,
    offset: Affine,
    fill: f64,
    /// Whether it changes along the tile: if not, a tap is one value a partition.
    pub(super) wide: bool,
}

/// Most axes of a box: a transfer's pattern has no more beside the partitions.
const MAX_AXES: usize = 4;

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Window {
    /// The box that the tile's reads span over the whole of each of `taps`, whose spans start at 0. `None` where they are no box, or
    /// where padding cuts partitions and something else at once.
    pub(super) fn of(a: &Access, spans: &[Span], layout: &Layout, taps: &[usize]) -> Option<Window> {
        let guarded = |d: usize| a.guards.iter().any(|g| g.coeffs[d] != 0);
        let moves = |d: usize| spans[d].len > 1 && (a.strides[d] != 0 || guarded(d));
        let mut axes: Vec<Axis> = vec![];
        for &f in &layout.free {
            // What does not move is brought once, and read again and again.
            let (len, still) = (spans[f].len, !moves(f));
            let extent = if still { 1 } else { len };
            let step = usize::from(!still);
            axes.push(Axis { unit: a.strides[f], extent, valid: [0, extent], free: Some((f, step, len)), tap: None, step: 0 });
        }
        for &t in taps.iter().filter(|&&t| moves(t)) {
            let (s, n) = (a.strides[t], spans[t].len);
            // The loop that walks the same axis: as a guard says, else the one with which the box is smallest.
            let guard = a.guards.iter().find(|g| g.coeffs[t] != 0);
            let shares = |x: &&mut Axis| {
                let Some((f, ..)) = x.free else { return false };
                let with = guard.is_none_or(|g| g.coeffs[f] != 0);
                x.tap.is_none() && x.extent > 1 && with && a.strides[f] > 0 && s > 0
            };
            let size = |x: &Axis| {
                let u = gcd(x.unit, s);
                (x.extent as i64 - 1) * (x.unit / u) + (n as i64 - 1) * (s / u) + 1
            };
            let best = axes.iter_mut().filter(shares).min_by_key(|x| size(x)).filter(|x| size(x) <= (x.extent * n) as i64);
            match best {
                Some(x) => {
                    let u = gcd(x.unit, s);
                    let extent = size(x) as usize;
                    let free = x.free.map(|(f, _, len)| (f, (x.unit / u) as usize, len));
                    *x = Axis { unit: u, extent, valid: [0, extent], free, tap: Some((t, (s / u) as usize)), step: 0 };
                }
                None => axes.push(Axis { unit: s, extent: n, valid: [0, n], free: None, tap: Some((t, 1)), step: 0 }),
            }
        }
        let wide = layout.free.iter().any(|&f| moves(f));
        if !wide {
            axes.retain(|x| x.free.is_none());
        }
        let parts = layout.partitions(spans);
        let mut w = Window {
            axes,
            parts,
            valid_parts: [0, parts],
            part_stride: layout.part.map_or(0, |p| a.strides[p]),
            offset: linear(a.offset, &a.strides, spans),
            fill: a.fill.0,
            wide,
        };
        for g in &a.guards {
            w.cut(g, spans, layout)?;
        }
        if w.axes.iter().filter(|x| x.extent > 1).count() > MAX_AXES {
            return None;
        }
        // Longest steps in memory first, so that runs lie together on both sides.
        let mut order: Vec<usize> = (0..w.axes.len()).collect();
        order.sort_by_key(|&i| (std::cmp::Reverse(w.axes[i].unit.abs()), i));
        let mut step = 1;
        for i in order.into_iter().rev() {
            w.axes[i].step = step;
            step *= w.axes[i].extent;
        }
        Some(w)
    }

    /// Leaves out what a guard refuses.
    fn cut(&mut self, g: &Guard, spans: &[Span], layout: &Layout) -> Option<()> {
        let base = linear(g.offset, &g.coeffs, spans);
        if !base.is_constant() {
            return None;
        }
        let base = base.constant;
        let moving: Vec<usize> = (0..spans.len()).filter(|&d| g.coeffs[d] != 0 && spans[d].len > 1).collect();
        // Positions `base + k·e` of the axis.
        let (slot, k) = match moving.as_slice() {
            [] => {
                if !(0..g.extent).contains(&base) {
                    self.valid_parts = [0, 0];
                }
                return Some(());
            }
            [p] if Some(*p) == layout.part => (&mut self.valid_parts, g.coeffs[*p]),
            dims => {
                let of = |x: &Axis, d: usize| x.free.map(|f| (f.0, f.1)).into_iter().chain(x.tap).find(|s| s.0 == d).map(|s| s.1 as i64);
                let x = self.axes.iter_mut().find(|x| of(x, dims[0]).is_some())?;
                let k = g.coeffs[dims[0]] / of(x, dims[0])?;
                if k == 0 || dims.iter().any(|&d| of(x, d).is_none_or(|s| s * k != g.coeffs[d])) {
                    return None;
                }
                (&mut x.valid, k)
            }
        };
        let inside = |e: usize| (0..g.extent).contains(&(base + k * e as i64));
        let (lo, end) = (slot[0], slot[0] + slot[1]);
        let first = (lo..end).find(|&e| inside(e)).unwrap_or(end);
        let len = (first..end).take_while(|&e| inside(e)).count();
        *slot = [first, len];
        Some(())
    }

    /// Elements of a partition.
    pub(super) fn len(&self) -> usize {
        self.axes.iter().map(|x| x.extent).product()
    }

    /// Elements that lie together in memory.
    pub(super) fn run(&self) -> usize {
        let mut axes: Vec<&Axis> = self.axes.iter().filter(|x| x.extent > 1).collect();
        axes.sort_by_key(|x| x.unit.abs());
        axes.iter().fold(1, |run, x| if x.unit == run as i64 { run * x.extent } else { run })
    }

    /// The box in SBUF.
    pub(super) fn load(&self, b: &mut Builder, hbm: &Tile, dtype: DType) -> Tile {
        let width = self.len();
        let tile = b.sbuf(if self.wide { "w" } else { "c" }, dtype, &[self.parts, width]);
        let empty = self.valid_parts[1] == 0 || self.axes.iter().any(|x| x.valid[1] == 0);
        if empty || self.valid_parts[1] < self.parts || self.axes.iter().any(|x| x.valid[1] < x.extent) {
            b.emit(Instr::new("memset").with("dst", &tile).with("value", self.fill));
        }
        if empty {
            return tile;
        }
        let [p, parts] = self.valid_parts;
        let mut order: Vec<&Axis> = self.axes.iter().filter(|x| x.extent > 1).collect();
        order.sort_by_key(|x| std::cmp::Reverse(x.step));
        let (mut src, mut dst) = (vec![[self.part_stride, parts as i64]], vec![[width as i64, parts as i64]]);
        let mut from = self.offset.clone() + self.part_stride * p as i64;
        let mut to = (width * p) as i64;
        for x in &self.axes {
            from = from + x.unit * x.valid[0] as i64;
            to += (x.step * x.valid[0]) as i64;
        }
        for x in order {
            src.push([x.unit, x.valid[1] as i64]);
            dst.push([x.step as i64, x.valid[1] as i64]);
        }
        if src.len() == 1 {
            src.push([1, 1]);
            dst.push([1, 1]);
        }
        b.emit(Instr::new("dma_copy").with("dst", tile.ap(&dst, to)).with("src", hbm.ap(&src, from)));
        tile
    }

    /// What the tap reads whose loops `at` tells, in the tile's order; `[P, 1]` where nothing moves along the tile.
    pub(super) fn tap(&self, tile: &Tile, at: &dyn Fn(usize) -> usize) -> Tile {
        let mut pattern = vec![[self.len() as i64, self.parts as i64]];
        let (mut offset, mut width) = (0, 1);
        for x in &self.axes {
            if let Some((t, d)) = x.tap {
                offset += x.step * d * at(t);
            }
            if let Some((_, s, n)) = x.free {
                pattern.push([(x.step * s) as i64, n as i64]);
                width *= n;
            }
        }
        if pattern.len() == 1 {
            pattern.push([1, 1]);
        }
        // In order, and all of it.
        let inner = |i: usize| pattern[i + 1..].iter().map(|p| p[1]).product::<i64>();
        if width == tile.free() && (1..pattern.len()).all(|i| pattern[i][1] == 1 || pattern[i][0] == inner(i)) {
            return tile.clone();
        }
        tile.part(&[self.parts, width], tile.ap(&pattern, offset as i64))
    }
}
