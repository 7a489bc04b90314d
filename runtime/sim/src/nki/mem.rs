//! Tensor storage while running, and the ways through it: rows of a tile, and walks over strided patterns.

use super::value::{Data, POISON_F, POISON_I, bits_of, round_all, to_int};
use tahoma_core::DType;
use tahoma_machine::trn2::resolve::Slot;
use tahoma_machine::trn2::walk::At;

/// How a PSUM location was last written.
pub(crate) const OTHER: u8 = 1;
pub(crate) const MATMUL: u8 = 2;

/// One live tensor.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) data: Data,
    /// Every element is written: reads need no check.
    pub(crate) clean: bool,
    /// PSUM only: 0, [`OTHER`] or [`MATMUL`] per element.
    pub(crate) state: Vec<u8>,
    /// Elements per partition.
    pub(crate) row: usize,
    pub(crate) parts: usize,
}

impl Store {
    pub(crate) fn new(slot: &Slot) -> Store {
        let (row, parts) = (slot.row(), slot.parts());
        let state = if slot.mem == tahoma_machine::trn2::Mem::Psum { vec![0; row * parts] } else { vec![] };
        Store { data: Data::poisoned(slot.dtype, row * parts), clean: false, state, row, parts }
    }
}

/// Storage index of the pattern's start in row `p` of the access.
pub(crate) fn base(at: &At, store: &Store, p: usize) -> i64 {
    ((at.p0 + p) * store.row) as i64 + at.f0
}

/// Whether the access is all of the tensor.
fn covers(at: &At, store: &Store) -> bool {
    at.p0 == 0 && at.f0 == 0 && at.acc.parts == store.parts && at.acc.n == store.row && at.acc.free == [(1, store.row)]
        || store.row * store.parts == 1
}

/// Calls `f(start, step, count)` for each innermost run of a pattern.
pub(crate) fn runs(free: &[(i64, usize)], base: i64, f: &mut impl FnMut(i64, i64, usize)) {
    match free {
        [] => {}
        [(step, count)] => f(base, *step, *count),
        [(step, count), rest @ ..] => (0..*count as i64).for_each(|i| runs(rest, base + i * step, f)),
    }
}

fn gather<T: Copy>(v: &[T], free: &[(i64, usize)], base: i64, out: &mut Vec<T>) {
    out.clear();
    runs(free, base, &mut |s, step, n| match step {
        1 => out.extend_from_slice(&v[s as usize..s as usize + n]),
        0 => out.resize(out.len() + n, v[s as usize]),
        _ => out.extend((0..n as i64).map(|i| v[(s + i * step) as usize])),
    });
}

fn scatter<T: Copy>(v: &mut [T], free: &[(i64, usize)], base: i64, src: &[T]) {
    let mut at = 0;
    runs(free, base, &mut |s, step, n| {
        if step == 1 {
            v[s as usize..s as usize + n].copy_from_slice(&src[at..at + n]);
        } else {
            for i in 0..n {
                v[(s + i as i64 * step) as usize] = src[at + i];
            }
        }
        at += n;
    });
}

/// The position of a poisoned element in a row.
pub(crate) type Poison = usize;

/// Row `p` of an access as f32.
pub(crate) fn load_f(store: &Store, at: &At, p: usize, out: &mut Vec<f32>) -> Result<(), Poison> {
    match &store.data {
        Data::F(v) => {
            gather(v, &at.acc.free, base(at, store, p), out);
            if !store.clean {
                poison_f(out)?;
            }
        }
        Data::I(v) => {
            let mut ints = vec![];
            gather(v, &at.acc.free, base(at, store, p), &mut ints);
            poison_i(&ints)?;
            out.clear();
            out.extend(ints.iter().map(|&x| x as f32));
        }
    }
    Ok(())
}

/// Row `p` of an integer access.
pub(crate) fn load_i(store: &Store, at: &At, p: usize, out: &mut Vec<i64>) -> Result<(), Poison> {
    match &store.data {
        Data::I(v) => gather(v, &at.acc.free, base(at, store, p), out),
        Data::F(v) => {
            let mut floats = vec![];
            gather(v, &at.acc.free, base(at, store, p), &mut floats);
            poison_f(&floats)?;
            out.clear();
            out.extend(floats.iter().map(|&x| to_int(DType::I32, x)));
        }
    }
    poison_i(out)
}

