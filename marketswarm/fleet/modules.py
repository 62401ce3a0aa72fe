"""Which services have a program here: a package with a `__main__`. Looks at files, imports none of them."""

from collections.abc import Iterable
from pathlib import Path

from marketswarm.bus.scripts import places_of

# these are packages of their own; all others are under `services`
_WATCHERS = ("healer", "sentinel", "notifier")


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
    return any(Path(place, rest, "__main__.py").is_file() for place in places_of(package))
