//! Preparing features and linear models (`ai.onnx.ml`), as the ops they are made of.

use super::scores::{Labels, Transform, above, floats, products, rows, rows_f32};
use super::text::{look_up, tokens};
use super::{Import, Row, one};
use crate::onnx::context::{Context, R, V};
use crate::onnx::frame::Slot;
use tahoma_core::{DType, OpError, Tensor};

const ML: &str = "ai.onnx.ml";

pub(super) static ROWS: &[Row] = &[
    Row::new("CategoryMapper", 1, Import::Slots(category_mapper)).of(ML),
    one("FeatureVectorizer", 1, feature_vectorizer).of(ML),
    one("Imputer", 1, imputer).of(ML),
    Row::new("LinearClassifier", 1, Import::Slots(linear_classifier)).of(ML),
    one("LinearRegressor", 1, linear_regressor).of(ML),
    one("Normalizer", 1, normalizer).of(ML),
    one("OneHotEncoder", 1, one_hot_encoder).of(ML),
    one("Scaler", 1, scaler).of(ML),
    one("ZipMap", 1, zip_map).of(ML),
];

/// How many features operand 0 has: the extent of axis 1, or of the only one.
fn features(cx: &Context, x: V) -> R<usize> {
    match cx.rank(x) {
        1 => cx.dim(x, 0),
        2 => cx.dim(x, 1),
        r => Err(OpError::shape(format!("needs [rows, features] or [features], got rank {r}")).mark(0, "must have rank 1 or 2")),
    }
}

/// One number for each feature, or one for all.
fn for_each(name: &str, given: usize, features: usize) -> R<()> {
    if given == 1 || given == features && given > 0 {
        return Ok(());
    }
    Err(OpError::attr(format!("{name} has {given} numbers for {features} features")))
}

/// Both lists are as long, which may be 1.
fn scaler(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let features = features(cx, x)?;
    let (offset, scale) = (floats(cx, "offset"), floats(cx, "scale"));
    if offset.len() != scale.len() {
        return Err(OpError::attr(format!("{} offsets and {} scales", offset.len(), scale.len())));
    }
    for_each("scale", scale.len(), features)?;
    // f64 steps in its own digits; the result is f32 in any case.
    let wide = if cx.dtype(x) == DType::F64 { DType::F64 } else { DType::F32 };
    let x = cx.cast(x, wide)?;
    let mut constant = |v: Vec<f32>| {
        let v = cx.constant(Tensor::f32(&[v.len()], v));
        cx.cast(v, wide)
    };
    let (offset, scale) = (constant(offset)?, constant(scale)?);
    let y = cx.sub(x, offset)?;
    let y = cx.mul(y, scale)?;
    cx.cast(y, DType::F32)
}

/// Rows over their largest element, the sum of magnitudes or the root of the sum of squares; a row for which that is 0 stays.
fn normalizer(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let axis = match cx.rank(x) {
        0 => return Err(OpError::shape("needs rows, got a scalar").mark(0, "must have rank 1 or 2")),
        1 => 0,
        _ => 1,
    };
    let x = cx.cast(x, DType::F32)?;
    let size = match cx.attrs.str("norm").unwrap_or("MAX") {
        "MAX" => cx.reduce("reduce_max", x, &[axis], true)?,
        "L1" => {
            let a = cx.f("abs", &[x])?;
            cx.reduce("reduce_sum", a, &[axis], true)?
        }
        "L2" => {
            let a = cx.mul(x, x)?;
            let a = cx.reduce("reduce_sum", a, &[axis], true)?;
            cx.f("sqrt", &[a])?
        }
        other => return Err(OpError::attr(format!("norm cannot be {other:?}"))),
    };
    let (zero, one) = (cx.like(0.0, size)?, cx.like(1.0, size)?);
    let none = cx.f("eq", &[size, zero])?;
    let size = cx.f("select", &[none, one, size])?;
    cx.div(x, size)
}

