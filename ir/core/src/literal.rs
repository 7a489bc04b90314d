//! Values and op applications as text: `[[1, 2], [3, 4]]`, `i64[1, 2]`, `bool[true]`, `f16 1.5`, and examples of the op table,
//! `transpose([[1, 2], [3, 4]], perm=[1, 0]) = [[1, 3], [2, 4]]`. Numbers without a type are f32.

use crate::attr::{Attr, Attrs};
use crate::convert::texts;
use crate::op::{AttrType, EvalArgs, Fresh, InferArgs, OpDef, OpError};
use crate::tensor::{Buffer, Tensor};
use crate::types::DType;

/// An op applied to values, and what it gives.
pub(crate) struct Example {
    pub op: &'static OpDef,
    pub operands: Vec<Tensor>,
    pub attrs: Attrs,
    pub results: Vec<Tensor>,
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// Brackets around the elements of the tensor being read.
    depth: Option<usize>,
}

type R<T> = Result<T, String>;

impl<'a> Reader<'a> {
    fn skip(&mut self) {
        self.at += self.text[self.at..].len() - self.text[self.at..].trim_start().len();
    }
    fn peek(&mut self) -> Option<char> {
        self.skip();
        self.text[self.at..].chars().next()
    }
    fn eat(&mut self, c: char) -> bool {
        let hit = self.peek() == Some(c);
        if hit {
            self.at += c.len_utf8();
        }
        hit
    }
    fn need(&mut self, c: char) -> R<()> {
        if self.eat(c) { Ok(()) } else { Err(format!("expected {c:?} at {:?}", &self.text[self.at..])) }
    }
    /// Letters, digits and the signs of numbers.
    fn word(&mut self) -> &'a str {
        self.skip();
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !(c.is_alphanumeric() || "_.+-".contains(c))).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }
    fn starts_with_type(&mut self) -> Option<DType> {
        self.skip();
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
        let d = DType::from_name(&rest[..end])?;
        self.at += end;
        Some(d)
    }
    fn tensor(&mut self) -> R<Tensor> {
        let dtype = self.starts_with_type().unwrap_or(DType::F32);
        let (mut shape, mut words) = (vec![], vec![]);
        self.depth = None;
        self.nested(0, &mut shape, &mut words)?;
        let shape: Vec<usize> = shape.into_iter().map(|n| n.unwrap_or(0)).collect();
        if shape.iter().product::<usize>() != words.len() {
            return Err("rows of different lengths".into());
        }
        let number = |w: &str| -> R<f64> {
            match w {
                "true" => Ok(1.0),
                "false" => Ok(0.0),
                w => w.parse().map_err(|_| format!("{w:?} is no number")),
            }
        };
        if dtype.is_float() || dtype == DType::Bool {
            let v = words.iter().map(|w| number(w)).collect::<R<Vec<f64>>>()?;
            return Ok(Tensor::from_f64s(dtype, &shape, &v));
        }
        let v = words.iter().map(|w| w.parse::<i128>().map_err(|_| format!("{w:?} is no integer"))).collect::<R<Vec<_>>>()?;
        Ok(Tensor::new(DType::I64, &shape, Buffer::I64(v.into_iter().map(|x| x as i64).collect())).cast(dtype))
    }
    fn nested(&mut self, depth: usize, shape: &mut Vec<Option<usize>>, words: &mut Vec<&'a str>) -> R<()> {
        if !self.eat('[') {
            // Every element stands at one depth.
            if *self.depth.get_or_insert(depth) != depth {
                return Err("elements at different depths".into());
            }
            let w = self.word();
            return if w.is_empty() {
                Err(format!("expected a value at {:?}", &self.text[self.at..]))
            } else {
                words.push(w);
                Ok(())
            };
        }
        if shape.len() <= depth {
            shape.push(None);
        }
        let mut n = 0;
        while !self.eat(']') {
            if n > 0 {
                self.need(',')?;
            }
            self.nested(depth + 1, shape, words)?;
            n += 1;
        }
        match shape[depth].replace(n) {
            Some(m) if m != n => Err("rows of different lengths".into()),
            _ => Ok(()),
        }
    }
    fn attr(&mut self, ty: AttrType) -> R<Attr> {
        let bad = |w: &str| format!("{w:?} is no {ty:?}");
        Ok(match ty {
            AttrType::Tensor => Attr::from(self.tensor()?),
            AttrType::Ints | AttrType::Floats => {
                self.need('[')?;
                let mut words = vec![];
                while !self.eat(']') {
                    if !words.is_empty() {
                        self.need(',')?;
                    }
                    words.push(self.word());
                }
                if ty == AttrType::Ints {
                    Attr::Ints(words.iter().map(|w| w.parse().map_err(|_| bad(w))).collect::<R<_>>()?)
                } else {
                    Attr::from(words.iter().map(|w| w.parse().map_err(|_| bad(w))).collect::<R<Vec<f64>>>()?)
                }
            }
            _ => {
                let quoted = self.eat('"');
                let w = self.word();
                if quoted {
                    self.need('"')?;
                }
                match ty {
                    AttrType::Int => Attr::Int(w.parse().map_err(|_| bad(w))?),
                    AttrType::Float => Attr::from(w.parse::<f64>().map_err(|_| bad(w))?),
                    AttrType::Bool => Attr::Bool(w.parse().map_err(|_| bad(w))?),
                    AttrType::DType => Attr::DType(DType::from_name(w).ok_or_else(|| bad(w))?),
                    AttrType::Func => Attr::Func(w.into()),
                    _ => Attr::from(w),
                }
            }
        })
    }
}

