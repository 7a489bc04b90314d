//! Statements to decoded instructions: what each mnemonic means.
//!
//! A mnemonic is a base and modifiers. Every modifier must be taken by the arm that decodes the base;
//! one left over makes the instruction unsupported, so nothing is silently ignored. Memory, warp and
//! matrix instructions are in `decode_wide`.

use super::isa::*;
use super::parse::{Arg, At, Func, Res, Stmt};
use super::regs::{self, Allocation, Class as RegClass};
use std::collections::HashMap;
use tahoma_machine::gpu;

/// Generic addresses of the windows of the other spaces.
pub(super) const SHARED_WINDOW: u64 = 1 << 40;
pub(super) const LOCAL_WINDOW: u64 = 2 << 40;
pub(super) const PARAM_WINDOW: u64 = 3 << 40;
/// Size of each window.
pub(super) const WINDOW: u64 = 1 << 40;

/// Where a symbol lives.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Param(u64),
    Local(u64),
    Shared(u64),
    Global(usize),
}

/// What an instruction keeps busy, and the registers that it writes and reads ([`Decoder::places`]).
#[derive(Debug, Default, Clone)]
pub(super) struct Use {
    /// `None`: our own bookkeeping.
    pub unit: Option<gpu::Unit>,
    pub written: Box<[u32]>,
    pub read: Box<[u32]>,
}

/// A decoded kernel body.
#[derive(Debug, Default)]
pub(super) struct Code {
    pub insts: Vec<Inst>,
    /// Source line of each instruction.
    pub lines: Vec<u32>,
    /// What each instruction keeps busy and waits for.
    pub uses: Vec<Use>,
    pub n32: usize,
    pub n64: usize,
    pub np: usize,
    pub const32: Vec<(R, Const)>,
    pub const64: Vec<(R, Const)>,
    pub special: Vec<(R, Special)>,
    /// Predicates that hold the lanes that wrote a register: none, at the start.
    pub written: Vec<R>,
    /// Smallest store to shared and to global memory, at most 4 bytes.
    pub shared_granule: usize,
    pub global_granule: usize,
}

pub(super) struct Decoder<'a> {
    alloc: Allocation,
    symbols: &'a HashMap<String, Place>,
    labels: HashMap<&'a str, usize>,
    tables: HashMap<&'a str, &'a [String]>,
    const32: HashMap<Const, R>,
    const64: HashMap<Const, R>,
    special: HashMap<Special, R>,
    pub code: Code,
    pub line: u32,
}

/// The dot-separated parts of a mnemonic after its base.
pub(super) struct Mods<'a> {
    items: Vec<&'a str>,
    /// Type names, in order.
    pub types: Vec<&'a str>,
}

fn is_type(s: &str) -> bool {
    matches!(
        s,
        "pred"
            | "b8"
            | "b16"
            | "b32"
            | "b64"
            | "b128"
            | "u8"
            | "u16"
            | "u32"
            | "u64"
            | "s8"
            | "s16"
            | "s32"
            | "s64"
            | "f16"
            | "f16x2"
            | "bf16"
            | "bf16x2"
            | "tf32"
            | "f32"
            | "f32x2"
            | "f64"
            | "e4m3x2"
            | "e5m2x2"
            | "u16x2"
            | "s16x2"
    )
}

impl<'a> Mods<'a> {
    fn new(mnemonic: &'a str) -> Self {
        let (types, items) = mnemonic.split('.').skip(1).partition(|s| is_type(s));
        Self { items, types }
    }
    pub(super) fn take(&mut self, s: &str) -> bool {
        match self.items.iter().position(|i| *i == s) {
            Some(i) => {
                self.items.remove(i);
                true
            }
            None => false,
        }
    }
    /// The first of `list` that is there.
    pub(super) fn pick(&mut self, list: &[&'static str]) -> Option<&'static str> {
        list.iter().copied().find(|s| self.take(s))
    }
    /// The first modifier that `f` accepts.
    pub(super) fn take_if(&mut self, f: impl Fn(&str) -> bool) -> Option<&'a str> {
        let i = self.items.iter().position(|i| f(i))?;
        Some(self.items.remove(i))
    }
    pub(super) fn ty(&self, i: usize) -> &'a str {
        self.types.get(i).copied().unwrap_or("")
    }
    fn rnd(&mut self) -> Option<Rnd> {
        let r = self.pick(&["rn", "rz", "rm", "rp", "rna"])?;
        Some(match r {
            "rn" => Rnd::Even,
            "rz" => Rnd::Zero,
            "rm" => Rnd::Down,
            "rp" => Rnd::Up,
            _ => Rnd::Away,
        })
    }
    fn mode(&mut self) -> Mode {
        Mode { rnd: self.rnd().unwrap_or(Rnd::Even), ftz: self.take("ftz"), sat: self.take("sat") }
    }
}

pub(super) fn value_type(s: &str) -> Option<Ty> {
    Some(match s {
        "b8" | "u8" => Ty::U8,
        "s8" => Ty::S8,
        "b16" | "u16" => Ty::U16,
        "s16" => Ty::S16,
        "b32" | "u32" => Ty::U32,
        "s32" => Ty::S32,
        "b64" | "u64" => Ty::U64,
        "s64" => Ty::S64,
        "f16" | "f16x2" => Ty::F16,
        "bf16" | "bf16x2" => Ty::Bf16,
        "tf32" => Ty::Tf32,
        "f32" => Ty::F32,
        "f64" => Ty::F64,
        "e4m3x2" => Ty::E4m3,
        "e5m2x2" => Ty::E5m2,
        _ => return None,
    })
}

