"""Build what the snapshot shows of the past, from the recorder's history, cheaply. Pure.

A snapshot is compared with the one before it, and each difference goes to every browser. So nothing here
changes while nothing happens: a span that lasts has no end, and uptime is computed once a minute (more often
in the first minute, in which a history may just have begun).
"""

from collections.abc import Iterable, Mapping
from typing import Final

from marketswarm.history.fleet_history import FleetHistory
from marketswarm.history.rollup import Seconds
from marketswarm.history.spans import Span as StoredSpan
from marketswarm.history.spans import Timeline
from services.board.snapshot import Span, Uptime
from services.board.snapshot_builder import NO_HISTORY, History

UPTIME_SEC: Final = 60.0
FIRST_UPTIME_SEC: Final = 5.0
SHARE_DIGITS: Final = 5
"""The digits of a share of uptime: a second of a day."""
_MAX_SHARED: Final = 10_000


class HistoryBuilder:
    """Builds the history of all services for a snapshot; what did not change is the same object again."""

    def __init__(self) -> None:
        self._recent: dict[str, tuple[tuple[object, ...], tuple[Span, ...]]] = {}
        self._uptime: dict[str, Mapping[str, Uptime]] = {}
        self._uptime_at = self._begun_at = float("-inf")
        self._uptime_of: FleetHistory | None = None
        self._views: dict[tuple[StoredSpan, ...], tuple[Span, ...]] = {}
        self._sums: dict[Seconds, Uptime] = {}

    def build(self, history: FleetHistory | None, now: float) -> History:
        """Return the spans of the last hour and the uptime of each service; none without a history."""
        if history is None:
            return NO_HISTORY
        if history is not self._uptime_of:
            self._uptime_of, self._begun_at, self._uptime_at = history, now, float("-inf")
        every_sec = UPTIME_SEC if now - self._begun_at > UPTIME_SEC else FIRST_UPTIME_SEC
        if not 0 <= now - self._uptime_at < every_sec:
            self._uptime, self._uptime_at = self._build_uptime(history, int(now)), now
        services = list(history.services)
        return History(self._build_recent(history, services, int(now)), self._uptime)

    def _build_recent(
        self, history: FleetHistory, services: Iterable[str], now: int
    ) -> dict[str, tuple[Span, ...]]:
        """Return the spans of the last hour of each service; of unchanged ones, the same object again."""
        found = {}
        for svc in services:
            key = (*history.recent_key(svc, now), self._line_of(history, svc))
            known = self._recent.get(svc)
            if known is None or known[0] != key:
                known = (key, self._view_spans(tuple(history.recent(svc, now)), now))
                self._recent[svc] = known
            found[svc] = known[1]
        if len(self._recent) > len(found):
            self._recent = {svc: self._recent[svc] for svc in found}
        return found

    def _line_of(self, history: FleetHistory, svc: str) -> Timeline:
        """Return the timeline of a service, which is another object after its history was read again."""
        return history.services[svc].timeline

    def _view_spans(self, spans: tuple[StoredSpan, ...], now: int) -> tuple[Span, ...]:
        """Return spans as the snapshot has them: the last one has no end. Equal ones are one object."""
        if spans not in self._views:
            if len(self._views) > _MAX_SHARED:
                self._views.clear()
            self._views[spans] = tuple(
                Span(span.state.value, float(span.start), None if span.end >= now else float(span.end))
                for span in spans
            )
        return self._views[spans]

    def _build_uptime(self, history: FleetHistory, now: int) -> dict[str, Mapping[str, Uptime]]:
        """Return the uptime of each service by window."""
        self._sums.clear()
        return {
            svc: {window: self._view_sum(seconds) for window, seconds in history.uptime(svc, now).items()}
            for svc in history.services
        }

    def _view_sum(self, seconds: Seconds) -> Uptime:
        """Return seconds as the snapshot has them. Equal ones are one object."""
        if seconds not in self._sums:
            share = seconds.share
            self._sums[seconds] = Uptime(
                None if share is None else round(share, SHARE_DIGITS), float(seconds.unknown)
            )
        return self._sums[seconds]
