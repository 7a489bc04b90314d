//! Operators over subgraphs. Conditions and trip counts known at import are resolved there: branches are inlined, loops are an `ml.scan`
//! or unrolled ([`super::steps`]). A branch on a run-time condition becomes two functions of the program and an `ml.if`, a loop that ends
//! at run time one function and an `ml.loop`.

use super::context::{Context, R, V};
use super::frame::{Frame, Scope, Slot};
use super::importer::Importer;
use super::ops::{Import, Row};
use super::steps::{SHORT, Steps};
use crate::proto::GraphProto;
use tahoma_core::graph::FOLD_ELEMENTS;
use tahoma_core::ops::scan::MAX_TRIPS;
use tahoma_core::{Attr, Attrs, DType, Dim, Graph, OpError, Port, Shape, Tensor, TensorType, ValueId};

pub(super) static ROWS: &[Row] = &[
    Row::new("If", 1, Import::Slots(if_)),
    Row::new("Loop", 1, Import::Slots(loop_)),
    Row::new("Scan", 8, Import::Slots(scan8)),
    Row::new("Scan", 9, Import::Slots(scan)),
    Row::new("SequenceMap", 17, Import::Slots(sequence_map)),
];

fn body<'m>(cx: &Context<'_, 'm>, name: &str) -> R<&'m GraphProto> {
    cx.attrs.graph(name).ok_or_else(|| OpError::attr(format!("needs attribute {name:?} (a graph)")))
}

fn if_(cx: &mut Context) -> R<Vec<Slot>> {
    let cond = cx.input(0)?;
    let (then, other) = (body(cx, "then_branch")?, body(cx, "else_branch")?);
    if let Some(t) = cx.constant_of(cond) {
        let value = t.first_bool().ok_or_else(|| OpError::dtype(format!("the condition must be one bool, not {}", t.ty())))?;
        return cx.imp.subgraph(if value { then } else { other }, vec![]);
    }
    let cond = scalar_bool(cx, cond)?;
    let before = cx.imp.diags.0.len();
    let (Some(a), Some(b)) = (function(cx.imp, then, "then", &[])?, function(cx.imp, other, "else", &[])?) else {
        // What is wrong inside has been reported there; add how to leave the branch out.
        if let Some(d) = cx.imp.diags.0.get_mut(before) {
            d.notes.push(
                "this branch is taken or not at run time; give the input that decides it as a constant to leave the other one out".into(),
            );
        }
        return Ok(unknowns(cx.node.output.len()));
    };
    if a.graph.outputs.len() != b.graph.outputs.len() {
        return Err(OpError::new("E0202", format!("branches give {} and {} results", a.graph.outputs.len(), b.graph.outputs.len())));
    }
    let mut types = Vec::new();
    for (i, (x, y)) in a.graph.outputs.iter().zip(&b.graph.outputs).enumerate() {
        let (x, y) = (a.graph.ty(x.value), b.graph.ty(y.value));
        if x.dtype != y.dtype || x.rank() != y.rank() {
            return Err(OpError::open(format!("result {i} is {x} in one branch and {y} in the other"))
                .note("with a condition known only at run time both branches must give the same number type and rank")
                .note("give the input that decides it as a constant: then only the branch taken is there"));
        }
        let join = |(k, (m, n)): (usize, (&Dim, &Dim))| if m == n { m.clone() } else { Dim::sym(&format!("{}.if{i}.{k}", a.graph.name)) };
        types.push(TensorType::new(x.dtype, Shape(x.shape.0.iter().zip(&y.shape.0).enumerate().map(join).collect())));
    }
    let mut args: Vec<ValueId> = a.captures.iter().map(|c| c.0).collect();
    args.extend(b.captures.iter().map(|c| c.0).filter(|v| !a.captures.iter().any(|c| c.0 == *v)));
    let mut attributes = Attrs::new();
    for (key, branch) in [("then", a), ("else", b)] {
        let graph = close(branch, &args, |v| cx.ty(v));
        attributes = attributes.with(key, Attr::Func(graph.name.as_str().into()));
        cx.imp.functions.insert(graph.name.clone(), graph);
    }
    let mut operands = vec![cond];
    operands.extend(args);
    let def = tahoma_core::ops::find("if").ok_or_else(|| OpError::new("E0901", "the op table has no ml.if"))?;
    let out = cx.b().structure(def, &operands, attributes, types)?;
    Ok(out.into_iter().map(Slot::Value).collect())
}

