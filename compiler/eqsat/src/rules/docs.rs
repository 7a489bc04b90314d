//! The reference of the rules, as Markdown.

use super::code::Code;
use super::{CODES, FAMILIES, Rule, SEVERAL};
use std::fmt::Write;
use tahoma_core::artifact::Numerics;

fn class(n: Numerics) -> &'static str {
    match n {
        Numerics::Exact => "exact",
        Numerics::Reassociate => "reassociate",
        Numerics::Fast => "fast",
    }
}

fn entry(out: &mut String, name: &str, numerics: Numerics, sides: [&str; 2], doc: &str) {
    let [lhs, rhs] = sides;
    let _ = write!(out, "\n### {name}\n\n{}. {doc}\n\n```text\n{lhs}\n  => {rhs}\n```\n", class(numerics));
}

fn row(out: &mut String, r: &Rule) {
    entry(out, r.name, r.class, [r.lhs, r.rhs], r.doc);
}

fn code_rows(out: &mut String, rows: &[Code]) {
    rows.iter().for_each(|c| entry(out, c.name, c.class, [c.lhs, c.rhs], c.doc));
}

/// Markdown reference of every rule: class, algebra, both sides.
pub fn docs() -> String {
    let mut out = String::from(
        "# The rewrite rules\n\nPrinted from the rule table (`compiler/eqsat/src/rules`); refresh with `BLESS=1 cargo test -p tahoma-eqsat`.\n\n\
         The class says what a rule may do to numbers: exact keeps every bit, reassociate rounds otherwise, fast loses digits.\n\
         `?x` is any value or attribute; attributes of the right side that the left lacks are computed from types and attributes.\n\
         `{unary}` and `{binary}` stand for every elementwise op with as many operands.\n",
    );
    let _ = write!(out, "\n## What reassociate promises\n\n{}\n", crate::bound::statement());
    for (family, tables) in FAMILIES {
        let _ = write!(out, "\n## {family}\n");
        tables.iter().copied().flatten().for_each(|r| row(&mut out, r));
        CODES.iter().filter(|c| c.0 == *family).for_each(|c| code_rows(&mut out, c.1));
    }
    for (family, rows) in CODES.iter().filter(|c| FAMILIES.iter().all(|f| f.0 != c.0)) {
        let _ = write!(out, "\n## {family}\n");
        code_rows(&mut out, rows);
    }
    let _ = write!(out, "\n## Of several roots\n");
    SEVERAL.iter().for_each(|r| entry(&mut out, r.name, Numerics::Reassociate, r.sides, r.doc));
    out
}
