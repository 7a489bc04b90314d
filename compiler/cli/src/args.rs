//! The command line as types. Help texts are the manual, so each command has an example.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

#[derive(Parser)]
#[command(
    name = "tahoma",
    version,
    about = "Compiles ONNX models and safetensors checkpoints to Trainium2 (NKI) and Nvidia PTX, and proves the result without either.",
    max_term_width = 120,
    after_help = "Exit codes: 0 done; 1 a problem, printed as error[Ennnn], or output that could not be written; 2 wrong usage; 3 results differ (verify, conformance, explain --check-proof);\n\
                  4 nothing can be concluded (verify: outputs that are constant, all 0 or NaN, noise, or made by no kernel).\n\
                  With --json a problem is JSON too: {\"errors\": [{\"code\", \"severity\", \"message\", \"origin\", \"labels\", \"notes\"}]}.\n\
                  `tahoma explain E0203` says more about a code. TAHOMA_LOG=info prints what happens inside; NO_COLOR=1 keeps colour off."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    Compile(Compile),
    Run(Run),
    Verify(Verify),
    Info(Info),
    Conformance(Conformance),
    Opt(Opt),
    Explain(Explain),
    Completions(Completions),
    Man(Man),
}

/// Where a command's JSON goes.
pub(crate) enum Json {
    None,
    Output,
    File(PathBuf),
}

impl Command {
    pub(crate) fn json(&self) -> Json {
        let asked = match self {
            Command::Compile(a) => a.json,
            Command::Run(a) => a.json,
            Command::Verify(a) => a.json,
            Command::Info(a) => a.json,
            Command::Explain(a) => a.json,
            Command::Conformance(a) => return a.json.clone().map_or(Json::None, Json::File),
            Command::Opt(_) | Command::Completions(_) | Command::Man(_) => false,
        };
        if asked { Json::Output } else { Json::None }
    }
}

impl Json {
    /// Writes problems where the command's JSON would have gone.
    pub(crate) fn report(&self, problems: &tahoma::Diagnostics) {
        let v = serde_json::json!({ "errors": problems });
        match self {
            Json::None => {}
            Json::Output => crate::util::print_json(&v),
            // That the file cannot be written may be the very problem.
            Json::File(path) => drop(std::fs::write(path, format!("{v:#}\n"))),
        }
    }
}

