//! Random programs: what `optimize` returns computes what it was given, at every class of numerics, for both targets.
//!
//! A failure names its seed; `cargo run -p tahoma-nets --example random -- SEED` prints the program. More seeds:
//! `TAHOMA_SEEDS=1000..20000 cargo test --release -p tahoma-eqsat --test random`.

mod common;

use common::{Reference, Values, check, classes};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use tahoma_core::artifact::Numerics;
use tahoma_core::numeric::float_format;
use tahoma_core::{Attrs, Builder, DType, Program, Tensor, TensorType, ValueId};
use tahoma_eqsat::bound::{Roundings, bound, widened};
use tahoma_eqsat::{Roofline, SM_90A, TRN2, span};
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
    /// Rules that made something, and how many programs they made a part of.
    fired: BTreeSet<String>,
    used: BTreeMap<String, usize>,
    /// Elements of outputs; those held to a bound in f64, and in the program's own types.
    judged: [usize; 3],
}

fn one(seed: u64, count: &Mutex<Count>) -> Result<(), String> {
    let r = random(seed);
    let target: &Roofline = if seed.is_multiple_of(2) { &TRN2 } else { &SM_90A };
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
        for (name, u) in &report.rules {
            c.fired.insert(name.clone());
            if u.used > 0 {
                *c.used.entry(name.clone()).or_default() += 1;
            }
        }
        let heavy = |n: &tahoma_core::Node| ["matmul", "conv"].contains(&n.op.name) || n.op.name.starts_with("reduce");
        c.heavy += q.functions.values().filter(|g| g.attrs.str("kernel").is_some() && g.nodes.iter().any(heavy)).count();
    }
    Ok(())
}

/// A program on values that reach the ends of every type: all bits and all floats at `exact`, all that types are at home with at
/// `reassociate`.
fn at_edges(seed: u64, count: &Mutex<Count>) -> Result<(), String> {
    let r = random(seed);
    let target: &Roofline = if seed.is_multiple_of(2) { &SM_90A } else { &TRN2 };
    let all_of = |d: DType| float_format(d).map_or((0, 0), |f| (f.tiny(), f.most));
    let home = |d: DType| (span::home(d).least as i32, span::home(d).most as i32 - 1);
    let values = |draw, reach, awkward| {
        let v = r.edges(draw, reach, awkward);
        Values { inputs: v.inputs, weights: v.weights }
    };
    for class in classes() {
        let all: Vec<Reference> = match class {
            Numerics::Exact => (4..6).filter_map(|d| Reference::new(&r.program, values(d, all_of, true), true)).collect(),
            // The first on which the program stays within its types.
            _ => (6..16)
                .filter_map(|d| Reference::native(&r.program, values(d, home, false)))
                .find(Reference::is_bounded)
                .into_iter()
                .collect(),
        };
        {
            let mut c = count.lock().unwrap();
            c.drawn += 1;
            c.valid += usize::from(!all.is_empty());
            for j in all.iter().map(Reference::judged).filter(|_| class > Numerics::Exact) {
                (0..3).for_each(|i| c.judged[i] += j[i]);
            }
        }
        let (_, report) = check(&r.program, target, class, &all).map_err(|e| format!("{class:?}: {e}"))?;
        let mut c = count.lock().unwrap();
        for (name, u) in report.rules.iter().filter(|u| u.1.used > 0) {
            *c.used.entry(name.clone()).or_default() += u.used;
        }
    }
    count.lock().unwrap().graphs += 1;
    Ok(())
}

