//! Sums of products: matrix product and convolution, through a blocked gemm. f32 for f32 and the smaller floats, f64, i32 for the
//! narrow integers and i64 for the rest (which wrap to the same bits).
//!
//! Convolution is im2col in blocks of columns that stay in cache:
//! `out[m, pixels] = w[m, c·taps] · columns[c·taps, pixels]`; depthwise is a sum of shifted rows.

use super::cast::narrow;
use super::window::Geometry;
use super::{Elem, Loops, aligned, chunks, count, elements};
use crate::tensor::Tensor;
use crate::types::DType;
use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2, ArrayViewMut3, Axis, ShapeBuilder, s};
use rayon::prelude::*;

/// A type that products are summed in.
pub(crate) trait Product: Elem {
    /// `c = a · b`, `c` zero before.
    fn gemm(a: &ArrayView2<Self>, b: &ArrayView2<Self>, c: &mut ArrayViewMut2<Self>);
    fn mul_add(acc: Self, a: Self, b: Self) -> Self;
}

macro_rules! floats { ($($t:ty),*) => { $(impl Product for $t {
    fn gemm(a: &ArrayView2<$t>, b: &ArrayView2<$t>, c: &mut ArrayViewMut2<$t>) {
        general_mat_mul(1.0, a, b, 0.0, c);
    }
    fn mul_add(acc: $t, a: $t, b: $t) -> $t { acc + a * b }
})* } }
floats! { f32, f64 }

macro_rules! ints { ($($t:ty),*) => { $(impl Product for $t {
    fn gemm(a: &ArrayView2<$t>, b: &ArrayView2<$t>, c: &mut ArrayViewMut2<$t>) {
        let b = b.as_standard_layout();
        for (a, mut c) in a.rows().into_iter().zip(c.rows_mut()) {
            for (&x, b) in a.iter().zip(b.rows()) {
                c.iter_mut().zip(b).for_each(|(c, &y)| *c = c.wrapping_add(x.wrapping_mul(y)));
            }
        }
    }
    fn mul_add(acc: $t, a: $t, b: $t) -> $t { acc.wrapping_add(a.wrapping_mul(b)) }
})* } }
ints! { i32, i64 }

/// The type products of `dtype` are summed in.
fn sum_type(dtype: DType) -> DType {
    match dtype {
        DType::F64 => DType::F64,
        d if d.is_float() => DType::F32,
        DType::I64 | DType::U64 | DType::U32 => DType::I64,
        _ => DType::I32,
    }
}

macro_rules! by_sum {
    ($dtype:expr, $t:ident => $body:expr) => {
        match sum_type($dtype) {
            DType::F64 => {
                type $t = f64;
                $body
            }
            DType::F32 => {
                type $t = f32;
                $body
            }
            DType::I64 => {
                type $t = i64;
                $body
            }
            _ => {
                type $t = i32;
                $body
            }
        }
    };
}

/// Multiply-adds below which one thread does it all.
const ALONE: usize = 1 << 19;

/// `c[m, n] = a · b`, cut in blocks for the threads.
fn product<T: Product>(a: ArrayView2<T>, b: ArrayView2<T>, c: ArrayViewMut2<T>) {
    let (m, n, k) = (a.nrows(), b.ncols(), a.ncols());
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    if m.saturating_mul(n).saturating_mul(k) < ALONE {
        let mut c = c;
        return T::gemm(&a, &b, &mut c);
    }
    // Blocks of about a quarter of the longer side: each packs its operands once.
    let parts = 2 * rayon::current_num_threads();
    let mut c = c;
    if m >= n {
        let rows = m.div_ceil(parts).next_multiple_of(8);
        let blocks: Vec<_> = c.axis_chunks_iter_mut(Axis(0), rows).enumerate().collect();
        blocks.into_par_iter().for_each(|(i, mut c)| T::gemm(&a.slice(s![i * rows..i * rows + c.nrows(), ..]), &b, &mut c));
    } else {
        let cols = n.div_ceil(parts).next_multiple_of(8);
        let blocks: Vec<_> = c.axis_chunks_iter_mut(Axis(1), cols).enumerate().collect();
        blocks.into_par_iter().for_each(|(i, mut c)| T::gemm(&a, &b.slice(s![.., i * cols..i * cols + c.ncols()]), &mut c));
    }
}

