//! Elementary functions from arithmetic: no library is linked into a kernel.
//!
//! | function | method | domain |
//! |---|---|---|
//! | exp | `x = n·ln2 + r`, Taylor in r, scaled by 2ⁿ in two halves | all, with subnormal results |
//! | log | `x = 2ᵉ·m`, `m` in [√½, √2], series of `atanh` in `(m−1)/(m+1)` | all, with subnormals |
//! | log1p, expm1 | compensated from the two above | inside others only |
//! | sin, cos, tan | multiple of π/2 taken off in three parts in f64, Taylor | \\|x\\| ≤ 10¹⁵; in [−1, 1] but meaningless beyond |
//! | atan | reduced to [−tan π/8, tan π/8], series | all |
//! | asin, acos | from atan and sqrt | [−1, 1], else NaN |
//! | sinh, cosh, tanh | from expm1 and exp | all |
//! | asinh, acosh, atanh | from log1p | all |
//! | erf | f32: two polynomials after N. Juffa; f64: series below 2.5, continued fraction above | all; f64 up to 62 ulp (7·10⁻¹⁵) near 2.5 |
//! | pow | exp(y·log x) in f64; f64 itself loses bits as `y·log x` grows: relative error up to 10⁻¹³ | all |
//! | rem | repeated `fma(−q, y·2ᵏ, r)`, exact | all |
//!
//! The measured errors are in `accuracy` of the tests, which fails when one grows.

use super::printer::*;

/// ln 2 in two parts: the first has trailing zeros, so that `n` times it is exact.
const LN2_32: (f64, f64) = (0.693145751953125, 1.428606765330187e-6);
const LN2_64: (f64, f64) = (6.931_471_803_691_238e-1, 1.908_214_929_270_587_7e-10);

fn is64(v: Val) -> bool {
    v.ty.elem == Elem::F64
}

/// Σ coeffs[i]·x^i by Horner; the first coefficient is that of x⁰.
fn poly(f: &mut Fun, x: Val, coeffs: &[f64]) -> Val {
    let Some((&last, rest)) = coeffs.split_last() else { return f.float(x.ty, 0.0) };
    let mut r = f.float(x.ty, last);
    for &c in rest.iter().rev() {
        let c = f.float(x.ty, c);
        r = f.fma(r, x, c);
    }
    r
}

/// 1/lo!, 1/(lo+1)!, …
fn factorials(lo: u32, hi: u32) -> Vec<f64> {
    (lo..=hi).map(|n| 1.0 / (1..=u64::from(n)).map(|i| i as f64).product::<f64>()).collect()
}

fn bits_ty(v: Ty) -> Ty {
    if v.elem == Elem::F64 { I64 } else { I32 }
}

fn to_bits(f: &mut Fun, x: Val) -> Val {
    let t = bits_ty(x.ty);
    f.convert("bitcast", x, t)
}

/// 2ⁿ for an integer `n` (in the width of `ty`) in the normal range.
fn pow2(f: &mut Fun, n: Val, ty: Ty) -> Val {
    let (bias, man) = if ty.elem == Elem::F64 { (1023, 52) } else { (127, 23) };
    let b = f.int(n.ty, bias);
    let b = f.arith("addi", n, b);
    let m = f.int(n.ty, man);
    let b = f.arith("shli", b, m);
    f.convert("bitcast", b, ty)
}

/// The nearest integer to `x·k` as (float, int), for |x·k| below 2²² (2⁵¹): rounding falls out of adding 1.5·2^mantissa.
fn nearest(f: &mut Fun, x: Val, k: f64) -> (Val, Val) {
    let big = if is64(x) { 6_755_399_441_055_744.0 } else { 12_582_912.0 };
    let (k, m) = (f.float(x.ty, k), f.float(x.ty, big));
    let t = f.fma(x, k, m);
    let n = f.fsub(t, m);
    let (tb, mb) = (to_bits(f, t), to_bits(f, m));
    let i = f.arith("subi", tb, mb);
    (n, i)
}

