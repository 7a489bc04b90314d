//! An Nvidia GPU through the CUDA driver, which is loaded when it is asked for: nothing here is linked, so the same binary runs
//! where there is no driver and says so.
//!
//! [`Cuda`] has the shape of the PTX emulator: `alloc`, `write`, `read`, `launch` with the same [`Arg`]s; addresses are checked
//! against live allocations on the host side, and arguments against the kernel's parameters, before the driver sees them. What a
//! kernel itself does is the device's business: run it on `ptx-emu` to find a fault.
#![allow(unsafe_code, reason = "the CUDA driver is a C library found at run time; each block says why its call is sound")]

use crate::device::{Block, Device, LaunchStats};
use libloading::Library;
use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::fmt;
use std::rc::Rc;
use tahoma_core::Diagnostic;
use tahoma_core::artifact::KernelDef;
use tahoma_sim::ptx::{Arg, Param, signatures};

/// A driver call that failed: which, with what code, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CudaError {
    /// Name of the driver's function, or what was asked of this wrapper.
    pub call: &'static str,
    /// The driver's `CUresult`; 0 if the driver was not reached.
    pub code: u32,
    /// The driver's name and description of the code, or ours.
    pub message: String,
    /// What would help.
    pub remedy: &'static str,
}

impl fmt::Display for CudaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, self.message)?;
        if self.code != 0 {
            write!(f, " (CUDA error {})", self.code)?;
        }
        Ok(())
    }
}

impl std::error::Error for CudaError {}

fn refuse(call: &'static str, message: impl Into<String>, remedy: &'static str) -> CudaError {
    CudaError { call, code: 0, message: message.into(), remedy }
}

/// What helps against a `CUresult`.
fn remedy(code: u32) -> &'static str {
    match code {
        2 => "the GPU's memory is full: use a smaller batch, or free it from other processes (nvidia-smi lists them)",
        3 | 4 => "the driver is shut down: do not use the device while the process exits",
        100 | 101 => "no GPU is visible: check nvidia-smi and CUDA_VISIBLE_DEVICES",
        35 | 803 | 804 => "the driver and its kernel module do not match: reboot, or install one version of both",
        200 | 209 => "the kernels are for another GPU: compile with --target for this one",
        218 => "the driver's compiler refused the PTX: this is a fault of Tahoma, please report it with the kernel",
        222 => "the driver is older than the kernel's PTX version: update the driver (12.8 or newer for sm_100a)",
        221 => "the driver lacks its PTX compiler: install libnvidia-ptxjitcompiler",
        700 | 716 | 717 | 718 | 719 | 714 | 715 => "a kernel failed on the device: --device ptx-emu names the instruction and the thread",
        701 => "the kernel needs more registers or shared memory than the GPU has: compile for this GPU",
        702 => "the kernel ran into the display's time limit: use a GPU without a display",
        _ => "see the CUDA driver API's list of CUresult values",
    }
}

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
                        .map_err(|e| refuse($symbol, format!("the driver does not export it: {e}"), "update the NVIDIA driver"))?;
                )*
                Ok(Driver { $($name,)* _library: library })
            }
        }
    };
}

