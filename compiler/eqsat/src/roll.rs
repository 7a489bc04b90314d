//! Repeated structure: the equal layers of a network are found by hashing up to weights, optimised once, and the result is repeated.
//!
//! ```text
//! embedding  layer  layer  …  layer  head      =>      pieces: embedding · layer × n · head, each searched by itself
//! ```
//!
//! Pieces are cut where the fewest values cross, so that nothing worth fusing lies on both sides. Blocks of several kinds (the stages of
//! a convolutional network) are found one after another, the one that saves most first.

use crate::found::{Block, Searched, Unit, leaf_names};
use crate::language::hash_of;
use crate::span::Span;
use crate::{Kept, Options, Report, optimize_main};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;
use tahoma_core::op::Kind;
use tahoma_core::{Attr, Attrs, Builder, Diagnostic, Graph, Node, Origin, Program, ValueId};

/// Least and most ops of a repeated block.
const LEAST: usize = 6;
const MOST: usize = 1024;
/// Blocks of up to so many ops that repeat often are taken several at a time, so that a kernel's worth of ops is one block.
const SHORT: usize = 12;
const KERNEL: usize = crate::kernel::MAX_OPS;
/// Programs of fewer ops are searched whole, and those where repeating leaves more than this share of them to search.
const SMALL: usize = 200;
const SHARE: usize = 3;

/// A stretch of a graph as a graph of its own. Weights are named by their place.
struct Piece {
    body: Graph,
    /// Values of the whole that are its inputs and outputs.
    args: Vec<ValueId>,
    results: Vec<ValueId>,
    weights: Vec<String>,
    /// Those of them that are not ordinary, by their new names.
    spans: BTreeMap<String, Span>,
    /// Nodes of the whole behind those of the body.
    nodes: Vec<usize>,
}

/// Optimises the pieces of `main` and puts them together.
pub(crate) fn optimize(program: &Program, options: &Options, mut keep: Kept) -> Result<(Program, Report), Diagnostic> {
    let g = program.main();
    let whole = Whole::new(g, &options.weights);
    let mut groups: Vec<Vec<Range<usize>>> = vec![];
    whole.split(0..whole.order.len(), &mut groups);
    groups.sort_by_key(|p| p[0].start);
    let searched: usize = groups.iter().map(|p| p[0].len()).sum();
    if whole.order.len() < SMALL || searched * SHARE > whole.order.len() {
        let (program, searched) = optimize_main(program, options)?;
        let report = match keep {
            Some(units) => {
                let report = searched.report.clone();
                units.push(Unit { function: Program::MAIN.into(), searched, blocks: vec![Block::default()] });
                report
            }
            None => searched.report,
        };
        return Ok((program, report));
    }
    let mut functions = program.functions.clone();
    let mut report = Report::default();
    let mut b = Builder::new(&g.name);
    let mut values: HashMap<ValueId, ValueId> = HashMap::new();
    for p in &g.inputs {
        let v = b.input(&p.name, g.ty(p.value).clone());
        values.insert(p.value, v);
    }
    for group in groups {
        let first = whole.piece(&group[0]);
        functions.insert(Program::MAIN.into(), first.body.clone());
        let (done, searched) = optimize_main(&Program { functions }, &options.with_weights(Arc::new(first.spans.clone())))?;
        functions = done.functions;
        let mut blocks = vec![];
        let Some(body) = functions.remove(Program::MAIN) else { return Err(crate::lost("a piece without a body")) };
        for range in &group {
            let here = whole.piece(range);
            let origins = || first.nodes.iter().zip(&here.nodes).map(|(&a, &b)| (&g.nodes[a].origin, &g.nodes[b].origin));
            if keep.is_some() {
                let inputs = here.args.iter().map(|&v| whole.name(v)).collect();
                blocks.push(Block { names: leaf_names(origins()), weights: here.weights.clone(), inputs });
            }
            let origins = origins().map(|(a, b)| (&**a, b)).collect();
            let args: Vec<ValueId> = here.args.iter().map(|v| values[v]).collect();
            let out = inline(&mut b, &body, &args, &here.weights, &origins)?;
            values.extend(here.results.iter().copied().zip(out));
        }
        match &mut keep {
            Some(units) => {
                report.add(searched.report.clone().repeated(group.len()));
                units.push(Unit { function: Program::MAIN.into(), searched: Searched { view: blocks[0].clone(), ..searched }, blocks });
            }
            None => report.add(searched.report.repeated(group.len())),
        }
    }
    let mut fixed: Vec<usize> = vec![];
    for o in &g.outputs {
        whole.fixed_under(o.value, &mut fixed);
    }
    for i in fixed {
        let n = &g.nodes[i];
        let operands: Vec<ValueId> = n.operands.iter().map(|v| values[v]).collect();
        let out = copy(&mut b, n, &operands, n.attrs.clone(), g)?;
        values.extend(n.results.iter().copied().zip(out));
    }
    for o in &g.outputs {
        b.output(&o.name, values[&o.value]);
    }
    let mut main = b.finish();
    main.attrs = g.attrs.clone();
    functions.insert(Program::MAIN.into(), main);
    let (program, renamed) = share_kernels(Program { functions });
    keep.into_iter().flatten().for_each(|u| u.rename(&renamed));
    report.functions = program.functions.values().filter(|f| f.attrs.str("kernel").is_some()).count();
    Ok((program, report))
}

