//! Running other programs, with their command line shown.

use crate::say::say;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// The repository's root, wherever the command was started.
pub(crate) fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().and_then(|p| p.parent()).map(PathBuf::from).unwrap_or(here)
}

/// Where set-up keeps what it makes; ignored by git.
pub(crate) fn cache() -> PathBuf {
    root().join(".tahoma")
}

/// Runs a program in the root, its output passed through. Errors: it cannot be started, or it fails.
pub(crate) fn run(program: &str, args: &[&str], env: &[(&str, &str)]) -> Result<(), String> {
    let line = format!("{program} {}", args.join(" "));
    say(format_args!("$ {line}"));
    let start = Instant::now();
    let status = Command::new(program)
        .args(args)
        .envs(env.iter().copied())
        .current_dir(root())
        .status()
        .map_err(|e| format!("cannot start `{program}`: {e}"))?;
    if !status.success() {
        return Err(format!("`{line}` failed with {status}"));
    }
    if start.elapsed().as_secs() > 5 {
        say(format_args!("  took {:.0} s", start.elapsed().as_secs_f64()));
    }
    Ok(())
}

/// Whether a program runs and succeeds, silently.
pub(crate) fn works(program: &str, args: &[&str]) -> bool {
    Command::new(program).args(args).current_dir(root()).output().is_ok_and(|o| o.status.success())
}

/// What a program prints, if it succeeds.
pub(crate) fn output(program: &str, args: &[&str]) -> Option<String> {
    let o = Command::new(program).args(args).current_dir(root()).output().ok()?;
    o.status.success().then(|| String::from_utf8_lossy(&o.stdout).into_owned())
}

/// What a program prints, if it succeeds, and the processor seconds that it took, user and system, all threads.
pub(crate) fn processor_seconds(program: &str, args: &[&str]) -> Option<(String, f64)> {
    // The shell's `times` prints its own times, then its children's.
    let line = [&["-c", "\"$0\" \"$@\" && times", program], args].concat();
    let printed = output("sh", &line)?;
    let (printed, last) = printed.trim_end().rsplit_once('\n')?;
    let (printed, _) = printed.rsplit_once('\n').unwrap_or(("", printed));
    Some((printed.to_string(), last.split_whitespace().map(seconds).sum::<Option<f64>>()?))
}

/// `1m2.50s` in seconds.
fn seconds(text: &str) -> Option<f64> {
    let (minutes, seconds) = text.strip_suffix('s')?.split_once('m')?;
    Some(60.0 * minutes.parse::<f64>().ok()? + seconds.parse::<f64>().ok()?)
}
