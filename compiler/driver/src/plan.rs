//! From a program of kernel calls to the plan of an artifact: what is launched, what runs on the host, what is computed once.
//!
//! ```text
//! constants, weights, and ops on those alone   load steps (recipes)
//! call of a kernel function                    launch; if the target refuses it, its ops one by one
//! if                                           both branches planned in line, one taken at run time
//! scan                                         its steps planned once, run again over other places
//! reshape of known shape                       another view of the same buffer
//! any other op                                 launch of a kernel of its own, or a host step with the reason
//! ```
//!
//! Equal kernels are lowered once; lowering runs in parallel. LLVM optimises the dearest kernels first, as far as [`WORK`] goes.

mod inline;

use crate::flops;
use crate::target::{Draft, Lowered, Target};
use inline::{Block, Inlined, Steps};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tahoma_core::artifact::*;
use tahoma_core::graph::{Graph, Node, OpRef};
use tahoma_core::kernel::KernelSpec;
use tahoma_core::launches::Tally;
use tahoma_core::op::{Kind, Move};
use tahoma_core::{Attr, Diagnostic, Origin, Program, Tensor, ValueId, form, kernel_check};
use tahoma_mlir::Effort;

/// What compiling one program's kernels may cost, in lines of MLIR that are only translated (some 20 µs each): real models stay below.
/// A kernel that LLVM optimises costs [`OPTIMISED`] times its lines; those that the rest does not pay are left to `ptxas`.
const WORK: usize = 320_000;

/// A line that LLVM optimises beside one that it only translates (measured: 5.3 to 8.7 on kernels of 2,000 lines).
const OPTIMISED: usize = 8;

/// What lowers kernels; an error is a reason to run them elsewhere.
#[derive(Clone, Copy)]
pub struct Lower<'a> {
    pub target: Target,
    /// Called after each kernel.
    pub done: &'a (dyn Fn() + Sync),
}

/// A plan, still without files and hashes.
#[derive(Debug, Default)]
pub struct Plan {
    pub inputs: Vec<BufferPort>,
    pub outputs: Vec<BufferPort>,
    pub buffers: Vec<BufferDef>,
    /// Weight name and buffer.
    pub weights: Vec<(String, usize)>,
    pub load: Vec<PlanStep>,
    pub run: Vec<PlanStep>,
    pub kernels: Vec<PlannedKernel>,
    pub functions: BTreeMap<String, Graph>,
    pub report: Report,
}

#[derive(Debug)]
pub struct PlannedKernel {
    pub spec: KernelSpec,
    pub lowered: Lowered,
    pub origin: Arc<Origin>,
}

/// A node's way to the device: an index into the distinct kernels, or why there is none.
type Verdict = Result<usize, String>;

/// Distinct kernels, by what they compute.
struct Kernels<'a> {
    lower: Lower<'a>,
    /// What is left of [`WORK`].
    room: usize,
    /// A spec without its name says what a kernel computes, to the bit: floats in it compare by their bits.
    by_spec: HashMap<KernelSpec, usize>,
    all: Vec<(KernelSpec, Arc<Origin>, Result<Lowered, String>)>,
}

