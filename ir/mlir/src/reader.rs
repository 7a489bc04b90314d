//! Reads a module that MLIR has verified and printed in its generic form: functions, `ml` ops, attributes, locations.
//!
//! MLIR is the parser of users' text; this reads only what MLIR itself printed, so its grammar is small and fixed.

use crate::ptx::unescape;
use std::collections::HashMap;
use std::sync::Arc;
use tahoma_core::graph::OpRef;
use tahoma_core::verify::Places;
use tahoma_core::{Attr, Attrs, DType, Diagnostic, Dim, Graph, Node, Origin, Port, Program, Shape, Tensor, TensorType, ValueId};

/// The program of a printed module, and where in a text the ops without an origin stand. Errors: E0902 naming the position, for ops or
/// attributes that are not ours.
pub(crate) fn program(text: &str) -> Result<(Program, Places), Diagnostic> {
    let mut r = Reader { s: text, at: 0, place: None };
    let mut places = Places::new();
    let mut out = Program::default();
    r.word("\"builtin.module\"")?;
    r.word("()")?;
    if r.peek("<{") {
        r.skip_balanced('<', '>')?;
    }
    r.word("({")?;
    while !r.take("}") {
        let g = r.function(&mut places)?;
        out.functions.insert(g.name.clone(), g);
    }
    Ok((out, places))
}

/// What a name stands for: a value, or the values of a tuple.
type Values = HashMap<String, Vec<ValueId>>;

struct Reader<'t> {
    s: &'t str,
    at: usize,
    /// The last location that was a place in a text.
    place: Option<String>,
}

