//! Reads the NKI subset that [`super::nki`] prints, and a little more of what people write by hand.
//!
//! Supported: one `@nki.jit` function; `# name: dtype[shape]` for every parameter; `x = nl.ndarray(shape, dtype=, buffer=)`;
//! `for i in range(N):` with a constant N; `nisa.CALL(keyword=value, …)` for calls of the table; `return`. Operands are names, slices
//! (`a[0:128, 512*i:512*i + 512]`, `nl.ds(start, size)`, `:`), or `.ap(pattern=, offset=)`; numbers are affine in loop variables.
//! Anything else is an error with its line and column.

use super::isa::{INSTRS, Role, instr};
use super::ops::{activation, alu_op};
use super::program::*;
use std::collections::HashMap;
use std::fmt;
use tahoma_core::escape::{self, Ident};

/// Where and why the text is not such a program. Lines and columns from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct ParseError {
    pub line: u32,
    pub column: u32,
    pub message: String,
}

type Result<T> = std::result::Result<T, ParseError>;

#[derive(Clone, Debug, PartialEq)]
enum Tok {
    Word(String),
    Int(i64),
    Real(f64),
    Text(String),
    Sign(char),
    End,
}

impl fmt::Display for Tok {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tok::Word(w) => write!(f, "{w:?}"),
            Tok::Int(n) => write!(f, "{n}"),
            Tok::Real(x) => write!(f, "{x}"),
            Tok::Text(t) => write!(f, "string {t:?}"),
            Tok::Sign(c) => write!(f, "'{c}'"),
            Tok::End => f.write_str("end of line"),
        }
    }
}

/// A statement's tokens (brackets join lines), or a comment on its own line.
struct Row {
    indent: usize,
    line: u32,
    comment: Option<String>,
    toks: Vec<(Tok, u32, u32)>,
}

fn fail<T>(line: u32, column: u32, message: impl Into<String>) -> Result<T> {
    Err(ParseError { line, column, message: message.into() })
}

fn rows(text: &str) -> Result<Vec<Row>> {
    let mut out: Vec<Row> = vec![];
    let mut open = 0usize;
    for (n, raw) in text.lines().enumerate() {
        let line = n as u32 + 1;
        let trimmed = raw.trim_start_matches(' ');
        let indent = raw.len() - trimmed.len();
        if trimmed.trim().is_empty() {
            continue;
        }
        if trimmed.starts_with('\t') {
            return fail(line, indent as u32 + 1, "indent with spaces");
        }
        if open == 0 {
            if let Some(c) = trimmed.strip_prefix('#') {
                out.push(Row { indent, line, comment: Some(c.strip_prefix(' ').unwrap_or(c).trim_end().into()), toks: vec![] });
                continue;
            }
            out.push(Row { indent, line, comment: None, toks: vec![] });
        }
        let Some(row) = out.last_mut() else { continue };
        let b = raw.as_bytes();
        let mut i = indent;
        while i < b.len() {
            let (c, col) = (b[i], i as u32 + 1);
            let start = i;
            let tok = match c {
                b' ' => {
                    i += 1;
                    continue;
                }
                b'#' => break,
                b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                    while i < b.len() && (b[i].is_ascii_alphanumeric() || b[i] == b'_') {
                        i += 1;
                    }
                    Tok::Word(raw[start..i].into())
                }
                b'0'..=b'9' => {
                    while i < b.len()
                        && (b[i].is_ascii_alphanumeric()
                            || b[i] == b'.'
                            || (matches!(b[i], b'+' | b'-') && matches!(b[i - 1], b'e' | b'E')))
                    {
                        i += 1;
                    }
                    let t = &raw[start..i];
                    match (t.parse::<i64>(), t.parse::<f64>()) {
                        (Ok(n), _) => Tok::Int(n),
                        (_, Ok(x)) => Tok::Real(x),
                        _ => return fail(line, col, format!("{t:?} is not a number")),
                    }
                }
                b'\'' | b'"' => {
                    i += 1;
                    while i < b.len() && b[i] != c {
                        i += 1;
                    }
                    if i == b.len() {
                        return fail(line, col, "string does not end on its line");
                    }
                    i += 1;
                    Tok::Text(raw[start + 1..i - 1].into())
                }
                b'(' | b')' | b'[' | b']' | b',' | b':' | b'=' | b'.' | b'+' | b'-' | b'*' | b'>' | b'@' => {
                    i += 1;
                    match c {
                        b'(' | b'[' => open += 1,
                        b')' | b']' => {
                            open = match open.checked_sub(1) {
                                Some(o) => o,
                                None => return fail(line, col, format!("'{}' closes nothing", c as char)),
                            }
                        }
                        _ => {}
                    }
                    Tok::Sign(c as char)
                }
                _ => {
                    let shown = raw[start..].chars().next().unwrap_or('?');
                    return fail(line, col, format!("{shown:?} is not used in kernels"));
                }
            };
            row.toks.push((tok, line, col));
        }
    }
    if open > 0 {
        let line = out.last().map_or(1, |r| r.line);
        return fail(line, 1, "a bracket opened here is never closed");
    }
    Ok(out)
}

