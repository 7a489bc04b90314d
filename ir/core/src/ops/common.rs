//! What rows share: operand and attribute shorthands, broadcasting, and the definitions of composites.

use crate::attr::Attrs;
use crate::graph::{Builder, ValueId};
use crate::op::*;
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Shape, TensorType};

pub(crate) const fn operand(name: &'static str, types: TypeSet) -> OperandDef {
    OperandDef { name, types, variadic: false }
}
pub(crate) const fn many(name: &'static str, types: TypeSet) -> OperandDef {
    OperandDef { name, types, variadic: true }
}
pub(crate) const fn attr(name: &'static str, ty: AttrType) -> AttrDef {
    AttrDef { name, ty }
}

/// Most elements of one value, 2^40: a hundred times the largest tensor of a model of a trillion parameters. Below it sums of extents
/// and products of extents and element sizes overflow nowhere.
pub const MAX_ELEMENTS: u64 = 1 << 40;

/// Refuses a type that no machine can hold, whatever it holds now: symbols and extents of 0 count as 1, so that an empty tensor of
/// absurd extents is no exception. E0107.
pub fn sized(ty: &TensorType) -> Result<(), OpError> {
    let known = ty.shape.0.iter().filter_map(Dim::known);
    match known.into_iter().try_fold(1u64, |n, d| n.checked_mul(d.max(1))).filter(|&n| n <= MAX_ELEMENTS) {
        Some(_) => Ok(()),
        None => Err(OpError::new("E0107", format!("{ty} has more than the {MAX_ELEMENTS} elements that one value may have"))),
    }
}

/// Refuses a result that the machine has no memory for: twice its size, for what is made on the way.
pub(crate) fn budget(ty: &TensorType) -> Result<(), OpError> {
    sized(ty)?;
    let bytes = u64::from(ty.dtype.bits().div_ceil(8));
    ty.shape.elements().map_or(Ok(()), |n| crate::memory::ask_elements(n, 2 * bytes, &format_args!("a result of {ty}")))
}

pub(crate) fn ints<'a>(attrs: &'a Attrs, name: &str) -> Result<&'a [i64], OpError> {
    attrs.ints(name).ok_or_else(|| OpError::attr(format!("{name} must be integers")))
}
pub(crate) fn int(attrs: &Attrs, name: &str) -> Result<i64, OpError> {
    attrs.int(name).ok_or_else(|| OpError::attr(format!("{name} must be an integer")))
}
pub(crate) fn float(attrs: &Attrs, name: &str) -> Result<f64, OpError> {
    attrs.float(name).ok_or_else(|| OpError::attr(format!("{name} must be a number")))
}
pub(crate) fn flag(attrs: &Attrs, name: &str) -> Result<bool, OpError> {
    attrs.bool(name).ok_or_else(|| OpError::attr(format!("{name} must be true or false")))
}
/// An attribute that names an axis of a value of this rank.
pub(crate) fn axis(attrs: &Attrs, name: &str, rank: usize) -> Result<usize, OpError> {
    let a = int(attrs, name)?;
    usize::try_from(a)
        .ok()
        .filter(|&a| a < rank)
        .ok_or_else(|| OpError::attr(format!("{name} = {a} is not an axis of a value of rank {rank}")))
}
pub(crate) fn axes(attrs: &Attrs, rank: usize) -> Result<Vec<usize>, OpError> {
    let v = ints(attrs, "axes")?;
    let out: Option<Vec<usize>> = v.iter().map(|&a| usize::try_from(a).ok().filter(|&a| a < rank)).collect();
    out.filter(|o| o.windows(2).all(|w| w[0] < w[1]))
        .ok_or_else(|| OpError::attr(format!("axes {v:?} are not rising axes of a value of rank {rank}")))
}

/// The extent two axes broadcast to. A symbol against a number above one is taken as that number; it is checked when it is known.
fn join(a: &Dim, b: &Dim) -> Option<Dim> {
    match (a, b) {
        (Dim::Known(1), d) | (d, Dim::Known(1)) => Some(d.clone()),
        (a, b) if a == b => Some(a.clone()),
        (Dim::Known(n), Dim::Sym(_)) | (Dim::Sym(_), Dim::Known(n)) => Some(Dim::Known(*n)),
        (Dim::Sym(_), Dim::Sym(_)) => Some(a.clone()),
        _ => None,
    }
}

