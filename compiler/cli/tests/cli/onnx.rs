//! A few ONNX models, encoded by hand: protobuf is tags, lengths and bytes.

fn varint(mut n: u64) -> Vec<u8> {
    let mut out = vec![];
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out
}
fn number(field: u64, n: u64) -> Vec<u8> {
    [varint(field << 3), varint(n)].concat()
}
fn bytes(field: u64, b: impl AsRef<[u8]>) -> Vec<u8> {
    let b = b.as_ref();
    [varint(field << 3 | 2), varint(b.len() as u64), b.to_vec()].concat()
}

pub(crate) enum D<'a> {
    N(u64),
    S(&'a str),
    Open,
}

/// `f32` is 1, `i64` 7, `bool` 9.
pub(crate) fn port(name: &str, ty: u64, dims: &[D]) -> Vec<u8> {
    let dim = |d: &D| match d {
        D::N(n) => bytes(1, number(1, *n)),
        D::S(s) => bytes(1, bytes(2, s)),
        D::Open => bytes(1, []),
    };
    let shape: Vec<u8> = dims.iter().flat_map(dim).collect();
    [bytes(1, name), bytes(2, bytes(1, [number(1, ty), bytes(2, shape)].concat()))].concat()
}

pub(crate) fn f32s(name: &str, dims: &[u64], v: &[f32]) -> Vec<u8> {
    let raw: Vec<u8> = v.iter().flat_map(|x| x.to_le_bytes()).collect();
    let dims: Vec<u8> = dims.iter().flat_map(|&d| number(1, d)).collect();
    [dims, number(2, 1), bytes(8, name), bytes(9, raw)].concat()
}

pub(crate) fn node(op: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|i| bytes(1, i)).collect();
    [inputs, bytes(2, output), bytes(3, format!("n_{output}")), bytes(4, op)].concat()
}

/// A model of operator set 20.
pub(crate) fn model(inputs: &[Vec<u8>], held: &[Vec<u8>], nodes: &[Vec<u8>], outputs: &[Vec<u8>]) -> Vec<u8> {
    let all = |field: u64, v: &[Vec<u8>]| -> Vec<u8> { v.iter().flat_map(|b| bytes(field, b)).collect() };
    let graph = [all(1, nodes), bytes(2, "g"), all(5, held), all(11, inputs), all(12, outputs)].concat();
    [number(1, 10), bytes(2, "by hand"), bytes(7, graph), bytes(8, number(2, 20))].concat()
}
