//! Ops that only ONNX models ask for and no better kind describes: unique, non-maximum suppression, region pooling, determinant.

use super::common::*;
use crate::kernels::order;
use crate::op::*;
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Shape, TensorType};

fn infer_unique(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let x = &a.operands[0];
    let ax = axis(a.attrs, "axis", x.rank())?;
    flag(a.attrs, "sorted")?;
    let n = Dim::sym(&format!("{}.n", a.fresh));
    let mut shape = x.shape.clone();
    let all = std::mem::replace(&mut shape.0[ax], n.clone());
    let line = |d: &Dim| TensorType::new(DType::I64, Shape(vec![d.clone()]));
    Ok(vec![TensorType::new(x.dtype, shape), line(&n), line(&all), line(&n)])
}

fn eval_unique(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let x = &a.operands[0];
    Ok(order::unique(x, axis(a.attrs, "axis", x.rank())?, flag(a.attrs, "sorted")?).to_vec())
}

fn infer_nms(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let (boxes, scores) = (&a.operands[0], &a.operands[1]);
    if boxes.rank() != 3 || scores.rank() != 3 || boxes.shape[2].known().is_some_and(|n| n != 4) {
        return Err(OpError::shape("takes boxes [N, B, 4] and scores [N, C, B]").mark(0, "must be [N, B, 4]"));
    }
    let pairs = [(boxes.shape[0].known(), scores.shape[0].known()), (boxes.shape[1].known(), scores.shape[2].known())];
    if pairs.iter().any(|p| matches!(p, (Some(x), Some(y)) if x != y)) {
        return Err(OpError::shape(format!("boxes {boxes} and scores {scores} do not fit")).mark(1, "must be [N, C, B]"));
    }
    for (i, t) in a.operands.iter().enumerate().skip(2) {
        if t.shape.elements().is_some_and(|n| n != 1) {
            return Err(OpError::shape("takes single numbers").mark(i, "must have one element"));
        }
    }
    Ok(vec![TensorType::new(DType::I64, Shape(vec![Dim::sym(&format!("{}.n", a.fresh)), Dim::Known(3)]))])
}

fn eval_nms(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let centre = flag(a.attrs, "center")?;
    let (boxes, scores) = (a.operands[0].to_f64s(), a.operands[1].to_f64s());
    let one = |i: usize| a.operands[i].to_f64s().first().copied().unwrap_or(0.0);
    let (most, overlap, least) = (one(2), one(3), one(4));
    let s = a.operands[1].shape();
    let (batches, classes, n) = (s[0], s[1], s[2]);
    let corners = |b: usize| {
        let v = &boxes[b * 4..b * 4 + 4];
        if centre {
            [v[1] - v[3] / 2.0, v[0] - v[2] / 2.0, v[1] + v[3] / 2.0, v[0] + v[2] / 2.0]
        } else {
            [v[0].min(v[2]), v[1].min(v[3]), v[0].max(v[2]), v[1].max(v[3])]
        }
    };
    let common = |p: [f64; 4], q: [f64; 4]| {
        let side = |k: usize| (p[k + 2].min(q[k + 2]) - p[k].max(q[k])).max(0.0);
        let area = |r: [f64; 4]| (r[2] - r[0]) * (r[3] - r[1]);
        let both = side(0) * side(1);
        let union = area(p) + area(q) - both;
        if union > 0.0 { both / union } else { 0.0 }
    };
    let mut out = Vec::new();
    for b in 0..batches {
        for c in 0..classes {
            let score = |i: usize| scores[(b * classes + c) * n + i];
            let mut order: Vec<usize> = (0..n).filter(|&i| score(i) > least).collect();
            order.sort_by(|&i, &j| score(j).total_cmp(&score(i)).then(i.cmp(&j)));
            let mut kept: Vec<usize> = Vec::new();
            for i in order {
                if kept.len() as f64 >= most {
                    break;
                }
                if kept.iter().all(|&k| common(corners(b * n + k), corners(b * n + i)) <= overlap) {
                    kept.push(i);
                }
            }
            out.extend(kept.into_iter().flat_map(|i| [b as i64, c as i64, i as i64]));
        }
    }
    Ok(vec![Tensor::i64(&[out.len() / 3, 3], out)])
}

