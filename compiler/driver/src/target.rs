//! The targets of `--target`, and how a kernel becomes their text.

use std::cell::RefCell;
use tahoma_codegen::ptx::PtxKernel;
use tahoma_codegen::target::{TARGETS, TargetDef, TargetKind};
use tahoma_codegen::{ptx, trn2};
use tahoma_core::escape::Ident;
use tahoma_core::kernel::KernelSpec;
use tahoma_core::launches::LaunchTimes;
use tahoma_core::{Diagnostic, Diagnostics, Origin};
use tahoma_eqsat::TargetCost;
use tahoma_mlir::{Chip, Effort, Session};

/// A machine to compile for: a row of `tahoma_codegen::target::TARGETS`.
#[derive(Clone, Copy, Debug)]
pub struct Target(&'static TargetDef);

/// A kernel in a target's form.
#[derive(Clone, Debug, PartialEq)]
pub struct Lowered {
    /// Function name in the text.
    pub name: Ident,
    /// What the artifact holds: PTX or NKI Python.
    pub text: String,
    /// The kernel in MLIR: of PTX the module it was made from, of NKI the same instructions in the `trn` dialect.
    pub mlir: String,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared_bytes: u32,
    pub predicted_ns: f64,
    /// Whether LLVM optimised the text, where there is one that it can.
    pub optimised: bool,
}

/// A kernel on its way: scheduled, which is cheap.
#[derive(Clone, Debug)]
pub(crate) enum Draft {
    Done(Lowered),
    /// MLIR on its way to PTX.
    Ptx(PtxKernel),
}

impl Draft {
    /// Lines of text that are still to be compiled: how much work that is.
    pub(crate) fn lines(&self) -> usize {
        match self {
            Draft::Done(_) => 0,
            Draft::Ptx(k) => k.mlir.lines().count(),
        }
    }
    pub(crate) fn predicted_ns(&self) -> f64 {
        match self {
            Draft::Done(k) => k.predicted_ns,
            Draft::Ptx(k) => k.predicted_ns,
        }
    }
}

impl Target {
    /// Names of all targets.
    pub fn names() -> Vec<&'static str> {
        TARGETS.iter().map(|t| t.name).collect()
    }
    /// The target of that name. E0501.
    pub fn parse(name: &str) -> Result<Target, Diagnostic> {
        TargetDef::find(name).map(Target)
    }
    pub fn name(self) -> &'static str {
        self.0.name
    }
    /// Ending of kernel files.
    pub fn ending(self) -> &'static str {
        match self.0.kind {
            TargetKind::Trn2 => "py",
            TargetKind::Ptx => "ptx",
        }
    }
    /// The device that checks this target's artifacts on any machine.
    pub fn checked_by(self) -> &'static str {
        match self.0.kind {
            TargetKind::Trn2 => "trn2-sim",
            TargetKind::Ptx => "ptx-emu",
        }
    }
    /// The default target of a device, for `run MODEL --device D`. `None` for the interpreter, which compiles nothing.
    pub fn of_device(device: &str) -> Option<Target> {
        let name = match device {
            "trn2-sim" | "neuron" => "trn2",
            "ptx-emu" | "cuda" => "sm_90a",
            _ => return None,
        };
        Target::parse(name).ok()
    }
    /// What launches cost.
    pub fn launches(self) -> LaunchTimes {
        self.0.launches()
    }
    /// What extraction charges.
    pub fn cost(self) -> &'static dyn TargetCost {
        self.0
    }
    /// Schedules a kernel. E0502 or E0503 where the target cannot run it.
    pub(crate) fn draft(self, spec: &KernelSpec, origin: &Origin) -> Result<Draft, Diagnostic> {
        match self.0.kind {
            TargetKind::Trn2 => {
                let k = trn2::lower(spec, &origin.to_string())?;
                let (text, mlir, predicted_ns) = (k.nki, k.mlir, k.predicted_ns);
                let (grid, block) = ([0; 3], [0; 3]);
                Ok(Draft::Done(Lowered { name: k.program.name, text, mlir, grid, block, shared_bytes: 0, predicted_ns, optimised: true }))
            }
            TargetKind::Ptx => Ok(Draft::Ptx(ptx::lower(spec, self.0)?)),
        }
    }
    /// A scheduled kernel as text. E0901.
    pub(crate) fn finish(self, draft: Draft, effort: Effort) -> Result<Lowered, Diagnostic> {
        match draft {
            Draft::Done(k) => Ok(k),
            Draft::Ptx(k) => finish_ptx(self.0, k, effort),
        }
    }
}

thread_local! {
    /// MLIR contexts stay on their thread; a worker makes one and keeps it.
    static SESSION: RefCell<Option<Session>> = const { RefCell::new(None) };
}

/// Runs `f` with this thread's session.
pub(crate) fn with_session<T>(f: impl FnOnce(&Session) -> Result<T, Diagnostics>) -> Result<T, Diagnostics> {
    SESSION.with(|cell| {
        let mut slot = cell.borrow_mut();
        if slot.is_none() {
            *slot = Some(Session::new()?);
        }
        match &*slot {
            Some(s) => f(s),
            None => Err(Diagnostic::error("E0901", "no MLIR session").into()),
        }
    })
}

fn finish_ptx(target: &TargetDef, k: PtxKernel, effort: Effort) -> Result<Lowered, Diagnostic> {
    let chip = Chip::find(target.name).ok_or_else(|| Diagnostic::error("E0901", format!("no PTX version for {}", target.name)))?;
    let mut modules = with_session(|s| s.emit_ptx_with(&k.mlir, chip, effort)).map_err(|d| first(d, k.name.as_str()))?;
    if modules.len() != 1 {
        return Err(Diagnostic::error("E0901", format!("kernel {} became {} PTX modules", k.name, modules.len())));
    }
    let text = modules.remove(0).1;
    Ok(Lowered {
        name: k.name,
        text,
        mlir: k.mlir,
        grid: k.grid,
        block: k.block,
        shared_bytes: k.shared_bytes,
        predicted_ns: k.predicted_ns,
        optimised: effort == Effort::Full,
    })
}

/// The first of several problems, with the kernel's name.
fn first(mut d: Diagnostics, kernel: &str) -> Diagnostic {
    let d = if d.0.is_empty() { Diagnostic::error("E0901", "MLIR refused without a reason") } else { d.0.remove(0) };
    d.note(format!("kernel {kernel}"))
}
