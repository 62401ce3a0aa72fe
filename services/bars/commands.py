"""Implement `marketswarm quarantine list`, `show` and `release`."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Final

import typer

from marketswarm.agent.service_config import require_config
from marketswarm.bus import Bus, BusError
from marketswarm.cli import output, tables
from marketswarm.cli.data_folder import DATA, suggest_command
from marketswarm.cli.fleet_view import FleetView, ask_fleet
from marketswarm.cli.local_time import format_moment
from marketswarm.cli.options import Data, Json, argument, option
from marketswarm.exit import Code, Exit, Mistake
from marketswarm.keys import MARKET_QUARANTINE, MARKET_QUOTES
from marketswarm.text import escape_text
from marketswarm.truth import Service, suggest_name
from services.bars.quality import Check
from services.bars.quarantine import QuarantinedRecord, find_record, read_quarantine, release_record
from services.bars.settings import BarsSettings, list_inputs, list_outputs

SERVICE: Final = "bars"
NOT_RELEASED: Final = 1
"""The exit code when a record was not released."""
_MOST: Final = 10_000

Ident = Annotated[str, argument("ID", "Which, as `marketswarm quarantine list` shows it.")]
Symbol = Annotated[str | None, option("--symbol", "SPY", "Of this symbol only.")]
OfCheck = Annotated[Check | None, typer.Option("--check", help="That failed this check only.")]


def list_(
    symbol: Symbol = None,
    check: OfCheck = None,
    count: Annotated[int, option("--count", "50", "How many, from the newest.", min=1, max=_MOST)] = 50,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """List the records that failed a check, the newest first."""
    records, now = ask_fleet(data, lambda fleet: _read(fleet, symbol, check, count)), time.time()
    tables.show(
        records,
        {
            "id": lambda each: each.id,
            "since": lambda each: format_moment(each.at_ms / 1000, now),
            "symbol": lambda each: each.symbol,
            "source": lambda each: each.source,
            "check": lambda each: each.check.value,
            "why": lambda each: each.why,
        },
        as_json=as_json,
        empty="nothing is in quarantine" + (" of that kind" if symbol or check else ""),
        hint=f"{suggest_command('quarantine release ID', data)} has a record taken after all",
    )


def show(ident: Ident, as_json: Json = False, data: Data = DATA) -> None:
    """Show a record that failed a check: why, and each of its fields."""
    record = ask_fleet(data, lambda fleet: _find(fleet, ident))
    if as_json:
        output.print_json(asdict(record))
        return
    head = f"{record.check}: {record.why}"
    output.print_line(escape_text(head))
    output.print_line(escape_text(f"  {record.symbol} of {record.source}, {record.entry} on {record.stream}"))
    for name, value in record.fields.items():
        output.print_line(escape_text(f"  {name} = {value}"))
    if not record.may_be_released:
        output.print_line(f"  no record that fails `{record.check}` can be taken", output.YELLOW)


def release(
    idents: Annotated[
        list[str] | None, argument("ID", "Which, as `marketswarm quarantine list` shows them.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All that --symbol and --check select.")] = False,
    symbol: Symbol = None,
    check: OfCheck = None,
    data: Data = DATA,
) -> None:
    """Put records back onto their streams, to be taken without checks."""
    if bool(idents) is every:
        raise typer.BadParameter("which? Say ids of `marketswarm quarantine list`, or --all")
    if (symbol or check) and not every:
        raise typer.BadParameter("--symbol and --check select among --all")
    done, left = ask_fleet(data, lambda fleet: _release(fleet, idents or [], symbol, check))
    output.print_line(f"released {done}")
    for line in left:
        output.print_line(escape_text(line), output.YELLOW)
    if left:
        raise typer.Exit(NOT_RELEASED)


def _find_place(fleet: FleetView) -> tuple[Bus, str, Service]:
    """Return the bus and the key of the quarantine, and the section of bars. Raises Exit."""
    section = fleet.require_section(SERVICE, ", which keeps the quarantine")
    bars, _ = list_inputs(section)
    return fleet.bus(bars.bus), list_outputs(section)[MARKET_QUARANTINE], section


async def _read(
    fleet: FleetView, symbol: str | None, check: Check | None, count: int
) -> list[QuarantinedRecord]:
    """Return up to `count` quarantined records, the newest first, of a symbol and a check. Raises Exit."""
    bus, key, section = _find_place(fleet)
    found = await read_quarantine(bus, key, count, symbol=symbol, check=check)
    if symbol is not None and not found:
        await _require_known(bus, key, section, symbol)
    return found


async def _require_known(bus: Bus, key: str, section: Service, symbol: str) -> None:
    """Raise Mistake for a symbol that is neither in the section of bars nor in quarantine."""
    named = require_config(BarsSettings, SERVICE, section).find_groups()
    known = {*named, *(record.symbol for record in await read_quarantine(bus, key, _MOST))}
    if symbol not in known:
        hint = suggest_name(symbol, sorted(known), "there are")
        raise Mistake(f"bars has no symbol {escape_text(symbol)[:60]}; {escape_text(hint)}")


async def _find(fleet: FleetView, ident: str) -> QuarantinedRecord:
    bus, key, _ = _find_place(fleet)
    record = await find_record(bus, key, ident)
    if record is None:
        raise Mistake(f"{escape_text(ident)[:60]}: no such record is in quarantine")
    return record


async def _release(
    fleet: FleetView, idents: Sequence[str], symbol: str | None, check: Check | None
) -> tuple[int, list[str]]:
    """Release the records of these ids, or those that are selected; return how many, and why not others."""
    done, left = 0, []
    bus, key, section = _find_place(fleet)
    bars, quotes = list_inputs(section)
    try:
        if idents:
            found = [(ident, await find_record(bus, key, ident)) for ident in idents]
        else:
            records = await _read(fleet, symbol, check, _MOST)
            found = [(record.id, record) for record in reversed(records)]
        for ident, record in found:
            if record is None:
                left.append(f"{ident[:60]}: no such record is in quarantine")
            elif not record.may_be_released:
                left.append(f"{ident}: no record that fails `{record.check}` can be taken")
            else:
                stream = quotes.key if record.stream == MARKET_QUOTES else bars.key
                if await release_record(bus, key, record, stream):
                    done += 1
                else:
                    left.append(f"{ident}: no such record is in quarantine any more")
    except BusError as error:
        raise Exit(Code.NO_BUS, f"{error}; released {done} before") from None
    return done, left
