//! What an op is: one static row. Shape inference, evaluation, cost, the MLIR dialect, the e-graph language, the reference and the
//! back ends all read it. Back ends match on [`Kind`], never on names.

use crate::attr::Attrs;
use crate::graph::{Builder, ValueId};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Shape, TensorType};
use std::fmt;

/// One op of the `ml` dialect.
pub struct OpDef {
    pub name: &'static str,
    /// One or two sentences, with the formula and the source (ONNX section, paper).
    pub doc: &'static str,
    pub operands: &'static [OperandDef],
    pub attrs: &'static [AttrDef],
    pub results: Results,
    pub kind: Kind,
    pub tolerance: Tolerance,
    /// `relu([-1, 2]) = [0, 2]`: documentation and test at once.
    pub examples: &'static [&'static str],
    /// Result types from operand types (and from operand values where they are known and small).
    pub infer: fn(&InferArgs) -> Result<Vec<TensorType>, OpError>,
    /// Reference meaning. Called only after `infer` accepted the operands' types.
    pub eval: fn(&EvalArgs) -> Result<Vec<Tensor>, OpError>,
}

#[derive(Debug)]
pub struct OperandDef {
    pub name: &'static str,
    pub types: TypeSet,
    /// Only the last operand may be variadic.
    pub variadic: bool,
}

#[derive(Debug)]
pub struct AttrDef {
    pub name: &'static str,
    pub ty: AttrType,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttrType {
    Int,
    Float,
    Bool,
    Str,
    Ints,
    Floats,
    DType,
    Tensor,
    Func,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Results {
    One,
    /// A fixed number above one.
    Many(u8),
    /// As many as `infer` returns.
    Inferred,
}

/// Which number types an operand may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypeSet {
    Any,
    Float,
    Int,
    /// Float and integer, not bool.
    Number,
    Bool,
    I64,
    /// Integer and bool.
    Bits,
}

impl TypeSet {
    pub fn has(self, d: DType) -> bool {
        match self {
            TypeSet::Any => true,
            TypeSet::Float => d.is_float(),
            TypeSet::Int => d.is_int(),
            TypeSet::Number => d != DType::Bool,
            TypeSet::Bool => d == DType::Bool,
            TypeSet::I64 => d == DType::I64,
            TypeSet::Bits => d == DType::Bool || d.is_int(),
        }
    }
}

/// How an op behaves; what the rest of the compiler needs to know of it.
pub enum Kind {
    /// Acts element by element on operands of one shape (after numpy broadcasting); the scalar function.
    Elementwise(Scalar),
    /// Combines along `axes` (attrs `axes: ints`, `keepdims: bool`).
    Reduce(Monoid),
    /// Combines over sliding windows (pooling): attrs `window strides pads dilations`.
    Window(Monoid),
    /// Sum of products: matmul, convolution.
    Contract(Contract),
    /// Rearranges elements by an index map.
    Move(Move),
    Gather,
    Scatter,
    /// Running combination along an axis.
    Scan(Monoid),
    /// Makes a value from attributes alone (constant, weight, iota).
    Generate,
    /// Defined by other ops, in the numerically stable form.
    Composite(Expand),
    Collective,
    /// Calls, branches and loops over functions of the program.
    Structure,
    /// The escape hatch: only `infer` and `eval` say what it means.
    Opaque,
}

/// Writes a composite's definition with other ops.
pub type Expand = fn(&mut Builder, &[ValueId], &Attrs) -> Result<Vec<ValueId>, OpError>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    Unary(crate::scalar::Unary),
    Binary(crate::scalar::Binary),
    Compare(crate::scalar::Compare),
    /// `c ? a : b`
    Select,
    /// To the type of attr `to`.
    Cast,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
#[serde(rename_all = "lowercase")]
pub enum Monoid {
    Sum,
    Prod,
    Max,
    Min,
    And,
    Or,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contract {
    /// numpy matmul with batch broadcasting; f32 accumulation for f16 and bf16.
    MatMul,
    /// N, C, spatial… by M, C/groups, kernel…: attrs `strides pads dilations groups`.
    Conv,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    Transpose,
    Reshape,
    Broadcast,
    Slice,
    /// With a constant.
    Pad,
    Concat,
}

/// How far a back end's result may be from the reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tolerance {
    /// Same bits.
    Exact,
    /// Units in the last place of the result type.
    Ulps(u32),
    /// Relative to the sum of magnitudes: sums and products reassociated.
    Reassociated(f64),
}

pub struct InferArgs<'a> {
    pub operands: &'a [TensorType],
    pub attrs: &'a Attrs,
    /// Operand values where they are constants.
    pub consts: &'a [Option<&'a Tensor>],
    /// A prefix for new symbols, unique to the op.
    pub fresh: Fresh<'a>,
}

