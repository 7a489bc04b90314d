//! Specialising: a program replayed with what is known now, so that dynamic ops whose operands became constants turn into static ones.

use std::collections::HashMap;
use tahoma_core::op::{Kind, OpError};
use tahoma_core::{Builder, Diagnostic, Diagnostics, Graph, Program, Tensor, TensorType, ValueId, ops};

/// What is known of an input.
pub enum Known {
    Type(TensorType),
    Value(Tensor),
}

/// Replays `main` with each input as `known` says (by name and type); the other functions stay.
pub fn specialise(program: &Program, known: &mut dyn FnMut(&str, &TensorType) -> Known) -> Result<Program, Diagnostics> {
    let main = replay(program.main(), known)?;
    let mut out = program.clone();
    out.functions.insert(Program::MAIN.into(), main);
    Ok(out)
}

fn replay(g: &Graph, known: &mut dyn FnMut(&str, &TensorType) -> Known) -> Result<Graph, Diagnostics> {
    let mut b = Builder::new(&g.name);
    let mut map: HashMap<ValueId, ValueId> = HashMap::new();
    for p in &g.inputs {
        let v = match known(&p.name, g.ty(p.value)) {
            Known::Type(t) => b.input(&p.name, t),
            Known::Value(t) => b.constant(t),
        };
        map.insert(p.value, v);
    }
    for n in &g.nodes {
        b.set_origin(n.origin.clone());
        let operands: Vec<ValueId> = n.operands.iter().map(|v| map[v]).collect();
        let out = match (n.op.name, &n.op.kind, n.attrs.tensor("value")) {
            ("weight", ..) => vec![b.weight(n.attrs.str("name").unwrap_or_default(), g.ty(n.results[0]).clone())],
            ("constant", _, Some(t)) => vec![b.constant((**t).clone())],
            (_, Kind::Structure, _) => {
                let types = n.results.iter().map(|&r| g.ty(r).clone()).collect();
                b.structure(n.op.0, &operands, n.attrs.clone(), types).map_err(|e| explain(&b, e, &operands))?
            }
            (name, Kind::Opaque, _) if n.results.len() == 1 => {
                vec![ops::canonical(&mut b, name, &operands, n.attrs.clone()).map_err(|e| explain(&b, e, &operands))?]
            }
            _ => b.emit(n.op.0, &operands, n.attrs.clone()).map_err(|e| explain(&b, e, &operands))?,
        };
        map.extend(n.results.iter().copied().zip(out));
    }
    for o in &g.outputs {
        b.output(&o.name, map[&o.value]);
    }
    let mut out = b.finish();
    out.attrs = g.attrs.clone();
    Ok(out)
}

fn explain(b: &Builder, e: OpError, operands: &[ValueId]) -> Diagnostic {
    b.diagnose(e, operands, &|v| format!("%{}", v.0)).note("stage: specialise")
}
