//! The choice net: the e-graph as extraction sees it. Classes in dependency order, each with the ways to make it and their cost.
//!
//! Cycles are cut by a depth-first walk from the outputs: a node that leads back to a class still open is left out, so whatever is
//! chosen is acyclic. Kernels are then formed bottom-up, as in technology mapping with priority cuts: a class keeps its few best
//! kernels, and its consumers try to absorb those.

use crate::cost::TargetCost;
use crate::facts::{EGraph, Fact, Made};
use crate::kernel::{Body, Candidate, Former, MOST_INPUTS, Maker, Pick, Shape, Source, Verdict, joins};
use crate::language::Node;
use egg::Id;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tahoma_core::kernel;
use tahoma_core::op::{Contract, Expand, Kind, Move, OpDef};
use tahoma_core::{Attrs, Builder, TensorType, ValueId};

/// Kernels kept for a class, and how many of them a consumer tries to absorb.
const KEEP: usize = 40;
const TRY: usize = 16;
/// Parts of kernels kept for a class.
const PARTS: usize = 8;
/// Groups tried as kernels for one e-node, and the fewest.
const COMBINATIONS: usize = 1024;
const FEWEST: usize = 8;
/// Groups tried for one net: what is left of them is divided among the e-nodes that are left, and one may take so many shares.
const GROUPS: usize = 60_000;
const SHARES: usize = 6;
/// Groups that are compared with each other; of more, the cheapest.
const COMPARED: usize = 400;
/// A kernel that takes so many times what its ops take apart is no use, nor a step to a better one: it is not timed to its end.
const USEFUL: f64 = 2.0;
/// Walks into a class that found no way out before it is given up.
const PATIENCE: u16 = 16;

/// One way to make a class.
#[derive(Clone, Debug)]
pub struct Way {
    pub ns: f64,
    /// Classes it needs; all of them come earlier.
    pub needs: Vec<u32>,
    pub what: What,
}

#[derive(Clone, Debug)]
pub enum What {
    /// The e-node of this index in [`Class::nodes`]: an input, a weight, a recipe, an alias or a host op.
    Node(u32),
    /// A kernel.
    Kernel(Arc<Candidate>),
}

/// An e-node with its operands as classes of the net.
#[derive(Clone, Debug)]
pub struct NetNode {
    pub node: Node,
    pub needs: Vec<u32>,
    pub attrs: Option<Arc<Attrs>>,
}

#[derive(Clone, Debug)]
pub struct Class {
    pub id: Id,
    pub nodes: Vec<NetNode>,
    pub ways: Vec<Way>,
    /// `None` for a node with several results.
    pub ty: Option<TensorType>,
    pub fixed: bool,
}

pub struct Net {
    pub classes: Vec<Class>,
    pub roots: Vec<u32>,
    pub made: HashMap<Node, Made>,
}

impl Net {
    /// The class whose bytes these are: free reshapes are looked through.
    fn alias(&self, mut class: u32) -> u32 {
        let of = |c: u32| {
            let reshape = |n: &&NetNode| matches!(&n.node, Node::Op(op, _) if matches!(op.def().kind, Kind::Move(Move::Reshape)));
            self.classes[c as usize].nodes.iter().find(reshape).map(|n| n.needs[0])
        };
        while let Some(k) = of(class) {
            class = k;
        }
        class
    }
    /// Who made an e-node of the net.
    pub fn made(&self, class: u32, node: u32) -> Option<&Made> {
        self.made.get(&self.classes[class as usize].nodes[node as usize].node)
    }
}

/// Which e-nodes may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    All,
    /// Only those of the source program: fusion without rewriting.
    Source,
}

struct Frame {
    id: Id,
    nodes: Vec<Node>,
    at: usize,
    child: usize,
    kept: Vec<usize>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Open,
    Done(u32),
    /// Failed so many times.
    Failed(u16),
}

