"""Implement `marketswarm signals`, which is `marketswarm signals follow`."""

import time
from collections.abc import Callable, Sequence
from datetime import tzinfo
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer

from marketswarm.bus.stream import StreamEntry
from marketswarm.cli import event_loop, output
from marketswarm.cli.alerts import (
    EventLogReader,
    LoggedEvent,
    follow_readers,
    read_past_events,
    require_all_read,
    wait_until_stdout_closes,
)
from marketswarm.cli.data_folder import DATA
from marketswarm.cli.fleet_view import FleetView, ask_fleet, open_fleet
from marketswarm.cli.local_time import format_date, format_time
from marketswarm.cli.options import Data, Json, flag, option, time_option
from marketswarm.cli.tables import show
from marketswarm.exit import Mistake
from marketswarm.keys import SIGNALS_WORDINGS
from marketswarm.tasks import run_until_first
from marketswarm.text import escape_text
from services.market.fields import SYMBOL, EntryError
from services.tables.signal_places import parse_place
from services.tables.signal_wordings import WordedSignal, parse_wording_fields
from services.tables.signals import SIGNALS, PublishedSignal, find_signal_log, parse_signal_fields

_PAPER: Final = "paper, no advice"
_MARKS: Final = {
    "long": ("▲", output.GREEN),
    "short": ("▼", output.RED),
    "flat": ("·", output.DIM),
    None: ("·", output.DIM),
}
_MAX_WHY: Final = 160


def follow(
    since: Annotated[
        float | None, time_option("--since", "1h", "Begin that long ago: 30s, 10m, 1h, 2d.")
    ] = None,
    symbol: Annotated[str | None, option("--symbol", "SPY", "Only the signals of this symbol.")] = None,
    no_follow: Annotated[bool, flag("--no-follow", "With --since: show what there is and end.")] = False,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """Follow the signals of the market: paper, no advice. Ctrl-C ends it.

    A symbol has one at each tick at which something changed. They are read from `signals:log`, which has
    those of some time; the board and the archive have all. `marketswarm signals` does the same.
    With --no-follow, it ends with 3 if the bus could not be read.
    """
    if no_follow and since is None:
        raise typer.BadParameter("--no-follow: say --since, too")
    if symbol is not None and SYMBOL.fullmatch(symbol) is None:
        raise typer.BadParameter(f"{symbol!r} is not a symbol", param_hint="--symbol")
    if no_follow:
        ask_fleet(data, lambda fleet: _show_past(fleet, since or 0.0, symbol, as_json))
    else:
        following = _print_signals(since, symbol, data, as_json)
        event_loop.run(run_until_first(following, wait_until_stdout_closes()))


async def _print_signals(since_sec: float | None, symbol: str | None, data: Path, as_json: bool) -> None:
    async with open_fleet(data) as fleet:
        found = await follow_readers(_make_readers(fleet, since_sec, symbol))
        if not as_json:
            output.print_aside(f"signals: {_PAPER}; listening, Ctrl-C ends it")
        async for raw, one in found:
            if as_json:
                output.print_json_bytes(raw)
            elif "wording" in one:
                output.print_line(format_wording_line(one, now=time.time()), output.DIM)
            else:
                output.print_line(*format_signal_line(one, now=time.time()))


async def _show_past(fleet: FleetView, since_sec: float, symbol: str | None, as_json: bool) -> None:
    readers = _make_readers(fleet, since_sec, symbol)
    found = await read_past_events(readers)
    if not found:
        require_all_read(readers)
    if as_json:
        for raw, _ in found:
            output.print_json_bytes(raw)
    else:
        _show_table(found)
    require_all_read(readers)


def _show_table(found: Sequence[LoggedEvent]) -> None:
    now = time.time()
    worded = {one["signal"]: _format_wording(one) for _, one in found if "wording" in one}
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "at": lambda one: f"{format_date(one['ts'], now)}{format_time(one['ts'])}",
        "symbol": lambda one: str(one["symbol"]),
        "says": _name_outcome,
        "confidence": lambda one: _format_share(one["confidence"]),
        "conflict": lambda one: _format_share(one["conflict"]),
        "votes": _count_votes,
        "why": lambda one: worded.get(one["id"], str(one["why"])),
        "": lambda one: "replay" if one["replay"] else "",
    }
    show(
        [one for _, one in found if "wording" not in one],
        columns,
        whole=("at", "symbol", "says"),
        right=("confidence", "conflict", "votes"),
        empty="no signal in that time",
        hint=f"{_PAPER}.",
    )