/// The last two axes of a tensor as a matrix at a storage offset.
struct Matrices<'a, T> {
    data: &'a [T],
    shape: (usize, usize),
    strides: (usize, usize),
}

impl<'a, T: Elem> Matrices<'a, T> {
    fn new(t: &'a Tensor) -> Matrices<'a, T> {
        let r = t.rank();
        let (shape, strides) = (t.shape(), t.strides());
        Matrices {
            data: T::slice(t.buffer()),
            shape: (shape[r - 2], shape[r - 1]),
            strides: (strides[r - 2] as usize, strides[r - 1] as usize),
        }
    }
    fn at(&self, offset: usize) -> ArrayView2<'a, T> {
        ArrayView2::from_shape(self.shape.strides(self.strides), &self.data[offset..]).expect("the tensor's view fits its buffer")
    }
}

/// Strides that a matrix view takes as they are: none reversed, none repeated.
fn plain(t: Tensor) -> Tensor {
    let r = t.rank();
    let fine = (r - 2..r).all(|d| t.strides()[d] > 0 || (t.shape()[d] == 1 && t.strides()[d] >= 0)) && !t.is_empty();
    if fine { t } else { t.contiguous() }
}

/// numpy's matmul of operands of rank 2 or more; `shape` is the result's.
pub(crate) fn matmul(a: &Tensor, b: &Tensor, shape: &[usize]) -> Tensor {
    let dtype = a.dtype();
    let wide = sum_type(dtype);
    let (a, b) = (plain(a.cast(wide)), plain(b.cast(wide)));
    let out = by_sum!(dtype, T => Tensor::new(wide, shape, T::buffer(products::<T>(&a, &b, shape))));
    narrow(out, dtype)
}

fn products<T: Product>(a: &Tensor, b: &Tensor, shape: &[usize]) -> Vec<T> {
    let r = shape.len();
    let (m, n, k) = (shape[r - 2], shape[r - 1], a.shape()[a.rank() - 1]);
    let mut out = vec![T::default(); count(shape)];
    if out.is_empty() || k == 0 {
        return out;
    }
    let batch = &shape[..r - 2];
    // One right-hand matrix for all: the batch is more rows.
    if b.shape()[..b.rank() - 2].iter().all(|&n| n == 1) && a.is_contiguous() && count(batch) > 1 {
        let rows = count(&a.shape()[..a.rank() - 1]);
        if rows == out.len() / n {
            let a2 = a.view(&[rows, k], &[k as isize, 1], a.offset());
            let c = ArrayViewMut2::from_shape((rows, n), &mut out).expect("as many elements");
            product(Matrices::new(&a2).at(a2.offset()), Matrices::new(b).at(b.offset()), c);
            return out;
        }
    }
    let (x, y) = (Matrices::<T>::new(a), Matrices::<T>::new(b));
    // Storage offset of each matrix of the batch.
    let lead = |t: &Tensor| t.view(&t.shape()[..t.rank() - 2], &t.strides()[..t.rank() - 2], t.offset());
    let (la, lb) = (lead(a), lead(b));
    let loops = Loops::of(batch, [aligned(&la, batch), aligned(&lb, batch)], [a.offset(), b.offset()]);
    let [sa, sb] = loops.inner();
    let mut starts = Vec::with_capacity(count(batch));
    loops.rows(0, count(batch), |_, len, [oa, ob]| {
        starts.extend((0..len as isize).map(|i| ((oa as isize + i * sa) as usize, (ob as isize + i * sb) as usize)));
    });
    if let [(oa, ob)] = starts[..] {
        product(x.at(oa), y.at(ob), ArrayViewMut2::from_shape((m, n), &mut out).expect("as many elements"));
    } else {
        chunks(&mut out, m * n, m * n * k / 4, |i, c| {
            let mut c = ArrayViewMut2::from_shape((m, n), c).expect("as many elements");
            T::gemm(&x.at(starts[i].0), &y.at(starts[i].1), &mut c);
        });
    }
    out
}

