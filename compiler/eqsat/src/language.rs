//! The e-graph's language: one [`Node`] for every op of the table, children = operands, then attributes as leaves.
//!
//! ```text
//! (transpose (relu x:f32[2,3]) [1,0])       x: an input;  w=f32[3]: a weight;  ?x: a pattern variable
//! (mul x:f32[2,3] (constant f32[]{0.5}))    a constant
//! ```
//!
//! Text is checked against the op table (names, arity), so rules are data that cannot drift from it. Attributes as leaves let a
//! pattern bind them: `(transpose ?x ?perm)`.

use crate::kernel::Body;
use egg::{FromOp, Id, Language};
use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, LazyLock};
use tahoma_core::op::OpDef;
use tahoma_core::{Attr, Attrs, DType, Shape, Tensor, TensorType};

/// An index into `ops::OPS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpId(u16);

static IDS: LazyLock<HashMap<&'static str, OpId>> =
    LazyLock::new(|| tahoma_core::ops::OPS.iter().enumerate().map(|(i, o)| (o.name, OpId(i as u16))).collect());

impl OpId {
    pub fn of(op: &OpDef) -> OpId {
        IDS[op.name]
    }
    pub fn named(name: &str) -> Option<OpId> {
        IDS.get(name).copied()
    }
    pub fn def(self) -> &'static OpDef {
        tahoma_core::ops::OPS[self.0 as usize]
    }
}

/// An attribute with its hash, so that large constants compare cheaply.
#[derive(Clone, Debug)]
pub struct AttrLeaf {
    hash: u64,
    attr: Arc<Attr>,
}

impl AttrLeaf {
    pub fn new(attr: Attr) -> AttrLeaf {
        AttrLeaf { hash: hash_of(&attr), attr: Arc::new(attr) }
    }
    pub fn get(&self) -> &Attr {
        &self.attr
    }
}
impl PartialEq for AttrLeaf {
    fn eq(&self, o: &AttrLeaf) -> bool {
        self.hash == o.hash && (Arc::ptr_eq(&self.attr, &o.attr) || self.attr == o.attr)
    }
}
impl Eq for AttrLeaf {}
impl PartialOrd for AttrLeaf {
    fn partial_cmp(&self, o: &AttrLeaf) -> Option<Ordering> {
        Some(self.cmp(o))
    }
}
impl Ord for AttrLeaf {
    fn cmp(&self, o: &AttrLeaf) -> Ordering {
        self.hash.cmp(&o.hash).then_with(|| if Arc::ptr_eq(&self.attr, &o.attr) { Ordering::Equal } else { self.attr.cmp(&o.attr) })
    }
}
impl Hash for AttrLeaf {
    fn hash<H: Hasher>(&self, h: &mut H) {
        self.hash.hash(h)
    }
}

/// The same for equal values in every run: `DefaultHasher::new` has fixed keys.
pub(crate) fn hash_of(v: &impl Hash) -> u64 {
    let mut h = DefaultHasher::new();
    v.hash(&mut h);
    h.finish()
}

/// A graph input, or a tensor of the weight store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Leaf {
    pub name: Arc<str>,
    pub weight: bool,
    pub ty: TensorType,
}

/// A node of the source graph that rules must not look into: structure ops, and ops whose result types depend on data.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Opaque {
    /// Index of the node in the source graph.
    pub index: usize,
    pub types: Vec<TensorType>,
}

/// One e-node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Node {
    Op(OpId, Box<[Id]>),
    Attr(AttrLeaf),
    Leaf(Arc<Leaf>),
    Opaque(Arc<Opaque>, Box<[Id]>),
    /// The i-th result of a node with several.
    Result(u32, [Id; 1]),
    /// Several ops as one kernel; children are its inputs.
    Kernel(Arc<Body>, Box<[Id]>),
}

