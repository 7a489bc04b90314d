//! Wrong inputs: each is refused with its code and words a user can act on, and nothing panics.

mod models;

use models::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use tahoma_core::{DType, Diagnostics, Dim, Origin, Tensor, eval};
use tahoma_frontend::proto::*;
use tahoma_frontend::{Budget, ImportOptions, Imported, import_hf, import_onnx, import_onnx_bytes};

fn import_with(m: &ModelProto, options: &ImportOptions) -> Result<Imported, Diagnostics> {
    import_onnx_bytes("m.onnx", bytes(m), options)
}

fn import(m: &ModelProto) -> Result<Imported, Diagnostics> {
    import_with(m, &ImportOptions::default())
}

/// The diagnostics of a refused model, as text.
#[track_caller]
fn refused(r: Result<Imported, Diagnostics>, code: &str, words: &[&str]) -> String {
    let d = r.expect_err("must be refused");
    assert!(d.0.iter().any(|d| d.code == code), "no {code} in:\n{d}");
    let text = d.to_string();
    for w in words {
        assert!(text.contains(w), "{w:?} is not in:\n{text}");
    }
    text
}

fn raw(b: &[u8]) -> Result<Imported, Diagnostics> {
    import_onnx_bytes("m.onnx", b.to_vec().into(), &ImportOptions::default())
}

#[test]
fn truncated_and_foreign_files() {
    let good = bytes(&model(graph(vec![node("Relu", &["x"], &["y"])], &[("x", &[2])], &["y"])));
    for cut in 1..good.len() {
        let _ = raw(&good[..cut]);
    }
    refused(raw(&good[..good.len() - 3]), "E0102", &["not a valid ONNX file"]);
    refused(raw(b""), "E0102", &["empty"]);
    refused(raw(b"version https://git-lfs.github.com/spec/v1\noid sha256:0"), "E0102", &["Git LFS", "git lfs pull"]);
    refused(raw(b"<!DOCTYPE html><html>"), "E0102", &["web page"]);
    refused(raw(b"\x80\x02}q\x00."), "E0104", &["pickled", "save_pretrained"]);
    refused(raw(b"PK\x03\x04\x00\x00archive/data.pkl"), "E0104", &["pickled"]);
    refused(raw(b"\x10\x00\x00\x00\x00\x00\x00\x00{\"a\":{}}"), "E0102", &["safetensors"]);
    refused(raw(b"{\"model\": 1}"), "E0102", &["JSON"]);
    refused(raw(&bytes(&ModelProto { ir_version: Some(9), ..Default::default() })), "E0102", &["no graph"]);
    let all: Vec<u8> = (0..=255).collect();
    refused(raw(&all), "E0102", &[]);
}

#[test]
fn a_missing_file_and_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    refused(import_onnx(&dir.path().join("no.onnx"), &ImportOptions::default()), "E0101", &["No such file"]);
    refused(import_onnx(dir.path(), &ImportOptions::default()), "E0101", &["directory"]);
}

#[cfg(unix)]
#[test]
fn pipes_and_devices_are_refused_without_waiting() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let dir = tempfile::tempdir().unwrap();
    let pipe = |name: &str| mknodat(CWD, dir.path().join(name), FileType::Fifo, Mode::RWXU, 0).unwrap();
    pipe("m.onnx");
    refused(import_onnx(&dir.path().join("m.onnx"), &ImportOptions::default()), "E0101", &["not a regular file"]);
    refused(import_onnx(Path::new("/dev/zero"), &ImportOptions::default()), "E0101", &["not a regular file"]);
    pipe("w.bin");
    let m = external("w.bin", "0", "128");
    fs::write(dir.path().join("e.onnx"), bytes(&m)).unwrap();
    refused(import_onnx(&dir.path().join("e.onnx"), &ImportOptions::default()), "E0103", &["not a regular file"]);
    pipe("config.json");
    refused(import_hf(dir.path(), &Default::default()), "E0101", &["not a regular file"]);
}

