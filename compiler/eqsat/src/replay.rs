//! Replaying a proof: every expression of its chain on the same random inputs, neighbours compared.
//!
//! ```text
//! exact              equal bits (NaN equals NaN)
//! reassociate, fast  |a − b| <= t · (max|b| + |b|)     max over the finite elements
//! ```
//!
//! What rules used of a given value (that no element is negative, say) is true of the inputs drawn for it.
//!
//! t is 1e-4 for f32 and f64 (fast: 2e-2), and four units of the last place for shorter types, as `verify` has it.

use crate::bridge::exprs_to_graph;
use crate::explain::class_name;
use crate::language::hash_of;
use crate::proof::{Given, Proof, class_of};
use crate::rules::sample::Sample;
use crate::values::Known;
use serde::Serialize;
use std::fmt;
use tahoma_core::artifact::Numerics;
use tahoma_core::eval::{Weights, run};
use tahoma_core::op::{Contract, Kind};
use tahoma_core::{DType, Diagnostic, Graph, Program, Tensor, TensorType};

/// Most operations and bytes of one replay.
const OPERATIONS: f64 = 4e11;
const BYTES: u64 = 4 << 30;

/// One step as replayed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepCheck {
    pub rule: String,
    pub class: Numerics,
    /// Largest |a − b| between the expression before the step and after it.
    #[serde(with = "tahoma_core::float")]
    pub largest: f64,
    pub agree: bool,
}

/// A replayed proof.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    pub of: String,
    pub kernels: Vec<String>,
    pub steps: Vec<StepCheck>,
    /// Why it was not replayed, where it was not.
    pub left_out: Option<String>,
}

impl Check {
    /// The first step whose sides differ.
    pub fn wrong(&self) -> Option<&StepCheck> {
        self.steps.iter().find(|s| !s.agree)
    }
}

struct Drawn<'p> {
    seed: u64,
    types: Vec<(String, TensorType)>,
    given: &'p [Given],
}

impl Drawn<'_> {
    /// Floats in (−2, 2) with some zeros and ones; everything else 0 or 1, which is an index into anything. Weights shrink with the
    /// root of how many products a result sums: else a softmax behind them magnifies the last place to a difference.
    fn tensor(&self, name: &str, ty: &TensorType, weight: bool) -> Tensor {
        let t = self.any(name, ty, weight);
        match self.given.iter().find(|g| g.name == name).map(|g| g.known) {
            Some(known) if known != Known::default() => known.obeyed(t),
            _ => t,
        }
    }
    fn any(&self, name: &str, ty: &TensorType, weight: bool) -> Tensor {
        let mut s = Sample::new(self.seed ^ hash_of(&name));
        let shape = ty.shape.to_static().unwrap_or_default();
        if ty.dtype.is_float() {
            let t = s.tensor(ty);
            let sums: usize = match shape.as_slice() {
                [.., k, _] if shape.len() <= 3 => *k,
                [_, rest @ ..] if shape.len() > 3 => rest.iter().product(),
                _ => 1,
            };
            if !weight || sums < 2 {
                return t;
            }
            let scale = 1.0 / (sums as f64).sqrt();
            return Tensor::from_f64s(ty.dtype, &shape, &t.to_f64s().iter().map(|v| v * scale).collect::<Vec<_>>());
        }
        let bits: Vec<i64> = (0..shape.iter().product()).map(|_| s.below(2) as i64).collect();
        Tensor::i64(&shape, bits).cast(ty.dtype)
    }
}

impl Weights for Drawn<'_> {
    fn get(&self, name: &str) -> Result<Tensor, Diagnostic> {
        let found = self.types.iter().find(|t| t.0 == name);
        found.map(|(n, ty)| self.tensor(n, ty, true)).ok_or_else(|| Diagnostic::error("E0210", format!("no weight {name:?}")))
    }
}