/// The acyclic part of the e-graph that the roots reach, in dependency order. `None` if a root cannot be made.
pub fn build(g: &EGraph, roots: &[Id], made: HashMap<Node, Made>, which: Use) -> Option<Net> {
    let mut net = Net { classes: vec![], roots: vec![], made };
    let mut state: HashMap<Id, State> = HashMap::new();
    for &r in roots {
        let r = g.find(r);
        if !matches!(state.get(&r), Some(State::Done(_))) {
            walk(g, r, &mut net, &mut state, which);
        }
        match state.get(&r) {
            Some(State::Done(i)) => net.roots.push(*i),
            _ => return None,
        }
    }
    Some(net)
}

fn usable(g: &EGraph, id: Id, net: &Net, which: Use) -> Vec<Node> {
    let class = &g[id];
    if matches!(class.data, Fact::Ill(_)) {
        return vec![];
    }
    let constant = |n: &Node| matches!(n, Node::Op(op, _) if op.def().name == "constant");
    if let Some(c) = class.nodes.iter().find(|n| constant(n)) {
        return vec![c.clone()];
    }
    let allowed = |n: &&Node| match n {
        Node::Kernel(..) | Node::Attr(_) => false,
        Node::Leaf(_) => true,
        n => which == Use::All || net.made.get(n).is_some_and(|m| m.rule.is_none()),
    };
    class.nodes.iter().filter(allowed).cloned().collect()
}

fn walk(g: &EGraph, root: Id, net: &mut Net, state: &mut HashMap<Id, State>, which: Use) {
    let frame = |net: &Net, id: Id| Frame { id, nodes: usable(g, id, net, which), at: 0, child: 0, kept: vec![] };
    let mut stack = vec![frame(net, root)];
    let fails = |state: &HashMap<Id, State>, id: Id| if let Some(State::Failed(n)) = state.get(&id) { *n } else { 0 };
    let mut before: HashMap<Id, u16> = HashMap::new();
    state.insert(root, State::Open);
    while let Some(f) = stack.last_mut() {
        let Some(node) = f.nodes.get(f.at) else {
            let f = stack.pop().expect("the loop saw it");
            if f.kept.is_empty() {
                let n = before.get(&f.id).copied().unwrap_or(0).saturating_add(1);
                before.insert(f.id, n);
                state.insert(f.id, State::Failed(n));
                if let Some(parent) = stack.last_mut() {
                    parent.at += 1;
                    parent.child = 0;
                }
            } else {
                close(g, f, net, state);
                if let Some(parent) = stack.last_mut() {
                    parent.child += 1;
                }
            }
            continue;
        };
        let Some(&child) = node.operands().get(f.child) else {
            f.kept.push(f.at);
            f.at += 1;
            f.child = 0;
            continue;
        };
        let child = g.find(child);
        match state.get(&child) {
            Some(State::Done(_)) => f.child += 1,
            Some(State::Open) => {
                f.at += 1;
                f.child = 0;
            }
            _ if fails(state, child) >= PATIENCE => {
                f.at += 1;
                f.child = 0;
            }
            _ => {
                state.insert(child, State::Open);
                let new = frame(net, child);
                stack.push(new);
            }
        }
    }
}

fn close(g: &EGraph, f: Frame, net: &mut Net, state: &mut HashMap<Id, State>) {
    let index = |id: &Id| match state.get(&g.find(*id)) {
        Some(State::Done(i)) => *i,
        _ => unreachable!("operands are closed first"),
    };
    let nodes = f
        .kept
        .iter()
        .map(|&i| {
            let node = &f.nodes[i];
            NetNode {
                node: node.clone(),
                needs: node.operands().iter().map(index).collect(),
                attrs: crate::facts::attrs(g, node).map(Arc::new),
            }
        })
        .collect();
    let (ty, fixed) = match &g[f.id].data {
        Fact::Value(v) => (Some(v.ty.clone()), v.fixed),
        _ => (None, false),
    };
    net.classes.push(Class { id: f.id, nodes, ways: vec![], ty, fixed });
    state.insert(f.id, State::Done(net.classes.len() as u32 - 1));
}

