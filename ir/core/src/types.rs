//! Number types, dimensions, shapes and tensor types: what a value is, never what it holds.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A number type. Names follow MLIR and ml_dtypes; `F8E4M3` is Trainium2's e4m3 (IEEE-like, max 240, with infinities),
/// `F8E4M3FN` the OCP one (max 448, no infinity).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
#[serde(rename_all = "lowercase")]
pub enum DType {
    F64,
    F32,
    TF32,
    F16,
    BF16,
    F8E4M3FN,
    F8E5M2,
    F8E4M3,
    F8E4M3FNUZ,
    F8E5M2FNUZ,
    F4E2M1,
    F8E8M0,
    I64,
    I32,
    I16,
    I8,
    I4,
    I2,
    U64,
    U32,
    U16,
    U8,
    U4,
    U2,
    Bool,
}

/// One row per [`DType`]: the name users read, the MLIR spelling, storage width and class.
struct DTypeRow(DType, &'static str, &'static str, u32, Class);

/// What arithmetic a number type takes part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Float,
    Signed,
    Unsigned,
    Bool,
}

use Class::{Bool as B, Float as F, Signed as S, Unsigned as U};
use DType::*;

static DTYPES: &[DTypeRow] = &[
    DTypeRow(F64, "f64", "f64", 64, F),
    DTypeRow(F32, "f32", "f32", 32, F),
    DTypeRow(TF32, "tf32", "tf32", 32, F),
    DTypeRow(F16, "f16", "f16", 16, F),
    DTypeRow(BF16, "bf16", "bf16", 16, F),
    DTypeRow(F8E4M3FN, "f8e4m3fn", "f8E4M3FN", 8, F),
    DTypeRow(F8E5M2, "f8e5m2", "f8E5M2", 8, F),
    DTypeRow(F8E4M3, "f8e4m3", "f8E4M3", 8, F),
    DTypeRow(F8E4M3FNUZ, "f8e4m3fnuz", "f8E4M3FNUZ", 8, F),
    DTypeRow(F8E5M2FNUZ, "f8e5m2fnuz", "f8E5M2FNUZ", 8, F),
    DTypeRow(F4E2M1, "f4e2m1", "f4E2M1FN", 4, F),
    DTypeRow(F8E8M0, "f8e8m0", "f8E8M0FNU", 8, F),
    DTypeRow(I64, "i64", "i64", 64, S),
    DTypeRow(I32, "i32", "i32", 32, S),
    DTypeRow(I16, "i16", "i16", 16, S),
    DTypeRow(I8, "i8", "i8", 8, S),
    DTypeRow(I4, "i4", "i4", 4, S),
    DTypeRow(I2, "i2", "i2", 2, S),
    DTypeRow(U64, "u64", "ui64", 64, U),
    DTypeRow(U32, "u32", "ui32", 32, U),
    DTypeRow(U16, "u16", "ui16", 16, U),
    DTypeRow(U8, "u8", "ui8", 8, U),
    DTypeRow(U4, "u4", "ui4", 4, U),
    DTypeRow(U2, "u2", "ui2", 2, U),
    DTypeRow(Bool, "bool", "i1", 8, B),
];

