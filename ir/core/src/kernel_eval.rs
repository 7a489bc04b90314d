//! Runs a [`KernelSpec`] as it reads, point by point, in f64 with a rounding to the step's type: slow, and the judge of code generators
//! and of [`crate::form`].

use crate::kernel::*;
use crate::kernels::scalar::power;
use crate::numeric;
use crate::op::Monoid;
use crate::scalar::{Binary, Compare, Expr, Step, Unary};
use crate::tensor::Tensor;
use crate::types::{Class, DType};

/// A fault of the spec: an access that leaves its buffer, or a step that does not type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SpecError(pub String);

/// A scalar: floats as f64, integers and bool as i64 (u64 by its bits).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    F(f64),
    I(i64),
}

impl Value {
    fn f(self) -> f64 {
        match self {
            Value::F(x) => x,
            Value::I(x) => x as f64,
        }
    }
    fn i(self) -> i64 {
        match self {
            Value::F(x) => x as i64,
            Value::I(x) => x,
        }
    }
}

/// Rounds or wraps to a number type.
pub(crate) fn fit(v: Value, d: DType) -> Value {
    match d.class() {
        Class::Float => Value::F(match d {
            DType::F64 => v.f(),
            DType::F32 => v.f() as f32 as f64,
            DType::TF32 => numeric::round_tf32(v.f() as f32).into(),
            // What is computed in f32 is rounded twice, as the ops do.
            DType::F16 => half::f16::from_f32(v.f() as f32).to_f64(),
            DType::BF16 => half::bf16::from_f32(v.f() as f32).to_f64(),
            _ => Tensor::from_f64s(d, &[1], &[v.f()]).to_f64s()[0],
        }),
        Class::Bool => Value::I(i64::from(v.f() != 0.0)),
        class => {
            let x = v.i();
            let bits = d.bits();
            Value::I(match (class, bits) {
                (_, 64) => x,
                (Class::Signed, b) => x << (64 - b) >> (64 - b),
                (_, b) => x & ((1i64 << b) - 1),
            })
        }
    }
}

/// A number of one type as another, as [`Tensor::cast`] has it.
pub(crate) fn convert(v: Value, from: DType, to: DType) -> Value {
    let v = match v {
        // Once, and not by way of f64.
        Value::I(x) if to == DType::F32 && from != DType::U64 => Value::F((x as f32).into()),
        Value::I(x) if to == DType::F32 => Value::F((x as u64 as f32).into()),
        Value::I(x) if to == DType::F64 => Value::F(if from == DType::U64 { x as u64 as f64 } else { x as f64 }),
        Value::I(x) if to.is_float() => Value::F(numeric::odd_f64(if from == DType::U64 { i128::from(x as u64) } else { i128::from(x) })),
        Value::F(x) if to == DType::U64 => Value::I(x as u64 as i64),
        Value::F(x) if to.is_int() && to.bits() >= 8 => {
            let (low, high) = numeric::int_range(to);
            Value::I((x as i64).clamp(low as i64, high as i64))
        }
        _ => v,
    };
    match to {
        DType::F16 | DType::BF16 | DType::TF32 => fit(Value::F(numeric::odd_f32(v.f()).into()), to),
        _ => fit(v, to),
    }
}

