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


class HostCensus:
    """The services that are up, by the host that their beats named last."""

    def __init__(self) -> None:
        self._up: dict[str, set[str]] = {}
        self._host_of: dict[str, str] = {}  # of those in `_up`, the key of each
        # those whose instances named several hosts, by that of the one that beat last: there, or on none
        self._several: dict[str, dict[str, FindHost]] = {}
        self._several_on: dict[str, str] = {}  # the key of each

    def note(self, svc: str, host: str | None, find_host: FindHost | None = None) -> None:
        """Note where a service is: on `host`, or on none that counts; with `find_host`, only if that says so.

        Call this when the service came up or fell silent, was dropped, or named a host.
        """
        if (on := self._several_on.pop(svc, None)) is not None:
            del self._several[on][svc]
            if not self._several[on]:
                del self._several[on]
        if find_host is not None and host is not None:
            self._several_on[svc] = host
            self._several.setdefault(host, {})[svc] = find_host
            host = None
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
        """Return how many services are up on a host and on no other; of very many, perhaps some more."""
        up, asked = len(self._up.get(host, ())), self._several.get(host, {})
        if len(asked) > MAX_ASKED:
            return up + len(asked)
        return up + sum(find() == host for find in asked.values())
