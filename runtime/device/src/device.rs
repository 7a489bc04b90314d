//! What a device must do: load kernels, hold bytes, launch. Simulators, the emulator and drivers each implement [`Device`].

use std::collections::BTreeMap;
use std::ops::Range;
use tahoma_core::artifact::KernelDef;
use tahoma_core::launches::LaunchTimes;
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
    /// Time of the kernel, without its launch: measured by a driver, predicted by a simulator. 0 where neither knows.
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
    /// What launches cost beside their kernels, on a device that predicts. A driver tells how long it took in all.
    fn launch_times(&self) -> LaunchTimes {
        LaunchTimes::default()
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
    blocks: BTreeMap<u64, Held>,
    next: u64,
}

/// A block's bytes, and the parts of it that nothing wrote yet.
#[derive(Debug)]
struct Held {
    bytes: Vec<u8>,
    unwritten: Vec<Range<usize>>,
}

impl HostMemory {
    /// E0609 where the host has no room.
    pub fn alloc(&mut self, bytes: usize) -> Result<Block, Diagnostic> {
        room(bytes)?;
        let at = self.next + 4096;
        self.next = (at + bytes as u64).next_multiple_of(4096);
        let whole = 0..bytes;
        self.blocks.insert(at, Held { bytes: vec![0; bytes], unwritten: if bytes == 0 { vec![] } else { vec![whole] } });
        Ok(Block(at))
    }
    /// The bytes at a place in a block. E0603 where one of them was never written.
    pub fn get(&self, b: Block, bytes: usize) -> Result<&[u8], Diagnostic> {
        let (base, block) = self.blocks.range(..=b.0).next_back().ok_or_else(gone)?;
        let at = (b.0 - base) as usize;
        let end = at.checked_add(bytes).ok_or_else(gone)?;
        let held = block.bytes.get(at..end).ok_or_else(gone)?;
        if let Some(r) = block.unwritten.iter().find(|r| r.start < end && at < r.end) {
            let first = r.start.max(at);
            let size = block.bytes.len();
            return Err(Diagnostic::error(
                "E0603",
                format!("device memory: byte {first} of a block of {size} is read before it is written"),
            ));
        }
        Ok(held)
    }
    pub fn put(&mut self, b: Block, bytes: &[u8]) -> Result<(), Diagnostic> {
        let (base, block) = self.blocks.range_mut(..=b.0).next_back().ok_or_else(gone)?;
        let at = (b.0 - base) as usize;
        let end = at.checked_add(bytes.len()).ok_or_else(gone)?;
        block.bytes.get_mut(at..end).ok_or_else(gone)?.copy_from_slice(bytes);
        let left = block.unwritten.drain(..).flat_map(|r| [r.start..r.end.min(at), r.start.max(end)..r.end]);
        block.unwritten = left.filter(|r| r.start < r.end).collect();
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

/// Whether the host has room for a block of a device that lives on it: its bytes, and a copy on the way to it and back. E0609.
pub(crate) fn room(bytes: usize) -> Result<(), Diagnostic> {
    Ok(tahoma_core::memory::ask_elements(bytes as u64, 2, &format_args!("a buffer of {bytes} bytes with its copy"))?)
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
        doc: "an AWS Trainium2 NeuronCore: not driven by this version, which says so (E0604) and what to do instead",
        targets: &["trn2"],
        open: open_neuron,
    },
];

/// Opens a device by name. E0701 for a name that is none; E0604 where it is not present.
pub fn open(name: &str) -> Result<Box<dyn Device>, Diagnostic> {
    (find(name)?.open)()
}

/// As [`open`], and a device that can say how long a launch takes on the machine that it stands for does, which makes it slower.
pub fn open_timed(name: &str) -> Result<Box<dyn Device>, Diagnostic> {
    if name == "ptx-emu" { Ok(Box::new(crate::emu::PtxEmu::timed())) } else { open(name) }
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
    Err(Diagnostic::error("E0604", "device neuron is not available: this version does not drive NeuronCores")
        .note("to run the kernels on one, compile the .py files of the artifact with the Neuron SDK on a trn2 instance")
        .note("--device trn2-sim runs the same kernels on any machine"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_written_before_it_is_read() {
        for name in ["interp", "trn2-sim", "ptx-emu"] {
            let mut d = open(name).unwrap();
            let b = d.alloc(8).unwrap();
            let why = d.download(b, 8).unwrap_err();
            assert_eq!(why.code, "E0603", "{name}: {why}");
            d.upload(b, &[7; 4]).unwrap();
            assert_eq!(d.download(b, 4).unwrap(), [7; 4], "{name}");
            let why = d.download(b, 5).unwrap_err();
            assert_eq!(why.code, "E0603", "{name}: {why}");
            d.upload(Block(b.0 + 4), &[9; 4]).unwrap();
            assert_eq!(d.download(b, 8).unwrap(), [7, 7, 7, 7, 9, 9, 9, 9], "{name}");
        }
    }
}
