"""Answer questions about a market as nineteen public sources do, which `market_shapes.toml` describes. Pure.

A request has places for the words of a question: `{symbol}`, `{frame}`, `{start}` and `{end}` with their unit
(s, ms, local, a format of a date, or ISO 8601), `{year}`, `{limit}` with how many rows are usual and how many
the most, and `{page}`. A place that ends with `?` may be missing. Other words are literal, and `*` is any.

A document has places for values: `"$close"` is a value itself, `"*close"` the list of it over all rows, and
`"{close:.4f}"` a text, by Python's own rules of formatting, or null if the value is missing. A key that ends
with `?` is left out if its value is null or an empty list.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import orjson

from services.market.records import DAY_MS, TIMEFRAME_SEC, Bar
from support.market_prices import Instrument, epoch_ms, midnight_ms
from support.market_view import MarketView

PAGE_ROWS: Final = 500
"""The most rows of a page, of the sources that have pages."""
Words = dict[str, Any]
"""The words of a question, and what is said of a row or of all: the values for the places of a document."""


_UTC: Final = ZoneInfo("UTC")


@dataclass(frozen=True, slots=True)
class Asked:
    """Hold a question: the path below the source's address, the query, and headers by lower-case name."""

    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold an answer."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


def json_answer(document: Any, status: int = 200) -> Answer:
    """Return a document as an answer."""
    return Answer(status, orjson.dumps(document))


class NotServedError(Exception):
    """The source has no such symbol or timeframe; holds what it then answers."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


@dataclass(frozen=True, kw_only=True)
class Route:
    """Describe one request: the latest price, where there is neither `frames`, `series` nor `columns`.

    Attributes:
        request: path and query, with places.
        document: what is answered: JSON, or a text with `{lines}`; `row` is a row of it.
        content_type: of the answer.
        symbol: the symbol, by the words of the question.
        frames: our timeframes and the source's words for them: `1m=60 5m=300`; the only one without a word.
        series: our symbols by the source's words for them; empty where they are the same.
        columns: our symbols by the names of a row's values, where a row has several series.
        cell: such a value, as a text.
        end_ms: what is added to the end, which is included.
        keep: how many rows there are at most, by which: `first` or `last`.
        from_start: whether a limit keeps the first rows, if the question has a start.
        most: how many rows a question may be about.
        stamp: of a bar of a day: `midnight`, `opening`, or `utc`.
        zone: of times: `utc` or `local`.
        newest_first: whether the newest row is the first one; or the word that says `asc` if it is not.
        has_gaps: whether minutes without a trade have a row of nulls, and weekdays without a value a point.
        is_bare: whether a question with any query is wrong.
        has_vintages: whether rows have every value that a period ever had, if the market has them: `known`.
        has_actions: whether it is about splits and dividends: the words `splits` and `dividends`.
        unknown, wrong, empty: the answers for another symbol, for another timeframe, and without rows.
    """

    request: str
    document: Any
    row: Any = None
    content_type: str = "application/json"
    symbol: str = "{symbol}"
    frames: str = ""
    series: Mapping[str, str] | None = None
    columns: Mapping[str, str] | None = None
    cell: str = ""
    end_ms: int = 0
    keep: Mapping[str, int] = field(default_factory=dict)
    from_start: bool = False
    most: int | None = None
    stamp: str = "midnight"
    zone: str = "utc"
    newest_first: bool | str = False
    has_gaps: bool = False
    is_bare: bool = False
    has_vintages: bool = False
    has_actions: bool = False
    unknown: Answer
    wrong: Answer
    empty: Answer | None = None

    @cached_property
    def path(self) -> re.Pattern[str]:
        """The path as a regular expression, with a group for each place."""
        pattern = re.sub(r"\\{(\w+)(?::\w+)?\\}", r"(?P<\1>[^/]+)", re.escape(self.request.partition("?")[0]))
        return re.compile(pattern.replace("(?P<frame>[^/]+)", "(?P<frame>[^/]+/[^/]+)"))

    @cached_property
    def query(self) -> Mapping[str, str]:
        """What each word of the query stands for."""
        return dict(each.split("=", 1) for each in self.request.partition("?")[2].split("&") if each)

    @cached_property
    def specs(self) -> Mapping[str, str]:
        """What is said of each place after its name."""
        return dict(re.findall(r"{(\w+):?([^}]*)}", self.request))

    @cached_property
    def timeframes(self) -> Mapping[str, str]:
        """Our timeframes by the source's words for them."""
        return {word: ours for ours, _, word in (each.partition("=") for each in self.frames.split())}

    def read(self, asked: Asked) -> Words | None:
        """Return the words of a question, by the names of their places; None if this is another request."""
        found = self.path.fullmatch(asked.path)
        if found is None:
            return None
        words: Words = found.groupdict() | {"path": asked.path}
        for name, value in self.query.items():
            if value[:1] == "{":
                if name in asked.query:
                    words[value[1:-1].partition(":")[0]] = asked.query[name]
            elif name not in asked.query or value not in ("*", asked.query[name]):
                return None
        return words


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Describe how a source is asked and answers.

    Attributes:
        routes: its requests; the first that fits is taken.
        spell: how it spells the symbols of each class of assets.
        key: returns the key in a question; None for a source without keys.
        unknown: what it says of a symbol or a page that it does not have.
        unauthorized: what it says without a good key.
        refused: its own notice of too many requests.
    """

    routes: tuple[Route, ...]
    spell: Mapping[str, str]
    key: Callable[[Asked], str] | None
    unknown: Answer
    unauthorized: Answer
    refused: Answer

    def answer(self, view: MarketView, asked: Asked) -> Answer:
        """Return what the source answers of what it shows."""
        for route in self.routes:
            if (words := route.read(asked)) is not None:
                if route.is_bare and asked.query:
                    return route.wrong
                try:
                    return _render(route, words, _find_rows(self, route, view, words))
                except NotServedError as error:
                    return error.answer
                except (KeyError, ValueError) as error:
                    return json_answer({"error": f"bad request: {error!r}"}, 400)
        return self.unknown


# -- descriptions


def _read_shape(table: dict[str, Any]) -> Shape:
    """Return a description as a file has it."""
    answers = _USUAL | _read_answers(table)
    key = _read_key(table["key"]) if "key" in table else None
    routes = tuple(_read_route(each, answers["unknown"]) for each in table["routes"])
    return Shape(routes=routes, spell=table.get("spell", {}), key=key, **answers)


_USUAL: Final = {
    "unknown": json_answer({"error": "not found"}, 404),
    "unauthorized": json_answer({"error": "unauthorized"}, 401),
    "refused": json_answer({"error": "too many requests"}, 429),
}


def _read_route(table: dict[str, Any], unknown: Answer) -> Route:
    answers = _read_answers(table)
    named = table | {"unknown": unknown, "wrong": answers.get("unknown", unknown)} | answers
    if "content_type" not in table:
        named |= {name: orjson.loads(table[name]) for name in ("row", "document") if name in table}
    return Route(**named)


def _read_answers(table: dict[str, Any]) -> dict[str, Answer]:
    """Return the answers of a table: a status, a body, and a content type unless that is JSON's."""
    found = {
        name: each for name, each in table.items() if isinstance(each, list) and isinstance(each[0], int)
    }
    return {name: Answer(each[0], each[1].encode(), *each[2:]) for name, each in found.items()}