fn special_register(name: &str) -> Option<Special> {
    let axis = |s: &str| match s {
        "x" => Some(0),
        "y" => Some(1),
        "z" => Some(2),
        _ => None,
    };
    let (base, dim) = name.trim_start_matches('%').split_once('.').unwrap_or((name.trim_start_matches('%'), ""));
    Some(match base {
        "tid" => Special::Tid(axis(dim)?),
        "ntid" => Special::Ntid(axis(dim)?),
        "ctaid" => Special::Ctaid(axis(dim)?),
        "nctaid" => Special::Nctaid(axis(dim)?),
        "laneid" => Special::LaneId,
        "warpid" => Special::WarpId,
        "nwarpid" => Special::NWarpId,
        "lanemask_eq" => Special::LaneMaskEq,
        "lanemask_le" => Special::LaneMaskLe,
        "lanemask_lt" => Special::LaneMaskLt,
        "lanemask_ge" => Special::LaneMaskGe,
        "lanemask_gt" => Special::LaneMaskGt,
        "dynamic_smem_size" => Special::DynamicShared,
        "total_smem_size" => Special::TotalShared,
        "smid" | "cluster_ctarank" | "clusterid_gridless" => Special::Zero,
        "nsmid" | "cluster_nctarank" => Special::One,
        "clusterid" => Special::Ctaid(axis(dim)?),
        "nclusterid" => Special::Nctaid(axis(dim)?),
        "cluster_ctaid" => Special::Zero,
        "cluster_nctaid" => Special::One,
        _ => return None,
    })
}

/// "unsupported instruction" with what is known of the mnemonic.
fn unsupported(s: &Stmt, why: &str) -> At {
    let base = s.mnemonic.split('.').next().unwrap_or("");
    let mut m = format!("unsupported instruction '{}'", s.mnemonic);
    if !why.is_empty() {
        m += &format!(": {why}");
    } else if let Some(row) = tahoma_machine::ptx::find(base) {
        m += &format!(": of '{base}' the emulator executes {} {}", row.name, row.types);
    } else {
        m += ": not in the instruction table (tahoma_machine::ptx::INSTRUCTIONS)";
    }
    At(s.line, m)
}

pub(super) fn decode(f: &Func, symbols: &HashMap<String, Place>) -> Res<Code> {
    let alloc = regs::allocate(f)?;
    let mut d = Decoder {
        code: Code {
            n32: alloc.n32 as usize,
            n64: alloc.n64 as usize,
            np: alloc.np as usize,
            written: alloc.regs.values().filter_map(|r| r.written).collect(),
            shared_granule: 4,
            global_granule: 4,
            ..Code::default()
        },
        alloc,
        symbols,
        labels: f.labels.iter().map(|(l, i)| (l.as_str(), *i)).collect(),
        tables: f.tables.iter().map(|(l, t)| (l.as_str(), t.as_slice())).collect(),
        const32: HashMap::new(),
        const64: HashMap::new(),
        special: HashMap::new(),
        line: f.line,
    };
    // First instruction of each statement, for branch targets.
    let mut at = Vec::with_capacity(f.stmts.len() + 1);
    for s in &f.stmts {
        at.push(d.code.insts.len() as u32);
        d.line = s.line;
        let guard = match &s.guard {
            None => (0, 0),
            Some((neg, p)) => (d.pred_name(p)?, if *neg { u32::MAX } else { 0 }),
        };
        let mut mods = Mods::new(&s.mnemonic);
        let base = s.mnemonic.split('.').next().unwrap_or("");
        if tahoma_machine::ptx::find(base).is_none() {
            return Err(unsupported(s, ""));
        }
        let (defs, uses) = regs::operands(s);
        if let Some((_, p)) = &s.guard {
            d.check_written(&[p]);
        }
        let first = d.code.insts.len();
        d.check_written(&uses);
        let checks = d.code.insts.len();
        d.statement(base, &mut mods, &s.args).map_err(|e| match e.1.strip_prefix('\u{1}') {
            Some(why) => unsupported(s, why),
            None => At(s.line, format!("{} in '{}'", e.1, s.mnemonic)),
        })?;
        if !mods.items.is_empty() {
            let rest = mods.items.join("', '.");
            return Err(unsupported(s, &format!("modifier '.{rest}'")));
        }
        d.code.uses.resize(d.code.insts.len(), Use::default());
        if d.code.insts.len() > checks {
            let guard = s.guard.iter().map(|(_, p)| p.as_str());
            let (written, read) = (d.places(defs.iter().copied()), d.places(uses.iter().copied().chain(guard)));
            d.code.uses[d.code.insts.len() - 1] = Use { unit: Some(gpu::of(&s.mnemonic)), written, read };
        }
        for r in defs {
            if let Some(w) = d.alloc.regs.get(r).and_then(|r| r.written) {
                d.push(Op::MarkWritten(w), Class::Alu);
            }
        }
        for i in &mut d.code.insts[first..] {
            (i.guard, i.guard_flip) = guard;
        }
        d.code.lines.resize(d.code.insts.len(), s.line);
    }
    // Falling off the end is an exit.
    at.push(d.code.insts.len() as u32);
    d.push(Op::Exit, Class::Control);
    d.code.uses.resize(d.code.insts.len(), Use::default());
    d.code.lines.push(f.stmts.last().map_or(f.line, |s| s.line));
    for i in &mut d.code.insts {
        match &mut i.op {
            Op::Bra(t) => *t = at[*t as usize],
            Op::BrxIdx(_, ts) => ts.iter_mut().for_each(|t| *t = at[*t as usize]),
            _ => {}
        }
    }
    Ok(d.code)
}

/// An error that the caller completes to "unsupported instruction … : why".
pub(super) fn no<T>(why: &str) -> Res<T> {
    Err(At(0, format!("\u{1}{why}")))
}