fn infer_roi(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let (x, rois) = (&a.operands[0], &a.operands[1]);
    if x.rank() != 4 || rois.rank() != 2 || rois.shape[1].known().is_some_and(|n| n != 4) || a.operands[2].rank() != 1 {
        return Err(OpError::shape("takes a map [N, C, H, W], regions [R, 4] and a batch index [R]").mark(1, "must be [R, 4]"));
    }
    if matches!((rois.shape[0].known(), a.operands[2].shape[0].known()), (Some(r), Some(b)) if r != b) {
        return Err(OpError::shape("takes one batch index per region").mark(2, format!("must be [{}]", rois.shape[0])));
    }
    let (h, w) = (int(a.attrs, "height")?, int(a.attrs, "width")?);
    let size = |n: i64| u64::try_from(n).ok().filter(|&n| n > 0 && n < 1 << 20).ok_or_else(|| OpError::attr(format!("{n} is no extent")));
    let t = TensorType::new(x.dtype, Shape(vec![rois.shape[0].clone(), x.shape[1].clone(), size(h)?.into(), size(w)?.into()]));
    sized(&t)?;
    Ok(vec![t])
}

/// Mean or largest of bilinear samples in each bin of each region (Mask R-CNN, He et al. 2017; ONNX RoiAlign).
fn eval_roi(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let (x, rois) = (a.operands[0].to_f64s(), a.operands[1].to_f64s());
    let batch = a.operands[2].cast(DType::I64).to_ints().unwrap_or_default();
    let (ph, pw) = (int(a.attrs, "height")? as usize, int(a.attrs, "width")? as usize);
    let (ratio, scale) = (int(a.attrs, "sampling_ratio")?, float(a.attrs, "scale")?);
    let (half, max) = (flag(a.attrs, "half_pixel")?, flag(a.attrs, "max")?);
    let s = a.operands[0].shape();
    let (n, channels, h, w) = (s[0], s[1], s[2], s[3]);
    if h == 0 || w == 0 {
        return Err(OpError::value("an empty map has no regions"));
    }
    budget(&TensorType::known(DType::F64, &[batch.len(), channels, ph, pw]))?;
    let mut out = Vec::with_capacity(batch.len() * channels * ph * pw);
    for (r, &b) in batch.iter().enumerate() {
        let b = usize::try_from(b).ok().filter(|&b| b < n).ok_or_else(|| OpError::value(format!("batch index {b} is outside {n}")))?;
        let offset = if half { 0.5 } else { 0.0 };
        let at = |k: usize| rois[r * 4 + k] * scale - offset;
        let (x0, y0) = (at(0), at(1));
        let (mut rw, mut rh) = (at(2) - x0, at(3) - y0);
        if !half {
            (rw, rh) = (rw.max(1.0), rh.max(1.0));
        }
        let (bh, bw) = (rh / ph as f64, rw / pw as f64);
        let grid = |bin: f64| if ratio > 0 { ratio as usize } else { (bin.ceil().max(0.0) as usize).min(1 << 12) };
        let (gh, gw) = (grid(bh), grid(bw));
        for c in 0..channels {
            let plane = &x[(b * channels + c) * h * w..][..h * w];
            for i in 0..ph {
                for j in 0..pw {
                    let mut total: Option<f64> = None;
                    for p in 0..gh {
                        for q in 0..gw {
                            let y = y0 + i as f64 * bh + (p as f64 + 0.5) * bh / gh as f64;
                            let x = x0 + j as f64 * bw + (q as f64 + 0.5) * bw / gw as f64;
                            let v = corners(plane, h, w, y, x);
                            let v = if max { v.into_iter().fold(f64::NEG_INFINITY, f64::max) } else { v.iter().sum() };
                            total = Some(match total {
                                Some(t) if max => t.max(v),
                                Some(t) => t + v,
                                None => v,
                            });
                        }
                    }
                    let v = total.unwrap_or(0.0);
                    out.push(if max { v } else { v / (gh * gw).max(1) as f64 });
                }
            }
        }
    }
    Ok(vec![Tensor::from_f64s(a.operands[0].dtype(), &[batch.len(), channels, ph, pw], &out)])
}

