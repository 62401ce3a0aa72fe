"""What people are owed of the healer and the buses, and when it is for the sentinel to tell them. Pure.

A miss is given to the notifier first; when its time is over and nobody told it, it is ours. An ok is ours
only when the miss before it was. Time is an argument: monotonic seconds. Not here: asking, sending.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from marketswarm.event import Event, Kind, encode, identify

SEEN_AT_MOST: Final = 1000
PENDING_AT_MOST: Final = 200
"""Beyond that the oldest go: a receiver that was away for a day needs no day of flapping."""
RECALLED_SEC: Final = 2.0
"""What an earlier run left open waits so long at least: another bus may know that it is over."""

_MISSES: Final = {Kind.HEALER_MISS: "healer", Kind.BUS_MISS: "bus"}
_OKS: Final = {Kind.HEALER_OK: "healer", Kind.BUS_OK: "bus"}


def outage_key(event: Event) -> str | None:
    """What an event is on, `bus:market-redis`; None for one that is not the sentinel's concern."""
    family = _MISSES.get(event.type) or _OKS.get(event.type)
    return f"{family}:{event.svc}" if family else None


def is_outage_key(key: str) -> bool:
    """Return True if this names what the sentinel tells of: `healer:<name>` or `bus:<name>`."""
    family, _, svc = key.partition(":")
    return family in _MISSES.values() and svc != ""


@dataclass(slots=True)
class PendingAlert:
    """One event that somebody must tell; `ours` once it is on its way.

    `ends` is then the id of the miss that it is the end of, if it is one.
    """

    event: Event
    raw: bytes
    due: float
    recalled: bool = False
    ours: bool = False
    ends: str | None = None

    @property
    def key(self) -> str:
        """See `outage_key`."""
        return outage_key(self.event) or ""

    @property
    def is_miss(self) -> bool:
        """Whether it opens an outage."""
        return self.event.type in _MISSES


@dataclass(frozen=True, slots=True)
class OpenOutage:
    """A miss that we told ourselves: its id and its `ts` (epoch seconds).

    `own`: nobody but us said it, since no bus could be reached.
    """

    id: str
    ts: float
    own: bool = False


