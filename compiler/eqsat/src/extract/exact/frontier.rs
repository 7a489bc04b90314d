//! Search over the classes from the outputs to the inputs, all choices at once: a state is the set of classes still to be made.
//!
//! ```text
//! S, t = max S      way w of t:   S \ {t} ∪ needs(w)   at   cost + cost(w)
//! ```
//!
//! States with equal sets are one (the cheapest), so repeated structure costs its width and not its number of choices. A state goes if
//! its cost and the bound on the rest reach the best answer, or if another state can become it for no more. Where more states are left
//! than `width`, the most promising stay; the least bound of those given up then limits what the search proves.

use super::Clock;
use super::bound::Bound;
use crate::extract::dag::{Answer, Problem};
use std::collections::HashMap;

/// Better states that each state is compared with.
const RIVALS: usize = 48;
/// Steps remembered over all states; past it, the search keeps few states.
const MEMORY: usize = 60_000_000;
const FEW: usize = 64;
const START: u32 = u32::MAX;

pub(super) struct Found {
    /// No choice below the `upper` given costs less.
    pub lower: f64,
    pub answer: Option<Answer>,
}

struct State {
    /// Ascending.
    open: Vec<u32>,
    cost: f64,
    /// Cost with a bound on the rest.
    total: f64,
    step: u32,
}

/// Cost at which `a` can become `b`: what `a` has open that `b` has not is made by itself.
fn dominates(a: &State, b: &State, tree: &[f64]) -> bool {
    let (mut cost, mut j) = (a.cost, 0);
    for &c in &a.open {
        while j < b.open.len() && b.open[j] < c {
            j += 1;
        }
        if b.open.get(j) != Some(&c) {
            cost += tree[c as usize];
            if cost > b.cost {
                return false;
            }
        }
    }
    cost <= b.cost
}

/// Work of one way out of a state, beside that of an edge of the bound.
const STATE: u64 = 200;

/// Choices cheaper than `upper`, as far as `width` and the clock allow.
pub(super) fn search(p: &Problem, bound: &Bound, upper: f64, width: usize, clock: &Clock) -> Found {
    let mut tree: Vec<f64> = vec![];
    for ways in &p.classes {
        let sum = |w: &crate::extract::dag::DagWay| w.cost + w.needs.iter().map(|&k| tree[k as usize]).sum::<f64>();
        tree.push(ways.iter().map(sum).fold(f64::INFINITY, f64::min));
    }
    let mut layers: Vec<HashMap<Vec<u32>, (f64, f64, u32)>> = vec![HashMap::new(); p.classes.len()];
    let mut steps: Vec<(u32, u32, u32)> = vec![];
    let mut done: Option<(f64, u32)> = None;
    let (mut upper, mut lower) = (upper, f64::INFINITY);
    let mut roots = p.roots.clone();
    roots.sort_unstable();
    roots.dedup();
    match roots.last() {
        Some(&top) => layers[top as usize].insert(roots, (0.0, bound.lower, START)),
        None => return Found { lower: 0.0, answer: Some(Answer { way: vec![0; p.classes.len()], cost: 0.0 }) },
    };
    for t in (0..p.classes.len()).rev() {
        let layer = std::mem::take(&mut layers[t]);
        let mut states: Vec<State> =
            layer.into_iter().map(|(open, (cost, total, step))| State { open, cost, total, step }).filter(|s| s.total < upper).collect();
        states.sort_unstable_by(|a, b| a.total.total_cmp(&b.total).then_with(|| a.open.cmp(&b.open)));
        let width = if steps.len() > MEMORY { FEW } else { width };
        let late = clock.late();
        let mut kept: Vec<State> = vec![];
        for s in states {
            if late || kept.len() >= width {
                lower = lower.min(s.total);
            } else if !kept.iter().take(RIVALS).any(|r| dominates(r, &s, &tree)) {
                kept.push(s);
            }
        }
        for s in &kept {
            clock.spend(STATE * p.classes[t].len() as u64);
            let rest = &s.open[..s.open.len() - 1];
            for (w, way) in p.classes[t].iter().enumerate() {
                let cost = s.cost + way.cost;
                let mut open = rest.to_vec();
                open.extend(&way.needs);
                open.sort_unstable();
                open.dedup();
                let Some(&next) = open.last() else {
                    if cost < upper {
                        upper = cost;
                        steps.push((s.step, t as u32, w as u32));
                        done = Some((cost, steps.len() as u32 - 1));
                    }
                    continue;
                };
                let total = cost + open.iter().map(|&c| bound.claim(c, next)).sum::<f64>();
                if total >= upper {
                    continue;
                }
                let layer = &mut layers[next as usize];
                if layer.get(&open).is_none_or(|old| cost < old.0) {
                    steps.push((s.step, t as u32, w as u32));
                    layer.insert(open, (cost, total, steps.len() as u32 - 1));
                }
            }
        }
    }
    let answer = done.map(|(cost, mut at)| {
        let mut way = vec![0; p.classes.len()];
        while at != START {
            let (before, c, w) = steps[at as usize];
            way[c as usize] = w;
            at = before;
        }
        Answer { way, cost }
    });
    Found { lower: lower.min(upper), answer }
}
