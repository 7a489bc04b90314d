//! Scalar expressions as operations on SSA values.
//!
//! | element type | in memory | in a register | computes in |
//! |---|---|---|---|
//! | f64, f32 (tf32) | itself | itself | itself |
//! | f16, bf16 | itself | f32 that a 16-bit number fits in exactly | f32, rounded after each step |
//! | integers | itself, no sign | itself | itself; the step's type says the sign |
//! | bool | one byte, 0 or 1 | i1 | |
//!
//! The 8-bit and smaller floats and the 4- and 2-bit integers have no form here.

use super::math;
use super::printer::*;
use tahoma_core::numeric;
use tahoma_core::op::Monoid;
use tahoma_core::scalar::{Binary, Compare, Expr, Step, Unary};
use tahoma_core::types::{Class, DType};

/// Type in memory; `None` for the number types kernels do not have.
pub(super) fn memory_ty(d: DType) -> Option<Ty> {
    Some(match d {
        DType::F64 => F64,
        DType::F32 | DType::TF32 => F32,
        DType::F16 => F16,
        DType::BF16 => BF16,
        DType::Bool => I8,
        DType::I64 | DType::U64 => I64,
        DType::I32 | DType::U32 => I32,
        DType::I16 | DType::U16 => Ty { elem: Elem::I16, lanes: 1 },
        DType::I8 | DType::U8 => I8,
        _ => return None,
    })
}

/// Type in a register.
pub(super) fn value_ty(d: DType) -> Ty {
    match d {
        DType::F16 | DType::BF16 => F32,
        DType::Bool => I1,
        _ => memory_ty(d).unwrap_or(F32),
    }
}

/// A loaded element as a value.
pub(super) fn from_memory(f: &mut Fun, v: Val, d: DType) -> Val {
    match d {
        DType::F16 | DType::BF16 => f.convert("extf", v, F32),
        DType::Bool => {
            let zero = f.int(I8, 0);
            f.cmpi("ne", v, zero)
        }
        _ => v,
    }
}

/// A value as it is stored.
pub(super) fn to_memory(f: &mut Fun, v: Val, d: DType) -> Val {
    match d {
        DType::F16 => f.convert("truncf", v, F16),
        DType::BF16 => f.convert("truncf", v, BF16),
        DType::Bool => f.convert("extui", v, I8),
        _ => v,
    }
}

/// A constant of number type `d`.
pub(super) fn constant(f: &mut Fun, d: DType, x: f64) -> Val {
    let t = value_ty(d);
    match d {
        DType::F16 => f.float(t, half::f16::from_f32(numeric::odd_f32(x)).to_f64()),
        DType::BF16 => f.float(t, half::bf16::from_f32(numeric::odd_f32(x)).to_f64()),
        DType::Bool => f.int(t, i64::from(x != 0.0)),
        DType::U64 => f.int(t, if x >= 0.0 { x as u64 as i64 } else { x as i64 }),
        _ if d.is_float() => f.float(t, x),
        _ => f.int(t, x as i64),
    }
}

/// Rounds the result of a step to its type.
fn fit(f: &mut Fun, v: Val, d: DType) -> Val {
    let m = match d {
        DType::F16 => F16,
        DType::BF16 => BF16,
        _ => return v,
    };
    let n = f.convert("truncf", v, m);
    f.convert("extf", n, F32)
}

