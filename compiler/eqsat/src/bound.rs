//! How far `reassociate` may move a result: the bound, as text and as numbers.
//!
//! A program is evaluated in f64 with its composites written out: what it means. Then again and again with what each op makes, and each
//! term of a sum, off by a random amount as large as the bound allows (Monte Carlo arithmetic, Parker 1997): how far each result then
//! moves is how far a rounding of that size reaches. Functions that jump, turn or have a pole between what they are given in truth and in a
//! run reach what lies on the way, too, where no run need land ([`passed`]): a sine of 10¹² is anything from −1 to 1.

use std::collections::BTreeMap;
use tahoma_core::eval::Weights;
use tahoma_core::numeric::float_format;
use tahoma_core::op::{Contract, EvalArgs, Kind};
use tahoma_core::random::Random;
use tahoma_core::{Attr, DType, Graph, Node, Program, Tensor, form};

/// Roundings of half a unit in the last place that each op of the program stands for.
pub const UNITS: f64 = 8.0;

/// The promise, for readers.
pub fn statement() -> String {
    let (units, exponent) = (UNITS / 2.0, |d: DType| crate::span::home(d).most);
    let [f32_end, f64_end] = [DType::F32, DType::F64].map(exponent);
    let (many, count) = (format!("{units} units"), format!("{units}·n units"));
    format!(
        "A program at `reassociate` may differ from the program as written as follows. Take the result that real arithmetic gives. The \
program as written is off by what its roundings make of it: each op rounds once, each term of a sum as often as the sum is long. The \
optimised program is off by no more than the program as written would be if each op rounded by {many} in the last place instead of half a \
unit, and each term of a sum of n by {many} and {count} of f32; and by twice the least number above 0 of its type instead of half of it. \
In particular an offset that is exact (`x - 1e6` of an input) is never taken apart, since its digits would be lost.

This holds wherever the program as written stays within its types: no op on finite numbers gives an infinity or NaN, and in types of eight \
and more exponent bits (f32, bf16, tf32; f64 likewise with 2^{f64_end}) inputs and results are below 2^{f32_end} in magnitude; constants, \
and weights whose values are known, may be anything. Every number that a rule makes on the way is proved to fit its type for all such \
values. Where an input of such a type is not 0 and below 2^-{f32_end} (f64: 2^-{f64_end}), numbers below 2^{small32} (f64: 2^{small64}) count \
as 0. Weights that the search was told nothing of are taken to lie within 2^-36 and 2^12, and elements below 2^-36 count as 0 beside one of \
2^-24 or more.

Where the program as written overflows, the optimised one gives the number that real arithmetic has, an infinity or NaN. Where real \
arithmetic has no number (the root of a negative one, 1/0), neither has the optimised program, but an infinity may have become NaN. An \
infinity or NaN that goes in comes out as one, and may spread to other results of the same contraction. The sign of a zero may differ. \
Integers and bools are the same at every class.",
        small32 = small(DType::F32),
        small64 = small(DType::F64),
    )
}

/// The exponent of what counts as 0 beside inputs smaller than rules ask about.
fn small(d: DType) -> i32 {
    if d == DType::F64 { -960 } else { -100 }
}

/// What each op may be off by where digits end: numbers below it count as 0.
fn floor(d: DType, has_small: bool) -> f64 {
    let end = float_format(d).map_or(0, |f| f.tiny() + 1);
    let e = if has_small { end.max(small(d)) } else { end };
    // `powi` of a subnormal is 1/∞.
    2f64.powi(e / 2) * 2f64.powi(e - e / 2)
}

/// The program with f64 for every float.
pub fn widened(p: &Program) -> Program {
    let mut p = p.clone();
    let f64_of = |d: DType| if d.is_float() { DType::F64 } else { d };
    for g in p.functions.values_mut() {
        g.types.iter_mut().for_each(|t| t.dtype = f64_of(t.dtype));
        for a in g.nodes.iter_mut().flat_map(|n| n.attrs.0.values_mut()) {
            match a {
                Attr::DType(d) => *d = f64_of(*d),
                Attr::Tensor(t) => *t = wide(t).into(),
                _ => {}
            }
        }
    }
    p
}

/// A tensor with f64 for floats.
pub fn wide(t: &Tensor) -> Tensor {
    if t.dtype().is_float() { t.cast(DType::F64) } else { t.clone() }
}