/// A tensor from text: `2`, `[1, 2]`, `i64[[1], [2]]`, `bool[true, false]`, `f16[inf, nan]`.
pub(crate) fn parse_tensor(text: &str) -> Result<Tensor, String> {
    let mut r = Reader { text, at: 0, depth: None };
    let t = r.tensor()?;
    if r.peek().is_some() { Err(format!("unexpected {:?}", &text[r.at..])) } else { Ok(t) }
}

/// An example of the op table. Errors: the text, or a name that is no op, operand or attribute.
pub(crate) fn parse_example(text: &str) -> Result<Example, String> {
    let mut r = Reader { text, at: 0, depth: None };
    let name = r.word();
    let op = crate::ops::find(name).ok_or_else(|| format!("no op named {name:?}"))?;
    r.need('(')?;
    let (mut operands, mut attrs) = (vec![], Attrs::new());
    while !r.eat(')') {
        if !operands.is_empty() || !attrs.0.is_empty() {
            r.need(',')?;
        }
        // `name=` starts an attribute.
        let start = r.at;
        let word = r.word();
        match op.attrs.iter().find(|a| a.name == word) {
            Some(a) if r.eat('=') => attrs = attrs.with(a.name, r.attr(a.ty)?),
            _ => {
                r.at = start;
                operands.push(r.tensor()?);
            }
        }
    }
    r.need('=')?;
    let mut results = vec![r.tensor()?];
    while r.eat(',') {
        results.push(r.tensor()?);
    }
    if r.peek().is_some() {
        return Err(format!("unexpected {:?}", &text[r.at..]));
    }
    Ok(Example { op, operands, attrs, results })
}

impl Example {
    /// What the op really gives. Errors: those of signature, inference and evaluation.
    pub(crate) fn run(&self) -> Result<Vec<Tensor>, OpError> {
        crate::graph::check_signature(self.op, self.operands.len(), &self.attrs)?;
        let types: Vec<_> = self.operands.iter().map(Tensor::ty).collect();
        let consts: Vec<_> = self.operands.iter().map(Some).collect();
        (self.op.infer)(&InferArgs { operands: &types, attrs: &self.attrs, consts: &consts, fresh: Fresh("x", 0) })?;
        (self.op.eval)(&EvalArgs { operands: &self.operands, attrs: &self.attrs })
    }
}

/// A tensor as [`parse_tensor`] reads it.
pub(crate) fn print_tensor(t: &Tensor) -> String {
    let words = texts(t);
    let mut out = if t.dtype() == DType::F32 { String::new() } else { format!("{}{}", t.dtype(), if t.rank() == 0 { " " } else { "" }) };
    nest(t.shape(), &words, &mut out);
    out
}

fn nest(shape: &[usize], words: &[String], out: &mut String) {
    let Some((&n, rest)) = shape.split_first() else {
        out.push_str(words.first().map_or("", |w| w));
        return;
    };
    out.push('[');
    let each = rest.iter().product::<usize>();
    for i in 0..n {
        if i > 0 {
            out.push_str(", ");
        }
        nest(rest, &words[i * each..(i + 1) * each], out);
    }
    out.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_read_as_they_print() {
        for text in
            ["2.5", "[1, -2]", "i64[[1], [2]]", "bool[true, false]", "f16[inf, NaN]", "[[], []]", "i64 3", "u64[18446744073709551615]"]
        {
            assert_eq!(print_tensor(&parse_tensor(text).unwrap()), text);
        }
        assert!(parse_tensor("[1, [2]]").is_err());
        assert!(parse_tensor("[1 2]").is_err());
        assert!(parse_tensor("i64[x]").is_err());
    }
}
