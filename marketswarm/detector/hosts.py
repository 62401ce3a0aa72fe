"""Know which services are up on which machine, by the hosts that their beats name. Pure.

A miss says how many others from its machine are up: after the last one of a machine that died, none is. What
becomes of a service is noted when it happens, so that no miss looks at all services: they may be a hundred
thousand.
"""

from collections.abc import Callable
from typing import Final

FindHost = Callable[[], str | None]

MAX_ASKED: Final = 1000
"""Where services are whose instances named several hosts depends on the time: so many of a host are asked."""


class _Places:
    """Services by their hosts, each with what finds where it is."""

    def __init__(self) -> None:
        self.on: dict[str, dict[str, FindHost | None]] = {}
        self._host_of: dict[str, str] = {}

    def move(self, svc: str, host: str | None, find_host: FindHost | None) -> None:
        """Put a service on a host, or remove it for None."""
        before = self._host_of.get(svc)
        if before == host and find_host is None:
            return
        if before is not None:
            del self._host_of[svc], self.on[before][svc]
            if not self.on[before]:
                del self.on[before]
        if host is not None:
            self._host_of[svc] = host
            self.on.setdefault(host, {})[svc] = find_host


class HostCensus:
    """The services that are up, by the host that their beats named last."""

    def __init__(self) -> None:
        self._up = _Places()
        # those whose instances named several hosts, by that of the one that beat last: there, or on none
        self._several = _Places()

    def note(self, svc: str, host: str | None, find_host: FindHost | None = None) -> None:
        """Note where a service is: on `host`, or on none that counts; with `find_host`, only if that says so.

        Call this when the service came up or fell silent, was dropped, or named a host.
        """
        self._up.move(svc, host if find_host is None else None, None)
        self._several.move(svc, None if find_host is None else host, find_host)

    def count_up(self, host: str) -> int:
        """Return how many services are up on a host and on no other; of very many, perhaps some more."""
        up, asked = len(self._up.on.get(host, ())), self._several.on.get(host, {})
        if len(asked) > MAX_ASKED:
            return up + len(asked)
        return up + sum(find is not None and find() == host for find in asked.values())