/// `x = n·ln2 + r`: (n as an integer, r). `x` must be within the clamp of its caller.
fn reduce_exp(f: &mut Fun, x: Val) -> (Val, Val) {
    let (hi, lo) = if is64(x) { LN2_64 } else { LN2_32 };
    let (n, i) = nearest(f, x, std::f64::consts::LOG2_E);
    let (h, l) = (f.float(x.ty, -hi), f.float(x.ty, -lo));
    let r = f.fma(n, h, x);
    (i, f.fma(n, l, r))
}

fn clamp(f: &mut Fun, x: Val, lo: f64, hi: f64) -> Val {
    // Ordered comparisons: NaN passes.
    let (l, h) = (f.float(x.ty, lo), f.float(x.ty, hi));
    let c = f.cmpf("olt", x, l);
    let x = f.select(c, l, x);
    let c = f.cmpf("ogt", x, h);
    f.select(c, h, x)
}

/// e^x · 2^shift, in full range.
fn exp_shifted(f: &mut Fun, x: Val, shift: i64) -> Val {
    let x = if is64(x) { clamp(f, x, -746.0, 711.0) } else { clamp(f, x, -104.0, 90.0) };
    let (mut i, r) = reduce_exp(f, x);
    let p = poly(f, r, &factorials(0, if is64(x) { 13 } else { 7 }));
    if shift != 0 {
        let s = f.int(i.ty, shift);
        i = f.arith("addi", i, s);
    }
    let one = f.int(i.ty, 1);
    let a = f.arith("shrsi", i, one);
    let b = f.arith("subi", i, a);
    let (a, b) = (pow2(f, a, x.ty), pow2(f, b, x.ty));
    let p = f.fmul(p, a);
    f.fmul(p, b)
}

pub(super) fn exp(f: &mut Fun, x: Val) -> Val {
    exp_shifted(f, x, 0)
}

/// e^x − 1 for x in [−50, 88] (f32) or [−50, 700] (f64).
fn expm1(f: &mut Fun, x: Val) -> Val {
    let (i, r) = reduce_exp(f, x);
    // r + r²·(1/2 + r/6 + …)
    let q = poly(f, r, &factorials(2, if is64(x) { 14 } else { 8 }));
    let r2 = f.fmul(r, r);
    let p = f.fma(r2, q, r);
    let (s, one) = (pow2(f, i, x.ty), f.float(x.ty, 1.0));
    let s1 = f.fsub(s, one);
    f.fma(s, p, s1)
}

