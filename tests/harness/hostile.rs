//! Files of a few lines that ask for more than a machine has: each is refused with its code before anything is taken.

use prost::Message;
use tahoma::steps::{Options, run_text};
use tahoma::verify::{VerifyOptions, verify};
use tahoma::{Compiler, Diagnostics};
use tahoma_frontend::proto::attribute_proto::AttributeType;
use tahoma_frontend::proto::*;

fn code(d: &Diagnostics) -> &str {
    &d.0[0].code
}

/// A module run through all steps: the code it is refused with.
fn module(text: &str) -> String {
    let steps = ["specialise".to_string(), "eqsat".into()];
    run_text(text, "m.mlir", &steps, &Options::default()).map_or_else(|d| code(&d).into(), |_| "ran".into())
}

fn function(name: &str, body: &str) -> String {
    format!("func.func @{name}(%x: tensor<2xf32>) -> tensor<2xf32> {{\n{body}}}\n")
}

#[test]
fn modules_that_would_take_the_stack_or_forever_are_refused() {
    let t = "(tensor<2xf32>) -> tensor<2xf32>";
    let relu = format!("  %0 = \"ml.relu\"(%x) : {t}\n  func.return %0 : tensor<2xf32>\n");
    assert_eq!(module(&function("main", &relu)), "ran");
    assert_eq!(module(&function("ain", &relu)), "E0902", "no @main");
    assert_eq!(module(""), "E0902", "nothing at all");
    // Types in types, brackets in brackets, signs before signs.
    let deep = |open: &str, close: &str| format!("module attributes {{a = {}1{}}} {{}}", open.repeat(100_000), close.repeat(100_000));
    assert_eq!(module(&deep("[", "]")), "E0107");
    assert_eq!(module(&deep("tuple<", ">")), "E0107");
    assert_eq!(module(&deep("{b = ", "}")), "E0107");
    assert_eq!(module(&format!("module attributes {{a = affine_map<(d0) -> ({}d0)>}} {{}}", "-".repeat(100_000))), "E0107");
    // What stands in strings and comments nests nothing.
    assert_eq!(module(&format!("// {}\n{}", "[".repeat(1000), function("main", &relu.replace("(%x) :", "(%x) {} :")))), "ran");
    // A chain of calls, a call of two calls of two calls, and a circle.
    let call = |f: &str| format!("\"ml.call\"(%x) {{callee = @{f}}} : {t}");
    let chain = |times: usize, n: usize| -> String {
        let body = |i: usize| {
            let calls: String = (0..times).map(|k| format!("  %{k} = {}\n", call(&format!("f{}", i + 1)))).collect();
            calls + "  func.return %0 : tensor<2xf32>\n"
        };
        let inner: String = (0..n).map(|i| function(&if i == 0 { "main".into() } else { format!("f{i}") }, &body(i))).collect();
        inner + &function(&format!("f{n}"), &relu)
    };
    assert_eq!(module(&chain(1, 3)), "ran");
    assert_eq!(module(&chain(1, 1000)), "E0107");
    assert_eq!(module(&chain(2, 40)), "E0107");
    assert_eq!(module(&function("main", &format!("  %0 = {}\n  func.return %0 : tensor<2xf32>\n", call("main")))), "E0902");
    // Extents that no machine has, and attributes that no shape rule can add up.
    let huge = "func.func @main(%x: tensor<9223372036854775807x0xf32>) -> tensor<9223372036854775807x0xf32> { func.return %x : tensor<9223372036854775807x0xf32> }";
    assert_eq!(module(huge), "E0107");
    let pad = "func.func @main(%x: tensor<2xf32>) -> tensor<2xf32> { %0 = \"ml.pad\"(%x) {low = array<i64: 9223372036854775807>, high = array<i64: 9223372036854775807>, interior = array<i64: 9223372036854775807>, value = 0.0 : f64} : (tensor<2xf32>) -> tensor<2xf32> func.return %0 : tensor<2xf32> }";
    assert_eq!(module(pad), "E0902");
}

