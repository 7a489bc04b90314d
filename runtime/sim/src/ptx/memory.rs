//! Device memory: buffers in one 64-bit address space, far enough apart that an overrun is a fault.
//!
//! Each buffer knows which of its bytes were ever written, so reading the rest is a fault too, and
//! which block wrote what in the current launch, so two blocks that write different values to one place
//! are told apart from two that agree.

use super::fault::What;
use super::parse::Var;
use std::collections::HashMap;

/// First address handed out; far above the shared, local and parameter windows.
const BASE: u64 = 0x7000_0000_0000;
/// Addresses that belong to no buffer, after each one. Also the alignment of buffers.
const RED_ZONE: u64 = 4096;

/// A host-side request that device memory refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// The allocation does not fit this process.
    #[error("cannot allocate {bytes} bytes of emulated memory")]
    OutOfMemory {
        /// Bytes asked for.
        bytes: u64,
    },
    /// No buffer holds all of `[address, address + bytes)`.
    #[error("no buffer holds the {bytes} bytes at {address:#x}")]
    OutOfBounds {
        /// First address asked for.
        address: u64,
        /// Bytes asked for.
        bytes: u64,
    },
    /// The bytes were never written.
    #[error("byte {offset} of buffer '{buffer}' was never written")]
    Uninitialised {
        /// Name given to [`Memory::alloc`].
        buffer: String,
        /// First byte never written, from the start of the buffer.
        offset: u64,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Buffer {
    pub name: String,
    base: u64,
    /// Address space taken, also after `free`.
    size: u64,
    data: Vec<u8>,
    /// One bit per byte: written at least once.
    init: Vec<u64>,
    uninit: usize,
    freed: bool,
    /// Per granule, the stamp of the block that last wrote it.
    writers: Vec<u64>,
    /// log2 of the granule's bytes.
    shift: u32,
}

impl Buffer {
    fn set_init(&mut self, at: usize, len: usize) {
        if self.uninit == 0 {
            return;
        }
        let (mut i, end) = (at, at + len);
        while i < end {
            let bit = i % 64;
            let n = (64 - bit).min(end - i);
            let ones = if n == 64 { u64::MAX } else { ((1u64 << n) - 1) << bit };
            let word = &mut self.init[i / 64];
            self.uninit -= (ones & !*word).count_ones() as usize;
            *word |= ones;
            i += n;
        }
    }

    /// First byte of the range that was never written.
    fn first_uninit(&self, at: usize, len: usize) -> Option<usize> {
        if self.uninit == 0 {
            return None;
        }
        (at..at + len).find(|i| self.init[i / 64] >> (i % 64) & 1 == 0)
    }

    fn is_init(&self, at: usize, len: usize) -> bool {
        let bit = at % 64;
        if bit + len <= 64 && len < 64 {
            let ones = ((1u64 << len) - 1) << bit;
            return self.init[at / 64] & ones == ones;
        }
        self.first_uninit(at, len).is_none()
    }
}

/// The global address space of one emulated device.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    buffers: Vec<Buffer>,
    modules: HashMap<u64, Vec<u64>>,
    /// Stamps of blocks never repeat, so `writers` needs no clearing between launches.
    pub(super) stamp: u64,
}

/// What a launch checks in global memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checks {
    pub uninit: bool,
    pub races: bool,
    /// Stamps above this belong to the current launch.
    pub launch: u64,
    /// The running block's stamp.
    pub block: u64,
    /// log2 of the granule's bytes.
    pub shift: u32,
}

impl Memory {
    /// Empty device memory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Allocates `bytes` bytes, uninitialised, and returns their device address (4096-byte aligned).
    /// `name` is what faults call the buffer.
    pub fn alloc(&mut self, name: &str, bytes: u64) -> Result<u64, MemoryError> {
        let oom = MemoryError::OutOfMemory { bytes };
        let len = usize::try_from(bytes).map_err(|_| oom.clone())?;
        if bytes > 1 << 40 {
            return Err(oom);
        }
        let mut data = Vec::new();
        data.try_reserve_exact(len).map_err(|_| oom)?;
        data.resize(len, 0);
        let base = self.buffers.last().map_or(BASE, |b| (b.base + b.size).next_multiple_of(RED_ZONE) + RED_ZONE);
        self.buffers.push(Buffer {
            name: name.to_owned(),
            base,
            size: bytes,
            data,
            init: vec![0; len.div_ceil(64)],
            uninit: len,
            freed: false,
            writers: Vec::new(),
            shift: 2,
        });
        Ok(base)
    }

