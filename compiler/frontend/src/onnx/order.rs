//! Dependency order of a graph's nodes, and the faults of form that show while finding it: cycles, names made twice.

use crate::proto::{GraphProto, NodeProto, attribute_proto::AttributeType};
use std::collections::{HashMap, HashSet};

/// Result of [`order`].
pub(super) struct Order {
    /// Node indices, dependencies first; otherwise as in the file. Nodes on a cycle come where the cycle was entered.
    pub(super) nodes: Vec<usize>,
    /// Node indices of each cycle.
    pub(super) cycles: Vec<Vec<usize>>,
    /// Name, first and second node that makes it (`None`: an input or initialiser of the graph).
    pub(super) twice: Vec<(String, Option<usize>, usize)>,
}

/// Names that a node reads: its operands, and what its subgraphs use that they do not make themselves.
fn reads<'a>(n: &'a NodeProto, out: &mut Vec<&'a str>) {
    out.extend(n.input.iter().map(String::as_str).filter(|s| !s.is_empty()));
    for g in subgraphs(n) {
        let mut used: Vec<&str> = g.output.iter().map(|o| o.name()).collect();
        // As deep as the file's reader went.
        g.node.iter().for_each(|n| reads(n, &mut used));
        let mut own: HashSet<&str> = g.node.iter().flat_map(|n| &n.output).map(String::as_str).collect();
        own.extend(g.input.iter().map(|i| i.name()).chain(g.initializer.iter().map(|t| t.name())));
        out.extend(used.into_iter().filter(|name| !own.contains(name)));
    }
}

/// Graphs in the attributes of a node.
pub(super) fn subgraphs(n: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    n.attribute.iter().flat_map(|a| {
        let one = a.g.as_ref().filter(|_| a.r#type() == AttributeType::Graph || a.g.is_some());
        one.into_iter().chain(&a.graphs)
    })
}

/// Orders `nodes`; `given` are the names that exist before the first one.
pub(super) fn order(nodes: &[NodeProto], given: &dyn Fn(&str) -> bool) -> Order {
    let mut maker: HashMap<&str, usize> = HashMap::new();
    let mut twice = Vec::new();
    for (i, n) in nodes.iter().enumerate() {
        for o in n.output.iter().filter(|o| !o.is_empty()) {
            if given(o) {
                twice.push((o.clone(), None, i));
            } else if let Some(first) = maker.insert(o, i) {
                twice.push((o.clone(), Some(first), i));
                maker.insert(o, first);
            }
        }
    }
    let deps: Vec<Vec<usize>> = nodes
        .iter()
        .map(|n| {
            let mut names = Vec::new();
            reads(n, &mut names);
            let mut d: Vec<usize> = names.iter().filter_map(|s| maker.get(s).copied()).collect();
            d.sort_unstable();
            d.dedup();
            d
        })
        .collect();
    // Depth first with a stack of (node, next dependency): 0 unseen, 1 open, 2 done.
    let mut state = vec![0u8; nodes.len()];
    let (mut done, mut cycles) = (Vec::with_capacity(nodes.len()), Vec::new());
    for root in 0..nodes.len() {
        if state[root] != 0 {
            continue;
        }
        let mut stack = vec![(root, 0)];
        state[root] = 1;
        while let Some((n, next)) = stack.pop() {
            let Some(&d) = deps[n].get(next) else {
                state[n] = 2;
                done.push(n);
                continue;
            };
            stack.push((n, next + 1));
            if state[d] == 1 {
                let from = stack.iter().position(|s| s.0 == d).unwrap_or(0);
                cycles.push(stack[from..].iter().map(|s| s.0).collect());
            } else if state[d] == 0 {
                state[d] = 1;
                stack.push((d, 0));
            }
        }
    }
    Order { nodes: done, cycles, twice }
}
