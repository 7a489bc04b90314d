//! Rewrite rules as rows: two texts, a condition, the algebra, and a sample to prove them on.
//!
//! ```text
//! (transpose (transpose ?x ?p) ?q)  =>  (transpose ?x ?r)      r[i] = p[q[i]]
//! ```
//!
//! A condition may bind more variables of the right side (`?r` above). `{unary}` and `{binary}` in a text stand for every op of that
//! kind. The class says what a rule does to numbers; `--numerics` chooses which classes run.

mod algebra;
#[cfg(test)]
mod cases;
pub mod chains;
pub mod code;
mod compose;
mod composite;
mod contract;
pub mod docs;
mod gathers;
mod known;
pub mod merge;
mod moves;
mod range;
pub mod sample;
pub mod wide;

use crate::bridge::fuse;
use crate::facts::{EGraph, Fact, Made};
use crate::language::{AttrLeaf, Node};
use egg::{Applier, ENodeOrVar, Id, Language, Pattern, PatternAst, Rewrite, Subst, Symbol, Var};
use sample::Sample;
use std::sync::{Arc, LazyLock};
use tahoma_core::artifact::Numerics;
use tahoma_core::op::{Kind, OpDef, Scalar};
use tahoma_core::{Attr, DType, Origin, Tensor, TensorType};

/// One rewrite rule.
pub struct Rule {
    pub name: &'static str,
    /// What it may do to numbers.
    pub class: Numerics,
    pub lhs: &'static str,
    pub rhs: &'static str,
    /// Side condition; may bind variables of `rhs` that `lhs` does not have. `None` or `Some(false)`: does not apply.
    pub when: Option<fn(&mut Match) -> Option<bool>>,
    /// The algebra, with its reason.
    pub doc: &'static str,
    /// Values for the variables of `lhs`, drawn at random, for which the rule must fire and hold.
    pub sample: fn(&mut Sample),
}

/// The tables, by family.
pub static FAMILIES: &[(&str, &[&[Rule]])] = &[
    ("Moves", &[moves::RULES, moves::slice::RULES, moves::layout::RULES]),
    ("Algebra", &[algebra::RULES, algebra::functions::RULES, algebra::reduce::RULES]),
    ("Contractions", &[contract::RULES, contract::linear::RULES, wide::RULES]),
    ("Composites", &[composite::RULES, composite::activation::RULES, composite::rows::RULES]),
];

/// All rules, by family.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    FAMILIES.iter().flat_map(|(_, tables)| tables.iter().copied().flatten())
}

/// A place where a rule's left side was found.
pub struct Match<'a> {
    egraph: &'a EGraph,
    subst: &'a Subst,
    root: Id,
    binds: Vec<(&'static str, Attr)>,
}

