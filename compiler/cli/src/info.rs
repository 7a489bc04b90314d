//! `tahoma info`

use crate::args::Info;
use crate::util::{self, print, print_json, si};
use crate::{Exit, OK};
use serde_json::json;
use tahoma::info::{Port, info};

pub(crate) fn run(a: Info) -> Exit {
    let request = util::compiler(&a.model.model, &a.model.given)?.fixed().clone();
    let i = info(&a.model.model, &request)?;
    if a.json {
        print_json(&json!(i));
        return Ok(OK);
    }
    let by = if i.producer.is_empty() { String::new() } else { format!(", made by {}", i.producer) };
    let mut out = format!("{}: {}{by}\n", i.model, i.kind);
    let sets: Vec<String> = i.opsets.iter().map(|(n, v)| format!("{n} {v}")).collect();
    if !sets.is_empty() {
        out += &format!("  operator sets  {}\n", sets.join(", "));
    }
    for (what, ports) in [("input", &i.inputs), ("output", &i.outputs)] {
        for p in ports {
            out += &format!("  {what:<13}  {:?}  {}\n", p.name, shown(p));
        }
    }
    let nodes: usize = i.operators.iter().map(|o| o.count).sum();
    out += &format!("  operators      {} kinds, {nodes} nodes\n", i.operators.len());
    for o in &i.operators {
        out += &format!("    {:>5} × {}{}\n", o.count, o.name, if o.supported { "" } else { "   MISSING" });
    }
    out += &format!("  parameters     {}, {}\n", i.parameters, si(i.parameter_bytes as f64, "B"));
    if let Some(f) = i.flops {
        out +=
            &format!("  one run        {}{}\n", si(f as f64, "FLOP"), if i.options.is_empty() { "" } else { ", with the options below" });
    }
    for n in &i.notes {
        out += &format!("  note           {n}\n");
    }
    if !i.options.is_empty() {
        out += &format!("  still open; ready to paste, with your numbers:\n    {}\n", i.options);
    }
    print(out.trim_end());
    Ok(OK)
}

fn shown(p: &Port) -> String {
    match &p.dims {
        Some(d) => format!("{}[{}]", p.ty, d.join(", ")),
        None => p.ty.clone(),
    }
}
