//! Floats of programs and artifacts. Two are the same when their bits are: NaN equals the same NaN, and −0 is not 0, so that specs and
//! attributes can be compared, hashed and found again. What is written reads back with the same bits.
//!
//! ```text
//! 0.5   -0.0   1e-45        JSON numbers: the shortest text that reads back equal
//! "inf" "-inf" "nan"        what JSON has no number for
//! "nan:fff8000000000001"    a NaN with another sign or payload, by its bits
//! ```
//!
//! serde_json writes a plain `f64` that is not finite as `null`, which reads back as nothing at all. So no type that is written has a
//! plain float: it has a [`Float`], or names this module with `#[serde(with = "tahoma_core::float")]`. A test over the sources holds
//! that.

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

/// A float that compares, hashes and is written by its bits.
#[derive(Clone, Copy, Default)]
pub struct Float(pub f64);

impl PartialEq for Float {
    fn eq(&self, o: &Float) -> bool {
        self.0.to_bits() == o.0.to_bits()
    }
}
impl Eq for Float {}
impl PartialOrd for Float {
    fn partial_cmp(&self, o: &Float) -> Option<Ordering> {
        Some(self.cmp(o))
    }
}
impl Ord for Float {
    /// A total order, not that of the numbers.
    fn cmp(&self, o: &Float) -> Ordering {
        self.0.to_bits().cmp(&o.0.to_bits())
    }
}
impl Hash for Float {
    fn hash<H: Hasher>(&self, h: &mut H) {
        self.0.to_bits().hash(h)
    }
}
impl From<f64> for Float {
    fn from(v: f64) -> Float {
        Float(v)
    }
}
impl fmt::Debug for Float {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
impl fmt::Display for Float {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
impl Serialize for Float {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.0.write(s)
    }
}
impl<'de> Deserialize<'de> for Float {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Float, D::Error> {
        f64::read(d).map(Float)
    }
}

/// What `#[serde(with = "tahoma_core::float")]` may stand on: floats, and options, lists and named lists of them.
pub trait Exact: Sized {
    fn write<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error>;
    fn read<'de, D: Deserializer<'de>>(d: D) -> Result<Self, D::Error>;
}

/// For `#[serde(with = "tahoma_core::float")]`.
pub fn serialize<T: Exact, S: Serializer>(v: &T, s: S) -> Result<S::Ok, S::Error> {
    v.write(s)
}

/// For `#[serde(with = "tahoma_core::float")]`.
pub fn deserialize<'de, T: Exact, D: Deserializer<'de>>(d: D) -> Result<T, D::Error> {
    T::read(d)
}

struct Written<'a, T>(&'a T);
struct Found<T>(T);

impl<T: Exact> Serialize for Written<'_, T> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.0.write(s)
    }
}
impl<'de, T: Exact> Deserialize<'de> for Found<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Found<T>, D::Error> {
        T::read(d).map(Found)
    }
}

impl Exact for f64 {
    fn write<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        write(*self, s)
    }
    fn read<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
        d.deserialize_any(Read)
    }
}
impl<T: Exact> Exact for Option<T> {
    fn write<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.as_ref().map(Written).serialize(s)
    }
    fn read<'de, D: Deserializer<'de>>(d: D) -> Result<Option<T>, D::Error> {
        Ok(Option::<Found<T>>::deserialize(d)?.map(|f| f.0))
    }
}
impl<T: Exact> Exact for Vec<T> {
    fn write<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.iter().map(Written))
    }
    fn read<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<T>, D::Error> {
        Ok(Vec::<Found<T>>::deserialize(d)?.into_iter().map(|f| f.0).collect())
    }
}
impl<T: Exact, const N: usize> Exact for [T; N] {
    fn write<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.iter().map(Written))
    }
    fn read<'de, D: Deserializer<'de>>(d: D) -> Result<[T; N], D::Error> {
        let all = Vec::<T>::read(d)?;
        let n = all.len();
        all.try_into().map_err(|_| D::Error::invalid_length(n, &"another number of floats"))
    }
}
impl<T: Exact> Exact for (String, T) {
    fn write<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        (&self.0, Written(&self.1)).serialize(s)
    }
    fn read<'de, D: Deserializer<'de>>(d: D) -> Result<(String, T), D::Error> {
        let (name, f) = <(String, Found<T>)>::deserialize(d)?;
        Ok((name, f.0))
    }
}

fn write<S: Serializer>(v: f64, s: S) -> Result<S::Ok, S::Error> {
    if v.is_finite() {
        s.serialize_f64(v)
    } else if !v.is_nan() {
        s.serialize_str(if v > 0.0 { "inf" } else { "-inf" })
    } else if v.to_bits() == f64::NAN.to_bits() {
        s.serialize_str("nan")
    } else {
        s.serialize_str(&format!("nan:{:016x}", v.to_bits()))
    }
}

