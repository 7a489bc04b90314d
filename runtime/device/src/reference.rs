//! Kernels by their meaning: `KernelSpec` evaluated on the host. What every other device must equal.

use crate::device::{Block, Device, HostMemory, LaunchStats, bytes_of, extents};
use tahoma_core::artifact::KernelDef;
use tahoma_core::{Diagnostic, Tensor, kernel_eval};

#[derive(Debug, Default)]
pub struct Reference {
    memory: HostMemory,
    kernels: Vec<KernelDef>,
}

impl Device for Reference {
    fn name(&self) -> &'static str {
        "interp"
    }
    fn load(&mut self, kernels: &[KernelDef], _text: &[String]) -> Result<(), Diagnostic> {
        self.kernels = kernels.to_vec();
        Ok(())
    }
    fn alloc(&mut self, bytes: usize) -> Result<Block, Diagnostic> {
        self.memory.alloc(bytes)
    }
    fn upload(&mut self, block: Block, bytes: &[u8]) -> Result<(), Diagnostic> {
        self.memory.put(block, bytes)
    }
    fn download(&mut self, block: Block, bytes: usize) -> Result<Vec<u8>, Diagnostic> {
        Ok(self.memory.get(block, bytes)?.to_vec())
    }
    fn copy(&mut self, from: Block, to: Block, bytes: usize) -> Result<(), Diagnostic> {
        self.memory.copy(from, to, bytes)
    }
    fn free(&mut self, block: Block) {
        self.memory.free(block);
    }
    fn launch(&mut self, kernel: usize, inputs: &[Block], outputs: &[Block]) -> Result<LaunchStats, Diagnostic> {
        let k = &self.kernels[kernel];
        let mut args = vec![];
        for (b, t) in inputs.iter().zip(&k.spec.inputs) {
            let tensor = Tensor::from_bytes(t.dtype, &extents(t)?, self.memory.get(*b, bytes_of(t)?)?);
            args.push(tensor.ok_or_else(|| Diagnostic::error("E0605", format!("{}: an input block is no {t}", k.name)))?);
        }
        let out = kernel_eval::eval(&k.spec, &args)
            .map_err(|e| Diagnostic::error("E0603", format!("{}: {e}", k.name)).caused_by(e).at((*k.origin).clone()))?;
        for (b, t) in outputs.iter().zip(out) {
            self.memory.put(*b, &t.to_bytes())?;
        }
        Ok(LaunchStats::default())
    }
}