impl<'a> Match<'a> {
    fn fact(&self, var: &str) -> Option<&'a Fact> {
        let var: Var = format!("?{var}").parse().ok()?;
        Some(&self.egraph[*self.subst.get(var)?].data)
    }
    fn attr(&self, var: &str) -> Option<&'a Attr> {
        self.fact(var)?.attr()
    }
    pub fn ty(&self, var: &str) -> Option<&'a TensorType> {
        self.fact(var)?.value().map(|v| &v.ty)
    }
    /// Static extents of a tensor variable.
    pub fn dims(&self, var: &str) -> Option<Vec<i64>> {
        self.ty(var)?.shape.0.iter().map(|d| d.known().map(|n| n as i64)).collect()
    }
    pub fn rank(&self, var: &str) -> Option<usize> {
        Some(self.ty(var)?.rank())
    }
    /// Type of the value that is rewritten.
    pub fn root(&self) -> Option<&'a TensorType> {
        self.egraph[self.root].data.value().map(|v| &v.ty)
    }
    pub fn root_dims(&self) -> Option<Vec<i64>> {
        self.root()?.shape.0.iter().map(|d| d.known().map(|n| n as i64)).collect()
    }
    pub fn ints(&self, var: &str) -> Option<&'a [i64]> {
        if let Attr::Ints(v) = self.attr(var)? { Some(v) } else { None }
    }
    pub fn int(&self, var: &str) -> Option<i64> {
        if let Attr::Int(v) = self.attr(var)? { Some(*v) } else { None }
    }
    pub fn float(&self, var: &str) -> Option<f64> {
        if let Attr::Float(v) = self.attr(var)? { Some(v.0) } else { None }
    }
    pub fn bool(&self, var: &str) -> Option<bool> {
        if let Attr::Bool(v) = self.attr(var)? { Some(*v) } else { None }
    }
    pub fn dtype(&self, var: &str) -> Option<DType> {
        if let Attr::DType(v) = self.attr(var)? { Some(*v) } else { None }
    }
    pub fn constant(&self, var: &str) -> Option<&'a Tensor> {
        self.fact(var)?.value()?.constant.as_deref()
    }
    /// The number a constant holds everywhere.
    pub fn uniform(&self, var: &str) -> Option<f64> {
        let v = self.constant(var)?.to_f64s();
        let first = *v.first()?;
        v.iter().all(|x| x.to_bits() == first.to_bits()).then_some(first)
    }
    /// The number that a variable of this rank counts to along its last axis, from 0: as a constant or an `iota`.
    pub fn counts(&self, var: &str, rank: usize) -> Option<i64> {
        let dims = self.dims(var)?;
        let n = *dims.last()?;
        if dims.len() > rank || dims.iter().product::<i64>() != n {
            return None;
        }
        let ascending = |t: &Tensor| t.to_f64s().iter().enumerate().all(|(i, v)| i as f64 == *v);
        let along = |id: &Id| self.egraph[*id].data.attr() == Some(&Attr::Int(dims.len() as i64 - 1));
        let iota = |n: &Node| matches!(n, Node::Op(op, _) if op.def().name == "iota") && n.attr_ids().get(1).is_some_and(along);
        let counted = self.constant(var).is_some_and(ascending) || self.egraph[self.class(var)?].nodes.iter().any(iota);
        counted.then_some(n)
    }
    /// Whether a variable depends on weights and constants alone.
    pub fn fixed(&self, var: &str) -> Option<bool> {
        Some(self.fact(var)?.value()?.fixed)
    }
    /// Whether a variable is a constant, or one that repeats: not a weight.
    pub fn generated(&self, var: &str) -> Option<bool> {
        self.is_made_by(var, |op| matches!(op.name, "constant" | "broadcast"))
    }
    /// Whether what the rewritten slices take is sliced in this one way only, and is computed at all: recipes run once anyway.
    pub fn cut_once(&self) -> Option<bool> {
        if self.egraph[self.root].data.value()?.fixed {
            return Some(false);
        }
        let slices = |id: Id| self.egraph[id].nodes.iter().filter(|n| matches!(n, Node::Op(op, _) if op.def().name == "slice"));
        let root = self.egraph.find(self.root);
        Some(slices(root).all(|n| {
            let of = self.egraph.find(n.operands()[0]);
            let takes = |id: Id| slices(id).any(|n| self.egraph.find(n.operands()[0]) == of);
            self.egraph[of].parents().map(|p| self.egraph.find(p)).all(|p| p == root || !takes(p))
        }))
    }
    /// Whether each element of a variable is off by a rounding of itself already, so that the digits which a sum with it loses are none
    /// that it has.
    pub fn rounded(&self, var: &str) -> Option<bool> {
        let known = self.fact(var)?.value()?.known;
        Some(known.rounded || known.span.is_zero())
    }
    /// Between which powers of two a variable lies.
    pub fn span(&self, var: &str) -> Option<crate::span::Span> {
        Some(self.fact(var)?.value()?.known.span)
    }
    /// Whether no element of a variable is negative, −0 neither.
    pub fn non_negative(&self, var: &str) -> Option<bool> {
        Some(self.fact(var)?.value()?.known.non_negative)
    }
    fn class(&self, var: &str) -> Option<Id> {
        let var: Var = format!("?{var}").parse().ok()?;
        Some(self.egraph.find(*self.subst.get(var)?))
    }
    /// Whether some node of a variable's class is of an op that fits.
    pub fn is_made_by(&self, var: &str, fits: fn(&OpDef) -> bool) -> Option<bool> {
        Some(self.egraph[self.class(var)?].nodes.iter().any(|n| matches!(n, Node::Op(op, _) if fits(op.def()))))
    }
    /// Whether what is rewritten is a quotient or a remainder.
    pub fn divides(&self) -> bool {
        self.egraph[self.root].nodes.iter().any(|n| matches!(n, Node::Op(op, _) if matches!(op.def().name, "div" | "mod" | "rem")))
    }
    /// Whether what the rewritten matmuls read first is read by matmuls alone, each as its first operand.
    pub fn feeds_matmuls(&self) -> bool {
        let matmul = |n: &&Node| matches!(n, Node::Op(op, _) if op.def().name == "matmul");
        let reads = |id: Id, n: &Node| n.operands().iter().any(|&o| self.egraph.find(o) == id);
        self.egraph[self.root].nodes.iter().filter(matmul).all(|n| {
            let of = self.egraph.find(n.operands()[0]);
            let users = self.egraph[of].parents().map(|p| self.egraph.find(p));
            users.flat_map(|p| &self.egraph[p].nodes).filter(|u| reads(of, u)).all(|u| matmul(&u))
        })
    }
    /// Whether gains and offsets of a norm from axis `first` of `rank` on are the same for every row: with more axes they go with rows.
    pub fn alike_in_rows(&self, vars: &[&str], first: usize, rank: usize) -> Option<bool> {
        let within = |v: &&str| Some(self.rank(v)? <= rank.checked_sub(first)?);
        vars.iter().map(within).try_fold(true, |all, w| Some(all && w?))
    }
    /// Number of elements of a tensor variable.
    pub fn elements(&self, var: &str) -> Option<u64> {
        self.ty(var)?.shape.elements()
    }
    /// Gives a variable of the right side its value.
    pub fn bind(&mut self, var: &'static str, value: impl Into<Attr>) {
        self.binds.push((var, value.into()));
    }
    /// Whether `?x op ?c` broadcasts to the type of `?x`: an elimination keeps the shape.
    pub fn root_is(&self, var: &str) -> Option<bool> {
        Some(self.root()? == self.ty(var)?)
    }
    /// Shape after numpy broadcasting of two variables.
    pub fn broadcast(&self, a: &str, b: &str) -> Option<Vec<i64>> {
        let (mut a, mut b) = (self.dims(a)?, self.dims(b)?);
        if a.len() < b.len() {
            std::mem::swap(&mut a, &mut b);
        }
        let skip = a.len() - b.len();
        for (x, &y) in a[skip..].iter_mut().zip(&b) {
            if *x == 1 {
                *x = y;
            } else if y != 1 && y != *x {
                return None;
            }
        }
        Some(a)
    }
}

