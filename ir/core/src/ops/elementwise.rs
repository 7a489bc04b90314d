//! Elementwise ops: unary, binary, comparison, select, cast. Binary operands broadcast as in numpy.

use super::common::*;
use crate::kernel_eval;
use crate::numeric::Wide;
use crate::op::*;
use crate::scalar::{Binary, Compare, Unary};
use crate::tensor::{Buffer, Tensor};
use crate::types::{DType, TensorType};

fn same(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    Ok(vec![a.operands[0].clone()])
}
fn same_as_bool(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    Ok(vec![TensorType::new(DType::Bool, a.operands[0].shape.clone())])
}

/// The f32 form of a function, where one rounding of the f32 library function is the reference.
fn f32_form(u: Unary) -> Option<fn(f32) -> f32> {
    Some(match u {
        Unary::Neg => |x| -x,
        Unary::Abs => f32::abs,
        Unary::Reciprocal => |x| 1.0 / x,
        Unary::Sqrt => f32::sqrt,
        Unary::Exp => f32::exp,
        Unary::Log => f32::ln,
        Unary::Sin => f32::sin,
        Unary::Cos => f32::cos,
        Unary::Tanh => f32::tanh,
        Unary::Sigmoid => |x| 1.0 / (1.0 + (-x).exp()),
        Unary::Floor => f32::floor,
        Unary::Ceil => f32::ceil,
        Unary::Round => f32::round_ties_even,
        _ => return None,
    })
}

fn eval_unary(u: Unary, a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let x = a.operands[0].contiguous();
    let d = x.dtype();
    if let (Buffer::F32(v), Some(f)) = (x.buffer(), f32_form(u)) {
        return Ok(vec![Tensor::f32(x.shape(), map(&v[x.offset()..x.offset() + x.len()], f))]);
    }
    let one = |v: kernel_eval::Value| kernel_eval::unary(u, v, d);
    let to_bool = matches!(u, Unary::IsNan | Unary::IsInf);
    Ok(vec![match x.wide() {
        Wide::F(v) if to_bool => {
            let (pos, neg) = (a.attrs.bool("positive").unwrap_or(true), a.attrs.bool("negative").unwrap_or(true));
            let side = |x: f64| u != Unary::IsInf || if x > 0.0 { pos } else { neg };
            Tensor::bool(x.shape(), v.into_iter().map(|x| one(kernel_eval::Value::F(x)) == kernel_eval::Value::I(1) && side(x)).collect())
        }
        Wide::I(v) if to_bool => Tensor::bool(x.shape(), vec![false; v.len()]),
        Wide::F(v) => {
            let y: Vec<f64> = map(&v, |x| match one(kernel_eval::Value::F(x)) {
                kernel_eval::Value::F(y) => y,
                kernel_eval::Value::I(y) => y as f64,
            });
            Tensor::from_f64s(d, x.shape(), &y)
        }
        Wide::I(v) => {
            let y: Vec<i64> = v
                .into_iter()
                .map(|x| match one(kernel_eval::Value::I(x)) {
                    kernel_eval::Value::I(y) => y,
                    kernel_eval::Value::F(y) => y as i64,
                })
                .collect();
            Tensor::from_i64s(d, x.shape(), &y)
        }
    }])
}

fn broadcast2(a: &InferArgs, dtype: DType) -> Result<Vec<TensorType>, OpError> {
    let shape = broadcast_shapes(&[&a.operands[0].shape, &a.operands[1].shape])?;
    Ok(vec![TensorType::new(dtype, shape)])
}
fn equal_types(a: &InferArgs) -> Result<DType, OpError> {
    let (x, y) = (a.operands[0].dtype, a.operands[1].dtype);
    if x != y {
        return Err(OpError::dtype(format!("operands have different types, {x} and {y}"))
            .mark(1, format!("must be {x}"))
            .note("insert a Cast"));
    }
    Ok(x)
}
fn infer_binary(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    broadcast2(a, equal_types(a)?)
}
/// Powers may have another type than their base.
fn infer_pow(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    broadcast2(a, a.operands[0].dtype)
}
fn infer_compare(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    equal_types(a)?;
    broadcast2(a, DType::Bool)
}