driver! {
    init = "cuInit"(c_uint);
    error_name = "cuGetErrorName"(CuResult, *mut *const c_char);
    error_string = "cuGetErrorString"(CuResult, *mut *const c_char);
    device_get = "cuDeviceGet"(*mut c_int, c_int);
    device_attribute = "cuDeviceGetAttribute"(*mut c_int, c_int, c_int);
    device_name = "cuDeviceGetName"(*mut c_char, c_int, c_int);
    context_retain = "cuDevicePrimaryCtxRetain"(*mut Handle, c_int);
    context_release = "cuDevicePrimaryCtxRelease_v2"(c_int);
    context_set = "cuCtxSetCurrent"(Handle);
    module_load = "cuModuleLoadDataEx"(*mut Handle, *const c_void, c_uint, *mut c_int, *mut *mut c_void);
    module_unload = "cuModuleUnload"(Handle);
    module_function = "cuModuleGetFunction"(*mut Handle, Handle, *const c_char);
    function_set = "cuFuncSetAttribute"(Handle, c_int, c_int);
    mem_alloc = "cuMemAlloc_v2"(*mut u64, usize);
    mem_free = "cuMemFree_v2"(u64);
    copy_to = "cuMemcpyHtoD_v2"(u64, *const c_void, usize);
    copy_from = "cuMemcpyDtoH_v2"(*mut c_void, u64, usize);
    launch = "cuLaunchKernel"(Handle, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Handle, *mut *mut c_void, *mut *mut c_void);
    event_create = "cuEventCreate"(*mut Handle, c_uint);
    event_record = "cuEventRecord"(Handle, Handle);
    event_wait = "cuEventSynchronize"(Handle);
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

impl Driver {
    fn load() -> Result<Driver, CudaError> {
        let names = if cfg!(windows) { ["nvcuda.dll"].as_slice() } else { &["libcuda.so.1", "libcuda.so"] };
        let mut last = String::new();
        for name in names {
            // SAFETY: loading runs the library's initialisers; NVIDIA's driver library has no preconditions on them.
            match unsafe { Library::new(name) } {
                Ok(l) => return Driver::resolve(l),
                Err(e) => last = e.to_string(),
            }
        }
        Err(refuse(
            "dlopen",
            format!("the CUDA driver is not installed: {last}"),
            "install the NVIDIA driver, or run with --device ptx-emu",
        ))
    }

    fn check(&self, call: &'static str, code: CuResult) -> Result<(), CudaError> {
        if code == 0 {
            return Ok(());
        }
        let text = |f: unsafe extern "C" fn(CuResult, *mut *const c_char) -> CuResult| {
            let mut p: *const c_char = std::ptr::null();
            // SAFETY: the driver stores a pointer to a static string, or null for an unknown code.
            unsafe {
                f(code, &mut p);
                if p.is_null() { "unknown error".into() } else { CStr::from_ptr(p).to_string_lossy().into_owned() }
            }
        };
        let message = format!("{}: {}", text(self.error_name), text(self.error_string));
        Err(CudaError { call, code, message, remedy: remedy(code) })
    }
}

/// Whether there is a driver with at least one GPU; the error says what is missing.
pub fn available() -> Result<(), CudaError> {
    Cuda::open(0).map(|_| ())
}

/// A module on the device. Its kernels live as long as it does.
pub struct CudaModule {
    gpu: Rc<Gpu>,
    handle: Handle,
    kernels: HashMap<String, Entry>,
}

struct Entry {
    function: Handle,
    params: Vec<Param>,
}

impl Drop for CudaModule {
    fn drop(&mut self) {
        if self.gpu.current().is_ok() {
            // SAFETY: `handle` came from cuModuleLoadDataEx and is unloaded once; launches were waited for.
            unsafe { (self.gpu.driver.module_unload)(self.handle) };
        }
    }
}

/// The driver and the retained primary context of one device.
struct Gpu {
    driver: Driver,
    device: c_int,
    context: Handle,
}

impl Gpu {
    /// Makes the context current on this thread; other users of CUDA in the process may have changed it.
    fn current(&self) -> Result<(), CudaError> {
        // SAFETY: `context` is retained until this value is dropped.
        self.driver.check("cuCtxSetCurrent", unsafe { (self.driver.context_set)(self.context) })
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // SAFETY: pairs with the one successful retain in `Cuda::open`.
        unsafe { (self.driver.context_release)(self.device) };
    }
}

/// One GPU, its allocations and its primary context. Calls on a thread are in order, and each waits for its result.
pub struct Cuda {
    gpu: Rc<Gpu>,
    /// Live allocations: address to bytes.
    live: BTreeMap<u64, usize>,
    name: String,
    capability: (i32, i32),
}

impl Cuda {
    /// Opens GPU `index`, counting from 0 among those visible.
    pub fn open(index: u32) -> Result<Cuda, CudaError> {
        let driver = Driver::load()?;
        // SAFETY: cuInit may be called any number of times; its one argument must be 0.
        driver.check("cuInit", unsafe { (driver.init)(0) })?;
        let index = c_int::try_from(index).map_err(|_| refuse("cuDeviceGet", "no such GPU", remedy(101)))?;
        let mut device = 0;
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
        let mut context = std::ptr::null_mut();
        // SAFETY: `context` is a live pointer; the retain is released when `Gpu` is dropped.
        driver.check("cuDevicePrimaryCtxRetain", unsafe { (driver.context_retain)(&mut context, device) })?;
        let gpu = Rc::new(Gpu { driver, device, context });
        gpu.current()?;
        Ok(Cuda { gpu, live: BTreeMap::new(), name, capability })
    }

    /// The GPU's name, such as `NVIDIA H100 PCIe`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Compute capability: (9, 0) runs `sm_90` and `sm_90a`.
    #[must_use]
    pub fn capability(&self) -> (i32, i32) {
        self.capability
    }

    /// Allocates `bytes` bytes, uninitialised, and returns their device address.
    pub fn alloc(&mut self, bytes: usize) -> Result<u64, CudaError> {
        self.gpu.current()?;
        let mut address = 0;
        // SAFETY: `address` is a live u64. The driver refuses 0 bytes, so an empty block takes one.
        self.gpu.driver.check("cuMemAlloc", unsafe { (self.gpu.driver.mem_alloc)(&mut address, bytes.max(1)) })?;
        self.live.insert(address, bytes);
        Ok(address)
    }

    /// Frees the allocation that starts at `address`.
    pub fn free(&mut self, address: u64) -> Result<(), CudaError> {
        if self.live.remove(&address).is_none() {
            return Err(refuse("cuMemFree", format!("{address:#x} is not an allocation"), "free each allocation once"));
        }
        self.gpu.current()?;
        // SAFETY: the address came from cuMemAlloc and was still live; launches were waited for.
        self.gpu.driver.check("cuMemFree", unsafe { (self.gpu.driver.mem_free)(address) })
    }

    fn inside(&self, call: &'static str, address: u64, bytes: usize) -> Result<(), CudaError> {
        let ok = self.live.range(..=address).next_back().is_some_and(|(base, size)| {
            let at = address - base;
            at <= *size as u64 && bytes as u64 <= *size as u64 - at
        });
        if ok {
            return Ok(());
        }
        Err(refuse(call, format!("{bytes} bytes at {address:#x} are in no allocation"), "copy within what alloc returned"))
    }

    /// Copies `bytes` to `address`.
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), CudaError> {
        self.inside("cuMemcpyHtoD", address, bytes.len())?;
        self.gpu.current()?;
        // SAFETY: the device range lies in a live allocation and the host range is a slice.
        self.gpu.driver.check("cuMemcpyHtoD", unsafe { (self.gpu.driver.copy_to)(address, bytes.as_ptr().cast(), bytes.len()) })
    }

    /// Copies `bytes` bytes from `address`, after everything launched before.
    pub fn read(&self, address: u64, bytes: usize) -> Result<Vec<u8>, CudaError> {
        self.inside("cuMemcpyDtoH", address, bytes)?;
        self.gpu.current()?;
        let mut out = vec![0; bytes];
        // SAFETY: the device range lies in a live allocation and the host range is the whole of `out`.
        self.gpu.driver.check("cuMemcpyDtoH", unsafe { (self.gpu.driver.copy_from)(out.as_mut_ptr().cast(), address, bytes) })?;
        Ok(out)
    }

    /// Compiles PTX for this GPU; `file` is what errors call it.
    pub fn load(&self, text: &str, file: &str) -> Result<CudaModule, CudaError> {
        self.gpu.current()?;
        let driver = &self.gpu.driver;
        let entries = signatures(text, file).map_err(|e| refuse("cuModuleLoadDataEx", e.to_string(), remedy(218)))?;
        let image = CString::new(text).map_err(|_| refuse("cuModuleLoadDataEx", format!("{file} holds a zero byte"), remedy(218)))?;
        let mut log = vec![0u8; 8192];
        let mut options = [JIT_ERROR_LOG, JIT_ERROR_LOG_BYTES];
        // Integer options are passed in the pointer itself.
        let mut values: [*mut c_void; 2] = [log.as_mut_ptr().cast(), std::ptr::without_provenance_mut(log.len())];
        let mut handle = std::ptr::null_mut();
        // SAFETY: `image` is a zero-terminated string, as PTX must be; both arrays have the two entries that the call is told
        // of, and the log has the bytes that its size option says.
        let code = unsafe { (driver.module_load)(&mut handle, image.as_ptr().cast(), 2, options.as_mut_ptr(), values.as_mut_ptr()) };
        driver.check("cuModuleLoadDataEx", code).map_err(|mut e| {
            let said = CStr::from_bytes_until_nul(&log).unwrap_or_default().to_string_lossy();
            e.message = format!("{file}: {}\n{}", e.message, said.trim_end());
            e
        })?;
        // From here on a failure unloads the module.
        let mut module = CudaModule { gpu: self.gpu.clone(), handle, kernels: HashMap::new() };
        for (name, params) in entries {
            let symbol = CString::new(name.as_str()).map_err(|_| refuse("cuModuleGetFunction", "bad kernel name", remedy(218)))?;
            let mut function = std::ptr::null_mut();
            // SAFETY: `handle` is the module just loaded and `symbol` a zero-terminated string.
            driver.check("cuModuleGetFunction", unsafe { (driver.module_function)(&mut function, handle, symbol.as_ptr()) })?;
            module.kernels.insert(name, Entry { function, params });
        }
        Ok(module)
    }

    /// Runs a kernel and waits for it; returns the nanoseconds it took on the device.
    pub fn launch(
        &self,
        module: &CudaModule,
        kernel: &str,
        grid: [u32; 3],
        block: [u32; 3],
        dynamic_shared: u32,
        args: &[Arg],
    ) -> Result<f64, CudaError> {
        let Some(entry) = module.kernels.get(kernel) else {
            return Err(refuse("cuModuleGetFunction", format!("no kernel '{kernel}'"), "load the module that has it"));
        };
        let mut packed = pack(&entry.params, args)?;
        let mut pointers: Vec<*mut c_void> = packed.iter_mut().map(|p| p.as_mut_ptr().cast()).collect();
        self.gpu.current()?;
        let driver = &self.gpu.driver;
        let null = std::ptr::null_mut();
        if dynamic_shared > FREE_SHARED {
            let bytes = c_int::try_from(dynamic_shared).unwrap_or(c_int::MAX);
            // SAFETY: `function` belongs to `module`, which is alive.
            let code = unsafe { (driver.function_set)(entry.function, FUNCTION_MAX_DYNAMIC_SHARED, bytes) };
            driver.check("cuFuncSetAttribute", code)?;
        }
        let (before, after) = (Event::new(&self.gpu)?, Event::new(&self.gpu)?);
        before.record()?;
        let ([gx, gy, gz], [bx, by, bz]) = (grid, block);
        // SAFETY: one pointer per parameter, each to at least that parameter's bytes (`pack` checked both), alive through the
        // call, which copies them; the stream is the default one and there are no extra options.
        let code = unsafe {
            (driver.launch)(entry.function, gx, gy, gz, bx, by, bz, dynamic_shared, null, pointers.as_mut_ptr(), std::ptr::null_mut())
        };
        driver.check("cuLaunchKernel", code)?;
        after.record()?;
        after.since(&before)
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        if self.gpu.current().is_ok() {
            for address in self.live.keys() {
                // SAFETY: every key is a live allocation, and this is its last use.
                unsafe { (self.gpu.driver.mem_free)(*address) };
            }
        }
    }
}