/// Say what a model is: inputs, outputs, operators, parameters, arithmetic, and the options that give open dimensions numbers.
#[derive(Args)]
#[command(after_help = "Example:\n  tahoma info model.onnx\n  tahoma info model.onnx --dim batch=8 --json")]
pub(crate) struct Info {
    #[command(flatten)]
    pub(crate) model: Model,
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print a shell's completions.
#[derive(Args)]
#[command(after_help = "Example:\n  tahoma completions bash > ~/.local/share/bash-completion/completions/tahoma")]
pub(crate) struct Completions {
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// Print a manual page, or write all of them.
#[derive(Args)]
#[command(after_help = "Examples:\n  tahoma man verify > tahoma-verify.1\n  tahoma man --output-dir ~/.local/share/man/man1")]
pub(crate) struct Man {
    /// A command; the page of tahoma itself if absent
    #[arg(conflicts_with = "output_dir")]
    pub(crate) command: Option<String>,
    /// Write a page for each command to DIR
    #[arg(long, value_name = "DIR")]
    pub(crate) output_dir: Option<PathBuf>,
}

/// A model and what it is compiled with; shared by `compile` and `verify`.
#[derive(Args, Clone)]
pub(crate) struct Model {
    /// file.onnx, a Hugging Face directory (config.json, model.safetensors), or file.mlir
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) given: Given,
}

/// What a model is compiled with; `explain` has it too.
#[derive(Args, Clone)]
pub(crate) struct Given {
    /// Extents of an input; may repeat. A name leaves a dimension open
    #[arg(long, value_name = "NAME=1x3x48x320")]
    pub(crate) shape: Vec<String>,
    /// A number for a named dimension of the model; may repeat
    #[arg(long, value_name = "NAME=NUMBER")]
    pub(crate) dim: Vec<String>,
    /// Fix an input to a value; it is then no input of the compiled model
    #[arg(long, value_name = "NAME=FILE.npy")]
    pub(crate) constant: Vec<String>,
    /// Which rewrites are allowed; reassociate if absent
    #[arg(long, value_enum)]
    pub(crate) numerics: Option<NumericsArg>,
}

impl Given {
    /// Whether nothing is given.
    pub(crate) fn is_empty(&self) -> bool {
        self.shape.is_empty() && self.dim.is_empty() && self.constant.is_empty() && self.numerics.is_none()
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum NumericsArg {
    /// Same rounding as the model as written
    Exact,
    /// Sums and products may be reassociated; no lower precision
    Reassociate,
    /// Lower precision allowed
    Fast,
}

/// Compile a model to an artifact: a folder with manifest, kernels as text, and references to the weights.
#[derive(Args)]
#[command(after_help = "Example:\n  tahoma compile rec.onnx --target sm_90a --shape x=1x3x48x320 -o out --time")]
pub(crate) struct Compile {
    #[command(flatten)]
    pub(crate) model: Model,
    /// trn2, sm_90a, sm_100a, …; may repeat, each then gets a folder below OUT
    #[arg(long, required_unless_present = "stop_after")]
    pub(crate) target: Vec<String>,
    /// Folder to write
    #[arg(short, long, value_name = "OUT", required_unless_present = "stop_after")]
    pub(crate) output: Option<PathBuf>,
    /// Replace an artifact that is there
    #[arg(long)]
    pub(crate) force: bool,
    /// Copy the weights into the artifact instead of referring to the model's files
    #[arg(long)]
    pub(crate) pack: bool,
    /// Skip equality saturation: every op is a kernel of its own
    #[arg(long)]
    pub(crate) no_opt: bool,
    /// End after this stage (read, import, specialise, eqsat, lower, emit) and print its module
    #[arg(long, value_name = "STAGE")]
    pub(crate) stop_after: Option<String>,
    /// Write the module of each stage to DIR
    #[arg(long, value_name = "DIR")]
    pub(crate) dump: Option<PathBuf>,
    /// Print each stage's time and the peak memory
    #[arg(long)]
    pub(crate) time: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Run a model or an artifact and write one .npy per output.
#[derive(Args)]
#[command(after_help = "Examples:\n  tahoma run model.onnx --input x=x.npy --output-dir results\n  \
                        tahoma run out --device trn2-sim --input x=x.npy --output-dir results --json")]
pub(crate) struct Run {
    /// A model (compiled first, unless the device is interp) or an artifact
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) given: Given,
    /// interp, trn2-sim, ptx-emu, cuda, neuron
    #[arg(long, default_value = "interp")]
    pub(crate) device: String,
    /// What a model is compiled for; the device's usual target if absent
    #[arg(long)]
    pub(crate) target: Option<String>,
    /// One graph input; repeat for each
    #[arg(long, value_name = "NAME=FILE.npy")]
    pub(crate) input: Vec<String>,
    /// Folder for the outputs, made if it is not there
    #[arg(long, value_name = "DIR")]
    pub(crate) output_dir: PathBuf,
    /// Folder that an artifact's weight references are relative to, if the model's files moved
    #[arg(long, value_name = "DIR")]
    pub(crate) weights: Option<PathBuf>,
    /// Run an artifact whose manifest or kernels were changed after it was compiled; all other checks hold
    #[arg(long)]
    pub(crate) allow_edited: bool,
    /// Run this many times more and tell the wall time of those runs
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) repeat: usize,
    /// Print {"outputs": {name: path}, …}
    #[arg(long)]
    pub(crate) json: bool,
}

/// Compare every stage and the compiled kernels with the reference interpreter; or an artifact's kernels with their specs.
#[derive(Args)]
#[command(
    after_help = "Exits 0 where every output of every stage agrees, 3 where one differs, 4 where nothing can be concluded: an output that\n\
                        is constant, all 0, all NaN, noise of rounding alone, or made by no kernel.\n\n\
                        Each float is judged by itself: |a - b| <= t * |b|, t = 1e-4 for f32 and f64, 2^-8 for f16, 2^-5 for bf16;\n\
                        integers and bools must be equal. What is beyond agrees within rounding only where that is shown: the program\n\
                        is run in f64, and again with every value moved as its type rounds, and the output is no further from the\n\
                        first than eight times what the others scatter. With --atol or --rtol, what is beyond them differs.\n\
                        Inputs not given are random, from --seed; integers cover the axis they index.\n\n\
                        Of an artifact (edited or not) each kernel is run beside its spec, and its outputs are compared with the model,\n\
                        if that is where its weights are or named with --model: tahoma verify out --model rec.onnx\n\n\
                        Examples:\n  tahoma verify rec.onnx --target trn2 --input x=x.npy\n  \
                        tahoma verify rec.onnx --target sm_90a --input x=x.npy --expect y=y.npy --rtol 1e-3 --keep fault"
)]
pub(crate) struct Verify {
    #[command(flatten)]
    pub(crate) model: Model,
    /// trn2, sm_90a, …; may repeat. An artifact has its own
    #[arg(long)]
    pub(crate) target: Vec<String>,
    /// Of an artifact: the model that it was compiled from
    #[arg(long = "model", value_name = "MODEL")]
    pub(crate) reference: Option<PathBuf>,
    /// Of an artifact: folder that its weight references are relative to, if the model's files moved
    #[arg(long, value_name = "DIR")]
    pub(crate) weights: Option<PathBuf>,
    /// A graph input; the others are random
    #[arg(long, value_name = "NAME=FILE.npy")]
    pub(crate) input: Vec<String>,
    /// What an output must be; the reference and the device are both compared with it
    #[arg(long, value_name = "NAME=FILE.npy")]
    pub(crate) expect: Vec<String>,
    /// Allow |a - b| <= ATOL + RTOL * |b|, and nothing more
    #[arg(long, value_parser = tolerance, allow_negative_numbers = true)]
    pub(crate) atol: Option<f64>,
    /// See --atol; either alone leaves the other 0
    #[arg(long, value_parser = tolerance, allow_negative_numbers = true)]
    pub(crate) rtol: Option<f64>,
    /// Seed of random inputs
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Device to run on; the target's simulator or emulator if absent
    #[arg(long)]
    pub(crate) device: Option<String>,
    /// Compare each kernel with its meaning, even where the outputs agree; the five furthest off are listed
    #[arg(long)]
    pub(crate) each_kernel: bool,
    /// Where a stage differs, write what the first node or kernel that does got, gave and should have given to a folder in DIR
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
    #[arg(long)]
    pub(crate) json: bool,
}

