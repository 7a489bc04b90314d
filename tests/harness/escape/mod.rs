//! What a model says stays in its place: hostile strings through every name that a model has, and every text that comes of it read by a
//! parser that others wrote, which must find what Tahoma means and nothing else.

mod names;
mod parsers;
mod texts;

use prost::Message;
use std::path::{Path, PathBuf};
use tahoma::{Compiler, Diagnostics, print_program};
use tahoma_core::escape::hostile;
use tahoma_frontend::proto::attribute_proto::AttributeType;
use tahoma_frontend::proto::*;

fn some(s: &str) -> Option<String> {
    Some(s.into())
}

fn port(name: &str, dims: &[tensor_shape_proto::dimension::Value]) -> ValueInfoProto {
    let dim = dims.iter().map(|d| tensor_shape_proto::Dimension { value: Some(d.clone()), denotation: some(name) }).collect();
    let tensor = type_proto::Tensor { elem_type: Some(1), shape: Some(TensorShapeProto { dim }) };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), denotation: some(name) };
    ValueInfoProto { name: some(name), r#type: Some(ty), doc_string: some(name), ..Default::default() }
}

/// A chain of unary ops, one for each name, which names everything about it: node, operator, domain, function, values, attributes,
/// dimension, weight, metadata and doc strings.
fn named(names: &[String]) -> ModelProto {
    use tensor_shape_proto::dimension::Value;
    const OPS: &[&str] = &["Exp", "Tanh", "Sin", "Sigmoid", "Softplus", "Atan"];
    let unique = |what: &str, i: usize| format!("{}{what}{i}", names[i]);
    let mut m = ModelProto { ir_version: Some(10), ..Default::default() };
    m.opset_import.push(OperatorSetIdProto { domain: None, version: Some(20) });
    m.metadata_props = names.iter().map(|n| StringStringEntryProto { key: some(n), value: some(n) }).collect();
    let first = &names[0];
    (m.producer_name, m.doc_string, m.domain) = (some(first), some(first), some(first));
    let mut g = GraphProto { name: some(first), doc_string: some(first), ..Default::default() };
    g.input.push(port(&format!("{first}in"), &[Value::DimParam(unique("n", 0)), Value::DimValue(4)]));
    let mut last = g.input[0].name().to_string();
    for (i, name) in names.iter().enumerate() {
        let (out, domain) = (unique("v", i), unique("d", i));
        let attribute = AttributeProto {
            name: some(&unique("a", i)),
            r#type: Some(AttributeType::String as i32),
            s: Some(name.clone().into_bytes()),
            doc_string: some(name),
            ..Default::default()
        };
        let inner = NodeProto {
            name: some(name),
            op_type: some(OPS[i % OPS.len()]),
            input: vec![unique("x", i)],
            output: vec![unique("y", i)],
            doc_string: some(name),
            ..Default::default()
        };
        m.opset_import.push(OperatorSetIdProto { domain: some(&domain), version: Some(1) });
        m.functions.push(FunctionProto {
            name: some(&unique("f", i)),
            domain: some(&domain),
            input: vec![unique("x", i)],
            output: vec![unique("y", i)],
            attribute: vec![unique("a", i)],
            opset_import: vec![OperatorSetIdProto { domain: None, version: Some(20) }],
            doc_string: some(name),
            node: vec![inner],
            ..Default::default()
        });
        g.node.push(NodeProto {
            name: some(name),
            op_type: some(&unique("f", i)),
            domain: some(&domain),
            input: vec![last],
            output: vec![out.clone()],
            attribute: vec![attribute],
            doc_string: some(name),
            ..Default::default()
        });
        last = out;
    }
    let weight = format!("{first}w");
    g.initializer.push(TensorProto {
        name: some(&weight),
        data_type: Some(1),
        dims: vec![4, 600],
        raw_data: Some(0.01f32.to_le_bytes().repeat(2400).into()),
        doc_string: some(first),
        ..Default::default()
    });
    let out = format!("{first}out");
    g.node.push(NodeProto {
        name: some(first),
        op_type: some("MatMul"),
        input: vec![last, weight],
        output: vec![out.clone()],
        ..Default::default()
    });
    g.output.push(ValueInfoProto { name: Some(out), ..Default::default() });
    m.graph = Some(g);
    m
}

fn write(dir: &Path, name: &str, m: &ModelProto) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, m.encode_to_vec()).expect("a file");
    path
}

/// What may be shown on a terminal: printable, and line ends of ours.
fn shows(text: &str) {
    assert_eq!(text, tahoma_core::escape::lines(text), "not printable");
}

/// What may be told of a fault: printable lines that begin as ours do.
fn told(d: &Diagnostics) {
    shows(&d.to_string());
    let lines: Vec<String> = d.to_string().lines().map(String::from).collect();
    let ours = ["error[", "warning[", "  --> ", "   |  ", "   = "];
    assert!(!lines.is_empty() && lines.iter().all(|l| l.is_empty() || ours.iter().any(|o| l.starts_with(o))), "{lines:#?}");
}

