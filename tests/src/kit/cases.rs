//! Where a kit's cases come from.

use super::{Draft, Given};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tahoma::compare::Tolerance;
use tahoma::{Compiler, Diagnostic, Diagnostics, Tensor, interp, model, print_program};
use tahoma_core::graph::Port;
use tahoma_core::{Attrs, Builder, DType, Program, TensorType};
use tahoma_frontend::suite;
use tahoma_kit::format::Kind;
use tahoma_nets::{NETWORKS, Size};

/// One case to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// `node/test_abs` of the ONNX suite.
    Op(String),
    /// A network of `tahoma_nets`, reduced.
    Form(&'static str),
    /// A program at real size.
    Bench(&'static str),
    /// A folder of `.tahoma/models`.
    Model(&'static str),
}

/// Real models, most wanted first.
const MODELS: &[&str] =
    &["vad-16k", "block", "magika", "ocr-rec", "ocr-cls", "vad-op18", "ocr-det", "ocr6-cls", "vad-half", "ocr6-det", "ocr6-rec"];

const BENCHES: &[&str] = &["bench-matmul-f32", "bench-matmul-f16", "bench-softmax-f32", "bench-layer-norm-f32", "bench-encoder-f32"];

/// Everything that a whole kit holds, most wanted first.
pub fn sources() -> Vec<Source> {
    // The larger of two that are alike has no form of its own.
    let forms = NETWORKS.iter().filter(|n| n.name != "bert-large").map(|n| Source::Form(n.name));
    let benches = BENCHES.iter().map(|b| Source::Bench(b));
    let (first, rest) = MODELS.split_at(3);
    let models = |m: &'static [&'static str]| m.iter().map(|m| Source::Model(m));
    models(first).chain(ops()).chain(forms).chain(benches).chain(models(rest)).collect()
}

/// Of the ONNX suite's operator cases that run on the device as a whole: the first that has an operator which no case before it has.
fn ops() -> Vec<Source> {
    let text = std::fs::read_to_string(crate::root().join("tests/conformance.tsv")).unwrap_or_default();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut out = vec![];
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let f: Vec<&str> = line.split('\t').collect();
        let [name, operators, _, _, ptx, ..] = f[..] else { continue };
        let here = crate::root().join(".tahoma/onnx-suite").join(name).is_dir();
        // `Abs-13`: the version is no other operator.
        let new: Vec<&str> = operators.split(' ').map(|o| o.rsplit_once('-').map_or(o, |o| o.0)).filter(|o| !seen.contains(*o)).collect();
        if here && name.starts_with("node/") && ptx == "device" && !new.is_empty() {
            seen.extend(new.into_iter().map(str::to_string));
            out.push(Source::Op(name.to_string()));
        }
    }
    out
}

impl Source {
    /// The case's name: no `/` in it.
    pub fn name(&self) -> String {
        match self {
            Source::Op(n) => n.replace('/', "-"),
            Source::Form(n) | Source::Bench(n) | Source::Model(n) => n.to_string(),
        }
    }

