//! A clock for Nvidia chips, in its first form: analytic, on what one launch of a kernel was seen to do.
//!
//! ```text
//! kernel = start + max( rounds of blocks on one SM × (max(a block alone, the SM's work) + a quarter of the work of the other blocks),
//!                       sectors over L2, bytes over DRAM )
//! the SM's work = max(issue, each pipe, shared memory, L1)
//! a block alone = 0.4 × its longest chain + 0.6 × the same with instructions in their order
//! ```
//!
//! The emulator counts ([`Counts`]); this says how long that takes ([`Chip::cycles`]). What it sees that a roofline does not: grids of a
//! few blocks, chains of dependent instructions, narrow accesses, bank conflicts, polynomials. What it does not see: registers that
//! ptxas spills or that limit how many blocks fit, L1 evictions, caches that are cold.
//!
//! Latencies and rates: NVIDIA's H100 white paper and CUDA C++ programming guide (throughput table), microbenchmarks of Hopper (arXiv 2402.13499,
//! 2501.12084). The start, the shares 0.4 and 0.6, and the quarter were fitted to 626 kernels measured on an H100
//! (`tests/gpu/h100-kernels.tsv`); of 268 others nine of ten are predicted within 0.78 to 1.15 of what they took. For other chips nothing was measured, so they have no row.

use tahoma_core::launches::LaunchTimes;

/// A launch on a stream, first or next: an estimate, which data sheets do not tell.
pub const LAUNCHES: LaunchTimes = LaunchTimes { segment_ns: 3_000.0, boundary_ns: 3_000.0 };

/// Which part of an SM an instruction keeps busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pipe {
    /// Nothing is left of it in machine code: moves between registers, addresses of parameters.
    None,
    /// f32 and packed 16-bit arithmetic, integer products.
    Fma,
    /// Integer arithmetic, comparisons, selections.
    Alu,
    /// Reciprocals, roots, exponentials, conversions between integers and floats.
    Xu,
    /// f64.
    Double,
    /// Matrix products.
    Tensor,
    /// Memory, shuffles.
    Lsu,
    /// Branches, barriers.
    Control,
}

impl Pipe {
    pub const ALL: [Pipe; 7] = [Pipe::Fma, Pipe::Alu, Pipe::Xu, Pipe::Double, Pipe::Tensor, Pipe::Lsu, Pipe::Control];
}

/// What a PTX instruction becomes: issue slots of a warp, cycles of its pipe for one warp, and cycles until its result can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    pub pipe: Pipe,
    pub slots: u16,
    /// Of one of the SM's four parts; a pipe of 16 lanes takes 2 for a warp.
    pub busy: u16,
    pub latency: u16,
}

const fn unit(pipe: Pipe, slots: u16, busy: u16, latency: u16) -> Unit {
    Unit { pipe, slots, busy, latency }
}

/// Cycles from a load to its value: shared memory, L1, L2; and of a barrier once all have come.
pub const SHARED_LATENCY: u64 = 29;
pub const L1_LATENCY: u64 = 38;
pub const L2_LATENCY: u64 = 270;
pub const BARRIER_LATENCY: u64 = 24;

