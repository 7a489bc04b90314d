//! Running a grid: blocks one after the other, warps of a block in turn between barriers.
//!
//! The order is fixed, so the same launch gives the same bytes every time.

use super::fault::{Fault, What};
use super::isa::{Class, Const, Special};
use super::memory::{Checks, Memory};
use super::profile::Profile;
use super::shared::Shared;
use super::warp::{LaneFault, Machine, State, Stop, Warp};
use super::{Kernel, Module};
use tahoma_machine::gpu::Counts;

/// A kernel argument; its size must be the parameter's.
#[derive(Clone, Debug, PartialEq)]
pub enum Arg {
    /// Device address from [`Memory::alloc`] (or an offset into one); 8 bytes.
    Ptr(u64),
    /// 4 bytes.
    U32(u32),
    /// 8 bytes.
    U64(u64),
    /// 4 bytes.
    F32(f32),
    /// A structure, by value.
    Bytes(Vec<u8>),
}

impl Arg {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Arg::Ptr(v) | Arg::U64(v) => v.to_le_bytes().to_vec(),
            Arg::U32(v) => v.to_le_bytes().to_vec(),
            Arg::F32(v) => v.to_le_bytes().to_vec(),
            Arg::Bytes(b) => b.clone(),
        }
    }
}

/// What a launch checks. The default is everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Races in shared memory, and between blocks in global memory.
    pub races: bool,
    /// Reads of memory and registers that nothing wrote. When off, they read as zero or as left by another block.
    pub uninitialised: bool,
    /// Warp instructions after which the launch is a runaway.
    pub budget: u64,
    /// Count what a GPU would spend time on ([`Stats::counts`]).
    pub profile: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { races: true, uninitialised: true, budget: 20_000_000_000, profile: false }
    }
}

/// What a launch did, in warp instructions unless said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Blocks run.
    pub blocks: u64,
    /// Arithmetic, moves, comparisons, conversions.
    pub alu: u64,
    /// Branches and exits.
    pub control: u64,
    /// Global (and generic) loads, stores, atomics, and cp.async copies.
    pub global: u64,
    /// Shared loads, stores, atomics and matrix moves.
    pub shared: u64,
    /// Parameter and local loads and stores.
    pub other: u64,
    /// Barriers, shuffles, votes, fences.
    pub sync: u64,
    /// Matrix multiplications.
    pub mma: u64,
    /// Floating-point (or integer) operations in those: 2·m·n·k each.
    pub mma_flops: u64,
    /// Bytes that threads loaded from global memory (each thread counted, so no cache or coalescing).
    pub global_load_bytes: u64,
    /// Bytes that threads stored to global memory.
    pub global_store_bytes: u64,
    /// Bytes that threads loaded from shared memory.
    pub shared_load_bytes: u64,
    /// Bytes that threads stored to shared memory.
    pub shared_store_bytes: u64,
    /// With [`Options::profile`]: what the clock of a chip asks for.
    pub counts: Counts,
}

impl Stats {
    pub(super) fn count(&mut self, c: Class) {
        match c {
            Class::Alu => self.alu += 1,
            Class::Control => self.control += 1,
            Class::Global => self.global += 1,
            Class::Shared => self.shared += 1,
            Class::Other => self.other += 1,
            Class::Sync => self.sync += 1,
            Class::Mma => self.mma += 1,
        }
    }

    /// All warp instructions.
    #[must_use]
    pub fn instructions(&self) -> u64 {
        self.alu + self.control + self.global + self.shared + self.other + self.sync + self.mma
    }
}

/// Largest block, in threads, and largest shared memory of a block, in bytes, on sm_90 and sm_100.
const MAX_THREADS: u64 = 1024;
const MAX_SHARED: u64 = 232_448;
/// Largest statically declared shared memory.
const MAX_STATIC_SHARED: u64 = 49_152;
/// Warp instructions before another warp gets its turn, so that spinning on a neighbour ends.
const QUANTUM: u64 = 1 << 20;

struct Barrier {
    arrived: u32,
    expected: u32,
    /// Warps that arrived, and those of them that wait.
    warps: u32,
    waiting: u32,
}

