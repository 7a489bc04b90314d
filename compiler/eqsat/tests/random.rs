//! Random programs: what `optimize` returns computes what it was given, at every class of numerics, for both targets.
//!
//! A failure names its seed; `cargo run -p tahoma-nets --example random -- SEED` prints the program. More seeds:
//! `TAHOMA_SEEDS=1000..20000 cargo test --release -p tahoma-eqsat --test random`.

mod common;

use common::{Reference, Values, check};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use tahoma_core::artifact::Numerics;
use tahoma_eqsat::{Roofline, SM_90A, TRN2, rules};
use tahoma_nets::random::random;

/// What was tested.
#[derive(Debug, Default)]
struct Count {
    graphs: usize,
    /// Sets of values that the source runs on, of those drawn.
    valid: usize,
    drawn: usize,
    /// By class: programs that rules changed, and kernels.
    changed: Vec<usize>,
    kernels: Vec<usize>,
    /// Kernels with a contraction or a reduction.
    heavy: usize,
    /// Elements of outputs; those held to a bound in f64, and in the program's own types.
    judged: [usize; 3],
}

/// The classes that allow different things: one that adds no rule to the class before is the same.
fn classes() -> Vec<Numerics> {
    let has_rules = |c: &Numerics| rules::all().any(|r| r.class == *c) || rules::codes().any(|r| r.class == *c);
    [Numerics::Exact, Numerics::Reassociate, Numerics::Fast].into_iter().filter(has_rules).collect()
}

fn one(seed: u64, count: &Mutex<Count>) -> Result<(), String> {
    let r = random(seed);
    let target: &Roofline = if seed % 2 == 0 { &TRN2 } else { &SM_90A };
    let values = |draw, awkward| {
        let v = r.values(draw, awkward);
        Values { inputs: v.inputs, weights: v.weights }
    };
    let first = Reference::new(&r.program, values(0, false), false).ok_or("the program does not run on the values it was made with")?;
    let mut all = vec![first];
    all.extend(Reference::new(&r.program, values(1, false), false));
    let mut bits: Vec<Reference> = (2..4).filter_map(|d| Reference::new(&r.program, values(d, true), true)).collect();
    {
        let mut c = count.lock().unwrap();
        c.graphs += 1;
        c.drawn += 4;
        c.valid += all.len() + bits.len();
        for j in all.iter().map(Reference::judged) {
            (0..3).for_each(|i| c.judged[i] += j[i]);
        }
    }
    let regular = all.len();
    all.append(&mut bits);
    for (i, class) in classes().into_iter().enumerate() {
        let all = if class == Numerics::Exact { &all[..] } else { &all[..regular] };
        let (q, report) = check(&r.program, target, class, all).map_err(|e| format!("{class:?}: {e}"))?;
        let mut c = count.lock().unwrap();
        c.changed.resize(classes().len(), 0);
        c.kernels.resize(classes().len(), 0);
        c.changed[i] += usize::from(report.rules.values().any(|u| u.used > 0));
        c.kernels[i] += report.launches;
        let heavy = |n: &tahoma_core::Node| ["matmul", "conv"].contains(&n.op.name) || n.op.name.starts_with("reduce");
        c.heavy += q.functions.values().filter(|g| g.attrs.str("kernel").is_some() && g.nodes.iter().any(heavy)).count();
    }
    Ok(())
}

/// Every seed of a range, on all cores; the failures, in order.
fn all(seeds: std::ops::Range<u64>) -> (Count, Vec<(u64, String)>) {
    let (count, next, failed) = (Mutex::new(Count::default()), AtomicU64::new(seeds.start), Mutex::new(vec![]));
    std::thread::scope(|s| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            s.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let done = std::panic::catch_unwind(|| one(seed, &count)).unwrap_or_else(|_| Err("panicked".into()));
                    if let Err(e) = done {
                        failed.lock().unwrap().push((seed, e));
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort();
    (count.into_inner().unwrap(), failed)
}

#[test]
fn random_programs_mean_the_same_after() {
    let seeds = std::env::var("TAHOMA_SEEDS").ok().and_then(|s| {
        let (from, to) = s.split_once("..")?;
        Some(from.parse().ok()?..to.parse().ok()?)
    });
    let (start, asked) = (std::time::Instant::now(), seeds.is_some());
    let (count, failed) = all(seeds.unwrap_or(0..1000));
    println!("{:.1} s: {count:#?}", start.elapsed().as_secs_f64());
    for (seed, e) in &failed {
        println!("seed {seed}: {e}");
    }
    assert!(failed.is_empty(), "{} programs: cargo run -p tahoma-nets --example random -- {}", failed.len(), failed[0].0);
    assert!(asked || count.graphs == 1000);
}
