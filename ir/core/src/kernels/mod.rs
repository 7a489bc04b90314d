//! Loops of the reference evaluator: typed slices of a tensor's buffer, strided iteration with axes joined where strides allow, and
//! maps over one, two or three operands. Results are contiguous; work is cut into fixed blocks, so threads never change a bit.

pub(crate) mod cast;
pub(crate) mod contract;
pub(crate) mod gather;
pub(crate) mod map;
pub(crate) mod order;
pub(crate) mod reduce;
pub(crate) mod scalar;
pub(crate) mod window;

use crate::tensor::{Buffer, Tensor};
use half::{bf16, f16};
use rayon::prelude::*;

/// A storage type.
pub(crate) trait Elem: Copy + Default + Send + Sync + PartialOrd + 'static {
    fn buffer(v: Vec<Self>) -> Buffer;
    /// Panics on another storage: callers have matched the number type.
    fn slice(b: &Buffer) -> &[Self];
}

macro_rules! elems { ($($t:ty => $v:ident),*) => { $(impl Elem for $t {
    fn buffer(v: Vec<Self>) -> Buffer { Buffer::$v(v) }
    fn slice(b: &Buffer) -> &[Self] {
        match b { Buffer::$v(v) => v, _ => panic!("storage is not {}", stringify!($t)) }
    }
})* } }
elems! { f64 => F64, f32 => F32, f16 => F16, bf16 => BF16, i64 => I64, i32 => I32, i16 => I16, i8 => I8, u64 => U64, u32 => U32, u16 => U16, u8 => U8 }

/// Runs `$body` with `$t` as the storage type of the buffer.
macro_rules! by_storage {
    ($buffer:expr, $t:ident => $body:expr) => {
        match $buffer {
            $crate::tensor::Buffer::F64(_) => {
                type $t = f64;
                $body
            }
            $crate::tensor::Buffer::F32(_) => {
                type $t = f32;
                $body
            }
            $crate::tensor::Buffer::F16(_) => {
                type $t = half::f16;
                $body
            }
            $crate::tensor::Buffer::BF16(_) => {
                type $t = half::bf16;
                $body
            }
            $crate::tensor::Buffer::I64(_) => {
                type $t = i64;
                $body
            }
            $crate::tensor::Buffer::I32(_) => {
                type $t = i32;
                $body
            }
            $crate::tensor::Buffer::I16(_) => {
                type $t = i16;
                $body
            }
            $crate::tensor::Buffer::I8(_) => {
                type $t = i8;
                $body
            }
            $crate::tensor::Buffer::U64(_) => {
                type $t = u64;
                $body
            }
            $crate::tensor::Buffer::U32(_) => {
                type $t = u32;
                $body
            }
            $crate::tensor::Buffer::U16(_) => {
                type $t = u16;
                $body
            }
            $crate::tensor::Buffer::U8(_) => {
                type $t = u8;
                $body
            }
        }
    };
}
pub(crate) use by_storage;

/// Elements per block of parallel work.
pub(crate) const BLOCK: usize = 1 << 15;
/// Below this many elements one thread does it all.
const ALONE: usize = 1 << 16;

/// Fills `out` block by block; `f` gets the block's first position.
pub(crate) fn fill<R: Send>(out: &mut [R], f: impl Fn(usize, &mut [R]) + Sync) {
    if out.len() < ALONE {
        f(0, out);
    } else {
        out.par_chunks_mut(BLOCK).enumerate().for_each(|(i, c)| f(i * BLOCK, c));
    }
}

/// Fills `out` in chunks of `chunk` elements (rows, planes); `f` gets the chunk's index. `work` is the cost of one chunk in
/// elementary steps.
pub(crate) fn chunks<R: Send>(out: &mut [R], chunk: usize, work: usize, f: impl Fn(usize, &mut [R]) + Sync) {
    if chunk == 0 || out.is_empty() {
        return;
    }
    if (out.len() / chunk).saturating_mul(work) < ALONE {
        out.chunks_mut(chunk).enumerate().for_each(|(i, c)| f(i, c));
    } else {
        let per = (ALONE / 4 / work.max(1)).clamp(1, 1 << 12);
        out.par_chunks_mut(chunk * per).enumerate().for_each(|(i, many)| {
            for (j, c) in many.chunks_mut(chunk).enumerate() {
                f(i * per + j, c);
            }
        });
    }
}

