//! Between which powers of two the elements of a value lie: what rules ask before they move or join numbers.
//!
//! ```text
//! v = 0   or   2^least ≤ |v| ≤ 2^most            |x·y| ≤ 2^(p + q)     |Σ of n| ≤ 2^(p + ⌈log₂ n⌉)
//! ```
//!
//! What is not known of a value is taken from its type ([`home`]). Integers wrap: what may pass their ends says nothing.

use crate::facts::Value;
use tahoma_core::numeric::{FloatFormat, float_format};
use tahoma_core::op::{Contract, Kind, Move, OpDef};
use tahoma_core::{Attrs, DType, Tensor, TensorType};

/// Exponents of the largest and the least magnitude beside 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    pub most: i16,
    pub least: i16,
}

/// Further than any exponent of a type.
const FAR: i32 = 1 << 13;

impl Default for Span {
    fn default() -> Span {
        Span::ANY
    }
}

impl Span {
    /// Says nothing.
    pub const ANY: Span = Span { most: FAR as i16, least: -(FAR as i16) };
    /// Every element is 0.
    pub const ZERO: Span = Span { most: -(FAR as i16), least: FAR as i16 };

    pub fn new(most: i32, least: i32) -> Span {
        Span { most: most.clamp(-FAR, FAR) as i16, least: least.clamp(-FAR, FAR) as i16 }
    }
    /// Of numbers; an infinity or a NaN among them says nothing.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Span {
        let mut span = Span::ZERO;
        for x in values.into_iter().map(f64::abs).filter(|x| *x != 0.0) {
            if !x.is_finite() {
                return Span::ANY;
            }
            let e = exponent(x);
            span = span.join(Span::new(e + i32::from(x != 2f64.powi(e)), e));
        }
        span
    }
    pub fn is_zero(self) -> bool {
        self.most < self.least && self.most < 0
    }
    /// Whether every element is 0 or one power of two, up to its sign.
    pub fn is_power(self) -> bool {
        self.most == self.least
    }
    /// Where either may be.
    pub fn join(self, o: Span) -> Span {
        Span { most: self.most.max(o.most), least: self.least.min(o.least) }
    }
    /// Where both are.
    pub fn meet(self, o: Span) -> Span {
        Span { most: self.most.min(o.most), least: self.least.max(o.least) }
    }
    /// Of a sum of `n` products. Such sums are off by a share of their terms, so what the terms are no less than is what counts.
    pub fn products(self, o: Span, n: u64) -> Span {
        self.times(o).summed(n, 0, true)
    }
    fn times(self, o: Span) -> Span {
        if self.is_zero() || o.is_zero() {
            return Span::ZERO;
        }
        Span::new(self.most as i32 + o.most as i32, self.least as i32 + o.least as i32)
    }
    fn inverse(self) -> Span {
        if self.is_zero() { Span::ANY } else { Span::new(-(self.least as i32), -(self.most as i32)) }
    }
    fn root(self) -> Span {
        if self.is_zero() { self } else { Span::new((self.most as i32 + 1).div_euclid(2), (self.least as i32).div_euclid(2)) }
    }
    /// Of a sum of `n`. Terms are multiples of their last places, so a sum that is not 0 is no less than those.
    fn summed(self, n: u64, digits: i32, same_sign: bool) -> Span {
        if self.is_zero() || n == 0 {
            return Span::ZERO;
        }
        let least = if same_sign { self.least as i32 } else { self.least as i32 - digits };
        Span::new(self.most as i32 + log2(n), least)
    }
}

/// ⌊log₂ x⌋ of a positive number.
fn exponent(x: f64) -> i32 {
    let bits = (x.to_bits() >> 52) as i32;
    if bits > 0 { bits - 1023 } else { exponent(x * 2f64.powi(64)) - 64 }
}

/// ⌈log₂ n⌉.
fn log2(n: u64) -> i32 {
    n.max(1).next_power_of_two().trailing_zeros() as i32
}

