//! Compiles the model while the program is built. The program itself links only the runtime, a few megabytes without MLIR, and carries
//! the artifact in itself.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../mlp.mlir");
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("mlp");
    println!("cargo::rerun-if-changed={}", model.display());
    let mut compiled = tahoma::Compiler::new(&model).target("sm_90a").compile()?;
    compiled.pack()?;
    compiled.write(&out, true)?;
    // A list of the artifact's files, each with its bytes, for the program to include.
    let names = compiled.files.keys().map(String::as_str).chain(["manifest.json", "manifest.sha256"]);
    let list: String = names.map(|n| format!("({n:?}, include_bytes!({:?}).as_slice()),\n", out.join(n))).collect();
    std::fs::write(out.with_extension("rs"), format!("[{list}]"))?;
    for d in &compiled.warnings {
        println!("cargo::warning={}", d.message);
    }
    Ok(())
}
