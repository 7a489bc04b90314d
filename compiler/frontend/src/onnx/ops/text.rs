//! Operators on strings: those that make strings of strings work on what is known at import; counting and encoding work on places in
//! the vocabulary, and so on numbers too and at run time.

use super::{Import, Row, one};
use crate::onnx::context::{Context, R, V, attrs};
use crate::onnx::frame::Slot;
use tahoma_core::{DType, OpError, Tensor, Text};

pub(super) static ROWS: &[Row] = &[
    Row::new("StringConcat", 20, Import::Slots(concat)),
    Row::new("StringSplit", 20, Import::Slots(split)),
    Row::new("StringNormalizer", 10, Import::Slots(normalise)),
    one("RegexFullMatch", 20, full_match),
    one("TfIdfVectorizer", 9, tf_idf),
    Row::new("LabelEncoder", 1, Import::Slots(label_classes)).of("ai.onnx.ml"),
    Row::new("LabelEncoder", 2, Import::Slots(label_encoder)).of("ai.onnx.ml"),
];

/// Most strings that one operator makes.
const MOST: usize = 1 << 20;

/// Pairs of two texts, broadcast against each other.
fn concat(cx: &mut Context) -> R<Vec<Slot>> {
    let (a, b) = (cx.need_text(0)?, cx.need_text(1)?);
    let rank = a.shape.len().max(b.shape.len());
    let extent = |t: &Text, i: usize| (i + t.shape.len()).checked_sub(rank).map_or(1, |k| t.shape[k]);
    let mut shape = vec![];
    for i in 0..rank {
        shape.push(match (extent(&a, i), extent(&b, i)) {
            (m, n) if m == n || n == 1 => m,
            (1, n) => n,
            _ => return Err(OpError::shape(format!("{:?} and {:?} do not broadcast", a.shape, b.shape))),
        });
    }
    let count = bounded(shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)))?;
    let place = |t: &Text, flat: usize| {
        let (mut rest, mut at, mut step) = (flat, 0, 1);
        for i in (0..rank).rev() {
            let here = rest % shape[i];
            rest /= shape[i];
            if extent(t, i) > 1 {
                at += here * step;
            }
            step *= extent(t, i);
        }
        at
    };
    let words = (0..count).map(|i| format!("{}{}", a.words[place(&a, i)], b.words[place(&b, i)])).collect();
    Ok(vec![cx.words(&shape, words)?])
}

fn bounded(n: Option<usize>) -> R<usize> {
    n.filter(|&n| n <= MOST).ok_or_else(|| OpError::new("E0107", format!("asks for more than {MOST} strings")))
}

/// Parts of each string along a new last axis, filled up with "", and how many there are.
fn split(cx: &mut Context) -> R<Vec<Slot>> {
    let x = cx.need_text(0)?;
    let delimiter = cx.attrs.str("delimiter").unwrap_or_default();
    let most = cx.attrs.int("maxsplit").and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
    let cut = |s: &str| -> Vec<String> {
        if delimiter.is_empty() {
            let mut parts = vec![];
            let mut rest = s.trim_start();
            while !rest.is_empty() {
                let (part, after) = match rest.find(char::is_whitespace).filter(|_| parts.len() < most) {
                    Some(i) => rest.split_at(i),
                    // What follows the last split keeps its inner space, but not the space at its end.
                    None => (rest.trim_end(), ""),
                };
                parts.push(part.to_string());
                rest = after.trim_start();
            }
            return parts;
        }
        s.splitn(most.saturating_add(1), delimiter).map(str::to_string).collect()
    };
    let parts: Vec<Vec<String>> = x.words.iter().map(|w| cut(w)).collect();
    let width = parts.iter().map(Vec::len).max().unwrap_or(0);
    bounded(parts.len().checked_mul(width))?;
    let counts = parts.iter().map(|p| p.len() as i64).collect();
    let counts = cx.constant(Tensor::i64(&x.shape, counts));
    let words = parts.into_iter().flat_map(|p| p.into_iter().chain(std::iter::repeat(String::new())).take(width)).collect();
    let shape = [&x.shape[..], &[width]].concat();
    Ok(vec![cx.words(&shape, words)?, Slot::Value(counts)])
}