/// What was opened and then cut short by somebody else is an error when it is read, for a mapping it would be the end of the process.
#[test]
fn external_data_cut_short_after_the_import_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("w.bin"), [1u8; 1 << 16]).unwrap();
    fs::write(dir.path().join("e.onnx"), bytes(&external("w.bin", "61440", "128"))).unwrap();
    let m = import_onnx(&dir.path().join("e.onnx"), &ImportOptions::default()).unwrap();
    let name = m.store.entries().next().unwrap().name.to_string();
    assert_eq!(m.store.read(&name).unwrap().len(), 128);
    fs::File::options().write(true).open(dir.path().join("w.bin")).unwrap().set_len(4096).unwrap();
    let d = m.store.read(&name).unwrap_err();
    assert!(d.code == "E0101" && d.to_string().contains("cut short"), "{d}");
    assert_eq!(eval::run(&m.program, "main", &[], &m.store).unwrap_err().code, "E0101");
}

#[test]
fn a_file_and_a_model_over_budget() {
    let m = model(graph(vec![node("Relu", &["x"], &["y"])], &[("x", &[2])], &["y"]));
    let small = |budget| ImportOptions { budget, ..Default::default() };
    refused(import_with(&m, &small(Budget { file_bytes: 8, ..Budget::default() })), "E0107", &["budget"]);
    refused(import_with(&m, &small(Budget { nodes: 0, ..Budget::default() })), "E0107", &["nodes"]);
    let shape = i64s("s", &[2], &[1 << 40, 1 << 40]);
    let m = model(with_init(graph(vec![node("ConstantOfShape", &["s"], &["y"])], &[], &["y"]), vec![shape]));
    refused(import(&m), "E0107", &["ConstantOfShape"]);
}

#[test]
fn shapes_that_do_not_fit_name_node_operands_and_remedy() {
    let w = floats("w", &[255, 512], vec![0.5; 255 * 512]);
    let mut n = node("MatMul", &["h", "w"], &["y"]);
    n.name = Some("blk3/attn/q_proj".into());
    let m = model(with_init(graph(vec![node("Relu", &["x"], &["h"]), n], &[("x", &[64, 256])], &["y"]), vec![w]));
    let text = refused(
        import(&m),
        "E0203",
        &["blk3/attn/q_proj", "MatMul, opset 20", "f32[64, 256]", "f32[255, 512]", "initializer", "from node 0 (Relu)"],
    );
    assert!(text.contains("must be 256") && text.contains("[256, 512]"), "{text}");
    let w = floats("w", &[512, 256], vec![0.5; 512 * 256]);
    let m = model(with_init(graph(vec![node("MatMul", &["x", "w"], &["y"])], &[("x", &[64, 256])], &["y"]), vec![w]));
    refused(import(&m), "E0203", &["B fits when transposed"]);
    let m = model(with_init(graph(vec![node("Reshape", &["x", "s"], &["y"])], &[("x", &[2, 3])], &["y"]), vec![i64s("s", &[2], &[4, -1])]));
    refused(import(&m), "E0203", &["6 elements", "[4, -1]"]);
    let m = model(graph(vec![node("Add", &["a", "b"], &["y"])], &[("a", &[2, 3]), ("b", &[4])], &["y"]));
    refused(import(&m), "E0203", &["Add", "f32[2, 3]", "f32[4]"]);
    let m = model(with_init(
        graph(vec![node("Conv", &["x", "w"], &["y"])], &[("x", &[1, 3, 8, 8])], &["y"]),
        vec![floats("w", &[4, 2, 3, 3], vec![0.1; 72])],
    ));
    refused(import(&m), "E0203", &["3 channels", "axis 1 must be 2"]);
}

#[test]
fn independent_problems_are_all_found_and_their_consequences_are_not_repeated() {
    let nodes = vec![
        node("MatMul", &["a", "b"], &["m"]),
        node("Relu", &["m"], &["r"]),
        node("Add", &["r", "a"], &["s"]),
        node("Add", &["a", "b"], &["t"]),
    ];
    let m = model(graph(nodes, &[("a", &[2, 3]), ("b", &[4, 5])], &["s", "t"]));
    let d = import(&m).unwrap_err();
    assert_eq!(d.0.len(), 2, "{d}");
    assert!(matches!(&d.0[0].origin, Origin::Node { index: 0, .. }) && matches!(&d.0[1].origin, Origin::Node { index: 3, .. }), "{d}");
}

