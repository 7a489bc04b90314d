//! The CUDA driver's functions, and the one context of a card, made safe: every address is checked by who owns it, every argument
//! against the kernel's parameters, every result against the table of errors. All work goes to the default stream, in order.
#![allow(unsafe_code, reason = "the CUDA driver is a C library found at run time; each block says why its call is sound")]

use super::chip::Capability;
use super::errors;
use libloading::Library;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::path::Path;
use std::sync::Arc;
use tahoma_sim::ptx::{Arg, Param, signatures};

/// A driver call that failed: which, with what code, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{call}: {message}{}", if *.code == 0 { String::new() } else { format!(" (CUDA error {})", .code) })]
pub struct CudaError {
    /// Name of the driver's function, or what was asked of this wrapper.
    pub call: &'static str,
    /// The driver's `CUresult`; 0 if the driver was not reached.
    pub code: u32,
    /// Name and meaning of the code, or what was wrong.
    pub message: String,
    /// What would help.
    pub remedy: &'static str,
    /// What the driver's compiler said.
    pub log: Vec<String>,
}

pub(super) fn refuse(call: &'static str, message: impl Into<String>, remedy: &'static str) -> CudaError {
    CudaError { call, code: 0, message: message.into(), remedy, log: vec![] }
}

const PLEASE_REPORT: &str = "this is a fault of Tahoma: please report it with the artifact";

type Handle = *mut c_void;
type CuResult = c_uint;

/// Declares the driver's entry points once: field, exported name, C signature.
macro_rules! driver {
    ($($name:ident = $symbol:literal ($($arg:ty),*);)*) => {
        struct Driver {
            $($name: unsafe extern "C" fn($($arg),*) -> CuResult,)*
            // Keeps the code that the pointers lead to mapped; last, so dropped last.
            _library: Library,
        }
        impl Driver {
            fn resolve(library: Library) -> Result<Driver, CudaError> {
                $(
                    // SAFETY: the symbol's name fixes its signature, which is that of the CUDA driver API (cuda.h), and the
                    // pointer is used only while `_library` keeps it mapped.
                    let $name = unsafe { library.get::<unsafe extern "C" fn($($arg),*) -> CuResult>(concat!($symbol, "\0").as_bytes()) }
                        .map(|s| *s)
                        .map_err(|why| refuse($symbol, format!("the driver does not export it: {why}"), "update the NVIDIA driver"))?;
                )*
                Ok(Driver { $($name,)* _library: library })
            }
        }
    };
}

driver! {
    init = "cuInit"(c_uint);
    version = "cuDriverGetVersion"(*mut c_int);
    error_name = "cuGetErrorName"(CuResult, *mut *const c_char);
    device_get = "cuDeviceGet"(*mut c_int, c_int);
    device_attribute = "cuDeviceGetAttribute"(*mut c_int, c_int, c_int);
    device_name = "cuDeviceGetName"(*mut c_char, c_int, c_int);
    device_memory = "cuDeviceTotalMem_v2"(*mut usize, c_int);
    context_retain = "cuDevicePrimaryCtxRetain"(*mut Handle, c_int);
    context_release = "cuDevicePrimaryCtxRelease_v2"(c_int);
    context_set = "cuCtxSetCurrent"(Handle);
    module_load = "cuModuleLoadDataEx"(*mut Handle, *const c_void, c_uint, *mut c_int, *mut *mut c_void);
    module_unload = "cuModuleUnload"(Handle);
    module_function = "cuModuleGetFunction"(*mut Handle, Handle, *const c_char);
    function_set = "cuFuncSetAttribute"(Handle, c_int, c_int);
    mem_info = "cuMemGetInfo_v2"(*mut usize, *mut usize);
    mem_alloc = "cuMemAlloc_v2"(*mut u64, usize);
    mem_free = "cuMemFree_v2"(u64);
    copy_to = "cuMemcpyHtoD_v2"(u64, *const c_void, usize);
    copy_from = "cuMemcpyDtoH_v2"(*mut c_void, u64, usize);
    copy_within = "cuMemcpyDtoD_v2"(u64, u64, usize);
    stream_wait = "cuStreamSynchronize"(Handle);
    launch = "cuLaunchKernel"(Handle, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Handle, *mut *mut c_void, *mut *mut c_void);
    event_create = "cuEventCreate"(*mut Handle, c_uint);
    event_record = "cuEventRecord"(Handle, Handle);
    event_elapsed = "cuEventElapsedTime"(*mut f32, Handle, Handle);
    event_destroy = "cuEventDestroy_v2"(Handle);
}

