//! Scalar expressions on tiles: each step is an instruction of the Vector or Scalar engine.
//!
//! Values are tiles `[P, N]`, scalars of the row `[P, 1]`, or numbers. Division is a reciprocal and a product (two roundings), which is
//! the reassociating class; what the engines cannot do exactly enough is refused and runs on the host.

use super::{Lower, tile_type};
use tahoma_core::DType;
use tahoma_core::kernel::{Body, KernelSpec, Load, RowStep};
use tahoma_core::kernel_eval::{self, Value as Number};
use tahoma_core::scalar::{Binary, Compare, Expr, Step, Unary};
use tahoma_machine::trn2::{Builder, Instr, Mem, Tile};

/// A value of the row program while it is lowered.
#[derive(Clone, Debug)]
pub(crate) enum Val {
    /// One element per point.
    Tile(Tile),
    /// One element per partition.
    Scalar(Tile),
    Const(f64),
}

impl Val {
    fn tile(&self) -> Option<&Tile> {
        match self {
            Val::Tile(t) | Val::Scalar(t) => Some(t),
            Val::Const(_) => None,
        }
    }
    fn is_wide(&self) -> bool {
        matches!(self, Val::Tile(_))
    }
}

/// Emits expressions on tiles of one size.
pub(crate) struct Emitter<'b> {
    pub(crate) b: &'b mut Builder,
    pub(crate) partitions: usize,
    pub(crate) width: usize,
}

/// Why the kernel's expressions cannot be lowered: each is tried on tiles of one element.
pub(super) fn refused(spec: &KernelSpec) -> Option<String> {
    let mut b = Builder::new("try");
    let mut e = Emitter { b: &mut b, partitions: 1, width: 1 };
    let mut attempt = || -> Lower<()> {
        match &spec.body {
            Body::Rows(r) => values(&mut e, &mut vec![], &r.loads, &r.steps),
            Body::Contract(c) => {
                let inner = c.a.product.iter().flat_map(|p| [&p.a, &p.b]);
                for o in c.b.iter().chain([&c.a]).chain(inner) {
                    let mut all = vec![];
                    if o.product.is_some() {
                        all.push(Val::Tile(e.new_tile(true, DType::F32)));
                    }
                    values(&mut e, &mut all, &o.loads, &o.steps)?;
                }
                let mut inputs: Vec<Val> = c.b.iter().map(|_| Val::Tile(e.new_tile(true, DType::F32))).collect();
                for l in &c.loads {
                    inputs.push(Val::Tile(e.new_tile(true, tile_type(l.dtype)?)));
                }
                e.expr(&c.epilogue, &inputs).map(|_| ())
            }
        }
    };
    attempt().err()
}

fn values(e: &mut Emitter, all: &mut Vec<Val>, loads: &[Load], steps: &[RowStep]) -> Lower<()> {
    for l in loads {
        let t = e.new_tile(!l.per_row, tile_type(l.dtype)?);
        all.push(if l.per_row { Val::Scalar(t) } else { Val::Tile(t) });
    }
    for s in steps {
        let v = match s {
            RowStep::Map { expr, args } => {
                let inputs: Vec<Val> = args.iter().map(|&a| all[a].clone()).collect();
                e.expr(expr, &inputs)?
            }
            RowStep::Reduce { dtype, .. } => Val::Scalar(e.new_tile(false, tile_type(*dtype)?)),
        };
        all.push(v);
    }
    Ok(())
}

fn alu(op: Binary) -> Option<&'static str> {
    Some(match op {
        Binary::Add => "add",
        Binary::Sub => "subtract",
        Binary::Mul => "multiply",
        Binary::Max => "maximum",
        Binary::Min => "minimum",
        Binary::And => "logical_and",
        Binary::Or => "logical_or",
        Binary::Xor => "logical_xor",
        _ => return None,
    })
}

