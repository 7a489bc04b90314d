//! Kernels for a Trainium2 NeuronCore: a [`KernelSpec`] becomes a program of the machine's instructions, printed as NKI Python.
//!
//! ```text
//! rows       partitions = one outer loop (128 at a time), free axis = the row; maps on Vector and Scalar, reductions on Vector
//! taps       short rows (pooling, depthwise): one pass over a tile of outputs per tap
//! window     what all taps of a tile read, brought once with its padding; a tap is a view
//! contract   K on partitions of both operands, PSUM accumulates over K tiles and taps, epilogue on the way out
//! operand    what a contraction multiplies: reads, expressions, and whole rows (norms, attention)
//! ```
//!
//! Every affine access is a DMA pattern; padding is a memset and a smaller DMA. Tiles are double buffered by the scheduler of the
//! machine's own tools; here one iteration's tiles must fit half of SBUF. Where a kernel has two schedules, the machine's clock chooses.

mod contract;
mod operand;
mod rows;
mod scalar;
mod tile;
mod window;

use tahoma_core::kernel::{Body, KernelSpec};
use tahoma_core::{DType, Diagnostic};
use tahoma_eqsat::Price;
use tahoma_machine::trn2::{self, Builder, Mem, Program, TRN2, Tile};

/// A lowered kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Trn2Kernel {
    pub program: Program,
    /// NKI 0.6 Python, what the artifact holds.
    pub nki: String,
    /// The same program in the `trn` dialect.
    pub mlir: String,
    /// Without its launch, by the machine's clock ([`tahoma_machine::trn2::time`]): what the simulator takes, to the digit.
    pub predicted_ns: f64,
}

/// Why a kernel cannot be lowered for this machine; the op then runs on the host.
pub(crate) type Lower<T> = Result<T, String>;

/// Most instructions one kernel may spell out.
const MAX_INSTRUCTIONS: usize = 200_000;

/// Lowers a kernel. Errors: E0502 with the reason, where the machine has no instruction or no room for it.
pub fn lower(spec: &KernelSpec, origin: &str) -> Result<Trn2Kernel, Diagnostic> {
    let refuse = |why: String| Diagnostic::error("E0502", format!("{}: {why}", spec.name)).note("the op runs on the host instead");
    let (program, predicted_ns) = build(spec, origin).map_err(refuse)?;
    let nki = trn2::nki::print(&program);
    let mlir = trn2::trn_mlir::print(&program);
    Ok(Trn2Kernel { predicted_ns, program, nki, mlir })
}

/// What [`lower`] would predict for a kernel, with nothing printed, as far as anybody wants to know.
pub fn price(spec: &KernelSpec, most_ns: f64) -> Price {
    match build_within(spec, "", most_ns) {
        Ok(Some((_, ns))) => Price::Ns(ns),
        Ok(None) => Price::Over,
        Err(_) => Price::Never,
    }
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

/// The fastest of the schedules that there are for a kernel, and its time.
fn build(spec: &KernelSpec, origin: &str) -> Lower<(Program, f64)> {
    build_within(spec, origin, f64::INFINITY)?.ok_or_else(|| "it never ends".into())
}

/// `None` where each takes more than `most_ns`; the reason of the first where none can be.
fn build_within(spec: &KernelSpec, origin: &str, most_ns: f64) -> Lower<Option<(Program, f64)>> {
    let mut best: Option<(Program, f64)> = None;
    let (mut legal, mut why) = (false, None);
    for choice in choices(spec) {
        // A later one need only be timed until it has lost.
        let most = best.as_ref().map_or(most_ns, |b| b.1);
        let timed = emit(spec, origin, choice, most).and_then(|p| match p.map(|p| (trn2::time_within(&p, &TRN2, most), p)) {
            None => Ok(None),
            Some((Ok(t), p)) => Ok(t.map(|t| (p, t.total_ns))),
            Some((Err(fault), _)) => Err(fault.to_string()),
        });
        match timed {
            Ok(t) => {
                legal = true;
                best = t.filter(|t| best.as_ref().is_none_or(|b| t.1 < b.1)).or(best);
            }
            Err(e) => why = why.or(Some(e)),
        }
    }
    if legal { Ok(best) } else { Err(why.unwrap_or_else(|| "no schedule".into())) }
}

fn choices(spec: &KernelSpec) -> Vec<Choice> {
    match &spec.body {
        Body::Rows(r) => rows::choices(r).iter().map(|&c| Choice::Rows(c)).collect(),
        Body::Contract(c) => contract::choices(c).iter().map(|&c| Choice::Contract(c)).collect(),
    }
}

/// What schedules differ in.
#[derive(Clone, Copy, Debug)]
enum Choice {
    Rows(rows::Across),
    Contract(contract::Stays),
}

/// Nanoseconds that an instruction takes at least where all engines that compute are busy with the shortest there are.
fn least_ns() -> f64 {
    let m = &TRN2;
    let tensor = m.tensor_ghz / (m.min_cycles + m.stationary_cycles);
    1.0 / (tensor + (m.vector_ghz + m.scalar_ghz) / m.min_cycles + m.gpsimd_ghz / m.gpsimd_start_cycles)
}

/// The program of one choice; `None` where it would take more than `most_ns`.
fn emit(spec: &KernelSpec, origin: &str, choice: Choice, most_ns: f64) -> Lower<Option<Program>> {
    let mut b = Builder::new(&spec.name);
    b.origin(origin);
    let wanted = (most_ns / least_ns()).max(0.0) as usize;
    b.limit(wanted.min(MAX_INSTRUCTIONS));
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
    let built = match (&spec.body, choice) {
        (Body::Rows(r), Choice::Rows(across)) => rows::build(&mut b, &args, r, across),
        (Body::Contract(c), Choice::Contract(stays)) => contract::build(&mut b, &args, c, stays),
        _ => Err("a schedule of another form".into()),
    };
    if b.full() && wanted < MAX_INSTRUCTIONS {
        return Ok(None);
    }
    built?;
    let outputs: Vec<&Tile> = args.outputs.iter().collect();
    let program = b.finish(&outputs);
    let count = count(&program.body);
    if count > MAX_INSTRUCTIONS {
        return Err(format!("{count} instructions where {MAX_INSTRUCTIONS} are the most for one kernel"));
    }
    Ok(Some(program))
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

#[cfg(test)]
mod tests;