    /// Frees the buffer that starts at `address`; its addresses are never used again.
    pub fn free(&mut self, address: u64) -> Result<(), MemoryError> {
        let i = self.find(address).filter(|i| self.buffers[*i].base == address);
        let Some(i) = i else {
            return Err(MemoryError::OutOfBounds { address, bytes: 0 });
        };
        let b = &mut self.buffers[i];
        b.freed = true;
        // The length stays as address space; the storage goes.
        b.writers = Vec::new();
        b.init = Vec::new();
        b.uninit = 0;
        b.data = Vec::new();
        Ok(())
    }

    /// Writes `bytes` at `address`, which then count as initialised.
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        let (i, at) = self.range(address, bytes.len() as u64)?;
        let b = &mut self.buffers[i];
        b.data[at..at + bytes.len()].copy_from_slice(bytes);
        b.set_init(at, bytes.len());
        Ok(())
    }

    /// The `bytes` bytes at `address`; an error if any was never written.
    pub fn read(&self, address: u64, bytes: u64) -> Result<&[u8], MemoryError> {
        let (i, at) = self.range(address, bytes)?;
        let b = &self.buffers[i];
        match b.first_uninit(at, bytes as usize) {
            Some(offset) => Err(MemoryError::Uninitialised { buffer: b.name.clone(), offset: offset as u64 }),
            None => Ok(&b.data[at..at + bytes as usize]),
        }
    }

    /// As [`Memory::read`], but bytes never written read as zero.
    pub fn read_any(&self, address: u64, bytes: u64) -> Result<&[u8], MemoryError> {
        let (i, at) = self.range(address, bytes)?;
        Ok(&self.buffers[i].data[at..at + bytes as usize])
    }

    fn range(&self, address: u64, bytes: u64) -> Result<(usize, usize), MemoryError> {
        let oob = MemoryError::OutOfBounds { address, bytes };
        let i = self.find(address).ok_or(oob.clone())?;
        let b = &self.buffers[i];
        let at = address - b.base;
        match at.checked_add(bytes) {
            Some(end) if end <= b.data.len() as u64 => Ok((i, at as usize)),
            _ => Err(oob),
        }
    }

    /// The last buffer that starts at or below `address`.
    fn find(&self, address: u64) -> Option<usize> {
        self.buffers.partition_point(|b| b.base <= address).checked_sub(1)
    }

    /// Addresses of a module's `.global` and `.const` variables, allocated on first use.
    pub(super) fn module(&mut self, id: u64, vars: &[Var]) -> Result<Vec<u64>, MemoryError> {
        if let Some(a) = self.modules.get(&id) {
            return Ok(a.clone());
        }
        let mut addresses = Vec::with_capacity(vars.len());
        for v in vars {
            let a = self.alloc(&v.name, v.bytes)?;
            let mut init = v.init.clone();
            // PTX zero-initialises module variables.
            init.resize(v.bytes as usize, 0);
            self.write(a, &init)?;
            addresses.push(a);
        }
        self.modules.insert(id, addresses.clone());
        Ok(addresses)
    }

    /// The buffer that holds `[address, address + bytes)`, trying `hint` first, and the offset in it.
    #[inline]
    pub(super) fn locate(&self, hint: &mut u32, address: u64, bytes: u64) -> Result<(usize, usize), What> {
        if let Some(b) = self.buffers.get(*hint as usize) {
            let at = address.wrapping_sub(b.base);
            if at < b.data.len() as u64 && bytes <= b.data.len() as u64 - at {
                return Ok((*hint as usize, at as usize));
            }
        }
        let Some(i) = self.find(address) else {
            return Err(What::WildAddress { address, bytes });
        };
        let b = &self.buffers[i];
        let at = address - b.base;
        if b.freed {
            return Err(What::Freed { buffer: b.name.clone(), offset: at });
        }
        let len = b.data.len() as u64;
        if at >= len || bytes > len - at {
            return Err(What::OutOfBounds { buffer: b.name.clone(), offset: at, bytes, size: len });
        }
        *hint = i as u32;
        Ok((i, at as usize))
    }

    #[inline(always)]
    pub(super) fn data(&self, buffer: usize) -> &[u8] {
        &self.buffers[buffer].data
    }

    /// Where buffer `i` starts, and its length.
    #[inline(always)]
    pub(super) fn extent(&self, i: usize) -> (u64, u64) {
        let b = &self.buffers[i];
        (b.base, b.data.len() as u64)
    }

    /// Whether a load needs no per-access check at all.
    #[inline(always)]
    pub(super) fn load_is_free(&self, i: usize, c: &Checks) -> bool {
        let b = &self.buffers[i];
        (!c.uninit || b.uninit == 0) && (!c.races || b.writers.is_empty())
    }

    /// Checks one load.
    pub(super) fn check_load(&self, i: usize, at: usize, len: usize, c: &Checks) -> Result<(), What> {
        let b = &self.buffers[i];
        if c.uninit && b.uninit != 0 && !b.is_init(at, len) {
            let offset = b.first_uninit(at, len).unwrap_or(at);
            return Err(What::Uninitialised { buffer: b.name.clone(), offset: offset as u64 });
        }
        if c.races && !b.writers.is_empty() {
            for g in at >> b.shift..=(at + len - 1) >> b.shift {
                let w = b.writers[g];
                if w > c.launch && w != c.block {
                    return Err(What::BlockRace {
                        buffer: b.name.clone(),
                        offset: (g << b.shift) as u64,
                        other: w - c.launch - 1,
                        write: false,
                    });
                }
            }
        }
        Ok(())
    }

    /// Stores `bytes` at a located place.
    #[inline(always)]
    pub(super) fn store(&mut self, i: usize, at: usize, bytes: &[u8], c: &Checks) -> Result<(), What> {
        let b = &mut self.buffers[i];
        if c.races {
            b.claim(at, bytes, c)?;
        }
        b.set_init(at, bytes.len());
        b.data[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    /// Read-modify-write, for atomics: never part of a race.
    pub(super) fn update(&mut self, i: usize, at: usize, bytes: &[u8]) {
        let b = &mut self.buffers[i];
        b.data[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

impl Buffer {
    /// Notes the running block as the writer of a range.
    fn claim(&mut self, at: usize, bytes: &[u8], c: &Checks) -> Result<(), What> {
        if self.writers.is_empty() || self.shift != c.shift {
            self.shift = c.shift;
            self.writers = vec![0; self.data.len().div_ceil(1 << c.shift)];
        }
        let (g0, g1) = (at >> c.shift, (at + bytes.len() - 1) >> c.shift);
        for g in g0..=g1 {
            let w = self.writers[g];
            if w > c.launch && w != c.block {
                // Blocks that store the same value agree: overlapping tiles at an edge do this.
                let (from, to) = ((g << c.shift).max(at), ((g + 1) << c.shift).min(at + bytes.len()));
                if self.data[from..to] != bytes[from - at..to - at] {
                    return Err(What::BlockRace { buffer: self.name.clone(), offset: from as u64, other: w - c.launch - 1, write: true });
                }
            }
            self.writers[g] = c.block;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_apart_and_reads_need_writes() {
        let mut m = Memory::new();
        let a = m.alloc("a", 100).unwrap();
        let b = m.alloc("b", 8).unwrap();
        assert!(b >= a + 100 + RED_ZONE);
        m.write(a + 60, &[1; 10]).unwrap();
        assert_eq!(m.read(a + 60, 10).unwrap(), &[1; 10]);
        assert_eq!(m.read(a + 60, 11), Err(MemoryError::Uninitialised { buffer: "a".into(), offset: 70 }));
        assert_eq!(m.read_any(a, 100).unwrap().len(), 100);
        assert!(m.write(a + 99, &[0; 2]).is_err());
        m.write(a, &[2; 100]).unwrap();
        assert_eq!(m.buffers[0].uninit, 0);
        m.free(b).unwrap();
        assert!(m.write(b, &[0; 8]).is_err());
        assert!(m.free(b + 4).is_err());
        assert!(m.alloc("huge", u64::MAX).is_err());
    }
}
