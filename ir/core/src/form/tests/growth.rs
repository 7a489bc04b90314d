//! Kernels of many ops, many parts and many outputs: their size is that of the graph, and each element is made once.

use super::*;

impl Case {
    /// Forms a kernel with several outputs and holds each to the ops, to the bit.
    fn check_all(mut self, outs: &[ValueId]) -> KernelSpec {
        for (i, &o) in outs.iter().enumerate() {
            self.b.output(&format!("y{i}"), o);
        }
        let g = self.b.finish();
        let spec = form(&g, "k").unwrap_or_else(|e| panic!("{e}\n{g:#?}"));
        let got = kernel_eval::eval(&spec, &self.inputs).unwrap_or_else(|e| panic!("{e}\n{spec:#?}"));
        let program = Program { functions: [("k".to_string(), g)].into() };
        let want = run(&program, "k", &self.inputs, &NoWeights).unwrap();
        let bits = |t: &Tensor| t.to_f64s().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        for (i, (a, b)) in got.iter().zip(&want).enumerate() {
            assert!(a.shape() == b.shape() && bits(a) == bits(b), "output {i}\n{spec:#?}");
        }
        spec
    }
    fn slice(&mut self, x: ValueId, starts: &[i64], sizes: &[i64]) -> ValueId {
        self.op("slice", &[x], a().with("starts", starts.to_vec()).with("sizes", sizes.to_vec()).with("steps", vec![1; sizes.len()]))
    }
    fn concat(&mut self, x: &[ValueId], axis: i64) -> ValueId {
        self.op("concat", x, a().with("axis", axis))
    }
}

/// Scalar steps of a kernel.
fn steps(s: &KernelSpec) -> usize {
    let of = |s: &RowStep| if let RowStep::Map { expr, .. } = s { expr.steps.len() } else { 1 };
    rows(s).steps.iter().map(of).sum()
}

fn guards(s: &KernelSpec) -> usize {
    rows(s).loads.iter().map(|l| l.access.guards.len()).sum()
}

#[test]
fn a_value_used_twice_is_made_once() {
    // 2⁴⁰ ways lead to x, through 40 values.
    let mut c = Case::new();
    let mut x = c.input(&[3]);
    for _ in 0..40 {
        x = c.op("mul", &[x, x], a());
    }
    assert_eq!(steps(&c.check(x)), 41);
    // The same before a matmul, under padding, and in the parts of a concatenation.
    let mut c = Case::new();
    let (mut x, w) = (c.input(&[3, 4]), c.input(&[4, 2]));
    for _ in 0..40 {
        x = c.op("mul", &[x, x], a());
    }
    let y = c.op("matmul", &[x, w], a());
    let spec = c.check(y);
    assert!(contract(&spec).a.flops() <= 41);
    let mut c = Case::new();
    let (mut x, z) = (c.input(&[3]), c.input(&[2]));
    for _ in 0..40 {
        x = c.op("mul", &[x, x], a());
    }
    let y = c.concat(&[x, z], 0);
    assert!(steps(&c.check(y)) <= 90);
    let mut c = Case::new();
    let mut x = c.input(&[3]);
    for _ in 0..40 {
        x = c.op("mul", &[x, x], a());
    }
    let y = c.op("pad", &[x], a().with("low", vec![1]).with("high", vec![2]).with("interior", vec![0]).with("value", 0.0));
    assert!(steps(&c.check(y)) <= 90);
}

#[test]
fn zeros_of_both_signs_are_two_constants() {
    let mut c = Case::new();
    let x = c.input(&[4]);
    let (p, n) = (c.number(0.0), c.number(-0.0));
    let (y, z) = (c.op("mul", &[x, p], a()), c.op("mul", &[x, n], a()));
    c.check_all(&[y, z]);
}