fn attribute(name: &str, ints: &[i64]) -> AttributeProto {
    let mut a = AttributeProto { name: Some(name.into()), ..Default::default() };
    match ints {
        [i] => (a.r#type, a.i) = (Some(AttributeType::Int as i32), Some(*i)),
        v => (a.r#type, a.ints) = (Some(AttributeType::Ints as i32), v.to_vec()),
    }
    a
}

/// A model of one node on f32 of these extents.
fn model(op: &str, dims: &[i64], attributes: &[AttributeProto]) -> tempfile::TempDir {
    use tensor_shape_proto::{Dimension, dimension::Value};
    let dim = dims.iter().map(|&n| Dimension { value: Some(Value::DimValue(n)), ..Default::default() }).collect();
    let tensor = type_proto::Tensor { elem_type: Some(1), shape: Some(TensorShapeProto { dim }) };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    let port = |n: &str, t: Option<TypeProto>| ValueInfoProto { name: Some(n.into()), r#type: t, ..Default::default() };
    let node = NodeProto {
        op_type: Some(op.into()),
        input: vec!["x".into()],
        output: vec!["y".into()],
        attribute: attributes.to_vec(),
        ..Default::default()
    };
    let g = GraphProto { node: vec![node], input: vec![port("x", Some(ty))], output: vec![port("y", None)], ..Default::default() };
    let opset = OperatorSetIdProto { domain: None, version: Some(20) };
    let m = ModelProto { ir_version: Some(9), opset_import: vec![opset], graph: Some(g), ..Default::default() };
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("m.onnx"), m.encode_to_vec()).expect("a file");
    dir
}

#[test]
fn a_model_that_needs_more_memory_than_there_is_says_so() {
    // 4 TiB of input, in 58 bytes of file; all else about it is in order.
    let dir = model("Neg", &[1 << 34, 1 << 6], &[]);
    let path = dir.path().join("m.onnx");
    let d = Compiler::new(&path).target("trn2").compile().err().map(|d| code(&d).to_string());
    assert!(d.is_none() || d.as_deref() == Some("E0107"), "{d:?}");
    let dir = model("Neg", &[1 << 33], &[]);
    let path = dir.path().join("m.onnx");
    let compiler = Compiler::new(&path).target("trn2");
    if tahoma_core::memory::available() < 1 << 36 {
        let d = verify(&compiler, &path, "trn2", &VerifyOptions::default()).expect_err("128 GiB as f64");
        assert_eq!(code(&d), "E0609", "{d}");
        assert!(d.to_string().contains("137438953472 bytes") && d.to_string().contains("are available"), "{d}");
    }
}

#[test]
fn numbers_in_attributes_at_the_edges_of_their_type_are_refused_or_mean_something() {
    const EDGES: &[i64] = &[0, -1, 1 << 16, 1 << 31, 1 << 32, i64::MAX, i64::MIN, i64::MAX - 1, i64::MIN + 1];
    let one: &[(&str, &str)] =
        &[("DepthToSpace", "blocksize"), ("SpaceToDepth", "blocksize"), ("Softmax", "axis"), ("Flatten", "axis"), ("LRN", "size")];
    let lists: &[(&str, &str)] = &[
        ("MaxPool", "kernel_shape"),
        ("MaxPool", "strides"),
        ("MaxPool", "dilations"),
        ("MaxPool", "pads"),
        ("AveragePool", "pads"),
        ("AveragePool", "kernel_shape"),
        ("LpPool", "kernel_shape"),
        ("Transpose", "perm"),
    ];
    for &n in EDGES {
        let single = one.iter().map(|(op, a)| (*op, vec![attribute(a, &[n])]));
        let several = lists.iter().map(|(op, a)| {
            let count = if *a == "pads" || *a == "perm" { 4 } else { 2 };
            let mut all = vec![attribute(a, &vec![n; count])];
            if op.ends_with("Pool") && *a != "kernel_shape" {
                all.push(attribute("kernel_shape", &[2, 2]));
            }
            (*op, all)
        });
        for (i, (op, attributes)) in single.chain(several).enumerate() {
            let dir = model(op, &[1, 4, 4, 4], &attributes);
            // What is refused is refused before there is a target.
            let target = ["trn2", "sm_90a"][i % 2];
            if let Err(d) = Compiler::new(dir.path().join("m.onnx")).target(target).compile() {
                assert!(code(&d) < "E0900", "{op} {n}: {d}");
            }
        }
    }
}
