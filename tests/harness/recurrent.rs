//! Loops over state: written as an artifact, read back and run on simulator and emulator, beside the interpreter.

use tahoma::{Artifact, Compiler, Runner, device, verify};
use tahoma_core::artifact::PlanStep;
use tahoma_core::ops::find;
use tahoma_core::ops::scan::SCAN;
use tahoma_core::{Attr, Attrs, Builder, DType, Program, Tensor, TensorType, ValueId};

fn a() -> Attrs {
    Attrs::new()
}

fn known(dims: &[usize]) -> TensorType {
    TensorType::known(DType::F32, dims)
}

fn slice(b: &mut Builder, v: ValueId, hidden: usize, gate: usize) -> ValueId {
    let at = a().with("starts", vec![0, (gate * hidden) as i64]).with("sizes", vec![1, hidden as i64]).with("steps", vec![1, 1]);
    b.op("slice", &[v], at).unwrap()
}

/// Two layers as an importer would write them: the first gives all its steps, the second reads them backwards, with a mask; weights come
/// in as values, projections stand in the body. `hidden` of 6 makes rows that are not aligned as kernels need them.
pub(crate) fn program(hidden: usize, trips: usize) -> Program {
    let state = known(&[1, hidden]);
    let f = |b: &mut Builder, op: &str, x: &[ValueId]| b.op(op, x, a()).unwrap();
    let mut b = Builder::new("cell");
    let h = b.input("h", state.clone());
    let c = b.input("c", state.clone());
    let x = b.input("x", known(&[1, 3]));
    let live = b.input("live", TensorType::known(DType::Bool, &[1, 1]));
    let w = b.input("w", known(&[3, 4 * hidden]));
    let r = b.input("r", known(&[hidden, 4 * hidden]));
    let (p, q) = (f(&mut b, "matmul", &[x, w]), f(&mut b, "matmul", &[h, r]));
    let s = f(&mut b, "add", &[p, q]);
    let gates: Vec<ValueId> = (0..4).map(|g| slice(&mut b, s, hidden, g)).collect();
    let [i, o, k] = [gates[0], gates[1], gates[2]].map(|g| f(&mut b, "sigmoid", &[g]));
    let g = f(&mut b, "tanh", &[gates[3]]);
    let (keep, new) = (f(&mut b, "mul", &[k, c]), f(&mut b, "mul", &[i, g]));
    let next = f(&mut b, "add", &[keep, new]);
    let t = f(&mut b, "tanh", &[next]);
    let y = f(&mut b, "mul", &[o, t]);
    let (h2, c2) = (f(&mut b, "select", &[live, y, h]), f(&mut b, "select", &[live, next, c]));
    for (n, v) in [("h", h2), ("c", c2), ("y", h2)] {
        b.output(n, v);
    }
    let cell = b.finish();

    let mut b = Builder::new("main");
    let x = b.input("x", known(&[trips, 1, 3]));
    let h0 = b.input("h0", state.clone());
    let live = b.input("live", TensorType::known(DType::Bool, &[trips, 1, 1]));
    let weight = |b: &mut Builder, rows: usize, k: usize| {
        let v = (0..rows * 4 * hidden).map(|i| ((i * 7 + k) % 19) as f32 / 19.0 - 0.5).collect();
        b.constant(Tensor::f32(&[rows, 4 * hidden], v))
    };
    let (w, r, w2) = (weight(&mut b, 3, 1), weight(&mut b, hidden, 5), weight(&mut b, 3, 9));
    let zero = b.constant(Tensor::f32(&[1, hidden], vec![0.0; hidden]));
    let scan = |b: &mut Builder, x: ValueId, w: ValueId, reverse: i64| {
        let at = a().with("body", Attr::Func("cell".into())).with("carried", 2i64).with("sliced", 2i64).with("trips", trips as i64);
        let at = at.with("reverse", vec![reverse, reverse, reverse]);
        b.structure(SCAN, &[h0, zero, x, live, w, r], at, vec![state.clone(), state.clone(), known(&[trips, 1, hidden])]).unwrap()
    };
    let first = scan(&mut b, x, w, 0);
    let at = a().with("starts", vec![0, 0, 0]).with("sizes", vec![trips as i64, 1, 3]).with("steps", vec![1, 1, 1]);
    let cut = b.op("slice", &[first[2]], at).unwrap();
    let second = scan(&mut b, cut, w2, 1);
    let sum = b.emit1(find("add").unwrap(), &[second[2], first[2]], a()).unwrap();
    for (n, v) in [("y", sum), ("h", first[0]), ("c", second[1])] {
        b.output(n, v);
    }
    let mut p = Program::new(b.finish());
    p.functions.insert("cell".into(), cell);
    p
}

