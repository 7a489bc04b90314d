//! Specialising: a program replayed with what is known now, so that dynamic ops whose operands became constants turn into static ones.

use std::collections::{BTreeMap, HashMap};
use tahoma_core::graph::Node;
use tahoma_core::op::{Kind, OpError};
use tahoma_core::{Attr, Builder, Diagnostic, Diagnostics, Graph, Program, Tensor, TensorType, ValueId, ops};

/// What is known of an input.
pub enum Known {
    Type(TensorType),
    Value(Tensor),
}

/// Replays `main` with each input as `known` says (by name and type), and the branches of an `if` with the types they get then. A
/// branch whose condition became known is put in its place; functions that nothing reaches any more go.
pub fn specialise(program: &Program, known: &mut dyn FnMut(&str, &TensorType) -> Known) -> Result<Program, Diagnostics> {
    let mut r = Replay { program, functions: BTreeMap::new() };
    let main = r.function(program.main(), known, 0)?;
    r.functions.insert(Program::MAIN.into(), main);
    Ok(Program { functions: r.functions })
}

/// Deepest nesting of functions.
const MAX_DEPTH: usize = 64;

struct Replay<'a> {
    program: &'a Program,
    functions: BTreeMap<String, Graph>,
}

impl<'a> Replay<'a> {
    fn function(&mut self, g: &'a Graph, known: &mut dyn FnMut(&str, &TensorType) -> Known, depth: usize) -> Result<Graph, Diagnostics> {
        let mut b = Builder::new(&g.name);
        let mut map: HashMap<ValueId, ValueId> = HashMap::new();
        for p in &g.inputs {
            let v = match known(&p.name, g.ty(p.value)) {
                Known::Type(t) => b.input(&p.name, t),
                Known::Value(t) => b.constant(t),
            };
            map.insert(p.value, v);
        }
        self.nodes(&mut b, g, &mut map, depth)?;
        for o in &g.outputs {
            b.output(&o.name, map[&o.value]);
        }
        let mut out = b.finish();
        out.attrs = g.attrs.clone();
        Ok(out)
    }

    fn nodes(&mut self, b: &mut Builder, g: &'a Graph, map: &mut HashMap<ValueId, ValueId>, depth: usize) -> Result<(), Diagnostics> {
        if depth > MAX_DEPTH {
            return Err(Diagnostic::error("E0107", format!("functions are nested more than {MAX_DEPTH} deep")).into());
        }
        for n in &g.nodes {
            b.set_origin(n.origin.clone());
            let operands: Vec<ValueId> = n.operands.iter().map(|v| map[v]).collect();
            let out = match (n.op.name, &n.op.kind, n.attrs.tensor("value")) {
                ("weight", ..) => vec![b.weight(n.attrs.str("name").unwrap_or_default(), g.ty(n.results[0]).clone())],
                ("constant", _, Some(t)) => vec![b.constant((**t).clone())],
                ("if", ..) => self.choice(b, g, n, &operands, depth)?,
                (_, Kind::Structure, _) => {
                    for f in n.attrs.0.values() {
                        self.keep(f);
                    }
                    let types = n.results.iter().map(|&r| g.ty(r).clone()).collect();
                    b.structure(n.op.0, &operands, n.attrs.clone(), types).map_err(|e| explain(b, e, &operands))?
                }
                (name, Kind::Opaque, _) if n.results.len() == 1 => {
                    vec![ops::canonical(b, name, &operands, n.attrs.clone()).map_err(|e| explain(b, e, &operands))?]
                }
                _ => b.emit(n.op.0, &operands, n.attrs.clone()).map_err(|e| explain(b, e, &operands))?,
            };
            map.extend(n.results.iter().copied().zip(out));
        }
        Ok(())
    }

    /// An `if`: the branch itself where the condition is known, else both with the types of their operands.
    fn choice(&mut self, b: &mut Builder, g: &Graph, n: &Node, operands: &[ValueId], depth: usize) -> Result<Vec<ValueId>, Diagnostics> {
        let missing = || Diagnostic::error("E0902", "an if names a function that is not there").at((*n.origin).clone());
        let mut names = [n.attrs.func("then"), n.attrs.func("else")].map(|f| f.unwrap_or_default().to_string());
        let find = |name: &str| self.program.functions.get(name).ok_or_else(missing);
        let (then, other) = (find(&names[0])?, find(&names[1])?);
        if let Some(cond) = b.constant_of(operands[0]).and_then(|t| t.first_bool()) {
            let branch = if cond { then } else { other };
            let mut map: HashMap<ValueId, ValueId> = branch.inputs.iter().map(|p| p.value).zip(operands[1..].iter().copied()).collect();
            self.nodes(b, branch, &mut map, depth + 1)?;
            return Ok(branch.outputs.iter().map(|o| map[&o.value]).collect());
        }
        let mut made = vec![];
        for (name, branch) in names.iter_mut().zip([then, other]) {
            let mut types = operands[1..].iter().map(|&v| b.ty(v).clone());
            let f = self.function(branch, &mut |_, ty| Known::Type(types.next().unwrap_or_else(|| ty.clone())), depth + 1)?;
            made.push(f.outputs.iter().map(|o| f.ty(o.value).clone()).collect::<Vec<_>>());
            // Two ifs that share a function may give it different types.
            while self.functions.get(name).is_some_and(|have| *have != f) {
                name.push('_');
            }
            self.functions.insert(name.clone(), f);
        }
        // Where the branches agree their type is the result's; where not, it stays as open as it was.
        let types = n.results.iter().enumerate().map(|(i, &r)| match (made[0].get(i), made[1].get(i)) {
            (Some(a), Some(b)) if a == b => a.clone(),
            _ => g.ty(r).clone(),
        });
        let types = types.collect();
        let [then, other] = names.map(|f| Attr::Func(f.as_str().into()));
        let attrs = n.attrs.clone().with("then", then).with("else", other);
        Ok(b.structure(n.op.0, operands, attrs, types).map_err(|e| explain(b, e, operands))?)
    }

    /// Keeps a function as it is, with those it names.
    fn keep(&mut self, attr: &Attr) {
        let Attr::Func(f) = attr else { return };
        let Some(g) = self.program.functions.get(&**f) else { return };
        if self.functions.insert(f.to_string(), g.clone()).is_none() {
            for a in g.nodes.iter().flat_map(|n| n.attrs.0.values()) {
                self.keep(a);
            }
        }
    }
}

fn explain(b: &Builder, e: OpError, operands: &[ValueId]) -> Diagnostic {
    b.diagnose(e, operands, &|v| format!("%{}", v.0)).note("stage: specialise")
}
