//! A [`Program`] as MLIR text in the `trn` dialect of [`super::irdl`]: `func.func`, `scf.for`, generic `trn` ops on memrefs whose memory
//! space is "hbm", "sbuf" or "psum". A printer only; the NKI text is what runs.

use super::irdl::{Form, form, is_segmented};
use super::program::*;
use std::collections::HashMap;
use std::fmt::Write;
use tahoma_core::DType;
use tahoma_core::escape::Quoted;

/// The module's text.
pub fn print(p: &Program) -> String {
    let mut w = Writer { s: String::new(), names: HashMap::new(), values: 0, vars: HashMap::new() };
    for l in &p.origin {
        let _ = writeln!(w.s, "// {l}");
    }
    let params: Vec<String> = p
        .params
        .iter()
        .enumerate()
        .map(|(n, x)| {
            let ty = memref(&x.shape, x.dtype, Mem::SharedHbm);
            w.names
                .insert(x.name.clone(), Named { value: format!("%arg{n}"), dtype: x.dtype, shape: x.shape.clone(), mem: Mem::SharedHbm });
            format!("%arg{n}: {ty}")
        })
        .collect();
    // Returned tensors are allocated in the body, so their types are known only after a walk.
    let mut outputs = HashMap::new();
    collect(&p.body, &mut outputs);
    let results: Vec<String> =
        p.returns.iter().map(|r| outputs.get(r).cloned().or_else(|| w.names.get(r).map(|n| n.ty())).unwrap_or_default()).collect();
    let _ = writeln!(w.s, "module {{\n  func.func @{}({}) -> ({}) {{", p.name, params.join(", "), results.join(", "));
    w.block(&p.body, 2);
    let values: Vec<String> = p.returns.iter().filter_map(|r| w.names.get(r).map(|n| n.value.clone())).collect();
    let _ = writeln!(w.s, "    func.return {} : {}\n  }}\n}}", values.join(", "), results.join(", "));
    w.s
}

fn collect(body: &[Stmt], out: &mut HashMap<String, String>) {
    for s in body {
        match s {
            Stmt::Alloc { name, dtype, shape, mem, .. } => {
                out.insert(name.clone(), memref(shape, *dtype, *mem));
            }
            Stmt::For { body, .. } => collect(body, out),
            _ => {}
        }
    }
}

fn memref(shape: &[usize], dtype: DType, mem: Mem) -> String {
    let dims: String = shape.iter().map(|d| format!("{d}x")).collect();
    let space = match mem {
        Mem::Sbuf => "sbuf",
        Mem::Psum => "psum",
        Mem::SharedHbm | Mem::PrivateHbm => "hbm",
    };
    format!("memref<{dims}{}, \"{space}\">", dtype.mlir())
}

#[derive(Clone)]
struct Named {
    value: String,
    dtype: DType,
    shape: Vec<usize>,
    mem: Mem,
}

impl Named {
    fn ty(&self) -> String {
        memref(&self.shape, self.dtype, self.mem)
    }
}

struct Writer {
    s: String,
    names: HashMap<String, Named>,
    values: usize,
    vars: HashMap<String, String>,
}

impl Writer {
    fn fresh(&mut self) -> String {
        self.values += 1;
        format!("%{}", self.values - 1)
    }

    fn block(&mut self, body: &[Stmt], depth: usize) {
        let pad = "  ".repeat(depth);
        for stmt in body {
            match stmt {
                Stmt::Comment(c) => {
                    let _ = writeln!(self.s, "{pad}// {c}");
                }
                Stmt::Alloc { name, dtype, shape, mem, .. } => {
                    let v = self.fresh();
                    let ty = memref(shape, *dtype, *mem);
                    let _ = writeln!(self.s, "{pad}{v} = \"trn.alloc\"() {{name = {}}} : () -> {ty}", Quoted(name));
                    self.names.insert(name.clone(), Named { value: v, dtype: *dtype, shape: shape.clone(), mem: *mem });
                }
                Stmt::For { var, count, body } => {
                    let (lo, hi, one, iv) = (self.fresh(), self.fresh(), self.fresh(), format!("%{var}"));
                    for (v, n) in [(&lo, 0), (&hi, *count), (&one, 1)] {
                        let _ = writeln!(self.s, "{pad}{v} = arith.constant {n} : index");
                    }
                    let _ = writeln!(self.s, "{pad}scf.for {iv} = {lo} to {hi} step {one} {{");
                    let names = self.names.clone();
                    self.vars.insert(var.clone(), iv);
                    self.block(body, depth + 1);
                    self.vars.remove(var);
                    self.names = names;
                    let _ = writeln!(self.s, "{pad}}}");
                }
                Stmt::Instr(i) => self.instruction(i, &pad),
            }
        }
    }

