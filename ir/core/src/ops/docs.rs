//! The reference of the op table, as Markdown.

use super::FAMILIES;
use crate::op::{Kind, OpDef, Results, Tolerance, TypeSet};
use std::fmt::Write;

fn types(t: TypeSet) -> &'static str {
    match t {
        TypeSet::Any => "any",
        TypeSet::Float => "float",
        TypeSet::Int => "integer",
        TypeSet::Number => "number",
        TypeSet::Bool => "bool",
        TypeSet::I64 => "i64",
        TypeSet::Bits => "integer or bool",
    }
}

fn kind(k: &Kind) -> String {
    match k {
        Kind::Elementwise(_) => "elementwise; operands broadcast as in numpy".into(),
        Kind::Reduce(m) => format!("reduction ({m:?})").to_lowercase(),
        Kind::Window(m) => format!("sliding windows ({m:?})").to_lowercase(),
        Kind::Contract(_) => "contraction".into(),
        Kind::Move(_) => "move".into(),
        Kind::Gather => "gather".into(),
        Kind::Scatter => "scatter".into(),
        Kind::Scan(m) => format!("running combination ({m:?})").to_lowercase(),
        Kind::Generate => "made from attributes".into(),
        Kind::Composite(_) => "composite: defined by other ops".into(),
        Kind::Collective => "collective".into(),
        Kind::Structure => "structure of programs".into(),
        Kind::Opaque => "evaluated on the host".into(),
    }
}

fn tolerance(t: Tolerance) -> String {
    match t {
        Tolerance::Exact => "same bits".into(),
        Tolerance::Ulps(n) => format!("{n} units in the last place"),
        Tolerance::Reassociated(e) => format!("{e:e} of the sum of magnitudes"),
    }
}

fn row(out: &mut String, op: &OpDef) {
    let operands: Vec<String> = op.operands.iter().map(|o| format!("{}{}", o.name, if o.variadic { "…" } else { "" })).collect();
    let attrs: Vec<String> = op.attrs.iter().map(|a| format!("{}: {}", a.name, format!("{:?}", a.ty).to_lowercase())).collect();
    let attrs = if attrs.is_empty() { String::new() } else { format!(" {{{}}}", attrs.join(", ")) };
    let results = match op.results {
        Results::One => String::new(),
        Results::Many(n) => format!(" → {n} results"),
        Results::Inferred => " → as its function".into(),
    };
    let _ = writeln!(out, "\n### {}\n\n`{}({}){attrs}{results}`\n\n{}\n", op.name, op.name, operands.join(", "), op.doc);
    let kinds: Vec<String> = op.operands.iter().map(|o| format!("{} {}", o.name, types(o.types))).collect();
    let takes = if kinds.is_empty() { String::new() } else { format!("Takes {}. ", kinds.join(", ")) };
    let _ = writeln!(out, "{takes}Kind: {}. Back ends agree within {}.", kind(&op.kind), tolerance(op.tolerance));
    if !op.examples.is_empty() {
        let _ = writeln!(out, "\n```text\n{}\n```", op.examples.join("\n"));
    }
}

/// Markdown reference of every op: signature, meaning, operand types, tolerance, examples.
pub fn docs() -> String {
    let titles = [
        "Elementwise",
        "Reductions, windows and scans",
        "Contractions",
        "Moves",
        "Gather and scatter",
        "Composites",
        "Selection",
        "Shapes as values",
        "For ONNX",
        "Structure",
    ];
    let mut out = String::from(
        "# The ml ops\n\nPrinted from the op table (`ir/core/src/ops`); refresh with `BLESS=1 cargo test -p tahoma-core`.\n\n\
         Values are tensors; a number without a type in the examples is f32. Attributes are all always present. Axes count from 0.\n\
         Floats below f64 compute in f32 and round once per op, ties to even; integers wrap; NaN spreads through max and min.\n",
    );
    for (title, family) in titles.iter().zip(FAMILIES) {
        let _ = write!(out, "\n## {title}\n");
        for op in family.iter().flat_map(|f| f.iter()) {
            row(&mut out, op);
        }
    }
    out
}