/// Runs `kernel` over `grid` blocks of `block` threads with `dynamic_shared` bytes of `.extern .shared`
/// memory, and returns what it did; the first fault ends it (stores before it remain).
#[allow(clippy::too_many_arguments, reason = "a launch is these eight things, in the driver's order")]
pub fn launch(
    module: &Module,
    kernel: &str,
    grid: [u32; 3],
    block: [u32; 3],
    dynamic_shared: u32,
    args: &[Arg],
    mem: &mut Memory,
    opts: &Options,
) -> Result<Stats, Fault> {
    let refuse = |detail: String| Fault {
        kernel: kernel.to_owned(),
        file: module.file.clone(),
        line: 0,
        text: String::new(),
        block: [0; 3],
        thread: None,
        what: What::Launch { detail },
    };
    let Some(k) = module.kernel(kernel) else {
        let known: Vec<&str> = module.kernels().map(|k| k.name.as_str()).collect();
        return Err(refuse(format!("no such kernel; the module has: {}", known.join(", "))));
    };
    let params = pack_params(k, args).map_err(refuse)?;
    let shared_bytes = check_shape(k, grid, block, dynamic_shared).map_err(refuse)?;
    let globals = mem.module(module.id, &module.globals).map_err(|why| refuse(why.to_string()))?;

    let threads = block.iter().product::<u32>();
    let warps = threads.div_ceil(32) as usize;
    let blocks: u64 = grid.iter().map(|d| u64::from(*d)).product();
    let tracked = opts.races || opts.uninitialised;
    let launch_stamp = mem.stamp;
    mem.stamp += blocks + 1;
    let mut machine = Machine {
        code: &k.code,
        shared: Shared::new(shared_bytes as usize, k.code.shared_granule, warps, opts.races, opts.uninitialised),
        params: &params,
        local_bytes: k.local_bytes as usize,
        checks: Checks {
            uninit: opts.uninitialised,
            races: opts.races && blocks > 1,
            launch: launch_stamp,
            block: 0,
            shift: k.code.global_granule.trailing_zeros(),
        },
        tracked,
        hints: vec![u32::MAX; k.code.insts.len()],
        stats: Stats::default(),
        profile: opts.profile.then(|| Box::new(Profile::new(warps, &k.code))),
        mem,
    };
    let mut team: Vec<Warp> = (0..warps)
        .map(|i| {
            let mut w = Warp::new(i as u32, &k.code, k.local_bytes as usize);
            fill_constants(&mut w, k, &globals);
            fill_specials(&mut w, k, grid, block, dynamic_shared, shared_bytes as u32);
            w
        })
        .collect();

    let mut left = opts.budget;
    let mut at = [0u32; 3];
    for linear in 0..blocks {
        machine.checks.block = launch_stamp + 1 + linear;
        machine.shared.start_block();
        for w in &mut team {
            let lanes = (threads - w.index * 32).min(32);
            w.restart(u32::MAX >> (32 - lanes));
            for p in &k.code.written {
                w.regs.p[*p as usize] = if opts.uninitialised { 0 } else { u32::MAX };
            }
            for (r, s) in &k.code.special {
                if let Special::Ctaid(axis) = s {
                    w.regs.r32[*r as usize] = [at[usize::from(*axis)]; 32];
                }
            }
        }
        run_block(&mut machine, &mut team, threads, &mut left).map_err(|(warp, pc, f)| {
            let f = if let What::Runaway { .. } = f.what { LaneFault { what: What::Runaway { executed: opts.budget }, ..f } } else { f };
            let line = k.code.lines.get(pc as usize).copied().unwrap_or(0);
            let thread = f.lane.map(|l| {
                let t = warp * 32 + l as u32;
                [t % block[0], t / block[0] % block[1], t / (block[0] * block[1])]
            });
            Fault { kernel: k.name.clone(), file: module.file.clone(), line, text: module.text(line), block: at, thread, what: f.what }
        })?;
        machine.stats.blocks += 1;
        if let Some(p) = &mut machine.profile {
            p.end_block();
        }
        for (i, limit) in at.iter_mut().zip(grid) {
            *i += 1;
            if *i < limit {
                break;
            }
            *i = 0;
        }
    }
    if let Some(p) = machine.profile {
        machine.stats.counts = p.counts(&k.code);
    }
    Ok(machine.stats)
}