pub(super) fn log(f: &mut Fun, x: Val) -> Val {
    let d = is64(x);
    let (man, root_half, up) = if d { (52, 0x3fe6_a09e_667f_3bcdi64, 2f64.powi(54)) } else { (23, 0x3f35_04f3, 2f64.powi(25)) };
    let (least, scale) = (f.float(x.ty, if d { f64::MIN_POSITIVE } else { f64::from(f32::MIN_POSITIVE) }), f.float(x.ty, up));
    let tiny = f.cmpf("olt", x, least);
    let xs = f.fmul(x, scale);
    let xn = f.select(tiny, xs, x);
    let b = to_bits(f, xn);
    let it = b.ty;
    let (root, shift) = (f.int(it, root_half), f.int(it, man));
    let e = f.arith("subi", b, root);
    let e = f.arith("shrsi", e, shift);
    let eb = f.arith("shli", e, shift);
    let m = f.arith("subi", b, eb);
    let m = f.convert("bitcast", m, x.ty);
    let ef = f.convert("sitofp", e, x.ty);
    let (less, zero, one, two, half) =
        (f.float(x.ty, -up.log2()), f.float(x.ty, 0.0), f.float(x.ty, 1.0), f.float(x.ty, 2.0), f.float(x.ty, 0.5));
    let fix = f.select(tiny, less, zero);
    let ef = f.fadd(ef, fix);
    let v = f.fsub(m, one);
    let w = f.fadd(v, two);
    let s = f.fdiv(v, w);
    let z = f.fmul(s, s);
    // log(1+v) = v − (v²/2 − s·(v²/2 + R)), R = Σ 2/(2i+1)·z^i
    let coeffs: Vec<f64> = (1..=if d { 10 } else { 4 }).map(|i| 2.0 / (2 * i + 1) as f64).collect();
    let r = poly(f, z, &coeffs);
    let r = f.fmul(r, z);
    let hv = f.fmul(v, half);
    let h = f.fmul(hv, v);
    let hr = f.fadd(h, r);
    let (hi, lo) = if d { LN2_64 } else { LN2_32 };
    let (hi, lo) = (f.float(x.ty, hi), f.float(x.ty, lo));
    let el = f.fmul(ef, lo);
    let t = f.fma(s, hr, el);
    let t = f.fsub(h, t);
    let t = f.fsub(v, t);
    let y = f.fma(ef, hi, t);
    // +inf and NaN pass through; 0 gives −inf; below 0, NaN.
    let inf = f.float(x.ty, f64::INFINITY);
    let finite = f.cmpf("olt", x, inf);
    let y = f.select(finite, y, x);
    let (ninf, nan) = (f.float(x.ty, f64::NEG_INFINITY), f.float(x.ty, f64::NAN));
    let c = f.cmpf("oeq", x, zero);
    let y = f.select(c, ninf, y);
    let c = f.cmpf("olt", x, zero);
    f.select(c, nan, y)
}

/// log(1 + x) for x > −1: the rounding of 1 + x is put back as a derivative.
fn log1p(f: &mut Fun, x: Val) -> Val {
    let one = f.float(x.ty, 1.0);
    let u = f.fadd(one, x);
    let l = log(f, u);
    let d = f.fsub(u, one);
    let d = f.fsub(x, d);
    let c = f.fdiv(d, u);
    let y = f.fadd(l, c);
    let inf = f.float(x.ty, f64::INFINITY);
    let fin = f.cmpf("olt", u, inf);
    let y = f.select(fin, y, l);
    // Keeps the sign of zero.
    let z = f.cmpf("oeq", u, one);
    f.select(z, x, y)
}

/// (sin, cos) of the part left after taking off multiples of π/2, and the multiple. The reduction is done in f64 for f32 too: one
/// rounding there is worth fifteen digits of the angle.
fn reduce_trig(f: &mut Fun, x: Val) -> (Val, Val, Val) {
    let parts: [f64; 3] = [std::f64::consts::FRAC_PI_2, 6.123_233_995_736_766e-17, -1.497_384_904_859_168_6e-33];
    let w = f.convert("extf", x, F64);
    let (n, i) = nearest(f, w, std::f64::consts::FRAC_2_PI);
    let mut r = w;
    for p in parts {
        let p = f.float(F64, -p);
        r = f.fma(n, p, r);
    }
    // Beyond the domain the remainder is noise; keep it small, so that the result is between −1 and 1.
    let r = clamp(f, r, -1.0, 1.0);
    let r = f.convert("truncf", r, x.ty);
    let z = f.fmul(r, r);
    let d = is64(x);
    let signed = |v: Vec<f64>| -> Vec<f64> { v.into_iter().enumerate().map(|(i, c)| if i % 2 == 0 { -c } else { c }).collect() };
    let odd = |hi: u32| signed(factorials(3, hi).into_iter().step_by(2).collect());
    let even = |hi: u32| signed(factorials(2, hi).into_iter().step_by(2).collect());
    let p = poly(f, z, &odd(if d { 17 } else { 9 }));
    let zr = f.fmul(z, r);
    let s = f.fma(p, zr, r);
    let q = poly(f, z, &even(if d { 18 } else { 10 }));
    let one = f.float(x.ty, 1.0);
    let c = f.fma(q, z, one);
    (s, c, i)
}

