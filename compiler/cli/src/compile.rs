//! `tahoma compile`

use crate::args::Compile;
use crate::util::{self, percent, print, print_json, si};
use crate::{Exit, OK};
use serde_json::json;
use std::path::{Path, PathBuf};
use tahoma::{Compiled, Diagnostic, Diagnostics, Outcome, Stage, StageTime, check_replaceable, print_program};

pub(crate) fn run(a: Compile) -> Exit {
    // The search makes many small things; huge pages of zeros for them took a sixth of its time.
    rustix::thread::disable_transparent_huge_pages(true).ok();
    let stop = a.stop_after.as_deref().map(Stage::parse).transpose()?;
    let needs_target = stop.is_none_or(|s| s >= Stage::Eqsat);
    if needs_target && a.target.is_empty() {
        return Err(Diagnostic::error("E0501", "no target").note(format!("--target takes {}", tahoma::Target::names().join(", "))).into());
    }
    // Every wrong argument before any work.
    let mut problems = Diagnostics::default();
    for t in &a.target {
        if let Err(d) = tahoma::Target::parse(t) {
            problems.push(d);
        }
    }
    problems.into_result(())?;
    let mut base = util::compiler(&a.model.model, &a.model.given)?.optimise(!a.no_opt);
    if let Some(d) = &a.dump {
        util::check_folder(d)?;
        base = base.dump(d);
    }
    if let Some(s) = stop {
        base = base.stop_after(s);
    }
    let folder = |target: &str| -> Option<PathBuf> {
        let out = a.output.as_ref()?;
        Some(if a.target.len() > 1 { out.join(target) } else { out.clone() })
    };
    for t in &a.target {
        if let Some(dir) = folder(t).filter(|_| stop.is_none()) {
            if let (true, Some(out)) = (a.target.len() > 1, &a.output) {
                util::check_folder(out)?;
            }
            check_replaceable(&dir, a.force)?;
        }
    }
    let spin = util::spinner();
    let mut reports = vec![];
    let targets: Vec<Option<&str>> = if a.target.is_empty() { vec![None] } else { a.target.iter().map(|t| Some(t.as_str())).collect() };
    for target in targets {
        let mut c = base.clone();
        if let Some(t) = target {
            c = c.target(t);
        }
        c = util::watched(c, &spin, target.unwrap_or_default());
        match c.advance()? {
            Outcome::Program { program, times, warnings, .. } => {
                spin.finish_and_clear();
                util::warn(&warnings);
                if a.json {
                    reports.push(json!({ "times": times_json(&times) }));
                } else {
                    print(&print_program(&program)?);
                }
                if a.time {
                    crate::terminal::tell(&times_text(&times));
                }
            }
            Outcome::Artifact(mut compiled) => {
                spin.set_message("write");
                if a.pack {
                    compiled.pack()?;
                }
                let dir = target.and_then(&folder);
                if stop.is_none()
                    && let Some(dir) = &dir
                {
                    compiled.write(dir, a.force)?;
                }
                spin.suspend(|| {
                    util::warn(&compiled.warnings);
                    if a.json {
                        reports.push(report_json(&compiled, dir.as_deref()));
                    } else if stop == Some(Stage::Lower) {
                        for k in &compiled.manifest.kernels {
                            print(&String::from_utf8_lossy(compiled.files.get(&k.mlir).map(Vec::as_slice).unwrap_or_default()));
                        }
                    } else {
                        print(&report_text(&compiled, dir.as_deref()));
                        if a.time {
                            print(&times_text(&compiled.times));
                        }
                    }
                });
            }
        }
    }
    spin.finish_and_clear();
    if a.json {
        let all = if reports.len() == 1 { reports.remove(0) } else { json!(reports) };
        print_json(&all);
    }
    Ok(OK)
}

/// Each stage's time with its share, and the peak memory.
pub(crate) fn times_text(times: &[StageTime]) -> String {
    let total: f64 = times.iter().map(|t| t.wall.as_secs_f64()).sum();
    let mut out = String::new();
    for t in times {
        let s = t.wall.as_secs_f64();
        out += &format!("  {:<11} {:>9.1} ms {:>5.1} %\n", t.stage.name(), s * 1e3, 100.0 * s / total.max(1e-12));
    }
    let peak = times.last().map_or(0, |t| t.peak_rss_bytes);
    out + &format!("  {:<11} {:>9.1} ms          peak memory {}", "total", total * 1e3, si(peak as f64, "B"))
}

fn times_json(times: &[StageTime]) -> serde_json::Value {
    let peak = times.last().map_or(0, |t| t.peak_rss_bytes);
    let stages: serde_json::Map<_, _> = times.iter().map(|t| (t.stage.name().to_string(), json!(t.wall.as_secs_f64()))).collect();
    json!({ "seconds": stages, "peak_rss_bytes": peak })
}

fn report_text(c: &Compiled, dir: Option<&Path>) -> String {
    let (m, r) = (&c.manifest, &c.manifest.report);
    let place = dir.map(|d| format!(" -> {}", d.display())).unwrap_or_default();
    let all = r.device_flops.saturating_add(r.host_flops);
    let mut out = format!(
        "{} for {}{place}\n  {} kernels, {} launches; {:.2} % of {} on the device\n",
        m.model,
        m.target,
        m.kernels.len(),
        r.launches,
        percent(r.device_flops, all),
        si(all as f64, "FLOP")
    );
    if !r.host_ops.is_empty() {
        out += "  on the host:\n";
        for h in &r.host_ops {
            out += &format!("    {:>4} × {:<20} {:>6.2} %   {}\n", h.count, h.op, percent(h.flops, all.max(1)), h.reason);
        }
    }
    if !r.refused.is_empty() {
        out += "  kernels that the target refused, op by op instead:\n";
        for k in &r.refused {
            out += &format!("    {:<12} {:>4} ops   {}\n", k.kernel, k.ops, k.reason);
        }
    }
    if c.left_to_ptxas > 0 {
        out += &format!("  {} of the kernels are optimised by ptxas alone: LLVM took the dearest\n", c.left_to_ptxas);
    }
    if r.predicted_ns.0 > 0.0 {
        out += &format!("  predicted device time {:.3} ms{}\n", r.predicted_ns.0 / 1e6, clock(&m.target));
    }
    let bytes: u64 = m.weights.iter().map(|w| w.bytes).sum();
    out += &format!(
        "  {} weights, {} {}",
        m.weights.len(),
        si(bytes as f64, "B"),
        if m.weights_base.is_empty() { "packed" } else { "by reference" }
    );
    out
}

/// Whose time a prediction is.
fn clock(target: &str) -> &'static str {
    if target == "trn2" { ", as the simulator takes" } else { " (roofline)" }
}

fn report_json(c: &Compiled, dir: Option<&Path>) -> serde_json::Value {
    let r = &c.manifest.report;
    json!({
        "model": c.manifest.model,
        "target": c.manifest.target,
        "output": dir.map(Path::to_string_lossy),
        "kernels": c.manifest.kernels.iter().map(|k| json!({ "name": k.name, "predicted_ns": k.predicted_ns })).collect::<Vec<_>>(),
        "launches": r.launches,
        "segments": r.segments,
        "device_flops": r.device_flops,
        "host_flops": r.host_flops,
        "on_device_share": percent(r.device_flops, r.device_flops.saturating_add(r.host_flops)) / 100.0,
        "host_ops": r.host_ops,
        "refused": r.refused,
        "left_to_ptxas": c.left_to_ptxas,
        "rules": r.rules,
        "predicted_ns": r.predicted_ns,
        "times": times_json(&c.times),
    })
}
