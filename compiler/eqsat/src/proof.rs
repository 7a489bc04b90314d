//! Proofs: each value of the source that the program makes in another way, with the chain of rewrites between the two.
//!
//! ```text
//! source     v = (relu (transpose (transpose a)))          a, b: values that both sides take as given
//! program    v = k3(a)  =  (relu a)
//! proof      (relu (transpose (transpose a)))  --transpose-transpose-->  (relu a)
//! ```
//!
//! A proof ends at values of the source that the program also makes: they have proofs of their own, so together the proofs cover the
//! whole program. That keeps each one small, whatever the model's size. It is found anew in an e-graph of its own, which holds just the
//! two expressions: the search for the program keeps no reasons, and pays nothing.
//!
//! What has no proof is a [`LeftOut`] with its reason: expressions larger than a limit when written as trees (unrolled recurrences share
//! too much), ops with open shapes, and equalities that no chain was found for within the limits on rounds and e-nodes.

use crate::facts::{EGraph, Fact, Facts, Made, Value};
use crate::found::Searched;
use crate::kernel::{Arg, Candidate, Former};
use crate::language::{AttrLeaf, Leaf, Node, OpId};
use crate::names::Names;
use crate::net::What;
use crate::values::Known;
use crate::{Options, bridge, rules};
use egg::{FlatTerm, Id, Language, RecExpr, Rewrite, Runner};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use tahoma_core::artifact::Numerics;
use tahoma_core::{Attrs, Diagnostic, ValueId};

/// Nodes of the source looked at for one value, and most nodes of an expression written as a tree: explanations grow with every path.
const REGION: usize = 160;
const TREE: usize = 1200;
/// E-nodes of one proof's e-graph, and rounds of all rules in it.
const NODES: usize = 6_000;
const ROUNDS: usize = 8;
/// What one round may overshoot that by: the last one often ends the proof.
const OVERSHOOT: usize = 4;
/// Longest line of an expression printed, in characters.
const LONGEST: usize = 800;

/// One rewrite: the part that changed, before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    pub rule: String,
    /// The rule is used from its right side to its left.
    pub backward: bool,
    #[serde(flatten)]
    pub text: Text,
}

/// Two equal expressions. `t0`, … stand for parts that occur more than once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Text {
    /// `t0 = (add x0 x1)`, each before it is used.
    pub parts: Vec<String>,
    pub before: String,
    pub after: String,
}

fn clip(text: String) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((i, _)) => format!("{}…", &text[..i]),
        None => text,
    }
}

/// A value that both sides of a proof take as given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Given {
    pub name: String,
    /// What it is in the model.
    pub is: String,
    pub ty: String,
    /// What rules may use of its elements; "" says nothing.
    pub facts: String,
    #[serde(skip)]
    pub known: Known,
}

/// Why one value of the program equals the source's.
#[derive(Clone, Debug, Serialize)]
pub struct Proof {
    /// The value, by the source's node.
    pub of: String,
    /// Kernels whose ops stand in the program's expression.
    pub kernels: Vec<String>,
    /// The source's expression and the program's.
    #[serde(flatten)]
    pub text: Text,
    pub steps: Vec<Step>,
    pub given: Vec<Given>,
    #[serde(skip)]
    pub(crate) terms: Terms,
}

impl Proof {
    /// The rules, in order.
    pub fn rules(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().map(|s| &*s.rule)
    }
}

/// A value without a proof, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    pub of: String,
    pub kernels: Vec<String>,
    pub why: String,
}

/// What was proved.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Proofs {
    pub proofs: Vec<Proof>,
    pub left_out: Vec<LeftOut>,
    /// Values made of the very ops that the source has.
    pub as_written: usize,
}

/// Expressions that share equal parts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    pub(crate) expr: RecExpr<Node>,
    seen: HashMap<Node, Id>,
    /// The expression after each step; the first is the source's.
    pub(crate) roots: Vec<Id>,
}

