//! Floating-point arithmetic as PTX defines it: directed rounding, flush to zero, canonical NaNs and
//! the small formats.
//!
//! The idea for directed rounding: compute to nearest, find on which side of it the exact result lies
//! (an error-free transformation gives the sign), and step one unit where the direction asks for it.
//! `.approx` operations are computed in f64 and rounded once, so they are at least as accurate as any
//! device; a device may differ within the error bound that the PTX ISA states.

use super::isa::{F, Mode, Rnd};
use std::cmp::Ordering;

/// The NaN that single-precision instructions produce.
pub(super) const NAN32: u32 = 0x7fff_ffff;
/// The NaN of f16 and bf16 instructions.
pub(super) const NAN16: u32 = 0x7fff;

#[inline(always)]
pub(super) fn bits32(x: f32) -> u32 {
    if x.is_nan() { NAN32 } else { x.to_bits() }
}

#[inline(always)]
pub(super) fn flush(x: f32) -> f32 {
    if x.is_subnormal() { 0f32.copysign(x) } else { x }
}

/// The neighbour of `r` (rounded to nearest) that `rnd` wants, where `exact` says how the exact
/// result compares with `r`.
fn direct32(r: f32, exact: Ordering, rnd: Rnd) -> f32 {
    if r.is_nan() {
        return r;
    }
    match (rnd, exact) {
        (Rnd::Up, Ordering::Greater) => r.next_up(),
        (Rnd::Down, Ordering::Less) => r.next_down(),
        (Rnd::Zero, Ordering::Less) if r > 0.0 => r.next_down(),
        (Rnd::Zero, Ordering::Greater) if r < 0.0 => r.next_up(),
        _ => r,
    }
}

fn direct64(r: f64, exact: Ordering, rnd: Rnd) -> f64 {
    if r.is_nan() {
        return r;
    }
    match (rnd, exact) {
        (Rnd::Up, Ordering::Greater) => r.next_up(),
        (Rnd::Down, Ordering::Less) => r.next_down(),
        (Rnd::Zero, Ordering::Less) if r > 0.0 => r.next_down(),
        (Rnd::Zero, Ordering::Greater) if r < 0.0 => r.next_up(),
        _ => r,
    }
}

fn sign(e: f64) -> Ordering {
    e.partial_cmp(&0.0).unwrap_or(Ordering::Equal)
}

/// `(s, e)` with `s + e = a + b` exactly, `s` rounded to nearest.
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let s = a + b;
    let t = s - a;
    (s, (a - (s - t)) + (b - t))
}

/// f64 to f32 in any direction.
pub(super) fn narrow(x: f64, rnd: Rnd) -> f32 {
    if rnd == Rnd::Even {
        return x as f32;
    }
    let r = x as f32;
    direct32(r, x.partial_cmp(&f64::from(r)).unwrap_or(Ordering::Equal), rnd)
}

/// Exact `a·b + c` rounded to f32 in direction `rnd`.
fn fma32(a: f32, b: f32, c: f32, rnd: Rnd) -> f32 {
    let r = a.mul_add(b, c);
    if rnd == Rnd::Even || !a.is_finite() || !b.is_finite() || !c.is_finite() {
        return r;
    }
    let p = f64::from(a) * f64::from(b);
    let (s, e) = two_sum(p, f64::from(c));
    if s == 0.0 && e == 0.0 {
        // An exact zero of opposite signs is -0 when rounding down.
        let minus = p.is_sign_negative() && c.is_sign_negative();
        let mixed = p.is_sign_negative() != c.is_sign_negative() || p != 0.0;
        return if minus || (mixed && rnd == Rnd::Down) { -0.0 } else { 0.0 };
    }
    let side = match s.partial_cmp(&f64::from(r)) {
        Some(Ordering::Equal) | None => sign(e),
        Some(o) => o,
    };
    direct32(r, side, rnd)
}

