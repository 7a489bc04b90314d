//! A resolved program, statement after statement: loop variables filled in, positions and capacity checked, clocks advanced.
//!
//! Whoever wants more than legality and time (the simulator: values) is told of each tensor and each instruction. So there is one order
//! of execution and one time, whoever asks.

use super::clock::{Clock, Timeline, Track};
use super::program::Program;
use super::resolve::{Acc, Node, Op, Resolved, resolve};
use super::{Engine, Fault, Machine, Mem};

/// An access with its loop variables filled in.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    pub acc: &'a Acc,
    /// First partition.
    pub p0: usize,
    /// First element within the partition (HBM: in the tensor).
    pub f0: i64,
}

/// What is told of a program as it runs. The default does nothing: time and legality alone.
pub trait Visitor {
    /// A tensor comes to life: `slot` of [`Resolved::slots`].
    fn alloc(&mut self, _slot: usize) {}
    /// Its last use has passed.
    fn free(&mut self, _slot: usize) {}
    /// An instruction, whose positions are right, with the values of the loop variables.
    fn op(&mut self, _op: &Op, _vars: &[i64]) -> Result<(), Fault> {
        Ok(())
    }
}

struct Nobody;
impl Visitor for Nobody {}

/// Legality, capacity and time of a program, without data. The only truth about how long a kernel takes: launches are apart
/// ([`Machine::launch_ns`]).
pub fn time(program: &Program, machine: &'static Machine) -> Result<Timeline, Fault> {
    walk(&resolve(program, machine)?, machine, false, &mut Nobody)
}

/// [`time`], but `None` as soon as it is more than `most_ns`.
pub fn time_within(program: &Program, machine: &'static Machine, most_ns: f64) -> Result<Option<Timeline>, Fault> {
    let k = resolve(program, machine)?;
    let mut nobody = Nobody;
    let mut w = Walk::new(&k, machine, false, &mut nobody);
    w.most = (most_ns * super::clock::TICKS_PER_NS).ceil() as u64;
    w.block(&k.body)?;
    Ok((!w.clock.past(w.most)).then(|| w.clock.finish()))
}

/// Runs the program past `visitor`; `trace` keeps each instruction's start and end.
pub fn walk(k: &Resolved, machine: &'static Machine, trace: bool, visitor: &mut dyn Visitor) -> Result<Timeline, Fault> {
    let mut w = Walk::new(k, machine, trace, visitor);
    w.block(&k.body)?;
    Ok(w.clock.finish())
}

struct Walk<'a> {
    k: &'a Resolved<'a>,
    machine: &'static Machine,
    vars: Vec<i64>,
    tracks: Vec<Track>,
    clock: Clock,
    executed: u64,
    /// Ticks after which nobody wants to know.
    most: u64,
    visitor: &'a mut dyn Visitor,
}

impl<'a> Walk<'a> {
    fn new(k: &'a Resolved<'a>, machine: &'static Machine, trace: bool, visitor: &'a mut dyn Visitor) -> Walk<'a> {
        let (vars, tracks) = (vec![0; k.vars], vec![Track::default(); k.slots.len()]);
        Walk { k, machine, vars, tracks, clock: Clock::new(machine, trace), executed: 0, most: u64::MAX, visitor }
    }

    fn block(&mut self, nodes: &[Node]) -> Result<(), Fault> {
        for n in nodes {
            if self.clock.past(self.most) {
                return Ok(());
            }
            match n {
                Node::Alloc(s) => self.alloc(*s)?,
                Node::Free(s) => {
                    self.clock.release(self.k.slots[*s].mem, &self.tracks[*s]);
                    self.tracks[*s] = Track::default();
                    self.visitor.free(*s);
                }
                Node::For { var, count, body } => {
                    for i in 0..*count {
                        self.vars[*var] = i as i64;
                        self.block(body)?;
                    }
                }
                Node::Op(op) => self.op(op)?,
            }
        }
        Ok(())
    }

    fn alloc(&mut self, s: usize) -> Result<(), Fault> {
        let slot = &self.k.slots[s];
        self.tracks[s] = self.clock.alloc(slot.mem, slot.row_bytes()).map_err(|(used, units, size)| {
            let (rule, unit) = if slot.mem == Mem::Psum { ("psum-capacity", "banks") } else { ("sbuf-capacity", "bytes per partition") };
            let m = format!("{units} {unit} more than fit: {used} of {size} are in live tiles");
            self.k.fault(rule, slot.line, "nl.ndarray", &slot.name, m)
        })?;
        self.visitor.alloc(s);
        Ok(())
    }

    fn op(&mut self, op: &Op) -> Result<(), Fault> {
        self.executed += 1;
        if self.executed > self.machine.instruction_limit {
            let m = format!("more than {} instructions: loops unroll, and the toolchain accepts no more", self.machine.instruction_limit);
            return Err(self.k.at_fault(op, "instruction-count", "", m));
        }
        let mut tiles: Vec<(At, bool)> = Vec::with_capacity(4);
        for (name, a, written) in op.tiles() {
            let at = self.k.place(&self.vars, op, name, a)?;
            if let Some((_, x)) = &a.rows {
                tiles.push((self.k.place(&self.vars, op, name, x)?, false));
            }
            if op.engine == Engine::Tensor && written {
                self.one_bank(op, &at)?;
            }
            // Operands that are read and written count as both; a matmul's accumulation waits for nothing of its own engine.
            if written && op.def.name == "tensor_copy_predicated" {
                tiles.push((at, false));
            }
            tiles.push((at, written));
        }
        self.clock.step(op, &tiles, &mut self.tracks);
        self.visitor.op(op, &self.vars)
    }

    fn one_bank(&self, op: &Op, at: &At) -> Result<(), Fault> {
        let (bank, size) = (self.machine.psum_bank_bytes as i64, (at.acc.dtype.bits() / 8) as i64);
        let (lo, hi) = ((at.f0 + at.acc.reach.0) * size, (at.f0 + at.acc.reach.1 + 1) * size - 1);
        if lo / bank != hi / bank {
            let m = format!("one matmul writes one PSUM bank of {bank} bytes per partition; bytes {lo} to {hi} cross it");
            return Err(self.k.at_fault(op, "psum-bank", "dst", m));
        }
        Ok(())
    }
}

