//! PTX emulator: runs the text that LLVM's NVPTX back end emits, on any CPU, with faults as errors.
//!
//! ```text
//! text ──parse──▶ statements ──decode──▶ instructions ──launch──▶ bytes in Memory, Stats
//!                               regs: liveness, linear scan        or a Fault: what, line, thread
//! ```
//!
//! A warp's 32 lanes step together over a register file `[register][lane]`; `warp` says how they diverge
//! and meet, `alu` how they compute, `access` how they reach memory. What it stands for:
//!
//! * Results are those of the PTX ISA. Where the ISA leaves freedom: `.approx` operations round an f64
//!   result once (a device may differ within the ISA's error bound); `mma` sums in f32 over ascending k;
//!   a division by zero gives all ones.
//! * Out-of-bounds, misaligned and uninitialised accesses (of registers, local, shared and global memory), races in shared memory and between blocks,
//!   barriers that cannot complete and runaways are [`Fault`]s. Races between threads of one block
//!   through global memory are not looked for.
//! * Memory is sequentially consistent: fences order nothing that is not ordered already.
//!   `cp.async` data arrives when the copying thread waits for it, never sooner.
//! * Unsupported instructions are errors when the module is parsed, with their line. That includes
//!   wgmma, tcgen05, TMA (`cp.async.bulk`), mbarriers, clusters of more than one block, and calls.
//!   The table of what runs is [`tahoma_machine::ptx`].
//!
//! ```
//! use tahoma_sim::ptx::{Arg, Memory, Module, Options, launch};
//! let text = "
//! .version 8.0
//! .target sm_90a
//! .address_size 64
//! .visible .entry twice(.param .u64 p) {
//!   .reg .b32 %r<4>;
//!   .reg .b64 %rd<4>;
//!   ld.param.b64 %rd1, [p];
//!   mov.u32 %r1, %tid.x;
//!   mad.wide.u32 %rd2, %r1, 4, %rd1;
//!   ld.global.b32 %r2, [%rd2];
//!   shl.b32 %r3, %r2, 1;
//!   st.global.b32 [%rd2], %r3;
//!   ret;
//! }";
//! let module = Module::parse(text, "twice.ptx")?;
//! let mut mem = Memory::new();
//! let p = mem.alloc("p", 8)?;
//! mem.write(p, &[1, 0, 0, 0, 21, 0, 0, 0])?;
//! launch(&module, "twice", [1, 1, 1], [2, 1, 1], 0, &[Arg::Ptr(p)], &mut mem, &Options::default())?;
//! assert_eq!(mem.read(p, 8)?, &[2, 0, 0, 0, 42, 0, 0, 0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod access;
mod alu;
mod decode;
mod decode_wide;
mod fault;
mod float;
mod int;
mod isa;
mod launch;
mod memory;
mod mma;
mod parse;
mod profile;
mod regs;
mod shared;
mod warp;

pub use fault::{Fault, Place, What};
pub use launch::{Arg, Options, Stats, launch};
pub use memory::{Memory, MemoryError};
pub use parse::PtxError;

use decode::{Code, Place as Symbol};
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// A parameter of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Name in the text.
    pub name: String,
    /// PTX type without the dot: `u64`, `f32`, `b8` (for structures).
    pub ty: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Offset in the parameter block, in bytes.
    pub offset: u64,
    /// Declared `.ptr`.
    pub pointer: bool,
}

/// A kernel of a module.
#[derive(Debug)]
pub struct Kernel {
    /// Entry name.
    pub name: String,
    /// Parameters, in order.
    pub params: Vec<Param>,
    /// Bytes of `.shared` variables that the kernel uses.
    pub static_shared: u64,
    /// The kernel uses `.extern .shared` memory, which the launch sizes.
    pub dynamic_shared: bool,
    /// Bytes of local memory per thread.
    pub local_bytes: u64,
    /// `.reqntid`: the only block shape it may be launched with.
    pub reqntid: Option<[u32; 3]>,
    /// `.maxntid`: the most threads per block.
    pub maxntid: Option<[u32; 3]>,
    dynamic_base: u64,
    param_bytes: u64,
    code: Code,
}

impl Kernel {
    /// Decoded instructions.
    #[must_use]
    pub fn instructions(&self) -> usize {
        self.code.insts.len()
    }

    /// Physical 32-bit, 64-bit and predicate registers, constants and special registers included.
    #[must_use]
    pub fn registers(&self) -> [usize; 3] {
        [self.code.n32, self.code.n64, self.code.np]
    }
}

/// A parsed and decoded PTX module: read once, launched often.
#[derive(Debug)]
pub struct Module {
    /// `.target`, such as `sm_90a`.
    pub target: String,
    /// `.version`, such as `8.0`.
    pub version: String,
    file: String,
    lines: Vec<String>,
    kernels: Vec<Kernel>,
    globals: Vec<parse::Var>,
    id: u64,
}

impl Module {
    /// Reads `text`; `file` is what errors call it.
    pub fn parse(text: &str, file: &str) -> Result<Module, PtxError> {
        Self::read(text, file).map_err(|e| located(text, file, e))
    }

