"""One Llama-style block as an ONNX model with seeded weights: RMSNorm, attention with a causal mask, SwiGLU, two residuals.

    python block.py OUT.onnx
"""

import sys

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

SEQUENCE, WIDTH, HEADS, HIDDEN = 128, 256, 4, 688


class Graph:
    """Nodes and weights as they are added; every method returns the name of its result."""

    def __init__(self, seed):
        self.nodes, self.weights = [], []
        self.random = numpy.random.default_rng(seed)

    def constant(self, name, value):
        self.weights.append(numpy_helper.from_array(numpy.asarray(value), name))
        return name

    def weight(self, name, rows, columns):
        return self.constant(name, (self.random.standard_normal((rows, columns)) / numpy.sqrt(rows)).astype(numpy.float32))

    def add(self, op, inputs, result, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [result], name=result + "/" + op, **attributes))
        return result

    def rms_norm(self, x, name):
        gain = self.constant(name + ".gain", numpy.abs(self.random.standard_normal(WIDTH)).astype(numpy.float32))
        square = self.add("Pow", [x, "two"], name + ".square")
        mean = self.add("ReduceMean", [square, "last"], name + ".mean", keepdims=1)
        shifted = self.add("Add", [mean, "epsilon"], name + ".shifted")
        root = self.add("Sqrt", [shifted], name + ".root")
        normal = self.add("Div", [x, root], name + ".normal")
        return self.add("Mul", [normal, gain], name)

    def heads(self, x, name, order):
        projected = self.add("MatMul", [x, self.weight(name + ".weight", WIDTH, WIDTH)], name + ".projected")
        split = self.add("Reshape", [projected, "split"], name + ".split")
        return self.add("Transpose", [split], name, perm=order)


def main():
    g = Graph(7)
    g.constant("epsilon", numpy.float32(1e-5))
    g.constant("two", numpy.float32(2.0))
    g.constant("last", numpy.array([-1], numpy.int64))
    g.constant("split", numpy.array([1, SEQUENCE, HEADS, WIDTH // HEADS], numpy.int64))
    g.constant("join", numpy.array([1, SEQUENCE, WIDTH], numpy.int64))
    g.constant("scale", numpy.float32((WIDTH // HEADS) ** -0.5))
    g.constant("mask", numpy.triu(numpy.full((SEQUENCE, SEQUENCE), -1e9, numpy.float32), 1))
    x = g.rms_norm("x", "norm1")
    q, k, v = g.heads(x, "q", [0, 2, 1, 3]), g.heads(x, "k", [0, 2, 3, 1]), g.heads(x, "v", [0, 2, 1, 3])
    scores = g.add("Mul", [g.add("MatMul", [q, k], "scores"), "scale"], "scaled")
    weights = g.add("Softmax", [g.add("Add", [scores, "mask"], "masked")], "weights", axis=-1)
    mixed = g.add("Transpose", [g.add("MatMul", [weights, v], "mixed")], "mixed.t", perm=[0, 2, 1, 3])
    joined = g.add("Reshape", [mixed, "join"], "joined")
    attention = g.add("MatMul", [joined, g.weight("o.weight", WIDTH, WIDTH)], "attention")
    h = g.add("Add", ["x", attention], "h")
    z = g.rms_norm(h, "norm2")
    gate = g.add("MatMul", [z, g.weight("gate.weight", WIDTH, HIDDEN)], "gate")
    silu = g.add("Mul", [gate, g.add("Sigmoid", [gate], "gate.sigmoid")], "silu")
    up = g.add("MatMul", [z, g.weight("up.weight", WIDTH, HIDDEN)], "up")
    down = g.add("MatMul", [g.add("Mul", [silu, up], "gated"), g.weight("down.weight", HIDDEN, WIDTH)], "down")
    y = g.add("Add", [h, down], "y")
    shape = [1, SEQUENCE, WIDTH]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", y)]
    model = helper.make_model(helper.make_graph(g.nodes, "block", ports[:1], ports[1:], g.weights), opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, sys.argv[1])


if __name__ == "__main__":
    main()
