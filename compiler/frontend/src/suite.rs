//! The files of ONNX's backend tests: `test_data_set_*/input_0.pb`, `output_0.pb`.

use crate::onnx::{prepass, schema, text};
use crate::proto::{TensorProto, TypeProto, ValueInfoProto, type_proto};
use crate::store::Store;
use crate::{Budget, file, tensor_proto};
use prost::Message;
use prost::bytes::Bytes;
use std::path::Path;
use tahoma_core::{Diagnostic, Diagnostics, Tensor, Text};

/// What a graph's input or output holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Tensor,
    Sequence,
    Optional(Box<Kind>),
}

/// A graph's input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub name: String,
    pub kind: Kind,
}

/// A value of a data set.
#[derive(Clone, Debug)]
pub enum Given {
    Tensor(Tensor),
    Text(Text),
}

/// A sequence of tensors as the suite stores it (`onnx-data.proto`; sequences of sequences do not occur there).
#[derive(Clone, PartialEq, prost::Message)]
struct SequenceProto {
    #[prost(message, repeated, tag = "3")]
    tensor_values: Vec<TensorProto>,
}

/// An optional as the suite stores it (`onnx-data.proto`).
#[derive(Clone, PartialEq, prost::Message)]
struct OptionalProto {
    #[prost(message, optional, tag = "3")]
    tensor_value: Option<TensorProto>,
    #[prost(message, optional, tag = "5")]
    sequence_value: Option<SequenceProto>,
}

fn kind(t: Option<&TypeProto>) -> Kind {
    match t.and_then(|t| t.value.as_ref()) {
        Some(type_proto::Value::SequenceType(_)) => Kind::Sequence,
        Some(type_proto::Value::OptionalType(o)) => Kind::Optional(Box::new(kind(o.elem_type.as_deref()))),
        _ => Kind::Tensor,
    }
}

/// Inputs of a model that are not initialisers, and its outputs, in order.
pub fn ports(model: &Path) -> Result<(Vec<Port>, Vec<Port>), Diagnostics> {
    let name = model.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let m = crate::proto::decode_model(&name, file::read(model)?)?;
    let g = m.graph.unwrap_or_default();
    let held: Vec<&str> = g.initializer.iter().map(|t| t.name()).collect();
    let port = |i: &ValueInfoProto| Port { name: i.name().to_string(), kind: kind(i.r#type.as_ref()) };
    let inputs = g.input.iter().filter(|i| !held.contains(&i.name())).map(port).collect();
    Ok((inputs, g.output.iter().map(port).collect()))
}

/// The operators of a model's graph, each once and sorted: domain and name (`com.microsoft.Gelu`, `Conv`), and the version that the
/// model's operator set means; 0 for one that no table knows. Bodies of If, Loop and functions are not looked into.
pub fn operators(model: &Path) -> Result<Vec<(String, i64)>, Diagnostics> {
    let m = crate::proto::decode_model("model", file::read(model)?)?;
    let sets = prepass::opsets_of(&m);
    let named = |n: &crate::proto::NodeProto| {
        let domain = schema::domain(n.domain());
        let since = sets.get(domain).and_then(|v| schema::find(domain, n.op_type(), *v)).map_or(0, |s| s.since);
        (prepass::spelled(domain, n.op_type()), since)
    };
    let all: std::collections::BTreeSet<_> = m.graph.unwrap_or_default().node.iter().map(named).collect();
    Ok(all.into_iter().collect())
}

/// The name inside a file of a tensor; `None` where it holds something else or cannot be read.
pub fn name_in(path: &Path) -> Option<String> {
    TensorProto::decode(file::read(path).ok()?).ok().map(|t| t.name().to_string())
}

/// Reads a file of the suite as what the model says it holds. A tensor is one value by the port's name, a sequence its elements by
/// `name.0`, `name.1`, …, an optional what it holds or nothing: as the importer names them.
pub fn read(path: &Path, port: &Port) -> Result<Vec<(String, Given)>, Diagnostics> {
    let bytes = file::read(path)?;
    let what = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    values(&what, bytes, &port.name, &port.kind)
}

fn values(what: &str, bytes: Bytes, name: &str, kind: &Kind) -> Result<Vec<(String, Given)>, Diagnostics> {
    let broken = |e: prost::DecodeError| Diagnostic::error("E0102", format!("{what} is not what the model says it is: {e}")).caused_by(e);
    match kind {
        Kind::Tensor => Ok(vec![(name.to_string(), tensor(what, &TensorProto::decode(bytes).map_err(broken)?)?)]),
        Kind::Sequence => elements(what, name, &SequenceProto::decode(bytes).map_err(broken)?),
        Kind::Optional(_) => {
            let o = OptionalProto::decode(bytes).map_err(broken)?;
            match (&o.tensor_value, &o.sequence_value) {
                (Some(t), _) => Ok(vec![(name.to_string(), tensor(what, t)?)]),
                (_, Some(s)) => elements(what, name, s),
                (None, None) => Ok(vec![]),
            }
        }
    }
}

fn elements(what: &str, name: &str, s: &SequenceProto) -> Result<Vec<(String, Given)>, Diagnostics> {
    s.tensor_values.iter().enumerate().map(|(i, t)| Ok((format!("{name}.{i}"), tensor(what, t)?))).collect()
}

fn tensor(what: &str, t: &TensorProto) -> Result<Given, Diagnostics> {
    let budget = Budget::default();
    if t.data_type() == text::STRING {
        return Ok(Given::Text(text::read(t, what, budget.elements)?));
    }
    Ok(Given::Tensor(tensor_proto::read(t, what, None, &mut Store::default(), &budget)?.tensor()?))
}
