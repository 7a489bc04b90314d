//! What a kernel computes, free of any target: loop extents, affine reads and writes, scalar bodies. Code generators schedule it.
//!
//! Buffers are contiguous and row-major; views (transposes, slices, broadcasts, padding) are folded into the accesses:
//!
//! ```text
//! read(i) = if every guard holds at i { buffer[offset + Σ strides[d]·i[d]] } else { fill }
//! ```

use crate::op::Monoid;
use crate::scalar::Expr;
use crate::types::{DType, TensorType};
use serde::{Deserialize, Serialize};

/// `0 <= offset + Σ coeffs[d]·i[d] < extent`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guard {
    pub offset: i64,
    pub coeffs: Vec<i64>,
    pub extent: i64,
}

/// An affine read or write of one buffer, over the loop variables its context names. Units: elements.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Access {
    /// Index into `KernelSpec::inputs` (reads) or `outputs` (writes).
    pub buffer: usize,
    pub offset: i64,
    pub strides: Vec<i64>,
    /// Empty where the access can never leave the buffer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guards: Vec<Guard>,
    /// Read where a guard fails (padding); −inf is kept as `"-inf"` by the manifest.
    #[serde(default, with = "crate::serde_float")]
    pub fill: f64,
}

/// One kernel: what is launched with one grid, or called as one NKI function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelSpec {
    pub name: String,
    /// Types of the argument buffers; static.
    pub inputs: Vec<TensorType>,
    pub outputs: Vec<TensorType>,
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rows {
    pub outer: Vec<u64>,
    pub inner: Vec<u64>,
    pub loads: Vec<Load>,
    pub steps: Vec<RowStep>,
    pub stores: Vec<Store>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Over `outer ++ inner` (over `outer` alone where `per_row`).
    pub access: Access,
    pub dtype: DType,
    #[serde(default)]
    pub per_row: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowStep {
    /// `Expr` input i is value `args[i]`.
    Map { expr: Expr, args: Vec<usize> },
    /// Combines row value `arg` over `inner`; result in `dtype` (f32 accumulation for 16-bit floats).
    Reduce { monoid: Monoid, arg: usize, dtype: DType },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Store {
    /// Over `outer ++ inner` for a row value, over `outer` for a scalar. Injective, no guards.
    pub access: Access,
    pub value: usize,
}

/// `out[b, m, n] = epilogue(Σ_k A[b, m, k] · B[b, n, k], extra reads at [b, m, n])`, each of b, m, n, k a list of extents.
///
/// matmul: m = rows, n = columns, k = the inner axis. Convolution: b = groups, m = output channels, n = batch and output pixels,
/// k = input channels and taps; A = weights, B = input with its padding as guards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContractSpec {
    pub batch: Vec<u64>,
    pub m: Vec<u64>,
    pub n: Vec<u64>,
    pub k: Vec<u64>,
    /// Over `batch ++ m ++ k`.
    pub a: Access,
    /// Over `batch ++ n ++ k`.
    pub b: Access,
    /// Type of A and B elements; the sum is f32 (f64 for f64, i32 for integers).
    pub dtype: DType,
    /// Extra reads, over `batch ++ m ++ n`.
    pub loads: Vec<Load>,
    /// Input 0 is the sum, input i + 1 is `loads[i]`.
    pub epilogue: Expr,
    /// Over `batch ++ m ++ n`.
    pub store: Access,
}

impl KernelSpec {
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
                let out: u64 = c.batch.iter().chain(&c.m).chain(&c.n).product();
                out * (2 * c.k.iter().product::<u64>() + c.epilogue.flops())
            }
        }
    }
    /// Bytes of all argument buffers: the least that memory must move.
    pub fn bytes(&self) -> u64 {
        self.inputs.iter().chain(&self.outputs).filter_map(|t| t.bytes()).sum()
    }
}