/// Weights and float constants as inputs, composites written out: all that is computed is seen. `None` where a weight is missing.
pub fn opened(p: &Program, inputs: &[Tensor], weights: &dyn Weights) -> Option<(Program, Vec<Tensor>)> {
    let (mut g, mut inputs) = (p.main().clone(), inputs.to_vec());
    let made = |n: &Node| n.op.name == "weight" || (n.op.name == "constant" && g.ty(n.results[0]).dtype.is_float());
    let (leaves, nodes): (Vec<Node>, Vec<Node>) = g.nodes.iter().cloned().partition(made);
    for n in leaves {
        inputs.push(match n.attrs.tensor("value") {
            Some(t) => (**t).clone(),
            None => weights.get(n.attrs.str("name")?).ok()?,
        });
        g.inputs.push(tahoma_core::Port { name: format!("leaf{}", inputs.len()), value: n.results[0] });
    }
    g.nodes = nodes;
    Some((Program::new(form::expand(&g).ok()?), inputs))
}

/// How many products or terms an element of the result sums.
fn summed(n: &Node, operands: &[Tensor], out: u64) -> f64 {
    let all = match n.op.kind {
        _ if operands.is_empty() => 1,
        Kind::Elementwise(_) | Kind::Move(_) => 1,
        Kind::Contract(Contract::MatMul) => operands[0].shape().last().copied().unwrap_or(1),
        Kind::Contract(Contract::Conv) => operands[1].shape()[1..].iter().product(),
        Kind::Window(_) => n.attrs.ints("window").unwrap_or_default().iter().product::<i64>() as usize,
        Kind::Scan(_) => n.attrs.int("axis").map_or(1, |a| operands[0].shape()[a as usize]),
        _ => operands[0].len().div_ceil(out.max(1) as usize),
    };
    all.max(1) as f64
}

fn is_sum(n: &Node) -> bool {
    matches!(n.op.kind, Kind::Contract(_) | Kind::Reduce(_) | Kind::Window(_) | Kind::Scan(_))
}

/// Whether an op's result is one of the numbers that it was given, or no number.
fn chooses(n: &Node) -> bool {
    let names = ["neg", "abs", "max", "min", "select", "reduce_max", "reduce_min", "max_pool", "sign", "floor", "ceil", "round"];
    matches!(n.op.kind, Kind::Move(_) | Kind::Gather | Kind::Scatter | Kind::Generate) || names.contains(&n.op.name)
}

/// Whether an op has poles: an infinity of its is what real arithmetic has, and no overflow.
fn has_poles(n: &Node) -> bool {
    ["div", "reciprocal", "rsqrt", "log", "pow", "atanh", "mod", "rem"].contains(&n.op.name)
}

/// Functions that samples of their operands do not tell the range of.
const TURNING: &[&str] = &["sin", "cos", "tan", "div", "reciprocal", "mod", "rem", "pow"];

/// Angles up to which devices take off turns; of larger ones their sines, cosines and tangents are anything (codegen's ACCURACY.md).
pub const DEVICE_TURN: f64 = 1e8;

/// What a device's sine or cosine of angles within [`DEVICE_TURN`] is off by at most (codegen's ACCURACY.md: 4.1e-7 of 1 + abs(exact)).
pub const DEVICE_SINE: f64 = 4.1e-7;

/// What a turning function may make of operands between `from` and `to`: it made `made` of the latter, and passes the rest on its way.
fn passed(name: &str, from: [f64; 2], to: [f64; 2], made: f64, on_device: bool) -> Vec<f64> {
    use std::f64::consts::{FRAC_PI_2, PI, TAU};
    let (low, high) = (from[0].min(to[0]), from[0].max(to[0]));
    // Whether a number `at + k·step` lies between.
    let meets = |at: f64, step: f64| ((high - at) / step).floor() > ((low - at) / step).floor();
    let crosses_zero = |i: usize| from[i] != 0.0 && from[i] * to[i].signum() <= 0.0;
    let wave = |top: f64| {
        let ends = [(top, 1.0), (top + PI, -1.0)].into_iter().filter(|e| meets(e.0, TAU)).map(|e| e.1);
        ends.chain([made]).collect()
    };
    let folded = |quotient: fn(f64) -> f64, most: f64| match quotient(from[0] / from[1]) == quotient(to[0] / to[1]) {
        true => vec![made],
        false => vec![made, 0.0, most],
    };
    let is_far = on_device && (low < -DEVICE_TURN || high > DEVICE_TURN);
    match name {
        "sin" | "cos" if is_far => vec![-1.0, made, 1.0],
        "tan" if is_far => vec![f64::NAN],
        "sin" => wave(FRAC_PI_2),
        "cos" => wave(0.0),
        "tan" if meets(FRAC_PI_2, PI) => vec![f64::NAN],
        "reciprocal" if crosses_zero(0) => vec![f64::NAN],
        "div" | "mod" | "rem" if crosses_zero(1) => vec![f64::NAN],
        "pow" if from[1].min(to[1]) < 0.0 && crosses_zero(0) => vec![f64::NAN],
        "mod" => folded(f64::floor, to[1]),
        "rem" => folded(f64::trunc, to[1].abs().copysign(to[0])),
        _ => vec![made],
    }
}

