"""Writes src/onnx/schema_microsoft.rs: what ONNX Runtime says of its own operators (MIT, from the `onnxruntime` package).

Run: pip install onnxruntime==1.32.0 && python proto/make_schema_microsoft.py > src/onnx/schema_microsoft.rs
"""
from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

KIND = {"INT": "Int", "INTS": "Ints", "FLOAT": "Float", "FLOATS": "Floats", "STRING": "Str", "STRINGS": "Strs", "TENSOR": "Tensor",
        "GRAPH": "Graph", "SPARSE_TENSOR": "Sparse", "TYPE_PROTO": "Type"}
print("//! What ONNX Runtime says of its own operators. Made by proto/make_schema_microsoft.py from onnxruntime 1.32.0.\n")
print("use super::schema::AttrKind::*;\nuse super::schema::Schema;\n")
print("/// Sorted by domain, name, version. `SimplifiedLayerNormalization` is ONNX Runtime's too, though exporters put it into ai.onnx.")
print("#[rustfmt::skip]\npub(super) static SCHEMAS: &[Schema] = &[")
big = 1 << 30
ours = [s for s in get_all_operator_schema()
        if s.domain == "com.microsoft" or (s.domain == "" and s.name == "SimplifiedLayerNormalization")]
for s in sorted(ours, key=lambda s: (s.domain, s.name, s.since_version)):
    ins = ", ".join('"%s"' % i.name for i in s.inputs)
    attrs = ", ".join('("%s", %s, %s)' % (k, KIND[str(a.type).split(".")[-1]], str(a.required).lower()) for k, a in sorted(s.attributes.items()))
    rng = lambda lo, hi: "(%d, %s)" % (lo, "u32::MAX" if hi >= big else hi)
    print('    Schema { domain: "%s", name: "%s", since: %d, operands: &[%s], inputs: %s, outputs: %s, attrs: &[%s] },'
          % (s.domain, s.name, s.since_version, ins, rng(s.min_input, s.max_input), rng(s.min_output, s.max_output), attrs))
print("];")
