//! Hugging Face directories: `config.json` chooses an architecture and its sizes, safetensors hold the weights, and a builder of ours
//! makes the program from shared blocks. No code of the directory's is ever run.

pub(crate) mod bert;
pub(crate) mod blocks;
pub(crate) mod checkpoint;
pub(crate) mod config;

use crate::{Imported, file};
use blocks::Net;
use checkpoint::Checkpoint;
use config::Config;
use std::path::Path;
use tahoma_core::{Diagnostic, Diagnostics, OpError, Program};

/// The extents a checkpoint is compiled for.
#[derive(Clone, Debug)]
pub struct HfOptions {
    pub batch: usize,
    /// Tokens of each sequence, padding included.
    pub sequence: usize,
    /// Give the model an input `token_type_ids`; otherwise all are 0.
    pub token_types: bool,
}

impl Default for HfOptions {
    fn default() -> HfOptions {
        HfOptions { batch: 1, sequence: 128, token_types: false }
    }
}

/// One architecture that can be built.
struct Architecture {
    /// `model_type` in config.json.
    model_type: &'static str,
    /// Keys that do not change what inference computes.
    ignorable: &'static [&'static str],
    build: fn(&mut Net, &mut Config, &HfOptions) -> Result<(), OpError>,
}

static ARCHITECTURES: &[Architecture] = &[Architecture { model_type: "bert", ignorable: bert::IGNORABLE, build: bert::build }];

/// Keys of every config that say nothing about inference: provenance, training, generation, label names.
static IGNORABLE: &[&str] = &[
    "_name_or_path",
    "architectures",
    "bos_token_id",
    "dtype",
    "eos_token_id",
    "gradient_checkpointing",
    "id2label",
    "initializer_range",
    "label2id",
    "pad_token_id",
    "torch_dtype",
    "transformers_version",
    "use_cache",
];

/// Imports a model directory.
pub fn import_hf(dir: &Path, options: &HfOptions) -> Result<Imported, Diagnostics> {
    let name = dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_else(|| "model".into());
    let config = file::read(&dir.join("config.json"))
        .map_err(|d| d.note("a Hugging Face model is a directory with config.json and model.safetensors"))?;
    let mut config = Config::parse(&config)?;
    if config.has("auto_map") {
        let d =
            Diagnostic::error("E0211", "config.json has auto_map: the model is defined by Python code of its own, which Tahoma never runs");
        return Err(d.note("supported architectures are listed by model_type").into());
    }
    let model_type = config.text("model_type")?;
    let Some(arch) = ARCHITECTURES.iter().find(|a| a.model_type == model_type) else {
        let all: Vec<&str> = ARCHITECTURES.iter().map(|a| a.model_type).collect();
        let d =
            Diagnostic::error("E0211", format!("no builder for model_type {model_type:?}")).note(format!("supported: {}", all.join(", ")));
        return Err(d.note("exporting the model to ONNX is another way in: torch.onnx.export, or optimum-cli export onnx").into());
    };
    if options.batch == 0 || options.sequence == 0 {
        return Err(Diagnostic::error("E0207", "batch and sequence must be at least 1").into());
    }
    let mut net = Net::new(&name, Checkpoint::open(dir)?);
    net.sentence_embedder = dir.join("modules.json").is_file();
    let built = (arch.build)(&mut net, &mut config, options);
    let mut faults = Diagnostics::default();
    faults.0.append(&mut config.faults(arch.ignorable, IGNORABLE));
    faults.0.append(&mut net.faults);
    if let (Err(e), true) = (built, faults.0.is_empty()) {
        faults.push(net.diagnose(e));
    }
    if faults.0.is_empty() {
        faults.0.append(&mut net.checkpoint.unused());
    }
    faults.into_result(())?;
    let program = Program::new(net.builder.finish());
    Ok(Imported { program, store: net.checkpoint.store, model_name: name, vocabulary: Default::default(), warnings: vec![] })
}
