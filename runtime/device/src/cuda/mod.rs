//! An Nvidia GPU through the CUDA driver, which is loaded when it is asked for: nothing here is linked, so the same binary runs
//! where there is no driver and says so.
//!
//! ```text
//! load   kernels together on all cores; one allocation for all that the plan has on the card at once
//! run    copies and launches in the order of the plan, nothing waits     ──▶  one wait, then the times between events
//! ```
//!
//! [`errors`] says of each of the driver's error codes what helps, [`chip`] which card runs what.

pub mod chip;
mod driver;
pub mod errors;

pub use driver::CudaError;

use crate::arena::Arena;
use crate::device::{Block, Device, Finished, LaunchStats};
use driver::{Event, Gpu, Memory, Module, refuse};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tahoma_core::Diagnostic;
use tahoma_core::artifact::KernelDef;
use tahoma_sim::ptx::Arg;

/// Which card, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Counting from 0 among the visible cards.
    pub index: u32,
    /// The driver library, if not the system's.
    pub library: Option<PathBuf>,
    /// Cubins by the SHA-256 of the PTX they were made from: what has one here is not compiled by the driver.
    pub cubins: Arc<BTreeMap<String, Vec<u8>>>,
    /// Two events around each launch (fewer where launches follow each other), which tell what each kernel took.
    pub timing: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { index: 0, library: None, cubins: Arc::default(), timing: true }
    }
}

/// What a card is.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Card {
    /// `NVIDIA H100 PCIe`
    pub name: String,
    /// (9, 0)
    pub capability: (i32, i32),
    /// The newest CUDA that the driver supports: `12.8`.
    pub cuda: String,
    pub memory_bytes: u64,
}

/// The card that [`open_with`] would open. E0604.
pub fn card(options: &Options) -> Result<Card, Diagnostic> {
    let gpu = Gpu::open(options.library.as_deref(), options.index).map_err(unavailable)?;
    let cuda = format!("{}.{}", gpu.version / 1000, gpu.version % 1000 / 10);
    Ok(Card { name: gpu.name.clone(), capability: gpu.capability, cuda, memory_bytes: gpu.memory })
}

fn unavailable(e: CudaError) -> Diagnostic {
    let remedy = e.remedy;
    let d = Diagnostic::error("E0604", format!("device cuda is not available: {e}")).caused_by(e);
    d.note(remedy).note("--device ptx-emu runs the same kernels on any machine")
}

/// Opens the first GPU. E0604 where there is no driver or no device.
pub fn open() -> Result<Box<dyn Device>, Diagnostic> {
    open_with(&Options::default())
}

/// Opens a GPU. E0604.
pub fn open_with(options: &Options) -> Result<Box<dyn Device>, Diagnostic> {
    let gpu = Gpu::open(options.library.as_deref(), options.index).map_err(unavailable)?;
    let clock = Clock { on: options.timing, ..Clock::default() };
    Ok(Box::new(Cuda { kernels: vec![], clock, chunks: vec![], cubins: options.cubins.clone(), gpu }))
}

fn failed(e: CudaError) -> Diagnostic {
    let code = match errors::find(e.code) {
        Some(r) => r.diagnostic,
        None if e.call == "dlopen" => "E0604",
        None => "E0603",
    };
    let remedy = e.remedy;
    let log: Vec<String> = e.log.iter().map(|l| format!("the driver's compiler: {l}")).collect();
    let mut d = Diagnostic::error(code, format!("device cuda: {e}")).caused_by(e);
    d.notes.extend(log);
    d.note(remedy)
}

/// A card as a device of the runner: kernels take one pointer per input, then one per output.
struct Cuda {
    // What is on the card goes before the card.
    kernels: Vec<(KernelDef, Arc<Module>)>,
    clock: Clock,
    /// Memory with what is in use of it: one piece, unless a plan needed more than was foreseen.
    chunks: Vec<(Memory, Arena)>,
    cubins: Arc<BTreeMap<String, Vec<u8>>>,
    gpu: Arc<Gpu>,
}

impl Cuda {
    /// The piece of memory that an address is in, and where in it.
    fn place(&self, call: &'static str, b: Block) -> Result<(&Memory, u64), Diagnostic> {
        let inside = |m: &&(Memory, Arena)| b.0 >= m.0.address && b.0 - m.0.address < m.0.bytes;
        let found = self.chunks.iter().find(inside).map(|m| (&m.0, b.0 - m.0.address));
        found.ok_or_else(|| failed(refuse(call, format!("{:#x} is no block", b.0), "use blocks of this device")))
    }

