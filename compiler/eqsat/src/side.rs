//! Small kernels side by side: two kernels of one output shape, neither of which needs the other, become one launch with both outputs.
//!
//! ```text
//! key cache = concat(past, rotary(k))     value cache = concat(past, v)      =>      one kernel, two outputs
//! ```
//!
//! A last step, on the chosen program: what is worth a launch is known only then.

use crate::cost::TargetCost;
use crate::kernel::MAX_INPUTS;
use std::collections::HashMap;
use tahoma_core::graph::OpRef;
use tahoma_core::op::OpDef;
use tahoma_core::{Attr, Attrs, Graph, Node, Origin, Port, Program, ValueId, form};

/// Most outputs of one kernel, and most pairs tried on one program.
const MOST_OUTPUTS: usize = 4;
const MOST_TRIES: usize = 400;

/// Joins pairs while that is cheaper; the launches and the time saved.
pub(crate) fn join(p: &mut Program, target: &dyn TargetCost) -> (usize, f64) {
    let (mut count, mut saved, mut tries) = (0, 0.0, 0);
    let mut cost: HashMap<String, Option<f64>> = HashMap::new();
    let mut joined: Vec<String> = vec![];
    while let Some(ns) = join_one(p, target, &mut cost, &mut tries, &mut joined) {
        count += 1;
        saved += ns;
    }
    // Those that were joined and that nothing else calls.
    let used: Vec<String> = p.functions.values().flat_map(|g| &g.nodes).filter_map(|n| n.attrs.func("callee").map(String::from)).collect();
    p.functions.retain(|n, _| used.contains(n) || !joined.contains(n));
    (count, saved)
}

fn callee(n: &Node) -> Option<&str> {
    if n.op.name == "call" { n.attrs.func("callee") } else { None }
}

fn ns(g: &Graph, target: &dyn TargetCost) -> Option<f64> {
    target.kernel_ns(&form::form(g, "k").ok()?)
}

fn join_one(
    p: &mut Program,
    target: &dyn TargetCost,
    cost: &mut HashMap<String, Option<f64>>,
    tries: &mut usize,
    joined: &mut Vec<String>,
) -> Option<f64> {
    let main = p.main();
    let rows = |n: &Node| callee(n).and_then(|f| p.functions.get(f)).is_some_and(|f| f.attrs.str("kernel") == Some("rows"));
    let calls: Vec<usize> = (0..main.nodes.len()).filter(|&i| rows(&main.nodes[i])).collect();
    let shape = |i: usize| &main.ty(main.nodes[i].results[0]).shape;
    for (at, &i) in calls.iter().enumerate() {
        for &j in &calls[at + 1..] {
            let (a, b) = (&main.nodes[i], &main.nodes[j]);
            if shape(i) != shape(j) || a.results.len() + b.results.len() > MOST_OUTPUTS || needs(main, j, i) {
                continue;
            }
            *tries += 1;
            if *tries > MOST_TRIES {
                return None;
            }
            let (f, g) = (callee(a)?, callee(b)?);
            let mut of = |name: &str| *cost.entry(name.into()).or_insert_with(|| ns(&p.functions[name], target));
            let (Some(x), Some(y)) = (of(f), of(g)) else { continue };
            let (kernel, operands) = both(&p.functions[f], &a.operands, &p.functions[g], &b.operands);
            if operands.len() > MAX_INPUTS {
                continue;
            }
            let Some(together) = ns(&kernel, target).filter(|t| *t < x + y) else { continue };
            joined.extend([f.to_string(), g.to_string()]);
            replace(p, [i, j], kernel, operands);
            return Some(x + y - together);
        }
    }
    None
}

/// Whether node `j` needs a result of node `i`, however far back.
fn needs(g: &Graph, j: usize, i: usize) -> bool {
    let mut wanted: Vec<ValueId> = g.nodes[j].operands.clone();
    for n in g.nodes[i..j].iter().rev() {
        if n.results.iter().any(|r| wanted.contains(r)) {
            wanted.extend(&n.operands);
        }
    }
    g.nodes[i].results.iter().any(|r| wanted.contains(r))
}

/// One function with the outputs of both, and its operands: equal ones once.
fn both(a: &Graph, of_a: &[ValueId], b: &Graph, of_b: &[ValueId]) -> (Graph, Vec<ValueId>) {
    let mut g = a.clone();
    let mut operands = of_a.to_vec();
    let mut to: HashMap<ValueId, ValueId> = HashMap::new();
    for (p, &v) in b.inputs.iter().zip(of_b) {
        let id = match operands.iter().position(|&o| o == v) {
            Some(i) => g.inputs[i].value,
            None => {
                let id = fresh(&mut g, b, p.value);
                g.inputs.push(Port { name: format!("x{}", operands.len()), value: id });
                operands.push(v);
                id
            }
        };
        to.insert(p.value, id);
    }
    for n in &b.nodes {
        let operands = n.operands.iter().map(|v| to[v]).collect();
        let results = n.results.iter().map(|&r| fresh(&mut g, b, r)).collect::<Vec<_>>();
        to.extend(n.results.iter().copied().zip(results.iter().copied()));
        g.nodes.push(Node { operands, results, ..n.clone() });
    }
    for o in &b.outputs {
        g.outputs.push(Port { name: format!("y{}", g.outputs.len()), value: to[&o.value] });
    }
    (g, operands)
}

fn fresh(g: &mut Graph, from: &Graph, v: ValueId) -> ValueId {
    g.types.push(from.ty(v).clone());
    ValueId(g.types.len() as u32 - 1)
}

/// Puts one call in place of two, and the nodes in an order that it allows.
fn replace(p: &mut Program, [i, j]: [usize; 2], mut kernel: Graph, operands: Vec<ValueId>) {
    let name = (0..).map(|n| format!("k{n}")).find(|n| !p.functions.contains_key(n)).unwrap_or_default();
    kernel.name.clone_from(&name);
    let Some(main) = p.functions.get_mut(Program::MAIN) else { return };
    let second = main.nodes.remove(j);
    let first = main.nodes.remove(i);
    let op: &'static OpDef = first.op.0;
    let origin = Origin::fuse("side-by-side", [first.origin, second.origin]).into();
    let results = [first.results, second.results].concat();
    let attrs = Attrs::new().with("callee", Attr::Func(name.as_str().into()));
    main.nodes.insert(j - 1, Node { op: OpRef(op), operands, attrs, results, origin });
    sort(main);
    p.functions.insert(name, kernel);
}

/// Each node after what it needs, else as they were.
fn sort(g: &mut Graph) {
    let producers = g.producers();
    let mut state = vec![false; g.nodes.len()];
    let mut order: Vec<usize> = vec![];
    for start in 0..g.nodes.len() {
        let mut stack = vec![(start, false)];
        while let Some((i, ready)) = stack.pop() {
            if ready {
                order.push(i);
            } else if !std::mem::replace(&mut state[i], true) {
                stack.push((i, true));
                let before = g.nodes[i].operands.iter().rev().filter_map(|v| producers[v.index()]);
                stack.extend(before.filter(|&k| !state[k]).map(|k| (k, false)));
            }
        }
    }
    let mut nodes: Vec<Option<Node>> = std::mem::take(&mut g.nodes).into_iter().map(Some).collect();
    g.nodes = order.into_iter().filter_map(|i| nodes[i].take()).collect();
}
