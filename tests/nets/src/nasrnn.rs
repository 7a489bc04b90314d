//! NasRNN: the recurrent cell found by search in Zoph and Le 2016 (arXiv:1611.01578), unrolled as in TASO's and TENSAT's benchmarks,
//! where every step has matrices of its own.

use crate::Size;
use crate::ops::{Net, V};
use tahoma_core::{DType, Program};

pub(crate) fn nasrnn(size: Size) -> Program {
    let (hidden, steps) = size.pick((512, 5), (8, 2));
    let mut n = Net::new("nasrnn", DType::F32);
    let inputs: Vec<V> = (0..steps).map(|i| n.input(&format!("x{i}"), &[1, hidden])).collect();
    let mut state = n.weight("initial_state", &[1, hidden]);
    for (i, &x) in inputs.iter().enumerate() {
        state = n.scope(&format!("step.{i}"), |n| cell(n, x, state));
    }
    n.output("state", state);
    n.finish()
}

/// Eight sums of two products, combined as a tree.
fn cell(n: &mut Net, x: V, h: V) -> V {
    let hidden = n.dims(h)[1];
    let t: [V; 8] = std::array::from_fn(|i| {
        n.scope(&format!("gate.{i}"), |n| {
            let a = n.linear_without_bias("input", x, hidden);
            let b = n.linear_without_bias("state", h, hidden);
            n.add(a, b)
        })
    });
    let mut pair = |op: &str, (f, x): (&str, V), (g, y): (&str, V)| {
        let (x, y) = (n.f(f, x), n.f(g, y));
        n.op(op, &[x, y], crate::ops::a())
    };
    let m0 = pair("add", ("relu", t[0]), ("sigmoid", t[3]));
    let m1 = pair("add", ("sigmoid", t[1]), ("tanh", t[2]));
    let m2 = pair("mul", ("sigmoid", t[4]), ("tanh", t[5]));
    let m3 = pair("mul", ("sigmoid", t[6]), ("relu", t[7]));
    let m4 = pair("add", ("sigmoid", m1), ("tanh", m2));
    let m5 = pair("mul", ("tanh", m0), ("tanh", m3));
    let m6 = pair("mul", ("tanh", m4), ("tanh", m5));
    n.f("tanh", m6)
}
