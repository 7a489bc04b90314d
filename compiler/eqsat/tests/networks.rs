//! The benchmark networks at reduced size: what `optimize` returns computes what it was given, for both targets; the same bits at
//! `exact`.

mod common;

use common::{Reference, Values, check, classes};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tahoma_core::Program;
use tahoma_eqsat::{SM_90A, TRN2};
use tahoma_nets::{NETWORKS, Network, Size, tensor, weights};

fn values(p: &Program, seed: u64) -> Values {
    let main = p.main();
    let inputs = main.inputs.iter().map(|i| tensor(&i.name, main.ty(i.value), seed)).collect();
    let weights = weights(p).into_iter().map(|(n, t)| (n.clone(), tensor(&n, &t, seed + 1))).collect();
    Values { inputs, weights }
}

/// Optimised for both targets at every class; what was tested, as a line.
fn one(n: &Network) -> String {
    let p = (n.build)(Size::Reduced);
    let reference = [Reference::new(&p, values(&p, 1), false).unwrap_or_else(|| panic!("{} does not run", n.name))];
    let [all, wide, native] = reference[0].judged();
    assert!(wide == all && native == all, "{}: of {all} elements {wide} and {native} have a bound", n.name);
    let mut kernels = vec![];
    for target in [&TRN2, &SM_90A] {
        for class in classes() {
            let done = check(&p, target, class, &reference);
            let (_, report) = done.unwrap_or_else(|e| panic!("{} for {} at {class:?}: {e}", n.name, target.name));
            kernels.push(report.launches);
        }
    }
    format!("{:20} {all:6} elements, kernels {kernels:?}", n.name)
}

#[test]
fn networks_mean_the_same_after() {
    let (next, start) = (AtomicUsize::new(0), Instant::now());
    std::thread::scope(|s| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            s.spawn(|| {
                while let Some(n) = NETWORKS.get(next.fetch_add(1, Ordering::Relaxed)) {
                    println!("{} after {:.1} s", one(n), start.elapsed().as_secs_f64());
                }
            });
        }
    });
}
