//! How exact every function is on every target, over all magnitudes its arguments have: measured, and held to ACCURACY.md.
//!
//! An error is counted in representable numbers of the result's type between the result and the exact value rounded to that type: a
//! measure that holds for huge, subnormal and overflowing results alike. Beside it stands the largest error relative to 1 + |exact|, which
//! is what counts where the function has zeros. Arguments are every magnitude of the type: of f16 and bf16 one number in 32,
//! of f32 the same number of each power of two, as many again from 2⁻⁸ to 2²⁷, and the edges.
//!
//! `BLESS=1 cargo test -p tahoma-codegen --test accuracy` writes the file anew.

mod common;

use common::emulate;
use std::fmt::Write;
use tahoma_codegen::trn2;
use tahoma_core::graph::{Builder, Program};
use tahoma_core::kernel::KernelSpec;
use tahoma_core::op::EvalArgs;
use tahoma_core::random::Random;
use tahoma_core::scalar::{Binary, Unary};
use tahoma_core::{Attrs, DType, Tensor, TensorType, eval, form, ops};
use tahoma_mlir::Session;
use tahoma_sim::nki::{HbmTensor, simulate};

const TYPES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];
const TARGETS: [&str; 3] = ["interp", "trn2-sim", "ptx-emu"];

/// A function as a graph of one op over its inputs, some of which may be numbers.
struct Function {
    name: String,
    op: &'static str,
    attrs: Attrs,
    /// Of a binary op: the second operand, where it is a number.
    second: Option<f64>,
    operands: usize,
    /// Which arguments count for this row.
    range: &'static str,
    within: fn(f64, f64) -> bool,
}

fn anywhere(_: f64, _: f64) -> bool {
    true
}

fn row(op: &'static str, operands: usize) -> Function {
    Function { name: op.into(), op, attrs: Attrs::new(), second: None, operands, range: "all", within: anywhere }
}

impl Function {
    fn over(self, range: &'static str, within: fn(f64, f64) -> bool) -> Function {
        Function { range, within, ..self }
    }
    fn by(self, second: f64) -> Function {
        Function { name: format!("{} by {second:e}", self.op), second: Some(second), ..self }
    }
}

fn functions() -> Vec<Function> {
    let skipped = [Unary::Not, Unary::BitNot, Unary::IsNan, Unary::IsInf];
    let mut all: Vec<Function> = vec![];
    for u in Unary::ALL.iter().filter(|u| !skipped.contains(u)) {
        all.push(row(u.name(), 1));
        if matches!(u, Unary::Sin | Unary::Cos | Unary::Tan) {
            all.push(row(u.name(), 1).over("abs(x) ≤ 10⁵", |x, _| x.abs() <= 1e5));
            all.push(row(u.name(), 1).over("abs(x) ≤ 10⁸", |x, _| x.abs() <= 1e8));
        }
    }
    for b in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Mod, Binary::Rem, Binary::Pow, Binary::Max, Binary::Min] {
        all.push(row(b.name(), 2));
    }
    // What the pairs of all magnitudes hardly meet: a power that is finite.
    all.push(row("pow", 2).over("2⁻¹²⁰ to 2¹²⁰", |x, y| x > 0.0 && (y * x.log2()).abs() <= 120.0));
    for c in [3.0, 1e-39, 1e38, -0.0] {
        all.push(row("div", 2).by(c));
    }
    for c in [0.5, 2.0, 3.0, -1.0, 1.5] {
        all.push(row("pow", 2).by(c));
    }
    let activations = ["gelu", "gelu_tanh", "silu", "softplus", "softsign", "mish", "hard_swish"];
    all.extend(activations.map(|op| row(op, 1)));
    all.push(Function { attrs: Attrs::new().with("alpha", 1.0), ..row("elu", 1) });
    all.push(Function { attrs: Attrs::new().with("alpha", 0.2).with("beta", 0.5), ..row("hard_sigmoid", 1) });
    all
}

/// How many arguments each measurement has, besides the edges.
const SAMPLES: usize = 1 << 11;
/// Of 16-bit types one number in so many.
const STEP: usize = (1 << 16) / SAMPLES;