#[test]
fn unknown_operators_are_listed_at_once() {
    let mut fancy = node("FancyAttention", &["x"], &["a"]);
    fancy.domain = Some("com.acme".into());
    fancy.name = Some("blk3/fancy".into());
    let nodes = vec![fancy, node("Rellu", &["a"], &["b"]), node("Rellu", &["b"], &["c"]), node("ImageDecoder", &["x"], &["d"])];
    let mut m = model(graph(nodes, &[("x", &[2])], &["c"]));
    m.opset_import.push(OperatorSetIdProto { domain: Some("com.acme".into()), version: Some(1) });
    let text = refused(
        import(&m),
        "E0201",
        &["com.acme.FancyAttention", "blk3/fancy", "2 nodes", "Relu", "closest supported operator is Attention"],
    );
    assert_eq!(text.matches("error[E0201]").count(), 3, "{text}");
    let m = model(graph(vec![node("Gelu", &["x"], &["y"])], &[("x", &[2])], &["y"]));
    let mut old = m.clone();
    old.opset_import[0].version = Some(13);
    refused(import(&old), "E0201", &["not in operator set 13: it came with 20"]);
}

#[test]
fn graphs_that_are_not_well_formed() {
    let cycle = vec![node("Add", &["x", "b"], &["a"]), node("Relu", &["a"], &["b"]), node("Neg", &["x"], &["y"])];
    refused(
        import(&model(graph(cycle, &[("x", &[2])], &["a", "y"]))),
        "E0202",
        &["cycle of 2 nodes", "node 0 (Add) → node 1 (Relu) → node 0 (Add)"],
    );
    let m = model(graph(vec![node("Relu", &["xx"], &["y"])], &[("x", &[2])], &["y"]));
    refused(import(&m), "E0202", &["uses \"xx\", which nothing makes", "closest name is \"x\""]);
    let twice = vec![node("Relu", &["x"], &["y"]), node("Neg", &["x"], &["y"])];
    refused(import(&model(graph(twice, &[("x", &[2])], &["y"]))), "E0202", &["made twice", "node 0 (Relu)", "node 1 (Neg)"]);
    let m = model(graph(vec![node("Relu", &["x"], &["y"])], &[("x", &[2])], &["z"]));
    refused(import(&m), "E0202", &["output \"z\" is never made"]);
    let m = model(graph(vec![node("Relu", &["x"], &["y"])], &[("x", &[2]), ("x", &[3])], &["y"]));
    refused(import(&m), "E0202", &["input \"x\" is given twice"]);
    let two = vec![floats("w", &[1], vec![1.]), floats("w", &[1], vec![2.])];
    refused(
        import(&model(with_init(graph(vec![node("Relu", &["w"], &["y"])], &[], &["y"]), two))),
        "E0202",
        &["initializer \"w\" is given twice"],
    );
    let m = model(graph(vec![node("Relu", &["x", "x"], &["y"])], &[("x", &[2])], &["y"]));
    refused(import(&m), "E0202", &["takes 1 operands, got 2"]);
    let m = model(graph(vec![node("Add", &["x", ""], &["y"])], &[("x", &[2])], &["y"]));
    refused(import(&m), "E0202", &["operand B is missing"]);
    let m = model(graph(vec![node("Relu", &["x"], &["y", "z"])], &[("x", &[2])], &["y"]));
    refused(import(&m), "E0202", &["gives at most 1 results"]);
    refused(import(&model(graph(vec![node("Relu", &["x"], &["y"])], &[("x", &[2])], &[]))), "E0202", &["no outputs"]);
}

#[test]
fn nodes_out_of_order_are_put_in_order() {
    let m = model(graph(vec![node("Relu", &["a"], &["y"]), node("Neg", &["x"], &["a"])], &[("x", &[2])], &["y"]));
    let m = import(&m).unwrap();
    let y = eval::run(&m.program, "main", &[Tensor::f32(&[2], vec![-1., 2.])], &m.store).unwrap();
    assert_eq!(y[0], Tensor::f32(&[2], vec![1., 0.]));
}