/// The walk of `N` strided operands over one shape, axes joined where every operand allows.
pub(crate) struct Loops<const N: usize> {
    shape: Vec<usize>,
    strides: Vec<[isize; N]>,
    offsets: [isize; N],
}

/// Strides of `t` as an operand of an op over `shape`: right-aligned, 0 where it is broadcast.
pub(crate) fn aligned(t: &Tensor, shape: &[usize]) -> Vec<isize> {
    let skip = shape.len() - t.rank();
    (0..shape.len()).map(|i| if i < skip || t.shape()[i - skip] == 1 { 0 } else { t.strides()[i - skip] }).collect()
}

impl<const N: usize> Loops<N> {
    /// Operands broadcast to `shape`.
    pub(crate) fn new(shape: &[usize], operands: [&Tensor; N]) -> Loops<N> {
        let strides = operands.map(|t| aligned(t, shape));
        Loops::of(shape, strides, operands.map(|t| t.offset()))
    }
    /// Operands given by strides over `shape` and offset.
    pub(crate) fn of(shape: &[usize], strides: [Vec<isize>; N], offsets: [usize; N]) -> Loops<N> {
        let mut l = Loops { shape: vec![], strides: vec![], offsets: offsets.map(|o| o as isize) };
        for (i, &n) in shape.iter().enumerate() {
            if n == 1 {
                continue;
            }
            let s: [isize; N] = std::array::from_fn(|k| strides[k][i]);
            if let (Some(last), Some(before)) = (l.shape.last_mut(), l.strides.last_mut())
                && (0..N).all(|k| before[k] == s[k] * n as isize)
            {
                *last *= n;
                *before = s;
                continue;
            }
            l.shape.push(n);
            l.strides.push(s);
        }
        if l.shape.is_empty() {
            l.shape.push(1);
            l.strides.push([0; N]);
        }
        l
    }
    /// Strides along the fastest axis.
    pub(crate) fn inner(&self) -> [isize; N] {
        self.strides[self.shape.len() - 1]
    }
    /// Calls `f(position − start, count, operand offsets)` for each stretch along the fastest axis of positions `start..end`.
    pub(crate) fn rows(&self, start: usize, end: usize, mut f: impl FnMut(usize, usize, [usize; N])) {
        if start >= end {
            return;
        }
        let d = self.shape.len();
        let mut index = vec![0usize; d];
        let mut base = self.offsets;
        let mut rest = start;
        for a in (0..d).rev() {
            index[a] = rest % self.shape[a];
            rest /= self.shape[a];
            for k in 0..N {
                base[k] += index[a] as isize * self.strides[a][k];
            }
        }
        let mut at = start;
        while at < end {
            let n = (self.shape[d - 1] - index[d - 1]).min(end - at);
            f(at - start, n, base.map(|b| b as usize));
            at += n;
            index[d - 1] += n;
            for k in 0..N {
                base[k] += n as isize * self.strides[d - 1][k];
            }
            for a in (0..d).rev() {
                if index[a] < self.shape[a] {
                    break;
                }
                index[a] = 0;
                for k in 0..N {
                    base[k] -= self.shape[a] as isize * self.strides[a][k];
                }
                if a > 0 {
                    index[a - 1] += 1;
                    for k in 0..N {
                        base[k] += self.strides[a - 1][k];
                    }
                }
            }
        }
    }
}

/// Number of elements of a shape.
pub(crate) fn count(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// The elements of a contiguous tensor.
pub(crate) fn elements<T: Elem>(t: &Tensor) -> &[T] {
    &T::slice(t.buffer())[t.offset()..t.offset() + t.len()]
}
