//! Sampling on grids, and folding patches back into images.

use super::conv::per_axis;
use super::{Row, one};
use crate::onnx::context::{Context, R, V, attrs};
use tahoma_core::{DType, OpError, Tensor};

pub(super) static ROWS: &[Row] = &[
    one("GridSample", 16, grid_sample),
    one("AffineGrid", 20, affine_grid),
    one("Col2Im", 18, col2im),
    one("RoiAlign", 10, roi_align),
    one("MaxRoiPool", 1, max_roi_pool),
    one("NonMaxSuppression", 10, non_max_suppression),
];

/// Samples `x [N, C, D1..Dk]` at `grid [N, E1..Ek, k]`, coordinates from -1 to 1, the last axis first.
fn grid_sample(cx: &mut Context) -> R<V> {
    let (x, grid) = (cx.input(0)?, cx.input(1)?);
    let (xd, gd) = (cx.dims(x)?, cx.dims(grid)?);
    let k = xd.len().saturating_sub(2);
    if k == 0 || gd.len() != k + 2 || gd[k + 1] != k || gd[0] != xd[0] {
        return Err(OpError::shape("needs X [N, C, D1, ...] and a grid [N, E1, ..., k]").mark(1, format!("must end in {k}")));
    }
    if xd.contains(&0) {
        return Err(OpError::shape("has no elements to sample").mark(0, "is empty"));
    }
    let corners = cx.attrs.int("align_corners").unwrap_or(0) != 0;
    let reach: i64 = match cx.attrs.str("mode").unwrap_or("linear") {
        "linear" | "bilinear" => 2,
        "cubic" | "bicubic" => 4,
        "nearest" => 1,
        other => return Err(OpError::attr(format!("mode {other:?} is none of linear, nearest, cubic"))),
    };
    let padding = cx.attrs.str("padding_mode").unwrap_or("zeros");
    if !["zeros", "border", "reflection"].contains(&padding) {
        return Err(OpError::attr(format!("padding_mode {padding:?} is none of zeros, border, reflection")));
    }
    let points: usize = gd[1..=k].iter().product();
    let dtype = cx.dtype(x);
    let grid = cx.cast(grid, DType::F32)?;
    // For each axis: candidates (index, weight, inside), each [N, 1, P].
    let mut axes = Vec::new();
    for a in 0..k {
        let len = xd[a + 2] as f64;
        let g = cx.slice(grid, k + 1, k - 1 - a, 1)?;
        let g = cx.reshape(g, &[xd[0], 1, points])?;
        let unit = cx.like(1.0, g)?;
        let g = cx.add(g, unit)?;
        let place = if corners {
            cx.scale(g, (len - 1.0) / 2.0)?
        } else {
            let g = cx.scale(g, len)?;
            let g = cx.sub(g, unit)?;
            cx.scale(g, 0.5)?
        };
        let (lo, hi) = if corners { (0.0, len - 1.0) } else { (-0.5, len - 0.5) };
        let place = match padding {
            "border" => {
                let (a, b) = (cx.like(0.0, place)?, cx.like(len - 1.0, place)?);
                cx.f("clip", &[place, a, b])?
            }
            "reflection" => reflect(cx, place, lo, hi)?,
            _ => place,
        };
        axes.push(candidates(cx, place, reach, len, padding, (lo, hi))?);
    }
    let size: usize = xd[2..].iter().product();
    let flat = cx.reshape(x, &[xd[0], xd[1], size])?;
    let mut total: Option<V> = None;
    for c in 0..(reach as usize).pow(k as u32) {
        let (mut c, mut index, mut weight, mut inside) = (c, None, None, None);
        let mut stride = 1usize;
        for a in (0..k).rev() {
            let (i, w, ok) = axes[a][c % reach as usize];
            c /= reach as usize;
            let s = cx.int(stride as i64);
            let i = cx.mul(i, s)?;
            index = Some(match index {
                Some(j) => cx.add(j, i)?,
                None => i,
            });
            weight = Some(match weight {
                Some(v) => cx.mul(v, w)?,
                None => w,
            });
            inside = Some(match inside {
                Some(v) => cx.f("and", &[v, ok])?,
                None => ok,
            });
            stride *= xd[a + 2];
        }
        let (Some(index), Some(weight), Some(inside)) = (index, weight, inside) else { continue };
        let index = cx.broadcast(index, &[xd[0], xd[1], points])?;
        let v = cx.op("gather_elements", &[flat, index], attrs! {"axis": 2i64})?;
        let zero = cx.like(0.0, v)?;
        let v = cx.f("select", &[inside, v, zero])?;
        let weight = cx.cast(weight, dtype)?;
        let v = cx.mul(v, weight)?;
        total = Some(match total {
            Some(t) => cx.add(t, v)?,
            None => v,
        });
    }
    let y = total.ok_or_else(|| OpError::shape("samples nothing"))?;
    cx.reshape(y, &[&xd[..2], &gd[1..=k]].concat())
}