/// The scalar meaning of a unary function on a float type.
pub fn unary(u: Unary, v: Value, d: DType) -> Value {
    let x = v.f();
    if let Value::I(i) = v
        && !d.is_float()
    {
        return Value::I(match u {
            Unary::Neg => i.wrapping_neg(),
            Unary::Abs if d.is_signed_int() => i.wrapping_abs(),
            Unary::Sign if d.is_signed_int() => i.signum(),
            Unary::Abs => i,
            Unary::Sign => i64::from(i != 0),
            Unary::Not => i64::from(i == 0),
            Unary::BitNot => !i,
            _ => i,
        });
    }
    Value::F(match u {
        Unary::Neg => -x,
        Unary::Abs => x.abs(),
        Unary::Sign => {
            if x.is_nan() || x == 0.0 {
                x
            } else {
                x.signum()
            }
        }
        Unary::Reciprocal => 1.0 / x,
        Unary::Sqrt => x.sqrt(),
        Unary::Rsqrt => 1.0 / x.sqrt(),
        Unary::Exp => x.exp(),
        Unary::Log => x.ln(),
        Unary::Sin => x.sin(),
        Unary::Cos => x.cos(),
        Unary::Tan => x.tan(),
        Unary::Asin => x.asin(),
        Unary::Acos => x.acos(),
        Unary::Atan => x.atan(),
        Unary::Sinh => x.sinh(),
        Unary::Cosh => x.cosh(),
        Unary::Tanh => x.tanh(),
        Unary::Asinh => x.asinh(),
        Unary::Acosh => x.acosh(),
        Unary::Atanh => x.atanh(),
        Unary::Erf => numeric::erf(x),
        Unary::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Unary::Floor => x.floor(),
        Unary::Ceil => x.ceil(),
        Unary::Round => x.round_ties_even(),
        Unary::Not | Unary::BitNot => f64::from(x == 0.0),
        Unary::IsNan => return Value::I(i64::from(x.is_nan())),
        Unary::IsInf => return Value::I(i64::from(x.is_infinite())),
    })
}

/// The scalar meaning of a binary function on a number type.
pub fn binary(b: Binary, x: Value, y: Value, d: DType) -> Value {
    if !d.is_float() {
        let (p, q) = (x.i(), y.i());
        let unsigned = d.class() == Class::Unsigned;
        let (up, uq) = (p as u64, q as u64);
        return Value::I(match b {
            Binary::Add => p.wrapping_add(q),
            Binary::Sub => p.wrapping_sub(q),
            Binary::Mul => p.wrapping_mul(q),
            Binary::Div if q == 0 => 0,
            Binary::Div if unsigned => (up / uq) as i64,
            Binary::Div => p.wrapping_div(q),
            Binary::Mod | Binary::Rem if q == 0 => 0,
            Binary::Mod | Binary::Rem if unsigned => (up % uq) as i64,
            Binary::Rem => p.wrapping_rem(q),
            Binary::Mod => {
                let r = p.wrapping_rem(q);
                if r != 0 && (r < 0) != (q < 0) { r.wrapping_add(q) } else { r }
            }
            Binary::Pow if unsigned => power(up as i128, uq as i128) as i64,
            Binary::Pow => power(p as i128, q as i128) as i64,
            Binary::Max if unsigned => up.max(uq) as i64,
            Binary::Min if unsigned => up.min(uq) as i64,
            Binary::Max => p.max(q),
            Binary::Min => p.min(q),
            Binary::And | Binary::BitAnd => p & q,
            Binary::Or | Binary::BitOr => p | q,
            Binary::Xor | Binary::BitXor => p ^ q,
            // By the width or more: nothing is left but the sign.
            Binary::Shl if uq >= d.bits() as u64 => 0,
            Binary::Shl => p.wrapping_shl(q as u32),
            Binary::Shr if unsigned => up.checked_shr(uq.min(64) as u32).unwrap_or(0) as i64,
            Binary::Shr => p >> uq.min(63),
        });
    }
    let (x, y) = (x.f(), y.f());
    Value::F(match b {
        Binary::Add => x + y,
        Binary::Sub => x - y,
        Binary::Mul => x * y,
        Binary::Div => x / y,
        Binary::Rem => x % y,
        Binary::Mod => {
            let r = x % y;
            if r != 0.0 && (r < 0.0) != (y < 0.0) { r + y } else { r }
        }
        Binary::Pow => x.powf(y),
        Binary::Max if x.is_nan() || y.is_nan() => f64::NAN,
        Binary::Min if x.is_nan() || y.is_nan() => f64::NAN,
        Binary::Max => x.max(y),
        Binary::Min => x.min(y),
        _ => f64::NAN,
    })
}

/// A constant of a spec; of a float type it is one of the type already.
fn number(x: f64, d: DType) -> Value {
    if d.is_float() { Value::F(x) } else { convert(Value::F(x), DType::F64, d) }
}

