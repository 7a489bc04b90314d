//! The composites that models spend their time in, evaluated in one pass over f32 instead of op by op. Every step rounds as the
//! definition's ops do, so the bits are equal; a test holds them to it. `None`: evaluate the definition.

use super::common::{axis, float};
use crate::kernels::map::map1;
use crate::kernels::{chunks, elements, reduce};
use crate::numeric::erf;
use crate::op::{EvalArgs, OpError};
use crate::tensor::Tensor;
use crate::types::DType;

fn max(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}
fn min(a: f32, b: f32) -> f32 {
    if a < b || a.is_nan() { a } else { b }
}
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// One f32 of a tensor that holds just one.
fn scalar(t: &Tensor) -> Option<f32> {
    (t.len() == 1 && t.dtype() == DType::F32).then(|| elements::<f32>(&t.contiguous())[0])
}

pub(super) fn eval(name: &str, a: &EvalArgs) -> Option<Result<Vec<Tensor>, OpError>> {
    let x = a.operands.first().filter(|x| x.dtype() == DType::F32)?;
    let at = |n: &str| a.attrs.float(n).map(|v| v as f32);
    let y = match name {
        "relu" => map1(x, |v: f32| max(v, 0.0)),
        "clip" => {
            let (lo, hi) = (scalar(&a.operands[1])?, scalar(&a.operands[2])?);
            if a.operands[1..].iter().any(|t| t.rank() > x.rank()) {
                return None;
            }
            map1(x, move |v: f32| min(max(v, lo), hi))
        }
        "leaky_relu" => {
            let k = at("alpha")?;
            map1(x, move |v: f32| if v < 0.0 { v * k } else { v })
        }
        "hard_sigmoid" => {
            let (k, c) = (at("alpha")?, at("beta")?);
            map1(x, move |v: f32| min(max(v * k + c, 0.0), 1.0))
        }
        "hard_swish" => {
            let k = (1.0f64 / 6.0) as f32;
            map1(x, move |v: f32| v * min(max(v * k + 0.5, 0.0), 1.0))
        }
        "silu" => map1(x, |v: f32| v * sigmoid(v)),
        "gelu" => {
            let r = std::f64::consts::FRAC_1_SQRT_2 as f32;
            map1(x, move |v: f32| (v * 0.5) * (erf((v * r) as f64) as f32 + 1.0))
        }
        "softmax" | "log_softmax" => {
            let ax = axis(a.attrs, "axis", x.rank()).ok()?;
            if ax + 1 != x.rank() || x.shape()[ax] == 0 {
                return None;
            }
            reduce::softmax_rows(elements(&x.contiguous()), x.shape()[ax], name == "log_softmax")
        }
        "layer_norm" => {
            let first = axis(a.attrs, "axis", x.rank()).ok()?;
            let n: usize = x.shape()[first..].iter().product();
            let (k, c) = (&a.operands[1], &a.operands[2]);
            if n == 0 || [k, c].iter().any(|t| t.dtype() != DType::F32 || t.shape() != &x.shape()[first..]) {
                return None;
            }
            let (x, k, c) = (x.contiguous(), k.contiguous(), c.contiguous());
            reduce::layer_norm_rows(elements(&x), n, elements(&k), elements(&c), float(a.attrs, "epsilon").ok()? as f32)
        }
        "batch_norm" => {
            let channels = *x.shape().get(1)?;
            let v: Vec<Tensor> = a.operands[1..].iter().map(Tensor::contiguous).collect();
            if v.len() != 4 || v.iter().any(|t| t.dtype() != DType::F32 || t.shape() != [channels]) {
                return None;
            }
            let [k, c, mean, var] = [0, 1, 2, 3].map(|i| elements::<f32>(&v[i]));
            let eps = float(a.attrs, "epsilon").ok()? as f32;
            let factors: Vec<f32> = k.iter().zip(var).map(|(k, v)| k / (v + eps).sqrt()).collect();
            let shifts: Vec<f32> = c.iter().zip(mean).zip(&factors).map(|((c, m), k)| c - m * k).collect();
            let plane: usize = x.shape()[2..].iter().product();
            let (x, mut y) = (x.contiguous(), vec![0f32; x.len()]);
            let from = elements::<f32>(&x);
            chunks(&mut y, plane, plane, |i, out| {
                let (k, c) = (factors[i % channels], shifts[i % channels]);
                out.iter_mut().zip(&from[i * plane..]).for_each(|(o, v)| *o = v * k + c);
            });
            y
        }
        _ => return None,
    };
    Some(Ok(vec![Tensor::f32(x.shape(), y)]))
}
