//! What a model is before it is compiled: inputs and outputs, operators, parameters, arithmetic, and the numbers it still needs.

use crate::model::{self, ModelKind, Request};
use crate::{flops, specialise};
use std::collections::BTreeMap;
use std::path::Path;
use tahoma_core::{Diagnostic, Diagnostics, Dim, Program};
use tahoma_frontend::{Outline, OutlinePort, outline};

/// A model's description.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Info {
    pub model: String,
    /// `onnx`, `hugging face`, `mlir`
    pub kind: &'static str,
    /// The exporter; empty where the model does not say.
    pub producer: String,
    pub opsets: BTreeMap<String, i64>,
    pub operators: Vec<Operator>,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    pub parameters: u64,
    pub parameter_bytes: u64,
    /// Arithmetic of one run; null where it cannot be known.
    pub flops: Option<u64>,
    /// Options that give every open dimension a number; empty where none is open. `flops` are with these.
    pub options: String,
    /// What stands in the way, or was taken.
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, serde::Serialize)]
pub struct Operator {
    pub name: String,
    pub count: usize,
    /// Whether Tahoma can import it.
    pub supported: bool,
}

/// An input or output: dimensions are numbers or names.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Port {
    pub name: String,
    #[serde(rename = "type")]
    pub ty: String,
    /// Null where the model declares no shape.
    pub dims: Option<Vec<String>>,
}

/// Describes a model with what the request fixes of it. A model that cannot be imported is described as far as its file says, with the
/// reason among the notes. E0101, E0102 for one that cannot be read.
pub fn info(path: &Path, request: &Request) -> Result<Info, Diagnostics> {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let mut out = Info {
        model: name,
        kind: "",
        producer: String::new(),
        opsets: BTreeMap::new(),
        operators: vec![],
        inputs: vec![],
        outputs: vec![],
        parameters: 0,
        parameter_bytes: 0,
        flops: None,
        options: String::new(),
        notes: vec![],
    };
    match model::kind_of(path)? {
        ModelKind::Onnx => {
            out.kind = "onnx";
            let o = outline(path)?;
            let port = |p: &OutlinePort| Port { name: p.name.clone(), ty: p.ty.clone(), dims: p.dims.as_ref().map(|d| shown(d)) };
            (out.inputs, out.outputs) = (o.inputs.iter().map(port).collect(), o.outputs.iter().map(port).collect());
            out.operators = o.operators.iter().map(|u| Operator { name: u.name.clone(), count: u.count, supported: u.supported }).collect();
            (out.producer, out.opsets) = (o.producer.clone(), o.opsets.iter().cloned().collect());
            (out.parameters, out.parameter_bytes) = (o.parameters, o.parameter_bytes);
            let missing = o.operators.iter().filter(|u| !u.supported).count();
            if missing > 0 {
                out.notes.push(format!("{missing} operators cannot be imported"));
            }
            let chosen = choose(path, &o, request);
            out.options = chosen.options();
            let with = chosen.applied(request);
            match closed(path, &with) {
                Ok(p) => out.flops = Some(flops::of_graph(&p, p.main())),
                // What was given names nothing, or does not fit.
                Err(d) if d.0.iter().any(|d| matches!(d.code.as_str(), "E0207" | "E0601" | "E0602")) => return Err(d),
                Err(d) if missing == 0 => out.notes.extend(d.0.iter().take(3).map(|d| format!("{}: {}", d.code, d.message))),
                Err(_) => {}
            }
        }
        kind => {
            out.kind = if kind == ModelKind::HuggingFace { "hugging face" } else { "mlir" };
            let m = model::import(path, request)?;
            out.notes.extend(m.warnings.iter().map(|w| format!("{}; {}", w.message, w.notes.join("; "))));
            let g = m.program.main();
            let port = |p: &tahoma_core::Port| {
                let t = g.ty(p.value);
                Port { name: p.name.to_string(), ty: t.dtype.to_string(), dims: Some(shown(&t.shape.0)) }
            };
            (out.inputs, out.outputs) = (g.inputs.iter().map(port).collect(), g.outputs.iter().map(port).collect());
            let mut count: BTreeMap<String, usize> = BTreeMap::new();
            for n in m.program.functions.values().flat_map(|g| &g.nodes) {
                *count.entry(format!("ml.{}", n.op.name)).or_default() += 1;
            }
            out.operators = count.into_iter().map(|(name, count)| Operator { name, count, supported: true }).collect();
            for e in m.store.entries() {
                out.parameters += e.ty.shape.elements().unwrap_or(0);
                out.parameter_bytes += e.bytes as u64;
            }
            let chosen = Chosen::of_program(&m.program, request);
            out.options = chosen.options();
            if let Ok(p) = closed(path, &chosen.applied(request)) {
                out.flops = Some(flops::of_graph(&p, p.main()));
            }
        }
    }
    Ok(out)
}

