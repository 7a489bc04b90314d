//! Support vector machines (`ai.onnx.ml`), as libsvm has them: kernels, one decision for each pair of classes, votes, probabilities.

use super::scores::{Labels, Transform, above, floats, highest, products, rows_f32};
use super::{Import, Row, one};
use crate::onnx::context::{Context, R, V};
use crate::onnx::frame::Slot;
use tahoma_core::{DType, OpError, Tensor};

const ML: &str = "ai.onnx.ml";

pub(super) static ROWS: &[Row] =
    &[Row::new("SVMClassifier", 1, Import::Slots(classifier)).of(ML), one("SVMRegressor", 1, regressor).of(ML)];

/// Most classes: there is a decision for each pair.
const MOST_CLASSES: usize = 64;

/// Sweeps over the classes that couple their probabilities. The iteration stops by itself within 4 where it was measured (2 to 10
/// classes, decisions up to certainty); steps after the stop change nothing.
const SWEEPS: usize = 12;

/// Kernel values `[rows, vectors]` of rows with support vectors.
fn kernel(cx: &mut Context, x: V, features: usize, vectors: &[f32], n: usize) -> R<V> {
    let params = floats(cx, "kernel_params");
    let [gamma, offset, degree] = match params[..] {
        [] => [0.0; 3],
        [a, b, c] => [a, b, c].map(f64::from),
        _ => return Err(OpError::attr(format!("kernel_params are gamma, coef0 and degree, got {} numbers", params.len()))),
    };
    let kind = cx.attrs.str("kernel_type").unwrap_or("LINEAR");
    if kind == "RBF" {
        if Some(vectors.len()) != n.checked_mul(features) {
            let e = OpError::attr(format!("{} numbers are not {n} support vectors of {features} features", vectors.len()));
            return Err(e.mark(0, format!("has {features} features")));
        }
        let v = cx.constant(Tensor::f32(&[n, features], vectors.to_vec()));
        let x = cx.unsqueeze(x, 1)?;
        let apart = cx.sub(x, v)?;
        let square = cx.mul(apart, apart)?;
        let distance = cx.reduce("reduce_sum", square, &[2], false)?;
        let d = cx.scale(distance, -gamma)?;
        return cx.f("exp", &[d]);
    }
    let dot = products(cx, x, features, vectors, n)?;
    if kind == "LINEAR" {
        return Ok(dot);
    }
    let y = cx.scale(dot, gamma)?;
    let offset = cx.like(offset, y)?;
    let y = cx.add(y, offset)?;
    match kind {
        "SIGMOID" => cx.f("tanh", &[y]),
        "POLY" if degree == 2.0 => cx.mul(y, y),
        "POLY" if degree == 3.0 => {
            let square = cx.mul(y, y)?;
            cx.mul(square, y)
        }
        "POLY" => {
            let degree = cx.like(degree, y)?;
            cx.f("pow", &[y, degree])
        }
        other => Err(OpError::attr(format!("kernel_type cannot be {other:?}"))),
    }
}

fn rho(cx: &Context, least: usize) -> R<Vec<f32>> {
    let rho = floats(cx, "rho");
    if rho.len() < least { Err(OpError::attr(format!("{} entries of rho for {least} decisions", rho.len()))) } else { Ok(rho) }
}

/// One target; its sign where it is a one-class machine. `post_transform` changes nothing, as in ONNX Runtime.
fn regressor(cx: &mut Context) -> R<V> {
    let (x, features) = rows_f32(cx)?;
    let n = cx.attrs.int("n_supports").unwrap_or(0);
    let n = usize::try_from(n).map_err(|_| OpError::attr(format!("n_supports cannot be {n}")))?;
    let coefficients = floats(cx, "coefficients");
    let rho = rho(cx, 1)?[0];
    let y = if n > 0 {
        let vectors = floats(cx, "support_vectors");
        let k = kernel(cx, x, features, &vectors, n)?;
        products(cx, k, n, &coefficients, 1)?
    } else {
        products(cx, x, features, &coefficients, 1)?
    };
    let rho = cx.like(f64::from(rho), y)?;
    let y = cx.add(y, rho)?;
    if cx.attrs.int("one_class").unwrap_or(0) == 0 {
        return Ok(y);
    }
    let inside = above(cx, y, 0.0)?;
    let (one, minus) = (cx.like(1.0, y)?, cx.like(-1.0, y)?);
    cx.f("select", &[inside, one, minus])
}

