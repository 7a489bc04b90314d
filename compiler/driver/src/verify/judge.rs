//! The verdict on one output: what it is compared by, what rounding explains, and whether the comparison says anything at all.

use super::rounding::{Bound, FACTOR};
use crate::compare::{Difference, Tolerance, compare_with};
use tahoma_core::Tensor;

/// In order of gravity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every element is within the tolerance.
    Agrees,
    /// Those that are not are no further from the program in f64 than rounding takes them.
    AgreesWithinRounding,
    /// Nothing can be concluded: `why` says what is missing.
    Inconclusive,
    Differs,
}

impl Verdict {
    /// Whether the two may be called equal.
    pub fn is_agreement(self) -> bool {
        self <= Verdict::AgreesWithinRounding
    }
}

/// What an output holds, as the reference gives it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Census {
    pub elements: usize,
    /// Share of elements that are neither infinite nor NaN.
    #[serde(with = "tahoma_core::float")]
    pub finite_share: f64,
    /// Different values, NaN left out.
    pub distinct: usize,
    /// Largest magnitude of a finite element.
    #[serde(with = "tahoma_core::float")]
    pub largest: f64,
    /// Why agreement on this output would say nothing; empty if it would.
    pub vacuous: String,
}

/// Counts what an output holds. A comparison that a constant in its place would pass says nothing.
pub fn census(want: &Tensor, tolerance: Option<Tolerance>) -> Census {
    let v = want.to_f64s();
    let t = tolerance.unwrap_or_else(|| Tolerance::of(want.dtype()));
    let finite: Vec<f64> = v.iter().copied().filter(|x| x.is_finite()).collect();
    // -0 is 0; bits order well enough to count.
    let mut bits: Vec<u64> = v.iter().filter(|x| !x.is_nan()).map(|x| (x + 0.0).to_bits()).collect();
    bits.sort_unstable();
    bits.dedup();
    let (low, high) = finite.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &x| (l.min(x), h.max(x)));
    let largest = finite.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let infinite = v.iter().any(|x| x.is_infinite());
    let vacuous = if v.is_empty() {
        "it has no elements".to_string()
    } else if bits.is_empty() {
        "every element is NaN".into()
    } else if finite.is_empty() {
        "no element is finite".into()
    } else if !infinite && largest == 0.0 {
        "every element is 0".into()
    } else if !infinite && v.len() > 1 && bits.len() == 1 {
        format!("every element is {low}")
    } else if !infinite && finite.len() > 1 && high - low <= t.allows(low) + t.allows(high) {
        format!("every element is {low} within the tolerance")
    } else {
        String::new()
    };
    Census { elements: v.len(), finite_share: finite.len() as f64 / v.len().max(1) as f64, distinct: bits.len(), largest, vacuous }
}

/// What rounding explains of a difference.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Explained {
    /// Elements beyond the tolerance that rounding explains, and that it does not.
    pub explained: usize,
    pub unexplained: usize,
    /// Explained elements of which rounding leaves no digit.
    pub insignificant: usize,
    /// Largest distance from the f64 evaluation, in spreads (see [`super::rounding`]).
    #[serde(with = "tahoma_core::float")]
    pub worst: f64,
}

/// One output of one stage.
#[derive(Clone, Debug, serde::Serialize)]
pub struct OutputReport {
    pub name: String,
    pub ty: String,
    pub verdict: Verdict,
    /// Of a verdict other than `agrees`: why.
    pub why: String,
    pub difference: Difference,
    /// Where elements are beyond the tolerance and rounding was studied.
    pub rounding: Option<Explained>,
}

/// How to judge.
pub struct Rule<'a> {
    /// The caller's tolerance, which then is final; the type's if none.
    pub tolerance: Option<Tolerance>,
    /// What rounding does to output i, asked for only where elements are beyond the tolerance.
    pub bound: &'a mut dyn FnMut(usize) -> Option<Bound>,
}

