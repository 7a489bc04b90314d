//! Packed little-endian bytes of tensors, as files and devices hold them: sub-byte types two or four per byte, low bits first.

use crate::tensor::{Buffer, Tensor};
use crate::types::DType;
use half::{bf16, f16};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! read {
    ($bytes:expr, $t:ty) => {
        $bytes.chunks_exact(size_of::<$t>()).map(|c| <$t>::from_le_bytes(c.try_into().unwrap_or_default())).collect()
    };
}

/// Splits packed sub-byte values (`bits` wide) into one per byte.
fn unpack(bytes: &[u8], bits: u32, count: usize) -> Vec<u8> {
    let (per, mask) = (8 / bits as usize, (1u16 << bits) as u8 - 1);
    (0..count).map(|i| bytes[i / per] >> (bits as usize * (i % per)) & mask).collect()
}

fn pack(codes: impl Iterator<Item = u8>, bits: u32, count: usize) -> Vec<u8> {
    let (per, mask) = (8 / bits as usize, (1u16 << bits) as u8 - 1);
    let mut out = vec![0; count.div_ceil(per)];
    for (i, c) in codes.enumerate() {
        out[i / per] |= (c & mask) << (bits as usize * (i % per));
    }
    out
}

impl Tensor {
    /// A tensor from packed bytes. `None` if the length is not what type and shape need. Bool: any non-zero byte is true.
    pub fn from_bytes(dtype: DType, shape: &[usize], bytes: &[u8]) -> Option<Tensor> {
        use DType::*;
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        if count.checked_mul(dtype.bits() as usize)?.div_ceil(8) != bytes.len() {
            return None;
        }
        let buffer = match dtype {
            F64 => Buffer::F64(read!(bytes, f64)),
            F32 | TF32 => Buffer::F32(read!(bytes, f32)),
            F16 => Buffer::F16(read!(bytes, f16)),
            BF16 => Buffer::BF16(read!(bytes, bf16)),
            I64 => Buffer::I64(read!(bytes, i64)),
            I32 => Buffer::I32(read!(bytes, i32)),
            I16 => Buffer::I16(read!(bytes, i16)),
            I8 => Buffer::I8(read!(bytes, i8)),
            I4 | I2 => {
                let shift = 8 - dtype.bits();
                Buffer::I8(unpack(bytes, dtype.bits(), count).into_iter().map(|c| ((c << shift) as i8) >> shift).collect())
            }
            U64 => Buffer::U64(read!(bytes, u64)),
            U32 => Buffer::U32(read!(bytes, u32)),
            U16 => Buffer::U16(read!(bytes, u16)),
            U4 | U2 | F4E2M1 => Buffer::U8(unpack(bytes, dtype.bits(), count)),
            Bool => Buffer::U8(bytes.iter().map(|&b| u8::from(b != 0)).collect()),
            U8 | F8E4M3FN | F8E5M2 | F8E4M3 | F8E4M3FNUZ | F8E5M2FNUZ | F8E8M0 => Buffer::U8(bytes.to_vec()),
        };
        Some(Tensor::new(dtype, shape, buffer))
    }

    /// Packed bytes in row-major order.
    pub fn to_bytes(&self) -> Vec<u8> {
        let t = self.contiguous();
        let range = t.offset()..t.offset() + t.len();
        macro_rules! write {
            ($v:expr) => {
                $v[range].iter().flat_map(|x| x.to_le_bytes()).collect()
            };
        }
        let bits = t.dtype().bits();
        match t.buffer() {
            Buffer::F64(v) => write!(v),
            Buffer::F32(v) => write!(v),
            Buffer::F16(v) => write!(v),
            Buffer::BF16(v) => write!(v),
            Buffer::I64(v) => write!(v),
            Buffer::I32(v) => write!(v),
            Buffer::I16(v) => write!(v),
            Buffer::I8(v) if bits < 8 => pack(v[range].iter().map(|&x| x as u8), bits, t.len()),
            Buffer::I8(v) => write!(v),
            Buffer::U64(v) => write!(v),
            Buffer::U32(v) => write!(v),
            Buffer::U16(v) => write!(v),
            Buffer::U8(v) if bits < 8 => pack(v[range].iter().copied(), bits, t.len()),
            Buffer::U8(v) => v[range].to_vec(),
        }
    }

