"""Hold the rows of the database against those that a batch computation gives, one by one."""

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from math import isclose
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import orjson
import polars as pl

from marketproof import batch
from marketproof.features import build_correlations, build_features, find_correlated_days
from marketproof.plan import AFTER_MS, BENCHMARK, COLUMNS, OBSERVED, OBSERVED_DAYS, VINTAGED, Plan
from services.market.records import DAY_MS, MINUTE_MS
from support.market_prices import (
    Market,
    Vintage,
    begin_bar,
    find_instrument,
    make_vintages,
    midnight_ms,
    published_ms,
)
from support.postgres import query

MINUTES_FILE: Final = "minutes.csv"
DAYS_FILE: Final = "days.csv"
ACTIONS_FILE: Final = "actions.csv"
"""The names of the raw files."""
EXAMPLES: Final = 5
CHICAGO: Final = ZoneInfo("America/Chicago")
"""The zone of the days that FRED names."""
CLOSE_ENOUGH: Final = 1e-9
"""How far sums of fractions may differ, which depend on the order in which they are added."""
SAY_ZERO: Final = frozenset({"yahoo"})
"""The sources that say a volume of 0 where they know none, of futures for example."""
SUMS: Final = frozenset({"volume", "vwap", "obv", "mfi_14"})
_MS: Final = "round(extract(epoch FROM {}) * 1000)::bigint"
_BAR_COLUMNS: Final = (
    "open",
    "high",
    "low",
    "close",
    "volume",
    "vwap",
    "trades",
    "minutes",
    "missing",
    "day",
)


@dataclass(slots=True)
class Comparison:
    """Collect what was compared, and what was not as it must be, with some examples of each kind."""

    rows: Counter[str] = field(default_factory=Counter)
    differences: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def find(self, kind: str, what: str) -> None:
        """Note a difference."""
        self.differences[kind] += 1
        if self.differences[kind] <= EXAMPLES:
            self.examples.setdefault(kind, []).append(what)

    def compare_keys(self, table: str, got: Iterable[Any], expected: Iterable[Any]) -> None:
        """Note the keys that are missing, too many, or there twice."""
        counts, wanted = Counter(list(got)), set(expected)
        self.rows[table] += len(wanted)
        for key in sorted(wanted - counts.keys()):
            self.find(f"{table}: missing", str(key))
        for key, count in counts.items():
            if key not in wanted:
                self.find(f"{table}: nobody made it", str(key))
            if count > 1:
                self.find(f"{table}: {count} times", str(key))

    def add(self, other: "Comparison") -> None:
        """Add what another comparison has found."""
        self.rows += other.rows
        self.differences += other.differences
        self.examples |= other.examples

    def list_lines(self) -> list[str]:
        """Return the account for people."""
        lines = [f"{table}: {count} rows compared" for table, count in sorted(self.rows.items())]
        for kind, count in sorted(self.differences.items()):
            lines.append(f"DIFFERENT {kind}: {count}")
            lines += [f"    {example}" for example in self.examples[kind]]
        return lines


def compare_records(found: Comparison, url: str, plan: Plan, folder: Path) -> pl.DataFrame:
    """Compare what came of records with the raw files of the market.

    Return the bars that there must be, adjusted for splits up to the newest day of each symbol.
    """
    bars = _read_bars(url)
    minutes = _mask_minutes(batch.read_minutes(folder / MINUTES_FILE), bars, plan, found)
    splits = batch.read_splits(folder / ACTIONS_FILE)
    given = batch.build_bars(minutes, batch.read_days(folder / DAYS_FILE), splits)
    _compare_bars(found, bars, given)
    expected = batch.adjust_to_newest(given, splits)
    _count_streamed(found, url, plan)
    _compare_actions(found, url, folder / ACTIONS_FILE)
    _compare_indicators(found, url, expected, plan)
    market = plan.market
    _compare_observations(found, url, market)
    _compare_quotes(found, url, plan)
    _compare_symbols(found, url, plan)
    return expected


def compare_derived(url: str, expected: pl.DataFrame) -> Comparison:
    """Compare what is computed of days some time after they came: features and correlations."""
    found = Comparison()
    days = expected.filter(pl.col("timeframe") == "1d", pl.col("final"))
    days = days.select("symbol", "start", "day", "closes", *_BAR_COLUMNS[:-1])
    _compare_features(found, url, days)
    _compare_correlations(found, url, days)
    return found