/// Largest element in each bin of each region; bins are whole elements and may overlap (Fast R-CNN, Girshick 2015; ONNX MaxRoiPool).
fn eval_roi_max(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let (x, rois) = (a.operands[0].to_f64s(), a.operands[1].to_f64s());
    let batch = a.operands[2].cast(DType::I64).to_ints().unwrap_or_default();
    let (ph, pw) = (int(a.attrs, "height")? as usize, int(a.attrs, "width")? as usize);
    let scale = float(a.attrs, "scale")?;
    let s = a.operands[0].shape();
    let (n, channels, h, w) = (s[0], s[1], s[2], s[3]);
    let mut out = Vec::with_capacity(batch.len() * channels * ph * pw);
    for (r, &b) in batch.iter().enumerate() {
        let b = usize::try_from(b).ok().filter(|&b| b < n).ok_or_else(|| OpError::value(format!("batch index {b} is outside {n}")))?;
        // The product rounds in the map's type, halves then away from 0; the last element belongs to the region.
        let wide = a.operands[0].dtype() == DType::F64;
        let scaled = |v: f64| if wide { v * scale } else { (v as f32 * scale as f32) as f64 };
        let at = |k: usize| scaled(rois[r * 4 + k]).round();
        let span = |low: f64, high: f64, i: usize, parts: usize, all: usize| {
            let bin = (high - low + 1.0).max(1.0) / parts as f64;
            let edge = |v: f64| (v + low).clamp(0.0, all as f64) as usize;
            edge((i as f64 * bin).floor())..edge(((i + 1) as f64 * bin).ceil())
        };
        for c in 0..channels {
            let plane = &x[(b * channels + c) * h * w..][..h * w];
            for i in 0..ph {
                for j in 0..pw {
                    let (rows, columns) = (span(at(1), at(3), i, ph, h), span(at(0), at(2), j, pw, w));
                    let all = rows.flat_map(|y| columns.clone().map(move |x| plane[y * w + x]));
                    out.push(all.reduce(f64::max).unwrap_or(0.0));
                }
            }
        }
    }
    Ok(vec![Tensor::from_f64s(a.operands[0].dtype(), &[batch.len(), channels, ph, pw], &out)])
}

/// The four neighbours of a point times their bilinear weights; zeros far outside.
fn corners(plane: &[f64], h: usize, w: usize, y: f64, x: f64) -> [f64; 4] {
    if !(y >= -1.0 && y <= h as f64 && x >= -1.0 && x <= w as f64) {
        return [0.0; 4];
    }
    let split = |v: f64, n: usize| {
        let v = v.max(0.0);
        let low = v as usize;
        if low + 1 >= n { (n - 1, n - 1, 0.0) } else { (low, low + 1, v - low as f64) }
    };
    let ((y0, y1, ly), (x0, x1, lx)) = (split(y, h), split(x, w));
    let at = |y: usize, x: usize, k: f64| plane[y * w + x] * k;
    [at(y0, x0, (1.0 - ly) * (1.0 - lx)), at(y0, x1, (1.0 - ly) * lx), at(y1, x0, ly * (1.0 - lx)), at(y1, x1, ly * lx)]
}

fn infer_det(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let x = &a.operands[0];
    let r = x.rank();
    if r < 2 || matches!((x.shape[r - 1].known(), x.shape[r - 2].known()), (Some(m), Some(n)) if m != n) {
        return Err(OpError::shape(format!("takes square matrices, not {x}")).mark(0, "must end in two equal extents"));
    }
    Ok(vec![TensorType::new(x.dtype, Shape(x.shape.0[..r - 2].to_vec()))])
}

/// Gaussian elimination with row pivoting.
fn eval_det(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let x = &a.operands[0];
    let r = x.rank();
    let n = x.shape()[r - 1];
    let count: usize = x.shape()[..r - 2].iter().product();
    let all = x.to_f64s();
    let out: Vec<f64> = (0..count)
        .map(|k| {
            let mut m: Vec<f64> = all[k * n * n..(k + 1) * n * n].to_vec();
            let mut det = 1.0;
            for c in 0..n {
                let best = (c..n).max_by(|&i, &j| m[i * n + c].abs().total_cmp(&m[j * n + c].abs())).unwrap_or(c);
                if m[best * n + c] == 0.0 {
                    return 0.0;
                }
                if best != c {
                    (0..n).for_each(|j| m.swap(best * n + j, c * n + j));
                    det = -det;
                }
                let pivot = m[c * n + c];
                det *= pivot;
                for i in c + 1..n {
                    let f = m[i * n + c] / pivot;
                    (c..n).for_each(|j| m[i * n + j] -= f * m[c * n + j]);
                }
            }
            det
        })
        .collect();
    Ok(vec![Tensor::from_f64s(x.dtype(), &x.shape()[..r - 2], &out)])
}

