//! f64 in JSON with infinities and NaN as strings, since JSON numbers have neither.

use serde::{Deserialize, Deserializer, Serializer};

pub fn serialize<S: Serializer>(v: &f64, s: S) -> Result<S::Ok, S::Error> {
    if v.is_finite() { s.serialize_f64(*v) } else { s.serialize_str(&v.to_string()) }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Form {
    Number(f64),
    Text(String),
}

pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
    match Form::deserialize(d)? {
        Form::Number(v) => Ok(v),
        Form::Text(t) => t.parse().map_err(serde::de::Error::custom),
    }
}
