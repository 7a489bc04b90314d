//! The table holds to itself: examples, inference against evaluation, views against copies, composites against their definitions,
//! contractions against plain loops, and the reference against the file.

use super::common::eval_by;
use super::moves::reshape;
use super::{OPS, docs, find};
use crate::attr::Attrs;
use crate::compare::allclose;
use crate::graph::Builder;
use crate::kernel_eval;
use crate::literal::{parse_example, print_tensor};
use crate::op::*;
use crate::random::Random;
use crate::scalar::{Binary, Compare, Unary};
use crate::tensor::{Tensor, contiguous_strides};
use crate::types::{DType, Dim, Shape, TensorType};

struct Rng(Random);

impl Rng {
    fn new(seed: u64) -> Rng {
        Rng(Random::new(seed))
    }
    fn below(&mut self, n: usize) -> usize {
        self.0.below(n)
    }
    fn shape(&mut self, rank: usize) -> Vec<usize> {
        (0..rank).map(|_| if self.below(24) == 0 { 0 } else { [1, 2, 3, 5][self.below(4)] }).collect()
    }
    /// Numbers in (−4, 4), some of them special; integers in −4..=4.
    fn tensor(&mut self, dtype: DType, shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        let v: Vec<f64> = (0..n)
            .map(|_| match self.below(16) {
                0 => 0.0,
                1 if dtype.is_float() => f64::NAN,
                2 if dtype.is_float() => f64::INFINITY,
                _ if dtype.is_float() => self.below(8000) as f64 / 1000.0 - 4.0,
                _ if dtype.is_signed_int() => self.below(9) as f64 - 4.0,
                _ => self.below(4) as f64,
            })
            .collect();
        Tensor::from_f64s(dtype, shape, &v)
    }
    fn finite(&mut self, dtype: DType, shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        let v: Vec<f64> = (0..n).map(|_| self.below(4000) as f64 / 1000.0 - 2.0).collect();
        Tensor::from_f64s(dtype, shape, &v)
    }
    /// The same value as a view with gaps, some axes walked backwards.
    fn strided(&mut self, t: &Tensor) -> Tensor {
        if t.is_empty() {
            return t.clone();
        }
        let gaps: Vec<usize> = t.shape().iter().map(|_| 1 + self.below(2)).collect();
        let wide: Vec<usize> = t.shape().iter().zip(&gaps).map(|(n, g)| n * g + 1).collect();
        let steps = contiguous_strides(&wide);
        let (mut offset, mut strides) = (0usize, vec![]);
        for d in 0..t.rank() {
            let s = steps[d] * gaps[d] as isize;
            if self.below(2) == 0 {
                strides.push(s);
            } else {
                offset += (t.shape()[d] - 1) * s as usize;
                strides.push(-s);
            }
        }
        // Write the values through the view: scatter into a wide buffer.
        let hole = Tensor::full(t.dtype(), &wide, 1.0).contiguous();
        let at: Vec<usize> = hole.view(t.shape(), &strides, offset).storage_indices();
        let out = crate::kernels::by_storage!(t.buffer(), T => crate::kernels::gather::scatter::<T>(&hole, &at, t, |_, v| v));
        out.view(t.shape(), &strides, offset)
    }
}

fn infer(op: &OpDef, x: &[Tensor], attrs: &Attrs) -> Result<Vec<TensorType>, OpError> {
    let types: Vec<TensorType> = x.iter().map(Tensor::ty).collect();
    let consts: Vec<Option<&Tensor>> = x.iter().map(Some).collect();
    (op.infer)(&InferArgs { operands: &types, attrs, consts: &consts, fresh: Fresh("f", 0) })
}

/// Whether a value has an inferred type; symbols take any extent.
fn fits(t: &Tensor, ty: &TensorType) -> bool {
    t.dtype() == ty.dtype
        && t.rank() == ty.rank()
        && t.shape().iter().zip(&ty.shape.0).all(|(&n, d)| d.known().is_none_or(|m| m == n as u64))
}

