"""Parses each file of a list, a path in a line, with Python's own parser and prints every statement and expression that a kernel has no
business with. What a kernel is: three imports, one decorated function of allocations, loops over ranges, calls of nisa, a return."""

import ast
import sys

IMPORTS = ["import nki", "import nki.isa as nisa", "import nki.language as nl"]
EXPRESSIONS = (
    ast.Constant, ast.Name, ast.Load, ast.Store, ast.Tuple, ast.List, ast.Attribute, ast.Subscript, ast.Slice, ast.BinOp, ast.UnaryOp,
    ast.Add, ast.Sub, ast.Mult, ast.USub, ast.Compare, ast.Gt, ast.keyword, ast.Call,
)


def root(e):
    while isinstance(e, ast.Attribute):
        e = e.value
    return e.id if isinstance(e, ast.Name) else None


def call(e, tensors):
    if isinstance(e.func, ast.Name):
        return e.func.id == "float" and len(e.args) == 1 and isinstance(e.args[0], ast.Constant)
    if root(e.func) in ("nisa", "nl"):
        return True
    return isinstance(e.func, ast.Attribute) and e.func.attr == "ap" and root(e.func) in tensors


def expression(e, tensors, names, wrong):
    for n in ast.walk(e):
        if not isinstance(n, EXPRESSIONS):
            wrong.append((n, "an expression"))
        if isinstance(n, ast.Call) and not call(n, tensors):
            wrong.append((n, "a call"))
        if isinstance(n, ast.Name) and n.id not in names | tensors | {"nisa", "nl", "float"}:
            wrong.append((n, "a name"))


def block(body, tensors, names, wrong):
    for s in body:
        if isinstance(s, ast.Assign):
            f = s.value.func if isinstance(s.value, ast.Call) else None
            if not (isinstance(f, ast.Attribute) and root(f) == "nl" and f.attr == "ndarray" and len(s.targets) == 1):
                wrong.append((s, "an assignment"))
            elif isinstance(s.targets[0], ast.Name):
                tensors.add(s.targets[0].id)
            expression(s.value, tensors, names, wrong)
        elif isinstance(s, ast.For):
            i = s.iter
            if not (isinstance(i, ast.Call) and root(i.func) == "range" and len(i.args) == 1 and isinstance(i.args[0], ast.Constant)):
                wrong.append((s, "a loop"))
            names.add(s.target.id)
            block(s.body, tensors, names, wrong)
        elif isinstance(s, ast.Expr):
            if not (isinstance(s.value, ast.Call) and root(s.value.func) == "nisa"):
                wrong.append((s, "a statement"))
            expression(s.value, tensors, names, wrong)
        elif isinstance(s, ast.Return):
            expression(s.value, tensors, names, wrong)
        elif not isinstance(s, ast.Pass):
            wrong.append((s, "a statement"))


def check(text):
    wrong = []
    tree = ast.parse(text)
    head, last = tree.body[:-1], tree.body[-1]
    if [ast.unparse(s) for s in head] != IMPORTS:
        wrong.append((tree.body[0], "a head"))
    if not isinstance(last, ast.FunctionDef) or [ast.unparse(d) for d in last.decorator_list] != ["nki.jit"]:
        wrong.append((last, "an end"))
        return wrong
    block(last.body, {a.arg for a in last.args.args}, set(), wrong)
    return wrong


bad = 0
with open(sys.argv[1], encoding="utf-8") as f:
    paths = f.read().splitlines()
for path in paths:
    with open(path, encoding="utf-8", newline="") as f:
        text = f.read()
    try:
        for node, what in check(text):
            bad += 1
            print(f"{path}:{getattr(node, 'lineno', 0)}: {what} that is no kernel's: {ast.unparse(node)[:200]}")
    except (SyntaxError, ValueError) as e:
        bad += 1
        print(f"{path}: {e}")
sys.exit(bad != 0)