def _read_bars(url: str) -> dict[tuple[str, str, int], dict[str, Any]]:
    """Return the rows of bars by their key."""
    names = (*_BAR_COLUMNS, "final", "rev", "source")
    start = _MS.format("start")
    rows = query(url, f"SELECT symbol, timeframe, {start}, {', '.join(names)} FROM bars")  # noqa: S608 - our own names
    found = {(row[0], row[1], row[2]): dict(zip(names, row[3:], strict=True)) for row in rows}
    if len(found) != len(rows):
        raise AssertionError("a bar is there twice")
    return found


def _mask_minutes(
    minutes: pl.DataFrame,
    bars: Mapping[tuple[str, str, int], Mapping[str, Any]],
    plan: Plan,
    found: Comparison,
) -> pl.DataFrame:
    """Return the minutes of the symbols that are played, with the columns that the source of each row gives.

    Which source of a cascade gave a minute depends on when it was asked; what it says of it must be right.
    """
    feeds = {feed.symbol: feed for feed in plan.minute_feeds}
    rows = minutes.filter(pl.col("symbol").is_in(list(feeds))).to_dicts()
    for row in rows:
        feed = feeds[row["symbol"]]
        source = bars.get((row["symbol"], "1m", row["start"]), {}).get("source", feed.sources[0])
        if source not in feed.sources:
            found.find("bars: of a source that nobody asked", f"{row['symbol']} {row['start']} {source}")
        for name in {"volume", "vwap", "trades"} - COLUMNS.get(source, frozenset()):
            row[name] = None
        if source in SAY_ZERO and row["volume"] is None:
            row["volume"] = 0.0
    return pl.DataFrame(rows, schema=minutes.schema)


def _compare_bars(
    found: Comparison, bars: Mapping[tuple[str, str, int], Mapping[str, Any]], expected: pl.DataFrame
) -> None:
    """Compare the bars of every timeframe."""
    named = pl.col("timeframe").is_in(["1d", *batch.PERIODS])  # shorter ones say no date
    dated = expected.with_columns(day=pl.when(named).then("day"))
    wanted = {tuple(row[name] for name in batch.KEY): row for row in dated.to_dicts()}
    found.compare_keys("bars", bars, wanted)
    for key in sorted(wanted.keys() & bars.keys()):
        row, right = bars[key], wanted[key]
        _compare_values(found, f"bars {key[1]}", key, row, right, _BAR_COLUMNS)
        if row["final"] != right["final"]:
            found.find(f"bars {key[1]}: final is wrong", str(key))
        if row["rev"] < right["parts"] - 1:
            found.find(f"bars {key[1]}: rev too low", f"{key}: {row['rev']} of {right['parts']} minutes")


def _count_streamed(found: Comparison, url: str, plan: Plan) -> None:
    """Count the minutes that came by a stream: each has the digest of a frame, which is that of no answer."""
    symbols = [feed.symbol for feed in plan.feeds if feed.is_streamed]
    counted = query(
        url,
        "SELECT count(*) FROM (SELECT FROM bars WHERE symbol = ANY($1) AND timeframe = '1m' "
        "AND digest NOT IN (SELECT digest FROM downloads WHERE digest IS NOT NULL) "
        "GROUP BY digest HAVING count(*) = 1) t",
        symbols,
    )
    found.rows["minutes of a stream"] += counted[0][0]


def _compare_indicators(found: Comparison, url: str, expected: pl.DataFrame, plan: Plan) -> None:
    """Compare the indicators of every bar.

    Where a correction may have come later than bars computes indicators again, there must be a row alone.
    """
    start = _MS.format("start")
    rows = query(url, f'SELECT symbol, timeframe, {start}, final, "values" FROM indicators')  # noqa: S608 - our own names
    got = {(row[0], row[1], row[2]): (row[3], orjson.loads(row[4])) for row in rows}
    wanted = dict(batch.build_indicators(expected))
    finals = dict(zip(expected.select(batch.KEY).rows(), expected["final"], strict=True))
    found.compare_keys("indicators", [row[:3] for row in rows], wanted)
    for key in sorted(wanted.keys() & got.keys()):
        is_final, values = got[key]
        if key[1] in plan.uncorrected:
            continue
        found.rows[f"values of indicators of {key[1]}"] += len(values)
        if values.keys() != wanted[key].keys():
            found.find(f"indicators {key[1]}: other names", f"{key}: {sorted(values)}")
            continue
        _compare_values(found, f"indicators {key[1]}", key, values, wanted[key], sorted(values))
        if is_final != finals[key]:
            found.find(f"indicators {key[1]}: final is wrong", str(key))


