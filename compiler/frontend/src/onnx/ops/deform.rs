//! Deformable convolution (Dai and others 2017; with a mask, Zhu and others 2018): every tap reads where its offset says, between pixels.
//!
//! ```text
//! columns[n, c, tap, pixel] = mask · Σ over the four corners of  weight · x[n, c, corner]      zero outside
//! y[n, m, pixel]            = Σ over c and tap of  w[m, c, tap] · columns[n, c, tap, pixel]
//! ```

use super::conv::{Windows, add_bias};
use super::{Row, one};
use crate::onnx::context::{Context, R, V, attrs};
use tahoma_core::{DType, OpError, Tensor};

pub(super) static ROWS: &[Row] = &[one("DeformConv", 19, deform_conv)];

/// Sizes of one deformable convolution.
struct Sizes {
    n: usize,
    c: usize,
    h: usize,
    w: usize,
    taps: usize,
    pixels: usize,
    offset_groups: usize,
}

fn deform_conv(cx: &mut Context) -> R<V> {
    let (x, w, offset) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let (bias, mask) = (cx.try_opt(3)?, cx.try_opt(4)?);
    let (xd, wd) = (cx.dims(x)?, cx.dims(w)?);
    if xd.len() != 4 || wd.len() != 4 {
        return Err(cx.unsupported("deformable convolution of other than two spatial axes"));
    }
    let count = |name: &str| cx.attrs.int(name).unwrap_or(1).clamp(0, 1 << 20) as usize;
    let (groups, offset_groups) = (count("group"), count("offset_group"));
    if groups == 0 || offset_groups == 0 || xd[1] != groups * wd[1] || wd[0] % groups != 0 || xd[1] % offset_groups != 0 {
        return Err(OpError::shape(format!("{} channels do not split into {groups} groups and {offset_groups} offset groups", xd[1])));
    }
    let windows = Windows::new(cx, &xd[2..], &wd[2..])?;
    let out = windows.count(&xd[2..])?;
    let s = Sizes { n: xd[0], c: xd[1], h: xd[2], w: xd[3], taps: wd[2] * wd[3], pixels: out[0] * out[1], offset_groups };
    let want = [s.n, offset_groups * s.taps * 2, out[0], out[1]];
    if cx.dims(offset)? != want {
        return Err(OpError::shape(format!("offset must be {want:?}")).mark(2, format!("must be {want:?}")));
    }
    let columns = columns(cx, x, offset, mask, &windows, &out, &s)?;
    // w[g, m/g, c/g·taps] · columns[n, g, c/g·taps, pixels]
    let k = wd[1] * s.taps;
    let columns = cx.reshape(columns, &[s.n, groups, k, s.pixels])?;
    let w = cx.reshape(w, &[1, groups, wd[0] / groups, k])?;
    let w = cx.broadcast(w, &[s.n, groups, wd[0] / groups, k])?;
    let y = cx.matmul(w, columns)?;
    let y = cx.reshape(y, &[s.n, wd[0], out[0], out[1]])?;
    add_bias(cx, y, bias)
}

/// What every tap of every output pixel reads: `[n, c, taps, pixels]`.
fn columns(cx: &mut Context, x: V, offset: V, mask: Option<V>, windows: &Windows, out: &[usize], s: &Sizes) -> R<V> {
    let d = cx.dtype(x);
    let groups = s.offset_groups;
    // Where a tap would read without an offset, along each axis: [taps, pixels].
    let base = |axis: usize| -> Vec<f64> {
        let (kw, ow) = (windows.kernel[1], out[1]);
        (0..s.taps * s.pixels)
            .map(|i| {
                let (tap, pixel) = (i / s.pixels, i % s.pixels);
                let (k, o) = if axis == 0 { (tap / kw, pixel / ow) } else { (tap % kw, pixel % ow) };
                (o * windows.strides[axis] + k * windows.dilations[axis]) as f64 - windows.begin[axis] as f64
            })
            .collect()
    };
    let offset = cx.reshape(offset, &[s.n, groups, s.taps, 2, s.pixels])?;
    let mut at = vec![];
    for axis in 0..2 {
        let o = cx.slice(offset, 3, axis, 1)?;
        let o = cx.reshape(o, &[s.n, groups, s.taps, s.pixels])?;
        let b = cx.constant(Tensor::from_f64s(d, &[s.taps, s.pixels], &base(axis)));
        at.push(cx.add(o, b)?);
    }
    let planes = cx.reshape(x, &[s.n, groups, s.c / groups, s.h * s.w])?;
    let mut sum: Option<V> = None;
    for corner in 0..4usize {
        let (y, wy, iny) = corner_of(cx, at[0], corner / 2, s.h)?;
        let (x, wx, inx) = corner_of(cx, at[1], corner % 2, s.w)?;
        let width = cx.like(s.w as f64, y)?;
        let row = cx.mul(y, width)?;
        let index = cx.add(row, x)?;
        let index = cx.cast(index, DType::I64)?;
        let index = cx.reshape(index, &[s.n, groups, 1, s.taps * s.pixels])?;
        let index = cx.broadcast(index, &[s.n, groups, s.c / groups, s.taps * s.pixels])?;
        let value = cx.op("gather_elements", &[planes, index], attrs! {"axis": 3i64})?;
        let weight = cx.mul(wy, wx)?;
        let inside = cx.f("and", &[iny, inx])?;
        let none = cx.like(0.0, weight)?;
        let weight = cx.f("select", &[inside, weight, none])?;
        let weight = cx.reshape(weight, &[s.n, groups, 1, s.taps * s.pixels])?;
        let part = cx.mul(value, weight)?;
        sum = Some(match sum {
            Some(v) => cx.add(v, part)?,
            None => part,
        });
    }
    let sum = sum.ok_or_else(|| OpError::new("E0901", "a pixel without corners"))?;
    match mask {
        Some(m) => {
            let m = cx.reshape(m, &[s.n, groups, 1, s.taps * s.pixels])?;
            cx.mul(sum, m)
        }
        None => Ok(sum),
    }
}

/// The pixel below (0) or above (1) a coordinate, kept inside `0..extent`; its weight; and whether it was inside.
fn corner_of(cx: &mut Context, at: V, which: usize, extent: usize) -> R<(V, V, V)> {
    let low = cx.f("floor", &[at])?;
    let part = cx.sub(at, low)?;
    let one = cx.like(1.0, at)?;
    let (pixel, weight) = if which == 0 { (low, cx.sub(one, part)?) } else { (cx.add(low, one)?, part) };
    let (first, last) = (cx.like(0.0, at)?, cx.like(extent as f64 - 1.0, at)?);
    let (above, below) = (cx.f("ge", &[pixel, first])?, cx.f("le", &[pixel, last])?);
    let inside = cx.f("and", &[above, below])?;
    let kept = cx.f("max", &[pixel, first])?;
    let kept = cx.f("min", &[kept, last])?;
    Ok((kept, weight, inside))
}
