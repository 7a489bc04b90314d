//! Meanings that are easy to get wrong: opset versions, shape arithmetic, control flow, functions; and BERT against torch's answers.

mod models;

use models::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tahoma_core::{DType, Dim, Tensor, Text, eval};
use tahoma_frontend::proto::*;
use tahoma_frontend::{HfOptions, ImportOptions, Imported, import_hf, import_onnx_bytes};

fn import_with(m: &ModelProto, options: &ImportOptions) -> Imported {
    import_onnx_bytes("m.onnx", bytes(m), options).unwrap_or_else(|d| panic!("{d}"))
}

fn run(m: &Imported, inputs: &[Tensor]) -> Vec<Tensor> {
    eval::run(&m.program, "main", inputs, &m.store).unwrap_or_else(|d| panic!("{d}"))
}

fn ops(m: &Imported) -> Vec<&'static str> {
    m.program.main().nodes.iter().map(|n| n.op.name).collect()
}

#[test]
fn softmax_means_another_thing_below_opset_13() {
    let mut m = model(graph(vec![node("Softmax", &["x"], &["y"])], &[("x", &[1, 2, 2])], &["y"]));
    let x = Tensor::f32(&[1, 2, 2], vec![0.; 4]);
    assert_eq!(run(&import_with(&m, &ImportOptions::default()), std::slice::from_ref(&x))[0], Tensor::f32(&[1, 2, 2], vec![0.5; 4]));
    m.opset_import[0].version = Some(12);
    assert_eq!(run(&import_with(&m, &ImportOptions::default()), &[x])[0], Tensor::f32(&[1, 2, 2], vec![0.25; 4]));
}

#[test]
fn shape_arithmetic_folds_away() {
    let nodes = vec![
        node("Shape", &["x"], &["s"]),
        node("Gather", &["s", "zero"], &["n"]),
        node("Unsqueeze", &["n", "axes"], &["n1"]),
        node("Concat", &["n1", "rest"], &["shape"]),
        node("Reshape", &["x", "shape"], &["y"]),
    ];
    let mut g = with_init(
        graph(nodes, &[("x", &[-1, 2, 3])], &["y"]),
        vec![i64s("zero", &[], &[0]), i64s("axes", &[1], &[0]), i64s("rest", &[1], &[-1])],
    );
    g.node[3].attribute.push(int_attr("axis", 0));
    let options =
        ImportOptions { shapes: BTreeMap::from([("x".into(), vec![Dim::Known(4), Dim::Known(2), Dim::Known(3)])]), ..Default::default() };
    let m = import_with(&model(g), &options);
    assert_eq!(ops(&m), ["reshape"]);
    let main = m.program.main();
    assert_eq!(main.ty(main.outputs[0].value).to_string(), "f32[4, 6]");
}

fn branch(op: &str) -> GraphProto {
    graph(vec![node(op, &["x"], &["r"]), node("Add", &["r", "w"], &["out"])], &[], &["out"])
}

