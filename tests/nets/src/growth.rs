//! Programs that only grow: chains, wide joins and cuts, layers of unequal widths, random graphs. What the time of a search is
//! measured on as `n` doubles, and what finds a phase whose work is not near linear.

use crate::ops::{Net, V, a};
use tahoma_core::{DType, Program};

/// A family of programs by size.
#[derive(Debug)]
pub struct Growth {
    pub name: &'static str,
    /// What `n` counts.
    pub doc: &'static str,
    /// The size that must compile in the time that the benchmarks name.
    pub full: usize,
    pub build: fn(usize) -> Program,
}

/// Every family.
pub static GROWTHS: &[Growth] = &[
    Growth { name: "mul-add", doc: "products with and sums of vectors of 64 in turn", full: 60, build: |n| chain(n, &["mul", "add"]) },
    Growth { name: "adds", doc: "sums with vectors of 64", full: 60, build: |n| chain(n, &["add"]) },
    Growth { name: "muls", doc: "products with vectors of 64", full: 60, build: |n| chain(n, &["mul"]) },
    Growth { name: "batch-norms", doc: "batch normalisations of 64 channels in a row", full: 60, build: batch_norms },
    Growth { name: "mul-add-relu", doc: "products, sums and relus in turn", full: 60, build: |n| chain(n, &["mul", "add", "relu"]) },
    Growth {
        name: "mixed",
        doc: "sums, differences, quotients, products, maxima and functions in turn",
        full: 60,
        build: |n| chain(n, &["add", "mul", "sigmoid", "sub", "div", "max", "tanh", "min", "mul", "neg", "add", "abs"]),
    },
    Growth { name: "squarings", doc: "x·x of the value before", full: 40, build: squarings },
    Growth { name: "layers", doc: "linear layers of different widths with relu", full: 96, build: layers },
    Growth { name: "encoders", doc: "encoder layers with feed-forward parts of different widths", full: 96, build: encoders },
    Growth { name: "random", doc: "ops over earlier values, drawn at random", full: 2000, build: |n| random(n, 1) },
    Growth { name: "concat", doc: "parts of one concatenation", full: 10_000, build: |n| concat(n, false) },
    Growth { name: "relus-concat", doc: "relus of inputs, concatenated", full: 200, build: |n| concat(n, true) },
    Growth { name: "slices", doc: "slices of one tensor, each an output", full: 200, build: slices },
];

/// The family of that name.
pub fn find(name: &str) -> Option<&'static Growth> {
    GROWTHS.iter().find(|g| g.name == name)
}

/// Ops in turn, each on the value before; those of two operands take a weight of 64.
fn chain(n: usize, ops: &[&str]) -> Program {
    let mut net = Net::new("chain", DType::F32);
    let mut x = net.input("x", &[8, 64]);
    for i in 0..n {
        let op = ops[i % ops.len()];
        x = if matches!(op, "relu" | "sigmoid" | "tanh" | "neg" | "abs") {
            net.f(op, x)
        } else {
            let w = net.weight(&format!("w{i}"), &[64]);
            net.op(op, &[x, w], a())
        };
    }
    net.output("y", x);
    net.finish()
}

fn batch_norms(n: usize) -> Program {
    let mut net = Net::new("batch-norms", DType::F32);
    let mut x = net.input("x", &[1, 64, 8, 8]);
    for i in 0..n {
        x = net.batch_norm(&format!("bn{i}"), x, 1e-5);
    }
    net.output("y", x);
    net.finish()
}

fn squarings(n: usize) -> Program {
    let mut net = Net::new("squarings", DType::F32);
    let mut x = net.input("x", &[8, 64]);
    for _ in 0..n {
        x = net.mul(x, x);
    }
    net.output("y", x);
    net.finish()
}

fn layers(n: usize) -> Program {
    let mut net = Net::new("layers", DType::F32);
    let mut x = net.input("x", &[4, 32]);
    for i in 0..n {
        x = net.linear(&format!("l{i}"), x, 33 + i);
        x = net.f("relu", x);
    }
    net.output("y", x);
    net.finish()
}

