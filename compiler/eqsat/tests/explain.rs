//! Explanations: every kernel has its nodes, every proof holds when replayed, and why-not answers with each of its verdicts.

use std::sync::Arc;
use tahoma_core::artifact::Numerics;
use tahoma_core::{Attrs, Builder, DType, Origin, Program, TensorType, ValueId};
use tahoma_eqsat::why_not::{Prices, Verdict, WhyNot, why_not};
use tahoma_eqsat::{Options, SM_90A, Search, TRN2, dump, explain, optimize, replay, search};
use tahoma_nets::{Size, encoder_layers, find};

/// A graph whose nodes are named by their ops and numbers: `relu1`.
struct Net(Builder, u32);

impl Net {
    fn new() -> Net {
        Net(Builder::new("main"), 0)
    }
    fn input(&mut self, name: &str, shape: &[usize]) -> ValueId {
        self.0.input(name, TensorType::known(DType::F32, shape))
    }
    fn weight(&mut self, name: &str, shape: &[usize]) -> ValueId {
        self.0.weight(name, TensorType::known(DType::F32, shape))
    }
    fn op(&mut self, name: &str, x: &[ValueId], attrs: Attrs) -> ValueId {
        self.1 += 1;
        let origin = Origin::Node { model: "m".into(), index: self.1, name: format!("{name}{}", self.1).into(), op: name.into() };
        self.0.set_origin(Arc::new(origin));
        self.0.op(name, x, attrs).unwrap_or_else(|e| panic!("{name}: {e}"))
    }
    fn finish(mut self, outputs: &[ValueId]) -> Program {
        for (i, &o) in outputs.iter().enumerate() {
            self.0.output(&format!("y{i}"), o);
        }
        Program::new(self.0.finish())
    }
}

fn a() -> Attrs {
    Attrs::new()
}

fn searched(p: &Program, options: &Options) -> Search {
    search(p, options).unwrap_or_else(|d| panic!("{d}"))
}

/// Explains a program; each kernel must say where it comes from, and each proof must hold. How many proofs there were.
fn holds(name: &str, p: &Program, options: &Options) -> usize {
    let s = searched(p, options);
    let e = explain::explain(&s, options, None).unwrap_or_else(|d| panic!("{name}: {d}"));
    assert_eq!(e.kernels.iter().map(|k| k.calls.len()).sum::<usize>(), s.report.launches, "{name}");
    assert_eq!(e.kernels.len(), s.report.functions, "{name}");
    for k in &e.kernels {
        assert!(k.calls.iter().all(|c| !c.is_empty()), "{name}: {k}");
        assert!(s.program.functions.contains_key(&k.name), "{name}: {k}");
    }
    // An unrolled recurrent network has values whose expressions share too much to be written out; that is told.
    let left_out = e.left_out();
    assert!(left_out.len() <= if name.starts_with("nasrnn") { 4 } else { 0 }, "{name}: {left_out:#?}");
    for l in left_out {
        assert!(l.why.contains("larger than 1200 nodes") && e.to_string().contains(&l.why), "{name}: {l:?}");
    }
    for p in e.proofs() {
        let c = replay::check(p, 7);
        assert!(c.wrong().is_none() && c.left_out.is_none(), "{name}: {c}\n{p}");
        assert_eq!(c.steps.len(), p.steps.len());
    }
    e.proofs().count()
}

#[test]
fn every_kernel_of_the_networks_is_explained_and_every_proof_holds() {
    let mut proofs = 0;
    for name in ["bert-base", "squeezenet", "vit-b16", "nasrnn", "llama3-8b-prefill", "llama3-8b-decode", "gpt-oss-20b-decode"] {
        let p = (find(name).unwrap().build)(Size::Reduced);
        for target in [&TRN2, &SM_90A] {
            proofs += holds(&format!("{name} for {}", target.name), &p, &Options::new(target));
        }
    }
    assert!(proofs > 30, "{proofs}");
}