impl Terms {
    pub(crate) fn add(&mut self, n: Node) -> Id {
        let expr = &mut self.expr;
        *self.seen.entry(n).or_insert_with_key(|n| expr.add(n.clone()))
    }
    fn op(&mut self, op: OpId, mut operands: Vec<Id>, attrs: &Attrs) -> Id {
        let attrs = op.def().attrs.iter().filter_map(|d| attrs.get(d.name));
        for a in attrs {
            operands.push(self.add(Node::Attr(AttrLeaf::new(a.clone()))));
        }
        self.add(Node::Op(op, operands.into()))
    }
    fn flat(&mut self, t: &FlatTerm<Node>) -> Id {
        let mut children: Vec<Id> = t.children.iter().map(|c| self.flat(c)).collect();
        children.reverse();
        let node = t.node.clone().map_children(|_| children.pop().unwrap_or_default());
        self.add(node)
    }
    fn one(&self, root: Id) -> RecExpr<Node> {
        self.expr[root].build_recexpr(|i| self.expr[i].clone())
    }
    /// Two expressions as text, with the parts that stand in them more than once named apart.
    fn texts(&self, before: Id, after: Id) -> Text {
        let mut uses: BTreeMap<Id, usize> = BTreeMap::new();
        let mut stack = vec![before, after];
        while let Some(id) = stack.pop() {
            let n = uses.entry(id).or_default();
            *n += 1;
            if *n == 1 {
                stack.extend(self.expr[id].children());
            }
        }
        let opens = |id: Id| self.expr[id].children().iter().any(|&c| !matches!(self.expr[c], Node::Attr(_)));
        let mut names: BTreeMap<Id, String> = BTreeMap::new();
        let mut parts = vec![];
        // Ids are in dependency order, so a part is named before what holds it.
        for (&id, _) in uses.iter().filter(|(id, n)| **n > 1 && **id != before && **id != after && opens(**id)) {
            let name = format!("t{}", names.len());
            parts.push(format!("{name} = {}", clip(self.write(id, &names))));
            names.insert(id, name);
        }
        Text { parts, before: clip(self.write(before, &names)), after: clip(self.write(after, &names)) }
    }
    fn write(&self, id: Id, names: &BTreeMap<Id, String>) -> String {
        let part = |c: &Id| names.get(c).cloned().unwrap_or_else(|| self.write(*c, names));
        match &self.expr[id] {
            Node::Leaf(l) => l.name.to_string(),
            n if n.children().is_empty() => n.to_string(),
            n => format!("({n} {})", n.children().iter().map(part).collect::<Vec<_>>().join(" ")),
        }
    }
    /// Nodes of an expression written as a tree.
    fn tree(&self, root: Id, sizes: &mut Vec<usize>) -> usize {
        for i in sizes.len()..=usize::from(root) {
            let n = &self.expr[Id::from(i)];
            let sum = n.children().iter().fold(1usize, |a, &c| a.saturating_add(sizes[usize::from(c)]));
            sizes.push(sum);
        }
        sizes[usize::from(root)]
    }
}

/// Both sides of a proof while they are written.
struct Sides<'a> {
    s: &'a Searched,
    names: &'a Names,
    terms: Terms,
    /// Classes taken as given.
    given: BTreeMap<u32, Id>,
    about: Vec<Given>,
    /// Chosen classes written out so far, and the nodes of the source that stand behind them.
    written: BTreeMap<u32, Id>,
    kernels: Vec<String>,
    behind: BTreeSet<String>,
    /// Classes that kernels make on the way, and those of them that must not be given: they would be known by two names.
    inside: BTreeSet<u32>,
    open: BTreeSet<u32>,
}

