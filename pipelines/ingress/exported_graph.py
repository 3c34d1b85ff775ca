"""What a serialized exported program may say: registered operators, names, sizes; nothing that would be run."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch._ops import HigherOrderOperator, OpOverload

from loopmorph.pipelines.support.archives import MAX_UNPACKED

_NAMESPACES = ("aten", "prims")
_HIGHER_ORDER = re.compile(
    "wrap_with_(set_grad_enabled|autocast)|cond|while_loop|map_impl|scan|associative_scan|auto_functionalized(_v2)?"
)
_MATH = re.compile("ceil|floor|trunc|sqrt|pow|exp|log(2|10)?|a?(sin|cos|tan)h?|atan2")
_PYTHON_OPERATORS = re.compile(
    "abs|add|and_|eq|floordiv|ge|getitem|gt|le|lt|mod|mul|ne|neg|not_|or_|pos|pow|sub|truediv|xor"
)
_NAME = re.compile(r"[\w.]*")  # what becomes a name in the code that PyTorch generates
_PATH = re.compile(r"[^\"'`\\()\n\r]*")  # a qualified name, whose parts need not be identifiers
_WORD = re.compile(r"\w+|[0-9.eE+-]+")
_FREE_TEXT = ("as_string", "as_strings", "torch_version")  # never looked at, or written as a literal
_PATHS = ("parameter_name", "buffer_name", "tensor_constant_name", "custom_obj_name", "fqn", "path_name")
_TREES = ("in_spec", "out_spec")
_TREE_TYPES = (None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict")
_PICKLED_CONSTANTS = ("custom_obj", "opaque_obj")
# What sizes are made of, in the form that `sympy.srepr` gives them.
_POWERS = ("Pow", "PowByNatural", "FloatPow", "LShift", "RShift")
_FUNCTIONS = re.compile(
    "Symbol|Integer|Float|Rational|Add|Mul|Max|Min|Mod|FloorDiv|CeilDiv|CleanDiv|ModularIndexing|PythonMod|Where|"
    "CeilToInt|FloorToInt|TruncToInt|RoundToInt|TruncToFloat|RoundDecimal|ToFloat|IntTrueDiv|FloatTrueDiv|Identity|"
    "Equality|Unequality|Eq|Ne|StrictGreaterThan|StrictLessThan|GreaterThan|LessThan|And|Or|Not|" + "|".join(_POWERS)
)
_EXPRESSION = (ast.Expression, ast.Call, ast.keyword, ast.Name, ast.Load, ast.Constant, ast.UnaryOp, ast.USub)
_LONGEST = 2000  # characters of an expression
_LARGEST_POWER, _MOST_POWERS = 64, 2


class Untrusted(Exception):
    """A file holds what could run code, or what nobody can look through; says what."""


def check_graph(content: Any) -> None:
    """Looks through `models/model.json`.

    Raises:
        Untrusted: it is more than a graph of registered operators.
    """
    if not isinstance(content, dict):
        raise Untrusted("its graph is not a graph")
    for key, value in _leaves({k: v for k, v in content.items() if k != "guards_code"}):
        _check_leaf(key, value)


def check_payload(content: Any) -> None:
    """Looks through the list of weights, or of constants.

    Raises:
        Untrusted: one of them is a pickled object, or has more elements than a file may unpack to.
    """
    for key, value in _leaves(content):
        if key == "path_name" and str(value).startswith(_PICKLED_CONSTANTS):
            raise Untrusted(f"its constant '{value}' is a pickled object")
        _check_leaf(key, value)


def _leaves(content: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Each value with the nearest key above it; sizes stay together, and metadata, which describe, are left out."""
    if isinstance(content, dict):
        for name, value in content.items():
            if name == "sizes":
                yield name, value
            elif name == "as_custom_obj":
                raise Untrusted("it takes or holds an object that is no tensor")
            if name != "metadata":
                yield from _leaves(value, name)
    elif isinstance(content, list):
        for value in content:
            yield from _leaves(value, key)
    else:
        yield key, content