/// Convolution of x[N, C, spatial] with w[M, C/groups, kernel]; `shape` is the result's.
pub(crate) fn conv(x: &Tensor, w: &Tensor, g: &Geometry, groups: usize, shape: &[usize]) -> Tensor {
    let dtype = x.dtype();
    let wide = sum_type(dtype);
    let (x, w) = (x.cast(wide).contiguous(), w.cast(wide).contiguous());
    let out = by_sum!(dtype, T => Tensor::new(wide, shape, T::buffer(convolve::<T>(&x, &w, g, groups, shape))));
    narrow(out, dtype)
}

/// Elements of a block of columns: what stays in a second-level cache.
const COLUMNS: usize = 1 << 17;

fn convolve<T: Product>(x: &Tensor, w: &Tensor, g: &Geometry, groups: usize, shape: &[usize]) -> Vec<T> {
    let (xv, wv) = (elements::<T>(x), elements::<T>(w));
    let (m, c, taps) = (w.shape()[0] / groups, w.shape()[1], g.taps());
    let (pixels, plane) = (g.pixels, g.plane);
    let mut out = vec![T::default(); count(shape)];
    let k = c * taps;
    if out.is_empty() || k == 0 {
        return out;
    }
    if c == 1 && m <= 2 {
        // Depthwise: each plane of the result is a sum of shifted rows of one plane.
        chunks(&mut out, pixels, pixels * taps, |i, y| {
            let (image, channel) = (i / (groups * m), i % (groups * m));
            let from = (image * groups + channel / m) * plane;
            let weights = &wv[channel * taps..(channel + 1) * taps];
            g.accumulate(&xv[from..from + plane], y, |a, t, v| T::mul_add(a, weights[t], v));
        });
        return out;
    }
    let images = shape[0] * groups;
    let pointwise = g.is_pointwise();
    let threads = rayon::current_num_threads();
    let alone = images.saturating_mul(m * k).saturating_mul(pixels) < ALONE;
    let cols = (COLUMNS / k).clamp(64, 4096).next_multiple_of(16).min(pixels);
    // Few columns: also cut the output channels, so that every thread has work. Each part gathers its columns anew, so no more parts
    // than that; where nothing is gathered smaller ones even the threads out.
    let blocks = images * pixels.div_ceil(cols);
    let parts = if pointwise { 2 * threads } else { threads };
    let rows = if alone || blocks >= parts { m } else { m.div_ceil(parts.div_ceil(blocks)).next_multiple_of(8).min(m) };
    let mut y = ArrayViewMut3::from_shape((images, m, pixels), &mut out).expect("as many elements");
    let mut work: Vec<(usize, usize, usize, ArrayViewMut2<T>)> = Vec::new();
    for (i, image) in y.outer_iter_mut().enumerate() {
        let mut rest = image;
        let mut start = 0;
        while start < pixels {
            let n = cols.min(pixels - start);
            let (block, tail) = rest.split_at(Axis(1), n);
            let mut block = block;
            let mut row = 0;
            while row < m {
                let height = rows.min(m - row);
                let (part, below) = block.split_at(Axis(0), height);
                work.push((i, start, row, part));
                block = below;
                row += height;
            }
            rest = tail;
            start += n;
        }
    }
    let one = |(i, start, row, mut part): (usize, usize, usize, ArrayViewMut2<T>)| {
        let (n, group) = (part.ncols(), i % groups);
        let image = &xv[i * c * plane..(i + 1) * c * plane];
        let weights = &wv[(group * m + row) * k..][..part.nrows() * k];
        let a = ArrayView2::from_shape((part.nrows(), k), weights).expect("as many weights");
        if pointwise {
            let b = ArrayView2::from_shape((c, plane), image).expect("as many pixels");
            return T::gemm(&a, &b.slice(s![.., start..start + n]), &mut part);
        }
        let mut columns = vec![T::default(); k * n];
        for (r, col) in columns.chunks_exact_mut(n).enumerate() {
            g.gather(r % taps, &image[r / taps * plane..(r / taps + 1) * plane], start..start + n, col);
        }
        let b = ArrayView2::from_shape((k, n), &columns).expect("as many columns");
        T::gemm(&a, &b, &mut part);
    };
    if alone {
        work.into_iter().for_each(one);
    } else {
        work.into_par_iter().for_each(one);
    }
    out
}