class PendingAlerts:
    """Every debt there is. `me` is the sentinel's name, `patience_sec` the time that others have."""

    def __init__(self, me: str, patience_sec: float) -> None:
        self.opened: dict[str, OpenOutage] = {}
        self._me = me
        self._patience_sec = patience_sec
        self._debts: OrderedDict[str, PendingAlert] = OrderedDict()
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._down: set[str] = set()
        self._over: dict[str, float] = {}  # by key, the ts at which an outage ended that only we knew of

    def __len__(self) -> int:
        return len(self._debts)

    def __contains__(self, debt: PendingAlert) -> bool:
        return self._debts.get(debt.event.id) is debt

    def saw(self, event: Event, raw: bytes, now: float, waited_sec: float | None = None) -> None:
        """Takes note of an event, wherever it was found and however often.

        `waited_sec` of one that an earlier run left open: how long others have had already.
        """
        key = outage_key(event)
        if key is None or not self._is_news(event.id):
            return
        recalled = waited_sec is not None
        due = now + self._patience_sec
        if waited_sec is not None:
            due = now + max(min(RECALLED_SEC, self._patience_sec), self._patience_sec - waited_sec)
        debt = PendingAlert(event, raw, due, recalled)
        if self._adds(debt, key):
            self._debts[event.id] = debt
            while len(self._debts) > PENDING_AT_MOST:
                self._debts.popitem(last=False)
        elif not debt.is_miss:
            del self._seen[event.id]  # the miss that it is the end of may still be recalled

    def say_ourselves(self, event: Event, now: float) -> None:
        """Takes note of what only we know: a bus that is away with all the others, or back."""
        key = outage_key(event) or ""
        if event.type in _MISSES:
            if key not in self._down:
                self.saw(event, encode(event), now - self._patience_sec)
        else:
            self._over[key] = event.ts
            if key in self.opened and self.opened[key].own and not self._oks(key):
                self.saw(event, encode(event), now)

    def recall(self, opened: Mapping[str, OpenOutage]) -> list[str]:
        """Takes up what an earlier run had told; the keys of what is new of it.

        It may have been killed before it could tell every bus that it had: another bus, asked first, then
        shows the same miss as still to be told.
        """
        news = [key for key, one in opened.items() if key not in self.opened and self._is_untold(one.id)]
        for key in news:
            self.opened[key] = opened[key]
            self._debts.pop(opened[key].id, None)
            self._down.add(key)
        return news

    def up_since(self, key: str, ts: float, now: float) -> None:
        """A roster has it up since `ts`: the end of what we told is owed, what was recalled no more."""
        for debt in [one for one in self._debts.values() if one.key == key and one.is_miss]:
            if debt.recalled and not debt.ours and debt.event.ts < ts:
                del self._debts[debt.event.id]
        opened = self.opened.get(key)
        if opened is not None and opened.ts < ts:
            family, _, svc = key.partition(":")
            kind = Kind(f"{family}_ok")
            event = Event(kind, svc, ts, identify(kind, svc, ts), "healer" if family == "bus" else self._me)
            self.saw(event, encode(event), now)

    # -- whose turn it is

    def due(self, now: float) -> list[PendingAlert]:
        """What others have had their time for, oldest first."""
        return [debt for debt in self._debts.values() if not debt.ours and debt.due <= now]

    def wait_sec(self, now: float) -> float | None:
        """How long until something is due; None while nothing will be."""
        found = [debt.due for debt in self._debts.values() if not debt.ours]
        return max(0.0, min(found) - now) if found else None

    def take(self, debt: PendingAlert) -> bool:
        """Makes it ours, if there is still a reason to tell it."""
        if not debt.is_miss:
            told = self.opened.get(debt.key)
            misses = [told.id] if told else [miss.event.id for miss in self._misses(debt.key)]
            if not misses:
                self._debts.pop(debt.event.id, None)
                return False
            debt.ends = misses[0]
        debt.ours = True
        return True

    # -- what became of it

    def told_by_others(self, debt: PendingAlert) -> None:
        """Somebody else told it, and so will tell its end."""
        self._debts.pop(debt.event.id, None)
        if debt.recalled:  # perhaps by an earlier run of ours, as a bus that is still to be asked may say
            self._seen.pop(debt.event.id, None)
        if debt.is_miss:
            for ok in self._oks(debt.key):
                if debt.key not in self.opened and not ok.ours:
                    self._debts.pop(ok.event.id, None)
        else:
            self.opened.pop(debt.key, None)

    def sent(self, debt: PendingAlert) -> None:
        """People have it from us. Harmless when repeated."""
        event, key = debt.event, debt.key
        if debt.is_miss:
            own = event.by == self._me and event.type is Kind.BUS_MISS
            self.opened[key] = OpenOutage(event.id, event.ts, own)
            return
        self.opened.pop(key, None)

    def done(self, debt: PendingAlert) -> None:
        """Every way has had it, or none will take it."""
        self._debts.pop(debt.event.id, None)

    # -- inside

    def _adds(self, debt: PendingAlert, key: str) -> bool:
        event = debt.event
        if debt.is_miss:
            self._down.add(key)
            return event.by == self._me or not self._told_while_it_could_not(key, event.ts)
        self._down.discard(key)
        if key not in self.opened and not self._misses(key):
            return False
        for ok in self._oks(key):
            if not ok.ours:  # a newer word, or the healer's in the place of our own
                del self._debts[ok.event.id]
        return True

    def _told_while_it_could_not(self, key: str, ts: float) -> bool:
        """Whether a miss of the healer's is of an outage that we knew of while no bus could be reached."""
        opened, over = self.opened.get(key), self._over.get(key, 0.0)
        lasts = opened is not None and opened.own and over < opened.ts
        return lasts or ts <= over

    def _misses(self, key: str) -> list[PendingAlert]:
        return [debt for debt in self._of(key) if debt.is_miss]

    def _oks(self, key: str) -> list[PendingAlert]:
        return [debt for debt in self._of(key) if not debt.is_miss]

    def _of(self, key: str) -> Iterable[PendingAlert]:
        return [debt for debt in self._debts.values() if debt.key == key]

    def _is_untold(self, ident: str) -> bool:
        """Whether this run has not told it, nor its end, though it may know of it."""
        return ident in self._debts or self._is_news(ident)

    def _is_news(self, ident: str) -> bool:
        if ident in self._seen:
            return False
        self._seen[ident] = None
        while len(self._seen) > SEEN_AT_MOST:
            self._seen.popitem(last=False)
        return True