impl DType {
    /// Every number type, in declaration order.
    pub fn all() -> impl Iterator<Item = DType> {
        DTYPES.iter().map(|r| r.0)
    }
    fn row(self) -> &'static DTypeRow {
        &DTYPES[self as usize]
    }
    /// The name users read and type: `f32`, `bool`, …
    pub fn name(self) -> &'static str {
        self.row().1
    }
    /// The element type in MLIR text.
    pub fn mlir(self) -> &'static str {
        self.row().2
    }
    pub fn from_name(name: &str) -> Option<DType> {
        DTYPES.iter().find(|r| r.1 == name).map(|r| r.0)
    }
    pub fn from_mlir(name: &str) -> Option<DType> {
        DTYPES.iter().find(|r| r.2 == name).map(|r| r.0)
    }
    /// Bits one element takes in a packed file or device buffer (bool: 8).
    pub fn bits(self) -> u32 {
        self.row().3
    }
    /// Bytes that `count` packed elements take.
    pub fn bytes_for(self, count: usize) -> usize {
        (count * self.bits() as usize).div_ceil(8)
    }
    pub fn class(self) -> Class {
        self.row().4
    }
    pub fn is_float(self) -> bool {
        self.class() == Class::Float
    }
    pub fn is_int(self) -> bool {
        matches!(self.class(), Class::Signed | Class::Unsigned)
    }
    pub fn is_signed_int(self) -> bool {
        self.class() == Class::Signed
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One extent: a number, or a named symbol fixed later by the caller or by data.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
#[serde(untagged)]
pub enum Dim {
    Known(u64),
    Sym(Arc<str>),
}

impl Dim {
    pub fn sym(name: &str) -> Dim {
        Dim::Sym(name.into())
    }
    pub fn known(&self) -> Option<u64> {
        match self {
            Dim::Known(n) => Some(*n),
            Dim::Sym(_) => None,
        }
    }
}

impl From<u64> for Dim {
    fn from(n: u64) -> Dim {
        Dim::Known(n)
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Dim {
        Dim::Known(n as u64)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Known(n) => write!(f, "{n}"),
            Dim::Sym(s) => f.write_str(s),
        }
    }
}

/// Extents from the slowest axis to the fastest; empty is a scalar.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
#[serde(transparent)]
pub struct Shape(pub Vec<Dim>);

impl Shape {
    pub fn known(dims: &[usize]) -> Shape {
        Shape(dims.iter().map(|&d| Dim::from(d)).collect())
    }
    pub fn rank(&self) -> usize {
        self.0.len()
    }
    /// All extents as numbers, or `None` while any is a symbol.
    pub fn to_static(&self) -> Option<Vec<usize>> {
        self.0.iter().map(|d| d.known().map(|n| n as usize)).collect()
    }
    pub fn is_static(&self) -> bool {
        self.0.iter().all(|d| d.known().is_some())
    }
    /// Number of elements; `None` while symbolic or when it overflows.
    pub fn elements(&self) -> Option<u64> {
        self.0.iter().try_fold(1u64, |n, d| n.checked_mul(d.known()?))
    }
}

impl std::ops::Index<usize> for Shape {
    type Output = Dim;
    fn index(&self, i: usize) -> &Dim {
        &self.0[i]
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, d) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{d}")?;
        }
        f.write_str("]")
    }
}

/// A ranked tensor type: element type and shape. Prints as `f32[1, N, 64]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct TensorType {
    pub dtype: DType,
    pub shape: Shape,
}

impl TensorType {
    pub fn new(dtype: DType, shape: Shape) -> TensorType {
        TensorType { dtype, shape }
    }
    /// A type with numbers for all extents.
    pub fn known(dtype: DType, dims: &[usize]) -> TensorType {
        TensorType { dtype, shape: Shape::known(dims) }
    }
    pub fn scalar(dtype: DType) -> TensorType {
        TensorType { dtype, shape: Shape::default() }
    }
    pub fn rank(&self) -> usize {
        self.shape.rank()
    }
    /// Packed bytes; `None` while symbolic or when it overflows.
    pub fn bytes(&self) -> Option<u64> {
        let bits = self.shape.elements()?.checked_mul(self.dtype.bits() as u64)?;
        Some(bits.div_ceil(8))
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.dtype, self.shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (i, r) in DTYPES.iter().enumerate() {
            assert_eq!(r.0 as usize, i, "{}", r.1);
        }
    }

    #[test]
    fn types_print_as_users_read_them() {
        let t = TensorType::new(F32, Shape(vec![Dim::Known(1), Dim::sym("N"), Dim::Known(64)]));
        assert_eq!(t.to_string(), "f32[1, N, 64]");
        assert_eq!(t.bytes(), None);
        assert_eq!(TensorType::known(I4, &[3]).bytes(), Some(2));
    }
}
