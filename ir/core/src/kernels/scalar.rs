//! The scalar functions on tensors: one operand, two operands, comparisons, choices.
//!
//! Floats below f64 compute in f32 and round once to the result type; integers wrap.

use super::cast::{compute_type, narrow, widen};
use super::map::{map1, map2, map3};
use super::{Elem, by_storage};
use crate::numeric;
use crate::op::OpError;
use crate::scalar::{Binary, Compare, Unary};
use crate::tensor::{Buffer, Tensor};
use crate::types::DType;

/// What the float functions need of f32 and f64.
macro_rules! float_functions {
    ($unary:ident, $binary:ident, $t:ident) => {
        fn $unary(u: Unary) -> fn($t) -> $t {
            match u {
                Unary::Sign => |x| if x.is_nan() || x == 0.0 { x } else { x.signum() },
                Unary::Rsqrt => |x| 1.0 / x.sqrt(),
                Unary::Exp => $t::exp,
                Unary::Log => $t::ln,
                Unary::Sin => $t::sin,
                Unary::Cos => $t::cos,
                Unary::Tan => $t::tan,
                Unary::Asin => $t::asin,
                Unary::Acos => $t::acos,
                Unary::Atan => $t::atan,
                Unary::Sinh => $t::sinh,
                Unary::Cosh => $t::cosh,
                Unary::Tanh => $t::tanh,
                Unary::Asinh => $t::asinh,
                Unary::Acosh => $t::acosh,
                Unary::Atanh => $t::atanh,
                Unary::Erf => |x| numeric::erf(x as f64) as $t,
                Unary::Sigmoid => |x| 1.0 / (1.0 + (-x).exp()),
                _ => |x| x,
            }
        }
        fn $binary(b: Binary) -> fn($t, $t) -> $t {
            match b {
                Binary::Mod => |x, y| {
                    let r = x % y;
                    if r != 0.0 && (r < 0.0) != (y < 0.0) { r + y } else { r }
                },
                Binary::Rem => |x, y| x % y,
                Binary::Pow => $t::powf,
                _ => |x, _| x,
            }
        }
    };
}
float_functions!(unary_f32, binary_f32, f32);
float_functions!(unary_f64, binary_f64, f64);

macro_rules! unary_floats {
    ($u:expr, $x:expr, $t:ident, $other:ident) => {
        match $u {
            Unary::Neg => map1($x, |v: $t| -v),
            Unary::Abs => map1($x, |v: $t| v.abs()),
            Unary::Reciprocal => map1($x, |v: $t| 1.0 / v),
            Unary::Sqrt => map1($x, |v: $t| v.sqrt()),
            Unary::Floor => map1($x, |v: $t| v.floor()),
            Unary::Ceil => map1($x, |v: $t| v.ceil()),
            Unary::Round => map1($x, |v: $t| v.round_ties_even()),
            other => map1($x, $other(other)),
        }
    };
}

/// Integers, as arithmetic sees them.
pub(crate) trait Int: Elem + Ord {
    /// The low bits.
    fn of(x: i128) -> Self;
    fn unary(u: Unary) -> fn(Self) -> Self;
    /// Division by zero is refused before.
    fn binary(b: Binary) -> fn(Self, Self) -> Self;
}

macro_rules! ints { ($($t:ident: $neg:expr, $sign:expr, $modulo:expr;)*) => { $(impl Int for $t {
    fn of(x: i128) -> $t { x as $t }
    fn unary(u: Unary) -> fn($t) -> $t {
        match u {
            Unary::Neg => |x| x.wrapping_neg(),
            Unary::Abs => $neg,
            Unary::Sign => $sign,
            Unary::BitNot => |x| !x,
            Unary::Not => |x| $t::from(x == 0),
            _ => |x| x,
        }
    }
    fn binary(b: Binary) -> fn($t, $t) -> $t {
        match b {
            Binary::Add => $t::wrapping_add,
            Binary::Sub => $t::wrapping_sub,
            Binary::Mul => $t::wrapping_mul,
            Binary::Div => |x, y| if y == 0 { 0 } else { x.wrapping_div(y) },
            Binary::Rem => |x, y| if y == 0 { 0 } else { x.wrapping_rem(y) },
            Binary::Mod => $modulo,
            Binary::Pow => |x, y| power(x as i128, y as i128) as $t,
            Binary::Max => |x, y| x.max(y),
            Binary::Min => |x, y| x.min(y),
            Binary::And | Binary::BitAnd => |x, y| x & y,
            Binary::Or | Binary::BitOr => |x, y| x | y,
            Binary::Xor | Binary::BitXor => |x, y| x ^ y,
            Binary::Shl => |x, y| if (y as u64) < $t::BITS as u64 { x << y } else { 0 },
            Binary::Shr => |x, y| if (y as u64) < $t::BITS as u64 { x >> y } else { (x >> ($t::BITS - 1)) >> ($t::BITS - 1) },
        }
    }
})* } }

