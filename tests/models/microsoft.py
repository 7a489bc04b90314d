"""Writes cases for ONNX Runtime's own operators, and for what the suite is too small for, in the layout of ONNX's suite, with ONNX Runtime's answers on the CPU:
OUT/<domain>/<case>/{model.onnx, test_data_set_0/{input,output}_N.pb}.

    python microsoft.py OUT
"""

import pathlib
import shutil
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

F = np.float32
rng = np.random.default_rng(7)


def f(*shape):
    return (rng.standard_normal(shape) * 0.5).astype(F)


def u8(*shape, high=256):
    return rng.integers(0, high, shape).astype(np.uint8)


def i8(*shape):
    return rng.integers(-128, 128, shape).astype(np.int8)


def small(*shape):
    """Of 7 bits: without VNNI, ONNX Runtime's u8 · i8 kernels add pairs of products in 16 bits and saturate."""
    return rng.integers(-64, 64, shape).astype(np.int8)


def i32(*values):
    return np.array(values, np.int32)


def case(out, name, op, inputs, outputs, weights=(), domain="com.microsoft", **attrs):
    """`inputs`: arrays, or None where absent; those with an index in `weights` are initialisers. `outputs`: how many, or names."""
    names = [f"in{i}" if x is not None else "" for i, x in enumerate(inputs)]
    outs = [f"out{i}" for i in range(outputs)] if isinstance(outputs, int) else list(outputs)
    node = helper.make_node(op, names, outs, domain=domain, **attrs)
    kind = lambda x: helper.np_dtype_to_tensor_dtype(x.dtype)
    fed = [(n, x) for i, (n, x) in enumerate(zip(names, inputs)) if x is not None and i not in weights]
    held = [numpy_helper.from_array(x, n) for i, (n, x) in enumerate(zip(names, inputs)) if x is not None and i in weights]
    graph = helper.make_graph(
        [node],
        name,
        [helper.make_tensor_value_info(n, kind(x), x.shape) for n, x in fed],
        [helper.make_empty_tensor_value_info(n) for n in outs if n],
        held,
    )
    sets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=sets, ir_version=10, producer_name="tahoma-tests")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    # With more threads each quantises its own rows of a recurrent layer's state, by their own range.
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    got = session.run(None, dict(fed))
    # ONNX Runtime infers the types of the outputs; the file says them.
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(n, kind(y), y.shape) for n, y in zip([o for o in outs if o], got))
    folder = out / (domain or "ai.onnx") / name
    (folder / "test_data_set_0").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    for what, values in (("input", fed), ("output", zip([o for o in outs if o], got))):
        for i, (n, x) in enumerate(values):
            (folder / "test_data_set_0" / f"{what}_{i}.pb").write_bytes(numpy_helper.from_array(x, n).SerializeToString())


def layers(out):
    case(out, "fused_matmul", "FusedMatMul", [f(2, 3, 4), f(2, 4, 5)], 1, alpha=0.5)
    case(out, "fused_matmul_transposed", "FusedMatMul", [f(2, 4, 3), f(2, 5, 4)], 1, transA=1, transB=1)
    case(out, "fused_matmul_batch", "FusedMatMul", [f(3, 2, 4), f(2, 4, 5)], 1, transBatchA=1)
    case(out, "fused_matmul_batch_both", "FusedMatMul", [f(4, 2, 3), f(4, 2, 5)], 1, transBatchA=1, transA=1, transBatchB=1)
    case(out, "fused_gemm_relu", "FusedGemm", [f(3, 4), f(5, 4), f(5)], 1, transB=1, activation="Relu")
    case(out, "fused_gemm_leaky", "FusedGemm", [f(3, 4), f(4, 5)], 1, activation="LeakyRelu", activation_alpha=0.2)
    case(out, "fused_conv_relu", "FusedConv", [f(1, 3, 6, 6), f(4, 3, 3, 3), f(4)], 1, activation="Relu", pads=[1, 1, 1, 1])
    case(out, "fused_conv_sum_clip", "FusedConv", [f(1, 3, 6, 6), f(4, 3, 3, 3), f(4), f(1, 4, 4, 4)], 1, activation="Clip", activation_params=[-0.5, 0.5])
    case(out, "gelu", "Gelu", [f(3, 8)], 1)
    case(out, "bias_gelu", "BiasGelu", [f(3, 8), f(8)], 1)
    case(out, "fast_gelu", "FastGelu", [f(3, 8), f(8)], 1)
    case(out, "quick_gelu", "QuickGelu", [f(3, 8)], 1, alpha=1.5)
    case(out, "simplified_layer_norm", "SimplifiedLayerNormalization", [f(2, 3, 8), f(8)], 1, domain="", epsilon=1e-5)
    case(out, "skip_layer_norm", "SkipLayerNormalization", [f(2, 3, 8), f(2, 3, 8), f(8), f(8), f(8)], ["y", "", "", "sum"], epsilon=1e-5)
    case(out, "skip_simplified_layer_norm", "SkipSimplifiedLayerNormalization", [f(2, 3, 8), f(2, 3, 8), f(8), f(8)], ["y", "", "", "sum"], epsilon=1e-5)
    ids, segments = rng.integers(0, 9, (2, 5)).astype(np.int32), rng.integers(0, 2, (2, 5)).astype(np.int32)
    mask = i32(*[1, 1, 1, 0, 0, 1, 1, 1, 1, 1]).reshape(2, 5)
    case(out, "embed_layer_norm", "EmbedLayerNormalization", [ids, segments, f(9, 8), f(6, 8), f(2, 8), f(8), f(8), mask], 2)