/// Fills in the ways of every class. `uses` says how often the source program uses a class (at least once).
pub fn price(net: &mut Net, former: &mut Former, target: &dyn TargetCost, uses: &dyn Fn(Id) -> u32) {
    let mut parents = vec![0u32; net.classes.len()];
    for c in &net.classes {
        for n in &c.nodes {
            for &k in &n.needs {
                parents[k as usize] += 1;
            }
        }
    }
    // What a class costs: shared among its users, and for one user alone.
    let (mut share, mut whole): (Vec<f64>, Vec<f64>) = (vec![], vec![]);
    let mut kernels: Vec<Vec<Arc<Candidate>>> = vec![];
    let mut room = Room { groups: GROUPS, nodes: net.classes.iter().map(|c| c.nodes.len()).sum(), limited: 0 };
    for (i, fan) in parents.iter().enumerate() {
        let found = if net.classes[i].fixed && !widens(net, i) {
            room.nodes -= net.classes[i].nodes.len();
            vec![]
        } else {
            kernels_of(net, i, &kernels, [&share, &whole], former, &mut room)
        };
        let class = &net.classes[i];
        let mut ways: Vec<Way> = vec![];
        for (k, n) in class.nodes.iter().enumerate() {
            ways.push(Way { ns: node_ns(net, class, n, target), needs: n.needs.clone(), what: What::Node(k as u32) });
        }
        for c in found.iter().filter(|c| c.formed.shape != Shape::Scores) {
            ways.push(Way { ns: c.formed.ns, needs: c.inputs.clone(), what: What::Kernel(c.clone()) });
        }
        let least =
            |of: &[f64]| ways.iter().map(|w| w.ns + w.needs.iter().map(|&k| of[k as usize]).sum::<f64>()).fold(f64::INFINITY, f64::min);
        let (best, alone) = (least(&share), least(&whole));
        let users = match uses(class.id) {
            0 => (*fan).max(1),
            n => n,
        };
        share.push(best / users as f64);
        whole.push(alone);
        kernels.push(found);
        net.classes[i].ways = ways;
    }
    former.limited += room.limited;
}

/// Groups that may still be tried, the e-nodes they are for, and those for which not all were.
struct Room {
    groups: usize,
    nodes: usize,
    limited: usize,
}

impl Room {
    /// How many the next e-node may try.
    fn next(&mut self) -> usize {
        let each = SHARES * self.groups / self.nodes.max(1);
        self.nodes = self.nodes.saturating_sub(1);
        each.clamp(FEWEST, COMBINATIONS)
    }
    fn spend(&mut self, tried: usize, all: usize) {
        self.groups = self.groups.saturating_sub(tried);
        self.limited += usize::from(tried < all.min(COMBINATIONS));
    }
}

/// Which pick to take for each operand, in the order of trying: the first of all, then the first operand's picks fastest. Where these are
/// more than `most`, first those that are promising together: of two operands the pairs of which both are among the first, of more every
/// operand's `i`-th pick at once and then one operand's after the other.
fn combinations(picks: &[usize], most: usize) -> Vec<Vec<usize>> {
    let all = picks.iter().fold(1usize, |a, &n| a.saturating_mul(n));
    if all <= most {
        let digits = |mut rest: usize| {
            let digit = |&n: &usize| {
                let d = rest % n;
                rest /= n;
                d
            };
            picks.iter().map(digit).collect()
        };
        return (0..all).map(digits).collect();
    }
    if let &[a, b] = picks {
        let mut pairs: Vec<Vec<usize>> = (0..a).flat_map(|i| (0..b).map(move |j| vec![i, j])).collect();
        pairs.sort_by_key(|p| ((p[0] + 1) * (p[1] + 1), p[1]));
        pairs.truncate(most);
        return pairs;
    }
    let level = |i: usize| picks.iter().map(|&n| i.min(n - 1)).collect::<Vec<usize>>();
    let one = |k: usize, i: usize| picks.iter().enumerate().map(|(p, _)| if p == k { i } else { 0 }).collect::<Vec<usize>>();
    let mut out = vec![level(0)];
    for i in 1..picks.iter().copied().max().unwrap_or(0) {
        out.push(level(i));
        out.extend((0..picks.len()).filter(|&k| i < picks[k]).take(most.saturating_sub(out.len())).map(|k| one(k, i)));
        if out.len() >= most {
            break;
        }
    }
    out.truncate(most);
    out
}

