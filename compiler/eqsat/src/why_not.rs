//! Why two nodes are not one kernel: the e-graph is asked, in this order.
//!
//! ```text
//! in one kernel already     which
//! a kernel of both exists   by how much the program with it costs more
//! no such kernel            what `form`, or the target, refuses about the smallest group of both
//! rules that were near      those whose left side matches here and whose condition refused, or that --numerics forbids
//! ```
//!
//! Rules as code and merges of contractions have no left side to match, so they are never among the near ones. A condition is named by
//! its rule, not by the part of it that refused. What lies in stretches that were searched one by one is never one kernel.

use crate::explain::us;
use crate::found::{Search, Searched};
use crate::kernel::{Arg, Body, BodyNode, Candidate, MAX_INPUTS, MAX_OPS, Shape, joins};
use crate::language::Node;
use crate::names::{Names, label, node_label};
use crate::net::{Way, What};
use crate::rules::{self, Rule};
use crate::{Options, lost};
use egg::{ENodeOrVar, Id, Searcher};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use tahoma_core::artifact::Numerics;
use tahoma_core::escape::shown;
use tahoma_core::op::Kind;
use tahoma_core::{Diagnostic, Origin, form};

/// Kernels of both whose whole program is searched, and rules listed.
const FORCED: usize = 6;
const RULES: usize = 5;
/// Names offered for one that is not known.
const NEAR: usize = 5;
/// Times closer than this are equal, in ns.
const LEAST_NS: f64 = 0.5;

/// One of the two nodes asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    pub name: String,
    pub op: String,
    /// Kernels of the chosen program that hold it; without any, it runs on the host, at load, or no more.
    pub kernels: Vec<String>,
}

/// A kernel of both, and what it costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prices {
    /// What the kernel is made of.
    pub ops: String,
    #[serde(with = "tahoma_core::float")]
    pub kernel_ns: f64,
    /// The program with it.
    #[serde(with = "tahoma_core::float")]
    pub program_ns: f64,
    /// The program that was chosen.
    #[serde(with = "tahoma_core::float")]
    pub chosen_ns: f64,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
pub enum Verdict {
    /// They are one kernel.
    Together { kernel: String, ops: String },
    /// A kernel of both costs more, or as much.
    CostsMore {
        #[serde(flatten)]
        with: Prices,
        #[serde(with = "tahoma_core::float")]
        more_ns: f64,
        #[serde(with = "tahoma_core::float")]
        percent: f64,
    },
    /// A kernel of both would cost less: the search does not look for such kernels, or extraction ended before it found this one.
    Missed {
        #[serde(flatten)]
        with: Prices,
        #[serde(with = "tahoma_core::float")]
        less_ns: f64,
    },
    /// The group is no kernel.
    NoKernel { ops: String, reason: String },
    /// They share no result.
    Apart { reason: String },
}

/// A rule whose left side matches at one of the nodes, and what kept it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Guard {
    pub rule: String,
    pub lhs: String,
    pub rhs: String,
    pub doc: String,
    /// The value it would have rewritten.
    pub at: String,
    pub why: String,
}

/// Why two nodes are not one kernel.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WhyNot {
    pub a: Place,
    pub b: Place,
    #[serde(flatten)]
    pub verdict: Verdict,
    pub guards: Vec<Guard>,
    pub notes: Vec<String>,
}

/// Nodes of the source under one name.
#[derive(Clone)]
struct Group {
    name: String,
    nodes: Vec<usize>,
}

/// Ops that a name can mean: those with a result of their own.
fn named(s: &Searched) -> Vec<usize> {
    let nodes = s.source.main().nodes.iter().enumerate();
    nodes.filter(|(_, n)| n.op.name != "weight" && n.op.name != "constant" && !n.results.is_empty()).map(|(i, _)| i).collect()
}

fn op_names(o: &Origin) -> Option<&str> {
    if let Origin::Node { op, .. } = o { Some(op) } else { None }
}

