//! Every hostile string stays in its place, and stays different from every other where it is a name.

use super::*;
use std::collections::BTreeSet;

#[test]
fn a_line_is_one_line_of_printable_characters() {
    for h in hostile() {
        let l = Line::of(&h).to_string();
        assert!(l.chars().all(printable), "{h:?} gave {l:?}");
        assert!(l.chars().count() < 5000);
        assert_eq!(Line::of(&l).as_str(), l, "a line read back is the same");
    }
    assert_eq!(Line::of("a\rb\u{202e}c\x1b[2J").as_str(), "a\\rb\\u{202e}c\\u{1b}[2J");
    assert_eq!(Line::of("e\u{301} ü 名 -> \"q\" \\ é").as_str(), "e\u{301} ü 名 -> \"q\" \\ é");
    assert_eq!(lines("a\nb\r\x1b"), "a\nb\\r\\u{1b}");
}

#[test]
fn an_identifier_is_one_in_every_language_and_names_stay_different() {
    let mut seen = BTreeSet::new();
    for h in hostile() {
        let i = Ident::of(&h);
        assert_eq!(Ident::exact(i.as_str()).as_ref(), Some(&i), "{h:?} gave {i}");
        assert!(seen.insert(i.to_string()), "{h:?} is named as another");
    }
    assert_eq!(Ident::of("matmul_3").as_str(), "matmul_3");
    for word in ["pass", "range", "nki", "_x", "3", "a.b", "a-b", "ü", ""] {
        assert_eq!(Ident::exact(word), None, "{word}");
    }
}

#[test]
fn a_quoted_string_ends_where_it_ends() {
    for h in hostile() {
        let q = Quoted(&h).to_string();
        let inner = q.strip_prefix('"').and_then(|q| q.strip_suffix('"')).unwrap();
        assert!(!inner.contains('"') && inner.bytes().all(|b| (b' '..=b'~').contains(&b)), "{q}");
        // Each backslash has two digits behind it.
        let mut parts = inner.split('\\');
        parts.next();
        assert!(parts.all(|p| p.get(..2).is_some_and(|d| u8::from_str_radix(d, 16).is_ok())), "{q}");
    }
}

#[test]
fn a_label_of_graphviz_ends_where_it_ends() {
    for h in hostile() {
        let q = Label(&h).to_string();
        assert!(q.chars().all(printable), "{q:?}");
        let inner = q.strip_prefix('"').and_then(|q| q.strip_suffix('"')).unwrap();
        let mut escaped = false;
        for c in inner.chars() {
            assert!(escaped || c != '"', "{q}");
            escaped = !escaped && c == '\\';
        }
        assert!(!escaped, "{q}");
    }
}

#[test]
fn json_is_printable_and_reads_back_equal() {
    for h in hostile() {
        let text = json(&serde_json::to_string_pretty(&[&h]).unwrap());
        assert!(text.chars().all(|c| c == '\n' || printable(c)), "{text:?}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&text).unwrap(), [h]);
    }
}
