//! What the machine accepts, as far as shapes, types, buffers and operators decide it. Positions (bounds, start partitions, PSUM banks)
//! depend on loop variables and are checked while running.

use super::isa::{Role, Types};
use super::ops::{AluDef, Group};
use super::resolve::{Acc, Arg, Op, Slot};
use super::{Engine, Machine, Mem};
use tahoma_core::DType;

/// Rule, operand, limit and value.
type Breach = (&'static str, &'static str, String);
type Result<T> = std::result::Result<T, Breach>;

fn fail<T>(rule: &'static str, operand: &'static str, message: impl Into<String>) -> Result<T> {
    Err((rule, operand, message.into()))
}

fn is_32bit_int(d: DType) -> bool {
    matches!(d, DType::I32 | DType::U32)
}

/// The engine that runs an instruction: the one it names, or the one its operands force, or the table's first.
pub fn engine(op: &Op) -> Result<Engine> {
    let def = op.def;
    if def.engines[0] == Engine::Dma {
        let named = op.name("engine").unwrap_or("unknown");
        let hw = op.name("dge_mode") == Some("hwdge");
        return match named {
            "unknown" => Ok(Engine::Dma),
            "sync" | "scalar" if hw => Ok(Engine::Dma),
            _ => fail("engine", "engine", format!("a DMA may name sync or scalar, with dge_mode.hwdge only; got {named}")),
        };
    }
    if let Some(name) = op.name("engine").filter(|n| *n != "unknown") {
        return match Engine::from_name(name).filter(|e| def.engines.contains(e)) {
            Some(e) => Ok(e),
            None => {
                let legal: Vec<_> = def.engines.iter().map(|e| e.name()).collect();
                fail("engine", "engine", format!("runs on {}; got {name}", legal.join(", ")))
            }
        };
    }
    Ok(match def.name {
        "tensor_tensor" => {
            // Integers go to GpSimd only if all are 32 bits wide and none is in PSUM, which it does not reach.
            let ints = op.tiles().all(|(_, a, _)| is_32bit_int(a.dtype) && a.mem != Mem::Psum);
            let bits = op.alu("op").is_some_and(|a| a.group == Group::Bit);
            let power = op.alu("op").is_some_and(|a| a.name == "power");
            if power || (ints && !bits) { Engine::GpSimd } else { Engine::Vector }
        }
        "tensor_scalar" if ["op0", "op1"].iter().any(|o| op.alu(o).is_some_and(|a| a.name == "rsqrt")) => Engine::GpSimd,
        "nc_transpose" => match (op.acc("dst"), op.acc("data")) {
            (Some(d), Some(s)) if d.mem == Mem::Psum && s.mem == Mem::Sbuf => Engine::Tensor,
            _ => Engine::Vector,
        },
        _ => def.engines[0],
    })
}

