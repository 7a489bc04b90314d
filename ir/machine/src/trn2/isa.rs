//! The instruction table: one row per NeuronCore-v3 instruction that programs here may use.
//!
//! A row is the documented `nki.isa` call, keyword for keyword in the documented order, with the engines that run it, what each operand
//! may be, its meaning and its cycles. The printer, the parser, the MLIR dialect and the simulator's legality checks all read it.
//! Sources: NKI 0.6 `nki.isa` reference (signatures, limits, meaning); SDK documentation tag v2.26.1 (cycles).

use super::cost::{self, CostFn};
use super::program::Mem;
use Role::*;
use tahoma_core::DType;

/// An instruction stream of the core, or its DMA engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Engine {
    Tensor,
    Vector,
    Scalar,
    GpSimd,
    Dma,
    Sync,
}

impl Engine {
    pub const ALL: [Engine; 6] = [Engine::Tensor, Engine::Vector, Engine::Scalar, Engine::GpSimd, Engine::Dma, Engine::Sync];
    /// Member name of `nisa.engine`.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Tensor => "tensor",
            Engine::Vector => "vector",
            Engine::Scalar => "scalar",
            Engine::GpSimd => "gpsimd",
            Engine::Dma => "dma",
            Engine::Sync => "sync",
        }
    }
    pub fn from_name(name: &str) -> Option<Engine> {
        Engine::ALL.into_iter().find(|e| e.name() == name)
    }
}

/// Buffers a tile operand may live in, as bits.
pub const SB: u8 = 1;
pub const PS: u8 = 2;
pub const HBM: u8 = 4;

/// Number types of a tile operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Types {
    /// Every type of the machine.
    Any,
    /// fp32, tf32, bf16, fp16, fp8.
    Float,
    F32,
    /// fp32 where it lives in PSUM and is a matmul result; transposes keep the data's type.
    MatmulOut,
    /// (u)int8, 16, 32.
    Int,
    /// uint8, 16, 32 (predicates).
    Uint,
    /// (u)int8, 16.
    SmallInt,
    U16,
    /// uint16 or uint32.
    U16or32,
    U32,
    I32,
}

impl Types {
    pub fn allows(self, d: DType) -> bool {
        use DType::*;
        let machine = matches!(d, F32 | TF32 | BF16 | F16 | F8E4M3 | F8E5M2 | I32 | U32 | I16 | U16 | I8 | U8);
        machine
            && match self {
                Types::Any => true,
                Types::Float => d.is_float(),
                Types::F32 => d == F32,
                Types::MatmulOut => matches!(d, F32 | BF16 | F16),
                Types::Int => d.is_int(),
                Types::Uint => matches!(d, U8 | U16 | U32),
                Types::SmallInt => matches!(d, I8 | U8 | I16 | U16),
                Types::U16 => d == U16,
                Types::U16or32 => matches!(d, U16 | U32),
                Types::U32 => d == U32,
                Types::I32 => d == I32,
            }
    }
    pub fn describe(self) -> &'static str {
        match self {
            Types::Any => "f32, tf32, bf16, f16, f8e4m3, f8e5m2 or an 8, 16 or 32-bit integer",
            Types::Float => "a float",
            Types::F32 => "f32",
            Types::MatmulOut => "f32 (or the data's 16-bit type in a transpose)",
            Types::Int => "an integer",
            Types::Uint => "an unsigned integer",
            Types::SmallInt => "an 8 or 16-bit integer",
            Types::U16 => "u16",
            Types::U16or32 => "u16 or u32",
            Types::U32 => "u32",
            Types::I32 => "i32",
        }
    }
}

/// What a tile operand may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bits of [`SB`], [`PS`], [`HBM`].
    pub buffers: u8,
    pub types: Types,
    /// Largest partition extent (HBM operands: unlimited).
    pub partitions: usize,
    /// Elements per partition: least and most.
    pub min_free: usize,
    pub max_free: usize,
}

