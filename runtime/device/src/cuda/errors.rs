//! The CUDA driver's error codes: what each is called, what it means here, what helps, and which diagnostic it becomes. One row a code,
//! in order; names and meanings after the CUDA driver API's `CUresult` (CUDA 13).

/// A `CUresult`.
#[derive(Debug)]
pub struct ErrorRow {
    /// Its number.
    pub code: u32,
    /// Its name without `CUDA_ERROR_`.
    pub name: &'static str,
    pub meaning: &'static str,
    /// What would help.
    pub remedy: &'static str,
    /// The diagnostic: E0603 (a kernel), E0604 (no device to be had), E0611 (another chip), E0612 (memory), E0901 (ours).
    pub diagnostic: &'static str,
}

macro_rules! errors { ($($code:literal $name:ident $diagnostic:literal $meaning:literal, $remedy:expr;)*) => {
    /// Every code that has a row.
    pub static ERRORS: &[ErrorRow] = &[$(ErrorRow {
        code: $code, name: stringify!($name), meaning: $meaning, remedy: $remedy, diagnostic: $diagnostic,
    }),*];
} }

const REPORT: &str = "this is a fault of Tahoma: please report it with the artifact";
const MATCH: &str = "the NVIDIA kernel module, the driver library and the card must fit together: reboot after a driver update, in a \
                     container remove an own libcuda (cuda-compat), and compare `nvidia-smi` with `cat /proc/driver/nvidia/version`";
const RESET: &str =
    "nvidia-smi -q shows what is wrong with the card; a reset (nvidia-smi -r) or a reboot may help, else the card is faulty";
const OTHER_CHIP: &str = "the kernels are for another chip: compile with --target for this card";
const FIND_FAULT: &str = "--device ptx-emu names the instruction and the thread; on the GPU CUDA_LAUNCH_BLOCKING=1 names the kernel, and \
                          `compute-sanitizer --tool memcheck` the address. The process must end before the card can be used again";
const MPS: &str =
    "the multi-process service stands between: restart it (nvidia-cuda-mps-control), or run without it (unset CUDA_MPS_PIPE_DIRECTORY)";

