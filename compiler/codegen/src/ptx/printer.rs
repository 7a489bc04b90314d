//! Writes the body of one `gpu.func` as MLIR text.
//!
//! Pure operations are numbered by their text: asking twice for `arith.addi %3, %7` gives the same value, as long as the first is
//! still in scope. Integer arithmetic on constants is folded. So schedules may compute addresses the obvious way, again and again,
//! and the text stays short.

use std::collections::HashMap;
use std::fmt::{self, Write};
use tahoma_core::escape::Ident;

/// Element types of the upstream dialects that kernels use. Integers have no sign there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Elem {
    I1,
    I8,
    I16,
    I32,
    I64,
    F16,
    BF16,
    F32,
    F64,
    Index,
}

impl Elem {
    fn name(self) -> &'static str {
        match self {
            Elem::I1 => "i1",
            Elem::I8 => "i8",
            Elem::I16 => "i16",
            Elem::I32 => "i32",
            Elem::I64 => "i64",
            Elem::F16 => "f16",
            Elem::BF16 => "bf16",
            Elem::F32 => "f32",
            Elem::F64 => "f64",
            Elem::Index => "index",
        }
    }
    /// Bytes of one element in memory.
    pub(super) fn bytes(self) -> u64 {
        match self {
            Elem::I1 | Elem::I8 => 1,
            Elem::I16 | Elem::F16 | Elem::BF16 => 2,
            Elem::I32 | Elem::F32 => 4,
            Elem::I64 | Elem::F64 | Elem::Index => 8,
        }
    }
    pub(super) fn is_float(self) -> bool {
        matches!(self, Elem::F16 | Elem::BF16 | Elem::F32 | Elem::F64)
    }
}

/// A scalar type, or a vector where `lanes > 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ty {
    pub(super) elem: Elem,
    pub(super) lanes: u8,
}

impl fmt::Display for Ty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.lanes > 1 { write!(f, "vector<{}x{}>", self.lanes, self.elem.name()) } else { f.write_str(self.elem.name()) }
    }
}

pub(super) const I1: Ty = Ty { elem: Elem::I1, lanes: 1 };
pub(super) const I8: Ty = Ty { elem: Elem::I8, lanes: 1 };
pub(super) const I32: Ty = Ty { elem: Elem::I32, lanes: 1 };
pub(super) const I64: Ty = Ty { elem: Elem::I64, lanes: 1 };
pub(super) const F16: Ty = Ty { elem: Elem::F16, lanes: 1 };
pub(super) const BF16: Ty = Ty { elem: Elem::BF16, lanes: 1 };
pub(super) const F32: Ty = Ty { elem: Elem::F32, lanes: 1 };
pub(super) const F64: Ty = Ty { elem: Elem::F64, lanes: 1 };
pub(super) const INDEX: Ty = Ty { elem: Elem::Index, lanes: 1 };

impl Ty {
    pub(super) fn vector(self, lanes: usize) -> Ty {
        Ty { elem: self.elem, lanes: lanes as u8 }
    }
    pub(super) fn is_float(self) -> bool {
        self.elem.is_float()
    }
    pub(super) fn bits(self) -> u32 {
        if self.elem == Elem::I1 { 1 } else { self.elem.bytes() as u32 * 8 }
    }
}

/// An SSA value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Val {
    id: u32,
    pub(super) ty: Ty,
}

impl fmt::Display for Val {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.id)
    }
}

/// A buffer in memory: a kernel argument or shared memory.
#[derive(Clone, Debug)]
pub(super) struct Buf {
    pub(super) name: String,
    pub(super) elem: Ty,
    pub(super) elements: u64,
    pub(super) shared: bool,
}

impl Buf {
    fn ty(&self) -> String {
        let space = if self.shared { ", #gpu.address_space<workgroup>" } else { "" };
        format!("memref<{}x{}{space}>", self.elements, self.elem)
    }
}

/// A function under construction.
#[derive(Default)]
pub(super) struct Fun {
    head: String,
    body: String,
    depth: usize,
    next: u32,
    consts: HashMap<(Ty, u64), Val>,
    known: HashMap<u32, i64>,
    memo: HashMap<String, Val>,
    scopes: Vec<Vec<String>>,
    shared: Vec<Buf>,
    /// Type of loop indices and offsets in elements: i32 unless a buffer is too large for it.
    wide: bool,
}

impl Fun {
    pub(super) fn new(wide: bool) -> Fun {
        Fun { wide, ..Fun::default() }
    }