/// Judges output `index`.
pub fn judge(index: usize, name: &str, got: &Tensor, want: &Tensor, rule: &mut Rule) -> OutputReport {
    let t = rule.tolerance.unwrap_or_else(|| Tolerance::of(want.dtype()));
    let difference = compare_with(got, want, |_, b| t.allows(b));
    let mut r = OutputReport {
        name: name.into(),
        ty: want.ty().to_string(),
        verdict: Verdict::Agrees,
        why: String::new(),
        difference,
        rounding: None,
    };
    if r.difference.agree {
        return r;
    }
    r.verdict = Verdict::Differs;
    if !r.difference.kind.is_empty() {
        r.why = r.difference.kind.clone();
        return r;
    }
    let wrong = r.difference.wrong;
    r.why = format!("{wrong} of {} elements differ, first {}", want.len(), element(got, want, r.difference.first.unwrap_or(0)));
    let bound = if rule.tolerance.is_some() { None } else { (rule.bound)(index) };
    let Some(bound) = bound.filter(|b| b.truth.len() == want.len()) else { return r };
    let e = explain(got, want, t, &bound);
    let lost = significant_enough(&bound, &e);
    r.why = if e.unexplained > 0 {
        format!("{}; rounding explains {} of them, not {}", r.why, e.explained, e.unexplained)
    } else if let Some(lost) = lost {
        r.verdict = Verdict::Inconclusive;
        format!("{lost} of {} elements have no digit that rounding leaves, in the model as written: what they are says nothing", want.len())
    } else {
        r.verdict = Verdict::AgreesWithinRounding;
        format!(
            "{wrong} of {} elements are beyond the tolerance; all are within {:.1} spreads of rounding of the f64 evaluation (limit {FACTOR})",
            want.len(),
            e.worst
        )
    };
    r.rounding = Some(e);
    r
}

/// Place and values of an element, as users count: `[0, 3]: 1.5 instead of 2`.
fn element(got: &Tensor, want: &Tensor, i: usize) -> String {
    let mut index = vec![0; want.rank()];
    let mut rest = i;
    for (slot, &n) in index.iter_mut().zip(want.shape()).rev() {
        (*slot, rest) = (rest % n.max(1), rest / n.max(1));
    }
    format!("at {index:?}: {} instead of {}", got.to_f64s()[i], want.to_f64s()[i])
}

fn explain(got: &Tensor, want: &Tensor, t: Tolerance, bound: &Bound) -> Explained {
    let (float, a, b) = (want.dtype().is_float(), got.to_f64s(), want.to_f64s());
    let mut e = Explained { explained: 0, unexplained: 0, insignificant: 0, worst: 0.0 };
    for (i, (&x, &y)) in a.iter().zip(&b).enumerate() {
        if x == y || (x.is_nan() && y.is_nan()) || ((x - y).is_finite() && (x - y).abs() <= t.allows(y)) {
            continue;
        }
        if !bound.explains(i, x, float) {
            e.unexplained += 1;
            continue;
        }
        e.explained += 1;
        e.insignificant += usize::from(bound.insignificant(i));
        if bound.spread[i].is_finite() {
            e.worst = e.worst.max((x - bound.truth[i]).abs() / bound.spread[i]);
        }
    }
    e
}

