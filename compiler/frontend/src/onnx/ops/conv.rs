//! Convolutions.

use super::linear::centred;
use super::{Row, one};
use crate::onnx::context::{Context, R, V, attrs};
use tahoma_core::{DType, OpError};

pub(super) static ROWS: &[Row] = &[one("Conv", 1, conv), one("ConvTranspose", 1, conv_transpose), one("ConvInteger", 10, conv_integer)];

/// Windows along the spatial axes: attributes of convolutions and pools, with their defaults written out.
pub(super) struct Windows {
    pub(super) kernel: Vec<usize>,
    pub(super) strides: Vec<usize>,
    pub(super) dilations: Vec<usize>,
    /// Elements before and after each axis.
    pub(super) begin: Vec<i64>,
    pub(super) end: Vec<i64>,
}

/// Largest stride, dilation, kernel extent or padding accepted.
const LIMIT: i64 = 1 << 31;

/// A list attribute of one number per spatial axis.
pub(super) fn per_axis(cx: &Context, name: &str, n: usize, default: i64, least: i64) -> R<Vec<i64>> {
    let v = cx.attrs.ints(name).map_or_else(|| vec![default; n], <[i64]>::to_vec);
    if v.len() != n {
        return Err(OpError::attr(format!("{name} has {} numbers for {n} spatial axes", v.len())));
    }
    match v.iter().find(|&&x| x < least || x > LIMIT) {
        Some(x) => Err(OpError::attr(format!("{name} cannot be {x}"))),
        None => Ok(v),
    }
}

impl Windows {
    /// Reads the attributes; `dims` are the spatial extents of the operand.
    pub(super) fn new(cx: &Context, dims: &[usize], kernel: &[usize]) -> R<Windows> {
        let n = dims.len();
        if kernel.len() != n {
            return Err(OpError::attr(format!("the kernel has {} axes, the operand {n} spatial ones", kernel.len())));
        }
        if kernel.iter().any(|&k| k == 0 || k as i64 > LIMIT) {
            return Err(OpError::attr(format!("a kernel of extents {kernel:?} has no elements")));
        }
        let usizes = |v: Vec<i64>| v.into_iter().map(|x| x as usize).collect::<Vec<_>>();
        let strides = usizes(per_axis(cx, "strides", n, 1, 1)?);
        let dilations = usizes(per_axis(cx, "dilations", n, 1, 1)?);
        let mut w = Windows { kernel: kernel.to_vec(), strides, dilations, begin: vec![0; n], end: vec![0; n] };
        match cx.attrs.str("auto_pad").unwrap_or("NOTSET") {
            "NOTSET" | "" => {
                let pads = cx.attrs.ints("pads").unwrap_or(&[]);
                if !pads.is_empty() {
                    if pads.len() != 2 * n || pads.iter().any(|p| p.abs() > LIMIT) {
                        return Err(OpError::attr(format!("pads {pads:?} must be {} small numbers: all begins, then all ends", 2 * n)));
                    }
                    (w.begin, w.end) = (pads[..n].to_vec(), pads[n..].to_vec());
                }
            }
            "VALID" => {}
            mode @ ("SAME_UPPER" | "SAME_LOWER") => {
                for (i, &dim) in dims.iter().enumerate().take(n) {
                    let out = dim.div_ceil(w.strides[i]);
                    let reach = (out.max(1) - 1) * w.strides[i] + w.extent(i);
                    let total = reach.saturating_sub(dim) as i64;
                    let small = total / 2;
                    (w.begin[i], w.end[i]) = if mode == "SAME_UPPER" { (small, total - small) } else { (total - small, small) };
                }
            }
            other => return Err(OpError::attr(format!("auto_pad {other:?} is none of NOTSET, VALID, SAME_UPPER, SAME_LOWER"))),
        }
        Ok(w)
    }
    /// Elements that a window spans along an axis.
    pub(super) fn extent(&self, i: usize) -> usize {
        (self.kernel[i] - 1) * self.dilations[i] + 1
    }
    /// Windows along each axis. Errors where not even one fits.
    pub(super) fn count(&self, dims: &[usize]) -> R<Vec<usize>> {
        (0..dims.len())
            .map(|i| {
                let room = dims[i] as i64 + self.begin[i] + self.end[i] - self.extent(i) as i64;
                if room < 0 {
                    let e = OpError::shape(format!("a window of {} does not fit spatial axis {i} of {} elements", self.extent(i), dims[i]));
                    return Err(e.mark(0, "too small with its padding"));
                }
                Ok(room as usize / self.strides[i] + 1)
            })
            .collect()
    }
    pub(super) fn pads(&self) -> Vec<i64> {
        [&self.begin[..], &self.end].concat()
    }
}

