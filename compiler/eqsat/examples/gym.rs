//! Runs the extractor on e-graphs in extraction-gym's JSON: `gym FILES --seconds N`. Prints the time of extraction alone, and the DAG
//! cost of what was chosen, counted again from the file: each class that the roots reach once, and no cycle among them.

use serde_json::Value;
use std::collections::HashMap;
use std::time::Instant;
use tahoma_eqsat::extract::dag::{DagWay, Problem, extract};

type Error = Box<dyn std::error::Error>;

/// The problem, and the name of the node behind each way.
fn load(v: &Value) -> Result<(Problem, Vec<Vec<String>>), Error> {
    let nodes = v["nodes"].as_object().ok_or("no nodes")?;
    let (mut p, mut index, mut class) = (Problem::default(), HashMap::new(), HashMap::new());
    for (name, n) in nodes {
        let id = n["eclass"].as_str().ok_or("no eclass")?;
        let next = index.len() as u32;
        class.insert(name.as_str(), *index.entry(id).or_insert(next));
    }
    p.classes = vec![vec![]; index.len()];
    let mut names = vec![vec![]; index.len()];
    for (name, n) in nodes {
        let cost = n["cost"].as_f64().filter(|c| c.is_finite() && *c >= 0.0).ok_or("bad cost")?;
        let mut needs = vec![];
        for k in n["children"].as_array().ok_or("no children")? {
            needs.push(*k.as_str().and_then(|k| class.get(k)).ok_or("unknown child")?);
        }
        needs.sort_unstable();
        needs.dedup();
        p.classes[class[name.as_str()] as usize].push(DagWay { cost, needs });
        names[class[name.as_str()] as usize].push(name.clone());
    }
    for r in v["root_eclasses"].as_array().ok_or("no roots")? {
        p.roots.push(*r.as_str().and_then(|r| index.get(r)).ok_or("unknown root")?);
    }
    Ok((p, names))
}

/// Cost of the chosen nodes that `class` reaches and that were not counted yet.
fn count(v: &Value, chosen: &HashMap<String, String>, class: &str, state: &mut HashMap<String, bool>) -> Result<f64, Error> {
    match state.get(class) {
        Some(true) => return Ok(0.0),
        Some(false) => return Err(format!("a cycle at {class}").into()),
        None => state.insert(class.into(), false),
    };
    let node = &v["nodes"][chosen.get(class).ok_or("a class without a choice")?];
    let mut sum = node["cost"].as_f64().ok_or("bad cost")?;
    for k in node["children"].as_array().ok_or("no children")? {
        let of = v["nodes"][k.as_str().ok_or("bad child")?]["eclass"].as_str().ok_or("no eclass")?;
        sum += count(v, chosen, of, state)?;
    }
    state.insert(class.into(), true);
    Ok(sum)
}

fn main() -> Result<(), Error> {
    let (mut files, mut seconds) = (vec![], 10.0);
    let mut args = std::env::args().skip(1);
    while let Some(a) = args.next() {
        if a == "--seconds" {
            seconds = args.next().ok_or("--seconds needs a number")?.parse()?;
        } else {
            files.push(a);
        }
    }
    for f in files {
        let v: Value = serde_json::from_str(&std::fs::read_to_string(&f)?)?;
        let (p, names) = load(&v)?;
        let start = Instant::now();
        let a = extract(&p, u64::MAX, &|| start.elapsed().as_secs_f64() > seconds).ok_or("a root cannot be made")?;
        let took = start.elapsed().as_secs_f64();
        let name = |(c, &w): (usize, &u32)| names[c].get(w as usize).cloned();
        let class_of = |n: &str| v["nodes"][n]["eclass"].as_str().unwrap_or_default().to_string();
        let chosen: HashMap<String, String> = a.way.iter().enumerate().filter_map(name).map(|n| (class_of(&n), n)).collect();
        let (mut state, mut cost) = (HashMap::new(), 0.0);
        for r in v["root_eclasses"].as_array().ok_or("no roots")? {
            cost += count(&v, &chosen, r.as_str().ok_or("bad root")?, &mut state)?;
        }
        if (cost - a.cost).abs() > 1e-9 {
            return Err(format!("{f}: the extractor says {}, the file {cost}", a.cost).into());
        }
        println!("{f} {cost:.6} {took:.3} s");
    }
    Ok(())
}