/// The number `v` of type `from` as type `to`: floats round, integers wrap, float to integer truncates and saturates.
pub(super) fn cast(f: &mut Fun, v: Val, from: DType, to: DType) -> Val {
    let (a, b) = (v.ty, value_ty(to));
    if to == DType::Bool {
        if from == DType::Bool {
            return v;
        }
        if from.is_float() {
            let zero = f.float(a, 0.0);
            return f.cmpf("une", v, zero);
        }
        let zero = f.int(a, 0);
        return f.cmpi("ne", v, zero);
    }
    let unsigned = matches!(from.class(), Class::Unsigned | Class::Bool);
    let name = if unsigned { "uitofp" } else { "sitofp" };
    // What f32 does not hold is not rounded to it and then again.
    if matches!(to, DType::F16 | DType::BF16) && (from == DType::F64 || (from.is_int() && a.bits() >= 32)) {
        let w = match a.bits() {
            _ if from == DType::F64 => v,
            64 => wide_int(f, v, unsigned, name),
            _ => f.convert(name, v, F64),
        };
        let w = odd(f, w);
        return fit(f, w, to);
    }
    if to.is_float() {
        let w = if from.is_float() {
            match (a.bits(), b.bits()) {
                (64, 32) => f.convert("truncf", v, b),
                (32, 64) => f.convert("extf", v, b),
                _ => v,
            }
        } else {
            f.convert(name, v, b)
        };
        return fit(f, w, to);
    }
    if from.is_float() {
        let name = if to.class() == Class::Unsigned { "fptoui" } else { "fptosi" };
        return f.op(b, format!("llvm.call_intrinsic \"llvm.{name}.sat.{b}.{a}\"({v}) : ({a}) -> {b}"));
    }
    match a.bits().cmp(&b.bits()) {
        std::cmp::Ordering::Less => f.convert(if unsigned { "extui" } else { "extsi" }, v, b),
        std::cmp::Ordering::Greater => f.convert("trunci", v, b),
        std::cmp::Ordering::Equal => v,
    }
}

/// An f64 as f32, rounded to odd ([`tahoma_core::numeric::odd_f32`]).
fn odd(f: &mut Fun, v: Val) -> Val {
    let near = f.convert("truncf", v, F32);
    let back = f.convert("extf", near, F64);
    let (size, whole) = (f.fabs(back), f.fabs(v));
    let (differs, past) = (f.cmpf("one", back, v), f.cmpf("ogt", size, whole));
    let bits = f.convert("bitcast", near, I32);
    let (one, less) = (f.int(I32, 1), f.int(I32, -1));
    let below = f.arith("addi", bits, less);
    let down = f.select(past, below, bits);
    let last = f.arith("ori", down, one);
    let bits = f.select(differs, last, bits);
    f.convert("bitcast", bits, F32)
}

/// A 64-bit integer as f64, to be rounded to few digits: from 2⁵³ on its low 12 bits only tell whether there are any.
fn wide_int(f: &mut Fun, v: Val, unsigned: bool, name: &str) -> Val {
    let (low, high, some, zero) = (f.int(I64, 0xfff), f.int(I64, !0xfff), f.int(I64, 0x800), f.int(I64, 0));
    let (rest, body) = (f.arith("andi", v, low), f.arith("andi", v, high));
    let any = f.cmpi("ne", rest, zero);
    let sticky = f.arith("ori", body, some);
    let folded = f.select(any, sticky, body);
    let far = f.int(I64, if unsigned { 0 } else { 1 << 53 });
    let (at, most) = (f.arith("addi", v, far), f.int(I64, if unsigned { 1 << 53 } else { 1 << 54 }));
    let small = f.cmpi("ult", at, most);
    let v = f.select(small, v, folded);
    f.convert(name, v, F64)
}

/// The value of an expression.
pub(super) fn expr(f: &mut Fun, e: &Expr, inputs: &[Val]) -> Val {
    let mut v: Vec<Val> = Vec::with_capacity(e.steps.len());
    for (s, d) in &e.steps {
        let of = |i: usize| e.steps[i].1;
        let x = match *s {
            Step::Input(i) => inputs[i],
            Step::Const(c) => constant(f, *d, c.0),
            Step::Unary(u, a) => {
                let y = unary(f, u, v[a], of(a));
                fit(f, y, *d)
            }
            Step::Binary(Binary::Pow, a, b) if constant_of(e, b).is_some_and(easy_power) && of(a).is_float() => {
                let y = power(f, v[a], constant_of(e, b).unwrap_or(1.0));
                fit(f, y, *d)
            }
            Step::Binary(b, p, q) => {
                let y = binary(f, b, v[p], v[q], *d);
                fit(f, y, *d)
            }
            Step::Compare(c, p, q) => compare(f, c, v[p], v[q], of(p)),
            Step::Select(c, a, b) => f.select(v[c], v[a], v[b]),
            Step::Cast(a) => cast(f, v[a], of(a), *d),
        };
        v.push(x);
    }
    match v.last() {
        Some(&x) => x,
        None => f.float(F32, 0.0),
    }
}

