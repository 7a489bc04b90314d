//! When an output is the expected one: same type and shape, NaN and infinities at the same places, and for the rest
//! |got − want| <= atol + rtol·|want|; what is no float is equal.

use crate::format::Expected;
use tahoma_core::{DType, Tensor};

/// How far an output is from what was expected.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distance {
    /// Largest |got − want|, and the largest share of what is allowed: above 1 is a difference.
    pub max_abs: f64,
    pub of_allowed: f64,
    /// What differs, if anything does.
    pub why: Option<String>,
}

/// Compares one output.
pub fn compare(got: &Tensor, want: &Tensor, e: &Expected) -> Distance {
    let far = |why: String| Distance { max_abs: f64::INFINITY, of_allowed: f64::INFINITY, why: Some(why) };
    if got.ty() != want.ty() {
        return far(format!("{}: {} instead of {}", e.name, got.ty(), want.ty()));
    }
    if !want.dtype().is_float() {
        let (a, b) = (got.to_bytes(), want.to_bytes());
        if a == b {
            return Distance::default();
        }
        let bits = if want.dtype() == DType::Bool { 8 } else { want.dtype().bits() as usize };
        let at = a.iter().zip(&b).position(|(x, y)| x != y).unwrap_or(0) * 8 / bits.max(1);
        return far(format!("{}: element {at} differs and is no float", e.name));
    }
    let mut d = Distance::default();
    let (mut wrong, mut first) = (0usize, None);
    for (i, (x, y)) in got.to_f64s().into_iter().zip(want.to_f64s()).enumerate() {
        if x == y || (x.is_nan() && y.is_nan()) {
            continue;
        }
        let (off, allowed) = ((x - y).abs(), e.atol + e.rtol * y.abs());
        // NaN or an infinity on one side alone.
        let off = if off.is_finite() { off } else { f64::INFINITY };
        let share = if off == 0.0 { 0.0 } else { off / allowed };
        d.max_abs = d.max_abs.max(off);
        d.of_allowed = d.of_allowed.max(share);
        if share > 1.0 || share.is_nan() {
            wrong += 1;
            first.get_or_insert(format!("{x:e} at {i} where {y:e} is expected"));
        }
    }
    if let Some(first) = first {
        d.of_allowed = d.of_allowed.max(1.0 + f64::EPSILON);
        d.why = Some(format!("{}: {wrong} of {} elements differ: {first}", e.name, want.len()));
    }
    d
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(atol: f64, rtol: f64) -> Expected {
        Expected { name: "y".into(), path: String::new(), dtype: DType::F32, atol, rtol }
    }

    #[test]
    fn floats_are_near_integers_equal() {
        let f = |v: &[f32]| Tensor::f32(&[v.len()], v.to_vec());
        let d = compare(&f(&[1.0, 2.5]), &f(&[1.0, 2.0]), &expected(0.5, 0.25));
        assert_eq!((d.max_abs, d.of_allowed, d.why), (0.5, 0.5, None));
        let why = |a: &[f32], b: &[f32]| compare(&f(a), &f(b), &expected(1e-3, 1e-3)).why;
        assert!(why(&[1.0, 2.5], &[1.0, 2.0]).unwrap().contains("1 of 2"));
        for bad in [f32::NAN, f32::INFINITY, -f32::INFINITY] {
            assert!(why(&[bad], &[1.0]).is_some() && why(&[1.0], &[bad]).is_some() && why(&[bad], &[bad]).is_none(), "{bad}");
        }
        assert!(why(&[f32::INFINITY], &[-f32::INFINITY]).is_some());
        assert!(why(&[1.0], &[1.0, 1.0]).unwrap().contains("instead of"));
        // A tolerance of zero is one too.
        assert!(compare(&f(&[1.0]), &f(&[1.0]), &expected(0.0, 0.0)).why.is_none());
        assert!(compare(&f(&[f32::MIN_POSITIVE]), &f(&[0.0]), &expected(0.0, 0.0)).why.is_some());
        let i = |v: i64| Tensor::i64(&[2], vec![0, v]);
        assert!(compare(&i(7), &i(7), &expected(1.0, 1.0)).why.is_none());
        assert!(compare(&i(7), &i(8), &expected(9.0, 9.0)).why.unwrap().contains("element 1"));
    }
}
