//! How much device memory a plan needs, from the lifetimes of its buffers: the runner's own sequence of blocks, on paper.
//!
//! Exact for straight plans and for loops, whatever the run. Of a branch the larger side counts; where the sides leave different holes
//! behind, a device may need another piece, which costs an allocation and nothing else.

use crate::arena::Arena;
use crate::device::ALIGN;
use crate::runner::repeat::{launched, own};
use crate::runner::{Uses, root};
use std::collections::{BTreeMap, BTreeSet};
use tahoma_core::artifact::{Branch, Manifest, PlanStep, row_of};

/// Runs of a loop until its blocks lie as they did before: state has gone round, and rows of any length are aligned as they were.
const RUNS: usize = ALIGN as usize + 2;

/// Roots that come from the host and that launches outside of branches read, in the order of the first step that does. They go to the
/// device before the first launch: a copy from the host waits for what was launched.
pub(crate) fn brought(m: &Manifest, constant: &[bool]) -> Vec<usize> {
    let mut wanted = constant.to_vec();
    m.inputs.iter().for_each(|p| wanted[p.buffer] = true);
    let reads = m.run.iter().flat_map(|s| match s {
        PlanStep::Launch { inputs, .. } => inputs.iter().map(|&b| root(m, b)).collect(),
        PlanStep::Loop { trips: 1.., .. } => {
            let mut read = BTreeSet::new();
            launched(m, std::slice::from_ref(s), &mut read);
            read.into_iter().collect()
        }
        _ => vec![],
    });
    reads.filter(|r| std::mem::take(&mut wanted[*r])).collect()
}

/// Most bytes that blocks span at once, in the first run (which brings the constants to the device) and later ones.
pub(crate) fn needed(m: &Manifest, uses: &Uses, constant: &[bool], brought: &[usize]) -> u64 {
    let (arena, at) = (Arena::endless(), vec![None; m.buffers.len()]);
    let mut w = Walk { m, arena, at, shared: BTreeMap::new(), placed: BTreeMap::new() };
    for _ in 0..2 {
        brought.iter().for_each(|&r| w.bring(r));
        w.steps(&m.run, uses);
        (0..m.buffers.len()).filter(|b| !constant[*b]).for_each(|b| w.forget(b));
    }
    w.arena.peak()
}

#[derive(Clone)]
struct Walk<'a> {
    m: &'a Manifest,
    arena: Arena,
    /// Where the block of a root is.
    at: Vec<Option<u64>>,
    /// How many roots more than one have a block.
    shared: BTreeMap<u64, usize>,
    /// Rows that launches write into the block of another root.
    placed: BTreeMap<usize, u64>,
}

