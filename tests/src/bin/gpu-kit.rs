//! Makes a GPU kit, as `cargo xtask gpu-kit` calls it: `gpu-kit OUT PROGRAM [--ptxas FILE] [--target T]… [--only TEXT]`.

use std::fmt::Arguments;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use tahoma_tests::kit::{LIMIT, Recipe, TARGETS, make, sources};

/// A line on standard error, if anybody reads it.
fn tell(line: Arguments) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (Some(out), Some(program)) = (args.first(), args.get(1)) else {
        tell(format_args!("usage: gpu-kit OUT PROGRAM [--ptxas FILE] [--target T]... [--only TEXT]"));
        return ExitCode::from(2);
    };
    let (mut ptxas, mut only, mut wanted) = (None, "", vec![]);
    for pair in args[2..].chunks(2) {
        match pair {
            [flag, file] if flag == "--ptxas" => ptxas = Some(Path::new(file)),
            [flag, text] if flag == "--only" => only = text,
            [flag, name] if flag == "--target" && TARGETS.contains(&name.as_str()) => wanted.push(name.as_str()),
            other => {
                tell(format_args!("no such argument: {other:?}; targets are {}", TARGETS.join(", ")));
                return ExitCode::from(2);
            }
        }
    }
    let targets: Vec<&str> = TARGETS.iter().copied().filter(|t| wanted.is_empty() || wanted.contains(t)).collect();
    let sources: Vec<_> = sources().into_iter().filter(|s| s.name().contains(only)).collect();
    let recipe = Recipe { out: Path::new(out), targets: &targets, program: Some(Path::new(program)), ptxas, limit: LIMIT };
    match make(&recipe, &sources, &|line| drop(writeln!(std::io::stdout(), "{line}"))) {
        Ok(_) => ExitCode::SUCCESS,
        Err(d) => {
            tell(format_args!("{d}"));
            ExitCode::FAILURE
        }
    }
}