pub(super) fn longs(v: &[usize]) -> Vec<i64> {
    v.iter().map(|&x| x as i64).collect()
}

/// Checks `x` and `w` against ONNX's rule and returns the windows and groups.
fn windows(cx: &Context, x: V, w: V) -> R<(Windows, i64)> {
    let (rx, rw) = (cx.rank(x), cx.rank(w));
    if rx < 2 || rx != rw {
        return Err(OpError::shape(format!("operand and kernel must have one rank of at least 3, got {rx} and {rw}")));
    }
    let kernel: Vec<usize> = (2..rw).map(|i| cx.dim(w, i)).collect::<R<_>>()?;
    if let Some(k) = cx.attrs.ints("kernel_shape")
        && k != longs(&kernel)
    {
        return Err(OpError::attr(format!("kernel_shape is {k:?}, but the weight is {}", cx.ty(w))).mark(1, "must agree with kernel_shape"));
    }
    // Only SAME padding needs the operand's extents.
    let dims: Vec<usize> = (2..rx).map(|i| cx.dim(x, i)).collect::<R<Vec<_>>>().or_else(|e| {
        let same = cx.attrs.str("auto_pad").is_some_and(|a| a.starts_with("SAME"));
        if same { Err(e) } else { Ok(vec![usize::MAX >> 16; rx - 2]) }
    })?;
    let win = Windows::new(cx, &dims, &kernel)?;
    let groups = cx.attrs.int("group").unwrap_or(1);
    if groups < 1 {
        return Err(OpError::attr(format!("group cannot be {groups}")));
    }
    Ok((win, groups))
}

/// Adds a bias of one number per channel.
pub(super) fn add_bias(cx: &mut Context, y: V, bias: Option<V>) -> R<V> {
    let Some(b) = bias else { return Ok(y) };
    if cx.rank(b) != 1 {
        return Err(OpError::shape("the bias must have one axis").mark(2, "must have rank 1"));
    }
    let mut dims = vec![1; cx.rank(y) - 1];
    dims[0] = cx.dim(b, 0)?;
    let b = cx.reshape(b, &dims)?;
    cx.add(y, b)
}

fn conv_values(cx: &mut Context, x: V, w: V) -> R<V> {
    let (win, groups) = windows(cx, x, w)?;
    let channels = cx.dim(w, 1)? as i64;
    if let (Some(c), true) = (cx.shape(x)[1].known(), groups >= 1)
        && channels.checked_mul(groups) != Some(c as i64)
    {
        let e = OpError::shape(format!("the operand has {c} channels, the kernel wants {channels} in each of {groups} groups"));
        return Err(e.mark(0, format!("axis 1 must be {}", channels.saturating_mul(groups))).note("channels of X = group · axis 1 of W"));
    }
    let out = cx.dim(w, 0)? as i64;
    if out % groups != 0 {
        return Err(OpError::shape(format!("{out} results cannot be split into {groups} groups"))
            .mark(1, format!("axis 0 must be a multiple of {groups}")));
    }
    let a = attrs! {"strides": longs(&win.strides), "pads": win.pads(), "dilations": longs(&win.dilations), "groups": groups};
    cx.op("conv", &[x, w], a)
}

pub(super) fn conv(cx: &mut Context) -> R<V> {
    let (x, w, b) = (cx.input(0)?, cx.input(1)?, cx.try_opt(2)?);
    let y = conv_values(cx, x, w)?;
    add_bias(cx, y, b)
}