/// A body's own names hide those outside: its input `y` is not the `y` that is made from the loop's result.
#[test]
fn a_name_inside_a_body_is_no_use_of_it_outside() {
    let kept = [node("Identity", &["going"], &["go"]), node("Neg", &["y"], &["b"]), node("Abs", &["b"], &["next"])];
    let body = graph(kept.into(), &[("i", &[]), ("going", &[]), ("y", &[2])], &["go", "next"]);
    let typed = |elem: i32, v: &mut ValueInfoProto| v.r#type = Some(tensor_type(elem, Some(&[])));
    let mut body = body;
    typed(7, &mut body.input[0]);
    typed(9, &mut body.input[1]);
    let mut repeat = node("Loop", &["n", "", "x"], &["a"]);
    repeat.attribute.push(graph_attr("body", body));
    let nodes = vec![repeat, node("Neg", &["a"], &["y"]), node("Abs", &["y"], &["b"])];
    let m = import(&model(with_init(graph(nodes, &[("x", &[2])], &["y", "b"]), vec![i64s("n", &[], &[3])]))).unwrap();
    let out = eval::run(&m.program, "main", &[Tensor::f32(&[2], vec![-1., 2.])], &m.store).unwrap();
    assert_eq!(out, [Tensor::f32(&[2], vec![-1., -2.]), Tensor::f32(&[2], vec![1., 2.])]);
}

/// 40,000 nodes that are each wrong in their own way: each is told, and what was told before is not searched through for it.
#[test]
fn many_faults_take_time_in_their_number() {
    let cpu = || rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime).tv_sec;
    for wrong in [
        |i: usize| node("Relu", &[&format!("nothing{i}")], &[&format!("v{i}")]),
        |i| node(&format!("Relux{i}"), &["x"], &[&format!("v{i}")]),
    ] {
        let nodes: Vec<NodeProto> = (0..40_000).map(wrong).collect();
        let start = cpu();
        let d = import(&model(graph(nodes, &[("x", &[2])], &["v0"]))).expect_err("must be refused");
        assert_eq!(d.0.len(), 40_000);
        assert!(cpu() - start < 10, "{} s", cpu() - start);
    }
}

#[test]
fn operator_sets_that_are_missing_or_unknown() {
    let good = model(graph(vec![node("Relu", &["x"], &["y"])], &[("x", &[2])], &["y"]));
    let mut m = good.clone();
    m.opset_import.clear();
    refused(import(&m), "E0208", &["imports no operator set of ai.onnx"]);
    m = good.clone();
    m.opset_import[0].version = Some(99);
    refused(import(&m), "E0208", &["operator set 99", "1 to 28"]);
    m = good.clone();
    m.opset_import[0].version = Some(-1);
    refused(import(&m), "E0208", &["-1 of ai.onnx is not a version"]);
    m = good;
    m.graph.as_mut().unwrap().node[0].domain = Some("com.acme".into());
    refused(import(&m), "E0208", &["imports no operator set of com.acme"]);
}

#[test]
fn attributes_that_are_wrong() {
    let with = |a: AttributeProto| {
        let mut n = node("Softmax", &["x"], &["y"]);
        n.attribute.push(a);
        import(&model(graph(vec![n], &[("x", &[2, 3])], &["y"])))
    };
    refused(with(float_attr("axis", 1.0)), "E0205", &["attribute \"axis\" must be an int, but is a float"]);
    refused(with(int_attr("axes", 1)), "E0205", &["has no attribute \"axes\"", "did you mean \"axis\"?"]);
    refused(with(int_attr("axis", 7)), "E0205", &["axis 7 is out of range for rank 2"]);
    refused(
        import(&model(graph(vec![node("Concat", &["x", "x"], &["y"])], &[("x", &[2])], &["y"]))),
        "E0205",
        &["needs attribute \"axis\""],
    );
    let mut n = node("Transpose", &["x"], &["y"]);
    n.attribute.push(ints_attr("perm", &[0, 0]));
    refused(import(&model(graph(vec![n], &[("x", &[2, 3])], &["y"]))), "E0205", &["not a permutation"]);
}

