//! One file per rule in `tests/rules/`: an expression, and what the rule alone makes of it in one round. `BLESS=1` writes them anew.

use egg::{ENodeOrVar, Extractor, Id, Language, PatternAst, RecExpr, Runner, Searcher, Subst};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tahoma_eqsat::bridge::{expr_to_graph, to_egraph};
use tahoma_eqsat::facts::{EGraph, Fact, Facts};
use tahoma_eqsat::language::{AttrLeaf, Node, OpId};
use tahoma_eqsat::rules::sample::{Given, Sample};
use tahoma_eqsat::rules::{Rule, all, bindings, code, codes, merge, rewrites, texts};

type Expr = RecExpr<Node>;

struct Case {
    left: Expr,
    right: Expr,
    fired: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rules")
}

fn print(c: &Case) -> String {
    format!("left:  {}\nright: {}\nfired: {}\n", c.left, c.right, c.fired)
}

fn read(name: &str) -> Result<Case, String> {
    let text = std::fs::read_to_string(folder().join(format!("{name}.txt"))).map_err(|e| format!("{name}: {e}; run with BLESS=1"))?;
    let line = |key: &str| text.lines().find_map(|l| l.strip_prefix(key)).map(str::trim).ok_or(format!("{name}: no line {key}"));
    let parse = |key: &str| line(key)?.parse::<Expr>().map_err(|e| format!("{name}: {e}"));
    Ok(Case { left: parse("left:")?, right: parse("right:")?, fired: line("fired:")?.to_string() })
}

/// The e-graph of an expression as a program has it: every node is the source's.
fn egraph(left: &Expr) -> Result<(EGraph, Id), String> {
    let graph = expr_to_graph(left).map_err(|e| e.to_string())?;
    let b = to_egraph(&graph);
    let root = b.egraph.find(b.values[graph.outputs[0].value.index()]);
    Ok((b.egraph, root))
}

fn check(name: &str, rewrites: &[egg::Rewrite<Node, Facts>]) -> Result<(), String> {
    let c = read(name)?;
    let (g, root) = egraph(&c.left)?;
    let r = Runner::<Node, Facts>::new(Facts::default()).with_egraph(g).with_iter_limit(1).run(rewrites);
    let fired: BTreeSet<&str> =
        r.iterations.iter().flat_map(|i| i.applied.keys()).map(|k| k.as_str().split('@').next().unwrap_or("")).collect();
    let fired = fired.into_iter().collect::<Vec<_>>().join(" ");
    if let Some(fault) = r.egraph.analysis.faults.first() {
        return Err(format!("{name}: {fault}"));
    }
    if fired != c.fired {
        return Err(format!("{name}: fired `{fired}`, not `{}`", c.fired));
    }
    holds(name, &r.egraph, root, &c.right)
}

fn holds(name: &str, g: &EGraph, root: Id, right: &Expr) -> Result<(), String> {
    match g.lookup_expr(right) {
        Some(id) if g.find(id) == g.find(root) => Ok(()),
        Some(_) => Err(format!("{name}: the right side is not equal to the left")),
        None => Err(format!("{name}: the right side is not made: {right}")),
    }
}

/// A side of a rule with values for its variables.
fn instance(text: &str, s: &Sample, g: &EGraph, subst: Option<&Subst>) -> Result<Expr, String> {
    let pattern: egg::Pattern<Node> = text.parse().map_err(|e| format!("{e}"))?;
    let ast: &PatternAst<Node> = &pattern.ast;
    let mut e = Expr::default();
    let mut ids: Vec<Id> = vec![];
    for n in ast.as_ref() {
        ids.push(match n {
            ENodeOrVar::ENode(n) => e.add(n.clone().map_children(|c| ids[usize::from(c)])),
            ENodeOrVar::Var(v) => match s.given.get(&v.to_string()[1..]) {
                Some(Given::Leaf(l)) => e.add(Node::Leaf(l.clone())),
                Some(Given::Attr(a)) => e.add(Node::Attr(a.clone())),
                Some(Given::Constant(t)) => {
                    let a = e.add(Node::Attr(AttrLeaf::new(tahoma_core::Attr::from(t.clone()))));
                    e.add(Node::Op(OpId::of(tahoma_core::ops::CONSTANT), [a].into()))
                }
                None => match subst.and_then(|s| s.get(*v)).map(|&id| &g[id].data) {
                    Some(Fact::Attr(a)) => e.add(Node::Attr(a.clone())),
                    _ => return Err(format!("{v} has no value")),
                },
            },
        });
    }
    Ok(e)
}

