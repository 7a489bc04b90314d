//! Prints the random program of a seed: `cargo run -p tahoma-nets --example random -- SEED`.

use tahoma_nets::random::{listing, random};

fn main() {
    let seeds: Vec<u64> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    if seeds.is_empty() {
        eprintln!("usage: random SEED…");
        std::process::exit(2);
    }
    for seed in seeds {
        print!("seed {seed}\n{}", listing(&random(seed).program));
    }
}
