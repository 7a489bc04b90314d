//! Explanations of a chosen program: where each kernel comes from, which rules and proofs stand behind it, what else was possible.

use crate::extract::dag::{self, DagWay, Problem};
use crate::extract::{Choice, reached};
use crate::facts::EGraph;
use crate::kernel::{Candidate, Shape};
use crate::language::Node;
use crate::net::{Net, Way, What};
use crate::proof::{self, LeftOut, Proof, class_of, doc_of};
use crate::{Options, Report, rules};
use egg::Id;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use tahoma_core::artifact::Numerics;
use tahoma_core::op::Kind;
use tahoma_core::{Diagnostic, Origin, Program, ValueId};

/// Other ways shown for a kernel.
const ALTERNATIVES: usize = 3;
/// Class visits of the search around a forced way: it starts from the chosen program, so little is left to find.
const STEPS: u64 = 200_000;

/// A search of `main` with everything that was found: [`crate::search`].
pub struct Searched {
    pub source: Program,
    /// The chosen program.
    pub result: Program,
    pub report: Report,
    pub egraph: EGraph,
    pub net: Net,
    pub choice: Choice,
    /// Whether `net` is that of the saturated e-graph, and not of the source alone.
    pub saturated: bool,
    /// The class of the net that each value of the source's `main` is in.
    pub values: Vec<Option<u32>>,
    /// The class that each kernel call makes, with the kernel's name, in order.
    pub calls: Vec<(u32, String)>,
}

/// The class of the net that each of some e-classes is in.
pub(crate) fn places(g: &EGraph, net: &Net, values: &[Id]) -> Vec<Option<u32>> {
    let index: HashMap<Id, u32> = net.classes.iter().enumerate().map(|(i, c)| (g.find(c.id), i as u32)).collect();
    values.iter().map(|&id| index.get(&g.find(id)).copied()).collect()
}

/// A name for people: that of the node, or its op and place where it has none.
pub(crate) fn label(o: &Origin) -> String {
    match o {
        Origin::Node { index, name, op, .. } if name.is_empty() => format!("{op}#{index}"),
        Origin::Node { name, .. } | Origin::Tensor { name, .. } => name.to_string(),
        other => other.to_string(),
    }
}

impl Searched {
    /// The kernel that makes a class of the chosen program.
    pub fn kernel_of(&self, class: u32) -> Option<&str> {
        self.calls.iter().find(|c| c.0 == class).map(|c| &*c.1)
    }
    /// Names of the kernels, in order of their first call.
    pub fn kernels(&self) -> Vec<&str> {
        let mut out: Vec<&str> = vec![];
        for (_, name) in &self.calls {
            if !out.contains(&&**name) {
                out.push(name);
            }
        }
        out
    }
    pub(crate) fn chosen(&self, class: u32) -> &Way {
        &self.net.classes[class as usize].ways[self.choice.way[class as usize] as usize]
    }
    pub(crate) fn candidate(&self, class: u32) -> Option<&Candidate> {
        if let What::Kernel(k) = &self.chosen(class).what { Some(k) } else { None }
    }
    /// The least time of the whole program found in which `class` is made by `way`. `None` if that would be a cycle.
    pub(crate) fn forced(&self, class: u32, way: &Way) -> Option<f64> {
        if way.needs.iter().any(|&k| k >= class) {
            return None;
        }
        let one = |w: &Way| DagWay { cost: w.ns, needs: w.needs.clone() };
        let mut classes: Vec<Vec<DagWay>> = self.net.classes.iter().map(|c| c.ways.iter().map(one).collect()).collect();
        classes[class as usize] = vec![one(way)];
        let mut seed = self.choice.way.clone();
        seed[class as usize] = 0;
        // Asked for like an output: else the rest would go around it.
        let roots = self.net.roots.iter().copied().chain([class]).collect();
        Some(dag::improve(&Problem { classes, roots }, seed, STEPS, &|| false).cost)
    }
}

/// What the source calls its values, and which class each is in.
pub(crate) struct Names {
    places: Vec<Option<u32>>,
    makers: Vec<Option<usize>>,
    plain: Vec<bool>,
    /// Values made by ops, by class; and classes that hold any value at all.
    values: BTreeMap<u32, Vec<ValueId>>,
    all: BTreeSet<u32>,
    /// The first name of each class.
    first: BTreeMap<u32, String>,
}