/// The nodes of one name, or those of `op#index`.
fn exact(s: &Searched, text: &str) -> Option<Group> {
    let main = s.source.main();
    // As labels are shown: the name itself, or what a listing printed for it.
    let text = &*shown(text);
    let is = |i: &usize| {
        let n = &main.nodes[*i];
        let leaves = n.origin.leaves();
        leaves.into_iter().any(|o| label(s.view.origin(o)) == text) || node_label(s, *i) == text || format!("{}#{i}", n.op.name) == text
    };
    let nodes: Vec<usize> = named(s).into_iter().filter(is).collect();
    (!nodes.is_empty()).then(|| Group { name: text.into(), nodes })
}

/// All nodes of an op, of ours or of the model's. One of the model may have become several of ours: they are one group.
fn of_op(s: &Searched, text: &str) -> Vec<Group> {
    let main = s.source.main();
    let op = text.strip_prefix("ml.").unwrap_or(text);
    let mut by: BTreeMap<String, (usize, Vec<usize>)> = BTreeMap::new();
    for i in named(s) {
        let n = &main.nodes[i];
        let ours = n.op.name.eq_ignore_ascii_case(op);
        let is = |o: &&Origin| op_names(o).is_some_and(|m| m.split(',').next().unwrap_or(m).eq_ignore_ascii_case(op));
        let theirs = n.origin.leaves().into_iter().find(is);
        if ours || theirs.is_some() {
            let name = theirs.filter(|_| !ours).map_or_else(|| node_label(s, i), |o| label(s.view.origin(o)));
            by.entry(name).or_insert((i, vec![])).1.push(i);
        }
    }
    let mut out: Vec<(usize, Group)> = by.into_iter().map(|(name, (at, nodes))| (at, Group { name, nodes })).collect();
    out.sort_by_key(|o| o.0);
    out.into_iter().map(|o| o.1).collect()
}

/// Where nodes of a name are: unit, block, groups.
type Found = Vec<(usize, usize, Vec<Group>)>;

/// The nodes that a user means: by name, by `op#index`, or every node of an op. E0701 with near names.
fn find(search: &mut Search, text: &str) -> Result<Found, Diagnostic> {
    let mut out: Found = vec![];
    let mut known: BTreeSet<String> = BTreeSet::new();
    for (u, unit) in search.units.iter_mut().enumerate() {
        for (b, block) in unit.blocks.iter().enumerate() {
            unit.searched.view.clone_from(block);
            let s = &unit.searched;
            out.extend(exact(s, text).map(|g| (u, b, vec![g])));
            known.extend(named(s).into_iter().flat_map(|i| [node_label(s, i), s.source.main().nodes[i].op.name.to_string()]));
        }
        unit.searched.view.clone_from(&unit.blocks[0]);
    }
    if out.is_empty() {
        let ops = search.units.iter().enumerate().map(|(u, unit)| (u, 0, of_op(&unit.searched, text)));
        out.extend(ops.filter(|o| !o.2.is_empty()));
    }
    if !out.is_empty() {
        return Ok(out);
    }
    let mut known: Vec<String> = known.into_iter().collect();
    known.sort_by_cached_key(|k| (!k.to_lowercase().contains(&text.to_lowercase()), distance(k, text)));
    known.truncate(NEAR);
    Err(Diagnostic::error("E0701", format!("no node {text:?} in the model")).note(format!("near it: {}", known.join(", "))))
}

/// Edits from one name to another (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let (mut left, mut corner) = (i + 1, row[0]);
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let best = (corner + usize::from(x != y)).min(left + 1).min(row[j + 1] + 1);
            corner = row[j + 1];
            row[j + 1] = best;
            left = best;
        }
    }
    row[b.len()]
}

/// Which nodes of the source use which.
struct Flow {
    operands: Vec<Vec<usize>>,
    users: Vec<Vec<usize>>,
}