/// ONNX allows a condition of shape [1].
fn scalar_bool(cx: &mut Context, v: V) -> R<V> {
    if cx.dtype(v) != DType::Bool {
        return Err(OpError::dtype(format!("the condition must be bool, not {}", cx.ty(v))));
    }
    cx.reshape(v, &[])
}

/// A subgraph as a function.
struct Branch {
    graph: Graph,
    captures: Vec<(ValueId, ValueId)>,
}

/// Builds a subgraph as a function whose inputs are of the types given and what it captures; `None` where an error inside it was
/// reported.
fn function<'m>(imp: &mut Importer<'m>, g: &'m GraphProto, what: &str, takes: &[TensorType]) -> R<Option<Branch>> {
    let name = imp.fresh_name(what);
    let outer = imp.scope();
    let scope = Scope { opsets: outer.opsets.clone(), attrs: outer.attrs.clone(), within: outer.within.clone(), ..Scope::default() };
    let origin = imp.builder_ref().origin().clone();
    imp.frames.push(Frame::new(&name));
    imp.builder().set_origin(origin);
    imp.frame().scopes.push(scope);
    let args = takes.iter().enumerate().map(|(i, t)| Slot::Value(imp.builder().input(&format!("in{i}"), t.clone()))).collect();
    let result = imp.subgraph(g, args);
    let Some(mut frame) = imp.frames.pop() else {
        return Err(OpError::new("E0901", "the import lost its frame"));
    };
    for (o, slot) in g.output.iter().zip(result?) {
        match slot {
            Slot::Value(v) => frame.builder.output(o.name(), v),
            Slot::Unknown => return Ok(None),
            _ => {
                return Err(OpError::open("what is decided at run time must give tensors")
                    .note("give the input that decides it as a constant: then only what runs is there"));
            }
        }
    }
    Ok(Some(Branch { graph: frame.builder.finish(), captures: frame.captures }))
}

/// Gives a function the inputs `args` behind its own, in that order; those it does not use are inputs all the same.
fn close(b: Branch, args: &[ValueId], ty: impl Fn(ValueId) -> TensorType) -> Graph {
    let mut g = b.graph;
    let mut inputs = std::mem::take(&mut g.inputs);
    inputs.retain(|p| b.captures.iter().all(|c| c.1 != p.value));
    for (i, &a) in args.iter().enumerate() {
        let value = match b.captures.iter().find(|c| c.0 == a) {
            Some(c) => c.1,
            None => {
                g.types.push(ty(a));
                ValueId(g.types.len() as u32 - 1)
            }
        };
        inputs.push(Port { name: format!("arg{i}"), value });
    }
    g.inputs = inputs;
    g
}