    /// A row-major copy, or itself where it is one already.
    pub fn contiguous(&self) -> Tensor {
        if self.is_contiguous() {
            return self.clone();
        }
        crate::kernels::cast::copy(self)
    }

    /// Storage index of each element, in row-major order.
    pub fn storage_indices(&self) -> Vec<usize> {
        let mut out = Vec::with_capacity(self.len());
        if self.is_empty() {
            return out;
        }
        out.push(self.offset());
        for (&n, &s) in self.shape().iter().zip(self.strides()).rev() {
            // Grow from the fastest axis outwards: each axis repeats what is there, shifted by its stride.
            let block = out.len();
            for k in 1..n {
                for j in 0..block {
                    out.push((out[j] as isize + k as isize * s) as usize);
                }
            }
        }
        out
    }

    /// Bits for comparing and hashing small constants.
    pub fn bits_key(&self) -> Vec<u64> {
        let mut key = vec![self.dtype() as u64, self.rank() as u64];
        key.extend(self.shape().iter().map(|&n| n as u64));
        key.extend(self.to_bytes().chunks(8).map(|c| c.iter().rev().fold(0, |a, &b| a << 8 | b as u64)));
        key
    }

    /// The one element of a bool tensor.
    pub fn first_bool(&self) -> Option<bool> {
        match (self.dtype(), self.buffer()) {
            (DType::Bool, Buffer::U8(v)) if self.len() == 1 => v.get(self.offset()).map(|&b| b != 0),
            _ => None,
        }
    }

    /// Elements of an i64 or i32 tensor in order (shapes, axes, indices).
    pub fn to_ints(&self) -> Option<Vec<i64>> {
        let t = self.contiguous();
        let range = t.offset()..t.offset() + t.len();
        match t.buffer() {
            Buffer::I64(v) => Some(v[range].to_vec()),
            Buffer::I32(v) => Some(v[range].iter().map(|&x| x as i64).collect()),
            _ => None,
        }
    }
}

impl PartialEq for Tensor {
    /// Same type, shape and bits (so NaN equals the same NaN).
    fn eq(&self, o: &Tensor) -> bool {
        self.dtype() == o.dtype() && self.shape() == o.shape() && self.to_bytes() == o.to_bytes()
    }
}

/// JSON form of a small constant: packed bytes in hex.
#[derive(Serialize, Deserialize)]
struct Text {
    dtype: DType,
    shape: Vec<usize>,
    hex: String,
}

impl Serialize for Tensor {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let hex = self.to_bytes().iter().map(|b| format!("{b:02x}")).collect();
        Text { dtype: self.dtype(), shape: self.shape().to_vec(), hex }.serialize(s)
    }
}

impl<'de> Deserialize<'de> for Tensor {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Tensor, D::Error> {
        use serde::de::Error;
        let t = Text::deserialize(d)?;
        let nibble = |c: u8| (c as char).to_digit(16).map(|x| x as u8);
        let bytes: Option<Vec<u8>> = t.hex.as_bytes().chunks(2).map(|c| Some(nibble(c[0])? << 4 | nibble(*c.get(1)?)?)).collect();
        bytes
            .and_then(|b| Tensor::from_bytes(t.dtype, &t.shape, &b))
            .ok_or_else(|| D::Error::custom("tensor bytes do not match type and shape"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_byte_types_pack_low_bits_first() {
        let t = Tensor::from_bytes(DType::I4, &[3], &[0xf1, 0x08]).unwrap();
        assert_eq!(t.buffer(), &Buffer::I8(vec![1, -1, -8]));
        assert_eq!(t.to_bytes(), [0xf1, 0x08]);
    }

    #[test]
    fn a_transposed_view_becomes_contiguous_in_reading_order() {
        let t = Tensor::f32(&[2, 3], vec![0., 1., 2., 3., 4., 5.]);
        let v = t.view(&[3, 2], &[1, 3], 0);
        assert_eq!(v.contiguous().buffer(), &Buffer::F32(vec![0., 3., 1., 4., 2., 5.]));
    }

    #[test]
    fn json_keeps_bits() {
        let t = Tensor::f32(&[2], vec![f32::NAN, -0.0]);
        let back: Tensor = serde_json::from_str(&serde_json::to_string(&t).unwrap()).unwrap();
        assert_eq!(t, back);
    }
}