/// Runs an op on values and on views of them: same bits, of the inferred type. Gives the result.
fn check(rng: &mut Rng, op: &OpDef, x: &[Tensor], attrs: &Attrs) -> Option<Vec<Tensor>> {
    let types = infer(op, x, attrs).unwrap_or_else(|e| panic!("{op:?}: {e}"));
    let views: Vec<Tensor> = x.iter().map(|t| rng.strided(t)).collect();
    for (t, v) in x.iter().zip(&views) {
        assert_eq!(t, v);
    }
    let a = (op.eval)(&EvalArgs { operands: x, attrs });
    let b = (op.eval)(&EvalArgs { operands: &views, attrs });
    let (a, b) = match (a, b) {
        (Ok(a), Ok(b)) => (a, b),
        (Err(e), Err(f)) => {
            assert_eq!(e.message, f.message);
            return None;
        }
        (a, b) => panic!("{op:?}: {a:?} but on views {b:?}"),
    };
    let text = || x.iter().map(print_tensor).collect::<Vec<_>>().join(", ");
    for ((a, b), t) in a.iter().zip(&b).zip(&types) {
        assert!(fits(a, t), "{op:?}({}): {} but inferred {t}", text(), a.ty());
        assert!(allclose(b, a, 0.0, 0.0).is_ok(), "{op:?}({}): {} but on views {}", text(), print_tensor(a), print_tensor(b));
    }
    assert_eq!(a.len(), types.len());
    Some(a)
}

/// Ops without examples: what they mean is not in their operands.
const WITHOUT: &[&str] = &["constant", "weight", "call", "if", "loop", "scan"];

#[test]
fn every_example_holds() {
    let mut rng = Rng::new(1);
    for op in OPS.iter() {
        assert_eq!(op.examples.is_empty(), WITHOUT.contains(&op.name), "ml.{} and its examples", op.name);
        for text in op.examples {
            let e = parse_example(text).unwrap_or_else(|m| panic!("{text}: {m}"));
            assert_eq!(e.op.name, op.name);
            let got = e.run().unwrap_or_else(|m| panic!("{text}: {m}"));
            assert_eq!(got.len(), e.results.len(), "{text}");
            for (g, want) in got.iter().zip(&e.results) {
                allclose(g, want, 1e-6, 1e-6).unwrap_or_else(|m| panic!("{text}: {m}"));
            }
            check(&mut rng, op, &e.operands, &e.attrs);
        }
    }
}

#[test]
fn names_are_single_and_signatures_whole() {
    let mut names: Vec<&str> = OPS.iter().map(|o| o.name).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|w| w[0] != w[1]));
    for op in OPS.iter() {
        assert!(!op.doc.is_empty(), "{op:?}");
        assert!(op.operands.iter().rev().skip(1).all(|o| !o.variadic), "{op:?}");
    }
    let scalars =
        Unary::ALL.iter().map(|u| u.name()).chain(Binary::ALL.iter().map(|b| b.name())).chain(Compare::ALL.iter().map(|c| c.name()));
    for n in scalars {
        assert!(matches!(find(n).map(|o| &o.kind), Some(Kind::Elementwise(_))), "{n}");
    }
}

#[test]
fn the_reference_is_fresh() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/OPS.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, docs()).unwrap();
    }
    let file = std::fs::read_to_string(path).unwrap_or_default();
    assert!(file == docs(), "ir/core/OPS.md is not what ops::docs() prints; run with BLESS=1");
}

fn elementwise_attrs(op: &OpDef, rng: &mut Rng) -> Attrs {
    op.attrs.iter().fold(Attrs::new(), |a, d| match d.ty {
        AttrType::Bool => a.with(d.name, rng.below(2) == 0),
        AttrType::DType => {
            let all: Vec<DType> = DType::all().collect();
            a.with(d.name, all[rng.below(all.len())])
        }
        AttrType::Float => a.with(d.name, 0.5),
        _ => a,
    })
}

