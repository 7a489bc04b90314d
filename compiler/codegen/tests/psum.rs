//! What a contraction leaves lies in PSUM on trn2, which engines reach by other rules than SBUF: every op is tried on it.

use tahoma_codegen::trn2;
use tahoma_core::graph::Builder;
use tahoma_core::op::Kind;
use tahoma_core::{Attrs, DType, Tensor, TensorType, form, kernel_eval, ops};
use tahoma_sim::nki::{HbmTensor, Options, simulate};

/// Every elementwise op of one or two f32 on the result of a matmul: as the first operand, as the second, and as both.
#[test]
fn every_op_reads_what_a_contraction_leaves() {
    let mut random = tahoma_core::random::Random::new(7);
    let mut near_one = |shape: &[usize]| {
        let n = shape.iter().product();
        Tensor::f32(shape, (0..n).map(|_| 1.0 + 0.1 * random.signed() as f32).collect())
    };
    let inputs = [near_one(&[4, 8]), near_one(&[8, 5]), near_one(&[4, 5])];
    let mut tried = vec![];
    for op in ops::OPS.iter().filter(|o| matches!(o.kind, Kind::Elementwise(_)) && o.operands.len() <= 2) {
        let sides = if op.operands.len() == 2 { 3 } else { 1 };
        for side in 0..sides {
            let mut b = Builder::new("k");
            let v: Vec<_> =
                inputs.iter().enumerate().map(|(i, t)| b.input(&format!("x{i}"), TensorType::known(DType::F32, t.shape()))).collect();
            let y = b.op("matmul", &v[..2], Attrs::new()).unwrap();
            let operands = [[y, v[2]], [v[2], y], [y, y]][side];
            let Ok(out) = b.op(op.name, &operands[..op.operands.len()], Attrs::new()) else { continue };
            b.output("y", out);
            let spec = form::form(&b.finish(), "k").unwrap();
            // What trn2 has no instruction for is refused, and runs on the host.
            let Ok(k) = trn2::lower(&spec, "a test") else { continue };
            let inputs = &inputs[..spec.inputs.len()];
            let bytes: Vec<Vec<u8>> = inputs.iter().map(Tensor::to_bytes).collect();
            let args: Vec<HbmTensor> =
                bytes.iter().zip(&k.program.params).map(|(b, p)| HbmTensor::new(p.dtype, &p.shape, b.as_slice())).collect();
            let got = simulate(&k.program, &args, &Options::default()).unwrap_or_else(|e| panic!("{}: {e}\n{}", op.name, k.nki));
            let want = kernel_eval::eval(&spec, inputs).unwrap().remove(0);
            let got = Tensor::from_bytes(want.dtype(), want.shape(), &got.outputs[0].data).unwrap();
            for (p, q) in want.to_f64s().iter().zip(got.to_f64s()) {
                let same = (p - q).abs() <= 1e-4 * p.abs() || (p.is_nan() && q.is_nan()) || *p == q;
                assert!(same, "{}, side {side}: {p} became {q}", op.name);
            }
            tried.push((op.name, side));
        }
    }
    assert!(tried.len() > 40 && tried.contains(&("pow", 1)), "{tried:?}");
}
