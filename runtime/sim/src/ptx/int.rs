//! Integer instructions, one lane at a time.
//!
//! Each function is inlined where the operation is a constant, so that the 32-lane loop around it
//! vectorises. Shift amounts clamp as PTX says; division by zero gives all ones, the remainder gives the
//! dividend (PTX leaves both unspecified).

use super::isa::I;

#[inline(always)]
pub(super) fn i32_op(op: I, x: u32, y: u32, z: u32) -> u32 {
    let (sx, sy) = (x as i32, y as i32);
    match op {
        I::Add => x.wrapping_add(y),
        I::Sub => x.wrapping_sub(y),
        I::MulLo => x.wrapping_mul(y),
        I::MulHiS => ((i64::from(sx) * i64::from(sy)) >> 32) as u32,
        I::MulHiU => ((u64::from(x) * u64::from(y)) >> 32) as u32,
        I::MadLo => x.wrapping_mul(y).wrapping_add(z),
        I::MadHiS => (((i64::from(sx) * i64::from(sy)) >> 32) as u32).wrapping_add(z),
        I::MadHiU => (((u64::from(x) * u64::from(y)) >> 32) as u32).wrapping_add(z),
        I::DivS => {
            if sy == 0 {
                u32::MAX
            } else {
                sx.wrapping_div(sy) as u32
            }
        }
        I::DivU => x.checked_div(y).unwrap_or(u32::MAX),
        I::RemS => {
            if sy == 0 {
                x
            } else {
                sx.wrapping_rem(sy) as u32
            }
        }
        I::RemU => x.checked_rem(y).unwrap_or(x),
        I::MinS => sx.min(sy) as u32,
        I::MinU => x.min(y),
        I::MaxS => sx.max(sy) as u32,
        I::MaxU => x.max(y),
        I::And => x & y,
        I::Or => x | y,
        I::Xor => x ^ y,
        I::Not => !x,
        I::Neg => x.wrapping_neg(),
        I::Abs => sx.wrapping_abs() as u32,
        I::Cnot => u32::from(x == 0),
        I::Shl => {
            if y > 31 {
                0
            } else {
                x << y
            }
        }
        I::ShrS => (sx >> y.min(31)) as u32,
        I::ShrU => {
            if y > 31 {
                0
            } else {
                x >> y
            }
        }
        I::Popc => x.count_ones(),
        I::Clz => x.leading_zeros(),
        I::Brev => x.reverse_bits(),
        I::BfindU => {
            if x == 0 {
                u32::MAX
            } else {
                31 - x.leading_zeros()
            }
        }
        I::BfindS => i32_op(I::BfindU, if sx < 0 { !x } else { x }, 0, 0),
        I::BfindShiftU => {
            if x == 0 {
                u32::MAX
            } else {
                x.leading_zeros()
            }
        }
        I::BfindShiftS => i32_op(I::BfindShiftU, if sx < 0 { !x } else { x }, 0, 0),
        I::BfeS | I::BfeU => bfe(u64::from(x), y, z, 31, op == I::BfeS) as u32,
        I::Prmt => prmt(x, y, z),
        I::ShfLWrap => funnel(x, y).rotate_funnel(z & 31),
        I::ShfLClamp => funnel(x, y).rotate_funnel(z.min(32)),
        I::ShfRWrap => (funnel(x, y) >> (z & 31)) as u32,
        I::ShfRClamp => (funnel(x, y) >> z.min(32)) as u32,
        I::SzextS | I::SzextU | I::SzextClampS | I::SzextClampU => szext(op, x, y),
        I::Bmsk => mask(x & 31, y & 31),
        I::BmskClamp => mask(x.min(32), y.min(32)),
        I::SadS => sx.abs_diff(sy).wrapping_add(z),
        I::SadU => x.abs_diff(y).wrapping_add(z),
        I::Dp4aSS => dot4(x, y, z, true, true),
        I::Dp4aSU => dot4(x, y, z, true, false),
        I::Dp4aUS => dot4(x, y, z, false, true),
        I::Dp4aUU => dot4(x, y, z, false, false),
        I::AddSatS => sx.saturating_add(sy) as u32,
        I::SubSatS => sx.saturating_sub(sy) as u32,
    }
}

/// `{hi: y, lo: x}` as one word.
#[inline(always)]
fn funnel(x: u32, y: u32) -> u64 {
    (u64::from(y) << 32) | u64::from(x)
}

trait Funnel {
    /// High word after a left shift by up to 32.
    fn rotate_funnel(self, by: u32) -> u32;
}

impl Funnel for u64 {
    #[inline(always)]
    fn rotate_funnel(self, by: u32) -> u32 {
        if by >= 32 { self as u32 } else { ((self << by) >> 32) as u32 }
    }
}