impl Limits {
    pub fn allows(&self, mem: Mem) -> bool {
        let bit = match mem {
            Mem::Sbuf => SB,
            Mem::Psum => PS,
            Mem::SharedHbm | Mem::PrivateHbm => HBM,
        };
        self.buffers & bit != 0
    }
}

/// What an operand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Written tile.
    Dst(Limits),
    /// Read and written tile.
    InOut(Limits),
    /// Read tile.
    Src(Limits),
    /// Number, or fp32 `[P, 1]` tile.
    Scalar,
    /// Number, or `[P, 1]` tile of any float type but tf32.
    Bias,
    /// Number, or tile of the destination's shape.
    SrcOrNumber(Limits),
    /// Member of [`super::ops::ALU`], printed `nl.NAME`.
    Alu,
    /// Member of [`super::ops::ACTIVATIONS`], printed `nl.NAME`.
    Act,
    /// Member of the named `nisa` enumeration.
    Enum(&'static str, &'static [&'static str]),
    Int,
    Float,
    Bool,
    /// `True`, `False` or not given (`nc_matmul`'s `accumulate`).
    Accumulate,
    /// `[[step, count], …]`.
    Pattern,
    /// Tuple or list of integers.
    Ints,
    /// A quoted name.
    Str,
}

impl Role {
    /// The limits where the operand is or may be a data tile.
    pub fn limits(&self) -> Option<&Limits> {
        match self {
            Dst(l) | InOut(l) | Src(l) | SrcOrNumber(l) => Some(l),
            _ => None,
        }
    }
    pub fn writes(&self) -> bool {
        matches!(self, Dst(_) | InOut(_))
    }
}

/// One keyword of the call.
#[derive(Debug)]
pub struct OperandDef {
    pub name: &'static str,
    pub role: Role,
    /// Python text of the default; `None` if the operand must be given.
    pub default: Option<&'static str>,
}

/// One instruction.
#[derive(Debug)]
pub struct InstrDef {
    /// The call is `nisa.NAME`.
    pub name: &'static str,
    /// Engines that can run it; the first is taken where none is named and nothing forces another.
    pub engines: &'static [Engine],
    pub operands: &'static [OperandDef],
    /// Meaning.
    pub doc: &'static str,
    /// The cycle formula in words, and as a function.
    pub cost_doc: &'static str,
    pub cost: CostFn,
}

impl InstrDef {
    pub fn operand(&self, name: &str) -> Option<usize> {
        self.operands.iter().position(|o| o.name == name)
    }
}

impl PartialEq for InstrDef {
    fn eq(&self, other: &InstrDef) -> bool {
        self.name == other.name
    }
}

/// Looks an instruction up by the name after `nisa.`.
pub fn instr(name: &str) -> Option<&'static InstrDef> {
    INSTRS.iter().find(|i| i.name == name)
}

const K64: usize = 65_536;
const fn lim(buffers: u8, types: Types) -> Limits {
    Limits { buffers, types, partitions: 128, min_free: 1, max_free: K64 }
}
const fn free(buffers: u8, types: Types, min_free: usize, max_free: usize) -> Limits {
    Limits { buffers, types, partitions: 128, min_free, max_free }
}
const fn req(name: &'static str, role: Role) -> OperandDef {
    OperandDef { name, role, default: None }
}
const fn opt(name: &'static str, role: Role, default: &'static str) -> OperandDef {
    OperandDef { name, role, default: Some(default) }
}

const ENGINES: &[&str] = &["tensor", "vector", "scalar", "gpsimd", "dma", "sync", "unknown"];
const ENGINE: OperandDef = opt("engine", Enum("engine", ENGINES), "nisa.engine.unknown");
const NAME: OperandDef = opt("name", Str, "None");
const REDUCE_CMD: Role = Enum("reduce_cmd", &["idle", "reset", "reduce", "reset_reduce", "load_reduce"]);
const DGE: OperandDef = opt("dge_mode", Enum("dge_mode", &["unknown", "swdge", "hwdge", "none"]), "nisa.dge_mode.unknown");
const OOB: OperandDef = opt("oob_mode", Enum("oob_mode", &["error", "skip"]), "nisa.oob_mode.error");
const PERF: Role = Enum("matmul_perf_mode", &["none", "double_row"]);

