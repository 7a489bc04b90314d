"""Writes the ONNX conformance suite of the installed `onnx` package as files: OUT/<kind>/<case>/{model.onnx,test_data_set_N/*.pb}.

From onnx 1.23 the node cases exist only as Python code; the other kinds are files of the wheel.

    python suite.py OUT
"""

import pathlib
import shutil
import sys
import warnings

import numpy
import onnx
from onnx import numpy_helper

warnings.filterwarnings("ignore")


def message(type_proto, value, name):
    """A test value as the protobuf message of its declared type."""
    kind = type_proto.WhichOneof("value")
    if kind == "sequence_type":
        return numpy_helper.from_list(value, name)
    if kind == "optional_type":
        return numpy_helper.from_optional(value, name)
    if isinstance(value, onnx.TensorProto):
        return value
    return numpy_helper.from_array(value, name)


def write_node_cases(out):
    from onnx.backend.test.loader import load_model_tests

    for case in load_model_tests(kind="node"):
        folder = out / "node" / case.name
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(case.model.SerializeToString())
        for number, (inputs, outputs) in enumerate(case.data_sets):
            data = folder / f"test_data_set_{number}"
            data.mkdir()
            for role, values, ports in (("input", inputs, case.model.graph.input), ("output", outputs, case.model.graph.output)):
                for i, (value, port) in enumerate(zip(values, ports)):
                    (data / f"{role}_{i}.pb").write_bytes(message(port.type, value, port.name).SerializeToString())


def write_light_model(path, out):
    """The light models come as one file with one expected output; their input is 0, 1/n, 2/n, ..."""
    folder = out / path.parent.name / path.stem
    data = folder / "test_data_set_0"
    data.mkdir(parents=True)
    shutil.copy(path, folder / "model.onnx")
    shutil.copy(path.with_name(path.stem + "_output_0.pb"), data / "output_0.pb")
    graph = onnx.load(path).graph
    weights = {t.name for t in graph.initializer}
    for i, port in enumerate(p for p in graph.input if p.name not in weights):
        shape = [d.dim_value for d in port.type.tensor_type.shape.dim]
        count = int(numpy.prod(shape))
        value = (numpy.arange(count).reshape(shape) / count).astype(numpy.float32)
        (data / f"input_{i}.pb").write_bytes(message(port.type, value, port.name).SerializeToString())


def main():
    out = pathlib.Path(sys.argv[1])
    shutil.rmtree(out, ignore_errors=True)
    write_node_cases(out)
    packaged = pathlib.Path(onnx.__file__).parent / "backend/test/data"
    for folder in sorted(p for p in packaged.iterdir() if p.is_dir() and p.name not in ("node", "real")):
        for path in sorted(folder.iterdir()):
            if (path / "model.onnx").exists():
                shutil.copytree(path, out / folder.name / path.name)
            elif path.suffix == ".onnx":
                write_light_model(path, out)
    print(f"onnx {onnx.__version__}: {len(list(out.glob('*/*/model.onnx')))} cases in {out}")


if __name__ == "__main__":
    main()
