//! The safetensors format, read strictly: 8 bytes of header length, a JSON header, the tensors' bytes without gap or overlap.
//!
//! Stricter than the reference crate, which takes duplicate keys, a leading space and an empty tensor inside another one.

use crate::json::Json;
use crate::proto::is_pickle;
use tahoma_core::file::Readable;
use tahoma_core::{DType, Diagnostic};

/// Longest header accepted, as in the reference implementation.
const MAX_HEADER: u64 = 100_000_000;
/// Most tensors accepted.
const MAX_TENSORS: usize = 1_000_000;

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub name: String,
    pub dtype: DType,
    pub dims: Vec<usize>,
    /// First byte in the file, and how many.
    pub offset: usize,
    pub len: usize,
}

fn dtype(name: &str) -> Option<DType> {
    use DType::*;
    Some(match name {
        "F64" => F64,
        "F32" => F32,
        "F16" => F16,
        "BF16" => BF16,
        "I64" => I64,
        "I32" => I32,
        "I16" => I16,
        "I8" => I8,
        "U64" => U64,
        "U32" => U32,
        "U16" => U16,
        "U8" => U8,
        "BOOL" => Bool,
        "F8_E4M3" => F8E4M3FN,
        "F8_E4M3FNUZ" => F8E4M3FNUZ,
        "F8_E5M2" => F8E5M2,
        "F8_E5M2FNUZ" => F8E5M2FNUZ,
        "F8_E8M0" => F8E8M0,
        "F4" => F4E2M1,
        _ => return None,
    })
}

/// Reads the header of a whole file and checks every rule of the format; tensors come in the order of their bytes. E0105, E0104 for
/// pickles.
pub fn entries(file: &str, bytes: &[u8]) -> Result<Vec<Entry>, Diagnostic> {
    listed(file, bytes, bytes.len() as u64)
}

/// [`entries`] of a file whose tensors stay where they are. E0101 too.
pub(crate) fn entries_of(name: &str, file: &Readable) -> Result<Vec<Entry>, Diagnostic> {
    let first = file.part(0, file.len().min(8))?;
    let claimed = first[..].try_into().map_or(0, u64::from_le_bytes);
    // A header that claims too much is told by what follows; nothing of it is read.
    let more = if claimed > MAX_HEADER { 0 } else { claimed };
    listed(name, &file.part(0, file.len().min(8 + more))?, file.len())
}

/// `bytes` are the first of `len` in the file, the header at least.
fn listed(file: &str, bytes: &[u8], len: u64) -> Result<Vec<Entry>, Diagnostic> {
    let bad = |why: String| Diagnostic::error("E0105", format!("{file}: {why}"));
    if is_pickle(bytes) {
        let d = Diagnostic::error("E0104", format!("{file} is a pickled checkpoint under another name, which Tahoma never reads"));
        return Err(d.note("save with safetensors: model.save_pretrained(dir, safe_serialization=True)"));
    }
    let head: [u8; 8] =
        bytes.get(..8).and_then(|b| b.try_into().ok()).ok_or_else(|| bad(format!("{} bytes are too few for a header", bytes.len())))?;
    let n = u64::from_le_bytes(head);
    let room = len - 8;
    if n > room || n > MAX_HEADER {
        return Err(bad(format!("the header claims {n} bytes, the file has {room} after its length"))
            .note("the file is truncated, or not safetensors"));
    }
    let header = &bytes[8..8 + n as usize];
    if header.first() != Some(&b'{') {
        return Err(bad("the header must start with '{'".into()));
    }
    let json = Json::parse(header).map_err(|e| bad(format!("the header is not valid JSON: {e}")).caused_by(e))?;
    let data = room - n;
    let mut out = Vec::new();
    for (name, t) in json.object().unwrap_or(&[]) {
        if name == "__metadata__" {
            let plain = t.object().is_some_and(|m| m.iter().all(|(_, v)| v.str().is_some()));
            if !plain {
                return Err(bad("__metadata__ must map strings to strings".into()));
            }
            continue;
        }
        out.push(entry(name, t).map_err(|why| bad(format!("tensor {name:?}: {why}")))?);
        if out.len() > MAX_TENSORS {
            return Err(Diagnostic::error("E0107", format!("{file} holds more than {MAX_TENSORS} tensors")));
        }
    }
    out.sort_by_key(|e| (e.offset, e.len));
    let mut end = 0;
    for e in &mut out {
        if e.offset != end {
            let what = if e.offset > end { "leaves a gap" } else { "overlaps another" };
            return Err(bad(format!("tensor {:?} {what}: it starts at byte {}, the one before it ends at {end}", e.name, e.offset)));
        }
        end = e.offset.checked_add(e.len).filter(|&x| x as u64 <= data).ok_or_else(|| {
            bad(format!("tensor {:?} ends beyond the file's {data} data bytes", e.name)).note("the file is truncated: download it again")
        })?;
        e.offset += 8 + n as usize;
    }
    if end as u64 != data {
        return Err(bad(format!("{} bytes after the last tensor belong to nothing", data - end as u64)));
    }
    Ok(out)
}