fn good<T>(r: Result<T, Diagnostics>) -> T {
    r.unwrap_or_else(|d| panic!("{d}"))
}

#[test]
fn no_name_of_a_model_leaves_its_place() {
    let names: Vec<String> = hostile().into_iter().map(|h| if h.len() > 2000 { h[..2000].into() } else { h }).collect();
    let dir = tempfile::tempdir().expect("a folder");
    let (mut texts, mut python, mut ptx, mut made) = (vec![], vec![], vec![], 0);
    for (i, some) in names.chunks(24).enumerate() {
        let path = write(dir.path(), &format!("m{i}.onnx"), &named(some));
        let symbol = format!("{}n0", some[0]);
        for target in ["trn2", "sm_90a"] {
            let (dump, out) = (dir.path().join(format!("{i}{target}.dump")), dir.path().join(format!("{i}{target}.out")));
            let c = Compiler::new(&path).target(target).symbol(&symbol, 3).dump(&dump);
            let compiled = good(c.compile());
            good(compiled.write(&out, false).map_err(Into::into));
            made += compiled.manifest.kernels.len();
            // Files have names that mean nothing to a shell or a file system.
            let plain = |p: &str| p.split('/').all(|s| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.".contains(&b)));
            assert!(compiled.files.keys().all(|p| plain(p)), "{:?}", compiled.files.keys());
            let text = std::fs::read_to_string(out.join("manifest.json")).expect("UTF-8");
            shows(&text);
            assert_eq!(serde_json::from_str::<tahoma::Manifest>(&text).expect("JSON"), *compiled.manifest);
            // A loaded artifact knows its ports by the names of the model.
            let loaded = tahoma::Artifact::load(&out, None).unwrap_or_else(|d| panic!("{d}"));
            assert_eq!(loaded.manifest.outputs[0].name, format!("{}out", some[0]));
            if target == "trn2" {
                python.extend(parsers::files(&out, "py"));
                let mut found = good(c.explain());
                shows(&found.egraph_text());
                shows(&found.egraph_dot());
                let why = found.kernels(None).unwrap_or_else(|d| panic!("{d}"));
                shows(&why.to_string());
                let none = found.why_not(&some[0], "no such node").expect_err("there is none");
                shows(&none.to_string());
            } else {
                ptx.extend(parsers::files(&out, "ptx"));
            }
            // Stage by stage: what was printed is the program, with as many functions.
            texts.extend(std::fs::read_dir(&dump).expect("dumps").flatten().map(|e| e.path()).filter(|p| p.is_file()));
            let program = good(c.import()).program;
            let again = Compiler::new(dump_of(&dir, &good(print_program(&program))));
            let ports = |p: &tahoma_core::Program| p.main().inputs.iter().map(|i| i.name.clone()).collect::<Vec<_>>();
            assert_eq!(ports(&good(again.import()).program), ports(&program));
        }
    }
    assert!(made > 6 && python.len() > 3 && ptx.len() > 3 && texts.len() > 12, "{made} kernels");
    parsers::python(&python);
    parsers::ptx(&ptx, "sm_90a");
    parsers::mlir(&texts, Some(&tahoma_mlir::irdl_text()), &|f| {
        let text = std::fs::read_to_string(f).expect("UTF-8");
        good(Compiler::new(dump_of(&dir, &text)).import()).program.functions.len()
    });
}

fn dump_of(dir: &tempfile::TempDir, text: &str) -> PathBuf {
    let path = dir.path().join("again.mlir");
    std::fs::write(&path, text).expect("a file");
    path
}

#[test]
fn what_is_wrong_with_a_hostile_model_is_told_in_printable_lines() {
    let dir = tempfile::tempdir().expect("a folder");
    for (i, h) in hostile().iter().filter(|h| !h.is_empty()).enumerate() {
        let mut m = named(std::slice::from_ref(h));
        let g = m.graph.get_or_insert_default();
        match i % 8 {
            0 => g.node[0].op_type = some(h),
            1 => g.node[0].domain = some(h),
            2 => g.node[0].input = vec![h.repeat(2)],
            3 => g.initializer[0].dims = vec![5, 480],
            4 => g.initializer[0].data_location = Some(1),
            5 => m.functions[0].name = some(h),
            6 => m.functions[0].node[0].attribute.push(AttributeProto { name: some(h), r#type: Some(1), ..Default::default() }),
            _ => g.output[0].name = some(h),
        }
        if i % 8 == 4 {
            let entry = |k: &str, v: &str| StringStringEntryProto { key: some(k), value: some(v) };
            g.initializer[0].raw_data = None;
            g.initializer[0].external_data = vec![entry("location", h), entry(h, h)];
        }
        let path = write(dir.path(), "bad.onnx", &m);
        let Err(d) = Compiler::new(&path).target("trn2").shape(&format!("{h}in=3x4")).compile() else {
            panic!("{i}: {h:?} is no fault");
        };
        told(&d);
    }
}
