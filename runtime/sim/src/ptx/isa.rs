//! The decoded instruction: what the executor runs.
//!
//! Every source operand is a register. Immediates, symbol addresses and special registers live in the
//! register file too, broadcast or filled in when a warp starts, so no operation has operand forms.
//! 16-bit registers are kept zero-extended in 32-bit ones; predicates are one lane mask each, and
//! predicate 0 is always true, so an unguarded instruction is guarded by it.

/// Index into one of the three register files of a warp.
pub(super) type R = u32;

/// Integer operations over 32-bit lanes; also used, after extension, for 16-bit operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub(super) enum I {
    Add,
    Sub,
    MulLo,
    MulHiS,
    MulHiU,
    MadLo,
    MadHiS,
    MadHiU,
    DivS,
    DivU,
    RemS,
    RemU,
    MinS,
    MinU,
    MaxS,
    MaxU,
    And,
    Or,
    Xor,
    Not,
    Neg,
    Abs,
    Shl,
    ShrS,
    ShrU,
    Popc,
    Clz,
    Brev,
    BfindS,
    BfindU,
    BfindShiftS,
    BfindShiftU,
    BfeS,
    BfeU,
    Prmt,
    ShfLWrap,
    ShfLClamp,
    ShfRWrap,
    ShfRClamp,
    SzextS,
    SzextU,
    SzextClampS,
    SzextClampU,
    Bmsk,
    BmskClamp,
    SadS,
    SadU,
    Dp4aSS,
    Dp4aSU,
    Dp4aUS,
    Dp4aUU,
    Cnot,
    AddSatS,
    SubSatS,
}

/// Floating-point operations; each is defined for f32, f64 and the 16-bit formats where PTX has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum F {
    Add,
    Sub,
    Mul,
    Fma,
    Div,
    DivApprox,
    Min,
    Max,
    MinNan,
    MaxNan,
    Abs,
    Neg,
    Copysign,
    Sqrt,
    Rsqrt,
    Rcp,
    Ex2,
    Lg2,
    Sin,
    Cos,
    Tanh,
    FmaRelu,
}

impl I {
    /// Sources of the plain form.
    pub(super) fn sources(self) -> usize {
        match self {
            I::Not | I::Neg | I::Abs | I::Cnot => 1,
            I::MadLo | I::MadHiS | I::MadHiU | I::SadS | I::SadU => 3,
            _ => 2,
        }
    }
}

impl F {
    /// Sources.
    pub(super) fn sources(self) -> usize {
        match self {
            F::Fma | F::FmaRelu => 3,
            F::Add | F::Sub | F::Mul | F::Div | F::DivApprox => 2,
            F::Min | F::Max | F::MinNan | F::MaxNan | F::Copysign => 2,
            _ => 1,
        }
    }
}

/// Rounding direction. `Away` is `.rna`: to nearest, ties away from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rnd {
    Even,
    Zero,
    Down,
    Up,
    Away,
}

/// Modifiers of a floating-point operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mode {
    pub rnd: Rnd,
    pub ftz: bool,
    pub sat: bool,
}

impl Mode {
    pub(super) const PLAIN: Mode = Mode { rnd: Rnd::Even, ftz: false, sat: false };
}

/// The value types that `setp`, `cvt`, `atom` and friends tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ty {
    U8,
    S8,
    U16,
    S16,
    U32,
    S32,
    U64,
    S64,
    F16,
    Bf16,
    Tf32,
    F32,
    F64,
    E4m3,
    E5m2,
}

impl Ty {
    pub(super) fn bits(self) -> u32 {
        match self {
            Ty::U8 | Ty::S8 | Ty::E4m3 | Ty::E5m2 => 8,
            Ty::U16 | Ty::S16 | Ty::F16 | Ty::Bf16 => 16,
            Ty::U32 | Ty::S32 | Ty::F32 | Ty::Tf32 => 32,
            Ty::U64 | Ty::S64 | Ty::F64 => 64,
        }
    }

    pub(super) fn is_float(self) -> bool {
        !matches!(self, Ty::U8 | Ty::S8 | Ty::U16 | Ty::S16 | Ty::U32 | Ty::S32 | Ty::U64 | Ty::S64)
    }

