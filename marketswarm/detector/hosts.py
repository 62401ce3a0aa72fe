"""Know which services are up on which machine, by the hosts that their beats name. Pure.

A miss says how many others from its machine are up: after the last one of a machine that died, none is. What
becomes of a service is noted when it happens, so that no miss looks at all services: they may be a hundred
thousand.
"""

from collections.abc import Callable
from itertools import islice
from typing import Final

FindHost = Callable[[], str | None]

MAX_ASKED: Final = 1000
"""Where services are whose instances named several hosts is a question of time: so many of them are asked."""


class HostCensus:
    """The services that are up, by the host that their beats named last."""

    def __init__(self) -> None:
        self._up: dict[str, set[str]] = {}
        self._host_of: dict[str, str] = {}  # of those in `_up`, the key of each
        self._several: dict[str, FindHost] = {}  # of those whose instances named several hosts

    def note(self, svc: str, host: str | None, find_host: FindHost | None = None) -> None:
        """Note where a service is: on `host`, on none that counts, or where `find_host` says, if it is given.

        Call this when the service came up or fell silent, was dropped, or named a host.
        """
        if find_host is None or host is None:
            self._several.pop(svc, None)
        else:
            self._several[svc], host = find_host, None
        before = self._host_of.get(svc)
        if host == before:
            return
        if before is not None:
            del self._host_of[svc]
            self._up[before].discard(svc)
            if not self._up[before]:
                del self._up[before]
        if host is not None:
            self._host_of[svc] = host
            self._up.setdefault(host, set()).add(svc)

    def count_up(self, host: str) -> int:
        """Return how many services are up on a host and on no other."""
        several = islice(self._several.values(), MAX_ASKED)
        return len(self._up.get(host, ())) + sum(find() == host for find in several)
