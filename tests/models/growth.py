"""ONNX models that only grow: the families of tests/nets/src/growth.rs with seeded weights, and BERT-base.

    python growth.py FAMILY N OUT.onnx        N as there; of bert-base, layers
"""

import sys

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper


class Graph:
    """Nodes and weights as they are added; every method returns the name of its result."""

    def __init__(self):
        self.nodes, self.weights, self.inputs, self.outputs = [], [], [], []
        self.random = numpy.random.default_rng(1)
        self.known = {}

    def input(self, name, *shape, type=TensorProto.FLOAT):
        self.inputs.append(helper.make_tensor_value_info(name, type, shape))
        return name

    def output(self, name, *shape):
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def weight(self, *shape, mean=0.0):
        """Vectors near `mean`; matrices that keep the size of what they multiply."""
        scale = 0.1 if len(shape) == 1 else shape[0] ** -0.5
        name = f"w{len(self.weights)}"
        value = mean + scale * self.random.standard_normal(shape)
        self.weights.append(numpy_helper.from_array(value.astype(numpy.float32), name))
        return name

    def constant(self, value):
        """A constant, once."""
        value = numpy.asarray(value)
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self.known:
            self.known[key] = f"c{len(self.known)}"
            self.weights.append(numpy_helper.from_array(value, self.known[key]))
        return self.known[key]

    def number(self, value):
        return self.constant(numpy.float32(value))

    def add(self, op, *inputs, **attributes):
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"{op}_{len(self.nodes)}", **attributes))
        return name

    def linear(self, x, rows, columns):
        return self.add("Add", self.add("MatMul", x, self.weight(rows, columns)), self.weight(columns))

    def gelu(self, x):
        erf = self.add("Erf", self.add("Div", x, self.number(2**0.5)))
        return self.add("Mul", self.add("Mul", x, self.add("Add", erf, self.number(1))), self.number(0.5))

    def layer_norm(self, x, width):
        return self.add("LayerNormalization", x, self.weight(width, mean=1), self.weight(width), axis=-1, epsilon=1e-5)

    def encoder(self, x, shape, heads, hidden, mask=None):
        """One encoder layer of BERT."""
        batch, sequence, width = shape
        split = self.constant(numpy.array([batch, sequence, heads, width // heads]))
        q, k, v = (self.add("Reshape", self.linear(x, width, width), split) for _ in range(3))
        q, k, v = self.add("Transpose", q, perm=[0, 2, 1, 3]), self.add("Transpose", k, perm=[0, 2, 3, 1]), self.add("Transpose", v, perm=[0, 2, 1, 3])
        scores = self.add("Mul", self.add("MatMul", q, k), self.number((width // heads) ** -0.5))
        if mask:
            scores = self.add("Add", scores, mask)
        y = self.add("MatMul", self.add("Softmax", scores, axis=-1), v)
        y = self.add("Reshape", self.add("Transpose", y, perm=[0, 2, 1, 3]), self.constant(numpy.array(shape)))
        x = self.layer_norm(self.add("Add", self.linear(y, width, width), x), width)
        y = self.linear(self.gelu(self.linear(x, width, hidden)), hidden, width)
        return self.layer_norm(self.add("Add", y, x), width)

    def save(self, name, path):
        graph = helper.make_graph(self.nodes, name, self.inputs, self.outputs, self.weights)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def chain(*ops):
    def build(g, n):
        x = g.input("x", 8, 64)
        for i in range(n):
            op = ops[i % len(ops)]
            if op in ("Relu", "Sigmoid", "Tanh", "Neg", "Abs"):
                x = g.add(op, x)
            else:
                x = g.add(op, x, g.weight(64, mean=float(op in ("Mul", "Div"))))
        g.output(x, 8, 64)

    return build


def batch_norms(g, n):
    x = g.input("x", 1, 64, 8, 8)
    for _ in range(n):
        x = g.add("BatchNormalization", x, g.weight(64, mean=1), g.weight(64), g.weight(64), g.weight(64, mean=1))
    g.output(x, 1, 64, 8, 8)


def squarings(g, n):
    x = g.input("x", 8, 64)
    for _ in range(n):
        x = g.add("Mul", x, x)
    g.output(x, 8, 64)


def layers(g, n):
    x = g.input("x", 4, 32)
    for i in range(n):
        x = g.add("Relu", g.linear(x, 32 + i, 33 + i))
    g.output(x, 4, 32 + n)


def encoders(g, n):
    x = g.input("x", 1, 16, 32)
    for i in range(n):
        x = g.encoder(x, [1, 16, 32], 2, 64 + 4 * i)
    g.output(x, 1, 16, 32)


def random(g, n):
    state = 1

    def below(n):
        nonlocal state
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (state >> 33) % n

    values, used = [g.input("x", 32, 32), g.input("z", 32, 32)], set()

    def pick():
        reach = len(values) if below(4) == 0 else min(len(values), 8)
        at = len(values) - 1 - below(reach)
        used.add(at)
        return values[at]

    for _ in range(n):
        x = pick()
        kind = below(12)
        if kind < 4:
            y = g.add(["Relu", "Sigmoid", "Tanh", "Neg", "Exp", "Abs"][below(6)], x)
        elif kind < 8:
            op = ["Add", "Sub", "Mul", "Max"][below(4)]
            y = g.add(op, x, pick())
        elif kind < 10:
            op = ["Add", "Mul"][below(2)]
            y = g.add(op, x, g.weight(32, mean=float(op == "Mul")))
        elif kind == 10:
            y = g.add("MatMul", x, g.weight(32, 32))
        elif below(2) == 0:
            y = g.add("Transpose", x, perm=[1, 0])
        else:
            y = g.add("Sub", x, g.add("ReduceMean", x, axes=[1], keepdims=1))
        values.append(y)
    open = [v for i, v in enumerate(values) if i not in used]
    y = open[0]
    for v in open[1:]:
        y = g.add("Add", y, v)
    g.output(y, 32, 32)


def concat(relu):
    def build(g, n):
        parts = [g.input(f"x{i}", 4, 8) for i in range(n)]
        parts = [g.add("Relu", x) for x in parts] if relu else parts
        g.output(g.add("Concat", *parts, axis=1), 4, 8 * n)

    return build


def slices(g, n):
    x = g.input("x", 4, 8 * n)
    for i in range(n):
        at = [g.constant(numpy.array([v])) for v in (8 * i, 8 * i + 8, 1)]
        g.output(g.add("Slice", x, *at), 4, 8)


def bert_base(g, n):
    ids, kinds, mask = (g.input(name, 1, 128, type=TensorProto.INT64) for name in ("input_ids", "token_type_ids", "attention_mask"))
    mask = g.add("Cast", g.add("Unsqueeze", mask, g.constant(numpy.array([1, 2]))), to=TensorProto.FLOAT)
    mask = g.add("Mul", g.add("Sub", g.number(1), mask), g.number(-10000))
    x = g.add("Add", g.add("Gather", g.weight(30522, 768), ids), g.add("Gather", g.weight(2, 768), kinds))
    x = g.layer_norm(g.add("Add", x, g.weight(1, 128, 768)), 768)
    for _ in range(n):
        x = g.encoder(x, [1, 128, 768], 12, 3072, mask)
    g.output(x, 1, 128, 768)


MIXED = "Add Mul Sigmoid Sub Div Max Tanh Min Mul Neg Add Abs".split()
FAMILIES = {
    "mul-add": chain("Mul", "Add"),
    "adds": chain("Add"),
    "muls": chain("Mul"),
    "batch-norms": batch_norms,
    "mul-add-relu": chain("Mul", "Add", "Relu"),
    "mixed": chain(*MIXED),
    "squarings": squarings,
    "layers": layers,
    "encoders": encoders,
    "random": random,
    "concat": concat(False),
    "relus-concat": concat(True),
    "slices": slices,
    "bert-base": bert_base,
}


def main():
    family, n, path = sys.argv[1:]
    g = Graph()
    FAMILIES[family](g, int(n))
    g.save(family, path)


if __name__ == "__main__":
    main()
