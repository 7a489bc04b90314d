//! Recurrent layers: the input projection of all steps is one matrix product before the loop, each step one more and elementwise ops.

use super::math::clamp;
use super::quant::dynamic;
use super::{Row, many};
use crate::onnx::context::{Context, R, V, attrs};
use crate::onnx::steps::Steps;
use tahoma_core::{DType, OpError};

pub(super) static ROWS: &[Row] =
    &[many("RNN", 1, rnn), many("GRU", 1, rnn), many("LSTM", 1, rnn), many("DynamicQuantizeLSTM", 1, rnn).of("com.microsoft")];

#[derive(Clone)]
struct Activation {
    name: String,
    alpha: Option<f64>,
    beta: Option<f64>,
}

impl Activation {
    fn apply(&self, cx: &mut Context, x: V) -> R<V> {
        let a = |d: f64| self.alpha.unwrap_or(d);
        let b = |d: f64| self.beta.unwrap_or(d);
        match self.name.to_ascii_lowercase().as_str() {
            n @ ("relu" | "tanh" | "sigmoid" | "softsign" | "softplus") => cx.f(n, &[x]),
            "leakyrelu" => cx.op("leaky_relu", &[x], attrs! {"alpha": a(0.01)}),
            "thresholdedrelu" => cx.op("thresholded_relu", &[x], attrs! {"alpha": a(1.0)}),
            "elu" => cx.op("elu", &[x], attrs! {"alpha": a(1.0)}),
            "hardsigmoid" => cx.op("hard_sigmoid", &[x], attrs! {"alpha": a(0.2), "beta": b(0.5)}),
            "affine" => {
                let y = cx.scale(x, a(1.0))?;
                let c = cx.like(b(0.0), y)?;
                cx.add(y, c)
            }
            "scaledtanh" => {
                let y = cx.scale(x, b(1.0))?;
                let y = cx.f("tanh", &[y])?;
                cx.scale(y, a(1.0))
            }
            other => Err(OpError::attr(format!("activation {other:?} is unknown"))),
        }
    }
}

/// What one direction needs at each step.
#[derive(Clone)]
struct Cell {
    kind: &'static str,
    /// The hidden state goes through 8 bits before it meets the weights.
    quantised: bool,
    hidden: usize,
    /// Recurrent weights, transposed: [hidden, gates * hidden].
    r: V,
    /// Recurrent bias, [gates * hidden].
    rb: Option<V>,
    /// Peepholes, [3 * hidden].
    peephole: Option<V>,
    f: Vec<Activation>,
    clip: Option<f64>,
    input_forget: bool,
    linear_before_reset: bool,
}

