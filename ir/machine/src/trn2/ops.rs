//! ALU operators and activation functions: name, meaning in f32, where they are legal.
//!
//! Source: NKI 0.6 `nki.isa` supported math operators and activation functions. Engines compute in fp32; the bit operators take
//! integers and do not convert. Hardware evaluates activations as piecewise polynomials whose coefficients are not public, so
//! `f` is the exact function and a comparison with hardware needs a tolerance of about 1e-2 in bf16.

use Group::*;

/// What an [`AluDef`] may be mixed with: both operators of one instruction are of one group, `Unary` counting as `Arith`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Integers, bit-exact, no conversion.
    Bit,
    /// fp32.
    Arith,
    /// fp32, ignores the second operand.
    Unary,
}

/// An operator of an `op` field, printed `nl.NAME`.
#[derive(Debug)]
pub struct AluDef {
    pub name: &'static str,
    pub group: Group,
    /// Start value where the operator may reduce.
    pub identity: Option<f32>,
    pub gpsimd_only: bool,
    /// Meaning in fp32 (`Bit` operators: unused).
    pub f: fn(f32, f32) -> f32,
    /// Meaning on integers: for `Bit` operators, and for the exact integer arithmetic of GpSimd. Wrapped to the dtype by the caller.
    pub i: Option<fn(i64, i64) -> i64>,
}

fn truth(b: bool) -> f32 {
    if b { 1.0 } else { 0.0 }
}
fn max(a: f32, b: f32) -> f32 {
    if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) }
}
fn min(a: f32, b: f32) -> f32 {
    if a.is_nan() || b.is_nan() { f32::NAN } else { a.min(b) }
}
fn none(_: f32, _: f32) -> f32 {
    f32::NAN
}

const fn alu(
    name: &'static str,
    group: Group,
    identity: Option<f32>,
    gpsimd_only: bool,
    f: fn(f32, f32) -> f32,
    i: Option<fn(i64, i64) -> i64>,
) -> AluDef {
    AluDef { name, group, identity, gpsimd_only, f, i }
}

/// Every ALU operator of trn2. `divide`, `modulo`, `floor` and `ceil` do not exist on the machine; `abs_max` and `abs_min` are of trn3
/// (release notes of NKI 0.4.0).
pub static ALU: &[AluDef] = &[
    alu("invert", Bit, None, false, none, Some(|a, _| !a)),
    alu("bitwise_and", Bit, Some(-1.0), false, none, Some(|a, b| a & b)),
    alu("bitwise_or", Bit, Some(0.0), false, none, Some(|a, b| a | b)),
    alu("bitwise_xor", Bit, Some(0.0), false, none, Some(|a, b| a ^ b)),
    alu("left_shift", Bit, None, false, none, Some(|a, b| if (0..64).contains(&b) { a << b } else { 0 })),
    // Logical: the caller passes the dtype's bits zero-extended.
    alu("right_shift", Bit, None, false, none, Some(|a, b| if (0..64).contains(&b) { ((a as u64) >> b) as i64 } else { 0 })),
    alu("add", Arith, Some(0.0), false, |a, b| a + b, Some(|a, b| a.wrapping_add(b))),
    alu("subtract", Arith, Some(0.0), false, |a, b| a - b, Some(|a, b| a.wrapping_sub(b))),
    alu("multiply", Arith, Some(1.0), false, |a, b| a * b, Some(|a, b| a.wrapping_mul(b))),
    alu("maximum", Arith, Some(f32::NEG_INFINITY), false, max, Some(|a, b| a.max(b))),
    alu("minimum", Arith, Some(f32::INFINITY), false, min, Some(|a, b| a.min(b))),
    alu("equal", Arith, None, false, |a, b| truth(a == b), Some(|a, b| (a == b) as i64)),
    alu("not_equal", Arith, None, false, |a, b| truth(a != b), Some(|a, b| (a != b) as i64)),
    alu("greater_equal", Arith, None, false, |a, b| truth(a >= b), Some(|a, b| (a >= b) as i64)),
    alu("greater", Arith, None, false, |a, b| truth(a > b), Some(|a, b| (a > b) as i64)),
    alu("less_equal", Arith, None, false, |a, b| truth(a <= b), Some(|a, b| (a <= b) as i64)),
    alu("less", Arith, None, false, |a, b| truth(a < b), Some(|a, b| (a < b) as i64)),
    alu("logical_and", Arith, Some(1.0), false, |a, b| truth(a != 0.0 && b != 0.0), Some(|a, b| (a != 0 && b != 0) as i64)),
    alu("logical_or", Arith, Some(0.0), false, |a, b| truth(a != 0.0 || b != 0.0), Some(|a, b| (a != 0 || b != 0) as i64)),
    alu("logical_xor", Arith, Some(0.0), false, |a, b| truth((a != 0.0) != (b != 0.0)), Some(|a, b| ((a != 0) != (b != 0)) as i64)),
    alu("power", Arith, None, true, |a, b| a.powf(b), None),
    alu("abs", Unary, None, false, |a, _| a.abs(), None),
    alu("square", Unary, None, false, |a, _| a * a, None),
    alu("relu", Unary, None, false, |a, _| max(a, 0.0), None),
    alu("rsqrt", Unary, None, true, |a, _| 1.0 / a.sqrt(), None),
    alu("reciprocal", Unary, None, false, |a, _| 1.0 / a, None),
];

