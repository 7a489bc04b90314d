//! Maps and reductions along rows: from points to the steps of [`Rows`], and the folding of loops that memory walks as one.

use super::*;

/// Points as a program along the row.
pub(super) struct RowProgram {
    pub(super) product: bool,
    /// Loads of the former that it reads, in order.
    pub(super) loads: Vec<usize>,
    pub(super) steps: Vec<RowStep>,
    /// Value of each point that has one.
    pub(super) value: HashMap<usize, usize>,
    /// Whether each point changes along the row.
    pub(super) row: Vec<bool>,
}

/// A scalar op over earlier steps.
pub(super) fn step(s: Scalar, a: &[usize]) -> Step {
    match s {
        Scalar::Unary(u) => Step::Unary(u, a[0]),
        Scalar::Binary(b) => Step::Binary(b, a[0], a[1]),
        Scalar::Compare(c) => Step::Compare(c, a[0], a[1]),
        Scalar::Select => Step::Select(a[0], a[1], a[2]),
        Scalar::Cast => Step::Cast(a[0]),
    }
}

/// An access restricted to these variables, in this order.
pub(super) fn project(a: &Access, vars: &[usize]) -> Access {
    let pick = |v: &[i64]| vars.iter().map(|&i| v.get(i).copied().unwrap_or(0)).collect::<Vec<_>>();
    Access {
        strides: pick(&a.strides),
        guards: a.guards.iter().map(|g| Guard { coeffs: pick(&g.coeffs), ..g.clone() }).collect(),
        ..a.clone()
    }
}