/// Operations of a graph, roughly, and the bytes of all its values.
fn size(g: &Graph) -> (f64, u64) {
    let elements = |v| g.ty(v).shape.elements().unwrap_or(0) as f64;
    let dim = |v, i: usize| g.ty(v).shape.0.get(i).and_then(|d| d.known()).unwrap_or(1).max(1) as f64;
    let work = g.nodes.iter().map(|n| {
        let out: f64 = n.results.iter().map(|&r| elements(r)).sum();
        match n.op.kind {
            Kind::Contract(Contract::MatMul) => 2.0 * out * dim(n.operands[0], g.ty(n.operands[0]).rank().saturating_sub(1)),
            Kind::Contract(Contract::Conv) => 2.0 * out * elements(n.operands[1]) / dim(n.operands[1], 0),
            _ => 10.0 * out,
        }
    });
    (work.sum(), g.types.iter().filter_map(|t| t.bytes()).sum())
}

/// Largest difference, and whether all elements are within the tolerance of the class.
fn compare(class: Numerics, a: &Tensor, b: &Tensor) -> (f64, bool) {
    if a.ty() != b.ty() {
        return (f64::INFINITY, false);
    }
    if a.to_bytes() == b.to_bytes() {
        return (0.0, true);
    }
    let (x, y) = (a.to_f64s(), b.to_f64s());
    let top = y.iter().filter(|v| v.is_finite()).fold(0.0f64, |m, v| m.max(v.abs()));
    let t = match (class, b.dtype()) {
        (Numerics::Exact, _) => 0.0,
        (_, d) if !d.is_float() => 0.0,
        (Numerics::Fast, _) => 2e-2f64.max(units(b.dtype())),
        (_, d) => units(d),
    };
    let (mut largest, mut agree) = (0.0f64, true);
    for (p, q) in x.iter().zip(&y) {
        // Zeros of either sign are one value, but for an exact step they are not the same bits.
        let same = if class == Numerics::Exact { p.to_bits() == q.to_bits() } else { p == q };
        if same || (p.is_nan() && q.is_nan()) {
            continue;
        }
        let e = if (p - q).is_finite() { (p - q).abs() } else { f64::INFINITY };
        largest = largest.max(e);
        agree &= e.is_finite() && class != Numerics::Exact && e <= t * (top + q.abs());
    }
    (largest, agree)
}

fn units(d: DType) -> f64 {
    match d {
        DType::F64 | DType::F32 => 1e-4,
        DType::TF32 | DType::F16 => 2f64.powi(-8),
        DType::BF16 => 2f64.powi(-5),
        _ => 0.5,
    }
}

/// Replays a proof on inputs drawn from `seed`.
pub fn check(p: &Proof, seed: u64) -> Check {
    let mut out = Check { of: p.of.clone(), kernels: p.kernels.clone(), steps: vec![], left_out: None };
    match values(p, seed) {
        Ok(values) => {
            for (s, w) in p.steps.iter().zip(values.windows(2)) {
                let class = class_of(&s.rule);
                let (largest, agree) = compare(class, &w[1], &w[0]);
                out.steps.push(StepCheck { rule: s.rule.clone(), class, largest, agree });
            }
        }
        Err(why) => out.left_out = Some(why),
    }
    out
}

