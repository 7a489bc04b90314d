//! Operands of a contraction: plain reads, expressions of reads, and programs along the row of `k`.
//!
//! ```text
//! (x − μ(x))·r(x)·g  then a matmul       the row of x is read, its mean and deviation first
//! softmax(q·kᵀ + mask) then a matmul     the row is a product of its own: an attention
//! ```

use super::*;

/// Whether an access changes with a variable.
pub(super) fn depends(a: &Access, v: usize) -> bool {
    let at = |c: &[i64]| c.get(v).copied().unwrap_or(0) != 0;
    at(&a.strides) || a.guards.iter().any(|g| at(&g.coeffs))
}

impl OperandParts {
    /// Every access, those of the product too.
    pub(super) fn accesses(&self) -> impl Iterator<Item = &Access> {
        let inner = self.product.iter().flat_map(|p| p.a.loads.iter().chain(&p.b.loads));
        self.loads.iter().chain(inner).map(|l| &l.access)
    }
    /// The operand over these variables, without its product.
    pub(super) fn over(&self, vars: &[usize]) -> Operand {
        let loads = self.loads.iter().map(|l| Load { access: rows::project(&l.access, vars), ..l.clone() }).collect();
        Operand { product: None, loads, steps: self.steps.clone(), value: self.value }
    }
}

impl Former<'_> {
    /// A pure read: moves down to an argument. `None` where there is more than moves.
    fn read(&self, v: ValueId, index: &Index, pad: &Padding) -> Result<Option<Access>, Stop> {
        let Some(ni) = self.producers[v.index()] else { return self.access(v, index, pad).map(Some) };
        match self.through_move(&self.g.nodes[ni], index, pad)? {
            Some((v, index, pad)) => self.read(v, &index, &pad),
            None => Ok(None),
        }
    }

    /// Reads an operand whose row is walked by the variables `k`.
    pub(super) fn operand(&mut self, v: ValueId, index: &Index, pad: &Padding, k: &[usize], what: Within) -> Result<OperandParts, Stop> {
        let dtype = self.g.ty(v).dtype;
        if let Some(access) = self.read(v, index, pad)? {
            return Ok(OperandParts { product: None, loads: vec![Load { access, dtype, per_row: false }], steps: vec![], value: 0 });
        }
        // The points of the operand are its own; variables are the kernel's.
        let mut own = Former {
            g: self.g,
            producers: self.producers.clone(),
            reduced: Some(k.iter().map(|&v| self.vars[v].extent).collect()),
            vars: std::mem::take(&mut self.vars),
            inner: k.to_vec(),
            cuts: self.cuts,
            loads: vec![],
            points: vec![],
            memo: vec![vec![]; self.g.types.len()],
            kept: vec![],
            decided: true,
            contract: None,
            within: Some(what),
        };
        let parts = own.point(v, index, pad).and_then(|root| own.parts(root));
        self.vars = own.vars;
        parts
    }

    fn parts(&self, root: usize) -> Result<OperandParts, Stop> {
        let p = self.program(&[root])?;
        let load = |&l: &usize| Load { access: self.loads[l].0.clone(), dtype: self.loads[l].1, per_row: self.per_row(l) };
        let product = match (&self.contract, p.product) {
            (Some(c), true) => Some(Box::new(self.product(c)?)),
            _ => None,
        };
        let Some(&value) = p.value.get(&root) else { return stop("an operand without a value") };
        Ok(OperandParts { product, loads: p.loads.iter().map(load).collect(), steps: p.steps, value })
    }

    /// A contraction as the product of a row: its columns are the variables of the row, its rows none of them.
    fn product(&self, c: &ContractParts) -> Result<ProductParts, Stop> {
        let [b] = c.b.as_slice() else { return stop("two contractions in a row") };
        let mut n = c.n.clone();
        n.sort_unstable();
        let mut row = self.inner.clone();
        row.sort_unstable();
        let uses = |o: &OperandParts, v: usize| o.accesses().any(|a| depends(a, v));
        if n != row || self.inner.iter().any(|&v| uses(&c.a, v)) || c.m.iter().any(|&v| uses(b, v)) {
            return stop("a contraction whose columns are not the row");
        }
        Ok(ProductParts { sum: c.k.clone(), a: c.a.clone(), b: b.clone(), dtype: c.dtype })
    }
}