/// Stop words out, then the case changed; nothing left is one empty string.
fn normalise(cx: &mut Context) -> R<Vec<Slot>> {
    let x = cx.need_text(0)?;
    let rows = match x.shape[..] {
        [_] => false,
        [1, _] => true,
        _ => return Err(OpError::shape(format!("needs [C] or [1, C], got {:?}", x.shape)).mark(0, "must be one row")),
    };
    let sensitive = cx.attrs.int("is_case_sensitive").unwrap_or(0) != 0;
    let stop = cx.attrs.strs("stopwords").unwrap_or_default();
    let same = |a: &str, b: &str| if sensitive { a == b } else { a.to_lowercase() == b.to_lowercase() };
    let changed = |w: &String| match cx.attrs.str("case_change_action").unwrap_or("NONE") {
        "LOWER" => Ok(w.to_lowercase()),
        "UPPER" => Ok(w.to_uppercase()),
        "NONE" => Ok(w.clone()),
        other => Err(OpError::attr(format!("case_change_action cannot be {other:?}"))),
    };
    let mut words: Vec<String> = x.words.iter().filter(|w| !stop.iter().any(|s| same(s, w))).map(changed).collect::<R<_>>()?;
    if words.is_empty() {
        words.push(String::new());
    }
    let shape = if rows { vec![1, words.len()] } else { vec![words.len()] };
    Ok(vec![cx.words(&shape, words)?])
}

/// Whether all of a string matches. ONNX asks for RE2's syntax, which is the regex crate's but for a few class names.
fn full_match(cx: &mut Context) -> R<V> {
    let x = cx.need_text(0)?;
    let pattern = cx.attrs.str("pattern").unwrap_or_default();
    let regex = regex::Regex::new(&format!(r"\A(?:{pattern})\z"))
        .map_err(|why| OpError::attr(format!("pattern {pattern:?} is no regular expression: {why}")))?;
    let hits = x.words.iter().map(|w| regex.is_match(w)).collect();
    Ok(cx.constant(Tensor::bool(&x.shape, hits)))
}

/// Integers and strings alike as i64.
pub(super) fn tokens(cx: &mut Context, i: usize) -> R<V> {
    match cx.text(i) {
        Ok(v) => Ok(v),
        Err(_) => {
            let v = cx.input(i)?;
            cx.cast(v, DType::I64)
        }
    }
}

