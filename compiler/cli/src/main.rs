//! The command `tahoma`. Each command is one file; here are the exit codes, logging, and what happens if Tahoma itself is at fault.

mod args;
mod compile;
mod conformance;
mod explain;
mod info;
mod manual;
mod opt;
mod run;
mod terminal;
#[cfg(test)]
mod texts;
mod util;
mod verify;
mod verify_artifact;

use args::{Cli, Command};
use clap::Parser;
use std::process::ExitCode;
use tahoma::{Diagnostic, Diagnostics};
use tahoma_core::escape;

/// The interpreter makes and drops megabytes for every op; the system's allocator gives them back and takes them anew each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Done.
pub(crate) const OK: u8 = 0;
/// A problem, printed as a diagnostic.
pub(crate) const PROBLEM: u8 = 1;
/// Wrong usage.
pub(crate) const USAGE: u8 = 2;
/// Results differ.
pub(crate) const DIFFERS: u8 = 3;
/// Results agree or could not be compared, and that says nothing.
pub(crate) const INCONCLUSIVE: u8 = 4;

pub(crate) type Exit = Result<u8, Diagnostics>;

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_env("TAHOMA_LOG").unwrap_or_else(|_| "off".into()))
        .with_ansi(terminal::coloured())
        .with_writer(std::io::stderr)
        .init();
    std::panic::set_hook(Box::new(|info| {
        let at = info.location().map(|l| format!(" at {}:{}", l.file(), l.line())).unwrap_or_default();
        let what =
            info.payload().downcast_ref::<&str>().map(|s| s.to_string()).or_else(|| info.payload().downcast_ref::<String>().cloned());
        terminal::tell(&fault(format!("{}{at}", what.unwrap_or_else(|| "a fault".into()))));
    }));
    tahoma_core::threads::start();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return usage(&e),
    };
    let json = cli.command.json();
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match cli.command {
        Command::Compile(a) => compile::run(a),
        Command::Run(a) => run::run(a),
        Command::Verify(a) => verify::run(a),
        Command::Info(a) => info::run(a),
        Command::Conformance(a) => conformance::run(a),
        Command::Opt(a) => opt::run(a),
        Command::Explain(a) => explain::run(a),
        Command::Completions(a) => manual::completions(a),
        Command::Man(a) => manual::man(a),
    }));
    let code = match done {
        Ok(Ok(code)) => code,
        Ok(Err(problems)) => {
            terminal::tell(&problems);
            json.report(&problems);
            PROBLEM
        }
        // The hook has told it.
        Err(_) => {
            json.report(&fault("a fault, told on standard error".into()).into());
            PROBLEM
        }
    };
    arrived(code)
}

/// Output that did not arrive is no success; a reader that has read enough is none of our business.
fn arrived(code: u8) -> ExitCode {
    match terminal::lost_output() {
        Some(why) => {
            terminal::tell(&Diagnostic::error("E0702", format!("cannot write to standard output: {why}")));
            ExitCode::from(PROBLEM)
        }
        None => ExitCode::from(code),
    }
}

fn fault(what: String) -> Diagnostic {
    Diagnostic::error("E0901", what)
        .note("this is a fault of Tahoma, not of the model")
        .note("please report it with the command line, the model and the output of TAHOMA_LOG=info")
}

/// Help and version go to standard output, wrong usage to standard error, and as JSON to standard output where that was asked for.
fn usage(e: &clap::Error) -> ExitCode {
    if !e.use_stderr() {
        terminal::print_as_is(&if terminal::colour_on_output() { e.render().ansi().to_string() } else { e.render().to_string() });
        return arrived(OK);
    }
    // Clap shows arguments as they were given, and these may drive the terminal.
    let (plain, safe) = (e.render().to_string(), escape::lines(&e.render().to_string()));
    let shown = if terminal::coloured() && safe == plain { e.render().ansi().to_string() } else { safe };
    terminal::tell(&shown.trim_end());
    if std::env::args_os().any(|a| a == "--json") {
        let lines: Vec<&str> = plain.trim_start_matches("error:").lines().take_while(|l| !l.is_empty()).map(str::trim).collect();
        let message = lines.join(" ").trim().to_string();
        args::Json::Output.report(&Diagnostic::error("E0701", message).into());
    }
    ExitCode::from(USAGE)
}
