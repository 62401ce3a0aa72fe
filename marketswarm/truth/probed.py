"""What the truth says of what a service probes: `settings.targets`, each told as `<service>/<name>`. Pure.

For those who tell people of them, and read no more than that. Whether a target makes sense is for the service
that probes it to say: what is of another shape here is passed over.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from marketswarm.truth.document import Truth
from marketswarm.truth.entries import SEVERITIES, Service


@dataclass(frozen=True, slots=True)
class Probed:
    """One target: how much it matters, and what it depends on: services, other targets, `bus:<name>`."""

    svc: str
    severity: str
    tags: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()


def probed(truth: Truth) -> Iterator[Probed]:
    """All of them."""
    for owner, section in truth.services.items():
        for target in _targets(section):
            yield _read(owner, section, target)


def probed_as(truth: Truth, svc: str) -> Probed | None:
    """The one that is told as `svc`, `massive/shop`; None for a service, and for one that is not there."""
    owner, _, name = svc.partition("/")
    section = truth.services.get(owner)
    if not name or section is None:
        return None
    found = (target for target in _targets(section) if target["name"] == name)
    return next((_read(owner, section, target) for target in found), None)


def _targets(section: Service) -> Iterator[dict[str, Any]]:
    targets = section.settings.get("targets")
    for target in targets if isinstance(targets, list) else ():
        if isinstance(target, dict) and isinstance(target.get("name"), str):
            yield target


def _read(owner: str, section: Service, target: dict[str, Any]) -> Probed:
    """A target has the tags of its service, too; and its severity, unless it has its own."""
    severity, bus = target.get("severity"), target.get("bus")
    buses = (f"bus:{bus}",) if isinstance(bus, str) else ()
    return Probed(
        f"{owner}/{target['name']}",
        severity if severity in SEVERITIES else section.severity,
        (*section.tags, *_words(target.get("tags"))),
        (*buses, *_words(target.get("depends_on"))),
    )


def _words(value: Any) -> tuple[str, ...]:
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list) else ()
