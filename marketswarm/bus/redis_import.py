"""Import redis-py without the parts of it that no program here uses.

The first are the packages of OpenTelemetry, which it imports if they are installed. It has metrics of its
own, and records none unless it is asked to; to import what they need takes 3 MB and 0.1 s of every agent. A
user of OpenTelemetry has set one of its variables, or has imported it before: then it stays.

The others are its clients of clusters and of sentinels, and its readers of key events. Its packages import
them, so a package runs its `__init__` only when a name is looked up in it that is no module. Our modules
import each name from the module that defines it. `importlib.metadata`, which reads emails and archives, only
knows its version, which our connections don't send.
"""

import os
import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from typing import Any, Final

_PACKAGES: Final = ("redis", "redis.asyncio", "importlib.metadata")
"""The packages that import what is not used, an outer one before its inner ones."""


def _import_on_demand(name: str) -> None:
    """Put a package into `sys.modules` whose `__init__` runs when a name of it is looked up.

    A package that was imported before stays as it is.
    """
    spec = None if name in sys.modules else find_spec(name)
    if spec is None or spec.loader is None:
        return
    package, loader = module_from_spec(spec), spec.loader

    def find(attribute: str) -> Any:
        if find_spec(f"{name}.{attribute}") is not None:
            return import_module(f"{name}.{attribute}")
        del vars(package)["__getattr__"]  # what it imports looks here for names that it is yet to get
        loader.exec_module(package)
        return getattr(package, attribute)

    vars(package)["__getattr__"] = find
    sys.modules[name] = package


_is_used = "opentelemetry" in sys.modules or any(name.startswith("OTEL_") for name in os.environ)
if not _is_used:
    sys.modules["opentelemetry"] = None  # type: ignore[assignment]  # None: an import of it fails
for _package in _PACKAGES:
    _import_on_demand(_package)
from redis.asyncio.client import Pipeline  # noqa: E402 - after the lines above

if not _is_used:
    del sys.modules["opentelemetry"]

__all__ = ["Pipeline"]
