//! Arrays read back as they were written; malformed ones are refused.

use super::*;
use half::{bf16, f16};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// A 2 by 3 tensor of every number type.
fn samples() -> Vec<Tensor> {
    let make = |d: DType| {
        let buffer = match d {
            DType::F64 => Buffer::F64(vec![0.5, -1.0, f64::INFINITY, 3.0, 4.0, f64::NAN]),
            DType::F32 | DType::TF32 => Buffer::F32(vec![0.5, -1.0, f32::MIN_POSITIVE, 3.0, 4.0, 5.0]),
            DType::F16 => Buffer::F16((0..6).map(|i| f16::from_f32(i as f32 / 3.0)).collect()),
            DType::BF16 => Buffer::BF16((0..6).map(|i| bf16::from_f32(i as f32 / 3.0)).collect()),
            DType::I64 => Buffer::I64(vec![i64::MIN, -1, 0, 1, 2, i64::MAX]),
            DType::I32 => Buffer::I32(vec![i32::MIN, -1, 0, 1, 2, i32::MAX]),
            DType::I16 => Buffer::I16(vec![i16::MIN, -1, 0, 1, 2, i16::MAX]),
            DType::I8 => Buffer::I8(vec![-128, -1, 0, 1, 2, 127]),
            DType::I4 | DType::I2 => Buffer::I8(vec![-2, -1, 0, 1, -2, 1]),
            DType::U64 => Buffer::U64(vec![0, 1, 2, 3, 4, u64::MAX]),
            DType::U32 => Buffer::U32(vec![0, 1, 2, 3, 4, u32::MAX]),
            DType::U16 => Buffer::U16(vec![0, 1, 2, 3, 4, u16::MAX]),
            _ => Buffer::U8(vec![0, 1, 1, 0, 1, 0]),
        };
        Tensor::new(d, &[2, 3], buffer)
    };
    DType::all().map(make).collect()
}

#[test]
fn every_type_comes_back_as_written() {
    for t in samples() {
        let back = parse(&print(&t), Some(t.dtype())).unwrap_or_else(|e| panic!("{}: {e}", t.dtype()));
        assert_eq!(back.shape(), t.shape());
        assert_eq!(back.to_bytes().len() * 8 / 6, back.dtype().bits() as usize);
        match t.dtype() {
            // NumPy has no name for these; values stay, the type widens.
            DType::TF32 | DType::I4 | DType::I2 | DType::U4 | DType::U2 => assert_eq!(widened(&back), widened(&t)),
            _ => assert_eq!(back, t),
        }
    }
}

#[test]
fn fortran_order_and_big_endian_are_read() {
    let mut file = print(&Tensor::new(DType::I16, &[2, 3], Buffer::I16(vec![0x0100, 0x0400, 0x0200, 0x0500, 0x0300, 0x0600])));
    let text = String::from_utf8_lossy(&file[10..]).replace("<i2", ">i2").replace("False, ", "True,  ");
    let header = text.find('\n').unwrap() + 1;
    file.splice(10..10 + header, text.bytes().take(header));
    let t = parse(&file, None).unwrap();
    assert_eq!(t.buffer(), &Buffer::I16(vec![1, 2, 3, 4, 5, 6]));
}

#[test]
fn numpys_own_header_is_what_we_write() {
    // numpy.save of numpy.float32([[1, 2]]), numpy 2.2.
    let mut want = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }".to_vec();
    want.resize(127, b' ');
    want.push(b'\n');
    want.extend([0, 0, 128, 63, 0, 0, 0, 64]);
    assert_eq!(print(&Tensor::f32(&[1, 2], vec![1.0, 2.0])), want);
}

fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
    let mut f = b"\x93NUMPY\x01\x00".to_vec();
    f.extend((header.len() as u16).to_le_bytes());
    f.extend(header.bytes());
    f.extend(data);
    f
}

