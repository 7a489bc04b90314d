//! Results as one JSON and one table.

use crate::format::{Kit, Outcome, Status};
use crate::tools::{Check, TorchRow};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};
use tahoma_runtime::cuda::Card;

/// `results.json`.
#[derive(Debug, Serialize)]
pub struct Results {
    pub producer: String,
    /// Seconds since 1970, at the start.
    pub unix_seconds: u64,
    /// The command line.
    pub command: String,
    pub card: Card,
    pub target: String,
    /// What the whole took.
    #[serde(with = "tahoma_core::float")]
    pub seconds: f64,
    pub totals: BTreeMap<String, usize>,
    pub cases: Vec<Outcome>,
    pub torch: Check,
    pub torch_rows: Vec<TorchRow>,
    pub sanitizers: Vec<Check>,
    /// Of the kit: what it was to hold and does not.
    pub left_out: Vec<String>,
}

impl Results {
    /// Counts by status.
    pub fn totals(cases: &[Outcome]) -> BTreeMap<String, usize> {
        let mut t = BTreeMap::from([("cases".to_string(), cases.len())]);
        for (name, s) in [("pass", Status::Pass), ("differs", Status::Differs), ("error", Status::Error), ("late", Status::Late)] {
            t.insert(name.into(), cases.iter().filter(|c| c.status == s).count());
        }
        t
    }

    /// Whether everything that was run is right. What was skipped for want of a tool does not count; what was late does.
    pub fn good(&self) -> bool {
        self.cases.iter().all(|c| c.status == Status::Pass) && self.sanitizers.iter().chain([&self.torch]).all(|c| !c.failed())
    }

    /// The table, in Markdown.
    pub fn table(&self, kit: &Kit) -> String {
        let mut s = String::new();
        let (a, b) = self.card.capability;
        let _ = writeln!(
            s,
            "# Tahoma on {}\n\nCompute capability {a}.{b}, CUDA {} driver, {:.1} GB; kernels for {}; {}.\n\n{}, {:.0} s: `{}`\n",
            self.card.name,
            self.card.cuda,
            self.card.memory_bytes as f64 / 1e9,
            self.target,
            kit.producer,
            humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(self.unix_seconds)),
            self.seconds,
            self.command
        );
        let totals: Vec<String> = self.totals.iter().map(|(n, v)| format!("{v} {n}")).collect();
        let _ = writeln!(s, "{}.\n", totals.join(", "));
        for c in self.sanitizers.iter().chain([&self.torch]) {
            let _ =
                writeln!(s, "- {}: {}{}", c.tool, c.status, if c.detail.is_empty() { String::new() } else { format!(": {}", c.detail) });
        }
        for l in &self.left_out {
            let _ = writeln!(s, "- not in this kit: {l}");
        }
        let _ = writeln!(
            s,
            "\nTimes in microseconds, least and median of the runs. *Device*: by events, from the first launch to the last. *Wall*: a run as\n\
             the host sees it, copies included. *Error*: the largest share of what is allowed.\n\n\
             | case | kind | images | result | launches | load, ms | runs | device | wall | error | torch | torch.compile |\n\
             |---|---|---|---|---|---|---|---|---|---|---|---|"
        );
        for o in &self.cases {
            let torch = self.torch_rows.iter().find(|r| r.name == o.name);
            let pair = |v: Option<[f64; 2]>| v.map_or("-".into(), |v| format!("{:.1} {:.1}", v[0], v[1]));
            let status = serde_json::to_value(o.status).ok().and_then(|v| v.as_str().map(str::to_string)).unwrap_or_default();
            let kind = serde_json::to_value(o.kind).ok().and_then(|v| v.as_str().map(str::to_string)).unwrap_or_default();
            let _ = writeln!(
                s,
                "| {} | {kind} | {} | {status} | {} | {:.1} | {} | {} | {} | {:.2e} | {} | {} |",
                o.name,
                o.images,
                o.launches,
                o.load_ms,
                o.runs,
                pair((o.runs > 0).then_some(o.device_us)),
                pair((o.runs > 0).then_some(o.wall_us)),
                o.of_allowed,
                pair(torch.and_then(|t| t.eager_us)),
                pair(torch.and_then(|t| t.compiled_us)),
            );
        }
        let wrong: Vec<&Outcome> = self.cases.iter().filter(|c| c.status != Status::Pass).collect();
        if !wrong.is_empty() {
            let _ = writeln!(s, "\n## What failed\n");
        }
        for o in wrong {
            let _ = writeln!(s, "{} ({}):\n\n```text\n{}\n```\n", o.name, o.images, o.detail);
        }
        s
    }
}