impl Names {
    pub(crate) fn new(s: &Searched) -> Names {
        let main = s.source.main();
        let mut n = Names {
            places: s.values.clone(),
            makers: vec![None; main.types.len()],
            plain: vec![],
            values: BTreeMap::new(),
            all: BTreeSet::new(),
            first: BTreeMap::new(),
        };
        let mut live = vec![false; main.types.len()];
        for o in &main.outputs {
            live[o.value.index()] = true;
        }
        for node in main.nodes.iter().rev() {
            if node.results.iter().any(|r| live[r.index()]) {
                node.operands.iter().for_each(|o| live[o.index()] = true);
            }
        }
        for p in &main.inputs {
            if let Some(c) = n.places[p.value.index()] {
                n.all.insert(c);
                n.first.entry(c).or_insert_with(|| format!("input {:?}", p.name));
            }
        }
        for (i, node) in main.nodes.iter().enumerate() {
            let static_types = node.results.iter().all(|&r| main.ty(r).shape.is_static());
            let plain = !matches!(node.op.kind, Kind::Structure) && node.op.name != "weight" && node.results.len() == 1 && static_types;
            n.plain.push(plain);
            for &r in &node.results {
                n.makers[r.index()] = Some(i);
                let Some(c) = n.places[r.index()].filter(|_| live[r.index()]) else { continue };
                n.all.insert(c);
                if plain && node.op.name != "constant" {
                    n.values.entry(c).or_default().push(r);
                }
                n.first.entry(c).or_insert_with(|| node_label(s, i));
            }
        }
        n
    }
    pub(crate) fn place(&self, v: ValueId) -> Option<u32> {
        self.places[v.index()]
    }
    pub(crate) fn maker(&self, v: ValueId) -> Option<usize> {
        self.makers[v.index()]
    }
    /// Whether a node of the source can be written as an op of the e-graph.
    pub(crate) fn plain(&self, node: usize) -> bool {
        self.plain[node]
    }
    pub(crate) fn has_source(&self, class: u32) -> bool {
        self.all.contains(&class)
    }
    pub(crate) fn values_of(&self, class: u32) -> &[ValueId] {
        self.values.get(&class).map_or(&[], Vec::as_slice)
    }
    pub(crate) fn value(&self, s: &Searched, v: ValueId) -> String {
        self.maker(v).map_or_else(|| format!("value {}", v.0), |n| node_label(s, n))
    }
    pub(crate) fn class(&self, s: &Searched, class: u32) -> String {
        self.first.get(&class).cloned().unwrap_or_else(|| match s.net.classes[class as usize].nodes.first().map(|n| &n.node) {
            Some(Node::Leaf(l)) => l.name.to_string(),
            Some(n) => format!("{n} made by rules"),
            None => format!("class {class}"),
        })
    }
}

/// A node of the source's `main`: its names in the model, or its op and place.
pub(crate) fn node_label(s: &Searched, node: usize) -> String {
    let n = &s.source.main().nodes[node];
    if n.op.name == "weight" {
        return format!("weight {:?}", n.attrs.str("name").unwrap_or_default());
    }
    let names: Vec<String> = n.origin.leaves().into_iter().map(label).collect();
    if names.is_empty() { format!("{}#{node}", n.op.name) } else { names.join(" + ") }
}

/// Another way to make what a kernel makes.
#[derive(Clone, Debug, Serialize)]
pub struct Alternative {
    /// `kernel: matmul add` or `host: softmax`.
    pub what: String,
    /// Time of this alone.
    pub ns: f64,
    /// By how much the whole program is slower with it, all else chosen anew around it.
    pub slower_ns: f64,
}

/// A rule that made ops of a kernel.
#[derive(Clone, Debug, Serialize)]
pub struct RuleText {
    pub name: String,
    pub class: Numerics,
    pub doc: String,
    pub lhs: String,
    pub rhs: String,
    /// Ops of the kernel that it made.
    pub ops: usize,
}

/// Where a kernel of the chosen program comes from, and what else was possible.
#[derive(Clone, Debug, Serialize)]
pub struct Kernel {
    pub name: String,
    pub form: &'static str,
    pub ops: String,
    pub inputs: Vec<String>,
    pub output: String,
    pub predicted_ns: f64,
    /// Nodes of the model behind each call.
    pub calls: Vec<Vec<String>>,
    pub rules: Vec<RuleText>,
    /// Ways that cost more, for the first call.
    pub alternatives: Vec<Alternative>,
    pub proofs: Vec<Proof>,
    pub left_out: Vec<LeftOut>,
}

/// Explanations of a whole program, or of one kernel.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    pub chosen_ns: f64,
    pub greedy_ns: f64,
    pub unfused_ns: f64,
    pub e_nodes: usize,
    pub e_classes: usize,
    pub stopped: &'static str,
    pub kernels: Vec<Kernel>,
    /// Values that rules changed and no kernel makes: weights computed at load, host ops, outputs that are inputs.
    pub elsewhere: Vec<Proof>,
    pub elsewhere_left_out: Vec<LeftOut>,
}

