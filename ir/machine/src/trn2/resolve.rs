//! From a [`Program`] to what runs fast: names become slots, affine offsets become vectors of factors, views become patterns, last
//! uses become frees, and each instruction gets its engine and its time. Shape rules that no loop variable can change are checked here.

use super::isa::{Role, Types};
use super::ops::{ActDef, AluDef, activation, alu_op};
use super::program::{Access, Affine, Instr, Mem, Program, Stmt, Sub, Value, View};
use super::{Engine, Fault, InstrDef, Machine, clock, legal};
use std::collections::HashMap;
use tahoma_core::DType;

/// `c + Σ factor · vars[i]`
#[derive(Clone, Debug, Default)]
pub struct Lin {
    pub c: i64,
    pub terms: Vec<(usize, i64)>,
}

impl Lin {
    pub fn at(&self, vars: &[i64]) -> i64 {
        self.terms.iter().fold(self.c, |s, &(v, k)| s.saturating_add(k.saturating_mul(vars[v])))
    }
}

/// A tensor of the kernel; tiles in loops reuse theirs.
#[derive(Clone, Debug)]
pub struct Slot {
    pub name: String,
    pub dtype: DType,
    pub shape: Vec<usize>,
    pub mem: Mem,
    pub is_param: bool,
    pub line: u32,
}

impl Slot {
    pub fn parts(&self) -> usize {
        if self.mem.is_hbm() { 1 } else { self.shape.first().copied().unwrap_or(1) }
    }
    /// Elements per partition; of all of an HBM tensor.
    pub fn row(&self) -> usize {
        self.shape.iter().skip(!self.mem.is_hbm() as usize).product()
    }
    pub fn row_bytes(&self) -> usize {
        self.dtype.bytes_for(self.row())
    }
}

/// An operand: where it starts and how it steps.
#[derive(Clone, Debug)]
pub struct Acc {
    pub slot: usize,
    pub mem: Mem,
    pub dtype: DType,
    /// First element in the tensor's row-major order.
    pub off: Lin,
    /// Partitions of a tile; 1 in HBM.
    pub parts: usize,
    /// Extents as written, partitions first for tiles.
    pub dims: Vec<usize>,
    /// `(step, count)` of the free dimensions (HBM: of all but a gathered one), merged where contiguous, outermost first, never empty.
    pub free: Vec<(i64, usize)>,
    /// Elements per partition.
    pub n: usize,
    /// Least and greatest offset the free pattern reaches from its start.
    pub reach: (i64, i64),
    /// Per subscript: start, distance to the last index, extent.
    pub checks: Vec<(Lin, i64, usize)>,
    /// Gathered rows: step per index value, and the index tile.
    pub rows: Option<(i64, Box<Acc>)>,
}

impl Acc {
    pub fn contiguous(&self) -> bool {
        self.free.last().is_some_and(|d| d.0 == 1 || d.1 == 1)
    }
    /// Elements over all partitions, or gathered rows.
    pub fn total(&self) -> usize {
        self.n * self.parts * self.rows.as_ref().map_or(1, |r| r.1.parts)
    }
    /// Elements in one contiguous run.
    pub fn run(&self) -> usize {
        match self.free.last() {
            Some(&(1, n)) => n,
            _ => 1,
        }
    }
}

#[derive(Clone, Debug)]
pub enum Arg {
    Acc(Acc),
    Num(f64),
    Int(Lin),
    Bool(bool),
    Positive(Lin),
    Alu(&'static AluDef),
    Act(&'static ActDef),
    Name(String),
    Text,
    Pattern(Vec<[i64; 2]>),
    Ints(Vec<i64>),
}

#[derive(Clone, Debug)]
pub struct Op {
    pub def: &'static InstrDef,
    pub line: u32,
    pub args: Vec<Option<Arg>>,
    pub engine: Engine,
    pub cost: clock::Cost,
}

impl Op {
    pub fn arg(&self, name: &str) -> Option<&Arg> {
        self.args[self.def.operand(name)?].as_ref()
    }
    pub fn acc(&self, name: &str) -> Option<&Acc> {
        match self.arg(name) {
            Some(Arg::Acc(a)) => Some(a),
            _ => None,
        }
    }
    pub fn alu(&self, name: &str) -> Option<&'static AluDef> {
        match self.arg(name) {
            Some(Arg::Alu(a)) => Some(a),
            _ => None,
        }
    }
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.arg(name), Some(Arg::Bool(true)))
    }
    pub fn name(&self, name: &str) -> Option<&str> {
        match self.arg(name) {
            Some(Arg::Name(n)) => Some(n),
            _ => None,
        }
    }
    /// Tile operands with their keywords and whether they are written.
    pub fn tiles(&self) -> impl Iterator<Item = (&'static str, &Acc, bool)> {
        self.def.operands.iter().zip(&self.args).filter_map(|(d, a)| match a {
            Some(Arg::Acc(a)) => Some((d.name, a, d.role.writes())),
            _ => None,
        })
    }
}

