//! The ai.onnx.ml operators, alone and as scikit-learn and LightGBM export them, against ONNX Runtime's answers
//! (`tests/models/learn.py` writes the cases); and damaged ensembles.

mod models;

use models::*;
use prost::Message;
use std::collections::BTreeMap;
use tahoma_core::random::Random;
use tahoma_core::{Buffer, DType, Dim, Tensor, eval};
use tahoma_frontend::proto::attribute_proto::AttributeType;
use tahoma_frontend::proto::*;
use tahoma_frontend::{ImportOptions, Imported, import_onnx_bytes};

/// One tensor of a case: name, type, extents, elements.
struct Given<'a> {
    name: &'a str,
    kind: &'a str,
    dims: Vec<usize>,
    values: Vec<&'a str>,
}

fn tensors(text: &str) -> Vec<Given<'_>> {
    let one = |t| {
        let [name, kind, dims, values] = str::split(t, ';').collect::<Vec<_>>()[..] else { panic!("{t}") };
        let dims = dims.split(',').filter(|d| !d.is_empty()).map(|d| d.parse().unwrap()).collect();
        Given { name, kind, dims, values: values.split(',').filter(|v| !v.is_empty()).collect() }
    };
    text.split('|').map(one).collect()
}

impl Given<'_> {
    fn numbers(&self) -> Vec<f64> {
        self.values.iter().map(|v| v.parse().unwrap()).collect()
    }
    fn tensor(&self) -> Tensor {
        let v = self.numbers();
        let (dtype, buffer) = match self.kind {
            "float32" => (DType::F32, Buffer::F32(v.iter().map(|&x| x as f32).collect())),
            "float64" => (DType::F64, Buffer::F64(v)),
            "int32" => (DType::I32, Buffer::I32(v.iter().map(|&x| x as i32).collect())),
            "int64" => (DType::I64, Buffer::I64(v.iter().map(|&x| x as i64).collect())),
            other => panic!("{other}"),
        };
        Tensor::new(dtype, &self.dims, buffer)
    }
}

/// Why an output is not what was expected.
fn differs(m: &Imported, want: &Given, got: &Tensor, tolerance: f64) -> Option<String> {
    if got.shape() != want.dims {
        return Some(format!("{} has extents {:?}, not {:?}", want.name, got.shape(), want.dims));
    }
    if want.kind == "str" {
        let words = m.vocabulary.text(want.name, got).map(|t| t.words);
        return (words.as_deref().map(|w| w.iter().map(String::as_str).collect::<Vec<_>>()).as_ref() != Some(&want.values))
            .then(|| format!("{}: {words:?} for {:?}", want.name, want.values));
    }
    let (got, want_v) = (got.to_f64s(), want.numbers());
    let near = |a: f64, b: f64| a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= tolerance * (1.0 + b.abs());
    let exact = want.kind.starts_with("int");
    let same = got.iter().zip(&want_v).all(|(&a, &b)| if exact { a == b } else { near(a, b) });
    (!same).then(|| format!("{}: {got:?} for {want_v:?}", want.name))
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

#[test]
fn learners_agree_with_onnx_runtime() {
    let (mut failed, mut count) = (vec![], 0);
    for line in include_str!("fixtures/learn/onnxruntime.tsv").lines() {
        let [name, model, inputs, outputs] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let (inputs, outputs) = (tensors(inputs), tensors(outputs));
        let shape = |g: &Given| (g.name.to_string(), g.dims.iter().map(|&d| Dim::Known(d as u64)).collect());
        let options = ImportOptions { shapes: inputs.iter().map(shape).collect::<BTreeMap<_, _>>(), ..Default::default() };
        count += 1;
        let m = match import_onnx_bytes("m.onnx", unhex(model).into(), &options) {
            Ok(m) => m,
            Err(d) => {
                failed.push(format!("{name}: {d}"));
                continue;
            }
        };
        let x: Vec<Tensor> = inputs.iter().map(Given::tensor).collect();
        match eval::run(&m.program, "main", &x, &m.store) {
            Ok(y) => {
                // The formula of PROBIT subtracts nearly equal numbers in f32, here as in ONNX Runtime.
                let tolerance = if name.ends_with("PROBIT") { 1e-5 } else { 2e-6 };
                let wrong = outputs.iter().zip(&y).filter_map(|(w, g)| differs(&m, w, g, tolerance));
                failed.extend(wrong.map(|w| format!("{name}: {w}")));
                if y.len() != outputs.len() {
                    failed.push(format!("{name}: {} outputs for {}", y.len(), outputs.len()));
                }
            }
            Err(d) => failed.push(format!("{name}: {d}")),
        }
    }
    assert!(failed.is_empty(), "{} of {count}:\n{}", failed.len(), failed.join("\n"));
    assert_eq!(count, COUNT);
}

/// Lines of the file of cases.
const COUNT: usize = 152;

fn strings_attr(name: &str, v: &[&str]) -> AttributeProto {
    let strings = v.iter().map(|s| s.as_bytes().to_vec()).collect();
    AttributeProto { name: Some(name.into()), r#type: Some(AttributeType::Strings as i32), strings, ..Default::default() }
}

fn floats_attr(name: &str, v: &[f32]) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(AttributeType::Floats as i32), floats: v.to_vec(), ..Default::default() }
}

