//! What a device must do: load kernels, hold bytes, launch. Simulators, the emulator and drivers each implement [`Device`].

use std::collections::BTreeMap;
use tahoma_core::artifact::KernelDef;
use tahoma_core::{Diagnostic, TensorType, near};

/// A place in device memory: where a block starts, or a place within it. `alloc` aligns to [`ALIGN`] at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Block(pub u64);

/// What kernels may assume of their arguments: the widest access of a thread, in bytes.
pub const ALIGN: u64 = 16;

impl Block {
    /// The place so many bytes further.
    #[must_use]
    pub fn at(self, bytes: u64) -> Block {
        Block(self.0 + bytes)
    }
}

/// What one launch took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LaunchStats {
    /// Time on the device: measured by a driver, predicted by a simulator. 0 where neither knows.
    pub device_ns: f64,
    /// Instructions executed, where the device counts them.
    pub instructions: u64,
}

/// What the launches since the last [`Device::finish`] took, of a device that does not wait for each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Finished {
    /// Kernel and its time, in the order of the launches; empty where each launch told it.
    pub launches: Vec<(usize, LaunchStats)>,
    /// From before the first launch to after the last, by the device's clock, copies and waiting between them included.
    pub span_ns: f64,
}

/// A machine that runs kernels on blocks of bytes.
///
/// Blocks hold the packed little-endian bytes of a contiguous row-major tensor. Launches and copies run in the order given; `download`
/// waits. What reads or writes takes any place in a block, and is refused where it would leave the block.
pub trait Device: Send {
    /// `trn2-sim`, `ptx-emu`, …
    fn name(&self) -> &'static str;
    /// Whether kernels for a target can run on this very machine. E0611.
    fn accepts(&self, _target: &str) -> Result<(), Diagnostic> {
        Ok(())
    }
    /// Told once, after `load`: the bytes that blocks will span at most, if blocks lie as in an [`Arena`](crate::arena::Arena).
    fn reserve(&mut self, _bytes: u64) -> Result<(), Diagnostic> {
        Ok(())
    }
    /// Makes ready the kernels of an artifact; `text[i]` is the file of `kernels[i]`.
    fn load(&mut self, kernels: &[KernelDef], text: &[String]) -> Result<(), Diagnostic>;
    /// New memory of so many bytes, not initialised.
    fn alloc(&mut self, bytes: usize) -> Result<Block, Diagnostic>;
    fn upload(&mut self, block: Block, bytes: &[u8]) -> Result<(), Diagnostic>;
    fn download(&mut self, block: Block, bytes: usize) -> Result<Vec<u8>, Diagnostic>;
    /// Copies within the device, between places that do not overlap.
    fn copy(&mut self, from: Block, to: Block, bytes: usize) -> Result<(), Diagnostic>;
    /// Gives back what `alloc` returned.
    fn free(&mut self, block: Block);
    /// Runs kernel `kernel` (index of `load`) on one block per input, then one per output.
    fn launch(&mut self, kernel: usize, inputs: &[Block], outputs: &[Block]) -> Result<LaunchStats, Diagnostic>;
    /// Waits for all launches of a run; here a fault is told that `launch` could not know.
    fn finish(&mut self) -> Result<Finished, Diagnostic> {
        Ok(Finished::default())
    }
}

/// The memory of devices that live on the host: blocks by address, far enough apart that an overrun is in none.
#[derive(Debug, Default)]
pub struct HostMemory {
    blocks: BTreeMap<u64, Vec<u8>>,
    next: u64,
}