/// An expression on its inputs.
pub fn expr(e: &Expr, inputs: &[Value]) -> Value {
    let mut v: Vec<Value> = Vec::with_capacity(e.steps.len());
    for (s, d) in &e.steps {
        let x = match *s {
            Step::Input(i) => inputs[i],
            Step::Const(c) => number(c.0, *d),
            Step::Unary(u, a) => unary(u, v[a], e.steps[a].1),
            Step::Binary(b, p, q) => binary(b, v[p], v[q], *d),
            Step::Compare(c, p, q) => {
                let of = e.steps[p].1;
                let o = match of.class() {
                    Class::Float => v[p].f().partial_cmp(&v[q].f()),
                    Class::Unsigned => Some((v[p].i() as u64).cmp(&(v[q].i() as u64))),
                    _ => Some(v[p].i().cmp(&v[q].i())),
                };
                let hit = match c {
                    Compare::Eq => o.is_some_and(|o| o.is_eq()),
                    Compare::Ne => o.is_none_or(|o| o.is_ne()),
                    Compare::Lt => o.is_some_and(|o| o.is_lt()),
                    Compare::Le => o.is_some_and(|o| o.is_le()),
                    Compare::Gt => o.is_some_and(|o| o.is_gt()),
                    Compare::Ge => o.is_some_and(|o| o.is_ge()),
                };
                Value::I(i64::from(hit))
            }
            Step::Select(c, a, b) => {
                if v[c].i() != 0 {
                    v[a]
                } else {
                    v[b]
                }
            }
            Step::Cast(a) => convert(v[a], e.steps[a].1, *d),
        };
        v.push(fit(x, *d));
    }
    v.last().copied().unwrap_or(Value::F(0.0))
}

/// All points of a loop nest, the last loop fastest.
fn points(extents: &[u64]) -> impl Iterator<Item = Vec<i64>> + '_ {
    let n: u64 = extents.iter().product();
    (0..n).map(move |mut i| {
        let mut p = vec![0i64; extents.len()];
        for (x, &e) in p.iter_mut().zip(extents).rev() {
            *x = (i % e) as i64;
            i /= e;
        }
        p
    })
}

fn dot(offset: i64, coeffs: &[i64], p: &[i64]) -> i64 {
    offset + coeffs.iter().zip(p).map(|(c, x)| c * x).sum::<i64>()
}

struct Memory {
    inputs: Vec<Vec<Value>>,
}

impl Memory {
    fn read(&self, a: &Access, d: DType, p: &[i64]) -> Result<Value, SpecError> {
        for g in &a.guards {
            let at = dot(g.offset, &g.coeffs, p);
            if at < 0 || at >= g.extent {
                return Ok(number(a.fill.0, d));
            }
        }
        let at = dot(a.offset, &a.strides, p);
        let buffer = self.inputs.get(a.buffer).ok_or_else(|| SpecError(format!("no input {}", a.buffer)))?;
        usize::try_from(at)
            .ok()
            .and_then(|i| buffer.get(i))
            .copied()
            .ok_or_else(|| SpecError(format!("read of element {at} of input {} with {} elements", a.buffer, buffer.len())))
    }
}

fn values_of(t: &Tensor) -> Vec<Value> {
    if t.dtype().is_float() {
        return t.to_f64s().into_iter().map(Value::F).collect();
    }
    t.cast(DType::I64).to_ints().unwrap_or_default().into_iter().map(Value::I).collect()
}

fn write(out: &mut [Vec<Option<Value>>], a: &Access, p: &[i64], v: Value) -> Result<(), SpecError> {
    let at = dot(a.offset, &a.strides, p);
    let buffer = out.get_mut(a.buffer).ok_or_else(|| SpecError(format!("no output {}", a.buffer)))?;
    let slot = usize::try_from(at).ok().and_then(|i| buffer.get_mut(i)).ok_or_else(|| SpecError(format!("write of element {at}")))?;
    if slot.replace(v).is_some() {
        return Err(SpecError(format!("element {at} of output {} written twice", a.buffer)));
    }
    Ok(())
}