/// How often each n-gram of a pool stands in each row, with gaps of up to `max_skip_count` between its parts.
fn tf_idf(cx: &mut Context) -> R<V> {
    let x = tokens(cx, 0)?;
    let need = |name: &str| cx.attrs.ints(name).map(<[i64]>::to_vec).ok_or_else(|| OpError::attr(format!("needs {name}")));
    let (counts, indexes) = (need("ngram_counts")?, need("ngram_indexes")?);
    let size = |name: &str| {
        let n = cx.attrs.int(name).ok_or_else(|| OpError::attr(format!("needs {name}")))?;
        usize::try_from(n).ok().filter(|n| *n <= 4096).ok_or_else(|| OpError::attr(format!("{name} cannot be {n}")))
    };
    let (least, most, skips) = (size("min_gram_length")?.max(1), size("max_gram_length")?, size("max_skip_count")?);
    let mode = cx.attrs.str("mode").unwrap_or("TF");
    let (weighted, clipped) = match mode {
        "TF" => (false, false),
        "IDF" => (true, true),
        "TFIDF" => (true, false),
        other => return Err(OpError::attr(format!("mode cannot be {other:?}"))),
    };
    let pool: Vec<i64> = match (cx.attrs.ints("pool_int64s"), cx.attrs.strs("pool_strings")) {
        (Some(p), None) => p.to_vec(),
        (None, Some(p)) => p.into_iter().map(|w| cx.imp.words.place(w)).collect(),
        _ => return Err(OpError::attr("needs one of pool_int64s and pool_strings")),
    };
    let dims = cx.dims(x)?;
    let (rows, width) = match dims[..] {
        [w] => (1, w),
        [r, w] => (r, w),
        _ => return Err(OpError::shape(format!("needs rank 1 or 2, got {dims:?}")).mark(0, "must be rows of tokens")),
    };
    let x = cx.reshape(x, &[rows, width])?;
    let columns = indexes.iter().max().map_or(0, |m| m.saturating_add(1));
    let columns = usize::try_from(columns).ok().filter(|n| *n <= MOST).ok_or_else(|| OpError::attr("ngram_indexes are out of range"))?;
    let total = cx.full(0.0, DType::F32, &[rows, columns])?;
    let mut parts = vec![];
    // Grams of length n are the pool from counts[n - 1] up to counts[n].
    let mut first = 0;
    for (n, &start) in (1..).zip(&counts) {
        let end = counts.get(n).copied().unwrap_or(pool.len() as i64);
        let grams = usize::try_from(start).ok().zip(usize::try_from(end).ok()).and_then(|(a, b)| pool.get(a..b));
        let grams = grams.filter(|g| g.len().is_multiple_of(n));
        let grams = grams.ok_or_else(|| OpError::attr(format!("ngram_counts {counts:?} do not cut the pool into grams")))?;
        let places = indexes.get(first..first + grams.len() / n).ok_or_else(|| OpError::attr("ngram_indexes are too few"))?;
        first += places.len();
        if n < least || n > most || grams.is_empty() {
            continue;
        }
        let found = count_grams(cx, x, rows, width, grams, n, if n == 1 { 0 } else { skips })?;
        parts.push((found, places.to_vec()));
    }
    // Each gram's count to its column.
    let mut y = total;
    for (found, places) in parts {
        let mut hot = vec![0f32; places.len() * columns];
        for (g, p) in places.iter().enumerate() {
            let p = usize::try_from(*p).map_err(|_| OpError::attr("ngram_indexes are out of range"))?;
            hot[g * columns + p] = 1.0;
        }
        let hot = cx.constant(Tensor::f32(&[places.len(), columns], hot));
        let here = cx.matmul(found, hot)?;
        y = cx.add(y, here)?;
    }
    if clipped {
        let one = cx.like(1.0, y)?;
        y = cx.f("min", &[y, one])?;
    }
    if let Some(w) = cx.attrs.floats("weights").filter(|_| weighted) {
        // One weight for each gram, in the pool's order.
        let mut by_column = vec![1f32; columns];
        for (w, p) in w.iter().zip(&indexes) {
            if let Some(c) = usize::try_from(*p).ok().and_then(|p| by_column.get_mut(p)) {
                *c = *w;
            }
        }
        let w = cx.constant(Tensor::f32(&[columns], by_column));
        y = cx.mul(y, w)?;
    }
    if dims.len() == 1 { cx.reshape(y, &[columns]) } else { Ok(y) }
}

/// `[rows, grams]`: at how many places, with each gap from 0 to `skips` between its parts, a gram stands.
fn count_grams(cx: &mut Context, x: V, rows: usize, width: usize, grams: &[i64], n: usize, skips: usize) -> R<V> {
    let many = grams.len() / n;
    let mut total = cx.full(0.0, DType::F32, &[rows, many])?;
    for skip in 0..=skips {
        let span = (n - 1) * (skip + 1) + 1;
        if span > width {
            break;
        }
        let places = width - span + 1;
        let mut all: Option<V> = None;
        for k in 0..n {
            let here = cx.slice(x, 1, k * (skip + 1), places)?;
            let here = cx.reshape(here, &[rows, places, 1])?;
            let want = cx.constant(Tensor::i64(&[1, 1, many], (0..many).map(|g| grams[g * n + k]).collect()));
            let hit = cx.f("eq", &[here, want])?;
            all = Some(match all {
                Some(a) => cx.f("and", &[a, hit])?,
                None => hit,
            });
        }
        let Some(hits) = all else { break };
        let hits = cx.cast(hits, DType::F32)?;
        let found = cx.reduce("reduce_sum", hits, &[1], false)?;
        total = cx.add(total, found)?;
    }
    Ok(total)
}

/// LabelEncoder-1: classes by their number, or numbers by their class.
fn label_classes(cx: &mut Context) -> R<Vec<Slot>> {
    let classes: Vec<String> = cx.attrs.strs("classes_strings").unwrap_or_default().into_iter().map(str::to_string).collect();
    let places: Vec<i64> = classes.iter().map(|w| cx.imp.words.place(w)).collect();
    let n = places.len();
    let (words, numbers) = (cx.constant(Tensor::i64(&[n], places)), cx.iota(n)?);
    if let Ok(x) = cx.text(0) {
        let default = cx.int(cx.attrs.int("default_int64").unwrap_or(-1));
        return Ok(vec![Slot::Value(look_up(cx, x, words, numbers, default)?)]);
    }
    let default = cx.imp.words.place(cx.attrs.str("default_string").unwrap_or("_Unused"));
    let (x, default) = (cx.input(0)?, cx.int(default));
    Ok(vec![Slot::Text(look_up(cx, x, numbers, words, default)?)])
}