fn shown(dims: &[Dim]) -> Vec<String> {
    dims.iter().map(|d| d.to_string()).collect()
}

/// The program with all that is given fixed, if no input is open then.
fn closed(path: &Path, request: &Request) -> Result<Program, Diagnostics> {
    let m = match model::kind_of(path)? {
        // Not `model::import`: its errors ask for the options that are being looked for.
        ModelKind::Onnx => tahoma_frontend::import_onnx(path, &model::import_options(request))?,
        _ => model::import(path, request)?,
    };
    let p = specialise(&m.program, &mut |name, ty| model::known(request, name, ty))?;
    match open_inputs(&p).first() {
        None => Ok(p),
        Some(i) => Err(Diagnostic::error("E0209", format!("input {i} has open dimensions")).into()),
    }
}

/// `"x" f32[N, 3]` of each input with an open dimension.
fn open_inputs(p: &Program) -> Vec<String> {
    let g = p.main();
    let open = g.inputs.iter().filter(|i| !g.ty(i.value).shape.is_static());
    open.map(|i| format!("{:?} {}", i.name, g.ty(i.value))).collect()
}

/// A program that kernels are made for has a number for every dimension of its inputs. E0209.
pub(crate) fn check_closed(p: &Program, path: &Path, request: &Request) -> Result<(), Diagnostics> {
    let open = open_inputs(p);
    if open.is_empty() {
        return Ok(());
    }
    let d = Diagnostic::error("E0209", format!("inputs have open dimensions: {}", open.join(", ")))
        .note("kernels are made for numbers: give each dimension one")
        .note("stage: specialise");
    Err(with_remedy(d.into(), path, request))
}

/// Adds the options that close every dimension to the last problem of open shapes, if there is one and they help.
pub(crate) fn with_remedy(mut d: Diagnostics, path: &Path, request: &Request) -> Diagnostics {
    const READY: &str = "ready to paste, with your numbers: ";
    if let Some(last) = d.0.iter_mut().rev().find(|d| d.code == "E0209" && d.notes.iter().all(|n| !n.starts_with(READY)))
        && let Some(options) = remedy(path, request)
    {
        last.notes.push(format!("{READY}{options}"));
    }
    d
}

/// Options that give every open dimension a number; `None` where none is open.
pub fn remedy(path: &Path, request: &Request) -> Option<String> {
    let chosen = match model::kind_of(path).ok()? {
        ModelKind::Onnx => choose(path, &outline(path).ok()?, request),
        ModelKind::Mlir => Chosen::of_program(&model::import(path, request).ok()?.program, request),
        _ => return None,
    };
    Some(chosen.options()).filter(|o| !o.is_empty())
}

/// Numbers for what is open.
#[derive(Clone, Debug, Default, PartialEq)]
struct Chosen {
    dims: Vec<(String, u64)>,
    shapes: Vec<(String, Vec<u64>)>,
}

/// Numbers to try, as (long axes, pixels): the first with which a model is read.
const TRIES: &[(u64, u64)] = &[(128, 224), (64, 256), (16, 64), (512, 512), (1, 32), (1, 1)];

/// The first numbers with which the model is read; the first of all where none serves.
fn choose(path: &Path, o: &Outline, request: &Request) -> Chosen {
    let all: Vec<Chosen> = TRIES.iter().map(|&t| Chosen::of(&o.inputs, request, t)).collect();
    if all[0].dims.is_empty() && all[0].shapes.is_empty() {
        return Chosen::default();
    }
    let reads = |c: &&Chosen| closed(path, &c.applied(request)).is_ok();
    all.iter().find(reads).or(all.first()).cloned().unwrap_or_default()
}

