//! Attributes: the compile-time arguments of an op, by name. They compare and hash by bits, so they can live in an e-graph.

use crate::float::Float;
use crate::tensor::Tensor;
use crate::types::DType;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// One attribute value.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
#[serde(rename_all = "lowercase")]
pub enum Attr {
    Int(i64),
    Float(Float),
    Bool(bool),
    Str(Arc<str>),
    Ints(Vec<i64>),
    Floats(Vec<Float>),
    DType(DType),
    /// A small constant (weights are `ml.weight` by name, never attributes).
    Tensor(Arc<Tensor>),
    /// A function of the same program.
    Func(Arc<str>),
}

impl Attr {
    fn key(&self) -> (u8, Vec<u64>, &str) {
        match self {
            Attr::Int(v) => (0, vec![*v as u64], ""),
            Attr::Float(v) => (1, vec![v.0.to_bits()], ""),
            Attr::Bool(v) => (2, vec![*v as u64], ""),
            Attr::Str(s) => (3, vec![], s),
            Attr::Ints(v) => (4, v.iter().map(|&x| x as u64).collect(), ""),
            Attr::Floats(v) => (5, v.iter().map(|x| x.0.to_bits()).collect(), ""),
            Attr::DType(d) => (6, vec![*d as u64], ""),
            Attr::Tensor(t) => (7, t.bits_key(), ""),
            Attr::Func(s) => (8, vec![], s),
        }
    }
}

impl PartialEq for Attr {
    fn eq(&self, o: &Attr) -> bool {
        self.key() == o.key()
    }
}
impl Eq for Attr {}
impl PartialOrd for Attr {
    fn partial_cmp(&self, o: &Attr) -> Option<Ordering> {
        Some(self.cmp(o))
    }
}
impl Ord for Attr {
    fn cmp(&self, o: &Attr) -> Ordering {
        self.key().cmp(&o.key())
    }
}
impl Hash for Attr {
    fn hash<H: Hasher>(&self, h: &mut H) {
        self.key().hash(h)
    }
}

macro_rules! from { ($($t:ty => $v:ident),*) => { $(impl From<$t> for Attr { fn from(v: $t) -> Attr { Attr::$v(v) } })* } }
from! { i64 => Int, bool => Bool, Vec<i64> => Ints, DType => DType }
impl From<f64> for Attr {
    fn from(v: f64) -> Attr {
        Attr::Float(Float(v))
    }
}
impl From<Vec<f64>> for Attr {
    fn from(v: Vec<f64>) -> Attr {
        Attr::Floats(v.into_iter().map(Float).collect())
    }
}
impl From<&str> for Attr {
    fn from(v: &str) -> Attr {
        Attr::Str(v.into())
    }
}
impl From<Tensor> for Attr {
    fn from(v: Tensor) -> Attr {
        Attr::Tensor(Arc::new(v))
    }
}

/// The attributes of one op, sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
#[serde(transparent)]
pub struct Attrs(pub BTreeMap<Arc<str>, Attr>);

impl Attrs {
    pub fn new() -> Attrs {
        Attrs::default()
    }
    /// `Attrs::new().with("axis", 1)`.
    pub fn with(mut self, name: &str, value: impl Into<Attr>) -> Attrs {
        self.0.insert(name.into(), value.into());
        self
    }
    pub fn get(&self, name: &str) -> Option<&Attr> {
        self.0.get(name)
    }
    pub fn int(&self, name: &str) -> Option<i64> {
        match self.get(name)? {
            Attr::Int(v) => Some(*v),
            _ => None,
        }
    }
    pub fn float(&self, name: &str) -> Option<f64> {
        match self.get(name)? {
            Attr::Float(v) => Some(v.0),
            _ => None,
        }
    }
    pub fn bool(&self, name: &str) -> Option<bool> {
        match self.get(name)? {
            Attr::Bool(v) => Some(*v),
            _ => None,
        }
    }
    pub fn str(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Attr::Str(v) => Some(v),
            _ => None,
        }
    }
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        match self.get(name)? {
            Attr::Ints(v) => Some(v),
            _ => None,
        }
    }
    pub fn dtype(&self, name: &str) -> Option<DType> {
        match self.get(name)? {
            Attr::DType(v) => Some(*v),
            _ => None,
        }
    }
    pub fn tensor(&self, name: &str) -> Option<&Arc<Tensor>> {
        match self.get(name)? {
            Attr::Tensor(v) => Some(v),
            _ => None,
        }
    }
    pub fn func(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Attr::Func(v) => Some(v),
            _ => None,
        }
    }
}

impl Attr {
    pub fn ty(&self) -> crate::op::AttrType {
        use crate::op::AttrType as T;
        match self {
            Attr::Int(_) => T::Int,
            Attr::Float(_) => T::Float,
            Attr::Bool(_) => T::Bool,
            Attr::Str(_) => T::Str,
            Attr::Ints(_) => T::Ints,
            Attr::Floats(_) => T::Floats,
            Attr::DType(_) => T::DType,
            Attr::Tensor(_) => T::Tensor,
            Attr::Func(_) => T::Func,
        }
    }
}
