//! Random programs over every op of the table: what is written is read back equal, to the last bit of the last attribute.

use crate::{Session, reader, writer};
use std::sync::Arc;
use tahoma_core::graph::{Node, OpRef, Port};
use tahoma_core::op::{AttrType, Results};
use tahoma_core::ops::OPS;
use tahoma_core::{Attr, Attrs, DType, Dim, Graph, Origin, Program, Shape, Tensor, TensorType, ValueId};

/// Draws what odd corners are made of.
struct Random(tahoma_core::random::Random);

impl Random {
    fn next(&mut self) -> u64 {
        self.0.bits()
    }
    fn below(&mut self, n: usize) -> usize {
        self.0.below(n)
    }
    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }
    fn name(&mut self) -> String {
        self.pick(&[
            "x",
            "",
            "a b",
            "quote\"d",
            "back\\slash",
            "line\nbreak",
            "tab\t",
            "äöü→",
            "%0",
            "a,b",
            "loc(\"-\":1:2)",
            "{}<>[]()",
            "\u{1}",
            "->",
            "1",
        ])
        .to_string()
    }
    /// A file always has a name; MLIR prints `-` for none.
    fn file(&mut self) -> Arc<str> {
        format!("m{}", self.name()).into()
    }
    fn dtype(&mut self) -> DType {
        let all: Vec<DType> = DType::all().collect();
        self.pick(&all)
    }
    fn float(&mut self) -> f64 {
        match self.below(4) {
            0 => f64::from_bits(self.next()),
            1 => self.pick(&[0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, f64::MIN_POSITIVE / 8.0, f64::MAX, 1e-5, 0.1]),
            2 => self.next() as i64 as f64,
            _ => (self.next() as i64 as f64) * 2f64.powi(self.below(80) as i32 - 90),
        }
    }
    fn int(&mut self) -> i64 {
        match self.below(3) {
            0 => self.next() as i64,
            1 => self.pick(&[0, 1, -1, i64::MAX, i64::MIN]),
            _ => self.below(100) as i64 - 50,
        }
    }
    fn tensor(&mut self) -> Tensor {
        let d = self.dtype();
        let shape = self.pick(&[vec![], vec![1], vec![3], vec![2, 3], vec![0], vec![2, 0, 3], vec![101], vec![16, 9], vec![1024]]);
        let count: usize = shape.iter().product();
        let splat = self.below(4) == 0;
        let bytes = d.bytes_for(count);
        let one = self.next().to_le_bytes();
        let width = (d.bits() as usize / 8).max(1);
        let mut data: Vec<u8> = (0..bytes).map(|i| if splat { one[i % width] } else { self.next() as u8 }).collect();
        if d == DType::TF32 {
            // The low 13 bits of a tf32 slot mean nothing.
            for c in data.chunks_mut(4) {
                c[0] = 0;
                c[1] &= 0xe0;
            }
        }
        if d == DType::Bool {
            data.iter_mut().for_each(|b| *b &= 1);
        }
        Tensor::from_bytes(d, &shape, &data).unwrap()
    }
    fn attr(&mut self, t: AttrType) -> Attr {
        let n = self.below(4);
        match t {
            AttrType::Int => Attr::Int(self.int()),
            AttrType::Float => Attr::from(self.float()),
            AttrType::Bool => Attr::Bool(self.below(2) == 0),
            AttrType::Str => Attr::Str(self.name().into()),
            AttrType::Ints => Attr::Ints((0..n).map(|_| self.int()).collect()),
            AttrType::Floats => Attr::from((0..n).map(|_| self.float()).collect::<Vec<f64>>()),
            AttrType::DType => Attr::DType(self.dtype()),
            AttrType::Tensor => Attr::from(self.tensor()),
            AttrType::Func => Attr::Func(format!("f{}", self.name()).into()),
        }
    }
    fn ty(&mut self) -> TensorType {
        let rank = self.below(4);
        let dims = (0..rank).map(|_| match self.below(3) {
            0 => Dim::sym(&format!("N{}", self.name())),
            1 => Dim::Known(self.below(3) as u64),
            _ => Dim::Known(1 << self.below(40)),
        });
        let shape = Shape(dims.collect());
        TensorType::new(self.dtype(), shape)
    }
    fn origin(&mut self, depth: usize) -> Origin {
        match self.below(if depth == 0 { 3 } else { 4 }) {
            0 => Origin::Node { model: self.file(), index: self.next() as u32, name: self.name().into(), op: self.name().into() },
            1 if depth > 1 => Origin::Unknown,
            1 | 2 => Origin::Tensor { model: self.file(), name: self.name().into() },
            _ => {
                let rule = format!("r{depth}{}", self.name());
                let parts: Vec<Arc<Origin>> = (0..2 + self.below(2)).map(|_| Arc::new(self.origin(depth - 1))).collect();
                Origin::fuse(&rule, parts)
            }
        }
    }
    /// A function that uses every op once, with whatever operands are at hand: types need not fit, for MLIR checks none of that.
    fn graph(&mut self, name: &str) -> Graph {
        let mut g = Graph { name: name.into(), ..Graph::default() };
        for i in 0..3 {
            g.types.push(self.ty());
            g.inputs.push(Port { name: self.name(), value: ValueId(i) });
        }
        for op in OPS.iter() {
            let have = g.types.len();
            let operands = op.operands.iter().flat_map(|o| {
                let n = if o.variadic { self.below(3) } else { 1 };
                (0..n).map(|_| ValueId(self.below(have) as u32)).collect::<Vec<_>>()
            });
            let operands = operands.collect();
            let attrs = op.attrs.iter().fold(Attrs::new(), |a, d| a.with(d.name, self.attr(d.ty)));
            let count = match op.results {
                Results::One => 1,
                Results::Many(n) => n as usize,
                Results::Inferred => self.below(3),
            };
            let results = (0..count).map(|_| {
                g.types.push(self.ty());
                ValueId(g.types.len() as u32 - 1)
            });
            let results = results.collect();
            let origin = Arc::new(self.origin(2));
            g.nodes.push(Node { op: OpRef(op), operands, attrs, results, origin });
        }
        for _ in 0..self.below(4) {
            g.outputs.push(Port { name: self.name(), value: ValueId(self.below(g.types.len()) as u32) });
        }
        let kinds = [AttrType::Int, AttrType::Float, AttrType::Bool, AttrType::Str, AttrType::Ints, AttrType::Floats, AttrType::Tensor];
        for (i, k) in kinds.into_iter().enumerate() {
            g.attrs.0.insert(format!("a{i}").into(), self.attr(k));
        }
        g
    }
}

