//! A Llama-style block for every target: few kernels, and the answer of onnxruntime.

use tahoma::Compiler;
use tahoma_tests::oracle;

#[test]
fn it_compiles_for_every_chip_and_agrees() {
    let o = oracle("block");
    for target in ["trn2", "sm_90a", "sm_103a"] {
        let c = Compiler::new(&o.model).target(target).compile().unwrap_or_else(|d| panic!("{d}"));
        println!("{target}: {} launches, host ops {:?}", c.manifest.report.launches, c.manifest.report.host_ops);
        assert!(c.manifest.report.host_ops.is_empty() && c.manifest.report.refused.is_empty());
        // IREE makes 14 launches of it, XLA 16.
        assert!(c.manifest.report.launches <= 7, "{target}: {} launches", c.manifest.report.launches);
        let device = if target == "trn2" { "trn2-sim" } else { "ptx-emu" };
        let (got, _) = c.run(&o.inputs, device).unwrap_or_else(|d| panic!("{d}"));
        let (a, b) = (got[0].1.to_f64s(), o.outputs[0].1.to_f64s());
        let worst = a.iter().zip(&b).fold(0.0f64, |m, (x, y)| m.max((x - y).abs()));
        assert!(worst <= 1e-4, "{target}: off by {worst}");
    }
}
