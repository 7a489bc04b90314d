//! Contractions: matmul and convolution, through a blocked gemm with f32 (f64, integer) sums.

use super::common::*;
use super::reduce::window_shape;
use crate::op::*;
use crate::tensor::{Buffer, Tensor};
use crate::types::{DType, Dim, Shape, TensorType};
use rayon::prelude::*;

fn same_types(a: &InferArgs) -> Result<DType, OpError> {
    let (x, y) = (a.operands[0].dtype, a.operands[1].dtype);
    if x != y {
        return Err(OpError::dtype(format!("operands have different types, {x} and {y}")).mark(1, format!("must be {x}")));
    }
    Ok(x)
}

fn infer_matmul(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let d = same_types(a)?;
    let (x, y) = (&a.operands[0].shape, &a.operands[1].shape);
    if x.rank() == 0 || y.rank() == 0 {
        return Err(OpError::shape("a scalar cannot be contracted").mark(usize::from(x.rank() != 0), "must have an axis"));
    }
    let k = &x[x.rank() - 1];
    let ky = &y[y.rank().saturating_sub(2)];
    if let (Some(p), Some(q)) = (k.known(), ky.known())
        && p != q
    {
        return Err(OpError::shape(format!("inner extents differ, {p} and {q}"))
            .mark(1, format!("axis {} must be {p}", y.rank().saturating_sub(2)))
            .note(format!("a[…, m, k] · b[…, k, n]: the last extent of a ({p}) and the last but one of b ({q}) must be equal")));
    }
    let lead = |s: &Shape| Shape(s.0[..s.rank().saturating_sub(2)].to_vec());
    let mut out = broadcast_shapes(&[&lead(x), &lead(y)])?.0;
    if x.rank() > 1 {
        out.push(x[x.rank() - 2].clone());
    }
    if y.rank() > 1 {
        out.push(y[y.rank() - 1].clone());
    }
    Ok(vec![TensorType::new(d, Shape(out))])
}

/// `c[m, n] = Σ_k a[m, k] b[k, n]` of f32 with any strides; rows in parallel, each summed in one order.
fn gemm_f32([m, k, n]: [usize; 3], a: &[f32], sa: [isize; 2], b: &[f32], sb: [isize; 2], c: &mut [f32]) {
    if m == 0 || n == 0 {
        return;
    }
    let rows = if m * n * k < 1 << 18 { m } else { m.div_ceil(rayon::current_num_threads()).max(8) };
    let run = |i: usize, part: &mut [f32]| {
        gemm::Matrices { m: part.len() / n, k, n }.f32(&a[(i as isize * rows as isize * sa[0]) as usize..], sa, b, sb, part);
    };
    if m >= 2 * rows || rows < m {
        c.par_chunks_mut(rows * n).enumerate().for_each(|(i, part)| run(i, part));
    } else if n > 256 && m * n * k >= 1 << 18 {
        // Few rows: share the columns instead.
        let cols = n.div_ceil(rayon::current_num_threads()).max(64);
        let parts: Vec<Vec<f32>> = (0..n.div_ceil(cols))
            .into_par_iter()
            .map(|p| {
                let w = cols.min(n - p * cols);
                let mut part = vec![0f32; m * w];
                gemm::Matrices { m, k, n: w }.f32(a, sa, &b[(p as isize * cols as isize * sb[1]) as usize..], sb, &mut part);
                part
            })
            .collect();
        for (p, part) in parts.iter().enumerate() {
            let w = cols.min(n - p * cols);
            for i in 0..m {
                c[i * n + p * cols..][..w].copy_from_slice(&part[i * w..(i + 1) * w]);
            }
        }
    } else {
        run(0, c);
    }
}

/// The one call into the gemm library.
mod gemm {
    use ndarray::{ArrayView2, ArrayViewMut2, ShapeBuilder, linalg::general_mat_mul};

    pub(super) struct Matrices {
        pub(super) m: usize,
        pub(super) k: usize,
        pub(super) n: usize,
    }