#[test]
fn elementwise_ops_agree_on_views_in_every_type() {
    let mut rng = Rng::new(2);
    for op in OPS.iter().filter(|o| matches!(o.kind, Kind::Elementwise(_))) {
        for d in DType::all() {
            if !op.operands.last().unwrap().types.has(d) {
                continue;
            }
            for _ in 0..4 {
                let rank = rng.below(4);
                let full = rng.shape(rank);
                let x: Vec<Tensor> = op
                    .operands
                    .iter()
                    .map(|o| {
                        let skip = rng.below(rank + 1);
                        let s: Vec<usize> = full[skip..].iter().map(|&n| if rng.below(3) == 0 { 1 } else { n }).collect();
                        rng.tensor(if o.types == TypeSet::Bool { DType::Bool } else { d }, &s)
                    })
                    .collect();
                let attrs = elementwise_attrs(op, &mut rng);
                check(&mut rng, op, &x, &attrs);
            }
        }
    }
}

#[test]
fn scalar_functions_are_those_of_the_kernel_judge() {
    let mut rng = Rng::new(3);
    for d in [DType::F64, DType::I64, DType::I8, DType::U8, DType::I4, DType::U64] {
        let x = rng.tensor(d, &[200]);
        let value = |t: &Tensor, i: usize| {
            if d.is_float() {
                kernel_eval::Value::F(t.to_f64s()[i])
            } else {
                kernel_eval::Value::I(t.cast(DType::I64).to_ints().unwrap()[i])
            }
        };
        for &u in Unary::ALL {
            let op = find(u.name()).unwrap();
            if !op.operands[0].types.has(d) || u == Unary::IsInf {
                continue;
            }
            let got = (op.eval)(&EvalArgs { operands: std::slice::from_ref(&x), attrs: &Attrs::new() }).unwrap().remove(0);
            for i in 0..200 {
                let want = kernel_eval::unary(u, value(&x, i), d);
                let want = match want {
                    kernel_eval::Value::F(v) => Tensor::from_f64s(got.dtype(), &[], &[v]),
                    kernel_eval::Value::I(v) => Tensor::from_i64s(got.dtype(), &[], &[v]),
                };
                let got = got.view(&[], &[], i);
                assert!(
                    allclose(&got, &want, 1e-15, 1e-15).is_ok(),
                    "{} of {}: {} not {}",
                    u.name(),
                    x.to_f64s()[i],
                    got.summary(),
                    want.summary()
                );
            }
        }
    }
}

