//! Sizes, clocks and DMA figures of a NeuronCore: one row per generation. Trainium3 would be another row.

use super::isa::Engine;

/// One NeuronCore (LNC = 1) and its share of the chip's HBM. Bytes, GHz, GB/s (1e9) and ns as the names say.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    pub name: &'static str,
    pub core: &'static str,
    /// Lanes of SBUF and PSUM; the first extent of a tile is at most this.
    pub partitions: usize,
    /// Bytes of one SBUF partition that a kernel may use (224 KiB nominal; AWS's own open passes use this lower figure).
    pub sbuf_partition_bytes: usize,
    pub psum_banks: usize,
    /// Bytes of one PSUM bank per partition. One matmul writes one bank.
    pub psum_bank_bytes: usize,
    /// Largest free size of a matmul's moving operand, stationary operand, and the contracted extent.
    pub moving_max: usize,
    pub stationary_max: usize,
    pub contract_max: usize,
    pub tensor_ghz: f64,
    pub vector_ghz: f64,
    pub scalar_ghz: f64,
    pub gpsimd_ghz: f64,
    /// Cycles below which no instruction of Tensor, Vector or Scalar issues.
    pub min_cycles: f64,
    /// Cycles of the tensor engine between two products: taking over the stationary operand. An estimate: hardware was measured at 0.944
    /// to 0.950 of what 512 columns alone would give (awslabs/nki-autotune, kernel_library, June 2026).
    pub stationary_cycles: f64,
    /// Cycles from the end of an instruction's issue until a dependent one may start.
    pub latency_cycles: f64,
    /// From the end of an instruction until one of another engine that waits for it starts, beyond the latency: a semaphore is bumped and
    /// seen. An estimate: with one accumulator bank, a drain and the next tile's first product wait for each other, and 64 tiles then take
    /// 103 us longer than with two (awslabs/nki-autotune, kernel_library, June 2026); the drain itself accounts for 38 of them.
    pub semaphore_ns: f64,
    /// Fixed start of a GpSimd instruction, in cycles.
    pub gpsimd_start_cycles: f64,
    pub dma_engines: usize,
    /// Sustained rate of one DMA engine.
    pub dma_engine_gb_s: f64,
    /// From trigger to the first byte, per transfer; it overlaps with other transfers.
    pub dma_latency_ns: f64,
    /// Extra per transfer whose descriptors the hardware generates (`dge_mode.hwdge`), on the issuing engine.
    pub hwdge_ns: f64,
    /// Least time of one descriptor (one contiguous run of bytes) on a DMA engine.
    pub dma_descriptor_ns: f64,
    /// (contiguous bytes, share of the full rate), rising; interpolated in log2. Our reading of the documented bands.
    pub dma_efficiency: &'static [(f64, f64)],
    /// HBM rate of one core's share.
    pub hbm_gb_s: f64,
    /// Instructions that the toolchain accepts in one module; loops unroll.
    pub instruction_limit: u64,
    /// Device-side start of a launch; inferred from published decode timings, not part of a kernel's own time.
    pub launch_ns: f64,
    /// Between two kernels of one launch: the first drains, and what it wrote is read from HBM. An estimate: a DMA's latency out, and a
    /// semaphore; the next kernel's own clock has the latency in.
    pub boundary_ns: f64,
}

/// NeuronCore-v3.
pub static TRN2: Machine = Machine {
    name: "trn2",
    core: "NeuronCore-v3",
    partitions: 128,
    sbuf_partition_bytes: 212_984,
    psum_banks: 8,
    psum_bank_bytes: 2_048,
    moving_max: 512,
    stationary_max: 128,
    contract_max: 128,
    tensor_ghz: 2.4,
    vector_ghz: 0.96,
    scalar_ghz: 1.2,
    gpsimd_ghz: 1.2,
    min_cycles: 64.0,
    stationary_cycles: 30.0,
    latency_cycles: 60.0,
    semaphore_ns: 500.0,
    gpsimd_start_cycles: 150.0,
    dma_engines: 16,
    dma_engine_gb_s: 23.0,
    dma_latency_ns: 1_300.0,
    hwdge_ns: 600.0,
    dma_descriptor_ns: 60.0,
    dma_efficiency: &[(256.0, 0.186), (512.0, 0.35), (1024.0, 0.6), (2048.0, 0.9), (4096.0, 1.0)],
    hbm_gb_s: 368.0,
    instruction_limit: 5_000_000,
    launch_ns: 50_000.0,
    boundary_ns: 2_000.0,
};

impl Machine {
    /// Clock of an engine in GHz; DMA and Sync have none of their own and count nanoseconds.
    pub fn ghz(&self, engine: Engine) -> f64 {
        match engine {
            Engine::Tensor => self.tensor_ghz,
            Engine::Vector => self.vector_ghz,
            Engine::Scalar => self.scalar_ghz,
            Engine::GpSimd => self.gpsimd_ghz,
            Engine::Dma | Engine::Sync => 1.0,
        }
    }
    /// Ticks (1/24 ns) of an engine's cycle; of DMA and Sync, which count nanoseconds, those of one.
    pub fn ticks(&self, engine: Engine) -> f64 {
        (super::clock::TICKS_PER_NS / self.ghz(engine)).round()
    }
    /// Nanoseconds that one DMA engine needs for one contiguous run of `bytes`.
    pub fn descriptor_ns(&self, bytes: f64) -> f64 {
        let table = self.dma_efficiency;
        let full = |b: f64, share: f64| b / (self.dma_engine_gb_s * share);
        let (first, last) = (table[0], table[table.len() - 1]);
        if bytes >= last.0 {
            return full(bytes, last.1);
        }
        if bytes < first.0 {
            return self.dma_descriptor_ns;
        }
        let at = table.windows(2).find(|w| bytes < w[1].0).map_or((last, last), |w| (w[0], w[1]));
        let t = if at.0.0 == at.1.0 { 0.0 } else { (bytes / at.0.0).log2() / (at.1.0 / at.0.0).log2() };
        full(bytes, at.0.1 + t * (at.1.1 - at.0.1)).max(self.dma_descriptor_ns)
    }
    /// Peak of the tensor engine in FLOP per ns for bf16: the denominator of utilisation figures.
    pub fn peak_bf16(&self) -> f64 {
        2.0 * (self.partitions * self.stationary_max) as f64 * self.tensor_ghz
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptor_time_rises_with_bytes_and_reaches_the_full_rate() {
        let mut last = 0.0;
        for b in [1.0, 64.0, 255.0, 256.0, 300.0, 512.0, 1000.0, 1024.0, 2048.0, 4000.0, 4096.0, 32768.0] {
            let t = TRN2.descriptor_ns(b);
            assert!(t >= last, "{b} bytes: {t} after {last}");
            last = t;
        }
        // Published: 32 KiB on one engine takes 1,416 ns.
        assert!((last - 1416.0).abs() / 1416.0 < 0.01, "{last}");
        assert!((TRN2.peak_bf16() / 1000.0 - 78.6).abs() < 0.1);
    }
}
