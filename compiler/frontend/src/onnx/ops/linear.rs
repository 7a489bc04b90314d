//! Matrix products and einsum.

use super::{Row, one};
use crate::onnx::context::{Context, R, V, attrs};
use tahoma_core::{DType, Dim, OpError};

pub(super) static ROWS: &[Row] =
    &[one("MatMul", 1, matmul), one("Gemm", 1, gemm), one("MatMulInteger", 10, matmul_integer), one("Det", 11, det)];

fn matmul(cx: &mut Context) -> R<V> {
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    let fit = inner_extents(cx, a, b);
    cx.matmul(a, b).map_err(|e| match fit {
        Err(better) => better,
        Ok(()) => e,
    })
}

/// The rule of matrix products in words that fit: which extents differ, and whether a transposition would mend it.
fn inner_extents(cx: &mut Context, a: V, b: V) -> R<()> {
    let (sa, sb) = (cx.shape(a).0, cx.shape(b).0);
    let (Some(k), Some(l)) = (sa.last(), sb.get(sb.len().saturating_sub(2)).or(sb.last())) else { return Ok(()) };
    let (Dim::Known(k), Dim::Known(l)) = (k, l) else { return Ok(()) };
    if k == l {
        return Ok(());
    }
    // The failed op is ours to name: the marks speak of the node's own operands.
    cx.failed = None;
    let mut e = OpError::shape(format!("inner extents differ, {k} and {l}"))
        .mark(1, format!("axis {} must be {k}", sb.len().saturating_sub(2)))
        .note(format!("the last extent of A ({k}) must equal the second last of B ({l})"));
    let last = sb.last().and_then(Dim::known);
    if sb.len() >= 2 && last == Some(*k) {
        e = e.note("B fits when transposed: export it the other way round, or put a Transpose before the node");
    } else if sa.len() >= 2 && sa[sa.len() - 2].known() == Some(*l) {
        e = e.note("A fits when transposed: put a Transpose before the node");
    } else {
        let want: Vec<String> = sb.iter().enumerate().map(|(i, d)| if i + 2 == sb.len() { k.to_string() } else { d.to_string() }).collect();
        e = e.note(format!(
            "a B of shape [{}] would fit: check that weight and activation come from the same layer and export",
            want.join(", ")
        ));
    }
    Err(e)
}

/// `alpha * A' B' + beta * C`
pub(super) fn gemm(cx: &mut Context) -> R<V> {
    // A product that alpha scales down need not fit 16 bits before.
    if cx.attrs.float("alpha").is_some_and(|a| a != 1.0) { cx.one_in_f32(scaled_product) } else { scaled_product(cx) }
}

fn scaled_product(cx: &mut Context) -> R<V> {
    let (mut a, mut b) = (cx.input(0)?, cx.input(1)?);
    for (i, v) in [a, b].into_iter().enumerate() {
        if cx.rank(v) != 2 {
            return Err(OpError::shape("takes matrices").mark(i, "must have rank 2"));
        }
    }
    if cx.attrs.int("transA").unwrap_or(0) != 0 {
        a = cx.transpose(a, &[1, 0])?;
    }
    if cx.attrs.int("transB").unwrap_or(0) != 0 {
        b = cx.transpose(b, &[1, 0])?;
    }
    inner_extents(cx, a, b)?;
    let mut y = cx.matmul(a, b)?;
    y = cx.scale(y, cx.attrs.float("alpha").unwrap_or(1.0))?;
    if let Some(c) = cx.try_opt(2)? {
        let beta = cx.attrs.float("beta").unwrap_or(1.0);
        if beta != 0.0 {
            let c = cx.scale(c, beta)?;
            y = cx.add(y, c)?;
        }
    }
    Ok(y)
}

fn det(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    cx.f("det", &[x])
}

/// Integers less their zero points, as i32.
pub(super) fn centred(cx: &mut Context, x: V, zero: Option<V>) -> R<V> {
    let x = cx.cast(x, DType::I32)?;
    match zero {
        Some(z) => {
            let z = cx.cast(z, DType::I32)?;
            cx.sub(x, z)
        }
        None => Ok(x),
    }
}

fn matmul_integer(cx: &mut Context) -> R<V> {
    let (a, b, za, zb) = (cx.input(0)?, cx.input(1)?, cx.try_opt(2)?, cx.try_opt(3)?);
    // A zero point per row of A is a column.
    let za = match za {
        Some(z) if cx.rank(z) == 1 && cx.rank(a) >= 2 && cx.dim(z, 0)? != 1 => Some(cx.unsqueeze(z, 1)?),
        z => z,
    };
    let (a, b) = (centred(cx, a, za)?, centred(cx, b, zb)?);
    cx.matmul(a, b)
}

