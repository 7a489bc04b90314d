//! `tahoma explain`

use crate::args::{EGraphForm, Explain};
use crate::util::{self, percent, print, print_json, si};
use crate::{DIFFERS, Exit, OK};
use indicatif::ProgressBar;
use serde_json::json;
use std::path::Path;
use tahoma::explain::{Check, Explained, Explanation, check_proofs};
use tahoma::{Artifact, Diagnostic, Diagnostics};
use tahoma_core::near;
use tahoma_core::op::{Kind, OpDef};

pub(crate) fn run(a: Explain) -> Exit {
    if a.what == "why-not" {
        return why_not(&a);
    }
    let name = match a.names.as_slice() {
        [] => None,
        [name] => Some(name.as_str()),
        more => return Err(bad(format!("{} names are too many", more.len())).into()),
    };
    let path = Path::new(&a.what);
    let is_code = tahoma_core::diag::code(&a.what);
    if is_code.is_none() && a.what != "op" && path.exists() && !Artifact::is_at(path) {
        return model(path, name, &a);
    }
    let of_models = a.check_proof || a.egraph.is_some() || !a.given.is_empty();
    if of_models {
        return Err(bad(format!("{:?} is no model: its explanation takes no such options", a.what)).into());
    }
    if let Some(c) = is_code {
        if a.json {
            print_json(&json!({ "code": c.code, "title": c.title, "explanation": c.explanation }));
        } else {
            print(&format!("{}: {}\n\n{}", c.code, c.title, c.explanation));
        }
        return Ok(OK);
    }
    if a.what == "op" {
        return op(name, a.json);
    }
    if Artifact::is_at(path) {
        return artifact(path, name, a.json);
    }
    let mut d = bad(format!("{:?} is no error code, no artifact and no model", a.what));
    let known = tahoma_core::codes::CODES.iter().map(|c| c.code).chain(["op", "why-not"]);
    d.notes.extend(near::closest(&a.what, known).map(|c| format!("did you mean {c:?}?")));
    Err(d.into())
}

fn bad(what: String) -> Diagnostic {
    Diagnostic::error("E0701", what)
        .note("tahoma explain E0203, tahoma explain op NAME, tahoma explain OUT [KERNEL], tahoma explain MODEL [KERNEL]")
        .note("tahoma explain why-not MODEL A B")
}

/// Searches a model, with its stages as progress.
fn searched(path: &Path, a: &Explain, spin: &ProgressBar) -> Result<Explained, Diagnostics> {
    let compiler = util::watched(util::compiler(path, &a.given)?.target(&a.target), spin, &a.target);
    let found = compiler.explain()?;
    spin.suspend(|| util::warn(&found.warnings));
    Ok(found)
}

fn why_not(a: &Explain) -> Exit {
    let [path, x, y] = a.names.as_slice() else {
        return Err(bad(format!("why-not takes a model and two nodes, not {} names", a.names.len())).into());
    };
    if a.check_proof || a.egraph.is_some() {
        return Err(bad("why-not takes no --check-proof and no --egraph".into()).into());
    }
    let spin = util::spinner();
    let mut found = searched(Path::new(path), a, &spin)?;
    let answer = found.why_not(x, y)?;
    spin.finish_and_clear();
    if a.json {
        print_json(&json!(answer));
    } else {
        print(answer.to_string().trim_end());
    }
    Ok(OK)
}