    impl Matrices {
        /// `c = a·b` with the operands' own strides (none negative), c row-major.
        pub(super) fn f32(&self, a: &[f32], sa: [isize; 2], b: &[f32], sb: [isize; 2], c: &mut [f32]) {
            let (m, k, n) = (self.m, self.k, self.n);
            let step = |s: [isize; 2]| (s[0] as usize, s[1] as usize);
            let a = ArrayView2::from_shape((m, k).strides(step(sa)), a);
            let b = ArrayView2::from_shape((k, n).strides(step(sb)), b);
            let c = ArrayViewMut2::from_shape((m, n), c);
            // The callers size the slices; a view that does not fit would be their bug and leaves zeros that every test sees.
            if let (Ok(a), Ok(b), Ok(mut c)) = (a, b, c) {
                general_mat_mul(1.0, &a, &b, 0.0, &mut c);
            } else {
                debug_assert!(false, "a matrix leaves its slice");
            }
        }
    }
}

fn eval_matmul(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let (x, y) = (&a.operands[0], &a.operands[1]);
    let types = [x.ty(), y.ty()];
    let out = infer_matmul(&InferArgs { operands: &types, attrs: a.attrs, consts: &[None, None], fresh: "" })?;
    budget(&out[0])?;
    let shape = out[0].shape.to_static().unwrap_or_default();
    // 1-D operands become a row or a column.
    let x = if x.rank() == 1 { x.view(&[1, x.len()], &[0, x.strides()[0]], x.offset()) } else { x.clone() };
    let y = if y.rank() == 1 { y.view(&[y.len(), 1], &[y.strides()[0], 0], y.offset()) } else { y.clone() };
    let (m, k, n) = (x.shape()[x.rank() - 2], x.shape()[x.rank() - 1], y.shape()[y.rank() - 1]);
    let lead_x = Shape::known(&x.shape()[..x.rank() - 2]);
    let lead_y = Shape::known(&y.shape()[..y.rank() - 2]);
    let batch = broadcast_shapes(&[&lead_x, &lead_y])?.to_static().unwrap_or_default();
    let d = x.dtype();
    let (bx, by) = (broadcast_to(&x, &[&batch[..], &[m, k]].concat()), broadcast_to(&y, &[&batch[..], &[k, n]].concat()));
    let count: usize = batch.iter().product();
    let starts = |t: &Tensor| t.view(&batch, &t.strides()[..batch.len()], t.offset()).storage_indices();
    if d.is_float() && d != DType::F64 {
        let (bx, by) = if d == DType::F32 { (bx, by) } else { (x.cast(DType::F32), y.cast(DType::F32)) };
        let (bx, by) = if d == DType::F32 {
            (bx, by)
        } else {
            (broadcast_to(&bx, &[&batch[..], &[m, k]].concat()), broadcast_to(&by, &[&batch[..], &[k, n]].concat()))
        };
        let (Buffer::F32(p), Buffer::F32(q)) = (bx.buffer(), by.buffer()) else {
            return Err(OpError::dtype("operands of different types"));
        };
        let (sx, sy) = (bx.strides(), by.strides());
        let (sx, sy) = ([sx[sx.len() - 2], sx[sx.len() - 1]], [sy[sy.len() - 2], sy[sy.len() - 1]]);
        let mut c = vec![0f32; count * m * n];
        if count * m * n > 0 && k > 0 {
            let (ox, oy) = (starts(&bx), starts(&by));
            // Negative strides (reversed views) are made plain first.
            if sx.iter().chain(&sy).any(|&s| s < 0) {
                return eval_matmul(&EvalArgs { operands: &[x.contiguous(), y.contiguous()], attrs: a.attrs });
            }
            if count > 1 {
                c.par_chunks_mut(m * n).enumerate().for_each(|(i, c)| gemm::Matrices { m, k, n }.f32(&p[ox[i]..], sx, &q[oy[i]..], sy, c));
            } else {
                gemm_f32([m, k, n], &p[ox[0]..], sx, &q[oy[0]..], sy, &mut c);
            }
        }
        return Ok(vec![Tensor::f32(&shape, c).cast(d)]);
    }
    // f64 and integers: a plain product.
    if d == DType::F64 {
        let (p, q) = (bx.to_f64s(), by.to_f64s());
        let mut c = vec![0f64; count * m * n];
        for b in 0..count {
            for i in 0..m {
                for l in 0..k {
                    let v = p[(b * m + i) * k + l];
                    for j in 0..n {
                        c[(b * m + i) * n + j] += v * q[(b * k + l) * n + j];
                    }
                }
            }
        }
        return Ok(vec![Tensor::from_f64s(d, &shape, &c)]);
    }
    let (p, q) = (bx.cast(DType::I64).to_ints().unwrap_or_default(), by.cast(DType::I64).to_ints().unwrap_or_default());
    let mut c = vec![0i64; count * m * n];
    for b in 0..count {
        for i in 0..m {
            for l in 0..k {
                let v = p[(b * m + i) * k + l];
                for j in 0..n {
                    let s = &mut c[(b * m + i) * n + j];
                    *s = s.wrapping_add(v.wrapping_mul(q[(b * k + l) * n + j]));
                }
            }
        }
    }
    Ok(vec![Tensor::from_i64s(d, &shape, &c)])
}

