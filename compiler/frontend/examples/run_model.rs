//! Imports a model and evaluates it: `run_model MODEL OUT_DIR [name=1x3x48x320 …] [--input name=file.npy …]`; writes `OUT_DIR/N.npy`.

use std::path::{Path, PathBuf};
use tahoma_core::{DType, Tensor, eval};
use tahoma_frontend::{HfOptions, ImportOptions, import_hf, import_onnx, parse_shape};

/// Reads a version 1 `.npy` of f32, i64, i32 or bool in C order.
fn read_npy(path: &Path) -> Option<Tensor> {
    let b = std::fs::read(path).ok()?;
    let n = u16::from_le_bytes(b.get(8..10)?.try_into().ok()?) as usize;
    let head = std::str::from_utf8(b.get(10..10 + n)?).ok()?;
    let field = |k: &str| head.split(k).nth(1);
    let dtype = match field("'descr': '")?.split('\'').next()? {
        "<f4" => DType::F32,
        "<f2" => DType::F16,
        "<i8" => DType::I64,
        "<i4" => DType::I32,
        "|b1" => DType::Bool,
        _ => return None,
    };
    let dims = field("'shape': (")?.split(')').next()?;
    let dims: Vec<usize> = dims.split(',').map(str::trim).filter(|s| !s.is_empty()).map(|s| s.parse().ok()).collect::<Option<_>>()?;
    Tensor::from_bytes(dtype, &dims, &b[10 + n..])
}

fn write_npy(path: &Path, t: &Tensor) -> std::io::Result<()> {
    let descr = match t.dtype() {
        DType::F32 => "<f4",
        DType::F16 => "<f2",
        DType::I64 => "<i8",
        DType::I32 => "<i4",
        _ => "|u1",
    };
    let dims: String = t.shape().iter().map(|d| format!("{d}, ")).collect();
    let mut head = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({dims}), }}");
    while !(head.len() + 11).is_multiple_of(64) {
        head.push(' ');
    }
    head.push('\n');
    let mut b = b"\x93NUMPY\x01\x00".to_vec();
    b.extend((head.len() as u16).to_le_bytes());
    b.extend(head.as_bytes());
    b.extend(t.to_bytes());
    std::fs::write(path, b)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, out, rest @ ..] = &args[..] else { return Err("run_model MODEL OUT_DIR [name=dims] [--input name=file.npy]".into()) };
    let (mut options, mut files, mut rest) = (ImportOptions::default(), Vec::new(), rest.iter());
    let mut hf = HfOptions::default();
    while let Some(a) = rest.next() {
        if a == "--input" || a == "--constant" {
            let (name, file) = rest.next().and_then(|v| v.split_once('=')).ok_or("--input NAME=FILE")?;
            let t = read_npy(Path::new(file)).ok_or(format!("cannot read {file}"))?;
            if let [b, s] = t.shape() {
                (hf.batch, hf.sequence) = (*b, *s);
            }
            hf.token_types |= name == "token_type_ids";
            if a == "--input" {
                options.shapes.insert(name.into(), t.shape().iter().map(|&d| d.into()).collect());
                files.push((name.to_string(), t));
            } else {
                options.constants.insert(name.into(), t);
            }
        } else {
            let (name, dims) = parse_shape(a)?;
            options.shapes.insert(name, dims);
        }
    }
    let path = PathBuf::from(model);
    let start = std::time::Instant::now();
    let m = if path.is_dir() { import_hf(&path, &hf) } else { import_onnx(&path, &options) };
    let m = match m {
        Ok(m) => m,
        Err(d) => {
            eprintln!("{d}");
            std::process::exit(1);
        }
    };
    let main = m.program.main();
    eprintln!(
        "imported in {:?}: {} nodes, {} functions, {} weights",
        start.elapsed(),
        main.nodes.len(),
        m.program.functions.len(),
        m.store.len()
    );
    m.warnings.iter().for_each(|w| eprintln!("{w}"));
    let mut ops: std::collections::BTreeMap<&str, usize> = Default::default();
    main.nodes.iter().for_each(|n| *ops.entry(n.op.name).or_default() += 1);
    eprintln!("{ops:?}");
    let inputs: Option<Vec<Tensor>> = main.inputs.iter().map(|p| files.iter().find(|f| f.0 == p.name).map(|f| f.1.clone())).collect();
    let Some(inputs) = inputs else {
        main.inputs.iter().for_each(|p| eprintln!("input {}: {}", p.name, main.ty(p.value)));
        main.outputs.iter().for_each(|p| eprintln!("output {}: {}", p.name, main.ty(p.value)));
        return Ok(());
    };
    let start = std::time::Instant::now();
    let got = eval::run(&m.program, "main", &inputs, &m.store)?;
    eprintln!("evaluated in {:?}", start.elapsed());
    std::fs::create_dir_all(out)?;
    for (p, t) in main.outputs.iter().zip(&got) {
        eprintln!("{} {}", p.name, t.ty());
        write_npy(&Path::new(out).join(format!("{}.npy", p.name.replace('/', "_"))), t)?;
    }
    Ok(())
}
