//! Memory instructions of a warp: addresses, bounds, alignment, the shadows, then the bytes.
//!
//! The usual case is a warp inside one buffer: it is located once, all lanes are checked together,
//! and the bytes move in a plain loop. Anything else goes lane by lane and finds the fault.

use super::alu::{L32, put32, put64};
use super::decode::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW, WINDOW};
use super::fault::What;
use super::float as fl;
use super::isa::{Access, Addr, Atom, AtomOp, F, Mode, R, Space, Ty};
use super::shared::Who;
use super::warp::{LaneFault, Machine, Pending, Warp};

/// Lanes of a mask, ascending.
pub(super) fn lanes(mut m: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        if m == 0 {
            return None;
        }
        let l = m.trailing_zeros() as usize;
        m &= m - 1;
        Some(l)
    })
}

fn at_lane(lane: usize) -> impl Fn(What) -> LaneFault {
    move |what| LaneFault { lane: Some(lane), what }
}

/// Space of a generic address, and the address within it.
fn resolve(a: u64) -> (Space, u64) {
    if a.wrapping_sub(SHARED_WINDOW) < WINDOW {
        (Space::Shared, a - SHARED_WINDOW)
    } else if a.wrapping_sub(LOCAL_WINDOW) < WINDOW {
        (Space::Local, a - LOCAL_WINDOW)
    } else if a.wrapping_sub(PARAM_WINDOW) < WINDOW {
        (Space::Param, a - PARAM_WINDOW)
    } else {
        (Space::Global, a)
    }
}

pub(super) fn is_in_space(space: Space, a: u64) -> bool {
    resolve(a).0 == space
}