/// Label and scores: one score for each pair of classes, the two of the only pair, or with `prob_a` and `prob_b` one for each class.
fn classifier(cx: &mut Context) -> R<Vec<Slot>> {
    let (x, features) = rows_f32(cx)?;
    let labels = Labels::of(cx, "classlabels_ints", "classlabels_strings")?;
    let classes = labels.len();
    if !(2..=MOST_CLASSES).contains(&classes) {
        return Err(cx.unsupported(format!("an SVMClassifier of {classes} classes (2 to {MOST_CLASSES} are)")));
    }
    let transform = Transform::of(cx)?;
    let per_class = cx.attrs.ints("vectors_per_class").unwrap_or_default().to_vec();
    let vectors: Option<Vec<usize>> = per_class.iter().map(|&n| usize::try_from(n).ok()).collect();
    let vectors = vectors.ok_or_else(|| OpError::attr("vectors_per_class holds a negative number"))?;
    let total: usize = vectors.iter().sum();
    if total == 0 {
        return linear(cx, x, features, &labels, transform);
    }
    if vectors.len() != classes {
        return Err(OpError::attr(format!("vectors_per_class has {} entries for {classes} classes", vectors.len())));
    }
    let support = floats(cx, "support_vectors");
    let k = kernel(cx, x, features, &support, total)?;
    let s = decisions(cx, k, &vectors, total)?;
    // The vote of each decision: above 0 for the first of the pair.
    let first = above(cx, s, 0.0)?;
    let first = cx.cast(first, DType::F32)?;
    let (pairs, mut turn) = (pairs(classes), vec![]);
    let mut against = vec![0f32; classes];
    for &(i, j) in &pairs {
        let mut row = vec![0f32; classes];
        (row[i], row[j]) = (1.0, -1.0);
        against[j] += 1.0;
        turn.extend(row);
    }
    let turn = cx.constant(Tensor::f32(&[pairs.len(), classes], turn));
    let votes = cx.matmul(first, turn)?;
    let against = cx.constant(Tensor::f32(&[classes], against));
    let votes = cx.add(votes, against)?;
    let label = labels.best(cx, votes)?;
    let (a, b) = (floats(cx, "prob_a"), floats(cx, "prob_b"));
    let y = if !a.is_empty() || !b.is_empty() {
        if a.len() < pairs.len() || b.len() != a.len() {
            return Err(OpError::attr(format!("{} prob_a and {} prob_b for {} decisions", a.len(), b.len(), pairs.len())));
        }
        let p = coupled(cx, s, &a[..pairs.len()], &b[..pairs.len()], classes)?;
        transform.apply(cx, p)?
    } else if classes == 2 {
        transform.apply_to_one(cx, s, transform != Transform::None)?
    } else {
        transform.apply(cx, s)?
    };
    Ok(vec![label, Slot::Value(y)])
}

/// Pairs of classes in the order of their decisions.
fn pairs(classes: usize) -> Vec<(usize, usize)> {
    (0..classes).flat_map(|i| (i + 1..classes).map(move |j| (i, j))).collect()
}

/// `[rows, pairs]`: for classes i < j, i's vectors weigh by row j − 1 of the coefficients, j's by row i.
fn decisions(cx: &mut Context, k: V, vectors: &[usize], total: usize) -> R<V> {
    let classes = vectors.len();
    let coefficients = floats(cx, "coefficients");
    if Some(coefficients.len()) != total.checked_mul(classes - 1) {
        return Err(OpError::attr(format!("{} coefficients for {total} vectors and {classes} classes", coefficients.len())));
    }
    let start: Vec<usize> = (0..classes).map(|c| vectors[..c].iter().sum()).collect();
    let all = pairs(classes);
    let rho = rho(cx, all.len())?;
    let mut w = vec![0f32; all.len() * total];
    for (p, &(i, j)) in all.iter().enumerate() {
        for (class, row) in [(i, j - 1), (j, i)] {
            for v in start[class]..start[class] + vectors[class] {
                w[p * total + v] = coefficients[row * total + v];
            }
        }
    }
    let s = products(cx, k, total, &w, all.len())?;
    let rho = cx.constant(Tensor::f32(&[all.len()], rho[..all.len()].to_vec()));
    cx.add(s, rho)
}

/// A linear machine without support vectors: a score for each class. Of two, the second wins as soon as any score is above 0 (0.5
/// where no coefficient is negative), as in ONNX Runtime.
fn linear(cx: &mut Context, x: V, features: usize, labels: &Labels, transform: Transform) -> R<Vec<Slot>> {
    let coefficients = floats(cx, "coefficients");
    let y = products(cx, x, features, &coefficients, labels.len())?;
    let rho = cx.like(f64::from(rho(cx, 1)?[0]), y)?;
    let y = cx.add(y, rho)?;
    let mut best = highest(cx, y)?;
    if labels.len() == 2 && floats(cx, "prob_a").is_empty() {
        let most = cx.reduce("reduce_max", y, &[1], false)?;
        let all_positive = coefficients.iter().all(|&c| c >= 0.0);
        let limit = cx.like(if all_positive { 0.5 } else { 0.0 }, most)?;
        let sure = cx.f(if all_positive { "ge" } else { "gt" }, &[most, limit])?;
        let one = cx.int(1);
        best = cx.f("select", &[sure, one, best])?;
    }
    let label = labels.at(cx, best)?;
    Ok(vec![label, Slot::Value(transform.apply(cx, y)?)])
}