/// A sound regressor: a branch over two leaves.
fn stump() -> ModelProto {
    let mut n = node("TreeEnsembleRegressor", &["x"], &["y"]);
    n.domain = Some("ai.onnx.ml".into());
    n.attribute = vec![
        ints_attr("nodes_treeids", &[0, 0, 0]),
        ints_attr("nodes_nodeids", &[0, 1, 2]),
        ints_attr("nodes_featureids", &[1, 0, 0]),
        strings_attr("nodes_modes", &["BRANCH_LEQ", "LEAF", "LEAF"]),
        floats_attr("nodes_values", &[0.5, 0., 0.]),
        ints_attr("nodes_truenodeids", &[1, 0, 0]),
        ints_attr("nodes_falsenodeids", &[2, 0, 0]),
        ints_attr("target_treeids", &[0, 0]),
        ints_attr("target_nodeids", &[1, 2]),
        ints_attr("target_ids", &[0, 0]),
        floats_attr("target_weights", &[10., 20.]),
        int_attr("n_targets", 1),
    ];
    learned(n)
}

fn learned(n: NodeProto) -> ModelProto {
    let outputs: Vec<String> = n.output.clone();
    let mut m = model(graph(vec![n], &[("x", &[2, 2])], &outputs.iter().map(String::as_str).collect::<Vec<_>>()));
    m.opset_import.push(OperatorSetIdProto { domain: Some("ai.onnx.ml".into()), version: Some(3) });
    m
}

fn refused(m: &ModelProto) -> String {
    match import_onnx_bytes("m.onnx", bytes(m), &ImportOptions::default()) {
        Ok(_) => "accepted".into(),
        Err(d) => d.0[0].code.to_string(),
    }
}

