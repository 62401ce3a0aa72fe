"""Read the results of massive's probes: how long a target takes, whether it fails, what its certificate says.

Nothing is probed here. Only while massive is up: a result that it left says nothing of now.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from marketswarm.bus import Bus, BusError, NoBusError
from marketswarm.bus.stored_values import parse_epoch, parse_number, parse_object, read_strings
from marketswarm.keys import MASSIVE_PROBES, probe_key
from services.medic.metric import Metric, Readings
from services.medic.observer import FleetObservation
from services.medic.rule import MASSIVE, list_probes
from services.medic.rules.market import find_point

MAX_TARGETS: Final = 500
MOST_MS: Final = 86_400_000.0
MOST_DAYS: Final = 100_000.0


@dataclass(frozen=True, slots=True)
class _ProbeAnswer:
    """When a probe that succeeded began, how long it took, and the one before it if that succeeded, too."""

    ts: float
    sec: float
    before: tuple[float, float] | None = None


class ProbeObserver:
    """Read the latest results of all targets of the truth."""

    def __init__(self) -> None:
        self._answers: dict[str, _ProbeAnswer] = {}

    def list_begun(self, name: str) -> tuple[float, ...]:
        """Return when the last two probes of a target began, in epoch seconds by massive's clock.

        There are as many as were answered in a row.
        """
        answer = self._answers.get(name)
        if answer is None:
            return ()
        return (answer.ts,) if answer.before is None else (answer.before[0], answer.ts)

    async def read(self, seen: FleetObservation, get_bus: Callable[[str], Bus]) -> Readings:
        point = find_point(seen, MASSIVE, MASSIVE_PROBES)
        names = list_probes(seen.truth)[:MAX_TARGETS]
        found: list[bytes | None] = []
        if point is not None and names:
            with contextlib.suppress(BusError, NoBusError):  # what does not answer is not known
                found = await read_strings(get_bus(point.bus), list(map(probe_key, names)))
        return self.read_results(dict(zip(names, found, strict=False)))

    def read_results(self, results: dict[str, bytes | None]) -> Readings:
        """Return what these results say, by target. What is not a result of that target is not known."""
        documents = {name: parse_object(raw) for name, raw in results.items()}
        documents = {name: each for name, each in documents.items() if each.get("target") == name}
        self._answers = {
            name: answer
            for name, each in documents.items()
            if (answer := _take_answer(each, self._answers.get(name))) is not None
        }
        return {
            # the faster of two answers, since a single slow one is a spike
            Metric.PROBE_SEC: {
                name: None if each.before is None else min(each.sec, each.before[1])
                for name, each in self._answers.items()
            },
            Metric.PROBE_FAILING: {
                name: float(not each["ok"]) if isinstance(each.get("ok"), bool) else None
                for name, each in documents.items()
            },
            Metric.CERTIFICATE_DAYS: {
                name: parse_number(each.get("days_left"), -MOST_DAYS, MOST_DAYS)
                for name, each in documents.items()
            },
        }


def _take_answer(document: dict[str, object], last: _ProbeAnswer | None) -> _ProbeAnswer | None:
    """Return the last answer of a target after this result; None if the probe failed, or is not known."""
    ts, ms = parse_epoch(document.get("ts")), parse_number(document.get("total_ms"), 0.0, MOST_MS)
    if document.get("ok") is not True or ts is None or ms is None:
        return None
    if last is not None and last.ts == ts:
        return last
    return _ProbeAnswer(ts, ms / 1000, None if last is None else (last.ts, last.sec))
