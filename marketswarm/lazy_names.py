"""Give a package names that are imported from its modules when they are first used.

A package whose `__init__` imports all of its modules makes each program that needs one of them import, and
wait for, all others. Checkers of types read the imports under `TYPE_CHECKING` beside the call.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def import_when_used(package: str, modules: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package; `modules` are the names that each module gives to it."""
    module_of = {name: module for module, names in modules.items() for name in names}

    def find(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(module_of[name]), name)
        setattr(import_module(package), name, value)
        return value

    return find