#[test]
fn damaged_ensembles_are_refused() {
    let m = import_onnx_bytes("m.onnx", bytes(&stump()), &ImportOptions::default()).unwrap();
    let y = eval::run(&m.program, "main", &[Tensor::f32(&[2, 2], vec![9., 0., 0., 9.])], &m.store).unwrap();
    assert_eq!(y[0], Tensor::f32(&[2, 1], vec![10., 20.]));
    let changes: &[(&str, AttributeProto)] = &[
        ("leads to itself", ints_attr("nodes_truenodeids", &[0, 0, 0])),
        ("leads nowhere", ints_attr("nodes_falsenodeids", &[7, 0, 0])),
        ("leads below 0", ints_attr("nodes_falsenodeids", &[-1, 0, 0])),
        ("another tree", ints_attr("nodes_treeids", &[0, 0, 1])),
        ("given twice", ints_attr("nodes_nodeids", &[0, 1, 1])),
        ("too few ids", ints_attr("nodes_nodeids", &[0, 1])),
        ("too many branches", ints_attr("nodes_truenodeids", &[1, 0, 0, 0])),
        ("too few splits", floats_attr("nodes_values", &[0.5])),
        ("no such feature", ints_attr("nodes_featureids", &[2, 0, 0])),
        ("feature below 0", ints_attr("nodes_featureids", &[-1, 0, 0])),
        ("unknown mode", strings_attr("nodes_modes", &["BRANCH", "LEAF", "LEAF"])),
        ("no leaf", strings_attr("nodes_modes", &["BRANCH_LEQ", "BRANCH_LEQ", "BRANCH_LEQ"])),
        ("no nodes", strings_attr("nodes_modes", &[])),
        ("weight of no node", ints_attr("target_nodeids", &[1, 9])),
        ("weight for no target", ints_attr("target_ids", &[0, 1])),
        ("target below 0", ints_attr("target_ids", &[0, -1])),
        ("too few weights", floats_attr("target_weights", &[10.])),
        ("no targets", int_attr("n_targets", 0)),
        ("more targets than memory", int_attr("n_targets", i32::MAX as i64)),
        ("too many base values", floats_attr("base_values", &[1., 2.])),
    ];
    for (what, change) in changes {
        let mut m = stump();
        let attrs = &mut m.graph.as_mut().unwrap().node[0].attribute;
        attrs.retain(|a| a.name != change.name);
        attrs.push(change.clone());
        assert_eq!(refused(&m), "E0205", "{what}");
    }
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    let cases: &[(&str, usize, Vec<AttributeProto>)] = &[
        ("Scaler", 1, vec![floats_attr("offset", &[1.; 3]), floats_attr("scale", &[1.; 3])]),
        ("Scaler", 1, vec![floats_attr("offset", &[1.; 1]), floats_attr("scale", &[1.; 2])]),
        ("Scaler", 1, vec![]),
        ("Imputer", 1, vec![floats_attr("imputed_value_floats", &[1.; 3])]),
        ("Imputer", 1, vec![]),
        ("OneHotEncoder", 1, vec![]),
        ("OneHotEncoder", 1, vec![strings_attr("cats_strings", &["a"])]),
        ("FeatureVectorizer", 1, vec![ints_attr("inputdimensions", &[1, 2])]),
        ("FeatureVectorizer", 1, vec![ints_attr("inputdimensions", &[-1])]),
        ("LinearRegressor", 1, vec![floats_attr("coefficients", &[1.; 3])]),
        ("LinearRegressor", 1, vec![floats_attr("coefficients", &[1.; 2]), floats_attr("intercepts", &[1.; 2])]),
        ("LinearRegressor", 1, vec![int_attr("targets", -1)]),
        ("LinearClassifier", 2, vec![floats_attr("coefficients", &[1.; 4]), ints_attr("classlabels_ints", &[1, 2, 3])]),
        ("LinearClassifier", 2, vec![floats_attr("coefficients", &[1.; 4])]),
        ("SVMRegressor", 1, vec![int_attr("n_supports", 2), floats_attr("rho", &[0.]), floats_attr("support_vectors", &[1.; 3])]),
        ("SVMRegressor", 1, vec![floats_attr("coefficients", &[1.; 2])]),
        ("SVMClassifier", 2, vec![ints_attr("classlabels_ints", &[1, 2]), ints_attr("vectors_per_class", &[1, -1])]),
        ("SVMClassifier", 2, vec![ints_attr("classlabels_ints", &[1, 2]), ints_attr("vectors_per_class", &[1, 1, 1])]),
        ("ZipMap", 1, vec![ints_attr("classlabels_int64s", &[1, 2, 3])]),
        ("ZipMap", 1, vec![]),
    ];
    for (op, results, attributes) in cases {
        let mut n = node(op, &["x"], &["y", "z"][..*results]);
        n.domain = Some("ai.onnx.ml".into());
        n.attribute = attributes.clone();
        let code = refused(&learned(n));
        assert!(["E0204", "E0205"].contains(&code.as_str()), "{op} {attributes:?}: {code}");
    }
}