#[derive(Debug)]
pub enum Node {
    Alloc(usize),
    Free(usize),
    For { var: usize, count: usize, body: Vec<Node> },
    Op(Box<Op>),
}

#[derive(Debug)]
pub struct Resolved<'a> {
    pub kernel: &'a str,
    pub slots: Vec<Slot>,
    pub params: usize,
    pub vars: usize,
    pub body: Vec<Node>,
    pub returns: Vec<usize>,
}

struct Resolver<'a> {
    program: &'a Program,
    machine: &'static Machine,
    slots: Vec<Slot>,
    vars: usize,
    names: HashMap<String, usize>,
    open: HashMap<String, usize>,
}

pub fn resolve<'a>(program: &'a Program, machine: &'static Machine) -> Result<Resolved<'a>, Fault> {
    let mut l = Resolver { program, machine, slots: vec![], vars: 0, names: HashMap::new(), open: HashMap::new() };
    for p in &program.params {
        l.declare(&p.name, p.dtype, &p.shape, Mem::SharedHbm, true, 0)?;
    }
    let body = l.block(&program.body)?;
    let mut returns = vec![];
    for r in &program.returns {
        match l.names.get(r) {
            Some(&s) if l.slots[s].mem == Mem::SharedHbm && !l.slots[s].is_param => returns.push(s),
            _ => return Err(l.fault("output-buffer", 0, "return", r, "outputs must be nl.ndarray tensors in nl.shared_hbm")),
        }
    }
    Ok(Resolved { kernel: program.name.as_str(), slots: l.slots, params: program.params.len(), vars: l.vars, body, returns })
}