/// Elements equal to one value (NaN equals NaN) replaced, by feature.
fn imputer(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let features = features(cx, x)?;
    let dtype = cx.dtype(x);
    let (values, replaced) = if dtype.is_float() {
        let v = floats(cx, "imputed_value_floats");
        (cx.constant(Tensor::f32(&[v.len()], v)), cx.like(cx.attrs.float("replaced_value_float").unwrap_or(0.0), x)?)
    } else {
        let v = cx.attrs.ints("imputed_value_int64s").unwrap_or_default().to_vec();
        let replaced = cx.int(cx.attrs.int("replaced_value_int64").unwrap_or(0));
        (cx.ints(&v), cx.cast(replaced, dtype)?)
    };
    for_each(if dtype.is_float() { "imputed_value_floats" } else { "imputed_value_int64s" }, cx.dim(values, 0)?, features)?;
    let values = cx.cast(values, dtype)?;
    let nan = dtype.is_float() && cx.attrs.float("replaced_value_float").is_some_and(f64::is_nan);
    let hit = if nan { cx.f("is_nan", &[x])? } else { cx.f("eq", &[x, replaced])? };
    cx.f("select", &[hit, values, x])
}

/// A new last axis with 1 at the category of each element. An unknown one gives zeros; `zeros = 0`, which asks for an error instead,
/// cannot be kept at run time, and is said when the model is read.
fn one_hot_encoder(cx: &mut Context) -> R<V> {
    let x = tokens(cx, 0)?;
    let cats: Vec<i64> = match (cx.attrs.ints("cats_int64s"), cx.attrs.strs("cats_strings")) {
        (Some(v), None) => v.to_vec(),
        (None, Some(w)) => w.into_iter().map(|w| cx.imp.words.place(w)).collect(),
        _ => return Err(OpError::attr("needs one of cats_int64s and cats_strings")),
    };
    let text = matches!(cx.slots.first(), Some(Some(Slot::Text(_))));
    if text != cx.attrs.strs("cats_strings").is_some() || cats.is_empty() {
        return Err(OpError::attr("the categories are of another kind than the elements, or none"));
    }
    if cx.attrs.int("zeros") == Some(0) {
        cx.imp.warn("E0201", "OneHotEncoder with zeros = 0: a category that is not listed gives zeros and no error");
    }
    let rank = cx.rank(x);
    let x = cx.unsqueeze(x, rank)?;
    let cats = cx.ints(&cats);
    let hit = cx.f("eq", &[x, cats])?;
    cx.cast(hit, DType::F32)
}

/// Columns of all operands side by side, each cut or filled up with zeros to its number of `inputdimensions`.
fn feature_vectorizer(cx: &mut Context) -> R<V> {
    let wanted = cx.attrs.ints("inputdimensions").map(<[i64]>::to_vec);
    if let Some(w) = wanted.as_ref().filter(|w| w.len() != cx.count()) {
        return Err(OpError::attr(format!("{} inputdimensions for {} operands", w.len(), cx.count())));
    }
    let mut parts = vec![];
    for (k, v) in cx.inputs()?.into_iter().enumerate() {
        let v = match cx.rank(v) {
            1 => cx.unsqueeze(v, 0)?,
            2 => v,
            r => return Err(OpError::shape(format!("needs rows of features, got rank {r}")).mark(k, "must have rank 1 or 2")),
        };
        let v = cx.cast(v, DType::F32)?;
        let have = cx.dim(v, 1)?;
        let want = match wanted.as_ref().map(|w| w[k]) {
            None => have,
            Some(n) => usize::try_from(n).map_err(|_| OpError::attr(format!("inputdimensions cannot hold {n}")))?,
        };
        if want == have {
            parts.push(v);
            continue;
        }
        let rows = cx.dim(v, 0)?;
        if want > 0 && have > 0 {
            parts.push(cx.slice(v, 1, 0, want.min(have))?);
        }
        if want > have {
            parts.push(cx.full(0.0, DType::F32, &[rows, want - have])?);
        }
    }
    if parts.is_empty() { Err(OpError::attr("inputdimensions leave no column")) } else { cx.concat(&parts, 1) }
}

