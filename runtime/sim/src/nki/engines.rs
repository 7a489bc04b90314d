//! What the Vector, Scalar and GpSimd instructions compute within each lane; `lanes` has those that move elements.
//!
//! Row by row: load a partition's elements as fp32 (or exact integers), apply, round to the destination's type, store.

use super::mem::{OTHER, Store, load_f, load_i, mark, store_f, store_i, to_bits};
use super::run::Run;
use super::value::{POISON_F, int_range, wrap};
use tahoma_core::DType;
use tahoma_machine::trn2::Engine;
use tahoma_machine::trn2::Fault;
use tahoma_machine::trn2::legal;
use tahoma_machine::trn2::ops::{AluDef, Group};
use tahoma_machine::trn2::resolve::{Arg, Op};
use tahoma_machine::trn2::walk::At;

pub(super) type Done = Result<(), Fault>;

/// A scalar operand for each partition.
enum Scalars<'a> {
    One(f32),
    Tile(At<'a>),
}

/// `a op b`, or `b op a`.
fn apply(f: &AluDef, reverse: bool, a: f32, b: f32) -> f32 {
    if reverse { (f.f)(b, a) } else { (f.f)(a, b) }
}

/// Applies an operator to a row and a scalar. The common ones are written out so that they vectorise.
fn row_scalar(f: &AluDef, reverse: bool, row: &mut [f32], s: f32) {
    match (f.name, reverse) {
        ("add", _) => row.iter_mut().for_each(|x| *x += s),
        ("multiply", _) => row.iter_mut().for_each(|x| *x *= s),
        ("subtract", false) => row.iter_mut().for_each(|x| *x -= s),
        ("subtract", true) => row.iter_mut().for_each(|x| *x = s - *x),
        _ => row.iter_mut().for_each(|x| *x = apply(f, reverse, *x, s)),
    }
}

pub(super) fn row_row(f: &AluDef, reverse: bool, row: &mut [f32], other: &[f32]) {
    let pairs = row.iter_mut().zip(other);
    match (f.name, reverse) {
        ("add", _) => pairs.for_each(|(x, y)| *x += y),
        ("multiply", _) => pairs.for_each(|(x, y)| *x *= y),
        ("subtract", false) => pairs.for_each(|(x, y)| *x -= y),
        _ => pairs.for_each(|(x, &y)| *x = apply(f, reverse, *x, y)),
    }
}

/// Integer operator on values of `dtype`, on its zero-extended bits for the bit operators.
fn int_op(f: &AluDef, reverse: bool, dtype: DType, row: &mut [i64], other: impl Fn(usize) -> i64) {
    let Some(g) = f.i else { return };
    if f.group == Group::Bit {
        to_bits(dtype, row);
    }
    for (i, x) in row.iter_mut().enumerate() {
        let y = other(i);
        *x = wrap(dtype, if reverse { g(y, *x) } else { g(*x, y) });
    }
}

