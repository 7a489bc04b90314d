//! Damage to ONNX models that keeps the protobuf whole: what is wrong is the meaning.

use super::draw::Draw;
use tahoma_frontend::proto::*;

/// The suite's own names of operators, for nodes that become another operator.
pub(crate) struct Words {
    pub(crate) operators: Vec<String>,
}

/// One to four changes.
pub(crate) fn damage(m: &mut ModelProto, words: &Words, d: &mut Draw) {
    for _ in 0..1 + d.below(4) {
        match d.below(24) {
            0 => opsets(m, d),
            1 => functions(m, d),
            2 => rename(m, d),
            3 => {
                m.ir_version = Some(d.int(8));
            }
            _ => {
                if let Some(g) = &mut m.graph {
                    graph(g, words, d, 0);
                }
            }
        }
    }
}

fn opsets(m: &mut ModelProto, d: &mut Draw) {
    d.list(&mut m.opset_import, |d, o| match d.below(3) {
        0 => o.domain = Some(d.text()),
        _ => {
            let near = [1, 6, 9, 11, 13, 17, 21, 24][d.below(8)];
            o.version = Some(d.int(near));
        }
    });
}

/// A node becomes a function of the model: of a hostile name, with what it needs or without, calling itself or not.
fn functions(m: &mut ModelProto, d: &mut Draw) {
    let Some(g) = &mut m.graph else { return };
    let Some(n) = d.of_mut(&mut g.node) else { return };
    let name = d.text();
    let mut inner = n.clone();
    inner.input.retain(|i| !i.is_empty());
    let domain = if d.chance(2) { d.text() } else { "local".into() };
    if d.chance(4) {
        inner.op_type = Some(name.clone());
        inner.domain = Some(domain.clone());
    }
    let function = FunctionProto {
        name: Some(name.clone()),
        domain: Some(domain.clone()),
        input: inner.input.clone(),
        output: inner.output.clone(),
        opset_import: m.opset_import.clone(),
        doc_string: Some(d.text()),
        node: vec![inner.clone()],
        ..Default::default()
    };
    n.op_type = Some(name);
    n.domain = Some(domain.clone());
    n.input = inner.input;
    n.attribute.clear();
    m.functions.push(function);
    m.opset_import.push(OperatorSetIdProto { domain: Some(domain), version: Some(1) });
}

/// One name becomes another everywhere, so that the model stays what it was.
fn rename(m: &mut ModelProto, d: &mut Draw) {
    let Some(g) = &mut m.graph else { return };
    let mut names: Vec<String> = g.node.iter().flat_map(|n| n.input.iter().chain(&n.output)).cloned().collect();
    names.extend(g.input.iter().chain(&g.output).map(|i| i.name().to_string()));
    let (Some(old), new) = (d.of(&names).cloned().filter(|n| !n.is_empty()), d.text()) else { return };
    let change = |s: &mut String| {
        if *s == old {
            *s = new.clone();
        }
    };
    g.node.iter_mut().flat_map(|n| n.input.iter_mut().chain(&mut n.output)).for_each(change);
    g.input.iter_mut().chain(&mut g.output).chain(&mut g.value_info).filter_map(|i| i.name.as_mut()).for_each(change);
    g.initializer.iter_mut().filter_map(|t| t.name.as_mut()).for_each(change);
}

fn graph(g: &mut GraphProto, words: &Words, d: &mut Draw, depth: usize) {
    match d.below(12) {
        0 => {
            let all = [&mut g.input, &mut g.output, &mut g.value_info];
            let which = d.below(3);
            d.list(all.into_iter().nth(which).expect("one of three"), value);
        }
        1 => d.list(&mut g.input, value),
        2 | 3 => d.list(&mut g.initializer, tensor),
        4 => {
            g.name = Some(d.text());
            g.doc_string = Some(d.text());
        }
        5 => d.list(&mut g.node, |_, _| {}),
        _ => {
            let names: Vec<String> = g.node.iter().flat_map(|n| n.input.iter().chain(&n.output)).cloned().collect();
            if let Some(n) = d.of_mut(&mut g.node) {
                node(n, &names, words, d, depth);
            }
        }
    }
}

