//! Hostile names in what is no ONNX graph: files and folders, the configuration and the header of a checkpoint, a manifest.

use super::{shows, told};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use tahoma::verify_artifact::{ArtifactOptions, verify_artifact};
use tahoma::{Artifact, Compiler, Diagnostic, Runner, device, print_program};
use tahoma_core::escape::hostile;
use tahoma_runtime::artifact::manifest_hash;

/// Strings that are names of files here.
fn file_names() -> impl Iterator<Item = String> {
    hostile().into_iter().filter(|h| !h.is_empty() && h.len() < 200 && !h.contains(['/', '\0']) && h != "." && h != "..")
}

#[test]
fn no_name_of_a_file_leaves_its_place() {
    let dir = tempfile::tempdir().expect("a folder");
    let text = print_program(&crate::fuzz::lies::image()).unwrap_or_else(|d| panic!("{d}"));
    let (mut compiled, mut python, mut mlir) = (0, vec![], vec![]);
    for (i, name) in file_names().enumerate() {
        let folder = dir.path().join(format!("f{i}")).join(&name);
        std::fs::create_dir_all(&folder).expect("a folder");
        let model = folder.join(format!("{name}.mlir"));
        std::fs::write(&model, &text).expect("a file");
        let c = Compiler::new(&model).target("trn2");
        if let Err(d) = c.clone().shape(&format!("{name}=2")).compile() {
            told(&d);
        }
        // One of a few is compiled whole: the name is in the manifest, and may be in a comment of each kernel.
        if i % 8 == 0 {
            let out = folder.join("out");
            let c = c.compile().unwrap_or_else(|d| panic!("{name:?}: {d}"));
            c.write(&out, false).unwrap_or_else(|d| panic!("{name:?}: {d}"));
            shows(&std::fs::read_to_string(out.join("manifest.json")).expect("UTF-8"));
            assert_eq!(Artifact::load(&out, None).unwrap_or_else(|d| panic!("{d}")).manifest.model, format!("{name}.mlir"));
            // Under plain names, since a list of files for a parser has one in a line.
            for (ending, all) in [("py", &mut python), ("mlir", &mut mlir)] {
                for (k, from) in super::parsers::files(&out.join("kernels"), ending).into_iter().enumerate() {
                    let to = dir.path().join(format!("{i}-{k}.{ending}"));
                    std::fs::copy(from, &to).expect("a copy");
                    all.push(to);
                }
            }
            compiled += 1;
        }
        // Each is refused by its name.
        std::fs::write(&model, "").expect("a file");
        told(&Compiler::new(&model).target("trn2").compile().map(|_| ()).expect_err("an empty file"));
        std::fs::remove_file(&model).expect("a file");
        told(&Compiler::new(&model).target("trn2").compile().map(|_| ()).expect_err("no file"));
        told(&Artifact::load(&folder, None).map(|_| ()).expect_err("no artifact").into());
    }
    assert!(compiled > 10 && python.len() >= compiled);
    super::parsers::python(&python);
    super::parsers::mlir(&mlir, Some(&tahoma_machine::trn2::irdl::irdl_text()), &|_| 1);
}

/// Places in a tree, one for each kind: indices do not tell places apart.
fn kinds(v: &Value, at: &str, kind: &str, out: &mut BTreeMap<String, String>) {
    match v {
        Value::Array(a) => a.iter().enumerate().for_each(|(i, x)| kinds(x, &format!("{at}/{i}"), &format!("{kind}/*"), out)),
        Value::Object(o) => o.iter().for_each(|(k, x)| {
            let k = k.replace('~', "~0").replace('/', "~1");
            kinds(x, &format!("{at}/{k}"), &format!("{kind}/{k}"), out);
        }),
        Value::String(_) => drop(out.entry(kind.into()).or_insert(at.into())),
        _ => {}
    }
}

/// The object that a place is in, and the name of the place in it.
fn inside<'a>(tree: &'a mut Value, at: &str) -> Option<(&'a mut serde_json::Map<String, Value>, String)> {
    let (parent, key) = at.rsplit_once('/')?;
    Some((tree.pointer_mut(parent)?.as_object_mut()?, key.replace("~1", "/").replace("~0", "~")))
}