    /// Which kernels may have made an error that is told late.
    fn suspects(&self, mut d: Diagnostic) -> Diagnostic {
        let mut names: Vec<&str> = vec![];
        for &(k, ..) in &self.clock.launched {
            let name = self.kernels[k].0.name.as_str();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if !names.is_empty() {
            let more = if names.len() > 8 { ", …" } else { "" };
            names.truncate(8);
            d.notes.push(format!("launched since the last wait: {}{more}", names.join(", ")));
        }
        d
    }
}

impl Device for Cuda {
    fn name(&self) -> &'static str {
        "cuda"
    }

    fn accepts(&self, target: &str) -> Result<(), Diagnostic> {
        let (name, card) = (&self.gpu.name, self.gpu.capability);
        if chip::runs(target, card) {
            return Ok(());
        }
        let d = Diagnostic::error("E0611", format!("kernels for {target} do not run on {name} (compute capability {}.{})", card.0, card.1))
            .note(format!("{target} runs on {}", chip::wants(target)));
        Err(match chip::best(card, chip::TARGETS.iter().copied()) {
            Some(t) => d.note(format!("compile for this card with --target {t}")),
            None => d.note("no target of Tahoma runs on this card: the earliest is compute capability 8.0"),
        })
    }

    fn load(&mut self, kernels: &[KernelDef], text: &[String]) -> Result<(), Diagnostic> {
        let mut files: BTreeMap<&str, (&str, Option<&[u8]>)> = BTreeMap::new();
        for (k, t) in kernels.iter().zip(text) {
            files.entry(&k.file).or_insert((t, self.cubins.get(&k.sha256).map(Vec::as_slice)));
        }
        // The driver compiles on the thread that calls. Of several errors the first file's is told, whichever thread was first.
        let gpu = &self.gpu;
        let loaded: Vec<Result<(&str, Arc<Module>), CudaError>> =
            files.par_iter().map(|(&file, &(text, cubin))| Ok((file, Arc::new(gpu.load(text, cubin, file)?)))).collect();
        let modules: BTreeMap<&str, Arc<Module>> = loaded.into_iter().collect::<Result<_, _>>().map_err(failed)?;
        for k in kernels {
            let m = &modules[&*k.file];
            let want = k.spec.inputs.len() + k.spec.outputs.len();
            let have = m.parameters(&k.name);
            if have != Some(want) {
                let why = have.map_or("is not there".into(), |n| format!("takes {n} parameters, not {want}"));
                return Err(Diagnostic::error("E0605", format!("{}: entry {} {why}", k.file, k.name)));
            }
            m.allow_shared(&k.name, k.shared_bytes).map_err(failed)?;
            self.kernels.push((k.clone(), m.clone()));
        }
        Ok(())
    }

    fn reserve(&mut self, bytes: u64) -> Result<(), Diagnostic> {
        if bytes > 0 {
            let memory = self.gpu.alloc(bytes).map_err(failed)?;
            self.chunks.push((memory, Arena::new(bytes)));
        }
        Ok(())
    }

    fn alloc(&mut self, bytes: usize) -> Result<Block, Diagnostic> {
        let mut taken = self.chunks.iter_mut().find_map(|(m, a)| Some(m.address + a.take(bytes as u64)?));
        if taken.is_none() {
            let size = Arena::rounded(bytes as u64).unwrap_or(u64::MAX);
            self.reserve(size)?;
            taken = self.chunks.last_mut().and_then(|(m, a)| Some(m.address + a.take(bytes as u64)?));
        }
        taken.map(Block).ok_or_else(|| Diagnostic::error("E0901", "a new piece of memory is too small"))
    }

    fn upload(&mut self, block: Block, bytes: &[u8]) -> Result<(), Diagnostic> {
        let (memory, at) = self.place("cuMemcpyHtoD", block)?;
        let done = memory.write(at, bytes).map_err(|e| self.suspects(failed(e)));
        self.clock.gap();
        done
    }

    fn download(&mut self, block: Block, bytes: usize) -> Result<Vec<u8>, Diagnostic> {
        let (memory, at) = self.place("cuMemcpyDtoH", block)?;
        let done = memory.read(at, bytes).map_err(|e| self.suspects(failed(e)));
        self.clock.gap();
        done
    }

