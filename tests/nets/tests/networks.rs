//! Every network builds at both sizes, has the published number of parameters, and at reduced size computes finite numbers.

use std::collections::BTreeSet;
use tahoma_core::eval::{Weights, run};
use tahoma_core::{Diagnostic, Origin, Program, Tensor, TensorType};
use tahoma_nets::{NETWORKS, Size, encoder_layers, find, tensor, weights};

struct Drawn(std::collections::BTreeMap<String, TensorType>);

impl Weights for Drawn {
    fn get(&self, name: &str) -> Result<Tensor, Diagnostic> {
        Ok(tensor(name, &self.0[name], 1))
    }
}

fn evaluate(p: &Program) -> Vec<Tensor> {
    let main = p.main();
    let inputs: Vec<Tensor> = main.inputs.iter().map(|i| tensor(&i.name, main.ty(i.value), 1)).collect();
    run(p, Program::MAIN, &inputs, &Drawn(weights(p).into_iter().collect())).unwrap_or_else(|e| panic!("{e}"))
}

/// Elements of the trained tensors; running means and variances are not trained.
fn parameters(p: &Program) -> u64 {
    let trained = |name: &str| !name.ends_with(".mean") && !name.ends_with(".var");
    weights(p).iter().filter(|w| trained(&w.0)).map(|w| w.1.shape.elements().unwrap()).sum()
}

/// Attention with biases and sinks, two norms, the router, and the experts.
fn gpt_oss_parameters() -> f64 {
    let (hidden, query, key, heads, experts, wide) = (2880, 4096, 512, 64, 32, 2880);
    let attention = (hidden + 1) * (query + 2 * key) + (query + 1) * hidden + heads;
    let expert = (hidden + 1) * 2 * wide + (wide + 1) * hidden;
    (attention + 2 * hidden + (hidden + 1) * experts + experts * expert) as f64
}

#[test]
fn real_networks_have_the_published_parameters() {
    let published = [
        ("bert-base", 109.48e6),
        ("bert-large", 335.14e6),
        ("resnet50", 25.557e6),
        ("resnext50", 25.029e6),
        ("vgg19", 143.667e6),
        ("squeezenet", 1.2355e6),
        ("inception-v3", 23.835e6),
        ("vit-b16", 86.568e6),
        ("nasrnn", (5 * 16 * 512 * 512 + 512) as f64),
        ("llama3-8b-prefill", 218.11e6),
        ("llama3-8b-decode", 218.11e6),
        ("gpt-oss-20b-prefill", gpt_oss_parameters()),
        ("gpt-oss-20b-decode", gpt_oss_parameters()),
    ];
    for n in NETWORKS {
        let p = (n.build)(Size::Real);
        let count = parameters(&p) as f64;
        println!("{:20} {:5} nodes {:9.3} M parameters", n.name, p.main().nodes.len(), count / 1e6);
        let Some((_, want)) = published.iter().find(|w| w.0 == n.name) else {
            assert_eq!(n.name, "nasnet-a", "no published count of parameters");
            continue;
        };
        assert!((count / want - 1.0).abs() < 1e-3, "{}: {count} parameters, {want} published", n.name);
    }
}

/// Multiply-adds of convolutions and matrix products.
fn multiply_adds(p: &Program) -> u64 {
    let main = p.main();
    let dims = |v| main.ty(v).shape.to_static().unwrap();
    let count = |n: &tahoma_core::Node| {
        let per_result: usize = match n.op.name {
            "conv" => dims(n.operands[1])[1..].iter().product(),
            "matmul" => *dims(n.operands[0]).last().unwrap(),
            _ => 0,
        };
        per_result as u64 * main.ty(n.results[0]).shape.elements().unwrap()
    };
    main.nodes.iter().map(count).sum()
}

#[test]
fn classifiers_do_the_published_work() {
    let published = [
        ("resnet50", 4.09e9),
        ("resnext50", 4.23e9),
        ("vgg19", 19.63e9),
        ("squeezenet", 0.349e9),
        ("inception-v3", 5.71e9),
        ("vit-b16", 17.56e9),
    ];
    for (name, want) in published {
        let count = multiply_adds(&(find(name).unwrap().build)(Size::Real)) as f64;
        println!("{name:20} {:6.3} G multiply-adds", count / 1e9);
        assert!((count / want - 1.0).abs() < 0.01, "{name}: {count} multiply-adds, {want} published");
    }
}

/// The elements from `start` to `end` of one axis.
fn part(t: &Tensor, axis: usize, start: usize, end: usize) -> Tensor {
    let (mut shape, mut offset) = (t.shape().to_vec(), t.offset());
    shape[axis] = end - start;
    offset += start * t.strides()[axis] as usize;
    t.view(&shape, t.strides(), offset)
}