pub(crate) fn poison_f(v: &[f32]) -> Result<(), Poison> {
    // A count vectorises; the position is looked for only when there is one.
    let bad = v.iter().map(|x| (x.to_bits() == POISON_F) as u32).sum::<u32>();
    if bad == 0 { Ok(()) } else { Err(v.iter().position(|x| x.to_bits() == POISON_F).unwrap_or(0)) }
}

pub(crate) fn poison_i(v: &[i64]) -> Result<(), Poison> {
    v.iter().position(|&x| x == POISON_I).map_or(Ok(()), Err)
}

/// Writes row `p`, rounding `row` to the destination's type in place.
pub(crate) fn store_f(store: &mut Store, at: &At, p: usize, row: &mut [f32]) {
    let base = base(at, store, p);
    match &mut store.data {
        Data::F(v) => {
            round_all(at.acc.dtype, row);
            scatter(v, &at.acc.free, base, row);
        }
        Data::I(v) => {
            let ints: Vec<i64> = row.iter().map(|&x| to_int(at.acc.dtype, x)).collect();
            scatter(v, &at.acc.free, base, &ints);
        }
    }
}

/// Writes row `p` of integers that are in range.
pub(crate) fn store_i(store: &mut Store, at: &At, p: usize, row: &[i64]) {
    let base = base(at, store, p);
    match &mut store.data {
        Data::I(v) => scatter(v, &at.acc.free, base, row),
        Data::F(v) => {
            let mut floats: Vec<f32> = row.iter().map(|&x| x as f32).collect();
            round_all(at.acc.dtype, &mut floats);
            scatter(v, &at.acc.free, base, &floats);
        }
    }
}

/// The bits of a row of integers, zero-extended.
pub(crate) fn to_bits(dtype: DType, row: &mut [i64]) {
    row.iter_mut().for_each(|x| *x = bits_of(dtype, *x));
}

/// Notes that an access was written: by a matmul or otherwise.
pub(crate) fn mark(store: &mut Store, at: &At, by: u8) {
    if !store.clean && covers(at, store) {
        store.clean = true;
    }
    if !store.state.is_empty() {
        for p in 0..at.acc.parts {
            let base = base(at, store, p);
            let state = &mut store.state;
            runs(&at.acc.free, base, &mut |s, step, n| {
                if step == 1 {
                    state[s as usize..s as usize + n].fill(by);
                } else {
                    (0..n as i64).for_each(|i| state[(s + i * step) as usize] = by);
                }
            });
        }
    }
}

/// A pattern's elements in order, as runs that can be taken in parts.
pub(crate) struct Walk {
    dims: Vec<(i64, usize)>,
    index: Vec<usize>,
    pos: i64,
    /// Elements left in the innermost run.
    left: usize,
}

impl Walk {
    pub(crate) fn new(dims: &[(i64, usize)], base: i64) -> Walk {
        Walk { dims: dims.to_vec(), index: vec![0; dims.len()], pos: base, left: dims.last().map_or(0, |d| d.1) }
    }
    pub(crate) fn step(&self) -> i64 {
        self.dims.last().map_or(1, |d| d.0)
    }
    /// Elements that [`Walk::take`] may take now; 0 at the end.
    pub(crate) fn left(&self) -> usize {
        self.left
    }
    /// Takes `n` elements; returns the storage index of the first.
    pub(crate) fn take(&mut self, n: usize) -> i64 {
        let start = self.pos;
        self.left -= n;
        self.pos += n as i64 * self.step();
        if self.left == 0 {
            let last = self.dims.len() - 1;
            self.pos -= self.dims[last].1 as i64 * self.dims[last].0;
            for d in (0..last).rev() {
                self.index[d] += 1;
                self.pos += self.dims[d].0;
                if self.index[d] < self.dims[d].1 {
                    self.left = self.dims[last].1;
                    break;
                }
                self.pos -= self.dims[d].1 as i64 * self.dims[d].0;
                self.index[d] = 0;
            }
        }
        start
    }
    /// Passes over `n` elements.
    pub(crate) fn skip(&mut self, mut n: usize) {
        while n > 0 && self.left > 0 {
            let part = self.left.min(n);
            self.take(part);
            n -= part;
        }
    }
}