/// Writes the kernels of a net into the e-graph, each as a node of the class it makes: fusion is then a choice among equals like any
/// other, and dumps show it.
pub fn record(g: &mut EGraph, net: &Net) {
    for class in &net.classes {
        for way in &class.ways {
            if let What::Kernel(k) = &way.what {
                let children = k.inputs.iter().map(|&c| net.classes[c as usize].id).collect();
                let id = g.add(Node::Kernel(k.body.clone(), children));
                g.union_trusted(class.id, id, "kernel");
            }
        }
    }
    g.rebuild();
}

/// A weight-only value that is much larger than what it is made of is better made inside a kernel.
fn widens(net: &Net, class: usize) -> bool {
    net.classes[class].nodes.iter().any(|n| matches!(&n.node, Node::Op(op, _) if matches!(op.def().kind, Kind::Move(Move::Broadcast))))
}

/// Cost of an e-node outside of kernels.
fn node_ns(net: &Net, class: &Class, n: &NetNode, target: &dyn TargetCost) -> f64 {
    // A recipe runs once, at load, and an alias never: they only break ties.
    const RECIPE_BYTES_PER_NS: f64 = 1e7;
    const TIE_NS: f64 = 1e-4;
    let types: Vec<TensorType> = n.needs.iter().filter_map(|&k| net.classes[k as usize].ty.clone()).collect();
    let results: Vec<TensorType> = class.ty.iter().cloned().collect();
    match &n.node {
        Node::Leaf(_) | Node::Result(..) | Node::Attr(_) | Node::Kernel(..) => 0.0,
        Node::Opaque(..) => 0.0,
        Node::Op(op, _) => {
            let def = op.def();
            if class.fixed {
                let bytes: u64 = types.iter().chain(&results).filter_map(|t| t.bytes()).sum();
                return if n.needs.is_empty() { 0.0 } else { TIE_NS + bytes as f64 / RECIPE_BYTES_PER_NS };
            }
            match def.kind {
                // The same bytes under another shape.
                Kind::Move(Move::Reshape) => TIE_NS,
                // The host gathers from its own copy of a weight: only the indices and the result travel.
                Kind::Gather => {
                    let moving = n.needs.iter().map(|&k| &net.classes[k as usize]).filter(|c| !c.fixed);
                    target.host_ns(def, &moving.filter_map(|c| c.ty.clone()).collect::<Vec<_>>(), &results)
                }
                Kind::Composite(define) => target.host_ns(def, &types, &results) + contractions_ns(define, n, &types, target),
                _ => target.host_ns(def, &types, &results),
            }
        }
    }
}

/// Host time of the contractions inside a composite.
fn contractions_ns(define: Expand, n: &NetNode, types: &[TensorType], target: &dyn TargetCost) -> f64 {
    let mut b = Builder::new("host");
    let inputs: Vec<ValueId> = types.iter().map(|t| b.input("x", t.clone())).collect();
    let Some(attrs) = &n.attrs else { return 0.0 };
    if define(&mut b, &inputs, attrs).is_err() {
        return 0.0;
    }
    let g = b.graph();
    let contracts = g.nodes.iter().filter(|n| is_contract(&n.op));
    contracts
        .map(|n| target.host_ns(n.op.0, &n.operands.iter().map(|&v| g.ty(v).clone()).collect::<Vec<_>>(), &[g.ty(n.results[0]).clone()]))
        .sum()
}

fn same_class_type(net: &Net, k: u32) -> Option<&TensorType> {
    net.classes[k as usize].ty.as_ref()
}

