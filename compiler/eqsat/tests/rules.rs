//! One file per rule in `tests/rules/`: an expression, and what the rule alone makes of it in one round. `BLESS=1` writes them anew.

use egg::{ENodeOrVar, Extractor, Id, Language, PatternAst, RecExpr, Runner, Searcher, Subst};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tahoma_core::eval::{Weights, run};
use tahoma_core::{Diagnostic, Program, Tensor, TensorType};
use tahoma_eqsat::bridge::{expr_to_graph, to_egraph};
use tahoma_eqsat::facts::{EGraph, Fact, Facts};
use tahoma_eqsat::language::{AttrLeaf, Node, OpId};
use tahoma_eqsat::rules::sample::{Given, Sample};
use tahoma_eqsat::rules::{Rule, SEVERAL, Several, all, bindings, code, codes, join_all, rewrites, stays_within, texts};

type Expr = RecExpr<Node>;

struct Named(BTreeMap<String, Tensor>);

impl Weights for Named {
    fn get(&self, name: &str) -> Result<Tensor, Diagnostic> {
        self.0.get(name).cloned().ok_or_else(|| Diagnostic::error("E0210", name))
    }
}

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
    let b = to_egraph(&graph, Facts::default());
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
                Some(Given::Computed(op, leaves)) => {
                    let ids = leaves.iter().map(|l| e.add(Node::Leaf(l.clone()))).collect();
                    e.add(Node::Op(*op, ids))
                }
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
        let right_pattern: egg::Pattern<Node> = rhs.parse().ok()?;
        if !stays_within(rule, &right_pattern.ast, &g, &subst) {
            return None;
        }
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

/// One case of each rule of several roots, and what must be equal to it.
fn several() -> Vec<Case> {
    let wide = "(matmul x:f32[2,3] (concat a=f32[3,4] b=f32[3,2] 1))";
    let matmuls = [
        "(concat (matmul x:f32[2,3] a=f32[3,4]) (matmul x:f32[2,3] b=f32[3,2]) 1)".to_string(),
        format!("(concat (slice {wide} [0,0] [2,4] [1,1]) (slice {wide} [0,4] [2,2] [1,1]) 1)"),
    ];
    // A kernel of 1×1 beside one of 3×3: zeros around it.
    let x = "x:f32[1,3,5,5]";
    let around = "(pad a=f32[2,3,1,1] [0,0,1,1] [0,0,1,1] [0,0,0,0] 0.0)";
    let wide = format!("(conv {x} (concat {around} b=f32[4,3,3,3] 0) [1,1] [1,1,1,1] [1,1] 1)");
    let (a, b) =
        (format!("(conv {x} a=f32[2,3,1,1] [1,1] [0,0,0,0] [1,1] 1)"), format!("(conv {x} b=f32[4,3,3,3] [1,1] [1,1,1,1] [1,1] 1)"));
    let part = |at: usize, n: usize| format!("(slice {wide} [0,{at},0,0] [1,{n},5,5] [1,1,1,1])");
    let convs = [format!("(concat {a} {b} 1)"), format!("(concat {} {} 1)", part(0, 2), part(2, 4))];
    // Two groups of two channels each as one of four.
    let block = |i: usize| {
        let w = "(reshape w=f32[4,2,3,3] [1,4,2,3,3])";
        format!("(pad (slice {w} [0,{},0,0,0] [1,2,2,3,3] [1,1,1,1,1]) [0,0,{},0,0] [0,0,{},0,0] [0,0,0,0,0] 0.0)", 2 * i, 2 * i, 2 - 2 * i)
    };
    let w = format!("(reshape (concat {} {} 1) [4,4,3,3])", block(0), block(1));
    let groups = [
        "(conv x:f32[1,4,5,5] w=f32[4,2,3,3] [1,1] [1,1,1,1] [1,1] 2)".to_string(),
        format!("(conv x:f32[1,4,5,5] {w} [1,1] [1,1,1,1] [1,1] 1)"),
    ];
    let sides = [matmuls, convs, groups];
    let case = |(r, [left, right]): (&Several, [String; 2])| Case {
        left: left.parse().unwrap_or_else(|e| panic!("{e}")),
        right: right.parse().unwrap_or_else(|e| panic!("{e}")),
        fired: r.name.into(),
    };
    assert_eq!(SEVERAL.len(), sides.len());
    SEVERAL.iter().zip(sides).map(case).collect()
}

/// Both sides of a case compute the same.
fn agree(c: &Case) {
    let mut s = Sample::new(5);
    let sides = [&c.left, &c.right].map(|e| expr_to_graph(e).unwrap_or_else(|e| panic!("{}: {e}", c.fired)));
    let leaves: BTreeMap<String, TensorType> = c
        .left
        .as_ref()
        .iter()
        .filter_map(|n| if let Node::Leaf(l) = n { Some((l.name.to_string(), l.ty.clone())) } else { None })
        .collect();
    let values: BTreeMap<String, Tensor> = leaves.iter().map(|(n, t)| (n.clone(), s.tensor(t))).collect();
    let [x, y] = sides.map(|g| {
        let inputs: Vec<Tensor> = g.inputs.iter().map(|p| values[&p.name].clone()).collect();
        run(&Program::new(g), "main", &inputs, &Named(values.clone())).unwrap().remove(0).to_f64s()
    });
    assert!(x.iter().zip(&y).all(|(a, b)| (a - b).abs() <= 2e-5 * (1.0 + a.abs())), "{}: {x:?} {y:?}", c.fired);
}

#[test]
fn every_rule_does_what_its_file_says() {
    let mut names: BTreeSet<String> = SEVERAL.iter().map(|r| r.name.to_string()).collect();
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
    for case in several() {
        agree(&case);
        let name = case.fired.clone();
        if bless {
            put(&name, Some(case));
        }
        let c = read(&name).unwrap();
        let (mut g, root) = egraph(&c.left).unwrap();
        assert!(join_all(&mut g).contains(&(&*name, 1)), "{name} did not fire once");
        bad.extend(holds(&name, &g, root, &c.right).err());
    }
    for entry in std::fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().trim_end_matches(".txt").to_string();
        if !names.contains(&name) {
            bad.push(format!("{name}: a file without a rule"));
        }
    }
    assert!(bad.is_empty(), "{} cases fail:\n{}", bad.len(), bad.join("\n"));
}
