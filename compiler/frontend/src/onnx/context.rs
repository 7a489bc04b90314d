//! What an operator's importer works with: its operands, attributes and versions, and short ways to write `ml` ops.

use super::attrs::NodeAttrs;
use super::frame::Slot;
use super::importer::Importer;
use super::schema::Schema;
use crate::proto::NodeProto;
use crate::tensor_proto::RawTensor;
use prost::bytes::Bytes;
use tahoma_core::graph::FOLD_ELEMENTS;
use tahoma_core::op::{number, numbers};
use tahoma_core::{Attrs, Buffer, Builder, DType, Dim, OpError, Shape, Tensor, TensorType, ValueId};

pub(super) type V = ValueId;
pub(super) type R<T> = Result<T, OpError>;

/// One node while it is imported.
pub(super) struct Context<'i, 'm> {
    pub(super) imp: &'i mut Importer<'m>,
    pub(super) node: &'m NodeProto,
    pub(super) attrs: NodeAttrs<'m>,
    pub(super) schema: &'static Schema,
    pub(super) slots: Vec<Option<Slot>>,
    /// Operands of the op that was refused last: what the marks of its error speak of.
    pub(super) failed: Option<Vec<V>>,
}

/// Ops whose shape operands become attributes where they are known.
const DYNAMIC: &[&str] = &["shape_of", "reshape_to", "broadcast_to", "slice_to", "tile", "range", "constant_of_shape"];

/// Attributes from pairs.
macro_rules! attrs {
    ($($k:literal : $v:expr),* $(,)?) => { tahoma_core::Attrs::new()$(.with($k, $v))* };
}
pub(super) use attrs;

