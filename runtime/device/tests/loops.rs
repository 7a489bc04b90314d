//! Loops of a plan: state, rows read and kept, in any order and alignment; and loops that do not hold together, which are refused.

mod plan;

use plan::{buffer, negate, port, row, sum};
use std::sync::Arc;
use tahoma_core::artifact::*;
use tahoma_core::{DType, Diagnostic, Tensor, TensorType};
use tahoma_runtime::artifact::{WeightBytes, check};
use tahoma_runtime::{Artifact, Runner, device};

/// A field of the loop that a manifest starts with.
macro_rules! part {
    ($m:ident, $field:ident) => {{
        let PlanStep::Loop { $field, .. } = &mut $m.run[0] else { panic!("no loop") };
        $field
    }};
}

/// `s ← s + x_t` and `p ← s`, x backwards. Keeps the new s; -s, made on the host, the first last; and the row itself.
fn manifest(n: usize, trips: usize, host: bool) -> Manifest {
    let (one, all) = (row(n), TensorType::known(DType::F32, &[trips, n]));
    // 0 x, 1 start; 2 s, 3 p, 4 row, 5 next s, 6 -s in a run; 7 last s, 8 last p, 9 all s, 10 all rows, 11 all -s.
    let types = [&all, &one, &one, &one, &one, &one, &one, &one, &one, &all, &all, &all];
    let mut stacks = vec![Stack { row: 5, reverse: false }, Stack { row: 4, reverse: false }];
    let mut steps = vec![PlanStep::Launch { kernel: 0, inputs: vec![2, 4], outputs: vec![5] }];
    let mut outputs = vec![7, 8, 9, 10];
    if host {
        steps.push(negate(5, 6));
        stacks.push(Stack { row: 6, reverse: true });
        outputs.push(11);
    }
    let repeat = PlanStep::Loop {
        trips,
        inputs: vec![0, 1],
        states: vec![State { start: 1, buffer: 2, next: 5 }, State { start: 1, buffer: 3, next: 2 }],
        rows: vec![Row { of: 0, row: 4, reverse: true }],
        stacks,
        steps,
        outputs: outputs.clone(),
    };
    Manifest {
        inputs: vec![port("x", 0), port("start", 1)],
        outputs: outputs.iter().map(|&b| port(&format!("b{b}"), b)).collect(),
        buffers: types.iter().map(|&t| buffer(t.clone())).collect(),
        run: vec![repeat],
        kernels: vec![sum(n)],
        ..plan::empty()
    }
}

struct None_;

impl WeightBytes for None_ {
    fn bytes(&self, w: &WeightRef) -> Result<std::borrow::Cow<'_, [u8]>, Diagnostic> {
        Err(Diagnostic::error("E0607", w.name.clone()))
    }
}

fn runner(m: Manifest) -> Runner {
    check(&m).unwrap_or_else(|d| panic!("{d}"));
    let artifact = Artifact { manifest: Arc::new(m), kernels: Arc::new(vec![String::new()]), weights: Arc::new(None_), edited: vec![] };
    Runner::new(artifact, device::open("interp").unwrap()).unwrap()
}

#[test]
fn state_and_rows_go_through_every_run() {
    // Rows of 16 bytes lie where kernels may read them, rows of 12 do not and are copied.
    for (n, trips, host) in [(4, 6, false), (3, 6, false), (3, 6, true), (4, 1, true), (4, 0, true), (3, 0, false)] {
        let mut r = runner(manifest(n, trips, host));
        for k in 1..3 {
            let x: Vec<f32> = (0..trips * n).map(|i| (i * k) as f32).collect();
            let given = [("x".to_string(), Tensor::f32(&[trips, n], x.clone())), ("start".into(), Tensor::f32(&[n], vec![0.5; n]))];
            let (out, report) = r.run(&given).unwrap();
            let (mut s, mut p, mut kept, mut rows, mut negative) = (vec![0.5; n], vec![0.5; n], vec![], vec![], vec![]);
            for t in (0..trips).rev() {
                let row = &x[t * n..(t + 1) * n];
                p.clone_from(&s);
                s = s.iter().zip(row).map(|(a, b)| a + b).collect();
                kept.extend(s.clone());
                rows.extend(row);
                negative.splice(0..0, s.iter().map(|v| -v));
            }
            let all = |v: &[f32]| Tensor::f32(&[trips, n], v.to_vec());
            let mut want = vec![Tensor::f32(&[n], s), Tensor::f32(&[n], p), all(&kept), all(&rows)];
            want.extend(host.then(|| all(&negative)));
            for ((name, got), want) in out.iter().zip(&want) {
                assert_eq!(got, want, "{n} numbers, {trips} runs: {name}");
            }
            assert_eq!(report.launches as usize, trips);
            // Up goes what is given, once, and down what is asked for: nothing in between.
            let bytes = |t: &[Tensor]| t.iter().map(|t| t.len() as u64 * 4).sum::<u64>();
            if !host && trips > 0 {
                assert_eq!(report.uploaded_bytes, bytes(&[given[0].1.clone(), given[1].1.clone()]));
                assert_eq!(report.downloaded_bytes, bytes(&want));
            }
        }
    }
}

