//! Losses.

use super::{Row, many, one};
use crate::onnx::context::{Context, R, V, attrs};
use tahoma_core::{DType, OpError};

pub(super) static ROWS: &[Row] =
    &[one("NegativeLogLikelihoodLoss", 12, nll).in_f32(&[0]), many("SoftmaxCrossEntropyLoss", 12, cross_entropy).in_f32(&[0, 0])];

fn nll(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    negative_log_likelihood(cx, x)
}

fn cross_entropy(cx: &mut Context) -> R<Vec<V>> {
    let x = cx.input(0)?;
    let log = cx.op("log_softmax", &[x], attrs! {"axis": 1i64})?;
    Ok(vec![negative_log_likelihood(cx, log)?, log])
}

/// `-w[t] * x[n, t]`, then the sum, or the mean weighted by `w[t]`.
fn negative_log_likelihood(cx: &mut Context, x: V) -> R<V> {
    let (target, weight) = (cx.input(1)?, cx.try_opt(2)?);
    let dims = cx.dims(x)?;
    if dims.len() < 2 || cx.rank(target) + 1 != dims.len() {
        return Err(OpError::shape("needs scores [N, C, ...] and targets [N, ...]")
            .mark(1, format!("must have rank {}", dims.len().saturating_sub(1))));
    }
    let target = cx.cast(target, DType::I64)?;
    let ignored = match cx.attrs.int("ignore_index") {
        Some(i) => {
            let i = cx.int(i);
            Some(cx.f("eq", &[target, i])?)
        }
        None => None,
    };
    let zero = cx.int(0);
    let class = match ignored {
        Some(m) => cx.f("select", &[m, zero, target])?,
        None => target,
    };
    let place = cx.unsqueeze(class, 1)?;
    let picked = cx.op("gather_elements", &[x, place], attrs! {"axis": 1i64})?;
    let picked = cx.squeeze(picked, &[1])?;
    let mut w = match weight {
        Some(w) => Some(cx.op("gather", &[w, class], attrs! {"axis": 0i64})?),
        None => None,
    };
    if let Some(m) = ignored {
        let (none, all) = (cx.like(0.0, x)?, cx.like(1.0, x)?);
        let kept = w.unwrap_or(all);
        w = Some(cx.f("select", &[m, none, kept])?);
    }
    let mut loss = cx.f("neg", &[picked])?;
    if let Some(w) = w {
        loss = cx.mul(loss, w)?;
    }
    let axes: Vec<usize> = (0..cx.rank(loss)).collect();
    match cx.attrs.str("reduction").unwrap_or("mean") {
        "none" => Ok(loss),
        "sum" => cx.reduce("reduce_sum", loss, &axes, false),
        "mean" => match w {
            Some(w) => {
                let total = cx.reduce("reduce_sum", loss, &axes, false)?;
                let weight = cx.reduce("reduce_sum", w, &axes, false)?;
                cx.div(total, weight)
            }
            None => cx.reduce("reduce_mean", loss, &axes, false),
        },
        other => Err(OpError::attr(format!("reduction {other:?} is none of none, sum, mean"))),
    }
}
