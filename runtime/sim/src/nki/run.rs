//! Computes the values of a kernel, instruction by instruction as the walk of the machine goes past. Here are tensors that come and go,
//! the matmul and the DMAs; the other instructions are in `engines`.

use super::mem::{MATMUL, OTHER, Store, Walk, base, load_i, mark, poison_f, poison_i, runs};
use super::value::{Data, POISON_F, decode, encode, round_all, to_int};
use super::{HbmTensor, Options, Outcome};
use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2, ShapeBuilder};
use tahoma_machine::trn2::resolve::{Acc, Arg, Op, Resolved};
use tahoma_machine::trn2::walk::{At, Visitor, walk};
use tahoma_machine::trn2::{Fault, Mem, legal};

/// State of a run; `engines` adds the instructions' meaning.
pub(crate) struct Run<'a> {
    pub(crate) k: &'a Resolved<'a>,
    pub(crate) options: &'a Options,
    pub(crate) vars: Vec<i64>,
    pub(crate) stores: Vec<Store>,
    pub(crate) warnings: Vec<String>,
    /// The accumulators of the Scalar and Vector engines, a lane each; poison until a reset.
    pub(crate) scalar_acc: [f32; 128],
    pub(crate) vector_acc: [f32; 128],
    /// Gathered stationary and moving operands.
    scratch: [Vec<f32>; 2],
    spare: Vec<Store>,
}

pub(crate) fn run(k: &Resolved, inputs: &[HbmTensor], options: &Options) -> Result<Outcome, Fault> {
    let mut r = Run {
        k,
        options,
        vars: vec![0; k.vars],
        stores: k.slots.iter().map(|_| Store::default()).collect(),
        warnings: vec![],
        scalar_acc: [f32::from_bits(POISON_F); 128],
        vector_acc: [f32::from_bits(POISON_F); 128],
        scratch: Default::default(),
        spare: vec![],
    };
    r.bind(inputs)?;
    let timeline = walk(k, options.machine, options.trace, &mut r)?;
    let mut outputs = vec![];
    for &s in &k.returns {
        let slot = &k.slots[s];
        let store = &r.stores[s];
        if let Some(i) = store.data.first_poison() {
            let m = format!("element {i} of {:?} was never written", slot.shape);
            return Err(k.fault("output-unwritten", slot.line, "return", &slot.name, m));
        }
        outputs.push(HbmTensor { dtype: slot.dtype, shape: slot.shape.clone(), data: encode(&store.data, slot.dtype).into() });
    }
    Ok(Outcome { outputs, timeline, warnings: r.warnings })
}

impl Visitor for Run<'_> {
    fn alloc(&mut self, s: usize) {
        let slot = &self.k.slots[s];
        let (row, parts) = (slot.row(), slot.parts());
        // Reuse the memory of a freed tile of the same size and kind.
        let fits = |o: &Store| o.data.len() == row * parts && matches!(o.data, Data::F(_)) == slot.dtype.is_float();
        self.stores[s] = match self.spare.iter().position(fits) {
            Some(i) if slot.mem == Mem::Sbuf => {
                let mut o = self.spare.swap_remove(i);
                match &mut o.data {
                    Data::F(v) => v.fill(f32::from_bits(POISON_F)),
                    Data::I(v) => v.fill(super::value::POISON_I),
                }
                Store { data: o.data, clean: false, state: vec![], row, parts }
            }
            _ => Store::new(slot),
        };
    }

    fn free(&mut self, s: usize) {
        let store = std::mem::take(&mut self.stores[s]);
        if self.spare.len() < 16 {
            self.spare.push(store);
        }
    }

    fn op(&mut self, op: &Op, vars: &[i64]) -> Result<(), Fault> {
        self.vars.copy_from_slice(vars);
        match op.def.name {
            "nc_matmul" => self.matmul(op),
            "dma_copy" => self.dma_copy(op),
            "dma_transpose" => self.dma_transpose(op),
            _ => self.exec(op),
        }
    }
}