#[test]
fn proofs_of_exact_programs_replay_with_equal_bits() {
    for name in ["bert-base", "vit-b16"] {
        let p = (find(name).unwrap().build)(Size::Reduced);
        holds(name, &p, &Options { numerics: Numerics::Exact, ..Options::new(&SM_90A) });
    }
}

#[test]
fn a_search_is_of_the_program_that_optimize_makes() {
    for p in [encoder_layers(9, Size::Reduced), (find("llama3-8b-decode").unwrap().build)(Size::Reduced)] {
        let o = Options::new(&SM_90A);
        let (q, r) = optimize(&p, &o).unwrap();
        let s = searched(&p, &o);
        assert_eq!((s.program, s.report.chosen_ns), (q.clone(), r.chosen_ns));
        let (with_proofs, r) = optimize(&p, &Options { proofs: true, ..o }).unwrap();
        assert_eq!(with_proofs, q);
        assert!(!r.proofs.is_empty());
    }
}

#[test]
fn equal_layers_are_explained_once_under_their_own_names() {
    let p = encoder_layers(9, Size::Reduced);
    let o = Options::new(&SM_90A);
    assert!(holds("9 layers", &p, &o) > 0);
    let mut s = searched(&p, &o);
    let layers = s.units.iter().map(|u| u.blocks.len()).max().unwrap();
    assert!(layers > 4, "{:?}", s.units.iter().map(|u| u.title()).collect::<Vec<_>>());
    let e = explain::explain(&s, &o, None).unwrap();
    let softmax = |c: &Vec<String>| c.iter().find(|n| n.contains("Softmax")).cloned();
    let k = e.kernels.iter().find(|k| k.calls.len() >= layers && k.calls.iter().all(|c| softmax(c).is_some())).expect("attentions");
    let mut names: Vec<String> = k.calls.iter().filter_map(softmax).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), k.calls.len(), "{names:?}");
    assert!(e.to_string().contains("equal stretches searched once"), "{e}");
    // Asked by the names of a later layer, the answer speaks of that layer.
    let w = why_not(&mut s, &o, "/layer.4/attention/Softmax", "/layer.4/attention/MatMul_1").unwrap();
    assert!(matches!(w.verdict, Verdict::Together { .. }), "{w}");
    assert!(w.notes.iter().any(|n| n.contains("equal stretches")), "{w}");
    let w = why_not(&mut s, &o, "/layer.4/attention/Softmax", "/layer.6/attention/Softmax").unwrap();
    assert!(matches!(&w.verdict, Verdict::Apart { reason } if reason.contains("stretches")), "{w}");
    let e = explain::explain(&s, &o, Some("k1")).unwrap();
    assert_eq!(e.kernels.len(), 1);
    assert_eq!(explain::explain(&s, &o, Some("k99")).unwrap_err().code, "E0701");
}

#[test]
fn small_kernels_in_one_launch_are_one_kernel_with_all_their_nodes() {
    let mut n = Net::new();
    let (x, y) = (n.input("x", &[4, 8]), n.input("y", &[4, 8]));
    let (p, q) = (n.op("relu", &[x], a()), n.op("exp", &[y], a()));
    let p = n.finish(&[p, q]);
    let o = Options::new(&SM_90A);
    let mut s = searched(&p, &o);
    assert_eq!(s.report.launches, 1);
    let e = explain::explain(&s, &o, None).unwrap();
    let [k] = e.kernels.as_slice() else { panic!("{e}") };
    assert_eq!((k.ops.as_str(), k.outputs.len()), ("relu | exp", 2));
    assert_eq!(k.calls[0].len(), 2, "{k}");
    assert!(k.alternatives.iter().any(|a| a.what == "a launch for each" && a.slower_ns > 0.0), "{k}");
    let w = why_not(&mut s, &o, "relu1", "exp2").unwrap();
    assert!(matches!(w.verdict, Verdict::Together { .. }), "{w}");
}

