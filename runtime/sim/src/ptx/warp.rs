//! A warp and the loop that runs it.
//!
//! The lanes that share a program counter form a group and step together. A branch that splits a group
//! leaves two; the group with the smallest program counter runs, and groups that meet merge, so code
//! reconverges at the latest where the branch's arms join. While there is one group (nearly always)
//! nothing but a comparison is spent on this.
//!
//! Instructions that speak for several lanes (barriers, shuffles, matrices) wait, parked, until the lanes
//! they name have arrived; if no lane can move any more, that is a fault.

use super::access::{is_in_space, lanes};
use super::alu::Regs;
use super::decode::Code;
use super::fault::What;
use super::float as fl;
use super::isa::{Class, Mode, Op, R, ShflMode, Ty, VoteMode};
use super::memory::{Checks, Memory};
use super::profile::Profile;
use super::shared::Shared;
use super::{Stats, int, mma};

/// A fault before it is placed: the lane, if one is to blame.
#[derive(Debug)]
pub(super) struct LaneFault {
    pub lane: Option<usize>,
    pub what: What,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    pc: u32,
    mask: u32,
    parked: bool,
}

/// A cp.async copy not yet visible.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub lane: u8,
    /// Number of groups the lane had committed before: the group this copy joins.
    pub group: u32,
    pub at: usize,
    pub bytes: usize,
    pub data: [u8; 16],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    /// Waiting at the barrier with this id.
    Waiting(u32),
    Done,
}

#[derive(Debug)]
pub(super) struct Warp {
    pub index: u32,
    pub regs: Regs,
    pub local: Vec<u8>,
    /// Which bytes of `local` were written.
    pub local_written: Vec<bool>,
    /// Lanes that have not exited.
    pub live: u32,
    pub pc: u32,
    mask: u32,
    others: Vec<Group>,
    /// Smallest program counter among `others`.
    next_pc: u32,
    pub state: State,
    pub pending: Vec<Pending>,
    pub committed: [u32; 32],
}

/// Why a warp stopped running.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stop {
    Exited,
    Barrier { id: u32, count: Option<u32>, wait: bool },
    Quantum,
}

/// What a block's warps share while they run.
pub(super) struct Machine<'a> {
    pub code: &'a Code,
    pub mem: &'a mut Memory,
    pub shared: Shared,
    pub params: &'a [u8],
    pub local_bytes: usize,
    pub checks: Checks,
    /// Shared memory keeps a shadow.
    pub tracked: bool,
    /// Per instruction, the buffer it last touched.
    pub hints: Vec<u32>,
    pub stats: Stats,
    pub profile: Option<Box<Profile>>,
}

impl Warp {
    pub(super) fn new(index: u32, code: &Code, local_bytes: usize) -> Self {
        let mut p = vec![0; code.np];
        p[0] = u32::MAX;
        Self {
            index,
            regs: Regs { r32: vec![[0; 32]; code.n32], r64: vec![[0; 32]; code.n64], p },
            local: vec![0; local_bytes * 32],
            local_written: vec![false; local_bytes * 32],
            live: 0,
            pc: 0,
            mask: 0,
            others: Vec::new(),
            next_pc: u32::MAX,
            state: State::Ready,
            pending: Vec::new(),
            committed: [0; 32],
        }
    }

    /// Back to the kernel's start with `live` lanes; constant registers are untouched.
    pub(super) fn restart(&mut self, live: u32) {
        self.live = live;
        self.mask = live;
        self.pc = 0;
        self.others.clear();
        self.next_pc = u32::MAX;
        self.state = State::Ready;
        self.pending.clear();
        self.committed = [0; 32];
        self.local.fill(0);
        self.local_written.fill(false);
    }

    /// Linear index in the block of lane `l`.
    #[inline(always)]
    pub(super) fn thread(&self, l: usize) -> u16 {
        (self.index * 32) as u16 + l as u16
    }