def _compare_values(  # noqa: PLR0917 - a row, and what is right
    found: Comparison,
    where: str,
    key: Any,
    got: Mapping[str, Any],
    right: Mapping[str, Any],
    names: Iterable[str],
    inexact: Container[str] = SUMS,
) -> None:
    """Compare the columns of a row; those that are `inexact` need not be the same to the last bit."""
    for name in names:
        if _is_same(got[name], right[name], is_exact=name not in inexact):
            continue
        found.find(f"{where}: {name}", f"{key}: {got[name]!r}, not {right[name]!r}{_describe(got)}")


def _describe(row: Mapping[str, Any]) -> str:
    """Return what tells of a row where it comes from."""
    return f"; rev {row['rev']}, from {row['source']}" if "rev" in row else ""


def _is_same(got: Any, right: Any, *, is_exact: bool) -> bool:
    """Return True if two values are the same."""
    if got is None or right is None or is_exact:
        return bool(got == right)
    return isclose(got, right, rel_tol=CLOSE_ENOUGH, abs_tol=CLOSE_ENOUGH)


def _compare_features(found: Comparison, url: str, days: pl.DataFrame) -> None:
    """Compare the features of every day."""
    symbols = days["symbol"].unique().to_list()
    rows = query(url, f'SELECT symbol, {_MS.format("start")}, "values" FROM features')  # noqa: S608 - our own names
    got = {row[:2]: orjson.loads(row[2]) for row in rows}
    asset = pl.col("symbol").replace_strict(
        {symbol: str(find_instrument(symbol).asset) for symbol in symbols}
    )
    wanted = dict(build_features(days.with_columns(asset=asset), BENCHMARK))
    found.compare_keys("features", got, wanted)
    for key in sorted(wanted.keys() & got.keys()):
        if got[key].keys() != wanted[key].keys():
            found.find("features: other names", f"{key}: {sorted(got[key])}")
            continue
        found.rows["values of features"] += len(wanted[key])
        _compare_values(found, "features", key, got[key], wanted[key], wanted[key], inexact=wanted[key])


def _compare_correlations(found: Comparison, url: str, days: pl.DataFrame) -> None:
    """Compare the correlations of the days of which they must be there, and of whatever days there are."""
    rows = query(url, "SELECT day, a, b, value, n FROM correlations")
    got = {row[:3]: {"value": row[3], "n": row[4]} for row in rows}
    wanted = {
        (day, *pair): {"value": value, "n": count}
        for day in find_correlated_days(days) | {row[0] for row in rows}
        for pair, (value, count) in build_correlations(days, day).items()
    }
    found.compare_keys("correlations", got, wanted)
    for key in sorted(wanted.keys() & got.keys()):
        _compare_values(found, "correlations", key, got[key], wanted[key], ("value", "n"), ("value",))


def _compare_actions(found: Comparison, url: str, path: Path) -> None:
    """Compare the splits and dividends, those that were withdrawn, too."""
    rows = query(url, "SELECT symbol, ex_day, kind, ratio, amount, withdrawn FROM actions")
    names = ("ratio", "amount", "withdrawn")
    got = {row[:3]: dict(zip(names, row[3:], strict=True)) for row in rows}
    raw = pl.read_csv(path, schema_overrides={"ex_day": pl.Date, "value": pl.Float64})
    wanted = {}
    for symbol, kind, ex_day, value, is_withdrawn in raw.rows():
        numbers = {"ratio": None, "amount": None}
        if not is_withdrawn:
            numbers["ratio" if kind == "split" else "amount"] = value
        wanted[symbol, ex_day, kind] = {**numbers, "withdrawn": bool(is_withdrawn)}
    found.compare_keys("actions", got, wanted)
    for key in sorted(wanted.keys() & got.keys()):
        _compare_values(found, "actions", key, got[key], wanted[key], names)


