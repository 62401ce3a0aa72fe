"""Say for each source whether it is asked and what it serves, and which series a fallback serves. Pure.

What a source is like comes from three places on the bus: its own state, its circuit breaker, by which an
operator pauses it, too, and the attempts of the series that name it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from services.board.market.limits import AccountView
from services.board.market.states import AttemptState, StoredBreaker, StoredSeries, StoredSource

LIMITED: Final = "limited"


@dataclass(frozen=True, slots=True)
class SourceView:
    """What the page shows of a source: its state as a `mark` and in a `word`, and why (`note`).

    `again_at` is when it is asked again (epoch seconds), None if nothing keeps it from being asked; `serves`
    and `named` count series. `accounts` is empty if the source has no limits, or was not asked lately.
    """

    source: StoredSource
    mark: str
    word: str
    note: str
    again_at: float | None
    serves: int
    named: int
    is_replay: bool
    accounts: Sequence[AccountView] = ()


@dataclass(frozen=True, slots=True)
class FallbackCount:
    """Say how many series are not served by a source that stands before the one in force, and why."""

    source: str
    verdict: str
    series: int


def view_sources(
    sources: Iterable[StoredSource],
    series: Sequence[StoredSeries],
    now: float,
    accounts: Mapping[str, Sequence[AccountView]] = MappingProxyType({}),
) -> tuple[SourceView, ...]:
    """Return what the page shows of each source at `now` (epoch seconds)."""
    serves = Counter(one.serving for one in series)
    named = Counter(name for one in series for name in one.sources)
    replays = {one.serving for one in series if one.replay}
    limited_until: dict[str, float] = {}
    for one in series:
        for name, attempt in one.attempts.items():
            if attempt.verdict == LIMITED and attempt.retry_at > now:
                limited_until[name] = max(attempt.retry_at, limited_until.get(name, 0.0))
    return tuple(
        SourceView(
            source,
            *_describe(source, limited_until.get(source.name), now),
            serves[source.name],
            named[source.name],
            source.name in replays,
            accounts.get(source.name, ()),
        )
        for source in sources
    )


def _describe(
    source: StoredSource, limited_until: float | None, now: float
) -> tuple[str, str, str, float | None]:
    breaker = source.breaker or StoredBreaker()
    if breaker.is_paused(now):
        is_timed = breaker.paused_until is not None and breaker.paused_until > 0
        note = "by an operator" if is_timed else "by an operator, until it is resumed"
        return "silent", "paused", note, breaker.paused_until if is_timed else None
    reason = "" if source.reason in (None, source.outcome) else str(source.reason)
    if breaker.until is not None:
        note = ": ".join(filter(None, (f"{breaker.failures} failures in a row", reason)))
        return "down", "breaker open", note, max(breaker.until, now)
    if limited_until is not None:
        return "silent", LIMITED, "its limit is used up", limited_until
    if not source.asked_at:
        return "unknown", "not asked yet", "stands by: the sources before it serve", None
    note = ": ".join(filter(None, ("" if source.outcome == "fresh" else source.outcome, reason)))
    return source.state if source.state in ("up", "down") else "unknown", source.state, note, None


def find_fallbacks(series: Iterable[StoredSeries]) -> tuple[FallbackCount, ...]:
    """Return why series are not served by their first source, the reason of most series first."""
    found = Counter[tuple[str, str]]()
    for one in series:
        if is_fallback(one):
            for name in list_skipped(one):
                found[name, one.attempts.get(name, AttemptState()).verdict or "not asked"] += 1
    return tuple(FallbackCount(name, verdict, count) for (name, verdict), count in found.most_common())


def is_fallback(one: StoredSeries) -> bool:
    """Return True if another source than its first one serves a series."""
    return bool(one.serving and one.sources and one.serving != one.sources[0])


def list_skipped(one: StoredSeries) -> tuple[str, ...]:
    names = tuple(one.sources)
    return names[: names.index(one.serving)] if one.serving in names else names


def sort_series(series: Iterable[StoredSeries]) -> tuple[StoredSeries, ...]:
    """Return series in the order in which an operator looks at them: unserved, by a fallback, the rest."""
    return tuple(sorted(series, key=lambda one: (bool(one.serving), not is_fallback(one))))
