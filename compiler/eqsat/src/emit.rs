//! The chosen net as a program: `main` with calls of kernel functions, recipes and host ops in between.

use crate::extract::{Choice, reached};
use crate::kernel::{Body, Candidate, Shape, Source};
use crate::language::Node;
use crate::net::{Net, What};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use tahoma_core::op::{Kind, Move, OpDef};
use tahoma_core::{Attr, Attrs, Builder, Diagnostic, Graph, Origin, Program, ValueId};

/// What was emitted, for the report.
#[derive(Clone, Debug, Default)]
pub struct Emitted {
    pub launches: usize,
    pub functions: usize,
    /// Ops left to the host, with counts; recipes on weights and free reshapes are not among them.
    pub host: BTreeMap<&'static str, usize>,
    /// Ops of the chosen program that each rule made.
    pub used: BTreeMap<&'static str, usize>,
    /// The class that each kernel call makes, with its value in `main`.
    pub calls: Vec<(u32, ValueId)>,
}

fn bug(what: impl Into<String>) -> Diagnostic {
    Diagnostic::error("E0901", format!("equality saturation: {}", what.into()))
}

fn origin_of(net: &Net, s: Source) -> Arc<Origin> {
    net.made(s.class, s.node).map(|m| m.origin.clone()).unwrap_or_default()
}

struct Emitter<'a> {
    net: &'a Net,
    source: &'a Graph,
    b: Builder,
    /// Values of each class: one, or several results.
    values: HashMap<u32, Vec<ValueId>>,
    kernels: HashMap<Arc<Body>, String>,
    functions: BTreeMap<String, Graph>,
    taken: HashSet<String>,
    /// E-nodes already counted under their rule.
    counted: HashSet<(u32, u32)>,
    out: Emitted,
}

/// Builds the program. `inputs[i]` names input i of `source` as the e-graph's leaves do.
pub fn emit(net: &Net, choice: &Choice, program: &Program, inputs: &[Arc<str>]) -> Result<(Program, Emitted), Diagnostic> {
    let source = program.main();
    let mut e = Emitter {
        net,
        source,
        b: Builder::new(&source.name),
        values: HashMap::new(),
        kernels: HashMap::new(),
        functions: program.functions.iter().filter(|(n, _)| *n != Program::MAIN).map(|(n, g)| (n.clone(), g.clone())).collect(),
        taken: program.functions.keys().cloned().collect(),
        counted: HashSet::new(),
        out: Emitted::default(),
    };
    let ports: HashMap<&str, ValueId> = {
        let b = &mut e.b;
        source.inputs.iter().zip(inputs).map(|(p, n)| (&**n, b.input(&p.name, source.ty(p.value).clone()))).collect()
    };
    for c in reached(net, &choice.way) {
        let class = &net.classes[c as usize];
        let way = &class.ways[choice.way[c as usize] as usize];
        let values = match &way.what {
            What::Kernel(k) => vec![e.kernel(c, k)?],
            What::Node(i) => e.node(c, *i, &ports)?,
        };
        if let (Some(want), [v]) = (&class.ty, values.as_slice())
            && e.b.ty(*v) != want
        {
            return Err(bug(format!("a {} became a {}", want, e.b.ty(*v))));
        }
        e.values.insert(c, values);
    }
    for (p, &root) in source.outputs.iter().zip(&net.roots) {
        let v = e.one(root)?;
        e.b.output(&p.name, v);
    }
    let mut main = e.b.finish();
    main.attrs = source.attrs.clone();
    e.out.functions = e.kernels.len();
    let mut functions = e.functions;
    functions.insert(Program::MAIN.to_string(), main);
    Ok((Program { functions }, e.out))
}