#[test]
fn maps_are_the_tensor_of_scores_and_the_keys_are_said() {
    let mut n = node("ZipMap", &["x"], &["y"]);
    n.domain = Some("ai.onnx.ml".into());
    n.attribute = vec![strings_attr("classlabels_strings", &["cat", "dog"])];
    let m = import_onnx_bytes("m.onnx", learned(n).encode_to_vec().into(), &ImportOptions::default()).unwrap();
    let said: Vec<String> = m.warnings.iter().map(|d| d.to_string()).collect();
    assert!(said.iter().any(|s| s.contains("\"cat\", \"dog\"")), "{said:?}");
    let x = Tensor::f32(&[2, 2], vec![1., 2., 3., 4.]);
    assert_eq!(eval::run(&m.program, "main", std::slice::from_ref(&x), &m.store).unwrap()[0], x);
}

/// A full tree of `depth` levels whose nodes have the numbers `first`, `first + step`, …: rows of (id, branch on, feature, split, yes, no).
fn full(depth: u32, first: i64, step: i64, seed: u64) -> Vec<(i64, bool, i64, f32, i64, i64)> {
    let mut random = Random::new(seed);
    let n = (1i64 << (depth + 1)) - 1;
    let id = |i: i64| first + step * i;
    (0..n)
        .map(|i| {
            let branch = 2 * i + 2 < n;
            let feature = (random.bits() % 2) as i64;
            let split = (random.bits() % 1000) as f32 / 1000.0;
            if branch { (id(i), true, feature, split, id(2 * i + 1), id(2 * i + 2)) } else { (id(i), false, 0, 0.0, 0, 0) }
        })
        .collect()
}

