//! What a compiled model is: the manifest's types, shared by the compiler that writes it and the runtime that loads it.
//!
//! An artifact is a folder: `manifest.json` (this), `manifest.sha256` (its hash), `kernels/*.ptx` or `kernels/*.py` with the `.mlir` each came from, and weights by
//! reference (file, offset, hash) or packed. Equal inputs give equal bytes: no dates, no absolute paths but the weights' base folder.

use crate::attr::Attrs;
use crate::diag::Origin;
use crate::float::Float;
use crate::graph::{Graph, OpRef};
use crate::kernel::KernelSpec;
use crate::text::Vocabulary;
use crate::types::TensorType;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Version of this schema; the runtime refuses others.
pub const SCHEMA: u32 = 2;

/// The manifest's file in an artifact, and the one that holds its hash.
pub const MANIFEST: &str = "manifest.json";
pub const MANIFEST_HASH: &str = "manifest.sha256";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct Manifest {
    pub schema: u32,
    /// `tahoma 0.1.0`
    pub producer: String,
    /// Model file or folder name, without its path.
    pub model: String,
    /// `trn2`, `sm_90a`, …
    pub target: String,
    pub numerics: Numerics,
    pub inputs: Vec<BufferPort>,
    pub outputs: Vec<BufferPort>,
    pub buffers: Vec<BufferDef>,
    /// Folder that weight references are relative to, as it was when the model was compiled (a runner may be told another).
    #[serde(default)]
    pub weights_base: String,
    pub weights: Vec<WeightRef>,
    /// Evaluated once when the artifact is loaded: weights and what is computed from weights alone.
    pub load: Vec<PlanStep>,
    /// Executed in order for each run.
    pub run: Vec<PlanStep>,
    pub kernels: Vec<KernelDef>,
    /// Functions that host steps call (branches and loop bodies).
    #[serde(default)]
    pub functions: BTreeMap<String, Graph>,
    /// Strings, of models with text.
    #[serde(default, skip_serializing_if = "Vocabulary::is_empty")]
    pub vocabulary: Vocabulary,
    pub report: Report,
}

/// The numeric class of the artifact (what `--numerics` allowed).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
#[serde(rename_all = "lowercase")]
pub enum Numerics {
    /// Same rounding as the model as written.
    Exact,
    /// Sums and products may be reassociated; no lower precision.
    #[default]
    Reassociate,
    /// Lower precision allowed.
    Fast,
}

/// A named graph input or output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct BufferPort {
    pub name: String,
    pub buffer: usize,
}

/// A contiguous row-major value in memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct BufferDef {
    pub ty: TensorType,
    /// The same bytes as another buffer under another shape (reshape is free).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<usize>,
}

/// Where a weight's bytes are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct WeightRef {
    pub name: String,
    pub buffer: usize,
    /// File relative to the weights' base folder; with `./` before it, relative to the artifact itself.
    pub file: String,
    /// Byte offset and length in the file.
    pub offset: u64,
    pub bytes: u64,
    /// Of the bytes, lower-case hex.
    pub sha256: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
#[serde(rename_all = "snake_case")]
pub enum PlanStep {
    /// Runs a kernel on the device; one buffer per kernel input, then per output.
    Launch { kernel: usize, inputs: Vec<usize>, outputs: Vec<usize> },
    /// Runs an op on the host from the op table.
    Host {
        op: OpRef,
        #[serde(default)]
        attrs: Attrs,
        inputs: Vec<usize>,
        outputs: Vec<usize>,
        #[serde(default)]
        origin: Arc<Origin>,
    },
    /// Runs one of two branches, as a bool of one element says.
    If {
        /// The bool, then every buffer made outside that either branch reads.
        inputs: Vec<usize>,
        then: Branch,
        otherwise: Branch,
        /// One for each result of the branch that ran.
        outputs: Vec<usize>,
    },
    /// Runs steps `trips` times over state that stays where it is, on the device. What a run of them makes is seen in that run only.
    Loop {
        trips: usize,
        /// Every buffer made outside that the steps read, with what states start from and what rows are taken of.
        inputs: Vec<usize>,
        states: Vec<State>,
        rows: Vec<Row>,
        /// Rows that are kept, one after the other: of each the buffer that the steps make, in the order of the last outputs.
        stacks: Vec<Stack>,
        steps: Vec<PlanStep>,
        /// The last value of each state, then each stack of rows.
        outputs: Vec<usize>,
    },
}