/// Runs one block to its end. An error names the warp and the instruction.
fn run_block(machine: &mut Machine<'_>, team: &mut [Warp], threads: u32, left: &mut u64) -> Result<(), (u32, u32, LaneFault)> {
    let mut barriers: Vec<Option<Barrier>> = (0..16).map(|_| None).collect();
    loop {
        let mut moved = false;
        for i in 0..team.len() {
            if team[i].state != State::Ready {
                continue;
            }
            moved = true;
            let w = &mut team[i];
            let index = w.index;
            let before = machine.stats.instructions();
            let stop = machine.run(w, QUANTUM.min(*left)).map_err(|f| (index, w.pc, f))?;
            *left -= (machine.stats.instructions() - before).min(*left);
            match stop {
                Stop::Exited => {}
                Stop::Quantum if *left == 0 => {
                    let lane = None;
                    return Err((index, w.pc, LaneFault { lane, what: What::Runaway { executed: 0 } }));
                }
                Stop::Quantum => {}
                Stop::Barrier { id, count, wait } => {
                    let bad = |detail: String| (index, w.pc - 1, LaneFault { lane: None, what: What::BadOperand { detail } });
                    let Some(slot) = barriers.get_mut(id as usize) else {
                        return Err(bad(format!("barrier {id}: a block has barriers 0 to 15")));
                    };
                    if count.is_some_and(|c| c % 32 != 0 || c == 0) {
                        return Err(bad("a barrier's thread count is a multiple of 32".to_owned()));
                    }
                    let b = slot.get_or_insert(Barrier { arrived: 0, expected: 0, warps: 0, waiting: 0 });
                    b.expected = count.unwrap_or(threads);
                    b.arrived += if count.is_some() { 32 } else { w.live.count_ones() };
                    b.warps |= 1 << i;
                    b.waiting |= u32::from(wait) << i;
                    if b.arrived >= b.expected {
                        machine.shared.barrier(b.warps);
                        let waiting = b.waiting;
                        *slot = None;
                        for (j, w) in team.iter_mut().enumerate() {
                            if waiting >> j & 1 == 1 {
                                w.state = State::Ready;
                            }
                        }
                    }
                }
            }
        }
        if team.iter().all(|w| w.state == State::Done) {
            return Ok(());
        }
        if !moved {
            return Err(deadlock(machine, team, &barriers, threads));
        }
    }
}

fn deadlock(machine: &Machine<'_>, team: &[Warp], barriers: &[Option<Barrier>], threads: u32) -> (u32, u32, LaneFault) {
    let mut parts = Vec::new();
    let mut first = None;
    for w in team {
        if let State::Waiting(id) = w.state {
            let b = barriers.get(id as usize).and_then(|b| b.as_ref());
            let line = machine.code.lines.get(w.pc as usize - 1).copied().unwrap_or(0);
            let (arrived, expected) = b.map_or((0, threads), |b| (b.arrived, b.expected));
            let said = format!("barrier {id} has {arrived} of {expected} threads (line {line})");
            if !parts.contains(&said) {
                parts.push(said);
            }
            first = first.or(Some((w.index, w.pc - 1)));
        }
    }
    let live: u32 = team.iter().map(|w| w.live.count_ones()).sum();
    if live < threads {
        parts.push(format!("{} of {threads} threads have exited", threads - live));
    }
    let (warp, pc) = first.unwrap_or((0, 0));
    let what = What::Barrier { detail: parts.join("; ") };
    (warp, pc, LaneFault { lane: Some(0), what })
}

