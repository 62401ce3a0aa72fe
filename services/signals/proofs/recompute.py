"""Decide a stored place once more, from the inputs that it names, and compare the bytes. Pure.

Bars are those of the archive now; votes of voters outside are those that the place recorded; weights and
rules are those of the truth's revision that the tick names. Each input is checked before it is used.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final, NamedTuple

import numpy as np
import orjson

from services.market.entries import format_number as format_price
from services.market.records import TIMEFRAME_SEC
from services.market.separate import join_source
from services.signals.consensus.consensus import Abstention, SignalSide, parse_units
from services.signals.cycle.decide import GivenVote, TickRules, decide_tick, vote_by_rules
from services.signals.cycle.market import MarketBars, encode_bars
from services.signals.cycle.states import LIFE_BARS, SignalState, SignalStates, TickPlan
from services.signals.log.entries import DECIDED, PlaceOutcome, make_place
from services.signals.view import BarWindow
from services.signals.voters.votes import NoVote, Vote

_MINUTE_MS: Final = 60_000


class RecomputeResult(StrEnum):
    """What came of deciding a place once more."""

    SAME = "same"
    """The same bytes."""
    DIFFERENT = "different"
    """All inputs are there, and make another place: the program was another one, or the place is false."""
    BARS_GONE = "bars_gone"
    """The archive has fewer bars than the place was decided on: by retention, or they were never archived."""
    BARS_CHANGED = "bars_changed"
    """The archive has other bars: they were corrected since, came later, or another source replaced them."""
    TRUTH_GONE = "truth_gone"
    """The revision of the truth that weighed the votes is not kept any more."""
    TRUTH_OTHER = "truth_other"
    """The truth that was given has other voters than the place."""
    NOT_DECIDED = "not_decided"
    """The place was not made by votes: its symbol failed, and the place says by which error."""


class NamedBars(NamedTuple):
    """Hold which bars a place names: `size` of them, and the digest of their one form.

    `is_separate` says that they were loaded from their source for itself, and are no part of the symbol's.
    """

    timeframe: str
    source: str
    first_ms: int
    last_ms: int
    size: int
    digest: str
    is_separate: bool = False


class StoredBar(NamedTuple):
    """Hold a final bar of the archive; `start_ms` in epoch milliseconds."""

    start_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float | None
    source: str
    is_replay: bool


@dataclass(frozen=True, slots=True)
class Recomputed:
    """Hold the result, why in words, and the fields of the place that came out otherwise."""

    result: RecomputeResult
    words: str
    differences: tuple[str, ...] = ()


def list_named_bars(place: Mapping[str, Any]) -> dict[str | None, NamedBars]:
    """Return the bars that a place names: of the symbol by None, and of voters held to a source by voter."""
    found: dict[str | None, NamedBars] = {}
    if "bars" in place:
        found[None] = _read_bars(place["bars"])
    for name, vote in place.get("votes", {}).items():
        if "bars" in vote:
            found[name] = _read_bars(vote["bars"])
    return found


def _read_bars(said: Mapping[str, Any]) -> NamedBars:
    names = ("timeframe", "source", "first", "last", "count", "digest")
    named = NamedBars(*(said[name] for name in names))
    return named._replace(is_separate=said.get("separate") is True)


def recompute_place(
    content: bytes,
    at_ms: int,
    bars: Mapping[str | None, Sequence[StoredBar]],
    rules: TickRules | None,
) -> Recomputed:
    """Decide a place once more.

    Args:
        at_ms: the wall time of its tick.
        bars: by the keys of `list_named_bars`, what the archive has now between the first and the last one,
            of any source: of a voter that is held to one, the others' bars are not used.
        rules: by the revision of the truth that the tick names; None if it is gone.
    """
    place = orjson.loads(content)
    symbol, outcome = place["symbol"], PlaceOutcome(place["outcome"])
    if outcome is PlaceOutcome.CLOSED:
        return _compare(content, make_place(symbol, outcome, since=place["since"]))
    if outcome not in DECIDED:
        return Recomputed(RecomputeResult.NOT_DECIDED, f"it failed: {place.get('why', 'without a reason')}")
    used: dict[str | None, Sequence[StoredBar]] = {}
    for name, named in list_named_bars(place).items():
        found = bars.get(name, ())
        used[name] = found if name is None else [each for each in found if each.source == named.source]
        problem = check_bars(named, used[name])
        if problem is not None:
            return _find_replaced(named, used[name], found) or problem
    if rules is None:
        return Recomputed(RecomputeResult.TRUTH_GONE, "the truth's revision of its weights is not kept")
    if sorted(rules.consensus.weights) != sorted(place["votes"]):
        words = f"it names the voters {', '.join(sorted(place['votes']))}"
        return Recomputed(RecomputeResult.TRUTH_OTHER, words)
    return _compare(content, _decide(place, at_ms, used, rules))


def check_bars(named: NamedBars, found: Sequence[StoredBar]) -> Recomputed | None:
    """Return why the bars that were found are not those that were named; None if they are."""
    which = f"{named.timeframe} bars of {named.source}"
    if len(found) < named.size:
        words = f"{named.size - len(found)} of its {named.size} {which} are gone"
        return Recomputed(RecomputeResult.BARS_GONE, words)
    if len(found) > named.size:
        words = f"{len(found) - named.size} {which} came later than it was decided"
        return Recomputed(RecomputeResult.BARS_CHANGED, words)
    if sha256(encode_bars(_make_window(found))).hexdigest() != named.digest:
        return Recomputed(RecomputeResult.BARS_CHANGED, f"its {named.size} {which} were corrected since")
    return None


def _find_replaced(
    named: NamedBars, own: Sequence[StoredBar], found: Sequence[StoredBar]
) -> Recomputed | None:
    """Return that bars of one source were replaced by another's; None if they were not.

    Retention takes the oldest bars, whatever their source: it is not the reason if the first bar is there.
    """
    missing = named.size - len(own)
    if missing <= 0 or len(found) < named.size or found[0].start_ms != named.first_ms:
        return None
    which = f"{missing} of its {named.size} {named.timeframe} bars of {named.source}"
    return Recomputed(RecomputeResult.BARS_CHANGED, f"{which} were replaced by another source's")


def _make_window(bars: Sequence[StoredBar]) -> BarWindow:
    columns = [np.array([row[at] for row in bars], dtype=float) for at in range(1, 6)]
    return BarWindow(np.array([row.start_ms for row in bars], dtype=np.int64), *columns)


def _decide(
    place: Mapping[str, Any],
    at_ms: int,
    bars: Mapping[str | None, Sequence[StoredBar]],
    rules: TickRules,
) -> bytes:
    """Return what the cycle decides on the same inputs."""
    symbol, as_of_ms = place["symbol"], place["as_of"]
    market = _make_market(place, bars, rules)
    plan = TickPlan({symbol: as_of_ms}, frozenset(), {})
    computed, _ = vote_by_rules(market, plan, rules)
    by_rules = {each.name for each in rules.bar_voters}
    votes = {
        (symbol, name): _read_vote(said) for name, said in place["votes"].items() if name not in by_rules
    }
    correlations = {
        frozenset(pair.split("+")): parse_units(value)
        for pair, value in place.get("correlations", {}).items()
    }
    state = SignalState(side=SignalSide(place["before"]), side_ms=place.get("changed"))
    decision = decide_tick(
        place["tick"],
        at_ms,
        market,
        plan,
        rules,
        votes=computed | votes,
        states=SignalStates((symbol,), {symbol: state}),
        correlations=correlations,
    )
    return decision.places.texts[0]


def _make_market(
    place: Mapping[str, Any], bars: Mapping[str | None, Sequence[StoredBar]], rules: TickRules
) -> MarketBars:
    """Return a market with the bars of one symbol, as the cycle would have taken them from the stream."""
    symbol, timeframe, named = place["symbol"], rules.thrift.timeframe, list_named_bars(place)
    separate = {
        (symbol, each.source): bars[name]
        for name, each in named.items()
        if name is not None and each.is_separate
    }
    sources = frozenset(each.source for each in rules.bar_voters if each.source is not None)
    market = MarketBars(timeframe, (symbol,), sources, separate)
    length_ms, ends = 1000 * TIMEFRAME_SEC[timeframe], _find_ends(place, named, rules)
    rows: dict[int, StoredBar] = {}
    for name, found in bars.items():
        if not named[name].is_separate:
            rows |= {row.start_ms: row for row in found}
    for start_ms, row in sorted(rows.items()):
        end_ms = ends.get((None, start_ms), start_ms + length_ms)
        market.take(_format_bar(symbol, timeframe, row, end_ms), end_ms + _MINUTE_MS)
    for (_, source), found in separate.items():
        for row in found:
            end_ms = ends.get((source, row.start_ms), row.start_ms + length_ms)
            entry = _format_bar(join_source(symbol, source), timeframe, row, end_ms)
            market.take_separate(entry, end_ms + _MINUTE_MS)
    return market


def _find_ends(
    place: Mapping[str, Any], named: Mapping[str | None, NamedBars], rules: TickRules
) -> dict[tuple[str | None, int], int]:
    """Return the ends of the last bars that voters saw, as their votes' expiry says them, by their starts.

    Bars of a source that were loaded for themselves are by that source, all others by None. The archive has
    no ends, and a day ends with its session.
    """
    life_ms = LIFE_BARS * rules.thrift.bar_ms
    found: dict[tuple[str | None, int], int] = {}
    for voter in rules.bar_voters:
        vote = place["votes"].get(voter.name, {})
        seen = named.get(None if voter.source is None else voter.name)
        if seen is None:
            continue
        key = (seen.source if seen.is_separate else None), seen.last_ms
        if "expires" in vote:
            found[key] = vote["expires"] - life_ms
        elif vote.get("abstained") == Abstention.EXPIRED:
            found.setdefault(key, min(seen.last_ms + rules.thrift.bar_ms, place["as_of"] - life_ms))
    return found


def _format_bar(symbol: str, timeframe: str, row: StoredBar, end_ms: int) -> dict[bytes, bytes]:
    """Return a bar as an entry of `bars:bars`."""
    numbers = {name: getattr(row, name) for name in ("open", "high", "low", "close", "volume")}
    fields = {name: format_price(value) for name, value in numbers.items() if value is not None}
    fields |= {"sym": symbol, "timeframe": timeframe, "start": str(row.start_ms), "end": str(end_ms)}
    fields |= {"asset": "stocks", "final": "1", "source": row.source}
    if row.is_replay:
        fields["replay"] = "1"
    return {name.encode(): value.encode() for name, value in fields.items()}


def _read_vote(said: Mapping[str, Any]) -> GivenVote:
    if "abstained" in said:
        why = said["abstained"]
        return Abstention(why) if why in iter(Abstention) else NoVote(why)
    return Vote(
        said["direction"],
        parse_units(said["strength"]),
        parse_units(said["confidence"]),
        said["expires"],
        tuple(said["reasons"]),
    )


def _compare(stored: bytes, made: bytes) -> Recomputed:
    if stored == made:
        return Recomputed(RecomputeResult.SAME, "recomputed to the same bytes")
    old, new = orjson.loads(stored), orjson.loads(made)
    return Recomputed(
        RecomputeResult.DIFFERENT, "its inputs make another place", tuple(_list_differences(old, new))
    )


def _list_differences(old: Any, new: Any, path: str = "") -> Iterable[str]:
    """Yield the fields that differ, by their paths."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in sorted(old.keys() | new.keys()):
            yield from _list_differences(old.get(name), new.get(name), f"{path}.{name}" if path else name)
    elif old != new:
        yield path