#[test]
fn tensors_that_are_malformed() {
    let with = |t: TensorProto| import(&model(with_init(graph(vec![node("Relu", &["w"], &["y"])], &[], &["y"]), vec![t])));
    let mut t = floats("w", &[20], vec![1.; 20]);
    t.raw_data = Some(vec![0; 79].into());
    refused(with(t.clone()), "E0206", &["tensor \"w\"", "80 bytes", "79"]);
    refused(with(floats("w", &[4], vec![1.; 3])), "E0206", &["needs 16 bytes, the file has 12"]);
    t.data_type = Some(99);
    refused(with(t.clone()), "E0204", &["99 is not a number type"]);
    t.data_type = Some(8);
    refused(with(t.clone()), "E0206", &["[20] do not fit 0 strings"]);
    t.data_type = Some(14);
    refused(with(t.clone()), "E0204", &["complex64"]);
    t.data_type = Some(1);
    t.dims = vec![-5];
    refused(with(t.clone()), "E0207", &["-5 is negative"]);
    t.dims = vec![i64::MAX, i64::MAX];
    refused(with(t), "E0107", &["more than"]);
}

#[test]
fn dimensions_given_by_the_user() {
    let m = model(graph(vec![node("Relu", &["x"], &["y"])], &[("x", &[2, -1])], &["y"]));
    let shapes = |name: &str, dims: &[u64]| ImportOptions {
        shapes: BTreeMap::from([(name.to_string(), dims.iter().map(|&d| Dim::Known(d)).collect())]),
        ..Default::default()
    };
    assert_eq!(import_with(&m, &shapes("x", &[2, 7])).unwrap().program.main().types[0].to_string(), "f32[2, 7]");
    refused(import_with(&m, &shapes("x", &[3, 7])), "E0207", &["cannot have shape [3, 7]: the model declares [2, ?]"]);
    refused(import_with(&m, &shapes("x", &[2])), "E0207", &["declares [2, ?]"]);
    refused(import_with(&m, &shapes("X", &[2, 7])), "E0207", &["no input \"X\"", "did you mean \"x\"?"]);
    refused(import_with(&m, &shapes("x", &[2, 1 << 40])), "E0107", &["budget"]);
    let constants =
        ImportOptions { constants: BTreeMap::from([("x".to_string(), Tensor::i64(&[2, 1], vec![1, 2]))]), ..Default::default() };
    refused(import_with(&m, &constants), "E0602", &["is f32, the value given is i64"]);
    for bad in ["x=1xNaN", "x=-1", "x=1x99999999999999999999", "x"] {
        assert_eq!(tahoma_frontend::parse_shape(bad).unwrap_err().code, "E0207");
    }
    let mut open = m;
    open.graph.as_mut().unwrap().input[0].r#type = Some(tensor_type(1, None));
    refused(import(&open), "E0209", &["declares no shape", "--shape x="]);
}

fn external(location: &str, offset: &str, length: &str) -> ModelProto {
    let entry = |k: &str, v: &str| StringStringEntryProto { key: Some(k.into()), value: Some(v.into()) };
    let mut t = floats("w", &[32], vec![]);
    t.data_location = Some(tensor_proto::DataLocation::External as i32);
    t.external_data = vec![entry("location", location), entry("offset", offset), entry("length", length)];
    model(with_init(graph(vec![node("Relu", &["w"], &["y"])], &[], &["y"]), vec![t]))
}