impl Former<'_> {
    /// Where output `i` is written.
    pub(super) fn store(&self, index: &Index, v: ValueId, i: usize) -> Result<Access, Stop> {
        let shape = static_shape(self.g, v)?;
        let (mut at, mut step) = (Lin::default(), 1i64);
        for (lin, &n) in index.iter().zip(&shape).rev() {
            at = at.plus(&lin.times(step));
            step *= n as i64;
        }
        let strides = (0..self.vars.len()).map(|v| at.coeff(v)).collect();
        Ok(Access { buffer: i, offset: at.offset, strides, guards: vec![], fill: Float(0.0) })
    }

    pub(super) fn spec(&self, name: &str, body: Body) -> KernelSpec {
        KernelSpec {
            name: name.into(),
            inputs: self.g.inputs.iter().map(|p| self.g.ty(p.value).clone()).collect(),
            outputs: self.g.outputs.iter().map(|p| self.g.ty(p.value).clone()).collect(),
            body,
        }
    }

    /// Whether each point changes along the row.
    fn row_points(&self) -> Vec<bool> {
        let mut row = vec![false; self.points.len()];
        for (i, (p, _)) in self.points.iter().enumerate() {
            row[i] = match p {
                Point::Load(l) => !self.per_row(*l),
                // The product of an operand's row.
                Point::Sum(_) => true,
                Point::Op(_, args) => args.iter().any(|&a| row[a]),
                _ => false,
            };
        }
        row
    }

    pub(super) fn per_row(&self, load: usize) -> bool {
        let a = &self.loads[load].0;
        let at = |v: &[i64], i: usize| v.get(i).copied().unwrap_or(0);
        self.inner.iter().all(|&i| at(&a.strides, i) == 0 && a.guards.iter().all(|g| at(&g.coeffs, i) == 0))
    }

    /// The points that `roots` need, as a program along the row: which loads it has, its steps, and the value of each point. A row's
    /// product is value 0.
    pub(super) fn program(&self, roots: &[usize]) -> Result<RowProgram, Stop> {
        let row = self.row_points();
        let n = self.points.len();
        let mut live = vec![false; n];
        let mut todo = roots.to_vec();
        while let Some(p) = todo.pop() {
            if std::mem::replace(&mut live[p], true) {
                continue;
            }
            match &self.points[p].0 {
                Point::Op(_, args) => todo.extend(args),
                Point::Reduce(_, a) => todo.push(*a),
                _ => {}
            }
        }
        // Points that become steps of their own: reduced values, stored values, scalars of the row used along it, and what
        // two of these share.
        for p in (0..n).filter(|&p| live[p]) {
            if let Point::Reduce(_, a) = self.points[p].0
                && !row[a]
                && !self.inner.is_empty()
            {
                return stop("a reduction of a value that does not change along the row");
            }
        }
        let is_op = |p: usize| matches!(self.points[p].0, Point::Op(..));
        let mut own = vec![false; n];
        for &r in roots {
            own[r] = true;
        }
        for p in (0..n).filter(|&p| live[p]) {
            match &self.points[p].0 {
                Point::Reduce(_, a) => own[*a] = true,
                Point::Op(_, args) if row[p] => {
                    for &a in args.iter().filter(|&&a| !row[a] && is_op(a)) {
                        own[a] = true;
                    }
                }
                _ => {}
            }
        }
        if !self.inner.is_empty() {
            let mut seen: Vec<Option<usize>> = vec![None; n];
            for r in (0..n).rev() {
                if !(live[r] && own[r] && is_op(r)) {
                    continue;
                }
                let mut todo = match &self.points[r].0 {
                    Point::Op(_, args) => args.clone(),
                    _ => vec![],
                };
                while let Some(p) = todo.pop() {
                    if own[p] || !is_op(p) || seen[p] == Some(r) {
                        continue;
                    }
                    if seen[p].is_some() {
                        own[p] = true;
                        continue;
                    }
                    seen[p] = Some(r);
                    if let Point::Op(_, args) = &self.points[p].0 {
                        todo.extend(args);
                    }
                }
            }
        }
        // Values: the product, the loads, then steps.
        let used: Vec<usize> = (0..self.loads.len()).filter(|&l| (0..n).any(|p| live[p] && self.points[p].0 == Point::Load(l))).collect();
        let product = (0..n).any(|p| live[p] && matches!(self.points[p].0, Point::Sum(_)));
        let first = usize::from(product);
        let mut value: HashMap<usize, usize> = HashMap::new();
        for p in (0..n).filter(|&p| live[p]) {
            match self.points[p].0 {
                Point::Load(l) => {
                    if let Some(i) = used.iter().position(|&u| u == l) {
                        value.insert(p, first + i);
                    }
                }
                Point::Sum(_) => {
                    value.insert(p, 0);
                }
                _ => {}
            }
        }
        let mut steps = vec![];
        for p in (0..n).filter(|&p| live[p]) {
            let new = match &self.points[p].0 {
                Point::Reduce(m, a) => RowStep::Reduce { monoid: *m, arg: value[a], dtype: self.points[p].1 },
                Point::Load(_) | Point::Sum(_) => continue,
                _ if !own[p] => continue,
                _ => {
                    let (expr, args) = self.expression(p, &value);
                    RowStep::Map { expr, args }
                }
            };
            steps.push(new);
            value.insert(p, first + used.len() + steps.len() - 1);
        }
        Ok(RowProgram { product, loads: used, steps, value, row })
    }

    pub(super) fn finish_rows(self, name: &str, outer: &[usize], pieces: &[Piece], roots: &[usize]) -> Result<KernelSpec, Stop> {
        let RowProgram { product, loads: used, steps, value, row } = self.program(roots)?;
        if product {
            return stop("a contraction in a row");
        }
        let all: Vec<usize> = outer.iter().chain(&self.inner).copied().collect();
        let loads = used
            .iter()
            .map(|&l| {
                let per_row = !self.inner.is_empty() && self.per_row(l);
                Load { access: project(&self.loads[l].0, if per_row { outer } else { &all }), dtype: self.loads[l].1, per_row }
            })
            .collect();
        let mut stores = vec![];
        for (&r, p) in roots.iter().zip(pieces) {
            let access = self.store(&p.index, p.value, p.output)?;
            let walks_row = self.inner.iter().any(|&v| access.strides.get(v).copied().unwrap_or(0) != 0);
            if walks_row != row[r] && walks_row {
                return stop("a scalar of the row stored along it");
            }
            let over = if row[r] { &all[..] } else { outer };
            stores.push(Store { access: project(&access, over), value: value[&r] });
        }
        let extents = |v: &[usize]| v.iter().map(|&i| self.vars[i].extent).collect::<Vec<_>>();
        let mut rows = Rows { outer: extents(outer), inner: extents(&self.inner), loads, steps, stores };
        collapse_rows(&mut rows);
        Ok(self.spec(name, Body::Rows(rows)))
    }

    /// The expression of a point over values that exist already. Each point is one step, however often it is used: a value squared
    /// again and again has as many steps as squarings, and twice as many ways to each next one.
    fn expression(&self, root: usize, value: &HashMap<usize, usize>) -> (Expr, Vec<usize>) {
        let (mut e, mut args): (Expr, Vec<usize>) = Default::default();
        let mut built: HashMap<usize, usize> = HashMap::new();
        let mut todo = vec![root];
        while let Some(&p) = todo.last() {
            if built.contains_key(&p) {
                todo.pop();
                continue;
            }
            let d = self.points[p].1;
            let made = if p == root { None } else { value.get(&p) };
            let step = match (made, &self.points[p].0) {
                (Some(&v), _) => Step::Input(place_of(&mut args, v)),
                (None, Point::Op(s, operands)) => {
                    // In the order of the operands, the first one first.
                    let open: Vec<usize> = operands.iter().rev().copied().filter(|a| !built.contains_key(a)).collect();
                    if !open.is_empty() {
                        todo.extend(open);
                        continue;
                    }
                    step(*s, &operands.iter().map(|a| built[a]).collect::<Vec<_>>())
                }
                (None, Point::Const(c)) => Step::Const(*c),
                // A load that is stored as it is.
                (None, _) => match value.get(&p) {
                    Some(&v) => Step::Input(place_of(&mut args, v)),
                    None => Step::Const(Float(0.0)),
                },
            };
            built.insert(p, e.push(step, d));
            todo.pop();
        }
        (e, args)
    }
}

