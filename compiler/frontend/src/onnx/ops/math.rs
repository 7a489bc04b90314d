//! Arithmetic, comparison, logic, casts.

use super::{Import, Row, one};
use crate::onnx::context::{Context, R, V, attrs};
use crate::onnx::frame::Slot;
use crate::tensor_proto;
use tahoma_core::{DType, Dim, OpError};

pub(super) static ROWS: &[Row] = &[
    one("Abs", 1, unary),
    one("Neg", 1, unary),
    one("Sign", 9, unary),
    one("Reciprocal", 1, unary),
    one("Sqrt", 1, unary),
    one("Exp", 1, unary),
    one("Log", 1, unary),
    one("Sin", 7, unary),
    one("Cos", 7, unary),
    one("Tan", 7, unary),
    one("Asin", 7, unary),
    one("Acos", 7, unary),
    one("Atan", 7, unary),
    one("Sinh", 9, unary),
    one("Cosh", 9, unary),
    one("Tanh", 1, unary),
    one("Asinh", 9, unary),
    one("Acosh", 9, unary),
    one("Atanh", 9, unary),
    one("Erf", 9, unary),
    one("Sigmoid", 1, unary),
    one("Floor", 1, unary),
    one("Ceil", 1, unary),
    one("Round", 11, unary),
    one("Not", 1, unary),
    one("BitwiseNot", 18, unary),
    one("IsNaN", 9, unary),
    one("IsInf", 10, is_inf),
    one("Add", 1, binary),
    one("Sub", 1, binary),
    one("Mul", 1, binary),
    one("Div", 1, binary),
    one("Pow", 1, binary),
    one("And", 1, binary),
    one("Or", 1, binary),
    one("Xor", 1, binary),
    one("BitwiseAnd", 18, binary),
    one("BitwiseOr", 18, binary),
    one("BitwiseXor", 18, binary),
    one("Equal", 1, binary),
    one("Less", 1, binary),
    one("Greater", 1, binary),
    one("LessOrEqual", 12, binary),
    one("GreaterOrEqual", 12, binary),
    one("Mod", 10, modulo),
    one("BitShift", 11, bit_shift),
    one("Max", 1, variadic),
    one("Min", 1, variadic),
    one("Sum", 1, variadic).in_f32(&[0]),
    one("Mean", 1, variadic).in_f32(&[0]),
    one("Where", 9, where_),
    one("Cast", 1, cast_named),
    one("Cast", 6, cast),
    one("CastLike", 15, cast_like),
    one("BitCast", 26, bit_cast),
    Row::new("Identity", 1, Import::Slots(identity)),
    one("Clip", 1, clip_attrs),
    one("Clip", 11, clip),
    one("Einsum", 12, super::linear::einsum),
];

/// ONNX names that differ from ours by more than case.
static NAMES: &[(&str, &str)] = &[
    ("BitwiseNot", "bit_not"),
    ("IsNaN", "is_nan"),
    ("BitwiseAnd", "bit_and"),
    ("BitwiseOr", "bit_or"),
    ("BitwiseXor", "bit_xor"),
    ("Equal", "eq"),
    ("Less", "lt"),
    ("Greater", "gt"),
    ("LessOrEqual", "le"),
    ("GreaterOrEqual", "ge"),
    ("Sum", "add"),
];

fn ml_name(onnx: &str) -> String {
    NAMES.iter().find(|n| n.0 == onnx).map_or_else(|| onnx.to_lowercase(), |n| n.1.to_string())
}

fn unary(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let name = ml_name(cx.schema.name);
    // Not defined on unsigned numbers by the scalar table: they are what they are.
    if name == "abs" && cx.dtype(x).class() == tahoma_core::types::Class::Unsigned {
        return Ok(x);
    }
    cx.f(&name, &[x])
}

fn is_inf(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let flag = |v: Option<i64>| v.unwrap_or(1) != 0;
    let (positive, negative) = (flag(cx.attrs.int("detect_positive")), flag(cx.attrs.int("detect_negative")));
    cx.op("is_inf", &[x], attrs! {"positive": positive, "negative": negative})
}

fn binary(cx: &mut Context) -> R<V> {
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    let b = if cx.since() < 7 { legacy_broadcast(cx, a, b)? } else { b };
    let name = ml_name(cx.schema.name);
    cx.f(&name, &[a, b])
}

/// Operator sets below 7: `broadcast = 1` lines `b` up with `a` from `axis` on (default: with the last axes).
pub(super) fn legacy_broadcast(cx: &mut Context, a: V, b: V) -> R<V> {
    let (ra, rb) = (cx.rank(a), cx.rank(b));
    let Some(axis) = cx.attrs.int("axis") else { return Ok(b) };
    if cx.attrs.int("broadcast").unwrap_or(0) == 0 || rb == 0 {
        return Ok(b);
    }
    let axis = cx.axis(axis, ra.max(1))?;
    if axis + rb > ra {
        return Err(OpError::shape(format!("the second operand, of rank {rb}, does not fit from axis {axis} on"))
            .mark(1, format!("rank {ra} at most")));
    }
    let mut dims = cx.shape(b).0;
    dims.extend(vec![Dim::Known(1); ra - axis - rb]);
    cx.reshape_dims(b, &dims)
}

fn modulo(cx: &mut Context) -> R<V> {
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    let fmod = cx.attrs.int("fmod").unwrap_or(0) != 0;
    cx.f(if fmod { "rem" } else { "mod" }, &[a, b])
}