#[test]
fn external_data_stays_below_the_models_folder() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("model");
    fs::create_dir_all(base.join("sub")).unwrap();
    let data: Vec<u8> = (0..40).flat_map(|i| (i as f32).to_le_bytes()).collect();
    fs::write(base.join("sub/w.bin"), &data).unwrap();
    fs::write(dir.path().join("secret.bin"), &data).unwrap();
    let run = |m: &ModelProto| {
        fs::write(base.join("m.onnx"), bytes(m)).unwrap();
        import_onnx(&base.join("m.onnx"), &ImportOptions::default())
    };
    let good = run(&external("sub/w.bin", "32", "128")).unwrap();
    let y = eval::run(&good.program, "main", &[], &good.store).unwrap();
    assert_eq!(y[0], Tensor::f32(&[32], (8..40).map(|i| i as f32).collect()));
    let e = good.store.entries().next().unwrap();
    assert_eq!(e.location, tahoma_frontend::Location::File { path: &base.join("sub/w.bin"), offset: 32 });

    refused(run(&external("../secret.bin", "0", "128")), "E0103", &["'..'"]);
    refused(run(&external("sub/../../secret.bin", "0", "128")), "E0103", &["'..'"]);
    refused(run(&external("/etc/passwd", "0", "128")), "E0103", &["absolute"]);
    refused(run(&external("", "0", "128")), "E0103", &["plain relative path"]);
    refused(run(&external("sub", "0", "128")), "E0103", &["not a regular file"]);
    refused(run(&external("sub/none.bin", "0", "128")), "E0103", &["No such file"]);
    refused(run(&external("sub/w.bin", "64", "128")), "E0103", &["160 bytes"]);
    refused(run(&external("sub/w.bin", "18446744073709551615", "128")), "E0103", &["160 bytes"]);
    refused(run(&external("sub/w.bin", "-1", "128")), "E0103", &["not a number"]);
    refused(run(&external("sub/w.bin", "0", "64")), "E0206", &["needs 128 bytes"]);
    #[cfg(unix)]
    {
        assert!(std::process::Command::new("mkfifo").arg(base.join("pipe.bin")).status().unwrap().success());
        refused(run(&external("pipe.bin", "0", "128")), "E0103", &["not a regular file"]);
        std::os::unix::fs::symlink(dir.path().join("secret.bin"), base.join("link.bin")).unwrap();
        refused(run(&external("link.bin", "0", "128")), "E0103", &["symbolic link"]);
        std::os::unix::fs::symlink(dir.path(), base.join("up")).unwrap();
        refused(run(&external("up/secret.bin", "0", "128")), "E0103", &["symbolic link"]);
        fs::hard_link(dir.path().join("secret.bin"), base.join("hard.bin")).unwrap();
        refused(run(&external("hard.bin", "0", "128")), "E0103", &["hard links"]);
    }
    let in_memory = import(&external("sub/w.bin", "0", "128"));
    refused(in_memory, "E0103", &["needs a model read from a file"]);
    let mut key = external("sub/w.bin", "0", "128");
    key.graph.as_mut().unwrap().initializer[0].external_data[1].key = Some("__class__".into());
    refused(run(&key), "E0103", &["unknown key"]);
}

#[test]
fn nested_and_recursive_models() {
    let mut f = FunctionProto {
        name: Some("F".into()),
        domain: Some("d".into()),
        input: vec!["a".into()],
        output: vec!["b".into()],
        ..Default::default()
    };
    let mut call = node("F", &["a"], &["b"]);
    call.domain = Some("d".into());
    f.node = vec![call.clone()];
    let mut first = call;
    (first.input, first.output) = (vec!["x".into()], vec!["y".into()]);
    let mut m = model(graph(vec![first], &[("x", &[2])], &["y"]));
    m.functions.push(f);
    m.opset_import.push(OperatorSetIdProto { domain: Some("d".into()), version: Some(1) });
    refused(import(&m), "E0107", &["nested deeper", "calls itself"]);
}

#[test]
fn types_that_do_not_fit() {
    let m = model(with_init(graph(vec![node("Add", &["x", "i"], &["y"])], &[("x", &[2])], &["y"]), vec![i64s("i", &[2], &[1, 2])]));
    refused(import(&m), "E0204", &["Add", "i64[2]", "f32[2]"]);
    let m = model(with_init(graph(vec![node("Not", &["x"], &["y"])], &[("x", &[2])], &["y"]), vec![]));
    refused(import(&m), "E0204", &["Not"]);
}

fn hf_dir(config: &str, weights: Option<&[u8]>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), config).unwrap();
    if let Some(w) = weights {
        fs::write(dir.path().join("model.safetensors"), w).unwrap();
    }
    dir
}

const BERT: &str = r#""model_type":"bert","hidden_size":8,"num_hidden_layers":1,"num_attention_heads":2,"intermediate_size":16,
    "vocab_size":10,"max_position_embeddings":12,"type_vocab_size":2,"layer_norm_eps":1e-12"#;

fn hf(dir: &Path) -> Result<Imported, Diagnostics> {
    import_hf(dir, &tahoma_frontend::HfOptions { sequence: 4, ..Default::default() })
}