/// Arguments of all magnitudes, then the edges. The seed tells first from second operands.
fn arguments(d: DType, seed: u64) -> Vec<f64> {
    let mut random = Random::new(seed);
    let mut v: Vec<f64> = match d {
        DType::F32 => (0..SAMPLES)
            .map(|i| {
                let fraction = random.bits() as u32 & 0x7f_ffff;
                // Every power of two and sign; and as often the powers from 2⁻⁸ to 2²⁷, where most of a model's numbers are.
                let (k, half) = (i as u32 / 2, i % 2 == 1);
                let exponent = if half { (k % 36 + 119) | ((k / 36 % 2) << 8) } else { k % 512 };
                f64::from(f32::from_bits((exponent << 23) | fraction))
            })
            .collect(),
        _ => {
            let shift = random.below(STEP);
            let codes: Vec<u8> = (0..SAMPLES).flat_map(|i| ((STEP * i + (shift + i / 7) % STEP) as u16).to_le_bytes()).collect();
            Tensor::from_bytes(d, &[SAMPLES], &codes).expect("two bytes each").to_f64s()
        }
    };
    // The second of a pair has another order.
    if seed & 1 == 1 {
        for i in (1..v.len()).rev() {
            v.swap(i, random.below(i + 1));
        }
    }
    let edges = [
        0.0,
        -0.0,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        1.0,
        -1.0,
        0.5,
        2.5,
        -2.5,
        1e5,
        65504.0,
        131_071.0,
        8_388_609.0,
        -16_777_216.0,
        f64::from(f32::MAX),
        f64::from(f32::MIN),
        1e-45,
        -1e-40,
        std::f64::consts::PI,
        88.8,
        -103.9,
    ];
    let at = random.below(edges.len());
    v.extend((0..edges.len()).map(|i| edges[(i + if seed & 1 == 1 { at } else { 0 }) % edges.len()]));
    v
}

/// Places of a type's numbers in order, −0 and 0 one place; one more place beyond the largest finite number.
fn place(d: DType, x: f64) -> i64 {
    let bits = |t: Tensor| {
        let b = t.to_bytes();
        b.iter().rev().fold(0i64, |n, &b| n << 8 | i64::from(b))
    };
    let code = bits(Tensor::from_f64s(d, &[], &[x.abs()]));
    if x < 0.0 { -code } else { code }
}

/// What was measured of one function in one type on one target.
#[derive(Clone, Default)]
struct Measured {
    /// Representable numbers between, and where.
    places: i64,
    at: String,
    /// Error over 1 + |exact|.
    relative: f64,
    /// NaN, infinity or the sign of zero come out otherwise: how often, and one of them.
    special: usize,
    example: String,
}

fn measure(f: &Function, d: DType, x: &[Vec<f64>], exact: &[f64], got: &[f64]) -> Measured {
    let rounded = Tensor::from_f64s(d, &[exact.len()], exact).to_f64s();
    let mut m = Measured::default();
    for i in 0..exact.len() {
        let y = x.get(1).map_or(f.second.unwrap_or(0.0), |v| v[i]);
        if !(f.within)(x[0][i], y) {
            continue;
        }
        let (g, w) = (got[i], rounded[i]);
        let said = || match x.len() {
            1 => format!("{:e}", x[0][i]),
            _ => format!("({:e}, {y:e})", x[0][i]),
        };
        // Overflow by rounding is one place beyond the largest number; infinity of a finite argument's exact pole is not.
        let far = g.is_infinite() != w.is_infinite() && exact[i].is_infinite();
        if g.is_nan() != w.is_nan() || far || (w == 0.0 && g == 0.0 && g.is_sign_negative() != w.is_sign_negative()) {
            m.special += 1;
            if m.example.is_empty() {
                m.example = format!("{g:e} for {w:e} at {}", said());
            }
            continue;
        }
        if w.is_nan() {
            continue;
        }
        let places = (place(d, g) - place(d, w)).abs();
        if places > m.places {
            (m.places, m.at) = (places, said());
        }
        if g.is_finite() && w.is_finite() {
            m.relative = m.relative.max((g - exact[i]).abs() / (1.0 + exact[i].abs()));
        }
    }
    m
}

fn graph(f: &Function, d: DType, n: usize) -> tahoma_core::Graph {
    let mut b = Builder::new("k");
    let mut x: Vec<_> =
        (0..if f.second.is_some() { 1 } else { f.operands }).map(|i| b.input(&format!("x{i}"), TensorType::known(d, &[n]))).collect();
    if let Some(c) = f.second {
        x.push(b.constant(Tensor::from_f64s(d, &[], &[c])));
    }
    let y = b.op(f.op, &x, f.attrs.clone()).unwrap_or_else(|e| panic!("{}: {e}", f.name));
    b.output("y", y);
    b.finish()
}