type R<T> = Result<T, Diagnostic>;

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        &self.s[self.at..]
    }
    fn blank(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }
    fn fail<T>(&self, want: &str) -> R<T> {
        let line = self.s[..self.at].lines().count().max(1);
        let here: String = self.rest().chars().take(40).collect();
        Err(Diagnostic::error("E0902", format!("line {line}: {want}, found {here:?}")))
    }
    fn peek(&mut self, w: &str) -> bool {
        self.blank();
        self.rest().starts_with(w)
    }
    fn take(&mut self, w: &str) -> bool {
        let hit = self.peek(w);
        if hit {
            self.at += w.len();
        }
        hit
    }
    fn word(&mut self, w: &str) -> R<()> {
        if self.take(w) { Ok(()) } else { self.fail(&format!("expected {w}")) }
    }
    /// Characters while `f` holds.
    fn while_(&mut self, f: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let n = rest.find(|c| !f(c)).unwrap_or(rest.len());
        self.at += n;
        &rest[..n]
    }
    fn name(&mut self) -> &'t str {
        self.blank();
        self.while_(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '$'))
    }
    fn string(&mut self) -> R<String> {
        self.word("\"")?;
        let raw = self.while_(|c| c != '"');
        let out = unescape(raw);
        self.at += 1;
        Ok(out)
    }
    /// Skips a bracketed stretch, minding strings.
    fn skip_balanced(&mut self, open: char, close: char) -> R<&'t str> {
        self.blank();
        let (start, mut depth, mut quoted) = (self.at, 0i32, false);
        let mut last = ' ';
        for (i, c) in self.rest().char_indices() {
            match c {
                '"' => quoted = !quoted,
                c if quoted => {
                    let _ = c;
                }
                c if c == open => depth += 1,
                // `->` closes nothing.
                c if c == close && !(c == '>' && last == '-') => {
                    depth -= 1;
                    if depth == 0 {
                        self.at = start + i + c.len_utf8();
                        return Ok(&self.s[start..self.at]);
                    }
                }
                _ => {}
            }
            last = c;
        }
        self.fail(&format!("expected {close}"))
    }

    fn dim_and_type(&mut self) -> R<TensorType> {
        self.word("tensor<")?;
        let mut dims = vec![];
        loop {
            if self.take("?x") {
                dims.push(None);
                continue;
            }
            let digits = self.rest().len() - self.rest().trim_start_matches(|c: char| c.is_ascii_digit()).len();
            if digits > 0 && self.rest()[digits..].starts_with('x') {
                dims.push(self.rest()[..digits].parse::<u64>().ok());
                self.at += digits + 1;
                continue;
            }
            break;
        }
        let name = self.name();
        let Some(dtype) = DType::from_mlir(name) else { return self.fail(&format!("{name:?} is no number type")) };
        let mut names = vec![];
        if self.take(",") {
            self.word("[")?;
            while !self.take("]") {
                names.push(self.string()?);
                self.take(",");
            }
        }
        self.word(">")?;
        let dims = dims
            .into_iter()
            .enumerate()
            .map(|(i, d)| match d {
                Some(n) => Dim::Known(n),
                None => match names.get(i).filter(|n| !n.is_empty()) {
                    Some(n) => Dim::sym(n),
                    // A module written by hand need not name its open extents.
                    None => Dim::sym(&format!("d{i}")),
                },
            })
            .collect();
        Ok(TensorType::new(dtype, Shape(dims)))
    }

    /// One tensor, or the tensors of a tuple.
    fn value_type(&mut self) -> R<Vec<TensorType>> {
        if !self.take("tuple<") {
            return Ok(vec![self.dim_and_type()?]);
        }
        let mut v = vec![];
        while !self.take(">") {
            v.push(self.dim_and_type()?);
            self.take(",");
        }
        Ok(v)
    }

    /// `(a, b) -> c` or `(a, b) -> (c, d)`.
    fn function_type(&mut self) -> R<(Vec<Vec<TensorType>>, Vec<Vec<TensorType>>)> {
        let list = |r: &mut Self| -> R<Vec<Vec<TensorType>>> {
            let mut v = vec![];
            if r.take("(") {
                while !r.take(")") {
                    v.push(r.value_type()?);
                    r.take(",");
                }
            } else {
                v.push(r.value_type()?);
            }
            Ok(v)
        };
        let ins = list(self)?;
        self.word("->")?;
        let outs = list(self)?;
        Ok((ins, outs))
    }

    fn function(&mut self, places: &mut Places) -> R<Graph> {
        if !self.take("\"func.func\"") {
            return self.fail("expected a function");
        }
        self.word("()")?;
        let mut g = Graph::default();
        if self.take("<{") {
            while !self.take("}>") {
                let key = self.name();
                self.word("=")?;
                if key == "sym_name" {
                    g.name = self.string()?;
                } else if key == "function_type" {
                    self.function_type()?;
                } else {
                    self.attribute()?;
                }
                self.take(",");
            }
        }
        self.word("({")?;
        let mut values = Values::new();
        let mut inputs = vec![];
        if self.take("^bb0") && self.take("(") {
            while !self.take(")") {
                let v = self.value_name()?;
                self.word(":")?;
                let t = self.dim_and_type()?;
                self.location()?;
                let id = ValueId(g.types.len() as u32);
                g.types.push(t);
                values.insert(v, vec![id]);
                inputs.push(id);
                self.take(",");
            }
            self.word(":")?;
        }
        let mut returned = vec![];
        while !self.take("}") {
            if self.take("\"func.return\"") {
                returned = self.operands(&values)?;
                self.word(":")?;
                self.function_type()?;
                self.location()?;
            } else {
                self.place = None;
                let Some(n) = self.op(&mut g, &mut values)? else { continue };
                if let Some(p) = self.place.take() {
                    places.insert((g.name.clone(), g.nodes.len()), p);
                }
                g.nodes.push(n);
            }
        }
        self.word(")")?;
        let (mut ins, mut outs) = (vec![], vec![]);
        if self.take("{") {
            while !self.take("}") {
                let key = if self.peek("\"") { self.string()? } else { self.name().to_string() };
                self.word("=")?;
                match key.as_str() {
                    "ml.inputs" => ins = self.strings()?,
                    "ml.outputs" => outs = self.strings()?,
                    k => {
                        let a = self.attribute()?;
                        if let Some(k) = k.strip_prefix("ml.") {
                            g.attrs.0.insert(k.into(), a);
                        }
                    }
                }
                self.take(",");
            }
        }
        self.word(":")?;
        self.word("() -> ()")?;
        self.location()?;
        let ports = |ids: Vec<ValueId>, names: Vec<String>, what: &str| {
            ids.into_iter()
                .enumerate()
                .map(|(i, value)| Port { name: names.get(i).cloned().unwrap_or_else(|| format!("{what}{i}")), value })
                .collect()
        };
        g.inputs = ports(inputs, ins, "arg");
        g.outputs = ports(returned, outs, "result");
        Ok(g)
    }

    fn strings(&mut self) -> R<Vec<String>> {
        self.word("[")?;
        let mut v = vec![];
        while !self.take("]") {
            v.push(self.string()?);
            self.take(",");
        }
        Ok(v)
    }

    fn value_name(&mut self) -> R<String> {
        self.word("%")?;
        Ok(self.while_(|c| c.is_alphanumeric() || matches!(c, '_' | '#' | '-' | '$' | '.')).to_string())
    }

    fn operands(&mut self, values: &Values) -> R<Vec<ValueId>> {
        self.word("(")?;
        let mut v = vec![];
        while !self.take(")") {
            let name = self.value_name()?;
            match values.get(&name) {
                Some(ids) => v.extend(ids),
                None => return self.fail(&format!("%{name} is not known")),
            }
            self.take(",");
        }
        Ok(v)
    }

    /// An op; `None` for a cast that packs or unpacks a tuple, which only gives values another name.
    fn op(&mut self, g: &mut Graph, values: &mut Values) -> R<Option<Node>> {
        let mut names = vec![];
        while self.peek("%") {
            let name = self.value_name()?;
            if self.take(":") {
                let n: usize = self.while_(|c| c.is_ascii_digit()).parse().unwrap_or(1);
                names.extend((0..n).map(|i| format!("{name}#{i}")));
            } else {
                names.push(name);
            }
            self.take(",");
        }
        if !names.is_empty() {
            self.word("=")?;
        }
        let full = self.string()?;
        if full == "builtin.unrealized_conversion_cast" {
            self.pack(names, values)?;
            return Ok(None);
        }
        // Upstream has this one, and takes parts of different types as they are.
        let concat = full == "tensor.concat";
        let name = if concat { Some("concat") } else { full.strip_prefix("ml.") };
        let Some(op) = name.and_then(tahoma_core::ops::find) else {
            return self.fail(&format!("{full:?} is no op of the ml dialect"));
        };
        let operands = self.operands(values)?;
        let mut attrs = Attrs::new();
        for open in ["<{", "{"] {
            if self.take(open) {
                let close = if open == "<{" { "}>" } else { "}" };
                while !self.take(close) {
                    let key = if self.peek("\"") { self.string()? } else { self.name().to_string() };
                    self.word("=")?;
                    let key = if concat && key == "dim" { "axis" } else { &key };
                    attrs.0.insert(key.into(), self.attribute()?);
                    self.take(",");
                }
            }
        }
        self.word(":")?;
        let (_, outs) = self.function_type()?;
        let origin = self.location()?;
        let mut results = vec![];
        for (name, types) in names.into_iter().zip(outs) {
            let first = results.len();
            for t in types {
                results.push(ValueId(g.types.len() as u32));
                g.types.push(t);
            }
            values.insert(name, results[first..].to_vec());
        }
        Ok(Some(Node { op: OpRef(op), operands, attrs, results, origin: Arc::new(origin) }))
    }

    /// `unrealized_conversion_cast`: many values under one name, or the other way.
    fn pack(&mut self, names: Vec<String>, values: &mut Values) -> R<()> {
        let ids = self.operands(values)?;
        self.word(":")?;
        let (_, outs) = self.function_type()?;
        self.location()?;
        let mut left = ids.into_iter();
        for (name, types) in names.into_iter().zip(outs) {
            let part: Vec<ValueId> = left.by_ref().take(types.len()).collect();
            if part.len() != types.len() {
                return self.fail("expected a cast between values and the tuple of them");
            }
            values.insert(name, part);
        }
        Ok(())
    }

    fn number(&mut self) -> &'t str {
        self.blank();
        self.while_(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+'))
    }

    fn attribute(&mut self) -> R<Attr> {
        if self.peek("\"") {
            return Ok(Attr::Str(self.string()?.into()));
        }
        if self.take("@") {
            let name = if self.peek("\"") { self.string()? } else { self.name().to_string() };
            return Ok(Attr::Func(name.into()));
        }
        if self.take("true") {
            return Ok(Attr::Bool(true));
        }
        if self.take("false") {
            return Ok(Attr::Bool(false));
        }
        if self.take("array<") {
            let ty = self.name();
            let mut items = vec![];
            if self.take(":") {
                while !self.peek(">") {
                    items.push(self.number());
                    self.take(",");
                }
            }
            self.word(">")?;
            return match ty {
                "i64" => items.iter().map(|x| x.parse().ok()).collect::<Option<Vec<i64>>>().map(Attr::Ints),
                _ => items.iter().map(|x| real(x, DType::F64)).collect::<Option<Vec<f64>>>().map(Attr::from),
            }
            .map_or_else(|| self.fail("a number is malformed"), Ok);
        }
        if self.peek("dense<") {
            return self.dense();
        }
        if self.rest().starts_with(|c: char| c.is_ascii_digit() || c == '-') {
            let text = self.number();
            let ty = if self.take(":") { self.name() } else { "i64" };
            let attr = match ty {
                "f64" => real(text, DType::F64).map(Attr::from),
                _ => text.parse().ok().map(Attr::Int),
            };
            return attr.map_or_else(|| self.fail("a number is malformed"), Ok);
        }
        let name = self.name();
        match DType::from_mlir(name) {
            Some(d) => Ok(Attr::DType(d)),
            None => self.fail(&format!("an attribute that is not ours ({name:?})")),
        }
    }

    fn dense(&mut self) -> R<Attr> {
        self.word("dense")?;
        let body = self.skip_balanced('<', '>')?;
        self.word(":")?;
        let t = self.dim_and_type()?;
        let Some(shape) = t.shape.to_static() else { return self.fail("a constant of open shape") };
        let body = &body[1..body.len() - 1];
        let count: usize = shape.iter().product();
        if let Some(hex) = body.trim().strip_prefix("\"0x").and_then(|h| h.strip_suffix('"')) {
            let bytes: Option<Vec<u8>> =
                hex.as_bytes().chunks(2).map(|p| u8::from_str_radix(std::str::from_utf8(p).ok()?, 16).ok()).collect();
            let tensor = bytes.and_then(|b| raw(t.dtype, &shape, count, &b));
            return tensor.map_or_else(|| self.fail("a constant is malformed"), |t| Ok(Attr::from(t)));
        }
        let items: Vec<&str> = body.split([',', '[', ']']).map(str::trim).filter(|x| !x.is_empty()).collect();
        let tensor = if t.dtype.is_float() {
            items.iter().map(|x| bits(x, t.dtype)).collect::<Option<Vec<Vec<u8>>>>().and_then(|v| {
                if t.dtype.bits() < 8 {
                    let v: Option<Vec<f64>> = items.iter().map(|x| real(x, t.dtype)).collect();
                    return Some(Tensor::from_f64s(t.dtype, &[items.len()], &v?));
                }
                Tensor::from_bytes(t.dtype, &[items.len()], &v.concat())
            })
        } else {
            let v: Option<Vec<i64>> = items
                .iter()
                .map(|x| match *x {
                    "true" => Some(1),
                    "false" => Some(0),
                    x => x.parse::<i64>().ok().or_else(|| x.parse::<u64>().ok().map(|u| u as i64)),
                })
                .collect();
            v.map(|v| Tensor::i64(&[v.len()], v).cast(t.dtype))
        };
        let Some(tensor) = tensor else { return self.fail("a constant is malformed") };
        // A splat prints one element for all.
        let full = if tensor.len() == 1 && count != 1 {
            tensor.view(&shape, &vec![0; shape.len()], 0).contiguous()
        } else if tensor.len() == count {
            tensor.view(&shape, &tahoma_core::tensor::contiguous_strides(&shape), 0)
        } else {
            return self.fail("a constant has another number of elements than its type");
        };
        Ok(Attr::from(full))
    }

    /// `loc(…)`, if there is one.
    fn location(&mut self) -> R<Origin> {
        if !self.take("loc(") {
            return Ok(Origin::Unknown);
        }
        let o = self.location_body()?;
        self.word(")")?;
        Ok(o)
    }

    fn location_body(&mut self) -> R<Origin> {
        if self.take("unknown") {
            return Ok(Origin::Unknown);
        }
        if self.take("fused<") {
            let meta = self.string()?;
            self.word(">")?;
            self.word("[")?;
            let mut parts = vec![];
            let mut places = vec![];
            while !self.take("]") {
                if self.peek("\"") {
                    places.push(self.place()?);
                } else {
                    parts.push(self.location_body()?);
                }
                self.take(",");
            }
            if let (Some(op), Some((name, model, index))) = (meta.strip_prefix("node "), places.first()) {
                return Ok(Origin::Node { model: model.as_str().into(), index: *index, name: name.as_str().into(), op: op.into() });
            }
            if let ("tensor", Some((name, model, _))) = (meta.as_str(), places.first()) {
                return Ok(Origin::Tensor { model: model.as_str().into(), name: name.as_str().into() });
            }
            let rule = meta.strip_prefix("rule ").unwrap_or(&meta);
            return Ok(Origin::Fused { rule: rule.into(), from: parts.into_iter().map(Arc::new).collect() }.bounded());
        }
        // A place in a file: what hand-written modules have.
        let (start, mut depth) = (self.at, 0i32);
        let mut quoted = false;
        for (i, c) in self.rest().char_indices() {
            match c {
                '"' => quoted = !quoted,
                '(' | '[' if !quoted => depth += 1,
                ')' | ']' if !quoted && depth > 0 => depth -= 1,
                ')' | ']' | ',' if !quoted && depth == 0 => {
                    self.at = start + i;
                    self.place = Some(unescape(&self.s[start..self.at]).replace('"', ""));
                    return Ok(Origin::Unknown);
                }
                _ => {}
            }
        }
        self.fail("a location is malformed")
    }

    /// `"name"("file":line:column)`, or `"file":line:column`.
    fn place(&mut self) -> R<(String, String, u32)> {
        let first = self.string()?;
        if self.take("(") {
            let file = self.string()?;
            let line = self.line()?;
            self.word(")")?;
            return Ok((first, file, line));
        }
        let line = self.line()?;
        Ok((String::new(), first, line))
    }
    fn line(&mut self) -> R<u32> {
        self.word(":")?;
        let line = self.while_(|c| c.is_ascii_digit()).parse().unwrap_or(0);
        self.word(":")?;
        self.while_(|c| c.is_ascii_digit());
        Ok(line)
    }
}