/// Probabilities `[rows, classes]` that agree best with those of the pairs: Wu, Lin and Weng 2004, second method, as libsvm iterates.
fn coupled(cx: &mut Context, s: V, a: &[f32], b: &[f32], classes: usize) -> R<V> {
    let (a, b) = (cx.constant(Tensor::f32(&[a.len()], a.to_vec())), cx.constant(Tensor::f32(&[b.len()], b.to_vec())));
    let z = cx.mul(s, a)?;
    let z = cx.add(z, b)?;
    let z = cx.f("neg", &[z])?;
    let r = cx.f("sigmoid", &[z])?;
    let (least, most) = (cx.like(1e-7, r)?, cx.like(1.0 - 1e-7, r)?);
    let r = cx.f("max", &[r, least])?;
    let r = cx.f("min", &[r, most])?;
    let (one, zero) = (cx.like(1.0, r)?, cx.like(0.0, r)?);
    let none = cx.mul(r, zero)?;
    let none = cx.slice(none, 1, 0, 1)?;
    // won[i][j] is how probable i is against j, [rows, 1].
    let mut won = vec![vec![none; classes]; classes];
    for (p, (i, j)) in pairs(classes).into_iter().enumerate() {
        let v = cx.slice(r, 1, p, 1)?;
        won[i][j] = v;
        won[j][i] = cx.sub(one, v)?;
    }
    // Columns of Q, [rows, classes] each, and its diagonal.
    let (mut columns, mut diagonal) = (vec![], vec![]);
    for i in 0..classes {
        let mut column = vec![];
        let mut own = none;
        for j in 0..classes {
            if i == j {
                continue;
            }
            let square = cx.mul(won[j][i], won[j][i])?;
            own = cx.add(own, square)?;
        }
        for j in 0..classes {
            if i == j {
                column.push(own);
                continue;
            }
            let both = cx.mul(won[j][i], won[i][j])?;
            column.push(cx.f("neg", &[both])?);
        }
        columns.push(cx.concat(&column, 1)?);
        diagonal.push(own);
    }
    let even = cx.like(1.0 / classes as f64, none)?;
    let start = cx.add(none, even)?;
    let mut p = cx.concat(&vec![start; classes], 1)?;
    let stop = cx.like(0.005 / classes as f64, p)?;
    for _ in 0..SWEEPS {
        let before = p;
        let mut qp: Option<V> = None;
        for (i, &column) in columns.iter().enumerate() {
            let pi = cx.slice(p, 1, i, 1)?;
            let part = cx.mul(column, pi)?;
            qp = Some(match qp {
                Some(q) => cx.add(q, part)?,
                None => part,
            });
        }
        let Some(mut qp) = qp else { break };
        let product = cx.mul(p, qp)?;
        let mut pqp = cx.reduce("reduce_sum", product, &[1], true)?;
        let error = cx.sub(qp, pqp)?;
        let error = cx.f("abs", &[error])?;
        let error = cx.reduce("reduce_max", error, &[1], true)?;
        let done = cx.f("lt", &[error, stop])?;
        for i in 0..classes {
            let own = cx.slice(qp, 1, i, 1)?;
            let d = cx.sub(pqp, own)?;
            let d = cx.div(d, diagonal[i])?;
            let mut at = vec![0f32; classes];
            at[i] = 1.0;
            let at = cx.constant(Tensor::f32(&[classes], at));
            let step = cx.mul(d, at)?;
            p = cx.add(p, step)?;
            let norm = cx.add(d, one)?;
            let twice = cx.scale(own, 2.0)?;
            let t = cx.mul(d, diagonal[i])?;
            let t = cx.add(t, twice)?;
            let t = cx.mul(d, t)?;
            pqp = cx.add(pqp, t)?;
            pqp = cx.div(pqp, norm)?;
            pqp = cx.div(pqp, norm)?;
            let step = cx.mul(d, columns[i])?;
            qp = cx.add(qp, step)?;
            qp = cx.div(qp, norm)?;
            p = cx.div(p, norm)?;
        }
        p = cx.f("select", &[done, before, p])?;
    }
    Ok(p)
}
