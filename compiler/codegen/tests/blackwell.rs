//! Kernels of 16-bit floats on the Blackwell chips, where LLVM joins a widening with the arithmetic after it (`add.rn.f32.bf16`): they
//! run, and mean what they mean on Hopper.

mod common;

use common::emulate;
use tahoma_core::graph::Builder;
use tahoma_core::{Attrs, DType, Tensor, TensorType, ValueId, form};
use tahoma_mlir::Session;

type Make = fn(&mut Builder, &[ValueId]) -> ValueId;

fn op(b: &mut Builder, name: &str, x: &[ValueId], attrs: Attrs) -> ValueId {
    b.op(name, x, attrs).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn wide(b: &mut Builder, x: ValueId) -> ValueId {
    op(b, "cast", &[x], Attrs::new().with("to", DType::F32).with("saturate", true))
}

/// Kernels over x[6, 40], gain[40] and bias[40] of 16 bits, and a wide f32[6, 40].
const KERNELS: &[(&str, Make)] = &[
    ("softmax", |b, x| op(b, "softmax", &x[..1], Attrs::new().with("axis", 1))),
    ("log_softmax", |b, x| op(b, "log_softmax", &x[..1], Attrs::new().with("axis", 1))),
    ("layer_norm", |b, x| op(b, "layer_norm", &x[..3], Attrs::new().with("axis", 1).with("epsilon", 1e-5))),
    ("rms_norm", |b, x| op(b, "rms_norm", &x[..2], Attrs::new().with("axis", 1).with("epsilon", 1e-5))),
    ("reduce_mean", |b, x| op(b, "reduce_mean", &x[..1], Attrs::new().with("axes", vec![1]).with("keepdims", false))),
    ("reduce_log_sum_exp", |b, x| op(b, "reduce_log_sum_exp", &x[..1], Attrs::new().with("axes", vec![0]).with("keepdims", true))),
    ("gelu", |b, x| op(b, "gelu", &x[..1], Attrs::new())),
    ("widened + wide", |b, x| {
        let w = wide(b, x[0]);
        op(b, "add", &[w, x[3]], Attrs::new())
    }),
    ("widened - wide", |b, x| {
        let w = wide(b, x[0]);
        op(b, "sub", &[w, x[3]], Attrs::new())
    }),
    ("wide - widened", |b, x| {
        let w = wide(b, x[0]);
        op(b, "sub", &[x[3], w], Attrs::new())
    }),
    ("widened · widened + wide", |b, x| {
        let (w, g) = (wide(b, x[0]), wide(b, x[1]));
        let p = op(b, "mul", &[w, g], Attrs::new());
        op(b, "add", &[p, x[3]], Attrs::new())
    }),
    ("sum of widened squares", |b, x| {
        let w = wide(b, x[0]);
        let s = op(b, "mul", &[w, w], Attrs::new());
        op(b, "reduce_sum", &[s], Attrs::new().with("axes", vec![1]).with("keepdims", true))
    }),
];

#[test]
fn kernels_of_16_bit_floats_are_the_same_on_every_chip() {
    let session = Session::new().unwrap();
    let mut mixed = 0;
    for d in [DType::F16, DType::BF16] {
        for (name, make) in KERNELS {
            let mut b = Builder::new("k");
            let shapes: [(&[usize], DType); 4] = [(&[6, 40], d), (&[40], d), (&[40], d), (&[6, 40], DType::F32)];
            let x: Vec<ValueId> =
                shapes.iter().enumerate().map(|(i, (s, d))| b.input(&format!("x{i}"), TensorType::known(*d, s))).collect();
            let y = make(&mut b, &x);
            b.output("y", y);
            let g = b.finish();
            let spec = form::form(&g, "k").unwrap_or_else(|e| panic!("{name}: {e}"));
            // Edges among the numbers: the largest, the least, both zeros.
            let edges = [65504.0, -65504.0, 6e-8, -0.0, 0.0, 300.0];
            let inputs: Vec<Tensor> = shapes
                .iter()
                .map(|(s, d)| {
                    let n: usize = s.iter().product();
                    let v = |i: usize| if i % 29 == 7 { edges[i / 29 % 6] } else { (i * 37 % 101) as f64 / 16.0 - 3.0 };
                    Tensor::from_f64s(*d, s, &(0..n).map(v).collect::<Vec<_>>())
                })
                .collect();
            let (_, want) = emulate(&session, &spec, &inputs, "sm_90a");
            for sm in ["sm_100a", "sm_103a", "sm_120"] {
                let (text, got) = emulate(&session, &spec, &inputs, sm);
                mixed += usize::from(["f16", "bf16"].iter().any(|t| text.contains(&format!(".f32.{t} "))));
                let bits = |t: &[Tensor]| t.iter().map(Tensor::to_bytes).collect::<Vec<_>>();
                assert!(bits(&got) == bits(&want), "{name} of {d} on {sm}: {got:?} but {want:?} on sm_90a\n{text}");
            }
        }
    }
    assert!(mixed > 6, "only {mixed} kernels have a mixed form: nothing was tested");
}