fn pack_params(k: &Kernel, args: &[Arg]) -> Result<Vec<u8>, String> {
    if args.len() != k.params.len() {
        return Err(format!("{} arguments where the kernel has {} parameters", args.len(), k.params.len()));
    }
    let mut out = vec![0; k.param_bytes as usize];
    for (i, (a, p)) in args.iter().zip(&k.params).enumerate() {
        let b = a.bytes();
        if b.len() as u64 != p.bytes {
            return Err(format!("argument {i} has {} bytes where '{}' has {}", b.len(), p.name, p.bytes));
        }
        out[p.offset as usize..p.offset as usize + b.len()].copy_from_slice(&b);
    }
    Ok(out)
}

/// Total shared bytes of a block, if the launch is possible on the target.
fn check_shape(k: &Kernel, grid: [u32; 3], block: [u32; 3], dynamic_shared: u32) -> Result<u64, String> {
    let threads = block.iter().try_fold(1u64, |p, d| p.checked_mul(u64::from(*d))).unwrap_or(u64::MAX);
    if threads == 0 || threads > MAX_THREADS || block[2] > 64 {
        return Err(format!("block {block:?}: 1 to {MAX_THREADS} threads, at most 64 along z"));
    }
    if grid.contains(&0) || grid[0] > i32::MAX as u32 || grid[1] > 65_535 || grid[2] > 65_535 {
        return Err(format!("grid {grid:?}: 1 to 2147483647 blocks along x, 65535 along y and z"));
    }
    if let Some(r) = k.reqntid
        && r != block
    {
        return Err(format!("block {block:?} where the kernel requires {r:?}"));
    }
    if let Some(m) = k.maxntid {
        let most: u64 = m.iter().map(|d| u64::from(*d)).product();
        if threads > most {
            return Err(format!("block {block:?} where the kernel allows {most} threads"));
        }
    }
    if k.static_shared > MAX_STATIC_SHARED {
        return Err(format!(
            "{} bytes of static shared memory; at most {MAX_STATIC_SHARED} (use .extern .shared for more)",
            k.static_shared
        ));
    }
    let dynamic = if k.dynamic_shared { u64::from(dynamic_shared) } else { 0 };
    let total = k.dynamic_base + dynamic;
    if total > MAX_SHARED {
        return Err(format!("{total} bytes of shared memory; a block has at most {MAX_SHARED}"));
    }
    Ok(total)
}

fn fill_constants(w: &mut Warp, k: &Kernel, globals: &[u64]) {
    let value = |c: &Const| match c {
        Const::Value(v) => *v,
        Const::Global(i, off) => globals[*i].wrapping_add(*off as u64),
    };
    for (r, c) in &k.code.const32 {
        w.regs.r32[*r as usize] = [value(c) as u32; 32];
    }
    for (r, c) in &k.code.const64 {
        w.regs.r64[*r as usize] = [value(c); 32];
    }
}

fn fill_specials(w: &mut Warp, k: &Kernel, grid: [u32; 3], block: [u32; 3], dynamic: u32, total: u32) {
    let first = w.index * 32;
    let warps = block.iter().product::<u32>().div_ceil(32);
    for (r, s) in &k.code.special {
        let index = w.index;
        w.regs.r32[*r as usize] = std::array::from_fn(|l| {
            let (l, t) = (l as u32, first + l as u32);
            match s {
                Special::Tid(0) => t % block[0],
                Special::Tid(1) => t / block[0] % block[1],
                Special::Tid(_) => t / (block[0] * block[1]),
                Special::Ntid(a) => block[usize::from(*a)],
                Special::Nctaid(a) => grid[usize::from(*a)],
                Special::Ctaid(_) | Special::Zero => 0,
                Special::One => 1,
                Special::LaneId => l,
                Special::WarpId => index,
                Special::NWarpId => warps,
                Special::LaneMaskEq => 1 << l,
                Special::LaneMaskLe => u32::MAX >> (31 - l),
                Special::LaneMaskLt => (1 << l) - 1,
                Special::LaneMaskGe => u32::MAX << l,
                Special::LaneMaskGt => (u32::MAX << l) & !(1 << l),
                Special::DynamicShared => dynamic,
                Special::TotalShared => total,
            }
        });
    }
}
