//! Whether a manifest is consistent in itself. Everything that the runner and the devices rely on is proved here, from the manifest
//! alone, before a byte is allocated or a kernel is loaded:
//!
//! ```text
//! sizes      every static buffer has a number of bytes that an address counts
//! plan       each buffer is made once, before it is read; what a branch makes is seen in that branch only
//! kernels    the spec is sound (`kernel_check`), and each launch gives it buffers of its types
//! launches   blocks and threads are what a GPU takes, and no more blocks than the kernel has elements to write
//! recipes    each op on the host takes its operands and gives results of its buffers' types, as the op table infers them
//! functions  programs of their own, sound, with the weights they name
//! ```

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tahoma_core::artifact::{Branch, KernelDef, Manifest, PlanStep, State};
use tahoma_core::{DType, Diagnostic, Node, Program, Tensor, TensorType, kernel_check, verify};

/// Deepest nesting of branches and loops. A manifest nests four levels of JSON for each, of which its reader takes 128.
pub const MAX_DEPTH: usize = 24;

/// Most runs of a step, by all loops around it.
const MAX_RUNS: u64 = 1 << 28;

/// What a launch may ask of any chip that we emit for (CUDA C++ Programming Guide, "Technical Specifications per Compute Capability").
const MOST_THREADS: u64 = 1024;
const MOST_BLOCK: [u32; 3] = [1024, 1024, 64];
const MOST_GRID: [u32; 3] = [i32::MAX as u32, 65535, 65535];
/// Shared memory that a block may have at most, in bytes.
const MOST_SHARED: u32 = 227 << 10;

pub(crate) fn malformed(why: impl Into<String>) -> Diagnostic {
    Diagnostic::error("E0605", why)
}

/// Checks a manifest. E0605 with what is wrong in it.
pub fn check(m: &Manifest) -> Result<(), Diagnostic> {
    buffers(m)?;
    let mut program = Program { functions: m.functions.clone() };
    program
        .functions
        .entry(Program::MAIN.into())
        .or_insert_with(|| tahoma_core::Graph { name: Program::MAIN.into(), ..Default::default() });
    functions(m, &program)?;
    m.kernels.iter().try_for_each(|k| kernel(&m.target, k))?;
    let mut c = Checker { m, program: &program, made: vec![false; m.buffers.len()], constants: HashMap::new(), runs: 1 };
    for w in &m.weights {
        c.make(w.buffer, "a weight")?;
    }
    if m.load.iter().any(|s| !matches!(s, PlanStep::Host { .. })) {
        return Err(malformed("a launch or a branch among the load steps"));
    }
    c.steps(&m.load, 0)?;
    for p in &m.inputs {
        c.make(p.buffer, "an input")?;
    }
    c.steps(&m.run, 0)?;
    m.outputs.iter().try_for_each(|p| c.read(p.buffer, &format!("output {:?}", p.name)))
}

/// Each name once.
fn once<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<(), Diagnostic> {
    let mut seen = HashSet::new();
    for n in names {
        if !seen.insert(n) {
            return Err(malformed(format!("{what} {n:?} is there twice")));
        }
    }
    Ok(())
}

fn buffers(m: &Manifest) -> Result<(), Diagnostic> {
    for (i, b) in m.buffers.iter().enumerate() {
        let counted = b.ty.bytes().is_some_and(|n| isize::try_from(n).is_ok()) && strides_fit(&b.ty);
        if b.ty.shape.is_static() && !counted {
            return Err(malformed(format!("buffer {i} is {}, which has more bytes than an address counts", b.ty)));
        }
        if let Some(a) = b.alias {
            let Some(root) = m.buffers.get(a) else {
                return Err(malformed(format!("buffer {i} is a view of buffer {a}, which is not there")));
            };
            if root.alias.is_some() || root.ty.dtype != b.ty.dtype || root.ty.bytes().is_none() || root.ty.bytes() != b.ty.bytes() {
                return Err(malformed(format!("buffer {i} is no other view of buffer {a}")));
            }
        }
    }
    once("input", m.inputs.iter().map(|p| &*p.name))?;
    once("weight", m.weights.iter().map(|w| &*w.name))?;
    for w in &m.weights {
        let Some(b) = m.buffers.get(w.buffer) else { return Err(malformed(format!("weight {:?} names buffer {}", w.name, w.buffer))) };
        if b.ty.bytes() != Some(w.bytes) {
            return Err(malformed(format!("weight {:?} has {} bytes, which is no {}", w.name, w.bytes, b.ty)));
        }
    }
    match m.vocabulary.outputs.iter().find(|o| m.outputs.iter().all(|p| p.name != **o)) {
        Some(o) => Err(malformed(format!("output {o:?} is text, but there is no such output"))),
        None => Ok(()),
    }
}

