//! Chains of sums with and products by weights: `n` of them can be bracketed in exponentially many ways, and one is as good as another,
//! since what depends on weights alone is computed once.
//!
//! ```text
//! (((x·a + b)·c + d)·e + f)   =>   x·(ac·e) + ((bc + d)·e + f)       from the first on, one link after another
//! ```
//!
//! So the rules that gather weights fire where they reach back to the head of a chain, and nowhere in between ([`is_between`]). Long
//! chains are gathered before the search, link by link in order ([`gather`]): then there is nothing left for it to bracket.

use crate::facts::{EGraph, Facts};
use crate::language::{Node, OpId};
use egg::{Id, Rewrite, Subst};
use std::collections::{BTreeMap, HashMap, HashSet};
use tahoma_core::op::OpDef;

/// Rules that join two links of a chain, with the ops that `?x`, what is before both, must not be made by.
const JOINING: &[(&str, &[&str])] = &[
    ("add-add-fixed", &["add"]),
    ("mul-mul-fixed", &["mul"]),
    ("scale-past-bias", &["add"]),
    ("max-max-fixed", &["max"]),
    ("min-min-fixed", &["min"]),
];
/// Rules that make a link one of those, in the order in which they are tried before the joining ones.
const PREPARING: &[&str] = &[
    "fixed-to-the-right-add",
    "fixed-to-the-right-mul",
    "fixed-to-the-right-max",
    "fixed-to-the-right-min",
    "sub-is-add-neg",
    "div-is-mul-reciprocal",
    "batch-norm-is-affine",
];
/// Ops of links.
const LINKS: &[&str] = &["add", "sub", "mul", "div", "max", "min", "batch_norm"];
/// Chains of fewer links are left to the search.
const LONG: usize = 6;
/// Rounds of all rules on one link, and how deep the values that they make are followed.
const ROUNDS: usize = 8;
const DEPTH: usize = 4;

fn is_fixed(g: &EGraph, id: Id) -> bool {
    g[id].data.value().is_some_and(|v| v.fixed)
}

/// The value before a link, where a node is one: its other operands are made of weights.
fn before(g: &EGraph, n: &Node, ops: &[&str]) -> Option<Id> {
    let Node::Op(op, _) = n else { return None };
    let def: &OpDef = op.def();
    if !ops.contains(&def.name) {
        return None;
    }
    let mut open = n.operands().iter().filter(|&&o| !is_fixed(g, o));
    let x = open.next().copied()?;
    open.next().is_none().then_some(x)
}

/// Whether a joining rule is asked to start in the middle of a chain: what it joins is joined with what is before it, too.
pub(super) fn is_between(rule: &str, g: &EGraph, subst: &Subst) -> bool {
    let Some((_, ops)) = JOINING.iter().find(|j| j.0 == rule) else { return false };
    let Some(x) = "?x".parse().ok().and_then(|v| subst.get(v)).map(|&x| g.find(x)) else { return false };
    // What is its own operand, as x + 0 is, leads to nothing before it.
    g[x].nodes.iter().any(|n| before(g, n, ops).is_some_and(|y| g.find(y) != x))
}

/// Gathers the weights of long chains, link by link from the first; how often each rule fired. `rewrites` are those allowed.
pub fn gather(g: &mut EGraph, rewrites: &[&Rewrite<Node, Facts>]) -> BTreeMap<String, usize> {
    let named = |name: &str| rewrites.iter().copied().find(|r| super::name_of(r.name.as_str()) == name);
    let rules: Vec<&Rewrite<Node, Facts>> = PREPARING.iter().copied().chain(JOINING.iter().map(|j| j.0)).filter_map(named).collect();
    let mut fired = BTreeMap::new();
    let links = links(g);
    let mut done: HashSet<Id> = HashSet::new();
    for id in links {
        settle(g, id, &rules, DEPTH, &mut done, &mut fired);
    }
    fired
}

/// The links of long chains, each after those before it.
fn links(g: &EGraph) -> Vec<Id> {
    if !LINKS.iter().any(|op| OpId::named(op).is_some()) {
        return vec![];
    }
    let mut ids: Vec<Id> = g.classes().map(|c| c.id).collect();
    ids.sort_unstable();
    // Operands are added before what reads them, and this is before any union that could change that.
    let mut length: HashMap<Id, (usize, Id)> = HashMap::new();
    for &id in &ids {
        if is_fixed(g, id) {
            continue;
        }
        if let Some(x) = g[id].nodes.iter().find_map(|n| before(g, n, LINKS)) {
            let x = g.find(x);
            let n = length.get(&x).map_or(0, |l| l.0) + 1;
            length.insert(id, (n, x));
        }
    }
    let mut long: HashSet<Id> = HashSet::new();
    for &id in ids.iter().rev() {
        if let Some(&(n, x)) = length.get(&id)
            && (n >= LONG || long.contains(&id))
        {
            long.insert(id);
            long.insert(x);
        }
    }
    ids.into_iter().filter(|id| long.contains(id) && length.contains_key(id)).collect()
}

/// Applies the rules to one class until nothing is new, and to the values that they make for it.
fn settle(
    g: &mut EGraph,
    id: Id,
    rules: &[&Rewrite<Node, Facts>],
    depth: usize,
    done: &mut HashSet<Id>,
    fired: &mut BTreeMap<String, usize>,
) {
    for _ in 0..ROUNDS {
        let mut changed = false;
        for r in rules {
            let id = g.find(id);
            let Some(found) = r.searcher.search_eclass(g, id) else { continue };
            let n = r.apply(g, &[found]).len();
            // What a condition binds is in the e-graph even where the rule does not apply.
            g.rebuild();
            if n > 0 {
                *fired.entry(super::name_of(r.name.as_str()).to_string()).or_default() += n;
                changed = true;
            }
        }
        let id = g.find(id);
        done.insert(id);
        if depth > 0 {
            let mut made: Vec<Id> = g[id].nodes.iter().filter_map(|n| before(g, n, LINKS)).map(|x| g.find(x)).collect();
            made.retain(|x| !done.contains(x));
            for x in made {
                settle(g, x, rules, depth - 1, done, fired);
            }
        }
        if !changed {
            return;
        }
    }
}
