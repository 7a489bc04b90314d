//! Branches on run-time conditions: kernels in both, results that are made, passed through, constant, given twice, or nested.

use tahoma::{Compiler, verify};
use tahoma_core::artifact::PlanStep;
use tahoma_core::ops::find;
use tahoma_core::{Attr, Attrs, Builder, DType, Program, Tensor, TensorType, ValueId};

fn a() -> Attrs {
    Attrs::new()
}

fn choose(b: &mut Builder, operands: &[ValueId], then: &str, other: &str, types: Vec<TensorType>) -> Vec<ValueId> {
    let at = a().with("then", Attr::Func(then.into())).with("else", Attr::Func(other.into()));
    b.structure(find("if").unwrap(), operands, at, types).unwrap()
}

/// A function of `x: f32[4, 8]` and a bool.
fn function(name: &str, f: impl FnOnce(&mut Builder, ValueId, ValueId) -> Vec<ValueId>) -> (String, tahoma_core::Graph) {
    let mut b = Builder::new(name);
    let x = b.input("x", TensorType::known(DType::F32, &[4, 8]));
    let c = b.input("c", TensorType::scalar(DType::Bool));
    for (i, v) in f(&mut b, x, c).into_iter().enumerate() {
        b.output(&format!("y{i}"), v);
    }
    (name.into(), b.finish())
}

/// `outer ? (softmax(x xᵀ), x, inner ? x + x : exp x) : (7, relu x, relu x)`
pub(crate) fn program() -> Program {
    let square = TensorType::known(DType::F32, &[4, 4]);
    let same = TensorType::known(DType::F32, &[4, 8]);
    let mut b = Builder::new("main");
    let x = b.input("x", same.clone());
    let (outer, inner) = (b.input("outer", TensorType::scalar(DType::Bool)), b.input("inner", TensorType::scalar(DType::Bool)));
    let r = choose(&mut b, &[outer, x, inner], "f", "g", vec![square, same.clone(), same.clone()]);
    let last = b.op("neg", &[r[2]], a()).unwrap();
    for (i, v) in [r[0], r[1], last].into_iter().enumerate() {
        b.output(&format!("y{i}"), v);
    }
    let mut p = Program::new(b.finish());
    p.functions.extend([
        function("f", |b, x, c| {
            let t = b.op("transpose", &[x], a().with("perm", vec![1, 0])).unwrap();
            let m = b.op("matmul", &[x, t], a()).unwrap();
            let s = b.op("softmax", &[m], a().with("axis", 1)).unwrap();
            let n = choose(b, &[c, x, c], "h", "k", vec![same.clone()]);
            vec![s, x, n[0]]
        }),
        function("g", |b, x, _| {
            let seven = b.constant(Tensor::f32(&[4, 4], vec![7.0; 16]));
            let r = b.op("relu", &[x], a()).unwrap();
            vec![seven, r, r]
        }),
        function("h", |b, x, _| vec![b.op("add", &[x, x], a()).unwrap()]),
        function("k", |b, x, _| vec![b.op("exp", &[x], a()).unwrap()]),
    ]);
    p
}

#[test]
fn both_branches_run_on_the_device() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("branches.mlir");
    std::fs::write(&model, tahoma::print_program(&program()).unwrap()).unwrap();
    let x = Tensor::f32(&[4, 8], (0..32).map(|i| ((i * 7 % 13) as f32 - 6.0) / 5.0).collect());
    for target in ["trn2", "sm_90a"] {
        for bits in 0..4 {
            let flag = |b: bool| Tensor::bool(&[], vec![b]);
            let inputs =
                vec![("x".to_string(), x.clone()), ("outer".to_string(), flag(bits & 1 == 1)), ("inner".to_string(), flag(bits & 2 == 2))];
            let options = verify::VerifyOptions { inputs, each_kernel: true, ..Default::default() };
            let r = verify::verify(&Compiler::new(&model), &model, target, &options).unwrap_or_else(|d| panic!("{d}"));
            // The other branch gives sevens, on which alone nothing is concluded: the stages must agree all the same.
            let agree = r.stages.iter().all(|s| s.verdict.is_agreement()) && r.kernels.iter().all(|k| k.verdict.is_agreement());
            assert!(agree && r.fault.is_none(), "{target}, {bits}: {r:#?}");
            assert_eq!(r.host_flops, 0, "{target}");
            // The kernels of the branch that was taken, and the one after it.
            assert_eq!(r.run.launches, r.kernels.len() as u64);
            assert!(
                r.run.launches >= 2 && r.run.launches <= r.launches as u64 + 1,
                "{target}, {bits}: {} of {}",
                r.run.launches,
                r.launches
            );
        }
    }
}

#[test]
fn a_known_condition_leaves_its_branch() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("branches.mlir");
    std::fs::write(&model, tahoma::print_program(&program()).unwrap()).unwrap();
    let compiler = Compiler::new(&model).target("trn2").input_value("outer", Tensor::bool(&[], vec![true]));
    let c = compiler.compile().unwrap_or_else(|d| panic!("{d}"));
    let ifs = c.manifest.run.iter().filter(|s| matches!(s, PlanStep::If { .. })).count();
    assert_eq!(ifs, 1, "only the inner choice is left");
    assert!(c.manifest.inputs.iter().all(|i| i.name != "outer"));
}
