//! Conversions between number types: the small floats (fp8, fp4, e8m0) by exact tables and one encoder, integers by wrapping.
//!
//! A small float has `e` exponent and `m` mantissa bits. Encoding rounds |x| to the nearest multiple of `2^(exponent − m)`, ties to
//! even, as though exponents had no end; what is then above the largest number overflows.

use crate::types::DType;
use std::sync::LazyLock;

/// The error function, within an ulp of f64.
pub fn erf(x: f64) -> f64 {
    libm::erf(x)
}

/// The value of an 8-bit (or narrower) float code; of other types, the code itself.
pub fn decode(dtype: DType, code: u8) -> f64 {
    decode_table(dtype).map_or(code as f64, |t| t[code as usize] as f64)
}

/// Layout of a small float (OCP 8-bit and microscaling formats, and Trainium2's e4m3).
struct Mini {
    dtype: DType,
    bits: u32,
    man: u32,
    bias: i32,
    max: f64,
    inf: Option<u8>,
    /// `None`: the format has no NaN (fp4).
    nan: Option<u8>,
    /// No negative zero; NaN is the code that would be it.
    fnuz: bool,
}

const MINIS: &[Mini] = &[
    Mini { dtype: DType::F8E4M3FN, bits: 8, man: 3, bias: 7, max: 448.0, inf: None, nan: Some(0x7f), fnuz: false },
    Mini { dtype: DType::F8E5M2, bits: 8, man: 2, bias: 15, max: 57344.0, inf: Some(0x7c), nan: Some(0x7e), fnuz: false },
    Mini { dtype: DType::F8E4M3, bits: 8, man: 3, bias: 7, max: 240.0, inf: Some(0x78), nan: Some(0x7c), fnuz: false },
    Mini { dtype: DType::F8E4M3FNUZ, bits: 8, man: 3, bias: 8, max: 240.0, inf: None, nan: Some(0x80), fnuz: true },
    Mini { dtype: DType::F8E5M2FNUZ, bits: 8, man: 2, bias: 16, max: 57344.0, inf: None, nan: Some(0x80), fnuz: true },
    Mini { dtype: DType::F4E2M1, bits: 4, man: 1, bias: 1, max: 6.0, inf: None, nan: None, fnuz: false },
];

impl Mini {
    fn decode(&self, code: u8) -> f32 {
        let sign_bit = 1u8 << (self.bits - 1);
        if self.fnuz && code == 0x80 {
            return f32::NAN;
        }
        let sign = if code & sign_bit != 0 { -1.0 } else { 1.0 };
        let low = code & (sign_bit - 1);
        if self.inf == Some(low) {
            return sign * f32::INFINITY;
        }
        let (exp, man) = ((low >> self.man) as i32, (low & ((1 << self.man) - 1)) as f64);
        let scale = 2f64.powi(exp.max(1) - self.bias);
        let unit = 2f64.powi(-(self.man as i32));
        let value = scale * if exp == 0 { man * unit } else { 1.0 + man * unit };
        if value > self.max { f32::NAN } else { (sign as f64 * value) as f32 }
    }

    fn encode(&self, x: f64, saturate: bool) -> u8 {
        let sign = u8::from(x.is_sign_negative()) << (self.bits - 1);
        if x.is_nan() {
            return match self.nan {
                Some(c) if self.fnuz => c,
                Some(c) => c | sign,
                None => 1 << (self.bits - 1),
            };
        }
        let a = x.abs();
        let exponent = ((a.to_bits() >> 52) as i32 - 1023).clamp(1 - self.bias, 1023);
        let quantum = 2f64.powi(exponent - self.man as i32);
        let q = (a / quantum).round_ties_even();
        if q * quantum > self.max {
            if saturate || self.nan.is_none() {
                return sign | self.code_of_max();
            }
            return match (self.inf, self.nan) {
                (Some(c), _) => sign | c,
                (None, Some(c)) if self.fnuz => c,
                (None, Some(c)) => sign | c,
                (None, None) => sign | self.code_of_max(),
            };
        }
        let (q, one) = (q as i32, 1i32 << self.man);
        let code = if q < one { q } else { ((exponent + self.bias) << self.man) + q - one } as u8;
        if self.fnuz && code == 0 { 0 } else { sign | code }
    }

    fn code_of_max(&self) -> u8 {
        let exponent = self.max.log2().floor() as i32;
        let q = (self.max / 2f64.powi(exponent - self.man as i32)) as i32;
        (((exponent + self.bias) << self.man) + q - (1 << self.man)) as u8
    }
}

static TABLES: LazyLock<Vec<Vec<f32>>> = LazyLock::new(|| {
    MINIS.iter().map(|m| (0..256).map(|c| m.decode(if m.bits == 4 { c as u8 & 15 } else { c as u8 })).collect()).collect()
});