    /// Inputs, expected outputs and artifacts.
    pub fn draft(&self, targets: &[&'static str]) -> Result<Draft, Diagnostics> {
        let d = match self {
            Source::Op(n) => op(&self.name(), &crate::root().join(".tahoma/onnx-suite").join(n), targets),
            Source::Form(n) => {
                let net = tahoma_nets::find(n).ok_or_else(|| Diagnostic::error("E0901", format!("no network {n}")))?;
                let p = weights_as_inputs((net.build)(Size::Reduced));
                let inputs = p.main().inputs.iter().map(|i| {
                    let t = tahoma_nets::tensor(&i.name, p.main().ty(i.value), 7);
                    (i.name.to_string(), Given::Stored(t))
                });
                let inputs = inputs.collect();
                program(n, Kind::Form, &p, inputs, targets)
            }
            Source::Bench(n) => {
                let p = bench(n)?;
                let inputs = p.main().inputs.iter().enumerate();
                let inputs =
                    inputs.map(|(i, port)| (port.name.to_string(), given(&port.name, p.main().ty(port.value), i as u64))).collect();
                program(n, Kind::Bench, &p, inputs, targets)
            }
            Source::Model(n) => real(n, targets),
        }?;
        // What every kernel gets right proves nothing.
        let told = d.outputs.iter().any(|(_, t, ..)| t.to_f64s().iter().any(|v| v.is_finite()));
        if told { Ok(d) } else { Err(Diagnostic::error("E0608", "no output has a finite element: it proves nothing").into()) }
    }
}

/// atol and rtol of an output that Tahoma's interpreter made.
fn tolerance(t: &Tensor) -> (f64, f64) {
    let top = t.to_f64s().iter().filter(|v| v.is_finite()).fold(0.0f64, |m, v| m.max(v.abs()));
    let rtol = Tolerance::of(t.dtype()).rtol;
    (rtol * top, rtol)
}

/// A program with every weight as an input of the same name, so that it needs no store.
pub fn weights_as_inputs(p: Program) -> Program {
    let mut g = p.main().clone();
    let (weights, nodes): (Vec<_>, Vec<_>) = g.nodes.into_iter().partition(|n| n.op.name == "weight");
    g.nodes = nodes;
    g.inputs.extend(weights.iter().map(|n| Port { name: n.attrs.str("name").unwrap_or_default().into(), value: n.results[0] }));
    Program::new(g)
}

fn program(name: &str, kind: Kind, p: &Program, inputs: Vec<(String, Given)>, targets: &[&'static str]) -> Result<Draft, Diagnostics> {
    let dir = tempfile::tempdir().map_err(|e| Diagnostic::error("E0702", e.to_string()).caused_by(e))?;
    let file = dir.path().join(format!("{name}.mlir"));
    std::fs::write(&file, print_program(p)?).map_err(|e| Diagnostic::error("E0702", e.to_string()).caused_by(e))?;
    let tensors: Vec<(String, Tensor)> = inputs.iter().map(|(n, g)| (n.clone(), g.tensor())).collect();
    let made = interp::evaluate_program(p, &tensors, &tahoma_core::eval::NoWeights)?;
    let outputs = made.into_iter().map(|(n, t)| {
        let (atol, rtol) = tolerance(&t);
        (n, t, atol, rtol)
    });
    let outputs = outputs.collect();
    let compile = |t: &&'static str| Ok((*t, Compiler::new(&file).target(t).compile()?));
    let compiled = targets.iter().map(compile).collect::<Result<_, Diagnostics>>()?;
    Ok(Draft { name: name.into(), kind, inputs, outputs, weights: None, compiled })
}

/// Numbers for an input of a program at real size: drawn where it is run, integers stored.
fn given(name: &str, ty: &TensorType, seed: u64) -> Given {
    let shape = ty.shape.to_static().unwrap_or_default();
    if !ty.dtype.is_float() {
        return Given::Stored(tahoma_nets::tensor(name, ty, seed));
    }
    // A matrix keeps the variance of what it multiplies.
    let weight = name == "w" || name.ends_with(".weight");
    let scale = if weight { (3.0 / shape.first().copied().unwrap_or(1).max(1) as f64).sqrt() } else { 1.0 };
    Given::Drawn { dtype: ty.dtype, shape, seed: 0x7a40_0000 + seed, scale }
}

/// The programs that `torch_times.py` has too.
fn bench(name: &str) -> Result<Program, Diagnostics> {
    if name == "bench-encoder-f32" {
        return Ok(weights_as_inputs(tahoma_nets::encoder_layers(1, Size::Real)));
    }
    let mut b = Builder::new(Program::MAIN);
    let fault = |why: tahoma_core::OpError| Diagnostic::error("E0901", format!("{name}: {why}"));
    let dtype = if name.ends_with("f16") { DType::F16 } else { DType::F32 };
    let y = match name {
        "bench-matmul-f32" | "bench-matmul-f16" => {
            let x = b.input("x", TensorType::known(dtype, &[1024, 1024]));
            let w = b.input("w", TensorType::known(dtype, &[1024, 1024]));
            b.op("matmul", &[x, w], Attrs::new())
        }
        "bench-softmax-f32" => {
            let x = b.input("x", TensorType::known(dtype, &[512, 1024]));
            b.op("softmax", &[x], Attrs::new().with("axis", 1))
        }
        "bench-layer-norm-f32" => {
            let x = b.input("x", TensorType::known(dtype, &[512, 1024]));
            let gain = b.input("gain", TensorType::known(dtype, &[1024]));
            let bias = b.input("bias", TensorType::known(dtype, &[1024]));
            b.op("layer_norm", &[x, gain, bias], Attrs::new().with("axis", 1).with("epsilon", 1e-5))
        }
        _ => return Err(Diagnostic::error("E0901", format!("no program {name}")).into()),
    };
    let y = y.map_err(fault)?;
    b.output("y", y);
    Ok(Program::new(b.finish()))
}

/// A case of the ONNX suite: its first set of data, and its own rule (rtol 1e-3, atol 1e-7; bf16 2^-6 for both).
fn op(name: &str, folder: &Path, targets: &[&'static str]) -> Result<Draft, Diagnostics> {
    let path = folder.join("model.onnx");
    let (takes, gives) = suite::ports(&path)?;
    let set = folder.join("test_data_set_0");
    let inputs = numbered(&set, "input", &takes)?;
    let p = interp::prepare(&path, &model::Request::default(), &inputs)?;
    let rule = |t: &Tensor| match t.dtype() {
        DType::BF16 => (2f64.powi(-6), 2f64.powi(-6)),
        d if d.is_float() => (1e-7, 1e-3),
        _ => (0.0, 0.0),
    };
    let outputs = numbered(&set, "output", &gives)?.into_iter().map(|(n, t)| {
        let (atol, rtol) = rule(&t);
        (n, t, atol, rtol)
    });
    let outputs = outputs.collect();
    let (compiled, weights) = compile(&path, &p, targets)?;
    let inputs = p.inputs.into_iter().map(|(n, t)| (n, Given::Stored(t))).collect();
    Ok(Draft { name: name.into(), kind: Kind::Op, inputs, outputs, weights, compiled })
}

type Artifacts = (Vec<(&'static str, tahoma::Compiled)>, Option<PathBuf>);

/// The artifacts of a model, and its file, where they refer to it.
fn compile(path: &Path, p: &interp::Prepared, targets: &[&'static str]) -> Result<Artifacts, Diagnostics> {
    let mut out = vec![];
    for t in targets {
        out.push((*t, Compiler::new(path).target(t).request(&p.request).shapes_of(&p.inputs).compile()?));
    }
    let refers = out.iter().any(|(_, c)| c.manifest.weights.iter().any(|w| !w.file.starts_with("./")));
    Ok((out, refers.then(|| path.to_path_buf())))
}

/// `input_0.pb`, `input_1.pb`, …: by the name inside where all have one of a port, else by position.
fn numbered(set: &Path, what: &str, ports: &[suite::Port]) -> Result<Vec<(String, Tensor)>, Diagnostics> {
    let files: Vec<PathBuf> = (0..).map(|i| set.join(format!("{what}_{i}.pb"))).take_while(|f| f.is_file()).collect();
    let named: Option<Vec<&suite::Port>> =
        files.iter().map(|f| suite::name_in(f).and_then(|n| ports.iter().find(|p| p.name == n))).collect();
    let mut out = vec![];
    for (f, port) in files.iter().zip(named.unwrap_or_else(|| ports.iter().collect())) {
        for (name, given) in suite::read(f, port)? {
            match given {
                suite::Given::Tensor(t) => out.push((name, t)),
                suite::Given::Text(_) => return Err(Diagnostic::error("E0204", format!("{name} is text")).into()),
            }
        }
    }
    Ok(out)
}

/// A real model, with the outputs that its own runtime gave.
fn real(name: &str, targets: &[&'static str]) -> Result<Draft, Diagnostics> {
    let o = crate::oracle(name);
    let p = interp::prepare(&o.model, &model::Request::default(), &o.inputs)?;
    let (compiled, weights) = compile(&o.model, &p, targets)?;
    let mut outputs = vec![];
    for port in compiled.iter().take(1).flat_map(|(_, c)| &c.manifest.outputs) {
        let safe: String = port.name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
        if let Some((_, t)) = o.outputs.iter().find(|(n, _)| *n == safe) {
            // As the harness holds them on the emulator.
            outputs.push((port.name.clone(), t.clone(), 1e-4, 0.0));
        }
    }
    let inputs = p.inputs.into_iter().map(|(n, t)| (n, Given::Stored(t))).collect();
    Ok(Draft { name: name.into(), kind: Kind::Model, inputs, outputs, weights, compiled })
}
