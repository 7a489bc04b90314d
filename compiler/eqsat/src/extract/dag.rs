//! Extraction on DAG cost from any e-graph, cycles included: one way per class, so that the sum over the classes in use is least.
//!
//! The first choice is Knuth's generalisation of Dijkstra's algorithm (a class is settled after all that it needs, so the choice has no
//! cycle), or one that the caller has. Then local search with exact reference counts: improve one class, or adopt a class that is not in
//! use and let its users follow, which finds work worth sharing. The choice over *all* classes stays acyclic after every move, so any
//! limit leaves a valid answer, never worse than the first. Work is counted in steps, not time: equal problems give equal answers.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// One way to make a class.
#[derive(Clone, Debug)]
pub struct DagWay {
    /// Finite and not negative.
    pub cost: f64,
    pub needs: Vec<u32>,
}

/// Classes, each with its ways, and the classes asked for.
#[derive(Clone, Debug, Default)]
pub struct Problem {
    pub classes: Vec<Vec<DagWay>>,
    pub roots: Vec<u32>,
}

/// The way of each class (meaningful where the roots reach it), and the cost of all that they reach, each once.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub way: Vec<u32>,
    pub cost: f64,
}

const GAIN: f64 = 1e-12;
/// Classes that one adoption may look at.
const FOLLOW: usize = 200;
const NONE: u32 = u32::MAX;

/// The cheapest choice found in `steps` (class visits); `stop` is an emergency brake. `None` if a root cannot be made.
pub fn extract(p: &Problem, steps: u64, stop: &dyn Fn() -> bool) -> Option<Answer> {
    let way = seed(p);
    p.roots.iter().all(|&r| way[r as usize] != NONE).then(|| improve(p, way, steps, stop))
}

/// The cheapest choice found from `way` on, which must be free of cycles over all classes.
pub fn improve(p: &Problem, way: Vec<u32>, steps: u64, stop: &dyn Fn() -> bool) -> Answer {
    let n = p.classes.len();
    let mut parents: Vec<Vec<u32>> = vec![vec![]; n];
    for (c, ways) in p.classes.iter().enumerate() {
        for &k in ways.iter().flat_map(|w| &w.needs) {
            if parents[k as usize].last() != Some(&(c as u32)) {
                parents[k as usize].push(c as u32);
            }
        }
    }
    let mut s = Search::new(p, way);
    let mut better = true;
    while better {
        better = false;
        for c in 0..n as u32 {
            if s.steps >= steps || stop() {
                return s.answer();
            }
            s.journal.clear();
            better |= if s.refs[c as usize] > 0 { s.best_way(c) < -GAIN } else { s.way[c as usize] != NONE && s.adopt(c, &parents) };
        }
    }
    s.answer()
}

/// One look at each class in use, the last first: its best way as things stand. What a greedy compiler does.
pub fn sweep(p: &Problem, way: Vec<u32>) -> Answer {
    let mut s = Search::new(p, way);
    for c in (0..p.classes.len() as u32).rev() {
        if s.refs[c as usize] > 0 {
            s.best_way(c);
        }
    }
    s.answer()
}

/// Cheapest trees, in the order of their cost.
fn seed(p: &Problem) -> Vec<u32> {
    let n = p.classes.len();
    let mut users: Vec<Vec<(u32, u32)>> = vec![vec![]; n];
    let mut left: Vec<Vec<usize>> = vec![];
    let mut sum: Vec<Vec<f64>> = vec![];
    let mut heap = BinaryHeap::new();
    for (c, ways) in p.classes.iter().enumerate() {
        left.push(ways.iter().map(|w| w.needs.len()).collect());
        sum.push(ways.iter().map(|w| w.cost).collect());
        for (i, w) in ways.iter().enumerate() {
            for &k in &w.needs {
                users[k as usize].push((c as u32, i as u32));
            }
            if w.needs.is_empty() {
                heap.push(Reverse((w.cost.to_bits(), c as u32, i as u32)));
            }
        }
    }
    let mut way = vec![NONE; n];
    // Costs are not negative, so their bits sort as they do.
    while let Some(Reverse((bits, c, i))) = heap.pop() {
        if way[c as usize] != NONE {
            continue;
        }
        way[c as usize] = i;
        for &(u, j) in &users[c as usize] {
            let (u, j) = (u as usize, j as usize);
            left[u][j] -= 1;
            sum[u][j] += f64::from_bits(bits);
            if left[u][j] == 0 && way[u] == NONE {
                heap.push(Reverse((sum[u][j].to_bits(), u as u32, j as u32)));
            }
        }
    }
    way
}

struct Search<'a> {
    p: &'a Problem,
    /// Every class needs earlier ones alone: there are no cycles to look for.
    ordered: bool,
    way: Vec<u32>,
    refs: Vec<u32>,
    mark: Vec<u32>,
    stamp: u32,
    steps: u64,
    /// Changes since the last decision: class and its way before.
    journal: Vec<(u32, u32)>,
}