fn fma64(a: f64, b: f64, c: f64, rnd: Rnd) -> f64 {
    let r = a.mul_add(b, c);
    if rnd == Rnd::Even || !r.is_finite() {
        return r;
    }
    // a·b = p + q exactly; p + q + c - r has the sign of its rounded three-term sum.
    let p = a * b;
    let q = a.mul_add(b, -p);
    let (s, e) = two_sum(p, c);
    if s == 0.0 && e == 0.0 && q == 0.0 {
        let mixed = p.is_sign_negative() != c.is_sign_negative() || p != 0.0;
        return if mixed && rnd == Rnd::Down { -0.0 } else { r };
    }
    let (h, l) = two_sum(s, -r);
    let (h2, l2) = two_sum(h, q);
    direct64(r, sign(h2 + (l2 + (l + e))), rnd)
}

/// Rational 2^x for f32 `x`, correctly rounded but for ties within 1e-11: range reduction in f64 and
/// the Taylor series of 2^f on [-1/2, 1/2]. Branch-free, so a warp's 32 lanes vectorise.
#[inline(always)]
pub(super) fn ex2(x: f32) -> f32 {
    let x = f64::from(x).clamp(-200.0, 200.0);
    // Adding 1.5·2^52 rounds to an integer and leaves it in the low bits.
    const MAGIC: f64 = 6_755_399_441_055_744.0;
    let shifted = x + MAGIC;
    let n = shifted - MAGIC;
    let t = (x - n) * std::f64::consts::LN_2;
    let mut y = 1.0 / 39_916_800.0;
    y = y * t + 1.0 / 3_628_800.0;
    y = y * t + 1.0 / 362_880.0;
    y = y * t + 1.0 / 40_320.0;
    y = y * t + 1.0 / 5_040.0;
    y = y * t + 1.0 / 720.0;
    y = y * t + 1.0 / 120.0;
    y = y * t + 1.0 / 24.0;
    y = y * t + 1.0 / 6.0;
    y = y * t + 0.5;
    y = y * t + 1.0;
    y = y * t + 1.0;
    let exponent = shifted.to_bits().wrapping_add(1023) << 52;
    (y * f64::from_bits(exponent)) as f32
}

#[inline(always)]
pub(super) fn min32(a: f32, b: f32) -> f32 {
    if a.is_nan() || b.is_nan() {
        return if a.is_nan() { b } else { a };
    }
    // -0 is below +0.
    if a < b || (a == b && a.is_sign_negative()) { a } else { b }
}

#[inline(always)]
pub(super) fn max32(a: f32, b: f32) -> f32 {
    if a.is_nan() || b.is_nan() {
        return if a.is_nan() { b } else { a };
    }
    if a > b || (a == b && a.is_sign_positive()) { a } else { b }
}

fn min64(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        return if a.is_nan() { b } else { a };
    }
    if a < b || (a == b && a.is_sign_negative()) { a } else { b }
}

fn max64(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        return if a.is_nan() { b } else { a };
    }
    if a > b || (a == b && a.is_sign_positive()) { a } else { b }
}

/// One f32 lane; `op` and `mode` are usually constants where this is inlined.
#[inline(always)]
pub(super) fn f32_op(op: F, mode: Mode, x: u32, y: u32, z: u32) -> u32 {
    let (mut a, mut b, mut c) = (f32::from_bits(x), f32::from_bits(y), f32::from_bits(z));
    if mode.ftz {
        (a, b, c) = (flush(a), flush(b), flush(c));
    }
    let mut r = if mode.rnd == Rnd::Even { f32_nearest(op, a, b, c) } else { f32_directed(op, mode.rnd, a, b, c) };
    // Sign operations keep a NaN's payload where no arithmetic happens.
    if matches!(op, F::Abs | F::Neg | F::Copysign) {
        return r.to_bits();
    }
    if mode.ftz {
        r = flush(r);
    }
    if mode.sat {
        r = if r.is_nan() { 0.0 } else { max32(0.0, min32(r, 1.0)) };
    }
    bits32(r)
}