/// sin(x + turn·π/2).
fn sine(f: &mut Fun, x: Val, turn: i64) -> Val {
    let (s, c, i) = reduce_trig(f, x);
    let t = f.int(i.ty, turn);
    let i = f.arith("addi", i, t);
    let (one, two, zero) = (f.int(i.ty, 1), f.int(i.ty, 2), f.int(i.ty, 0));
    let odd = f.arith("andi", i, one);
    let odd = f.cmpi("ne", odd, zero);
    let y = f.select(odd, c, s);
    let neg = f.arith("andi", i, two);
    let neg = f.cmpi("ne", neg, zero);
    let m = f.fneg(y);
    let y = f.select(neg, m, y);
    not_finite_is_nan(f, x, y)
}

/// `y`, or NaN where `x` is infinite (NaN is in `y` already).
fn not_finite_is_nan(f: &mut Fun, x: Val, y: Val) -> Val {
    let d = f.fsub(x, x);
    let zero = f.float(x.ty, 0.0);
    let fin = f.cmpf("oeq", d, zero);
    f.select(fin, y, d)
}

pub(super) fn sin(f: &mut Fun, x: Val) -> Val {
    let y = sine(f, x, 0);
    // −0 stays −0.
    let zero = f.float(x.ty, 0.0);
    let z = f.cmpf("oeq", x, zero);
    f.select(z, x, y)
}

pub(super) fn cos(f: &mut Fun, x: Val) -> Val {
    sine(f, x, 1)
}

pub(super) fn tan(f: &mut Fun, x: Val) -> Val {
    let (s, c) = (sin(f, x), cos(f, x));
    f.fdiv(s, c)
}

pub(super) fn atan(f: &mut Fun, x: Val) -> Val {
    let d = is64(x);
    let a = f.fabs(x);
    let (big, mid, one) = (f.float(x.ty, 2.414_213_562_373_095), f.float(x.ty, 0.414_213_562_373_095_03), f.float(x.ty, 1.0));
    let is_big = f.cmpf("ogt", a, big);
    let is_mid = f.cmpf("ogt", a, mid);
    // a > tan 3π/8: −1/a about π/2; a > tan π/8: (a−1)/(a+1) about π/4. One division serves both.
    let (am, ap, none) = (f.fsub(a, one), f.fadd(a, one), f.float(x.ty, -1.0));
    let num = f.select(is_big, none, am);
    let den = f.select(is_big, a, ap);
    let q = f.fdiv(num, den);
    let t = f.select(is_mid, q, a);
    let z = f.fmul(t, t);
    let coeffs: Vec<f64> = (1..=if d { 20 } else { 8 }).map(|i| if i % 2 == 1 { -1.0 } else { 1.0 } / (2 * i + 1) as f64).collect();
    let p = poly(f, z, &coeffs);
    let zt = f.fmul(z, t);
    let y = f.fma(p, zt, t);
    let (p2, p4, zero) = (f.float(x.ty, std::f64::consts::FRAC_PI_2), f.float(x.ty, std::f64::consts::FRAC_PI_4), f.float(x.ty, 0.0));
    let base = f.select(is_mid, p4, zero);
    let base = f.select(is_big, p2, base);
    let y = f.fadd(base, y);
    f.copysign(y, x)
}

pub(super) fn asin(f: &mut Fun, x: Val) -> Val {
    let one = f.float(x.ty, 1.0);
    let (a, b) = (f.fsub(one, x), f.fadd(one, x));
    let p = f.fmul(a, b);
    let r = f.intrinsic("sqrt", p);
    let q = f.fdiv(x, r);
    atan(f, q)
}

pub(super) fn acos(f: &mut Fun, x: Val) -> Val {
    let (one, two) = (f.float(x.ty, 1.0), f.float(x.ty, 2.0));
    let (a, b) = (f.fsub(one, x), f.fadd(one, x));
    let q = f.fdiv(a, b);
    let r = f.intrinsic("sqrt", q);
    let y = atan(f, r);
    f.fmul(two, y)
}

