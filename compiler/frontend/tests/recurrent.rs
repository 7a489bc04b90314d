//! Loops of known length: recurrent layers in all their forms against one step after the other, Scan and counted Loop against plain
//! arithmetic. A long one is one body that is repeated, and the model does not grow with it.

mod models;

use models::*;
use tahoma_core::random::Random;
use tahoma_core::{Tensor, eval};
use tahoma_frontend::proto::attribute_proto::AttributeType;
use tahoma_frontend::proto::*;
use tahoma_frontend::{ImportOptions, Imported, import_onnx_bytes};

fn import(m: &ModelProto) -> Imported {
    import_onnx_bytes("m.onnx", bytes(m), &ImportOptions::default()).unwrap_or_else(|d| panic!("{d}"))
}

fn run(m: &Imported, inputs: &[Tensor]) -> Vec<Tensor> {
    eval::run(&m.program, "main", inputs, &m.store).unwrap_or_else(|d| panic!("{d}"))
}

fn count(m: &Imported, op: &str) -> usize {
    m.program.functions.values().flat_map(|g| &g.nodes).filter(|n| n.op.name == op).count()
}

fn nodes(m: &Imported) -> usize {
    m.program.functions.values().map(|g| g.nodes.len()).sum()
}

fn str_attr(name: &str, s: &str) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(AttributeType::String as i32),
        s: Some(s.as_bytes().to_vec()),
        ..Default::default()
    }
}