#[inline(always)]
fn f32_nearest(op: F, a: f32, b: f32, c: f32) -> f32 {
    match op {
        F::Add => a + b,
        F::Sub => a - b,
        F::Mul => a * b,
        F::Fma => a.mul_add(b, c),
        F::FmaRelu => max32(a.mul_add(b, c), 0.0),
        F::Div => a / b,
        // 1/b is flushed to zero for b at or above 2^126.
        F::DivApprox => {
            if b.abs() > 8.507_059e37 && b.is_finite() {
                if a.is_infinite() { f32::NAN } else { 0f32.copysign(a * b.signum()) }
            } else {
                a / b
            }
        }
        F::Min => min32(a, b),
        F::Max => max32(a, b),
        F::MinNan => {
            if a.is_nan() || b.is_nan() {
                f32::NAN
            } else {
                min32(a, b)
            }
        }
        F::MaxNan => {
            if a.is_nan() || b.is_nan() {
                f32::NAN
            } else {
                max32(a, b)
            }
        }
        F::Abs => a.abs(),
        F::Neg => -a,
        // copysign d, a, b: sign of a on the magnitude of b.
        F::Copysign => b.copysign(a),
        F::Sqrt => a.sqrt(),
        F::Rsqrt => (1.0 / f64::from(a).sqrt()) as f32,
        F::Rcp => 1.0 / a,
        F::Ex2 => {
            if a.is_nan() {
                f32::NAN
            } else {
                ex2(a)
            }
        }
        F::Lg2 => f64::from(a).log2() as f32,
        F::Sin => f64::from(a).sin() as f32,
        F::Cos => f64::from(a).cos() as f32,
        F::Tanh => f64::from(a).tanh() as f32,
    }
}

fn f32_directed(op: F, rnd: Rnd, a: f32, b: f32, c: f32) -> f32 {
    let finite = a.is_finite() && b.is_finite();
    match op {
        F::Add => fma32(a, 1.0, b, rnd),
        F::Sub => fma32(a, 1.0, -b, rnd),
        F::Mul => narrow(f64::from(a) * f64::from(b), rnd),
        F::Fma => fma32(a, b, c, rnd),
        F::Div => {
            let r = a / b;
            if !finite || b == 0.0 || a == 0.0 {
                return r;
            }
            if r.is_infinite() {
                return narrow(f64::from(a) / f64::from(b), rnd);
            }
            let rest = f64::from(a) - f64::from(r) * f64::from(b);
            direct32(r, sign(if b < 0.0 { -rest } else { rest }), rnd)
        }
        F::Rcp => f32_directed(F::Div, rnd, 1.0, a, 0.0),
        F::Sqrt => {
            let r = a.sqrt();
            if !a.is_finite() || a <= 0.0 {
                return r;
            }
            direct32(r, sign(f64::from(a) - f64::from(r) * f64::from(r)), rnd)
        }
        _ => f32_nearest(op, a, b, c),
    }
}

/// One f64 lane.
#[inline(always)]
pub(super) fn f64_op(op: F, rnd: Rnd, x: u64, y: u64, z: u64) -> u64 {
    let (a, b, c) = (f64::from_bits(x), f64::from_bits(y), f64::from_bits(z));
    let r = if rnd == Rnd::Even {
        match op {
            F::Add => a + b,
            F::Sub => a - b,
            F::Mul => a * b,
            F::Fma | F::FmaRelu => a.mul_add(b, c),
            F::Div | F::DivApprox => a / b,
            F::Min | F::MinNan => min64(a, b),
            F::Max | F::MaxNan => max64(a, b),
            F::Abs => a.abs(),
            F::Neg => -a,
            F::Copysign => b.copysign(a),
            F::Sqrt => a.sqrt(),
            F::Rsqrt => 1.0 / a.sqrt(),
            F::Rcp => 1.0 / a,
            F::Ex2 => a.exp2(),
            F::Lg2 => a.log2(),
            F::Sin => a.sin(),
            F::Cos => a.cos(),
            F::Tanh => a.tanh(),
        }
    } else {
        f64_directed(op, rnd, a, b, c)
    };
    r.to_bits()
}

fn f64_directed(op: F, rnd: Rnd, a: f64, b: f64, c: f64) -> f64 {
    match op {
        F::Add => fma64(a, 1.0, b, rnd),
        F::Sub => fma64(a, 1.0, -b, rnd),
        F::Mul => fma64(a, b, if (a * b).is_sign_negative() { -0.0 } else { 0.0 }, rnd),
        F::Fma => fma64(a, b, c, rnd),
        F::Div | F::Rcp => {
            let (n, d) = if op == F::Rcp { (1.0, a) } else { (a, b) };
            let r = n / d;
            if !r.is_finite() || r == 0.0 {
                return r;
            }
            let rest = (-r).mul_add(d, n);
            direct64(r, sign(if d < 0.0 { -rest } else { rest }), rnd)
        }
        F::Sqrt => {
            let r = a.sqrt();
            if !r.is_finite() || r == 0.0 {
                return r;
            }
            direct64(r, sign((-r).mul_add(r, a)), rnd)
        }
        _ => f64::from_bits(f64_op(op, Rnd::Even, a.to_bits(), b.to_bits(), c.to_bits())),
    }
}

