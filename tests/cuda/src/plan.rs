//! Small plans for tests: vectors of three sizes, kernels that add two of a size, host steps, branches.

use sha2::{Digest, Sha256};
use std::fmt::Write;
use tahoma_core::artifact::*;
use tahoma_core::graph::OpRef;
use tahoma_core::kernel::{Access, Body, KernelSpec, Load, RowStep, Rows, Store};
use tahoma_core::scalar::{Binary, Expr, Step};
use tahoma_core::{Attrs, DType, TensorType, ops};

/// Elements of the vectors; kernel `i` adds two of `SIZES[i]`.
pub const SIZES: [usize; 3] = [3, 70, 300];

/// Bytes of the weights' file.
pub static WEIGHTS: [u8; 1200] = [0x3f; 1200];

/// The vector's type.
pub fn ty(kind: usize) -> TensorType {
    TensorType::known(DType::F32, &[SIZES[kind]])
}

/// The kernel's text.
pub fn ptx(kind: usize, target: &str) -> String {
    format!(
        ".version 7.0\n.target {target}\n.address_size 64\n.visible .entry add{kind}(.param .u64 a, .param .u64 b, .param .u64 c) {{
  .reg .b32 %r<5>;
  .reg .b64 %rd<7>;
  ld.param.b64 %rd1, [a];
  ld.param.b64 %rd2, [b];
  ld.param.b64 %rd3, [c];
  mov.u32 %r1, %ctaid.x;
  mad.wide.u32 %rd4, %r1, 4, %rd1;
  mad.wide.u32 %rd5, %r1, 4, %rd2;
  mad.wide.u32 %rd6, %r1, 4, %rd3;
  ld.global.b32 %r2, [%rd4];
  ld.global.b32 %r3, [%rd5];
  add.rn.f32 %r4, %r2, %r3;
  st.global.b32 [%rd6], %r4;
  ret;
}}\n"
    )
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    })
}

fn kernel(kind: usize, target: &str) -> KernelDef {
    let access = |buffer| Access { buffer, offset: 0, strides: vec![1], guards: vec![], fill: Default::default() };
    let load = |buffer| Load { access: access(buffer), dtype: DType::F32, per_row: false };
    let mut expr = Expr::default();
    let (a, b) = (expr.push(Step::Input(0), DType::F32), expr.push(Step::Input(1), DType::F32));
    expr.push(Step::Binary(Binary::Add, a, b), DType::F32);
    let rows = Rows {
        outer: vec![SIZES[kind] as u64],
        inner: vec![],
        loads: vec![load(0), load(1)],
        steps: vec![RowStep::Map { expr, args: vec![0, 1] }],
        stores: vec![Store { access: access(0), value: 2 }],
    };
    let name = format!("add{kind}");
    KernelDef {
        spec: KernelSpec { name: name.clone(), inputs: vec![ty(kind); 2], outputs: vec![ty(kind)], body: Body::Rows(rows) },
        file: format!("kernels/{name}.ptx"),
        sha256: hash(ptx(kind, target).as_bytes()),
        mlir: String::new(),
        name,
        grid: [SIZES[kind] as u32, 1, 1],
        block: [1; 3],
        shared_bytes: 0,
        predicted_ns: Default::default(),
        origin: Default::default(),
    }
}

/// A plan under construction: every kind of vector has an input and a weight to begin with.
pub struct Plan {
    m: Manifest,
    /// Buffers that exist, by kind.
    have: [Vec<usize>; 3],
}

impl Plan {
    /// Inputs `x0`, `x1`, `x2`, and a weight of each size in the file `w.bin` of the artifact: see [`WEIGHTS`].
    #[must_use]
    pub fn new(target: &str) -> Plan {
        let m = Manifest {
            vocabulary: Default::default(),
            schema: SCHEMA,
            producer: "test".into(),
            model: "m".into(),
            target: target.into(),
            numerics: Numerics::default(),
            inputs: vec![],
            outputs: vec![],
            buffers: vec![],
            weights_base: String::new(),
            weights: vec![],
            load: vec![],
            run: vec![],
            kernels: (0..3).map(|k| kernel(k, target)).collect(),
            functions: Default::default(),
            report: Report::default(),
        };
        let mut p = Plan { m, have: Default::default() };
        for kind in 0..3 {
            let input = p.buffer(kind);
            p.m.inputs.push(BufferPort { name: format!("x{kind}"), buffer: input });
            let buffer = p.buffer(kind);
            let (bytes, file) = (SIZES[kind] * 4, "./w.bin".to_string());
            let sha256 = hash(&WEIGHTS[..bytes]);
            p.m.weights.push(WeightRef { name: format!("w{kind}"), buffer, file, offset: 0, bytes: bytes as u64, sha256 });
            p.have[kind] = vec![input, buffer];
        }
        p
    }