const ATTRIBUTE_MAJOR: c_int = 75;
const ATTRIBUTE_MINOR: c_int = 76;
const FUNCTION_MAX_DYNAMIC_SHARED: c_int = 8;
const JIT_ERROR_LOG: c_int = 5;
const JIT_ERROR_LOG_BYTES: c_int = 6;
/// Dynamic shared memory that needs no opt-in.
const FREE_SHARED: u32 = 48 << 10;
/// Most lines of the compiler's log that an error shows.
const LOG_LINES: usize = 12;

/// Where the driver library is: by name, then where WSL and NixOS keep it.
const LIBRARIES: &[&str] = &["libcuda.so.1", "libcuda.so", "/usr/lib/wsl/lib/libcuda.so.1", "/run/opengl-driver/lib/libcuda.so.1"];

impl Driver {
    fn load(library: Option<&Path>) -> Result<Driver, CudaError> {
        let names: Vec<&Path> = match library {
            Some(l) => vec![l],
            None if cfg!(windows) => vec![Path::new("nvcuda.dll")],
            None => LIBRARIES.iter().map(Path::new).collect(),
        };
        let mut first = String::new();
        for name in names {
            // SAFETY: loading runs the library's initialisers; NVIDIA's driver library has no preconditions on them.
            match unsafe { Library::new(name) } {
                Ok(l) => return Driver::resolve(l),
                Err(e) if first.is_empty() => first = e.to_string(),
                Err(_) => {}
            }
        }
        Err(refuse(
            "dlopen",
            format!("the CUDA driver is not installed: {first}"),
            "install the NVIDIA driver, or run with --device ptx-emu",
        ))
    }

    fn check(&self, call: &'static str, code: CuResult) -> Result<(), CudaError> {
        if code == 0 {
            return Ok(());
        }
        if let Some(r) = errors::find(code) {
            let message = format!("CUDA_ERROR_{}: {}", r.name, r.meaning);
            return Err(CudaError { call, code, message, remedy: r.remedy, log: vec![] });
        }
        let mut name: *const c_char = std::ptr::null();
        // SAFETY: the driver stores a pointer to a static string, or null for an unknown code.
        let message = unsafe {
            (self.error_name)(code, &mut name);
            if name.is_null() { "an error without a name".into() } else { CStr::from_ptr(name).to_string_lossy().into_owned() }
        };
        Err(CudaError { call, code, message, remedy: "see the CUDA driver API's list of CUresult values", log: vec![] })
    }
}

/// The driver and the retained primary context of one card.
pub(super) struct Gpu {
    driver: Driver,
    device: c_int,
    context: Handle,
    /// `NVIDIA H100 PCIe`
    pub(super) name: String,
    pub(super) capability: Capability,
    /// 12080 for CUDA 12.8: the newest that the driver supports.
    pub(super) version: i32,
    /// Bytes.
    pub(super) memory: u64,
}

// SAFETY: the driver's functions may be called from any thread, and its handles belong to a context, not to a thread; every method makes
// the context current on the thread that calls before it uses it.
unsafe impl Send for Gpu {}
// SAFETY: as above; the driver orders calls of several threads itself, and nothing here changes after `open`.
unsafe impl Sync for Gpu {}

impl Drop for Gpu {
    fn drop(&mut self) {
        // SAFETY: pairs with the one successful retain in `open`; modules, events and memory hold this value, so they went before.
        unsafe { (self.driver.context_release)(self.device) };
    }
}

