"""Writes what ONNX Runtime makes of the ai.onnx.ml operators, one by one and as scikit-learn and LightGBM export them, for
compiler/frontend/tests/learn.rs.

    pip install onnx==1.23.2 onnxruntime==1.32.0 scikit-learn==1.9.1 skl2onnx==1.20.0 lightgbm==4.7.0 onnxmltools==1.16.0
    python learn.py OUT.tsv

A line: name, model in hex, inputs, outputs. Tensors are separated by "|", each `name;type;dims;values` with values by ",". Maps are
written as the tensor of their values.
"""

import sys
import warnings

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

warnings.filterwarnings("ignore")
ort.set_default_logger_severity(4)
LINES = []
rng = np.random.default_rng(7)
TRANSFORMS = ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT"]
TYPES = {"float32": 1, "int32": 6, "int64": 7, "float64": 11}


def tensor(name, v):
    if isinstance(v, list):  # maps
        v = np.array([list(m.values()) for m in v], np.float32)
    v = np.asarray(v)
    kind = "str" if v.dtype.kind in "OU" else str(v.dtype)
    values = [str(e) if kind == "str" else repr(e) for e in v.reshape(-1).tolist()]
    return f"{name};{kind};{','.join(map(str, v.shape))};{','.join(values)}"


def case(name, model, inputs):
    model.doc_string = model.producer_name = model.producer_version = ""
    model.graph.name = "g"
    model.graph.doc_string = ""
    data = model.SerializeToString()
    s = ort.InferenceSession(data)
    out = s.run(None, inputs)
    shown = [tensor(o.name, v) for o, v in zip(s.get_outputs(), out)]
    LINES.append("\t".join([name, data.hex(), "|".join(tensor(k, v) for k, v in inputs.items()), "|".join(shown)]))


def op(kind, x, results=1, label="", version=3, **attrs):
    xs = x if isinstance(x, list) else [x]
    names = [f"x{i}" for i in range(len(xs))]
    node = helper.make_node(kind, names, ["y", "z"][:results], domain="ai.onnx.ml", **attrs)
    text = any(k in attrs for k in ("classlabels_strings", "values_strings")) or kind == "CategoryMapper"
    first = 8 if text else 7 if results == 2 else TYPES[str(xs[0].dtype)] if kind in ("Imputer", "TreeEnsemble") else 1
    outs = [helper.make_tensor_value_info("y", first, None), helper.make_tensor_value_info("z", 1, None)][:results]
    ins = [helper.make_tensor_value_info(n, TYPES[str(v.dtype)], [None, *v.shape[1:]] if v.ndim > 1 else v.shape) for n, v in zip(names, xs)]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", version)]
    m = helper.make_model(helper.make_graph([node], "g", ins, outs), opset_imports=opsets, ir_version=8)
    case(f"{kind} {label}".strip(), m, dict(zip(names, xs)))


def features():
    x = np.array([[1, -2, 0], [0, 0, 0], [-3, 4, 12], [0.5, 0.25, -0.125]], np.float32)
    for dtype in ("float32", "float64", "int32", "int64"):
        op("Scaler", x.astype(dtype), label=dtype, offset=[0.5, -1.0, 2.0], scale=[2.0, 0.5, -1.0])
    op("Scaler", x, label="one for all", offset=[0.5], scale=[2.0])
    op("Scaler", x[0], label="one row", offset=[0.5, -1.0, 2.0], scale=[2.0, 0.5, -1.0])
    for norm in ("MAX", "L1", "L2"):
        for dtype in ("float32", "int64"):
            op("Normalizer", x.astype(dtype), label=f"{norm} {dtype}", norm=norm)
    op("Normalizer", x[0], label="one row", norm="L2")
    n = x.copy()
    n[0, 1] = n[2, 2] = np.nan
    op("Imputer", n, label="nan", imputed_value_floats=[7.0, 8.0, 9.0], replaced_value_float=float("nan"))
    op("Imputer", n, label="zero", imputed_value_floats=[7.0], replaced_value_float=0.0)
    op("Imputer", x.astype(np.int64), label="int64", imputed_value_int64s=[7, 8, 9], replaced_value_int64=0)
    op("OneHotEncoder", np.array([[1, 3], [9, 2]], np.int64), label="int64", cats_int64s=[1, 2, 3], zeros=1)
    op("OneHotEncoder", np.array([1.5, 3.0, -1.0], np.float32), label="float", cats_int64s=[1, 3, -1], zeros=1)
    op("CategoryMapper", np.array([[1, 3], [9, 2]], np.int64), cats_int64s=[1, 2, 3], cats_strings=["a", "b", "c"], default_string="none")
    op("FeatureVectorizer", [x, x[:, :1] + 1], label="as they are", inputdimensions=[3, 1])
    op("FeatureVectorizer", [x.astype(np.int64), x.astype(np.int64)[:, :2]], label="cut and filled", inputdimensions=[2, 3])
    for threshold in (0.0, 0.25):
        op("Binarizer", x, label=str(threshold), threshold=threshold)