    pub(super) fn ix(&self) -> Ty {
        if self.wide { I64 } else { I32 }
    }

    fn fresh(&mut self, ty: Ty) -> Val {
        self.next += 1;
        Val { id: self.next, ty }
    }

    fn line(&mut self, text: &str) {
        for _ in 0..self.depth + 3 {
            self.body.push_str("  ");
        }
        self.body.push_str(text);
        self.body.push('\n');
    }

    /// A pure operation; `text` is what follows `%n = `.
    pub(super) fn op(&mut self, ty: Ty, text: String) -> Val {
        if let Some(&v) = self.memo.get(&text) {
            return v;
        }
        let v = self.fresh(ty);
        self.line(&format!("{v} = {text}"));
        if let Some(s) = self.scopes.last_mut() {
            s.push(text.clone());
        }
        self.memo.insert(text, v);
        v
    }

    /// An operation that reads or changes something: never merged with another.
    pub(super) fn read(&mut self, ty: Ty, text: &str) -> Val {
        let v = self.fresh(ty);
        self.line(&format!("{v} = {text}"));
        v
    }

    /// An operation without a result.
    pub(super) fn effect(&mut self, text: &str) {
        self.line(text);
    }

    fn enter(&mut self) {
        self.scopes.push(vec![]);
        self.depth += 1;
    }

    fn leave(&mut self) {
        for t in self.scopes.pop().unwrap_or_default() {
            self.memo.remove(&t);
        }
        self.depth -= 1;
    }

    // Constants.

    fn constant(&mut self, ty: Ty, bits: u64, text: &str) -> Val {
        if let Some(&v) = self.consts.get(&(ty, bits)) {
            return v;
        }
        let v = self.fresh(ty);
        let suffix = if ty == I1 { String::new() } else { format!(" : {ty}") };
        let _ = writeln!(self.head, "      {v} = arith.constant {text}{suffix}");
        self.consts.insert((ty, bits), v);
        v
    }

    pub(super) fn int(&mut self, ty: Ty, x: i64) -> Val {
        let x = match ty.bits() {
            1 => x & 1,
            8 => x as i8 as i64,
            16 => x as i16 as i64,
            32 => x as i32 as i64,
            _ => x,
        };
        let text = match (ty.elem, x) {
            (Elem::I1, 0) => "false".to_string(),
            (Elem::I1, _) => "true".to_string(),
            _ => x.to_string(),
        };
        let v = self.constant(ty, x as u64, &text);
        self.known.insert(v.id, x);
        v
    }

    /// A float constant, rounded to `ty`.
    pub(super) fn float(&mut self, ty: Ty, x: f64) -> Val {
        match ty.elem {
            Elem::F64 => self.constant(ty, x.to_bits(), &format!("0x{:016X}", x.to_bits())),
            _ => {
                let x = x as f32;
                self.constant(ty, u64::from(x.to_bits()), &literal(x))
            }
        }
    }

    pub(super) fn known(&self, v: Val) -> Option<i64> {
        self.known.get(&v.id).copied()
    }

    // Integers.

    pub(super) fn add(&mut self, a: Val, b: Val) -> Val {
        match (self.known(a), self.known(b)) {
            (Some(x), Some(y)) => self.int(a.ty, x.wrapping_add(y)),
            (Some(0), _) => b,
            (_, Some(0)) => a,
            _ => self.op(a.ty, format!("arith.addi {a}, {b} overflow<nsw> : {}", a.ty)),
        }
    }

    pub(super) fn mul(&mut self, a: Val, b: Val) -> Val {
        match (self.known(a), self.known(b)) {
            (Some(x), Some(y)) => self.int(a.ty, x.wrapping_mul(y)),
            (Some(0), _) | (_, Some(1)) => a,
            (Some(1), _) | (_, Some(0)) => b,
            _ => self.op(a.ty, format!("arith.muli {a}, {b} overflow<nsw> : {}", a.ty)),
        }
    }

    pub(super) fn add_k(&mut self, a: Val, k: i64) -> Val {
        let k = self.int(a.ty, k);
        self.add(a, k)
    }

    pub(super) fn mul_k(&mut self, a: Val, k: i64) -> Val {
        let k = self.int(a.ty, k);
        self.mul(a, k)
    }

    /// `a / k` of a non-negative `a`.
    pub(super) fn div_k(&mut self, a: Val, k: u64) -> Val {
        match self.known(a) {
            _ if k == 1 => a,
            Some(x) => self.int(a.ty, x / k as i64),
            None => {
                let k = self.int(a.ty, k as i64);
                self.op(a.ty, format!("arith.divui {a}, {k} : {}", a.ty))
            }
        }
    }