def attention(out):
    x, w, b = f(2, 4, 12), f(12, 24), f(24)
    case(out, "attention", "Attention", [x, w, b], 1, weights=(1, 2), num_heads=2)
    case(out, "attention_lengths", "Attention", [x, w, b, i32(3, 4)], 1, weights=(1, 2), num_heads=2)
    raw = i32(1, 1, 0, 1, 1, 1, 1, 0).reshape(2, 4)
    case(out, "attention_mask", "Attention", [x, w, b, raw], 1, weights=(1, 2), num_heads=2)
    case(out, "attention_causal_past", "Attention", [x, w, b, None, f(2, 2, 2, 3, 4)], 2, weights=(1, 2), num_heads=2, unidirectional=1)
    q, k, v = f(2, 4, 8), f(2, 5, 8), f(2, 5, 8)
    case(out, "multi_head", "MultiHeadAttention", [q, k, v], 1, num_heads=2)
    case(out, "multi_head_bias", "MultiHeadAttention", [q, k, v, f(24)], 1, weights=(3,), num_heads=2, scale=0.3)
    case(out, "multi_head_mask", "MultiHeadAttention", [q, k, v, None, i32(1, 1, 1, 0, 0, 1, 1, 1, 1, 1).reshape(2, 5)], 1, num_heads=2)
    case(out, "multi_head_extra", "MultiHeadAttention", [q, k, v, None, None, f(2, 2, 4, 5)], 1, num_heads=2)
    case(out, "multi_head_past", "MultiHeadAttention", [q, f(2, 4, 8), f(2, 4, 8), None, None, None, f(2, 2, 3, 4), f(2, 2, 3, 4)], 3, num_heads=2, unidirectional=1)
    case(out, "multi_head_cross", "MultiHeadAttention", [q, f(2, 2, 5, 4), f(2, 2, 5, 4)], 1, num_heads=2)
    cos, sin = np.cos(f(16, 4)), np.sin(f(16, 4))
    places = np.array([[0, 1, 2, 3], [5, 6, 7, 8]], np.int64)
    case(out, "rotary", "RotaryEmbedding", [f(2, 3, 4, 8), places, cos, sin], 1, weights=(2, 3))
    case(out, "rotary_interleaved", "RotaryEmbedding", [f(2, 3, 4, 8), places, cos, sin], 1, weights=(2, 3), interleaved=1)
    case(out, "rotary_offset", "RotaryEmbedding", [f(2, 4, 24), np.array([3], np.int64), cos, sin], 1, weights=(2, 3))

    wide_cos, wide_sin = np.cos(f(16, 8)), np.sin(f(16, 8))

    def gqa(name, s, total, last, past, outputs=3, sink=False, packed=False, **attrs):
        h, n, kv, batch = 16, 4, 2, len(last)
        parts = [f(batch, s, n * h), f(batch, s, kv * h), f(batch, s, kv * h)]
        if packed:
            parts = [np.concatenate(parts, 2), None, None]
        caches = [f(batch, kv, past, h), f(batch, kv, past, h)] if past is not None else [None, None]
        rest = [wide_cos, wide_sin] if attrs.get("do_rotary") else [None, None]
        given = parts + caches + [i32(*last), np.array(total, np.int32)] + rest
        weights = {6, 7, 8}
        if sink:
            given += [None, None, f(n)]
            weights.add(11)
        while given[-1] is None:
            given.pop()
        case(out, name, "GroupQueryAttention", given, outputs, weights=weights, num_heads=n, kv_num_heads=kv, **attrs)

    gqa("group_query_prompt", 4, 4, [3, 3], 0)
    gqa("group_query_prompt_rotary_packed", 4, 4, [3, 3], 0, packed=True, do_rotary=1)
    gqa("group_query_prompt_window", 6, 6, [5], 0, local_window_size=3)
    gqa("group_query_prompt_softcap", 4, 4, [3, 3], 0, softcap=2.0)
    gqa("group_query_prompt_smooth", 4, 4, [3, 3], 0, smooth_softmax=1)
    gqa("group_query_prompt_sink", 4, 4, [3, 3], 0, sink=True)
    gqa("group_query_decode", 1, 6, [5, 5], 5)
    gqa("group_query_decode_rotary", 1, 6, [5, 5], 5, do_rotary=1, rotary_interleaved=1)
    gqa("group_query_decode_window_sink", 1, 8, [7], 7, do_rotary=1, local_window_size=4, sink=True)
    gqa("group_query_decode_ragged", 1, 6, [3, 5], 5, do_rotary=1)


