//! Programs that only grow: the work of the search grows as they do, and what it returns means the same. Work is counted, not timed.

mod common;

use common::{Reference, Values, check};
use tahoma_core::Program;
use tahoma_core::artifact::Numerics;
use tahoma_eqsat::{Options, Report, Roofline, SM_90A, TRN2, optimize};
use tahoma_nets::growth::{GROWTHS, find};
use tahoma_nets::{tensor, weights};

fn program(name: &str, n: usize) -> Program {
    (find(name).unwrap_or_else(|| panic!("no family {name}")).build)(n)
}

fn searched(name: &str, n: usize, target: &Roofline) -> Report {
    optimize(&program(name, n), &Options::new(target)).unwrap_or_else(|d| panic!("{name} {n}: {d}")).1
}

fn values(p: &Program) -> Values {
    let main = p.main();
    let inputs = main.inputs.iter().map(|i| tensor(&i.name, main.ty(i.value), 1)).collect();
    Values { inputs, weights: weights(p).into_iter().map(|(n, t)| (n.clone(), tensor(&n, &t, 2))).collect() }
}

/// The search of twice as many ops takes at most a little more than twice the e-nodes and groups.
#[test]
fn work_grows_with_the_program() {
    for (name, n) in [
        ("mul-add", 30),
        ("adds", 30),
        ("muls", 30),
        ("batch-norms", 20),
        ("mul-add-relu", 30),
        ("mixed", 24),
        ("squarings", 20),
        ("relus-concat", 50),
        ("slices", 50),
    ] {
        for target in [&TRN2, &SM_90A] {
            let (half, full) = (searched(name, n, target), searched(name, 2 * n, target));
            let grows = |a: usize, b: usize| b <= 3 * a + 200;
            let line = format!(
                "{name} for {}: {} and {} e-nodes, {} and {} groups",
                target.name, half.e_nodes, full.e_nodes, half.bodies_tried, full.bodies_tried
            );
            assert!(grows(half.e_nodes, full.e_nodes) && grows(half.bodies_tried, full.bodies_tried), "{line}");
            assert!(full.e_nodes < 20_000, "{line}");
        }
    }
}

/// A bound on the groups tried holds for any program, and the report says where it was reached.
#[test]
fn groups_are_bounded() {
    let r = searched("random", 400, &SM_90A);
    assert!(r.bodies_tried < 250_000, "{} groups", r.bodies_tried);
    assert!(r.chosen_ns <= r.greedy_ns);
    assert_eq!(searched("mul-add", 20, &SM_90A).limited, 0);
}

/// What weights gather to is one product and one sum, as far as the rules allow (no product that may leave its range, no exact offset):
/// what is left of a chain is cut into blocks of a kernel's worth of ops. Wide joins and cuts are one or two launches.
#[test]
fn long_chains_and_wide_joins_are_few_kernels() {
    for target in [&TRN2, &SM_90A] {
        let most = [("mul-add", 4), ("adds", 8), ("muls", 8), ("batch-norms", 12), ("relus-concat", 2), ("slices", 2)];
        for (name, most) in most {
            let r = searched(name, find(name).map_or(0, |g| g.full), target);
            println!("{name} for {}: {} launches", target.name, r.launches);
            assert!(r.launches <= most, "{name} for {}: {} launches", target.name, r.launches);
        }
        let r = searched("mul-add", 250, target);
        println!("mul-add of 250 for {}: {} launches", target.name, r.launches);
        assert!(r.launches <= 32, "{} launches for {}", r.launches, target.name);
        let r = searched("concat", 1000, target);
        assert!(r.launches + r.host_ops.values().sum::<usize>() <= 6, "{} launches, {:?}", r.launches, r.host_ops);
    }
}

#[test]
fn grown_programs_mean_the_same() {
    for g in GROWTHS {
        let n = match g.name {
            "concat" => 300,
            "layers" => 3,
            "encoders" => 1,
            "random" => 40,
            "squarings" => 5,
            "relus-concat" | "slices" => 20,
            _ => 13,
        };
        let p = (g.build)(n);
        let reference = [Reference::new(&p, values(&p), false).unwrap_or_else(|| panic!("{} does not run", g.name))];
        for target in [&TRN2, &SM_90A] {
            for class in [Numerics::Exact, Numerics::Reassociate] {
                check(&p, target, class, &reference).unwrap_or_else(|e| panic!("{} for {} at {class:?}: {e}", g.name, target.name));
            }
        }
    }
}

#[test]
fn equal_programs_give_equal_results() {
    for name in ["mul-add", "mixed", "random"] {
        let once = || optimize(&program(name, 60), &Options::new(&SM_90A)).expect("it is searched");
        let ((p, a), (q, b)) = (once(), once());
        assert!(p == q && (a.e_nodes, a.bodies_tried, a.chosen_ns) == (b.e_nodes, b.bodies_tried, b.chosen_ns), "{name}");
    }
}