fn encoders(n: usize) -> Program {
    let mut net = Net::new("encoders", DType::F32);
    let mut x = net.input("x", &[1, 16, 32]);
    for i in 0..n {
        net.enter(&format!("layer.{i}"));
        let parts = ["query", "key", "value"].map(|name| net.linear(name, x, 32));
        let [q, k, v] = parts.map(|y| net.split_heads(y, 2));
        let k = net.transpose(k, &[0, 1, 3, 2]);
        let s = net.matmul(q, k);
        let s = net.with("mul", s, 0.25);
        let s = net.softmax(s, 3);
        let y = net.matmul(s, v);
        let y = net.transpose(y, &[0, 2, 1, 3]);
        let y = net.reshape(y, &[1, 16, 32]);
        let y = net.linear("out", y, 32);
        let y = net.add(x, y);
        let y = net.layer_norm("norm1", y, 1e-5);
        let f = net.linear("up", y, 64 + 4 * i);
        let f = net.gelu(f);
        let f = net.linear("down", f, 32);
        let y = net.add(y, f);
        x = net.layer_norm("norm2", y, 1e-5);
        net.leave();
    }
    net.output("y", x);
    net.finish()
}

/// Maps, sums, products, matrix products, transposes, reductions and weights over matrices of 32 by 32; what nothing uses is summed.
fn random(n: usize, seed: u64) -> Program {
    let mut state = seed;
    let mut below = |n: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((state >> 33) as usize) % n
    };
    let mut net = Net::new("random", DType::F32);
    let mut all: Vec<V> = vec![net.input("x", &[32, 32]), net.input("z", &[32, 32])];
    let mut used = vec![false; 2];
    for i in 0..n {
        // Mostly what was made lately, as networks do.
        let mut pick = |below: &mut dyn FnMut(usize) -> usize| {
            let reach = if below(4) == 0 { all.len() } else { all.len().min(8) };
            let at = all.len() - 1 - below(reach);
            used[at] = true;
            all[at]
        };
        let x = pick(&mut below);
        let y = match below(12) {
            0..4 => {
                let op = ["relu", "sigmoid", "tanh", "neg", "exp", "abs"][below(6)];
                net.f(op, x)
            }
            4..8 => {
                let (op, y) = (["add", "sub", "mul", "max"][below(4)], pick(&mut below));
                net.op(op, &[x, y], a())
            }
            8..10 => {
                let op = ["add", "mul"][below(2)];
                let w = net.weight(&format!("w{i}"), &[32]);
                net.op(op, &[x, w], a())
            }
            10 => {
                let w = net.weight(&format!("w{i}"), &[32, 32]);
                net.matmul(x, w)
            }
            _ if below(2) == 0 => net.transpose(x, &[1, 0]),
            _ => {
                let m = net.reduce("reduce_mean", x, &[1], true);
                net.sub(x, m)
            }
        };
        all.push(y);
        used.push(false);
    }
    let open: Vec<V> = all.iter().zip(&used).filter(|(_, u)| !**u).map(|(v, _)| *v).collect();
    let y = open[1..].iter().fold(open[0], |s, &v| net.add(s, v));
    net.output("y", y);
    net.finish()
}

fn concat(n: usize, relu: bool) -> Program {
    let mut net = Net::new("concat", DType::F32);
    let parts: Vec<V> = (0..n).map(|i| net.input(&format!("x{i}"), &[4, 8])).collect();
    let parts: Vec<V> = if relu { parts.into_iter().map(|x| net.f("relu", x)).collect() } else { parts };
    let y = net.concat(&parts, 1);
    net.output("y", y);
    net.finish()
}

fn slices(n: usize) -> Program {
    let mut net = Net::new("slices", DType::F32);
    let x = net.input("x", &[4, 8 * n]);
    for i in 0..n {
        let y = net.slice(x, 1, 8 * i, 8, 1);
        net.output(&format!("y{i}"), y);
    }
    net.finish()
}
