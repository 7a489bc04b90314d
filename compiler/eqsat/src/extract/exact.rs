//! Exact extraction, where it can be had in time: the optimum that the heuristic is measured against, or a lower bound with its gap.
//!
//! ```text
//! reduce -> split into components -> Lagrangian bound -> drop what it excludes -> (again) -> frontier search
//! ```
//!
//! Extraction on DAG cost is NP-hard in general, but nets of real networks are narrow: values that every choice needs ([`reduce`])
//! cut them into small independent parts, many of them equal, and those are solved once. A part is bounded by Lagrangian relaxation
//! ([`bound`], Beasley 1990 for set covering) and searched class by class from the outputs ([`frontier`], a decision diagram as in Bergman,
//! Cire, van Hoeve and Hooker, *Decision Diagrams for Optimization*, 2016). `ilp` states the same problem for a solver crate, as an
//! independent check.

mod bound;
mod frontier;
#[cfg(feature = "exact")]
pub mod ilp;
mod reduce;

use super::dag::{self, Answer, DagWay, Problem};
use reduce::Core;
use std::cell::Cell;
use std::collections::HashMap;

/// Relative difference below which two costs count as equal: the optimum is told to this precision.
pub const TOLERANCE: f64 = 1e-6;
/// Class visits of the local search that gives a part its first answer.
const STEPS: u64 = 2_000_000;
/// States kept per class of the first, narrow frontier search, and how it grows.
const FIRST_WIDTH: usize = 1 << 10;
const WIDER: usize = 8;

/// What a search may spend.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// States kept per class of the widest frontier search: memory.
    pub width: usize,
    /// Edges visited.
    pub work: u64,
}

impl Effort {
    /// Fractions of a second on nets of real networks, and the same answer on every machine.
    pub const QUICK: Effort = Effort { width: FIRST_WIDTH * WIDER, work: 100_000_000 };
    /// To the optimum, if it is found with so much work.
    pub fn full(work: u64) -> Effort {
        Effort { width: 1 << 22, work }
    }
}

/// What is left of an effort: work, not time, so that the answer does not depend on the machine.
struct Clock {
    left: Cell<u64>,
}

impl Clock {
    fn late(&self) -> bool {
        self.left.get() == 0
    }
    fn spend(&self, work: u64) {
        self.left.set(self.left.get().saturating_sub(work));
    }
}

/// What is known about the least cost.
#[derive(Clone, Debug, PartialEq)]
pub enum Exact {
    /// No choice is cheaper by more than [`TOLERANCE`].
    Optimal(Answer),
    /// No choice is cheaper than `lower`; `best` is the cheapest that is known.
    Bound { lower: f64, best: Answer },
}

impl Exact {
    /// The cheapest choice known.
    pub fn best(&self) -> &Answer {
        match self {
            Exact::Optimal(a) | Exact::Bound { best: a, .. } => a,
        }
    }
    /// A cost that no choice is below.
    pub fn lower(&self) -> f64 {
        match self {
            Exact::Optimal(a) => a.cost,
            Exact::Bound { lower, .. } => *lower,
        }
    }
}

/// The least cost, or what is known about it when the effort is spent. `None` unless every class needs earlier ones alone, as in a choice
/// net, or if a root cannot be made. `incumbent` is the answer to beat.
///
/// Equal problems give equal answers.
pub fn solve(problem: &Problem, incumbent: &[u32], effort: Effort) -> Option<Exact> {
    let clock = Clock { left: Cell::new(effort.work) };
    let mut search = Search { clock, width: effort.width, known: HashMap::new() };
    let ordered = problem.classes.iter().enumerate().all(|(c, ways)| ways.iter().all(|w| w.needs.iter().all(|&k| (k as usize) < c)));
    let found = if ordered { search.problem(problem) } else { None }?;
    let mut way = found.way;
    let (mut cost, known) = (cost_of(problem, &way), cost_of(problem, incumbent));
    if known < cost {
        (way, cost) = (incumbent.to_vec(), known);
    }
    let (best, lower) = (Answer { way, cost }, found.lower.min(cost));
    Some(if lower >= cost - slack(cost) { Exact::Optimal(best) } else { Exact::Bound { lower, best } })
}

/// Cost of a choice on a net; infinite where it makes nothing of a class in use.
fn cost_of(p: &Problem, way: &[u32]) -> f64 {
    let used = reached(p, way).into_iter().enumerate().filter(|u| u.1);
    let cost = |(c, _): (usize, bool)| way.get(c).and_then(|&w| p.classes[c].get(w as usize)).map_or(f64::INFINITY, |w| w.cost);
    used.map(cost).sum()
}

