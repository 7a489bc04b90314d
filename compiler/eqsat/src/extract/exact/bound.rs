//! A lower bound by Lagrangian relaxation: what a class costs is divided among the classes that may need it.
//!
//! ```text
//! value(c) = min over ways w of c ( cost(w) + Σ_{k in needs(w)} pays(c, k) )        Σ_c pays(c, k) <= value(k)
//! ```
//!
//! Then `Σ value(root)` is below every choice: a choice pays for each class in use at most what its users give. The division is
//! improved by subgradient steps (Held, Wolfe and Crowder 1974); its limit is the linear relaxation with one constraint per pair of
//! classes, which is stronger than one per way.

use super::Clock;
use crate::extract::dag::{DagWay, Problem};

/// Steps, and the work (edges looked at) that ends them earlier.
const STEPS: usize = 3000;
const WORK: usize = 400_000_000;
/// Steps without a gain before they are made smaller, and the size that ends them.
const PATIENCE: usize = 25;
const SMALLEST: f64 = 1e-4;

/// A parent and child with the share that the parent pays.
struct Edges {
    /// Per class, per way: indices of its edges.
    of_way: Vec<Vec<Vec<u32>>>,
    /// Per child: its edges, in order of the parent.
    into: Vec<Vec<u32>>,
    parent: Vec<u32>,
}

fn edges(p: &Problem) -> Edges {
    let mut e = Edges { of_way: vec![], into: vec![vec![]; p.classes.len()], parent: vec![] };
    for (c, ways) in p.classes.iter().enumerate() {
        let mut mine: Vec<(u32, u32)> = vec![];
        let mut of = vec![];
        for w in ways {
            let mut row = vec![];
            for &k in &w.needs {
                let i = match mine.iter().find(|m| m.0 == k) {
                    Some(m) => m.1,
                    None => {
                        let i = e.parent.len() as u32;
                        e.parent.push(c as u32);
                        e.into[k as usize].push(i);
                        mine.push((k, i));
                        i
                    }
                };
                row.push(i);
            }
            of.push(row);
        }
        e.of_way.push(of);
    }
    e
}

pub(super) struct Bound {
    pub lower: f64,
    /// What each way costs above the value of its class.
    reduced: Vec<Vec<f64>>,
    /// Per class: its possible users, the last first, with the sum paid by those up to there.
    paid: Vec<Vec<(u32, f64)>>,
}

impl Bound {
    /// What the users of `c` above `t` pay: a bound on its cost that leaves the users still open their shares.
    pub(super) fn claim(&self, c: u32, t: u32) -> f64 {
        let users = &self.paid[c as usize];
        let above = users.partition_point(|u| u.0 > t);
        if above == 0 { 0.0 } else { users[above - 1].1 }
    }

    /// The problem without ways that no choice below `upper` uses, and the ways that are left.
    pub(super) fn without_excluded(&self, p: &Problem, upper: f64) -> (Problem, Vec<Vec<u32>>) {
        let keep = |r: &Vec<f64>| (0..r.len() as u32).filter(|&i| self.lower + r[i as usize] < upper).collect();
        let index: Vec<Vec<u32>> = self.reduced.iter().map(keep).collect();
        let ways = |(ways, i): (&Vec<DagWay>, &Vec<u32>)| i.iter().map(|&i| ways[i as usize].clone()).collect();
        let classes = p.classes.iter().zip(&index).map(ways).collect();
        (Problem { classes, roots: p.roots.clone() }, index)
    }
}

/// Value and best way of a class under shares.
fn value(ways: &[DagWay], of: &[Vec<u32>], pays: &[f64]) -> (f64, usize) {
    let cost = |i: usize| ways[i].cost + of[i].iter().map(|&e| pays[e as usize]).sum::<f64>();
    (0..ways.len()).map(|i| (cost(i), i)).fold((f64::INFINITY, 0), |a, b| if b.0 < a.0 { b } else { a })
}