fn if_model(cond: Option<bool>) -> ModelProto {
    let mut n = node("If", &["c"], &["y"]);
    n.attribute = vec![graph_attr("then_branch", branch("Neg")), graph_attr("else_branch", branch("Abs"))];
    let w = floats("w", &[20], vec![1.; 20]);
    let mut g = with_init(graph(vec![n], &[("x", &[20])], &["y"]), vec![w]);
    match cond {
        Some(c) => {
            g.initializer.push(TensorProto { name: Some("c".into()), data_type: Some(9), int32_data: vec![c.into()], ..Default::default() })
        }
        None => g.input.push(ValueInfoProto { name: Some("c".into()), r#type: Some(tensor_type(9, Some(&[]))), ..Default::default() }),
    }
    model(g)
}

#[test]
fn a_known_condition_leaves_one_branch() {
    let m = import_with(&if_model(Some(true)), &ImportOptions::default());
    assert_eq!((ops(&m), m.program.functions.len()), (vec!["weight", "neg", "add"], 1));
}

#[test]
fn a_run_time_condition_becomes_two_closed_functions() {
    let m = import_with(&if_model(None), &ImportOptions::default());
    assert_eq!(m.program.functions.len(), 3);
    let x = Tensor::f32(&[20], vec![-2.; 20]);
    for (c, want) in [(true, 3.), (false, 3.)] {
        let y = run(&m, &[x.clone(), Tensor::bool(&[], vec![c])]);
        assert_eq!(y[0], Tensor::f32(&[20], vec![want; 20]));
    }
    let x = Tensor::f32(&[20], vec![5.; 20]);
    assert_eq!(run(&m, &[x.clone(), Tensor::bool(&[], vec![true])])[0], Tensor::f32(&[20], vec![-4.; 20]));
    assert_eq!(run(&m, &[x, Tensor::bool(&[], vec![false])])[0], Tensor::f32(&[20], vec![6.; 20]));
}

#[test]
fn a_loop_of_known_length_is_unrolled() {
    let body = GraphProto {
        name: Some("body".into()),
        node: vec![node("Identity", &["c"], &["c2"]), node("Add", &["v", "x"], &["v2"]), node("Identity", &["v2"], &["s"])],
        input: ["i", "c", "v"].map(|n| ValueInfoProto { name: Some(n.into()), ..Default::default() }).to_vec(),
        output: ["c2", "v2", "s"].map(|n| ValueInfoProto { name: Some(n.into()), ..Default::default() }).to_vec(),
        ..Default::default()
    };
    let mut n = node("Loop", &["m", "", "x"], &["last", "all"]);
    n.attribute = vec![graph_attr("body", body)];
    let m = import_with(
        &model(with_init(graph(vec![n], &[("x", &[2])], &["last", "all"]), vec![i64s("m", &[], &[3])])),
        &ImportOptions::default(),
    );
    let y = run(&m, &[Tensor::f32(&[2], vec![1., 10.])]);
    assert_eq!(y[0], Tensor::f32(&[2], vec![4., 40.]));
    assert_eq!(y[1], Tensor::f32(&[3, 2], vec![2., 20., 3., 30., 4., 40.]));
}

#[test]
fn a_function_sees_its_parameters_and_attributes_only() {
    let mut leaky = node("LeakyRelu", &["a"], &["b"]);
    leaky.attribute =
        vec![AttributeProto { name: Some("alpha".into()), ref_attr_name: Some("slope".into()), r#type: Some(1), ..Default::default() }];
    let f = FunctionProto {
        name: Some("Soft".into()),
        domain: Some("my".into()),
        input: vec!["a".into(), "unused".into()],
        output: vec!["b".into()],
        attribute: vec!["slope".into()],
        node: vec![leaky],
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(16) }],
        ..Default::default()
    };
    let mut call = node("Soft", &["x"], &["y"]);
    call.domain = Some("my".into());
    call.attribute = vec![float_attr("slope", 0.5)];
    let mut m = model(graph(vec![call], &[("x", &[2])], &["y"]));
    m.functions.push(f);
    m.opset_import.push(OperatorSetIdProto { domain: Some("my".into()), version: Some(1) });
    let i = import_with(&m, &ImportOptions::default());
    assert_eq!(run(&i, &[Tensor::f32(&[2], vec![-2., 2.])])[0], Tensor::f32(&[2], vec![-1., 2.]));
    assert!(i.program.main().nodes[0].origin.to_string().contains("Soft: LeakyRelu, opset 16"), "{}", i.program.main().nodes[0].origin);
    // A name of the outer graph is not in reach.
    m.functions[0].node[0].input[0] = "x".into();
    let d = import_onnx_bytes("m.onnx", bytes(&m), &ImportOptions::default()).unwrap_err();
    assert_eq!(d.0[0].code, "E0202", "{d}");
}

#[test]
fn an_initialiser_that_is_also_an_input_is_its_default() {
    let g = with_init(
        graph(vec![node("Add", &["x", "w"], &["y"])], &[("x", &[2]), ("w", &[2])], &["y"]),
        vec![floats("w", &[2], vec![1., 2.])],
    );
    let m = import_with(&model(g), &ImportOptions::default());
    assert_eq!(m.program.main().inputs.len(), 1);
}

#[test]
fn every_node_says_where_it_comes_from() {
    let mut n = node("Gemm", &["x", "w", "b"], &["y"]);
    n.name = Some("fc/1".into());
    let g = with_init(graph(vec![n], &[("x", &[2, 3])], &["y"]), vec![floats("w", &[3, 4], vec![1.; 12]), floats("b", &[4], vec![0.; 4])]);
    let m = import_with(&model(g), &ImportOptions::default());
    for n in m.program.main().nodes.iter().filter(|n| n.op.name != "constant") {
        assert_eq!(n.origin.to_string(), "m.onnx  node 0  \"fc/1\"  (Gemm, opset 20)", "{}", n.op.name);
    }
}

#[test]
fn importing_twice_gives_the_same_program() {
    let m = if_model(None);
    let text = || serde_json::to_string(&import_with(&m, &ImportOptions::default()).program).unwrap();
    assert_eq!(text(), text());
}

/// A version 1 `.npy`.
fn npy(path: &Path, dtype: DType) -> Tensor {
    let b = std::fs::read(path).unwrap();
    let n = u16::from_le_bytes([b[8], b[9]]) as usize;
    let head = std::str::from_utf8(&b[10..10 + n]).unwrap();
    let dims = head.split("'shape': (").nth(1).unwrap().split(')').next().unwrap();
    let dims: Vec<usize> = dims.split(',').filter_map(|s| s.trim().parse().ok()).collect();
    Tensor::from_bytes(dtype, &dims, &b[10 + n..]).unwrap()
}

#[test]
fn bert_agrees_with_torch() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bert");
    let options = HfOptions { batch: 2, sequence: 24, token_types: true };
    let m = import_hf(&dir, &options).unwrap_or_else(|d| panic!("{d}"));
    let inputs: Vec<Tensor> = m.program.main().inputs.iter().map(|p| npy(&dir.join(format!("{}.npy", p.name)), DType::I64)).collect();
    let got = run(&m, &inputs);
    let floats = |t: &Tensor| t.to_bytes().chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect::<Vec<_>>();
    let worst = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0f32, f32::max);
    let hidden = floats(&npy(&dir.join("last_hidden_state.npy"), DType::F32));
    assert!(worst(&floats(&got[0]), &hidden) < 5e-5);
    let want = floats(&npy(&dir.join("logits_of_first_token.npy"), DType::F32));
    let all = floats(&got[1]);
    let first: Vec<f32> = all.chunks(512).step_by(24).flatten().copied().collect();
    assert!(worst(&first, &want) < 5e-5);
    assert!(m.store.entries().all(|e| matches!(e.location, tahoma_frontend::Location::File { .. })), "weights stay in the file");
}