/// Strings to numbers, or numbers to strings.
fn category_mapper(cx: &mut Context) -> R<Vec<Slot>> {
    let words = cx.attrs.strs("cats_strings").unwrap_or_default();
    let places: Vec<i64> = words.into_iter().map(|w| cx.imp.words.place(w)).collect();
    let numbers = cx.attrs.ints("cats_int64s").unwrap_or_default().to_vec();
    let (words, numbers) = (cx.ints(&places), cx.ints(&numbers));
    if let Ok(x) = cx.text(0) {
        let default = cx.int(cx.attrs.int("default_int64").unwrap_or(-1));
        return Ok(vec![Slot::Value(look_up(cx, x, words, numbers, default)?)]);
    }
    let x = cx.input(0)?;
    let place = cx.imp.words.place(cx.attrs.str("default_string").unwrap_or("_Unused"));
    let default = cx.int(place);
    Ok(vec![Slot::Text(look_up(cx, x, numbers, words, default)?)])
}

/// Maps from class to score, row by row: here they stay the tensor of scores `[rows, classes]`, and the keys are said when the model
/// is read.
fn zip_map(cx: &mut Context) -> R<V> {
    let (x, classes) = rows(cx)?;
    let keys: Vec<String> = match (cx.attrs.ints("classlabels_int64s"), cx.attrs.strs("classlabels_strings")) {
        (Some(v), None) => v.iter().map(i64::to_string).collect(),
        (None, Some(w)) => w.into_iter().map(|w| format!("{w:?}")).collect(),
        _ => return Err(OpError::attr("needs one of classlabels_int64s and classlabels_strings")),
    };
    if keys.len() != classes {
        return Err(OpError::attr(format!("{} keys for {classes} scores", keys.len())).mark(0, format!("has {classes} columns")));
    }
    let name = cx.node.output.first().cloned().unwrap_or_default();
    let shown = keys.iter().take(20).cloned().collect::<Vec<_>>().join(", ");
    let more = if keys.len() > 20 { ", …" } else { "" };
    cx.imp.warn("E0201", format!("{name:?} of ZipMap is one tensor [rows, {classes}], not maps; its columns have the keys {shown}{more}"));
    Ok(x)
}

/// `x · coefficientsᵀ + intercepts` for each target.
fn linear_regressor(cx: &mut Context) -> R<V> {
    let (x, features) = rows_f32(cx)?;
    let targets = cx.attrs.int("targets").unwrap_or(1);
    let targets = usize::try_from(targets).map_err(|_| OpError::attr(format!("targets cannot be {targets}")))?;
    let y = linear(cx, x, features, targets)?;
    Transform::of(cx)?.apply_to(cx, y, targets)
}

fn linear(cx: &mut Context, x: V, features: usize, n: usize) -> R<V> {
    let y = products(cx, x, features, &floats(cx, "coefficients"), n)?;
    let intercepts = floats(cx, "intercepts");
    if intercepts.is_empty() {
        return Ok(y);
    }
    if intercepts.len() != n {
        return Err(OpError::attr(format!("{} intercepts for {n} scores", intercepts.len())));
    }
    let b = cx.constant(Tensor::f32(&[n], intercepts));
    cx.add(y, b)
}

/// Label and scores. Two classes may share one row of coefficients: the second where its score is above 0.
fn linear_classifier(cx: &mut Context) -> R<Vec<Slot>> {
    let (x, features) = rows_f32(cx)?;
    let labels = Labels::of(cx, "classlabels_ints", "classlabels_strings")?;
    let n = floats(cx, "coefficients").len() / features.max(1);
    let y = linear(cx, x, features, n)?;
    let transform = Transform::of(cx)?;
    if n == 1 && labels.len() == 2 {
        let second = above(cx, y, 0.0)?;
        let label = labels.second_where(cx, second)?;
        return Ok(vec![label, Slot::Value(transform.apply_to_one(cx, y, true)?)]);
    }
    if n != labels.len() {
        return Err(OpError::attr(format!("{n} rows of coefficients for {} classes", labels.len())));
    }
    let label = labels.best(cx, y)?;
    Ok(vec![label, Slot::Value(transform.apply(cx, y)?)])
}
