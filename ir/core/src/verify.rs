//! Whether a program is sound: what the compiler asks of a module that it reads (MLIR cannot know it of `ml` ops, because IRDL has no
//! shape logic), and the runtime of the functions in an artifact.
//!
//! ```text
//! every op:    operands made before, signature of the row, number types the row takes, result types = OpDef::infer
//! calls, ifs:  the function exists, takes these operands, gives these results; no function reaches itself
//! ```

use crate::graph::check_signature;
use crate::op::{Fresh, InferArgs, Results};
use crate::ops::scan::ScanForm;
use crate::{Attr, DType, Diagnostic, Diagnostics, Dim, Graph, Kind, Node, Origin, Program, Tensor, TensorType, ValueId, ops};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Places in a text for nodes without an origin: function and index of the node, to `file:line:column`.
pub type Places = HashMap<(String, usize), String>;

/// Checks a program. Errors: E0902 for each problem, with the origin of its op.
pub fn verify_program(program: &Program) -> Result<(), Diagnostics> {
    verify_placed(program, &Places::new())
}

/// [`verify_program`]; problems of nodes without an origin name their place.
pub fn verify_placed(program: &Program, places: &Places) -> Result<(), Diagnostics> {
    let mut problems = Diagnostics::default();
    for (name, g) in &program.functions {
        if *name != g.name {
            problems.push(fault(format!("function @{} is filed under the name {name:?}", g.name)));
        }
        function(program, g, places, &mut problems);
    }
    match nesting(program) {
        Err(cycle) => problems.push(fault(format!("functions call each other in a circle: {}", cycle.join(" → ")))),
        Ok((depth, _)) if depth > MAX_DEPTH => {
            problems.push(Diagnostic::error("E0107", format!("functions call each other {depth} deep, {MAX_DEPTH} is the most")));
        }
        Ok((_, nodes)) if nodes > MAX_NODES => {
            problems.push(Diagnostic::error("E0107", format!("calls written out make {nodes} ops, {MAX_NODES} are the most")));
        }
        Ok(_) => {}
    }
    problems.into_result(())
}

fn fault(message: String) -> Diagnostic {
    Diagnostic::error("E0902", message)
}

fn function(program: &Program, g: &Graph, places: &Places, problems: &mut Diagnostics) {
    for t in &g.types {
        if let Err(e) = ops::sized(t) {
            return problems.push(Diagnostic::from(e).note(format!("in @{}", g.name)));
        }
    }
    let mut made = vec![false; g.types.len()];
    let mut constants: HashMap<ValueId, &Arc<Tensor>> = HashMap::new();
    for p in &g.inputs {
        if let Err(m) = make(&mut made, p.value) {
            problems.push(fault(format!("@{}, input {:?}: {m}", g.name, p.name)));
        }
    }
    for (i, n) in g.nodes.iter().enumerate() {
        // Without this the types below would be out of reach.
        let mut sound = n
            .operands
            .iter()
            .find(|v| !made.get(v.index()).is_some_and(|m| *m))
            .map_or(Ok(()), |v| Err(format!("ml.{} uses %{}, which is not made before it", n.op.name, v.0)));
        for &r in &n.results {
            sound = sound.and(make(&mut made, r).map_err(|m| format!("ml.{}: {m}", n.op.name)));
        }
        let checked = match sound {
            Ok(()) => node(program, g, n, &constants),
            Err(m) => Err(fault(m)),
        };
        if let Err(mut d) = checked {
            if *n.origin == Origin::Unknown {
                let place = places.get(&(g.name.clone(), i)).cloned().unwrap_or_else(|| format!("op {i} of @{}", g.name));
                d.notes.push(format!("at {place}"));
            }
            problems.push(d.at((*n.origin).clone()));
        }
        if let ("constant", Some(t), [r]) = (n.op.name, n.attrs.tensor("value"), &n.results[..]) {
            constants.insert(*r, t);
        }
    }
    for o in &g.outputs {
        if !made.get(o.value.index()).is_some_and(|m| *m) {
            problems.push(fault(format!("@{}: output {:?} is never made", g.name, o.name)));
        }
    }
}

/// Marks a value as made, once.
fn make(made: &mut [bool], v: ValueId) -> Result<(), String> {
    match made.get_mut(v.index()) {
        None => Err(format!("%{} has no type", v.0)),
        Some(true) => Err(format!("%{} is made twice", v.0)),
        Some(m) => {
            *m = true;
            Ok(())
        }
    }
}

/// Whether one could be the other: equal where both extents are numbers.
pub fn fits(a: &TensorType, b: &TensorType) -> bool {
    let same = |(p, q): (&Dim, &Dim)| p.known().is_none() || q.known().is_none() || p == q;
    a.dtype == b.dtype && a.rank() == b.rank() && a.shape.0.iter().zip(&b.shape.0).all(same)
}

