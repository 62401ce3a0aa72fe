"""What tests of bars share: minutes by chance, their entries, and what must come of them, in one pass."""

import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import orjson

from services.bars.builder import BarBuilder
from services.bars.indicators import BLOCK_BARS, INDICATORS, IndicatorSeries, Values
from services.bars.outputs import Arrival, Outputs
from services.bars.settings import BarsOptions, SymbolGroup
from services.bars.state import SymbolState, restore_state
from services.market.entries import encode_entry, parse_bar
from services.market.intervals import Grid
from services.market.records import (
    PERIODS,
    SOURCE_TIMEFRAMES,
    TIMEFRAMES,
    AssetClass,
    Bar,
    Provenance,
    RecordKind,
)
from services.market.sessions import Session, get_session

MINUTE = 60_000
MIDNIGHT = 1_700_006_400_000
"""2023-11-15, 00:00 UTC."""
CRYPTO = get_session("24x7")


def walk(starts: Iterable[int], seed: int = 1, symbol: str = "BTC/USD", *, whole: bool = False) -> list[Bar]:
    """Minutes of a price that goes up and down by chance; `whole` volumes can be added without rounding."""
    chance, price, bars = random.Random(seed), 100.0, []
    for start in starts:
        close = round(price * (1 + chance.gauss(0, 0.001)), 2)
        high, low = round(max(price, close) * 1.0005, 2), round(min(price, close) * 0.9995, 2)
        volume = float(chance.randint(0, 50)) if whole else chance.random() * 50
        vwap = None if volume == 0 else (high + low + close) / 3
        bars.append(Bar(symbol, "1m", start, price, high, low, close, volume, vwap, chance.randint(0, 9)))
        price = close
    return bars


def minutes(count: int, first: int = MIDNIGHT, **more: Any) -> list[Bar]:
    """Minutes without a gap, as `walk` makes them."""
    return walk((first + MINUTE * number for number in range(count)), **more)


def fields_of(bar: Bar, seen_ms: int | None = None, source: str = "one", **more: str) -> dict[str, str]:
    """The fields of a bar's entry, as a source asked at `seen_ms` (by default a second after the minute)."""
    seen = bar.start_ms + MINUTE + 1000 if seen_ms is None else seen_ms
    return encode_entry(bar, AssetClass.CRYPTO, Provenance(source, seen / 1000)) | more


def arrival(bar: Bar, number: int = 0, **more: Any) -> Arrival:
    """The entry of a bar, as the service reads it."""
    fields = fields_of(bar, **more)
    raw = {name.encode(): value.encode() for name, value in fields.items()}
    written_ms = max(bar.start_ms + MINUTE + 1000, more.get("seen_ms") or 0)
    return Arrival(RecordKind.BARS, b"%d-%d" % (written_ms, number), raw)