fn conv_integer(cx: &mut Context) -> R<V> {
    let (x, w, zx, zw) = (cx.input(0)?, cx.input(1)?, cx.try_opt(2)?, cx.try_opt(3)?);
    integer_conv(cx, x, w, zx, zw)
}

/// Exact in f64: products of 9-bit numbers, sums below 2^53.
pub(super) fn integer_conv(cx: &mut Context, x: V, w: V, zx: Option<V>, zw: Option<V>) -> R<V> {
    let zw = match zw {
        Some(z) if cx.rank(z) == 1 && cx.dim(z, 0)? != 1 => {
            let mut dims = vec![1; cx.rank(w)];
            dims[0] = cx.dim(z, 0)?;
            Some(cx.reshape(z, &dims)?)
        }
        Some(z) => Some(cx.reshape(z, &[])?),
        None => None,
    };
    let zx = match zx {
        Some(z) => Some(cx.reshape(z, &[])?),
        None => None,
    };
    let (x, w) = (centred(cx, x, zx)?, centred(cx, w, zw)?);
    let (x, w) = (cx.cast(x, DType::F64)?, cx.cast(w, DType::F64)?);
    let y = conv_values(cx, x, w)?;
    cx.cast(y, DType::I32)
}

fn conv_transpose(cx: &mut Context) -> R<V> {
    let (x, w, b) = (cx.input(0)?, cx.input(1)?, cx.try_opt(2)?);
    let (rx, rw) = (cx.rank(x), cx.rank(w));
    if rx < 3 || rx != rw {
        return Err(OpError::shape(format!("operand and kernel must have one rank of at least 3, got {rx} and {rw}")));
    }
    let n = rx - 2;
    let wd = cx.dims(w)?;
    let groups = cx.attrs.int("group").unwrap_or(1);
    if groups < 1 || cx.dim(x, 1)? != wd[0] || wd[0] % groups as usize != 0 {
        let e = OpError::shape(format!("the operand has {} channels, the kernel takes {} in {groups} groups", cx.dim(x, 1)?, wd[0]));
        return Err(e.mark(0, format!("axis 1 must be {}", wd[0])));
    }
    let strides = per_axis(cx, "strides", n, 1, 1)?;
    let dilations = per_axis(cx, "dilations", n, 1, 1)?;
    let mut extra = per_axis(cx, "output_padding", n, 0, 0)?;
    let mut pads = cx.attrs.ints("pads").map_or_else(|| vec![0; 2 * n], <[i64]>::to_vec);
    if pads.len() != 2 * n || pads.iter().any(|p| p.abs() > LIMIT) {
        return Err(OpError::attr(format!("pads must be {} numbers: all begins, then all ends", 2 * n)));
    }
    let auto = cx.attrs.str("auto_pad").unwrap_or("NOTSET");
    let wanted = cx.attrs.ints("output_shape").map(|s| if s.len() == n + 2 { s[2..].to_vec() } else { s.to_vec() });
    if wanted.as_ref().is_some_and(|w| w.len() != n) {
        return Err(OpError::attr(format!("output_shape must have {n} numbers")));
    }
    for i in 0..n {
        let size = cx.dim(x, i + 2)? as i64;
        let reach = (wd[i + 2] as i64 - 1) * dilations[i] + 1;
        let full = strides[i] * (size - 1) + extra[i] + reach;
        let target = match (&wanted, auto) {
            (Some(s), _) => s[i],
            (None, "SAME_UPPER" | "SAME_LOWER") => size * strides[i],
            (None, "VALID") => {
                (pads[i], pads[i + n]) = (0, 0);
                continue;
            }
            _ => continue,
        };
        let total = full - target;
        // Where more is wanted than there is, the rest is padded at the end.
        if total < 0 {
            extra[i] -= total;
            (pads[i], pads[i + n]) = (0, 0);
            continue;
        }
        let half = total / 2;
        (pads[i], pads[i + n]) = if auto == "SAME_UPPER" { (half, total - half) } else { (total - half, half) };
    }
    let a = attrs! {"strides": strides, "pads": pads, "dilations": dilations, "groups": groups, "output_padding": extra};
    let y = cx.op("conv_transpose", &[x, w], a)?;
    add_bias(cx, y, b)
}
