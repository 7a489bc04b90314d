//! `tahoma explain`

use crate::args::Explain;
use crate::util::{percent, print, print_json, si};
use crate::{Exit, OK};
use serde_json::json;
use std::path::Path;
use tahoma::{Artifact, Diagnostic};
use tahoma_core::op::{Kind, OpDef};

pub(crate) fn run(a: Explain) -> Exit {
    if let Some(c) = tahoma_core::diag::code(&a.what) {
        if a.json {
            print_json(&json!({ "code": c.code, "title": c.title, "explanation": c.explanation }));
        } else {
            print(&format!("{}: {}\n\n{}", c.code, c.title, c.explanation));
        }
        return Ok(OK);
    }
    if a.what == "op" {
        return op(a.name.as_deref(), a.json);
    }
    let dir = Path::new(&a.what);
    if Artifact::is_at(dir) {
        return artifact(dir, a.name.as_deref(), a.json);
    }
    Err(Diagnostic::error("E0701", format!("{:?} is no error code and no artifact", a.what))
        .note("tahoma explain E0203, tahoma explain op NAME, or tahoma explain OUT [KERNEL]")
        .into())
}

fn op(name: Option<&str>, as_json: bool) -> Exit {
    let Some(name) = name else {
        let names: Vec<&str> = tahoma_core::ops::OPS.iter().map(|o| o.name).collect();
        if as_json {
            print_json(&json!(names))
        } else {
            print(&names.join("\n"))
        }
        return Ok(OK);
    };
    let Some(o) = tahoma_core::ops::find(name.strip_prefix("ml.").unwrap_or(name)) else {
        return Err(Diagnostic::error("E0701", format!("no op {name:?}")).note("tahoma explain op lists all").into());
    };
    let operands: Vec<String> =
        o.operands.iter().map(|d| format!("{}: {:?}{}", d.name, d.types, if d.variadic { "…" } else { "" })).collect();
    let attrs: Vec<String> = o.attrs.iter().map(|d| format!("{}: {:?}", d.name, d.ty)).collect();
    if as_json {
        print_json(&json!({ "name": o.name, "doc": o.doc, "kind": kind(o), "operands": operands, "attrs": attrs, "examples": o.examples }));
        return Ok(OK);
    }
    let mut out = format!("ml.{}({})", o.name, operands.join(", "));
    if !attrs.is_empty() {
        out += &format!(" {{{}}}", attrs.join(", "));
    }
    out += &format!("\n\n{}\n\nkind       {}\ntolerance  {:?}", o.doc, kind(o), o.tolerance);
    for e in o.examples {
        out += &format!("\nexample    {e}");
    }
    print(&out);
    Ok(OK)
}

fn kind(o: &OpDef) -> String {
    match &o.kind {
        Kind::Elementwise(s) => format!("elementwise {s:?}"),
        Kind::Reduce(m) => format!("reduce {m:?}"),
        Kind::Window(m) => format!("window {m:?}"),
        Kind::Contract(c) => format!("contract {c:?}"),
        Kind::Move(m) => format!("move {m:?}"),
        Kind::Scan(m) => format!("scan {m:?}"),
        Kind::Gather => "gather".into(),
        Kind::Scatter => "scatter".into(),
        Kind::Generate => "generate".into(),
        Kind::Composite(_) => "composite".into(),
        Kind::Collective => "collective".into(),
        Kind::Structure => "structure".into(),
        Kind::Opaque => "opaque".into(),
    }
}

fn artifact(dir: &Path, kernel: Option<&str>, as_json: bool) -> Exit {
    let path = dir.join("manifest.json");
    let bytes = std::fs::read(&path).map_err(|e| Diagnostic::error("E0101", format!("cannot read {}: {e}", path.display())))?;
    let m: tahoma::Manifest =
        serde_json::from_slice(&bytes).map_err(|e| Diagnostic::error("E0605", format!("{} is no manifest: {e}", path.display())))?;
    let Some(name) = kernel else {
        if as_json {
            print_json(&json!(m.report));
            return Ok(OK);
        }
        let all = m.report.device_flops + m.report.host_flops;
        let mut out = format!("{} for {}: {} launches\n", m.model, m.target, m.report.launches);
        for k in &m.kernels {
            let nodes = k.origin.leaves().len();
            out += &format!(
                "  {:<16} {:>12}  {:>9.1} us predicted  {nodes} nodes\n",
                k.name,
                si(k.spec.flops() as f64, "FLOP"),
                k.predicted_ns / 1e3
            );
        }
        for h in &m.report.host_ops {
            out += &format!("  host {:>4} × {:<14} {:>6.2} %  {}\n", h.count, h.op, percent(h.flops, all.max(1)), h.reason);
        }
        for (rule, n) in &m.report.rules {
            out += &format!("  rule {rule} made {n} ops\n");
        }
        print(out.trim_end());
        return Ok(OK);
    };
    let Some(k) = m.kernels.iter().find(|k| k.name == name) else {
        let names: Vec<_> = m.kernels.iter().map(|k| k.name.as_str()).collect();
        return Err(Diagnostic::error("E0701", format!("no kernel {name:?}")).note(format!("kernels: {}", names.join(", "))).into());
    };
    if as_json {
        print_json(&json!(k));
        return Ok(OK);
    }
    let mut out = format!("{}  {}\n", k.name, dir.join(&k.file).display());
    for (i, t) in k.spec.inputs.iter().enumerate() {
        out += &format!("  input {i}   {t}\n");
    }
    for (i, t) in k.spec.outputs.iter().enumerate() {
        out += &format!("  output {i}  {t}\n");
    }
    out += &format!(
        "  {}, {} of buffers, {:.1} us predicted\n",
        si(k.spec.flops() as f64, "FLOP"),
        si(k.spec.bytes() as f64, "B"),
        k.predicted_ns / 1e3
    );
    for o in k.origin.leaves() {
        out += &format!("  from {o}\n");
    }
    out += &serde_json::to_string_pretty(&k.spec.body).unwrap_or_default();
    print(&out);
    Ok(OK)
}
