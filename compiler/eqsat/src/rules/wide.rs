//! Convolutions that share an input become one, and convolutions in many groups one of fewer: rules of several roots or with recipes too
//! long for a row. TASO (Jia et al. 2019) derives the same as "merge two convolutions with shared input" (with 1×1 kernels enlarged by zeros)
//! and "merge grouped convolutions".
//!
//! ```text
//! conv(x, A) + a,  conv(x, B) + b,  …   =>   y = conv(x, [A|B|…]) + [a|b|…],  then slices of y along the channels
//! conv(x, W) in g groups                =>   conv(x, block-diagonal W) in g/f groups
//! ```
//!
//! The weights are recipes. Sums gain zeros and a back end may tile the wider convolution differently: the class is `Reassociate`.

use super::{Rule, Several};
use crate::bridge::fuse;
use crate::facts::{EGraph, Fact, Made};
use crate::language::{AttrLeaf, Node, OpId};
use egg::Id;
use std::collections::BTreeMap;
use tahoma_core::artifact::Numerics::{Exact, Reassociate};
use tahoma_core::{Attr, DType};

pub const MERGE: Several = Several {
    name: "merge-shared-conv",
    sides: ["(conv x A), (conv x B), …", "(slice (conv x (concat A B … 0)) …), …"],
    doc: "Convolutions of one input with equal strides are one with the channels of all; smaller kernels are enlarged by zeros around them \
          (TASO, Jia et al. 2019). Biases are joined too where all have one.",
};
pub const GROUPS: Several = Several {
    name: "merge-conv-groups",
    sides: ["(conv x W … g)", "(conv x (block-diagonal W) … g/f)"],
    doc: "Every f groups of a convolution as one, with zeros where a channel belonged to another group: more flops in fuller tiles.",
};
/// Most convolutions joined at once.
const MOST: usize = 8;
/// Output channels of a group at which groups are wide enough, and most groups joined into one.
const WIDE: i64 = 32;
const JOINED: i64 = 8;

/// A convolution of the source with weights that are known at load.
#[derive(Clone)]
struct Conv {
    class: Id,
    x: Id,
    weight: Id,
    bias: Option<Id>,
    /// `[M, C / groups, kh, kw]`.
    w: Vec<i64>,
    strides: Vec<i64>,
    pads: Vec<i64>,
    groups: i64,
    dtype: DType,
}

fn conv(g: &EGraph, class: Id, n: &Node) -> Option<Conv> {
    let Node::Op(op, c) = n else { return None };
    let source = g.analysis.made.get(n).is_some_and(|m| m.rule.is_none());
    let fixed = |id: Id| g[id].data.value().is_some_and(|v| v.fixed);
    if op.def().name != "conv" || !source || fixed(c[0]) || !fixed(c[1]) {
        return None;
    }
    let ints = |id: Id| if let Some(Attr::Ints(v)) = g[id].data.attr() { Some(v.clone()) } else { None };
    let value = g[c[1]].data.value()?;
    let w: Vec<i64> = value.ty.shape.to_static()?.iter().map(|&n| n as i64).collect();
    let groups = if let Some(Attr::Int(n)) = g[c[5]].data.attr() { *n } else { return None };
    let (strides, pads, dilations) = (ints(c[2])?, ints(c[3])?, ints(c[4])?);
    let plain = w.len() == 4 && dilations.iter().all(|&d| d == 1);
    plain.then(|| Conv { class, x: g.find(c[0]), weight: g.find(c[1]), bias: None, w, strides, pads, groups, dtype: value.ty.dtype })
}

/// Convolutions of the e-graph in order, bare and with a bias per channel.
fn convs(g: &EGraph) -> Vec<Conv> {
    let mut ids: Vec<Id> = g.classes().map(|c| c.id).collect();
    ids.sort_unstable();
    let mut out = vec![];
    for id in ids {
        for n in &g[id].nodes {
            out.extend(conv(g, id, n));
            let Node::Op(op, c) = n else { continue };
            let Some(v) = g[c.get(1).copied().unwrap_or(id)].data.value().filter(|_| op.def().name == "add") else { continue };
            let Some(d) = v.ty.shape.to_static().filter(|_| v.fixed) else { continue };
            let inner = g[c[0]].nodes.iter().filter_map(|n| conv(g, id, n));
            out.extend(inner.filter(|k| d == [k.w[0] as usize, 1, 1]).map(|k| Conv { bias: Some(g.find(c[1])), ..k }));
        }
    }
    out
}