fn loop_(cx: &mut Context) -> R<Vec<Slot>> {
    let g = body(cx, "body")?;
    let trips = match cx.try_opt(0)? {
        None => None,
        Some(v) => match cx.ints_of(v).and_then(|v| v.first().copied()) {
            Some(n) => Some(n),
            None => return repeat(cx, g),
        },
    };
    let mut cond = match cx.try_opt(1)? {
        None => true,
        Some(v) => match cx.constant_of(v).and_then(|t| t.first_bool()) {
            Some(c) => c,
            None => return repeat(cx, g),
        },
    };
    let mut carried: Vec<Slot> = cx.slots.iter().skip(2).map(|s| s.clone().unwrap_or(Slot::Optional(None))).collect();
    let k = carried.len();
    if g.input.len() != k + 2 || g.output.len() < k + 1 {
        return Err(OpError::new("E0202", format!("{k} carried values need a body with {} inputs, it has {}", k + 2, g.input.len())));
    }
    if let (true, Some(n)) = (cond, trips)
        && n > SHORT as i64
    {
        if let Some(out) = counted(cx, g, n, &carried)? {
            return Ok(out);
        }
        if n > cx.imp.options.budget.trips as i64 {
            return repeat(cx, g);
        }
    }
    let mut stacked: Vec<Vec<V>> = vec![vec![]; g.output.len() - 1 - k];
    let mut i = 0i64;
    while cond && trips.is_none_or(|t| i < t) {
        if i as usize >= cx.imp.options.budget.trips {
            return Err(OpError::new("E0107", format!("the loop runs more than {} times", cx.imp.options.budget.trips)));
        }
        let mut args = vec![Slot::Value(cx.int(i)), Slot::Value(cx.constant(Tensor::bool(&[], vec![cond])))];
        args.append(&mut carried);
        let mut out = cx.imp.subgraph(g, args)?.into_iter();
        let next = out.next();
        carried = out.by_ref().take(k).collect();
        for (s, v) in stacked.iter_mut().zip(out) {
            match v {
                Slot::Value(v) => s.push(v),
                _ => return Ok(unknowns(g.output.len() - 1)),
            }
        }
        cond = match next {
            Some(Slot::Value(v)) => match cx.constant_of(v).and_then(|t| t.first_bool()) {
                Some(c) => c,
                // It ends at run time: what was unrolled so far is used by nothing.
                None => return repeat(cx, g),
            },
            _ => return Ok(unknowns(g.output.len() - 1)),
        };
        i += 1;
    }
    for (j, s) in stacked.into_iter().enumerate() {
        carried.push(stack(cx, s, 0, g, k + 1 + j)?);
    }
    Ok(carried)
}

/// A loop that runs as often as it says; `None` where the body may end it, or where it carries more than tensors.
fn counted<'m>(cx: &mut Context<'_, 'm>, g: &'m GraphProto, trips: i64, carried: &[Slot]) -> R<Option<Vec<Slot>>> {
    let tensors: Option<Vec<V>> = carried.iter().map(|s| if let Slot::Value(v) = s { Some(*v) } else { None }).collect();
    let (Some(carried), Ok(trips)) = (tensors, usize::try_from(trips)) else { return Ok(None) };
    if trips as u64 > MAX_TRIPS {
        return Ok(None);
    }
    // As numbers, as far as such are kept: what the body computes from them alone is then known of every run.
    let runs = match trips <= FOLD_ELEMENTS {
        true => cx.constant(Tensor::i64(&[trips], (0..trips as i64).collect())),
        false => cx.iota(trips)?,
    };
    let kept = vec![false; g.output.len() - 1 - carried.len()];
    let steps = Steps { trips, carried: &carried, sliced: &[(runs, false)], shared: &[], kept: &kept };
    let made = steps.looped(cx, &mut |cx, carried, rows, _| {
        let go = cx.constant(Tensor::bool(&[], vec![true]));
        let args = [rows[0], go].iter().chain(carried).map(|&v| Slot::Value(v)).collect();
        let mut out = tensors_of(cx.imp.subgraph(g, args)?)?;
        let again = out.remove(0);
        match cx.constant_of(again).and_then(|t| t.first_bool()) {
            Some(true) => Ok(out),
            _ => Err(OpError::new("E0209", "the body may end the loop")),
        }
    });
    // What is wrong with the body is told by whoever builds it next.
    Ok(made.unwrap_or_default().map(|out| out.into_iter().map(Slot::Value).collect()))
}

fn tensors_of(slots: Vec<Slot>) -> R<Vec<V>> {
    slots.into_iter().map(value).collect()
}

