//! Every rule is proved on random inputs, on both sides, within the bound of its class, in every type that it takes; wrong rules must be
//! refused.

use super::sample::{Draw, Given};
use super::*;
use crate::bound::{Roundings, bound};
use crate::bridge::expr_to_graph;
use crate::facts::Facts;
use egg::{RecExpr, Searcher};
use std::collections::BTreeMap;
use tahoma_core::eval::{Weights, run};
use tahoma_core::{Attr, Diagnostic, Graph, Program};

/// Random drawings for each rule (and each op of its family) in f32, and in each other type.
const DRAWINGS: u64 = 24;
const OTHERS: u64 = 4;

struct Named(BTreeMap<String, Tensor>);

impl Weights for Named {
    fn get(&self, name: &str) -> Result<Tensor, Diagnostic> {
        self.0.get(name).cloned().ok_or_else(|| Diagnostic::error("E0210", name))
    }
}

/// One side of a rule with the sample's values for its variables.
fn instance(ast: &PatternAst<Node>, var: &mut dyn FnMut(Var, &mut RecExpr<Node>) -> Id) -> RecExpr<Node> {
    let mut e = RecExpr::default();
    let mut ids: Vec<Id> = vec![];
    for n in ast.as_ref() {
        let id = match n {
            ENodeOrVar::Var(v) => var(*v, &mut e),
            ENodeOrVar::ENode(n) => {
                let node = n.clone().map_children(|c| ids[usize::from(c)]);
                e.add(node)
            }
        };
        ids.push(id);
    }
    e
}

/// A variable's value in an expression.
fn add_given(e: &mut RecExpr<Node>, given: &Given) -> Id {
    match given {
        Given::Leaf(l) => e.add(Node::Leaf(l.clone())),
        Given::Computed(op, leaves) => {
            let ids = leaves.iter().map(|l| e.add(Node::Leaf(l.clone()))).collect();
            e.add(Node::Op(*op, ids))
        }
        Given::Attr(a) => e.add(Node::Attr(a.clone())),
        Given::Constant(t) => {
            let a = e.add(Node::Attr(AttrLeaf::new(Attr::from(t.clone()))));
            e.add(Node::Op(crate::language::OpId::of(tahoma_core::ops::CONSTANT), [a].into()))
        }
    }
}

/// Values for the leaves of an expression; of some it is said where they lie.
fn values(e: &RecExpr<Node>, s: &mut Sample, at: &[(&str, f64, f64)]) -> Named {
    let mut all = BTreeMap::new();
    for n in e.as_ref() {
        let Node::Leaf(l) = n else { continue };
        let place = at.iter().find(|a| *a.0 == *l.name);
        all.entry(l.name.to_string()).or_insert_with(|| match place {
            None => s.tensor(&l.ty),
            Some((_, middle, far)) => {
                let n = l.ty.shape.elements().unwrap_or(0);
                let v: Vec<f64> = (0..n).map(|_| middle + far * (s.below(1 << 20) as f64 / (1 << 19) as f64 - 1.0)).collect();
                Tensor::from_f64s(DType::F64, &l.ty.shape.to_static().unwrap_or_default(), &v).cast(l.ty.dtype)
            }
        });
    }
    Named(all)
}

fn inputs(g: &Graph, values: &Named) -> Vec<Tensor> {
    g.inputs.iter().map(|p| values.0[&p.name].clone()).collect()
}

fn evaluate(g: &Graph, values: &Named) -> Result<Tensor, String> {
    run(&Program::new(g.clone()), "main", &inputs(g, values), values).map(|mut v| v.remove(0)).map_err(|e| e.to_string())
}

/// What the search is told of weights.
fn facts(e: &RecExpr<Node>, values: &Named) -> Facts {
    let weights = e.as_ref().iter().filter_map(|n| if let Node::Leaf(l) = n { l.weight.then(|| l.name.to_string()) } else { None });
    let spans = weights.filter_map(|w| Some((w.clone(), crate::span::extraordinary_tensor(&values.0[&w])?)));
    Facts { of_source: true, ..Facts::with_weights(Arc::new(spans.collect())) }
}

/// The e-graph of an expression as a program has it.
fn source(e: &RecExpr<Node>, values: &Named) -> (EGraph, Id) {
    let mut g = EGraph::new(facts(e, values));
    let mut root = Id::from(0);
    let mut ids: Vec<Id> = vec![];
    for n in e.as_ref() {
        let node = n.clone().map_children(|c| ids[usize::from(c)]);
        root = g.add(node.clone());
        if matches!(node, Node::Op(..)) {
            g.analysis.record(node.map_children(|c| g.find(c)), Made { rule: None, origin: Arc::default() });
        }
        ids.push(root);
    }
    g.rebuild();
    g.analysis.of_source = false;
    let root = g.find(root);
    (g, root)
}

