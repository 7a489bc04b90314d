//! How the work and the time of a search grow: families of programs at doubling sizes, for both targets.
//!
//! `growth [NAMES] [--markdown] [--phases]`: CPU time is that of `optimize` on one thread. The ratio is to the size before; near 2 is linear.

use std::time::Instant;
use tahoma_eqsat::{Options, SM_90A, TRN2, optimize};
use tahoma_nets::growth::GROWTHS;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (flags, names): (Vec<_>, Vec<_>) = args.iter().partition(|a| a.starts_with("--"));
    let has = |f: &str| flags.iter().any(|x| *x == f);
    let sizes = |full: usize| match flags.iter().find_map(|f| f.strip_prefix("--n=")) {
        Some(n) => n.split(',').filter_map(|n| n.parse().ok()).collect(),
        None => vec![full / 4, full / 2, full],
    };
    if has("--markdown") {
        println!("| program | target | n | e-nodes | ended | bodies tried | kernels | search | growth |");
        println!("|---|---|---|---|---|---|---|---|---|");
    }
    for g in GROWTHS.iter().filter(|g| names.is_empty() || names.iter().any(|x| *x == g.name)) {
        for target in [&TRN2, &SM_90A] {
            let mut before: Option<f64> = None;
            for n in sizes(g.full) {
                let p = (g.build)(n);
                let start = Instant::now();
                let (_, r) = optimize(&p, &Options::new(target)).map_err(|d| d.to_string())?;
                let took = start.elapsed().as_secs_f64();
                let ratio = before.map_or("-".into(), |b| format!("{:.1}", took / b));
                before = Some(took);
                let (e, tried, kernels) = (r.e_nodes, r.bodies_tried, r.launches);
                match has("--markdown") {
                    true => println!(
                        "| {} | {} | {n} | {e} | {} | {tried} | {kernels} | {took:.3} s | {ratio} |",
                        g.name, target.name, r.stopped
                    ),
                    false => println!(
                        "{:14} {:7} {n:6} {e:7} e-nodes {:10} {tried:7} bodies {kernels:5} kernels {took:8.3} s {ratio:>5}",
                        g.name, target.name, r.stopped
                    ),
                }
                if has("--phases") {
                    println!("    {:?}", r.phases);
                    println!("    {:?}", r.rules);
                }
            }
        }
    }
    Ok(())
}
