//! How long a kernel takes, as far as the documentation lets one say.
//!
//! ```text
//! start(instruction) = max(its engine is free, its operands are ready, its destination may be overwritten, its memory is free)
//! the engine is free again after cycles / clock; the result is ready latency_cycles later
//! ```
//!
//! Engines issue in order and run against each other only through data. Hazards are kept per region of each live tensor: a bounding
//! box of partitions and free elements with the time its last writer and last reader end. Instructions of one engine need no wait for
//! what they overwrite of their own engine. A DMA waits its fixed latency without holding an engine, then takes up to 16 engines, one
//! per 8 partitions, whichever are free first, for descriptors of the shorter contiguous run of both sides.
//!
//! Time is counted in ticks of 1/24 ns, of which a cycle of each engine is a whole number (Tensor 10, Vector 25, Scalar and GpSimd 20):
//! no sum depends on its order, and what repeats takes the same time again.

use super::cost::{CostArgs, TileInfo};
use super::isa::Role;
use super::resolve::{Acc, Arg, Op};
use super::walk::At;
use super::{Engine, Machine, Mem};
use std::collections::{BTreeMap, VecDeque};

/// One executed instruction on an engine's timeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub engine: Engine,
    pub instruction: &'static str,
    /// Line of the NKI text.
    pub line: u32,
    pub start_ns: f64,
    pub end_ns: f64,
}

/// What one engine did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EngineTime {
    pub busy_ns: f64,
    /// In the engine's own clock; for DMA the sum over the 16 engines in ns.
    pub busy_cycles: f64,
    pub instructions: u64,
}

/// Predicted time and resources of one kernel on one core, without the launch (`Machine::launch_ns`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeline {
    pub total_ns: f64,
    pub engines: BTreeMap<Engine, EngineTime>,
    /// Executed instructions by name.
    pub instructions: BTreeMap<&'static str, u64>,
    pub hbm_read_bytes: u64,
    pub hbm_write_bytes: u64,
    /// 2·K·M·N over all matmuls.
    pub matmul_flop: u64,
    pub peak_sbuf_bytes: usize,
    pub peak_psum_banks: usize,
    pub events: Vec<Event>,
}

impl Timeline {
    /// Share of the bf16 peak that the matmuls reach over the whole kernel.
    pub fn utilisation(&self, machine: &Machine) -> f64 {
        if self.total_ns > 0.0 { self.matmul_flop as f64 / self.total_ns / machine.peak_bf16() } else { 0.0 }
    }
    /// Busy share of an engine; DMA: of all 16 together.
    pub fn share(&self, engine: Engine, machine: &Machine) -> f64 {
        let width = if engine == Engine::Dma { machine.dma_engines as f64 } else { 1.0 };
        let busy = self.engines.get(&engine).map_or(0.0, |e| if engine == Engine::Dma { e.busy_cycles } else { e.busy_ns });
        if self.total_ns > 0.0 { busy / width / self.total_ns } else { 0.0 }
    }
}

/// Ticks of a nanosecond.
pub const TICKS_PER_NS: f64 = 24.0;

/// A time in whole ticks, none too short.
fn whole(ticks: f64) -> u64 {
    // What is a whole number but for rounding stays it.
    (ticks - 1e-6).ceil().max(0.0) as u64
}

fn ns(ticks: u64) -> f64 {
    ticks as f64 / TICKS_PER_NS
}

/// What one instruction costs, whatever its position.
#[derive(Clone, Debug, Default)]
pub struct Cost {
    /// Issue interval; of a DMA, the work of each of its engines.
    pub ticks: u64,
    /// From the end of the interval (DMA: from its trigger) to the result (its first byte).
    pub latency: u64,
    pub cycles: f64,
    pub dma_engines: usize,
    pub hwdge: bool,
    pub hbm_read: u64,
    pub hbm_write: u64,
    pub flop: u64,
}

fn info(a: &Acc) -> TileInfo {
    TileInfo { dtype: a.dtype, mem: a.mem, partitions: a.parts, n: a.n, contiguous: a.contiguous() }
}

