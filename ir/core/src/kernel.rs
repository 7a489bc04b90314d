//! What a kernel computes, free of any target: loop extents, affine reads and writes, scalar bodies. Code generators schedule it.
//!
//! Buffers are contiguous and row-major; views (transposes, slices, broadcasts, padding) are folded into the accesses:
//!
//! ```text
//! read(i) = if every guard holds at i { buffer[offset + Σ strides[d]·i[d]] } else { fill }
//! ```

use crate::float::Float;
use crate::op::Monoid;
use crate::scalar::{Expr, Step};
use crate::types::{DType, TensorType};
use serde::{Deserialize, Serialize};

/// `0 <= offset + Σ coeffs[d]·i[d] < extent`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct Guard {
    pub offset: i64,
    pub coeffs: Vec<i64>,
    pub extent: i64,
}

/// An affine read or write of one buffer, over the loop variables its context names. Units: elements.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct Access {
    /// Index into `KernelSpec::inputs` (reads) or `outputs` (writes).
    pub buffer: usize,
    pub offset: i64,
    pub strides: Vec<i64>,
    /// Empty where the access can never leave the buffer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guards: Vec<Guard>,
    /// Read where a guard fails (padding).
    #[serde(default)]
    pub fill: Float,
}

/// One kernel: what is launched with one grid, or called as one NKI function.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct KernelSpec {
    pub name: String,
    /// Types of the argument buffers; static.
    pub inputs: Vec<TensorType>,
    pub outputs: Vec<TensorType>,
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
#[serde(rename_all = "snake_case")]
pub enum Body {
    Rows(Rows),
    Contract(ContractSpec),
}

/// Maps, reductions, and chains of them along rows: elementwise, pooling, softmax, norms, depthwise convolution.
///
/// For each point of `outer`: values are, in order, the loads and then the steps. A value is a *row* (one element per point of
/// `inner`) if it is a load with `per_row == false` or a map that uses a row; it is a *scalar* of the row if it is a reduction,
/// a load with `per_row`, or a map of scalars only. An empty `inner` makes everything a scalar: a plain map over `outer`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct Rows {
    pub outer: Vec<u64>,
    pub inner: Vec<u64>,
    pub loads: Vec<Load>,
    pub steps: Vec<RowStep>,
    pub stores: Vec<Store>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct Load {
    /// Over `outer ++ inner` (over `outer` alone where `per_row`).
    pub access: Access,
    pub dtype: DType,
    #[serde(default)]
    pub per_row: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
#[serde(rename_all = "snake_case")]
pub enum RowStep {
    /// `Expr` input i is value `args[i]`.
    Map { expr: Expr, args: Vec<usize> },
    /// Combines row value `arg` over `inner`; result in `dtype` (f32 accumulation for 16-bit floats).
    Reduce { monoid: Monoid, arg: usize, dtype: DType },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct Store {
    /// Over `outer ++ inner` for a row value, over `outer` for a scalar. Injective, no guards. Several stores may write one output, each
    /// its own elements.
    pub access: Access,
    pub value: usize,
}

/// `out[b, m, n] = epilogue(Σ_k A[b, m, k] · B₀[b, n, k], Σ_k A · B₁, …, extra reads at [b, m, n])`, each of b, m, n, k a list of extents.
///
/// matmul: m = rows, n = columns, k = the inner axis. Convolution: b = groups, m = output channels, n = batch and output pixels,
/// k = input channels and taps; A = weights, B = input with its padding as guards. Several B share A: gate and up of a gated network.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct ContractSpec {
    pub batch: Vec<u64>,
    pub m: Vec<u64>,
    pub n: Vec<u64>,
    pub k: Vec<u64>,
    /// Over `batch ++ m ++ k`; may be a row program along `k`.
    pub a: Operand,
    /// One sum each; over `batch ++ n ++ k`, point by point.
    pub b: Vec<Operand>,
    /// Type of A and B elements; the sums are f32 (f64 for f64, i32 for integers).
    pub dtype: DType,
    /// Extra reads, over `batch ++ m ++ n`.
    pub loads: Vec<Load>,
    /// Inputs: the sums, then the loads.
    pub epilogue: Expr,
    /// Over `batch ++ m ++ n`.
    pub store: Access,
}

/// What a contraction multiplies, made on the way to the multiplier: a plain read, an expression of reads (dequantised weights, rotary
/// embedding), or a program along the row of `k` (a norm; softmax of a product, which makes the contraction an attention).
///
/// Values are, in order: the product's sum where there is one, the loads, the steps; as in [`Rows`], with `k` as the row.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct Operand {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<Box<Product>>,
    /// Each over all loops of the operand, also where `per_row` says that it does not change along `k`.
    pub loads: Vec<Load>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<RowStep>,
    /// The value that is multiplied, of the contraction's type.
    pub value: usize,
}