fn out_shape(operands: &[Tensor]) -> Result<Vec<usize>, OpError> {
    let types: Vec<TensorType> = operands.iter().map(Tensor::ty).collect();
    let shape = broadcast_shapes(&types.iter().map(|t| &t.shape).collect::<Vec<_>>())?;
    budget(&TensorType::new(DType::F64, shape.clone()))?;
    shape.to_static().ok_or_else(|| OpError::value("a shape is not known"))
}

fn f32_binary(b: Binary, x: f32, y: f32) -> f32 {
    match b {
        Binary::Add => x + y,
        Binary::Sub => x - y,
        Binary::Mul => x * y,
        Binary::Div => x / y,
        Binary::Max => {
            if x.is_nan() || y.is_nan() {
                f32::NAN
            } else {
                x.max(y)
            }
        }
        Binary::Min => {
            if x.is_nan() || y.is_nan() {
                f32::NAN
            } else {
                x.min(y)
            }
        }
        Binary::Pow => x.powf(y),
        Binary::Rem => x % y,
        _ => {
            let r = x % y;
            if r != 0.0 && (r < 0.0) != (y < 0.0) { r + y } else { r }
        }
    }
}

fn eval_binary(b: Binary, a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let (x, y) = (&a.operands[0], &a.operands[1]);
    let d = x.dtype();
    let y = &if y.dtype() == d {
        y.clone()
    } else if d.is_float() {
        y.cast(d)
    } else {
        // An integer base with a real exponent is raised in f64.
        return int_pow(x, y);
    };
    let shape = out_shape(&[x.clone(), y.clone()])?;
    let (sx, sy) = (broadcast_strides(x, &shape), broadcast_strides(y, &shape));
    if let (Buffer::F32(p), Buffer::F32(q)) = (x.buffer(), y.buffer()) {
        let (p, q) = ((&p[..], x.offset(), &sx[..]), (&q[..], y.offset(), &sy[..]));
        // One monomorphic loop for each common operator, so that it vectorises.
        let v = match b {
            Binary::Add => zip(&shape, p, q, |x, y| x + y),
            Binary::Sub => zip(&shape, p, q, |x, y| x - y),
            Binary::Mul => zip(&shape, p, q, |x, y| x * y),
            Binary::Div => zip(&shape, p, q, |x, y| x / y),
            Binary::Max => zip(&shape, p, q, |x: f32, y: f32| if x.is_nan() || x > y { x } else { y }),
            Binary::Min => zip(&shape, p, q, |x: f32, y: f32| if x.is_nan() || x < y { x } else { y }),
            b => zip(&shape, p, q, move |x, y| f32_binary(b, x, y)),
        };
        return Ok(vec![Tensor::f32(&shape, v)]);
    }
    let (x, y) = (broadcast_to(x, &shape), broadcast_to(y, &shape));
    Ok(vec![match (x.wide(), y.wide()) {
        (Wide::F(p), Wide::F(q)) => {
            let v: Vec<f64> = p
                .iter()
                .zip(&q)
                .map(|(&x, &y)| float_of(kernel_eval::binary(b, kernel_eval::Value::F(x), kernel_eval::Value::F(y), d)))
                .collect();
            Tensor::from_f64s(d, &shape, &v)
        }
        (Wide::I(p), Wide::I(q)) => {
            if matches!(b, Binary::Div | Binary::Mod | Binary::Rem) && q.contains(&0) {
                return Err(OpError::value("integer division by zero"));
            }
            let v: Vec<i64> = p
                .iter()
                .zip(&q)
                .map(|(&x, &y)| match kernel_eval::binary(b, kernel_eval::Value::I(x), kernel_eval::Value::I(y), d) {
                    kernel_eval::Value::I(v) => v,
                    kernel_eval::Value::F(v) => v as i64,
                })
                .collect();
            Tensor::from_i64s(d, &shape, &v)
        }
        _ => return Err(OpError::dtype("operands of different kinds")),
    }])
}

fn float_of(v: kernel_eval::Value) -> f64 {
    match v {
        kernel_eval::Value::F(x) => x,
        kernel_eval::Value::I(x) => x as f64,
    }
}

