//! Runs an artifact: weights and what is computed from them once, then the plan for each set of inputs.
//!
//! ```text
//! value of a buffer = host tensor, device block, or both; moved only when the next reader is on the other side
//! ```
//!
//! Buffers that alias share the value of their root. A value made in a run is dropped after its last reader. Values are never written
//! once they are made, so several buffers may share a block of the device, or parts of one: the state of a loop, rows of what it reads
//! and of what it keeps.

pub(crate) mod repeat;

use crate::artifact::{Artifact, tensor_of};
use crate::device::{Block, Device, LaunchStats};
use crate::memory;
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;
use tahoma_core::artifact::{Branch, Manifest, PlanStep};
use tahoma_core::eval::Weights;
use tahoma_core::graph::Node;
use tahoma_core::launches::{self, Launches};
use tahoma_core::op::{EvalArgs, Fresh, InferArgs, Kind};
use tahoma_core::{Diagnostic, Graph, Program, Tensor, TensorType, ValueId, near};

/// What a run took.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct RunReport {
    pub device: String,
    /// Wall time of the whole run and of host steps and launches in it.
    pub wall_ns: u64,
    pub host_ns: u64,
    pub launch_ns: u64,
    /// What the device says the run took: all kernels, and what a device that predicts asks for launches; 0 if it does not say.
    #[serde(with = "tahoma_core::float")]
    pub device_ns: f64,
    /// Runs of launches without a host step between them.
    pub segments: u64,
    /// From before the first launch to after the last, by the device's clock; 0 if it has none.
    #[serde(with = "tahoma_core::float")]
    pub device_span_ns: f64,
    pub launches: u64,
    pub uploaded_bytes: u64,
    pub downloaded_bytes: u64,
    /// Most bytes of device memory in use at once, weights included.
    pub peak_device_bytes: u64,
    /// Per kernel, in the order of the manifest.
    pub kernels: Vec<KernelReport>,
    /// Wall time of host steps by op.
    pub host_ops: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct KernelReport {
    pub name: String,
    pub launches: u64,
    /// Of one launch, the kernel alone: the mean where they differ.
    #[serde(with = "tahoma_core::float")]
    pub device_ns: f64,
    pub wall_ns: u64,
    pub instructions: u64,
}

/// What the launches of one kernel took.
#[derive(Clone, Copy, Default)]
struct Taken {
    timed: u64,
    sum: f64,
    least: f64,
    most: f64,
}

impl Taken {
    fn add(&mut self, ns: f64) {
        (self.least, self.most) = if self.timed == 0 { (ns, ns) } else { (self.least.min(ns), self.most.max(ns)) };
        self.timed += 1;
        self.sum += ns;
    }
    /// One of them: exact where all took as long.
    fn each(&self) -> f64 {
        if self.least == self.most { self.least } else { self.sum / self.timed as f64 }
    }
}

/// Shown each step of a run with its inputs and outputs on the host (this downloads everything: for checking, not for speed).
pub type Watch<'a> = &'a mut dyn FnMut(&PlanStep, &[Tensor], &[Tensor]) -> Result<(), Diagnostic>;

/// The value of a root buffer.
#[derive(Default)]
struct Value {
    host: Option<Tensor>,
    block: Option<Held>,
}

/// A place on the device that keeps its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    base: Block,
    at: u64,
}

impl Held {
    fn place(self) -> Block {
        self.base.at(self.at)
    }
}

/// An artifact on a device, ready to run.
pub struct Runner {
    artifact: Artifact,
    device: Box<dyn Device>,
    /// Per root buffer; constants keep their value between runs.
    values: Vec<Value>,
    /// Roots made by loading.
    constant: Vec<bool>,
    /// What to drop after each step of the run.
    uses: Arc<Uses>,
    /// What goes to the device before the first launch.
    brought: Arc<Vec<usize>>,
    /// Functions that host steps call, and the weights that these read, by name.
    program: Program,
    named: BTreeMap<String, Tensor>,
    /// How many values hold each block of the device, and its bytes.
    blocks: HashMap<Block, (usize, u64)>,
    /// Where launches put roots that have a place already: rows that a loop keeps.
    placed: HashMap<usize, Held>,
    /// Bytes of device memory in use.
    device_bytes: u64,
    report: RunReport,
    /// Of the run: segments and boundaries, and what each kernel took.
    launched: Launches,
    taken: Vec<Taken>,
}

