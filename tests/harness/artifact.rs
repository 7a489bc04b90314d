//! Artifacts: equal inputs give equal bytes, and a folder does what the model in memory does.

use std::collections::BTreeMap;
use std::path::Path;
use tahoma::{Artifact, Compiler, Runner, device};
use tahoma_tests::oracle;

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut out = BTreeMap::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(d) = todo.pop() {
        for e in std::fs::read_dir(&d).expect("a folder").flatten() {
            if e.path().is_dir() {
                todo.push(e.path());
            } else {
                out.insert(e.path().strip_prefix(dir).expect("inside").display().to_string(), std::fs::read(e.path()).expect("a file"));
            }
        }
    }
    out
}

#[test]
fn compiling_twice_gives_the_same_bytes() {
    let o = oracle("vad-16k");
    let dir = tempfile::tempdir().expect("a folder");
    for target in ["trn2", "sm_90a"] {
        let mut made = vec![];
        for round in ["a", "b"] {
            let out = dir.path().join(format!("{target}-{round}"));
            let c = Compiler::new(&o.model).target(target).shapes_of(&o.inputs).compile().unwrap_or_else(|d| panic!("{d}"));
            c.write(&out, false).unwrap_or_else(|d| panic!("{d}"));
            made.push(files(&out));
        }
        assert!(made[0].len() > 2, "{:?}", made[0].keys());
        assert_eq!(made[0].keys().collect::<Vec<_>>(), made[1].keys().collect::<Vec<_>>());
        for (name, bytes) in &made[0] {
            assert_eq!(bytes, &made[1][name], "{target}: {name} differs");
        }
    }
}

#[test]
fn an_artifact_runs_from_its_folder() {
    let o = oracle("vad-16k");
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("out");
    let c = Compiler::new(&o.model).target("trn2").shapes_of(&o.inputs).compile().unwrap_or_else(|d| panic!("{d}"));
    c.write(&out, false).unwrap_or_else(|d| panic!("{d}"));
    let (want, _) = c.run(&o.inputs, "trn2-sim").unwrap_or_else(|d| panic!("{d}"));
    let artifact = Artifact::load(&out, None).unwrap_or_else(|d| panic!("{d}"));
    let mut runner = Runner::new(artifact, device::open("trn2-sim").unwrap_or_else(|d| panic!("{d}"))).unwrap_or_else(|d| panic!("{d}"));
    let (got, _) = runner.run(&o.inputs).unwrap_or_else(|d| panic!("{d}"));
    assert_eq!(got, want);
}
