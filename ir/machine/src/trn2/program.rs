//! A kernel as plain data: parameters in HBM, allocations, counted loops, instructions of the table, returned tensors.
//!
//! Everything is static but the loop variables, which offsets may use affinely. Loops are Python `range` and unroll when the kernel is
//! specialised, so they cost instructions, not time. [`Builder`] makes programs; `nki` prints them and `parse` reads them back.

use super::isa::{InstrDef, Role, instr};
use std::collections::{HashMap, HashSet};
use tahoma_core::DType;
use tahoma_core::escape::{self, Ident};

/// Where a tensor lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mem {
    Sbuf,
    Psum,
    /// Outputs of the kernel.
    SharedHbm,
    /// Scratch in HBM.
    PrivateHbm,
}

impl Mem {
    /// Member name of `nl` that `nl.ndarray(buffer=…)` takes.
    pub fn name(self) -> &'static str {
        match self {
            Mem::Sbuf => "sbuf",
            Mem::Psum => "psum",
            Mem::SharedHbm => "shared_hbm",
            Mem::PrivateHbm => "private_hbm",
        }
    }
    pub fn from_name(name: &str) -> Option<Mem> {
        [Mem::Sbuf, Mem::Psum, Mem::SharedHbm, Mem::PrivateHbm].into_iter().find(|m| m.name() == name)
    }
    pub fn is_hbm(self) -> bool {
        matches!(self, Mem::SharedHbm | Mem::PrivateHbm)
    }
}

/// NKI's name of a number type, where the machine has it.
pub fn nki_dtype(d: DType) -> Option<&'static str> {
    DTYPES.iter().find(|x| x.0 == d).map(|x| x.1)
}
/// The number type behind NKI's name.
pub fn dtype_from_nki(name: &str) -> Option<DType> {
    DTYPES.iter().find(|x| x.1 == name).map(|x| x.0)
}
const DTYPES: &[(DType, &str)] = &[
    (DType::F32, "float32"),
    (DType::TF32, "tfloat32"),
    (DType::BF16, "bfloat16"),
    (DType::F16, "float16"),
    (DType::F8E4M3, "float8_e4m3"),
    (DType::F8E5M2, "float8_e5m2"),
    (DType::I32, "int32"),
    (DType::U32, "uint32"),
    (DType::I16, "int16"),
    (DType::U16, "uint16"),
    (DType::I8, "int8"),
    (DType::U8, "uint8"),
];

/// `constant + Σ factor · variable`, variables sorted by name and factors not 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Affine {
    pub constant: i64,
    pub terms: Vec<(String, i64)>,
}

impl Affine {
    pub fn var(name: &str) -> Affine {
        Affine { constant: 0, terms: vec![(name.into(), 1)] }
    }
    pub fn is_constant(&self) -> bool {
        self.terms.is_empty()
    }
    /// Adds `factor · other`.
    pub fn add_scaled(mut self, other: &Affine, factor: i64) -> Affine {
        self.constant = self.constant.saturating_add(factor.saturating_mul(other.constant));
        for (v, k) in &other.terms {
            match self.terms.binary_search_by(|t| t.0.cmp(v)) {
                Ok(i) => self.terms[i].1 = self.terms[i].1.saturating_add(factor.saturating_mul(*k)),
                Err(i) => self.terms.insert(i, (v.clone(), factor.saturating_mul(*k))),
            }
        }
        self.terms.retain(|t| t.1 != 0);
        self
    }
}

