//! Conversions between number types, exactly rounded: small floats by their bit layout, integers by saturation or wrapping.

use crate::tensor::{Buffer, Tensor};
use crate::types::{Class, DType};
use half::{bf16, f16};

/// Layout of a small float: exponent bits, mantissa bits, bias, and what its top codes mean.
struct Small {
    exponent: u32,
    mantissa: u32,
    bias: i32,
    special: Special,
}

#[derive(PartialEq)]
enum Special {
    /// Infinities and NaNs as IEEE.
    Ieee,
    /// One NaN (all ones), no infinity.
    Fn,
    /// NaN is negative zero's code; no infinity.
    Fnuz,
    /// Every code is a number.
    None,
}

fn small(d: DType) -> Option<Small> {
    use Special::*;
    let (exponent, mantissa, bias, special) = match d {
        DType::F8E4M3FN => (4, 3, 7, Fn),
        DType::F8E5M2 => (5, 2, 15, Ieee),
        DType::F8E4M3 => (4, 3, 7, Ieee),
        DType::F8E4M3FNUZ => (4, 3, 8, Fnuz),
        DType::F8E5M2FNUZ => (5, 2, 16, Fnuz),
        DType::F4E2M1 => (2, 1, 1, None),
        _ => return Option::None,
    };
    Some(Small { exponent, mantissa, bias, special })
}

/// The value of an 8-bit (or narrower) float code.
pub fn decode(d: DType, code: u8) -> f64 {
    if d == DType::F8E8M0 {
        return if code == 255 { f64::NAN } else { 2f64.powi(code as i32 - 127) };
    }
    let Some(s) = small(d) else { return code as f64 };
    let width = 1 + s.exponent + s.mantissa;
    let sign = code >> (width - 1) & 1 == 1;
    let e = (code >> s.mantissa) as i32 & ((1 << s.exponent) - 1);
    let m = (code & ((1 << s.mantissa) - 1)) as f64;
    let top = (1 << s.exponent) - 1;
    let full = (1u8 << s.mantissa) - 1;
    match s.special {
        Special::Fnuz if code == 0x80 => return f64::NAN,
        Special::Fn if e == top && (code & full) == full => return f64::NAN,
        Special::Ieee if e == top => {
            let inf = if sign { f64::NEG_INFINITY } else { f64::INFINITY };
            return if m == 0.0 { inf } else { f64::NAN };
        }
        _ => {}
    }
    let scale = (1u32 << s.mantissa) as f64;
    let v = if e == 0 { m / scale * 2f64.powi(1 - s.bias) } else { (1.0 + m / scale) * 2f64.powi(e - s.bias) };
    if sign { -v } else { v }
}

/// The code of the nearest value, ties to even. Beyond the largest: `saturate` gives the largest, else infinity, or NaN where there is none.
pub fn encode(d: DType, x: f64, saturate: bool) -> u8 {
    if d == DType::F8E8M0 {
        if x.is_nan() {
            return 255;
        }
        // Scales round up, so that what they scale does not overflow (ONNX Cast, round_mode "up").
        let e = x.abs().log2().ceil();
        return if x == 0.0 { 0 } else { (e + 127.0).clamp(0.0, 254.0) as u8 };
    }
    let Some(s) = small(d) else { return x as u8 };
    let width = 1 + s.exponent + s.mantissa;
    let sign_bit = if x.is_sign_negative() { 1u8 << (width - 1) } else { 0 };
    let nan = match s.special {
        Special::Fnuz => 0x80,
        // Without a NaN it becomes −0, as ONNX and ml_dtypes have it.
        Special::None => 1 << (width - 1),
        Special::Ieee => sign_bit | (((1u16 << (width - 1)) - 1) as u8 & !((1 << s.mantissa) - 1)) | 1 << (s.mantissa - 1),
        Special::Fn => sign_bit | ((1u16 << (width - 1)) - 1) as u8,
    };
    if x.is_nan() {
        return nan;
    }
    let top = (1i32 << s.exponent) - 1;
    let full = (1i32 << s.mantissa) - 1;
    let max_code = match s.special {
        Special::Ieee => ((top - 1) << s.mantissa) | full,
        Special::Fn => (top << s.mantissa) | (full - 1),
        _ => (top << s.mantissa) | full,
    };
    let a = x.abs();
    // Position in units of the smallest step of the value's binade, rounded to even.
    let code = if a == 0.0 {
        0
    } else if a.is_infinite() {
        i32::MAX
    } else {
        let e = (a.log2().floor() as i32).max(1 - s.bias);
        let e = if 2f64.powi(e) > a && e > 1 - s.bias { e - 1 } else { e };
        let step = 2f64.powi(e - s.mantissa as i32);
        let m = (a / step).round_ties_even() as i32;
        // m counts from the binade's zero: codes are consecutive, so a carry moves to the next exponent by itself.
        ((e + s.bias - 1) << s.mantissa) + m
    };
    if code > max_code {
        return match (saturate || s.special == Special::None, &s.special) {
            (true, _) => sign_bit | max_code as u8,
            (false, Special::Ieee) => sign_bit | (top << s.mantissa) as u8,
            (false, _) => nan,
        };
    }
    if code == 0 && s.special == Special::Fnuz { 0 } else { sign_bit | code as u8 }
}

