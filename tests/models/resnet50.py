"""ResNet-50 with seeded weights: the topology of onnx's light_resnet50, whose weights are one number each, with numbers worth computing.

    python resnet50.py OUT

OUT/model.onnx (102 MB, opset 9), OUT/inputs/gpu_0_data_0.npy (1 x 3 x 224 x 224), OUT/outputs/*.npy by onnxruntime
"""

import pathlib
import sys

import numpy
import onnx
import onnxruntime
from onnx import numpy_helper

from prepare import save


def weights(name, shape, role, rng):
    """He's initialisation for filters; batch-norm parameters near those of a trained network."""
    if role == "scale":
        return rng.uniform(0.6, 1.0, shape)
    if role == "var":
        return rng.uniform(0.5, 1.5, shape)
    if len(shape) == 2:
        # The classifier: small, so that the softmax does not saturate.
        return rng.standard_normal(shape) * 1e-3
    if len(shape) > 1:
        return rng.standard_normal(shape) * numpy.sqrt(2.0 / numpy.prod(shape[1:]))
    return rng.standard_normal(shape) * 0.1


def main():
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    source = pathlib.Path(onnx.__file__).parent / "backend/test/data/light/light_resnet50.onnx"
    model = onnx.load(source)
    graph = model.graph
    rng = numpy.random.default_rng(50)
    shapes = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    roles = {}
    for node in graph.node:
        if node.op_type == "BatchNormalization":
            roles.update(zip(node.input[1:], ("scale", "bias", "mean", "var")))
    made, kept = [], []
    for node in graph.node:
        if node.op_type != "ConstantOfShape":
            kept.append(node)
            continue
        shape = tuple(int(n) for n in shapes.pop(node.input[0]))
        value = weights(node.output[0], shape, roles.get(node.output[0]), rng).astype(numpy.float32)
        made.append(numpy_helper.from_array(value, node.output[0]))
    data = [i for i in graph.input if i.name not in {t.name for t in graph.initializer}]
    del graph.node[:], graph.initializer[:], graph.input[:]
    graph.node.extend(kept)
    graph.initializer.extend([*made, *(numpy_helper.from_array(v, n) for n, v in shapes.items())])
    graph.input.extend(i for i in data if i.name not in {t.name for t in made})
    model.ir_version = 8  # before 4, initialisers had to be inputs too
    onnx.save(model, out / "model.onnx")
    feeds = {"gpu_0/data_0": rng.standard_normal((1, 3, 224, 224)).astype(numpy.float32)}
    session = onnxruntime.InferenceSession(str(out / "model.onnx"), providers=["CPUExecutionProvider"])
    save(out / "inputs", feeds)
    save(out / "outputs", dict(zip((o.name for o in session.get_outputs()), session.run(None, feeds))))


if __name__ == "__main__":
    main()
