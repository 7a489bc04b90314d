//! The command `tahoma`. Each command is one file; here are the exit codes, logging, and what happens if Tahoma itself is at fault.

mod args;
mod compile;
mod conformance;
mod explain;
mod opt;
mod run;
#[cfg(test)]
mod texts;
mod util;
mod verify;

use args::{Cli, Command};
use clap::Parser;
use std::io::IsTerminal;
use std::process::ExitCode;
use tahoma::{Diagnostic, Diagnostics};

/// The interpreter makes and drops megabytes for every op; the system's allocator gives them back and takes them anew each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Done.
pub(crate) const OK: u8 = 0;
/// A problem, printed as a diagnostic.
pub(crate) const PROBLEM: u8 = 1;
/// Results differ.
pub(crate) const DIFFERS: u8 = 3;

pub(crate) type Exit = Result<u8, Diagnostics>;

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_env("TAHOMA_LOG").unwrap_or_else(|_| "off".into()))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    std::panic::set_hook(Box::new(|info| {
        let at = info.location().map(|l| format!(" at {}:{}", l.file(), l.line())).unwrap_or_default();
        let what =
            info.payload().downcast_ref::<&str>().map(|s| s.to_string()).or_else(|| info.payload().downcast_ref::<String>().cloned());
        let d = Diagnostic::error("E0901", format!("{}{at}", what.unwrap_or_else(|| "a fault".into())))
            .note("this is a fault of Tahoma, not of the model")
            .note("please report it with the command line, the model and the output of TAHOMA_LOG=info");
        eprintln!("{d}");
    }));
    tahoma_core::threads::start();
    // Clap itself exits with 2 on wrong usage and 0 after --help.
    let cli = Cli::parse();
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match cli.command {
        Command::Compile(a) => compile::run(a),
        Command::Run(a) => run::run(a),
        Command::Verify(a) => verify::run(a),
        Command::Conformance(a) => conformance::run(a),
        Command::Opt(a) => opt::run(a),
        Command::Explain(a) => explain::run(a),
    }));
    match done {
        Ok(Ok(code)) => ExitCode::from(code),
        Ok(Err(problems)) => {
            eprintln!("{problems}");
            ExitCode::from(PROBLEM)
        }
        // The hook has told it.
        Err(_) => ExitCode::from(PROBLEM),
    }
}