/// Builds recipes and records who made them.
struct Maker<'a> {
    g: &'a mut EGraph,
    made: Made,
}

impl Maker<'_> {
    fn new<'a>(g: &'a mut EGraph, name: &'static str, of: &[Id]) -> Maker<'a> {
        let origins = of.iter().flat_map(|&c| g[c].nodes.iter().filter_map(|n| g.analysis.made.get(n)).map(|m| m.origin.clone()).take(1));
        let made = Made { rule: Some(name), origin: fuse(name, origins) };
        g.analysis.rule = name;
        Maker { g, made }
    }
    fn op(&mut self, op: &str, operands: &[Id], attrs: Vec<Attr>) -> Option<Id> {
        let mut c = operands.to_vec();
        for a in attrs {
            c.push(self.g.add(Node::Attr(AttrLeaf::new(a))));
        }
        let node = Node::Op(OpId::named(op)?, c.into());
        if self.g.lookup(node.clone()).is_none() {
            self.g.analysis.record(node.clone(), self.made.clone());
        }
        Some(self.g.add(node))
    }
    fn dims(&self, id: Id) -> Option<Vec<i64>> {
        Some(self.g[id].data.value()?.ty.shape.to_static()?.iter().map(|&n| n as i64).collect())
    }
    fn slice(&mut self, x: Id, axis: usize, start: i64, size: i64) -> Option<Id> {
        let mut sizes = self.dims(x)?;
        let (mut starts, steps) = (vec![0; sizes.len()], vec![1; sizes.len()]);
        (starts[axis], sizes[axis]) = (start, size);
        self.op("slice", &[x], vec![Attr::Ints(starts), Attr::Ints(sizes), Attr::Ints(steps)])
    }
    fn pad(&mut self, x: Id, low: Vec<i64>, high: Vec<i64>) -> Option<Id> {
        let none = vec![0; low.len()];
        self.op("pad", &[x], vec![Attr::Ints(low), Attr::Ints(high), Attr::Ints(none), Attr::from(0.0)])
    }
    fn conv(&mut self, x: Id, w: Id, like: &Conv, pads: Vec<i64>, groups: i64) -> Option<Id> {
        let attrs = vec![Attr::Ints(like.strides.clone()), Attr::Ints(pads), Attr::Ints(vec![1; 2]), Attr::Int(groups)];
        self.op("conv", &[x, w], attrs)
    }
    fn equal(&mut self, old: Id, new: Id, name: &'static str) {
        match (&self.g[new].data, &self.g[old].data) {
            (Fact::Value(a), Fact::Value(b)) if a.ty == b.ty => {
                self.g.union_trusted(old, new, name);
            }
            (Fact::Value(a), Fact::Value(b)) => {
                let (a, b) = (a.ty.clone(), b.ty.clone());
                self.g.analysis.fault(&b, &a);
            }
            _ => {}
        }
    }
}

/// Pads of a convolution whose kernel is enlarged to `kernel` around its centre.
fn enlarged(c: &Conv, kernel: [i64; 2]) -> Option<Vec<i64>> {
    let extra = [kernel[0] - c.w[2], kernel[1] - c.w[3]];
    let even = extra.iter().all(|e| *e >= 0 && e % 2 == 0);
    even.then(|| around(&c.pads, extra.map(|e| e / 2)))
}