/// An extent of 0 does not excuse the others: strides are made of them.
fn strides_fit(t: &TensorType) -> bool {
    let all = t.shape.0.iter().try_fold(1u64, |n, d| n.checked_mul(d.known()?.max(1)));
    all.is_some_and(|n| n <= isize::MAX as u64 / 8)
}

fn functions(m: &Manifest, program: &Program) -> Result<(), Diagnostic> {
    verify::verify_program(program).map_err(|d| {
        let first = d.0.into_iter().next().unwrap_or_else(|| malformed("a function is wrong"));
        Diagnostic { code: "E0605".into(), ..first }
    })?;
    let types: HashMap<&str, &TensorType> = m.weights.iter().map(|w| (&*w.name, &m.buffers[w.buffer].ty)).collect();
    for g in m.functions.values() {
        for n in g.nodes.iter().filter(|n| n.op.name == "weight") {
            let name = n.attrs.str("name").unwrap_or_default();
            if types.get(name) != n.results.first().map(|&r| g.ty(r)).as_ref() {
                return Err(malformed(format!("@{} reads a weight {name:?} that is not there or of another type", g.name)));
            }
        }
    }
    Ok(())
}

fn kernel(target: &str, k: &KernelDef) -> Result<(), Diagnostic> {
    let wrong = |why: String| Err(malformed(format!("kernel {:?}: {why}", k.name)).at((*k.origin).clone()));
    let word = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !word(&k.name) {
        return wrong("its name is no identifier".into());
    }
    if let Err(e) = kernel_check::check(&k.spec) {
        return wrong(e.to_string());
    }
    if !target.starts_with("sm_") {
        return Ok(());
    }
    let product = |d: [u32; 3]| d.iter().fold(1u64, |n, &x| n.saturating_mul(x.into()));
    let within = |d: [u32; 3], most: [u32; 3]| d.iter().zip(most).all(|(&x, most)| (1..=most).contains(&x));
    if !within(k.grid, MOST_GRID) || !within(k.block, MOST_BLOCK) || product(k.block) > MOST_THREADS || k.shared_bytes > MOST_SHARED {
        return wrong(format!(
            "no GPU runs blocks of {:?} threads in a grid of {:?} with {} bytes shared",
            k.block, k.grid, k.shared_bytes
        ));
    }
    let elements: u64 = k.spec.outputs.iter().filter_map(|t| t.shape.elements()).sum();
    if product(k.grid) > elements {
        return wrong(format!("{} blocks for {elements} elements", product(k.grid)));
    }
    Ok(())
}

struct Checker<'a> {
    m: &'a Manifest,
    program: &'a Program,
    /// Which roots have a value.
    made: Vec<bool>,
    /// Values of constants, by buffer: result types may depend on them.
    constants: HashMap<usize, &'a Arc<Tensor>>,
    /// How often the steps at hand run: the loops around them.
    runs: u64,
}

