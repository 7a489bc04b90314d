//! The driver API's functions, by their exported names and the signatures of cuda.h.
#![allow(unsafe_code, reason = "this is a C library; each function trusts its pointers as the CUDA driver API says")]
#![allow(non_snake_case, reason = "the names are those of the CUDA driver API")]
#![allow(unreachable_pub, reason = "they are reached by name")]
#![allow(clippy::missing_safety_doc, reason = "the CUDA driver API's documentation is theirs")]

use crate::Config;
use crate::gpu::{Gpu, INVALID_DEVICE, INVALID_VALUE, NO_DEVICE};
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use tahoma_sim::ptx::{Arg, Module};

static GPU: LazyLock<Mutex<Gpu>> = LazyLock::new(|| {
    let words = std::env::var("FAKE_CUDA").unwrap_or_default();
    let config = Config::parse(&words).unwrap_or_else(|e| {
        eprintln!("fake cuda: {e}");
        std::process::exit(2);
    });
    Mutex::new(Gpu::new(config))
});

thread_local! {
    /// The context that is current on this thread.
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

type Handle = *mut c_void;

/// Whether a call needs the context.
#[derive(Clone, Copy, PartialEq)]
enum Needs {
    Nothing,
    Context,
}

/// Counts the call, does it, writes a line of what was asked and given.
fn call(name: &str, needs: Needs, f: impl FnOnce(&mut Gpu) -> Result<String, u32>) -> c_uint {
    let mut gpu = GPU.lock().unwrap_or_else(PoisonError::into_inner);
    let current = (needs == Needs::Context).then(|| CURRENT.get());
    let done = gpu.enter(name, current).and_then(|()| f(&mut gpu));
    let (what, code) = match done {
        Ok(what) => (what, 0),
        Err(code) => (String::new(), code),
    };
    let space = if what.is_empty() { "" } else { " " };
    gpu.note(format!("{name}{space}{what} = {code}"));
    code
}

/// Stores a result where the caller wants it.
unsafe fn give<T>(to: *mut T, value: T) -> Result<(), u32> {
    if to.is_null() {
        return Err(INVALID_VALUE);
    }
    // SAFETY: the caller of the driver API gives a place for the result.
    unsafe { to.write(value) };
    Ok(())
}

fn pointer(handle: usize) -> Handle {
    std::ptr::without_provenance_mut(handle)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fakeStart(words: *const c_char) {
    // SAFETY: `Fake::restart` gives a zero-terminated string.
    let words = unsafe { CStr::from_ptr(words) }.to_string_lossy();
    *GPU.lock().unwrap_or_else(PoisonError::into_inner) = Gpu::new(Config::parse(&words).unwrap_or_default());
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fakeLog(to: *mut u8, room: usize) -> usize {
    let text = GPU.lock().unwrap_or_else(PoisonError::into_inner).text();
    // SAFETY: `Fake::log` gives `room` bytes.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), to, text.len().min(room)) };
    text.len()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuInit(flags: c_uint) -> c_uint {
    call("cuInit", Needs::Nothing, |g| {
        if flags != 0 {
            return Err(INVALID_VALUE);
        }
        if g.config.devices == 0 {
            return Err(NO_DEVICE);
        }
        g.initialised = true;
        Ok(String::new())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDriverGetVersion(version: *mut c_int) -> c_uint {
    // SAFETY: as the API says.
    call("cuDriverGetVersion", Needs::Nothing, |_| unsafe { give(version, 13_000) }.map(|()| String::new()))
}

/// Every code is unknown here: whoever names it must know it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorName(_code: c_uint, name: *mut *const c_char) -> c_uint {
    // SAFETY: as the API says.
    unsafe { give(name, std::ptr::null()) }.map_or_else(|c| c, |()| INVALID_VALUE)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorString(code: c_uint, text: *mut *const c_char) -> c_uint {
    // SAFETY: as the API says.
    unsafe { cuGetErrorName(code, text) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetCount(count: *mut c_int) -> c_uint {
    // SAFETY: as the API says.
    call("cuDeviceGetCount", Needs::Nothing, |g| unsafe { give(count, g.config.devices) }.map(|()| String::new()))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGet(device: *mut c_int, index: c_int) -> c_uint {
    call("cuDeviceGet", Needs::Nothing, |g| {
        if index < 0 || index >= g.config.devices {
            return Err(INVALID_DEVICE);
        }
        // SAFETY: as the API says.
        unsafe { give(device, index) }.map(|()| format!("index={index}"))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetAttribute(value: *mut c_int, which: c_int, _device: c_int) -> c_uint {
    call("cuDeviceGetAttribute", Needs::Nothing, |g| {
        let v = match which {
            75 => g.config.capability.0,
            76 => g.config.capability.1,
            _ => return Err(INVALID_VALUE),
        };
        // SAFETY: as the API says.
        unsafe { give(value, v) }.map(|()| format!("which={which}"))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetName(name: *mut c_char, room: c_int, _device: c_int) -> c_uint {
    call("cuDeviceGetName", Needs::Nothing, |_| {
        let text = c"Fake GPU (PTX emulator)".to_bytes_with_nul();
        if name.is_null() || (room as usize) < text.len() {
            return Err(INVALID_VALUE);
        }
        // SAFETY: the caller's buffer has `room` bytes.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr().cast(), name, text.len()) };
        Ok(String::new())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, _device: c_int) -> c_uint {
    // SAFETY: as the API says.
    call("cuDeviceTotalMem_v2", Needs::Nothing, |g| unsafe { give(bytes, g.config.memory as usize) }.map(|()| String::new()))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> c_uint {
    call("cuMemGetInfo_v2", Needs::Context, |g| {
        // SAFETY: as the API says.
        unsafe {
            give(free, g.free_bytes() as usize)?;
            give(total, g.config.memory as usize)?;
        }
        Ok(String::new())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDevicePrimaryCtxRetain(context: *mut Handle, _device: c_int) -> c_uint {
    // SAFETY: as the API says.
    call("cuDevicePrimaryCtxRetain", Needs::Nothing, |g| unsafe { give(context, pointer(g.retain())) }.map(|()| String::new()))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDevicePrimaryCtxRelease_v2(_device: c_int) -> c_uint {
    let mut last = false;
    let code = call("cuDevicePrimaryCtxRelease_v2", Needs::Nothing, |g| {
        last = g.release()?;
        Ok(String::new())
    });
    if last && let Some(file) = std::env::var_os("FAKE_CUDA_LOG") {
        let text = GPU.lock().unwrap_or_else(PoisonError::into_inner).text();
        if let Err(e) = std::fs::write(&file, text) {
            eprintln!("fake cuda: cannot write {}: {e}", file.display());
        }
    }
    code
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuCtxSetCurrent(context: Handle) -> c_uint {
    call("cuCtxSetCurrent", Needs::Nothing, |g| {
        if context.addr() != g.context {
            return Err(crate::gpu::INVALID_CONTEXT);
        }
        CURRENT.set(context.addr());
        Ok(String::new())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleLoadDataEx(
    module: *mut Handle,
    image: *const c_void,
    count: c_uint,
    options: *mut c_int,
    values: *mut *mut c_void,
) -> c_uint {
    const ERROR_LOG: c_int = 5;
    const ERROR_LOG_BYTES: c_int = 6;
    // SAFETY: `count` options and as many values; PTX is zero-terminated, and a cubin starts with four bytes at least.
    let (text, options) = unsafe {
        let read = |i: usize| (*options.add(i), *values.add(i));
        let options: Vec<(c_int, Handle)> = (0..count as usize).map(read).collect();
        let elf = CStr::from_ptr(image.cast()).to_bytes().starts_with(b"\x7fELF");
        (if elf { None } else { Some(CStr::from_ptr(image.cast()).to_string_lossy().into_owned()) }, options)
    };
    let value = |which| options.iter().find(|o| o.0 == which).map(|o| o.1);
    let say = |why: &str| {
        if let (Some(to), Some(room)) = (value(ERROR_LOG), value(ERROR_LOG_BYTES)) {
            let n = why.len().min(room.addr().saturating_sub(1));
            // SAFETY: the log has as many bytes as the other option says, and they are zero.
            unsafe { std::ptr::copy_nonoverlapping(why.as_ptr(), to.cast::<u8>(), n) };
        }
    };
    // Outside of the lock: modules may be loaded together.
    let parsed = text.as_deref().map(|t| Module::parse(t, "image"));
    call("cuModuleLoadDataEx", Needs::Context, |g| {
        let Some(parsed) = parsed else {
            say("the fake driver runs PTX only");
            return Err(200);
        };
        let m = parsed.map_err(|why| {
            say(&format!("ptxas fatal: {why}"));
            218u32
        })?;
        let number = |s: &str| s.split_once('.').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?))).unwrap_or((u32::MAX, 0));
        if number(&m.version) > g.config.ptx {
            say(&format!("ptxas fatal: Unsupported .version {}", m.version));
            return Err(222);
        }
        let digits: i32 = m.target.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0);
        let (have, exact) = (g.config.capability.0 * 10 + g.config.capability.1, m.target.ends_with('a'));
        if digits > have || (exact && digits != have) {
            return Err(209);
        }
        let kernels: Vec<String> = m.kernels().map(|k| k.name.clone()).collect();
        // SAFETY: as the API says.
        unsafe { give(module, pointer(g.add_module(Arc::new(m))))? };
        Ok(format!("kernels={}", kernels.join(",")))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleUnload(module: Handle) -> c_uint {
    call("cuModuleUnload", Needs::Context, |g| g.unload(module.addr()).map(|()| String::new()))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleGetFunction(function: *mut Handle, module: Handle, name: *const c_char) -> c_uint {
    // SAFETY: a zero-terminated name.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
    call("cuModuleGetFunction", Needs::Context, |g| {
        let f = g.function(module.addr(), &name)?;
        // SAFETY: as the API says.
        unsafe { give(function, pointer(f)) }.map(|()| format!("kernel={name}"))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuFuncSetAttribute(function: Handle, which: c_int, value: c_int) -> c_uint {
    call("cuFuncSetAttribute", Needs::Context, |g| {
        if which != 8 || !(0..=232_448).contains(&value) {
            return Err(INVALID_VALUE);
        }
        g.allow_shared(function.addr(), value as u32).map(|()| format!("bytes={value}"))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAlloc_v2(address: *mut u64, bytes: usize) -> c_uint {
    call("cuMemAlloc_v2", Needs::Context, |g| {
        let at = g.alloc(bytes as u64)?;
        // SAFETY: as the API says.
        unsafe { give(address, at) }.map(|()| format!("at={at} bytes={bytes}"))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemFree_v2(address: u64) -> c_uint {
    call("cuMemFree_v2", Needs::Context, |g| g.free(address).map(|()| format!("at={address}")))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyHtoD_v2(address: u64, host: *const c_void, bytes: usize) -> c_uint {
    // SAFETY: the caller's memory has `bytes` bytes.
    let data = if bytes == 0 { &[] } else { unsafe { std::slice::from_raw_parts(host.cast::<u8>(), bytes) } };
    call("cuMemcpyHtoD_v2", Needs::Context, |g| g.write(address, data).map(|()| format!("at={address} bytes={bytes}")))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyDtoH_v2(host: *mut c_void, address: u64, bytes: usize) -> c_uint {
    call("cuMemcpyDtoH_v2", Needs::Context, |g| {
        let data = g.read(address, bytes as u64)?;
        // SAFETY: the caller's memory has `bytes` bytes.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), host.cast(), bytes) };
        Ok(format!("at={address} bytes={bytes}"))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyDtoD_v2(to: u64, from: u64, bytes: usize) -> c_uint {
    call("cuMemcpyDtoD_v2", Needs::Context, |g| g.copy(to, from, bytes as u64).map(|()| format!("at={to} from={from} bytes={bytes}")))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamSynchronize(stream: Handle) -> c_uint {
    call("cuStreamSynchronize", Needs::Context, |g| {
        if !stream.is_null() {
            return Err(INVALID_VALUE);
        }
        g.drain().map(|()| String::new())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuLaunchKernel(
    function: Handle,
    gx: c_uint,
    gy: c_uint,
    gz: c_uint,
    bx: c_uint,
    by: c_uint,
    bz: c_uint,
    shared: c_uint,
    stream: Handle,
    params: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> c_uint {
    call("cuLaunchKernel", Needs::Context, |g| {
        if !stream.is_null() || !extra.is_null() {
            return Err(INVALID_VALUE);
        }
        let (kernel, sizes) = g.parameters(function.addr())?;
        let (mut args, mut said) = (vec![], format!("kernel={kernel}"));
        for (i, &n) in sizes.iter().enumerate() {
            // SAFETY: one pointer per parameter, to at least its bytes.
            let bytes = unsafe { std::slice::from_raw_parts((*params.add(i)).cast::<u8>(), n as usize) }.to_vec();
            if let Ok(v) = <[u8; 8]>::try_from(&bytes[..]) {
                said += &format!(" arg{i}={}", u64::from_le_bytes(v));
            }
            args.push(Arg::Bytes(bytes));
        }
        g.launch(function.addr(), [gx, gy, gz], [bx, by, bz], shared, args).map(|()| said)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuEventCreate(event: *mut Handle, _flags: c_uint) -> c_uint {
    // SAFETY: as the API says.
    call("cuEventCreate", Needs::Context, |g| unsafe { give(event, pointer(g.event())) }.map(|()| String::new()))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuEventRecord(event: Handle, _stream: Handle) -> c_uint {
    call("cuEventRecord", Needs::Context, |g| g.record(event.addr()).map(|()| String::new()))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuEventElapsedTime(ms: *mut f32, from: Handle, to: Handle) -> c_uint {
    call("cuEventElapsedTime", Needs::Context, |g| {
        let t = g.elapsed(from.addr(), to.addr())?;
        // SAFETY: as the API says.
        unsafe { give(ms, t) }.map(|()| String::new())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuEventDestroy_v2(event: Handle) -> c_uint {
    call("cuEventDestroy_v2", Needs::Context, |g| g.destroy_event(event.addr()).map(|()| String::new()))
}
