//! The files of ONNX's backend tests: `test_data_set_*/input_0.pb`, `output_0.pb`.

use crate::proto::{TensorProto, TypeProto, ValueInfoProto};
use crate::store::Store;
use crate::{Budget, map, tensor_proto};
use prost::Message;
use std::path::Path;
use tahoma_core::{Diagnostic, Diagnostics, Tensor};

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