def quantised(out):
    for bits, k, n, block in [(4, 32, 5, 16), (4, 40, 3, 32), (8, 32, 5, 16), (2, 64, 4, 32)]:
        blocks = -(-k // block)
        codes = u8(n, blocks, block * bits // 8)
        scales = np.abs(f(n, blocks)) * F(0.1)
        name = f"matmul_{bits}bits_{k}"
        attrs = dict(bits=bits, K=k, N=n, block_size=block)
        case(out, name, "MatMulNBits", [f(2, 3, k), codes, scales], 1, weights=(1, 2), **attrs)
        zeros = u8(n, -(-blocks * bits // 8))
        case(out, name + "_zeros", "MatMulNBits", [f(2, 3, k), codes, scales, zeros], 1, weights=(1, 2, 3), **attrs)
    s = lambda x: np.array(x, F)
    z8, zi = (lambda x: np.array(x, np.uint8)), (lambda x: np.array(x, np.int8))
    for op in ("QLinearAdd", "QLinearMul"):
        case(out, op.lower(), op, [u8(3, 8), s(0.02), z8(120), u8(8), s(0.03), z8(128), s(0.05), z8(100)], 1)
    case(out, "qlinear_sigmoid", "QLinearSigmoid", [u8(3, 8), s(0.02), z8(120), s(1 / 256), z8(0)], 1, weights=(1, 2, 3, 4))
    case(out, "qlinear_leaky", "QLinearLeakyRelu", [i8(3, 8), s(0.02), zi(3), s(0.02), zi(1)], 1, weights=(1, 2, 3, 4), alpha=0.1)
    case(out, "qlinear_pool", "QLinearGlobalAveragePool", [u8(2, 3, 4, 4), s(0.02), z8(120), s(0.01), z8(110)], 1)
    case(out, "qlinear_concat", "QLinearConcat", [s(0.03), z8(110), u8(2, 3), s(0.02), z8(120), u8(2, 4), s(0.04), z8(128)], 1, weights=(0, 1, 3, 4, 6, 7), axis=1)
    case(out, "qgemm", "QGemm", [u8(3, 4), s(0.02), z8(120), small(4, 5), s(0.03), zi(2), rng.integers(-50, 50, 5).astype(np.int32), s(0.05), z8(128)], 1, weights=(1, 2, 3, 4, 5, 6, 7, 8))
    case(out, "qgemm_float", "QGemm", [u8(3, 4), s(0.02), z8(120), small(4, 5), s(0.03), zi(2)], 1, weights=(1, 2, 3, 4, 5))
    case(out, "matmul_integer_to_float", "MatMulIntegerToFloat", [u8(3, 4), small(4, 5), s(0.02), f(5), z8(120), i8(5), f(5)], 1, weights=(1, 2, 3, 4, 5, 6))
    case(out, "dynamic_quantize_matmul", "DynamicQuantizeMatMul", [f(3, 4), small(4, 5), s(0.03), zi(4), f(5)], 1, weights=(1, 2, 3, 4))
    case(out, "quantize_u16", "QuantizeLinear", [f(3, 8), s(0.0001), np.array(30000, np.uint16)], 1)
    case(out, "dequantize_u16", "DequantizeLinear", [rng.integers(0, 65536, (3, 8)).astype(np.uint16), s(0.0001), np.array(30000, np.uint16)], 1)


def experts(out):
    # Not with normalize_routing_weights = 0: ONNX Runtime's QMoE on the CPU ignores it, where its MoE heeds it.
    e, d, inner, rows, k = 4, 32, 64, 5, 2
    for bits, block, fusion, normal in [(4, 0, 1, 1), (4, 32, 1, 1), (8, 0, 1, 1)]:
        per = 8 // bits
        scales = lambda n, m: np.abs(f(e, n) if not block else f(e, n, m // block)) * F(0.1)
        given = [
            f(rows, d), f(rows, e),
            u8(e, 2 * inner, d // per), scales(2 * inner, d), f(e, 2 * inner),
            u8(e, d, inner // per), scales(d, inner), f(e, d),
        ]
        attrs = dict(k=k, activation_type="swiglu", swiglu_fusion=fusion, swiglu_limit=7.0, activation_alpha=1.702, activation_beta=1.0,
                     expert_weight_bits=bits, normalize_routing_weights=normal)
        if block:
            attrs["block_size"] = block
        case(out, f"qmoe_{bits}bits_block{block}_norm{normal}", "QMoE", given, 1, weights=(2, 3, 4, 5, 6, 7), **attrs)


    for normal, kind, fusion in [(1, "swiglu", 1), (0, "swiglu", 1), (1, "relu", 0), (0, "silu", 0)]:
        wide = 2 * inner if fusion else inner
        given = [f(rows, d), f(rows, e), f(e, wide, d), f(e, wide), f(e, d, inner), f(e, d)]
        attrs = dict(k=k, activation_type=kind, normalize_routing_weights=normal)
        if fusion:
            attrs.update(swiglu_fusion=fusion, swiglu_limit=7.0, activation_alpha=1.702, activation_beta=1.0)
        case(out, f"moe_{kind}_norm{normal}", "MoE", given, 1, weights=(2, 3, 4, 5), **attrs)


def beyond_the_suite(out):
    steps, batch, width, hidden = 5, 2, 6, 4
    for name, directions in [("forward", 1), ("bidirectional", 2)]:
        zero = np.array([3] * directions, np.int8)
        scale = np.array([0.01] * directions, F)
        given = [f(steps, batch, width), small(directions, width, 4 * hidden), small(directions, hidden, 4 * hidden), f(directions, 8 * hidden),
                 None, None, None, None, scale, zero, scale, zero]
        case(out, f"dynamic_quantize_lstm_{name}", "DynamicQuantizeLSTM", given, 3, weights=(1, 2, 3, 8, 9, 10, 11), direction=name, hidden_size=hidden)
    rois = np.array([[0, 1, 1, 6, 5], [1, 0, 0, 3, 7], [0, 2.5, 3.5, 20, 4.4], [1, 9, 9, 12, 12]], F)
    case(out, "max_roi_pool", "MaxRoiPool", [f(2, 3, 8, 10), rois], 1, domain="", pooled_shape=[3, 2], spatial_scale=0.7)
    # Longer than what is unrolled.
    for op, gates in [("LSTM", 4), ("GRU", 3), ("RNN", 1)]:
        given = [f(150, batch, width), f(2, gates * hidden, width), f(2, gates * hidden, hidden), f(2, 2 * gates * hidden), i32(150, 97)]
        case(out, f"{op.lower()}_150_steps", op, given, 2, domain="", weights=(1, 2, 3), direction="bidirectional", hidden_size=hidden)


def main():
    out = pathlib.Path(sys.argv[1])
    shutil.rmtree(out, ignore_errors=True)
    for make in (layers, attention, quantised, experts, beyond_the_suite):
        make(out)
    print(len(list(out.glob("*/*"))), "cases in", out)


if __name__ == "__main__":
    main()
