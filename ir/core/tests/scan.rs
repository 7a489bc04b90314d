//! What `ml.scan` means: order of the rows, no runs, counts that do not fit.

use tahoma_core::ops::scan::{SCAN, ScanForm};
use tahoma_core::{Attr, Attrs, Builder, DType, Diagnostic, Node, Program, Tensor, TensorType, eval};

/// `s ← s + x_t·k`, keeps `s` and `x_t + s`, over two sliced operands of which the second runs backwards.
fn program(trips: i64, reverse: Vec<i64>) -> Program {
    let ty = TensorType::known(DType::F32, &[2]);
    let mut b = Builder::new("step");
    let [s, x, z, k] = ["s", "x", "z", "k"].map(|n| b.input(n, ty.clone()));
    let p = b.op("mul", &[x, k], Attrs::new()).unwrap();
    let next = b.op("add", &[s, p], Attrs::new()).unwrap();
    let kept = b.op("add", &[z, s], Attrs::new()).unwrap();
    for (n, v) in [("s", next), ("y", next), ("z", kept)] {
        b.output(n, v);
    }
    let body = b.finish();
    let mut b = Builder::new("main");
    let rows = TensorType::known(DType::F32, &[trips as usize, 2]);
    let args = [("s", &ty), ("x", &rows), ("z", &rows), ("k", &ty)].map(|(n, t)| b.input(n, t.clone()));
    let attrs = Attrs::new().with("body", Attr::Func("step".into())).with("carried", 1i64).with("sliced", 2i64);
    let attrs = attrs.with("trips", trips).with("reverse", reverse);
    let out = b.structure(SCAN, &args, attrs, vec![ty, rows.clone(), rows]).unwrap();
    for (i, v) in out.into_iter().enumerate() {
        b.output(&format!("y{i}"), v);
    }
    let mut p = Program::new(b.finish());
    p.functions.insert("step".into(), body);
    p
}

fn run(trips: usize, reverse: Vec<i64>) -> Result<Vec<Tensor>, Diagnostic> {
    let ramp = |n: usize, d: f32| Tensor::f32(&[n, 2], (0..2 * n).map(|i| i as f32 * d).collect());
    let vector = |a: f32, b: f32| Tensor::f32(&[2], vec![a, b]);
    let inputs = [vector(1.0, 2.0), ramp(trips, 1.0), ramp(trips, 10.0), vector(1.0, -1.0)];
    eval::run(&program(trips as i64, reverse), "main", &inputs, &eval::NoWeights)
}

#[test]
fn rows_are_read_and_written_in_their_order() {
    let y = run(3, vec![0, 1, 0, 1]).unwrap();
    // s: (1, 2) (1, 1) (3, -2) (7, -7)
    assert_eq!(y[0], Tensor::f32(&[2], vec![7.0, -7.0]));
    assert_eq!(y[1], Tensor::f32(&[3, 2], vec![1.0, 1.0, 3.0, -2.0, 7.0, -7.0]));
    // Row 2 of z with the first s, and so on; the first run's is written last.
    assert_eq!(y[2], Tensor::f32(&[3, 2], vec![3.0, 8.0, 21.0, 31.0, 41.0, 52.0]));
    let y = run(1, vec![1, 0, 1, 0]).unwrap();
    assert_eq!((&y[0], &y[2]), (&Tensor::f32(&[2], vec![1.0, 1.0]), &Tensor::f32(&[1, 2], vec![1.0, 12.0])));
}

#[test]
fn no_runs_give_the_start_and_no_rows() {
    let y = run(0, vec![0, 0, 0, 0]).unwrap();
    assert_eq!((&y[0], y[1].shape(), y[2].shape()), (&Tensor::f32(&[2], vec![1.0, 2.0]), &[0, 2][..], &[0, 2][..]));
}

#[test]
fn counts_that_do_not_fit_are_refused() {
    assert_eq!(run(3, vec![0, 0, 0]).unwrap_err().code, "E0902");
    assert_eq!(run(3, vec![0, 0, 0, 2]).unwrap_err().code, "E0902");
    let mut p = program(3, vec![0, 0, 0, 0]);
    let main = p.functions.get_mut("main").unwrap();
    let with = |k: &str, v: i64| Node { attrs: main.nodes[0].attrs.clone().with(k, v), ..main.nodes[0].clone() };
    for (k, v, code) in [("carried", 9, "E0902"), ("sliced", i64::MAX, "E0902"), ("trips", -1, "E0902"), ("trips", 1 << 40, "E0107")] {
        assert_eq!(ScanForm::of(&with(k, v)).unwrap_err().code, code, "{k} = {v}");
    }
}