pub(super) fn sinh(f: &mut Fun, x: Val) -> Val {
    let a = f.fabs(x);
    let (one, half) = (f.float(x.ty, 1.0), f.float(x.ty, 0.5));
    let small = f.cmpf("olt", a, one);
    let an = f.select(small, a, half);
    let e = expm1(f, an);
    let e1 = f.fadd(e, one);
    let q = f.fdiv(e, e1);
    let s = f.fadd(e, q);
    let s = f.fmul(s, half);
    let na = f.fneg(a);
    let (p, m) = (exp_shifted(f, a, -1), exp_shifted(f, na, -1));
    let l = f.fsub(p, m);
    let y = f.select(small, s, l);
    f.copysign(y, x)
}

pub(super) fn cosh(f: &mut Fun, x: Val) -> Val {
    let a = f.fabs(x);
    let na = f.fneg(a);
    let (p, m) = (exp_shifted(f, a, -1), exp_shifted(f, na, -1));
    f.fadd(p, m)
}

pub(super) fn tanh(f: &mut Fun, x: Val) -> Val {
    let a = f.fabs(x);
    let two = f.float(x.ty, 2.0);
    let top = f.float(x.ty, if is64(x) { 20.0 } else { 10.0 });
    let over = f.cmpf("ogt", a, top);
    let an = f.select(over, top, a);
    let a2 = f.fmul(two, an);
    let e = expm1(f, a2);
    let d = f.fadd(e, two);
    let y = f.fdiv(e, d);
    f.copysign(y, x)
}

pub(super) fn sigmoid(f: &mut Fun, x: Val) -> Val {
    let n = f.fneg(x);
    let e = exp(f, n);
    let one = f.float(x.ty, 1.0);
    let d = f.fadd(one, e);
    f.fdiv(one, d)
}

/// log(2a) where `a` is so large that squares overflow.
fn log_twice(f: &mut Fun, a: Val) -> Val {
    let l = log(f, a);
    let ln2 = f.float(a.ty, std::f64::consts::LN_2);
    f.fadd(l, ln2)
}

fn huge(f: &mut Fun, a: Val) -> Val {
    let big = f.float(a.ty, if is64(a) { 1e150 } else { 1e18 });
    f.cmpf("ogt", a, big)
}

pub(super) fn asinh(f: &mut Fun, x: Val) -> Val {
    let a = f.fabs(x);
    let one = f.float(x.ty, 1.0);
    let r = f.fma(a, a, one);
    let r = f.intrinsic("sqrt", r);
    let r1 = f.fadd(r, one);
    let a2 = f.fmul(a, a);
    let q = f.fdiv(a2, r1);
    let t = f.fadd(a, q);
    let s = log1p(f, t);
    let l = log_twice(f, a);
    let h = huge(f, a);
    let y = f.select(h, l, s);
    f.copysign(y, x)
}

pub(super) fn acosh(f: &mut Fun, x: Val) -> Val {
    let one = f.float(x.ty, 1.0);
    let (t, u) = (f.fsub(x, one), f.fadd(x, one));
    let p = f.fmul(t, u);
    let r = f.intrinsic("sqrt", p);
    let s = f.fadd(t, r);
    let s = log1p(f, s);
    let l = log_twice(f, x);
    let h = huge(f, x);
    let y = f.select(h, l, s);
    let nan = f.float(x.ty, f64::NAN);
    let c = f.cmpf("olt", x, one);
    f.select(c, nan, y)
}

pub(super) fn atanh(f: &mut Fun, x: Val) -> Val {
    let a = f.fabs(x);
    let (one, two, half) = (f.float(x.ty, 1.0), f.float(x.ty, 2.0), f.float(x.ty, 0.5));
    let (n, d) = (f.fmul(two, a), f.fsub(one, a));
    let q = f.fdiv(n, d);
    let l = log1p(f, q);
    let y = f.fmul(half, l);
    let y = f.copysign(y, x);
    let nan = f.float(x.ty, f64::NAN);
    let c = f.cmpf("ogt", a, one);
    f.select(c, nan, y)
}