/// A value that a loop's steps read and renew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct State {
    /// Made outside: its value in the first run.
    pub start: usize,
    /// What the steps read.
    pub buffer: usize,
    /// Its value in the next run: made by the steps, or any buffer that they see.
    pub next: usize,
}

/// A row that a loop's steps read: run `t` reads row `t` of `of` along its first axis, or row `trips - 1 - t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct Row {
    pub of: usize,
    pub row: usize,
    #[serde(default, skip_serializing_if = "is_false")]
    pub reverse: bool,
}

/// A row that a loop keeps: run `t` gives row `t` of the output, or row `trips - 1 - t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct Stack {
    pub row: usize,
    #[serde(default, skip_serializing_if = "is_false")]
    pub reverse: bool,
}

fn is_false(b: &bool) -> bool {
    !b
}

/// The row of run `t` of `trips`.
pub fn row_of(trips: usize, t: usize, reverse: bool) -> usize {
    if reverse { trips - 1 - t } else { t }
}

/// Steps that run only when their branch is taken. What they make is seen nowhere else.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct Branch {
    pub steps: Vec<PlanStep>,
    /// Buffers, made in the branch or outside, whose values the step's outputs get.
    pub results: Vec<usize>,
}

impl PlanStep {
    /// Buffers that must have a value before the step.
    pub fn inputs(&self) -> &[usize] {
        match self {
            PlanStep::Launch { inputs, .. }
            | PlanStep::Host { inputs, .. }
            | PlanStep::If { inputs, .. }
            | PlanStep::Loop { inputs, .. } => inputs,
        }
    }
    /// Buffers that the step gives a value.
    pub fn outputs(&self) -> &[usize] {
        match self {
            PlanStep::Launch { outputs, .. }
            | PlanStep::Host { outputs, .. }
            | PlanStep::If { outputs, .. }
            | PlanStep::Loop { outputs, .. } => outputs,
        }
    }
}

/// One compiled kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct KernelDef {
    /// Function name in the file.
    pub name: String,
    /// `kernels/k3.ptx`
    pub file: String,
    /// Of the file, lower-case hex.
    #[serde(default)]
    pub sha256: String,
    /// The kernel in MLIR: of PTX the module it was made from, of NKI the same instructions in the `trn` dialect.
    pub mlir: String,
    pub spec: KernelSpec,
    /// Launch shape; empty for targets without one.
    #[serde(default)]
    pub grid: [u32; 3],
    #[serde(default)]
    pub block: [u32; 3],
    /// Dynamic shared memory of one block, in bytes.
    #[serde(default)]
    pub shared_bytes: u32,
    /// Predicted time of one launch, the kernel alone.
    pub predicted_ns: Float,
    pub origin: Arc<Origin>,
}

/// What was compiled, for the summary line and `--json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct Report {
    /// Launches of one run; those of a loop once for each time it runs them.
    pub launches: usize,
    /// Runs of launches without a host step between them: what a target asks for a launch is paid once for each.
    #[serde(default)]
    pub segments: u64,
    /// Floating-point operations of one run on the device and on the host.
    pub device_flops: u64,
    pub host_flops: u64,
    /// Each op that runs on the host: name, count, flops, why.
    pub host_ops: Vec<HostOp>,
    /// Kernels that the search chose and the target's code generator refused: their ops are launched one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedKernel>,
    /// Rewrite rules and how often each changed the program that was chosen.
    pub rules: BTreeMap<String, u64>,
    /// Of one run: all kernels, segments and boundaries; of a branch the dearer way.
    pub predicted_ns: Float,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct RefusedKernel {
    pub kernel: String,
    /// Ops of the kernel, which now have a launch or a host step each.
    pub ops: usize,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct HostOp {
    pub op: String,
    pub count: usize,
    pub flops: u64,
    pub reason: String,
}
