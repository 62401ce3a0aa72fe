"""Read the results of massive's probes: how long a target takes, whether it fails, what its certificate says.

Nothing is probed here. Only while massive is up: a result that it left says nothing of now.
"""

import contextlib
from collections.abc import Callable, Mapping
from typing import Final

from marketswarm.bus import Bus, BusError, NoBusError
from marketswarm.keys import MASSIVE_PROBES
from marketswarm.status.probe_past import ProbeReading, list_target_names, read_readings
from marketswarm.truth.document_edit import MASSIVE
from services.medic.metric import Metric, Readings
from services.medic.observer import FleetObservation
from services.medic.rules.market import find_point

MAX_TARGETS: Final = 500

_Answer = tuple[float, float]
"""When a probe that succeeded began, in epoch seconds, and how long it took."""


class ProbeObserver:
    """Read the latest results of all targets of the truth."""

    def __init__(self) -> None:
        self._answers: dict[str, tuple[_Answer, ...]] = {}
        """The last two answers in a row of each target, the newest one last."""

    def list_begun(self, name: str) -> tuple[float, ...]:
        """Return when the last two probes of a target began, in epoch seconds by massive's clock.

        There are as many as were answered in a row.
        """
        return tuple(at for at, _ in self._answers.get(name, ()))

    async def read(self, seen: FleetObservation, get_bus: Callable[[str], Bus]) -> Readings:
        point = find_point(seen, MASSIVE, MASSIVE_PROBES)
        names = list_target_names(seen.truth)[:MAX_TARGETS]
        found: dict[str, ProbeReading] = {}
        if point is not None and names:
            with contextlib.suppress(BusError, NoBusError):  # what does not answer is not known
                found = await read_readings(get_bus(point.bus), names)
        return self.note_results(found)

    def note_results(self, results: Mapping[str, ProbeReading]) -> Readings:
        """Return what these results say, by target."""
        self._answers = {
            name: answers
            for name, each in results.items()
            if (answers := _add_answer(self._answers.get(name, ()), each))
        }
        return {
            # the faster of two answers, since a single slow one is a spike
            Metric.PROBE_SEC: {
                name: min(sec for _, sec in each) if len(each) > 1 else None
                for name, each in self._answers.items()
            },
            Metric.PROBE_FAILING: {name: float(not each.ok) for name, each in results.items()},
            Metric.CERTIFICATE_DAYS: {name: each.days_left for name, each in results.items()},
        }


def _add_answer(answers: tuple[_Answer, ...], result: ProbeReading) -> tuple[_Answer, ...]:
    """Return the last two answers of a target after this result.

    There are none if the probe failed, or if it is not known how long it took.
    """
    if not result.ok or result.total_sec is None:
        return ()
    if answers and answers[-1][0] == result.at:
        return answers
    return (*answers, (result.at, result.total_sec))[-2:]
