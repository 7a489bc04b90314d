//! The GPU clock beside what a card measured: each kernel of a kit's cases, counted on the emulator.
//!
//! `cargo run --release -p tahoma-kit --example clock -- KIT tests/gpu/h100-kernels.tsv [TEXT]`

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tahoma_core::Diagnostic;
use tahoma_kit::format::Kit;
use tahoma_kit::worker;
use tahoma_machine::gpu::H100;
use tahoma_runtime::emu::PtxEmu;
use tahoma_runtime::{Artifact, Runner};

fn main() -> Result<(), Diagnostic> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (kit, table, only) = (Path::new(&args[0]), &args[1], args.get(2).map_or("", String::as_str));
    let text = std::fs::read_to_string(table).map_err(|e| Diagnostic::error("E0701", format!("cannot read {table}: {e}")).caused_by(e))?;
    let mut lines = text.lines().filter(|l| !l.starts_with('#'));
    let names: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
    let rows: Vec<HashMap<&str, &str>> = lines.map(|l| names.iter().copied().zip(l.split('\t')).collect()).collect();
    let all = Kit::read(kit)?;
    println!(
        "case\tkernel\tgrid\tmeasured\tpredicted\tratio\tchain\tin_order\tslots\twavefronts\tmeasured\tsectors\tmeasured\tl2\trequests\tfootprint\tstores\tthreads\tshared\tbusy"
    );
    let mut ratios = vec![];
    for case in all.cases.iter().filter(|c| c.name.contains(only)) {
        let measured: Vec<_> = rows.iter().filter(|r| r["case"] == case.name).collect();
        let Some(folder) = case.artifacts.get("sm_90a").filter(|_| !measured.is_empty()) else { continue };
        let log = Arc::new(Mutex::new(vec![]));
        let artifact = Artifact::load(&kit.join(folder), case.weights.as_ref().map(|w| kit.join(w)).as_deref())?;
        let mut runner = Runner::new(artifact, Box::new(PtxEmu::logged(log.clone())))?;
        let given = case.inputs.iter().map(|i| Ok((i.name.clone(), worker::value(kit, i)?))).collect::<Result<Vec<_>, Diagnostic>>()?;
        runner.run(&given)?;
        let log = log.lock().unwrap_or_else(|e| e.into_inner());
        assert_eq!(log.len(), measured.len(), "{}", case.name);
        for (l, m) in log.iter().zip(&measured) {
            let number = |name: &str| m[name].parse::<f64>().unwrap_or(0.0);
            let (cycles, c, launch) = (H100.cycles(&l.launch, &l.counts), &l.counts, &l.launch);
            let ratio = cycles / number("cycles");
            ratios.push(ratio);
            let fields = [
                case.name.clone(),
                l.kernel.clone(),
                launch.blocks.to_string(),
                m["cycles"].to_string(),
                format!("{cycles:.0}\t{ratio:.2}"),
                (c.chain / launch.blocks).to_string(),
                (c.in_order / launch.blocks).to_string(),
                c.slots.to_string(),
                c.wavefronts.to_string(),
                m["shared_wavefronts"].to_string(),
                c.load_sectors.to_string(),
                m["load_sectors"].to_string(),
                format!("{}\t{}\t{}\t{}", c.l2_sectors, c.requests, c.footprint, c.store_sectors),
                format!("{}\t{}", launch.threads, launch.shared_bytes),
                format!("{:?}", c.busy),
            ];
            println!("{}", fields.join("\t"));
        }
    }
    ratios.sort_by(f64::total_cmp);
    let at = |share: f64| ratios.get((share * (ratios.len().max(1) - 1) as f64) as usize).copied().unwrap_or(0.0);
    eprintln!(
        "{} kernels; predicted / measured: least {:.2}, 10 % {:.2}, median {:.2}, 90 % {:.2}, most {:.2}",
        ratios.len(),
        at(0.0),
        at(0.1),
        at(0.5),
        at(0.9),
        at(1.0)
    );
    Ok(())
}