/// A loop that ends at run time.
fn repeat<'m>(cx: &mut Context<'_, 'm>, g: &'m GraphProto) -> R<Vec<Slot>> {
    let trips = match cx.try_opt(0)? {
        Some(v) => {
            let v = cx.cast(v, DType::I64)?;
            cx.reshape(v, &[])?
        }
        None => cx.int(i64::MAX),
    };
    let cond = match cx.try_opt(1)? {
        Some(v) => scalar_bool(cx, v)?,
        None => cx.constant(Tensor::bool(&[], vec![true])),
    };
    let carried: Vec<V> = (2..cx.count())
        .map(|i| match cx.slots[i] {
            Some(Slot::Value(v)) => Ok(v),
            _ => Err(cx.not_constant(0).note("a loop that ends at run time carries tensors only")),
        })
        .collect::<R<_>>()?;
    let k = carried.len();
    if g.input.len() != k + 2 || g.output.len() < k + 1 {
        return Err(OpError::new("E0202", format!("{k} carried values need a body with {} inputs, it has {}", k + 2, g.input.len())));
    }
    let mut types: Vec<TensorType> = carried.iter().map(|&v| cx.ty(v)).collect();
    // An extent that the body changes is open; what is open may open others. Its name must be like no other's.
    let tag = cx.imp.fresh_name("loop");
    let body = loop {
        let takes: Vec<TensorType> =
            [DType::I64, DType::Bool].map(|d| TensorType::known(d, &[])).into_iter().chain(types.clone()).collect();
        let Some(f) = function(cx.imp, g, "body", &takes)? else { return Ok(unknowns(g.output.len() - 1)) };
        one_bool(&f.graph)?;
        let mut opened = false;
        for (j, t) in types.iter_mut().enumerate() {
            let made = f.graph.ty(f.graph.outputs[1 + j].value);
            if made.dtype != t.dtype || made.rank() != t.rank() {
                return Err(OpError::open(format!("carried value {j} is {t} before the loop and {made} after a run of it"))
                    .note("a loop that ends at run time must keep the number type and rank of what it carries"));
            }
            for (a, (d, m)) in t.shape.0.iter_mut().zip(&made.shape.0).enumerate() {
                let open = Dim::sym(&format!("{tag}.v{j}.{a}"));
                if d != m && *d != open {
                    (*d, opened) = (open, true);
                }
            }
        }
        if !opened {
            break f;
        }
    };
    let args: Vec<ValueId> = body.captures.iter().map(|c| c.0).collect();
    let mut results = types;
    let count = Dim::sym(&format!("{}.runs", body.graph.name));
    for o in &body.graph.outputs[1 + k..] {
        let t = body.graph.ty(o.value);
        results.push(TensorType::new(t.dtype, Shape([std::slice::from_ref(&count), &t.shape.0[..]].concat())));
    }
    let graph = close(body, &args, |v| cx.ty(v));
    let attributes = Attrs::new().with("body", Attr::Func(graph.name.as_str().into())).with("carried", k as i64);
    cx.imp.functions.insert(graph.name.clone(), graph);
    let operands = [&[trips, cond], &carried[..], &args[..]].concat();
    let def = tahoma_core::ops::find("loop").ok_or_else(|| OpError::new("E0901", "the op table has no ml.loop"))?;
    Ok(cx.b().structure(def, &operands, attributes, results)?.into_iter().map(Slot::Value).collect())
}

/// A body's first result must be one bool; ONNX lets it have any shape of one element.
fn one_bool(g: &Graph) -> R<()> {
    let t = g.ty(g.outputs[0].value);
    if t.dtype != DType::Bool || t.shape.elements().is_some_and(|n| n != 1) {
        return Err(OpError::dtype(format!("the body's condition must be one bool, not {t}")));
    }
    Ok(())
}

fn unknowns(n: usize) -> Vec<Slot> {
    vec![Slot::Unknown; n]
}

/// The tensor of a slot.
fn value(s: Slot) -> R<V> {
    match s {
        Slot::Value(v) => Ok(v),
        _ => Err(OpError::dtype("a result of the body must be a tensor")),
    }
}