impl Flow {
    fn new(s: &Searched, names: &Names) -> Flow {
        let main = s.source.main();
        let operands: Vec<Vec<usize>> = main.nodes.iter().map(|n| n.operands.iter().filter_map(|&v| names.maker(v)).collect()).collect();
        let mut users = vec![vec![]; operands.len()];
        for (i, o) in operands.iter().enumerate() {
            o.iter().for_each(|&k| users[k].push(i));
        }
        Flow { operands, users }
    }
    /// Distances from some nodes along the edges given.
    fn reach(&self, from: &[usize], edges: &[Vec<usize>]) -> BTreeMap<usize, usize> {
        let mut out: BTreeMap<usize, usize> = from.iter().map(|&i| (i, 0)).collect();
        let mut queue: VecDeque<usize> = from.iter().copied().collect();
        while let Some(i) = queue.pop_front() {
            for &k in &edges[i] {
                if !out.contains_key(&k) {
                    out.insert(k, out[&i] + 1);
                    queue.push_back(k);
                }
            }
        }
        out
    }
    /// The smallest set of nodes with a single result that holds both groups. `None` if nothing is computed from both.
    fn hull(&self, a: &[usize], b: &[usize]) -> Option<(usize, BTreeSet<usize>)> {
        let (down_a, down_b) = (self.reach(a, &self.users), self.reach(b, &self.users));
        let last = down_a.keys().copied().find(|k| down_b.contains_key(k) && *k >= a.iter().chain(b).copied().max().unwrap_or(0))?;
        let up = self.reach(&[last], &self.operands);
        let both = |k: &usize| up.contains_key(k) && (down_a.contains_key(k) || down_b.contains_key(k));
        Some((last, (0..=last).filter(both).collect()))
    }
}

/// The two groups that are meant where names mean several: the nearest, the first of equals.
fn nearest(flow: &Flow, a: Vec<Group>, b: Vec<Group>) -> Option<(Group, Group)> {
    let mut best: Option<(usize, usize, usize)> = None;
    for (i, x) in a.iter().enumerate() {
        let (down, up) = (flow.reach(&x.nodes, &flow.users), flow.reach(&x.nodes, &flow.operands));
        for (j, y) in b.iter().enumerate().filter(|(_, y)| y.nodes != x.nodes || (a.len() == 1 && b.len() == 1)) {
            let far = y.nodes.iter().filter_map(|n| down.get(n).into_iter().chain(up.get(n)).min()).min().copied().unwrap_or(usize::MAX);
            if best.is_none_or(|b| far < b.0) {
                best = Some((far, i, j));
            }
        }
    }
    best.map(|(_, i, j)| (a[i].clone(), b[j].clone()))
}

/// What a group of the source is in the net: its classes, and its origins (rules keep those).
struct Marks {
    classes: BTreeSet<u32>,
    origins: BTreeSet<Origin>,
}

impl Marks {
    fn new(s: &Searched, names: &Names, g: &Group) -> Marks {
        let nodes = || g.nodes.iter().map(|&i| &s.source.main().nodes[i]);
        Marks {
            classes: nodes().flat_map(|n| &n.results).filter_map(|&r| names.place(r)).collect(),
            origins: nodes().flat_map(|n| n.origin.leaves()).cloned().collect(),
        }
    }
    fn in_kernel(&self, s: &Searched, k: &Candidate) -> bool {
        k.sources.iter().any(|src| {
            let made = s.net.made(src.class, src.node);
            self.classes.contains(&src.class) || made.is_some_and(|m| m.origin.leaves().into_iter().any(|o| self.origins.contains(o)))
        })
    }
    fn place(&self, s: &Searched, g: &Group) -> Place {
        let mut kernels: Vec<String> = vec![];
        for c in s.live() {
            if let (Some(k), Some(name)) = (s.candidate(c), s.kernel_of(c))
                && self.in_kernel(s, k)
                && !kernels.iter().any(|k| k == name)
            {
                kernels.push(name.into());
            }
        }
        let ops: BTreeSet<&str> = g.nodes.iter().map(|&i| s.source.main().nodes[i].op.name).collect();
        Place { name: g.name.clone(), op: ops.into_iter().collect::<Vec<_>>().join(" "), kernels }
    }
}