fn constant_of(e: &Expr, i: usize) -> Option<f64> {
    match e.steps[i].0 {
        Step::Const(c) => Some(c.0),
        Step::Cast(a) => constant_of(e, a),
        _ => None,
    }
}

/// Exponents that need no logarithm.
fn easy_power(y: f64) -> bool {
    [0.0, 1.0, 2.0, 3.0, 4.0, -1.0].contains(&y)
}

fn power(f: &mut Fun, x: Val, y: f64) -> Val {
    let one = f.float(x.ty, 1.0);
    let square = f.fmul(x, x);
    match y as i64 {
        0 => one,
        1 => x,
        2 => square,
        3 => f.fmul(square, x),
        4 => f.fmul(square, square),
        _ => f.fdiv(one, x),
    }
}

fn unary(f: &mut Fun, u: Unary, x: Val, d: DType) -> Val {
    if d == DType::Bool {
        let one = f.int(I1, 1);
        return match u {
            Unary::Not | Unary::BitNot => f.arith("xori", x, one),
            _ => x,
        };
    }
    if !d.is_float() {
        let zero = f.int(x.ty, 0);
        let unsigned = d.class() == Class::Unsigned;
        return match u {
            Unary::Neg => f.arith("subi", zero, x),
            Unary::Abs if unsigned => x,
            Unary::Abs => {
                let n = f.arith("subi", zero, x);
                let c = f.cmpi("slt", x, zero);
                f.select(c, n, x)
            }
            Unary::Sign => {
                let (one, less) = (f.int(x.ty, 1), f.int(x.ty, -1));
                let nz = f.cmpi("ne", x, zero);
                let y = f.select(nz, one, zero);
                if unsigned {
                    return y;
                }
                let c = f.cmpi("slt", x, zero);
                f.select(c, less, y)
            }
            Unary::Not => {
                let (one, c) = (f.int(x.ty, 1), f.cmpi("eq", x, zero));
                f.select(c, one, zero)
            }
            Unary::BitNot => {
                let m = f.int(x.ty, -1);
                f.arith("xori", x, m)
            }
            Unary::IsNan | Unary::IsInf => f.int(I1, 0),
            _ => x,
        };
    }
    let one = f.float(x.ty, 1.0);
    match u {
        Unary::Neg => f.fneg(x),
        Unary::Abs => f.fabs(x),
        Unary::Sign => {
            let zero = f.float(x.ty, 0.0);
            let s = f.copysign(one, x);
            // Zero and NaN are their own signs.
            let c = f.cmpf("one", x, zero);
            f.select(c, s, x)
        }
        Unary::Reciprocal => f.fdiv(one, x),
        Unary::Sqrt => f.intrinsic("sqrt", x),
        Unary::Rsqrt => {
            let r = f.intrinsic("sqrt", x);
            f.fdiv(one, r)
        }
        Unary::Exp => math::exp(f, x),
        Unary::Log => math::log(f, x),
        Unary::Sin => math::sin(f, x),
        Unary::Cos => math::cos(f, x),
        Unary::Tan => math::tan(f, x),
        Unary::Asin => math::asin(f, x),
        Unary::Acos => math::acos(f, x),
        Unary::Atan => math::atan(f, x),
        Unary::Sinh => math::sinh(f, x),
        Unary::Cosh => math::cosh(f, x),
        Unary::Tanh => math::tanh(f, x),
        Unary::Asinh => math::asinh(f, x),
        Unary::Acosh => math::acosh(f, x),
        Unary::Atanh => math::atanh(f, x),
        Unary::Erf => math::erf(f, x),
        Unary::Sigmoid => math::sigmoid(f, x),
        Unary::Floor => f.intrinsic("floor", x),
        Unary::Ceil => f.intrinsic("ceil", x),
        Unary::Round => f.intrinsic("roundeven", x),
        Unary::Not | Unary::BitNot => {
            let zero = f.float(x.ty, 0.0);
            let c = f.cmpf("oeq", x, zero);
            f.select(c, one, zero)
        }
        Unary::IsNan => f.cmpf("uno", x, x),
        Unary::IsInf => {
            let (a, inf) = (f.fabs(x), f.float(x.ty, f64::INFINITY));
            f.cmpf("oeq", a, inf)
        }
    }
}

