//! Warp matrix multiply-accumulate: `d = a·b + c` on fragments spread over 32 lanes.
//!
//! Fragment layouts are those of the PTX ISA ("Warp-level matrix instructions"); with `g = lane / 4`,
//! `t = lane % 4` and `v` elements per 32-bit register:
//!
//! ```text
//! A, register r, element e:   row g + 8·(r mod 2)   column v·t + e + 4v·(r / 2)
//! B, register r, element e:   row v·t + e + 4v·r    column g
//! C, element i:               row g + 8·(i / 2)     column 2t + i mod 2
//! ```
//!
//! Products are exact in f32. Sums run over k in ascending order from c, each rounded to f32 (hardware's
//! order and internal precision are unspecified); f16 results are rounded once at the end. tf32 operands
//! lose their low 13 bits.

use super::alu::Regs;
use super::float as fl;
use super::isa::{Mma, MmaTy};
use std::cmp::Ordering;

pub(super) fn mma(r: &mut Regs, op: &Mma) {
    match op.a_ty {
        MmaTy::F64 => mma_f64(r, op),
        MmaTy::S8 | MmaTy::U8 => mma_i8(r, op),
        MmaTy::F16 => mma_f32(r, op, true, fl::half_to_f32),
        MmaTy::Bf16 => mma_f32(r, op, true, fl::bf16_to_f32),
        MmaTy::Tf32 => mma_f32(r, op, false, |x| f32::from_bits(x & 0xffff_e000)),
    }
}

/// `packed`: two elements in a register, which `load` converts.
#[inline(always)]
fn mma_f32(r: &mut Regs, op: &Mma, packed: bool, load: impl Fn(u32) -> f32) {
    let mut a = [[0f32; 16]; 16];
    let mut b = [[0f32; 8]; 16];
    let mut c = [[0f32; 8]; 16];
    // Lane 4g + t, in loops of constant length over parts that are cut out once.
    for (i, reg) in op.a.iter().enumerate() {
        let x = &r.r32[*reg as usize];
        for (g, row) in a[8 * (i % 2)..][..8].iter_mut().enumerate() {
            if packed {
                let to = &mut row[8 * (i / 2)..][..8];
                for t in 0..4 {
                    (to[2 * t], to[2 * t + 1]) = (load(x[4 * g + t] & 0xffff), load(x[4 * g + t] >> 16));
                }
            } else {
                let to = &mut row[4 * (i / 2)..][..4];
                for t in 0..4 {
                    to[t] = load(x[4 * g + t]);
                }
            }
        }
    }
    for (i, reg) in op.b.iter().enumerate() {
        let x = &r.r32[*reg as usize];
        if packed {
            let rows = &mut b[8 * i..][..8];
            for (l, x) in x.iter().enumerate() {
                let (g, t) = (l / 4, l % 4);
                (rows[2 * t][g], rows[2 * t + 1][g]) = (load(x & 0xffff), load(x >> 16));
            }
        } else {
            let rows = &mut b[4 * i..][..4];
            for (l, x) in x.iter().enumerate() {
                rows[l % 4][l / 4] = load(*x);
            }
        }
    }
    for (i, reg) in op.c.iter().enumerate() {
        let x = &r.r32[*reg as usize];
        if op.c_f16 {
            for (g, row) in c[8 * i..][..8].iter_mut().enumerate() {
                for t in 0..4 {
                    row[2 * t] = fl::half_to_f32(x[4 * g + t] & 0xffff);
                    row[2 * t + 1] = fl::half_to_f32(x[4 * g + t] >> 16);
                }
            }
        } else {
            for (g, row) in c[8 * (i / 2)..][..8].iter_mut().enumerate() {
                for t in 0..4 {
                    row[2 * t + i % 2] = f32::from_bits(x[4 * g + t]);
                }
            }
        }
    }
    match op.k {
        4 => sums::<4>(&a, &b, &mut c),
        8 => sums::<8>(&a, &b, &mut c),
        _ => sums::<16>(&a, &b, &mut c),
    }
    let half = |v: f32| fl::F16.round(f64::from(v), Ordering::Equal, super::isa::Rnd::Even, false);
    for (i, reg) in op.d.iter().enumerate() {
        let x = &mut r.r32[*reg as usize];
        let rows = if op.d_f16 { &c[8 * i..][..8] } else { &c[8 * (i / 2)..][..8] };
        for (g, row) in rows.iter().enumerate() {
            for t in 0..4 {
                x[4 * g + t] = if op.d_f16 { half(row[2 * t]) | (half(row[2 * t + 1]) << 16) } else { fl::bits32(row[2 * t + i % 2]) };
            }
        }
    }
}

/// `c += a·b` over the first `K` columns of a: each row of c stays in registers.
#[inline(always)]
fn sums<const K: usize>(a: &[[f32; 16]; 16], b: &[[f32; 8]; 16], c: &mut [[f32; 8]; 16]) {
    for (row, acc) in a.iter().zip(c) {
        let mut sum = *acc;
        for k in 0..K {
            for (s, y) in sum.iter_mut().zip(&b[k]) {
                *s += row[k] * y;
            }
        }
        *acc = sum;
    }
}

fn mma_i8(r: &mut Regs, op: &Mma) {
    let byte = |v: u32, e: usize, ty: MmaTy| {
        let b = (v >> (8 * e)) as u8;
        if ty == MmaTy::S8 { i64::from(b as i8) } else { i64::from(b) }
    };
    let mut a = [[0i64; 32]; 16];
    let mut b = [[0i64; 8]; 32];
    let mut c = [[0i64; 8]; 16];
    for l in 0..32 {
        let (g, t) = (l / 4, l % 4);
        for e in 0..4 {
            for (i, reg) in op.a.iter().enumerate() {
                a[g + 8 * (i % 2)][4 * t + e + 16 * (i / 2)] = byte(r.r32[*reg as usize][l], e, op.a_ty);
            }
            for (i, reg) in op.b.iter().enumerate() {
                b[4 * t + e + 16 * i][g] = byte(r.r32[*reg as usize][l], e, op.b_ty);
            }
        }
        for (i, reg) in op.c.iter().enumerate() {
            c[g + 8 * (i / 2)][2 * t + i % 2] = i64::from(r.r32[*reg as usize][l] as i32);
        }
    }
    for (row, acc) in a.iter().zip(&mut c) {
        for (x, line) in row[..op.k].iter().zip(&b) {
            for (s, y) in acc.iter_mut().zip(line) {
                *s += x * y;
            }
        }
    }
    for (i, reg) in op.d.iter().enumerate() {
        for l in 0..32 {
            let v = c[l / 4 + 8 * (i / 2)][2 * (l % 4) + i % 2];
            let v = if op.satfinite { v.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) } else { v };
            r.r32[*reg as usize][l] = v as u32;
        }
    }
}

/// m8n8k4: one f64 of A (row g, column t) and of B (row t, column g) in each lane.
fn mma_f64(r: &mut Regs, op: &Mma) {
    let at = |r: &Regs, reg: u32, l: usize| f64::from_bits(r.r64[reg as usize][l]);
    let mut out = [[0u64; 32]; 2];
    for l in 0..32 {
        let (g, t) = (l / 4, l % 4);
        for (i, o) in out.iter_mut().enumerate() {
            let mut s = at(r, op.c[i], l);
            for k in 0..4 {
                s = at(r, op.a[0], 4 * g + k).mul_add(at(r, op.b[0], 4 * (2 * t + i) + k), s);
            }
            o[l] = s.to_bits();
        }
    }
    for (d, o) in op.d.iter().zip(out) {
        r.r64[*d as usize] = o;
    }
}