/// Folds coordinates back and forth between `lo` and `hi`.
fn reflect(cx: &mut Context, x: V, lo: f64, hi: f64) -> R<V> {
    let range = hi - lo;
    if range <= 0.0 {
        return cx.scale(x, 0.0);
    }
    let (low, twice, span) = (cx.like(lo, x)?, cx.like(2.0 * range, x)?, cx.like(range, x)?);
    let d = cx.sub(x, low)?;
    let d = cx.f("abs", &[d])?;
    let d = cx.f("rem", &[d, twice])?;
    let back = cx.sub(twice, d)?;
    let far = cx.f("gt", &[d, span])?;
    let d = cx.f("select", &[far, back, d])?;
    cx.add(d, low)
}

/// The `reach` elements around each place with their weights; index kept inside, and whether it was.
fn candidates(cx: &mut Context, place: V, reach: i64, len: f64, padding: &str, edges: (f64, f64)) -> R<Vec<(V, V, V)>> {
    let base = cx.f(if reach == 1 { "round" } else { "floor" }, &[place])?;
    let t = cx.sub(place, base)?;
    let mut out = Vec::new();
    for i in 0..reach {
        let step = i - (reach / 2 - 1).max(0);
        let s = cx.like(step as f64, base)?;
        let at = cx.add(base, s)?;
        let weight = match reach {
            1 => cx.scale(t, 0.0).and_then(|z| {
                let unit = cx.like(1.0, z)?;
                cx.add(z, unit)
            })?,
            2 => {
                if i == 0 {
                    let unit = cx.like(1.0, t)?;
                    cx.sub(unit, t)?
                } else {
                    t
                }
            }
            _ => cubic(cx, t, step)?,
        };
        let (lo, hi) = (cx.like(0.0, at)?, cx.like(len - 1.0, at)?);
        let at = if padding == "reflection" { reflect(cx, at, edges.0, edges.1)? } else { at };
        let at = if padding == "reflection" { cx.f("round", &[at])? } else { at };
        let clipped = cx.f("clip", &[at, lo, hi])?;
        let inside = cx.f("eq", &[clipped, at])?;
        let inside = if padding == "zeros" {
            inside
        } else {
            let yes = cx.constant(Tensor::bool(&[], vec![true]));
            cx.f("or", &[inside, yes])?
        };
        let index = cx.cast(clipped, DType::I64)?;
        out.push((index, weight, inside));
    }
    Ok(out)
}

/// Keys' kernel with a = -0.75 at distance `t - step`.
fn cubic(cx: &mut Context, t: V, step: i64) -> R<V> {
    let a = -0.75;
    let s = cx.like(step as f64, t)?;
    let x = cx.sub(t, s)?;
    let x = cx.f("abs", &[x])?;
    let poly = |cx: &mut Context, c: [f64; 4]| -> R<V> {
        let mut y = cx.like(c[0], x)?;
        for c in &c[1..] {
            y = cx.mul(y, x)?;
            let c = cx.like(*c, x)?;
            y = cx.add(y, c)?;
        }
        Ok(y)
    };
    if (0..=1).contains(&step) { poly(cx, [a + 2.0, -(a + 3.0), 0.0, 1.0]) } else { poly(cx, [a, -5.0 * a, 8.0 * a, -4.0 * a]) }
}

