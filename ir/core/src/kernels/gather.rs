//! Copies by index: gathers, scatters, concatenation, padding. Typed by storage, so every number type goes through.

use super::{Elem, Loops, by_storage, chunks, count, elements};
use crate::op::OpError;
use crate::tensor::{Tensor, contiguous_strides};

/// Elements of `x` at positions in row-major order, as a tensor of `shape`.
pub(crate) fn pick(x: &Tensor, shape: &[usize], at: &[usize]) -> Tensor {
    let strides = contiguous_strides(x.shape());
    let place = |p: usize| {
        let (mut rest, mut o) = (p, x.offset() as isize);
        for (d, &s) in strides.iter().enumerate() {
            o += (rest / s as usize) as isize * x.strides()[d];
            rest %= s as usize;
        }
        o as usize
    };
    let buffer = by_storage!(x.buffer(), T => {
        let v = T::slice(x.buffer());
        if x.is_contiguous() {
            T::buffer(at.iter().map(|&p| v[x.offset() + p]).collect())
        } else {
            T::buffer(at.iter().map(|&p| v[place(p)]).collect())
        }
    });
    Tensor::new(x.dtype(), shape, buffer)
}

/// Whole blocks of `len` elements of contiguous `x`, starting at each of `starts`, as a tensor of `shape`.
pub(crate) fn blocks(x: &Tensor, shape: &[usize], starts: &[usize], len: usize) -> Tensor {
    let x = x.contiguous();
    let buffer = by_storage!(x.buffer(), T => {
        let v = elements::<T>(&x);
        let mut out = vec![T::default(); count(shape)];
        chunks(&mut out, len, len, |i, c| c.copy_from_slice(&v[starts[i]..starts[i] + len]));
        T::buffer(out)
    });
    Tensor::new(x.dtype(), shape, buffer)
}

/// `x` along axis `axis` at `at` (positions in range), which have the shape `at_shape`.
pub(crate) fn along(x: &Tensor, axis: usize, at: &[usize], at_shape: &[usize]) -> Tensor {
    let x = x.contiguous();
    let s = x.shape();
    let (outer, n, inner) = (count(&s[..axis]), s[axis], count(&s[axis + 1..]));
    let shape: Vec<usize> = s[..axis].iter().chain(at_shape).chain(&s[axis + 1..]).copied().collect();
    let starts: Vec<usize> = (0..outer).flat_map(|o| at.iter().map(move |&p| (o * n + p) * inner)).collect();
    blocks(&x, &shape, &starts, inner)
}

/// Parts one after the other along `axis`; `shape` is the result's.
pub(crate) fn concat(parts: &[Tensor], axis: usize, shape: &[usize]) -> Tensor {
    let (outer, inner) = (count(&shape[..axis]), count(&shape[axis + 1..]));
    let parts: Vec<Tensor> = parts.iter().map(Tensor::contiguous).collect();
    let buffer = by_storage!(parts[0].buffer(), T => {
        let slices: Vec<(&[T], usize)> = parts.iter().map(|p| (elements::<T>(p), p.shape()[axis] * inner)).collect();
        let mut out = Vec::with_capacity(count(shape));
        for o in 0..outer {
            for (v, n) in &slices {
                out.extend_from_slice(&v[o * n..(o + 1) * n]);
            }
        }
        T::buffer(out)
    });
    Tensor::new(parts[0].dtype(), shape, buffer)
}

/// `x` inside a tensor of `shape` filled with `value` (one element of its type): element i of an axis lands at `low + i·step`,
/// where that is inside.
pub(crate) fn pad(x: &Tensor, shape: &[usize], low: &[i64], step: &[i64], value: &Tensor) -> Tensor {
    // Elements that land inside, per axis: first, how many, and where the first one lands.
    let rank = x.rank();
    let (mut first, mut n, mut to) = (vec![0usize; rank], vec![0usize; rank], vec![0usize; rank]);
    for d in 0..rank {
        let (len, lo, st) = (x.shape()[d] as i64, low[d], step[d]);
        let skip = if lo < 0 { (-lo + st - 1) / st } else { 0 };
        let room = shape[d] as i64 - lo;
        let end = if room <= 0 { 0 } else { (room + st - 1) / st }.min(len);
        first[d] = skip as usize;
        n[d] = (end - skip).max(0) as usize;
        to[d] = (lo + skip * st).max(0) as usize;
    }
    let out_strides = contiguous_strides(shape);
    let buffer = by_storage!(x.buffer(), T => {
        let fill = T::slice(value.buffer())[value.offset()];
        let mut out = vec![fill; count(shape)];
        if n.iter().all(|&n| n > 0) {
            let v = T::slice(x.buffer());
            let from = x.offset() as isize + first.iter().zip(x.strides()).map(|(&f, &s)| f as isize * s).sum::<isize>();
            let at: usize = to.iter().zip(&out_strides).map(|(&t, &s)| t * s as usize).sum();
            let steps: Vec<isize> = out_strides.iter().zip(step).map(|(&s, &t)| s * t as isize).collect();
            let l = Loops::of(&n, [x.strides().to_vec(), steps], [from as usize, at]);
            let [si, so] = l.inner();
            l.rows(0, count(&n), |_, len, [i, o]| {
                if si == 1 && so == 1 {
                    out[o..o + len].copy_from_slice(&v[i..i + len]);
                } else {
                    for k in 0..len as isize {
                        out[(o as isize + k * so) as usize] = v[(i as isize + k * si) as usize];
                    }
                }
            });
        }
        T::buffer(out)
    });
    Tensor::new(x.dtype(), shape, buffer)
}

/// `x` with `updates[i]` combined into place `at[i]` (row-major positions), in order. `how` works in the storage type.
pub(crate) fn scatter<T: Elem>(x: &Tensor, at: &[usize], updates: &Tensor, how: impl Fn(T, T) -> T) -> Tensor {
    let (x, u) = (x.contiguous(), updates.contiguous());
    let mut out = elements::<T>(&x).to_vec();
    for (&p, &v) in at.iter().zip(elements::<T>(&u)) {
        out[p] = how(out[p], v);
    }
    Tensor::new(x.dtype(), x.shape(), T::buffer(out))
}

/// Integer positions along an axis of `n`; negative ones count from the end. Errors: outside.
pub(crate) fn positions(t: &Tensor, n: usize) -> Result<Vec<usize>, OpError> {
    let wide = t.cast(crate::types::DType::I64).contiguous();
    elements::<i64>(&wide)
        .iter()
        .map(|&i| {
            let p = if i < 0 { i.saturating_add(n as i64) } else { i };
            usize::try_from(p).ok().filter(|&p| p < n).ok_or_else(|| {
                OpError::value(format!("index {i} is outside an axis of {n}"))
                    .mark(1, format!("must be from {} to {}", -(n as i64), n as i64 - 1))
            })
        })
        .collect()
}