def _compare_observations(found: Comparison, url: str, market: Market) -> None:
    """Compare the observations with all that were published in the week's end."""
    since_ms = market.end_ms + AFTER_MS - OBSERVED_DAYS * DAY_MS  # whenever they were loaded first
    rows = query(url, f"SELECT symbol, {_MS.format('start')}, value FROM observations")  # noqa: S608 - our own names
    rows = [row for row in rows if row[1] >= since_ms]
    got = {row[:2]: row[2] for row in rows}
    over_ms = market.end_ms + AFTER_MS
    wanted = {
        (symbol, each.start_ms): each.value
        for symbol in OBSERVED
        for each in market.observations(symbol)
        if symbol not in VINTAGED and each.start_ms >= since_ms
        if published_ms(each, market.series[symbol]) <= over_ms
    }
    vintages = [
        (symbol, vintage)
        for symbol in VINTAGED
        for each in market.observations(symbol)
        for vintage in make_vintages(each, market.series[symbol])
        if each.start_ms >= since_ms and vintage.shown_ms <= over_ms
    ]
    wanted |= {(symbol, each.start_ms): each.value for symbol, each in vintages}  # the last one counts
    _compare_vintages(found, url, vintages, wanted, since_ms)
    found.compare_keys("observations", [row[:2] for row in rows], wanted)
    for key in sorted(wanted.keys() & got.keys()):
        _compare_values(found, "observations", key, {"value": got[key]}, {"value": wanted[key]}, ["value"])


def _compare_vintages(
    found: Comparison,
    url: str,
    vintages: Iterable[tuple[str, Vintage]],
    wanted: Mapping[tuple[str, int], float],
    since_ms: int,
) -> None:
    """Compare each value that a period ever had, and since when; of other series there is one of each."""
    columns = f"symbol, {_MS.format('start')}, {_MS.format('known_at')}, value"
    rows = query(url, f"SELECT {columns} FROM observation_vintages")  # noqa: S608 - our own names
    rows = [row for row in rows if row[1] >= since_ms]
    got = {row[:3]: row[3] for row in rows if row[0] in VINTAGED}
    right = {
        (symbol, each.start_ms, midnight_ms(each.day, CHICAGO) + DAY_MS): each.value
        for symbol, each in vintages
    }
    found.compare_keys("vintages", got, right)
    for key in sorted(right.keys() & got.keys()):
        _compare_values(found, "vintages", key, {"value": got[key]}, {"value": right[key]}, ["value"])
    others = {key: value for key, value in wanted.items() if key[0] not in VINTAGED}
    single = [row for row in rows if row[0] not in VINTAGED]
    found.compare_keys("vintages of series without days", [row[:2] for row in single], others)
    for symbol, start_ms, _, value in single:
        if others.get((symbol, start_ms), value) != value:
            found.find("vintages: value", f"{symbol} {start_ms}: {value}")


def _compare_quotes(found: Comparison, url: str, plan: Plan) -> None:
    """Hold each quote against the market: which ones there are depends on when it was asked."""
    rows = query(url, f"SELECT symbol, {_MS.format('at')}, source, price FROM quotes")  # noqa: S608 - our own names
    found.rows["quotes"] += len(rows)
    market = plan.market
    if not rows and plan.quoted:
        found.find("quotes: missing", "all of them")
    for symbol, at, source, price in rows:
        if price not in _list_prices(market, symbol, at):
            found.find("quotes: a price that was none", f"{symbol} of {source} at {at}: {price}")


def _list_prices(market: Market, symbol: str, at_ms: int) -> set[float]:
    """Return what a source may have said of a time: the truth, or what a late source will correct."""
    known = market.find_known(symbol, "1m", at_ms + 1)[-1:]
    known += market.find_known(symbol, "1m", at_ms + MINUTE_MS)[-2:]
    prices: set[float] = set()
    for bar in known:
        share = min(1.0, max(0.0, (at_ms - bar.start_ms) / MINUTE_MS))
        for each in (bar, begin_bar(bar, share)):
            prices |= {each.close, each.low, each.high}
    return prices


def _compare_symbols(found: Comparison, url: str, plan: Plan) -> None:
    """Compare the symbols with those that are played, and their times with their own rows."""
    times = " UNION ALL ".join(
        f"SELECT symbol, {name} AS at FROM {table}"  # noqa: S608 - our own names
        for table, name in (("bars", "start"), ("quotes", "at"), ("observations", "start"))
    )
    edges = query(url, f"SELECT symbol, min(at), max(at) FROM ({times}) t GROUP BY symbol")  # noqa: S608
    wanted = {symbol: {"asset": "economic"} for symbol in OBSERVED}
    wanted |= {feed.symbol: {"asset": feed.asset} for feed in plan.feeds}
    rows = query(url, "SELECT symbol, asset, first_seen, last_seen, replay FROM symbols")
    got = {row[0]: dict(zip(("asset", "first", "last", "replay"), row[1:], strict=True)) for row in rows}
    found.compare_keys("symbols", got, wanted)
    for symbol, first, last in edges:
        if symbol in got and symbol in wanted:
            right = wanted[symbol] | {"first": first, "last": last, "replay": False}
            _compare_values(found, "symbols", symbol, got[symbol], right, right)
