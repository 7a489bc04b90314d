//! Reductions and running combinations: `f` over rows, in eight lanes and then pairwise, which is fast and errs less than one sum.

use super::cast::{compute_type, narrow, widen};
use super::scalar::{Int, by_int, fit_bits};
use super::{Elem, chunks, count, elements};
use crate::numeric;
use crate::op::Monoid;
use crate::scalar::Binary;
use crate::tensor::{Buffer, Tensor};
use crate::types::DType;

/// Elements that are combined in lanes before halves are combined pairwise.
const RUN: usize = 4096;
const LANES: usize = 8;

fn fold_row<T: Elem>(v: &[T], start: T, f: &impl Fn(T, T) -> T) -> T {
    if v.len() > RUN {
        let (a, b) = v.split_at(v.len() / 2);
        return f(fold_row(a, start, f), fold_row(b, start, f));
    }
    let mut lanes = [start; LANES];
    let whole = v.chunks_exact(LANES);
    let rest = whole.remainder();
    for c in whole {
        for (l, &x) in lanes.iter_mut().zip(c) {
            *l = f(*l, x);
        }
    }
    for (l, &x) in lanes.iter_mut().zip(rest) {
        *l = f(*l, x);
    }
    let [a, b, c, d, e, g, h, i] = lanes;
    f(f(f(a, e), f(b, g)), f(f(c, h), f(d, i)))
}

/// `f` over `n` rows of `inner` columns, column by column, in runs so that errors stay small.
fn fold_columns<T: Elem>(v: &[T], inner: usize, start: T, f: &impl Fn(T, T) -> T, out: &mut [T]) {
    const ROWS: usize = 64;
    out.fill(start);
    if v.len() <= ROWS * inner {
        for row in v.chunks_exact(inner) {
            out.iter_mut().zip(row).for_each(|(o, &x)| *o = f(*o, x));
        }
        return;
    }
    let mut part = vec![start; inner];
    for run in v.chunks(ROWS * inner) {
        part.fill(start);
        for row in run.chunks_exact(inner) {
            part.iter_mut().zip(row).for_each(|(o, &x)| *o = f(*o, x));
        }
        out.iter_mut().zip(&part).for_each(|(o, &x)| *o = f(*o, x));
    }
}

/// `f` along sorted `axes` of `x`, in row-major order of the axes that stay.
fn fold<T: Elem>(x: &Tensor, axes: &[usize], start: T, f: impl Fn(T, T) -> T + Sync) -> Vec<T> {
    let s = x.shape();
    let kept: Vec<usize> = (0..x.rank()).filter(|d| !axes.contains(d)).collect();
    let n: usize = axes.iter().map(|&d| s[d]).product();
    let mut out = vec![start; kept.iter().map(|&d| s[d]).product()];
    if n == 0 || out.is_empty() {
        return out;
    }
    // Reduced axes that lie together with more axes after them: whole rows are combined at once.
    if let (Some(&first), Some(&last)) = (axes.first(), axes.last())
        && last + 1 - first == axes.len()
        && count(&s[last + 1..]) > 1
    {
        // The order of a sum follows from the shape alone, so that views and copies of them give the same bits.
        let inner = count(&s[last + 1..]);
        let x = x.contiguous();
        let v = elements::<T>(&x);
        chunks(&mut out, inner, n * inner, |o, c| fold_columns(&v[o * n * inner..(o + 1) * n * inner], inner, start, &f, c));
        return out;
    }
    let order: Vec<usize> = kept.iter().chain(axes).copied().collect();
    let shape: Vec<usize> = order.iter().map(|&d| s[d]).collect();
    let strides: Vec<isize> = order.iter().map(|&d| x.strides()[d]).collect();
    let rows = x.view(&shape, &strides, x.offset()).contiguous();
    let v = elements::<T>(&rows);
    chunks(&mut out, 1, n, |i, c| c[0] = fold_row(&v[i * n..(i + 1) * n], start, &f));
    out
}

macro_rules! monoid_float {
    ($m:expr, $t:ident, $with:ident) => {
        match $m {
            Monoid::Sum => $with!(0.0, |a: $t, b: $t| a + b),
            Monoid::Prod => $with!(1.0, |a: $t, b: $t| a * b),
            Monoid::Max | Monoid::Or => $with!($t::NEG_INFINITY, |a: $t, b: $t| if b > a || b.is_nan() { b } else { a }),
            Monoid::Min | Monoid::And => $with!($t::INFINITY, |a: $t, b: $t| if b < a || b.is_nan() { b } else { a }),
        }
    };
}
pub(super) use monoid_float;

/// Neutral element and function of a monoid on integers, as a pointer: one loop per storage and not per monoid.
pub(super) fn monoid_int<T: Int>(m: Monoid, dtype: DType) -> (T, fn(T, T) -> T) {
    let (lo, hi) = numeric::int_range(dtype);
    match m {
        Monoid::Sum => (T::of(0), T::binary(Binary::Add)),
        Monoid::Prod => (T::of(1), T::binary(Binary::Mul)),
        Monoid::Max | Monoid::Or => (T::of(lo), T::binary(Binary::Max)),
        Monoid::Min | Monoid::And => (T::of(hi), T::binary(Binary::Min)),
    }
}

