"""Find what else can be missed: the targets of probes, and what the rules of the medic are about."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from marketswarm.truth.model import MEDIC, SEVERITIES, Service, Truth

ESCALATED_RULE: Final = "escalated"
"""The rule of the medic that holds while it has given up a service."""
PROPOSED_RULE: Final = "proposed"
"""The rule of the medic that holds while a remedy for a service waits for a person's approval."""


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """A probe target in a service's `settings.targets`, read without checking the target.

    `svc` is `<service>/<name>`. `depends_on` names services, other targets, or `bus:<name>`.
    """

    svc: str
    severity: str
    tags: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()


def find_probe_targets(truth: Truth) -> Iterator[ProbeTarget]:
    """Skip entries that are not objects with a `name`."""
    for owner, section in truth.services.items():
        yield from _list_targets(owner, section)


def find_probe_target(truth: Truth, svc: str) -> ProbeTarget | None:
    """Return the target called `svc`, such as `massive/shop`; None if `svc` is a service or unknown."""
    owner, _, name = svc.partition("/")
    section = truth.services.get(owner)
    if not name or section is None:
        return None
    return next((target for target in _list_targets(owner, section) if target.svc == svc), None)


def find_rule_target(truth: Truth, svc: str) -> ProbeTarget | None:
    """Return what a rule of the medic is about, such as `medic/degraded/rss_agg`; None for other names.

    It has the tags of that service, and depends on it, or on that bus. That a service was given up, or that
    something is proposed (`medic/proposed/rss_agg`), depends on nothing: people must hear of it meanwhile.
    """
    owner, _, name = svc.partition("/")
    rule, _, subject = name.partition("/")
    section = truth.services.get(owner)
    if owner != MEDIC or section is None or not subject:
        return None
    about = truth.services.get(subject)
    on = (subject,) if about is not None else (f"bus:{subject}",) if subject in truth.bus_names() else ()
    return ProbeTarget(
        svc,
        section.severity,
        section.tags if about is None else about.tags,
        () if rule in (ESCALATED_RULE, PROPOSED_RULE) else on,
    )


def _list_targets(owner: str, section: Service) -> Iterator[ProbeTarget]:
    """Yield what the objects in a service's `settings.targets` describe that have a text as `name`.

    A target has the tags of its service and its own, and the severity of its service unless it has a valid
    one.
    """
    targets = section.settings.get("targets")
    for target in targets if isinstance(targets, list) else ():
        if not isinstance(target, dict) or not isinstance(target.get("name"), str):
            continue
        severity, bus = target.get("severity"), target.get("bus")
        buses = (f"bus:{bus}",) if isinstance(bus, str) else ()
        yield ProbeTarget(
            f"{owner}/{target['name']}",
            severity if severity in SEVERITIES else section.severity,
            (*section.tags, *_keep_texts(target.get("tags"))),
            (*buses, *_keep_texts(target.get("depends_on"))),
        )


def _keep_texts(value: Any) -> tuple[str, ...]:
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list) else ()