fn infer_conv(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    let d = same_types(a)?;
    let (x, w) = (&a.operands[0], &a.operands[1]);
    let groups = int(a.attrs, "groups")?;
    if groups < 1 {
        return Err(OpError::attr(format!("groups = {groups} must be positive")));
    }
    if w.rank() < 3 || x.rank() != w.rank() {
        return Err(OpError::shape(format!("input {x} and weight {w} must have one rank of at least 3"))
            .mark(1, format!("must have rank {}", x.rank().max(3))));
    }
    let kernel = Shape(w.shape.0[2..].to_vec());
    let Some(kernel) = kernel.to_static() else { return Err(OpError::shape(format!("the kernel of {w} must be known"))) };
    let g = groups as u64;
    if let (Some(c), Some(per)) = (x.shape[1].known(), w.shape[1].known())
        && c != per.saturating_mul(g)
    {
        return Err(OpError::shape(format!("input has {c} channels, the weight takes {per} in each of {groups} groups"))
            .mark(0, format!("axis 1 must be {}", per.saturating_mul(g)))
            .mark(1, "axis 1 times groups must be the input's channels"));
    }
    if let Some(m) = w.shape[0].known()
        && m % g != 0
    {
        return Err(OpError::shape(format!("{m} output channels do not divide by {groups} groups"))
            .mark(1, format!("axis 0 must be a multiple of {groups}")));
    }
    let window: Vec<i64> = kernel.iter().map(|&k| k as i64).collect();
    let spatial = window_shape(a, x, &window)?;
    let dims: Vec<Dim> = [x.shape[0].clone(), w.shape[0].clone()].into_iter().chain(spatial).collect();
    Ok(vec![TensorType::new(d, Shape(dims))])
}

/// im2col per group and image, then gemm: `out[m, pixels] = w[m, c·taps] · columns[c·taps, pixels]`.
fn eval_conv(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    let (x, w) = (&a.operands[0], &a.operands[1]);
    let d = x.dtype();
    let types = [x.ty(), w.ty()];
    let out_type = infer_conv(&InferArgs { operands: &types, attrs: a.attrs, consts: &[None, None], fresh: "" })?.remove(0);
    budget(&out_type)?;
    let out = out_type.shape.to_static().unwrap_or_default();
    if d == DType::F64 {
        return conv_f64(a, &out);
    }
    let (x, w) = (x.cast(DType::F32).contiguous(), w.cast(DType::F32).contiguous());
    let (Buffer::F32(xv), Buffer::F32(wv)) = (x.buffer(), w.buffer()) else { return Err(OpError::dtype("convolution of another type")) };
    let (xv, wv) = (&xv[x.offset()..x.offset() + x.len()], &wv[w.offset()..w.offset() + w.len()]);
    let groups = int(a.attrs, "groups")? as usize;
    let geometry = Geometry::new(a, &x, &w, &out)?;
    let (m, c) = (w.shape()[0] / groups, w.shape()[1]);
    let (taps, pixels, plane) = (geometry.taps.len(), geometry.pixels, geometry.plane);
    let mut y = vec![0f32; out.iter().product()];
    if y.is_empty() {
        return Ok(vec![Tensor::new(DType::F32, &out, Buffer::F32(y)).cast(d)]);
    }
    let pointwise = geometry.is_pointwise();
    if m == 1 && c == 1 {
        // Depthwise: a sum of shifted planes.
        y.par_chunks_mut(pixels).enumerate().for_each(|(i, y)| {
            let (n, ch) = (i / groups, i % groups);
            let plane = &xv[(n * groups + ch) * plane..][..plane];
            for (t, tap) in geometry.taps.iter().enumerate() {
                geometry.accumulate(tap, wv[ch * taps + t], plane, y);
            }
        });
    } else {
        for (i, y) in y.chunks_mut(m * pixels).enumerate() {
            let (n, g) = (i / groups, i % groups);
            let image = &xv[(n * groups + g) * c * plane..][..c * plane];
            let weights = &wv[g * m * c * taps..][..m * c * taps];
            if pointwise {
                gemm_f32([m, c, pixels], weights, [c as isize, 1], image, [plane as isize, 1], y);
            } else {
                let mut columns = vec![0f32; c * taps * pixels];
                columns.par_chunks_mut(pixels).enumerate().for_each(|(r, col)| {
                    geometry.gather(&geometry.taps[r % taps], &image[r / taps * plane..][..plane], col);
                });
                gemm_f32([m, c * taps, pixels], weights, [(c * taps) as isize, 1], &columns, [pixels as isize, 1], y);
            }
        }
    }
    Ok(vec![Tensor::f32(&out, y).cast(d)])
}

