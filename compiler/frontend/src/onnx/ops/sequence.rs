//! Sequences and optionals inside a model: lists known at import, so that they leave no trace in the program.

use super::{Import, Row, one};
use crate::onnx::context::{Context, R, V, norm_axis};
use crate::onnx::frame::Slot;
use tahoma_core::{OpError, Tensor};

pub(super) static ROWS: &[Row] = &[
    Row::new("SequenceConstruct", 11, Import::Slots(construct)),
    Row::new("SequenceEmpty", 11, Import::Slots(|_| Ok(vec![Slot::Sequence(vec![])]))),
    Row::new("SequenceInsert", 11, Import::Slots(insert)),
    Row::new("SequenceErase", 11, Import::Slots(erase)),
    Row::new("SplitToSequence", 11, Import::Slots(split)),
    one("SequenceAt", 11, at),
    one("SequenceLength", 11, length),
    one("ConcatFromSequence", 11, join),
    Row::new("Optional", 15, Import::Slots(optional)),
    Row::new("OptionalGetElement", 15, Import::Slots(get)),
    one("OptionalHasElement", 15, has),
];

fn sequence(cx: &Context) -> R<Vec<V>> {
    match cx.slots.first() {
        Some(Some(Slot::Sequence(s))) => Ok(s.clone()),
        Some(Some(Slot::Optional(Some(inner)))) => match &**inner {
            Slot::Sequence(s) => Ok(s.clone()),
            _ => Err(OpError::dtype("the operand must be a sequence")),
        },
        _ => Err(OpError::dtype("the operand must be a sequence")),
    }
}

/// Position `i` of `n` places, counting from the end where negative.
fn position(cx: &Context, operand: usize, n: usize) -> R<usize> {
    let i = cx.need_ints(operand)?.first().copied().ok_or_else(|| OpError::attr("position is empty"))?;
    norm_axis(i, n).map_err(|_| OpError::value(format!("position {i} is out of range for {n}")))
}

fn construct(cx: &mut Context) -> R<Vec<Slot>> {
    Ok(vec![Slot::Sequence(cx.inputs()?)])
}

fn insert(cx: &mut Context) -> R<Vec<Slot>> {
    let mut s = sequence(cx)?;
    let v = cx.input(1)?;
    let i = match cx.try_opt(2)? {
        // Counted from the end of the sequence as it is, so -1 is before its last element.
        Some(_) => {
            let i = cx.need_ints(2)?.first().copied().unwrap_or(0);
            let n = s.len() as i64;
            let at = if i < 0 { i.saturating_add(n) } else { i };
            usize::try_from(at)
                .ok()
                .filter(|&a| a <= s.len())
                .ok_or_else(|| OpError::value(format!("position {i} is out of range for {n}")))?
        }
        None => s.len(),
    };
    s.insert(i, v);
    Ok(vec![Slot::Sequence(s)])
}

fn erase(cx: &mut Context) -> R<Vec<Slot>> {
    let mut s = sequence(cx)?;
    if s.is_empty() {
        return Err(OpError::value("the sequence is empty"));
    }
    let i = match cx.try_opt(1)? {
        Some(_) => position(cx, 1, s.len())?,
        None => s.len() - 1,
    };
    s.remove(i);
    Ok(vec![Slot::Sequence(s)])
}

fn at(cx: &mut Context) -> R<V> {
    let s = sequence(cx)?;
    let i = position(cx, 1, s.len())?;
    Ok(s[i])
}

fn length(cx: &mut Context) -> R<V> {
    let n = sequence(cx)?.len();
    Ok(cx.int(n as i64))
}

fn join(cx: &mut Context) -> R<V> {
    let s = sequence(cx)?;
    let first = *s.first().ok_or_else(|| OpError::value("the sequence is empty"))?;
    let stack = cx.attrs.int("new_axis").unwrap_or(0) != 0;
    let rank = cx.rank(first) + usize::from(stack);
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(0), rank)?;
    let s = if stack { s.into_iter().map(|v| cx.unsqueeze(v, axis)).collect::<R<Vec<_>>>()? } else { s };
    cx.concat(&s, axis)
}

fn split(cx: &mut Context) -> R<Vec<Slot>> {
    let x = cx.input(0)?;
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(0), cx.rank(x))?;
    let n = cx.dim(x, axis)?;
    let mut drop = false;
    let sizes: Vec<usize> = match cx.try_opt(1)? {
        None => {
            drop = cx.attrs.int("keepdims").unwrap_or(1) == 0;
            vec![1; n]
        }
        Some(v) => {
            let s = cx.need_ints(1)?;
            let usable = s.iter().all(|&k| k >= 0 && k as usize <= n);
            if cx.rank(v) == 0 {
                let k = s.first().copied().filter(|&k| k > 0).ok_or_else(|| OpError::attr("split must be positive"))? as usize;
                (0..n.div_ceil(k)).map(|i| k.min(n - i * k)).collect()
            } else if usable && s.iter().sum::<i64>() as usize == n {
                s.iter().map(|&k| k as usize).collect()
            } else {
                return Err(OpError::shape(format!("the parts {s:?} do not add up to {n}")));
            }
        }
    };
    let mut out = Vec::new();
    let mut start = 0;
    for k in sizes {
        let v = cx.slice(x, axis, start, k)?;
        out.push(if drop { cx.squeeze(v, &[axis])? } else { v });
        start += k;
    }
    Ok(vec![Slot::Sequence(out)])
}

fn optional(cx: &mut Context) -> R<Vec<Slot>> {
    Ok(vec![Slot::Optional(cx.slots.first().cloned().flatten().map(Box::new))])
}

fn get(cx: &mut Context) -> R<Vec<Slot>> {
    match cx.slots.first().cloned().flatten() {
        Some(Slot::Optional(Some(inner))) => Ok(vec![*inner]),
        Some(Slot::Optional(None)) | None => Err(OpError::value("the optional is empty")),
        // From operand set 18 on a plain value is its own element.
        Some(other) => Ok(vec![other]),
    }
}

fn has(cx: &mut Context) -> R<V> {
    let there = !matches!(cx.slots.first().cloned().flatten(), Some(Slot::Optional(None)) | None);
    Ok(cx.constant(Tensor::bool(&[], vec![there])))
}