impl Emitter<'_> {
    fn one(&self, class: u32) -> Result<ValueId, Diagnostic> {
        match self.values.get(&class).map(Vec::as_slice) {
            Some([v]) => Ok(*v),
            _ => Err(bug("an operand was not made")),
        }
    }
    fn count(&mut self, s: Source) {
        if self.counted.insert((s.class, s.node))
            && let Some(rule) = self.net.made(s.class, s.node).and_then(|m| m.rule)
        {
            *self.out.used.entry(rule).or_default() += 1;
        }
    }
    fn op(&mut self, op: &'static OpDef, operands: &[ValueId], attrs: Attrs) -> Result<Vec<ValueId>, Diagnostic> {
        self.b.emit(op, operands, attrs).map_err(|e| bug(format!("ml.{}: {}", op.name, e.message)))
    }
    fn node(&mut self, class: u32, index: u32, ports: &HashMap<&str, ValueId>) -> Result<Vec<ValueId>, Diagnostic> {
        let net = self.net;
        let n = &net.classes[class as usize].nodes[index as usize];
        let source = Source { class, node: index };
        self.count(source);
        self.b.set_origin(origin_of(net, source));
        match &n.node {
            Node::Leaf(l) if l.weight => Ok(vec![self.b.weight(&l.name, l.ty.clone())]),
            Node::Leaf(l) => ports.get(&*l.name).map(|v| vec![*v]).ok_or_else(|| bug(format!("no input {:?}", l.name))),
            Node::Result(i, _) => {
                let from = self.values.get(&n.needs[0]).ok_or_else(|| bug("results before their op"))?;
                from.get(*i as usize).map(|v| vec![*v]).ok_or_else(|| bug("no such result"))
            }
            Node::Opaque(o, _) => {
                let operands: Vec<ValueId> = n.needs.iter().map(|&k| self.one(k)).collect::<Result<_, _>>()?;
                let old = &self.source.nodes[o.index];
                *self.out.host.entry(old.op.name).or_default() += 1;
                self.b.structure(old.op.0, &operands, old.attrs.clone(), o.types.clone()).map_err(|e| bug(e.message))
            }
            Node::Op(op, _) => {
                let operands: Vec<ValueId> = n.needs.iter().map(|&k| self.one(k)).collect::<Result<_, _>>()?;
                let def = op.def();
                let attrs = n.attrs.as_deref().cloned().unwrap_or_default();
                if let (true, Some(t)) = (def.name == "constant", attrs.tensor("value")) {
                    return Ok(vec![self.b.constant((**t).clone())]);
                }
                if !net.classes[class as usize].fixed && !matches!(def.kind, Kind::Move(Move::Reshape)) {
                    *self.out.host.entry(def.name).or_default() += 1;
                }
                self.op(def, &operands, attrs)
            }
            Node::Attr(_) | Node::Kernel(..) => Err(bug("no value")),
        }
    }
    fn kernel(&mut self, class: u32, k: &Candidate) -> Result<ValueId, Diagnostic> {
        let origins: Vec<Arc<Origin>> = k.sources.iter().map(|&s| origin_of(self.net, s)).collect();
        for &s in &k.sources {
            self.count(s);
        }
        let name = match self.kernels.get(&k.body) {
            Some(name) => name.clone(),
            None => {
                let mut i = self.kernels.len();
                let mut name = format!("k{i}");
                while self.taken.contains(&name) {
                    i += 1;
                    name = format!("k{i}");
                }
                self.taken.insert(name.clone());
                let mut g = k.body.graph(&name, &origins);
                let form = if k.formed.shape == Shape::Contract { "contract" } else { "rows" };
                g.attrs = Attrs::new().with("kernel", form);
                self.functions.insert(name.clone(), g);
                self.kernels.insert(k.body.clone(), name.clone());
                name
            }
        };
        let operands: Vec<ValueId> = k.inputs.iter().map(|&c| self.one(c)).collect::<Result<_, _>>()?;
        self.b.set_origin(crate::bridge::fuse("kernel", origins));
        self.out.launches += 1;
        let attrs = Attrs::new().with("callee", Attr::Func(name.as_str().into()));
        let call = tahoma_core::ops::find("call").ok_or_else(|| bug("no call op"))?;
        let v = self.b.structure(call, &operands, attrs, vec![k.body.ty().clone()]).map_err(|e| bug(e.message))?;
        let v = v.first().copied().ok_or_else(|| bug("a call without a result"))?;
        self.out.calls.push((class, v));
        Ok(v)
    }
}
