//! Arithmetic over a warp: 32 lanes at a time, written to the lanes of a mask.
//!
//! A plain operation is evaluated on all lanes and blended, which is what lets the compiler use vector
//! instructions. One inlined scalar function per type says what each opcode means (`int`, `float`); here
//! are only the loops, with the common opcodes as constants.

use super::float as fl;
use super::int;
use super::isa::{Bool, Cmp, Cvt, F, I, Mode, R, Rnd, Setp, TestKind, Ty};
use std::cmp::Ordering;

pub(super) type L32 = [u32; 32];
pub(super) type L64 = [u64; 32];

/// A warp's registers.
#[derive(Clone, Debug, Default)]
pub(super) struct Regs {
    pub r32: Vec<L32>,
    pub r64: Vec<L64>,
    pub p: Vec<u32>,
}

#[inline(always)]
pub(super) fn put32(d: &mut L32, v: &L32, m: u32) {
    if m == u32::MAX {
        *d = *v;
    } else {
        for l in 0..32 {
            let k = 0u32.wrapping_sub((m >> l) & 1);
            d[l] = (d[l] & !k) | (v[l] & k);
        }
    }
}

#[inline(always)]
pub(super) fn put64(d: &mut L64, v: &L64, m: u32) {
    if m == u32::MAX {
        *d = *v;
    } else {
        for l in 0..32 {
            let k = 0u64.wrapping_sub(u64::from((m >> l) & 1));
            d[l] = (d[l] & !k) | (v[l] & k);
        }
    }
}

#[inline(always)]
fn lanes32(f: impl Fn(usize) -> u32) -> L32 {
    std::array::from_fn(f)
}

#[inline(always)]
fn lanes64(f: impl Fn(usize) -> u64) -> L64 {
    std::array::from_fn(f)
}

/// Lane mask of the lanes where `f` holds.
#[inline(always)]
pub(super) fn ballot(f: impl Fn(usize) -> bool) -> u32 {
    let bits = lanes32(|l| if f(l) { 1 << l } else { 0 });
    bits.iter().fold(0, |m, b| m | b)
}

impl Regs {
    #[inline(always)]
    fn map32(&mut self, r: [R; 4], m: u32, f: impl Fn(u32, u32, u32) -> u32) {
        let [d, a, b, c] = r.map(|i| i as usize);
        let v = {
            let (x, y, z) = (&self.r32[a], &self.r32[b], &self.r32[c]);
            lanes32(|l| f(x[l], y[l], z[l]))
        };
        put32(&mut self.r32[d], &v, m);
    }

    #[inline(always)]
    fn map64(&mut self, r: [R; 4], m: u32, f: impl Fn(u64, u64, u64) -> u64) {
        let [d, a, b, c] = r.map(|i| i as usize);
        let v = {
            let (x, y, z) = (&self.r64[a], &self.r64[b], &self.r64[c]);
            lanes64(|l| f(x[l], y[l], z[l]))
        };
        put64(&mut self.r64[d], &v, m);
    }

    pub(super) fn mov32(&mut self, d: R, a: R, m: u32) {
        let v = self.r32[a as usize];
        put32(&mut self.r32[d as usize], &v, m);
    }

    pub(super) fn mov64(&mut self, d: R, a: R, m: u32) {
        let v = self.r64[a as usize];
        put64(&mut self.r64[d as usize], &v, m);
    }

    pub(super) fn set_pred(&mut self, p: R, v: u32, m: u32) {
        // Predicate 0 is the constant true, and the sink of an absent destination.
        if p != 0 {
            let d = &mut self.p[p as usize];
            *d = (*d & !m) | (v & m);
        }
    }

    pub(super) fn i32(&mut self, op: I, r: [R; 4], m: u32) {
        macro_rules! fast {
            ($($o:ident)*) => {
                match op {
                    $(I::$o => self.map32(r, m, |x, y, z| int::i32_op(I::$o, x, y, z)),)*
                    _ => self.map32(r, m, |x, y, z| int::i32_op(op, x, y, z)),
                }
            };
        }
        fast!(Add Sub MulLo MadLo And Or Xor Not Neg Abs Shl ShrS ShrU MinS MinU MaxS MaxU Prmt DivS DivU RemS RemU MulHiU MulHiS BfeU)
    }