fn int_pow(x: &Tensor, y: &Tensor) -> Result<Vec<Tensor>, OpError> {
    let shape = out_shape(&[x.clone(), y.clone()])?;
    let (p, q) = (broadcast_to(x, &shape).to_f64s(), broadcast_to(y, &shape).to_f64s());
    let v: Vec<f64> = p.iter().zip(&q).map(|(x, y)| x.powf(*y)).collect();
    Ok(vec![Tensor::from_f64s(x.dtype(), &shape, &v)])
}

fn eval_compare(c: Compare, a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let (x, y) = (&a.operands[0], &a.operands[1]);
    let shape = out_shape(a.operands)?;
    let unsigned = x.dtype() == DType::U64;
    let (x, y) = (broadcast_to(x, &shape), broadcast_to(y, &shape));
    let hit = |o: Option<std::cmp::Ordering>| match c {
        Compare::Eq => o.is_some_and(|o| o.is_eq()),
        Compare::Ne => o.is_none_or(|o| o.is_ne()),
        Compare::Lt => o.is_some_and(|o| o.is_lt()),
        Compare::Le => o.is_some_and(|o| o.is_le()),
        Compare::Gt => o.is_some_and(|o| o.is_gt()),
        Compare::Ge => o.is_some_and(|o| o.is_ge()),
    };
    let v: Vec<bool> = match (x.wide(), y.wide()) {
        (Wide::F(p), Wide::F(q)) => p.iter().zip(&q).map(|(x, y)| hit(x.partial_cmp(y))).collect(),
        (Wide::I(p), Wide::I(q)) if unsigned => p.iter().zip(&q).map(|(x, y)| hit(Some((*x as u64).cmp(&(*y as u64))))).collect(),
        (Wide::I(p), Wide::I(q)) => p.iter().zip(&q).map(|(x, y)| hit(Some(x.cmp(y)))).collect(),
        _ => return Err(OpError::dtype("operands of different kinds")),
    };
    Ok(vec![Tensor::bool(&shape, v)])
}

fn infer_select(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let (x, y) = (&a.operands[1], &a.operands[2]);
    if x.dtype != y.dtype {
        return Err(
            OpError::dtype(format!("branches have different types, {} and {}", x.dtype, y.dtype)).mark(2, format!("must be {}", x.dtype))
        );
    }
    let shape = broadcast_shapes(&[&a.operands[0].shape, &x.shape, &y.shape])?;
    Ok(vec![TensorType::new(x.dtype, shape)])
}

fn eval_select(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let shape = out_shape(a.operands)?;
    let c = broadcast_to(&a.operands[0], &shape).contiguous();
    let Buffer::U8(cond) = c.buffer() else { return Err(OpError::dtype("the condition must be bool")) };
    let cond = &cond[c.offset()..c.offset() + c.len()];
    let (x, y) = (broadcast_to(&a.operands[1], &shape).contiguous(), broadcast_to(&a.operands[2], &shape).contiguous());
    let (ox, oy) = (x.offset(), y.offset());
    macro_rules! pick { ($($v:ident),*) => { match (x.buffer(), y.buffer()) {
        $((Buffer::$v(p), Buffer::$v(q)) => Buffer::$v(cond.iter().enumerate().map(|(i, &c)| if c != 0 { p[ox + i] } else { q[oy + i] }).collect()),)*
        _ => return Err(OpError::dtype("branches of different types")),
    } } }
    let buffer = pick!(F64, F32, F16, BF16, I64, I32, I16, I8, U64, U32, U16, U8);
    Ok(vec![Tensor::new(x.dtype(), &shape, buffer)])
}