/// A tensor in scope.
#[derive(Clone)]
struct Known {
    shape: Vec<usize>,
}

struct Parser {
    rows: Vec<Row>,
    at: usize,
    /// Token position in the current row.
    pos: usize,
    /// Tensors by name, and loop variables, of the open scopes.
    scopes: Vec<(HashMap<String, Known>, Option<String>)>,
}

/// The program of a kernel's text.
pub fn parse(text: &str) -> Result<Program> {
    let mut p = Parser { rows: rows(text)?, at: 0, pos: 0, scopes: vec![(HashMap::new(), None)] };
    p.kernel()
}

impl Parser {
    fn row(&self) -> Option<&Row> {
        self.rows.get(self.at)
    }
    fn here(&self) -> (u32, u32) {
        match self.row() {
            Some(r) => r.toks.get(self.pos).or(r.toks.last()).map_or((r.line, 1), |t| (t.1, t.2)),
            None => (self.rows.last().map_or(1, |r| r.line), 1),
        }
    }
    fn err<T>(&self, message: impl Into<String>) -> Result<T> {
        let (line, column) = self.here();
        fail(line, column, message)
    }
    fn peek(&self) -> Tok {
        self.row().and_then(|r| r.toks.get(self.pos)).map_or(Tok::End, |t| t.0.clone())
    }
    fn peek_at(&self, ahead: usize) -> Tok {
        self.row().and_then(|r| r.toks.get(self.pos + ahead)).map_or(Tok::End, |t| t.0.clone())
    }
    fn next(&mut self) -> Tok {
        let t = self.peek();
        self.pos += 1;
        t
    }
    fn is(&self, c: char) -> bool {
        self.peek() == Tok::Sign(c)
    }
    fn eat(&mut self, c: char) -> bool {
        let yes = self.is(c);
        self.pos += yes as usize;
        yes
    }
    fn want(&mut self, c: char) -> Result<()> {
        if self.eat(c) { Ok(()) } else { self.err(format!("expected '{c}', found {}", self.peek())) }
    }
    fn word(&mut self) -> Result<String> {
        match self.peek() {
            Tok::Word(w) => {
                self.pos += 1;
                Ok(w)
            }
            t => self.err(format!("expected a name, found {t}")),
        }
    }
    fn words(&mut self, words: &[&str]) -> Result<()> {
        for w in words {
            if self.peek() != Tok::Word(w.to_string()) {
                return self.err(format!("expected {w:?}, found {}", self.peek()));
            }
            self.pos += 1;
        }
        Ok(())
    }
    /// `nl.` or `nisa.engine.`, then the member's name.
    fn member(&mut self, path: &[&str]) -> Result<String> {
        for p in path {
            if self.peek() != Tok::Word(p.to_string()) {
                return self.err(format!("expected {}.NAME, found {}", path.join("."), self.peek()));
            }
            self.pos += 1;
            self.want('.')?;
        }
        self.word()
    }
    fn end_row(&mut self) -> Result<()> {
        if self.peek() != Tok::End {
            return self.err(format!("unexpected {}", self.peek()));
        }
        self.at += 1;
        self.pos = 0;
        Ok(())
    }
    fn usize(&mut self) -> Result<usize> {
        match self.peek() {
            Tok::Int(n) if n >= 0 => {
                self.pos += 1;
                Ok(n as usize)
            }
            t => self.err(format!("expected a whole number, found {t}")),
        }
    }
    fn int(&mut self) -> Result<i64> {
        let a = self.affine()?;
        if a.is_constant() { Ok(a.constant) } else { self.err("a constant is needed here") }
    }
    fn known(&self, name: &str) -> Option<&Known> {
        self.scopes.iter().rev().find_map(|s| s.0.get(name))
    }