    pub(super) fn i16(&mut self, op: I, signed: bool, r: [R; 4], m: u32) {
        self.map32(r, m, |x, y, z| int::i16_op(op, signed, x, y, z));
    }

    pub(super) fn i16x2(&mut self, op: I, signed: bool, r: [R; 4], m: u32) {
        self.map32(r, m, |x, y, z| {
            let lo = int::i16_op(op, signed, x & 0xffff, y & 0xffff, z & 0xffff);
            lo | (int::i16_op(op, signed, x >> 16, y >> 16, z >> 16) << 16)
        });
    }

    pub(super) fn i64(&mut self, op: I, r: [R; 4], m: u32) {
        macro_rules! fast {
            ($($o:ident)*) => {
                match op {
                    $(I::$o => self.map64(r, m, |x, y, z| int::i64_op(I::$o, x, y, z)),)*
                    _ => self.map64(r, m, |x, y, z| int::i64_op(op, x, y, z)),
                }
            };
        }
        fast!(Add Sub MulLo MadLo And Or Xor Not Neg MinS MinU MaxS MaxU DivS DivU RemS RemU)
    }

    pub(super) fn shift64(&mut self, op: I, [d, a, b]: [R; 3], m: u32) {
        let (x, y) = (&self.r64[a as usize], &self.r32[b as usize]);
        let v = match op {
            I::Shl => lanes64(|l| int::shift64(I::Shl, x[l], y[l])),
            I::ShrS => lanes64(|l| int::shift64(I::ShrS, x[l], y[l])),
            _ => lanes64(|l| int::shift64(I::ShrU, x[l], y[l])),
        };
        put64(&mut self.r64[d as usize], &v, m);
    }

    pub(super) fn count64(&mut self, op: I, d: R, a: R, m: u32) {
        let x = &self.r64[a as usize];
        let v = lanes32(|l| int::count64(op, x[l]));
        put32(&mut self.r32[d as usize], &v, m);
    }

    pub(super) fn bfe64(&mut self, signed: bool, [d, a, b, c]: [R; 4], m: u32) {
        let (x, y, z) = (&self.r64[a as usize], &self.r32[b as usize], &self.r32[c as usize]);
        let v = lanes64(|l| int::bfe(x[l], y[l], z[l], 63, signed));
        put64(&mut self.r64[d as usize], &v, m);
    }

    pub(super) fn bfi32(&mut self, r: [R; 5], m: u32) {
        let [d, a, b, c, e] = r.map(|i| i as usize);
        let (x, y, p, n) = (&self.r32[a], &self.r32[b], &self.r32[c], &self.r32[e]);
        let v = lanes32(|l| int::bfi(u64::from(x[l]), u64::from(y[l]), p[l], n[l], 31) as u32);
        put32(&mut self.r32[d], &v, m);
    }

    pub(super) fn bfi64(&mut self, r: [R; 5], m: u32) {
        let [d, a, b, c, e] = r.map(|i| i as usize);
        let (x, y, p, n) = (&self.r64[a], &self.r64[b], &self.r32[c], &self.r32[e]);
        let v = lanes64(|l| int::bfi(x[l], y[l], p[l], n[l], 63));
        put64(&mut self.r64[d], &v, m);
    }

    pub(super) fn lop3(&mut self, lut: u8, r: [R; 4], m: u32) {
        self.map32(r, m, |x, y, z| int::lop3(lut, x, y, z));
    }

    /// 64-bit product of 32-bit operands, plus `c` if given.
    pub(super) fn wide32(&mut self, signed: bool, d: R, a: R, b: R, c: Option<R>, m: u32) {
        let (x, y) = (&self.r32[a as usize], &self.r32[b as usize]);
        let mut v = if signed {
            lanes64(|l| (i64::from(x[l] as i32) * i64::from(y[l] as i32)) as u64)
        } else {
            lanes64(|l| u64::from(x[l]) * u64::from(y[l]))
        };
        if let Some(c) = c {
            let z = &self.r64[c as usize];
            v = lanes64(|l| v[l].wrapping_add(z[l]));
        }
        put64(&mut self.r64[d as usize], &v, m);
    }