pub fn cost(op: &Op, m: &Machine) -> Cost {
    if op.engine == Engine::Dma {
        return dma(op, m);
    }
    let Some(dst) = op.acc("dst") else { return Cost::default() };
    let mut srcs = vec![];
    let mut ops = vec![];
    for (d, a) in op.def.operands.iter().zip(&op.args) {
        match (d.role, a) {
            (Role::Src(_) | Role::SrcOrNumber(_), Some(Arg::Acc(a))) => srcs.push(info(a)),
            (_, Some(Arg::Alu(f))) => ops.push(f.name),
            _ => {}
        }
    }
    let valid = match (op.arg("num_valid_indices"), op.acc("index")) {
        (Some(Arg::Int(n)), _) => n.c.max(1) as usize,
        (_, Some(x)) => x.n * 16,
        _ => 0,
    };
    let args = CostArgs {
        machine: m,
        engine: op.engine,
        dst: info(dst),
        srcs: &srcs,
        ops: &ops,
        reads_out: op.acc("reduce_res").is_some(),
        transpose: op.flag("is_transpose"),
        double_row: op.name("perf_mode") == Some("double_row"),
        valid,
    };
    let cycles = (op.def.cost)(&args);
    let cycle = m.ticks(op.engine);
    let flop = match (op.def.name, op.acc("stationary"), op.acc("moving")) {
        ("nc_matmul", Some(s), Some(_)) if !op.flag("is_transpose") => {
            let k = s.parts * if args.double_row { 2 } else { 1 };
            2 * (k * dst.parts * dst.n) as u64
        }
        _ => 0,
    };
    Cost { ticks: whole(cycles * cycle), latency: whole(m.latency_cycles * cycle), cycles, flop, ..Cost::default() }
}

fn dma(op: &Op, m: &Machine) -> Cost {
    let (Some(d), Some(s)) = (op.acc("dst"), op.acc("src")) else { return Cost::default() };
    let total = d.total();
    let bytes = |a: &Acc| a.dtype.bytes_for(total) as u64;
    let wide = d.dtype.bytes_for(1).max(s.dtype.bytes_for(1));
    let parts = [d, s].iter().filter(|a| !a.mem.is_hbm()).map(|a| a.parts).max().unwrap_or(m.partitions);
    let engines = parts.div_ceil(8).clamp(1, m.dma_engines);
    let ns = if op.def.name == "dma_transpose" {
        // The transpose engine moves at its own rate, whatever the strides: documented as at most 90 % of DMA's from HBM, 50 % from SBUF.
        let share = if s.mem == Mem::Sbuf { 0.5 } else { 0.9 };
        (total * wide) as f64 / (engines as f64 * m.dma_engine_gb_s * share)
    } else {
        let run = d.run().min(s.run()).max(1);
        total.div_ceil(run) as f64 / engines as f64 * m.descriptor_ns((run * wide) as f64)
    };
    Cost {
        ticks: whole(ns * TICKS_PER_NS),
        latency: whole(m.dma_latency_ns * TICKS_PER_NS),
        cycles: ns * engines as f64,
        dma_engines: engines,
        hwdge: op.name("dge_mode") == Some("hwdge"),
        hbm_read: if s.mem.is_hbm() { bytes(s) } else { 0 },
        hbm_write: if d.mem.is_hbm() { bytes(d) } else { 0 },
        flop: 0,
    }
}

/// A box of a tensor and when its users end.
#[derive(Clone, Copy, Debug)]
struct Region {
    parts: (usize, usize),
    free: (i64, i64),
    written: u64,
    writer: Engine,
    read: u64,
    /// `None` when several engines read.
    reader: Option<Engine>,
}

impl Region {
    fn touches(&self, parts: (usize, usize), free: (i64, i64)) -> bool {
        self.parts.0 < parts.1 && parts.0 < self.parts.1 && self.free.0 < free.1 && free.0 < self.free.1
    }
}

/// Hazards of one live tensor.
#[derive(Clone, Debug, Default)]
pub struct Track {
    /// When its memory is free.
    ready: u64,
    regions: Vec<Region>,
    pub bytes: usize,
}

/// Regions kept per tensor before they are merged into one.
const REGIONS: usize = 64;

impl Track {
    fn end(&self) -> u64 {
        self.regions.iter().fold(self.ready, |t, r| t.max(r.written).max(r.read))
    }
    fn merge(&mut self) {
        let Some(&first) = self.regions.first() else { return };
        let one = self.regions.iter().fold(first, |a, b| Region {
            parts: (a.parts.0.min(b.parts.0), a.parts.1.max(b.parts.1)),
            free: (a.free.0.min(b.free.0), a.free.1.max(b.free.1)),
            written: a.written.max(b.written),
            // Waiting once too often is safe; DMA never counts as one's own engine.
            writer: if a.writer == b.writer { a.writer } else { Engine::Dma },
            read: a.read.max(b.read),
            reader: if a.reader == b.reader { a.reader } else { None },
        });
        self.regions = vec![one];
    }
}