    /// Puts the current group with the others, merges those that have met, and takes the one with the
    /// smallest program counter that is not parked. False if there is none.
    #[cold]
    fn reschedule(&mut self, parked: bool) -> bool {
        if self.mask != 0 {
            self.others.push(Group { pc: self.pc, mask: self.mask, parked });
        }
        self.mask = 0;
        self.others.sort_by_key(|g| g.pc);
        self.others.dedup_by(|g, kept| {
            let same = g.pc == kept.pc;
            if same {
                kept.mask |= g.mask;
                kept.parked = false;
            }
            same
        });
        let found = self.others.iter().position(|g| !g.parked);
        if let Some(i) = found {
            let g = self.others.remove(i);
            (self.pc, self.mask) = (g.pc, g.mask);
        }
        self.next_pc = self.others.first().map_or(u32::MAX, |g| g.pc);
        found.is_some()
    }

    /// Lanes of `m` leave. True if others remain to run.
    fn exit(&mut self, m: u32) -> bool {
        self.live &= !m;
        self.mask &= !m;
        if self.live == 0 {
            self.state = State::Done;
            return false;
        }
        // Parked groups may have waited for the lanes that left.
        for g in &mut self.others {
            g.parked = false;
        }
        if self.mask != 0 {
            self.pc += 1;
        }
        self.reschedule(false)
    }

    /// A warp-wide instruction for the lanes `needed` is about to run with the lanes `m`. True: go on.
    /// False: the group was parked and another one runs.
    fn gather_lanes(&mut self, m: u32, needed: u32) -> Result<bool, LaneFault> {
        let needed = needed & self.live;
        if needed & !m == 0 {
            return Ok(true);
        }
        let present = m;
        let fault = LaneFault { lane: Some(m.trailing_zeros() as usize), what: What::Divergent { present, needed } };
        // Lanes here whose guard is false will not come back.
        if needed & self.mask & !m != 0 || !self.reschedule(true) {
            return Err(fault);
        }
        Ok(false)
    }
}