    /// `a % k` of a non-negative `a`.
    pub(super) fn rem_k(&mut self, a: Val, k: u64) -> Val {
        match self.known(a) {
            Some(x) => self.int(a.ty, x % k as i64),
            None if k == 1 => self.int(a.ty, 0),
            None if k.is_power_of_two() => {
                let k = self.int(a.ty, k as i64 - 1);
                self.op(a.ty, format!("arith.andi {a}, {k} : {}", a.ty))
            }
            // a − (a / k)·k: the quotient is wanted as well, more often than not.
            None => {
                let q = self.div_k(a, k);
                let p = self.mul_k(q, k as i64);
                self.op(a.ty, format!("arith.subi {a}, {p} overflow<nsw> : {}", a.ty))
            }
        }
    }

    /// An integer operation by its name in `arith`.
    pub(super) fn arith(&mut self, name: &str, a: Val, b: Val) -> Val {
        self.op(a.ty, format!("arith.{name} {a}, {b} : {}", a.ty))
    }

    pub(super) fn cmpi(&mut self, pred: &str, a: Val, b: Val) -> Val {
        if let (Some(x), Some(y)) = (self.known(a), self.known(b)) {
            let r = match pred {
                "eq" => Some(x == y),
                "ne" => Some(x != y),
                "slt" => Some(x < y),
                "sge" => Some(x >= y),
                "ult" if x >= 0 && y >= 0 => Some(x < y),
                "ult" if x < 0 && y >= 0 => Some(false),
                _ => None,
            };
            if let Some(r) = r {
                return self.int(I1, i64::from(r));
            }
        }
        self.op(I1, format!("arith.cmpi {pred}, {a}, {b} : {}", a.ty))
    }

    pub(super) fn and(&mut self, a: Val, b: Val) -> Val {
        match (self.known(a), self.known(b)) {
            (Some(0), _) => a,
            (_, Some(0)) => b,
            (Some(_), _) if a.ty == I1 => b,
            (_, Some(_)) if a.ty == I1 => a,
            _ => self.arith("andi", a, b),
        }
    }

    pub(super) fn select(&mut self, c: Val, a: Val, b: Val) -> Val {
        match self.known(c) {
            Some(0) => b,
            Some(_) => a,
            None if a == b => a,
            None => self.op(a.ty, format!("arith.select {c}, {a}, {b} : {}", a.ty)),
        }
    }

    /// A conversion by its name in `arith` (or `llvm.intr…`), from `a`'s type to `to`.
    pub(super) fn convert(&mut self, name: &str, a: Val, to: Ty) -> Val {
        if a.ty == to { a } else { self.op(to, format!("arith.{name} {a} : {} to {to}", a.ty)) }
    }

    fn as_index_value(&mut self, a: Val) -> Val {
        match self.known(a) {
            Some(x) => self.int(INDEX, x),
            None => self.op(INDEX, format!("arith.index_cast {a} : {} to index", a.ty)),
        }
    }

    // Floats.

    pub(super) fn float2(&mut self, name: &str, a: Val, b: Val) -> Val {
        self.op(a.ty, format!("arith.{name} {a}, {b} : {}", a.ty))
    }
    pub(super) fn fadd(&mut self, a: Val, b: Val) -> Val {
        self.float2("addf", a, b)
    }
    pub(super) fn fsub(&mut self, a: Val, b: Val) -> Val {
        self.float2("subf", a, b)
    }
    pub(super) fn fmul(&mut self, a: Val, b: Val) -> Val {
        self.float2("mulf", a, b)
    }
    pub(super) fn fdiv(&mut self, a: Val, b: Val) -> Val {
        self.float2("divf", a, b)
    }
    pub(super) fn fneg(&mut self, a: Val) -> Val {
        self.op(a.ty, format!("arith.negf {a} : {}", a.ty))
    }
    /// One rounding of `a·b + c`.
    pub(super) fn fma(&mut self, a: Val, b: Val, c: Val) -> Val {
        let t = a.ty;
        self.op(t, format!("llvm.call_intrinsic \"llvm.fma.{t}\"({a}, {b}, {c}) : ({t}, {t}, {t}) -> {t}"))
    }
    /// An LLVM intrinsic on one number: `fabs`, `floor`, `sqrt`, … `math.floor` would call a library on this target, and the pass
    /// that lowers gpu.func takes `llvm.intr.floor` for a leftover of it; only the intrinsic by its name goes through.
    pub(super) fn intrinsic(&mut self, name: &str, a: Val) -> Val {
        let t = a.ty;
        self.op(t, format!("llvm.call_intrinsic \"llvm.{name}.{t}\"({a}) : ({t}) -> {t}"))
    }
    pub(super) fn fabs(&mut self, a: Val) -> Val {
        self.intrinsic("fabs", a)
    }
    /// `a` with the sign of `b`.
    pub(super) fn copysign(&mut self, a: Val, b: Val) -> Val {
        let t = a.ty;
        self.op(t, format!("llvm.call_intrinsic \"llvm.copysign.{t}\"({a}, {b}) : ({t}, {t}) -> {t}"))
    }
    pub(super) fn cmpf(&mut self, pred: &str, a: Val, b: Val) -> Val {
        self.op(I1, format!("arith.cmpf {pred}, {a}, {b} : {}", a.ty))
    }