macro_rules! floored {
    ($t:ident) => {
        |x: $t, y: $t| {
            if y == 0 {
                return 0;
            }
            let r = x.wrapping_rem(y);
            if r != 0 && (r < 0) != (y < 0) { r.wrapping_add(y) } else { r }
        }
    };
}

ints! {
    i64: |x| x.wrapping_abs(), |x| x.signum(), floored!(i64);
    i32: |x| x.wrapping_abs(), |x| x.signum(), floored!(i32);
    i16: |x| x.wrapping_abs(), |x| x.signum(), floored!(i16);
    i8: |x| x.wrapping_abs(), |x| x.signum(), floored!(i8);
    u64: |x| x, |x| x.min(1), |x, y| if y == 0 { 0 } else { x % y };
    u32: |x| x, |x| x.min(1), |x, y| if y == 0 { 0 } else { x % y };
    u16: |x| x, |x| x.min(1), |x, y| if y == 0 { 0 } else { x % y };
    u8: |x| x, |x| x.min(1), |x, y| if y == 0 { 0 } else { x % y };
}

/// `x` to the power `y`, wrapping; negative powers truncate towards zero.
pub(crate) fn power(x: i128, y: i128) -> i128 {
    if y < 0 {
        return match x {
            1 => 1,
            -1 => 1 - 2 * (y & 1),
            _ => 0,
        };
    }
    let (mut base, mut y, mut r) = (x, y, 1i128);
    while y > 0 {
        if y & 1 == 1 {
            r = r.wrapping_mul(base);
        }
        base = base.wrapping_mul(base);
        y >>= 1;
    }
    r
}

/// Runs `$body` with `$t` as the integer storage of `$dtype`.
macro_rules! by_int {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            DType::I64 => {
                type $t = i64;
                $body
            }
            DType::I32 => {
                type $t = i32;
                $body
            }
            DType::I16 => {
                type $t = i16;
                $body
            }
            DType::I8 | DType::I4 | DType::I2 => {
                type $t = i8;
                $body
            }
            DType::U64 => {
                type $t = u64;
                $body
            }
            DType::U32 => {
                type $t = u32;
                $body
            }
            DType::U16 => {
                type $t = u16;
                $body
            }
            _ => {
                type $t = u8;
                $body
            }
        }
    };
}
pub(crate) use by_int;

/// Brings results in 8-bit storage back into a sub-byte type (and bool to 0 and 1).
pub(crate) fn fit_bits(buffer: Buffer, dtype: DType) -> Buffer {
    match buffer {
        Buffer::I8(v) if dtype.bits() < 8 => Buffer::I8(v.into_iter().map(|x| numeric::wrap(dtype, x as i64) as i8).collect()),
        Buffer::U8(v) if dtype.bits() < 8 => Buffer::U8(v.into_iter().map(|x| numeric::wrap(dtype, x as i64) as u8).collect()),
        Buffer::U8(v) if dtype == DType::Bool => Buffer::U8(v.into_iter().map(|x| u8::from(x != 0)).collect()),
        b => b,
    }
}

/// `is_inf` for either sign or both.
pub(crate) fn is_inf(x: &Tensor, positive: bool, negative: bool) -> Tensor {
    let x = widen(x);
    let test = move |v: f64| v.is_infinite() && if v > 0.0 { positive } else { negative };
    let v = match x.dtype() {
        DType::F64 => map1(&x, move |v: f64| u8::from(test(v))),
        _ => map1(&x, move |v: f32| u8::from(test(v as f64))),
    };
    Tensor::new(DType::Bool, x.shape(), Buffer::U8(v))
}

pub(crate) fn unary(u: Unary, x: &Tensor) -> Tensor {
    let dtype = x.dtype();
    if u == Unary::IsInf {
        return is_inf(x, true, true);
    }
    if dtype.is_float() {
        let w = widen(x);
        if u == Unary::IsNan {
            let v = match w.dtype() {
                DType::F64 => map1(&w, |v: f64| u8::from(v.is_nan())),
                _ => map1(&w, |v: f32| u8::from(v.is_nan())),
            };
            return Tensor::new(DType::Bool, x.shape(), Buffer::U8(v));
        }
        let buffer = match w.dtype() {
            DType::F64 => Buffer::F64(unary_floats!(u, &w, f64, unary_f64)),
            _ => Buffer::F32(unary_floats!(u, &w, f32, unary_f32)),
        };
        return narrow(Tensor::new(compute_type(dtype), x.shape(), buffer), dtype);
    }
    let buffer = by_int!(dtype, T => T::buffer(map1(x, <T as Int>::unary(u))));
    Tensor::new(dtype, x.shape(), fit_bits(buffer, dtype))
}

