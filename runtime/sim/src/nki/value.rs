//! Elements on the host: floats as f32 already rounded to their type, integers as i64 in their range, and a poison value for memory
//! that nothing has written.

use half::{bf16, f16};
use tahoma_core::DType;

/// A quiet NaN that arithmetic does not produce.
pub(crate) const POISON_F: u32 = 0x7fc0_dead;
/// Outside every integer type of the machine.
pub(crate) const POISON_I: i64 = i64::MIN;

/// A tensor's elements in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Data {
    F(Vec<f32>),
    I(Vec<i64>),
}

impl Default for Data {
    fn default() -> Data {
        Data::F(vec![])
    }
}

impl Data {
    pub(crate) fn poisoned(dtype: DType, len: usize) -> Data {
        if dtype.is_float() { Data::F(vec![f32::from_bits(POISON_F); len]) } else { Data::I(vec![POISON_I; len]) }
    }
    pub(crate) fn from_f32(dtype: DType, values: &[f32]) -> Data {
        if dtype.is_float() {
            let mut v = values.to_vec();
            round_all(dtype, &mut v);
            Data::F(v)
        } else {
            Data::I(values.iter().map(|&x| to_int(dtype, x)).collect())
        }
    }
    pub(crate) fn len(&self) -> usize {
        match self {
            Data::F(v) => v.len(),
            Data::I(v) => v.len(),
        }
    }
    pub(crate) fn to_f32(&self) -> Vec<f32> {
        match self {
            Data::F(v) => v.clone(),
            Data::I(v) => v.iter().map(|&x| x as f32).collect(),
        }
    }
    /// Index of the first poisoned element.
    pub(crate) fn first_poison(&self) -> Option<usize> {
        match self {
            Data::F(v) => v.iter().position(|x| x.to_bits() == POISON_F),
            Data::I(v) => v.iter().position(|&x| x == POISON_I),
        }
    }
}

/// Least and greatest value of an integer type.
pub(crate) fn int_range(dtype: DType) -> (i64, i64) {
    match dtype {
        DType::I8 => (i8::MIN as i64, i8::MAX as i64),
        DType::U8 => (0, u8::MAX as i64),
        DType::I16 => (i16::MIN as i64, i16::MAX as i64),
        DType::U16 => (0, u16::MAX as i64),
        DType::U32 => (0, u32::MAX as i64),
        _ => (i32::MIN as i64, i32::MAX as i64),
    }
}

/// f32 to integer: nearest even, saturating; NaN becomes 0.
pub(crate) fn to_int(dtype: DType, x: f32) -> i64 {
    let (lo, hi) = int_range(dtype);
    (x.round_ties_even() as i64).clamp(lo, hi)
}

/// Keeps the low bits, as integer arithmetic does.
pub(crate) fn wrap(dtype: DType, x: i64) -> i64 {
    match dtype {
        DType::I8 => x as i8 as i64,
        DType::U8 => x as u8 as i64,
        DType::I16 => x as i16 as i64,
        DType::U16 => x as u16 as i64,
        DType::U32 => x as u32 as i64,
        _ => x as i32 as i64,
    }
}

/// The dtype's bits, zero-extended (for shifts and inversion).
pub(crate) fn bits_of(dtype: DType, x: i64) -> i64 {
    x & ((1i64 << dtype.bits().min(32)) - 1)
}

/// Rounds to a small float with `man` mantissa bits, smallest normal exponent `emin` and largest finite value `max`; beyond is infinite.
fn round_small(x: f32, man: i32, emin: i32, max: f32) -> f32 {
    if !x.is_finite() || x == 0.0 {
        return x;
    }
    let e = ((x.to_bits() >> 23 & 0xff) as i32 - 127).max(emin);
    let ulp = f32::from_bits(((e - man + 127) as u32) << 23);
    let q = (x / ulp).round_ties_even() * ulp;
    if q.abs() > max { f32::INFINITY.copysign(x) } else { q }
}

fn round_bits(x: f32, drop: u32) -> f32 {
    let b = x.to_bits();
    if x.is_nan() {
        return f32::NAN;
    }
    let half = (1u32 << (drop - 1)) - 1;
    let r = b.wrapping_add(half + (b >> drop & 1)) >> drop << drop;
    f32::from_bits(r)
}

/// An f32 rounded to a float type.
pub(crate) fn round(dtype: DType, x: f32) -> f32 {
    match dtype {
        DType::BF16 => round_bits(x, 16),
        DType::TF32 => round_bits(x, 13),
        DType::F16 => round_small(x, 10, -14, 65504.0),
        DType::F8E4M3 => round_small(x, 3, -6, 240.0),
        DType::F8E5M2 => round_small(x, 2, -14, 57344.0),
        _ => x,
    }
}

pub(crate) fn round_all(dtype: DType, v: &mut [f32]) {
    match dtype {
        DType::F32 => {}
        DType::BF16 => v.iter_mut().for_each(|x| *x = round_bits(*x, 16)),
        d => v.iter_mut().for_each(|x| *x = round(d, *x)),
    }
}

