//! Loops of a plan: the same launches again over other places. State goes from run to run by handing its block on, rows are read and
//! kept where they lie in the whole; nothing comes to the host that a host step does not ask for.

use super::{Held, Runner, Uses, Value, Watch, made, root, view};
use crate::device::ALIGN;
use std::collections::BTreeSet;
use tahoma_core::artifact::{Manifest, PlanStep, Row, Stack, State, row_of};
use tahoma_core::ops::scan;
use tahoma_core::{Diagnostic, Tensor};

/// Rows kept so far, where they are not on the device: by their place.
type HostRows = Vec<Option<Vec<u8>>>;

impl Runner {
    /// Runs a loop. Rows of which no part is aligned as kernels need it are copied on the device.
    pub(super) fn repeat(&mut self, m: &Manifest, step: &PlanStep, uses: &Uses, watch: &mut Option<Watch>) -> Result<(), Diagnostic> {
        let PlanStep::Loop { trips, states, rows, stacks, steps, outputs, .. } = step else {
            return Err(Diagnostic::error("E0901", "a step that is no loop"));
        };
        let mut read = BTreeSet::new();
        launched(m, steps, &mut read);
        let own = own(steps);
        for s in states {
            if read.contains(&s.buffer) && *trips > 0 {
                self.block(root(m, s.start))?;
            }
            self.values[s.buffer] = self.shared(m, s.start, s.buffer)?;
        }
        let (last, piles) = outputs.split_at(states.len());
        let mut host: Vec<HostRows> = vec![vec![None; *trips]; stacks.len()];
        for t in 0..*trips {
            for r in rows {
                self.take_row(m, r, row_of(*trips, t, r.reverse), read.contains(&r.row))?;
            }
            for (s, &pile) in stacks.iter().zip(piles) {
                let r = root(m, s.row);
                if own.contains(&r) {
                    let h = self.place_in(m, s, pile, row_of(*trips, t, s.reverse))?;
                    if h.at.is_multiple_of(ALIGN) {
                        self.placed.entry(r).or_insert(h);
                    }
                }
            }
            self.steps(m, steps, uses, watch)?;
            for ((s, &pile), host) in stacks.iter().zip(piles).zip(&mut host) {
                let at = row_of(*trips, t, s.reverse);
                if self.values[root(m, s.row)].block.is_some() || self.values[pile].block.is_some() {
                    self.keep(m, s, pile, at)?;
                } else {
                    host[at] = Some(self.host(s.row)?.to_bytes());
                }
            }
            let next: Vec<Value> = states.iter().map(|s| self.shared(m, s.next, s.buffer)).collect::<Result<_, _>>()?;
            self.end_of_run(m, states, rows, stacks, steps);
            for (s, v) in states.iter().zip(next) {
                self.values[s.buffer] = v;
            }
        }
        for (s, &out) in states.iter().zip(last) {
            self.values[out] = self.shared(m, s.buffer, out)?;
            self.forget(s.buffer);
        }
        for (&pile, rows) in piles.iter().zip(host) {
            self.finish_pile(m, pile, rows)?;
        }
        Ok(())
    }

    /// Nothing that a run made is left but what goes on.
    fn end_of_run(&mut self, m: &Manifest, states: &[State], rows: &[Row], stacks: &[Stack], steps: &[PlanStep]) {
        for s in stacks {
            self.placed.remove(&root(m, s.row));
        }
        made(steps.iter()).for_each(|b| self.forget(b));
        for b in states.iter().map(|s| s.buffer).chain(rows.iter().map(|r| r.row)) {
            self.forget(b);
        }
    }