#[test]
fn every_op_survives_with_every_kind_of_attribute_type_and_origin() {
    let s = Session::new().unwrap_or_else(|d| panic!("{d}"));
    for seed in 1..=60 {
        let mut r = Random(tahoma_core::random::Random::new(seed));
        let mut p = Program::new(r.graph("main"));
        let second = format!("k{}", r.name());
        p.functions.insert(second.clone(), r.graph(&second));
        let text = s.normalise(&writer::program(&p), "random").unwrap_or_else(|d| panic!("seed {seed}: {d}"));
        let (back, _) = reader::program(&text).unwrap_or_else(|d| panic!("seed {seed}: {d}"));
        for (a, b) in p.functions.values().zip(back.functions.values()) {
            for (x, y) in a.nodes.iter().zip(&b.nodes) {
                assert_eq!(x, y, "seed {seed}");
            }
            for (x, y) in a.types.iter().zip(&b.types) {
                assert_eq!(x, y, "seed {seed}");
            }
            assert_eq!(a.attrs, b.attrs, "seed {seed}");
            assert_eq!((&a.name, &a.inputs, &a.outputs), (&b.name, &b.inputs, &b.outputs), "seed {seed}");
            assert!(a == b, "seed {seed}");
        }
        let again = s.normalise(&writer::program(&back), "random").unwrap_or_else(|d| panic!("seed {seed}: {d}"));
        assert!(text == again, "seed {seed}: print, parse, print");
    }
}
