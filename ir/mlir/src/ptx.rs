//! From gpu.module to PTX, in process and without CUDA: upstream dialects lowered to NVVM, printed by LLVM's NVPTX back end.

use crate::Session;
use tahoma_core::{Diagnostic, Diagnostics};

/// An Nvidia chip and the lowest PTX version that `ptxas` accepts for it, so that older drivers load it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chip {
    /// `sm_90a`
    pub sm: &'static str,
    /// `80` for PTX 8.0
    pub ptx: &'static str,
}

/// Versions found by trial with ptxas 13.5.
pub static CHIPS: &[Chip] = &[
    Chip { sm: "sm_80", ptx: "70" },
    Chip { sm: "sm_89", ptx: "78" },
    Chip { sm: "sm_90", ptx: "78" },
    Chip { sm: "sm_90a", ptx: "80" },
    Chip { sm: "sm_100a", ptx: "86" },
    Chip { sm: "sm_103a", ptx: "88" },
    Chip { sm: "sm_120", ptx: "87" },
];

impl Chip {
    pub fn find(sm: &str) -> Option<Chip> {
        CHIPS.iter().copied().find(|c| c.sm == sm)
    }
}

/// How much LLVM does for a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// All of its optimisations: two thirds of the time that a kernel takes.
    Full,
    /// None. `ptxas` optimises what it gets in any case; its code is then up to two fifths longer (measured: 6 to 40 %).
    Least,
}

/// The way down, in order, each with what a text must mention for it to have something to do. gpu.func kernels lower in one pass; the passes
/// before it bring what that pass does not take, and the two after it bring vector shapes and poison that it leaves behind.
const WAY: &[(&str, &[&str])] = &[
    // nvgpu.mma.sync, cp.async, ldmatrix.
    ("convert-nvgpu-to-nvvm", &["nvgpu."]),
    // Transfers that are not one contiguous vector.
    ("convert-vector-to-scf", &["vector.transfer"]),
    // Subviews become offsets.
    ("expand-strided-metadata", &["memref.", "vector."]),
    ("lower-affine", &["memref.", "vector.", "affine."]),
    ("convert-scf-to-cf", &["scf.", "vector.transfer"]),
    // A memref argument is one pointer, so a launch passes pointers.
    ("convert-gpu-to-nvvm{index-bitwidth=64 use-bare-ptr-memref-call-conv=1}", &[]),
    // After gpu-to-nvvm: on its own this pass does not know gpu address spaces.
    ("convert-vector-to-llvm", &["vector"]),
    ("convert-ub-to-llvm", &["ub.", "vector"]),
    ("canonicalize", &[]),
    ("cse", &[]),
    ("reconcile-unrealized-casts", &[]),
];

fn pipeline(text: &str, chip: Chip, effort: Effort) -> String {
    let needed = WAY.iter().filter(|(_, of)| of.is_empty() || of.iter().any(|word| text.contains(word)));
    format!(
        "builtin.module(nvvm-attach-target{{chip={} features=+ptx{} O={}}},gpu.module({}),gpu-module-to-binary{{format=isa}})",
        chip.sm,
        chip.ptx,
        match effort {
            Effort::Full => 3,
            Effort::Least => 0,
        },
        needed.map(|p| p.0).collect::<Vec<_>>().join(",")
    )
}

impl Session {
    /// PTX of each gpu.module in `text`, by name, in order.
    ///
    /// Kernels are `gpu.func … kernel` over arith, scf, memref, vector, gpu, nvvm, nvgpu and affine. The calling convention is bare pointers:
    /// one 64-bit pointer for each memref argument, whose shape must be static. A block size in `known_block_size` becomes `.maxntid`.
    /// `vector.load … {alignment = 16}` gives `ld.global.v4`; without the alignment it is four loads. Math functions would become calls of
    /// libdevice, which is not linked: expand them first.
    ///
    /// Errors: E0902 where the text is no valid module, E0901 where a pass refuses it. LLVM ends the process on an instruction that the
    /// chip does not have, so a kernel must only use what `chip` has.
    pub fn emit_ptx(&self, text: &str, chip: Chip) -> Result<Vec<(String, String)>, Diagnostics> {
        self.emit_ptx_with(text, chip, Effort::Full)
    }

    /// [`Session::emit_ptx`] with as much optimisation as is asked for.
    pub fn emit_ptx_with(&self, text: &str, chip: Chip, effort: Effort) -> Result<Vec<(String, String)>, Diagnostics> {
        let out = binaries(&self.run_trusted(text, &pipeline(text, chip, effort), "a kernel")?);
        if out.is_empty() {
            return Err(Diagnostic::error("E0901", "MLIR made no PTX").note("is there a gpu.module?").into());
        }
        Ok(out)
    }
}

/// Name and PTX of each `gpu.binary` of a printed module. Of several objects, the first.
fn binaries(printed: &str) -> Vec<(String, String)> {
    const BINARY: &str = "gpu.binary @";
    const ASSEMBLY: &str = "assembly = \"";
    let mut out = vec![];
    let mut rest = printed;
    while let Some(at) = rest.find(BINARY) {
        rest = &rest[at + BINARY.len()..];
        let name = match rest.strip_prefix('"') {
            Some(quoted) => unescape(quoted.split('"').next().unwrap_or_default()),
            None => rest.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '$' | '-')).collect(),
        };
        // Quotes inside a string print as \22, so the next one ends it.
        let Some(ptx) = rest.find(ASSEMBLY).and_then(|i| rest[i + ASSEMBLY.len()..].split('"').next()) else { break };
        out.push((name, unescape(ptx)));
    }
    out
}

/// MLIR strings write `"`, `\` and unprintable bytes as `\XX`.
pub(crate) fn unescape(s: &str) -> String {
    let (bytes, mut out, mut i) = (s.as_bytes(), vec![], 0);
    while i < bytes.len() {
        if bytes[i] == b'\\' && i + 1 < bytes.len() {
            let hex = s.get(i + 1..i + 3).and_then(|h| u8::from_str_radix(h, 16).ok());
            match (bytes[i + 1], hex) {
                (_, Some(b)) => {
                    out.push(b);
                    i += 3;
                }
                (b'n', _) => {
                    out.push(b'\n');
                    i += 2;
                }
                (b't', _) => {
                    out.push(b'\t');
                    i += 2;
                }
                (c, _) => {
                    out.push(c);
                    i += 2;
                }
            }
            continue;
        }
        out.push(bytes[i]);
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests;