fn compare(f: &mut Fun, c: Compare, a: Val, b: Val, d: DType) -> Val {
    if d.is_float() {
        let p = match c {
            Compare::Eq => "oeq",
            Compare::Ne => "une",
            Compare::Lt => "olt",
            Compare::Le => "ole",
            Compare::Gt => "ogt",
            Compare::Ge => "oge",
        };
        return f.cmpf(p, a, b);
    }
    let unsigned = d.class() != Class::Signed;
    let p = match c {
        Compare::Eq => "eq",
        Compare::Ne => "ne",
        Compare::Lt if unsigned => "ult",
        Compare::Le if unsigned => "ule",
        Compare::Gt if unsigned => "ugt",
        Compare::Ge if unsigned => "uge",
        Compare::Lt => "slt",
        Compare::Le => "sle",
        Compare::Gt => "sgt",
        Compare::Ge => "sge",
    };
    f.cmpi(p, a, b)
}

/// One operation on two numbers of type `d`; 16-bit floats come and go unrounded.
pub(super) fn binary(f: &mut Fun, b: Binary, x: Val, y: Val, d: DType) -> Val {
    if d.is_float() {
        return match b {
            Binary::Add => f.fadd(x, y),
            Binary::Sub => f.fsub(x, y),
            Binary::Mul => f.fmul(x, y),
            Binary::Div => f.fdiv(x, y),
            Binary::Max => f.float2("maximumf", x, y),
            Binary::Min => f.float2("minimumf", x, y),
            Binary::Rem => math::rem(f, x, y),
            Binary::Mod => {
                let r = math::rem(f, x, y);
                let zero = f.float(x.ty, 0.0);
                let (rn, yn) = (f.cmpf("olt", r, zero), f.cmpf("olt", y, zero));
                let differ = f.arith("xori", rn, yn);
                let some = f.cmpf("one", r, zero);
                let c = f.and(differ, some);
                let up = f.fadd(r, y);
                f.select(c, up, r)
            }
            Binary::Pow => {
                let (p, q) = if x.ty == F64 { (x, y) } else { (f.convert("extf", x, F64), f.convert("extf", y, F64)) };
                let r = math::pow(f, p, q);
                if x.ty == F64 { r } else { f.convert("truncf", r, x.ty) }
            }
            // No meaning on floats; the op table never makes these.
            _ => f.float(x.ty, f64::NAN),
        };
    }
    let unsigned = d.class() != Class::Signed;
    let pick = |s: &'static str, u: &'static str| if unsigned { u } else { s };
    match b {
        Binary::Add if d == DType::Bool => f.arith("ori", x, y),
        Binary::Mul if d == DType::Bool => f.and(x, y),
        Binary::Add => f.arith("addi", x, y),
        Binary::Sub => f.arith("subi", x, y),
        Binary::Mul => f.arith("muli", x, y),
        Binary::Div | Binary::Rem | Binary::Mod => divide(f, b, x, y, unsigned),
        Binary::Pow => int_power(f, x, y, unsigned),
        Binary::Max => f.arith(pick("maxsi", "maxui"), x, y),
        Binary::Min => f.arith(pick("minsi", "minui"), x, y),
        Binary::And | Binary::BitAnd => f.and(x, y),
        Binary::Or | Binary::BitOr => f.arith("ori", x, y),
        Binary::Xor | Binary::BitXor => f.arith("xori", x, y),
        Binary::Shl | Binary::Shr => {
            // A shift by the width or more leaves nothing (the sign, where there is one): by one less, and once more. A selection of 0
            // in its place becomes one shift by the low 32 bits of `y` in LLVM 21's PTX.
            let top = f.int(x.ty, i64::from(x.ty.bits()) - 1);
            let (over, by) = (f.cmpi("ugt", y, top), f.arith("minui", y, top));
            let more = f.convert("extui", over, x.ty);
            match b {
                // A bool is true where a bit is left.
                Binary::Shl if d == DType::Bool => x,
                Binary::Shr if d == DType::Bool => {
                    let one = f.int(x.ty, 1);
                    let none = f.arith("xori", y, one);
                    f.and(x, none)
                }
                Binary::Shr if !unsigned => f.arith("shrsi", x, by),
                b => {
                    let shift = if b == Binary::Shl { "shli" } else { "shrui" };
                    let r = f.arith(shift, x, by);
                    f.arith(shift, r, more)
                }
            }
        }
    }
}

