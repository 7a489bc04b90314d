//! The proof against looking at every point, and what it refuses.

use super::*;
use crate::float::Float;
use proptest::prelude::*;

/// Whether the access stays in its buffer, point by point.
fn looked_at(a: &Access, extents: &[i64], size: i64) -> bool {
    let mut at = vec![0i64; extents.len()];
    let dot = |offset: i64, c: &[i64], i: &[i64]| offset + c.iter().zip(i).map(|(c, i)| c * i).sum::<i64>();
    loop {
        let read = a.guards.iter().all(|g| (0..g.extent).contains(&dot(g.offset, &g.coeffs, &at)));
        if read && !(0..size).contains(&dot(a.offset, &a.strides, &at)) {
            return false;
        }
        let Some(d) = (0..at.len()).rev().find(|&d| at[d] + 1 < extents[d]) else { return true };
        at[d] += 1;
        at[d + 1..].fill(0);
    }
}

fn access(dims: usize) -> impl Strategy<Value = Access> {
    let coeffs = move || proptest::collection::vec(-3i64..4, dims);
    let guard = (-4i64..4, coeffs(), 1i64..6).prop_map(|(offset, coeffs, extent)| Guard { offset, coeffs, extent });
    let strides = proptest::collection::vec(-8i64..9, dims);
    (-6i64..12, strides, proptest::collection::vec(guard, 0..3)).prop_map(|(offset, strides, guards)| Access {
        buffer: 0,
        offset,
        strides,
        guards,
        fill: Float(0.0),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]
    /// Small loops are decided exactly: the proof neither believes too much nor too little.
    #[test]
    fn the_proof_says_what_looking_at_every_point_says(a in access(3), extents in proptest::collection::vec(1i64..6, 3), size in 1i64..40) {
        prop_assert_eq!(in_bounds(&a, &extents, size).is_ok(), looked_at(&a, &extents, size));
    }
}

/// A padded image read by a window, as large as images are: proved at once, and not if one element is missing.
#[test]
fn windows_of_large_images_are_proved_without_looking() {
    let (c, h, w) = (512i64, 4096i64, 4096i64);
    let guard = |coeffs: Vec<i64>, extent| Guard { offset: -1, coeffs, extent };
    let a = Access {
        buffer: 0,
        offset: -w - 1,
        strides: vec![2 * w, 2, h * w, w, 1],
        guards: vec![guard(vec![2, 0, 0, 1, 0], h), guard(vec![0, 2, 0, 0, 1], w)],
        fill: Float(0.0),
    };
    let extents = [h / 2, w / 2, c, 3, 3];
    assert_eq!(in_bounds(&a, &extents, c * h * w), Ok(()));
    assert!(in_bounds(&a, &extents, c * h * w - 1).is_err());
    let without = Access { guards: a.guards[1..].to_vec(), ..a };
    assert!(in_bounds(&without, &extents, c * h * w).is_err());
}

#[test]
fn numbers_that_no_machine_counts_are_refused() {
    let a = |offset, stride| Access { buffer: 0, offset, strides: vec![stride], guards: vec![], fill: Float(0.0) };
    for (offset, stride, extent) in
        [(i64::MAX, 1, 2), (0, i64::MAX, 3), (i64::MIN, i64::MIN, i64::MAX), (0, -1, 2), (1, i64::MAX, i64::MAX)]
    {
        assert!(in_bounds(&a(offset, stride), &[extent], 4).is_err(), "{offset} {stride} {extent}");
    }
    assert!(loops(&[&[1 << 32, 1 << 32]]).is_err());
    assert!(loops(&[&[u64::MAX]]).is_err());
    assert!(loops(&[&[0]]).is_err());
    assert!(loops(&[&[1; 65]]).is_err());
    assert!(elements(&TensorType::known(DType::F64, &[1 << 60])).is_err());
    assert!(elements(&TensorType::known(DType::F32, &[1 << 32, 1 << 32, 1 << 32])).is_err());
    assert!(elements(&TensorType::known(DType::F32, &[0])).is_err());
}

/// y[j, i] = x[i, j] + 1 with its store as given.
fn map(store: Access, outputs: &[usize]) -> KernelSpec {
    let f = DType::F32;
    let expr = Expr { steps: vec![(Step::Input(0), f), (Step::Const(Float(1.0)), f), (Step::Binary(crate::scalar::Binary::Add, 0, 1), f)] };
    let x = Access { buffer: 0, offset: 0, strides: vec![1, 3], guards: vec![], fill: Float(0.0) };
    KernelSpec {
        name: "k".into(),
        inputs: vec![TensorType::known(f, &[2, 3])],
        outputs: vec![TensorType::known(f, outputs)],
        body: Body::Rows(Rows {
            outer: vec![3, 2],
            inner: vec![],
            loads: vec![Load { access: x, dtype: f, per_row: false }],
            steps: vec![RowStep::Map { expr, args: vec![0] }],
            stores: vec![Store { access: store, value: 1 }],
        }),
    }
}

#[test]
fn each_element_is_written_once() {
    let to = |offset, strides: [i64; 2]| Access { buffer: 0, offset, strides: strides.into(), guards: vec![], fill: Float(0.0) };
    let good = [to(0, [2, 1]), to(0, [1, 3]), to(5, [-2, -1]), to(2, [-1, 3])];
    for a in good {
        assert_eq!(check(&map(a.clone(), &[6])), Ok(()), "{a:?}");
        crate::kernel_eval::eval(&map(a, &[6]), &[crate::Tensor::f32(&[2, 3], vec![0.; 6])]).unwrap();
    }
    for a in [to(0, [2, 2]), to(1, [2, 1]), to(0, [2, 0]), to(0, [3, 1]), to(0, [i64::MIN, 1]), to(5, [2, 1])] {
        assert!(check(&map(a.clone(), &[6])).is_err(), "{a:?}");
    }
    assert!(check(&map(to(0, [2, 1]), &[7])).is_err());
}

#[test]
fn values_are_made_before_they_are_used_and_of_their_types() {
    let good = || map(Access { buffer: 0, offset: 0, strides: vec![2, 1], guards: vec![], fill: Float(0.0) }, &[6]);
    let wrong = |change: &dyn Fn(&mut KernelSpec)| {
        let mut s = good();
        change(&mut s);
        check(&s).unwrap_err();
    };
    fn rows(s: &mut KernelSpec) -> &mut Rows {
        let Body::Rows(r) = &mut s.body else { unreachable!() };
        r
    }
    wrong(&|s| rows(s).stores[0].value = 2);
    wrong(&|s| rows(s).stores[0].access.buffer = 1);
    wrong(&|s| rows(s).stores.clear());
    wrong(&|s| rows(s).loads[0].access.buffer = usize::MAX);
    wrong(&|s| rows(s).loads[0].dtype = DType::F64);
    wrong(&|s| rows(s).steps[0] = RowStep::Reduce { monoid: crate::op::Monoid::Sum, arg: 7, dtype: DType::F32 });
    wrong(&|s| rows(s).steps[0] = RowStep::Map { expr: Expr::default(), args: vec![] });
    wrong(&|s| rows(s).steps[0] = RowStep::Map { expr: Expr::input(1, DType::F32), args: vec![0] });
    wrong(&|s| rows(s).steps[0] = RowStep::Map { expr: Expr::input(0, DType::F32), args: vec![1] });
    wrong(&|s| rows(s).outer = vec![u64::MAX, 2]);
    wrong(&|s| s.outputs.clear());
    wrong(&|s| s.inputs[0] = TensorType::known(DType::F32, &[5]));
}
