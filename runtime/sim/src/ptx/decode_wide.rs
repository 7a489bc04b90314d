//! Decoding of memory, control, warp-wide and matrix instructions.

use super::decode::{Decoder, Mods, no, value_type};
use super::isa::*;
use super::parse::{Arg, Res};

const SCOPES: [&str; 4] = ["cta", "cluster", "gpu", "sys"];

impl Decoder<'_> {
    /// Decodes `base` if it is one of this file's instructions.
    pub(super) fn wide_statement(&mut self, base: &str, m: &mut Mods<'_>, args: &[Arg]) -> Res<bool> {
        match base {
            "ld" | "ldu" | "st" => self.load_store(base == "st", m, args)?,
            "atom" | "red" => self.atomic(base == "red", m, args)?,
            "bra" => {
                m.take("uni");
                let [t] = self.args::<1>(args)?;
                let t = self.label(&t)?;
                self.push(Op::Bra(t), Class::Control);
            }
            "brx" => {
                m.take("uni");
                if !m.take("idx") {
                    return no("its form");
                }
                let [i, t] = self.args::<2>(args)?;
                let (i, t) = (self.s32(&i)?, self.table(&t)?);
                self.push(Op::BrxIdx(i, t), Class::Control);
            }
            "ret" | "exit" => {
                m.take("uni");
                self.push(Op::Exit, Class::Control);
            }
            "trap" => self.push(Op::Trap, Class::Control),
            "membar" | "fence" | "prefetch" | "prefetchu" | "nanosleep" | "brkpt" | "griddepcontrol" | "pmevent" | "discard"
            | "applypriority" => {
                // One thread runs at a time and every store is visible at once: ordering holds already.
                while m.take_if(|_| true).is_some() {}
                self.push(Op::Nop, Class::Sync);
            }
            "bar" | "barrier" => self.barrier(m, args)?,
            "shfl" => self.shuffle(m, args)?,
            "vote" => self.vote(m, args)?,
            "match" => {
                m.take("sync");
                let all = m.pick(&["all", "any"]) == Some("all");
                let wide = m.ty(0) == "b64";
                let [d, a, members] = self.args::<3>(args)?;
                let (d, p) = match &d {
                    Arg::Pair(d, p) => (self.d32(d)?, self.dp(p)?),
                    d => (self.d32(d)?, 0),
                };
                let a = if wide { self.s64(&a)? } else { self.s32(&a)? };
                let members = self.s32(&members)?;
                self.push(Op::Match { all, wide, d, p, a, members }, Class::Sync);
            }
            "activemask" => {
                let [d] = self.args::<1>(args)?;
                let d = self.d32(&d)?;
                self.push(Op::ActiveMask(d), Class::Alu);
            }
            "elect" => {
                m.take("sync");
                let [d, members] = self.args::<2>(args)?;
                let (d, p) = match &d {
                    Arg::Pair(d, p) => (self.d32(d)?, self.dp(p)?),
                    d => (self.d32(d)?, 0),
                };
                let members = self.s32(&members)?;
                self.push(Op::Elect { d, p, members }, Class::Sync);
            }
            "redux" => self.redux(m, args)?,
            "cp" => self.cp_async(m, args)?,
            "ldmatrix" | "stmatrix" => self.matrix_move(base == "stmatrix", m, args)?,
            "mma" => self.mma(m, args)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn space(&mut self, m: &mut Mods<'_>) -> Space {
        let names = ["global", "shared", "shared::cta", "local", "const", "param", "param::entry"];
        match m.pick(&names) {
            Some("global" | "const") => Space::Global,
            Some("shared" | "shared::cta") => Space::Shared,
            Some("local") => Space::Local,
            Some(_) => Space::Param,
            None => Space::Generic,
        }
    }

    pub(super) fn addr(&mut self, a: &Arg) -> Res<Addr> {
        let Arg::Mem(base, off) = a else {
            return self.fail("operand is not an address");
        };
        match &**base {
            Arg::Int(v) => {
                let v = v.wrapping_add(*off as u64);
                let reg = self.const64(Const::Value(v));
                Ok(Addr { wide: true, reg, off: 0 })
            }
            b => {
                let wide = self.is_wide(b);
                let reg = if wide { self.s64(b)? } else { self.s32(b)? };
                Ok(Addr { wide, reg, off: *off })
            }
        }
    }

    fn load_store(&mut self, store: bool, m: &mut Mods<'_>, args: &[Arg]) -> Res<()> {
        let space = self.space(m);
        m.take("nc");
        m.take("weak");
        let strong = m.pick(&["volatile", "relaxed", "acquire", "release"]).is_some();
        m.pick(&SCOPES);
        m.pick(&["ca", "cg", "cs", "lu", "cv", "wb", "wt"]);
        while m.take_if(|s| s.starts_with("L1::") || s.starts_with("L2::")).is_some() {}
        let lanes = match m.pick(&["v2", "v4", "v8"]) {
            Some("v2") => 2,
            Some("v4") => 4,
            Some(_) => 8,
            None => 1,
        };
        let Some(ty) = value_type(m.ty(0)) else {
            return no("its type");
        };
        let (value, address) = match args {
            [a, v, ..] if store => (v, a),
            [v, a, ..] => (v, a),
            _ => return self.fail("wrong number of operands"),
        };
        let values = match value {
            Arg::Vec(v) => v.as_slice(),
            v => std::slice::from_ref(v),
        };
        if values.len() != lanes {
            return self.fail(format!("{} registers where {lanes} are due", values.len()));
        }
        let bits = ty.bits();
        let mut regs = Vec::with_capacity(lanes);
        for v in values {
            if *v == Arg::Sink {
                regs.push(None);
                continue;
            }
            let wide = self.is_wide(v) || (matches!(v, Arg::Int(_) | Arg::F64(_)) && bits == 64);
            let r = match (store, wide) {
                (true, true) => self.s64(v)?,
                (true, false) => self.s32(v)?,
                (false, true) => self.d64(v)?,
                (false, false) => self.d32(v)?,
            };
            regs.push(Some((r, wide, self.reg_bits(v))));
            if bits == 64 && !wide {
                return self.fail("a 64-bit access needs 64-bit registers");
            }
        }
        let access = Access { space, addr: self.addr(address)?, bits, signed: ty.is_signed(), strong, regs };
        if access.bytes() > MAX_ACCESS {
            return no("more than 256 bits");
        }
        let class = match space {
            Space::Global | Space::Generic => Class::Global,
            Space::Shared => Class::Shared,
            _ => Class::Other,
        };
        if store {
            self.note_store(space, access.bytes() as usize);
            self.push(Op::St(Box::new(access)), class);
        } else {
            self.push(Op::Ld(Box::new(access)), class);
        }
        Ok(())
    }

    /// Race tracking is as fine as the smallest store.
    fn note_store(&mut self, space: Space, bytes: usize) {
        let b = bytes.clamp(1, 4);
        if matches!(space, Space::Shared | Space::Generic) {
            self.code.shared_granule = self.code.shared_granule.min(b);
        }
        if matches!(space, Space::Global | Space::Generic) {
            self.code.global_granule = self.code.global_granule.min(b);
        }
    }

    fn atomic(&mut self, red: bool, m: &mut Mods<'_>, args: &[Arg]) -> Res<()> {
        let space = self.space(m);
        m.pick(&["relaxed", "acquire", "release", "acq_rel"]);
        m.pick(&SCOPES);
        m.take("noftz");
        let names = ["add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec"];
        let op = match m.pick(&names) {
            Some("add") => AtomOp::Add,
            Some("min") => AtomOp::Min,
            Some("max") => AtomOp::Max,
            Some("and") => AtomOp::And,
            Some("or") => AtomOp::Or,
            Some("xor") => AtomOp::Xor,
            Some("exch") => AtomOp::Exch,
            Some("cas") => AtomOp::Cas,
            Some("inc") => AtomOp::Inc,
            Some(_) => AtomOp::Dec,
            None => return no("its operation"),
        };
        let Some(ty) = value_type(m.ty(0)).filter(|t| t.bits() >= 16) else {
            return no("its type");
        };
        let x2 = m.ty(0).ends_with("x2");
        let (d, rest) = match args {
            rest if red => (None, rest),
            [d, rest @ ..] => (Some(d), rest),
            [] => return self.fail("wrong number of operands"),
        };
        let due = if op == AtomOp::Cas { 3 } else { 2 };
        if rest.len() != due {
            return self.fail("wrong number of operands");
        }
        let wide = ty.bits() == 64;
        let d = match d {
            None | Some(Arg::Sink) => None,
            Some(d) => Some(if wide { self.d64(d)? } else { self.d32(d)? }),
        };
        let mut value = |a: &Arg| if wide { self.s64(a) } else { self.s32(a) };
        let b = value(&rest[1])?;
        let c = match rest.get(2) {
            Some(c) => value(c)?,
            None => 0,
        };
        let addr = self.addr(&rest[0])?;
        self.note_store(space, if x2 { 4 } else { ty.bits() as usize / 8 });
        let class = if space == Space::Shared { Class::Shared } else { Class::Global };
        self.push(Op::Atom(Box::new(Atom { op, ty, space, addr, d, b, c, x2 })), class);
        Ok(())
    }

    fn barrier(&mut self, m: &mut Mods<'_>, args: &[Arg]) -> Res<()> {
        m.take("cta");
        m.take("aligned");
        m.take("all");
        let warp = m.take("warp");
        let wait = match m.pick(&["sync", "arrive"]) {
            Some("sync") => true,
            Some(_) => false,
            None => return no("its form"),
        };
        let Some(first) = args.first() else {
            return self.fail("wrong number of operands");
        };
        let id = self.s32(first)?;
        if warp {
            self.push(Op::WarpSync(id), Class::Sync);
            return Ok(());
        }
        let count = match args.get(1) {
            Some(c) => Some(self.s32(c)?),
            None => None,
        };
        self.push(Op::Bar { id, count, wait }, Class::Sync);
        Ok(())
    }

    fn shuffle(&mut self, m: &mut Mods<'_>, args: &[Arg]) -> Res<()> {
        if !m.take("sync") {
            return no("only shfl.sync exists on these targets");
        }
        let mode = match m.pick(&["up", "down", "bfly", "idx"]) {
            Some("up") => ShflMode::Up,
            Some("down") => ShflMode::Down,
            Some("bfly") => ShflMode::Bfly,
            Some(_) => ShflMode::Idx,
            None => return no("its mode"),
        };
        let [d, a, b, c, members] = self.args::<5>(args)?;
        let (d, p) = match &d {
            Arg::Pair(d, p) => (self.d32(d)?, self.dp(p)?),
            d => (self.d32(d)?, 0),
        };
        let op = Op::Shfl { mode, d, p, a: self.s32(&a)?, b: self.s32(&b)?, c: self.s32(&c)?, members: self.s32(&members)? };
        self.push(op, Class::Sync);
        Ok(())
    }

    fn vote(&mut self, m: &mut Mods<'_>, args: &[Arg]) -> Res<()> {
        if !m.take("sync") {
            return no("only vote.sync exists on these targets");
        }
        let mode = match m.pick(&["all", "any", "uni", "ballot"]) {
            Some("all") => VoteMode::All,
            Some("any") => VoteMode::Any,
            Some("uni") => VoteMode::Uni,
            Some(_) => VoteMode::Ballot,
            None => return no("its mode"),
        };
        let [d, p, members] = self.args::<3>(args)?;
        let d = if mode == VoteMode::Ballot { self.d32(&d)? } else { self.dp(&d)? };
        let (src, neg) = self.sp(&p)?;
        let members = self.s32(&members)?;
        self.push(Op::Vote { mode, d, src, neg, members }, Class::Sync);
        Ok(())
    }

    fn redux(&mut self, m: &mut Mods<'_>, args: &[Arg]) -> Res<()> {
        m.take("sync");
        let ty = m.ty(0);
        let name = m.pick(&["add", "min", "max", "and", "or", "xor"]);
        let (abs, nan) = (m.take("abs"), m.take("NaN"));
        let [d, a, members] = self.args::<3>(args)?;
        let (d, a, members) = (self.d32(&d)?, self.s32(&a)?, self.s32(&members)?);
        let signed = ty == "s32";
        if ty == "f32" {
            let op = match (name, nan) {
                (Some("min"), false) => F::Min,
                (Some("max"), false) => F::Max,
                (Some("min"), true) => F::MinNan,
                (Some("max"), true) => F::MaxNan,
                _ => return no("its operation"),
            };
            self.push(Op::ReduxF { op, abs, d, a, members }, Class::Sync);
            return Ok(());
        }
        let op = match name {
            Some("add") => I::Add,
            Some("min") if signed => I::MinS,
            Some("min") => I::MinU,
            Some("max") if signed => I::MaxS,
            Some("max") => I::MaxU,
            Some("and") => I::And,
            Some("or") => I::Or,
            Some(_) => I::Xor,
            None => return no("its operation"),
        };
        self.push(Op::Redux { op, d, a, members }, Class::Sync);
        Ok(())
    }

    fn cp_async(&mut self, m: &mut Mods<'_>, args: &[Arg]) -> Res<()> {
        if !m.take("async") {
            return no("only cp.async without bulk is executed");
        }
        if m.take("commit_group") {
            self.push(Op::CpCommit, Class::Sync);
        } else if m.take("wait_all") {
            self.push(Op::CpWaitAll, Class::Sync);
        } else if m.take("wait_group") {
            let [Arg::Int(n)] = self.args::<1>(args)? else {
                return self.fail("cp.async.wait_group needs a constant");
            };
            self.push(Op::CpWait(n as u32), Class::Sync);
        } else if m.pick(&["ca", "cg"]).is_some() {
            let to_shared = m.pick(&["shared", "shared::cta"]).is_some();
            if !to_shared || !m.take("global") {
                return no("only cp.async.{ca,cg}.shared.global copies are executed");
            }
            while m.take_if(|s| s.starts_with("L2::") && s != "L2::cache_hint").is_some() {}
            let (dst, src, n) = match args {
                [d, s, Arg::Int(n), ..] => (self.addr(d)?, self.addr(s)?, *n),
                _ => return self.fail("cp.async needs two addresses and a constant size"),
            };
            if !matches!(n, 4 | 8 | 16) {
                return self.fail("cp.async copies 4, 8 or 16 bytes");
            }
            let read = match args.get(3) {
                Some(r) => Some(self.s32(r)?),
                None => None,
            };
            if args.len() > 4 {
                return no("a cache policy operand");
            }
            self.push(Op::CpAsync { dst, src, bytes: n as u32, read }, Class::Global);
        } else {
            return no("its form");
        }
        Ok(())
    }

    fn matrix_move(&mut self, store: bool, m: &mut Mods<'_>, args: &[Arg]) -> Res<()> {
        m.take("sync");
        m.take("aligned");
        let n = match m.pick(&["x1", "x2", "x4"]) {
            Some("x1") => 1,
            Some("x2") => 2,
            Some(_) => 4,
            None => return no("its count"),
        };
        let trans = m.take("trans");
        m.pick(&["shared", "shared::cta"]);
        if !m.take("m8n8") || m.ty(0) != "b16" {
            return no("only .m8n8 of .b16 is executed");
        }
        let (address, values) = match args {
            [a, v] if store => (a, v),
            [v, a] => (a, v),
            _ => return self.fail("wrong number of operands"),
        };
        let values = match values {
            Arg::Vec(v) => v.clone(),
            v => vec![v.clone()],
        };
        if values.len() != n {
            return self.fail(format!("{} registers where {n} are due", values.len()));
        }
        let addr = self.addr(address)?;
        let mut regs = Vec::new();
        for v in &values {
            regs.push(if store { self.s32(v)? } else { self.d32(v)? });
        }
        let op = if store { Op::StMatrix { addr, trans, regs } } else { Op::LdMatrix { addr, trans, regs } };
        self.push(op, Class::Shared);
        Ok(())
    }

    fn mma(&mut self, m: &mut Mods<'_>, args: &[Arg]) -> Res<()> {
        m.take("sync");
        m.take("aligned");
        let shapes = ["m16n8k4", "m16n8k8", "m16n8k16", "m16n8k32", "m8n8k4"];
        let (mm, n, k) = match m.pick(&shapes) {
            Some("m16n8k4") => (16, 8, 4),
            Some("m16n8k8") => (16, 8, 8),
            Some("m16n8k16") => (16, 8, 16),
            Some("m16n8k32") => (16, 8, 32),
            Some(_) => (8, 8, 4),
            None => return no("its shape"),
        };
        if !m.take("row") || !m.take("col") {
            return no("only A row-major with B column-major is executed");
        }
        let satfinite = m.take("satfinite");
        let operand = |s: &str| {
            Some(match s {
                "f16" => MmaTy::F16,
                "bf16" => MmaTy::Bf16,
                "tf32" => MmaTy::Tf32,
                "s8" => MmaTy::S8,
                "u8" => MmaTy::U8,
                "f64" => MmaTy::F64,
                _ => return None,
            })
        };
        let (Some(a_ty), Some(b_ty)) = (operand(m.ty(1)), operand(m.ty(2))) else {
            return no("its operand types");
        };
        let (dt, ct) = (m.ty(0), m.ty(3));
        let ok = match a_ty {
            MmaTy::F16 => matches!(k, 8 | 16) && matches!(dt, "f16" | "f32") && matches!(ct, "f16" | "f32"),
            MmaTy::Bf16 => matches!(k, 8 | 16) && dt == "f32" && ct == "f32",
            MmaTy::Tf32 => matches!(k, 4 | 8) && dt == "f32" && ct == "f32",
            MmaTy::S8 | MmaTy::U8 => matches!(k, 16 | 32) && dt == "s32" && ct == "s32",
            MmaTy::F64 => (mm, k) == (8, 4) && dt == "f64" && ct == "f64",
        };
        let same = a_ty == b_ty || matches!((a_ty, b_ty), (MmaTy::S8, MmaTy::U8) | (MmaTy::U8, MmaTy::S8));
        if !ok || !same || (mm == 8) != (a_ty == MmaTy::F64) {
            return no("this combination of shape and types");
        }
        let [d, a, b, c] = self.args::<4>(args)?;
        let f64s = a_ty == MmaTy::F64;
        let per_reg = match a_ty {
            MmaTy::F16 | MmaTy::Bf16 => 2,
            MmaTy::S8 | MmaTy::U8 => 4,
            _ => 1,
        };
        let acc = |ty: &str| mm * n / 32 / if ty == "f16" { 2 } else { 1 };
        let list = |this: &mut Self, v: &Arg, due: usize, dst: bool| -> Res<Vec<R>> {
            let v = match v {
                Arg::Vec(v) => v.as_slice(),
                v => std::slice::from_ref(v),
            };
            if v.len() != due {
                return this.fail(format!("{} registers where {due} are due", v.len()));
            }
            v.iter()
                .map(|x| match (f64s, dst) {
                    (true, true) => this.d64(x),
                    (true, false) => this.s64(x),
                    (false, true) => this.d32(x),
                    (false, false) => this.s32(x),
                })
                .collect()
        };
        let op = Mma {
            a_ty,
            b_ty,
            m: mm,
            n,
            k,
            c_f16: ct == "f16",
            d_f16: dt == "f16",
            satfinite,
            d: list(self, &d, acc(dt), true)?,
            a: list(self, &a, mm * k / 32 / per_reg, false)?,
            b: list(self, &b, n * k / 32 / per_reg, false)?,
            c: list(self, &c, acc(ct), false)?,
        };
        self.push(Op::Mma(Box::new(op)), Class::Mma);
        Ok(())
    }
}