pub(super) fn erf(f: &mut Fun, x: Val) -> Val {
    if is64(x) {
        return erf64(f, x);
    }
    let (a, s) = (f.fabs(x), f.fmul(x, x));
    // erf(x) = x + x·P(x²) near 0.
    let near = [1.283_791_66e-1, -3.761_253_36e-1, 1.128_199_25e-1, -2.676_813_49e-2, 4.991_194_23e-3, -5.967_617_03e-4];
    let p = poly(f, s, &near);
    let small = f.fma(p, x, x);
    // 1 − e^(−t + t·Q(t)) beyond.
    let far = [-1.287_175_12e-1, -6.348_466_87e-1, -1.067_778_77e-1, 2.425_462_19e-2, -3.883_964_38e-3, 3.831_971_26e-4, -1.728_534_7e-5];
    let top = f.float(x.ty, 4.0);
    let over = f.cmpf("ogt", a, top);
    let t = f.select(over, top, a);
    let q = poly(f, t, &far);
    let nt = f.fneg(t);
    let q = f.fma(q, t, nt);
    let e = exp(f, q);
    let one = f.float(x.ty, 1.0);
    let y = f.fsub(one, e);
    let y = f.copysign(y, x);
    let edge = f.float(x.ty, 0.927_734_375);
    let c = f.cmpf("ogt", a, edge);
    f.select(c, y, small)
}

/// A series of positive terms below 2.5, `1 − erfc` with the continued fraction of erfc above.
fn erf64(f: &mut Fun, x: Val) -> Val {
    let a = f.fabs(x);
    let one = f.float(x.ty, 1.0);
    // erf(x) = 2/√π · e^(−x²) · Σ 2ⁿ x^(2n+1) / (2n+1)!!: positive terms, no cancellation.
    let limit = f.float(x.ty, 2.5);
    let s_small = f.cmpf("olt", a, limit);
    let xs = f.select(s_small, a, one);
    let s = f.fmul(xs, xs);
    let mut coeffs = vec![1.0f64];
    for n in 1..48 {
        coeffs.push(coeffs[n - 1] * 2.0 / (2 * n + 1) as f64);
    }
    let series = poly(f, s, &coeffs);
    let ns = f.fneg(s);
    let e = exp(f, ns);
    let k = f.float(x.ty, std::f64::consts::FRAC_2_SQRT_PI);
    let t = f.fmul(series, xs);
    let t = f.fmul(t, e);
    let small = f.fmul(t, k);
    // erfc(x) = e^(−x²)/√π · 1/(x + (1/2)/(x + 1/(x + (3/2)/(x + …)))); from 2.5 on it is below 5e-4.
    let top = f.float(x.ty, 6.5);
    let over = f.cmpf("ogt", a, top);
    let xl = f.select(over, top, a);
    let below = f.cmpf("olt", xl, limit);
    let xl = f.select(below, limit, xl);
    let mut c = xl;
    for n in (1..=30).rev() {
        let h = f.float(x.ty, f64::from(n) / 2.0);
        let q = f.fdiv(h, c);
        c = f.fadd(xl, q);
    }
    let sl = f.fmul(xl, xl);
    let nl = f.fneg(sl);
    let el = exp(f, nl);
    let r = f.float(x.ty, std::f64::consts::FRAC_2_SQRT_PI / 2.0);
    let el = f.fmul(el, r);
    let q = f.fdiv(el, c);
    let large = f.fsub(one, q);
    let y = f.select(s_small, small, large);
    let y = f.copysign(y, x);
    let nan = f.cmpf("uno", x, x);
    f.select(nan, x, y)
}