/// A graph seen as a sequence of the ops that depend on inputs; what depends on weights alone belongs to its users.
struct Whole<'g> {
    g: &'g Graph,
    spans: &'g BTreeMap<String, Span>,
    producers: Vec<Option<usize>>,
    /// Nodes that do not depend on weights alone, in order.
    order: Vec<usize>,
    /// Place in the order of the node that makes each value; inputs and fixed values have none.
    place: Vec<Option<usize>>,
    fixed: Vec<bool>,
    /// Last place that uses each value.
    last: Vec<usize>,
    /// Hash of each node of the order: op, attributes, types.
    hashes: Vec<u64>,
}

impl<'g> Whole<'g> {
    fn new(g: &'g Graph, spans: &'g BTreeMap<String, Span>) -> Whole<'g> {
        let n = g.types.len();
        let (mut fixed, mut place, mut last) = (vec![false; n], vec![None; n], vec![0; n]);
        let (mut order, mut hashes) = (vec![], vec![]);
        for (i, node) in g.nodes.iter().enumerate() {
            let from_weights = !matches!(node.op.kind, Kind::Structure) || matches!(node.op.name, "weight" | "constant");
            if from_weights && node.operands.iter().all(|v| fixed[v.index()]) {
                node.results.iter().for_each(|r| fixed[r.index()] = true);
                continue;
            }
            let at = order.len();
            for v in &node.operands {
                last[v.index()] = at;
            }
            for r in &node.results {
                place[r.index()] = Some(at);
            }
            let types = |vs: &[ValueId]| vs.iter().map(|&v| (g.ty(v).clone(), fixed[v.index()])).collect::<Vec<_>>();
            hashes.push(hash_of(&(node.op.name, &node.attrs, types(&node.operands), types(&node.results))));
            order.push(i);
        }
        Whole { g, spans, producers: g.producers(), order, place, fixed, last, hashes }
    }

    /// What a value is called: by the node that makes it, or as an input.
    fn name(&self, v: ValueId) -> String {
        match self.producers[v.index()] {
            Some(n) => crate::names::node_name(&self.g.nodes[n], n, &Block::default()),
            None => self.g.inputs.iter().find(|p| p.value == v).map_or_else(String::new, |p| format!("input {:?}", p.name)),
        }
    }

    /// Values made before a place and used from it on.
    fn crossing(&self, at: usize) -> usize {
        let crosses = |v: usize| self.place[v].is_some_and(|p| p < at) && self.last[v] >= at;
        (0..self.place.len()).filter(|&v| crosses(v)).count()
    }

    /// Divides a stretch into groups of equal neighbours; what repeats nothing is a group of one.
    fn split(&self, range: Range<usize>, groups: &mut Vec<Vec<Range<usize>>>) {
        if range.is_empty() {
            return;
        }
        let Some(run) = self.repeats(&range) else {
            groups.push(vec![range]);
            return;
        };
        let (start, end) = (run[0].start, run[run.len() - 1].end);
        groups.push(run);
        self.split(range.start..start, groups);
        self.split(end..range.end, groups);
    }

    /// The run of equal blocks in a stretch that saves the most ops.
    fn repeats(&self, range: &Range<usize>) -> Option<Vec<Range<usize>>> {
        let h = &self.hashes[range.clone()];
        // (ops saved, period, start, length of the run of equal pairs)
        let mut found: Vec<(usize, usize, usize, usize)> = vec![];
        for period in LEAST..=(h.len() / 2).min(MOST) {
            let mut at = 0;
            while at + period < h.len() {
                let len = (at..h.len() - period).take_while(|&i| h[i] == h[i + period]).count();
                if len >= period {
                    found.push((len / period * period, period, at, len));
                }
                at += len + 1;
            }
        }
        found.sort_by_key(|f| (std::cmp::Reverse(f.0), f.1, f.2));
        // A run of `len` pairs this far apart has `len + period` ops: so many less pairs are further apart.
        let several = |period: usize, len: usize| {
            let long = KERNEL.div_ceil(period) * period;
            if period <= SHORT && len + period >= 3 * long { (long, len + period - long) } else { (period, len) }
        };
        found.into_iter().take(4).find_map(|(_, period, start, len)| {
            let (period, len) = several(period, len);
            self.aligned(range.start + start, period, len)
        })
    }

    /// Blocks of a run, cut where the fewest values cross.
    fn aligned(&self, start: usize, period: usize, len: usize) -> Option<Vec<Range<usize>>> {
        let used = |at: usize| -> usize {
            let g = self.g;
            let made = |v: &&ValueId| self.place[v.index()].is_some_and(|p| p < at);
            let near = &self.order[at..(at + period).min(self.order.len())];
            near.iter().flat_map(|&i| &g.nodes[i].operands).filter(made).count()
        };
        // Few values that many ops of the block use: the state between layers.
        let phase = (0..period.min(len - period + 1).max(1))
            .min_by_key(|&o| (self.crossing(start + o), std::cmp::Reverse(used(start + o)), o))
            .unwrap_or(0);
        let count = (len + period - phase) / period;
        let blocks: Vec<Range<usize>> = (0..count).map(|i| start + phase + i * period..start + phase + (i + 1) * period).collect();
        let pieces: Vec<Piece> = blocks.iter().map(|b| self.piece(b)).collect();
        // The longest run of blocks that are equal in every wire too.
        let (mut best, mut at) = (0..0, 0);
        while at < pieces.len() {
            let same =
                (at..pieces.len()).take_while(|&i| pieces[at].spans == pieces[i].spans && equal(&pieces[at].body, &pieces[i].body)).count();
            if same > best.len() {
                best = at..at + same;
            }
            at += same.max(1);
        }
        // Ops side by side are no layers: what most of them make leaves the block.
        let beside = pieces.get(best.start).is_some_and(|p| p.results.len() * 2 > period);
        (best.len() > 1 && !beside).then(|| blocks[best].to_vec())
    }

    /// Fixed nodes that a value needs, operands first.
    fn fixed_under(&self, v: ValueId, out: &mut Vec<usize>) {
        if !self.fixed[v.index()] {
            return;
        }
        let mut stack = vec![(v, false)];
        while let Some((v, ready)) = stack.pop() {
            let Some(i) = self.producers[v.index()].filter(|i| !out.contains(i)) else { continue };
            if ready {
                out.push(i);
            } else {
                stack.push((v, true));
                stack.extend(self.g.nodes[i].operands.iter().rev().map(|&o| (o, false)));
            }
        }
    }

    fn piece(&self, range: &Range<usize>) -> Piece {
        let g = self.g;
        let inside = |v: ValueId| self.place[v.index()].is_some_and(|p| range.contains(&p));
        let mut nodes: Vec<usize> = vec![];
        let mut args: Vec<ValueId> = vec![];
        for &i in &self.order[range.clone()] {
            for &v in &g.nodes[i].operands {
                if self.fixed[v.index()] {
                    self.fixed_under(v, &mut nodes);
                } else if !inside(v) && !args.contains(&v) {
                    args.push(v);
                }
            }
            nodes.push(i);
        }
        let outputs: Vec<ValueId> = g.outputs.iter().map(|o| o.value).collect();
        let leaves = |v: &ValueId| self.last[v.index()] >= range.end || outputs.contains(v);
        let results: Vec<ValueId> =
            self.order[range.clone()].iter().flat_map(|&i| g.nodes[i].results.iter().copied()).filter(leaves).collect();
        let mut to: HashMap<ValueId, ValueId> = HashMap::new();
        let mut body = Graph { name: g.name.clone(), attrs: g.attrs.clone(), ..Graph::default() };
        let new = |v: ValueId, body: &mut Graph, to: &mut HashMap<ValueId, ValueId>| {
            body.types.push(g.ty(v).clone());
            let id = ValueId(body.types.len() as u32 - 1);
            to.insert(v, id);
            id
        };
        for (i, &v) in args.iter().enumerate() {
            let value = new(v, &mut body, &mut to);
            body.inputs.push(tahoma_core::Port { name: format!("a{i}"), value });
        }
        let (mut weights, mut spans) = (vec![], BTreeMap::new());
        for &i in &nodes {
            let n = &g.nodes[i];
            let mut attrs = n.attrs.clone();
            if n.op.name == "weight" {
                let (old, new) = (n.attrs.str("name").unwrap_or_default().to_string(), weights.len().to_string());
                attrs = attrs.with("name", new.as_str());
                spans.extend(self.spans.get(&old).map(|s| (new, *s)));
                weights.push(old);
            }
            let operands = n.operands.iter().map(|v| to[v]).collect();
            let results = n.results.iter().map(|&r| new(r, &mut body, &mut to)).collect();
            body.nodes.push(Node { op: n.op, operands, attrs, results, origin: n.origin.clone() });
        }
        for (i, v) in results.iter().enumerate() {
            body.outputs.push(tahoma_core::Port { name: format!("r{i}"), value: to[v] });
        }
        Piece { body, args, results, weights, spans, nodes }
    }
}