/// Where `v` is among the arguments; it is added where it is not.
fn place_of(args: &mut Vec<usize>, v: usize) -> usize {
    args.iter().position(|&a| a == v).unwrap_or_else(|| {
        args.push(v);
        args.len() - 1
    })
}

/// Whether loops `i` and `i + 1` are one for this access.
fn joins(a: &Access, i: usize, inner_extent: u64) -> bool {
    let one = |v: &[i64]| v[i] == v[i + 1] * inner_extent as i64;
    one(&a.strides) && a.guards.iter().all(|g| one(&g.coeffs))
}

fn drop_dim(a: &mut Access, i: usize) {
    a.strides.remove(i);
    for g in &mut a.guards {
        g.coeffs.remove(i);
    }
}

/// Joins neighbouring loops that every access walks as one.
fn collapse_rows(r: &mut Rows) {
    for segment in [1, 0] {
        let (len, base) = if segment == 1 { (r.inner.len(), r.outer.len()) } else { (r.outer.len(), 0) };
        for i in (0..len.saturating_sub(1)).rev() {
            let extent = if segment == 1 { r.inner[i + 1] } else { r.outer[i + 1] };
            let at = base + i;
            let covers = |a: &Access| at + 1 < a.strides.len();
            let ok =
                r.loads.iter().map(|l| &l.access).chain(r.stores.iter().map(|s| &s.access)).all(|a| !covers(a) || joins(a, at, extent));
            if !ok {
                continue;
            }
            for a in r.loads.iter_mut().map(|l| &mut l.access).chain(r.stores.iter_mut().map(|s| &mut s.access)) {
                if at + 1 < a.strides.len() {
                    drop_dim(a, at);
                }
            }
            let dims = if segment == 1 { &mut r.inner } else { &mut r.outer };
            dims[i + 1] *= dims[i];
            dims.remove(i);
        }
    }
}

/// The same for the loop groups of a contraction: batch, m, n, k, and the loops that A's product sums over.
pub(super) fn collapse_contract(c: &mut ContractSpec) {
    for group in 0..4 + usize::from(c.a.product.is_some()) {
        for i in (0..extents(c, group).map_or(0, |e| e.len()).saturating_sub(1)).rev() {
            let Some(extent) = extents(c, group).map(|e| e[i + 1]) else { continue };
            let mut ok = true;
            sites(c, group, &mut |a, p| ok &= joins(a, p + i, extent));
            if !ok {
                continue;
            }
            sites(c, group, &mut |a, p| drop_dim(a, p + i));
            if let Some(dims) = extents(c, group) {
                dims[i + 1] *= dims[i];
                dims.remove(i);
            }
        }
    }
}

fn extents(c: &mut ContractSpec, group: usize) -> Option<&mut Vec<u64>> {
    match group {
        0 => Some(&mut c.batch),
        1 => Some(&mut c.m),
        2 => Some(&mut c.n),
        3 => Some(&mut c.k),
        _ => c.a.product.as_mut().map(|p| &mut p.sum),
    }
}

/// Every access that walks the loops of a group, with their first place in it.
fn sites(c: &mut ContractSpec, group: usize, f: &mut dyn FnMut(&mut Access, usize)) {
    let (nb, nm, nn, nk) = (c.batch.len(), c.m.len(), c.n.len(), c.k.len());
    let mut of = |loads: &mut Vec<Load>, at: Option<usize>| {
        if let Some(at) = at {
            loads.iter_mut().for_each(|l| f(&mut l.access, at));
        }
    };
    of(&mut c.a.loads, [Some(0), Some(nb), None, Some(nb + nm), None][group]);
    for b in &mut c.b {
        of(&mut b.loads, [Some(0), None, Some(nb), Some(nb + nn), None][group]);
    }
    if let Some(p) = &mut c.a.product {
        of(&mut p.a.loads, [Some(0), Some(nb), None, None, Some(nb + nm)][group]);
        of(&mut p.b.loads, [Some(0), None, None, Some(nb), Some(nb + nk)][group]);
    }
    let out = [Some(0), Some(nb), Some(nb + nm), None, None][group];
    of(&mut c.loads, out);
    if let Some(at) = out {
        f(&mut c.store, at);
    }
}