/// Error function, to about 1e-15 (W. J. Cody's rational forms would be faster; a series and a continued fraction suffice here).
pub fn erf(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    let a = x.abs();
    if a > 6.0 {
        return x.signum();
    }
    if a < 2.5 {
        // erf x = 2/√π Σ (-1)^n x^(2n+1) / (n! (2n+1))
        let (mut sum, mut term, mut n) = (a, a, 0.0);
        while term.abs() > 1e-17 * sum.abs() && n < 200.0 {
            n += 1.0;
            term *= -a * a / n;
            sum += term / (2.0 * n + 1.0);
        }
        return (std::f64::consts::FRAC_2_SQRT_PI * sum).copysign(x);
    }
    // erfc by its continued fraction, evaluated backwards.
    let mut f = 0.0;
    for k in (1..=60).rev() {
        f = k as f64 / 2.0 / (a + f);
    }
    let erfc = (-a * a).exp() / std::f64::consts::PI.sqrt() / (a + f);
    (1.0 - erfc).copysign(x)
}

/// Elements widened for arithmetic: floats to f64, integers and bool to i64 (u64 by its bits).
pub(crate) enum Wide {
    F(Vec<f64>),
    I(Vec<i64>),
}

macro_rules! each {
    ($t:expr, $v:expr, $f:expr) => {{
        let r = $t.offset()..$t.offset() + $t.len();
        $v[r].iter().map($f).collect()
    }};
}

