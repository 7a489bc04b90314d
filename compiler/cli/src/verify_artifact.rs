//! `tahoma verify ARTIFACT`: each kernel beside its spec, and the outputs beside the model's.

use crate::Exit;
use crate::args::Verify;
use crate::util::{self, print, print_json};
use crate::verify::{exit, word};
use serde_json::json;
use tahoma::Diagnostic;
use tahoma::compare::Difference;
use tahoma::verify::Verdict;
use tahoma::verify_artifact::{ArtifactOptions, ArtifactReport, verify_artifact};

/// Kernels that agree are named up to this many.
const MOST_NAMED: usize = 5;

pub(crate) fn run(a: Verify) -> Exit {
    let given = &a.model.given;
    if !(a.target.is_empty() && given.shape.is_empty() && given.dim.is_empty()) {
        let d = Diagnostic::error("E0701", format!("{} is an artifact, whose target and shapes are fixed", a.model.model.display()));
        return Err(d.note("--input, --seed, --device, --model, --weights and --constant are for artifacts").into());
    }
    let spin = util::spinner();
    spin.set_message("verify");
    let options = ArtifactOptions {
        inputs: util::read(&util::files(&a.input)?, &[])?,
        seed: a.seed,
        device: a.device.clone().unwrap_or_default(),
        weights: a.weights.clone(),
        model: a.reference.clone(),
        fixed: util::compiler(&a.model.model, given)?.fixed().clone(),
    };
    let r = verify_artifact(&a.model.model, &options)?;
    spin.finish_and_clear();
    if a.json {
        print_json(&json!(r));
    } else {
        print(&text(&r));
    }
    Ok(exit(r.verdict))
}

fn verdict(v: Verdict, d: &Difference, why: &str) -> String {
    format!("{:<7}  max abs error {:.3e}{}{why}", word(v), d.max_abs, if why.is_empty() { "" } else { "; " })
}

fn text(r: &ArtifactReport) -> String {
    let mut out = format!("{} for {} on {}\n", r.model, r.target, r.device);
    for f in &r.edited {
        out += &format!("  edited after it was compiled: {f}\n");
    }
    let (good, bad): (Vec<_>, Vec<_>) = r.kernels.iter().partition(|k| k.verdict.is_agreement());
    for k in good.iter().take(MOST_NAMED).chain(&bad) {
        out += &format!("  {:<16} {}\n", k.kernel, verdict(k.verdict, &k.difference, &k.why));
        if !k.verdict.is_agreement() {
            k.nodes.iter().for_each(|n| out += &format!("    from {n}\n"));
        }
    }
    if good.len() > MOST_NAMED {
        out += &format!("  {} more kernels agree\n", good.len() - MOST_NAMED);
    }
    for k in &r.not_launched {
        out += &format!("  {k:<16} not launched: nothing is known of it\n");
    }
    for o in &r.outputs {
        out += &format!("  output {:?} {}  {}\n", o.name, o.ty, verdict(o.verdict, &o.difference, &o.why));
    }
    out += &format!("  {}\n", crate::run::summary(&r.run));
    let beside = match &r.not_compared {
        Some(why) => format!("; not compared with the model: {why}"),
        None => " and the model".into(),
    };
    out + &match (r.verdict, bad.first()) {
        (Verdict::Inconclusive, _) => "  inconclusive".into(),
        (Verdict::Agrees | Verdict::AgreesWithinRounding, _) => format!("  every kernel that ran agrees with its spec{beside}"),
        (Verdict::Differs, Some(k)) => format!("  first kernel that differs from its spec: {}", k.kernel),
        (Verdict::Differs, None) => "  the kernels agree with their specs, but the outputs differ from the model's".into(),
    }
}