/// Composites that are a function of each element by itself.
const ACTIVATIONS: &[&str] = &["relu", "gelu", "gelu_tanh", "silu", "hard_swish", "softplus", "softsign", "mish"];

/// Rules as code, by family.
pub static CODES: &[(&str, &[code::Code])] = &[
    ("Moves", moves::concat::RULES),
    ("Gathers", gathers::RULES),
    ("Compositions", compose::RULES),
    ("What is known of elements", known::RULES),
];

/// A rule of several roots, which no pattern can say.
pub struct Several {
    pub name: &'static str,
    /// Both sides for readers.
    pub sides: [&'static str; 2],
    pub doc: &'static str,
}

/// Rules of several roots, all of class `Reassociate`. They run once, after the others ([`join_all`]).
pub static SEVERAL: &[Several] = &[merge::RULE, wide::MERGE, wide::GROUPS];

/// Applies the rules of several roots everywhere once; how often each fired.
pub fn join_all(g: &mut EGraph) -> Vec<(&'static str, usize)> {
    let mut fired = vec![(merge::RULE.name, merge::apply(g))];
    fired.extend(wide::apply(g));
    fired.retain(|f| f.1 > 0);
    fired
}

/// All rules as code.
pub fn codes() -> impl Iterator<Item = &'static code::Code> {
    CODES.iter().flat_map(|(_, codes)| codes.iter())
}