/// Where an op stands, which makes its symbols unique: the graph's name and its place there. Written only where a symbol is made.
#[derive(Clone, Copy)]
pub struct Fresh<'a>(pub &'a str, pub usize);

impl std::fmt::Display for Fresh<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

pub struct EvalArgs<'a> {
    pub operands: &'a [Tensor],
    pub attrs: &'a Attrs,
}

/// Why an op does not fit its operands; becomes a `Diagnostic` with the origin added.
#[derive(Clone, Debug, PartialEq)]
pub struct OpError {
    pub code: &'static str,
    pub message: String,
    /// Operand index and what it must be.
    pub marks: Vec<(usize, String)>,
    pub notes: Vec<String>,
}

impl OpError {
    pub fn new(code: &'static str, message: impl Into<String>) -> OpError {
        OpError { code, message: message.into(), marks: vec![], notes: vec![] }
    }
    /// Shapes that do not fit (E0203).
    pub fn shape(message: impl Into<String>) -> OpError {
        OpError::new("E0203", message)
    }
    /// Types that do not fit (E0204).
    pub fn dtype(message: impl Into<String>) -> OpError {
        OpError::new("E0204", message)
    }
    /// A bad attribute (E0205).
    pub fn attr(message: impl Into<String>) -> OpError {
        OpError::new("E0205", message)
    }
    /// Extents or values that are not numbers yet and must be (E0209). The one way to say so: callers answer it by fixing shapes and
    /// trying again.
    pub fn open(message: impl Into<String>) -> OpError {
        OpError::new("E0209", message)
    }
    /// Values that cannot be evaluated (E0606).
    pub fn value(message: impl Into<String>) -> OpError {
        OpError::new("E0606", message)
    }
    pub fn mark(mut self, operand: usize, must: impl Into<String>) -> OpError {
        self.marks.push((operand, must.into()));
        self
    }
    pub fn note(mut self, note: impl Into<String>) -> OpError {
        self.notes.push(note.into());
        self
    }
}

/// The extents of a shape as numbers; E0209 while any is open.
pub fn numbers(shape: &Shape) -> Result<Vec<usize>, OpError> {
    shape.to_static().ok_or_else(|| OpError::open(format!("needs every extent of {shape} as a number")))
}

/// One extent as a number; E0209 while it is open. `what` says which.
pub fn number(dim: &Dim, what: impl fmt::Display) -> Result<usize, OpError> {
    let n = dim.known().ok_or_else(|| OpError::open(format!("needs {what} as a number, not {dim}")))?;
    Ok(n as usize)
}

impl fmt::Display for OpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Without operands and origin, for what is no node's fault.
impl From<OpError> for crate::diag::Diagnostic {
    fn from(e: OpError) -> crate::diag::Diagnostic {
        let d = crate::diag::Diagnostic::error(e.code, e.message);
        e.notes.into_iter().fold(d, |d, n| d.note(n))
    }
}

impl fmt::Debug for OpDef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ml.{}", self.name)
    }
}

impl PartialEq for OpDef {
    fn eq(&self, o: &OpDef) -> bool {
        std::ptr::eq(self, o) || self.name == o.name
    }
}
impl Eq for OpDef {}
