//! What can go wrong while a kernel runs, said so that the author of the kernel can find it.

use std::fmt;

/// A place in shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Bytes from the start of the block's shared memory.
    pub offset: u64,
    /// Bytes of the granule that was tracked.
    pub bytes: u64,
}

/// The kind of fault.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// Global access outside its buffer.
    OutOfBounds {
        /// Buffer before or at the address.
        buffer: String,
        /// Byte offset of the access in it.
        offset: u64,
        /// Bytes accessed.
        bytes: u64,
        /// The buffer's size in bytes.
        size: u64,
    },
    /// Global access to an address below every buffer, such as null.
    WildAddress {
        /// The address.
        address: u64,
        /// Bytes accessed.
        bytes: u64,
    },
    /// Access to a freed buffer.
    Freed {
        /// The buffer.
        buffer: String,
        /// Byte offset in it.
        offset: u64,
    },
    /// Shared access beyond what the launch gave.
    SharedOutOfBounds {
        /// Byte offset of the access.
        offset: u64,
        /// Bytes accessed.
        bytes: u64,
        /// Shared bytes of the block.
        size: u64,
    },
    /// Local or parameter access outside its space.
    SpaceOutOfBounds {
        /// `local` or `param`.
        space: &'static str,
        /// Byte offset of the access.
        offset: u64,
        /// Bytes accessed.
        bytes: u64,
        /// Size of the space.
        size: u64,
    },
    /// Address not a multiple of the access's size.
    Misaligned {
        /// The address (or offset, in shared memory).
        address: u64,
        /// Alignment that the access needs.
        align: u64,
    },
    /// Read of global bytes that nothing wrote.
    Uninitialised {
        /// The buffer.
        buffer: String,
        /// First such byte.
        offset: u64,
    },
    /// Read of shared bytes that the block never wrote.
    UninitialisedShared {
        /// First such byte.
        offset: u64,
    },
    /// Read of local bytes that the thread never wrote.
    UninitialisedLocal {
        /// First such byte.
        offset: u64,
    },
    /// Read of a register that the thread never wrote.
    UninitialisedRegister {
        /// Its name, with the percent sign.
        name: String,
    },
    /// Two threads of a block touch the same shared bytes, one writes, and no barrier is between.
    SharedRace {
        /// Where.
        place: Place,
        /// Linear index of the earlier thread, if it is one thread.
        other: Option<u32>,
        /// Linear index of the thread that faults.
        thread: u32,
        /// The earlier access writes.
        first_writes: bool,
        /// The faulting access writes.
        second_writes: bool,
    },
    /// A block reads, or writes another value to, what another block of the launch wrote.
    BlockRace {
        /// The buffer.
        buffer: String,
        /// Byte offset in it.
        offset: u64,
        /// Linear index of the other block.
        other: u64,
        /// This block writes (else reads).
        write: bool,
    },
    /// Threads wait at a barrier that can never complete.
    Barrier {
        /// Who waits where.
        detail: String,
    },
    /// A warp-wide instruction without all the lanes it names.
    Divergent {
        /// Lanes that are there.
        present: u32,
        /// Lanes that the instruction names.
        needed: u32,
    },
    /// `shfl` reads from a lane that does not take part.
    InactiveLane {
        /// The lane read from.
        lane: u32,
    },
    /// `trap` was executed.
    Trap,
    /// The instruction budget is used up.
    Runaway {
        /// Warp instructions executed.
        executed: u64,
    },
    /// An operand that the emulator cannot honour.
    BadOperand {
        /// Why.
        detail: String,
    },
    /// The launch itself is wrong: unknown kernel, arguments or sizes that do not fit.
    Launch {
        /// Why, and what would do.
        detail: String,
    },
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfBounds { buffer, offset, bytes, size } => {
                write!(f, "global access out of bounds: {bytes} bytes at offset {offset} of buffer '{buffer}', which has {size} bytes")
            }
            Self::WildAddress { address, bytes } => {
                write!(f, "global access out of bounds: {bytes} bytes at {address:#x}, which is in no buffer")
            }
            Self::Freed { buffer, offset } => {
                write!(f, "access to freed buffer '{buffer}' at offset {offset}")
            }
            Self::SharedOutOfBounds { offset, bytes, size } => {
                write!(f, "shared access out of bounds: {bytes} bytes at offset {offset}; the block has {size} bytes")
            }
            Self::SpaceOutOfBounds { space, offset, bytes, size } => {
                write!(f, "{space} access out of bounds: {bytes} bytes at offset {offset}; the space has {size} bytes")
            }
            Self::Misaligned { address, align } => {
                write!(f, "misaligned access: address {address:#x} is not a multiple of {align}")
            }
            Self::Uninitialised { buffer, offset } => {
                write!(f, "read of uninitialised global memory: byte {offset} of buffer '{buffer}'")
            }
            Self::UninitialisedShared { offset } => {
                write!(f, "read of uninitialised shared memory: byte {offset}")
            }
            Self::UninitialisedLocal { offset } => {
                write!(f, "read of uninitialised local memory: byte {offset}")
            }
            Self::UninitialisedRegister { name } => {
                write!(f, "read of register '{name}', which the thread never wrote")
            }
            Self::SharedRace { place, other, thread, first_writes, second_writes } => {
                let act = |w: &bool| if *w { "writes" } else { "reads" };
                let other = match other {
                    Some(t) => format!("thread {t}"),
                    None => "more than one thread".to_owned(),
                };
                write!(
                    f,
                    "shared-memory race on bytes {}..{}: {other} {} them, then thread {thread} {} them, with no barrier between",
                    place.offset,
                    place.offset + place.bytes,
                    act(first_writes),
                    act(second_writes)
                )
            }
            Self::BlockRace { buffer, offset, other, write } => {
                let act = if *write { "writes another value to" } else { "reads" };
                write!(
                    f,
                    "race between blocks: this block {act} offset {offset} of buffer '{buffer}', which block {other} wrote in the same launch"
                )
            }
            Self::Barrier { detail } => write!(f, "barrier divergence: {detail}"),
            Self::Divergent { present, needed } => {
                write!(f, "warp-wide instruction in divergent code: lanes {present:#010x} are here, lanes {needed:#010x} are named")
            }
            Self::InactiveLane { lane } => {
                write!(f, "shfl reads from lane {lane}, which does not take part")
            }
            Self::Trap => write!(f, "trap executed"),
            Self::Runaway { executed } => {
                write!(f, "runaway: the budget of {executed} warp instructions is used up, which its work does not explain")
            }
            Self::BadOperand { detail } | Self::Launch { detail } => write!(f, "{detail}"),
        }
    }
}

/// A kernel's run stopped: what, where in the text, and which thread.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Fault {
    /// Kernel name.
    pub kernel: String,
    /// File given to [`super::Module::parse`].
    pub file: String,
    /// 1-based line of the instruction; 0 if none ran.
    pub line: u32,
    /// The instruction's text.
    pub text: String,
    /// Block index.
    pub block: [u32; 3],
    /// Thread index in the block, if one thread is to blame.
    pub thread: Option<[u32; 3]>,
    /// What happened.
    pub what: What,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel '{}': {}", self.kernel, self.what)?;
        if self.line > 0 {
            write!(f, "\n  --> {}:{}\n   | {}", self.file, self.line, self.text)?;
            let [x, y, z] = self.block;
            write!(f, "\n   = block ({x}, {y}, {z})")?;
            if let Some([x, y, z]) = self.thread {
                write!(f, ", thread ({x}, {y}, {z})")?;
            }
        }
        Ok(())
    }
}
