"""The instances (`boot`) of one service: which beats are replays, and which other instances are alive.

Pure. Almost every service has one instance, so what only several have is an object of its own.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import inf


@dataclass(slots=True, eq=False)
class _Several:
    """What only a service has that had several instances, or sent reports about runs.

    Attributes:
        highest: the highest `i` of all instances, from the second one on.
        hosts: the host of each instance, once two of them named different ones.
        alive_i: the `i` of the last sign of life of instances that sent a run's report after it.
        others_at: when the other instances beat last, in monotonic seconds.
        dropped_beats: the sum of the `i` of instances that were dropped.
    """

    highest: dict[str, int] | None = None
    hosts: dict[str, str] | None = None
    alive_i: dict[str, int] = field(default_factory=dict)
    others_at: dict[str, float] = field(default_factory=dict)
    dropped_beats: int = 0


@dataclass(slots=True, eq=False)
class Instances:
    """The highest `i` heard from each instance of a service; the instance heard first comes first."""

    last: str | None = None  # the instance that beat last
    _first: str | None = None  # the only instance, unless `_several` has more
    _first_i: int = 0
    _several: _Several | None = None

    @property
    def dropped_beats(self) -> int:
        """The sum of the `i` of instances that were dropped."""
        return 0 if self._several is None else self._several.dropped_beats

    def __iter__(self) -> Iterator[str]:
        return iter(self.to_dict())

    def __len__(self) -> int:
        highest = self._find_highest()
        return int(self._first is not None) if highest is None else len(highest)

    def to_dict(self) -> dict[str, int]:
        """Return a copy: the highest `i` by instance."""
        if (highest := self._find_highest()) is not None:
            return highest.copy()
        return {} if self._first is None else {self._first: self._first_i}

    def find_i(self, boot: str) -> int | None:
        """Return the highest `i` heard from an instance; None if it is not known."""
        if (highest := self._find_highest()) is not None:
            return highest.get(boot)
        return self._first_i if boot == self._first else None

    def set_i(self, boot: str, i: int) -> None:
        """Set the highest `i` of an instance; a new one is the newest."""
        if (highest := self._find_highest()) is not None:
            highest[boot] = i
        elif self._first is not None and boot != self._first:
            self._make_several().highest = {self._first: self._first_i, boot: i}
        else:
            self._first_i = i
            if self._first is None:  # otherwise the text that is kept is the one that `last` has, too
                self._first = boot

    def raise_i(self, boot: str, i: int) -> None:
        """Raise the highest `i` of an instance to `i`, if that is greater."""
        self.set_i(boot, max(i, self.find_i(boot) or 0))

    def add_older(self, known: Mapping[str, int]) -> None:
        """Add instances with their highest `i`, which were heard before those that are here."""
        own = self.to_dict()
        if own.keys() - known.keys():
            if self._several is not None:
                self._several.highest = None
            self._first = None
            for boot, i in {**known, **own}.items():
                self.set_i(boot, i)
        for boot, i in known.items():
            self.raise_i(boot, i)

    def find_newest(self) -> tuple[str | None, int | None]:
        """Return the newest instance, by when it was first heard, and its highest `i`.

        Both are None if no beat had a `boot`.
        """
        if (highest := self._find_highest()) is None:
            return (None, None) if self._first is None else (self._first, self._first_i)
        newest = next(reversed(highest), None)
        return newest, None if newest is None else highest[newest]

    def _find_highest(self) -> dict[str, int] | None:
        """Return the highest `i` of all instances if there was ever more than one; otherwise None."""
        return None if self._several is None else self._several.highest

    def _make_several(self) -> _Several:
        if self._several is None:
            self._several = _Several()
        return self._several

    # -- replays

    def check_replay(self, boot: str | None, i: int, kept: int, *, is_alive: bool) -> bool:
        """Return True if this beat, or a later one of its instance, was heard before; record `i` if not.

        Beats without a `boot` can't be told apart: they are never replays. A new instance replaces those that
        were silent longest, so that there are `kept` at most. `is_alive` is False for a report that is not a
        sign of life.
        """
        if boot is None:
            return False
        highest = self.find_i(boot)
        if highest is not None and i <= highest:
            return True
        if highest is None:
            while len(self) >= kept:
                self._drop_oldest()
        if not is_alive:
            self._make_several().alive_i.setdefault(boot, -1 if highest is None else highest)
        elif self._several is not None:
            self._several.alive_i.pop(boot, None)
        self.set_i(boot, i)
        return False

    def is_replay_of_last(self, i: int) -> bool:
        """Do the same as `check_replay` for a sign of life of the instance that beat last."""
        if self.last is not self._first or self._several is not None:
            return self.check_replay(self.last, i, len(self) + 1, is_alive=True)
        if self.last is None:
            return False
        if i <= self._first_i:
            return True
        self._first_i = i
        return False

    def is_new_life(self, boot: str, i: int) -> bool:
        """Return True if the sign of life with this `i` was never heard."""
        if self._several is not None and boot in self._several.alive_i:
            return i > self._several.alive_i[boot]
        highest = self.find_i(boot)
        return i > (-1 if highest is None else highest)

    def raise_alive_i(self, boot: str, i: int) -> None:
        """Record a sign of life that was sent before a report that was heard."""
        if self._several is not None and boot in self._several.alive_i:
            self._several.alive_i[boot] = max(i, self._several.alive_i[boot])

    # -- several at once

    def record_host(self, boot: str, host: str, before: str | None) -> None:
        """Record the host that an instance names; `before` is the one that was named last, by any of them."""
        if before in (None, host) and (self._several is None or self._several.hosts is None):
            return  # as of almost all: the service's own attribute says it
        several = self._make_several()
        if several.hosts is None:
            several.hosts = dict.fromkeys(self, before) if before is not None else {}
        several.hosts[boot] = host

    @property
    def named_several_hosts(self) -> bool:
        """Whether instances of it ever named different hosts."""
        return self._several is not None and self._several.hosts is not None

    def find_last_host(self, named: str | None) -> str | None:
        """Return the host of the instance that beat last; `named` is the one that was named last, by any."""
        if self._several is None or self._several.hosts is None or self.last is None:
            return named
        return self._several.hosts.get(self.last)

    def find_only_host(self, named: str | None, since: float) -> str | None:
        """Return the host of the instances that beat since then (monotonic); None if they have several.

        `named` is the one that was named last, by any of them.
        """
        if self._several is None or self._several.hosts is None or self.last is None:
            return named
        found = {self._several.hosts.get(boot) for boot in (self.last, *self.list_others(since))}
        return found.pop() if len(found) == 1 else None

    def switch(self, boot: str | None, before_at: float | None) -> None:
        """Record that the instance `boot` beats now; both it and the last one may continue in turn.

        `before_at` is when the last one beat, in monotonic seconds; None if that does not count.
        """
        before, self.last = self.last, self._first if boot == self._first else boot
        if before is None or before_at is None:
            return
        others_at = self._make_several().others_at
        others_at[before] = before_at
        if boot is not None:
            others_at.pop(boot, None)

    def list_others(self, since: float) -> tuple[str, ...]:
        """Return the other instances that beat since then, in monotonic seconds."""
        if self._several is None:  # almost always: no generator for each note
            return ()
        return tuple(boot for boot, mono in self._several.others_at.items() if mono >= since)

    def forget_others(self) -> None:
        """Forget when the other instances beat."""
        if self._several is not None:
            self._several.others_at = {}

    def _drop_oldest(self) -> None:
        """Drop the instance that was silent longest; without such times, the one that was first heard."""
        several, highest = self._make_several(), self.to_dict()
        others_at = several.others_at
        oldest = min(highest, key=lambda boot: inf if boot == self.last else others_at.get(boot, -inf))
        several.dropped_beats += highest.pop(oldest)
        several.highest = highest
        several.alive_i.pop(oldest, None)
        others_at.pop(oldest, None)
        if several.hosts is not None:
            several.hosts.pop(oldest, None)
