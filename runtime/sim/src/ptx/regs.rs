//! Register allocation: PTX's unbounded virtual registers onto a small file that stays in cache.
//!
//! Liveness by data flow over basic blocks, one interval per register (the hull of where it is live),
//! and linear scan per class. Lanes that diverge keep their own values, since every write is masked, so
//! what is right for one thread is right for a warp.

use super::parse::{Arg, At, Func, Res, Stmt};
use std::collections::HashMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Pred,
    R32,
    R64,
}

/// Where a named register lives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reg {
    pub class: Class,
    /// Declared width: 16, 32 or 64; 1 for predicates.
    pub bits: u32,
    pub at: u32,
    /// Of a register that some path reads before it writes it: the predicate that holds the lanes that wrote it.
    pub written: Option<u32>,
}

#[derive(Debug, Default)]
pub(super) struct Allocation {
    pub regs: HashMap<String, Reg>,
    pub n32: u32,
    pub n64: u32,
    pub np: u32,
}

/// Mnemonics whose first operand is not a destination.
fn has_no_destination(base: &str) -> bool {
    matches!(
        base,
        "st" | "red"
            | "bra"
            | "brx"
            | "ret"
            | "exit"
            | "bar"
            | "barrier"
            | "membar"
            | "fence"
            | "cp"
            | "trap"
            | "brkpt"
            | "prefetch"
            | "prefetchu"
            | "nanosleep"
            | "stmatrix"
            | "discard"
            | "griddepcontrol"
            | "applypriority"
            | "pmevent"
    )
}

fn names<'a>(a: &'a Arg, out: &mut Vec<&'a str>) {
    match a {
        Arg::Reg(r) => out.push(r),
        Arg::Mem(b, _) => names(b, out),
        Arg::Vec(v) => v.iter().for_each(|x| names(x, out)),
        Arg::Pair(x, y) => {
            names(x, out);
            names(y, out);
        }
        Arg::Not(x) => names(x, out),
        _ => {}
    }
}

/// The registers that a statement writes and reads, its guard not counted.
pub(super) fn operands(s: &Stmt) -> (Vec<&str>, Vec<&str>) {
    let (mut defs, mut uses) = (Vec::new(), Vec::new());
    let base = s.mnemonic.split('.').next().unwrap_or("");
    let dest = !has_no_destination(base);
    for (i, a) in s.args.iter().enumerate() {
        names(a, if dest && i == 0 { &mut defs } else { &mut uses });
    }
    (defs, uses)
}

fn defs_and_uses(s: &Stmt) -> (Vec<&str>, Vec<&str>) {
    let (defs, mut uses) = operands(s);
    if let Some((_, p)) = &s.guard {
        uses.push(p);
        // A guarded write keeps the old value elsewhere.
        uses.extend_from_slice(&defs);
    }
    (defs, uses)
}

pub(super) fn allocate<'a>(f: &'a Func) -> Res<Allocation> {
    let mut out = Allocation::default();
    let mut ranges: HashMap<&str, (u32, u32)> = HashMap::new();
    for d in &f.regs {
        let bits = match d.ty.as_str() {
            "pred" => 1,
            "b16" | "u16" | "s16" | "f16" | "bf16" => 16,
            "b32" | "u32" | "s32" | "f32" | "f16x2" | "bf16x2" => 32,
            "b64" | "u64" | "s64" | "f64" => 64,
            "b8" | "u8" | "s8" => 16,
            _ => return Err(At(d.line, format!("unsupported register type '.{}'", d.ty))),
        };
        match d.count {
            Some(n) => {
                ranges.insert(&d.name, (n, bits));
            }
            None => {
                // Blocks of their own may have the same name again; of another size it would need a scope.
                if ranges.insert(&d.name, (u32::MAX, bits)).is_some_and(|before| before != (u32::MAX, bits)) {
                    return Err(At(d.line, format!("unsupported: a second register '{}' of another size", d.name)));
                }
            }
        }
    }
    let width = |name: &str| -> Option<u32> {
        if let Some((u32::MAX, bits)) = ranges.get(name) {
            return Some(*bits);
        }
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let (count, bits) = ranges.get(stem)?;
        let n: u32 = name[stem.len()..].parse().ok()?;
        (n < *count).then_some(*bits)
    };

    // Registers in order of appearance, so allocation is deterministic.
    let mut index: HashMap<&'a str, usize> = HashMap::new();
    let mut order: Vec<(&'a str, u32)> = Vec::new();
    let mut code: Vec<(Vec<usize>, Vec<usize>)> = Vec::with_capacity(f.stmts.len());
    for s in &f.stmts {
        let (d, u) = defs_and_uses(s);
        let mut resolve = |list: Vec<&'a str>| -> Vec<usize> {
            let mut v = Vec::with_capacity(list.len());
            for n in list {
                // Special registers are not declared; decoding knows them.
                let Some(bits) = width(n) else { continue };
                let next = order.len();
                let i = *index.entry(n).or_insert_with(|| {
                    order.push((n, bits));
                    next
                });
                v.push(i);
            }
            v
        };
        let d = resolve(d);
        let u = resolve(u);
        code.push((d, u));
    }

    let (intervals, at_entry) = live_intervals(f, &code, order.len());
    let mut by_start: Vec<usize> = (0..order.len()).collect();
    by_start.sort_by_key(|i| (intervals[*i].0, *i));
    // Predicate 0 is the constant true; register 0 of each file absorbs unused operands.
    let mut next = [1u32; 3];
    let mut active: [std::collections::BinaryHeap<std::cmp::Reverse<(usize, u32)>>; 3] = Default::default();
    let mut free: [Vec<u32>; 3] = Default::default();
    for i in by_start {
        let (name, bits) = order[i];
        let (k, class) = match bits {
            1 => (0, Class::Pred),
            64 => (2, Class::R64),
            _ => (1, Class::R32),
        };
        let (start, end) = intervals[i];
        while let Some(std::cmp::Reverse((e, r))) = active[k].peek().copied() {
            if e >= start {
                break;
            }
            active[k].pop();
            free[k].push(r);
        }
        let at = free[k].pop().unwrap_or_else(|| {
            next[k] += 1;
            next[k] - 1
        });
        active[k].push(std::cmp::Reverse((end, at)));
        out.regs.insert(name.to_owned(), Reg { class, bits, at, written: None });
    }
    for (_, (name, _)) in order.iter().enumerate().filter(|(i, _)| at_entry[i / 64] >> (i % 64) & 1 == 1) {
        if let Some(r) = out.regs.get_mut(*name) {
            r.written = Some(next[0]);
            next[0] += 1;
        }
    }
    [out.np, out.n32, out.n64] = next;
    Ok(out)
}