#[test]
fn hugging_face_directories_that_are_wrong() {
    let empty = tempfile::tempdir().unwrap();
    refused(hf(empty.path()), "E0101", &["config.json"]);
    let none: &[u8] = b"\x02\0\0\0\0\0\0\0{}";
    refused(hf(hf_dir("{", Some(none)).path()), "E0108", &["not valid JSON"]);
    refused(hf(hf_dir("[]", Some(none)).path()), "E0108", &["one object"]);
    refused(hf(hf_dir("{}", Some(none)).path()), "E0108", &["no \"model_type\""]);
    refused(hf(hf_dir(r#"{"model_type":"bert","model_type":"bert"}"#, Some(none)).path()), "E0108", &["twice"]);
    refused(hf(hf_dir(r#"{"model_type":"mamba9"}"#, Some(none)).path()), "E0211", &["mamba9", "supported: bert"]);
    refused(hf(hf_dir(r#"{"model_type":"bert","auto_map":{}}"#, Some(none)).path()), "E0211", &["auto_map", "never runs"]);
    let bad = format!("{{{BERT},\"hidden_act\":\"mystery\",\"is_decoder\":true,\"rope_scaling\":{{}}}}");
    refused(
        hf(hf_dir(&bad, Some(none)).path()),
        "E0108",
        &["\"hidden_act\" is \"mystery\"", "\"is_decoder\" must be false", "\"rope_scaling\" is not a key"],
    );
    let good = format!("{{{BERT}}}");
    refused(
        hf(hf_dir(&good.replace("\"hidden_size\":8", "\"hidden_size\":-8"), Some(none)).path()),
        "E0108",
        &["\"hidden_size\" must be a whole number"],
    );
    let text = refused(
        hf(hf_dir(&good, Some(none)).path()),
        "E0210",
        &["embeddings.word_embeddings.weight", "encoder.layer.0.output.LayerNorm.bias"],
    );
    assert!(text.matches("E0210").count() > 10, "all missing tensors are listed:\n{text}");
    let d = hf_dir(&good, None);
    refused(hf(d.path()), "E0101", &["neither model.safetensors"]);
    fs::write(d.path().join("pytorch_model.bin"), b"PK\x03\x04").unwrap();
    refused(hf(d.path()), "E0104", &["pytorch_model.bin", "save_pretrained"]);
    refused(hf(hf_dir(&good, Some(b"\x80\x02}q\x00")).path()), "E0104", &["pickled"]);
    refused(hf(hf_dir(&good, Some(b"\xff\0\0\0\0\0\0\0{}")).path()), "E0105", &["claims"]);
    let long = import_hf(hf_dir(&good, Some(none)).path(), &tahoma_frontend::HfOptions { sequence: 99, ..Default::default() });
    refused(long, "E0207", &["longer than max_position_embeddings 12"]);
    let index = |text: &str| {
        let d = hf_dir(&good, None);
        fs::write(d.path().join("model.safetensors.index.json"), text).unwrap();
        d
    };
    refused(hf(index(r#"{"weight_map":{"a":"../x.safetensors"}}"#).path()), "E0103", &["'..'"]);
    refused(hf(index(r#"{"weights":1}"#).path()), "E0105", &["no weight_map"]);
}

#[test]
fn tensors_of_checkpoints_must_all_be_used_and_fit() {
    let good = format!("{{{BERT}}}");
    let (names, file) = tiny_bert(&[]);
    let d = hf_dir(&good, Some(&file));
    let m = hf(d.path()).unwrap();
    assert_eq!(m.program.main().outputs.len(), 1);
    assert_eq!(m.store.len(), names);
    let (_, file) = tiny_bert(&[("adapter.lora_A.weight", &[2, 2])]);
    refused(hf(hf_dir(&good, Some(&file)).path()), "E0212", &["adapter.lora_A.weight"]);
    let wide = good.replace("\"intermediate_size\":16", "\"intermediate_size\":32");
    refused(hf(hf_dir(&wide, Some(&tiny_bert(&[]).1)).path()), "E0210", &["f32[16, 8]", "config.json says floats of shape [32, 8]"]);
}

#[test]
fn weights_are_not_copied_and_typed_fields_are_read() {
    let w = floats("w", &[32], (0..32).map(|i| i as f32).collect());
    let mut r = w.clone();
    r.name = Some("r".into());
    r.raw_data = Some(r.float_data.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>().into());
    r.float_data.clear();
    let m = import(&model(with_init(graph(vec![node("Add", &["w", "r"], &["y"])], &[], &["y"]), vec![w, r]))).unwrap();
    let y = eval::run(&m.program, "main", &[], &m.store).unwrap();
    assert_eq!(y[0], Tensor::f32(&[32], (0..32).map(|i| 2. * i as f32).collect()));
    let kinds: Vec<bool> = m.store.entries().map(|e| matches!(e.location, tahoma_frontend::Location::File { .. })).collect();
    assert_eq!(kinds, [true, false], "raw bytes stay in the file, typed fields are packed");
    // f16 as bit patterns in int32_data.
    let mut h = floats("h", &[2], vec![]);
    h.data_type = Some(10);
    h.int32_data = vec![0x3c00, 0xc000];
    let m = import(&model(with_init(graph(vec![node("Neg", &["h"], &["y"])], &[], &["y"]), vec![h]))).unwrap();
    let y = eval::run(&m.program, "main", &[], &m.store).unwrap();
    assert_eq!((y[0].dtype(), y[0].to_bytes()), (DType::F16, vec![0x00, 0xbc, 0x00, 0x40]));
}

/// Opens the extents that `which` names of every tensor that a model takes: a symbol for each.
fn opened(m: &mut ModelProto, which: impl Fn(usize, usize) -> bool) -> bool {
    use tensor_shape_proto::dimension::Value;
    let mut any = false;
    for (i, input) in m.graph.iter_mut().flat_map(|g| &mut g.input).enumerate() {
        let Some(type_proto::Value::TensorType(t)) = input.r#type.as_mut().and_then(|t| t.value.as_mut()) else { continue };
        let dims = t.shape.as_mut().map(|s| &mut s.dim).into_iter().flatten();
        let rank = dims.size_hint().0;
        for (d, dim) in dims.enumerate().filter(|(d, _)| which(*d, rank)) {
            dim.value = Some(Value::DimParam(format!("s{i}_{d}")));
            any = true;
        }
    }
    any
}

/// What every operator of ONNX's suite says of open extents: it takes them, or asks for numbers by E0209, which callers answer by fixing
/// the shapes. Any other code would be the end of a model that is right.
#[test]
fn operators_ask_for_numbers_by_one_code() {
    use prost::Message;
    use rayon::prelude::*;
    let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tahoma");
    let suites = ["onnx-suite/node", "onnx-suite/simple", "onnx-suite/pytorch-operator", "onnxruntime-suite/com.microsoft"];
    let folders = suites.map(|f| cache.join(f));
    let mut cases: Vec<_> = folders
        .iter()
        .flat_map(|f| fs::read_dir(f).unwrap_or_else(|e| panic!("{}: {e}: run `cargo xtask setup` first", f.display())))
        .filter_map(|e| Some(e.ok()?.path().join("model.onnx")))
        .filter(|p| p.is_file())
        .collect();
    cases.sort();
    assert!(cases.len() > 1500, "{} cases", cases.len());
    let wrong: Vec<String> = cases
        .par_iter()
        .flat_map_iter(|path| {
            let plain = ModelProto::decode(fs::read(path).unwrap().as_slice()).unwrap();
            // What is refused with all its numbers is refused for another reason.
            let known = import(&plain).err().map_or(vec![], |d| d.0.iter().map(|d| d.code.clone()).collect::<Vec<_>>());
            let tries: [fn(usize, usize) -> bool; 3] = [|_, _| true, |d, _| d == 0, |d, rank| d + 1 == rank];
            tries.into_iter().filter_map(move |which| {
                let mut m = plain.clone();
                if !opened(&mut m, which) {
                    return None;
                }
                let bad: Vec<_> = import(&m).err()?.0.into_iter().filter(|d| d.code != "E0209" && !known.contains(&d.code)).collect();
                let first = bad.first()?;
                Some(format!("{}: {first}", path.display()))
            })
        })
        .collect();
    assert!(wrong.is_empty(), "{} models:\n{}", wrong.len(), wrong.join("\n"));
}
