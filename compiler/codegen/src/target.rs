//! The targets users name, and what each is good for: one row per target.

use tahoma_core::kernel::KernelSpec;
use tahoma_core::op::OpDef;
use tahoma_core::{Diagnostic, TensorType, near};
use tahoma_eqsat::{Roofline, TargetCost};

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

/// An Nvidia GPU by peak TFLOPS (f32, dense f16) and memory bandwidth in GB/s, from its data sheet. The launch and the host link are as
/// for [`tahoma_eqsat::SM_90A`].
const fn gpu(name: &'static str, f32_tflops: f64, f16_tflops: f64, gb_per_s: f64, sms: u64) -> Roofline {
    Roofline {
        name,
        launch_ns: 3_000.0,
        matmul_f32: f32_tflops * 1e3,
        matmul_f16: f16_tflops * 1e3,
        vector: f32_tflops * 500.0,
        memory: gb_per_s,
        host_link: 25.0,
        host_ns: 20_000.0,
        host_flops: 2.0,
        full_at: sms * 1024,
        tiles: tahoma_eqsat::cost::Tiles { workers: sms, ..tahoma_eqsat::cost::GPU_TILES },
        rows: tahoma_eqsat::cost::GPU_ROWS,
        computes: tahoma_eqsat::cost::gpu_computes,
    }
}

static SM_80: Roofline = gpu("sm_80", 19.5, 312.0, 2_039.0, 108);
static SM_90: Roofline = gpu("sm_90", 67.0, 989.0, 3_350.0, 132);
static SM_100A: Roofline = gpu("sm_100a", 75.0, 2_250.0, 8_000.0, 148);
static SM_103A: Roofline = gpu("sm_103a", 77.0, 2_500.0, 8_000.0, 160);
static SM_120: Roofline = gpu("sm_120", 105.0, 419.0, 1_792.0, 170);

/// All targets, in the order `--help` lists them.
pub static TARGETS: &[TargetDef] = &[
    TargetDef { name: "trn2", kind: TargetKind::Trn2, doc: "AWS Trainium2 (one NeuronCore-v3), NKI", roofline: &tahoma_eqsat::TRN2 },
    TargetDef { name: "sm_80", kind: TargetKind::Ptx, doc: "Nvidia A100", roofline: &SM_80 },
    TargetDef { name: "sm_90", kind: TargetKind::Ptx, doc: "Nvidia H100, H200", roofline: &SM_90 },
    TargetDef { name: "sm_90a", kind: TargetKind::Ptx, doc: "Nvidia H100, H200, this architecture only", roofline: &tahoma_eqsat::SM_90A },
    TargetDef { name: "sm_100a", kind: TargetKind::Ptx, doc: "Nvidia B200, this architecture only", roofline: &SM_100A },
    TargetDef { name: "sm_103a", kind: TargetKind::Ptx, doc: "Nvidia B300, this architecture only", roofline: &SM_103A },
    TargetDef { name: "sm_120", kind: TargetKind::Ptx, doc: "Nvidia RTX 5090, RTX PRO 6000", roofline: &SM_120 },
];

impl TargetDef {
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
    fn kernel_ns(&self, spec: &KernelSpec) -> Option<f64> {
        let refused = match self.kind {
            TargetKind::Trn2 => crate::trn2::refused(spec),
            TargetKind::Ptx => crate::ptx::refused(spec),
        };
        if refused.is_some() {
            return None;
        }
        self.roofline.kernel_ns(spec)
    }
    fn host_ns(&self, op: &OpDef, operands: &[TensorType], results: &[TensorType]) -> f64 {
        self.roofline.host_ns(op, operands, results)
    }
}