impl Kernels<'_> {
    /// Forms and lowers functions; equal ones once.
    fn judge(&mut self, functions: &[(Graph, Arc<Origin>)]) -> Vec<Verdict> {
        let specs: Vec<Result<KernelSpec, String>> = functions.par_iter().map(|(g, _)| sound(g)).collect();
        let mut out = vec![];
        let start = self.all.len();
        let mut new = vec![];
        for (s, (_, origin)) in specs.into_iter().zip(functions) {
            out.push(s.map(|spec| {
                let key = KernelSpec { name: String::new(), ..spec.clone() };
                *self.by_spec.entry(key).or_insert_with(|| {
                    new.push((spec, origin.clone()));
                    start + new.len() - 1
                })
            }));
        }
        let Lower { target, done } = self.lower;
        let drafts: Vec<_> = new
            .into_par_iter()
            .map(|(spec, origin)| {
                let draft = target.draft(&spec, &origin).map_err(|d| d.message);
                (spec, origin, draft)
            })
            .collect();
        let efforts = efforts(&drafts.iter().map(|d| d.2.as_ref().ok()).collect::<Vec<_>>(), &mut self.room);
        let lowered = drafts.into_par_iter().zip(efforts).map(|((spec, origin, draft), effort)| {
            let lowered = draft.and_then(|d| target.finish(d, effort).map_err(|d| d.message));
            done();
            (spec, origin, lowered)
        });
        self.all.extend(lowered.collect::<Vec<_>>());
        out.into_iter().map(|v| v.and_then(|i| self.all[i].2.as_ref().map(|_| i).map_err(Clone::clone))).collect()
    }
}

/// How much LLVM does for each kernel: all are translated, and the dearest are optimised as far as there is room.
fn efforts(drafts: &[Option<&Draft>], room: &mut usize) -> Vec<Effort> {
    let mut order: Vec<(usize, &Draft, usize)> = drafts.iter().enumerate().filter_map(|(i, d)| Some((i, (*d)?, (*d)?.lines()))).collect();
    *room = room.saturating_sub(order.iter().map(|k| k.2).sum());
    order.sort_by(|a, b| b.1.predicted_ns().total_cmp(&a.1.predicted_ns()).then(a.0.cmp(&b.0)));
    let mut efforts = vec![Effort::Least; drafts.len()];
    for (i, _, lines) in order {
        let more = lines * (OPTIMISED - 1);
        if more <= *room {
            *room -= more;
            efforts[i] = Effort::Full;
        }
    }
    efforts
}

/// The kernel of a function, if one can be formed and proved: what the runtime would refuse is not made.
fn sound(g: &Graph) -> Result<KernelSpec, String> {
    let spec = form::form(g, &g.name).map_err(|e| e.to_string())?;
    kernel_check::check(&spec).map_err(|e| e.to_string())?;
    Ok(spec)
}

/// Makes the plan of `program.main()`. Errors: E0901 for a program that no stage of ours makes.
pub fn plan(program: &Program, lower: Lower) -> Result<Plan, Diagnostic> {
    let mut kernels = Kernels { lower, room: WORK, by_spec: HashMap::new(), all: vec![] };
    let called = judge_calls(program, &mut kernels);
    let Inlined { graph: main, top, branches, loops } = inline::inline(program, &|f| called.get(f).is_some_and(|v| v.is_ok()))?;
    let constant = constants(&main);
    let uniform = uniform_constants(&main);

    // Ops outside kernels: each tried as a kernel of its own.
    let singles: Vec<usize> = (0..main.nodes.len()).filter(|&i| is_single(&main, i, &constant)).collect();
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    let graphs: Vec<(Graph, Vec<usize>)> = singles
        .iter()
        .map(|&i| {
            let n = &main.nodes[i];
            let serial = names.entry(n.op.name).or_default();
            *serial += 1;
            with_constants(&main, n, &uniform, &format!("{}_{}", n.op.name, *serial - 1))
        })
        .collect();
    let functions: Vec<(Graph, Arc<Origin>)> =
        graphs.iter().zip(&singles).map(|(g, &i)| (g.0.clone(), main.nodes[i].origin.clone())).collect();
    let verdicts = kernels.judge(&functions);
    let single: HashMap<usize, (Verdict, &Vec<usize>)> =
        singles.iter().zip(verdicts).zip(&graphs).map(|((&i, v), g)| (i, (v, &g.1))).collect();

    let mut p = Planner {
        program,
        main: &main,
        kernels: &kernels,
        called: &called,
        constant: &constant,
        single: &single,
        branches: &branches,
        loops: &loops,
        plan: Plan::default(),
        buffers: HashMap::new(),
        weights: HashMap::new(),
        launched: HashMap::new(),
        host: BTreeMap::new(),
    };
    for (kernel, why) in called.iter().filter_map(|(f, v)| Some((f, v.as_ref().err()?))) {
        let ops = program.functions[kernel].nodes.iter().filter(|n| n.op.name != "constant").count();
        p.plan.report.refused.push(RefusedKernel { kernel: kernel.clone(), ops, reason: why.clone() });
    }
    p.inputs();
    p.block(&top)?;
    let (plan, launched) = p.finish(&top)?;
    Ok(with_kernels(plan, &launched, kernels))
}