def linear():
    x = np.array([[-1, 0.5], [0.25, 0], [0.75, 2], [2, -3]], np.float32)
    one = dict(coefficients=[1.0, 0.5], intercepts=[0.125])
    three = dict(coefficients=[1.0, 0.5, -0.25, 1.5, 0.0, -1.0], intercepts=[0.25, 0.0, -0.5])
    p = np.array([[0.1, 0.2], [0.4, 0.5], [0.0, 0.3]], np.float32)
    for t in TRANSFORMS:
        op("LinearRegressor", p, label=f"1 {t}", **one, post_transform=t)
        x3 = p if t == "PROBIT" else x
        c3 = dict(three, coefficients=[0.5, 0.25, 0.25, 0.5, 0.125, 0.125], intercepts=[0.25, 0.25, 0.5]) if t == "PROBIT" else three
        op("LinearRegressor", x3, label=f"3 {t}", **c3, targets=3, post_transform=t)
        op("LinearClassifier", x3, 2, f"3 {t}", **c3, classlabels_ints=[5, 6, 7], post_transform=t)
        if t != "PROBIT":
            op("LinearClassifier", x, 2, f"1 {t}", **one, classlabels_strings=["no", "yes"], post_transform=t)
    op("LinearClassifier", x.astype(np.int64), 2, "int64", **three, classlabels_strings=["a", "b", "c"])
    op("LinearClassifier", x.astype(np.float64), 2, "f64", **three, classlabels_ints=[5, 6, 7])


def machines():
    x = (rng.integers(-8, 9, (5, 2)) / 8).astype(np.float32)
    vectors = (rng.integers(-8, 9, (6, 2)) / 8).ravel().tolist()
    for kernel, params in [("LINEAR", [0, 0, 0]), ("RBF", [0.5, 0, 0]), ("SIGMOID", [0.5, 0.25, 0]), ("POLY", [0.5, 0.25, 2]), ("POLY", [0.5, 0.25, 3])]:
        common = dict(kernel_type=kernel, kernel_params=[float(p) for p in params], support_vectors=vectors)
        label = f"{kernel} {params[2]}"
        op("SVMRegressor", x, label=label, **common, coefficients=[1.0, -0.5, 0.25, -1.0, 0.5, 0.75], rho=[0.125], n_supports=6)
        c3 = dict(common, coefficients=(rng.integers(-8, 9, 12) / 8).tolist(), rho=[0.1, -0.2, 0.3], vectors_per_class=[2, 3, 1])
        op("SVMClassifier", x, 2, f"3 {label}", **c3, classlabels_strings=["a", "b", "c"])
        op("SVMClassifier", x, 2, f"3 prob {label}", **c3, prob_a=[-1.5, -0.5, -2.0], prob_b=[0.1, 0.0, -0.3], classlabels_ints=[3, 1, 2])
    two = dict(kernel_type="LINEAR", kernel_params=[0.0] * 3, support_vectors=vectors, coefficients=[1.0, -0.5, 0.25, -1.0, 0.5, 0.75], rho=[0.1], vectors_per_class=[4, 2])
    for t in TRANSFORMS:
        if t != "PROBIT":
            op("SVMClassifier", x, 2, f"2 {t}", **two, classlabels_ints=[4, 9], post_transform=t)
        op("SVMClassifier", x, 2, f"2 prob {t}", **two, prob_a=[-3.0], prob_b=[0.2], classlabels_ints=[4, 9], post_transform=t)
    op("SVMRegressor", x, label="one class", kernel_type="LINEAR", kernel_params=[0.0] * 3, coefficients=[1.0, -0.5], rho=[0.1], one_class=1)
    plain = dict(kernel_type="LINEAR", kernel_params=[0.0] * 3, rho=[0.1])
    op("SVMClassifier", x, 2, "linear 2", **plain, coefficients=[1.0, -0.5, -1.0, 0.25], classlabels_ints=[4, 9])
    op("SVMClassifier", x, 2, "linear 2 positive", **plain, coefficients=[1.0, 0.5, 0.0, 0.25], classlabels_ints=[4, 9])
    op("SVMClassifier", x, 2, "linear 3", **plain, coefficients=[1.0, -0.5, -1.0, 0.25, 0.5, 0.5], classlabels_ints=[4, 9, 2])


