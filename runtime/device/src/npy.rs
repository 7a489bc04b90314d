//! NumPy array files (`.npy` versions 1 to 3), the form in which inputs come and outputs go.
//!
//! ```text
//! \x93NUMPY major minor header-length  {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }  bytes
//! ```
//!
//! Both byte orders and both element orders are read; little-endian C order is written. Types that NumPy has no name for are written as
//! raw bytes, as `ml_dtypes` arrays are: bfloat16 as `|V2`; fp8, fp4 and e8m0 codes as `|V1`; i4, i2 and u4, u2 widen to `i1` and `u1`.
//! A raw array is read only where the caller says which type it holds. Arrays of strings are `<U` (read too: `|S` of UTF-8).

use std::path::Path;
use tahoma_core::{Buffer, DType, Diagnostic, Tensor, Text};

const MAGIC: &[u8] = b"\x93NUMPY";
/// Longest header read; real ones take 118 bytes.
const MAX_HEADER: usize = 1 << 16;
/// Most axes read (NumPy itself ends at 64).
const MAX_RANK: usize = 64;

/// What a file holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Array {
    Tensor(Tensor),
    Text(Text),
}

/// Reads a file of numbers or of strings. E0101, E0106.
pub fn read_array(path: &Path, want: Option<DType>) -> Result<Array, Diagnostic> {
    let bytes = tahoma_core::file::read(path, u64::MAX)?;
    let array = Raw::of(&bytes).and_then(|r| if r.is_text() { r.text().map(Array::Text) } else { r.tensor(want).map(Array::Tensor) });
    array.map_err(|why| refused(path, &why))
}

fn refused(path: &Path, why: &str) -> Diagnostic {
    Diagnostic::error("E0106", format!("{}: {why}", path.display()))
        .note("write it with numpy.save(path, array): C or Fortran order, numbers or bool")
}

/// Reads a file. `want` is the type the array is for; it only decides what raw (`V`) elements are. E0101, E0106.
pub fn read(path: &Path, want: Option<DType>) -> Result<Tensor, Diagnostic> {
    let bytes = tahoma_core::file::read(path, u64::MAX)?;
    parse(&bytes, want).map_err(|why| refused(path, &why))
}

/// Writes a file. E0702.
pub fn write(path: &Path, t: &Tensor) -> Result<(), Diagnostic> {
    put(path, print(t))
}

/// Writes a file of numbers or of strings. E0702.
pub fn write_array(path: &Path, array: &Array) -> Result<(), Diagnostic> {
    match array {
        Array::Tensor(t) => write(path, t),
        Array::Text(t) => put(path, print_text(t)),
    }
}

fn put(path: &Path, bytes: Vec<u8>) -> Result<(), Diagnostic> {
    std::fs::write(path, bytes).map_err(|e| Diagnostic::error("E0702", format!("cannot write {}: {e}", path.display())).caused_by(e))
}

/// How a type is called in a header: its `descr` and whether it is written as it is in memory.
fn descr(d: DType) -> &'static str {
    use DType::*;
    match d {
        F64 => "<f8",
        F32 | TF32 => "<f4",
        F16 => "<f2",
        BF16 => "|V2",
        F8E4M3FN | F8E5M2 | F8E4M3 | F8E4M3FNUZ | F8E5M2FNUZ | F4E2M1 | F8E8M0 => "|V1",
        I64 => "<i8",
        I32 => "<i4",
        I16 => "<i2",
        I8 | I4 | I2 => "|i1",
        U64 => "<u8",
        U32 => "<u4",
        U16 => "<u2",
        U8 | U4 | U2 => "|u1",
        Bool => "|b1",
    }
}

/// The bytes of a file that holds `t`.
pub fn print(t: &Tensor) -> Vec<u8> {
    let mut out = head(descr(t.dtype()), t.shape());
    out.extend(widened(t));
    out
}