impl<'a> Run<'a> {
    pub(super) fn tile<'b>(&self, op: &'b Op, name: &str) -> Result<At<'b>, Fault> {
        match op.acc(name) {
            Some(a) => self.place(op, name, a),
            None => Err(self.at_fault(op, "operand", name, "a tile must be given")),
        }
    }
    pub(super) fn row(&self, op: &Op, name: &str, at: &At, p: usize, out: &mut Vec<f32>) -> Done {
        load_f(&self.stores[at.acc.slot], at, p, out).map_err(|i| self.poison(op, name, at, p, i))
    }
    pub(super) fn ints(&self, op: &Op, name: &str, at: &At, p: usize, out: &mut Vec<i64>) -> Done {
        load_i(&self.stores[at.acc.slot], at, p, out).map_err(|i| self.poison(op, name, at, p, i))
    }
    fn scalars<'b>(&self, op: &'b Op, name: &str, default: f32) -> Result<Scalars<'b>, Fault> {
        Ok(match op.arg(name) {
            Some(Arg::Acc(a)) => Scalars::Tile(self.place(op, name, a)?),
            Some(Arg::Num(x)) => Scalars::One(*x as f32),
            _ => Scalars::One(default),
        })
    }
    fn scalar(&self, op: &Op, name: &str, s: &Scalars, p: usize, buf: &mut Vec<f32>) -> Result<f32, Fault> {
        match s {
            Scalars::One(x) => Ok(*x),
            Scalars::Tile(at) => {
                self.row(op, name, at, p, buf)?;
                Ok(buf[0])
            }
        }
    }
    pub(super) fn store_mut(&mut self, at: &At) -> &mut Store {
        &mut self.stores[at.acc.slot]
    }
    pub(super) fn int_arg(&self, op: &Op, name: &str, default: i64) -> i64 {
        match op.arg(name) {
            Some(Arg::Int(l)) => l.at(&self.vars),
            Some(Arg::Num(x)) => *x as i64,
            _ => default,
        }
    }
    /// `f` on every row of `src`, stored to `dst`.
    pub(super) fn map(&mut self, op: &Op, src: &str, mut f: impl FnMut(&Run, usize, &mut Vec<f32>) -> Done) -> Done {
        let (d, s) = (self.tile(op, "dst")?, self.tile(op, src)?);
        let mut row = vec![];
        for p in 0..d.acc.parts {
            self.row(op, src, &s, p, &mut row)?;
            f(self, p, &mut row)?;
            store_f(self.store_mut(&d), &d, p, &mut row);
        }
        mark(self.store_mut(&d), &d, OTHER);
        Ok(())
    }
    fn map_ints(&mut self, op: &Op, src: &str, mut f: impl FnMut(&Run, usize, &mut Vec<i64>) -> Done) -> Done {
        let (d, s) = (self.tile(op, "dst")?, self.tile(op, src)?);
        let mut row = vec![];
        for p in 0..d.acc.parts {
            self.ints(op, src, &s, p, &mut row)?;
            f(self, p, &mut row)?;
            let (lo, hi) = int_range(d.acc.dtype);
            row.iter_mut().for_each(|x| *x = if (lo..=hi).contains(x) { *x } else { wrap(d.acc.dtype, *x) });
            store_i(self.store_mut(&d), &d, p, &row);
        }
        mark(self.store_mut(&d), &d, OTHER);
        Ok(())
    }

    /// Everything but matmul and DMA.
    pub(crate) fn exec(&mut self, op: &Op) -> Done {
        match op.def.name {
            "nc_transpose" => self.transpose(op),
            "activation" | "activation_reduce" => self.activation(op),
            "tensor_tensor" => self.tensor_tensor(op),
            "tensor_scalar" => self.tensor_scalar(op),
            "scalar_tensor_tensor" => self.scalar_tensor_tensor(op),
            "tensor_reduce" => self.tensor_reduce(op),
            "tensor_copy" => {
                let (d, s) = (self.tile(op, "dst")?, self.tile(op, "src")?);
                if d.acc.dtype == s.acc.dtype && d.acc.dtype.is_int() {
                    self.map_ints(op, "src", |_, _, _| Ok(()))
                } else {
                    self.map(op, "src", |_, _, _| Ok(()))
                }
            }
            "tensor_copy_predicated" => self.predicated(op),
            "memset" => {
                let d = self.tile(op, "dst")?;
                let value = match op.arg("value") {
                    Some(Arg::Num(x)) => *x,
                    _ => 0.0,
                };
                for p in 0..d.acc.parts {
                    if d.acc.dtype.is_int() {
                        let (lo, hi) = int_range(d.acc.dtype);
                        store_i(self.store_mut(&d), &d, p, &vec![(value.round_ties_even() as i64).clamp(lo, hi); d.acc.n]);
                    } else {
                        store_f(self.store_mut(&d), &d, p, &mut vec![value as f32; d.acc.n]);
                    }
                }
                mark(self.store_mut(&d), &d, OTHER);
                Ok(())
            }
            "reciprocal" => self.map(op, "data", |_, _, row| {
                row.iter_mut().for_each(|x| *x = 1.0 / *x);
                Ok(())
            }),
            "select_reduce" => self.select_reduce(op),
            "range_select" => self.range_select(op),
            "tensor_tensor_scan" => self.scan(op),
            "bn_stats" => self.bn_stats(op),
            "bn_aggr" => self.bn_aggr(op),
            "max8" => self.max8(op),
            "nc_find_index8" => self.find_index8(op),
            "nc_stream_shuffle" => self.shuffle(op),
            "iota" => self.iota(op),
            "affine_select" => self.affine_select(op),
            "tensor_partition_reduce" => self.partition_reduce(op),
            "local_gather" => self.local_gather(op),
            "nc_n_gather" => self.n_gather(op),
            other => Err(self.at_fault(op, "not-simulated", "", format!("{other} has no meaning here"))),
        }
    }

    fn activation(&mut self, op: &Op) -> Done {
        let Some(Arg::Act(f)) = op.arg("op") else { return Ok(()) };
        let f = *f;
        let (scale, bias) = (self.scalars(op, "scale", 1.0)?, self.scalars(op, "bias", 0.0)?);
        let cmd = if op.def.name == "activation_reduce" { "reset_reduce" } else { op.name("reduce_cmd").unwrap_or("idle") };
        let (reset, reduce) = (cmd.starts_with("reset"), cmd.ends_with("reduce"));
        let p0 = self.tile(op, "data")?.p0;
        let mut acc = self.scalar_acc;
        let (mut buf, mut outside) = (vec![], None);
        self.map(op, "data", |run, p, row| {
            let (s, b) = (run.scalar(op, "scale", &scale, p, &mut buf)?, run.scalar(op, "bias", &bias, p, &mut buf)?);
            if s != 1.0 || b != 0.0 {
                row.iter_mut().for_each(|x| *x = *x * s + b);
            }
            if !f.total()
                && let Some(x) = row.iter().find(|x| !f.in_range(**x))
            {
                outside = Some(*x);
            }
            if f.name != "copy" {
                row.iter_mut().for_each(|x| *x = (f.f)(*x));
            }
            let lane = &mut acc[p0 + p];
            if reset {
                *lane = 0.0;
            }
            if reduce {
                run.reset_before(op, *lane, p0 + p)?;
                *lane += row.iter().sum::<f32>();
            }
            Ok(())
        })?;
        self.scalar_acc = acc;
        if let Some(x) = outside
            && self.warnings.len() < self.options.max_warnings
        {
            let w = self.at_fault(op, "activation-range", "data", format!("{} of {x:?} is outside its valid {:?}", f.name, f.valid));
            self.warnings.push(w.to_string());
        }
        if op.acc("reduce_res").is_some() {
            let r = self.tile(op, "reduce_res")?;
            for p in 0..r.acc.parts {
                self.reset_before(op, acc[p0 + p], p0 + p)?;
                store_f(self.store_mut(&r), &r, p, &mut [acc[p0 + p]]);
            }
            mark(self.store_mut(&r), &r, OTHER);
        }
        Ok(())
    }

    fn tensor_tensor(&mut self, op: &Op) -> Done {
        let Some(f) = op.alu("op") else { return Ok(()) };
        let (d, a, b) = (self.tile(op, "dst")?, self.tile(op, "data1")?, self.tile(op, "data2")?);
        let exact = a.acc.dtype.is_int() && b.acc.dtype.is_int() && d.acc.dtype.is_int() && f.i.is_some();
        if exact && (f.group == Group::Bit || op.engine == Engine::GpSimd) {
            let mut other = vec![];
            return self.map_ints(op, "data1", |run, p, row| {
                run.ints(op, "data2", &b, p, &mut other)?;
                if f.group == Group::Bit {
                    to_bits(b.acc.dtype, &mut other);
                }
                int_op(f, false, d.acc.dtype, row, |i| other[i]);
                Ok(())
            });
        }
        let mut other = vec![];
        self.map(op, "data1", |run, p, row| {
            run.row(op, "data2", &b, p, &mut other)?;
            row_row(f, false, row, &other);
            Ok(())
        })
    }

    fn tensor_scalar(&mut self, op: &Op) -> Done {
        let (Some(f0), f1) = (op.alu("op0"), op.alu("op1")) else { return Ok(()) };
        let (r0, r1) = (op.flag("reverse0"), op.flag("reverse1"));
        if f0.group == Group::Bit {
            let dtype = self.tile(op, "dst")?.acc.dtype;
            let (c0, c1) = (self.int_arg(op, "operand0", 0), self.int_arg(op, "operand1", 0));
            return self.map_ints(op, "data", |_, _, row| {
                int_op(f0, r0, dtype, row, |_| c0);
                if let Some(f1) = f1 {
                    int_op(f1, r1, dtype, row, |_| c1);
                }
                Ok(())
            });
        }
        let (s0, s1) = (self.scalars(op, "operand0", 0.0)?, self.scalars(op, "operand1", 0.0)?);
        let mut buf = vec![];
        self.map(op, "data", |run, p, row| {
            row_scalar(f0, r0, row, run.scalar(op, "operand0", &s0, p, &mut buf)?);
            if let Some(f1) = f1 {
                row_scalar(f1, r1, row, run.scalar(op, "operand1", &s1, p, &mut buf)?);
            }
            Ok(())
        })
    }

    fn scalar_tensor_tensor(&mut self, op: &Op) -> Done {
        let (Some(f0), Some(f1)) = (op.alu("op0"), op.alu("op1")) else { return Ok(()) };
        let (r0, r1) = (op.flag("reverse0"), op.flag("reverse1"));
        let (s0, t) = (self.scalars(op, "operand0", 0.0)?, self.tile(op, "operand1")?);
        let (mut buf, mut other) = (vec![], vec![]);
        self.map(op, "data", |run, p, row| {
            row_scalar(f0, r0, row, run.scalar(op, "operand0", &s0, p, &mut buf)?);
            run.row(op, "operand1", &t, p, &mut other)?;
            row_row(f1, r1, row, &other);
            Ok(())
        })
    }

    fn tensor_reduce(&mut self, op: &Op) -> Done {
        let Some(f) = op.alu("op") else { return Ok(()) };
        let block = legal::reduced(op).map_err(|(r, o, m)| self.at_fault(op, r, o, m))?;
        let negate = op.flag("negate");
        if f.group == Group::Bit
            && let Some(g) = f.i
        {
            return self.map_ints(op, "data", |_, _, row| {
                *row = row.chunks(block).map(|c| c.iter().copied().reduce(g).unwrap_or(0)).collect();
                Ok(())
            });
        }
        let identity = f.identity.unwrap_or(0.0);
        self.map(op, "data", |_, _, row| {
            let one = |c: &[f32]| {
                let r = match f.name {
                    "add" => c.iter().sum(),
                    // The first element is what later ones are taken from.
                    "subtract" => c.iter().copied().reduce(f.f).unwrap_or(0.0),
                    _ => c.iter().fold(identity, |a, &x| (f.f)(a, x)),
                };
                if negate { -r } else { r }
            };
            *row = row.chunks(block).map(one).collect();
            Ok(())
        })
    }

    fn predicated(&mut self, op: &Op) -> Done {
        let (d, pred) = (self.tile(op, "dst")?, self.tile(op, "predicate")?);
        let reverse = op.flag("reverse_pred");
        let src = op.acc("src").map(|a| self.place(op, "src", a)).transpose()?;
        let number = match op.arg("src") {
            Some(Arg::Num(x)) => *x,
            _ => 0.0,
        };
        let (mut keep, mut new, mut mask) = (vec![], vec![], vec![]);
        let (mut ikeep, mut inew) = (vec![], vec![]);
        for p in 0..d.acc.parts {
            self.ints(op, "predicate", &pred, p, &mut mask)?;
            let on = |i: usize| (mask[i] != 0) != reverse;
            if d.acc.dtype.is_int() {
                self.ints(op, "dst", &d, p, &mut ikeep)?;
                match &src {
                    Some(s) => self.ints(op, "src", s, p, &mut inew)?,
                    None => inew = vec![number as i64; d.acc.n],
                }
                (0..ikeep.len()).filter(|&i| on(i)).for_each(|i| ikeep[i] = inew[i]);
                store_i(self.store_mut(&d), &d, p, &ikeep);
            } else {
                // What is overwritten everywhere need not have been written before.
                if (0..mask.len()).all(on) {
                    keep = vec![0.0; d.acc.n];
                } else {
                    self.row(op, "dst", &d, p, &mut keep)?;
                }
                match &src {
                    Some(s) => self.row(op, "src", s, p, &mut new)?,
                    None => new = vec![number as f32; d.acc.n],
                }
                (0..keep.len()).filter(|&i| on(i)).for_each(|i| keep[i] = new[i]);
                store_f(self.store_mut(&d), &d, p, &mut keep);
            }
        }
        mark(self.store_mut(&d), &d, OTHER);
        Ok(())
    }

    /// A lane's accumulator must have been reset before something is added to it or read from it.
    fn reset_before(&self, op: &Op, lane: f32, p: usize) -> Done {
        if lane.to_bits() == POISON_F {
            return Err(self.at_fault(op, "uninitialised", "reduce_cmd", format!("the accumulator of lane {p} was never reset")));
        }
        Ok(())
    }
    /// Running maximum of a row into the Vector accumulator of lane `p`, by command.
    fn accumulate_max(&self, op: &Op, acc: &mut f32, p: usize, cmd: &str, row: &[f32]) -> Done {
        if cmd.starts_with("reset") {
            *acc = f32::NEG_INFINITY;
        }
        if cmd.ends_with("reduce") {
            self.reset_before(op, *acc, p)?;
            *acc = row.iter().fold(*acc, |a, &x| a.max(x));
        }
        Ok(())
    }
    fn read_out(&mut self, op: &Op, p0: usize) -> Done {
        if op.acc("reduce_res").is_some() {
            let r = self.tile(op, "reduce_res")?;
            for p in 0..r.acc.parts {
                let v = self.vector_acc[p0 + p];
                self.reset_before(op, v, p0 + p)?;
                store_f(self.store_mut(&r), &r, p, &mut [v]);
            }
            mark(self.store_mut(&r), &r, OTHER);
        }
        Ok(())
    }

    fn select_reduce(&mut self, op: &Op) -> Done {
        let pred = self.tile(op, "predicate")?;
        let p0 = self.tile(op, "dst")?.p0;
        let f = self.scalars(op, "on_false", 0.0)?;
        let reverse = op.flag("reverse_pred");
        let cmd = op.name("reduce_cmd").unwrap_or("idle");
        let mut acc = self.vector_acc;
        let (mut mask, mut buf) = (vec![], vec![]);
        self.map(op, "on_true", |run, p, row| {
            run.ints(op, "predicate", &pred, p, &mut mask)?;
            let no = run.scalar(op, "on_false", &f, p, &mut buf)?;
            row.iter_mut().zip(&mask).filter(|(_, m)| (**m != 0) == reverse).for_each(|(x, _)| *x = no);
            run.accumulate_max(op, &mut acc[p0 + p], p0 + p, cmd, row)
        })?;
        self.vector_acc = acc;
        self.read_out(op, p0)
    }

    fn range_select(&mut self, op: &Op) -> Done {
        let (Some(c0), Some(c1)) = (op.alu("comp_op0"), op.alu("comp_op1")) else { return Ok(()) };
        let (b0, b1) = (self.scalars(op, "bound0", 0.0)?, self.scalars(op, "bound1", 0.0)?);
        let p0 = self.tile(op, "dst")?.p0;
        let start = self.int_arg(op, "range_start", 0);
        let cmd = op.name("reduce_cmd").unwrap_or("reset_reduce");
        let mut acc = self.vector_acc;
        let mut buf = vec![];
        self.map(op, "on_true_tile", |run, p, row| {
            let (x0, x1) = (run.scalar(op, "bound0", &b0, p, &mut buf)?, run.scalar(op, "bound1", &b1, p, &mut buf)?);
            for (i, x) in row.iter_mut().enumerate() {
                let at = (start + i as i64) as f32;
                if (c0.f)(at, x0) == 0.0 || (c1.f)(at, x1) == 0.0 {
                    *x = f32::MIN;
                }
            }
            run.accumulate_max(op, &mut acc[p0 + p], p0 + p, cmd, row)
        })?;
        self.vector_acc = acc;
        self.read_out(op, p0)
    }

    fn scan(&mut self, op: &Op) -> Done {
        let (Some(f0), Some(f1)) = (op.alu("op0"), op.alu("op1")) else { return Ok(()) };
        let (r0, r1) = (op.flag("reverse0"), op.flag("reverse1"));
        let (t, initial) = (self.tile(op, "data1")?, self.scalars(op, "initial", 0.0)?);
        let (mut other, mut buf) = (vec![], vec![]);
        self.map(op, "data0", |run, p, row| {
            run.row(op, "data1", &t, p, &mut other)?;
            let mut r = run.scalar(op, "initial", &initial, p, &mut buf)?;
            for (x, &y) in row.iter_mut().zip(&other) {
                r = apply(f1, r1, apply(f0, r0, *x, r), y);
                *x = r;
            }
            Ok(())
        })
    }

    fn bn_stats(&mut self, op: &Op) -> Done {
        self.map(op, "data", |_, _, row| {
            let mut out = vec![];
            for odd in 0..2 {
                let v: Vec<f32> = row.iter().copied().skip(odd).step_by(2).collect();
                let n = v.len() as f32;
                let mean = if v.is_empty() { 0.0 } else { v.iter().sum::<f32>() / n };
                out.extend([n, mean, v.iter().map(|x| (x - mean) * (x - mean)).sum()]);
            }
            *row = out;
            Ok(())
        })
    }

    fn bn_aggr(&mut self, op: &Op) -> Done {
        self.map(op, "data", |_, _, row| {
            let count: f32 = row.iter().step_by(3).sum();
            let mean = row.chunks(3).map(|t| t[0] * t[1]).sum::<f32>() / count;
            let m2: f32 = row.chunks(3).map(|t| t[2] + t[0] * (t[1] - mean) * (t[1] - mean)).sum();
            *row = vec![mean, m2 / count];
            Ok(())
        })
    }
}
