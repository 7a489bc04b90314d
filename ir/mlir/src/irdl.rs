//! The `ml` dialect as IRDL text, printed from the op table.

use std::fmt::Write;
use tahoma_core::op::{AttrType, Results};
use tahoma_core::ops::OPS;

fn base(t: AttrType) -> &'static str {
    match t {
        AttrType::Int | AttrType::Bool => "#builtin.integer",
        AttrType::Float => "#builtin.float",
        AttrType::Str => "#builtin.string",
        AttrType::Ints | AttrType::Floats => "#builtin.dense_array",
        AttrType::DType => "#builtin.type",
        AttrType::Func => "#builtin.symbol_ref",
        // Elements may print dense or as a splat; the bridge checks them.
        AttrType::Tensor => "",
    }
}

const TENSOR: &str = "irdl.base \"!builtin.tensor\"";

/// One IRDL operation per row of `OPS`. Operands and results are tensors; shapes are checked by `OpDef::infer`, not here.
///
/// IRDL gives all operands of a variadic group one type. Where types differ, the bridge packs the group into a tuple, so a group is of
/// any type here.
pub fn irdl_text() -> String {
    let mut s = String::from("module {\n  irdl.dialect @ml {\n");
    for op in OPS.iter() {
        let _ = writeln!(s, "    irdl.operation @{} {{", op.name);
        let mut operands = vec![];
        for o in op.operands {
            let _ = writeln!(s, "      %o_{} = {}", o.name, if o.variadic { "irdl.any" } else { TENSOR });
            operands.push(format!("{}: {}%o_{}", o.name, if o.variadic { "variadic " } else { "" }, o.name));
        }
        let _ = writeln!(s, "      irdl.operands({})", operands.join(", "));
        let mut results = vec![];
        let (count, form) = match op.results {
            Results::One => (1, ""),
            Results::Many(n) => (n, ""),
            Results::Inferred => (1, "variadic "),
        };
        for i in 0..count {
            let _ = writeln!(s, "      %r{i} = {}", if form.is_empty() { TENSOR } else { "irdl.any" });
            results.push(format!("r{i}: {form}%r{i}"));
        }
        let _ = writeln!(s, "      irdl.results({})", results.join(", "));
        if !op.attrs.is_empty() {
            let mut attrs = vec![];
            for a in op.attrs {
                let base = base(a.ty);
                let _ = if base.is_empty() {
                    writeln!(s, "      %a_{} = irdl.any", a.name)
                } else {
                    writeln!(s, "      %a_{} = irdl.base \"{base}\"", a.name)
                };
                attrs.push(format!("\"{}\" = %a_{}", a.name, a.name));
            }
            let _ = writeln!(s, "      irdl.attributes {{{}}}", attrs.join(", "));
        }
        s.push_str("    }\n");
    }
    s.push_str("  }\n}\n");
    s
}
