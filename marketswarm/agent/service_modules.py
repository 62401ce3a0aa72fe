"""Find the programs of services in this installation, as `python -m` does. Nothing is imported."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from marketswarm.bus.scripts import find_package_folders

_TOP_LEVEL_PACKAGES: Final = ("healer", "sentinel", "notifier")
"""The agents that have packages of their own; all others are under `services`."""


def find_elsewhere(services: Iterable[str]) -> tuple[str, ...]:
    """Return the services that have no module here, in their order: they run elsewhere, or are scripts."""
    names = tuple(services)
    here = find_modules(names)
    return tuple(svc for svc in names if svc not in here)


def find_modules(services: Iterable[str]) -> dict[str, str]:
    """Return the module of each service that has one here: `services.new_svc` for `new-svc`.

    A module is a package with a `__main__`. Only files are checked, nothing is imported.
    """
    found = {}
    for svc in services:
        name = svc.replace("-", "_")
        module = svc if svc in _TOP_LEVEL_PACKAGES else f"services.{name}"
        package, _, rest = module.partition(".")
        if name.isidentifier() and any(
            Path(place, rest, "__main__.py").is_file() for place in find_package_folders(package)
        ):
            found[svc] = module
    return found