class SymbolScene:
    """A symbol's builder, and what it published, as a consumer keeps it: the last revision of each bar."""

    def __init__(self, session: Session, options: Mapping[str, Any] | None = None, **group: Any) -> None:
        group = {"symbols": ("BTC/USD",), "asset": "crypto"} | group
        self.grid, self.group = Grid(session), SymbolGroup(**group)
        self.options = BarsOptions(**{"settle_sec": 10} | dict(options or {}))
        self.state = SymbolState(self.group.symbols[0])
        self.stored: dict[bytes, bytes] = {}
        self.bars: dict[tuple[str, int], dict[str, str]] = {}
        self.indicators: dict[tuple[str, int], dict[str, str]] = {}
        self.seen: set[tuple[str, ...]] = set()
        self.values: dict[tuple[str, ...], str] = {}
        self.quarantine: list[dict[str, str]] = []
        self.builder = BarBuilder(self.state, self.group, self.grid, self.options, {})

    def restart(self, **group: Any) -> None:
        """Go on from what is stored, as an instance does that takes over; `group` changes the truth."""
        self.group = self.group.model_copy(update=group)
        if (
            group
        ):  # bars may have changed while no indicators were wanted: a higher epoch tells their values apart
            self.values.clear()
        self.state = restore_state(self.group.symbols[0], self.stored)
        self.state.epoch += 1
        self.builder = BarBuilder(self.state, self.group, self.grid, self.options, self.stored)

    def play(self, arrivals: Iterable[Arrival], clock_ms: int = 0) -> Outputs:
        """Take some entries as one batch."""
        for each in arrivals:
            self.builder.take(each)
        outputs = self.builder.flush(clock_ms)
        fields, deleted = self.builder.pack_changes()
        self.stored |= {name.encode(): value for name, value in fields.items()}
        self.stored[b"version"] = b"1"
        for name in deleted:
            self.stored.pop(name.encode(), None)
        keep_newest(self.bars, outputs.bars)
        keep_newest(self.indicators, outputs.indicators)
        self.quarantine += outputs.quarantine
        for what, entries in (("bar", outputs.bars), ("indicators", outputs.indicators)):
            for entry in entries:
                key = (what, entry["timeframe"], entry["start"], entry["rev"], entry["final"])
                assert key not in self.seen, f"{key} was published twice"
                self.seen.add(key)
                revision = key[:4]
                values = entry.get("values", "")
                assert self.values.setdefault(revision, values) == values, f"{revision} has two values"
        return outputs

    def shown(self, timeframe: str) -> list[Bar]:
        """The bars of a timeframe as they were published last, in order."""
        return bars_of(self.bars, timeframe)


def play_all(bars: Iterable[Bar]) -> SymbolScene:
    """A scene in which these bars came as one batch."""
    scene = SymbolScene(CRYPTO)
    scene.play(arrival(bar, number) for number, bar in enumerate(bars))
    return scene


def keep_newest(kept: dict[tuple[str, int], dict[str, str]], entries: Iterable[dict[str, str]]) -> None:
    """Do what the archive does: a higher revision replaces a lower one, and a final one itself.

    One that is only restated stays known since when the one before it was.
    """
    for entry in entries:
        key = (entry["timeframe"], int(entry["start"]))
        before = kept.get(key)
        if before is None:
            kept[key] = entry
        elif find_rank(entry) > find_rank(before):
            known_at = before.get("known_at", before.get("end", ""))
            kept[key] = entry | ({"known_at": known_at} if entry.get("restated") == "1" else {})


def find_rank(entry: Mapping[str, str]) -> tuple[int, int, str]:
    """Return what decides which of two entries of one bar counts: the greater one."""
    return int(entry["epoch"]), int(entry["rev"]), entry["final"]


def bars_of(kept: Mapping[tuple[str, int], Mapping[str, str]], timeframe: str) -> list[Bar]:
    """The bars of a timeframe among those entries, in order."""
    found = [entry for (frame, _), entry in sorted(kept.items()) if frame == timeframe]
    return [parse_bar({name.encode(): value.encode() for name, value in entry.items()}) for entry in found]


def values_of(
    kept: Mapping[tuple[str, int], Mapping[str, str]], timeframe: str
) -> list[dict[str, float | None]]:
    """The indicators of a timeframe among those entries, in order."""
    return [orjson.loads(entry["values"]) for (frame, _), entry in sorted(kept.items()) if frame == timeframe]


def aggregate_all(minutes: Sequence[Bar], session: Session) -> dict[str, list[Bar]]:
    """Every timeframe that is built of minutes, the plain way: each interval from all of its minutes."""
    grid, found = Grid(session), {"1m": sorted(minutes, key=lambda bar: bar.start_ms)}
    for timeframe in SOURCE_TIMEFRAMES[1:]:
        parts: dict[int, list[Bar]] = {}
        for bar in found["1m"]:
            interval = grid.find(bar.start_ms, timeframe)
            assert interval is not None
            parts.setdefault(interval.open_ms, []).append(bar)
        found[timeframe] = [merge_plainly(each, timeframe, start) for start, each in sorted(parts.items())]
    return found


