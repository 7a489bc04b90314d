//! Explanations of a chosen program: where each kernel comes from, which rules and proofs stand behind it, what else was possible.
//!
//! Alternatives are the other kernels that the search kept for the same value (it keeps the best few), each with the cheapest program
//! found around it. They are for one call, and leave launches of small kernels side by side as they are.

use crate::found::{Block, Call, Search, Searched, Unit};
use crate::kernel::Candidate;
use crate::language::Node;
use crate::names::label;
use crate::net::{Way, What};
use crate::proof::{self, LeftOut, Proof, Proofs, class_of, doc_of};
use crate::{Options, rules};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use tahoma_core::artifact::Numerics;
use tahoma_core::escape::Line;
use tahoma_core::op::Kind;
use tahoma_core::{Diagnostic, Origin, form};

/// Other ways shown for a kernel.
const ALTERNATIVES: usize = 3;

/// Another way to make what a kernel makes.
#[derive(Clone, Debug, Serialize)]
pub struct Alternative {
    /// `kernel: matmul add` or `host: softmax`.
    pub what: String,
    /// Time of this alone.
    #[serde(with = "tahoma_core::float")]
    pub ns: f64,
    /// By how much the whole program is slower with it, all else chosen anew around it.
    #[serde(with = "tahoma_core::float")]
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
    pub form: String,
    /// Its ops; ` | ` stands between kernels that became one launch.
    pub ops: String,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    #[serde(with = "tahoma_core::float")]
    pub predicted_ns: f64,
    /// Nodes of the model behind each call.
    pub calls: Vec<Vec<String>>,
    pub rules: Vec<RuleText>,
    /// Other ways to make what it makes, for the first call; and how many more cost more than those.
    pub alternatives: Vec<Alternative>,
    pub more_alternatives: usize,
    pub proofs: Vec<Proof>,
    pub left_out: Vec<LeftOut>,
}

/// Explanations of a whole program, or of one kernel.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    #[serde(with = "tahoma_core::float")]
    pub chosen_ns: f64,
    #[serde(with = "tahoma_core::float")]
    pub greedy_ns: f64,
    #[serde(with = "tahoma_core::float")]
    pub unfused_ns: f64,
    pub e_nodes: usize,
    pub e_classes: usize,
    pub stopped: &'static str,
    /// E-nodes for which only the most promising groups were tried as kernels, since there were too many.
    pub limited: usize,
    /// Stretches of the program that were searched by themselves. Proofs and alternatives are those of a stretch; equal stretches have
    /// one search.
    pub units: Vec<String>,
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

/// Other ways to make a class, cheapest program first, each once.
fn alternatives(s: &Searched, class: u32) -> Vec<Alternative> {
    let now = s.choice.way[class as usize] as usize;
    let ways = s.net.classes[class as usize].ways.iter().enumerate().filter(|(i, _)| *i != now);
    let alternative = |w: &Way| {
        let slower_ns = s.forced(class, w)? - s.choice.ns;
        Some(Alternative { what: what(w, s, class), ns: w.ns, slower_ns })
    };
    ways.filter_map(|(_, w)| alternative(w)).collect()
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
    /// Values without a proof, each once.
    pub fn left_out(&self) -> Vec<&LeftOut> {
        let mut out: Vec<&LeftOut> = vec![];
        for l in self.kernels.iter().flat_map(|k| &k.left_out).chain(&self.elsewhere_left_out) {
            if !out.contains(&l) {
                out.push(l);
            }
        }
        out
    }
}

/// The rules that made ops of some candidates, and those of proofs.
fn rule_texts(s: &Searched, candidates: &[&Candidate], proofs: &[Proof]) -> Vec<RuleText> {
    let mut made: BTreeMap<&str, usize> = BTreeMap::new();
    for src in candidates.iter().flat_map(|k| &k.sources) {
        if let Some(rule) = s.net.made(src.class, src.node).and_then(|m| m.rule) {
            *made.entry(rule).or_default() += 1;
        }
    }
    for rule in proofs.iter().flat_map(Proof::rules) {
        made.entry(rule).or_default();
    }
    made.into_iter().map(|(name, ops)| rule_text(name, ops)).collect()
}

