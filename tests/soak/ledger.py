"""What was really done to the fleet: the account that the told history is held against.

Times are epoch seconds. Nothing here reads a clock or touches the fleet; whoever breaks something writes down
when it began and when it was over. Appending is all that threads do at the same time.
"""

import bisect
from array import array
from dataclasses import dataclass, field
from math import inf

from soak.stretches import Stretch

HOME = "system-redis"
AWAY = {"stop", "kill", "freeze", "oom", "readonly", "refuse", "swallow", "mute"}
"""Faults of a bus, or of the wire to it, in which nothing can be proven: it is lost after its timeout.

All are made, but for "mute": a server that left the witness without an answer, which a busy machine can do.
"""
ANSWERED = {"oom", "readonly"}
"""Those of them in which the server itself still says no: it is reached."""
LOADING = "loading"
"""What the witness saw of a server that was started: it reads its data, and says so. It is reached."""
GONE = {"stop", "kill", "freeze"}
"""Faults of a healer in which it cannot be the one who speaks."""
PAUSE_SEC = 1.0
"""Shorter than any timeout: pauses between beats that are worth writing down."""


@dataclass(slots=True)
class Spell:
    """One fault while it lasts.

    The target is `bus:<name>`, `wire:<healer>:<bus>`, `healer:<n>`, `agent:<name>` or `machine`.
    """

    kind: str
    target: str
    start: float
    end: float = inf


@dataclass(slots=True)
class Terms:
    """How a service is watched, from one seeding to the next that changes it."""

    svc: str
    bus: str
    interval_sec: float
    timeout_sec: float
    since: float
    """When the seeding of it began."""
    until: float = inf
    seeded: float = 0.0
    """When that was over: a beat between may have been heard by nobody."""

    @property
    def warm_up_sec(self) -> float:
        return min(self.timeout_sec, max(2 * self.interval_sec, 0.75 * self.timeout_sec))


class Beats:
    """The beats of one service that its bus took, and the moments at which it may have taken one."""

    def __init__(self) -> None:
        self.sent = array("d")  # just before: nobody can have heard it earlier
        self.taken = array("d")  # just after: from then on the bus had it
        self.pauses: list[Stretch] = []
        self.doubts: list[float] = []  # sent, and no answer: it may arrive when the bus wakes up
        self.restarts: list[float] = []

    def add(self, sent: float, taken: float) -> None:
        if self.taken:
            before = self.taken[-1]
            sent, taken = max(sent, self.sent[-1]), max(taken, before)  # two instances may overtake
            if sent - before > PAUSE_SEC:
                self.pauses.append((before, sent))
        self.sent.append(sent)
        self.taken.append(taken)

    def last_before(self, at: float) -> float | None:
        """When the last beat that the bus had by then was sent."""
        index = bisect.bisect_right(self.taken, at)
        return self.sent[index - 1] if index else None

    def first_after(self, at: float) -> float | None:
        """When the bus had the first beat that was sent after that."""
        index = bisect.bisect_right(self.sent, at)
        return self.taken[index] if index < len(self.taken) else None

    def any_between(self, start: float, end: float) -> bool:
        index = bisect.bisect_left(self.taken, start)
        return index < len(self.sent) and self.sent[index] <= end

    def silences(self, began: float, until: float) -> list[Stretch]:
        """All pauses, with what lies before the first beat, and the one that goes on."""
        if not self.taken:
            return [(began, until)]
        found = [(began, self.sent[0]), *self.pauses, (self.taken[-1], until)]
        return [(start, end) for start, end in found if end - start > PAUSE_SEC]


@dataclass
class Ledger:
    """All that was done.

    Args:
        healers: how many there are, numbered from 1.
        bus_timeout_sec: after which a bus counts as lost.
        lease_sec: the healers' lease.
    """

    healers: int = 1
    bus_timeout_sec: float = 2.0
    lease_sec: float = 1.0
    began: float = 0.0
    spells: list[Spell] = field(default_factory=list)
    terms: dict[str, list[Terms]] = field(default_factory=dict)
    beats: dict[str, Beats] = field(default_factory=dict)
    agents: set[str] = field(default_factory=set)  # real ones: their beats are known as far as we heard
    seedings: list[float] = field(default_factory=list)

    def broke(self, kind: str, target: str, at: float) -> Spell:
        """Writes down that a fault begins; set its `end` when it is over."""
        spell = Spell(kind, target, at)
        self.spells.append(spell)
        return spell

    def agreed(self, terms: Terms) -> None:
        """From `terms.since` on that is how the service is watched."""
        before = self.terms.setdefault(terms.svc, [])
        if before and before[-1].until > terms.since:
            before[-1].until = terms.since
        before.append(terms)

    def dropped(self, svc: str, at: float) -> None:
        self.terms[svc][-1].until = at

    def of(self, svc: str) -> Beats:
        return self.beats.setdefault(svc, Beats())