impl Resolver<'_> {
    fn fault(&self, rule: &'static str, line: u32, instruction: &str, operand: &str, message: impl Into<String>) -> Fault {
        Fault {
            rule,
            kernel: self.program.name.to_string(),
            line,
            instruction: instruction.into(),
            operand: operand.into(),
            message: message.into(),
        }
    }

    fn declare(&mut self, name: &str, dtype: DType, shape: &[usize], mem: Mem, is_param: bool, line: u32) -> Result<usize, Fault> {
        let bad = |rule, m: String| self.fault(rule, line, "nl.ndarray", name, m);
        if !Types::Any.allows(dtype) {
            return Err(bad("dtype", format!("{dtype} is not a type of trn2; it has {}", Types::Any.describe())));
        }
        if shape.contains(&0) || shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).is_none_or(|n| n > MOST_ELEMENTS) {
            return Err(bad("shape", format!("extents must be positive and not astronomical; got {shape:?}")));
        }
        if !mem.is_hbm() {
            if shape.len() < 2 {
                return Err(bad("shape", format!("a tile has a partition and at least one free dimension; got {shape:?}")));
            }
            if shape[0] > self.machine.partitions {
                return Err(bad("partitions", format!("a tile has at most {} partitions; got {}", self.machine.partitions, shape[0])));
            }
        }
        let slot = Slot { name: name.into(), dtype, shape: shape.to_vec(), mem, is_param, line };
        let (bytes, limit) = (
            slot.row_bytes(),
            match mem {
                Mem::Sbuf => self.machine.sbuf_partition_bytes,
                Mem::Psum => self.machine.psum_banks * self.machine.psum_bank_bytes,
                _ => usize::MAX,
            },
        );
        if bytes > limit {
            let what = if mem == Mem::Psum { "psum-capacity" } else { "sbuf-capacity" };
            return Err(bad(what, format!("one tile of {bytes} bytes per partition; there are {limit}")));
        }
        self.slots.push(slot);
        self.names.insert(name.into(), self.slots.len() - 1);
        Ok(self.slots.len() - 1)
    }

    fn block(&mut self, stmts: &[Stmt]) -> Result<Vec<Node>, Fault> {
        let outer = self.names.clone();
        let mut nodes = vec![];
        // Tiles of this block with the number of nodes after their last use, in the order of their making; and where each is there.
        let mut last: Vec<(usize, usize)> = vec![];
        let mut place: HashMap<usize, usize> = HashMap::new();
        for s in stmts {
            match s {
                Stmt::Comment(_) => continue,
                Stmt::Alloc { name, dtype, shape, mem, line } => {
                    let slot = self.declare(name, *dtype, shape, *mem, false, line.0)?;
                    nodes.push(Node::Alloc(slot));
                    place.insert(slot, last.len());
                    last.push((slot, nodes.len()));
                }
                Stmt::For { var, count, body } => {
                    let id = self.vars;
                    self.vars += 1;
                    let shadowed = self.open.insert(var.clone(), id);
                    let body = self.block(body)?;
                    match shadowed {
                        Some(v) => self.open.insert(var.clone(), v),
                        None => self.open.remove(var),
                    };
                    nodes.push(Node::For { var: id, count: *count, body });
                }
                Stmt::Instr(i) => {
                    let op = self.instruction(i)?;
                    nodes.push(Node::Op(Box::new(op)));
                }
            }
            if let Some(node) = nodes.last() {
                let n = nodes.len();
                slots_of(node).iter().filter_map(|slot| place.get(slot)).for_each(|&l| last[l].1 = n);
            }
        }
        // Names made here end with the block, but outputs of the kernel are named again by `return`.
        if !self.open.is_empty() {
            self.names = outer;
        }
        last.retain(|l| !self.slots[l.0].mem.is_hbm());
        // What ends together goes in the order opposite to its making.
        last.reverse();
        last.sort_by_key(|l| l.1);
        let mut ends = last.into_iter().peekable();
        let mut all = Vec::with_capacity(nodes.len() + ends.len());
        for (i, node) in nodes.into_iter().enumerate() {
            all.push(node);
            while let Some((slot, _)) = ends.next_if(|l| l.1 == i + 1) {
                all.push(Node::Free(slot));
            }
        }
        Ok(all)
    }

    fn lin(&self, a: &Affine, i: &Instr, operand: &str) -> Result<Lin, Fault> {
        let mut terms = vec![];
        for (v, k) in &a.terms {
            match self.open.get(v) {
                Some(&id) => terms.push((id, *k)),
                None => return Err(self.fault("name", i.line.0, i.def.name, operand, format!("{v:?} is not an open loop's variable"))),
            }
        }
        Ok(Lin { c: a.constant, terms })
    }

    fn instruction(&self, i: &Instr) -> Result<Op, Fault> {
        let mut args = vec![];
        for (d, v) in i.def.operands.iter().zip(&i.args) {
            let wrong = |what: &str| self.fault("operand", i.line.0, i.def.name, d.name, what.to_string());
            args.push(match v {
                None if d.default.is_none() => return Err(wrong("must be given")),
                None => None,
                Some(Value::Tile(a)) => Some(Arg::Acc(self.access(a, i, d.name)?)),
                Some(Value::Float(x)) => Some(Arg::Num(*x)),
                Some(Value::Int(a)) if matches!(d.role, Role::Int) => Some(Arg::Int(self.lin(a, i, d.name)?)),
                Some(Value::Int(a)) if a.is_constant() => Some(Arg::Num(a.constant as f64)),
                Some(Value::Int(_)) => return Err(wrong("takes a constant")),
                Some(Value::Bool(b)) => Some(Arg::Bool(*b)),
                Some(Value::Positive(a)) => Some(Arg::Positive(self.lin(a, i, d.name)?)),
                Some(Value::Text(_)) => Some(Arg::Text),
                Some(Value::Pattern(p)) => Some(Arg::Pattern(p.clone())),
                Some(Value::Ints(v)) => Some(Arg::Ints(v.clone())),
                Some(Value::Name(n)) => Some(match d.role {
                    Role::Alu => Arg::Alu(alu_op(n).ok_or_else(|| wrong(&format!("nl.{n} is not an ALU operator of trn2")))?),
                    Role::Act => Arg::Act(activation(n).ok_or_else(|| wrong(&format!("nl.{n} is not an activation function of trn2")))?),
                    _ => Arg::Name(n.clone()),
                }),
            });
        }
        let mut op = Op { def: i.def, line: i.line.0, args, engine: i.def.engines[0], cost: clock::Cost::default() };
        let fail =
            |(rule, operand, message): (&'static str, &'static str, String)| self.fault(rule, i.line.0, i.def.name, operand, message);
        op.engine = legal::engine(&op).map_err(fail)?;
        legal::check(&op, &self.slots, self.machine).map_err(fail)?;
        op.cost = clock::cost(&op, self.machine);
        Ok(op)
    }

    fn access(&self, a: &Access, i: &Instr, operand: &str) -> Result<Acc, Fault> {
        let fail = |rule, m: String| Err(self.fault(rule, i.line.0, i.def.name, operand, m));
        let Some(&slot) = self.names.get(&a.base) else { return fail("name", format!("{:?} is not a tensor here", a.base)) };
        let s = &self.slots[slot];
        let hbm = s.mem.is_hbm();
        // An edited text has any numbers: what is too large stays so, and leaves the tensor.
        let product = |of: &mut dyn Iterator<Item = usize>| of.fold(1usize, usize::saturating_mul);
        let whole = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let strides: Vec<i64> = (0..s.shape.len()).map(|d| whole(product(&mut s.shape[d + 1..].iter().copied()))).collect();
        let (mut off, mut dims, mut checks, mut rows) = (Lin::default(), vec![], vec![], None);
        match &a.view {
            View::Whole => dims.extend(strides.iter().copied().zip(s.shape.iter().copied())),
            View::Slices(subs) => {
                if subs.len() != s.shape.len() {
                    return fail("shape", format!("{} subscripts for {}{:?}", subs.len(), s.name, s.shape));
                }
                let mut total = Affine::default();
                for (d, sub) in subs.iter().enumerate() {
                    let (start, len, step) = match sub {
                        Sub::At(at) => (at, 1, 1),
                        Sub::Range { start, len, step } => (start, *len, whole(*step)),
                    };
                    total = total.add_scaled(start, strides[d]);
                    checks.push((self.lin(start, i, operand)?, (whole(len) - 1).saturating_mul(step), s.shape[d]));
                    if !matches!(sub, Sub::At(_)) || (d == 0 && !hbm) {
                        dims.push((strides[d].saturating_mul(step), len));
                    }
                    if d == 0 && !hbm && step != 1 && len > 1 {
                        return fail("partition-step", format!("partitions are contiguous; got a step of {step}"));
                    }
                }
                off = self.lin(&total, i, operand)?;
            }
            View::Pattern { pattern, offset, index } => {
                off = self.lin(offset, i, operand)?;
                dims.extend(pattern.iter().map(|&[st, c]| (st, c.max(0) as usize)));
                if let Some(x) = index {
                    if !hbm {
                        return fail("indirect", "only HBM tensors can be gathered or scattered".into());
                    }
                    let x = self.access(x, i, operand)?;
                    let (step, count) = dims.remove(0);
                    if x.mem != Mem::Sbuf || !x.dtype.is_int() || x.n != 1 || x.parts != count {
                        return fail("indirect", format!("vector_offset must be an integer [{count}, 1] tile in SBUF"));
                    }
                    rows = Some((step, Box::new(x)));
                } else if !hbm {
                    let row = s.row() as i64;
                    if pattern[0][0] != row && pattern[0][1] > 1 {
                        return fail(
                            "partition-step",
                            format!("the first entry of a tile's pattern steps by one partition = {row} elements; got {}", pattern[0][0]),
                        );
                    }
                }
            }
        }
        if dims.iter().any(|d| d.1 == 0) {
            return fail("shape", "an empty access".into());
        }
        let mut shape: Vec<usize> = dims.iter().map(|d| d.1).collect();
        if let Some((_, x)) = &rows {
            shape.insert(0, x.parts);
        }
        let parts = if hbm { 1 } else { dims.remove(0).1 };
        // Merge neighbours that step as one, and drop single counts.
        let mut free: Vec<(i64, usize)> = vec![];
        for &(st, c) in dims.iter().filter(|d| d.1 > 1) {
            match free.last_mut() {
                Some(l) if l.0 == st.saturating_mul(whole(c)) => *l = (st, l.1.saturating_mul(c)),
                _ => free.push((st, c)),
            }
        }
        if free.is_empty() {
            free.push((1, 1));
        }
        let n = product(&mut free.iter().map(|d| d.1));
        let all = n.saturating_mul(parts).saturating_mul(rows.as_ref().map_or(1, |r| r.1.parts));
        if all > MOST_ELEMENTS {
            return fail("shape", format!("more than {MOST_ELEMENTS} elements of {}{:?}", s.name, s.shape));
        }
        let reach = free.iter().fold((0i64, 0i64), |(lo, hi), &(st, c)| {
            let r = st.saturating_mul(whole(c) - 1);
            (lo.saturating_add(r.min(0)), hi.saturating_add(r.max(0)))
        });
        Ok(Acc { slot, mem: s.mem, dtype: s.dtype, off, parts, dims: shape, free, n, reach, checks, rows })
    }
}

/// Elements of the largest tensor and access: sizes and bytes of anything are whole numbers of 64 bits.
const MOST_ELEMENTS: usize = 1 << 40;

/// Slots that a node reads or writes, loops included.
fn slots_of(node: &Node) -> Vec<usize> {
    match node {
        Node::Alloc(_) | Node::Free(_) => vec![],
        Node::For { body, .. } => body.iter().flat_map(slots_of).collect(),
        Node::Op(op) => op.tiles().flat_map(|(_, a, _)| std::iter::once(a.slot).chain(a.rows.as_ref().map(|r| r.1.slot))).collect(),
    }
}