impl Node {
    /// Operand ids (without the attributes).
    pub fn operands(&self) -> &[Id] {
        match self {
            Node::Op(op, c) => &c[..c.len() - op.def().attrs.len()],
            other => other.children(),
        }
    }
    /// Attribute ids of an op, in the order of its row.
    pub fn attr_ids(&self) -> &[Id] {
        match self {
            Node::Op(op, c) => &c[c.len() - op.def().attrs.len()..],
            _ => &[],
        }
    }
}

/// Attributes of a row from its leaves, in order.
pub fn attrs_from<'a>(op: &OpDef, leaves: impl IntoIterator<Item = &'a Attr>) -> Attrs {
    Attrs(op.attrs.iter().zip(leaves).map(|(d, a)| (d.name.into(), a.clone())).collect())
}

impl Language for Node {
    type Discriminant = (u8, u64);

    fn discriminant(&self) -> (u8, u64) {
        match self {
            Node::Op(o, _) => (0, o.0 as u64),
            Node::Attr(_) => (1, 0),
            Node::Leaf(_) => (2, 0),
            Node::Opaque(o, _) => (3, o.index as u64),
            Node::Result(i, _) => (4, *i as u64),
            Node::Kernel(..) => (5, 0),
        }
    }
    fn matches(&self, o: &Node) -> bool {
        match (self, o) {
            (Node::Op(a, x), Node::Op(b, y)) => a == b && x.len() == y.len(),
            (Node::Attr(a), Node::Attr(b)) => a == b,
            (Node::Leaf(a), Node::Leaf(b)) => a == b,
            (Node::Opaque(a, x), Node::Opaque(b, y)) => a.index == b.index && x.len() == y.len(),
            (Node::Result(a, _), Node::Result(b, _)) => a == b,
            (Node::Kernel(a, x), Node::Kernel(b, y)) => a == b && x.len() == y.len(),
            _ => false,
        }
    }
    fn children(&self) -> &[Id] {
        match self {
            Node::Op(_, c) | Node::Opaque(_, c) | Node::Kernel(_, c) => c,
            Node::Result(_, c) => c,
            Node::Attr(_) | Node::Leaf(_) => &[],
        }
    }
    fn children_mut(&mut self) -> &mut [Id] {
        match self {
            Node::Op(_, c) | Node::Opaque(_, c) | Node::Kernel(_, c) => c,
            Node::Result(_, c) => c,
            Node::Attr(_) | Node::Leaf(_) => &mut [],
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ints = |v: &[i64]| v.iter().map(|i| i.to_string()).collect::<Vec<_>>().join(",");
        match self {
            Node::Op(o, _) => f.write_str(o.def().name),
            Node::Attr(a) => match a.get() {
                Attr::Int(i) => write!(f, "{i}"),
                Attr::Float(x) => write!(f, "{x:?}"),
                Attr::Bool(b) => write!(f, "{b}"),
                Attr::Str(s) => write!(f, "'{s}'"),
                Attr::Ints(v) => write!(f, "[{}]", ints(v)),
                Attr::DType(d) => write!(f, "{d}"),
                Attr::Floats(v) => write!(f, "floats[{}]", v.len()),
                Attr::Tensor(t) => {
                    let v = t.to_f64s();
                    let dims: Vec<i64> = t.shape().iter().map(|&n| n as i64).collect();
                    write!(f, "{}[{}]", t.dtype(), ints(&dims))?;
                    match v.first() {
                        Some(x) if v.iter().all(|y| y.to_bits() == x.to_bits()) => write!(f, "{{{x:?}}}"),
                        _ if v.len() <= 8 => write!(f, "{{{}}}", v.iter().map(|x| format!("{x:?}")).collect::<Vec<_>>().join(",")),
                        _ => write!(f, "#{:x}", a.hash & 0xffff),
                    }
                }
                Attr::Func(s) => write!(f, "@{s}"),
            },
            Node::Leaf(l) => {
                let dims: Vec<String> = l.ty.shape.0.iter().map(|d| d.to_string()).collect();
                write!(f, "{}{}{}[{}]", l.name, if l.weight { '=' } else { ':' }, l.ty.dtype, dims.join(","))
            }
            Node::Opaque(o, _) => write!(f, "node{}", o.index),
            Node::Result(i, _) => write!(f, "result{i}"),
            Node::Kernel(b, _) => write!(f, "kernel<{}>", b.summary()),
        }
    }
}

/// `f32[2,3]` as in `x:f32[2,3]`.
fn parse_type(s: &str) -> Option<TensorType> {
    let (dtype, dims) = s.strip_suffix(']')?.split_once('[')?;
    let dims: Option<Vec<usize>> = dims.split(',').filter(|d| !d.is_empty()).map(|d| d.parse().ok()).collect();
    Some(TensorType::new(DType::from_name(dtype)?, Shape::known(&dims?)))
}

/// `f32[2]{1.0,2.0}`; one number stands for all elements.
fn parse_tensor(s: &str) -> Option<Tensor> {
    let (ty, values) = s.strip_suffix('}')?.split_once('{')?;
    let ty = parse_type(ty)?;
    let shape = ty.shape.to_static()?;
    let n: usize = shape.iter().product();
    let mut v: Vec<f64> = values.split(',').filter(|x| !x.is_empty()).map(|x| x.parse().ok()).collect::<Option<_>>()?;
    if let [one] = v[..] {
        v = vec![one; n];
    }
    (v.len() == n).then(|| match ty.dtype {
        d if d.is_float() => Tensor::from_f64s(d, &shape, &v),
        DType::Bool => Tensor::bool(&shape, v.iter().map(|&x| x != 0.0).collect()),
        d => Tensor::i64(&shape, v.iter().map(|&x| x as i64).collect()).cast(d),
    })
}

fn parse_attr(s: &str) -> Option<Attr> {
    if let Some(t) = parse_tensor(s) {
        return Some(Attr::from(t));
    }
    if let Some(list) = s.strip_prefix('[').and_then(|s| s.strip_suffix(']')) {
        let v: Option<Vec<i64>> = list.split(',').filter(|x| !x.is_empty()).map(|x| x.parse().ok()).collect();
        return v.map(Attr::Ints);
    }
    if let Some(text) = s.strip_prefix('\'').and_then(|s| s.strip_suffix('\'')) {
        return Some(Attr::from(text));
    }
    match s {
        "true" => Some(Attr::Bool(true)),
        "false" => Some(Attr::Bool(false)),
        _ => {
            s.parse().map(Attr::Int).ok().or_else(|| s.parse::<f64>().map(Attr::from).ok()).or_else(|| DType::from_name(s).map(Attr::DType))
        }
    }
}

impl FromOp for Node {
    type Error = String;

    fn from_op(op: &str, children: Vec<Id>) -> Result<Node, String> {
        if let Some(id) = OpId::named(op) {
            let d = id.def();
            let want = d.operands.len() + d.attrs.len();
            let variadic = d.operands.last().is_some_and(|o| o.variadic);
            if children.len() == want || (variadic && children.len() + 1 >= want) {
                return Ok(Node::Op(id, children.into()));
            }
            return Err(format!("{op} takes {want} arguments, got {}", children.len()));
        }
        if let (Some(i), &[of]) = (op.strip_prefix("result").and_then(|i| i.parse().ok()), &children[..]) {
            return Ok(Node::Result(i, [of]));
        }
        if !children.is_empty() {
            return Err(format!("no op named `{op}`"));
        }
        for (sep, weight) in [(':', false), ('=', true)] {
            if let Some((name, ty)) = op.split_once(sep)
                && let Some(ty) = parse_type(ty)
            {
                return Ok(Node::Leaf(Arc::new(Leaf { name: name.into(), weight, ty })));
            }
        }
        parse_attr(op).map(|a| Node::Attr(AttrLeaf::new(a))).ok_or_else(|| format!("`{op}` is no op, attribute, input or weight"))
    }
}