/// Whether two pieces compute the same; origins do not count.
fn equal(a: &Graph, b: &Graph) -> bool {
    let node = |(x, y): (&Node, &Node)| (x.op.name, &x.operands, &x.attrs, &x.results) == (y.op.name, &y.operands, &y.attrs, &y.results);
    let nodes = a.nodes.len() == b.nodes.len() && a.nodes.iter().zip(&b.nodes).all(node);
    a.types == b.types && a.inputs == b.inputs && a.outputs == b.outputs && nodes
}

/// Names of the first block's nodes, and of the same nodes here.
type Origins<'a> = HashMap<&'a Origin, &'a Arc<Origin>>;

fn renamed(o: &Arc<Origin>, to: &Origins) -> Arc<Origin> {
    if let Some(here) = to.get(&**o) {
        return (*here).clone();
    }
    match &**o {
        Origin::Fused { rule, from } => Arc::new(Origin::Fused { rule: rule.clone(), from: from.iter().map(|o| renamed(o, to)).collect() }),
        _ => o.clone(),
    }
}

/// Copies an optimised block into the whole; its outputs.
fn inline(b: &mut Builder, body: &Graph, args: &[ValueId], weights: &[String], origins: &Origins) -> Result<Vec<ValueId>, Diagnostic> {
    let mut to: HashMap<ValueId, ValueId> = body.inputs.iter().map(|p| p.value).zip(args.iter().copied()).collect();
    for n in &body.nodes {
        b.set_origin(renamed(&n.origin, origins));
        let operands: Vec<ValueId> = n.operands.iter().map(|v| to[v]).collect();
        let mut attrs = n.attrs.clone();
        if n.op.name == "weight" {
            let name = attrs.str("name").and_then(|i| weights.get(i.parse::<usize>().ok()?)).cloned().unwrap_or_default();
            attrs = attrs.with("name", name.as_str());
        }
        let out = copy(b, n, &operands, attrs, body)?;
        to.extend(n.results.iter().copied().zip(out));
    }
    Ok(body.outputs.iter().map(|o| to[&o.value]).collect())
}

