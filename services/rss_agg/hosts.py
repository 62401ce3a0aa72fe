"""Who waits for which host, and whose turn it is: a few at once, a pause between. Pure; times in seconds."""

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final

NEVER: Final = float("inf")
REMEMBERED: Final = 2_000


@dataclass(slots=True)
class _Host:
    busy: int = 0
    free_at: float = 0.0
    waiting: deque[str] = field(default_factory=deque)


class Hosts:
    """The queues of all hosts. Whatever is handed out by `take` comes back by `done`."""

    def __init__(self) -> None:
        self._hosts: dict[str, _Host] = {}
        self._waiting: OrderedDict[str, None] = OrderedDict()  # the next host first

    def wait(self, host: str, feed: str) -> None:
        """A feed wants its turn."""
        self._hosts.setdefault(host, _Host()).waiting.append(feed)
        self._waiting.setdefault(host)

    def take(self, now: float, at_once: int, spacing_sec: float) -> tuple[str, str] | None:
        """The next feed that may be read now, after its host; or None."""
        for name in self._waiting:
            host = self._hosts[name]
            if host.busy < at_once and host.free_at <= now:
                host.busy += 1
                host.free_at = now + spacing_sec
                feed = host.waiting.popleft()
                self._waiting.move_to_end(name)
                if not host.waiting:
                    del self._waiting[name]
                return name, feed
        return None

    def done(self, host: str, now: float, pause_sec: float = 0.0) -> None:
        """A reading of this host is over; the host wants to be left alone for so long."""
        found = self._hosts.setdefault(host, _Host(busy=1))
        found.busy -= 1
        found.free_at = max(found.free_at, now + pause_sec) if pause_sec else found.free_at
        if len(self._hosts) > REMEMBERED:
            self._hosts = {
                name: one for name, one in self._hosts.items() if one.busy or one.waiting or one.free_at > now
            }

    def next_at(self, now: float, at_once: int) -> float:
        """When a pause ends that someone waits for; NEVER when nobody waits for a pause alone."""
        pauses = (
            max(now, self._hosts[name].free_at) for name in self._waiting if self._hosts[name].busy < at_once
        )
        return min(pauses, default=NEVER)

    def forget(self) -> None:
        """Nobody waits any more; pauses and what is under way stay."""
        for host in self._hosts.values():
            host.waiting.clear()
        self._waiting.clear()