    pub(super) fn wide16(&mut self, signed: bool, r: [R; 4], m: u32) {
        let ext = |v: u32| if signed { i32::from(v as u16 as i16) as u32 } else { v & 0xffff };
        self.map32(r, m, |x, y, z| ext(x).wrapping_mul(ext(y)).wrapping_add(z));
    }

    pub(super) fn f32(&mut self, op: F, mode: Mode, r: [R; 4], m: u32) {
        if mode != Mode::PLAIN {
            return self.map32(r, m, |x, y, z| fl::f32_op(op, mode, x, y, z));
        }
        macro_rules! fast {
            ($($o:ident)*) => {
                match op {
                    F::Fma => self.fma32(r, m),
                    F::Ex2 => self.ex2(r, m),
                    $(F::$o => self.map32(r, m, |x, y, z| fl::f32_op(F::$o, Mode::PLAIN, x, y, z)),)*
                    _ => self.map32(r, m, |x, y, z| fl::f32_op(op, Mode::PLAIN, x, y, z)),
                }
            };
        }
        fast!(Add Sub Mul Div Min Max MinNan MaxNan Abs Neg Sqrt Rcp Rsqrt Copysign)
    }

    /// fma in f64, where the product is exact: rounding twice differs from rounding once only if the
    /// f64 sum lies exactly between two f32, or is subnormal there. Those lanes are done again exactly.
    #[inline(always)]
    fn fma32(&mut self, r: [R; 4], m: u32) {
        let [d, a, b, c] = r.map(|i| i as usize);
        let (x, y, z) = (&self.r32[a], &self.r32[b], &self.r32[c]);
        let mut v = [0u32; 32];
        let mut doubt = 0u64;
        for l in 0..32 {
            let s = f64::from(f32::from_bits(x[l])) * f64::from(f32::from_bits(y[l])) + f64::from(f32::from_bits(z[l]));
            v[l] = fl::bits32(s as f32);
            let bits = s.to_bits();
            // The smallest normal f32 as f64 bits; zero wraps round to no doubt.
            let tiny = (bits << 1).wrapping_sub(1) < (0x3810_0000_0000_0000 << 1) - 1;
            doubt |= u64::from(bits & 0x1fff_ffff == 0x1000_0000) | u64::from(tiny);
        }
        if doubt != 0 {
            for l in 0..32 {
                v[l] = fl::f32_op(F::Fma, Mode::PLAIN, x[l], y[l], z[l]);
            }
        }
        put32(&mut self.r32[d], &v, m);
    }

    fn ex2(&mut self, r: [R; 4], m: u32) {
        self.map32(r, m, |x, _, _| {
            let v = f32::from_bits(x);
            if v.is_nan() { fl::NAN32 } else { fl::ex2(v).to_bits() }
        });
    }

    pub(super) fn f64(&mut self, op: F, rnd: Rnd, r: [R; 4], m: u32) {
        macro_rules! fast {
            ($($o:ident)*) => {
                match op {
                    $(F::$o if rnd == Rnd::Even => {
                        self.map64(r, m, |x, y, z| fl::f64_op(F::$o, Rnd::Even, x, y, z));
                    })*
                    _ => self.map64(r, m, |x, y, z| fl::f64_op(op, rnd, x, y, z)),
                }
            };
        }
        fast!(Add Sub Mul Fma Div)
    }

    pub(super) fn f16(&mut self, op: F, bf: bool, mode: Mode, r: [R; 4], m: u32) {
        if mode == Mode::PLAIN {
            return self.map32(r, m, |x, y, z| fl::f16_fast(op, bf, x & 0xffff, y & 0xffff, z & 0xffff));
        }
        self.map32(r, m, |x, y, z| fl::f16_op(op, bf, mode, x & 0xffff, y & 0xffff, z & 0xffff));
    }