/// Whether a float type has so many exponents that programs keep clear of its ends.
fn is_roomy(f: &FloatFormat) -> bool {
    f.most > 100
}

/// Where the values of a program are taken to lie, by type. Integers, f16 and smaller: anywhere. Types of eight and more exponent bits: where
/// a product of two and a sum of 2¹³ of those are numbers of the type still (f32: 2⁻⁵⁶ to 2⁵⁶), so that what moves neither overflows nor
/// underflows on the way.
pub fn home(d: DType) -> Span {
    match float_format(d) {
        Some(f) if is_roomy(&f) => Span::new((f.most - 15) / 2, -(f.most - 15) / 2),
        Some(f) => Span::new(f.most + 1, f.tiny()),
        None if d == DType::Bool => Span::new(0, 0),
        None => Span::new(d.bits() as i32 - i32::from(d.is_signed_int()), 0),
    }
}

/// Where weights are taken to lie whose values nobody has looked at: in roomy types as those of networks do.
pub fn ordinary(d: DType) -> Span {
    match float_format(d) {
        Some(f) if is_roomy(&f) => Span::new(12, -36),
        _ => home(d),
    }
}

/// What a search must be told of a weight: its span, where it is not ordinary. Elements below 2⁻³⁶ count as 0 beside one of 2⁻²⁴ or more.
pub fn extraordinary(d: DType, all: Span) -> Option<Span> {
    let usual = ordinary(d);
    let common = all.most >= -24 && all.most <= usual.most;
    let roomy = float_format(d).is_some_and(|f| is_roomy(&f));
    (roomy && !common && !all.is_zero() && all.meet(usual) != all).then_some(all)
}

/// The same of a tensor.
pub fn extraordinary_tensor(t: &Tensor) -> Option<Span> {
    extraordinary(t.dtype(), Span::of(t.to_f64s()))
}

/// Elements that are looked at in one go.
const CHUNK: usize = 1 << 14;

/// The span of a weight in packed little-endian bytes, without a copy of them. `None` for types that are not asked about.
pub fn of_bytes(d: DType, bytes: &[u8]) -> Option<Span> {
    float_format(d).filter(is_roomy)?;
    let size = d.bits() as usize / 8;
    let mut spans = bytes.chunks(CHUNK * size).map(|c| Tensor::from_bytes(d, &[c.len() / size], c).map(|t| Span::of(t.to_f64s())));
    spans.try_fold(Span::ZERO, |all, s| Some(all.join(s?)))
}

/// The largest exponent whose power of two is a number of the type, and the least of its normal numbers.
pub fn ends(d: DType) -> Option<(i16, i16)> {
    float_format(d).map(|f| (f.most as i16, f.least as i16))
}