/// The 8 bits of a rounded value: sign, exponent of bias `bias`, `man` mantissa bits.
fn small_bits(x: f32, man: u32, bias: i32) -> u8 {
    let sign = ((x.to_bits() >> 31) as u8) << 7;
    let top = (1u8 << (7 - man)) - 1;
    if x.is_nan() {
        return sign | top << man | 1 << (man - 1);
    }
    if x.is_infinite() {
        return sign | top << man;
    }
    let a = x.abs();
    let e = (a.to_bits() >> 23) as i32 - 127;
    let least = 1 - bias;
    if a == 0.0 {
        sign
    } else if e < least {
        sign | (a / 2f32.powi(least - man as i32)) as u8
    } else {
        sign | ((e + bias) as u8) << man | ((a.to_bits() >> (23 - man)) as u8 & ((1 << man) - 1))
    }
}

fn small_value(b: u8, man: u32, bias: i32) -> f32 {
    let sign = if b >> 7 == 1 { -1.0 } else { 1.0 };
    let (e, m) = ((b & 0x7f) >> man, (b & ((1 << man) - 1)) as f32);
    let scale = 2f32.powi(man as i32);
    if e as u32 == (1 << (7 - man)) - 1 {
        if m == 0.0 { sign * f32::INFINITY } else { f32::NAN }
    } else if e == 0 {
        sign * m / scale * 2f32.powi(1 - bias)
    } else {
        sign * (1.0 + m / scale) * 2f32.powi(e as i32 - bias)
    }
}

/// A caller's NaN may have any bits; it is never poison.
fn given(x: f32) -> f32 {
    if x.to_bits() == POISON_F { f32::NAN } else { x }
}

/// Elements from packed bytes. `None` for types the machine does not have or a length that is not a multiple.
pub(crate) fn decode(bytes: &[u8], dtype: DType) -> Option<Data> {
    let size = dtype.bits() as usize / 8;
    if size == 0 || !bytes.len().is_multiple_of(size) {
        return None;
    }
    let two = || bytes.as_chunks::<2>().0.iter();
    let four = || bytes.as_chunks::<4>().0.iter();
    Some(match dtype {
        DType::F32 | DType::TF32 => Data::F(four().map(|c| given(f32::from_le_bytes(*c))).collect()),
        DType::BF16 => Data::F(two().map(|c| bf16::from_le_bytes(*c).to_f32()).collect()),
        DType::F16 => Data::F(two().map(|c| f16::from_le_bytes(*c).to_f32()).collect()),
        DType::F8E4M3 => Data::F(bytes.iter().map(|&b| small_value(b, 3, 7)).collect()),
        DType::F8E5M2 => Data::F(bytes.iter().map(|&b| small_value(b, 2, 15)).collect()),
        DType::I32 => Data::I(four().map(|c| i32::from_le_bytes(*c) as i64).collect()),
        DType::U32 => Data::I(four().map(|c| u32::from_le_bytes(*c) as i64).collect()),
        DType::I16 => Data::I(two().map(|c| i16::from_le_bytes(*c) as i64).collect()),
        DType::U16 => Data::I(two().map(|c| u16::from_le_bytes(*c) as i64).collect()),
        DType::I8 => Data::I(bytes.iter().map(|&b| b as i8 as i64).collect()),
        DType::U8 => Data::I(bytes.iter().map(|&b| b as i64).collect()),
        _ => return None,
    })
}

/// Packed bytes of elements of `dtype`.
pub(crate) fn encode(data: &Data, dtype: DType) -> Vec<u8> {
    let mut out = Vec::with_capacity(dtype.bytes_for(data.len()));
    match data {
        Data::F(v) => match dtype {
            DType::BF16 => v.iter().for_each(|&x| out.extend(bf16::from_f32(x).to_le_bytes())),
            DType::F16 => v.iter().for_each(|&x| out.extend(f16::from_f32(x).to_le_bytes())),
            DType::F8E4M3 => v.iter().for_each(|&x| out.push(small_bits(x, 3, 7))),
            DType::F8E5M2 => v.iter().for_each(|&x| out.push(small_bits(x, 2, 15))),
            _ => v.iter().for_each(|&x| out.extend(x.to_le_bytes())),
        },
        Data::I(v) => {
            let size = dtype.bits() as usize / 8;
            v.iter().for_each(|&x| out.extend(&x.to_le_bytes()[..size.min(8)]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fp8_code_survives_decoding_and_encoding() {
        for d in [DType::F8E4M3, DType::F8E5M2] {
            for b in 0..=255u8 {
                let v = decode(&[b], d).unwrap();
                let Data::F(f) = &v else { panic!() };
                if !f[0].is_nan() {
                    assert_eq!(encode(&v, d), [b], "{d} {b:#x} {}", f[0]);
                    assert_eq!(round(d, f[0]), f[0]);
                }
            }
        }
        assert_eq!(round(DType::F8E4M3, 250.0), f32::INFINITY);
        assert_eq!(round(DType::F8E4M3, 247.0), 240.0);
    }

    #[test]
    fn rounding_is_to_nearest_even_as_the_half_crate_does() {
        let mut random = tahoma_core::random::Random::new(1);
        for _ in 0..20_000 {
            let x = f32::from_bits(random.bits() as u32);
            if x.is_nan() {
                continue;
            }
            assert_eq!(round(DType::F16, x), f16::from_f32(x).to_f32(), "{x}");
            assert_eq!(round(DType::BF16, x), bf16::from_f32(x).to_f32(), "{x}");
        }
        assert_eq!(to_int(DType::I8, 300.0), 127);
        assert_eq!(to_int(DType::I32, 2.5), 2);
        assert_eq!(to_int(DType::U8, -3.0), 0);
    }
}
