//! What fusion makes of decoder blocks at their real sizes, as snapshots: one line a kernel. Weights joined at load and free reshapes are
//! left out.

use tahoma_core::{Graph, Node, Program};
use tahoma_eqsat::{Options, SM_90A, TRN2, optimize};
use tahoma_nets::{Size, find};

/// The calls of main in order, each with the ops of its kernel.
fn listing(p: &Program) -> Vec<String> {
    let ops = |g: &Graph| g.nodes.iter().map(|n| n.op.name).filter(|o| *o != "constant").collect::<Vec<_>>().join(" ");
    let types = |n: &Node| n.results.iter().map(|&r| p.main().ty(r).to_string()).collect::<Vec<_>>().join(", ");
    let line = |n: &Node| n.attrs.func("callee").map(|f| format!("{}\n    -> {}", ops(&p.functions[f]), types(n)));
    p.main().nodes.iter().filter_map(line).collect()
}

/// Kernels of a block for both targets; at most so many for each, and nothing on the host. A NeuronCore's boundary costs less than a launch
/// of a GPU.
fn block(name: &str, most: [usize; 2]) -> String {
    let program = (find(name).unwrap_or_else(|| panic!("no network {name}")).build)(Size::Real);
    let mut out = String::new();
    for (target, most) in [&TRN2, &SM_90A].into_iter().zip(most) {
        let (q, r) = optimize(&program, &Options::new(target)).unwrap_or_else(|d| panic!("{name}: {d}"));
        let lines = listing(&q);
        assert!(lines.len() == r.launches && r.launches <= most, "{name} for {}: {} kernels", target.name, r.launches);
        assert!(r.host_ops.is_empty(), "{name} for {}: {:?} on the host", target.name, r.host_ops);
        let attentions = lines.iter().filter(|l| l.contains("softmax") && l.matches("matmul").count() == 2).count();
        assert_eq!(attentions, 1, "{name} for {}: attention is one kernel", target.name);
        out += &format!("{name} for {}: {} kernels\n\n{}\n\n", target.name, r.launches, lines.join("\n"));
    }
    out
}

#[test]
fn a_llama_block_is_at_most_7_kernels_and_one_more_where_they_cost_little() {
    insta::assert_snapshot!("llama3-8b-prefill", block("llama3-8b-prefill", [8, 7]));
    insta::assert_snapshot!("llama3-8b-decode", block("llama3-8b-decode", [8, 7]));
}

#[test]
fn a_gpt_oss_block_is_at_most_10_kernels() {
    insta::assert_snapshot!("gpt-oss-20b-prefill", block("gpt-oss-20b-prefill", [10, 10]));
    insta::assert_snapshot!("gpt-oss-20b-decode", block("gpt-oss-20b-decode", [10, 10]));
}