/// `Σ_e A[b, m, e] · B[b, k, e]` as an element of another contraction's A: the scores of an attention.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct Product {
    /// Extents of `e`.
    pub sum: Vec<u64>,
    /// Over `batch ++ m ++ e`, point by point.
    pub a: Operand,
    /// Over `batch ++ k ++ e`, point by point.
    pub b: Operand,
    pub dtype: DType,
}

impl ContractSpec {
    /// Whether [`ContractSpec::spread`] serves a machine of many parts: an attention of few rows for each of few heads, as when tokens
    /// are made one by one and several query heads share keys.
    pub fn is_narrow(&self) -> bool {
        const ROWS: u64 = 16;
        const PARTS: u64 = 64;
        let p = |v: &[u64]| v.iter().product::<u64>();
        self.a.product.is_some() && (2..=ROWS).contains(&p(&self.m)) && p(&self.batch) * p(&self.n).div_ceil(128) < PARTS
    }
    /// The same with the loops of `m` among those of the batch: more parts, which read B anew.
    pub fn spread(&self) -> ContractSpec {
        let (at, more) = (self.batch.len(), self.m.len());
        let wider = |a: &mut Access| {
            a.strides.splice(at..at, vec![0; more]);
            a.guards.iter_mut().for_each(|g| drop(g.coeffs.splice(at..at, vec![0; more])));
        };
        let mut c = self.clone();
        c.batch.append(&mut c.m);
        let keys = c.a.product.iter_mut().map(|p| &mut p.b);
        c.b.iter_mut().chain(keys).flat_map(|o| &mut o.loads).for_each(|l| wider(&mut l.access));
        c
    }
}

impl Operand {
    /// A plain read.
    pub fn read(access: Access, dtype: DType) -> Operand {
        Operand { product: None, loads: vec![Load { access, dtype, per_row: false }], steps: vec![], value: 0 }
    }
    /// The access of a plain read.
    pub fn plain(&self) -> Option<&Access> {
        match self.loads.as_slice() {
            [l] if self.product.is_none() && self.steps.is_empty() => Some(&l.access),
            _ => None,
        }
    }
    /// Its own reads, without the product's.
    pub fn accesses(&self) -> impl Iterator<Item = &Access> {
        self.loads.iter().map(|l| &l.access)
    }
    /// Number of values before the steps.
    pub fn given(&self) -> usize {
        usize::from(self.product.is_some()) + self.loads.len()
    }
    /// Whether an element needs the whole row: a reduction along `k`.
    pub fn reduces(&self) -> bool {
        self.steps.iter().any(|s| matches!(s, RowStep::Reduce { .. }))
    }
    /// Passes over the row before its elements are known: each level of reductions is one.
    pub fn passes(&self) -> usize {
        let mut level = vec![0; self.given()];
        for s in &self.steps {
            level.push(match s {
                RowStep::Map { args, .. } => args.iter().map(|&a| level[a]).max().unwrap_or(0),
                RowStep::Reduce { arg, .. } => level[*arg] + 1,
            });
        }
        level.get(self.value).copied().unwrap_or(0)
    }
    /// Whether the row must be made before its elements are multiplied: reductions along `k`, or a product.
    pub fn is_row(&self) -> bool {
        self.product.is_some() || self.reduces()
    }
    /// Values of a row that live at once where the whole of it is kept, as [`Rows::row_values`], and the row as it is multiplied.
    pub fn row_values(&self) -> usize {
        let product = usize::from(self.product.is_some());
        let wide: Vec<bool> = (0..self.given()).map(|v| v < product || !self.loads[v - product].per_row).collect();
        live_values(wide, &self.steps, &[self.value]) + 1
    }
    /// Operations of the steps for each element.
    pub fn flops(&self) -> u64 {
        self.steps
            .iter()
            .map(|s| match s {
                RowStep::Map { expr, .. } => expr.flops(),
                RowStep::Reduce { .. } => 1,
            })
            .sum()
    }
}