fn compare(c: Compare, swapped: bool) -> &'static str {
    match (c, swapped) {
        (Compare::Eq, _) => "equal",
        (Compare::Ne, _) => "not_equal",
        (Compare::Lt, false) | (Compare::Gt, true) => "less",
        (Compare::Le, false) | (Compare::Ge, true) => "less_equal",
        (Compare::Gt, false) | (Compare::Lt, true) => "greater",
        (Compare::Ge, false) | (Compare::Le, true) => "greater_equal",
    }
}

impl Emitter<'_> {
    /// A new tile of the row's width, or one element wide.
    pub(crate) fn new_tile(&mut self, wide: bool, dtype: DType) -> Tile {
        let shape = [self.partitions, if wide { self.width } else { 1 }];
        self.b.sbuf(if wide { "t" } else { "s" }, dtype, &shape)
    }
    fn wrap(wide: bool, t: Tile) -> Val {
        if wide { Val::Tile(t) } else { Val::Scalar(t) }
    }
    /// Emits `i` with a new destination like the widest operand.
    fn emit(&mut self, wide: bool, dtype: DType, f: impl FnOnce(&Tile) -> Instr) -> Val {
        let t = self.new_tile(wide, dtype);
        let i = f(&t);
        self.b.emit(i);
        Emitter::wrap(wide, t)
    }
    fn activation(&mut self, name: &str, x: &Val, dtype: DType) -> Lower<Val> {
        let t = x.tile().ok_or("a constant")?.clone();
        Ok(self.emit(x.is_wide(), dtype, |d| Instr::new("activation").with("dst", d).with("op", name).with("data", &t)))
    }
    fn with_number(&mut self, x: &Val, op: &str, c: f64, reverse: bool, dtype: DType) -> Lower<Val> {
        let t = x.tile().ok_or("a constant")?.clone();
        Ok(self.emit(x.is_wide(), dtype, |d| {
            let i = Instr::new("tensor_scalar").with("dst", d).with("data", &t).with("op0", op).with("operand0", c);
            if reverse { i.with("reverse0", true) } else { i }
        }))
    }
    /// The value as a tile as wide as the row.
    pub(crate) fn widen(&mut self, v: &Val, dtype: DType) -> Lower<Tile> {
        match v {
            Val::Tile(t) => Ok(t.clone()),
            Val::Const(c) => {
                let t = self.new_tile(true, dtype);
                self.b.emit(Instr::new("memset").with("dst", &t).with("value", *c));
                Ok(t)
            }
            Val::Scalar(s) => {
                let s = self.as_f32(s);
                let zero = self.new_tile(true, DType::F32);
                self.b.emit(Instr::new("memset").with("dst", &zero).with("value", 0.0));
                let t = self.new_tile(true, dtype);
                self.b.emit(Instr::new("tensor_scalar").with("dst", &t).with("data", &zero).with("op0", "add").with("operand0", &s));
                Ok(t)
            }
        }
    }
    /// Scalar operands of instructions are fp32.
    fn as_f32(&mut self, s: &Tile) -> Tile {
        if s.dtype == DType::F32 {
            return s.clone();
        }
        let t = self.new_tile(false, DType::F32);
        self.b.emit(Instr::new("tensor_copy").with("dst", &t).with("src", s));
        t
    }
    /// `y` as a second operand beside `x`: the vector engine reads one of them from PSUM, not both.
    fn beside(&mut self, x: &Tile, y: &Tile) -> Tile {
        if x.mem != Mem::Psum || y.mem != Mem::Psum {
            return y.clone();
        }
        let t = self.new_tile(true, y.dtype);
        self.b.emit(Instr::new("tensor_copy").with("dst", &t).with("src", y));
        t
    }
    /// `x op y` for an operator of the ALU.
    fn combine(&mut self, op: &str, swapped: &str, commutes: bool, x: &Val, y: &Val, dtype: DType) -> Lower<Val> {
        match (x, y) {
            (Val::Const(_), Val::Const(_)) => Err("constants".into()),
            (_, Val::Const(c)) => self.with_number(x, op, *c, false, dtype),
            (Val::Const(c), _) if commutes => self.with_number(y, swapped, *c, false, dtype),
            (Val::Const(c), _) => self.with_number(y, op, *c, true, dtype),
            (Val::Tile(a), Val::Tile(c)) | (Val::Scalar(a), Val::Scalar(c)) => {
                let (a, c) = (a.clone(), self.beside(a, c));
                Ok(self.emit(x.is_wide(), dtype, |d| {
                    Instr::new("tensor_tensor").with("dst", d).with("data1", &a).with("data2", &c).with("op", op)
                }))
            }
            (Val::Tile(a), Val::Scalar(s)) => {
                let (a, s) = (a.clone(), self.as_f32(s));
                Ok(self.emit(true, dtype, |d| {
                    Instr::new("tensor_scalar").with("dst", d).with("data", &a).with("op0", op).with("operand0", &s)
                }))
            }
            (Val::Scalar(s), Val::Tile(a)) => {
                let (a, s) = (a.clone(), self.as_f32(s));
                Ok(self.emit(true, dtype, |d| {
                    let i = Instr::new("tensor_scalar").with("dst", d).with("data", &a).with("op0", if commutes { swapped } else { op });
                    let i = i.with("operand0", &s);
                    if commutes { i } else { i.with("reverse0", true) }
                }))
            }
        }
    }

    /// Rounds to a whole number by way of int32, whose conversion rounds to nearest even; beyond 2^23 floats are whole already.
    fn round(&mut self, x: &Val, dtype: DType) -> Lower<Val> {
        let t = x.tile().ok_or("a constant")?.clone();
        let wide = x.is_wide();
        let i = self.new_tile(wide, DType::I32);
        self.b.emit(Instr::new("tensor_copy").with("dst", &i).with("src", &t));
        let whole = self.emit(wide, dtype, |d| Instr::new("tensor_copy").with("dst", d).with("src", &i));
        let size = self.activation("abs", x, DType::F32)?;
        let big = self.with_number(&size, "greater_equal", 8_388_608.0, false, DType::U8)?;
        let (Some(w), Some(p)) = (whole.tile(), big.tile()) else { return Err("a constant".into()) };
        let (w, p) = (w.clone(), p.clone());
        self.b.emit(Instr::new("tensor_copy_predicated").with("dst", &w).with("src", &t).with("predicate", &p));
        Ok(whole)
    }

    /// sin(x + shift): x less the nearest multiple of 2π in three parts, so that the table's range holds.
    fn sine(&mut self, x: &Val, shift: f64, dtype: DType) -> Lower<Val> {
        let shifted = if shift == 0.0 { x.clone() } else { self.with_number(x, "add", shift, false, DType::F32)? };
        let turns = self.with_number(&shifted, "multiply", 1.0 / std::f64::consts::TAU, false, DType::F32)?;
        let n = self.round(&turns, DType::F32)?;
        let mut r = shifted;
        for part in [6.28125, 1.934_051_513_671_875e-3, 1.255_665_916_233_063e-6] {
            let p = self.with_number(&n, "multiply", part, false, DType::F32)?;
            r = self.combine("subtract", "subtract", false, &r, &p, DType::F32)?;
        }
        let r = self.with_number(&r, "minimum", std::f32::consts::PI as f64, false, DType::F32)?;
        let r = self.with_number(&r, "maximum", -std::f32::consts::PI as f64, false, DType::F32)?;
        self.activation("sin", &r, dtype)
    }

    fn unary(&mut self, u: Unary, x: &Val, dtype: DType) -> Lower<Val> {
        let table = match u {
            Unary::Abs => "abs",
            Unary::Sign => "sign",
            Unary::Sqrt => "sqrt",
            Unary::Rsqrt => "rsqrt",
            Unary::Exp => "exp",
            Unary::Log => "log",
            Unary::Tanh => "tanh",
            Unary::Erf => "erf",
            Unary::Sigmoid => "sigmoid",
            _ => "",
        };
        if !table.is_empty() {
            return self.activation(table, x, dtype);
        }
        match u {
            Unary::Neg => self.with_number(x, "multiply", -1.0, false, dtype),
            Unary::Not => self.with_number(x, "equal", 0.0, false, DType::U8),
            Unary::IsNan => self.combine("not_equal", "not_equal", true, x, x, DType::U8),
            Unary::Reciprocal => {
                let t = x.tile().ok_or("a constant")?.clone();
                Ok(self.emit(x.is_wide(), dtype, |d| Instr::new("reciprocal").with("dst", d).with("data", &t)))
            }
            Unary::Sin => self.sine(x, 0.0, dtype),
            Unary::Cos => self.sine(x, std::f64::consts::FRAC_PI_2, dtype),
            Unary::Round => self.round(x, dtype),
            Unary::Floor | Unary::Ceil => {
                // Rounded, and one step back where rounding went past x.
                let r = self.round(x, DType::F32)?;
                let up = u == Unary::Floor;
                let past = self.combine(if up { "greater" } else { "less" }, "", false, &r, x, DType::F32)?;
                let op = if up { "subtract" } else { "add" };
                self.combine(op, op, false, &r, &past, dtype)
            }
            u => Err(format!("no instruction for {}", u.name())),
        }
    }

    fn power(&mut self, x: &Val, y: &Val, dtype: DType) -> Lower<Val> {
        if let Val::Const(c) = y {
            if *c == 2.0 {
                return self.activation("square", x, dtype);
            } else if *c == 0.5 {
                return self.activation("sqrt", x, dtype);
            } else if *c == -1.0 {
                return self.unary(Unary::Reciprocal, x, dtype);
            } else if *c == 3.0 {
                let s = self.activation("square", x, DType::F32)?;
                return self.combine("multiply", "multiply", true, &s, x, dtype);
            }
        }
        let (a, p) = (self.widen(x, DType::F32)?, self.widen(y, DType::F32)?);
        let p = self.beside(&a, &p);
        Ok(self.emit(true, dtype, |d| {
            Instr::new("tensor_tensor").with("dst", d).with("data1", &a).with("data2", &p).with("op", "power").with("engine", "gpsimd")
        }))
    }

    fn select(&mut self, c: &Val, a: &Val, other: &Val, dtype: DType) -> Lower<Val> {
        if let Val::Const(c) = c {
            return Ok(if *c != 0.0 { a.clone() } else { other.clone() });
        }
        let wide = c.is_wide() || a.is_wide() || other.is_wide();
        let dst = self.new_tile(wide, dtype);
        let fit = |e: &mut Self, v: &Val, d: DType| -> Lower<Tile> {
            match v {
                Val::Scalar(t) if !wide => Ok(t.clone()),
                v => e.widen(v, d),
            }
        };
        match other {
            Val::Const(v) => self.b.emit(Instr::new("memset").with("dst", &dst).with("value", *v)),
            v => {
                let t = fit(self, v, dtype)?;
                self.b.emit(Instr::new("tensor_copy").with("dst", &dst).with("src", &t));
            }
        }
        let mut predicate = fit(self, c, DType::U8)?;
        if predicate.dtype != DType::U8 {
            let t = self.new_tile(wide, DType::U8);
            self.b
                .emit(Instr::new("tensor_scalar").with("dst", &t).with("data", &predicate).with("op0", "not_equal").with("operand0", 0.0));
            predicate = t;
        }
        let copy = Instr::new("tensor_copy_predicated").with("dst", &dst).with("predicate", &predicate);
        let copy = match a {
            Val::Const(v) => copy.with("src", *v),
            v => {
                let mut t = fit(self, v, dtype)?;
                if t.dtype != dtype {
                    let same = self.new_tile(wide, dtype);
                    self.b.emit(Instr::new("tensor_copy").with("dst", &same).with("src", &t));
                    t = same;
                }
                copy.with("src", &t)
            }
        };
        self.b.emit(copy);
        Ok(Emitter::wrap(wide, dst))
    }

    /// To another type. Integers are refused: the engines' conversion rounds where the model's truncates.
    fn cast(&mut self, x: &Val, from: DType, to: DType) -> Lower<Val> {
        let Some(t) = x.tile().cloned() else { return Ok(x.clone()) };
        let want = tile_type(to)?;
        tile_type(from)?;
        if to == DType::Bool {
            return self.with_number(x, "not_equal", 0.0, false, DType::U8);
        }
        if t.dtype == want {
            return Ok(x.clone());
        }
        Ok(self.emit(x.is_wide(), want, |d| Instr::new("tensor_copy").with("dst", d).with("src", &t)))
    }

    /// The expression's value on these inputs.
    pub(crate) fn expr(&mut self, e: &Expr, inputs: &[Val]) -> Lower<Val> {
        let mut v: Vec<Val> = Vec::with_capacity(e.steps.len());
        for (s, d) in &e.steps {
            let new = match s {
                Step::Input(i) => inputs[*i].clone(),
                Step::Const(c) => Val::Const(c.0),
                s => match fold(s, *d, e, &v) {
                    Some(c) => Val::Const(c),
                    None => {
                        let t = tile_type(*d)?;
                        match *s {
                            Step::Unary(u, a) => self.unary(u, &v[a].clone(), t)?,
                            Step::Binary(Binary::Div, a, c) => match v[c] {
                                Val::Const(c) => self.with_number(&v[a].clone(), "multiply", 1.0 / c, false, t)?,
                                _ => {
                                    let r = self.unary(Unary::Reciprocal, &v[c].clone(), DType::F32)?;
                                    match v[a] {
                                        Val::Const(1.0) if t == DType::F32 => r,
                                        _ => self.combine("multiply", "multiply", true, &v[a].clone(), &r, t)?,
                                    }
                                }
                            },
                            Step::Binary(Binary::Pow, a, c) => self.power(&v[a].clone(), &v[c].clone(), t)?,
                            Step::Binary(op, a, c) => {
                                let name = alu(op).ok_or_else(|| format!("no instruction for {}", op.name()))?;
                                self.combine(name, name, op != Binary::Sub, &v[a].clone(), &v[c].clone(), t)?
                            }
                            Step::Compare(op, a, c) => {
                                tile_type(e.steps[a].1)?;
                                self.combine(compare(op, false), compare(op, true), true, &v[a].clone(), &v[c].clone(), t)?
                            }
                            Step::Select(c, a, o) => self.select(&v[c].clone(), &v[a].clone(), &v[o].clone(), t)?,
                            Step::Cast(a) => self.cast(&v[a].clone(), e.steps[a].1, *d)?,
                            Step::Input(_) | Step::Const(_) => Val::Const(0.0),
                        }
                    }
                },
            };
            v.push(new);
        }
        v.pop().ok_or_else(|| "an empty expression".into())
    }
}

/// The step's value if all its operands are numbers.
fn fold(s: &Step, d: DType, e: &Expr, v: &[Val]) -> Option<f64> {
    let operands: Vec<usize> = match *s {
        Step::Unary(_, a) | Step::Cast(a) => vec![a],
        Step::Binary(_, a, b) | Step::Compare(_, a, b) => vec![a, b],
        Step::Select(a, b, c) => vec![a, b, c],
        _ => return None,
    };
    let mut one = Expr::default();
    let mut at = vec![];
    for &o in &operands {
        let Val::Const(c) = v[o] else { return None };
        one.steps.push((Step::Const(c.into()), e.steps[o].1));
        at.push(one.steps.len() - 1);
    }
    one.steps.push((
        match *s {
            Step::Unary(u, _) => Step::Unary(u, at[0]),
            Step::Cast(_) => Step::Cast(at[0]),
            Step::Binary(b, ..) => Step::Binary(b, at[0], at[1]),
            Step::Compare(c, ..) => Step::Compare(c, at[0], at[1]),
            _ => Step::Select(at[0], at[1], at[2]),
        },
        d,
    ));
    Some(match kernel_eval::expr(&one, &[]) {
        Number::F(x) => x,
        Number::I(x) => x as f64,
    })
}
