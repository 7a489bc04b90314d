//! Windows over spatial axes: where each output row reads, per tap; pooling and depthwise convolution as sums of shifted rows.

use super::cast::{compute_type, narrow, widen};
use super::reduce::{monoid_float, monoid_int};
use super::scalar::{by_int, fit_bits};
use super::{Elem, chunks, elements};
use crate::op::Monoid;
use crate::tensor::{Buffer, Tensor};
use crate::types::DType;
use std::ops::Range;

/// One position of the window.
struct Tap {
    /// Offset per axis, dilation and padding included: output o reads `o·stride + offset`.
    offsets: Vec<i64>,
    /// Output positions of the last axis that read inside.
    span: Range<usize>,
}

/// How windows of a kernel slide over one plane.
pub(crate) struct Geometry {
    spatial: Vec<usize>,
    out: Vec<usize>,
    strides: Vec<i64>,
    taps: Vec<Tap>,
    /// Elements of an output plane and of an input plane.
    pub(crate) pixels: usize,
    pub(crate) plane: usize,
}

impl Geometry {
    /// `pads` are all begins, then all ends; `out` are the output's spatial extents.
    pub(crate) fn new(spatial: &[usize], kernel: &[usize], out: &[usize], strides: &[i64], pads: &[i64], dilations: &[i64]) -> Geometry {
        let last = kernel.len() - 1;
        let taps = (0..kernel.iter().product::<usize>())
            .map(|mut t| {
                let mut offsets = vec![0; kernel.len()];
                for i in (0..kernel.len()).rev() {
                    offsets[i] = (t % kernel[i]) as i64 * dilations[i] - pads[i];
                    t /= kernel[i];
                }
                let (o, s, n, width) = (offsets[last], strides[last], spatial[last] as i64, out[last] as i64);
                let lo = if o < 0 { (-o + s - 1) / s } else { 0 }.min(width);
                let hi = if n - o <= 0 { 0 } else { (n - o + s - 1) / s }.clamp(lo, width);
                Tap { offsets, span: lo as usize..hi as usize }
            })
            .collect();
        Geometry {
            plane: spatial.iter().product(),
            pixels: out.iter().product(),
            spatial: spatial.to_vec(),
            out: out.to_vec(),
            strides: strides.to_vec(),
            taps,
        }
    }
    pub(crate) fn taps(&self) -> usize {
        self.taps.len()
    }
    /// Whether output pixel i is input pixel i.
    pub(crate) fn is_pointwise(&self) -> bool {
        self.taps.len() == 1
            && self.strides.iter().all(|&s| s == 1)
            && self.taps[0].offsets.iter().all(|&p| p == 0)
            && self.spatial == self.out
    }
    fn width(&self) -> usize {
        self.out[self.out.len() - 1]
    }
    /// Start, in the plane, of the input row that output row `row` reads at `tap`; `None` if it is padding.
    fn input_row(&self, row: usize, tap: &Tap) -> Option<usize> {
        let last = self.out.len() - 1;
        let (mut r, mut at, mut step) = (row, 0usize, self.spatial[last]);
        for i in (0..last).rev() {
            let p = (r % self.out[i]) as i64 * self.strides[i] + tap.offsets[i];
            r /= self.out[i];
            if p < 0 || p >= self.spatial[i] as i64 {
                return None;
            }
            at += p as usize * step;
            step *= self.spatial[i];
        }
        Some(at)
    }
    /// What pixels `range` read at tap `t` (zero outside the plane), into `out` (as long as the range).
    pub(crate) fn gather<T: Elem>(&self, t: usize, plane: &[T], range: Range<usize>, out: &mut [T]) {
        let (tap, width, last) = (&self.taps[t], self.width(), self.out.len() - 1);
        let (s, shift) = (self.strides[last], tap.offsets[last]);
        let mut at = range.start;
        while at < range.end {
            let (row, x0) = (at / width, at % width);
            let x1 = width.min(x0 + range.end - at);
            let dst = &mut out[at - range.start..at - range.start + x1 - x0];
            at += x1 - x0;
            let (lo, hi) = (tap.span.start.clamp(x0, x1), tap.span.end.clamp(x0, x1));
            let Some(from) = self.input_row(row, tap).filter(|_| lo < hi) else {
                dst.fill(T::default());
                continue;
            };
            dst[..lo - x0].fill(T::default());
            dst[hi - x0..].fill(T::default());
            let start = (from as i64 + lo as i64 * s + shift) as usize;
            let dst = &mut dst[lo - x0..hi - x0];
            if s == 1 {
                dst.copy_from_slice(&plane[start..start + (hi - lo)]);
            } else {
                dst.iter_mut().zip(plane[start..].iter().step_by(s as usize)).for_each(|(d, &v)| *d = v);
            }
        }
    }
    /// `out = f(out, tap, input)` for every output pixel and every tap that reads inside, row by row.
    pub(crate) fn accumulate<T: Elem>(&self, plane: &[T], out: &mut [T], f: impl Fn(T, usize, T) -> T) {
        let (width, last) = (self.width(), self.out.len() - 1);
        let s = self.strides[last];
        for (row, dst) in out.chunks_exact_mut(width.max(1)).enumerate() {
            for (t, tap) in self.taps.iter().enumerate() {
                if tap.span.is_empty() {
                    continue;
                }
                let Some(from) = self.input_row(row, tap) else { continue };
                let start = (from as i64 + tap.span.start as i64 * s + tap.offsets[last]) as usize;
                let dst = &mut dst[tap.span.clone()];
                if s == 1 {
                    let n = dst.len();
                    dst.iter_mut().zip(&plane[start..start + n]).for_each(|(d, &v)| *d = f(*d, t, v));
                } else {
                    dst.iter_mut().zip(plane[start..].iter().step_by(s as usize)).for_each(|(d, &v)| *d = f(*d, t, v));
                }
            }
        }
    }
}

fn pool_planes<T: Elem>(x: &Tensor, g: &Geometry, planes: usize, start: T, f: impl Fn(T, T) -> T + Sync) -> Vec<T> {
    let v = elements::<T>(x);
    let mut out = vec![start; planes * g.pixels];
    chunks(&mut out, g.pixels, g.pixels * g.taps(), |p, c| g.accumulate(&v[p * g.plane..(p + 1) * g.plane], c, |a, _, b| f(a, b)));
    out
}

/// `m` over windows of x[N, C, spatial]; what lies outside counts as the neutral element. `shape` is the result's.
pub(crate) fn pool(m: Monoid, x: &Tensor, g: &Geometry, shape: &[usize]) -> Tensor {
    let dtype = x.dtype();
    let planes = shape[0] * shape[1];
    let x = if dtype.is_float() { widen(x) } else { x.clone() }.contiguous();
    macro_rules! go {
        ($s:expr, $f:expr) => {
            pool_planes(&x, g, planes, $s, $f)
        };
    }
    if dtype.is_float() {
        let buffer = match x.dtype() {
            DType::F64 => Buffer::F64(monoid_float!(m, f64, go)),
            _ => Buffer::F32(monoid_float!(m, f32, go)),
        };
        return narrow(Tensor::new(compute_type(dtype), shape, buffer), dtype);
    }
    let buffer = by_int!(dtype, T => {
        let (start, f) = monoid_int::<T>(m, dtype);
        T::buffer(pool_planes(&x, g, planes, start, f))
    });
    Tensor::new(dtype, shape, fit_bits(buffer, dtype))
}