/// Tables of more entries than a constant should have, nodes in any order with numbers that leave gaps, rows open: what a plain walk of
/// the trees gives. Where each leaf has one class, where it has all, and for targets.
#[test]
fn large_ensembles_are_read_as_tables_in_the_store() {
    const CLASSES: usize = 3;
    for (what, all) in [("class", false), ("class", true), ("target", false)] {
        let mut nodes = vec![];
        for tree in 0..24i64 {
            // Some trees number their nodes without gaps, some from below zero.
            nodes.extend(full(6, tree % 3 - 1, 1 + tree % 2, tree as u64).into_iter().map(|n| (tree, n)));
        }
        let mut random = Random::new(5);
        // The first node of a tree stays first: it is the root.
        let mut order: Vec<usize> = (0..nodes.len()).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, random.bits() as usize % (i + 1));
        }
        let root = |i: &usize| !i.is_multiple_of(127);
        order.sort_by_key(root);
        let leaves: Vec<(i64, i64)> = nodes.iter().filter(|(_, n)| !n.1).map(|(t, n)| (*t, n.0)).collect();
        let each = if all { CLASSES } else { 1 };
        let weights: Vec<(i64, i64, i64, f32)> = leaves
            .iter()
            .flat_map(|&(t, id)| (0..each).map(move |k| (t, id, k)))
            .map(|(t, id, k)| {
                let class = if all { k as i64 } else { (t + id).rem_euclid(CLASSES as i64) };
                (t, id, class, (random.bits() % 64) as f32 / 64.0)
            })
            .collect();
        let sorted: Vec<_> = order.iter().map(|&i| nodes[i]).collect();
        let ints = |name: &str, f: &dyn Fn(&(i64, (i64, bool, i64, f32, i64, i64))) -> i64| {
            ints_attr(name, &sorted.iter().map(f).collect::<Vec<_>>())
        };
        let modes: Vec<&str> = sorted.iter().map(|(_, n)| if n.1 { "BRANCH_LEQ" } else { "LEAF" }).collect();
        let column = |f: &dyn Fn(&(i64, i64, i64, f32)) -> i64| weights.iter().map(f).collect::<Vec<_>>();
        let (op, results): (&str, &[&str]) =
            if what == "class" { ("TreeEnsembleClassifier", &["label", "y"]) } else { ("TreeEnsembleRegressor", &["y"]) };
        let mut n = node(op, &["x"], results);
        n.domain = Some("ai.onnx.ml".into());
        n.attribute = vec![
            ints("nodes_treeids", &|n| n.0),
            ints("nodes_nodeids", &|n| n.1.0),
            ints("nodes_featureids", &|n| n.1.2),
            strings_attr("nodes_modes", &modes),
            floats_attr("nodes_values", &sorted.iter().map(|n| n.1.3).collect::<Vec<_>>()),
            ints("nodes_truenodeids", &|n| n.1.4),
            ints("nodes_falsenodeids", &|n| n.1.5),
            ints_attr(&format!("{what}_treeids"), &column(&|w| w.0)),
            ints_attr(&format!("{what}_nodeids"), &column(&|w| w.1)),
            ints_attr(&format!("{what}_ids"), &column(&|w| w.2)),
            floats_attr(&format!("{what}_weights"), &weights.iter().map(|w| w.3).collect::<Vec<_>>()),
            if what == "class" { ints_attr("classlabels_int64s", &[7, 8, 9]) } else { int_attr("n_targets", CLASSES as i64) },
        ];
        let mut m = learned(n);
        let dim = |v| TensorShapeProto { dim: v };
        let open = tensor_shape_proto::Dimension {
            value: Some(tensor_shape_proto::dimension::Value::DimParam("rows".into())),
            ..Default::default()
        };
        let two = tensor_shape_proto::Dimension { value: Some(tensor_shape_proto::dimension::Value::DimValue(2)), ..Default::default() };
        match m.graph.as_mut().unwrap().input[0].r#type.as_mut().unwrap().value.as_mut().unwrap() {
            type_proto::Value::TensorType(t) => t.shape = Some(dim(vec![open, two])),
            other => panic!("{other:?}"),
        }
        let m = import_onnx_bytes("m.onnx", bytes(&m), &ImportOptions::default()).unwrap_or_else(|d| panic!("{d}"));
        assert!(m.store.len() >= 5, "{} tables", m.store.len());
        let held = m.program.main().nodes.iter().filter_map(|n| n.attrs.tensor("value")).map(|t| t.len()).max();
        assert!(held <= Some(tahoma_core::graph::FOLD_ELEMENTS), "a constant of {held:?}");

        let rows = 9;
        let x: Vec<f32> = (0..2 * rows).map(|_| (random.bits() % 1000) as f32 / 1000.0).collect();
        let mut want = vec![0f32; rows * CLASSES];
        for row in 0..rows {
            for tree in 0..24i64 {
                let own: BTreeMap<i64, _> = nodes.iter().filter(|n| n.0 == tree).map(|n| (n.1.0, n.1)).collect();
                let mut at = nodes.iter().find(|n| n.0 == tree).unwrap().1;
                while at.1 {
                    at = own[&if x[2 * row + at.2 as usize] <= at.3 { at.4 } else { at.5 }];
                }
                for w in weights.iter().filter(|w| w.0 == tree && w.1 == at.0) {
                    want[row * CLASSES + w.2 as usize] += w.3;
                }
            }
        }
        let y = eval::run(&m.program, "main", &[Tensor::f32(&[rows, 2], x)], &m.store).unwrap_or_else(|d| panic!("{d}"));
        // Sixty-fourths add up without rounding.
        assert_eq!(*y.last().unwrap(), Tensor::f32(&[rows, CLASSES], want), "{what}, all {all}");
    }
}