/// All shape rules of one instruction.
pub fn check(op: &Op, slots: &[Slot], m: &Machine) -> Result<()> {
    for (d, a) in op.def.operands.iter().zip(&op.args) {
        match a {
            Some(Arg::Acc(a)) => tile(op, d.name, &d.role, a, slots)?,
            Some(Arg::Num(_)) => {}
            _ => {}
        }
    }
    match op.def.name {
        "nc_matmul" => matmul(op, m),
        "nc_transpose" => transpose(op),
        "activation" | "activation_reduce" => activation(op),
        "tensor_tensor" => {
            same(op, "dst", "data1")?;
            same(op, "dst", "data2")?;
            not_both_psum(op, "data1", "data2")?;
            let f = need_alu(op, "op")?;
            if f.group == Group::Unary {
                return fail("alu-group", "op", format!("{} takes one operand; tensor_tensor needs two", f.name));
            }
            if f.name == "power" && op.engine != Engine::GpSimd {
                return fail("alu-engine", "op", "power runs on GpSimd only".to_string());
            }
            bit_types(op, f, &["dst", "data1", "data2"])
        }
        "tensor_scalar" => tensor_scalar(op),
        "scalar_tensor_tensor" => {
            same(op, "dst", "data")?;
            same(op, "data", "operand1")?;
            not_both_psum(op, "data", "operand1")?;
            arithmetic(op, &["op0", "op1"])
        }
        "tensor_reduce" => tensor_reduce(op),
        "tensor_copy" => same(op, "dst", "src"),
        "tensor_copy_predicated" => {
            same(op, "dst", "predicate")?;
            if let (Some(s), Some(d)) = (op.acc("src"), op.acc("dst")) {
                same(op, "dst", "src")?;
                not_both_psum(op, "src", "predicate")?;
                if s.dtype != d.dtype {
                    return fail("dtype", "src", format!("src and dst must have one type; got {} and {}", s.dtype, d.dtype));
                }
            }
            Ok(())
        }
        "reciprocal" => same(op, "dst", "data"),
        "select_reduce" => {
            same(op, "dst", "predicate")?;
            same(op, "dst", "on_true")?;
            not_both_psum(op, "on_true", "predicate")?;
            let t = need(op, "on_true")?;
            if t.dtype == DType::TF32 || is_32bit_int(t.dtype) {
                return fail("dtype", "on_true", format!("not tf32 or a 32-bit integer; got {}", t.dtype));
            }
            only_maximum(op)
        }
        "range_select" => {
            same(op, "dst", "on_true_tile")?;
            for o in ["comp_op0", "comp_op1"] {
                let f = need_alu(op, o)?;
                if !["equal", "less", "less_equal", "greater", "greater_equal"].contains(&f.name) {
                    return fail(
                        "alu-group",
                        if o == "comp_op0" { "comp_op0" } else { "comp_op1" },
                        format!("a comparison; got {}", f.name),
                    );
                }
            }
            if let Some(Arg::Num(x)) = op.arg("on_false_value")
                && *x as f32 != f32::MIN
            {
                return fail("value", "on_false_value", format!("must be -3.4028235e38; got {x:?}"));
            }
            for (name, b) in [("bound0", op.arg("bound0")), ("bound1", op.arg("bound1"))] {
                if !matches!(b, Some(Arg::Acc(_))) {
                    return fail("operand", name, "must be an fp32 [P, 1] tile".to_string());
                }
            }
            only_maximum(op)
        }
        "tensor_tensor_scan" => {
            same(op, "dst", "data0")?;
            same(op, "data0", "data1")?;
            not_both_psum(op, "data0", "data1")?;
            arithmetic(op, &["op0", "op1"])
        }
        "bn_stats" => parts(op, "dst", "data"),
        "bn_aggr" => {
            parts(op, "dst", "data")?;
            let n = need(op, "data")?.n;
            if n % 3 != 0 {
                return fail("free-size", "data", format!("triples (count, mean, variance * count), so a multiple of 3; got {n}"));
            }
            Ok(())
        }
        "max8" => parts(op, "dst", "src"),
        "nc_find_index8" => {
            parts(op, "dst", "data")?;
            parts(op, "vals", "data")
        }
        "nc_stream_shuffle" => {
            same(op, "dst", "src")?;
            same_dtype(op, "dst", "src")?;
            match op.arg("shuffle_mask") {
                Some(Arg::Ints(v)) if v.len() == 32 && v.iter().all(|x| (0..32).contains(x) || *x == 255) => Ok(()),
                _ => fail("value", "shuffle_mask", "32 entries of 0 to 31, or 255".to_string()),
            }
        }
        "iota" => affine_pattern(op, "dst"),
        "affine_select" => {
            same(op, "dst", "on_true_tile")?;
            if need(op, "dst")?.dims.len() > 3 {
                return fail("pattern-rank", "dst", format!("at most 3 dimensions; got {:?}", need(op, "dst")?.dims));
            }
            let f = need_alu(op, "cmp_op")?;
            if !["equal", "not_equal", "less", "less_equal", "greater", "greater_equal"].contains(&f.name) {
                return fail("alu-group", "cmp_op", format!("a comparison; got {}", f.name));
            }
            affine_pattern(op, "dst")
        }
        "tensor_partition_reduce" => {
            let (d, s, f) = (need(op, "dst")?, need(op, "data")?, need_alu(op, "op")?);
            if d.parts != 1 || d.n != s.n {
                return fail("shape", "dst", format!("must be [1, {}]; got {:?}", s.n, d.dims));
            }
            if !["add", "maximum", "bitwise_and", "bitwise_or"].contains(&f.name) {
                return fail("alu-reduce", "op", format!("add, maximum, bitwise_and or bitwise_or; got {}", f.name));
            }
            bit_types(op, f, &["dst", "data"])
        }
        "local_gather" => local_gather(op),
        "nc_n_gather" => {
            same(op, "dst", "indices")?;
            parts(op, "dst", "data")?;
            same_dtype(op, "dst", "data")
        }
        "dma_copy" => dma_copy(op),
        "dma_transpose" => dma_transpose(op),
        _ => Ok(()),
    }
}