def _check_leaf(key: str, value: Any) -> None:
    if key == "sizes":
        _check_sizes(value)
    elif not isinstance(value, str) or key in _FREE_TEXT:
        return
    elif key in ("target", "as_operator"):
        _check_operator(value)
    elif key == "expr_str":
        _check_expression(value)
    elif key in _TREES:
        _check_tree(value)
    elif not (_PATH if key in _PATHS else _NAME).fullmatch(value):
        raise Untrusted(f"its {key.replace('_', ' ')} {value[:80]!r} is not a name")


def _check_sizes(sizes: Any) -> None:
    known = [size["as_int"] for size in sizes or [] if isinstance(size, dict) and isinstance(size.get("as_int"), int)]
    if math.prod(known) > MAX_UNPACKED:
        raise Untrusted(f"it has a tensor of {'x'.join(map(str, known))} elements")


def _check_operator(target: str) -> None:
    module, *names = target.split(".")
    good = False
    if module == "_operator":
        good = len(names) == 1 and _PYTHON_OPERATORS.fullmatch(names[0]) is not None
    elif module == "math":
        good = len(names) == 1 and _MATH.fullmatch(names[0]) is not None
    elif module == "torch" and _is_operator_name(names):
        found: Any = torch
        for name in names:
            found = getattr(found, name, None)
        good = isinstance(found, OpOverload | HigherOrderOperator) and not _opens_files(found)
    elif module == "torch":
        good = target in ("torch.sym_int", "torch.sym_float", "torch.sym_max", "torch.sym_min", "torch.sym_not")
    if not good:
        raise Untrusted(f"it calls '{target[:80]}', which is not an operator of PyTorch")


def _is_operator_name(names: list[str]) -> bool:
    """`ops.aten.relu.default`, or `ops.higher_order.cond`."""
    if names[:2] == ["ops", "higher_order"]:
        return len(names) == 3 and _HIGHER_ORDER.fullmatch(names[2]) is not None
    return names[:1] == ["ops"] and len(names) in (3, 4) and names[1] in _NAMESPACES


def _opens_files(found: OpOverload | HigherOrderOperator) -> bool:
    return isinstance(found, OpOverload) and any("file" in argument.name for argument in found._schema.arguments)


def _check_tree(text: str) -> None:
    """How inputs or outputs nest: only of PyTorch's plain kinds, since others name modules to import."""
    pending = [json.loads(text)] if text else []
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending += node
        if not isinstance(node, dict):
            continue
        if node.get("type") not in _TREE_TYPES:
            raise Untrusted(f"its inputs or outputs hold a {str(node.get('type'))[:80]!r}")
        context = node.get("context")
        for _, key in _leaves(json.loads(context) if isinstance(context, str) else context):
            if isinstance(key, str) and not _NAME.fullmatch(key):
                raise Untrusted(f"its inputs or outputs have the key {key[:80]!r}, which is not a name")
        pending += node.get("children_spec") or []


def _check_expression(text: str) -> None:
    try:
        tree = ast.parse(text, mode="eval") if len(text) <= _LONGEST else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree = None
    nodes = [] if tree is None else list(ast.walk(tree))
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    powers = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in _POWERS]
    good = (
        tree is not None
        and all(map(_is_plain, nodes))
        and all(isinstance(call.func, ast.Name) and _FUNCTIONS.fullmatch(call.func.id) for call in calls)
        and len(powers) <= _MOST_POWERS
        and all(len(call.args) == 2 and _is_small(call.args[1]) for call in powers)
    )
    if not good:
        raise Untrusted(f"its size {text[:80]!r} is more than a formula")


def _is_plain(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return _FUNCTIONS.fullmatch(node.id) is not None or node.id in ("True", "False")
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _WORD.fullmatch(node.value) is not None
    if isinstance(node, ast.Constant):
        return isinstance(node.value, bool | int | float)
    return isinstance(node, _EXPRESSION)


def _is_small(exponent: ast.expr) -> bool:
    """`Integer(2)` or `2`."""
    inner = exponent.args[0] if isinstance(exponent, ast.Call) and len(exponent.args) == 1 else exponent
    inner = inner.operand if isinstance(inner, ast.UnaryOp) else inner
    return isinstance(inner, ast.Constant) and isinstance(inner.value, int) and abs(inner.value) <= _LARGEST_POWER
