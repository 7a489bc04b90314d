//! Windows and Fourier transforms; a transform of known length is a product with a matrix of sines and cosines.

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
    match cx.imp.raw_value(RawTensor { dtype: DType::F32, dims: dims.to_vec(), bytes }, name) {
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

/// Longest transform made as a matrix.
const MAX_LENGTH: usize = 4096;

/// `x [..., n, r]` with r = 1 (real) or 2 (complex), transformed along the second last axis.
fn transform(cx: &mut Context, x: V, length: usize, inverse: bool, onesided: bool) -> R<V> {
    let dims = cx.dims(x)?;
    let rank = dims.len();
    let (n, parts) = (dims[rank - 2], dims[rank - 1]);
    if length > MAX_LENGTH || length == 0 || !(1..=2).contains(&parts) {
        return Err(cx.unsupported(format!("a transform of {length} points of {parts} parts")));
    }
    let used = n.min(length);
    let complex_to_real = inverse && onesided;
    let out = if onesided && !inverse { length / 2 + 1 } else { length };
    // Rows: the parts of each element; columns: the parts of each frequency.
    let out_parts = if complex_to_real { 1 } else { 2 };
    let mut m = vec![0f32; used * parts * out * out_parts];
    let (sign, norm) = if inverse { (1.0, 1.0 / length as f64) } else { (-1.0, 1.0) };
    for i in 0..used {
        for o in 0..out {
            let (s, c) = (sign * TAU * ((i * o) % length) as f64 / length as f64).sin_cos();
            // A one-sided spectrum stands for its mirror image too.
            let twice = if complex_to_real && i != 0 && 2 * i != length { 2.0 } else { 1.0 };
            let at = |p: usize, q: usize| (i * parts + p) * out * out_parts + o * out_parts + q;
            m[at(0, 0)] = (c * norm * twice) as f32;
            if out_parts == 2 {
                m[at(0, 1)] = (s * norm * twice) as f32;
            }
            if parts == 2 {
                m[at(1, 0)] = (-s * norm * twice) as f32;
                if out_parts == 2 {
                    m[at(1, 1)] = (c * norm * twice) as f32;
                }
            }
        }
    }
    let dtype = cx.dtype(x);
    let matrix = table(cx, &[used * parts, out * out_parts], m, "dft")?;
    let matrix = cx.cast(matrix, dtype)?;
    let x = cx.slice(x, rank - 2, 0, used)?;
    let flat = cx.reshape(x, &[&dims[..rank - 2], &[used * parts]].concat())?;
    let y = if rank == 2 {
        let row = cx.reshape(flat, &[1, used * parts])?;
        cx.matmul(row, matrix)?
    } else {
        cx.matmul(flat, matrix)?
    };
    cx.reshape(y, &[&dims[..rank - 2], &[out, out_parts]].concat())
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