#[test]
fn reductions_scans_and_moves_agree_on_views() {
    let mut rng = Rng::new(4);
    let types = [DType::F32, DType::F16, DType::F64, DType::I64, DType::I8, DType::U4, DType::Bool, DType::F8E5M2];
    for round in 0..200 {
        let d = types[round % types.len()];
        let rank = 1 + rng.below(4);
        let s = rng.shape(rank);
        let x = rng.tensor(d, &s);
        let axes: Vec<i64> = (0..rank as i64).filter(|_| rng.below(2) == 0).collect();
        for op in OPS.iter().filter(|o| o.operands.first().is_some_and(|p| p.types.has(d))) {
            let attrs = match op.kind {
                Kind::Reduce(_) => Attrs::new().with("axes", axes.clone()).with("keepdims", rng.below(2) == 0),
                Kind::Scan(_) => Attrs::new()
                    .with("axis", rng.below(rank) as i64)
                    .with("exclusive", rng.below(2) == 0)
                    .with("reverse", rng.below(2) == 0),
                _ => continue,
            };
            // Another order of the same sums may round otherwise: copies of views keep the order, so bits agree.
            check(&mut rng, op, std::slice::from_ref(&x), &attrs);
        }
        let mut perm: Vec<i64> = (0..rank as i64).collect();
        for i in (1..rank).rev() {
            perm.swap(i, rng.below(i + 1));
        }
        let t = check(&mut rng, find("transpose").unwrap(), std::slice::from_ref(&x), &Attrs::new().with("perm", perm)).unwrap().remove(0);
        let flat = check(&mut rng, find("reshape").unwrap(), std::slice::from_ref(&t), &Attrs::new().with("shape", vec![x.len() as i64]))
            .unwrap()
            .remove(0);
        assert_eq!(flat.to_bytes(), t.contiguous().to_bytes());
        let pads = |rng: &mut Rng| (0..rank).map(|_| rng.below(4) as i64 - 1).collect::<Vec<i64>>();
        let (low, high, interior) = (pads(&mut rng), pads(&mut rng), (0..rank).map(|_| rng.below(2) as i64).collect::<Vec<i64>>());
        let at = Attrs::new().with("low", low).with("high", high).with("interior", interior).with("value", 1.0);
        if infer(find("pad").unwrap(), std::slice::from_ref(&x), &at).is_ok() {
            check(&mut rng, find("pad").unwrap(), std::slice::from_ref(&x), &at);
        }
        let (mut starts, mut sizes, mut steps) = (vec![], vec![], vec![]);
        for &n in &s {
            let size = if n == 0 { 0 } else { 1 + rng.below(n) };
            let back = rng.below(2) == 0;
            starts.push(if size == 0 {
                0
            } else if back {
                n - 1
            } else {
                n - size
            } as i64);
            sizes.push(size as i64);
            steps.push(if back { -1 } else { 1 });
        }
        check(
            &mut rng,
            find("slice").unwrap(),
            std::slice::from_ref(&x),
            &Attrs::new().with("starts", starts).with("sizes", sizes).with("steps", steps),
        );
        let axis = Attrs::new().with("axis", rng.below(rank) as i64);
        check(&mut rng, find("concat").unwrap(), &[x.clone(), t.view(&s, &vec![0; rank], 0), x], &axis);
    }
}

#[test]
fn reshapes_of_views_keep_the_order() {
    let mut rng = Rng::new(5);
    for _ in 0..500 {
        let rank = 1 + rng.below(4);
        let s: Vec<usize> = (0..rank).map(|_| [1, 2, 3, 4, 6][rng.below(5)]).collect();
        let x = rng.finite(DType::F32, &s);
        let v = rng.strided(&x);
        // Split and join at random: factors of the element count.
        let (mut rest, mut to) = (x.len(), vec![]);
        while rest > 1 {
            let f = (1..=rest).filter(|f| rest.is_multiple_of(*f)).nth(rng.below(3)).unwrap_or(rest);
            to.push(f);
            rest /= f;
            if to.len() > 6 {
                to.push(rest);
                break;
            }
        }
        assert_eq!(reshape(&v, &to).to_f64s(), x.to_f64s());
    }
}

#[test]
fn composites_are_their_definitions_bit_by_bit() {
    let mut rng = Rng::new(6);
    for op in OPS.iter() {
        let Kind::Composite(expand) = op.kind else { continue };
        for round in 0..8 {
            let example = parse_example(op.examples[0]).unwrap();
            let (mut x, mut attrs) = (example.operands, example.attrs);
            // Larger operands where shapes are free.
            if x.len() == 1 && attrs.get("axes").is_none() && attrs.get("dtype").is_none() {
                let s = [2, 3, [1, 7, 33, 130][round % 4]];
                x = vec![if round < 4 { rng.finite(DType::F32, &s) } else { rng.tensor(DType::F32, &s) }];
                if attrs.get("axis").is_some() {
                    attrs = attrs.with("axis", 2);
                }
            } else if op.name == "layer_norm" {
                let n = [4, 9, 64, 300][round % 4];
                x = vec![rng.finite(DType::F32, &[5, n]), rng.finite(DType::F32, &[n]), rng.finite(DType::F32, &[n])];
            } else if op.name == "batch_norm" {
                let n = [1, 7, 64, 300][round % 4];
                x = vec![rng.finite(DType::F32, &[2, 5, n, 3])];
                x.extend((0..3).map(|_| rng.finite(DType::F32, &[5])));
                x.push(Tensor::f32(&[5], vec![0.5, 1.0, 2.0, 0.01, 3.0]));
            } else if op.name == "clip" {
                x = vec![rng.tensor(DType::F32, &[40]), Tensor::f32(&[], vec![-1.0]), Tensor::f32(&[], vec![2.0])];
            }
            let a = EvalArgs { operands: &x, attrs: &attrs };
            let (quick, slow) = ((op.eval)(&a).unwrap(), eval_by(expand, &a).unwrap());
            for (q, s) in quick.iter().zip(&slow) {
                assert!(allclose(q, s, 0.0, 0.0).is_ok(), "{op:?}: {} but defined as {}", print_tensor(q), print_tensor(s));
            }
            check(&mut rng, op, &x, &attrs);
        }
    }
}