/// `m` along sorted `axes`; the result has `shape` (with or without the axes as 1). Of nothing: the monoid's neutral element.
pub(crate) fn reduce(m: Monoid, x: &Tensor, axes: &[usize], shape: &[usize]) -> Tensor {
    let dtype = x.dtype();
    if dtype.is_float() {
        let x = widen(x);
        macro_rules! go {
            ($s:expr, $f:expr) => {
                fold(&x, axes, $s, $f)
            };
        }
        let buffer = match x.dtype() {
            DType::F64 => Buffer::F64(monoid_float!(m, f64, go)),
            _ => Buffer::F32(monoid_float!(m, f32, go)),
        };
        return narrow(Tensor::new(compute_type(dtype), shape, buffer), dtype);
    }
    let buffer = by_int!(dtype, T => {
        let (start, f) = monoid_int::<T>(m, dtype);
        T::buffer(fold(x, axes, start, f))
    });
    Tensor::new(dtype, shape, fit_bits(buffer, dtype))
}

fn run<T: Elem>(x: &Tensor, axis: usize, exclusive: bool, reverse: bool, start: T, f: impl Fn(T, T) -> T + Sync) -> Vec<T> {
    let x = x.contiguous();
    let (n, inner) = (x.shape()[axis], count(&x.shape()[axis + 1..]));
    let v = elements::<T>(&x);
    let mut out = vec![start; v.len()];
    chunks(&mut out, n * inner, n * inner, |o, c| {
        let v = &v[o * n * inner..(o + 1) * n * inner];
        let mut acc = vec![start; inner];
        for k in 0..n {
            let k = if reverse { n - 1 - k } else { k };
            for (j, a) in acc.iter_mut().enumerate() {
                let next = f(*a, v[k * inner + j]);
                c[k * inner + j] = if exclusive { *a } else { next };
                *a = next;
            }
        }
    });
    out
}

/// Running combination along an axis. Floats below f64 run in f32 and round once per element.
pub(crate) fn scan(m: Monoid, x: &Tensor, axis: usize, exclusive: bool, reverse: bool) -> Tensor {
    let dtype = x.dtype();
    if dtype.is_float() {
        let w = widen(x);
        macro_rules! go {
            ($s:expr, $f:expr) => {
                run(&w, axis, exclusive, reverse, $s, $f)
            };
        }
        let buffer = match w.dtype() {
            DType::F64 => Buffer::F64(monoid_float!(m, f64, go)),
            _ => Buffer::F32(monoid_float!(m, f32, go)),
        };
        return narrow(Tensor::new(compute_type(dtype), x.shape(), buffer), dtype);
    }
    let buffer = by_int!(dtype, T => {
        let (start, f) = monoid_int::<T>(m, dtype);
        T::buffer(run(x, axis, exclusive, reverse, start, f))
    });
    Tensor::new(dtype, x.shape(), fit_bits(buffer, dtype))
}

/// Softmax of contiguous rows of `n`, or its logarithm: e^(x − max)/Σ, each step rounded to f32 as the definition's ops round.
pub(crate) fn softmax_rows(x: &[f32], n: usize, log: bool) -> Vec<f32> {
    let mut out = vec![0f32; x.len()];
    let max = |a: f32, b: f32| if b > a || b.is_nan() { b } else { a };
    chunks(&mut out, n, n * 8, |i, c| {
        let row = &x[i * n..(i + 1) * n];
        let m = fold_row(row, f32::NEG_INFINITY, &max);
        let mut e: Vec<f32> = row.iter().map(|&v| (v - m).exp()).collect();
        let s = fold_row(&e, 0.0, &|a: f32, b| a + b);
        if log {
            let l = s.ln();
            c.iter_mut().zip(row).for_each(|(o, &v)| *o = (v - m) - l);
        } else {
            e.iter_mut().for_each(|v| *v /= s);
            c.copy_from_slice(&e);
        }
    });
    out
}

/// (x − mean)/√(variance + ε)·scale + bias of contiguous rows of `n`, each step rounded to f32 as the definition's ops round.
pub(crate) fn layer_norm_rows(x: &[f32], n: usize, scale: &[f32], bias: &[f32], epsilon: f32) -> Vec<f32> {
    let mut out = vec![0f32; x.len()];
    let add = |a: f32, b: f32| a + b;
    chunks(&mut out, n, n * 4, |i, c| {
        let row = &x[i * n..(i + 1) * n];
        let mean = fold_row(row, 0.0, &add) / n as f32;
        let d: Vec<f32> = row.iter().map(|v| v - mean).collect();
        let sq: Vec<f32> = d.iter().map(|v| v * v).collect();
        let s = (fold_row(&sq, 0.0, &add) / n as f32 + epsilon).sqrt();
        for (((o, d), k), b) in c.iter_mut().zip(&d).zip(scale).zip(bias) {
            *o = d / s * k + b;
        }
    });
    out
}
