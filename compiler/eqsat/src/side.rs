//! Small kernels side by side: kernels of one output shape, none of which needs another, become one launch with all their outputs. First
//! in pairs, up to a few outputs, as long as that is cheaper; then many at once: the pieces that a tensor is cut into.
//!
//! ```text
//! key cache = concat(past, rotary(k))     value cache = concat(past, v)      =>      one kernel, two outputs
//! ```
//!
//! A last step, on the chosen program: what is worth a launch is known only then.

use crate::cost::TargetCost;
use crate::kernel::MAX_INPUTS;
use std::collections::{HashMap, HashSet};
use tahoma_core::graph::OpRef;
use tahoma_core::op::OpDef;
use tahoma_core::{Attr, Attrs, Graph, Node, Origin, Port, Program, ValueId, form};

/// Most outputs of a kernel that pairs become, and most pairs tried on one program.
const MOST_OUTPUTS: usize = 4;
const MOST_TRIES: usize = 400;
/// Most buffers of a kernel that many become, and most such kernels tried.
const MOST_BUFFERS: usize = form::MAX_BUFFERS;
const MOST_CROWDS: usize = 64;
/// Programs of more nodes are left as they are: which of them needs which takes the square of that in bits.
const MOST_NODES: usize = 8_000;

/// Joins kernels while that is cheaper; the launches and the time saved.
pub(crate) fn join(p: &mut Program, target: &dyn TargetCost) -> (usize, f64) {
    let (mut count, mut saved, mut tries) = (0, 0.0, 0);
    let mut cost: HashMap<String, Option<f64>> = HashMap::new();
    let mut joined: HashSet<String> = HashSet::new();
    if p.main().nodes.len() > MOST_NODES {
        return (0, 0.0);
    }
    while let Some(ns) = join_one(p, target, &mut cost, &mut tries, &mut joined) {
        count += 1;
        saved += ns;
    }
    let mut crowds = 0;
    while let Some((launches, ns)) = join_many(p, target, &mut cost, &mut crowds, &mut joined) {
        count += launches;
        saved += ns;
    }
    // Those that were joined and that nothing else calls.
    let used: HashSet<String> =
        p.functions.values().flat_map(|g| &g.nodes).filter_map(|n| n.attrs.func("callee").map(String::from)).collect();
    p.functions.retain(|n, _| used.contains(n) || !joined.contains(n));
    (count, saved)
}

fn callee(n: &Node) -> Option<&str> {
    if n.op.name == "call" { n.attrs.func("callee") } else { None }
}

fn ns(g: &Graph, target: &dyn TargetCost) -> Option<f64> {
    target.launched_ns(&form::form(g, "k").ok()?)
}

fn join_one(
    p: &mut Program,
    target: &dyn TargetCost,
    cost: &mut HashMap<String, Option<f64>>,
    tries: &mut usize,
    joined: &mut HashSet<String>,
) -> Option<f64> {
    let main = p.main();
    let calls = row_calls(p);
    let before = Before::new(main);
    let shape = |i: usize| &main.ty(main.nodes[i].results[0]).shape;
    for (at, &i) in calls.iter().enumerate() {
        for &j in &calls[at + 1..] {
            let (a, b) = (&main.nodes[i], &main.nodes[j]);
            if shape(i) != shape(j) || a.results.len() + b.results.len() > MOST_OUTPUTS || before.needs(j, i) {
                continue;
            }
            *tries += 1;
            if *tries > MOST_TRIES {
                return None;
            }
            let (f, g) = (callee(a)?, callee(b)?);
            let mut of = |name: &str| *cost.entry(name.into()).or_insert_with(|| ns(&p.functions[name], target));
            let (Some(x), Some(y)) = (of(f), of(g)) else { continue };
            let (kernel, operands) = both(p.functions[f].clone(), a.operands.clone(), &p.functions[g], &b.operands);
            if operands.len() > MAX_INPUTS {
                continue;
            }
            let Some(together) = ns(&kernel, target).filter(|t| *t < x + y) else { continue };
            joined.extend([f.to_string(), g.to_string()]);
            replace(p, &[i, j], kernel, operands);
            return Some(x + y - together);
        }
    }
    None
}

