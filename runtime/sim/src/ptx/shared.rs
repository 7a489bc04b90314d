//! Shared memory of the running block, with the shadow that finds races and uninitialised reads.
//!
//! Time moves at barriers: each completed one advances `now`, and `seen[w][v]` is the time up to which
//! warp `w` has synchronised with warp `v`. An access of `v` stamped `t` is ordered before `w`'s next one
//! if `seen[w][v] > t`. Every granule (the kernel's smallest shared store, at most 4 bytes) remembers its
//! last writer and its readers since; an unordered pair with a write in it is a race.
//!
//! Stamps never repeat, so blocks share the shadow without clearing it: a granule whose write stamp
//! is older than the block was never written in it.
//!
//! After barriers that only some warps join, older readers of a granule may be forgotten: a race can be
//! missed then, but none is invented.

use super::fault::{Place, What};

/// Marks several readers (or atomic writers) in a thread field.
const MANY: u16 = u16::MAX;

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    w_stamp: u32,
    r_stamp: u32,
    /// Warps that read at `r_stamp`.
    r_warps: u32,
    w_thread: u16,
    r_thread: u16,
    /// The last write was atomic or otherwise strong.
    strong: bool,
    /// So were all reads at `r_stamp`.
    r_strong: bool,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub data: Vec<u8>,
    shadow: Vec<Cell>,
    granule: usize,
    now: u32,
    block_start: u32,
    seen: Vec<[u32; 32]>,
    /// Per warp, the smallest of its `seen`: older stamps cannot conflict.
    floor: [u32; 32],
    races: bool,
    uninit: bool,
}

/// Who accesses: the thread's linear index in the block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Who {
    pub thread: u16,
    pub strong: bool,
}

impl Shared {
    pub(super) fn new(bytes: usize, granule: usize, warps: usize, races: bool, uninit: bool) -> Self {
        let tracked = races || uninit;
        Self {
            data: vec![0; bytes],
            shadow: if tracked { vec![Cell::default(); bytes.div_ceil(granule)] } else { Vec::new() },
            granule,
            now: 0,
            block_start: 1,
            seen: vec![[0; 32]; warps],
            floor: [0; 32],
            races,
            uninit,
        }
    }

    pub(super) fn start_block(&mut self) {
        self.now += 1;
        self.block_start = self.now;
        for s in &mut self.seen {
            *s = [self.now; 32];
        }
        self.floor = [self.now; 32];
        if self.shadow.is_empty() {
            self.data.fill(0);
        }
    }

    /// A barrier among the warps of `mask` has completed.
    pub(super) fn barrier(&mut self, mask: u32) {
        if self.shadow.is_empty() {
            return;
        }
        self.now += 1;
        let mut joined = [0; 32];
        let warps = self.seen.len();
        let members = (0..warps).filter(|w| mask >> w & 1 == 1);
        for w in members.clone() {
            for (j, s) in joined.iter_mut().zip(&self.seen[w]) {
                *j = (*j).max(*s);
            }
        }
        for w in members.clone() {
            joined[w] = self.now;
        }
        for w in members {
            self.seen[w] = joined;
            self.floor[w] = *joined[..warps].iter().min().unwrap_or(&0);
        }
    }

    /// Bounds; alignment is the caller's.
    #[inline(always)]
    pub(super) fn check_bounds(&self, at: u64, len: u64) -> Result<usize, What> {
        let size = self.data.len() as u64;
        if at < size && len <= size - at {
            Ok(at as usize)
        } else {
            Err(What::SharedOutOfBounds { offset: at, bytes: len, size })
        }
    }

    #[inline(always)]
    fn ordered(&self, me: usize, other: usize, stamp: u32) -> bool {
        self.seen[me][other] > stamp
    }

    /// Notes a read of `[at, at + len)`, in bounds.
    #[inline]
    pub(super) fn on_read(&mut self, at: usize, len: usize, who: Who) -> Result<(), What> {
        if self.shadow.is_empty() {
            return Ok(());
        }
        let warp = usize::from(who.thread) / 32;
        let (now, floor) = (self.now, self.floor[warp]);
        for g in at / self.granule..(at + len).div_ceil(self.granule) {
            let c = self.shadow[g];
            if c.w_stamp < self.block_start && self.uninit {
                return Err(What::UninitialisedShared { offset: (g * self.granule) as u64 });
            }
            if self.races && c.w_stamp >= floor && c.w_thread != who.thread && !(c.strong && who.strong) {
                let other = usize::from(c.w_thread) / 32;
                if c.w_thread == MANY || !self.ordered(warp, other, c.w_stamp) {
                    return Err(self.race(g, c.w_thread, who, true, false));
                }
            }
            let c = &mut self.shadow[g];
            if c.r_stamp != now {
                c.r_stamp = now;
                c.r_thread = who.thread;
                c.r_warps = 1 << warp;
                c.r_strong = who.strong;
            } else if c.r_thread != who.thread {
                c.r_thread = MANY;
                c.r_warps |= 1 << warp;
                c.r_strong &= who.strong;
            }
        }
        Ok(())
    }

    /// Notes a write of `[at, at + len)`, in bounds. `agreed` says that the only earlier writer is
    /// another lane of this very instruction with the same value, which is no conflict.
    #[inline]
    pub(super) fn on_write(&mut self, at: usize, len: usize, who: Who, agreed: bool) -> Result<(), What> {
        if self.shadow.is_empty() {
            return Ok(());
        }
        let warp = usize::from(who.thread) / 32;
        let (now, floor) = (self.now, self.floor[warp]);
        for g in at / self.granule..(at + len).div_ceil(self.granule) {
            let c = self.shadow[g];
            if self.races {
                let other_writer = c.w_stamp >= floor
                    && c.w_stamp >= self.block_start
                    && c.w_thread != who.thread
                    && !(c.strong && who.strong)
                    && !agreed;
                if other_writer
                    && (c.w_thread == MANY || !self.ordered(warp, usize::from(c.w_thread) / 32, c.w_stamp))
                {
                    return Err(self.race(g, c.w_thread, who, true, true));
                }
                if c.r_stamp >= floor
                    && c.r_stamp >= self.block_start
                    && c.r_thread != who.thread
                    && !(c.r_strong && who.strong)
                {
                    let mut warps = c.r_warps;
                    while warps != 0 {
                        let other = warps.trailing_zeros() as usize;
                        warps &= warps - 1;
                        if !self.ordered(warp, other, c.r_stamp) {
                            return Err(self.race(g, c.r_thread, who, false, true));
                        }
                    }
                }
            }
            let c = &mut self.shadow[g];
            c.w_thread = if who.strong && c.strong && c.w_stamp == now && c.w_thread != who.thread {
                MANY
            } else {
                who.thread
            };
            c.w_stamp = now;
            c.strong = who.strong;
        }
        Ok(())
    }

    fn race(&self, g: usize, other: u16, who: Who, first: bool, second: bool) -> What {
        What::SharedRace {
            place: Place { offset: (g * self.granule) as u64, bytes: self.granule as u64 },
            other: (other != MANY).then_some(u32::from(other)),
            thread: u32::from(who.thread),
            first_writes: first,
            second_writes: second,
        }
    }
}
