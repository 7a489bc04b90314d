//! Resize and Upsample: one axis after the other. Where every result is one source element the axis is a gather (or, for whole
//! factors, a broadcast); else it is a product with a matrix of interpolation weights, made here.

use super::{Row, one};
use crate::onnx::context::{Context, R, V, attrs, norm_axis};
use crate::onnx::frame::Slot;
use crate::tensor_proto::RawTensor;
use prost::bytes::Bytes;
use tahoma_core::{DType, OpError, Tensor};

pub(super) static ROWS: &[Row] = &[one("Upsample", 7, upsample), one("Resize", 10, resize10), one("Resize", 11, resize)];

/// How to interpolate.
struct Form {
    mode: Mode,
    coordinates: Coordinates,
    nearest: Nearest,
    cubic_a: f64,
    exclude_outside: bool,
    antialias: bool,
}

#[derive(PartialEq, Clone, Copy)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
}

#[derive(PartialEq, Clone, Copy)]
enum Coordinates {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    CropAndResize,
}

#[derive(Clone, Copy)]
enum Nearest {
    PreferFloor,
    PreferCeil,
    Floor,
    Ceil,
    /// Of operator set 10, which does not say: down to grow, up to shrink, as ONNX Runtime and the cases of that time have it.
    Old,
}

/// One axis: extent before and after, scale, region of interest.
struct Axis {
    from: usize,
    to: usize,
    scale: f64,
    roi: (f64, f64),
}

fn named<T: Copy>(what: &str, given: &str, all: &[(&str, T)]) -> R<T> {
    all.iter().find(|a| a.0 == given).map(|a| a.1).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|a| a.0).collect();
        OpError::attr(format!("{what} {given:?} is none of {}", names.join(", ")))
    })
}

const MODES: &[(&str, Mode)] = &[("nearest", Mode::Nearest), ("linear", Mode::Linear), ("bilinear", Mode::Linear), ("cubic", Mode::Cubic)];

fn old_form(cx: &Context) -> R<Form> {
    Ok(Form {
        mode: named("mode", cx.attrs.str("mode").unwrap_or("nearest"), MODES)?,
        coordinates: Coordinates::Asymmetric,
        nearest: Nearest::Old,
        cubic_a: -0.75,
        exclude_outside: false,
        antialias: false,
    })
}

fn by_scales(cx: &mut Context, scales: &[f64], form: Form) -> R<V> {
    let x = cx.input(0)?;
    let dims = cx.dims(x)?;
    if scales.len() != dims.len() {
        return Err(OpError::attr(format!("{} scales for rank {}", scales.len(), dims.len())));
    }
    let axes: Vec<(usize, Axis)> = dims.iter().zip(scales).enumerate().map(|(i, (&d, &s))| Ok((i, scaled(d, s)?))).collect::<R<_>>()?;
    interpolate(cx, x, &axes, &form, 0.0)
}

fn scaled(from: usize, scale: f64) -> R<Axis> {
    // In f32, as shape inference and exporters compute it: 10 · 0.7 is 7, and 6.9999999 in f64.
    let to = (from as f32 * scale as f32).floor() as f64;
    if !(scale > 0.0 && to < (1u64 << 32) as f64) {
        return Err(OpError::attr(format!("scale {scale} is not usable")));
    }
    Ok(Axis { from, to: to as usize, scale, roi: (0.0, 1.0) })
}

fn upsample(cx: &mut Context) -> R<V> {
    let scales = match cx.attrs.floats("scales") {
        Some(s) => s.iter().map(|&s| s as f64).collect(),
        None => cx.need_floats(1)?,
    };
    let form = old_form(cx)?;
    by_scales(cx, &scales, form)
}

fn resize10(cx: &mut Context) -> R<V> {
    let scales = cx.need_floats(1)?;
    let form = old_form(cx)?;
    by_scales(cx, &scales, form)
}