fn inputs(hidden: usize, trips: usize) -> Vec<(String, Tensor)> {
    let ramp = |n: usize, k: usize| (0..n).map(|i| ((i * k) % 23) as f32 / 11.0 - 1.0).collect::<Vec<f32>>();
    vec![
        ("x".into(), Tensor::f32(&[trips, 1, 3], ramp(trips * 3, 5))),
        ("h0".into(), Tensor::f32(&[1, hidden], ramp(hidden, 3))),
        ("live".into(), Tensor::bool(&[trips, 1, 1], (0..trips).map(|t| t != 2).collect())),
    ]
}

fn loops(steps: &[PlanStep]) -> Vec<&[PlanStep]> {
    steps.iter().filter_map(|s| if let PlanStep::Loop { steps, .. } = s { Some(&steps[..]) } else { None }).collect()
}

#[test]
fn state_stays_on_the_device() {
    let dir = tempfile::tempdir().unwrap();
    for (hidden, trips) in [(8, 7), (6, 5)] {
        let model = dir.path().join(format!("scan{hidden}.mlir"));
        std::fs::write(&model, tahoma::print_program(&program(hidden, trips)).unwrap()).unwrap();
        let inputs = inputs(hidden, trips);
        for (target, on) in [("trn2", "trn2-sim"), ("sm_90a", "ptx-emu")] {
            let what = format!("{target}, hidden {hidden}");
            let options = verify::VerifyOptions { inputs: inputs.clone(), each_kernel: true, ..Default::default() };
            let r = verify::verify(&Compiler::new(&model), &model, target, &options).unwrap_or_else(|d| panic!("{d}"));
            assert!(r.agree, "{what}: {r:#?}");
            assert_eq!((r.host_flops, r.run.launches as usize), (0, r.launches), "{what}");

            let c = Compiler::new(&model).target(target).compile().unwrap_or_else(|d| panic!("{d}"));
            let bodies = loops(&c.manifest.run);
            assert_eq!(bodies.len(), 2, "{what}");
            assert!(bodies.iter().all(|b| b.len() <= 2), "{what}: a run is more than a product and its gates");
            let out = dir.path().join(format!("{target}{hidden}"));
            c.write(&out, false).unwrap_or_else(|d| panic!("{d}"));
            let artifact = Artifact::load(&out, None).unwrap_or_else(|d| panic!("{d}"));
            assert!(artifact.manifest.run == c.manifest.run, "{what}: the plan that was read is not the one written");
            let mut runner = Runner::new(artifact, device::open(on).unwrap()).unwrap_or_else(|d| panic!("{d}"));
            let (got, report) = runner.run(&inputs).unwrap_or_else(|d| panic!("{d}"));
            let bytes: u64 = got.iter().map(|(_, t)| t.len() as u64 * 4).sum();
            assert_eq!(report.downloaded_bytes, bytes, "{what}: only results come to the host");
            assert!(report.host_ops.is_empty(), "{what}: {:?}", report.host_ops);
        }
    }
}

