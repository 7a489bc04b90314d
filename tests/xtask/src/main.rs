//! Chores of the repository: set-up, the demo, the tests. Needs nothing but Rust's standard library, so it builds in a second.
//!
//! `cargo xtask setup` installs what the machine lacks, `cargo xtask demo` runs the main job on a real model, `cargo xtask test` runs
//! every check that guards the main branch.

mod bench;
mod bench_growth;
mod bench_import;
mod bench_interp;
mod demo;
mod fuzz;
mod gpu_kit;
mod say;
mod setup;
mod shell;
mod test;

use say::{say, tell};
use std::process::ExitCode;

const HELP: &str = "\
Chores of the Tahoma repository

Usage: cargo xtask <COMMAND>

Commands:
  setup   Install what building and testing need: MLIR 22 (Debian packages), a Python environment, the real models
  demo    Set up, build, then compile a text recogniser for Trainium2 and Hopper, verify both and read a line of text
  bench   Set up, build, then time compiling and interpreting the real models and write tests/benchmarks.md
  fuzz    [SECONDS]  Set up, then fuzz the ONNX reader on all cores, for 600 s if not told
  fuzz models [CASES [SEED]]
          Damaged models, modules, checkpoints and artifacts through everything; 100,000 cases from 1 if not told
  gpu-kit [--check] [FOLDER]  Set up, build, then make a folder that checks and times kernels on a machine with a GPU
  test    Set up, then run formatting, lints and all tests

Examples:
  cargo xtask setup
  cargo xtask demo
  cargo xtask test
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["setup"] => setup::run(),
        ["demo"] => setup::run().and_then(|()| demo::run()),
        ["bench"] => setup::run().and_then(|()| bench::run()),
        ["fuzz"] => setup::run().and_then(|()| fuzz::run(600)),
        ["fuzz", seconds] if seconds.parse::<u64>().is_ok() => setup::run().and_then(|()| fuzz::run(seconds.parse().unwrap_or(600))),
        ["fuzz", "models", rest @ ..] => match rest.iter().map(|n| n.parse()).collect::<Result<Vec<u64>, _>>().as_deref() {
            Ok([]) => fuzz::models(100_000, 1),
            Ok([cases]) => fuzz::models(*cases, 1),
            Ok([cases, seed]) => fuzz::models(*cases, *seed),
            _ => Err("fuzz models takes a number of cases and the first case".into()),
        },
        ["gpu-kit", "help" | "--help" | "-h"] => {
            say(format_args!("{}", gpu_kit::HELP.trim_end()));
            Ok(())
        }
        ["gpu-kit", rest @ ..] => setup::run().and_then(|()| gpu_kit::run(rest)),
        ["test"] => setup::run().and_then(|()| test::run()),
        [] | ["help" | "--help" | "-h"] => {
            say(format_args!("{}", HELP.trim_end()));
            Ok(())
        }
        other => {
            tell(format_args!("unknown command {other:?}\n\n{}", HELP.trim_end()));
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            tell(format_args!("\n{why}"));
            ExitCode::FAILURE
        }
    }
}