/// The last token of a prompt, decoded after the others, comes out as it does with them.
#[test]
fn decoding_continues_a_prompt() {
    for name in ["llama3-8b", "gpt-oss-20b"] {
        let [prefill, decode] = ["prefill", "decode"].map(|s| (find(&format!("{name}-{s}")).unwrap().build)(Size::Reduced));
        let main = prefill.main();
        let inputs: Vec<Tensor> = main.inputs.iter().map(|i| tensor(&i.name, main.ty(i.value), 1)).collect();
        let store = Drawn(weights(&prefill).into_iter().collect());
        let all = run(&prefill, Program::MAIN, &inputs, &store).unwrap();
        let last = inputs[0].shape()[1] - 1;
        let step = [
            part(&inputs[0], 1, last, last + 1),
            part(&inputs[1], 0, last, last + 1),
            part(&inputs[2], 0, last, last + 1),
            part(&inputs[3], 2, last, last + 1),
            part(&all[1], 2, 0, last),
            part(&all[2], 2, 0, last),
        ];
        for (i, t) in decode.main().inputs.iter().zip(&step) {
            assert_eq!(decode.main().ty(i.value), &t.ty(), "{name}: {}", i.name);
        }
        let one = run(&decode, Program::MAIN, &step, &store).unwrap();
        assert_eq!(weights(&prefill), weights(&decode));
        assert_eq!(one[1].to_f64s(), all[1].to_f64s(), "{name}: keys");
        assert_eq!(one[2].to_f64s(), all[2].to_f64s(), "{name}: values");
        assert_eq!(one[0].to_f64s(), part(&all[0], 1, last, last + 1).to_f64s(), "{name}: hidden states");
    }
}

#[test]
fn reduced_networks_compute_finite_numbers() {
    for n in NETWORKS {
        let p = (n.build)(Size::Reduced);
        let start = std::time::Instant::now();
        let out = evaluate(&p);
        let all: Vec<f64> = out.iter().flat_map(Tensor::to_f64s).collect();
        assert!(all.iter().all(|x| x.is_finite()), "{}", n.name);
        let most = all.iter().fold(0f64, |m, x| m.max(x.abs()));
        println!("{:20} {:5} nodes {:6.1} ms, largest {most:.3}", n.name, p.main().nodes.len(), start.elapsed().as_secs_f64() * 1e3);
        assert_eq!(out.len(), p.main().outputs.len());
        // Not all masked away, dead or blown up either.
        assert!(most > 1e-3 && most < 1e3, "{}: largest output {most}", n.name);
        assert!(out[0].to_f64s().iter().any(|x| *x != out[0].to_f64s()[0]), "{}: one number everywhere", n.name);
    }
}

#[test]
fn both_sizes_have_the_same_kinds_of_nodes() {
    for n in NETWORKS {
        let ops = |s| (n.build)(s).main().nodes.iter().map(|n| n.op.name).collect::<BTreeSet<_>>();
        assert_eq!(ops(Size::Real), ops(Size::Reduced), "{}", n.name);
    }
}

#[test]
fn names_are_unique_and_builds_are_equal() {
    assert_eq!(NETWORKS.iter().map(|n| n.name).collect::<BTreeSet<_>>().len(), NETWORKS.len());
    assert_eq!(find("resnet50").unwrap().name, "resnet50");
    assert!(find("resnet51").is_none());
    for n in NETWORKS {
        for size in [Size::Real, Size::Reduced] {
            let p = (n.build)(size);
            assert!(p == (n.build)(size), "{}: two builds differ", n.name);
            let main = p.main();
            assert!(main.outputs.iter().all(|o| main.ty(o.value).dtype == n.dtype), "{}", n.name);
            let all = weights(&p);
            assert_eq!(all.iter().map(|w| &w.0).collect::<BTreeSet<_>>().len(), all.len(), "{}: weights share names", n.name);
            let mut names = BTreeSet::new();
            for node in &main.nodes {
                match &*node.origin {
                    Origin::Node { model, name, .. } => assert!(**model == *n.name && names.insert(name.clone()), "{}: {name}", n.name),
                    Origin::Tensor { model, .. } => assert!(**model == *n.name && node.op.name == "weight"),
                    o => panic!("{}: {} comes from {o}", n.name, node.op.name),
                }
            }
        }
    }
}

#[test]
fn encoder_layers_repeat() {
    let nodes = |n| encoder_layers(n, Size::Real).main().nodes.len();
    assert_eq!(nodes(4) - nodes(3), nodes(3) - nodes(2));
    assert!(evaluate(&encoder_layers(3, Size::Reduced))[0].to_f64s().iter().all(|x| x.is_finite()));
}

#[test]
fn data_depends_on_name_and_seed_alone() {
    let ty = TensorType::known(tahoma_core::DType::F32, &[4, 3]);
    assert_eq!(tensor("a.weight", &ty, 1).to_f64s(), tensor("a.weight", &ty, 1).to_f64s());
    assert_ne!(tensor("a.weight", &ty, 1).to_f64s(), tensor("b.weight", &ty, 1).to_f64s());
    assert_ne!(tensor("a.weight", &ty, 1).to_f64s(), tensor("a.weight", &ty, 2).to_f64s());
    assert!(tensor("n.var", &ty, 1).to_f64s().iter().all(|x| (0.5..1.5).contains(x)));
    assert_eq!(tensor("causal_mask", &TensorType::known(tahoma_core::DType::F32, &[1, 1, 2, 3]), 1).to_f64s(), [0., 0., -1e4, 0., 0., 0.]);
}