impl Runner {
    /// Loads kernels and weights, and evaluates the load steps. E0605 for a manifest that is not consistent: nothing else is done then.
    pub fn new(artifact: Artifact, mut device: Box<dyn Device>) -> Result<Runner, Diagnostic> {
        tahoma_core::threads::start();
        let m = artifact.manifest.clone();
        crate::artifact::check(&m)?;
        device.accepts(&m.target)?;
        device.load(&m.kernels, &artifact.kernels)?;
        let mut constant = vec![false; m.buffers.len()];
        let given: Vec<usize> = m.inputs.iter().map(|p| p.buffer).collect();
        let kept: Vec<usize> = m.outputs.iter().map(|o| o.buffer).collect();
        let uses = Arc::new(Uses::of(&m, &m.run, &given, &kept));
        for b in m.weights.iter().map(|w| w.buffer).chain(m.load.iter().flat_map(PlanStep::outputs).copied()) {
            constant[b] = true;
        }
        let brought = Arc::new(memory::brought(&m, &constant));
        device.reserve(memory::needed(&m, &uses, &constant, &brought))?;
        let mut program = Program { functions: m.functions.clone() };
        program.functions.entry(Program::MAIN.into()).or_default();
        let values = (0..m.buffers.len()).map(|_| Value::default()).collect();
        let (named, blocks, placed, report) = (BTreeMap::new(), HashMap::new(), HashMap::new(), RunReport::default());
        let mut r = Runner {
            artifact,
            device,
            values,
            constant,
            uses,
            brought,
            program,
            named,
            blocks,
            placed,
            device_bytes: 0,
            launched: Launches::default(),
            taken: vec![],
            report,
        };
        r.load()?;
        Ok(r)
    }

    pub fn manifest(&self) -> &Manifest {
        &self.artifact.manifest
    }

    /// Evaluates the load steps: those that depend on nothing unevaluated at once, in parallel.
    fn load(&mut self) -> Result<(), Diagnostic> {
        let m = self.artifact.manifest.clone();
        let root = |b: usize| root(&m, b);
        // What the run reads; the rest is dropped once its recipes are done.
        let mut kept = vec![false; m.buffers.len()];
        for b in m.run.iter().flat_map(PlanStep::inputs).copied().chain(m.outputs.iter().map(|o| o.buffer)) {
            kept[root(b)] = true;
        }
        let needed: Vec<bool> = {
            let mut n = kept.clone();
            for b in m.load.iter().flat_map(PlanStep::inputs) {
                n[root(*b)] = true;
            }
            n
        };
        let weights: Vec<_> = m.weights.iter().filter(|w| needed[w.buffer]).collect();
        let tensors: Result<Vec<Tensor>, Diagnostic> = weights.par_iter().map(|w| tensor_of(&m, w, &*self.artifact.weights)).collect();
        for (w, t) in weights.iter().zip(tensors?) {
            self.values[w.buffer].host = Some(t);
        }
        let by_functions: HashSet<&str> =
            m.functions.values().flat_map(|g| &g.nodes).filter(|n| n.op.name == "weight").filter_map(|n| n.attrs.str("name")).collect();
        for w in m.weights.iter().filter(|w| by_functions.contains(&*w.name)) {
            self.named.insert(w.name.clone(), tensor_of(&m, w, &*self.artifact.weights)?);
        }
        let mut level = vec![0usize; m.buffers.len()];
        let mut waves: Vec<Vec<&PlanStep>> = vec![];
        for s in &m.load {
            let l = s.inputs().iter().map(|&b| level[root(b)]).max().unwrap_or(0);
            s.outputs().iter().for_each(|&b| level[b] = l + 1);
            if waves.len() <= l {
                waves.resize(l + 1, vec![]);
            }
            waves[l].push(s);
        }
        let mut left = vec![0usize; m.buffers.len()];
        m.load.iter().flat_map(PlanStep::inputs).for_each(|&b| left[root(b)] += 1);
        for wave in waves {
            let (named, program, values) = (&self.named, &self.program, &self.values);
            let results: Result<Vec<_>, Diagnostic> = wave
                .par_iter()
                .map(|s| {
                    let value = |&b: &usize| view(&m.buffers[b].ty, values[root(b)].host.as_ref());
                    host_step(named, program, s, s.inputs().iter().map(value).collect::<Result<_, _>>()?)
                })
                .collect();
            for (s, out) in wave.iter().zip(results?) {
                for (&b, t) in s.outputs().iter().zip(out) {
                    self.values[b].host = Some(t);
                }
                for &b in s.inputs() {
                    left[root(b)] -= 1;
                    if left[root(b)] == 0 && !kept[root(b)] {
                        self.values[root(b)].host = None;
                    }
                }
            }
        }
        Ok(())
    }