/// Looks an ALU operator up by its NKI name.
pub fn alu_op(name: &str) -> Option<&'static AluDef> {
    ALU.iter().find(|a| a.name == name)
}

/// A function of the Scalar engine's `activation`, printed `nl.NAME`.
#[derive(Debug)]
pub struct ActDef {
    pub name: &'static str,
    /// Inputs outside give garbage on hardware; the simulator computes the exact function and warns.
    pub valid: (f32, f32),
    /// The exact function.
    pub f: fn(f32) -> f32,
    pub doc: &'static str,
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}
fn erf(x: f32) -> f32 {
    libm::erff(x)
}
fn tanh(x: f32) -> f32 {
    x.tanh()
}
fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}
/// 2/√π
const TWO_SQRT_PI: f32 = std::f32::consts::FRAC_2_SQRT_PI;
/// √(2/π)
const SQRT_2_PI: f32 = 0.797_884_6;
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}
fn gelu_dx(x: f32) -> f32 {
    0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)) + x * (-0.5 * x * x).exp() * (0.5 * SQRT_2_PI)
}
fn gelu_tanh(x: f32) -> f32 {
    0.5 * x * (1.0 + tanh(SQRT_2_PI * (x + 0.044715 * x * x * x)))
}
fn gelu_sigmoid_dx(x: f32) -> f32 {
    let s = sigmoid(1.702 * x);
    s + 1.702 * x * s * (1.0 - s)
}
fn silu_dx(x: f32) -> f32 {
    let s = sigmoid(x);
    s + x * s * (1.0 - s)
}

const ALL: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);
/// 2^-64, 2^64 and so on, exactly.
const fn pow2(e: i32) -> f32 {
    f32::from_bits(((e + 127) as u32) << 23)
}