    pub(super) fn f16x2(&mut self, op: F, bf: bool, mode: Mode, r: [R; 4], m: u32) {
        if mode == Mode::PLAIN {
            return self.map32(r, m, |x, y, z| {
                let lo = fl::f16_fast(op, bf, x & 0xffff, y & 0xffff, z & 0xffff);
                lo | (fl::f16_fast(op, bf, x >> 16, y >> 16, z >> 16) << 16)
            });
        }
        self.map32(r, m, |x, y, z| {
            let lo = fl::f16_op(op, bf, mode, x & 0xffff, y & 0xffff, z & 0xffff);
            lo | (fl::f16_op(op, bf, mode, x >> 16, y >> 16, z >> 16) << 16)
        });
    }

    pub(super) fn f32x2(&mut self, op: F, mode: Mode, r: [R; 4], m: u32) {
        self.map64(r, m, |x, y, z| {
            let lo = fl::f32_op(op, mode, x as u32, y as u32, z as u32);
            let hi = fl::f32_op(op, mode, (x >> 32) as u32, (y >> 32) as u32, (z >> 32) as u32);
            u64::from(lo) | (u64::from(hi) << 32)
        });
    }

    pub(super) fn testp(&mut self, wide: bool, kind: TestKind, p: R, a: R, m: u32) {
        let test = |x: f64, subnormal: bool| match kind {
            TestKind::Finite => x.is_finite(),
            TestKind::Infinite => x.is_infinite(),
            TestKind::Number => !x.is_nan(),
            TestKind::NotANumber => x.is_nan(),
            // Zero is normal for testp.
            TestKind::Normal => x.is_finite() && !subnormal,
            TestKind::Subnormal => subnormal,
        };
        let v = if wide {
            let x = &self.r64[a as usize];
            ballot(|l| test(f64::from_bits(x[l]), f64::from_bits(x[l]).is_subnormal()))
        } else {
            let x = &self.r32[a as usize];
            ballot(|l| test(f64::from(f32::from_bits(x[l])), f32::from_bits(x[l]).is_subnormal()))
        };
        self.set_pred(p, v, m);
    }

    pub(super) fn setp(&mut self, s: &Setp, m: u32) {
        let t = self.compare(s, 0);
        let other = if s.packed { self.compare(s, 16) } else { !t };
        let c = self.p[s.c as usize] ^ if s.c_not { u32::MAX } else { 0 };
        let join = |t: u32| match s.join {
            Bool::And => t & c,
            Bool::Or => t | c,
            Bool::Xor => t ^ c,
            _ => t,
        };
        self.set_pred(s.p, join(t), m);
        self.set_pred(s.q, join(other), m);
    }