    /// Runs the plan. `inputs` are by name, in any order; each graph input exactly once. E0601, E0602, E0603, E0606.
    pub fn run(&mut self, inputs: &[(String, Tensor)]) -> Result<(Vec<(String, Tensor)>, RunReport), Diagnostic> {
        self.run_watched(inputs, None)
    }

    /// [`Runner::run`], showing each step.
    pub fn run_watched(
        &mut self,
        given: &[(String, Tensor)],
        mut watch: Option<Watch>,
    ) -> Result<(Vec<(String, Tensor)>, RunReport), Diagnostic> {
        let start = Instant::now();
        let m = self.artifact.manifest.clone();
        let wanted: Vec<(&str, &TensorType)> = m.inputs.iter().map(|p| (&*p.name, &m.buffers[p.buffer].ty)).collect();
        let tensors = match_inputs(&wanted, given)?;
        self.report = RunReport { device: self.device.name().into(), ..RunReport::default() };
        self.launched = Launches::default();
        self.taken = vec![Taken::default(); m.kernels.len()];
        self.report.kernels = m.kernels.iter().map(|k| KernelReport { name: k.name.clone(), ..KernelReport::default() }).collect();
        for (p, t) in m.inputs.iter().zip(tensors) {
            self.values[p.buffer].host = Some(t);
        }
        let uses = self.uses.clone();
        let brought = self.brought.clone();
        let steps = brought.iter().try_for_each(|&r| self.block(r).map(|_| ())).and_then(|()| self.steps(&m, &m.run, &uses, &mut watch));
        // Also after a failure: nothing of this run is left in the device's queue.
        let finished = self.finish();
        let result = steps.and(finished).and_then(|()| {
            let out = m.outputs.iter().map(|o| Ok((o.name.clone(), self.host(o.buffer)?)));
            out.collect::<Result<Vec<_>, Diagnostic>>()
        });
        // Whatever a run made goes, also after a failure.
        self.placed.clear();
        for b in 0..self.values.len() {
            if !self.constant[b] {
                self.forget(b);
            }
        }
        let mut report = std::mem::take(&mut self.report);
        report.wall_ns = start.elapsed().as_nanos() as u64;
        Ok((result?, report))
    }

