//! Random programs on the targets themselves: compiled, written, read back and run on simulator and emulator, beside the interpreter, under
//! the promises that the rules are held to. More of them: `TAHOMA_SEEDS=0..3000 cargo test --release -p tahoma-tests random_programs`.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use tahoma::Compiler;
use tahoma_core::artifact::Numerics;
use tahoma_core::eval::{NoWeights, run};
use tahoma_core::graph::OpRef;
use tahoma_core::numeric::float_format;
use tahoma_core::op::Kind;
use tahoma_core::{Attr, Attrs, DType, Graph, Node, Program, Tensor};
use tahoma_eqsat::bound::{Roundings, bound};
use tahoma_eqsat::span::home;
use tahoma_nets::random::{Values, random};

/// What was tried on one target at one class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Count {
    ran: usize,
    /// No values were drawn on which the program stays within its types: nothing is promised.
    unbounded: usize,
    /// Why programs were refused, by code.
    refused: BTreeMap<String, usize>,
    /// Kernels launched.
    launches: u64,
    /// Elements that were held to something, of all.
    judged: usize,
    elements: usize,
}

/// The program with its weights as constants.
fn held(p: &Program, weights: &BTreeMap<String, Tensor>) -> Program {
    let mut p = p.clone();
    for n in p.functions.values_mut().flat_map(|g| &mut g.nodes).filter(|n| n.op.name == "weight") {
        let value = n.attrs.str("name").and_then(|w| weights.get(w)).expect("a weight of the program");
        n.op = OpRef(tahoma_core::ops::CONSTANT);
        n.attrs = Attrs::new().with("value", Attr::Tensor(value.clone().into()));
    }
    p
}

/// Whether arithmetic leaves a device no choice of what this makes of its operands: functions and sums of floats have last places of their
/// own.
fn is_decided(g: &Graph, n: &Node) -> bool {
    let float = |v: &tahoma_core::ValueId| g.ty(*v).dtype.is_float();
    let floats = n.operands.iter().chain(&n.results).any(float);
    let chosen = ["reduce_max", "reduce_min", "max_pool"].contains(&n.op.name);
    let rounds = ["add", "sub", "mul"].contains(&n.op.name);
    let picks = ["neg", "abs", "sign", "floor", "ceil", "round", "select", "cast", "is_nan", "is_inf", "relu"].contains(&n.op.name);
    let compares = n.results.iter().all(|r| g.ty(*r).dtype == DType::Bool);
    let moves = matches!(n.op.kind, Kind::Move(_) | Kind::Gather | Kind::Generate);
    !floats || chosen || rounds || picks || compares || moves
}

/// For each output whether all that leads to it is decided.
fn decided(p: &Program) -> Vec<bool> {
    let g = p.main();
    let mut sure = vec![true; g.types.len()];
    for n in &g.nodes {
        let all = is_decided(g, n) && n.operands.iter().all(|o| sure[o.index()]);
        n.results.iter().for_each(|r| sure[r.index()] = all);
    }
    g.outputs.iter().map(|o| sure[o.value.index()]).collect()
}

/// Bits; any NaN is as good as another.
fn same_bits(want: &Tensor, got: &Tensor) -> Result<(), String> {
    if want.ty() != got.ty() {
        return Err(format!("{} became {}", want.ty(), got.ty()));
    }
    for (j, (p, q)) in want.to_f64s().iter().zip(got.to_f64s()).enumerate() {
        if p.to_bits() != q.to_bits() && !(p.is_nan() && q.is_nan()) {
            return Err(format!("element {j}: {p:e} became {q:e}"));
        }
    }
    if !want.dtype().is_float() && want.contiguous().to_bytes() != got.contiguous().to_bytes() {
        return Err("integers differ".into());
    }
    Ok(())
}

