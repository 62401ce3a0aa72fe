"""An agent's place in a truth: its section, its beats, the bus they go to. Pure.

An agent keeps its last place when the truth under it no longer names it: it works on and says so.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from marketswarm.exit import Code, Exit
from marketswarm.truth import Heartbeat, Service, Truth


@dataclass(frozen=True, slots=True)
class Place:
    """Where an agent stands. `missing` says why this is only the last place it had."""

    section: Service
    bus: str
    timeout_sec: float
    missing: str | None = None


def place_in(
    truth: Truth,
    name: str,
    default_timeout_sec: float,
    heartbeat: Callable[[Service | None], Heartbeat] | None = None,
    last: Place | None = None,
) -> Place:
    """The place of `name`; `heartbeat` makes its beats from its section, or from nothing if it has none.

    Raises:
        Exit: code 2, when the truth has no section for it, it needs one, and never had one.
    """
    timeout_sec = truth.timeout_of(name, default_timeout_sec)
    section = truth.services.get(name)
    if section is not None:
        beats = section.heartbeat if heartbeat is None else heartbeat(section)
        return Place(replace(section, heartbeat=beats), truth.bus_of(name), timeout_sec)
    if heartbeat is not None:
        return Place(Service(heartbeat=heartbeat(None)), "system-redis", timeout_sec)
    if last is not None:
        return replace(last, missing="not in the truth")
    raise Exit(
        Code.CONFIGURATION,
        f'the truth has no section for {name}: add "{name}": {{"heartbeat": {{"interval_sec": 10}}}} '
        "to its services and run bootstrap",
    )
