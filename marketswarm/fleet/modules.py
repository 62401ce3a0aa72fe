"""Which services have a program here: a package with a `__main__`. Looks at files, imports none of them."""

import os
import sys
from collections.abc import Iterable
from importlib.machinery import PathFinder
from pathlib import Path

# these are packages of their own; all others are under `services`
_WATCHERS = ("healer", "sentinel", "notifier")
_OURS = Path(__file__).parents[2] / "services"


def modules_of(services: Iterable[str]) -> dict[str, str]:
    """The module to run for each service that has one: `services.new_svc` for `new-svc`."""
    found = {}
    for svc in services:
        name = svc.replace("-", "_")
        module = svc if svc in _WATCHERS else f"services.{name}"
        if name.isidentifier() and _runs(module):
            found[svc] = module
    return found


def _runs(module: str) -> bool:
    package, _, rest = module.partition(".")
    return any(Path(place, rest, "__main__.py").is_file() for place in _places(package))


def _places(package: str) -> list[Path]:
    """The folders of a package for a program that is started in this folder by `python -m`."""
    here = [] if sys.flags.safe_path else [os.getcwd()]  # noqa: PTH109 - an entry of sys.path is text
    path = [*here, *sys.path]
    spec = PathFinder.find_spec(package, path)
    places = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    if _OURS in places and package == _OURS.name:  # it takes in every folder of its name
        places += [Path(entry, package) for entry in path]
    return places