impl<'a> Checker<'a> {
    fn root(&self, b: usize) -> usize {
        self.m.buffers[b].alias.unwrap_or(b)
    }
    fn known(&self, b: usize, what: &str) -> Result<(), Diagnostic> {
        let count = self.m.buffers.len();
        if b < count { Ok(()) } else { Err(malformed(format!("{what} names buffer {b} of {count}"))) }
    }
    fn make(&mut self, b: usize, what: &str) -> Result<(), Diagnostic> {
        self.known(b, what)?;
        if self.m.buffers[b].alias.is_some() || std::mem::replace(&mut self.made[b], true) {
            return Err(malformed(format!("buffer {b} is made twice")));
        }
        Ok(())
    }
    fn read(&self, b: usize, what: &str) -> Result<(), Diagnostic> {
        self.known(b, what)?;
        if self.made[self.root(b)] { Ok(()) } else { Err(malformed(format!("{what} reads buffer {b} before it is made"))) }
    }
    fn ty(&self, b: usize) -> &'a TensorType {
        &self.m.buffers[b].ty
    }

    /// Steps in order: each buffer is made once, before it is read.
    fn steps(&mut self, steps: &'a [PlanStep], depth: usize) -> Result<(), Diagnostic> {
        if depth > MAX_DEPTH {
            return Err(malformed(format!("branches are nested more than {MAX_DEPTH} deep")));
        }
        for s in steps {
            s.inputs().iter().try_for_each(|&b| self.read(b, "a step"))?;
            if let PlanStep::If { inputs, then, otherwise, outputs } = s {
                let cond = inputs.first().map(|&b| self.ty(b));
                if cond.is_none_or(|t| t.dtype != DType::Bool || t.shape.elements().is_some_and(|n| n != 1)) {
                    return Err(malformed("a branch without one bool to decide it"));
                }
                for branch in [then, otherwise] {
                    self.branch(branch, inputs, outputs, depth)?;
                }
            }
            if let PlanStep::Loop { .. } = s {
                self.repeat(s, depth)?;
            }
            for &b in s.outputs() {
                self.make(b, "a step")?;
            }
            match s {
                PlanStep::Launch { kernel, inputs, outputs } => self.launch(*kernel, inputs, outputs)?,
                PlanStep::Host { .. } => self.host(s)?,
                PlanStep::If { .. } | PlanStep::Loop { .. } => {}
            }
        }
        Ok(())
    }

    /// What the step does not list is not there; what was made outside is not made again; what is made here is gone afterwards.
    fn branch(&mut self, branch: &'a Branch, inputs: &[usize], outputs: &[usize], depth: usize) -> Result<(), Diagnostic> {
        self.steps(&branch.steps, depth + 1)?;
        branch.results.iter().try_for_each(|&b| self.read(b, "a branch"))?;
        let own: HashSet<usize> = branch.steps.iter().flat_map(PlanStep::outputs).copied().collect();
        let given: HashSet<usize> = inputs.iter().map(|&b| self.root(b)).collect();
        let reads = branch.steps.iter().flat_map(PlanStep::inputs).chain(&branch.results).map(|&b| self.root(b));
        if reads.into_iter().any(|b| !own.contains(&b) && !given.contains(&b)) {
            return Err(malformed("a branch reads a buffer that its step does not name"));
        }
        outputs.iter().try_for_each(|&b| self.known(b, "a step"))?;
        let fits = |(&o, &r): (&usize, &usize)| verify::fits(self.ty(o), self.ty(r));
        if branch.results.len() != outputs.len() || !outputs.iter().zip(&branch.results).all(fits) {
            return Err(malformed("a branch gives other results than its step"));
        }
        own.into_iter().for_each(|b| self.made[b] = false);
        Ok(())
    }

    /// State keeps its type, rows are rows, and the steps see only what the loop lists and what it makes.
    fn repeat(&mut self, s: &'a PlanStep, depth: usize) -> Result<(), Diagnostic> {
        let PlanStep::Loop { trips, inputs, states, rows, stacks, steps, outputs } = s else { return Ok(()) };
        let outside = self.runs;
        self.runs = outside.saturating_mul((*trips as u64).max(1));
        if *trips as u64 > tahoma_core::ops::scan::MAX_TRIPS || self.runs > MAX_RUNS {
            return Err(malformed(format!("a loop of {trips} runs, {} with those around it", self.runs)));
        }
        let given: HashSet<usize> = inputs.iter().map(|&b| self.root(b)).collect();
        let listed = |c: &Checker, b: usize, what: &str| {
            c.known(b, what)?;
            if given.contains(&c.root(b)) { Ok(()) } else { Err(malformed(format!("{what} is buffer {b}, which the loop does not name"))) }
        };
        let mut own: HashSet<usize> = steps.iter().flat_map(PlanStep::outputs).copied().collect();
        for s in states {
            listed(self, s.start, "the start of a state")?;
            self.make(s.buffer, "a loop")?;
            own.insert(s.buffer);
        }
        for r in rows {
            listed(self, r.of, "what rows are taken of")?;
            self.make(r.row, "a loop")?;
            own.insert(r.row);
        }
        self.steps(steps, depth + 1)?;
        let results: Vec<usize> = states.iter().map(|s| s.next).chain(stacks.iter().map(|s| s.row)).collect();
        results.iter().try_for_each(|&b| self.read(b, "a loop"))?;
        let mut seen = steps.iter().flat_map(PlanStep::inputs).chain(&results).map(|&b| self.root(b));
        if seen.any(|b| !own.contains(&b) && !given.contains(&b)) {
            return Err(malformed("a loop reads a buffer that its step does not name"));
        }
        if outputs.len() != results.len() {
            return Err(malformed("a loop gives other results than its step"));
        }
        outputs.iter().try_for_each(|&b| self.known(b, "a loop"))?;
        let size = |b: usize| (self.ty(b).dtype, self.ty(b).bytes());
        let same = |a: usize, b: usize| size(a) == size(b) && size(a).1.is_some();
        let kept = |s: (&State, &usize)| [s.0.start, s.0.next, *s.1].iter().all(|&b| same(b, s.0.buffer));
        if !states.iter().zip(outputs).all(kept) {
            return Err(malformed("a state changes its type"));
        }
        // Rows lie one after the other, so a row must be whole bytes.
        let is_row = |row: usize, of: usize| {
            let (r, w) = (self.ty(row), self.ty(of));
            let all = r.bytes().and_then(|n| n.checked_mul(*trips as u64));
            let whole = r.shape.elements().is_some_and(|n| n.checked_mul(r.dtype.bits() as u64).is_some_and(|bits| bits % 8 == 0));
            let extent = w.shape.0.first().and_then(|d| d.known());
            r.dtype == w.dtype && whole && all.is_some() && all == w.bytes() && extent == Some(*trips as u64)
        };
        let piles = stacks.iter().map(|s| s.row).zip(outputs[states.len()..].iter().copied());
        if !rows.iter().map(|r| (r.row, r.of)).chain(piles).all(|(r, w)| is_row(r, w)) {
            return Err(malformed("a row that is none of its whole"));
        }
        own.into_iter().for_each(|b| self.made[b] = false);
        self.runs = outside;
        Ok(())
    }

    fn launch(&self, kernel: usize, inputs: &[usize], outputs: &[usize]) -> Result<(), Diagnostic> {
        let k = self.m.kernels.get(kernel);
        let k = k.ok_or_else(|| malformed(format!("a step launches kernel {kernel} of {}", self.m.kernels.len())))?;
        let fits = |bufs: &[usize], types: &[TensorType]| {
            let same = |(&b, t): (&usize, &TensorType)| {
                let have = self.ty(b);
                have.dtype == t.dtype && have.bytes().is_some() && have.bytes() == t.bytes() && have.shape.elements() == t.shape.elements()
            };
            bufs.len() == types.len() && bufs.iter().zip(types).all(same)
        };
        if !fits(inputs, &k.spec.inputs) || !fits(outputs, &k.spec.outputs) {
            return Err(malformed(format!("a launch of {} with buffers of other types", k.name)));
        }
        Ok(())
    }

    fn host(&mut self, s: &'a PlanStep) -> Result<(), Diagnostic> {
        let PlanStep::Host { op, attrs, inputs, outputs, origin } = s else { return Ok(()) };
        let operands: Vec<TensorType> = inputs.iter().map(|&b| self.ty(b).clone()).collect();
        let results: Vec<&TensorType> = outputs.iter().map(|&b| self.ty(b)).collect();
        // A constant under another shape is another value; only its own buffer is known.
        let known: Vec<Option<&Tensor>> = inputs.iter().map(|b| self.constants.get(b).map(|t| &***t)).collect();
        let node = Node { op: *op, operands: vec![], attrs: attrs.clone(), results: vec![], origin: origin.clone() };
        match verify::verify_node(self.program, &node, &operands, &results, &known) {
            // The types of what values decide are looked at when the values are there.
            Err(d) if d.code == "E0209" => {}
            Err(d) => return Err(Diagnostic { code: "E0605".into(), ..d }.at((**origin).clone())),
            Ok(()) => {}
        }
        if op.name == "weight" {
            return Err(malformed("a weight among the steps"));
        }
        if let ("constant", Some(t), [b]) = (op.name, attrs.tensor("value"), &outputs[..]) {
            self.constants.insert(*b, t);
        }
        Ok(())
    }
}