impl Run<'_> {
    pub(crate) fn at_fault(&self, op: &Op, rule: &'static str, operand: &str, message: impl Into<String>) -> Fault {
        self.k.at_fault(op, rule, operand, message)
    }

    fn bind(&mut self, inputs: &[HbmTensor]) -> Result<(), Fault> {
        if inputs.len() != self.k.params {
            let m = format!("takes {} inputs; got {}", self.k.params, inputs.len());
            return Err(self.k.fault("input", 0, "", "", m));
        }
        for (i, x) in inputs.iter().enumerate() {
            let slot = &self.k.slots[i];
            let data = decode(&x.data, x.dtype);
            match data {
                Some(data) if x.dtype == slot.dtype && x.shape == slot.shape && data.len() == slot.row() => {
                    self.stores[i] = Store { data, clean: true, state: vec![], row: slot.row(), parts: 1 };
                }
                _ => {
                    let m = format!("must be {}{:?}; got {}{:?} in {} bytes", slot.dtype, slot.shape, x.dtype, x.shape, x.data.len());
                    return Err(self.k.fault("input", 0, "", &slot.name, m));
                }
            }
        }
        Ok(())
    }

    /// Fills in loop variables; the walk has checked the position.
    pub(crate) fn place<'b>(&self, op: &Op, operand: &str, a: &'b Acc) -> Result<At<'b>, Fault> {
        self.k.place(&self.vars, op, operand, a)
    }

    pub(crate) fn poison(&self, op: &Op, operand: &str, at: &At, p: usize, i: usize) -> Fault {
        let slot = &self.k.slots[at.acc.slot];
        let m = format!("reads {} at partition {}, element {i} of the access, which nothing has written", slot.name, at.p0 + p);
        self.at_fault(op, "uninitialised", operand, m)
    }

    /// `dst (+)= stationaryᵀ · moving`.
    fn matmul(&mut self, op: &Op) -> Result<(), Fault> {
        let (Some(d), Some(s), Some(v)) = (op.acc("dst"), op.acc("stationary"), op.acc("moving")) else { return Ok(()) };
        let (d, s, v) = (self.place(op, "dst", d)?, self.place(op, "stationary", s)?, self.place(op, "moving", v)?);
        for (name, at) in [("stationary", &s), ("moving", &v)] {
            let store = &self.stores[at.acc.slot];
            if store.clean {
                continue;
            }
            let Data::F(x) = &store.data else { continue };
            for p in 0..at.acc.parts {
                let (mut bad, mut seen) = (None, 0);
                runs(&at.acc.free, base(at, store, p), &mut |st, step, n| {
                    let found = if step == 1 {
                        poison_f(&x[st as usize..st as usize + n]).err()
                    } else {
                        (0..n).find(|&i| x[(st + i as i64 * step) as usize].to_bits() == POISON_F)
                    };
                    bad = bad.or(found.map(|i| seen + i));
                    seen += n;
                });
                if let Some(i) = bad {
                    return Err(self.poison(op, name, at, p, i));
                }
            }
        }
        let accumulate = match op.arg("accumulate") {
            Some(Arg::Bool(b)) => Some(*b),
            Some(Arg::Positive(l)) => Some(l.at(&self.vars) > 0),
            _ => None,
        };
        if op.flag("is_transpose") {
            return self.pe_transpose(op, &d, &s, &v);
        }
        let add = self.accumulates(op, &d, accumulate)?;
        let mut dst = std::mem::take(&mut self.stores[d.acc.slot].data);
        let rows = if op.name("perf_mode") == Some("double_row") { 2 } else { 1 };
        if let Data::F(out) = &mut dst {
            let base = base(&d, &self.stores[d.acc.slot], 0);
            let stride = self.stores[d.acc.slot].row;
            let (m, n) = (d.acc.parts, d.acc.n);
            let [sa, sb] = &mut self.scratch;
            let simple = d.acc.free.len() == 1 && d.acc.free[0].0 >= 1;
            let mut temp = vec![];
            let (slice, strides): (&mut [f32], (usize, usize)) = if simple {
                let step = d.acc.free[0].0 as usize;
                let end = base as usize + (m - 1) * stride + (n - 1) * step + 1;
                (&mut out[base as usize..end], (stride, step))
            } else {
                temp.resize(m * n, 0.0);
                (&mut temp, (n, 1))
            };
            for half in 0..rows {
                let a = matrix(&self.stores[s.acc.slot], &s, half, rows, sa);
                let b = matrix(&self.stores[v.acc.slot], &v, half, rows, sb);
                let beta = if (add && simple) || half > 0 { 1.0 } else { 0.0 };
                if let (Some(a), Some(b), Ok(mut c)) = (a, b, ArrayViewMut2::from_shape((m, n).strides(strides), &mut *slice)) {
                    if beta == 0.0 {
                        // A NaN in what is overwritten must not survive 0 · NaN.
                        c.fill(0.0);
                    }
                    general_mat_mul(1.0, &a.t(), &b, 1.0, &mut c);
                }
            }
            if !simple {
                for p in 0..m {
                    let mut i = p * n;
                    runs(&d.acc.free, base + (p * stride) as i64, &mut |st, step, count| {
                        for k in 0..count as i64 {
                            let o = &mut out[(st + k * step) as usize];
                            *o = if add { *o + temp[i] } else { temp[i] };
                            i += 1;
                        }
                    });
                }
            }
        }
        let store = &mut self.stores[d.acc.slot];
        store.data = dst;
        mark(store, &d, MATMUL);
        Ok(())
    }

    /// Whether a matmul adds to its destination, from the flag and how each location was last written. Locations that a mixed
    /// destination has not yet are zeroed.
    fn accumulates(&mut self, op: &Op, d: &At, flag: Option<bool>) -> Result<bool, Fault> {
        if flag == Some(false) {
            return Ok(false);
        }
        let mut seen = [0usize; 3];
        let mut fresh = vec![];
        {
            let store = &self.stores[d.acc.slot];
            for p in 0..d.acc.parts {
                let base = base(d, store, p);
                runs(&d.acc.free, base, &mut |s, step, n| {
                    let range = &store.state;
                    if step == 1 {
                        let (s, first) = (s as usize, range[s as usize]);
                        if range[s..s + n].iter().all(|&x| x == first) {
                            seen[first as usize & 3] += n;
                            if first == 0 {
                                fresh.extend(s..s + n);
                            }
                            return;
                        }
                    }
                    for i in 0..n as i64 {
                        let at = (s + i * step) as usize;
                        seen[range[at] as usize & 3] += 1;
                        if range[at] == 0 {
                            fresh.push(at);
                        }
                    }
                });
            }
        }
        let [unwritten, other, matmul] = seen;
        if other > 0 && flag.is_none() && matmul == 0 {
            // The first product of a group overwrites, whatever wrote there before. Mostly a forgotten group.
            if self.warnings.len() < self.options.max_warnings {
                let m = format!("overwrites {other} locations that another instruction wrote last; accumulate=False says so");
                let w = self.at_fault(op, "accumulate", "dst", m);
                self.warnings.push(w.to_string());
            }
            return Ok(false);
        }
        if other > 0 {
            let m = format!("accumulates on {other} locations that another instruction wrote last; accumulate=False starts a group");
            return Err(self.at_fault(op, "accumulate", "dst", m));
        }
        if flag == Some(true) && unwritten > 0 {
            let m = format!("accumulates on {unwritten} locations that no matmul has written; the first of a group needs accumulate=False");
            return Err(self.at_fault(op, "accumulate", "dst", m));
        }
        if matmul > 0
            && unwritten > 0
            && let Data::F(v) = &mut self.stores[d.acc.slot].data
        {
            fresh.into_iter().for_each(|i| v[i] = 0.0);
        }
        Ok(matmul > 0)
    }

    fn pe_transpose(&mut self, op: &Op, d: &At, s: &At, v: &At) -> Result<(), Fault> {
        let (mut row, k) = (vec![], v.acc.parts);
        for p in 0..k {
            super::mem::load_f(&self.stores[v.acc.slot], v, p, &mut row).map_err(|i| self.poison(op, "moving", v, p, i))?;
            if row.iter().enumerate().any(|(i, &x)| x != if i == p { 1.0 } else { 0.0 }) {
                return Err(self.at_fault(op, "transpose-identity", "moving", "a transpose multiplies by the identity matrix"));
            }
        }
        let mut all = vec![];
        for p in 0..k {
            super::mem::load_f(&self.stores[s.acc.slot], s, p, &mut row).map_err(|i| self.poison(op, "stationary", s, p, i))?;
            all.extend_from_slice(&row);
        }
        let store = &mut self.stores[d.acc.slot];
        for q in 0..s.acc.n {
            let mut column: Vec<f32> = all.iter().skip(q).step_by(s.acc.n).copied().collect();
            super::mem::store_f(store, d, q, &mut column);
        }
        mark(store, d, OTHER);
        Ok(())
    }

    fn walk(&self, at: &At) -> Walk {
        let store = &self.stores[at.acc.slot];
        if at.acc.mem.is_hbm() {
            return Walk::new(&at.acc.free, at.f0);
        }
        // A tile's rows merge when they are whole.
        let mut dims = vec![(store.row as i64, at.acc.parts)];
        match at.acc.free[..] {
            [(1, n)] if n == store.row => dims = vec![(1, n * at.acc.parts)],
            _ => dims.extend(&at.acc.free),
        }
        Walk::new(&dims, base(at, store, 0))
    }

    fn dma_copy(&mut self, op: &Op) -> Result<(), Fault> {
        let (Some(d), Some(s)) = (op.acc("dst"), op.acc("src")) else { return Ok(()) };
        let (d, s) = (self.place(op, "dst", d)?, self.place(op, "src", s)?);
        let rows = |at: &At, name: &'static str| -> Result<Option<Vec<Option<i64>>>, Fault> {
            let Some((step, x)) = &at.acc.rows else { return Ok(None) };
            let x = self.place(op, name, x)?;
            let len = self.stores[at.acc.slot].row as i64;
            let mut out = vec![];
            let mut v = vec![];
            for p in 0..x.acc.parts {
                load_i(&self.stores[x.acc.slot], &x, p, &mut v).map_err(|i| self.poison(op, name, &x, p, i))?;
                let start = at.f0.saturating_add(v[0].saturating_mul(*step));
                if start.saturating_add(at.acc.reach.0) >= 0 && start.saturating_add(at.acc.reach.1) < len && v[0] >= 0 {
                    out.push(Some(start));
                } else if op.name("oob_mode") == Some("skip") {
                    out.push(None);
                } else {
                    let m = format!("row index {} at partition {} leaves the tensor", v[0], x.p0 + p);
                    return Err(self.at_fault(op, "out-of-bounds", name, m));
                }
            }
            Ok(Some(out))
        };
        let (drows, srows) = (rows(&d, "dst")?, rows(&s, "src")?);
        let mut out = std::mem::take(&mut self.stores[d.acc.slot]);
        // A tensor copied onto itself reads from its own store.
        let own = if d.acc.slot == s.acc.slot {
            Some(Store { data: out.data.clone(), clean: out.clean, state: vec![], row: out.row, parts: out.parts })
        } else {
            None
        };
        self.stores[d.acc.slot].row = out.row;
        let result = {
            let src = own.as_ref().unwrap_or(&self.stores[s.acc.slot]);
            match (&drows, &srows) {
                (None, None) => copy(&mut out, src, &mut self.walk(&d), &mut self.walk(&s), &d, &s),
                (None, Some(rows)) => {
                    let mut dw = self.walk(&d);
                    rows.iter().try_for_each(|r| match r {
                        Some(start) => copy(&mut out, src, &mut dw, &mut Walk::new(&s.acc.free, *start), &d, &s),
                        // The destination row keeps what it holds.
                        None => {
                            dw.skip(s.acc.n);
                            Ok(())
                        }
                    })
                }
                (Some(rows), _) => {
                    let mut sw = self.walk(&s);
                    rows.iter().try_for_each(|r| match r {
                        Some(start) => copy(&mut out, src, &mut Walk::new(&d.acc.free, *start), &mut sw, &d, &s),
                        None => {
                            sw.skip(d.acc.n);
                            Ok(())
                        }
                    })
                }
            }
        };
        let skipped = srows.iter().flatten().any(|r| r.is_none());
        if drows.is_none() && !skipped && result.is_ok() {
            mark(&mut out, &d, OTHER);
        }
        self.stores[d.acc.slot] = out;
        result.map_err(|i| {
            let slot = &self.k.slots[s.acc.slot];
            let row = slot.row().max(1);
            let m = format!("reads {} at partition {}, element {}, which nothing has written", slot.name, i / row, i % row);
            self.at_fault(op, "uninitialised", "src", m)
        })
    }

    fn dma_transpose(&mut self, op: &Op) -> Result<(), Fault> {
        let (Some(d), Some(s)) = (op.acc("dst"), op.acc("src")) else { return Ok(()) };
        let (d, s) = (self.place(op, "dst", d)?, self.place(op, "src", s)?);
        // All elements of the source in order, then picked by destination index.
        let count = d.acc.total();
        let mut flat = Store { data: Data::poisoned(s.acc.dtype, count), clean: false, state: vec![], row: count, parts: 1 };
        let mut all = Walk::new(&[(1, count)], 0);
        copy(&mut flat, &self.stores[s.acc.slot], &mut all, &mut self.walk(&s), &d, &s).map_err(|i| self.poison(op, "src", &s, 0, i))?;
        let axes = legal::axes(op);
        let sdims = &s.acc.dims;
        let strides: Vec<i64> = (0..sdims.len()).map(|i| sdims[i + 1..].iter().product::<usize>() as i64).collect();
        let dims: Vec<(i64, usize)> = axes.iter().map(|&a| (strides[a as usize], sdims[a as usize])).collect();
        let mut dw = self.walk(&d);
        let mut out = std::mem::take(&mut self.stores[d.acc.slot]);
        let _ = copy(&mut out, &flat, &mut dw, &mut Walk::new(&dims, 0), &d, &d);
        mark(&mut out, &d, OTHER);
        self.stores[d.acc.slot] = out;
        Ok(())
    }
}