fn one(seed: u64, target: &str, device: &str, class: Numerics, count: &mut Count) -> Result<(), String> {
    let r = random(seed);
    let all_of = |d: DType| float_format(d).map_or((0, 0), |f| (f.tiny(), f.most));
    let at_home = |d: DType| (home(d).least as i32, home(d).most as i32 - 1);
    let none = Values::default();
    let bounded = |v: Values| {
        let p = held(&r.program, &v.weights);
        bound(&p, &v.inputs, &none, Roundings::OfTypes).map(|b| (p, v.inputs, Some(b)))
    };
    let drawn = match class {
        Numerics::Exact => {
            let v = r.edges(4, all_of, true);
            Some((held(&r.program, &v.weights), v.inputs, None))
        }
        _ => (6..14).find_map(|d| bounded(r.edges(d, at_home, false))),
    };
    let Some((p, inputs, bound)) = drawn else {
        count.unbounded += 1;
        return Ok(());
    };
    let names = p.main().inputs.iter().map(|i| i.name.to_string());
    let given: Vec<(String, Tensor)> = names.zip(inputs.iter().cloned()).collect();
    // Integers may be divided by 0 on such values.
    let Ok(want) = run(&p, Program::MAIN, &inputs, &NoWeights) else {
        count.unbounded += 1;
        return Ok(());
    };
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let model = dir.path().join("random.mlir");
    std::fs::write(&model, tahoma::print_program(&p).map_err(|d| d.to_string())?).map_err(|e| e.to_string())?;
    let compiled = match Compiler::new(&model).target(target).numerics(class).compile() {
        Ok(c) => c,
        Err(d) if d.0.iter().all(|d| d.code == "E0209") => {
            *count.refused.entry("E0209".into()).or_default() += 1;
            return Ok(());
        }
        Err(d) => return Err(format!("not compiled: {d}")),
    };
    let (got, report) = compiled.run(&given, device).map_err(|d| format!("not run: {d}"))?;
    count.ran += 1;
    count.launches += report.launches;
    count.elements += want.iter().map(Tensor::len).sum::<usize>();
    let got: Vec<Tensor> = got.into_iter().map(|g| g.1).collect();
    if let Some(b) = bound {
        count.judged += b.may.iter().flatten().filter(|m| m.is_finite()).count();
        return b.holds(&got);
    }
    for (i, ((want, got), _)) in want.iter().zip(&got).zip(decided(&p)).enumerate().filter(|(_, o)| o.1) {
        count.judged += want.len();
        same_bits(want, got).map_err(|e| format!("output {i}, {e}"))?;
    }
    Ok(())
}

const TARGETS: [(&str, &str); 2] = [("trn2", "trn2-sim"), ("sm_90a", "ptx-emu")];

/// Seeds that were asked for instead of the usual ones.
fn asked() -> Option<std::ops::Range<u64>> {
    let s = std::env::var("TAHOMA_SEEDS").ok()?;
    let (from, to) = s.split_once("..")?;
    Some(from.parse().ok()?..to.parse().ok()?)
}

#[test]
fn random_programs_hold_on_the_targets() {
    let seeds = asked().unwrap_or(0..USUAL);
    let (next, done) = (AtomicU64::new(seeds.start), Mutex::new((BTreeMap::<(&str, Numerics), Count>::new(), vec![])));
    std::thread::scope(|s| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            s.spawn(|| {
                while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|s| *s < seeds.end) {
                    for (target, device) in TARGETS {
                        for class in [Numerics::Exact, Numerics::Reassociate] {
                            let tried = std::panic::catch_unwind(|| {
                                let mut c = Count::default();
                                let r = one(seed, target, device, class, &mut c);
                                (c, r)
                            });
                            let (c, r) = tried.unwrap_or_else(|_| (Count::default(), Err("panicked".into())));
                            let mut done = done.lock().unwrap();
                            done.0.entry((target, class)).or_default().add(c);
                            if let Err(e) = r {
                                println!("seed {seed}, {target}, {class:?}: {e}");
                                done.1.push((seed, target, class));
                            }
                        }
                    }
                }
            });
        }
    });
    let (counts, failed) = done.into_inner().unwrap();
    println!("{counts:#?}");
    assert!(failed.is_empty(), "{failed:?}: cargo run -p tahoma-nets --example random -- {}", failed[0].0);
    if asked().is_some() {
        return;
    }
    assert_eq!(counts.len(), 4);
    for ((target, class), c) in &counts {
        let all = USUAL as usize;
        // Nothing is refused, and what promises nothing is a small part.
        assert!(c.refused.is_empty() && c.ran + c.unbounded == all && c.ran * 10 >= all * 7, "{target}, {class:?}: {c:?}");
        let share = if *class == Numerics::Exact { 6 } else { 1 };
        assert!(c.launches as usize >= 2 * c.ran && c.judged * share >= c.elements * 9 / 10, "{target}, {class:?}: {c:?}");
    }
}

impl Count {
    fn add(&mut self, c: Count) {
        self.ran += c.ran;
        self.unbounded += c.unbounded;
        self.launches += c.launches;
        self.judged += c.judged;
        self.elements += c.elements;
        c.refused.into_iter().for_each(|(code, n)| *self.refused.entry(code).or_default() += n);
    }
}

/// Seeds of the ordinary suite.
const USUAL: u64 = 40;
