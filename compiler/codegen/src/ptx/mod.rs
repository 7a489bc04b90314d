//! PTX kernels: a [`KernelSpec`] becomes one `gpu.func` in upstream MLIR dialects, which every chip from sm_80 on can run.
//!
//! ```text
//! KernelSpec ──schedule──▶ arith · scf · memref · vector · gpu · nvvm text ──tahoma-mlir──▶ PTX
//! ```
//!
//! The kernel's parameters are bare pointers: the inputs, then the outputs, each contiguous and aligned to 16 bytes at least. Outputs
//! must not overlap inputs. The text does not depend on the chip; what differs is the predicted time.
//!
//! Not lowered: number types without a form in registers here (8-bit floats, fp4, e8m0, i4, i2, u4, u2), which give E0502.

mod access;
mod contract;
mod math;
mod printer;
mod rows;
mod scalar;

use crate::target::TargetDef;
use printer::Buf;
use tahoma_core::escape::Ident;
use tahoma_core::kernel::*;
use tahoma_core::{Diagnostic, TensorType};
use tahoma_eqsat::TargetCost;

/// A kernel as MLIR text, with its launch.
#[derive(Clone, Debug, PartialEq)]
pub struct PtxKernel {
    /// Function name: the spec's, made an identifier.
    pub name: Ident,
    /// A module with one `gpu.module`, before any lowering.
    pub mlir: String,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Dynamic shared memory of a block, in bytes; these kernels declare theirs, so it is 0.
    pub shared_bytes: u32,
    /// From the target's roofline.
    pub predicted_ns: f64,
}

/// Most blocks of a grid's first axis.
const MOST_BLOCKS: u64 = (1 << 31) - 1;
/// Shared memory that a kernel may declare, in bytes.
const MOST_SHARED: u64 = 48 << 10;

fn refuse(name: &str, why: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::error("E0502", format!("kernel {name}: {why}")).note("the op runs on the host instead")
}

/// Whether every number type of the kernel has a form in registers.
fn check_types(spec: &KernelSpec) -> Result<(), Diagnostic> {
    let all = spec.inputs.iter().map(|t| t.dtype).chain(spec.dtypes());
    match all.into_iter().find(|d| scalar::memory_ty(*d).is_none()) {
        None => Ok(()),
        Some(d) => Err(refuse(&spec.name, format!("{d} has no PTX form")).note("cast to f16, bf16, f32 or i8 first")),
    }
}

fn buffer(name: String, t: &TensorType, spec: &str) -> Result<Buf, Diagnostic> {
    let elements = t.shape.elements().ok_or_else(|| refuse(spec, format!("{t} is not static")))?;
    let elem = scalar::memory_ty(t.dtype).ok_or_else(|| refuse(spec, format!("{} has no PTX form", t.dtype)))?;
    Ok(Buf { name, elem, elements: elements.max(1), shared: false })
}

/// Largest magnitude an index computation of the access can reach.
fn reach(a: &Access, extents: &[u64]) -> u64 {
    let sum = |offset: i64, c: &[i64]| {
        c.iter().zip(extents).map(|(c, e)| c.unsigned_abs().saturating_mul(*e)).fold(offset.unsigned_abs(), u64::saturating_add)
    };
    a.guards.iter().map(|g| sum(g.offset, &g.coeffs)).fold(sum(a.offset, &a.strides), u64::max)
}