impl<'a> Search<'a> {
    fn new(p: &'a Problem, way: Vec<u32>) -> Search<'a> {
        let n = p.classes.len();
        let ordered = p.classes.iter().enumerate().all(|(c, ways)| ways.iter().all(|w| w.needs.iter().all(|&k| (k as usize) < c)));
        let mut s = Search { p, ordered, way, refs: vec![0; n], mark: vec![0; n], stamp: 0, steps: 0, journal: vec![] };
        for &r in &p.roots {
            s.take(r);
        }
        s
    }
    fn now(&self, c: u32) -> &'a DagWay {
        let p: &'a Problem = self.p;
        &p.classes[c as usize][self.way[c as usize] as usize]
    }
    fn take(&mut self, c: u32) -> f64 {
        let (mut sum, mut stack) = (0.0, vec![c]);
        while let Some(c) = stack.pop() {
            self.steps += 1;
            self.refs[c as usize] += 1;
            if self.refs[c as usize] == 1 {
                sum += self.now(c).cost;
                stack.extend(&self.now(c).needs);
            }
        }
        sum
    }
    fn drop(&mut self, c: u32) -> f64 {
        let (mut sum, mut stack) = (0.0, vec![c]);
        while let Some(c) = stack.pop() {
            self.steps += 1;
            self.refs[c as usize] -= 1;
            if self.refs[c as usize] == 0 {
                sum += self.now(c).cost;
                stack.extend(&self.now(c).needs);
            }
        }
        sum
    }
    /// Whether `c` can be made by `w` without needing itself.
    fn fits(&mut self, c: u32, w: u32) -> bool {
        let p = self.p;
        if self.ordered {
            return p.classes[c as usize][w as usize].needs.iter().all(|&k| self.way[k as usize] != NONE);
        }
        self.stamp += 1;
        let mut stack = p.classes[c as usize][w as usize].needs.clone();
        while let Some(k) = stack.pop() {
            if k == c || self.way[k as usize] == NONE {
                return false;
            }
            if self.mark[k as usize] != self.stamp {
                self.mark[k as usize] = self.stamp;
                self.steps += 1;
                stack.extend(&self.now(k).needs);
            }
        }
        true
    }
    fn change(&mut self, c: u32, w: u32) -> f64 {
        if self.refs[c as usize] == 0 {
            self.way[c as usize] = w;
            return 0.0;
        }
        let old = self.now(c);
        self.way[c as usize] = w;
        let new = self.now(c);
        // Take before drop: what both ways need stays.
        let mut delta = new.cost - old.cost;
        for &k in &new.needs {
            delta += self.take(k);
        }
        for &k in &old.needs {
            delta -= self.drop(k);
        }
        delta
    }
    /// The best way of one class in use, all else as it is; the change in cost.
    fn best_way(&mut self, c: u32) -> f64 {
        let start = self.way[c as usize];
        let (mut at, mut best, mut gain) = (0.0, start, 0.0);
        for w in 0..self.p.classes[c as usize].len() as u32 {
            if w != start && self.fits(c, w) {
                at += self.change(c, w);
                if at < gain - GAIN {
                    (best, gain) = (w, at);
                }
            }
        }
        self.change(c, best);
        if best != start {
            self.journal.push((c, start));
        }
        gain
    }
    /// Takes an unused class into use and lets the classes above follow; undone unless all is cheaper.
    fn adopt(&mut self, x: u32, parents: &[Vec<u32>]) -> bool {
        let p = self.p;
        let mut delta = self.take(x);
        let mut queue: VecDeque<u32> = parents[x as usize].iter().copied().collect();
        let mut seen = 0;
        while let Some(c) = queue.pop_front().filter(|_| seen < FOLLOW) {
            seen += 1;
            if self.refs[c as usize] > 0 {
                delta += self.best_way(c);
                continue;
            }
            // An unused class that what is in use makes for nothing carries the offer upward.
            let ways = &p.classes[c as usize];
            let free = |s: &Self, w: &DagWay| w.cost == 0.0 && w.needs.iter().all(|&k| s.refs[k as usize] > 0);
            let Some(w) = ways.iter().position(|w| free(self, w)) else { continue };
            let (w, old) = (w as u32, self.way[c as usize]);
            if old != w && old != NONE && self.fits(c, w) {
                self.way[c as usize] = w;
                self.journal.push((c, old));
            }
            if self.way[c as usize] == w {
                queue.extend(&parents[c as usize]);
            }
        }
        delta -= self.drop(x);
        if delta < -GAIN {
            return true;
        }
        while let Some((c, w)) = self.journal.pop() {
            self.change(c, w);
        }
        false
    }
    fn answer(&self) -> Answer {
        let used = (0..self.way.len()).filter(|&c| self.refs[c] > 0);
        Answer { way: self.way.clone(), cost: used.map(|c| self.now(c as u32).cost).sum() }
    }
}
