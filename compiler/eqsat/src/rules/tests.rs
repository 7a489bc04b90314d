//! Every rule is proved on random inputs, on both sides, at the tolerance of its class; wrong rules must be refused.

use super::sample::Given;
use super::*;
use crate::bridge::expr_to_graph;
use crate::facts::Facts;
use egg::{RecExpr, Searcher};
use std::collections::BTreeMap;
use tahoma_core::eval::{Weights, run};
use tahoma_core::{Attr, Diagnostic, Graph, Program};

/// Random drawings for each rule (and each op of its family).
const DRAWINGS: u64 = 24;

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

fn add_given(e: &mut RecExpr<Node>, given: &Given) -> Id {
    match given {
        Given::Leaf(l) => e.add(Node::Leaf(l.clone())),
        Given::Attr(a) => e.add(Node::Attr(a.clone())),
        Given::Constant(t) => {
            let a = e.add(Node::Attr(AttrLeaf::new(Attr::from(t.clone()))));
            e.add(Node::Op(crate::language::OpId::of(tahoma_core::ops::CONSTANT), [a].into()))
        }
    }
}

fn evaluate(g: &Graph, given: &BTreeMap<&'static str, Tensor>) -> Result<Tensor, String> {
    let inputs: Vec<Tensor> = g.inputs.iter().map(|p| given[&*p.name].clone()).collect();
    let weights = Named(given.iter().map(|(k, v)| (k.to_string(), v.clone())).collect());
    run(&Program::new(g.clone()), "main", &inputs, &weights).map(|mut v| v.remove(0)).map_err(|e| e.to_string())
}

fn agree(class: Numerics, a: &Tensor, b: &Tensor) -> Result<(), String> {
    if a.ty() != b.ty() {
        return Err(format!("{} became {}", a.ty(), b.ty()));
    }
    let (x, y) = (a.to_f64s(), b.to_f64s());
    for (i, (p, q)) in x.iter().zip(&y).enumerate() {
        let same = match class {
            Numerics::Exact => p.to_bits() == q.to_bits() || (p.is_nan() && q.is_nan()),
            Numerics::Reassociate => p == q || (p.is_nan() && q.is_nan()) || (p - q).abs() <= 2e-5 * (1.0 + p.abs()),
            Numerics::Fast => p == q || (p.is_nan() && q.is_nan()) || (p - q).abs() <= 2e-2 * (1.0 + p.abs()),
        };
        if !same {
            return Err(format!("element {i}: {p} became {q}"));
        }
    }
    Ok(())
}

/// Proves one instance. `Ok(false)`: the left side does not type for this op of the family.
fn prove(rule: &'static Rule, lhs: &str, rhs: &str, seed: u64) -> Result<bool, String> {
    let mut s = Sample::new(seed);
    (rule.sample)(&mut s);
    s.awkward = rule.class == Numerics::Exact;
    let (lhs, rhs) = (pattern(lhs, rule)?, pattern(rhs, rule)?);
    let left = instance(&lhs.ast, &mut |v, e| {
        let name = v.to_string();
        let given = s.given.get(&name[1..]).unwrap_or_else(|| panic!("{}: the sample lacks {v}", rule.name));
        add_given(e, given)
    });
    let mut g = EGraph::new(Facts::default());
    let root = g.add_expr(&left);
    if matches!(g[root].data, Fact::Ill(_)) {
        return Ok(false);
    }
    // Without constant folding having joined anything else, the pattern must be found at the root.
    g.rebuild();
    let found = lhs.search_eclass(&g, root).ok_or("the left side is not found in its own instance")?;
    let mut last = Err("the condition refuses the sample".to_string());
    for subst in &found.substs {
        let Some(subst) = bindings(rule, &mut g, root, subst) else { continue };
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
        let mut values: BTreeMap<&'static str, Tensor> = BTreeMap::new();
        for (name, given) in s.given.clone() {
            if let Given::Leaf(l) = given {
                values.insert(name, s.tensor(&l.ty));
            }
        }
        let a = expr_to_graph(&left).map_err(|e| format!("left: {e}"))?;
        let b = expr_to_graph(&right).map_err(|e| format!("right: {e}"))?;
        let (x, y) = (evaluate(&a, &values)?, evaluate(&b, &values)?);
        last = agree(rule.class, &x, &y).map_err(|e| format!("{e}\n  {left}\n  {right}"));
        if last.is_ok() {
            break;
        }
    }
    last?;
    // And the rewrite, as egg runs it, joins the two without a complaint.
    let rewrites = rewrites(rule)?;
    let runner = egg::Runner::<Node, Facts>::new(Facts::default()).with_egraph(g).with_iter_limit(1).run(&rewrites);
    if let Some(fault) = runner.egraph.analysis.faults.first() {
        return Err(fault.to_string());
    }
    if runner.iterations.iter().all(|i| i.applied.is_empty()) && runner.egraph.analysis.made.is_empty() {
        return Err("did not fire".into());
    }
    Ok(true)
}