fn szext(op: I, x: u32, n: u32) -> u32 {
    let wrap = matches!(op, I::SzextS | I::SzextU);
    let n = if wrap { n & 31 } else { n };
    if n >= 32 {
        return x;
    }
    if n == 0 {
        return 0;
    }
    let low = x & ((1 << n) - 1);
    if matches!(op, I::SzextS | I::SzextClampS) { (((low << (32 - n)) as i32) >> (32 - n)) as u32 } else { low }
}

fn mask(pos: u32, len: u32) -> u32 {
    let ones = if len >= 32 { u64::from(u32::MAX) } else { (1u64 << len) - 1 };
    (ones << pos) as u32
}

fn dot4(x: u32, y: u32, z: u32, sx: bool, sy: bool) -> u32 {
    let byte = |v: u32, i: u32, s: bool| {
        let b = (v >> (8 * i)) as u8;
        if s { i32::from(b as i8) } else { i32::from(b) }
    };
    (0..4).fold(z, |acc, i| acc.wrapping_add((byte(x, i, sx) * byte(y, i, sy)) as u32))
}

fn prmt(a: u32, b: u32, sel: u32) -> u32 {
    let bytes = funnel(a, b);
    (0..4).fold(0, |out, i| {
        let s = (sel >> (4 * i)) & 0xf;
        let byte = (bytes >> (8 * (s & 7))) as u8;
        let byte = if s & 8 != 0 { ((byte as i8) >> 7) as u8 } else { byte };
        out | (u32::from(byte) << (8 * i))
    })
}

/// Bit field extract; `msb` is 31 or 63.
pub(super) fn bfe(a: u64, pos: u32, len: u32, msb: u32, signed: bool) -> u64 {
    let (pos, len) = (pos & 0xff, len & 0xff);
    if len == 0 {
        return 0;
    }
    let bit = |i: u32| (a >> i) & 1;
    let sign = signed && bit((pos + len - 1).min(msb)) == 1;
    let low = if pos > msb { 0 } else { (a & (u64::MAX >> (63 - msb))) >> pos };
    let width = len.min(msb + 1);
    let ones = if width == 64 { u64::MAX } else { (1 << width) - 1 };
    // Bits beyond the source's top are the sign too.
    let have = if pos > msb { 0 } else { (msb + 1 - pos).min(width) };
    let have_ones = if have == 64 { u64::MAX } else { (1 << have) - 1 };
    let v = low & ones & have_ones;
    if sign { v | !have_ones } else { v }
}

/// Bit field insert of `a`'s low bits into `b`.
pub(super) fn bfi(a: u64, b: u64, pos: u32, len: u32, msb: u32) -> u64 {
    let (pos, len) = (pos & 0xff, len & 0xff);
    if pos > msb || len == 0 {
        return b;
    }
    let width = len.min(msb + 1 - pos);
    let ones = if width == 64 { u64::MAX } else { (1 << width) - 1 } << pos;
    (b & !ones) | ((a << pos) & ones)
}

pub(super) fn lop3(lut: u8, x: u32, y: u32, z: u32) -> u32 {
    (0..8u32).filter(|i| lut >> i & 1 == 1).fold(0, |out, i| {
        let pick = |v: u32, bit: u32| if i & bit != 0 { v } else { !v };
        out | (pick(x, 4) & pick(y, 2) & pick(z, 1))
    })
}

#[inline(always)]
pub(super) fn i64_op(op: I, x: u64, y: u64, z: u64) -> u64 {
    let (sx, sy) = (x as i64, y as i64);
    match op {
        I::Add => x.wrapping_add(y),
        I::Sub => x.wrapping_sub(y),
        I::MulLo => x.wrapping_mul(y),
        I::MulHiS => ((i128::from(sx) * i128::from(sy)) >> 64) as u64,
        I::MulHiU => ((u128::from(x) * u128::from(y)) >> 64) as u64,
        I::MadLo => x.wrapping_mul(y).wrapping_add(z),
        I::MadHiS => i64_op(I::MulHiS, x, y, 0).wrapping_add(z),
        I::MadHiU => i64_op(I::MulHiU, x, y, 0).wrapping_add(z),
        I::DivS => {
            if sy == 0 {
                u64::MAX
            } else {
                sx.wrapping_div(sy) as u64
            }
        }
        I::DivU => x.checked_div(y).unwrap_or(u64::MAX),
        I::RemS => {
            if sy == 0 {
                x
            } else {
                sx.wrapping_rem(sy) as u64
            }
        }
        I::RemU => x.checked_rem(y).unwrap_or(x),
        I::MinS => sx.min(sy) as u64,
        I::MinU => x.min(y),
        I::MaxS => sx.max(sy) as u64,
        I::MaxU => x.max(y),
        I::And => x & y,
        I::Or => x | y,
        I::Xor => x ^ y,
        I::Not => !x,
        I::Neg => x.wrapping_neg(),
        I::Abs => sx.wrapping_abs() as u64,
        I::Cnot => u64::from(x == 0),
        I::Brev => x.reverse_bits(),
        I::SadS => sx.abs_diff(sy).wrapping_add(z),
        I::SadU => x.abs_diff(y).wrapping_add(z),
        // Decoding admits no other operation on 64 bits.
        _ => 0,
    }
}