/// Joins per-trip values along a new axis; without trips the body's declaration gives the shape.
fn stack(cx: &mut Context, vs: Vec<V>, axis: usize, g: &GraphProto, output: usize) -> R<Slot> {
    if vs.is_empty() {
        use crate::proto::{tensor_shape_proto::dimension, type_proto};
        let Some(type_proto::Value::TensorType(t)) = g.output[output].r#type.as_ref().and_then(|t| t.value.as_ref()) else {
            return Ok(Slot::Missing("a loop without trips, whose body does not declare this result's type".into()));
        };
        let Ok(dtype) = crate::tensor_proto::dtype(t.elem_type()) else {
            return Ok(Slot::Missing("its number type is not supported".into()));
        };
        let mut dims = vec![0usize];
        for d in t.shape.iter().flat_map(|s| &s.dim) {
            match d.value {
                Some(dimension::Value::DimValue(n)) if (0..1 << 32).contains(&n) => dims.push(n as usize),
                _ => dims.push(0),
            }
        }
        let empty = Tensor::from_bytes(dtype, &dims, &[]).ok_or_else(|| OpError::shape("no trips"))?;
        return Ok(Slot::Value(cx.constant(empty)));
    }
    let rank = cx.rank(vs[0]);
    let axis = axis.min(rank);
    let vs: Vec<V> = vs.into_iter().map(|v| cx.unsqueeze(v, axis)).collect::<R<_>>()?;
    Ok(Slot::Value(cx.concat(&vs, axis)?))
}

/// One scan over `length` steps; gives states and stacked outputs.
fn scan_steps<'m>(
    cx: &mut Context<'_, 'm>,
    g: &'m GraphProto,
    states: &[V],
    inputs: &[(V, usize, bool)],
    length: usize,
    outputs: &[(i64, bool)],
) -> R<Vec<Slot>> {
    let n = states.len();
    if g.input.len() != n + inputs.len() || g.output.len() != n + outputs.len() {
        return Err(OpError::new("E0202", "the body's inputs and outputs do not match the operands"));
    }
    let mut out: Vec<Slot> = states.iter().map(|&v| Slot::Value(v)).collect();
    if length == 0 {
        for j in 0..outputs.len() {
            out.push(stack(cx, vec![], 0, g, n + j)?);
        }
        return Ok(out);
    }
    let mut sliced = vec![];
    for &(x, axis, reverse) in inputs {
        let mut perm: Vec<usize> = (0..cx.rank(x)).filter(|&a| a != axis).collect();
        perm.insert(0, axis);
        sliced.push((cx.transpose(x, &perm)?, reverse));
    }
    let kept: Vec<bool> = outputs.iter().map(|o| o.1).collect();
    let steps = Steps { trips: length, carried: states, sliced: &sliced, shared: &[], kept: &kept };
    let mut unknown = false;
    let made = steps.run(cx, &mut |cx, carried, rows, _| {
        let out = cx.imp.subgraph(g, carried.iter().chain(rows).map(|&v| Slot::Value(v)).collect())?;
        unknown = out.iter().any(|s| matches!(s, Slot::Unknown));
        tensors_of(out)
    });
    if unknown {
        // What is wrong inside has been reported there.
        return Ok(unknowns(g.output.len()));
    }
    let made = made?;
    for (j, &v) in made.iter().enumerate() {
        if j < n {
            out[j] = Slot::Value(v);
            continue;
        }
        let axis = cx.axis(outputs[j - n].0, cx.rank(v))?;
        let mut perm: Vec<usize> = (1..cx.rank(v)).collect();
        perm.insert(axis, 0);
        out.push(Slot::Value(cx.transpose(v, &perm)?));
    }
    Ok(out)
}

