//! Machines as rooflines: what no kernel beats, and what it costs where no better clock is known.

use crate::{gpu, trn2};
use tahoma_core::kernel::{Access, Body, ContractSpec, KernelSpec, Operand, Rows};
use tahoma_core::launches::LaunchTimes;
use tahoma_core::op::{Contract, Kind, Move, OpDef};
use tahoma_core::{DType, TensorType};

/// The roofline of a machine whose engines work side by side: a kernel takes the longest of its products, its other arithmetic and its
/// memory traffic.
///
/// ```text
/// ns = max(products / peak, operations / peak, bytes / bandwidth) + a twentieth of each
/// ```
///
/// The last term stands for imperfect overlap; it makes less work cheaper even where another limit rules.
#[derive(Clone, Debug)]
pub struct Roofline {
    pub name: &'static str,
    pub launches: LaunchTimes,
    /// Contraction flops per ns: f32, and 16-bit or 8-bit floats.
    pub matmul_f32: f64,
    pub matmul_f16: f64,
    /// Elementwise and reduction operations per ns.
    pub vector: f64,
    /// Bytes per ns of device memory.
    pub memory: f64,
    /// Bytes per ns between host and device, and the fixed time of one exchange.
    pub host_link: f64,
    pub host_ns: f64,
    /// Host arithmetic: operations per ns.
    pub host_flops: f64,
    /// Fewer output elements than this leave a part of the machine idle.
    pub full_at: u64,
    pub tiles: Tiles,
    pub rows: RowCost,
    /// Whether kernels compute on a number type.
    pub computes: fn(DType) -> bool,
}

/// How contractions are cut up.
#[derive(Clone, Debug, PartialEq)]
pub struct Tiles {
    /// The multiplier works on so many rows at once; the smaller of a product's sides is filled up to it.
    pub granule: u64,
    /// Parts of the machine that work apart (multiprocessors), and the side of the smallest tile one of them takes.
    pub workers: u64,
    pub side: u64,
}

/// What it takes to make the rows of a contraction's first operand in the kernel (norms, attention).
#[derive(Clone, Debug, PartialEq)]
pub struct RowCost {
    /// Most columns of the result that share one making of the rows: more columns make them again.
    pub columns: u64,
    /// Elements of a row that are kept; a longer row that is a product is made again for each pass over it. `None`: rows are whole.
    pub kept: Option<u64>,
    /// Bytes that a row's values may take; longer ones are no kernel.
    pub bytes: Option<u64>,
    /// Multiplies that turning one element costs, where the multiplier wants the row's other side.
    pub turn: f64,
}

/// One NeuronCore-v3. Peaks and bandwidth: Trainium2 architecture guide (79 TFLOPS bf16, 20 TFLOPS f32, about 1 TFLOPS vector,
/// 368 GB/s sustained DMA per core).
pub static TRN2: Roofline = Roofline {
    name: "trn2",
    launches: LaunchTimes { segment_ns: trn2::TRN2.launch_ns, boundary_ns: trn2::TRN2.boundary_ns },
    matmul_f32: 20_000.0,
    matmul_f16: 79_000.0,
    vector: 1_000.0,
    memory: 368.0,
    host_link: 16.0,
    host_ns: 100_000.0,
    host_flops: 2.0,
    full_at: 128 * 128,
    // One operand stands in the array, up to 128 columns of it: fewer leave columns idle.
    tiles: Tiles { granule: 128, workers: 1, side: 1 },
    // Rows lie whole in SBUF, once for all columns, and are turned by the tensor engine, 128 columns at a time.
    rows: RowCost { columns: u64::MAX, kept: None, bytes: Some(168 << 10), turn: 128.0 },
    computes: |d| matches!(d, DType::F32 | DType::F16 | DType::BF16 | DType::Bool),
};