/// A printed float, decimal or by its bits.
fn real(s: &str, d: DType) -> Option<f64> {
    match s.strip_prefix("0x") {
        Some(h) => {
            let bits = u64::from_str_radix(h, 16).ok()?;
            if d == DType::F64 { Some(f64::from_bits(bits)) } else { None }
        }
        None => s.parse().ok(),
    }
}

/// A tensor from MLIR's own storage, which it prints in hex above a hundred elements: whole bytes for each element, but bits for i1.
fn raw(d: DType, shape: &[usize], count: usize, bytes: &[u8]) -> Option<Tensor> {
    match d {
        DType::Bool if bytes.len() == count.div_ceil(8) => {
            Tensor::from_bytes(d, shape, &(0..count).map(|i| bytes[i / 8] >> (i % 8) & 1).collect::<Vec<_>>())
        }
        // 19 bits in three bytes; ours are the high bits of an f32.
        DType::TF32 if bytes.len() == 3 * count => {
            let word = |c: &[u8]| (u32::from_le_bytes([c[0], c[1], c[2], 0]) << 13).to_le_bytes();
            Tensor::from_bytes(d, shape, &bytes.chunks(3).flat_map(word).collect::<Vec<_>>())
        }
        d if d.bits() < 8 && bytes.len() == count => {
            let (bits, per) = (d.bits() as usize, 8 / d.bits() as usize);
            let mut packed = vec![0u8; count.div_ceil(per)];
            for (i, b) in bytes.iter().enumerate() {
                packed[i / per] |= (b & ((1u16 << bits) - 1) as u8) << (bits * (i % per));
            }
            Tensor::from_bytes(d, shape, &packed)
        }
        d => Tensor::from_bytes(d, shape, bytes),
    }
}

/// The packed bytes of one printed float.
fn bits(s: &str, d: DType) -> Option<Vec<u8>> {
    let width = (d.bits() as usize).div_ceil(8);
    if let Some(h) = s.strip_prefix("0x") {
        let b = u64::from_str_radix(h, 16).ok()? << if d == DType::TF32 { 13 } else { 0 };
        return Some(b.to_le_bytes()[..width].to_vec());
    }
    let x: f64 = s.parse().ok()?;
    if d == DType::F32 {
        // Straight from decimal, so that nothing is rounded twice.
        return Some(s.parse::<f32>().ok()?.to_le_bytes().to_vec());
    }
    if d == DType::F8E8M0 && x > 0.0 {
        // MLIR prints six digits of a power of two; our conversion rounds up, so ask for the nearest one.
        let exponent = (x.log2().round() as i64 + 127).clamp(0, 254) as u8;
        return Some(vec![exponent]);
    }
    Some(Tensor::from_f64s(d, &[1], &[x]).to_bytes())
}