fn infer_cast(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let to = a.attrs.dtype("to").ok_or_else(|| OpError::attr("to must be a number type"))?;
    Ok(vec![TensorType::new(to, a.operands[0].shape.clone())])
}
fn eval_cast(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let to = a.attrs.dtype("to").ok_or_else(|| OpError::attr("to must be a number type"))?;
    Ok(vec![a.operands[0].cast_with(to, a.attrs.bool("saturate").unwrap_or(true))])
}
fn infer_bitcast(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let to = a.attrs.dtype("to").ok_or_else(|| OpError::attr("to must be a number type"))?;
    let from = a.operands[0].dtype;
    if from.bits() != to.bits() || from == DType::Bool || to == DType::Bool {
        return Err(OpError::dtype(format!("{from} and {to} have different widths")));
    }
    Ok(vec![TensorType::new(to, a.operands[0].shape.clone())])
}
fn eval_bitcast(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let to = a.attrs.dtype("to").ok_or_else(|| OpError::attr("to must be a number type"))?;
    let x = &a.operands[0];
    Ok(vec![Tensor::from_bytes(to, x.shape(), &x.to_bytes()).ok_or_else(|| OpError::value("bytes do not fit"))?])
}

const X: &[OperandDef] = &[operand("x", TypeSet::Number)];
const XF: &[OperandDef] = &[operand("x", TypeSet::Float)];
const XB: &[OperandDef] = &[operand("x", TypeSet::Bool)];
const XI: &[OperandDef] = &[operand("x", TypeSet::Int)];
const AB: &[OperandDef] = &[operand("a", TypeSet::Number), operand("b", TypeSet::Number)];
const ABB: &[OperandDef] = &[operand("a", TypeSet::Bool), operand("b", TypeSet::Bool)];
const ABI: &[OperandDef] = &[operand("a", TypeSet::Bits), operand("b", TypeSet::Bits)];
const ABA: &[OperandDef] = &[operand("a", TypeSet::Any), operand("b", TypeSet::Any)];
const TO: &[AttrDef] = &[attr("to", AttrType::DType)];

const fn unary_row(
    u: Unary,
    name: &'static str,
    operands: &'static [OperandDef],
    eval: fn(&EvalArgs) -> Result<Vec<Tensor>, OpError>,
    doc: &'static str,
    examples: &'static [&'static str],
) -> OpDef {
    OpDef {
        name,
        doc,
        operands,
        attrs: &[],
        results: Results::One,
        kind: Kind::Elementwise(Scalar::Unary(u)),
        tolerance: Tolerance::Ulps(4),
        examples,
        infer: same,
        eval,
    }
}

macro_rules! unary { ($($id:ident $u:ident $n:literal $x:ident $doc:literal $ex:literal;)*) => {
    $(static $id: OpDef = unary_row(Unary::$u, $n, $x, |a| eval_unary(Unary::$u, a), $doc, &[$ex]);)*
    static UNARY: &[&OpDef] = &[$(&$id),*];
} }

unary! {
    NEG Neg "neg" X "−x" "neg([1, -2]) = [-1, 2]";
    ABS Abs "abs" X "|x|" "abs([1, -2]) = [1, 2]";
    SIGN Sign "sign" X "−1, 0 or 1" "sign([3, -2, 0]) = [1, -1, 0]";
    RECIPROCAL Reciprocal "reciprocal" XF "1/x" "reciprocal([4, -2]) = [0.25, -0.5]";
    SQRT Sqrt "sqrt" XF "√x" "sqrt([4, 9]) = [2, 3]";
    RSQRT Rsqrt "rsqrt" XF "1/√x" "rsqrt([4]) = [0.5]";
    EXP Exp "exp" XF "eˣ" "exp([0, 1]) = [1, 2.7182817]";
    LOG Log "log" XF "ln x" "log([1, 2.7182817]) = [0, 1]";
    SIN Sin "sin" XF "sin x" "sin([0, 1]) = [0, 0.84147096]";
    COS Cos "cos" XF "cos x" "cos([0, 1]) = [1, 0.5403023]";
    TAN Tan "tan" XF "tan x" "tan([0, 1]) = [0, 1.5574077]";
    ASIN Asin "asin" XF "arcsin x" "asin([0, 1]) = [0, 1.5707964]";
    ACOS Acos "acos" XF "arccos x" "acos([1, 0]) = [0, 1.5707964]";
    ATAN Atan "atan" XF "arctan x" "atan([0, 1]) = [0, 0.7853982]";
    SINH Sinh "sinh" XF "sinh x" "sinh([0, 1]) = [0, 1.1752012]";
    COSH Cosh "cosh" XF "cosh x" "cosh([0, 1]) = [1, 1.5430806]";
    TANH Tanh "tanh" XF "tanh x" "tanh([0, 1]) = [0, 0.7615942]";
    ASINH Asinh "asinh" XF "arsinh x" "asinh([0, 1]) = [0, 0.8813736]";
    ACOSH Acosh "acosh" XF "arcosh x" "acosh([1, 2]) = [0, 1.316958]";
    ATANH Atanh "atanh" XF "artanh x" "atanh([0, 0.5]) = [0, 0.54930615]";
    ERF Erf "erf" XF "2/√π ∫₀ˣ e^(−t²) dt" "erf([0, 1]) = [0, 0.8427008]";
    SIGMOID Sigmoid "sigmoid" XF "1/(1 + e⁻ˣ)" "sigmoid([0, 1]) = [0.5, 0.7310586]";
    FLOOR Floor "floor" XF "largest whole number not above x" "floor([1.5, -1.5]) = [1, -2]";
    CEIL Ceil "ceil" XF "smallest whole number not below x" "ceil([1.5, -1.5]) = [2, -1]";
    ROUND Round "round" XF "nearest whole number, ties to even" "round([0.5, 1.5, -2.5]) = [0, 2, -2]";
    NOT Not "not" XB "logical not" "not(bool[true, false]) = bool[false, true]";
    BIT_NOT BitNot "bit_not" XI "every bit flipped" "bit_not(i64[0, 5]) = i64[-1, -6]";
}