impl Context<'_, '_> {
    pub(super) fn b(&mut self) -> &mut Builder {
        self.imp.builder()
    }
    /// First operator set with this meaning of the operator.
    pub(super) fn since(&self) -> i64 {
        self.schema.since
    }
    /// Operands given, counting absent ones in the middle.
    pub(super) fn count(&self) -> usize {
        self.slots.len()
    }
    /// Whether the node wants its `i`-th result.
    pub(super) fn wants(&self, i: usize) -> bool {
        self.node.output.get(i).is_some_and(|o| !o.is_empty())
    }
    /// The `i`-th operand, where it is given; a sequence or optional there is an error.
    pub(super) fn try_opt(&self, i: usize) -> R<Option<V>> {
        match self.slots.get(i) {
            None | Some(None) => Ok(None),
            Some(Some(Slot::Value(v))) => Ok(Some(*v)),
            Some(Some(_)) => Err(OpError::dtype(format!("operand {} must be a tensor", self.formal(i)))),
        }
    }
    pub(super) fn opt(&self, i: usize) -> Option<V> {
        self.try_opt(i).ok().flatten()
    }
    pub(super) fn input(&self, i: usize) -> R<V> {
        self.try_opt(i)?.ok_or_else(|| OpError::new("E0202", format!("operand {} is missing", self.formal(i))))
    }
    /// All operands, each a tensor.
    pub(super) fn inputs(&self) -> R<Vec<V>> {
        (0..self.count()).map(|i| self.input(i)).collect()
    }
    /// Name of the `i`-th operand in ONNX's description.
    pub(super) fn formal(&self, i: usize) -> String {
        formal(self.schema, i)
    }
    pub(super) fn ty(&self, v: V) -> TensorType {
        self.imp.builder_ref().ty(v).clone()
    }
    pub(super) fn dtype(&self, v: V) -> DType {
        self.imp.builder_ref().ty(v).dtype
    }
    pub(super) fn rank(&self, v: V) -> usize {
        self.imp.builder_ref().ty(v).rank()
    }
    pub(super) fn shape(&self, v: V) -> Shape {
        self.imp.builder_ref().ty(v).shape.clone()
    }
    /// Extents as numbers; E0209 while any is open.
    pub(super) fn dims(&self, v: V) -> R<Vec<usize>> {
        numbers(&self.shape(v)).map_err(|e| e.note("give the open dimensions with --shape NAME=1x3x224x224"))
    }
    /// One extent as a number.
    pub(super) fn dim(&self, v: V, axis: usize) -> R<usize> {
        let shape = self.shape(v);
        match shape.0.get(axis) {
            Some(d) => {
                number(d, format!("axis {axis} of {shape}")).map_err(|e| e.note("give the open dimensions with --shape NAME=1x3x224x224"))
            }
            None => Err(OpError::shape(format!("needs axis {axis}, but the operand has type {}", self.ty(v)))),
        }
    }
    /// The value, where it is a constant.
    pub(super) fn constant_of(&self, v: V) -> Option<Tensor> {
        self.imp.builder_ref().constant_of(v).map(|t| (**t).clone())
    }
    /// The integers of a constant of any integer type.
    pub(super) fn ints_of(&self, v: V) -> Option<Vec<i64>> {
        let t = self.constant_of(v)?;
        t.to_ints().or_else(|| {
            let t = t.contiguous();
            let range = t.offset()..t.offset() + t.len();
            match t.buffer() {
                Buffer::U8(v) => Some(v[range].iter().map(|&x| x as i64).collect()),
                Buffer::I8(v) => Some(v[range].iter().map(|&x| x as i64).collect()),
                Buffer::I16(v) => Some(v[range].iter().map(|&x| x as i64).collect()),
                Buffer::U16(v) => Some(v[range].iter().map(|&x| x as i64).collect()),
                Buffer::U32(v) => Some(v[range].iter().map(|&x| x as i64).collect()),
                Buffer::U64(v) => Some(v[range].iter().map(|&x| x as i64).collect()),
                _ => None,
            }
        })
    }
    /// The numbers of a constant of any float type.
    pub(super) fn floats_of(&self, v: V) -> Option<Vec<f64>> {
        let t = self.constant_of(v)?.contiguous();
        let range = t.offset()..t.offset() + t.len();
        Some(match t.buffer() {
            Buffer::F64(v) => v[range].to_vec(),
            Buffer::F32(v) => v[range].iter().map(|&x| x as f64).collect(),
            Buffer::F16(v) => v[range].iter().map(|x| x.to_f64()).collect(),
            Buffer::BF16(v) => v[range].iter().map(|x| x.to_f64()).collect(),
            _ => return self.ints_of(v).map(|v| v.into_iter().map(|x| x as f64).collect()),
        })
    }
    /// The integers of operand `i`, which decide a shape and so must be known now.
    pub(super) fn need_ints(&self, i: usize) -> R<Vec<i64>> {
        let v = self.input(i)?;
        self.ints_of(v).ok_or_else(|| self.not_constant(i))
    }
    pub(super) fn need_floats(&self, i: usize) -> R<Vec<f64>> {
        let v = self.input(i)?;
        self.floats_of(v).ok_or_else(|| self.not_constant(i))
    }
    pub(super) fn not_constant(&self, i: usize) -> OpError {
        OpError::open(format!("operand {} decides a shape or the form of the computation, so it must be known at import", self.formal(i)))
            .mark(i, "must be a constant")
            .note("give it as a constant input, or fix the shapes it is computed from with --shape")
    }
    /// One op with one result.
    pub(super) fn op(&mut self, name: &str, operands: &[V], attrs: Attrs) -> R<V> {
        if DYNAMIC.contains(&name) {
            self.failed = None;
            let out =
                tahoma_core::ops::canonical(self.b(), name, operands, attrs).inspect_err(|_| self.failed = Some(operands.to_vec()))?;
            return self.within_budget(out);
        }
        let out = self.ops(name, operands, attrs)?;
        out.first().copied().ok_or_else(|| OpError::new("E0901", format!("ml.{name} gives no result")))
    }
    /// One op with any number of results.
    pub(super) fn ops(&mut self, name: &str, operands: &[V], attrs: Attrs) -> R<Vec<V>> {
        let def = tahoma_core::ops::find(name).ok_or_else(|| OpError::new("E0901", format!("the op table has no ml.{name}")))?;
        self.failed = None;
        let out = self.b().emit(def, operands, attrs).inspect_err(|_| self.failed = Some(operands.to_vec()))?;
        for &v in &out {
            self.within_budget(v)?;
        }
        Ok(out)
    }
    fn within_budget(&self, v: V) -> R<V> {
        let (ty, budget) = (self.ty(v), self.imp.options.budget.elements);
        if over_budget(&ty.shape, budget) {
            return Err(OpError::new("E0107", format!("asks for a tensor of type {ty}, more than {budget} elements")));
        }
        Ok(v)
    }
    /// Makes results by `f` from the node's operands with 16-bit floats widened to f32; the k-th is rounded to the type of operand
    /// `like[k]`.
    pub(super) fn in_f32(&mut self, like: &[usize], f: impl FnOnce(&mut Self) -> R<Vec<V>>) -> R<Vec<V>> {
        let half = |d: DType| matches!(d, DType::F16 | DType::BF16);
        let (own, mut widened) = (self.slots.clone(), vec![]);
        for (i, slot) in own.iter().enumerate() {
            if let Some(Slot::Value(v)) = slot
                && half(self.dtype(*v))
            {
                let wide = self.cast(*v, DType::F32)?;
                widened.push((*v, wide));
                self.slots[i] = Some(Slot::Value(wide));
            }
        }
        let made = f(self);
        self.slots = own;
        // Marks speak of the node's own operands.
        for v in self.failed.iter_mut().flatten() {
            *v = widened.iter().find(|w| w.1 == *v).map_or(*v, |w| w.0);
        }
        let mut out = made?;
        for (v, &l) in out.iter_mut().zip(like) {
            if let Some(to) = self.opt(l).map(|o| self.dtype(o)).filter(|&d| half(d)) {
                *v = self.cast(*v, to)?;
            }
        }
        Ok(out)
    }
    /// One result, of the type of operand 0.
    pub(super) fn one_in_f32(&mut self, f: impl FnOnce(&mut Self) -> R<V>) -> R<V> {
        let made = self.in_f32(&[0], |cx| Ok(vec![f(cx)?]))?;
        made.first().copied().ok_or_else(|| OpError::new("E0901", "no result"))
    }
    /// An op without attributes.
    pub(super) fn f(&mut self, name: &str, operands: &[V]) -> R<V> {
        self.op(name, operands, Attrs::new())
    }
    pub(super) fn constant(&mut self, t: Tensor) -> V {
        self.b().constant(t)
    }
    /// A table that the importer made: a constant where it is small, else a weight, which no pass copies, compares or prints.
    pub(super) fn table(&mut self, t: Tensor) -> V {
        if t.len() <= FOLD_ELEMENTS {
            return self.constant(t);
        }
        let raw = RawTensor { dtype: t.dtype(), dims: t.shape().to_vec(), bytes: Bytes::from(t.to_bytes()).into() };
        self.imp.weight(raw, "table")
    }
    pub(super) fn ints(&mut self, v: &[i64]) -> V {
        self.constant(Tensor::i64(&[v.len()], v.to_vec()))
    }
    pub(super) fn int(&mut self, v: i64) -> V {
        self.constant(Tensor::i64(&[], vec![v]))
    }
    /// A scalar of the number type.
    pub(super) fn scalar(&mut self, x: f64, dtype: DType) -> R<V> {
        let buffer = match dtype {
            DType::F32 => Buffer::F32(vec![x as f32]),
            DType::I64 => Buffer::I64(vec![x as i64]),
            DType::F64 => Buffer::F64(vec![x]),
            DType::I32 => Buffer::I32(vec![x as i32]),
            DType::Bool => Buffer::U8(vec![u8::from(x != 0.0)]),
            _ => {
                let v = self.constant(Tensor::new(DType::F64, &[], Buffer::F64(vec![x])));
                return self.cast(v, dtype);
            }
        };
        Ok(self.constant(Tensor::new(dtype, &[], buffer)))
    }
    /// A scalar of the number type of `v`.
    pub(super) fn like(&mut self, x: f64, v: V) -> R<V> {
        self.scalar(x, self.dtype(v))
    }
    pub(super) fn cast(&mut self, v: V, to: DType) -> R<V> {
        if self.dtype(v) == to { Ok(v) } else { self.op("cast", &[v], attrs! {"to": to, "saturate": true}) }
    }
    pub(super) fn add(&mut self, a: V, b: V) -> R<V> {
        self.f("add", &[a, b])
    }
    pub(super) fn sub(&mut self, a: V, b: V) -> R<V> {
        self.f("sub", &[a, b])
    }
    pub(super) fn mul(&mut self, a: V, b: V) -> R<V> {
        self.f("mul", &[a, b])
    }
    pub(super) fn div(&mut self, a: V, b: V) -> R<V> {
        self.f("div", &[a, b])
    }
    pub(super) fn matmul(&mut self, a: V, b: V) -> R<V> {
        self.f("matmul", &[a, b])
    }
    /// `v * x`, where `x` is not one.
    pub(super) fn scale(&mut self, v: V, x: f64) -> R<V> {
        if x == 1.0 {
            return Ok(v);
        }
        let s = self.like(x, v)?;
        self.mul(v, s)
    }
    pub(super) fn reshape(&mut self, v: V, dims: &[usize]) -> R<V> {
        let shape: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
        if self.shape(v).to_static().as_deref() == Some(dims) {
            return Ok(v);
        }
        if self.shape(v).is_static() {
            return self.op("reshape", &[v], attrs! {"shape": shape});
        }
        let shape = self.ints(&shape);
        self.f("reshape_to", &[v, shape])
    }
    pub(super) fn transpose(&mut self, v: V, perm: &[usize]) -> R<V> {
        if perm.iter().enumerate().all(|(i, &p)| i == p) && perm.len() == self.rank(v) {
            return Ok(v);
        }
        let perm: Vec<i64> = perm.iter().map(|&p| p as i64).collect();
        self.op("transpose", &[v], attrs! {"perm": perm})
    }
    pub(super) fn broadcast(&mut self, v: V, dims: &[usize]) -> R<V> {
        if self.shape(v).to_static().as_deref() == Some(dims) {
            return Ok(v);
        }
        let shape: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
        self.op("broadcast", &[v], attrs! {"shape": shape})
    }
    /// Elements `start .. start + size` of one axis.
    pub(super) fn slice(&mut self, v: V, axis: usize, start: usize, size: usize) -> R<V> {
        self.slice_step(v, axis, start as i64, size, 1)
    }
    /// `size` elements of one axis from `start` on, each `step` further.
    pub(super) fn slice_step(&mut self, v: V, axis: usize, start: i64, size: usize, step: i64) -> R<V> {
        let dims = self.dims(v)?;
        let mut starts = vec![0i64; dims.len()];
        let mut sizes: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
        let mut steps = vec![1i64; dims.len()];
        if axis >= dims.len() {
            return Err(OpError::shape(format!("needs axis {axis} of {}", self.ty(v))));
        }
        if start == 0 && step == 1 && size == dims[axis] {
            return Ok(v);
        }
        (starts[axis], sizes[axis], steps[axis]) = (start, size as i64, step);
        self.op("slice", &[v], attrs! {"starts": starts, "sizes": sizes, "steps": steps})
    }
    pub(super) fn concat(&mut self, vs: &[V], axis: usize) -> R<V> {
        if let [one] = vs { Ok(*one) } else { self.op("concat", vs, attrs! {"axis": axis as i64}) }
    }
    /// Adds an axis of extent 1 at `axis` of the result.
    pub(super) fn unsqueeze(&mut self, v: V, axis: usize) -> R<V> {
        self.expand_dims(v, &[axis])
    }
    /// Adds axes of extent 1 at these places of the result (sorted).
    pub(super) fn expand_dims(&mut self, v: V, axes: &[usize]) -> R<V> {
        let mut shape = self.shape(v).0;
        for &a in axes {
            if a > shape.len() {
                return Err(OpError::attr(format!("axis {a} is out of range")));
            }
            shape.insert(a, Dim::Known(1));
        }
        self.reshape_dims(v, &shape)
    }
    /// Removes these axes of extent 1.
    pub(super) fn squeeze(&mut self, v: V, axes: &[usize]) -> R<V> {
        let shape = self.shape(v).0;
        let keep = shape.into_iter().enumerate().filter(|(i, _)| !axes.contains(i)).map(|(_, d)| d).collect::<Vec<_>>();
        self.reshape_dims(v, &keep)
    }
    /// Reshape to extents of which some may be open: those are taken from `v`, where they stand in the same order.
    pub(super) fn reshape_dims(&mut self, v: V, dims: &[Dim]) -> R<V> {
        if let Some(known) = Shape(dims.to_vec()).to_static() {
            return self.reshape(v, &known);
        }
        let from = self.shape(v).0;
        let (all, mut next) = (self.f("shape_of", &[v])?, 0);
        let mut parts = Vec::new();
        for d in dims {
            parts.push(match d {
                Dim::Known(n) => self.ints(&[*n as i64]),
                Dim::Sym(_) => {
                    let at = from[next..].iter().position(|f| f == d).map(|p| p + next);
                    let at = at.ok_or_else(|| OpError::open(format!("needs extent {d} as a number: it is none of the operand's")))?;
                    next = at + 1;
                    self.op("slice", &[all], attrs! {"starts": vec![at as i64], "sizes": vec![1i64], "steps": vec![1i64]})?
                }
            });
        }
        let shape = self.concat(&parts, 0)?;
        self.f("reshape_to", &[v, shape])
    }
    pub(super) fn reduce(&mut self, name: &str, v: V, axes: &[usize], keepdims: bool) -> R<V> {
        let axes: Vec<i64> = axes.iter().map(|&a| a as i64).collect();
        self.op(name, &[v], attrs! {"axes": axes, "keepdims": keepdims})
    }
    /// An axis that may count from the end, in range for `rank`.
    pub(super) fn axis(&self, axis: i64, rank: usize) -> R<usize> {
        norm_axis(axis, rank)
    }
    /// Axes that may count from the end, sorted, each once.
    pub(super) fn axes(&self, axes: &[i64], rank: usize) -> R<Vec<usize>> {
        let mut out: Vec<usize> = axes.iter().map(|&a| norm_axis(a, rank)).collect::<R<_>>()?;
        out.sort_unstable();
        if out.windows(2).any(|w| w[0] == w[1]) {
            return Err(OpError::attr(format!("axes {axes:?} name one axis twice")));
        }
        Ok(out)
    }
    /// `0, 1, … n-1` as i64.
    pub(super) fn iota(&mut self, n: usize) -> R<V> {
        self.op("iota", &[], attrs! {"shape": vec![n as i64], "axis": 0i64, "dtype": DType::I64})
    }
    /// A tensor of one number.
    pub(super) fn full(&mut self, x: f64, dtype: DType, dims: &[usize]) -> R<V> {
        let s = self.scalar(x, dtype)?;
        self.broadcast(s, dims)
    }
    /// A refusal that names what is missing (E0201).
    pub(super) fn unsupported(&self, what: impl std::fmt::Display) -> OpError {
        OpError::new("E0201", format!("{what} is not supported"))
    }
}

/// Whether the extents that are known alone ask for more elements than the budget; an extent of 0 does not excuse the others.
pub(super) fn over_budget(shape: &Shape, budget: u64) -> bool {
    let known = |d: &Dim| d.known().map_or(1, |n| n.max(1));
    shape.0.iter().try_fold(1u64, |n, d| n.checked_mul(known(d))).is_none_or(|n| n > budget)
}

/// Name of the `i`-th operand in ONNX's description.
pub(super) fn formal(schema: &Schema, i: usize) -> String {
    let last = schema.operands.len().saturating_sub(1);
    match schema.operands.get(i) {
        Some(n) if i < last || schema.inputs.1 as usize <= schema.operands.len() => n.to_string(),
        _ => match schema.operands.last() {
            Some(n) => format!("{n}[{}]", i - last.min(i)),
            None => format!("#{i}"),
        },
    }
}

pub(super) fn norm_axis(axis: i64, rank: usize) -> R<usize> {
    let n = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    match n {
        Some(a) if a >= 0 && (a as usize) < rank => Ok(a as usize),
        _ => Err(OpError::attr(format!("axis {axis} is out of range for rank {rank}"))),
    }
}
