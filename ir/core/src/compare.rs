//! Comparing tensors by value: the same shapes and every element within `atol + rtol·|expected|`. NaN equals NaN, infinities equal
//! infinities of their sign.

use crate::tensor::Tensor;
use crate::types::DType;

/// The largest difference found where all is within tolerance.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct MaxErr {
    pub absolute: f64,
    /// Of elements whose expected value is not 0.
    pub relative: f64,
}

/// Why two tensors are not close.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum Mismatch {
    #[error("got {got}, expected {expected}")]
    Type { got: String, expected: String },
    /// The first element out of tolerance, how many are, and the largest absolute difference.
    #[error("at {index:?} got {got}, expected {expected}; {count} of {of} elements differ, by up to {max_abs:e}")]
    Value { index: Vec<usize>, got: f64, expected: f64, count: usize, of: usize, max_abs: f64 },
}

/// Whether `got` is `expected` within tolerance. Types must agree in number type and shape. Integers compare exactly when both
/// tolerances are 0.
pub(crate) fn allclose(got: &Tensor, expected: &Tensor, rtol: f64, atol: f64) -> Result<MaxErr, Mismatch> {
    if got.dtype() != expected.dtype() || got.shape() != expected.shape() {
        return Err(Mismatch::Type { got: got.ty().to_string(), expected: expected.ty().to_string() });
    }
    let wide = matches!(got.dtype(), DType::I64 | DType::U64);
    if wide && got == expected {
        return Ok(MaxErr::default());
    }
    let (a, b) = (got.to_f64s(), expected.to_f64s());
    // f64 does not hold every 64-bit integer: those that look equal are compared again by their bits.
    let bits = wide.then(|| (got.cast(DType::I64).to_ints().unwrap_or_default(), expected.cast(DType::I64).to_ints().unwrap_or_default()));
    let mut max = MaxErr::default();
    let (mut first, mut count) = (None, 0);
    for (i, (&x, &y)) in a.iter().zip(&b).enumerate() {
        if (x.is_nan() && y.is_nan()) || x == y {
            if let Some((p, q)) = &bits
                && p[i] != q[i]
                && atol < 1.0
                && rtol == 0.0
            {
                count += 1;
                first.get_or_insert(i);
                max.absolute = max.absolute.max(p[i].abs_diff(q[i]) as f64);
            }
            continue;
        }
        let d = (x - y).abs();
        let d = if d.is_nan() { f64::INFINITY } else { d };
        max.absolute = max.absolute.max(d);
        if y != 0.0 {
            max.relative = max.relative.max(d / y.abs());
        }
        let bound = if y.is_finite() { atol + rtol * y.abs() } else { -1.0 };
        if !x.is_finite() || d > bound {
            count += 1;
            first.get_or_insert(i);
        }
    }
    let Some(i) = first else { return Ok(max) };
    let (mut index, mut rest) = (vec![0; got.rank()], i);
    for (slot, &n) in index.iter_mut().zip(got.shape()).rev() {
        *slot = rest % n;
        rest /= n;
    }
    Err(Mismatch::Value { index, got: a[i], expected: b[i], count, of: a.len(), max_abs: max.absolute })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_values_are_equal_and_others_are_named() {
        let a = Tensor::f32(&[2, 2], vec![1.0, f32::NAN, f32::INFINITY, 4.0]);
        let b = Tensor::f32(&[2, 2], vec![1.0, f32::NAN, f32::INFINITY, 4.5]);
        assert_eq!(allclose(&a, &a, 0.0, 0.0), Ok(MaxErr::default()));
        assert!(allclose(&a, &b, 0.2, 0.0).is_ok());
        let e = allclose(&a, &b, 0.0, 0.1).unwrap_err();
        assert_eq!(e.to_string(), "at [1, 1] got 4, expected 4.5; 1 of 4 elements differ, by up to 5e-1");
        assert!(allclose(&a, &Tensor::f32(&[4], vec![0.0; 4]), 1.0, 1.0).is_err());
        let inf = Tensor::f32(&[1], vec![f32::INFINITY]);
        assert!(allclose(&inf, &Tensor::f32(&[1], vec![f32::MAX]), 1.0, f64::MAX).is_err());
        assert!(allclose(&Tensor::i64(&[1], vec![i64::MAX]), &Tensor::i64(&[1], vec![i64::MAX - 1]), 0.0, 0.0).is_err());
    }
}