    // Memory.

    /// A new array in shared memory.
    pub(super) fn shared(&mut self, elem: Ty, elements: u64) -> Buf {
        let b = Buf { name: format!("%s{}", self.shared.len()), elem, elements, shared: true };
        self.shared.push(b.clone());
        b
    }
    pub(super) fn shared_bytes(&self) -> u64 {
        self.shared.iter().map(|b| b.elements * b.elem.elem.bytes()).sum()
    }

    /// `lanes` elements from `at`; a vector's address must be aligned to its size. Arguments are never written while they are read.
    pub(super) fn load(&mut self, b: &Buf, at: Val, lanes: usize) -> Val {
        let at = self.as_index_value(at);
        let (m, name) = (b.ty(), &b.name);
        let (ty, text) = if lanes == 1 {
            (b.elem, format!("memref.load {name}[{at}] : {m}"))
        } else {
            let v = b.elem.vector(lanes);
            let bytes = lanes as u64 * b.elem.elem.bytes();
            (v, format!("vector.load {name}[{at}] {{alignment = {bytes}}} : {m}, {v}"))
        };
        if b.shared { self.read(ty, &text) } else { self.op(ty, text) }
    }

    pub(super) fn store(&mut self, b: &Buf, at: Val, v: Val) {
        let at = self.as_index_value(at);
        let (m, name) = (b.ty(), &b.name);
        let text = if v.ty.lanes <= 1 {
            format!("memref.store {v}, {name}[{at}] : {m}")
        } else {
            let bytes = u64::from(v.ty.lanes) * b.elem.elem.bytes();
            format!("vector.store {v}, {name}[{at}] {{alignment = {bytes}}} : {m}, {}", v.ty)
        };
        self.effect(&text);
    }

    pub(super) fn extract(&mut self, v: Val, lane: usize) -> Val {
        let s = Ty { elem: v.ty.elem, lanes: 1 };
        self.op(s, format!("vector.extract {v}[{lane}] : {s} from {}", v.ty))
    }

    pub(super) fn vector(&mut self, parts: &[Val]) -> Val {
        let ty = parts[0].ty.vector(parts.len());
        self.op(ty, format!("vector.from_elements {} : {ty}", list(parts)))
    }

    pub(super) fn barrier(&mut self) {
        self.effect("gpu.barrier");
    }

    /// `tid.x` or `ctaid.x` as a loop index.
    pub(super) fn special(&mut self, name: &str) -> Val {
        let v = self.op(INDEX, format!("gpu.{name} x"));
        let ix = self.ix();
        self.op(ix, format!("arith.index_cast {v} : index to {ix}"))
    }

    // Control.

    /// `for i in 0..count` with carried values; `body` gives the next ones.
    pub(super) fn each(&mut self, count: u64, init: &[Val], body: impl FnOnce(&mut Fun, Val, &[Val]) -> Vec<Val>) -> Vec<Val> {
        let ix = self.ix();
        let (lo, hi, step) = (self.int(ix, 0), self.int(ix, count as i64), self.int(ix, 1));
        self.span([lo, hi, step], init, body)
    }