    /// The comparison of each lane; of 16-bit floats those from bit `shift` on.
    fn compare(&self, s: &Setp, shift: u32) -> u32 {
        let (a, b) = (s.a as usize, s.b as usize);
        macro_rules! cmp {
            ($x:expr, $y:expr, $nan:expr) => {{
                let (x, y) = ($x, $y);
                let nan = $nan;
                let ordered = match s.cmp {
                    Cmp::Eq => ballot(|l| x(l) == y(l)),
                    Cmp::Ne => ballot(|l| x(l) < y(l) || x(l) > y(l)),
                    Cmp::Lt => ballot(|l| x(l) < y(l)),
                    Cmp::Le => ballot(|l| x(l) <= y(l)),
                    Cmp::Gt => ballot(|l| x(l) > y(l)),
                    Cmp::Ge => ballot(|l| x(l) >= y(l)),
                    Cmp::Num => ballot(|l| !nan(l)),
                    Cmp::Nan => ballot(|l| nan(l)),
                };
                if s.unordered { ordered | ballot(|l| nan(l)) } else { ordered }
            }};
        }
        let r = &self.r32;
        let q = &self.r64;
        let no = |_: usize| false;
        match s.ty {
            Ty::U8 | Ty::U16 | Ty::U32 => {
                let (x, y) = (&r[a], &r[b]);
                cmp!(|l: usize| x[l], |l: usize| y[l], no)
            }
            Ty::S32 => {
                let (x, y) = (&r[a], &r[b]);
                cmp!(|l: usize| x[l] as i32, |l: usize| y[l] as i32, no)
            }
            Ty::S8 | Ty::S16 => {
                let (x, y) = (&r[a], &r[b]);
                cmp!(|l: usize| x[l] as i16, |l: usize| y[l] as i16, no)
            }
            Ty::U64 => {
                let (x, y) = (&q[a], &q[b]);
                cmp!(|l: usize| x[l], |l: usize| y[l], no)
            }
            Ty::S64 => {
                let (x, y) = (&q[a], &q[b]);
                cmp!(|l: usize| x[l] as i64, |l: usize| y[l] as i64, no)
            }
            Ty::F64 => {
                let (x, y) = (q[a].map(f64::from_bits), q[b].map(f64::from_bits));
                cmp!(|l: usize| x[l], |l: usize| y[l], |l: usize| x[l].is_nan() || y[l].is_nan())
            }
            ty => {
                let load: fn(u32) -> f32 = match ty {
                    Ty::F16 => |h| fl::half_to_f32(h & 0xffff),
                    Ty::Bf16 => |h| fl::bf16_to_f32(h & 0xffff),
                    _ => f32::from_bits,
                };
                let halves = |v: &[u32; 32]| v.map(|h| load(h >> shift));
                let (x, y) =
                    if ty == Ty::F32 { (r[a].map(f32::from_bits), r[b].map(f32::from_bits)) } else { (halves(&r[a]), halves(&r[b])) };
                cmp!(|l: usize| x[l], |l: usize| y[l], |l: usize| x[l].is_nan() || y[l].is_nan())
            }
        }
    }

    pub(super) fn pred(&mut self, op: Bool, [d, a, b]: [R; 3], m: u32) {
        let (x, y) = (self.p[a as usize], self.p[b as usize]);
        let v = match op {
            Bool::And => x & y,
            Bool::Or => x | y,
            Bool::Xor => x ^ y,
            Bool::Not => !x,
            Bool::Mov => x,
        };
        self.set_pred(d, v, m);
    }

    pub(super) fn selp32(&mut self, [d, a, b, p]: [R; 4], neg: bool, m: u32) {
        let k = self.p[p as usize] ^ if neg { u32::MAX } else { 0 };
        let mut v = self.r32[b as usize];
        put32(&mut v, &self.r32[a as usize], k);
        put32(&mut self.r32[d as usize], &v, m);
    }

    pub(super) fn selp64(&mut self, [d, a, b, p]: [R; 4], neg: bool, m: u32) {
        let k = self.p[p as usize] ^ if neg { u32::MAX } else { 0 };
        let mut v = self.r64[b as usize];
        put64(&mut v, &self.r64[a as usize], k);
        put64(&mut self.r64[d as usize], &v, m);
    }

    pub(super) fn slct(&mut self, wide: bool, float: bool, [d, a, b, c]: [R; 4], m: u32) {
        let z = &self.r32[c as usize];
        let k = if float { ballot(|l| f32::from_bits(z[l]) >= 0.0) } else { ballot(|l| z[l] as i32 >= 0) };
        if wide {
            let mut v = self.r64[b as usize];
            put64(&mut v, &self.r64[a as usize], k);
            put64(&mut self.r64[d as usize], &v, m);
        } else {
            let mut v = self.r32[b as usize];
            put32(&mut v, &self.r32[a as usize], k);
            put32(&mut self.r32[d as usize], &v, m);
        }
    }

    pub(super) fn pack64(&mut self, [d, lo, hi]: [R; 3], m: u32) {
        let (x, y) = (&self.r32[lo as usize], &self.r32[hi as usize]);
        let v = lanes64(|l| u64::from(x[l]) | (u64::from(y[l]) << 32));
        put64(&mut self.r64[d as usize], &v, m);
    }

