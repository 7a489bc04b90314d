//! The same problem as an integer program for a solver crate: the check on the search beside it.
//!
//! ```text
//! min Σ cost(w)·y_w     Σ_{w of root} y_w = 1     Σ_{w of c that need k} y_w <= Σ_{w of k} y_w     y binary
//! ```
//!
//! Every class needs earlier ones alone, so no constraint has to forbid cycles. `microlp` is Rust throughout (simplex, branch and
//! bound): it builds wherever this crate does, where HiGHS and SCIP want CMake and a C++ compiler.

use crate::extract::dag::Problem;
use microlp::{ComparisonOp, OptimizationDirection, SolutionStatus, SolveOptions, SolveOutcome, Variable};
use std::time::Duration;

/// The least cost if the solver proves one within the budget; `None` otherwise.
pub fn solve(p: &Problem, incumbent: Option<&[u32]>, budget: Duration) -> Option<f64> {
    let mut model = microlp::Problem::new(OptimizationDirection::Minimize);
    let mut var = |cost: f64| model.add_binary_var(cost);
    let y: Vec<Vec<Variable>> = p.classes.iter().map(|ways| ways.iter().map(|w| var(w.cost)).collect()).collect();
    let mut root = vec![false; p.classes.len()];
    for &r in &p.roots {
        root[r as usize] = true;
    }
    for (c, ways) in p.classes.iter().enumerate() {
        let all = |sign: f64, k: usize| y[k].iter().map(move |&v| (v, sign));
        if root[c] {
            model.add_constraint(all(1.0, c), ComparisonOp::Eq, 1.0);
        } else if ways.len() > 1 {
            model.add_constraint(all(1.0, c), ComparisonOp::Le, 1.0);
        }
        let mut needs: Vec<u32> = ways.iter().flat_map(|w| w.needs.iter().copied()).collect();
        needs.sort_unstable();
        needs.dedup();
        for k in needs {
            let users = ways.iter().zip(&y[c]).filter(|(w, _)| w.needs.contains(&k)).map(|(_, &v)| (v, 1.0));
            model.add_constraint(users.chain(all(-1.0, k as usize)), ComparisonOp::Le, 0.0);
        }
    }
    let mut options = SolveOptions::default();
    options.time_limit = Some(budget);
    options.warm_start = incumbent.map(|way| {
        let live = super::reached(p, way);
        let on = |c: usize, i: usize| f64::from(u8::from(live[c] && way[c] as usize == i));
        y.iter().enumerate().flat_map(|(c, row)| row.iter().enumerate().map(move |(i, &v)| (v, on(c, i)))).collect()
    });
    match model.solve_with(options) {
        Ok(SolveOutcome::Solution(s)) if s.status() == SolutionStatus::Optimal => Some(s.objective()),
        _ => None,
    }
}