/// Einsum: operands aligned to one list of labels, multiplied and summed; two operands without a diagonal become one matrix product.
pub(super) fn einsum(cx: &mut Context) -> R<V> {
    let equation = cx.attrs.str("equation").unwrap_or_default();
    let (left, right) = equation.split_once("->").unwrap_or((equation, equation));
    let terms: Vec<&str> = left.split(',').collect();
    // A sum before a product, or a product of a product, is no one contraction.
    let alone = |c: char| c.is_alphabetic() && !right.contains(c) && terms.iter().filter(|t| t.contains(c)).count() == 1;
    if terms.len() > 2 || terms.len() == 2 && left.chars().any(alone) { cx.one_in_f32(summed_products) } else { summed_products(cx) }
}

fn summed_products(cx: &mut Context) -> R<V> {
    let equation: String = cx.attrs.str("equation").unwrap_or_default().chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match equation.split_once("->") {
        Some((l, r)) => (l.to_string(), Some(r.to_string())),
        None => (equation.clone(), None),
    };
    let terms: Vec<&str> = left.split(',').collect();
    let inputs = cx.inputs()?;
    if terms.len() != inputs.len() {
        return Err(OpError::attr(format!("equation {equation:?} has {} terms for {} operands", terms.len(), inputs.len())));
    }
    // Labels as characters; the axes of an ellipsis are digits, aligned on the right.
    let mut widest = 0;
    for (t, &v) in terms.iter().zip(&inputs) {
        if let Some((a, b)) = t.split_once("...") {
            widest = widest.max(cx.rank(v).saturating_sub(a.len() + b.len()));
        }
    }
    let spell = |t: &str, n: usize| -> R<Vec<char>> {
        let dots = |n: usize| (0..n).map(|i| char::from_digit((widest - n + i) as u32, 36).unwrap_or('?')).collect::<String>();
        let s = t.replace("...", &dots(n));
        if s.contains('.') { Err(OpError::attr(format!("equation term {t:?} is malformed"))) } else { Ok(s.chars().collect()) }
    };
    let mut labels: Vec<Vec<char>> = Vec::new();
    let mut values = Vec::new();
    for (t, &v) in terms.iter().zip(&inputs) {
        let rank = cx.rank(v);
        let plain = t.replace("...", "").len();
        let dots = if t.contains("...") { rank.checked_sub(plain) } else { Some(0) };
        let l = spell(t, dots.unwrap_or(0))?;
        if l.len() != rank {
            return Err(OpError::shape(format!("equation term {t:?} does not fit type {}", cx.ty(v))));
        }
        let (v, l) = diagonal(cx, v, l)?;
        labels.push(l);
        values.push(v);
    }
    let out: Vec<char> = match &right {
        Some(r) => spell(r, if r.contains("...") { widest } else { 0 })?,
        None => {
            let mut single: Vec<char> = labels
                .iter()
                .flatten()
                .copied()
                .filter(|c| labels.iter().flatten().filter(|d| *d == c).count() == 1 && !c.is_ascii_digit())
                .collect();
            single.sort_unstable();
            let mut o: Vec<char> = (0..widest).filter_map(|i| char::from_digit(i as u32, 36)).collect();
            o.extend(single);
            o
        }
    };
    if let Some(c) = out.iter().find(|c| !labels.iter().flatten().any(|d| d == *c)) {
        return Err(OpError::attr(format!("equation {equation:?} gives {c:?}, which no operand has")));
    }
    let (mut v, mut l) = (values[0], labels[0].clone());
    for i in 1..values.len() {
        let later: Vec<char> = labels[i + 1..].iter().flatten().copied().chain(out.iter().copied()).collect();
        (v, l) = contract(cx, (v, l), (values[i], labels[i].clone()), &later)?;
    }
    let gone: Vec<usize> = (0..l.len()).filter(|&i| !out.contains(&l[i])).collect();
    if !gone.is_empty() {
        v = cx.reduce("reduce_sum", v, &gone, false)?;
        l.retain(|c| out.contains(c));
    }
    let perm: Vec<usize> = out.iter().filter_map(|c| l.iter().position(|d| d == c)).collect();
    cx.transpose(v, &perm)
}