static IS_NAN: OpDef = OpDef {
    infer: same_as_bool,
    ..unary_row(Unary::IsNan, "is_nan", XF, |a| eval_unary(Unary::IsNan, a), "whether x is NaN", &["is_nan([1, nan]) = bool[false, true]"])
};
static IS_INF: OpDef = OpDef {
    infer: same_as_bool,
    attrs: &[attr("positive", AttrType::Bool), attr("negative", AttrType::Bool)],
    ..unary_row(
        Unary::IsInf,
        "is_inf",
        XF,
        |a| eval_unary(Unary::IsInf, a),
        "whether x is infinite, of the signs asked for",
        &["is_inf([1, inf, -inf], positive=true, negative=false) = bool[false, true, false]"],
    )
};

const fn binary_row(
    b: Binary,
    name: &'static str,
    operands: &'static [OperandDef],
    eval: fn(&EvalArgs) -> Result<Vec<Tensor>, OpError>,
    doc: &'static str,
    examples: &'static [&'static str],
) -> OpDef {
    OpDef {
        name,
        doc,
        operands,
        attrs: &[],
        results: Results::One,
        kind: Kind::Elementwise(Scalar::Binary(b)),
        tolerance: Tolerance::Ulps(4),
        examples,
        infer: infer_binary,
        eval,
    }
}

macro_rules! binary { ($($id:ident $b:ident $n:literal $x:ident $doc:literal $ex:literal;)*) => {
    $(static $id: OpDef = binary_row(Binary::$b, $n, $x, |a| eval_binary(Binary::$b, a), $doc, &[$ex]);)*
    static BINARY: &[&OpDef] = &[$(&$id),*];
} }

binary! {
    ADD Add "add" AB "a + b" "add([1, 2], [10]) = [11, 12]";
    SUB Sub "sub" AB "a − b" "sub([1, 2], [10]) = [-9, -8]";
    MUL Mul "mul" AB "a·b" "mul([1, 2], [10]) = [10, 20]";
    DIV Div "div" AB "a/b; integers truncate towards zero" "div(i64[7, -7], i64[2]) = i64[3, -3]";
    MOD Mod "mod" AB "remainder with the divisor's sign" "mod(i64[7, -7], i64[3]) = i64[1, 2]";
    REM Rem "rem" AB "remainder with the dividend's sign" "rem(i64[7, -7], i64[3]) = i64[1, -1]";
    MAX Max "max" AB "the larger; NaN if either is" "max([1, 5], [3]) = [3, 5]";
    MIN Min "min" AB "the smaller; NaN if either is" "min([1, 5], [3]) = [1, 3]";
    AND And "and" ABB "logical and" "and(bool[true, true], bool[true, false]) = bool[true, false]";
    OR Or "or" ABB "logical or" "or(bool[true, false], bool[false, false]) = bool[true, false]";
    XOR Xor "xor" ABB "logical exclusive or" "xor(bool[true, true], bool[true, false]) = bool[false, true]";
    BIT_AND BitAnd "bit_and" ABI "bitwise and" "bit_and(i64[6], i64[3]) = i64[2]";
    BIT_OR BitOr "bit_or" ABI "bitwise or" "bit_or(i64[6], i64[3]) = i64[7]";
    BIT_XOR BitXor "bit_xor" ABI "bitwise exclusive or" "bit_xor(i64[6], i64[3]) = i64[5]";
    SHL Shl "shl" ABI "a shifted left by b bits" "shl(i64[3], i64[2]) = i64[12]";
    SHR Shr "shr" ABI "a shifted right by b bits" "shr(i64[12], i64[2]) = i64[3]";
}
static POW: OpDef = OpDef {
    infer: infer_pow,
    ..binary_row(Binary::Pow, "pow", AB, |a| eval_binary(Binary::Pow, a), "aᵇ, of a's type", &["pow([2, 3], [2]) = [4, 9]"])
};