/// x^y for f64 (f32 is widened by the caller).
pub(super) fn pow(f: &mut Fun, x: Val, y: Val) -> Val {
    let t = x.ty;
    let a = f.fabs(x);
    let l = log(f, a);
    let p = f.fmul(y, l);
    let m = exp(f, p);
    let (zero, one, half, nan) = (f.float(t, 0.0), f.float(t, 1.0), f.float(t, 0.5), f.float(t, f64::NAN));
    // A negative base (−0 too) has a sign where the exponent is an odd integer, and no power where it is no integer.
    let fl = f.intrinsic("floor", y);
    let whole = f.cmpf("oeq", fl, y);
    let h = f.fmul(y, half);
    let hf = f.intrinsic("floor", h);
    let even = f.cmpf("oeq", hf, h);
    let yes = f.int(I1, 1);
    let odd = f.arith("xori", even, yes);
    let odd = f.and(odd, whole);
    let signed = f.copysign(m, x);
    let m = f.select(odd, signed, m);
    let negative = f.cmpf("olt", x, zero);
    let ninf = f.float(t, f64::NEG_INFINITY);
    let finite = f.cmpf("ogt", x, ninf);
    let broken = f.arith("xori", whole, yes);
    let broken = f.and(broken, negative);
    let broken = f.and(broken, finite);
    let inf = f.float(t, f64::INFINITY);
    let ya = f.fabs(y);
    let y_inf = f.cmpf("oeq", ya, inf);
    let n_inf = f.arith("xori", y_inf, yes);
    let broken = f.and(broken, n_inf);
    let m = f.select(broken, nan, m);
    // |x| = 1 with an infinite exponent.
    let unit = f.cmpf("oeq", a, one);
    let c = f.and(unit, y_inf);
    let m = f.select(c, one, m);
    let c = f.cmpf("oeq", x, one);
    let m = f.select(c, one, m);
    let c = f.cmpf("oeq", y, zero);
    f.select(c, one, m)
}

/// C `fmod`, exactly: each round takes off a multiple of `y` with as many bits as a quotient holds.
pub(super) fn rem(f: &mut Fun, x: Val, y: Val) -> Val {
    let t = x.ty;
    let (ax, ay) = (f.fabs(x), f.fabs(y));
    let inf = f.float(t, f64::INFINITY);
    let zero = f.float(t, 0.0);
    let fin = f.cmpf("olt", ax, inf);
    let pos = f.cmpf("ogt", ay, zero);
    let ok = f.and(fin, pos);
    let nan = f.float(t, f64::NAN);
    let start = f.select(ok, ax, zero);
    let r = f.repeat(
        &[start],
        |f, r| {
            let a = f.fabs(r[0]);
            f.cmpf("oge", a, ay)
        },
        |f, r| {
            // A quotient that overflows would take off nothing that counts: then it is one by y·2ᵏ, or by y·2²ᵏ.
            let (top, step) = if t.elem == Elem::F64 { (2f64.powi(1000), 2f64.powi(600)) } else { (2f64.powi(126), 2f64.powi(80)) };
            let (top, step) = (f.float(t, top), f.float(t, step));
            let (mut d, mut q) = (ay, f.fdiv(r[0], ay));
            for _ in 0..2 {
                let size = f.fabs(q);
                let over = f.cmpf("ogt", size, top);
                let scaled = f.fmul(d, step);
                d = f.select(over, scaled, d);
                let less = f.fdiv(r[0], d);
                q = f.select(over, less, q);
            }
            let q = f.intrinsic("trunc", q);
            let n = f.fneg(q);
            vec![f.fma(n, d, r[0])]
        },
    );
    let neg = f.cmpf("olt", r[0], zero);
    let up = f.fadd(r[0], ay);
    let r = f.select(neg, up, r[0]);
    let r = f.copysign(r, x);
    let bad = f.cmpf("uno", y, y);
    let r = f.select(bad, nan, r);
    f.select(ok, r, nan)
}
