//! Strings of strangers on their way into text.
//!
//! Names of nodes, tensors, functions, dimensions and files come from the model, and a model may be hostile: a carriage return ends a
//! comment of Python, an escape sequence drives the terminal, a quote ends a string of MLIR. So no emitter takes such a string as it is.
//! Each takes one of these types, which can be made of any string and whose text stays in its place:
//!
//! ```text
//! Ident    a name in Python, PTX and MLIR, and of a file    [A-Za-z][A-Za-z0-9_]*, at most 64
//! Line     a comment, a line on the terminal                 printable, no line end, not endless
//! Quoted   a string of MLIR                                  "…", printable ASCII
//! Label    a string of Graphviz                              "…", one line
//! json     a JSON text                                       printable
//! ```

use std::fmt::{self, Display, Write};

/// Whether a character may be shown as it is: a letter, mark, digit, sign or the ASCII space. Controls (C0, C1), formats (bidirectional
/// marks, zero-width characters), line and paragraph separators, other spaces, private and unassigned characters may not.
fn printable(c: char) -> bool {
    if c.is_ascii() {
        return (' '..='~').contains(&c);
    }
    // Rust's own table; behind a letter, so that a combining mark counts as one.
    let mut two = [0; 5];
    two[0] = b'a';
    let n = c.encode_utf8(&mut two[1..]).len();
    str::from_utf8(&two[..=n]).is_ok_and(|s| s.escape_debug().count() == 2)
}

/// Writes what is not printable as Rust does: `\r`, `\u{202e}`.
fn visible(f: &mut impl Write, c: char) -> fmt::Result {
    if printable(c) { f.write_char(c) } else { write!(f, "{}", c.escape_default()) }
}

/// The text with everything that is not printable, line ends too, written as `\u{…}`.
pub fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let _ = visible(&mut out, c);
    }
    out
}

/// One line of printable text: a comment in a kernel, a line of a diagnostic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line(String);

impl Line {
    /// Most characters that are shown, and how many the note on the others takes at the most: a line that was cut is not cut again.
    const LONGEST: usize = 4000;
    const NOTE: usize = 40;

    /// The text as [`shown`]; what is beyond 4,000 characters is counted only.
    pub fn of(text: &str) -> Line {
        let mut out = shown(text);
        let most = Line::LONGEST + Line::NOTE;
        if out.len() > most && out.chars().nth(most).is_some() {
            let (end, all) = (out.char_indices().nth(Line::LONGEST).map_or(out.len(), |(i, _)| i), out.chars().count());
            out.truncate(end);
            let _ = write!(out, "… ({} more characters)", all - Line::LONGEST);
        }
        Line(out)
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Several lines for a terminal: as [`Line`], where line ends are ours and stay.
pub fn lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let _ = if c == '\n' { out.write_char(c) } else { visible(&mut out, c) };
    }
    out
}

/// A name that Python, PTX and MLIR take and that can be a file's: letters, digits and `_` of ASCII, no word that means something there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ident(String);

impl Ident {
    /// Most characters of a name.
    const LONGEST: usize = 64;

    /// The name itself where it is one; else what it has of one and a hash of it, so that different names stay different.
    pub fn of(name: &str) -> Ident {
        if let Some(same) = Ident::exact(name) {
            return same;
        }
        let kept: String =
            name.chars().take(Ident::LONGEST - 20).map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
        // FNV-1a, 64 bits.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        Ident(format!("k_{kept}_{hash:016x}"))
    }
    /// The name, if it is one as it stands.
    pub fn exact(name: &str) -> Option<Ident> {
        let sound = name.len() <= Ident::LONGEST
            && name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !TAKEN.contains(&name);
        sound.then(|| Ident(name.into()))
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Display for Ident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl From<Ident> for String {
    fn from(i: Ident) -> String {
        i.0
    }
}

/// Words that a kernel cannot be named by: those of Python, and what emitted Python uses.
const TAKEN: &[&str] = &[
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del", "elif", "else", "except",
    "finally", "float", "for", "from", "global", "if", "import", "in", "is", "lambda", "nisa", "nki", "nl", "nonlocal", "not", "or",
    "pass", "raise", "range", "return", "try", "while", "with", "yield",
];

/// A string of MLIR with its quotes: what is not printable ASCII stands as `\XX`, byte by byte.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(pub &'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for b in self.0.bytes() {
            match b {
                b'"' | b'\\' => write!(f, "\\{b:02X}")?,
                b' '..=b'~' => f.write_char(b as char)?,
                b => write!(f, "\\{b:02X}")?,
            }
        }
        f.write_char('"')
    }
}

/// A string of Graphviz's language with its quotes; `\n` in the text begins a new line of the label.
#[derive(Clone, Copy, Debug)]
pub struct Label<'a>(pub &'a str);

impl Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for (i, part) in self.0.split('\n').enumerate() {
            if i > 0 {
                f.write_str("\\n")?;
            }
            f.write_str(&shown(part).replace('\\', "\\\\").replace('"', "\\\""))?;
        }
        f.write_char('"')
    }
}

/// A JSON text in which only printable characters stand as they are: what a serialiser lets through inside strings (DEL, C1, marks of
/// direction) becomes `\uXXXX`. Line ends between values stay.
pub fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || printable(c) {
            out.push(c);
        } else {
            let mut units = [0; 2];
            for u in c.encode_utf16(&mut units) {
                let _ = write!(out, "\\u{u:04x}");
            }
        }
    }
    out
}

/// Strings that end, open or turn something in one text or another, for tests of whatever prints names.
#[doc(hidden)]
pub fn hostile() -> Vec<String> {
    let mut all: Vec<String> = vec![String::new(), " ".into(), "x".repeat(70_000), "e\u{301}".into(), "\u{e9}".into()];
    // All of C0 and C1, DEL, line ends of every kind, marks of direction, zero width, a byte order mark, beyond the first plane.
    let odd = (0..0x20).chain(0x7f..0xa1).filter_map(char::from_u32).chain("\u{2028}\u{2029}\u{feff}\u{1f600}\u{e0001}".chars());
    let marks = "\u{200b}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}".chars();
    all.extend(odd.chain(marks).map(|c| format!("a{c}raise SystemExit(7){c}#")));
    let words = [
        "\"",
        "'",
        "\"\"\"",
        "'''",
        "\\",
        "\\\"",
        "\\n",
        "*/",
        "/*",
        "//",
        "#",
        "-->",
        "<!--",
        "</script>",
        "<b>",
        "&amp;",
        "${x}",
        "{x}",
        "{0}",
        "%s",
        "%n",
        "%0",
        "@x",
        "`id`",
        "$(id)",
        ";",
        "a;b",
        "../../x",
        "/etc/x",
        "a/b",
        "a\\b",
        ".",
        "..",
        "-rf",
        "CON",
        "a b",
        "def f():",
        "import os",
        "pass",
        "range",
        "None",
        "nki",
        ") -> () { return }",
        "\n  return\n}\nmodule {",
        "\r\nimport os\r\n",
        "\x1b[31m",
        "\x1b]0;t\x07",
        "ret;",
        "}\n.visible .entry f() { ret; }",
        "\u{9b}31m",
        "名前",
        "שלום",
        "नमस्ते",
    ];
    all.extend(words.iter().map(|w| w.to_string()));
    all
}

#[cfg(test)]
mod tests;