    fn kernel(&mut self) -> Result<Program> {
        let mut origin: Vec<escape::Line> = vec![];
        let mut version = false;
        while let Some(c) = self.row().and_then(|r| r.comment.clone()) {
            if self.at == 0 && c.starts_with("NKI ") {
                if !c.starts_with("NKI 0.6") {
                    return self.err(format!("this reads NKI 0.6; the text says {c:?}"));
                }
                version = true;
            } else {
                origin.push(escape::Line::of(&c));
            }
            self.at += 1;
        }
        if !version {
            return fail(1, 1, "the first line must name the version: \"# NKI 0.6 …\"");
        }
        while matches!(self.peek(), Tok::Word(w) if w == "import") {
            self.at += 1;
        }
        self.want('@')?;
        self.words(&["nki"])?;
        self.want('.')?;
        self.words(&["jit"])?;
        self.end_row()?;
        self.words(&["def"])?;
        let word = self.word()?;
        let Some(name) = Ident::exact(&word) else {
            return self.err(format!("{word:?} is no name for a kernel"));
        };
        self.want('(')?;
        let mut names = vec![];
        while !self.is(')') {
            names.push((self.word()?, self.here()));
            if !self.eat(',') {
                break;
            }
        }
        self.want(')')?;
        self.want(':')?;
        self.end_row()?;
        let mut params = vec![];
        for (n, at) in names {
            let text = match self.row() {
                Some(Row { comment: Some(c), .. }) if c.starts_with(&format!("{n}: ")) => c[n.len() + 2..].to_string(),
                _ => return fail(at.0, at.1, format!("parameter {n:?} needs its type under the def line: \"# {n}: float32[128, 512]\"")),
            };
            let line = self.rows[self.at].line;
            let Some((dtype, shape)) = param_type(&text) else {
                return fail(line, 1, format!("{text:?} is not a type like float32[128, 512]"));
            };
            self.at += 1;
            self.scopes[0].0.insert(n.clone(), Known { shape: shape.clone() });
            params.push(Param { name: n, dtype, shape });
        }
        let indent = match self.row() {
            Some(r) if r.indent > 0 => r.indent,
            _ => return self.err("the kernel has no body"),
        };
        let body = self.block(indent)?;
        self.words(&["return"])?;
        let parens = self.eat('(');
        let mut returns = vec![];
        while let Tok::Word(w) = self.peek() {
            if self.known(&w).is_none() {
                return self.err(format!("{w:?} is not a tensor here"));
            }
            self.pos += 1;
            returns.push(w);
            if !self.eat(',') {
                break;
            }
        }
        if parens {
            self.want(')')?;
        }
        self.end_row()?;
        while self.row().is_some_and(|r| r.comment.is_some()) {
            self.at += 1;
        }
        if self.row().is_some() {
            return self.err("one kernel per text, and nothing after its return");
        }
        Ok(Program { name, origin, params, body, returns })
    }

    fn block(&mut self, indent: usize) -> Result<Vec<Stmt>> {
        let mut out = vec![];
        while let Some(r) = self.row() {
            let (row_indent, line) = (r.indent, r.line);
            if let Some(c) = r.comment.clone() {
                if row_indent < indent {
                    break;
                }
                out.push(Stmt::Comment(escape::Line::of(&c)));
                self.at += 1;
                continue;
            }
            if row_indent < indent {
                break;
            }
            if row_indent > indent {
                return self.err("unexpected indent");
            }
            let Tok::Word(first) = self.peek() else { return self.err(format!("a statement cannot start with {}", self.peek())) };
            match first.as_str() {
                "return" => break,
                "pass" => {
                    self.pos += 1;
                    self.end_row()?;
                }
                "for" => out.push(self.for_loop(indent)?),
                "nisa" => out.push(Stmt::Instr(self.call(line)?)),
                _ => out.push(self.alloc(line)?),
            }
        }
        Ok(out)
    }