/// The bytes of a file that holds strings. NumPy pads them with NUL, so one at a string's end is lost.
pub fn print_text(t: &Text) -> Vec<u8> {
    let width = t.words.iter().map(|w| w.chars().count()).max().unwrap_or(0).max(1);
    let mut out = head(&format!("<U{width}"), &t.shape);
    for w in &t.words {
        let codes = w.chars().map(u32::from).chain(std::iter::repeat(0)).take(width);
        out.extend(codes.flat_map(u32::to_le_bytes));
    }
    out
}

/// All of a file before its elements.
fn head(descr: &str, shape: &[usize]) -> Vec<u8> {
    let dims: Vec<String> = shape.iter().map(usize::to_string).collect();
    let shape = if let [one] = &*dims { format!("({one},)") } else { format!("({})", dims.join(", ")) };
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    // Data starts at a multiple of 64 bytes and the header ends with a newline, as NumPy does.
    while !(header.len() + 11).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let mut out = MAGIC.to_vec();
    out.extend([1, 0]);
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.bytes());
    out
}

/// Elements with sub-byte types one per byte.
fn widened(t: &Tensor) -> Vec<u8> {
    if t.dtype().bits() >= 8 {
        return t.to_bytes();
    }
    let c = t.contiguous();
    let range = c.offset()..c.offset() + c.len();
    match c.buffer() {
        Buffer::I8(v) => v[range].iter().map(|&x| x as u8).collect(),
        Buffer::U8(v) => v[range].to_vec(),
        _ => t.to_bytes(),
    }
}

/// The array in the bytes of a file, or what is wrong with them.
pub fn parse(bytes: &[u8], want: Option<DType>) -> Result<Tensor, String> {
    Raw::of(bytes)?.tensor(want)
}

/// A file's header and the bytes behind it.
struct Raw<'a> {
    header: Header,
    data: &'a [u8],
}