struct Read;

impl Visitor<'_> for Read {
    type Value = f64;
    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a number, \"inf\", \"-inf\", \"nan\" or \"nan:\" with 16 hexadecimal digits")
    }
    fn visit_f64<E: Error>(self, v: f64) -> Result<f64, E> {
        Ok(v)
    }
    fn visit_u64<E: Error>(self, v: u64) -> Result<f64, E> {
        Ok(v as f64)
    }
    fn visit_i64<E: Error>(self, v: i64) -> Result<f64, E> {
        Ok(v as f64)
    }
    fn visit_str<E: Error>(self, s: &str) -> Result<f64, E> {
        let bits = |hex: &str| (hex.len() == 16).then(|| u64::from_str_radix(hex, 16).ok())?.map(f64::from_bits).filter(|v| v.is_nan());
        let v = match s {
            "inf" => Some(f64::INFINITY),
            "-inf" => Some(f64::NEG_INFINITY),
            "nan" => Some(f64::NAN),
            other => other.strip_prefix("nan:").and_then(bits),
        };
        v.ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(s), &self))
    }
}

/// Values that a careless writer, reader or comparison loses: for tests of whatever is written.
pub const HOSTILE: &[f64] = &[
    0.0,
    -0.0,
    1.0,
    -1.5,
    0.1,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
    f64::MIN_POSITIVE,
    5e-324,
    -5e-324,
    f64::MAX,
    f64::MIN,
    f64::EPSILON,
    // 2^53 and its neighbour above, a large whole number, and one that shortest printing and careless parsing disagree on.
    9007199254740992.0,
    9007199254740994.0,
    -1e300,
    2.225073858507201e-308,
    9.5e-6,
    1.448997445238699,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn round(v: f64) -> u64 {
        let text = serde_json::to_string(&Float(v)).unwrap();
        serde_json::from_str::<Float>(&text).unwrap_or_else(|e| panic!("{text}: {e}")).0.to_bits()
    }

    #[test]
    fn every_float_reads_back_with_its_bits() {
        let payloads = [0x7ff0000000000001u64, 0x7ff8dead0000beef, 0xfff8000000000000, 0xffffffffffffffff].map(f64::from_bits);
        for &v in HOSTILE.iter().chain(&payloads) {
            assert_eq!(round(v), v.to_bits(), "{v:?} {:x}", v.to_bits());
        }
        // All exponents, with mantissas from a generator: without `float_roundtrip` some of these come back off by one.
        let mut random = crate::random::Random::new(1);
        for _ in 0..200_000 {
            let v = f64::from_bits(random.bits());
            assert_eq!(round(v), v.to_bits(), "{v:?}");
        }
    }

    #[test]
    fn lists_and_options_of_floats_read_back() {
        #[derive(Serialize, Deserialize)]
        struct All {
            #[serde(with = "crate::float")]
            one: f64,
            #[serde(with = "crate::float")]
            none: Option<f64>,
            #[serde(with = "crate::float")]
            some: Option<f64>,
            #[serde(with = "crate::float")]
            pair: Option<[f64; 2]>,
            #[serde(with = "crate::float")]
            named: Vec<(String, f64)>,
        }
        let inf = f64::INFINITY;
        let all = All { one: -inf, none: None, some: Some(inf), pair: Some([inf, -0.0]), named: vec![("a".into(), f64::NAN)] };
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(text, r#"{"one":"-inf","none":null,"some":"inf","pair":["inf",-0.0],"named":[["a","nan"]]}"#);
        let back: All = serde_json::from_str(&text).unwrap();
        assert!(back.one == -inf && back.none.is_none() && back.some == Some(inf) && back.pair == Some([inf, 0.0]));
        assert!(back.named[0].1.is_nan() && serde_json::from_str::<All>(&text.replace(r#""inf",-0.0"#, "1,2,3")).is_err());
    }

    #[test]
    fn identity_is_by_bits() {
        assert_eq!(Float(f64::NAN), Float(f64::NAN));
        assert_ne!(Float(0.0), Float(-0.0));
        assert_ne!(Float(f64::INFINITY), Float(f64::NEG_INFINITY));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["null", "true", "\"\"", "\"NaN\"", "\"nan:7ff0000000000000\"", "\"nan:1\"", "\"1.5\"", "1e999", "[1.0]"] {
            assert!(serde_json::from_str::<Float>(text).is_err(), "{text}");
        }
        assert_eq!(serde_json::from_str::<Float>("-3").unwrap(), Float(-3.0));
    }
}