/// Why A and B, nodes or ops of the source by name, are not one kernel of the chosen program. E0701 for a name that is not there.
pub fn why_not(search: &mut Search, options: &Options, a: &str, b: &str) -> Result<WhyNot, Diagnostic> {
    let (in_a, in_b) = (find(search, a)?, find(search, b)?);
    let both = in_a.iter().find_map(|x| Some((x, in_b.iter().find(|y| (y.0, y.1) == (x.0, x.1))?)));
    let Some((x, y)) = both else {
        let places = [&in_a[0], &in_b[0]].map(|(u, _, groups)| {
            let s = &search.units[*u].searched;
            Marks::new(s, &Names::new(s), &groups[0]).place(s, &groups[0])
        });
        let [a, b] = places;
        let reason = "they lie in stretches of the program that are searched one by one, cut where few values cross".into();
        return Ok(WhyNot { a, b, verdict: Verdict::Apart { reason }, guards: vec![], notes: vec![] });
    };
    let (unit, block) = (&mut search.units[x.0], x.1);
    unit.searched.view.clone_from(&unit.blocks[block]);
    let done = within(&mut unit.searched, options, [a, b], x.2.clone(), y.2.clone());
    unit.searched.view.clone_from(&unit.blocks[0]);
    done.map(|mut w| {
        if unit.blocks.len() > 1 {
            w.notes.push(format!("{} equal stretches were searched once; this is number {}", unit.blocks.len(), block + 1));
        }
        w
    })
}

/// The answer within one search.
fn within(s: &mut Searched, options: &Options, [a, b]: [&str; 2], all_a: Vec<Group>, all_b: Vec<Group>) -> Result<WhyNot, Diagnostic> {
    let names = Names::new(s);
    let flow = Flow::new(s, &names);
    let mut notes = vec![];
    for (text, g) in [(a, &all_a), (b, &all_b)] {
        if g.len() > 1 {
            notes.push(format!("{} nodes are {text:?}: the nearest pair is meant; name one to ask about it", g.len()));
        }
    }
    let (ga, gb) = nearest(&flow, all_a, all_b)
        .ok_or_else(|| Diagnostic::error("E0701", format!("{a:?} and {b:?} are one node")).note("name two nodes"))?;
    let (ma, mb) = (Marks::new(s, &names, &ga), Marks::new(s, &names, &gb));
    let (pa, pb) = (ma.place(s, &ga), mb.place(s, &gb));
    let holds = |c: u32, m: &Marks| s.candidate(c).is_some_and(|k| m.in_kernel(s, k));
    // Small kernels that became one launch count as one.
    let mut calls = s.calls.iter();
    if let Some(call) = calls.find(|c| c.classes.iter().any(|&k| holds(k, &ma)) && c.classes.iter().any(|&k| holds(k, &mb))) {
        let ops: Vec<String> = call.classes.iter().filter_map(|&c| s.candidate(c)).map(|k| k.body.summary()).collect();
        let verdict = Verdict::Together { kernel: call.kernel.clone(), ops: ops.join(" | ") };
        return Ok(WhyNot { a: pa, b: pb, verdict, guards: vec![], notes });
    }
    let Some((last, hull)) = flow.hull(&ga.nodes, &gb.nodes) else {
        let reason = "a kernel has one result, and nothing is computed from both".to_string();
        return Ok(WhyNot { a: pa, b: pb, verdict: Verdict::Apart { reason }, guards: vec![], notes });
    };
    let written = group(s, options, &names, last, &hull);
    let mut ways: Vec<(u32, Way)> = vec![];
    for (c, class) in s.net.classes.iter().enumerate() {
        for w in &class.ways {
            if let What::Kernel(k) = &w.what
                && ma.in_kernel(s, k)
                && mb.in_kernel(s, k)
            {
                ways.push((c as u32, w.clone()));
            }
        }
    }
    ways.sort_by_key(|(c, w)| (if let What::Kernel(k) = &w.what { k.body.nodes.len() } else { 0 }, *c));
    if ways.len() > FORCED {
        notes.push(format!("{} kernels of both exist: the {FORCED} of fewest ops were tried", ways.len()));
        ways.truncate(FORCED);
    }
    if let Ok((class, way)) = &written {
        ways.push((*class, way.clone()));
    }
    let forced = ways.iter().filter_map(|(c, w)| Some((s.forced(*c, w)?, w)));
    let verdict = match forced.min_by(|x, y| x.0.total_cmp(&y.0)) {
        Some((program_ns, w)) => {
            let ops = if let What::Kernel(k) = &w.what { k.body.summary() } else { String::new() };
            let with = Prices { ops, kernel_ns: w.ns, program_ns, chosen_ns: s.choice.ns };
            let more_ns = program_ns - with.chosen_ns;
            if more_ns < -LEAST_NS {
                Verdict::Missed { with, less_ns: -more_ns }
            } else {
                let percent = 100.0 * more_ns / with.chosen_ns.max(1e-9);
                Verdict::CostsMore { with, more_ns, percent }
            }
        }
        None => {
            let ops: Vec<&str> = hull.iter().map(|&i| s.source.main().nodes[i].op.name).filter(|o| *o != "constant").collect();
            let reason = written.err().unwrap_or_else(|| "its inputs need its result: a cycle".into());
            Verdict::NoKernel { ops: ops.join(" "), reason }
        }
    };
    let mut guards = guards(s, options, &names, &hull)?;
    if guards.len() > RULES {
        notes.push(format!("{} more rules match here and may not be used", guards.len() - RULES));
        guards.truncate(RULES);
    }
    if guards.is_empty() {
        notes.push("no rule that is a pattern matches these ops but for those that ran".into());
    }
    Ok(WhyNot { a: pa, b: pb, verdict, guards, notes })
}

