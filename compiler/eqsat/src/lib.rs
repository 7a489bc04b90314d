//! Equality saturation over core's programs: rules, facts, fusion as rewriting, DAG-aware extraction, proofs.
//!
//! ```text
//! Graph -> e-graph -> rules until nothing new -> kernels bottom-up -> cheapest choice -> Program with kernel functions
//! ```
//!
//! [`optimize`] is the whole path. No MLIR, no files: rules are tested on core's evaluator in seconds.

pub mod bound;
pub mod bridge;
pub mod cost;
pub mod dump;
pub mod emit;
pub mod explain;
pub mod extract;
pub mod facts;
pub mod found;
pub mod kernel;
pub mod language;
mod names;
pub mod net;
pub mod proof;
pub mod replay;
mod roll;
pub mod rules;
mod side;
pub mod span;
pub mod values;
pub mod why_not;

pub use cost::{Price, TargetCost};
pub use found::{Search, search};
pub use rules::Rule;
pub use tahoma_machine::roofline::{H100 as SM_90A, Roofline, TRN2};

use crate::facts::{EGraph, Facts, Made};
use crate::found::{Block, Searched, Unit};
use crate::kernel::Former;
use crate::language::Node;
use crate::net::{Net, Use};
use egg::{Id, Rewrite, RewriteScheduler, Runner, SearchMatches, StopReason};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tahoma_core::artifact::Numerics;
use tahoma_core::{Diagnostic, Graph, Program};

/// What to optimise for, and how long to search.
pub struct Options<'a> {
    pub target: &'a dyn TargetCost,
    /// Which classes of rules may run.
    pub numerics: Numerics,
    /// Most rounds of all rules. Rounds and nodes are the usual limits, so that results do not depend on the machine's speed.
    pub iterations: usize,
    /// Most e-nodes; at least three times the source's are always allowed.
    pub node_limit: usize,
    /// Prove what was chosen (slower).
    pub proofs: bool,
    /// Work of exact extraction after the ordinary one, in edges visited (some 10⁸ a second); its choice is taken where it is cheaper.
    pub exact: Option<u64>,
    /// Where weights lie that are not as weights of networks are ([`span::extraordinary`]), by name. Weights that are not named are taken
    /// to be ordinary.
    pub weights: Arc<BTreeMap<String, span::Span>>,
}

impl<'a> Options<'a> {
    /// The same for a program whose weights have other names.
    fn with_weights(&self, weights: Arc<BTreeMap<String, span::Span>>) -> Options<'a> {
        Options { weights, ..*self }
    }
    /// The defaults for a target.
    pub fn new(target: &'a dyn TargetCost) -> Options<'a> {
        Options {
            target,
            numerics: Numerics::default(),
            iterations: 8,
            node_limit: 20_000,
            proofs: false,
            exact: None,
            weights: Arc::default(),
        }
    }
}

/// What a rule did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleUse {
    /// Times it added something to the e-graph.
    pub fired: usize,
    /// Ops of the chosen program that it made.
    pub used: usize,
}

/// What was searched and found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Rules that fired, by name.
    pub rules: BTreeMap<String, RuleUse>,
    pub iterations: usize,
    pub e_nodes: usize,
    pub e_classes: usize,
    /// Why the search ended: `saturated`, `iterations` or `nodes`. What was found until then is used.
    pub stopped: &'static str,
    /// Groups of ops judged as kernels, and how many of them are none.
    pub bodies_tried: usize,
    pub bodies_refused: usize,
    /// E-nodes for which not all groups were tried: the limit on groups was reached, and the most promising were tried.
    pub limited: usize,
    /// Predicted ns of one run: every op by itself; greedy fusion of the source; the program returned.
    pub unfused_ns: f64,
    pub greedy_ns: f64,
    pub chosen_ns: f64,
    /// Bytes that kernels and host ops move to and from memory in one run, for the same three.
    pub unfused_bytes: u64,
    pub greedy_bytes: u64,
    pub chosen_bytes: u64,
    /// Where exact extraction was asked for: the cost of what ordinary extraction chose, of the cheapest choice known, and what no choice
    /// from the same nets is below; equal to the second where the optimum was found in time. Sums over the parts that were searched,
    /// equal parts once, before small kernels are joined side by side.
    pub ordinary_ns: f64,
    pub exact_ns: f64,
    pub lower_ns: f64,
    /// Kernel calls in `main`, and distinct kernel functions.
    pub launches: usize,
    pub functions: usize,
    /// Ops left to the host, by name.
    pub host_ops: BTreeMap<&'static str, usize>,
    /// Time of each phase.
    pub phases: Vec<(&'static str, Duration)>,
    /// On request: one per value of the source that the program now makes in another way, and what has none.
    pub proofs: Vec<proof::Proof>,
    pub unproved: Vec<proof::LeftOut>,
    /// Faults of rules that were caught and refused (E0301); empty unless Tahoma has a bug.
    pub faults: Vec<Diagnostic>,
}