/// `theta [N, k, k+1]` applied to the homogeneous coordinates of every pixel.
fn affine_grid(cx: &mut Context) -> R<V> {
    let theta = cx.input(0)?;
    let size = cx.need_ints(1)?;
    let k = size.len().saturating_sub(2);
    if !(2..=3).contains(&k) || size.iter().any(|&s| !(1..1 << 24).contains(&s)) || cx.dims(theta)? != [size[0] as usize, k, k + 1] {
        return Err(OpError::shape(format!("theta {} does not fit size {size:?}", cx.ty(theta))));
    }
    let corners = cx.attrs.int("align_corners").unwrap_or(0) != 0;
    let spatial: Vec<usize> = size[2..].iter().map(|&s| s as usize).collect();
    let dtype = cx.dtype(theta);
    let mut rows = Vec::new();
    for a in (0..k).rev() {
        let n = spatial[a];
        let line: Vec<f32> = (0..n)
            .map(|i| if corners { if n == 1 { -1.0 } else { -1.0 + 2.0 * i as f64 / (n - 1) as f64 } } else { -1.0 + (2 * i + 1) as f64 / n as f64 } as f32)
            .collect();
        let mut shape = vec![1; k];
        shape[a] = n;
        let v = cx.constant(Tensor::f32(&shape, line));
        let v = cx.broadcast(v, &spatial)?;
        rows.push(cx.reshape(v, &[1, spatial.iter().product()])?);
    }
    rows.push(cx.full(1.0, DType::F32, &[1, spatial.iter().product()])?);
    let base = cx.concat(&rows, 0)?;
    let base = cx.cast(base, dtype)?;
    let y = cx.matmul(theta, base)?;
    let y = cx.transpose(y, &[0, 2, 1])?;
    cx.reshape(y, &[&[size[0] as usize], &spatial[..], &[k]].concat())
}

/// Adds each column's patch where it came from: a scatter by indices known now.
fn col2im(cx: &mut Context) -> R<V> {
    let x = cx.input(0)?;
    let (image, block) = (cx.need_ints(1)?, cx.need_ints(2)?);
    let n = image.len();
    let (strides, dilations) = (per_axis(cx, "strides", n, 1, 1)?, per_axis(cx, "dilations", n, 1, 1)?);
    let pads = cx.attrs.ints("pads").map_or_else(|| vec![0; 2 * n], <[i64]>::to_vec);
    let small = |v: &[i64]| v.iter().all(|&d| (1..1 << 20).contains(&d));
    let dims = cx.dims(x)?;
    if n == 0 || block.len() != n || pads.len() != 2 * n || dims.len() != 3 || !small(&image) || !small(&block) {
        return Err(OpError::attr("image_shape, block_shape and pads do not fit each other"));
    }
    let blocks: Vec<i64> =
        (0..n).map(|i| (image[i] + pads[i] + pads[i + n] - dilations[i] * (block[i] - 1) - 1) / strides[i] + 1).collect();
    let (kernel, count): (i64, i64) = (block.iter().product(), blocks.iter().product());
    if kernel < 1 || dims[1] as i64 % kernel != 0 || dims[2] as i64 != count || kernel.saturating_mul(count) > 1 << 26 {
        return Err(OpError::shape(format!("the operand must be [N, C * {kernel}, {count}]")).mark(0, format!("must end in {count}")));
    }
    let (channels, pixels): (usize, i64) = (dims[1] / kernel as usize, image.iter().product());
    let mut index = Vec::with_capacity((kernel * count) as usize);
    for k in 0..kernel {
        for c in 0..count {
            let (mut k, mut c, mut at, mut stride, mut inside) = (k, c, 0, 1, true);
            for i in (0..n).rev() {
                let p = c % blocks[i] * strides[i] - pads[i] + k % block[i] * dilations[i];
                inside &= (0..image[i]).contains(&p);
                at += p * stride;
                stride *= image[i];
                (k, c) = (k / block[i], c / blocks[i]);
            }
            // What falls outside goes into one spare pixel.
            index.push(if inside { at } else { pixels });
        }
    }
    let dtype = cx.dtype(x);
    let zero = cx.full(0.0, dtype, &[dims[0], channels, pixels as usize + 1])?;
    let total = (kernel * count) as usize;
    let flat = cx.reshape(x, &[dims[0], channels, total])?;
    let index = cx.constant(Tensor::i64(&[1, 1, total], index));
    let index = cx.broadcast(index, &[dims[0], channels, total])?;
    let y = cx.op("scatter_elements", &[zero, index, flat], attrs! {"axis": 2i64, "reduction": "add"})?;
    let y = cx.slice(y, 2, 0, pixels as usize)?;
    let mut shape = vec![dims[0], channels];
    shape.extend(image.iter().map(|&d| d as usize));
    cx.reshape(y, &shape)
}

