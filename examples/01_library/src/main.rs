//! Compiles a model with the library, runs it on the emulated device, and compares with the reference interpreter.
//!
//! `cargo run -p example-library` uses `examples/mlp.mlir`; give another model and target as arguments.

use std::path::PathBuf;
use tahoma::{Compiler, Diagnostics, compare, interp, random, verify};

fn main() -> Result<(), Diagnostics> {
    let mut args = std::env::args().skip(1);
    let model = args.next().map(PathBuf::from).unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../mlp.mlir"));
    let target = args.next().unwrap_or_else(|| "sm_90a".into());
    let device = if target == "trn2" { "trn2-sim" } else { "ptx-emu" };

    let imported = Compiler::new(&model).import()?;
    let mut inputs = vec![];
    for (i, (name, ty)) in interp::inputs_of(&imported.program).into_iter().enumerate() {
        inputs.push((name.to_string(), random::tensor(name, ty, i as u64)?));
    }
    let want = verify::run_plain(&imported.program, &inputs)?;

    let compiled = Compiler::new(&model).target(&target).compile()?;
    let (got, report) = compiled.run(&inputs, device)?;
    println!("{} launches for {target}", report.launches);
    for ((name, a), (_, b)) in got.iter().zip(&want) {
        let d = compare::compare(a, b);
        println!("{name} {}: largest difference {:.1e}, {}", a.ty(), d.max_abs, if d.agree { "agrees" } else { "DIFFERS" });
    }
    Ok(())
}
