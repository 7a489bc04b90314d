//! Small models built from the protobuf types, and a tiny checkpoint.
#![allow(dead_code, unreachable_pub)]

use prost::Message;
use prost::bytes::Bytes;
use tahoma_frontend::proto::attribute_proto::AttributeType;
use tahoma_frontend::proto::*;

pub fn bytes(m: &ModelProto) -> Bytes {
    m.encode_to_vec().into()
}

pub fn model(graph: GraphProto) -> ModelProto {
    ModelProto {
        ir_version: Some(9),
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(20) }],
        graph: Some(graph),
        ..Default::default()
    }
}

pub fn tensor_type(elem: i32, dims: Option<&[i64]>) -> TypeProto {
    use tensor_shape_proto::{Dimension, dimension::Value};
    let shape = dims.map(|d| TensorShapeProto {
        dim: d.iter().map(|&n| Dimension { value: Some(Value::DimValue(n)), ..Default::default() }).collect(),
    });
    TypeProto { value: Some(type_proto::Value::TensorType(type_proto::Tensor { elem_type: Some(elem), shape })), ..Default::default() }
}

fn value(name: &str, dims: Option<&[i64]>) -> ValueInfoProto {
    ValueInfoProto { name: Some(name.into()), r#type: Some(tensor_type(1, dims)), ..Default::default() }
}

/// A graph with f32 inputs.
pub fn graph(nodes: Vec<NodeProto>, inputs: &[(&str, &[i64])], outputs: &[&str]) -> GraphProto {
    GraphProto {
        name: Some("g".into()),
        node: nodes,
        input: inputs.iter().map(|(n, d)| value(n, Some(d))).collect(),
        output: outputs.iter().map(|n| value(n, None)).collect(),
        ..Default::default()
    }
}

pub fn with_init(mut g: GraphProto, tensors: Vec<TensorProto>) -> GraphProto {
    g.initializer = tensors;
    g
}

pub fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        op_type: Some(op.into()),
        input: inputs.iter().map(|s| s.to_string()).collect(),
        output: outputs.iter().map(|s| s.to_string()).collect(),
        ..Default::default()
    }
}

pub fn floats(name: &str, dims: &[i64], data: Vec<f32>) -> TensorProto {
    TensorProto { name: Some(name.into()), data_type: Some(1), dims: dims.to_vec(), float_data: data, ..Default::default() }
}

pub fn i64s(name: &str, dims: &[i64], data: &[i64]) -> TensorProto {
    TensorProto { name: Some(name.into()), data_type: Some(7), dims: dims.to_vec(), int64_data: data.to_vec(), ..Default::default() }
}

pub fn int_attr(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(AttributeType::Int as i32), i: Some(i), ..Default::default() }
}

pub fn float_attr(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(AttributeType::Float as i32), f: Some(f), ..Default::default() }
}

pub fn ints_attr(name: &str, v: &[i64]) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(AttributeType::Ints as i32), ints: v.to_vec(), ..Default::default() }
}

pub fn graph_attr(name: &str, g: GraphProto) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(AttributeType::Graph as i32), g: Some(g), ..Default::default() }
}

/// A safetensors file of f32 zeros with these tensors.
pub fn safetensors(tensors: &[(String, Vec<usize>)]) -> Vec<u8> {
    let (mut header, mut at) = (String::from("{"), 0);
    for (i, (name, dims)) in tensors.iter().enumerate() {
        let len = dims.iter().product::<usize>() * 4;
        let comma = if i == 0 { "" } else { "," };
        header += &format!("{comma}\"{name}\":{{\"dtype\":\"F32\",\"shape\":{dims:?},\"data_offsets\":[{at},{}]}}", at + len);
        at += len;
    }
    header.push('}');
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(vec![0; at]);
    file
}

/// A BERT of one layer, hidden size 8, with `extra` tensors: how many tensors its encoder has, and the file.
pub fn tiny_bert(extra: &[(&str, &[usize])]) -> (usize, Vec<u8>) {
    let mut t: Vec<(String, Vec<usize>)> = vec![
        ("embeddings.word_embeddings.weight".into(), vec![10, 8]),
        ("embeddings.position_embeddings.weight".into(), vec![12, 8]),
        ("embeddings.token_type_embeddings.weight".into(), vec![2, 8]),
    ];
    let mut pair = |name: &str, out: usize, from: Option<usize>| {
        t.push((format!("{name}.weight"), from.map_or(vec![out], |f| vec![out, f])));
        t.push((format!("{name}.bias"), vec![out]));
    };
    pair("embeddings.LayerNorm", 8, None);
    for n in ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"] {
        pair(&format!("encoder.layer.0.{n}"), 8, Some(8));
    }
    pair("encoder.layer.0.attention.output.LayerNorm", 8, None);
    pair("encoder.layer.0.intermediate.dense", 16, Some(8));
    pair("encoder.layer.0.output.dense", 8, Some(16));
    pair("encoder.layer.0.output.LayerNorm", 8, None);
    let n = t.len();
    t.extend(extra.iter().map(|(n, d)| (n.to_string(), d.to_vec())));
    (n, safetensors(&t))
}