#[inline(always)]
pub(super) fn shift64(op: I, x: u64, by: u32) -> u64 {
    match op {
        I::Shl => {
            if by > 63 {
                0
            } else {
                x << by
            }
        }
        I::ShrS => ((x as i64) >> by.min(63)) as u64,
        _ => {
            if by > 63 {
                0
            } else {
                x >> by
            }
        }
    }
}

pub(super) fn count64(op: I, x: u64) -> u32 {
    let top = |x: u64| if x == 0 { u32::MAX } else { 63 - x.leading_zeros() };
    let fold = |x: u64| if (x as i64) < 0 { !x } else { x };
    let shift = |p: u32| if p == u32::MAX { p } else { 63 - p };
    match op {
        I::Popc => x.count_ones(),
        I::Clz => x.leading_zeros(),
        I::BfindU => top(x),
        I::BfindS => top(fold(x)),
        I::BfindShiftU => shift(top(x)),
        _ => shift(top(fold(x))),
    }
}

/// 16-bit operation through the 32-bit one.
pub(super) fn i16_op(op: I, signed: bool, x: u32, y: u32, z: u32) -> u32 {
    let ext = |v: u32| if signed { i32::from(v as u16 as i16) as u32 } else { v & 0xffff };
    let (a, b, c) = (ext(x), ext(y), ext(z));
    let r = match op {
        I::MulHiS | I::MulHiU => a.wrapping_mul(b) >> 16,
        I::MadHiS | I::MadHiU => (a.wrapping_mul(b) >> 16).wrapping_add(c),
        // The amount of a shift is 32 bits whatever the operand.
        I::Shl | I::ShrS | I::ShrU => i32_op(op, a, y, 0),
        _ => i32_op(op, a, b, c),
    };
    r & 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bit_fields() {
        assert_eq!(bfe(0xabcd_1234, 8, 8, 31, false), 0x12);
        assert_eq!(bfe(0xabcd_9234, 8, 8, 31, true) as u32, 0xffff_ff92);
        assert_eq!(bfe(0x8000_0000, 28, 16, 31, true) as u32, 0xffff_fff8);
        assert_eq!(bfe(0xffff_ffff, 40, 4, 31, true) as u32, 0xffff_ffff);
        assert_eq!(bfe(u64::MAX, 0, 64, 63, false), u64::MAX);
        assert_eq!(bfi(0xf, 0, 30, 8, 31) as u32, 0xc000_0000);
        assert_eq!(bfi(0xff, 0xffff_0000_1234, 8, 8, 63), 0xffff_0000_ff34);
    }

    #[test]
    fn byte_and_logic_selection() {
        assert_eq!(prmt(0x3322_1100, 0x7766_5544, 0x7531), 0x7755_3311);
        assert_eq!(prmt(0x80, 0, 0x1118), 0xff);
        assert_eq!(lop3(0x80, 0b1100, 0b1010, 0b0110) & 0xf, 0b1000 & 0b0110);
        assert_eq!(lop3(0x96, 5, 9, 3), 5 ^ 9 ^ 3);
        assert_eq!(i32_op(I::ShfLWrap, 0x8000_0000, 1, 1), 3);
        assert_eq!(i32_op(I::ShfLClamp, 7, 1, 40), 7);
        assert_eq!(i32_op(I::ShfRClamp, 7, 9, 32), 9);
        assert_eq!(i32_op(I::Dp4aSU, 0xff_ff_ff_ff, 0x01_02_03_04, 0) as i32, -10);
    }

    #[test]
    fn small_and_wide_shifts() {
        assert_eq!(i16_op(I::ShrS, true, 0x8000, 40, 0), 0xffff);
        assert_eq!(i16_op(I::Shl, false, 1, 16, 0), 0);
        assert_eq!(i16_op(I::MulHiS, true, 0xffff, 2, 0), 0xffff);
        assert_eq!(shift64(I::ShrS, 1 << 63, 70), u64::MAX);
        assert_eq!(count64(I::BfindS, (-2i64) as u64), 0);
    }
}