/// The number of elements without a digit, if they are more than chance makes: values near 0 among others that keep theirs.
///
/// With q the median of spread/|truth| and values spread evenly around 0, some 5·q of them are within four spreads of 0.
fn significant_enough(bound: &Bound, e: &Explained) -> Option<usize> {
    const MOST: f64 = 1.0 / 32.0;
    let mut shares: Vec<f64> = bound
        .truth
        .iter()
        .zip(&bound.spread)
        .filter(|(t, s)| t.is_finite() && (**t != 0.0 || **s != 0.0))
        .map(|(t, s)| if *t == 0.0 { f64::INFINITY } else { s / t.abs() })
        .collect();
    if shares.is_empty() {
        return (e.insignificant > 0).then_some(e.insignificant);
    }
    let (count, half) = (shares.len(), shares.len() / 2);
    let q = (*shares.select_nth_unstable_by(half, f64::total_cmp).1).min(MOST);
    let chance = (8.0 * q * count as f64) as usize + count / 1000;
    (e.insignificant > chance).then_some(e.insignificant)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f(v: &[f32]) -> Tensor {
        Tensor::f32(&[v.len()], v.to_vec())
    }

    #[test]
    fn what_a_constant_would_pass_is_vacuous() {
        let says = |v: &[f32]| census(&f(v), None).vacuous;
        assert_eq!(says(&[0.0, -0.0]), "every element is 0");
        assert_eq!(says(&[0.0]), "every element is 0");
        assert_eq!(says(&[f32::NAN; 3]), "every element is NaN");
        assert_eq!(says(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]), "no element is finite");
        assert_eq!(says(&[2.0, 2.0, f32::NAN]), "every element is 2");
        assert_eq!(says(&[1.0, 1.00001]), "every element is 1 within the tolerance");
        assert_eq!(says(&[]), "it has no elements");
        assert!(says(&[3.0]).is_empty() && says(&[0.0, 1.0]).is_empty() && says(&[0.0, f32::NEG_INFINITY]).is_empty());
        let loose = Some(Tolerance { atol: 1.0, rtol: 0.0 });
        assert!(!census(&f(&[0.0, 1.0]), loose).vacuous.is_empty());
        let c = census(&f(&[1.0, -4.0, f32::NAN, f32::INFINITY]), None);
        assert_eq!((c.finite_share, c.distinct, c.largest), (0.5, 3, 4.0));
        assert_eq!(census(&Tensor::bool(&[2], vec![true, true]), None).vacuous, "every element is 1");
    }

    fn verdict(got: &[f32], want: &[f32], truth: &[f64], spread: &[f64]) -> Verdict {
        let b = Bound { truth: truth.to_vec(), spread: spread.to_vec() };
        let mut rule = Rule { tolerance: None, bound: &mut |_| Some(b.clone()) };
        judge(0, "y", &f(got), &f(want), &mut rule).verdict
    }

    #[test]
    fn rounding_explains_only_what_it_can_do() {
        use Verdict::*;
        let (want, truth) = ([1.0, 2.0, 0.001], [1.0, 2.0, 0.001]);
        assert_eq!(verdict(&[1.00001, 2.0, 0.001], &want, &truth, &[0.0; 3]), Agrees);
        assert_eq!(verdict(&[1.0, 2.0, 0.0011], &want, &truth, &[0.0; 3]), Differs);
        assert_eq!(verdict(&[1.0, 2.0, 0.0011], &want, &truth, &[1e-5, 1e-5, 2e-5]), AgreesWithinRounding);
        assert_eq!(verdict(&[1.0, 2.0, 0.0015], &want, &truth, &[1e-5, 1e-5, 2e-5]), Differs);
        assert_eq!(verdict(&[1.0, 2.0, f32::NAN], &want, &truth, &[1e-5, 1e-5, f64::INFINITY]), Differs);
        // Nothing is left of the last element, and chance does not make it so.
        assert_eq!(verdict(&[1.0, 2.0, 0.002], &want, &truth, &[1e-7, 1e-7, 1e-3]), Inconclusive);
        // Most of it is noise.
        assert_eq!(verdict(&[-3.0, 2.0, 4.0], &[1.0, 1.0, 1.0], &[0.0; 3], &[2.0; 3]), Inconclusive);
    }

    #[test]
    fn the_callers_tolerance_is_final() {
        let b = Bound { truth: vec![1.0], spread: vec![1.0] };
        let mut rule = Rule { tolerance: Some(Tolerance { atol: 0.0, rtol: 1e-6 }), bound: &mut |_| Some(b.clone()) };
        assert_eq!(judge(0, "y", &f(&[1.00001]), &f(&[1.0]), &mut rule).verdict, Verdict::Differs);
        rule.tolerance = Some(Tolerance { atol: 0.1, rtol: 0.0 });
        assert_eq!(judge(0, "y", &f(&[1.05]), &f(&[1.0]), &mut rule).verdict, Verdict::Agrees);
    }
}
