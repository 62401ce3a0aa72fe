"""Implement `marketswarm source`: the catalogue, a trial of a real source, and the sources in service."""

import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from marketswarm.agent import point_like
from marketswarm.agent.service_config import require_config
from marketswarm.bus import Bus
from marketswarm.bus.circuit_breaker import BreakerState, CircuitBreaker
from marketswarm.bus.stored_values import MAX_EPOCH_SEC, parse_object
from marketswarm.cli import event_loop, output, tables
from marketswarm.cli.data_folder import DATA
from marketswarm.cli.fleet_view import FleetView, open_fleet
from marketswarm.cli.local_time import format_moment
from marketswarm.cli.options import Data, Json, parse_duration
from marketswarm.exit import Code, Exit
from marketswarm.keys import MARKET_BARS, MARKET_SERIES, MARKET_SOURCES, PRELOAD_STATUS, source_breaker_key
from marketswarm.text import escape_text
from marketswarm.truth import suggest_name
from services.market.records import RecordKind
from services.sources.access.keys import read_keys
from services.sources.access.trial import (
    Trial,
    ask_questions,
    describe_trial,
    encode_trial,
    make_questions,
)
from services.sources.cascade.state import SeriesStatus
from services.sources.catalog.files import CatalogError, load_source, shipped_catalog
from services.sources.catalog.request import ApiKey
from services.sources.catalog.source import Auth, AuthPlace, MarketSource
from services.sources.limits import LimitSettings
from services.sources.settings import SourcesSettings, require_safe_urls

DID_NOT_FIT: Final = 1
"""The exit code when an answer is not all that the source's file says."""

Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="A source of `marketswarm source list`, or a TOML file of yours."),
]


def list_(as_json: Json = False) -> None:
    """List the sources of the catalogue: what each serves, and whether it has the key that it needs."""
    sources = list(shipped_catalog().values())
    keys = read_keys(sources, os.environ)
    if as_json:
        output.print_json([_summarize(source, has_key=source.name in keys) for source in sources])
        return
    table = tables.make_table(folded=("source", "serves", "of", "key", "tried"))
    for source in sources:
        summary = _summarize(source, has_key=source.name in keys)
        words = [", ".join(summary[what]) for what in ("kinds", "assets")]
        table.add_row(source.name, *words, _describe_key(source, has_key=source.name in keys), source.tried)
    tables.print_drawing(table)
    output.print_line(f"{len(sources)} sources; `marketswarm source try NAME` asks one")


def show(name: Name, as_json: Json = False, data: Data = DATA) -> None:
    """Show what the catalogue says of a source: its limits, what it serves, and which pages say so.

    Where a fleet runs, the limits of its truth apply, if it has any.
    """
    of_file = _find_source(name)
    source = of_file.replace_limits(event_loop.run(_read_limits(data)))
    if as_json:
        output.print_json(source.model_dump(mode="json"))
        return
    output.print_line(f"{source.name}: {source.title}")
    for page in source.docs:
        output.print_line(f"  mapped by {page}")
    output.print_line(f"  tried with this file: {source.tried}")
    if source.terms:
        output.print_line(f"  {source.terms}")
    has_key = source.name in read_keys([source], os.environ)
    output.print_line(f"  key: {_describe_key(source, has_key=has_key)}")
    units = {1: "second", 60: "minute", 3600: "hour", 86_400: "day", 30 * 86_400: "month"}
    limits = ", ".join(f"{count:,} a {units[sec]}" for sec, count in source.limits.windows()) or "none known"
    output.print_line(f"  limits: {limits}{'' if source is of_file else ', by the truth'}")
    for endpoint_name, endpoint in source.serves.items():
        assets, timeframes = ", ".join(endpoint.assets), ", ".join(endpoint.timeframes)
        output.print_line(
            f"  {endpoint_name}: {endpoint.kind} of {assets}{timeframes and f' in {timeframes}'}"
        )