#[test]
fn proofs_know_what_is_known_of_given_values() {
    // The exponentials are an output, so the proof of the other output takes them as given: as values of which none is negative.
    let mut n = Net::new();
    let x = n.input("x", &[4, 6]);
    let e = n.op("exp", &[x], a());
    let r = n.op("reshape", &[e], a().with("shape", vec![6, 4]));
    let y = n.op("relu", &[r], a());
    let p = n.finish(&[e, y]);
    let o = Options::new(&SM_90A);
    assert!(holds("relu of exp", &p, &o) > 0);
    let e = explain::explain(&searched(&p, &o), &o, None).unwrap();
    let proof = e.proofs().find(|p| p.of == "relu3").unwrap_or_else(|| panic!("{e}"));
    assert!(proof.given.iter().any(|g| g.facts.contains("none negative")), "{e}");
    assert!(proof.rules().any(|r| r == "relu-of-non-negative"), "{e}");
}

fn ask(p: &Program, numerics: Numerics, x: &str, y: &str) -> WhyNot {
    let o = Options { numerics, ..Options::new(&SM_90A) };
    why_not(&mut searched(p, &o), &o, x, y).unwrap_or_else(|d| panic!("{d}"))
}

#[test]
fn why_not_together() {
    let mut n = Net::new();
    let x = n.input("x", &[4, 8]);
    let y = n.op("relu", &[x], a());
    let y = n.op("exp", &[y], a());
    let w = ask(&n.finish(&[y]), Numerics::Reassociate, "relu", "exp2");
    assert!(matches!(&w.verdict, Verdict::Together { kernel, .. } if kernel == "k0"), "{w}");
    assert_eq!((w.a.kernels.as_slice(), w.b.op.as_str()), (["k0".to_string()].as_slice(), "exp"));
}

#[test]
fn why_not_costs_more() {
    // The rows are an output too, so that a product that makes them again saves nothing.
    let mut n = Net::new();
    let (x, v) = (n.input("x", &[256, 256]), n.weight("v", &[256, 256]));
    let s = n.op("softmax", &[x], a().with("axis", 1));
    let y = n.op("matmul", &[s, v], a());
    let w = ask(&n.finish(&[s, y]), Numerics::Reassociate, "softmax", "matmul");
    let Verdict::CostsMore { more_ns, with: Prices { program_ns, chosen_ns, .. }, .. } = w.verdict else { panic!("{w}") };
    assert!(more_ns > 0.0 && (program_ns - chosen_ns - more_ns).abs() < 1e-6, "{w}");
    assert!(w.to_string().contains("more"), "{w}");
}

#[test]
fn why_not_no_kernel() {
    // Rows can be made before a product as its first operand alone.
    let mut n = Net::new();
    let (x, v) = (n.input("x", &[64, 8]), n.input("v", &[8, 8]));
    let s = n.op("softmax", &[v], a().with("axis", 1));
    let y = n.op("matmul", &[x, s], a());
    let w = ask(&n.finish(&[y]), Numerics::Reassociate, "softmax", "matmul");
    assert!(matches!(&w.verdict, Verdict::NoKernel { reason, .. } if reason.contains("no kernel form fits")), "{w}");
}

#[test]
fn why_not_a_rule_that_numerics_forbids() {
    // x·(A·B) is not (x·A)·B where every bit must stay.
    let mut n = Net::new();
    let (x, v, u) = (n.input("x", &[64, 8]), n.weight("v", &[8, 8]), n.weight("u", &[8, 8]));
    let y = n.op("matmul", &[x, v], a());
    let y = n.op("matmul", &[y, u], a());
    let p = n.finish(&[y]);
    let w = ask(&p, Numerics::Exact, "matmul1", "matmul2");
    let g = w.guards.iter().find(|g| g.rule == "matmul-of-weights-first").unwrap_or_else(|| panic!("{w}"));
    assert_eq!(g.why, "it needs --numerics reassociate");
    // The search takes no product into a product, and here that would cost less: said, not hidden.
    assert!(matches!(w.verdict, Verdict::Missed { less_ns, .. } if less_ns > 0.0), "{w}");
    let w = ask(&p, Numerics::Reassociate, "matmul1", "matmul2");
    assert!(w.guards.iter().all(|g| !g.why.contains("reassociate")), "{w}");
}

