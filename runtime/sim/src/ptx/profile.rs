//! What a GPU would spend time on, counted while a launch runs; `tahoma_machine::gpu` says how long that takes.
//!
//! Each warp has a clock of its own. Within a run of instructions between branches and barriers an instruction starts when the registers
//! that it reads are there; the run ends when all have started, and no sooner than their issue slots allow. A barrier is left when
//! all warps have come. So a block's time is that of its longest chain, alone on an SM.

use super::decode::{Code, Use};
use super::isa::{Access, Op, Space};
use super::warp::{Machine, Warp};
use std::collections::HashSet;
use tahoma_machine::gpu::{BARRIER_LATENCY, Counts, L1_LATENCY, L2_LATENCY, Pipe, SHARED_LATENCY};

#[derive(Clone, Debug)]
struct Chain {
    /// When the run of instructions began, how many slots it has taken, and when its last instruction could start.
    begin: u64,
    slots: u64,
    latest: u64,
    /// When each register's value is there.
    ready: Vec<u64>,
    /// Barriers passed, and whether the last is yet to be left.
    barriers: usize,
    waits: bool,
    /// The same if no instruction may overtake the one before it: when the next may issue, and the values.
    next: u64,
    there: Vec<u64>,
}

impl Chain {
    fn end_run(&mut self, latency: u64) {
        self.begin = (self.begin + self.slots).max(self.latest + 1) + latency;
        (self.slots, self.latest) = (0, self.begin);
    }
}

#[derive(Debug)]
pub(super) struct Profile {
    counts: Counts,
    chains: Vec<Chain>,
    /// Per barrier of the block, when its last warp came.
    arrivals: Vec<(u64, u64)>,
    /// Sectors that the block has loaded, and those of all blocks.
    loaded: HashSet<u64>,
    touched: HashSet<u64>,
}

impl Profile {
    pub(super) fn new(warps: usize, code: &Code) -> Profile {
        let ready = vec![0; code.np + code.n32 + code.n64];
        let chain = Chain {
            begin: 0,
            slots: 0,
            latest: 0,
            ready,
            barriers: 0,
            waits: false,
            next: 0,
            there: vec![0; code.np + code.n32 + code.n64],
        };
        Profile { counts: Counts::default(), chains: vec![chain; warps], arrivals: vec![], loaded: HashSet::new(), touched: HashSet::new() }
    }

    pub(super) fn end_block(&mut self) {
        self.counts.in_order += self.chains.iter().map(|c| c.next).max().unwrap_or(0);
        self.counts.chain += self.chains.iter().map(|c| (c.begin + c.slots).max(c.latest)).max().unwrap_or(0);
        for c in &mut self.chains {
            (c.begin, c.slots, c.latest, c.barriers, c.waits) = (0, 0, 0, 0, false);
            c.ready.fill(0);
            c.next = 0;
            c.there.fill(0);
        }
        self.arrivals.clear();
        self.loaded.clear();
    }

    pub(super) fn counts(self) -> Counts {
        Counts { footprint: 32 * self.touched.len() as u64, ..self.counts }
    }