    fn steps(&mut self, m: &Manifest, steps: &[PlanStep], uses: &Uses, watch: &mut Option<Watch>) -> Result<(), Diagnostic> {
        for (i, s) in steps.iter().enumerate() {
            // A branch or a loop shows its steps, not itself.
            let seen = match (&watch, s) {
                (None, _) | (_, PlanStep::If { .. } | PlanStep::Loop { .. }) => None,
                _ => Some(s.inputs().iter().map(|&b| self.host(b)).collect::<Result<Vec<_>, _>>()?),
            };
            match s {
                PlanStep::Launch { kernel, inputs, outputs } => {
                    let ins = inputs.iter().map(|&b| self.block(root(m, b))).collect::<Result<Vec<_>, _>>()?;
                    let outs = outputs.iter().map(|&b| self.target(b)).collect::<Result<Vec<_>, _>>()?;
                    let start = Instant::now();
                    let stats = self.device.launch(*kernel, &ins, &outs)?;
                    self.count_launch(*kernel, stats, start.elapsed().as_nanos() as u64);
                }
                PlanStep::Host { op, .. } => {
                    self.launched.host();
                    let args = s.inputs().iter().map(|&b| self.host(b)).collect::<Result<Vec<_>, _>>()?;
                    let start = Instant::now();
                    let out = host_step(&self.named, &self.program, s, args)?;
                    let ns = start.elapsed().as_nanos() as u64;
                    self.report.host_ns += ns;
                    *self.report.host_ops.entry(op.name.into()).or_default() += ns;
                    for (&b, t) in s.outputs().iter().zip(out) {
                        self.values[b].host = Some(t);
                    }
                }
                PlanStep::If { inputs, then, otherwise, outputs } => {
                    self.launched.host();
                    let cond = inputs.first().ok_or_else(|| Diagnostic::error("E0901", "a branch without a condition"))?;
                    let taken = self.host(*cond)?.first_bool().ok_or_else(|| Diagnostic::error("E0606", "a condition must be one bool"))?;
                    let inner = uses.inner(i)?;
                    let (branch, inner) = if taken { (then, &inner[0]) } else { (otherwise, &inner[1]) };
                    self.steps(m, &branch.steps, inner, watch)?;
                    self.give(m, branch, outputs)?;
                }
                PlanStep::Loop { .. } => self.repeat(m, s, &uses.inner(i)?[0], watch)?,
            }
            if let (Some(w), Some(ins)) = (watch.as_mut(), seen) {
                let outs = s.outputs().iter().map(|&b| self.host(b)).collect::<Result<Vec<_>, _>>()?;
                w(s, &ins, &outs)?;
            }
            for &b in &uses.after[i] {
                self.forget(b);
            }
        }
        Ok(())
    }

    /// Gives a branch's results to the outputs of its step; then nothing of the branch is left.
    fn give(&mut self, m: &Manifest, branch: &Branch, outputs: &[usize]) -> Result<(), Diagnostic> {
        for (&out, &result) in outputs.iter().zip(&branch.results) {
            let (from, to) = (&m.buffers[root(m, result)].ty, &m.buffers[out].ty);
            let same = from.dtype == to.dtype && from.bytes().is_some() && from.bytes() == to.bytes();
            self.values[out] = if same { self.shared(m, result, out)? } else { Value { host: Some(self.host(result)?), block: None } };
        }
        made(branch.steps.iter()).for_each(|b| self.forget(b));
        Ok(())
    }

    /// The value of `from` for buffer `to`, which has as many bytes: where it lies.
    fn shared(&mut self, m: &Manifest, from: usize, to: usize) -> Result<Value, Diagnostic> {
        let v = &self.values[root(m, from)];
        let host = v.host.as_ref().map(|t| view(&m.buffers[to].ty, Some(t))).transpose()?;
        let block = v.block;
        Ok(Value { host, block: block.map(|h| self.hold(h)) })
    }

    fn hold(&mut self, h: Held) -> Held {
        if let Some(b) = self.blocks.get_mut(&h.base) {
            b.0 += 1;
        }
        h
    }

    fn count_launch(&mut self, kernel: usize, stats: LaunchStats, wall_ns: u64) {
        let k = &mut self.report.kernels[kernel];
        k.launches += 1;
        self.taken[kernel].add(stats.device_ns);
        k.wall_ns += wall_ns;
        k.instructions += stats.instructions;
        self.report.launches += 1;
        self.report.launch_ns += wall_ns;
        self.launched.kernel();
    }

