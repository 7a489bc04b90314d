//! DAG-aware extraction: which way to make each class, so that the sum over all classes in use is least.
//!
//! ```text
//! cost(choice) = Σ ns(way chosen for c),   c reachable from the outputs, each once
//! ```
//!
//! A first choice by shared flow, then local search with exact reference counts, as in technology mapping: change the way of one
//! class, or do away with one class by changing all its users. Only improvements are kept, so the result is never worse than
//! the seed. Everything goes in class order: equal nets give equal choices.

pub mod dag;

use crate::net::Net;

/// The way chosen for each class of a net; meaningful for those the roots reach.
#[derive(Clone, Debug)]
pub struct Choice {
    pub way: Vec<u32>,
    /// Sum over the classes in use, in ns.
    pub ns: f64,
}

/// Rounds of local search; it mostly ends by itself earlier.
const ROUNDS: usize = 12;
/// Least gain that counts, in ns: below it, differences are rounding.
const GAIN: f64 = 1e-6;

struct Search<'a> {
    net: &'a Net,
    way: Vec<u32>,
    refs: Vec<u32>,
}

impl Search<'_> {
    fn needs(&self, c: usize) -> &[u32] {
        &self.net.classes[c].ways[self.way[c] as usize].needs
    }
    fn ns(&self, c: usize) -> f64 {
        self.net.classes[c].ways[self.way[c] as usize].ns
    }
    /// Adds a use of `c`; the cost of what becomes used.
    fn take(&mut self, c: usize) -> f64 {
        let (mut sum, mut stack) = (0.0, vec![c]);
        while let Some(c) = stack.pop() {
            self.refs[c] += 1;
            if self.refs[c] == 1 {
                sum += self.ns(c);
                stack.extend(self.needs(c).iter().map(|&k| k as usize));
            }
        }
        sum
    }
    /// Ends a use of `c`; the cost of what is no longer used.
    fn drop(&mut self, c: usize) -> f64 {
        let (mut sum, mut stack) = (0.0, vec![c]);
        while let Some(c) = stack.pop() {
            self.refs[c] -= 1;
            if self.refs[c] == 0 {
                sum += self.ns(c);
                stack.extend(self.needs(c).iter().map(|&k| k as usize));
            }
        }
        sum
    }
    /// Puts another way in place of a used class's; the change in cost.
    fn change(&mut self, c: usize, way: u32) -> f64 {
        let old: Vec<u32> = self.needs(c).to_vec();
        let mut delta = -self.ns(c);
        self.way[c] = way;
        delta += self.ns(c);
        // Take before drop: what both ways need stays.
        let new: Vec<u32> = self.needs(c).to_vec();
        for k in new {
            delta += self.take(k as usize);
        }
        for k in old {
            delta -= self.drop(k as usize);
        }
        delta
    }
    fn total(&self) -> f64 {
        (0..self.way.len()).filter(|&c| self.refs[c] > 0).map(|c| self.ns(c)).sum()
    }

    /// The best way of one used class, all else as it is.
    fn improve(&mut self, c: usize, skip: Option<usize>) -> f64 {
        let start = self.way[c];
        let (mut best, mut gain) = (start, 0.0);
        let mut forced = skip.is_some_and(|s| self.needs(c).contains(&(s as u32)));
        let mut at = 0.0;
        for w in 0..self.net.classes[c].ways.len() as u32 {
            if w == start || skip.is_some_and(|s| self.net.classes[c].ways[w as usize].needs.contains(&(s as u32))) {
                continue;
            }
            at += self.change(c, w);
            if forced || at < gain - GAIN {
                (best, gain, forced) = (w, at, false);
            }
        }
        at += self.change(c, best);
        at
    }

    /// Makes every user of class `c` do without it, if that is cheaper.
    fn eliminate(&mut self, c: usize, users: &[u32]) -> bool {
        let saved: Vec<(usize, u32)> = users.iter().map(|&u| (u as usize, self.way[u as usize])).collect();
        let mut delta = 0.0;
        for &u in users {
            if self.refs[u as usize] > 0 && self.needs(u as usize).contains(&(c as u32)) {
                delta += self.improve(u as usize, Some(c));
            }
        }
        if delta < -GAIN {
            return true;
        }
        for (u, w) in saved.into_iter().rev() {
            if self.way[u] != w {
                if self.refs[u] > 0 {
                    self.change(u, w);
                } else {
                    self.way[u] = w;
                }
            }
        }
        false
    }
}

