//! One folder for a machine with a GPU: compiled cases, the program that runs them, and what they should give.

use crate::say::say;
use crate::shell::{self, cache, root};
use std::path::Path;

pub(crate) const HELP: &str = "\
Makes a folder (60 MB at most) that runs on any x86-64 Linux machine with an Nvidia driver: no MLIR, compiler, Python or network there

Usage: cargo xtask gpu-kit [--check] [--target T]... [--only TEXT] [FOLDER]

The folder is target/gpu-kit if not told. It holds tahoma-kit, run.sh, a README.md that says what it needs, and for every kind of card (sm_80,
sm_90a, sm_100a, sm_103a, sm_120) the compiled cases: operators of the ONNX suite, networks with every form of kernel, programs at real
size, real models. Cubins are made where set-up has ptxas. On the other machine:

  ./run.sh          runs, compares and times everything in under five minutes; writes results/results.json and results/results.md

Options:
  --target T    For this kind of card alone
  --only TEXT   Only cases with this in their name
  --check       Then run it here, against the tests' fake driver, which runs kernels on the PTX emulator: results are real, times are not
";

pub(crate) fn run(args: &[&str]) -> Result<(), String> {
    let default = root().join("target/gpu-kit").display().to_string();
    let (mut check, mut out, mut passed, mut rest) = (false, default.as_str(), vec![], args.iter());
    while let Some(&arg) = rest.next() {
        match arg {
            "--check" => check = true,
            "--target" | "--only" => passed.extend([arg, rest.next().ok_or(format!("{arg} needs a value\n\n{HELP}"))?]),
            folder if !folder.starts_with('-') => out = folder,
            other => return Err(format!("unknown argument {other:?}\n\n{HELP}")),
        }
    }
    shell::run("cargo", &["build", "--release", "--package", "tahoma-kit", "--package", "tahoma-fake-cuda"], &[])?;
    let program = root().join("target/release/tahoma-kit").display().to_string();
    let ptxas = cache().join("models/ptxas").display().to_string();
    let mut make = vec!["run", "--release", "--quiet", "--package", "tahoma-tests", "--features", "kit", "--bin", "gpu-kit", "--"];
    make.extend([out, &program]);
    make.extend(passed);
    if Path::new(&ptxas).is_file() {
        make.extend(["--ptxas", &ptxas]);
    }
    shell::run("cargo", &make, &[])?;
    if !check {
        return Ok(());
    }
    // The driver is found by its name, as everywhere.
    let place = cache().join("fake-cuda");
    let fail = |e: std::io::Error| format!("cannot write {}: {e}", place.display());
    std::fs::create_dir_all(&place).map_err(fail)?;
    std::fs::copy(root().join("target/release/libtahoma_fake_cuda.so"), place.join("libcuda.so.1")).map_err(fail)?;
    let results = cache().join("fake-cuda/results").display().to_string();
    let env = [("LD_LIBRARY_PATH", place.display().to_string()), ("FAKE_CUDA", "capability=9.0 checks=0".to_string())];
    let env: Vec<(&str, &str)> = env.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let kit = Path::new(out).join("tahoma-kit").display().to_string();
    say(format_args!("\nAgainst the fake driver: results are those of the PTX emulator, times are its instructions\n"));
    shell::run(
        &kit,
        &["run", out, "--quick", "--no-tools", "--ptx-only", "--seconds", "3600", "--case-seconds", "600", "--output", &results],
        &env,
    )
}
