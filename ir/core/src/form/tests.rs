//! Every form against the reference: the kernel of a graph computes what the graph's ops compute.

use super::*;
use crate::eval::{NoWeights, run};
use crate::graph::Program;
use crate::kernel_eval;
use crate::random::Random;
use crate::tensor::Tensor;
use crate::types::TensorType;

mod growth;

struct Case {
    b: Builder,
    inputs: Vec<Tensor>,
    random: Random,
}

impl Case {
    fn new() -> Case {
        Case { b: Builder::new("k"), inputs: vec![], random: Random::new(7) }
    }
    fn input(&mut self, shape: &[usize]) -> ValueId {
        let n: usize = shape.iter().product();
        let data = (0..n).map(|_| self.random.signed() as f32).collect();
        self.inputs.push(Tensor::f32(shape, data));
        self.b.input(&format!("x{}", self.inputs.len()), TensorType::known(DType::F32, shape))
    }
    fn op(&mut self, name: &str, x: &[ValueId], attrs: Attrs) -> ValueId {
        self.b.op(name, x, attrs).unwrap()
    }
    fn number(&mut self, v: f32) -> ValueId {
        self.b.constant(Tensor::f32(&[], vec![v]))
    }
    fn graph(mut self, out: ValueId) -> (Graph, Vec<Tensor>) {
        self.b.output("y", out);
        (self.b.finish(), self.inputs)
    }
    /// Forms the kernel, runs both, and gives the spec for closer looks.
    fn check(self, out: ValueId) -> KernelSpec {
        let (g, inputs) = self.graph(out);
        let spec = form(&g, "k").unwrap_or_else(|e| panic!("{e}\n{g:#?}"));
        // What is formed is proved; `eval` asks too.
        crate::kernel_check::check(&spec).unwrap_or_else(|e| panic!("{e}\n{spec:#?}"));
        let got = kernel_eval::eval(&spec, &inputs).unwrap_or_else(|e| panic!("{e}\n{spec:#?}"));
        let program = Program { functions: [("k".to_string(), g)].into() };
        let want = run(&program, "k", &inputs, &NoWeights).unwrap();
        assert_eq!(got[0].shape(), want[0].shape());
        for (i, (a, b)) in got[0].to_f64s().iter().zip(want[0].to_f64s()).enumerate() {
            assert!((a - b).abs() <= 1e-5 * (1.0 + b.abs()), "element {i}: {a} but {b}\n{spec:#?}");
        }
        spec
    }
    fn refused(self, out: ValueId) -> String {
        form(&self.graph(out).0, "k").unwrap_err().0
    }
}

fn a() -> Attrs {
    Attrs::new()
}

fn rows(s: &KernelSpec) -> &Rows {
    match &s.body {
        Body::Rows(r) => r,
        other => panic!("{other:?}"),
    }
}