/// The unit of a mnemonic. Memory accesses get their latency from where they hit.
pub fn of(mnemonic: &str) -> Unit {
    let mut parts = mnemonic.split('.');
    let base = parts.next().unwrap_or("");
    let has = |m: &str| mnemonic.split('.').skip(1).any(|p| p == m);
    let double = has("f64");
    let wide = has("b64") || has("u64") || has("s64");
    let halves = mnemonic.contains("16x2") || has("f16") || has("bf16");
    let float = has("f32") || halves || mnemonic.contains("f32x2");
    match base {
        "mov" | "cvta" | "isspacep" | "nop" | "pragma" | "createpolicy" => unit(Pipe::None, 0, 0, 0),
        "ld" | "ldu" if has("param") || has("const") => unit(Pipe::None, 0, 0, 0),
        "ld" | "ldu" | "st" | "atom" | "red" | "cp" | "prefetch" => unit(Pipe::Lsu, 1, 1, 4),
        "ldmatrix" | "stmatrix" => unit(Pipe::Lsu, 1, 1, 33),
        "shfl" | "match" | "redux" => unit(Pipe::Lsu, 1, 1, 24),
        "vote" | "activemask" | "elect" => unit(Pipe::Alu, 1, 2, 12),
        "mma" => tensor(mnemonic),
        "bra" | "brx" | "ret" | "exit" | "trap" => unit(Pipe::Control, 1, 1, 8),
        "bar" | "barrier" | "fence" | "membar" => unit(Pipe::Control, 1, 1, 0),
        "add" | "sub" | "mul" | "fma" | "mad" | "neg" | "abs" if double => unit(Pipe::Double, 1, 2, 8),
        "div" | "sqrt" | "rcp" if double => unit(Pipe::Double, 24, 48, 200),
        "min" | "max" if double => unit(Pipe::Alu, 4, 8, 20),
        "ex2" | "lg2" | "sin" | "cos" | "tanh" | "rsqrt" => unit(Pipe::Xu, 1, 2, 22),
        "rcp" | "sqrt" | "div" if has("approx") => unit(Pipe::Xu, 2, 2, 30),
        // In software: a seed, Newton steps, a test for what is out of range.
        "rcp" | "sqrt" => unit(Pipe::Fma, 8, 8, 50),
        "div" if float => unit(Pipe::Fma, 10, 10, 60),
        "div" | "rem" if wide => unit(Pipe::Fma, 80, 80, 400),
        "div" | "rem" => unit(Pipe::Fma, 20, 20, 110),
        "fma" | "copysign" => unit(Pipe::Fma, 1, 1, 4),
        "add" | "sub" | "mul" if float => unit(Pipe::Fma, 1, 1, 4),
        "min" | "max" | "neg" | "abs" if float => unit(Pipe::Alu, 1, 2, 4),
        "mul" | "mad" if wide => unit(Pipe::Fma, 4, 8, 12),
        "mul" | "mad" | "dp4a" | "dp2a" => unit(Pipe::Fma, 1, 2, 4),
        "cvt" => convert(mnemonic),
        "popc" | "clz" | "brev" | "bfind" => unit(Pipe::Xu, 1, 2, 22),
        "add" | "sub" | "neg" | "min" | "max" | "shl" | "shr" | "and" | "or" | "xor" | "not" | "selp" | "abs" if wide => {
            unit(Pipe::Alu, 2, 4, 6)
        }
        "setp" if wide => unit(Pipe::Alu, 2, 4, 14),
        "setp" | "testp" | "set" => unit(Pipe::Alu, 1, 2, 12),
        _ => unit(Pipe::Alu, 1, 2, 4),
    }
}

/// `cvt.TO.FROM`: between floats in the ALU's rate, with integers in that of the special functions; between integers, a mask or nothing.
fn convert(mnemonic: &str) -> Unit {
    let types: Vec<&str> = mnemonic
        .split('.')
        .filter(|p| p.len() > 1 && p[1..].starts_with(|c: char| c.is_ascii_digit()) || p.starts_with("bf") || p.starts_with("tf"))
        .collect();
    let float = |t: &str| t.starts_with('f') || t.starts_with("bf") || t.starts_with("tf") || t.starts_with("e4") || t.starts_with("e5");
    match types[..] {
        [to, from, ..] if float(to) != float(from) => unit(Pipe::Xu, 1, 2, 22),
        [to, from, ..] if float(to) && (to == "f64" || from == "f64") => unit(Pipe::Xu, 1, 2, 22),
        _ => unit(Pipe::Alu, 1, 2, 4),
    }
}