fn strs_attr(name: &str, all: &[&str]) -> AttributeProto {
    let strings = all.iter().map(|s| s.as_bytes().to_vec()).collect();
    AttributeProto { name: Some(name.into()), r#type: Some(AttributeType::Strings as i32), strings, ..Default::default() }
}

fn typed(name: &str, elem: i32, dims: &[i64]) -> ValueInfoProto {
    ValueInfoProto { name: Some(name.into()), r#type: Some(tensor_type(elem, Some(dims))), ..Default::default() }
}

/// Numbers between -1 and 1, a function of the seed.
fn drawn(seed: u64, n: usize) -> Vec<f32> {
    let mut random = Random::new(seed);
    (0..n).map(|_| random.signed() as f32).collect()
}

fn close(a: &Tensor, b: &Tensor, what: &str) {
    assert_eq!(a.shape(), b.shape(), "{what}");
    let worst = a.to_f64s().iter().zip(b.to_f64s()).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
    assert!(worst <= 1e-5, "{what}: {worst}");
}

/// A recurrent layer and what its steps are like.
#[derive(Clone)]
struct Layer {
    kind: &'static str,
    direction: &'static str,
    batch: usize,
    hidden: usize,
    lens: Option<Vec<i32>>,
    peephole: bool,
    batch_first: bool,
    attrs: Vec<AttributeProto>,
}

const WIDTH: usize = 3;

impl Layer {
    fn new(kind: &'static str, direction: &'static str) -> Layer {
        Layer { kind, direction, batch: 2, hidden: 5, lens: None, peephole: false, batch_first: false, attrs: vec![] }
    }
    fn directions(&self) -> usize {
        if self.direction == "bidirectional" { 2 } else { 1 }
    }
    fn model(&self, steps: usize) -> ModelProto {
        let gates = if self.kind == "LSTM" {
            4
        } else if self.kind == "GRU" {
            3
        } else {
            1
        };
        let (d, b, h) = (self.directions() as i64, self.batch as i64, self.hidden as i64);
        let of = |name: &str, seed: u64, dims: &[i64]| floats(name, dims, drawn(seed, dims.iter().product::<i64>() as usize));
        let mut inputs = vec!["x", "w", "r", "b", if self.lens.is_some() { "lens" } else { "" }, "h0"];
        let mut outputs = vec!["y", "yh"];
        let mut init = vec![of("w", 1, &[d, gates * h, WIDTH as i64]), of("r", 2, &[d, gates * h, h]), of("b", 3, &[d, 2 * gates * h])];
        let state = if self.batch_first { [b, d, h] } else { [d, b, h] };
        let x = if self.batch_first { [b, steps as i64, WIDTH as i64] } else { [steps as i64, b, WIDTH as i64] };
        let mut given = vec![typed("x", 1, &x), typed("h0", 1, &state)];
        if self.kind == "LSTM" {
            inputs.push("c0");
            outputs.push("yc");
            given.push(typed("c0", 1, &state));
            if self.peephole {
                inputs.push("p");
                init.push(of("p", 4, &[d, 3 * h]));
            }
        }
        if self.lens.is_some() {
            given.push(typed("lens", 6, &[b]));
        }
        let mut n = node(self.kind, &inputs, &outputs);
        n.attribute = [&self.attrs[..], &[str_attr("direction", self.direction), int_attr("hidden_size", h)]].concat();
        if self.batch_first {
            n.attribute.push(int_attr("layout", 1));
        }
        let mut g = with_init(graph(vec![n], &[], &outputs), init);
        g.input = given;
        model(g)
    }
    /// X with steps first, then the states, `[directions, batch, hidden]`.
    fn inputs(&self, steps: usize) -> (Tensor, Vec<Tensor>) {
        let (d, b, h) = (self.directions(), self.batch, self.hidden);
        let state = |seed| Tensor::f32(&[d, b, h], drawn(seed, d * b * h));
        let states = if self.kind == "LSTM" { vec![state(6), state(7)] } else { vec![state(6)] };
        (Tensor::f32(&[steps, b, WIDTH], drawn(5, steps * b * WIDTH)), states)
    }
    /// Runs a model on X with steps first: Y `[steps, directions, batch, hidden]` and the states.
    fn run(&self, m: &Imported, x: &Tensor, states: &[Tensor], lens: &[i32]) -> Vec<Tensor> {
        let turned = |t: &Tensor, perm: &[usize]| {
            let shape: Vec<usize> = perm.iter().map(|&p| t.shape()[p]).collect();
            let strides: Vec<isize> = perm.iter().map(|&p| t.strides()[p]).collect();
            if self.batch_first { t.view(&shape, &strides, t.offset()).contiguous() } else { t.clone() }
        };
        let mut all = vec![turned(x, &[1, 0, 2])];
        all.extend(states.iter().map(|s| turned(s, &[1, 0, 2])));
        if self.lens.is_some() {
            all.push(Tensor::new(tahoma_core::DType::I32, &[lens.len()], tahoma_core::Buffer::I32(lens.to_vec())));
        }
        let out = run(m, &all);
        let y = turned(&out[0], &[1, 2, 0, 3]);
        [y].into_iter().chain(out[1..].iter().map(|s| turned(s, &[1, 0, 2]))).collect()
    }
    /// The loop against one step after the other, each by a model of one step, which is unrolled.
    fn check(&self, steps: usize) {
        let what = format!("{} {} {:?} {} steps", self.kind, self.direction, self.lens, steps);
        let (x, start) = self.inputs(steps);
        let full = vec![steps as i32; self.batch];
        let lens = self.lens.as_ref().unwrap_or(&full);
        let long = import(&self.model(steps));
        assert_eq!(count(&long, "scan"), self.directions(), "{what}");
        let got = self.run(&long, &x, &start, lens);
        let one = import(&self.model(1));
        assert_eq!(count(&one, "scan"), 0);
        let (b, h) = (self.batch, self.hidden);
        for d in 0..self.directions() {
            let back = self.direction == "reverse" || d == 1;
            let mut states = start.clone();
            for i in 0..steps {
                let t = if back { steps - 1 - i } else { i };
                let row = x.view(&[1, b, WIDTH], x.strides(), t * b * WIDTH).contiguous();
                let here: Vec<i32> = lens.iter().map(|&l| i32::from(l > t as i32)).collect();
                let out = self.run(&one, &row, &states, &here);
                let part = |y: &Tensor, at: usize| y.contiguous().view(&[b, h], &[h as isize, 1], at * b * h).contiguous();
                close(&part(&got[0].contiguous(), t * self.directions() + d), &part(&out[0], d), &format!("{what}, Y at {t}"));
                states = out[1..].to_vec();
            }
            for (k, s) in states.iter().enumerate() {
                let part = |y: &Tensor| y.contiguous().view(&[b, h], &[h as isize, 1], d * b * h).contiguous();
                close(&part(&got[1 + k]), &part(s), &format!("{what}, state {k}"));
            }
        }
    }
}

#[test]
fn a_loop_is_its_steps() {
    for kind in ["LSTM", "GRU", "RNN"] {
        for direction in ["forward", "reverse", "bidirectional"] {
            Layer::new(kind, direction).check(7);
            // A sequence that never starts, one that ends before the last step, one that goes on.
            Layer { lens: Some(vec![0, 4, 7]), batch: 3, ..Layer::new(kind, direction) }.check(7);
        }
        Layer { batch_first: true, batch: 1, hidden: 1, ..Layer::new(kind, "bidirectional") }.check(5);
    }
}

#[test]
fn every_form_of_a_cell_is_one_in_a_loop() {
    let base = Layer::new("LSTM", "forward");
    Layer { peephole: true, attrs: vec![float_attr("clip", 0.3)], ..base.clone() }.check(6);
    Layer { attrs: vec![int_attr("input_forget", 1), strs_attr("activations", &["HardSigmoid", "Relu", "ScaledTanh"])], ..base }.check(6);
    let gru = Layer::new("GRU", "reverse");
    Layer { attrs: vec![int_attr("linear_before_reset", 1), float_attr("clip", 0.5)], ..gru.clone() }.check(6);
    Layer { attrs: vec![strs_attr("activations", &["Elu", "Softsign", "Softplus", "LeakyRelu"])], direction: "bidirectional", ..gru }
        .check(6);
    Layer { attrs: vec![strs_attr("activations", &["Affine"])], ..Layer::new("RNN", "forward") }.check(6);
}

#[test]
fn a_model_does_not_grow_with_its_steps() {
    let layer = Layer { lens: Some(vec![3, 9]), ..Layer::new("LSTM", "bidirectional") };
    let sizes: Vec<usize> = [8, 600, 9000].iter().map(|&t| nodes(&import(&layer.model(t)))).collect();
    assert_eq!(sizes[0], sizes[1]);
    assert_eq!(sizes[1], sizes[2]);
}

#[test]
fn no_steps_give_the_start() {
    let layer = Layer::new("LSTM", "bidirectional");
    let (x, start) = layer.inputs(0);
    let y = layer.run(&import(&layer.model(0)), &x, &start, &[]);
    assert_eq!((y[0].shape(), &y[1], &y[2]), (&[0, 2, 2, 5][..], &start[0], &start[1]));
}

/// `s ← s + a_t·b_t`, with `k` from outside; keeps `s + k` and `a_t - s`.
fn scan_model(steps: i64, version: i64) -> ModelProto {
    let nodes = vec![
        node("Mul", &["a", "b"], &["p"]),
        node("Add", &["s", "p"], &["s2"]),
        node("Add", &["s2", "k"], &["u"]),
        node("Sub", &["a", "s"], &["v"]),
        node("Identity", &["n"], &["n2"]),
    ];
    let body = graph(nodes, &[("s", &[2]), ("n", &[]), ("a", &[2]), ("b", &[2])], &["s2", "n2", "u", "v"]);
    let mut n = node("Scan", &["s0", "n0", "x", "z"], &["last", "same", "us", "vs"]);
    n.attribute = vec![graph_attr("body", body), int_attr("num_scan_inputs", 2)];
    if version > 8 {
        n.attribute.extend([ints_attr("scan_input_axes", &[0, -1]), ints_attr("scan_input_directions", &[0, 1])]);
        n.attribute.extend([ints_attr("scan_output_axes", &[1, 0]), ints_attr("scan_output_directions", &[1, 0])]);
    } else {
        n.input.insert(0, String::new());
        n.attribute.push(ints_attr("directions", &[0, 1]));
    }
    let t = steps;
    let batched: Vec<(&str, Vec<i64>)> = match version {
        8 => vec![("s0", vec![6, 2]), ("n0", vec![6]), ("x", vec![6, t, 2]), ("z", vec![6, t, 2])],
        _ => vec![("s0", vec![2]), ("n0", vec![]), ("x", vec![t, 2]), ("z", vec![2, t])],
    };
    let inputs: Vec<(&str, &[i64])> = batched.iter().map(|(n, d)| (*n, &d[..])).collect();
    let mut m = model(with_init(graph(vec![n], &inputs, &["last", "same", "us", "vs"]), vec![floats("k", &[2], vec![10., 20.])]));
    m.opset_import[0].version = Some(version);
    m
}

/// What it gives for one sequence: the state, and both kept rows in the order of the steps.
fn scanned(s0: [f32; 2], x: &[[f32; 2]], z: &[[f32; 2]]) -> ([f32; 2], Vec<[f32; 2]>, Vec<[f32; 2]>) {
    let (mut s, mut us, mut vs) = (s0, vec![], vec![]);
    for (a, b) in x.iter().zip(z.iter().rev()) {
        let next = [s[0] + a[0] * b[0], s[1] + a[1] * b[1]];
        us.push([next[0] + 10., next[1] + 20.]);
        vs.push([a[0] - s[0], a[1] - s[1]]);
        s = next;
    }
    (s, us, vs)
}

fn pairs(seed: u64, n: usize) -> Vec<[f32; 2]> {
    drawn(seed, 2 * n).chunks(2).map(|c| [c[0], c[1]]).collect()
}

#[test]
fn scans_have_axes_and_directions() {
    for steps in [1, 4, 5, 9] {
        let m = import(&scan_model(steps as i64, 19));
        assert_eq!(count(&m, "scan"), usize::from(steps > 4), "{steps} steps");
        let (x, z) = (pairs(1, steps), pairs(2, steps));
        let turned: Vec<f32> = (0..2).flat_map(|i| z.iter().map(move |p| p[i])).collect();
        let given = [
            Tensor::f32(&[2], vec![0.5, -0.5]),
            Tensor::f32(&[], vec![4.0]),
            Tensor::f32(&[steps, 2], x.concat()),
            Tensor::f32(&[2, steps], turned),
        ];
        let y = run(&m, &given);
        let (s, us, vs) = scanned([0.5, -0.5], &x, &z);
        close(&y[0], &Tensor::f32(&[2], s.to_vec()), "state");
        assert_eq!(y[1], Tensor::f32(&[], vec![4.0]));
        let across: Vec<f32> = (0..2).flat_map(|i| us.iter().rev().map(move |p| p[i])).collect();
        close(&y[2], &Tensor::f32(&[2, steps], across), "kept, steps last and backwards");
        close(&y[3], &Tensor::f32(&[steps, 2], vs.concat()), "kept");
    }
}

#[test]
fn a_batch_of_scans_is_a_loop_of_loops() {
    let steps = 7;
    let m = import(&scan_model(steps as i64, 8));
    assert_eq!(count(&m, "scan"), 2);
    let all: Vec<_> = (0..6).map(|b| (pairs(b, steps), pairs(100 + b, steps), [b as f32, 1.0])).collect();
    let flat = |f: &dyn Fn(usize) -> Vec<f32>| (0..6).flat_map(f).collect::<Vec<f32>>();
    let given = [
        Tensor::f32(&[6, 2], flat(&|b| all[b].2.to_vec())),
        Tensor::f32(&[6], vec![1., 2., 3., 4., 5., 6.]),
        Tensor::f32(&[6, steps, 2], flat(&|b| all[b].0.concat())),
        Tensor::f32(&[6, steps, 2], flat(&|b| all[b].1.concat())),
    ];
    let y = run(&m, &given);
    let want: Vec<_> = all.iter().map(|(x, z, s)| scanned(*s, x, z)).collect();
    close(&y[0], &Tensor::f32(&[6, 2], flat(&|b| want[b].0.to_vec())), "states");
    assert_eq!(y[1], given[1]);
    close(&y[2], &Tensor::f32(&[6, steps, 2], flat(&|b| want[b].1.concat())), "kept");
    close(&y[3], &Tensor::f32(&[6, steps, 2], flat(&|b| want[b].2.concat())), "kept");
}

/// A loop of `trips` runs over `s: f32[2]`; `body` makes its nodes and what it keeps.
fn loop_model(trips: i64, nodes: Vec<NodeProto>, kept: &[&str], go: &str, state: &[i64]) -> ModelProto {
    let mut body = graph(nodes, &[], &[&[go, "s2"], kept].concat());
    body.input = vec![typed("i", 7, &[]), typed("go", 9, &[]), typed("s", 1, state)];
    let outputs: Vec<String> = (0..=kept.len()).map(|i| format!("y{i}")).collect();
    let names: Vec<&str> = outputs.iter().map(String::as_str).collect();
    let mut n = node("Loop", &["trips", "yes", "s0"], &names);
    n.attribute.push(graph_attr("body", body));
    let mut yes = i64s("yes", &[], &[1]);
    (yes.data_type, yes.int64_data, yes.int32_data) = (Some(9), vec![], vec![1]);
    let g = graph(vec![n], &[("s0", &[2]), ("x", &[8, 2])], &names);
    model(with_init(g, vec![i64s("trips", &[], &[trips]), yes]))
}

#[test]
fn a_counted_loop_knows_its_run_and_what_is_outside() {
    // s ← s·½ + x[i] + i, with x from outside; keeps s.
    let mut nodes = vec![
        node("Gather", &["x", "i"], &["row"]),
        node("Cast", &["i"], &["f"]),
        node("Add", &["row", "f"], &["more"]),
        node("Add", &["s", "s"], &["twice"]),
        node("Sub", &["more", "twice"], &["s2"]),
        node("Identity", &["go"], &["on"]),
    ];
    nodes[1].attribute.push(int_attr("to", 1));
    let x = pairs(3, 8);
    for (trips, scans) in [(0, 0), (1, 0), (4, 0), (5, 1), (8, 1)] {
        let m = import(&loop_model(trips, nodes.clone(), &["s2"], "on", &[2]));
        assert_eq!((count(&m, "scan"), count(&m, "loop")), (scans, 0), "{trips} runs");
        let y = run(&m, &[Tensor::f32(&[2], vec![1.0, -1.0]), Tensor::f32(&[8, 2], x.concat())]);
        let (mut s, mut all) = ([1.0, -1.0], vec![]);
        for (i, row) in x.iter().enumerate().take(trips as usize) {
            s = [row[0] + i as f32 - 2.0 * s[0], row[1] + i as f32 - 2.0 * s[1]];
            all.push(s);
        }
        close(&y[0], &Tensor::f32(&[2], s.to_vec()), "state");
        if trips > 0 {
            close(&y[1], &Tensor::f32(&[trips as usize, 2], all.concat()), "kept");
        }
    }
}

#[test]
fn what_no_loop_can_repeat_is_unrolled() {
    let twice = |n: &str, o: &str| {
        let mut c = node("Concat", &[n, n], &[o]);
        c.attribute.push(int_attr("axis", 0));
        c
    };
    // State that grows; a slice whose length is the number of the run; a draw of random numbers, another in each run.
    let grows = loop_model(5, vec![twice("s", "s2")], &[], "go", &[-1]);
    let slice = vec![
        node("Unsqueeze", &["i", "zero"], &["to"]),
        node("Slice", &["x", "zero", "to"], &["cut"]),
        {
            let mut r = node("ReduceSum", &["cut", "zero"], &["sum"]);
            r.attribute.push(int_attr("keepdims", 0));
            r
        },
        node("Add", &["s", "sum"], &["s2"]),
    ];
    let mut shrinks = loop_model(6, slice, &[], "go", &[2]);
    shrinks.graph.as_mut().unwrap().initializer.push(i64s("zero", &[1], &[0]));
    let mut draw = node("RandomNormal", &[], &["r"]);
    draw.attribute.push(ints_attr("shape", &[2]));
    let random = loop_model(5, vec![draw, node("Add", &["s", "r"], &["s2"])], &["r"], "go", &[2]);
    let given = [Tensor::f32(&[2], vec![1.0, 2.0]), Tensor::f32(&[8, 2], pairs(1, 8).concat())];
    for (name, m) in [("grows", &grows), ("shrinks", &shrinks), ("random", &random)] {
        let m = import(m);
        assert_eq!((count(&m, "scan"), count(&m, "loop")), (0, 0), "{name}");
        let y = run(&m, &given);
        match name {
            "grows" => assert_eq!(y[0].shape(), [64]),
            "shrinks" => {
                let x = pairs(1, 8);
                let sum = |k: usize| (0..6).map(|i| x[..i].iter().map(|p| p[k]).sum::<f32>()).sum::<f32>();
                close(&y[0], &Tensor::f32(&[2], vec![1.0 + sum(0), 2.0 + sum(1)]), name);
            }
            _ => {
                let r = y[1].to_f64s();
                assert!((0..4).all(|i| r[2 * i] != r[2 * i + 2]), "{r:?}");
            }
        }
    }
    // A body that ends its loop is no counted one.
    let nodes = vec![node("ReduceSum", &["s"], &["sum"]), node("Less", &["sum", "most"], &["on"]), node("Add", &["s", "s"], &["s2"])];
    let mut ends = loop_model(50, nodes, &[], "on", &[2]);
    ends.graph.as_mut().unwrap().initializer.push(floats("most", &[1, 1], vec![20.]));
    let body = ends.graph.as_mut().unwrap().node[0].attribute[0].g.as_mut().unwrap();
    body.node[0].attribute.push(int_attr("keepdims", 1));
    let m = import(&ends);
    assert_eq!((count(&m, "scan"), count(&m, "loop")), (0, 1));
    assert_eq!(run(&m, &given)[0], Tensor::f32(&[2], vec![16.0, 32.0]));
}
