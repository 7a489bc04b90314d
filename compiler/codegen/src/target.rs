//! The targets users name, and what each is good for: one row per target.

use tahoma_core::kernel::KernelSpec;
use tahoma_core::launches::LaunchTimes;
use tahoma_core::op::OpDef;
use tahoma_core::{Diagnostic, TensorType, near};
use tahoma_eqsat::{Price, TargetCost};
use tahoma_machine::roofline::{self, Roofline};

/// Which code generator a target has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// NeuronCore-v3, as NKI text.
    Trn2,
    /// An Nvidia GPU, as PTX.
    Ptx,
}

/// A target.
#[derive(Debug)]
pub struct TargetDef {
    /// What `--target` takes.
    pub name: &'static str,
    pub kind: TargetKind,
    pub doc: &'static str,
    pub roofline: &'static Roofline,
}

/// All targets, in the order `--help` lists them.
pub static TARGETS: &[TargetDef] = &[
    TargetDef { name: "trn2", kind: TargetKind::Trn2, doc: "AWS Trainium2 (one NeuronCore-v3), NKI", roofline: &roofline::TRN2 },
    TargetDef { name: "sm_80", kind: TargetKind::Ptx, doc: "Nvidia A100", roofline: &roofline::A100 },
    TargetDef { name: "sm_90", kind: TargetKind::Ptx, doc: "Nvidia H100, H200", roofline: &roofline::H100 },
    TargetDef { name: "sm_90a", kind: TargetKind::Ptx, doc: "Nvidia H100, H200, this architecture only", roofline: &roofline::H100 },
    TargetDef { name: "sm_100a", kind: TargetKind::Ptx, doc: "Nvidia B200, this architecture only", roofline: &roofline::B200 },
    TargetDef { name: "sm_103a", kind: TargetKind::Ptx, doc: "Nvidia B300, this architecture only", roofline: &roofline::B300 },
    TargetDef { name: "sm_120", kind: TargetKind::Ptx, doc: "Nvidia RTX 5090, RTX PRO 6000", roofline: &roofline::RTX_5090 },
];

impl TargetDef {
    /// What launches cost.
    pub fn launches(&self) -> LaunchTimes {
        self.roofline.launches
    }
    /// The target of that name. Error: E0501, with the names there are.
    pub fn find(name: &str) -> Result<&'static TargetDef, Diagnostic> {
        TARGETS.iter().find(|t| t.name == name).ok_or_else(|| {
            let mut d = Diagnostic::error("E0501", format!("no target {name:?}"));
            d.notes = near::notes(name, "targets", TARGETS.iter().map(|t| t.name));
            d
        })
    }
}

impl TargetCost for TargetDef {
    /// A NeuronCore's kernel by the machine's clock, on the instructions that it becomes; a GPU's by the roofline.
    fn kernel_ns(&self, spec: &KernelSpec) -> Option<f64> {
        match self.kind {
            TargetKind::Trn2 => match self.kernel_within(spec, f64::INFINITY) {
                Price::Ns(ns) => Some(ns),
                Price::Over | Price::Never => None,
            },
            TargetKind::Ptx if crate::ptx::refused(spec).is_some() => None,
            TargetKind::Ptx => self.roofline.kernel_ns(spec),
        }
    }
    fn kernel_within(&self, spec: &KernelSpec, most_ns: f64) -> Price {
        match self.kind {
            TargetKind::Trn2 if crate::trn2::refused(spec).is_some() => Price::Never,
            TargetKind::Trn2 => crate::trn2::price(spec, most_ns),
            TargetKind::Ptx => self.kernel_ns(spec).map_or(Price::Never, Price::Ns),
        }
    }
    fn boundary_ns(&self) -> f64 {
        self.roofline.launches.boundary_ns
    }
    fn host_ns(&self, op: &OpDef, operands: &[TensorType], results: &[TensorType]) -> f64 {
        self.roofline.host_ns(op, operands, results)
    }
}