/// Joins the first call with all others after it that can share its launch, if that is more than pairs may; the launches and the time saved.
fn join_many(
    p: &mut Program,
    target: &dyn TargetCost,
    cost: &mut HashMap<String, Option<f64>>,
    crowds: &mut usize,
    joined: &mut HashSet<String>,
) -> Option<(usize, f64)> {
    let main = p.main();
    let calls = row_calls(p);
    let before = Before::new(main);
    let shape = |i: usize| &main.ty(main.nodes[i].results[0]).shape;
    for (at, &first) in calls.iter().enumerate() {
        let mut crowd = vec![first];
        let (mut buffers, mut outputs) = (main.nodes[first].operands.iter().copied().collect::<HashSet<ValueId>>(), 0);
        outputs += main.nodes[first].results.len();
        for &j in &calls[at + 1..] {
            let n = &main.nodes[j];
            let more = n.operands.iter().filter(|v| !buffers.contains(v)).count() + n.results.len();
            let fits = buffers.len() + outputs + more <= MOST_BUFFERS;
            if fits && shape(j) == shape(first) && !crowd.iter().any(|&i| before.needs(j, i)) {
                buffers.extend(&n.operands);
                outputs += n.results.len();
                crowd.push(j);
            }
        }
        if crowd.len() < 2 || outputs <= MOST_OUTPUTS {
            continue;
        }
        *crowds += 1;
        if *crowds > MOST_CROWDS {
            return None;
        }
        let names: Vec<String> = crowd.iter().filter_map(|&i| callee(&main.nodes[i]).map(String::from)).collect();
        let each = names.iter().map(|f| *cost.entry(f.clone()).or_insert_with(|| ns(&p.functions[f], target)));
        let Some(apart) = each.sum::<Option<f64>>() else { continue };
        let mut all = (p.functions[&names[0]].clone(), main.nodes[first].operands.clone());
        for (f, &i) in names.iter().zip(&crowd).skip(1) {
            all = both(all.0, all.1, &p.functions[f], &main.nodes[i].operands);
        }
        let Some(together) = ns(&all.0, target).filter(|t| *t < apart) else { continue };
        joined.extend(names);
        replace(p, &crowd, all.0, all.1);
        return Some((crowd.len() - 1, apart - together));
    }
    None
}

/// Calls of row kernels in `main`.
fn row_calls(p: &Program) -> Vec<usize> {
    let nodes = &p.main().nodes;
    let rows = |n: &Node| callee(n).and_then(|f| p.functions.get(f)).is_some_and(|f| f.attrs.str("kernel") == Some("rows"));
    (0..nodes.len()).filter(|&i| rows(&nodes[i])).collect()
}

/// Which nodes each node needs, however far back.
struct Before {
    words: usize,
    bits: Vec<u64>,
}

impl Before {
    fn new(g: &Graph) -> Before {
        let words = g.nodes.len().div_ceil(64);
        let producers = g.producers();
        let mut bits = vec![0u64; g.nodes.len() * words];
        for (i, n) in g.nodes.iter().enumerate() {
            let (done, rest) = bits.split_at_mut(i * words);
            let row = &mut rest[..words];
            for k in n.operands.iter().filter_map(|v| producers[v.index()]) {
                row.iter_mut().zip(&done[k * words..][..words]).for_each(|(a, b)| *a |= b);
                row[k / 64] |= 1 << (k % 64);
            }
        }
        Before { words, bits }
    }
    /// Whether node `j` needs a result of node `i`.
    fn needs(&self, j: usize, i: usize) -> bool {
        self.bits[j * self.words + i / 64] >> (i % 64) & 1 == 1
    }
}

/// One function with the outputs of both, and its operands: equal ones once.
fn both(mut g: Graph, mut operands: Vec<ValueId>, b: &Graph, of_b: &[ValueId]) -> (Graph, Vec<ValueId>) {
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

/// Puts one call in place of several (ascending), and the nodes in an order that it allows.
fn replace(p: &mut Program, calls: &[usize], mut kernel: Graph, operands: Vec<ValueId>) {
    let name = (0..).map(|n| format!("k{n}")).find(|n| !p.functions.contains_key(n)).unwrap_or_default();
    kernel.name.clone_from(&name);
    let Some(main) = p.functions.get_mut(Program::MAIN) else { return };
    let Some(&last) = calls.last() else { return };
    let old: Vec<Node> = calls.iter().rev().map(|&i| main.nodes.remove(i)).collect();
    let op: &'static OpDef = old[0].op.0;
    let origin = Origin::fuse("side-by-side", old.iter().rev().map(|n| n.origin.clone())).into();
    let results = old.iter().rev().flat_map(|n| n.results.clone()).collect();
    let attrs = Attrs::new().with("callee", Attr::Func(name.as_str().into()));
    main.nodes.insert(last + 1 - calls.len(), Node { op: OpRef(op), operands, attrs, results, origin });
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