def try_(
    name: Name,
    symbol: Annotated[
        str | None,
        typer.Argument(metavar="[SYMBOL]", help="SPY, EUR/USD, BTC/USDT, US.CPI; else one it has."),
    ] = None,
    *,
    only: Annotated[
        str | None, typer.Option("--only", metavar="ENDPOINT", help="Ask this question alone.")
    ] = None,
    timeframe: Annotated[
        str | None, typer.Option("--timeframe", metavar="1m", help="Of bars; else the first that it has.")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Show the beginning of each answer as it came.")] = False,
    base_url: Annotated[
        str | None,
        typer.Option("--base-url", metavar="URL", help="Ask there instead: a proxy, or a stand-in of yours."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Ask the real source one small question of each kind, and show what came and what did not fit.

    Its key is read from the variable that its file names. Ends with 1 if something is wrong or does not fit.
    """
    source = _find_source(name)
    keys = read_keys([source], os.environ)
    if source.auth.env and not source.auth.optional and source.name not in keys:
        raise Exit(Code.CONFIGURATION, f"{source.name} needs a key: put it into {source.auth.env}")
    if base_url is not None:  # its key must not be sent in plain text
        try:
            base_url = require_safe_urls({source.name: base_url})[source.name]
        except ValueError as error:
            raise Exit(Code.CONFIGURATION, f"--base-url: {error}") from None
    questions = [
        found
        for found in make_questions(source, symbol, timeframe, datetime.now(UTC))
        if only in (None, found[0])
    ]
    if not questions:
        asked = symbol or "a symbol that is not given"
        raise Exit(Code.CONFIGURATION, f"{source.name} serves nothing of {asked}: see `source show {name}`")
    _show_trials(event_loop.run(ask_questions(source, keys, questions, base_url)), keys, raw, as_json)


def _show_trials(
    trials: Sequence[Trial], keys: Mapping[str, Sequence[ApiKey]], raw: bool, as_json: bool
) -> None:
    """Show what came of each question. Raise Exit, code 1, if something is wrong or did not fit."""
    if as_json:
        output.print_json([encode_trial(trial) for trial in trials])
    else:
        for trial in trials:
            head, *lines = describe_trial(trial, keys.get(trial.answer.source, ()), raw=raw)
            output.print_line(head, output.GREEN if trial.is_good else output.RED)
            output.print_lines(lines)
    if not all(trial.is_good for trial in trials):
        raise Exit(DID_NOT_FIT, "")


def pause(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A source that a series of the truth names.")],
    sec: Annotated[
        float | None,
        typer.Option("--for", parser=parse_duration, metavar="10m", help="For how long; else until resumed."),
    ] = None,
    data: Data = DATA,
) -> None:
    """Take a source out of service: no instance asks it, and the next source of each series takes over."""
    event_loop.run(_use_breaker(name, data, lambda breaker: breaker.pause(sec)))
    until = "until `marketswarm source resume`" if sec is None else f"for {sec:g} s"
    output.print_line(f"{name} is out of service {until}")


def resume(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A source that was paused, or whose breaker is open.")
    ],
    data: Data = DATA,
) -> None:
    """Take a source into service again at once, also one whose breaker is open since it failed."""
    event_loop.run(_use_breaker(name, data, CircuitBreaker.resume))
    output.print_line(f"{name} is in service: the next load of each of its series asks it")


def status(
    source: Annotated[
        str | None,
        typer.Option("--source", metavar="NAME", help="This source alone, and the series that name it."),
    ] = None,
    *,
    late: Annotated[bool, typer.Option("--late", help="Only the series that are not fresh.")] = False,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """Show the sources and series that are in force: which source serves what, and why no other one does."""
    now = time.time()
    view = event_loop.run(_read_status(data, now))
    is_empty = not view["series"]
    view = _select_status(view, source, now if late else None)
    if as_json:
        output.print_json(view)
    elif is_empty:
        output.print_line("no series was loaded yet: is `sources` in the truth, and does it run?")
    else:
        tables.print_drawing(_draw_sources(view["sources"], now))
        output.print_line("")
        tables.print_drawing(_draw_series(view["series"], now))


async def _read_limits(data: Path) -> Mapping[str, LimitSettings]:
    """Return none if no fleet runs, or if the truth has no such section."""
    try:
        async with open_fleet(data) as fleet:
            section = fleet.truth.services.get("sources")
            config = section and require_config(SourcesSettings, "sources", section)
            return config.settings.limits if config else {}
    except Exit:
        return {}


async def _use_breaker(name: str, data: Path, use: Callable[[CircuitBreaker], Awaitable[object]]) -> None:
    """Use the breaker of a source that the truth names. Raise Exit, code 2, for another."""
    async with open_fleet(data) as fleet:
        section = fleet.truth.services.get("sources")
        if section is None:
            raise Exit(Code.CONFIGURATION, "the truth has no section for sources")
        config = require_config(SourcesSettings, "sources", section)
        named = {source for entry in config.endpoints for source in entry.sources}
        if name not in named:
            hint = suggest_name(name, sorted(named), "they name")
            raise Exit(Code.CONFIGURATION, f"no series of the truth names {name}; {hint}")
        await use(CircuitBreaker(_market_bus(fleet), source_breaker_key(name)))


def _market_bus(fleet: FleetView) -> Bus:
    section = fleet.truth.services.get("sources")
    points = section.access_points.publish_to if section else ()
    return fleet.bus(point_like(points, "market-redis", MARKET_BARS).bus)


async def _read_status(data: Path, now: float) -> dict[str, Any]:
    """Return the states of the sources with their breakers, of the series as of now, and of the gate."""
    async with open_fleet(data) as fleet:
        bus = _market_bus(fleet)
        pipe = bus.pipeline()
        pipe.hgetall(MARKET_SOURCES)
        pipe.hgetall(MARKET_SERIES)
        pipe.get(PRELOAD_STATUS)
        stored_sources, stored_series, gate = await bus.ask(pipe.execute())
        sources = _parse_states(stored_sources)
        for source in sources:
            breaker = await CircuitBreaker(bus, source_breaker_key(str(source["name"]))).read()
            source |= {"breaker": breaker.state.value, "wait_sec": breaker.wait_sec}
        found = {"name": "gate", **parse_object(gate)}
        series = [update_status(each, now) for each in _parse_states(stored_series)]
        return {"sources": sources, "series": series, "gate": found}


def _parse_states(stored: Mapping[bytes, bytes]) -> list[dict[str, Any]]:
    """Return the states sorted by name; leave out what is not a JSON object."""
    parsed = ((name.decode("utf-8", "replace"), parse_object(raw)) for name, raw in sorted(stored.items()))
    return [{"name": name, **state} for name, state in parsed if state]


def _select_status(view: Mapping[str, Any], source: str | None, late_at: float | None) -> dict[str, Any]:
    """Return a copy of what is shown, with fewer sources and series.

    Args:
        source: keep this source and the series that name it; None for all.
        late_at: keep the series that are not fresh at this time, in epoch seconds; None for all.
    """
    sources, series = view["sources"], view["series"]
    if source is not None:
        sources = [each for each in sources if each["name"] == source]
        # other programs may have written the value
        series = [each for each in series if isinstance(each.get("from"), list) and source in each["from"]]
    if late_at is not None:
        series = [each for each in series if not _is_fresh(each, late_at)]
    return {**view, "sources": sources, "series": series}


def _is_fresh(series: Mapping[str, Any], now: float) -> bool:
    until = series.get("fresh_until")
    return isinstance(until, int | float) and now <= until


def update_status(series: Mapping[str, Any], now: float) -> dict[str, Any]:
    """The stored status is that of the last load: a series that was fresh then may be late now."""
    status = series.get("status")
    is_late = status in (SeriesStatus.FRESH, SeriesStatus.CLOSED) and not _is_fresh(series, now)
    return {**series, "status": SeriesStatus.LATE.value if is_late else status}


def describe_status(series: Mapping[str, Any], now: float) -> str:
    """Return in words what a series is, and since when it is not fresh: `late since 09:07`."""
    until = series.get("fresh_until")
    word = str(series.get("status") or "")
    if _is_fresh(series, now) or type(until) not in (int, float) or not until:
        return word
    return f"{word} since {_format_time(until, now)}"


def _draw_sources(sources: Sequence[Mapping[str, Any]], now: float) -> Table:
    table = tables.make_table(folded=("source", "is", "asked", "last answer", "records", "why"))
    for source in sources:
        breaker, wait_sec = source.get("breaker"), source.get("wait_sec")
        words = [str(source.get("state", "unknown"))]
        if breaker == BreakerState.PAUSED:
            words = ["paused" if wait_sec is None else f"paused for {wait_sec:.0f} s"]
        elif breaker in (BreakerState.OPEN, BreakerState.HALF_OPEN):
            words.append(f"asked again in {wait_sec:.0f} s" if wait_sec else "to be tried")
        cells = (
            str(source["name"]),
            ", ".join(words),
            _format_time(source.get("asked_at"), now),
            str(source.get("outcome", "")),
            str(source.get("records", 0)),
            str(source.get("reason", "")),
        )
        table.add_row(*map(escape_text, cells))
    return table


def _draw_series(series: Sequence[Mapping[str, Any]], now: float) -> Table:
    table = tables.make_table(folded=("series", "is", "served by", "newest", "since", "why"))
    for each in series:
        newest = each.get("newest_ms")
        replayed = " (replay)" if each.get("replay") else ""
        words = (
            str(each["name"]),
            describe_status(each, now),
            f"{each.get('serving') or '-'}{replayed}",
            _format_time(newest / 1000 if isinstance(newest, int) else None, now),
            _format_time(each.get("since"), now),
            str(each.get("reason", "")),
        )
        table.add_row(*map(escape_text, words))
    return table


def _format_time(at: Any, now: float) -> str:
    if type(at) not in (int, float) or not 0 < at <= MAX_EPOCH_SEC:
        return "-"
    return format_moment(float(at), now)


def _find_source(name: str) -> MarketSource:
    """Return the source of this name, or of the TOML file at this path. Raise Exit, code 2, for another."""
    catalog = shipped_catalog()
    if name in catalog:
        return catalog[name]
    if name.endswith(".toml"):
        try:
            return load_source(Path(name))
        except CatalogError as error:
            raise Exit(Code.CONFIGURATION, str(error)) from None
    hint = suggest_name(name, catalog, "`marketswarm source list` has them all:")
    raise Exit(Code.CONFIGURATION, f"there is no source {name}; {hint}")


def _summarize(source: MarketSource, *, has_key: bool) -> dict[str, Any]:
    endpoints = source.serves.values()
    return {
        "name": source.name,
        "title": source.title,
        "kinds": [kind.value for kind in RecordKind if any(each.kind is kind for each in endpoints)],
        "assets": list(dict.fromkeys(asset.value for each in endpoints for asset in each.assets)),
        "key": source.auth.env or None,
        "has_key": has_key,
        "is_key_optional": source.auth.place is AuthPlace.NONE or source.auth.optional,
        "tried": source.tried,
        "docs": list(source.docs),
    }


def _describe_key(source: MarketSource, *, has_key: bool) -> str:
    auth: Auth = source.auth
    if auth.place is AuthPlace.NONE:
        return "none needed"
    state = "set" if has_key else "not set, not needed" if auth.optional else "not set"
    return f"{auth.env} ({state})"