    fn buffer(&mut self, kind: usize) -> usize {
        self.m.buffers.push(BufferDef { ty: ty(kind), alias: None });
        self.m.buffers.len() - 1
    }

    /// One step: which decides its kind and operands.
    pub fn step(&mut self, which: [usize; 4]) {
        let [what, kind, a, b] = which;
        let kind = kind % 3;
        let of = |i: usize| self.have[kind][i % self.have[kind].len()];
        let (a, b) = (of(a), of(b));
        let made = self.buffer(kind);
        let add = |inputs: [usize; 2], out| PlanStep::Launch { kernel: kind, inputs: inputs.to_vec(), outputs: vec![out] };
        match what % 8 {
            0 => {
                let (op, attrs) = (OpRef(ops::find("neg").unwrap()), Attrs::new());
                self.m.run.push(PlanStep::Host { op, attrs, inputs: vec![a], outputs: vec![made], origin: Default::default() });
            }
            1 => {
                // Two launches, or one.
                let (yes, x) = (self.condition(), made);
                let (y, z) = (self.buffer(kind), self.buffer(kind));
                let out = self.buffer(kind);
                let then = Branch { steps: vec![add([a, b], x), add([x, a], y)], results: vec![y] };
                let otherwise = Branch { steps: vec![add([b, b], z)], results: vec![z] };
                self.m.run.push(PlanStep::If { inputs: vec![yes, a, b], then, otherwise, outputs: vec![out] });
                self.have[kind].push(out);
                return;
            }
            3 => return self.loops(kind, a, b, made),
            _ => self.m.run.push(add([a, b], made)),
        }
        self.have[kind].push(made);
    }

    /// Two loops of three runs: sums of `b` from `a` on, kept row by row, and those rows added up from the last on, beside the sum before.
    fn loops(&mut self, kind: usize, a: usize, b: usize, made: usize) {
        let mut pile = ty(kind);
        pile.shape.0.insert(0, 3u64.into());
        self.m.buffers.push(BufferDef { ty: pile, alias: None });
        let rows = self.m.buffers.len() - 1;
        let [s, next, last, sum, before, row, more, end] = std::array::from_fn(|_| self.buffer(kind));
        let add = |inputs: [usize; 2], out| PlanStep::Launch { kernel: kind, inputs: inputs.to_vec(), outputs: vec![out] };
        self.m.run.push(PlanStep::Loop {
            trips: 3,
            inputs: vec![a, b],
            states: vec![State { start: a, buffer: s, next }],
            rows: vec![],
            stacks: vec![Stack { row: next, reverse: false }],
            steps: vec![add([s, b], next)],
            outputs: vec![last, rows],
        });
        self.m.run.push(PlanStep::Loop {
            trips: 3,
            inputs: vec![last, a, rows],
            states: vec![State { start: last, buffer: sum, next: more }, State { start: a, buffer: before, next: sum }],
            rows: vec![Row { of: rows, row, reverse: true }],
            stacks: vec![],
            steps: vec![add([sum, row], more)],
            outputs: vec![made, end],
        });
        self.have[kind].extend([made, end]);
    }

    /// The input `yes`, which decides all branches.
    fn condition(&mut self) -> usize {
        if let Some(p) = self.m.inputs.iter().find(|p| p.name == "yes") {
            return p.buffer;
        }
        self.m.buffers.push(BufferDef { ty: TensorType::known(DType::Bool, &[]), alias: None });
        let buffer = self.m.buffers.len() - 1;
        self.m.inputs.push(BufferPort { name: "yes".into(), buffer });
        buffer
    }

    /// The manifest, with the last vector of each size as output, and the text of each kernel.
    #[must_use]
    pub fn finish(mut self) -> (Manifest, Vec<String>) {
        for kind in 0..3 {
            let buffer = *self.have[kind].last().unwrap();
            self.m.outputs.push(BufferPort { name: format!("y{kind}"), buffer });
        }
        let text = (0..3).map(|k| ptx(k, &self.m.target)).collect();
        (self.m, text)
    }
}

/// A plan of launches alone.
#[must_use]
pub fn straight(target: &str, steps: usize) -> (Manifest, Vec<String>) {
    let mut p = Plan::new(target);
    for i in 0..steps {
        p.step([2, i, i * 7 + 3, i * 5 + 1]);
    }
    p.finish()
}