/// Whether 32-bit indices could overflow: then 64-bit ones are used throughout.
fn needs_wide(body: &Body) -> bool {
    let product = |parts: &[&[u64]]| parts.iter().flat_map(|p| p.iter()).fold(1u64, |a, &b| a.saturating_mul(b));
    let most = match body {
        Body::Rows(r) => {
            let all = [&r.outer[..], &r.inner].concat();
            let accesses = r.loads.iter().map(|l| &l.access).chain(r.stores.iter().map(|s| &s.access));
            accesses.map(|a| reach(a, &all)).max().unwrap_or(0).max(product(&[&all]))
        }
        Body::Contract(c) => {
            let out = [&c.batch[..], &c.m, &c.n].concat();
            let over = |o: &Operand, own: &[u64], k: &[u64]| {
                let extents = [&c.batch[..], own, k].concat();
                o.accesses().map(|a| reach(a, &extents)).max().unwrap_or(0)
            };
            let outs = c.loads.iter().map(|l| &l.access).chain(std::iter::once(&c.store)).map(|x| reach(x, &out)).max().unwrap_or(0);
            let b = c.b.iter().map(|b| over(b, &c.n, &c.k)).max().unwrap_or(0);
            let inner = c.a.product.as_ref().map_or(0, |p| over(&p.a, &c.m, &p.sum).max(over(&p.b, &c.k, &p.sum)));
            [outs, over(&c.a, &c.m, &c.k), b, inner, product(&[&out]), product(&[&c.k])].into_iter().max().unwrap_or(0)
        }
    };
    // Room for the tiles' padding and for products on the way.
    most >= 1 << 30
}

/// Why a kernel is not made, as far as that shows without making it. What the search chooses must pass.
pub fn refused(spec: &KernelSpec) -> Option<String> {
    match &spec.body {
        Body::Contract(c) => contract::refused(c),
        Body::Rows(_) => None,
    }
}

/// Schedules a kernel and writes it as MLIR. Errors: E0502 for number types without a form here, E0503 for a grid or shared memory
/// beyond the machine's.
pub fn lower(spec: &KernelSpec, target: &TargetDef) -> Result<PtxKernel, Diagnostic> {
    check_types(spec)?;
    let named = |prefix: &str, ts: &[TensorType]| -> Result<Vec<Buf>, Diagnostic> {
        ts.iter().enumerate().map(|(i, t)| buffer(format!("%{prefix}{i}"), t, &spec.name)).collect()
    };
    let (ins, out_bufs) = (named("in", &spec.inputs)?, named("out", &spec.outputs)?);
    let outs: Vec<_> = out_bufs.iter().cloned().zip(spec.outputs.iter().map(|t| t.dtype)).collect();
    if let Some(why) = refused(spec) {
        return Err(refuse(&spec.name, why));
    }
    let wide = needs_wide(&spec.body);
    let scheduled = match &spec.body {
        Body::Rows(r) => rows::schedule(r, &ins, &outs, wide),
        Body::Contract(c) if contract::fits(c) => {
            let out = outs.get(c.store.buffer).ok_or_else(|| refuse(&spec.name, "it stores to no output"))?;
            let spread = c.is_narrow().then(|| c.spread());
            contract::schedule(spread.as_ref().unwrap_or(c), &ins, out, wide)
                .ok_or_else(|| refuse(&spec.name, "no tile fits into shared memory"))?
        }
        Body::Contract(c) => rows::schedule(&rows::of_contract(c), &ins, &outs, wide),
    };
    let (blocks, threads) = (scheduled.blocks, scheduled.block);
    let shared = scheduled.fun.shared_bytes();
    if blocks > MOST_BLOCKS || shared > MOST_SHARED {
        let what = format!("kernel {}: {blocks} blocks with {shared} bytes of shared memory", spec.name);
        return Err(Diagnostic::error("E0503", what).note(format!("at most {MOST_BLOCKS} blocks and {MOST_SHARED} bytes")));
    }
    let name = Ident::of(&spec.name);
    let arguments: Vec<Buf> = ins.into_iter().chain(out_bufs).collect();
    Ok(PtxKernel {
        mlir: scheduled.fun.finish(&name, &arguments, threads as u32),
        name,
        grid: [blocks.max(1) as u32, 1, 1],
        block: [threads as u32, 1, 1],
        shared_bytes: 0,
        predicted_ns: target.kernel_ns(spec).unwrap_or(f64::INFINITY),
    })
}

#[cfg(test)]
mod tests;