fn prove_all(rule: &'static Rule) -> Result<usize, String> {
    let mut proved = 0;
    for (lhs, rhs) in texts(rule) {
        for seed in 0..DRAWINGS {
            proved += usize::from(prove(rule, &lhs, &rhs, seed + 1).map_err(|e| format!("seed {seed}: {e}"))?);
        }
    }
    Ok(proved)
}

#[test]
fn every_rule_holds_on_random_inputs() {
    let mut bad = vec![];
    for rule in all() {
        match prove_all(rule) {
            Ok(n) if n >= DRAWINGS as usize => {}
            Ok(n) => bad.push(format!("{}: only {n} instances type", rule.name)),
            Err(e) => bad.push(format!("{}: {e}", rule.name)),
        }
    }
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
        .filter_map(|r| match prove_all(r) {
            Err(e) if caught(&e) => None,
            other => Some(format!("{}: {other:?}", r.name)),
        })
        .collect();
    assert!(missed.is_empty(), "not caught: {missed:?}");
    assert!(wrong.len() >= 40, "{}", wrong.len());
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

/// Proves a rule as code on one drawing.
fn prove_code(c: &'static code::Code, seed: u64) -> Result<(), String> {
    let mut s = Sample::new(seed);
    s.awkward = c.class == Numerics::Exact;
    let left: RecExpr<Node> = (c.sample)(&mut s).parse().map_err(|e| format!("{}: {e}", c.name))?;
    let mut g = EGraph::new(Facts::default());
    let root = g.add_expr(&left);
    g.rebuild();
    let node = g[root].nodes[0].clone();
    let new = (c.apply)(&mut code::Site::new(&mut g, c.name, []), &node).ok_or("did not fire")?;
    let (_, right) = egg::Extractor::new(&g, egg::AstSize).find_best(new);
    let mut values: BTreeMap<&'static str, Tensor> = BTreeMap::new();
    for n in left.as_ref() {
        if let Node::Leaf(l) = n {
            let name: &'static str = ["v", "w", "x", "y", "z"].into_iter().find(|v| **v == *l.name).ok_or("a leaf of another name")?;
            let t = s.tensor(&l.ty);
            values.entry(name).or_insert(t);
        }
    }
    let a = expr_to_graph(&left).map_err(|e| format!("left: {e}"))?;
    let b = expr_to_graph(&right).map_err(|e| format!("right: {e}"))?;
    // What is cut away is no input of the right side.
    let (x, y) = (evaluate(&a, &values)?, evaluate(&b, &values)?);
    agree(c.class, &x, &y).map_err(|e| format!("{e}\n  {left}\n  {right}"))?;
    let mut site = code::Site::new(&mut g, c.name, []);
    if site.join(root, new) { Ok(()) } else { Err("joins nothing".into()) }
}

#[test]
fn every_rule_as_code_holds_on_random_inputs() {
    for c in codes() {
        for seed in 1..=DRAWINGS {
            // A drawing may be one that needs nothing done; most must not be.
            match prove_code(c, seed) {
                Err(e) if e == "did not fire" && c.name == "slice-of-concat" => {}
                other => other.unwrap_or_else(|e| panic!("{}: seed {seed}: {e}", c.name)),
            }
        }
    }
    for c in moves::concat::WRONG.iter().chain(gathers::WRONG).chain(compose::WRONG) {
        let e = (1..=DRAWINGS).find_map(|seed| prove_code(c, seed).err()).unwrap_or_default();
        assert!(e.contains("became") || e.contains("right:"), "{} is not caught: {e}", c.name);
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