fn bit_shift(cx: &mut Context) -> R<V> {
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    match cx.attrs.str("direction") {
        Some("LEFT") if cx.dtype(b).is_signed_int() => {
            // A negative count shifts everything out.
            let y = cx.f("shl", &[a, b])?;
            let zero = cx.like(0.0, b)?;
            let negative = cx.f("lt", &[b, zero])?;
            let none = cx.like(0.0, y)?;
            cx.f("select", &[negative, none, y])
        }
        Some("LEFT") => cx.f("shl", &[a, b]),
        Some("RIGHT") => cx.f("shr", &[a, b]),
        other => Err(OpError::attr(format!("direction must be LEFT or RIGHT, not {:?}", other.unwrap_or_default()))),
    }
}

fn variadic(cx: &mut Context) -> R<V> {
    let all = cx.inputs()?;
    let name = match cx.schema.name {
        "Mean" => "add".to_string(),
        n => ml_name(n),
    };
    let mut v = *all.first().ok_or_else(|| OpError::new("E0202", "needs at least one operand"))?;
    for &x in &all[1..] {
        v = cx.f(&name, &[v, x])?;
    }
    if cx.schema.name == "Mean" {
        let n = cx.like(all.len() as f64, v)?;
        v = cx.div(v, n)?;
    }
    Ok(v)
}

fn where_(cx: &mut Context) -> R<V> {
    let (c, a, b) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    cx.f("select", &[c, a, b])
}

/// The number type of an attribute that holds ONNX's code for it.
pub(super) fn type_code(code: i64) -> R<DType> {
    tensor_proto::dtype(i32::try_from(code).unwrap_or(-1)).map_err(OpError::dtype)
}

/// Operator sets below 6 name the type.
fn cast_named(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let name = cx.attrs.str("to").unwrap_or_default();
    let to = match name {
        "FLOAT" => DType::F32,
        "DOUBLE" => DType::F64,
        "FLOAT16" => DType::F16,
        "INT64" => DType::I64,
        "INT32" => DType::I32,
        "INT16" => DType::I16,
        "INT8" => DType::I8,
        "UINT64" => DType::U64,
        "UINT32" => DType::U32,
        "UINT16" => DType::U16,
        "UINT8" => DType::U8,
        "BOOL" => DType::Bool,
        _ => return Err(OpError::dtype(format!("cannot cast to {name:?}"))),
    };
    cx.cast(x, to)
}

fn convert(cx: &mut Context, x: V, to: DType) -> R<V> {
    if cx.dtype(x) == to {
        return Ok(x);
    }
    let saturate = cx.attrs.int("saturate").unwrap_or(1) != 0;
    match (to, cx.attrs.str("round_mode").unwrap_or("up")) {
        (DType::F8E8M0, mode) if mode != "up" => return Err(cx.unsupported(format!("Cast to f8e8m0 with round_mode {mode:?}"))),
        _ => {}
    }
    // Numbers that do not fit 4 or 2 bits wrap around in ONNX, as they do from wider integers.
    let x = if cx.dtype(x).is_float() && to.is_int() && to.bits() < 8 { cx.cast(x, DType::I32)? } else { x };
    cx.op("cast", &[x], attrs! {"to": to, "saturate": saturate})
}

fn cast(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let to = type_code(cx.attrs.int("to").unwrap_or(0))?;
    convert(cx, x, to)
}

fn cast_like(cx: &mut Context) -> R<V> {
    let (x, like) = (cx.input(0)?, cx.input(1)?);
    let to = cx.dtype(like);
    convert(cx, x, to)
}

fn bit_cast(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let to = type_code(cx.attrs.int("to").unwrap_or(0))?;
    if cx.dtype(x) == to {
        return Ok(x);
    }
    // A bool is a byte of 0 or 1.
    if (cx.dtype(x), to) == (DType::Bool, DType::U8) || (cx.dtype(x), to) == (DType::U8, DType::Bool) {
        return cx.cast(x, to);
    }
    cx.op("bitcast", &[x], attrs! {"to": to})
}

fn clip_attrs(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let bound = |cx: &mut Context, name| match cx.attrs.float(name) {
        Some(b) => cx.like(b, x).map(Some),
        None => Ok(None),
    };
    let (lo, hi) = (bound(cx, "min")?, bound(cx, "max")?);
    clamp(cx, x, lo, hi)
}

fn clip(cx: &mut Context) -> R<V> {
    let (x, lo, hi) = (cx.input(0)?, cx.try_opt(1)?, cx.try_opt(2)?);
    clamp(cx, x, lo, hi)
}

pub(super) fn clamp(cx: &mut Context, x: V, lo: Option<V>, hi: Option<V>) -> R<V> {
    match (lo, hi) {
        (Some(lo), Some(hi)) => cx.f("clip", &[x, lo, hi]),
        (Some(lo), None) => cx.f("max", &[x, lo]),
        (None, Some(hi)) => cx.f("min", &[x, hi]),
        (None, None) => Ok(x),
    }
}

/// Of any type: sequences and optionals pass too.
fn identity(cx: &mut Context) -> R<Vec<Slot>> {
    match cx.slots.first().cloned().flatten() {
        Some(slot) => Ok(vec![slot]),
        None => Err(OpError::new("E0202", "operand input is missing")),
    }
}
