//! Inputs for a verification, where the caller gives none: such that what they reach can differ.
//!
//! ```text
//! index      an integer that a gather or a scatter takes: uniform over the axis it names
//! control    an integer that decides shapes, trips or choices: 0 or 1
//! bytes      other 8-bit integers: the whole range (quantised data, images)
//! integers   other integers: 0 or 1 where they become floats or bools (masks), else uniform in ±100
//! floats     uniform in [-1, 1), unless outputs then say nothing: the other draws are tried in turn
//! ```

use crate::interp::{evaluate_program, inputs_of};
use crate::random::{Range, drawn};
use crate::verify::judge::census;
use std::collections::BTreeMap;
use tahoma_core::artifact::{Manifest, PlanStep};
use tahoma_core::eval::Weights;
use tahoma_core::graph::{OpRef, Port};
use tahoma_core::op::{Kind, Scalar};
use tahoma_core::{Attrs, DType, Diagnostic, Graph, Node, Program, Tensor, ValueId, ops};

/// What an input is used as.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Use {
    /// Along an axis of so many.
    Index(u64),
    Control,
    /// Becomes a float or a bool.
    Mask,
    Data,
}

/// Float draws, the first first: an odd activation lives on one of them.
const FLOATS: &[(&str, Range)] = &[
    ("uniform in [-1, 1)", Range::Between(-1.0, 1.0)),
    ("uniform in [0, 1)", Range::Between(0.0, 1.0)),
    ("uniform in [-8, 8)", Range::Between(-8.0, 8.0)),
    ("uniform in [0, 255)", Range::Between(0.0, 255.0)),
];

/// Inputs and how their floats were drawn.
pub(super) struct Drawn {
    pub inputs: Vec<(String, Tensor)>,
    pub how: &'static str,
}

/// Given inputs, and the others drawn from `seed`. `program` is the model with all its shapes known. Of several draws the one on which
/// the most outputs of the model say something.
pub(super) fn draw(program: &Program, given: &[(String, Tensor)], seed: u64, weights: &dyn Weights) -> Result<Drawn, Diagnostic> {
    let uses = uses(program);
    let missing = |n: &str| given.iter().all(|g| g.0 != n);
    let make = |range: Range, plain: bool| -> Result<Vec<(String, Tensor)>, Diagnostic> {
        let mut all = given.to_vec();
        for (name, ty) in inputs_of(program).into_iter().filter(|(n, _)| missing(n)) {
            let used = if plain { None } else { Some(uses.get(name).copied().unwrap_or(Use::Data)) };
            all.push((name.to_string(), drawn(name, ty, seed, range_of(used, ty.dtype, range))?));
        }
        Ok(all)
    };
    // A model may add an offset to an index, or use integers in ways not seen here: then plain ones.
    let mut plain = false;
    let mut best: Option<(usize, Drawn)> = None;
    let floats = inputs_of(program).iter().any(|(n, t)| missing(n) && t.dtype.is_float());
    for &(how, range) in &FLOATS[..if floats { FLOATS.len() } else { 1 }] {
        let mut inputs = make(range, plain)?;
        let out = match evaluate_program(program, &inputs, weights) {
            Ok(out) => out,
            Err(d) if plain => return best.map(|b| b.1).ok_or(d),
            Err(_) => {
                plain = true;
                inputs = make(range, plain)?;
                match evaluate_program(program, &inputs, weights) {
                    Ok(out) => out,
                    Err(d) => return best.map(|b| b.1).ok_or(d),
                }
            }
        };
        let vacuous = out.iter().filter(|(_, t)| !census(t, None).vacuous.is_empty()).count();
        if best.as_ref().is_none_or(|b| vacuous < b.0) {
            best = Some((vacuous, Drawn { inputs, how: if floats { how } else { "" } }));
        }
        if vacuous == 0 {
            break;
        }
    }
    best.map(|b| b.1).ok_or_else(|| Diagnostic::error("E0901", "no draw of inputs"))
}

/// What an input is drawn from; floats from `floats`. With no use, integers are 0 or 1.
fn range_of(used: Option<Use>, d: DType, floats: Range) -> Range {
    match (used, d) {
        (Some(Use::Index(n)), _) => Range::Below(n.max(1)),
        (_, d) if d.is_float() => floats,
        (Some(Use::Data | Use::Mask), DType::U8) => Range::Whole(0, 255),
        (Some(Use::Data | Use::Mask), DType::I8) => Range::Whole(-128, 127),
        (Some(Use::Data), d) if d.is_signed_int() && d.bits() > 8 => Range::Whole(-100, 100),
        (Some(Use::Data), d) if d.is_int() && d.bits() > 8 => Range::Whole(0, 200),
        _ => Range::Whole(0, 1),
    }
}

