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
use std::ops::RangeInclusive;

/// In a thread field: several readers (or atomic writers); else the low bits are the thread's index.
const MANY: u16 = 0x7fff;
/// In a thread field: the access was atomic or otherwise strong (all of them, for readers).
const STRONG: u16 = 0x8000;

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    w_stamp: u32,
    r_stamp: u32,
    /// Warps that read at `r_stamp`.
    r_warps: u32,
    w_thread: u16,
    r_thread: u16,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub data: Vec<u8>,
    shadow: Vec<Cell>,
    /// log2 of the granule's bytes.
    shift: u32,
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
            shift: granule.trailing_zeros(),
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
        if at < size && len <= size - at { Ok(at as usize) } else { Err(What::SharedOutOfBounds { offset: at, bytes: len, size }) }
    }

    #[inline(always)]
    fn ordered(&self, me: usize, other: usize, stamp: u32) -> bool {
        self.seen[me][other] > stamp
    }

    /// Notes a read of `[at, at + len)`, in bounds.
    #[inline(always)]
    pub(super) fn on_read(&mut self, at: usize, len: usize, who: Who) -> Result<(), What> {
        if self.shadow.is_empty() {
            return Ok(());
        }
        let warp = usize::from(who.thread) / 32;
        let (now, floor, start) = (self.now, self.floor[warp], self.block_start);
        let me = who.thread | if who.strong { STRONG } else { 0 };
        let (g0, g1) = (at >> self.shift, (at + len - 1) >> self.shift);
        let mut doubt = false;
        for c in &mut self.shadow[g0..=g1] {
            // Written in this block, and either before this warp's last barrier or by this very thread.
            doubt |= c.w_stamp < start || (c.w_stamp >= floor && c.w_thread != me);
            if c.r_stamp != now {
                c.r_stamp = now;
                c.r_thread = me;
                c.r_warps = 1 << warp;
            } else if c.r_thread != me {
                c.r_thread = MANY | (c.r_thread & me & STRONG);
                c.r_warps |= 1 << warp;
            }
        }
        if doubt { self.judge_read(g0..=g1, who) } else { Ok(()) }
    }

    /// Notes the reads of the lanes of `m`, up to the first that needs [`Shared::on_read`] to judge it.
    /// Returns the lanes left to do. `first` is the thread of lane 0.
    pub(super) fn read_lanes(&mut self, offs: &[usize; 32], len: usize, mut m: u32, first: u16, strong: bool) -> u32 {
        let warp = usize::from(first) / 32;
        let (now, floor, start, shift) = (self.now, self.floor[warp], self.block_start, self.shift);
        let flag = if strong { STRONG } else { 0 };
        let shadow = self.shadow.as_mut_slice();
        while m != 0 {
            let l = m.trailing_zeros() as usize;
            let me = (first + l as u16) | flag;
            let Some(cells) = shadow.get_mut(offs[l] >> shift..=(offs[l] + len - 1) >> shift) else {
                return m;
            };
            for c in cells {
                if c.w_stamp < start || (c.w_stamp >= floor && c.w_thread != me) {
                    return m;
                }
                let again = c.r_stamp == now && c.r_thread != me;
                c.r_thread = if again { MANY | (c.r_thread & me & STRONG) } else { me };
                c.r_warps = if again { c.r_warps | 1 << warp } else { 1 << warp };
                c.r_stamp = now;
            }
            m &= m - 1;
        }
        0
    }

    /// As [`Shared::read_lanes`], for writes.
    pub(super) fn write_lanes(&mut self, offs: &[usize; 32], len: usize, mut m: u32, first: u16, strong: bool) -> u32 {
        if strong {
            return m;
        }
        let (now, floor, shift) = (self.now, self.floor[usize::from(first) / 32], self.shift);
        let shadow = self.shadow.as_mut_slice();
        while m != 0 {
            let l = m.trailing_zeros() as usize;
            let me = first + l as u16;
            let Some(cells) = shadow.get_mut(offs[l] >> shift..=(offs[l] + len - 1) >> shift) else {
                return m;
            };
            let doubt = |c: &Cell| (c.w_stamp >= floor && c.w_thread != me) || (c.r_stamp >= floor && c.r_thread != me);
            if cells.iter().any(doubt) {
                return m;
            }
            for c in cells {
                c.w_thread = me;
                c.w_stamp = now;
            }
            m &= m - 1;
        }
        0
    }

    #[cold]
    fn judge_read(&self, granules: RangeInclusive<usize>, who: Who) -> Result<(), What> {
        let warp = usize::from(who.thread) / 32;
        for g in granules {
            let c = self.shadow[g];
            if c.w_stamp < self.block_start {
                if self.uninit {
                    return Err(What::UninitialisedShared { offset: (g << self.shift) as u64 });
                }
            } else if self.races && self.conflicts(c.w_thread, c.w_stamp, warp, who) {
                return Err(self.race(g, c.w_thread, who, true, false));
            }
        }
        Ok(())
    }

    /// Whether the write of `writer` at `stamp` is unordered with what `who` does now.
    fn conflicts(&self, writer: u16, stamp: u32, warp: usize, who: Who) -> bool {
        let thread = writer & !STRONG;
        if thread == who.thread || (writer & STRONG != 0 && who.strong) {
            return false;
        }
        // Several atomic writers: ordered only if the whole block is.
        if thread == MANY { stamp >= self.floor[warp] } else { !self.ordered(warp, usize::from(thread) / 32, stamp) }
    }

    /// Notes a write of `[at, at + len)`, in bounds. `agreed` says that the only earlier writer is
    /// another lane of this very instruction with the same value, which is no conflict.
    #[inline(always)]
    pub(super) fn on_write(&mut self, at: usize, len: usize, who: Who, agreed: bool) -> Result<(), What> {
        if self.shadow.is_empty() {
            return Ok(());
        }
        let warp = usize::from(who.thread) / 32;
        let (now, floor) = (self.now, self.floor[warp]);
        let me = who.thread | if who.strong { STRONG } else { 0 };
        let (g0, g1) = (at >> self.shift, (at + len - 1) >> self.shift);
        if self.races {
            let mut doubt = false;
            for c in &self.shadow[g0..=g1] {
                doubt |= (c.w_stamp >= floor && c.w_thread != me) || (c.r_stamp >= floor && c.r_thread != me);
            }
            if doubt {
                self.judge_write(g0..=g1, who, agreed)?;
            }
        }
        for c in &mut self.shadow[g0..=g1] {
            let shares = who.strong && c.w_stamp == now && c.w_thread & STRONG != 0 && c.w_thread != me;
            c.w_thread = if shares { MANY | STRONG } else { me };
            c.w_stamp = now;
        }
        Ok(())
    }

    #[cold]
    fn judge_write(&self, granules: RangeInclusive<usize>, who: Who, agreed: bool) -> Result<(), What> {
        let warp = usize::from(who.thread) / 32;
        for g in granules {
            let c = self.shadow[g];
            if !agreed && c.w_stamp >= self.block_start && self.conflicts(c.w_thread, c.w_stamp, warp, who) {
                return Err(self.race(g, c.w_thread, who, true, true));
            }
            let strong = c.r_thread & STRONG != 0 && who.strong;
            if c.r_stamp < self.block_start || c.r_thread & !STRONG == who.thread || strong {
                continue;
            }
            let mut warps = c.r_warps;
            while warps != 0 {
                let other = warps.trailing_zeros() as usize;
                warps &= warps - 1;
                if !self.ordered(warp, other, c.r_stamp) {
                    return Err(self.race(g, c.r_thread, who, false, true));
                }
            }
        }
        Ok(())
    }

    fn race(&self, g: usize, other: u16, who: Who, first: bool, second: bool) -> What {
        What::SharedRace {
            place: Place { offset: (g << self.shift) as u64, bytes: 1 << self.shift },
            other: (other & MANY != MANY).then_some(u32::from(other & MANY)),
            thread: u32::from(who.thread),
            first_writes: first,
            second_writes: second,
        }
    }
}
