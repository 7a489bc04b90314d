//! What a model file says of itself, without importing it: inputs and outputs, operator sets, operators and which of them have no
//! import, and how much the initialisers hold.

use super::extent::{Extent, extents};
use super::order::subgraphs;
use super::{ops, prepass, schema, text};
use crate::proto::{self, NodeProto, ValueInfoProto};
use crate::{file, tensor_proto};
use std::collections::BTreeMap;
use std::path::Path;
use tahoma_core::{Diagnostics, Dim};

/// An ONNX model's outline.
#[derive(Clone, Debug, Default)]
pub struct Outline {
    pub ir_version: i64,
    /// The exporter, with its version.
    pub producer: String,
    /// Domain and version; `ai.onnx` by its name.
    pub opsets: Vec<(String, i64)>,
    /// Sorted by name.
    pub operators: Vec<OperatorUse>,
    pub inputs: Vec<OutlinePort>,
    pub outputs: Vec<OutlinePort>,
    /// Elements of the initialisers that are not 64-bit integers, bools or text, and their bytes. Constants of nodes are not counted.
    pub parameters: u64,
    pub parameter_bytes: u64,
}

/// An operator, in graphs, subgraphs and functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorUse {
    /// `Conv`, or `com.acme.Conv`.
    pub name: String,
    pub count: usize,
    /// Whether it can be imported in the model's operator set, or is defined in the model.
    pub supported: bool,
}

/// An input that is no initialiser, or an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlinePort {
    pub name: String,
    /// `f32`, `string`, `sequence`, …
    pub ty: String,
    /// As declared; `None` without a shape. A dimension without a number and a name has the name that the importer gives it.
    pub dims: Option<Vec<Dim>>,
    /// Dimensions that the model names itself: what a number for a named dimension reaches.
    pub named: Vec<String>,
}

/// Reads the outline of an ONNX file. E0101, E0102.
pub fn outline(path: &Path) -> Result<Outline, Diagnostics> {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let m = proto::decode_model(&name, file::read(path)?)?;
    let sets = prepass::opsets_of(&m);
    let mut uses: BTreeMap<String, (usize, bool)> = BTreeMap::new();
    let graph = m.graph.as_ref().map(|g| (&g.node[..], sets.clone()));
    let bodies = m.functions.iter().map(|f| {
        let own = if f.opset_import.is_empty() { sets.clone() } else { prepass::opsets(&f.opset_import) };
        (&f.node[..], own)
    });
    for (nodes, sets) in graph.into_iter().chain(bodies) {
        let mut stack: Vec<&NodeProto> = nodes.iter().collect();
        while let Some(n) = stack.pop() {
            stack.extend(subgraphs(n).flat_map(|g| &g.node));
            let domain = schema::domain(n.domain());
            let own = m.functions.iter().any(|f| schema::domain(f.domain()) == domain && f.name() == n.op_type());
            let known = own || sets.get(domain).is_some_and(|v| ops::resolve(domain, n.op_type(), *v).is_some());
            let e = uses.entry(prepass::spelled(domain, n.op_type())).or_insert((0, true));
            *e = (e.0 + 1, e.1 && known);
        }
    }
    let mut opsets: Vec<(String, i64)> = m
        .opset_import
        .iter()
        .map(|o| (if schema::domain(o.domain()).is_empty() { "ai.onnx" } else { o.domain() }.to_string(), o.version()))
        .collect();
    opsets.sort();
    let mut out = Outline {
        ir_version: m.ir_version(),
        producer: [m.producer_name(), m.producer_version()].join(" ").trim().to_string(),
        opsets,
        operators: uses.into_iter().map(|(name, (count, supported))| OperatorUse { name, count, supported }).collect(),
        ..Outline::default()
    };
    let Some(g) = &m.graph else { return Ok(out) };
    let held: Vec<&str> = g.initializer.iter().map(|t| t.name()).collect();
    out.inputs = g.input.iter().filter(|i| !held.contains(&i.name())).map(port).collect();
    out.outputs = g.output.iter().map(port).collect();
    for t in &g.initializer {
        let Ok(d) = tensor_proto::dtype(t.data_type()) else { continue };
        if matches!(d, tahoma_core::DType::I64 | tahoma_core::DType::Bool) {
            continue;
        }
        let n = t.dims.iter().map(|&d| u64::try_from(d).unwrap_or(0)).fold(1u64, u64::saturating_mul);
        out.parameters = out.parameters.saturating_add(n);
        out.parameter_bytes = out.parameter_bytes.saturating_add((n as u128 * d.bits() as u128).div_ceil(8).min(u64::MAX as u128) as u64);
    }
    Ok(out)
}

fn port(i: &ValueInfoProto) -> OutlinePort {
    use proto::type_proto::Value;
    let name = i.name().to_string();
    let ty = i.r#type.as_ref();
    let Some((code, dims)) = ty.and_then(extents) else {
        let what = match ty.and_then(|t| t.value.as_ref()) {
            Some(Value::SequenceType(_)) => "sequence",
            Some(Value::OptionalType(_)) => "optional",
            Some(_) => "no tensor",
            None => "unknown",
        };
        return OutlinePort { name, ty: what.into(), dims: None, named: vec![] };
    };
    let mut named = vec![];
    let dims = dims.map(|dims| {
        let dim = |(k, d): (usize, Option<Extent>)| match d {
            Some(Extent::Number(n)) => Dim::Known(n),
            Some(Extent::Named(s)) => {
                named.push(s.clone());
                Dim::sym(&s)
            }
            None => Dim::sym(&format!("{name}.{k}")),
        };
        dims.into_iter().enumerate().map(dim).collect()
    });
    let ty = if code == text::STRING { "string".to_string() } else { tensor_proto::dtype(code).map_or_else(|e| e, |d| d.to_string()) };
    OutlinePort { name, ty, dims, named }
}