#[test]
fn kernels_do_not_grow_with_the_runs() {
    let dir = tempfile::tempdir().unwrap();
    let made = |trips: usize| {
        let model = dir.path().join(format!("long{trips}.mlir"));
        std::fs::write(&model, tahoma::print_program(&program(8, trips)).unwrap()).unwrap();
        let c = Compiler::new(&model).target("trn2").compile().unwrap_or_else(|d| panic!("{d}"));
        (
            c.manifest.kernels.len(),
            c.manifest.run.len(),
            c.manifest.report.launches,
            loops(&c.manifest.run).iter().map(|s| s.len()).sum::<usize>(),
        )
    };
    let (short, long) = (made(5), made(700));
    assert_eq!((short.0, short.1, short.3), (long.0, long.1, long.3));
    assert_eq!(long.2 - short.2, 695 * long.3, "launches are counted as often as they run");
}

/// A body of everything that need not be repeated, or can be done for all rows at once, and of what cannot.
fn busy(trips: usize) -> Program {
    let f = |b: &mut Builder, op: &str, x: &[ValueId], at: Attrs| b.op(op, x, at).unwrap();
    let mut b = Builder::new("busy");
    let s = b.input("s", known(&[2, 4]));
    let stays = b.input("stays", known(&[4]));
    let x = b.input("x", known(&[2, 3]));
    let z = b.input("z", known(&[2, 3]));
    let i = b.input("i", TensorType::known(DType::I64, &[]));
    let w = b.input("w", known(&[3, 4]));
    let table = b.input("table", known(&[2, trips, 4]));
    // The same in every run.
    let sum = f(&mut b, "add", &[w, stays], a());
    // Of rows: a product, with what is shared before and behind it; moves; a sum; rows of a table by the number of the run.
    let twice = f(&mut b, "add", &[x, x], a());
    let p = f(&mut b, "matmul", &[twice, sum], a());
    let t = f(&mut b, "transpose", &[p], a().with("perm", vec![1, 0]));
    let cut = f(&mut b, "slice", &[t], a().with("starts", vec![1, 0]).with("sizes", vec![2, 2]).with("steps", vec![2, 1]));
    let flat = f(&mut b, "reshape", &[cut], a().with("shape", vec![4]));
    let row = f(&mut b, "gather", &[table, i], a().with("axis", 1));
    let joined = f(&mut b, "concat", &[row, p], a().with("axis", 0));
    let total = f(&mut b, "reduce_sum", &[joined], a().with("axes", vec![0]).with("keepdims", false));
    let lead = f(&mut b, "mul", &[p, total], a());
    // Of rows that run against each other, and of state.
    let both = f(&mut b, "add", &[x, z], a());
    let more = f(&mut b, "matmul", &[both, w], a());
    let half = f(&mut b, "mul", &[s, stays], a());
    let next = f(&mut b, "add", &[half, lead], a());
    let next = f(&mut b, "add", &[next, more], a());
    for (n, v) in [("s", next), ("stays", stays), ("next", next), ("flat", flat), ("back", total), ("sum", sum), ("x", x)] {
        b.output(n, v);
    }
    let body = b.finish();
    let mut b = Builder::new("main");
    let rows = known(&[trips, 2, 3]);
    let operands = [("s", known(&[2, 4])), ("stays", known(&[4])), ("x", rows.clone()), ("z", rows.clone())].map(|(n, t)| b.input(n, t));
    let i = b.constant(Tensor::i64(&[trips], (0..trips as i64).collect()));
    let (w, table) = (b.input("w", known(&[3, 4])), b.input("table", known(&[2, trips, 4])));
    let at = a().with("body", Attr::Func("busy".into())).with("carried", 2i64).with("sliced", 3i64).with("trips", trips as i64);
    let at = at.with("reverse", vec![0, 1, 0, 1, 0, 1, 0, 0]);
    let types = [&[2, 4][..], &[4], &[trips, 2, 4], &[trips, 4], &[trips, 4], &[trips, 3, 4], &[trips, 2, 3]].map(known);
    let out = b.structure(SCAN, &[&operands[..], &[i, w, table]].concat(), at, types.to_vec()).unwrap();
    for (k, v) in out.into_iter().enumerate() {
        b.output(&format!("y{k}"), v);
    }
    let mut p = Program::new(b.finish());
    p.functions.insert("busy".into(), body);
    p
}

