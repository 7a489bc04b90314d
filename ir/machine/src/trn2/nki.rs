//! A [`Program`] as NKI 0.6 Python: `nki.isa` calls only, explicit `dst=`, plain `range` loops.
//!
//! The text is what a Neuron user compiles and what the simulator executes, through [`super::parse`]: parse(print(p)) = p.
//! Parameter types, which Python does not state, stand as comments `# name: dtype[shape]` under the `def` line.

use super::isa::{OperandDef, Role};
use super::program::*;
use std::fmt::Write;
use tahoma_core::escape;

/// The first line of every kernel; the parser wants it.
pub const VERSION_LINE: &str = "# NKI 0.6 (AWS Neuron SDK 2.32) for trn2, one physical core (LNC=1).";

/// Columns beyond which a call is broken into one keyword per line.
const WIDTH: usize = 120;

/// The program's Python text.
pub fn print(p: &Program) -> String {
    let mut s = String::new();
    let _ = writeln!(s, "{VERSION_LINE}");
    for l in &p.origin {
        let _ = writeln!(s, "{}", format!("# {l}").trim_end());
    }
    s.push_str("import nki\nimport nki.isa as nisa\nimport nki.language as nl\n\n\n@nki.jit\n");
    let names: Vec<_> = p.params.iter().map(|x| x.name.as_str()).collect();
    let _ = writeln!(s, "def {}({}):", p.name, names.join(", "));
    for x in &p.params {
        let _ = writeln!(s, "    # {}: {}{:?}", x.name, nki_dtype(x.dtype).unwrap_or(x.dtype.name()), x.shape);
    }
    block(&mut s, &p.body, 1);
    let _ = writeln!(s, "    return {}", p.returns.join(", "));
    s
}

fn block(s: &mut String, body: &[Stmt], depth: usize) {
    let pad = "    ".repeat(depth);
    for stmt in body {
        match stmt {
            Stmt::Comment(c) => {
                let _ = writeln!(s, "{}", format!("{pad}# {c}").trim_end());
            }
            Stmt::Alloc { name, dtype, shape, mem, .. } => {
                let d = nki_dtype(*dtype).unwrap_or(dtype.name());
                let _ = writeln!(s, "{pad}{name} = nl.ndarray({}, dtype=nl.{d}, buffer=nl.{})", tuple(shape), mem.name());
            }
            Stmt::For { var, count, body } => {
                let _ = writeln!(s, "{pad}for {var} in range({count}):");
                block(s, body, depth + 1);
            }
            Stmt::Instr(i) => instruction(s, i, &pad),
        }
    }
    if !body.iter().any(|x| !matches!(x, Stmt::Comment(_))) && depth > 1 {
        let _ = writeln!(s, "{pad}pass");
    }
}

fn instruction(s: &mut String, i: &Instr, pad: &str) {
    let args: Vec<String> =
        i.def.operands.iter().zip(&i.args).filter_map(|(d, v)| Some(format!("{}={}", d.name, value(v.as_ref()?, d)))).collect();
    let line = format!("{pad}nisa.{}({})", i.def.name, args.join(", "));
    if line.len() <= WIDTH {
        let _ = writeln!(s, "{line}");
    } else {
        let _ = writeln!(s, "{pad}nisa.{}(", i.def.name);
        for a in args {
            let _ = writeln!(s, "{pad}    {a},");
        }
        let _ = writeln!(s, "{pad})");
    }
}