/// The nodes of a hull as a kernel of the class of its last node, or why they are none.
fn group(s: &Searched, options: &Options, names: &Names, last: usize, hull: &BTreeSet<usize>) -> Result<(u32, Way), String> {
    let main = s.source.main();
    let (mut inputs, mut types, mut nodes) = (vec![], vec![], vec![]);
    let mut made: BTreeMap<usize, u32> = BTreeMap::new();
    for &i in hull {
        let n = &main.nodes[i];
        if !names.plain(i) {
            let why =
                if matches!(n.op.kind, Kind::Structure) { "structures the program" } else { "has a result whose shape depends on data" };
            return Err(format!("{} ({}) {why}, so it runs on the host", node_label(s, i), n.op.name));
        }
        if (!joins(n.op.0) || n.results.len() != 1) && n.op.name != "constant" {
            return Err(format!("{} ({}) runs on the host: no kernel form has it", node_label(s, i), n.op.name));
        }
        let mut args = vec![];
        for &v in &n.operands {
            if let Some(&k) = names.maker(v).and_then(|m| made.get(&m)) {
                args.push(Arg::Node(k));
                continue;
            }
            // A uniform constant is written into the body, as extraction does.
            let constant = names.maker(v).map(|m| &main.nodes[m]).filter(|m| m.op.name == "constant");
            let uniform = constant.filter(|m| {
                let v = m.attrs.tensor("value").map(|t| t.to_f64s()).unwrap_or_default();
                v.iter().all(|x| x.to_bits() == v[0].to_bits())
            });
            if let (Some(c), Some(m)) = (uniform, names.maker(v)) {
                nodes.push(BodyNode { op: "constant", args: vec![], attrs: Arc::new(c.attrs.clone()), ty: main.ty(v).clone() });
                made.insert(m, nodes.len() as u32 - 1);
                args.push(Arg::Node(nodes.len() as u32 - 1));
                continue;
            }
            let class = names.place(v).ok_or("an input of the group is not in the e-graph's acyclic part")?;
            let at = inputs.iter().position(|&c| c == class).unwrap_or_else(|| {
                inputs.push(class);
                types.push(main.ty(v).clone());
                inputs.len() - 1
            });
            args.push(Arg::Input(at as u32));
        }
        nodes.push(BodyNode { op: n.op.name, args, attrs: Arc::new(n.attrs.clone()), ty: main.ty(n.results[0]).clone() });
        made.insert(i, nodes.len() as u32 - 1);
    }
    let ops = nodes.iter().filter(|n| n.op != "constant").count();
    if ops > MAX_OPS || inputs.len() > MAX_INPUTS {
        return Err(format!("{ops} ops and {} inputs are between them; a kernel has at most {MAX_OPS} and {MAX_INPUTS}", inputs.len()));
    }
    let class = names.place(main.nodes[last].results[0]).ok_or("its result is not in the e-graph's acyclic part")?;
    let body = Arc::new(Body::new(types, nodes));
    let spec = form::form(&body.graph("k", &[]), "k").map_err(|e| format!("no kernel form fits: {e}"))?;
    let ns = options.target.launched_ns(&spec).filter(|ns| ns.is_finite()).ok_or("the target cannot run it")?;
    let sources = vec![];
    let formed = crate::kernel::Formed { shape: Shape::Map, ns, spec: Arc::new(spec) };
    let candidate = Candidate { body, inputs: inputs.clone(), sources, formed };
    Ok((class, Way { ns, needs: inputs, what: What::Kernel(Arc::new(candidate)) }))
}

