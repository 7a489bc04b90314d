"""Writes src/onnx/schema_table.rs: what ONNX says of every operator version (Apache-2.0, from the `onnx` package).

Run: pip install onnx==1.23.2 && python proto/make_schema.py > src/onnx/schema_table.rs
"""
from onnx import defs

KIND = {"INT": "Int", "INTS": "Ints", "FLOAT": "Float", "FLOATS": "Floats", "STRING": "Str", "STRINGS": "Strs", "TENSOR": "Tensor",
        "GRAPH": "Graph", "SPARSE_TENSOR": "Sparse", "TYPE_PROTO": "Type"}
print("//! What ONNX says of every operator version: operands, results, attributes. Made by proto/make_schema.py from onnx 1.23.2.\n")
print("use super::schema::AttrKind::*;\nuse super::schema::Schema;\n")
print("/// Sorted by domain, name, version.")
print("#[rustfmt::skip]\npub(super) static SCHEMAS: &[Schema] = &[")
big = 1 << 30
for s in sorted(defs.get_all_schemas_with_history(), key=lambda s: (s.domain, s.name, s.since_version)):
    ins = ", ".join('"%s"' % i.name for i in s.inputs)
    attrs = ", ".join('("%s", %s, %s)' % (k, KIND[str(a.type).split(".")[-1]], str(a.required).lower()) for k, a in sorted(s.attributes.items()))
    rng = lambda lo, hi: "(%d, %s)" % (lo, "u32::MAX" if hi >= big else hi)
    print('    Schema { domain: "%s", name: "%s", since: %d, operands: &[%s], inputs: %s, outputs: %s, attrs: &[%s] },'
          % (s.domain, s.name, s.since_version, ins, rng(s.min_input, s.max_input), rng(s.min_output, s.max_output), attrs))
print("];")