/// Makes shares add up to the value of each class, from the inputs up; the bound and the values they give.
fn divide(p: &Problem, e: &Edges, root: &[bool], pays: &mut [f64]) -> (f64, Vec<f64>) {
    let (mut lower, mut values) = (0.0, vec![]);
    for (c, ways) in p.classes.iter().enumerate() {
        let v = value(ways, &e.of_way[c], pays).0;
        let into = &e.into[c];
        let total: f64 = into.iter().map(|&i| pays[i as usize]).sum();
        if root[c] {
            lower += v;
            into.iter().for_each(|&i| pays[i as usize] = 0.0);
        } else if total > 1e-12 {
            into.iter().for_each(|&i| pays[i as usize] *= v / total);
        } else {
            into.iter().for_each(|&i| pays[i as usize] = v / into.len() as f64);
        }
        values.push(v);
    }
    (lower, values)
}

/// The best bound found; steps stop early where it reaches `upper`.
pub(super) fn bound(p: &Problem, upper: f64, clock: &Clock) -> Bound {
    let e = edges(p);
    let n = p.classes.len();
    let mut root = vec![false; n];
    p.roots.iter().for_each(|&r| root[r as usize] = true);
    let mut pays = vec![0.0; e.parent.len()];
    let mut best = divide(p, &e, &root, &mut pays).0;
    let mut kept = pays.clone();
    let (mut size, mut stale, mut top) = (1.0, 0, f64::NEG_INFINITY);
    let size_of: usize = e.of_way.iter().flatten().map(|w| w.len() + 1).sum();
    for step in 0..STEPS.min(WORK / size_of.max(1)) {
        if best >= upper - super::slack(upper) || size < SMALLEST || (step % 16 == 0 && clock.late()) {
            break;
        }
        clock.spend(size_of as u64);
        // The relaxed choice: a class is in use if its shares outweigh its value.
        let mut sum = 0.0;
        let mut slope = vec![0.0; pays.len()];
        for c in 0..n {
            let (v, w) = value(&p.classes[c], &e.of_way[c], &pays);
            let gain = v - e.into[c].iter().map(|&i| pays[i as usize]).sum::<f64>();
            if root[c] || gain < 0.0 {
                sum += gain;
                e.of_way[c][w].iter().for_each(|&i| slope[i as usize] += 1.0);
                e.into[c].iter().for_each(|&i| slope[i as usize] -= 1.0);
            }
        }
        stale += 1;
        if sum > top + 1e-9 * upper.abs() {
            (top, stale) = (sum, 0);
        }
        if stale > PATIENCE {
            (size, stale) = (size / 2.0, 0);
        }
        let norm: f64 = slope.iter().map(|s| s * s).sum();
        if norm == 0.0 {
            break;
        }
        let by = size * (1.01 * upper - sum).max(1e-9) / norm;
        pays.iter_mut().zip(&slope).for_each(|(x, s)| *x = (*x + by * s).max(0.0));
        if step % 4 == 0 {
            let mut trial = pays.clone();
            let lower = divide(p, &e, &root, &mut trial).0;
            if lower > best {
                (best, kept) = (lower, trial);
            }
        }
    }
    let (lower, value) = divide(p, &e, &root, &mut kept);
    let over = |(c, ways): (usize, &Vec<DagWay>)| {
        let cost = |(w, of): (&DagWay, &Vec<u32>)| w.cost + of.iter().map(|&i| kept[i as usize]).sum::<f64>() - value[c];
        ways.iter().zip(&e.of_way[c]).map(cost).collect()
    };
    let reduced = p.classes.iter().enumerate().map(over).collect();
    let sums = |c: usize| {
        // A root is owed in full from the start.
        let mut sum = if root[c] { value[c] } else { 0.0 };
        let first = root[c].then_some((u32::MAX, sum));
        let rest = e.into[c].iter().rev().map(|&i| {
            sum += kept[i as usize];
            (e.parent[i as usize], sum)
        });
        first.into_iter().chain(rest.collect::<Vec<_>>()).collect()
    };
    let paid = (0..n).map(sums).collect();
    Bound { lower, reduced, paid }
}