fn copy(b: &mut Builder, n: &Node, operands: &[ValueId], attrs: Attrs, from: &Graph) -> Result<Vec<ValueId>, Diagnostic> {
    let types = || n.results.iter().map(|&r| from.ty(r).clone()).collect::<Vec<_>>();
    if n.op.name == "weight" {
        return Ok(vec![b.weight(attrs.str("name").unwrap_or_default(), types().remove(0))]);
    }
    if let ("constant", Some(t)) = (n.op.name, attrs.tensor("value")) {
        return Ok(vec![b.constant((**t).clone())]);
    }
    let fixed = types().iter().all(|t| t.shape.is_static()) && !matches!(n.op.kind, Kind::Structure);
    let made = if fixed { b.emit(n.op.0, operands, attrs) } else { b.structure(n.op.0, operands, attrs, types()) };
    made.map_err(|e| crate::lost(&format!("ml.{}: {}", n.op.name, e.message)))
}

/// Kernels of different pieces that are equal become one function; the names that went, with those that stand for them.
fn share_kernels(mut p: Program) -> (Program, BTreeMap<String, String>) {
    let mut kept: Vec<String> = vec![];
    let mut to: BTreeMap<String, String> = BTreeMap::new();
    let mut names: Vec<String> = p.functions.iter().filter(|(_, g)| g.attrs.str("kernel").is_some()).map(|(n, _)| n.clone()).collect();
    names.sort_by_key(|n| (n.len(), n.clone()));
    for name in names {
        match kept.iter().find(|k| equal(&p.functions[*k], &p.functions[&name])) {
            Some(k) => {
                to.insert(name, k.clone());
            }
            None => kept.push(name),
        }
    }
    for g in p.functions.values_mut() {
        for n in &mut g.nodes {
            if let Some(k) = n.attrs.func("callee").and_then(|f| to.get(f)) {
                n.attrs = n.attrs.clone().with("callee", Attr::Func(k.as_str().into()));
            }
        }
    }
    p.functions.retain(|n, _| !to.contains_key(n));
    (p, to)
}
