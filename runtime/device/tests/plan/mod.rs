//! What the tests' manifests are made of.

use tahoma_core::artifact::*;
use tahoma_core::graph::OpRef;
use tahoma_core::kernel::{Access, Body, KernelSpec, Load, RowStep, Rows, Store};
use tahoma_core::scalar::{Binary, Expr, Step};
use tahoma_core::{Attrs, DType, TensorType, ops};

/// A type of `n` f32.
pub(crate) fn row(n: usize) -> TensorType {
    TensorType::known(DType::F32, &[n])
}

/// `y = a + b` over n numbers.
pub(crate) fn sum(n: usize) -> KernelDef {
    let access = |buffer| Access { buffer, offset: 0, strides: vec![1], guards: vec![], fill: Default::default() };
    let load = |buffer| Load { access: access(buffer), dtype: DType::F32, per_row: false };
    let mut expr = Expr::default();
    let (a, b) = (expr.push(Step::Input(0), DType::F32), expr.push(Step::Input(1), DType::F32));
    expr.push(Step::Binary(Binary::Add, a, b), DType::F32);
    let body = Body::Rows(Rows {
        outer: vec![n as u64],
        inner: vec![],
        loads: vec![load(0), load(1)],
        steps: vec![RowStep::Map { expr, args: vec![0, 1] }],
        stores: vec![Store { access: access(0), value: 2 }],
    });
    KernelDef {
        name: "k0".into(),
        file: "kernels/k0.ptx".into(),
        sha256: String::new(),
        mlir: "kernels/k0.mlir".into(),
        spec: KernelSpec { name: "k0".into(), inputs: vec![row(n), row(n)], outputs: vec![row(n)], body },
        grid: [1; 3],
        block: [1; 3],
        shared_bytes: 0,
        predicted_ns: Default::default(),
        origin: Default::default(),
    }
}

/// On the host.
pub(crate) fn negate(from: usize, to: usize) -> PlanStep {
    let op = OpRef(ops::find("neg").unwrap());
    PlanStep::Host { op, attrs: Attrs::new(), inputs: vec![from], outputs: vec![to], origin: Default::default() }
}

/// An input or output.
pub(crate) fn port(name: &str, buffer: usize) -> BufferPort {
    BufferPort { name: name.into(), buffer }
}

/// A buffer of its own.
pub(crate) fn buffer(ty: TensorType) -> BufferDef {
    BufferDef { ty, alias: None }
}

/// A manifest that does nothing.
pub(crate) fn empty() -> Manifest {
    Manifest {
        vocabulary: Default::default(),
        schema: SCHEMA,
        producer: "test".into(),
        model: "m".into(),
        target: "sm_90a".into(),
        numerics: Numerics::default(),
        inputs: vec![],
        outputs: vec![],
        buffers: vec![],
        weights_base: String::new(),
        weights: vec![],
        load: vec![],
        run: vec![],
        kernels: vec![],
        functions: Default::default(),
        report: Report::default(),
    }
}
