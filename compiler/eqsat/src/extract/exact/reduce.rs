//! Makes an extraction problem smaller without losing its optimum.
//!
//! ```text
//! every choice needs k           =>  k is an output, and nobody's need
//! w' costs no more than w and adds nothing that w does not need   =>  w goes
//! one class alone may need k     =>  k's ways are written into that class's ways
//! ```
//!
//! What remains falls apart into components that share no class.

use crate::extract::dag::{DagWay, Problem};

/// Classes may get this many ways more when another is written into them.
const GROWTH: usize = 8;

/// A way, and the choices of the original problem that it stands for.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub cost: f64,
    pub needs: Vec<u32>,
    pub picks: Vec<(u32, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// In use if something needs it.
    Maybe,
    /// In use whatever is chosen.
    Root,
    /// Nothing left to choose, or free.
    Done,
}

pub(super) struct Core {
    pub classes: Vec<Vec<Way>>,
    state: Vec<State>,
    /// Cost and choices that are settled.
    pub base: f64,
    pub settled: Vec<(u32, u32)>,
}

/// Sets of classes, one row of words each.
struct Sets {
    words: usize,
    bits: Vec<u64>,
}

impl Sets {
    fn row(&self, c: u32) -> &[u64] {
        &self.bits[c as usize * self.words..][..self.words]
    }
}

fn holds(row: &[u64], c: u32) -> bool {
    row[c as usize / 64] >> (c % 64) & 1 == 1
}

fn insert(row: &mut [u64], c: u32) {
    row[c as usize / 64] |= 1 << (c % 64);
}

impl Core {
    pub(super) fn new(p: &Problem) -> Core {
        let way = |c: usize, i: usize, w: &DagWay| {
            let mut needs = w.needs.clone();
            needs.sort_unstable();
            needs.dedup();
            Way { cost: w.cost, needs, picks: vec![(c as u32, i as u32)] }
        };
        let ways = |(c, ways): (usize, &Vec<DagWay>)| {
            let finite = ways.iter().enumerate().filter(|(_, w)| w.cost.is_finite());
            finite.map(|(i, w)| way(c, i, w)).collect()
        };
        let mut state = vec![State::Maybe; p.classes.len()];
        p.roots.iter().for_each(|&r| state[r as usize] = State::Root);
        Core { classes: p.classes.iter().enumerate().map(ways).collect(), state, base: 0.0, settled: vec![] }
    }

    /// Applies everything until nothing changes. False: a root cannot be made.
    pub(super) fn reduce(&mut self) -> bool {
        loop {
            let Some(mut changed) = self.settle() else { return false };
            self.forget_unreachable();
            let forced = self.forced();
            changed |= self.name_roots(&forced);
            changed |= self.drop_dominated(&forced);
            changed |= self.write_in();
            if !changed {
                return true;
            }
        }
    }

    /// Drops needs that are met anyway and ways that cannot be made; settles what has nothing left to choose. `None`: infeasible.
    fn settle(&mut self) -> Option<bool> {
        let mut changed = false;
        for c in 0..self.classes.len() {
            let mut ways = std::mem::take(&mut self.classes[c]);
            for w in &mut ways {
                w.needs.retain(|&k| self.state[k as usize] == State::Maybe);
            }
            ways.retain(|w| w.needs.iter().all(|&k| !self.classes[k as usize].is_empty()));
            let free = |w: &Way| w.cost == 0.0 && w.needs.is_empty();
            match self.state[c] {
                State::Root if ways.is_empty() => return None,
                State::Root if ways.len() == 1 && ways[0].needs.is_empty() => {
                    self.base += ways[0].cost;
                    self.settled.append(&mut ways[0].picks);
                }
                State::Maybe if ways.iter().any(free) => {
                    let mut w = ways.into_iter().find(free).expect("one is");
                    self.settled.append(&mut w.picks);
                    ways = vec![];
                }
                _ => {
                    self.classes[c] = ways;
                    continue;
                }
            }
            self.state[c] = State::Done;
            changed = true;
        }
        Some(changed)
    }

    fn forget_unreachable(&mut self) {
        let mut live: Vec<bool> = self.state.iter().map(|s| *s == State::Root).collect();
        for c in (0..live.len()).rev() {
            if live[c] {
                self.classes[c].iter().flat_map(|w| &w.needs).for_each(|&k| live[k as usize] = true);
            } else {
                self.classes[c].clear();
            }
        }
    }

    /// For each class, those in use whenever it is.
    fn forced(&self) -> Sets {
        let n = self.classes.len();
        let words = n.div_ceil(64);
        let mut sets = Sets { words, bits: vec![0; n * words] };
        for c in 0..n {
            let mut common: Option<Vec<u64>> = None;
            for w in &self.classes[c] {
                let row = union(&sets, w);
                common = Some(match common {
                    None => row,
                    Some(mut all) => {
                        all.iter_mut().zip(&row).for_each(|(a, b)| *a &= b);
                        all
                    }
                });
            }
            let mut row = common.unwrap_or_else(|| vec![0; words]);
            insert(&mut row, c as u32);
            sets.bits[c * words..][..words].copy_from_slice(&row);
        }
        sets
    }