def _read_key(text: str) -> Callable[[Asked], str]:
    """Return what finds the key: `query apikey`, or `header authorization Bearer `."""
    place, name, prefix = (*text.split(" ", 2), "")[:3]
    if place == "query":
        return lambda asked: asked.query.get(name, "")
    return lambda asked: asked.headers.get(name, "").removeprefix(prefix)


# -- what is said


def _find_rows(shape: Shape, route: Route, view: MarketView, words: Words) -> list[Words]:
    """Return what is said of each row, the oldest first; put what is said of all into `words`."""
    try:
        words |= {
            "asked": route.symbol.format(**words) if route.columns is None else "",
            "now_ms": view.now_ms,
        }
        if route.series is not None or route.columns is not None:
            return _find_values(route, view, words)
        instrument = view.find_symbol(words["asked"], lambda each: _spell(shape, each))
    except KeyError:
        raise NotServedError(route.unknown) from None
    if route.has_actions:
        words |= _name_actions(route, view, words, instrument.symbol)
        return []
    zone = instrument.zone if route.zone == "local" and words.get("zone") != "UTC" else UTC
    words |= _split_symbol(instrument)
    if (quote := view.find_quote(instrument.symbol)) is not None:
        words |= {"price": quote.price, "bid": quote.bid, "ask": quote.ask, "volume": quote.volume}
        words |= {"day_volume": int(quote.volume or 0), **_name_times(quote.at_ms, zone)}
    elif not route.frames:
        raise NotServedError(route.unknown)
    return _find_bars(route, view, words, instrument, zone) if route.frames else []


