//! Every check that guards the main branch, cheapest first.

use crate::shell::{self, cache};

pub(crate) fn run() -> Result<(), String> {
    let ptxas = cache().join("models/ptxas").display().to_string();
    let env = [("TAHOMA_PTXAS", ptxas.as_str()), ("TAHOMA_CACHE", &cache().display().to_string())];
    shell::run("cargo", &["fmt", "--all", "--check"], &[])?;
    shell::run("cargo", &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"], &[])?;
    shell::run("cargo", &["test", "--workspace", "--quiet"], &env)
}