impl From<i64> for Affine {
    fn from(constant: i64) -> Affine {
        Affine { constant, terms: vec![] }
    }
}
impl From<usize> for Affine {
    fn from(n: usize) -> Affine {
        Affine::from(n as i64)
    }
}
impl From<i32> for Affine {
    fn from(n: i32) -> Affine {
        Affine::from(n as i64)
    }
}
impl From<&Affine> for Affine {
    fn from(a: &Affine) -> Affine {
        a.clone()
    }
}
impl<T: Into<Affine>> std::ops::Add<T> for Affine {
    type Output = Affine;
    fn add(self, o: T) -> Affine {
        self.add_scaled(&o.into(), 1)
    }
}
impl<T: Into<Affine>> std::ops::Add<T> for &Affine {
    type Output = Affine;
    fn add(self, o: T) -> Affine {
        self.clone().add_scaled(&o.into(), 1)
    }
}
impl std::ops::Mul<i64> for Affine {
    type Output = Affine;
    fn mul(self, k: i64) -> Affine {
        Affine::default().add_scaled(&self, k)
    }
}
impl std::ops::Mul<i64> for &Affine {
    type Output = Affine;
    fn mul(self, k: i64) -> Affine {
        Affine::default().add_scaled(self, k)
    }
}

/// One subscript.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Sub {
    /// One index; the dimension disappears. On the partition dimension of a tile it stays as extent 1.
    At(Affine),
    /// `start : start + len·step : step`
    Range { start: Affine, len: usize, step: usize },
}

impl Sub {
    pub fn range(start: impl Into<Affine>, len: usize) -> Sub {
        Sub::Range { start: start.into(), len, step: 1 }
    }
    pub fn step(start: impl Into<Affine>, len: usize, step: usize) -> Sub {
        Sub::Range { start: start.into(), len, step }
    }
    pub fn at(i: impl Into<Affine>) -> Sub {
        Sub::At(i.into())
    }
}

/// What of a tensor an operand names.
#[derive(Clone, Debug, PartialEq)]
pub enum View {
    /// All of it.
    Whole,
    /// One subscript per dimension.
    Slices(Vec<Sub>),
    /// `.ap(pattern=[[step, count], …], offset=…)`: steps in elements of the tensor's row-major order, outermost first. For tiles the
    /// first entry is the partitions, its step the elements per partition. With `index`, a `[P, 1]` integer tile gives the position
    /// along the first entry instead of 0, 1, 2, … (HBM only).
    Pattern { pattern: Vec<[i64; 2]>, offset: Affine, index: Option<Box<Access>> },
}

/// A tile or tensor operand.
#[derive(Clone, Debug, PartialEq)]
pub struct Access {
    pub base: String,
    pub view: View,
}

/// An operand's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Tile(Access),
    Int(Affine),
    Float(f64),
    Bool(bool),
    /// `expr > 0`, for `accumulate`.
    Positive(Affine),
    /// A member of an enumeration or table, without its prefix.
    Name(String),
    /// A quoted string.
    Text(String),
    Pattern(Vec<[i64; 2]>),
    Ints(Vec<i64>),
}

impl From<Access> for Value {
    fn from(a: Access) -> Value {
        Value::Tile(a)
    }
}
impl From<&Tile> for Value {
    fn from(t: &Tile) -> Value {
        Value::Tile(t.all())
    }
}
impl From<f64> for Value {
    fn from(x: f64) -> Value {
        Value::Float(x)
    }
}
impl From<f32> for Value {
    fn from(x: f32) -> Value {
        Value::Float(x as f64)
    }
}
impl From<i64> for Value {
    fn from(x: i64) -> Value {
        Value::Int(x.into())
    }
}
impl From<Affine> for Value {
    fn from(x: Affine) -> Value {
        Value::Int(x)
    }
}
impl From<bool> for Value {
    fn from(x: bool) -> Value {
        Value::Bool(x)
    }
}
impl From<&str> for Value {
    fn from(x: &str) -> Value {
        Value::Name(x.into())
    }
}
impl From<Vec<[i64; 2]>> for Value {
    fn from(x: Vec<[i64; 2]>) -> Value {
        Value::Pattern(x)
    }
}
impl From<Vec<i64>> for Value {
    fn from(x: Vec<i64>) -> Value {
        Value::Ints(x)
    }
}

/// Line in the NKI text, 0 where a program was built and not parsed. Any two are equal: it says where, not what.
#[derive(Clone, Copy, Debug, Default)]
pub struct Line(pub u32);

