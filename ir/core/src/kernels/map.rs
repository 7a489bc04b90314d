//! Maps: `out[i] = f(a[i], b[i], …)` over strided, broadcast operands.

use super::{Elem, Loops, count, fill};
use crate::tensor::Tensor;

fn at<T: Copy>(x: &[T], base: usize, i: usize, stride: isize) -> T {
    x[(base as isize + i as isize * stride) as usize]
}

/// `f` of every element, in row-major order.
pub(crate) fn map1<A: Elem, R: Elem>(a: &Tensor, f: impl Fn(A) -> R + Sync) -> Vec<R> {
    let mut out = vec![R::default(); a.len()];
    let l = Loops::new(a.shape(), [a]);
    let x = A::slice(a.buffer());
    let [sx] = l.inner();
    fill(&mut out, |start, block| {
        l.rows(start, start + block.len(), |p, n, [o]| {
            let dst = &mut block[p..p + n];
            match sx {
                1 => dst.iter_mut().zip(&x[o..o + n]).for_each(|(d, &v)| *d = f(v)),
                0 => dst.fill(f(x[o])),
                _ => dst.iter_mut().enumerate().for_each(|(i, d)| *d = f(at(x, o, i, sx))),
            }
        })
    });
    out
}

/// `f` of two operands broadcast to `shape`.
pub(crate) fn map2<A: Elem, B: Elem, R: Elem>(shape: &[usize], a: &Tensor, b: &Tensor, f: impl Fn(A, B) -> R + Sync) -> Vec<R> {
    let mut out = vec![R::default(); count(shape)];
    let l = Loops::new(shape, [a, b]);
    let (x, y) = (A::slice(a.buffer()), B::slice(b.buffer()));
    let [sx, sy] = l.inner();
    fill(&mut out, |start, block| {
        l.rows(start, start + block.len(), |p, n, [ox, oy]| {
            let dst = &mut block[p..p + n];
            match (sx, sy) {
                (1, 1) => dst.iter_mut().zip(&x[ox..ox + n]).zip(&y[oy..oy + n]).for_each(|((d, &v), &w)| *d = f(v, w)),
                (1, 0) => {
                    let w = y[oy];
                    dst.iter_mut().zip(&x[ox..ox + n]).for_each(|(d, &v)| *d = f(v, w));
                }
                (0, 1) => {
                    let v = x[ox];
                    dst.iter_mut().zip(&y[oy..oy + n]).for_each(|(d, &w)| *d = f(v, w));
                }
                _ => dst.iter_mut().enumerate().for_each(|(i, d)| *d = f(at(x, ox, i, sx), at(y, oy, i, sy))),
            }
        })
    });
    out
}

/// `f` of three operands broadcast to `shape`.
pub(crate) fn map3<A: Elem, B: Elem, C: Elem, R: Elem>(
    shape: &[usize],
    a: &Tensor,
    b: &Tensor,
    c: &Tensor,
    f: impl Fn(A, B, C) -> R + Sync,
) -> Vec<R> {
    let mut out = vec![R::default(); count(shape)];
    let l = Loops::new(shape, [a, b, c]);
    let (x, y, z) = (A::slice(a.buffer()), B::slice(b.buffer()), C::slice(c.buffer()));
    let [sx, sy, sz] = l.inner();
    fill(&mut out, |start, block| {
        l.rows(start, start + block.len(), |p, n, [ox, oy, oz]| {
            for (i, d) in block[p..p + n].iter_mut().enumerate() {
                *d = f(at(x, ox, i, sx), at(y, oy, i, sy), at(z, oz, i, sz));
            }
        })
    });
    out
}