    /// Waits for the device, and adds what it says now of the launches.
    fn finish(&mut self) -> Result<(), Diagnostic> {
        let done = self.device.finish()?;
        for (kernel, stats) in done.launches {
            self.taken[kernel].add(stats.device_ns);
        }
        for (k, taken) in self.report.kernels.iter_mut().zip(&self.taken) {
            k.device_ns = taken.each();
        }
        let all = self.report.kernels.iter().map(|k| (k.launches, k.device_ns));
        let of = launches::device_ns(all, self.launched, self.device.launch_times());
        // Without the time of any kernel the cost of launches alone says nothing.
        self.report.device_ns = if self.taken.iter().any(|t| t.sum > 0.0) { of } else { 0.0 };
        self.report.segments = self.launched.segments;
        self.report.device_span_ns = done.span_ns;
        Ok(())
    }

    fn forget(&mut self, root: usize) {
        let v = std::mem::take(&mut self.values[root]);
        if let Some(h) = v.block {
            self.release(h);
        }
    }

    fn release(&mut self, h: Held) {
        let Some(b) = self.blocks.get_mut(&h.base) else { return };
        b.0 -= 1;
        if b.0 == 0 {
            self.device_bytes -= b.1;
            self.blocks.remove(&h.base);
            self.device.free(h.base);
        }
    }

    /// A buffer's value on the host, in its own shape.
    fn host(&mut self, buffer: usize) -> Result<Tensor, Diagnostic> {
        let m = self.artifact.manifest.clone();
        let def = &m.buffers[buffer];
        let root = def.alias.unwrap_or(buffer);
        if self.values[root].host.is_none()
            && let Some(block) = self.values[root].block
        {
            let ty = &m.buffers[root].ty;
            let bytes = self.device.download(block.place(), ty.bytes().unwrap_or(0) as usize)?;
            self.report.downloaded_bytes += bytes.len() as u64;
            let t = ty.shape.to_static().and_then(|s| Tensor::from_bytes(ty.dtype, &s, &bytes));
            self.values[root].host =
                Some(t.ok_or_else(|| Diagnostic::error("E0901", format!("a block of {} bytes is no {ty}", bytes.len())))?);
        }
        view(&def.ty, self.values[root].host.as_ref())
    }

    /// A root buffer's value on the device.
    fn block(&mut self, root: usize) -> Result<Block, Diagnostic> {
        if let Some(h) = self.values[root].block {
            return Ok(h.place());
        }
        let ty = self.artifact.manifest.buffers[root].ty.clone();
        let host = self.values[root].host.as_ref().ok_or_else(|| missing(root))?;
        if host.ty() != ty {
            return Err(Diagnostic::error("E0606", format!("a host step gave {} where the plan needs {ty}", host.ty())));
        }
        let bytes = host.to_bytes();
        let b = self.fresh(root)?;
        self.device.upload(b, &bytes)?;
        self.report.uploaded_bytes += bytes.len() as u64;
        Ok(b)
    }

    /// Where a launch writes a root.
    fn target(&mut self, root: usize) -> Result<Block, Diagnostic> {
        let Some(&h) = self.placed.get(&root) else { return self.fresh(root) };
        let h = self.hold(h);
        self.values[root].block = Some(h);
        Ok(h.place())
    }

    fn fresh(&mut self, root: usize) -> Result<Block, Diagnostic> {
        let bytes = self.artifact.manifest.buffers[root].ty.bytes().unwrap_or(0);
        let b = self.device.alloc(bytes as usize)?;
        self.values[root].block = Some(Held { base: b, at: 0 });
        self.blocks.insert(b, (1, bytes));
        self.device_bytes += bytes;
        self.report.peak_device_bytes = self.report.peak_device_bytes.max(self.device_bytes);
        Ok(b)
    }
}

/// Roots that steps make, those of a branch or a loop among them left out.
fn made<'a>(steps: impl Iterator<Item = &'a PlanStep>) -> impl Iterator<Item = usize> {
    steps.flat_map(PlanStep::outputs).copied().collect::<Vec<_>>().into_iter()
}

impl Drop for Runner {
    fn drop(&mut self) {
        for b in 0..self.values.len() {
            self.forget(b);
        }
    }
}