/// One side of a LabelEncoder's table: its values as a tensor of one axis, and whether they are text.
fn side(cx: &mut Context, what: &str) -> R<Option<(V, bool)>> {
    if let Some(w) = cx.attrs.strs(&format!("{what}_strings")) {
        let places: Vec<i64> = w.into_iter().map(|w| cx.imp.words.place(w)).collect();
        return Ok(Some((cx.constant(Tensor::i64(&[places.len()], places)), true)));
    }
    if let Some(v) = cx.attrs.ints(&format!("{what}_int64s")) {
        return Ok(Some((cx.ints(v), false)));
    }
    if let Some(v) = cx.attrs.floats(&format!("{what}_floats")) {
        return Ok(Some((cx.constant(Tensor::f32(&[v.len()], v.to_vec())), false)));
    }
    tensor(cx, &format!("{what}_tensor"))
}

/// A tensor attribute, and whether it is text.
fn tensor(cx: &mut Context, name: &str) -> R<Option<(V, bool)>> {
    let Some(t) = cx.attrs.tensor(name) else { return Ok(None) };
    match cx.imp.tensor(t, name).map_err(super::generate::as_op_error)? {
        Slot::Value(v) => Ok(Some((v, false))),
        Slot::Text(v) => Ok(Some((v, true))),
        _ => Err(OpError::attr(format!("{name} is no tensor"))),
    }
}

/// LabelEncoder from version 2 on: a value for each key, else the default.
fn label_encoder(cx: &mut Context) -> R<Vec<Slot>> {
    let missing = || OpError::attr("needs keys_* and values_*");
    let (keys, text_in) = side(cx, "keys")?.ok_or_else(missing)?;
    let (values, text_out) = side(cx, "values")?.ok_or_else(missing)?;
    let x = if text_in { cx.text(0)? } else { cx.input(0)? };
    if !text_in && cx.dtype(x) != cx.dtype(keys) {
        return Err(OpError::dtype(format!("looks {} up among keys of {}", cx.ty(x), cx.ty(keys))));
    }
    let default = match tensor(cx, "default_tensor")? {
        Some((d, _)) => cx.reshape(d, &[])?,
        None if text_out => {
            let place = cx.imp.words.place(cx.attrs.str("default_string").unwrap_or("_Unused"));
            cx.int(place)
        }
        None if cx.dtype(values).is_float() => cx.like(cx.attrs.float("default_float").unwrap_or(-0.0), values)?,
        None => cx.like(cx.attrs.int("default_int64").unwrap_or(-1) as f64, values)?,
    };
    let y = look_up(cx, x, keys, values, default)?;
    Ok(vec![if text_out { Slot::Text(y) } else { Slot::Value(y) }])
}

/// The value beside the first key that an element equals (NaN equals NaN), else the default.
pub(super) fn look_up(cx: &mut Context, x: V, keys: V, values: V, default: V) -> R<V> {
    let (n, m) = (cx.dim(keys, 0)?, cx.dim(values, 0)?);
    if n != m || n == 0 {
        return Err(OpError::attr(format!("{n} keys and {m} values make no table")));
    }
    let rank = cx.rank(x);
    let wide = cx.unsqueeze(x, rank)?;
    let mut hit = cx.f("eq", &[wide, keys])?;
    if cx.dtype(x).is_float() {
        let (a, b) = (cx.f("is_nan", &[wide])?, cx.f("is_nan", &[keys])?);
        let both = cx.f("and", &[a, b])?;
        hit = cx.f("or", &[hit, both])?;
    }
    let hit = cx.cast(hit, DType::U8)?;
    let any = cx.reduce("reduce_max", hit, &[rank], false)?;
    let any = cx.cast(any, DType::Bool)?;
    let first = cx.op("argmax", &[hit], attrs! {"axis": rank as i64, "keepdims": false, "last": false})?;
    let found = cx.op("gather", &[values, first], attrs! {"axis": 0i64})?;
    cx.f("select", &[any, found, default])
}