    fn for_loop(&mut self, indent: usize) -> Result<Stmt> {
        self.words(&["for"])?;
        let var = self.word()?;
        self.words(&["in", "range"])?;
        self.want('(')?;
        let count = self.usize()?;
        if self.is(',') {
            return self.err("only range(N) is supported: scale and shift the variable instead");
        }
        self.want(')')?;
        self.want(':')?;
        self.end_row()?;
        let inner = match self.row() {
            Some(r) if r.indent > indent => r.indent,
            _ => return self.err("the loop has no body"),
        };
        self.scopes.push((HashMap::new(), Some(var.clone())));
        let body = self.block(inner)?;
        self.scopes.pop();
        Ok(Stmt::For { var, count, body })
    }

    fn alloc(&mut self, line: u32) -> Result<Stmt> {
        let name = self.word()?;
        if !self.is('=') {
            self.pos -= 1;
            return self.err(format!("{name:?} starts no supported statement: nl.ndarray, for … in range(N), nisa.CALL(…), return"));
        }
        self.want('=')?;
        let made = self.member(&["nl"])?;
        if made != "ndarray" {
            return self.err(format!("nl.{made} is not supported; tensors are made by nl.ndarray and filled by nisa.memset"));
        }
        self.want('(')?;
        let shape: Vec<usize> = self.ints()?.into_iter().map(|n| n.max(0) as usize).collect();
        let (mut dtype, mut mem) = (None, None);
        while self.eat(',') && !self.is(')') {
            let key = self.word()?;
            self.want('=')?;
            let value = self.member(&["nl"])?;
            match key.as_str() {
                "dtype" => {
                    dtype = dtype_from_nki(&value);
                    if dtype.is_none() {
                        return self.err(format!("nl.{value} is not a type of trn2"));
                    }
                }
                "buffer" => {
                    mem = Mem::from_name(&value);
                    if mem.is_none() {
                        return self.err(format!("nl.{value} is not a buffer: sbuf, psum, shared_hbm, private_hbm"));
                    }
                }
                _ => return self.err(format!("nl.ndarray has no supported keyword {key:?} (dtype, buffer)")),
            }
        }
        self.want(')')?;
        let (Some(dtype), Some(mem)) = (dtype, mem) else { return self.err("nl.ndarray needs dtype= and buffer=") };
        self.end_row()?;
        if let Some(s) = self.scopes.last_mut() {
            s.0.insert(name.clone(), Known { shape: shape.clone() });
        }
        Ok(Stmt::Alloc { name, dtype, shape, mem, line: Line(line) })
    }

    fn call(&mut self, line: u32) -> Result<Instr> {
        let name = self.member(&["nisa"])?;
        let Some(def) = instr(&name) else {
            let known: Vec<_> = INSTRS.iter().map(|i| i.name).collect();
            self.pos -= 1;
            return self.err(format!("nisa.{name} is not supported; supported are {}", known.join(", ")));
        };
        self.want('(')?;
        let mut args = vec![None; def.operands.len()];
        let mut given = vec![false; def.operands.len()];
        while !self.is(')') {
            if self.peek_at(1) != Tok::Sign('=') {
                return self.err(format!("arguments of nisa.{name} must be given by keyword"));
            }
            let key = self.word()?;
            let Some(i) = def.operand(&key) else {
                let known: Vec<_> = def.operands.iter().map(|o| o.name).collect();
                self.pos -= 1;
                return self.err(format!("nisa.{name} has no keyword {key:?}; it has {}", known.join(", ")));
            };
            if given[i] {
                return self.err(format!("{key} is given twice"));
            }
            given[i] = true;
            self.want('=')?;
            args[i] = self.value(&def.operands[i].role)?;
            if !self.eat(',') {
                break;
            }
        }
        self.want(')')?;
        for (i, o) in def.operands.iter().enumerate() {
            if o.default.is_none() && args[i].is_none() {
                return self.err(format!("nisa.{name} needs {}=", o.name));
            }
        }
        self.end_row()?;
        Ok(Instr { def, args, line: Line(line) })
    }