/// Activation functions with their valid input ranges. `prelu` is left out: its slope operand is not documented for NKI 0.6.
pub static ACTIVATIONS: &[ActDef] = &[
    ActDef { name: "copy", valid: ALL, f: |x| x, doc: "x" },
    ActDef { name: "square", valid: ALL, f: |x| x * x, doc: "x²" },
    ActDef { name: "sigmoid", valid: ALL, f: sigmoid, doc: "1/(1+e⁻ˣ)" },
    ActDef { name: "relu", valid: ALL, f: |x| max(x, 0.0), doc: "max(x, 0)" },
    ActDef { name: "gelu", valid: ALL, f: gelu, doc: "x·Φ(x), exact erf form" },
    ActDef { name: "gelu_dx", valid: ALL, f: gelu_dx, doc: "derivative of gelu" },
    ActDef { name: "gelu_apprx_tanh", valid: ALL, f: gelu_tanh, doc: "tanh form of gelu" },
    ActDef { name: "gelu_apprx_sigmoid", valid: ALL, f: |x| x * sigmoid(1.702 * x), doc: "x·σ(1.702x)" },
    ActDef { name: "gelu_apprx_sigmoid_dx", valid: ALL, f: gelu_sigmoid_dx, doc: "derivative of gelu_apprx_sigmoid" },
    ActDef { name: "silu", valid: ALL, f: |x| x * sigmoid(x), doc: "x·σ(x)" },
    ActDef { name: "silu_dx", valid: ALL, f: silu_dx, doc: "derivative of silu" },
    ActDef { name: "tanh", valid: ALL, f: tanh, doc: "tanh x" },
    ActDef { name: "softplus", valid: ALL, f: softplus, doc: "ln(1+eˣ)" },
    ActDef { name: "mish", valid: ALL, f: |x| x * tanh(softplus(x)), doc: "x·tanh(softplus x)" },
    ActDef { name: "erf", valid: ALL, f: erf, doc: "error function" },
    ActDef { name: "erf_dx", valid: ALL, f: |x| TWO_SQRT_PI * (-x * x).exp(), doc: "derivative of erf" },
    ActDef { name: "exp", valid: ALL, f: f32::exp, doc: "eˣ" },
    ActDef {
        name: "sign",
        valid: ALL,
        f: |x| {
            if x > 0.0 {
                1.0
            } else if x < 0.0 {
                -1.0
            } else {
                x
            }
        },
        doc: "-1, 0 or 1",
    },
    ActDef { name: "abs", valid: ALL, f: f32::abs, doc: "|x|" },
    ActDef { name: "log", valid: (pow2(-64), pow2(64)), f: f32::ln, doc: "ln x" },
    ActDef { name: "sin", valid: (-std::f32::consts::PI, std::f32::consts::PI), f: f32::sin, doc: "sin x, no range reduction" },
    ActDef { name: "arctan", valid: (-std::f32::consts::FRAC_PI_2, std::f32::consts::FRAC_PI_2), f: f32::atan, doc: "arctan x" },
    // Zero is inside: the hardware returns 0 for it.
    ActDef { name: "sqrt", valid: (pow2(-116), pow2(118)), f: f32::sqrt, doc: "√x" },
    ActDef { name: "rsqrt", valid: (pow2(-87), pow2(97)), f: |x| 1.0 / x.sqrt(), doc: "1/√x" },
    ActDef { name: "reciprocal", valid: (-pow2(42), pow2(42)), f: |x| 1.0 / x, doc: "1/x; |x| between 2⁻⁴² and 2⁴²" },
];

impl ActDef {
    /// Whether hardware gives the function's value at `x`. Zero is taken as valid for sqrt.
    pub fn in_range(&self, x: f32) -> bool {
        let inside = x >= self.valid.0 && x <= self.valid.1;
        match self.name {
            "reciprocal" => inside && x.abs() >= pow2(-42),
            "sqrt" => inside || x == 0.0,
            _ => inside || x.is_nan(),
        }
    }
    /// Whether every input is valid, so that no check is needed.
    pub fn total(&self) -> bool {
        self.valid == ALL
    }
}

/// Looks an activation function up by its NKI name.
pub fn activation(name: &str) -> Option<&'static ActDef> {
    ACTIVATIONS.iter().find(|a| a.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivatives_match_differences() {
        for (f, d) in [("gelu", "gelu_dx"), ("silu", "silu_dx"), ("erf", "erf_dx"), ("gelu_apprx_sigmoid", "gelu_apprx_sigmoid_dx")] {
            let (f, d) = (activation(f).unwrap(), activation(d).unwrap());
            for x in [-2.0f32, -0.7, 0.0, 0.3, 1.5] {
                let h = 1e-2;
                let slope = ((f.f)(x + h) - (f.f)(x - h)) / (2.0 * h);
                assert!((slope - (d.f)(x)).abs() < 1e-3, "{} at {x}: {slope} and {}", d.name, (d.f)(x));
            }
        }
    }

    #[test]
    fn ranges_are_the_documented_ones() {
        assert!(!activation("sin").unwrap().in_range(9.0));
        assert!(activation("exp").unwrap().total());
        assert!(!activation("log").unwrap().in_range(0.0));
        assert!(!activation("reciprocal").unwrap().in_range(0.0));
        assert_eq!(pow2(-64), 2f32.powi(-64));
    }
}