/// Joins convolutions of one input; their kernels are enlarged to the largest.
fn merge(g: &mut EGraph, members: &[Conv]) -> Option<()> {
    let kernel = [2, 3].map(|a| members.iter().map(|m| m.w[a]).max().unwrap_or(1));
    let first = members.first()?;
    let pads = enlarged(first, kernel)?;
    let classes: Vec<Id> = members.iter().map(|m| m.class).collect();
    let mut make = Maker::new(g, MERGE.name, &classes);
    let mut weights = vec![];
    for m in members {
        let around: Vec<i64> = [0, 0].into_iter().chain([0, 1].map(|a| (kernel[a] - m.w[a + 2]) / 2)).collect();
        weights.push(if around.iter().all(|&a| a == 0) { m.weight } else { make.pad(m.weight, around.clone(), around)? });
    }
    let wide = make.op("concat", &weights, vec![Attr::Int(0)])?;
    let mut y = make.conv(first.x, wide, first, pads, 1)?;
    if let Some(biases) = members.iter().map(|m| m.bias).collect::<Option<Vec<Id>>>() {
        let bias = make.op("concat", &biases, vec![Attr::Int(0)])?;
        y = make.op("add", &[y, bias], vec![])?;
    }
    let mut start = 0;
    for m in members {
        let part = make.slice(y, 1, start, m.w[0])?;
        make.equal(m.class, part, MERGE.name);
        start += m.w[0];
    }
    Some(())
}

/// Joins every `f` groups of a convolution into one, with zeros where a channel belonged to another group.
fn fewer_groups(g: &mut EGraph, c: &Conv, f: i64) -> Option<()> {
    let [m, n, kh, kw] = c.w[..] else { return None };
    let (groups, each) = (c.groups / f, m / c.groups);
    let mut make = Maker::new(g, GROUPS.name, &[c.class]);
    let split = make.op("reshape", &[c.weight], vec![Attr::Ints(vec![groups, f * each, n, kh, kw])])?;
    let mut blocks = vec![];
    for i in 0..f {
        let block = make.slice(split, 1, i * each, each)?;
        blocks.push(make.pad(block, vec![0, 0, i * n, 0, 0], vec![0, 0, (f - 1 - i) * n, 0, 0])?);
    }
    let joined = make.op("concat", &blocks, vec![Attr::Int(1)])?;
    let w = make.op("reshape", &[joined], vec![Attr::Ints(vec![m, f * n, kh, kw])])?;
    let y = make.conv(c.x, w, c, c.pads.clone(), groups)?;
    make.equal(c.class, y, GROUPS.name);
    Some(())
}