/// A point in the default stream's time.
struct Event<'a> {
    gpu: &'a Gpu,
    handle: Handle,
}

impl<'a> Event<'a> {
    fn new(gpu: &'a Gpu) -> Result<Self, CudaError> {
        let mut handle = std::ptr::null_mut();
        // SAFETY: `handle` is a live pointer; 0 asks for an event with timing.
        gpu.driver.check("cuEventCreate", unsafe { (gpu.driver.event_create)(&mut handle, 0) })?;
        Ok(Event { gpu, handle })
    }

    fn record(&self) -> Result<(), CudaError> {
        // SAFETY: the event is alive; null is the default stream.
        self.gpu.driver.check("cuEventRecord", unsafe { (self.gpu.driver.event_record)(self.handle, std::ptr::null_mut()) })
    }

    /// Waits for this event; nanoseconds since `start`.
    fn since(&self, start: &Event<'_>) -> Result<f64, CudaError> {
        let driver = &self.gpu.driver;
        let mut ms = 0f32;
        // SAFETY: both events are alive and recorded, and `ms` is a live float.
        unsafe {
            driver.check("cuEventSynchronize", (driver.event_wait)(self.handle))?;
            driver.check("cuEventElapsedTime", (driver.event_elapsed)(&mut ms, start.handle, self.handle))?;
        }
        Ok(f64::from(ms) * 1e6)
    }
}