impl Chosen {
    fn of(inputs: &[OutlinePort], request: &Request, t: (u64, u64)) -> Chosen {
        let mut c = Chosen::default();
        for i in inputs.iter().filter(|i| !request.constants.contains_key(&i.name)) {
            let given = request.shapes.get(&i.name);
            let Some(dims) = given.or(i.dims.as_ref()) else { continue };
            let open = |d: &&Dim| matches!(d, Dim::Sym(s) if !request.symbols.contains_key(&**s));
            let numbers = || -> Vec<u64> { dims.iter().enumerate().map(|(k, d)| number(d, k, dims.len(), &i.ty, request, t)).collect() };
            let every = dims.iter().filter(open).all(|d| matches!(d, Dim::Sym(s) if given.is_some() || i.named.iter().any(|n| **n == **s)));
            if !every {
                c.shapes.push((i.name.clone(), numbers()));
                continue;
            }
            for (d, n) in dims.iter().zip(numbers()).filter(|(d, _)| open(d)) {
                if let Dim::Sym(s) = d
                    && c.dims.iter().all(|x| x.0 != **s)
                {
                    c.dims.push((s.to_string(), n));
                }
            }
        }
        c
    }
    fn of_program(p: &Program, request: &Request) -> Chosen {
        let g = p.main();
        let port = |i: &tahoma_core::Port| {
            let t = g.ty(i.value);
            let named = t.shape.0.iter().filter_map(|d| if let Dim::Sym(s) = d { Some(s.to_string()) } else { None });
            OutlinePort { name: i.name.to_string(), ty: t.dtype.to_string(), dims: Some(t.shape.0.clone()), named: named.collect() }
        };
        Chosen::of(&g.inputs.iter().map(port).collect::<Vec<_>>(), request, TRIES[0])
    }
    fn applied(&self, request: &Request) -> Request {
        let mut r = request.clone();
        r.symbols.extend(self.dims.iter().cloned());
        r.shapes.extend(self.shapes.iter().map(|(n, d)| (n.clone(), d.iter().map(|&n| Dim::Known(n)).collect())));
        r
    }
    /// As typed: `--dim batch=1 --shape x=1x3x224x224`.
    fn options(&self) -> String {
        let dims = self.dims.iter().map(|(n, k)| format!("--dim {}", quoted(&format!("{n}={k}"))));
        let shapes = self.shapes.iter().map(|(n, d)| {
            let d: Vec<String> = d.iter().map(u64::to_string).collect();
            format!("--shape {}", quoted(&format!("{n}={}", d.join("x"))))
        });
        dims.chain(shapes).collect::<Vec<_>>().join(" ")
    }
}

/// A word as a POSIX shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "=_-./:,@%+".contains(c);
    if word.chars().all(plain) { word.into() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// A likely number for a dimension, from its name, else from its place.
fn number(d: &Dim, axis: usize, rank: usize, ty: &str, request: &Request, (long, pixels): (u64, u64)) -> u64 {
    let name = match d {
        Dim::Known(n) => return *n,
        Dim::Sym(s) => match request.symbols.get(&**s) {
            Some(&n) => return n,
            None => s.to_lowercase(),
        },
    };
    let has = |parts: &[&str]| parts.iter().any(|p| name.contains(p));
    let image = rank == 4 && (ty.starts_with('f') || ty.starts_with("bf") || ty == "u8");
    if has(&["batch"]) || ["n", "b", "bs"].contains(&name.as_str()) {
        1
    } else if has(&["past", "cache"]) {
        16
    } else if has(&["seq", "len", "time", "token", "step", "frame", "sample"]) {
        long
    } else if has(&["height", "width"]) || ["h", "w"].contains(&name.as_str()) {
        pixels
    } else if has(&["channel"]) || name == "c" {
        3
    } else {
        match (image, axis) {
            (_, 0) => 1,
            (true, 1) => 3,
            (true, _) => pixels,
            _ => long,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, dims: Vec<Dim>, named: &[&str]) -> OutlinePort {
        OutlinePort { name: name.into(), ty: "f32".into(), dims: Some(dims), named: named.iter().map(|s| s.to_string()).collect() }
    }

    #[test]
    fn options_close_every_dimension() {
        let inputs = [
            port("ids", vec![Dim::sym("batch"), Dim::sym("seq len")], &["batch", "seq len"]),
            port("x", vec![Dim::sym("x.0"), Dim::Known(3), Dim::sym("h"), Dim::sym("w")], &["h", "w"]),
            port("fixed", vec![Dim::Known(2)], &[]),
        ];
        let c = Chosen::of(&inputs, &Request::default(), TRIES[0]);
        assert_eq!(c.options(), "--dim batch=1 --dim 'seq len=128' --shape x=1x3x224x224");
        let with = c.applied(&Request::default());
        assert_eq!(Chosen::of(&inputs, &with, TRIES[0]), Chosen::default());
        assert_eq!(quoted("it's=1"), r"'it'\''s=1'");
    }
}