/// Given inputs of an artifact, and the others drawn from `seed`, integers by what its plan uses them as (0 or 1 if `plain`).
pub(crate) fn draw_for_plan(m: &Manifest, given: &[(String, Tensor)], seed: u64, plain: bool) -> Result<Vec<(String, Tensor)>, Diagnostic> {
    let uses = if plain { BTreeMap::new() } else { uses(&as_program(m)) };
    let mut all = given.to_vec();
    for p in m.inputs.iter().filter(|p| given.iter().all(|g| g.0 != p.name)) {
        let ty = &m.buffers[p.buffer].ty;
        let range = range_of(uses.get(&p.name).copied(), ty.dtype, FLOATS[0].1);
        all.push((p.name.clone(), drawn(&p.name, ty, seed, range)?));
    }
    Ok(all)
}

/// The plan as a program in which [`uses`] finds its way: a value per buffer, the ops of the host, and casts for all that hands values
/// on. A kernel is a cast too: integers that go in become floats, or integers that the host goes on with. Nobody runs it.
fn as_program(m: &Manifest) -> Program {
    let types = m.buffers.iter().map(|b| b.ty.clone()).collect();
    let inputs = m.inputs.iter().map(|p| Port { name: p.name.clone(), value: ValueId(p.buffer as u32) }).collect();
    let mut made = Made { m, g: Graph { name: Program::MAIN.into(), inputs, types, ..Graph::default() } };
    let outside: Vec<usize> = m.inputs.iter().map(|p| p.buffer).chain(m.weights.iter().map(|w| w.buffer)).collect();
    made.views(&outside);
    m.load.iter().chain(&m.run).for_each(|s| made.step(s));
    Program::new(made.g)
}

struct Made<'a> {
    m: &'a Manifest,
    g: Graph,
}

impl Made<'_> {
    fn node(&mut self, op: OpRef, attrs: &Attrs, inputs: &[usize], outputs: &[usize]) {
        let values = |all: &[usize]| all.iter().map(|&b| ValueId(b as u32)).collect();
        let n = Node { op, operands: values(inputs), attrs: attrs.clone(), results: values(outputs), origin: Default::default() };
        self.g.nodes.push(n);
    }
    fn hand_on(&mut self, from: &[usize], to: &[usize]) {
        if let Some(cast) = ops::find("cast").filter(|_| !to.is_empty()) {
            self.node(OpRef(cast), &Attrs::new(), from, to);
            self.views(to);
        }
    }
    /// Other views of the same bytes have what was made.
    fn views(&mut self, made: &[usize]) {
        let root = |b: usize| self.m.buffers[b].alias.unwrap_or(b);
        for &b in made {
            let others: Vec<usize> = (0..self.m.buffers.len()).filter(|&o| o != b && root(o) == root(b)).collect();
            if let (false, Some(cast)) = (others.is_empty(), ops::find("cast")) {
                self.node(OpRef(cast), &Attrs::new(), &[b], &others);
            }
        }
    }
    fn step(&mut self, s: &PlanStep) {
        match s {
            PlanStep::Launch { inputs, outputs, .. } => self.hand_on(inputs, outputs),
            PlanStep::Host { op, attrs, inputs, outputs, .. } => {
                self.node(*op, attrs, inputs, outputs);
                self.views(outputs);
            }
            PlanStep::If { then, otherwise, outputs, .. } => {
                for branch in [then, otherwise] {
                    branch.steps.iter().for_each(|s| self.step(s));
                    branch.results.iter().zip(outputs).for_each(|(&r, &o)| self.hand_on(&[r], &[o]));
                }
            }
            PlanStep::Loop { states, rows, stacks, steps, outputs, .. } => {
                states.iter().for_each(|s| self.hand_on(&[s.start], &[s.buffer]));
                rows.iter().for_each(|r| self.hand_on(&[r.of], &[r.row]));
                steps.iter().for_each(|s| self.step(s));
                let last = states.iter().map(|s| s.next).chain(stacks.iter().map(|s| s.row));
                last.zip(outputs).for_each(|(r, &o)| self.hand_on(&[r], &[o]));
            }
        }
    }
}