fn resize(cx: &mut Context) -> R<V> {
    use Coordinates::*;
    let x = cx.input(0)?;
    let dims = cx.dims(x)?;
    let text = |n: &str, d: &'static str| cx.attrs.str(n).unwrap_or(d);
    let form = Form {
        mode: named("mode", text("mode", "nearest"), MODES)?,
        coordinates: named(
            "coordinate_transformation_mode",
            text("coordinate_transformation_mode", "half_pixel"),
            &[
                ("half_pixel", HalfPixel),
                ("half_pixel_symmetric", HalfPixelSymmetric),
                ("pytorch_half_pixel", PytorchHalfPixel),
                ("align_corners", AlignCorners),
                ("asymmetric", Asymmetric),
                ("tf_crop_and_resize", CropAndResize),
            ],
        )?,
        nearest: named(
            "nearest_mode",
            text("nearest_mode", "round_prefer_floor"),
            &[
                ("round_prefer_floor", Nearest::PreferFloor),
                ("round_prefer_ceil", Nearest::PreferCeil),
                ("floor", Nearest::Floor),
                ("ceil", Nearest::Ceil),
            ],
        )?,
        cubic_a: cx.attrs.float("cubic_coeff_a").unwrap_or(-0.75),
        exclude_outside: cx.attrs.int("exclude_outside").unwrap_or(0) != 0,
        antialias: cx.attrs.int("antialias").unwrap_or(0) != 0,
    };
    let rank = dims.len();
    let axes: Vec<usize> = match cx.attrs.ints("axes") {
        Some(a) => a.iter().map(|&a| norm_axis(a, rank)).collect::<R<_>>()?,
        None => (0..rank).collect(),
    };
    let given = |cx: &Context, i: usize| -> R<Option<Vec<f64>>> {
        match cx.try_opt(i)? {
            // An empty tensor stands for an absent one (operator set 11).
            Some(_) => Ok(Some(cx.need_floats(i)?).filter(|v| !v.is_empty())),
            None => Ok(None),
        }
    };
    let roi = if form.coordinates == CropAndResize { given(cx, 1)? } else { None };
    let (scales, sizes) = (given(cx, 2)?, given(cx, 3)?);
    let mut plan = Vec::new();
    match (scales, sizes) {
        (Some(s), None) if s.len() == axes.len() => {
            for (&a, &s) in axes.iter().zip(&s) {
                plan.push((a, scaled(dims[a], s)?));
            }
        }
        (None, Some(s)) if s.len() == axes.len() => {
            let ratio = |k: usize| s[k] / dims[axes[k]] as f64;
            let all = (0..axes.len()).map(ratio);
            let common = match text("keep_aspect_ratio_policy", "stretch") {
                "stretch" => None,
                "not_larger" => all.reduce(f64::min),
                "not_smaller" => all.reduce(f64::max),
                other => return Err(OpError::attr(format!("keep_aspect_ratio_policy {other:?} is unknown"))),
            };
            for (k, &a) in axes.iter().enumerate() {
                let to = common.map_or(s[k], |c| (c * dims[a] as f64 + 0.5).floor());
                if !(to >= 0.0 && to < (1u64 << 32) as f64) || dims[a] == 0 {
                    return Err(OpError::attr(format!("size {to} is not usable")));
                }
                plan.push((a, Axis { from: dims[a], to: to as usize, scale: common.unwrap_or(to / dims[a] as f64), roi: (0.0, 1.0) }));
            }
        }
        (Some(_), Some(_)) => return Err(OpError::attr("gives both scales and sizes; one of them must be absent")),
        (None, None) => return Err(OpError::attr("gives neither scales nor sizes")),
        _ => return Err(OpError::attr(format!("scales or sizes must have one number for each of {} axes", axes.len()))),
    }
    if let Some(roi) = roi {
        if roi.len() != 2 * plan.len() {
            return Err(OpError::attr(format!("roi must have {} numbers", 2 * plan.len())));
        }
        let n = plan.len();
        plan.iter_mut().enumerate().for_each(|(k, p)| p.1.roi = (roi[k], roi[k + n]));
    }
    let fill = cx.attrs.float("extrapolation_value").unwrap_or(0.0);
    interpolate(cx, x, &plan, &form, fill)
}

