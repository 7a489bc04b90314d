//! Reductions, window reductions (pooling) and running combinations.

use super::common::*;
use crate::kernels::{reduce, window};
use crate::op::*;
use crate::tensor::Tensor;
use crate::types::{Dim, Shape, TensorType};

/// Shape after reducing, with or without the reduced axes.
pub(crate) fn reduced_shape(s: &Shape, axes: &[usize], keep: bool) -> Shape {
    Shape(
        s.0.iter()
            .enumerate()
            .filter(|(i, _)| keep || !axes.contains(i))
            .map(|(i, d)| if axes.contains(&i) { Dim::Known(1) } else { d.clone() })
            .collect(),
    )
}

fn infer_reduce(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let x = &a.operands[0];
    let axes = axes(a.attrs, x.rank())?;
    Ok(vec![TensorType::new(x.dtype, reduced_shape(&x.shape, &axes, flag(a.attrs, "keepdims")?))])
}

fn eval_reduce(m: Monoid, a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let x = &a.operands[0];
    let axes = axes(a.attrs, x.rank())?;
    let shape = reduced_shape(&x.ty().shape, &axes, flag(a.attrs, "keepdims")?).to_static().unwrap_or_default();
    Ok(vec![reduce::reduce(m, x, &axes, &shape)])
}

/// Output extent of a window over one axis. `None` if the window does not fit.
pub(crate) fn windows(n: u64, window: i64, stride: i64, low: i64, high: i64, dilation: i64) -> Option<u64> {
    let span = (window.checked_sub(1)?.checked_mul(dilation)?).checked_add(1)?;
    let room = (n as i64).checked_add(low)?.checked_add(high)?.checked_sub(span)?;
    (room >= 0 && stride > 0).then(|| (room / stride + 1) as u64)
}

/// Spatial extents after windows; shared with convolution.
pub(crate) fn window_shape(a: &InferArgs, x: &TensorType, window: &[i64]) -> Result<Vec<Dim>, OpError> {
    let rank = window.len();
    let (strides, pads, dilations) = (ints(a.attrs, "strides")?, ints(a.attrs, "pads")?, ints(a.attrs, "dilations")?);
    if x.rank() != rank + 2 {
        return Err(OpError::shape(format!("a window over {rank} axes needs an operand of rank {}, not {}", rank + 2, x.rank()))
            .mark(0, format!("must have rank {}", rank + 2)));
    }
    if strides.len() != rank || dilations.len() != rank || pads.len() != 2 * rank {
        return Err(OpError::attr(format!("strides and dilations need {rank} numbers and pads {}", 2 * rank)));
    }
    if strides.iter().chain(dilations).chain(window).any(|&v| v < 1) {
        return Err(OpError::attr("window, strides and dilations must be positive"));
    }
    (0..rank)
        .map(|i| match &x.shape[i + 2] {
            // As much padding as the window takes away leaves the extent as it is.
            Dim::Sym(_) if strides[i] == 1 && pads[i].saturating_add(pads[rank + i]) == (window[i] - 1).saturating_mul(dilations[i]) => {
                Ok(x.shape[i + 2].clone())
            }
            Dim::Sym(_) => Ok(Dim::sym(&format!("{}.w{i}", a.fresh))),
            Dim::Known(n) => windows(*n, window[i], strides[i], pads[i], pads[rank + i], dilations[i]).map(Dim::Known).ok_or_else(|| {
                OpError::shape(format!(
                    "a window of {} (dilation {}) does not fit axis {} of extent {n} with padding {} and {}",
                    window[i],
                    dilations[i],
                    i + 2,
                    pads[i],
                    pads[rank + i]
                ))
                .mark(0, format!("axis {} must be larger", i + 2))
            }),
        })
        .collect()
}

/// Most elements of a pooling window: twice those of a plane of 8,192 by 4,096.
const MAX_TAPS: i64 = 1 << 26;

fn infer_pool(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let x = &a.operands[0];
    let window = ints(a.attrs, "window")?;
    let spatial = window_shape(a, x, window)?;
    if window.iter().try_fold(1i64, |n, &k| n.checked_mul(k)).is_none_or(|n| n > MAX_TAPS) {
        return Err(OpError::new("E0107", format!("a window of {window:?} has more than {MAX_TAPS} elements")));
    }
    Ok(vec![TensorType::new(x.dtype, Shape(x.shape.0[..2].iter().cloned().chain(spatial).collect()))])
}

fn eval_pool(m: Monoid, a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let x = &a.operands[0];
    let shape = static_result(infer_pool, a)?;
    let kernel: Vec<usize> = ints(a.attrs, "window")?.iter().map(|&k| k as usize).collect();
    let g = geometry(a, x, &kernel, &shape)?;
    Ok(vec![window::pool(m, x, &g, &shape)])
}

