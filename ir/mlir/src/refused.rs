//! What our verifier refuses, each with the place a user can find.

use crate::{Module, Session};

/// The one problem of a module that MLIR itself accepts.
fn refused(text: &str) -> String {
    let s = Session::new().unwrap_or_else(|d| panic!("{d}"));
    let m = Module::parse(&s, text, "my.mlir").unwrap_or_else(|d| panic!("MLIR refuses it already: {d}"));
    let d = m.to_program().expect_err("accepted");
    assert!(d.0.iter().all(|d| d.code == "E0902"), "{d}");
    d.to_string()
}

#[test]
fn shapes_that_do_not_fit_show_the_operands_and_the_line() {
    let d = refused(
        "func.func @main(%a: tensor<4x8xf32>, %b: tensor<9x2xf32>) -> tensor<4x2xf32> {\n  %0 = \"ml.matmul\"(%a, %b) : (tensor<4x8xf32>, tensor<9x2xf32>) -> tensor<4x2xf32>\n  return %0 : tensor<4x2xf32>\n}",
    );
    for part in ["ml.matmul: ", "f32[4, 8]", "f32[9, 2]", "at my.mlir:2:"] {
        assert!(d.contains(part), "{part:?} in {d}");
    }
}

#[test]
fn number_types_attributes_and_counts_answer_to_the_row() {
    let one = |body: &str| refused(&format!("func.func @main(%x: tensor<4xf32>, %i: tensor<4xi64>) {{ {body} return }}"));
    let d = one(r#"%0 = "ml.exp"(%i) : (tensor<4xi64>) -> tensor<4xi64>"#);
    assert!(d.contains("ml.exp: operand x cannot be i64[4]"), "{d}");
    let d = one(r#"%0 = "ml.elu"(%x) {alpha = 1.0 : f64, beta = 2.0 : f64} : (tensor<4xf32>) -> tensor<4xf32>"#);
    assert!(d.contains("has no attribute beta"), "{d}");
    let d = one(r#"%0 = "ml.transpose"(%x) {perm = array<i64: 1>} : (tensor<4xf32>) -> tensor<4xf32>"#);
    assert!(d.contains("ml.transpose"), "{d}");
}

#[test]
fn calls_answer_to_the_function_they_name() {
    let program = |call: &str| {
        refused(&format!(
            r#"func.func @k(%x: tensor<4xf32>) -> tensor<4xf32> {{ %0 = "ml.relu"(%x) : (tensor<4xf32>) -> tensor<4xf32> return %0 : tensor<4xf32> }}
               func.func @main(%x: tensor<5xf32>, %y: tensor<4xf32>) {{ {call} return }}"#
        ))
    };
    let d = program(r#"%0 = "ml.call"(%y) {callee = @nobody} : (tensor<4xf32>) -> tensor<4xf32>"#);
    assert!(d.contains("@nobody, which is not in the module"), "{d}");
    let d = program(r#"%0 = "ml.call"(%x) {callee = @k} : (tensor<5xf32>) -> tensor<4xf32>"#);
    assert!(d.contains("@k takes f32[4], but is given f32[5]"), "{d}");
    let d = program(r#"%0 = "ml.call"(%y) {callee = @k} : (tensor<4xf32>) -> tensor<5xf32>"#);
    assert!(d.contains("@k gives f32[4], but its type says f32[5]"), "{d}");
}

#[test]
fn scans_answer_to_their_body() {
    // State and what is sliced have one type here, so that they are one group in MLIR.
    let scan = |attrs: &str, result: &str| {
        refused(&format!(
            r#"func.func @step(%s: tensor<3x2xf32>, %x: tensor<2xf32>) -> (tensor<3x2xf32>, tensor<2xf32>) {{ return %s, %x : tensor<3x2xf32>, tensor<2xf32> }}
               func.func @main(%s: tensor<3x2xf32>, %x: tensor<3x2xf32>) {{
                 %0:2 = "ml.scan"(%s, %x) {{body = @step, {attrs}}} : (tensor<3x2xf32>, tensor<3x2xf32>) -> ({result}, {result})
                 return }}"#
        ))
    };
    let of = |sliced: i64, trips: i64, reverse: &str| {
        format!("carried = 1 : i64, sliced = {sliced} : i64, trips = {trips} : i64, reverse = array<i64{reverse}>")
    };
    let d = scan(&of(1, 5, ": 0, 0"), "tensor<3x2xf32>");
    assert!(d.contains("runs 5 times, but slices f32[3, 2]"), "{d}");
    let d = scan(&of(1, 3, ": 0, 0"), "tensor<3x4xf32>");
    assert!(d.contains("@step makes f32[3, 2], f32[3, 2], but its type says f32[3, 4]"), "{d}");
    let d = scan(&of(0, 3, ": 0"), "tensor<3x2xf32>");
    assert!(d.contains("@step takes f32[3, 2], f32[2], but is given f32[3, 2], f32[3, 2]"), "{d}");
    let d = scan(&of(1, 3, ""), "tensor<3x2xf32>");
    assert!(d.contains("reverse must have 2 numbers"), "{d}");
}

#[test]
fn functions_that_call_each_other_in_a_circle_are_refused() {
    let call = |me: &str, to: &str| {
        format!(
            r#"func.func @{me}(%x: tensor<4xf32>) -> tensor<4xf32> {{ %0 = "ml.call"(%x) {{callee = @{to}}} : (tensor<4xf32>) -> tensor<4xf32> return %0 : tensor<4xf32> }}"#
        )
    };
    let d = refused(&format!("{}\n{}\n{}", call("main", "a"), call("a", "b"), call("b", "a")));
    assert!(d.contains("@a → @b → @a"), "{d}");
}

#[test]
fn every_problem_is_told_in_one_run() {
    let d = refused(
        r#"func.func @main(%x: tensor<4x8xf32>) {
        %0 = "ml.relu"(%x) : (tensor<4x8xf32>) -> tensor<4x9xf32>
        %1 = "ml.exp"(%x) : (tensor<4x8xf32>) -> tensor<4x8xf16>
        return }"#,
    );
    assert_eq!(d.matches("error[E0902]").count(), 2, "{d}");
}

#[test]
fn what_mlir_refuses_names_the_users_file_and_line() {
    let s = Session::new().unwrap_or_else(|d| panic!("{d}"));
    let d = Module::parse(&s, "func.func @main() {\n  %0 = \"ml.rleu\"() : () -> tensor<4xf32>\n  return\n}", "my.mlir").unwrap_err();
    assert!(d.to_string().contains("my.mlir:2:8: "), "{d}");
    assert_eq!(Module::parse(&s, "a\0b", "my.mlir").unwrap_err().0[0].code, "E0902");
}