fn rnn(cx: &mut Context) -> R<Vec<V>> {
    let quantised = cx.schema.name == "DynamicQuantizeLSTM";
    let kind = if quantised { "LSTM" } else { cx.schema.name };
    let gates = match kind {
        "LSTM" => 4,
        "GRU" => 3,
        _ => 1,
    };
    let (mut x, mut w, mut r, b) = (cx.input(0)?, cx.input(1)?, cx.input(2)?, cx.try_opt(3)?);
    if quantised {
        (w, r) = (dequantised(cx, w, 8)?, dequantised(cx, r, 10)?);
        x = dynamic(cx, x)?;
    }
    let batch_first = cx.attrs.int("layout").unwrap_or(0) != 0;
    if batch_first {
        x = cx.transpose(x, &[1, 0, 2])?;
    }
    let (xd, wd, rd) = (cx.dims(x)?, cx.dims(w)?, cx.dims(r)?);
    let directions = match cx.attrs.str("direction").unwrap_or("forward") {
        "forward" => vec![false],
        "reverse" => vec![true],
        "bidirectional" => vec![false, true],
        other => return Err(OpError::attr(format!("direction {other:?} is none of forward, reverse, bidirectional"))),
    };
    if xd.len() != 3 || wd.len() != 3 || rd.len() != 3 {
        return Err(OpError::shape("X, W and R must have rank 3"));
    }
    let (steps, batch, width, hidden) = (xd[0], xd[1], xd[2], rd[2]);
    let d = directions.len();
    if wd != [d, gates * hidden, width] {
        return Err(OpError::shape(format!("W must be [{d}, {}, {width}]", gates * hidden))
            .mark(1, format!("must be [{d}, {}, {width}]", gates * hidden)));
    }
    if rd != [d, gates * hidden, hidden] {
        return Err(OpError::shape(format!("R must be [{d}, {}, {hidden}]", gates * hidden))
            .mark(2, format!("must be [{d}, {}, {hidden}]", gates * hidden)));
    }
    if cx.attrs.int("hidden_size").is_some_and(|h| h != hidden as i64) {
        return Err(OpError::attr(format!("hidden_size does not match R, which says {hidden}")));
    }
    // Which sequences go on at each step, [steps, batch, 1].
    let live = match cx.try_opt(4)? {
        // Where all sequences are full there is nothing to mask.
        Some(l) if cx.ints_of(l).is_some_and(|l| l.iter().all(|&l| l == steps as i64)) => None,
        Some(l) => {
            let l = cx.cast(l, DType::I64)?;
            let l = cx.reshape(l, &[1, batch, 1])?;
            let now = cx.iota(steps)?;
            let now = cx.reshape(now, &[steps, 1, 1])?;
            Some(cx.f("lt", &[now, l])?)
        }
        None => None,
    };
    let mut initial = [cx.try_opt(5)?, if kind == "LSTM" { cx.try_opt(6)? } else { None }];
    if batch_first {
        for v in initial.iter_mut().flatten() {
            *v = cx.transpose(*v, &[1, 0, 2])?;
        }
    }
    let peepholes = if kind == "LSTM" { cx.try_opt(7)? } else { None };
    let all = activations(cx, kind, d)?;
    let per = all.len() / d;
    let dtype = cx.dtype(x);
    let (mut ys, mut hs, mut cs) = (vec![], vec![], vec![]);
    for (k, &reverse) in directions.iter().enumerate() {
        let part = |cx: &mut Context, v: V, shape: &[usize]| {
            let s = cx.slice(v, 0, k, 1)?;
            cx.reshape(s, shape)
        };
        let wk = part(cx, w, &[gates * hidden, width])?;
        let wk = cx.transpose(wk, &[1, 0])?;
        let rk = part(cx, r, &[gates * hidden, hidden])?;
        let rk = cx.transpose(rk, &[1, 0])?;
        let flat = cx.reshape(x, &[steps * batch, width])?;
        let mut projected = cx.matmul(flat, wk)?;
        let mut rb = None;
        if let Some(b) = b {
            let both = part(cx, b, &[2 * gates * hidden])?;
            let wb = cx.slice(both, 0, 0, gates * hidden)?;
            let own = cx.slice(both, 0, gates * hidden, gates * hidden)?;
            projected = cx.add(projected, wb)?;
            rb = Some(own);
        }
        let projected = cx.reshape(projected, &[steps, batch, gates * hidden])?;
        let peephole = match peepholes {
            Some(p) => Some(part(cx, p, &[3 * hidden])?),
            None => None,
        };
        let cell = Cell {
            kind,
            quantised,
            hidden,
            r: rk,
            rb,
            peephole,
            f: all[k * per..(k + 1) * per].to_vec(),
            clip: cx.attrs.float("clip"),
            input_forget: cx.attrs.int("input_forget").unwrap_or(0) != 0,
            linear_before_reset: cx.attrs.int("linear_before_reset").unwrap_or(0) != 0,
        };
        let start = |cx: &mut Context, v: Option<V>| match v {
            Some(v) => part(cx, v, &[batch, hidden]),
            None => cx.full(0.0, dtype, &[batch, hidden]),
        };
        let mut carried = vec![start(cx, initial[0])?];
        if kind == "LSTM" {
            carried.push(start(cx, initial[1])?);
        }
        let sliced: Vec<(V, bool)> = std::iter::once(projected).chain(live).map(|v| (v, reverse)).collect();
        let shared: Vec<V> = cell.shared().collect();
        let loop_ = Steps { trips: steps, carried: &carried, sliced: &sliced, shared: &shared, kept: &[reverse] };
        let out = match steps {
            // No step gives a row to stack.
            0 => [carried.clone(), vec![cx.full(0.0, dtype, &[0, batch, hidden])?]].concat(),
            _ => loop_.run(cx, &mut |cx, carried, rows, shared| cell.with(shared).step(cx, rows, carried))?,
        };
        ys.push(cx.reshape(out[carried.len()], &[steps, 1, batch, hidden])?);
        let (h, c) = (out[0], out[carried.len() - 1]);
        hs.push(cx.reshape(h, &[1, batch, hidden])?);
        cs.push(cx.reshape(c, &[1, batch, hidden])?);
    }
    let mut y = cx.concat(&ys, 1)?;
    let (mut h, mut c) = (cx.concat(&hs, 0)?, cx.concat(&cs, 0)?);
    if batch_first {
        y = cx.transpose(y, &[2, 0, 1, 3])?;
        (h, c) = (cx.transpose(h, &[1, 0, 2])?, cx.transpose(c, &[1, 0, 2])?);
    }
    Ok(if kind == "LSTM" { vec![y, h, c] } else { vec![y, h] })
}

