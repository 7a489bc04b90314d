//! Compiles the model while the program is built. The program itself links only the runtime: a few megabytes, no MLIR.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../mlp.mlir");
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("mlp");
    println!("cargo::rerun-if-changed={}", model.display());
    let compiled = tahoma::Compiler::new(&model).target("sm_90a").compile()?;
    compiled.write(&out, true)?;
    for d in &compiled.warnings {
        println!("cargo::warning={}", d.message);
    }
    Ok(())
}