/// numpy broadcasting of several shapes.
pub(crate) fn broadcast_shapes(shapes: &[&Shape]) -> Result<Shape, OpError> {
    let rank = shapes.iter().map(|s| s.rank()).max().unwrap_or(0);
    let mut out = vec![Dim::Known(1); rank];
    for (i, s) in shapes.iter().enumerate() {
        let skip = rank - s.rank();
        for (d, dim) in s.0.iter().enumerate() {
            let here = &mut out[skip + d];
            *here = join(here, dim).ok_or_else(|| {
                OpError::shape(format!("shapes {} do not broadcast: {here} and {dim} on axis {}", list(shapes), skip + d))
                    .mark(i, format!("axis {d} must be 1 or {here}"))
                    .note("shapes broadcast from the last axis backwards; each pair must be equal or hold a 1")
            })?;
        }
    }
    Ok(Shape(out))
}

fn list(shapes: &[&Shape]) -> String {
    shapes.iter().map(|s| s.to_string()).collect::<Vec<_>>().join(" and ")
}

/// Strides to read `t` as if it had `shape` (0 where broadcast).
pub(crate) fn broadcast_strides(t: &Tensor, shape: &[usize]) -> Vec<isize> {
    let skip = shape.len() - t.rank();
    (0..shape.len()).map(|d| if d < skip || t.shape()[d - skip] == 1 { 0 } else { t.strides()[d - skip] }).collect()
}

/// A view of `t` broadcast to `shape`.
pub(crate) fn broadcast_to(t: &Tensor, shape: &[usize]) -> Tensor {
    t.view(shape, &broadcast_strides(t, shape), t.offset())
}

/// The shape of an op's one result on these operands, within the budget.
pub(crate) fn static_result(infer: fn(&InferArgs) -> Result<Vec<TensorType>, OpError>, a: &EvalArgs) -> Result<Vec<usize>, OpError> {
    let types: Vec<TensorType> = a.operands.iter().map(Tensor::ty).collect();
    let consts: Vec<Option<&Tensor>> = a.operands.iter().map(Some).collect();
    let out = infer(&InferArgs { operands: &types, attrs: a.attrs, consts: &consts, fresh: Fresh("", 0) })?;
    out.iter().try_for_each(budget)?;
    out.first().and_then(|t| t.shape.to_static()).ok_or_else(|| OpError::value("the result's shape does not follow from the operands"))
}

/// Types of a composite: those of its definition.
pub(crate) fn infer_by(expand: Expand, a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let (b, out) = build(expand, a.operands, a.attrs)?;
    Ok(out.into_iter().map(|v| b.ty(v).clone()).collect())
}

fn build(expand: Expand, operands: &[TensorType], attrs: &Attrs) -> Result<(Builder, Vec<ValueId>), OpError> {
    let mut b = Builder::new("composite");
    let inputs: Vec<ValueId> = operands.iter().enumerate().map(|(i, t)| b.input(&i.to_string(), t.clone())).collect();
    let out = expand(&mut b, &inputs, attrs)?;
    Ok((b, out))
}

/// Value of a composite: that of its definition.
pub(crate) fn eval_by(expand: Expand, a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let types: Vec<TensorType> = a.operands.iter().map(Tensor::ty).collect();
    let (mut b, out) = build(expand, &types, a.attrs)?;
    for (i, v) in out.iter().enumerate() {
        b.output(&i.to_string(), *v);
    }
    let g = b.finish();
    let program = crate::graph::Program { functions: [(g.name.clone(), g)].into() };
    crate::eval::run(&program, "composite", a.operands, &crate::eval::NoWeights).map_err(|d| OpError::new("E0606", d.message))
}

/// Shorthands for definitions of composites.
pub(crate) trait Compose {
    fn call(&mut self, op: &str, x: &[ValueId]) -> Result<ValueId, OpError>;
    fn number(&mut self, v: f64, like: ValueId) -> ValueId;
    fn reduced(&mut self, op: &str, x: ValueId, axes: &[usize]) -> Result<ValueId, OpError>;
}

impl Compose for Builder {
    fn call(&mut self, op: &str, x: &[ValueId]) -> Result<ValueId, OpError> {
        self.op(op, x, Attrs::new())
    }
    /// A constant of another value's number type.
    fn number(&mut self, v: f64, like: ValueId) -> ValueId {
        let d: DType = self.ty(like).dtype;
        self.constant(Tensor::from_f64s(d, &[], &[v]))
    }
    /// A reduction that keeps its axes.
    fn reduced(&mut self, op: &str, x: ValueId, axes: &[usize]) -> Result<ValueId, OpError> {
        let axes: Vec<i64> = axes.iter().map(|&a| a as i64).collect();
        self.op(op, &[x], Attrs::new().with("axes", axes).with("keepdims", true))
    }
}
