//! Lines for whoever reads them: a reader that has gone has read enough, which is no reason to panic.

use std::fmt::Arguments;
use std::io::Write;

/// A line on standard output.
pub(crate) fn say(line: Arguments) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A line on standard error.
pub(crate) fn tell(line: Arguments) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