/// H100 SXM: 67 TFLOPS f32, 494 TFLOPS tf32, 989 TFLOPS bf16 dense, 3.35 TB/s (data sheet). The f32 matmul rate is that of f32
/// arithmetic: tf32 is a lower precision, which only `--numerics fast` allows.
pub static H100: Roofline = Roofline { matmul_f32: 60_000.0, vector: 33_000.0, ..gpu("H100", 67.0, 989.0, 3_350.0, 132) };
/// The others by their data sheets.
pub static A100: Roofline = gpu("A100", 19.5, 312.0, 2_039.0, 108);
pub static B200: Roofline = gpu("B200", 75.0, 2_250.0, 8_000.0, 148);
pub static B300: Roofline = gpu("B300", 77.0, 2_500.0, 8_000.0, 160);
pub static RTX_5090: Roofline = gpu("RTX 5090", 105.0, 419.0, 1_792.0, 170);

/// An Nvidia GPU by peak TFLOPS (f32, dense f16), memory bandwidth in GB/s, and multiprocessors.
const fn gpu(name: &'static str, f32_tflops: f64, f16_tflops: f64, gb_per_s: f64, sms: u64) -> Roofline {
    Roofline {
        name,
        launches: gpu::LAUNCHES,
        matmul_f32: f32_tflops * 1e3,
        matmul_f16: f16_tflops * 1e3,
        vector: f32_tflops * 500.0,
        memory: gb_per_s,
        host_link: 25.0,
        host_ns: 20_000.0,
        host_flops: 2.0,
        full_at: sms * 1024,
        // `mma` takes 16 rows; a tile of 32×32 keeps one multiprocessor busy.
        tiles: Tiles { granule: 16, workers: sms, side: 32 },
        // A block makes its rows for up to 128 columns, and keeps as many scores of each.
        rows: RowCost { columns: 128, kept: Some(128), bytes: None, turn: 0.0 },
        computes: gpu_computes,
    }
}

/// Registers hold whole numbers of 8 to 64 bits and floats of 16 to 64.
fn gpu_computes(d: DType) -> bool {
    use DType::*;
    matches!(d, F64 | F32 | TF32 | F16 | BF16 | I64 | U64 | I32 | U32 | I16 | U16 | I8 | U8 | Bool)
}

/// What one kernel keeps each engine busy with, in ns.
#[derive(Default)]
struct Work {
    tensor: f64,
    vector: f64,
    memory: f64,
}

impl Work {
    fn ns(&self) -> f64 {
        self.tensor.max(self.vector).max(self.memory) + 0.05 * (self.tensor + self.vector + self.memory)
    }
}

fn product(extents: &[u64]) -> f64 {
    extents.iter().map(|&e| e as f64).product()
}

impl Roofline {
    /// Share of the machine that `points` independent outputs can use; a floor keeps tiny kernels comparable.
    fn share(&self, points: u64) -> f64 {
        (points as f64 / self.full_at as f64).clamp(1.0 / 64.0, 1.0)
    }

    /// Shares of arithmetic and of memory that the tiles of a contraction keep busy, `columns` wide. A worker alone gets twice its part
    /// of the bandwidth: half of them draw all of it.
    fn busy(&self, c: &ContractSpec, columns: u64) -> (f64, f64) {
        let cut = |extents: &[u64], side: u64| extents.iter().product::<u64>().div_ceil(side);
        let tiles = cut(&c.batch, 1) * cut(&c.m, self.tiles.side) * cut(&c.n, columns);
        let share = tiles as f64 / self.tiles.workers as f64;
        (share.clamp(1.0 / 64.0, 1.0), (2.0 * share).clamp(1.0 / 32.0, 1.0))
    }

    /// Flops of `batch` products of m×k by k×n, with what the multiplier's granule wastes.
    fn multiplications(&self, batch: f64, m: f64, n: f64, k: f64) -> f64 {
        let filled = |x: f64| (x / self.tiles.granule as f64).ceil() * self.tiles.granule as f64;
        2.0 * batch * k * (filled(m) * n).min(m * filled(n))
    }

    /// Contraction flops per ns of a number type.
    fn rate(&self, d: DType) -> f64 {
        if d.bits() <= 16 && d.is_float() {
            self.matmul_f16
        } else if d == DType::F64 {
            self.matmul_f32 / 2.0
        } else {
            self.matmul_f32
        }
    }

