//! Inputs made from a seed, where the caller gives none: the same seed, the same bytes.

use tahoma_core::{DType, Diagnostic, Tensor, TensorType, memory, ops};

/// SplitMix64: small, well distributed, and the same everywhere (Steele, Lea, Flood 2014).
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// Uniform in [-1, 1).
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

/// A tensor of the type: floats uniform in [-1, 1), integers 0 or 1 (safe as tokens, masks and indices), bools. E0209 if it is open, E0609 if
/// the machine has no room for it.
pub fn tensor(name: &str, ty: &TensorType, seed: u64) -> Result<Tensor, Diagnostic> {
    let shape = ty.shape.to_static().ok_or_else(|| {
        Diagnostic::error("E0209", format!("input {name:?} is {ty}: random values need every dimension"))
            .note(format!("give --shape {name}=… or --input {name}=FILE.npy"))
    })?;
    ops::sized(ty)?;
    let count: usize = shape.iter().product();
    // As f64 first, then in its type.
    memory::ask_elements(count as u64, 16, &format_args!("input {name:?} of {ty}"))?;
    let mut rng = name.bytes().fold(SplitMix(seed), |r, b| SplitMix(SplitMix(r.0 ^ b as u64).next()));
    let values: Vec<f64> = match ty.dtype {
        d if d.is_float() => (0..count).map(|_| rng.unit()).collect(),
        _ => (0..count).map(|_| (rng.next() & 1) as f64).collect(),
    };
    Ok(match ty.dtype {
        DType::F32 => Tensor::f32(&shape, values.iter().map(|&v| v as f32).collect()),
        d => Tensor::from_f64s(d, &shape, &values),
    })
}
