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

impl Session {
    /// PTX of each gpu.module in `text`, by name, in order. Kernels take one pointer per memref argument.
    /// Errors: E0902 where the text is no valid module, E0901 where a pass refuses it.
    pub fn emit_ptx(&self, text: &str, chip: Chip) -> Result<Vec<(String, String)>, Diagnostics> {
        let pipeline = format!(
            "builtin.module(nvvm-attach-target{{chip={} features=+ptx{} O=3}},\
             gpu.module(convert-scf-to-cf,convert-gpu-to-nvvm{{index-bitwidth=64 use-bare-ptr-memref-call-conv=1}},canonicalize,cse,reconcile-unrealized-casts),\
             gpu-module-to-binary{{format=isa}})",
            chip.sm, chip.ptx
        );
        let printed = self.run_passes(text, &pipeline, "a kernel")?;
        let mut out = vec![];
        let mut rest = printed.as_str();
        while let Some(at) = rest.find("gpu.binary @") {
            rest = &rest[at + "gpu.binary @".len()..];
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '$')).collect();
            let found = rest.find("assembly = \"").map(|i| &rest[i + "assembly = \"".len()..]);
            let Some(quoted) = found else { break };
            let end = quoted.find('"').unwrap_or(quoted.len());
            out.push((name, unescape(&quoted[..end])));
            rest = &quoted[end..];
        }
        if out.is_empty() {
            return Err(Diagnostic::error("E0901", "MLIR made no PTX").into());
        }
        Ok(out)
    }
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

/// The same, the other way.
pub(crate) fn escape(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    for b in s.bytes() {
        match b {
            b'"' | b'\\' => out.push_str(&format!("\\{b:02X}")),
            b' '..=b'~' => out.push(b as char),
            b => out.push_str(&format!("\\{b:02X}")),
        }
    }
    out
}