fn entry(name: &str, t: &Json) -> Result<Entry, String> {
    let keys = t.object().ok_or("is not an object")?;
    if let Some((k, _)) = keys.iter().find(|(k, _)| !["dtype", "shape", "data_offsets"].contains(&k.as_str())) {
        return Err(format!("has an unknown key {k:?}"));
    }
    let code = t.get("dtype").and_then(Json::str).ok_or("has no dtype")?;
    let dtype = dtype(code).ok_or_else(|| format!("dtype {code:?} is unknown"))?;
    let dims = t.get("shape").and_then(Json::list).ok_or("has no shape")?;
    let mut count = 1usize;
    let mut shape = Vec::new();
    for d in dims {
        let d = d.count().and_then(|d| usize::try_from(d).ok()).ok_or("has an extent that is no whole number from 0 up")?;
        // An extent of 0 does not excuse the others: strides are made of them.
        count = count.checked_mul(d.max(1)).filter(|&c| c <= isize::MAX as usize / 8).ok_or("has more elements than fit an address")?;
        shape.push(d);
    }
    if shape.contains(&0) {
        count = 0;
    }
    let offsets = t.get("data_offsets").and_then(Json::list).ok_or("has no data_offsets")?;
    let [a, b] = offsets else { return Err("must have two data_offsets".into()) };
    let at = |x: &Json| x.count().and_then(|x| usize::try_from(x).ok());
    let (Some(a), Some(b)) = (at(a), at(b)) else { return Err("has data_offsets that are no byte positions".into()) };
    let len = b.checked_sub(a).ok_or_else(|| format!("ends at byte {b}, before its start {a}"))?;
    let bits = count.checked_mul(dtype.bits() as usize).ok_or("has more bytes than fit an address")?;
    if !bits.is_multiple_of(8) {
        return Err(format!("{count} elements of {dtype} do not fill whole bytes"));
    }
    if bits / 8 != len {
        return Err(format!("{dtype}{shape:?} needs {} bytes, data_offsets give {len}", bits / 8));
    }
    Ok(Entry { name: name.into(), dtype, dims: shape, offset: a, len })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut b = (header.len() as u64).to_le_bytes().to_vec();
        b.extend(header.as_bytes());
        b.extend(vec![0; data]);
        b
    }

    #[test]
    fn good_files_agree_with_the_reference_crate() {
        let files = [
            file("{}", 0),
            file(
                r#"{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"BF16","shape":[2],"data_offsets":[24,28]}}"#,
                28,
            ),
            file(
                r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]},"a":{"dtype":"I64","shape":[],"data_offsets":[0,8]}}  "#,
                11,
            ),
            file(r#"{"e":{"dtype":"F16","shape":[0,4],"data_offsets":[0,0]},"a":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}}"#, 1),
        ];
        for f in files {
            let theirs = safetensors::SafeTensors::deserialize(&f).unwrap();
            let ours = entries("f", &f).unwrap();
            assert_eq!(theirs.len(), ours.len());
            for e in ours {
                let t = theirs.tensor(&e.name).unwrap();
                assert_eq!((t.shape(), t.data().len()), (&e.dims[..], e.len));
                assert_eq!(t.data().as_ptr(), f[e.offset..].as_ptr());
            }
        }
    }

    #[test]
    fn every_broken_rule_is_named() {
        let t = |s: &str| format!(r#"{{"a":{s}}}"#);
        let ok = r#"{"dtype":"U8","shape":[2],"data_offsets":[0,2]}"#;
        let cases: Vec<(Vec<u8>, &str)> = vec![
            (vec![], "too few"),
            (vec![1, 2, 3], "too few"),
            (u64::MAX.to_le_bytes().to_vec(), "claims"),
            (file("{}", 0)[..9].to_vec(), "claims"),
            (file(" {}", 0), "start with"),
            (file("[]", 0), "start with"),
            (file("{", 0), "JSON"),
            (file(&format!(r#"{{"a":{ok},"a":{ok}}}"#), 2), "twice"),
            (file(&t(r#"{"dtype":"U8","dtype":"U8","shape":[2],"data_offsets":[0,2]}"#), 2), "twice"),
            (file(&t(r#"{"dtype":"Q7","shape":[2],"data_offsets":[0,2]}"#), 2), "unknown"),
            (file(&t(r#"{"shape":[2],"data_offsets":[0,2]}"#), 2), "no dtype"),
            (file(&t(r#"{"dtype":"U8","shape":[-2],"data_offsets":[0,2]}"#), 2), "extent"),
            (file(&t(r#"{"dtype":"U8","shape":[2.0],"data_offsets":[0,2]}"#), 2), "extent"),
            (file(&t(r#"{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,2]}"#), 2), "address"),
            (file(&t(r#"{"dtype":"F64","shape":[4611686018427387904],"data_offsets":[0,2]}"#), 2), "address"),
            (file(&t(r#"{"dtype":"U8","shape":[2],"data_offsets":[2,0]}"#), 2), "before its start"),
            (file(&t(r#"{"dtype":"U8","shape":[2],"data_offsets":[0,3]}"#), 3), "needs 2 bytes"),
            (file(&t(r#"{"dtype":"U8","shape":[2],"data_offsets":[0]}"#), 2), "two data_offsets"),
            (file(&t(r#"{"dtype":"U8","shape":[2],"data_offsets":[1,3]}"#), 3), "gap"),
            (file(&t(ok), 1), "beyond"),
            (file(&t(ok), 3), "belong to nothing"),
            (file(&t(r#"{"dtype":"F4","shape":[3],"data_offsets":[0,2]}"#), 2), "whole bytes"),
            (file(&t(r#"{"dtype":"U8","shape":[2],"data_offsets":[0,2],"x":1}"#), 2), "unknown key"),
            (file(&format!(r#"{{"a":{ok},"b":{{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}}}"#), 3), "overlaps"),
            (file(&format!(r#"{{"a":{ok},"b":{{"dtype":"U8","shape":[0],"data_offsets":[1,1]}}}}"#), 2), "overlaps"),
            (file(&format!(r#"{{"a":{ok},"__metadata__":{{"x":1}}}}"#), 2), "__metadata__"),
        ];
        for (bytes, word) in cases {
            let d = entries("f.safetensors", &bytes).unwrap_err();
            assert_eq!(d.code, "E0105", "{d}");
            assert!(d.message.contains(word), "{word}: {d}");
        }
        assert_eq!(entries("f", b"\x80\x02}q\x00").unwrap_err().code, "E0104");
        assert_eq!(entries("f", b"PK\x03\x04archive/data.pkl").unwrap_err().code, "E0104");
    }
}