#[test]
fn what_need_not_be_repeated_is_done_before() {
    for trips in [1, 5] {
        let p = busy(trips);
        let inputs: Vec<(String, Tensor)> = verify_inputs(&p);
        let want = verify::run_plain(&p, &inputs).unwrap_or_else(|d| panic!("{d}"));
        let made = tahoma::specialise(&p, &mut |_, t| tahoma::Known::Type(t.clone())).unwrap_or_else(|d| panic!("{d}"));
        let got = verify::run_plain(&made, &inputs).unwrap_or_else(|d| panic!("{d}"));
        for ((name, g), (_, w)) in got.iter().zip(&want) {
            let d = tahoma::compare::compare(g, w);
            assert!(d.agree && g.shape() == w.shape(), "{name}: {d:?}");
        }
        let scan = made.main().nodes.iter().find(|n| n.op.name == "scan").expect("state is left");
        let attr = |k: &str| scan.attrs.int(k).unwrap();
        // One state; x·2·(w + stays)·Σ and both halves of the sum that runs both ways; one row kept, and the weights of its product.
        assert_eq!((attr("carried"), attr("sliced"), scan.results.len(), scan.operands.len()), (1, 3, 2, 6));
        let body = &made.functions[scan.attrs.func("body").unwrap()];
        assert_eq!(body.nodes.len(), 5, "{body:#?}");
    }
}

/// Numbers for every input of a program of f32.
fn verify_inputs(p: &Program) -> Vec<(String, Tensor)> {
    let g = p.main();
    let one = |(k, port): (usize, &tahoma_core::Port)| {
        let dims = g.ty(port.value).shape.to_static().unwrap();
        let v = (0..dims.iter().product::<usize>()).map(|i| ((i * 5 + 3 * k) % 17) as f32 / 9.0 - 0.8).collect();
        (port.name.clone(), Tensor::f32(&dims, v))
    };
    g.inputs.iter().enumerate().map(one).collect()
}

#[test]
fn a_scan_without_state_is_no_loop() {
    let mut b = Builder::new("rows");
    let (x, w) = (b.input("x", known(&[2, 3])), b.input("w", known(&[3, 4])));
    let y = b.op("matmul", &[x, w], a()).unwrap();
    b.output("y", y);
    let body = b.finish();
    let mut b = Builder::new("main");
    let (x, w) = (b.input("x", known(&[9, 2, 3])), b.input("w", known(&[3, 4])));
    let at = a().with("body", Attr::Func("rows".into())).with("carried", 0i64).with("sliced", 1i64).with("trips", 9i64);
    let y = b.structure(SCAN, &[x, w], at.with("reverse", vec![0, 1]), vec![known(&[9, 2, 4])]).unwrap();
    b.output("y", y[0]);
    let mut p = Program::new(b.finish());
    p.functions.insert("rows".into(), body);
    let inputs = verify_inputs(&p);
    let made = tahoma::specialise(&p, &mut |_, t| tahoma::Known::Type(t.clone())).unwrap_or_else(|d| panic!("{d}"));
    assert_eq!((made.functions.len(), made.main().nodes.iter().filter(|n| n.op.name == "matmul").count()), (1, 1));
    let (got, want) = (verify::run_plain(&made, &inputs).unwrap(), verify::run_plain(&p, &inputs).unwrap());
    assert!(tahoma::compare::compare(&got[0].1, &want[0].1).agree);
}