#[inline(always)]
fn le(bytes: &[u8]) -> u64 {
    let mut b = [0; 8];
    b[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(b)
}

/// Moves loaded bytes into registers; every lane's offset is in range, active or not.
#[inline(always)]
fn fetch(w: &mut Warp, acc: &Access, m: u32, data: &[u8], offs: &[usize; 32]) {
    let step = acc.bits as usize / 8;
    for (k, reg) in acc.regs.iter().enumerate() {
        let Some((d, wide, width)) = *reg else { continue };
        let d = d as usize;
        let shift = k * step;
        match (acc.bits, wide) {
            (32, false) => {
                let whole = m == u32::MAX && acc.regs.len() == 1;
                let v: L32 = if whole && (0..32).all(|l| offs[l] == offs[0] + 4 * l) {
                    let (words, _) = data[offs[0]..offs[0] + 128].as_chunks::<4>();
                    std::array::from_fn(|l| u32::from_le_bytes(words[l]))
                } else {
                    std::array::from_fn(|l| {
                        let o = offs[l] + shift;
                        let b = &data[o..o + 4];
                        u32::from_le_bytes([b[0], b[1], b[2], b[3]])
                    })
                };
                put32(&mut w.regs.r32[d], &v, m);
            }
            _ => {
                let value = |l: usize| {
                    let o = offs[l] + shift;
                    let raw = le(&data[o..o + step]);
                    if acc.signed { ((raw << (64 - acc.bits)) as i64 >> (64 - acc.bits)) as u64 } else { raw }
                };
                if wide {
                    let v = std::array::from_fn(value);
                    put64(&mut w.regs.r64[d], &v, m);
                } else {
                    let cut = if width == 16 { 0xffff } else { u32::MAX };
                    let v = std::array::from_fn(|l| value(l) as u32 & cut);
                    put32(&mut w.regs.r32[d], &v, m);
                }
            }
        }
    }
}

/// Most bytes a warp moves in one instruction.
const WARP_BYTES: usize = 32 * super::isa::MAX_ACCESS as usize;

/// The bytes that every lane stores, one lane after the other.
#[inline(always)]
fn gather(w: &Warp, acc: &Access, out: &mut [u8; WARP_BYTES]) {
    let step = acc.bits as usize / 8;
    let bytes = acc.bytes() as usize;
    for (k, reg) in acc.regs.iter().enumerate() {
        let Some((r, wide, _)) = *reg else { continue };
        match (wide, step) {
            (false, 4) => {
                let x = &w.regs.r32[r as usize];
                for l in 0..32 {
                    out[l * bytes + 4 * k..][..4].copy_from_slice(&x[l].to_le_bytes());
                }
            }
            (true, 8) => {
                let x = &w.regs.r64[r as usize];
                for l in 0..32 {
                    out[l * bytes + 8 * k..][..8].copy_from_slice(&x[l].to_le_bytes());
                }
            }
            _ => {
                for l in 0..32 {
                    let raw = if wide { w.regs.r64[r as usize][l] } else { u64::from(w.regs.r32[r as usize][l]) };
                    out[l * bytes + k * step..][..step].copy_from_slice(&raw.to_le_bytes()[..step]);
                }
            }
        }
    }
}

/// All lanes take part, each `step` bytes after the one before it. No early end, so that the compiler compares several at once.
#[inline(always)]
pub(super) fn in_steps(m: u32, addrs: &[u64; 32], step: u64) -> bool {
    m == u32::MAX && (0..32).fold(0, |off, l| off | (addrs[l] ^ addrs[0].wrapping_add(step * l as u64))) == 0
}

fn misaligned(m: u32, addrs: &[u64; 32], align: u64) -> LaneFault {
    let lane = lanes(m).find(|l| !addrs[*l].is_multiple_of(align)).unwrap_or(0);
    at_lane(lane)(What::Misaligned { address: addrs[lane], align })
}

impl Machine<'_> {
    pub(super) fn addresses(w: &Warp, a: &Addr) -> [u64; 32] {
        if a.wide {
            let off = a.off as u64;
            w.regs.r64[a.reg as usize].map(|x| x.wrapping_add(off))
        } else {
            let off = a.off as u32;
            w.regs.r32[a.reg as usize].map(|x| u64::from(x.wrapping_add(off)))
        }
    }

    /// Calls `f` with the space and addresses of each set of lanes that share a space.
    fn by_space(
        &mut self,
        w: &mut Warp,
        space: Space,
        addrs: [u64; 32],
        m: u32,
        mut f: impl FnMut(&mut Self, &mut Warp, Space, &[u64; 32], u32) -> Result<(), LaneFault>,
    ) -> Result<(), LaneFault> {
        if space != Space::Generic {
            return f(self, w, space, &addrs, m);
        }
        for space in [Space::Global, Space::Shared, Space::Local, Space::Param] {
            let mut local = addrs;
            let mut part = 0;
            for l in lanes(m) {
                let (s, a) = resolve(addrs[l]);
                if s == space {
                    part |= 1 << l;
                    local[l] = a;
                }
            }
            if part != 0 {
                f(self, w, space, &local, part)?;
            }
        }
        Ok(())
    }

    pub(super) fn load(&mut self, w: &mut Warp, acc: &Access, m: u32, pc: usize) -> Result<(), LaneFault> {
        let addrs = Self::addresses(w, &acc.addr);
        self.by_space(w, acc.space, addrs, m, |this, w, space, addrs, m| match space {
            Space::Shared => this.load_shared(w, acc, addrs, m),
            Space::Local => this.load_local(w, acc, addrs, m),
            Space::Param => this.load_param(w, acc, addrs, m),
            _ => this.load_global(w, acc, addrs, m, pc),
        })
    }

    fn load_global(&mut self, w: &mut Warp, acc: &Access, addrs: &[u64; 32], m: u32, pc: usize) -> Result<(), LaneFault> {
        let bytes = acc.bytes();
        self.stats.global_load_bytes += bytes * u64::from(m.count_ones());
        let first = m.trailing_zeros() as usize;
        let (i, at) = self.mem.locate(&mut self.hints[pc], addrs[first], bytes).map_err(at_lane(first))?;
        let (base, len) = self.mem.extent(i);
        let (mut max, mut or) = (0, 0);
        let offs: [usize; 32] = std::array::from_fn(|l| {
            let o = if m >> l & 1 == 1 { addrs[l].wrapping_sub(base) } else { at as u64 };
            max = max.max(o);
            or |= o;
            o as usize
        });
        if or & (bytes - 1) != 0 {
            return Err(misaligned(m, addrs, bytes));
        }
        if max > len - bytes {
            // Lanes in several buffers, or out of bounds.
            for l in lanes(m) {
                let (i, at) = self.mem.locate(&mut self.hints[pc], addrs[l], bytes).map_err(at_lane(l))?;
                self.mem.check_load(i, at, bytes as usize, &self.checks).map_err(at_lane(l))?;
                fetch(w, acc, 1 << l, self.mem.data(i), &[at; 32]);
            }
            return Ok(());
        }
        if !self.mem.load_is_free(i, &self.checks) {
            for l in lanes(m) {
                self.mem.check_load(i, offs[l], bytes as usize, &self.checks).map_err(at_lane(l))?;
            }
        }
        fetch(w, acc, m, self.mem.data(i), &offs);
        Ok(())
    }

    /// Offsets of a shared access, checked for bounds and alignment; inactive lanes get a valid one.
    fn shared_offsets(&self, addrs: &[u64; 32], m: u32, bytes: u64) -> Result<[usize; 32], LaneFault> {
        let first = addrs[m.trailing_zeros() as usize];
        let (mut max, mut or) = (0, 0);
        let offs: [usize; 32] = std::array::from_fn(|l| {
            let o = if m >> l & 1 == 1 { addrs[l] } else { first };
            max = max.max(o);
            or |= o;
            o as usize
        });
        let size = self.shared.data.len() as u64;
        if bytes > size || max > size - bytes {
            for l in lanes(m) {
                self.shared.check_bounds(addrs[l], bytes).map_err(at_lane(l))?;
            }
        }
        if or & (bytes - 1) != 0 {
            return Err(misaligned(m, addrs, bytes));
        }
        Ok(offs)
    }

    fn load_shared(&mut self, w: &mut Warp, acc: &Access, addrs: &[u64; 32], m: u32) -> Result<(), LaneFault> {
        let bytes = acc.bytes();
        self.stats.shared_load_bytes += bytes * u64::from(m.count_ones());
        let offs = self.shared_offsets(addrs, m, bytes)?;
        if self.tracked {
            let all_one = offs.iter().all(|o| *o == offs[0]);
            // Of many lanes that read one place, two tell the whole story.
            let mut left = if all_one { m & (m & m.wrapping_neg() | 1 << m.ilog2()) } else { m };
            loop {
                left = self.shared.read_lanes(&offs, bytes as usize, left, w.thread(0), acc.strong);
                if left == 0 {
                    break;
                }
                let l = left.trailing_zeros() as usize;
                left &= left - 1;
                let who = Who { thread: w.thread(l), strong: acc.strong };
                self.shared.on_read(offs[l], bytes as usize, who).map_err(at_lane(l))?;
            }
        }
        fetch(w, acc, m, &self.shared.data, &offs);
        Ok(())
    }

    fn load_local(&mut self, w: &mut Warp, acc: &Access, addrs: &[u64; 32], m: u32) -> Result<(), LaneFault> {
        let bytes = acc.bytes();
        for l in lanes(m) {
            let at = self.local_offset(addrs[l], bytes, l).map_err(at_lane(l))?;
            if self.checks.uninit
                && let Some(i) = w.local_written[at..at + bytes as usize].iter().position(|written| !written)
            {
                return Err(at_lane(l)(What::UninitialisedLocal { offset: addrs[l] + i as u64 }));
            }
            let raw: [u8; 64] = std::array::from_fn(|i| if (i as u64) < bytes { w.local[at + i] } else { 0 });
            fetch(w, acc, 1 << l, &raw, &[0; 32]);
        }
        Ok(())
    }

    fn local_offset(&self, a: u64, bytes: u64, lane: usize) -> Result<usize, What> {
        let size = self.local_bytes as u64;
        if bytes > size || a > size - bytes {
            return Err(What::SpaceOutOfBounds { space: "local", offset: a, bytes, size });
        }
        if !a.is_multiple_of(bytes) {
            return Err(What::Misaligned { address: a, align: bytes });
        }
        Ok(lane * self.local_bytes + a as usize)
    }

    fn load_param(&mut self, w: &mut Warp, acc: &Access, addrs: &[u64; 32], m: u32) -> Result<(), LaneFault> {
        let bytes = acc.bytes();
        let size = self.params.len() as u64;
        let first = addrs[m.trailing_zeros() as usize] as usize;
        let mut offs = [first; 32];
        for l in lanes(m) {
            let a = addrs[l];
            if bytes > size || a > size - bytes {
                return Err(at_lane(l)(What::SpaceOutOfBounds { space: "param", offset: a, bytes, size }));
            }
            offs[l] = a as usize;
        }
        fetch(w, acc, m, self.params, &offs);
        Ok(())
    }

    pub(super) fn store(&mut self, w: &mut Warp, acc: &Access, m: u32, pc: usize) -> Result<(), LaneFault> {
        let addrs = Self::addresses(w, &acc.addr);
        self.by_space(w, acc.space, addrs, m, |this, w, space, addrs, m| {
            let mut all = [0; WARP_BYTES];
            gather(w, acc, &mut all);
            match space {
                Space::Shared => this.store_shared(w, acc, addrs, m, &all),
                Space::Local => {
                    let bytes = acc.bytes();
                    let n = bytes as usize;
                    for l in lanes(m) {
                        let at = this.local_offset(addrs[l], bytes, l).map_err(at_lane(l))?;
                        w.local[at..at + n].copy_from_slice(&all[l * n..(l + 1) * n]);
                        w.local_written[at..at + n].fill(true);
                    }
                    Ok(())
                }
                Space::Param => {
                    let detail = "store to parameter space".to_owned();
                    Err(LaneFault { lane: None, what: What::BadOperand { detail } })
                }
                _ => this.store_global(acc.bytes(), addrs, m, pc, &all),
            }
        })
    }

    fn store_global(&mut self, bytes: u64, addrs: &[u64; 32], m: u32, pc: usize, all: &[u8; WARP_BYTES]) -> Result<(), LaneFault> {
        let n = bytes as usize;
        self.stats.global_store_bytes += bytes * u64::from(m.count_ones());
        // Within one buffer the whole warp is one store; else the lanes find their faults themselves.
        if in_steps(m, addrs, bytes)
            && addrs[0].is_multiple_of(bytes)
            && let Ok((i, at)) = self.mem.locate(&mut self.hints[pc], addrs[0], 32 * bytes)
        {
            return self.mem.store(i, at, &all[..32 * n], &self.checks).map_err(at_lane(0));
        }
        for l in lanes(m) {
            let (i, at) = self.mem.locate(&mut self.hints[pc], addrs[l], bytes).map_err(at_lane(l))?;
            if at as u64 & (bytes - 1) != 0 {
                return Err(misaligned(m, addrs, bytes));
            }
            self.mem.store(i, at, &all[l * n..(l + 1) * n], &self.checks).map_err(at_lane(l))?;
        }
        Ok(())
    }

    fn store_shared(&mut self, w: &Warp, acc: &Access, addrs: &[u64; 32], m: u32, all: &[u8; WARP_BYTES]) -> Result<(), LaneFault> {
        let bytes = acc.bytes();
        let n = bytes as usize;
        self.stats.shared_store_bytes += bytes * u64::from(m.count_ones());
        let offs = self.shared_offsets(addrs, m, bytes)?;
        if self.tracked {
            let mut left = m;
            loop {
                left = self.shared.write_lanes(&offs, n, left, w.thread(0), acc.strong);
                if left == 0 {
                    break;
                }
                let l = left.trailing_zeros() as usize;
                left &= left - 1;
                let who = Who { thread: w.thread(l), strong: acc.strong };
                if let Err(what) = self.shared.on_write(offs[l], n, who, false) {
                    // Lanes of one store that agree on address and value do not conflict.
                    let mine = &all[l * n..(l + 1) * n];
                    let agreed = lanes(m & ((1 << l) - 1)).any(|e| offs[e] == offs[l] && all[e * n..(e + 1) * n] == *mine);
                    if !agreed {
                        return Err(at_lane(l)(what));
                    }
                    self.shared.on_write(offs[l], n, who, true).map_err(at_lane(l))?;
                }
            }
        }
        if in_steps(m, addrs, bytes) {
            self.shared.data[offs[0]..offs[0] + 32 * n].copy_from_slice(&all[..32 * n]);
        } else if n == 4 {
            for l in lanes(m) {
                self.shared.data[offs[l]..offs[l] + 4].copy_from_slice(&all[4 * l..4 * l + 4]);
            }
        } else {
            for l in lanes(m) {
                self.shared.data[offs[l]..offs[l] + n].copy_from_slice(&all[l * n..(l + 1) * n]);
            }
        }
        Ok(())
    }

    pub(super) fn atomic(&mut self, w: &mut Warp, a: &Atom, m: u32, pc: usize) -> Result<(), LaneFault> {
        let addrs = Self::addresses(w, &a.addr);
        let bytes = if a.x2 { 4 } else { a.ty.bits() as usize / 8 };
        self.by_space(w, a.space, addrs, m, |this, w, space, addrs, m| {
            for l in lanes(m) {
                let fault = at_lane(l);
                if !addrs[l].is_multiple_of(bytes as u64) {
                    return Err(misaligned(m, addrs, bytes as u64));
                }
                let get = |w: &Warp, r: R| {
                    if bytes == 8 { w.regs.r64[r as usize][l] } else { u64::from(w.regs.r32[r as usize][l]) }
                };
                let (b, c) = (get(w, a.b), get(w, a.c));
                let old = match space {
                    Space::Shared => {
                        let at = this.shared.check_bounds(addrs[l], bytes as u64).map_err(&fault)?;
                        let who = Who { thread: w.thread(l), strong: true };
                        this.shared.on_read(at, bytes, who).map_err(&fault)?;
                        this.shared.on_write(at, bytes, who, false).map_err(&fault)?;
                        let old = le(&this.shared.data[at..at + bytes]);
                        let new = combine(a, old, b, c).to_le_bytes();
                        this.shared.data[at..at + bytes].copy_from_slice(&new[..bytes]);
                        this.stats.shared_store_bytes += bytes as u64;
                        old
                    }
                    Space::Global => {
                        let (i, at) = this.mem.locate(&mut this.hints[pc], addrs[l], bytes as u64).map_err(&fault)?;
                        this.mem.check_load(i, at, bytes, &super::memory::Checks { races: false, ..this.checks }).map_err(&fault)?;
                        let old = le(&this.mem.data(i)[at..at + bytes]);
                        let new = combine(a, old, b, c).to_le_bytes();
                        this.mem.update(i, at, &new[..bytes]);
                        this.stats.global_load_bytes += bytes as u64;
                        this.stats.global_store_bytes += bytes as u64;
                        old
                    }
                    _ => {
                        let detail = "atomic outside global and shared memory".to_owned();
                        return Err(fault(What::BadOperand { detail }));
                    }
                };
                if let Some(d) = a.d {
                    if bytes == 8 {
                        w.regs.r64[d as usize][l] = old;
                    } else {
                        w.regs.r32[d as usize][l] = old as u32;
                    }
                }
            }
            Ok(())
        })
    }

    /// Reads global bytes now; they reach shared memory when the thread waits.
    pub(super) fn cp_async(
        &mut self,
        w: &mut Warp,
        (dst, src): (&Addr, &Addr),
        bytes: u32,
        read: Option<R>,
        m: u32,
        pc: usize,
    ) -> Result<(), LaneFault> {
        let (to, from) = (Self::addresses(w, dst), Self::addresses(w, src));
        let n = u64::from(bytes);
        for l in lanes(m) {
            let fault = at_lane(l);
            let take = read.map_or(n, |r| u64::from(w.regs.r32[r as usize][l]).min(n));
            let mut buf = [0; 16];
            if take > 0 {
                let (i, at) = self.mem.locate(&mut self.hints[pc], from[l], take).map_err(&fault)?;
                if !(at as u64).is_multiple_of(n) {
                    return Err(fault(What::Misaligned { address: from[l], align: n }));
                }
                self.mem.check_load(i, at, take as usize, &self.checks).map_err(&fault)?;
                buf[..take as usize].copy_from_slice(&self.mem.data(i)[at..at + take as usize]);
                self.stats.global_load_bytes += take;
            }
            let at = self.shared.check_bounds(to[l], n).map_err(&fault)?;
            if !to[l].is_multiple_of(n) {
                return Err(fault(What::Misaligned { address: to[l], align: n }));
            }
            let group = w.committed[l];
            w.pending.push(Pending { lane: l as u8, group, at, bytes: bytes as usize, data: buf });
        }
        Ok(())
    }

    /// Applies the pending copies of the lanes of `m` for which `ready(lane's committed, group)`.
    pub(super) fn cp_apply(&mut self, w: &mut Warp, m: u32, ready: impl Fn(u32, u32) -> bool) -> Result<(), LaneFault> {
        let pending = std::mem::take(&mut w.pending);
        for p in pending {
            let l = usize::from(p.lane);
            if m >> l & 1 == 0 || !ready(w.committed[l], p.group) {
                w.pending.push(p);
                continue;
            }
            let who = Who { thread: w.thread(l), strong: false };
            self.shared.on_write(p.at, p.bytes, who, false).map_err(at_lane(l))?;
            self.shared.data[p.at..p.at + p.bytes].copy_from_slice(&p.data[..p.bytes]);
            self.stats.shared_store_bytes += p.bytes as u64;
        }
        Ok(())
    }

    /// ldmatrix and stmatrix: lane `8i + r` gives the address of row `r` of 8×8 matrix `i`; lane `l` holds
    /// elements `(l/4, 2(l%4))` and the next, or their transposes.
    pub(super) fn matrix_move(&mut self, w: &mut Warp, addr: &Addr, trans: bool, regs: &[R], store: bool) -> Result<(), LaneFault> {
        let addrs = Self::addresses(w, addr);
        for (i, reg) in regs.iter().enumerate() {
            let mut rows = [0usize; 8];
            for (r, row) in rows.iter_mut().enumerate() {
                let l = 8 * i + r;
                let mut a = addrs[l];
                if let (Space::Shared, s) = resolve(a) {
                    a = s;
                }
                *row = self.shared.check_bounds(a, 16).map_err(at_lane(l))?;
                if a % 16 != 0 {
                    return Err(at_lane(l)(What::Misaligned { address: a, align: 16 }));
                }
                let who = Who { thread: w.thread(l), strong: false };
                if store {
                    self.shared.on_write(*row, 16, who, false).map_err(at_lane(l))?;
                } else {
                    self.shared.on_read(*row, 16, who).map_err(at_lane(l))?;
                }
            }
            let place = |l: usize, e: usize| {
                let (r, c) = (l / 4, 2 * (l % 4) + e);
                if trans { rows[c] + 2 * r } else { rows[r] + 2 * c }
            };
            if store {
                let v = w.regs.r32[*reg as usize];
                for (l, x) in v.iter().enumerate() {
                    for e in 0..2 {
                        let at = place(l, e);
                        self.shared.data[at..at + 2].copy_from_slice(&(x >> (16 * e)).to_le_bytes()[..2]);
                    }
                }
                self.stats.shared_store_bytes += 128;
            } else {
                let data = &self.shared.data;
                if !trans {
                    let out = &mut w.regs.r32[*reg as usize];
                    for (r, row) in rows.iter().enumerate() {
                        let (words, _) = data[*row..*row + 16].as_chunks::<4>();
                        for (j, x) in words.iter().enumerate() {
                            out[4 * r + j] = u32::from_le_bytes(*x);
                        }
                    }
                    self.stats.shared_load_bytes += 128;
                    continue;
                }
                let half = |at: usize| u32::from(u16::from_le_bytes([data[at], data[at + 1]]));
                w.regs.r32[*reg as usize] = std::array::from_fn(|l| half(place(l, 0)) | (half(place(l, 1)) << 16));
                self.stats.shared_load_bytes += 128;
            }
        }
        Ok(())
    }
}