/// The plan with the kernels that it launches, and the time of it all.
fn with_kernels(mut plan: Plan, launched: &HashMap<usize, usize>, kernels: Kernels) -> Plan {
    let times = kernels.lower.target.launches();
    let mut used: Vec<Option<PlannedKernel>> = (0..launched.len()).map(|_| None).collect();
    for (i, (spec, origin, lowered)) in kernels.all.into_iter().enumerate() {
        if let (Some(&at), Ok(lowered)) = (launched.get(&i), lowered) {
            used[at] = Some(PlannedKernel { spec, lowered, origin });
        }
    }
    plan.kernels = used.into_iter().flatten().collect();
    let ns: Vec<f64> = plan.kernels.iter().map(|k| k.lowered.predicted_ns).collect();
    let tally = Tally::of(&plan.run, &ns, times);
    plan.report.segments = tally.launches.segments;
    plan.report.predicted_ns = tally.ns(&ns, times).into();
    plan
}

fn fault(why: &str) -> Diagnostic {
    Diagnostic::error("E0901", format!("planning: {why}"))
}

/// Verdict of every function that is called from `main` or from a branch.
fn judge_calls(program: &Program, kernels: &mut Kernels) -> BTreeMap<String, Verdict> {
    let mut origins: BTreeMap<&str, Arc<Origin>> = BTreeMap::new();
    let mut order = vec![];
    for n in inline::reached(program).into_iter().flat_map(|g| &g.nodes) {
        if let ("call", Some(f)) = (n.op.name, n.attrs.func("callee"))
            && !origins.contains_key(f)
            && program.functions.contains_key(f)
        {
            origins.insert(f, call_origin(program, n, f));
            order.push(f);
        }
    }
    let functions: Vec<(Graph, Arc<Origin>)> = order
        .iter()
        .map(|f| {
            let mut g = program.functions[*f].clone();
            g.name = f.to_string();
            (g, origins[f].clone())
        })
        .collect();
    let verdicts = kernels.judge(&functions);
    order.iter().map(|f| f.to_string()).zip(verdicts).collect()
}

/// The origin of a call: its own, or those of the ops in the function.
fn call_origin(program: &Program, n: &Node, f: &str) -> Arc<Origin> {
    if *n.origin != Origin::Unknown {
        return n.origin.clone();
    }
    Arc::new(Origin::fuse("kernel", program.functions[f].nodes.iter().map(|n| n.origin.clone())))
}

/// Which nodes depend on no input.
fn constants(g: &Graph) -> Vec<bool> {
    let mut known = vec![false; g.types.len()];
    g.nodes
        .iter()
        .map(|n| {
            let c = n.operands.iter().all(|v| known[v.index()]);
            n.results.iter().for_each(|r| known[r.index()] = c);
            c
        })
        .collect()
}

/// Constants that hold one value everywhere: they go into kernels as numbers.
fn uniform_constants(g: &Graph) -> HashMap<ValueId, Arc<Tensor>> {
    let constants = g.nodes.iter().filter(|n| n.op.name == "constant");
    constants
        .filter_map(|n| {
            let t = n.attrs.tensor("value")?;
            let bytes = t.to_bytes();
            let width = t.dtype().bits().div_ceil(8) as usize;
            let same = !bytes.is_empty() && t.dtype().bits() >= 8 && bytes.chunks(width).all(|c| c == &bytes[..width]);
            same.then(|| (n.results[0], t.clone()))
        })
        .collect()
}

