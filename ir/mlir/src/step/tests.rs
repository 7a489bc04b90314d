//! Pipelines stop, dump, verify and check where they are told to, and name the step that is at fault.

use super::*;
use std::cell::RefCell;
use tahoma_core::{Attrs, Builder, DType, Graph, TensorType};

fn graph(name: &str) -> Graph {
    let mut b = Builder::new(name);
    let x = b.input("x", TensorType::known(DType::F32, &[4]));
    let y = b.op("relu", &[x], Attrs::new()).unwrap();
    b.output("y", y);
    b.finish()
}

fn program() -> Program {
    Program::new(graph("main"))
}

fn nothing(name: &'static str) -> Step<'static> {
    Step { name, doc: "", run: Box::new(|_| Ok(())) }
}

/// Leaves a type that `relu` does not give.
fn spoil() -> Step<'static> {
    let run = |p: &mut Program| {
        for g in p.functions.values_mut() {
            let y = g.outputs[0].value;
            g.types[y.index()] = TensorType::known(DType::F32, &[5]);
        }
        Ok(())
    };
    Step { name: "spoil", doc: "", run: Box::new(run) }
}

fn folder(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("tahoma-step-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    dir
}

#[test]
fn steps_run_in_order_stop_and_leave_numbered_dumps() {
    let dir = folder("dump");
    let seen = RefCell::new(vec![]);
    let mut p = Pipeline {
        steps: vec![nothing("a"), nothing("b"), nothing("c")],
        stop_after: Some("b".into()),
        dump: Some(dir.clone()),
        verify_each: true,
        check_each: Some(Box::new(|step, _| {
            seen.borrow_mut().push(step.to_string());
            Ok(())
        })),
        first: 3,
    };
    let reports = p.run(&mut program()).unwrap_or_else(|d| panic!("{d}"));
    drop(p);
    assert_eq!(reports.iter().map(|r| r.name).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(*seen.borrow(), ["a", "b"]);
    let mut files: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    assert_eq!(files, ["03-a.mlir", "04-b.mlir"]);
    let text = std::fs::read_to_string(dir.join("04-b.mlir")).unwrap();
    let back = Module::parse(&Session::new().unwrap(), &text, "04-b.mlir").and_then(|m| m.to_program());
    assert_eq!(back, Ok(program()));
    let _ = std::fs::remove_dir_all(dir);
}

#[test]
fn the_step_that_spoils_a_program_is_named_and_what_it_was_given_is_kept() {
    let dir = folder("spoil");
    let mut p = Pipeline { steps: vec![nothing("a"), spoil()], dump: Some(dir.clone()), verify_each: true, ..Pipeline::default() };
    let d = p.run(&mut program()).unwrap_err().to_string();
    assert!(d.contains("ml.relu gives f32[4], but its type says f32[5]") && d.contains("found after step spoil"), "{d}");
    assert!(d.contains("--steps spoil") && dir.join("tahoma-before-spoil.mlir").exists(), "{d}");
    let _ = std::fs::remove_dir_all(dir);
    let mut p = Pipeline { steps: vec![spoil()], ..Pipeline::default() };
    assert!(p.run(&mut program()).is_ok(), "nobody asked for verification");
}

#[test]
fn a_judge_stops_the_pipeline_and_the_step_is_named() {
    let judge: Check = Box::new(|step, _| if step == "b" { Err(Diagnostic::error("E0608", "another answer").into()) } else { Ok(()) });
    let mut p = Pipeline { steps: vec![nothing("a"), nothing("b")], check_each: Some(judge), ..Pipeline::default() };
    let d = p.run(&mut program()).unwrap_err();
    assert_eq!((d.0[0].code.as_str(), d.0[0].notes[0].as_str()), ("E0608", "found after step b"));
}

#[test]
fn a_stop_that_is_no_step_is_refused() {
    let mut p = Pipeline { steps: vec![nothing("a")], stop_after: Some("z".into()), ..Pipeline::default() };
    let d = p.run(&mut program()).unwrap_err().to_string();
    assert!(d.contains("E0701") && d.contains("steps are a"), "{d}");
}

#[test]
fn mlirs_own_passes_are_steps() {
    let mut two = program();
    two.functions.insert("unused".into(), graph("unused"));
    let strip = Step::passes("strip-locations", "Drops origins.", "builtin.module(strip-debuginfo)");
    let mut p = Pipeline { steps: vec![strip], verify_each: true, ..Pipeline::default() };
    let before = two.clone();
    p.run(&mut two).unwrap_or_else(|d| panic!("{d}"));
    assert_eq!(two, before, "these had no origins");
    let mut p = Pipeline { steps: vec![Step::passes("typo", "", "builtin.module(no-such-pass)")], ..Pipeline::default() };
    assert_eq!(p.run(&mut two).unwrap_err().0[0].code, "E0901");
}