/// A `[K, cols]` view of an operand, straight from the tile where its layout allows, else gathered. `half` of `rows` row sets.
fn matrix<'b>(store: &'b Store, at: &At, half: usize, rows: usize, scratch: &'b mut Vec<f32>) -> Option<ArrayView2<'b, f32>> {
    let Data::F(v) = &store.data else { return None };
    let (k, cols) = (at.acc.parts, at.acc.n / rows);
    let first = base(at, store, 0) as usize;
    if let ([(step, _)], 1) = (&at.acc.free[..], rows)
        && *step >= 1
    {
        let step = *step as usize;
        let end = first + (k - 1) * store.row + (cols - 1) * step + 1;
        return ArrayView2::from_shape((k, cols).strides((store.row, step)), &v[first..end]).ok();
    }
    scratch.clear();
    let mut row = vec![];
    for p in 0..k {
        row.clear();
        runs(&at.acc.free, base(at, store, p), &mut |s, step, n| {
            if step == 1 {
                row.extend_from_slice(&v[s as usize..s as usize + n]);
            } else {
                row.extend((0..n as i64).map(|i| v[(s + i * step) as usize]));
            }
        });
        scratch.extend_from_slice(&row[half * cols..(half + 1) * cols]);
    }
    ArrayView2::from_shape((k, cols), &scratch[..]).ok()
}