#[test]
fn matmul_is_the_plain_sum() {
    let mut rng = Rng::new(7);
    for round in 0..60 {
        let d = [DType::F32, DType::F64, DType::I64, DType::I8, DType::BF16, DType::U8][round % 6];
        let (m, k, n) = (1 + rng.below(70), rng.below(40), 1 + rng.below(90));
        let (sa, sb): (Vec<usize>, Vec<usize>) = match round % 5 {
            0 => (vec![m, k], vec![k, n]),
            1 => (vec![3, m, k], vec![k, n]),
            2 => (vec![2, 1, m, k], vec![3, k, n]),
            3 => (vec![k], vec![2, k, n]),
            _ => (vec![m, k], vec![k]),
        };
        let (a, b) = (rng.finite(d, &sa), rng.finite(d, &sb));
        let y = check(&mut rng, find("matmul").unwrap(), &[a.clone(), b.clone()], &Attrs::new()).unwrap().remove(0);
        let (fa, fb) = (a.to_f64s(), b.to_f64s());
        // The plain sum in f64, element by element.
        let (rows, cols) = (if sa.len() == 1 { 1 } else { m }, if sb.len() == 1 { 1 } else { n });
        let lead = y.len() / (rows * cols);
        let want: Vec<f64> = (0..y.len())
            .map(|i| {
                let (b_, r, c) = (i / (rows * cols), i / cols % rows, i % cols);
                let (ba, bb) = match round % 5 {
                    1 => (b_, 0),
                    2 => (b_ / 3, b_ % 3),
                    3 => (0, b_),
                    _ => (0, 0),
                };
                (0..k).map(|l| fa[(ba * rows + r) * k + l] * fb[(bb * k + l) * cols + c]).sum()
            })
            .collect();
        assert!(lead > 0);
        let want = Tensor::from_f64s(DType::F64, y.shape(), &want);
        let (rtol, atol) = if d == DType::BF16 { (0.01, 0.05) } else { (1e-5, 1e-4) };
        if d.is_float() {
            allclose(&y.cast(DType::F64), &want, rtol, atol).unwrap();
        } else {
            allclose(&y, &want.cast(DType::I64).cast(d), 0.0, 0.0).unwrap();
        }
    }
}