def aggregate_days(days: Sequence[Bar], timeframe: str, session: Session) -> list[Bar]:
    """The weeks or months of some final days, by the dates of these and a calendar on the wall."""
    parts: dict[tuple[int, int], list[Bar]] = {}
    for bar in sorted(days, key=lambda bar: bar.start_ms):
        day = session.find_day(bar.start_ms)
        assert day is not None
        week, month = day.date.isocalendar()[:2], (day.date.year, day.date.month)
        parts.setdefault(week if timeframe == "1w" else month, []).append(bar)
    return [
        merge_plainly(some, timeframe, _find_period_open(some[0].start_ms, timeframe, session))
        for some in parts.values()
    ]


def _find_period_open(start_ms: int, timeframe: str, session: Session) -> int:
    """The open of the first trading day of the week or month of a day."""
    day = session.find_day(start_ms)
    assert day is not None
    first = label = day.date
    while (
        label.month == day.date.month
        if timeframe == "1mo"
        else label.isocalendar()[1] == day.date.isocalendar()[1]
    ):
        first = label if session.find_date(label) is not None else first
        label -= timedelta(1)
    found = session.find_date(first)
    assert found is not None
    return found.open_ms


def merge_plainly(parts: Sequence[Bar], timeframe: str, start: int) -> Bar:
    """One bar of all its minutes, without a thought for speed."""
    volumes = [each.volume for each in parts]
    volume = sum(volumes) if None not in volumes else None
    weighed = [each for each in parts if each.volume != 0]
    is_known = volume and all(each.vwap is not None for each in weighed)
    vwap = sum(each.vwap * each.volume for each in weighed) / volume if is_known else None
    trades = [each.trades for each in parts]
    return Bar(
        parts[0].symbol,
        timeframe,
        start,
        parts[0].open,
        max(each.high for each in parts),
        min(each.low for each in parts),
        parts[-1].close,
        volume,
        vwap,
        sum(trades) if None not in trades else None,
    )


def assert_same_bars(got: Sequence[Bar], expected: Sequence[Bar]) -> None:
    """Prices, times and counts are equal; sums of fractions up to the order in which they were added."""
    assert [bar.start_ms for bar in got] == [bar.start_ms for bar in expected]
    for one, other in zip(got, expected, strict=True):
        for name in ("symbol", "timeframe", "open", "high", "low", "close", "trades"):
            assert getattr(one, name) == getattr(other, name), (name, one, other)
        for name in ("volume", "vwap"):
            mine, theirs = getattr(one, name), getattr(other, name)
            assert (mine is None) == (theirs is None), (name, one, other)
            assert mine is None or abs(mine - theirs) <= 1e-9 * abs(theirs), (name, one, other)


def batch(
    bars: Sequence[Bar], session: Session, names: Collection[str] = tuple(INDICATORS), block: int = BLOCK_BARS
) -> list[Values]:
    """Return the values of each bar of a whole history in order, computed from all bars at once."""
    if not bars:
        return []
    series = IndicatorSeries(bars[0].timeframe, session, names, block)
    series.append(bars[-1])
    return [values for _, values in series.recompute(bars[0].start_ms, lambda _since_ms: bars)]


def assert_same_as_batch(
    bars: Mapping[tuple[str, int], Mapping[str, str]],
    indicators: Mapping[tuple[str, int], Mapping[str, str]],
    minutes: Sequence[Bar],
    session: Session,
) -> None:
    """What was published at last is what one pass over all minutes gives."""
    expected = aggregate_all(minutes, session)
    days = [entry for (frame, _), entry in bars.items() if frame == "1d" and entry["final"] == "1"]
    finals = bars_of({("1d", int(entry["start"])): entry for entry in days}, "1d")
    expected |= {timeframe: aggregate_days(finals, timeframe, session) for timeframe in PERIODS}
    for timeframe in TIMEFRAMES:
        got = bars_of(bars, timeframe)
        assert_same_bars(got, expected[timeframe])
        assert values_of(indicators, timeframe) == batch(got, session)
