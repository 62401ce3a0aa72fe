"""Implement `marketswarm source`: the catalogue, a trial of a real source, and the sources in service."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from marketswarm.agent import point_like
from marketswarm.agent.service_config import require_config
from marketswarm.bus import Bus
from marketswarm.bus.circuit_breaker import BreakerState, CircuitBreaker
from marketswarm.bus.stored_values import parse_epoch, parse_object
from marketswarm.cli import event_loop, output, tables
from marketswarm.cli.data_folder import DATA
from marketswarm.cli.edit import carry_out_edit
from marketswarm.cli.entry_options import ChangeOptions
from marketswarm.cli.fleet_view import FleetView, ask_fleet
from marketswarm.cli.local_time import format_moment
from marketswarm.cli.options import (
    Data,
    Json,
    OptionGroup,
    argument,
    author_name,
    flag,
    option,
    time_option,
)
from marketswarm.cli.validate import read_valid_truth
from marketswarm.exit import Exit, Mistake
from marketswarm.keys import MARKET_BARS, MARKET_SERIES, MARKET_SOURCES, PRELOAD_STATUS, source_breaker_key
from marketswarm.operator.source_refresh import (
    RefreshReport,
    RefreshState,
    create_refresh,
    read_refresh_report,
    write_refresh,
)
from marketswarm.settings import read_settings
from marketswarm.text import escape_text
from marketswarm.truth import SYSTEM, suggest_name
from marketswarm.truth.document_edit import EditError
from services.market.fields import PAIR
from services.market.records import AssetClass, RecordKind
from services.sources import symbol_edit
from services.sources.access.keys import list_open, read_keys
from services.sources.access.trial import (
    Trial,
    ask_questions,
    describe_trial,
    encode_report,
    encode_trial,
    make_questions,
    try_sources,
)
from services.sources.access.tried import read_tried, write_tried
from services.sources.cascade.state import SeriesStatus
from services.sources.catalog.files import CatalogError, load_catalog, load_source
from services.sources.catalog.request import ApiKey
from services.sources.catalog.source import Auth, AuthPlace, MarketSource
from services.sources.settings import (
    SeriesEntry,
    SourcesEnvironment,
    SourcesSettings,
    WorkSettings,
    require_safe_urls,
)
from services.sources.symbol_edit import NewSymbol

SERVICE: Final = "sources"
DID_NOT_FIT: Final = 1
"""The exit code when an answer is not all that the source's file says."""

REFRESH_WAIT_SEC: Final = 600.0
TAKE_SEC: Final = 10.0
POLL_SEC: Final = 0.5

How = Annotated[ChangeOptions, OptionGroup.of(ChangeOptions)]
SymbolName = Annotated[str, argument("SYMBOL", "SPY, EUR/USD, BTC/USDT, US.CPI.")]
Name = Annotated[str, argument("NAME", "A source of `marketswarm source list`, or a TOML file of yours.")]


def list_(as_json: Json = False, data: Data = DATA) -> None:
    """List the sources of the catalogue: what each serves, and whether it has the key that it needs.

    Where a fleet runs, the source files that its truth names are among them.
    """
    sources = list(_load_catalog(data).values())
    keys = read_keys(sources, os.environ)
    tables.show(
        sources,
        {
            "source": lambda each: each.name,
            "serves": lambda each: ", ".join(_list_kinds(each)),
            "of": lambda each: ", ".join(_list_assets(each)),
            "key": lambda each: _describe_key(each, has_key=each.name in keys),
            "tried": lambda each: each.tried,
        },
        as_json=as_json,
        encode=lambda each: _summarize(each, has_key=each.name in keys),
        hint=f"{len(sources)} sources; `marketswarm source try NAME` asks one",
    )


