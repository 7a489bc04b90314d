//! Test data for the networks: drawn from a seed and the tensor's name, so that it is the same for every program that has it.

use crate::bert::REDUCED_VOCABULARY;
use tahoma_core::random::Random;
use tahoma_core::{DType, Tensor, TensorType};

/// What a masked score is lowered by.
const MASKED: f64 = -1e4;

/// An input or weight drawn from a seed.
///
/// Floats lie in about (−1, 1). Names ending in `.weight` keep the variance of what they multiply (they shrink with √fan-in), `.var`
/// is positive, `.gain` near 1, and `causal_mask` 0 up to the diagonal that ends in its last corner. Integers are token ids below the
/// reduced vocabulary (types and masks: 0 or 1), bool alternates. Panics on a type with symbols: the networks have none.
pub fn tensor(name: &str, ty: &TensorType, seed: u64) -> Tensor {
    let dims = ty.shape.to_static().unwrap_or_else(|| panic!("{name}: {ty} has symbols"));
    let n: usize = dims.iter().product();
    if ty.dtype == DType::Bool {
        return Tensor::bool(&dims, (0..n).map(|i| i % 2 == 0).collect());
    }
    let hash = name.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, |h, b| (h ^ b as u64).wrapping_mul(0x100_0000_01b3));
    let mut random = Random::new(hash);
    if ty.dtype.is_int() {
        let limit = if name.contains("mask") || name.contains("type") { 2 } else { REDUCED_VOCABULARY as u64 };
        return Tensor::from_i64s(ty.dtype, &dims, &(0..n).map(|_| (random.bits() % limit) as i64).collect::<Vec<_>>());
    }
    if let ("causal_mask", &[.., rows, columns]) = (name, &dims[..]) {
        let last = |i: usize| i / columns % rows + columns - rows;
        let v: Vec<f64> = (0..n).map(|i| if i % columns <= last(i) { 0.0 } else { MASKED }).collect();
        return Tensor::from_f64s(ty.dtype, &dims, &v);
    }
    let (scale, shift) = match name.rsplit('.').next() {
        Some("weight") => ((3.0 / fan_in(&dims) as f64).sqrt(), 0.0),
        Some("var" | "gain") => (0.5, 1.0),
        _ => (1.0, 0.0),
    };
    let v: Vec<f64> = (0..n).map(|_| random.signed() * scale + shift).collect();
    Tensor::from_f64s(ty.dtype, &dims, &v)
}

/// How many products one result sums: kernels are [out, in, …], matrices [in, out].
fn fan_in(dims: &[usize]) -> usize {
    match dims.len() {
        0 | 1 => 1,
        2 | 3 => dims[dims.len() - 2],
        _ => dims[1..].iter().product(),
    }
}
