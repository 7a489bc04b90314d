//! How much device memory a plan needs, from the lifetimes of its buffers: the runner's own sequence of blocks, on paper.
//!
//! Exact for straight plans, whatever the run. Of a branch the larger side counts; where the sides leave different holes behind, a
//! device may need another piece, which costs an allocation and nothing else.

use crate::arena::Arena;
use crate::runner::{Uses, root};
use tahoma_core::artifact::{Branch, Manifest, PlanStep};

/// Roots that come from the host and that launches outside of branches read, in the order of the first read. They go to the device before
/// the first launch: a copy from the host waits for what was launched.
pub(crate) fn brought(m: &Manifest, constant: &[bool]) -> Vec<usize> {
    let mut wanted = constant.to_vec();
    m.inputs.iter().for_each(|p| wanted[p.buffer] = true);
    let launches = m.run.iter().filter(|s| matches!(s, PlanStep::Launch { .. }));
    let reads = launches.flat_map(PlanStep::inputs).map(|&b| root(m, b));
    reads.filter(|r| std::mem::take(&mut wanted[*r])).collect()
}

/// Most bytes that blocks span at once, in the first run (which brings the constants to the device) and later ones.
pub(crate) fn needed(m: &Manifest, uses: &Uses, constant: &[bool], brought: &[usize]) -> u64 {
    let mut w = Walk { m, arena: Arena::endless(), at: vec![None; m.buffers.len()] };
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
        if let Some(at) = self.at[root].take() {
            self.arena.give(at);
        }
    }

    fn steps(&mut self, steps: &[PlanStep], uses: &Uses) {
        for (i, s) in steps.iter().enumerate() {
            match s {
                PlanStep::Launch { inputs, outputs, .. } => {
                    inputs.iter().for_each(|&b| self.bring(root(self.m, b)));
                    outputs.iter().for_each(|&b| self.place(b));
                }
                PlanStep::Host { .. } => {}
                PlanStep::If { then, otherwise, outputs, .. } => {
                    if let Some([first, second]) = uses.branches.get(&i) {
                        let mut other = self.clone();
                        other.branch(otherwise, second, outputs);
                        self.branch(then, first, outputs);
                        if other.arena.peak() > self.arena.peak() {
                            *self = other;
                        }
                    }
                }
            }
            uses.after[i].iter().for_each(|&b| self.forget(b));
        }
    }

    fn branch(&mut self, b: &Branch, uses: &Uses, outputs: &[usize]) {
        self.steps(&b.steps, uses);
        // A block that is given on keeps its place, as far as it is one of the branch.
        let made: Vec<usize> = b.steps.iter().flat_map(PlanStep::outputs).copied().collect();
        for (&out, &result) in outputs.iter().zip(&b.results) {
            let r = root(self.m, result);
            if made.contains(&r) {
                self.at[out] = self.at[r].take();
            }
        }
        made.into_iter().for_each(|b| self.forget(b));
    }
}