impl Resolved<'_> {
    /// A fault of this kernel.
    pub fn fault(&self, rule: &'static str, line: u32, instruction: &str, operand: &str, message: impl Into<String>) -> Fault {
        Fault { rule, kernel: self.kernel.into(), line, instruction: instruction.into(), operand: operand.into(), message: message.into() }
    }

    /// A fault of one of its instructions.
    pub fn at_fault(&self, op: &Op, rule: &'static str, operand: &str, message: impl Into<String>) -> Fault {
        self.fault(rule, op.line, op.def.name, operand, message)
    }

    /// Fills in loop variables and checks bounds and start partition.
    pub fn place<'b>(&self, vars: &[i64], op: &Op, operand: &str, a: &'b Acc) -> Result<At<'b>, Fault> {
        let slot = &self.slots[a.slot];
        for (start, reach, extent) in &a.checks {
            let s = start.at(vars);
            let last = s.saturating_add(*reach);
            if s < 0 || last >= *extent as i64 {
                let m = format!("indices {s} to {last} of an extent of {extent} in {}{:?}", slot.name, slot.shape);
                return Err(self.at_fault(op, "out-of-bounds", operand, m));
            }
        }
        let off = a.off.at(vars);
        let row = slot.row() as i64;
        if a.mem.is_hbm() {
            let (first, last) = (off.saturating_add(a.reach.0), off.saturating_add(a.reach.1));
            if a.rows.is_none() && (first < 0 || last >= row) {
                let m = format!("elements {first} to {last} of the {row} of {}{:?}", slot.name, slot.shape);
                return Err(self.at_fault(op, "out-of-bounds", operand, m));
            }
            return Ok(At { acc: a, p0: 0, f0: off });
        }
        let (p0, f0) = (off.div_euclid(row), off.rem_euclid(row));
        let (first, last) = (f0.saturating_add(a.reach.0), f0.saturating_add(a.reach.1));
        if p0 < 0 || (p0 as usize).saturating_add(a.parts) > slot.parts() || first < 0 || last >= row {
            let m = format!(
                "partitions {p0} to {} and elements {first} to {last} leave {}{:?}",
                p0.saturating_add(a.parts as i64) - 1,
                slot.name,
                slot.shape
            );
            return Err(self.at_fault(op, "out-of-bounds", operand, m));
        }
        let p0 = p0 as usize;
        if op.engine != Engine::Dma {
            let legal: &[usize] = match a.parts {
                65.. => &[0],
                33..=64 => &[0, 64],
                _ => &[0, 32, 64, 96],
            };
            if !legal.contains(&p0) {
                let m = format!("{} partitions may start at {legal:?}; got {p0}", a.parts);
                return Err(self.at_fault(op, "start-partition", operand, m));
            }
        }
        Ok(At { acc: a, p0, f0 })
    }
}