/// Every seed of a range, on all cores; the failures, in order.
fn all(
    seeds: std::ops::Range<u64>,
    one: impl Fn(u64, &Mutex<Count>) -> Result<(), String> + Sync + std::panic::RefUnwindSafe,
) -> (Count, Vec<(u64, String)>) {
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

/// Seeds that were asked for instead of the usual ones.
fn asked() -> Option<std::ops::Range<u64>> {
    let s = std::env::var("TAHOMA_SEEDS").ok()?;
    let (from, to) = s.split_once("..")?;
    Some(from.parse().ok()?..to.parse().ok()?)
}

#[test]
fn random_programs_hold_at_the_ends_of_every_type() {
    let start = std::time::Instant::now();
    let (count, failed) = all(asked().unwrap_or(0..3000), at_edges);
    println!("{:.1} s: {count:?}", start.elapsed().as_secs_f64());
    for (seed, e) in &failed {
        println!("seed {seed}: {e}");
    }
    if asked().is_none() {
        assert!(failed.is_empty(), "see one: cargo run -p tahoma-nets --example random -- {}", failed[0].0);
        let [all, _, native] = count.judged;
        // Sets of values that leave the types' ranges promise nothing and are drawn again; some programs have none.
        assert!(count.graphs == 3000 && count.valid * 10 >= count.drawn * 8, "{} of {} sets of values", count.valid, count.drawn);
        assert!(native * 4 >= all, "of {all} elements {native} have a bound");
    } else {
        assert!(failed.is_empty(), "{} programs: cargo run -p tahoma-nets --example random -- {}", failed.len(), failed[0].0);
    }
}

#[test]
fn random_programs_mean_the_same_after() {
    let (start, seeds) = (std::time::Instant::now(), asked());
    let asked = seeds.is_some();
    let (count, failed) = all(seeds.unwrap_or(0..1000), one);
    println!("{:.1} s: {count:?}", start.elapsed().as_secs_f64());
    println!("{} rules fired, {} used", count.fired.len(), count.used.len());
    for (seed, e) in &failed {
        println!("seed {seed}: {e}");
    }
    assert!(failed.is_empty(), "{} programs: cargo run -p tahoma-nets --example random -- {}", failed.len(), failed[0].0);
    if asked {
        return;
    }
    // Enough is tested: far below what is, far above nothing.
    assert!(count.graphs == 1000 && count.valid >= 3900, "{} of {} sets of values", count.valid, count.drawn);
    assert!(count.changed.iter().all(|&n| n >= 350), "programs that rules changed: {:?}", count.changed);
    assert!(count.kernels.iter().all(|&n| n >= 2000) && count.heavy >= 2500, "{:?} kernels, {} heavy", count.kernels, count.heavy);
    assert!(count.used.len() >= 70, "{} rules used", count.used.len());
    let [all, wide, native] = count.judged;
    // Poles that a rounding may reach have no bound.
    assert!(wide * 20 >= all * 17 && native * 10 >= all * 7, "of {all} elements {wide} and {native} have a bound");
}

/// A program of one input `x: dtype[3, 8]` and one output.
fn small(dtype: DType, make: impl Fn(&mut Builder, ValueId) -> ValueId) -> Program {
    let mut b = Builder::new(Program::MAIN);
    let x = b.input("x", TensorType::known(dtype, &[3, 8]));
    let y = make(&mut b, x);
    b.output("y", y);
    Program::new(b.finish())
}

/// Functions that jump, turn or have a pole: the bound is as far as any rounding reaches, though none of those it tries lands there.
#[test]
fn a_bound_reaches_what_lies_on_the_way() {
    let op = |b: &mut Builder, name: &str, x: &[ValueId]| b.op(name, x, Attrs::new()).unwrap();
    // A function of `y = 3x − c`, or of `x` and that: what it is, and the least and the most that its elements may be off.
    let of = |name: &str, x: f64, c: f64, both: bool| {
        let p = small(DType::F32, |b, x| {
            let [three, c] = [3.0, c].map(|v| b.constant(Tensor::from_f64s(DType::F32, &[], &[v])));
            let y = op(b, "mul", &[x, three]);
            let y = op(b, "sub", &[y, c]);
            if both { op(b, name, &[x, y]) } else { op(b, name, &[y]) }
        });
        let b = bound(&p, &[Tensor::from_f64s(DType::F32, &[3, 8], &[x; 24])], &Values::default(), Roundings::OfTypes).unwrap();
        let may = b.may[0].iter().copied();
        (b.means[0].to_f64s()[0], may.clone().fold(f64::INFINITY, f64::min), may.fold(0.0, f64::max))
    };
    // Of a large number they are anything.
    for (name, x) in [("sin", 1e8), ("sin", 3e11), ("cos", 1e8), ("cos", -7e12)] {
        let (is, least, _) = of(name, x, 0.25, false);
        assert!(least >= 1.0 + is.abs(), "{name} of 3·{x} is {is} and may be off by {least}");
    }
    assert_eq!(of("tan", 1e9, 0.25, false).1, f64::INFINITY);
    // The divisor is what rounding left of 3 − 3.
    let nearly = 3.0 - 2f64.powi(-21);
    for (name, both) in [("reciprocal", false), ("div", true), ("rem", true), ("mod", true)] {
        assert_eq!(of(name, 1.0, nearly, both).1, f64::INFINITY, "{name}");
    }
    // 6 is 3·2: what remains is 0, or nearly 2.
    for name in ["rem", "mod"] {
        let (is, least, most) = of(name, 6.0, 16.0, true);
        assert!(is == 0.0 && least > 1.999 && most < 2.001, "{name}: {least} to {most}");
    }
    // Nothing of the kind is near.
    for (name, both) in [("sin", false), ("cos", false), ("tan", false), ("reciprocal", false), ("div", true), ("rem", true), ("mod", true)]
    {
        let (is, _, most) = of(name, 1.0, 2.0, both);
        assert!(most < 2e-5 || (is == 0.0 && both), "{name}: {most}");
    }
}

#[test]
fn what_is_wrong_is_seen() {
    let op = |b: &mut Builder, name: &str, x: &[ValueId]| b.op(name, x, Attrs::new()).unwrap();
    let number = |b: &mut Builder, d, v: f64| b.constant(Tensor::from_f64s(d, &[], &[v]));
    let reduce = |b: &mut Builder, x, axes: &[i64]| {
        b.op("reduce_sum", &[x], Attrs::new().with("axes", axes.to_vec()).with("keepdims", false)).unwrap()
    };
    let cast = |b: &mut Builder, x, to: DType| b.op("cast", &[x], Attrs::new().with("to", to).with("saturate", true)).unwrap();
    let x: Vec<f64> = (0..24).map(|i| (i as f64 * 0.7).sin()).collect();
    let verdict = |dtype, p: &Program, q: &Program, class| {
        let v = Values { inputs: vec![Tensor::from_f64s(dtype, &[3, 8], &x)], ..Values::default() };
        let r = Reference::new(p, v, false).unwrap();
        (r.check(q, class), r.check_wide(&widened(q)))
    };
    let (exact, sums) = (Numerics::Exact, Numerics::Reassociate);
    // Another order: not the same bits, but as good.
    let p = small(DType::F32, |b, x| {
        let (k, c) = (number(b, DType::F32, 0.3), number(b, DType::F32, 0.7));
        let y = op(b, "add", &[x, k]);
        op(b, "mul", &[y, c])
    });
    let q = small(DType::F32, |b, x| {
        let (kc, c) = (number(b, DType::F32, 0.3 * 0.7), number(b, DType::F32, 0.7));
        let y = op(b, "mul", &[x, c]);
        op(b, "add", &[y, kc])
    });
    assert!(verdict(DType::F32, &p, &q, exact).0.is_err());
    assert_eq!(verdict(DType::F32, &p, &q, sums).0, Ok(()));
    // Sums in fewer bits: right as a formula, less than was asked for.
    let p = small(DType::F32, |b, x| reduce(b, x, &[0, 1]));
    let q = small(DType::F32, |b, x| {
        let y = cast(b, x, DType::BF16);
        let y = reduce(b, y, &[0, 1]);
        cast(b, y, DType::F32)
    });
    let (native, wide) = verdict(DType::F32, &p, &q, sums);
    assert!(native.is_err() && wide.is_ok());
    // A formula that is nearly right, in few bits: only f64 tells.
    let p = small(DType::BF16, |b, x| op(b, "exp", &[x]));
    let q = small(DType::BF16, |b, x| {
        let k = number(b, DType::F32, 1.0 + 1e-6);
        let y = cast(b, x, DType::F32);
        let y = op(b, "mul", &[y, k]);
        let y = cast(b, y, DType::BF16);
        op(b, "exp", &[y])
    });
    let (native, wide) = verdict(DType::BF16, &p, &q, sums);
    assert!(native.is_ok() && wide.is_err());
    // The sign of a zero.
    let p = small(DType::F32, |b, x| {
        let k = number(b, DType::F32, 0.0);
        op(b, "mul", &[x, k])
    });
    let q = small(DType::F32, |b, x| {
        let k = number(b, DType::F32, 0.0);
        let y = op(b, "abs", &[x]);
        op(b, "mul", &[y, k])
    });
    assert!(verdict(DType::F32, &p, &q, exact).0.is_err());
    assert_eq!(verdict(DType::F32, &p, &q, sums), (Ok(()), Ok(())));
}
