//! Random numbers, drawn when a model is imported: a compiled model gives the same answer each time it runs.
//!
//! The generator is MT19937 (Matsumoto and Nishimura 1998) seeded with one 32-bit word, its doubles made of 27 and 26 bits and its
//! normal ones by the polar method: what NumPy's `RandomState` and so ONNX's reference evaluator give for a seed. A node without a
//! seed has its number among the random nodes of the model as seed.

use super::{Row, many, one};
use crate::onnx::context::{Context, R, V, attrs};
use crate::onnx::frame::Slot;
use crate::tensor_proto::RawTensor;
use prost::bytes::Bytes;
use rand_mt::Mt;
use tahoma_core::{DType, OpError};

pub(super) static ROWS: &[Row] = &[
    one("RandomUniform", 1, uniform),
    one("RandomUniformLike", 1, uniform),
    one("RandomNormal", 1, normal),
    one("RandomNormalLike", 1, normal),
    one("Bernoulli", 15, bernoulli),
    one("Multinomial", 7, multinomial),
    many("Dropout", 1, dropout),
];

/// Most numbers that one node draws.
const MOST: usize = 1 << 26;

struct Draw {
    bits: Mt,
    /// The polar method makes two at a time.
    kept: Option<f64>,
}

impl Draw {
    fn new(seed: u32) -> Draw {
        Draw { bits: Mt::new(seed), kept: None }
    }
    /// From 0 up to 1, of 53 bits.
    fn uniform(&mut self) -> f64 {
        let (a, b) = (self.bits.next_u32() >> 5, self.bits.next_u32() >> 6);
        (a as f64 * 67_108_864.0 + b as f64) / 9_007_199_254_740_992.0
    }
    fn normal(&mut self) -> f64 {
        if let Some(x) = self.kept.take() {
            return x;
        }
        loop {
            let (x, y) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let r = x * x + y * y;
            if r < 1.0 && r != 0.0 {
                let f = (-2.0 * r.ln() / r).sqrt();
                self.kept = Some(f * x);
                return f * y;
            }
        }
    }
}

/// The node's generator.
fn draw(cx: &mut Context) -> R<Draw> {
    let given = match cx.schema.name {
        "Dropout" => cx.attrs.int("seed").map(|s| s as f64),
        _ => cx.attrs.float("seed"),
    };
    match given {
        Some(s) if s >= 0.0 && s <= u32::MAX as f64 => Ok(Draw::new(s as u32)),
        Some(s) => Err(OpError::attr(format!("seed {s} is not from 0 to 2^32 - 1"))),
        None => Ok(Draw::new(cx.imp.next_random())),
    }
}

/// Numbers of one `draw` each, as a tensor.
fn drawn(cx: &mut Context, dims: &[usize], next: &mut dyn FnMut() -> f64) -> R<V> {
    let count = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= MOST);
    let count = count.ok_or_else(|| OpError::new("E0107", format!("asks for {dims:?} random numbers, more than {MOST}")))?;
    let bytes = Bytes::from((0..count).flat_map(|_| next().to_le_bytes()).collect::<Vec<u8>>());
    match cx.imp.raw_value(RawTensor { dtype: DType::F64, dims: dims.to_vec(), bytes: bytes.into() }, "random") {
        Ok(Slot::Value(v)) => Ok(v),
        _ => Err(OpError::new("E0901", "random numbers could not be kept")),
    }
}

/// Extents and number type of the result: of the attributes, else of the operand.
fn form(cx: &mut Context) -> R<(Vec<usize>, DType)> {
    let code = cx.attrs.int("dtype").map(super::math::type_code).transpose()?;
    if let Some(shape) = cx.attrs.ints("shape") {
        let dims: Option<Vec<usize>> = shape.iter().map(|&d| usize::try_from(d).ok()).collect();
        return Ok((dims.ok_or_else(|| OpError::attr(format!("shape cannot be {shape:?}")))?, code.unwrap_or(DType::F32)));
    }
    let x = cx.input(0)?;
    Ok((cx.dims(x)?, code.unwrap_or(cx.dtype(x))))
}

fn uniform(cx: &mut Context) -> R<V> {
    let (dims, dtype) = form(cx)?;
    let (low, high) = (cx.attrs.float("low").unwrap_or(0.0), cx.attrs.float("high").unwrap_or(1.0));
    let mut d = draw(cx)?;
    let v = drawn(cx, &dims, &mut || low + (high - low) * d.uniform())?;
    cx.cast(v, dtype)
}