impl Report {
    /// Rules that made ops of the chosen program, with how many: what the artifact records.
    pub fn rules_used(&self) -> BTreeMap<String, u64> {
        self.rules.iter().filter(|(_, u)| u.used > 0).map(|(n, u)| (n.clone(), u.used as u64)).collect()
    }
    /// What it would be if the same had been done `times` times: the search was done once.
    fn repeated(mut self, times: usize) -> Report {
        self.rules.values_mut().for_each(|u| u.used *= times);
        self.host_ops.values_mut().for_each(|n| *n *= times);
        self.ran(times)
    }
    /// What the program costs that runs it `times` times.
    fn ran(mut self, times: usize) -> Report {
        self.launches = self.launches.saturating_mul(times);
        for ns in [&mut self.unfused_ns, &mut self.greedy_ns, &mut self.chosen_ns] {
            *ns *= times as f64;
        }
        for bytes in [&mut self.unfused_bytes, &mut self.greedy_bytes, &mut self.chosen_bytes] {
            *bytes = bytes.saturating_mul(times as u64);
        }
        self
    }
    /// Adds what was done to another function of the program. Predicted times add up as if both ran.
    fn add(&mut self, other: Report) {
        for (name, u) in other.rules {
            let mine = self.rules.entry(name).or_default();
            *mine = RuleUse { fired: mine.fired + u.fired, used: mine.used + u.used };
        }
        self.iterations += other.iterations;
        self.e_nodes += other.e_nodes;
        self.e_classes += other.e_classes;
        if self.stopped.is_empty() || other.stopped != "saturated" {
            self.stopped = other.stopped;
        }
        self.bodies_tried += other.bodies_tried;
        self.bodies_refused += other.bodies_refused;
        self.limited += other.limited;
        self.unfused_ns += other.unfused_ns;
        self.greedy_ns += other.greedy_ns;
        self.chosen_ns += other.chosen_ns;
        self.unfused_bytes = self.unfused_bytes.saturating_add(other.unfused_bytes);
        self.greedy_bytes = self.greedy_bytes.saturating_add(other.greedy_bytes);
        self.chosen_bytes = self.chosen_bytes.saturating_add(other.chosen_bytes);
        self.ordinary_ns += other.ordinary_ns;
        self.exact_ns += other.exact_ns;
        self.lower_ns += other.lower_ns;
        self.launches = self.launches.saturating_add(other.launches);
        self.functions += other.functions;
        for (op, n) in other.host_ops {
            *self.host_ops.entry(op).or_default() += n;
        }
        for (phase, t) in other.phases {
            match self.phases.iter_mut().find(|p| p.0 == phase) {
                Some(p) => p.1 += t,
                None => self.phases.push((phase, t)),
            }
        }
        self.proofs.extend(other.proofs);
        self.unproved.extend(other.unproved);
        self.faults.extend(other.faults);
    }
}

struct Clock<'r> {
    last: Instant,
    phases: &'r mut Vec<(&'static str, Duration)>,
}

impl Clock<'_> {
    fn mark(&mut self, name: &'static str) {
        self.phases.push((name, self.last.elapsed()));
        self.last = Instant::now();
    }
}

/// The cheapest program found that computes the same outputs: `main`, and each branch of an `if` and body of a `scan` in it by itself.
///
/// `main` of the result holds calls of kernel functions `k0…` (attribute `kernel = "contract" | "rows"`), ops for the host, free
/// reshapes, and recipes on weights. Equal kernels share a function. Other functions of the program are kept as they are.
/// Errors: only faults of ours (E0901); a rule that misbehaves is left out and told in the report.
pub fn optimize(program: &Program, options: &Options) -> Result<(Program, Report), Diagnostic> {
    optimize_all(program, options, None)
}

/// Where searches are kept, if at all: they hold e-graphs.
type Kept<'k> = Option<&'k mut Vec<Unit>>;

fn optimize_all(program: &Program, options: &Options, mut keep: Kept) -> Result<(Program, Report), Diagnostic> {
    let (mut program, mut report) = roll::optimize(program, options, keep.as_deref_mut())?;
    let (mut done, mut open) = (BTreeSet::new(), regions(program.main(), 1));
    while let Some((name, times)) = open.pop() {
        if !done.insert(name.clone()) {
            continue;
        }
        // The function stands in as `main` while it is optimised; names of kernels stay single that way.
        let Some(branch) = program.functions.remove(&name) else { continue };
        let Some(main) = program.functions.insert(Program::MAIN.into(), branch) else { continue };
        let first = keep.as_ref().map_or(0, |k| k.len());
        let (mut optimised, inner) = roll::optimize(&program, options, keep.as_deref_mut())?;
        for unit in keep.iter_mut().flat_map(|k| &mut k[first..]) {
            unit.function.clone_from(&name);
        }
        if let Some(branch) = optimised.functions.insert(Program::MAIN.into(), main) {
            open.extend(regions(&branch, times));
            optimised.functions.insert(name, branch);
        }
        program = optimised;
        report.add(inner.ran(times));
    }
    Ok((program, report))
}

