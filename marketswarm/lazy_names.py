"""Give a package names that are imported from its modules when they are first used.

A package whose `__init__` imports all of its modules makes each program that needs one of them import, and
wait for, all others. So it imports them under `TYPE_CHECKING` alone, for checkers of types, and the source of
these imports says here which module has which name.
"""

import ast
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any


def import_when_used(package: str) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package: it finds the names that the package imports under TYPE_CHECKING.

    The source of the package is read once, when the first of them is used.
    """

    @cache
    def find_modules() -> dict[str, str | None]:
        loader: Any = getattr(find_spec(package), "loader", None)
        blocks = (each for each in ast.parse(loader.get_source(package)).body if isinstance(each, ast.If))
        imports = [each for block in blocks for each in block.body if isinstance(each, ast.ImportFrom)]
        return {alias.name: each.module for each in imports for alias in each.names}

    def find(name: str) -> Any:
        module = None if name.startswith("__") else find_modules().get(name)
        if module is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(module), name)
        setattr(import_module(package), name, value)
        return value

    return find