impl PartialEq for Line {
    fn eq(&self, _: &Line) -> bool {
        true
    }
}

/// One instruction: a value per operand of its row, `None` where the default holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Instr {
    pub def: &'static InstrDef,
    pub args: Vec<Option<Value>>,
    pub line: Line,
}

impl Instr {
    /// An instruction without operands yet. Panics if the table has no such name: a bug of the caller, as names are not user input.
    pub fn new(name: &str) -> Instr {
        let def = instr(name).unwrap_or_else(|| panic!("no instruction {name:?} in the table"));
        Instr { def, args: vec![None; def.operands.len()], line: Line(0) }
    }
    /// Sets an operand. Panics on a keyword that the instruction does not have.
    pub fn with(mut self, keyword: &str, value: impl Into<Value>) -> Instr {
        let i = self.def.operand(keyword).unwrap_or_else(|| panic!("{} has no operand {keyword:?}", self.def.name));
        let value = value.into();
        // A whole number given for a real operand is that number.
        self.args[i] = Some(match (&self.def.operands[i].role, value) {
            (Role::Float | Role::Scalar | Role::Bias | Role::SrcOrNumber(_), Value::Int(a)) if a.is_constant() => {
                Value::Float(a.constant as f64)
            }
            (Role::Str, Value::Name(s)) => Value::Text(s),
            (_, v) => v,
        });
        self
    }
    /// Value of an operand by keyword.
    pub fn get(&self, keyword: &str) -> Option<&Value> {
        self.args[self.def.operand(keyword)?].as_ref()
    }
}

/// One statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Stmt {
    Comment(escape::Line),
    /// `name = nl.ndarray(shape, dtype, buffer)`. Inside a loop every iteration makes a new one.
    Alloc {
        name: String,
        dtype: DType,
        shape: Vec<usize>,
        mem: Mem,
        line: Line,
    },
    For {
        var: String,
        count: usize,
        body: Vec<Stmt>,
    },
    Instr(Instr),
}

/// An input tensor in HBM.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    pub name: String,
    pub dtype: DType,
    pub shape: Vec<usize>,
}

/// One `@nki.jit` kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    pub name: Ident,
    /// Comment lines at the head: where the kernel comes from.
    pub origin: Vec<escape::Line>,
    pub params: Vec<Param>,
    pub body: Vec<Stmt>,
    /// Names of `shared_hbm` tensors, in output order.
    pub returns: Vec<String>,
}

/// A named tensor or tile while building, with what accesses need to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Tile {
    pub name: String,
    pub dtype: DType,
    pub shape: Vec<usize>,
    pub mem: Mem,
    /// What of the tensor of that name it is; `shape` is the shape of that.
    view: View,
}