/// Applies both rules everywhere once; how often each fired, by name.
pub fn apply(g: &mut EGraph) -> [(&'static str, usize); 2] {
    let all = convs(g);
    let mut shared: BTreeMap<(Id, bool, Vec<i64>, DType), Vec<Conv>> = BTreeMap::new();
    for c in all.iter().filter(|c| c.groups == 1) {
        let group = shared.entry((c.x, c.bias.is_some(), c.strides.clone(), c.dtype)).or_default();
        if group.iter().all(|o| o.weight != c.weight || o.bias != c.bias) {
            group.push(c.clone());
        }
    }
    let (mut merged, mut joined) = (0, 0);
    for group in shared.into_values() {
        // Those of one kernel, and all that fit one enlarged kernel.
        let mut sets: Vec<Vec<Conv>> = vec![];
        let kernels: std::collections::BTreeSet<[i64; 2]> = group.iter().map(|c| [c.w[2], c.w[3]]).collect();
        for &kernel in &kernels {
            let mut by_pads: BTreeMap<Vec<i64>, [Vec<Conv>; 2]> = BTreeMap::new();
            for c in &group {
                let Some(pads) = enlarged(c, kernel) else { continue };
                let [same, any] = by_pads.entry(pads).or_default();
                if [c.w[2], c.w[3]] == kernel {
                    same.push(c.clone());
                }
                any.push(c.clone());
            }
            for [same, any] in by_pads.into_values() {
                if any.len() > same.len() && !same.is_empty() {
                    sets.push(any);
                }
                sets.push(same);
            }
        }
        for set in sets.iter().filter(|s| s.len() > 1 && s.len() <= MOST) {
            merged += usize::from(merge(g, set).is_some());
        }
    }
    for c in all.iter().filter(|c| c.bias.is_none() && c.groups > 1 && c.w[1] > 1) {
        let each = c.w[0] / c.groups;
        let fits = |f: &i64| c.groups % f == 0 && *f <= JOINED && f * each <= WIDE;
        for f in (1..=3).map(|i| 1 << i).filter(fits) {
            joined += usize::from(fewer_groups(g, c, f).is_some());
        }
    }
    g.rebuild();
    [(MERGE.name, merged), (GROUPS.name, joined)]
}

/// How far a kernel grows to either side where another is larger.
fn grown(w: &[i64], other: &[i64]) -> [i64; 2] {
    [2, 3].map(|i| (other[i].max(w[i]) - w[i]) / 2)
}

/// Pads of a convolution whose kernel grows so far.
fn around(pads: &[i64], grown: [i64; 2]) -> Vec<i64> {
    pads.iter().enumerate().map(|(i, p)| p + grown[i % 2]).collect()
}

pub(super) static RULES: &[Rule] = &[
    Rule {
        name: "sum-of-matmuls",
        class: Reassociate,
        lhs: "(add (matmul ?x ?a) (matmul ?y ?b))",
        rhs: "(matmul (concat ?x ?y ?k) (concat ?a ?b ?z))",
        when: Some(|m| {
            let (x, y, a, b) = (m.dims("x")?, m.dims("y")?, m.dims("a")?, m.dims("b")?);
            m.bind("k", x.len() as i64 - 1);
            m.bind("z", 0);
            let rows = x.split_last()?.1 == y.split_last()?.1;
            Some(
                rows && a.len() == 2
                    && b.len() == 2
                    && a[1] == b[1]
                    && m.fixed("a")?
                    && m.fixed("b")?
                    && !(m.fixed("x")? && m.fixed("y")?),
            )
        }),
        doc: "x·A + y·B = [x|y]·[A;B]: one contraction of the same flops (Yang et al. 2021, for NasRNN).",
        sample: |s| {
            let (m, i, j, n) = (s.dim(), s.dim(), s.dim(), s.dim());
            s.input("x", &[m, i]);
            s.input("y", &[m, j]);
            s.weight("a", &[i, n]);
            s.weight("b", &[j, n]);
        },
    },
    Rule {
        name: "sum-of-convs",
        class: Reassociate,
        lhs: "(add (conv ?x ?a ?s ?p ?d ?g) (conv ?y ?b ?s ?p ?d ?g))",
        rhs: "(conv (concat ?x ?y ?k) (concat ?a ?b ?k) ?s ?p ?d ?g)",
        when: Some(|m| {
            let (x, y, a, b) = (m.dims("x")?, m.dims("y")?, m.dims("a")?, m.dims("b")?);
            m.bind("k", 1);
            let fits = x[0] == y[0] && x[2..] == y[2..] && a[0] == b[0] && a[2..] == b[2..];
            Some(fits && m.int("g")? == 1 && m.fixed("a")? && m.fixed("b")? && !(m.fixed("x")? && m.fixed("y")?))
        }),
        doc: "The same for convolutions, with the input channels side by side (a rule of TASO's).",
        sample: |s| {
            let (n, c, e, m) = (s.dim(), s.dim(), s.dim(), s.dim());
            let (h, w) = (2 + s.dim(), 2 + s.dim());
            s.input("x", &[n, c, h, w]);
            s.input("y", &[n, e, h, w]);
            s.weight("a", &[m, c, 3, 2]);
            s.weight("b", &[m, e, 3, 2]);
            s.attr("s", vec![1, 2]);
            s.attr("p", vec![1, 0, 1, 1]);
            s.attr("d", vec![1, 1]);
            s.attr("g", 1);
        },
    },
    Rule {
        name: "concat-of-depthwise",
        class: Reassociate,
        lhs: "(concat (conv ?x ?a ?s ?p ?d ?g) (conv ?y ?b ?s ?p ?d ?h) ?k)",
        rhs: "(conv (concat ?x ?y ?k) (concat ?a ?b ?z) ?s ?p ?d ?m)",
        when: Some(|m| {
            let (x, y, a, b) = (m.dims("x")?, m.dims("y")?, m.dims("a")?, m.dims("b")?);
            let (g, h) = (m.int("g")?, m.int("h")?);
            m.bind("z", 0);
            m.bind("m", g + h);
            let depthwise = a[1] == 1 && b[1] == 1 && a[0] == g && b[0] == h && g > 1 && h > 1;
            let fits = x[0] == y[0] && x[2..] == y[2..] && a[2..] == b[2..] && m.int("k")? == 1;
            Some(depthwise && fits && m.fixed("a")? && m.fixed("b")? && !(m.fixed("x")? && m.fixed("y")?))
        }),
        doc: "Channels of depthwise convolutions do not meet: two are one over the channels of both.",
        sample: |s| {
            let (n, c, e) = (s.dim(), 1 + s.dim(), 1 + s.dim());
            let (h, w) = (2 + s.dim(), 2 + s.dim());
            s.input("x", &[n, c, h, w]);
            s.input("y", &[n, e, h, w]);
            s.weight("a", &[c, 1, 3, 2]);
            s.weight("b", &[e, 1, 3, 2]);
            s.attr("s", vec![1, 2]);
            s.attr("p", vec![1, 0, 1, 1]);
            s.attr("d", vec![1, 1]);
            s.attr("g", c as i64);
            s.attr("h", e as i64);
            s.attr("k", 1);
        },
    },
    Rule {
        name: "concat-of-depthwise-enlarged",
        class: Reassociate,
        lhs: "(concat (conv ?x ?a ?s ?p ?d ?g) (conv ?y ?b ?s ?q ?d ?h) ?k)",
        rhs: "(conv (concat ?x ?y ?k) (concat (pad ?a ?l ?l ?i ?f) (pad ?b ?u ?u ?i ?f) ?z) ?s ?r ?d ?m)",
        when: Some(|m| {
            let (x, y, a, b) = (m.dims("x")?, m.dims("y")?, m.dims("a")?, m.dims("b")?);
            let (g, h, p, q) = (m.int("g")?, m.int("h")?, m.ints("p")?.to_vec(), m.ints("q")?.to_vec());
            let depthwise = a[1] == 1 && b[1] == 1 && a[0] == g && b[0] == h && g > 1 && h > 1;
            if !depthwise || a.len() != 4 || b.len() != 4 || a[2..] == b[2..] || m.ints("d")?.iter().any(|&d| d != 1) {
                return Some(false);
            }
            let even = [2, 3].iter().all(|&i| (a[i] - b[i]) % 2 == 0);
            let (l, u) = (grown(&a, &b), grown(&b, &a));
            let fits = even && around(&p, l) == around(&q, u) && x[0] == y[0] && x[2..] == y[2..] && m.int("k")? == 1;
            m.bind("r", around(&p, l));
            m.bind("l", vec![0, 0, l[0], l[1]]);
            m.bind("u", vec![0, 0, u[0], u[1]]);
            m.bind("i", vec![0, 0, 0, 0]);
            m.bind("f", 0.0);
            m.bind("z", 0);
            m.bind("m", g + h);
            Some(fits && m.fixed("a")? && m.fixed("b")? && !(m.fixed("x")? && m.fixed("y")?))
        }),
        doc: "The same where one kernel is smaller: zeros around it.",
        sample: |s| {
            let (n, c, e) = (s.dim(), 1 + s.dim(), 1 + s.dim());
            let (h, w) = (4 + s.dim(), 4 + s.dim());
            s.input("x", &[n, c, h, w]);
            s.input("y", &[n, e, h, w]);
            s.weight("a", &[c, 1, 3, 3]);
            s.weight("b", &[e, 1, 5, 5]);
            s.attr("s", vec![1, 2]);
            s.attr("p", vec![1, 1, 1, 1]);
            s.attr("q", vec![2, 2, 2, 2]);
            s.attr("d", vec![1, 1]);
            s.attr("g", c as i64);
            s.attr("h", e as i64);
            s.attr("k", 1);
        },
    },
    Rule {
        name: "shared-depthwise-into-pointwise",
        class: Reassociate,
        lhs: "(conv (concat (conv ?x ?a ?s ?p ?d ?g) (conv ?x ?b ?s ?q ?d ?g) ?k) ?w ?t ?o ?e ?h)",
        rhs: "(conv (conv ?x (reshape (concat (pad ?a ?l ?l ?i ?f) (pad ?b ?u ?u ?i ?f) ?k) ?n) ?s ?r ?d ?g) \
              (reshape (transpose (reshape ?w ?j) ?y) ?v) ?t ?o ?e ?h)",
        when: Some(|m| {
            let (a, b, w, g) = (m.dims("a")?, m.dims("b")?, m.dims("w")?, m.int("g")?);
            if a.len() != 4 || b.len() != 4 || a[..2] != [g, 1] || b[..2] != [g, 1] || g < 2 || m.int("h")? != 1 || m.int("k")? != 1 {
                return Some(false);
            }
            let (l, u) = (grown(&a, &b), grown(&b, &a));
            let (p, q) = (around(m.ints("p")?, l), around(m.ints("q")?, u));
            let even = [2, 3].iter().all(|&i| (a[i] - b[i]) % 2 == 0);
            let whole = m.ints("d")?.iter().all(|&d| d == 1) || a == b;
            let fits = even && whole && p == q && m.fixed("a")? && m.fixed("b")? && m.fixed("w")? && !m.fixed("x")?;
            m.bind("r", p);
            m.bind("l", vec![0, 0, l[0], l[1]]);
            m.bind("u", vec![0, 0, u[0], u[1]]);
            m.bind("i", vec![0, 0, 0, 0]);
            m.bind("f", 0.0);
            m.bind("n", vec![2 * g, 1, a[2] + 2 * l[0], a[3] + 2 * l[1]]);
            m.bind("j", vec![w[0], 2, g, w[2], w[3]]);
            m.bind("y", vec![0, 2, 1, 3, 4]);
            m.bind("v", w);
            Some(fits)
        }),
        doc: "Two depthwise convolutions of one input are one that makes two channels of each; those of a channel lie side by side, so the \
              convolution that reads both takes its input channels in that order. The smaller kernel gets zeros around it.",
        sample: |s| {
            let (n, c, o) = (s.dim(), 1 + s.dim(), s.dim());
            let (h, w) = (4 + s.dim(), 4 + s.dim());
            let (small, large) = ((3, 1), (5, 2));
            let (a, b) = [(small, large), (large, small), (small, small)][s.below(3)];
            s.input("x", &[n, c, h, w]);
            for (v, pads, (k, around)) in [("a", "p", a), ("b", "q", b)] {
                s.weight(v, &[c, 1, k, k]);
                s.attr(pads, vec![around; 4]);
            }
            s.weight("w", &[o, 2 * c, 1, 1]);
            s.attr("s", vec![1, 2]);
            s.attr("d", vec![1, 1]);
            s.attr("g", c as i64);
            s.attr("k", 1);
            s.attr("t", vec![1, 1]);
            s.attr("o", vec![0; 4]);
            s.attr("e", vec![1, 1]);
            s.attr("h", 1);
        },
    },
    Rule {
        name: "binary-before-slice",
        class: Exact,
        lhs: "({binary} (slice ?x ?a ?z ?t) (slice ?y ?a ?z ?t))",
        rhs: "(slice ({binary} ?x ?y) ?a ?z ?t)",
        when: Some(|m| Some(m.ty("x")? == m.ty("y")? && (m.ty("x")?.dtype.is_float() || !m.divides()))),
        doc: "Equal parts of two tensors, combined, are that part of the tensors combined. (Integers are not divided that nobody asked for.)",
        sample: |s| {
            slice_sample(s);
            if let Some(super::sample::Given::Leaf(l)) = s.given.get("x") {
                let shape = l.ty.shape.to_static().unwrap_or_default();
                s.input("y", &shape);
            }
        },
    },
    Rule {
        name: "unary-before-slice",
        class: Exact,
        lhs: "({unary} (slice ?x ?a ?z ?t))",
        rhs: "(slice ({unary} ?x) ?a ?z ?t)",
        when: None,
        doc: "A part of f(x) is f of that part: parts that all take the same f are made at once.",
        sample: slice_sample,
    },
    Rule {
        name: "relu-before-slice",
        class: Exact,
        lhs: "(relu (slice ?x ?a ?z ?t))",
        rhs: "(slice (relu ?x) ?a ?z ?t)",
        when: None,
        doc: "The same for relu.",
        sample: slice_sample,
    },
];

fn slice_sample(s: &mut super::Sample) {
    let (m, n) = (s.dim(), s.dim());
    s.input("x", &[m, n + 2]);
    s.attr("a", vec![0, 1]);
    s.attr("z", vec![m as i64, n as i64]);
    s.attr("t", vec![1, 1]);
}

#[cfg(test)]
pub(super) static WRONG: &[Rule] = &[
    Rule {
        name: "wrong-sum-of-matmuls",
        class: Reassociate,
        lhs: "(add (matmul ?x ?a) (matmul ?y ?b))",
        rhs: "(matmul (concat ?x ?y ?k) (concat ?b ?a ?z))",
        when: Some(|m| {
            m.bind("k", 1);
            m.bind("z", 0);
            Some(true)
        }),
        doc: "The weights in the other order.",
        sample: |s| {
            s.input("x", &[3, 3]);
            s.input("y", &[3, 3]);
            s.weight("a", &[3, 3]);
            s.weight("b", &[3, 3]);
        },
    },
    Rule {
        name: "wrong-axis-sum-of-matmuls",
        class: Reassociate,
        lhs: "(add (matmul ?x ?a) (matmul ?y ?b))",
        rhs: "(matmul (concat ?x ?y ?k) (concat ?a ?b ?k))",
        when: Some(|m| {
            m.bind("k", 1);
            Some(true)
        }),
        doc: "The weights joined along the wrong axis.",
        sample: |s| {
            s.input("x", &[3, 3]);
            s.input("y", &[3, 3]);
            s.weight("a", &[3, 3]);
            s.weight("b", &[3, 3]);
        },
    },
    Rule {
        name: "wrong-sum-of-convs",
        class: Reassociate,
        lhs: "(add (conv ?x ?a ?s ?p ?d ?g) (conv ?y ?b ?s ?p ?d ?g))",
        rhs: "(conv (concat ?x ?y ?k) (concat ?b ?a ?k) ?s ?p ?d ?g)",
        when: Some(|m| {
            m.bind("k", 1);
            Some(true)
        }),
        doc: "The weights in the other order.",
        sample: |s| {
            s.input("x", &[1, 3, 6, 6]);
            s.input("y", &[1, 3, 6, 6]);
            s.weight("a", &[3, 3, 3, 3]);
            s.weight("b", &[3, 3, 3, 3]);
            s.attr("s", vec![1, 1]);
            s.attr("d", vec![1, 1]);
            s.attr("p", vec![1; 4]);
            s.attr("g", 1);
        },
    },
    Rule {
        name: "wrong-axis-sum-of-convs",
        class: Reassociate,
        lhs: "(add (conv ?x ?a ?s ?p ?d ?g) (conv ?y ?b ?s ?p ?d ?g))",
        rhs: "(conv (concat ?x ?y ?k) (concat ?a ?b ?z) ?s ?p ?d ?g)",
        when: Some(|m| {
            m.bind("k", 1);
            m.bind("z", 0);
            Some(true)
        }),
        doc: "The weights joined along the outputs.",
        sample: |s| {
            s.input("x", &[1, 3, 6, 6]);
            s.input("y", &[1, 3, 6, 6]);
            s.weight("a", &[3, 3, 3, 3]);
            s.weight("b", &[3, 3, 3, 3]);
            s.attr("s", vec![1, 1]);
            s.attr("d", vec![1, 1]);
            s.attr("p", vec![1; 4]);
            s.attr("g", 1);
        },
    },
    Rule {
        name: "wrong-concat-of-depthwise",
        class: Reassociate,
        lhs: "(concat (conv ?x ?a ?s ?p ?d ?g) (conv ?y ?b ?s ?p ?d ?g) ?k)",
        rhs: "(conv (concat ?x ?y ?k) (concat ?b ?a ?z) ?s ?p ?d ?m)",
        when: Some(|m| {
            m.bind("z", 0);
            m.bind("m", 6);
            Some(true)
        }),
        doc: "The weights in the other order.",
        sample: |s| {
            s.input("x", &[1, 3, 6, 6]);
            s.input("y", &[1, 3, 6, 6]);
            s.weight("a", &[3, 1, 3, 3]);
            s.weight("b", &[3, 1, 3, 3]);
            s.attr("s", vec![1, 1]);
            s.attr("d", vec![1, 1]);
            s.attr("p", vec![1; 4]);
            s.attr("k", 1);
            s.attr("g", 3);
        },
    },
    Rule {
        name: "wrong-groups-of-depthwise",
        class: Reassociate,
        lhs: "(concat (conv ?x ?a ?s ?p ?d ?g) (conv ?y ?b ?s ?p ?d ?g) ?k)",
        rhs: "(conv (concat ?x ?y ?k) (concat ?a ?b ?z) ?s ?p ?d ?g)",
        when: Some(|m| {
            m.bind("z", 0);
            Some(true)
        }),
        doc: "The groups of one of the two.",
        sample: |s| {
            s.input("x", &[1, 3, 6, 6]);
            s.input("y", &[1, 3, 6, 6]);
            s.weight("a", &[3, 1, 3, 3]);
            s.weight("b", &[3, 1, 3, 3]);
            s.attr("s", vec![1, 1]);
            s.attr("d", vec![1, 1]);
            s.attr("p", vec![1; 4]);
            s.attr("k", 1);
            s.attr("g", 3);
        },
    },
    Rule {
        name: "wrong-concat-of-depthwise-enlarged",
        class: Reassociate,
        lhs: "(concat (conv ?x ?a ?s ?p ?d ?g) (conv ?y ?b ?s ?q ?d ?g) ?k)",
        rhs: "(conv (concat ?x ?y ?k) (concat (pad ?a ?l ?u ?i ?f) ?b ?z) ?s ?q ?d ?m)",
        when: Some(|m| {
            m.bind("z", 0);
            m.bind("m", 6);
            m.bind("l", vec![0, 0, 2, 2]);
            m.bind("u", vec![0; 4]);
            m.bind("i", vec![0; 4]);
            m.bind("f", 0.0);
            Some(true)
        }),
        doc: "All the zeros on one side.",
        sample: |s| {
            s.input("x", &[1, 3, 6, 6]);
            s.input("y", &[1, 3, 6, 6]);
            s.weight("a", &[3, 1, 3, 3]);
            s.weight("b", &[3, 1, 5, 5]);
            s.attr("s", vec![1, 1]);
            s.attr("d", vec![1, 1]);
            s.attr("p", vec![1; 4]);
            s.attr("q", vec![2; 4]);
            s.attr("k", 1);
            s.attr("g", 3);
        },
    },
    Rule {
        name: "wrong-shared-depthwise",
        class: Reassociate,
        lhs: "(conv (concat (conv ?x ?a ?s ?p ?d ?g) (conv ?x ?b ?s ?p ?d ?g) ?k) ?w ?t ?o ?e ?h)",
        rhs: "(conv (conv ?x (concat ?a ?b ?z) ?s ?p ?d ?g) ?w ?t ?o ?e ?h)",
        when: Some(|m| {
            m.bind("z", 0);
            Some(true)
        }),
        doc: "Channels of one kernel side by side, as if there were no groups.",
        sample: |s| {
            s.input("x", &[1, 3, 6, 6]);
            s.weight("a", &[3, 1, 3, 3]);
            s.weight("b", &[3, 1, 3, 3]);
            s.attr("s", vec![1, 1]);
            s.attr("d", vec![1, 1]);
            s.attr("p", vec![1; 4]);
            s.attr("k", 1);
            s.attr("g", 3);
            s.weight("w", &[2, 6, 1, 1]);
            s.attr("t", vec![1, 1]);
            s.attr("o", vec![0; 4]);
            s.attr("e", vec![1, 1]);
            s.attr("h", 1);
        },
    },
    Rule {
        name: "wrong-order-shared-depthwise",
        class: Reassociate,
        lhs: "(conv (concat (conv ?x ?a ?s ?p ?d ?g) (conv ?x ?b ?s ?p ?d ?g) ?k) ?w ?t ?o ?e ?h)",
        rhs: "(conv (conv ?x (reshape (concat ?a ?b ?k) ?n) ?s ?p ?d ?g) ?w ?t ?o ?e ?h)",
        when: Some(|m| {
            m.bind("n", vec![6, 1, 3, 3]);
            Some(true)
        }),
        doc: "The convolution that reads both keeps its order.",
        sample: |s| {
            s.input("x", &[1, 3, 6, 6]);
            s.weight("a", &[3, 1, 3, 3]);
            s.weight("b", &[3, 1, 3, 3]);
            s.attr("s", vec![1, 1]);
            s.attr("d", vec![1, 1]);
            s.attr("p", vec![1; 4]);
            s.attr("k", 1);
            s.attr("g", 3);
            s.weight("w", &[2, 6, 1, 1]);
            s.attr("t", vec![1, 1]);
            s.attr("o", vec![0; 4]);
            s.attr("e", vec![1, 1]);
            s.attr("h", 1);
        },
    },
];