    /// `None` for Python's `None`.
    fn value(&mut self, role: &Role) -> Result<Option<Value>> {
        if self.peek() == Tok::Word("None".into()) {
            self.pos += 1;
            return Ok(None);
        }
        let boolean = |t: &Tok| match t {
            Tok::Word(w) if w == "True" => Some(true),
            Tok::Word(w) if w == "False" => Some(false),
            _ => None,
        };
        Ok(Some(match role {
            Role::Dst(_) | Role::InOut(_) | Role::Src(_) => Value::Tile(self.access()?),
            Role::Scalar | Role::Bias | Role::SrcOrNumber(_) => match self.peek() {
                Tok::Word(w) if w != "float" => Value::Tile(self.access()?),
                _ => Value::Float(self.real()?),
            },
            Role::Float => Value::Float(self.real()?),
            Role::Alu => {
                let n = self.member(&["nl"])?;
                if alu_op(&n).is_none() {
                    return self.err(format!("nl.{n} is not an ALU operator of trn2"));
                }
                Value::Name(n)
            }
            Role::Act => {
                let n = self.member(&["nl"])?;
                if activation(&n).is_none() {
                    return self.err(format!("nl.{n} is not an activation function of trn2"));
                }
                Value::Name(n)
            }
            Role::Enum(e, members) => {
                let n = self.member(&["nisa", e])?;
                if !members.contains(&n.as_str()) {
                    return self.err(format!("nisa.{e} has no member {n:?}; it has {}", members.join(", ")));
                }
                Value::Name(n)
            }
            Role::Int => Value::Int(self.affine()?),
            Role::Bool => match boolean(&self.peek()) {
                Some(b) => {
                    self.pos += 1;
                    Value::Bool(b)
                }
                None => return self.err(format!("expected True or False, found {}", self.peek())),
            },
            Role::Accumulate => match boolean(&self.peek()) {
                Some(b) => {
                    self.pos += 1;
                    Value::Bool(b)
                }
                None => {
                    let a = self.affine()?;
                    self.want('>')?;
                    if self.next() != Tok::Int(0) {
                        return self.err("accumulate takes True, False, None or EXPR > 0");
                    }
                    Value::Positive(a)
                }
            },
            Role::Pattern => Value::Pattern(self.pattern()?),
            Role::Ints => Value::Ints(self.ints()?),
            Role::Str => match self.next() {
                Tok::Text(t) => Value::Text(t),
                t => return self.err(format!("expected a quoted name, found {t}")),
            },
        }))
    }

    fn real(&mut self) -> Result<f64> {
        if self.peek() == Tok::Word("float".into()) {
            self.pos += 1;
            self.want('(')?;
            let t = self.next();
            self.want(')')?;
            return match t {
                Tok::Text(t) if t == "inf" => Ok(f64::INFINITY),
                Tok::Text(t) if t == "-inf" => Ok(f64::NEG_INFINITY),
                Tok::Text(t) if t == "nan" => Ok(f64::NAN),
                _ => self.err("float() takes 'inf', '-inf' or 'nan'"),
            };
        }
        let sign = if self.eat('-') { -1.0 } else { 1.0 };
        match self.next() {
            Tok::Int(n) => Ok(sign * n as f64),
            Tok::Real(x) => Ok(sign * x),
            t => {
                self.pos -= 1;
                self.err(format!("expected a number, found {t}"))
            }
        }
    }

    /// Sums and products of integers and loop variables.
    fn affine(&mut self) -> Result<Affine> {
        let mut sum = self.product()?;
        loop {
            if self.eat('+') {
                sum = sum + self.product()?;
            } else if self.eat('-') {
                sum = sum.add_scaled(&self.product()?, -1);
            } else {
                return Ok(sum);
            }
        }
    }
    fn product(&mut self) -> Result<Affine> {
        let mut p = self.factor()?;
        while self.eat('*') {
            let q = self.factor()?;
            p = match (p.is_constant(), q.is_constant()) {
                (_, true) => p * q.constant,
                (true, false) => q * p.constant,
                _ => return self.err("a product of two loop variables is not affine"),
            };
        }
        Ok(p)
    }
    fn factor(&mut self) -> Result<Affine> {
        if self.eat('-') {
            return Ok(self.factor()? * -1);
        }
        if self.eat('(') {
            let a = self.affine()?;
            self.want(')')?;
            return Ok(a);
        }
        match self.peek() {
            Tok::Int(n) => {
                self.pos += 1;
                Ok(n.into())
            }
            Tok::Word(w) if self.scopes.iter().any(|s| s.1.as_deref() == Some(&w)) => {
                self.pos += 1;
                Ok(Affine::var(&w))
            }
            t => self.err(format!("expected an integer or an open loop's variable, found {t}")),
        }
    }