    pub(super) fn unpack64(&mut self, [lo, hi, a]: [R; 3], m: u32) {
        let x = self.r64[a as usize];
        if lo != R::MAX {
            put32(&mut self.r32[lo as usize], &lanes32(|l| x[l] as u32), m);
        }
        if hi != R::MAX {
            put32(&mut self.r32[hi as usize], &lanes32(|l| (x[l] >> 32) as u32), m);
        }
    }

    pub(super) fn pack32(&mut self, [d, lo, hi]: [R; 3], m: u32) {
        self.map32([d, lo, hi, lo], m, |x, y, _| (x & 0xffff) | (y << 16));
    }

    pub(super) fn unpack32(&mut self, [lo, hi, a]: [R; 3], m: u32) {
        let x = self.r32[a as usize];
        if lo != R::MAX {
            put32(&mut self.r32[lo as usize], &x.map(|v| v & 0xffff), m);
        }
        if hi != R::MAX {
            put32(&mut self.r32[hi as usize], &x.map(|v| v >> 16), m);
        }
    }

    pub(super) fn pack64x4(&mut self, r: [R; 5], m: u32) {
        let [d, s @ ..] = r.map(|i| i as usize);
        let v = lanes64(|l| (0..4).fold(0, |v, i| v | (u64::from(self.r32[s[i]][l] & 0xffff) << (16 * i))));
        put64(&mut self.r64[d], &v, m);
    }

    pub(super) fn unpack64x4(&mut self, r: [R; 5], m: u32) {
        let x = self.r64[r[4] as usize];
        for (i, d) in r[..4].iter().enumerate() {
            if *d != R::MAX {
                put32(&mut self.r32[*d as usize], &lanes32(|l| (x[l] >> (16 * i)) as u32 & 0xffff), m);
            }
        }
    }

    pub(super) fn cvt(&mut self, c: &Cvt, m: u32) {
        let a = c.a as usize;
        let wide_in = c.from.bits() == 64;
        let wide_out = c.dst_bits == 64;
        // The conversions that indexing and mixed precision are made of.
        if !c.pack && !c.integral && !c.satfinite && !c.relu && c.mode == Mode::PLAIN && wide_out == (c.to.bits() == 64) {
            macro_rules! narrow {
                ($f:expr) => {{
                    let v = self.r32[a].map($f);
                    return put32(&mut self.r32[c.d as usize], &v, m);
                }};
            }
            match (c.from, c.to) {
                (Ty::U32, Ty::U64 | Ty::S64) => {
                    let v = self.r32[a].map(u64::from);
                    return put64(&mut self.r64[c.d as usize], &v, m);
                }
                (Ty::S32, Ty::U64 | Ty::S64) => {
                    let v = self.r32[a].map(|x| i64::from(x as i32) as u64);
                    return put64(&mut self.r64[c.d as usize], &v, m);
                }
                (Ty::U64 | Ty::S64, Ty::U32 | Ty::S32) => {
                    let v = self.r64[a].map(|x| x as u32);
                    return put32(&mut self.r32[c.d as usize], &v, m);
                }
                (Ty::F16, Ty::F32) => narrow!(|x| fl::bits32(fl::half_to_f32(x & 0xffff))),
                (Ty::Bf16, Ty::F32) => narrow!(|x| fl::bits32(fl::bf16_to_f32(x & 0xffff))),
                (Ty::F32, Ty::F16) => narrow!(|x| fl::f32_to_half(f32::from_bits(x))),
                (Ty::F32, Ty::Bf16) => narrow!(|x| fl::f32_to_bf16(f32::from_bits(x))),
                (Ty::S32, Ty::F32) => narrow!(|x| (x as i32 as f32).to_bits()),
                (Ty::U32, Ty::F32) => narrow!(|x| (x as f32).to_bits()),
                _ => {}
            }
        }
        let bare = !c.mode.ftz && !c.mode.sat && !c.satfinite && !c.relu && !c.pack && !c.integral;
        if let (Ty::F32, Ty::Tf32, Rnd::Even | Rnd::Away, true) = (c.from, c.to, c.mode.rnd, bare) {
            let v = self.r32[a].map(|x| fl::f32_to_tf32(x, c.mode.rnd));
            return put32(&mut self.r32[c.d as usize], &v, m);
        }
        let one = |raw: u64| convert(c, raw);
        let plain = c.mode == Mode::PLAIN && !c.satfinite && !c.relu;
        if c.pack && plain && matches!(c.to, Ty::F16 | Ty::Bf16) {
            let (x, y) = (self.r32[a].map(f32::from_bits), self.r32[c.b as usize].map(f32::from_bits));
            let v = if c.to == Ty::F16 {
                lanes32(|l| (fl::f32_to_half(x[l]) << 16) | fl::f32_to_half(y[l]))
            } else {
                lanes32(|l| (fl::f32_to_bf16(x[l]) << 16) | fl::f32_to_bf16(y[l]))
            };
            put32(&mut self.r32[c.d as usize], &v, m);
        } else if c.pack {
            let b = c.b as usize;
            let half = c.to.bits();
            let v = lanes32(|l| {
                let hi = one(u64::from(self.r32[a][l]));
                let lo = one(u64::from(self.r32[b][l]));
                ((hi << half) | lo) as u32
            });
            put32(&mut self.r32[c.d as usize], &v, m);
        } else if wide_out {
            let v = if wide_in { self.r64[a].map(one) } else { self.r32[a].map(|x| one(u64::from(x))) };
            put64(&mut self.r64[c.d as usize], &v, m);
        } else {
            let v = if wide_in { self.r64[a].map(|x| one(x) as u32) } else { self.r32[a].map(|x| one(u64::from(x)) as u32) };
            put32(&mut self.r32[c.d as usize], &v, m);
        }
    }

