//! The builder: a model and what is asked of it, then its stages one by one or all at once.

use crate::compiled::Compiled;
use crate::model::{self, Request, import, weights_base};
use crate::pack;
use crate::plan::{self, Plan};
use crate::specialise::specialise;
use crate::stage::{Stage, StageTime, peak_rss_bytes};
use crate::target::{Target, with_session};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tahoma_core::artifact::{KernelDef, Manifest, Numerics, SCHEMA, WeightRef};
use tahoma_core::{Diagnostic, Diagnostics, Program, Tensor, Text, Vocabulary};
use tahoma_eqsat::span::{self, Span};
use tahoma_frontend::{Imported, Location, Store, parse_shape};
use tahoma_mlir::Module;
use tahoma_runtime::sha256;

/// Called at the start of each stage.
pub type OnStage = Arc<dyn Fn(Stage) + Send + Sync>;

/// Called after each kernel that was lowered, with how many are done and how many there are at least.
pub type OnKernel = Arc<dyn Fn(usize, usize) + Send + Sync>;

/// A compilation to be. See the crate's example.
#[derive(Clone)]
pub struct Compiler {
    model: PathBuf,
    target: Option<Target>,
    request: Request,
    numerics: Numerics,
    stop_after: Option<Stage>,
    dump: Option<PathBuf>,
    optimise: bool,
    on_stage: Option<OnStage>,
    on_kernel: Option<OnKernel>,
    problems: Diagnostics,
}

/// Where a compilation ended.
pub enum Outcome {
    /// Before there was a target module: the program after that stage.
    Program { stage: Stage, program: Program, times: Vec<StageTime>, warnings: Vec<Diagnostic> },
    /// After `lower` (kernels and plan) or `emit`.
    Artifact(Compiled),
}

impl Compiler {
    /// A compilation of an ONNX file, a Hugging Face directory or an `ml` module.
    pub fn new(model: impl AsRef<Path>) -> Compiler {
        tahoma_core::threads::start();
        Compiler {
            model: model.as_ref().to_path_buf(),
            target: None,
            request: Request::default(),
            numerics: Numerics::default(),
            stop_after: None,
            dump: None,
            optimise: true,
            on_stage: None,
            on_kernel: None,
            problems: Diagnostics::default(),
        }
    }
    /// `trn2`, `sm_90a`, …; a wrong name is reported by the stage that runs first.
    pub fn target(mut self, name: &str) -> Compiler {
        match Target::parse(name) {
            Ok(t) => self.target = Some(t),
            Err(d) => self.problems.push(d),
        }
        self
    }
    /// Fixes the extents of an input: `x=1x3x224x224`.
    pub fn shape(mut self, text: &str) -> Compiler {
        match parse_shape(text) {
            Ok((name, dims)) => {
                self.request.shapes.insert(name, dims);
            }
            Err(d) => self.problems.push(d),
        }
        self
    }
    /// Fixes the extents of inputs to those of the given tensors.
    pub fn shapes_of(mut self, inputs: &[(String, Tensor)]) -> Compiler {
        for (name, dims) in model::shapes_of(inputs) {
            self.request.shapes.entry(name).or_insert(dims);
        }
        self
    }
    /// Fixes what the request fixes, as far as nothing did before.
    pub fn request(mut self, request: &Request) -> Compiler {
        for (n, d) in &request.shapes {
            self.request.shapes.entry(n.clone()).or_insert_with(|| d.clone());
        }
        for (n, t) in &request.texts {
            self.request.texts.entry(n.clone()).or_insert_with(|| t.clone());
        }
        for (n, t) in &request.constants {
            self.request.constants.entry(n.clone()).or_insert_with(|| t.clone());
        }
        self.request.symbols.extend(request.symbols.clone());
        self.request.complete |= request.complete;
        self
    }
    /// What is fixed so far.
    pub fn fixed(&self) -> &Request {
        &self.request
    }
    /// A number for a named dimension.
    pub fn symbol(mut self, name: &str, extent: u64) -> Compiler {
        self.request.symbols.insert(name.into(), extent);
        self
    }
    /// Fixes an input to a value; it is then no input of the compiled model.
    pub fn input_value(mut self, name: &str, value: Tensor) -> Compiler {
        self.request.constants.insert(name.into(), value);
        self
    }
    /// What a text input holds: always known when a model is compiled.
    pub fn input_text(mut self, name: &str, value: Text) -> Compiler {
        self.request.texts.insert(name.into(), value);
        self
    }
    pub fn numerics(mut self, numerics: Numerics) -> Compiler {
        self.numerics = numerics;
        self
    }
    /// Ends after a stage; see [`Compiler::advance`].
    pub fn stop_after(mut self, stage: Stage) -> Compiler {
        self.stop_after = Some(stage);
        self
    }
    /// Writes the module of each stage to `DIR/NN-stage.mlir`.
    pub fn dump(mut self, dir: impl AsRef<Path>) -> Compiler {
        self.dump = Some(dir.as_ref().to_path_buf());
        self
    }
    /// Without equality saturation every op is a kernel of its own.
    pub fn optimise(mut self, yes: bool) -> Compiler {
        self.optimise = yes;
        self
    }
    /// Called at the start of each stage, for progress.
    pub fn on_stage(mut self, f: impl Fn(Stage) + Send + Sync + 'static) -> Compiler {
        self.on_stage = Some(Arc::new(f));
        self
    }
    /// Called after each kernel that was lowered, for progress.
    pub fn on_kernel(mut self, f: impl Fn(usize, usize) + Send + Sync + 'static) -> Compiler {
        self.on_kernel = Some(Arc::new(f));
        self
    }