impl Tile {
    fn whole(name: String, dtype: DType, shape: &[usize], mem: Mem) -> Tile {
        Tile { name, dtype, shape: shape.to_vec(), mem, view: View::Whole }
    }
    /// All of it.
    pub fn all(&self) -> Access {
        Access { base: self.name.clone(), view: self.view.clone() }
    }
    /// One value a partition, read `n` times along the free axis. Panics where there are more.
    pub fn repeated(&self, n: usize) -> Access {
        assert_eq!(self.free(), 1, "{self:?} has more than a value a partition");
        let rows = |step: i64, offset: Affine| {
            let pattern = vec![[step, self.shape[0] as i64], [0, n as i64]];
            Access { base: self.name.clone(), view: View::Pattern { pattern, offset, index: None } }
        };
        match &self.view {
            View::Pattern { pattern, offset, .. } => rows(pattern[0][0], offset.clone()),
            _ => rows(1, 0i64.into()),
        }
    }
    /// Whether it is a part of the tensor of its name.
    pub fn is_part(&self) -> bool {
        self.view != View::Whole
    }
    /// A part of it, as instructions read it: `shape` is that of `of`. A part has no parts.
    #[must_use]
    pub fn part(&self, shape: &[usize], of: Access) -> Tile {
        debug_assert!(self.view == View::Whole && of.base == self.name, "{of:?} of {self:?}");
        Tile { shape: shape.to_vec(), view: of.view, ..self.clone() }
    }
    /// One subscript per dimension.
    pub fn at(&self, subs: &[Sub]) -> Access {
        debug_assert!(self.view == View::Whole, "a part of a part of {}", self.name);
        Access { base: self.name.clone(), view: View::Slices(subs.to_vec()) }
    }
    /// Row-major elements: `[[step, count], …]` from `offset`.
    pub fn ap(&self, pattern: &[[i64; 2]], offset: impl Into<Affine>) -> Access {
        debug_assert!(self.view == View::Whole, "a part of a part of {}", self.name);
        Access { base: self.name.clone(), view: View::Pattern { pattern: pattern.to_vec(), offset: offset.into(), index: None } }
    }
    /// Rows of an HBM tensor chosen by a `[P, 1]` integer tile: element `[p, i]` is at `offset + index[p]·pattern[0].step + …`.
    pub fn rows(&self, pattern: &[[i64; 2]], offset: impl Into<Affine>, index: Access) -> Access {
        let (pattern, offset) = (pattern.to_vec(), offset.into());
        Access { base: self.name.clone(), view: View::Pattern { pattern, offset, index: Some(Box::new(index)) } }
    }
    /// Some partitions (or rows of the first dimension), all of the rest.
    pub fn parts(&self, start: impl Into<Affine>, len: usize) -> Access {
        let rest = self.shape.iter().skip(1).map(|&n| Sub::range(0usize, n));
        self.at(&std::iter::once(Sub::range(start, len)).chain(rest).collect::<Vec<_>>())
    }
    /// Elements per partition of a tile.
    pub fn free(&self) -> usize {
        self.shape.iter().skip(1).product()
    }
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Builds a [`Program`]; names it gives are unique.
#[derive(Debug)]
pub struct Builder {
    program: Program,
    names: HashSet<String>,
    /// Serial number to try next behind each name that was asked for.
    serials: HashMap<String, usize>,
    /// Open loops, outermost first: variable, count, statements so far.
    open: Vec<(String, usize, Vec<Stmt>)>,
    /// Instructions so far that an engine computes, and of how many nobody wants more.
    computed: usize,
    most: usize,
}

impl Builder {
    /// A kernel of that name, or of the nearest one that is an identifier.
    pub fn new(name: &str) -> Builder {
        let name = Ident::of(name);
        let names = RESERVED.iter().map(|s| s.to_string()).chain([name.to_string()]).collect();
        let program = Program { name, origin: vec![], params: vec![], body: vec![], returns: vec![] };
        Builder { program, names, serials: HashMap::new(), open: vec![], computed: 0, most: usize::MAX }
    }
    /// A comment line at the head of the kernel.
    pub fn origin(&mut self, line: &str) {
        self.program.origin.push(escape::Line::of(line.trim()));
    }
    fn fresh(&mut self, hint: &str) -> String {
        let mut base: String = hint.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        if !base.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            base.insert(0, 't');
        }
        if !self.serials.contains_key(&base) && self.names.insert(base.clone()) {
            self.serials.insert(base.clone(), 1);
            return base;
        }
        // What was refused once is taken for good: the search goes on where it ended.
        let n = self.serials.entry(base.clone()).or_insert(1);
        loop {
            let name = format!("{base}_{n}");
            *n += 1;
            if self.names.insert(name.clone()) {
                return name;
            }
        }
    }
    fn push(&mut self, s: Stmt) {
        self.open.last_mut().map_or(&mut self.program.body, |o| &mut o.2).push(s);
    }
    /// An input in HBM.
    pub fn param(&mut self, name: &str, dtype: DType, shape: &[usize]) -> Tile {
        let name = self.fresh(name);
        self.program.params.push(Param { name: name.clone(), dtype, shape: shape.to_vec() });
        Tile::whole(name, dtype, shape, Mem::SharedHbm)
    }
    /// Allocates a tensor here; inside a loop, a new one per iteration.
    pub fn alloc(&mut self, name: &str, dtype: DType, shape: &[usize], mem: Mem) -> Tile {
        let name = self.fresh(name);
        self.push(Stmt::Alloc { name: name.clone(), dtype, shape: shape.to_vec(), mem, line: Line(0) });
        Tile::whole(name, dtype, shape, mem)
    }
    pub fn sbuf(&mut self, name: &str, dtype: DType, shape: &[usize]) -> Tile {
        self.alloc(name, dtype, shape, Mem::Sbuf)
    }
    pub fn psum(&mut self, name: &str, dtype: DType, shape: &[usize]) -> Tile {
        self.alloc(name, dtype, shape, Mem::Psum)
    }
    /// An output tensor in shared HBM.
    pub fn output(&mut self, name: &str, dtype: DType, shape: &[usize]) -> Tile {
        self.alloc(name, dtype, shape, Mem::SharedHbm)
    }
    pub fn comment(&mut self, text: &str) {
        self.push(Stmt::Comment(escape::Line::of(text.trim())));
    }
    /// After so many computing instructions the program is of no use: whoever builds it asks [`Builder::full`] and stops.
    pub fn limit(&mut self, most: usize) {
        self.most = most;
    }
    pub fn full(&self) -> bool {
        self.computed > self.most
    }
    pub fn emit(&mut self, i: Instr) {
        self.computed += usize::from(i.def.engines != [super::Engine::Dma]);
        self.push(Stmt::Instr(i));
    }
    /// `for var in range(count)`. A count of 1 makes no loop: the body gets the constant 0.
    pub fn for_<R>(&mut self, var: &str, count: usize, body: impl FnOnce(&mut Builder, &Affine) -> R) -> R {
        if count == 1 {
            return body(self, &Affine::from(0i64));
        }
        let var = self.fresh(var);
        self.open.push((var.clone(), count, vec![]));
        let r = body(self, &Affine::var(&var));
        if let Some((var, count, body)) = self.open.pop() {
            self.push(Stmt::For { var, count, body });
        }
        r
    }
    /// The program, returning these outputs.
    pub fn finish(mut self, returns: &[&Tile]) -> Program {
        self.program.returns = returns.iter().map(|t| t.name.clone()).collect();
        self.program
    }
}