/// A seed: each class by the least shared flow, its cost divided among `users`.
fn by_flow(net: &Net, users: &[u32]) -> Vec<u32> {
    let mut share: Vec<f64> = vec![];
    let mut way = vec![];
    for (i, c) in net.classes.iter().enumerate() {
        let flow = |w: &crate::net::Way| w.ns + w.needs.iter().map(|&k| share[k as usize]).sum::<f64>();
        let (best, ns) = c.ways.iter().map(flow).enumerate().fold((0, f64::INFINITY), |a, (j, f)| if f < a.1 - 1e-9 { (j, f) } else { a });
        way.push(best as u32);
        share.push(ns / users[i].max(1) as f64);
    }
    way
}

fn search(net: &Net, seed: Vec<u32>) -> Choice {
    let n = net.classes.len();
    let mut s = Search { net, way: seed, refs: vec![0; n] };
    for &r in &net.roots {
        s.take(r as usize);
    }
    for _ in 0..ROUNDS {
        let before = s.total();
        for c in (0..n).rev() {
            if s.refs[c] > 0 && net.classes[c].ways.len() > 1 {
                s.improve(c, None);
            }
        }
        let mut users: Vec<Vec<u32>> = vec![vec![]; n];
        for c in (0..n).filter(|&c| s.refs[c] > 0) {
            for &k in s.needs(c) {
                users[k as usize].push(c as u32);
            }
        }
        for c in (0..n).rev() {
            if s.refs[c] > 0 && s.ns(c) > 0.0 && !net.roots.contains(&(c as u32)) && !users[c].is_empty() {
                let list = users[c].clone();
                if s.eliminate(c, &list) {
                    // Users of what the new ways need.
                    for &u in &list {
                        for &k in s.net.classes[u as usize].ways[s.way[u as usize] as usize].needs.iter() {
                            if !users[k as usize].contains(&u) {
                                users[k as usize].push(u);
                            }
                        }
                    }
                }
            }
        }
        if s.total() > before - GAIN {
            break;
        }
    }
    let ns = s.total();
    Choice { way: s.way, ns }
}

/// Use counts of a choice: how many classes in use need each class.
fn users_of(net: &Net, way: &[u32]) -> Vec<u32> {
    let mut live = vec![false; net.classes.len()];
    let mut users = vec![0; net.classes.len()];
    for &r in &net.roots {
        live[r as usize] = true;
        users[r as usize] += 1;
    }
    for c in (0..net.classes.len()).rev() {
        if live[c] {
            for &k in &net.classes[c].ways[way[c] as usize].needs {
                users[k as usize] += 1;
                live[k as usize] = true;
            }
        }
    }
    users
}

/// Sum of the chosen ways over the classes that the roots reach.
pub fn cost(net: &Net, way: &[u32]) -> f64 {
    reached(net, way).iter().map(|&c| net.classes[c as usize].ways[way[c as usize] as usize].ns).sum()
}

/// Classes that the roots reach under a choice, in dependency order.
pub fn reached(net: &Net, way: &[u32]) -> Vec<u32> {
    let mut live = vec![false; net.classes.len()];
    for &r in &net.roots {
        live[r as usize] = true;
    }
    for c in (0..net.classes.len()).rev() {
        if live[c] {
            for &k in &net.classes[c].ways[way[c] as usize].needs {
                live[k as usize] = true;
            }
        }
    }
    (0..net.classes.len() as u32).filter(|&c| live[c as usize]).collect()
}

/// Greedy fusion: each class takes the way that is cheapest if everything were used once.
pub fn greedy(net: &Net) -> Choice {
    let way = by_flow(net, &vec![1; net.classes.len()]);
    let ns = cost(net, &way);
    Choice { way, ns }
}

