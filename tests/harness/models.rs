//! Real, unmodified models: the interpreter, the NeuronCore simulator and the PTX emulator give what the models' own runtimes give.

use tahoma::{Compiler, Target, Tensor, interp, model};
use tahoma_core::Program;
use tahoma_core::artifact::{Manifest, Numerics, PlanStep};
use tahoma_runtime::runner::RunReport;
use tahoma_tests::{Oracle, minilm, oracle};

/// Largest |a − b| over one output.
fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.shape(), b.shape());
    a.to_f64s().iter().zip(b.to_f64s()).fold(0.0, |m, (x, y)| if (x - y).abs() <= m { m } else { (x - y).abs() })
}

/// The file name a tensor's name gets.
fn file_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect()
}

/// Largest distance from the models' own runtimes.
const BOUND: f64 = 1e-4;

fn agree(o: &Oracle, got: &[(String, Tensor)], what: &str) {
    let mut compared = 0;
    for (name, value) in got {
        let Some((_, want)) = o.outputs.iter().find(|(n, _)| *n == file_name(name)) else { continue };
        let d = distance(value, want);
        println!("{what}: {name} is within {d:.2e}");
        assert!(d <= BOUND, "{what}: {name} is off by {d:.2e}");
        compared += 1;
    }
    assert!(compared > 0, "{what}: no output was compared");
}

fn on_interpreter(o: &Oracle) {
    let m = interp::prepare(&o.model, &model::Request::default(), &o.inputs).unwrap_or_else(|d| panic!("{d}"));
    let got = interp::evaluate(&m.model, &m.inputs).unwrap_or_else(|d| panic!("{d}"));
    agree(o, &got, "interp");
}

fn on_target(o: &Oracle, target: &str, device: &str) {
    // As `tahoma run` does: an input is fixed where the shapes depend on its value (silero's rate, where one branch fits no other).
    let p = interp::prepare(&o.model, &model::Request::default(), &o.inputs).unwrap_or_else(|d| panic!("{d}"));
    let compiler = Compiler::new(&o.model).target(target).request(&p.request).shapes_of(&p.inputs);
    let c = compiler.compile().unwrap_or_else(|d| panic!("{d}"));
    let r = &c.manifest.report;
    let share = r.device_flops as f64 / (r.device_flops + r.host_flops).max(1) as f64;
    println!("{target}: {} launches, {:.2} % of the flops on the device; on the host: {:?}", r.launches, 100.0 * share, r.host_ops);
    assert!(r.refused.is_empty(), "{target}: {:?}", r.refused);
    assert!(share >= 0.9, "{target}: only {:.1} % on the device: {:?}", 100.0 * share, r.host_ops);
    let (got, taken) = c.run(&p.inputs, device).unwrap_or_else(|d| panic!("{d}"));
    agree(o, &got, device);
    if target == "trn2" {
        one_clock(&c.manifest, &taken);
    }
}

/// What the compiler predicts is what the simulator takes, to the digit: each kernel, and the whole with its launches.
fn one_clock(m: &Manifest, taken: &RunReport) {
    for (k, t) in m.kernels.iter().zip(&taken.kernels).filter(|(_, t)| t.launches > 0) {
        assert_eq!((&*k.name, k.predicted_ns.0), (&*t.name, t.device_ns));
    }
    let branches = m.run.iter().any(|s| matches!(s, PlanStep::If { .. }));
    if !branches {
        assert_eq!((m.report.segments, m.report.predicted_ns.0), (taken.segments, taken.device_ns));
    }
    println!("{} kernels, {:.3} ms, predicted and taken", m.kernels.len(), taken.device_ns / 1e6);
}

/// Whether two tensors have the same bits; any NaN is as good as another.
fn same(a: &Tensor, b: &Tensor) -> bool {
    let (x, y) = (a.contiguous(), b.contiguous());
    let floats = || x.to_f64s().iter().zip(y.to_f64s()).all(|(x, y)| x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan()));
    a.ty() == b.ty() && (x.to_bytes() == y.to_bytes() || (a.dtype().is_float() && floats()))
}

