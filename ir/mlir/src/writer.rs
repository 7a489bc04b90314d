//! Programs as MLIR text: one `func.func` per function, generic `ml.*` ops, origins as locations.

use std::fmt::Write;
use tahoma_core::escape::Quoted;
use tahoma_core::op::Results;
use tahoma_core::{Attr, DType, Dim, Graph, Node, Origin, Program, Tensor, TensorType, ValueId};

/// `tensor<1x?xf32, ["", "N"]>`: symbols stand in the encoding, in the place of their axis.
pub(crate) fn tensor_type(t: &TensorType) -> String {
    let mut s = String::from("tensor<");
    for d in &t.shape.0 {
        match d {
            Dim::Known(n) => {
                let _ = write!(s, "{n}x");
            }
            Dim::Sym(_) => s.push_str("?x"),
        }
    }
    s.push_str(t.dtype.mlir());
    if !t.shape.is_static() {
        let names: Vec<String> = t
            .shape
            .0
            .iter()
            .map(|d| match d {
                Dim::Known(_) => "\"\"".into(),
                Dim::Sym(n) => Quoted(n).to_string(),
            })
            .collect();
        let _ = write!(s, ", [{}]", names.join(", "));
    }
    s.push('>');
    s
}

fn float(x: f64) -> String {
    if x.is_finite() {
        // Seventeen digits bring every f64 back; MLIR wants a point.
        format!("{x:.17e}")
    } else {
        format!("0x{:016X}", x.to_bits())
    }
}

/// Elements as packed bytes in hex, which keeps every bit; bool as true and false, since MLIR packs i1 in its own way.
fn dense(t: &Tensor) -> String {
    let ty = tensor_type(&t.ty());
    if t.is_empty() {
        return format!("dense<> : {ty}");
    }
    let plain = |items: Vec<String>| -> String {
        fn nest(items: &[String], shape: &[usize]) -> String {
            match shape {
                [] => items.first().cloned().unwrap_or_default(),
                [_] => format!("[{}]", items.join(", ")),
                [_, rest @ ..] => {
                    let step: usize = rest.iter().product();
                    let parts: Vec<String> = items.chunks(step).map(|c| nest(c, rest)).collect();
                    format!("[{}]", parts.join(", "))
                }
            }
        }
        nest(&items, t.shape())
    };
    let d = t.dtype();
    let text = if d == DType::Bool {
        plain(t.to_f64s().iter().map(|&x| (x != 0.0).to_string()).collect())
    } else if d.is_int() {
        let v = t.cast(DType::I64).to_ints().unwrap_or_default();
        plain(v.iter().map(|&x| if d == DType::U64 { (x as u64).to_string() } else { x.to_string() }).collect())
    } else {
        // Floats by their bits, so that NaNs and −0 stay what they are.
        let bytes = t.to_bytes();
        if d.bits() < 8 {
            plain(t.to_f64s().iter().map(|x| format!("{x:e}")).map(point).collect())
        } else {
            let w = d.bits() as usize / 8;
            let code = |c: &[u8]| c.iter().rev().fold(0u64, |a, &b| a << 8 | b as u64);
            // MLIR's tf32 has the 19 bits that count.
            let (shift, digits) = if d == DType::TF32 { (13, 5) } else { (0, 2 * w) };
            plain(bytes.chunks(w).map(|c| format!("0x{:0digits$X}", code(c) >> shift)).collect())
        }
    };
    format!("dense<{text}> : {ty}")
}

/// MLIR floats need a decimal point.
fn point(s: String) -> String {
    match s.split_once('e') {
        Some((m, e)) if !m.contains('.') => format!("{m}.0e{e}"),
        _ => s,
    }
}

fn attribute(a: &Attr) -> String {
    let array =
        |t: &str, items: Vec<String>| if items.is_empty() { format!("array<{t}>") } else { format!("array<{t}: {}>", items.join(", ")) };
    match a {
        Attr::Int(v) => format!("{v} : i64"),
        Attr::Float(v) => format!("{} : f64", float(v.0)),
        Attr::Bool(v) => v.to_string(),
        Attr::Str(s) => Quoted(s).to_string(),
        Attr::Ints(v) => array("i64", v.iter().map(i64::to_string).collect()),
        Attr::Floats(v) => array("f64", v.iter().map(|x| float(x.0)).collect()),
        Attr::DType(d) => d.mlir().to_string(),
        Attr::Tensor(t) => dense(t),
        Attr::Func(f) => format!("@{}", Quoted(f)),
    }
}

fn location(o: &Origin) -> String {
    match o {
        Origin::Unknown => "unknown".into(),
        Origin::Node { model, index, name, op } => {
            format!("fused<{}>[{}({}:{index}:0)]", Quoted(&format!("node {op}")), Quoted(name), Quoted(model))
        }
        Origin::Tensor { model, name } => format!("fused<\"tensor\">[{}({}:0:0)]", Quoted(name), Quoted(model)),
        Origin::Fused { rule, from } => {
            let parts: Vec<String> = from.iter().map(|o| location(o)).collect();
            format!("fused<{}>[{}]", Quoted(&format!("rule {rule}")), parts.join(", "))
        }
    }
}