/// Which classes of a net the roots reach under a choice.
fn reached(p: &Problem, way: &[u32]) -> Vec<bool> {
    let mut live = vec![false; p.classes.len()];
    p.roots.iter().for_each(|&r| live[r as usize] = true);
    for c in (0..p.classes.len()).rev().filter(|&c| c < way.len()) {
        let w = p.classes[c].get(way[c] as usize).filter(|_| live[c]);
        w.into_iter().flat_map(|w| &w.needs).for_each(|&k| live[k as usize] = true);
    }
    live
}

fn slack(cost: f64) -> f64 {
    TOLERANCE * cost.max(1e-3)
}

/// A choice for a part, and a bound on all choices.
#[derive(Clone, Debug)]
struct Solved {
    way: Vec<u32>,
    cost: f64,
    lower: f64,
}

struct Search {
    clock: Clock,
    width: usize,
    /// Answers by the shape of the part: repeated layers are solved once.
    known: HashMap<Key, Solved>,
}

type Key = (Vec<Vec<(u64, Vec<u32>)>>, Vec<u32>);

fn key(p: &Problem) -> Key {
    let way = |w: &DagWay| (w.cost.to_bits(), w.needs.clone());
    (p.classes.iter().map(|ways| ways.iter().map(way).collect()).collect(), p.roots.clone())
}

impl Search {
    /// Reduces a problem and solves its components, the small ones first. `None` if a root cannot be made.
    fn problem(&mut self, p: &Problem) -> Option<Solved> {
        let mut core = Core::new(p);
        if !core.reduce() {
            return None;
        }
        let mut all = Solved { way: vec![0; p.classes.len()], cost: core.base, lower: core.base };
        let mut picks = core.settled.clone();
        let mut parts = core.components();
        parts.sort_by_key(|(part, _)| part.classes.len());
        for (part, at) in parts {
            let key = key(&part);
            let solved = match self.known.get(&key) {
                Some(s) => s.clone(),
                None => {
                    let s = self.part(&part)?;
                    self.known.insert(key, s.clone());
                    s
                }
            };
            all.cost += solved.cost;
            all.lower += solved.lower;
            for c in reached(&part, &solved.way).iter().enumerate().filter(|u| *u.1).map(|u| u.0) {
                picks.extend(&core.classes[at[c] as usize][solved.way[c] as usize].picks);
            }
        }
        for (c, w) in picks {
            all.way[c as usize] = w;
        }
        Some(all)
    }

    /// Solves a component: bound, drop, and search what is left.
    fn part(&mut self, p: &Problem) -> Option<Solved> {
        let mut best = dag::extract(p, STEPS, &|| false)?;
        let bound = bound::bound(p, best.cost, &self.clock);
        let (mut lower, mut width, mut tried) = (bound.lower, FIRST_WIDTH, f64::INFINITY);
        loop {
            let close = |lower: f64, cost: f64| lower >= cost - slack(cost);
            // What the bound excludes, whenever a better answer lets it exclude more.
            if best.cost < tried && !close(lower, best.cost) {
                tried = best.cost;
                let (q, index) = bound.without_excluded(p, best.cost - slack(best.cost));
                if index.iter().zip(&p.classes).any(|(i, ways)| i.len() < ways.len()) {
                    // Nothing that is left beats the answer, or the best of it does.
                    let inner = self.problem(&q).map(|s| {
                        let way = s.way.iter().zip(&index).map(|(&w, i)| i.get(w as usize).copied().unwrap_or(0)).collect();
                        Solved { way, ..s }
                    });
                    lower = lower.max(inner.as_ref().map_or(best.cost, |s| s.lower.min(best.cost)));
                    if let Some(s) = inner.filter(|s| s.cost < best.cost) {
                        best = Answer { way: s.way, cost: s.cost };
                    }
                    return Some(Solved { way: best.way, cost: best.cost, lower: lower.min(best.cost) });
                }
            }
            if close(lower, best.cost) || width > self.width || self.clock.late() {
                return Some(Solved { way: best.way, cost: best.cost, lower: lower.min(best.cost) });
            }
            let found = frontier::search(p, &bound, best.cost - slack(best.cost), width, &self.clock);
            lower = lower.max(found.lower.min(best.cost));
            if let Some(a) = found.answer.filter(|a| a.cost < best.cost) {
                best = a;
            }
            width *= WIDER;
        }
    }
}
