//! Operators of the small domains: optimiser steps (`ai.onnx.preview.training`) and features (`ai.onnx.ml`).

use super::{Row, many, one};
use crate::onnx::context::{Context, R, V, attrs};
use tahoma_core::{DType, OpError};

const TRAINING: &str = "ai.onnx.preview.training";
const ML: &str = "ai.onnx.ml";

pub(super) static ROWS: &[Row] = &[
    many("Adagrad", 1, adagrad).of(TRAINING),
    many("Adam", 1, adam).of(TRAINING),
    many("Momentum", 1, momentum).of(TRAINING),
    one("ArrayFeatureExtractor", 1, array_feature_extractor).of(ML),
    one("Binarizer", 1, binarizer).of(ML),
];

/// The operands after R and T: `kinds` groups of as many tensors each, one of each group for every parameter.
fn groups(cx: &Context, kinds: usize) -> R<(V, V, Vec<Vec<V>>)> {
    let all = cx.inputs()?;
    let [rate, step, rest @ ..] = &all[..] else { return Err(OpError::attr("needs R and T")) };
    if rest.is_empty() || !rest.len().is_multiple_of(kinds) {
        return Err(OpError::attr(format!("{} tensors are not {kinds} for each parameter", rest.len())));
    }
    let n = rest.len() / kinds;
    Ok((*rate, *step, (0..n).map(|i| (0..kinds).map(|k| rest[k * n + i]).collect()).collect()))
}

/// Results as ONNX orders them: the first of every parameter, then the second of every one, …
fn ordered(results: Vec<Vec<V>>) -> Vec<V> {
    let kinds = results.first().map_or(0, Vec::len);
    (0..kinds).flat_map(|k| results.iter().map(move |r| r[k])).collect()
}

fn float(cx: &Context, name: &str, default: f64) -> f64 {
    cx.attrs.float(name).unwrap_or(default)
}

/// The gradient with the L2 penalty: `norm · X + G`.
fn regularised(cx: &mut Context, x: V, g: V) -> R<V> {
    let norm = float(cx, "norm_coefficient", 0.0);
    let penalty = cx.scale(x, norm)?;
    cx.add(penalty, g)
}

/// `b` to the power of the step count.
fn to_the(cx: &mut Context, b: f64, step: V, dtype: DType) -> R<V> {
    let t = cx.cast(step, dtype)?;
    let b = cx.like(b, t)?;
    cx.f("pow", &[b, t])
}

/// Whether this is a step after the first.
fn later(cx: &mut Context, step: V) -> R<V> {
    let zero = cx.like(0.0, step)?;
    cx.f("gt", &[step, zero])
}

/// Duchi, Hazan and Singer 2011, as ONNX writes it.
fn adagrad(cx: &mut Context) -> R<Vec<V>> {
    let (rate, step, parameters) = groups(cx, 3)?;
    let mut out = vec![];
    for p in parameters {
        let (x, g, h) = (p[0], p[1], p[2]);
        let t = cx.cast(step, cx.dtype(rate))?;
        let slow = cx.scale(t, float(cx, "decay_factor", 0.0))?;
        let one = cx.like(1.0, slow)?;
        let slow = cx.add(one, slow)?;
        let r = cx.div(rate, slow)?;
        let g = regularised(cx, x, g)?;
        let square = cx.mul(g, g)?;
        let h = cx.add(h, square)?;
        let root = cx.f("sqrt", &[h])?;
        let epsilon = cx.like(float(cx, "epsilon", 0.0), root)?;
        let root = cx.add(root, epsilon)?;
        let move_by = cx.mul(r, g)?;
        let move_by = cx.div(move_by, root)?;
        out.push(vec![cx.sub(x, move_by)?, h]);
    }
    Ok(ordered(out))
}

/// Kingma and Ba 2014, as ONNX writes it.
fn adam(cx: &mut Context) -> R<Vec<V>> {
    let (rate, step, parameters) = groups(cx, 4)?;
    let (alpha, beta) = (float(cx, "alpha", 0.9), float(cx, "beta", 0.999));
    let mut out = vec![];
    for p in parameters {
        let (x, g, v, h) = (p[0], p[1], p[2], p[3]);
        let g = regularised(cx, x, g)?;
        let (old, new) = (cx.scale(v, alpha)?, cx.scale(g, 1.0 - alpha)?);
        let v = cx.add(old, new)?;
        let square = cx.mul(g, g)?;
        let (old, new) = (cx.scale(h, beta)?, cx.scale(square, 1.0 - beta)?);
        let h = cx.add(old, new)?;
        let root = cx.f("sqrt", &[h])?;
        let epsilon = cx.like(float(cx, "epsilon", 0.0), root)?;
        let root = cx.add(root, epsilon)?;
        let d = cx.dtype(rate);
        let (a, b) = (to_the(cx, alpha, step, d)?, to_the(cx, beta, step, d)?);
        let one = cx.like(1.0, a)?;
        let (a, b) = (cx.sub(one, a)?, cx.sub(one, b)?);
        let b = cx.f("sqrt", &[b])?;
        let adjusted = cx.mul(rate, b)?;
        let adjusted = cx.div(adjusted, a)?;
        let is_later = later(cx, step)?;
        let r = cx.f("select", &[is_later, adjusted, rate])?;
        let move_by = cx.mul(r, v)?;
        let move_by = cx.div(move_by, root)?;
        let x = cx.sub(x, move_by)?;
        let x = cx.scale(x, 1.0 - float(cx, "norm_coefficient_post", 0.0))?;
        out.push(vec![x, v, h]);
    }
    Ok(ordered(out))
}

/// Gradient descent with momentum, standard or Nesterov's.
fn momentum(cx: &mut Context) -> R<Vec<V>> {
    let (rate, step, parameters) = groups(cx, 3)?;
    let (alpha, beta) = (float(cx, "alpha", 0.0), float(cx, "beta", 0.0));
    let nesterov = match cx.attrs.str("mode") {
        Some("nesterov") => true,
        Some("standard") => false,
        other => return Err(OpError::attr(format!("mode cannot be {}", other.unwrap_or("left out")))),
    };
    let mut out = vec![];
    for p in parameters {
        let (x, g, v) = (p[0], p[1], p[2]);
        let g = regularised(cx, x, g)?;
        let is_later = later(cx, step)?;
        let (beta, one) = (cx.like(beta, g)?, cx.like(1.0, g)?);
        let b = cx.f("select", &[is_later, beta, one])?;
        let (old, new) = (cx.scale(v, alpha)?, cx.mul(b, g)?);
        let v = cx.add(old, new)?;
        let direction = if nesterov {
            let ahead = cx.scale(v, alpha)?;
            cx.add(g, ahead)?
        } else {
            v
        };
        let move_by = cx.mul(rate, direction)?;
        out.push(vec![cx.sub(x, move_by)?, v]);
    }
    Ok(ordered(out))
}

/// Columns of the last axis.
fn array_feature_extractor(cx: &mut Context) -> R<V> {
    let (x, y) = (cx.input(0)?, cx.input(1)?);
    let count: usize = cx.dims(y)?.iter().product();
    let index = cx.reshape(y, &[count])?;
    let x = if cx.rank(x) == 1 { cx.unsqueeze(x, 0)? } else { x };
    let last = cx.rank(x) as i64 - 1;
    cx.op("gather", &[x, index], attrs! {"axis": last})
}

/// 1 above the threshold, else 0.
fn binarizer(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let threshold = cx.like(float(cx, "threshold", 0.0), x)?;
    let above = cx.f("gt", &[x, threshold])?;
    cx.cast(above, cx.dtype(x))
}