/// Whether node `i` may be tried as a kernel of its own.
fn is_single(g: &Graph, i: usize, constant: &[bool]) -> bool {
    let n = &g.nodes[i];
    let kind = !matches!(n.op.kind, Kind::Structure | Kind::Generate | Kind::Opaque | Kind::Gather | Kind::Scatter | Kind::Collective);
    let types = n.operands.iter().chain(&n.results).map(|&v| g.ty(v));
    !constant[i] && kind && types.clone().all(|t| t.shape.is_static()) && free_reshape(g, n).is_none()
}

/// A node with its uniform constants as a function; also which operands are its arguments.
fn with_constants(g: &Graph, n: &Node, uniform: &HashMap<ValueId, Arc<Tensor>>, name: &str) -> (Graph, Vec<usize>) {
    let mut f = flops::alone(g, n);
    f.name = name.into();
    let mut args = vec![];
    let inputs = std::mem::take(&mut f.inputs);
    for (i, p) in inputs.into_iter().enumerate() {
        match uniform.get(&n.operands[i]) {
            Some(t) => {
                let attrs = tahoma_core::Attrs::new().with("value", Attr::Tensor(t.clone()));
                let op = OpRef(tahoma_core::ops::CONSTANT);
                f.nodes.insert(0, Node { op, operands: vec![], attrs, results: vec![p.value], origin: Arc::default() });
            }
            None => {
                args.push(i);
                f.inputs.push(p);
            }
        }
    }
    (f, args)
}

/// Operand and result of a reshape that costs nothing: both of known shape.
fn free_reshape(g: &Graph, n: &Node) -> Option<(ValueId, ValueId)> {
    let (x, r) = (*n.operands.first()?, *n.results.first()?);
    let free = matches!(n.op.kind, Kind::Move(Move::Reshape)) && g.ty(x).shape.is_static() && g.ty(r).shape.is_static();
    (free && g.ty(x).dtype == g.ty(r).dtype).then_some((x, r))
}

/// Single ops that were tried as kernels, with which operands are the kernel's arguments.
type Singles<'a> = HashMap<usize, (Verdict, &'a Vec<usize>)>;

/// Host ops by name and reason: how many, and their operations.
type HostOps = BTreeMap<(String, String), (usize, u64)>;

/// Most operations that are counted: loops in loops ask for any number, and sums of two must not overflow.
const MOST_FLOPS: u64 = 1 << 62;

/// What steps come to.
struct Totals {
    report: Report,
    host: HostOps,
}

struct Planner<'a> {
    program: &'a Program,
    main: &'a Graph,
    kernels: &'a Kernels<'a>,
    called: &'a BTreeMap<String, Verdict>,
    constant: &'a [bool],
    single: &'a Singles<'a>,
    branches: &'a HashMap<usize, [Block; 2]>,
    loops: &'a HashMap<usize, Steps>,
    plan: Plan,
    /// Buffer of each value, and of each weight.
    buffers: HashMap<ValueId, usize>,
    weights: HashMap<String, usize>,
    /// Index in the plan of each kernel that is launched.
    launched: HashMap<usize, usize>,
    host: HostOps,
}