impl<'a> Sides<'a> {
    fn new(s: &'a Searched, names: &'a Names, open: BTreeSet<u32>) -> Sides<'a> {
        Sides {
            s,
            names,
            terms: Terms::default(),
            given: BTreeMap::new(),
            about: vec![],
            written: BTreeMap::new(),
            kernels: vec![],
            behind: BTreeSet::new(),
            inside: BTreeSet::new(),
            open,
        }
    }
    fn give(&mut self, class: u32) -> Option<Id> {
        if let Some(&id) = self.given.get(&class) {
            return Some(id);
        }
        let c = &self.s.net.classes[class as usize];
        let ty = c.ty.clone()?;
        // Named by place, so that equal layers have equal proofs.
        let name = format!("{}{}", if c.fixed { "w" } else { "x" }, self.given.len());
        let known = self.s.egraph[c.id].data.value().map(|v| v.known).unwrap_or_default();
        let is = self.names.class(self.s, class);
        self.about.push(Given { name: name.clone(), is, ty: ty.to_string(), facts: known.to_string(), known });
        let id = self.terms.add(Node::Leaf(Arc::new(Leaf { name: name.into(), weight: c.fixed, ty })));
        self.given.insert(class, id);
        Some(id)
    }
    fn constant(&mut self, class: u32) -> Option<Id> {
        let [n] = self.s.net.classes[class as usize].nodes.as_slice() else { return None };
        let Node::Op(op, _) = &n.node else { return None };
        (op.def().name == "constant").then(|| self.terms.op(*op, vec![], n.attrs.as_ref().map_or(&Attrs::default(), |a| a)))
    }
    /// A class as the program makes it, down to values of the source.
    fn chosen(&mut self, class: u32, top: bool) -> Option<Id> {
        if let Some(id) = self.constant(class) {
            return Some(id);
        }
        if !top && self.names.has_source(class) && !self.open.contains(&class) {
            return self.give(class);
        }
        if let Some(&id) = self.written.get(&class) {
            return Some(id);
        }
        let s = self.s;
        let c = &s.net.classes[class as usize];
        let id = match &c.ways[s.choice.way[class as usize] as usize].what {
            What::Kernel(k) => {
                if let Some(name) = s.kernel_of(class) {
                    self.kernels.push(name.to_string());
                }
                self.kernel(k)?
            }
            What::Node(i) => {
                let n = &c.nodes[*i as usize];
                match &n.node {
                    Node::Op(op, _) => {
                        self.behind.extend(s.net.made(class, *i).iter().flat_map(|m| m.origin.leaves()).map(|o| o.to_string()));
                        let operands: Vec<Id> = n.needs.iter().map(|&k| self.chosen(k, false)).collect::<Option<_>>()?;
                        self.terms.op(*op, operands, n.attrs.as_deref()?)
                    }
                    Node::Result(i, _) if self.is_op(n.needs[0]) => {
                        let of = self.chosen(n.needs[0], false)?;
                        self.terms.add(Node::Result(*i, [of]))
                    }
                    _ => return self.give(class),
                }
            }
        };
        self.written.insert(class, id);
        Some(id)
    }
    /// Whether a class with several results is made by an op that rules see.
    fn is_op(&self, class: u32) -> bool {
        let c = &self.s.net.classes[class as usize];
        matches!(&self.s.chosen(class).what, What::Node(i) if matches!(c.nodes[*i as usize].node, Node::Op(..)))
    }
    fn kernel(&mut self, k: &Candidate) -> Option<Id> {
        let inputs: Vec<Id> = k.inputs.iter().map(|&c| self.chosen(c, false)).collect::<Option<_>>()?;
        let mut made: Vec<Id> = vec![];
        for (n, src) in k.body.nodes.iter().zip(&k.sources) {
            self.inside.insert(src.class);
            self.behind.extend(self.s.net.made(src.class, src.node).iter().flat_map(|m| m.origin.leaves()).map(|o| o.to_string()));
            let args = n.args.iter().map(|a| match a {
                Arg::Input(i) => inputs[*i as usize],
                Arg::Node(i) => made[*i as usize],
            });
            let id = self.terms.op(OpId::named(n.op)?, args.collect(), &n.attrs);
            made.push(id);
        }
        made.last().copied()
    }
    /// Nodes of the source to write out for a value, as indices: back to what is given, the nearest first.
    fn region(&self, v: ValueId) -> BTreeSet<usize> {
        let (mut out, mut queue) = (BTreeSet::new(), VecDeque::from([(v, true)]));
        while let Some((v, top)) = queue.pop_front() {
            let given = self.names.place(v).is_some_and(|c| self.given.contains_key(&c));
            let Some(n) = self.names.maker(v).filter(|_| (top || !given) && out.len() < REGION) else { continue };
            let node = &self.s.source.main().nodes[n];
            if self.names.plain(n) && out.insert(n) {
                queue.extend(node.operands.iter().map(|&o| (o, false)));
            }
        }
        out
    }
    /// A value as the source makes it, with the nodes of `region` written out.
    fn source(&mut self, v: ValueId, region: &BTreeSet<usize>, done: &mut HashMap<ValueId, Id>, top: bool) -> Option<Id> {
        if let Some(&id) = done.get(&v).filter(|_| !top) {
            return Some(id);
        }
        // A value that leads only back to what it is made of has no place in the net: it can be written out, but not be given.
        let class = self.names.place(v);
        let n = self.names.maker(v);
        let given = class.is_some_and(|c| self.given.contains_key(&c));
        let open = n.filter(|n| region.contains(n) && (top || !given));
        let id = match (class.and_then(|c| self.constant(c)).filter(|_| !top), open) {
            (Some(id), _) => id,
            (None, None) => self.give(class?)?,
            (None, Some(n)) => {
                let node = &self.s.source.main().nodes[n];
                let mut operands = vec![];
                for &o in &node.operands {
                    operands.push(self.source(o, region, done, false)?);
                }
                let id = self.terms.op(OpId::of(node.op.0), operands, &node.attrs);
                match node.results.iter().position(|&r| r == v).filter(|_| node.results.len() > 1) {
                    Some(i) => self.terms.add(Node::Result(i as u32, [id])),
                    None => id,
                }
            }
        };
        if !top {
            done.insert(v, id);
        }
        Some(id)
    }
}