/// Where each output pixel reads, per tap.
struct Geometry {
    spatial: Vec<usize>,
    out: Vec<usize>,
    strides: Vec<i64>,
    low: Vec<i64>,
    /// Offsets of each tap, dilation included.
    taps: Vec<Vec<i64>>,
    pixels: usize,
    plane: usize,
}

impl Geometry {
    fn new(a: &EvalArgs, x: &Tensor, w: &Tensor, out: &[usize]) -> Result<Geometry, OpError> {
        let (strides, pads, dilations) = (ints(a.attrs, "strides")?, ints(a.attrs, "pads")?, ints(a.attrs, "dilations")?);
        let kernel = &w.shape()[2..];
        let taps = (0..kernel.iter().product::<usize>())
            .map(|mut t| {
                let mut v = vec![0; kernel.len()];
                for i in (0..kernel.len()).rev() {
                    v[i] = (t % kernel[i]) as i64 * dilations[i];
                    t /= kernel[i];
                }
                v
            })
            .collect();
        let spatial = x.shape()[2..].to_vec();
        Ok(Geometry {
            plane: spatial.iter().product(),
            pixels: out[2..].iter().product(),
            spatial,
            out: out[2..].to_vec(),
            strides: strides.to_vec(),
            low: pads[..kernel.len()].to_vec(),
            taps,
        })
    }
    fn is_pointwise(&self) -> bool {
        self.taps.len() == 1 && self.strides.iter().all(|&s| s == 1) && self.low.iter().all(|&p| p == 0) && self.spatial == self.out
    }
    /// For output rows (all axes but the last): start of the input row, if inside, and the span of the last axis that is inside.
    fn rows(&self, tap: &[i64], mut f: impl FnMut(usize, Option<usize>, std::ops::Range<usize>, i64)) {
        let last = self.out.len() - 1;
        let (width, n) = (self.out[last], self.spatial[last] as i64);
        let shift = tap[last] - self.low[last];
        let s = self.strides[last];
        // 0 <= o·s + shift < n
        let lo = if shift < 0 { (-shift + s - 1) / s } else { 0 }.min(width as i64);
        let hi = if n - shift <= 0 { 0 } else { (n - shift + s - 1) / s }.clamp(lo, width as i64);
        for row in 0..self.pixels / width.max(1) {
            let (mut r, mut at, mut step, mut inside) = (row, 0i64, n, true);
            for i in (0..last).rev() {
                let p = (r % self.out[i]) as i64 * self.strides[i] - self.low[i] + tap[i];
                r /= self.out[i];
                inside &= p >= 0 && p < self.spatial[i] as i64;
                at += p * step;
                step *= self.spatial[i] as i64;
            }
            f(row * width, inside.then_some(at.max(0) as usize), lo as usize..hi as usize, shift);
        }
    }
    fn gather(&self, tap: &[i64], plane: &[f32], col: &mut [f32]) {
        let s = self.strides[self.out.len() - 1];
        self.rows(tap, |o, row, span, shift| {
            if let Some(row) = row {
                if s == 1 && !span.is_empty() {
                    let from = (row as i64 + span.start as i64 + shift) as usize;
                    col[o + span.start..o + span.end].copy_from_slice(&plane[from..from + span.len()]);
                } else {
                    for p in span {
                        col[o + p] = plane[(row as i64 + p as i64 * s + shift) as usize];
                    }
                }
            }
        });
    }
    fn accumulate(&self, tap: &[i64], w: f32, plane: &[f32], y: &mut [f32]) {
        let s = self.strides[self.out.len() - 1];
        self.rows(tap, |o, row, span, shift| {
            if let Some(row) = row {
                if s == 1 && !span.is_empty() {
                    let from = (row as i64 + span.start as i64 + shift) as usize;
                    for (y, x) in y[o + span.start..o + span.end].iter_mut().zip(&plane[from..from + span.len()]) {
                        *y += w * x;
                    }
                } else {
                    for p in span {
                        y[o + p] += w * plane[(row as i64 + p as i64 * s + shift) as usize];
                    }
                }
            }
        });
    }
}