/// Of what an op makes; exact arithmetic, whatever the type can hold.
pub fn image(op: &OpDef, args: &[&Value], attrs: &Attrs, ty: &TensorType) -> Span {
    let spans: Vec<Span> = args.iter().map(|a| a.known.span).collect();
    if op.name == "iota" {
        return Span::new(log2(ty.shape.elements().unwrap_or(u64::MAX)), 0);
    }
    let Some(&first) = spans.first() else { return Span::ANY };
    // What reduces nothing gives the ends of the type.
    if args[0].ty.shape.elements() == Some(0) {
        return Span::ANY;
    }
    let all = || spans.iter().copied().reduce(Span::join).unwrap_or(Span::ANY);
    let digits = float_format(ty.dtype).map_or(0, |f| f.digits);
    let positive = args.iter().all(|a| a.known.non_negative);
    let each = |t: &TensorType| t.shape.elements().unwrap_or(u64::MAX).max(1);
    let within = |most: i32| Span::new(most, Span::ANY.least as i32);
    let one = within(0);
    let extent = |i: usize, axis: usize| args[i].ty.shape.0.get(axis).and_then(|d| d.known()).unwrap_or(u64::MAX);
    // A row of n that is normalised has no element above √n.
    let normalised = |axes: std::ops::Range<usize>| {
        let n = axes.map(|a| extent(0, a)).fold(1u64, u64::saturating_mul);
        (log2(n) + 1) / 2
    };
    match op.name {
        "add" if spans.iter().any(|s| s.is_zero()) => all(),
        "add" => all().summed(2, digits, positive),
        "sub" => all().summed(2, digits, false),
        "mul" => first.times(spans[1]),
        "div" => first.times(spans[1].inverse()),
        "reciprocal" => first.inverse(),
        "sqrt" => first.root(),
        "rsqrt" => first.inverse().root(),
        "neg" | "abs" | "relu" | "reduce_max" | "reduce_min" | "max_pool" | "gather" => first,
        "max" | "min" | "concat" => all(),
        "clip" => Span::new(spans[1].join(spans[2]).most as i32, all().least as i32),
        "select" => spans[1].join(spans[2]),
        "pad" => first.join(Span::of(attrs.float("value"))),
        "sign" | "one_hot" => Span::new(0, 0),
        "sigmoid" | "softmax" | "sink_softmax" | "top_softmax" | "tanh" | "erf" | "sin" | "cos" | "hard_sigmoid" | "softsign" => one,
        "gelu" | "gelu_tanh" | "silu" | "hard_swish" | "mish" | "thresholded_relu" => within(first.most as i32),
        "softplus" => within(first.most.max(0) as i32 + 1),
        "exp" if first.most <= 9 => {
            let far = (2f64.powi(first.most as i32) * std::f64::consts::LOG2_E).ceil() as i32;
            Span::new(far, -far)
        }
        "log" => within(log2(first.most.unsigned_abs().max(first.least.unsigned_abs()) as u64 + 1)),
        "reduce_sum" => first.summed(each(&args[0].ty) / each(ty), 0, true),
        "reduce_mean" => {
            let n = log2(each(&args[0].ty) / each(ty));
            Span::new(first.most as i32, first.least as i32 - n)
        }
        "sum_pool" => {
            let n = attrs.ints("window").unwrap_or_default().iter().product::<i64>();
            first.summed(n.unsigned_abs(), 0, true)
        }
        "rms_norm" | "layer_norm" => {
            let axis = attrs.int("axis").unwrap_or(0) as usize;
            let scaled = within(normalised(axis..args[0].ty.rank())).times(spans[1]);
            spans.get(2).map_or(scaled, |b| scaled.join(*b).summed(2, digits, false))
        }
        "cast" => cast(first, args[0].ty.dtype, ty.dtype),
        _ => match op.kind {
            Kind::Move(Move::Transpose | Move::Reshape | Move::Broadcast | Move::Slice) => first,
            Kind::Contract(c) => {
                let n = match c {
                    Contract::MatMul => extent(0, args[0].ty.rank().saturating_sub(1)),
                    Contract::Conv => (1..args[1].ty.rank()).map(|a| extent(1, a)).fold(1, u64::saturating_mul),
                };
                first.products(spans[1], n)
            }
            _ => Span::ANY,
        },
    }
}

fn cast(x: Span, from: DType, to: DType) -> Span {
    match (float_format(from), float_format(to)) {
        (_, Some(f)) if !x.is_zero() => Span::new(x.most as i32, (x.least as i32).max(f.tiny())),
        (None, None) => x,
        (_, Some(_)) => x,
        // NaN and infinities become numbers too.
        (Some(_), None) => Span::ANY,
    }
}

/// Whether an integer type holds all that an op makes; else it wraps somewhere.
pub fn holds(op: &OpDef, args: &[&Value], image: Span, d: DType) -> bool {
    let room = d.bits() as i32 - 1 - i32::from(d.is_signed_int());
    let below_zero = match op.name {
        "sub" | "neg" => true,
        _ => args.iter().any(|a| !a.known.non_negative),
    };
    // The sum behind a mean.
    let steps = match op.name {
        "reduce_mean" => log2(args[0].ty.shape.elements().unwrap_or(u64::MAX)),
        _ => 0,
    };
    image.most as i32 + steps <= room && (d.is_signed_int() || !below_zero)
}