/// The value of every expression of the chain. What neighbours share is computed once.
fn values(p: &Proof, seed: u64) -> Result<Vec<Tensor>, String> {
    let graph = exprs_to_graph(&p.terms.expr, &p.terms.roots, "step").map_err(|e| e.to_string())?;
    let (work, bytes) = size(&graph);
    if work > OPERATIONS || bytes > BYTES {
        return Err(format!("a replay takes {:.0} G operations and {:.1} GB, more than is allowed", work / 1e9, bytes as f64 / 1e9));
    }
    let weights = graph.nodes.iter().filter(|n| n.op.name == "weight");
    let types = weights.map(|n| (n.attrs.str("name").unwrap_or_default().to_string(), graph.ty(n.results[0]).clone())).collect();
    let drawn = Drawn { seed, types, given: &p.given };
    let inputs: Vec<Tensor> = graph.inputs.iter().map(|i| drawn.tensor(&i.name, graph.ty(i.value), false)).collect();
    run(&Program::new(graph), "main", &inputs, &drawn).map_err(|e| e.message)
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let kernels = if self.kernels.is_empty() { String::new() } else { format!("  ({})", self.kernels.join(", ")) };
        match (&self.left_out, self.wrong()) {
            (Some(why), _) => writeln!(f, "not replayed {:?}{kernels}: {why}", self.of)?,
            (None, None) => writeln!(f, "holds   {:?}{kernels}", self.of)?,
            (None, Some(s)) => writeln!(f, "WRONG   {:?}{kernels}: rule {}", self.of, s.rule)?,
        }
        for (i, s) in self.steps.iter().enumerate() {
            let verdict = if s.agree { "agrees " } else { "DIFFERS" };
            writeln!(f, "  {:>2}. {verdict}  {:<28} {:<12} largest difference {:.3e}", i + 1, s.rule, class_name(s.class), s.largest)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::{Node, OpId};
    use crate::proof::{Means, Terms, derive};
    use crate::rules::{Rule, rewrites};

    fn proof(rule: &'static Rule, before: &str, after: &str) -> Proof {
        let mut terms = Terms::default();
        let mut put = |text: &str| {
            let e: egg::RecExpr<Node> = text.parse().expect("the text is an expression");
            let mut ids: Vec<egg::Id> = vec![];
            for n in e.as_ref() {
                let n = egg::Language::map_children(n.clone(), |c| ids[usize::from(c)]);
                ids.push(terms.add(n));
            }
            ids[ids.len() - 1]
        };
        let (a, b) = (put(before), put(after));
        let rewrites = rewrites(rule).expect("the rule fits");
        let mut means = Means { rewrites: rewrites.iter().collect(), former: None, merge: false };
        let (steps, terms) = derive(&terms, [a, b], &[], &[], &mut means).expect("there is a chain");
        Proof { of: "y".into(), kernels: vec![], text: Default::default(), steps, given: vec![], terms }
    }

    const fn rule(name: &'static str, lhs: &'static str, rhs: &'static str) -> Rule {
        Rule { name, class: Numerics::Exact, lhs, rhs, when: None, doc: "", sample: |_| {} }
    }

    #[test]
    fn a_wrong_rule_is_caught_and_named() {
        static WRONG: Rule = rule("add-is-sub", "(add ?x ?y)", "(sub ?x ?y)");
        let p = proof(&WRONG, "(relu (add x:f32[3,4] y:f32[3,4]))", "(relu (sub x:f32[3,4] y:f32[3,4]))");
        let c = check(&p, 1);
        assert_eq!(c.wrong().map(|s| &*s.rule), Some("add-is-sub"), "{c}");
        assert!(c.to_string().contains("DIFFERS"), "{c}");
    }

    #[test]
    fn a_right_rule_holds() {
        static RIGHT: Rule = rule("neg-twice", "(neg (neg ?x))", "?x");
        let p = proof(&RIGHT, "(relu (neg (neg x:f32[3,4])))", "(relu x:f32[3,4])");
        let c = check(&p, 1);
        assert!(c.wrong().is_none() && c.left_out.is_none() && c.steps.len() == 1, "{c}");
        assert_eq!(check(&p, 1), c);
    }

    #[test]
    fn a_tampered_proof_is_caught_at_every_step() {
        let p = (tahoma_nets::find("bert-base").expect("a network").build)(tahoma_nets::Size::Reduced);
        let options = crate::Options::new(&crate::SM_90A);
        let s = crate::search(&p, &options).expect("a search");
        let e = crate::explain::explain(&s, &options, None).expect("an explanation");
        let mut tampered = 0;
        for p in e.proofs() {
            assert!(check(p, 3).wrong().is_none());
            for k in 0..p.steps.len() {
                let mut bad = p.clone();
                let after = bad.terms.roots[k + 1];
                let neg = OpId::named("neg").expect("an op");
                bad.terms.roots[k + 1] = bad.terms.add(Node::Op(neg, [after].into()));
                let c = check(&bad, 3);
                assert_eq!(c.steps.iter().position(|s| !s.agree), Some(k), "{c}");
                tampered += 1;
            }
        }
        assert!(tampered > 10, "{tampered}");
    }
}
