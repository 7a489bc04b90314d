//! Whatever an artifact is made of reads back equal, to the bit. The values are drawn by type: `derive(Arbitrary)` stands on every type
//! below [`Manifest`], so a new field or variant is drawn without a word here, and a type without it does not build.

use crate::artifact::{BufferDef, KernelDef, Manifest, PlanStep, WeightRef};
use crate::attr::{Attr, Attrs};
use crate::diag::{Diagnostic, Origin};
use crate::float::{Float, HOSTILE};
use crate::graph::{Graph, OpRef, Program};
use crate::kernel::{Access, KernelSpec};
use crate::scalar::{Expr, Step};
use crate::tensor::Tensor;
use crate::types::DType;
use arbitrary::{Arbitrary, Result, Unstructured};
use proptest::prelude::*;
use serde::{Serialize, de::DeserializeOwned};
use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;

impl<'a> Arbitrary<'a> for Float {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Float> {
        Ok(Float(if u.ratio(3, 4)? { *u.choose(HOSTILE)? } else { f64::from_bits(u.arbitrary()?) }))
    }
}

impl<'a> Arbitrary<'a> for OpRef {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<OpRef> {
        u.choose(&crate::ops::OPS).map(|o| OpRef(o))
    }
}

impl<'a> Arbitrary<'a> for Tensor {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Tensor> {
        let dtype: DType = u.arbitrary()?;
        let shape = [u.int_in_range(0..=2usize)?, u.int_in_range(0..=3usize)?];
        let mut bytes = vec![0; dtype.bytes_for(shape[0] * shape[1])];
        u.fill_buffer(&mut bytes)?;
        Tensor::from_bytes(dtype, &shape, &bytes).ok_or(arbitrary::Error::IncorrectFormat)
    }
}

fn drawn<'a, T: Arbitrary<'a>>(bytes: &'a [u8]) -> T {
    T::arbitrary(&mut Unstructured::new(bytes)).expect("zeros stand in where the bytes end")
}

/// Written, read, and equal; and written again to the same text.
fn holds<T: Serialize + DeserializeOwned + PartialEq + Debug>(v: &T) {
    for text in [serde_json::to_string(v).unwrap(), serde_json::to_string_pretty(v).unwrap()] {
        let back: T = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(back, *v, "{text}");
    }
    // Through a tree of values, too, as a person's script would edit it.
    let tree = serde_json::to_value(v).unwrap();
    assert_eq!(serde_json::from_value::<T>(tree).unwrap(), *v);
}

/// Deepest nesting of brackets that serde_json reads. Origins and branches have limits that keep below it (tests of their own hold
/// them); values drawn at random have not.
fn shallow(v: &impl Serialize) -> bool {
    fn depth(v: &serde_json::Value) -> usize {
        match v {
            serde_json::Value::Array(a) => 1 + a.iter().map(depth).max().unwrap_or(0),
            serde_json::Value::Object(o) => 1 + o.values().map(depth).max().unwrap_or(0),
            _ => 0,
        }
    }
    depth(&serde_json::to_value(v).unwrap()) < 127
}

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), most / 2..most)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn manifests_read_back_equal(b in bytes(8192)) {
        let m: Manifest = drawn(&b);
        prop_assume!(shallow(&m));
        holds(&m);
    }
    #[test]
    fn their_parts_read_back_equal(b in bytes(1024)) {
        holds(&drawn::<KernelSpec>(&b));
        holds(&drawn::<KernelDef>(&b));
        holds(&drawn::<Expr>(&b));
        holds(&drawn::<Access>(&b));
        holds(&drawn::<PlanStep>(&b));
        holds(&drawn::<BufferDef>(&b));
        holds(&drawn::<WeightRef>(&b));
        holds(&drawn::<Attr>(&b));
        holds(&drawn::<Attrs>(&b));
        holds(&drawn::<Tensor>(&b));
        holds(&drawn::<Graph>(&b));
        holds(&drawn::<Program>(&b));
        holds(&drawn::<Origin>(&b));
        holds(&drawn::<Diagnostic>(&b));
    }
}

/// As many different things as there are different floats in them: nothing that is told apart by its bits is found as another.
fn told_apart<T: Eq + Hash>(of: impl Fn(f64) -> T) {
    let all: HashSet<T> = HOSTILE.iter().map(|&v| of(v)).collect();
    assert_eq!(all.len(), HOSTILE.len());
    let again = HOSTILE.iter().filter(|&&v| all.contains(&of(v))).count();
    assert_eq!(again, HOSTILE.len());
}

#[test]
fn constants_fills_and_attributes_are_told_apart_by_bits() {
    told_apart(|v| Step::Const(v.into()));
    told_apart(Attr::from);
    told_apart(|v| Attr::from(vec![1.0, v]));
    told_apart(|v| Access { buffer: 0, offset: 0, strides: vec![], guards: vec![], fill: v.into() });
    let mut e = Expr::default();
    for _ in 0..2 {
        for &v in HOSTILE {
            e.push(Step::Const(v.into()), DType::F32);
        }
    }
    assert_eq!(e.steps.len(), HOSTILE.len(), "a constant is shared with another, or not with itself");
}