impl<'a> Raw<'a> {
    fn of(bytes: &'a [u8]) -> Result<Raw<'a>, String> {
        let (header, data) = cut(bytes)?;
        Ok(Raw { header, data })
    }
    fn is_text(&self) -> bool {
        matches!(self.header.descr.trim_start_matches(['<', '>', '|', '=']).as_bytes().first(), Some(b'U' | b'S'))
    }
    fn text(&self) -> Result<Text, String> {
        let Header { descr, fortran, shape } = &self.header;
        let (order, code) = descr.split_at(descr.len() - descr.trim_start_matches(['<', '>', '|', '=']).len());
        let (kind, count) = code.split_at(1);
        let width: usize = count.parse().map_err(|_| format!("element type {descr:?} has no length"))?;
        let bytes = if kind == "U" { width.checked_mul(4) } else { Some(width) }.ok_or("strings longer than memory")?;
        if *fortran && shape.len() > 1 {
            return Err("strings in Fortran order: write numpy.ascontiguousarray(array)".into());
        }
        let want = shape.iter().try_fold(bytes, |n, &d| n.checked_mul(d));
        if want != Some(self.data.len()) {
            return Err(format!("{} bytes of strings, which {shape:?} of {descr:?} does not take", self.data.len()));
        }
        let one = |b: &[u8]| -> Result<String, String> {
            if kind == "S" {
                let end = b.iter().rposition(|&c| c != 0).map_or(0, |i| i + 1);
                return std::str::from_utf8(&b[..end]).map(str::to_string).map_err(|e| format!("a string is not UTF-8: {e}"));
            }
            let code = |c: &[u8; 4]| if order == ">" { u32::from_be_bytes(*c) } else { u32::from_le_bytes(*c) };
            let codes: Vec<u32> = b.as_chunks::<4>().0.iter().map(code).collect();
            let end = codes.iter().rposition(|&c| c != 0).map_or(0, |i| i + 1);
            codes[..end].iter().map(|&c| char::from_u32(c).ok_or_else(|| format!("{c:#x} is no character"))).collect()
        };
        let count: usize = shape.iter().product();
        let words =
            if bytes == 0 { vec![String::new(); count] } else { self.data.chunks_exact(bytes).map(one).collect::<Result<_, _>>()? };
        Text::new(shape, words).ok_or_else(|| "strings do not fill their shape".into())
    }
    fn tensor(self, want: Option<DType>) -> Result<Tensor, String> {
        if self.is_text() {
            return Err("strings, where numbers are due".into());
        }
        numbers(self.header, self.data, want)
    }
}

fn cut(bytes: &[u8]) -> Result<(Header, &[u8]), String> {
    let rest = bytes.strip_prefix(MAGIC).ok_or("not a .npy file: it does not start with \\x93NUMPY")?;
    let (&[major, _minor], rest) = rest.split_first_chunk().ok_or("ends within its version")?;
    let (length, rest) = match major {
        1 => rest.split_first_chunk::<2>().map(|(n, r)| (u16::from_le_bytes(*n) as usize, r)),
        2 | 3 => rest.split_first_chunk::<4>().map(|(n, r)| (u32::from_le_bytes(*n) as usize, r)),
        v => return Err(format!("version {v}, where 1 to 3 are known")),
    }
    .ok_or("ends within its header length")?;
    if length > MAX_HEADER {
        return Err(format!("a header of {length} bytes, where {MAX_HEADER} are the most"));
    }
    let (header, data) = rest.split_at_checked(length).ok_or("ends within its header")?;
    let header = std::str::from_utf8(header).map_err(|_| "the header is not text")?;
    Ok((Header::parse(header)?, data))
}

fn numbers(header: Header, data: &[u8], want: Option<DType>) -> Result<Tensor, String> {
    let Header { descr, fortran, shape } = header;
    let (dtype, swap) = element(&descr, want)?;
    let width = dtype.bits().div_ceil(8) as usize;
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|n| n.checked_mul(width).is_some());
    let count = count.ok_or_else(|| format!("shape {shape:?} has more elements than memory"))?;
    if data.len() != count * width {
        return Err(format!("{} bytes of elements, where {shape:?} of {descr:?} needs {}", data.len(), count * width));
    }
    let data: std::borrow::Cow<[u8]> =
        if swap { data.chunks_exact(width).flat_map(|c| c.iter().rev().copied()).collect::<Vec<u8>>().into() } else { data.into() };
    let t = elements(dtype, &shape, &data).ok_or("elements do not match the type")?;
    if !fortran || shape.len() < 2 {
        return Ok(t);
    }
    // First axis fastest: the same elements with the strides of the reversed shape.
    let mut step = 1;
    let strides: Vec<isize> = shape
        .iter()
        .map(|&n| {
            let s = step;
            step *= n.max(1) as isize;
            s
        })
        .collect();
    Ok(t.view(&shape, &strides, 0).contiguous())
}

fn elements(dtype: DType, shape: &[usize], data: &[u8]) -> Option<Tensor> {
    if dtype.bits() >= 8 {
        return Tensor::from_bytes(dtype, shape, data);
    }
    // One code per byte; a code beyond the type's bits is refused.
    let mask = (1u8 << dtype.bits()) - 1;
    data.iter().all(|b| b & !mask == 0).then(|| Tensor::new(dtype, shape, Buffer::U8(data.to_vec())))
}

/// Element type of a `descr`, and whether its bytes are in the other order.
fn element(descr: &str, want: Option<DType>) -> Result<(DType, bool), String> {
    use DType::*;
    let (order, code) = match descr.as_bytes().first() {
        Some(b'<' | b'>' | b'|' | b'=') => descr.split_at(1),
        _ => ("|", descr),
    };
    let dtype = match code {
        "f8" => F64,
        "f4" => F32,
        "f2" => F16,
        "i8" => I64,
        "i4" => I32,
        "i2" => I16,
        "i1" => I8,
        "u8" => U64,
        "u4" => U32,
        "u2" => U16,
        "u1" => U8,
        "b1" => Bool,
        "V2" if want == Some(BF16) => BF16,
        "V1" if want.is_some_and(|w| w.is_float() && w.bits() <= 8) => want.unwrap_or(U8),
        "V1" | "V2" => return Err(format!("elements are raw bytes ({descr:?}), and the place they are for is no bf16 or fp8")),
        _ => return Err(format!("element type {descr:?} is none of f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 b1 (or V2 for bf16, V1 for fp8)")),
    };
    Ok((dtype, order == ">" && dtype.bits() > 8))
}