    /// `(1, 2)`, `[1, 2]`, `(1,)` or `1`.
    fn ints(&mut self) -> Result<Vec<i64>> {
        let close = if self.eat('(') {
            ')'
        } else if self.eat('[') {
            ']'
        } else {
            return Ok(vec![self.int()?]);
        };
        let mut out = vec![];
        while !self.is(close) {
            out.push(self.int()?);
            if !self.eat(',') {
                break;
            }
        }
        self.want(close)?;
        Ok(out)
    }

    fn pattern(&mut self) -> Result<Vec<[i64; 2]>> {
        self.want('[')?;
        let mut out = vec![];
        while !self.is(']') {
            match self.ints()?[..] {
                [step, count] if count > 0 => out.push([step, count]),
                _ => return self.err("a pattern's entries are [step, count] with a positive count"),
            }
            if !self.eat(',') {
                break;
            }
        }
        self.want(']')?;
        Ok(out)
    }

    fn access(&mut self) -> Result<Access> {
        let base = self.word()?;
        let Some(known) = self.known(&base).cloned() else {
            self.pos -= 1;
            return self.err(format!("{base:?} is not a tensor here"));
        };
        if self.eat('[') {
            let mut subs = vec![];
            while !self.is(']') {
                subs.push(self.subscript(known.shape.get(subs.len()).copied())?);
                if !self.eat(',') {
                    break;
                }
            }
            self.want(']')?;
            if subs.len() > known.shape.len() {
                return self.err(format!("{} subscripts for {base}, which has {} dimensions", subs.len(), known.shape.len()));
            }
            subs.extend(known.shape[subs.len()..].iter().map(|&n| Sub::range(0usize, n)));
            return Ok(Access { base, view: View::Slices(subs) });
        }
        if !self.eat('.') {
            return Ok(Access { base, view: View::Whole });
        }
        let method = self.word()?;
        if method != "ap" {
            return self.err(format!("views are slices and .ap(pattern=, offset=); .{method} is not supported"));
        }
        self.want('(')?;
        let (mut pattern, mut offset, mut index, mut dim) = (None, Affine::default(), None, 0);
        while !self.is(')') {
            let key = self.word()?;
            self.want('=')?;
            match key.as_str() {
                "pattern" => pattern = Some(self.pattern()?),
                "offset" => offset = self.affine()?,
                "vector_offset" => index = Some(Box::new(self.access()?)),
                "indirect_dim" => dim = self.int()?,
                _ => return self.err(format!(".ap has no supported keyword {key:?} (pattern, offset, vector_offset, indirect_dim)")),
            }
            if !self.eat(',') {
                break;
            }
        }
        self.want(')')?;
        if dim != 0 {
            return self.err("only indirect_dim=0 is supported");
        }
        match pattern {
            Some(pattern) if !pattern.is_empty() => Ok(Access { base, view: View::Pattern { pattern, offset, index } }),
            _ => self.err(".ap needs pattern=[[step, count], …]"),
        }
    }

    fn subscript(&mut self, extent: Option<usize>) -> Result<Sub> {
        if self.peek() == Tok::Word("nl".into()) {
            let f = self.member(&["nl"])?;
            if f != "ds" {
                return self.err(format!("nl.{f} is no subscript; nl.ds(start, size) is"));
            }
            self.want('(')?;
            let start = self.affine()?;
            self.want(',')?;
            let len = self.usize()?;
            self.want(')')?;
            return Ok(Sub::Range { start, len, step: 1 });
        }
        let start = if self.is(':') { Affine::default() } else { self.affine()? };
        if !self.eat(':') {
            return Ok(Sub::At(start));
        }
        let end = match (self.is(',') || self.is(']') || self.is(':'), extent) {
            (true, Some(n)) => n.into(),
            _ => self.affine()?,
        };
        let step = if self.eat(':') { self.usize()? } else { 1 };
        let span = end.add_scaled(&start, -1);
        if !span.is_constant() || span.constant <= 0 || step == 0 {
            return self.err("a slice needs a constant, positive length");
        }
        Ok(Sub::Range { start, len: (span.constant as usize).div_ceil(step), step })
    }
}

