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
use tahoma_eqsat::bound::{Bound, Roundings, bound};
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
    /// Elements that were held to something, to the bit, of all.
    judged: usize,
    by_bits: usize,
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

/// What arithmetic leaves a device no choice of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sure {
    /// Functions and sums of floats have last places of their own.
    No,
    /// Bits, but of two zeros a maximum is either.
    UpToZeros,
    Bits,
}

/// What an op leaves no choice of, where its operands do not.
fn sure_of(g: &Graph, n: &Node, target: &str) -> Sure {
    let float = |v: &tahoma_core::ValueId| g.ty(*v).dtype.is_float();
    let floats = n.operands.iter().chain(&n.results).any(float);
    let chosen = ["max", "min", "relu", "clip", "reduce_max", "reduce_min", "max_pool"].contains(&n.op.name);
    let rounds = ["add", "sub", "mul", "sqrt", "reciprocal"].contains(&n.op.name) || (n.op.name == "div" && target != "trn2");
    let picks = ["neg", "abs", "sign", "floor", "ceil", "round", "select", "cast", "is_nan", "is_inf"].contains(&n.op.name);
    let compares = n.results.iter().all(|r| g.ty(*r).dtype == DType::Bool);
    let scatters = matches!(n.op.kind, Kind::Scatter) && n.attrs.str("reduction").is_none_or(|r| r == "none");
    let moves = matches!(n.op.kind, Kind::Move(_) | Kind::Gather | Kind::Generate) || scatters;
    match () {
        _ if floats && chosen => Sure::UpToZeros,
        _ if !floats || rounds || picks || compares || moves => Sure::Bits,
        _ => Sure::No,
    }
}

/// For each output what all that leads to it leaves no choice of.
fn decided(p: &Program, target: &str) -> Vec<Sure> {
    let g = p.main();
    let mut sure = vec![Sure::Bits; g.types.len()];
    for n in &g.nodes {
        let given = n.operands.iter().map(|o| sure[o.index()]).min().unwrap_or(Sure::Bits);
        // The sign of a zero becomes that of an infinity.
        let shows = ["div", "reciprocal", "bitcast"].contains(&n.op.name) && given == Sure::UpToZeros;
        let all = if shows { Sure::No } else { given.min(sure_of(g, n, target)) };
        n.results.iter().for_each(|r| sure[r.index()] = all);
    }
    g.outputs.iter().map(|o| sure[o.value.index()]).collect()
}

/// Bits; any NaN is as good as another.
fn same_bits(want: &Tensor, got: &Tensor, sure: Sure) -> Result<(), String> {
    if want.ty() != got.ty() {
        return Err(format!("{} became {}", want.ty(), got.ty()));
    }
    for (j, (p, q)) in want.to_f64s().iter().zip(got.to_f64s()).enumerate() {
        let either = (p.is_nan() && q.is_nan()) || (sure == Sure::UpToZeros && *p == 0.0 && q == 0.0);
        if p.to_bits() != q.to_bits() && !either {
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
        bound(&p, &v.inputs, &none, Roundings::OnDevices).map(|b| (p, v.inputs, Some(b)))
    };
    let in_range = || (6..16).find_map(|d| bounded(r.edges(d, at_home, false)));
    let edges = || {
        let v = r.edges(4, all_of, true);
        Some((held(&r.program, &v.weights), v.inputs, None))
    };
    let sure = decided(&r.program, target);
    let drawn = match class {
        // What has last places of its own has no bits to compare, and no bound where everything is an infinity: half of such programs
        // run on values that they stay within their types on.
        Numerics::Exact if sure.contains(&Sure::No) && seed % 2 == 1 => in_range().or_else(edges),
        Numerics::Exact => edges(),
        _ => in_range(),
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
    let finite = |b: &Bound, i: usize| b.may[i].iter().filter(|m| m.is_finite()).count();
    for (i, ((want, got), sure)) in want.iter().zip(&got).zip(sure).enumerate() {
        if class == Numerics::Exact && sure > Sure::No {
            count.by_bits += want.len();
            count.judged += want.len();
            same_bits(want, got, sure).map_err(|e| format!("output {i}, {e}"))?;
        } else {
            count.judged += bound.as_ref().map_or(0, |b| finite(b, i));
        }
    }
    bound.map_or(Ok(()), |b| b.holds(&got))
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
        // Most elements are held to something at exact, and some of them to the bit; at reassociate nearly all are.
        let exact = *class == Numerics::Exact;
        let (share, bits) = if exact { (7, c.elements / 8) } else { (9, 0) };
        assert!(c.launches as usize >= 2 * c.ran && c.judged * 10 >= c.elements * share && c.by_bits >= bits, "{target}, {class:?}: {c:?}");
    }
}

impl Count {
    fn add(&mut self, c: Count) {
        self.ran += c.ran;
        self.unbounded += c.unbounded;
        self.launches += c.launches;
        self.judged += c.judged;
        self.by_bits += c.by_bits;
        self.elements += c.elements;
        c.refused.into_iter().for_each(|(code, n)| *self.refused.entry(code).or_default() += n);
    }
}

/// Seeds of the ordinary suite.
const USUAL: u64 = 40;
