//! How a project pins what a step makes of its model: the module after rewriting, as a reviewed snapshot. `cargo insta review` shows
//! what an upgrade changed.

use tahoma::{Compiler, Outcome, Stage, print_program};

#[test]
fn the_optimised_module_is_as_reviewed() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../mlp.mlir");
    let outcome = Compiler::new(model).target("sm_90a").stop_after(Stage::Eqsat).advance().unwrap_or_else(|d| panic!("{d}"));
    let Outcome::Program { program, .. } = outcome else { panic!("eqsat ends with a program") };
    insta::assert_snapshot!(print_program(&program).unwrap_or_else(|d| panic!("{d}")));
}