/// A uniform constant that bodies write out.
fn uniform(net: &Net, k: u32) -> Option<(&Arc<Attrs>, Source)> {
    let c = &net.classes[k as usize];
    let [n] = c.nodes.as_slice() else { return None };
    let attrs = n.attrs.as_ref()?;
    let t = attrs.tensor("value")?;
    let v = t.to_f64s();
    let first = v.first()?.to_bits();
    (matches!(&n.node, Node::Op(op, _) if op.def().name == "constant") && v.iter().all(|x| x.to_bits() == first))
        .then_some((attrs, Source { class: k, node: 0 }))
}

fn is_contract(op: &OpDef) -> bool {
    matches!(op.kind, Kind::Contract(Contract::MatMul | Contract::Conv))
}

fn kernels_of(
    net: &Net,
    class: usize,
    kernels: &[Vec<Arc<Candidate>>],
    costs: [&[f64]; 2],
    former: &mut Former,
    room: &mut Room,
) -> Vec<Arc<Candidate>> {
    let mut found: Vec<([f64; 2], Arc<Candidate>)> = vec![];
    let mut seen: HashSet<(Arc<Body>, Vec<u32>)> = HashSet::new();
    let c = &net.classes[class];
    let Some(ty) = c.ty.as_ref().filter(|t| t.shape.is_static()) else {
        room.nodes = room.nodes.saturating_sub(c.nodes.len());
        return vec![];
    };
    for (ni, n) in c.nodes.iter().enumerate() {
        let most = room.next();
        let Node::Op(op, _) = &n.node else { continue };
        let (def, Some(attrs)) = (op.def(), &n.attrs) else { continue };
        if !joins(def) || n.needs.is_empty() || n.needs.len() > MOST_INPUTS {
            continue;
        }
        let source = Source { class: class as u32, node: ni as u32 };
        // What may become of each operand.
        let mut choices: Vec<Vec<Pick>> = vec![];
        for (operand, &k) in n.needs.iter().enumerate() {
            let Some(t) = same_class_type(net, k) else { break };
            if let Some((a, s)) = uniform(net, k) {
                choices.push(vec![Pick::Constant(a, t, s)]);
                continue;
            }
            let mut picks = vec![Pick::Leaf(k, t)];
            // A contraction takes expressions before it, and whole rows as its first operand.
            let matmul = matches!(def.kind, Kind::Contract(Contract::MatMul));
            let takes = |c: &&Arc<Candidate>| match c.formed.shape {
                _ if !is_contract(def) || is_depthwise(net, n) => true,
                Shape::Move => true,
                Shape::Map => matmul || operand == 0,
                Shape::Rows | Shape::Scores => matmul && operand == 0,
                Shape::Contract => false,
            };
            // The best few, and moves in any case: they cost nothing to take in. A part of a kernel has no other use.
            let (parts, wholes): (Vec<_>, Vec<_>) = kernels[k as usize].iter().filter(takes).partition(|c| c.formed.shape == Shape::Scores);
            let tried = wholes.into_iter().enumerate().filter(|(i, c)| *i < TRY || c.formed.shape == Shape::Move);
            picks.extend(tried.map(|(_, c)| c).chain(parts).map(|c| Pick::Absorb(c)));
            choices.push(picks);
        }
        if choices.len() != n.needs.len() {
            continue;
        }
        let lengths: Vec<usize> = choices.iter().map(Vec::len).collect();
        let all = lengths.iter().fold(1usize, |a, &n| a.saturating_mul(n));
        let mut tried = 0;
        // What the op costs as a kernel by itself, with what it needs.
        let mut alone: Option<[f64; 2]> = None;
        for (combination, which) in combinations(&lengths, most).into_iter().enumerate() {
            tried = combination + 1;
            let picks: Vec<Pick> = choices.iter().zip(which).map(|(c, i)| c[i]).collect();
            // Two contractions are never one kernel, nor a contraction and a reduction.
            let shapes: Vec<(Shape, u32)> = picks
                .iter()
                .filter_map(
                    |p| if let Pick::Absorb(c) = p { Some((c.formed.shape, c.sources.last().map_or(0, |s| s.class))) } else { None },
                )
                .collect();
            let contracts = shapes.iter().any(|s| s.0 == Shape::Contract);
            // Those that share a kernel share their first operand.
            let mut firsts = picks.iter().filter_map(first_operand);
            let first = firsts.next();
            if firsts.any(|f| Some(f) != first) {
                continue;
            }
            if contracts && shapes.iter().any(|s| s.0 == Shape::Rows) {
                continue;
            }
            let Some((body, inputs, sources)) = Maker::make(def.name, attrs, ty, source, &picks) else { continue };
            if !seen.insert((body.clone(), inputs.clone())) {
                continue;
            }
            let needed = costs.map(|of| inputs.iter().map(|&k| of[k as usize]).sum::<f64>());
            let most = alone.map_or(f64::INFINITY, |a| USEFUL * (a[0] - needed[0]).max(a[1] - needed[1]).max(0.0));
            match former.form(&body, most) {
                Verdict::Kernel(formed) => {
                    let cost = needed.map(|n| formed.ns + n);
                    if combination == 0 {
                        alone = Some(cost);
                    }
                    found.push((cost, Arc::new(Candidate { body, inputs, sources, formed })));
                }
                // What is no kernel by itself is none with more.
                Verdict::Never if combination == 0 => {
                    tried = all;
                    break;
                }
                Verdict::Over(..) | Verdict::Never => {}
            }
        }
        room.spend(tried, all);
    }
    let found = undominated(net, cheapest(found));
    // The best few by either cost in turn, and always the smallest, and the longest chain of moves.
    let order = |k: usize, found: &[([f64; 2], Arc<Candidate>)]| {
        let mut o: Vec<usize> = (0..found.len()).collect();
        o.sort_by(|&a, &b| {
            let (x, y) = (&found[a], &found[b]);
            x.0[k].total_cmp(&y.0[k]).then_with(|| x.1.body.nodes.len().cmp(&y.1.body.nodes.len())).then_with(|| x.1.body.cmp(&y.1.body))
        });
        o
    };
    let (shared, whole) = (order(0, &found), order(1, &found));
    let mut ranked: Vec<usize> = vec![];
    let mut placed = vec![false; found.len()];
    for i in shared.iter().zip(&whole).flat_map(|(a, b)| [*a, *b]) {
        if !std::mem::replace(&mut placed[i], true) {
            ranked.push(i);
        }
    }
    let least = found.iter().map(|f| f.1.body.nodes.len()).min().unwrap_or(0);
    let mut keep: Vec<Arc<Candidate>> = vec![];
    let (mut small, mut moved, mut parts) = (0, 0, 0);
    let mut wholes = 0;
    for &f in &ranked {
        let c = &found[f].1;
        if c.formed.shape == Shape::Scores {
            if parts < PARTS {
                parts += 1;
                keep.push(c.clone());
            }
            continue;
        }
        let is_small = c.body.nodes.len() == least && small < 2;
        let is_move = c.formed.shape == Shape::Move && moved < 6;
        if wholes < KEEP || is_small || is_move {
            small += usize::from(is_small);
            moved += usize::from(is_move);
            keep.push(c.clone());
        }
        wholes += 1;
    }
    keep
}