pub(crate) fn rule_text(name: &str, ops: usize) -> RuleText {
    let rows = rules::all().map(|r| (r.name, r.lhs, r.rhs));
    let codes = rules::codes().map(|c| (c.name, c.lhs, c.rhs));
    let several = rules::SEVERAL.iter().map(|r| (r.name, r.sides[0], r.sides[1]));
    let mut all = rows.chain(codes).chain(several);
    let (_, lhs, rhs) = all.find(|r| r.0 == name).unwrap_or_default();
    RuleText { name: name.into(), class: class_of(name), doc: doc_of(name).into(), lhs: lhs.into(), rhs: rhs.into(), ops }
}

/// Explains all kernels of a search, or the one of that name (E0701 if there is none).
pub fn explain(search: &Search, options: &Options, kernel: Option<&str>) -> Result<Explanation, Diagnostic> {
    let names = search.kernels();
    if let Some(k) = kernel.filter(|k| !names.contains(k)) {
        return Err(Diagnostic::error("E0701", format!("no kernel {k:?}")).note(format!("kernels: {}", names.join(", "))));
    }
    let wanted = |name: &str| kernel.is_none_or(|k| k == name);
    let mut kernels: Vec<Kernel> = vec![];
    let (mut elsewhere, mut elsewhere_left_out): (Vec<Proof>, Vec<LeftOut>) = (vec![], vec![]);
    for unit in &search.units {
        let calls = &unit.searched.calls;
        if kernel.is_some() && !calls.iter().any(|c| wanted(&c.kernel)) {
            continue;
        }
        let all = proof::of_kernels(&unit.searched, options, &wanted)?;
        let mut done: Vec<&str> = vec![];
        for name in calls.iter().map(|c| &*c.kernel).filter(|k| wanted(k)) {
            if done.contains(&name) {
                continue;
            }
            done.push(name);
            let Some(new) = one(search, unit, name, options, &all) else { continue };
            match kernels.iter_mut().find(|k| k.name == name) {
                Some(k) => k.extend(new),
                None => kernels.push(new),
            }
        }
        elsewhere.extend(all.proofs.into_iter().filter(|p| p.kernels.is_empty()));
        elsewhere_left_out.extend(all.left_out.into_iter().filter(|p| p.kernels.is_empty()));
    }
    let r = &search.report;
    Ok(Explanation {
        chosen_ns: r.chosen_ns,
        greedy_ns: r.greedy_ns,
        unfused_ns: r.unfused_ns,
        e_nodes: r.e_nodes,
        e_classes: r.e_classes,
        stopped: r.stopped,
        limited: r.limited,
        units: search.units.iter().map(Unit::title).collect(),
        kernels,
        elsewhere,
        elsewhere_left_out,
    })
}

/// Equal values have equal proofs: one stands for all.
fn add_proof(all: &mut Vec<Proof>, p: Proof) {
    if !all.iter().any(|o| o.text == p.text && o.steps == p.steps) {
        all.push(p);
    }
}

impl Kernel {
    /// The same kernel in another stretch.
    fn extend(&mut self, other: Kernel) {
        self.calls.extend(other.calls);
        for r in other.rules {
            match self.rules.iter_mut().find(|mine| mine.name == r.name) {
                Some(mine) => mine.ops = mine.ops.max(r.ops),
                None => self.rules.push(r),
            }
        }
        other.proofs.into_iter().for_each(|p| add_proof(&mut self.proofs, p));
        self.left_out.extend(other.left_out);
    }
}