fn conv_f64(a: &EvalArgs, out: &[usize]) -> Result<Vec<Tensor>, OpError> {
    let (x, w) = (a.operands[0].contiguous(), a.operands[1].contiguous());
    let groups = int(a.attrs, "groups")? as usize;
    let g = Geometry::new(a, &x, &w, out)?;
    let (xv, wv) = (x.to_f64s(), w.to_f64s());
    let (mo, c, taps) = (w.shape()[0], w.shape()[1], g.taps.len());
    let mut y = vec![0f64; out.iter().product()];
    for n in 0..out[0] {
        for m in 0..mo {
            let group = m / (mo / groups);
            for ch in 0..c {
                let plane = (n * groups * c + group * c + ch) * g.plane;
                for (t, tap) in g.taps.iter().enumerate() {
                    let weight = wv[(m * c + ch) * taps + t];
                    let base = (n * mo + m) * g.pixels;
                    let s = g.strides[g.out.len() - 1];
                    g.rows(tap, |o, row, span, shift| {
                        if let Some(row) = row {
                            for p in span {
                                y[base + o + p] += weight * xv[plane + (row as i64 + p as i64 * s + shift) as usize];
                            }
                        }
                    });
                }
            }
        }
    }
    Ok(vec![Tensor::from_f64s(DType::F64, out, &y)])
}

static MATMUL: OpDef = OpDef {
    name: "matmul",
    doc: "Σₖ a[…, m, k]·b[…, k, n] with numpy's batch broadcasting and 1-D operands. 16-bit floats are summed in f32, integers wrap.",
    operands: &[operand("a", TypeSet::Number), operand("b", TypeSet::Number)],
    attrs: &[],
    results: Results::One,
    kind: Kind::Contract(Contract::MatMul),
    tolerance: Tolerance::Reassociated(1e-6),
    examples: &["matmul([[1, 2], [3, 4]], [[5], [6]]) = [[17], [39]]"],
    infer: infer_matmul,
    eval: eval_matmul,
};
static CONV: OpDef = OpDef {
    name: "conv",
    doc: "Convolution (cross-correlation) of x[N, C, …] with w[M, C/groups, …]; pads are all begins, then all ends (ONNX Conv without bias).",
    operands: &[operand("x", TypeSet::Float), operand("w", TypeSet::Float)],
    attrs: &[
        attr("strides", AttrType::Ints),
        attr("pads", AttrType::Ints),
        attr("dilations", AttrType::Ints),
        attr("groups", AttrType::Int),
    ],
    results: Results::One,
    kind: Kind::Contract(Contract::Conv),
    tolerance: Tolerance::Reassociated(1e-6),
    examples: &["conv([[[1, 2, 3]]], [[[1, 10]]], strides=[1], pads=[0, 0], dilations=[1], groups=1) = [[[21, 32]]]"],
    infer: infer_conv,
    eval: eval_conv,
};

pub(super) static FAMILIES: &[&[&OpDef]] = &[&[&MATMUL, &CONV]];
