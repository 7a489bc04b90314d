//! Specialising: a program replayed with what is known now, so that dynamic ops whose operands became constants turn into static ones.

mod hoist;

use std::collections::{BTreeMap, HashMap};
use tahoma_core::graph::Node;
use tahoma_core::op::{Kind, OpError};
use tahoma_core::ops::scan::{ScanForm, stack_type};
use tahoma_core::{Attr, Builder, Diagnostic, Diagnostics, Graph, Program, Tensor, TensorType, ValueId, ops};

/// What is known of an input.
pub enum Known {
    Type(TensorType),
    Value(Tensor),
}

/// Replays `main` with each input as `known` says (by name and type), and the branches of an `if` and the body of a `scan` with the types
/// they get then. A branch whose condition became known is put in its place, what a scan would repeat for nothing before it; functions
/// that nothing reaches any more go.
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
                ("scan", ..) => self.scan(b, n, &operands, depth)?,
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
            *name = self.add(name, f);
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

    /// Adds a function, and gives it another name where one of that name differs: two ops that share one may give it different types.
    fn add(&mut self, name: &str, mut f: Graph) -> String {
        f.name = name.to_string();
        while self.functions.get(&f.name).is_some_and(|have| *have != f) {
            f.name.push('_');
        }
        let name = f.name.clone();
        self.functions.insert(name.clone(), f);
        name
    }

    /// A `scan`: its body with the types and constants it gets, and outside of it what need not be repeated.
    fn scan(&mut self, b: &mut Builder, n: &Node, operands: &[ValueId], depth: usize) -> Result<Vec<ValueId>, Diagnostics> {
        let form = ScanForm::of(n)?;
        let at = |d: Diagnostic| d.at((*n.origin).clone()).note("stage: specialise");
        let missing = || at(Diagnostic::error("E0902", format!("a scan names @{}, which is not there", form.body)));
        let source = self.program.functions.get(&form.body).ok_or_else(missing)?;
        let types: Vec<TensorType> = operands.iter().map(|&v| b.ty(v).clone()).collect();
        if source.inputs.len() != types.len() || source.outputs.len() != form.carried + form.stacked {
            return Err(at(Diagnostic::error("E0902", format!("a scan does not fit @{}", form.body))).into());
        }
        for t in &types[form.carried..form.carried + form.sliced] {
            if t.shape.0.first().is_none_or(|d| d.known().is_some_and(|n| n != form.trips as u64)) {
                return Err(at(Diagnostic::error("E0203", format!("a scan of {} runs takes rows of {t}", form.trips))).into());
            }
        }
        let own = form.carried + form.sliced;
        let value = |i: usize| b.constant_of(operands[i]).filter(|_| i >= own).map(|t| (**t).clone());
        let mut takes = form.takes(&types).into_iter().enumerate().map(|(i, t)| value(i).map_or(Known::Type(t), Known::Value));
        let body = self.function(source, &mut |_, ty| takes.next().unwrap_or_else(|| Known::Type(ty.clone())), depth + 1)?;
        let left: Vec<ValueId> = (0..operands.len()).filter(|&i| value(i).is_none()).map(|i| operands[i]).collect();
        for (i, (before, o)) in types.iter().zip(&body.outputs).take(form.carried).enumerate() {
            let after = body.ty(o.value);
            if before != after {
                return Err(
                    at(Diagnostic::error("E0203", format!("carried value {i} is {before} before a run and {after} after it"))).into()
                );
            }
        }
        if form.trips == 0 && body.outputs.iter().all(|o| body.ty(o.value).shape.is_static()) {
            let empty = |o: &tahoma_core::Port| {
                let t = stack_type(body.ty(o.value), 0);
                Tensor::full(t.dtype, &t.shape.to_static().unwrap_or_default(), 0.0)
            };
            let rows: Vec<Tensor> = body.outputs[form.carried..].iter().map(empty).collect();
            return Ok(operands[..form.carried].iter().copied().chain(rows.into_iter().map(|t| b.constant(t))).collect());
        }
        let mut all = body.nodes.iter().flat_map(|n| &n.results).chain(body.inputs.iter().map(|p| &p.value));
        if all.all(|&v| body.ty(v).shape.is_static()) {
            let mut add = |g: Graph| self.add(&form.body, g);
            return Ok(hoist::hoist(b, &form, &body, &left, &mut add).map_err(|e| explain(b, e, operands))?);
        }
        let gives: Vec<TensorType> = body.outputs.iter().map(|o| body.ty(o.value).clone()).collect();
        let attrs = n.attrs.clone().with("body", Attr::Func(self.add(&form.body, body).as_str().into()));
        Ok(b.structure(n.op.0, &left, attrs, form.gives(&gives)).map_err(|e| explain(b, e, operands))?)
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
