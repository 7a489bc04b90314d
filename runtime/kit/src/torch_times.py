"""Times torch, eager and compiled, on the programs of kind "bench", and compares its results with the expected ones.

torch_times.py KIT INPUTS: for each case that has a function here, one line of JSON. INPUTS/CASE holds the inputs (names.json, *.npy).
Float32 products are float32 products here too (no TF32). Times are by events, microseconds, the least and the median.
"""

import json
import os
import sys

import numpy
import torch
import torch.nn.functional as F

torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False
torch.set_grad_enabled(False)


def matmul(x):
    return x["x"] @ x["w"]


def softmax(x):
    return torch.softmax(x["x"], -1)


def layer_norm(x):
    return F.layer_norm(x["x"], x["gain"].shape, x["gain"], x["bias"], 1e-5)


def encoder(x):
    def linear(name, y):
        return y @ x[f"layer.0.{name}.weight"] + x[f"layer.0.{name}.bias"]

    def heads(y):
        return y.reshape(y.shape[0], y.shape[1], 12, -1).transpose(1, 2)

    def norm(name, y):
        return F.layer_norm(y, y.shape[-1:], x[f"layer.0.{name}.gain"], x[f"layer.0.{name}.bias"], 1e-12)

    h = x["hidden_states"]
    mask = (1.0 - x["attention_mask"].float())[:, None, None, :] * -10000.0
    q, k, v = (heads(linear(f"attention.{n}", h)) for n in ("query", "key", "value"))
    a = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    a = linear("attention.output", a.transpose(1, 2).reshape(h.shape))
    h = norm("attention.norm", a + h)
    y = linear("output", F.gelu(linear("intermediate", h)))
    return norm("output.norm", y + h)


FORMS = {
    "bench-matmul-f32": matmul,
    "bench-matmul-f16": matmul,
    "bench-softmax-f32": softmax,
    "bench-layer-norm-f32": layer_norm,
    "bench-encoder-f32": encoder,
}


def times(f, x):
    for _ in range(5):
        f(x)
    torch.cuda.synchronize()
    out = []
    for _ in range(50):
        a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        a.record()
        f(x)
        b.record()
        torch.cuda.synchronize()
        out.append(a.elapsed_time(b) * 1e3)
    out.sort()
    return [out[0], out[len(out) // 2]]


def case(kit, folder, c):
    row = {"name": c["name"], "eager_us": None, "compiled_us": None, "max_abs": None, "note": ""}
    try:
        with open(os.path.join(folder, "names.json")) as f:
            names = json.load(f)
        x = {n: torch.from_numpy(numpy.load(os.path.join(folder, file))).cuda() for n, file in names}
        f = FORMS[c["name"]]
        want = numpy.load(os.path.join(kit, c["outputs"][0]["path"]))
        row["max_abs"] = float(numpy.abs(f(x).cpu().numpy().astype("float64") - want.astype("float64")).max())
        row["eager_us"] = times(f, x)
        row["compiled_us"] = times(torch.compile(f), x)
    except Exception as e:  # the other cases are worth a try
        row["note"] = f"{type(e).__name__}: {e}"[:300]
    print(json.dumps(row), flush=True)


def main():
    kit, inputs = sys.argv[1:]
    with open(os.path.join(kit, "kit.json")) as f:
        cases = json.load(f)["cases"]
    for c in cases:
        if c["name"] in FORMS and os.path.isdir(os.path.join(inputs, c["name"])):
            case(kit, os.path.join(inputs, c["name"]), c)


main()