/// Memory of one kind: how much became free when.
#[derive(Debug)]
struct Pool {
    /// `(ready, units)`, by time: taken at the front, given back near the end.
    free: VecDeque<(u64, usize)>,
    used: usize,
    peak: usize,
    size: usize,
}

impl Pool {
    fn new(size: usize) -> Pool {
        Pool { free: VecDeque::from([(0, size)]), used: 0, peak: 0, size }
    }
    /// Takes the units that are free longest; the time at which all of them are.
    fn take(&mut self, units: usize) -> Option<u64> {
        if self.used + units > self.size {
            return None;
        }
        self.used += units;
        self.peak = self.peak.max(self.used);
        let (mut left, mut ready, mut whole) = (units, 0u64, 0);
        for chunk in &mut self.free {
            if left == 0 {
                break;
            }
            ready = ready.max(chunk.0);
            let n = chunk.1.min(left);
            chunk.1 -= n;
            left -= n;
            whole += (chunk.1 == 0) as usize;
        }
        self.free.drain(..whole);
        Some(ready)
    }
    fn give(&mut self, units: usize, ready: u64) {
        self.used -= units;
        let at = self.free.partition_point(|c| c.0 <= ready);
        self.free.insert(at, (ready, units));
    }
}

/// One DMA engine. It serves 16 rings, so a transfer that waits for its data does not hold up others: idle times are filled later.
#[derive(Clone, Debug, Default)]
struct DmaEngine {
    end: u64,
    /// Idle times before `end`, oldest first.
    gaps: Vec<(u64, u64)>,
}

/// Idle times remembered per DMA engine.
const GAPS: usize = 32;

impl DmaEngine {
    fn gap(&self, ready: u64, ticks: u64) -> Option<usize> {
        self.gaps.iter().position(|g| g.0.max(ready) + ticks <= g.1)
    }
    /// When work of `ticks` that is ready at `ready` would start.
    fn when(&self, ready: u64, ticks: u64) -> u64 {
        self.gap(ready, ticks).map_or(self.end, |g| self.gaps[g].0).max(ready)
    }
    /// Does the work; returns its end.
    fn take(&mut self, ready: u64, ticks: u64) -> u64 {
        if let Some(i) = self.gap(ready, ticks) {
            let (lo, hi) = self.gaps.remove(i);
            let begin = lo.max(ready);
            let parts = [(lo, begin), (begin + ticks, hi)];
            parts.into_iter().rev().filter(|p| p.1 > p.0).for_each(|p| self.gaps.insert(i, p));
            return begin + ticks;
        }
        if ready > self.end {
            self.gaps.push((self.end, ready));
            if self.gaps.len() > GAPS {
                self.gaps.remove(0);
            }
        }
        self.end = self.end.max(ready) + ticks;
        self.end
    }
}

/// The state of all clocks.
#[derive(Debug)]
pub struct Clock {
    machine: &'static Machine,
    free: BTreeMap<Engine, u64>,
    dma: Vec<DmaEngine>,
    sbuf: Pool,
    psum: Pool,
    trace: bool,
    end: u64,
    busy: BTreeMap<Engine, u64>,
    line: Timeline,
}

fn extent(at: &At) -> ((usize, usize), (i64, i64)) {
    let (first, last) = (at.f0.saturating_add(at.acc.reach.0), at.f0.saturating_add(at.acc.reach.1));
    ((at.p0, at.p0 + at.acc.parts), (first, last.saturating_add(1)))
}

impl Clock {
    pub fn new(machine: &'static Machine, trace: bool) -> Clock {
        Clock {
            machine,
            free: BTreeMap::new(),
            dma: vec![DmaEngine::default(); machine.dma_engines],
            sbuf: Pool::new(machine.sbuf_partition_bytes),
            psum: Pool::new(machine.psum_banks),
            trace,
            end: 0,
            busy: BTreeMap::new(),
            line: Timeline::default(),
        }
    }

    /// Memory for a tile of `bytes` per partition; `Err((used, size))` in bytes or banks when it does not fit.
    pub fn alloc(&mut self, mem: Mem, bytes: usize) -> Result<Track, (usize, usize, usize)> {
        let (pool, units) = match mem {
            Mem::Sbuf => (&mut self.sbuf, bytes.next_multiple_of(4)),
            Mem::Psum => (&mut self.psum, bytes.div_ceil(self.machine.psum_bank_bytes)),
            _ => return Ok(Track::default()),
        };
        let ready = pool.take(units).ok_or((pool.used, units, pool.size))?;
        Ok(Track { ready, regions: vec![], bytes: units })
    }