/// A small binary format: exponent and mantissa bits, and whether all-ones exponents hold numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    exp: u32,
    man: u32,
    /// e4m3: no infinity, one NaN per sign.
    finite_only: bool,
}

pub(super) const F16: Format = Format { exp: 5, man: 10, finite_only: false };
pub(super) const BF16: Format = Format { exp: 8, man: 7, finite_only: false };
pub(super) const TF32: Format = Format { exp: 8, man: 10, finite_only: false };
pub(super) const E4M3: Format = Format { exp: 4, man: 3, finite_only: true };
pub(super) const E5M2: Format = Format { exp: 5, man: 2, finite_only: false };

impl Format {
    fn max_bits(self) -> u32 {
        if self.finite_only { (1 << (self.exp + self.man)) - 2 } else { (((1 << self.exp) - 1) << self.man) - 1 }
    }

    fn infinity(self) -> u32 {
        self.max_bits() + 1
    }

    /// The format's bits for `x`, rounded once; overflow follows `rnd`, or clamps if `satfinite`.
    /// The exact value may lie beside `x` on the side `beside` (zero-sized error otherwise).
    pub(super) fn round(self, x: f64, beside: Ordering, rnd: Rnd, satfinite: bool) -> u32 {
        let sign_bit = 1u32 << (self.exp + self.man);
        if x.is_nan() {
            return sign_bit - 1;
        }
        let negative = x.is_sign_negative();
        let neg_bit = if negative { sign_bit } else { 0 };
        let mag = x.abs();
        // The side of the exact value, as a magnitude.
        let beside = if negative { beside.reverse() } else { beside };
        if mag.is_infinite() {
            return neg_bit | if satfinite || self.finite_only { self.max_bits() } else { self.infinity() };
        }
        let bias = (1i32 << (self.exp - 1)) - 1;
        let e = if mag == 0.0 { -1022 } else { ((mag.to_bits() >> 52) as i32 - 1023).max(-1022) };
        // One unit in the last place at this magnitude; subnormals share the smallest.
        let ulp = e.max(1 - bias) - self.man as i32;
        // Scaling by a power of two is exact here: |ulp| is at most a few hundred for normal f64.
        let scaled = mag * pow2(-ulp);
        let floor = scaled.floor();
        let rest = scaled - floor;
        let q = floor as u64;
        let half = match rest.partial_cmp(&0.5) {
            Some(Ordering::Equal) | None => beside,
            Some(o) => o,
        };
        let inexact = rest > 0.0 || beside != Ordering::Equal;
        // An exact value just below x where x is on the grid: truncation is one step less.
        let below = rest == 0.0 && beside == Ordering::Less && q > 0;
        let q = match rnd {
            Rnd::Even => match half {
                Ordering::Greater => q + 1,
                Ordering::Equal => q + (q & 1),
                Ordering::Less => q,
            },
            Rnd::Away => q + u64::from(half != Ordering::Less),
            Rnd::Zero => q - u64::from(below),
            Rnd::Up | Rnd::Down => {
                let away = (rnd == Rnd::Down) == negative;
                if below { q - u64::from(!away) } else { q + u64::from(away && inexact) }
            }
        };
        // Rebuild: the integer q at exponent field (ulp + man + bias), carries included.
        let field = (ulp + self.man as i32 + bias) as u64;
        let bits = if q >= 1 << self.man { ((field - 1) << self.man) + q } else { q };
        let max = u64::from(self.max_bits());
        let bits = if bits <= max {
            bits as u32
        } else {
            let truncates = match rnd {
                Rnd::Zero => true,
                Rnd::Up => negative,
                Rnd::Down => !negative,
                _ => false,
            };
            if truncates || satfinite || self.finite_only { self.max_bits() } else { self.infinity() }
        };
        neg_bit | bits
    }