pub(crate) fn what(way: &Way, s: &Searched, class: u32) -> String {
    match &way.what {
        What::Kernel(k) => format!("kernel: {}", k.body.summary()),
        What::Node(i) => match &s.net.classes[class as usize].nodes[*i as usize].node {
            n @ Node::Op(..) if s.net.classes[class as usize].fixed => format!("at load: {n}"),
            n @ Node::Op(op, _) if matches!(op.def().kind, Kind::Move(tahoma_core::op::Move::Reshape)) => format!("alias: {n}"),
            n @ (Node::Op(..) | Node::Opaque(..)) => format!("host: {n}"),
            n => n.to_string(),
        },
    }
}

fn alternatives(s: &Searched, class: u32) -> Vec<Alternative> {
    let now = s.choice.way[class as usize] as usize;
    let ways = s.net.classes[class as usize].ways.iter().enumerate().filter(|(i, _)| *i != now);
    let mut out: Vec<Alternative> = ways
        .filter_map(|(_, w)| {
            let slower_ns = s.forced(class, w)? - s.choice.ns;
            Some(Alternative { what: what(w, s, class), ns: w.ns, slower_ns })
        })
        .collect();
    out.sort_by(|a, b| a.slower_ns.total_cmp(&b.slower_ns).then_with(|| a.what.cmp(&b.what)));
    out.dedup_by(|a, b| a.what == b.what);
    out.truncate(ALTERNATIVES);
    out
}

impl Explanation {
    /// All proofs, each once.
    pub fn proofs(&self) -> impl Iterator<Item = &Proof> {
        let kernels = &self.kernels;
        // A proof that several kernels take part in is told with the first of them.
        let first = move |i: usize, p: &Proof| kernels[..i].iter().all(|k| !p.kernels.contains(&k.name));
        let own = kernels.iter().enumerate().flat_map(move |(i, k)| k.proofs.iter().filter(move |p| first(i, p)));
        own.chain(&self.elsewhere)
    }
}

fn rule_texts(s: &Searched, k: &Candidate, more: &[Proof]) -> Vec<RuleText> {
    let mut made: BTreeMap<&str, usize> = BTreeMap::new();
    for src in &k.sources {
        if let Some(rule) = s.net.made(src.class, src.node).and_then(|m| m.rule) {
            *made.entry(rule).or_default() += 1;
        }
    }
    for rule in more.iter().flat_map(Proof::rules) {
        made.entry(rule).or_default();
    }
    made.into_iter().map(|(name, ops)| rule_text(name, ops)).collect()
}

pub(crate) fn rule_text(name: &str, ops: usize) -> RuleText {
    let rows = rules::all().map(|r| (r.name, r.lhs, r.rhs));
    let codes = rules::codes().map(|c| (c.name, c.lhs, c.rhs));
    let [left, right] = rules::merge::SIDES;
    let mut all = rows.chain(codes).chain([(rules::merge::NAME, left, right)]);
    let (_, lhs, rhs) = all.find(|r| r.0 == name).unwrap_or_default();
    RuleText { name: name.into(), class: class_of(name), doc: doc_of(name).into(), lhs: lhs.into(), rhs: rhs.into(), ops }
}

/// Explains all kernels of a search, or the one of that name (E0701 if there is none). With `alternatives`, what else was possible.
pub fn explain(s: &Searched, options: &Options, kernel: Option<&str>) -> Result<Explanation, Diagnostic> {
    let names = s.kernels();
    if let Some(k) = kernel.filter(|k| !names.contains(k)) {
        return Err(Diagnostic::error("E0701", format!("no kernel {k:?}")).note(format!("kernels: {}", names.join(", "))));
    }
    let all = proof::of_kernels(s, options, &|name| kernel.is_none_or(|k| k == name))?;
    let mut kernels = vec![];
    for name in names.into_iter().filter(|n| kernel.is_none_or(|k| k == *n)) {
        let classes: Vec<u32> = s.calls.iter().filter(|c| c.1 == name).map(|c| c.0).collect();
        let Some(k) = classes.first().and_then(|&c| s.candidate(c)) else { continue };
        let has = |of: &[String]| of.iter().any(|n| n == name);
        let mut proofs: Vec<Proof> = vec![];
        for p in all.proofs.iter().filter(|p| has(&p.kernels)) {
            // Equal layers have equal proofs: one stands for all.
            if !proofs.iter().any(|o| o.text == p.text && o.steps == p.steps) {
                proofs.push(p.clone());
            }
        }
        kernels.push(Kernel {
            name: name.to_string(),
            form: if k.formed.shape == Shape::Contract { "contract" } else { "rows" },
            ops: k.body.summary(),
            inputs: k.body.inputs.iter().map(|t| t.to_string()).collect(),
            output: k.body.ty().to_string(),
            predicted_ns: k.formed.ns,
            calls: classes.iter().map(|&c| nodes_behind(s, c)).collect(),
            rules: rule_texts(s, k, &proofs),
            alternatives: alternatives(s, classes[0]),
            proofs,
            left_out: all.left_out.iter().filter(|l| has(&l.kernels)).cloned().collect(),
        });
    }
    Ok(Explanation {
        chosen_ns: s.report.chosen_ns,
        greedy_ns: s.report.greedy_ns,
        unfused_ns: s.report.unfused_ns,
        e_nodes: s.report.e_nodes,
        e_classes: s.report.e_classes,
        stopped: s.report.stopped,
        kernels,
        elsewhere: all.proofs.into_iter().filter(|p| p.kernels.is_empty()).collect(),
        elsewhere_left_out: all.left_out.into_iter().filter(|p| p.kernels.is_empty()).collect(),
    })
}