/// Python text of a tuple of extents.
pub fn tuple<T: std::fmt::Display>(items: &[T]) -> String {
    match items {
        [one] => format!("({one},)"),
        _ => format!("({})", items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")),
    }
}

fn pattern(p: &[[i64; 2]]) -> String {
    let parts: Vec<_> = p.iter().map(|[s, n]| format!("[{s}, {n}]")).collect();
    format!("[{}]", parts.join(", "))
}

/// A real as Python reads it back to the same bits.
pub fn real(x: f64) -> String {
    if x.is_nan() {
        "float('nan')".into()
    } else if x.is_infinite() {
        if x > 0.0 { "float('inf')".into() } else { "float('-inf')".into() }
    } else {
        format!("{x:?}")
    }
}

fn value(v: &Value, def: &OperandDef) -> String {
    match v {
        Value::Tile(a) => access(a),
        Value::Int(a) => affine(a),
        Value::Float(x) => real(*x),
        Value::Bool(b) => if *b { "True" } else { "False" }.into(),
        Value::Positive(a) => format!("{} > 0", affine(a)),
        Value::Name(n) => match def.role {
            Role::Enum(e, _) => format!("nisa.{e}.{n}"),
            _ => format!("nl.{n}"),
        },
        // A label of an instruction, which means nothing to the machine.
        Value::Text(t) => format!("'{}'", escape::Line::of(t).as_str().replace(['\\', '\''], "_")),
        Value::Pattern(p) => pattern(p),
        Value::Ints(v) if def.name == "shuffle_mask" => format!("{v:?}"),
        Value::Ints(v) => tuple(v),
    }
}

/// Text of an affine expression: `512*i + 64`.
pub fn affine(a: &Affine) -> String {
    let mut s = String::new();
    for (v, k) in &a.terms {
        let sign = if *k < 0 { "-" } else { "+" };
        match (s.is_empty(), *k < 0) {
            (true, false) => {}
            (true, true) => s.push('-'),
            (false, _) => {
                let _ = write!(s, " {sign} ");
            }
        }
        match k.unsigned_abs() {
            1 => s.push_str(v),
            n => {
                let _ = write!(s, "{n}*{v}");
            }
        }
    }
    match (s.is_empty(), a.constant) {
        (true, c) => s = c.to_string(),
        (false, 0) => {}
        (false, c) => {
            let _ = write!(s, " {} {}", if c < 0 { "-" } else { "+" }, c.unsigned_abs());
        }
    }
    s
}

/// Text of an access: a name, slices, or an explicit pattern.
pub fn access(a: &Access) -> String {
    match &a.view {
        View::Whole => a.base.clone(),
        View::Slices(subs) => {
            let parts: Vec<_> = subs
                .iter()
                .map(|s| match s {
                    Sub::At(i) => affine(i),
                    Sub::Range { start, len, step } => {
                        let end = start + ((*len as i64 - 1) * *step as i64 + 1);
                        let tail = if *step == 1 { String::new() } else { format!(":{step}") };
                        format!("{}:{}{tail}", affine(start), affine(&end))
                    }
                })
                .collect();
            format!("{}[{}]", a.base, parts.join(", "))
        }
        View::Pattern { pattern: p, offset, index } => {
            let gather = index.as_ref().map(|i| format!(", vector_offset={}, indirect_dim=0", access(i))).unwrap_or_default();
            format!("{}.ap(pattern={}, offset={}{gather})", a.base, pattern(p), affine(offset))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::*;
    use tahoma_core::DType::*;

    fn sample() -> Program {
        let mut b = Builder::new("sample");
        b.origin("MatMul_3 + Gelu_4 of model.onnx");
        let x = b.param("x", BF16, &[256, 1024]);
        let w = b.param("w", BF16, &[256, 128]);
        let idx = b.param("idx", U32, &[128, 1]);
        let out = b.output("out", F32, &[128, 1024]);
        b.comment("weights stay");
        let ws = b.sbuf("ws", BF16, &[128, 2, 128]);
        b.emit(
            Instr::new("dma_copy")
                .with("dst", &ws)
                .with("src", w.ap(&[[128, 128], [128 * 128, 2], [1, 128]], 0))
                .with("dge_mode", "hwdge")
                .with("name", "load_w"),
        );
        let it = b.sbuf("it", U32, &[128, 1]);
        b.emit(Instr::new("dma_copy").with("dst", &it).with("src", &idx));
        let rows = b.sbuf("rows", BF16, &[128, 1024]);
        b.emit(Instr::new("dma_copy").with("dst", &rows).with("src", x.rows(&[[1024, 128], [1, 1024]], 0, it.all())));
        b.for_("n", 2, |b, n| {
            let acc = b.psum("acc", F32, &[128, 512]);
            b.for_("k", 2, |b, k| {
                let xs = b.sbuf("xs", BF16, &[128, 512]);
                b.emit(Instr::new("dma_copy").with("dst", &xs).with("src", x.at(&[Sub::range(k * 128, 128), Sub::range(n * 512, 512)])));
                b.emit(
                    Instr::new("nc_matmul")
                        .with("dst", &acc)
                        .with("stationary", ws.at(&[Sub::range(0, 128), Sub::at(k), Sub::range(0, 128)]))
                        .with("moving", &xs)
                        .with("accumulate", Value::Positive(k.clone())),
                );
            });
            let y = b.sbuf("y", F32, &[128, 512]);
            b.emit(
                Instr::new("activation")
                    .with("dst", y.at(&[Sub::range(0, 128), Sub::step(0, 256, 2)]))
                    .with("op", "gelu")
                    .with("data", acc.at(&[Sub::range(0, 128), Sub::range(0, 256)]))
                    .with("bias", 0.1f32)
                    .with("scale", -1e-7),
            );
            b.emit(Instr::new("iota").with("dst", &y).with("pattern", vec![[1, 512]]).with("offset", n * -3));
            b.emit(
                Instr::new("tensor_reduce")
                    .with("dst", y.at(&[Sub::range(0, 128), Sub::range(0, 1)]))
                    .with("op", "add")
                    .with("data", &y)
                    .with("axis", vec![1]),
            );
            b.emit(
                Instr::new("affine_select")
                    .with("dst", &y)
                    .with("pattern", vec![[-1, 512]])
                    .with("channel_multiplier", 1i64)
                    .with("on_true_tile", &y)
                    .with("on_false_value", f64::NEG_INFINITY)
                    .with("cmp_op", "greater_equal"),
            );
            b.emit(Instr::new("dma_copy").with("dst", out.at(&[Sub::range(0, 128), Sub::range(n * 512, 512)])).with("src", &y));
        });
        b.finish(&[&out])
    }

    #[test]
    fn parse_of_print_is_the_program() {
        let p = sample();
        let text = print(&p);
        let q = parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(p, q, "{text}");
        assert_eq!(text, print(&q));
    }

    #[test]
    fn text_is_readable_python() {
        let text = print(&sample());
        for want in [
            "# NKI 0.6",
            "@nki.jit\ndef sample(x, w, idx):\n    # x: bfloat16[256, 1024]\n",
            "for n in range(2):",
            "src=x[128*k:128*k + 128, 512*n:512*n + 512])",
            "accumulate=k > 0",
            "        dge_mode=nisa.dge_mode.hwdge,\n        name='load_w',\n    )\n",
            "vector_offset=it, indirect_dim=0",
            "on_false_value=float('-inf')",
            "y[0:128, 0:511:2]",
            "    return out\n",
        ] {
            assert!(text.contains(want), "{want}\n{text}");
        }
    }
}