/// Whether the right side is what the class allows. `Ok(false)`: the left side does not stay within its types, so it does not tell.
fn agree(class: Numerics, left: &RecExpr<Node>, right: &RecExpr<Node>, values: &Named) -> Result<bool, String> {
    let a = expr_to_graph(left).map_err(|e| format!("left: {e}"))?;
    let b = expr_to_graph(right).map_err(|e| format!("right: {e}"))?;
    // Integers may be divided by 0.
    let Ok(x) = evaluate(&a, values) else { return Ok(false) };
    let y = evaluate(&b, values)?;
    let tell = |e: String| format!("{e}\n  {left}\n  {right}");
    if x.ty() != y.ty() {
        return Err(tell(format!("{} became {}", x.ty(), y.ty())));
    }
    if class == Numerics::Exact || !x.dtype().is_float() {
        for (i, (p, q)) in x.to_f64s().iter().zip(y.to_f64s()).enumerate() {
            if p.to_bits() != q.to_bits() && !(p.is_nan() && q.is_nan()) {
                return Err(tell(format!("element {i}: {p} became {q}")));
            }
        }
        // Beyond 2⁵³ f64 does not tell integers apart.
        let bits = x.dtype().is_float() || x.contiguous().to_bytes() == y.contiguous().to_bytes();
        return if bits { Ok(true) } else { Err(tell("integers became others".into())) };
    }
    match bound(&Program::new(a.clone()), &inputs(&a, values), values, Roundings::OfTypes) {
        Some(b) => b.holds(&[y]).map(|()| true).map_err(tell),
        None => Ok(false),
    }
}

/// A drawing of a rule's variables.
#[derive(Clone, Copy)]
struct Drawing {
    seed: u64,
    dtype: DType,
    draw: Draw,
    /// Whether the rule must apply, and whether it asks if its numbers fit, as it does when it runs.
    must: bool,
    asks: bool,
}

/// What a rule is drawn on.
struct Sampled {
    sample: fn(&mut Sample),
    at: &'static [(&'static str, f64, f64)],
}

#[derive(Debug, Default)]
struct Proved {
    /// Drawings that the rule applied to, and those of them whose left side stays within its types.
    applied: usize,
    judged: usize,
}

/// Proves one instance.
fn prove(rule: &'static Rule, on: &Sampled, lhs: &str, rhs: &str, d: Drawing, count: &mut Proved) -> Result<(), String> {
    let mut s = Sample::new(d.seed);
    (on.sample)(&mut s);
    s.retype(d.dtype);
    s.draw = d.draw;
    let (lhs, rhs) = (pattern(lhs, rule)?, pattern(rhs, rule)?);
    let left = instance(&lhs.ast, &mut |v, e| {
        let name = v.to_string();
        let given = s.given.get(&name[1..]).unwrap_or_else(|| panic!("{}: the sample lacks {v}", rule.name));
        add_given(e, given)
    });
    let values = values(&left, &mut s, on.at);
    let (mut g, root) = source(&left, &values);
    if matches!(g[root].data, Fact::Ill(_)) {
        return Ok(());
    }
    // Without constant folding having joined anything else, the pattern must be found at the root.
    let Some(found) = lhs.search_eclass(&g, root) else {
        return if d.must { Err("the left side is not found in its own instance".into()) } else { Ok(()) };
    };
    let mut last = if d.must { Err("the condition refuses the sample".to_string()) } else { Ok(()) };
    let mut applied = false;
    for subst in &found.substs {
        let Some(subst) = bindings(rule, &mut g, root, subst) else { continue };
        if d.asks && !stays_within(rule, &rhs.ast, &g, &subst) {
            if d.must {
                last = Err("the right side does not stay within its types".into());
            }
            continue;
        }
        let right = instance(&rhs.ast, &mut |v, e| {
            let name = v.to_string();
            match s.given.get(&name[1..]) {
                Some(given) => add_given(e, given),
                None => {
                    let id = *subst.get(v).unwrap_or_else(|| panic!("{}: {v} is not bound", rule.name));
                    match &g[id].data {
                        Fact::Attr(a) => e.add(Node::Attr(a.clone())),
                        other => panic!("{}: {v} is {other:?}", rule.name),
                    }
                }
            }
        });
        applied = true;
        last = agree(rule.class, &left, &right, &values).map(|judged| count.judged += usize::from(judged));
        if last.is_ok() {
            break;
        }
    }
    last?;
    count.applied += usize::from(applied);
    if !applied || !d.must {
        return Ok(());
    }
    // And the rewrite, as egg runs it, joins the two without a complaint.
    let rewrites = rewrites(rule)?;
    let runner = egg::Runner::<Node, Facts>::new(Facts::default()).with_egraph(g).with_iter_limit(1).run(&rewrites);
    if let Some(fault) = runner.egraph.analysis.faults.first() {
        return Err(fault.to_string());
    }
    if runner.iterations.iter().all(|i| i.applied.is_empty()) && runner.egraph.analysis.made.is_empty() {
        return Err("did not fire".into());
    }
    Ok(())
}