    fn instruction(&mut self, i: &Instr, pad: &str) {
        let (mut values, mut types, mut attributes, mut segments) = (vec![], vec![], vec![], vec![]);
        for (n, o) in i.def.operands.iter().enumerate() {
            let tile = match &i.args[n] {
                Some(Value::Tile(a)) => {
                    let (value, ty) = self.access(a, pad);
                    values.push(value);
                    types.push(ty);
                    1
                }
                Some(v) => {
                    attributes.push(format!("{} = {}", o.name, attribute(v)));
                    0
                }
                None => 0,
            };
            if matches!(form(i.def, n), Form::Operand | Form::OptionalOperand) {
                segments.push(tile.to_string());
            }
        }
        if is_segmented(i.def) {
            attributes.push(format!("operandSegmentSizes = array<i32: {}>", segments.join(", ")));
        }
        let attrs = if attributes.is_empty() { String::new() } else { format!(" {{{}}}", attributes.join(", ")) };
        let _ = writeln!(self.s, "{pad}\"trn.{}\"({}){attrs} : ({}) -> ()", i.def.name, values.join(", "), types.join(", "));
    }

    /// The value and type of an access: the base, or a `trn.ap` with `offset + Σ factor · variable` and `[[step, count], …]`.
    fn access(&mut self, a: &Access, pad: &str) -> (String, String) {
        let Some(base) = self.names.get(&a.base).cloned() else { return (format!("%{}", a.base), "none".into()) };
        let mut offset = Affine::default();
        let mut pattern: Vec<[i64; 2]> = vec![];
        let mut index = None;
        match &a.view {
            View::Whole => return (base.value.clone(), base.ty()),
            View::Pattern { pattern: p, offset: o, index: i } => {
                offset = o.clone();
                pattern = p.clone();
                index = i.as_ref().map(|i| self.access(i, pad));
            }
            View::Slices(subs) => {
                let mut stride: i64 = base.shape.iter().product::<usize>() as i64;
                for (d, s) in subs.iter().enumerate() {
                    stride /= base.shape[d].max(1) as i64;
                    match s {
                        Sub::At(i) => {
                            offset = offset.add_scaled(i, stride);
                            // A tile keeps its partitions.
                            if d == 0 && !base.mem.is_hbm() {
                                pattern.push([stride, 1]);
                            }
                        }
                        Sub::Range { start, len, step } => {
                            offset = offset.add_scaled(start, stride);
                            pattern.push([stride * *step as i64, *len as i64]);
                        }
                    }
                }
            }
        }
        let shape: Vec<usize> = pattern.iter().map(|p| p[1] as usize).collect();
        let ty = memref(&shape, base.dtype, base.mem);
        let (mut values, mut types) = (vec![base.value.clone()], vec![base.ty()]);
        let mut factors = vec![];
        let rows = index.is_some() as usize;
        if let Some((v, t)) = index {
            values.push(v);
            types.push(t);
        }
        for (v, k) in &offset.terms {
            values.push(self.vars.get(v).cloned().unwrap_or_else(|| format!("%{v}")));
            types.push("index".into());
            factors.push(format!("{k}"));
        }
        let v = self.fresh();
        let steps: Vec<_> = pattern.iter().map(|[s, n]| format!("[{s}, {n}]")).collect();
        let _ = writeln!(
            self.s,
            "{pad}{v} = \"trn.ap\"({}) {{offset = {}, factors = [{}], pattern = [{}], operandSegmentSizes = array<i32: 1, {rows}, {}>}} : ({}) -> {ty}",
            values.join(", "),
            offset.constant,
            factors.join(", "),
            steps.join(", "),
            offset.terms.len(),
            types.join(", ")
        );
        (v, ty)
    }
}