/// The kernel's outputs. Errors: a spec that is not sound ([`crate::kernel_check`]), inputs of other types than it says.
pub fn eval(spec: &KernelSpec, inputs: &[Tensor]) -> Result<Vec<Tensor>, SpecError> {
    crate::kernel_check::check(spec)?;
    let fits = |(t, x): (&crate::TensorType, &Tensor)| x.dtype() == t.dtype && Some(x.len() as u64) == t.shape.elements();
    if inputs.len() != spec.inputs.len() || !spec.inputs.iter().zip(inputs).all(fits) {
        return Err(SpecError(format!("kernel {} is given inputs of other types", spec.name)));
    }
    let memory = Memory { inputs: inputs.iter().map(values_of).collect() };
    let mut out: Vec<Vec<Option<Value>>> = spec.outputs.iter().map(|t| vec![None; t.shape.elements().unwrap_or(0) as usize]).collect();
    match &spec.body {
        Body::Rows(r) => rows(r, &memory, &mut out)?,
        Body::Contract(c) => contract(c, &memory, &mut out)?,
    }
    spec.outputs
        .iter()
        .zip(out)
        .map(|(t, v)| {
            let all: Option<Vec<Value>> = v.into_iter().collect();
            let all = all.ok_or_else(|| SpecError("an element of an output is never written".into()))?;
            let shape = t.shape.to_static().unwrap_or_default();
            Ok(if t.dtype.is_float() {
                Tensor::from_f64s(t.dtype, &shape, &all.iter().map(|v| v.f()).collect::<Vec<_>>())
            } else {
                Tensor::i64(&shape, all.iter().map(|v| v.i()).collect()).cast(t.dtype)
            })
        })
        .collect()
}

/// Adds the steps' values to those given; a value has its elements along the row, or one for a scalar of the row.
fn row_steps(steps: &[RowStep], values: &mut Vec<Vec<Value>>) -> Result<(), SpecError> {
    for s in steps {
        let new = match s {
            RowStep::Map { expr: e, args } => {
                let n = args.iter().map(|&a| values[a].len()).max().unwrap_or(1);
                (0..n)
                    .map(|i| expr(e, &args.iter().map(|&a| values[a][if values[a].len() == 1 { 0 } else { i }]).collect::<Vec<_>>()))
                    .collect()
            }
            RowStep::Reduce { monoid, arg, dtype } => {
                let wide = if matches!(dtype, DType::F16 | DType::BF16) { DType::F32 } else { *dtype };
                let op = match monoid {
                    Monoid::Sum => Binary::Add,
                    Monoid::Prod => Binary::Mul,
                    Monoid::Max => Binary::Max,
                    Monoid::Min => Binary::Min,
                    Monoid::And => Binary::And,
                    Monoid::Or => Binary::Or,
                };
                // f64 all along, so that this is the exact side of a comparison.
                let keep = if wide.is_float() { DType::F64 } else { wide };
                let mut it = values[*arg].iter().copied();
                let first = it.next().ok_or_else(|| SpecError("an empty row".into()))?;
                vec![fit(it.fold(first, |a, x| fit(binary(op, a, x, keep), keep)), *dtype)]
            }
        };
        values.push(new);
    }
    Ok(())
}

fn rows(r: &Rows, memory: &Memory, out: &mut [Vec<Option<Value>>]) -> Result<(), SpecError> {
    let inner: Vec<Vec<i64>> = points(&r.inner).collect();
    for o in points(&r.outer) {
        let full: Vec<Vec<i64>> = inner.iter().map(|i| o.iter().chain(i).copied().collect()).collect();
        // A value is its elements along the row, or one for a scalar of the row.
        let mut values: Vec<Vec<Value>> = vec![];
        for l in &r.loads {
            values.push(if l.per_row {
                vec![memory.read(&l.access, l.dtype, &o)?]
            } else {
                full.iter().map(|p| memory.read(&l.access, l.dtype, p)).collect::<Result<_, _>>()?
            });
        }
        row_steps(&r.steps, &mut values)?;
        for s in &r.stores {
            let v = &values[s.value];
            if s.access.strides.len() == o.len() && !(v.len() > 1 && r.inner.is_empty()) && v.len() == 1 {
                write(out, &s.access, &o, v[0])?;
            } else {
                for (i, p) in full.iter().enumerate() {
                    write(out, &s.access, p, v[if v.len() == 1 { 0 } else { i }])?;
                }
            }
        }
    }
    Ok(())
}