/// First and last statement at which each register is live, and the set of those live at the entry.
fn live_intervals(f: &Func, code: &[(Vec<usize>, Vec<usize>)], n: usize) -> (Vec<(usize, usize)>, Vec<u64>) {
    let mut span = vec![(usize::MAX, 0usize); n];
    let len = f.stmts.len();
    if len == 0 {
        return (span, vec![0; n.div_ceil(64)]);
    }
    let labels: HashMap<&str, usize> = f.labels.iter().map(|(l, i)| (l.as_str(), *i)).collect();
    let is_jump = |s: &Stmt| {
        let base = s.mnemonic.split('.').next().unwrap_or("");
        matches!(base, "bra" | "brx" | "ret" | "exit")
    };
    // Block boundaries.
    let mut starts = vec![false; len + 1];
    starts[0] = true;
    for (_, i) in &f.labels {
        starts[*i] = true;
    }
    for (i, s) in f.stmts.iter().enumerate() {
        if is_jump(s) {
            starts[i + 1] = true;
        }
    }
    let begin: Vec<usize> = (0..len).filter(|i| starts[*i]).collect();
    let mut block_of = vec![0; len + 1];
    for (b, w) in begin.iter().enumerate() {
        let end = begin.get(b + 1).copied().unwrap_or(len);
        block_of[*w..end].fill(b);
    }
    let end_of = |b: usize| begin.get(b + 1).copied().unwrap_or(len);
    let succ = |b: usize| -> Vec<usize> {
        let last = &f.stmts[end_of(b) - 1];
        let base = last.mnemonic.split('.').next().unwrap_or("");
        let mut v = Vec::new();
        let mut to = |l: &str| {
            if let Some(t) = labels.get(l).filter(|t| **t < len) {
                v.push(block_of[*t]);
            }
        };
        let mut falls = true;
        match base {
            "bra" => {
                if let Some(Arg::Sym(l, _)) = last.args.first() {
                    to(l);
                }
                falls = last.guard.is_some();
            }
            "brx" => {
                for (_, targets) in &f.tables {
                    targets.iter().for_each(|l| to(l));
                }
                falls = last.guard.is_some();
            }
            "ret" | "exit" => falls = last.guard.is_some(),
            _ => {}
        }
        if falls && end_of(b) < len {
            v.push(b + 1);
        }
        v
    };
    let words = n.div_ceil(64);
    let blocks = begin.len();
    let mut gen_ = vec![vec![0u64; words]; blocks];
    let mut kill = vec![vec![0u64; words]; blocks];
    for b in 0..blocks {
        for (d, u) in &code[begin[b]..end_of(b)] {
            for r in u {
                if kill[b][r / 64] >> (r % 64) & 1 == 0 {
                    gen_[b][r / 64] |= 1 << (r % 64);
                }
            }
            for r in d {
                kill[b][r / 64] |= 1 << (r % 64);
            }
        }
    }
    let succs: Vec<Vec<usize>> = (0..blocks).map(succ).collect();
    let mut live_in = gen_.clone();
    let mut live_out = vec![vec![0u64; words]; blocks];
    let mut changed = true;
    while changed {
        changed = false;
        for b in (0..blocks).rev() {
            for s in &succs[b] {
                for w in 0..words {
                    live_out[b][w] |= live_in[*s][w];
                }
            }
            for w in 0..words {
                let v = gen_[b][w] | (live_out[b][w] & !kill[b][w]);
                changed |= v != live_in[b][w];
                live_in[b][w] = v;
            }
        }
    }
    let mut touch = |r: usize, i: usize| {
        span[r] = (span[r].0.min(i), span[r].1.max(i));
    };
    for b in 0..blocks {
        for r in 0..n {
            if live_in[b][r / 64] >> (r % 64) & 1 == 1 {
                touch(r, begin[b]);
            }
            if live_out[b][r / 64] >> (r % 64) & 1 == 1 {
                touch(r, end_of(b) - 1);
            }
        }
        for (i, (defs, uses)) in code.iter().enumerate().take(end_of(b)).skip(begin[b]) {
            for r in defs.iter().chain(uses) {
                touch(*r, i);
            }
        }
    }
    (span, live_in.swap_remove(0))
}