/// Takes the diagonal of axes with one label: everything off it becomes zero and is summed away.
fn diagonal(cx: &mut Context, mut v: V, mut l: Vec<char>) -> R<(V, Vec<char>)> {
    while let Some((i, j)) = (0..l.len()).flat_map(|i| (i + 1..l.len()).map(move |j| (i, j))).find(|&(i, j)| l[i] == l[j]) {
        let n = cx.dim(v, i)?;
        if cx.dim(v, j)? != n {
            return Err(OpError::shape(format!("label {:?} stands for two extents", l[i])));
        }
        let rank = l.len();
        let line = |cx: &mut Context, axis: usize| {
            let shape: Vec<i64> = (0..rank).map(|k| if k == axis { n as i64 } else { 1 }).collect();
            cx.op("iota", &[], attrs! {"shape": shape, "axis": axis as i64, "dtype": DType::I64})
        };
        let (a, b) = (line(cx, i)?, line(cx, j)?);
        let on = cx.f("eq", &[a, b])?;
        let zero = cx.like(0.0, v)?;
        v = cx.f("select", &[on, v, zero])?;
        v = cx.reduce("reduce_sum", v, &[j], false)?;
        l.remove(j);
    }
    Ok((v, l))
}

type Labelled = (V, Vec<char>);

/// One product of two labelled operands as a batched matrix product: batch labels are in both and wanted later, summed ones in both and
/// not wanted.
fn contract(cx: &mut Context, a: Labelled, b: Labelled, later: &[char]) -> R<Labelled> {
    let lone = |cx: &mut Context, (v, l): Labelled, other: &[char]| -> R<Labelled> {
        let gone: Vec<usize> = (0..l.len()).filter(|&i| !other.contains(&l[i]) && !later.contains(&l[i])).collect();
        if gone.is_empty() {
            return Ok((v, l));
        }
        let v = cx.reduce("reduce_sum", v, &gone, false)?;
        Ok((v, l.into_iter().enumerate().filter(|(i, _)| !gone.contains(i)).map(|x| x.1).collect()))
    };
    let (la, lb) = (a.1.clone(), b.1.clone());
    let (a, b) = (lone(cx, a, &lb)?, lone(cx, b, &la)?);
    let both =
        |l: &[char], o: &[char], want: bool| l.iter().copied().filter(|c| o.contains(c) && later.contains(c) == want).collect::<Vec<_>>();
    let (batch, sum) = (both(&a.1, &b.1, true), both(&a.1, &b.1, false));
    let only = |l: &[char], o: &[char]| l.iter().copied().filter(|c| !o.contains(c)).collect::<Vec<_>>();
    let (m, n) = (only(&a.1, &b.1), only(&b.1, &a.1));
    let place = |l: &[char], order: &[&[char]]| -> Vec<usize> {
        order.iter().flat_map(|p| p.iter()).filter_map(|c| l.iter().position(|d| d == c)).collect()
    };
    let (pa, pb) = (place(&a.1, &[&batch, &m, &sum]), place(&b.1, &[&batch, &sum, &n]));
    let (va, vb) = (cx.transpose(a.0, &pa)?, cx.transpose(b.0, &pb)?);
    let (da, db) = (cx.dims(va)?, cx.dims(vb)?);
    // An extent of 1 broadcasts against the other operand's.
    let nb = batch.len();
    let wide: Vec<usize> = (0..nb).map(|i| if da[i] == 1 { db[i] } else { da[i] }).collect();
    let count = |d: &[usize]| d.iter().product::<usize>();
    let sums: Vec<usize> = (0..sum.len()).map(|i| if da[nb + m.len() + i] == 1 { db[nb + i] } else { da[nb + m.len() + i] }).collect();
    let full_a = [&wide[..], &da[nb..nb + m.len()], &sums].concat();
    let full_b = [&wide[..], &sums, &db[nb + sum.len()..]].concat();
    let (va, vb) = (cx.broadcast(va, &full_a)?, cx.broadcast(vb, &full_b)?);
    let (md, nd) = (full_a[nb..nb + m.len()].to_vec(), full_b[nb + sum.len()..].to_vec());
    let va = cx.reshape(va, &[&wide[..], &[count(&md), count(&sums)]].concat())?;
    let vb = cx.reshape(vb, &[&wide[..], &[count(&sums), count(&nd)]].concat())?;
    let y = cx.matmul(va, vb)?;
    let y = cx.reshape(y, &[&wide[..], &md, &nd].concat())?;
    Ok((y, [batch, m, n].concat()))
}
