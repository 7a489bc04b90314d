"""Writes what ONNX Runtime makes of Resize on the CPU, over modes, lengths and scales: one line a case, for compiler/frontend/tests/resize.rs.

    python resize.py OUT.tsv

A line: operator and version, attributes (name=value;…), dims, "scales" or "sizes" with its numbers, output dims, output values. The input is `wave` of
its number of elements. What ONNX Runtime refuses is left out.
"""

import itertools
import math
import sys

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

ort.set_default_logger_severity(4)


def wave(n):
    """Numbers without a pattern that interpolation could hide behind, exact in f32."""
    return np.array([((i * 37 + 11) % 64 - 20) / 8 for i in range(n)], np.float32)


LENGTHS = [
    (5, "scales", 1.7), (10, "scales", 0.7), (3, "scales", 0.6), (4, "scales", 0.3), (7, "scales", 2.0), (6, "scales", 1.26), (4, "scales", 0.6),
    (1, "scales", 3.5), (2, "scales", 0.8), (9, "scales", 0.35), (3, "scales", 2.3333333),
    (4, "sizes", 7), (7, "sizes", 3), (5, "sizes", 1), (1, "sizes", 4), (20, "sizes", 6), (3, "sizes", 5),
]
COORDINATES = ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize"]


def forms():
    for c in COORDINATES:
        for nearest in ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]:
            yield {"mode": "nearest", "coordinate_transformation_mode": c, "nearest_mode": nearest}
        yield {"mode": "linear", "coordinate_transformation_mode": c}
        for outside in (0, 1):
            yield {"mode": "cubic", "coordinate_transformation_mode": c, "exclude_outside": outside}
        yield {"mode": "cubic", "coordinate_transformation_mode": c, "cubic_coeff_a": -0.5}
        if c != "tf_crop_and_resize":
            yield {"mode": "linear", "coordinate_transformation_mode": c, "antialias": 1}
            yield {"mode": "cubic", "coordinate_transformation_mode": c, "antialias": 1}


def run(op, opset, form, dims, how, numbers):
    roi = form.get("coordinate_transformation_mode") == "tf_crop_and_resize"
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)]
    rank = len(dims)
    init, names = [], ["x", "", "", ""]
    if roi:
        init.append(helper.make_tensor("roi", TensorProto.FLOAT, [2 * rank], [0.0] * (rank - 1) + [0.125] + [1.0] * (rank - 1) + [0.75]))
        names[1] = "roi"
    if opset < 11:
        init.append(helper.make_tensor("s", TensorProto.FLOAT, [rank], numbers))
        names = ["x", "s"]
    elif how == "scales":
        init.append(helper.make_tensor("s", TensorProto.FLOAT, [rank], numbers))
        names[2] = "s"
    else:
        init.append(helper.make_tensor("s", TensorProto.INT64, [rank], numbers))
        names[3] = "s"
    while not names[-1]:
        names.pop()
    node = helper.make_node(op, names, ["y"], **form)
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], init)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": wave(math.prod(dims)).reshape(dims)})[0]


def main(out):
    lines, refused = [], 0
    old = [("Upsample", 9, {"mode": m}) for m in ("nearest", "linear")] + [("Resize", 10, {"mode": m}) for m in ("nearest", "linear")]
    all_forms = [("Resize", 19, form) for form in forms()] + old
    for (op, opset, form), (n, how, to) in itertools.product(all_forms, LENGTHS):
        if opset < 11 and how == "sizes":
            continue
        # Two rows, so that a fault of the other axis shows too; every fourth case resizes rows as well.
        rows = 3 if len(lines) % 4 == 0 else 1
        dims = [1, 1, rows, n]
        one = 1.0 if how == "scales" else 1
        numbers = [one, one, to if rows == n else (one if how == "scales" else rows), to]
        try:
            y = run(op, opset, form, dims, how, numbers)
        except Exception as e:
            refused += 1
            print(op, opset, form, n, how, to, str(e)[:150], file=sys.stderr)
            continue
        attrs = ";".join(f"{k}={v}" for k, v in form.items())
        shown = " ".join(f"{v:.6g}" for v in y.reshape(-1).tolist())
        lines.append(f"{op}-{opset}\t{attrs}\t{','.join(map(str, dims))}\t{how}\t{','.join(map(str, numbers))}\t{','.join(map(str, y.shape))}\t{shown}")
    with open(out, "w") as f:
        f.write(f"# ONNX Runtime {ort.__version__}, made by tests/models/resize.py\n")
        f.write("\n".join(lines) + "\n")
    print(len(lines), "cases,", refused, "refused")


main(sys.argv[1])
