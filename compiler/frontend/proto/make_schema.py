"""Writes a table of operator descriptions: what ONNX (Apache-2.0) or ONNX Runtime (MIT) says of its own operators.

Run: pip install onnx==1.23.2 onnxruntime==1.32.0
     python proto/make_schema.py onnx > src/onnx/schema_table.rs
     python proto/make_schema.py onnxruntime > src/onnx/schema_microsoft.rs
"""
import sys

KIND = {"INT": "Int", "INTS": "Ints", "FLOAT": "Float", "FLOATS": "Floats", "STRING": "Str", "STRINGS": "Strs", "TENSOR": "Tensor",
        "GRAPH": "Graph", "SPARSE_TENSOR": "Sparse", "TYPE_PROTO": "Type"}


def onnx():
    from onnx import defs

    text = "What ONNX says of every operator version: operands, results, attributes. Made by proto/make_schema.py from onnx 1.23.2."
    return text, "Sorted by domain, name, version.", defs.get_all_schemas_with_history()


def onnxruntime():
    from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

    text = "What ONNX Runtime says of its own operators. Made by proto/make_schema.py from onnxruntime 1.32.0."
    order = "Sorted by domain, name, version. `SimplifiedLayerNormalization` is ONNX Runtime's too, though exporters put it into ai.onnx."
    own = lambda s: s.domain == "com.microsoft" or (s.domain == "" and s.name == "SimplifiedLayerNormalization")
    return text, order, filter(own, get_all_operator_schema())


text, order, schemas = {"onnx": onnx, "onnxruntime": onnxruntime}[sys.argv[1]]()
print("//! %s\n" % text)
print("use super::schema::AttrKind::*;\nuse super::schema::Schema;\n")
print("/// %s" % order)
print("#[rustfmt::skip]\npub(super) static SCHEMAS: &[Schema] = &[")
big = 1 << 30
for s in sorted(schemas, key=lambda s: (s.domain, s.name, s.since_version)):
    ins = ", ".join('"%s"' % i.name for i in s.inputs)
    attrs = ", ".join('("%s", %s, %s)' % (k, KIND[str(a.type).split(".")[-1]], str(a.required).lower()) for k, a in sorted(s.attributes.items()))
    rng = lambda lo, hi: "(%d, %s)" % (lo, "u32::MAX" if hi >= big else hi)
    print('    Schema { domain: "%s", name: "%s", since: %d, operands: &[%s], inputs: %s, outputs: %s, attrs: &[%s] },'
          % (s.domain, s.name, s.since_version, ins, rng(s.min_input, s.max_input), rng(s.min_output, s.max_output), attrs))
print("];")