#[test]
fn convolution_is_the_plain_sum() {
    let mut rng = Rng::new(8);
    for round in 0..80 {
        let rank = 1 + rng.below(2);
        let d = [DType::F32, DType::F64, DType::I32][round % 3];
        let groups = 1 + rng.below(3);
        let (n, c, m) = (1 + rng.below(2), 1 + rng.below(3), 1 + rng.below(4));
        let spatial: Vec<usize> = (0..rank).map(|_| 4 + rng.below(9)).collect();
        let kernel: Vec<usize> = (0..rank).map(|_| 1 + rng.below(3)).collect();
        let strides: Vec<i64> = (0..rank).map(|_| 1 + rng.below(2) as i64).collect();
        let dilations: Vec<i64> = (0..rank).map(|_| 1 + rng.below(2) as i64).collect();
        let pads: Vec<i64> = (0..2 * rank).map(|_| rng.below(4) as i64 - 1).collect();
        let xs: Vec<usize> = [n, c * groups].iter().chain(&spatial).copied().collect();
        let ws: Vec<usize> = [m * groups, c].iter().chain(&kernel).copied().collect();
        let (x, w) = (rng.finite(d, &xs), rng.finite(d, &ws));
        let attrs = Attrs::new()
            .with("strides", strides.clone())
            .with("pads", pads.clone())
            .with("dilations", dilations.clone())
            .with("groups", groups as i64);
        if infer(find("conv").unwrap(), &[x.clone(), w.clone()], &attrs).is_err() {
            continue;
        }
        let y = check(&mut rng, find("conv").unwrap(), &[x.clone(), w.clone()], &attrs).unwrap().remove(0);
        let (fx, fw) = (x.to_f64s(), w.to_f64s());
        let coords = |mut i: usize, s: &[usize]| {
            let mut v = vec![0; s.len()];
            for d in (0..s.len()).rev() {
                v[d] = i % s[d];
                i /= s[d];
            }
            v
        };
        let want: Vec<f64> = (0..y.len())
            .map(|i| {
                let o = coords(i, y.shape());
                let taps: usize = kernel.iter().product();
                let mut sum = 0.0;
                for ch in 0..c {
                    for t in 0..taps {
                        let k = coords(t, &kernel);
                        let mut at = (o[0] * c * groups + o[1] / m * c + ch) as i64;
                        let mut inside = true;
                        for d in 0..rank {
                            let p = o[d + 2] as i64 * strides[d] - pads[d] + k[d] as i64 * dilations[d];
                            inside &= p >= 0 && p < spatial[d] as i64;
                            at = at * spatial[d] as i64 + p;
                        }
                        if inside {
                            sum += fx[at as usize] * fw[(o[1] * c + ch) * taps + t];
                        }
                    }
                }
                sum
            })
            .collect();
        allclose(&y.cast(DType::F64), &Tensor::from_f64s(DType::F64, y.shape(), &want), 1e-5, 1e-5).unwrap();
    }
}

#[test]
fn large_results_are_refused_not_made() {
    // Beyond what any value may have, and beyond what this machine has: 16 TiB.
    for (rows, code) in [(1 << 21, "E0107"), (1 << 20, "E0609")] {
        let x = Tensor::full(DType::F32, &[rows, 1], 1.0);
        let y = Tensor::full(DType::F32, &[1 << 20], 1.0);
        let e = (find("add").unwrap().eval)(&EvalArgs { operands: &[x, y], attrs: &Attrs::new() }).unwrap_err();
        assert_eq!(e.code, code);
    }
}

#[test]
fn shape_operands_that_are_constants_give_static_ops() {
    let mut b = Builder::new("main");
    let x = b.input("x", TensorType::known(DType::F32, &[2, 6]));
    let s = b.op("shape_of", &[x], Attrs::new()).unwrap();
    assert_eq!(b.constant_of(s).unwrap().to_ints().unwrap(), [2, 6]);
    let to = b.constant(Tensor::i64(&[2], vec![3, -1]));
    let y = b.op("reshape_to", &[x, to], Attrs::new()).unwrap();
    let r = b.constant(Tensor::i64(&[2], vec![2, 1]));
    let y = b.op("tile", &[y, r], Attrs::new()).unwrap();
    assert_eq!(b.ty(y).to_string(), "f32[6, 4]");
    b.output("y", y);
    let g = b.finish();
    let names: Vec<&str> = g.nodes.iter().map(|n| n.op.name).collect();
    assert_eq!(names, ["reshape", "reshape", "broadcast", "reshape"]);
}