def forest(mode, missing=False, trees=2):
    """Full trees of depth 2 over two features; the numbers of nodes are not their places."""
    a = {k: [] for k in ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")}
    for t in range(trees):
        for i in range(7):
            branch = i < 3
            a["treeids"].append(t * 3 + 1)
            a["nodeids"].append(i)
            a["featureids"].append((i + t) % 2 if branch else 0)
            a["modes"].append(mode if branch else "LEAF")
            a["values"].append([0.5, 0.0, 1.0][i] + t / 4 if branch else 0.0)
            a["truenodeids"].append(2 * i + 1 if branch else 0)
            a["falsenodeids"].append(2 * i + 2 if branch else 0)
    a = {f"nodes_{k}": v for k, v in a.items()}
    if missing:
        a["nodes_missing_value_tracks_true"] = [i % 2 for i in range(7 * trees)]
    return a


def weights(what, ids, positive=True, trees=2):
    """A weight for each leaf and each of these classes or targets."""
    tree = [t * 3 + 1 for t in range(trees) for _ in range(4) for _ in ids]
    node = [3 + i for _ in range(trees) for i in range(4) for _ in ids]
    w = [round((0.03 + (0.11 * k) % 0.37) * (1 if positive or k % 3 else -2), 3) for k in range(len(tree))]
    return {f"{what}_treeids": tree, f"{what}_nodeids": node, f"{what}_ids": list(ids) * (4 * trees), f"{what}_weights": w}


def trees():
    x = np.array([[-1, 0.25], [0.5, 0.5], [0.25, 0], [2, -3], [1, 1.25], [0.75, 9]], np.float32)
    n = x.copy()
    n[0, 0] = n[3, 1] = np.nan
    for mode in ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"):
        for missing in (False, True):
            op("TreeEnsembleRegressor", n, label=f"{mode} {missing}", n_targets=1, **forest(mode, missing), **weights("target", [0]))
    for how in ("SUM", "AVERAGE", "MIN", "MAX"):
        op("TreeEnsembleRegressor", x, label=how, n_targets=1, aggregate_function=how, base_values=[0.5], **forest("BRANCH_LEQ"), **weights("target", [0], False))
        op("TreeEnsembleRegressor", x, label=f"2 {how}", n_targets=2, aggregate_function=how, base_values=[0.5, -1.0], **forest("BRANCH_LEQ"), **weights("target", [0, 1], False))
    for t in TRANSFORMS:
        op("TreeEnsembleRegressor", x, label=f"1 {t}", n_targets=1, post_transform=t, **forest("BRANCH_LEQ"), **weights("target", [0]))
        op("TreeEnsembleRegressor", x, label=f"2 {t}", n_targets=2, post_transform=t, **forest("BRANCH_LEQ"), **weights("target", [0, 1]))
        op("TreeEnsembleClassifier", x, 2, f"3 {t}", post_transform=t, classlabels_int64s=[5, 6, 7], **forest("BRANCH_LT"), **weights("class", [0, 1, 2]))
        for positive in (True, False):
            for label, ids in (("first", [0]), ("second", [1])):
                if t == "PROBIT":
                    continue
                op("TreeEnsembleClassifier", x, 2, f"2 {label} {positive} {t}", post_transform=t, classlabels_strings=["no", "yes"], **forest("BRANCH_LEQ"), **weights("class", ids, positive))
    op("TreeEnsembleClassifier", x, 2, "2 base", classlabels_int64s=[0, 1], base_values=[0.125], **forest("BRANCH_LEQ"), **weights("class", [0], False))
    op("TreeEnsembleClassifier", x, 2, "3 base", classlabels_int64s=[2, 0, 1], base_values=[0.125, 0.5, -1.0], **forest("BRANCH_LEQ"), **weights("class", [0, 1, 2], False))
    some = weights("class", [0, 2])
    some["class_weights"] = [-w for w in some["class_weights"]]
    op("TreeEnsembleClassifier", x, 2, "3 of which 2 have weights", classlabels_int64s=[5, 6, 7], **forest("BRANCH_LEQ"), **some)
    for dtype in ("int32", "int64", "float64"):
        op("TreeEnsembleClassifier", x.astype(dtype), 2, dtype, classlabels_int64s=[5, 6, 7], **forest("BRANCH_LEQ"), **weights("class", [0, 1, 2]))
    double = {**forest("BRANCH_LEQ"), **weights("target", [0])}
    for k, v in (("nodes_values", double.pop("nodes_values")), ("target_weights", double.pop("target_weights"))):
        double[f"{k}_as_tensor"] = helper.make_tensor(k, TensorProto.DOUBLE, [len(v)], [e + 1e-12 for e in v])
    op("TreeEnsembleRegressor", x.astype(np.float64), label="f64 splits", n_targets=1, **double)


def exports():
    import lightgbm
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType as LightFloat
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn import ensemble, linear_model, naive_bayes, neural_network, pipeline, preprocessing, svm, tree
    from sklearn.impute import SimpleImputer

    x = np.round(rng.normal(size=(60, 3)), 2).astype(np.float32)
    two = (x[:, 0] + x[:, 1] * x[:, 2] > 0).astype(np.int64)
    three = np.digitize(x[:, 0] + x[:, 1], [-0.5, 0.5]).astype(np.int64)
    words = np.array(["low", "mid", "high"])[three]
    target = (x[:, 0] - 2 * x[:, 1]).astype(np.float32)
    probe = x[:5]
    scaled = lambda m: pipeline.make_pipeline(preprocessing.StandardScaler(), m)
    few = dict(n_estimators=3, max_depth=2, random_state=0)
    models = {
        "LogisticRegression 2": (linear_model.LogisticRegression(), two),
        "LogisticRegression text": (scaled(linear_model.LogisticRegression()), words),
        "LinearRegression": (scaled(linear_model.LinearRegression()), target),
        "DecisionTreeClassifier": (tree.DecisionTreeClassifier(max_depth=3, random_state=0), words),
        "DecisionTreeRegressor": (tree.DecisionTreeRegressor(max_depth=3, random_state=0), target),
        "RandomForestClassifier 2": (ensemble.RandomForestClassifier(**few), two),
        "RandomForestClassifier 3": (ensemble.RandomForestClassifier(**few), three),
        "RandomForestRegressor": (ensemble.RandomForestRegressor(**few), target),
        "GradientBoostingClassifier 2": (ensemble.GradientBoostingClassifier(**few), two),
        "GradientBoostingClassifier 3": (ensemble.GradientBoostingClassifier(**few), words),
        "GradientBoostingRegressor": (ensemble.GradientBoostingRegressor(**few), target),
        "SVC 2": (svm.SVC(C=0.1), two),
        "SVC 3": (svm.SVC(kernel="poly", C=0.1), three),
        "SVR": (svm.SVR(epsilon=1.0), target),
        "LinearSVC": (svm.LinearSVC(), three),
        "GaussianNB": (naive_bayes.GaussianNB(), three),
        "MLPClassifier": (neural_network.MLPClassifier((4,), max_iter=50, random_state=0), words),
        "imputed and normalised": (
            pipeline.make_pipeline(SimpleImputer(), preprocessing.MinMaxScaler(), preprocessing.Normalizer("l1"), linear_model.Ridge()), target),
        "binarised": (pipeline.make_pipeline(preprocessing.Binarizer(threshold=0.1), linear_model.Ridge()), target),
    }
    for name, (m, y) in models.items():
        m.fit(x, y)
        made = convert_sklearn(m, initial_types=[("x", FloatTensorType([None, 3]))], target_opset={"": 18, "ai.onnx.ml": 3})
        case(f"sklearn {name}", made, {"x": probe})
    light = dict(n_estimators=2, num_leaves=4, min_child_samples=5, verbose=-1, num_threads=1)
    for name, m, y in [
        ("LGBMClassifier 2", lightgbm.LGBMClassifier(**light), two),
        ("LGBMClassifier 3", lightgbm.LGBMClassifier(**light), three),
        ("LGBMRegressor", lightgbm.LGBMRegressor(**light), target),
    ]:
        m.fit(x, y)
        case(f"lightgbm {name}", convert_lightgbm(m, initial_types=[("x", LightFloat([None, 3]))], target_opset=15), {"x": probe})


for part in (features, linear, machines, trees, exports):
    part()
open(sys.argv[1], "w").write("".join(l + "\n" for l in LINES))
print(len(LINES), "cases")
