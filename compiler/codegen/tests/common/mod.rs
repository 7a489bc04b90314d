//! A kernel through MLIR to PTX and through the emulator, with all its checks.

use tahoma_codegen::ptx;
use tahoma_codegen::target::TargetDef;
use tahoma_core::Tensor;
use tahoma_core::kernel::KernelSpec;
use tahoma_mlir::{Chip, Session};
use tahoma_sim::ptx::{Arg, Memory, Module, Options, launch};

/// The kernel's PTX for a chip, and its outputs on these inputs.
pub(crate) fn emulate(session: &Session, spec: &KernelSpec, inputs: &[Tensor], sm: &str) -> (String, Vec<Tensor>) {
    let target = TargetDef::find(sm).unwrap_or_else(|d| panic!("{d}"));
    let k = ptx::lower(spec, target).unwrap_or_else(|d| panic!("{d}"));
    let chip = Chip::find(sm).unwrap_or_else(|| panic!("no chip {sm}"));
    let text = session.emit_ptx(&k.mlir, chip).unwrap_or_else(|e| panic!("{e}\n{}", k.mlir)).remove(0).1;
    let module = Module::parse(&text, k.name.as_str()).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let mut memory = Memory::new();
    let mut args = vec![];
    for t in inputs {
        let bytes = t.to_bytes();
        let p = memory.alloc("in", bytes.len() as u64).unwrap();
        memory.write(p, &bytes).unwrap();
        args.push(Arg::Ptr(p));
    }
    let outs: Vec<_> = spec
        .outputs
        .iter()
        .map(|t| {
            let bytes = t.bytes().unwrap();
            let p = memory.alloc("out", bytes).unwrap();
            args.push(Arg::Ptr(p));
            (t, p, bytes)
        })
        .collect();
    launch(&module, k.name.as_str(), k.grid, k.block, k.shared_bytes, &args, &mut memory, &Options::default())
        .unwrap_or_else(|e| panic!("{e}\n{text}"));
    let read = |(t, p, bytes): (&tahoma_core::TensorType, u64, u64)| {
        Tensor::from_bytes(t.dtype, &t.shape.to_static().unwrap(), memory.read(p, bytes).unwrap()).unwrap()
    };
    let values = outs.into_iter().map(read).collect();
    (text, values)
}
