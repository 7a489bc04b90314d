//! DAG extraction against all choices of small random problems, with cycles and sharing.

use tahoma_core::random::Random;
use tahoma_eqsat::extract::dag::{Answer, DagWay, Problem, extract};

fn random(r: &mut Random, below: u64) -> u64 {
    r.below(below as usize) as u64
}

fn problem(seed: u64) -> Problem {
    let s = &mut Random::new(seed);
    let class = |s: &mut Random| {
        let ways = 1 + random(s, 3);
        let way = |s: &mut Random| DagWay { cost: random(s, 6) as f64, needs: (0..random(s, 3)).map(|_| random(s, 6) as u32).collect() };
        (0..ways).map(|_| way(s)).collect()
    };
    Problem { classes: (0..6).map(|_| class(s)).collect(), roots: vec![0, 1] }
}

/// The cost of a choice, or `None` where it has a cycle.
fn cost(p: &Problem, way: &[u32]) -> Option<f64> {
    fn visit(p: &Problem, way: &[u32], c: u32, state: &mut [u8]) -> Option<f64> {
        match state[c as usize] {
            1 => return None,
            2 => return Some(0.0),
            _ => state[c as usize] = 1,
        }
        let w = p.classes[c as usize].get(way[c as usize] as usize)?;
        let mut sum = w.cost;
        for &k in &w.needs {
            sum += visit(p, way, k, state)?;
        }
        state[c as usize] = 2;
        Some(sum)
    }
    let mut state = vec![0; way.len()];
    p.roots.iter().map(|&r| visit(p, way, r, &mut state)).sum()
}

fn least(p: &Problem) -> Option<f64> {
    let total: usize = p.classes.iter().map(Vec::len).product();
    let choice = |mut i: usize| {
        let digit = |c: &Vec<DagWay>| {
            let d = i % c.len();
            i /= c.len();
            d as u32
        };
        p.classes.iter().map(digit).collect::<Vec<u32>>()
    };
    (0..total).filter_map(|i| cost(p, &choice(i))).min_by(f64::total_cmp)
}

#[test]
fn valid_at_any_limit_deterministic_and_seldom_above_the_optimum() {
    let (mut solved, mut optimal) = (0, 0);
    for seed in 0..400 {
        let p = problem(seed);
        let run = |steps| extract(&p, steps, &|| false);
        let best = least(&p);
        assert_eq!(run(u64::MAX).is_some(), best.is_some(), "{p:?}");
        let Some(best) = best else { continue };
        let mut last = f64::INFINITY;
        for steps in [0, 10, 100, u64::MAX] {
            let a: Answer = run(steps).unwrap();
            assert_eq!(Some(a.cost), cost(&p, &a.way), "{p:?}");
            assert!(a.cost >= best && a.cost <= last, "{p:?}");
            assert_eq!(a, run(steps).unwrap());
            last = a.cost;
        }
        solved += 1;
        optimal += usize::from(last == best);
    }
    assert!(solved > 100 && optimal * 100 >= solved * 90, "{optimal} of {solved}");
}
