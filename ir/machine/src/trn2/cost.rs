//! Cycles of one instruction on its engine, from the shapes, types and places of its operands.
//!
//! `N` is the elements per partition of the data operand; partitions run in parallel and cost nothing. The formulas are those of the
//! SDK documentation's tag v2.26.1 with the Vector performance modes of NeuronCore-v3 on top. They are issue intervals: a dependent
//! instruction waits `latency_cycles` more.

use super::isa::Engine;
use super::machine::Machine;
use super::program::Mem;
use tahoma_core::DType;

/// What a cost formula sees of a tile operand.
#[derive(Clone, Copy, Debug)]
pub struct TileInfo {
    pub dtype: DType,
    pub mem: Mem,
    pub partitions: usize,
    /// Elements per partition.
    pub n: usize,
    /// The innermost dimension has step one.
    pub contiguous: bool,
}

/// Operands of one instruction as the cost formulas see them.
#[derive(Clone, Debug)]
pub struct CostArgs<'a> {
    pub machine: &'a Machine,
    pub engine: Engine,
    pub dst: TileInfo,
    /// Tensor sources in operand order, without `[P, 1]` scalars.
    pub srcs: &'a [TileInfo],
    /// ALU operators in operand order.
    pub ops: &'a [&'a str],
    /// `reduce_res` is written: one read-out more.
    pub reads_out: bool,
    /// A 0/1-matrix pass (`is_transpose`).
    pub transpose: bool,
    pub double_row: bool,
    /// Index elements per core of a gather.
    pub valid: usize,
}

/// Cycles of the instruction's engine.
pub type CostFn = fn(&CostArgs) -> f64;

fn is16(d: DType) -> bool {
    matches!(d, DType::BF16 | DType::F16)
}

impl CostArgs<'_> {
    fn src(&self, i: usize) -> TileInfo {
        self.srcs.get(i).copied().unwrap_or(self.dst)
    }
    fn n(&self) -> f64 {
        self.src(0).n as f64
    }
    fn min(&self) -> f64 {
        self.machine.min_cycles
    }
    fn at_least(&self, cycles: f64) -> f64 {
        if self.engine == Engine::GpSimd { self.machine.gpsimd_start_cycles + cycles } else { cycles.max(self.min()) }
    }
    /// 4, 2 or 1: speed of a one-input Vector instruction.
    fn one_input_mode(&self) -> f64 {
        let (s, d) = (self.src(0), self.dst);
        if self.engine != Engine::Vector || !is16(s.dtype) || !is16(d.dtype) {
            return 1.0;
        }
        let contiguous = s.contiguous && d.contiguous;
        match (s.mem == Mem::Sbuf, d.mem == Mem::Sbuf) {
            (true, true) if contiguous => 4.0,
            (true, true) => 2.0,
            (false, false) => 1.0,
            _ if contiguous => 2.0,
            _ => 1.0,
        }
    }
}

/// `max(LS, MM)`, and what taking over the next stationary operand costs: it loads at four columns a cycle behind the previous multiply,
/// but is not quite free ([`Machine::stationary_cycles`]). fp32 takes four passes, as a transpose two (Trainium2 architecture guide: twice
/// as fast).
pub fn matmul(a: &CostArgs) -> f64 {
    let (stationary, moving) = (a.src(0), a.src(1));
    let passes = match (stationary.dtype == DType::F32, a.transpose) {
        (true, false) => 4.0,
        (true, true) => 2.0,
        _ => 1.0,
    };
    let rows = if a.double_row { 0.5 } else { 1.0 };
    (stationary.n as f64 * rows / 4.0).max((moving.n as f64 * rows).max(a.min()) * passes) + a.machine.stationary_cycles
}

/// Tensor engine: `max(P, min(64, F))`, fp32 in two passes; Vector: `max(64, N)`.
pub fn transpose(a: &CostArgs) -> f64 {
    let s = a.src(0);
    if a.engine != Engine::Tensor {
        return a.at_least(s.n as f64);
    }
    let passes = if s.dtype == DType::F32 { 2.0 } else { 1.0 };
    (s.partitions as f64).max(a.min().min(s.n as f64)) * passes + a.machine.stationary_cycles
}

/// One input, with the Vector performance modes.
pub fn one_input(a: &CostArgs) -> f64 {
    a.at_least(a.n() / a.one_input_mode())
}

/// One input, without performance modes.
pub fn plain(a: &CostArgs) -> f64 {
    a.at_least(a.n()) + if a.reads_out { a.min() } else { 0.0 }
}

/// Cost by the destination's size: memset.
pub fn fill(a: &CostArgs) -> f64 {
    a.at_least(a.dst.n as f64)
}

/// `2N`, or `N` when one input is in PSUM, or when everything is 16-bit in SBUF.
pub fn two_inputs(a: &CostArgs) -> f64 {
    let (x, y) = (a.src(0), a.src(1));
    let n = a.dst.n as f64;
    if a.engine == Engine::GpSimd {
        return a.at_least(2.0 * n);
    }
    let half = is16(x.dtype) && is16(y.dtype) && is16(a.dst.dtype) && x.mem == Mem::Sbuf && y.mem == Mem::Sbuf;
    let mixed = (x.mem == Mem::Psum) != (y.mem == Mem::Psum);
    a.at_least(if half || mixed { n } else { 2.0 * n })
}

/// `2N`, or `N` for bf16 with subtract then multiply.
pub fn scalar_tensor_tensor(a: &CostArgs) -> f64 {
    let fast = a.srcs.iter().all(|s| s.dtype == DType::BF16) && a.ops == ["subtract", "multiply"] && a.dst.n.is_multiple_of(2);
    a.at_least(a.dst.n as f64 * if fast { 1.0 } else { 2.0 })
}