fn tolerance(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(t) if t >= 0.0 && t.is_finite() => Ok(t),
        _ => Err("a tolerance is a number from 0 up".into()),
    }
}

/// Run a tree in the layout of ONNX's backend tests: a line per case that does not pass, and totals.
#[derive(Args)]
#[command(after_help = "DIR/<kind>/<case>/{model.onnx, test_data_set_*/{input,output}_N.pb}. Nothing is skipped silently.\n\
                        Exits 0 where every case passed, else 3.\n\n\
                        Example:\n  tahoma conformance suite --device interp --json report.json")]
pub(crate) struct Conformance {
    pub(crate) dir: PathBuf,
    #[arg(long, default_value = "interp")]
    pub(crate) device: String,
    /// Compile for this target instead of the device's own, such as sm_100a on ptx-emu
    #[arg(long)]
    pub(crate) target: Option<String>,
    /// Only cases whose name contains this
    #[arg(long, default_value = "")]
    pub(crate) filter: String,
    /// Write the report here
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// Run steps on a module of the ml dialect and print the result.
#[derive(Args)]
#[command(after_help = "Steps: specialise (fold what is constant), eqsat (optimise for --target).\n\n\
                        Example:\n  tahoma opt model.mlir --steps specialise,eqsat --target trn2")]
pub(crate) struct Opt {
    /// file.mlir
    pub(crate) file: PathBuf,
    /// Steps in order, with commas between them; none: parse, verify and print
    #[arg(long, value_delimiter = ',')]
    pub(crate) steps: Vec<String>,
    /// Whose costs eqsat uses
    #[arg(long, default_value = "trn2")]
    pub(crate) target: String,
    #[arg(long, value_enum, default_value = "reassociate")]
    pub(crate) numerics: NumericsArg,
    /// Verify after each step, by MLIR and by a round trip through the text
    #[arg(long)]
    pub(crate) verify_each: bool,
    /// Write the module after each step to DIR
    #[arg(long, value_name = "DIR")]
    pub(crate) dump: Option<PathBuf>,
}

/// Explain an error code, an op, a kernel of an artifact, or why a model became the kernels it became.
#[derive(Args)]
#[command(after_help = "Examples:\n  tahoma explain E0203\n  tahoma explain op softmax\n  tahoma explain out k3\n  \
                        tahoma explain model.onnx --target sm_90a\n  tahoma explain model.onnx k3 --target sm_90a --check-proof\n  \
                        tahoma explain model.onnx --egraph dot > egraph.dot\n  \
                        tahoma explain why-not model.onnx /attention/Softmax /output/MatMul --target sm_90a\n\n\
                        Of a model: for each kernel the nodes it came from, the rules with a proof (each step before and after), and\n\
                        what other kernels would cost. why-not takes two nodes, by name, by op#number, or by op (then the nearest pair).\n\
                        Equal layers are searched once and explained once. What a proof leaves out is told with the reason.\n\
                        --check-proof exits 3 where a step of a proof changes the result.")]
pub(crate) struct Explain {
    /// E0203, or `op`, or an artifact folder, or a model, or `why-not`
    pub(crate) what: String,
    /// Name of the op or of the kernel; for why-not MODEL A B
    #[arg(num_args = 0..=3)]
    pub(crate) names: Vec<String>,
    /// Whose kernels and costs; for models
    #[arg(long, default_value = "trn2")]
    pub(crate) target: String,
    #[command(flatten)]
    pub(crate) given: Given,
    /// Replay each step of each proof in the interpreter, on random inputs
    #[arg(long)]
    pub(crate) check_proof: bool,
    /// Seed of those inputs
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Print the saturated e-graph instead
    #[arg(long, value_enum, conflicts_with_all = ["check_proof", "json"])]
    pub(crate) egraph: Option<EGraphForm>,
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum EGraphForm {
    /// A line for each class
    Text,
    /// A picture, for Graphviz
    Dot,
}
