//! Casts between number types.
//!
//! Float to float rounds once, ties to even. Float to integer truncates and saturates (NaN gives 0); to the sub-byte integers it
//! truncates and wraps, as ONNX does. Integer to integer wraps. To bool: not zero.

use super::map::map1;
use super::{Elem, by_storage};
use crate::numeric;
use crate::tensor::{Buffer, Tensor};
use crate::types::{Class, DType};
use half::{bf16, f16};

/// A stored number on its way to another type. Codes of small floats are decoded before.
trait Number: Elem {
    fn f64(self) -> f64;
    /// To be rounded to fewer digits: to odd where f64 does not hold it.
    fn odd(self) -> f64;
    fn f32(self) -> f32;
    /// Truncated; u64 by its bits.
    fn i64(self) -> i64;
}

macro_rules! ints { ($($t:ty),*) => { $(impl Number for $t {
    fn f64(self) -> f64 { self as f64 }
    fn odd(self) -> f64 { numeric::odd_f64(self as i128) }
    fn f32(self) -> f32 { self as f32 }
    fn i64(self) -> i64 { self as i64 }
})* } }
ints! { i64, i32, i16, i8, u64, u32, u16, u8 }

macro_rules! floats { ($($t:ty: $x:ident => $f64:expr, $f32:expr;)*) => { $(impl Number for $t {
    fn f64(self) -> f64 { let $x = self; $f64 }
    fn odd(self) -> f64 { self.f64() }
    fn f32(self) -> f32 { let $x = self; $f32 }
    fn i64(self) -> i64 { self.f64() as i64 }
})* } }
floats! {
    f64: x => x, x as f32;
    f32: x => x as f64, x;
    f16: x => x.to_f64(), x.to_f32();
    bf16: x => x.to_f64(), x.to_f32();
}

/// `x` as `to`. `saturate` decides the overflow of fp8 and e8m0.
///
/// Pairs that models meet convert directly; the rest go through f64 or i64, which hold every narrower number, so that code does not
/// grow with the square of the types.
pub(crate) fn cast(x: &Tensor, to: DType, saturate: bool) -> Tensor {
    let from = x.dtype();
    if from == to {
        return x.clone();
    }
    let made = |buffer| Tensor::new(to, x.shape(), buffer);
    if let Some(table) = numeric::decode_table(from) {
        let wide = Tensor::new(DType::F32, x.shape(), Buffer::F32(map1(x, |c: u8| table[c as usize])));
        return if to == DType::F32 { wide } else { cast(&wide, to, saturate) };
    }
    match (x.buffer(), to) {
        (Buffer::F32(_), DType::F16) => return made(Buffer::F16(map1(x, f16::from_f32))),
        (Buffer::F32(_), DType::BF16) => return made(Buffer::BF16(map1(x, bf16::from_f32))),
        (Buffer::F32(_), DType::TF32) => return made(Buffer::F32(map1(x, numeric::round_tf32))),
        (Buffer::F32(_), DType::F32) => return x.clone().with_dtype(to),
        (_, DType::F32) => return made(Buffer::F32(by_storage!(x.buffer(), T => map1(x, |v: T| v.f32())))),
        (_, DType::Bool) => return made(Buffer::U8(by_storage!(x.buffer(), T => map1(x, |v: T| u8::from(v != T::default()))))),
        _ => {}
    }
    if to.is_float() {
        let wide = |buffer| Tensor::new(DType::F64, x.shape(), Buffer::F64(buffer));
        let wide = match (from, to) {
            (DType::F64, _) => x.contiguous(),
            (_, DType::F64) => wide(by_storage!(x.buffer(), T => map1(x, |v: T| v.f64()))),
            _ => wide(by_storage!(x.buffer(), T => map1(x, |v: T| v.odd()))),
        };
        return match to {
            DType::F64 => wide,
            DType::TF32 => made(Buffer::F32(map1(&wide, |v: f64| numeric::round_tf32(numeric::odd_f32(v))))),
            DType::F16 => made(Buffer::F16(map1(&wide, numeric::f16_of))),
            DType::BF16 => made(Buffer::BF16(map1(&wide, numeric::bf16_of))),
            _ => made(Buffer::U8(map1(&wide, |v: f64| numeric::encode(to, v, saturate)))),
        };
    }
    if from.is_float() && !matches!(to, DType::I64 | DType::I4 | DType::I2 | DType::U4 | DType::U2) {
        let wide = cast(x, DType::F64, saturate);
        return made(match to {
            DType::I32 => Buffer::I32(map1(&wide, |v: f64| v as i32)),
            DType::I16 => Buffer::I16(map1(&wide, |v: f64| v as i16)),
            DType::I8 => Buffer::I8(map1(&wide, |v: f64| v as i8)),
            DType::U64 => Buffer::U64(map1(&wide, |v: f64| v as u64)),
            DType::U32 => Buffer::U32(map1(&wide, |v: f64| v as u32)),
            DType::U16 => Buffer::U16(map1(&wide, |v: f64| v as u16)),
            _ => Buffer::U8(map1(&wide, |v: f64| v as u8)),
        });
    }
    let wide = if from == DType::I64 { x.clone() } else { Tensor::i64(x.shape(), by_storage!(x.buffer(), T => map1(x, |v: T| v.i64()))) };
    made(match to {
        DType::I64 => return wide,
        DType::I32 => Buffer::I32(map1(&wide, |v: i64| v as i32)),
        DType::I16 => Buffer::I16(map1(&wide, |v: i64| v as i16)),
        DType::U64 => Buffer::U64(map1(&wide, |v: i64| v as u64)),
        DType::U32 => Buffer::U32(map1(&wide, |v: i64| v as u32)),
        DType::U16 => Buffer::U16(map1(&wide, |v: i64| v as u16)),
        d if d.is_signed_int() => Buffer::I8(map1(&wide, move |v: i64| numeric::wrap(d, v) as i8)),
        d => Buffer::U8(map1(&wide, move |v: i64| numeric::wrap(d, v) as u8)),
    })
}

/// A row-major copy.
pub(crate) fn copy(x: &Tensor) -> Tensor {
    let buffer = by_storage!(x.buffer(), T => T::buffer(map1(x, |v: T| v)));
    Tensor::new(x.dtype(), x.shape(), buffer)
}

/// The type that arithmetic of `dtype` is done in: f64 for f64, f32 for other floats, itself for the rest.
pub(crate) fn compute_type(dtype: DType) -> DType {
    match (dtype.class(), dtype) {
        (Class::Float, DType::F64) => DType::F64,
        (Class::Float, _) => DType::F32,
        _ => dtype,
    }
}

/// `x` in its compute type.
pub(crate) fn widen(x: &Tensor) -> Tensor {
    cast(x, compute_type(x.dtype()), true)
}

/// The result of arithmetic rounded to `dtype`; overflow of the small floats is as IEEE's (infinity or NaN).
pub(crate) fn narrow(x: Tensor, dtype: DType) -> Tensor {
    if x.dtype() == dtype { x } else { cast(&x, dtype, false) }
}