/// `mma.sync`: what the tensor core of one part takes for m·n·k. Warp-wide products reach about 0.62 of what `wgmma` does (arXiv 2501.12084).
fn tensor(mnemonic: &str) -> Unit {
    let shape = mnemonic.split('.').find(|p| p.starts_with('m') && p.contains('n') && p.contains('k')).unwrap_or("m16n8k8");
    let mut numbers = shape.split(|c: char| !c.is_ascii_digit()).filter_map(|s| s.parse::<u64>().ok());
    let (m, n, k) = (numbers.next().unwrap_or(16), numbers.next().unwrap_or(8), numbers.next().unwrap_or(8));
    let has = |t: &str| mnemonic.split('.').any(|p| p == t);
    // Products and sums a cycle of one of the four tensor cores.
    let rate = match () {
        () if has("f64") => 16,
        () if has("tf32") => 256,
        () if has("s8") || has("u8") || mnemonic.contains("e4m3") || mnemonic.contains("e5m2") => 1024,
        () => 512,
    };
    let busy = (m * n * k * 100).div_ceil(rate * 62).max(1) as u16;
    unit(Pipe::Tensor, 1, busy, 33)
}

/// A launch, as far as the clock needs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Launch {
    pub blocks: u64,
    pub threads: u64,
    /// Of one block, static and dynamic.
    pub shared_bytes: u64,
}

/// What the emulator saw, over all blocks of a launch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Longest chain of a block, summed over blocks.
    pub chain: u64,
    /// The same if no instruction overtakes the one before it.
    pub in_order: u64,
    /// Issue slots of warps.
    pub slots: u64,
    /// Cycles of a pipe of one of an SM's four parts, by [`Pipe`].
    pub busy: [u64; 8],
    /// Passes through shared memory: 128 bytes each, more where banks conflict.
    pub wavefronts: u64,
    /// Requests of warps for global memory, and the 32-byte sectors that they touch.
    pub requests: u64,
    pub load_sectors: u64,
    pub store_sectors: u64,
    /// Sectors that a block loads for the first time.
    pub l2_sectors: u64,
    /// Bytes in different sectors, of all blocks together.
    pub footprint: u64,
}

/// An Nvidia chip: one row for each.
#[derive(Clone, Debug, PartialEq)]
pub struct Chip {
    pub name: &'static str,
    pub sms: u64,
    /// Under load.
    pub ghz: f64,
    /// Of one SM.
    pub shared_bytes: u64,
    pub threads: u64,
    pub blocks: u64,
    /// Of L2 to all SMs together, and of DRAM: bytes a cycle.
    pub l2_bytes: f64,
    pub dram_bytes: f64,
    pub l2_size: u64,
    /// Cycles of a kernel that does nothing, from its start to its end as the profiler sees them.
    pub start: u64,
}

/// H100 SXM5. 3.35 TB/s; L2 5.5 TB/s measured (arXiv 2501.12084).
pub static H100: Chip = Chip {
    name: "H100",
    sms: 132,
    ghz: 1.755,
    shared_bytes: 227 << 10,
    threads: 2_048,
    blocks: 32,
    l2_bytes: 3_130.0,
    dram_bytes: 1_909.0,
    l2_size: 50 << 20,
    start: 3_300,
};

/// How much of a block's time is that of instructions in their order: ptxas moves some of them up. Fitted.
const IN_ORDER: f64 = 0.6;
/// How much of the work of other blocks on the SM is not hidden behind a block's own chain. Fitted.
const CROWDING: f64 = 0.25;