#[test]
fn many_parts_are_written_one_by_one() {
    for (axis, shapes) in
        [(1, [[2, 3]; 8]), (0, [[3, 2]; 8]), (1, [[2, 2], [2, 4], [2, 6], [2, 2], [2, 8], [2, 2], [2, 4], [2, 2]]), (1, [[2, 1]; 8])]
    {
        let mut c = Case::new();
        let parts: Vec<ValueId> = shapes.iter().map(|s| c.input(s)).collect();
        let parts: Vec<ValueId> = parts.into_iter().map(|x| c.op("relu", &[x], a())).collect();
        let y = c.concat(&parts, axis);
        let y = c.op("neg", &[y], a());
        let spec = c.check_all(&[y]);
        assert_eq!(guards(&spec), 0, "{shapes:?}");
        let outer: u64 = rows(&spec).outer.iter().product();
        let elements: usize = shapes.iter().map(|s| s[0] * s[1]).sum();
        assert_eq!(outer as usize * rows(&spec).stores.len(), elements);
    }
    // Few parts stay one loop with guarded reads; so do extents that only 1 divides, beyond the most pieces.
    let mut c = Case::new();
    let (x, y) = (c.input(&[2, 3]), c.input(&[2, 3]));
    let y = c.concat(&[x, y], 1);
    let spec = c.check_all(&[y]);
    assert_eq!((rows(&spec).stores.len(), guards(&spec)), (1, 2));
    let mut c = Case::new();
    let parts: Vec<ValueId> = (60..70).map(|n| c.input(&[n, 2])).collect();
    let y = c.concat(&parts, 0);
    let spec = c.check_all(&[y]);
    assert_eq!((rows(&spec).stores.len(), guards(&spec)), (1, 10));
}

#[test]
fn pieces_pass_moves_and_meet_reductions() {
    // Moves around the join: the axis of the output is another, split or cut.
    let join = |c: &mut Case, n: usize| {
        let parts: Vec<ValueId> = (0..n).map(|_| c.input(&[2, 4, 3])).collect();
        c.concat(&parts, 1)
    };
    let mut c = Case::new();
    let y = join(&mut c, 9);
    let y = c.op("transpose", &[y], a().with("perm", vec![1, 2, 0]));
    assert_eq!(guards(&c.check_all(&[y])), 0);
    let mut c = Case::new();
    let y = join(&mut c, 9);
    let y = c.op("reshape", &[y], a().with("shape", vec![2, 108]));
    c.check_all(&[y]);
    let mut c = Case::new();
    let y = join(&mut c, 9);
    let y = c.slice(y, &[0, 2, 1], &[2, 29, 2]);
    c.check_all(&[y]);
    let mut c = Case::new();
    let y = join(&mut c, 9);
    let y = c.op("softmax", &[y], a().with("axis", 2));
    c.check(y);
    let mut c = Case::new();
    let y = join(&mut c, 9);
    let y = c.op("softmax", &[y], a().with("axis", 1));
    c.check(y);
    let mut c = Case::new();
    let (y, w) = (join(&mut c, 8), c.input(&[3, 2]));
    let y = c.op("matmul", &[y, w], a());
    c.check(y);
    // A join in a join, and parts in a part of one.
    let mut c = Case::new();
    let (x, y) = (join(&mut c, 8), join(&mut c, 9));
    let (u, v) = (c.input(&[2, 4, 3]), c.input(&[2, 8, 3]));
    let y = c.concat(&[x, u, y, v], 1);
    c.check_all(&[y]);
}

#[test]
fn outputs_of_commensurable_shapes_share_a_kernel() {
    let mut c = Case::new();
    let x = c.input(&[2, 24]);
    let outs: Vec<ValueId> = [(0, 4), (4, 8), (12, 4), (3, 12)].iter().map(|&(at, n)| c.slice(x, &[0, at], &[2, n])).collect();
    let spec = c.check_all(&outs);
    assert_eq!((rows(&spec).outer.as_slice(), rows(&spec).stores.len()), (&[2, 4][..], 7));
    // Of other ranks, or in too many pieces.
    let mut c = Case::new();
    let (x, y) = (c.input(&[300]), c.input(&[301]));
    let (x, y) = (c.op("neg", &[x], a()), c.op("neg", &[y], a()));
    c.b.output("x", x);
    assert_eq!(c.refused(y), "outputs of different shapes");
}

#[test]
fn a_kernel_takes_so_many_buffers() {
    for (n, fits) in [(MAX_BUFFERS - 1, true), (MAX_BUFFERS, false), (10_000, false)] {
        let mut c = Case::new();
        let parts: Vec<ValueId> = (0..n).map(|_| c.input(&[1, 2])).collect();
        let y = c.concat(&parts, 0);
        let (g, _) = c.graph(y);
        assert_eq!(form(&g, "k").is_ok(), fits, "{n}");
    }
}