    /// The value of `bits`, exactly.
    pub(super) fn value(self, bits: u32) -> f64 {
        let e = (bits >> self.man) & ((1 << self.exp) - 1);
        let m = bits & ((1 << self.man) - 1);
        let bias = (1i32 << (self.exp - 1)) - 1;
        let mag_bits = bits & ((1 << (self.exp + self.man)) - 1);
        let mag = if mag_bits > self.max_bits() {
            if !self.finite_only && m == 0 { f64::INFINITY } else { f64::NAN }
        } else if e == 0 {
            f64::from(m) * pow2(1 - bias - self.man as i32)
        } else {
            f64::from(m + (1 << self.man)) * pow2(e as i32 - bias - self.man as i32)
        };
        if bits >> (self.exp + self.man) & 1 == 1 { -mag } else { mag }
    }
}

fn pow2(n: i32) -> f64 {
    f64::from_bits(((n.clamp(-1022, 1023) + 1023) as u64) << 52)
}

/// f16 to f32: exact.
#[inline(always)]
pub(super) fn half_to_f32(h: u32) -> f32 {
    // Exponent and mantissa moved into place, then rescaled; subnormals come out right by the multiply.
    let mag = f32::from_bits((h & 0x7fff) << 13) * f32::from_bits(0x7780_0000);
    let special = if h & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(mag.to_bits() | special | ((h & 0x8000) << 16))
}

/// bf16 to f32: exact.
#[inline(always)]
pub(super) fn bf16_to_f32(h: u32) -> f32 {
    f32::from_bits(h << 16)
}

/// f32 to bf16, to nearest even.
#[inline(always)]
pub(super) fn f32_to_bf16(x: f32) -> u32 {
    let b = x.to_bits();
    if x.is_nan() { NAN16 } else { b.wrapping_add(0x7fff + ((b >> 16) & 1)) >> 16 }
}

/// f32 to f16, to nearest even.
#[inline(always)]
pub(super) fn f32_to_half(x: f32) -> u32 {
    let b = x.to_bits();
    let sign = (b >> 16) & 0x8000;
    let mag = b & 0x7fff_ffff;
    let bits = if mag > 0x7f80_0000 {
        return NAN16;
    } else if mag >= 0x4780_0000 {
        0x7c00
    } else if mag < 0x3880_0000 {
        // Subnormal: adding 0.5 aligns the ulp of f32 with that of f16, rounding to even.
        (f32::from_bits(mag) + 0.5).to_bits() - 0x3f00_0000
    } else {
        (mag.wrapping_sub(0x3800_0000).wrapping_add(0xfff + ((mag >> 13) & 1))) >> 13
    };
    sign | bits
}

/// f32 to tf32 in the upper bits of an f32, to nearest: even, or away from zero. A carry that reaches the exponent is what it should be.
#[inline(always)]
pub(super) fn f32_to_tf32(x: u32, rnd: Rnd) -> u32 {
    let half = if rnd == Rnd::Away { 0x1000 } else { 0xfff + (x >> 13 & 1) };
    if x & 0x7fff_ffff > 0x7f80_0000 { NAN32 } else { (x + half) & !0x1fff }
}

/// The plain operations on halves through f32: sums and products round twice harmlessly (24 ≥ 2·11 + 2
/// bits), and a fused result that might not is done again exactly.
#[inline(always)]
pub(super) fn f16_fast(op: F, bf: bool, x: u32, y: u32, z: u32) -> u32 {
    let load = |h: u32| if bf { bf16_to_f32(h) } else { half_to_f32(h) };
    let (a, b) = (load(x), load(y));
    let r = match op {
        F::Add => a + b,
        F::Sub => a - b,
        F::Mul => a * b,
        F::Min => min32(a, b),
        F::Max => max32(a, b),
        F::Fma => {
            let r = (f64::from(a) * f64::from(b) + f64::from(load(z))) as f32;
            // The bits below the result's last, where a tie is exactly half.
            let (low, tie, tiny) = if bf { (0xffff, 0x8000, f32::MIN_POSITIVE) } else { (0x1fff, 0x1000, 6.103_515_6e-5) };
            if r.to_bits() & low == tie || r.abs() < tiny {
                return f16_op(op, bf, Mode::PLAIN, x, y, z);
            }
            r
        }
        _ => return f16_op(op, bf, Mode::PLAIN, x, y, z),
    };
    if bf { f32_to_bf16(r) } else { f32_to_half(r) }
}