impl Machine<'_> {
    /// Runs the warp until it exits, waits at a barrier, or `quantum` instructions are done.
    pub(super) fn run(&mut self, w: &mut Warp, quantum: u64) -> Result<Stop, LaneFault> {
        if self.profile.is_some() { self.run_as::<true>(w, quantum) } else { self.run_as::<false>(w, quantum) }
    }

    fn run_as<const PROFILED: bool>(&mut self, w: &mut Warp, quantum: u64) -> Result<Stop, LaneFault> {
        let code = self.code;
        let mut left = quantum;
        let mut alu = 0u64;
        let r = loop {
            if left == 0 {
                break Ok(Stop::Quantum);
            }
            left -= 1;
            let pc = w.pc as usize;
            let inst = &code.insts[pc];
            let m = w.mask & (w.regs.p[inst.guard as usize] ^ inst.guard_flip);
            if PROFILED && let Some(p) = &mut self.profile {
                p.note(w, &inst.op, &code.uses[pc], m, pc);
            }
            match inst.class {
                Class::Alu => alu += 1,
                c => self.stats.count(c),
            }
            if m != 0 {
                match self.step(w, &inst.op, m, pc) {
                    Ok(Flow::Next) => {}
                    Ok(Flow::Moved) => continue,
                    Ok(Flow::Stop(s)) => break Ok(s),
                    Err(e) => break Err(*e),
                }
            }
            w.pc += 1;
            if w.pc >= w.next_pc {
                w.reschedule(false);
            }
        };
        self.stats.alu += alu;
        r
    }

    #[inline(always)]
    fn step(&mut self, w: &mut Warp, op: &Op, m: u32, pc: usize) -> Result<Flow, Box<LaneFault>> {
        let r = &mut w.regs;
        match op {
            Op::Nop => {}
            Op::MarkWritten(p) => r.p[*p as usize] |= m,
            Op::CheckWritten(p, name) => {
                let missing = m & !r.p[*p as usize];
                if missing != 0 {
                    let what = What::UninitialisedRegister { name: name.to_string() };
                    return Err(Box::new(LaneFault { lane: Some(missing.trailing_zeros() as usize), what }));
                }
            }
            Op::Mov32(d, a) => r.mov32(*d, *a, m),
            Op::Mov64(d, a) => r.mov64(*d, *a, m),
            Op::MovPred(o, a) => r.pred(*o, *a, m),
            Op::I32(o, a) => r.i32(*o, *a, m),
            Op::I16(o, s, a) => r.i16(*o, *s, *a, m),
            Op::I16x2(o, s, a) => r.i16x2(*o, *s, *a, m),
            Op::I64(o, a) => r.i64(*o, *a, m),
            Op::Shift64(o, a) => r.shift64(*o, *a, m),
            Op::Count64(o, d, a) => r.count64(*o, *d, *a, m),
            Op::Bfe64(s, a) => r.bfe64(*s, *a, m),
            Op::Bfi32(a) => r.bfi32(*a, m),
            Op::Bfi64(a) => r.bfi64(*a, m),
            Op::Lop3(lut, a) => r.lop3(*lut, *a, m),
            Op::MulWide32(s, [d, a, b]) => r.wide32(*s, *d, *a, *b, None, m),
            Op::MadWide32(s, [d, a, b, c]) => r.wide32(*s, *d, *a, *b, Some(*c), m),
            // Register 0 of the file is never written: zero.
            Op::MulWide16(s, [d, a, b]) => r.wide16(*s, [*d, *a, *b, 0], m),
            Op::MadWide16(s, a) => r.wide16(*s, *a, m),
            Op::F32(o, mode, a) => r.f32(*o, *mode, *a, m),
            Op::F64(o, rnd, a) => r.f64(*o, *rnd, *a, m),
            Op::F16(o, bf, mode, a) => r.f16(*o, *bf, *mode, *a, m),
            Op::F16x2(o, bf, mode, a) => r.f16x2(*o, *bf, *mode, *a, m),
            Op::F32x2(o, mode, a) => r.f32x2(*o, *mode, *a, m),
            Op::Testp(wide, kind, p, a) => r.testp(*wide, *kind, *p, *a, m),
            Op::Setp(s) => r.setp(s, m),
            Op::Selp32(a, n) => r.selp32(*a, *n, m),
            Op::Selp64(a, n) => r.selp64(*a, *n, m),
            Op::Slct(wide, float, a) => r.slct(*wide, *float, *a, m),
            Op::Cvt(c) if matches!(c.from, Ty::E4m3 | Ty::E5m2) => r.cvt_unpack_x2(c, m),
            Op::Cvt(c) => r.cvt(c, m),
            Op::Pack64(a) => r.pack64(*a, m),
            Op::Unpack64(a) => r.unpack64(*a, m),
            Op::Pack32(a) => r.pack32(*a, m),
            Op::Unpack32(a) => r.unpack32(*a, m),
            Op::Pack64x4(a) => r.pack64x4(*a, m),
            Op::Unpack64x4(a) => r.unpack64x4(*a, m),
            Op::Isspace(s, p, a) => {
                let x = &r.r64[*a as usize];
                let v = (0..32).filter(|l| is_in_space(*s, x[*l])).fold(0, |v, l| v | 1 << l);
                r.set_pred(*p, v, m);
            }
            Op::Ld(acc) => self.load(w, acc, m, pc)?,
            Op::St(acc) => self.store(w, acc, m, pc)?,
            Op::Bra(t) => {
                if m == w.mask {
                    w.pc = *t;
                    if w.pc >= w.next_pc {
                        w.reschedule(false);
                    }
                } else {
                    w.others.push(Group { pc: w.pc + 1, mask: w.mask & !m, parked: false });
                    w.mask = m;
                    w.pc = *t;
                    w.reschedule(false);
                }
                return Ok(Flow::Moved);
            }
            Op::Exit => {
                return Ok(if w.exit(m) { Flow::Moved } else { Flow::Stop(Stop::Exited) });
            }
            _ => return self.step_rare(w, op, m, pc),
        }
        Ok(Flow::Next)
    }

    #[inline(never)]
    fn step_rare(&mut self, w: &mut Warp, op: &Op, m: u32, pc: usize) -> Result<Flow, Box<LaneFault>> {
        let first = m.trailing_zeros() as usize;
        // Warp-wide instructions first wait for their lanes.
        let needed = match op {
            Op::Shfl { members, .. }
            | Op::Vote { members, .. }
            | Op::Match { members, .. }
            | Op::Elect { members, .. }
            | Op::Redux { members, .. }
            | Op::ReduxF { members, .. }
            | Op::WarpSync(members) => Some(w.regs.r32[*members as usize][first]),
            Op::LdMatrix { .. } | Op::StMatrix { .. } | Op::Mma(_) | Op::Bar { .. } => Some(u32::MAX),
            _ => None,
        };
        if let Some(n) = needed
            && !w.gather_lanes(m, n)?
        {
            return Ok(Flow::Moved);
        }
        let whole = |w: &Warp| {
            if w.live == u32::MAX {
                return Ok(());
            }
            let (present, needed) = (w.live, u32::MAX);
            Err(LaneFault { lane: None, what: What::Divergent { present, needed } })
        };
        match op {
            Op::Atom(a) => self.atomic(w, a, m, pc)?,
            Op::CpAsync { dst, src, bytes, read } => self.cp_async(w, (dst, src), *bytes, *read, m, pc)?,
            Op::CpCommit => lanes(m).for_each(|l| w.committed[l] += 1),
            // Copies after the last commit belong to no group yet.
            Op::CpWait(n) => self.cp_apply(w, m, |done, group| group < done && group < done.saturating_sub(*n))?,
            Op::CpWaitAll => self.cp_apply(w, m, |_, _| true)?,
            Op::BrxIdx(i, targets) => {
                let index = w.regs.r32[*i as usize];
                for l in lanes(m) {
                    let Some(t) = targets.get(index[l] as usize) else {
                        let detail = format!("brx.idx index {} of {} targets", index[l], targets.len());
                        return Err(Box::new(LaneFault { lane: Some(l), what: What::BadOperand { detail } }));
                    };
                    w.others.push(Group { pc: *t, mask: 1 << l, parked: false });
                }
                w.mask &= !m;
                w.pc += 1;
                w.reschedule(false);
                return Ok(Flow::Moved);
            }
            Op::Trap => return Err(Box::new(LaneFault { lane: Some(first), what: What::Trap })),
            Op::Bar { id, count, wait } => {
                let id = w.regs.r32[*id as usize][first];
                let count = count.map(|c| w.regs.r32[c as usize][first]);
                if *wait {
                    w.state = State::Waiting(id);
                }
                w.pc += 1;
                return Ok(Flow::Stop(Stop::Barrier { id, count, wait: *wait }));
            }
            // Only a barrier of the whole warp orders the whole warp.
            Op::WarpSync(members) if w.live & !w.regs.r32[*members as usize][first] == 0 => {
                self.shared.barrier(1 << w.index);
            }
            Op::Shfl { mode, d, p, a, b, c, .. } => {
                self.shuffle(w, *mode, [*d, *p, *a, *b, *c], m)?;
            }
            Op::Vote { mode, d, src, neg, members } => {
                let members = w.regs.r32[*members as usize][first] & m;
                let v = (w.regs.p[*src as usize] ^ if *neg { u32::MAX } else { 0 }) & members;
                let pred = match mode {
                    VoteMode::All => v == members,
                    VoteMode::Any => v != 0,
                    VoteMode::Uni => v == members || v == 0,
                    VoteMode::Ballot => {
                        lanes(m).for_each(|l| w.regs.r32[*d as usize][l] = v);
                        return Ok(Flow::Next);
                    }
                };
                w.regs.set_pred(*d, if pred { u32::MAX } else { 0 }, m);
            }
            Op::Match { all, wide, d, p, a, members } => {
                let members = w.regs.r32[*members as usize][first] & m;
                let value = |w: &Warp, l: usize| {
                    if *wide { w.regs.r64[*a as usize][l] } else { u64::from(w.regs.r32[*a as usize][l]) }
                };
                let same: [u32; 32] =
                    std::array::from_fn(|l| lanes(members).filter(|e| value(w, *e) == value(w, l)).fold(0, |v, e| v | 1 << e));
                let mut pred = 0;
                for l in lanes(m) {
                    let whole = same[l] == members;
                    pred |= u32::from(whole) << l;
                    w.regs.r32[*d as usize][l] = if *all && !whole { 0 } else { same[l] };
                }
                w.regs.set_pred(*p, pred, m);
            }
            Op::ActiveMask(d) => lanes(m).for_each(|l| w.regs.r32[*d as usize][l] = m),
            Op::Elect { d, p, members } => {
                let leader = (w.regs.r32[*members as usize][first] & m).trailing_zeros();
                lanes(m).for_each(|l| w.regs.r32[*d as usize][l] = leader);
                w.regs.set_pred(*p, 1u32.checked_shl(leader).unwrap_or(0), m);
            }
            Op::Redux { op, d, a, members } => {
                let x = w.regs.r32[*a as usize];
                let members = w.regs.r32[*members as usize][first] & m;
                let v = lanes(members).map(|l| x[l]).reduce(|s, v| int::i32_op(*op, s, v, 0)).unwrap_or(0);
                lanes(m).for_each(|l| w.regs.r32[*d as usize][l] = v);
            }
            Op::ReduxF { op, abs, d, a, members } => {
                let x = w.regs.r32[*a as usize].map(|v| if *abs { v & 0x7fff_ffff } else { v });
                let members = w.regs.r32[*members as usize][first] & m;
                let v = lanes(members).map(|l| x[l]).reduce(|s, v| fl::f32_op(*op, Mode::PLAIN, s, v, 0));
                lanes(m).for_each(|l| w.regs.r32[*d as usize][l] = v.unwrap_or(0));
            }
            Op::LdMatrix { addr, trans, regs } => {
                whole(w)?;
                self.matrix_move(w, addr, *trans, regs, false)?;
            }
            Op::StMatrix { addr, trans, regs } => {
                whole(w)?;
                self.matrix_move(w, addr, *trans, regs, true)?;
            }
            Op::Mma(op) => {
                whole(w)?;
                self.stats.mma_flops += 2 * (op.m * op.n * op.k) as u64;
                mma::mma(&mut w.regs, op);
            }
            // `step` ran everything else.
            _ => {}
        }
        Ok(Flow::Next)
    }

    /// shfl.sync as in the PTX ISA's pseudo-code; `c` packs the clamp and the segment mask.
    fn shuffle(&self, w: &mut Warp, mode: ShflMode, [d, p, a, b, c]: [R; 5], m: u32) -> Result<(), LaneFault> {
        let x = w.regs.r32[a as usize];
        let mut out = x;
        let mut pred = 0;
        for l in lanes(m) {
            let lane = l as i32;
            let bval = (w.regs.r32[b as usize][l] & 31) as i32;
            let cval = w.regs.r32[c as usize][l];
            let (clamp, seg) = ((cval & 31) as i32, ((cval >> 8) & 31) as i32);
            let max = (lane & seg) | (clamp & !seg);
            let min = lane & seg;
            let (j, ok) = match mode {
                ShflMode::Up => (lane - bval, lane - bval >= max),
                ShflMode::Down => (lane + bval, lane + bval <= max),
                ShflMode::Bfly => (lane ^ bval, (lane ^ bval) <= max),
                ShflMode::Idx => {
                    let j = min | (bval & !seg);
                    (j, j <= max)
                }
            };
            let j = if ok { (j & 31) as usize } else { l };
            pred |= u32::from(ok) << l;
            if m >> j & 1 == 0 {
                return Err(LaneFault { lane: Some(l), what: What::InactiveLane { lane: j as u32 } });
            }
            out[l] = x[j];
        }
        super::alu::put32(&mut w.regs.r32[d as usize], &out, m);
        w.regs.set_pred(p, pred, m);
        Ok(())
    }
}

enum Flow {
    Next,
    /// The program counter is already where it should be.
    Moved,
    Stop(Stop),
}
