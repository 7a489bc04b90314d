//! What the classifiers and regressors of `ai.onnx.ml` share: rows of features, scores and their transforms, labels. Where the
//! standard is silent (one score for two classes), the meaning is ONNX Runtime's.

use crate::onnx::context::{Context, R, V, attrs};
use crate::onnx::frame::Slot;
use tahoma_core::{DType, OpError, Tensor};

/// `post_transform`.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Transform {
    None,
    Softmax,
    Logistic,
    SoftmaxZero,
    Probit,
}

impl Transform {
    /// By the name in the attribute `post_transform`.
    pub(super) fn of(cx: &Context) -> R<Transform> {
        Ok(match cx.attrs.str("post_transform").unwrap_or("NONE") {
            "NONE" => Transform::None,
            "SOFTMAX" => Transform::Softmax,
            "LOGISTIC" => Transform::Logistic,
            "SOFTMAX_ZERO" => Transform::SoftmaxZero,
            "PROBIT" => Transform::Probit,
            other => return Err(OpError::attr(format!("post_transform cannot be {other:?}"))),
        })
    }
    /// By the number that TreeEnsemble has for it.
    pub(super) fn numbered(n: i64) -> R<Transform> {
        let all = [Transform::None, Transform::Softmax, Transform::Logistic, Transform::SoftmaxZero, Transform::Probit];
        usize::try_from(n).ok().and_then(|n| all.get(n).copied()).ok_or_else(|| OpError::attr(format!("post_transform cannot be {n}")))
    }
    /// Of scores `[rows, classes]`.
    pub(super) fn apply(self, cx: &mut Context, y: V) -> R<V> {
        match self {
            Transform::None => Ok(y),
            Transform::Softmax => cx.op("softmax", &[y], attrs! {"axis": 1i64}),
            Transform::Logistic => cx.f("sigmoid", &[y]),
            Transform::SoftmaxZero => softmax_zero(cx, y),
            Transform::Probit => probit(cx, y),
        }
    }
    /// Of scores `[rows, n]` of a regressor: as ONNX Runtime has it, a single one is transformed by PROBIT only.
    pub(super) fn apply_to(self, cx: &mut Context, y: V, n: usize) -> R<V> {
        if n == 1 && self != Transform::Probit { Ok(y) } else { self.apply(cx, y) }
    }
    /// The scores `[rows, 2]` of two classes of which only the second has one, `[rows, 1]`: the first gets what is missing to 1, or
    /// the opposite.
    pub(super) fn apply_to_one(self, cx: &mut Context, s: V, to_one: bool) -> R<V> {
        if self == Transform::Probit {
            return Err(cx.unsupported("post_transform PROBIT of one score for two classes"));
        }
        if self == Transform::Logistic {
            let minus = cx.f("neg", &[s])?;
            let both = cx.concat(&[minus, s], 1)?;
            return cx.f("sigmoid", &[both]);
        }
        let other = if to_one {
            let one = cx.like(1.0, s)?;
            cx.sub(one, s)?
        } else {
            cx.f("neg", &[s])?
        };
        cx.concat(&[other, s], 1)
    }
}

/// A softmax in which scores of about 0 stay 0.
fn softmax_zero(cx: &mut Context, y: V) -> R<V> {
    let most = cx.reduce("reduce_max", y, &[1], true)?;
    let apart = cx.sub(y, most)?;
    let e = cx.f("exp", &[apart])?;
    let size = cx.f("abs", &[y])?;
    let (tiny, zero) = (cx.like(1e-7, y)?, cx.like(0.0, y)?);
    let counts = cx.f("gt", &[size, tiny])?;
    let counted = cx.f("select", &[counts, e, zero])?;
    let sum = cx.reduce("reduce_sum", counted, &[1], true)?;
    let scale = cx.f("neg", &[most])?;
    let scale = cx.f("exp", &[scale])?;
    let small = cx.mul(y, scale)?;
    let y = cx.f("select", &[counts, e, small])?;
    cx.div(y, sum)
}