#[test]
fn why_not_a_guard_that_blocked() {
    // A transposed product is a product of transposes only where the last two axes are swapped.
    let mut n = Net::new();
    let (x, v) = (n.input("x", &[2, 4, 8]), n.input("v", &[2, 8, 4]));
    let y = n.op("matmul", &[x, v], a());
    let t = n.op("transpose", &[y], a().with("perm", vec![1, 0, 2]));
    let z = n.op("softmax", &[t], a().with("axis", 2));
    let w = ask(&n.finish(&[z]), Numerics::Reassociate, "matmul1", "softmax3");
    let g = w.guards.iter().find(|g| g.rule == "transpose-of-matmul").unwrap_or_else(|| panic!("{w}"));
    assert_eq!((g.why.as_str(), g.at.as_str()), ("its condition does not hold here", "transpose2"));
}

#[test]
fn why_not_apart() {
    let mut n = Net::new();
    let (x, y) = (n.input("x", &[4, 8]), n.input("y", &[3, 5]));
    let (p, q) = (n.op("relu", &[x], a()), n.op("exp", &[y], a()));
    let w = ask(&n.finish(&[p, q]), Numerics::Reassociate, "relu", "exp");
    assert!(matches!(w.verdict, Verdict::Apart { .. }), "{w}");
}

#[test]
fn unknown_names_are_told_with_near_ones() {
    let p = (find("bert-base").unwrap().build)(Size::Reduced);
    let o = Options::new(&SM_90A);
    let mut s = searched(&p, &o);
    let d = why_not(&mut s, &o, "/layer.0/attention/Sofmax", "Softmax").unwrap_err();
    assert_eq!(d.code, "E0701");
    assert!(d.to_string().contains("/layer.0/attention/Softmax"), "{d}");
    let one = why_not(&mut s, &o, "/layer.0/attention/Softmax", "/layer.0/attention/Softmax");
    assert!(one.is_err() || matches!(one, Ok(WhyNot { verdict: Verdict::Together { .. }, .. })));
}

fn small() -> Search {
    let mut n = Net::new();
    let (x, v) = (n.input("x", &[2, 3]), n.weight("v", &[3, 4]));
    let y = n.op("neg", &[x], a());
    let y = n.op("neg", &[y], a());
    let y = n.op("matmul", &[y, v], a());
    let y = n.op("relu", &[y], a());
    searched(&n.finish(&[y]), &Options::new(&SM_90A))
}

/// Without times: those change with the model of the machine.
fn untimed(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, at, end)) = rest.find(|c: char| c.is_ascii_digit()).map(|i| {
        let end = rest[i..].find(|c: char| !c.is_ascii_digit() && c != '.').map_or(rest.len(), |n| i + n);
        (&rest[..i], &rest[i..end], end)
    }) {
        let time = before.ends_with("ns=") || before.ends_with("chosen ") || rest[end..].starts_with(" us");
        out += before;
        out += if time { "T" } else { at };
        rest = &rest[end..];
    }
    out + rest
}

#[test]
fn dumps_are_the_same_every_time() {
    let (s, again) = (small(), small());
    assert_eq!(dump::text(&s), dump::text(&again));
    assert_eq!(dump::dot(&s), dump::dot(&again));
    insta::assert_snapshot!("egraph-text", untimed(&dump::text(&s)));
    insta::assert_snapshot!("egraph-dot", untimed(&dump::dot(&s)));
    let p = encoder_layers(9, Size::Reduced);
    let o = Options::new(&TRN2);
    let (a, b) = (searched(&p, &o), searched(&p, &o));
    assert_eq!(dump::text(&a), dump::text(&b));
    let dot = dump::dot(&a);
    assert_eq!(dot, dump::dot(&b));
    assert_eq!(dot.matches('{').count(), dot.matches('}').count());
}

#[test]
fn an_explanation_reads_like_this() {
    let s = small();
    let e = explain::explain(&s, &Options::new(&SM_90A), None).unwrap();
    insta::assert_snapshot!("explanation", untimed(&e.to_string()));
    assert_eq!(serde_json::to_value(&e).unwrap()["kernels"][0]["name"], "k0");
}