impl Walk<'_> {
    fn place(&mut self, root: usize) {
        self.at[root] = self.arena.take(self.m.buffers[root].ty.bytes().unwrap_or(0));
    }

    fn bring(&mut self, root: usize) {
        if self.at[root].is_none() {
            self.place(root);
        }
    }

    fn forget(&mut self, root: usize) {
        let Some(at) = self.at[root].take() else { return };
        match self.shared.get_mut(&at) {
            Some(more) if *more > 1 => *more -= 1,
            Some(_) => {
                self.shared.remove(&at);
            }
            None => {
                self.arena.give(at);
            }
        }
    }

    /// The block of a root, for another to have.
    fn share(&mut self, root: usize) -> Option<u64> {
        let at = self.at[root]?;
        *self.shared.entry(at).or_default() += 1;
        Some(at)
    }

    fn target(&mut self, root: usize) {
        match self.placed.get(&root) {
            Some(&at) => {
                *self.shared.entry(at).or_default() += 1;
                self.at[root] = Some(at);
            }
            None => self.place(root),
        }
    }

    fn steps(&mut self, steps: &[PlanStep], uses: &Uses) {
        for (i, s) in steps.iter().enumerate() {
            match s {
                PlanStep::Launch { inputs, outputs, .. } => {
                    inputs.iter().for_each(|&b| self.bring(root(self.m, b)));
                    outputs.iter().for_each(|&b| self.target(b));
                }
                PlanStep::Host { .. } | PlanStep::Loop { .. } => {}
                PlanStep::If { then, otherwise, outputs, .. } => {
                    if let Ok([first, second]) = uses.inner(i) {
                        let mut other = self.clone();
                        other.branch(otherwise, second, outputs);
                        self.branch(then, first, outputs);
                        if other.arena.peak() > self.arena.peak() {
                            *self = other;
                        }
                    }
                }
            }
            if let (PlanStep::Loop { .. }, Ok([inner])) = (s, uses.inner(i)) {
                self.repeat(s, inner);
            }
            uses.after[i].iter().for_each(|&b| self.forget(b));
        }
    }

    fn branch(&mut self, b: &Branch, uses: &Uses, outputs: &[usize]) {
        self.steps(&b.steps, uses);
        for (&out, &result) in outputs.iter().zip(&b.results) {
            let (from, to) = (&self.m.buffers[root(self.m, result)].ty, &self.m.buffers[out].ty);
            if from.dtype == to.dtype && from.bytes().is_some() && from.bytes() == to.bytes() {
                self.at[out] = self.share(root(self.m, result));
            }
        }
        b.steps.iter().flat_map(PlanStep::outputs).for_each(|&b| self.forget(b));
    }

    /// As the runner repeats a loop: the same blocks in the same order.
    fn repeat(&mut self, step: &PlanStep, uses: &Uses) {
        let PlanStep::Loop { trips, states, rows, stacks, steps, outputs, .. } = step else { return };
        let m = self.m;
        let bytes = |b: usize| m.buffers[b].ty.bytes().unwrap_or(0);
        let mut read = BTreeSet::new();
        launched(m, steps, &mut read);
        let own = own(steps);
        for s in states {
            if read.contains(&s.buffer) && *trips > 0 {
                self.bring(root(m, s.start));
            }
            self.at[s.buffer] = self.share(root(m, s.start));
        }
        let (last, piles) = outputs.split_at(states.len());
        for t in 0..(*trips).min(RUNS) {
            for r in rows {
                self.forget(r.row);
                if !read.contains(&r.row) {
                    continue;
                }
                self.bring(root(m, r.of));
                match (row_of(*trips, t, r.reverse) as u64 * bytes(r.row)).is_multiple_of(ALIGN) {
                    true => self.at[r.row] = self.share(root(m, r.of)),
                    false => self.place(r.row),
                }
            }
            for (s, &pile) in stacks.iter().zip(piles) {
                let r = root(m, s.row);
                if own.contains(&r) {
                    self.bring(pile);
                    if let Some(at) = self.at[pile].filter(|_| (row_of(*trips, t, s.reverse) as u64 * bytes(s.row)).is_multiple_of(ALIGN)) {
                        self.placed.entry(r).or_insert(at);
                    }
                }
            }
            self.steps(steps, uses);
            for (s, &pile) in stacks.iter().zip(piles) {
                if self.at[root(m, s.row)].is_some() || self.at[pile].is_some() {
                    self.bring(root(m, s.row));
                    self.bring(pile);
                }
            }
            let next: Vec<Option<u64>> = states.iter().map(|s| self.share(root(m, s.next))).collect();
            for s in stacks {
                self.placed.remove(&root(m, s.row));
            }
            steps.iter().flat_map(PlanStep::outputs).for_each(|&b| self.forget(b));
            states.iter().map(|s| s.buffer).chain(rows.iter().map(|r| r.row)).for_each(|b| self.forget(b));
            states.iter().zip(next).for_each(|(s, at)| self.at[s.buffer] = at);
        }
        for (s, &out) in states.iter().zip(last) {
            self.at[out] = self.share(s.buffer);
            self.forget(s.buffer);
        }
    }
}