def _make_readers(fleet: FleetView, since_sec: float | None, symbol: str | None) -> list[EventLogReader]:
    """Return readers of the signals of a fleet, and of their wordings. Raises Exit if its truth has none."""
    point = find_signal_log(fleet.truth)
    if point is None:
        raise Mistake(f"the truth has no service {SIGNALS}: this fleet has no signals")
    parsers = {
        point.key: lambda entry: describe_signal_event(parse_signal_fields(entry.fields or {})),
        SIGNALS_WORDINGS: lambda entry: describe_wording_event(parse_wording_fields(entry.fields or {})),
    }
    return [
        EventLogReader(fleet.bus(point.bus), since_sec, key, partial(_parse, symbol, describe))
        for key, describe in parsers.items()
    ]


def _parse(
    symbol: str | None, describe: Callable[[StreamEntry], dict[str, Any]], entry: StreamEntry
) -> list[LoggedEvent]:
    """Return the event in an entry; none of another symbol, and none if it can't be read."""
    try:
        described = describe(entry)
    except EntryError as error:
        output.print_aside(f"skipped: entry {entry.id.decode()} of the log: {error}")
        return []
    if symbol not in (None, described["symbol"]):
        return []
    return [(orjson.dumps({name: each for name, each in described.items() if name != "ts"}), described)]


def describe_signal_event(one: PublishedSignal) -> dict[str, Any]:
    """Return what a line says of a signal; `at` is in epoch milliseconds, `ts` the same in seconds."""
    place = parse_place(one.content)
    named = {name: each for name, each in one._asdict().items() if name != "content"}
    return named | {
        "ts": one.at / 1000,
        "why": "its content can't be read" if place is None else place.reason,
        "voted": 0 if place is None else place.voted,
        "voters": 0 if place is None else len(place.votes),
    }


def describe_wording_event(one: WordedSignal) -> dict[str, Any]:
    """Return what a line says of the wording of a `signal`; its `id` is that of no signal."""
    about = {"id": f"wording of {one.id}", "signal": one.id, "symbol": one.symbol, "side": one.side}
    return {**about, "wording": one.wording._asdict(), "ts": one.wording.at / 1000}


def format_wording_line(one: dict[str, Any], zone: tzinfo | None = None, *, now: float) -> str:
    """Return the line for a wording: `12:51:02 · SPY long: the mean … (worded by grok-4)`.

    Its texts are printable since they were read.
    """
    at = f"{format_date(one['ts'], now, zone)}{format_time(one['ts'], zone)}"
    return f"{at} · {one['symbol']} {one['side']}: {_format_wording(one)}"


def _format_wording(one: dict[str, Any]) -> str:
    return f"{one['wording']['text']} (worded by {one['wording']['model']})"


def format_signal_line(one: dict[str, Any], zone: tzinfo | None = None, *, now: float) -> tuple[str, str]:
    """Return the line for a signal, `12:50:58 ▲ SPY long 45 %, 3 of 4 votes: trend: …`, and its colour.

    `zone` None is the machine's; a signal of another day than that of `now` gets its date.
    """
    mark, style = _MARKS[one["side"]]
    sure = "" if one["confidence"] is None else f" {_format_share(one['confidence'])}"
    split = "" if one["conflict"] is None else f", conflict {_format_share(one['conflict'])}"
    why = f": {one['why'][:_MAX_WHY]}" if one["why"] else ""
    played = " (replay)" if one["replay"] else ""
    text = f"{one['symbol']} {_name_outcome(one)}{sure}{split}, {_count_votes(one)} votes{why}{played}"
    return escape_text(
        f"{format_date(one['ts'], now, zone)}{format_time(one['ts'], zone)} {mark} {text}"
    ), style


def _name_outcome(one: dict[str, Any]) -> str:
    return str(one["side"] or one["outcome"])


def _count_votes(one: dict[str, Any]) -> str:
    return f"{one['voted']} of {one['voters']}"


def _format_share(share: str | None) -> str:
    return "" if share is None else f"{round(100 * Decimal(share))} %"