/// Evaluates a host step.
fn host_step(named: &BTreeMap<String, Tensor>, program: &Program, s: &PlanStep, args: Vec<Tensor>) -> Result<Vec<Tensor>, Diagnostic> {
    let PlanStep::Host { op, attrs, outputs, origin, .. } = s else {
        return Err(Diagnostic::error("E0901", "a launch is no host step"));
    };
    let out = if matches!(op.kind, Kind::Structure) {
        // A function of the artifact, run by the interpreter.
        let results = (0..outputs.len() as u32).map(ValueId).collect();
        let node = Node { op: *op, operands: vec![], attrs: attrs.clone(), results, origin: origin.clone() };
        tahoma_core::ops::structure::eval(program, &node, args, &ByName(named), &mut |_: &Graph, _: &Node, _: &[Tensor]| {})?
    } else {
        // An op computes only what it would infer: values decide what types did not say when the manifest was checked.
        let (types, known): (Vec<TensorType>, Vec<_>) = args.iter().map(|t| (t.ty(), Some(t))).unzip();
        let infer = || (op.infer)(&InferArgs { operands: &types, attrs, consts: &known, fresh: Fresh("?", 0) });
        infer().and_then(|_| (op.eval)(&EvalArgs { operands: &args, attrs })).map_err(|e| {
            let mut d = Diagnostic::error(e.code, format!("{}: {}", op.name, e.message)).at((**origin).clone());
            for (i, t) in args.iter().enumerate() {
                d = d.label(format!("operand {i}"), t.ty().to_string(), "");
            }
            d.notes.extend(e.notes);
            d
        })?
    };
    if out.len() != outputs.len() {
        return Err(Diagnostic::error("E0605", format!("{} gave {} results for {}", op.name, out.len(), outputs.len())));
    }
    Ok(out)
}

/// Weights of functions, by name.
struct ByName<'a>(&'a BTreeMap<String, Tensor>);

impl Weights for ByName<'_> {
    fn get(&self, name: &str) -> Result<Tensor, Diagnostic> {
        self.0.get(name).cloned().ok_or_else(|| Diagnostic::error("E0210", format!("no weight {name:?}")))
    }
}

/// The buffer that holds a buffer's bytes.
pub(crate) fn root(m: &Manifest, b: usize) -> usize {
    m.buffers[b].alias.unwrap_or(b)
}

fn missing(b: usize) -> Diagnostic {
    Diagnostic::error("E0901", format!("buffer {b} has no value"))
}

/// `t` under the shape of its buffer; open dimensions are whatever they are.
fn view(ty: &TensorType, t: Option<&Tensor>) -> Result<Tensor, Diagnostic> {
    let t = t.ok_or_else(|| Diagnostic::error("E0901", format!("a buffer of type {ty} has no value")))?;
    if t.dtype() != ty.dtype || (t.rank() != ty.rank() && !ty.shape.is_static()) {
        return Err(Diagnostic::error("E0606", format!("a value of type {} where the plan needs {ty}", t.ty())));
    }
    match ty.shape.to_static() {
        Some(s) if s != t.shape() => {
            if s.iter().product::<usize>() != t.len() {
                return Err(Diagnostic::error("E0606", format!("a value of type {} where the plan needs {ty}", t.ty())));
            }
            let c = t.contiguous();
            Ok(c.view(&s, &tahoma_core::tensor::contiguous_strides(&s), c.offset()))
        }
        _ => Ok(t.clone()),
    }
}

/// For a list of steps: the roots nobody reads after each step, and the same of the branches and loops in it.
pub(crate) struct Uses {
    pub(crate) after: Vec<Vec<usize>>,
    inner: BTreeMap<usize, Vec<Uses>>,
}