/// A group of values of different types is one tuple, for a variadic group of an IRDL op has one type. `None` where types are equal.
fn tuple(g: &Graph, group: &[ValueId]) -> Option<String> {
    let first = g.ty(*group.first()?);
    if group.iter().all(|v| g.ty(*v) == first) {
        return None;
    }
    Some(format!("tuple<{}>", types(g, group)))
}

fn types(g: &Graph, values: &[ValueId]) -> String {
    values.iter().map(|v| tensor_type(g.ty(*v))).collect::<Vec<_>>().join(", ")
}

fn values(values: &[ValueId]) -> String {
    values.iter().map(|v| format!("%{}", v.0)).collect::<Vec<_>>().join(", ")
}

/// One op; around it, where types differ in a variadic group, the casts that pack and unpack the tuple.
fn node(g: &Graph, i: usize, n: &Node, s: &mut String) {
    let (mut operands, mut ins) = (values(&n.operands), types(g, &n.operands));
    let fixed = n.op.operands.iter().filter(|o| !o.variadic).count();
    if fixed < n.op.operands.len()
        && let Some(group) = n.operands.get(fixed..)
        && let Some(packed) = tuple(g, group)
    {
        let _ =
            writeln!(s, "    %in{i} = builtin.unrealized_conversion_cast {} : {} to {packed} loc(unknown)", values(group), types(g, group));
        let joined = |fixed: String, last: String| if fixed.is_empty() { last } else { format!("{fixed}, {last}") };
        operands = joined(values(&n.operands[..fixed]), format!("%in{i}"));
        ins = joined(types(g, &n.operands[..fixed]), packed);
    }
    let packed = if n.op.results == Results::Inferred { tuple(g, &n.results) } else { None };
    let named = match (&packed, n.results.is_empty()) {
        (Some(_), _) => format!("%out{i} = "),
        (None, true) => String::new(),
        (None, false) => format!("{} = ", values(&n.results)),
    };
    let outs = packed.clone().unwrap_or_else(|| types(g, &n.results));
    let attrs: Vec<String> = n.attrs.0.iter().map(|(k, v)| format!("{} = {}", Quoted(k), attribute(v))).collect();
    let attrs = if attrs.is_empty() { String::new() } else { format!(" {{{}}}", attrs.join(", ")) };
    let _ = writeln!(s, "    {named}\"ml.{}\"({operands}){attrs} : ({ins}) -> ({outs}) loc({})", n.op.name, location(&n.origin));
    if let Some(packed) = packed {
        let (v, t) = (values(&n.results), types(g, &n.results));
        let _ = writeln!(s, "    {v} = builtin.unrealized_conversion_cast %out{i} : {packed} to {t} loc(unknown)");
    }
}

fn function(g: &Graph, s: &mut String) {
    let types = |ports: &[tahoma_core::Port]| ports.iter().map(|p| tensor_type(g.ty(p.value))).collect::<Vec<_>>().join(", ");
    let names = |ports: &[tahoma_core::Port]| ports.iter().map(|p| Quoted(&p.name).to_string()).collect::<Vec<_>>().join(", ");
    let args: Vec<String> = g.inputs.iter().map(|p| format!("%{}: {} loc(unknown)", p.value.0, tensor_type(g.ty(p.value)))).collect();
    let mut attrs = vec![format!("ml.inputs = [{}]", names(&g.inputs)), format!("ml.outputs = [{}]", names(&g.outputs))];
    attrs.extend(g.attrs.0.iter().map(|(k, v)| format!("{} = {}", Quoted(&format!("ml.{k}")), attribute(v))));
    let _ = writeln!(
        s,
        "  func.func @{}({}) -> ({}) attributes {{{}}} {{",
        Quoted(&g.name),
        args.join(", "),
        types(&g.outputs),
        attrs.join(", ")
    );
    for (i, n) in g.nodes.iter().enumerate() {
        node(g, i, n, s);
    }
    let out: Vec<String> = g.outputs.iter().map(|o| format!("%{}", o.value.0)).collect();
    let _ = if out.is_empty() {
        writeln!(s, "    return loc(unknown)\n  }} loc(unknown)")
    } else {
        writeln!(s, "    return {} : {} loc(unknown)\n  }} loc(unknown)", out.join(", "), types(&g.outputs))
    };
}

/// The program's module.
pub(crate) fn program(p: &Program) -> String {
    let mut s = String::from("module {\n");
    for g in p.functions.values() {
        function(g, &mut s);
    }
    s.push_str("} loc(unknown)\n");
    s
}