/// One of them: what is furthest from `is` in the first runs, then each in turn.
fn picked(all: &[f64], is: f64, run: u64, j: usize) -> f64 {
    let far = |x: f64| if x.is_nan() { f64::INFINITY } else { (x - is).abs() };
    match run {
        ..=4 => all.iter().copied().max_by(|x, y| far(*x).total_cmp(&far(*y))).unwrap_or(f64::NAN),
        _ => all[(j + run as usize) % all.len()],
    }
}

/// The elements of an operand that is broadcast to `shape`.
fn spread(t: &Tensor, shape: &[usize]) -> Vec<f64> {
    let (t, skip) = (t.contiguous(), shape.len() - t.rank());
    let stride = |i: usize| match i.checked_sub(skip) {
        Some(k) if t.shape()[k] > 1 => t.strides()[k],
        _ => 0,
    };
    let strides: Vec<isize> = (0..shape.len()).map(stride).collect();
    t.view(shape, &strides, t.offset()).to_f64s()
}

/// Evaluates an opened program op by op. `seen` may change what an op is given (before) and what it made (after).
pub fn evaluate(p: &Program, inputs: &[Tensor], seen: &mut dyn FnMut(usize, &Node, &mut [Tensor], bool)) -> Result<Vec<Tensor>, String> {
    let g = p.main();
    let mut env: Vec<Option<Tensor>> = vec![None; g.types.len()];
    g.inputs.iter().zip(inputs).for_each(|(i, t)| env[i.value.index()] = Some(t.clone()));
    for (i, n) in g.nodes.iter().enumerate() {
        let operands: Option<Vec<Tensor>> = n.operands.iter().map(|o| env[o.index()].clone()).collect();
        let mut operands = operands.ok_or("an operand is missing")?;
        seen(i, n, &mut operands, false);
        let mut results = (n.op.eval)(&EvalArgs { operands: &operands, attrs: &n.attrs }).map_err(|e| format!("{}: {e}", n.op.name))?;
        seen(i, n, &mut results, true);
        for (r, t) in n.results.iter().zip(results) {
            env[r.index()] = Some(t);
        }
    }
    g.outputs.iter().map(|o| env[o.value.index()].clone().ok_or_else(|| "an output is missing".into())).collect()
}

/// What a program means on some inputs, and how far its results may be from it.
#[derive(Clone, Debug)]
pub struct Bound {
    /// In f64.
    pub means: Vec<Tensor>,
    /// As written.
    pub written: Vec<Tensor>,
    /// For each element; infinite where it does not tell.
    pub may: Vec<Vec<f64>>,
}

/// Whether the bits of floats are looked at, which f64 has others of; or a float is smaller than the bound speaks of.
fn is_beyond(p: &Program) -> bool {
    let float = |g: &Graph, v| g.ty(v).dtype.is_float();
    let small = |t: &tahoma_core::TensorType| t.dtype.is_float() && (t.dtype.bits() < 16);
    p.functions.values().any(|g| {
        g.types.iter().any(small) || g.nodes.iter().any(|n| n.op.name == "bitcast" && float(g, n.operands[0]) | float(g, n.results[0]))
    })
}

/// What an op may be off by.
#[derive(Clone, Copy, Debug)]
pub enum Roundings {
    /// What is promised, by the types of the program.
    OfTypes,
    /// The same on a device, whose sines, cosines and tangents are less exact ([`DEVICE_TURN`], [`DEVICE_SINE`]).
    OnDevices,
    /// This share of each result and of each operand: whether a formula is the same at all.
    Each(f64),
}