/// Names that Python or the kernel's imports already mean.
const RESERVED: &[&str] = &[
    "nki", "nl", "nisa", "range", "for", "in", "if", "else", "def", "return", "import", "as", "and", "or", "not", "is", "None", "True",
    "False", "lambda", "class", "pass", "while", "with", "from", "assert", "del", "global", "try", "except", "raise", "yield", "float",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Names are the first that are free, as if each were looked for from the start.
    #[test]
    fn names_are_the_first_free_ones() {
        let mut b = Builder::new("k");
        let mut taken: HashSet<String> = RESERVED.iter().map(|s| s.to_string()).chain(["k".to_string()]).collect();
        let hints = ["t", "t_1", "k", "nl", "9", "t", "a b", "a_b", "t_1", "t_1_1", "for", "t"];
        for hint in hints.iter().cycle().take(20 * hints.len()) {
            let base = if *hint == "9" { "t9".to_string() } else { hint.replace(' ', "_") };
            let names = std::iter::once(base.clone()).chain((1..).map(|n| format!("{base}_{n}")));
            let want = names.into_iter().find(|n| !taken.contains(n)).expect("there is one");
            taken.insert(want.clone());
            assert_eq!(b.alloc(hint, DType::F32, &[1], Mem::Sbuf).name, want);
        }
    }

    /// As many tiles as a large kernel has: looked for from the start, each name, this is 5·10⁹ look-ups.
    #[test]
    fn a_hundred_thousand_names_are_found_at_once() {
        let mut b = Builder::new("k");
        let last = (0..100_000).map(|_| b.fresh("t")).last();
        assert_eq!(last.as_deref(), Some("t_99999"));
    }
}
