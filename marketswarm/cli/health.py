"""Implement `marketswarm health`: show the latest alert or ok of each service."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from marketswarm.bus import BusError
from marketswarm.bus.stored_values import parse_object, read_strings
from marketswarm.cli import event_loop, output
from marketswarm.cli.alerts import format_event_line
from marketswarm.cli.bus_trouble import add_remedy
from marketswarm.cli.data_folder import DATA
from marketswarm.cli.fleet_view import FleetView, open_fleet
from marketswarm.cli.options import Data, Json, complete_service
from marketswarm.exit import Code, Exit
from marketswarm.keys import health_key
from marketswarm.text import format_duration
from marketswarm.truth import SYSTEM, describe_unknown

_UNKNOWN = "it keeps what the healer says, so nobody knows how the services are"


def health(
    svc: Annotated[
        str | None,
        typer.Argument(metavar="[SVC]", help="One service; all without it.", autocompletion=complete_service),
    ] = None,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """Show the latest alert or ok of each service, as kept under health:<svc>.

    Ends with 3 when the bus that keeps them does not answer.
    """
    events = event_loop.run(_read_health(svc, data))
    if as_json:
        output.print_json(events if svc is None else events[svc])
        return
    width = max(map(len, events), default=0)
    for name, event in events.items():
        line, style = _describe(event)
        output.print_line(f"{name:<{width}}  {line}", style)


async def _read_health(svc: str | None, data: Path) -> dict[str, Any]:
    async with open_fleet(data) as fleet:
        wanted = select_services(svc, fleet)
        bus = fleet.bus(SYSTEM)
        try:
            stored = await read_strings(bus, [health_key(name) for name in wanted])
        except BusError as error:
            message = f"bus {bus.name} at {bus.where} does not answer ({error.reason}): {_UNKNOWN}"
            raise Exit(Code.NO_BUS, add_remedy(message, bus.name, error.reason)) from None
    return {name: parse_object(raw) or None for name, raw in zip(wanted, stored, strict=True)}


def select_services(svc: str | None, fleet: FleetView) -> list[str]:
    """Return the given service, or all of them. Raises Exit, code 2, for a service not in the truth."""
    names = sorted({*fleet.truth.services, *(watch.svc for watch in fleet.truth.watched())})
    if svc is None:
        return names
    if svc not in names:
        raise Exit(Code.CONFIGURATION, describe_unknown(svc, names))
    return [svc]


def _describe(event: Mapping[str, Any] | None) -> tuple[str, str]:
    if event is None:
        return "-------- · nobody vouches for it", output.DIM
    (line, style), age_sec = format_event_line(event), event.get("age_sec")
    if isinstance(age_sec, int | float) and not isinstance(age_sec, bool):
        line += f", last beat {format_duration(age_sec)} before that"
    return line, style
