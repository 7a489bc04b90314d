//! `tahoma conformance`

use crate::args::Conformance;
use crate::util::{self, print};
use crate::{DIFFERS, Exit, OK};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use tahoma::Diagnostic;
use tahoma::conformance::{Status, conformance};

pub(crate) fn run(a: Conformance) -> Exit {
    if let Some(path) = &a.json {
        if path.is_dir() {
            return Err(Diagnostic::error("E0702", format!("{} is a folder, the report is a file", path.display())).into());
        }
        tahoma::check_writable(path)?;
    }
    let target = a.target.as_deref().map(tahoma::Target::parse).transpose()?;
    // A panic inside a case becomes that case's status; its text would only drown the lines.
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let progress = OnceLock::new();
    let passed = AtomicUsize::new(0);
    let report = conformance(&a.dir, &a.device, target, &|name| name.contains(&a.filter), &|case, count| {
        let bar = progress.get_or_init(|| util::bar(count as u64));
        let n = passed.fetch_add(usize::from(case.status == Status::Pass), Ordering::Relaxed);
        bar.set_message(format!("{} pass", n + usize::from(case.status == Status::Pass)));
        bar.inc(1);
    });
    std::panic::set_hook(loud);
    if let Some(bar) = progress.get() {
        bar.finish_and_clear();
    }
    let report = report?;
    for c in report.cases.iter().filter(|c| c.status != Status::Pass) {
        print(&format!("{:<11} {}  {}", format!("{:?}", c.status).to_lowercase(), c.name, c.detail));
    }
    let t = &report.totals;
    print(&format!(
        "{} cases on {}: {} pass, {} fail, {} error, {} unsupported",
        t["cases"], a.device, t["pass"], t["fail"], t["error"], t["unsupported"]
    ));
    if let Some(path) = &a.json {
        let text = serde_json::to_string_pretty(&report).map_err(|e| Diagnostic::error("E0901", e.to_string()).caused_by(e))?;
        std::fs::write(path, text + "\n")
            .map_err(|e| Diagnostic::error("E0702", format!("cannot write {}: {e}", path.display())).caused_by(e))?;
    }
    Ok(if t["pass"] == t["cases"] { OK } else { DIFFERS })
}