def show(name: Name, as_json: Json = False, data: Data = DATA) -> None:
    """Show what the catalogue says of a source: its limits, what it serves, and which pages say so.

    Where a fleet runs, the limits of its truth apply, if it has any.
    """
    of_file = _find_source(name, data)
    source = of_file.replace_limits(_read_work(data).limits)
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
        what = f"{endpoint.kind} of {assets}{timeframes and f' in {timeframes}'}"
        adjusted = f", adjustment {endpoint.adjustment}" if endpoint.adjustment else ""
        output.print_line(f"  {endpoint_name}: {what}{adjusted}")


def try_(
    name: Annotated[
        str | None, argument("[NAME]", "A source of `marketswarm source list`, or a TOML file of yours.")
    ] = None,
    symbol: Annotated[
        str | None, argument("[SYMBOL]", "SPY, EUR/USD, BTC/USDT, US.CPI; else one it has.")
    ] = None,
    *,
    every: Annotated[
        bool, flag("--all", "Try each source that needs no key or has its key; --only and the like are not.")
    ] = False,
    only: Annotated[str | None, option("--only", "ENDPOINT", "Ask this question alone.")] = None,
    timeframe: Annotated[
        str | None, option("--timeframe", "1m", "Of bars; else the first that it has.")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Show the beginning of each answer as it came.")] = False,
    base_url: Annotated[
        str | None, option("--base-url", "URL", "Ask there instead: a proxy, or a stand-in of yours.")
    ] = None,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """Ask the real source one small question of each kind, and show what came and what did not fit.

    Its key is read from the variable that its file names; SOURCES_BASE_URLS is used as the service uses it.
    With --all, all sources are asked, some at the same time, and a report has a line for each. A source whose
    answers all fit is noted with the day in `tried.toml` of the data folder, unless it was asked elsewhere.
    Ends with 1 if something is wrong or does not fit.
    """
    if every is (name is not None) or (every and (symbol or only or timeframe or raw or base_url)):
        raise Mistake("name one source, or say --all, which takes none of the other options")
    base_urls = read_settings(SourcesEnvironment).sources_base_urls or {}
    if name is None:
        _try_all(_load_catalog(data), base_urls, as_json, data)
        return
    source = _find_source(name, data)
    keys = read_keys([source], os.environ)
    if not list_open([source], keys):
        raise Mistake(f"{source.name} needs a key: put it into {source.auth.env}")
    if base_url is not None:  # its key must not be sent in plain text
        try:
            base_urls = require_safe_urls({source.name: base_url})
        except ValueError as error:
            raise Mistake(f"--base-url: {error}") from None
    questions = [
        found
        for found in make_questions(source, symbol, timeframe, datetime.now(UTC))
        if only in (None, found[0])
    ]
    if not questions:
        asked = symbol or "a symbol that is not given"
        raise Mistake(f"{source.name} serves nothing of {asked}: see `source show {name}`")
    url = base_urls.get(source.name)
    trials = event_loop.run(ask_questions(source, keys, questions, url))
    if url is None and only is None and all(trial.is_good for trial in trials):
        write_tried(data, [source.name], datetime.now(UTC).date())
    _show_trials(trials, keys, raw, as_json)


def _try_all(
    catalog: Mapping[str, MarketSource], base_urls: Mapping[str, str], as_json: bool, data: Path
) -> None:
    """Ask each source that may be asked, and show a report. Raise Exit, code 1, if something did not fit."""
    keys = read_keys(catalog.values(), os.environ)
    sources = list_open(catalog.values(), keys)
    reports = event_loop.run(try_sources(sources, keys, base_urls, output.print_aside))
    good = [each.source for each in reports if each.is_good and each.source not in base_urls]
    if good:
        write_tried(data, good, datetime.now(UTC).date())
    fit, left = sum(each.is_good for each in reports), len(catalog) - len(sources)
    tables.show(
        reports,
        {
            "source": lambda each: each.source,
            "is": lambda each: "✓ fits" if each.is_good else "✗",
            "records": lambda each: f"{sum(len(trial.answer.records) for trial in each.trials):,}",
            "in": lambda each: f"{each.took_sec:.1f} s",
            "why": lambda each: each.why,
        },
        right=("records", "in"),
        as_json=as_json,
        encode=encode_report,
        hint=f"{fit} of {len(reports)} fit; {left} more need a key that is not set",
    )
    if fit < len(reports):
        raise Exit(DID_NOT_FIT, "")


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
    name: Annotated[str, argument("NAME", "A source that a series of the truth names.")],
    sec: Annotated[float | None, time_option("--for", "10m", "For how long; else until resumed.")] = None,
    data: Data = DATA,
) -> None:
    """Take a source out of service: no instance asks it, and the next source of each series takes over."""
    _use_breaker(name, data, lambda breaker: breaker.pause(sec))
    until = "until `marketswarm source resume`" if sec is None else f"for {sec:g} s"
    output.print_line(f"{name} is out of service {until}")


def resume(
    name: Annotated[str, argument("NAME", "A source that was paused, or whose breaker is open.")],
    data: Data = DATA,
) -> None:
    """Take a source into service again at once, also one whose breaker is open since it failed."""
    _use_breaker(name, data, CircuitBreaker.resume)
    output.print_line(f"{name} is in service: the next load of each of its series asks it")


def refresh(
    name: Annotated[
        str | None, argument("[NAME]", "A source that a series of the truth names; else all series.")
    ] = None,
    *,
    wait: Annotated[float, time_option("--wait", "10m", "How long to wait for the end.")] = REFRESH_WAIT_SEC,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """Have sources load its series now, those of one source or all, whatever their schedule says.

    Limits, paused sources and open breakers count. Shows how far it is; Ctrl-C ends the waiting alone. Ends
    with 1 if no instance takes it within ten seconds, or not all could be tried in time.
    """
    report = ask_fleet(data, lambda fleet: _refresh(fleet, name, wait, as_json))
    if as_json:
        output.print_json(asdict(report))
    else:
        output.print_line(_describe_refresh(report))
    if report.state is not RefreshState.DONE:
        raise Exit(DID_NOT_FIT, "")


async def _refresh(fleet: FleetView, name: str | None, wait_sec: float, quiet: bool) -> RefreshReport:
    """Ask sources for a refresh; return its last report. Raise Exit, code 1, if no instance takes it."""
    if name is not None:
        _require_named(fleet, name)
    else:
        fleet.require_section(SERVICE)
    bus, now = fleet.bus(SYSTEM), time.time()
    request = create_refresh(author_name(None), name, now)
    await write_refresh(bus, request)
    begun, shown, found = time.monotonic(), "", None
    while time.monotonic() < begun + (TAKE_SEC if found is None else wait_sec):
        report = await read_refresh_report(bus)
        if report is not None and report.request == request.id:
            found, words = report, _describe_refresh(report)
            if report.state is not RefreshState.RUNNING:
                return report
            if words != shown and not quiet:
                output.print_aside(words)
            shown = words
        await asyncio.sleep(POLL_SEC)
    if found is None:
        raise Exit(DID_NOT_FIT, "no instance of sources has taken it: does sources run?")
    return found


def _describe_refresh(report: RefreshReport) -> str:
    counts = f"{report.tried} of {report.series} series tried, {report.loaded} loaded"
    why = f": {report.why}" if report.why else ""
    return f"{report.state}: {counts}, {report.records:,} new records{why}"


def status(
    source: Annotated[
        str | None, option("--source", "NAME", "This source alone, and the series that name it.")
    ] = None,
    *,
    late: Annotated[bool, typer.Option("--late", help="Only the series that are not fresh.")] = False,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """Show the sources and series that are in force: which source serves what, and why no other one does."""
    now = time.time()
    view = ask_fleet(data, lambda fleet: _read_status(fleet, now))
    is_empty = not view["series"]
    view = select_status(view, source, now if late else None)
    if as_json:
        output.print_json(view)
    elif is_empty:
        output.print_line("no series was loaded yet: is `sources` in the truth, and does it run?")
    else:
        _show_sources(view["sources"], now)
        output.print_line("")
        _show_series(view["series"], now)


# -- the symbols that are loaded


def add(
    symbol: SymbolName,
    *,
    asset: Annotated[
        AssetClass | None,
        option("--asset", "CLASS", "stocks, which it is by default, crypto, forex, commodities, …"),
    ] = None,
    like: Annotated[
        str | None, option("--like", "SYMBOL", "Load it as this one; else as the first of its class.")
    ] = None,
    sources: Annotated[
        list[str] | None, option("--from", "NAME", "A source that may serve it, the best first; repeatable.")
    ] = None,
    timeframe: Annotated[str | None, option("--timeframe", "1m", "With --from: of its bars.")] = None,
    every_sec: Annotated[
        float | None, time_option("--every", "60s", "With --from: how often it is loaded.")
    ] = None,
    group: Annotated[
        str | None, option("--group", "NAME", "With --from: the symbols that the board shows together.")
    ] = None,
    how: How,
) -> None:
    """Add a symbol to the truth: `sources` loads it, and `bars` makes bars of it.

    Shows what changes, asks, and seeds it. Ends with 1 if it was not confirmed.
    """
    if asset is None and like is None and PAIR.fullmatch(symbol):
        raise Mistake(f"{symbol} is a pair: say --asset crypto, forex or commodities")
    new = NewSymbol(
        symbol=symbol,
        asset=asset or AssetClass.STOCKS,
        like=like,
        sources=tuple(sources or ()),
        timeframe=timeframe,
        every_sec=every_sec,
        group=group,
    )
    carry_out_edit(symbol, lambda text: _add_served(text, new), how)


def disable(symbol: SymbolName, how: How) -> None:
    """Have a symbol not loaded any more, until `symbol enable`; what is stored of it stays.

    Shows what changes, asks, and seeds it. Ends with 1 if it was not confirmed.
    """
    carry_out_edit(symbol, lambda text: symbol_edit.disable_symbol(text, symbol), how)


def enable(symbol: SymbolName, how: How) -> None:
    """Have a symbol that was disabled loaded again.

    Shows what changes, asks, and seeds it. Ends with 1 if it was not confirmed.
    """
    carry_out_edit(symbol, lambda text: symbol_edit.enable_symbol(text, symbol), how)


def list_symbols(
    truth: Annotated[
        Path | None, option("--truth", "FILE", "Those of this truth; by default of the one in force.")
    ] = None,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """List the symbols that the truth names: what is loaded of each, from where, and which are disabled."""

    async def read(fleet: FleetView) -> SourcesSettings:
        return require_config(SourcesSettings, SERVICE, fleet.require_section(SERVICE))

    if truth is None:
        config = ask_fleet(data, read)
    else:
        section = read_valid_truth(truth).services.get(SERVICE)
        if section is None:
            raise Mistake(f"{truth} has no section for {SERVICE}")
        config = require_config(SourcesSettings, SERVICE, section)
    tables.show(
        _list_by_symbol(config),
        {
            "symbol": lambda each: str(each["symbol"]),
            "of": lambda each: str(each["asset"]),
            "group": lambda each: str(each["group"] or "-"),
            "loads": lambda each: ", ".join(each["series"]),
            "from": lambda each: ", ".join(each["from"]),
            "": lambda each: "disabled" if each["disabled"] else "",
        },
        as_json=as_json,
        empty="the truth names no symbol yet: `marketswarm symbol add`",
    )


def _list_by_symbol(config: SourcesSettings) -> list[dict[str, Any]]:
    by_symbol: dict[str, list[SeriesEntry]] = {}
    for entry in config.endpoints:
        for symbol in entry.all_symbols:
            by_symbol.setdefault(symbol, []).append(entry)
    return [
        {
            "symbol": symbol,
            "asset": entries[0].asset.value,
            "group": entries[0].group,
            "series": [
                each.timeframe if each.kind is RecordKind.BARS else each.kind.value for each in entries
            ],
            "from": list(dict.fromkeys(source for each in entries for source in each.sources)),
            "disabled": symbol in config.settings.disabled,
        }
        for symbol, entries in by_symbol.items()
    ]


def _add_served(text: str, new: NewSymbol) -> str:
    """Return the text with one more symbol; raise EditError if no source that it gets has its series.

    A source whose file is missing here, or wrong, may have it: the check of the truth says which file it is.
    """
    added = symbol_edit.add_symbol(text, new)
    if new.sources:
        return added
    catalog, problems = load_catalog(symbol_edit.find_catalog(text))
    for each in symbol_edit.list_models(text, new):
        entry = SeriesEntry.model_validate(each)
        timeframe = entry.timeframe if entry.kind is RecordKind.BARS else ""
        question = (entry.kind, entry.asset, new.symbol, timeframe)
        known = [catalog[name] for name in entry.sources if name in catalog]
        if problems and len(known) < len(entry.sources):
            continue
        if not any(any(source.find_endpoints(*question)) for source in known):
            serving = [each for each in catalog.values() if any(each.find_endpoints(*question))]
            serving.sort(key=lambda source: source.auth.is_key_needed)
            what = f"{entry.kind}{timeframe and f' of {timeframe}'} of {new.symbol}"
            which = "".join(f" --from {source.name}" for source in serving[:2]) or "; no source has them"
            raise EditError(f"{', '.join(entry.sources)}: not known to have {what}; say for example{which}")
    return added


def _read_work(data: Path) -> WorkSettings:
    """Return the settings of the truth in force; the defaults if no fleet runs, or it has no such section."""

    async def read(fleet: FleetView) -> WorkSettings:
        return require_config(SourcesSettings, SERVICE, fleet.require_section(SERVICE)).settings

    try:
        return ask_fleet(data, read)
    except Exit:
        return WorkSettings()


def _load_catalog(data: Path) -> Mapping[str, MarketSource]:
    """Return the sources with those of the truth in force, each tried when its file or this machine says."""
    catalog, problems = load_catalog(_read_work(data).catalog)
    for problem in problems:
        output.print_error(problem)
    tried = read_tried(data)
    return {
        name: source.model_copy(update={"tried": max(tried[name], source.tried.replace("never", ""))})
        if name in tried
        else source
        for name, source in catalog.items()
    }


def _use_breaker(name: str, data: Path, use: Callable[[CircuitBreaker], Awaitable[object]]) -> None:
    """Use the breaker of a source that the truth names. Raise Exit, code 2, for another."""

    async def use_one(fleet: FleetView) -> None:
        _require_named(fleet, name)
        await use(CircuitBreaker(_market_bus(fleet), source_breaker_key(name)))

    ask_fleet(data, use_one)


def _require_named(fleet: FleetView, name: str) -> None:
    """Raise Exit, code 2, for a source that no series of the truth names."""
    config = require_config(SourcesSettings, SERVICE, fleet.require_section(SERVICE))
    named = {source for entry in config.endpoints for source in entry.sources}
    if name not in named:
        hint = suggest_name(name, sorted(named), "they name")
        raise Mistake(f"no series of the truth names {name}; {hint}")


def _market_bus(fleet: FleetView) -> Bus:
    section = fleet.truth.services.get(SERVICE)
    points = section.access_points.publish_to if section else ()
    return fleet.bus(point_like(points, "market-redis", MARKET_BARS).bus)


async def _read_status(fleet: FleetView, now: float) -> dict[str, Any]:
    """Return the states of the sources with their breakers, of the series as of now, and of the gate."""
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


def select_status(view: Mapping[str, Any], source: str | None, late_at: float | None) -> dict[str, Any]:
    """Return a copy of what is shown, with fewer sources and series.

    Args:
        source: keep this source and the series that name it; None for all. Raise Exit, code 2, if nothing
            names it.
        late_at: keep the series that are not fresh at this time, in epoch seconds; None for all.
    """
    sources, series = view["sources"], view["series"]
    if source is not None:
        sources = [each for each in sources if each["name"] == source]
        # other programs may have written the value
        named = {each["name"]: each["from"] for each in series if isinstance(each.get("from"), list)}
        known = {str(each["name"]) for each in view["sources"]}
        known.update(str(name) for names in named.values() for name in names)
        if source not in known:
            hint = suggest_name(source, sorted(known), "they name")
            raise Mistake(f"no series names {escape_text(source)[:60]}; {escape_text(hint)}")
        series = [each for each in series if source in named.get(each["name"], ())]
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


def _show_sources(sources: Sequence[Mapping[str, Any]], now: float) -> None:
    tables.show(
        sources,
        {
            "source": lambda each: each["name"],
            "is": _describe_source,
            "asked": lambda each: _format_time(each.get("asked_at"), now),
            "last answer": lambda each: str(each.get("outcome", "")),
            "records": lambda each: str(each.get("records", 0)),
            "why": lambda each: str(each.get("reason", "")),
        },
    )


def _describe_source(source: Mapping[str, Any]) -> str:
    breaker, wait_sec = source.get("breaker"), source.get("wait_sec")
    if breaker == BreakerState.PAUSED:
        return "paused" if wait_sec is None else f"paused for {wait_sec:.0f} s"
    state = str(source.get("state", "unknown"))
    if breaker in (BreakerState.OPEN, BreakerState.HALF_OPEN):
        state += ", " + (f"asked again in {wait_sec:.0f} s" if wait_sec else "to be tried")
    return state


def _show_series(series: Sequence[Mapping[str, Any]], now: float) -> None:
    tables.show(
        series,
        {
            "series": lambda each: each["name"],
            "is": lambda each: describe_status(each, now),
            "served by": lambda each: f"{each.get('serving') or '-'}{' (replay)' * bool(each.get('replay'))}",
            "newest": lambda each: _format_milliseconds(each.get("newest_ms"), now),
            "since": lambda each: _format_time(each.get("since"), now),
            "why": lambda each: str(each.get("reason", "")),
        },
    )


def _format_milliseconds(at_ms: Any, now: float) -> str:
    return _format_time(at_ms / 1000 if isinstance(at_ms, int) else None, now)


def _format_time(at: Any, now: float) -> str:
    moment = parse_epoch(at)
    return format_moment(moment, now) if moment else "-"


def _find_source(name: str, data: Path) -> MarketSource:
    """Return the source of this name, or of the TOML file at this path. Raise Exit, code 2, for another."""
    catalog = _load_catalog(data)
    if name in catalog:
        return catalog[name]
    if name.endswith(".toml"):
        try:
            return load_source(Path(name))
        except CatalogError as error:
            raise Mistake(str(error)) from None
    hint = suggest_name(name, catalog, "`marketswarm source list` has them all:")
    raise Mistake(f"there is no source {name}; {hint}")


def _list_kinds(source: MarketSource) -> list[str]:
    endpoints = source.serves.values()
    return [kind.value for kind in RecordKind if any(each.kind is kind for each in endpoints)]


def _list_assets(source: MarketSource) -> list[str]:
    return list(dict.fromkeys(asset.value for each in source.serves.values() for asset in each.assets))


def _summarize(source: MarketSource, *, has_key: bool) -> dict[str, Any]:
    return {
        "name": source.name,
        "title": source.title,
        "kinds": _list_kinds(source),
        "assets": _list_assets(source),
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
