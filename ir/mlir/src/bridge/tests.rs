//! Programs survive the way through MLIR and back; what is wrong is refused with its place.

use super::*;
use std::sync::Arc;
use tahoma_core::{Attrs, Builder, DType, Dim, Origin, Shape, Tensor, TensorType};

fn session() -> Session {
    Session::new().unwrap_or_else(|d| panic!("{d}"))
}

fn round_trip(p: &Program) -> Program {
    let s = session();
    let m = Module::from_program(&s, p).unwrap_or_else(|d| panic!("{d}"));
    let back = m.to_program().unwrap_or_else(|d| panic!("{d}\n{}", m.print()));
    assert_eq!(Module::from_program(&s, &back).unwrap_or_else(|d| panic!("{d}")), m, "print, parse, print");
    back
}

#[test]
fn types_symbols_attributes_and_origins_survive() {
    let mut b = Builder::new("main");
    let x = b.input("x \"1\"", TensorType::new(DType::F32, Shape(vec![Dim::sym("N"), Dim::Known(4)])));
    let node = |i, name: &str| Arc::new(Origin::Node { model: "m.onnx".into(), index: i, name: name.into(), op: "Relu, opset 17".into() });
    b.set_origin(node(3, "blk/Relu_3"));
    let y = b.op("relu", &[x], Attrs::new()).unwrap();
    b.set_origin(Arc::new(Origin::Fused {
        rule: "r".into(),
        from: vec![node(1, ""), Arc::new(Origin::Tensor { model: "w".into(), name: "t".into() })],
    }));
    let w = b.weight("layer.0/w", TensorType::known(DType::F32, &[4, 2]));
    let m = b.op("matmul", &[y, w], Attrs::new()).unwrap();
    let t = b.op("transpose", &[m], Attrs::new().with("perm", vec![1, 0])).unwrap();
    let k = b.emit(
        tahoma_core::ops::find("topk").unwrap(),
        &[t],
        Attrs::new().with("k", 1).with("axis", 0).with("largest", true).with("sorted", false),
    );
    let k = k.unwrap();
    b.output("v", k[0]);
    b.output("i", k[1]);
    let p = Program::new(b.finish());
    let back = round_trip(&p);
    assert_eq!(
        back.main().nodes.iter().map(|n| &n.origin).collect::<Vec<_>>(),
        p.main().nodes.iter().map(|n| &n.origin).collect::<Vec<_>>()
    );
    assert_eq!(back.main().inputs[0].name, "x \"1\"");
    assert_eq!(back.main().ty(back.main().outputs[0].value), p.main().ty(p.main().outputs[0].value));
}

#[test]
fn constants_of_every_type_keep_their_bits() {
    for d in DType::all() {
        let values: Vec<f64> = if d == DType::Bool {
            vec![0.0, 1.0, 1.0, 0.0]
        } else if matches!(d, DType::F8E8M0) {
            vec![1.0, 2.0, 0.5, 4.0]
        } else if d.is_float() {
            vec![0.5, -1.5, 1.0, if d == DType::F4E2M1 { 6.0 } else { f64::NAN }]
        } else if d.is_signed_int() {
            vec![1.0, -1.0, 0.0, -2.0]
        } else {
            vec![1.0, 0.0, 3.0, 2.0]
        };
        let t = Tensor::from_f64s(d, &[2, 2], &values);
        let mut b = Builder::new("main");
        let c = b.constant(t.clone());
        let splat = b.constant(Tensor::from_f64s(d, &[3], &[1.0, 1.0, 1.0]));
        b.output("c", c);
        b.output("s", splat);
        let back = round_trip(&Program::new(b.finish()));
        let got: Vec<&Arc<Tensor>> = back.main().nodes.iter().filter_map(|n| n.attrs.tensor("value")).collect();
        assert_eq!(*got[0], Arc::new(t), "{d}");
        assert_eq!(got[1].shape(), [3]);
    }
    let mut b = Builder::new("main");
    let payload = Tensor::from_bytes(DType::F32, &[2], &[1, 0, 0xc0, 0x7f, 0, 0, 0, 0x80]).unwrap();
    let c = b.constant(payload.clone());
    b.output("c", c);
    let back = round_trip(&Program::new(b.finish()));
    assert_eq!(back.main().nodes[0].attrs.tensor("value"), Some(&Arc::new(payload)));
}

