//! Scalar expressions on tiles: each step is an instruction of the Vector or Scalar engine.
//!
//! Values are tiles `[P, N]`, scalars of the row `[P, 1]`, or numbers. Division is a reciprocal and a product (two roundings), which is
//! the reassociating class; what the engines cannot do exactly enough is refused and runs on the host. How exact each function is, over
//! all of its arguments, stands in ACCURACY.md, which a test holds.

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

/// 2π in three parts of 12 bits, whose products with 12 bits are exact, and the rest.
fn tau_parts() -> [f64; 4] {
    // 2π in f64 ends at 2⁻⁵⁰; what follows is below 2⁻⁵² and counts at 2²⁴ turns only.
    let (mut rest, mut parts) = (std::f64::consts::TAU, [0.0; 4]);
    for (p, lsb) in parts.iter_mut().zip([9, 21, 33]) {
        let unit = 2f64.powi(-lsb);
        *p = (rest / unit).floor() * unit;
        rest -= *p;
    }
    parts[3] = rest + 2.449_293_598_294_706_4e-16;
    parts
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
                let t = self.new_tile(true, dtype);
                self.b.emit(Instr::new("tensor_copy").with("dst", &t).with("src", s.repeated(self.width)));
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
        if x.mem == Mem::Psum { self.out_of_psum(y) } else { y.clone() }
    }
    /// A tile that GpSimd reaches: it reads SBUF only.
    fn out_of_psum(&mut self, x: &Tile) -> Tile {
        if x.mem != Mem::Psum {
            return x.clone();
        }
        let t = self.new_tile(true, x.dtype);
        self.b.emit(Instr::new("tensor_copy").with("dst", &t).with("src", x));
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

    /// `x·factor` rounded to a whole number, as f32: by way of int32, whose conversion rounds to nearest even, so within ±2³¹, and 0 of NaN.
    fn whole(&mut self, x: &Val, factor: f64) -> Lower<Val> {
        let i = self.with_number(x, "multiply", factor, false, DType::I32)?;
        let i = i.tile().ok_or("a constant")?.clone();
        Ok(self.emit(x.is_wide(), DType::F32, |d| Instr::new("tensor_copy").with("dst", d).with("src", &i)))
    }

    /// Copies `x` to `onto`, of its type, where `keep` holds (or where it does not).
    fn overwrite(&mut self, onto: &Val, x: &Val, keep: &Val, where_not: bool) -> Lower<()> {
        let (Some(d), Some(s), Some(p)) = (onto.tile(), x.tile(), keep.tile()) else { return Err("a constant".into()) };
        let i = Instr::new("tensor_copy_predicated").with("dst", d).with("src", s).with("predicate", p);
        self.b.emit(if where_not { i.with("reverse_pred", true) } else { i });
        Ok(())
    }

    /// The value as f32.
    fn as_wide_type(&mut self, x: &Val) -> Lower<Val> {
        let t = x.tile().ok_or("a constant")?.clone();
        if t.dtype == DType::F32 {
            return Ok(x.clone());
        }
        Ok(self.emit(x.is_wide(), DType::F32, |d| Instr::new("tensor_copy").with("dst", d).with("src", &t)))
    }

    /// To the nearest whole number, ties to even, as f32. From 2²³ on floats are whole; they, infinity and NaN stay what they are.
    /// The product with the sign keeps −0.
    fn round(&mut self, x: &Val) -> Lower<Val> {
        let x = self.as_wide_type(x)?;
        let size = self.activation("abs", &x, DType::F32)?;
        let sign = self.activation("sign", &x, DType::F32)?;
        let whole = self.whole(&size, 1.0)?;
        let whole = self.combine("multiply", "multiply", true, &whole, &sign, DType::F32)?;
        let small = self.with_number(&size, "less", 8_388_608.0, false, DType::U8)?;
        self.overwrite(&whole, &x, &small, true)?;
        Ok(whole)
    }

    /// The nearest whole number below, as f32: rounded, and one step back where rounding went past x.
    fn floor(&mut self, x: &Val) -> Lower<Val> {
        let x = self.as_wide_type(x)?;
        let r = self.round(&x)?;
        let past = self.combine("greater", "less", true, &r, &x, DType::U8)?;
        self.combine("subtract", "subtract", false, &r, &past, DType::F32)
    }

    /// In the type of the result.
    fn narrow(&mut self, x: Val, dtype: DType) -> Lower<Val> {
        let t = x.tile().ok_or("a constant")?.clone();
        if t.dtype == dtype {
            return Ok(x);
        }
        Ok(self.emit(x.is_wide(), dtype, |d| Instr::new("tensor_copy").with("dst", d).with("src", &t)))
    }

    /// `r − n·part`, in one instruction.
    fn less_product(&mut self, r: &Val, n: &Val, part: f64) -> Lower<Val> {
        let (t, s) = (r.tile().ok_or("a constant")?.clone(), n.tile().ok_or("a constant")?.clone());
        Ok(self.emit(n.is_wide(), DType::F32, |d| {
            let i = Instr::new("scalar_tensor_tensor").with("dst", d).with("data", &s).with("op0", "multiply").with("operand0", part);
            i.with("op1", "subtract").with("operand1", &t).with("reverse1", true)
        }))
    }

    /// The angle less its whole turns, in [−π, π] up to a rounding, for |x| up to 2²⁴ turns; NaN of infinity.
    ///
    /// The count of turns n = h + l is split in two of 12 bits, and 2π in parts of 12 bits and a rest (Cody and Waite), so that products
    /// and differences are exact until the angle is small. n may be one off: it is taken from a rounded product. A second, exact
    /// reduction of the small angle mends that.
    fn angle(&mut self, x: &Val) -> Lower<Val> {
        let x = self.as_wide_type(x)?;
        let turn = 1.0 / std::f64::consts::TAU;
        let n = self.whole(&x, turn)?;
        let thousands = self.whole(&n, 1.0 / 4096.0)?;
        let h = self.with_number(&thousands, "multiply", 4096.0, false, DType::F32)?;
        let l = self.combine("subtract", "subtract", false, &n, &h, DType::F32)?;
        let parts = tau_parts();
        let mut r = x.clone();
        for p in &parts[..3] {
            r = self.less_product(&r, &h, *p)?;
            r = self.less_product(&r, &l, *p)?;
        }
        r = self.less_product(&r, &n, parts[3])?;
        let n = self.whole(&r, turn)?;
        for p in parts {
            r = self.less_product(&r, &n, p)?;
        }
        // 0·x is 0, and NaN of infinity.
        let r = self.less_product(&r, &x, 0.0)?;
        let r = self.with_number(&r, "minimum", std::f32::consts::PI as f64, false, DType::F32)?;
        self.with_number(&r, "maximum", -std::f32::consts::PI as f64, false, DType::F32)
    }

    /// cos r = sin(π/2 − |r|): the difference is exact where the sine is small, and always in the table's range.
    fn cosine(&mut self, x: &Val, dtype: DType) -> Lower<Val> {
        let r = self.angle(x)?;
        let size = self.activation("abs", &r, DType::F32)?;
        let quarter = std::f64::consts::FRAC_PI_2;
        let high = quarter as f32 as f64;
        let t = self.with_number(&size, "subtract", high, true, DType::F32)?;
        let t = self.with_number(&t, "add", quarter - high, false, DType::F32)?;
        self.activation("sin", &t, dtype)
    }

    /// Factors that bring `y` near enough to 1 for its reciprocal to be a normal number: 2⁶⁴ below 2⁻⁶⁴, 2⁻⁶⁴ above 2⁶⁴, 1 between.
    fn scale_of(&mut self, y: &Val) -> Lower<Val> {
        let size = self.activation("abs", y, DType::F32)?;
        let (up, down) = (2f64.powi(64), 2f64.powi(-64));
        // 1 + tiny·(2⁶⁴ − 1) and 1 + huge·(2⁻⁶⁴ − 1); both factors round to powers of two.
        let line = |e: &mut Self, op: &str, at: f64, step: f64, base: f64| -> Lower<Val> {
            let c = e.with_number(&size, op, at, false, DType::F32)?;
            let c = e.with_number(&c, "multiply", step, false, DType::F32)?;
            e.with_number(&c, "add", base, false, DType::F32)
        };
        let tiny = line(self, "less", down, up, 1.0)?;
        let ordinary = line(self, "less_equal", up, 1.0 - down, down)?;
        self.combine("multiply", "multiply", true, &tiny, &ordinary, DType::F32)
    }

    /// x/y as a product with the reciprocal, of a `y` scaled by a power of two where 1/y would overflow or lose its digits.
    fn quotient(&mut self, x: &Val, y: &Val, from: DType, dtype: DType) -> Lower<Val> {
        if let Val::Const(c) = y {
            return self.divided_by(x, *c, dtype);
        }
        if matches!(x, Val::Const(1.0)) && dtype == DType::F32 {
            return self.unary(Unary::Reciprocal, y, dtype);
        }
        // f16 has no number whose reciprocal f32 could not hold.
        if from == DType::F16 {
            let r = self.unary(Unary::Reciprocal, y, DType::F32)?;
            return self.combine("multiply", "multiply", true, x, &r, dtype);
        }
        let k = self.scale_of(y)?;
        let scaled = self.combine("multiply", "multiply", true, y, &k, DType::F32)?;
        let r = self.unary(Unary::Reciprocal, &scaled, DType::F32)?;
        if let (Val::Tile(t), Val::Scalar(r), Val::Scalar(k)) = (x, &r, &k) {
            return Ok(self.emit(true, dtype, |d| {
                let i = Instr::new("tensor_scalar").with("dst", d).with("data", t).with("op0", "multiply").with("operand0", r);
                i.with("op1", "multiply").with("operand1", k)
            }));
        }
        let q = self.combine("multiply", "multiply", true, x, &r, DType::F32)?;
        self.combine("multiply", "multiply", true, &q, &k, dtype)
    }

    /// x/c: a product with 1/c, in two steps where f32 does not hold 1/c with all its digits.
    fn divided_by(&mut self, x: &Val, c: f64, dtype: DType) -> Lower<Val> {
        let size = c.abs();
        let normal = (2f64.powi(-126)..=2f64.powi(126)).contains(&size) || size == 0.0 || !size.is_finite();
        if normal {
            return self.with_number(x, "multiply", 1.0 / c, false, dtype);
        }
        let k = 2f64.powi(if size < 1.0 { 64 } else { -64 });
        let t = x.tile().ok_or("a constant")?.clone();
        Ok(self.emit(x.is_wide(), dtype, |d| {
            let i = Instr::new("tensor_scalar").with("dst", d).with("data", &t).with("op0", "multiply").with("operand0", k);
            i.with("op1", "multiply").with("operand1", 1.0 / (c * k))
        }))
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
            Unary::Sin => {
                let r = self.angle(x)?;
                self.activation("sin", &r, dtype)
            }
            Unary::Cos => self.cosine(x, dtype),
            Unary::Round => {
                let r = self.round(x)?;
                self.narrow(r, dtype)
            }
            Unary::Floor => {
                let r = self.floor(x)?;
                self.narrow(r, dtype)
            }
            Unary::Ceil => {
                // −⌊−x⌋, which keeps the −0 of what lies above −1.
                let n = self.with_number(x, "multiply", -1.0, false, DType::F32)?;
                let r = self.floor(&n)?;
                self.with_number(&r, "multiply", -1.0, false, dtype)
            }
            u => Err(format!("no instruction for {}", u.name())),
        }
    }

    /// x to the power ½: a root, but +0 of −0 and +∞ of −∞.
    fn root(&mut self, x: &Val, dtype: DType) -> Lower<Val> {
        let x = self.with_number(x, "add", 0.0, false, DType::F32)?;
        let y = self.activation("sqrt", &x, DType::F32)?;
        let size = self.activation("abs", &x, DType::F32)?;
        let least = self.with_number(&x, "less", f64::from(f32::MIN), false, DType::U8)?;
        self.overwrite(&y, &size, &least, false)?;
        self.narrow(y, dtype)
    }

    fn power(&mut self, x: &Val, y: &Val, dtype: DType) -> Lower<Val> {
        if let Val::Const(c) = y {
            if *c == 2.0 {
                return self.activation("square", x, dtype);
            } else if *c == 0.5 {
                return self.root(x, dtype);
            } else if *c == -1.0 {
                return self.unary(Unary::Reciprocal, x, dtype);
            } else if *c == 3.0 {
                let s = self.activation("square", x, DType::F32)?;
                return self.combine("multiply", "multiply", true, &s, x, dtype);
            }
        }
        let (a, p) = (self.widen(x, DType::F32)?, self.widen(y, DType::F32)?);
        let (a, p) = (self.out_of_psum(&a), self.out_of_psum(&p));
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
                            Step::Binary(Binary::Div, a, c) => self.quotient(&v[a].clone(), &v[c].clone(), e.steps[c].1, t)?,
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
