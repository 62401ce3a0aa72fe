"""Find tests that are parametrized over a set, whose order is another one in each process. Pure.

Each worker of xdist collects the tests for itself, and no test runs unless all have the same ones in the
same order.
"""

import ast
from collections.abc import Iterator, Mapping

_MAKERS = ("set", "frozenset")
_KEEPERS = ("list", "tuple", "enumerate", "reversed", "zip", "map", "filter")
"""Functions that keep the order of what they are given, and so the lack of one."""
_OF_SETS = ("union", "difference", "intersection", "symmetric_difference")


def find_unordered(text: str) -> list[int]:
    """Return the lines of the calls of `parametrize` in a module's text whose values have no order."""
    tree = ast.parse(text)
    names: dict[str, bool] = {}
    for name, value in _list_assigned(tree):
        names[name] = _is_unordered(value, names)
    return [
        call.lineno
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "parametrize"
        and any(_is_unordered(value, names) for value in _list_values(call))
    ]


def _list_assigned(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Yield the names that a module assigns, each with its value."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        value = getattr(node, "value", None)
        for target in targets:
            if isinstance(target, ast.Name) and value is not None:
                yield target.id, value


def _list_values(call: ast.Call) -> list[ast.expr]:
    return [*call.args[1:2], *(each.value for each in call.keywords if each.arg == "argvalues")]


def _is_unordered(node: ast.expr, names: Mapping[str, bool]) -> bool:
    match node:
        case ast.Set() | ast.SetComp():
            return True
        case ast.Name():
            return names.get(node.id, False)
        case ast.List() | ast.Tuple():
            starred = (each.value for each in node.elts if isinstance(each, ast.Starred))
            return any(_is_unordered(each, names) for each in starred)
        case ast.ListComp() | ast.GeneratorExp():
            return any(_is_unordered(each.iter, names) for each in node.generators)
        case ast.BinOp():
            return _is_unordered(node.left, names) or _is_unordered(node.right, names)
        case ast.IfExp():
            return _is_unordered(node.body, names) or _is_unordered(node.orelse, names)
        case ast.Call(func=ast.Name(id=name)):
            return name in _MAKERS or (
                name in _KEEPERS and any(_is_unordered(each, names) for each in node.args)
            )
        case ast.Call(func=ast.Attribute(attr=name, value=of)):
            return name in _OF_SETS and _is_unordered(of, names)
    return False