/// Rules that match at the nodes of a hull, but that a condition or `--numerics` kept.
fn guards(s: &mut Searched, options: &Options, names: &Names, hull: &BTreeSet<usize>) -> Result<Vec<Guard>, Diagnostic> {
    let mut classes: Vec<(Id, String)> = vec![];
    for &i in hull {
        let place = s.source.main().nodes[i].results.first().and_then(|&r| names.place(r));
        if let Some(c) = place {
            let id = s.egraph.find(s.net.classes[c as usize].id);
            if !classes.iter().any(|c| c.0 == id) {
                classes.push((id, node_label(s, i)));
            }
        }
    }
    let mut out: Vec<Guard> = vec![];
    for rule in rules::all() {
        for (lhs, rhs) in rules::texts(rule) {
            let pattern: egg::Pattern<Node> = lhs.parse().map_err(|why| lost(&format!("rule {}: {why}", rule.name)))?;
            // Rules about one op (x + 0) say nothing of two.
            let ops = pattern.ast.as_ref().iter().filter(|n| matches!(n, ENodeOrVar::ENode(Node::Op(..)))).count();
            if ops < 2 {
                continue;
            }
            for (id, at) in &classes {
                if out.iter().any(|g| g.rule == rule.name) {
                    break;
                }
                let Some(found) = pattern.search_eclass(&s.egraph, *id) else { continue };
                let ran = rule.class <= options.numerics;
                let applies = found.substs.iter().any(|subst| rules::bindings(rule, &mut s.egraph, *id, subst).is_some());
                if ran && applies {
                    continue;
                }
                out.push(Guard { at: at.clone(), why: why(rule, applies), lhs: lhs.clone(), rhs: rhs.clone(), ..blank(rule) });
            }
        }
    }
    s.egraph.rebuild();
    Ok(out)
}

fn blank(rule: &Rule) -> Guard {
    let empty = String::new;
    Guard { rule: rule.name.into(), lhs: empty(), rhs: empty(), doc: rule.doc.into(), at: empty(), why: empty() }
}

fn why(rule: &Rule, applies: bool) -> String {
    match (applies, rule.class) {
        (false, _) => "its condition does not hold here".into(),
        (true, Numerics::Fast) => "it needs --numerics fast".into(),
        (true, _) => "it needs --numerics reassociate".into(),
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let at = if self.kernels.is_empty() { "in no kernel".into() } else { format!("in {}", self.kernels.join(", ")) };
        write!(f, "{}  ({})  {at}", self.name, self.op)
    }
}

impl fmt::Display for Prices {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "A kernel of both is possible: {} ({})", self.ops, us(self.kernel_ns))?;
        write!(f, "The program with it takes {} instead of {}", us(self.program_ns), us(self.chosen_ns))
    }
}

impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "A  {}\nB  {}", self.a, self.b)?;
        match &self.verdict {
            Verdict::Together { kernel, ops } => writeln!(f, "They are one kernel: {kernel}, {ops}")?,
            Verdict::CostsMore { with, more_ns, percent } => writeln!(f, "{with}: {:.3} us ({percent:.2} %) more", more_ns / 1e3)?,
            Verdict::Missed { with, less_ns } => writeln!(f, "{with}, {:.3} us less: the search did not find that", less_ns / 1e3)?,
            Verdict::NoKernel { ops, reason } => writeln!(f, "No kernel holds both: {ops}\n{reason}")?,
            Verdict::Apart { reason } => writeln!(f, "No kernel can hold both: {reason}")?,
        }
        for g in &self.guards {
            writeln!(f, "rule {} at {}: {}\n  {}  =>  {}\n  {}", g.rule, g.at, g.why, g.lhs, g.rhs, g.doc)?;
        }
        for n in &self.notes {
            writeln!(f, "= {n}")?;
        }
        Ok(())
    }
}