/// One f16 (or bf16) lane: operands are exact in f64, the result is rounded once.
pub(super) fn f16_op(op: F, bf: bool, mode: Mode, x: u32, y: u32, z: u32) -> u32 {
    let fmt = if bf { BF16 } else { F16 };
    match op {
        F::Abs => return x & 0x7fff,
        F::Neg => return (x ^ 0x8000) & 0xffff,
        F::Copysign => return (y & 0x7fff) | (x & 0x8000),
        _ => {}
    }
    let load = |h: u32| {
        let v = fmt.value(h);
        if mode.ftz && h & 0x7fff != 0 && h & 0x7fff < 1 << fmt.man { 0f64.copysign(v) } else { v }
    };
    let (a, b, c) = (load(x), load(y), load(z));
    let (r, e) = match op {
        F::Add => two_sum(a, b),
        F::Sub => two_sum(a, -b),
        F::Mul => (a * b, 0.0),
        F::Fma | F::FmaRelu => two_sum(a * b, c),
        // Min and max of bf16 and f16 select an operand.
        F::Min => (min64(a, b), 0.0),
        F::Max => (max64(a, b), 0.0),
        F::MinNan => (if a.is_nan() || b.is_nan() { f64::NAN } else { min64(a, b) }, 0.0),
        F::MaxNan => (if a.is_nan() || b.is_nan() { f64::NAN } else { max64(a, b) }, 0.0),
        F::Ex2 => (a.exp2(), 0.0),
        F::Tanh => (a.tanh(), 0.0),
        F::Div | F::DivApprox => (a / b, 0.0),
        F::Sqrt => (a.sqrt(), 0.0),
        F::Rsqrt => (1.0 / a.sqrt(), 0.0),
        F::Rcp => (1.0 / a, 0.0),
        F::Lg2 => (a.log2(), 0.0),
        F::Sin => (a.sin(), 0.0),
        F::Cos => (a.cos(), 0.0),
        F::Abs | F::Neg | F::Copysign => (a, 0.0),
    };
    let r = if op == F::FmaRelu && !r.is_nan() { max64(r, 0.0) } else { r };
    let r = if mode.sat { if r.is_nan() { 0.0 } else { r.clamp(0.0, 1.0) } } else { r };
    let e = if e.is_finite() { sign(e) } else { Ordering::Equal };
    let out = fmt.round(r, e, mode.rnd, false);
    if mode.ftz && out & 0x7fff != 0 && out & 0x7fff < 1 << fmt.man { out & 0x8000 } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tahoma_core::random::Random;

    #[test]
    fn tf32_in_bits_is_tf32_in_numbers() {
        let mut random = Random::new(77);
        let edges = [0, 1, 0xfff, 0x1000, 0x1001, 0x3000, 0x7f_ffff, 0x80_0000, 0x7f7f_efff, 0x7f7f_f000, 0x7f7f_ffff, 0x7f80_0000];
        let nans = [0x7f80_0001, 0x7fc0_0000, 0x7fff_ffff];
        let signs = |x: u32| [x, x | 0x8000_0000];
        for x in edges.into_iter().chain(nans).flat_map(signs).chain((0..100_000).map(|_| random.bits() as u32)) {
            for rnd in [Rnd::Even, Rnd::Away] {
                let v = f32::from_bits(x);
                let want = if v.is_nan() { NAN32 } else { TF32.round(f64::from(v), Ordering::Equal, rnd, false) << 13 };
                assert_eq!(f32_to_tf32(x, rnd), want, "{x:08x} {rnd:?}");
            }
        }
    }

    #[test]
    fn halves_round_trip_and_round_to_even() {
        for h in 0..0x1_0000u32 {
            let v = half_to_f32(h);
            let exact = F16.value(h);
            if v.is_nan() {
                assert!(exact.is_nan());
                continue;
            }
            assert_eq!(f64::from(v), exact, "{h:04x}");
            assert_eq!(f32_to_half(v), h, "{h:04x}");
            assert_eq!(half::f16::from_bits(h as u16).to_f32(), v);
        }
        let mut random = Random::new(12345);
        for _ in 0..300_000 {
            let s = random.bits();
            // Exponents around the f16 range, where rounding matters.
            let exp = 0x60 + (s >> 59) as u32 * 2;
            let x = f32::from_bits(((s >> 32) as u32 & 0x807f_ffff) | (exp << 23));
            let slow = F16.round(f64::from(x), Ordering::Equal, Rnd::Even, false);
            assert_eq!(f32_to_half(x), slow, "{x:e}");
            assert_eq!(u32::from(half::f16::from_f32(x).to_bits()), slow, "{x:e}");
            let b = BF16.round(f64::from(x), Ordering::Equal, Rnd::Even, false);
            assert_eq!(f32_to_bf16(x), b);
        }
    }

    #[test]
    fn halves_through_f32_equal_the_exact_ones() {
        let mut random = Random::new(99);
        for i in 0..400_000u32 {
            let s = random.bits();
            let (x, y, z) = ((s >> 16) as u32 & 0xffff, (s >> 32) as u32 & 0xffff, (s >> 48) as u32 & 0xffff);
            // Few mantissa bits make ties common.
            let cut = if i % 2 == 0 { 0xffff } else { 0xff80 };
            let (x, y, z) = (x & cut, y & cut, z & cut);
            for bf in [false, true] {
                for op in [F::Add, F::Sub, F::Mul, F::Fma, F::Min, F::Max] {
                    let (fast, exact) = (f16_fast(op, bf, x, y, z), f16_op(op, bf, Mode::PLAIN, x, y, z));
                    assert_eq!(fast, exact, "{op:?} {bf} {x:04x} {y:04x} {z:04x}");
                }
            }
        }
    }

    #[test]
    fn directed_rounding_brackets_the_exact_result() {
        let (a, b) = (1.0f32, 1e-20f32);
        let m = |rnd| Mode { rnd, ..Mode::PLAIN };
        let op = |op, rnd, a: f32, b: f32| f32::from_bits(f32_op(op, m(rnd), a.to_bits(), b.to_bits(), 0));
        assert_eq!(op(F::Add, Rnd::Up, a, b), a.next_up());
        assert_eq!(op(F::Add, Rnd::Down, a, b), a);
        assert_eq!(op(F::Sub, Rnd::Zero, a, b), a.next_down());
        assert_eq!(op(F::Add, Rnd::Down, 1.0, -1.0).to_bits(), 0x8000_0000);
        assert_eq!(op(F::Mul, Rnd::Zero, 3e38, 3e38), f32::MAX);
        assert_eq!(op(F::Div, Rnd::Up, 1.0, 3.0), (1f32 / 3.0).max(op(F::Div, Rnd::Down, 1.0, 3.0).next_up()));
        for (x, y) in [(0.1f32, 7.3f32), (-5.5, 1e-3), (1e30, -3.3)] {
            for o in [F::Add, F::Sub, F::Mul, F::Div] {
                let (lo, hi) = (op(o, Rnd::Down, x, y), op(o, Rnd::Up, x, y));
                let near = op(o, Rnd::Even, x, y);
                assert!(lo <= near && near <= hi && (lo == hi || lo.next_up() == hi), "{o:?} {x} {y}");
            }
        }
        let d = |rnd| f64::from_bits(f64_op(F::Mul, rnd, 0.1f64.to_bits(), 0.3f64.to_bits(), 0));
        assert_eq!(d(Rnd::Down).next_up(), d(Rnd::Up));
    }

    #[test]
    fn ex2_is_correctly_rounded_on_a_sweep() {
        let mut x = -150.0f32;
        while x < 129.0 {
            assert_eq!(ex2(x), f64::from(x).exp2() as f32, "{x}");
            x += 0.001_37;
        }
        assert_eq!(ex2(f32::INFINITY), f32::INFINITY);
        assert_eq!(ex2(f32::NEG_INFINITY), 0.0);
    }

    #[test]
    fn eight_bit_formats_saturate() {
        assert_eq!(E4M3.round(1e9, Ordering::Equal, Rnd::Even, true), 0x7e);
        assert_eq!(E4M3.value(0x7e), 448.0);
        assert_eq!(E5M2.value(0x7b), 57344.0);
        assert_eq!(E5M2.round(-1e9, Ordering::Equal, Rnd::Even, true), 0xfb);
        for b in 0..0x7f {
            assert_eq!(E4M3.round(E4M3.value(b), Ordering::Equal, Rnd::Even, true), b);
        }
    }
}
