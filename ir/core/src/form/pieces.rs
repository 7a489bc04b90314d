//! Outputs in pieces: concatenations of many parts, and outputs of several shapes, as loops over what divides them all.
//!
//! ```text
//! y = [f(a) | f(b) | f(c) | f(d)]      for i in one part: y[i] = f(a[i]); y[n + i] = f(b[i]); …
//! ```
//!
//! No part is read where another one is, and nothing is added up. What has few parts, or parts that only 1 divides, is one loop with
//! guarded reads instead.

use super::*;

/// Most pieces that outputs are written in, and the fewest parts of a concatenation that is.
const MAX_PIECES: u64 = 256;
const FEW_PARTS: usize = 8;

/// How the loops over the outputs are cut: found out while a kernel is formed, which then starts again.
pub(super) struct Cuts {
    /// Extents that replace an axis.
    pub(super) splits: HashMap<Axis, Vec<u64>>,
    /// Extents of the loops over the outputs. Where they are less than an output's, it is written in pieces: the loops run over one, and
    /// each iteration writes the same place of all.
    pub(super) tile: Vec<u64>,
    pub(super) in_pieces: bool,
    pub(super) may_cut: bool,
}

impl Cuts {
    /// One piece for each output if their shapes are equal; else pieces that divide all of them.
    pub(super) fn new(g: &Graph) -> Result<Cuts, FormError> {
        let shapes = g.outputs.iter().map(|o| static_shape(g, o.value)).collect::<Result<Vec<_>, _>>()?;
        let Some((first, rest)) = shapes.split_first() else { return no("no output") };
        let mut tile = first.clone();
        for s in rest {
            if s.len() != tile.len() {
                return no("outputs of different ranks");
            }
            tile.iter_mut().zip(s).for_each(|(t, &n)| *t = gcd(*t, n));
        }
        let pieces: u64 = shapes.iter().map(|s| pieces(s, &tile)).sum();
        if rest.iter().any(|s| s != first) && pieces > MAX_PIECES {
            return no("outputs of different shapes");
        }
        Ok(Cuts { splits: HashMap::new(), tile, in_pieces: false, may_cut: true })
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// How many pieces of `tile` a shape has.
fn pieces(shape: &[u64], tile: &[u64]) -> u64 {
    shape.iter().zip(tile).map(|(&n, &t)| n / t.max(1)).fold(1, u64::saturating_mul)
}

/// A part of an output: which value, where it is written, and at which output.
pub(super) struct Piece {
    pub(super) value: ValueId,
    pub(super) index: Index,
    pub(super) output: usize,
}

impl Former<'_> {
    /// Every piece of every output, over the loops of one.
    pub(super) fn pieces(&mut self) -> Result<(Vec<usize>, Vec<Piece>), Stop> {
        let (g, cuts) = (self.g, self.cuts);
        let (mut loops, mut inside) = (vec![], vec![]);
        for (a, &n) in cuts.tile.iter().enumerate() {
            let (ids, lin) = self.axis_vars(Axis::Out(a), n);
            loops.extend(ids);
            inside.push(lin);
        }
        let mut all = vec![];
        for (output, o) in g.outputs.iter().enumerate() {
            let shape = static_shape(g, o.value)?;
            for piece in 0..pieces(&shape, &cuts.tile) {
                let mut rest = piece;
                let mut index = inside.clone();
                for ((lin, &n), &t) in index.iter_mut().zip(&shape).zip(&cuts.tile).rev() {
                    *lin = lin.plus(&Lin::constant((rest % (n / t) * t) as i64));
                    rest /= n / t;
                }
                all.push(Piece { value: o.value, index, output });
            }
        }
        Ok((loops, all))
    }

    /// The part that an index lies in; where it may lie in several, `out = Σ parts`, each read as −0 outside: adding −0 keeps every bit
    /// of a float. Padding with −0 around it is the same once more. Of many parts each is written by itself, if the output can be cut
    /// so: then no part is read where another one is.
    pub(super) fn concat(&mut self, n: &Node, index: &Index, outer: &Padding, d: DType) -> Result<usize, Stop> {
        let axis = n.attrs.int("axis").unwrap_or_default() as usize;
        let extents = n.operands.iter().map(|&o| Ok(static_shape(self.g, o)?[axis] as i64)).collect::<Result<Vec<_>, Stop>>()?;
        let (lo, hi) = index[axis].range(&self.vars);
        let mut start = 0;
        // Parts that the index may lie in, each with its start.
        let mut met: Vec<(ValueId, i64, i64)> = vec![];
        for (&o, &extent) in n.operands.iter().zip(&extents) {
            if hi >= start && lo < start + extent {
                met.push((o, start, extent));
            }
            start += extent;
        }
        if met.len() >= FEW_PARTS
            && let Some(cut) = self.cut(&index[axis], &met)
        {
            return Err(cut);
        }
        let mut sum = None;
        for (o, start, extent) in met {
            let mut at = index.clone();
            at[axis] = at[axis].plus(&Lin::constant(-start));
            let pad = if lo >= start && hi < start + extent {
                outer.clone()
            } else {
                let fill = if d.is_float() { -0.0 } else { 0.0 };
                let guards = outer.guards.iter().cloned().chain([(at[axis].clone(), extent)]).collect();
                Padding { guards, fill: Some(fill) }
            };
            if extent == 1 {
                // Where the guard holds there is one element.
                at[axis] = Lin::default();
            }
            let p = self.point(o, &at, &pad)?;
            let join = if d == DType::Bool { Binary::Or } else { Binary::Add };
            sum = Some(match sum {
                None => p,
                Some(s) => self.add(Point::Op(Scalar::Binary(join), vec![s, p]), d),
            });
        }
        sum.ok_or_else(|| Stop::No(FormError("concat of nothing".into())))
    }

    /// The cut of the outputs after which an index that walks one of their axes lies in one part at a time, if it makes few pieces.
    fn cut(&self, at: &Lin, parts: &[(ValueId, i64, i64)]) -> Option<Stop> {
        if !self.cuts.may_cut {
            return None;
        }
        let walks: Vec<usize> = at.vars().collect();
        let Axis::Out(axis) = self.vars[*walks.first()?].axis else { return None };
        // The outermost loop of the axis alone: those inside it are whole in every piece.
        let (mut own, mut inner) = (vec![], 1u64);
        for (i, v) in self.vars.iter().enumerate().filter(|(_, v)| v.axis == Axis::Out(axis)) {
            own.push(i);
            inner *= if own.len() > 1 { v.extent } else { 1 };
        }
        if walks != own[..1] || at.coeff(own[0]) != 1 {
            return None;
        }
        let extent = self.vars[own[0]].extent;
        let bounds = parts.iter().map(|&(_, start, _)| (start - at.offset).max(0) as u64);
        let step = bounds.fold(extent, gcd);
        let mut tile = self.cuts.tile.clone();
        tile[axis] = step * inner;
        let count = |o: &crate::graph::Port| static_shape(self.g, o.value).map(|s| pieces(&s, &tile)).unwrap_or(u64::MAX);
        let all = self.g.outputs.iter().map(count).fold(0, u64::saturating_add);
        (step < extent && all <= MAX_PIECES).then_some(Stop::Pieces(axis, tile[axis]))
    }
}
