//! How the work and the time of a search grow: families of programs at doubling sizes, for both targets.
//!
//! `growth [NAMES] [--n=N,…] [--markdown] [--phases]`: time is that of the processor in `optimize`, which takes one thread. The last column
//! is the ratio to the size before; near 2 is linear.

use std::time::Instant;
use tahoma_eqsat::{Options, SM_90A, TRN2, optimize};
use tahoma_nets::growth::GROWTHS;

/// Seconds that this thread has run: what a busy machine does meanwhile does not count.
fn cpu_seconds(start: Instant) -> f64 {
    let ran = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let ns = ran.and_then(|s| s.split_whitespace().next()?.parse::<f64>().ok());
    ns.map_or(start.elapsed().as_secs_f64(), |ns| ns / 1e9)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let begin = Instant::now();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (flags, names): (Vec<_>, Vec<_>) = args.iter().partition(|a| a.starts_with("--"));
    let has = |f: &str| flags.iter().any(|x| *x == f);
    let sizes = |full: usize| match flags.iter().find_map(|f| f.strip_prefix("--n=")) {
        Some(n) => n.split(',').filter_map(|n| n.parse().ok()).collect(),
        None => vec![full / 4, full / 2, full],
    };
    if has("--markdown") {
        println!("| program | target | n | e-nodes | ended | groups tried | e-nodes limited | kernels | search | growth |");
        println!("|---|---|---|---|---|---|---|---|---|---|");
    }
    for g in GROWTHS.iter().filter(|g| names.is_empty() || names.iter().any(|x| *x == g.name)) {
        for target in [&TRN2, &SM_90A] {
            let mut before: Option<f64> = None;
            for n in sizes(g.full) {
                let p = (g.build)(n);
                let start = cpu_seconds(begin);
                let (_, r) = optimize(&p, &Options::new(target)).map_err(|d| d.to_string())?;
                let took = cpu_seconds(begin) - start;
                let ratio = before.map_or("-".into(), |b| format!("{:.1}", took / b));
                before = Some(took);
                let (e, tried, kernels, limited) = (r.e_nodes, r.bodies_tried, r.launches, r.limited);
                match has("--markdown") {
                    true => println!(
                        "| {} | {} | {n} | {e} | {} | {tried} | {limited} | {kernels} | {took:.3} s | {ratio} |",
                        g.name, target.name, r.stopped
                    ),
                    false => println!(
                        "{:14} {:7} {n:6} {e:7} e-nodes {:10} {tried:7} groups {limited:5} limited {kernels:5} kernels {took:8.3} s {ratio:>5}",
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
