//! Tensors as numbers: elements as f64 or f32, tensors from numbers, casts, fills, and a short text of a value.

use crate::kernels;
use crate::kernels::map::map1;
use crate::tensor::{Buffer, Tensor};
use crate::types::DType;
use std::fmt;

/// Elements widened for arithmetic: floats to f64, integers and bool to i64 (u64 by its bits).
enum Wide {
    F(Vec<f64>),
    I(Vec<i64>),
}

impl Tensor {
    fn wide(&self) -> Wide {
        if self.dtype().is_float() {
            Wide::F(self.to_f64s())
        } else {
            Wide::I(kernels::elements(&self.cast(DType::I64).contiguous()).to_vec())
        }
    }
    /// Elements in order, as f64 (integers above 2^53 are rounded).
    pub fn to_f64s(&self) -> Vec<f64> {
        kernels::elements(&self.cast(DType::F64).contiguous()).to_vec()
    }
    /// Elements in order, rounded to f32.
    pub fn to_f32s(&self) -> Vec<f32> {
        kernels::elements(&self.cast(DType::F32).contiguous()).to_vec()
    }
    /// A tensor of these values, as [`Tensor::cast`] converts them. Panics if the shape does not hold as many: a caller's bug.
    pub fn from_f64s(dtype: DType, shape: &[usize], v: &[f64]) -> Tensor {
        Tensor::new(DType::F64, shape, Buffer::F64(v.to_vec())).cast(dtype)
    }
    /// A tensor of these integers, as [`Tensor::cast`] converts them (u64 by its bits).
    pub fn from_i64s(dtype: DType, shape: &[usize], v: &[i64]) -> Tensor {
        Tensor::i64(shape, v.to_vec()).cast(dtype)
    }
    /// To another number type as ONNX's Cast: floats round to nearest even; float to integer truncates and saturates (NaN: 0), to
    /// the sub-byte integers truncates and wraps; integers wrap; to bool by ≠ 0; to fp8 saturating.
    pub fn cast(&self, to: DType) -> Tensor {
        self.cast_with(to, true)
    }
    /// [`Tensor::cast`] with fp8's saturation chosen.
    pub fn cast_with(&self, to: DType, saturate: bool) -> Tensor {
        kernels::cast::cast(self, to, saturate)
    }
    /// All elements equal to `x`; one element of storage.
    pub fn full(dtype: DType, shape: &[usize], x: f64) -> Tensor {
        Tensor::from_f64s(dtype, &[], &[x]).view(shape, &vec![0; shape.len()], 0)
    }
    /// Type and leading elements, for messages: `f32[2, 3] 0.5 1 2 … 7`.
    pub fn summary(&self) -> impl fmt::Display + '_ {
        Summary(self)
    }
}

struct Summary<'a>(&'a Tensor);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        let t = self.0;
        write!(f, "{}", t.ty())?;
        if t.len() <= SHOWN {
            for x in texts(t) {
                write!(f, " {x}")?;
            }
            return Ok(());
        }
        // Only the elements shown are read: the tensor may be large.
        let flat = |start: usize, n: usize| {
            let index: Vec<usize> = (start..start + n).collect();
            texts(&kernels::gather::pick(t, &[n], &index))
        };
        for x in flat(0, SHOWN - 1) {
            write!(f, " {x}")?;
        }
        write!(f, " … {}", flat(t.len() - 1, 1).concat())
    }
}

/// Each element as users write it.
pub(crate) fn texts(t: &Tensor) -> Vec<String> {
    match t.dtype() {
        DType::Bool => map1(&t.contiguous(), |b: u8| b).iter().map(|&b| (b != 0).to_string()).collect(),
        DType::F64 => t.to_f64s().iter().map(|x| x.to_string()).collect(),
        DType::U64 => map1(t, |x: u64| x).iter().map(|x| x.to_string()).collect(),
        d if d.is_float() => t.to_f32s().iter().map(|x| x.to_string()).collect(),
        _ => match t.wide() {
            Wide::I(v) => v.iter().map(|x| x.to_string()).collect(),
            Wide::F(v) => v.iter().map(|x| x.to_string()).collect(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_become_integers_by_truncation_and_saturation() {
        let t = Tensor::f32(&[4], vec![1.9, -1.9, 300.0, f32::NAN]);
        assert_eq!(t.cast(DType::I8).buffer(), &Buffer::I8(vec![1, -1, 127, 0]));
        assert_eq!(t.cast(DType::U8).buffer(), &Buffer::U8(vec![1, 0, 255, 0]));
        assert_eq!(t.cast(DType::Bool).buffer(), &Buffer::U8(vec![1, 1, 1, 1]));
        assert_eq!(Tensor::f32(&[2], vec![-9.0, 8.0]).cast(DType::I4).buffer(), &Buffer::I8(vec![7, -8]));
    }

    #[test]
    fn wide_integers_keep_their_value() {
        let t = Tensor::new(DType::U64, &[1], Buffer::U64(vec![u64::MAX]));
        assert_eq!(t.to_f64s(), [18446744073709551615.0]);
        assert_eq!(t.cast(DType::I64).to_ints().unwrap(), [-1]);
        assert_eq!(t.cast(DType::F32).to_f32s(), [u64::MAX as f32]);
    }

    #[test]
    fn every_type_casts_to_every_type() {
        for from in DType::all() {
            let t = Tensor::from_f64s(from, &[3], &[0.0, 1.0, 2.0]);
            for to in DType::all() {
                assert_eq!(t.cast(to).dtype(), to);
            }
        }
    }

    #[test]
    fn a_summary_is_short() {
        assert_eq!(Tensor::f32(&[2], vec![0.5, f32::NAN]).summary().to_string(), "f32[2] 0.5 NaN");
        let t = Tensor::i64(&[10], (0..10).collect());
        assert_eq!(t.summary().to_string(), "i64[10] 0 1 2 3 4 5 6 … 9");
    }
}
