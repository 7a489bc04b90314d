//! Contractions: matmul and convolution with an elementwise epilogue; several may share their first operand.

use super::operand::depends;
use super::*;

impl Former<'_> {
    /// Meets a contraction at an index over the output variables.
    pub(super) fn contraction(&mut self, ni: usize, kind: ContractKind, index: &Index, d: DType) -> Result<usize, Stop> {
        let g = self.g;
        let n = &g.nodes[ni];
        if kind == ContractKind::Conv && self.is_depthwise(n)? {
            return self.depthwise(n, index, d);
        }
        match self.within {
            Some(Within::Points) => return stop(format!("{} before a contraction", n.op.name)),
            None if self.reduced.is_some() => return stop("a reduction beside a contraction"),
            _ => {}
        }
        let sum_type = sum_type(g.ty(n.operands[0]).dtype);
        let at = (ni, index.clone());
        let known = self.contract.as_ref().and_then(|c| c.nodes.iter().position(|x| *x == at));
        let i = match known {
            Some(i) => i,
            None => self.new_contraction(ni, kind, index)?,
        };
        let p = self.add(Point::Sum(i), sum_type);
        Ok(if sum_type == d { p } else { self.add(Point::Op(Scalar::Cast, vec![p]), d) })
    }

    /// The first contraction, or one more that shares A with it; its place among the sums.
    fn new_contraction(&mut self, ni: usize, kind: ContractKind, index: &Index) -> Result<usize, Stop> {
        let old = self.contract.take();
        let again = old.as_ref().map(|c| c.k.clone());
        if again.is_some() && (kind != ContractKind::MatMul || self.within.is_some()) {
            return stop("two contractions");
        }
        let mut parts = match kind {
            ContractKind::MatMul => self.matmul(ni, index, again.as_deref())?,
            ContractKind::Conv => self.conv(ni, index)?,
        };
        if let Some(mut c) = old {
            let same = (&c.batch, &c.m, &c.n, &c.k, c.dtype) == (&parts.batch, &parts.m, &parts.n, &parts.k, parts.dtype) && c.a == parts.a;
            if !same {
                return stop("two contractions that do not share their first operand");
            }
            c.nodes.append(&mut parts.nodes);
            c.b.append(&mut parts.b);
            parts = c;
        }
        let i = parts.b.len() - 1;
        self.contract = Some(parts);
        Ok(i)
    }

    /// `again`: the variables of `k` that an earlier contraction has.
    fn matmul(&mut self, ni: usize, index: &Index, again: Option<&[usize]>) -> Result<ContractParts, Stop> {
        let g = self.g;
        let n = &g.nodes[ni];
        let (sa, sb) = (static_shape(g, n.operands[0])?, static_shape(g, n.operands[1])?);
        let mut it = index.to_vec();
        let at_n = if sb.len() > 1 { it.pop().unwrap_or_default() } else { Lin::default() };
        let at_m = if sa.len() > 1 { it.pop().unwrap_or_default() } else { Lin::default() };
        let batch = it;
        let kx = *sa.last().unwrap_or(&1);
        let (k, at_k) = match again {
            Some(k) => {
                let (mut lin, mut step) = (Lin::default(), 1);
                for &v in k.iter().rev() {
                    lin = lin.plus(&Lin::var(v, step));
                    step *= self.vars[v].extent as i64;
                }
                if step as u64 != kx {
                    return stop("contractions over different extents");
                }
                (k.to_vec(), lin)
            }
            None => self.axis_vars(if self.within.is_some() { Axis::Deep(0) } else { Axis::Inner(0) }, kx),
        };
        let operand = |shape: &[u64], last: [&Lin; 2]| -> Index {
            if shape.len() == 1 {
                return vec![at_k.clone()];
            }
            let lead = &shape[..shape.len() - 2];
            let mut ix = broadcast_index(&batch, lead);
            ix.extend(last.into_iter().cloned());
            ix
        };
        let ia = operand(&sa, [&at_m, &at_k]);
        let ib = operand(&sb, [&at_k, &at_n]);
        let mut parts = self.classes(&batch, &[&at_m], &[&at_n])?;
        parts.nodes = vec![(ni, index.clone())];
        let none = Padding::default();
        let rows = if self.within.is_some() { Within::Points } else { Within::Rows };
        parts.a = self.operand(n.operands[0], &ia, &none, &k, rows)?;
        parts.b = vec![self.operand(n.operands[1], &ib, &none, &k, Within::Points)?];
        parts.k = k;
        parts.dtype = g.ty(n.operands[0]).dtype;
        Ok(parts)
    }

    fn groups(n: &Node) -> u64 {
        n.attrs.int("groups").unwrap_or(1).max(1) as u64
    }

    fn is_depthwise(&self, n: &Node) -> Result<bool, Stop> {
        let w = static_shape(self.g, n.operands[1])?;
        Ok(w[0] == Self::groups(n) && w[0] > 1)
    }

    /// Splits the output channel into (group, channel of the group).
    fn channel(&self, channel: &Lin, groups: u64, per: u64) -> Result<(Lin, Lin), Stop> {
        match decompose(std::slice::from_ref(channel), &[groups * per], &[groups, per], &self.vars) {
            Ok(two) => Ok((two[0].clone(), two[1].clone())),
            Err(Split::By(v, parts)) => Err(self.split(v, &parts)),
            Err(Split::Never) => stop("channels do not divide by groups"),
        }
    }

    fn conv(&mut self, ni: usize, index: &Index) -> Result<ContractParts, Stop> {
        let g = self.g;
        let n = &g.nodes[ni];
        let (sx, sw) = (static_shape(g, n.operands[0])?, static_shape(g, n.operands[1])?);
        let groups = Self::groups(n);
        let (per_out, per_in) = (sw[0] / groups, sw[1]);
        let (at_g, at_m) = self.channel(&index[1], groups, per_out)?;
        let mut k = vec![];
        let mut k_forms = vec![];
        for (i, &e) in sw[1..].iter().enumerate() {
            let (ids, lin) = self.axis_vars(Axis::Inner(i), e);
            k.extend(ids);
            k_forms.push(lin);
        }
        let (at_c, taps) = (&k_forms[0], &k_forms[1..]);
        let (spatial, guards) = self.windowed(n, &index[2..], taps, &sx[2..]);
        let guards: Vec<_> = guards
            .into_iter()
            .filter(|(l, e)| {
                let (lo, hi) = l.range(&self.vars);
                lo < 0 || hi >= *e
            })
            .collect();
        let pad = Padding { fill: (!guards.is_empty()).then_some(0.0), guards };
        let channel = at_g.times(per_in as i64).plus(at_c);
        let ix: Index = [index[0].clone(), channel].into_iter().chain(spatial.iter().cloned()).collect();
        let iw: Index = [index[1].clone(), at_c.clone()].into_iter().chain(taps.iter().cloned()).collect();
        let mut parts = self.classes(&[at_g], &[&at_m], &index.iter().take(1).chain(&index[2..]).collect::<Vec<_>>())?;
        parts.nodes = vec![(ni, index.clone())];
        parts.a = self.operand(n.operands[1], &iw, &Padding::default(), &k, Within::Points)?;
        parts.b = vec![self.operand(n.operands[0], &ix, &pad, &k, Within::Points)?];
        parts.k = k;
        parts.dtype = g.ty(n.operands[0]).dtype;
        Ok(parts)
    }

    /// Sorts the output variables into batch, m and n by the axes they walk.
    fn classes(&self, batch: &[Lin], m: &[&Lin], n: &[&Lin]) -> Result<ContractParts, Stop> {
        let vars = |ls: &mut dyn Iterator<Item = &Lin>| {
            let mut v: Vec<usize> = ls.flat_map(|l| l.vars().collect::<Vec<_>>()).collect();
            v.sort_unstable();
            v.dedup();
            v
        };
        let (b, m, n) = (vars(&mut batch.iter()), vars(&mut m.iter().copied()), vars(&mut n.iter().copied()));
        let mut all: Vec<usize> = b.iter().chain(&m).chain(&n).copied().collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        if all.len() != count {
            return stop("one loop walks two axes of a contraction");
        }
        let none = OperandParts { product: None, loads: vec![], steps: vec![], value: 0 };
        Ok(ContractParts { nodes: vec![], batch: b, m, n, k: vec![], a: none, b: vec![], dtype: DType::F32 })
    }

    /// One input channel per output channel: a sum over taps, without the reuse that makes a contraction worth its tiles.
    fn depthwise(&mut self, n: &Node, index: &Index, d: DType) -> Result<usize, Stop> {
        if self.contract.is_some() {
            return stop("a reduction beside a contraction");
        }
        let (sx, sw) = (static_shape(self.g, n.operands[0])?, static_shape(self.g, n.operands[1])?);
        let forms = self.inner_forms(&sw[1..], index)?;
        let (at_c, taps) = (forms[0].clone(), &forms[1..]);
        let (spatial, guards) = self.windowed(n, &index[2..], taps, &sx[2..]);
        let channel = index[1].times(sw[1] as i64).plus(&at_c);
        let ix: Index = [index[0].clone(), channel].into_iter().chain(spatial).collect();
        let iw: Index = [index[1].clone(), at_c].into_iter().chain(taps.iter().cloned()).collect();
        let guards: Vec<_> = guards
            .into_iter()
            .filter(|(l, e)| {
                let (lo, hi) = l.range(&self.vars);
                lo < 0 || hi >= *e
            })
            .collect();
        let fill = (!guards.is_empty()).then_some(0.0);
        let x = self.point(n.operands[0], &ix, &Padding { guards, fill })?;
        let w = self.point(n.operands[1], &iw, &Padding::default())?;
        // 16-bit products are summed in f32 and rounded once.
        let wide = sum_type(self.g.ty(n.operands[0]).dtype);
        let (x, w) = (self.cast(x, wide), self.cast(w, wide));
        let p = self.add(Point::Op(Scalar::Binary(Binary::Mul), vec![x, w]), wide);
        let s = self.add(Point::Reduce(Monoid::Sum, p), wide);
        Ok(self.cast(s, d))
    }

    pub(super) fn cast(&mut self, p: usize, to: DType) -> usize {
        if self.points[p].1 == to { p } else { self.add(Point::Op(Scalar::Cast, vec![p]), to) }
    }

    pub(super) fn finish_contract(mut self, name: &str, out_vars: &[usize], pieces: &[Piece]) -> Result<KernelSpec, Stop> {
        let [Piece { value, index, .. }] = pieces else { return stop("a contraction with several outputs") };
        let root = self.point(*value, index, &Padding::default())?;
        let Some(mut c) = self.contract.clone() else { return stop("no contraction") };
        if self.reduced.is_some() {
            return stop("a reduction beside a contraction");
        }
        let mut covered: Vec<usize> = c.batch.iter().chain(&c.m).chain(&c.n).copied().collect();
        covered.sort_unstable();
        if covered != out_vars {
            return stop("the output is wider than the contraction");
        }
        // A batch loop that one operand ignores is a loop of the other's rows: more of them share a tile. The keys of a product are on
        // B's side: rows of one tile share them.
        let still = |o: &OperandParts, v: usize| o.accesses().all(|a| !depends(a, v));
        let keys = |v: usize| c.a.product.as_ref().is_none_or(|p| still(&p.b, v));
        // Rows that have keys of their own are no rows of one tile.
        let (m, keyed): (Vec<usize>, Vec<usize>) = c.m.iter().partition(|&&v| keys(v));
        let all_b = |v: usize| c.b.iter().all(|b| still(b, v)) && keys(v);
        let (into_m, rest): (Vec<usize>, Vec<usize>) = c.batch.iter().partition(|&&v| all_b(v));
        let (into_n, rest): (Vec<usize>, Vec<usize>) = rest.into_iter().partition(|&v| still(&c.a, v) && keys(v));
        c.m = [into_m, m].concat();
        c.n.splice(0..0, into_n);
        c.batch = [rest, keyed].concat();
        // Steps of the epilogue in dependency order: points are made operands first.
        let mut steps: Steps = vec![];
        let mut at: HashMap<usize, usize> = HashMap::new();
        let mut used_loads: Vec<usize> = vec![];
        let mut todo = vec![root];
        let mut live = vec![false; self.points.len()];
        while let Some(p) = todo.pop() {
            if !std::mem::replace(&mut live[p], true)
                && let Point::Op(_, args) = &self.points[p].0
            {
                todo.extend(args);
            }
        }
        for (i, (p, d)) in self.points.iter().enumerate().filter(|(i, _)| live[*i]) {
            let step = match p {
                Point::Sum(i) => Step::Input(*i),
                Point::Load(l) => {
                    used_loads.push(*l);
                    Step::Input(c.b.len() + used_loads.len() - 1)
                }
                Point::Const(v) => Step::Const(*v),
                Point::Op(s, args) => rows::step(*s, &args.iter().map(|a| at[a]).collect::<Vec<_>>()),
                Point::Reduce(..) => return stop("a reduction beside a contraction"),
            };
            steps.push((step, *d));
            at.insert(i, steps.len() - 1);
        }
        // The value of an expression is its last step; the root is last unless something after it was shared with it.
        if at[&root] != steps.len() - 1 {
            return stop("an epilogue without an end");
        }
        let store = self.store(index, *value, 0)?;
        let outer: Vec<usize> = c.batch.iter().chain(&c.m).chain(&c.n).copied().collect();
        let with = |a: &[usize], b: &[usize]| c.batch.iter().chain(a).chain(b).copied().collect::<Vec<_>>();
        let loads = used_loads
            .iter()
            .map(|&l| Load { access: rows::project(&self.loads[l].0, &outer), dtype: self.loads[l].1, per_row: false })
            .collect();
        let extents = |v: &[usize]| v.iter().map(|&i| self.vars[i].extent).collect::<Vec<_>>();
        // Nothing may go with a loop that it is not given.
        let goes_with =
            |o: &OperandParts, all: &[usize]| (0..self.vars.len()).all(|v| all.contains(&v) || self.vars[v].extent == 1 || still(o, v));
        let rows = with(&c.m, &c.k);
        let keyed = c.a.product.as_ref().is_none_or(|p| {
            let row = OperandParts { product: None, ..c.a.clone() };
            goes_with(&row, &rows) && goes_with(&p.a, &with(&c.m, &p.sum)) && goes_with(&p.b, &with(&c.k, &p.sum))
        });
        if !keyed || (c.a.product.is_none() && !goes_with(&c.a, &rows)) || !c.b.iter().all(|b| goes_with(b, &with(&c.n, &c.k))) {
            return stop("an operand of a contraction that goes with a loop of the other");
        }
        let product = c.a.product.as_ref().map(|p| {
            let (a, b) = (p.a.over(&with(&c.m, &p.sum)), p.b.over(&with(&c.k, &p.sum)));
            Box::new(Product { sum: extents(&p.sum), a, b, dtype: p.dtype })
        });
        let mut spec = ContractSpec {
            batch: extents(&c.batch),
            m: extents(&c.m),
            n: extents(&c.n),
            k: extents(&c.k),
            a: Operand { product, ..c.a.over(&with(&c.m, &c.k)) },
            b: c.b.iter().map(|b| b.over(&with(&c.n, &c.k))).collect(),
            dtype: c.dtype,
            loads,
            epilogue: expr_of(steps),
            store: rows::project(&store, &outer),
        };
        rows::collapse_contract(&mut spec);
        Ok(self.spec(name, Body::Contract(spec)))
    }
}

/// The type sums of products of `d` are kept in.
pub(crate) fn sum_type(d: DType) -> DType {
    match d {
        DType::F64 => DType::F64,
        d if d.is_float() => DType::F32,
        DType::I64 | DType::U64 => d,
        _ => DType::I32,
    }
}