/// A kernel of one unit.
fn one(search: &Search, unit: &Unit, name: &str, options: &Options, all: &Proofs) -> Option<Kernel> {
    let s = &unit.searched;
    let g = search.program.functions.get(name)?;
    let calls: Vec<&Call> = s.calls.iter().filter(|c| c.kernel == name).collect();
    let classes = &calls.first()?.classes;
    let candidates: Vec<&Candidate> = classes.iter().filter_map(|&c| s.candidate(c)).collect();
    let has = |of: &[String]| of.iter().any(|n| n == name);
    let mut proofs: Vec<Proof> = vec![];
    all.proofs.iter().filter(|p| has(&p.kernels)).for_each(|p| add_proof(&mut proofs, p.clone()));
    let by_itself: f64 = candidates.iter().map(|k| k.formed.ns).sum();
    let spec = form::form(g, name).ok();
    let predicted_ns = spec.and_then(|spec| options.target.kernel_ns(&spec)).unwrap_or(by_itself);
    let mut others: Vec<Alternative> = classes.iter().flat_map(|&c| alternatives(s, c)).collect();
    if candidates.len() > 1 {
        others.push(Alternative { what: "a launch for each".into(), ns: by_itself, slower_ns: by_itself - predicted_ns });
    }
    others.sort_by(|a, b| a.slower_ns.total_cmp(&b.slower_ns).then_with(|| a.what.cmp(&b.what)));
    let mut seen: BTreeSet<String> = BTreeSet::new();
    others.retain(|a| seen.insert(a.what.clone()));
    let more_alternatives = others.len().saturating_sub(ALTERNATIVES);
    others.truncate(ALTERNATIVES);
    let types = |ports: &[tahoma_core::Port]| ports.iter().map(|p| g.ty(p.value).to_string()).collect();
    Some(Kernel {
        name: name.to_string(),
        form: g.attrs.str("kernel").unwrap_or_default().to_string(),
        ops: candidates.iter().map(|k| k.body.summary()).collect::<Vec<_>>().join(" | "),
        inputs: types(&g.inputs),
        outputs: types(&g.outputs),
        predicted_ns,
        calls: unit.blocks.iter().flat_map(|b| calls.iter().map(|c| nodes_behind(s, &c.classes, b))).collect(),
        rules: rule_texts(s, &candidates, &proofs),
        alternatives: others,
        more_alternatives,
        proofs,
        left_out: all.left_out.iter().filter(|l| has(&l.kernels)).cloned().collect(),
    })
}

/// Nodes of the model behind the ops that make some classes, each once, as one of equal stretches names them.
fn nodes_behind(s: &Searched, classes: &[u32], block: &Block) -> Vec<String> {
    let mut out: Vec<String> = vec![];
    let sources = classes.iter().filter_map(|&c| s.candidate(c)).flat_map(|k| &k.sources);
    for m in sources.filter_map(|src| s.net.made(src.class, src.node)) {
        for o in m.origin.leaves() {
            let text = match block.origin(o) {
                Origin::Node { op, name, index, .. } if !name.is_empty() => format!("{}  ({}, node {index})", Line::of(name), Line::of(op)),
                o => label(o),
            };
            if !out.contains(&text) {
                out.push(text);
            }
        }
    }
    out
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

/// By how much a program takes longer than the chosen one.
fn slower(ns: f64) -> String {
    match ns {
        n if n.abs() < 0.5 => "the program would take as long".into(),
        n if n > 0.0 => format!("the program would take {:.3} us more", n / 1e3),
        n => format!("the program would take {:.3} us less; extraction ended before it found that", -n / 1e3),
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "  proof of {:?}", self.of)?;
        for g in &self.given {
            let facts = if g.facts.is_empty() { String::new() } else { format!("  ({})", g.facts) };
            writeln!(f, "    given {:<4} {:<24} {}{facts}", g.name, g.ty, g.is)?;
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
        writeln!(f, "  ({}) -> {}", self.inputs.join(", "), self.outputs.join(", "))?;
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
        if !self.alternatives.is_empty() {
            let which = if self.calls.len() > 1 { " of the first call" } else { "" };
            writeln!(f, "  other ways to make the result{which}:")?;
        }
        for a in &self.alternatives {
            writeln!(f, "    {}: {}", a.what, slower(a.slower_ns))?;
        }
        if self.more_alternatives > 0 {
            writeln!(f, "    and {} more ways, which cost more than these", self.more_alternatives)?;
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
        if self.limited > 0 {
            writeln!(f, "for {} e-nodes only the most promising groups were tried as kernels: the limit was reached", self.limited)?;
        }
        if self.units.len() > 1 {
            writeln!(f, "searched in {} stretches: {}", self.units.len(), self.units.join("; "))?;
        }
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
