//! Fusion of the benchmark networks: modelled time and HBM bytes of no fusion, greedy fusion and extraction, for both targets.
//!
//! `fusion [NAMES] [--kernels] [--reduced] [--exact=WORK] [--markdown] [--layers=N,…]`; `--kernels` lists the kernels of each program, `--exact` tells the
//! optimum of the same choice net, or the lower bound that was proved by that work (edges visited, some 10⁸ a second), and how far above it the heuristic is;
//! `--layers` times the search on so many equal BERT-base encoder layers instead.

use std::time::Instant;
use tahoma_core::Program;
use tahoma_eqsat::{Options, SM_90A, TRN2, optimize};
use tahoma_nets::{NETWORKS, Size};

/// The kernels that main calls, in order, by their ops.
fn listing(p: &Program) -> Vec<String> {
    let ops = |g: &tahoma_core::Graph| g.nodes.iter().map(|n| n.op.name).filter(|o| *o != "constant").collect::<Vec<_>>().join(" ");
    let line = |n: &tahoma_core::Node| match n.attrs.func("callee") {
        Some(f) => Some(format!("{f}: {} -> {}", ops(&p.functions[f]), p.main().ty(n.results[0]))),
        None if matches!(n.op.name, "reshape" | "weight" | "constant") => None,
        None => Some(format!("   {} -> {}", n.op.name, p.main().ty(n.results[0]))),
    };
    p.main().nodes.iter().filter_map(line).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (flags, names): (Vec<_>, Vec<_>) = args.iter().partition(|a| a.starts_with("--"));
    let has = |f: &str| flags.iter().any(|x| *x == f);
    let size = if has("--reduced") { Size::Reduced } else { Size::Real };
    let work = flags.iter().find_map(|f| f.strip_prefix("--exact=")).map(str::parse).transpose()?;
    if let Some(layers) = flags.iter().find_map(|f| f.strip_prefix("--layers=")) {
        for n in layers.split(',').map(str::parse).collect::<Result<Vec<usize>, _>>()? {
            let p = tahoma_nets::encoder_layers(n, size);
            for target in [&TRN2, &SM_90A] {
                let start = Instant::now();
                let (_, r) = optimize(&p, &Options::new(target)).map_err(|d| d.to_string())?;
                println!("{n:4} layers {:7} {:.3} s  {} e-nodes", target.name, start.elapsed().as_secs_f64(), r.e_nodes);
            }
        }
        return Ok(());
    }
    let mut gains: Vec<f64> = vec![];
    if has("--markdown") {
        println!(
            "| network | target | no fusion, µs | greedy, µs | ours, µs | gain over greedy | above the optimum | no fusion, MB | greedy, MB | ours, MB | kernels | search |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    }
    for n in NETWORKS.iter().filter(|n| names.is_empty() || names.iter().any(|x| *x == n.name)) {
        let p = (n.build)(size);
        for target in [&TRN2, &SM_90A] {
            let start = Instant::now();
            let options = Options { exact: work, ..Options::new(target) };
            let (q, r) = optimize(&p, &options).map_err(|d| d.to_string())?;
            let took = start.elapsed().as_secs_f64();
            gains.push(r.greedy_ns / r.chosen_ns);
            if has("--markdown") {
                let mb = |b: u64| b as f64 / 1e6;
                let above = match r.lower_ns >= r.exact_ns {
                    _ if work.is_none() => "-".to_string(),
                    true => format!("{:.2} %", 100.0 * (r.ordinary_ns / r.exact_ns - 1.0)),
                    false => format!("not known (at most {:.1} %)", 100.0 * (r.ordinary_ns / r.lower_ns - 1.0)),
                };
                println!(
                    "| {} | {} | {:.1} | {:.1} | {:.1} | {:.1} % | {above} | {:.1} | {:.1} | {:.1} | {} | {took:.2} s |",
                    n.name,
                    target.name,
                    r.unfused_ns / 1e3,
                    r.greedy_ns / 1e3,
                    r.chosen_ns / 1e3,
                    100.0 * (r.greedy_ns / r.chosen_ns - 1.0),
                    mb(r.unfused_bytes),
                    mb(r.greedy_bytes),
                    mb(r.chosen_bytes),
                    r.launches,
                );
                continue;
            }
            println!(
                "{:18} {:7} {:9.1} {:9.1} {:9.1} µs  {:5.1} %  {:4} kernels {:3} functions  {:6} nodes {:10} {:.2} s  host {:?}",
                n.name,
                target.name,
                r.unfused_ns / 1e3,
                r.greedy_ns / 1e3,
                r.chosen_ns / 1e3,
                100.0 * (r.greedy_ns / r.chosen_ns - 1.0),
                r.launches,
                r.functions,
                r.e_nodes,
                r.stopped,
                took,
                r.host_ops,
            );
            if work.is_some() {
                let took = r.phases.iter().find(|p| p.0 == "exact").map_or(0.0, |p| p.1.as_secs_f64());
                let optimal = r.lower_ns >= r.exact_ns;
                println!(
                    "    chosen {:.3} µs, {} {:.3} µs: above by {:.3} % ({took:.2} s)",
                    r.ordinary_ns / 1e3,
                    if optimal { "optimum" } else { "lower bound" },
                    r.lower_ns / 1e3,
                    100.0 * (r.ordinary_ns / r.lower_ns - 1.0),
                );
            }
            for f in &r.faults {
                println!("  FAULT {f}");
            }
            if has("--kernels") {
                listing(&q).iter().for_each(|l| println!("    {l}"));
                println!("    {:?} tried {} refused {} limited {}", r.phases, r.bodies_tried, r.bodies_refused, r.limited);
                println!("    {:?}", r.rules);
            }
        }
    }
    let mean = (gains.iter().map(|g| g.ln()).sum::<f64>() / gains.len().max(1) as f64).exp();
    println!("geometric mean over greedy: {:.1} %", 100.0 * (mean - 1.0));
    Ok(())
}