    fn span(&mut self, bounds: [Val; 3], init: &[Val], body: impl FnOnce(&mut Fun, Val, &[Val]) -> Vec<Val>) -> Vec<Val> {
        let [lo, hi, step] = bounds;
        let ix = lo.ty;
        let out: Vec<Val> = init.iter().map(|v| self.fresh(v.ty)).collect();
        let i = self.fresh(ix);
        let carried: Vec<Val> = init.iter().map(|v| self.fresh(v.ty)).collect();
        let (mut left, mut args) = (String::new(), String::new());
        if !init.is_empty() {
            let types: Vec<String> = init.iter().map(|v| v.ty.to_string()).collect();
            let pairs: Vec<String> = carried.iter().zip(init).map(|(c, v)| format!("{c} = {v}")).collect();
            left = format!("{} = ", list(&out));
            args = format!(" iter_args({}) -> ({})", pairs.join(", "), types.join(", "));
        }
        self.line(&format!("{left}scf.for {i} = {lo} to {hi} step {step}{args} : {ix} {{"));
        self.enter();
        let next = body(self, i, &carried);
        if !next.is_empty() {
            let types: Vec<String> = next.iter().map(|v| v.ty.to_string()).collect();
            self.line(&format!("scf.yield {} : {}", list(&next), types.join(", ")));
        }
        self.leave();
        self.line("}");
        out
    }

    /// `if c { body }`; without a branch where `c` is known.
    pub(super) fn when(&mut self, c: Val, body: impl FnOnce(&mut Fun)) {
        match self.known(c) {
            Some(0) => {}
            Some(_) => body(self),
            None => {
                self.line(&format!("scf.if {c} {{"));
                self.enter();
                body(self);
                self.leave();
                self.line("}");
            }
        }
    }

    /// Repeats while `test` says so: `test` gives the condition, `body` the next values.
    pub(super) fn repeat(
        &mut self,
        init: &[Val],
        test: impl FnOnce(&mut Fun, &[Val]) -> Val,
        body: impl FnOnce(&mut Fun, &[Val]) -> Vec<Val>,
    ) -> Vec<Val> {
        let out: Vec<Val> = init.iter().map(|v| self.fresh(v.ty)).collect();
        let before: Vec<Val> = init.iter().map(|v| self.fresh(v.ty)).collect();
        let after: Vec<Val> = init.iter().map(|v| self.fresh(v.ty)).collect();
        let types: Vec<String> = init.iter().map(|v| v.ty.to_string()).collect();
        let types = types.join(", ");
        let pairs: Vec<String> = before.iter().zip(init).map(|(c, v)| format!("{c} = {v}")).collect();
        self.line(&format!("{} = scf.while ({}) : ({types}) -> ({types}) {{", list(&out), pairs.join(", ")));
        self.enter();
        let c = test(self, &before);
        self.line(&format!("scf.condition({c}) {} : {types}", list(&before)));
        self.leave();
        self.line("} do {");
        let names: Vec<String> = after.iter().map(|v| format!("{v}: {}", v.ty)).collect();
        self.line(&format!("^bb0({}):", names.join(", ")));
        self.enter();
        let next = body(self, &after);
        self.line(&format!("scf.yield {} : {types}", list(&next)));
        self.leave();
        self.line("}");
        out
    }

    /// The module: one `gpu.module` with one kernel.
    pub(super) fn finish(self, name: &Ident, arguments: &[Buf], block: u32) -> String {
        let args: Vec<String> = arguments.iter().map(|b| format!("{}: {}", b.name, b.ty())).collect();
        let shared: Vec<String> = self.shared.iter().map(|b| format!("{}: {} {{llvm.align = 16 : i64}}", b.name, b.ty())).collect();
        let shared = if shared.is_empty() { String::new() } else { format!(" workgroup({})", shared.join(", ")) };
        format!(
            "module attributes {{gpu.container_module}} {{\n  gpu.module @kernels {{\n    gpu.func @{name}({}){shared} kernel attributes {{known_block_size = array<i32: {block}, 1, 1>}} {{\n{}{}      gpu.return\n    }}\n  }}\n}}\n",
            args.join(", "),
            self.head,
            self.body
        )
    }
}

fn list(v: &[Val]) -> String {
    let names: Vec<String> = v.iter().map(Val::to_string).collect();
    names.join(", ")
}

/// An f32 literal that MLIR reads back to the same bits: decimal where it can be, else the bits.
fn literal(x: f32) -> String {
    if !x.is_finite() {
        return format!("0x{:08X}", x.to_bits());
    }
    let s = format!("{x:e}");
    match s.split_once('e') {
        Some((m, e)) if m.contains('.') => format!("{m}e{e}"),
        Some((m, e)) => format!("{m}.0e{e}"),
        None => format!("0x{:08X}", x.to_bits()),
    }
}