fn contract(s: &KernelSpec) -> &ContractSpec {
    match &s.body {
        Body::Contract(c) => c,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_elementwise_chain_is_one_loop() {
    let mut c = Case::new();
    let (x, y) = (c.input(&[2, 3, 4]), c.input(&[2, 3, 4]));
    let s = c.op("add", &[x, y], a());
    let r = c.op("relu", &[s], a());
    assert_eq!(rows(&c.check(r)).outer, [24]);
}

#[test]
fn a_transpose_only_changes_strides() {
    let mut c = Case::new();
    let x = c.input(&[3, 4]);
    let t = c.op("transpose", &[x], a().with("perm", vec![1, 0]));
    let e = c.op("exp", &[t], a());
    assert_eq!(rows(&c.check(e)).loads[0].access.strides, [1, 4]);
}

#[test]
fn a_bias_is_read_with_stride_zero() {
    let mut c = Case::new();
    let (x, b) = (c.input(&[2, 3, 4, 4]), c.input(&[3, 1, 1]));
    let s = c.op("mul", &[x, b], a());
    assert_eq!(rows(&c.check(s)).loads[1].access.strides, [0, 1, 0]);
}

#[test]
fn splitting_heads_splits_the_loops() {
    let mut c = Case::new();
    let x = c.input(&[2, 5, 12]);
    let r = c.op("reshape", &[x], a().with("shape", vec![2, 5, 3, 4]));
    let t = c.op("transpose", &[r], a().with("perm", vec![0, 2, 1, 3]));
    let t2 = c.op("transpose", &[t], a().with("perm", vec![0, 2, 1, 3]));
    let back = c.op("reshape", &[t2], a().with("shape", vec![10, 12]));
    c.check(back);
    let mut c = Case::new();
    let x = c.input(&[2, 3, 5, 4]);
    let t = c.op("transpose", &[x], a().with("perm", vec![0, 2, 1, 3]));
    let back = c.op("reshape", &[t], a().with("shape", vec![2, 5, 12]));
    assert_eq!(rows(&c.check(back)).outer, [2, 5, 3, 4]);
}

#[test]
fn slices_pads_and_concats_are_accesses() {
    let mut c = Case::new();
    let x = c.input(&[4, 6]);
    let s = c.op("slice", &[x], a().with("starts", vec![3, 1]).with("sizes", vec![2, 3]).with("steps", vec![-2, 2]));
    let p = c.op("pad", &[s], a().with("low", vec![1, 0]).with("high", vec![0, 2]).with("interior", vec![0, 0]).with("value", 0.5));
    let e = c.op("neg", &[p], a());
    c.check(e);
    let mut c = Case::new();
    let (x, y, z) = (c.input(&[2, 3]), c.input(&[2, 1]), c.input(&[2, 4]));
    let k = c.op("concat", &[x, y, z], a().with("axis", 1));
    let e = c.op("exp", &[k], a());
    c.check(e);
}

#[test]
fn reductions_take_the_axes_they_remove_as_the_row() {
    let mut c = Case::new();
    let x = c.input(&[3, 4, 5]);
    let e = c.op("exp", &[x], a());
    let m = c.op("reduce_mean", &[e], a().with("axes", vec![1]).with("keepdims", false));
    let r = c.check(m);
    assert_eq!((rows(&r).outer.as_slice(), rows(&r).inner.as_slice()), (&[3, 5][..], &[4][..]));
    let mut c = Case::new();
    let x = c.input(&[2, 3, 4, 5]);
    let m = c.op("reduce_max", &[x], a().with("axes", vec![2, 3]).with("keepdims", true));
    assert_eq!(rows(&c.check(m)).inner, [20]);
}

#[test]
fn softmax_and_layer_norm_are_one_kernel_each() {
    let mut c = Case::new();
    let (x, mask) = (c.input(&[2, 3, 4, 8]), c.input(&[2, 1, 1, 8]));
    let k = c.number(0.125);
    let s = c.op("mul", &[x, k], a());
    let m = c.op("add", &[s, mask], a());
    let y = c.op("softmax", &[m], a().with("axis", 3));
    let spec = c.check(y);
    assert_eq!(rows(&spec).inner, [8]);
    assert_eq!(rows(&spec).steps.iter().filter(|s| matches!(s, RowStep::Reduce { .. })).count(), 2);
    let mut c = Case::new();
    let (x, r, g, b) = (c.input(&[2, 5, 16]), c.input(&[2, 5, 16]), c.input(&[16]), c.input(&[16]));
    let s = c.op("add", &[x, r], a());
    let y = c.op("layer_norm", &[s, g, b], a().with("axis", 2).with("epsilon", 1e-5));
    let spec = c.check(y);
    assert_eq!((rows(&spec).outer.as_slice(), rows(&spec).inner.as_slice()), (&[10][..], &[16][..]));
}

#[test]
fn a_matmul_takes_bias_and_activation() {
    let mut c = Case::new();
    let (x, w, b) = (c.input(&[2, 5, 8]), c.input(&[8, 6]), c.input(&[6]));
    let m = c.op("matmul", &[x, w], a());
    let s = c.op("add", &[m, b], a());
    let y = c.op("relu", &[s], a());
    let spec = c.check(y);
    let k = contract(&spec);
    assert_eq!((k.batch.len(), k.m.as_slice(), k.n.as_slice(), k.k.as_slice()), (0, &[10][..], &[6][..], &[8][..]));
}

#[test]
fn attention_scores_read_heads_in_place() {
    let mut c = Case::new();
    let (q, k) = (c.input(&[2, 5, 12]), c.input(&[2, 5, 12]));
    let heads = |c: &mut Case, x, perm: Vec<i64>| {
        let r = c.op("reshape", &[x], a().with("shape", vec![2, 5, 3, 4]));
        c.op("transpose", &[r], a().with("perm", perm))
    };
    let (q, k) = (heads(&mut c, q, vec![0, 2, 1, 3]), heads(&mut c, k, vec![0, 2, 3, 1]));
    let s = c.op("matmul", &[q, k], a());
    let spec = c.check(s);
    assert_eq!(contract(&spec).batch, [2, 3]);
}

#[test]
fn a_convolution_reads_its_padding_through_guards() {
    let mut c = Case::new();
    let (x, w, b) = (c.input(&[1, 3, 7, 6]), c.input(&[4, 3, 3, 3]), c.input(&[4, 1, 1]));
    let at = a().with("strides", vec![2, 1]).with("pads", vec![1, 1, 1, 1]).with("dilations", vec![1, 1]).with("groups", 1);
    let y = c.op("conv", &[x, w], at);
    let y = c.op("add", &[y, b], a());
    let y = c.op("sigmoid", &[y], a());
    let spec = c.check(y);
    assert_eq!((contract(&spec).m.as_slice(), contract(&spec).b[0].plain().map_or(0, |b| b.guards.len())), (&[4][..], 2));
}

#[test]
fn a_grouped_convolution_has_a_batch_of_groups() {
    let mut c = Case::new();
    let (x, w) = (c.input(&[2, 4, 5]), c.input(&[6, 2, 3]));
    let at = a().with("strides", vec![1]).with("pads", vec![0, 0]).with("dilations", vec![2]).with("groups", 2);
    let y = c.op("conv", &[x, w], at);
    assert_eq!(contract(&c.check(y)).batch, [2]);
}

#[test]
fn a_depthwise_convolution_is_a_row_of_taps() {
    let mut c = Case::new();
    let (x, w, b) = (c.input(&[1, 4, 6, 6]), c.input(&[4, 1, 3, 3]), c.input(&[4, 1, 1]));
    let at = a().with("strides", vec![1, 1]).with("pads", vec![1, 1, 1, 1]).with("dilations", vec![1, 1]).with("groups", 4);
    let y = c.op("conv", &[x, w], at);
    let y = c.op("add", &[y, b], a());
    let y = c.op("relu", &[y], a());
    assert_eq!(rows(&c.check(y)).inner, [3, 3]);
}

#[test]
fn pooling_reads_identity_outside() {
    let mut c = Case::new();
    let x = c.input(&[1, 2, 5, 5]);
    let at = a().with("window", vec![3, 3]).with("strides", vec![2, 2]).with("pads", vec![1, 1, 1, 1]).with("dilations", vec![1, 1]);
    let y = c.op("max_pool", &[x], at);
    assert_eq!(rows(&c.check(y)).loads[0].access.fill.0, f64::NEG_INFINITY);
}

#[test]
fn what_does_not_fit_says_why() {
    let mut c = Case::new();
    let (x, w, v) = (c.input(&[4, 4]), c.input(&[4, 4]), c.input(&[4, 4]));
    let m = c.op("matmul", &[x, w], a());
    let y = c.op("matmul", &[v, m], a());
    assert_eq!(c.refused(y), "matmul before a contraction");
    let mut c = Case::new();
    let x = c.input(&[4, 4]);
    let r = c.op("reduce_sum", &[x], a().with("axes", vec![1]).with("keepdims", false));
    let y = c.op("reduce_sum", &[r], a().with("axes", vec![0]).with("keepdims", false));
    assert_eq!(c.refused(y), "a reduction of a reduced row");
}

#[test]
fn a_norm_before_a_matmul_is_made_along_the_row() {
    let mut c = Case::new();
    let (x, g, b, w, bias) = (c.input(&[2, 5, 16]), c.input(&[16]), c.input(&[16]), c.input(&[16, 6]), c.input(&[6]));
    let y = c.op("layer_norm", &[x, g, b], a().with("axis", 2).with("epsilon", 1e-5));
    let y = c.op("matmul", &[y, w], a());
    let y = c.op("add", &[y, bias], a());
    let spec = c.check(y);
    let k = contract(&spec);
    assert_eq!((k.a.passes(), k.a.loads.len(), k.m.as_slice(), k.k.as_slice()), (2, 3, &[10][..], &[16][..]));
}

#[test]
fn gate_and_up_share_their_row() {
    let mut c = Case::new();
    let (x, g, u, n) = (c.input(&[5, 8]), c.input(&[8, 6]), c.input(&[8, 6]), c.input(&[8]));
    let x = c.op("rms_norm", &[x, n], a().with("axis", 1).with("epsilon", 1e-5));
    let (g, u) = (c.op("matmul", &[x, g], a()), c.op("matmul", &[x, u], a()));
    let g = c.op("silu", &[g], a());
    let y = c.op("mul", &[g, u], a());
    let spec = c.check(y);
    assert_eq!((contract(&spec).b.len(), contract(&spec).a.passes()), (2, 1));
    // Matrices side by side in one weight are two B as well.
    let mut c = Case::new();
    let (x, w) = (c.input(&[5, 8]), c.input(&[8, 12]));
    let half = |at: i64| a().with("starts", vec![0, at]).with("sizes", vec![5, 6]).with("steps", vec![1, 1]);
    let both = c.op("matmul", &[x, w], a());
    let (g, u) = (c.op("slice", &[both], half(0)), c.op("slice", &[both], half(6)));
    let g = c.op("sigmoid", &[g], a());
    let y = c.op("mul", &[g, u], a());
    assert_eq!(contract(&c.check(y)).b.len(), 2);
}

/// The row of a contraction may be a product with keys of its own for each row: batches of the inner product are rows of the outer.
#[test]
fn rows_of_a_product_keep_their_keys() {
    for (x, y, w) in [
        (&[1][..], &[4, 8, 1, 4][..], &[4][..]),
        (&[3], &[4, 8, 3, 4], &[4]),
        (&[3], &[4, 8, 3, 4], &[4, 5]),
        (&[8, 1, 3], &[8, 3, 4], &[4, 5]),
        (&[2, 3], &[4, 3, 4], &[4, 5]),
        (&[4, 2, 3], &[4, 3, 4], &[4, 4, 5]),
    ] {
        for function in ["softmax", "none"] {
            let mut c = Case::new();
            let (x, y, w) = (c.input(x), c.input(y), c.input(w));
            let p = c.op("matmul", &[x, y], a());
            let rank = c.b.ty(p).rank() as i64;
            let p = if function == "none" { p } else { c.op(function, &[p], a().with("axis", rank - 1)) };
            let q = c.op("matmul", &[p, w], a());
            let (g, inputs) = c.graph(q);
            // What does not fit one kernel becomes two.
            if let Ok(spec) = form(&g, "k") {
                let got = kernel_eval::eval(&spec, &inputs).unwrap().remove(0).to_f64s();
                let program = Program { functions: [("k".to_string(), g)].into() };
                let want = run(&program, "k", &inputs, &NoWeights).unwrap().remove(0).to_f64s();
                let far = got.iter().zip(&want).find(|(p, q)| (**p - **q).abs() > 1e-5 * (1.0 + q.abs()));
                assert!(far.is_none(), "{:?}, {function}: {far:?}\n{spec:#?}", inputs.iter().map(Tensor::ty).collect::<Vec<_>>());
            }
        }
    }
}

/// Heads of a joined projection, grouped queries, scale, mask and softmax: one kernel.
#[test]
fn attention_is_a_contraction_whose_row_is_a_product() {
    let mut c = Case::new();
    let (s, t, heads, groups, e) = (5, 7, 4usize, 2usize, 3);
    let (q, k, v) = (c.input(&[1, s, heads * e]), c.input(&[1, t, groups * e]), c.input(&[1, t, groups * e]));
    let mask = c.input(&[1, 1, s, t]);
    let split = |c: &mut Case, x, n: usize, h: usize| {
        let r = c.op("reshape", &[x], a().with("shape", vec![1, n as i64, h as i64, e as i64]));
        c.op("transpose", &[r], a().with("perm", vec![0, 2, 1, 3]))
    };
    let (q, k, v) = (split(&mut c, q, s, heads), split(&mut c, k, t, groups), split(&mut c, v, t, groups));
    let repeat = |c: &mut Case, x| {
        let r = c.op("reshape", &[x], a().with("shape", vec![1, groups as i64, 1, t as i64, e as i64]));
        let r = c.op("broadcast", &[r], a().with("shape", vec![1, groups as i64, (heads / groups) as i64, t as i64, e as i64]));
        c.op("reshape", &[r], a().with("shape", vec![1, heads as i64, t as i64, e as i64]))
    };
    let (k, v) = (repeat(&mut c, k), repeat(&mut c, v));
    let k = c.op("transpose", &[k], a().with("perm", vec![0, 1, 3, 2]));
    let x = c.op("matmul", &[q, k], a());
    let root = c.number(0.5);
    let x = c.op("mul", &[x, root], a());
    let x = c.op("add", &[x, mask], a());
    let x = c.op("softmax", &[x], a().with("axis", 3));
    let y = c.op("matmul", &[x, v], a());
    let y = c.op("transpose", &[y], a().with("perm", vec![0, 2, 1, 3]));
    let y = c.op("reshape", &[y], a().with("shape", vec![1, s as i64, (heads * e) as i64]));
    let spec = c.check(y);
    let k = contract(&spec);
    let p = k.a.product.as_ref().expect("scores");
    // Queries that share keys are rows of one tile.
    assert_eq!((k.batch.as_slice(), k.m.iter().product::<u64>(), k.k.as_slice(), p.sum.as_slice()), (&[2][..], 10, &[7][..], &[3][..]));
    assert_eq!(k.a.passes(), 2);
}

#[test]
fn a_rotary_embedding_is_part_of_the_scores() {
    let mut c = Case::new();
    let (s, t, e) = (3, 5, 4usize);
    let (q, k, v) = (c.input(&[2, s, e]), c.input(&[2, t, e]), c.input(&[2, t, e]));
    let tables = [c.input(&[s, e]), c.input(&[s, e]), c.input(&[t, e]), c.input(&[t, e])];
    let turned = |c: &mut Case, x, n: usize, cos, sin| {
        let half = |at: i64| a().with("starts", vec![0, 0, at]).with("sizes", vec![2, n as i64, e as i64 / 2]).with("steps", vec![1, 1, 1]);
        let (lo, hi) = (c.op("slice", &[x], half(0)), c.op("slice", &[x], half(e as i64 / 2)));
        let hi = c.op("neg", &[hi], a());
        let r = c.op("concat", &[hi, lo], a().with("axis", 2));
        let (p, q) = (c.op("mul", &[x, cos], a()), c.op("mul", &[r, sin], a()));
        c.op("add", &[p, q], a())
    };
    let (q, k) = (turned(&mut c, q, s, tables[0], tables[1]), turned(&mut c, k, t, tables[2], tables[3]));
    let k = c.op("transpose", &[k], a().with("perm", vec![0, 2, 1]));
    let x = c.op("matmul", &[q, k], a());
    let x = c.op("softmax", &[x], a().with("axis", 2));
    let y = c.op("matmul", &[x, v], a());
    let spec = c.check(y);
    let p = contract(&spec).a.product.as_ref().expect("scores");
    assert_eq!((p.a.loads.len(), p.b.loads.len()), (5, 5));
}

/// Powers of unlike types: a root of an integer, an exponent that the base's type has not, one of 64 bits.
#[test]
fn powers_are_computed_as_the_op_computes_them() {
    use DType::*;
    let numbers = [0.5, 2.0, 3.0, -1.0, 2049.0, 70000.0, 0.0, 1.0, 9e18, 1.5];
    let bases = [2.0, 9.0, -1.0, 4.0, 1.0, 0.9990234375, 3.0, 7.0, 1.0, -2.0];
    for (base, exponent) in
        [(I32, F32), (I8, F64), (I64, F32), (F16, F32), (F16, I32), (BF16, I64), (F32, U64), (F32, F64), (F64, F32), (I8, I64), (I32, U64)]
    {
        let (x, y) = (Tensor::from_f64s(base, &[10], &bases), Tensor::from_f64s(exponent, &[10], &numbers));
        let mut b = Builder::new("k");
        let ids = [b.input("x", x.ty()), b.input("y", y.ty())];
        let out = b.op("pow", &ids, Attrs::new()).unwrap();
        b.output("out", out);
        let g = b.finish();
        let got = kernel_eval::eval(&form(&g, "k").unwrap(), &[x.clone(), y.clone()]).unwrap();
        let want = run(&Program { functions: [("k".to_string(), g)].into() }, "k", &[x, y], &NoWeights).unwrap();
        for (i, (p, q)) in got[0].to_f64s().into_iter().zip(want[0].to_f64s()).enumerate() {
            let same = p == q || (p.is_nan() && q.is_nan()) || (base.is_float() && (p - q).abs() <= 1e-5 * q.abs());
            assert!(same, "{base} to the {exponent}: {} to the {} became {p}, not {q}", bases[i], numbers[i]);
        }
    }
}