impl Tensor {
    pub(crate) fn wide(&self) -> Wide {
        let t = self.contiguous();
        let d = t.dtype();
        match t.buffer() {
            Buffer::F64(v) => Wide::F(each!(t, v, |&x| x)),
            Buffer::F32(v) => Wide::F(each!(t, v, |&x| x as f64)),
            Buffer::F16(v) => Wide::F(each!(t, v, |x: &f16| x.to_f64())),
            Buffer::BF16(v) => Wide::F(each!(t, v, |x: &bf16| x.to_f64())),
            Buffer::U8(v) if d.is_float() => Wide::F(each!(t, v, |&c| decode(d, c))),
            Buffer::I64(v) => Wide::I(each!(t, v, |&x| x)),
            Buffer::I32(v) => Wide::I(each!(t, v, |&x| x as i64)),
            Buffer::I16(v) => Wide::I(each!(t, v, |&x| x as i64)),
            Buffer::I8(v) => Wide::I(each!(t, v, |&x| x as i64)),
            Buffer::U64(v) => Wide::I(each!(t, v, |&x| x as i64)),
            Buffer::U32(v) => Wide::I(each!(t, v, |&x| x as i64)),
            Buffer::U16(v) => Wide::I(each!(t, v, |&x| x as i64)),
            Buffer::U8(v) => Wide::I(each!(t, v, |&x| x as i64)),
        }
    }
    /// Elements in order, as f64 (u64 by value).
    pub fn to_f64s(&self) -> Vec<f64> {
        match self.wide() {
            Wide::F(v) => v,
            Wide::I(v) if self.dtype() == DType::U64 => v.into_iter().map(|x| x as u64 as f64).collect(),
            Wide::I(v) => v.into_iter().map(|x| x as f64).collect(),
        }
    }
    /// Elements in order, rounded to f32.
    pub fn to_f32s(&self) -> Vec<f32> {
        let t = self.contiguous();
        match t.buffer() {
            Buffer::F32(v) => v[t.offset()..t.offset() + t.len()].to_vec(),
            _ => t.to_f64s().into_iter().map(|x| x as f32).collect(),
        }
    }
    /// A tensor of these values, each rounded once: floats to nearest even, integers towards zero and saturated, bool by ≠ 0.
    pub fn from_f64s(dtype: DType, shape: &[usize], v: &[f64]) -> Tensor {
        Tensor::new(dtype, shape, narrow_floats(dtype, v, true))
    }
    pub(crate) fn from_i64s(dtype: DType, shape: &[usize], v: &[i64]) -> Tensor {
        Tensor::new(dtype, shape, narrow_ints(dtype, v))
    }
    /// To another number type as ONNX's Cast: float to integer truncates and saturates (NaN: 0), integers wrap, to bool by ≠ 0,
    /// to fp8 saturating.
    pub fn cast(&self, to: DType) -> Tensor {
        self.cast_with(to, true)
    }
    /// [`Tensor::cast`] with fp8's saturation chosen.
    pub fn cast_with(&self, to: DType, saturate: bool) -> Tensor {
        if self.dtype() == to {
            return self.clone();
        }
        let t = self.contiguous();
        let buffer = match (t.buffer(), to) {
            (Buffer::I64(v), DType::F32) => Buffer::F32(each!(t, v, |&x| x as f32)),
            (Buffer::F64(v), DType::F32) => Buffer::F32(each!(t, v, |&x| x as f32)),
            (Buffer::F32(v), DType::TF32) => Buffer::F32(each!(t, v, |&x| round_tf32(x))),
            (Buffer::F32(v), DType::F16) => Buffer::F16(each!(t, v, |&x| f16::from_f32(x))),
            (Buffer::F32(v), DType::BF16) => Buffer::BF16(each!(t, v, |&x| bf16::from_f32(x))),
            _ => match t.wide() {
                Wide::F(v) => narrow_floats(to, &v, saturate),
                Wide::I(v) if to.is_float() && t.dtype() == DType::U64 => {
                    narrow_floats(to, &v.iter().map(|&x| x as u64 as f64).collect::<Vec<_>>(), saturate)
                }
                Wide::I(v) if to.is_float() => narrow_floats(to, &v.iter().map(|&x| x as f64).collect::<Vec<_>>(), saturate),
                Wide::I(v) => narrow_ints(to, &v),
            },
        };
        Tensor::new(to, self.shape(), buffer)
    }
    /// All elements equal to `x`.
    pub fn full(dtype: DType, shape: &[usize], x: f64) -> Tensor {
        let one = Tensor::from_f64s(dtype, &[], &[x]);
        one.view(shape, &vec![0; shape.len()], 0)
    }
}

fn round_tf32(x: f32) -> f32 {
    if !x.is_finite() {
        return x;
    }
    let b = x.to_bits();
    f32::from_bits((b + 0xfff + (b >> 13 & 1)) & !0x1fff)
}