#[test]
fn no_name_of_a_manifest_leaves_its_place() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut loaded, mut refused) = (0, 0);
    for (target, on, program) in [("trn2", "trn2-sim", crate::fuzz::lies::image()), ("sm_90a", "ptx-emu", crate::branch::program())] {
        let (model, out) = (dir.path().join("model.mlir"), dir.path().join(target));
        std::fs::write(&model, print_program(&program).unwrap_or_else(|d| panic!("{d}"))).expect("a file");
        let c = Compiler::new(&model).target(target).compile().unwrap_or_else(|d| panic!("{d}"));
        c.write(&out, false).unwrap_or_else(|d| panic!("{d}"));
        let path = out.join("manifest.json");
        let whole: Value = serde_json::from_slice(&std::fs::read(&path).expect("a manifest")).expect("JSON");
        let mut places = BTreeMap::new();
        kinds(&whole, "", "", &mut places);
        let has = |end: &str| places.keys().any(|k| k.ends_with(end));
        let all = ["/kernels/*/name", "/kernels/*/file", "/kernels/*/mlir", "/inputs/*/name", "/outputs/*/name", "/model", "/weights_base"];
        assert!(all.iter().all(|end| has(end)), "{target}: {:?}", places.keys());
        for (p, at) in places.values().enumerate() {
            for (i, h) in hostile().iter().enumerate().filter(|(i, _)| (i + p) % 8 == 0) {
                let mut tree = whole.clone();
                // As a value, or now and then as the name of the field.
                match inside(&mut tree, at).filter(|_| (i + p) % 32 == 0) {
                    Some((object, key)) => {
                        let value = object.remove(&key).unwrap_or_default();
                        object.insert(h.clone(), value);
                    }
                    None => *tree.pointer_mut(at).expect("a place") = json!(h),
                }
                let text = tree.to_string();
                std::fs::write(out.join("manifest.sha256"), manifest_hash(text.as_bytes())).expect("a file");
                std::fs::write(&path, text).expect("a file");
                let done = Artifact::load(&out, None).and_then(|a| {
                    let named = [&a.manifest.inputs, &a.manifest.outputs];
                    assert!(named.iter().all(|p| !p.is_empty()));
                    let mut r = Runner::new(a, device::open(on)?)?;
                    let given = crate::fuzz::inputs(&program);
                    let names: Vec<String> = r.manifest().inputs.iter().map(|p| p.name.clone()).collect();
                    r.run(&given.into_iter().zip(names).map(|((_, t), n)| (n, t)).collect::<Vec<_>>())
                });
                match done {
                    Ok(_) => loaded += 1,
                    Err(d) => {
                        refused += 1;
                        told(&d.into());
                    }
                }
                if i % 16 == 0
                    && let Err(d) = verify_artifact(&out, &ArtifactOptions::default())
                {
                    told(&d);
                }
            }
        }
    }
    assert!(loaded > 50 && refused > 50, "{loaded} ran, {refused} were refused");
}

/// A checkpoint of this configuration and header.
fn checkpoint(at: &Path, config: &Value, header: &Value, data: &[u8]) {
    std::fs::write(at.join("config.json"), config.to_string()).expect("a file");
    let header = header.to_string().into_bytes();
    std::fs::write(at.join("model.safetensors"), [&(header.len() as u64).to_le_bytes()[..], &header, data].concat()).expect("a file");
}

#[test]
fn no_name_of_a_checkpoint_leaves_its_place() {
    let dir = tempfile::tempdir().expect("a folder");
    let from = tahoma_tests::root().join("compiler/frontend/tests/fixtures/bert");
    let read = |name: &str| std::fs::read(from.join(name)).expect("the fixture");
    let config: Value = serde_json::from_slice(&read("config.json")).expect("JSON");
    let weights = read("model.safetensors");
    let end = 8 + u64::from_le_bytes(weights[..8].try_into().expect("eight bytes")) as usize;
    let header: Value = serde_json::from_slice(&weights[8..end]).expect("JSON");
    let mut strings = BTreeMap::new();
    kinds(&config, "", "", &mut strings);
    let strings: Vec<String> = strings.into_values().collect();
    let tensors: Vec<String> = header.as_object().expect("an object").keys().filter(|k| *k != "__metadata__").cloned().collect();
    let (mut imported, mut refused) = (0, 0);
    for (i, h) in hostile().iter().enumerate() {
        for change in 0..6 {
            let (mut config, mut header) = (config.clone(), header.clone());
            let tensor = &tensors[(i * 7) % tensors.len()];
            let map = header.as_object_mut().expect("an object");
            match change {
                0 => *config.pointer_mut(&strings[i % strings.len()]).expect("a place") = json!(h),
                1 => drop(config.as_object_mut().expect("an object").insert(h.clone(), json!(h))),
                // A tensor that is not there under its own name; one more of another; what the header says of one.
                2 => {
                    let value = map.remove(tensor).unwrap_or_default();
                    map.insert(h.clone(), value);
                }
                3 => drop(map.insert(format!("bert.{h}"), map[tensor].clone())),
                4 => map[tensor]["dtype"] = json!(h),
                _ => drop(map.insert("__metadata__".into(), json!({ h: h }))),
            }
            checkpoint(dir.path(), &config, &header, &weights[end..]);
            match Compiler::new(dir.path()).shape("input_ids=1x4").import() {
                Ok(m) => {
                    imported += 1;
                    shows(&print_program(&m.program).unwrap_or_else(|d| panic!("{d}")));
                }
                Err(d) => {
                    refused += 1;
                    told(&d);
                }
            }
        }
        // An index that names files and tensors.
        let index = json!({ "metadata": { h: h }, "weight_map": { (tensors[0].clone()): h, h: "a.safetensors" } });
        std::fs::rename(dir.path().join("model.safetensors"), dir.path().join("a.safetensors")).expect("a file");
        std::fs::write(dir.path().join("model.safetensors.index.json"), index.to_string()).expect("a file");
        let d: Result<_, Vec<Diagnostic>> = Compiler::new(dir.path()).shape("input_ids=1x4").import().map_err(|d| d.0);
        told(&tahoma::Diagnostics(d.err().unwrap_or_else(|| panic!("{h:?} is no file"))));
        for made in ["model.safetensors.index.json", "a.safetensors"] {
            std::fs::remove_file(dir.path().join(made)).expect("a file");
        }
    }
    assert!(imported > 100 && refused > 200, "{imported} imported, {refused} refused");
}