/// Copies elements in order until either walk ends, converting types. `Err` is the storage index of a poisoned source element.
fn copy(dst: &mut Store, src: &Store, dw: &mut Walk, sw: &mut Walk, d: &At, s: &At) -> Result<(), usize> {
    let convert = d.acc.dtype != s.acc.dtype;
    let (dt, (ds, ss)) = (d.acc.dtype, (dw.step(), sw.step()));
    loop {
        let n = dw.left().min(sw.left());
        if n == 0 {
            return Ok(());
        }
        let (b, a) = (dw.take(n), sw.take(n));
        let dense = n == 1 || (ds == 1 && ss == 1);
        let (a0, b0) = (a as usize, b as usize);
        let at = |i: usize| (a + i as i64 * ss) as usize;
        match (&mut dst.data, &src.data) {
            (Data::F(o), Data::F(v)) if dense => {
                if !src.clean {
                    poison_f(&v[a0..a0 + n]).map_err(|i| a0 + i)?;
                }
                o[b0..b0 + n].copy_from_slice(&v[a0..a0 + n]);
                if convert {
                    round_all(dt, &mut o[b0..b0 + n]);
                }
            }
            (Data::I(o), Data::I(v)) if dense && !convert => {
                poison_i(&v[a0..a0 + n]).map_err(|i| a0 + i)?;
                o[b0..b0 + n].copy_from_slice(&v[a0..a0 + n]);
            }
            (Data::F(o), Data::F(v)) => {
                for i in 0..n {
                    let x = v[at(i)];
                    if x.to_bits() == POISON_F {
                        return Err(at(i));
                    }
                    o[(b + i as i64 * ds) as usize] = if convert { super::value::round(dt, x) } else { x };
                }
            }
            (Data::I(o), Data::I(v)) => {
                for i in 0..n {
                    let x = v[at(i)];
                    if x == super::value::POISON_I {
                        return Err(at(i));
                    }
                    o[(b + i as i64 * ds) as usize] = if convert { to_int(dt, x as f32) } else { x };
                }
            }
            (Data::I(o), Data::F(v)) => {
                for i in 0..n {
                    let x = v[at(i)];
                    if x.to_bits() == POISON_F {
                        return Err(at(i));
                    }
                    o[(b + i as i64 * ds) as usize] = to_int(dt, x);
                }
            }
            (Data::F(o), Data::I(v)) => {
                for i in 0..n {
                    let x = v[at(i)];
                    if x == super::value::POISON_I {
                        return Err(at(i));
                    }
                    o[(b + i as i64 * ds) as usize] = super::value::round(dt, x as f32);
                }
            }
        }
    }
}