fn param_type(text: &str) -> Option<(tahoma_core::DType, Vec<usize>)> {
    let (dtype, rest) = text.trim().split_once('[')?;
    let inner = rest.strip_suffix(']')?.trim();
    let shape = if inner.is_empty() { Some(vec![]) } else { inner.split(',').map(|n| n.trim().parse().ok()).collect() };
    Some((dtype_from_nki(dtype)?, shape?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(body: &str) -> String {
        let body: String = body.lines().map(|l| format!("    {l}\n")).collect();
        format!(
            "# NKI 0.6\nimport nki\nimport nki.isa as nisa\nimport nki.language as nl\n\n@nki.jit\ndef k(x):\n    # x: float32[128, 512]\n    out = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.shared_hbm)\n{body}    return out\n"
        )
    }
    fn error(body: &str) -> String {
        parse(&kernel(body)).unwrap_err().to_string()
    }

    #[test]
    fn errors_name_line_column_and_what_is_supported() {
        assert_eq!(
            error("t = nl.zeros((1, 2), dtype=nl.float32)"),
            "line 10, column 17: nl.zeros is not supported; tensors are made by nl.ndarray and filled by nisa.memset"
        );
        assert!(
            error("nisa.frobnicate(dst=x)").starts_with("line 10, column 10: nisa.frobnicate is not supported; supported are nc_matmul")
        );
        assert!(error("nisa.dma_copy(out, x)").contains("by keyword"));
        assert!(error("nisa.dma_copy(dst=out)").contains("needs src="));
        assert!(error("nisa.dma_copy(dst=out, src=y)").contains("\"y\" is not a tensor here"));
        assert!(error("nisa.dma_copy(dst=out, src=x, speed=1)").contains("has no keyword \"speed\""));
        assert!(error("for i in range(2):\n    nisa.dma_copy(dst=out[i*i:3, :], src=x)").contains("not affine"));
        assert!(error("for i in range(0, 2):\n    pass").contains("only range(N)"));
        assert!(error("nisa.memset(dst=out, value=nl.pi)").contains("expected a number"));
        assert!(error("out.foo()").contains("starts no supported statement"));
        assert!(parse("import nki\n").unwrap_err().message.contains("NKI 0.6"));
        assert!(parse(&kernel("").replace("# x: float32[128, 512]", "#")).unwrap_err().message.contains("needs its type"));
    }

    #[test]
    fn hand_written_forms_read_as_the_printed_ones() {
        let a = parse(&kernel(
            "for i in range(4):\n    nisa.dma_copy(dst=out[:, nl.ds(i * 128, 128)], src=x[0:128, i*128:(i+1)*128])  # a copy",
        ))
        .unwrap();
        let b = parse(&kernel("for i in range(4):\n    nisa.dma_copy(\n        dst=out[0:128, 128*i:128*i + 128],\n        src=x[0:128, 128*i:128*i + 128],\n    )")).unwrap();
        assert_eq!(a, b);
    }

    #[test]
    fn damaged_text_is_an_error_and_never_a_panic() {
        let text = kernel(
            "for i in range(4):\n    nisa.activation(dst=out[:, nl.ds(i * 128, 128)], op=nl.exp, data=x.ap(pattern=[[512, 128], [1, 128]], offset=3), scale=-1e-3, name='é')",
        );
        for cut in (0..text.len()).filter(|&i| text.is_char_boundary(i)) {
            let _ = parse(&text[..cut]);
            let mut t = text.clone();
            t.truncate(cut);
            t.push_str("([");
            let _ = parse(&t);
        }
        for (from, to) in [("128", "99999999999999999999"), ("nl.", ""), (":", "::"), ("(", "[")] {
            let _ = parse(&text.replace(from, to));
        }
    }
}