/// The first drawing that types and for which the rule applies.
fn draw(rule: &'static Rule) -> Option<Case> {
    texts(rule).into_iter().flat_map(|t| (1..9).map(move |seed| (t.clone(), seed))).find_map(|((lhs, rhs), seed)| {
        let mut s = Sample::new(seed);
        (rule.sample)(&mut s);
        let left = instance(&lhs, &s, &EGraph::new(Facts::default()), None).ok()?;
        let (mut g, root) = egraph(&left).ok()?;
        let pattern: egg::Pattern<Node> = lhs.parse().ok()?;
        let substs = pattern.search_eclass(&g, root)?.substs;
        let subst = substs.iter().find_map(|s| bindings(rule, &mut g, root, s))?;
        let right = instance(&rhs, &s, &g, Some(&subst)).ok()?;
        Some(Case { left, right, fired: rule.name.into() })
    })
}

fn draw_code(c: &'static code::Code) -> Option<Case> {
    (1..9).find_map(|seed| {
        let left: Expr = (c.sample)(&mut Sample::new(seed)).parse().ok()?;
        let (mut g, root) = egraph(&left).ok()?;
        let node = g[root].nodes[0].clone();
        let new = (c.apply)(&mut code::Site::new(&mut g, c.name, []), &node)?;
        let right = Extractor::new(&g, egg::AstSize).find_best(new).1;
        Some(Case { left, right, fired: c.name.into() })
    })
}

const MERGED: &str = "(concat (matmul x:f32[2,3] a=f32[3,4]) (matmul x:f32[2,3] b=f32[3,2]) 1)";

/// Both products as slices of one.
fn merged() -> Case {
    let wide = "(matmul x:f32[2,3] (concat a=f32[3,4] b=f32[3,2] 1))";
    let right = format!("(concat (slice {wide} [0,0] [2,4] [1,1]) (slice {wide} [0,4] [2,2] [1,1]) 1)");
    Case { left: MERGED.parse().unwrap(), right: right.parse().unwrap(), fired: merge::NAME.into() }
}

#[test]
fn every_rule_does_what_its_file_says() {
    let mut names: BTreeSet<String> = BTreeSet::from([merge::NAME.to_string()]);
    let mut bad = vec![];
    let bless = std::env::var_os("BLESS").is_some();
    let put = |name: &str, case: Option<Case>| {
        let case = case.unwrap_or_else(|| panic!("{name}: no drawing applies"));
        std::fs::create_dir_all(folder()).unwrap();
        std::fs::write(folder().join(format!("{name}.txt")), print(&case)).unwrap();
    };
    for rule in all() {
        names.insert(rule.name.into());
        if bless {
            put(rule.name, draw(rule));
        }
        bad.extend(check(rule.name, &rewrites(rule).unwrap()).err());
    }
    for c in codes() {
        names.insert(c.name.into());
        if bless {
            put(c.name, draw_code(c));
        }
        bad.extend(check(c.name, &[code::rewrite(c).unwrap()]).err());
    }
    if bless {
        put(merge::NAME, Some(merged()));
    }
    let m = read(merge::NAME).unwrap();
    let (mut g, root) = egraph(&m.left).unwrap();
    assert_eq!(merge::apply(&mut g), 1);
    bad.extend(holds(merge::NAME, &g, root, &m.right).err());
    for entry in std::fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().trim_end_matches(".txt").to_string();
        if !names.contains(&name) {
            bad.push(format!("{name}: a file without a rule"));
        }
    }
    assert!(bad.is_empty(), "{} cases fail:\n{}", bad.len(), bad.join("\n"));
}