def _name_actions(route: Route, view: MarketView, words: Words, symbol: str) -> Words:
    """Return the splits and dividends between two dates, both included."""
    start, end = _find_edges(route, words, UTC)
    found = [
        each
        for each in view.find_actions(symbol)
        if (start or 0) <= midnight_ms(each.ex_day, _UTC) <= (view.now_ms if end is None else end)
    ]
    dated = [(each, {"symbol": symbol, "ex_date": each.ex_day.isoformat()}) for each in found]
    splits = [row | {"new_rate": each.value, "old_rate": 1} for each, row in dated if each.kind == "split"]
    return {
        "splits": splits,
        "dividends": [row | {"rate": each.value} for each, row in dated if each.kind == "dividend"],
    }


def _spell(shape: Shape, instrument: Instrument) -> str | None:
    """Return how a source spells an instrument; None if it has none of its class."""
    template = shape.spell.get(instrument.asset)
    return None if template is None else template.format(**_split_symbol(instrument))


@cache
def _split_symbol(instrument: Instrument) -> Words:
    """Return the parts of a symbol as sources write them."""
    base, _, quote = instrument.symbol.partition("/")
    xbt = base.replace("BTC", "XBT")
    return {
        "symbol": instrument.symbol,
        "dashed": instrument.symbol.replace(".", "-"),
        "base": base,
        "quote": quote,
        "lower": (base + quote).lower(),
        "xbt": xbt,
        "long_xbt": f"{xbt}{quote}" if quote == "USDT" else f"X{xbt}Z{quote}",
        "decimals": instrument.decimals,
        "digits": max(4, instrument.decimals),
        "zone_name": "US/Eastern" if instrument.session == "XNYS" else "UTC",
    }