    /// `cvt.f16x2.e4m3x2` and `.e5m2x2`: both halves widen.
    pub(super) fn cvt_unpack_x2(&mut self, c: &Cvt, m: u32) {
        let v = self.r32[c.a as usize].map(|x| {
            let lo = convert(c, u64::from(x & 0xff)) as u32;
            lo | ((convert(c, u64::from(x >> 8 & 0xff)) as u32) << 16)
        });
        put32(&mut self.r32[c.d as usize], &v, m);
    }
}

fn format(ty: Ty) -> Option<fl::Format> {
    Some(match ty {
        Ty::F16 => fl::F16,
        Ty::Bf16 => fl::BF16,
        Ty::Tf32 => fl::TF32,
        Ty::E4m3 => fl::E4M3,
        Ty::E5m2 => fl::E5M2,
        _ => return None,
    })
}

/// Rounds to an integral value in direction `rnd`.
fn integral(x: f64, rnd: Rnd) -> f64 {
    match rnd {
        Rnd::Even => x.round_ties_even(),
        Rnd::Zero => x.trunc(),
        Rnd::Down => x.floor(),
        Rnd::Up => x.ceil(),
        Rnd::Away => x.round(),
    }
}

/// One value of one conversion; the result is in the low bits, extended to the register's width.
fn convert(c: &Cvt, raw: u64) -> u64 {
    if !c.from.is_float() {
        let v: i128 = match c.from {
            Ty::U8 => i128::from(raw as u8),
            Ty::S8 => i128::from(raw as i8),
            Ty::U16 => i128::from(raw as u16),
            Ty::S16 => i128::from(raw as i16),
            Ty::U32 => i128::from(raw as u32),
            Ty::S32 => i128::from(raw as i32),
            Ty::U64 => i128::from(raw),
            _ => i128::from(raw as i64),
        };
        return if c.to.is_float() { int_to_float(c, v) } else { int_to_int(c, v) };
    }
    let mut x = match c.from {
        Ty::F32 | Ty::Tf32 => f64::from(f32::from_bits(raw as u32)),
        Ty::F64 => f64::from_bits(raw),
        ty => format(ty).map_or(0.0, |f| f.value(raw as u32)),
    };
    if c.mode.ftz && c.from == Ty::F32 && f32::from_bits(raw as u32).is_subnormal() {
        x = 0f64.copysign(x);
    }
    if !c.to.is_float() {
        return float_to_int(c, x);
    }
    if c.integral {
        x = integral(x, c.mode.rnd);
    }
    if c.mode.sat {
        x = if x.is_nan() { 0.0 } else { x.clamp(0.0, 1.0) };
    }
    if c.relu && !x.is_nan() {
        x = x.max(0.0);
    }
    let rnd = if c.integral { Rnd::Even } else { c.mode.rnd };
    match c.to {
        Ty::F64 => x.to_bits(),
        Ty::F32 => {
            let r = fl::narrow(x, rnd);
            let r = if c.mode.ftz { fl::flush(r) } else { r };
            u64::from(fl::bits32(r))
        }
        Ty::Tf32 => {
            let bits = fl::TF32.round(x, Ordering::Equal, rnd, c.satfinite);
            if x.is_nan() { u64::from(fl::NAN32) } else { u64::from(bits) << 13 }
        }
        ty => {
            let f = format(ty).unwrap_or(fl::F16);
            u64::from(f.round(x, Ordering::Equal, rnd, c.satfinite))
        }
    }
}