/// Weights `[directions, in, gates · hidden]` of 8 bits with their scale and zero point (operands `i`, `i + 1`; per direction or per
/// column), as `[directions, gates · hidden, in]`.
fn dequantised(cx: &mut Context, w: V, i: usize) -> R<V> {
    let (scale, zero) = (cx.input(i)?, cx.input(i + 1)?);
    let d = cx.dims(w)?;
    if d.len() != 3 {
        return Err(OpError::shape("quantised weights must have rank 3"));
    }
    let spread = |cx: &mut Context, v: V| {
        let columns = cx.dims(v)?.iter().product::<usize>() / d[0].max(1);
        cx.reshape(v, &[d[0], 1, columns])
    };
    let (scale, zero) = (spread(cx, scale)?, spread(cx, zero)?);
    let w = super::linear::centred(cx, w, Some(zero))?;
    let w = cx.cast(w, DType::F32)?;
    let w = cx.mul(w, scale)?;
    cx.transpose(w, &[0, 2, 1])
}

/// The activation functions of all directions, with their parameters in the order ONNX hands them out.
fn activations(cx: &Context, kind: &str, directions: usize) -> R<Vec<Activation>> {
    let default: &[&str] = match kind {
        "LSTM" => &["Sigmoid", "Tanh", "Tanh"],
        "GRU" => &["Sigmoid", "Tanh"],
        _ => &["Tanh"],
    };
    let names: Vec<&str> = match cx.attrs.strs("activations") {
        Some(n) => n,
        None => default.repeat(directions),
    };
    if names.len() != default.len() * directions {
        return Err(OpError::attr(format!("{} activations are given, {} needed", names.len(), default.len() * directions)));
    }
    let mut alphas = cx.attrs.floats("activation_alpha").unwrap_or(&[]).iter();
    let mut betas = cx.attrs.floats("activation_beta").unwrap_or(&[]).iter();
    Ok(names
        .into_iter()
        .map(|n| {
            let lower = n.to_ascii_lowercase();
            let alpha = matches!(lower.as_str(), "leakyrelu" | "thresholdedrelu" | "elu" | "hardsigmoid" | "affine" | "scaledtanh");
            let beta = matches!(lower.as_str(), "hardsigmoid" | "affine" | "scaledtanh");
            Activation {
                name: n.to_string(),
                alpha: if alpha { alphas.next().map(|&a| a as f64) } else { None },
                beta: if beta { betas.next().map(|&b| b as f64) } else { None },
            }
        })
        .collect())
}