    /// All stages. With [`Compiler::stop_after`] before `emit` this is E0701: use [`Compiler::advance`].
    pub fn compile(&self) -> Result<Compiled, Diagnostics> {
        match self.advance()? {
            Outcome::Artifact(c) => Ok(c),
            Outcome::Program { stage, .. } => {
                Err(Diagnostic::error("E0701", format!("stopped after {stage}: there is no artifact")).into())
            }
        }
    }

    /// Stages up to the one to stop after.
    pub fn advance(&self) -> Result<Outcome, Diagnostics> {
        self.problems.clone().into_result(())?;
        let mut clock = Clock { times: vec![], on_stage: self.on_stage.clone(), start: Instant::now() };
        clock.begin(Stage::Read);
        model::kind_of(&self.model)?;
        clock.end(Stage::Read);

        clock.begin(Stage::Import);
        let Imported { mut program, store, model_name, vocabulary, warnings } = import(&self.model, &self.request)?;
        clock.end(Stage::Import);
        let store = Arc::new(store);
        macro_rules! boundary {
            ($stage:expr) => {
                self.dump_program($stage, &program)?;
                if self.stop_after.is_some_and(|s| s <= $stage) {
                    return Ok(Outcome::Program { stage: $stage, program, times: clock.times, warnings });
                }
            };
        }
        boundary!(Stage::Import);

        clock.begin(Stage::Specialise);
        program = self.specialise(&program)?;
        clock.end(Stage::Specialise);
        boundary!(Stage::Specialise);

        let target = self.chosen_target()?;
        if self.stop_after.is_none_or(|s| s >= Stage::Lower) {
            crate::info::check_closed(&program, &self.model, &self.request)?;
        }
        clock.begin(Stage::Eqsat);
        let mut rules = BTreeMap::new();
        if self.optimise {
            (program, rules) = self.eqsat(&program, target, &store)?;
        }
        clock.end(Stage::Eqsat);
        boundary!(Stage::Eqsat);

        clock.begin(Stage::Lower);
        let mut plan = self.lower(&program, target)?;
        plan.report.rules = rules;
        clock.end(Stage::Lower);

        clock.begin(Stage::Emit);
        let mut compiled = self.emit(plan, target, store, &model_name, vocabulary)?;
        clock.end(Stage::Emit);
        compiled.warnings = warnings;
        compiled.times = clock.times;
        self.dump_kernels(&compiled)?;
        Ok(Outcome::Artifact(compiled))
    }

    /// The target, once all that was given is in order: of a name that is none, that is what is said.
    pub(crate) fn chosen_target(&self) -> Result<Target, Diagnostics> {
        self.problems.clone().into_result(())?;
        let none = || Diagnostic::error("E0501", "no target").note(format!("name one: {}", Target::names().join(", ")));
        Ok(self.target.ok_or_else(none)?)
    }
    pub(crate) fn allowed(&self) -> Numerics {
        self.numerics
    }
    pub(crate) fn begin(&self, stage: Stage) {
        if let Some(f) = &self.on_stage {
            f(stage);
        }
    }

    /// The model as imported.
    pub fn import(&self) -> Result<Imported, Diagnostics> {
        self.problems.clone().into_result(())?;
        import(&self.model, &self.request)
    }