/// What the search makes of a model computes what the model does, on the interpreter: bit for bit where only exact rules may be used.
fn before_is_after(o: &Oracle) {
    let p = interp::prepare(&o.model, &model::Request::default(), &o.inputs).unwrap_or_else(|d| panic!("{d}"));
    let compiler = Compiler::new(&o.model).request(&p.request).shapes_of(&p.inputs);
    let source = compiler.specialise(&p.model.program).unwrap_or_else(|d| panic!("{d}"));
    let run = |q: &Program| interp::evaluate_program(q, &p.inputs, &p.model.store).unwrap_or_else(|d| panic!("{d}"));
    let before = run(&source);
    for target in ["trn2", "sm_90a"] {
        for class in [Numerics::Exact, Numerics::Reassociate] {
            let what = format!("{target} at {class:?}");
            let target = Target::parse(target).unwrap_or_else(|d| panic!("{d}"));
            let (found, rules) = compiler.clone().numerics(class).eqsat(&source, target, &p.model.store).unwrap_or_else(|d| panic!("{d}"));
            assert!(found.functions.len() > source.functions.len(), "{what}: no kernel");
            println!("{what}: {} kernels from {} rules", found.functions.len() - source.functions.len(), rules.len());
            for ((name, x), (_, y)) in before.iter().zip(run(&found)) {
                assert!(class > Numerics::Exact || same(x, &y), "{what}: {name} has other bits, by {:.2e}", distance(x, &y));
                assert!(distance(x, &y) <= BOUND, "{what}: {name} is off by {:.2e}", distance(x, &y));
            }
        }
    }
}

macro_rules! models { ($($name:ident $oracle:expr;)*) => { $(mod $name {
    use super::*;
    #[test]
    fn on_the_interpreter() { on_interpreter(&$oracle) }
    #[test]
    fn on_trainium2() { on_target(&$oracle, "trn2", "trn2-sim") }
    #[test]
    fn on_hopper() { on_target(&$oracle, "sm_90a", "ptx-emu") }
    #[test]
    fn is_the_same_after_the_search() { before_is_after(&$oracle) }
})* } }

/// The same model with its sampling rate fixed, as `--constant sr=…` does: the branch is gone, and so is the step that chooses.
#[test]
fn a_fixed_input_leaves_no_branch() {
    let o = oracle("vad-op18");
    let (rate, inputs): (Vec<_>, Vec<_>) = o.inputs.iter().cloned().partition(|(n, _)| n == "sr");
    let compiler = Compiler::new(&o.model).target("trn2").shapes_of(&inputs).input_value("sr", rate[0].1.clone());
    let c = compiler.compile().unwrap_or_else(|d| panic!("{d}"));
    assert!(c.manifest.run.iter().all(|s| !matches!(s, PlanStep::If { .. })));
    let (got, _) = c.run(&inputs, "trn2-sim").unwrap_or_else(|d| panic!("{d}"));
    agree(&o, &got, "trn2-sim");
}

models! {
    ocr_detector oracle("ocr-det");
    ocr_recogniser oracle("ocr-rec");
    ocr_classifier oracle("ocr-cls");
    voice_activity_16k oracle("vad-16k");
    voice_activity_op18 oracle("vad-op18");
    voice_activity oracle("vad");
    voice_activity_op15 oracle("vad-op15");
    voice_activity_sequence oracle("vad-sequence");
    voice_activity_half oracle("vad-half");
    ocr6_detector oracle("ocr6-det");
    ocr6_recogniser oracle("ocr6-rec");
    ocr6_classifier oracle("ocr6-cls");
    file_type oracle("magika");
    transformer_block oracle("block");
    sentence_embedding minilm();
}