/// The elements of an operand's row: at `lead` (batch and own loops), along all points of `k`.
fn operand(o: &Operand, memory: &Memory, lead: &[&[i64]], k: &[Vec<i64>], products: Vec<Value>) -> Result<Vec<Value>, SpecError> {
    let full: Vec<Vec<i64>> = k.iter().map(|k| [lead.concat(), k.clone()].concat()).collect();
    let mut values: Vec<Vec<Value>> = if o.product.is_some() { vec![products] } else { vec![] };
    for l in &o.loads {
        values.push(full.iter().map(|p| memory.read(&l.access, l.dtype, p)).collect::<Result<_, _>>()?);
    }
    row_steps(&o.steps, &mut values)?;
    let v = values.swap_remove(o.value);
    Ok(if v.len() == 1 { vec![v[0]; k.len()] } else { v })
}

fn sum(dtype: DType, a: &[Value], b: &[Value]) -> Value {
    if dtype.is_float() {
        Value::F(a.iter().zip(b).map(|(x, y)| x.f() * y.f()).sum())
    } else {
        Value::I(a.iter().zip(b).fold(0, |s, (x, y)| s.wrapping_add(x.i().wrapping_mul(y.i()))))
    }
}

/// Elements of columns that are kept, of 16 bytes each.
const MOST_KEPT: u64 = 1 << 26;