/// Σ x_k e^(∓2πi·k·n/N), in f64.
fn plain_dft(x: &[(f64, f64)], sign: f64) -> Vec<(f64, f64)> {
    let n = x.len();
    (0..n)
        .map(|o| {
            x.iter().enumerate().fold((0.0, 0.0), |(re, im), (i, (a, b))| {
                let (s, c) = (sign * std::f64::consts::TAU * ((i * o) % n) as f64 / n as f64).sin_cos();
                (re + a * c - b * s, im + a * s + b * c)
            })
        })
        .collect()
}

#[test]
fn fourier_transforms_of_every_kind_of_length_are_what_the_sum_says() {
    // Primes, products of two, powers of two and three: each is split in its own way. Real and complex, forward and back.
    for (n, parts, inverse) in [7, 10, 36, 97, 128, 243, 1000].iter().flat_map(|&n| [(n, 1, 0), (n, 2, 0), (n, 2, 1)]) {
        let x: Vec<(f64, f64)> = (0..n).map(|i| ((i as f64 * 0.37).sin(), if parts == 2 { (i as f64 * 1.7).cos() } else { 0.0 })).collect();
        let data: Vec<f32> = x.iter().flat_map(|(a, b)| [*a as f32, *b as f32][..parts].to_vec()).collect();
        let mut dft = node("DFT", &["x", "", "axis"], &["y"]);
        dft.attribute.push(int_attr("inverse", inverse));
        let dims = [1, n as i64, parts as i64];
        let m = model(with_init(graph(vec![dft], &[("x", &dims)], &["y"]), vec![i64s("axis", &[], &[1])]));
        let y = run(&import_with(&m, &ImportOptions::default()), &[Tensor::f32(&[1, n, parts], data)]).remove(0);
        let (sign, norm) = if inverse == 1 { (1.0, 1.0 / n as f64) } else { (-1.0, 1.0) };
        let want: Vec<f64> = plain_dft(&x, sign).iter().flat_map(|(a, b)| [a * norm, b * norm]).collect();
        let size = want.iter().fold(0f64, |m, v| m.max(v.abs()));
        for (g, w) in y.to_f64s().iter().zip(&want) {
            assert!((g - w).abs() <= 2e-6 * size, "{n} points of {parts} parts, inverse {inverse}: {g} is not {w}");
        }
    }
}

