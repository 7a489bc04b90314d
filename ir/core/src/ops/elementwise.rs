//! Elementwise ops: unary, binary, comparison, select, cast. Binary operands broadcast as in numpy.

use super::common::*;
use crate::kernels::scalar;
use crate::op::*;
use crate::scalar::{Binary, Compare, Unary};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

fn same(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    Ok(vec![a.operands[0].clone()])
}
fn same_as_bool(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    Ok(vec![TensorType::new(DType::Bool, a.operands[0].shape.clone())])
}

fn eval_unary(u: Unary, a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    Ok(vec![scalar::unary(u, &a.operands[0])])
}
fn eval_is_inf(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    Ok(vec![scalar::is_inf(&a.operands[0], flag(a.attrs, "positive")?, flag(a.attrs, "negative")?)])
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

fn eval_binary(b: Binary, a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    Ok(vec![scalar::binary(b, &out_shape(a.operands)?, &a.operands[0], &a.operands[1])?])
}
fn eval_pow(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    Ok(vec![scalar::pow(&out_shape(a.operands)?, &a.operands[0], &a.operands[1])?])
}
fn eval_compare(c: Compare, a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    Ok(vec![scalar::compare(c, &out_shape(a.operands)?, &a.operands[0], &a.operands[1])])
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
    Ok(vec![scalar::select(&out_shape(a.operands)?, &a.operands[0], &a.operands[1], &a.operands[2])])
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
        eval_is_inf,
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
static POW: OpDef =
    OpDef { infer: infer_pow, ..binary_row(Binary::Pow, "pow", AB, eval_pow, "aᵇ, of a's type", &["pow([2, 3], [2]) = [4, 9]"]) };

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
