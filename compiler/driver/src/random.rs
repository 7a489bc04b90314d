//! Inputs made from a seed, where the caller gives none: the same seed, the same bytes.

use tahoma_core::random::{Random, mix};
use tahoma_core::{DType, Diagnostic, Tensor, TensorType, memory, ops};

/// What elements are drawn from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Range {
    /// Uniform, from the first up to the second.
    Between(f64, f64),
    /// Whole numbers from 0, less than this.
    Below(u64),
    /// Whole numbers from the first to the second, both included.
    Whole(i64, i64),
}

/// A tensor of the type: floats uniform in [-1, 1), integers 0 or 1 (safe as tokens, masks and indices), bools. E0209 if it is open, E0609 if
/// the machine has no room for it.
pub fn tensor(name: &str, ty: &TensorType, seed: u64) -> Result<Tensor, Diagnostic> {
    drawn(name, ty, seed, if ty.dtype.is_float() { Range::Between(-1.0, 1.0) } else { Range::Whole(0, 1) })
}

/// A tensor of the type with elements from `range`. E0209 if it is open.
pub fn drawn(name: &str, ty: &TensorType, seed: u64, range: Range) -> Result<Tensor, Diagnostic> {
    let shape = ty.shape.to_static().ok_or_else(|| {
        Diagnostic::error("E0209", format!("input {name:?} is {ty}: random values need every dimension"))
            .note(format!("give --shape {name}=… or --input {name}=FILE.npy"))
    })?;
    ops::sized(ty)?;
    let count: usize = shape.iter().product();
    // As f64 first, then in its type.
    memory::ask_elements(count as u64, 16, &format_args!("input {name:?} of {ty}"))?;
    let mut random = Random::new(name.bytes().fold(seed, |h, b| mix(h ^ b as u64)));
    let values: Vec<f64> = (0..count)
        .map(|_| match range {
            Range::Between(a, b) => a + (b - a) * 0.5 * (random.signed() + 1.0),
            Range::Below(n) => (random.bits() % n.max(1)) as f64,
            Range::Whole(a, b) => (a + (random.bits() % (b - a + 1).max(1) as u64) as i64) as f64,
        })
        .collect();
    Ok(match ty.dtype {
        DType::F32 => Tensor::f32(&shape, values.iter().map(|&v| v as f32).collect()),
        d => Tensor::from_f64s(d, &shape, &values),
    })
}
