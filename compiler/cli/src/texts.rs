//! Every command and flag that a text of the project names is one that this binary has: the README, the other pages, help texts,
//! and the remedies of diagnostics. A text that names a command that was never built, or was renamed, fails here.

use crate::args::Cli;
use clap::CommandFactory;
use std::path::Path;
use std::process::Command as Process;

/// Files of the repository that git tracks and whose names end so, with their texts.
fn files(endings: &[&str]) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let out = Process::new("git").args(["ls-files", "-co", "--exclude-standard"]).current_dir(&root).output().expect("git runs");
    String::from_utf8_lossy(&out.stdout)
        .lines()
        .filter(|f| endings.iter().any(|e| f.ends_with(e)))
        .filter_map(|f| Some((f.to_string(), std::fs::read_to_string(root.join(f)).ok()?)))
        .collect()
}

/// The uses of `tahoma …` in a text: after a backtick or a prompt, or first on a line of an example; to the end of the span or line.
fn uses(text: &str) -> Vec<String> {
    let mut found = vec![];
    for (at, _) in text.match_indices("tahoma ") {
        let (before, after) = (&text[..at], &text[at..]);
        let shown = before.ends_with('`') || before.ends_with("$ ") || before.ends_with("\\n  ") || before.ends_with("\\n\\n  ");
        let shown =
            shown || before.rsplit('\n').next().is_some_and(|l| l.trim_start_matches([' ', '/', '!', '*']).is_empty() && l.len() >= 2);
        if shown {
            let end = after.find(['`', '\n', '"']).unwrap_or(after.len());
            found.push(after[..end].split("\\n").next().unwrap_or_default().trim_end_matches('\\').to_string());
        }
    }
    found
}

#[test]
fn every_command_and_flag_that_a_text_names_exists() {
    let cli = Cli::command();
    let flags = |c: &clap::Command| -> Vec<String> {
        let own = c.get_arguments().flat_map(|a| {
            let long = a.get_long().map(|l| format!("--{l}"));
            let short = a.get_short().map(|s| format!("-{s}"));
            long.into_iter().chain(short)
        });
        own.chain(["--help", "-h", "--version", "-V"].map(String::from)).collect()
    };
    let (mut seen, mut wrong) = (0, vec![]);
    for (file, text) in files(&[".md", ".rs", ".py"]) {
        // The false claims below are this file's own.
        if file.ends_with("cli/src/texts.rs") {
            continue;
        }
        for line in uses(&text) {
            let words: Vec<&str> = line.split_whitespace().skip(1).collect();
            let Some(first) = words.first().map(|w| w.trim_end_matches([',', '.', ':', ';', ')'])) else { continue };
            // Prose that begins a line with the name, and `tahoma` as a crate.
            if !first.starts_with(|c: char| c.is_ascii_lowercase()) || !line.contains(' ') {
                continue;
            }
            seen += 1;
            let Some(command) = cli.find_subcommand(first) else {
                wrong.push(format!("{file}: no command {first:?}: {line}"));
                continue;
            };
            let known = flags(command);
            for flag in words.iter().filter(|w| w.starts_with('-') && w.len() > 1 && !w.starts_with("->")) {
                let name = flag.split('=').next().unwrap_or_default().trim_end_matches([',', '.', ':', ';', ')', ']']);
                let name = name.trim_start_matches('[');
                if !known.iter().any(|k| k == name) {
                    wrong.push(format!("{file}: {first} has no {name}: {line}"));
                }
            }
        }
    }
    assert!(seen > 25, "only {seen} uses found: the search is broken");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_false_claim_is_seen() {
    let text = "run `tahoma paint OUT` or\n//!   tahoma compile m.onnx --colour red\n$ tahoma run out --device x\nsays tahoma nothing";
    assert_eq!(uses(text), ["tahoma paint OUT", "tahoma compile m.onnx --colour red", "tahoma run out --device x"]);
    assert!(Cli::command().find_subcommand("paint").is_none());
}

/// `--device X` names a row of the table, and the help of `--device` names them all.
#[test]
fn every_device_that_a_text_names_exists() {
    let known: Vec<&str> = tahoma_runtime::device::DEVICES.iter().map(|d| d.name).collect();
    let mut wrong = vec![];
    for (file, text) in files(&[".md"]) {
        for (at, _) in text.match_indices("--device ") {
            let rest = &text[at + "--device ".len()..];
            let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
            if !known.contains(&name.as_str()) && !name.is_empty() {
                wrong.push(format!("{file}: {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let mut cli = Cli::command();
    let help = cli.find_subcommand_mut("run").expect("run").render_long_help().to_string();
    assert!(known.iter().all(|d| help.contains(d)), "{help}");
}