#[test]
fn symbols_go_through_inference() {
    let mut b = Builder::new("main");
    let n = || Dim::sym("N");
    let x = b.input("x", TensorType::new(DType::F32, Shape(vec![n(), Dim::Known(3), n()])));
    let y = b.input("y", TensorType::known(DType::F32, &[3, 1]));
    let s = b.op("add", &[x, y], Attrs::new()).unwrap();
    assert_eq!(b.ty(s).to_string(), "f32[N, 3, N]");
    let m = b.op("reduce_mean", &[s], Attrs::new().with("axes", vec![2]).with("keepdims", false)).unwrap();
    assert_eq!(b.ty(m).to_string(), "f32[N, 3]");
    let t = b.op("transpose", &[s], Attrs::new().with("perm", vec![2, 0, 1])).unwrap();
    assert_eq!(b.ty(t).to_string(), "f32[N, N, 3]");
    let w = b.input("w", TensorType::known(DType::F32, &[4, 3, 3]));
    let at = |p: i64| Attrs::new().with("strides", vec![1]).with("pads", vec![p, p]).with("dilations", vec![1]).with("groups", 1);
    let same = b.op("conv", &[x, w], at(1)).unwrap();
    assert_eq!(b.ty(same).to_string(), "f32[N, 4, N]");
    let valid = b.op("conv", &[x, w], at(0)).unwrap();
    assert_ne!(b.ty(valid).shape[2], n());
    let k = b.input("k", TensorType::known(DType::F32, &[5, 7]));
    let e = b.op("matmul", &[t, k], Attrs::new()).unwrap_err();
    assert!(e.message.contains("inner extents differ, 3 and 5"), "{e}");
}

/// Open extents, and shapes that are not constants yet, are asked for by E0209 and by nothing else: whoever runs a model fixes them
/// and tries again.
#[test]
fn what_needs_numbers_says_so_by_one_code() {
    let mut asked = 0;
    for op in OPS.iter().filter(|op| !op.examples.is_empty()) {
        for text in op.examples {
            let e = parse_example(text).unwrap();
            let known: Vec<TensorType> = e.operands.iter().map(Tensor::ty).collect();
            let opened = |which: &dyn Fn(usize, usize) -> bool| -> Vec<TensorType> {
                let open = |i: usize, t: &TensorType| {
                    let dims =
                        t.shape.0.iter().enumerate().map(|(d, n)| if which(i, d) { Dim::sym(&format!("s{i}_{d}")) } else { n.clone() });
                    TensorType::new(t.dtype, Shape(dims.collect()))
                };
                known.iter().enumerate().map(|(i, t)| open(i, t)).collect()
            };
            // All extents open, those of one operand, one alone, and none, with values that are not known.
            let mut tries = vec![opened(&|_, _| true), opened(&|_, _| false)];
            for (i, t) in known.iter().enumerate() {
                tries.push(opened(&|j, _| j == i));
                tries.extend((0..t.rank()).map(|d| opened(&|j, e| (j, e) == (i, d))));
            }
            for types in tries {
                for consts in [vec![None; types.len()], e.operands.iter().map(Some).collect()] {
                    // A value that is known has no open extents.
                    let consts: Vec<Option<&Tensor>> = types.iter().zip(consts).map(|(t, c)| c.filter(|_| t.shape.is_static())).collect();
                    let a = InferArgs { operands: &types, attrs: &e.attrs, consts: &consts, fresh: Fresh("f", 0) };
                    match (op.infer)(&a) {
                        Ok(out) => {
                            // What is inferred holds for the numbers, too.
                            for (o, v) in out.iter().zip(e.run().unwrap()) {
                                assert!(fits(&v, o), "{text}: {o} of {types:?}, but the value is {}", v.ty());
                            }
                        }
                        Err(why) => {
                            asked += 1;
                            assert_eq!(why.code, "E0209", "{text} on {types:?}: {why}");
                        }
                    }
                }
            }
        }
    }
    assert!(asked > 10, "{asked}");
}
