//! PTX text to statements: the lexer and the module's declarations. Instructions stay symbolic here;
//! `decode` gives them meaning.
//!
//! Comments go, debug directives are skipped, and every token keeps its line so that an error or a
//! fault can show the text it speaks of.

/// Why a module could not be read, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}\n  --> {file}:{line}\n   | {text}")]
pub struct PtxError {
    /// File name given to [`super::Module::parse`].
    pub file: String,
    /// 1-based line.
    pub line: u32,
    /// That line's text, trimmed.
    pub text: String,
    /// What is wrong and, where known, what would do.
    pub message: String,
}

/// A message with its line, before the file and the text are known.
pub(super) struct At(pub u32, pub String);

pub(super) type Res<T> = Result<T, At>;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Tok<'a> {
    Word(&'a str),
    Str(&'a str),
    Punct(char),
}

fn lex(text: &str) -> Res<Vec<(Tok<'_>, u32)>> {
    let b = text.as_bytes();
    let mut out = Vec::with_capacity(text.len() / 4);
    let (mut i, mut line) = (0, 1u32);
    let word = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'$' | b'%');
    while i < b.len() {
        let c = b[i];
        if c == b'\n' {
            line += 1;
            i += 1;
        } else if c.is_ascii_whitespace() {
            i += 1;
        } else if c == b'/' && b.get(i + 1) == Some(&b'/') {
            while i < b.len() && b[i] != b'\n' {
                i += 1;
            }
        } else if c == b'/' && b.get(i + 1) == Some(&b'*') {
            i += 2;
            while i + 1 < b.len() && !(b[i] == b'*' && b[i + 1] == b'/') {
                line += u32::from(b[i] == b'\n');
                i += 1;
            }
            i += 2;
        } else if c == b'"' {
            let start = i + 1;
            i += 1;
            while i < b.len() && b[i] != b'"' && b[i] != b'\n' {
                i += 1;
            }
            if b.get(i) != Some(&b'"') {
                return Err(At(line, "string is not closed".into()));
            }
            out.push((Tok::Str(&text[start..i]), line));
            i += 1;
        } else if word(c) {
            let start = i;
            while i < b.len() {
                if word(b[i]) {
                    i += 1;
                } else if b[i] == b':' && b.get(i + 1) == Some(&b':') {
                    i += 2;
                } else {
                    break;
                }
            }
            out.push((Tok::Word(&text[start..i]), line));
        } else if c.is_ascii() {
            out.push((Tok::Punct(c as char), line));
            i += 1;
        } else {
            return Err(At(line, "PTX is ASCII; this line has another character".into()));
        }
    }
    Ok(out)
}

/// An instruction's operand as written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Arg {
    Reg(String),
    /// Integer, two's complement in 64 bits.
    Int(u64),
    F32(u32),
    F64(u64),
    /// Symbol or label, plus a byte offset.
    Sym(String, i64),
    /// `[base + off]`.
    Mem(Box<Arg>, i64),
    Vec(Vec<Arg>),
    /// `a|b`.
    Pair(Box<Arg>, Box<Arg>),
    Not(Box<Arg>),
    Sink,
}

#[derive(Clone, Debug)]
pub(super) struct Stmt {
    pub line: u32,
    pub guard: Option<(bool, String)>,
    pub mnemonic: String,
    pub args: Vec<Arg>,
}

#[derive(Clone, Debug)]
pub(super) struct Var {
    pub line: u32,
    pub name: String,
    pub align: u64,
    pub bytes: u64,
    /// Initial bytes; shorter than `bytes` means zeros follow.
    pub init: Vec<u8>,
    /// `.extern .shared x[]`: as long as the launch says.
    pub dynamic: bool,
}

#[derive(Clone, Debug)]
pub(super) struct RegDecl {
    pub line: u32,
    pub ty: String,
    pub name: String,
    /// `%r<10>` declares `%r0` to `%r9`.
    pub count: Option<u32>,
}