    pub fn release(&mut self, mem: Mem, track: &Track) {
        match mem {
            Mem::Sbuf => self.sbuf.give(track.bytes, track.end()),
            Mem::Psum => self.psum.give(track.bytes, track.end()),
            _ => {}
        }
    }

    /// Advances time by one instruction whose tile operands are `tiles` (access, written).
    pub fn step(&mut self, op: &Op, tiles: &[(At, bool)], tracks: &mut [Track]) {
        let engine = op.engine;
        let hop = whole(self.machine.semaphore_ns * TICKS_PER_NS);
        // Of an engine of its own an instruction needs no word; that a DMA is done is part of its latency.
        let told = |t: u64, by: Option<Engine>| if t == 0 || by == Some(engine) || by == Some(Engine::Dma) { t } else { t + hop };
        let mut start = 0u64;
        for (at, written) in tiles {
            let (parts, free) = extent(at);
            let t = &tracks[at.acc.slot];
            start = start.max(t.ready);
            for r in t.regions.iter().filter(|r| r.touches(parts, free)) {
                let own = engine != Engine::Dma && engine == r.writer;
                if !*written || !own {
                    start = start.max(told(r.written, Some(r.writer)));
                }
                if *written && (engine == Engine::Dma || r.reader != Some(engine)) {
                    start = start.max(told(r.read, r.reader));
                }
            }
        }
        let c = &op.cost;
        let end = if engine == Engine::Dma { self.dma(op, &mut start) } else { self.issue(engine, c, &mut start) };
        for (at, written) in tiles {
            let (parts, free) = extent(at);
            let t = &mut tracks[at.acc.slot];
            if *written {
                t.regions.retain(|r| !(r.parts.0 >= parts.0 && r.parts.1 <= parts.1 && r.free.0 >= free.0 && r.free.1 <= free.1));
                t.regions.push(Region { parts, free, written: end, writer: engine, read: 0, reader: Some(engine) });
                if t.regions.len() > REGIONS {
                    t.merge();
                }
            } else {
                for r in t.regions.iter_mut().filter(|r| r.touches(parts, free)) {
                    r.reader = if r.read == 0 || r.reader == Some(engine) { Some(engine) } else { None };
                    r.read = r.read.max(end);
                }
            }
        }
        self.end = self.end.max(end);
        *self.busy.entry(engine).or_default() += c.ticks;
        let e = self.line.engines.entry(engine).or_default();
        e.busy_cycles += c.cycles;
        e.instructions += 1;
        *self.line.instructions.entry(op.def.name).or_default() += 1;
        self.line.hbm_read_bytes += c.hbm_read;
        self.line.hbm_write_bytes += c.hbm_write;
        self.line.matmul_flop += c.flop;
        if self.trace {
            self.line.events.push(Event { engine, instruction: op.def.name, line: op.line, start_ns: ns(start), end_ns: ns(end) });
        }
    }

    fn issue(&mut self, engine: Engine, c: &Cost, start: &mut u64) -> u64 {
        let free = self.free.entry(engine).or_insert(0);
        *start = (*start).max(*free);
        *free = *start + c.ticks;
        *free + c.latency
    }

    fn dma(&mut self, op: &Op, start: &mut u64) -> u64 {
        let c = &op.cost;
        let mut issue = *start;
        if c.hwdge {
            // The descriptor generators work one transfer at a time on the issuing queue.
            let queue = if op.name("engine") == Some("scalar") { Engine::Scalar } else { Engine::Sync };
            let free = self.free.entry(queue).or_insert(0);
            issue = issue.max(*free) + whole(self.machine.hwdge_ns * TICKS_PER_NS);
            *free = issue;
        }
        let ready = issue + c.latency;
        let mut order: Vec<usize> = (0..self.dma.len()).collect();
        let when: Vec<u64> = self.dma.iter().map(|e| e.when(ready, c.ticks)).collect();
        order.sort_by_key(|&e| when[e]);
        let mut end = ready;
        for &e in &order[..c.dma_engines] {
            end = end.max(self.dma[e].take(ready, c.ticks));
        }
        end
    }

    /// Whether more than so many ticks have passed.
    pub fn past(&self, ticks: u64) -> bool {
        self.end > ticks
    }

    pub fn finish(mut self) -> Timeline {
        self.line.total_ns = ns(self.end);
        for (engine, e) in &mut self.line.engines {
            e.busy_ns = self.busy.get(engine).map_or(0.0, |&t| ns(t));
        }
        self.line.peak_sbuf_bytes = self.sbuf.peak;
        self.line.peak_psum_banks = self.psum.peak;
        self.line
    }
}