    /// What a root forces is a root.
    fn name_roots(&mut self, forced: &Sets) -> bool {
        let mut changed = false;
        for c in 0..self.classes.len() {
            if self.state[c] == State::Root {
                for k in 0..c {
                    if self.state[k] == State::Maybe && holds(forced.row(c as u32), k as u32) {
                        self.state[k] = State::Root;
                        changed = true;
                    }
                }
            }
        }
        changed
    }

    /// Drops each way that another of its class replaces at no cost, whatever else is in use: needs that the first does not force are
    /// paid for in full.
    fn drop_dominated(&mut self, forced: &Sets) -> bool {
        let mut tree: Vec<f64> = vec![];
        for (c, ways) in self.classes.iter().enumerate() {
            let sum = |w: &Way| w.cost + w.needs.iter().map(|&k| tree[k as usize]).sum::<f64>();
            let least = ways.iter().map(sum).fold(f64::INFINITY, f64::min);
            tree.push(if self.state[c] == State::Maybe { least } else { 0.0 });
        }
        let mut changed = false;
        for ways in &mut self.classes {
            let mut i = 0;
            while i < ways.len() {
                let row = union(forced, &ways[i]);
                let extra = |w: &Way| w.needs.iter().filter(|&&k| !holds(&row, k)).map(|&k| tree[k as usize]).sum::<f64>();
                if (0..ways.len()).any(|j| j != i && ways[j].cost + extra(&ways[j]) <= ways[i].cost) {
                    ways.remove(i);
                    changed = true;
                } else {
                    i += 1;
                }
            }
        }
        changed
    }

    /// Writes classes that one other class alone may need into its ways, unless those become too many.
    fn write_in(&mut self) -> bool {
        const MANY: u32 = u32::MAX;
        let mut parent: Vec<Option<u32>> = vec![None; self.classes.len()];
        for (c, ways) in self.classes.iter().enumerate() {
            for &k in ways.iter().flat_map(|w| &w.needs) {
                let p = &mut parent[k as usize];
                *p = Some(if p.is_none_or(|p| p == c as u32) { c as u32 } else { MANY });
            }
        }
        let mut changed = false;
        // From the inputs up, so that a chain is written into its end at once. A class that took one in has parents as before.
        for k in 0..self.classes.len() {
            let Some(p) = parent[k].filter(|&p| p != MANY && self.state[k] == State::Maybe) else { continue };
            let inner = &self.classes[k];
            let (with, without): (Vec<&Way>, Vec<&Way>) = self.classes[p as usize].iter().partition(|w| w.needs.contains(&(k as u32)));
            if inner.is_empty() || without.len() + with.len() * inner.len() > without.len() + with.len() + inner.len() + GROWTH {
                continue;
            }
            let join = |w: &Way, i: &Way| {
                let mut needs: Vec<u32> = w.needs.iter().chain(&i.needs).copied().filter(|&n| n != k as u32).collect();
                needs.sort_unstable();
                needs.dedup();
                Way { cost: w.cost + i.cost, needs, picks: w.picks.iter().chain(&i.picks).copied().collect() }
            };
            let joined = with.iter().flat_map(|w| inner.iter().map(|i| join(w, i)));
            let ways: Vec<Way> = without.iter().map(|w| (*w).clone()).chain(joined).collect();
            // Its needs have a new parent now; those that also stood there keep one, the others change it.
            for &n in inner.iter().flat_map(|w| &w.needs) {
                if parent[n as usize] == Some(k as u32) {
                    parent[n as usize] = Some(p);
                }
            }
            self.classes[p as usize] = ways;
            self.classes[k].clear();
            changed = true;
        }
        changed
    }

    /// The parts that share no class, in order of their first class, with the classes they are made of.
    pub(super) fn components(&self) -> Vec<(Problem, Vec<u32>)> {
        let n = self.classes.len();
        let mut group: Vec<u32> = (0..n as u32).collect();
        fn find(group: &mut [u32], mut c: u32) -> u32 {
            while group[c as usize] != c {
                group[c as usize] = group[group[c as usize] as usize];
                c = group[c as usize];
            }
            c
        }
        for (c, ways) in self.classes.iter().enumerate() {
            for &k in ways.iter().flat_map(|w| &w.needs) {
                let (a, b) = (find(&mut group, c as u32), find(&mut group, k));
                group[a.max(b) as usize] = a.min(b);
            }
        }
        let mut parts: Vec<(Problem, Vec<u32>)> = vec![];
        let mut part_of = vec![usize::MAX; n];
        let mut place = vec![0u32; n];
        for c in 0..n {
            if self.classes[c].is_empty() {
                continue;
            }
            let g = find(&mut group, c as u32) as usize;
            if part_of[g] == usize::MAX {
                part_of[g] = parts.len();
                parts.push(Default::default());
            }
            let (part, at) = &mut parts[part_of[g]];
            place[c] = at.len() as u32;
            at.push(c as u32);
            if self.state[c] == State::Root {
                part.roots.push(place[c]);
            }
            let way = |w: &Way| DagWay { cost: w.cost, needs: w.needs.iter().map(|&k| place[k as usize]).collect() };
            part.classes.push(self.classes[c].iter().map(way).collect());
        }
        parts
    }
}

/// Classes in use whenever a way is.
fn union(sets: &Sets, w: &Way) -> Vec<u64> {
    let mut row = vec![0; sets.words];
    for &k in &w.needs {
        row.iter_mut().zip(sets.row(k)).for_each(|(a, b)| *a |= b);
    }
    row
}