impl Planner<'_> {
    fn block(&mut self, block: &Block) -> Result<(), Diagnostic> {
        block.nodes.iter().try_for_each(|&i| self.node(i))
    }
    fn node(&mut self, i: usize) -> Result<(), Diagnostic> {
        let n = &self.main.nodes[i];
        if n.op.name == "weight" {
            self.weight(n.attrs.str("name").unwrap_or_default(), n.results[0]);
        } else if let Some((x, r)) = free_reshape(self.main, n) {
            self.alias(x, r)?;
        } else if self.constant[i] {
            self.host(n, true, "")?;
        } else if let Some(branches) = self.branches.get(&i) {
            self.choice(n, branches)?;
        } else if let Some(steps) = self.loops.get(&i) {
            self.repeated(n, steps)?;
        } else if let Some(k) = n.attrs.func("callee").and_then(|f| self.called.get(f)) {
            // Refused calls were put in line.
            let k = *k.as_ref().map_err(|e| fault(e))?;
            self.launch(n, k, &n.operands)?;
        } else {
            match self.single.get(&i) {
                Some((Ok(k), args)) => {
                    let args: Vec<ValueId> = args.iter().map(|&a| n.operands[a]).collect();
                    self.launch(n, *k, &args)?;
                }
                Some((Err(why), _)) => self.host(n, false, why)?,
                None => self.host(n, false, "no kernel form")?,
            }
        }
        Ok(())
    }
    fn weight(&mut self, name: &str, v: ValueId) {
        if let Some(&b) = self.weights.get(name) {
            self.buffers.insert(v, b);
            return;
        }
        let b = self.fresh(v);
        self.weights.insert(name.into(), b);
        self.plan.weights.push((name.to_string(), b));
    }
    /// A step that runs one of two branches. The report counts the dearer one: a run takes at most that.
    fn choice(&mut self, n: &Node, branches: &[Block; 2]) -> Result<(), Diagnostic> {
        let cond = self.buffer(n.operands[0])?;
        let [(then, a), (otherwise, b)] = [self.apart(&branches[0])?, self.apart(&branches[1])?];
        let first = (a.report.device_flops.saturating_add(a.report.host_flops), a.report.launches)
            >= (b.report.device_flops.saturating_add(b.report.host_flops), b.report.launches);
        self.account(if first { a } else { b }, 1);
        let mut inputs = vec![cond];
        for b in [&then, &otherwise] {
            self.outside(b, &[], &mut inputs);
        }
        let outputs = n.results.iter().map(|&v| self.fresh(v)).collect();
        self.plan.run.push(PlanStep::If { inputs, then, otherwise, outputs });
        Ok(())
    }
    /// A step that repeats others. Its state starts as the values given, and each run hands it to the next.
    fn repeated(&mut self, n: &Node, steps: &Steps) -> Result<(), Diagnostic> {
        let form = &steps.form;
        let given: Vec<usize> = n.operands.iter().map(|&v| self.buffer(v)).collect::<Result<_, _>>()?;
        let states: Vec<usize> = steps.states.iter().map(|&v| self.fresh(v)).collect();
        let read: Vec<usize> = steps.rows.iter().map(|&v| self.fresh(v)).collect();
        let (body, report) = self.apart(&steps.block)?;
        self.account(report, form.trips as u64);
        let (next, kept) = body.results.split_at(form.carried);
        let states: Vec<State> =
            states.iter().zip(next).zip(&given).map(|((&buffer, &next), &start)| State { start, buffer, next }).collect();
        let wholes = &given[form.carried..form.carried + form.sliced];
        let rows: Vec<Row> = wholes.iter().zip(&read).zip(&form.reverse).map(|((&of, &row), &reverse)| Row { of, row, reverse }).collect();
        let stacks = kept.iter().zip(&form.reverse[form.sliced..]).map(|(&row, &reverse)| Stack { row, reverse }).collect();
        let mut inputs = vec![];
        for b in states.iter().map(|s| s.start).chain(rows.iter().map(|r| r.of)) {
            if !inputs.contains(&self.root(b)) {
                inputs.push(self.root(b));
            }
        }
        let own: Vec<usize> = states.iter().map(|s| s.buffer).chain(rows.iter().map(|r| r.row)).collect();
        self.outside(&body, &own, &mut inputs);
        let outputs = n.results.iter().map(|&v| self.fresh(v)).collect();
        self.plan.run.push(PlanStep::Loop { trips: form.trips, inputs, states, rows, stacks, steps: body.steps, outputs });
        Ok(())
    }
    /// Steps planned by themselves, with what they come to.
    fn apart(&mut self, block: &Block) -> Result<(Branch, Totals), Diagnostic> {
        let outer = (std::mem::take(&mut self.plan.run), std::mem::take(&mut self.plan.report), std::mem::take(&mut self.host));
        self.block(block)?;
        let results = block.results.iter().map(|&v| self.buffer(v)).collect::<Result<_, _>>()?;
        let steps = std::mem::replace(&mut self.plan.run, outer.0);
        let report = std::mem::replace(&mut self.plan.report, outer.1);
        let host = std::mem::replace(&mut self.host, outer.2);
        Ok((Branch { steps, results }, Totals { report, host }))
    }
    /// Adds what steps come to that run so many times.
    fn account(&mut self, t: Totals, times: u64) {
        let r = &mut self.plan.report;
        let more = |have: u64, each: u64| have.saturating_add(each.saturating_mul(times)).min(MOST_FLOPS);
        r.launches = r.launches.saturating_add(t.report.launches.saturating_mul(times as usize));
        (r.device_flops, r.host_flops) = (more(r.device_flops, t.report.device_flops), more(r.host_flops, t.report.host_flops));
        for (key, (count, flops)) in t.host {
            let e = self.host.entry(key).or_default();
            *e = (e.0 + count, e.1.saturating_add(flops.saturating_mul(times)));
        }
    }
    fn root(&self, b: usize) -> usize {
        self.plan.buffers[b].alias.unwrap_or(b)
    }
    /// Adds the buffers that steps read and that neither they nor `own` make.
    fn outside(&self, b: &Branch, own: &[usize], inputs: &mut Vec<usize>) {
        let root = |b: usize| self.root(b);
        let made: Vec<usize> = b.steps.iter().flat_map(PlanStep::outputs).chain(own).copied().collect();
        for r in b.steps.iter().flat_map(PlanStep::inputs).chain(&b.results).map(|&b| root(b)) {
            if !made.contains(&r) && !inputs.iter().any(|&i| root(i) == r) {
                inputs.push(r);
            }
        }
    }
    fn inputs(&mut self) {
        for p in &self.main.inputs {
            let buffer = self.fresh(p.value);
            self.plan.inputs.push(BufferPort { name: p.name.clone(), buffer });
        }
    }
    fn fresh(&mut self, v: ValueId) -> usize {
        self.plan.buffers.push(BufferDef { ty: self.main.ty(v).clone(), alias: None });
        self.buffers.insert(v, self.plan.buffers.len() - 1);
        self.plan.buffers.len() - 1
    }
    fn buffer(&self, v: ValueId) -> Result<usize, Diagnostic> {
        self.buffers.get(&v).copied().ok_or_else(|| fault(&format!("%{} is used before it is made", v.0)))
    }
    fn alias(&mut self, x: ValueId, r: ValueId) -> Result<(), Diagnostic> {
        let from = self.buffer(x)?;
        let root = self.plan.buffers[from].alias.unwrap_or(from);
        let b = self.fresh(r);
        self.plan.buffers[b].alias = Some(root);
        Ok(())
    }
    fn launch(&mut self, n: &Node, kernel: usize, args: &[ValueId]) -> Result<(), Diagnostic> {
        let inputs = args.iter().map(|&v| self.buffer(v)).collect::<Result<_, _>>()?;
        let outputs = n.results.iter().map(|&v| self.fresh(v)).collect();
        let next = self.launched.len();
        let index = *self.launched.entry(kernel).or_insert(next);
        self.plan.run.push(PlanStep::Launch { kernel: index, inputs, outputs });
        let spec = &self.kernels.all[kernel].0;
        let r = &mut self.plan.report;
        r.launches = r.launches.saturating_add(1);
        r.device_flops = r.device_flops.saturating_add(spec.flops());
        Ok(())
    }
    fn host(&mut self, n: &Node, load: bool, why: &str) -> Result<(), Diagnostic> {
        let inputs = n.operands.iter().map(|&v| self.buffer(v)).collect::<Result<_, _>>()?;
        let outputs = n.results.iter().map(|&v| self.fresh(v)).collect();
        for a in n.attrs.0.values() {
            if let Attr::Func(f) = a {
                self.function(f);
            }
        }
        let step = PlanStep::Host { op: n.op, attrs: n.attrs.clone(), inputs, outputs, origin: n.origin.clone() };
        if load {
            self.plan.load.push(step);
            return Ok(());
        }
        self.plan.run.push(step);
        let flops = flops::of_node(self.program, self.main, n);
        self.plan.report.host_flops = self.plan.report.host_flops.saturating_add(flops);
        let entry = self.host.entry((n.op.name.to_string(), why.to_string())).or_default();
        *entry = (entry.0 + 1, entry.1.saturating_add(flops));
        Ok(())
    }
    /// Keeps a function that a host step calls, with what it calls and the weights it reads.
    fn function(&mut self, name: &str) {
        let Some(g) = self.program.functions.get(name) else { return };
        if self.plan.functions.insert(name.to_string(), g.clone()).is_some() {
            return;
        }
        for n in &g.nodes {
            if n.op.name == "weight" {
                let w = n.attrs.str("name").unwrap_or_default();
                if !self.weights.contains_key(w) {
                    self.plan.buffers.push(BufferDef { ty: g.ty(n.results[0]).clone(), alias: None });
                    self.weights.insert(w.into(), self.plan.buffers.len() - 1);
                    self.plan.weights.push((w.to_string(), self.plan.buffers.len() - 1));
                }
            }
            for a in n.attrs.0.values() {
                if let Attr::Func(f) = a {
                    self.function(f);
                }
            }
        }
    }
    /// The plan, and which kernels it launches.
    fn finish(mut self, top: &Block) -> Result<(Plan, HashMap<usize, usize>), Diagnostic> {
        for (o, &v) in self.main.outputs.iter().zip(&top.results) {
            let buffer = self.buffer(v)?;
            self.plan.outputs.push(BufferPort { name: o.name.clone(), buffer });
        }
        let host = self.host.into_iter();
        self.plan.report.host_ops = host.map(|((op, reason), (count, flops))| HostOp { op, count, flops, reason }).collect();
        self.plan.report.host_ops.sort_by_key(|h| std::cmp::Reverse(h.flops));
        Ok((self.plan, self.launched))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tahoma_codegen::ptx::PtxKernel;
    use tahoma_core::escape::Ident;

    fn draft((lines, predicted_ns): (usize, f64)) -> Draft {
        let (name, mlir) = (Ident::of("k"), "x\n".repeat(lines));
        Draft::Ptx(PtxKernel { name, mlir, grid: [1; 3], block: [1; 3], shared_bytes: 0, predicted_ns })
    }

    /// Of equals the first; what has no room makes none for the next.
    #[test]
    fn llvm_optimises_the_dearest_kernels_that_there_is_room_for() {
        let all: Vec<Draft> = [(30, 1.0), (50, 9.0), (40, 5.0), (10, 1.0), (10, 1.0)].into_iter().map(draft).collect();
        let drafts: Vec<Option<&Draft>> = all.iter().map(Some).chain([None]).collect();
        let full = |mut room: usize| {
            let efforts = efforts(&drafts, &mut room);
            (0..efforts.len()).filter(|&i| efforts[i] == Effort::Full).collect::<Vec<_>>()
        };
        // 140 lines; the rest pays for seven times the lines of each that is optimised.
        assert_eq!(full(140 * 8), [0, 1, 2, 3, 4]);
        assert_eq!(full(140 + 100 * 7), [1, 2, 3]);
        assert_eq!(full(140 + 45 * 7), [2]);
        assert_eq!(full(140), [0usize; 0]);
        assert_eq!(full(0), [0usize; 0]);
    }
}