/// Place in the source of result `i`; `None` outside the region (crop and resize).
///
/// The length of the result is the integer one, as ONNX Runtime and PyTorch have it; the reference of ONNX, and with it the cases
/// `test_resize_downsample_scales_*_align_corners` of the suite, has `scale · from` (onnx/onnx#4726).
fn source(i: usize, axis: &Axis, c: Coordinates) -> Option<f64> {
    let (i, from, out) = (i as f64, axis.from as f64, axis.to as f64);
    Some(match c {
        Coordinates::HalfPixel => (i + 0.5) / axis.scale - 0.5,
        Coordinates::PytorchHalfPixel => {
            if out == 1.0 {
                0.0
            } else {
                (i + 0.5) / axis.scale - 0.5
            }
        }
        Coordinates::HalfPixelSymmetric => {
            let adjust = out / (axis.scale * from);
            from / 2.0 * (1.0 - adjust) + (i + 0.5) / axis.scale - 0.5
        }
        Coordinates::AlignCorners => {
            if out == 1.0 {
                0.0
            } else {
                i * (from - 1.0) / (out - 1.0)
            }
        }
        Coordinates::Asymmetric => i / axis.scale,
        Coordinates::CropAndResize => {
            let (a, b) = axis.roi;
            let x = if out == 1.0 { (b - a) * (from - 1.0) / 2.0 } else { i * (b - a) * (from - 1.0) / (out - 1.0) };
            let x = x + a * (from - 1.0);
            if x < 0.0 || x > from - 1.0 {
                return None;
            }
            x
        }
    })
}

/// A scale is an f32, so a place is known to some parts in 2²⁴: nearer than that to a whole or half place, it is that place.
fn snapped(x: f64) -> f64 {
    let near = (2.0 * x).round() / 2.0;
    if (near - x).abs() <= (1.0 + x.abs()) * (0.5f64).powi(22) { near } else { x }
}

/// Source elements with their weights, for one result. Elements beyond the ends count as the end.
fn weights(x: f64, axis: &Axis, form: &Form) -> Vec<(i64, f64)> {
    let x = if form.mode == Mode::Nearest { snapped(x) } else { x };
    let floor = x.floor();
    let ratio = x - floor;
    let at = floor as i64;
    let shrink = if form.antialias { axis.scale.min(1.0) } else { 1.0 };
    let mut w: Vec<(i64, f64)> = match form.mode {
        Mode::Nearest => {
            let up = match form.nearest {
                _ if ratio == 0.0 => false,
                Nearest::PreferFloor => ratio > 0.5,
                Nearest::PreferCeil => ratio >= 0.5,
                Nearest::Floor => false,
                Nearest::Ceil => true,
                Nearest::Old => axis.scale < 1.0,
            };
            vec![(at + i64::from(up), 1.0)]
        }
        Mode::Linear => {
            let start = (-1.0 / shrink).floor() as i64 + 1;
            (start..2 - start).map(|k| (at + k, (1.0 - ((k as f64 - ratio) * shrink).abs()).clamp(0.0, 1.0))).collect()
        }
        Mode::Cubic => {
            let a = form.cubic_a;
            let start = (-2.0 / shrink).floor() as i64 + 1;
            let value = |x: f64| {
                let x = x.abs();
                if x <= 1.0 {
                    ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
                } else if x < 2.0 {
                    ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
                } else {
                    0.0
                }
            };
            (start..2 - start).map(|k| (at + k, value((k as f64 - ratio) * shrink))).collect()
        }
    };
    let last = axis.from as i64 - 1;
    if form.exclude_outside {
        w.retain(|(i, _)| (0..=last).contains(i));
    }
    if form.exclude_outside || form.antialias {
        let sum: f64 = w.iter().map(|w| w.1).sum();
        w.iter_mut().for_each(|w| w.1 /= sum);
    }
    w.retain(|w| w.1 != 0.0);
    w.iter_mut().for_each(|w| w.0 = w.0.clamp(0, last));
    w
}