macro_rules! binary_floats {
    ($b:expr, $s:expr, $x:expr, $y:expr, $t:ident, $other:ident) => {
        match $b {
            Binary::Add => map2($s, $x, $y, |v: $t, w: $t| v + w),
            Binary::Sub => map2($s, $x, $y, |v: $t, w: $t| v - w),
            Binary::Mul => map2($s, $x, $y, |v: $t, w: $t| v * w),
            Binary::Div => map2($s, $x, $y, |v: $t, w: $t| v / w),
            Binary::Max => map2($s, $x, $y, |v: $t, w: $t| if v > w || v.is_nan() { v } else { w }),
            Binary::Min => map2($s, $x, $y, |v: $t, w: $t| if v < w || v.is_nan() { v } else { w }),
            other => map2($s, $x, $y, $other(other)),
        }
    };
}

/// `b` of two operands of one type broadcast to `shape`.
pub(crate) fn binary(b: Binary, shape: &[usize], x: &Tensor, y: &Tensor) -> Result<Tensor, OpError> {
    let dtype = x.dtype();
    if dtype.is_float() {
        let (v, w) = (widen(x), widen(y));
        let buffer = match v.dtype() {
            DType::F64 => Buffer::F64(binary_floats!(b, shape, &v, &w, f64, binary_f64)),
            _ => Buffer::F32(binary_floats!(b, shape, &v, &w, f32, binary_f32)),
        };
        return Ok(narrow(Tensor::new(compute_type(dtype), shape, buffer), dtype));
    }
    let divides = matches!(b, Binary::Div | Binary::Mod | Binary::Rem);
    if divides && shape.iter().all(|&n| n > 0) && has_zero(y) {
        return Err(OpError::value("integer division by zero").mark(1, "must not be zero"));
    }
    let buffer = by_int!(dtype, T => T::buffer(map2(shape, x, y, <T as Int>::binary(b))));
    Ok(Tensor::new(dtype, shape, fit_bits(buffer, dtype)))
}

fn has_zero(y: &Tensor) -> bool {
    !crate::kernels::elements::<u8>(&y.cast(DType::Bool).contiguous()).iter().all(|&v| v != 0)
}

/// What a power of unlike types is computed in: a float power of an integer in f64, powers of integers in i64.
pub(crate) fn pow_type(base: DType, exponent: DType) -> DType {
    match (base.is_float(), exponent.is_float()) {
        (false, false) => DType::I64,
        (true, _) if base != DType::F64 && exponent != DType::F64 => compute_type(base),
        _ => DType::F64,
    }
}

/// `x` to the power `y`, in the type of `x` ([`pow_type`]).
pub(crate) fn pow(shape: &[usize], x: &Tensor, y: &Tensor) -> Result<Tensor, OpError> {
    let (a, b) = (x.dtype(), y.dtype());
    if a == b {
        return binary(Binary::Pow, shape, x, y);
    }
    let wide = pow_type(a, b);
    let r = binary(Binary::Pow, shape, &x.cast(wide), &y.cast(wide))?;
    Ok(if a.is_float() { narrow(r, a) } else { r.cast(a) })
}

pub(crate) fn compare(c: Compare, shape: &[usize], x: &Tensor, y: &Tensor) -> Tensor {
    let small = crate::numeric::decode_table(x.dtype()).is_some();
    let (x, y) = if small { (widen(x), widen(y)) } else { (x.clone(), y.clone()) };
    // One loop per storage and not per comparison: less code, and the table costs nothing beside the loads.
    let (lt, eq, gt, none) = match c {
        Compare::Eq => (0, 1, 0, 0),
        Compare::Ne => (1, 0, 1, 1),
        Compare::Lt => (1, 0, 0, 0),
        Compare::Le => (1, 1, 0, 0),
        Compare::Gt => (0, 0, 1, 0),
        Compare::Ge => (0, 1, 1, 0),
    };
    let v = by_storage!(x.buffer(), T => map2(shape, &x, &y, move |a: T, b: T| {
        if a < b { lt } else if a == b { eq } else if a > b { gt } else { none }
    }));
    Tensor::new(DType::Bool, shape, Buffer::U8(v))
}

pub(crate) fn select(shape: &[usize], c: &Tensor, a: &Tensor, b: &Tensor) -> Tensor {
    let buffer = by_storage!(a.buffer(), T => T::buffer(map3(shape, c, a, b, |c: u8, a: T, b: T| if c != 0 { a } else { b })));
    Tensor::new(a.dtype(), shape, buffer)
}
