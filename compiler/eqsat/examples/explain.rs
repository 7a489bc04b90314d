//! Explanations of a benchmark network: `explain NAME [--real] [--trn2] [--check] [--text] [--dot] [--kernel=kN] [--why=A,B]`.

use std::time::Instant;
use tahoma_eqsat::{Options, SM_90A, TRN2, dump, explain, replay, search, why_not};
use tahoma_nets::Size;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |f: &str| args.iter().any(|a| a == f);
    let value = |f: &str| args.iter().find_map(|a| a.strip_prefix(f));
    let name = args.first().map_or("bert-base", String::as_str);
    let network = tahoma_nets::find(name).ok_or("no network of that name")?;
    let p = (network.build)(if has("--real") { Size::Real } else { Size::Reduced });
    let options = Options::new(if has("--trn2") { &TRN2 } else { &SM_90A });
    let start = Instant::now();
    let mut s = search(&p, &options).map_err(|d| d.to_string())?;
    eprintln!("search {:.2} s", start.elapsed().as_secs_f64());
    if has("--text") {
        print!("{}", dump::text(&s));
    } else if has("--dot") {
        print!("{}", dump::dot(&s));
    } else if let Some((a, b)) = value("--why=").and_then(|w| w.split_once(',')) {
        print!("{}", why_not::why_not(&mut s, &options, a, b).map_err(|d| d.to_string())?);
    } else {
        let e = explain::explain(&s, &options, value("--kernel=")).map_err(|d| d.to_string())?;
        eprintln!("explain {:.2} s", start.elapsed().as_secs_f64());
        print!("{e}");
        if has("--check") {
            let mut wrong = 0;
            for p in e.proofs() {
                let c = replay::check(p, 1);
                wrong += usize::from(c.wrong().is_some());
                print!("{c}");
            }
            eprintln!("{} proofs, {wrong} wrong, {} values without", e.proofs().count(), e.left_out().len());
            eprintln!("check {:.2} s", start.elapsed().as_secs_f64());
        }
    }
    Ok(())
}