/// The two sides of one value, and what else of the source the rules may need to see.
struct Claim {
    before: Id,
    after: Id,
    others: Vec<Id>,
}

fn claim(sides: &mut Sides, v: ValueId, class: u32) -> Option<Claim> {
    let after = sides.chosen(class, true)?;
    let mut region = sides.region(v);
    // A rule with several roots saw more than this value: what stands behind the program's ops is written out too.
    let main = sides.s.source.main();
    let more: Vec<usize> = (0..main.nodes.len())
        .filter(|&i| {
            let leaves = main.nodes[i].origin.leaves();
            sides.names.plain(i) && !region.contains(&i) && leaves.iter().any(|o| sides.behind.contains(&o.to_string()))
        })
        .take(REGION)
        .collect();
    region.extend(&more);
    // In the source's order, which a rule with several roots goes by.
    let (mut done, mut others) = (HashMap::new(), vec![]);
    for &i in &region {
        let r = main.nodes[i].results[0];
        if r != v {
            others.extend(sides.source(r, &region, &mut done, more.contains(&i)));
        }
    }
    let before = sides.source(v, &region, &mut done, true)?;
    others.retain(|&o| !matches!(sides.terms.expr[o], Node::Leaf(_)));
    Some(Claim { before, after, others })
}

/// Writes an expression into an e-graph as ops of the source.
fn insert(g: &mut EGraph, terms: &Terms, roots: &[Id]) -> Vec<Id> {
    let mut need: HashSet<Id> = roots.iter().copied().collect();
    for i in (0..terms.expr.as_ref().len()).rev().map(Id::from).collect::<Vec<_>>() {
        if need.contains(&i) {
            need.extend(terms.expr[i].children());
        }
    }
    let mut ids: HashMap<Id, Id> = HashMap::new();
    for i in (0..terms.expr.as_ref().len()).map(Id::from).filter(|i| need.contains(i)) {
        let node = terms.expr[i].clone().map_children(|c| ids[&c]);
        let id = g.add(node.clone());
        if matches!(node, Node::Op(..)) {
            g.analysis.record(node.map_children(|c| g.find(c)), Made { rule: None, origin: Arc::default() });
        }
        ids.insert(i, id);
    }
    roots.iter().map(|r| ids[r]).collect()
}

/// Tells an e-graph what is known of the values taken as given.
fn tell(g: &mut EGraph, given: &[Given]) {
    let known = |l: &Leaf| given.iter().find(|k| *k.name == *l.name).map(|k| k.known);
    let leaves = |c: &egg::EClass<Node, Fact>| c.nodes.iter().find_map(|n| if let Node::Leaf(l) = n { known(l) } else { None });
    let mut told: Vec<(Id, Known)> = g.classes().filter_map(|c| Some((c.id, leaves(c)?))).collect();
    told.sort_by_key(|t| t.0);
    for (id, known) in told {
        if let Fact::Value(v) = &g[id].data {
            let fact = Fact::Value(Value { known, ..v.clone() });
            g.set_analysis_data(id, fact);
        }
    }
}