impl HostMemory {
    /// A new block of zeros. E0107 where memory does not hold it.
    pub fn alloc(&mut self, bytes: usize) -> Result<Block, Diagnostic> {
        let mut block = vec![];
        let room = block.try_reserve_exact(bytes);
        room.map_err(|_| Diagnostic::error("E0107", format!("a buffer of {bytes} bytes does not fit into memory")))?;
        block.resize(bytes, 0);
        let at = self.next + 4096;
        self.next = (at + bytes as u64).next_multiple_of(4096);
        self.blocks.insert(at, block);
        Ok(Block(at))
    }
    pub fn get(&self, b: Block, bytes: usize) -> Result<&[u8], Diagnostic> {
        let (base, block) = self.blocks.range(..=b.0).next_back().ok_or_else(gone)?;
        let at = (b.0 - base) as usize;
        at.checked_add(bytes).and_then(|end| block.get(at..end)).ok_or_else(gone)
    }
    pub fn put(&mut self, b: Block, bytes: &[u8]) -> Result<(), Diagnostic> {
        let (base, block) = self.blocks.range_mut(..=b.0).next_back().ok_or_else(gone)?;
        let at = (b.0 - base) as usize;
        let place = at.checked_add(bytes.len()).and_then(|end| block.get_mut(at..end)).ok_or_else(gone)?;
        place.copy_from_slice(bytes);
        Ok(())
    }
    pub fn copy(&mut self, from: Block, to: Block, bytes: usize) -> Result<(), Diagnostic> {
        let moved = self.get(from, bytes)?.to_vec();
        self.put(to, &moved)
    }
    pub fn free(&mut self, b: Block) {
        self.blocks.remove(&b.0);
    }
}

fn gone() -> Diagnostic {
    Diagnostic::error("E0901", "device memory is used that is in no block, or after it was freed")
}

/// Bytes of a kernel argument. E0605: the loader checked that its extents are known.
pub(crate) fn bytes_of(t: &TensorType) -> Result<usize, Diagnostic> {
    let n = t.bytes().and_then(|n| usize::try_from(n).ok());
    n.ok_or_else(|| Diagnostic::error("E0605", format!("a kernel argument of type {t}")))
}

/// Static extents of a kernel argument. E0605: the loader checked that they are.
pub(crate) fn extents(t: &TensorType) -> Result<Vec<usize>, Diagnostic> {
    t.shape.to_static().ok_or_else(|| Diagnostic::error("E0605", format!("a kernel argument of type {t}")))
}

/// The devices of `--device`, what each is, and what it runs.
pub struct DeviceRow {
    pub name: &'static str,
    pub doc: &'static str,
    /// The targets whose artifacts it runs, by prefix; empty for any.
    pub targets: &'static [&'static str],
    pub open: fn() -> Result<Box<dyn Device>, Diagnostic>,
}

pub static DEVICES: &[DeviceRow] = &[
    DeviceRow {
        name: "interp",
        doc: "the reference interpreter: every kernel by its meaning, on the host",
        targets: &[],
        open: || Ok(Box::new(crate::reference::Reference::default())),
    },
    DeviceRow {
        name: "trn2-sim",
        doc: "the NeuronCore-v3 simulator: NKI kernels with the machine's limits and cycles",
        targets: &["trn2"],
        open: || Ok(Box::new(crate::trn2::Trn2Sim::default())),
    },
    DeviceRow {
        name: "ptx-emu",
        doc: "the PTX emulator: kernels thread by thread, with memory and race checks",
        targets: &["sm_"],
        open: || Ok(Box::new(crate::emu::PtxEmu::default())),
    },
    DeviceRow {
        name: "cuda",
        doc: "an Nvidia GPU through the CUDA driver (libcuda, loaded when asked for)",
        targets: &["sm_"],
        open: open_cuda,
    },
    DeviceRow {
        name: "neuron",
        doc: "an AWS Trainium2 NeuronCore through libnrt (loaded when asked for)",
        targets: &["trn2"],
        open: open_neuron,
    },
];

/// Opens a device by name. E0701 for a name that is none; E0604 where it is not present.
pub fn open(name: &str) -> Result<Box<dyn Device>, Diagnostic> {
    (find(name)?.open)()
}

/// The row of a device name. E0701.
pub fn find(name: &str) -> Result<&'static DeviceRow, Diagnostic> {
    DEVICES.iter().find(|d| d.name == name).ok_or_else(|| {
        let mut d = Diagnostic::error("E0701", format!("no device {name:?}"));
        d.notes = near::notes(name, "devices", DEVICES.iter().map(|d| d.name));
        d
    })
}

fn open_cuda() -> Result<Box<dyn Device>, Diagnostic> {
    crate::cuda::open()
}

fn open_neuron() -> Result<Box<dyn Device>, Diagnostic> {
    Err(Diagnostic::error("E0604", "device neuron is not available: libnrt.so.1 is not loaded by this version")
        .note("NKI kernels need the Neuron compiler and a trn2 instance to become a NEFF")
        .note("--device trn2-sim runs the same kernels on any machine"))
}