#[derive(Clone, Debug)]
pub(super) struct ParamDecl {
    pub name: String,
    pub ty: String,
    pub bytes: u64,
    pub align: u64,
    pub pointer: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Func {
    pub name: String,
    pub line: u32,
    pub params: Vec<ParamDecl>,
    pub reqntid: Option<[u32; 3]>,
    pub maxntid: Option<[u32; 3]>,
    pub regs: Vec<RegDecl>,
    pub locals: Vec<Var>,
    pub shared: Vec<Var>,
    pub stmts: Vec<Stmt>,
    /// Label and the index of the statement after it.
    pub labels: Vec<(String, usize)>,
    /// `.branchtargets` lists.
    pub tables: Vec<(String, Vec<String>)>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Source {
    pub version: String,
    pub target: String,
    pub globals: Vec<Var>,
    pub shared: Vec<Var>,
    pub kernels: Vec<Func>,
    /// Declared or defined device functions, which the emulator does not call.
    pub functions: Vec<String>,
}

pub(super) fn type_bytes(ty: &str) -> Option<u64> {
    Some(match ty.trim_start_matches('.') {
        "b8" | "u8" | "s8" => 1,
        "b16" | "u16" | "s16" | "f16" | "bf16" => 2,
        "b32" | "u32" | "s32" | "f32" | "f16x2" | "bf16x2" => 4,
        "b64" | "u64" | "s64" | "f64" => 8,
        "b128" => 16,
        _ => return None,
    })
}

struct Parser<'a> {
    toks: Vec<(Tok<'a>, u32)>,
    pos: usize,
}

pub(super) fn parse(text: &str) -> Res<Source> {
    let mut p = Parser { toks: lex(text)?, pos: 0 };
    let mut src = Source::default();
    while p.pos < p.toks.len() {
        p.top(&mut src)?;
    }
    if src.version.is_empty() {
        return Err(At(1, "not PTX: there is no .version directive".into()));
    }
    Ok(src)
}

/// Name and parameters of every kernel, without reading the bodies.
pub(super) fn signatures(text: &str) -> Res<Vec<(String, Vec<ParamDecl>)>> {
    let mut p = Parser { toks: lex(text)?, pos: 0 };
    let mut out = Vec::new();
    while p.pos < p.toks.len() {
        if !p.eat_word(".entry") {
            p.pos += 1;
            continue;
        }
        let name = p.word("a kernel name")?.to_owned();
        let mut params = Vec::new();
        if p.eat('(') {
            while !p.eat(')') {
                params.push(p.param()?);
                p.eat(',');
            }
        }
        out.push((name, params));
    }
    Ok(out)
}

impl<'a> Parser<'a> {
    fn line(&self) -> u32 {
        let last = self.toks.len().saturating_sub(1);
        self.toks.get(self.pos.min(last)).map_or(1, |t| t.1)
    }
    fn peek(&self) -> Option<Tok<'a>> {
        self.toks.get(self.pos).map(|t| t.0)
    }
    fn fail<T>(&self, message: impl Into<String>) -> Res<T> {
        Err(At(self.line(), message.into()))
    }
    fn is(&self, c: char) -> bool {
        self.peek() == Some(Tok::Punct(c))
    }
    fn eat(&mut self, c: char) -> bool {
        let hit = self.is(c);
        self.pos += usize::from(hit);
        hit
    }
    fn eat_word(&mut self, w: &str) -> bool {
        let hit = self.peek() == Some(Tok::Word(w));
        self.pos += usize::from(hit);
        hit
    }
    fn expect(&mut self, c: char) -> Res<()> {
        if self.eat(c) { Ok(()) } else { self.fail(format!("expected '{c}' here")) }
    }
    fn word(&mut self, what: &str) -> Res<&'a str> {
        match self.peek() {
            Some(Tok::Word(w)) => {
                self.pos += 1;
                Ok(w)
            }
            _ => self.fail(format!("expected {what} here")),
        }
    }
    fn skip_line(&mut self) {
        let line = self.line();
        while self.pos < self.toks.len() && self.line() == line {
            self.pos += 1;
        }
    }
    fn skip_braces(&mut self) -> Res<()> {
        let mut depth = 0;
        while let Some(t) = self.peek() {
            self.pos += 1;
            match t {
                Tok::Punct('{') => depth += 1,
                Tok::Punct('}') => {
                    depth -= 1;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                _ => {}
            }
        }
        self.fail("'{' is not closed")
    }
    fn integer(&mut self) -> Res<u64> {
        let neg = self.eat('-');
        let w = self.word("a number")?;
        match number(w) {
            Some(Arg::Int(v)) => Ok(if neg { v.wrapping_neg() } else { v }),
            _ => self.fail(format!("'{w}' is not an integer")),
        }
    }

    fn top(&mut self, src: &mut Source) -> Res<()> {
        let line = self.line();
        let Some(tok) = self.peek() else {
            return Ok(());
        };
        if tok == Tok::Punct(';') {
            self.pos += 1;
            return Ok(());
        }
        let w = self.word("a directive")?;
        match w {
            ".version" => src.version = self.word("a version")?.to_owned(),
            ".target" => {
                src.target = self.word("a target")?.to_owned();
                while self.eat(',') {
                    self.word("a target option")?;
                }
            }
            ".address_size" => {
                if self.word("an address size")? != "64" {
                    return Err(At(line, "only .address_size 64 is supported".into()));
                }
            }
            ".file" | ".loc" => {
                self.pos -= 1;
                self.skip_line();
            }
            ".section" => {
                self.word("a section name")?;
                self.skip_braces()?;
            }
            ".pragma" => {
                while !self.eat(';') && self.pos < self.toks.len() {
                    self.pos += 1;
                }
            }
            ".visible" | ".weak" | ".common" => {}
            ".extern" => match self.peek() {
                Some(Tok::Word(".func")) => {}
                Some(Tok::Word(".shared")) => {
                    self.pos += 1;
                    let mut var = self.variable()?;
                    var.dynamic = true;
                    src.shared.push(var);
                }
                _ => return Err(At(line, "only .extern .shared and .extern .func are supported".into())),
            },
            ".func" => self.function(src)?,
            ".entry" => {
                let k = self.kernel(line)?;
                src.kernels.push(k);
            }
            ".global" | ".const" => {
                let v = self.variable()?;
                src.globals.push(v);
            }
            ".shared" => {
                let v = self.variable()?;
                src.shared.push(v);
            }
            _ => return Err(At(line, format!("unsupported directive '{w}'"))),
        }
        Ok(())
    }

    /// `.func (ret) name (params) …`: recorded by name and skipped.
    fn function(&mut self, src: &mut Source) -> Res<()> {
        if self.eat('(') {
            while !self.eat(')') {
                if self.peek().is_none() {
                    return self.fail("'(' is not closed");
                }
                self.pos += 1;
            }
        }
        src.functions.push(self.word("a function name")?.to_owned());
        loop {
            match self.peek() {
                Some(Tok::Punct(';')) => {
                    self.pos += 1;
                    return Ok(());
                }
                Some(Tok::Punct('{')) => return self.skip_braces(),
                None => return self.fail("function without a body"),
                _ => self.pos += 1,
            }
        }
    }

    /// `.align 16 .b8 name[N] = {…};` after the state space.
    fn variable(&mut self) -> Res<Var> {
        let line = self.line();
        let (mut align, mut elem) = (0, 0u64);
        let mut ty = "";
        let name = loop {
            let w = self.word("a variable")?;
            if w == ".align" {
                align = self.integer()?;
            } else if let Some(b) = type_bytes(w).filter(|_| w.starts_with('.')) {
                elem = b;
                ty = w;
            } else if w.starts_with('.') {
                // .attribute(...), .ptr and the like change nothing here.
                if self.eat('(') {
                    while !self.eat(')') && self.peek().is_some() {
                        self.pos += 1;
                    }
                }
            } else {
                break w.to_owned();
            }
        };
        if elem == 0 {
            return Err(At(line, format!("variable '{name}' has no type this emulator knows")));
        }
        let (mut count, mut dynamic) = (1u64, false);
        while self.eat('[') {
            if self.eat(']') {
                dynamic = true;
            } else {
                let n = self.integer()?;
                self.expect(']')?;
                count = match count.checked_mul(n) {
                    Some(c) => c,
                    None => return Err(At(line, format!("variable '{name}' is too large"))),
                };
            }
        }
        let mut init = Vec::new();
        if self.eat('=') {
            self.initialiser(ty, &mut init)?;
        }
        self.expect(';')?;
        let bytes = match count.checked_mul(elem).filter(|b| *b < 1 << 40) {
            Some(b) => b,
            None => return Err(At(line, format!("variable '{name}' is too large"))),
        };
        if dynamic && !init.is_empty() {
            let n = init.len() as u64;
            return Ok(Var { line, name, align: align.max(elem), bytes: n, init, dynamic: false });
        }
        if init.len() as u64 > bytes {
            return Err(At(line, format!("'{name}' has more initialisers than elements")));
        }
        Ok(Var { line, name, align: align.max(elem).max(1), bytes: if dynamic { 0 } else { bytes }, init, dynamic })
    }

    fn initialiser(&mut self, ty: &str, out: &mut Vec<u8>) -> Res<()> {
        if self.eat('{') {
            while !self.eat('}') {
                self.initialiser(ty, out)?;
                self.eat(',');
            }
            return Ok(());
        }
        let neg = self.eat('-');
        let w = self.word("an initial value")?;
        let bytes = type_bytes(ty).unwrap_or(1) as usize;
        let raw = match number(w) {
            Some(Arg::Int(v)) if neg => v.wrapping_neg(),
            Some(Arg::Int(v)) => v,
            Some(Arg::F32(v)) => u64::from(v),
            Some(Arg::F64(v)) => v,
            _ => return self.fail(format!("unsupported initial value '{w}': only numbers are")),
        };
        out.extend_from_slice(&raw.to_le_bytes()[..bytes.min(8)]);
        Ok(())
    }

    fn kernel(&mut self, line: u32) -> Res<Func> {
        let mut f = Func { name: self.word("a kernel name")?.to_owned(), line, ..Func::default() };
        if self.eat('(') {
            while !self.eat(')') {
                f.params.push(self.param()?);
                self.eat(',');
            }
        }
        loop {
            match self.peek() {
                Some(Tok::Punct('{')) => break,
                Some(Tok::Punct(';')) => return self.fail("kernel without a body"),
                Some(Tok::Word(w)) => {
                    self.pos += 1;
                    let mut dims = Vec::new();
                    while let Some(Tok::Word(n)) = self.peek() {
                        if !n.starts_with(|c: char| c.is_ascii_digit()) {
                            break;
                        }
                        dims.push(self.integer()? as u32);
                        if !self.eat(',') {
                            break;
                        }
                    }
                    dims.resize(3, 1);
                    let dims = [dims[0], dims[1], dims[2]];
                    match w {
                        ".reqntid" => f.reqntid = Some(dims),
                        ".maxntid" => f.maxntid = Some(dims),
                        ".minnctapersm" | ".maxnreg" | ".maxclusterrank" | ".noreturn" | ".reqnctapercluster" | ".explicitcluster"
                        | ".blocksareclusters" => {}
                        ".pragma" => {
                            while !self.eat(';') && self.peek().is_some() {
                                self.pos += 1;
                            }
                        }
                        _ => return self.fail(format!("unsupported kernel directive '{w}'")),
                    }
                }
                _ => return self.fail("expected a kernel body here"),
            }
        }
        self.expect('{')?;
        self.body(&mut f)?;
        Ok(f)
    }

    fn param(&mut self) -> Res<ParamDecl> {
        let (mut align, mut ty, mut pointer) = (0, "", false);
        if !self.eat_word(".param") {
            return self.fail("expected .param here");
        }
        let name = loop {
            let w = self.word("a parameter")?;
            match w {
                ".align" => {
                    let a = self.integer()?;
                    // `.ptr .align n` speaks of the pointee.
                    if !pointer {
                        align = a;
                    }
                }
                ".ptr" => pointer = true,
                ".global" | ".shared" | ".const" | ".local" | ".generic" => {}
                _ if w.starts_with('.') && type_bytes(w).is_some() => ty = w,
                _ if w.starts_with('.') => {
                    return self.fail(format!("unsupported parameter attribute '{w}'"));
                }
                _ => break w.to_owned(),
            }
        };
        let Some(elem) = type_bytes(ty) else {
            return self.fail(format!("parameter '{name}' has no type"));
        };
        let mut bytes = elem;
        if self.eat('[') {
            bytes = elem.saturating_mul(self.integer()?);
            self.expect(']')?;
        }
        if bytes > 32764 {
            return self.fail("kernel parameters are limited to 32764 bytes");
        }
        Ok(ParamDecl { name, ty: ty.trim_start_matches('.').to_owned(), bytes, align: align.max(elem).max(1), pointer })
    }

    /// Statements up to the closing brace; nested scopes are flattened.
    fn body(&mut self, f: &mut Func) -> Res<()> {
        let mut depth = 1;
        loop {
            let line = self.line();
            match self.peek() {
                None => return self.fail("kernel body is not closed"),
                Some(Tok::Punct('{')) => {
                    self.pos += 1;
                    depth += 1;
                }
                Some(Tok::Punct('}')) => {
                    self.pos += 1;
                    depth -= 1;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                Some(Tok::Punct(';')) => self.pos += 1,
                Some(Tok::Punct('@')) => {
                    self.pos += 1;
                    let neg = self.eat('!');
                    let p = self.word("a predicate")?.to_owned();
                    let m = self.word("an instruction")?;
                    self.statement(f, line, m, Some((neg, p)))?;
                }
                Some(Tok::Word(w)) => {
                    self.pos += 1;
                    if self.eat(':') {
                        if self.eat_word(".branchtargets") {
                            let mut targets = Vec::new();
                            while !self.eat(';') {
                                targets.push(self.word("a label")?.to_owned());
                                self.eat(',');
                            }
                            f.tables.push((w.to_owned(), targets));
                        } else {
                            f.labels.push((w.to_owned(), f.stmts.len()));
                        }
                        continue;
                    }
                    match w {
                        ".reg" => self.registers(f)?,
                        ".local" => {
                            let v = self.variable()?;
                            f.locals.push(v);
                        }
                        ".shared" => {
                            let v = self.variable()?;
                            f.shared.push(v);
                        }
                        ".loc" | ".file" => {
                            self.pos -= 1;
                            self.skip_line();
                        }
                        ".pragma" | ".param" => {
                            while !self.eat(';') {
                                if self.peek().is_none() {
                                    return self.fail("directive is not closed");
                                }
                                self.pos += 1;
                            }
                        }
                        _ if w.starts_with('.') => {
                            return Err(At(line, format!("unsupported directive '{w}' in a kernel")));
                        }
                        _ => self.statement(f, line, w, None)?,
                    }
                }
                Some(_) => return self.fail("expected an instruction here"),
            }
        }
    }

    fn registers(&mut self, f: &mut Func) -> Res<()> {
        let line = self.line();
        let ty = self.word("a register type")?.trim_start_matches('.').to_owned();
        loop {
            let name = self.word("a register name")?.to_owned();
            let count = if self.eat('<') {
                let n = self.integer()?;
                self.expect('>')?;
                if n > 1 << 22 {
                    return Err(At(line, "too many registers".into()));
                }
                Some(n as u32)
            } else {
                None
            };
            f.regs.push(RegDecl { line, ty: ty.clone(), name, count });
            if !self.eat(',') {
                return self.expect(';');
            }
        }
    }

    fn statement(&mut self, f: &mut Func, line: u32, mnemonic: &str, guard: Option<(bool, String)>) -> Res<()> {
        let mut args = Vec::new();
        let base = mnemonic.split('.').next().unwrap_or("");
        if base == "call" {
            return Err(At(line, self.call_error()));
        }
        // Before the operands, whose forms may be as unknown as the instruction.
        if tahoma_machine::ptx::find(base).is_none() {
            let why = match base {
                "wgmma" | "tcgen05" => ": warpgroup and fifth-generation matrix instructions are not executed; use mma.sync",
                "mbarrier" => ": asynchronous barriers are not executed; use bar.sync with cp.async.wait_group",
                _ => ": not in the instruction table (tahoma_machine::ptx)",
            };
            return Err(At(line, format!("unsupported instruction '{mnemonic}'{why}")));
        }
        while !self.eat(';') {
            let arg = self.arg();
            args.push(declared(f, arg.map_err(|e| At(e.0, format!("'{mnemonic}': {}", e.1)))?));
            if !self.eat(',') && !self.is(';') {
                return self.fail(format!("'{mnemonic}': expected ',' or ';' after an operand"));
            }
        }
        f.stmts.push(Stmt { line, guard, mnemonic: mnemonic.to_owned(), args });
        Ok(())
    }

    fn call_error(&mut self) -> String {
        let mut callee = "a function";
        let mut depth = 0;
        while let Some(t) = self.peek() {
            match t {
                Tok::Punct('(') => depth += 1,
                Tok::Punct(')') => depth -= 1,
                Tok::Punct(';') => break,
                Tok::Word(w) if depth == 0 => {
                    callee = w;
                    break;
                }
                _ => {}
            }
            self.pos += 1;
        }
        let hint = if callee.starts_with("__nv_") {
            ": a libdevice function that was not linked in; lower the math op to PTX instructions \
             (ex2.approx, lg2.approx, fma) instead"
        } else {
            ": device functions must be inlined"
        };
        format!("unsupported instruction call to '{callee}'{hint}")
    }

    fn arg(&mut self) -> Res<Arg> {
        let first = self.simple()?;
        if self.eat('|') {
            let second = self.simple()?;
            return Ok(Arg::Pair(Box::new(first), Box::new(second)));
        }
        Ok(first)
    }

    fn simple(&mut self) -> Res<Arg> {
        if self.eat('{') {
            let mut v = Vec::new();
            while !self.eat('}') {
                v.push(self.simple()?);
                if !self.eat(',') && !self.is('}') {
                    return self.fail("expected ',' or '}' here");
                }
            }
            return Ok(Arg::Vec(v));
        }
        if self.eat('[') {
            let base = self.simple()?;
            let off = self.offset()?;
            if !self.eat(']') {
                return self.fail("unsupported instruction form: an address is a register or a symbol, plus a constant");
            }
            return Ok(Arg::Mem(Box::new(base), off));
        }
        if self.eat('!') {
            return Ok(Arg::Not(Box::new(self.simple()?)));
        }
        if self.is('-') {
            return Ok(Arg::Int(self.integer()?));
        }
        let w = self.word("an operand")?;
        if w == "_" {
            return Ok(Arg::Sink);
        }
        if w.starts_with('%') {
            return Ok(Arg::Reg(w.to_owned()));
        }
        if w.starts_with(|c: char| c.is_ascii_digit()) {
            return match number(w) {
                Some(a) => Ok(a),
                None => self.fail(format!("'{w}' is not a number")),
            };
        }
        if w == "WARP_SZ" {
            return Ok(Arg::Int(32));
        }
        let off = self.offset()?;
        Ok(Arg::Sym(w.to_owned(), off))
    }

    /// `+4`, `+-4`, `-4` or nothing.
    fn offset(&mut self) -> Res<i64> {
        if self.eat('+') || self.is('-') { Ok(self.integer()? as i64) } else { Ok(0) }
    }
}

/// Integer, `0f…` or `0d…` literal.
pub(super) fn number(w: &str) -> Option<Arg> {
    let lower = w.to_ascii_lowercase();
    if let Some(h) = lower.strip_prefix("0f").filter(|h| h.len() == 8) {
        return u32::from_str_radix(h, 16).ok().map(Arg::F32);
    }
    if let Some(h) = lower.strip_prefix("0d").filter(|h| h.len() == 16) {
        return u64::from_str_radix(h, 16).ok().map(Arg::F64);
    }
    let digits = lower.strip_suffix('u').unwrap_or(&lower);
    let v = if let Some(h) = digits.strip_prefix("0x") {
        u64::from_str_radix(h, 16).ok()?
    } else if let Some(h) = digits.strip_prefix("0b") {
        u64::from_str_radix(h, 2).ok()?
    } else if digits.contains('.') {
        return digits.parse::<f64>().ok().map(|v| Arg::F64(v.to_bits()));
    } else if digits.len() > 1 && digits.starts_with('0') {
        u64::from_str_radix(&digits[1..], 8).ok()?
    } else {
        digits.parse().ok()?
    };
    Some(Arg::Int(v))
}

/// An operand with the names that `.reg` declares as registers: LLVM's `tmp` has no `%`, which looks like a symbol.
fn declared(f: &Func, a: Arg) -> Arg {
    let within = |a: Box<Arg>| Box::new(declared(f, *a));
    match a {
        // The last declaration is the nearest.
        Arg::Sym(n, 0) if f.regs.iter().rev().any(|r| r.count.is_none() && r.name == n) => Arg::Reg(n),
        Arg::Vec(v) => Arg::Vec(v.into_iter().map(|a| declared(f, a)).collect()),
        Arg::Pair(x, y) => Arg::Pair(within(x), within(y)),
        Arg::Not(x) => Arg::Not(within(x)),
        Arg::Mem(x, at) => Arg::Mem(within(x), at),
        a => a,
    }
}