/// No fusion: every op by itself (a kernel of one op where there is one).
pub fn unfused(net: &Net) -> Choice {
    let alone = |c: &crate::net::Class| {
        let size = |w: &crate::net::Way| match &w.what {
            crate::net::What::Kernel(k) => k.body.nodes.iter().filter(|n| n.op != "constant").count(),
            crate::net::What::Node(_) => 1,
        };
        (0..c.ways.len()).min_by(|&a, &b| size(&c.ways[a]).cmp(&size(&c.ways[b])).then(c.ways[a].ns.total_cmp(&c.ways[b].ns))).unwrap_or(0)
            as u32
    };
    let way: Vec<u32> = net.classes.iter().map(alone).collect();
    let ns = cost(net, &way);
    Choice { way, ns }
}

/// The cheapest choice found.
pub fn extract(net: &Net) -> Choice {
    let mut parents = vec![0u32; net.classes.len()];
    for c in &net.classes {
        let mut all: Vec<u32> = c.ways.iter().flat_map(|w| w.needs.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        for k in all {
            parents[k as usize] += 1;
        }
    }
    let mut best = search(net, greedy(net).way);
    let plain = search(net, unfused(net).way);
    if plain.ns < best.ns - GAIN {
        best = plain;
    }
    let mut users = parents;
    for _ in 0..3 {
        let seed = by_flow(net, &users);
        let found = search(net, seed);
        users = users_of(net, &found.way).iter().map(|&u| u.max(1)).collect();
        if found.ns < best.ns - GAIN {
            best = found;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Class, Way, What};
    use std::collections::HashMap;

    fn net(classes: Vec<Vec<(f64, Vec<u32>)>>, roots: Vec<u32>) -> Net {
        let classes = classes
            .into_iter()
            .map(|ways| Class {
                id: egg::Id::from(0),
                nodes: vec![],
                ways: ways.into_iter().map(|(ns, needs)| Way { ns, needs, what: What::Node(0) }).collect(),
                ty: None,
                fixed: false,
            })
            .collect();
        Net { classes, roots, made: HashMap::new() }
    }

    #[test]
    fn what_is_shared_is_counted_once() {
        // Both outputs can use class 0 (10) or their own private copy (6): shared, 10 is less than 12.
        let n = net(vec![vec![(10.0, vec![])], vec![(6.0, vec![]), (0.0, vec![0])], vec![(6.0, vec![]), (0.0, vec![0])]], vec![1, 2]);
        assert_eq!(extract(&n).ns, 10.0);
    }

    #[test]
    fn a_producer_disappears_when_all_users_absorb_it() {
        // Class 1 costs 5 and has two users, each of which could absorb it for 1 more.
        let user = vec![(4.0, vec![1]), (5.0, vec![0])];
        let n = net(vec![vec![(0.0, vec![])], vec![(5.0, vec![0])], user.clone(), user], vec![2, 3]);
        assert_eq!(extract(&n).ns, 10.0);
    }

    /// Every choice of a small net, by brute force.
    fn least(n: &Net) -> f64 {
        let mut best = f64::INFINITY;
        let total: usize = n.classes.iter().map(|c| c.ways.len()).product();
        for mut i in 0..total {
            let way: Vec<u32> = n
                .classes
                .iter()
                .map(|c| {
                    let w = i % c.ways.len();
                    i /= c.ways.len();
                    w as u32
                })
                .collect();
            best = best.min(cost(n, &way));
        }
        best
    }

    #[test]
    fn random_nets_are_near_the_optimum_and_never_worse_than_greedy() {
        let mut seed = 1u64;
        let mut next = |n: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % n
        };
        let (mut exact, mut all) = (0, 0);
        for _ in 0..60 {
            let mut classes: Vec<Vec<(f64, Vec<u32>)>> = vec![vec![(1.0, vec![])]];
            for i in 1..9u64 {
                let ways = 1 + next(3);
                classes.push((0..ways).map(|_| (next(20) as f64, (0..next(3)).map(|_| next(i) as u32).collect())).collect());
            }
            let n = net(classes, vec![8, 7]);
            let (found, best) = (extract(&n).ns, least(&n));
            assert!(found >= best - 1e-9 && found <= greedy(&n).ns + 1e-9);
            assert!((found - cost(&n, &extract(&n).way)).abs() < 1e-9);
            exact += usize::from(found <= best + 1e-9);
            all += 1;
        }
        assert!(exact * 10 >= all * 9, "{exact} of {all} optimal");
    }
}