errors! {
    1 INVALID_VALUE "E0901" "an argument is out of its range", REPORT;
    2 OUT_OF_MEMORY "E0612" "the card has not that much free memory",
        "use a smaller batch or shape, or free the card from other processes (nvidia-smi lists them)";
    3 NOT_INITIALIZED "E0604" "the driver is not initialised", "do not use the device before it was opened or after the process forked";
    4 DEINITIALIZED "E0604" "the driver is shutting down", "do not use the device while the process exits";
    34 STUB_LIBRARY "E0604" "the libcuda that was found is the toolkit's stub for linking, not a driver",
        "take the toolkit's lib64/stubs out of LD_LIBRARY_PATH, and install the NVIDIA driver (in a container: start it with --gpus all)";
    35 INSUFFICIENT_DRIVER "E0604" "the driver is older than what asks for it", "update the NVIDIA driver";
    36 CALL_REQUIRES_NEWER_DRIVER "E0604" "the driver is older than the call", "update the NVIDIA driver";
    46 DEVICE_UNAVAILABLE "E0604" "the card is busy or held by one process alone",
        "end the process that holds it (nvidia-smi lists them), or as root: nvidia-smi -c DEFAULT";
    100 NO_DEVICE "E0604" "no GPU is visible", "check nvidia-smi and CUDA_VISIBLE_DEVICES; start a container with --gpus all";
    101 INVALID_DEVICE "E0604" "there is no GPU of that number", "numbers count from 0 among the visible GPUs: check nvidia-smi and CUDA_VISIBLE_DEVICES";
    102 DEVICE_NOT_LICENSED "E0604" "the virtual GPU has no licence", "see NVIDIA's documentation of vGPU licensing";
    200 INVALID_IMAGE "E0603" "the driver does not read the kernel image", OTHER_CHIP;
    201 INVALID_CONTEXT "E0901" "no context, or one that is gone", REPORT;
    209 NO_BINARY_FOR_GPU "E0611" "the kernel image has no code for this card", OTHER_CHIP;
    214 ECC_UNCORRECTABLE "E0604" "the card's memory has an error that ECC cannot correct", RESET;
    218 INVALID_PTX "E0603" "the driver's compiler refused the PTX; what it says is shown", REPORT;
    220 NVLINK_UNCORRECTABLE "E0604" "an error of the NVLink connection", RESET;
    221 JIT_COMPILER_NOT_FOUND "E0604" "the driver lacks its PTX compiler",
        "install libnvidia-ptxjitcompiler of the driver's version (in a container: NVIDIA_DRIVER_CAPABILITIES=compute,utility)";
    222 UNSUPPORTED_PTX_VERSION "E0604" "the driver is older than the kernel's PTX version",
        "update the driver: PTX 7.0 needs 11.0, 8.0 12.0, 8.6 12.7, 8.7 12.8, 8.8 12.9 (CUDA versions, as nvidia-smi shows them)";
    223 JIT_COMPILATION_DISABLED "E0604" "compiling PTX is switched off", "unset CUDA_DISABLE_PTX_JIT";
    226 CONTAINED "E0604" "an error of the card's memory that was contained", RESET;
    300 INVALID_SOURCE "E0603" "the kernel's source is invalid", REPORT;
    304 OPERATING_SYSTEM "E0604" "a call to the operating system failed", "check the permissions of /dev/nvidia*, the kernel's log (dmesg) and ulimits";
    400 INVALID_HANDLE "E0901" "a handle that is none", REPORT;
    500 NOT_FOUND "E0603" "the module has no kernel of that name", REPORT;
    600 NOT_READY "E0901" "asked for what has not happened yet", REPORT;
    700 ILLEGAL_ADDRESS "E0603" "a kernel reached outside its memory", FIND_FAULT;
    701 LAUNCH_OUT_OF_RESOURCES "E0611" "the kernel needs more registers or shared memory than the card has", OTHER_CHIP;
    702 LAUNCH_TIMEOUT "E0603" "a kernel ran into the display's time limit", "use a card without a display, or smaller shapes";
    709 CONTEXT_IS_DESTROYED "E0604" "the context is gone", "another part of the process reset the card: open the device again";
    710 ASSERT "E0603" "an assertion in a kernel failed", FIND_FAULT;
    714 HARDWARE_STACK_ERROR "E0603" "a kernel broke its call stack", FIND_FAULT;
    715 ILLEGAL_INSTRUCTION "E0603" "a kernel met an instruction that the card has not", FIND_FAULT;
    716 MISALIGNED_ADDRESS "E0603" "a kernel reached an address that is not aligned", FIND_FAULT;
    717 INVALID_ADDRESS_SPACE "E0603" "a kernel reached into the wrong kind of memory", FIND_FAULT;
    718 INVALID_PC "E0603" "a kernel jumped out of its code", FIND_FAULT;
    719 LAUNCH_FAILED "E0603" "a kernel failed", FIND_FAULT;
    800 NOT_PERMITTED "E0604" "the call is not permitted", "check the permissions of /dev/nvidia* and what the container may do";
    801 NOT_SUPPORTED "E0604" "the card or the system cannot do this", "update the NVIDIA driver; a virtual or very old GPU may lack it for good";
    802 SYSTEM_NOT_READY "E0604" "the system is not ready: on machines with NVSwitch the fabric is not up",
        "start the fabric manager of the driver's version (systemctl start nvidia-fabricmanager) and wait until nvidia-smi -q says Fabric: Completed";
    803 SYSTEM_DRIVER_MISMATCH "E0604" "the kernel module and the driver library have different versions", MATCH;
    804 COMPAT_NOT_SUPPORTED_ON_DEVICE "E0604" "the compatibility library does not run on this card", MATCH;
    805 MPS_CONNECTION_FAILED "E0604" "no connection to the multi-process service", MPS;
    806 MPS_RPC_FAILURE "E0604" "the multi-process service fails", MPS;
    807 MPS_SERVER_NOT_READY "E0604" "the multi-process service is not ready", MPS;
    808 MPS_MAX_CLIENTS_REACHED "E0604" "the multi-process service has no room for another client", MPS;
    809 MPS_MAX_CONNECTIONS_REACHED "E0604" "the multi-process service has no room for another connection", MPS;
    810 MPS_CLIENT_TERMINATED "E0604" "the multi-process service ended this client", MPS;
    999 UNKNOWN "E0604" "the driver failed and does not say why",
        "look at the kernel's log (dmesg | grep -i nvrm); reload nvidia_uvm (modprobe -r nvidia_uvm, modprobe nvidia_uvm) or reboot: often after sleep or a driver update";
}

/// The row of a code.
pub fn find(code: u32) -> Option<&'static ErrorRow> {
    ERRORS.iter().find(|r| r.code == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_full_and_of_known_diagnostics() {
        assert!(ERRORS.windows(2).all(|w| w[0].code < w[1].code));
        for r in ERRORS {
            assert!(r.meaning.len() > 10 && r.remedy.len() > 10, "{}", r.code);
            assert!(r.name.chars().all(|c| c.is_ascii_uppercase() || c == '_'), "{}", r.name);
            assert!(tahoma_core::codes::CODES.iter().any(|c| c.code == r.diagnostic), "{}", r.diagnostic);
        }
    }

    #[test]
    fn what_users_of_gpus_meet_first_has_a_row() {
        for code in [2, 34, 35, 46, 100, 209, 218, 222, 700, 802, 999] {
            assert!(find(code).is_some(), "{code}");
        }
    }
}