impl Decoder<'_> {
    /// Registers in one numbering: predicates, 32 bits, 64 bits.
    fn places<'b>(&self, names: impl Iterator<Item = &'b str>) -> Box<[u32]> {
        let (np, n32) = (self.alloc.np, self.alloc.n32);
        let place = |r: &regs::Reg| match r.class {
            regs::Class::Pred => r.at,
            regs::Class::R32 => np + r.at,
            regs::Class::R64 => np + n32 + r.at,
        };
        names.filter_map(|n| self.alloc.regs.get(n).map(place)).collect()
    }

    pub(super) fn push(&mut self, op: Op, class: Class) {
        self.code.insts.push(Inst { guard: 0, guard_flip: 0, class, op });
    }

    /// Makes a read of those of the registers that may hold nothing yet a fault.
    fn check_written(&mut self, names: &[&str]) {
        for n in names {
            if let Some(w) = self.alloc.regs.get(*n).and_then(|r| r.written) {
                self.push(Op::CheckWritten(w, (*n).into()), Class::Alu);
            }
        }
    }

    fn alu(&mut self, op: Op) -> Res<()> {
        self.push(op, Class::Alu);
        Ok(())
    }

    pub(super) fn fail<T>(&self, m: impl Into<String>) -> Res<T> {
        Err(At(self.line, m.into()))
    }

    pub(super) fn const32(&mut self, c: Const) -> R {
        if let Some(r) = self.const32.get(&c) {
            return *r;
        }
        let r = self.code.n32 as R;
        self.code.n32 += 1;
        self.const32.insert(c, r);
        self.code.const32.push((r, c));
        r
    }

    pub(super) fn const64(&mut self, c: Const) -> R {
        if let Some(r) = self.const64.get(&c) {
            return *r;
        }
        let r = self.code.n64 as R;
        self.code.n64 += 1;
        self.const64.insert(c, r);
        self.code.const64.push((r, c));
        r
    }

    fn special(&mut self, name: &str) -> Res<R> {
        let Some(s) = special_register(name) else {
            return self.fail(format!("unsupported or undeclared register '{name}'"));
        };
        if let Some(r) = self.special.get(&s) {
            return Ok(*r);
        }
        let r = self.code.n32 as R;
        self.code.n32 += 1;
        self.special.insert(s, r);
        self.code.special.push((r, s));
        Ok(r)
    }

    fn pred_name(&self, name: &str) -> Res<R> {
        match self.alloc.regs.get(name) {
            Some(r) if r.class == RegClass::Pred => Ok(r.at),
            _ => self.fail(format!("'{name}' is not a predicate register")),
        }
    }

    /// The file of a register operand: is it 64 bits wide?
    pub(super) fn is_wide(&self, a: &Arg) -> bool {
        match a {
            Arg::Reg(n) => self.alloc.regs.get(n).is_some_and(|r| r.class == RegClass::R64),
            Arg::Sym(..) => true,
            _ => false,
        }
    }

    pub(super) fn reg_bits(&self, a: &Arg) -> u32 {
        match a {
            Arg::Reg(n) => self.alloc.regs.get(n).map_or(32, |r| r.bits),
            _ => 32,
        }
    }

    /// A 16- or 32-bit source.
    pub(super) fn s32(&mut self, a: &Arg) -> Res<R> {
        match a {
            Arg::Reg(n) => match self.alloc.regs.get(n) {
                Some(r) if r.class == RegClass::R32 => Ok(r.at),
                Some(_) => self.fail(format!("'{n}' has the wrong width")),
                None => self.special(n),
            },
            Arg::Int(v) => Ok(self.const32(Const::Value(u64::from(*v as u32)))),
            Arg::F32(v) => Ok(self.const32(Const::Value(u64::from(*v)))),
            Arg::F64(v) => Ok(self.const32(Const::Value(u64::from((f64::from_bits(*v) as f32).to_bits())))),
            Arg::Sym(n, off) => match self.symbols.get(n) {
                Some(Place::Shared(at) | Place::Local(at) | Place::Param(at)) => {
                    let v = at.wrapping_add(*off as u64) as u32;
                    Ok(self.const32(Const::Value(u64::from(v))))
                }
                _ => self.fail(format!("'{n}' has no 32-bit address")),
            },
            _ => self.fail("operand is not a register or a number"),
        }
    }

    /// A 16-bit source: constants are cut.
    fn s16(&mut self, a: &Arg) -> Res<R> {
        match a {
            Arg::Int(v) => Ok(self.const32(Const::Value(v & 0xffff))),
            _ => self.s32(a),
        }
    }

    /// A 64-bit source.
    pub(super) fn s64(&mut self, a: &Arg) -> Res<R> {
        match a {
            Arg::Reg(n) => match self.alloc.regs.get(n) {
                Some(r) if r.class == RegClass::R64 => Ok(r.at),
                _ => self.fail(format!("'{n}' is not a 64-bit register")),
            },
            Arg::Int(v) | Arg::F64(v) => Ok(self.const64(Const::Value(*v))),
            Arg::F32(v) => Ok(self.const64(Const::Value(f64::from(f32::from_bits(*v)).to_bits()))),
            Arg::Sym(n, off) => {
                let c = match self.symbols.get(n) {
                    Some(Place::Shared(at) | Place::Local(at) | Place::Param(at)) => Const::Value(at.wrapping_add(*off as u64)),
                    Some(Place::Global(i)) => Const::Global(*i, *off),
                    None => return self.fail(format!("unknown symbol '{n}'")),
                };
                Ok(self.const64(c))
            }
            _ => self.fail("operand is not a 64-bit register or a number"),
        }
    }

    pub(super) fn d32(&mut self, a: &Arg) -> Res<R> {
        match a {
            Arg::Reg(n) => match self.alloc.regs.get(n) {
                Some(r) if r.class == RegClass::R32 => Ok(r.at),
                _ => self.fail(format!("destination '{n}' is not a 16- or 32-bit register")),
            },
            Arg::Sink => Ok(0),
            _ => self.fail("destination is not a register"),
        }
    }

    pub(super) fn d64(&mut self, a: &Arg) -> Res<R> {
        match a {
            Arg::Reg(n) => match self.alloc.regs.get(n) {
                Some(r) if r.class == RegClass::R64 => Ok(r.at),
                _ => self.fail(format!("destination '{n}' is not a 64-bit register")),
            },
            Arg::Sink => Ok(0),
            _ => self.fail("destination is not a register"),
        }
    }

    /// Predicate destination; the sink is predicate 0, which ignores writes.
    pub(super) fn dp(&mut self, a: &Arg) -> Res<R> {
        match a {
            Arg::Reg(n) => self.pred_name(n),
            Arg::Sink => Ok(0),
            _ => self.fail("destination is not a predicate register"),
        }
    }

    /// Predicate source and whether it is negated; constants are predicate 0.
    pub(super) fn sp(&mut self, a: &Arg) -> Res<(R, bool)> {
        match a {
            Arg::Reg(n) => Ok((self.pred_name(n)?, false)),
            Arg::Not(a) => self.sp(a).map(|(p, n)| (p, !n)),
            Arg::Int(v) => Ok((0, *v == 0)),
            _ => self.fail("operand is not a predicate register"),
        }
    }

    pub(super) fn args<const N: usize>(&self, args: &[Arg]) -> Res<[Arg; N]> {
        match <&[Arg; N]>::try_from(args) {
            Ok(a) => Ok(a.clone()),
            Err(_) => self.fail(format!("{} operands where {N} are due", args.len())),
        }
    }

    pub(super) fn label(&self, a: &Arg) -> Res<u32> {
        if let Arg::Sym(n, 0) = a
            && let Some(i) = self.labels.get(n.as_str())
        {
            return Ok(*i as u32);
        }
        self.fail("unknown branch target")
    }

    pub(super) fn table(&self, a: &Arg) -> Res<Box<[u32]>> {
        let Arg::Sym(n, 0) = a else {
            return self.fail("brx.idx needs a .branchtargets label");
        };
        let Some(t) = self.tables.get(n.as_str()) else {
            return self.fail(format!("unknown branch table '{n}'"));
        };
        t.iter()
            .map(|l| match self.labels.get(l.as_str()) {
                Some(i) => Ok(*i as u32),
                None => self.fail(format!("unknown branch target '{l}'")),
            })
            .collect()
    }

    fn statement(&mut self, base: &str, m: &mut Mods<'_>, args: &[Arg]) -> Res<()> {
        if self.wide_statement(base, m, args)? {
            return Ok(());
        }
        let ty = m.ty(0);
        match base {
            "mov" => self.mov(ty, args),
            "add" | "sub" | "mul" | "mad" | "fma" | "div" | "min" | "max" | "rem" | "abs" | "neg" => self.arithmetic(base, m, args),
            "sqrt" | "rsqrt" | "rcp" | "ex2" | "lg2" | "sin" | "cos" | "tanh" => {
                let op = match base {
                    "sqrt" => F::Sqrt,
                    "rsqrt" => F::Rsqrt,
                    "rcp" => F::Rcp,
                    "ex2" => F::Ex2,
                    "lg2" => F::Lg2,
                    "sin" => F::Sin,
                    "cos" => F::Cos,
                    _ => F::Tanh,
                };
                m.take("approx");
                self.float(op, m, args)
            }
            "copysign" => self.float(F::Copysign, m, args),
            "and" | "or" | "xor" | "not" | "cnot" => self.logic(base, ty, args),
            "shl" | "shr" => {
                let [d, a, b] = self.args::<3>(args)?;
                let op = match (base, ty.starts_with('s')) {
                    ("shl", _) => I::Shl,
                    (_, true) => I::ShrS,
                    _ => I::ShrU,
                };
                let by = self.s32(&b)?;
                match value_type(ty).map(Ty::bits) {
                    Some(64) => {
                        let r = [self.d64(&d)?, self.s64(&a)?, by];
                        self.alu(Op::Shift64(op, r))
                    }
                    Some(32) => {
                        let r = [self.d32(&d)?, self.s32(&a)?, by, 0];
                        self.alu(Op::I32(op, r))
                    }
                    Some(16) => {
                        let r = [self.d32(&d)?, self.s16(&a)?, by, 0];
                        self.alu(Op::I16(op, op == I::ShrS, r))
                    }
                    _ => no("its type"),
                }
            }
            "popc" | "clz" | "brev" | "bfind" => {
                let [d, a] = self.args::<2>(args)?;
                let signed = ty.starts_with('s');
                let op = match (base, m.take("shiftamt"), signed) {
                    ("popc", ..) => I::Popc,
                    ("clz", ..) => I::Clz,
                    ("brev", ..) => I::Brev,
                    (_, false, false) => I::BfindU,
                    (_, false, true) => I::BfindS,
                    (_, true, false) => I::BfindShiftU,
                    (_, true, true) => I::BfindShiftS,
                };
                match (value_type(ty).map(Ty::bits), op) {
                    (Some(64), I::Brev) => {
                        let r = [self.d64(&d)?, self.s64(&a)?, 0, 0];
                        self.alu(Op::I64(op, r))
                    }
                    (Some(64), _) => {
                        let (d, a) = (self.d32(&d)?, self.s64(&a)?);
                        self.alu(Op::Count64(op, d, a))
                    }
                    (Some(32), _) => {
                        let r = [self.d32(&d)?, self.s32(&a)?, 0, 0];
                        self.alu(Op::I32(op, r))
                    }
                    _ => no("its type"),
                }
            }
            "bfe" => {
                let [d, a, b, c] = self.args::<4>(args)?;
                let signed = ty.starts_with('s');
                let (b, c) = (self.s32(&b)?, self.s32(&c)?);
                if value_type(ty).map(Ty::bits) == Some(64) {
                    let r = [self.d64(&d)?, self.s64(&a)?, b, c];
                    self.alu(Op::Bfe64(signed, r))
                } else {
                    let op = if signed { I::BfeS } else { I::BfeU };
                    let r = [self.d32(&d)?, self.s32(&a)?, b, c];
                    self.alu(Op::I32(op, r))
                }
            }
            "bfi" => {
                let [d, a, b, c, e] = self.args::<5>(args)?;
                let (c, e) = (self.s32(&c)?, self.s32(&e)?);
                if ty == "b64" {
                    let r = [self.d64(&d)?, self.s64(&a)?, self.s64(&b)?, c, e];
                    self.alu(Op::Bfi64(r))
                } else {
                    let r = [self.d32(&d)?, self.s32(&a)?, self.s32(&b)?, c, e];
                    self.alu(Op::Bfi32(r))
                }
            }
            "prmt" => self.i32x3(I::Prmt, args),
            "shf" => {
                let left = match m.pick(&["l", "r"]) {
                    Some("l") => true,
                    Some(_) => false,
                    None => return no("its direction"),
                };
                let op = match (left, m.pick(&["wrap", "clamp"])) {
                    (true, Some("wrap")) => I::ShfLWrap,
                    (true, _) => I::ShfLClamp,
                    (false, Some("wrap")) => I::ShfRWrap,
                    (false, _) => I::ShfRClamp,
                };
                self.i32x3(op, args)
            }
            "lop3" => {
                let [d, a, b, c, lut] = self.args::<5>(args)?;
                let Arg::Int(lut) = lut else {
                    return self.fail("lop3 needs a constant table");
                };
                let r = [self.d32(&d)?, self.s32(&a)?, self.s32(&b)?, self.s32(&c)?];
                self.alu(Op::Lop3(lut as u8, r))
            }
            "szext" | "bmsk" => {
                let wrap = m.pick(&["wrap", "clamp"]) == Some("wrap");
                let op = match (base, wrap, ty == "s32") {
                    ("bmsk", true, _) => I::Bmsk,
                    ("bmsk", false, _) => I::BmskClamp,
                    (_, true, true) => I::SzextS,
                    (_, true, false) => I::SzextU,
                    (_, false, true) => I::SzextClampS,
                    (_, false, false) => I::SzextClampU,
                };
                let [d, a, b] = self.args::<3>(args)?;
                let r = [self.d32(&d)?, self.s32(&a)?, self.s32(&b)?, 0];
                self.alu(Op::I32(op, r))
            }
            "sad" => self.int3(if ty.starts_with('s') { I::SadS } else { I::SadU }, ty, args),
            "dp4a" => {
                let op = match (m.ty(0), m.ty(1)) {
                    ("s32", "s32") => I::Dp4aSS,
                    ("s32", "u32") => I::Dp4aSU,
                    ("u32", "s32") => I::Dp4aUS,
                    _ => I::Dp4aUU,
                };
                self.i32x3(op, args)
            }
            "testp" => {
                let [p, a] = self.args::<2>(args)?;
                let kinds = ["finite", "infinite", "number", "notanumber", "normal", "subnormal"];
                let kind = match m.pick(&kinds) {
                    Some("finite") => TestKind::Finite,
                    Some("infinite") => TestKind::Infinite,
                    Some("number") => TestKind::Number,
                    Some("notanumber") => TestKind::NotANumber,
                    Some("normal") => TestKind::Normal,
                    Some(_) => TestKind::Subnormal,
                    None => return no("its test"),
                };
                let wide = ty == "f64";
                let a = if wide { self.s64(&a)? } else { self.s32(&a)? };
                let p = self.dp(&p)?;
                self.alu(Op::Testp(wide, kind, p, a))
            }
            "setp" => self.setp(m, args),
            "selp" => {
                let [d, a, b, p] = self.args::<4>(args)?;
                let (p, neg) = self.sp(&p)?;
                if value_type(ty).map(Ty::bits) == Some(64) {
                    let r = [self.d64(&d)?, self.s64(&a)?, self.s64(&b)?, p];
                    self.alu(Op::Selp64(r, neg))
                } else {
                    let half = matches!(ty, "b16" | "u16" | "s16");
                    let (a, b) = if half { (self.s16(&a)?, self.s16(&b)?) } else { (self.s32(&a)?, self.s32(&b)?) };
                    let r = [self.d32(&d)?, a, b, p];
                    self.alu(Op::Selp32(r, neg))
                }
            }
            "slct" => {
                let [d, a, b, c] = self.args::<4>(args)?;
                m.take("ftz");
                let float = m.ty(1) == "f32";
                let c = self.s32(&c)?;
                let wide = value_type(ty).map(Ty::bits) == Some(64);
                let r =
                    if wide { [self.d64(&d)?, self.s64(&a)?, self.s64(&b)?, c] } else { [self.d32(&d)?, self.s32(&a)?, self.s32(&b)?, c] };
                self.alu(Op::Slct(wide, float, r))
            }
            "cvt" => self.cvt(m, args),
            "cvta" => {
                let [d, a] = self.args::<2>(args)?;
                let to = m.take("to");
                let space = m.pick(&["global", "shared", "shared::cta", "local", "const", "param"]);
                if ty != "u64" {
                    return no("32-bit generic addresses");
                }
                let (d, a) = (self.d64(&d)?, self.s64(&a)?);
                let window = match space {
                    Some("shared" | "shared::cta") => SHARED_WINDOW,
                    Some("local") => LOCAL_WINDOW,
                    Some("param") => PARAM_WINDOW,
                    Some(_) => return self.alu(Op::Mov64(d, a)),
                    None => return no("its state space"),
                };
                let w = self.const64(Const::Value(window));
                self.alu(Op::I64(if to { I::Sub } else { I::Add }, [d, a, w, 0]))
            }
            "isspacep" => {
                let [p, a] = self.args::<2>(args)?;
                let space = match m.pick(&["global", "shared", "shared::cta", "local", "const", "param"]) {
                    Some("shared" | "shared::cta") => Space::Shared,
                    Some("local") => Space::Local,
                    Some("param") => Space::Param,
                    Some("global") => Space::Global,
                    _ => return no("its state space"),
                };
                let (p, a) = (self.dp(&p)?, self.s64(&a)?);
                self.alu(Op::Isspace(space, p, a))
            }
            _ => no("no decoder for it"),
        }
    }

    fn i32x3(&mut self, op: I, args: &[Arg]) -> Res<()> {
        let [d, a, b, c] = self.args::<4>(args)?;
        let r = [self.d32(&d)?, self.s32(&a)?, self.s32(&b)?, self.s32(&c)?];
        self.alu(Op::I32(op, r))
    }

    /// One to three integer operands of type `ty`.
    fn int3(&mut self, op: I, ty: &str, args: &[Arg]) -> Res<()> {
        let Some((d, s)) = args.split_first().filter(|(_, s)| s.len() == op.sources()) else {
            return self.fail("wrong number of operands");
        };
        let mut r = [0; 4];
        if matches!(ty, "u16x2" | "s16x2") {
            r[0] = self.d32(d)?;
            for (i, a) in s.iter().enumerate() {
                r[i + 1] = self.s32(a)?;
            }
            return self.alu(Op::I16x2(op, ty == "s16x2", r));
        }
        match value_type(ty).map(Ty::bits) {
            Some(64) => {
                r[0] = self.d64(d)?;
                for (i, a) in s.iter().enumerate() {
                    r[i + 1] = self.s64(a)?;
                }
                self.alu(Op::I64(op, r))
            }
            Some(32) => {
                r[0] = self.d32(d)?;
                for (i, a) in s.iter().enumerate() {
                    r[i + 1] = self.s32(a)?;
                }
                self.alu(Op::I32(op, r))
            }
            Some(16) => {
                r[0] = self.d32(d)?;
                for (i, a) in s.iter().enumerate() {
                    r[i + 1] = self.s16(a)?;
                }
                self.alu(Op::I16(op, ty.starts_with('s'), r))
            }
            _ => no("its type"),
        }
    }

    /// A floating-point operation of the type and mode that `m` names.
    fn float(&mut self, op: F, m: &mut Mods<'_>, args: &[Arg]) -> Res<()> {
        let mode = m.mode();
        let ty = m.ty(0);
        let Some((d, s)) = args.split_first().filter(|(_, s)| s.len() == op.sources()) else {
            return self.fail("wrong number of operands");
        };
        let mut r = [0; 4];
        // f32 from 16-bit operands, all but the last: sm_100 and up.
        if let (&["f32", half @ ("f16" | "bf16")], F::Add | F::Sub | F::Fma) = (&m.types[..], op) {
            r[0] = self.d32(d)?;
            for (i, a) in s.iter().enumerate() {
                r[i + 1] = if i + 1 < s.len() { self.widened(half, a)? } else { self.s32(a)? };
            }
            return self.alu(Op::F32(op, mode, r));
        }
        if m.types.len() > 1 {
            return no("mixed operand types");
        }
        let wide = matches!(ty, "f64" | "f32x2");
        r[0] = if wide { self.d64(d)? } else { self.d32(d)? };
        for (i, a) in s.iter().enumerate() {
            r[i + 1] = if wide { self.s64(a)? } else { self.s32(a)? };
        }
        if mode.rnd == Rnd::Away {
            return no("rounding .rna");
        }
        let op = match ty {
            "f32" => Op::F32(op, mode, r),
            "f64" => {
                if mode.sat {
                    return no(".sat of f64");
                }
                Op::F64(op, mode.rnd, r)
            }
            "f16" => Op::F16(op, false, mode, r),
            "bf16" => Op::F16(op, true, mode, r),
            "f16x2" => Op::F16x2(op, false, mode, r),
            "bf16x2" => Op::F16x2(op, true, mode, r),
            "f32x2" => Op::F32x2(op, mode, r),
            _ => return no("its type"),
        };
        self.alu(op)
    }

    /// A 16-bit float as f32, in a register of its own.
    fn widened(&mut self, half: &str, a: &Arg) -> Res<R> {
        let d = self.code.n32 as R;
        self.code.n32 += 1;
        let from = if half == "bf16" { Ty::Bf16 } else { Ty::F16 };
        let a = self.s32(a)?;
        let plain = Cvt {
            to: Ty::F32,
            from,
            mode: Mode::PLAIN,
            integral: false,
            satfinite: false,
            relu: false,
            d,
            a,
            b: 0,
            pack: false,
            dst_bits: 32,
        };
        self.alu(Op::Cvt(Box::new(plain)))?;
        Ok(d)
    }

    fn arithmetic(&mut self, base: &str, m: &mut Mods<'_>, args: &[Arg]) -> Res<()> {
        let ty = m.ty(0);
        if ty.contains('f') {
            let op = match base {
                "add" => F::Add,
                "sub" => F::Sub,
                "mul" => F::Mul,
                "fma" if m.take("relu") => F::FmaRelu,
                "fma" | "mad" => F::Fma,
                "div" if m.take("approx") => F::DivApprox,
                "div" => {
                    m.take("full");
                    F::Div
                }
                "min" | "max" => {
                    let op = match (base, m.take("NaN")) {
                        ("min", false) => F::Min,
                        ("max", false) => F::Max,
                        ("min", true) => F::MinNan,
                        _ => F::MaxNan,
                    };
                    // The three-operand form is two of the two-operand one.
                    if let [d, a, b, c] = args {
                        if ty != "f32" {
                            return no("three operands of this type");
                        }
                        let mode = m.mode();
                        let t = self.code.n32 as R;
                        self.code.n32 += 1;
                        let first = [t, self.s32(a)?, self.s32(b)?, 0];
                        let second = [self.d32(d)?, t, self.s32(c)?, 0];
                        self.alu(Op::F32(op, mode, first))?;
                        return self.alu(Op::F32(op, mode, second));
                    }
                    op
                }
                "abs" => F::Abs,
                "neg" => F::Neg,
                _ => return no("its type"),
            };
            return self.float(op, m, args);
        }
        let signed = ty.starts_with('s');
        let part = if matches!(base, "mul" | "mad") { m.pick(&["lo", "hi", "wide"]) } else { None };
        let sat = m.take("sat");
        if sat && !(ty == "s32" && matches!(base, "add" | "sub")) {
            return no(".sat here");
        }
        let pick = |s, u| if signed { s } else { u };
        let op = match (base, part) {
            ("add", _) if sat => I::AddSatS,
            ("sub", _) if sat => I::SubSatS,
            ("add", _) => I::Add,
            ("sub", _) => I::Sub,
            ("mul" | "mad", Some("wide")) => return self.wide_multiply(base == "mad", signed, ty, args),
            ("mul", Some("hi")) => pick(I::MulHiS, I::MulHiU),
            ("mul", Some(_)) => I::MulLo,
            ("mad", Some("hi")) => pick(I::MadHiS, I::MadHiU),
            ("mad", Some(_)) => I::MadLo,
            ("div", _) => pick(I::DivS, I::DivU),
            ("rem", _) => pick(I::RemS, I::RemU),
            ("min", _) => pick(I::MinS, I::MinU),
            ("max", _) => pick(I::MaxS, I::MaxU),
            ("abs", _) => I::Abs,
            ("neg", _) => I::Neg,
            _ => return no("its form"),
        };
        self.int3(op, ty, args)
    }

    fn wide_multiply(&mut self, add: bool, signed: bool, ty: &str, args: &[Arg]) -> Res<()> {
        let due = if add { 4 } else { 3 };
        if args.len() != due {
            return self.fail(format!("{} operands where {due} are due", args.len()));
        }
        let (a, b) = (self.s32(&args[1])?, self.s32(&args[2])?);
        let op = match (value_type(ty).map(Ty::bits), add) {
            (Some(32), false) => Op::MulWide32(signed, [self.d64(&args[0])?, a, b]),
            (Some(32), true) => Op::MadWide32(signed, [self.d64(&args[0])?, a, b, self.s64(&args[3])?]),
            (Some(16), false) => Op::MulWide16(signed, [self.d32(&args[0])?, a, b]),
            (Some(16), true) => Op::MadWide16(signed, [self.d32(&args[0])?, a, b, self.s32(&args[3])?]),
            _ => return no("its type"),
        };
        self.alu(op)
    }

    fn logic(&mut self, base: &str, ty: &str, args: &[Arg]) -> Res<()> {
        if ty == "pred" {
            let op = match base {
                "and" => Bool::And,
                "or" => Bool::Or,
                "xor" => Bool::Xor,
                "not" => Bool::Not,
                _ => return no("its type"),
            };
            let Some((d, s)) = args.split_first().filter(|(_, s)| s.len() == if op == Bool::Not { 1 } else { 2 }) else {
                return self.fail("wrong number of operands");
            };
            let d = self.dp(d)?;
            let a = self.sp(&s[0])?;
            let b = s.get(1).map_or(Ok((0, false)), |b| self.sp(b))?;
            if a.1 || b.1 {
                return no("negated predicate operands");
            }
            return self.alu(Op::MovPred(op, [d, a.0, b.0]));
        }
        let op = match base {
            "and" => I::And,
            "or" => I::Or,
            "xor" => I::Xor,
            "not" => I::Not,
            _ => I::Cnot,
        };
        self.int3(op, ty, args)
    }

    fn mov(&mut self, ty: &str, args: &[Arg]) -> Res<()> {
        let [d, a] = self.args::<2>(args)?;
        match (&d, &a) {
            (_, Arg::Vec(parts)) => {
                let op = match (ty, parts.len()) {
                    ("b64", 2) => Op::Pack64([self.d64(&d)?, self.s32(&parts[0])?, self.s32(&parts[1])?]),
                    ("b32", 2) => Op::Pack32([self.d32(&d)?, self.s16(&parts[0])?, self.s16(&parts[1])?]),
                    ("b64", 4) => {
                        let mut r = [self.d64(&d)?, 0, 0, 0, 0];
                        for (x, p) in r[1..].iter_mut().zip(parts) {
                            *x = self.s16(p)?;
                        }
                        Op::Pack64x4(r)
                    }
                    _ => return no("this packing"),
                };
                self.alu(op)
            }
            (Arg::Vec(parts), _) => {
                let mut out = Vec::new();
                for p in parts {
                    out.push(if *p == Arg::Sink { R::MAX } else { self.d32(p)? });
                }
                let op = match (ty, out.as_slice()) {
                    ("b64", [lo, hi]) => Op::Unpack64([*lo, *hi, self.s64(&a)?]),
                    ("b32", [lo, hi]) => Op::Unpack32([*lo, *hi, self.s32(&a)?]),
                    ("b64", [w, x, y, z]) => Op::Unpack64x4([*w, *x, *y, *z, self.s64(&a)?]),
                    _ => return no("this unpacking"),
                };
                self.alu(op)
            }
            _ if ty == "pred" => {
                let d = self.dp(&d)?;
                let (p, neg) = self.sp(&a)?;
                let op = if neg { Bool::Not } else { Bool::Mov };
                self.alu(Op::MovPred(op, [d, p, 0]))
            }
            _ => match value_type(ty).map(Ty::bits) {
                Some(64) => {
                    let (d, a) = (self.d64(&d)?, self.s64(&a)?);
                    self.alu(Op::Mov64(d, a))
                }
                Some(32) => {
                    let (d, a) = (self.d32(&d)?, self.s32(&a)?);
                    self.alu(Op::Mov32(d, a))
                }
                Some(16) => {
                    let (d, a) = (self.d32(&d)?, self.s16(&a)?);
                    self.alu(Op::Mov32(d, a))
                }
                _ => no("its type"),
            },
        }
    }

    fn setp(&mut self, m: &mut Mods<'_>, args: &[Arg]) -> Res<()> {
        let packed = matches!(m.ty(0), "f16x2" | "bf16x2");
        let Some(ty) = value_type(m.ty(0)).filter(|_| packed || !m.ty(0).ends_with("x2")) else {
            return no("its type");
        };
        if m.take("ftz") {
            return no(".ftz of a comparison");
        }
        let names = ["eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan", "lo", "ls", "hi", "hs"];
        let Some(name) = m.pick(&names) else {
            return no("its comparison");
        };
        let unordered = ty.is_float() && name.len() == 3 && name.ends_with('u');
        let cmp = match name {
            "eq" | "equ" => Cmp::Eq,
            "ne" | "neu" => Cmp::Ne,
            "lt" | "ltu" | "lo" => Cmp::Lt,
            "le" | "leu" | "ls" => Cmp::Le,
            "gt" | "gtu" | "hi" => Cmp::Gt,
            "ge" | "geu" | "hs" => Cmp::Ge,
            "num" => Cmp::Num,
            _ => Cmp::Nan,
        };
        let join = match m.pick(&["and", "or", "xor"]) {
            Some("and") => Bool::And,
            Some("or") => Bool::Or,
            Some(_) => Bool::Xor,
            None => Bool::Mov,
        };
        let due = if join == Bool::Mov { 3 } else { 4 };
        if args.len() != due {
            return self.fail(format!("{} operands where {due} are due", args.len()));
        }
        let (p, q) = match &args[0] {
            Arg::Pair(p, q) => (self.dp(p)?, self.dp(q)?),
            d => (self.dp(d)?, 0),
        };
        let (a, b) = match ty.bits() {
            64 => (self.s64(&args[1])?, self.s64(&args[2])?),
            16 if packed => (self.s32(&args[1])?, self.s32(&args[2])?),
            16 => (self.s16(&args[1])?, self.s16(&args[2])?),
            _ => (self.s32(&args[1])?, self.s32(&args[2])?),
        };
        let (c, c_not) = match args.get(3) {
            Some(c) => self.sp(c)?,
            None => (0, false),
        };
        self.alu(Op::Setp(Box::new(Setp { ty, cmp, unordered, join, p, q, packed, a, b, c, c_not })))
    }

    fn cvt(&mut self, m: &mut Mods<'_>, args: &[Arg]) -> Res<()> {
        let (t, f) = (m.ty(0), m.ty(1));
        let (Some(to), Some(from)) = (value_type(t), value_type(f)) else {
            return no("its types");
        };
        let int_rnd = m.pick(&["rni", "rzi", "rmi", "rpi"]);
        let mut mode = m.mode();
        if let Some(r) = int_rnd {
            mode.rnd = match r {
                "rni" => Rnd::Even,
                "rzi" => Rnd::Zero,
                "rmi" => Rnd::Down,
                _ => Rnd::Up,
            };
        }
        let (satfinite, relu) = (m.take("satfinite"), m.take("relu"));
        let pack = args.len() == 3;
        let unpack = matches!(f, "e4m3x2" | "e5m2x2");
        if unpack != (f.ends_with("x2") && t.ends_with("x2")) || pack != (t.ends_with("x2") && f == "f32") {
            return no("this packing");
        }
        let d = &args[0];
        let Some(a) = args.get(1) else {
            return self.fail("wrong number of operands");
        };
        let wide_out = self.is_wide(d);
        let c = Cvt {
            to,
            from,
            mode,
            integral: int_rnd.is_some() && from.is_float() && to.is_float(),
            satfinite,
            relu,
            d: if wide_out { self.d64(d)? } else { self.d32(d)? },
            a: if from.bits() == 64 {
                self.s64(a)?
            } else if self.is_wide(a) {
                // A register may be wider than the type (PTX ISA, "Operand Size Exceeding Instruction-Type Size"): its low bits are read.
                let low = self.code.n32 as R;
                self.code.n32 += 1;
                let (mode, a) = (Mode { rnd: Rnd::Even, ftz: false, sat: false }, self.s64(a)?);
                let (to, from) = (Ty::U32, Ty::U64);
                let cut =
                    Cvt { to, from, mode, integral: false, satfinite: false, relu: false, d: low, a, b: 0, pack: false, dst_bits: 32 };
                self.alu(Op::Cvt(Box::new(cut)))?;
                low
            } else {
                self.s32(a)?
            },
            b: match args.get(2) {
                Some(b) => self.s32(b)?,
                None => 0,
            },
            pack,
            dst_bits: self.reg_bits(d),
        };
        self.alu(Op::Cvt(Box::new(c)))
    }
}
