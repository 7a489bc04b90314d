//! Damaged files: bytes of good models are changed at random (a fixed seed) and imported; nothing may panic or run long.

#[path = "models/hostile.rs"]
mod hostile;
mod models;

use models::*;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use tahoma_core::random::Random;
use tahoma_frontend::proto::*;
use tahoma_frontend::safetensors;

struct Damage(Random);

impl Damage {
    fn below(&mut self, n: usize) -> usize {
        self.0.below(n)
    }
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..1 + self.below(4) {
            let at = self.below(bytes.len());
            match self.below(5) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
                2 => bytes.truncate(at.max(1)),
                3 => bytes.insert(at, self.below(256) as u8),
                _ => {
                    let value = self.below(256) as u8;
                    let to = (at + self.below(9)).min(bytes.len());
                    bytes[at..to].fill(value);
                }
            }
        }
    }
}

fn models() -> Vec<ModelProto> {
    let mut pool = node("MaxPool", &["c"], &["p"]);
    pool.attribute = vec![ints_attr("kernel_shape", &[2, 2]), ints_attr("strides", &[2, 2]), int_attr("ceil_mode", 1)];
    let mut conv = node("Conv", &["x", "w"], &["c"]);
    conv.attribute = vec![ints_attr("pads", &[1, 1, 1, 1])];
    let nodes = vec![conv, pool, node("Reshape", &["p", "s"], &["r"]), node("Softmax", &["r"], &["y"])];
    let init = vec![floats("w", &[2, 1, 3, 3], vec![0.1; 18]), i64s("s", &[2], &[1, -1])];
    let a = model(with_init(graph(nodes, &[("x", &[1, 1, 5, 5])], &["y"]), init));
    let mut slice = node("Slice", &["x", "b", "e", "a", "t"], &["q"]);
    slice.name = Some("cut".into());
    let mut resize = node("Resize", &["q", "", "f"], &["z"]);
    resize.attribute = vec![int_attr("antialias", 1)];
    let init = vec![
        i64s("b", &[1], &[1]),
        i64s("e", &[1], &[9]),
        i64s("a", &[1], &[-1]),
        i64s("t", &[1], &[2]),
        floats("f", &[2], vec![2.0, 1.5]),
    ];
    let b = model(with_init(graph(vec![slice, resize, node("TopK", &["z", "k"], &["v", "i"])], &[("x", &[4, 6])], &["v", "i"]), init));
    let body = graph(vec![node("Neg", &["x"], &["o"])], &[], &["o"]);
    let mut branch = node("If", &["c"], &["y"]);
    branch.attribute = vec![graph_attr("then_branch", body.clone()), graph_attr("else_branch", body)];
    let mut c = model(with_init(graph(vec![branch], &[("x", &[3])], &["y"]), vec![]));
    let cond = TensorProto { name: Some("c".into()), data_type: Some(9), int32_data: vec![1], ..Default::default() };
    c.graph.get_or_insert_default().initializer.push(cond);
    vec![a, b, c]
}

/// More models from a folder, for longer runs: `TAHOMA_DAMAGE=DIR cargo test --test damaged`.
fn found(dir: &std::path::Path, out: &mut Vec<Vec<u8>>) {
    for e in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let p = e.path();
        if p.is_dir() {
            found(&p, out);
        } else if p.extension().is_some_and(|x| x == "onnx") {
            out.extend(std::fs::read(&p).ok().filter(|b| b.len() < 5_000));
        }
    }
}

#[test]
fn damaged_models_are_refused_or_imported_without_a_panic() {
    let seed = std::env::var("TAHOMA_DAMAGE_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let mut random = Damage(Random::new(seed));
    let mut all: Vec<(Vec<u8>, usize)> = models().iter().map(|m| (bytes(m).to_vec(), 4000)).collect();
    if let Some(dir) = std::env::var_os("TAHOMA_DAMAGE") {
        let mut more = Vec::new();
        found(dir.as_ref(), &mut more);
        assert!(!more.is_empty(), "TAHOMA_DAMAGE holds no small .onnx file");
        eprintln!("{} models", more.len());
        all.extend(more.into_iter().map(|b| (b, 1000)));
    }
    // Each place that panics once, with its message.
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let note = seen.clone();
    std::panic::set_hook(Box::new(move |p| {
        let text = p.payload().downcast_ref::<String>().cloned().unwrap_or_default();
        note.lock().unwrap().insert(format!(
            "{}: {}",
            p.location().map(|l| l.to_string()).unwrap_or_default(),
            text.chars().take(60).collect::<String>()
        ));
    }));
    for (good, times) in all {
        for _ in 0..times {
            let mut bad = good.to_vec();
            random.damage(&mut bad);
            let _ = catch_unwind(AssertUnwindSafe(|| hostile::read_and_run(bad)));
        }
    }
    let _ = std::panic::take_hook();
    let seen = seen.lock().unwrap();
    assert!(seen.is_empty(), "{} kinds of panic:\n{}", seen.len(), seen.iter().cloned().collect::<Vec<_>>().join("\n"));
}

/// Every input that fuzzing found to reach something new, small enough to keep (`cargo xtask fuzz`).
#[test]
fn the_corpus_of_the_fuzz_target_is_read_without_a_panic() {
    let text = include_str!("../fuzz/corpus.hex");
    let digit = |c: u8| (c as char).to_digit(16).unwrap() as u8;
    let inputs: Vec<Vec<u8>> =
        text.lines().map(|l| l.as_bytes().as_chunks::<2>().0.iter().map(|[a, b]| digit(*a) << 4 | digit(*b)).collect()).collect();
    assert!(inputs.len() > 100);
    inputs.into_iter().for_each(hostile::read_and_run);
}

#[test]
fn damaged_checkpoints_are_refused_or_read_without_a_panic() {
    let mut random = Damage(Random::new(2));
    let good = tiny_bert(&[]).1;
    for _ in 0..4000 {
        let mut bad = good[..1500].to_vec();
        random.damage(&mut bad);
        bad.extend_from_slice(&good[1500..]);
        if let Ok(entries) = safetensors::entries("f", &bad) {
            assert!(entries.iter().all(|e| e.offset + e.len <= bad.len()));
        }
    }
}