/// Numbers as they are, and at the edges of their type; in f32 and in every other type.
fn prove_all(rule: &'static Rule, asks: bool) -> Result<Proved, String> {
    let mut proved = Proved::default();
    let hard = if rule.class == Numerics::Exact { Draw::Awkward } else { Draw::Edges };
    for (lhs, rhs) in texts(rule) {
        for dtype in DType::all() {
            for seed in 1..=if dtype == DType::F32 { DRAWINGS } else { OTHERS } {
                let draw = if seed % 2 == 1 && rule.class > Numerics::Exact { Draw::Plain } else { hard };
                let must = dtype == DType::F32 && draw != Draw::Edges;
                let d = Drawing { seed, dtype, draw, must, asks };
                prove(rule, &Sampled { sample: rule.sample, at: &[] }, &lhs, &rhs, d, &mut proved)
                    .map_err(|e| format!("{dtype}, seed {seed}, {draw:?}: {e}"))?;
            }
        }
    }
    Ok(proved)
}

#[test]
fn every_rule_holds_on_random_inputs() {
    let (mut bad, mut all_of) = (vec![], vec![]);
    for rule in all() {
        match prove_all(rule, true) {
            Ok(n) if n.judged >= DRAWINGS as usize / 2 => all_of.push((n.applied, n.judged)),
            Ok(n) => bad.push(format!("{}: only {n:?}", rule.name)),
            Err(e) => bad.push(format!("{}: {e}", rule.name)),
        }
    }
    let (applied, judged) = all_of.iter().fold((0, 0), |a, n| (a.0 + n.0, a.1 + n.1));
    println!("{} rules, {applied} drawings that they apply to, {judged} judged", all_of.len());
    assert!(bad.is_empty(), "{} rules fail:\n{}", bad.len(), bad.join("\n"));
}

#[test]
fn wrong_rules_are_caught() {
    let wrong: Vec<&'static Rule> = [
        moves::WRONG,
        moves::slice::WRONG,
        moves::layout::WRONG,
        algebra::WRONG,
        algebra::functions::WRONG,
        algebra::reduce::WRONG,
        contract::WRONG,
        contract::linear::WRONG,
        wide::WRONG,
        composite::WRONG,
        composite::activation::WRONG,
        composite::rows::WRONG,
    ]
    .into_iter()
    .flatten()
    .collect();
    // Caught by its meaning, not because its sample failed.
    let caught = |e: &String| e.contains("became") || e.contains("right:");
    let missed: Vec<String> = wrong
        .iter()
        .filter_map(|r| match prove_all(r, false) {
            Err(e) if caught(&e) => None,
            other => Some(format!("{}: {other:?}", r.name)),
        })
        .collect();
    assert!(missed.is_empty(), "not caught: {missed:?}");
    assert!(wrong.len() >= 40, "{}", wrong.len());
}