/// Names of the ops that a placeholder stands for.
fn family(text: &str) -> Option<(&'static str, Vec<&'static str>)> {
    let (key, unary) = if text.contains("{unary}") {
        ("{unary}", true)
    } else if text.contains("{binary}") {
        ("{binary}", false)
    } else {
        return None;
    };
    let names = tahoma_core::ops::OPS.iter().filter(|o| match o.kind {
        Kind::Elementwise(Scalar::Unary(_)) => unary && o.attrs.is_empty(),
        Kind::Elementwise(Scalar::Binary(_)) => !unary,
        Kind::Composite(_) => unary && ACTIVATIONS.contains(&o.name),
        _ => false,
    });
    Some((key, names.map(|o| o.name).collect()))
}

/// The two sides of a rule, once for each op of its family.
pub fn texts(rule: &Rule) -> Vec<(String, String)> {
    match family(rule.lhs) {
        None => vec![(rule.lhs.to_string(), rule.rhs.to_string())],
        Some((key, names)) => names.iter().map(|n| (rule.lhs.replace(key, n), rule.rhs.replace(key, n))).collect(),
    }
}

fn pattern(text: &str, rule: &Rule) -> Result<Pattern<Node>, String> {
    text.parse().map_err(|e| format!("rule {}: {e} in {text}", rule.name))
}

/// The rule behind a name that egg reports.
pub fn name_of(egg: &str) -> &str {
    egg.split('@').next().unwrap_or(egg)
}

/// A rule as egg runs it: one rewrite per op of its family. Errors: a text that does not fit the op table.
pub fn rewrites(rule: &'static Rule) -> Result<Vec<Rewrite<Node, crate::facts::Facts>>, String> {
    texts(rule)
        .into_iter()
        .map(|(lhs, rhs)| {
            // egg wants single names: a family's are told apart by the op.
            let name = match family(rule.lhs) {
                Some(_) => format!("{}@{lhs}", rule.name),
                None => rule.name.to_string(),
            };
            let (lhs, rhs) = (pattern(&lhs, rule)?, pattern(&rhs, rule)?);
            let asked = range::is_asked(rule.name, rule.class, &rhs.ast);
            let right = Right { rule, lhs: lhs.ast.clone(), rhs: rhs.ast, asked };
            Rewrite::new(name, lhs, right).map_err(|e| format!("rule {}: {e}", rule.name))
        })
        .collect()
}

/// The rules and codes up to a class, in the order of the tables; read once in the life of a process.
pub fn up_to(class: Numerics) -> Result<Vec<&'static Rewrite<Node, crate::facts::Facts>>, String> {
    type Ready = Vec<(Numerics, Rewrite<Node, crate::facts::Facts>)>;
    static READY: LazyLock<Result<Ready, String>> = LazyLock::new(|| {
        let mut ready = vec![];
        for r in all() {
            ready.extend(rewrites(r)?.into_iter().map(|w| (r.class, w)));
        }
        for c in codes() {
            ready.push((c.class, code::rewrite(c)?));
        }
        Ok(ready)
    });
    let ready = READY.as_ref().map_err(String::clone)?;
    Ok(ready.iter().filter(|(c, _)| *c <= class).map(|(_, w)| w).collect())
}

/// The right side: conditions, computed attributes, a type check, origins.
struct Right {
    rule: &'static Rule,
    lhs: PatternAst<Node>,
    rhs: PatternAst<Node>,
    /// Whether it makes numbers that may not fit their types.
    asked: bool,
}

/// Whether a rule's right side makes only numbers that its types hold; of a rule that keeps bits, always.
pub fn stays_within(rule: &Rule, rhs: &PatternAst<Node>, egraph: &EGraph, subst: &Subst) -> bool {
    !range::is_asked(rule.name, rule.class, rhs) || range::fits(rhs, egraph, subst)
}

/// Adds the condition's bindings to a substitution. `None`: does not apply.
pub fn bindings(rule: &Rule, egraph: &mut EGraph, root: Id, subst: &Subst) -> Option<Subst> {
    if chains::is_between(rule.name, egraph, subst) {
        return None;
    }
    let mut subst = subst.clone();
    if let Some(when) = rule.when {
        let mut m = Match { egraph, subst: &subst, root, binds: vec![] };
        if when(&mut m) != Some(true) {
            return None;
        }
        let binds = std::mem::take(&mut m.binds);
        for (var, attr) in binds {
            let id = egraph.add(Node::Attr(AttrLeaf::new(attr)));
            subst.insert(format!("?{var}").parse().ok()?, id);
        }
    }
    Some(subst)
}