const ANY: u8 = SB | PS;
const DST: Role = Dst(lim(ANY, Types::Any));
const SRC: Role = Src(lim(ANY, Types::Any));
const RES: Role = Dst(free(ANY, Types::Any, 1, 1));

use Engine::{Dma, GpSimd, Scalar as Act_, Tensor as Pe, Vector as Dve};

/// Every instruction known here. Not included, on purpose: random numbers, `topk`, `nonzero_with_count`, `sequence_bounds`,
/// `nc_match_replace8`, `dma_compute`, registers, cross-core instructions, and what only NeuronCore-v4 has.
pub static INSTRS: &[InstrDef] = &[
    InstrDef {
        name: "nc_matmul",
        engines: &[Pe],
        operands: &[
            req("dst", InOut(free(PS, Types::MatmulOut, 1, 512))),
            req("stationary", Src(free(SB, Types::Float, 1, 256))),
            req("moving", Src(free(SB, Types::Float, 1, 1024))),
            opt("is_stationary_onezero", Bool, "False"),
            opt("is_moving_onezero", Bool, "False"),
            opt("is_transpose", Bool, "False"),
            opt("accumulate", Accumulate, "None"),
            opt("tile_position", Ints, "()"),
            opt("tile_size", Ints, "()"),
            opt("perf_mode", PERF, "nisa.matmul_perf_mode.none"),
            NAME,
        ],
        doc: "dst[M, N] = or += stationary[K, M]ᵀ · moving[K, N] in fp32, K on partitions. Overwrites with accumulate=False, adds with True; without it the first write of a location overwrites and later ones add.",
        cost_doc: "max(M/4, max(64, N)); fp32 4x; double_row contracts 256 rows in the same time",
        cost: cost::matmul,
    },
    InstrDef {
        name: "nc_transpose",
        engines: &[Pe, Dve],
        operands: &[req("dst", DST), req("data", Src(free(ANY, Types::Any, 1, 128))), ENGINE, NAME],
        doc: "dst[f, p] = data[p, f], exact, same type. Tensor engine: up to 128x128, SBUF to PSUM. Vector engine: up to 32x32.",
        cost_doc: "Tensor: max(P, min(64, F)); Vector: max(64, N)",
        cost: cost::transpose,
    },
    InstrDef {
        name: "activation",
        engines: &[Act_],
        operands: &[
            req("dst", DST),
            req("op", Act),
            req("data", SRC),
            opt("bias", Bias, "None"),
            opt("scale", Scalar, "1.0"),
            opt("reduce_op", Alu, "None"),
            opt("reduce_res", RES, "None"),
            opt("reduce_cmd", REDUCE_CMD, "nisa.reduce_cmd.idle"),
            NAME,
        ],
        doc: "dst = op(data * scale + bias). With reduce_cmd the results are also summed along the free dimensions into one fp32 register per lane, read out to reduce_res.",
        cost_doc: "max(64, N), read-out + 64",
        cost: cost::plain,
    },
    InstrDef {
        name: "activation_reduce",
        engines: &[Act_],
        operands: &[
            req("dst", Dst(free(ANY, Types::Any, 1, 16_384))),
            req("op", Act),
            req("data", SRC),
            req("reduce_op", Alu),
            req("reduce_res", RES),
            opt("bias", Bias, "None"),
            opt("scale", Scalar, "1.0"),
            NAME,
        ],
        doc: "activation that always resets, sums along the free dimensions and writes the sum to reduce_res.",
        cost_doc: "max(64, N) + 64",
        cost: cost::activation_reduce,
    },
    InstrDef {
        name: "tensor_tensor",
        engines: &[Dve, GpSimd],
        operands: &[req("dst", DST), req("data1", SRC), req("data2", SRC), req("op", Alu), ENGINE, NAME],
        doc: "dst = data1 op data2. power and 32-bit integers run on GpSimd, exactly for integers.",
        cost_doc: "max(64, 2N); N if one input is in PSUM or all are 16-bit in SBUF; GpSimd 150 + 2N",
        cost: cost::two_inputs,
    },
    InstrDef {
        name: "tensor_scalar",
        engines: &[Dve, Act_, GpSimd],
        operands: &[
            req("dst", DST),
            req("data", SRC),
            req("op0", Alu),
            req("operand0", Scalar),
            opt("reverse0", Bool, "False"),
            opt("op1", Alu, "None"),
            opt("operand1", Scalar, "None"),
            opt("reverse1", Bool, "False"),
            ENGINE,
            NAME,
        ],
        doc: "dst = (data op0 operand0) op1 operand1; reverse swaps the sides. Unary operators ignore their operand. Scalar engine: multiply then add, multiply, or add only; GpSimd: rsqrt only.",
        cost_doc: "max(64, N), 16-bit in SBUF N/4 (contiguous) or N/2",
        cost: cost::one_input,
    },
    InstrDef {
        name: "scalar_tensor_tensor",
        engines: &[Dve],
        operands: &[
            req("dst", DST),
            req("data", SRC),
            req("op0", Alu),
            req("operand0", Scalar),
            req("op1", Alu),
            req("operand1", SRC),
            opt("reverse0", Bool, "False"),
            opt("reverse1", Bool, "False"),
            NAME,
        ],
        doc: "dst = (data op0 operand0) op1 operand1, operand1 a tile of data's shape.",
        cost_doc: "max(64, 2N); N for bf16 subtract then multiply",
        cost: cost::scalar_tensor_tensor,
    },
    InstrDef {
        name: "tensor_reduce",
        engines: &[Dve],
        operands: &[
            req("dst", DST),
            req("op", Alu),
            req("data", SRC),
            req("axis", Ints),
            opt("negate", Bool, "False"),
            opt("keepdims", Bool, "False"),
            NAME,
        ],
        doc: "Reduces the last free dimensions named by axis; negate flips the sign of the result.",
        cost_doc: "max(64, N); N/2 for bf16 add and maximum",
        cost: cost::reduce,
    },
    InstrDef {
        name: "tensor_copy",
        engines: &[Dve, Act_, GpSimd],
        operands: &[req("dst", DST), req("src", SRC), ENGINE, NAME],
        doc: "dst = src; bit-exact for equal types, else through fp32.",
        cost_doc: "max(64, N), 16-bit in SBUF N/4 (contiguous) or N/2",
        cost: cost::one_input,
    },
    InstrDef {
        name: "tensor_copy_predicated",
        engines: &[Dve],
        operands: &[
            req("dst", InOut(lim(ANY, Types::Any))),
            req("src", SrcOrNumber(lim(ANY, Types::Any))),
            req("predicate", Src(lim(ANY, Types::Uint))),
            opt("reverse_pred", Bool, "False"),
            NAME,
        ],
        doc: "Copies src to dst where predicate is not 0 (reverse_pred: is 0); the rest of dst stays.",
        cost_doc: "max(64, 2N) all in SBUF, else N",
        cost: cost::predicated,
    },
    InstrDef {
        name: "memset",
        engines: &[Dve, GpSimd],
        operands: &[req("dst", DST), req("value", Float), ENGINE, NAME],
        doc: "dst = value.",
        cost_doc: "max(64, N); not documented",
        cost: cost::fill,
    },
    InstrDef {
        name: "reciprocal",
        engines: &[Dve],
        operands: &[req("dst", DST), req("data", SRC), NAME],
        doc: "dst = 1/data, more exact than the Scalar engine's.",
        cost_doc: "max(64, 8N)",
        cost: cost::reciprocal,
    },
    InstrDef {
        name: "select_reduce",
        engines: &[Dve],
        operands: &[
            req("dst", DST),
            req("predicate", Src(lim(ANY, Types::SmallInt))),
            req("on_true", Src(lim(ANY, Types::Any))),
            req("on_false", Scalar),
            opt("reduce_res", RES, "None"),
            opt("reduce_cmd", REDUCE_CMD, "nisa.reduce_cmd.idle"),
            opt("reduce_op", Alu, "nl.maximum"),
            opt("reverse_pred", Bool, "False"),
            NAME,
        ],
        doc: "dst = predicate ? on_true : on_false, with an optional running maximum into reduce_res.",
        cost_doc: "not documented; as tensor_copy_predicated",
        cost: cost::predicated,
    },
    InstrDef {
        name: "range_select",
        engines: &[Dve],
        operands: &[
            req("dst", DST),
            req("on_true_tile", Src(lim(ANY, Types::Float))),
            req("comp_op0", Alu),
            req("comp_op1", Alu),
            req("bound0", Scalar),
            req("bound1", Scalar),
            opt("reduce_cmd", REDUCE_CMD, "nisa.reduce_cmd.reset_reduce"),
            opt("reduce_res", RES, "None"),
            opt("reduce_op", Alu, "nl.maximum"),
            opt("range_start", Int, "0"),
            opt("on_false_value", Float, "-3.4028235e+38"),
            NAME,
        ],
        doc: "Keeps element i where (range_start + i) passes both comparisons with bound0 and bound1, else -3.4028235e38; running maximum.",
        cost_doc: "max(64, N)",
        cost: cost::plain,
    },
    InstrDef {
        name: "tensor_tensor_scan",
        engines: &[Dve],
        operands: &[
            req("dst", DST),
            req("data0", SRC),
            req("data1", SRC),
            req("initial", Scalar),
            req("op0", Alu),
            req("op1", Alu),
            opt("reverse0", Bool, "False"),
            opt("reverse1", Bool, "False"),
            NAME,
        ],
        doc: "r[i] = (data0[i] op0 r[i-1]) op1 data1[i], r[-1] = initial; writes every r.",
        cost_doc: "max(64, 2N)",
        cost: cost::scan,
    },
    InstrDef {
        name: "bn_stats",
        engines: &[Dve],
        operands: &[req("dst", Dst(free(ANY, Types::Float, 6, 6))), req("data", Src(free(ANY, Types::Float, 1, 512))), NAME],
        doc: "(count, mean, variance * count) of the even elements, then of the odd ones, per partition.",
        cost_doc: "max(64, N)",
        cost: cost::plain,
    },
    InstrDef {
        name: "bn_aggr",
        engines: &[Dve],
        operands: &[req("dst", Dst(free(ANY, Types::Float, 2, 2))), req("data", Src(free(ANY, Types::Float, 3, K64))), NAME],
        doc: "Merges triples of bn_stats into (mean, variance) per partition.",
        cost_doc: "max(64, 13N/3)",
        cost: cost::bn_aggr,
    },
    InstrDef {
        name: "max8",
        engines: &[Dve],
        operands: &[req("dst", Dst(free(ANY, Types::Any, 8, 8))), req("src", Src(free(ANY, Types::Any, 8, 16_384))), NAME],
        doc: "The 8 largest of each partition, descending.",
        cost_doc: "max(64, N)",
        cost: cost::plain,
    },
    InstrDef {
        name: "nc_find_index8",
        engines: &[Dve],
        operands: &[
            req("dst", Dst(free(ANY, Types::U16or32, 8, 8))),
            req("data", Src(free(ANY, Types::Any, 8, 16_384))),
            req("vals", Src(free(ANY, Types::Any, 8, 8))),
            NAME,
        ],
        doc: "Index of the first occurrence of each of 8 values; a value given again takes the next occurrence; all ones if absent.",
        cost_doc: "max(64, N)",
        cost: cost::plain,
    },
    InstrDef {
        name: "nc_stream_shuffle",
        engines: &[Dve],
        operands: &[req("dst", DST), req("src", SRC), req("shuffle_mask", Ints), NAME],
        doc: "dst[32q + i] = src[32q + mask[i]] in each quadrant of 32 partitions; 255 leaves dst as it is.",
        cost_doc: "max(64, N)",
        cost: cost::plain,
    },
    InstrDef {
        name: "iota",
        engines: &[GpSimd],
        operands: &[
            req("dst", Dst(lim(SB, Types::Any))),
            req("pattern", Pattern),
            opt("offset", Int, "0"),
            opt("channel_multiplier", Int, "0"),
            NAME,
        ],
        doc: "dst[p, idx] = offset + p * channel_multiplier + sum of idx * step, as int32 cast to dst.",
        cost_doc: "150 + N",
        cost: cost::generate,
    },
    InstrDef {
        name: "affine_select",
        engines: &[GpSimd],
        operands: &[
            req("dst", Dst(lim(SB, Types::Any))),
            req("pattern", Pattern),
            req("channel_multiplier", Int),
            req("on_true_tile", Src(lim(SB, Types::Any))),
            req("on_false_value", Float),
            opt("cmp_op", Alu, "nl.equal"),
            opt("offset", Int, "0"),
            NAME,
        ],
        doc: "Compares offset + p * channel_multiplier + sum of idx * step with 0: the tile's element where true, the constant where not.",
        cost_doc: "150 + N",
        cost: cost::generate,
    },
    InstrDef {
        name: "tensor_partition_reduce",
        engines: &[GpSimd],
        operands: &[req("dst", Dst(lim(SB, Types::Any))), req("op", Alu), req("data", Src(lim(SB, Types::Any))), NAME],
        doc: "Reduces across partitions (add, maximum, bitwise_and, bitwise_or); dst has one partition. Slow: a matmul with ones is faster for sums.",
        cost_doc: "not documented; 150 + N * P",
        cost: cost::partition_reduce,
    },
    InstrDef {
        name: "local_gather",
        engines: &[GpSimd],
        operands: &[
            req("dst", Dst(lim(SB, Types::Any))),
            req("src_buffer", Src(lim(SB, Types::Any))),
            req("index", Src(lim(SB, Types::U16))),
            opt("num_elem_per_idx", Int, "1"),
            opt("num_valid_indices", Int, "None"),
            NAME,
        ],
        doc: "Each group of 16 partitions flattens its indices partition first and gathers those free offsets for all its partitions.",
        cost_doc: "150 + valid * epi / C, C = ((28 + 4 epi)/(4 epi)) / min(4/bytes, epi)",
        cost: cost::local_gather,
    },
    InstrDef {
        name: "nc_n_gather",
        engines: &[GpSimd],
        operands: &[
            req("dst", Dst(lim(SB, Types::Any))),
            req("data", Src(lim(SB, Types::Any))),
            req("indices", Src(lim(SB, Types::U32))),
            NAME,
        ],
        doc: "dst[p, i] = data[p, indices[p, i]] over the flattened free dimensions.",
        cost_doc: "not documented; 150 per 512 indices + N",
        cost: cost::n_gather,
    },
    InstrDef {
        name: "dma_copy",
        engines: &[Dma],
        operands: &[
            req("dst", Dst(Limits { buffers: SB | HBM, types: Types::Any, partitions: 128, min_free: 1, max_free: usize::MAX })),
            req("src", Src(Limits { buffers: SB | HBM, types: Types::Any, partitions: 128, min_free: 1, max_free: usize::MAX })),
            OOB,
            DGE,
            ENGINE,
            NAME,
        ],
        doc: "Copies between HBM and SBUF, any direction, equal element counts; types convert through fp32. An operand in HBM may gather or scatter rows by vector_offset.",
        cost_doc: "1.3 us latency + bytes / (23 GB/s x engines x efficiency of the contiguous run)",
        cost: cost::dma,
    },
    InstrDef {
        name: "dma_transpose",
        engines: &[Dma],
        operands: &[
            req("dst", Dst(Limits { buffers: SB, types: Types::Any, partitions: 128, min_free: 1, max_free: usize::MAX })),
            req("src", Src(Limits { buffers: SB | HBM, types: Types::Any, partitions: usize::MAX, min_free: 1, max_free: usize::MAX })),
            opt("axes", Ints, "None"),
            DGE,
            OOB,
            NAME,
        ],
        doc: "dst = src with axes permuted: (1, 0), (2, 1, 0) or (3, 1, 2, 0); equal types of 2 or 4 bytes.",
        cost_doc: "as dma_copy at 0.9 of its rate from HBM, 0.5 from SBUF",
        cost: cost::dma,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Parameter names per call, as the NKI 0.6 reference lists them (`priority`, which only NeuronCore-v4 has, left out).
    const SIGNATURES: &[(&str, &str)] = &[
        (
            "nc_matmul",
            "dst stationary moving is_stationary_onezero is_moving_onezero is_transpose accumulate tile_position tile_size perf_mode name",
        ),
        ("nc_transpose", "dst data engine name"),
        ("activation", "dst op data bias scale reduce_op reduce_res reduce_cmd name"),
        ("activation_reduce", "dst op data reduce_op reduce_res bias scale name"),
        ("tensor_tensor", "dst data1 data2 op engine name"),
        ("tensor_scalar", "dst data op0 operand0 reverse0 op1 operand1 reverse1 engine name"),
        ("scalar_tensor_tensor", "dst data op0 operand0 op1 operand1 reverse0 reverse1 name"),
        ("tensor_reduce", "dst op data axis negate keepdims name"),
        ("tensor_copy", "dst src engine name"),
        ("tensor_copy_predicated", "dst src predicate reverse_pred name"),
        ("memset", "dst value engine name"),
        ("reciprocal", "dst data name"),
        ("select_reduce", "dst predicate on_true on_false reduce_res reduce_cmd reduce_op reverse_pred name"),
        (
            "range_select",
            "dst on_true_tile comp_op0 comp_op1 bound0 bound1 reduce_cmd reduce_res reduce_op range_start on_false_value name",
        ),
        ("tensor_tensor_scan", "dst data0 data1 initial op0 op1 reverse0 reverse1 name"),
        ("bn_stats", "dst data name"),
        ("bn_aggr", "dst data name"),
        ("max8", "dst src name"),
        ("nc_find_index8", "dst data vals name"),
        ("nc_stream_shuffle", "dst src shuffle_mask name"),
        ("iota", "dst pattern offset channel_multiplier name"),
        ("affine_select", "dst pattern channel_multiplier on_true_tile on_false_value cmp_op offset name"),
        ("tensor_partition_reduce", "dst op data name"),
        ("local_gather", "dst src_buffer index num_elem_per_idx num_valid_indices name"),
        ("nc_n_gather", "dst data indices name"),
        ("dma_copy", "dst src oob_mode dge_mode engine name"),
        ("dma_transpose", "dst src axes dge_mode oob_mode name"),
    ];

    #[test]
    fn every_row_has_the_documented_keywords_in_order() {
        assert_eq!(SIGNATURES.len(), INSTRS.len());
        for (name, keywords) in SIGNATURES {
            let def = instr(name).unwrap_or_else(|| panic!("{name} is not in the table"));
            let ours: Vec<_> = def.operands.iter().map(|o| o.name).collect();
            assert_eq!(ours.join(" "), *keywords, "{name}");
        }
    }

    #[test]
    fn rows_are_documented_and_required_operands_come_first_in_use() {
        for i in INSTRS {
            assert!(!i.doc.is_empty() && !i.cost_doc.is_empty() && !i.engines.is_empty(), "{}", i.name);
            assert_eq!(i.operands[0].name, "dst");
            assert!(i.operands[0].role.writes());
        }
    }
}