fn list<'a>(types: impl IntoIterator<Item = &'a TensorType>) -> String {
    let all: Vec<String> = types.into_iter().map(TensorType::to_string).collect();
    if all.is_empty() { "nothing".into() } else { all.join(", ") }
}

fn node(program: &Program, g: &Graph, n: &Node, constants: &HashMap<ValueId, &Arc<Tensor>>) -> Result<(), Diagnostic> {
    let operands: Vec<TensorType> = n.operands.iter().map(|&v| g.ty(v).clone()).collect();
    let results: Vec<&TensorType> = n.results.iter().map(|&v| g.ty(v)).collect();
    let known: Vec<Option<&Tensor>> = n.operands.iter().map(|v| constants.get(v).map(|t| &***t)).collect();
    verify_node(program, n, &operands, &results, &known)
}

/// Checks one op on operands and results of these types; `known` are the operands that are constants. Functions that the op names are
/// those of `program`. E0902; E0209 where the result's type depends on values that are not known.
pub fn verify_node(
    program: &Program,
    n: &Node,
    operands: &[TensorType],
    results: &[&TensorType],
    known: &[Option<&Tensor>],
) -> Result<(), Diagnostic> {
    check_signature(n.op.0, operands.len(), &n.attrs).map_err(|e| fault(e.message))?;
    for (i, t) in operands.iter().enumerate() {
        let def = &n.op.operands[i.min(n.op.operands.len() - 1)];
        if !def.types.has(t.dtype) {
            return Err(fault(format!("ml.{}: operand {} cannot be {t}", n.op.name, def.name)).note(format!("it must be {:?}", def.types)));
        }
    }
    let count = match n.op.results {
        Results::One => Some(1),
        Results::Many(k) => Some(k as usize),
        Results::Inferred => None,
    };
    if let Some(want) = count.filter(|&k| k != results.len()) {
        return Err(fault(format!("ml.{} gives {want} results, but {} are named", n.op.name, results.len())));
    }
    if matches!(n.op.kind, Kind::Structure) {
        return calls(program, n, operands, results);
    }
    if n.op.name == "weight" {
        // Its type comes from the weight store, which is not part of a program.
        return Ok(());
    }
    let args = InferArgs { operands, attrs: &n.attrs, consts: known, fresh: Fresh("?", 0) };
    let want = (n.op.infer)(&args).map_err(|e| {
        let mut d = fault(format!("ml.{}: {}", n.op.name, e.message));
        if e.code == "E0209" {
            d.code = e.code.into();
        }
        for (i, t) in operands.iter().enumerate() {
            let name = n.op.operands[i.min(n.op.operands.len() - 1)].name;
            let mark = e.marks.iter().find(|m| m.0 == i).map(|m| m.1.clone()).unwrap_or_default();
            d = d.label(name, t.to_string(), mark);
        }
        d.notes.extend(e.notes);
        d
    })?;
    if want.len() == results.len() && want.iter().zip(results).all(|(w, h)| fits(w, h)) {
        return Ok(());
    }
    Err(fault(format!("ml.{} gives {}, but its type says {}", n.op.name, list(&want), list(results.iter().copied()))))
}

/// The functions a node names, with the name of the attribute.
fn callees(n: &Node) -> impl Iterator<Item = (&str, &str)> {
    n.attrs.0.iter().filter_map(|(k, a)| match a {
        Attr::Func(f) => Some((&**k, &**f)),
        _ => None,
    })
}

/// A function named by an op takes the op's variadic operands and gives its results.
fn calls(program: &Program, n: &Node, operands: &[TensorType], results: &[&TensorType]) -> Result<(), Diagnostic> {
    let fixed = n.op.operands.iter().filter(|o| !o.variadic).count();
    let args = operands.get(fixed..).unwrap_or_default();
    for (key, name) in callees(n) {
        let Some(f) = program.functions.get(name) else {
            return Err(fault(format!("ml.{} names @{name}, which is not in the module", n.op.name)));
        };
        if !matches!(key, "callee" | "then" | "else" | "body") {
            continue;
        }
        let types =
            |ports: &[crate::Port]| -> Option<Vec<TensorType>> { ports.iter().map(|p| f.types.get(p.value.index()).cloned()).collect() };
        let (Some(takes), Some(gives)) = (types(&f.inputs), types(&f.outputs)) else {
            // The function itself is refused for this.
            continue;
        };
        if n.op.name == "scan" {
            return scan(n, operands, results, &takes, &gives);
        }
        // A loop's body also takes the number of the run and the condition, and gives the next condition; what it keeps is stacked.
        let (mut takes, mut gives, mut results) = (takes, gives, results.to_vec());
        if key == "body" {
            let own = takes.len() >= 2 && takes[0].dtype == DType::I64 && takes[1].dtype == DType::Bool;
            if !own || gives.first().is_none_or(|c| c.dtype != DType::Bool) || gives.len() != results.len() + 1 {
                return Err(fault(format!("ml.loop: @{name} takes {} and gives {}", list(&takes), list(&gives))));
            }
            takes.drain(..2);
            gives.remove(0);
            let carried = n.attrs.int("carried").and_then(|k| usize::try_from(k).ok()).unwrap_or(usize::MAX);
            if carried > results.len() || carried > args.len() {
                return Err(fault(format!("ml.loop carries more values than it has: {carried}")));
            }
            gives.truncate(carried);
            results.truncate(carried);
        }
        if takes.len() != args.len() || !takes.iter().zip(args).all(|(a, b)| fits(a, b)) {
            return Err(fault(format!("ml.{}: @{name} takes {}, but is given {}", n.op.name, list(&takes), list(args))));
        }
        if gives.len() != results.len() || !gives.iter().zip(&results).all(|(a, b)| fits(a, b)) {
            return Err(fault(format!("ml.{}: @{name} gives {}, but its type says {}", n.op.name, list(&gives), list(results))));
        }
    }
    Ok(())
}

