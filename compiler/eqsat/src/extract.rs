//! DAG-aware extraction: which way to make each class, so that the sum over all classes in use is least.
//!
//! ```text
//! cost(choice) = Σ ns(way chosen for c),   c reachable from the outputs, each once
//! ```
//!
//! First the exact search of [`exact`], as far as a narrow frontier takes it: nets of most networks end there. Else several first choices
//! (everything fused that a single use would fuse, nothing fused, by shared flow as in technology mapping), each improved by the local
//! search of [`dag`]. Only improvements are kept, so the result is never worse than greedy fusion. Everything goes in class order: equal
//! nets give equal choices.

pub mod dag;
pub mod exact;

use crate::net::Net;
use dag::{DagWay, Problem};
use exact::Effort;

/// The way chosen for each class of a net; meaningful for those the roots reach.
#[derive(Clone, Debug)]
pub struct Choice {
    pub way: Vec<u32>,
    /// Sum over the classes in use, in ns.
    pub ns: f64,
}

/// Least gain that counts, in ns: below it, differences are rounding.
const GAIN: f64 = 1e-6;
/// Class visits of each local search; it mostly ends by itself earlier.
const STEPS: u64 = 4_000_000;

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

/// Bytes that the chosen kernels and host ops move: what accesses touch of each buffer, results written once. Recipes and free
/// reshapes move nothing.
pub fn bytes(net: &Net, way: &[u32]) -> u64 {
    let of = |c: u32| net.classes[c as usize].ty.as_ref().and_then(|t| t.bytes()).unwrap_or(0);
    let moved = |&c: &u32| {
        let class = &net.classes[c as usize];
        let w = &class.ways[way[c as usize] as usize];
        match &w.what {
            crate::net::What::Kernel(k) => k.formed.spec.bytes(),
            crate::net::What::Node(_) if class.fixed || w.ns < 1.0 => 0,
            crate::net::What::Node(_) => of(c) + w.needs.iter().map(|&k| of(k)).sum::<u64>(),
        }
    };
    reached(net, way).iter().map(moved).sum()
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

/// Greedy fusion, as compilers do it without search: from the outputs back, each op takes in those before it as long as that is a
/// kernel and lowers the time as things stand; no decision is looked at again.
pub fn greedy(net: &Net) -> Choice {
    let found = dag::sweep(&problem(net), unfused(net).way);
    Choice { way: found.way, ns: found.cost }
}

fn problem(net: &Net) -> Problem {
    let way = |w: &crate::net::Way| DagWay { cost: w.ns, needs: w.needs.clone() };
    let classes = net.classes.iter().map(|c| c.ways.iter().map(way).collect()).collect();
    Problem { classes, roots: net.roots.clone() }
}

/// A choice for the program as written: what the saturated one must beat, and what is used where it does not. Greedy fusion improved
/// is enough where the net is large.
pub fn plain(net: &Net, greedy: &Choice) -> Choice {
    const LARGE: usize = 1000;
    if net.classes.len() < LARGE {
        return extract(net);
    }
    let found = dag::improve(&problem(net), greedy.way.clone(), STEPS, &|| false);
    Choice { way: found.way, ns: found.cost }
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
    let chosen = |a: &dag::Answer| Choice { way: a.way.clone(), ns: a.cost };
    let narrow = exact(net, &greedy(net), Effort::QUICK);
    if let Some(exact::Exact::Optimal(best)) = &narrow {
        return chosen(best);
    }
    let mut best = searched(net);
    if let Some(e) = narrow.filter(|e| e.best().cost < best.ns - GAIN) {
        best = chosen(e.best());
    }
    best
}

/// The best of several local searches.
fn searched(net: &Net) -> Choice {
    let mut parents = vec![0u32; net.classes.len()];
    for c in &net.classes {
        let mut all: Vec<u32> = c.ways.iter().flat_map(|w| w.needs.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        for k in all {
            parents[k as usize] += 1;
        }
    }
    let problem = problem(net);
    let search = |seed: Vec<u32>| {
        let found = dag::improve(&problem, seed, STEPS, &|| false);
        Choice { way: found.way, ns: found.cost }
    };
    let mut best = search(greedy(net).way);
    let plain = search(unfused(net).way);
    if plain.ns < best.ns - GAIN {
        best = plain;
    }
    let mut users = parents;
    for _ in 0..3 {
        let seed = by_flow(net, &users);
        let found = search(seed);
        users = users_of(net, &found.way).iter().map(|&u| u.max(1)).collect();
        if found.ns < best.ns - GAIN {
            best = found;
        }
    }
    best
}

/// The cheapest choice there is, or what is known about its cost when the effort is spent; `found` is the choice to beat.
pub fn exact(net: &Net, found: &Choice, effort: Effort) -> Option<exact::Exact> {
    exact::solve(&problem(net), &found.way, effort)
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

    /// A large program as written is improved from greedy fusion, which it is never worse than.
    #[test]
    fn large_programs_as_written_are_no_worse_than_greedy() {
        // Each class is made from the one before, or takes in what makes that, which then is not made: greedy sees one step at a time.
        let step = |i: u32| vec![(5.0, vec![i - 1]), (6.0 + f64::from(i % 7), vec![i.saturating_sub(2), 0]), (11.0, vec![0])];
        let classes = std::iter::once(vec![(1.0, vec![])]).chain((1..1500).map(step)).collect();
        let n = net(classes, vec![1499, 700]);
        let (found, greedy) = (plain(&n, &greedy(&n)), greedy(&n));
        assert!(found.ns <= greedy.ns && (found.ns - cost(&n, &found.way)).abs() < 1e-6);
    }

    #[test]
    fn random_nets_are_near_the_optimum_and_never_worse_than_greedy() {
        let mut random = tahoma_core::random::Random::new(1);
        let mut next = |n: u64| random.below(n as usize) as u64;
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