struct Header {
    descr: String,
    fortran: bool,
    shape: Vec<usize>,
}

impl Header {
    /// Reads the Python dict literal: three keys, in any order.
    fn parse(text: &str) -> Result<Header, String> {
        let mut s = Scanner(text.trim());
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        s.expect('{')?;
        while !s.take('}') {
            let key = s.string()?;
            s.expect(':')?;
            let twice = match &*key {
                "descr" => descr.replace(s.string()?).is_some(),
                "fortran_order" => fortran.replace(s.bool()?).is_some(),
                "shape" => shape.replace(s.tuple()?).is_some(),
                other => return Err(format!("header key {other:?} is none of descr, fortran_order, shape")),
            };
            if twice {
                return Err(format!("header key {key:?} is there twice"));
            }
            if !s.take(',') {
                s.expect('}')?;
                break;
            }
        }
        if !s.0.trim().is_empty() {
            return Err("text after the header".into());
        }
        let missing = |k: &str| format!("header key {k:?} is missing");
        Ok(Header {
            descr: descr.ok_or_else(|| missing("descr"))?,
            fortran: fortran.ok_or_else(|| missing("fortran_order"))?,
            shape: shape.ok_or_else(|| missing("shape"))?,
        })
    }
}

struct Scanner<'a>(&'a str);

impl Scanner<'_> {
    fn take(&mut self, c: char) -> bool {
        self.0 = self.0.trim_start();
        match self.0.strip_prefix(c) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }
    fn expect(&mut self, c: char) -> Result<(), String> {
        if self.take(c) {
            Ok(())
        } else {
            Err(format!("malformed header: expected {c:?} before {:?}", self.0.chars().take(20).collect::<String>()))
        }
    }
    fn string(&mut self) -> Result<String, String> {
        let quote = if self.take('\'') {
            '\''
        } else if self.take('"') {
            '"'
        } else if self.0.starts_with('[') {
            return Err("a structured array: its elements are records, not numbers".into());
        } else {
            return Err("malformed header: expected a quoted text".into());
        };
        let (text, rest) = self.0.split_once(quote).ok_or("malformed header: a quoted text does not end")?;
        self.0 = rest;
        Ok(text.to_string())
    }
    fn bool(&mut self) -> Result<bool, String> {
        self.0 = self.0.trim_start();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = self.0.strip_prefix(word) {
                self.0 = rest;
                return Ok(value);
            }
        }
        Err("malformed header: fortran_order is neither True nor False".into())
    }
    fn tuple(&mut self) -> Result<Vec<usize>, String> {
        self.expect('(')?;
        let mut out = vec![];
        while !self.take(')') {
            self.0 = self.0.trim_start();
            let digits = self.0.bytes().take_while(u8::is_ascii_digit).count();
            let n = self.0[..digits].parse().map_err(|_| "malformed header: an extent is not a whole number from 0 up")?;
            self.0 = self.0[digits..].strip_prefix('L').unwrap_or(&self.0[digits..]);
            out.push(n);
            if out.len() > MAX_RANK {
                return Err(format!("more than {MAX_RANK} axes"));
            }
            if !self.take(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(out)
    }
}

/// A file name made of an output's name: letters, digits, `-`, `_` and inner dots stay, all else becomes `_`.
///
/// `taken` holds the names given out so far (compared without case, as some file systems do); a clash gets `_2`, `_3`, …
pub fn safe_name(name: &str, taken: &mut std::collections::BTreeSet<String>) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
    let mut base: String = name.chars().map(keep).take(200).collect();
    if base.starts_with('.') || base.starts_with('-') {
        base.replace_range(..1, "_");
    }
    if base.is_empty() {
        base = "output".into();
    }
    let mut out = base.clone();
    let mut n = 1;
    while !taken.insert(out.to_lowercase()) {
        n += 1;
        out = format!("{base}_{n}");
    }
    out
}

#[cfg(test)]
mod tests;