static UNIQUE: OpDef = OpDef {
    name: "unique",
    doc: "The distinct slices along an axis, rising or in the order they first appear; the first place of each, where each slice of x went, and how many there are (ONNX Unique).",
    operands: &[operand("x", TypeSet::Any)],
    attrs: &[attr("axis", AttrType::Int), attr("sorted", AttrType::Bool)],
    results: Results::Many(4),
    kind: Kind::Opaque,
    tolerance: Tolerance::Exact,
    examples: &["unique([2, 1, 2], axis=0, sorted=true) = [1, 2], i64[1, 0], i64[1, 0, 1], i64[1, 2]"],
    infer: infer_unique,
    eval: eval_unique,
};
static NMS: OpDef = OpDef {
    name: "non_max_suppression",
    doc: "Boxes in falling order of score that overlap no better one by more than the threshold: batch, class and box of each (ONNX NonMaxSuppression). `center`: boxes are x, y, width, height.",
    operands: &[
        operand("boxes", TypeSet::Float),
        operand("scores", TypeSet::Float),
        operand("max_per_class", TypeSet::I64),
        operand("iou_threshold", TypeSet::Float),
        operand("score_threshold", TypeSet::Float),
    ],
    attrs: &[attr("center", AttrType::Bool)],
    results: Results::One,
    kind: Kind::Opaque,
    tolerance: Tolerance::Exact,
    examples: &[
        "non_max_suppression([[[0, 0, 1, 1], [0, 0, 1, 0.9], [2, 2, 3, 3]]], [[[0.9, 0.8, 0.7]]], i64[5], [0.5], [0.1], center=false) = i64[[0, 0, 0], [0, 0, 2]]",
    ],
    infer: infer_nms,
    eval: eval_nms,
};
static ROI_ALIGN: OpDef = OpDef {
    name: "roi_align",
    doc: "Mean (or largest) bilinear sample in each bin of each region of a map (Mask R-CNN, arXiv:1703.06870; ONNX RoiAlign).",
    operands: &[operand("x", TypeSet::Float), operand("rois", TypeSet::Float), operand("batch", TypeSet::I64)],
    attrs: &[
        attr("height", AttrType::Int),
        attr("width", AttrType::Int),
        attr("sampling_ratio", AttrType::Int),
        attr("scale", AttrType::Float),
        attr("half_pixel", AttrType::Bool),
        attr("max", AttrType::Bool),
    ],
    results: Results::One,
    kind: Kind::Opaque,
    tolerance: Tolerance::Ulps(4),
    examples: &[
        "roi_align([[[[1, 2], [3, 4]]]], [[0, 0, 1, 1]], i64[0], height=1, width=1, sampling_ratio=1, scale=1, half_pixel=false, max=false) = [[[[2.5]]]]",
    ],
    infer: infer_roi,
    eval: eval_roi,
};
static ROI_MAX: OpDef = OpDef {
    name: "roi_max_pool",
    doc: "Largest element in each bin of each region of a map, 0 for an empty bin (Fast R-CNN, arXiv:1504.08083; ONNX MaxRoiPool).",
    operands: &[operand("x", TypeSet::Float), operand("rois", TypeSet::Float), operand("batch", TypeSet::I64)],
    attrs: &[attr("height", AttrType::Int), attr("width", AttrType::Int), attr("scale", AttrType::Float)],
    results: Results::One,
    kind: Kind::Opaque,
    tolerance: Tolerance::Exact,
    examples: &["roi_max_pool([[[[1, 2, 5], [3, 4, 6]]]], [[0, 0, 1, 1]], i64[0], height=2, width=1, scale=1) = [[[[2], [4]]]]"],
    infer: infer_roi,
    eval: eval_roi_max,
};
static DET: OpDef = OpDef {
    name: "det",
    doc: "Determinants of the matrices in the last two axes.",
    operands: &[operand("x", TypeSet::Float)],
    attrs: &[],
    results: Results::One,
    kind: Kind::Opaque,
    tolerance: Tolerance::Ulps(4),
    examples: &["det([[1, 2], [3, 4]]) = -2"],
    infer: infer_det,
    eval: eval_det,
};

pub(super) static FAMILIES: &[&[&OpDef]] = &[&[&UNIQUE, &NMS, &ROI_ALIGN, &ROI_MAX, &DET]];