fn contract(c: &ContractSpec, memory: &Memory, out: &mut [Vec<Option<Value>>]) -> Result<(), SpecError> {
    let k: Vec<Vec<i64>> = points(&c.k).collect();
    let join = |parts: &[&[i64]]| parts.concat();
    for b in points(&c.batch) {
        let column = |o: &Operand, n: &[i64]| operand(o, memory, &[&b, n], &k, vec![]);
        // Columns are kept for all rows while memory lasts, else made again for each.
        let elements = (c.b.len() as u64).saturating_mul(c.n.iter().product::<u64>()).saturating_mul(k.len() as u64);
        let kept: Option<Vec<Vec<Vec<Value>>>> = (elements <= MOST_KEPT)
            .then(|| c.b.iter().map(|o| points(&c.n).map(|n| column(o, &n)).collect::<Result<_, _>>()).collect::<Result<_, _>>())
            .transpose()?;
        for m in points(&c.m) {
            let mut products = vec![];
            if let Some(p) = &c.a.product {
                let e: Vec<Vec<i64>> = points(&p.sum).collect();
                let q = operand(&p.a, memory, &[&b, &m], &e, vec![])?;
                for k in &k {
                    products.push(fit(sum(p.dtype, &q, &operand(&p.b, memory, &[&b, k], &e, vec![])?), crate::form::sum_type(p.dtype)));
                }
            }
            let a = operand(&c.a, memory, &[&b, &m], &k, products)?;
            for (i, n) in points(&c.n).enumerate() {
                let at = join(&[&b, &m, &n]);
                let mut inputs = vec![];
                for (j, o) in c.b.iter().enumerate() {
                    inputs.push(match &kept {
                        Some(all) => sum(c.dtype, &a, &all[j][i]),
                        None => sum(c.dtype, &a, &column(o, &n)?),
                    });
                }
                for l in &c.loads {
                    inputs.push(memory.read(&l.access, l.dtype, &at)?);
                }
                write(out, &c.store, &at, expr(&c.epilogue, &inputs))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::EvalArgs;
    use crate::{Attrs, Tensor};

    /// Every type to every type, at the ends and around them.
    #[test]
    fn casts_are_those_of_tensors() {
        let ends = [0, 1, 7, 8, 15, 16, 24, 31, 32, 53, 62, 63, 64, 65, 120].map(|e| 2f64.powi(e));
        let near = ends.iter().flat_map(|&x| [x, x - 1.0, x + 1.0, x * 0.75, x + x / 256.0 + x / 2f64.powi(30), 1.0 / x, x - 0.5]);
        let odd = [f64::INFINITY, f64::NAN, 1e300, 65519.99, 1.0 + 2f64.powi(-8) + 2f64.powi(-30)];
        let all: Vec<f64> = near.chain(odd).flat_map(|x| [x, -x]).collect();
        let bits = [i64::MIN, i64::MAX, -1, (1 << 24) + 1, (1 << 60) + (1 << 36) + 1, (1 << 53) + 1, -((1 << 62) + 1)];
        for from in DType::all() {
            let t = match from.is_float() {
                true => Tensor::from_f64s(from, &[all.len()], &all),
                false => {
                    Tensor::i64(&[all.len()], all.iter().zip(bits.iter().cycle()).map(|(x, b)| x.to_bits() as i64 ^ b).collect()).cast(from)
                }
            };
            for to in DType::all() {
                let want = values_of(&t.cast(to));
                for ((v, want), x) in values_of(&t).into_iter().zip(want).zip(t.to_f64s()) {
                    let got = convert(v, from, to);
                    let same = match (got, want) {
                        (Value::F(p), Value::F(q)) => p.to_bits() == q.to_bits() || (p.is_nan() && q.is_nan()),
                        _ => got == want,
                    };
                    assert!(same, "{from} to {to}: {x:e} became {got:?}, not {want:?}");
                }
            }
        }
    }

    /// Every integer type and f64 to each float of 16 bits and to tf32, at the middle between two numbers and beside it.
    #[test]
    fn halves_are_rounded_once() {
        for (to, scale) in [(DType::F16, 15), (DType::BF16, 64), (DType::TF32, 64)] {
            let digits = numeric::float_format(to).unwrap().digits;
            for e in (digits..=scale).chain([-3]) {
                for lead in [0u64, 1, 2, 5, (1 << (digits - 1)) - 2] {
                    // lead + 2^(digits − 1) units, and a half.
                    let unit = 2f64.powi(e - digits + 1);
                    let (low, half) = (((1u64 << (digits - 1)) + lead) as f64 * unit, unit / 2.0);
                    let even = low + if lead % 2 == 1 { unit } else { 0.0 };
                    let (up, least) = (low + unit, half * 2f64.powi(-30));
                    for (x, want) in [(low + half, even), (low + half - least, low), (low + half + least, up), (low + half * 0.999, low)] {
                        for (x, want) in [(x, want), (-x, -want)] {
                            assert_eq!(Tensor::from_f64s(DType::F64, &[], &[x]).cast(to).to_f64s()[0], want, "{x:e} to {to}");
                            assert_eq!(convert(Value::F(x), DType::F64, to), Value::F(want), "{x:e} to {to}");
                        }
                    }
                    let (low, half) = (low as i128, half as i128);
                    for (x, want) in [(low + half, even), (low + half - 1, low as f64), (low + half + 1, up)] {
                        for (x, want) in [(x, want), (-x, -want)] {
                            let holds = |d: &DType| (numeric::int_range(*d).0..=numeric::int_range(*d).1).contains(&x) && half > 1;
                            for d in DType::all().filter(|d| d.is_int() && holds(d)) {
                                let t = Tensor::i64(&[], vec![x as i64]).cast(d);
                                assert_eq!(t.cast(to).to_f64s()[0], want, "{x} of {d} to {to}");
                                assert_eq!(convert(Value::I(x as i64), d, to), Value::F(want), "{x} of {d} to {to}");
                            }
                        }
                    }
                }
            }
        }
    }

    /// Whole numbers to powers and shifts beyond their width: as the ops compute them.
    #[test]
    fn integers_wrap_as_in_the_ops() {
        let whole = |t: Tensor| i64::from_le_bytes(t.cast(DType::I64).to_bytes()[..8].try_into().unwrap());
        let pairs = [(3, 45), (-7, 31), (2, 64), (-1, -3), (5, -1), (1, 70), (-9, 200), (1 << 40, 3)];
        for (b, op) in [(Binary::Pow, "pow"), (Binary::Shl, "shl"), (Binary::Shr, "shr")] {
            for d in [DType::I64, DType::I32, DType::U8, DType::U64] {
                for (x, y) in pairs {
                    let of = |v: i64| Tensor::i64(&[], vec![v]).cast(d);
                    let (p, q) = (of(x), of(y));
                    let args = EvalArgs { operands: &[p.clone(), q.clone()], attrs: &Attrs::new() };
                    let want = (crate::ops::find(op).unwrap().eval)(&args).unwrap().remove(0);
                    let [p, q, want] = [p, q, want].map(whole);
                    let Value::I(got) = fit(binary(b, Value::I(p), Value::I(q), d), d) else { panic!("{op} of {d}") };
                    assert_eq!(got, want, "{op} of {d}: {x}, {y}");
                }
            }
        }
    }
}