impl Rows {
    /// Values of a row that live at once where the whole of it is kept: reads come first, each step of an expression is a value, and a
    /// value lives until its last use. Scalars of the row do not count; two more stand for what a step needs meanwhile.
    pub fn row_values(&self) -> usize {
        let stored: Vec<usize> = self.stores.iter().map(|s| s.value).collect();
        live_values(self.loads.iter().map(|l| !l.per_row).collect(), &self.steps, &stored)
    }
}

fn live_values(mut wide: Vec<bool>, steps: &[RowStep], results: &[usize]) -> usize {
    let given = wide.len();
    // The values in the order they are made: the last step that uses each, and where each numbered value is.
    let mut last: Vec<usize> = vec![0; given];
    let mut at: Vec<usize> = (0..given).collect();
    for s in steps {
        match s {
            RowStep::Map { expr, args } => {
                let mut own: Vec<usize> = vec![];
                for (step, _) in &expr.steps {
                    let of = match *step {
                        Step::Input(i) => {
                            own.push(at[args[i]]);
                            continue;
                        }
                        Step::Const(_) => vec![],
                        Step::Unary(_, a) | Step::Cast(a) => vec![a],
                        Step::Binary(_, a, b) | Step::Compare(_, a, b) => vec![a, b],
                        Step::Select(a, b, c) => vec![a, b, c],
                    };
                    let used: Vec<usize> = of.iter().map(|&i| own[i]).collect();
                    used.iter().for_each(|&v| last[v] = wide.len());
                    own.push(wide.len());
                    wide.push(used.iter().any(|&v| wide[v]));
                    last.push(wide.len() - 1);
                }
                at.extend(own.last());
            }
            RowStep::Reduce { arg, .. } => {
                last[at[*arg]] = wide.len();
                at.push(wide.len());
                wide.push(false);
                last.push(wide.len() - 1);
            }
        }
    }
    for v in results.iter().filter_map(|&r| at.get(r)) {
        last[*v] = wide.len();
    }
    let live = |t: usize| (0..wide.len()).filter(|&v| wide[v] && (v <= t || v < given) && last[v] >= t).count();
    (given.saturating_sub(1)..wide.len()).map(live).max().unwrap_or(1) + 2
}