/// The body of a scan takes rows of what is sliced, gives back what it carries, and gives rows of what is stacked.
fn scan(n: &Node, operands: &[TensorType], results: &[&TensorType], takes: &[TensorType], gives: &[TensorType]) -> Result<(), Diagnostic> {
    let form = ScanForm::of(n)?;
    let trips = Dim::from(form.trips);
    if let Some(t) =
        operands[form.carried..][..form.sliced].iter().find(|t| t.shape.0.first().is_none_or(|d| d.known().is_some() && *d != trips))
    {
        return Err(fault(format!("ml.scan runs {trips} times, but slices {t}")));
    }
    let want = form.takes(operands);
    if takes.len() != want.len() || !takes.iter().zip(&want).all(|(a, b)| fits(a, b)) {
        return Err(fault(format!("ml.scan: @{} takes {}, but is given {}", form.body, list(takes), list(&want))));
    }
    let made = form.gives(gives);
    let renewed = operands.iter().zip(&made).take(form.carried).all(|(a, b)| fits(a, b));
    if made.len() != results.len() || !renewed || !made.iter().zip(results).all(|(a, b)| fits(a, b)) {
        return Err(fault(format!("ml.scan: @{} makes {}, but its type says {}", form.body, list(&made), list(results.iter().copied()))));
    }
    Ok(())
}

/// Most functions that are in each other when the program runs: each takes its part of the stack.
const MAX_DEPTH: usize = 64;

/// Most ops once every call is written out: each of thirty functions that calls the next twice makes a billion.
const MAX_NODES: u64 = 1_000_000;

/// How deep functions call each other, and the ops of the largest with its calls written out; where a function reaches itself, the way:
/// evaluating it would never end.
fn nesting(program: &Program) -> Result<(usize, u64), Vec<String>> {
    let next: BTreeMap<&str, Vec<&str>> =
        program.functions.iter().map(|(name, g)| (name.as_str(), g.nodes.iter().flat_map(|n| callees(n).map(|c| c.1)).collect())).collect();
    let own = |f: &str| program.functions.get(f).map_or(0, |g| g.nodes.len() as u64);
    let mut done: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    for &start in next.keys() {
        // Depth first with a way of our own: a hostile chain of calls may be long.
        let mut way: Vec<(&str, Vec<&str>, (usize, u64))> = vec![];
        let add = |w: &mut (&str, Vec<&str>, (usize, u64)), d: (usize, u64)| w.2 = (w.2.0.max(d.0), w.2.1.saturating_add(d.1));
        let mut on_way: BTreeSet<&str> = BTreeSet::new();
        let mut enter = Some(start);
        loop {
            if let Some(f) = enter.take() {
                if on_way.contains(f) {
                    let circle = way.iter().map(|w| w.0).skip_while(|w| *w != f).chain([f]);
                    return Err(circle.map(|f| format!("@{f}")).collect());
                }
                match done.get(f) {
                    Some(&d) => {
                        way.last_mut().into_iter().for_each(|w| add(w, d));
                    }
                    None => {
                        on_way.insert(f);
                        way.push((f, next.get(f).into_iter().flatten().copied().collect(), (0, own(f))));
                    }
                }
            }
            match way.last_mut() {
                None => break,
                Some((_, left, _)) if !left.is_empty() => enter = left.pop(),
                Some((f, _, below)) => {
                    let (f, d) = (*f, (below.0 + 1, below.1));
                    done.insert(f, d);
                    on_way.remove(f);
                    way.pop();
                    way.last_mut().into_iter().for_each(|w| add(w, d));
                }
            }
        }
    }
    Ok(done.into_values().fold((0, 0), |(a, b), (c, d)| (a.max(c), b.max(d))))
}