/// What a proof is searched with.
pub(crate) struct Means<'a, 'f> {
    pub(crate) rewrites: Vec<&'f Rewrite<Node, Facts>>,
    pub(crate) former: Option<&'f mut Former<'a>>,
    pub(crate) merge: bool,
}

/// The chain of rewrites from one root of `terms` to another; `Err` says why there is none.
pub(crate) fn derive(
    terms: &Terms,
    [before, after]: [Id; 2],
    others: &[Id],
    given: &[Given],
    means: &mut Means,
) -> Result<(Vec<Step>, Terms), String> {
    let mut sizes = vec![];
    for id in [before, after] {
        if terms.tree(id, &mut sizes) > TREE {
            return Err(format!("its expression is larger than {TREE} nodes"));
        }
    }
    let mut g = EGraph::new(Facts::default()).with_explanations_enabled();
    let roots: Vec<Id> = [before].into_iter().chain(others.iter().copied()).collect();
    g.analysis.of_source = true;
    let a = insert(&mut g, terms, &roots)[0];
    g.analysis.of_source = false;
    let (left, right) = (terms.one(before), terms.one(after));
    let b = g.add_expr(&right);
    tell(&mut g, given);
    g.rebuild();
    if let Some(former) = &mut means.former {
        bridge::open_composites(&mut g, former);
    }
    let mut merged = !means.merge;
    for round in 0..ROUNDS {
        if g.find(a) == g.find(b) {
            break;
        }
        let runner = Runner::<Node, Facts>::new(Facts::default())
            .with_egraph(g)
            .with_iter_limit(1)
            .with_node_limit(NODES)
            .with_time_limit(crate::NEVER)
            .with_scheduler(crate::Bounded(OVERSHOOT * NODES))
            .run(means.rewrites.iter().copied());
        g = runner.egraph;
        g.analysis.made = Facts::canonical_made(&g);
        // As in the search for the program: after the other rules, once.
        if !merged && round + 1 == ROUNDS / 4 {
            rules::join_all(&mut g);
            merged = true;
        }
        if g.total_number_of_nodes() > NODES {
            break;
        }
    }
    if g.find(a) != g.find(b) {
        return Err(format!(
            "no chain of rules was found in {ROUNDS} rounds of all rules and {} e-nodes (at most {NODES} are looked at)",
            g.total_number_of_nodes()
        ));
    }
    let mut why = g.explain_equivalence(&left, &right);
    let flat = why.make_flat_explanation();
    let mut out = Terms::default();
    let mut steps = vec![];
    for (i, t) in flat.iter().enumerate() {
        let root = out.flat(t);
        out.roots.push(root);
        if i == 0 {
            continue;
        }
        let (mut old, mut new) = (&flat[i - 1], t);
        // Down to the part that was rewritten.
        while new.forward_rule.is_none() && new.backward_rule.is_none() {
            let Some(k) = new.children.iter().position(|c| c.has_rewrite_forward() || c.has_rewrite_backward()) else { break };
            (old, new) = (&old.children[k], &new.children[k]);
        }
        let name = new.forward_rule.or(new.backward_rule).map(|r| rules::name_of(r.as_str()).to_string()).unwrap_or_default();
        let (x, y) = (out.flat(old), out.flat(new));
        steps.push(Step { rule: name, backward: new.backward_rule.is_some(), text: out.texts(x, y) });
    }
    Ok((steps, out))
}

/// What a rule may do to numbers. Steps that are no row of the table: folding is exact, the others reassociate.
pub fn class_of(rule: &str) -> Numerics {
    match rules::all().find(|r| r.name == rule) {
        Some(r) => r.class,
        None if rule == "fold" => Numerics::Exact,
        None => rules::codes().find(|c| c.name == rule).map_or(Numerics::Reassociate, |c| c.class),
    }
}