/// Functions that an `if` or a `scan` of a graph may run, and how often where the graph runs `times` times.
fn regions(g: &Graph, times: usize) -> Vec<(String, usize)> {
    let of = |n: &tahoma_core::Node| match n.op.name {
        "if" => ["then", "else"].iter().filter_map(|b| Some((n.attrs.func(b)?.to_string(), times))).collect(),
        "scan" => {
            let trips = n.attrs.int("trips").and_then(|t| usize::try_from(t).ok()).unwrap_or(1);
            n.attrs.func("body").map(|f| (f.to_string(), times.saturating_mul(trips))).into_iter().collect()
        }
        _ => vec![],
    };
    g.nodes.iter().flat_map(of).collect()
}

/// `main` alone, with what was found on the way.
fn optimize_main(program: &Program, options: &Options) -> Result<(Program, Searched), Diagnostic> {
    let (result, mut s) = search_main(program, options)?;
    if options.proofs {
        let start = Instant::now();
        let all = proof::proofs(&s, options)?;
        (s.report.proofs, s.report.unproved) = (all.proofs, all.left_out);
        s.report.phases.push(("proofs", start.elapsed()));
    }
    Ok((result, s))
}

fn search_main(program: &Program, options: &Options) -> Result<(Program, Searched), Diagnostic> {
    let mut report = Report::default();
    let mut phases = vec![];
    let mut clock = Clock { last: Instant::now(), phases: &mut phases };
    let source = program.main();
    let bridge = bridge::to_egraph(source, Facts::with_weights(options.weights.clone()));
    let uses = source_uses(source, &bridge.values);
    let roots: Vec<Id> = source.outputs.iter().map(|o| bridge.values[o.value.index()]).collect();
    clock.mark("bridge");

    // Fusion of the program as written: the bar for everything after.
    let mut former = Former::new(options.target);
    let plain_made = Facts::canonical_made(&bridge.egraph);
    let mut plain = net::build(&bridge.egraph, &roots, plain_made, Use::Source).ok_or_else(|| lost("the program has a cycle"))?;
    net::price(&mut plain, &mut former, options.target, &|id| uses.get(&id).copied().unwrap_or(0));
    let (unfused, greedy) = (extract::unfused(&plain), extract::greedy(&plain));
    (report.unfused_ns, report.unfused_bytes) = (unfused.ns, extract::bytes(&plain, &unfused.way));
    (report.greedy_ns, report.greedy_bytes) = (greedy.ns, extract::bytes(&plain, &greedy.way));
    let plain_choice = extract::plain(&plain, &greedy);
    let plain_values = names::places(&bridge.egraph, &plain, &bridge.values);
    clock.mark("fuse");

    let mut egraph = bridge.egraph;
    bridge::open_composites(&mut egraph, &mut former);
    let mut egraph = saturate(egraph, options, &mut report)?;
    clock.mark("saturate");

    let made: HashMap<Node, Made> = Facts::canonical_made(&egraph);
    let mut merged_uses: HashMap<Id, u32> = HashMap::new();
    for (&id, &n) in &uses {
        *merged_uses.entry(egraph.find(id)).or_default() += n;
    }
    let best = net::build(&egraph, &roots, made, Use::All).map(|mut net| {
        net::price(&mut net, &mut former, options.target, &|id| merged_uses.get(&id).copied().unwrap_or(0));
        net
    });
    if let Some(net) = &best {
        net::record(&mut egraph, net);
    }
    clock.mark("kernels");
    let found = best.map(|net| (extract::extract(&net), net)).filter(|(c, _)| c.ns <= plain_choice.ns);
    let saturated = found.is_some();
    let (mut choice, net): (_, Net) = found.unwrap_or((plain_choice, plain));
    let values = if saturated { names::places(&egraph, &net, &bridge.values) } else { plain_values };
    clock.mark("extract");
    if let Some(exact) = options.exact.and_then(|work| extract::exact(&net, &choice, extract::exact::Effort::full(work))) {
        (report.ordinary_ns, report.exact_ns, report.lower_ns) = (choice.ns, exact.best().cost, exact.lower());
        choice = extract::Choice { way: exact.best().way.clone(), ns: exact.best().cost };
        clock.mark("exact");
    }

    let inputs: Vec<Arc<str>> = bridge::input_names(source);
    let (mut result, emitted) = emit::emit(&net, &choice, program, &inputs)?;
    let (joined, saved) = side::join(&mut result, options.target);
    clock.mark("emit");

    report.chosen_ns = choice.ns - saved;
    report.chosen_bytes = extract::bytes(&net, &choice.way);
    report.e_nodes = egraph.total_number_of_nodes();
    report.e_classes = egraph.number_of_classes();
    report.bodies_tried = former.tried;
    report.bodies_refused = former.refused;
    report.limited = former.limited;
    report.launches = emitted.launches - joined;
    report.functions = result.functions.values().filter(|f| f.attrs.str("kernel").is_some()).count();
    report.host_ops = emitted.host;
    for (rule, n) in emitted.used {
        report.rules.entry(rule.to_string()).or_default().used = n;
    }
    report.faults = egraph.analysis.faults.clone();
    report.phases = phases;
    let calls = found::calls(&result, &emitted.calls);
    let source = Program::new(source.clone());
    Ok((result, Searched { source, report, egraph, net, choice, saturated, values, calls, view: Block::default() }))
}