fn attribute(v: &Value) -> String {
    match v {
        Value::Int(a) if a.is_constant() => a.constant.to_string(),
        Value::Int(a) => format!("\"{}\"", super::nki::affine(a)),
        Value::Positive(a) => format!("\"{} > 0\"", super::nki::affine(a)),
        Value::Float(x) if x.is_finite() => {
            let t = format!("{x:?}");
            // MLIR wants a point before an exponent.
            match t.split_once('e') {
                Some((m, e)) if !m.contains('.') => format!("{m}.0e{e} : f64"),
                _ => format!("{t} : f64"),
            }
        }
        Value::Float(x) => format!("0x{:016X} : f64", x.to_bits()),
        Value::Bool(b) => b.to_string(),
        Value::Name(n) | Value::Text(n) => Quoted(n).to_string(),
        Value::Pattern(p) => format!("[{}]", p.iter().map(|[s, n]| format!("[{s}, {n}]")).collect::<Vec<_>>().join(", ")),
        Value::Ints(v) => format!("{v:?}"),
        Value::Tile(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;

    const KERNEL: &str = "# NKI 0.6
import nki

@nki.jit
def k(x):
    # x: float32[128, 1024]
    out = nl.ndarray((128, 1024), dtype=nl.float32, buffer=nl.shared_hbm)
    b = nl.ndarray((128, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.memset(dst=b, value=1e-07)
    for i in range(2):
        t = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.sbuf)
        nisa.dma_copy(dst=t, src=x[0:128, 512*i:512*i + 512])
        nisa.activation(dst=t, op=nl.exp, data=t, bias=b, scale=0.5)
        nisa.dma_copy(dst=out[0:128, 512*i:512*i + 512], src=t)
    return out
";

    #[test]
    fn a_kernel_prints_as_generic_ops() {
        let text = super::print(&parse(KERNEL).unwrap());
        for want in [
            "func.func @k(%arg0: memref<128x1024xf32, \"hbm\">) -> (memref<128x1024xf32, \"hbm\">)",
            "\"trn.memset\"(%1) {value = 1.0e-7 : f64} : (memref<128x1xf32, \"sbuf\">) -> ()",
            "scf.for %i = %2 to %3 step %4 {",
            "\"trn.ap\"(%arg0, %i) {offset = 0, factors = [512], pattern = [[1024, 128], [1, 512]], operandSegmentSizes = array<i32: 1, 0, 1>}",
            "{op = \"exp\", scale = 0.5 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0>}",
            "func.return %0 : memref<128x1024xf32, \"hbm\">",
        ] {
            assert!(text.contains(want), "{want}\n{text}");
        }
    }

    /// Feeds the dialect and a kernel to `mlir-opt` where one is installed; prints that it did not where none is.
    #[test]
    fn mlir_accepts_dialect_and_kernel() {
        let Some(tool) = ["mlir-opt-22", "/usr/lib/llvm-22/bin/mlir-opt"]
            .into_iter()
            .find(|t| std::process::Command::new(t).arg("--version").output().is_ok())
        else {
            println!("mlir-opt is not installed: the dialect text was not checked against MLIR");
            return;
        };
        let dir = std::env::temp_dir().join(format!("trn-mlir-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (irdl, kernel) = (dir.join("trn.irdl.mlir"), dir.join("k.mlir"));
        std::fs::write(&irdl, super::super::irdl::irdl_text()).unwrap();
        std::fs::write(&kernel, super::print(&parse(KERNEL).unwrap())).unwrap();
        let out = std::process::Command::new(tool).arg(format!("--irdl-file={}", irdl.display())).arg(&kernel).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