impl Cell {
    /// What every step reads.
    fn shared(&self) -> impl Iterator<Item = V> {
        [Some(self.r), self.rb, self.peephole].into_iter().flatten()
    }
    /// The same over other values of [`Cell::shared`].
    fn with(&self, shared: &[V]) -> Cell {
        let mut next = shared.iter().copied();
        let mut cell = self.clone();
        for v in [Some(&mut cell.r), cell.rb.as_mut(), cell.peephole.as_mut()].into_iter().flatten() {
            *v = next.next().unwrap_or(*v);
        }
        cell
    }
    /// One step, from the projected input and which sequences go on: the next state and what it gives. A sequence that has ended keeps
    /// its state and gives 0.
    fn step(&self, cx: &mut Context, rows: &[V], carried: &[V]) -> R<Vec<V>> {
        let (xt, h) = (rows[0], carried[0]);
        let seen = if self.quantised { dynamic(cx, h)? } else { h };
        let mut next = match self.kind {
            "LSTM" => {
                let (h, c) = self.lstm(cx, xt, seen, carried[1])?;
                vec![h, c]
            }
            "GRU" => vec![self.gru(cx, xt, h)?],
            _ => vec![self.plain(cx, xt, h)?],
        };
        let mut y = next[0];
        if let Some(&live) = rows.get(1) {
            let zero = cx.like(0.0, y)?;
            y = cx.f("select", &[live, y, zero])?;
            for (n, &before) in next.iter_mut().zip(carried) {
                *n = cx.f("select", &[live, *n, before])?;
            }
        }
        next.push(y);
        Ok(next)
    }
    fn gate(&self, cx: &mut Context, v: V, i: usize) -> R<V> {
        cx.slice(v, 1, i * self.hidden, self.hidden)
    }
    fn clipped(&self, cx: &mut Context, v: V) -> R<V> {
        match self.clip {
            Some(c) => {
                let (lo, hi) = (cx.like(-c, v)?, cx.like(c, v)?);
                clamp(cx, v, Some(lo), Some(hi))
            }
            None => Ok(v),
        }
    }
    fn act(&self, cx: &mut Context, i: usize, v: V) -> R<V> {
        let v = self.clipped(cx, v)?;
        self.f[i].apply(cx, v)
    }
    /// `h R' + rb`
    fn recur(&self, cx: &mut Context, h: V) -> R<V> {
        let y = cx.matmul(h, self.r)?;
        match self.rb {
            Some(b) => cx.add(y, b),
            None => Ok(y),
        }
    }
    fn plain(&self, cx: &mut Context, x: V, h: V) -> R<V> {
        let r = self.recur(cx, h)?;
        let s = cx.add(x, r)?;
        self.act(cx, 0, s)
    }
    /// Gates i, o, f, c.
    fn lstm(&self, cx: &mut Context, x: V, h: V, c: V) -> R<(V, V)> {
        let r = self.recur(cx, h)?;
        let s = cx.add(x, r)?;
        let (mut i, mut o, mut f, g) = (self.gate(cx, s, 0)?, self.gate(cx, s, 1)?, self.gate(cx, s, 2)?, self.gate(cx, s, 3)?);
        let peek = |cx: &mut Context, v: V, k: usize, c: V| match self.peephole {
            Some(p) => {
                let w = cx.slice(p, 0, k * self.hidden, self.hidden)?;
                let t = cx.mul(w, c)?;
                cx.add(v, t)
            }
            None => Ok(v),
        };
        i = peek(cx, i, 0, c)?;
        let i = self.act(cx, 0, i)?;
        let f = if self.input_forget {
            let unit = cx.like(1.0, i)?;
            cx.sub(unit, i)?
        } else {
            f = peek(cx, f, 2, c)?;
            self.act(cx, 0, f)?
        };
        let g = self.act(cx, 1, g)?;
        let (keep, new) = (cx.mul(f, c)?, cx.mul(i, g)?);
        let c = cx.add(keep, new)?;
        o = peek(cx, o, 1, c)?;
        let o = self.act(cx, 0, o)?;
        let t = self.f[2].apply(cx, c)?;
        Ok((cx.mul(o, t)?, c))
    }
    /// Gates z, r, h.
    fn gru(&self, cx: &mut Context, x: V, h: V) -> R<V> {
        let n = self.hidden;
        let part = |cx: &mut Context, v: V, axis: usize, from: usize, count: usize| cx.slice(v, axis, from * n, count * n);
        let (rw, hw) = (part(cx, self.r, 1, 0, 2)?, part(cx, self.r, 1, 2, 1)?);
        let (rb, hb) = match self.rb {
            Some(b) => (Some(part(cx, b, 0, 0, 2)?), Some(part(cx, b, 0, 2, 1)?)),
            None => (None, None),
        };
        let plus = |cx: &mut Context, v: V, b: Option<V>| match b {
            Some(b) => cx.add(v, b),
            None => Ok(v),
        };
        let zr = cx.matmul(h, rw)?;
        let zr = plus(cx, zr, rb)?;
        let xzr = cx.slice(x, 1, 0, 2 * n)?;
        let zr = cx.add(xzr, zr)?;
        let (z, r) = (self.gate(cx, zr, 0)?, self.gate(cx, zr, 1)?);
        let (z, r) = (self.act(cx, 0, z)?, self.act(cx, 0, r)?);
        let inner = if self.linear_before_reset {
            let v = cx.matmul(h, hw)?;
            let v = plus(cx, v, hb)?;
            cx.mul(r, v)?
        } else {
            let v = cx.mul(r, h)?;
            let v = cx.matmul(v, hw)?;
            plus(cx, v, hb)?
        };
        let xh = self.gate(cx, x, 2)?;
        let s = cx.add(xh, inner)?;
        let g = self.act(cx, 1, s)?;
        let unit = cx.like(1.0, z)?;
        let rest = cx.sub(unit, z)?;
        let (a, b) = (cx.mul(rest, g)?, cx.mul(z, h)?);
        cx.add(a, b)
    }
}
