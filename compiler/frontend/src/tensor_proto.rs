//! `TensorProto`: number type, extents, and packed bytes from whichever of its seven fields holds them (ONNX IR, "Tensors").

use crate::Budget;
use crate::external::open_below;
use crate::file::Data;
use crate::proto::{TensorProto, tensor_proto::DataLocation};
use crate::store::Store;
use prost::bytes::Bytes;
use std::path::Path;
use tahoma_core::{DType, Diagnostic, Tensor};

/// A tensor as read: packed little-endian bytes, shared with the file where it holds them so.
#[derive(Clone, Debug)]
pub(crate) struct RawTensor {
    pub(crate) dtype: DType,
    pub(crate) dims: Vec<usize>,
    pub(crate) bytes: Data,
}

impl RawTensor {
    pub(crate) fn len(&self) -> usize {
        self.dims.iter().product()
    }
    pub(crate) fn tensor(&self) -> Result<Tensor, Diagnostic> {
        Tensor::from_bytes(self.dtype, &self.dims, &self.bytes.read()?)
            .ok_or_else(|| Diagnostic::error("E0206", "the tensor's bytes do not match its type and extents"))
    }
}

/// Names of ONNX's number types by code; the types we compute with have a [`DType`].
pub(crate) fn dtype(code: i32) -> Result<DType, String> {
    use DType::*;
    const TYPES: [Result<DType, &str>; 27] = [
        Err("undefined"),
        Ok(F32),
        Ok(U8),
        Ok(I8),
        Ok(U16),
        Ok(I16),
        Ok(I32),
        Ok(I64),
        Err("string"),
        Ok(Bool),
        Ok(F16),
        Ok(F64),
        Ok(U32),
        Ok(U64),
        Err("complex64"),
        Err("complex128"),
        Ok(BF16),
        Ok(F8E4M3FN),
        Ok(F8E4M3FNUZ),
        Ok(F8E5M2),
        Ok(F8E5M2FNUZ),
        Ok(U4),
        Ok(I4),
        Ok(F4E2M1),
        Ok(F8E8M0),
        Ok(U2),
        Ok(I2),
    ];
    match usize::try_from(code).ok().and_then(|c| TYPES.get(c)) {
        Some(Ok(d)) => Ok(*d),
        Some(Err(name)) => Err(format!("number type {name} is not supported")),
        None => Err(format!("{code} is not a number type of ONNX")),
    }
}

/// Reads a tensor. `store` remembers open external files; `base` is the model's folder (`None`: no external data).
pub(crate) fn read(t: &TensorProto, what: &str, base: Option<&Path>, store: &mut Store, budget: &Budget) -> Result<RawTensor, Diagnostic> {
    let bad = |why: String| Diagnostic::error("E0206", format!("{what}: {why}"));
    let dtype = dtype(t.data_type()).map_err(|why| Diagnostic::error("E0204", format!("{what}: {why}")))?;
    let mut count = 1u64;
    let mut dims = Vec::with_capacity(t.dims.len());
    for &d in &t.dims {
        let n = u64::try_from(d).map_err(|_| Diagnostic::error("E0207", format!("{what}: dimension {d} is negative")))?;
        // An extent of 0 does not excuse the others: strides are made of them.
        count = count.checked_mul(n.max(1)).filter(|&c| c <= budget.elements).ok_or_else(|| {
            Diagnostic::error("E0107", format!("{what}: extents {:?} ask for more than {} elements", t.dims, budget.elements))
        })?;
        dims.push(n as usize);
    }
    if dims.contains(&0) {
        count = 0;
    }
    if t.segment.is_some() {
        return Err(bad("segmented tensors are not supported".into()));
    }
    let want = dtype.bytes_for(count as usize);
    let bytes = if t.data_location() == DataLocation::External {
        external(t, what, want, base, store)?
    } else if t.raw_data.is_some() || count == 0 {
        t.raw_data.clone().unwrap_or_default().into()
    } else {
        Bytes::from(typed_fields(t, dtype)).into()
    };
    if bytes.len() != want {
        return Err(bad(format!("{dtype}{dims:?} needs {want} bytes, the file has {}", bytes.len())));
    }
    Ok(RawTensor { dtype, dims, bytes })
}

/// Packs the typed field that ONNX assigns to the number type.
fn typed_fields(t: &TensorProto, dtype: DType) -> Vec<u8> {
    use DType::*;
    match dtype {
        F32 | TF32 => t.float_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        F64 => t.double_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        I64 => t.int64_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        U64 => t.uint64_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        U32 => t.uint64_data.iter().flat_map(|x| (*x as u32).to_le_bytes()).collect(),
        I32 => t.int32_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        // Bit patterns for f16 and bf16.
        I16 | U16 | F16 | BF16 => t.int32_data.iter().flat_map(|x| (*x as u16).to_le_bytes()).collect(),
        // One element per int, or (below 8 bits) one packed byte per int.
        _ => t.int32_data.iter().map(|x| *x as u8).collect(),
    }
}

fn external(t: &TensorProto, what: &str, want: usize, base: Option<&Path>, store: &mut Store) -> Result<Data, Diagnostic> {
    let refuse = |why: String| Diagnostic::error("E0103", format!("{what}: {why}"));
    let base = base.ok_or_else(|| refuse("external data needs a model read from a file".into()))?;
    let (mut location, mut offset, mut length) = (None, 0u64, None);
    for e in &t.external_data {
        let number =
            || e.value().trim().parse::<u64>().map_err(|_| refuse(format!("external data {}: {:?} is not a number", e.key(), e.value())));
        match e.key() {
            "location" => location = Some(e.value()),
            "offset" => offset = number()?,
            "length" => length = Some(number()?),
            "checksum" | "basepath" => {}
            key => return Err(refuse(format!("external data has an unknown key {key:?}"))),
        }
    }
    let location = location.ok_or_else(|| refuse("external data names no location".into()))?;
    let known = Path::new(location).components().all(|c| matches!(c, std::path::Component::Normal(_))).then(|| base.join(location));
    let file = match known.and_then(|p| store.file(&p)) {
        Some(file) => file,
        None => store.add_file(open_below(base, location).map_err(|mut d| {
            d.message = format!("{what}: {}", d.message);
            d
        })?),
    };
    let length = length.unwrap_or(want as u64);
    if offset.checked_add(length).is_none_or(|e| e > file.len()) {
        return Err(refuse(format!("external data {location:?} has {} bytes, not {length} from byte {offset} on", file.len())));
    }
    Ok(Data::File { file, offset, len: length as usize })
}