fn roi_align(cx: &mut Context) -> R<V> {
    let (x, rois, batch) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let batch = cx.cast(batch, DType::I64)?;
    let size = |n: &str| cx.attrs.int(n).unwrap_or(1);
    let (height, width) = (size("output_height"), size("output_width"));
    let ratio = cx.attrs.int("sampling_ratio").unwrap_or(0);
    let scale = cx.attrs.float("spatial_scale").unwrap_or(1.0);
    if !(0..1 << 12).contains(&ratio) {
        return Err(OpError::attr(format!("sampling_ratio cannot be {ratio}")));
    }
    let max = match cx.attrs.str("mode").unwrap_or("avg") {
        "avg" => false,
        "max" => true,
        other => return Err(OpError::attr(format!("mode {other:?} is none of avg, max"))),
    };
    // Operator set 16 made half a pixel the default.
    let default = if cx.since() < 16 { "output_half_pixel" } else { "half_pixel" };
    let half = cx.attrs.str("coordinate_transformation_mode").unwrap_or(default) == "half_pixel";
    let a = attrs! {"height": height, "width": width, "sampling_ratio": ratio, "scale": scale, "half_pixel": half, "max": max};
    cx.op("roi_align", &[x, rois, batch], a)
}

/// Regions with their batch index in front.
fn max_roi_pool(cx: &mut Context) -> R<V> {
    let (x, rois) = (cx.input(0)?, cx.input(1)?);
    let Some(&[height, width]) = cx.attrs.ints("pooled_shape") else { return Err(OpError::attr("pooled_shape must be two extents")) };
    let [count, 5] = cx.dims(rois)?[..] else { return Err(OpError::shape("rois must be [R, 5]").mark(1, "must be [R, 5]")) };
    let batch = cx.slice(rois, 1, 0, 1)?;
    let batch = cx.reshape(batch, &[count])?;
    let batch = cx.cast(batch, DType::I64)?;
    let boxes = cx.slice(rois, 1, 1, 4)?;
    let scale = cx.attrs.float("spatial_scale").unwrap_or(1.0);
    cx.op("roi_max_pool", &[x, boxes, batch], attrs! {"height": height, "width": width, "scale": scale})
}

fn non_max_suppression(cx: &mut Context) -> R<V> {
    let (boxes, scores) = (cx.input(0)?, cx.input(1)?);
    let most = match cx.try_opt(2)? {
        Some(v) => cx.cast(v, DType::I64)?,
        None => cx.int(0),
    };
    let overlap = match cx.try_opt(3)? {
        Some(v) => v,
        None => cx.scalar(0.0, DType::F32)?,
    };
    let least = match cx.try_opt(4)? {
        Some(v) => v,
        None => cx.scalar(f64::NEG_INFINITY, DType::F32)?,
    };
    let centre = cx.attrs.int("center_point_box").unwrap_or(0) != 0;
    cx.op("non_max_suppression", &[boxes, scores, most, overlap, least], attrs! {"center": centre})
}