/// Division and remainders without undefined cases: by zero gives 0, by −1 negates.
fn divide(f: &mut Fun, b: Binary, x: Val, y: Val, unsigned: bool) -> Val {
    let (zero, one) = (f.int(x.ty, 0), f.int(x.ty, 1));
    let none = f.cmpi("eq", y, zero);
    let mut safe = f.select(none, one, y);
    if unsigned {
        let r = f.arith(if b == Binary::Div { "divui" } else { "remui" }, x, safe);
        return f.select(none, zero, r);
    }
    let less = f.int(x.ty, -1);
    let flip = f.cmpi("eq", y, less);
    safe = f.select(flip, one, safe);
    match b {
        Binary::Div => {
            let (r, n) = (f.arith("divsi", x, safe), f.arith("subi", zero, x));
            let r = f.select(flip, n, r);
            f.select(none, zero, r)
        }
        _ => {
            let r = f.arith("remsi", x, safe);
            let r = if b == Binary::Mod {
                let (rn, yn) = (f.cmpi("slt", r, zero), f.cmpi("slt", safe, zero));
                let differ = f.arith("xori", rn, yn);
                let some = f.cmpi("ne", r, zero);
                let c = f.and(differ, some);
                let up = f.arith("addi", r, safe);
                f.select(c, up, r)
            } else {
                r
            };
            f.select(none, zero, r)
        }
    }
}

/// x^y by squaring; a negative exponent gives the truncated reciprocal.
fn int_power(f: &mut Fun, x: Val, y: Val, unsigned: bool) -> Val {
    let t = x.ty;
    let (zero, one) = (f.int(t, 0), f.int(t, 1));
    let (mut r, mut base) = (one, x);
    // Every bit of the exponent: an odd base modulo 2ʷ comes round after up to 2ʷ⁻² steps.
    for bit in 0..i64::from(t.bits()) {
        let s = f.int(t, bit);
        let b = f.arith("shrui", y, s);
        let b = f.arith("andi", b, one);
        let on = f.cmpi("ne", b, zero);
        let p = f.arith("muli", r, base);
        r = f.select(on, p, r);
        base = f.arith("muli", base, base);
    }
    if unsigned {
        return r;
    }
    // x^−n is 0 but for ±1.
    let neg = f.cmpi("slt", y, zero);
    let less = f.int(t, -1);
    let (p1, m1) = (f.cmpi("eq", x, one), f.cmpi("eq", x, less));
    let unit = f.arith("ori", p1, m1);
    let other = f.select(unit, r, zero);
    f.select(neg, other, r)
}

/// What a monoid does to two values, and what changes nothing.
pub(super) fn combine(f: &mut Fun, m: Monoid, a: Val, b: Val, d: DType) -> Val {
    binary(f, operator(m), a, b, d)
}

fn operator(m: Monoid) -> Binary {
    match m {
        Monoid::Sum => Binary::Add,
        Monoid::Prod => Binary::Mul,
        Monoid::Max => Binary::Max,
        Monoid::Min => Binary::Min,
        Monoid::And => Binary::And,
        Monoid::Or => Binary::Or,
    }
}

pub(super) fn identity(f: &mut Fun, m: Monoid, d: DType) -> Val {
    let t = value_ty(d);
    if d.is_float() {
        return f.float(
            t,
            match m {
                Monoid::Sum => 0.0,
                Monoid::Prod => 1.0,
                Monoid::Max => f64::NEG_INFINITY,
                _ => f64::INFINITY,
            },
        );
    }
    let signed = d.class() == Class::Signed;
    let bits = t.bits();
    let (least, most) = if signed { (i64::MIN >> (64 - bits), i64::MAX >> (64 - bits)) } else { (0, -1) };
    f.int(
        t,
        match m {
            Monoid::Sum | Monoid::Or => 0,
            Monoid::Prod => 1,
            Monoid::Max => least,
            Monoid::Min => most,
            Monoid::And => -1,
        },
    )
}