impl KernelSpec {
    /// Number types of everything that is read, computed and written.
    pub fn dtypes(&self) -> Vec<DType> {
        let mut all: Vec<DType> = self.outputs.iter().map(|t| t.dtype).collect();
        let mut steps = |s: &[RowStep]| {
            for s in s {
                match s {
                    RowStep::Map { expr, .. } => all.extend(expr.steps.iter().map(|s| s.1)),
                    RowStep::Reduce { dtype, .. } => all.push(*dtype),
                }
            }
        };
        match &self.body {
            Body::Rows(r) => {
                steps(&r.steps);
                all.extend(r.loads.iter().map(|l| l.dtype));
            }
            Body::Contract(c) => {
                let inner = || c.a.product.iter().flat_map(|p| [&p.a, &p.b]);
                let operands: Vec<&Operand> = c.b.iter().chain([&c.a]).chain(inner()).collect();
                operands.iter().for_each(|o| steps(&o.steps));
                all.extend(operands.iter().flat_map(|o| &o.loads).chain(&c.loads).map(|l| l.dtype));
                all.extend(c.epilogue.steps.iter().map(|s| s.1));
                all.push(c.dtype);
            }
        }
        all.sort_unstable();
        all.dedup();
        all
    }
    /// Points of all loops together, the inner product's among them; the largest number where they are more.
    pub fn points(&self) -> u64 {
        let product = |parts: &[&[u64]]| parts.iter().flat_map(|p| p.iter()).fold(1u64, |n, &e| n.saturating_mul(e.max(1)));
        match &self.body {
            Body::Rows(r) => product(&[&r.outer, &r.inner]),
            Body::Contract(c) => {
                let inner = c.a.product.as_ref().map_or(1, |p| product(&[&p.sum]));
                product(&[&c.batch, &c.m, &c.n, &c.k]).saturating_mul(inner)
            }
        }
    }
    /// Floating-point operations of one run (a multiply-add is two).
    pub fn flops(&self) -> u64 {
        match &self.body {
            Body::Rows(r) => {
                let outer: u64 = r.outer.iter().product();
                let points = outer * r.inner.iter().product::<u64>();
                r.steps
                    .iter()
                    .map(|s| match s {
                        RowStep::Map { expr, .. } => expr.flops() * points,
                        RowStep::Reduce { .. } => points,
                    })
                    .sum()
            }
            Body::Contract(c) => {
                let p = |v: &[u64]| v.iter().product::<u64>();
                let (batch, m, n, k) = (p(&c.batch), p(&c.m), p(&c.n), p(&c.k));
                let inner = c.a.product.as_ref().map_or(0, |i| 2 * p(&i.sum) + (i.a.flops() * m + i.b.flops() * k) * p(&i.sum) / (m * k));
                let made = m * (c.a.flops() + inner) + n * c.b.iter().map(Operand::flops).sum::<u64>();
                batch * (m * n * (2 * k * c.b.len() as u64 + c.epilogue.flops()) + k * made)
            }
        }
    }
    /// Bytes that memory must move at the least: each element that an access touches, once for each buffer.
    pub fn bytes(&self) -> u64 {
        let mut read = vec![0u64; self.inputs.len()];
        let mut touch = |a: &Access, extents: &[&[u64]]| {
            let all = extents.iter().flat_map(|e| e.iter());
            let points: u64 = a.strides.iter().zip(all).filter(|(s, _)| **s != 0).map(|(_, e)| *e).product();
            if let Some(n) = read.get_mut(a.buffer) {
                *n = n.saturating_add(points);
            }
        };
        match &self.body {
            Body::Rows(r) => r.loads.iter().for_each(|l| touch(&l.access, &[&r.outer, &r.inner])),
            Body::Contract(c) => {
                let mut of = |o: &Operand, own: &[u64], k: &[u64]| o.accesses().for_each(|a| touch(a, &[&c.batch, own, k]));
                of(&c.a, &c.m, &c.k);
                c.b.iter().for_each(|b| of(b, &c.n, &c.k));
                if let Some(p) = &c.a.product {
                    of(&p.a, &c.m, &p.sum);
                    of(&p.b, &c.k, &p.sum);
                }
                c.loads.iter().for_each(|l| touch(&l.access, &[&c.batch, &c.m, &c.n]));
            }
        }
        // Windows overlap: no more than the buffer.
        let bits = |t: &TensorType| t.dtype.bits() as u64;
        let read = self.inputs.iter().zip(read).map(|(t, n)| n.min(t.shape.elements().unwrap_or(n)) * bits(t) / 8);
        read.sum::<u64>() + self.outputs.iter().filter_map(|t| t.bytes()).sum::<u64>()
    }
}