def _name_times(at_ms: int, zone: tzinfo) -> Words:
    """Return a time in all units."""
    iso = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    at = datetime.fromtimestamp(at_ms / 1000, zone)
    return {"at": at, "at_ms": at_ms, "at_s": at_ms // 1000, "at_ns": at_ms * 1_000_000, "at_iso": iso}


def _find_edges(route: Route, words: Words, zone: tzinfo) -> tuple[int | None, int | None]:
    """Return both ends that a question names, in epoch milliseconds."""
    if "year" in words:
        words |= {"start": f"{words['year']}-01-01", "end": f"{words['year']}-12-31"}
    edges: list[int | None] = []
    for name in ("start", "end"):
        unit = route.specs.get(name, "" if "year" in words else "?")
        is_left_out = unit[-1:] == "?" and name not in words
        edges.append(None if is_left_out else _parse_edge(unit.removesuffix("?"), words[name], zone))
    return edges[0], None if edges[1] is None else edges[1] + route.end_ms


def _parse_edge(unit: str, text: str, zone: tzinfo) -> int:
    match unit:
        case "s" | "ms":
            return int(text) * (1000 if unit == "s" else 1)
        case "" | "local":
            moment = datetime.fromisoformat(text)
            return epoch_ms(moment if moment.tzinfo else moment.replace(tzinfo=zone if unit else UTC))
    return epoch_ms(datetime.strptime(text, unit).replace(tzinfo=UTC))


def _find_bars(
    route: Route, view: MarketView, words: Words, instrument: Instrument, zone: tzinfo
) -> list[Words]:
    """Return the bars that a question is about."""
    timeframe = route.timeframes.get(words.get("frame", route.specs.get("frame", "")))
    if timeframe is None:
        raise NotServedError(route.wrong)
    length = 1000 * TIMEFRAME_SEC[timeframe]
    start, end = _find_edges(route, words, zone)
    if route.most and start is not None and end is not None and (end - start) // length + 1 > route.most:
        raise NotServedError(json_answer({"message": f"more than {route.most} bars asked for"}, 400))
    usual, _, most = route.specs.get("limit", "").partition("-")
    limit = int(words.get("limit", usual)) if usual else 0
    keep = dict(route.keep)
    if most:
        keep["first" if route.from_start and start is not None else "last"] = min(limit, int(most))
    bars = view.find_bars(instrument.symbol, timeframe, start, end, **keep)
    if "page" in route.specs:
        begin = int(words.get("page", 0))
        stop = begin + min(limit, PAGE_ROWS)
        words["next"] = str(stop) if stop < len(bars) else None
        bars = bars[begin:stop]
    words["last_s"] = bars[-2].start_ms // 1000 if len(bars) > 1 else 0
    whole = set(view.market.starts(instrument.symbol, timeframe))
    rows = []
    for bar, after in zip(bars, [*bars[1:], None], strict=False):
        is_over = bar.start_ms in whole and bar.start_ms + length <= view.now_ms
        rows.append({**_name_bar(route, view, bar, zone), "is_over": is_over})
        if route.has_gaps and timeframe == "1m" and after is not None and after.start_ms > bar.start_ms:
            quiet = view.find_quiet_minutes(bar.symbol, bar.start_ms, after.start_ms)
            rows += [{"at_s": minute // 1000} for minute in quiet]
    return rows


def _name_bar(route: Route, view: MarketView, bar: Bar, zone: tzinfo) -> Words:
    """Return what is said of a bar."""
    at_ms, is_day = bar.start_ms, bar.timeframe == "1d"
    if is_day and route.stamp != "midnight":
        at_ms = view.find_opening(bar) if route.stamp == "opening" else at_ms // DAY_MS * DAY_MS
    words = {
        name: getattr(bar, name) for name in ("open", "high", "low", "close", "volume", "vwap", "trades")
    }
    words |= _name_times(at_ms, zone)
    words["stamp"] = f"{words['at']:%Y-%m-%d}" if is_day else f"{words['at']:%Y-%m-%d %H:%M:%S}"
    length = 1000 * TIMEFRAME_SEC[bar.timeframe]
    return words | {"volume_or_0": bar.volume or 0, "end_ms": at_ms + length - 1}


def _find_values(route: Route, view: MarketView, words: Words) -> list[Words]:
    """Return the values of a series that a question is about, or those of several by their days."""
    if route.series is not None:
        symbol = route.series[words["asked"]] if route.series else words["asked"]
        series = view.market.series[symbol]
    start, end = _find_edges(route, words, UTC)
    edges = (0 if start is None else start, view.now_ms if end is None else end)
    if route.columns is not None:
        days: dict[int, Words] = {}
        for name, symbol in route.columns.items():
            for each in view.find_observations(symbol, *edges):
                day = days.setdefault(each.start_ms, {**_name_times(each.start_ms, UTC), "cells": ""})
                day |= {
                    name: each.value,
                    "cells": day["cells"] + route.cell.format(name=name, value=each.value),
                }
        return list(days.values())
    if route.has_vintages and view.market.has_vintages:
        return [
            _name_times(each.start_ms, UTC) | {"value": each.value, "known": each.day}
            for each in view.find_vintages(symbol, *edges)
        ]
    found = view.find_observations(symbol, *edges)
    rows = [_name_times(each.start_ms, UTC) | {"value": each.value} for each in found]
    if rows and route.has_gaps and not series.is_monthly:
        known = {row["at_ms"] for row in rows}
        between = (_name_times(at_ms, UTC) for at_ms in range(min(known), max(known), DAY_MS))
        rows += [
            row | {"value": "."} for row in between if row["at_ms"] not in known and row["at"].weekday() < 5
        ]
    return rows


# -- how it is said


def _render(route: Route, words: Words, found: list[Words]) -> Answer:
    """Return an answer with these values and rows."""
    if not found and route.empty is not None:
        return route.empty
    way = route.newest_first
    if words.get(way, "desc") != "asc" if isinstance(way, str) else way:
        found.reverse()
    rows = [_fill(route.row, words | row, []) for row in found]
    if route.content_type != "application/json":
        return Answer(200, route.document.format(**words, lines="".join(rows)).encode(), route.content_type)
    words |= {"rows": rows, "rows_or_null": rows or None, "count": len(rows)}
    words["by_stamp"] = {row.get("stamp"): each for row, each in zip(found, rows, strict=True)}
    return json_answer(_fill(route.document, words, found))


def _fill(template: Any, words: Words, found: list[Words]) -> Any:
    """Return a document with these values in its places."""
    match template:
        case dict():
            filled = ((key, _fill(value, words, found)) for key, value in template.items())
            return {
                _fill(key.removesuffix("?"), words, found): value
                for key, value in filled
                if key[-1] != "?" or value not in (None, [])
            }
        case list():
            return [_fill(each, words, found) for each in template]
        case str() if template[:1] == "$":
            return words.get(template[1:])
        case str() if template[:1] == "*":
            return [row.get(template[1:]) for row in found]
        case str() if "{" in template:
            is_whole = all(words.get(name) is not None for name in _find_places(template))
            return template.format(**words) if is_whole else None
    return template


@cache
def _find_places(template: str) -> tuple[str, ...]:
    return tuple(re.findall(r"{(\w+)", template))


SHAPES: Final[Mapping[str, Shape]] = {
    name: _read_shape(table)
    for name, table in tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8")).items()
}