impl Gpu {
    /// Opens GPU `index`, counting from 0 among those visible.
    pub(super) fn open(library: Option<&Path>, index: u32) -> Result<Arc<Gpu>, CudaError> {
        let driver = Driver::load(library)?;
        // SAFETY: cuInit may be called any number of times; its one argument must be 0.
        driver.check("cuInit", unsafe { (driver.init)(0) })?;
        let (mut version, mut device, mut memory) = (0, 0, 0usize);
        // SAFETY: `version` is a live int.
        driver.check("cuDriverGetVersion", unsafe { (driver.version)(&mut version) })?;
        let index = c_int::try_from(index).unwrap_or(c_int::MAX);
        // SAFETY: `device` is a live int; the driver checks the index.
        driver.check("cuDeviceGet", unsafe { (driver.device_get)(&mut device, index) })?;
        let attribute = |which| {
            let mut v = 0;
            // SAFETY: `v` is a live int and `device` came from cuDeviceGet.
            driver.check("cuDeviceGetAttribute", unsafe { (driver.device_attribute)(&mut v, which, device) }).map(|()| v)
        };
        let capability = (attribute(ATTRIBUTE_MAJOR)?, attribute(ATTRIBUTE_MINOR)?);
        let mut name = [0u8; 128];
        // SAFETY: the buffer has the 128 bytes that the call is told of, and the driver ends the string within them.
        driver.check("cuDeviceGetName", unsafe { (driver.device_name)(name.as_mut_ptr().cast(), 128, device) })?;
        let name = CStr::from_bytes_until_nul(&name).unwrap_or_default().to_string_lossy().into_owned();
        // SAFETY: `memory` is a live size and `device` came from cuDeviceGet.
        driver.check("cuDeviceTotalMem", unsafe { (driver.device_memory)(&mut memory, device) })?;
        let mut context = std::ptr::null_mut();
        // SAFETY: `context` is a live pointer; the retain is released when the value below is dropped.
        driver.check("cuDevicePrimaryCtxRetain", unsafe { (driver.context_retain)(&mut context, device) })?;
        let gpu = Gpu { driver, device, context, name, capability, version, memory: memory as u64 };
        gpu.current()?;
        Ok(Arc::new(gpu))
    }

    /// Makes the context current on this thread; other users of CUDA in the process may have changed it.
    fn current(&self) -> Result<(), CudaError> {
        // SAFETY: `context` is retained until this value is dropped.
        self.driver.check("cuCtxSetCurrent", unsafe { (self.driver.context_set)(self.context) })
    }

    /// New memory, uninitialised. Where the card is full the message says how much was asked and how much is free.
    pub(super) fn alloc(self: &Arc<Self>, bytes: u64) -> Result<Memory, CudaError> {
        self.current()?;
        let mut address = 0;
        let size = usize::try_from(bytes).unwrap_or(usize::MAX);
        // SAFETY: `address` is a live u64. The driver refuses 0 bytes, so an empty block takes one.
        let code = unsafe { (self.driver.mem_alloc)(&mut address, size.max(1)) };
        let done = self.driver.check("cuMemAlloc", code);
        done.map_err(|mut e| {
            e.message += &format!("; {bytes} bytes were asked of {}", self.name);
            let (mut free, mut all) = (0usize, 0usize);
            // SAFETY: both are live sizes.
            if code == 2 && unsafe { (self.driver.mem_info)(&mut free, &mut all) } == 0 {
                e.message += &format!(", which has {free} bytes free of {all}");
            }
            e
        })?;
        Ok(Memory { gpu: self.clone(), address, bytes })
    }

    /// Waits for all that was launched; this is where a kernel's fault is told.
    pub(super) fn wait(&self) -> Result<(), CudaError> {
        self.current()?;
        // SAFETY: null is the default stream.
        self.driver.check("cuStreamSynchronize", unsafe { (self.driver.stream_wait)(std::ptr::null_mut()) })
    }