impl Drop for Event<'_> {
    fn drop(&mut self) {
        // SAFETY: created by `new`, destroyed once.
        unsafe { (self.gpu.driver.event_destroy)(self.handle) };
    }
}

/// Each argument in 8-byte-aligned storage of at least its parameter's size.
fn pack(params: &[Param], args: &[Arg]) -> Result<Vec<Vec<u64>>, CudaError> {
    let fail = |m: String| Err(refuse("cuLaunchKernel", m, "pass one argument per parameter, each of its size"));
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

/// [`Cuda`] as a device of the runner: kernels take one pointer per input, then one per output.
struct CudaDevice {
    // Before `cuda`, so that modules go first.
    kernels: Vec<(KernelDef, Rc<CudaModule>)>,
    cuda: Cuda,
}

fn failed(e: CudaError) -> Diagnostic {
    let code = match e.code {
        0 if e.call == "dlopen" => "E0604",
        3 | 35 | 100 | 101 | 803 | 804 => "E0604",
        _ => "E0603",
    };
    Diagnostic::error(code, format!("device cuda: {e}")).note(e.remedy)
}

/// Opens the first GPU. E0604 where there is no driver or no device.
pub fn open() -> Result<Box<dyn Device>, Diagnostic> {
    let cuda = Cuda::open(0).map_err(|e| {
        Diagnostic::error("E0604", format!("device cuda is not available: {e}"))
            .note(e.remedy)
            .note("--device ptx-emu runs the same kernels on any machine")
    })?;
    Ok(Box::new(CudaDevice { kernels: Vec::new(), cuda }))
}

impl Device for CudaDevice {
    fn name(&self) -> &'static str {
        "cuda"
    }
    fn load(&mut self, kernels: &[KernelDef], text: &[String]) -> Result<(), Diagnostic> {
        let mut modules: BTreeMap<&str, Rc<CudaModule>> = BTreeMap::new();
        for (k, t) in kernels.iter().zip(text) {
            if !modules.contains_key(&*k.file) {
                modules.insert(&k.file, Rc::new(self.cuda.load(t, &k.file).map_err(failed)?));
            }
            let m = &modules[&*k.file];
            let want = k.spec.inputs.len() + k.spec.outputs.len();
            let have = m.kernels.get(&*k.name).map(|e| e.params.len());
            if have != Some(want) {
                let why = have.map_or("is not there".into(), |n| format!("takes {n} parameters, not {want}"));
                return Err(Diagnostic::error("E0605", format!("{}: entry {} {why}", k.file, k.name)));
            }
            self.kernels.push((k.clone(), m.clone()));
        }
        Ok(())
    }
    fn alloc(&mut self, bytes: usize) -> Result<Block, Diagnostic> {
        self.cuda.alloc(bytes).map(Block).map_err(failed)
    }
    fn upload(&mut self, block: Block, bytes: &[u8]) -> Result<(), Diagnostic> {
        self.cuda.write(block.0, bytes).map_err(failed)
    }
    fn download(&mut self, block: Block) -> Result<Vec<u8>, Diagnostic> {
        let bytes = self.cuda.live.get(&block.0).copied().unwrap_or(0);
        self.cuda.read(block.0, bytes).map_err(failed)
    }
    fn free(&mut self, block: Block) {
        // Freeing what alloc returned fails only if a kernel broke the context, which the next call reports.
        let _ = self.cuda.free(block.0);
    }
    fn launch(&mut self, kernel: usize, inputs: &[Block], outputs: &[Block]) -> Result<LaunchStats, Diagnostic> {
        let (k, module) = &self.kernels[kernel];
        let args: Vec<Arg> = inputs.iter().chain(outputs).map(|b| Arg::Ptr(b.0)).collect();
        let device_ns =
            self.cuda.launch(module, &k.name, k.grid, k.block, k.shared_bytes, &args).map_err(|e| failed(e).at((*k.origin).clone()))?;
        Ok(LaunchStats { device_ns, instructions: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_driver_is_a_clean_error() {
        match available() {
            Ok(()) => println!("a GPU is present: the error of its absence is not tested"),
            Err(e) => {
                assert!(!e.remedy.is_empty() && !e.message.is_empty());
                let said = match open() {
                    Err(d) => d,
                    Ok(_) => panic!("available() and open() disagree"),
                };
                assert_eq!(said.code, "E0604");
                assert!(said.message.contains(e.call), "{}", said.message);
            }
        }
    }

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
}