    /// A program with the shapes and values of this compilation fixed.
    pub fn specialise(&self, program: &Program) -> Result<Program, Diagnostics> {
        specialise(program, &mut |name, ty| model::known(&self.request, name, ty))
    }

    /// A cheaper program for the target, in kernel functions; and which rules made it. `store` says where weights lie that are not as
    /// those of networks are.
    pub fn eqsat(&self, program: &Program, target: Target, store: &Store) -> Result<(Program, BTreeMap<String, u64>), Diagnostics> {
        let mut options = tahoma_eqsat::Options::new(target.cost());
        options.numerics = self.numerics;
        options.weights = spans(program, store);
        let (program, report) = tahoma_eqsat::optimize(program, &options)?;
        for d in &report.faults {
            tracing::error!("{d}");
        }
        let (e_nodes, stopped, limited) = (report.e_nodes, report.stopped, report.limited);
        tracing::info!(e_nodes, stopped, limited, chosen_ns = report.chosen_ns, "eqsat {:?}", report.phases);
        let used = report.rules.iter().filter(|(_, u)| u.used > 0);
        Ok((program, used.map(|(n, u)| (n.clone(), u.used as u64)).collect()))
    }

    /// Kernels and plan.
    pub fn lower(&self, program: &Program, target: Target) -> Result<Plan, Diagnostics> {
        let (done, all) = (AtomicUsize::new(0), program.functions.len().saturating_sub(1));
        let done = || {
            let done = 1 + done.fetch_add(1, Ordering::Relaxed);
            if let Some(f) = &self.on_kernel {
                f(done, all.max(done));
            }
        };
        Ok(plan::plan(program, plan::Lower { target, done: &done })?)
    }

    /// The artifact of a plan.
    fn emit(
        &self,
        plan: Plan,
        target: Target,
        store: Arc<Store>,
        model_name: &str,
        vocabulary: Vocabulary,
    ) -> Result<Compiled, Diagnostics> {
        let base = weights_base(&self.model);
        let mut files = BTreeMap::new();
        let (weights, packed) = weight_refs(&plan, &store, &base)?;
        if let Some(bytes) = packed {
            files.insert(pack::FILE.to_string(), bytes);
        }
        let left_to_ptxas = plan.kernels.iter().filter(|k| !k.lowered.optimised).count();
        let mut kernels = vec![];
        for k in plan.kernels {
            let file = format!("kernels/{}.{}", k.lowered.name, target.ending());
            let mlir = format!("kernels/{}.mlir", k.lowered.name);
            let taken = files.insert(file.clone(), k.lowered.text.clone().into_bytes()).is_some();
            if taken {
                return Err(Diagnostic::error("E0901", format!("two kernels are named {}", k.lowered.name)).into());
            }
            files.insert(mlir.clone(), k.lowered.mlir.into_bytes());
            kernels.push(KernelDef {
                name: k.lowered.name.into(),
                sha256: sha256(k.lowered.text.as_bytes()),
                file,
                mlir,
                grid: k.lowered.grid,
                block: k.lowered.block,
                shared_bytes: k.lowered.shared_bytes,
                predicted_ns: k.lowered.predicted_ns.into(),
                origin: k.origin,
                spec: k.spec,
            });
        }
        let referenced = weights.iter().any(|w| !w.file.starts_with("./"));
        let manifest = Manifest {
            schema: SCHEMA,
            producer: concat!("tahoma ", env!("CARGO_PKG_VERSION")).into(),
            model: model_name.into(),
            target: target.name().into(),
            numerics: self.numerics,
            inputs: plan.inputs,
            outputs: plan.outputs,
            buffers: plan.buffers,
            weights_base: if referenced { base.to_string_lossy().into_owned() } else { String::new() },
            weights,
            load: plan.load,
            run: plan.run,
            kernels,
            functions: plan.functions,
            vocabulary,
            report: plan.report,
        };
        // What the runtime would refuse must not leave the compiler.
        tahoma_runtime::artifact::check(&manifest).map_err(|d| {
            Diagnostic::error("E0901", format!("the plan is wrong: {}", d.message)).note("stage: emit; please report it").caused_by(d)
        })?;
        let (manifest, warnings, times) = (Arc::new(manifest), vec![], vec![]);
        Ok(Compiled { manifest, files, store, compact: false, left_to_ptxas, warnings, times })
    }

    fn dump_program(&self, stage: Stage, program: &Program) -> Result<(), Diagnostics> {
        let Some(dir) = &self.dump else { return Ok(()) };
        let text = print_program(program)?;
        Ok(write_dump(dir, &format!("{}.mlir", stage.file()), text.as_bytes())?)
    }