fn interpolate(cx: &mut Context, x: V, axes: &[(usize, Axis)], form: &Form, fill: f64) -> R<V> {
    let dtype = cx.dtype(x);
    let mut v = x;
    let mut outside: Option<V> = None;
    for (a, axis) in axes {
        if axis.from == 0 && axis.to > 0 {
            return Err(OpError::shape(format!("axis {a} has no elements to resize")));
        }
        if axis.to as u64 > 1 << 24 {
            return Err(OpError::new("E0107", format!("asks for {} elements along axis {a}", axis.to)));
        }
        let places: Vec<Option<f64>> = (0..axis.to).map(|i| source(i, axis, form.coordinates)).collect();
        if places.iter().any(Option::is_none) {
            let mut shape = vec![1; cx.rank(x)];
            shape[*a] = axis.to;
            let line = cx.constant(Tensor::bool(&shape, places.iter().map(Option::is_none).collect()));
            outside = Some(match outside {
                Some(o) => cx.f("or", &[o, line])?,
                None => line,
            });
        }
        let rows: Vec<Vec<(i64, f64)>> = places.iter().map(|p| p.map_or(vec![(0, 1.0)], |x| weights(x, axis, form))).collect();
        v = along(cx, v, *a, axis, &rows, dtype)?;
    }
    match outside {
        Some(o) => {
            let fill = cx.scalar(fill, dtype)?;
            cx.f("select", &[o, fill, v])
        }
        None => Ok(v),
    }
}

fn along(cx: &mut Context, v: V, a: usize, axis: &Axis, rows: &[Vec<(i64, f64)>], dtype: DType) -> R<V> {
    let single: Option<Vec<i64>> = rows.iter().map(|r| if let [(i, 1.0)] = r[..] { Some(i) } else { None }).collect();
    if let Some(index) = single {
        if axis.from == axis.to && index.iter().enumerate().all(|(i, &p)| p == i as i64) {
            return Ok(v);
        }
        if axis.from > 0 && axis.to.is_multiple_of(axis.from) {
            let k = axis.to / axis.from;
            if index.iter().enumerate().all(|(i, &p)| p == (i / k) as i64) {
                let mut thin = cx.dims(v)?;
                let mut out = thin.clone();
                out[a] = axis.to;
                thin.insert(a + 1, 1);
                let mut wide = thin.clone();
                wide[a + 1] = k;
                let v = cx.reshape(v, &thin)?;
                let v = cx.broadcast(v, &wide)?;
                return cx.reshape(v, &out);
            }
        }
        let index = cx.ints(&index);
        return cx.op("gather", &[v, index], attrs! {"axis": a as i64});
    }
    if axis.from.checked_mul(axis.to).is_none_or(|n| n > 1 << 26) {
        return Err(OpError::new("E0107", format!("resizing {} elements to {} needs too large a matrix", axis.from, axis.to)));
    }
    let mut matrix = vec![0f32; axis.from * axis.to];
    for (o, r) in rows.iter().enumerate() {
        for &(i, w) in r {
            matrix[i as usize * axis.to + o] += w as f32;
        }
    }
    let wide = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let bytes = Bytes::from(matrix.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
    let name = format!("resize_{}_{}", axis.from, axis.to);
    let raw = RawTensor { dtype: DType::F32, dims: vec![axis.from, axis.to], bytes: bytes.into() };
    let m = match cx.imp.raw_value(raw, &name) {
        Ok(Slot::Value(m)) => m,
        _ => return Err(OpError::new("E0901", "interpolation weights could not be kept")),
    };
    let m = cx.cast(m, wide)?;
    let v = cx.cast(v, wide)?;
    let rank = cx.rank(v);
    // The axis goes last for the product and back.
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(a, rank - 1);
    let v = cx.transpose(v, &perm)?;
    let v = cx.matmul(v, m)?;
    let v = cx.transpose(v, &perm)?;
    cx.cast(v, dtype)
}