fn lost(what: &str) -> Diagnostic {
    Diagnostic::error("E0901", format!("equality saturation: {what}"))
}

/// How often the source uses each class.
fn source_uses(g: &Graph, values: &[Id]) -> HashMap<Id, u32> {
    let mut out: HashMap<Id, u32> = HashMap::new();
    for (v, n) in g.uses().into_iter().enumerate().filter(|(_, n)| *n > 0) {
        *out.entry(values[v]).or_default() += n;
    }
    out
}

/// Every rule in every round, but no more matches of one than the e-graph may have nodes, and none once it has them: a rule that feeds on
/// itself squares its matches each round, and egg looks at its limits only after a rule has run on all of them.
struct Bounded(usize);

impl RewriteScheduler<Node, Facts> for Bounded {
    fn search_rewrite<'a>(&mut self, _: usize, g: &EGraph, r: &'a Rewrite<Node, Facts>) -> Vec<SearchMatches<'a, Node>> {
        r.search_with_limit(g, self.0)
    }
    fn apply_rewrite(&mut self, _: usize, g: &mut EGraph, r: &Rewrite<Node, Facts>, matches: Vec<SearchMatches<Node>>) -> usize {
        let mut applied = 0;
        for m in matches {
            if g.total_size() > self.0 {
                break;
            }
            applied += r.apply(g, &[m]).len();
        }
        applied
    }
}

/// Limits are counts of work: equal programs give equal results on every machine, however busy.
const NEVER: Duration = Duration::from_secs(1 << 40);

/// Runs the rules of the allowed classes to a fixed point or a limit.
fn saturate(mut egraph: EGraph, options: &Options, report: &mut Report) -> Result<EGraph, Diagnostic> {
    let rewrites = rules::up_to(options.numerics).map_err(|e| lost(&e))?;
    // A rewrite whose ops are nowhere costs a look-up; most of the table is idle on any one model.
    let limit = options.node_limit.max(3 * egraph.total_number_of_nodes());
    for (rule, n) in rules::chains::gather(&mut egraph, &rewrites) {
        report.rules.entry(rule).or_default().fired += n;
    }
    let run = |egraph: EGraph, iterations: usize| {
        Runner::<Node, Facts>::new(Facts::default())
            .with_egraph(egraph)
            .with_iter_limit(iterations)
            .with_node_limit(limit)
            .with_time_limit(NEVER)
            .with_scheduler(Bounded(limit))
            .with_hook(|r| {
                r.egraph.analysis.made = Facts::canonical_made(&r.egraph);
                Ok(())
            })
            .run(rewrites.iter().copied())
    };
    let mut first = run(egraph, options.iterations);
    let mut last = None;
    if options.numerics >= Numerics::Reassociate {
        first.egraph.analysis.made = Facts::canonical_made(&first.egraph);
        let joined = rules::join_all(&mut first.egraph);
        for (rule, n) in &joined {
            report.rules.entry((*rule).into()).or_default().fired = *n;
        }
        if !joined.is_empty() {
            let egraph = std::mem::replace(&mut first.egraph, EGraph::new(Facts::default()));
            last = Some(run(egraph, options.iterations.div_ceil(2)));
        }
    }
    for r in std::iter::once(&first).chain(&last) {
        report.iterations += r.iterations.len();
        for (name, n) in r.iterations.iter().flat_map(|i| &i.applied) {
            report.rules.entry(rules::name_of(name.as_str()).to_string()).or_default().fired += n;
        }
        report.stopped = match &r.stop_reason {
            Some(StopReason::Saturated) => "saturated",
            Some(StopReason::NodeLimit(_)) => "nodes",
            _ => "iterations",
        };
    }
    Ok(last.unwrap_or(first).egraph)
}