/// How the windows of `kernel` slide over the spatial axes of `x`.
pub(crate) fn geometry(a: &EvalArgs, x: &Tensor, kernel: &[usize], shape: &[usize]) -> Result<window::Geometry, OpError> {
    let (strides, pads, dilations) = (ints(a.attrs, "strides")?, ints(a.attrs, "pads")?, ints(a.attrs, "dilations")?);
    let taps = kernel.iter().fold(1u64, |n, &k| n.saturating_mul(k as u64));
    crate::memory::ask_elements(taps, 64 + 8 * kernel.len() as u64, &format_args!("a window of {kernel:?}"))?;
    Ok(window::Geometry::new(&x.shape()[2..], kernel, &shape[2..], strides, pads, dilations))
}

fn infer_scan(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    axis(a.attrs, "axis", a.operands[0].rank())?;
    Ok(vec![a.operands[0].clone()])
}

fn eval_scan(m: Monoid, a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let x = &a.operands[0];
    let ax = axis(a.attrs, "axis", x.rank())?;
    Ok(vec![reduce::scan(m, x, ax, flag(a.attrs, "exclusive")?, flag(a.attrs, "reverse")?)])
}

const REDUCE_ATTRS: &[AttrDef] = &[attr("axes", AttrType::Ints), attr("keepdims", AttrType::Bool)];
const POOL_ATTRS: &[AttrDef] =
    &[attr("window", AttrType::Ints), attr("strides", AttrType::Ints), attr("pads", AttrType::Ints), attr("dilations", AttrType::Ints)];
const SCAN_ATTRS: &[AttrDef] = &[attr("axis", AttrType::Int), attr("exclusive", AttrType::Bool), attr("reverse", AttrType::Bool)];

macro_rules! rows { ($list:ident $kind:ident $infer:ident $eval:ident $attrs:ident; $($id:ident $m:ident $n:literal $ty:ident $tol:expr, $doc:literal $ex:literal;)*) => {
    $(static $id: OpDef = OpDef { name: $n, doc: $doc, operands: &[operand("x", TypeSet::$ty)], attrs: $attrs, results: Results::One, kind: Kind::$kind(Monoid::$m),
        tolerance: $tol, examples: &[$ex], infer: $infer, eval: |a| $eval(Monoid::$m, a) };)*
    static $list: &[&OpDef] = &[$(&$id),*];
} }

rows! { REDUCE Reduce infer_reduce eval_reduce REDUCE_ATTRS;
    SUM Sum "reduce_sum" Number Tolerance::Reassociated(1e-6), "Σ along axes; 16-bit floats are summed in f32." "reduce_sum([[1, 2], [3, 4]], axes=[1], keepdims=false) = [3, 7]";
    PROD Prod "reduce_prod" Number Tolerance::Reassociated(1e-6), "Π along axes." "reduce_prod([[1, 2], [3, 4]], axes=[0], keepdims=true) = [[3, 8]]";
    RMAX Max "reduce_max" Any Tolerance::Exact, "Largest along axes; −∞ (or the type's least) of nothing. bool: any." "reduce_max([[1, 2], [3, 4]], axes=[0, 1], keepdims=false) = 4";
    RMIN Min "reduce_min" Any Tolerance::Exact, "Smallest along axes. bool: all." "reduce_min([[1, 2], [3, 4]], axes=[1], keepdims=false) = [1, 3]";
}
rows! { POOL Window infer_pool eval_pool POOL_ATTRS;
    MAX_POOL Max "max_pool" Number Tolerance::Exact, "Largest in each window of the axes after batch and channel; padding never wins." "max_pool([[[1, 3, 2]]], window=[2], strides=[1], pads=[0, 0], dilations=[1]) = [[[3, 3]]]";
    SUM_POOL Sum "sum_pool" Number Tolerance::Reassociated(1e-6), "Sum of each window; padding counts as 0." "sum_pool([[[1, 3, 2]]], window=[2], strides=[1], pads=[1, 0], dilations=[1]) = [[[1, 4, 5]]]";
}
rows! { SCAN Scan infer_scan eval_scan SCAN_ATTRS;
    CUMSUM Sum "cumsum" Number Tolerance::Reassociated(1e-6), "Running sum along an axis." "cumsum([1, 2, 3], axis=0, exclusive=false, reverse=false) = [1, 3, 6]";
    CUMPROD Prod "cumprod" Number Tolerance::Reassociated(1e-6), "Running product along an axis." "cumprod([1, 2, 3], axis=0, exclusive=true, reverse=false) = [1, 1, 2]";
}

pub(super) static FAMILIES: &[&[&OpDef]] = &[REDUCE, POOL, SCAN];