    /// Makes ready the kernels of PTX (compiled for this card by the driver), or of a cubin of the same kernels; `file` is what errors
    /// call it.
    pub(super) fn load(self: &Arc<Self>, text: &str, cubin: Option<&[u8]>, file: &str) -> Result<Module, CudaError> {
        self.current()?;
        let fail = |m: String| refuse("cuModuleLoadDataEx", m, PLEASE_REPORT);
        let entries = signatures(text, file).map_err(|why| fail(why.to_string()))?;
        let ptx = CString::new(text).map_err(|_| fail(format!("{file} holds a zero byte")))?;
        let image: *const c_void = match cubin {
            None => ptx.as_ptr().cast(),
            Some(c) if whole_elf(c) => c.as_ptr().cast(),
            Some(_) => return Err(refuse("cuModuleLoadDataEx", format!("the cubin of {file} is no whole ELF file"), "make the kit again")),
        };
        let mut log = vec![0u8; 8192];
        let mut options = [JIT_ERROR_LOG, JIT_ERROR_LOG_BYTES];
        // Integer options are passed in the pointer itself.
        let mut values: [Handle; 2] = [log.as_mut_ptr().cast(), std::ptr::without_provenance_mut(log.len())];
        let mut handle = std::ptr::null_mut();
        // SAFETY: the image is zero-terminated text or an ELF file that holds all that its header points to; two options with two
        // values; the log outlives the call and has the bytes it is said to have.
        let code = unsafe { (self.driver.module_load)(&mut handle, image, 2, options.as_mut_ptr(), values.as_mut_ptr()) };
        self.driver.check("cuModuleLoadDataEx", code).map_err(|mut e| {
            e.message += &format!(" ({file})");
            let said = CStr::from_bytes_until_nul(&log).unwrap_or_default().to_string_lossy().into_owned();
            e.log = said.lines().map(str::trim).filter(|l| !l.is_empty()).take(LOG_LINES).map(str::to_string).collect();
            e
        })?;
        // From here on a failure unloads the module.
        let mut module = Module { gpu: self.clone(), handle, kernels: vec![] };
        for (name, params) in entries {
            let symbol = CString::new(name.as_str()).map_err(|_| refuse("cuModuleGetFunction", "bad kernel name", PLEASE_REPORT))?;
            let mut function = std::ptr::null_mut();
            // SAFETY: `handle` is the module just loaded and `symbol` a zero-terminated string.
            self.driver.check("cuModuleGetFunction", unsafe { (self.driver.module_function)(&mut function, handle, symbol.as_ptr()) })?;
            module.kernels.push(Kernel { name, function, params });
        }
        Ok(module)
    }

    /// A new event, with timing.
    pub(super) fn event(self: &Arc<Self>) -> Result<Event, CudaError> {
        self.current()?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: `handle` is a live pointer; 0 asks for an event with timing.
        self.driver.check("cuEventCreate", unsafe { (self.driver.event_create)(&mut handle, 0) })?;
        Ok(Event { gpu: self.clone(), handle })
    }
}

/// Whether `bytes` are a 64-bit little-endian ELF file that reaches as far as its header says: the driver is given no length.
fn whole_elf(bytes: &[u8]) -> bool {
    let number = |at: usize, n: usize| {
        let part = bytes.get(at..at + n)?;
        Some(part.iter().rev().fold(0u64, |v, b| v << 8 | u64::from(*b)))
    };
    let table = |at: usize, each: usize, count: usize| {
        let (start, rows) = (number(at, 8)?, number(each, 2)? * number(count, 2)?);
        start.checked_add(rows).filter(|end| *end <= bytes.len() as u64)
    };
    bytes.len() >= 64 && bytes.starts_with(b"\x7fELF\x02\x01") && table(32, 54, 56).is_some() && table(40, 58, 60).is_some()
}

/// Memory of the card, freed when dropped.
pub(super) struct Memory {
    gpu: Arc<Gpu>,
    pub(super) address: u64,
    pub(super) bytes: u64,
}

impl Memory {
    fn inside(&self, call: &'static str, offset: u64, bytes: usize) -> Result<u64, CudaError> {
        match offset.checked_add(bytes as u64) {
            Some(end) if end <= self.bytes => Ok(self.address + offset),
            _ => Err(refuse(call, format!("{bytes} bytes at {offset} are outside of {} bytes", self.bytes), PLEASE_REPORT)),
        }
    }