/// `None` where the program as written does not run, or does not stay within its types: the bound says nothing then.
pub fn bound(p: &Program, inputs: &[Tensor], weights: &dyn Weights, by: Roundings) -> Option<Bound> {
    if is_beyond(p) {
        return None;
    }
    let (native, given) = opened(p, inputs, weights)?;
    let types: Vec<Vec<DType>> =
        native.main().nodes.iter().map(|n| n.results.iter().map(|&r| native.main().ty(r).dtype).collect()).collect();
    let home = |d: DType| 2f64.powi(crate::span::home(d).most as i32);
    let at_home = |d: DType, v: &[f64]| !d.is_float() || v.iter().all(|x| !x.is_finite() || x.abs() <= home(d));
    if !inputs.iter().all(|t| at_home(t.dtype(), &t.to_f64s())) {
        return None;
    }
    let is_small = |d: DType, x: f64| x != 0.0 && x.abs() < 2f64.powi(crate::span::home(d).least as i32);
    let has_small = inputs.iter().any(|t| t.dtype().is_float() && t.to_f64s().into_iter().any(|x| is_small(t.dtype(), x)));
    let p = widened(&native);
    let exact: Vec<Tensor> = given.iter().map(wide).collect();
    let mut steps: Vec<Vec<Vec<f64>>> = vec![];
    // What turning functions are given.
    let mut real: BTreeMap<usize, Vec<Tensor>> = BTreeMap::new();
    let turns = |n: &Node, t: &[Tensor]| TURNING.contains(&n.op.name) && t[0].dtype().is_float();
    let means = evaluate(&p, &exact, &mut |i, n, t, after| {
        if after {
            steps.push(t.iter().map(Tensor::to_f64s).collect());
        } else if turns(n, t) {
            real.insert(i, t.to_vec());
        }
    })
    .ok()?;
    // Where real arithmetic has a number, the program as written must have one.
    let mut within = true;
    let written = evaluate(&native, &given, &mut |i, n, t, after| {
        if after {
            for (t, real) in t.iter().zip(&steps[i]).filter(|(t, _)| t.dtype().is_float()) {
                let v = t.to_f64s();
                let is_none = |r: f64| r.is_nan() || (r.is_infinite() && (has_poles(n) || chooses(n)));
                let told = v.len() == real.len() && v.iter().zip(real).all(|(x, r)| x.is_finite() || is_none(*r));
                within &= told && (chooses(n) || at_home(t.dtype(), &v));
            }
        }
    })
    .ok()?;
    if !within {
        return None;
    }
    let (given, on_device) = (exact, matches!(by, Roundings::OnDevices));
    let [middle, as_written] = [&means, &written].map(|all| all.iter().map(Tensor::to_f64s).collect::<Vec<_>>());
    let own = |i: usize, j: usize, x: f64| {
        let y = as_written[i].get(j).filter(|_| x.is_finite() && written[i].shape() == means[i].shape());
        y.map_or(f64::INFINITY, |y| (x - y).abs())
    };
    let mut may: Vec<Vec<f64>> = middle.iter().map(|m| vec![0.0; m.len()]).collect();
    const RUNS: u64 = 8;
    for run in 1..=RUNS {
        // The second goes where the first did not: what is near a jump is on either side of it.
        let (mut random, side) = (Random::new(run.max(2)), if run == 1 { -1.0 } else { 1.0 });
        let mut given_now: Vec<Tensor> = vec![];
        let mut shaken = |i: usize, n: &Node, tensors: &mut [Tensor], after: bool| {
            if let Some(from) = real.get(&i).filter(|_| after) {
                let shape = tensors[0].shape().to_vec();
                let [from, to] = [from, &given_now].map(|all| all.iter().map(|t| spread(t, &shape)).collect::<Vec<_>>());
                let of = |all: &[Vec<f64>], j: usize| [all[0][j], all.get(1).map_or(0.0, |v| v[j])];
                let made = tensors[0].to_f64s().into_iter().enumerate();
                let is = &steps[i][0];
                let by = |j, x| passed(n.op.name, of(&from, j), of(&to, j), x, on_device);
                let one = |(j, x)| picked(&by(j, x), is.get(j).copied().unwrap_or(x), run, j);
                let made: Vec<f64> = made.map(one).collect();
                tensors[0] = Tensor::from_f64s(DType::F64, &shape, &made);
            }
            // A whole exponent of a negative base must stay whole: terms of sums and results are off, operands of functions are not.
            let each = matches!(by, Roundings::Each(_)) && n.op.name != "pow";
            // A maximum is one of its terms: it rounds none.
            if (!after && !each && (!is_sum(n) || chooses(n))) || (after && chooses(n)) {
                given_now = if real.contains_key(&i) { tensors.to_vec() } else { vec![] };
                return;
            }
            let out: u64 = n.results.iter().filter_map(|r| p.main().ty(*r).shape.elements()).sum();
            let terms = if after { 0.0 } else { summed(n, tensors, out) };
            for (k, t) in tensors.iter_mut().enumerate() {
                if !t.dtype().is_float() {
                    continue;
                }
                let d = if after { types[i][k] } else { types[i][0] };
                let Some(f) = float_format(d) else { continue };
                let off = match by {
                    Roundings::OfTypes | Roundings::OnDevices => UNITS * (f.unit() + terms * f.unit().min(2f64.powi(-24))),
                    Roundings::Each(share) => share,
                };
                let sine = after && on_device && ["sin", "cos"].contains(&n.op.name);
                let least = floor(d, has_small) + if sine { 2.0 * DEVICE_SINE } else { 0.0 };
                let mut shake = |x: f64| {
                    let r = random.signed();
                    let r = side * (r + r.signum()) / 2.0;
                    if x.is_finite() { x * (1.0 + off * r) + least * r } else { x }
                };
                let x: Vec<f64> = t.to_f64s().into_iter().map(&mut shake).collect();
                *t = Tensor::from_f64s(DType::F64, t.shape(), &x);
            }
            if !after && real.contains_key(&i) {
                given_now = tensors.to_vec();
            }
        };
        let out = evaluate(&p, &given, &mut shaken).unwrap_or_default();
        for (i, most) in may.iter_mut().enumerate() {
            let x = out.get(i).filter(|t| t.shape() == means[i].shape()).map(Tensor::to_f64s);
            for (j, m) in most.iter_mut().enumerate() {
                let same = |x: f64, y: f64| x == y || (x.is_nan() && y.is_nan());
                let off = |x: f64, y: f64| if same(x, y) { 0.0 } else { (x - y).abs() };
                let d = x.as_ref().map_or(f64::INFINITY, |x| off(x[j], middle[i][j]));
                *m = if d.is_finite() { m.max(d) } else { f64::INFINITY };
            }
        }
    }
    for (i, most) in may.iter_mut().enumerate() {
        let d = written[i].dtype();
        // What leaves is rounded too.
        let unit = float_format(d).map_or(0.0, |f| f.unit());
        for (j, m) in most.iter_mut().enumerate() {
            let x = middle[i][j];
            let same = as_written[i].get(j).is_some_and(|y| *y == x || (y.is_nan() && x.is_nan()));
            *m = match x.is_finite() {
                true => *m + own(i, j, x) + UNITS * unit * x.abs() + floor(d, has_small),
                // Where there is no number, there is none; but of a pole the sign of a zero decides.
                false if same => *m,
                false => f64::INFINITY,
            };
        }
    }
    Some(Bound { means, written, may })
}

