//! Every op and every cast on every type that kernels have, where types end: what arithmetic leaves no choice of has the bits that the op
//! itself gives, by kernel and by the judge of kernels.

use super::*;
use tahoma_core::op::{EvalArgs, Kind, OpDef, Scalar};
use tahoma_core::ops::OPS;

/// Numbers of a type: its ends, halves of what narrower types have, whole numbers to the width of a shift, and any bits.
fn hostile(d: DType, seed: u64) -> Tensor {
    let n = 512;
    let mut r = tahoma_core::random::Random::new(seed);
    if d == DType::Bool {
        return Tensor::bool(&[n], (0..n).map(|_| r.one_in(2)).collect());
    }
    let any: Vec<u8> = (0..n * d.bits() as usize / 8).map(|_| r.bits() as u8).collect();
    let any = Tensor::from_bytes(d, &[n], &any).unwrap();
    let half = |r: &mut tahoma_core::random::Random| {
        // A number of 8 or 11 digits, a half, and now and then a bit far below.
        let digits = *r.of(&[8, 11, 24]);
        let lead = (1u64 << (digits - 1)) + r.bits() % (1 << (digits - 1));
        let up = 62 - digits - r.below(40) as i64 % (62 - digits);
        (((lead << 1 | 1) << up) >> 1) as i64 + *r.of(&[0, 0, 1, -1])
    };
    if !d.is_float() {
        let (low, high) = tahoma_core::numeric::int_range(d);
        let ends = [low as i64, high as i64, 0, 1, -1, low as i64 + 1, 2, 3, 7, 8, 31, 32, 63, 64];
        let v: Vec<i64> = (0..n).map(|_| if r.one_in(2) { *r.of(&ends) } else { half(&mut r) * *r.of(&[1, -1]) }).collect();
        let (p, q) = (Tensor::i64(&[n], v).cast(d), any);
        let mix: Vec<u8> = p
            .to_bytes()
            .chunks(p.dtype().bits() as usize / 8)
            .zip(q.to_bytes().chunks(d.bits() as usize / 8))
            .enumerate()
            .flat_map(|(i, (a, b))| if i % 3 == 0 { b.to_vec() } else { a.to_vec() })
            .collect();
        return Tensor::from_bytes(d, &[n], &mix).unwrap();
    }
    let f = tahoma_core::numeric::float_format(d).unwrap();
    let most = (2.0 - 2.0 * f.unit()) * 2f64.powi(f.most);
    let ends = [0.0, -0.0, f64::INFINITY, -f64::INFINITY, f64::NAN, most, -most, 2f64.powi(f.tiny()), -2f64.powi(f.least), 1.0, -0.5, 2.5];
    let any = any.to_f64s();
    let v: Vec<f64> = (0..n)
        .map(|i| match i % 4 {
            0 => *r.of(&ends),
            1 => any[i],
            2 => half(&mut r) as f64 * 2f64.powi(-(r.below(90) as i32)),
            _ => 16.0 * r.signed(),
        })
        .collect();
    Tensor::from_f64s(d, &[n], &v)
}

/// Bits; any NaN is as good as another, and of two zeros a maximum is either.
fn same(what: &str, inputs: &[Tensor], want: &Tensor, got: &Tensor) -> Vec<String> {
    assert_eq!((want.dtype(), want.shape()), (got.dtype(), got.shape()), "{what}");
    let size = want.dtype().bits() as usize / 8;
    let (p, q) = (want.to_f64s(), got.to_f64s());
    let (a, b) = (want.contiguous().to_bytes(), got.contiguous().to_bytes());
    let either = what.starts_with("max_") || what.starts_with("min_");
    let differs = |i: &usize| {
        a[i * size..(i + 1) * size] != b[i * size..(i + 1) * size]
            && !(p[*i].is_nan() && q[*i].is_nan())
            && !(either && p[*i] == 0.0 && q[*i] == 0.0)
    };
    let of = |i: usize| inputs.iter().map(|t| t.to_f64s()[i]).collect::<Vec<_>>();
    (0..want.len()).filter(differs).take(1).map(|i| format!("{what} of {:?}: {:e} became {:e}", of(i), p[i], q[i])).collect()
}

/// What the op makes, what the judge of kernels makes, and what the kernel makes.
fn judge(name: &str, e: Expr, inputs: &[Tensor], want: &Tensor) -> Vec<String> {
    let types: Vec<(DType, usize)> = inputs.iter().map(|t| (t.dtype(), t.len())).collect();
    let spec = map_spec(name, e, &types);
    let judged = kernel_eval::eval(&spec, inputs).unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut bad = same(&format!("{name}, as a spec,"), inputs, want, &judged[0]);
    bad.extend(same(name, inputs, want, &emulate(&spec, inputs).0[0]));
    bad
}

/// Functions of floats have last places of their own.
fn is_decided(op: &OpDef, d: DType) -> bool {
    let free = ["div", "reciprocal", "sqrt"].contains(&op.name);
    let rounds = ["add", "sub", "mul", "max", "min", "neg", "abs", "sign", "floor", "ceil", "round", "is_nan", "is_inf"];
    !d.is_float() || free || rounds.contains(&op.name) || matches!(op.kind, Kind::Elementwise(Scalar::Compare(_)))
}

#[test]
fn every_op_of_every_type_at_its_ends() {
    let (mut bad, mut tried) = (vec![], 0);
    let types = || DType::all().filter(|d| *d != DType::TF32 && super::super::scalar::memory_ty(*d).is_some());
    for op in OPS.iter() {
        let Kind::Elementwise(s) = op.kind else { continue };
        for d in types().filter(|d| op.operands.iter().all(|o| o.types.has(*d)) && is_decided(op, *d)) {
            let (x, y) = (hostile(d, 1), hostile(d, 2));
            let mut e = Expr::input(0, d);
            let inputs = match s {
                Scalar::Unary(_) => vec![x],
                _ => {
                    e.push(Step::Input(1), d);
                    vec![x, y]
                }
            };
            if matches!(s, Scalar::Select | Scalar::Cast) {
                continue;
            }
            let Ok(want) = (op.eval)(&EvalArgs { operands: &inputs, attrs: &no() }) else { continue };
            match s {
                Scalar::Unary(u) => e.push(Step::Unary(u, 0), want[0].dtype()),
                Scalar::Binary(b) => e.push(Step::Binary(b, 0, 1), d),
                Scalar::Compare(c) => e.push(Step::Compare(c, 0, 1), DType::Bool),
                _ => continue,
            };
            tried += 1;
            bad.extend(judge(&format!("{}_{d}", op.name), e, &inputs, &want[0]));
        }
    }
    assert!(bad.is_empty(), "{} of {tried}:\n{}", bad.len(), bad.join("\n"));
    assert!(tried > 250, "{tried}");
}

#[test]
fn every_cast_at_the_ends_of_types() {
    let mut bad = vec![];
    let types = || DType::all().filter(|d| *d != DType::TF32 && super::super::scalar::memory_ty(*d).is_some());
    for from in types() {
        for to in types().filter(|to| *to != from) {
            let x = hostile(from, 3);
            let mut e = Expr::input(0, from);
            e.push(Step::Cast(0), to);
            bad.extend(judge(&format!("{from}_to_{to}"), e, std::slice::from_ref(&x), &x.cast(to)));
        }
    }
    assert!(bad.is_empty(), "{}:\n{}", bad.len(), bad.join("\n"));
}
