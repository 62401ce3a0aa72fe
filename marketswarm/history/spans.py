"""Derive from alert events when a service was up, when it was down, and when that is unknown. Pure.

Each event becomes a `Fact`; a `Timeline` is a set of facts about one subject: a service, a bus, the healer.
Spans are computed from the whole set. So it does not matter in which order events arrive, nor whether one
arrives twice, and a late event changes the past as if it had come in time.

All times are epoch seconds, whole ones: sums of spans are exact, and no time zone matters.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from enum import IntEnum, StrEnum
from typing import Final, NamedTuple

from marketswarm.event import Event, Kind

MAX_EPOCH: Final = 253_402_300_799
"""The latest time that is accepted: the end of the year 9999."""


class KnownState(StrEnum):
    """What is known of a service at one moment."""

    UP = "up"
    DOWN = "down"
    UNKNOWN = "unknown"


class Span(NamedTuple):
    """A time from `start` to before `end` in which the state was the same."""

    start: int
    end: int
    state: KnownState


class Change(IntEnum):
    """What a fact states. The numbers are stored."""

    DOWN = 1
    """Down from `start` on."""
    UP = 2
    """Down from `start` to `end` (never, if they are equal), and up from `end` on."""
    UNWATCHED = 3
    """It is not monitored from `start` on."""
    REFUSED = 4
    """The bus refuses the healer its channel from `start` on."""
    ALLOWED = 5
    """The bus allows the healer its channel from `start` on."""
    SILENCE = 6
    """It is proven that it did not beat from `start` to `end`, though no healer listened at that time."""
    UNHEARD = 7
    """No healer listened from `start` to `end`."""


class Fact(NamedTuple):
    """A change that was written at `at`; `start` <= `end` <= `at`."""

    at: int
    change: Change
    start: int
    end: int


_CHANGES: Final = {
    Kind.HEARTBEAT_MISS: Change.DOWN,
    Kind.HEALER_MISS: Change.DOWN,
    Kind.BUS_MISS: Change.DOWN,
    Kind.HEARTBEAT_OK: Change.UP,
    Kind.HEALER_OK: Change.UP,
    Kind.BUS_OK: Change.UP,
    Kind.HEARTBEAT_UNWATCHED: Change.UNWATCHED,
    Kind.WATCH_MISS: Change.REFUSED,
    Kind.WATCH_OK: Change.ALLOWED,
    Kind.WATCH_UNWATCHED: Change.ALLOWED,
    Kind.HEARTBEAT_GAP: Change.SILENCE,
    Kind.REACH_GAP: Change.UNHEARD,
}


def _order(fact: Fact) -> tuple[int, ...]:
    """Return the place of a fact among others: by when it was written, then by when its last state began.

    So an outage that begins in the second in which the one before it ended comes after that. An outage that
    begins and ends within one second begins first.
    """
    return fact.at, fact.end if fact.change is Change.UP else fact.start, fact.start, fact.change, fact.end


_REFUSALS: Final = {Change.REFUSED: KnownState.UNKNOWN, Change.ALLOWED: KnownState.UP}
_OVERLAYS: Final = {Change.SILENCE: KnownState.DOWN, Change.UNHEARD: KnownState.UNKNOWN}


def make_fact(change: Change, at: float, start: float | None = None, end: float | None = None) -> Fact:
    """Make a fact of whole seconds, with its times in order: 0 <= `start` <= `end` <= `at`.

    `start` and `end` are `at` where they are not given.
    """
    whole = _whole(at)
    to = whole if end is None else min(whole, _whole(end))
    return Fact(whole, change, to if start is None else min(to, _whole(start)), to)


def read_event(event: Event) -> Fact | None:
    """Return the fact that an event states; None for one that says nothing about being up or down.

    An outage begins when the event says (`down_since`), otherwise at the last beat (`since`); if none was
    ever heard, it begins when the healer began to listen, which is `late_sec` before the event. It ends with
    the first beat after it.
    """
    change = _CHANGES.get(event.type)
    if change is None or not 0 <= event.ts <= MAX_EPOCH:
        return None
    ts, since = event.ts, event.since
    if change is Change.DOWN:
        return make_fact(change, ts, event.outage_start())
    if change is Change.UP:
        return _read_recovery(event)
    if change is Change.SILENCE:
        gap_sec = max(0.0, event.gap_sec or 0.0)
        begun = ts - gap_sec if since is None else since
        return make_fact(change, ts, begun, begun + gap_sec) if gap_sec else None
    if change is Change.UNHEARD:
        return make_fact(change, ts, ts - max(0.0, event.gap_sec or 0.0), ts)
    # an event that says since when a channel was refused names the last beat before that
    return make_fact(change, ts, since if change is Change.REFUSED else None)


def _read_recovery(event: Event) -> Fact:
    """Return the fact of an ok: the outage that it ends, if its event says how long that was."""
    down_sec = max(0.0, event.down_sec or 0.0)
    begun = event.since if event.down_since is None else event.down_since
    if begun is not None and down_sec:
        return make_fact(Change.UP, event.ts, begun, begun + down_sec)
    end = event.ts - max(0.0, event.age_sec or 0.0)
    return make_fact(Change.UP, event.ts, end - down_sec, end)


def _whole(moment: float) -> int:
    return round(min(max(moment, 0.0), MAX_EPOCH))


class Timeline:
    """The facts about one subject from a moment on, and the state at that moment.

    Args:
        begin: the moment, in epoch seconds. What was before it is not known here any more.
        refused: whether the bus refused the healer its channel then.
    """

    __slots__ = ("_found", "begin", "facts", "refused", "state", "version")

    def __init__(
        self,
        begin: int,
        state: KnownState = KnownState.UNKNOWN,
        facts: Iterable[Fact] = (),
        *,
        refused: bool = False,
    ) -> None:
        self.begin, self.state, self.refused = begin, state, refused
        self.facts = sorted({fact for fact in facts if fact.at >= begin}, key=_order)
        self._found: tuple[list[Span], list[Span], list[Span]] | None = None
        self.version = 0
        """Counts the changes of this timeline."""

    @property
    def is_quiet(self) -> bool:
        """True if the subject was up all the time."""
        return not self.facts and self.state is KnownState.UP and not self.refused

    def add(self, fact: Fact) -> bool:
        """Add a fact; return False if it is known already, or older than this timeline."""
        at = bisect_left(self.facts, _order(fact), key=_order)
        if fact.at < self.begin or self.facts[at : at + 1] == [fact]:
            return False
        self.facts.insert(at, fact)
        self._found = None
        self.version += 1
        return True

    def reaches_back(self) -> bool:
        outages = (fact for fact in self.facts if fact.change in (Change.DOWN, Change.UP))
        return any(fact.start < self.begin and fact.start < fact.at for fact in outages)

    def advance(self, begin: int) -> None:
        if begin <= self.begin:
            return
        lives, refusals, _ = self._derive()
        self.state, self.refused = _state_at(lives, begin), _state_at(refusals, begin) is KnownState.UNKNOWN
        self.begin = begin
        self.facts = [fact for fact in self.facts if fact.at >= begin]
        self._found = None

    def current(self) -> KnownState:
        """Return the state after the last fact, even if no healer listens."""
        lives, refusals, _ = self._derive()
        return KnownState.UNKNOWN if refusals[-1].state is KnownState.UNKNOWN else lives[-1].state

    def spans(self, unheard: Sequence[Span], end: int) -> list[Span]:
        """Return the spans from `begin` to `end`, which follow each other without holes.

        `unheard` are spans in which no healer listened to the subject, besides those among the facts. In them
        nothing is known, except a silence that is proven afterwards.
        """
        lives, refusals, overlays = self._derive()
        found = clip(lives, self.begin, end)
        hidden = [span for span in (*refusals, *overlays) if span.state is KnownState.UNKNOWN]
        proven = [span for span in overlays if span.state is KnownState.DOWN]
        return paint(paint(found, [*unheard, *hidden]), proven)

    def unheard_spans(self, end: int) -> list[Span]:
        """Return the spans up to `end` in which this subject, a bus or the healer, was not up."""
        if self.is_quiet:
            return []
        return [
            Span(span.start, span.end, KnownState.UNKNOWN)
            for span in self.spans((), end)
            if span.state is not KnownState.UP
        ]

    def _derive(self) -> tuple[list[Span], list[Span], list[Span]]:
        """Return three lists of spans, the last one of the first two without an end that matters.

        The first says what the events say: up, down, or unknown before the first of them. The second says
        whether the channel was refused (unknown) or not (up). The third has silences that are proven (down),
        and times in which no healer listened (unknown); they may overlap.
        """
        if self._found is None:
            lives = [(self.begin, self.state)]
            refusals = [(self.begin, KnownState.UNKNOWN if self.refused else KnownState.UP)]
            overlays, floor = list[Span](), self.begin
            for fact in self.facts:
                floor = _apply_to_life(fact, floor, lives)
                if fact.change in _REFUSALS:
                    _set_from(refusals, fact.start, _REFUSALS[fact.change])
                elif fact.change in _OVERLAYS:
                    overlays.append(Span(fact.start, fact.end, _OVERLAYS[fact.change]))
            self._found = (_close(lives), _close(refusals), overlays)
        return self._found


def _apply_to_life(fact: Fact, floor: int, lives: list[tuple[int, KnownState]]) -> int:
    """Apply a fact to the moments from which a subject was up or down; other facts change nothing.

    Return the moment before which the next outage can't begin; `floor` is the one before this fact.
    """
    is_outage = fact.change is Change.DOWN or (fact.change is Change.UP and fact.start < fact.end)
    if is_outage and lives[-1][1] is not KnownState.DOWN:
        _set_from(lives, max(fact.start, floor), KnownState.DOWN)
    if fact.change is Change.UP:
        floor = max(fact.end, floor)
        if lives[-1][1] is not KnownState.UP:
            _set_from(lives, floor, KnownState.UP)
    elif fact.change is Change.UNWATCHED:
        floor = max(fact.start, floor)
        _set_from(lives, floor, KnownState.UNKNOWN)
    return floor


def _set_from(moments: list[tuple[int, KnownState]], at: int, state: KnownState) -> None:
    at = max(at, moments[0][0])
    while len(moments) > 1 and moments[-1][0] >= at:
        moments.pop()
    if moments[-1][0] == at:
        moments[-1] = (at, state)
    elif moments[-1][1] is not state:
        moments.append((at, state))


def _close(moments: Sequence[tuple[int, KnownState]]) -> list[Span]:
    ends = [at for at, _ in moments[1:]] + [MAX_EPOCH + 1]
    return [Span(at, end, state) for (at, state), end in zip(moments, ends, strict=True)]


def _state_at(spans: Sequence[Span], moment: int) -> KnownState:
    """One of the spans must cover `moment`."""
    return next(span.state for span in reversed(spans) if span.start <= moment)


def clip(spans: Iterable[Span], start: int, end: int) -> list[Span]:
    """Return the parts of spans from `start` to `end`; spans of no length are left out."""
    parts = (Span(max(span.start, start), min(span.end, end), span.state) for span in spans)
    return [part for part in parts if part.start < part.end]


def paint(spans: Sequence[Span], over: Iterable[Span]) -> list[Span]:
    """Return `spans`, which follow each other without holes, with others painted over them.

    Neighbours of the same state become one span. All spans of `over` have one state.
    """
    layer = join(sorted(over))
    if not layer or not spans:
        return list(spans)
    pieces: list[Span] = []
    at = 0
    for span in spans:
        begin = span.start
        while at < len(layer) and layer[at].end <= begin:
            at += 1
        here = at
        while here < len(layer) and layer[here].start < span.end:
            top = layer[here]
            pieces.append(Span(begin, max(begin, top.start), span.state))
            begin = min(span.end, top.end)
            pieces.append(Span(max(span.start, top.start), begin, top.state))
            here += 1
        pieces.append(Span(begin, span.end, span.state))
    return join(pieces)


def join(spans: Iterable[Span]) -> list[Span]:
    """Return spans, which are in order, without empty ones, and with neighbours of one state as one."""
    found: list[Span] = []
    for span in spans:
        if span.start >= span.end:
            continue
        if found and found[-1].state is span.state and span.start <= found[-1].end:
            found[-1] = found[-1]._replace(end=max(found[-1].end, span.end))
        else:
            found.append(span)
    return found