fn narrow_floats(d: DType, v: &[f64], saturate: bool) -> Buffer {
    let int = |x: f64| -> i64 {
        let bits = d.bits() as i32;
        match d.class() {
            Class::Signed => (x as i64).clamp(-(2i128.pow(bits as u32 - 1)) as i64, (2i128.pow(bits as u32 - 1) - 1) as i64),
            _ if bits == 64 => x as u64 as i64,
            _ => (x as i64).clamp(0, (1i64 << bits) - 1),
        }
    };
    match d {
        DType::F64 => Buffer::F64(v.to_vec()),
        DType::F32 => Buffer::F32(v.iter().map(|&x| x as f32).collect()),
        DType::TF32 => Buffer::F32(v.iter().map(|&x| round_tf32(x as f32)).collect()),
        DType::F16 => Buffer::F16(v.iter().map(|&x| f16::from_f64(x)).collect()),
        DType::BF16 => Buffer::BF16(v.iter().map(|&x| bf16::from_f64(x)).collect()),
        DType::Bool => Buffer::U8(v.iter().map(|&x| u8::from(x != 0.0)).collect()),
        d if d.is_float() => Buffer::U8(v.iter().map(|&x| encode(d, x, saturate)).collect()),
        _ => narrow_ints(d, &v.iter().map(|&x| int(x)).collect::<Vec<_>>()),
    }
}

/// Wraps to the type's width.
fn narrow_ints(d: DType, v: &[i64]) -> Buffer {
    let sub = |x: i64, bits: u32| ((x << (64 - bits)) >> (64 - bits)) as i8;
    match d {
        DType::I64 => Buffer::I64(v.to_vec()),
        DType::I32 => Buffer::I32(v.iter().map(|&x| x as i32).collect()),
        DType::I16 => Buffer::I16(v.iter().map(|&x| x as i16).collect()),
        DType::I8 => Buffer::I8(v.iter().map(|&x| x as i8).collect()),
        DType::I4 | DType::I2 => Buffer::I8(v.iter().map(|&x| sub(x, d.bits())).collect()),
        DType::U64 => Buffer::U64(v.iter().map(|&x| x as u64).collect()),
        DType::U32 => Buffer::U32(v.iter().map(|&x| x as u32).collect()),
        DType::U16 => Buffer::U16(v.iter().map(|&x| x as u16).collect()),
        DType::U8 => Buffer::U8(v.iter().map(|&x| x as u8).collect()),
        DType::U4 | DType::U2 => Buffer::U8(v.iter().map(|&x| x as u8 & ((1 << d.bits()) - 1)).collect()),
        DType::Bool => Buffer::U8(v.iter().map(|&x| u8::from(x != 0)).collect()),
        d => narrow_floats(d, &v.iter().map(|&x| x as f64).collect::<Vec<_>>(), true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_small_float_code_survives_a_round_trip() {
        for d in [DType::F8E4M3FN, DType::F8E5M2, DType::F8E4M3, DType::F8E4M3FNUZ, DType::F8E5M2FNUZ, DType::F8E8M0] {
            for code in 0..=255u8 {
                let v = decode(d, code);
                if v.is_nan() {
                    assert!(decode(d, encode(d, v, true)).is_nan());
                } else {
                    assert_eq!(encode(d, v, false), code, "{d} {code:#x} = {v}");
                }
            }
        }
        assert_eq!(decode(DType::F8E4M3FN, 0x7e), 448.0);
        assert_eq!(decode(DType::F8E4M3, 0x77), 240.0);
        assert_eq!((0..8).map(|c| decode(DType::F4E2M1, c)).collect::<Vec<_>>(), [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]);
        assert_eq!(encode(DType::F8E4M3FN, 500.0, true), 0x7e);
        assert_eq!(encode(DType::F8E4M3FN, 500.0, false), 0x7f);
    }

    #[test]
    fn erf_is_exact_where_tables_are() {
        for (x, y) in
            [(0.0, 0.0), (0.5, 0.5204998778130465), (1.0, 0.8427007929497149), (2.0, 0.9953222650189527), (3.0, 0.9999779095030014)]
        {
            assert!((erf(x) - y).abs() < 1e-14 && (erf(-x) + y).abs() < 1e-14, "{x}");
        }
    }

    #[test]
    fn floats_become_integers_by_truncation_and_saturation() {
        let t = Tensor::f32(&[4], vec![1.9, -1.9, 300.0, f32::NAN]);
        assert_eq!(t.cast(DType::I8).buffer(), &Buffer::I8(vec![1, -1, 127, 0]));
        assert_eq!(t.cast(DType::U8).buffer(), &Buffer::U8(vec![1, 0, 255, 0]));
    }
}
