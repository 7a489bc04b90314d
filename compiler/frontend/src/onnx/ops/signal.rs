//! Windows and Fourier transforms; a transform is products with matrices of sines and cosines.

use super::{Row, one};
use crate::onnx::context::{Context, R, V, attrs};
use crate::onnx::frame::Slot;
use crate::tensor_proto::RawTensor;
use prost::bytes::Bytes;
use std::f64::consts::TAU;
use tahoma_core::{DType, OpError, Tensor};

pub(super) static ROWS: &[Row] = &[
    one("HannWindow", 17, window),
    one("HammingWindow", 17, window),
    one("BlackmanWindow", 17, window),
    one("DFT", 17, dft),
    one("STFT", 17, stft),
    one("MelWeightMatrix", 17, mel),
];

/// A float tensor computed here: inline if small, else a weight in memory.
fn table(cx: &mut Context, dims: &[usize], data: Vec<f32>, name: &str) -> R<V> {
    let bytes = Bytes::from(data.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
    match cx.imp.raw_value(RawTensor { dtype: DType::F32, dims: dims.to_vec(), bytes: bytes.into() }, name) {
        Ok(Slot::Value(v)) => Ok(v),
        _ => Err(OpError::new("E0901", "a table could not be kept")),
    }
}

fn window(cx: &mut Context) -> R<V> {
    let size = cx.need_ints(0)?.first().copied().unwrap_or(0);
    if !(0..1 << 24).contains(&size) {
        return Err(OpError::attr(format!("size cannot be {size}")));
    }
    let periodic = cx.attrs.int("periodic").unwrap_or(1) != 0;
    let to = super::math::type_code(cx.attrs.int("output_datatype").unwrap_or(1))?;
    let n = if periodic { size } else { size - 1 } as f64;
    let terms: [f64; 3] = match cx.schema.name {
        "HannWindow" => [0.5, 0.5, 0.0],
        "HammingWindow" => [25.0 / 46.0, 21.0 / 46.0, 0.0],
        _ => [0.42, 0.5, 0.08],
    };
    let data: Vec<f64> =
        (0..size).map(|i| terms[0] - terms[1] * (TAU * i as f64 / n).cos() + terms[2] * (2.0 * TAU * i as f64 / n).cos()).collect();
    if to == DType::F64 {
        return Ok(cx.constant(Tensor::new(DType::F64, &[size as usize], tahoma_core::Buffer::F64(data))));
    }
    let v = table(cx, &[size as usize], data.into_iter().map(|x| x as f32).collect(), "window")?;
    cx.cast(v, to)
}

/// Longest transform, and longest that is one matrix: a prime length, or a real result.
const MAX_LENGTH: usize = 1 << 20;
const MAX_MATRIX: usize = 4096;

/// cos and sin of `sign · 2π · k / n`; `k` is reduced first, so that long tables stay exact.
fn turn(k: usize, n: usize, sign: f64) -> (f64, f64) {
    let (s, c) = (sign * TAU * (k % n) as f64 / n as f64).sin_cos();
    (c, s)
}

/// Of `n = a · b` the `a` next below the root of `n`; 1 for a prime.
fn split(n: usize) -> usize {
    (2..=n.isqrt()).rev().find(|a| n.is_multiple_of(*a)).unwrap_or(1)
}

/// `x [rows, n, parts]` (parts 1: real, 2: complex) to `[rows, n, 2]`, without the norm. A composite length is two rounds of shorter
/// transforms with a turn between them (Cooley and Tukey 1965): `n² → n(a + b)` products, and matrices that fit a systolic array. Of
/// real numbers the first round costs half, so it takes the larger factor.
fn complex(cx: &mut Context, x: V, sign: f64) -> R<V> {
    let d = cx.dims(x)?;
    let (rows, n, parts) = (d[0], d[1], d[2]);
    let least = split(n);
    if least == 1 {
        let m = matrix(cx, n, parts, n, 2, sign, |_| 1.0)?;
        let flat = cx.reshape(x, &[rows, n * parts])?;
        let y = cx.matmul(flat, m)?;
        return cx.reshape(y, &[rows, n, 2]);
    }
    let (a, b) = if parts == 1 { (n / least, least) } else { (least, n / least) };
    // Element i·b + j, transformed over i; then row k of the result turned by j·k and transformed over j into frequency k + a·l.
    let x = cx.reshape(x, &[rows, a, b, parts])?;
    let x = cx.transpose(x, &[0, 2, 1, 3])?;
    let x = cx.reshape(x, &[rows * b, a, parts])?;
    let y = complex(cx, x, sign)?;
    let y = cx.reshape(y, &[rows, b, a, 2])?;
    let y = cx.transpose(y, &[0, 2, 1, 3])?;
    let dtype = cx.dtype(y);
    let (re, im) = (cx.slice(y, 3, 0, 1)?, cx.slice(y, 3, 1, 1)?);
    let (c, s) = (0..n).map(|i| turn((i / b) * (i % b), n, sign)).map(|(c, s)| (c as f32, s as f32)).unzip();
    let (c, s) = (table(cx, &[a, b, 1], c, "turn")?, table(cx, &[a, b, 1], s, "turn")?);
    let (c, s) = (cx.cast(c, dtype)?, cx.cast(s, dtype)?);
    let (rc, is) = (cx.mul(re, c)?, cx.mul(im, s)?);
    let (rs, ic) = (cx.mul(re, s)?, cx.mul(im, c)?);
    let (re, im) = (cx.sub(rc, is)?, cx.add(rs, ic)?);
    let y = cx.concat(&[re, im], 3)?;
    let y = cx.reshape(y, &[rows * a, b, 2])?;
    let y = complex(cx, y, sign)?;
    let y = cx.reshape(y, &[rows, a, b, 2])?;
    let y = cx.transpose(y, &[0, 2, 1, 3])?;
    cx.reshape(y, &[rows, n, 2])
}

/// The matrix of a transform: rows are the parts of each element, columns the parts of each of `out` frequencies.
fn matrix(cx: &mut Context, used: usize, parts: usize, out: usize, out_parts: usize, sign: f64, weight: impl Fn(usize) -> f64) -> R<V> {
    let length = out.max(used);
    let mut m = vec![0f32; used * parts * out * out_parts];
    for i in 0..used {
        for o in 0..out {
            let (c, s) = turn(i * o, length, sign);
            let at = |p: usize, q: usize| (i * parts + p) * out * out_parts + o * out_parts + q;
            let entries = [[c, s], [-s, c]];
            for (p, q) in (0..parts).flat_map(|p| (0..out_parts).map(move |q| (p, q))) {
                m[at(p, q)] = (entries[p][q] * weight(i)) as f32;
            }
        }
    }
    table(cx, &[used * parts, out * out_parts], m, "dft")
}

/// `x [..., n, r]` with r = 1 (real) or 2 (complex), transformed along the second last axis to `length` points.
fn transform(cx: &mut Context, x: V, length: usize, inverse: bool, onesided: bool) -> R<V> {
    let dims = cx.dims(x)?;
    let rank = dims.len();
    let (n, parts) = (dims[rank - 2], dims[rank - 1]);
    let to_real = inverse && onesided;
    let prime = split(length) == 1 || to_real;
    if length == 0 || length > if prime { MAX_MATRIX } else { MAX_LENGTH } || !(1..=2).contains(&parts) {
        return Err(cx.unsupported(format!("a transform of {length} points of {parts} parts")));
    }
    let used = n.min(length);
    let rows: usize = dims[..rank - 2].iter().product();
    let dtype = cx.dtype(x);
    let x = cx.slice(x, rank - 2, 0, used)?;
    let x = cx.reshape(x, &[rows, used, parts])?;
    let sign = if inverse { 1.0 } else { -1.0 };
    let norm = 1.0 / length as f64;
    if to_real {
        // A one-sided spectrum stands for its mirror image too; the result is real.
        let twice = |i: usize| if i != 0 && 2 * i != length { 2.0 * norm } else { norm };
        let m = matrix(cx, used, parts, length, 1, sign, twice)?;
        let m = cx.cast(m, dtype)?;
        let flat = cx.reshape(x, &[rows, used * parts])?;
        let y = cx.matmul(flat, m)?;
        return cx.reshape(y, &[&dims[..rank - 2], &[length, 1]].concat());
    }
    let x = if used < length { super::shape::pad_constant(cx, x, vec![0; 3], vec![0, (length - used) as i64, 0], 0.0)? } else { x };
    let mut y = complex(cx, x, sign)?;
    if inverse {
        y = cx.scale(y, norm)?;
    }
    let out = if onesided { length / 2 + 1 } else { length };
    y = cx.slice(y, 1, 0, out)?;
    cx.reshape(y, &[&dims[..rank - 2], &[out, 2]].concat())
}

fn dft(cx: &mut Context) -> R<V> {
    let mut x = cx.input(0)?;
    let rank = cx.rank(x);
    let since = cx.since();
    let axis = if since >= 20 {
        match cx.try_opt(2)? {
            Some(_) => cx.need_ints(2)?.first().copied().unwrap_or(-2),
            None => -2,
        }
    } else {
        cx.attrs.int("axis").unwrap_or(1)
    };
    let axis = cx.axis(axis, rank)?;
    if rank < 2 || axis == rank - 1 {
        return Err(OpError::attr("the last axis holds real and imaginary parts and cannot be transformed"));
    }
    let inverse = cx.attrs.int("inverse").unwrap_or(0) != 0;
    let onesided = cx.attrs.int("onesided").unwrap_or(0) != 0;
    let extent = cx.dim(x, axis)?;
    let length = match cx.try_opt(1)? {
        Some(_) => cx.need_ints(1)?.first().copied().and_then(|n| usize::try_from(n).ok()).unwrap_or(0),
        None if inverse && onesided => 2 * (extent.max(1) - 1),
        None => extent,
    };
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(axis, rank - 2);
    x = cx.transpose(x, &perm)?;
    let y = transform(cx, x, length, inverse, onesided)?;
    cx.transpose(y, &perm)
}

/// Frames by a gather, times the window, then one transform.
fn stft(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let step = cx.need_ints(1)?.first().copied().unwrap_or(0);
    let window = cx.try_opt(2)?;
    let dims = cx.dims(x)?;
    let parts = if dims.len() == 3 { dims[2] } else { 1 };
    let x = if dims.len() == 2 { cx.unsqueeze(x, 2)? } else { x };
    let frame = match (cx.try_opt(3)?, window) {
        (Some(_), _) => cx.need_ints(3)?.first().copied().unwrap_or(0),
        (None, Some(w)) => cx.dim(w, 0)? as i64,
        _ => return Err(OpError::attr("needs a window or frame_length")),
    };
    if !(2..=3).contains(&dims.len()) || step < 1 || frame < 1 || frame as usize > dims[1] || dims[1] > 1 << 22 {
        return Err(OpError::shape(format!("cannot cut frames of {frame} by steps of {step} from {}", cx.ty(x))));
    }
    let (step, frame) = (step as usize, frame as usize);
    let count = (dims[1] - frame) / step + 1;
    let index: Vec<i64> = (0..count).flat_map(|i| (0..frame).map(move |j| (i * step + j) as i64)).collect();
    let index = cx.constant(Tensor::i64(&[count, frame], index));
    let mut frames = cx.op("gather", &[x, index], attrs! {"axis": 1i64})?;
    if let Some(w) = window {
        let w = cx.reshape(w, &[frame, 1])?;
        frames = cx.mul(frames, w)?;
    }
    let onesided = cx.attrs.int("onesided").unwrap_or(1) != 0 && parts == 1;
    transform(cx, frames, frame, false, onesided)
}

/// Triangles between mel-spaced frequencies; all operands are known, so the matrix is a table.
fn mel(cx: &mut Context) -> R<V> {
    let v: Vec<f64> = (0..5).map(|i| Ok(cx.need_floats(i)?.first().copied().unwrap_or(0.0))).collect::<R<_>>()?;
    let [bins, length, rate, low, high] = v[..] else { return Err(OpError::new("E0202", "needs 5 operands")) };
    let sound = (1.0..4096.0).contains(&bins) && (1.0..65536.0).contains(&length) && rate > 0.0 && 0.0 <= low && low < high && high < 1e9;
    if !sound {
        return Err(OpError::attr(format!("{bins} bins of {length} points at {rate} Hz from {low} to {high} Hz make no matrix")));
    }
    let (bins, rows) = (bins as usize, length as usize / 2 + 1);
    let mel = |hz: f64| 2595.0 * (1.0 + hz / 700.0).log10();
    let step = (mel(high) - mel(low)) / (bins + 2) as f64;
    let edge = |i: usize| {
        let hz = 700.0 * (10f64.powf((mel(low) + i as f64 * step) / 2595.0) - 1.0);
        (((length + 1.0) * hz / rate).floor().max(0.0) as usize).min(rows)
    };
    let mut m = vec![0f32; rows * bins];
    for i in 0..bins {
        let (a, b, c) = (edge(i), edge(i + 1), edge(i + 2));
        let mut set = |j: usize, x: f64| {
            if j < rows {
                m[j * bins + i] = x as f32;
            }
        };
        if a == b {
            set(b, 1.0);
        }
        (a..=b).filter(|_| b > a).for_each(|j| set(j, (j - a) as f64 / (b - a) as f64));
        (b..c).for_each(|j| set(j, (c - j) as f64 / (c - b) as f64));
    }
    let to = super::math::type_code(cx.attrs.int("output_datatype").unwrap_or(1))?;
    let v = table(cx, &[rows, bins], m, "mel")?;
    cx.cast(v, to)
}
