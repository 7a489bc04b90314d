//! The PTX instructions that the emulator executes and the kernels we emit are made of.
//!
//! One row per mnemonic base: operand form, the types and modifiers that run, and what it does. The
//! emulator's decoder asks [`find`] first, so an instruction without a row is refused by name; the
//! authority on meaning is NVIDIA's PTX ISA.

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PtxInst {
    /// Mnemonic up to the first dot.
    pub name: &'static str,
    /// Operands, in order.
    pub operands: &'static str,
    /// Types and modifiers that are executed.
    pub types: &'static str,
    /// What it does.
    pub doc: &'static str,
}

const fn row(name: &'static str, operands: &'static str, types: &'static str, doc: &'static str) -> PtxInst {
    PtxInst { name, operands, types, doc }
}

/// Every executed instruction, by name.
pub static INSTRUCTIONS: &[PtxInst] = &[
    row("abs", "d, a", ".s16 .s32 .s64 .f16 .f16x2 .bf16 .bf16x2 .f32 .f64", "absolute value"),
    row("activemask", "d", ".b32", "lanes that execute this instruction"),
    row(
        "add",
        "d, a, b",
        "[.rn .rz .rm .rp] [.ftz] [.sat] integers to 64 bits, .u16x2 .s16x2, .f16[x2] .bf16[x2] .f32 .f32x2 .f64, .f32.f16 .f32.bf16 (a of 16 bits)",
        "sum",
    ),
    row("and", "d, a, b", ".pred .b16 .b32 .b64", "bitwise and"),
    row("applypriority", "[a], size", "", "cache hint: nothing to do"),
    row(
        "atom",
        "d, [a], b[, c]",
        "[.global .shared] .add .min .max .and .or .xor .exch .cas .inc .dec to 64 bits, float add",
        "atomic read-modify-write; d is the old value",
    ),
    row("bar", "a[, b] | mask", ".sync .arrive, .warp.sync", "block barrier a (of b threads), or warp barrier"),
    row("barrier", "a[, b]", "[.cta] .sync .arrive [.aligned]", "block barrier"),
    row("bfe", "d, a, pos, len", ".u32 .s32 .u64 .s64", "bit field extract"),
    row("bfi", "d, a, b, pos, len", ".b32 .b64", "bit field insert"),
    row("bfind", "d, a", "[.shiftamt] .u32 .s32 .u64 .s64", "position of the most significant non-sign bit"),
    row("bmsk", "d, pos, len", ".wrap .clamp .b32", "bit field mask"),
    row("bra", "label", "[.uni]", "branch"),
    row("brev", "d, a", ".b32 .b64", "bits reversed"),
    row("brkpt", "", "", "breakpoint: nothing to do"),
    row("brx", "index, table", ".idx", "branch through a .branchtargets table"),
    row("clz", "d, a", ".b32 .b64", "leading zeros"),
    row("cnot", "d, a", ".b16 .b32 .b64", "1 if a is 0, else 0"),
    row("copysign", "d, a, b", ".f32 .f64", "magnitude of b with the sign of a"),
    row("cos", "d, a", ".approx[.ftz].f32", "cosine"),
    row(
        "cp",
        "[shared], [global], bytes[, read]",
        ".async.{ca,cg}.shared.global, .commit_group, .wait_group, .wait_all",
        "copy global to shared, visible once waited for",
    ),
    row(
        "cvt",
        "d, a[, b]",
        "all integer, .f16 .bf16 .tf32 .f32 .f64, .f16x2 .bf16x2 .e4m3x2 .e5m2x2 from .f32, .f16x2 from .e4m3x2 .e5m2x2; .rn .rz .rm .rp .rna .rni .rzi .rmi .rpi .ftz .sat .satfinite .relu",
        "conversion",
    ),
    row("cvta", "d, a", "[.to] .global .shared .local .const .param .u64", "generic address of a space's, or back"),
    row("discard", "[a], size", "", "cache hint: nothing to do"),
    row("div", "d, a, b", "integers; .rn .rz .rm .rp .approx .full .f32, .rn .f64", "quotient"),
    row("dp4a", "d, a, b, c", ".u32 .s32 (each operand)", "dot product of four bytes, accumulated"),
    row("elect", "d|p, mask", ".sync", "the lowest lane of the mask"),
    row("ex2", "d, a", ".approx[.ftz] .f32 .f16[x2] .bf16[x2]", "2 to the power a"),
    row("exit", "", "", "the thread ends"),
    row("fence", "", "all", "memory order: holds already"),
    row(
        "fma",
        "d, a, b, c",
        ".rn .rz .rm .rp [.ftz] [.sat] [.relu] .f16[x2] .bf16[x2] .f32 .f32x2 .f64, .f32.f16 .f32.bf16 (a and b of 16 bits)",
        "a·b + c, rounded once",
    ),
    row("griddepcontrol", "", "all", "launches are in order: nothing to do"),
    row("isspacep", "p, a", ".global .shared .local .param", "does the generic address lie in the space"),
    row("ld", "d, [a]", "[.param .global[.nc] .shared .local .const] [.v2 .v4 .v8] .b8 to .b64", "load"),
    row(
        "ldmatrix",
        "d, [a]",
        ".sync.aligned.m8n8 .x1 .x2 .x4 [.trans] .shared .b16",
        "8×8 matrices of 16-bit elements, spread over a warp",
    ),
    row("ldu", "d, [a]", "as ld", "load, uniform"),
    row("lg2", "d, a", ".approx[.ftz].f32", "base-2 logarithm"),
    row("lop3", "d, a, b, c, table", ".b32", "any bitwise function of three operands"),
    row("mad", "d, a, b, c", ".lo .hi .wide integers, .f32 .f64", "a·b + c"),
    row("match", "d[|p], a, mask", ".any .all .sync .b32 .b64", "lanes with the same value"),
    row("max", "d, a, b", "integers, .u16x2 .s16x2, [.ftz] [.NaN] floats", "larger operand"),
    row("membar", "", "all", "memory order: holds already"),
    row("min", "d, a, b", "integers, .u16x2 .s16x2, [.ftz] [.NaN] floats", "smaller operand"),
    row(
        "mma",
        "d, a, b, c",
        ".sync.aligned .row.col: m16n8k8 m16n8k16 .f16 .bf16; m16n8k4 m16n8k8 .tf32; m16n8k16 m16n8k32 .s8 .u8; m8n8k4 .f64",
        "warp matrix multiply-accumulate",
    ),
    row("mov", "d, a", "all types; packs and unpacks 16- and 32-bit parts", "move"),
    row("mul", "d, a, b", ".lo .hi .wide integers; [.rn .rz .rm .rp] floats", "product"),
    row("nanosleep", "ns", ".u32", "time does not pass: nothing to do"),
    row("neg", "d, a", "signed integers and floats", "negation"),
    row("not", "d, a", ".pred .b16 .b32 .b64", "bitwise complement"),
    row("or", "d, a, b", ".pred .b16 .b32 .b64", "bitwise or"),
    row("pmevent", "a", "", "profiling: nothing to do"),
    row("popc", "d, a", ".b32 .b64", "bits that are one"),
    row("prefetch", "[a]", "all", "cache hint: nothing to do"),
    row("prefetchu", "[a]", "all", "cache hint: nothing to do"),
    row("prmt", "d, a, b, c", ".b32", "bytes of a and b in the order c"),
    row("rcp", "d, a", ".approx .rn .rz .rm .rp [.ftz] .f32 .f64", "reciprocal"),
    row("red", "[a], b", "as atom", "atomic without a result"),
    row("redux", "d, a, mask", ".sync .add .min .max .u32 .s32, .and .or .xor .b32, .min .max [.abs] [.NaN] .f32", "reduction over lanes"),
    row("rem", "d, a, b", "integers", "remainder"),
    row("ret", "", "[.uni]", "the thread ends"),
    row("rsqrt", "d, a", ".approx[.ftz] .f32 .f64", "reciprocal square root"),
    row("sad", "d, a, b, c", "integers", "c + |a - b|"),
    row("selp", "d, a, b, p", "all types", "a if p, else b"),
    row(
        "setp",
        "p[|q], a, b[, c]",
        ".eq .ne .lt .le .gt .ge .lo .ls .hi .hs, .equ … .geu .num .nan, [.and .or .xor]; integers and floats",
        "comparison",
    ),
    row("shf", "d, a, b, c", ".l .r .wrap .clamp .b32", "funnel shift"),
    row("shfl", "d[|p], a, b, c, mask", ".sync .up .down .bfly .idx .b32", "value of another lane"),
    row("shl", "d, a, b", ".b16 .b32 .b64", "left shift"),
    row("shr", "d, a, b", ".u .s .b, 16 to 64 bits", "right shift"),
    row("sin", "d, a", ".approx[.ftz].f32", "sine"),
    row("slct", "d, a, b, c", "32- and 64-bit types, .s32 or .f32 selector", "a if c ≥ 0, else b"),
    row("sqrt", "d, a", ".approx .rn .rz .rm .rp [.ftz] .f32 .f64", "square root"),
    row("st", "[a], b", "[.global .shared .local] [.v2 .v4 .v8] .b8 to .b64", "store"),
    row("stmatrix", "[a], b", "as ldmatrix", "8×8 matrices of 16-bit elements, from a warp"),
    row("sub", "d, a, b", "as add", "difference"),
    row("szext", "d, a, b", ".wrap .clamp .u32 .s32", "sign or zero extension from b bits"),
    row("tanh", "d, a", ".approx .f32 .f16[x2] .bf16[x2]", "hyperbolic tangent"),
    row("testp", "p, a", ".finite .infinite .number .notanumber .normal .subnormal .f32 .f64", "property of a number"),
    row("trap", "", "", "the launch fails"),
    row("vote", "d, p, mask", ".sync .all .any .uni .pred, .ballot .b32", "a predicate over lanes"),
    row("xor", "d, a, b", ".pred .b16 .b32 .b64", "bitwise exclusive or"),
];

/// The row of a mnemonic's base, such as `add` of `add.rn.f32`.
#[must_use]
pub fn find(name: &str) -> Option<&'static PtxInst> {
    INSTRUCTIONS.binary_search_by_key(&name, |r| r.name).ok().map(|i| &INSTRUCTIONS[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_and_found() {
        assert!(INSTRUCTIONS.windows(2).all(|w| w[0].name < w[1].name));
        assert_eq!(find("mma").map(|r| r.name), Some("mma"));
        assert!(find("wgmma").is_none());
    }
}