/// Classes that the first operand of a contraction reads, where a pick is one.
fn first_operand(p: &Pick) -> Option<Vec<u32>> {
    let Pick::Absorb(c) = p else { return None };
    let kernel::Body::Contract(spec) = &c.formed.spec.body else { return None };
    if c.formed.shape != Shape::Contract {
        return None;
    }
    let product = spec.a.product.iter().flat_map(|p| p.a.accesses().chain(p.b.accesses()));
    let mut read: Vec<u32> = spec.a.accesses().chain(product).map(|a| c.inputs[a.buffer]).collect();
    read.sort_unstable();
    read.dedup();
    Some(read)
}

/// The cheapest of many by either cost, and the smallest: those that are compared.
fn cheapest(mut found: Vec<([f64; 2], Arc<Candidate>)>) -> Vec<([f64; 2], Arc<Candidate>)> {
    if found.len() <= COMPARED {
        return found;
    }
    let mut keep = vec![false; found.len()];
    let mut by = |key: &dyn Fn(usize) -> f64| {
        let mut order: Vec<usize> = (0..found.len()).collect();
        order.sort_by(|&a, &b| key(a).total_cmp(&key(b)).then_with(|| found[a].1.body.cmp(&found[b].1.body)));
        order.into_iter().take(COMPARED / 3).for_each(|i| keep[i] = true);
    };
    by(&|i| found[i].0[0]);
    by(&|i| found[i].0[1]);
    by(&|i| found[i].1.body.nodes.len() as f64);
    let mut keep = keep.into_iter();
    found.retain(|_| keep.next().unwrap_or(true));
    found
}

