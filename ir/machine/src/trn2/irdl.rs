//! The MLIR dialect `trn` as IRDL text: one op per row of the table, plus `alloc` and `ap`.
//!
//! Tile operands stand in the table's order. One that may be absent is `optional`; an op with more than one such carries
//! `operandSegmentSizes`, as IRDL wants. Everything else is an attribute; those that the call must give are declared, the others are
//! allowed. Every constraint has its own variable, since IRDL takes uses of one variable to be equal.

use super::isa::{INSTRS, InstrDef, Role};
use std::fmt::Write;

/// How an operand of the call appears on the op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Operand,
    OptionalOperand,
    Attribute,
    OptionalAttribute,
}

/// The form of operand number `n`.
pub fn form(i: &InstrDef, n: usize) -> Form {
    let o = &i.operands[n];
    match (o.role, o.default) {
        (Role::Dst(_) | Role::InOut(_) | Role::Src(_), None) => Form::Operand,
        (Role::Dst(_) | Role::InOut(_) | Role::Src(_) | Role::Scalar | Role::Bias | Role::SrcOrNumber(_), _) => Form::OptionalOperand,
        (_, None) => Form::Attribute,
        _ => Form::OptionalAttribute,
    }
}

/// Whether the op carries `operandSegmentSizes`.
pub fn is_segmented(i: &InstrDef) -> bool {
    (0..i.operands.len()).filter(|&n| form(i, n) == Form::OptionalOperand).count() > 1
}

/// The dialect's definition.
pub fn irdl_text() -> String {
    let mut s = String::from("// The instructions of NeuronCore-v3. Generated from the instruction table.\nirdl.dialect @trn {\n");
    s.push_str("  irdl.operation @alloc {\n    %name = irdl.any\n    irdl.attributes { \"name\" = %name }\n");
    s.push_str("    %t = irdl.any\n    irdl.results(tile: %t)\n  }\n");
    s.push_str("  // A view: offset + sum of factors * variables, then [[step, count], ...]; with rows, gathered by a tile of indices.\n");
    s.push_str("  irdl.operation @ap {\n    %t = irdl.any\n    %x = irdl.any\n    %i = irdl.any\n");
    s.push_str(
        "    irdl.operands(base: %t, rows: optional %x, variables: variadic %i)\n    %r = irdl.any\n    irdl.results(view: %r)\n  }\n",
    );
    for i in INSTRS {
        let _ = writeln!(s, "  // {}", i.doc);
        let _ = writeln!(s, "  irdl.operation @{} {{", i.name);
        let (mut operands, mut attributes) = (vec![], vec![]);
        for (n, o) in i.operands.iter().enumerate() {
            match form(i, n) {
                Form::Operand => operands.push(format!("{0}: %{0}", o.name)),
                Form::OptionalOperand => operands.push(format!("{0}: optional %{0}", o.name)),
                Form::Attribute => attributes.push(format!("\"{0}\" = %{0}", o.name)),
                Form::OptionalAttribute => continue,
            }
            let _ = writeln!(s, "    %{} = irdl.any", o.name);
        }
        let _ = writeln!(s, "    irdl.operands({})", operands.join(", "));
        if !attributes.is_empty() {
            let _ = writeln!(s, "    irdl.attributes {{ {} }}", attributes.join(", "));
        }
        s.push_str("  }\n");
    }
    s.push_str("}\n");
    s
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_is_an_op_with_balanced_text() {
        let t = irdl_text();
        for i in INSTRS {
            assert!(t.contains(&format!("irdl.operation @{} {{", i.name)));
        }
        assert_eq!(t.matches('{').count(), t.matches('}').count());
    }
}