static E8M0: LazyLock<Vec<f32>> = LazyLock::new(|| (0..256).map(|c| if c == 255 { f32::NAN } else { 2f64.powi(c - 127) as f32 }).collect());

/// The numbers that the 256 codes of an 8-bit (or 16 of a 4-bit) float stand for. `None` for other types.
pub fn decode_table(dtype: DType) -> Option<&'static [f32]> {
    if dtype == DType::F8E8M0 {
        return Some(&E8M0);
    }
    MINIS.iter().position(|m| m.dtype == dtype).map(|i| TABLES[i].as_slice())
}

/// The code of a small float nearest to `x`, ties to even. What overflows becomes the largest number if `saturate`, else infinity
/// or, without one, NaN (ONNX Cast). fp4 always saturates, and takes NaN as −0; e8m0 rounds away from zero to a power of two (ONNX
/// `round_mode = up`) and ignores the sign. Zero for types that are no small float.
pub fn encode(dtype: DType, x: f64, saturate: bool) -> u8 {
    if dtype == DType::F8E8M0 {
        return encode_e8m0(x, saturate);
    }
    MINIS.iter().find(|m| m.dtype == dtype).map_or(0, |m| m.encode(x, saturate))
}

fn encode_e8m0(x: f64, saturate: bool) -> u8 {
    let a = x.abs();
    if !a.is_finite() {
        return 255;
    }
    if a <= 2f64.powi(-127) {
        return 0;
    }
    let exponent = (a.to_bits() >> 52) as i32 - 1023;
    let up = exponent + i32::from(a > 2f64.powi(exponent)) + 127;
    if up > 254 { if saturate { 254 } else { 255 } } else { up as u8 }
}

/// `x` rounded to the 10 mantissa bits of tf32, ties to even.
pub fn round_tf32(x: f32) -> f32 {
    if !x.is_finite() {
        return x;
    }
    let b = x.to_bits();
    let up = 0xfff + (b >> 13 & 1);
    f32::from_bits((b + up) & !0x1fff)
}

/// `x` rounded to odd: the neighbour towards 0 with its last bit set, where `x` is no f32. Rounded once more, to a type with two digits less
/// or fewer, it gives what rounding `x` to that type gives, which the nearest f32 does not at halves (Boldo and Melquiond 2008).
pub fn odd_f32(x: f64) -> f32 {
    let y = x as f32;
    if x.is_nan() || f64::from(y) == x {
        return y;
    }
    let past = f64::from(y).abs() > x.abs();
    f32::from_bits((y.to_bits() - u32::from(past)) | 1)
}

/// The same of an integer as f64.
pub fn odd_f64(x: i128) -> f64 {
    let y = x as f64;
    let back = y as i128;
    if back == x {
        return y;
    }
    let past = back.unsigned_abs() > x.unsigned_abs();
    f64::from_bits((y.to_bits() - u64::from(past)) | 1)
}

/// `x` rounded once. (`half` rounds f64 twice, or leaves its low 32 bits aside.)
pub fn f16_of(x: f64) -> half::f16 {
    half::f16::from_f32(odd_f32(x))
}

/// `x` rounded once.
pub fn bf16_of(x: f64) -> half::bf16 {
    half::bf16::from_f32(odd_f32(x))
}

/// The low bits of `x` as an integer of `dtype`: sign-extended for signed types; for 64-bit types, as is.
pub fn wrap(dtype: DType, x: i64) -> i64 {
    let bits = dtype.bits();
    if dtype == DType::Bool {
        i64::from(x != 0)
    } else if bits >= 64 {
        x
    } else if dtype.is_signed_int() {
        x << (64 - bits) >> (64 - bits)
    } else {
        x & ((1i64 << bits) - 1)
    }
}

/// How a float type divides its bits: its largest number is below 2^(most + 1), its least normal one is 2^least, and each has `digits`
/// binary digits, the hidden one counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FloatFormat {
    pub digits: i32,
    pub most: i32,
    pub least: i32,
}

impl FloatFormat {
    /// Half a unit in the last place of 1: the most that one rounding is off, relative to the result.
    pub fn unit(&self) -> f64 {
        2f64.powi(-self.digits)
    }
    /// The exponent of the least number above 0.
    pub fn tiny(&self) -> i32 {
        self.least - (self.digits - 1)
    }
}

/// The format of a float type; `None` for other types.
pub fn float_format(dtype: DType) -> Option<FloatFormat> {
    let (digits, most, least) = match dtype {
        DType::F64 => (53, 1023, -1022),
        DType::F32 => (24, 127, -126),
        DType::TF32 => (11, 127, -126),
        DType::F16 => (11, 15, -14),
        DType::BF16 => (8, 127, -126),
        DType::F8E4M3FN => (4, 8, -6),
        DType::F8E4M3 => (4, 7, -6),
        DType::F8E4M3FNUZ => (4, 7, -7),
        DType::F8E5M2 => (3, 15, -14),
        DType::F8E5M2FNUZ => (3, 15, -15),
        DType::F4E2M1 => (2, 2, 0),
        DType::F8E8M0 => (1, 127, -127),
        _ => return None,
    };
    Some(FloatFormat { digits, most, least })
}

