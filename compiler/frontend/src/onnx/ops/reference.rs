//! `ONNX.md`: which operators can be imported, and where each then runs, from the operator table and `tests/conformance.tsv`.

use super::supported;
use crate::onnx::{prepass::spelled, schema};
use std::collections::{BTreeMap, BTreeSet};

const HEAD: &str = "# ONNX operators

Printed from the operator table and from `tests/conformance.tsv`, what each case of the ONNX suite (onnx 1.23.2, operator sets 1 to 28)
and of ONNX Runtime's operators gave when it ran; refresh with `BLESS=1 cargo test -p tahoma-frontend`. A line is an operator from one
operator set version on, up to the next line. The cases counted are those whose graph is this operator alone.

- interpreter: how many of its cases give the suite's answer. `no case`: the suite has none for this version; the importer's row is the
  one of the versions around it.
- trn2, PTX: `device`: compiled, run in the simulator or emulator, right, and no op was left to the host. `part 3`: in three cases some
  ops run on the host, named behind; `host 2`: in two all do. Why is said below, op by op. The manifest of a compiled model says
  it for that model.

";

/// Words of the three devices for one case, and the host's ops.
struct Line<'a> {
    words: [&'a str; 3],
    why: &'a str,
}

fn device(lines: &[Line], k: usize, mark: &str) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for l in lines {
        // Names for the same bytes cost a device nothing.
        *counts.entry(if l.words[k] == "move" { "device" } else { l.words[k] }).or_default() += 1;
    }
    if counts.keys().all(|w| *w == "device") {
        return "device".into();
    }
    let ops: BTreeSet<&str> =
        lines.iter().flat_map(|l| l.why.split("; ")).filter_map(|w| w.strip_prefix(mark)).flat_map(|w| w.split(' ')).collect();
    let counted: Vec<String> = counts.iter().map(|(w, n)| format!("{w} {n}")).collect();
    let left = lines.iter().any(|l| matches!(l.words[k], "host" | "part"));
    let ops: Vec<&str> = ops.into_iter().filter(|o| tahoma_core::ops::find(o).is_some()).collect();
    if left && !ops.is_empty() { format!("{}: {}", counted.join(", "), ops.join(", ")) } else { counted.join(", ") }
}

/// The file's text.
pub(super) fn reference() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/conformance.tsv");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut cases: BTreeMap<&str, Vec<Line>> = BTreeMap::new();
    for l in text.lines().filter(|l| !l.starts_with('#')) {
        let f: Vec<&str> = l.split('\t').collect();
        let mut operators: Vec<&str> = f[1].split(' ').collect();
        if operators.len() == 2 {
            operators.retain(|o| !o.starts_with("Constant-"));
        }
        let [one] = operators[..] else { continue };
        cases.entry(one).or_default().push(Line { words: [f[2], f[3], f[4]], why: f[5] });
    }
    let mut out = String::from(HEAD);
    let mut domain = None;
    for (d, name, versions) in supported() {
        if domain != Some(d) {
            domain = Some(d);
            let title = if d.is_empty() { "ai.onnx" } else { d };
            out += &format!("## {title}\n\n| operator | version | interpreter | trn2 | PTX |\n|---|---|---|---|---|\n");
        }
        for v in versions {
            let lines = cases.get(format!("{}-{v}", spelled(d, name)).as_str()).map(Vec::as_slice).unwrap_or_default();
            let pass = lines.iter().filter(|l| l.words[0] == "pass").count();
            out += &match lines {
                [] => format!("| {name} | {v} | no case | | |\n"),
                l => format!("| {name} | {v} | {pass} of {} | {} | {} |\n", l.len(), device(l, 1, "trn2-sim: "), device(l, 2, "ptx-emu: ")),
            };
        }
        if supported().iter().rfind(|s| s.0 == d).is_some_and(|s| s.1 == name) {
            out += "\n";
        }
    }
    out += "## Not supported\n\nRefused with E0201 when a model is read:\n\n";
    for d in ["", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training"] {
        let known: BTreeSet<&str> = supported().iter().filter(|s| s.0 == d).map(|s| s.1).collect();
        let missing: Vec<&str> = schema::names(d).into_iter().filter(|n| !known.contains(n)).collect();
        let title = if d.is_empty() { "ai.onnx" } else { d };
        out += &format!("- {title}: {}\n", if missing.is_empty() { "none".into() } else { missing.join(", ") });
    }
    out += "\n## Why an op runs on the host\n\n| op | device | an example of why |\n|---|---|---|\n";
    for l in text.lines().filter_map(|l| l.strip_prefix("# ")) {
        if let Some((op, rest)) = l.split_once(" on the host of ")
            && let Some((device, why)) = rest.split_once(": ")
        {
            out += &format!("| {op} | {device} | {} |\n", why.replace('|', "\\|"));
        }
    }
    out
}
