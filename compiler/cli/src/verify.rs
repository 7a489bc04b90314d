//! `tahoma verify`

use crate::args::Verify;
use crate::util::{self, percent, print, print_json, si};
use crate::{DIFFERS, Exit, INCONCLUSIVE, OK};
use serde_json::json;
use tahoma::Diagnostic;
use tahoma::compare::Tolerance;
use tahoma::model::{ModelKind, kind_of};
use tahoma::verify::{Verdict, VerifyOptions, VerifyReport, verify};

pub(crate) fn run(a: Verify) -> Exit {
    if let Some(dir) = &a.keep {
        util::check_folder(dir)?;
    }
    if kind_of(&a.model.model)? == ModelKind::Artifact {
        return crate::verify_artifact::run(a);
    }
    if a.target.is_empty() {
        return Err(Diagnostic::error("E0501", "no target").note(format!("--target takes {}", tahoma::Target::names().join(", "))).into());
    }
    if a.reference.is_some() || a.weights.is_some() {
        return Err(Diagnostic::error("E0701", "--model and --weights are for artifacts").into());
    }
    let spin = util::spinner();
    let mut compiler = util::compiler(&a.model.model, &a.model.given)?;
    let (inputs, texts) = util::read_all(&util::files(&a.input)?, &[])?;
    for (name, t) in texts {
        compiler = compiler.input_text(&name, t);
    }
    let expect = util::read(&util::files(&a.expect)?, &[])?;
    let tolerance = match (a.atol, a.rtol) {
        (None, None) => None,
        (atol, rtol) => Some(Tolerance { atol: atol.unwrap_or(0.0), rtol: rtol.unwrap_or(0.0) }),
    };
    let mut reports = vec![];
    for target in &a.target {
        compiler = util::watched(compiler, &spin, target);
        let options = VerifyOptions {
            inputs: inputs.clone(),
            expect: expect.clone(),
            seed: a.seed,
            device: a.device.clone().unwrap_or_default(),
            each_kernel: a.each_kernel,
            tolerance,
            keep: a.keep.clone(),
        };
        let r = verify(&compiler, &a.model.model, target, &options)?;
        if !a.json {
            spin.suspend(|| print(&text(&r)));
        }
        reports.push(r);
    }
    spin.finish_and_clear();
    let verdict = reports.iter().map(|r| r.verdict).max().unwrap_or(Verdict::Inconclusive);
    if a.json {
        print_json(&json!({ "agree": verdict.is_agreement(), "verdict": verdict, "targets": reports }));
    }
    Ok(exit(verdict))
}

/// A verdict's exit code.
pub(crate) fn exit(v: Verdict) -> u8 {
    match v {
        Verdict::Agrees | Verdict::AgreesWithinRounding => OK,
        Verdict::Differs => DIFFERS,
        Verdict::Inconclusive => INCONCLUSIVE,
    }
}

pub(crate) fn word(v: Verdict) -> &'static str {
    match v {
        Verdict::Agrees => "agrees",
        Verdict::AgreesWithinRounding => "agrees within rounding",
        Verdict::Inconclusive => "inconclusive",
        Verdict::Differs => "DIFFERS",
    }
}

fn text(r: &VerifyReport) -> String {
    let mut out = format!("{} for {}\n", r.model, r.target);
    if !r.drawn.is_empty() {
        out += &format!("  inputs not given are random, {}\n", r.drawn);
    }
    for o in &r.outputs {
        let c = &o.census;
        let finite = if c.elements == 0 { 100.0 } else { 100.0 * c.finite_share };
        out +=
            &format!("  output {:?}  {}  {finite:.4} % finite, {} different values, largest {:.3e}\n", o.name, o.ty, c.distinct, c.largest);
    }
    for s in &r.stages {
        out += &format!(
            "  {:<11} {:<7}  max abs error {:.3e}  max rel error {:.3e}\n",
            s.stage,
            word(s.verdict),
            s.max_abs_err,
            s.max_rel_err
        );
        for o in s.outputs.iter().filter(|o| o.verdict != Verdict::Agrees) {
            out += &format!("    output {:?}: {}\n", o.name, o.why);
        }
    }
    let mut worst: Vec<_> = r.kernels.iter().collect();
    worst.sort_by(|a, b| b.of_largest.total_cmp(&a.of_largest));
    for k in worst.iter().take(5) {
        out += &format!(
            "  {:<11} {}  max abs error {:.3e}, {:.1e} of the largest element\n",
            k.kernel,
            word(k.verdict),
            k.max_abs_err,
            k.of_largest
        );
    }
    if let Some(f) = &r.fault {
        let what = if f.certain { "first to differ" } else { "first value that no node of the model gives" };
        out += &format!("  {what}: {} ({})\n", f.what, f.detail);
        if !f.certain {
            out += "    a rewrite may make such values and be right: this is where to look first, not a proof\n";
        }
        for n in &f.nodes {
            out += &format!("    from {n}\n");
        }
        if let Some(dir) = &f.kept {
            out += &format!("    its inputs, what it gave and what it should have given are in {}\n", dir.display());
        }
    }
    let all = r.device_flops.saturating_add(r.host_flops);
    out += &format!("  {} launches, {:.2} % of {} on the device\n  ", r.launches, percent(r.device_flops, all), si(all as f64, "FLOP"));
    out += &crate::run::summary(&r.run);
    out += &match (r.verdict, &r.first_difference) {
        (Verdict::Agrees, _) => "\n  every stage agrees with the reference interpreter".to_string(),
        (Verdict::AgreesWithinRounding, _) => "\n  every stage agrees with the reference interpreter, within rounding".to_string(),
        (Verdict::Differs, Some(s)) => format!("\n  first difference: {s}"),
        (Verdict::Differs, None) => "\n  a kernel differs from its meaning".to_string(),
        (Verdict::Inconclusive, _) => "\n  inconclusive".to_string(),
    };
    if r.verdict == Verdict::Inconclusive {
        for w in &r.why {
            out += &format!("\n    {w}");
        }
    }
    out
}
