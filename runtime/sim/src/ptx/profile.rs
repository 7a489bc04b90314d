//! What a GPU would spend time on, counted while a launch runs; `tahoma_machine::gpu` says how long that takes.
//!
//! Each warp has a clock of its own. Within a run of instructions between branches and barriers an instruction starts when the registers
//! that it reads are there; the run ends when all have started, and no sooner than their issue slots allow. A barrier is left when
//! all warps have come. So a block's time is that of its longest chain, alone on an SM.

use super::access::{in_steps, lanes};
use super::decode::{Code, Use};
use super::isa::{Access, MAX_ACCESS, Op, Space};
use super::warp::{Machine, Warp};
use std::collections::HashMap;
use std::ops::RangeInclusive;
use tahoma_machine::gpu::{BARRIER_LATENCY, Counts, L1_LATENCY, L2_LATENCY, Pipe, SHARED_LATENCY};

#[derive(Clone, Debug)]
struct Chain {
    /// When the run of instructions began, how many slots it has taken, and when its last instruction could start.
    begin: u64,
    slots: u64,
    latest: u64,
    /// When each register's value is there: as the instructions start, and if no instruction may overtake the one before it.
    ready: Vec<[u64; 2]>,
    /// Barriers passed, and whether the last is yet to be left.
    barriers: usize,
    waits: bool,
    /// If no instruction may overtake the one before it: when the next may issue.
    next: u64,
}

impl Chain {
    fn end_run(&mut self, latency: u64) {
        self.begin = (self.begin + self.slots).max(self.latest + 1) + latency;
        (self.slots, self.latest) = (0, self.begin);
    }
}

/// Sectors of a page, and bytes of a sector.
const PAGE: u64 = 1 << 14;
const SECTOR: u64 = 32;

/// Which sectors were touched, and by which block each was loaded last: tables of neighbouring sectors, made where something is touched.
#[derive(Debug, Default)]
struct Sectors {
    index: HashMap<u64, usize>,
    /// A page's number, and of each of its sectors 0 where nothing touched it, 1 where no block loaded it, else the block.
    pages: Vec<(u64, Box<[u64]>)>,
    touched: u64,
}

impl Sectors {
    /// Touches neighbouring sectors, in a page that is tried first at `hint`; how many of them `block` (from 2 on) loads for the first time.
    fn touch(&mut self, run: RangeInclusive<u64>, block: u64, load: bool, hint: &mut usize) -> u64 {
        let (number, at) = (run.start() / PAGE, run.start() % PAGE);
        if run.end() / PAGE != number {
            let border = (number + 1) * PAGE;
            let before = self.touch(*run.start()..=border - 1, block, load, hint);
            return before + self.touch(border..=*run.end(), block, load, hint);
        }
        if self.pages.get(*hint).is_none_or(|p| p.0 != number) {
            *hint = *self.index.entry(number).or_insert_with(|| {
                self.pages.push((number, vec![0; PAGE as usize].into_boxed_slice()));
                self.pages.len() - 1
            });
        }
        let mut fresh = 0;
        for seen in &mut self.pages[*hint].1[at as usize..][..=(run.end() - run.start()) as usize] {
            self.touched += u64::from(*seen == 0);
            fresh += u64::from(load && *seen != block);
            *seen = if load { block } else { (*seen).max(1) };
        }
        fresh
    }
}

#[derive(Debug)]
pub(super) struct Profile {
    counts: Counts,
    chains: Vec<Chain>,
    /// Per barrier of the block, when its last warp came.
    arrivals: Vec<(u64, u64)>,
    sectors: Sectors,
    /// The running block, from 2 on.
    block: u64,
    /// Per instruction, how often it ran, and the page of sectors that it touched last.
    ran: Vec<u64>,
    hints: Vec<usize>,
    /// Room for the words of each bank that one pass asks for.
    words: Box<[[u64; 32]; 32]>,
}

impl Profile {
    pub(super) fn new(warps: usize, code: &Code) -> Profile {
        let ready = vec![[0; 2]; code.np + code.n32 + code.n64];
        let chain = Chain { begin: 0, slots: 0, latest: 0, ready, barriers: 0, waits: false, next: 0 };
        Profile {
            counts: Counts::default(),
            chains: vec![chain; warps],
            arrivals: vec![],
            sectors: Sectors::default(),
            block: 2,
            ran: vec![0; code.insts.len()],
            hints: vec![0; code.insts.len()],
            words: Box::new([[0; 32]; 32]),
        }
    }

