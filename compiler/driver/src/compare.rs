//! When two answers are equal.
//!
//! ```text
//! floats     |a − b| <= atol + rtol·|b|     b is the reference; each element by itself, whatever the others are
//! others     a = b
//! ```
//!
//! rtol is 1e-4 for f64 and f32, and four units of the last place for shorter types (f16 2^-8, bf16 2^-5, fp8 2^-1); atol is what a
//! flush of subnormal numbers may take. Infinities and NaN must stand at the same places.

use tahoma_core::{DType, Tensor};

/// How far apart two tensors are.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Difference {
    /// Largest |a − b|.
    #[serde(with = "tahoma_core::float")]
    pub max_abs: f64,
    /// Largest |a − b| / |b| where b is not 0.
    #[serde(with = "tahoma_core::float")]
    pub max_rel: f64,
    /// Whether every element is within the tolerance.
    pub agree: bool,
    /// Elements that are not, and the first of them.
    pub wrong: usize,
    pub first: Option<usize>,
    /// Type or shape differ; empty if not.
    pub kind: String,
}

/// atol and rtol of the module's formula.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Tolerance {
    #[serde(with = "tahoma_core::float")]
    pub atol: f64,
    #[serde(with = "tahoma_core::float")]
    pub rtol: f64,
}

impl Tolerance {
    /// Of a number type; nothing for integers and bools.
    pub fn of(d: DType) -> Tolerance {
        let (atol, rtol) = match d {
            DType::F64 => (f64::MIN_POSITIVE, 1e-4),
            DType::F32 => (f32::MIN_POSITIVE as f64, 1e-4),
            DType::TF32 => (f32::MIN_POSITIVE as f64, 2f64.powi(-8)),
            // Four steps of its subnormal numbers, which devices keep.
            DType::F16 => (2f64.powi(-22), 2f64.powi(-8)),
            DType::BF16 => (f32::MIN_POSITIVE as f64, 2f64.powi(-5)),
            // One step.
            DType::F8E5M2 | DType::F8E5M2FNUZ => (2f64.powi(-16), 0.5),
            DType::F4E2M1 => (0.5, 0.5),
            d if d.is_float() => (2f64.powi(-9), 0.5),
            _ => (0.0, 0.0),
        };
        Tolerance { atol, rtol }
    }
    /// How far from `b` is near enough.
    pub fn allows(self, b: f64) -> f64 {
        self.atol + self.rtol * b.abs()
    }
}

/// Compares with the module's rule.
pub fn compare(got: &Tensor, want: &Tensor) -> Difference {
    let t = Tolerance::of(want.dtype());
    compare_with(got, want, |_, b| t.allows(b))
}

/// Compares with `allowed(i, b)` for each element b of the reference, i its place.
pub fn compare_with(got: &Tensor, want: &Tensor, allowed: impl Fn(usize, f64) -> f64) -> Difference {
    let mut d = Difference { max_abs: 0.0, max_rel: 0.0, agree: true, wrong: 0, first: None, kind: String::new() };
    if got.ty() != want.ty() {
        d.kind = format!("{} instead of {}", got.ty(), want.ty());
        (d.agree, d.max_abs, d.max_rel) = (false, f64::INFINITY, f64::INFINITY);
        return d;
    }
    if !want.dtype().is_float() && got.to_bytes() == want.to_bytes() {
        return d;
    }
    let (a, b) = (got.to_f64s(), want.to_f64s());
    // 64-bit integers beyond 2^53 are equal as bits or not at all.
    let wide = matches!(want.dtype(), DType::I64 | DType::U64).then(|| (got.to_bytes(), want.to_bytes()));
    for (i, (&x, &y)) in a.iter().zip(&b).enumerate() {
        let same = match &wide {
            Some((g, w)) => g[8 * i..8 * i + 8] == w[8 * i..8 * i + 8],
            None => x == y || (x.is_nan() && y.is_nan()),
        };
        if same {
            continue;
        }
        // Whole numbers that differ only beyond 2^53 are apart by one at least.
        let e = if wide.is_some() { (x - y).abs().max(1.0) } else { (x - y).abs() };
        let ok = e.is_finite() && e <= allowed(i, y);
        let e = if e.is_finite() { e } else { f64::INFINITY };
        d.max_abs = d.max_abs.max(e);
        if y != 0.0 {
            d.max_rel = d.max_rel.max(if e.is_finite() { e / y.abs() } else { e });
        }
        if !ok {
            d.agree = false;
            d.wrong += 1;
            d.first.get_or_insert(i);
        }
    }
    d
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_errors_pass_and_large_ones_do_not() {
        let want = Tensor::f32(&[3], vec![1.0, 0.0, -2.0]);
        assert!(compare(&Tensor::f32(&[3], vec![1.00009, 1e-39, -2.0]), &want).agree);
        let d = compare(&Tensor::f32(&[3], vec![1.0, 0.001, -2.0]), &want);
        assert_eq!((d.agree, d.wrong, d.first), (false, 1, Some(1)));
        assert!(!compare(&Tensor::f32(&[3], vec![f32::NAN, 0.0, -2.0]), &want).agree);
        assert!(!compare(&Tensor::f32(&[1, 3], vec![1.0, 0.0, -2.0]), &want).agree);
        let nan = Tensor::f32(&[1], vec![f32::NAN]);
        assert!(compare(&nan, &nan).agree);
    }

    /// A large element excuses none beside it.
    #[test]
    fn each_element_stands_for_itself() {
        let want = Tensor::f32(&[3], vec![1.0, -1e9, f32::INFINITY]);
        let d = compare(&Tensor::f32(&[3], vec![1.1, -1e9, f32::INFINITY]), &want);
        assert_eq!((d.agree, d.wrong, d.first), (false, 1, Some(0)));
        assert!(!compare(&Tensor::f32(&[3], vec![1.0, -1e9, f32::NEG_INFINITY]), &want).agree);
    }

    #[test]
    fn integers_must_be_equal() {
        let a = Tensor::i64(&[1], vec![i64::MAX]);
        assert!(!compare(&Tensor::i64(&[1], vec![i64::MAX - 1]), &a).agree);
        assert!(compare(&a.clone(), &a).agree);
    }
}
