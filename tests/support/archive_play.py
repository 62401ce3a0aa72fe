"""A market that plays into the archive's streams, and what must be in the database in the end.

The play has what streams really have: corrections that overtake each other, entries that come twice, bars
that become final later, entries that are nothing. What must come of it is computed here by polars over all
entries at once, by the contract and not by the archive's code.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
import polars as pl
import redis

from services.market.entries import encode_entry
from services.market.records import AssetClass, Bar, Observation, Provenance, Quote
from support.postgres import query

BARS, INDICATORS, FEATURES = "bars:bars", "bars:indicators", "bars:features"
QUOTES, OBSERVATIONS, DOWNLOADS = "market:quotes", "market:observations", "market:downloads"
MARKET_STREAMS = (BARS, INDICATORS, FEATURES, QUOTES, OBSERVATIONS, DOWNLOADS)
BEGIN_MS = 1_793_000_040_000  # 2026-10-26, a whole minute
_MS = "(extract(epoch FROM {}) * 1000)::bigint"
Entry = tuple[str, dict[str, str]]


def make_play(seed: int, count: int) -> list[Entry]:
    """Return about `count` entries with their streams, in the order in which they are published."""
    chance = random.Random(seed)
    play: list[Entry] = []
    while len(play) < count:
        make = chance.choice((_bar, _bar, _bar, _indicators, _features, _quote, _observation, _download))
        entry = make(chance, len(play))
        play += [entry] * (1 if chance.random() < 0.9 else 2)
    play[count // 3] = (BARS, {"sym": "SPY", "open": "no number"})
    return play


def publish(port: int, play: Iterable[Entry]) -> None:
    """Add the entries to the streams of the server at `port`."""
    with redis.Redis(port=port) as client:
        pipe = client.pipeline(transaction=False)
        for stream, fields in play:
            pipe.xadd(stream, fields)  # type: ignore[arg-type]  # its types know no dict of text
        pipe.execute()


def waiting(port: int, group: str = "archive") -> int:
    """Return how many entries are not committed yet, on all streams of the market."""
    total = 0
    with redis.Redis(port=port) as client:
        for stream in MARKET_STREAMS:
            if not client.exists(stream):
                continue
            groups = [each for each in client.xinfo_groups(stream) if each["name"] == group.encode()]
            if not groups:
                total += client.xlen(stream)
            else:
                behind = client.xrange(stream, f"({groups[0]['last-delivered-id'].decode()}")
                total += groups[0]["pending"] + len(behind)
    return total


def expected_bars(play: Iterable[Entry]) -> pl.DataFrame:
    """Return the bars that must be in the database: of each key that of the highest (rev, final)."""
    return _highest(
        (fields for stream, fields in play if stream == BARS and "start" in fields),
        ("sym", "timeframe", "start"),
        {"open": float, "high": float, "low": float, "close": float, "rev": int, "final": int},
        ("rev", "final"),
    )


def expected_indicators(play: Iterable[Entry]) -> pl.DataFrame:
    """Return the indicators that must be in the database: the highest (rev, final), then the latest."""
    return _highest(
        (fields for stream, fields in play if stream == INDICATORS),
        ("sym", "timeframe", "start"),
        {"rev": int, "final": int, "values": str},
        ("rev", "final", "position"),
    )


def expected_features(play: Iterable[Entry]) -> pl.DataFrame:
    """Return the features that must be in the database: the highest rev, then the latest."""
    fields = (fields for stream, fields in play if stream == FEATURES)
    return _highest(fields, ("sym", "start"), {"rev": int, "values": str}, ("rev", "position"))


def expected_quotes(play: Iterable[Entry]) -> pl.DataFrame:
    """Return the quotes that must be in the database: the newest answer, then the latest."""
    fields = (fields for stream, fields in play if stream == QUOTES)
    return _highest(
        fields, ("sym", "at", "source"), {"price": float, "asked_at": float}, ("asked_at", "position")
    )


def expected_observations(play: Iterable[Entry]) -> pl.DataFrame:
    """Return the observations that must be in the database: the newest answer, then the latest."""
    fields = (fields for stream, fields in play if stream == OBSERVATIONS)
    return _highest(fields, ("sym", "start"), {"value": float, "asked_at": float}, ("asked_at", "position"))


def _highest(
    entries: Iterable[Mapping[str, str]],
    key: tuple[str, ...],
    values: Mapping[str, type],
    rank: tuple[str, ...],
) -> pl.DataFrame:
    rows = [
        {name: int(fields[name]) if name in ("start", "at") else fields[name] for name in key}
        | {name: kind(fields[name]) for name, kind in values.items()}
        | {"position": position}
        for position, fields in enumerate(entries)
    ]
    frame = pl.DataFrame(rows).sort(rank, maintain_order=True)
    return frame.group_by(key, maintain_order=True).last().drop("position").sort(key)


def _bar(chance: random.Random, _place: int) -> Entry:
    low = round(chance.uniform(1, 500), 2)
    inner = sorted(round(low + chance.random() * 5, 4) for _ in range(3))
    symbol, timeframe = chance.choice(["SPY", "BRK.B", "EUR/USD", "^VIX"]), chance.choice(["1m", "5m", "1d"])
    bar = Bar(
        *(symbol, timeframe, BEGIN_MS + 60_000 * chance.randrange(200)),
        *(inner[0], inner[2], low, inner[1]),
        volume=chance.choice([None, float(chance.randrange(10**6))]),
    )
    fields = encode_entry(bar, AssetClass.STOCKS, _provenance(chance))
    # what has the same rev is the same bar: its numbers follow from it
    rev, final = chance.randrange(4), chance.randrange(2)
    for name in ("open", "high", "low", "close"):
        fields[name] = str({"open": 20, "high": 31, "low": 10, "close": 30}[name] + rev)
    return BARS, fields | {"rev": str(rev), "final": str(final)}


def _indicators(chance: random.Random, place: int) -> Entry:
    values = orjson.dumps({"sma_20": place + 0.5, "rsi_14": None}).decode()
    start, rev, final = (chance.randrange(most) for most in (100, 3, 2))
    where = {"sym": "SPY", "timeframe": "1m", "start": str(BEGIN_MS + 60_000 * start)}
    return INDICATORS, where | {"rev": str(rev), "final": str(final), "values": values}


def _features(chance: random.Random, place: int) -> Entry:
    values = orjson.dumps({"return_1d": place / 7, "gap": None}).decode()
    where = {"sym": chance.choice(["SPY", "QQQ"]), "start": str(BEGIN_MS + 86_400_000 * chance.randrange(5))}
    return FEATURES, where | {"rev": str(chance.randrange(3)), "values": values}


def _quote(chance: random.Random, _place: int) -> Entry:
    quote = Quote("BTC/USDT", BEGIN_MS + chance.randrange(300), round(chance.uniform(1, 9), 3), bid=1.5)
    return QUOTES, encode_entry(quote, AssetClass.CRYPTO, _provenance(chance))


def _observation(chance: random.Random, _place: int) -> Entry:
    found = Observation("US.CPI", BEGIN_MS - 86_400_000 * chance.randrange(60_000), chance.uniform(-5, 5))
    return OBSERVATIONS, encode_entry(found, AssetClass.ECONOMIC, _provenance(chance))


def _download(chance: random.Random, place: int) -> Entry:
    asked_at = format(BEGIN_MS / 1000 + place, ".3f")
    return DOWNLOADS, {
        "source": "yahoo",
        "series": "SPY:bars:1m",
        "symbol": "SPY",
        "kind": "bars",
        "timeframe": "1m",
        "asked_at": asked_at,
        "took_ms": "12",
        "url": "https://api.example/SPY",
        "status": "200",
        "outcome": "records",
        "reason": "",
        "digest": "",
        "bytes": "10",
        "records": str(place),
        **({"replay": "1"} if place % 3 == 0 else {}),
    }


def _provenance(chance: random.Random) -> Provenance:
    asked_at = BEGIN_MS / 1000 + chance.randrange(1000) / 8
    return Provenance(chance.choice(["yahoo", "tiingo"]), asked_at, "ab" * 32)


def _as_tuples(frame: pl.DataFrame) -> list[tuple[Any, ...]]:
    """Return the rows of a frame, to compare with those of a query."""
    return list(frame.iter_rows())


def require_rows(url: str, play: Sequence[Entry]) -> None:
    """Compare every table with what a batch computation says of the whole play, row by row."""
    start_ms, at_ms = _MS.format("start"), _MS.format("at")
    bars = query(
        url,
        f"SELECT symbol, timeframe, {start_ms}, open, high, low, close, rev, final::int FROM bars "  # noqa: S608 - our own names
        'ORDER BY symbol COLLATE "C", timeframe COLLATE "C", start',
    )
    assert bars == _as_tuples(expected_bars(play))
    assert bars
    values = '"values"'
    indicators = query(
        url,
        f"SELECT symbol, timeframe, {start_ms}, rev, final::int, {values} FROM indicators ORDER BY start",  # noqa: S608 - our own names
    )
    assert _parse(indicators) == _parse(_as_tuples(expected_indicators(play)))
    features = query(
        url,
        f'SELECT symbol, {start_ms}, rev, {values} FROM features ORDER BY symbol COLLATE "C", start',  # noqa: S608 - our own names
    )
    assert _parse(features) == _parse(_as_tuples(expected_features(play)))
    epoch = "extract(epoch FROM asked_at)::float8"
    quotes = query(
        url,
        f'SELECT symbol, {at_ms}, source, price, {epoch} FROM quotes ORDER BY at, source COLLATE "C"',  # noqa: S608 - our own names
    )
    assert quotes == _as_tuples(expected_quotes(play))
    observations = query(url, f"SELECT symbol, {start_ms}, value, {epoch} FROM observations ORDER BY start")  # noqa: S608 - our own names
    assert observations == _as_tuples(expected_observations(play))
    downloads = [fields for stream, fields in play if stream == DOWNLOADS]
    marks = [(int(each["records"]), "replay" in each) for each in downloads]
    assert query(url, "SELECT records, replay FROM downloads ORDER BY records, replay") == sorted(marks)


def _parse(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [(*row[:-1], orjson.loads(row[-1])) for row in rows]