    pub(super) fn end_block(&mut self) {
        self.counts.in_order += self.chains.iter().map(|c| c.next).max().unwrap_or(0);
        self.counts.chain += self.chains.iter().map(|c| (c.begin + c.slots).max(c.latest)).max().unwrap_or(0);
        for c in &mut self.chains {
            (c.begin, c.slots, c.latest, c.barriers, c.waits) = (0, 0, 0, 0, false);
            c.ready.fill([0; 2]);
            c.next = 0;
        }
        self.arrivals.clear();
        self.block += 1;
    }

    pub(super) fn counts(mut self, code: &Code) -> Counts {
        for (n, unit) in self.ran.iter().zip(&code.uses).filter_map(|(n, used)| Some((n, used.unit?))) {
            self.counts.slots += n * u64::from(unit.slots);
            self.counts.busy[unit.pipe as usize] += n * u64::from(unit.busy);
        }
        Counts { footprint: SECTOR * self.sectors.touched, ..self.counts }
    }

    /// The instruction at `pc` is about to run in the lanes `m`.
    #[inline]
    pub(super) fn note(&mut self, w: &Warp, op: &Op, used: &Use, m: u32, pc: usize) {
        let Some(unit) = used.unit else { return };
        self.ran[pc] += 1;
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
            Op::Ld(a) if matches!(a.space, Space::Global | Space::Generic) => self.global(w, a, m, true, pc),
            Op::St(a) if matches!(a.space, Space::Global | Space::Generic) => self.global(w, a, m, false, pc),
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
        let c = &mut self.chains[i];
        let (mut start, mut at) = (c.begin, c.next);
        for r in &used.read {
            let [ready, there] = c.ready[*r as usize];
            (start, at) = (start.max(ready), at.max(there));
        }
        for r in &used.written {
            c.ready[*r as usize] = [start + latency, at + latency];
        }
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

    fn global(&mut self, w: &Warp, a: &Access, m: u32, load: bool, pc: usize) -> u64 {
        let mut touch = |run| self.sectors.touch(run, self.block, load, &mut self.hints[pc]);
        let mut room = [0; MOST_SECTORS];
        let (n, fresh) = match sectors(&Machine::addresses(w, &a.addr), m, a.bytes(), &mut room) {
            Touched::Run(run) => (run.end() - run.start() + 1, touch(run)),
            Touched::Each(all) => (all.len() as u64, all.iter().map(|&s| touch(s..=s)).sum()),
        };
        self.counts.requests += u64::from(m != 0);
        if load {
            self.counts.load_sectors += n;
            self.counts.l2_sectors += fresh;
        } else {
            self.counts.store_sectors += n;
        }
        // More sectors than one pass gives come one after the other.
        (if fresh > 0 { L2_LATENCY } else { L1_LATENCY }) + n.div_ceil(4).saturating_sub(1)
    }

    fn shared(&mut self, w: &Warp, a: &Access, m: u32) -> u64 {
        let passes = passes(&Machine::addresses(w, &a.addr), m, a.bytes(), &mut self.words);
        self.counts.wavefronts += passes;
        SHARED_LATENCY + passes.saturating_sub(1)
    }
}

/// Passes through shared memory: of 4 bytes a lane one for all, of 8 two, of 16 four; in each as many as the words of the fullest bank.
fn passes(addresses: &[u64; 32], m: u32, bytes: u64, room: &mut [[u64; 32]; 32]) -> u64 {
    let together = (128 / bytes.max(4)).clamp(1, 32) as usize;
    if (in_steps(m, addresses, bytes) || in_steps(m, addresses, 0)) && addresses[0].is_multiple_of(bytes) {
        return 32 / together as u64;
    }
    let part = u32::MAX >> (32 - together);
    let mut passes = 0;
    for first in (0..32).step_by(together) {
        let mut held = [0u8; 32];
        for l in lanes(m & (part << first)) {
            for x in addresses[l] / 4..=addresses[l].saturating_add(bytes - 1) / 4 {
                let bank = (x % 32) as usize;
                let (words, n) = (&mut room[bank], usize::from(held[bank]));
                if !words[..n].contains(&x) {
                    words[n] = x;
                    held[bank] += 1;
                }
            }
        }
        passes += u64::from(held.into_iter().max().unwrap_or(0));
    }
    passes
}

/// Sectors that the lanes of one access touch, each once.
enum Touched<'a> {
    Run(RangeInclusive<u64>),
    Each(&'a [u64]),
}

/// Most sectors that a warp touches in one instruction: a lane's bytes need not start with a sector.
const MOST_SECTORS: usize = 32 * (MAX_ACCESS / SECTOR + 1) as usize;

fn sectors<'a>(addresses: &[u64; 32], m: u32, bytes: u64, room: &'a mut [u64; MOST_SECTORS]) -> Touched<'a> {
    // Addresses are not checked yet: the last ones of the space may be among them.
    let of = |from: u64, bytes: u64| from / SECTOR..=from.saturating_add(bytes - 1) / SECTOR;
    if in_steps(m, addresses, bytes) && addresses[0] < addresses[31] {
        return Touched::Run(of(addresses[0], 32 * bytes));
    }
    if in_steps(m, addresses, 0) {
        return Touched::Run(of(addresses[0], bytes));
    }
    let (mut n, mut rising) = (0, true);
    for s in lanes(m).flat_map(|l| of(addresses[l], bytes)) {
        let before = room[..n].last().copied();
        if before != Some(s) {
            rising &= before.is_none_or(|b| b < s);
            room[n] = s;
            n += 1;
        }
    }
    if !rising {
        room[..n].sort_unstable();
        // Each once.
        let mut kept = 1;
        for i in 1..n {
            if room[i] != room[kept - 1] {
                room[kept] = room[i];
                kept += 1;
            }
        }
        n = kept;
    }
    Touched::Each(&room[..n])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Addresses of all kinds: in order, backwards, strided, scattered, all one, at the end of the space.
    fn patterns(bytes: u64) -> Vec<[u64; 32]> {
        let mut out = vec![];
        for base in [0x7000_0000_0000, 0x7000_0000_0010, (PAGE * SECTOR) - 64, 5] {
            for stride in [0, 1, 2, 4, bytes, bytes + 4, 32, 33, 128, 132, 4096, PAGE * SECTOR] {
                let up: [u64; 32] = std::array::from_fn(|l| base + stride * l as u64);
                let mut down = up;
                down.reverse();
                out.extend([up, down, std::array::from_fn(|l| base + stride * (l as u64 * 13 % 32)), std::array::from_fn(|l| up[l / 2])]);
            }
        }
        out.push(std::array::from_fn(|l| u64::MAX - l as u64));
        out.push([u64::MAX; 32]);
        out
    }

    #[test]
    fn sectors_are_those_of_a_set() {
        let (mut seen, mut hint) = (Sectors::default(), 0);
        let (mut touched, mut loaded) = (HashSet::new(), HashSet::new());
        let mut block = 2;
        for bytes in [1, 2, 4, 8, 16, 32] {
            for (i, a) in patterns(bytes).iter().enumerate() {
                for m in [u32::MAX, 0, 1, 0x8000_0000, 0x00ff_f0f1] {
                    let each = |l: usize| a[l] / 32..=a[l].saturating_add(bytes - 1) / 32;
                    let want: HashSet<u64> = lanes(m).flat_map(each).collect();
                    let mut room = [0; MOST_SECTORS];
                    let got: Vec<u64> = match sectors(a, m, bytes, &mut room) {
                        Touched::Run(r) => r.collect(),
                        Touched::Each(s) => s.to_vec(),
                    };
                    assert_eq!(got.len(), want.len(), "{a:?} {m:x} {bytes}");
                    assert_eq!(got.iter().copied().collect::<HashSet<_>>(), want);
                    let load = i % 3 != 0;
                    for s in got {
                        touched.insert(s);
                        assert_eq!(
                            seen.touch(s..=s, block, load, &mut hint),
                            u64::from(load && loaded.insert(s)),
                            "sector {s} of block {block}"
                        );
                    }
                }
                if i % 7 == 0 {
                    block += 1;
                    loaded.clear();
                }
            }
        }
        assert_eq!(seen.touched, touched.len() as u64);
        // A run over the border of two pages is its sectors.
        let run = 7 * PAGE - 3..=7 * PAGE + 4;
        let known = touched.iter().filter(|s| run.contains(s)).count() as u64;
        assert_eq!((seen.touch(run.clone(), block + 1, true, &mut hint), seen.touch(run, block + 1, true, &mut hint)), (8, 0));
        assert_eq!(seen.touched, touched.len() as u64 + 8 - known);
    }

    #[test]
    fn passes_are_the_words_of_the_fullest_bank() {
        let mut room = Box::new([[0; 32]; 32]);
        for bytes in [1, 2, 4, 8, 16, 32] {
            for a in &patterns(bytes) {
                for m in [u32::MAX, 0, 1, 0x8000_0000, 0x00ff_f0f1] {
                    let together = (128 / bytes.max(4)) as usize;
                    let mut want = 0;
                    for first in (0..32).step_by(together) {
                        let part = (first..first + together).filter(|l| m >> l & 1 == 1);
                        let words: HashSet<u64> = part.flat_map(|l| a[l] / 4..=a[l].saturating_add(bytes - 1) / 4).collect();
                        want += (0..32).map(|b| words.iter().filter(|w| *w % 32 == b).count() as u64).max().unwrap_or(0);
                    }
                    assert_eq!(passes(a, m, bytes, &mut room), want, "{a:?} {m:x} {bytes}");
                }
            }
        }
    }
}