impl Right {
    /// Origins of the nodes that the left side matched. `None` where one below the root is its own operand, as `x + 0` is once it is
    /// known to be `x`: whatever follows through it follows without it, and would for ever (`x + 0·w`, `x + 0·w + 0·w`, …).
    fn origin(&self, egraph: &EGraph, root: Id, subst: &Subst) -> Option<Arc<Origin>> {
        let mut ids: Vec<Option<Id>> = vec![];
        let mut from = vec![];
        let last = self.lhs.as_ref().len() - 1;
        for (i, n) in self.lhs.as_ref().iter().enumerate() {
            ids.push(match n {
                ENodeOrVar::Var(v) => subst.get(*v).map(|&i| egraph.find(i)),
                ENodeOrVar::ENode(n) => {
                    let children: Option<Vec<Id>> = n.children().iter().map(|&c| ids[usize::from(c)]).collect();
                    let known = children.map(|children| {
                        let mut next = children.iter();
                        let node = n.clone().map_children(|_| *next.next().expect("as many children"));
                        if let Some(m) = egraph.analysis.made.get(&node) {
                            from.push(m.origin.clone());
                        }
                        (egraph.lookup(node), children)
                    });
                    match known {
                        Some((Some(id), children)) if i < last && children.contains(&id) => return None,
                        known => known.and_then(|k| k.0),
                    }
                }
            });
        }
        if from.is_empty() {
            from.extend(egraph[root].nodes.iter().filter_map(|n| egraph.analysis.made.get(n)).map(|m| m.origin.clone()).take(1));
        }
        Some(fuse(self.rule.name, from))
    }
}

/// Adds an instance of a pattern; new e-nodes are recorded under the rule. `None` when a part does not type.
fn instantiate(egraph: &mut EGraph, ast: &PatternAst<Node>, subst: &Subst, made: &Made) -> Option<Id> {
    let mut ids: Vec<Id> = vec![];
    for n in ast.as_ref() {
        ids.push(match n {
            ENodeOrVar::Var(v) => *subst.get(*v)?,
            ENodeOrVar::ENode(n) => {
                let node = n.clone().map_children(|c| egraph.find(ids[usize::from(c)]));
                if egraph.lookup(node.clone()).is_none() && !matches!(node, Node::Attr(_)) {
                    egraph.analysis.record(node.clone(), made.clone());
                }
                egraph.add(node)
            }
        });
    }
    ids.last().copied()
}

impl Applier<Node, crate::facts::Facts> for Right {
    fn apply_one(&self, egraph: &mut EGraph, class: Id, subst: &Subst, ast: Option<&PatternAst<Node>>, name: Symbol) -> Vec<Id> {
        let Some(want) = egraph[class].data.value().map(|v| v.ty.clone()) else { return vec![] };
        let Some(subst) = bindings(self.rule, egraph, class, subst) else { return vec![] };
        if self.asked && !range::fits(&self.rhs, egraph, &subst) {
            return vec![];
        }
        let Some(origin) = self.origin(egraph, class, &subst) else { return vec![] };
        let made = Made { rule: Some(self.rule.name), origin };
        egraph.analysis.rule = self.rule.name;
        let Some(new) = instantiate(egraph, &self.rhs, &subst, &made) else { return vec![] };
        match &egraph[new].data {
            Fact::Value(v) if v.ty == want => {}
            Fact::Value(v) => {
                let ty = v.ty.clone();
                egraph.analysis.fault(&want, &ty);
                return vec![];
            }
            _ => {
                let why = if let Fact::Ill(why) = &egraph[new].data { why.to_string() } else { "no tensor".into() };
                let d = tahoma_core::Diagnostic::error("E0301", format!("rule {} makes what does not type: {why}", self.rule.name));
                if !egraph.analysis.faults.contains(&d) {
                    egraph.analysis.faults.push(d);
                }
                return vec![];
            }
        }
        let changed = match ast {
            Some(ast) => egraph.union_instantiations(ast, &self.rhs, &subst, name).1,
            None => egraph.union(class, new),
        };
        if changed { vec![class] } else { vec![] }
    }
}

#[cfg(test)]
mod tests;
