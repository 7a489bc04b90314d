//! Trainium2 kernels on the NeuronCore simulator: NKI text in, values and predicted time out.

use crate::device::{Block, Device, HostMemory, LaunchStats, bytes_of, extents};
use tahoma_core::artifact::KernelDef;
use tahoma_core::launches::LaunchTimes;
use tahoma_core::{DType, Diagnostic, TensorType};
use tahoma_machine::roofline;
use tahoma_machine::trn2::{Program, parse::parse, program::Param, program::Stmt};
use tahoma_sim::nki::{HbmTensor, Options, simulate};

#[derive(Default)]
pub struct Trn2Sim {
    memory: HostMemory,
    kernels: Vec<(KernelDef, Program)>,
}

/// NKI has no bool tensors: they are bytes.
fn hbm_type(d: DType) -> DType {
    if d == DType::Bool { DType::U8 } else { d }
}

/// NKI tensors have a rank of at least one.
fn hbm_shape(s: Vec<usize>) -> Vec<usize> {
    if s.is_empty() { vec![1] } else { s }
}

/// Instructions that a kernel has for sure, whatever it says.
const LEAST_BUDGET: u64 = 1_000_000;

/// Instructions of a text, and those that run: loops say how often.
fn instructions(body: &[Stmt]) -> (u64, u64) {
    body.iter().fold((0, 0), |(text, run), s| match s {
        Stmt::For { count, body, .. } => {
            let (t, r) = instructions(body);
            (text + t, r.max(1).saturating_mul(*count as u64).saturating_add(run))
        }
        Stmt::Instr(_) => (text + 1, run.saturating_add(1)),
        Stmt::Alloc { .. } | Stmt::Comment(_) => (text, run),
    })
}

/// Each instruction of a kernel's text may run four times for every point of its loops, which no kernel of ours comes near. E0605.
fn check_work(k: &KernelDef, p: &Program) -> Result<(), Diagnostic> {
    let (text, run) = instructions(&p.body);
    let most = k.spec.points().saturating_mul(4).saturating_mul(text).saturating_add(LEAST_BUDGET);
    if run <= most {
        return Ok(());
    }
    Err(Diagnostic::error("E0605", format!("{}: {run} instructions would run, where the work of {} explains {most}", k.file, p.name)))
}

impl Device for Trn2Sim {
    fn name(&self) -> &'static str {
        "trn2-sim"
    }
    fn launch_times(&self) -> LaunchTimes {
        roofline::TRN2.launches
    }
    fn load(&mut self, kernels: &[KernelDef], text: &[String]) -> Result<(), Diagnostic> {
        let mut out = vec![];
        for (k, t) in kernels.iter().zip(text) {
            let p = parse(t).map_err(|e| Diagnostic::error("E0605", format!("{}: {e}", k.file)).caused_by(e))?;
            let same = |(p, t): (&Param, &TensorType)| extents(t).is_ok_and(|s| p.dtype == hbm_type(t.dtype) && p.shape == hbm_shape(s));
            if p.params.len() != k.spec.inputs.len() || !p.params.iter().zip(&k.spec.inputs).all(same) {
                return Err(Diagnostic::error("E0605", format!("{}: {} takes other tensors than the manifest says", k.file, p.name)));
            }
            if p.returns.len() != k.spec.outputs.len() {
                return Err(Diagnostic::error("E0605", format!("{}: {} returns {} tensors", k.file, p.name, p.returns.len())));
            }
            check_work(k, &p)?;
            out.push((k.clone(), p));
        }
        self.kernels = out;
        Ok(())
    }
    fn alloc(&mut self, bytes: usize) -> Result<Block, Diagnostic> {
        self.memory.alloc(bytes)
    }
    fn upload(&mut self, block: Block, bytes: &[u8]) -> Result<(), Diagnostic> {
        self.memory.put(block, bytes)
    }
    fn download(&mut self, block: Block, bytes: usize) -> Result<Vec<u8>, Diagnostic> {
        Ok(self.memory.get(block, bytes)?.to_vec())
    }
    fn copy(&mut self, from: Block, to: Block, bytes: usize) -> Result<(), Diagnostic> {
        self.memory.copy(from, to, bytes)
    }
    fn free(&mut self, block: Block) {
        self.memory.free(block);
    }
    fn launch(&mut self, kernel: usize, inputs: &[Block], outputs: &[Block]) -> Result<LaunchStats, Diagnostic> {
        let (k, program) = &self.kernels[kernel];
        let mut args = vec![];
        for (b, t) in inputs.iter().zip(&k.spec.inputs) {
            let shape = hbm_shape(extents(t)?);
            args.push(HbmTensor::new(hbm_type(t.dtype), &shape, self.memory.get(*b, bytes_of(t)?)?));
        }
        let fault = |m: String| Diagnostic::error("E0603", m).at((*k.origin).clone()).note(format!("kernel text: {}", k.file));
        let out = simulate(program, &args, &Options::default()).map_err(|e| fault(e.to_string()).caused_by(e))?;
        for w in &out.warnings {
            tracing::warn!(kernel = k.name, "{w}");
        }
        if out.outputs.len() != outputs.len() {
            return Err(fault(format!("kernel {} returned {} tensors", k.name, out.outputs.len())));
        }
        let instructions = out.timeline.instructions.values().sum();
        for ((b, t), want) in outputs.iter().zip(out.outputs).zip(&k.spec.outputs) {
            if t.dtype != hbm_type(want.dtype) {
                return Err(fault(format!("kernel {} returned {} for {want}", k.name, t.dtype)));
            }
            if Some(t.data.len() as u64) != want.bytes() {
                return Err(fault(format!("kernel {} returned {} bytes for {want}", k.name, t.data.len())));
            }
            self.memory.put(*b, &t.data)?;
        }
        Ok(LaunchStats { device_ns: out.timeline.total_ns, instructions })
    }
}
