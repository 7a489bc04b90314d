//! `tahoma completions` and `tahoma man`: from the command line's own types.

use crate::args::{Cli, Completions, Man};
use crate::terminal::print_as_is;
use crate::{Exit, OK};
use clap::CommandFactory;
use tahoma::Diagnostic;
use tahoma_core::near;

pub(crate) fn completions(a: Completions) -> Exit {
    let mut text = vec![];
    clap_complete::generate(a.shell, &mut Cli::command(), "tahoma", &mut text);
    print_as_is(&String::from_utf8_lossy(&text));
    Ok(OK)
}

pub(crate) fn man(a: Man) -> Exit {
    let mut all = Cli::command().disable_help_subcommand(true);
    all.build();
    if let Some(dir) = &a.output_dir {
        let cannot = |e: std::io::Error| Diagnostic::error("E0702", format!("cannot write to {}: {e}", dir.display())).caused_by(e);
        std::fs::create_dir_all(dir).map_err(cannot)?;
        clap_mangen::generate_to(all, dir).map_err(cannot)?;
        return Ok(OK);
    }
    let page = match &a.command {
        None => all,
        Some(name) => {
            let Some(c) = all.find_subcommand(name) else {
                let mut d = Diagnostic::error("E0701", format!("no command {name:?}"));
                d.notes = near::notes(name, "commands", all.get_subcommands().map(|c| c.get_name()));
                return Err(d.into());
            };
            c.clone()
        }
    };
    let mut text = vec![];
    clap_mangen::Man::new(page).render(&mut text).map_err(|e| Diagnostic::error("E0901", e.to_string()).caused_by(e))?;
    print_as_is(&String::from_utf8_lossy(&text));
    Ok(OK)
}