    /// Gives a row its value: the part of the whole that it is.
    fn take_row(&mut self, m: &Manifest, r: &Row, at: usize, launched: bool) -> Result<(), Diagnostic> {
        self.forget(r.row);
        let whole = root(m, r.of);
        if launched {
            self.block(whole)?;
        } else {
            self.host(r.of)?;
        }
        if let Some(t) = self.values[whole].host.as_ref() {
            let row = scan::row(&view(&m.buffers[r.of].ty, Some(t))?, at);
            let row = row.ok_or_else(|| Diagnostic::error("E0901", format!("no row {at} of buffer {}", r.of)))?;
            self.values[r.row].host = Some(view(&m.buffers[r.row].ty, Some(&row))?);
        }
        let Some(h) = self.values[whole].block.filter(|_| launched) else { return Ok(()) };
        let bytes = bytes(m, r.row);
        let part = Held { at: h.at + at as u64 * bytes, ..h };
        if part.at.is_multiple_of(ALIGN) {
            self.values[r.row].block = Some(self.hold(part));
            return Ok(());
        }
        let to = self.fresh(r.row)?;
        self.device.copy(part.place(), to, bytes as usize)
    }

    /// Where a kept row lies in its pile, whose block is made with the first.
    fn place_in(&mut self, m: &Manifest, s: &Stack, pile: usize, at: usize) -> Result<Held, Diagnostic> {
        if self.values[pile].block.is_none() {
            self.fresh(pile)?;
        }
        let h = self.values[pile].block.ok_or_else(|| Diagnostic::error("E0901", "a pile without a block"))?;
        Ok(Held { at: h.at + at as u64 * bytes(m, s.row), ..h })
    }

    /// Puts a row into its pile on the device, unless it was made there.
    fn keep(&mut self, m: &Manifest, s: &Stack, pile: usize, at: usize) -> Result<(), Diagnostic> {
        let from = self.block(root(m, s.row))?;
        let to = self.place_in(m, s, pile, at)?.place();
        if from == to { Ok(()) } else { self.device.copy(from, to, bytes(m, s.row) as usize) }
    }

    /// A pile whose rows came on the host: there; where only some did, with the others on the device.
    fn finish_pile(&mut self, m: &Manifest, pile: usize, rows: HostRows) -> Result<(), Diagnostic> {
        let ty = &m.buffers[pile].ty;
        let Some(h) = self.values[pile].block else {
            let all: Vec<u8> = rows.into_iter().flatten().flatten().collect();
            let t = ty.shape.to_static().and_then(|s| Tensor::from_bytes(ty.dtype, &s, &all));
            let t = t.ok_or_else(|| Diagnostic::error("E0901", format!("{} bytes of rows are no {ty}", all.len())))?;
            self.values[pile].host = Some(t);
            return Ok(());
        };
        for (at, row) in rows.into_iter().enumerate() {
            if let Some(row) = row {
                self.device.upload(h.place().at((at * row.len()) as u64), &row)?;
            }
        }
        Ok(())
    }
}

fn bytes(m: &Manifest, b: usize) -> u64 {
    m.buffers[b].ty.bytes().unwrap_or(0)
}

/// What launches of the steps themselves make: it can be made where it is kept.
pub(crate) fn own(steps: &[PlanStep]) -> BTreeSet<usize> {
    steps.iter().filter(|s| matches!(s, PlanStep::Launch { .. })).flat_map(PlanStep::outputs).copied().collect()
}

/// Roots that launches read, however deep.
pub(crate) fn launched(m: &Manifest, steps: &[PlanStep], out: &mut BTreeSet<usize>) {
    for s in steps {
        match s {
            PlanStep::Launch { inputs, .. } => out.extend(inputs.iter().map(|&b| root(m, b))),
            PlanStep::Host { .. } => {}
            PlanStep::If { then, otherwise, .. } => [then, otherwise].iter().for_each(|b| launched(m, &b.steps, out)),
            PlanStep::Loop { states, rows, steps, .. } => {
                launched(m, steps, out);
                // What an inner loop starts from or takes rows of is read where those are.
                let starts = states.iter().filter(|s| out.contains(&s.buffer)).map(|s| s.start);
                let wholes = rows.iter().filter(|r| out.contains(&r.row)).map(|r| r.of);
                let more: Vec<usize> = starts.chain(wholes).map(|b| root(m, b)).collect();
                out.extend(more);
            }
        }
    }
}