    fn copy(&mut self, from: Block, to: Block, bytes: usize) -> Result<(), Diagnostic> {
        let (source, at) = self.place("cuMemcpyDtoD", from)?;
        let (target, there) = self.place("cuMemcpyDtoD", to)?;
        let done = target.copy(there, source, at, bytes).map_err(|e| self.suspects(failed(e)));
        self.clock.gap();
        done
    }

    fn free(&mut self, block: Block) {
        // What is launched later comes later on the card too, so the place can be used again at once.
        if let Some((m, a)) = self.chunks.iter_mut().find(|m| block.0 >= m.0.address && block.0 - m.0.address < m.0.bytes) {
            a.give(block.0 - m.address);
        }
    }

    fn launch(&mut self, kernel: usize, inputs: &[Block], outputs: &[Block]) -> Result<LaunchStats, Diagnostic> {
        let (k, module) = &self.kernels[kernel];
        let args: Vec<Arg> = inputs.iter().chain(outputs).map(|b| Arg::Ptr(b.0)).collect();
        self.clock.before(&self.gpu).map_err(failed)?;
        module.launch(&k.name, k.grid, k.block, k.shared_bytes, &args).map_err(|e| failed(e).at((*k.origin).clone()))?;
        self.clock.after(&self.gpu, kernel).map_err(failed)?;
        // Its time is known when the run is finished.
        Ok(LaunchStats::default())
    }

    fn finish(&mut self) -> Result<Finished, Diagnostic> {
        let done = self.gpu.wait().map_err(|e| self.suspects(failed(e)));
        let times = done.and_then(|()| self.clock.times().map_err(failed));
        self.clock.restart();
        times
    }
}

/// Events around launches. They are made once and used again in each run.
#[derive(Default)]
struct Clock {
    on: bool,
    events: Vec<Event>,
    /// How many of them this run has recorded.
    used: usize,
    /// Kernel, and the events before and after it.
    launched: Vec<(usize, usize, usize)>,
    /// Whether something else than a launch came after the last event.
    gap: bool,
}

impl Clock {
    fn record(&mut self, gpu: &Arc<Gpu>) -> Result<usize, CudaError> {
        if self.used == self.events.len() {
            self.events.push(gpu.event()?);
        }
        self.events[self.used].record()?;
        self.used += 1;
        Ok(self.used - 1)
    }
    fn before(&mut self, gpu: &Arc<Gpu>) -> Result<(), CudaError> {
        // The end of one launch is the start of the next.
        if self.on && (self.used == 0 || self.gap) {
            self.record(gpu)?;
        }
        self.gap = false;
        Ok(())
    }
    fn after(&mut self, gpu: &Arc<Gpu>, kernel: usize) -> Result<(), CudaError> {
        let end = if self.on { self.record(gpu)? } else { 0 };
        self.launched.push((kernel, end.saturating_sub(1), end));
        Ok(())
    }
    fn gap(&mut self) {
        self.gap = true;
    }
    /// What each launch took, once all was waited for.
    fn times(&self) -> Result<Finished, CudaError> {
        let mut done = Finished::default();
        if !self.on || self.used == 0 {
            return Ok(done);
        }
        for &(kernel, from, to) in &self.launched {
            let device_ns = self.events[to].since(&self.events[from])?;
            done.launches.push((kernel, LaunchStats { device_ns, instructions: 0 }));
        }
        done.span_ns = self.events[self.used - 1].since(&self.events[0])?;
        Ok(done)
    }
    fn restart(&mut self) {
        (self.used, self.gap) = (0, false);
        self.launched.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_driver_is_a_clean_error() {
        let nowhere = Options { library: Some("/nowhere/libcuda.so.1".into()), ..Options::default() };
        let d = open_with(&nowhere).err().expect("there is no such file");
        assert_eq!(d.code, "E0604");
        assert!(d.message.contains("dlopen") && d.notes.len() == 2, "{d}");
        match (card(&Options::default()), open()) {
            (Ok(c), Ok(_)) => println!("a GPU is present: {c:?}"),
            (Err(a), Err(b)) => assert_eq!((a.code.as_str(), a.message), ("E0604", b.message)),
            _ => panic!("card() and open() disagree"),
        }
    }

    #[test]
    fn a_library_that_is_no_driver_is_a_clean_error() {
        // Every Linux has a C library, and it exports no cuInit.
        let other = Options { library: Some("libc.so.6".into()), ..Options::default() };
        let d = open_with(&other).err().expect("not a driver");
        assert!(d.code == "E0604" && d.message.contains("cuInit"), "{d}");
    }
}