/// What each input is used as, followed through moves, casts and arithmetic to what takes it.
fn uses(program: &Program) -> BTreeMap<String, Use> {
    let g = program.main();
    // Inputs that a value is made of by such steps.
    let mut from: BTreeMap<ValueId, Vec<usize>> = g.inputs.iter().enumerate().map(|(i, p)| (p.value, vec![i])).collect();
    let mut found: Vec<Vec<Use>> = vec![vec![]; g.inputs.len()];
    for n in &g.nodes {
        let mut through: Vec<usize> = vec![];
        for (k, v) in n.operands.iter().enumerate() {
            let Some(sources) = from.get(v).cloned() else { continue };
            let integer = g.ty(*v).dtype.is_int();
            let used = match &n.op.kind {
                Kind::Gather | Kind::Scatter if k == 1 => Some(index_range(program, n, k)),
                Kind::Opaque | Kind::Structure | Kind::Composite(_) if integer => Some(Use::Control),
                Kind::Elementwise(Scalar::Compare(_)) if integer => Some(Use::Mask),
                Kind::Elementwise(Scalar::Cast) if integer && !n.results.iter().all(|&r| g.ty(r).dtype.is_int()) => Some(Use::Mask),
                _ => None,
            };
            sources.iter().for_each(|&s| found[s].extend(used));
            if matches!(n.op.kind, Kind::Elementwise(_) | Kind::Move(_)) {
                through.extend(sources);
            }
        }
        through.sort_unstable();
        through.dedup();
        n.results.iter().filter(|_| !through.is_empty()).for_each(|&r| {
            // What either branch of a plan gives is made twice.
            from.entry(r).or_default().extend(through.iter().copied());
        });
    }
    let chosen = |f: &Vec<Use>| {
        let indices = f.iter().filter_map(|u| if let Use::Index(n) = u { Some(*n) } else { None });
        let rank = |u: &Use| f.contains(u).then_some(*u);
        indices.min().map(Use::Index).or(rank(&Use::Control)).or(rank(&Use::Mask)).unwrap_or(Use::Data)
    };
    g.inputs.iter().zip(&found).map(|(p, f)| (p.name.clone(), chosen(f))).collect()
}

