//! Linear forms of loop variables, and how a reshape maps them.

use super::Var;

/// `offset + Σ coeff·var`, without zero coefficients, sorted by variable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Lin {
    pub(super) offset: i64,
    terms: Vec<(usize, i64)>,
}

impl Lin {
    pub(super) fn constant(offset: i64) -> Lin {
        Lin { offset, terms: vec![] }
    }
    pub(super) fn var(v: usize, coeff: i64) -> Lin {
        Lin { offset: 0, terms: vec![(v, coeff)] }
    }
    pub(super) fn plus(&self, o: &Lin) -> Lin {
        let mut terms = self.terms.clone();
        for &(v, c) in &o.terms {
            match terms.binary_search_by_key(&v, |t| t.0) {
                Ok(i) => terms[i].1 += c,
                Err(i) => terms.insert(i, (v, c)),
            }
        }
        terms.retain(|t| t.1 != 0);
        Lin { offset: self.offset + o.offset, terms }
    }
    pub(super) fn times(&self, k: i64) -> Lin {
        if k == 0 {
            return Lin::default();
        }
        Lin { offset: self.offset * k, terms: self.terms.iter().map(|&(v, c)| (v, c * k)).collect() }
    }
    pub(super) fn coeff(&self, v: usize) -> i64 {
        self.terms.binary_search_by_key(&v, |t| t.0).map_or(0, |i| self.terms[i].1)
    }
    pub(super) fn vars(&self) -> impl Iterator<Item = usize> + '_ {
        self.terms.iter().map(|t| t.0)
    }
    /// Least and greatest value over the loops.
    pub(super) fn range(&self, vars: &[Var]) -> (i64, i64) {
        let (mut lo, mut hi) = (self.offset, self.offset);
        for &(v, c) in &self.terms {
            let reach = c * (vars[v].extent as i64 - 1);
            if reach < 0 { lo += reach } else { hi += reach }
        }
        (lo, hi)
    }
}

/// Why an index does not pass a reshape.
pub(super) enum Split {
    /// It would if this variable were split into these parts.
    By(usize, Vec<u64>),
    Never,
}

/// Index into the operand (`to` extents) of a reshape, from the index of its result (`from` extents).
pub(super) fn decompose(index: &[Lin], from: &[u64], to: &[u64], vars: &[Var]) -> Result<Vec<Lin>, Split> {
    let mut out = vec![Lin::default(); to.len()];
    let (mut i, mut j) = (0, 0);
    while i < from.len() || j < to.len() {
        // The smallest run of axes on both sides with equal products.
        let (i0, j0) = (i, j);
        let (mut a, mut b) = (1u64, 1u64);
        if i < from.len() {
            a = from[i];
            i += 1;
        }
        if j < to.len() {
            b = to[j];
            j += 1;
        }
        while a != b {
            if a < b {
                let Some(&n) = from.get(i) else { return Err(Split::Never) };
                a *= n;
                i += 1;
            } else {
                let Some(&n) = to.get(j) else { return Err(Split::Never) };
                b *= n;
                j += 1;
            }
        }
        if i - i0 == 1 && j - j0 == 1 {
            out[j0] = index[i0].clone();
            continue;
        }
        // Position within the run, then digits of the operand's axes from the fastest.
        let (mut flat, mut step) = (Lin::default(), 1i64);
        for k in (i0..i).rev() {
            flat = flat.plus(&index[k].times(step));
            step *= from[k] as i64;
        }
        for k in (j0..j).rev() {
            // Nothing but axes of one element before it: the rest is this axis's, whatever range it seems to have.
            if to[j0..k].iter().all(|&e| e == 1) {
                out[k] = flat;
                break;
            }
            let (rest, digit) = divide(&flat, to[k] as i64, vars)?;
            out[k] = digit;
            flat = rest;
        }
    }
    Ok(out)
}

/// `flat = rest·n + digit` with `0 <= digit < n`, both linear.
fn divide(flat: &Lin, n: i64, vars: &[Var]) -> Result<(Lin, Lin), Split> {
    if n == 1 {
        return Ok((flat.clone(), Lin::default()));
    }
    let (mut rest, mut digit) = (Lin::constant(flat.offset.div_euclid(n)), Lin::constant(flat.offset.rem_euclid(n)));
    for &(v, c) in &flat.terms {
        let reach = c * (vars[v].extent as i64 - 1);
        if c % n == 0 {
            rest = rest.plus(&Lin::var(v, c / n));
        } else if c > 0 && reach < n {
            digit = digit.plus(&Lin::var(v, c));
        } else if c > 0 && n % c == 0 && vars[v].extent.is_multiple_of((n / c) as u64) {
            let low = (n / c) as u64;
            return Err(Split::By(v, vec![vars[v].extent / low, low]));
        } else {
            return Err(Split::Never);
        }
    }
    let (lo, hi) = digit.range(vars);
    if lo >= 0 && hi < n { Ok((rest, digit)) } else { Err(Split::Never) }
}
