"""Implement `marketswarm health`: show the latest alert or ok of each service."""

from collections.abc import Mapping
from typing import Annotated, Any

from marketswarm.bus.stored_values import parse_object, read_strings
from marketswarm.cli import output
from marketswarm.cli.alerts import format_event_line
from marketswarm.cli.data_folder import DATA
from marketswarm.cli.fleet_view import FleetView, ask_fleet, needed
from marketswarm.cli.options import Data, Json, service_argument
from marketswarm.exit import Mistake
from marketswarm.keys import health_key
from marketswarm.text import format_duration
from marketswarm.truth import SYSTEM, describe_unknown


def health(
    svc: Annotated[str | None, service_argument("[SVC]", "One service; all without it.")] = None,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """Show the latest alert or ok of each service, as kept under health:<svc>.

    Ends with 3 when the bus that keeps them does not answer.
    """
    events = ask_fleet(data, lambda fleet: _read_health(svc, fleet))
    if as_json:
        output.print_json(events if svc is None else events[svc])
        return
    width = max(map(len, events), default=0)
    for name, event in events.items():
        line, style = _describe(event)
        output.print_line(f"{name:<{width}}  {line}", style)


async def _read_health(svc: str | None, fleet: FleetView) -> dict[str, Any]:
    wanted = select_services(svc, fleet)
    bus = fleet.bus(SYSTEM)
    with needed(bus, "it keeps what the healer says, so nobody knows how the services are"):
        stored = await read_strings(bus, [health_key(name) for name in wanted])
    return {name: parse_object(raw) or None for name, raw in zip(wanted, stored, strict=True)}


def select_services(svc: str | None, fleet: FleetView) -> list[str]:
    """Return the given service, or all of them. Raises Exit, code 2, for a service not in the truth."""
    names = sorted({*fleet.truth.services, *(watch.svc for watch in fleet.truth.watched())})
    if svc is None:
        return names
    if svc not in names:
        raise Mistake(describe_unknown(svc, names))
    return [svc]


def _describe(event: Mapping[str, Any] | None) -> tuple[str, str]:
    if event is None:
        return "-------- · nobody vouches for it", output.DIM
    (line, style), age_sec = format_event_line(event), event.get("age_sec")
    if isinstance(age_sec, int | float) and not isinstance(age_sec, bool):
        line += f", last beat {format_duration(age_sec)} before that"
    return line, style