    /// What making the elements that a contraction multiplies takes, beyond reading them, if `wide` columns share a row. `None` where
    /// the target cannot.
    fn operands(&self, c: &ContractSpec, wide: u64) -> Option<Work> {
        let (batch, m, n, k) = (product(&c.batch), product(&c.m), product(&c.n), product(&c.k));
        let work = |o: &Operand| if o.plain().is_some() { 0.0 } else { (o.flops() + o.loads.len() as u64) as f64 };
        // Each tile of the other side makes them again.
        let again = |other: f64, tile: u64| (other / tile as f64).ceil().max(1.0);
        let columns = again(n, wide.min(1 << 40));
        let mut w = Work { vector: c.b.iter().map(work).sum::<f64>() * batch * n * k * again(m, 128) / self.vector, ..Work::default() };
        if !c.a.is_row() {
            w.vector += work(&c.a) * batch * m * k * again(n, 128) / self.vector;
            return Some(w);
        }
        if self.rows.bytes.is_some_and(|b| k * 4.0 * c.a.row_values() as f64 > b as f64) || !multiplies(c.dtype) {
            return None;
        }
        let passes = c.a.passes() as f64;
        w.vector += (work(&c.a) + passes) * batch * m * k * columns / self.vector;
        w.tensor += 2.0 * batch * m * k * self.rows.turn / self.rate(c.dtype);
        if let Some(p) = &c.a.product {
            if !multiplies(p.dtype) {
                return None;
            }
            let e = product(&p.sum);
            let whole = self.rows.kept.is_none_or(|kept| k <= kept as f64);
            let times = columns * if whole { 1.0 } else { passes + 1.0 };
            w.tensor += self.multiplications(batch, m, k, e) * times / self.rate(p.dtype);
            w.vector += (work(&p.a) * m + work(&p.b) * k) * batch * e * times / self.vector;
        }
        Some(w)
    }

    fn contraction(&self, c: &ContractSpec, bytes: f64) -> Option<Work> {
        let spread = (self.tiles.workers > 1 && c.is_narrow()).then(|| c.spread());
        let c = spread.as_ref().unwrap_or(c);
        // Rows are made for as many columns as share them: fewer where that would leave workers idle.
        let options = if c.a.is_row() { vec![self.rows.columns, self.rows.columns / 2] } else { vec![self.tiles.side] };
        let all = options.into_iter().filter_map(|columns| self.tiled(c, bytes, columns));
        all.min_by(|a, b| a.ns().total_cmp(&b.ns()))
    }

    fn tiled(&self, c: &ContractSpec, bytes: f64, columns: u64) -> Option<Work> {
        let (batch, m, n, k) = (product(&c.batch), product(&c.m), product(&c.n), product(&c.k));
        let made = self.operands(c, columns)?;
        // Reading an element into an expression takes about as long as an operation on it.
        let each = (c.epilogue.flops() + c.loads.len() as u64) as f64;
        let sums = self.multiplications(batch, m, n, k) * c.b.len() as f64;
        let (busy, drawn) = self.busy(c, columns);
        Some(Work {
            tensor: (sums / self.rate(c.dtype) + made.tensor) / busy,
            vector: (batch * m * n * each / self.vector + made.vector) / busy,
            memory: bytes / self.memory / drawn,
        })
    }

    fn row(&self, r: &Rows, spec: &KernelSpec, bytes: f64) -> Option<Work> {
        let outer: u64 = r.outer.iter().product();
        let inner: u64 = r.inner.iter().product();
        let points = outer * inner;
        // Short rows go tap by tap, a map in pieces.
        if inner > 64 && self.rows.bytes.is_some_and(|b| inner * 4 * r.row_values() as u64 > b) {
            return None;
        }
        let reads: u64 = r.loads.iter().map(|l| if l.per_row { outer } else { points }).sum();
        let skipped = r.loads.iter().filter(|l| skips(&l.access)).filter_map(|l| spec.inputs.get(l.access.buffer)?.bytes()).sum::<u64>();
        let share = self.share(points);
        Some(Work {
            tensor: 0.0,
            vector: (spec.flops() + reads) as f64 / self.vector / share,
            memory: (bytes + skipped as f64) / self.memory / share.max(1.0 / 8.0),
        })
    }
}