fn scan(cx: &mut Context) -> R<Vec<Slot>> {
    let g = body(cx, "body")?;
    let m = cx.attrs.int("num_scan_inputs").unwrap_or(0);
    let total = cx.count();
    let m = usize::try_from(m).ok().filter(|&m| m >= 1 && m <= total).ok_or_else(|| OpError::attr("num_scan_inputs is out of range"))?;
    let n = total - m;
    let states = cx.inputs()?[..n].to_vec();
    let pick = |a: Option<&[i64]>, i: usize| a.and_then(|a| a.get(i).copied()).unwrap_or(0);
    let (in_axes, in_dirs) = (cx.attrs.ints("scan_input_axes"), cx.attrs.ints("scan_input_directions"));
    let (out_axes, out_dirs) = (cx.attrs.ints("scan_output_axes"), cx.attrs.ints("scan_output_directions"));
    let (mut inputs, mut length) = (vec![], None);
    for i in 0..m {
        let v = cx.input(n + i)?;
        let axis = cx.axis(pick(in_axes, i), cx.rank(v))?;
        let len = cx.dim(v, axis)?;
        if length.replace(len).is_some_and(|l| l != len) {
            return Err(OpError::shape("scan inputs have different lengths").mark(n + i, format!("axis {axis} must agree")));
        }
        inputs.push((v, axis, pick(in_dirs, i) == 1));
    }
    let length = length.unwrap_or(0);
    let k = g.output.len().saturating_sub(n);
    let outputs: Vec<(i64, bool)> = (0..k).map(|i| (pick(out_axes, i), pick(out_dirs, i) == 1)).collect();
    scan_steps(cx, g, &states, &inputs, length, &outputs)
}

/// Scan of operator set 8: a batch axis in front, an optional first operand with sequence lengths.
fn scan8(cx: &mut Context) -> R<Vec<Slot>> {
    let g = body(cx, "body")?;
    if cx.try_opt(0)?.is_some() {
        return Err(cx.unsupported("Scan with sequence lengths"));
    }
    let m = usize::try_from(cx.attrs.int("num_scan_inputs").unwrap_or(0)).unwrap_or(0);
    let total = cx.count() - 1;
    if m < 1 || m > total {
        return Err(OpError::attr("num_scan_inputs is out of range"));
    }
    let n = total - m;
    let dirs = cx.attrs.ints("directions");
    let operands: Vec<V> = (1..=total).map(|i| cx.input(i)).collect::<R<_>>()?;
    let batch = cx.dim(operands[0], 0)?;
    let length = cx.dim(operands[n], 1)?;
    let k = g.output.len().saturating_sub(n);
    if batch == 0 {
        return Err(cx.unsupported("Scan of operator set 8 over an empty batch"));
    }
    // A loop over the batch around the one over the steps.
    let sliced: Vec<(V, bool)> = operands.iter().map(|&v| (v, false)).collect();
    let outer = Steps { trips: batch, carried: &[], sliced: &sliced, shared: &[], kept: &vec![false; n + k] };
    let mut unknown = false;
    let made = outer.run(cx, &mut |cx, _, one, _| {
        let inputs: Vec<(V, usize, bool)> =
            one[n..].iter().enumerate().map(|(i, &v)| (v, 0, dirs.and_then(|d| d.get(i)) == Some(&1))).collect();
        let out = scan_steps(cx, g, &one[..n], &inputs, length, &vec![(0, false); k])?;
        unknown = out.iter().any(|s| matches!(s, Slot::Unknown));
        tensors_of(out)
    });
    if unknown {
        return Ok(unknowns(n + k));
    }
    Ok(made?.into_iter().map(Slot::Value).collect())
}

fn sequence_map(cx: &mut Context) -> R<Vec<Slot>> {
    let g = body(cx, "body")?;
    let Some(Some(Slot::Sequence(first))) = cx.slots.first().cloned() else {
        return Err(OpError::dtype("the first operand must be a sequence"));
    };
    let rest: Vec<Slot> = cx.slots[1..].iter().map(|s| s.clone().unwrap_or(Slot::Optional(None))).collect();
    let mut out: Vec<Vec<V>> = vec![vec![]; g.output.len()];
    for (i, v) in first.iter().enumerate() {
        let mut args = vec![Slot::Value(*v)];
        for r in &rest {
            args.push(match r {
                Slot::Sequence(s) => Slot::Value(*s.get(i).ok_or_else(|| OpError::shape("the sequences have different lengths"))?),
                other => other.clone(),
            });
        }
        let results = cx.imp.subgraph(g, args)?;
        if results.iter().any(|s| matches!(s, Slot::Unknown)) {
            return Ok(unknowns(out.len()));
        }
        for (o, s) in out.iter_mut().zip(results) {
            o.push(value(s)?);
        }
    }
    Ok(out.into_iter().map(Slot::Sequence).collect())
}