/// Nodes of the model behind a kernel's ops, each once.
fn nodes_behind(s: &Searched, class: u32) -> Vec<String> {
    let mut out: Vec<String> = vec![];
    for src in s.candidate(class).iter().flat_map(|k| &k.sources) {
        let Some(m) = s.net.made(src.class, src.node) else { continue };
        for o in m.origin.leaves() {
            let text = match o {
                Origin::Node { op, name, index, .. } if !name.is_empty() => format!("{name}  ({op}, node {index})"),
                o => label(o),
            };
            if !out.contains(&text) {
                out.push(text);
            }
        }
    }
    out
}

/// Every class that the chosen program makes.
pub(crate) fn live(s: &Searched) -> Vec<u32> {
    reached(&s.net, &s.choice.way)
}

/// As `--numerics` spells it.
pub(crate) fn class_name(n: Numerics) -> &'static str {
    match n {
        Numerics::Exact => "exact",
        Numerics::Reassociate => "reassociate",
        Numerics::Fast => "fast",
    }
}

pub(crate) fn us(ns: f64) -> String {
    format!("{:.1} us", ns / 1e3)
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "  proof of {:?}", self.of)?;
        for g in &self.given {
            writeln!(f, "    given {:<4} {:<24} {}", g.name, g.ty, g.is)?;
        }
        let parts = |f: &mut fmt::Formatter, t: &proof::Text, by: &str| t.parts.iter().try_for_each(|p| writeln!(f, "{by}{p}"));
        parts(f, &self.text, "    ")?;
        writeln!(f, "    source   {}\n    program  {}", self.text.before, self.text.after)?;
        for (i, s) in self.steps.iter().enumerate() {
            let way = if s.backward { ", right to left" } else { "" };
            writeln!(f, "    {:>2}. {}{way} ({})", i + 1, s.rule, class_name(class_of(&s.rule)))?;
            parts(f, &s.text, "        ")?;
            writeln!(f, "        before {}\n        after  {}", s.text.before, s.text.after)?;
        }
        Ok(())
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "{}  {}  ({}, {} predicted, {} calls)", self.name, self.ops, self.form, us(self.predicted_ns), self.calls.len())?;
        writeln!(f, "  ({}) -> {}", self.inputs.join(", "), self.output)?;
        for n in self.calls.first().into_iter().flatten() {
            writeln!(f, "  from {n}")?;
        }
        if self.calls.len() > 1 {
            writeln!(f, "  and the same for {} more calls", self.calls.len() - 1)?;
        }
        for r in &self.rules {
            write!(f, "  rule {} ({}", r.name, class_name(r.class))?;
            writeln!(f, "{}): {}", if r.ops > 0 { format!(", {} ops", r.ops) } else { String::new() }, r.doc)?;
        }
        for a in &self.alternatives {
            writeln!(f, "  else {}: the program would take {:.3} us more", a.what, a.slower_ns / 1e3)?;
        }
        for p in &self.proofs {
            write!(f, "{p}")?;
        }
        for l in &self.left_out {
            writeln!(f, "  no proof of {:?}: {}", l.of, l.why)?;
        }
        if self.proofs.is_empty() && self.left_out.is_empty() {
            writeln!(f, "  its ops are those of the source: nothing to prove")?;
        }
        Ok(())
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let t = [self.chosen_ns, self.greedy_ns, self.unfused_ns].map(us);
        writeln!(f, "{} predicted; {} by greedy fusion, {} without fusion", t[0], t[1], t[2])?;
        writeln!(f, "{} e-nodes in {} e-classes, search ended: {}", self.e_nodes, self.e_classes, self.stopped)?;
        for k in &self.kernels {
            write!(f, "\n{k}")?;
        }
        if !self.elsewhere.is_empty() || !self.elsewhere_left_out.is_empty() {
            writeln!(f, "\noutside of kernels")?;
        }
        for p in &self.elsewhere {
            write!(f, "{p}")?;
        }
        for l in &self.elsewhere_left_out {
            writeln!(f, "  no proof of {:?}: {}", l.of, l.why)?;
        }
        Ok(())
    }
}
