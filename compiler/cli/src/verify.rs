//! `tahoma verify`

use crate::args::Verify;
use crate::util::{self, percent, print, print_json, si};
use crate::{DIFFERS, Exit, OK};
use serde_json::json;
use tahoma::verify::{VerifyOptions, VerifyReport, verify};

pub(crate) fn run(a: Verify) -> Exit {
    let spin = util::spinner();
    let mut compiler = util::compiler(&a.model.model, &a.model.given)?;
    let inputs = util::read(&util::files(&a.input)?, &[])?;
    let mut reports = vec![];
    for target in &a.target {
        let (ticker, label) = (spin.clone(), target.clone());
        compiler = compiler.on_stage(move |s| ticker.set_message(format!("{label} {s}")));
        let options = VerifyOptions {
            inputs: inputs.clone(),
            seed: a.seed,
            device: a.device.clone().unwrap_or_default(),
            each_kernel: a.each_kernel,
        };
        let r = verify(&compiler, &a.model.model, target, &options)?;
        if !a.json {
            spin.suspend(|| print(&text(&r)));
        }
        reports.push(r);
    }
    spin.finish_and_clear();
    let agree = reports.iter().all(|r| r.agree);
    if a.json {
        print_json(&json!({ "agree": agree, "targets": reports }));
    }
    Ok(if agree { OK } else { DIFFERS })
}

fn text(r: &VerifyReport) -> String {
    let mut out = format!("{} for {}\n", r.model, r.target);
    for s in &r.stages {
        let verdict = if s.agree { "agrees " } else { "DIFFERS" };
        out += &format!("  {:<11} {verdict}  max abs error {:.3e}  max rel error {:.3e}\n", s.stage, s.max_abs_err, s.max_rel_err);
        for o in s.outputs.iter().filter(|o| !o.difference.agree) {
            let d = &o.difference;
            let what =
                if d.kind.is_empty() { format!("{} elements differ, first at {}", d.wrong, d.first.unwrap_or(0)) } else { d.kind.clone() };
            out += &format!("    output {:?} {}: {what}\n", o.name, o.ty);
        }
    }
    let mut worst: Vec<_> = r.kernels.iter().collect();
    worst.sort_by(|a, b| b.of_largest.total_cmp(&a.of_largest));
    for k in worst.iter().take(5) {
        out += &format!("  {:<11} max abs error {:.3e}, {:.1e} of the largest element\n", k.kernel, k.max_abs_err, k.of_largest);
    }
    if let Some(k) = &r.kernel {
        out += &format!("  first kernel that differs from its meaning: {} ({})\n", k.kernel, k.detail);
        let units = k.max_abs_err / k.moves;
        out += &format!("    that is {units:.0} times what one unit in the last place of its inputs makes");
        // A sum of n terms is off by some of those units in any order; a wrong kernel by thousands.
        out += if units <= 32.0 { ": these inputs are ill-conditioned, rounding explains it\n" } else { "\n" };
        for n in &k.nodes {
            out += &format!("    from {n}\n");
        }
    }
    let all = r.device_flops.saturating_add(r.host_flops);
    out += &format!("  {} launches, {:.2} % of {} on the device\n  ", r.launches, percent(r.device_flops, all), si(all as f64, "FLOP"));
    out += &crate::run::summary(&r.run);
    let verdict = match &r.first_difference {
        None if r.agree => "every stage agrees with the reference interpreter".to_string(),
        None => "a kernel differs from its meaning".to_string(),
        Some(s) => format!("first difference: {s}"),
    };
    out + &format!("\n  {verdict}")
}