macro_rules! comparisons { ($($id:ident $c:ident $n:literal $doc:literal $ex:literal;)*) => {
    $(static $id: OpDef = OpDef { name: $n, doc: $doc, operands: ABA, attrs: &[], results: Results::One, kind: Kind::Elementwise(Scalar::Compare(Compare::$c)),
        tolerance: Tolerance::Exact, examples: &[$ex], infer: infer_compare, eval: |a| eval_compare(Compare::$c, a) };)*
    static COMPARE: &[&OpDef] = &[$(&$id),*];
} }

comparisons! {
    EQ Eq "eq" "a = b" "eq([1, 2], [1]) = bool[true, false]";
    NE Ne "ne" "a ≠ b; true if either is NaN" "ne([1, 2], [1]) = bool[false, true]";
    LT Lt "lt" "a < b" "lt([1, 2], [2]) = bool[true, false]";
    LE Le "le" "a ≤ b" "le([1, 3], [2]) = bool[true, false]";
    GT Gt "gt" "a > b" "gt([1, 3], [2]) = bool[false, true]";
    GE Ge "ge" "a ≥ b" "ge([2, 1], [2]) = bool[true, false]";
}

static SELECT: OpDef = OpDef {
    name: "select",
    doc: "cond ? a : b, element by element.",
    operands: &[operand("cond", TypeSet::Bool), operand("a", TypeSet::Any), operand("b", TypeSet::Any)],
    attrs: &[],
    results: Results::One,
    kind: Kind::Elementwise(Scalar::Select),
    tolerance: Tolerance::Exact,
    examples: &["select(bool[true, false], [1, 2], [3, 4]) = [1, 4]"],
    infer: infer_select,
    eval: eval_select,
};
static CAST: OpDef = OpDef {
    name: "cast",
    doc: "To another number type. Float to integer truncates and saturates, integers wrap, to bool is ≠ 0; `saturate` is for fp8 (ONNX Cast).",
    operands: &[operand("x", TypeSet::Any)],
    attrs: &[attr("to", AttrType::DType), attr("saturate", AttrType::Bool)],
    results: Results::One,
    kind: Kind::Elementwise(Scalar::Cast),
    tolerance: Tolerance::Exact,
    examples: &["cast([1.7, -1.7], to=i64, saturate=true) = i64[1, -1]"],
    infer: infer_cast,
    eval: eval_cast,
};
static BITCAST: OpDef = OpDef {
    name: "bitcast",
    doc: "The same bits read as another number type of equal width.",
    operands: &[operand("x", TypeSet::Any)],
    attrs: TO,
    results: Results::One,
    kind: Kind::Opaque,
    tolerance: Tolerance::Exact,
    examples: &["bitcast(f32[1], to=i32) = i32[1065353216]"],
    infer: infer_bitcast,
    eval: eval_bitcast,
};

/// The families of this file, joined by `ops::mod`.
pub(super) static FAMILIES: &[&[&OpDef]] = &[UNARY, &[&IS_NAN, &IS_INF], BINARY, &[&POW], COMPARE, &[&SELECT, &CAST, &BITCAST]];