/// What a rule says, for those of the table and those that are code.
pub fn doc_of(rule: &str) -> &'static str {
    match rules::all().find(|r| r.name == rule) {
        Some(r) => r.doc,
        None if rule == "fold" => "an op on constants is its value",
        None if rule == bridge::OPEN => "a composite is what defines it",
        None => {
            let several = || rules::SEVERAL.iter().find(|r| r.name == rule).map(|r| r.doc);
            rules::codes().find(|c| c.name == rule).map(|c| c.doc).or_else(several).unwrap_or("")
        }
    }
}

/// Both sides of a value; what a kernel makes anew is not also taken as given.
fn sides_of<'a>(s: &'a Searched, names: &'a Names, v: ValueId, class: u32) -> (Sides<'a>, Option<Claim>) {
    let mut open = BTreeSet::new();
    loop {
        let mut sides = Sides::new(s, names, open.clone());
        let claimed = claim(&mut sides, v, class);
        let twice: Vec<u32> = sides.inside.iter().filter(|c| sides.given.contains_key(c) && !open.contains(c)).copied().collect();
        if twice.is_empty() {
            return (sides, claimed);
        }
        open.extend(twice);
    }
}

/// Proofs of all values of the source that the program makes in another way.
pub fn proofs(s: &Searched, options: &Options) -> Result<Proofs, Diagnostic> {
    of_kernels(s, options, &|_| true)
}

/// Proofs of the values in whose making a kernel that `wanted` names takes part, or no kernel at all if it wants "".
pub fn of_kernels(s: &Searched, options: &Options, wanted: &dyn Fn(&str) -> bool) -> Result<Proofs, Diagnostic> {
    let names = Names::new(s);
    let rewrites = rules::up_to(options.numerics).map_err(|e| crate::lost(&e))?;
    let mut former = Former::new(options.target);
    let mut means = Means { rewrites, former: Some(&mut former), merge: options.numerics >= Numerics::Reassociate };
    let mut known: HashMap<(Vec<RecExpr<Node>>, Vec<Known>), Result<(Vec<Step>, Terms), String>> = HashMap::new();
    let mut out = Proofs::default();
    for class in s.live() {
        for &v in names.values_of(class) {
            let (sides, claimed) = sides_of(s, &names, v, class);
            let Sides { terms, mut kernels, about, .. } = sides;
            kernels.sort();
            kernels.dedup();
            let touches = if kernels.is_empty() { wanted("") } else { kernels.iter().any(|k| wanted(k)) };
            let of = names.value(s, v);
            let Some(c) = claimed else {
                if touches {
                    out.left_out.push(LeftOut {
                        of,
                        kernels,
                        why: format!("it is made of ops whose shapes are open, or of more than {REGION} nodes"),
                    });
                }
                continue;
            };
            if c.before == c.after {
                out.as_written += usize::from(touches);
                continue;
            }
            if !touches {
                continue;
            }
            // Equal layers are proved once.
            let mut sizes = vec![];
            let found = if [c.before, c.after].iter().all(|&id| terms.tree(id, &mut sizes) <= TREE) {
                let sides = [c.before, c.after].iter().chain(&c.others).map(|&id| terms.one(id)).collect();
                let key = (sides, about.iter().map(|g| g.known).collect());
                known.entry(key).or_insert_with(|| derive(&terms, [c.before, c.after], &c.others, &about, &mut means)).clone()
            } else {
                Err(format!("its expression is larger than {TREE} nodes"))
            };
            match found {
                Ok((steps, _)) if steps.is_empty() => out.as_written += 1,
                Ok((steps, t)) => {
                    let text = terms.texts(c.before, c.after);
                    // What only the others needed is of no interest.
                    let used: BTreeSet<&str> =
                        t.expr.as_ref().iter().filter_map(|n| if let Node::Leaf(l) = n { Some(&*l.name) } else { None }).collect();
                    let given = about.into_iter().filter(|g| used.contains(&*g.name)).collect();
                    out.proofs.push(Proof { of, kernels, text, steps, given, terms: t });
                }
                Err(why) => out.left_out.push(LeftOut { of, kernels, why }),
            }
        }
    }
    Ok(out)
}