    /// An instruction is about to run in the lanes `m`.
    pub(super) fn note(&mut self, w: &Warp, op: &Op, used: &Use, m: u32) {
        let Some(unit) = used.unit else { return };
        let i = w.index as usize;
        if self.chains[i].waits {
            let c = &mut self.chains[i];
            let left = self.arrivals.get(c.barriers - 1).copied().unwrap_or_default();
            c.waits = false;
            c.begin = c.begin.max(left.0 + BARRIER_LATENCY);
            c.next = c.next.max(left.1 + BARRIER_LATENCY);
            c.latest = c.begin;
        }
        let latency = match op {
            Op::Ld(a) if matches!(a.space, Space::Global | Space::Generic) => self.global(w, a, m, true),
            Op::St(a) if matches!(a.space, Space::Global | Space::Generic) => self.global(w, a, m, false),
            Op::Ld(a) | Op::St(a) if a.space == Space::Shared => self.shared(w, a, m),
            Op::LdMatrix { regs, .. } | Op::StMatrix { regs, .. } => {
                self.counts.wavefronts += regs.len() as u64;
                u64::from(unit.latency)
            }
            Op::Shfl { .. } => {
                // Through the same crossbar.
                self.counts.wavefronts += 1;
                u64::from(unit.latency)
            }
            _ => u64::from(unit.latency),
        };
        self.counts.slots += u64::from(unit.slots);
        self.counts.busy[unit.pipe as usize] += u64::from(unit.busy);
        let c = &mut self.chains[i];
        let start = used.read.iter().fold(c.begin, |t, r| t.max(c.ready[*r as usize]));
        used.written.iter().for_each(|r| c.ready[*r as usize] = start + latency);
        let at = used.read.iter().fold(c.next, |t, r| t.max(c.there[*r as usize]));
        used.written.iter().for_each(|r| c.there[*r as usize] = at + latency);
        if unit.pipe != Pipe::None {
            c.next = at + u64::from(unit.slots);
        }
        c.slots += u64::from(unit.slots);
        if unit.pipe != Pipe::None {
            c.latest = c.latest.max(start);
        }
        match op {
            Op::Bra(_) | Op::BrxIdx(..) | Op::Exit => {
                c.end_run(latency);
                c.next += latency;
            }
            Op::Bar { wait, .. } => {
                c.end_run(0);
                if self.arrivals.len() <= c.barriers {
                    self.arrivals.push((0, 0));
                }
                let a = &mut self.arrivals[c.barriers];
                *a = (a.0.max(c.begin), a.1.max(c.next));
                c.barriers += 1;
                c.waits = *wait;
            }
            _ => {}
        }
    }

    fn global(&mut self, w: &Warp, a: &Access, m: u32, load: bool) -> u64 {
        let bytes = a.bytes();
        let addresses = Machine::addresses(w, &a.addr);
        let mut sectors: Vec<u64> =
            (0..32).filter(|l| m >> l & 1 == 1).flat_map(|l| addresses[l] / 32..=(addresses[l] + bytes - 1) / 32).collect();
        sectors.sort_unstable();
        sectors.dedup();
        self.counts.requests += u64::from(m != 0);
        let n = sectors.len() as u64;
        let mut fresh = 0;
        for s in sectors {
            self.touched.insert(s);
            fresh += u64::from(load && self.loaded.insert(s));
        }
        if load {
            self.counts.load_sectors += n;
            self.counts.l2_sectors += fresh;
        } else {
            self.counts.store_sectors += n;
        }
        // More sectors than one pass gives come one after the other.
        (if fresh > 0 { L2_LATENCY } else { L1_LATENCY }) + n.div_ceil(4).saturating_sub(1)
    }

    /// Passes through shared memory: of 4 bytes a lane one for all, of 8 two, of 16 four; in each as many as the words of the fullest bank.
    fn shared(&mut self, w: &Warp, a: &Access, m: u32) -> u64 {
        let bytes = a.bytes();
        let addresses = Machine::addresses(w, &a.addr);
        let lanes = (128 / bytes.max(4)).clamp(1, 32) as usize;
        let mut passes = 0;
        for part in (0..32).step_by(lanes) {
            let mut words: Vec<u64> = (part..(part + lanes).min(32))
                .filter(|l| m >> l & 1 == 1)
                .flat_map(|l| addresses[l] / 4..=(addresses[l] + bytes - 1) / 4)
                .collect();
            words.sort_unstable();
            words.dedup();
            let mut banks = [0u64; 32];
            words.iter().for_each(|x| banks[(x % 32) as usize] += 1);
            passes += banks.into_iter().max().unwrap_or(0);
        }
        self.counts.wavefronts += passes;
        SHARED_LATENCY + passes.saturating_sub(1)
    }
}