    /// Copies `bytes` to `offset`, after everything launched before.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), CudaError> {
        let at = self.inside("cuMemcpyHtoD", offset, bytes.len())?;
        self.gpu.current()?;
        let driver = &self.gpu.driver;
        // SAFETY: the device range lies in this live allocation and the host range is a slice; the call returns when it was read.
        driver.check("cuMemcpyHtoD", unsafe { (driver.copy_to)(at, bytes.as_ptr().cast(), bytes.len()) })
    }

    /// Copies `bytes` bytes from `offset`, after everything launched before.
    pub(super) fn read(&self, offset: u64, bytes: usize) -> Result<Vec<u8>, CudaError> {
        let at = self.inside("cuMemcpyDtoH", offset, bytes)?;
        self.gpu.current()?;
        let mut out = vec![0; bytes];
        let driver = &self.gpu.driver;
        // SAFETY: the device range lies in this live allocation and the host range is the whole of `out`; the call waits.
        driver.check("cuMemcpyDtoH", unsafe { (driver.copy_from)(out.as_mut_ptr().cast(), at, bytes) })?;
        Ok(out)
    }

    /// Copies `bytes` bytes from `from` of a piece of memory to `to` of this one, after everything launched before; nobody waits.
    pub(super) fn copy(&self, to: u64, source: &Memory, from: u64, bytes: usize) -> Result<(), CudaError> {
        let (at, from) = (self.inside("cuMemcpyDtoD", to, bytes)?, source.inside("cuMemcpyDtoD", from, bytes)?);
        self.gpu.current()?;
        let driver = &self.gpu.driver;
        // SAFETY: both ranges lie in live allocations.
        driver.check("cuMemcpyDtoD", unsafe { (driver.copy_within)(at, from, bytes) })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.gpu.current().is_ok() {
            // SAFETY: the address came from cuMemAlloc and this is its last use; the call waits for what was launched.
            unsafe { (self.gpu.driver.mem_free)(self.address) };
        }
    }
}

/// Kernels on the card.
pub(super) struct Module {
    gpu: Arc<Gpu>,
    handle: Handle,
    kernels: Vec<Kernel>,
}

struct Kernel {
    name: String,
    function: Handle,
    params: Vec<Param>,
}

// SAFETY: as for `Gpu`.
unsafe impl Send for Module {}
// SAFETY: as for `Gpu`; nothing of a module changes after it was loaded.
unsafe impl Sync for Module {}

impl Module {
    /// How many parameters a kernel has; `None` where there is none of that name.
    pub(super) fn parameters(&self, kernel: &str) -> Option<usize> {
        self.kernels.iter().find(|k| k.name == kernel).map(|k| k.params.len())
    }

    fn kernel(&self, name: &str) -> Result<&Kernel, CudaError> {
        let found = self.kernels.iter().find(|k| k.name == name);
        found.ok_or_else(|| refuse("cuModuleGetFunction", format!("no kernel '{name}'"), PLEASE_REPORT))
    }

    /// Lets a kernel have so much dynamic shared memory: once, before its first launch.
    pub(super) fn allow_shared(&self, kernel: &str, bytes: u32) -> Result<(), CudaError> {
        if bytes <= FREE_SHARED {
            return Ok(());
        }
        let function = self.kernel(kernel)?.function;
        let most = c_int::try_from(bytes).unwrap_or(c_int::MAX);
        self.gpu.current()?;
        let driver = &self.gpu.driver;
        // SAFETY: `function` belongs to this module, which is alive.
        let code = unsafe { (driver.function_set)(function, FUNCTION_MAX_DYNAMIC_SHARED, most) };
        driver.check("cuFuncSetAttribute", code).map_err(|mut e| {
            e.message += &format!("; kernel {kernel} needs {bytes} bytes of shared memory, on {}", self.gpu.name);
            e
        })
    }

    /// Starts a kernel and does not wait for it.
    pub(super) fn launch(&self, kernel: &str, grid: [u32; 3], block: [u32; 3], dynamic_shared: u32, args: &[Arg]) -> Result<(), CudaError> {
        let kernel = self.kernel(kernel)?;
        let mut packed = pack(&kernel.params, args)?;
        let mut pointers: Vec<Handle> = packed.iter_mut().map(|p| p.as_mut_ptr().cast()).collect();
        self.gpu.current()?;
        let driver = &self.gpu.driver;
        let null = std::ptr::null_mut();
        let ([gx, gy, gz], [bx, by, bz]) = (grid, block);
        // SAFETY: one pointer per parameter, each to at least that parameter's bytes (`pack` checked both), alive through the
        // call, which copies them; the stream is the default one and there are no extra options.
        let code = unsafe {
            (driver.launch)(kernel.function, gx, gy, gz, bx, by, bz, dynamic_shared, null, pointers.as_mut_ptr(), std::ptr::null_mut())
        };
        driver.check("cuLaunchKernel", code)
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        if self.gpu.current().is_ok() {
            // SAFETY: `handle` came from cuModuleLoadDataEx and is unloaded once; the driver waits for what was launched.
            unsafe { (self.gpu.driver.module_unload)(self.handle) };
        }
    }
}