/// Smallest and largest value of an integer type.
pub fn int_range(dtype: DType) -> (i128, i128) {
    let bits = dtype.bits();
    match dtype {
        DType::Bool => (0, 1),
        d if d.is_signed_int() => (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1),
        _ => (0, (1i128 << bits) - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_a_round_trip() {
        for m in MINIS {
            for c in 0..1u32 << m.bits {
                let x = m.decode(c as u8);
                if x.is_nan() {
                    assert!(m.decode(m.encode(x as f64, true)).is_nan());
                } else {
                    assert_eq!(m.encode(x as f64, false), c as u8, "{:?} {c:#x} = {x}", m.dtype);
                }
            }
        }
        for c in 0..255u8 {
            assert_eq!(encode_e8m0(E8M0[c as usize] as f64, true), c);
        }
    }

    #[test]
    fn small_floats_round_to_the_nearest_even_code() {
        for m in MINIS {
            // Between neighbours: below the middle down, above up, at the middle to the even code.
            for c in 0..m.code_of_max() {
                let (a, b) = (m.decode(c) as f64, m.decode(c + 1) as f64);
                let mid = (a + b) / 2.0;
                assert_eq!(m.encode(mid, true), c + (c & 1), "{:?} {mid}", m.dtype);
                assert_eq!(m.encode(mid - (b - a) / 64.0, true), c);
                assert_eq!(m.encode(mid + (b - a) / 64.0, true), c + 1);
            }
        }
    }

    #[test]
    fn overflow_follows_the_table_of_onnx_cast() {
        let e = encode;
        let inf = f64::INFINITY;
        assert_eq!(
            (e(DType::F8E4M3FN, 500.0, true), e(DType::F8E4M3FN, 500.0, false), e(DType::F8E4M3FN, 464.0, false)),
            (0x7e, 0x7f, 0x7e)
        );
        assert_eq!((e(DType::F8E5M2, inf, true), e(DType::F8E5M2, -inf, false), e(DType::F8E5M2, 1e9, false)), (0x7b, 0xfc, 0x7c));
        assert_eq!((e(DType::F8E4M3FNUZ, inf, false), e(DType::F8E4M3FNUZ, inf, true), e(DType::F8E4M3FNUZ, -0.0, true)), (0x80, 0x7f, 0));
        assert_eq!((e(DType::F8E4M3, 1e9, true), e(DType::F8E4M3, 1e9, false)), (0x77, 0x78));
        assert_eq!((e(DType::F4E2M1, f64::NAN, true), e(DType::F4E2M1, -9.0, false), e(DType::F4E2M1, 0.25, true)), (8, 15, 0));
        assert_eq!((e(DType::F8E8M0, 0.0, true), e(DType::F8E8M0, 1.1, true), e(DType::F8E8M0, f64::NAN, true)), (0, 128, 255));
    }

    #[test]
    fn formats_are_those_of_the_codes() {
        for m in MINIS {
            let f = float_format(m.dtype).unwrap();
            let all: Vec<f64> = (0..1u32 << m.bits).map(|c| m.decode(c as u8) as f64).filter(|x| x.is_finite() && *x > 0.0).collect();
            let (low, high) = (all.iter().copied().fold(f64::MAX, f64::min), all.iter().copied().fold(0.0, f64::max));
            assert_eq!((low.log2(), high.log2().floor()), (f.tiny() as f64, f.most as f64), "{:?}", m.dtype);
            assert!(all.contains(&(1.0 + 4.0 * f.unit() / 2.0)) && !all.contains(&(1.0 + f.unit())), "{:?}", m.dtype);
        }
        let wide = [(DType::F64, f64::EPSILON, f64::MIN_POSITIVE), (DType::F32, f32::EPSILON as f64, f32::MIN_POSITIVE as f64)];
        for (d, epsilon, least) in wide {
            let f = float_format(d).unwrap();
            assert_eq!((2.0 * f.unit(), 2f64.powi(f.least)), (epsilon, least));
        }
        assert!(DType::all().all(|d| d.is_float() == float_format(d).is_some()));
    }

    #[test]
    fn integers_wrap() {
        assert_eq!((wrap(DType::I4, -9), wrap(DType::U4, -1), wrap(DType::I2, 2), wrap(DType::U64, -1)), (7, 15, -2, -1));
        assert_eq!(round_tf32(1.0 + 2f32.powi(-11)), 1.0);
        assert_eq!(round_tf32(1.0 + 3.0 * 2f32.powi(-11)), 1.0 + 2f32.powi(-9));
    }
}