/// `N/2` for bf16 add and max, else `N`.
pub fn reduce(a: &CostArgs) -> f64 {
    let fast = a.src(0).dtype == DType::BF16 && a.dst.dtype == DType::BF16 && matches!(a.ops.first(), Some(&"add") | Some(&"maximum"));
    a.at_least(a.n() * if fast { 0.5 } else { 1.0 })
}

pub fn scan(a: &CostArgs) -> f64 {
    a.at_least(2.0 * a.n())
}

/// Eight iterations per element.
pub fn reciprocal(a: &CostArgs) -> f64 {
    a.at_least(8.0 * a.n())
}

pub fn bn_aggr(a: &CostArgs) -> f64 {
    a.at_least(13.0 * a.n() / 3.0)
}

/// Also `select_reduce`, whose cost is not documented.
pub fn predicated(a: &CostArgs) -> f64 {
    let all_sbuf = a.dst.mem == Mem::Sbuf && a.srcs.iter().all(|s| s.mem == Mem::Sbuf);
    a.at_least(a.dst.n as f64 * if all_sbuf { 2.0 } else { 1.0 })
}

/// Always reads its accumulator out.
pub fn activation_reduce(a: &CostArgs) -> f64 {
    a.at_least(a.n()) + a.min()
}

/// `150 + N` by the destination's size.
pub fn generate(a: &CostArgs) -> f64 {
    a.machine.gpsimd_start_cycles + a.dst.n as f64
}

/// `150 + valid·epi / C` with epi = elements per index folded into `valid`.
pub fn local_gather(a: &CostArgs) -> f64 {
    let epi = (a.dst.n as f64 / a.valid.max(1) as f64).max(1.0);
    let c = ((28.0 + 4.0 * epi) / (4.0 * epi)) / (4.0 / (a.dst.dtype.bits() as f64 / 8.0)).min(epi);
    a.machine.gpsimd_start_cycles + a.valid as f64 * epi / c.max(f64::MIN_POSITIVE)
}

/// Not documented: one GpSimd instruction per 512 indices.
pub fn n_gather(a: &CostArgs) -> f64 {
    let n = a.dst.n as f64;
    (n / 512.0).ceil() * a.machine.gpsimd_start_cycles + n
}

/// Not documented and known to be slow: every partition's row passes once.
pub fn partition_reduce(a: &CostArgs) -> f64 {
    a.machine.gpsimd_start_cycles + a.n() * a.src(0).partitions as f64
}

/// DMA is timed by bytes and descriptors, not by cycles.
pub fn dma(_: &CostArgs) -> f64 {
    0.0
}

#[cfg(test)]
mod tests {
    use super::super::machine::TRN2;
    use super::*;

    fn tile(dtype: DType, mem: Mem, n: usize) -> TileInfo {
        TileInfo { dtype, mem, partitions: 128, n, contiguous: true }
    }
    fn args<'a>(engine: Engine, dst: TileInfo, srcs: &'a [TileInfo]) -> CostArgs<'a> {
        CostArgs { machine: &TRN2, engine, dst, srcs, ops: &[], reads_out: false, transpose: false, double_row: false, valid: 0 }
    }

    #[test]
    fn matmul_intervals_are_the_documented_ones() {
        let d = tile(DType::F32, Mem::Psum, 512);
        let t = |dt, m, n| matmul(&args(Engine::Tensor, d, &[tile(dt, Mem::Sbuf, m), tile(dt, Mem::Sbuf, n)]));
        assert_eq!(t(DType::BF16, 128, 512), 512.0 + 30.0);
        assert_eq!(t(DType::F32, 128, 512), 2048.0 + 30.0);
        assert_eq!(t(DType::BF16, 128, 1), 64.0 + 30.0);
        let turn = |dt| {
            let srcs = [tile(dt, Mem::Sbuf, 128), tile(dt, Mem::Sbuf, 128)];
            matmul(&CostArgs { transpose: true, ..args(Engine::Tensor, d, &srcs) })
        };
        assert_eq!((turn(DType::BF16), turn(DType::F32)), (128.0 + 30.0, 256.0 + 30.0));
        let turn = |dt| transpose(&args(Engine::Tensor, d, &[tile(dt, Mem::Sbuf, 128)]));
        assert_eq!((turn(DType::BF16), turn(DType::F32)), (128.0 + 30.0, 256.0 + 30.0));
    }

    #[test]
    fn vector_modes_follow_type_place_and_layout() {
        let b = |mem| tile(DType::BF16, mem, 1024);
        let f = |mem| tile(DType::F32, mem, 1024);
        assert_eq!(one_input(&args(Engine::Vector, b(Mem::Sbuf), &[b(Mem::Sbuf)])), 256.0);
        assert_eq!(one_input(&args(Engine::Vector, b(Mem::Sbuf), &[b(Mem::Psum)])), 512.0);
        assert_eq!(one_input(&args(Engine::Vector, f(Mem::Sbuf), &[f(Mem::Sbuf)])), 1024.0);
        assert_eq!(two_inputs(&args(Engine::Vector, b(Mem::Sbuf), &[b(Mem::Sbuf), b(Mem::Sbuf)])), 1024.0);
        assert_eq!(two_inputs(&args(Engine::Vector, f(Mem::Sbuf), &[f(Mem::Sbuf), f(Mem::Sbuf)])), 2048.0);
    }
}