#[test]
fn malformed_files_say_what_is_wrong() {
    let d = "'fortran_order': False, 'shape': (2,), }";
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"".to_vec(), "does not start"),
        (b"\x93NUMPY".to_vec(), "version"),
        (b"\x93NUMPY\x09\x00vv".to_vec(), "version 9"),
        (b"\x93NUMPY\x01\x00\xff\xff{".to_vec(), "within its header"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{".to_vec(), "most"),
        (with_header("{", b""), "quoted"),
        (with_header("{'descr': '<f4'}", b""), "missing"),
        (with_header("{'descr': '<f4', 'descr': '<f4', }", b""), "twice"),
        (with_header("{'descr': [('a', '<f4')], }", b""), "structured"),
        (with_header(&format!("{{'descr': '|O', {d}"), &[0; 16]), "'|O'".trim_matches('\'')),
        (with_header(&format!("{{'descr': '<c8', {d}"), &[0; 16]), "<c8"),
        (with_header(&format!("{{'descr': '|V2', {d}"), &[0; 4]), "raw"),
        (with_header(&format!("{{'descr': '<f4', {d}"), &[0; 7]), "7 bytes"),
        (with_header(&format!("{{'descr': '<f4', {d}"), &[0; 9]), "9 bytes"),
        (with_header(&format!("{{'descr': '<f4', {d} x"), &[0; 8]), "after"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", b""), "whole number"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296, 4), }", b""), "memory"),
        (with_header("{'descr': '<f4', 'fortran_order': 1, 'shape': (1,), }", b""), "True"),
    ];
    for (bytes, want) in cases {
        let e = parse(&bytes, None).unwrap_err();
        assert!(e.contains(want), "{e:?} should say {want:?}");
    }
}

#[test]
fn names_become_safe_files() {
    let mut taken = BTreeSet::new();
    let names = ["softmax_11.tmp_0", "a/b", "a:b", "../x", "", "A_b", "é"];
    let got: Vec<_> = names.iter().map(|n| safe_name(n, &mut taken)).collect();
    assert_eq!(got, ["softmax_11.tmp_0", "a_b", "a_b_2", "_._x", "output", "A_b_3", "_"]);
}

proptest! {
    /// Damaged files are refused or read; never a panic.
    #[test]
    fn any_bytes_are_survived(mut at in 0usize..140, byte in any::<u8>(), cut in 0usize..150) {
        let mut f = print(&Tensor::f32(&[2, 2], vec![1.0; 4]));
        at %= f.len();
        f[at] = byte;
        f.truncate(cut);
        let _ = parse(&f, Some(DType::BF16));
    }
}

/// `numpy.array([["ab", "é"], ["", "x y"]])` as NumPy saves it, and its big-endian and byte forms.
#[test]
fn strings_come_back_as_written() {
    let t = Text::new(&[2, 2], ["ab", "é", "", "x y"].map(String::from).to_vec()).unwrap();
    let file = print_text(&t);
    assert!(String::from_utf8_lossy(&file).contains("'<U3'"));
    let back = |file: &[u8]| Raw::of(file).and_then(|r| r.text());
    assert_eq!(back(&file), Ok(t.clone()));
    let swapped = [head(">U3", &[2, 2]), file[128..].as_chunks::<4>().0.iter().flat_map(|c| [c[3], c[2], c[1], c[0]]).collect()].concat();
    assert_eq!(back(&swapped), Ok(t));
    let bytes = [head("|S2", &[2]), b"a\0bc".to_vec()].concat();
    assert_eq!(back(&bytes).map(|t| t.words), Ok(vec!["a".to_string(), "bc".to_string()]));
    let bad = [head("<U1", &[1]), vec![0xff; 4]].concat();
    assert!(back(&bad).is_err_and(|e| e.contains("no character")));
    assert!(back(&[head("<U99999999999", &[1]), vec![]].concat()).is_err());
    assert!(parse(&file, None).is_err_and(|e| e.contains("strings, where numbers are due")));
}
