//! PTX kernels on the emulator: one pointer per input, then per output, as the CUDA driver would launch them.

use crate::device::{Block, Device, LaunchStats};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tahoma_core::Diagnostic;
use tahoma_core::artifact::KernelDef;
use tahoma_core::launches::LaunchTimes;
use tahoma_machine::gpu::{self, Chip, Counts, Launch};
use tahoma_sim::ptx::{Arg, Memory, MemoryError, Module, Options, launch};

/// A launch as a GPU's clock sees it.
#[derive(Clone, Debug)]
pub struct Launched {
    /// Of the kernel: its name, and the hash of its text.
    pub kernel: String,
    pub sha256: String,
    pub launch: Launch,
    pub counts: Counts,
}

/// What is counted of launches.
#[derive(Default)]
enum Profile {
    #[default]
    None,
    /// How long a GPU would take, where its chip was measured.
    Time,
    Log(Arc<Mutex<Vec<Launched>>>),
}

#[derive(Default)]
pub struct PtxEmu {
    memory: Memory,
    kernels: Vec<(KernelDef, Arc<Module>)>,
    profile: Profile,
}

impl PtxEmu {
    /// An emulator that says how long an H100 would take for kernels of sm_90 and sm_90a, by the clock of `tahoma_machine::gpu`.
    pub fn timed() -> PtxEmu {
        PtxEmu { profile: Profile::Time, ..PtxEmu::default() }
    }
    /// An emulator that writes each launch down, in order.
    pub fn logged(into: Arc<Mutex<Vec<Launched>>>) -> PtxEmu {
        PtxEmu { profile: Profile::Log(into), ..PtxEmu::default() }
    }
}

fn memory_fault(e: MemoryError) -> Diagnostic {
    Diagnostic::error("E0603", format!("device memory: {e}")).caused_by(e)
}

/// Warp instructions that a kernel has for sure, whatever it says.
const LEAST_BUDGET: u64 = 10_000_000;

/// Warp instructions that a kernel of `code` instructions may run: each four times for every point of its loops and every warp, which no
/// kernel of ours comes near. What loops beyond that was edited, or is wrong; it is stopped while somebody still waits.
fn budget(k: &KernelDef, code: usize) -> u64 {
    let size = |d: [u32; 3]| d.iter().fold(1u64, |n, &e| n.saturating_mul(u64::from(e)));
    let warps = size(k.grid).saturating_mul(size(k.block).div_ceil(32));
    let passes = k.spec.points().saturating_add(warps).saturating_mul(4);
    passes.saturating_mul(code as u64).saturating_add(LEAST_BUDGET).min(Options::default().budget)
}

impl Device for PtxEmu {
    fn name(&self) -> &'static str {
        "ptx-emu"
    }
    fn launch_times(&self) -> LaunchTimes {
        if matches!(self.profile, Profile::Time) { gpu::LAUNCHES } else { LaunchTimes::default() }
    }
    fn load(&mut self, kernels: &[KernelDef], text: &[String]) -> Result<(), Diagnostic> {
        let mut modules: BTreeMap<&str, Arc<Module>> = BTreeMap::new();
        for (k, t) in kernels.iter().zip(text) {
            if !modules.contains_key(&*k.file) {
                let m = Module::parse(t, &k.file).map_err(|e| Diagnostic::error("E0605", e.to_string()).caused_by(e))?;
                modules.insert(&k.file, Arc::new(m));
            }
            let m = &modules[&*k.file];
            let want = k.spec.inputs.len() + k.spec.outputs.len();
            let have = m.kernel(&k.name).map(|e| e.params.len());
            if have != Some(want) {
                let why = have.map_or("is not there".into(), |n| format!("takes {n} parameters, not {want}"));
                return Err(Diagnostic::error("E0605", format!("{}: entry {} {why}", k.file, k.name)));
            }
            self.kernels.push((k.clone(), m.clone()));
        }
        Ok(())
    }
    fn alloc(&mut self, bytes: usize) -> Result<Block, Diagnostic> {
        crate::device::room(bytes)?;
        let name = format!("block of {bytes} bytes");
        self.memory.alloc(&name, bytes as u64).map(Block).map_err(memory_fault)
    }
    fn upload(&mut self, block: Block, bytes: &[u8]) -> Result<(), Diagnostic> {
        self.memory.write(block.0, bytes).map_err(memory_fault)
    }
    fn download(&mut self, block: Block, bytes: usize) -> Result<Vec<u8>, Diagnostic> {
        // A byte that no kernel wrote is a fault, not a zero.
        Ok(self.memory.read(block.0, bytes as u64).map_err(memory_fault)?.to_vec())
    }
    fn copy(&mut self, from: Block, to: Block, bytes: usize) -> Result<(), Diagnostic> {
        let moved = self.download(from, bytes)?;
        self.upload(to, &moved)
    }
    fn free(&mut self, block: Block) {
        // Freeing what alloc returned cannot fail.
        let _ = self.memory.free(block.0);
    }
    fn launch(&mut self, kernel: usize, inputs: &[Block], outputs: &[Block]) -> Result<LaunchStats, Diagnostic> {
        let (k, module) = &self.kernels[kernel];
        let args: Vec<Arg> = inputs.iter().chain(outputs).map(|b| Arg::Ptr(b.0)).collect();
        let budget = budget(k, module.kernel(&k.name).map_or(0, |e| e.instructions()));
        let options = Options { profile: !matches!(self.profile, Profile::None), budget, ..Options::default() };
        let stats = launch(module, &k.name, k.grid, k.block, k.shared_bytes, &args, &mut self.memory, &options)
            .map_err(|e| Diagnostic::error("E0603", e.to_string()).at((*k.origin).clone()).caused_by(e))?;
        let size = |d: [u32; 3]| d.iter().map(|&n| u64::from(n)).product();
        let fixed = module.kernel(&k.name).map_or(0, |e| e.static_shared);
        let taken = Launch { blocks: size(k.grid), threads: size(k.block), shared_bytes: fixed + u64::from(k.shared_bytes) };
        let instructions = stats.instructions();
        let device_ns = match &self.profile {
            Profile::None => 0.0,
            Profile::Time => Chip::of_target(&module.target).map_or(0.0, |c| c.ns(&taken, &stats.counts)),
            Profile::Log(all) => {
                let row = Launched { kernel: k.name.to_string(), sha256: k.sha256.to_string(), launch: taken, counts: stats.counts };
                all.lock().unwrap_or_else(|e| e.into_inner()).push(row);
                0.0
            }
        };
        Ok(LaunchStats { device_ns, instructions })
    }
}
