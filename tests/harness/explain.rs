//! Explanations of a model as imported: names of its nodes, proofs that hold, and answers to why-not.

use tahoma::Compiler;
use tahoma::explain::check_proofs;
use tahoma_tests::oracle;

#[test]
fn kernels_of_an_onnx_model_come_from_its_nodes_and_proofs_hold() {
    let o = oracle("block");
    for target in ["trn2", "sm_90a"] {
        let compiler = Compiler::new(&o.model).target(target);
        let mut found = compiler.explain().unwrap_or_else(|d| panic!("{d}"));
        let e = found.kernels(None).unwrap_or_else(|d| panic!("{d}"));
        let calls: usize = e.kernels.iter().map(|k| k.calls.len()).sum();
        let launches = compiler.compile().unwrap_or_else(|d| panic!("{d}")).manifest.report.launches;
        assert_eq!(calls, launches, "{target}");
        assert!(e.kernels.iter().flat_map(|k| &k.calls).all(|c| !c.is_empty()), "{target}: {e}");
        let checks = check_proofs(&e, 1, &mut |_, _| {});
        assert!(!checks.is_empty());
        for c in &checks {
            assert!(c.wrong().is_none() && c.left_out.is_none(), "{target}: {c}");
        }
        let w = found.why_not("Softmax", "MatMul").unwrap_or_else(|d| panic!("{d}"));
        assert!(!w.to_string().is_empty());
        assert_eq!(found.why_not("Sofmax", "MatMul").expect_err("no such node").code, "E0701");
        assert!(found.egraph_text().contains("chosen"));
        assert!(found.egraph_dot().starts_with("digraph"));
    }
}

#[test]
fn an_explanation_needs_a_target() {
    let d = Compiler::new(&oracle("block").model).explain().err().expect("no target");
    assert_eq!(d.0[0].code, "E0501");
}