impl Chip {
    /// The chip that a target's kernels are timed for, where there is one that was measured.
    pub fn of_target(target: &str) -> Option<&'static Chip> {
        matches!(target, "sm_90" | "sm_90a").then_some(&H100)
    }

    /// Blocks that an SM holds at once.
    pub fn resident(&self, l: &Launch) -> u64 {
        // A block takes 1 KiB of shared memory for the system.
        let shared = self.shared_bytes / (l.shared_bytes + 1024);
        shared.min(self.threads / l.threads.next_multiple_of(32).max(1)).clamp(1, self.blocks)
    }

    /// Cycles of the kernel.
    pub fn cycles(&self, l: &Launch, c: &Counts) -> f64 {
        if l.blocks == 0 {
            return 0.0;
        }
        let share = |total: u64| total as f64 / l.blocks as f64;
        let on_one = l.blocks.div_ceil(self.sms);
        let resident = self.resident(l).min(on_one) as f64;
        let rounds = on_one as f64 / resident;
        let alone = (1.0 - IN_ORDER) * share(c.chain) + IN_ORDER * share(c.in_order);
        // Of one block, if the SM did nothing but that.
        let mut work = share(c.slots) / 4.0;
        for p in Pipe::ALL {
            work = work.max(share(c.busy[p as usize]) / 4.0);
        }
        work = work.max(share(c.wavefronts));
        // L1 looks one request up a cycle and gives 128 bytes; L2 sends an SM 64.
        work = work.max(share(c.requests.max((c.load_sectors + c.store_sectors).div_ceil(4))));
        work = work.max(share(c.l2_sectors + c.store_sectors) / 2.0);
        let round = alone.max(resident * work) + CROWDING * (resident - 1.0) * work;
        let l2 = (c.l2_sectors + c.store_sectors) as f64 * 32.0 / self.l2_bytes;
        // What fits is taken to be in L2, as what the kernel before wrote is.
        let dram = if c.footprint > self.l2_size / 2 { c.footprint as f64 / self.dram_bytes } else { 0.0 };
        self.start as f64 + (rounds * round).max(l2).max(dram)
    }

    /// Nanoseconds of the kernel, without what the host does to launch it.
    pub fn ns(&self, l: &Launch, c: &Counts) -> f64 {
        self.cycles(l, c) / self.ghz
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_executed_instruction_has_a_unit() {
        for i in crate::ptx::INSTRUCTIONS {
            let u = of(&format!("{}.f32", i.name));
            assert!(u.pipe == Pipe::None || u.slots > 0 && u.busy > 0, "{}: {u:?}", i.name);
        }
    }

    #[test]
    fn mnemonics_are_told_apart() {
        assert_eq!(of("fma.rn.f32").pipe, Pipe::Fma);
        assert_eq!((of("add.s32").pipe, of("add.f32").pipe, of("add.rn.f64").pipe), (Pipe::Alu, Pipe::Fma, Pipe::Double));
        assert_eq!((of("ld.param.b64").pipe, of("ld.global.b32").pipe), (Pipe::None, Pipe::Lsu));
        assert_eq!((of("cvt.rn.f32.s32").pipe, of("cvt.f32.f16").pipe, of("cvt.s64.s32").pipe), (Pipe::Xu, Pipe::Alu, Pipe::Alu));
        assert_eq!((of("ex2.approx.ftz.f32").pipe, of("div.rn.f32").slots > 5, of("div.approx.f32").pipe), (Pipe::Xu, true, Pipe::Xu));
        // 2048 products at 512 a cycle, and the same of half the rate; 0.62 of it.
        assert_eq!(of("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32").busy, 7);
        assert_eq!(of("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32").busy, 7);
    }

    #[test]
    fn more_work_never_takes_less_time_and_a_small_grid_no_less_than_a_block() {
        let l = Launch { blocks: 1, threads: 128, shared_bytes: 0 };
        let c = Counts { chain: 10_000, in_order: 10_000, slots: 4_000, ..Counts::default() };
        let one = H100.cycles(&l, &c);
        assert_eq!(one, 13_300.0);
        let times = |n: u64| Counts { chain: n * c.chain, in_order: n * c.in_order, slots: n * c.slots, ..Counts::default() };
        let mut last = one;
        for blocks in [2, 100, 132, 133, 264, 1000, 10_000] {
            let t = H100.cycles(&Launch { blocks, ..l }, &times(blocks));
            assert!(t >= last, "{blocks} blocks: {t} after {last}");
            last = t;
        }
        assert_eq!(H100.cycles(&Launch { blocks: 132, ..l }, &times(132)), one);
        assert_eq!(H100.cycles(&Launch::default(), &Counts::default()), 0.0);
    }
}