fn node(n: &mut NodeProto, names: &[String], words: &Words, d: &mut Draw, depth: usize) {
    match d.below(14) {
        0 => n.op_type = d.of(&words.operators).cloned(),
        1 => n.op_type = Some(d.text()),
        2 => n.domain = Some(if d.chance(2) { "com.microsoft".into() } else { d.text() }),
        3 => n.name = Some(d.text()),
        4 | 5 => d.list(&mut n.input, |d, i| *i = d.of(names).cloned().filter(|_| !d.chance(4)).unwrap_or_default()),
        6 => d.list(&mut n.output, |d, o| *o = d.of(names).cloned().filter(|_| !d.chance(4)).unwrap_or_default()),
        7 => n.doc_string = Some(d.text()),
        8 => n.input.extend(d.of(names).cloned()),
        _ => d.list(&mut n.attribute, |d, a| attribute(a, words, d, depth)),
    }
}

fn attribute(a: &mut AttributeProto, words: &Words, d: &mut Draw, depth: usize) {
    if let Some(g) = &mut a.g
        && depth < 8
        && !d.chance(4)
    {
        return graph(g, words, d, depth + 1);
    }
    match d.below(10) {
        0 => a.name = Some(d.text()),
        1 => a.r#type = Some(d.int(2) as i32),
        2 => a.i = Some(d.int(a.i())),
        3 => a.f = Some(d.float() as f32),
        4 => a.s = Some(d.text().into_bytes()),
        5 => a.ref_attr_name = Some(d.text()),
        _ if !a.ints.is_empty() => d.list(&mut a.ints, |d, i| *i = d.int(*i)),
        _ if !a.floats.is_empty() => d.list(&mut a.floats, |d, f| *f = d.float() as f32),
        _ if !a.strings.is_empty() => d.list(&mut a.strings, |d, s| *s = d.text().into_bytes()),
        _ if a.t.is_some() => tensor(d, a.t.get_or_insert_default()),
        _ if a.s.is_some() => a.s = Some(["same", "linear", "NOTSET", "SAME_UPPER", "both", ""][d.below(6)].as_bytes().to_vec()),
        _ if a.f.is_some() => a.f = Some(d.float() as f32),
        _ => a.i = Some(d.int(a.i())),
    }
}

fn value(d: &mut Draw, v: &mut ValueInfoProto) {
    if d.chance(8) {
        v.name = Some(d.text());
        return;
    }
    let Some(type_proto::Value::TensorType(t)) = v.r#type.as_mut().and_then(|t| t.value.as_mut()) else { return };
    match d.below(6) {
        0 => t.elem_type = Some(d.below(26) as i32),
        1 => t.shape = None,
        _ => d.list(&mut t.shape.get_or_insert_default().dim, |d, x| {
            use tensor_shape_proto::dimension::Value;
            x.value = Some(if d.chance(3) { Value::DimParam(d.text()) } else { Value::DimValue(d.int(3)) });
        }),
    }
}

fn tensor(d: &mut Draw, t: &mut TensorProto) {
    match d.below(10) {
        0 => t.name = Some(d.text()),
        1 => t.data_type = Some(d.below(26) as i32),
        2 => {
            t.data_location = Some(1);
            t.external_data = vec![StringStringEntryProto { key: Some("location".into()), value: Some(d.text()) }];
        }
        3 | 4 => d.list(&mut t.dims, |d, n| *n = d.int(*n)),
        5 => {
            if let Some(raw) = &t.raw_data {
                let keep = d.below(raw.len() + 1);
                t.raw_data = Some(raw[..keep].to_vec().into());
            }
        }
        _ if t.raw_data.as_ref().is_some_and(|r| r.len() >= 8 && r.len() < 1 << 16) => {
            // Shape operands and indices: one number of eight bytes.
            let mut raw = t.raw_data.as_ref().map(|r| r.to_vec()).unwrap_or_default();
            let at = d.below(raw.len() / 8) * 8;
            raw[at..at + 8].copy_from_slice(&d.int(2).to_le_bytes());
            t.raw_data = Some(raw.into());
        }
        _ if !t.int64_data.is_empty() => d.list(&mut t.int64_data, |d, n| *n = d.int(*n)),
        _ if !t.int32_data.is_empty() => d.list(&mut t.int32_data, |d, n| *n = d.int(*n as i64) as i32),
        _ => d.list(&mut t.float_data, |d, x| *x = d.float() as f32),
    }
}