impl Bound {
    /// The first element that is further off than it may be.
    pub fn holds(&self, got: &[Tensor]) -> Result<(), String> {
        if self.means.len() != got.len() {
            return Err(format!("{} outputs became {}", self.means.len(), got.len()));
        }
        for (i, (x, y)) in self.means.iter().zip(got).enumerate() {
            let (was, is) = (self.written[i].ty(), y.ty());
            if was.dtype != is.dtype {
                return Err(format!("output {i}: {was} became {is}"));
            }
            if x.shape() != y.shape() {
                // Positions of what is not 0, …: as many as there are.
                if self.may[i].contains(&f64::INFINITY) { continue } else { return Err(format!("output {i}: {was} became {is}")) }
            }
            let written = self.written[i].to_f64s();
            for (j, (p, q)) in x.to_f64s().iter().zip(y.to_f64s()).enumerate() {
                let may = self.may[i][j];
                let same = *p == q || (p.is_nan() && q.is_nan()) || may == f64::INFINITY;
                // An infinity may meet a 0 that was not there.
                let near = (p - q).abs() <= may || (p.is_infinite() && !q.is_finite());
                if !same && !near {
                    let was = written.get(j).copied().unwrap_or(f64::NAN);
                    return Err(format!("output {i} element {j}: {was:e} became {q:e}; it is {p:e} and may be off by {may:e}"));
                }
            }
        }
        Ok(())
    }
}