/// Every rule that was once not what its class says: caught as it was, and as it is it holds or does not apply.
#[test]
fn rules_ask_before_they_move_numbers() {
    let mut missed = vec![];
    for c in cases::CASES {
        let rule = all().find(|r| r.name == c.rule).unwrap_or_else(|| panic!("no rule {}", c.rule));
        let on = Sampled { sample: c.was.sample, at: c.at };
        let (mut caught, mut count) = (0, Proved::default());
        for seed in 1..=8 {
            let drawing = |asks| Drawing { seed, dtype: DType::F32, draw: Draw::Awkward, must: false, asks };
            match prove(&c.was, &on, c.was.lhs, c.was.rhs, drawing(false), &mut count) {
                Err(e) if e.contains("became") || e.contains("division by zero") => caught += 1,
                other => other.unwrap_or_else(|e| panic!("{}: {e}", c.was.name)),
            }
            // Of a family, the op that the case is about.
            let both = texts(rule).into_iter().find(|t| rule.lhs == t.0 || t.0 == c.was.lhs);
            let (lhs, rhs) = both.unwrap_or_else(|| panic!("{}: no such side", c.was.name));
            let now = prove(rule, &on, &lhs, &rhs, drawing(true), &mut count);
            now.unwrap_or_else(|e| panic!("{} on {}: {e}", c.rule, c.was.name));
        }
        if caught == 0 {
            missed.push(c.was.name);
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}

#[test]
fn names_are_single_and_rules_are_documented() {
    let mut names: Vec<&str> = all().map(|r| r.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(count >= 180, "{count} rules");
    assert!(all().all(|r| r.doc.len() > 5));
}

#[test]
fn rule_text_is_checked_against_the_op_table() {
    for (text, says) in [("(matmul ?x)", "takes 2 arguments"), ("(matmull ?x ?y)", "no op named"), ("(relu nothing)", "is no op")] {
        let e = text.parse::<Pattern<Node>>().map(|_| ()).unwrap_err().to_string();
        assert!(e.contains(says), "{e}");
    }
}

/// Proves a rule as code on one drawing, with another type in place of f32.
fn prove_code(c: &'static code::Code, seed: u64, dtype: DType, draw: Draw) -> Result<bool, String> {
    let mut s = Sample::new(seed);
    let text = (c.sample)(&mut s).replace("f32", dtype.name());
    let left: RecExpr<Node> = match text.parse() {
        Ok(e) => e,
        Err(e) => return if dtype == DType::F32 { Err(format!("{}: {e}", c.name)) } else { Ok(false) },
    };
    s.draw = draw;
    let values = values(&left, &mut s, &[]);
    let (mut g, root) = source(&left, &values);
    if matches!(g[root].data, Fact::Ill(_)) && dtype != DType::F32 {
        return Ok(false);
    }
    let node = g[root].nodes[0].clone();
    let new = (c.apply)(&mut code::Site::new(&mut g, c.name, []), &node).ok_or("did not fire")?;
    let (_, right) = egg::Extractor::new(&g, egg::AstSize).find_best(new);
    // What is cut away is no input of the right side.
    let judged = agree(c.class, &left, &right, &values)?;
    let mut site = code::Site::new(&mut g, c.name, []);
    if site.join(root, new) { Ok(judged) } else { Err("joins nothing".into()) }
}

#[test]
fn every_rule_as_code_holds_on_random_inputs() {
    for c in codes() {
        let hard = if c.class == Numerics::Exact { Draw::Awkward } else { Draw::Edges };
        for seed in 1..=DRAWINGS {
            // A drawing may be one that needs nothing done; most must not be.
            match prove_code(c, seed, DType::F32, if seed % 2 == 0 { Draw::Plain } else { hard }) {
                Err(e) if e == "did not fire" && (c.name == "slice-of-concat" || hard == Draw::Edges) => {}
                other => drop(other.unwrap_or_else(|e| panic!("{}: seed {seed}: {e}", c.name))),
            }
        }
        for dtype in DType::all() {
            for seed in 1..=DRAWINGS / 2 {
                match prove_code(c, seed, dtype, hard) {
                    Err(e) if ["did not fire", "joins nothing"].contains(&&*e) => {}
                    other => drop(other.unwrap_or_else(|e| panic!("{}: {dtype}, seed {seed}: {e}", c.name))),
                }
            }
        }
    }
    for c in moves::concat::WRONG.iter().chain(gathers::WRONG).chain(compose::WRONG).chain(known::WRONG) {
        // A drawing may also be one on which it does not fire.
        let caught = |e: &String| e.contains("became") || e.contains("right:");
        let caught = (1..=DRAWINGS).any(|seed| prove_code(c, seed, DType::F32, Draw::Awkward).err().is_some_and(|e| caught(&e)));
        assert!(caught, "{} is not caught", c.name);
    }
}

#[test]
fn the_reference_is_fresh() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/RULES.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, docs::docs()).unwrap();
    }
    let file = std::fs::read_to_string(path).unwrap_or_default();
    assert!(file == docs::docs(), "RULES.md is not what rules::docs::docs() prints; run with BLESS=1");
}

/// Of +0 and −0 a maximum is the one that comes first or last in memory, so an exact rule must not change which that is.
#[test]
fn no_exact_rule_moves_what_a_maximum_reduces() {
    let moved = ["transpose", "reshape", "slice"].iter().flat_map(|m| ["max", "min"].map(|r| (*m, r)));
    for (m, r) in moved {
        let (inside, outside) = (format!("(reduce_{r} ({m} "), format!("({m} (reduce_{r} "));
        let bad: Vec<&str> = all()
            .filter(|r| r.class == Numerics::Exact && (r.lhs.starts_with(&inside) || r.lhs.starts_with(&outside)))
            .map(|r| r.name)
            .collect();
        assert!(bad.is_empty(), "{bad:?}");
    }
}
