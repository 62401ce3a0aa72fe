"""`status` as values: what the roster, the mesh, the beats and the truth say, a row a service. Pure."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from marketswarm.cli.leader import Leader
from marketswarm.truth import Truth

UNWATCHABLE: Final = "unwatchable"
"""The verdict on a service whose channel its bus does not let the healer hear."""


@dataclass(frozen=True, slots=True)
class Row:
    """One service. `silence_sec` is the age of its last beat; None, like all else, when nobody knows."""

    svc: str
    verdict: str
    silence_sec: float | None
    timeout_sec: float
    instances: int | None
    boot: str | None
    rev: int | None
    restarts: int | None
    status: str | None
    detail: str | None
    bus: str
    last_run: Mapping[str, Any] | None = None  # of a command that `marketswarm exec` runs
    replicas: int | None = None  # how many instances the truth wants


@dataclass(frozen=True, slots=True)
class Facts:
    """What was read, by service; empty where there was nothing.

    `ttls_sec` is what the `beat:` keys have left to live, `instances` what the mesh saw.
    """

    roster: Mapping[str, Mapping[str, Any]]
    health: Mapping[str, Mapping[str, Any]]
    beats: Mapping[str, Mapping[str, Any]]
    ttls_sec: Mapping[str, float]
    instances: Mapping[str, list[Mapping[str, Any]]]
    leader: Leader | None = None
    runs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def services(truth: Truth) -> dict[str, tuple[str, float]]:
    """Bus and timeout of every service there is, those that the healer alone knows of too."""
    watched = {watch.svc: (watch.bus, watch.timeout_sec) for watch in truth.watched()}
    return {svc: (truth.bus_of(svc), truth.timeout_of(svc)) for svc in truth.services} | watched


def rows(truth: Truth, facts: Facts) -> list[Row]:
    """A row for every service, in the order of the truth."""
    away = lost(facts)
    replicas = {svc: section.replicas for svc, section in truth.services.items()}
    return [
        replace(_row(svc, bus, timeout_sec, facts, away), replicas=replicas.get(svc))
        for svc, (bus, timeout_sec) in services(truth).items()
    ]


def _row(svc: str, bus: str, timeout_sec: float, facts: Facts, away: Container[str]) -> Row:
    beat = facts.beats.get(svc, {})
    silence_sec = _silence_sec(facts.ttls_sec.get(svc), timeout_sec)
    seen = facts.instances.get(svc)
    return Row(
        svc=svc,
        verdict=_verdict(svc, silence_sec, timeout_sec, facts, heard=bus not in away),
        silence_sec=silence_sec,
        timeout_sec=timeout_sec,
        instances=None if seen is None else len(seen),
        boot=_text(beat.get("boot")),
        rev=_whole(beat.get("rev")),
        restarts=None if seen is None else sum(_whole(each.get("restarts")) or 0 for each in seen),
        # a beat that says nothing of its state is a good one
        status=_text(beat.get("status")) or ("ok" if beat else None),
        detail=_text(beat.get("detail")),
        bus=bus,
        last_run=facts.runs.get(svc),
    )


def lost(facts: Facts) -> dict[str, str]:
    """The buses that the healer does not hear, or hardly, by the roster, and why."""
    fields = ((name.partition(":"), entry) for name, entry in facts.roster.items())
    return {
        bus: str(_event(entry).get("reason", "away"))
        for (kind, _, bus), entry in fields
        if kind == "bus" and entry.get("verdict") == "down"
    }


def _event(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    event = entry.get("event")
    return event if isinstance(event, dict) else {}


def _verdict(svc: str, silence_sec: float | None, timeout_sec: float, facts: Facts, *, heard: bool) -> str:
    """The healer's; of one it does not judge (itself), the last word on it, else what its beats tell.

    Of one that was up on a bus that is not `heard` by the healer, nobody knows.
    """
    if facts.roster.get(f"watch:{svc}", {}).get("verdict") == "down":
        return UNWATCHABLE
    told = facts.roster.get(svc, {}).get("verdict")
    if isinstance(told, str):
        return told if heard or told != "up" else "unknown"
    word = str(facts.health.get(svc, {}).get("type", ""))
    if word.endswith("_miss"):
        return "down"
    if silence_sec is None:
        return "unknown"
    return "up" if silence_sec <= timeout_sec else "silent"


def _silence_sec(ttl_sec: float | None, timeout_sec: float) -> float | None:
    """The age of a `beat:` key, which lives for twice the timeout; a longer life tells nothing."""
    if ttl_sec is None or not 0 <= ttl_sec <= 2 * timeout_sec:
        return None
    return round(2 * timeout_sec - ttl_sec, 3)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