    pub(super) fn is_signed(self) -> bool {
        matches!(self, Ty::S8 | Ty::S16 | Ty::S32 | Ty::S64)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cmp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// Both operands are numbers.
    Num,
    /// Either operand is not a number.
    Nan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bool {
    And,
    Or,
    Xor,
    Not,
    Mov,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Setp {
    pub ty: Ty,
    pub cmp: Cmp,
    /// Also true when either operand is NaN.
    pub unordered: bool,
    /// How the comparison meets `c`; `Mov` when there is none.
    pub join: Bool,
    pub p: R,
    /// Predicate that receives the complement, or of packed operands the comparison of the upper halves; 0 when there is none.
    pub q: R,
    /// Operands are two 16-bit numbers each.
    pub packed: bool,
    pub a: R,
    pub b: R,
    pub c: R,
    pub c_not: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Cvt {
    pub to: Ty,
    pub from: Ty,
    pub mode: Mode,
    /// Round to an integral value, for float to float.
    pub integral: bool,
    pub satfinite: bool,
    pub relu: bool,
    pub d: R,
    pub a: R,
    /// Low half's source when `pack`: `d = {hi: a, lo: b}`.
    pub b: R,
    pub pack: bool,
    /// The destination register's width in bits, for sign extension.
    pub dst_bits: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    Generic,
    Global,
    Shared,
    Local,
    Param,
}

/// Address operand `[reg + off]`; `wide` says which register file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addr {
    pub wide: bool,
    pub reg: R,
    pub off: i64,
}

/// Most bytes a lane loads or stores in one instruction (256 bits, on sm_100).
pub(super) const MAX_ACCESS: u64 = 32;

/// A load or a store of `regs.len()` elements of `bits` each.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub space: Space,
    pub addr: Addr,
    pub bits: u32,
    pub signed: bool,
    /// `.volatile`, `.relaxed`, `.acquire`, `.release`: never part of a data race.
    pub strong: bool,
    /// (register, is it 64 bits wide, its width in bits); `None` is the sink `_`.
    pub regs: Vec<Option<(R, bool, u32)>>,
}

impl Access {
    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.bits / 8) * self.regs.len() as u64
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AtomOp {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
    Exch,
    Cas,
    Inc,
    Dec,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Atom {
    pub op: AtomOp,
    pub ty: Ty,
    pub space: Space,
    pub addr: Addr,
    /// Destination, absent for `red`.
    pub d: Option<R>,
    pub b: R,
    pub c: R,
    /// Two 16-bit halves in one 32-bit register.
    pub x2: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShflMode {
    Up,
    Down,
    Bfly,
    Idx,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VoteMode {
    All,
    Any,
    Uni,
    Ballot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MmaTy {
    F16,
    Bf16,
    Tf32,
    S8,
    U8,
    F64,
}

#[derive(Clone, Debug)]
pub(super) struct Mma {
    /// Operand types of A and B (they differ only between s8 and u8).
    pub a_ty: MmaTy,
    pub b_ty: MmaTy,
    pub m: usize,
    pub n: usize,
    pub k: usize,
    /// Accumulator and result are packed f16.
    pub c_f16: bool,
    pub d_f16: bool,
    /// Integer accumulation saturates.
    pub satfinite: bool,
    pub d: Vec<R>,
    pub a: Vec<R>,
    pub b: Vec<R>,
    pub c: Vec<R>,
}

#[derive(Clone, Debug)]
pub(super) enum Op {
    Nop,
    /// The lanes that run this have written the register whose predicate this is.
    MarkWritten(R),
    /// A fault in lanes that have not written the register of this name.
    CheckWritten(R, Box<str>),
    Mov32(R, R),
    Mov64(R, R),
    MovPred(Bool, [R; 3]),
    /// d, a, b, c over the 32-bit file.
    I32(I, [R; 4]),
    /// 16-bit operands, sign- or zero-extended first; the result is cut to 16 bits.
    I16(I, bool, [R; 4]),
    /// Two 16-bit integers in each register.
    I16x2(I, bool, [R; 4]),
    /// d, a, b, c over the 64-bit file.
    I64(I, [R; 4]),
    /// Shift of a 64-bit value; the amount is 32 bits.
    Shift64(I, [R; 3]),
    /// popc, clz, bfind of 64 bits into 32.
    Count64(I, R, R),
    /// Bit field of 64 bits with 32-bit position and length.
    Bfe64(bool, [R; 4]),
    Bfi32([R; 5]),
    Bfi64([R; 5]),
    Lop3(u8, [R; 4]),
    /// d64 = a32 × b32 (signed?) (+ c64).
    MulWide32(bool, [R; 3]),
    MadWide32(bool, [R; 4]),
    /// d32 = a16 × b16 (+ c32).
    MulWide16(bool, [R; 3]),
    MadWide16(bool, [R; 4]),
    F32(F, Mode, [R; 4]),
    F64(F, Rnd, [R; 4]),
    /// f16 or bf16 (`true`), scalar.
    F16(F, bool, Mode, [R; 4]),
    /// f16x2 or bf16x2 (`true`).
    F16x2(F, bool, Mode, [R; 4]),
    /// Two f32 in each 64-bit register.
    F32x2(F, Mode, [R; 4]),
    /// testp: predicate, value, kind.
    Testp(bool, TestKind, R, R),
    Setp(Box<Setp>),
    /// d, a, b, predicate, negated.
    Selp32([R; 4], bool),
    Selp64([R; 4], bool),
    /// slct.T.{s32,f32}: d, a, b, c; wide operands, float selector.
    Slct(bool, bool, [R; 4]),
    Cvt(Box<Cvt>),
    /// d64 = {lo, hi}.
    Pack64([R; 3]),
    /// {lo, hi} = a64; a sink is `R::MAX`.
    Unpack64([R; 3]),
    Pack32([R; 3]),
    Unpack32([R; 3]),
    Pack64x4([R; 5]),
    Unpack64x4([R; 5]),
    Isspace(Space, R, R),
    Ld(Box<Access>),
    St(Box<Access>),
    Atom(Box<Atom>),
    /// Copies global to shared: destination, source, bytes, bytes read (register), cached.
    CpAsync {
        dst: Addr,
        src: Addr,
        bytes: u32,
        read: Option<R>,
    },
    CpCommit,
    /// Waits until at most this many groups are pending.
    CpWait(u32),
    CpWaitAll,
    /// Target instruction index.
    Bra(u32),
    BrxIdx(R, Box<[u32]>),
    Exit,
    Trap,
    /// Barrier id register, thread-count register; whether the threads also wait.
    Bar {
        id: R,
        count: Option<R>,
        wait: bool,
    },
    WarpSync(R),
    Shfl {
        mode: ShflMode,
        d: R,
        p: R,
        a: R,
        b: R,
        c: R,
        members: R,
    },
    Vote {
        mode: VoteMode,
        d: R,
        src: R,
        neg: bool,
        members: R,
    },
    Match {
        all: bool,
        wide: bool,
        d: R,
        p: R,
        a: R,
        members: R,
    },
    ActiveMask(R),
    Elect {
        d: R,
        p: R,
        members: R,
    },
    Redux {
        op: I,
        d: R,
        a: R,
        members: R,
    },
    ReduxF {
        op: F,
        abs: bool,
        d: R,
        a: R,
        members: R,
    },
    LdMatrix {
        addr: Addr,
        trans: bool,
        regs: Vec<R>,
    },
    StMatrix {
        addr: Addr,
        trans: bool,
        regs: Vec<R>,
    },
    Mma(Box<Mma>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TestKind {
    Finite,
    Infinite,
    Number,
    NotANumber,
    Normal,
    Subnormal,
}

/// What an instruction is counted as in [`super::Stats`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Alu,
    Control,
    Global,
    Shared,
    Other,
    Sync,
    Mma,
}

#[derive(Clone, Debug)]
pub(super) struct Inst {
    pub guard: R,
    /// `@!p`: all ones, else zero.
    pub guard_flip: u32,
    pub class: Class,
    pub op: Op,
}

/// Where a constant register's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Const {
    Value(u64),
    /// Module-scope `.global` or `.const` variable plus a byte offset; its address is known at launch.
    Global(usize, i64),
}

/// Special registers, filled in when a warp starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Special {
    Tid(u8),
    Ntid(u8),
    Ctaid(u8),
    Nctaid(u8),
    LaneId,
    WarpId,
    NWarpId,
    LaneMaskEq,
    LaneMaskLe,
    LaneMaskLt,
    LaneMaskGe,
    LaneMaskGt,
    DynamicShared,
    TotalShared,
    /// SM, grid and cluster identifiers: one SM, one grid, clusters of one block.
    Zero,
    One,
}