impl Uses {
    /// Of steps whose `kept` buffers are read after them. Only what the steps make, or `given` besides, is ever dropped.
    fn of(m: &Manifest, steps: &[PlanStep], given: &[usize], kept: &[usize]) -> Uses {
        let root = |b: usize| m.buffers[b].alias.unwrap_or(b);
        let mut seen = vec![true; m.buffers.len()];
        steps.iter().flat_map(PlanStep::outputs).chain(given).for_each(|&b| seen[b] = false);
        kept.iter().for_each(|&b| seen[root(b)] = true);
        let mut after = vec![vec![]; steps.len()];
        let mut inner = BTreeMap::new();
        for (i, s) in steps.iter().enumerate().rev() {
            for &b in s.inputs().iter().chain(s.outputs()) {
                if !std::mem::replace(&mut seen[root(b)], true) {
                    after[i].push(root(b));
                }
            }
            match s {
                PlanStep::If { then, otherwise, .. } => {
                    inner.insert(i, [then, otherwise].map(|b| Uses::of(m, &b.steps, &[], &b.results)).into());
                }
                PlanStep::Loop { states, rows, stacks, steps, .. } => {
                    let given: Vec<usize> = states.iter().map(|s| s.buffer).chain(rows.iter().map(|r| r.row)).collect();
                    let kept: Vec<usize> = states.iter().map(|s| s.next).chain(stacks.iter().map(|s| s.row)).collect();
                    inner.insert(i, vec![Uses::of(m, steps, &given, &kept)]);
                }
                PlanStep::Launch { .. } | PlanStep::Host { .. } => {}
            }
        }
        Uses { after, inner }
    }

    /// Of the branches or the loop that step `i` is.
    pub(crate) fn inner(&self, i: usize) -> Result<&[Uses], Diagnostic> {
        self.inner.get(&i).map(Vec::as_slice).ok_or_else(|| Diagnostic::error("E0901", "a branch or loop without its uses"))
    }
}

/// Puts given inputs into the order of `wanted` and checks names, types and shapes; a dimension's symbol stands for one number. All
/// problems of one kind are in one diagnostic. E0601, E0602.
pub fn match_inputs(wanted: &[(&str, &TensorType)], given: &[(String, Tensor)]) -> Result<Vec<Tensor>, Diagnostic> {
    let takes = |mut d: Diagnostic| {
        for (n, t) in wanted {
            d = d.label(n.to_string(), t.to_string(), "");
        }
        d
    };
    let mut problems = vec![];
    for (n, _) in wanted {
        match given.iter().filter(|g| g.0 == *n).count() {
            0 => problems.push(format!("input {n:?} is missing")),
            1 => {}
            _ => problems.push(format!("input {n:?} is given twice")),
        }
    }
    for (n, _) in given {
        if wanted.iter().all(|w| w.0 != n) {
            let close = near::closest(n, wanted.iter().map(|w| w.0)).map(|c| format!(" (did you mean {c:?}?)")).unwrap_or_default();
            problems.push(format!("the model has no input {n:?}{close}"));
        }
    }
    if !problems.is_empty() {
        return Err(takes(Diagnostic::error("E0601", problems.join("; "))).note("give each input once: --input NAME=FILE.npy"));
    }
    let mut symbols: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut out, mut problems) = (vec![], vec![]);
    for (name, ty) in wanted {
        let Some((_, t)) = given.iter().find(|g| g.0 == *name) else { continue };
        if t.dtype() != ty.dtype || t.rank() != ty.rank() {
            problems.push(format!("input {name:?} is {}, the model takes {ty}", t.ty()));
            continue;
        }
        for (i, (&have, want)) in t.shape().iter().zip(&ty.shape.0).enumerate() {
            let must = match want {
                tahoma_core::Dim::Known(n) => *n,
                tahoma_core::Dim::Sym(s) => *symbols.entry(s).or_insert(have as u64),
            };
            if must != have as u64 {
                problems.push(format!("input {name:?} is {}, the model takes {ty}: axis {i} must be {must}", t.ty()));
                break;
            }
        }
        out.push(t.clone());
    }
    if problems.is_empty() { Ok(out) } else { Err(takes(Diagnostic::error("E0602", problems.join("; ")))) }
}
