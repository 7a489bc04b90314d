//! Tensors on the host: a shared typed buffer seen through shape, strides and offset, so that transposing, slicing,
//! broadcasting and (where strides allow) reshaping copy nothing.
//!
//! Storage is one element per slot: `f32` for f32 and tf32, 8-bit codes for fp8, fp4 and e8m0, bytes for the small integers and bool.
//! Packed bytes (files, devices) are made by [`Tensor::from_bytes`] and [`Tensor::to_bytes`].

use crate::types::{DType, Shape, TensorType};
use half::{bf16, f16};
use std::sync::Arc;

/// Elements in storage order.
#[derive(Clone, Debug, PartialEq)]
pub enum Buffer {
    F64(Vec<f64>),
    F32(Vec<f32>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
    I64(Vec<i64>),
    I32(Vec<i32>),
    I16(Vec<i16>),
    /// i8, i4 and i2, sign-extended.
    I8(Vec<i8>),
    U64(Vec<u64>),
    U32(Vec<u32>),
    U16(Vec<u16>),
    /// u8, u4, u2; bool as 0 or 1; the codes of fp8, fp4 and e8m0.
    U8(Vec<u8>),
}

impl Buffer {
    pub fn len(&self) -> usize {
        match self {
            Buffer::F64(v) => v.len(),
            Buffer::F32(v) => v.len(),
            Buffer::F16(v) => v.len(),
            Buffer::BF16(v) => v.len(),
            Buffer::I64(v) => v.len(),
            Buffer::I32(v) => v.len(),
            Buffer::I16(v) => v.len(),
            Buffer::I8(v) => v.len(),
            Buffer::U64(v) => v.len(),
            Buffer::U32(v) => v.len(),
            Buffer::U16(v) => v.len(),
            Buffer::U8(v) => v.len(),
        }
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Whether this storage is the one [`Buffer`] documents for `dtype`.
    pub fn fits(&self, dtype: DType) -> bool {
        use DType::*;
        match self {
            Buffer::F64(_) => dtype == F64,
            Buffer::F32(_) => matches!(dtype, F32 | TF32),
            Buffer::F16(_) => dtype == F16,
            Buffer::BF16(_) => dtype == BF16,
            Buffer::I64(_) => dtype == I64,
            Buffer::I32(_) => dtype == I32,
            Buffer::I16(_) => dtype == I16,
            Buffer::I8(_) => matches!(dtype, I8 | I4 | I2),
            Buffer::U64(_) => dtype == U64,
            Buffer::U32(_) => dtype == U32,
            Buffer::U16(_) => dtype == U16,
            Buffer::U8(_) => matches!(dtype, U8 | U4 | U2 | Bool | F8E4M3FN | F8E5M2 | F8E4M3 | F8E4M3FNUZ | F8E5M2FNUZ | F4E2M1 | F8E8M0),
        }
    }
}

/// A value: number type, extents, and a strided view of a shared buffer. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    /// Elements to step per axis; 0 where broadcast, negative where reversed.
    strides: Vec<isize>,
    offset: usize,
    buffer: Arc<Buffer>,
}

/// Row-major strides of a shape, in elements.
pub fn contiguous_strides(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![0; shape.len()];
    let mut step = 1isize;
    for i in (0..shape.len()).rev() {
        strides[i] = step;
        step *= shape[i].max(1) as isize;
    }
    strides
}

impl Tensor {
    /// A contiguous tensor over `buffer`. Panics if length or storage do not match: a caller's bug, not bad input.
    pub fn new(dtype: DType, shape: &[usize], buffer: Buffer) -> Tensor {
        assert_eq!(shape.iter().product::<usize>(), buffer.len(), "a {dtype}{shape:?} needs as many elements");
        assert!(buffer.fits(dtype), "wrong storage for {dtype}");
        Tensor { dtype, shape: shape.to_vec(), strides: contiguous_strides(shape), offset: 0, buffer: Arc::new(buffer) }
    }
    pub fn f32(shape: &[usize], data: Vec<f32>) -> Tensor {
        Tensor::new(DType::F32, shape, Buffer::F32(data))
    }
    pub fn i64(shape: &[usize], data: Vec<i64>) -> Tensor {
        Tensor::new(DType::I64, shape, Buffer::I64(data))
    }
    pub fn bool(shape: &[usize], data: Vec<bool>) -> Tensor {
        Tensor::new(DType::Bool, shape, Buffer::U8(data.into_iter().map(u8::from).collect()))
    }
    pub fn dtype(&self) -> DType {
        self.dtype
    }
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }
    pub fn rank(&self) -> usize {
        self.shape.len()
    }
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    pub fn strides(&self) -> &[isize] {
        &self.strides
    }
    pub fn offset(&self) -> usize {
        self.offset
    }
    pub fn buffer(&self) -> &Buffer {
        &self.buffer
    }
    /// The buffer itself when nobody else holds it and the tensor covers all of it in order: ops may then work in place.
    pub fn into_buffer(self) -> Result<Buffer, Tensor> {
        if !self.is_contiguous() || self.offset != 0 || self.len() != self.buffer.len() {
            return Err(self);
        }
        let Tensor { dtype, shape, strides, offset, buffer } = self;
        Arc::try_unwrap(buffer).map_err(|buffer| Tensor { dtype, shape, strides, offset, buffer })
    }
    pub fn ty(&self) -> TensorType {
        TensorType { dtype: self.dtype, shape: Shape::known(&self.shape) }
    }
    /// Whether elements lie in row-major order without gaps.
    pub fn is_contiguous(&self) -> bool {
        let mut step = 1isize;
        for (&n, &s) in self.shape.iter().zip(&self.strides).rev() {
            if n != 1 && s != step {
                return self.is_empty();
            }
            step *= n.max(1) as isize;
        }
        true
    }
    /// The same elements under another shape, strides and offset. Panics when the view would leave the buffer: a caller's bug.
    pub fn view(&self, shape: &[usize], strides: &[isize], offset: usize) -> Tensor {
        assert_eq!(shape.len(), strides.len());
        if shape.iter().all(|&n| n > 0) {
            let (mut lo, mut hi) = (offset as isize, offset as isize);
            for (&n, &s) in shape.iter().zip(strides) {
                let reach = (n as isize - 1) * s;
                if reach < 0 { lo += reach } else { hi += reach }
            }
            assert!(lo >= 0 && (hi as usize) < self.buffer.len(), "view leaves its buffer");
        }
        Tensor { dtype: self.dtype, shape: shape.to_vec(), strides: strides.to_vec(), offset, buffer: self.buffer.clone() }
    }
    /// The same bits read as another number type of the same storage.
    pub fn with_dtype(mut self, dtype: DType) -> Tensor {
        assert!(self.buffer.fits(dtype), "wrong storage for {dtype}");
        self.dtype = dtype;
        self
    }
}
