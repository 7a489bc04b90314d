//! Kernels for a Trainium2 NeuronCore: a [`KernelSpec`] becomes a program of the machine's instructions, printed as NKI Python.
//!
//! ```text
//! rows       partitions = one outer loop (128 at a time), free axis = the row; maps on Vector and Scalar, reductions on Vector
//! taps       short rows (pooling, depthwise): one pass over a tile of outputs per tap
//! contract   K on partitions of both operands, PSUM accumulates over K tiles and taps, epilogue on the way out
//! operand    what a contraction multiplies: reads, expressions, and whole rows (norms, attention)
//! ```
//!
//! Every affine access is a DMA pattern; padding is a memset and a smaller DMA. Tiles are double buffered by the scheduler of the
//! machine's own tools; here one iteration's tiles must fit half of SBUF.

mod contract;
mod operand;
mod rows;
mod scalar;
mod tile;

use tahoma_core::kernel::{Body, KernelSpec};
use tahoma_core::{DType, Diagnostic};
use tahoma_machine::trn2::{self, Builder, Mem, Program, TRN2, Tile};

/// A lowered kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Trn2Kernel {
    pub program: Program,
    /// NKI 0.6 Python, what the artifact holds.
    pub nki: String,
    /// The same program in the `trn` dialect.
    pub mlir: String,
    /// From the roofline of one core: bytes over HBM rate or multiplies over the tensor engine's, whichever is more.
    pub predicted_ns: f64,
}

/// Why a kernel cannot be lowered for this machine; the op then runs on the host.
pub(crate) type Lower<T> = Result<T, String>;

/// Most instructions one kernel may spell out.
const MAX_INSTRUCTIONS: usize = 200_000;

/// Lowers a kernel. Errors: E0502 with the reason, where the machine has no instruction or no room for it.
pub fn lower(spec: &KernelSpec, origin: &str) -> Result<Trn2Kernel, Diagnostic> {
    let refuse = |why: String| Diagnostic::error("E0502", format!("{}: {why}", spec.name)).note("the op runs on the host instead");
    let program = build(spec, origin).map_err(refuse)?;
    let nki = trn2::nki::print(&program);
    let mlir = trn2::trn_mlir::print(&program);
    Ok(Trn2Kernel { predicted_ns: predicted_ns(spec), program, nki, mlir })
}

/// The tile type that holds `d`.
pub(crate) fn tile_type(d: DType) -> Lower<DType> {
    match d {
        DType::F32 | DType::F16 | DType::BF16 => Ok(d),
        DType::Bool => Ok(DType::U8),
        d => Err(format!("no arithmetic on {d} that keeps its exact values")),
    }
}

/// Why the engines cannot compute a kernel, as far as its types and functions tell: cheap enough to ask for every group that fusion
/// thinks of.
pub fn refused(spec: &KernelSpec) -> Option<String> {
    let types = spec.inputs.iter().map(|t| t.dtype).chain(spec.dtypes());
    types.into_iter().find_map(|d| tile_type(d).err()).or_else(|| scalar::refused(spec))
}

/// HBM tensors of the kernel's arguments.
pub(crate) struct Arguments {
    pub(crate) inputs: Vec<Tile>,
    pub(crate) outputs: Vec<Tile>,
}

fn build(spec: &KernelSpec, origin: &str) -> Lower<Program> {
    let mut b = Builder::new(&spec.name);
    b.origin(origin);
    let shape = |t: &tahoma_core::TensorType| -> Lower<Vec<usize>> {
        let s = t.shape.to_static().ok_or("a shape is not static")?;
        // A scalar is one element: NKI tensors have a rank of at least one.
        Ok(if s.is_empty() { vec![1] } else { s })
    };
    let mut inputs = vec![];
    for (i, t) in spec.inputs.iter().enumerate() {
        inputs.push(b.param(&format!("in{i}"), tile_type(t.dtype)?, &shape(t)?));
    }
    let mut outputs = vec![];
    for (i, t) in spec.outputs.iter().enumerate() {
        outputs.push(b.alloc(&format!("out{i}"), tile_type(t.dtype)?, &shape(t)?, Mem::SharedHbm));
    }
    let args = Arguments { inputs, outputs };
    match &spec.body {
        Body::Rows(r) => rows::build(&mut b, &args, r)?,
        Body::Contract(c) => contract::build(&mut b, &args, c)?,
    }
    let outputs: Vec<&Tile> = args.outputs.iter().collect();
    let program = b.finish(&outputs);
    let count = count(&program.body);
    if count > MAX_INSTRUCTIONS {
        return Err(format!("{count} instructions where {MAX_INSTRUCTIONS} are the most for one kernel"));
    }
    Ok(program)
}

fn count(body: &[trn2::Stmt]) -> usize {
    body.iter()
        .map(|s| match s {
            trn2::Stmt::For { body, .. } => count(body),
            trn2::Stmt::Instr(_) => 1,
            _ => 0,
        })
        .sum()
}

/// Bytes of a partition left to the tiles of the other operand and the epilogue, beside rows that are made.
const STREAM_BYTES: usize = 24 << 10;

/// Bytes of a partition that a contraction's row program takes: every value along the whole row, and its turned tiles.
fn row_bytes(c: &tahoma_core::kernel::ContractSpec) -> usize {
    if c.a.is_row() { c.k.iter().product::<u64>() as usize * 4 * c.a.row_values() } else { 0 }
}

/// Roofline time of one core.
pub fn predicted_ns(spec: &KernelSpec) -> f64 {
    let memory = spec.bytes() as f64 / TRN2.hbm_gb_s;
    let compute = match &spec.body {
        Body::Contract(c) => {
            // fp32 takes four passes through the array.
            let passes = if matches!(c.dtype, DType::F16 | DType::BF16) { 1.0 } else { 4.0 };
            spec.flops() as f64 * passes / TRN2.peak_bf16()
        }
        Body::Rows(_) => spec.flops() as f64 / (TRN2.partitions as f64 * TRN2.vector_ghz),
    };
    memory.max(compute) + TRN2.dma_latency_ns
}

#[cfg(test)]
mod tests;