/// The new value of an atomic.
fn combine(a: &Atom, old: u64, b: u64, c: u64) -> u64 {
    if a.x2 {
        let half = Atom { x2: false, ..*a };
        let lo = combine(&half, old & 0xffff, b & 0xffff, 0);
        return lo | (combine(&half, old >> 16 & 0xffff, b >> 16 & 0xffff, 0) << 16);
    }
    let float = |op: F| match a.ty {
        Ty::F32 => u64::from(fl::f32_op(op, Mode::PLAIN, old as u32, b as u32, 0)),
        Ty::F64 => fl::f64_op(op, Mode::PLAIN.rnd, old, b, 0),
        ty => u64::from(fl::f16_op(op, ty == Ty::Bf16, Mode::PLAIN, old as u32, b as u32, 0)),
    };
    let signed = |v: u64| if a.ty.bits() == 32 { i64::from(v as u32 as i32) } else { v as i64 };
    match a.op {
        AtomOp::Add if a.ty.is_float() => float(F::Add),
        AtomOp::Min if a.ty.is_float() => float(F::Min),
        AtomOp::Max if a.ty.is_float() => float(F::Max),
        AtomOp::Add => old.wrapping_add(b),
        AtomOp::Min if a.ty.is_signed() => {
            if signed(b) < signed(old) {
                b
            } else {
                old
            }
        }
        AtomOp::Max if a.ty.is_signed() => {
            if signed(b) > signed(old) {
                b
            } else {
                old
            }
        }
        AtomOp::Min => old.min(b),
        AtomOp::Max => old.max(b),
        AtomOp::And => old & b,
        AtomOp::Or => old | b,
        AtomOp::Xor => old ^ b,
        AtomOp::Exch => b,
        AtomOp::Cas => {
            if old == b {
                c
            } else {
                old
            }
        }
        AtomOp::Inc => {
            if old >= b {
                0
            } else {
                old + 1
            }
        }
        AtomOp::Dec => {
            if old == 0 || old > b {
                b
            } else {
                old - 1
            }
        }
    }
}
