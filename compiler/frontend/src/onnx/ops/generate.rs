//! Values made from attributes and shapes.

use super::{Import, Row, one};
use crate::onnx::context::{Context, R, V, attrs};
use crate::onnx::frame::Slot;
use crate::tensor_proto;
use std::sync::Arc;
use tahoma_core::{Buffer, DType, OpError, Tensor};

pub(super) static ROWS: &[Row] = &[
    Row::new("Constant", 1, Import::Slots(constant)),
    one("ConstantOfShape", 9, constant_of_shape),
    one("EyeLike", 9, eye_like),
    one("Range", 11, range),
];

/// An error of reading a tensor, as an error of the node that holds it.
pub(super) fn as_op_error(d: tahoma_core::Diagnostic) -> OpError {
    let code = tahoma_core::diag::code(&d.code).map_or("E0206", |c| c.code);
    let mut e = OpError::new(code, d.message);
    e.notes = d.notes;
    e
}

fn constant(cx: &mut Context) -> R<Vec<Slot>> {
    if let Some(t) = cx.attrs.tensor("value") {
        let name = cx.node.output.first().map(String::as_str).unwrap_or_default();
        return Ok(vec![cx.imp.tensor(t, name).map_err(as_op_error)?]);
    }
    let a = &cx.attrs;
    let t = if let Some(i) = a.int("value_int") {
        Tensor::i64(&[], vec![i])
    } else if let Some(v) = a.ints("value_ints") {
        Tensor::i64(&[v.len()], v.to_vec())
    } else if let Some(f) = a.get("value_float") {
        Tensor::f32(&[], vec![f.f()])
    } else if let Some(v) = a.floats("value_floats") {
        Tensor::f32(&[v.len()], v.to_vec())
    } else if a.get("sparse_value").is_some() {
        return Err(cx.unsupported("a sparse constant").note("store it as a dense tensor"));
    } else if let Some(w) = a.str("value_string") {
        return Ok(vec![cx.words(&[], vec![w.to_string()])?]);
    } else if let Some(w) = a.strs("value_strings") {
        return Ok(vec![cx.words(&[w.len()], w.into_iter().map(str::to_string).collect())?]);
    } else {
        return Err(OpError::attr("needs one of value, value_int, value_ints, value_float, value_floats"));
    };
    Ok(vec![Slot::Value(cx.constant(t))])
}

fn constant_of_shape(cx: &mut Context) -> R<V> {
    let shape = cx.input(0)?;
    let value = match cx.attrs.tensor("value") {
        Some(t) => {
            let budget = cx.imp.options.budget.clone();
            let mut none = crate::store::Store::default();
            tensor_proto::read(t, "value", None, &mut none, &budget).and_then(|t| t.tensor()).map_err(as_op_error)?
        }
        None => Tensor::f32(&[], vec![0.0]),
    };
    if value.len() != 1 {
        return Err(OpError::attr(format!("value must have one element, it has {}", value.len())));
    }
    let value = value.view(&[], &[], value.offset());
    match cx.ints_of(shape) {
        Some(dims) => {
            let dims = extents(cx, &dims)?;
            let v = cx.constant(value);
            cx.broadcast(v, &dims)
        }
        None => cx.op("constant_of_shape", &[shape], attrs! {"value": tahoma_core::Attr::Tensor(Arc::new(value))}),
    }
}

/// A shape given as data: within the budget, not negative.
fn extents(cx: &Context, dims: &[i64]) -> R<Vec<usize>> {
    let budget = cx.imp.options.budget.elements;
    let mut count = 1u64;
    for &d in dims {
        let n = u64::try_from(d).map_err(|_| OpError::attr(format!("shape {dims:?} has a negative extent")))?;
        count = count
            .checked_mul(n)
            .filter(|&c| c <= budget)
            .ok_or_else(|| OpError::new("E0107", format!("asks for a tensor of shape {dims:?}")))?;
    }
    Ok(dims.iter().map(|&d| d as usize).collect())
}

fn eye_like(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let dims = cx.dims(x)?;
    let [m, n] = dims[..] else { return Err(OpError::shape("needs a matrix").mark(0, "must have rank 2")) };
    let dtype = match cx.attrs.int("dtype") {
        Some(d) => super::math::type_code(d)?,
        None => cx.dtype(x),
    };
    let k = cx.attrs.int("k").unwrap_or(0);
    let row = cx.op("iota", &[], attrs! {"shape": vec![m as i64, 1], "axis": 0i64, "dtype": DType::I64})?;
    let col = cx.op("iota", &[], attrs! {"shape": vec![1, n as i64], "axis": 1i64, "dtype": DType::I64})?;
    let k = cx.int(k);
    let edge = cx.add(row, k)?;
    let on = cx.f("eq", &[edge, col])?;
    cx.cast(on, dtype)
}

/// `start, start + delta, …` below `limit`: max(ceil((limit - start) / delta), 0) numbers.
fn range(cx: &mut Context) -> R<V> {
    let v = [cx.input(0)?, cx.input(1)?, cx.input(2)?];
    let dtype = cx.dtype(v[0]);
    let known: Option<Vec<f64>> = v.iter().map(|&v| cx.floats_of(v).and_then(|f| f.first().copied())).collect();
    let ints: Option<Vec<i64>> = v.iter().map(|&v| cx.ints_of(v).and_then(|f| f.first().copied())).collect();
    let Some(known) = known else {
        return cx.f("range", &v);
    };
    if known[2] == 0.0 || known.iter().any(|x| !x.is_finite()) {
        return Err(OpError::attr(format!("cannot count from {} to {} by {}", known[0], known[1], known[2])));
    }
    let count = ((known[1] - known[0]) / known[2]).ceil().max(0.0);
    if count > cx.imp.options.budget.elements as f64 {
        return Err(OpError::new("E0107", format!("asks for {count} numbers")));
    }
    let n = count as usize;
    if let (Some(i), DType::I64, true) = (&ints, dtype, n <= tahoma_core::graph::FOLD_ELEMENTS) {
        let t = (0..n as i64).map(|k| i[0].wrapping_add(k.wrapping_mul(i[2]))).collect();
        return Ok(cx.constant(Tensor::new(DType::I64, &[n], Buffer::I64(t))));
    }
    // Narrow floats cannot count far: the places are made as integers and then as f32.
    let places = cx.iota(n)?;
    let wide = match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        d => d,
    };
    let places = cx.cast(places, wide)?;
    let (start, delta) = (cx.cast(v[0], wide)?, cx.cast(v[2], wide)?);
    let (start, delta) = (cx.reshape(start, &[])?, cx.reshape(delta, &[])?);
    let y = cx.mul(places, delta)?;
    let y = cx.add(y, start)?;
    cx.cast(y, dtype)
}