fn normal(cx: &mut Context) -> R<V> {
    let (dims, dtype) = form(cx)?;
    let (mean, scale) = (cx.attrs.float("mean").unwrap_or(0.0), cx.attrs.float("scale").unwrap_or(1.0));
    let mut d = draw(cx)?;
    let v = drawn(cx, &dims, &mut || mean + scale * d.normal())?;
    cx.cast(v, dtype)
}

/// One with the probability that the operand says, by ONNX's function: a uniform number below it.
fn bernoulli(cx: &mut Context) -> R<V> {
    let (dims, dtype) = form(cx)?;
    let p = cx.input(0)?;
    let p = cx.cast(p, DType::F64)?;
    let mut d = draw(cx)?;
    let u = drawn(cx, &dims, &mut || d.uniform())?;
    let hit = cx.f("lt", &[u, p])?;
    cx.cast(hit, dtype)
}

/// Classes by their unnormalised log probabilities: the first whose running sum passes a uniform number.
fn multinomial(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let [rows, classes] = cx.dims(x)?[..] else { return Err(OpError::shape("needs [batch, classes]").mark(0, "must have rank 2")) };
    let count = usize::try_from(cx.attrs.int("sample_size").unwrap_or(1)).map_err(|_| OpError::attr("sample_size is negative"))?;
    let dtype = super::math::type_code(cx.attrs.int("dtype").unwrap_or(6))?;
    let x = cx.cast(x, DType::F64)?;
    let p = cx.op("softmax", &[x], attrs! {"axis": 1i64})?;
    let sums = cx.op("cumsum", &[p], attrs! {"axis": 1i64, "exclusive": false, "reverse": false})?;
    let sums = cx.reshape(sums, &[rows, 1, classes])?;
    let mut d = draw(cx)?;
    let u = drawn(cx, &[rows, count, 1], &mut || d.uniform())?;
    let below = cx.f("le", &[sums, u])?;
    let below = cx.cast(below, DType::I64)?;
    let class = cx.reduce("reduce_sum", below, &[2], false)?;
    // Rounding may leave the last sum a little below one.
    let last = cx.int(classes as i64 - 1);
    let class = cx.f("min", &[class, last])?;
    cx.cast(class, dtype)
}

/// Inference is the identity and the mask all true; in training each element is dropped with probability `ratio`.
fn dropout(cx: &mut Context) -> R<Vec<V>> {
    let x = cx.input(0)?;
    let training = match cx.try_opt(2)? {
        None => false,
        Some(v) => cx.constant_of(v).and_then(|t| t.first_bool()).ok_or_else(|| cx.not_constant(2))?,
    };
    let ratio = match cx.try_opt(1)? {
        Some(v) => cx.floats_of(v).and_then(|r| r.first().copied()),
        None => Some(0.5),
    };
    if !training || ratio == Some(0.0) {
        let mut out = vec![x];
        if cx.wants(1) {
            // Below operator set 10 the mask has the type of the data.
            let dtype = if cx.since() < 10 { cx.dtype(x) } else { DType::Bool };
            let dims = cx.dims(x)?;
            out.push(cx.full(1.0, dtype, &dims)?);
        }
        return Ok(out);
    }
    let ratio = ratio.ok_or_else(|| cx.not_constant(1))?;
    if !(0.0..1.0).contains(&ratio) {
        return Err(OpError::attr(format!("ratio {ratio} is not from 0 up to 1")));
    }
    let dims = cx.dims(x)?;
    let mut d = draw(cx)?;
    let u = drawn(cx, &dims, &mut || d.uniform())?;
    let least = cx.like(ratio, u)?;
    let mask = cx.f("ge", &[u, least])?;
    let zero = cx.like(0.0, x)?;
    let scaled = cx.scale(x, 1.0 / (1.0 - ratio))?;
    Ok(vec![cx.f("select", &[mask, scaled, zero])?, mask])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `numpy.random.RandomState(42)`: `.rand(3)` and `.randn(3)` of a fresh one.
    #[test]
    fn the_numbers_are_numpys() {
        let mut d = Draw::new(42);
        assert_eq!([d.uniform(), d.uniform(), d.uniform()], [UNIFORM[0], UNIFORM[1], UNIFORM[2]]);
        let mut d = Draw::new(42);
        assert_eq!([d.normal(), d.normal(), d.normal()], [NORMAL[0], NORMAL[1], NORMAL[2]]);
    }
    const UNIFORM: [f64; 3] = [0.3745401188473625, 0.9507143064099162, 0.7319939418114051];
    const NORMAL: [f64; 3] = [0.4967141530112327, -0.13826430117118466, 0.6476885381006925];
}