fn on_trn2(spec: &KernelSpec, inputs: &[Tensor]) -> Option<Vec<f64>> {
    let k = trn2::lower(spec, "a test").ok()?;
    let bytes: Vec<Vec<u8>> = inputs.iter().map(Tensor::to_bytes).collect();
    let args: Vec<HbmTensor> = bytes.iter().zip(&k.program.params).map(|(b, p)| HbmTensor::new(p.dtype, &p.shape, b.as_slice())).collect();
    let out = simulate(&k.program, &args, &tahoma_sim::nki::Options::default()).unwrap_or_else(|e| panic!("{e}\n{}", k.nki));
    let t = &spec.outputs[0];
    Some(Tensor::from_bytes(t.dtype, &t.shape.to_static()?, &out.outputs[0].data)?.to_f64s())
}

/// The exact value: the op in f64, but where f64's own functions lose bits.
fn exact(f: &Function, x: &[Vec<f64>]) -> Vec<f64> {
    let of = |g: fn(f64) -> f64| x[0].iter().map(|&v| g(v)).collect();
    match f.op {
        "atanh" => return of(|v| v.signum() * 0.5 * (2.0 * v.abs() / (1.0 - v.abs())).ln_1p() + v * 0.0),
        "acosh" => {
            let small = |v: f64| ((v - 1.0) + ((v - 1.0) * (v + 1.0)).sqrt()).ln_1p();
            return x[0]
                .iter()
                .map(|&v| {
                    if v < 1.0 {
                        f64::NAN
                    } else if v > 1e100 {
                        v.acosh()
                    } else {
                        small(v)
                    }
                })
                .collect();
        }
        "asinh" => return of(|v| if v.abs() < 1e-6 { v } else { v.asinh() }),
        "softplus" => return of(|v| v.max(0.0) + (-v.abs()).exp().ln_1p()),
        "gelu" => return of(|v| v * 0.5 * libm::erfc(-v * std::f64::consts::FRAC_1_SQRT_2)),
        "elu" => return of(|v| if v < 0.0 { v.exp_m1() } else { v }),
        _ => {}
    }
    let n = x[0].len();
    let mut operands: Vec<Tensor> = x.iter().map(|v| Tensor::from_f64s(DType::F64, &[n], v)).collect();
    if let Some(c) = f.second {
        operands.push(Tensor::from_f64s(DType::F64, &[], &[c]));
    }
    let op = ops::find(f.op).expect("an op");
    (op.eval)(&EvalArgs { operands: &operands, attrs: &f.attrs }).unwrap_or_else(|e| panic!("{}: {e}", f.name))[0].to_f64s()
}

/// One cell: what was measured, or that the function runs on the host.
type Cell = Option<Measured>;

fn all_cells() -> Vec<(Function, DType, Vec<Cell>)> {
    let session = Session::new().expect("MLIR");
    let mut out = vec![];
    // Rows of one op and type share their runs.
    let mut last: Option<(String, DType, Vec<Option<Vec<f64>>>)> = None;
    for f in functions() {
        for d in TYPES {
            // A number that the type does not hold is another number.
            let f = match f.second {
                Some(c) => Function { second: Some(Tensor::from_f64s(d, &[], &[c]).to_f64s()[0]), ..copy(&f) },
                None => copy(&f),
            };
            let count = if f.second.is_some() { 1 } else { f.operands };
            let mut x: Vec<Vec<f64>> = (0..count).map(|i| arguments(d, 11 + i as u64)).collect();
            if f.op == "pow" && f.range != "all" {
                // Bases near 1 and exponents of their size.
                let mut random = Random::new(5);
                x[0] = x[0].iter().map(|_| 2f64.powf(8.0 * random.signed())).collect();
                x[1] = x[1].iter().map(|_| 32.0 * random.signed()).collect();
            }
            let n = x[0].len();
            let inputs: Vec<Tensor> = x.iter().map(|v| Tensor::from_f64s(d, &[n], v)).collect();
            let x: Vec<Vec<f64>> = inputs.iter().map(Tensor::to_f64s).collect();
            let key = format!("{} {:?} {}", f.name, f.second.map(f64::to_bits), f.op == "pow" && f.range != "all");
            let same = last.take().filter(|l| l.0 == key && l.1 == d).map(|l| l.2);
            let got = same.unwrap_or_else(|| {
                let g = graph(&f, d, n);
                let spec = form::form(&g, "k").unwrap_or_else(|e| panic!("{}: {e}", f.name));
                let interp = eval::run(&Program::new(g), "main", &inputs, &eval::NoWeights).unwrap_or_else(|e| panic!("{e}"));
                vec![Some(interp[0].to_f64s()), on_trn2(&spec, &inputs), Some(emulate(&session, &spec, &inputs, "sm_90a").1[0].to_f64s())]
            });
            let want = exact(&f, &x);
            let cells = got.iter().map(|g| g.as_ref().map(|g| measure(&f, d, &x, &want, g))).collect();
            last = Some((key, d, got));
            out.push((f, d, cells));
        }
    }
    out
}