fn need<'a>(op: &'a Op, name: &'static str) -> Result<&'a Acc> {
    op.acc(name).map_or_else(|| fail("operand", name, "a tile must be given"), Ok)
}

fn need_alu(op: &Op, name: &'static str) -> Result<&'static AluDef> {
    match op.alu(name) {
        Some(f) => Ok(f),
        None if name == "cmp_op" => super::ops::alu_op("equal").ok_or(("operand", name, String::new())),
        None => fail("operand", name, "an ALU operator must be given"),
    }
}

/// Buffer, type, partitions, size and steps of one tile operand.
fn tile(op: &Op, name: &'static str, role: &Role, a: &Acc, slots: &[Slot]) -> Result<()> {
    let slot = &slots[a.slot];
    if role.writes() && slot.is_param {
        return fail("input-written", name, format!("{} is an input of the kernel, and kernels are pure", slot.name));
    }
    if let Some(l) = role.limits() {
        if !l.allows(a.mem) {
            let mut legal = vec![];
            for (mem, text) in [(Mem::Sbuf, "SBUF"), (Mem::Psum, "PSUM"), (Mem::SharedHbm, "HBM")] {
                if l.allows(mem) {
                    legal.push(text);
                }
            }
            return fail("buffer", name, format!("must be in {}; got {}", legal.join(" or "), a.mem.name()));
        }
        if !l.types.allows(a.dtype) {
            return fail("dtype", name, format!("must be {}; got {}", l.types.describe(), a.dtype));
        }
        if a.parts > l.partitions {
            return fail("partitions", name, format!("at most {} partitions; got {}", l.partitions, a.parts));
        }
        if !a.mem.is_hbm() && (a.n < l.min_free || a.n > l.max_free) {
            return fail("free-size", name, format!("{} to {} elements per partition; got {}", l.min_free, l.max_free, a.n));
        }
    } else {
        // A [P, 1] scalar.
        if a.mem.is_hbm() || a.n != 1 {
            return fail("scalar-operand", name, format!("a number or a [P, 1] tile; got {:?}", a.dims));
        }
        let legal = match role {
            Role::Bias => a.dtype.is_float() && a.dtype != DType::TF32,
            _ => a.dtype == DType::F32,
        };
        if !legal {
            let want = if matches!(role, Role::Bias) { "a float other than tf32" } else { "f32" };
            return fail("dtype", name, format!("a [P, 1] operand must be {want}; got {}", a.dtype));
        }
        if let Some(data) = op.acc("data").or(op.acc("data0")).or(op.acc("on_true")).or(op.acc("on_true_tile"))
            && data.parts != a.parts
        {
            return fail("scalar-operand", name, format!("must have data's {} partitions; got {}", data.parts, a.parts));
        }
    }
    if op.engine == Engine::GpSimd && a.mem == Mem::Psum {
        return fail("gpsimd-psum", name, "GpSimd reaches SBUF only; got a PSUM tile");
    }
    if op.engine != Engine::Dma {
        if a.free.len() > 4 {
            return fail("pattern-rank", name, format!("at most 4 free dimensions; got {:?}", a.free));
        }
        for &(st, c) in &a.free {
            if c > 65_535 + 1 || (c > 1 && i16::try_from(st).is_err()) {
                return fail("pattern-step", name, format!("steps fit 16 signed bits and counts 16 bits; got [{st}, {c}]"));
            }
        }
        if role.writes() && a.free.iter().any(|d| d.0 == 0 && d.1 > 1) {
            return fail("pattern-step", name, "a written pattern must not repeat elements (step 0)");
        }
    }
    Ok(())
}

/// Equal partitions.
fn parts(op: &Op, a: &'static str, b: &'static str) -> Result<()> {
    let (x, y) = (need(op, a)?, need(op, b)?);
    if x.parts != y.parts {
        return fail("shape", a, format!("must have the {} partitions of {b}; got {}", y.parts, x.parts));
    }
    Ok(())
}

/// Equal partitions and elements per partition.
fn same(op: &Op, a: &'static str, b: &'static str) -> Result<()> {
    parts(op, a, b)?;
    let (x, y) = (need(op, a)?, need(op, b)?);
    if x.n != y.n {
        return fail("shape", a, format!("must have as many elements per partition as {b}: {}; got {}", y.n, x.n));
    }
    Ok(())
}

fn same_dtype(op: &Op, a: &'static str, b: &'static str) -> Result<()> {
    let (x, y) = (need(op, a)?, need(op, b)?);
    if x.dtype != y.dtype { fail("dtype", a, format!("must be {} as {b}; got {}", y.dtype, x.dtype)) } else { Ok(()) }
}

fn not_both_psum(op: &Op, a: &'static str, b: &'static str) -> Result<()> {
    if need(op, a)?.mem == Mem::Psum && need(op, b)?.mem == Mem::Psum {
        return fail("both-psum", a, format!("{a} and {b} must not both be in PSUM"));
    }
    Ok(())
}

/// Bit operators take integers of one type.
fn bit_types(op: &Op, f: &AluDef, tiles: &[&'static str]) -> Result<()> {
    if f.group != Group::Bit {
        return Ok(());
    }
    let first = need(op, tiles[0])?.dtype;
    for t in tiles {
        let d = need(op, t)?.dtype;
        if !d.is_int() || d.bits() != first.bits() {
            return fail("dtype", t, format!("{} takes integers of one width and converts nothing; got {d} beside {first}", f.name));
        }
    }
    Ok(())
}

fn arithmetic(op: &Op, names: &[&'static str]) -> Result<()> {
    for n in names {
        let f = need_alu(op, n)?;
        if f.group == Group::Bit || f.gpsimd_only {
            return fail("alu-group", n, format!("arithmetic operators of Vector only; got {}", f.name));
        }
    }
    Ok(())
}

fn only_maximum(op: &Op) -> Result<()> {
    match op.alu("reduce_op") {
        Some(f) if f.name != "maximum" => fail("alu-reduce", "reduce_op", format!("maximum only; got {}", f.name)),
        _ => Ok(()),
    }
}

fn affine_pattern(op: &Op, dst: &'static str) -> Result<()> {
    let n = need(op, dst)?.n;
    match op.arg("pattern") {
        Some(Arg::Pattern(p)) if p.len() <= 4 && p.iter().map(|x| x[1] as usize).product::<usize>() == n => Ok(()),
        _ => fail("shape", "pattern", format!("at most 4 [step, count] with counts multiplying to {n}")),
    }
}

fn matmul(op: &Op, m: &Machine) -> Result<()> {
    let (d, s, v) = (need(op, "dst")?, need(op, "stationary")?, need(op, "moving")?);
    let double = op.name("perf_mode") == Some("double_row");
    let rows = if double { 2 } else { 1 };
    let fp8 = |t: DType| matches!(t, DType::F8E4M3 | DType::F8E5M2);
    if double {
        if !fp8(s.dtype) || !fp8(v.dtype) {
            return fail("double-row", "perf_mode", format!("double_row takes fp8 only; got {} and {}", s.dtype, v.dtype));
        }
        if s.dims.get(1) != Some(&2) || v.dims.get(1) != Some(&2) || s.dims.len() != 3 || v.dims.len() != 3 {
            return fail(
                "double-row",
                "stationary",
                format!("operands must be [K, 2, M] and [K, 2, N]; got {:?} and {:?}", s.dims, v.dims),
            );
        }
        if op.flag("is_transpose") {
            return fail("double-row", "is_transpose", "double_row does not transpose");
        }
    }
    let (cols, n) = (s.n / rows, v.n / rows);
    if cols > m.stationary_max {
        return fail("stationary-size", "stationary", format!("free size at most {}; got {cols}", m.stationary_max));
    }
    if n > m.moving_max {
        return fail("moving-size", "moving", format!("free size at most {}; got {n}", m.moving_max));
    }
    if s.parts > m.contract_max || s.parts != v.parts {
        return fail(
            "contract-size",
            "stationary",
            format!("both operands have the same K <= {} partitions; got {} and {}", m.contract_max, s.parts, v.parts),
        );
    }
    let wide = |t: DType| matches!(t, DType::F32 | DType::TF32);
    if wide(s.dtype) != wide(v.dtype) {
        return fail("matmul-dtypes", "moving", format!("a 32-bit operand must pair with a 32-bit one; got {} and {}", s.dtype, v.dtype));
    }
    if d.parts != cols || d.n != n {
        return fail("shape", "dst", format!("must be [{cols}, {n}]; got {:?}", d.dims));
    }
    if op.flag("is_transpose") {
        if d.dtype != s.dtype {
            return fail("matmul-output", "dst", format!("a transpose keeps {}; got {}", s.dtype, d.dtype));
        }
        if v.parts != v.n {
            return fail("shape", "moving", format!("a transpose multiplies by a square identity; got {:?}", v.dims));
        }
    } else if d.dtype != DType::F32 {
        return fail("matmul-output", "dst", format!("matmuls write f32; got {}", d.dtype));
    }
    let ints = |name| match op.arg(name) {
        Some(Arg::Ints(v)) => v.clone(),
        _ => vec![],
    };
    let (pos, size) = (ints("tile_position"), ints("tile_size"));
    if pos.is_empty() != size.is_empty() {
        return fail("tile-position", "tile_position", "tile_position and tile_size are given together");
    }
    if !size.is_empty() {
        let legal = size.len() == 2 && pos.len() == 2 && size.iter().all(|x| [32, 64, 128].contains(x));
        if !legal || (0..2).any(|i| pos[i] % size[i] != 0 || pos[i] < 0 || pos[i] + size[i] > 128) {
            return fail(
                "tile-position",
                "tile_size",
                format!("two sizes of 32, 64 or 128 at multiples of them; got {pos:?} and {size:?}"),
            );
        }
        if s.parts as i64 > size[0] || cols as i64 > size[1] {
            return fail("tile-position", "tile_size", format!("stationary [{}, {cols}] does not fit a tile of {size:?}", s.parts));
        }
    }
    Ok(())
}

fn transpose(op: &Op) -> Result<()> {
    let (d, s) = (need(op, "dst")?, need(op, "data")?);
    same_dtype(op, "dst", "data")?;
    if d.parts != s.n || d.n != s.parts {
        return fail("shape", "dst", format!("must be [{}, {}]; got {:?}", s.n, s.parts, d.dims));
    }
    if op.engine == Engine::Tensor {
        if s.mem != Mem::Sbuf || d.mem != Mem::Psum {
            return fail(
                "buffer",
                "data",
                format!("the Tensor engine reads SBUF and writes PSUM; got {} to {}", s.mem.name(), d.mem.name()),
            );
        }
        if !Types::Float.allows(s.dtype) {
            return fail("dtype", "data", format!("the Tensor engine transposes floats; got {}", s.dtype));
        }
    } else if s.parts > 32 || s.n > 32 {
        return fail("transpose-size", "data", format!("Vector transposes at most [32, 32]; got [{}, {}]", s.parts, s.n));
    }
    Ok(())
}

fn activation(op: &Op) -> Result<()> {
    same(op, "dst", "data")?;
    if let Some(f) = op.alu("reduce_op")
        && f.name != "add"
    {
        return fail("alu-reduce", "reduce_op", format!("add only; got {}", f.name));
    }
    let cmd = op.name("reduce_cmd").unwrap_or("idle");
    if cmd == "load_reduce" {
        return fail("value", "reduce_cmd", "idle, reset, reduce or reset_reduce; got load_reduce");
    }
    if op.def.name == "activation" && cmd != "idle" && op.alu("reduce_op").is_none() && cmd != "reset" {
        return fail("operand", "reduce_op", format!("reduce_cmd.{cmd} needs reduce_op=nl.add"));
    }
    if op.acc("reduce_res").is_some() {
        parts(op, "reduce_res", "data")?;
    }
    Ok(())
}

fn tensor_scalar(op: &Op) -> Result<()> {
    same(op, "dst", "data")?;
    let f0 = need_alu(op, "op0")?;
    let f1 = op.alu("op1");
    if f1.is_some() != op.arg("operand1").is_some() {
        return fail("operand", "operand1", "op1 and operand1 are given together");
    }
    if let Some(f1) = f1
        && (f0.group == Group::Bit) != (f1.group == Group::Bit)
    {
        return fail("alu-group", "op1", format!("both operators are bit operators or neither; got {} and {}", f0.name, f1.name));
    }
    // Release notes of NKI 0.4.0.
    if matches!(f0.name, "square" | "relu") {
        return fail("alu-group", "op0", format!("{} is of trn3 here; activation has it", f0.name));
    }
    for (f, operand) in [(Some(f0), "operand0"), (f1, "operand1")] {
        let given = match op.arg(operand) {
            None => false,
            Some(Arg::Num(x)) => *x != 0.0,
            Some(_) => true,
        };
        if let Some(f) = f.filter(|f| f.group == Group::Unary && given) {
            return fail("operand", operand, format!("{} takes one operand: this one is 0", f.name));
        }
    }
    bit_types(op, f0, &["dst", "data"])?;
    if f0.group == Group::Bit
        && let Some(name) = ["operand0", "operand1"].into_iter().find(|n| matches!(op.arg(n), Some(Arg::Acc(_))))
    {
        return fail("scalar-operand", name, "a bit operator takes a constant here");
    }
    let names: Vec<_> = [Some(f0), f1].into_iter().flatten().map(|f| f.name).collect();
    let legal = match op.engine {
        Engine::Scalar => matches!(names[..], ["multiply", "add"] | ["multiply"] | ["add"]),
        Engine::GpSimd => names.contains(&"rsqrt"),
        _ => !names.contains(&"rsqrt"),
    };
    if !legal {
        return fail(
            "alu-engine",
            "op0",
            format!(
                "Scalar runs multiply then add, multiply, or add; GpSimd rsqrt; Vector the rest; got {} on {}",
                names.join(" then "),
                op.engine.name()
            ),
        );
    }
    Ok(())
}

/// Extents of `data` and how many elements each result takes.
pub fn reduced(op: &Op) -> Result<usize> {
    let s = need(op, "data")?;
    let Some(Arg::Ints(axis)) = op.arg("axis") else { return fail("operand", "axis", "an axis or a tuple of axes") };
    let rank = s.dims.len() as i64;
    let mut axes: Vec<i64> = axis.iter().map(|&a| if a < 0 { a + rank } else { a }).collect();
    axes.sort_unstable();
    let first = rank - axes.len() as i64;
    if axes.is_empty() || first < 1 || axes.iter().enumerate().any(|(i, &a)| a != first + i as i64) {
        return fail("reduce-axes", "axis", format!("the last free dimensions of {:?}; got {axis:?}", s.dims));
    }
    Ok(s.dims[first as usize..].iter().product())
}

fn tensor_reduce(op: &Op) -> Result<()> {
    parts(op, "dst", "data")?;
    let (d, s, f) = (need(op, "dst")?, need(op, "data")?, need_alu(op, "op")?);
    if f.identity.is_none() {
        return fail("alu-reduce", "op", format!("{} does not reduce", f.name));
    }
    bit_types(op, f, &["dst", "data"])?;
    let want = s.n / reduced(op)?;
    if d.n != want {
        return fail("shape", "dst", format!("must have {want} elements per partition; got {}", d.n));
    }
    Ok(())
}

fn local_gather(op: &Op) -> Result<()> {
    let (d, s, x) = (need(op, "dst")?, need(op, "src_buffer")?, need(op, "index")?);
    same_dtype(op, "dst", "src_buffer")?;
    if !d.parts.is_multiple_of(16) || d.parts != s.parts || x.parts != d.parts {
        return fail("gather", "dst", format!("partitions are a multiple of 16 and equal; got {}, {} and {}", d.parts, s.parts, x.parts));
    }
    let epi = match op.arg("num_elem_per_idx") {
        Some(Arg::Int(n)) => n.c,
        _ => 1,
    };
    if ![1, 2, 4, 8, 16, 32].contains(&epi) {
        return fail("gather", "num_elem_per_idx", format!("1, 2, 4, 8, 16 or 32; got {epi}"));
    }
    let valid = match op.arg("num_valid_indices") {
        Some(Arg::Int(n)) => n.c as usize,
        _ => x.n * 16,
    };
    if valid == 0 || valid > 4096 || valid > x.n * 16 {
        return fail("gather", "num_valid_indices", format!("1 to 4096 indices per 16 partitions, of {}; got {valid}", x.n * 16));
    }
    if d.n != valid * epi as usize {
        return fail("shape", "dst", format!("must have {} elements per partition; got {}", valid * epi as usize, d.n));
    }
    Ok(())
}

fn dma_copy(op: &Op) -> Result<()> {
    let (d, s) = (need(op, "dst")?, need(op, "src")?);
    if d.total() != s.total() {
        return fail("shape", "dst", format!("must have as many elements as src: {}; got {}", s.total(), d.total()));
    }
    if d.free.iter().any(|x| x.0 == 0 && x.1 > 1) {
        return fail("pattern-step", "dst", "a written pattern must not repeat elements (step 0)");
    }
    for (name, a) in [("dst", d), ("src", s)] {
        // Partitions, or the outermost dimension in HBM, are spread over descriptors; each has at most four more.
        let rank = a.free.len() - if a.mem.is_hbm() && a.rows.is_none() { (a.free.len() > 1) as usize } else { 0 };
        if rank > 4 {
            return fail("pattern-rank", name, format!("a descriptor has at most 4 dimensions; got {:?}", a.free));
        }
        if a.rows.is_some() && matches!(op.name("dge_mode"), Some("hwdge" | "none")) {
            return fail("dge-mode", "dge_mode", "gathers and scatters need dge_mode.swdge");
        }
    }
    if d.rows.is_some() && s.rows.is_some() {
        return fail("indirect", "src", "only one side may be indirect");
    }
    Ok(())
}

fn dma_transpose(op: &Op) -> Result<()> {
    let (d, s) = (need(op, "dst")?, need(op, "src")?);
    same_dtype(op, "dst", "src")?;
    let bytes = s.dtype.bits() / 8;
    if bytes != 2 && bytes != 4 {
        return fail("dtype", "src", format!("2 or 4-byte types; got {}", s.dtype));
    }
    let axes = axes(op);
    let legal: &[&[i64]] = &[&[1, 0], &[2, 1, 0], &[3, 1, 2, 0]];
    if !legal.contains(&&axes[..]) || axes.len() != s.dims.len() {
        return fail("dma-transpose", "axes", format!("(1, 0), (2, 1, 0) or (3, 1, 2, 0), as many as src has dimensions; got {axes:?}"));
    }
    let want: Vec<usize> = axes.iter().map(|&a| s.dims[a as usize]).collect();
    if d.dims != want {
        return fail("shape", "dst", format!("must be {want:?}; got {:?}", d.dims));
    }
    if s.rows.is_some() {
        return fail("indirect", "src", "indirect transposes are not supported here");
    }
    if !matches!(op.name("dge_mode"), None | Some("unknown" | "hwdge")) {
        return fail("dge-mode", "dge_mode", "a direct transpose takes unknown or hwdge");
    }
    if op.name("dge_mode") == Some("hwdge") {
        let ok = if s.dims.len() == 2 {
            s.dims[0] == 16
        } else {
            [1, 2, 4, 8, 16].contains(&s.dims[0]) && s.dims[0] * s.dims[s.dims.len() - 2] % 16 == 0
        };
        if !ok || bytes != 2 || s.dims[s.dims.len() - 1] > 128 {
            return fail(
                "dma-transpose",
                "dge_mode",
                format!("hwdge transposes 2-byte [16, <=128] or [1|2|4|8|16, .., <=128]; got {} {:?}", s.dtype, s.dims),
            );
        }
    }
    Ok(())
}

/// The permutation, with its default: all axes but the inner ones reversed.
pub fn axes(op: &Op) -> Vec<i64> {
    match op.arg("axes") {
        Some(Arg::Ints(v)) => v.clone(),
        _ => match op.acc("src").map_or(0, |s| s.dims.len()) {
            3 => vec![2, 1, 0],
            4 => vec![3, 1, 2, 0],
            _ => vec![1, 0],
        },
    }
}