/// Without kernels that another of their shape makes pointless: no dearer, and needing no more. Inputs and recipes are there anyway, and
/// free reshapes are looked through. Of equals the smallest stays.
fn undominated(net: &Net, mut found: Vec<([f64; 2], Arc<Candidate>)>) -> Vec<([f64; 2], Arc<Candidate>)> {
    let given = |c: u32| {
        let c = &net.classes[c as usize];
        c.fixed || c.nodes.iter().any(|n| matches!(n.node, Node::Leaf(_)))
    };
    found.sort_by(|a, b| (a.1.body.nodes.len(), &a.1.body).cmp(&(b.1.body.nodes.len(), &b.1.body)));
    let needs: Vec<Vec<u32>> = found
        .iter()
        .map(|(_, c)| {
            let mut needs: Vec<u32> = c.inputs.iter().map(|&k| net.alias(k)).filter(|&k| !given(k)).collect();
            needs.sort_unstable();
            needs.dedup();
            needs
        })
        .collect();
    let better = |i: usize, j: usize| {
        let (a, b) = (&found[i].1.formed, &found[j].1.formed);
        let within = needs[i].iter().all(|k| needs[j].contains(k));
        let equal = a.ns == b.ns && needs[i].len() == needs[j].len();
        a.shape == b.shape && a.ns <= b.ns && within && (!equal || i < j)
    };
    let keep: Vec<bool> = (0..found.len()).map(|j| j == 0 || !(0..found.len()).any(|i| i != j && better(i, j))).collect();
    let mut keep = keep.into_iter();
    found.retain(|_| keep.next().unwrap_or(true));
    found
}

/// A convolution with one input channel per group is a sum along rows, and takes maps before it.
fn is_depthwise(net: &Net, n: &NetNode) -> bool {
    let Node::Op(op, _) = &n.node else { return false };
    let groups = n.attrs.as_ref().and_then(|a| a.int("groups")).unwrap_or(1);
    matches!(op.def().kind, Kind::Contract(Contract::Conv))
        && groups > 1
        && same_class_type(net, n.needs[1]).and_then(|t| t.shape.0.first()?.known()) == Some(groups as u64)
}

#[cfg(test)]
mod tests {
    use super::combinations;
    use std::collections::HashSet;

    #[test]
    fn few_combinations_are_the_promising_ones() {
        // All of them, the first operand fastest.
        assert_eq!(combinations(&[2, 2], 4), [[0, 0], [1, 0], [0, 1], [1, 1]]);
        assert_eq!(combinations(&[3], 2), [[0], [1]]);
        // Of two, those that are both among the first.
        assert_eq!(combinations(&[9, 9], 4), [[0, 0], [1, 0], [0, 1], [2, 0]]);
        // Of many, all leaves, all of the next, then one at a time.
        let many = combinations(&[3; 200], 64);
        assert_eq!((many.len(), &many[0], &many[1]), (64, &vec![0; 200], &vec![1; 200]));
        assert_eq!(many[2].iter().sum::<usize>(), 1);
        assert_eq!(many.iter().collect::<HashSet<_>>().len(), 64);
        for most in [1, 8, 1024] {
            assert!(combinations(&[17, 17, 17], most).len() <= most);
        }
    }
}
