//! Standard output and standard error: colour on a terminal only, and whether what was written arrived.

use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::Mutex;
use tahoma_core::escape;

/// Whether diagnostics and logs may be coloured: on a terminal, unless NO_COLOR (no-color.org) or a dumb terminal says otherwise.
pub(crate) fn coloured() -> bool {
    wanted() && std::io::stderr().is_terminal()
}

/// The same of standard output, for help.
pub(crate) fn colour_on_output() -> bool {
    wanted() && std::io::stdout().is_terminal()
}

fn wanted() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
    !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

/// Writes a diagnostic to standard error. Where that is closed or full, there is nobody to tell.
pub(crate) fn tell(what: &dyn std::fmt::Display) {
    let text = what.to_string();
    let text = if coloured() { painted(&text) } else { text };
    let mut err = std::io::stderr().lock();
    let _ = writeln!(err, "{text}").and_then(|()| err.flush());
}

/// The head of each diagnostic in red or yellow.
fn painted(text: &str) -> String {
    let head = |line: &str| -> String {
        for (kind, colour) in [("error[", 31), ("warning[", 33)] {
            if let (true, Some(end)) = (line.starts_with(kind), line.find(']')) {
                return format!("\x1b[1;{colour}m{}\x1b[0m{}", &line[..=end], &line[end + 1..]);
            }
        }
        line.to_string()
    };
    text.split('\n').map(head).collect::<Vec<_>>().join("\n")
}

/// How standard output fared.
enum Output {
    Well,
    /// The reader has gone: nothing more is written, and that is no error.
    Closed,
    Failed(std::io::Error),
}

static OUTPUT: Mutex<Output> = Mutex::new(Output::Well);

/// Writes lines to standard output. Names of the model cannot drive the terminal.
pub(crate) fn print(text: &str) {
    print_as_is(&format!("{}\n", escape::lines(text)));
}

/// Writes to standard output, once more only while that went well.
pub(crate) fn print_as_is(text: &str) {
    let mut state = OUTPUT.lock().unwrap_or_else(|e| e.into_inner());
    if !matches!(*state, Output::Well) {
        return;
    }
    let mut out = std::io::stdout().lock();
    if let Err(e) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        *state = if e.kind() == ErrorKind::BrokenPipe { Output::Closed } else { Output::Failed(e) };
    }
}

/// Why output was lost, if it was and someone was reading.
pub(crate) fn lost_output() -> Option<String> {
    match &*OUTPUT.lock().unwrap_or_else(|e| e.into_inner()) {
        Output::Failed(e) => Some(e.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_heads_are_painted() {
        let text = super::painted("error[E0203]: a [b]\n  --> x\n\nwarning[E0207]: y");
        assert_eq!(text, "\x1b[1;31merror[E0203]\x1b[0m: a [b]\n  --> x\n\n\x1b[1;33mwarning[E0207]\x1b[0m: y");
    }
}