fn copy(f: &Function) -> Function {
    Function { name: f.name.clone(), attrs: f.attrs.clone(), ..*f }
}

const HEAD: &str = "# How exact every function is

Measured by [`compiler/codegen/tests/accuracy.rs`](tests/accuracy.rs) on the reference interpreter, the NeuronCore simulator and the PTX
emulator, and held by it: the test fails where an error grows. `BLESS=1 cargo test -p tahoma-codegen --test accuracy` writes this file.

Each cell: the most representable numbers of the type between the result and the exact value rounded to the type (0: correctly rounded
everywhere; overflow is one number beyond the largest), the argument where that is, and after the semicolon the largest error over
1 + abs(exact). Arguments are all magnitudes of the type, subnormal numbers, infinities and NaN among them: 2,048 and the edges of each.
*differs* counts arguments where NaN, infinity or the sign of zero come out otherwise, with one of them. *host*: the target has no
instruction for it, and the op runs in the interpreter.

The simulator takes the Scalar engine's functions for exact: AWS does not publish their polynomials, and inputs outside of the documented
ranges (log beyond 2^±64, sqrt beyond 2^118) give a warning. On Trainium2 the activation rows say what the kernel's own steps lose.

| function | arguments | type | interp | trn2-sim | ptx-emu |
|---|---|---|---|---|---|
";

fn show(c: &Cell) -> String {
    let Some(m) = c else { return "host".into() };
    let mut s = m.places.to_string();
    if m.places > 0 {
        let _ = write!(s, " at {}", m.at);
    }
    let _ = write!(s, "; {:.1e}", m.relative);
    if m.special > 0 {
        let _ = write!(s, "; differs {}: {}", m.special, m.example);
    }
    s
}

/// Places, relative error and special results of a cell of the file; `None`: on the host.
fn read(cell: &str) -> Option<(i64, f64, usize)> {
    if cell == "host" {
        return None;
    }
    let mut parts = cell.split("; ");
    let places = parts.next()?.split(' ').next()?.parse().ok()?;
    let relative = parts.next()?.parse().ok()?;
    let special = parts.next().map_or(Some(0), |p| p.strip_prefix("differs ")?.split(':').next()?.parse().ok())?;
    Some((places, relative, special))
}

#[test]
fn every_function_is_as_exact_as_the_file_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/ACCURACY.md");
    let mut text = HEAD.to_string();
    let file = std::fs::read_to_string(path).unwrap_or_default();
    let held: std::collections::BTreeMap<String, Vec<&str>> = file
        .lines()
        .filter_map(|l| {
            let cells: Vec<&str> = l.trim_matches('|').split(" | ").map(str::trim).collect();
            (cells.len() == 6).then(|| (cells[..3].join(" | "), cells[3..].to_vec()))
        })
        .collect();
    let (mut worse, mut rows) = (vec![], 0);
    for (f, d, cells) in all_cells() {
        let key = format!("{} | {} | {d}", f.name, f.range);
        let shown: Vec<String> = cells.iter().map(show).collect();
        let _ = writeln!(text, "| {key} | {} |", shown.join(" | "));
        rows += 1;
        for (k, c) in cells.iter().enumerate() {
            let Some(line) = held.get(&key) else {
                worse.push(format!("{key}: not in the file"));
                break;
            };
            let ok = match (c, read(line[k])) {
                (None, None) => true,
                // What is printed has two digits.
                (Some(m), Some((p, r, s))) => m.places <= p && m.relative <= r * 1.06 + 1e-12 && m.special <= s,
                _ => false,
            };
            if !ok {
                worse.push(format!("{key} on {}: {}, the file says {}", TARGETS[k], shown[k], line[k]));
            }
        }
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, text).unwrap();
        return;
    }
    assert!(worse.is_empty(), "{} worse than ACCURACY.md:\n{}", worse.len(), worse.join("\n"));
    assert_eq!(held.len(), rows + 1, "ACCURACY.md has rows that nothing measures: write it anew with BLESS=1");
}
