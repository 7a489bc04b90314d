//! Order: positions of extremes, the best k, distinct slices. NaN counts as the largest, as in numpy; equals keep their order.

use super::cast::widen;
use super::gather::{along, pick};
use super::{by_storage, chunks, count, elements};
use crate::numeric;
use crate::tensor::{Buffer, Tensor};
use crate::types::DType;
use std::cmp::Ordering;

#[allow(clippy::eq_op)]
fn order<T: PartialOrd>(a: &T, b: &T) -> Ordering {
    // Only a NaN differs from itself.
    a.partial_cmp(b).unwrap_or_else(|| (a != a).cmp(&(b != b)))
}

/// `x` in a storage whose own order is that of its numbers.
fn ordered(x: &Tensor) -> Tensor {
    if numeric::decode_table(x.dtype()).is_some() { widen(x) } else { x.clone() }.contiguous()
}

/// Position of the largest (or smallest) element along an axis that has one; the first of equals, or the last.
pub(crate) fn arg(x: &Tensor, axis: usize, largest: bool, last: bool, shape: &[usize]) -> Tensor {
    let x = ordered(x);
    let (n, inner) = (x.shape()[axis], count(&x.shape()[axis + 1..]));
    let mut out = vec![0i64; count(shape)];
    by_storage!(x.buffer(), T => {
        let v = elements::<T>(&x);
        chunks(&mut out, inner, n * inner, |o, c| {
            let v = &v[o * n * inner..(o + 1) * n * inner];
            let mut best = v[..inner].to_vec();
            for k in 1..n {
                for (j, x) in v[k * inner..(k + 1) * inner].iter().enumerate() {
                    let o = order(x, &best[j]);
                    let o = if largest { o } else { o.reverse() };
                    if o.is_gt() || (last && o.is_eq()) {
                        best[j] = *x;
                        c[j] = k as i64;
                    }
                }
            }
        });
    });
    Tensor::i64(shape, out)
}

/// The `k` largest (or smallest) elements along an axis, best first, and their positions; of equals the lower position first.
pub(crate) fn topk(x: &Tensor, k: usize, axis: usize, largest: bool, shape: &[usize]) -> [Tensor; 2] {
    let x = x.contiguous();
    let keys = ordered(&x);
    let (n, inner) = (x.shape()[axis], count(&x.shape()[axis + 1..]));
    let mut at = vec![0usize; count(shape)];
    by_storage!(keys.buffer(), T => {
        let v = elements::<T>(&keys);
        chunks(&mut at, k * inner, n * inner * 8, |o, c| {
            for j in 0..inner {
                let key = |p: usize| &v[(o * n + p) * inner + j];
                let better = |&p: &usize, &q: &usize| {
                    let o = order(key(p), key(q));
                    if largest { o.reverse() } else { o }.then(p.cmp(&q))
                };
                let mut line: Vec<usize> = (0..n).collect();
                if k < n && k > 0 {
                    line.select_nth_unstable_by(k - 1, better);
                    line.truncate(k);
                }
                line.sort_unstable_by(better);
                for (r, &p) in line.iter().take(k).enumerate() {
                    c[r * inner + j] = p;
                }
            }
        });
    });
    let flat: Vec<usize> = at.iter().enumerate().map(|(i, &p)| (i / (k * inner).max(1) * n + p) * inner + i % inner.max(1)).collect();
    [pick(&x, shape, &flat), Tensor::i64(shape, at.iter().map(|&p| p as i64).collect())]
}

/// Distinct slices along an axis: them, where each is first, which of them each slice is, and how often each occurs. Sorted, or in
/// order of first appearance.
pub(crate) fn unique(x: &Tensor, axis: usize, sorted: bool) -> [Tensor; 4] {
    let s = x.shape().to_vec();
    let (n, rest) = (s[axis], count(&s) / s[axis].max(1));
    // The axis first, so that a slice is a row.
    let perm: Vec<usize> = std::iter::once(axis).chain((0..s.len()).filter(|&d| d != axis)).collect();
    let shape: Vec<usize> = perm.iter().map(|&d| s[d]).collect();
    let strides: Vec<isize> = perm.iter().map(|&d| x.strides()[d]).collect();
    let rows = ordered(&x.view(&shape, &strides, x.offset()));
    // (first, count) of each distinct row, and the class of each row.
    let (mut first, mut counts, mut class) = (vec![], vec![], vec![0usize; n]);
    by_storage!(rows.buffer(), T => {
        let v = elements::<T>(&rows);
        let row = |i: usize| &v[i * rest..(i + 1) * rest];
        let compare = |p: usize, q: usize| row(p).iter().zip(row(q)).map(|(a, b)| order(a, b)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal);
        let mut at: Vec<usize> = (0..n).collect();
        at.sort_by(|&p, &q| compare(p, q));
        for (i, &p) in at.iter().enumerate() {
            // NaN equals no other NaN.
            let nan = row(p).iter().any(|a| a.partial_cmp(a).is_none());
            if i == 0 || nan || compare(at[i - 1], p).is_ne() {
                first.push(p);
                counts.push(0i64);
            }
            class[p] = first.len() - 1;
            counts[first.len() - 1] += 1;
        }
    });
    if !sorted {
        let mut by_place: Vec<usize> = (0..first.len()).collect();
        by_place.sort_by_key(|&c| first[c]);
        let mut new = vec![0; first.len()];
        by_place.iter().enumerate().for_each(|(i, &c)| new[c] = i);
        first = by_place.iter().map(|&c| first[c]).collect();
        counts = by_place.iter().map(|&c| counts[c]).collect();
        class.iter_mut().for_each(|c| *c = new[*c]);
    }
    let m = first.len();
    let values = along(x, axis, &first, &[m]);
    let ints = |v: Vec<usize>| Tensor::i64(&[v.len()], v.into_iter().map(|p| p as i64).collect());
    [values, ints(first), ints(class), Tensor::i64(&[m], counts)]
}

/// Positions of the elements that are not 0, one row per axis (at least one row).
pub(crate) fn nonzero(x: &Tensor) -> Tensor {
    let b = x.cast(DType::Bool).contiguous();
    let Buffer::U8(_) = b.buffer() else { return Tensor::i64(&[x.rank().max(1), 0], vec![]) };
    let hits: Vec<usize> = elements::<u8>(&b).iter().enumerate().filter(|(_, v)| **v != 0).map(|(i, _)| i).collect();
    let shape = if x.rank() == 0 { vec![1] } else { x.shape().to_vec() };
    let mut out = vec![0i64; shape.len() * hits.len()];
    for (c, &h) in hits.iter().enumerate() {
        let mut rest = h;
        for d in (0..shape.len()).rev() {
            out[d * hits.len() + c] = (rest % shape[d]) as i64;
            rest /= shape[d];
        }
    }
    Tensor::i64(&[shape.len(), hits.len()], out)
}