/// A point in the default stream's time.
pub(super) struct Event {
    gpu: Arc<Gpu>,
    handle: Handle,
}

// SAFETY: as for `Gpu`.
unsafe impl Send for Event {}

impl Event {
    /// Puts it behind everything launched before.
    pub(super) fn record(&self) -> Result<(), CudaError> {
        self.gpu.current()?;
        // SAFETY: the event is alive; null is the default stream.
        self.gpu.driver.check("cuEventRecord", unsafe { (self.gpu.driver.event_record)(self.handle, std::ptr::null_mut()) })
    }

    /// Nanoseconds since `start`; both were waited for.
    pub(super) fn since(&self, start: &Event) -> Result<f64, CudaError> {
        let mut ms = 0f32;
        self.gpu.current()?;
        // SAFETY: both events are alive and recorded, and `ms` is a live float.
        let code = unsafe { (self.gpu.driver.event_elapsed)(&mut ms, start.handle, self.handle) };
        self.gpu.driver.check("cuEventElapsedTime", code)?;
        Ok(f64::from(ms) * 1e6)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if self.gpu.current().is_ok() {
            // SAFETY: created by `Gpu::event`, destroyed once.
            unsafe { (self.gpu.driver.event_destroy)(self.handle) };
        }
    }
}

/// Each argument in 8-byte-aligned storage of at least its parameter's size.
fn pack(params: &[Param], args: &[Arg]) -> Result<Vec<Vec<u64>>, CudaError> {
    let fail = |m: String| Err(refuse("cuLaunchKernel", m, PLEASE_REPORT));
    if params.len() != args.len() {
        return fail(format!("{} arguments where the kernel has {} parameters", args.len(), params.len()));
    }
    let mut out = Vec::with_capacity(args.len());
    for (i, (p, a)) in params.iter().zip(args).enumerate() {
        let bytes = match a {
            Arg::Ptr(v) | Arg::U64(v) => v.to_le_bytes().to_vec(),
            Arg::U32(v) => v.to_le_bytes().to_vec(),
            Arg::F32(v) => v.to_le_bytes().to_vec(),
            Arg::Bytes(b) => b.clone(),
        };
        if bytes.len() as u64 != p.bytes {
            return fail(format!("argument {i} has {} bytes where '{}' has {}", bytes.len(), p.name, p.bytes));
        }
        let word = |c: &[u8]| {
            let mut w = [0; 8];
            w[..c.len()].copy_from_slice(c);
            u64::from_ne_bytes(w)
        };
        out.push(bytes.chunks(8).map(word).collect());
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_meet_parameters() {
        let text = ".version 8.0\n.target sm_90\n.visible .entry k(.param .u64 p, .param .f32 x, .param .align 4 .b8 s[12]) { ret; }";
        let params = signatures(text, "k.ptx").unwrap().remove(0).1;
        let args = [Arg::Ptr(0x1122), Arg::F32(1.0), Arg::Bytes(vec![1; 12])];
        let packed = pack(&params, &args).unwrap();
        assert_eq!(packed[0], [0x1122]);
        assert_eq!(packed[1], [0x3f80_0000]);
        assert_eq!(packed[2].len(), 2);
        assert!(pack(&params, &args[..2]).unwrap_err().to_string().contains("2 arguments where the kernel has 3"));
        assert!(pack(&params, &[args[1].clone(), args[1].clone(), args[2].clone()]).is_err());
    }

    #[test]
    fn a_cubin_that_is_cut_short_is_not_given_to_the_driver() {
        let mut elf = vec![0u8; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        assert!(whole_elf(&elf));
        for n in 0..64 {
            assert!(!whole_elf(&elf[..n]), "{n}");
        }
        // 3 rows of 64 bytes of sections at 64 need 256 bytes.
        (elf[40], elf[58], elf[60]) = (64, 64, 3);
        assert!(!whole_elf(&elf));
        elf.resize(256, 0);
        assert!(whole_elf(&elf) && !whole_elf(&elf[..255]));
        elf[40..48].fill(0xff);
        assert!(!whole_elf(&elf));
    }
}