    fn read(text: &str, file: &str) -> parse::Res<Module> {
        let src = parse::parse(text)?;
        let mut kernels = Vec::with_capacity(src.kernels.len());
        for f in &src.kernels {
            kernels.push(kernel(&src, f)?);
        }
        let mut h = DefaultHasher::new();
        text.hash(&mut h);
        file.hash(&mut h);
        Ok(Module {
            target: src.target,
            version: src.version,
            file: file.to_owned(),
            lines: text.lines().map(|l| l.trim().replace('\t', " ")).collect(),
            kernels,
            globals: src.globals,
            id: h.finish(),
        })
    }

    /// The module's kernels, in the order of the text.
    pub fn kernels(&self) -> impl Iterator<Item = &Kernel> {
        self.kernels.iter()
    }

    /// The kernel of that name.
    #[must_use]
    pub fn kernel(&self, name: &str) -> Option<&Kernel> {
        self.kernels.iter().find(|k| k.name == name)
    }

    fn text(&self, line: u32) -> String {
        self.lines.get((line as usize).wrapping_sub(1)).cloned().unwrap_or_default()
    }
}

/// Name and parameters of every kernel in a PTX text, whatever instructions its body has: for those who
/// launch it elsewhere.
pub fn signatures(text: &str, file: &str) -> Result<Vec<(String, Vec<Param>)>, PtxError> {
    match parse::signatures(text) {
        Ok(s) => Ok(s.into_iter().map(|(name, p)| (name, layout(&p).0)).collect()),
        Err(e) => Err(located(text, file, e)),
    }
}

fn located(text: &str, file: &str, parse::At(line, message): parse::At) -> PtxError {
    let text = text.lines().nth((line as usize).saturating_sub(1)).unwrap_or("");
    PtxError { file: file.to_owned(), line, text: text.trim().replace('\t', " "), message }
}

/// Offsets of parameters, each aligned, and the bytes of them all.
fn layout(decls: &[parse::ParamDecl]) -> (Vec<Param>, u64) {
    let mut offset = 0u64;
    let mut out = Vec::with_capacity(decls.len());
    for p in decls {
        offset = offset.next_multiple_of(p.align);
        out.push(Param { name: p.name.clone(), ty: p.ty.clone(), bytes: p.bytes, offset, pointer: p.pointer });
        offset += p.bytes;
    }
    (out, offset)
}

/// Lays out parameters, shared and local variables, then decodes the body.
fn kernel(src: &parse::Source, f: &parse::Func) -> parse::Res<Kernel> {
    let mut symbols: HashMap<String, Symbol> = HashMap::new();
    for (i, g) in src.globals.iter().enumerate() {
        symbols.insert(g.name.clone(), Symbol::Global(i));
    }
    let (params, param_bytes) = layout(&f.params);
    for p in &params {
        symbols.insert(p.name.clone(), Symbol::Param(p.offset));
    }
    let mut local = 0u64;
    for v in &f.locals {
        local = local.next_multiple_of(v.align);
        symbols.insert(v.name.clone(), Symbol::Local(local));
        local += v.bytes;
    }
    // Module-scope shared variables count only where they are used.
    let mut used = HashSet::new();
    for s in &f.stmts {
        s.args.iter().for_each(|a| collect_symbols(a, &mut used));
    }
    let shared = || f.shared.iter().chain(src.shared.iter().filter(|v| used.contains(v.name.as_str())));
    let mut static_shared = 0u64;
    for v in shared().filter(|v| !v.dynamic) {
        static_shared = static_shared.next_multiple_of(v.align);
        symbols.insert(v.name.clone(), Symbol::Shared(static_shared));
        static_shared += v.bytes;
    }
    let (mut dynamic_shared, mut dynamic_base) = (false, static_shared);
    for v in shared().filter(|v| v.dynamic) {
        dynamic_base = dynamic_base.next_multiple_of(v.align.max(16));
        dynamic_shared = true;
    }
    // Every `.extern .shared` array starts at the same place.
    for v in shared().filter(|v| v.dynamic) {
        symbols.insert(v.name.clone(), Symbol::Shared(dynamic_base));
    }
    if let Some(v) = shared().find(|v| !v.init.is_empty()) {
        return Err(parse::At(v.line, "shared variables cannot be initialised".into()));
    }
    Ok(Kernel {
        name: f.name.clone(),
        params,
        static_shared,
        dynamic_shared,
        dynamic_base,
        local_bytes: local.next_multiple_of(16),
        reqntid: f.reqntid,
        maxntid: f.maxntid,
        param_bytes,
        code: decode::decode(f, &symbols)?,
    })
}

fn collect_symbols<'a>(a: &'a parse::Arg, out: &mut HashSet<&'a str>) {
    match a {
        parse::Arg::Sym(n, _) => {
            out.insert(n);
        }
        parse::Arg::Mem(b, _) | parse::Arg::Not(b) => collect_symbols(b, out),
        parse::Arg::Vec(v) => v.iter().for_each(|x| collect_symbols(x, out)),
        _ => {}
    }
}