fn limits(ty: Ty) -> (i128, i128) {
    let bits = ty.bits();
    if ty.is_signed() { (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1) } else { (0, (1i128 << bits) - 1) }
}

/// Cuts to the type, then extends to the register.
fn fit(v: i128, ty: Ty, dst_bits: u32) -> u64 {
    let bits = ty.bits();
    let low = (v as u64) & (u64::MAX >> (64 - bits));
    let ext = if ty.is_signed() { ((low << (64 - bits)) as i64 >> (64 - bits)) as u64 } else { low };
    ext & (u64::MAX >> (64 - dst_bits))
}

fn int_to_int(c: &Cvt, v: i128) -> u64 {
    let (lo, hi) = limits(c.to);
    let v = if c.mode.sat { v.clamp(lo, hi) } else { v };
    fit(v, c.to, c.dst_bits)
}

fn int_to_float(c: &Cvt, v: i128) -> u64 {
    let to64 = v as f64;
    let exact = v.cmp(&(to64 as i128));
    match c.to {
        Ty::F64 => {
            let r = match (c.mode.rnd, exact) {
                (Rnd::Up, Ordering::Greater) => to64.next_up(),
                (Rnd::Down, Ordering::Less) => to64.next_down(),
                (Rnd::Zero, Ordering::Less) if to64 > 0.0 => to64.next_down(),
                (Rnd::Zero, Ordering::Greater) if to64 < 0.0 => to64.next_up(),
                _ => to64,
            };
            r.to_bits()
        }
        Ty::F32 => {
            let near = v as f32;
            let r = match (c.mode.rnd, v.cmp(&(near as i128))) {
                (Rnd::Up, Ordering::Greater) => near.next_up(),
                (Rnd::Down, Ordering::Less) => near.next_down(),
                (Rnd::Zero, Ordering::Less) if near > 0.0 => near.next_down(),
                (Rnd::Zero, Ordering::Greater) if near < 0.0 => near.next_up(),
                _ => near,
            };
            u64::from(r.to_bits())
        }
        ty => {
            let f = format(ty).unwrap_or(fl::F16);
            u64::from(f.round(to64, exact, c.mode.rnd, c.satfinite))
        }
    }
}

/// Out-of-range values clamp; NaN is 0, or the top bit alone if f64 or a 64-bit result is involved.
fn float_to_int(c: &Cvt, x: f64) -> u64 {
    let (lo, hi) = limits(c.to);
    if x.is_nan() {
        let wide = c.to.bits() == 64 || c.from == Ty::F64;
        let v = if wide { 1i128 << (c.to.bits() - 1) } else { 0 };
        return fit(v, c.to, c.dst_bits);
    }
    let v = integral(x, c.mode.rnd) as i128;
    fit(v.clamp(lo, hi), c.to, c.dst_bits)
}