fn model(path: &Path, kernel: Option<&str>, a: &Explain) -> Exit {
    let spin = util::spinner();
    let found = searched(path, a, &spin)?;
    if let Some(form) = a.egraph {
        if kernel.is_some() {
            return Err(bad("--egraph prints the e-graph of the whole model".into()).into());
        }
        spin.finish_and_clear();
        print(
            match form {
                EGraphForm::Text => found.egraph_text(),
                EGraphForm::Dot => found.egraph_dot(),
            }
            .trim_end(),
        );
        return Ok(OK);
    }
    spin.set_message(format!("{} proofs and alternatives", a.target));
    let explanation = found.kernels(kernel)?;
    let ticker = spin.clone();
    let checks = match a.check_proof {
        true => check_proofs(&explanation, a.seed, &mut |i, n| ticker.set_message(format!("proof {} of {n}", i + 1))),
        false => vec![],
    };
    spin.finish_and_clear();
    let wrong = checks.iter().filter(|c| c.wrong().is_some()).count();
    if a.json {
        let checks = a.check_proof.then_some(&checks);
        print_json(&json!({ "explanation": explanation, "checks": checks }));
    } else {
        let mut out = explanation.to_string();
        if a.check_proof {
            out += &check_text(&explanation, &checks);
        }
        print(out.trim_end());
    }
    Ok(if wrong == 0 { OK } else { DIFFERS })
}

/// Each replayed proof, and what all of them came to.
fn check_text(e: &Explanation, checks: &[Check]) -> String {
    let mut out = String::from("\nproofs replayed\n");
    for c in checks {
        out += &c.to_string();
    }
    let wrong = checks.iter().filter(|c| c.wrong().is_some()).count();
    let skipped = checks.iter().filter(|c| c.left_out.is_some()).count();
    let (held, none) = (checks.len() - wrong - skipped, e.left_out().len());
    out + &format!("{held} proofs hold, {wrong} are wrong, {skipped} were too large to replay; {none} values have no proof\n")
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
    let plain = name.strip_prefix("ml.").unwrap_or(name);
    let Some(o) = tahoma_core::ops::OPS.iter().find(|o| o.name.eq_ignore_ascii_case(plain)) else {
        let mut d = Diagnostic::error("E0701", format!("no op {name:?}"));
        d.notes.extend(near::closest(plain, tahoma_core::ops::OPS.iter().map(|o| o.name)).map(|c| format!("did you mean {c:?}?")));
        return Err(d.note("tahoma explain op lists all").into());
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
    let m = tahoma_runtime::artifact::manifest_of(dir)?;
    let Some(name) = kernel else {
        if as_json {
            let kernels = m.kernels.iter().map(|k| json!({ "name": k.name, "predicted_ns": k.predicted_ns }));
            let mut v = json!(m.report);
            v["kernels"] = kernels.collect();
            print_json(&v);
            return Ok(OK);
        }
        let all = m.report.device_flops.saturating_add(m.report.host_flops);
        let mut out = format!("{} for {}: {} launches\n", m.model, m.target, m.report.launches);
        for k in &m.kernels {
            let nodes = k.origin.leaves().len();
            out += &format!(
                "  {:<16} {:>12}  {:>9.1} us predicted  {nodes} nodes\n",
                k.name,
                si(k.spec.flops() as f64, "FLOP"),
                k.predicted_ns.0 / 1e3
            );
        }
        for h in &m.report.host_ops {
            out += &format!("  host {:>4} × {:<14} {:>6.2} %  {}\n", h.count, h.op, percent(h.flops, all.max(1)), h.reason);
        }
        for k in &m.report.refused {
            out += &format!("  refused {} of {} ops, op by op instead: {}\n", k.kernel, k.ops, k.reason);
        }
        for (rule, n) in &m.report.rules {
            out += &format!("  rule {rule} made {n} ops\n");
        }
        print(out.trim_end());
        return Ok(OK);
    };
    let Some(k) = m.kernels.iter().find(|k| k.name == name) else {
        let mut d = Diagnostic::error("E0701", format!("no kernel {name:?}"));
        d.notes = near::notes(name, "kernels", m.kernels.iter().map(|k| k.name.as_str()));
        return Err(d.into());
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
        k.predicted_ns.0 / 1e3
    );
    for o in k.origin.leaves() {
        out += &format!("  from {o}\n");
    }
    out += &serde_json::to_string_pretty(&k.spec.body).unwrap_or_default();
    print(&out);
    Ok(OK)
}