#[test]
fn a_state_may_stay_or_become_what_lies_outside() {
    let mut m = manifest(4, 3, false);
    let states = part!(m, states);
    // s is what was given in every run, p keeps its first value.
    (states[0].next, states[1].next) = (1, 3);
    let x: Vec<f32> = (0..12).map(|i| i as f32).collect();
    let (out, _) =
        runner(m).run(&[("x".into(), Tensor::f32(&[3, 4], x.clone())), ("start".into(), Tensor::f32(&[4], vec![2.0; 4]))]).unwrap();
    assert_eq!((&out[0].1, &out[1].1), (&Tensor::f32(&[4], vec![2.0; 4]), &Tensor::f32(&[4], vec![2.0; 4])));
    let kept: Vec<f32> = (0..3).rev().flat_map(|t| x[4 * t..4 * t + 4].iter().map(|v| v + 2.0)).collect();
    assert_eq!(out[2].1, Tensor::f32(&[3, 4], kept));
}

#[test]
fn loops_that_lie_are_refused() {
    type Change = (&'static str, fn(&mut Manifest));
    let changes: &[Change] = &[
        ("more runs than rows", |m| *part!(m, trips) = 7),
        ("no end", |m| *part!(m, trips) = usize::MAX),
        ("an input that is not named", |m| part!(m, inputs).truncate(0)),
        ("a start that is not named", |m| part!(m, inputs).truncate(1)),
        ("a start that is nowhere", |m| part!(m, states)[0].start = 99),
        ("a state of another type", |m| part!(m, states)[0].next = 9),
        ("a state that is made twice", |m| part!(m, states)[1].buffer = 2),
        ("a state that the steps make", |m| part!(m, states)[0].buffer = 5),
        ("a next value that nobody makes", |m| part!(m, states)[0].next = 6),
        ("a next value that is nowhere", |m| part!(m, states)[0].next = 99),
        ("rows of a row", |m| part!(m, rows)[0].of = 1),
        ("rows of nothing", |m| part!(m, rows)[0].of = 99),
        ("a row in the place of what is given", |m| part!(m, rows)[0].row = 1),
        ("a kept row that nobody makes", |m| part!(m, stacks)[0].row = 6),
        ("a kept row that is a whole", |m| part!(m, stacks)[0].row = 0),
        ("steps that read their own end", |m| part!(m, steps)[0] = PlanStep::Launch { kernel: 0, inputs: vec![2, 7], outputs: vec![5] }),
        ("steps that read what is made later", |m| part!(m, steps).insert(0, negate(5, 6))),
        ("fewer outputs than results", |m| part!(m, outputs).truncate(3)),
        ("an output of another type", |m| m.buffers[9].ty = TensorType::known(DType::I32, &[6, 4])),
        ("an output of another length", |m| m.buffers[9].ty = row(24)),
        ("an open extent", |m| m.buffers[2].ty.shape.0[0] = tahoma_core::Dim::sym("n")),
        ("a loop at load", |m| {
            let s = m.run.remove(0);
            m.load.push(s);
        }),
    ];
    check(&manifest(4, 6, false)).unwrap();
    for (what, change) in changes {
        let mut m = manifest(4, 6, false);
        change(&mut m);
        assert_eq!(check(&m).expect_err(what).code, "E0605", "{what}");
    }
    // Rows that do not end at a byte.
    let mut m = manifest(4, 6, false);
    for b in [0, 4, 10] {
        m.buffers[b].ty = TensorType::known(DType::I4, if b == 4 { &[1] } else { &[6, 1] });
    }
    let PlanStep::Loop { stacks, steps, outputs, states, inputs, .. } = &mut m.run[0] else { panic!() };
    (*stacks, *outputs, *inputs) = (vec![Stack { row: 4, reverse: false }], vec![10], vec![0]);
    states.clear();
    steps.clear();
    m.outputs.retain(|o| o.buffer == 10);
    assert_eq!(check(&m).unwrap_err().code, "E0605");
}