/// The extent that the indices of a gather or scatter range over: of its axis, or the least of those that tuples name.
fn index_range(program: &Program, n: &Node, k: usize) -> Use {
    let g = program.main();
    let (x, i) = (g.ty(n.operands[0]), g.ty(n.operands[k]));
    let known = |d: usize| x.shape.0.get(d).and_then(|d| d.known()).unwrap_or(1);
    if let Some(a) = n.attrs.int("axis") {
        return Use::Index(known(if a < 0 { (a + x.rank() as i64).max(0) as usize } else { a as usize }));
    }
    let first = n.attrs.int("batch_dims").unwrap_or(0).max(0) as usize;
    let count = i.shape.0.last().and_then(|d| d.known()).unwrap_or(1) as usize;
    Use::Index((first..first.saturating_add(count).min(x.rank())).map(known).min().unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tahoma_core::artifact::{Branch, BufferDef, BufferPort, Numerics, Report, Row, SCHEMA, State};
    use tahoma_core::eval::NoWeights;
    use tahoma_core::{Builder, TensorType};

    /// A table of 50 rows by an index, times a mask, beside a byte.
    fn program() -> Program {
        let mut b = Builder::new("main");
        let (ids, mask) = (b.input("ids", TensorType::known(DType::I64, &[64])), b.input("mask", TensorType::known(DType::I64, &[64])));
        let (raw, n) = (b.input("raw", TensorType::known(DType::U8, &[400])), b.input("n", TensorType::known(DType::I32, &[64])));
        let table = b.constant(Tensor::f32(&[50], (0..50).map(|i| i as f32).collect()));
        let y = b.op("gather", &[table, ids], Attrs::new().with("axis", 0i64)).unwrap();
        let m = b.op("cast", &[mask], Attrs::new().with("to", DType::F32).with("saturate", true)).unwrap();
        let y = b.op("mul", &[y, m], Attrs::new()).unwrap();
        b.output("y", y);
        let r = b.op("max", &[raw, raw], Attrs::new()).unwrap();
        b.output("raw2", r);
        let n = b.op("add", &[n, n], Attrs::new()).unwrap();
        b.output("n2", n);
        Program::new(b.finish())
    }

    #[test]
    fn integers_cover_what_they_index() {
        let d = draw(&program(), &[], 1, &NoWeights).unwrap();
        let of = |name: &str| d.inputs.iter().find(|i| i.0 == name).unwrap().1.to_f64s();
        let ids = of("ids");
        assert!(ids.iter().all(|&x| (0.0..50.0).contains(&x)) && ids.iter().any(|&x| x >= 40.0) && ids.iter().any(|&x| x < 10.0));
        assert!(of("mask").iter().all(|&x| x == 0.0 || x == 1.0));
        assert!(of("raw").iter().any(|&x| x > 200.0) && of("n").iter().any(|&x| x < -50.0));
    }

    /// A plan of an index that reaches its table of `rows` rows by a view and a step of another kind, beside a mask.
    fn plan(rows: usize, reach: impl FnOnce(usize, usize) -> PlanStep) -> Manifest {
        let host = |op: &str, attrs: Attrs, inputs: Vec<usize>, outputs: Vec<usize>| PlanStep::Host {
            op: OpRef(ops::find(op).unwrap()),
            attrs,
            inputs,
            outputs,
            origin: Default::default(),
        };
        let (ids, row, f) =
            (TensorType::known(DType::I64, &[8, 8]), TensorType::known(DType::I64, &[64]), |n: &[usize]| TensorType::known(DType::F32, n));
        // 0 ids, 1 the same in one row, 2 as the table gets it, 3 the table, 4 what it gives; 5 a mask, 6 the mask as floats.
        let types = [ids, row.clone(), row.clone(), f(&[rows, 2]), f(&[64, 2]), row, f(&[64])];
        let port = |name: &str, buffer| BufferPort { name: name.into(), buffer };
        let gather = host("gather", Attrs::new().with("axis", 0i64), vec![3, 2], vec![4]);
        let cast = host("cast", Attrs::new().with("to", DType::F32).with("saturate", true), vec![5], vec![6]);
        Manifest {
            schema: SCHEMA,
            producer: String::new(),
            model: "m".into(),
            target: "trn2".into(),
            numerics: Numerics::default(),
            inputs: vec![port("ids", 0), port("mask", 5)],
            outputs: vec![port("y", 4), port("m", 6)],
            buffers: types.into_iter().enumerate().map(|(i, ty)| BufferDef { ty, alias: (i == 1).then_some(0) }).collect(),
            weights_base: String::new(),
            weights: vec![],
            load: vec![],
            run: vec![reach(1, 2), gather, cast],
            kernels: vec![],
            functions: Default::default(),
            vocabulary: Default::default(),
            report: Report::default(),
        }
    }

    #[test]
    fn integers_of_a_plan_cover_what_they_index() {
        let copy = |a, b| PlanStep::Launch { kernel: 0, inputs: vec![a], outputs: vec![b] };
        let branch = |a, b| Branch { steps: vec![copy(a, b)], results: vec![b] };
        let steps: [&dyn Fn(usize, usize) -> PlanStep; 4] = [
            &copy,
            &|a, b| PlanStep::Host {
                op: OpRef(ops::find("abs").unwrap()),
                attrs: Attrs::new(),
                inputs: vec![a],
                outputs: vec![b],
                origin: Default::default(),
            },
            &|a, b| PlanStep::If {
                inputs: vec![a],
                then: branch(a, b),
                otherwise: Branch { steps: vec![], results: vec![a] },
                outputs: vec![b],
            },
            &|a, b| PlanStep::Loop {
                trips: 1,
                inputs: vec![a],
                states: vec![State { start: a, buffer: b, next: b }],
                rows: vec![Row { of: a, row: b, reverse: false }],
                stacks: vec![],
                steps: vec![],
                outputs: vec![b],
            },
        ];
        for (i, step) in steps.iter().enumerate() {
            let drawn = |rows, plain| draw_for_plan(&plan(rows, step), &[], 1, plain).unwrap();
            let all = drawn(1000, false);
            let (ids, mask) = (all[0].1.to_f64s(), all[1].1.to_f64s());
            assert!(ids.iter().all(|&x| (0.0..1000.0).contains(&x)) && ids.iter().any(|&x| x > 800.0), "step {i}: {ids:?}");
            assert!(mask.iter().all(|&x| x == 0.0 || x == 1.0), "step {i}");
            assert!(drawn(3, false)[0].1.to_f64s().iter().all(|&x| (0.0..3.0).contains(&x)), "step {i}");
            assert!(drawn(1000, true)[0].1.to_f64s().iter().all(|&x| x == 0.0 || x == 1.0), "step {i}");
        }
        // What is given stays.
        let given = [("ids".to_string(), Tensor::i64(&[8, 8], vec![7; 64]))];
        assert_eq!(draw_for_plan(&plan(9, copy), &given, 1, false).unwrap()[0], given[0]);
    }

    /// relu(x − 100) is dead on small inputs: a larger draw is taken.
    #[test]
    fn a_draw_on_which_the_model_lives() {
        let mut b = Builder::new("main");
        let x = b.input("x", TensorType::known(DType::F32, &[64]));
        let c = b.constant(Tensor::f32(&[], vec![100.0]));
        let y = b.op("sub", &[x, c], Attrs::new()).unwrap();
        let y = b.op("relu", &[y], Attrs::new()).unwrap();
        b.output("y", y);
        let d = draw(&Program::new(b.finish()), &[], 1, &NoWeights).unwrap();
        assert_eq!(d.how, "uniform in [0, 255)");
    }
}