/// √2 · erf⁻¹(2y − 1), by Winitzki's approximation with the constants ONNX Runtime has.
#[expect(clippy::approx_constant, reason = "the digits of π that the reference has")]
fn probit(cx: &mut Context, y: V) -> R<V> {
    let one = cx.like(1.0, y)?;
    let x = cx.scale(y, 2.0)?;
    let x = cx.sub(x, one)?;
    let (less, more) = (cx.sub(one, x)?, cx.add(one, x)?);
    let product = cx.mul(less, more)?;
    let log = cx.f("log", &[product])?;
    let half = cx.scale(log, 0.5)?;
    let a = cx.like(2.0 / (3.14159 * 0.147), y)?;
    let v = cx.add(a, half)?;
    let w = cx.scale(log, 1.0 / 0.147)?;
    let square = cx.mul(v, v)?;
    let root = cx.sub(square, w)?;
    let root = cx.f("sqrt", &[root])?;
    let root = cx.sub(root, v)?;
    let root = cx.f("sqrt", &[root])?;
    let zero = cx.like(0.0, y)?;
    let below = cx.f("lt", &[x, zero])?;
    let minus = cx.f("neg", &[root])?;
    let signed = cx.f("select", &[below, minus, root])?;
    cx.scale(signed, std::f64::consts::SQRT_2)
}

/// Operand 0 as rows of features, a single row where it has one axis, and how many features.
pub(super) fn rows(cx: &mut Context) -> R<(V, usize)> {
    let x = cx.input(0)?;
    let x = match cx.rank(x) {
        1 => cx.unsqueeze(x, 0)?,
        2 => x,
        r => return Err(OpError::shape(format!("needs [rows, features] or [features], got rank {r}")).mark(0, "must have rank 1 or 2")),
    };
    let features = cx.dim(x, 1)?;
    Ok((x, features))
}

/// The same as f32.
pub(super) fn rows_f32(cx: &mut Context) -> R<(V, usize)> {
    let (x, features) = rows(cx)?;
    Ok((cx.cast(x, DType::F32)?, features))
}

/// A list attribute of floats, empty where it is left out.
pub(super) fn floats(cx: &Context, name: &str) -> Vec<f32> {
    cx.attrs.floats(name).unwrap_or_default().to_vec()
}

/// `x · coefficientsᵀ`, `[rows, n]`, from `[rows, features]` and coefficients `[n, features]`.
pub(super) fn products(cx: &mut Context, x: V, features: usize, coefficients: &[f32], n: usize) -> R<V> {
    if n == 0 || Some(coefficients.len()) != n.checked_mul(features) {
        let e = OpError::attr(format!("{} coefficients are not {n} for each of {features} features", coefficients.len()));
        return Err(e.mark(0, format!("has {features} features")));
    }
    let mut turned = vec![0f32; coefficients.len()];
    for (i, c) in coefficients.iter().enumerate() {
        turned[i % features * n + i / features] = *c;
    }
    let w = cx.constant(Tensor::f32(&[features, n], turned));
    cx.matmul(x, w)
}

/// The classes of a classifier, by number or by name.
pub(super) struct Labels {
    values: Vec<i64>,
    text: bool,
}

impl Labels {
    /// From the attributes of these names, of which one must be given.
    pub(super) fn of(cx: &mut Context, ints: &str, strings: &str) -> R<Labels> {
        let given = cx.attrs.strs(strings).filter(|w| !w.is_empty());
        let text = given.is_some();
        let values: Vec<i64> = match (given, cx.attrs.ints(ints)) {
            (Some(w), _) => w.into_iter().map(|w| cx.imp.words.place(w)).collect(),
            (None, Some(v)) => v.to_vec(),
            (None, None) => vec![],
        };
        if values.is_empty() {
            return Err(OpError::attr(format!("needs {ints} or {strings}")));
        }
        Ok(Labels { values, text })
    }
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }
    /// The labels at these places.
    pub(super) fn at(&self, cx: &mut Context, places: V) -> R<Slot> {
        let all = cx.ints(&self.values);
        let y = cx.op("gather", &[all, places], attrs! {"axis": 0i64})?;
        Ok(if self.text { Slot::Text(y) } else { Slot::Value(y) })
    }
    /// The label of the highest score of each row, the first of equal ones.
    pub(super) fn best(&self, cx: &mut Context, scores: V) -> R<Slot> {
        let best = highest(cx, scores)?;
        self.at(cx, best)
    }
    /// The second label where a condition `[rows, 1]` holds, else the first.
    pub(super) fn second_where(&self, cx: &mut Context, condition: V) -> R<Slot> {
        let place = cx.cast(condition, DType::I64)?;
        let place = cx.squeeze(place, &[1])?;
        self.at(cx, place)
    }
}

/// The place of the highest score of each row, the first of equal ones.
pub(super) fn highest(cx: &mut Context, scores: V) -> R<V> {
    cx.op("argmax", &[scores], attrs! {"axis": 1i64, "keepdims": false, "last": false})
}

/// Whether `v > x`.
pub(super) fn above(cx: &mut Context, v: V, x: f64) -> R<V> {
    let x = cx.like(x, v)?;
    cx.f("gt", &[v, x])
}