fn typed(name: &str, elem: i32, dims: &[i64]) -> ValueInfoProto {
    ValueInfoProto { name: Some(name.into()), r#type: Some(tensor_type(elem, Some(dims))), ..Default::default() }
}

/// Adds `w` (from outside) to `a` and appends the sum to `all` for as long as its sum is below 20; keeps each `a`.
fn loop_model() -> ModelProto {
    let nodes = vec![
        node("Add", &["a", "w"], &["a2"]),
        node("Concat", &["all", "a2"], &["all2"]),
        node("ReduceSum", &["a2"], &["s"]),
        node("Less", &["s", "limit"], &["go"]),
        node("Identity", &["a2"], &["kept"]),
    ];
    let mut body = graph(nodes, &[], &["go", "a2", "all2", "kept"]);
    body.node[1].attribute.push(int_attr("axis", 0));
    body.node[2].attribute.push(int_attr("keepdims", 0));
    body.input = vec![typed("i", 7, &[]), typed("c", 9, &[]), typed("a", 1, &[2]), typed("all", 1, &[-1])];
    let mut n = node("Loop", &["m", "", "x", "none"], &["last", "long", "rows"]);
    n.attribute.push(graph_attr("body", body));
    let init = vec![floats("limit", &[], vec![20.]), floats("none", &[0], vec![])];
    let mut g = with_init(graph(vec![n], &[("x", &[2]), ("w", &[2])], &["last", "long", "rows"]), init);
    g.input.push(typed("m", 7, &[]));
    model(g)
}

#[test]
fn a_loop_that_ends_at_run_time_is_one_function() {
    let m = import_with(&loop_model(), &ImportOptions::default());
    assert_eq!((ops(&m).last(), m.program.functions.len()), (Some(&"loop"), 2));
    let (x, w) = (Tensor::f32(&[2], vec![1., 2.]), Tensor::f32(&[2], vec![2., 4.]));
    // The sum goes 9, 15, 21: three runs, or as many as the trip count says.
    for (trips, runs) in [(100, 3), (2, 2), (0, 0)] {
        let y = run(&m, &[x.clone(), w.clone(), Tensor::i64(&[], vec![trips])]);
        let steps: Vec<f32> = (1..=runs).flat_map(|i| [1. + 2. * i as f32, 2. + 4. * i as f32]).collect();
        assert_eq!(y[0], Tensor::f32(&[2], vec![1. + 2. * runs as f32, 2. + 4. * runs as f32]), "{trips} trips");
        assert_eq!(y[1], Tensor::f32(&[2 * runs], steps.clone()));
        assert_eq!(y[2], Tensor::f32(&[runs, 2], steps));
    }
    // Known from the start to the end, it is unrolled.
    let fixed = ["x", "w"].iter().zip([&x, &w]).map(|(n, t)| (n.to_string(), t.clone()));
    let constants = fixed.chain([("m".to_string(), Tensor::i64(&[], vec![100]))]).collect();
    let m = import_with(&loop_model(), &ImportOptions { constants, ..Default::default() });
    assert_eq!(m.program.functions.len(), 1);
    assert_eq!(run(&m, &[])[2].shape(), [3, 2]);
}

fn strings(name: &str, dims: &[i64], words: &[&str]) -> TensorProto {
    let string_data = words.iter().map(|w| w.as_bytes().to_vec()).collect();
    TensorProto { name: Some(name.into()), data_type: Some(8), dims: dims.to_vec(), string_data, ..Default::default() }
}

#[test]
fn text_is_places_in_a_vocabulary() {
    // Labels chosen at run time: the usual end of a classifier; and text that is computed and compared when the model is read.
    let nodes = vec![
        node("Gather", &["labels", "i"], &["label"]),
        node("StringConcat", &["t", "mark"], &["loud"]),
        node("Equal", &["loud", "labels"], &["same"]),
    ];
    let mut g = graph(nodes, &[], &["label", "loud", "same"]);
    g.initializer = vec![strings("labels", &[3], &["cat!", "dog", "eel"]), strings("mark", &[], &["!"])];
    g.input = vec![typed("i", 7, &[2]), typed("t", 8, &[1])];
    let m = model(g);
    let refused = import_onnx_bytes("m.onnx", bytes(&m), &ImportOptions::default()).unwrap_err();
    assert!(refused.0[0].code == "E0209" && refused.to_string().contains("words.npy"), "{refused}");
    let given = Text::new(&[1], vec!["cat".into()]).unwrap();
    let m = import_with(&m, &ImportOptions { texts: BTreeMap::from([("t".into(), given)]), ..Default::default() });
    let y = run(&m, &[Tensor::i64(&[2], vec![2, 0])]);
    assert_eq!(m.vocabulary.text("label", &y[0]), Text::new(&[2], vec!["eel".into(), "cat!".into()]));
    assert_eq!(m.vocabulary.text("loud", &y[1]), Text::new(&[1], vec!["cat!".into()]));
    assert_eq!((m.vocabulary.text("same", &y[2]), y[2].to_f64s()), (None, vec![1., 0., 0.]));
    // Places are not numbers that a model may see.
    for (op, inputs) in [("Concat", ["labels", "n"]), ("Gather", ["n", "labels"]), ("Add", ["labels", "n"])] {
        let mut mixed = node(op, &inputs, &["y"]);
        if op == "Concat" {
            mixed.attribute.push(int_attr("axis", 0));
        }
        let g = with_init(graph(vec![mixed], &[], &["y"]), vec![strings("labels", &[3], &["a", "b", "c"]), i64s("n", &[2], &[0, 1])]);
        let refused = import_onnx_bytes("m.onnx", bytes(&model(g)), &ImportOptions::default()).unwrap_err();
        assert_eq!((refused.0.len(), refused.0[0].code.as_str()), (1, "E0204"), "{refused}");
    }
}