    fn dump_kernels(&self, c: &Compiled) -> Result<(), Diagnostics> {
        let Some(dir) = &self.dump else { return Ok(()) };
        for k in &c.manifest.kernels {
            if let Some(bytes) = c.files.get(&k.mlir) {
                write_dump(&dir.join(Stage::Lower.file()), &format!("{}.mlir", k.name), bytes)?;
            }
            if let Some(bytes) = c.files.get(&k.file) {
                let name = Path::new(&k.file).file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
                write_dump(&dir.join(Stage::Emit.file()), &name, bytes)?;
            }
        }
        Ok(())
    }
}

/// A program as an MLIR module's text, verified.
pub fn print_program(program: &Program) -> Result<String, Diagnostics> {
    with_session(|s| Ok(Module::from_program(s, program)?.print().to_string()))
}

fn write_dump(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), Diagnostic> {
    let path = dir.join(name);
    std::fs::create_dir_all(dir)
        .and_then(|()| std::fs::write(&path, bytes))
        .map_err(|e| Diagnostic::error("E0702", format!("cannot write {}: {e}", path.display())).caused_by(e))
}

/// References to the weights of a plan, hashed in parallel; weights that no file holds come back as a packed file.
fn weight_refs(plan: &Plan, store: &Store, base: &Path) -> Result<(Vec<WeightRef>, Option<Vec<u8>>), Diagnostic> {
    let missing = |name: &str| Diagnostic::error("E0210", format!("no weight {name:?} in the store"));
    let mut refs: Vec<WeightRef> = plan
        .weights
        .par_iter()
        .map(|(name, buffer)| {
            let e = store.find(name).ok_or_else(|| missing(name))?;
            let place = match e.location {
                Location::File { path, offset } => {
                    let real = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
                    // A path that is no text cannot stand in a manifest: the weight is packed.
                    let named = base.to_str().and_then(|_| real.strip_prefix(base).ok()?.to_str());
                    named.map(|p| (p.to_string(), offset))
                }
                Location::Memory => None,
            };
            let (file, offset) = place.unwrap_or_default();
            Ok(WeightRef { name: name.clone(), buffer: *buffer, file, offset, bytes: e.bytes as u64, sha256: sha256(&store.read(name)?) })
        })
        .collect::<Result<_, Diagnostic>>()?;
    let loose: Vec<&str> = refs.iter().filter(|w| w.file.is_empty()).map(|w| w.name.as_str()).collect();
    if loose.is_empty() {
        return Ok((refs, None));
    }
    let (bytes, places) = pack::safetensors(store, loose.into_iter())?;
    for w in refs.iter_mut().filter(|w| w.file.is_empty()) {
        (w.file, w.offset) = (format!("./{}", pack::FILE), places[&w.name]);
    }
    Ok((refs, Some(bytes)))
}

struct Clock {
    times: Vec<StageTime>,
    on_stage: Option<OnStage>,
    start: Instant,
}

impl Clock {
    fn begin(&mut self, stage: Stage) {
        if let Some(f) = &self.on_stage {
            f(stage);
        }
        self.start = Instant::now();
    }
    fn end(&mut self, stage: Stage) {
        let wall = self.start.elapsed();
        tracing::info!(%stage, ?wall);
        self.times.push(StageTime { stage, wall, peak_rss_bytes: peak_rss_bytes() });
    }
}

/// Most elements of weights that are looked at; those after it are taken to be ordinary.
const LOOKED_AT: u64 = 1 << 28;

/// Where the weights of a program lie that a search must be told of.
pub(crate) fn spans(program: &Program, store: &Store) -> Arc<BTreeMap<String, Span>> {
    let mut left = LOOKED_AT;
    let mut out = BTreeMap::new();
    for n in program.functions.values().flat_map(|g| &g.nodes).filter(|n| n.op.name == "weight") {
        let Some(e) = n.attrs.str("name").and_then(|name| store.find(name)) else { continue };
        let count = e.ty.shape.elements().unwrap_or(u64::MAX);
        if count > left || out.contains_key(e.name) {
            continue;
        }
        left -= count;
        // Bytes that cannot be read are told of where they are needed.
        let Ok(bytes) = store.read(e.name) else { continue };
        if let Some(span) = span::of_bytes(e.ty.dtype, &bytes).and_then(|all| span::extraordinary(e.ty.dtype, all)) {
            out.insert(e.name.to_string(), span);
        }
    }
    Arc::new(out)
}
