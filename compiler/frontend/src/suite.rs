//! The files of ONNX's backend tests: `test_data_set_*/input_0.pb`, `output_0.pb`.

use crate::proto::{TensorProto, TypeProto, ValueInfoProto};
use crate::store::Store;
use crate::{Budget, map, tensor_proto};
use prost::Message;
use std::path::Path;
use tahoma_core::{DType, Diagnostic, Diagnostics, Tensor, TensorType};

/// Reads a `TensorProto` file: its name and value. Sequences, optionals and strings are E0204.
pub fn read_tensor_pb(path: &Path) -> Result<(String, Tensor), Diagnostics> {
    let bytes = map::open(path)?;
    let what = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let t = TensorProto::decode(bytes).map_err(|e| {
        Diagnostic::error("E0102", format!("{what} is not a tensor: {e}")).note("sequences and optionals of the suite are not read")
    })?;
    let raw = tensor_proto::read(&t, &what, None, &mut Store::default(), &Budget::default())?;
    Ok((t.name().to_string(), raw.tensor()?))
}

/// Names of the inputs of a model that are no tensors (sequences, optionals, maps): `read_tensor_pb` cannot read their files.
pub fn non_tensor_inputs(inputs: &[ValueInfoProto]) -> Vec<String> {
    use crate::proto::type_proto::Value;
    let tensor = |t: &Option<TypeProto>| matches!(t.as_ref().and_then(|t| t.value.as_ref()), Some(Value::TensorType(_)) | None);
    inputs.iter().filter(|i| !tensor(&i.r#type)).map(|i| i.name().to_string()).collect()
}

/// Names of a model's inputs that are not initialisers, in order: the test data of a case may leave its names out.
pub fn input_names(model: &Path) -> Result<Vec<String>, Diagnostics> {
    let name = model.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let m = crate::proto::decode_model(&name, map::open(model)?)?;
    let g = m.graph.unwrap_or_default();
    let held: Vec<&str> = g.initializer.iter().map(|t| t.name()).collect();
    Ok(g.input.iter().map(|i| i.name().to_string()).filter(|n| !held.contains(&n.as_str())).collect())
}

/// The input of a case that stores none (ONNX's `light` models): 0, 1/n, 2/n, … over its n elements, as their outputs were made with.
/// E0209 while the type is not static f32.
pub fn ramp_input(ty: &TensorType) -> Result<Tensor, Diagnostics> {
    match (ty.dtype, ty.shape.to_static()) {
        (DType::F32, Some(dims)) => {
            let n: usize = dims.iter().product();
            Ok(Tensor::f32(&dims, (0..n).map(|i| (i as f64 / n as f64) as f32).collect()))
        }
        _ => Err(Diagnostic::error("E0209", format!("no stored input, and {ty} is not f32 of known extents")).into()),
    }
}