/// Whether multiplier arrays take this type: the others are contracted as rows, which make no operands.
fn multiplies(d: DType) -> bool {
    matches!(d, DType::F32 | DType::F16 | DType::BF16)
}

/// A read whose innermost loop skips through memory wastes most of each line it fetches.
fn skips(a: &Access) -> bool {
    let last = a.strides.iter().rev().find(|s| **s != 0).map_or(0, |s| s.abs());
    last > 4 && !a.strides.iter().any(|s| s.abs() == 1)
}

impl Roofline {
    /// A kernel by itself; `None` where the target cannot run it.
    pub fn kernel_ns(&self, spec: &KernelSpec) -> Option<f64> {
        if !spec.dtypes().into_iter().all(self.computes) {
            return None;
        }
        let bytes = spec.bytes() as f64;
        let w = match &spec.body {
            Body::Contract(c) => self.contraction(c, bytes)?,
            Body::Rows(r) => self.row(r, spec, bytes)?,
        };
        Some(w.ns())
    }

    /// One op on the host, with its transfers.
    pub fn host_ns(&self, op: &OpDef, operands: &[TensorType], results: &[TensorType]) -> f64 {
        let bytes = |t: &[TensorType]| t.iter().map(|t| t.bytes().unwrap_or(1 << 20)).sum::<u64>() as f64;
        let elements = |t: &[TensorType]| t.iter().map(|t| t.shape.elements().unwrap_or(1 << 18)).sum::<u64>() as f64;
        let dim = |t: &TensorType, i: usize| t.shape.0.get(i).and_then(|d| d.known()).unwrap_or(1).max(1) as f64;
        let work = match &op.kind {
            Kind::Contract(Contract::MatMul) => 2.0 * dim(&operands[0], operands[0].rank().saturating_sub(1)) * elements(results),
            Kind::Contract(Contract::Conv) => 2.0 * elements(&operands[1..2]) / dim(&operands[1], 0) * elements(results),
            Kind::Move(Move::Reshape) => 0.0,
            _ => elements(operands) + elements(results),
        };
        self.host_ns + (bytes(operands) + bytes(results)) / self.host_link + work / self.host_flops
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tahoma_core::{Attrs, Builder};

    fn kernel(op: &str, shapes: &[&[usize]], dtype: DType) -> KernelSpec {
        let mut b = Builder::new("k");
        let x: Vec<_> = shapes.iter().map(|s| b.input("x", TensorType::known(dtype, s))).collect();
        let y = b.op(op, &x, Attrs::new()).expect("the op fits");
        b.output("y", y);
        tahoma_core::form::form(&b.finish(), "k").expect("a kernel")
    }

    #[test]
    fn large_matmuls_run_at_the_peak_and_large_maps_at_the_bandwidth() {
        let n = 4096usize;
        let m = kernel("matmul", &[&[n, n], &[n, n]], DType::BF16);
        let peak = 2.0 * (n as f64).powi(3) / H100.matmul_f16;
        let ns = H100.kernel_ns(&m).expect("runs");
        assert!((peak..1.2 * peak).contains(&ns), "{ns} against {peak}");
        let a = kernel("add", &[&[n, n], &[n, n]], DType::F32);
        let memory = (3 * 4 * n * n) as f64 / TRN2.memory;
        let ns = TRN2.kernel_ns(&a).expect("runs");
        assert!((memory..1.2 * memory).contains(&ns), "{ns} against {memory}");
    }

    #[test]
    fn a_small_kernel_costs_its_launch() {
        let a = kernel("add", &[&[8], &[8]], DType::F32);
        assert!(H100.kernel_ns(&a).is_some_and(|ns| ns < 0.01 * H100.launches.boundary_ns));
    }
}
