//! ONNX's own suite on the interpreter: how many of its cases pass may only rise, and none may panic.

/// Cases that passed when this was last raised.
const PASSING: usize = 1_967;

#[test]
fn the_onnx_suite_does_not_get_worse() {
    let dir = tahoma_tests::root().join(".tahoma/onnx-suite");
    let r =
        tahoma::conformance::conformance(&dir, "interp", "", &|_, _| {}).unwrap_or_else(|d| panic!("{d}: run `cargo xtask setup` first"));
    println!("{:?}", r.totals);
    assert_eq!(r.totals["cases"], 2_033);
    assert!(r.totals["pass"] >= PASSING, "{:?}", r.totals);
    let panics: Vec<&str> = r.cases.iter().filter(|c| c.detail.contains("panic")).map(|c| c.name.as_str()).collect();
    assert!(panics.is_empty(), "{panics:?}");
}