#[test]
fn a_wrong_type_is_named_with_its_place() {
    let text = r#"func.func @main(%x: tensor<4x8xf32>) -> tensor<4x9xf32> {
      %0 = "ml.relu"(%x) : (tensor<4x8xf32>) -> tensor<4x9xf32> loc(fused<"node Relu, opset 17">["Relu_3"("resnet.onnx":17:0)])
      return %0 : tensor<4x9xf32> }"#;
    let m = Module::parse(&session(), text, "t").unwrap_or_else(|d| panic!("{d}"));
    let d = m.to_program().unwrap_err();
    assert_eq!(d.0[0].code, "E0902");
    assert!(d.to_string().contains("ml.relu gives f32[4, 8], but its type says f32[4, 9]") && d.to_string().contains("Relu_3"), "{d}");
    let d = Module::parse(
        &session(),
        r#"func.func @main(%x: tensor<4xf32>) { %0 = "ml.rleu"(%x) : (tensor<4xf32>) -> tensor<4xf32> return }"#,
        "t",
    )
    .unwrap_err();
    assert_eq!(d.0[0].code, "E0902");
}

#[test]
fn an_attribute_table_covers_every_kind() {
    let mut b = Builder::new("main");
    let s = b.constant(Tensor::i64(&[1], vec![2]));
    let x = b.input("x", TensorType::scalar(DType::F32));
    let i = b.op("is_inf", &[x], Attrs::new().with("positive", true).with("negative", false)).unwrap();
    let c = b.op("cast", &[i], Attrs::new().with("to", DType::BF16).with("saturate", true)).unwrap();
    let e = b.op("elu", &[c], Attrs::new().with("alpha", f64::INFINITY)).unwrap();
    b.output("e", e);
    b.output("s", s);
    let p = Program::new(b.finish());
    let back = round_trip(&p);
    assert_eq!(back.main().nodes.iter().map(|n| &n.attrs).collect::<Vec<_>>(), p.main().nodes.iter().map(|n| &n.attrs).collect::<Vec<_>>());
}

#[test]
fn variadic_groups_of_different_types_are_packed_and_hand_written_ones_read() {
    let mut k = Builder::new("k");
    let (a, b) = (k.input("a", TensorType::known(DType::F32, &[2])), k.input("b", TensorType::known(DType::I64, &[3])));
    k.output("a", a);
    k.output("b", b);
    let mut m = Builder::new("main");
    let x = m.input("x", TensorType::known(DType::F32, &[2]));
    let y = m.input("y", TensorType::known(DType::F32, &[3]));
    let i = m.input("i", TensorType::known(DType::I64, &[3]));
    let c = m.op("concat", &[x, y, y], Attrs::new().with("axis", 0)).unwrap();
    let call = tahoma_core::ops::find("call").unwrap();
    let types = vec![TensorType::known(DType::F32, &[2]), TensorType::known(DType::I64, &[3])];
    let r = m.structure(call, &[x, i], Attrs::new().with("callee", tahoma_core::Attr::Func("k".into())), types).unwrap();
    m.output("c", c);
    m.output("r", r[1]);
    let mut p = Program::new(m.finish());
    p.functions.insert("k".into(), k.finish());
    assert_eq!(round_trip(&p), p);
    let text = r#"func.func @main(%x: tensor<2xf32>, %y: tensor<3xf32>) -> tensor<5xf32> {
      %0 = tensor.concat dim(0) %x, %y : (tensor<2xf32>, tensor<3xf32>) -> tensor<5xf32> return %0 : tensor<5xf32> }"#;
    let p = Module::parse(&session(), text, "t").and_then(|m| m.to_program()).unwrap_or_else(|d| panic!("{d}"));
    assert_eq!((p.main().nodes[0].op.name, p.main().nodes[0].attrs.int("axis")), ("concat", Some(0)));
}
