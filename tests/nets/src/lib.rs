//! Benchmark networks as programs: the models that fusion by equality saturation is measured on, with weights by name only.
//!
//! Each is built at its real size, to be optimised, and at a reduced size with the same structure, to be evaluated.

mod bert;
mod conv;
mod data;
mod gpt_oss;
pub mod growth;
mod inception;
mod llama;
mod nasnet;
mod nasrnn;
mod ops;
pub mod random;
mod vit;

pub use bert::encoder_layers;
pub use data::tensor;
use tahoma_core::{DType, Program, TensorType};

/// At what size a network is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// As published.
    Real,
    /// The same structure with few channels, small images, short sequences and one or two layers of a kind: the reference
    /// evaluator runs it in well under a second.
    Reduced,
}

impl Size {
    /// The first at real size, the second reduced.
    pub(crate) fn pick<T>(self, real: T, reduced: T) -> T {
        match self {
            Size::Real => real,
            Size::Reduced => reduced,
        }
    }
}

/// A network of the table.
#[derive(Debug)]
pub struct Network {
    pub name: &'static str,
    /// The paper or model configuration it follows, with figures.
    pub doc: &'static str,
    /// Type of its activations.
    pub dtype: DType,
    pub build: fn(Size) -> Program,
}

macro_rules! networks { ($($name:literal $dtype:ident $build:expr, $doc:literal;)*) => {
    /// Every network.
    pub static NETWORKS: &[Network] = &[$(Network { name: $name, doc: $doc, dtype: DType::$dtype, build: $build }),*];
} }

networks! {
    "bert-base" F32 |s| bert::bert(s, false),
        "Devlin et al. 2018 (arXiv:1810.04805): 12 layers, hidden 768, 12 heads, 110 M parameters; 128 tokens, written out as exported to ONNX";
    "bert-large" F32 |s| bert::bert(s, true),
        "Devlin et al. 2018 (arXiv:1810.04805): 24 layers, hidden 1024, 16 heads, 335 M parameters; 128 tokens, written out as exported to ONNX";
    "resnet50" F32 conv::resnet50,
        "He et al. 2015 (arXiv:1512.03385), stride in the 3×3 convolution: 25.6 M parameters, 4.1 G multiply-adds; 224×224";
    "resnext50" F32 conv::resnext50,
        "Xie et al. 2016 (arXiv:1611.05431), 32×4d: 25.0 M parameters, 4.2 G multiply-adds; 224×224";
    "vgg19" F32 conv::vgg19,
        "Simonyan and Zisserman 2014 (arXiv:1409.1556), configuration E: 143.7 M parameters, 19.6 G multiply-adds; 224×224";
    "squeezenet" F32 conv::squeezenet,
        "Iandola et al. 2016 (arXiv:1602.07360), release 1.1: 1.24 M parameters, 0.35 G multiply-adds; 224×224";
    "inception-v3" F32 inception::inception_v3,
        "Szegedy et al. 2015 (arXiv:1512.00567), without the auxiliary head: 23.8 M parameters, 5.7 G multiply-adds; 299×299";
    "nasnet-a" F32 nasnet::nasnet_a,
        "Zoph et al. 2017 (arXiv:1707.07012), the simplified form of the TASO and TENSAT benchmarks: 3 stacks of 5 normal cells from 128 channels; 224×224";
    "nasrnn" F32 nasrnn::nasrnn,
        "Zoph and Le 2016 (arXiv:1611.01578), as the TASO and TENSAT benchmarks unroll it: hidden 512, 5 steps";
    "vit-b16" F32 vit::vit_b16,
        "Dosovitskiy et al. 2020 (arXiv:2010.11929): 12 layers, hidden 768, 12 heads, 86.6 M parameters; 224×224, patches of 16×16";
    "llama3-8b-prefill" BF16 |s| llama::block(s, false),
        "Llama 3 8B (arXiv:2407.21783), one decoder block of 218 M parameters: hidden 4096, 32 query and 8 key-value heads of 128; 512 tokens, none past";
    "llama3-8b-decode" BF16 |s| llama::block(s, true),
        "Llama 3 8B (arXiv:2407.21783), one decoder block of 218 M parameters: hidden 4096, 32 query and 8 key-value heads of 128; 1 token after 2047";
    "gpt-oss-20b-prefill" BF16 |s| gpt_oss::block(s, false),
        "gpt-oss-20b (arXiv:2508.10925), one block: hidden 2880, 64 query and 8 key-value heads of 64, sinks, 4 of 32 experts; 128 tokens, none past";
    "gpt-oss-20b-decode" BF16 |s| gpt_oss::block(s, true),
        "gpt-oss-20b (arXiv:2508.10925), one block: hidden 2880, 64 query and 8 key-value heads of 64, sinks, 4 of 32 experts; 1 token after 2047";
}

/// The network of that name.
pub fn find(name: &str) -> Option<&'static Network> {
    NETWORKS.iter().find(|n| n.name == name)
}

/// Weights of a program, by name and type, in order.
pub fn weights(p: &Program) -> Vec<(String, TensorType)> {
    let main = p.main();
    let weights = main.nodes.iter().filter(|n| n.op.name == "weight");
    weights.map(|n| (n.attrs.str("name").unwrap_or_default().to_string(), main.ty(n.results[0]).clone())).collect()
}
