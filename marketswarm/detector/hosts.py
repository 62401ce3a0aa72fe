"""Count the services that are up by the machine that they beat from. Pure.

A miss says how many others from its machine are up: after the last one of a machine that died, none is. No
beat pays for that: all services are counted when one is missed, at most once a second, and what becomes of
each meanwhile is noted.
"""

from collections.abc import Mapping
from typing import Final

from marketswarm.detector.service import WatchedService
from marketswarm.detector.verdict import State

COUNT_AGAIN_SEC: Final = 1.0
"""After how many seconds all services are counted again, if another one is missed."""


class HostCensus:
    """The names of the services that are up, by the host that alone their beats name.

    A service that is down because it reported a failure beats all the same, so it counts. A job with a
    schedule does not count: it is up until its next run is due, whatever became of its machine.

    Args:
        services: those of the detector, by name.
    """

    def __init__(self, services: Mapping[str, WatchedService]) -> None:
        self._services = services
        self._up: dict[str, set[str]] = {}
        self._counted_at = float("-inf")

    def count_others(self, svc: str, host: str, now: float) -> int:
        """Record that `svc` is silent; return how many others of its host are up; `now` is monotonic."""
        if not 0 <= now - self._counted_at < COUNT_AGAIN_SEC:
            self._count_all(now)
        here = self._up.get(host)
        if here is None:
            return 0
        here.discard(svc)
        return len(here)

    def note_up(self, svc: str, host: str) -> None:
        """Record that a service is up again."""
        self._up.setdefault(host, set()).add(svc)

    def _count_all(self, now: float) -> None:
        self._up, self._counted_at = {}, now
        for svc, service in self._services.items():
            is_silent = service.state is State.DOWN and service.failure is None
            host = None if is_silent or service.has_schedule else service.find_only_host()
            if host is not None:
                self._up.setdefault(host, set()).add(svc)
